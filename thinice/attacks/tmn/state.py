"""State of many searches that run in one batch: the samples with their best adversarials, and the trajectories.

A trajectory is one pair of sample and target class. `SearchState.evaluate` runs the network once for all trajectories,
`SearchState.step` moves them, `SearchState.update_best` keeps what they found. The stages of `thinice.attacks.tmn` say
which trajectories to start, and for how long.

The sign of a margin is the same everywhere: true logit minus the other one, negative beyond the boundary.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from thinice.attacks.result import FORWARD, Model
from thinice.attacks.tmn import settings as constants
from thinice.attacks.tmn.chords import chord_gradients
from thinice.losses import input_gradient
from thinice.norms import NORM_TABLE
from thinice.types import Norm

__all__ = ["ANY", "Loss", "SearchState", "Stream", "Trajectories", "draw_index"]

ANY = -1
"""As a trajectory's target: the best class other than the true one, at each point anew."""
Stream = Literal["probe", "vertices", "descend", "search"]
"""The stages that draw random signs: steps 2, S2, 3b, and 4b."""
Loss = Literal["margin", "soft margin", "other logit"]
"""What a trajectory descends on. The soft margin takes all other classes for one, with the logarithm of the sum of
their exponentials for a logit; the other logit is the margin without that of the true class."""


def draw_index(stage: Stream, restart: int = 0, step: int = 0) -> int:
    """Return which of a sample's random vectors a step of a stage reads; `SearchState.signs` takes the number.

    A stage has its own block of numbers, and so has each of its restarts; `docs/tmn.md` says how long the blocks are,
    and which stages share one.

    Parameters
    ----------
    stage : {"probe", "vertices", "descend", "search"}
        Step 2; S2; 3b; 4b.
    restart : int
        Of ``search``: which, from 0.
    step : int
        How many vectors this restart (of ``vertices``: the whole stage) has drawn before.

    Examples
    --------
    >>> draw_index("probe"), draw_index("descend", 0, 5), draw_index("search", 2)
    (1, 106, 120001)

    """
    block = {"probe": 0, "vertices": 0, "descend": 100, "search": 100_000 + 10_000 * restart}[stage]
    return block + 1 + step


@dataclass(slots=True)
class Trajectories:
    """R trajectories, each of one sample towards one class; D is the number of pixels."""

    sample: Tensor  # (R,) position of the sample in the batch
    target: Tensor  # (R,) class to reach, or ANY
    delta: Tensor  # (R, D) current perturbation
    momentum: Tensor  # (R, D) running mean of the directions in which the margin falls, each of dual length 1
    length: Tensor  # (R,) length of the perturbation that was evaluated last
    margin: Tensor  # (R,) its true logit minus the target's: negative beyond the boundary
    signed_distance: Tensor  # (R,) its margin over the gradient's dual length: first-order distance to the boundary
    crossed: Tensor  # (R,) bool: has been beyond the boundary
    estimate: Tensor  # (R,) length that the trajectory is expected to end with
    estimate_change: Tensor  # (R,) change of the estimate in the last evaluation, as |log ratio|
    best: Tensor  # (R,) length of the shortest adversarial met, infinite where there is none
    best_delta: Tensor  # (R, D)

    def __len__(self) -> int:
        return len(self.sample)

    def __getitem__(self, index: Tensor) -> Trajectories:
        return Trajectories(*(getattr(self, field.name)[index] for field in fields(self)))

    def put(self, index: Tensor, rows: Trajectories) -> None:
        """Write rows back to where `self[index]` took them from."""
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(rows, field.name)


