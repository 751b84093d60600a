"""Searches for the boundary that advance together: where each stands, one look at the network, one move.

`thinice.attacks.tmn` says which searches to start and for how long.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

import torch
from torch import Tensor

from thinice.attacks.result import FORWARD, Model
from thinice.losses import input_gradient
from thinice.norms import NORM_TABLE
from thinice.types import Norm

__all__ = ["ANY", "BEYOND", "HAIR", "MEMORY", "SAME", "SEEN", "TINY", "VANISHED", "Rows", "Search"]

ANY = -1
"""As a row's target: the best class other than the true one, wherever the row stands."""
HAIR = 1.0005
"""Radii aim this little beyond the boundary, else they end just before it."""
TINY = 1e-12
"""Nothing divides by less."""
VANISHED = 1e3
"""Where the nearest plane lies this many times farther than the box is wide, or nowhere, no gradient leads anywhere."""
SEEN = 3
"""Of so many classes the race takes gradients at the sample; it looks at others once they may be within reach."""
BEYOND = 1.05
"""How far beyond a length something may still be found."""
SAME = 0.002
"""Two lengths within this share agree."""
BANK = 1 << 20
"""So many random signs lie in store."""
CACHED = 48 * 3 * 32 * 32
"""A processor takes so many pixels at a time fastest."""
MEMORY: Mapping[Norm, float] = MappingProxyType({"linf": 0.5, "l2": 0.3, "l1": 0.3, "l0": 0.6})
"""The share of the mean gradient that a look keeps."""
SPARSE: tuple[Norm, ...] = ("l0", "l1")
"""The norms that count, or add up, what changes."""


@dataclass(slots=True)
class Rows:
    """R searches: a sample and a class each, and where the search stands. D is the number of pixels."""

    sample: Tensor  # (R,) position in the batch
    target: Tensor  # (R,) class to reach, or ANY
    delta: Tensor  # (R, D)
    momentum: Tensor  # (R, D) running mean of the gradients, each of dual length 1
    length: Tensor  # (R,) of the delta that was looked at last
    gap: Tensor  # (R,) target logit minus true logit there: positive beyond the boundary
    ahead: Tensor  # (R,) the gap over the gradient's dual length: how far beyond, to first order
    crossed: Tensor  # (R,) bool: was beyond the boundary once
    estimate: Tensor  # (R,) the length that the search expects to end with
    unrest: Tensor  # (R,) by how much the last look changed the estimate, |log|
    best: Tensor  # (R,) length of the shortest adversarial it met
    best_delta: Tensor  # (R, D)

    def __len__(self) -> int:
        return len(self.sample)

    def __getitem__(self, index: Tensor) -> Rows:
        return Rows(*(getattr(self, field.name)[index] for field in fields(self)))

    def put(self, index: Tensor, rows: Rows) -> None:
        """Write rows back to where `self[index]` took them."""
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(rows, field.name)


class Search:
    """The network, the samples, and the shortest adversarial of each so far.

    A sample's result must not depend on its neighbours: random signs are read from one bank at a place that the
    sample_id and the number of the draw name.
    """

    def __init__(
        self,
        model: Model,
        inputs: Tensor,
        labels: Tensor,
        sample_ids: Tensor,
        *,
        norm: Norm,
        seed: int,
        targets: Tensor | None = None,
    ) -> None:
        self.shape, self.norm, self.seed = inputs.shape[1:], NORM_TABLE[norm], seed
        self.model = _in_portions(model, CACHED // inputs.shape[1:].numel()) if inputs.device.type == "cpu" else model
        self.labels, self.targets, self.sample_ids = labels, targets, sample_ids
        self.flat = inputs.flatten(1)
        self.limit = self.norm.length(torch.maximum(self.flat, 1 - self.flat))  # nothing in the box is longer
        self.best, self.best_delta = torch.full_like(self.limit, torch.inf), torch.zeros_like(self.flat)
        self.evaluations = torch.zeros_like(self.limit)
        self.memory = MEMORY[norm]
        self.sparse = norm in SPARSE
        pixels = self.flat.shape[1]
        bits = torch.randint(0, 2, (pixels + BANK,), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)
        self._bank = bits.to(self.flat).mul_(2).sub_(1).unfold(0, pixels, 1)
        self.draw = 0

    def part(self, who: Tensor) -> Search:
        """Return a search of these samples that knows nothing of what was found, only what was spent."""
        twin = copy.copy(self)
        for name in ("labels", "sample_ids", "flat", "limit", "evaluations"):
            setattr(twin, name, getattr(self, name)[who])
        twin.targets = None if self.targets is None else self.targets[who]
        twin.best, twin.best_delta = torch.full_like(twin.limit, torch.inf), torch.zeros_like(twin.flat)
        twin.memory, twin.draw = MEMORY[self.norm.name], 0  # whatever the neighbours drew
        return twin

    def take(self, who: Tensor, part: Search) -> None:
        """Take over what a part found, where it is nearer, and what it spent."""
        nearer = part.best < self.best[who]
        self.best[who] = torch.where(nearer, part.best, self.best[who])
        self.best_delta[who] = torch.where(nearer[:, None], part.best_delta, self.best_delta[who])
        self.evaluations[who] = part.evaluations

    def rows(self, sample: Tensor, target: Tensor, delta: Tensor) -> Rows:
        """Return rows that start at `delta` and know nothing yet."""
        one = torch.ones_like(self.limit[sample])
        return Rows(  # no tensor twice: `put` writes into them
            sample=sample,
            target=target,
            delta=self.boxed(sample, delta),
            momentum=torch.zeros_like(delta),
            length=0 * one,
            gap=0 * one,
            ahead=0 * one,
            crossed=one < 0,
            estimate=one,
            unrest=0 * one,
            best=torch.inf * one,
            best_delta=torch.zeros_like(delta),
        )

    def signs(self, sample: Tensor) -> Tensor:
        """Return random signs (R, D); the next call draws others."""
        self.draw += 1
        place = (self.sample_ids[sample] * 0x9E3779B1 + self.draw * 0x85EBCA77) & 0xFFFFFFFF
        place = ((place ^ (place >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
        return self._bank[(place ^ (place >> 12)) % BANK]

    def noise(self, sample: Tensor, length: Tensor) -> Tensor:
        """Return random signs scaled to a length (R,) of the norm."""
        signs = self.signs(sample)
        return signs * (length / self.norm.length(signs))[:, None]

    def boxed(self, sample: Tensor, delta: Tensor) -> Tensor:
        """Return the perturbations cut to the box."""
        return (self.flat[sample] + delta).clamp_(0, 1).sub_(self.flat[sample])

    def within(self, sample: Tensor, radius: Tensor) -> Tensor:
        """Return radii that are positive and no longer than the box."""
        return torch.minimum(radius, self.limit[sample]).clamp(min=TINY)

    def rival(self, sample: Tensor, rank: int) -> Tensor:
        """Return classes (R,): at the best points, the likeliest but for the true one and `rank` others before it.

        Where there are not so many it counts from the first again, and is `ANY` where the network has no logits.
        """
        with torch.no_grad():
            logits = self.model((self.flat[sample] + self.best_delta[sample]).view(-1, *self.shape))
        self.spend(sample, FORWARD)
        own = self.labels[sample, None]
        order = logits.scatter(1, own, -torch.inf).argsort(dim=1, descending=True, stable=True)
        return torch.where(order == own, ANY, order)[:, rank % (order.shape[1] - 1)]

    def spend(self, sample: Tensor, cost: float) -> None:
        """Count passes of these samples."""
        self.evaluations.index_add_(0, sample, torch.full_like(self.limit[sample], cost))

    def differences(self, sample: Tensor, classes: int, seen: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return, at the clean inputs, the classes (R, M) to reach, their logit gaps, and gradients (R, S, D).

        The classes with the largest logits come first; the gradients are those of the first S of them, or all.
        """
        point = self.flat[sample].view(-1, *self.shape).requires_grad_()
        logits, true = self.model(point), self.labels[sample, None]
        if self.targets is None:
            others = logits.detach().scatter(1, true, -torch.inf)
            order = others.topk(min(classes, logits.shape[1] - 1), dim=1).indices
        else:
            order = self.targets[sample, None]
        gaps = logits.gather(1, order) - logits.gather(1, true)
        gradients = [input_gradient(gap, point, keep_graph=True) for gap in gaps[:, :seen].unbind(1)]
        self.spend(sample, FORWARD + (1 - FORWARD) * len(gradients))
        return order, gaps.detach(), torch.stack(gradients, 1)

    def look(self, rows: Rows) -> Tensor:
        """Evaluate the rows where they stand, one pass each; return the radius (R,) where each expects the boundary."""
        point = (self.flat[rows.sample] + rows.delta).view(-1, *self.shape).requires_grad_()
        logits, true = self.model(point), self.labels[rows.sample, None]
        self.spend(rows.sample, 1)
        others = logits.detach().scatter(1, true, -torch.inf)
        rival, nearest = others.max(1)
        target = torch.where(rows.target == ANY, nearest, rows.target)[:, None]
        if self.targets is None:
            gap = (logits.gather(1, target) - logits.gather(1, true)).squeeze(1)
        else:  # other classes may lie between
            gap = logits.gather(1, target).squeeze(1) - logits.scatter(1, target, -torch.inf).amax(1)
        gradient = input_gradient(gap, point)
        last_gap, last_length = rows.gap, rows.length
        undefined = ~(gap.detach().isfinite() & gradient.isfinite().all(1))
        gradient = gradient.masked_fill(undefined[:, None], 0)
        rows.length, rows.gap = self.norm.length(rows.delta), torch.where(undefined, last_gap, gap.detach())

        there = rival > logits.detach().gather(1, true).squeeze(1)
        if self.targets is not None:
            there &= nearest == self.targets[rows.sample]
        there &= rows.length > 0  # the input itself is no find, whatever a second look at it says
        better = there & (rows.length < rows.best)
        rows.best = torch.where(better, rows.length, rows.best)
        rows.best_delta = torch.where(better[:, None], rows.delta, rows.best_delta)

        slope = self.norm.dual_length(gradient).clamp_(min=TINY)
        rows.ahead = rows.gap / slope
        rows.momentum = torch.lerp(gradient / slope[:, None], rows.momentum, self.memory)
        rows.crossed = rows.crossed | (rows.gap > 0)
        radius = self._sparse_radius(rows, gradient) if self.sparse else rows.length - rows.ahead
        radius = _bracketed(radius, rows.length, rows.gap, last_length, last_gap)
        radius = torch.where(rows.crossed, radius.clamp(rows.length / 2, rows.length * 2), radius)
        radius = self.within(rows.sample, torch.where(undefined, rows.length / 2, radius))
        estimate = torch.minimum(rows.best, radius)
        rows.unrest = (estimate / rows.estimate).log().abs()
        rows.estimate = estimate
        return radius * HAIR

    def _sparse_radius(self, rows: Rows, gradient: Tensor) -> Tensor:
        """Return the radius for l0 and l1, where the box stops entries: add the best ones, or take back the least."""
        here = self.flat[rows.sample] + rows.delta
        missing = self.norm.length(self.norm.cross(-gradient, (-rows.gap).clamp(min=0), here))
        if self.norm.name == "l0":
            gains = (gradient * rows.delta).clamp(min=0).masked_fill(rows.delta == 0, torch.inf)
            surplus = (gains.sort(1).values.cumsum(1) < rows.gap[:, None]).sum(1).to(missing)
        else:
            entries = (rows.delta != 0).sum(1)
            surplus = rows.gap * entries / (gradient * rows.delta.sign()).sum(1).clamp(min=TINY)
        return torch.where(rows.gap < 0, rows.length + missing, rows.length - surplus)

    def move(self, rows: Rows, radius: Tensor, step: float | Tensor, noise: Tensor | None = None) -> None:
        """Step along the momentum, project on the ball of this radius, and shake within it those that have crossed."""
        uphill, start = rows.momentum, self.flat[rows.sample]
        if self.norm.name != "linf":
            stuck = ((start + rows.delta <= 0) & (uphill < 0)) | ((start + rows.delta >= 1) & (uphill > 0))
            uphill = uphill.masked_fill(stuck, 0)
        if self.sparse:  # the steepest direction is one entry only: the gradient itself, at the Euclidean scale
            reach, direction = torch.linalg.vector_norm(rows.delta, dim=1), NORM_TABLE["l2"].steepest(uphill)
        else:
            reach, direction = radius, self.norm.steepest(uphill)
        delta = self.norm.project(rows.delta + (step * reach)[:, None] * direction, radius)
        if noise is not None:
            shaken = self.norm.project(delta + self.noise(rows.sample, noise * radius), radius)
            delta = torch.where(rows.crossed[:, None], shaken, delta)
        rows.delta = self.boxed(rows.sample, delta)

    def keep(self, rows: Rows) -> None:
        """Take over what the rows found: the shortest of each sample."""
        least = self.best.scatter_reduce(0, rows.sample, rows.best, "amin")
        won = (rows.best < self.best[rows.sample]) & (rows.best <= least[rows.sample])
        order = torch.arange(len(rows), device=won.device).masked_fill(~won, len(rows))
        first = order.new_full((len(least),), len(rows))
        first = first.scatter_reduce(0, rows.sample, order, "amin")  # of rows that tie, one
        who = (first < len(rows)).nonzero().squeeze(1)
        self.best_delta[who] = rows.best_delta[first[who]]
        self.best = least


def _in_portions(model: Model, most: int) -> Model:
    """Return a model that takes its inputs in portions that fit a processor's cache."""
    most = max(1, most)

    def portioned(inputs: Tensor) -> Tensor:
        return model(inputs) if len(inputs) <= most else torch.cat([model(part) for part in torch.split(inputs, most)])

    return portioned


def _bracketed(radius: Tensor, length: Tensor, gap: Tensor, last_length: Tensor, last_gap: Tensor) -> Tensor:
    """Return the radius, or the secant's where it leaves the bracket between a point on this side and one beyond.

    Where a network saturates, gaps look like a step: Newton's radii then jump to and fro and never settle.
    """
    this_side = gap < 0
    near, far = torch.where(this_side, length, last_length), torch.where(this_side, last_length, length)
    share = torch.where(this_side, gap, last_gap).abs() / (gap - last_gap).abs().clamp(min=TINY)
    astray = (gap * last_gap < 0) & (far > 1.02 * near) & ((radius < 0.98 * near) | (radius > 1.02 * far))
    return torch.where(astray, near + (far - near) * share, radius)