class SearchState:
    """The network, the samples (N), the shortest adversarial of each so far, and the passes spent on each.

    Attributes
    ----------
    norm : NormRow
        The norm to minimise.
    flat : Tensor
        (N, D) the clean inputs.
    limit : Tensor
        (N,) the greatest length of a perturbation within the box.
    best, best_delta : Tensor
        (N,) length of the shortest adversarial, infinite where there is none; (N, D) its perturbation, else zero.
    evaluations : Tensor
        (N,) passes spent.
    memory : float
        Share of the running mean of gradients that an evaluation keeps in this norm.
    stride : float
        First step of a descent, in the unit of `step`; in l0 and l1 steps are Euclidean, and it is that of l2.

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
        portion = constants.CACHED_PIXELS // inputs.shape[1:].numel()
        self.model = _in_portions(model, portion) if inputs.device.type == "cpu" else model
        self.labels, self.targets, self.sample_ids = labels, targets, sample_ids
        self.flat = inputs.flatten(1)
        self.limit = self.norm.length(torch.maximum(self.flat, 1 - self.flat))
        self.best, self.best_delta = torch.full_like(self.limit, torch.inf), torch.zeros_like(self.flat)
        self.evaluations = torch.zeros_like(self.limit)
        self.memory = constants.MEMORY[norm]
        self.stride = constants.STRIDE["linf" if norm == "linf" else "l2"]
        self.sparse = norm in ("l0", "l1")
        pixels, generator = self.flat.shape[1], torch.Generator().manual_seed(seed)
        bits = torch.randint(0, 2, (pixels + constants.BANK,), generator=generator, dtype=torch.int8)
        self._bank = bits.to(self.flat).mul_(2).sub_(1).unfold(0, pixels, 1)

    # ---- samples: parts, and what was found ----

    def subset(self, sample: Tensor) -> SearchState:
        """Return the state of these samples without their adversarials, but with the passes spent."""
        part = copy.copy(self)
        for name in ("labels", "sample_ids", "flat", "limit", "evaluations"):
            setattr(part, name, getattr(self, name)[sample])
        part.targets = None if self.targets is None else self.targets[sample]
        part.best, part.best_delta = torch.full_like(part.limit, torch.inf), torch.zeros_like(part.flat)
        return part

    def merge(self, sample: Tensor, part: SearchState) -> None:
        """Take over the adversarials of a subset that are shorter, and the passes it spent."""
        self.offer(sample, part.best, part.best_delta)
        self.evaluations[sample] = part.evaluations

    def offer(self, sample: Tensor, length: Tensor, delta: Tensor) -> None:
        """Take over adversarials that are shorter than the best: lengths (R,), perturbations (R, D), one a sample."""
        shorter = length < self.best[sample]
        self.best[sample[shorter]] = length[shorter]
        self.best_delta[sample[shorter]] = delta[shorter]

    def update_best(self, rows: Trajectories) -> None:
        """Take over the shortest adversarial that the trajectories of each sample met."""
        least = self.best.scatter_reduce(0, rows.sample, rows.best, "amin")
        shortest = (rows.best < self.best[rows.sample]) & (rows.best <= least[rows.sample])
        order = torch.arange(len(rows), device=shortest.device).masked_fill(~shortest, len(rows))
        first = order.new_full((len(least),), len(rows)).scatter_reduce(0, rows.sample, order, "amin")
        index = first[first < len(rows)]  # of equally short ones the first
        self.offer(rows.sample[index], rows.best[index], rows.best_delta[index])

    def count_passes(self, sample: Tensor, cost: float) -> None:
        """Add passes to what these samples have spent; a sample may occur more than once."""
        self.evaluations.index_add_(0, sample, torch.full_like(self.limit[sample], cost))

    def gradient_masked(self, nearest: Tensor) -> Tensor:
        """Return where no predicted distance (N,) is within reach, so that gradients tell nothing, (N,) bool."""
        width = self.norm.length(torch.ones_like(self.flat))
        return ~(nearest < constants.VANISHED * width)  # true of NaN, too

    # ---- perturbations ----

    def start(self, sample: Tensor, target: Tensor, delta: Tensor) -> Trajectories:
        """Return trajectories that start at `delta` (R, D) and have not been evaluated."""
        one = torch.ones_like(self.limit[sample])
        return Trajectories(  # no tensor twice: `put` writes into them
            sample=sample,
            target=target,
            delta=self.clip(sample, delta),
            momentum=torch.zeros_like(delta),
            length=0 * one,
            margin=0 * one,
            signed_distance=0 * one,
            crossed=one < 0,
            estimate=one,
            estimate_change=0 * one,
            best=torch.inf * one,
            best_delta=torch.zeros_like(delta),
        )

    def clip(self, sample: Tensor, delta: Tensor) -> Tensor:
        """Return the perturbations (R, D) clipped to the box."""
        return (self.flat[sample] + delta).clamp_(0, 1).sub_(self.flat[sample])

    def clip_radius(self, sample: Tensor, radius: Tensor) -> Tensor:
        """Return the radii (R,), made positive and no longer than the box allows."""
        return torch.minimum(radius, self.limit[sample]).clamp(min=constants.TINY)

    def signs(self, sample: Tensor, draw: int) -> Tensor:
        """Return the random signs (R, D) of these samples that have this `draw_index`.

        They are read from one bank, at a place that sample_id and number hash to: no sample changes another's.
        """
        place = (self.sample_ids[sample] * 0x9E3779B1 + draw * 0x85EBCA77) & 0xFFFFFFFF
        place = ((place ^ (place >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
        return self._bank[(place ^ (place >> 12)) % constants.BANK]

    def noise(self, sample: Tensor, length: Tensor, draw: int) -> Tensor:
        """Return the random signs of `signs`, scaled to a length (R,) of the norm."""
        signs = self.signs(sample, draw)
        return signs * (length / self.norm.length(signs))[:, None]

    # ---- the network ----

    def class_margins(
        self, sample: Tensor, classes: int, with_gradient: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the margins of the clean inputs towards the likeliest classes, and the directions in which they fall.

        One forward pass, and a backward pass for each direction.

        Parameters
        ----------
        sample : Tensor
            (R,) which samples.
        classes : int
            M, how many classes, those with the largest logits first; with targets these alone.
        with_gradient : int, optional
            S, for how many of them a direction is asked for; all of them without.

        Returns
        -------
        classes, margins, directions : Tensor
            (R, M) int64; (R, M); (R, S, D), the negative gradients of the margins.

        """
        point = self.flat[sample].view(-1, *self.shape).requires_grad_()
        logits, true = self.model(point), self.labels[sample, None]
        if self.targets is None:
            others = logits.detach().scatter(1, true, -torch.inf)
            order = others.topk(min(classes, logits.shape[1] - 1), dim=1).indices
        else:
            order = self.targets[sample, None]
        margins = logits.gather(1, true) - logits.gather(1, order)
        directions = [
            input_gradient(-margin, point, keep_graph=True) for margin in margins[:, :with_gradient].unbind(1)
        ]
        self.count_passes(sample, FORWARD + (1 - FORWARD) * len(directions))
        return order, margins.detach(), torch.stack(directions, 1)

    def evaluate(
        self, rows: Trajectories, memory: float | None = None, loss: Loss = "margin", chords: float = 0.0
    ) -> Tensor:
        """Return the radius (R,) at which each trajectory expects the boundary, after one pass at its current point.

        The radius is a Newton step on the length, and a little beyond: with length n, margin m and gradient g it is
        n + m / |g|_dual. Everything of the trajectories is updated but where they are.

        Parameters
        ----------
        rows : Trajectories
            Written to.
        memory : float, optional
            Share of the running mean of gradients to keep, that of the norm without.
        loss : {"margin", "soft margin", "other logit"}
            Whose gradient is taken, also for the radius. Where it falls to zero, it falls with the margin.
        chords : float
            How far the chords reach that stand for the slopes of activations (`chord_gradients`); 0 without.

        """
        point = (self.flat[rows.sample] + rows.delta).view(-1, *self.shape).requires_grad_()
        with chord_gradients(chords):
            logits = self.model(point)
        true = self.labels[rows.sample, None]
        self.count_passes(rows.sample, 1)
        largest, likeliest = logits.detach().scatter(1, true, -torch.inf).max(1)
        target = torch.where(rows.target == ANY, likeliest, rows.target)[:, None]
        other = logits.gather(1, target).squeeze(1)
        if self.targets is None:
            margin = logits.gather(1, true).squeeze(1) - other
            soft_margin = logits.gather(1, true).squeeze(1) - logits.scatter(1, true, -torch.inf).logsumexp(1)
        else:  # other classes may lie between
            margin = logits.scatter(1, target, -torch.inf).amax(1) - other
            soft_margin = logits.scatter(1, target, -torch.inf).logsumexp(1) - other
        direction = input_gradient({"margin": -margin, "soft margin": -soft_margin, "other logit": other}[loss], point)
        margin, last_margin, last_length = margin.detach(), rows.margin, rows.length
        undefined = ~(margin.isfinite() & direction.isfinite().all(1))
        direction = direction.masked_fill(undefined[:, None], 0)
        rows.length, rows.margin = self.norm.length(rows.delta), torch.where(undefined, last_margin, margin)

        adversarial = largest > logits.detach().gather(1, true).squeeze(1)
        if self.targets is not None:
            adversarial &= likeliest == self.targets[rows.sample]
        adversarial &= rows.length > 0  # the input itself is none, whatever a second evaluation of it says
        better = adversarial & (rows.length < rows.best)
        rows.best = torch.where(better, rows.length, rows.best)
        rows.best_delta = torch.where(better[:, None], rows.delta, rows.best_delta)

        largest = direction.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(direction.dtype).tiny)
        scaled = direction / largest  # its squares do not vanish where a saturated network has 1e-30
        slope = self.norm.dual_length(scaled).clamp_(min=constants.TINY)
        rows.signed_distance = rows.margin / (slope * largest.squeeze(1)).clamp_(min=constants.TINY)
        memory = self.memory if memory is None else memory
        rows.momentum = torch.lerp(scaled / slope[:, None], rows.momentum, memory)
        rows.crossed = rows.crossed | (rows.margin < 0)
        radius = self._sparse_radius(rows, direction) if self.sparse else rows.length + rows.signed_distance
        radius = _bracketed(radius, rows.length, rows.margin, last_length, last_margin)
        shortest, longest = rows.length / constants.TRUST, rows.length * constants.TRUST
        radius = torch.where(rows.crossed, radius.clamp(shortest, longest), radius)
        radius = self.clip_radius(rows.sample, torch.where(undefined, shortest, radius))
        estimate = torch.minimum(rows.best, radius)
        rows.estimate_change = (estimate / rows.estimate).log().abs()
        rows.estimate = estimate
        return radius * (1 + constants.OVERSHOOT)

    def _sparse_radius(self, rows: Trajectories, direction: Tensor) -> Tensor:
        """Return the radius (R,) for l0 and l1, where the box stops entries: add the best ones, or drop the least."""
        point = self.flat[rows.sample] + rows.delta
        missing = self.norm.length(self.norm.cross(-direction, rows.margin.clamp(min=0), point))
        if self.norm.name == "l0":  # as many entries as cost no more than there is to spare
            gains = (direction * rows.delta).clamp(min=0).masked_fill(rows.delta == 0, torch.inf)
            surplus = (gains.sort(1).values.cumsum(1) < -rows.margin[:, None]).sum(1).to(missing)
        else:  # the same length from every entry
            entries, slopes = (rows.delta != 0).sum(1), (direction * rows.delta.sign()).sum(1)
            surplus = -rows.margin * entries / slopes.clamp(min=constants.TINY)
        return torch.where(rows.margin > 0, rows.length + missing, rows.length - surplus)

    def step(self, rows: Trajectories, radius: Tensor, stride: float | Tensor, noise: Tensor | None = None) -> None:
        """Move the trajectories along their momentum and project them on the ball of this radius and on the box.

        Parameters
        ----------
        rows : Trajectories
            Their `delta` is written to.
        radius : Tensor
            (R,) the length to end with.
        stride : float or Tensor
            Length of the step in units of the radius; of l0 and l1 in units of the Euclidean length so far.
        noise : Tensor, optional
            (R, D) added to trajectories that have crossed the boundary, before a second projection.

        """
        uphill, start = rows.momentum, self.flat[rows.sample]
        if self.norm.name != "linf":  # entries that would leave the box take nothing from the others
            stuck = ((start + rows.delta <= 0) & (uphill < 0)) | ((start + rows.delta >= 1) & (uphill > 0))
            uphill = uphill.masked_fill(stuck, 0)
        if self.sparse:  # the steepest direction is one entry only: the gradient itself, at the Euclidean scale
            scale, direction = torch.linalg.vector_norm(rows.delta, dim=1), NORM_TABLE["l2"].steepest(uphill)
        else:
            scale, direction = radius, self.norm.steepest(uphill)
        delta = self.norm.project(rows.delta + (stride * scale)[:, None] * direction, radius)
        if noise is not None:
            delta = torch.where(rows.crossed[:, None], self.norm.project(delta + noise, radius), delta)
        rows.delta = self.clip(rows.sample, delta)


def _in_portions(model: Model, most: int) -> Model:
    """Return a model that takes its inputs in portions that fit a processor's cache."""
    most = max(1, most)

    def portioned(inputs: Tensor) -> Tensor:
        return model(inputs) if len(inputs) <= most else torch.cat([model(part) for part in torch.split(inputs, most)])

    return portioned


def _bracketed(radius: Tensor, length: Tensor, margin: Tensor, last_length: Tensor, last_margin: Tensor) -> Tensor:
    """Return the radius, or the secant's where it leaves the bracket between the last two points on either side.

    Where a network saturates, margins look like a step: Newton's radii then jump to and fro and never converge.
    """
    inside = margin > 0
    near, far = torch.where(inside, length, last_length), torch.where(inside, last_length, length)
    share = torch.where(inside, margin, last_margin).abs() / (margin - last_margin).abs().clamp(min=constants.TINY)
    outside_bracket = (margin * last_margin < 0) & (far > near) & ((radius < near) | (radius > far))
    return torch.where(outside_bracket, near + (far - near) * share, radius)
