"""The race: a screen of all classes, a sounding, a race of the near classes, and annealed descents.

Near a sample where the network is close to linear, the nearest class shows within a few steps, and one descent
towards it is enough. Elsewhere the gradients at the sample are no guide: there, and where few entries may change, it
searches from several sides, and once more in FMN's way. One sounding tells which it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from thinice.attacks.fmn import fmn
from thinice.attacks.nearest import FORWARD, Claims, Model
from thinice.attacks.search import ANY, HAIR, TINY, Rows, Search
from thinice.types import Effort, Norm

__all__ = ["RACE_EFFORTS", "Finds", "race"]

ROUGH = 0.2
"""A sounding that contradicts the screen by more than this (|log|) makes a sample rough."""
NEARER = 0.4
"""An adversarial at less than this share of the screened distance makes it rough after all."""
SLACK = 1.15
"""Classes screened within this factor of the nearest start the race."""
KEEP: Mapping[Norm, float] = MappingProxyType({"linf": 1.05, "l2": 1.3, "l1": 1.05, "l0": 1.05})
"""Classes expected within this factor of the leader stay in it. In l2 first estimates tell less: on an adversarially
trained network 1.05 drops the right class so often that epsilons lie 11 % too far on average, with 1.3 4 %."""
BEYOND = 1.05
"""How far beyond a length something may still be found."""
STRIDES: Mapping[Norm, float] = MappingProxyType({"linf": 1.0, "l2": 2.0, "l1": 1.0, "l0": 1.0})
"""How far the first step of a descent goes, in units of the radius. For linf two would serve the descents as well, but
the race would see the classes from too far away to tell them apart."""
WIDE: Mapping[Norm, float] = MappingProxyType({"linf": 2.0, "l2": 2.0, "l1": 1.0, "l0": 1.0})
"""The same in a rough place."""
SHAKE = 0.75
"""How far from the best point the next descent starts, in units of the best length."""
SAME = 0.002
"""Two searches that end within this factor (|log|) agree."""
VANISHED = 1e3
"""Where the nearest plane lies this many times farther than the box is wide, or nowhere, no gradient leads anywhere."""
FADED = 0.6
"""Noise has faded to nothing after this share of a descent."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the race may spend on a sample; `race` explains each."""

    classes: int
    rounds: int
    steps: int
    noise: float
    descents: int
    again: int
    patience: int
    walk: int
    starts: int
    rough_steps: int


RACE_EFFORTS: Mapping[Effort, Mapping[str, int | float]] = MappingProxyType(
    {
        "quick": {"classes": 4, "rounds": 2, "steps": 15, "noise": 0.0, "walk": 8, "starts": 1, "rough_steps": 12},
        "standard": {},
        "thorough": {"steps": 50, "descents": 2, "starts": 10, "rough_steps": 32},
    }
)
"""What each effort sets, by keyword of `race`; the rest is as in its signature."""


@dataclass(frozen=True, slots=True, eq=False)
class Finds(Claims):
    """What the race claims, and what it says of the search.

    Attributes
    ----------
    rough : Tensor
        (N,) bool: the network is far from linear around the sample.

    """

    rough: Tensor


def race(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    sample_ids: Tensor,
    *,
    norm: Norm,
    seed: int = 0,
    classes: int = 9,
    rounds: int = 6,
    steps: int = 28,
    noise: float = 1.0,
    descents: int = 1,
    again: int = 20,
    patience: int = 1,
    walk: int = 9,
    starts: int = 2,
    rough_steps: int = 23,
    targets: Tensor | None = None,
) -> Finds:
    """Return the nearest points met that the network takes for another class than the label; `judge` has the last word.

    Parameters
    ----------
    model : callable
        Takes inputs (N, C, H, W) in [0, 1] to logits (N, K).
    inputs, labels, sample_ids : Tensor
        The samples. What is found for one depends on its sample_id and the seed, not on the others.
    norm : {"l0", "l1", "l2", "linf"}
        The norm of the perturbation.
    seed : int
        Of the random signs.
    classes : int
        Screen at most this many classes, those with the largest logits.
    rounds : int
        Passes of each class in the race, at most.
    steps, noise : int, float
        Passes of the first descent of a smooth sample; the noise it starts with, in units of the radius.
    descents, again, patience : int
        Descents of a smooth sample, at most; passes of each after the first, which start from the best point,
        shaken; after this many in a row that gained less than 0.2 % it stops.
    walk, starts, rough_steps : int
        For a rough sample: passes from the sounding to a first adversarial; descents, each from another side; and
        passes of each, and of FMN's search at the end. For l0 and l1 there is one descent fewer, and FMN's is twice
        as long: it is the better of the two there, and they fail on different samples.
    targets : Tensor, optional
        (N,) classes to reach, each other than the label; any other class will do without.

    Notes
    -----
    Newton steps on the length and normalised gradients are those of minimum-norm attacks since FMN (Pintor et al.,
    NeurIPS 2021) and DDN (Rony et al., CVPR 2019); the sounding, the best-first race and the noise are thinice's own.

    Examples
    --------
    >>> plane = torch.tensor([[1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, -1.0]])
    >>> inputs, first = torch.full((1, 1, 2, 2), 0.6), torch.tensor([0])
    >>> finds = race(lambda inputs: (inputs.flatten(1) - 0.5) @ plane.T, inputs, first, first, norm="l2")
    >>> f"{(finds.candidates - inputs).norm().item():.2f}"
    '0.20'

    """
    with torch.no_grad():
        logits = model(inputs)
    clean = logits.argmax(1)
    done = logits.isnan().any(1) | (clean != labels if targets is None else clean == targets)
    candidates, evaluations = inputs.clone(), torch.full((len(inputs),), FORWARD, device=inputs.device)
    converged, rough, starved = torch.zeros_like(done), torch.zeros_like(done), torch.zeros_like(done)
    who = (~done).nonzero().squeeze(1)
    if len(who) and logits.shape[1] > 1:
        goals = None if targets is None else targets[who]
        search = Search(model, inputs[who], labels[who], sample_ids[who], norm=norm, seed=seed, targets=goals)
        budget = Budget(classes, rounds, steps, noise, descents, again, patience, walk, starts, rough_steps)
        settled, rough[who], starved[who] = _search(search, budget)
        converged[who] = settled & search.best.isfinite() & ~starved[who]
        candidates[who] = (search.flat + search.best_delta).clamp(0, 1).view_as(inputs[who])
        evaluations[who] += search.evaluations
    return Finds(candidates, evaluations, rough, converged=converged, starved=starved)


def _search(search: Search, budget: Budget) -> tuple[Tensor, Tensor, Tensor]:
    """Run all stages; return which samples have settled, are rough, and have no gradient to go by, (N,) bool each."""
    field, distances, nearest = _screen(search, budget.classes)
    doubt, soundings = _sound(search, field, nearest)
    rough = (doubt > ROUGH) | search.sparse  # with few entries to choose, sides matter more than classes
    rough |= nearest >= search.limit  # no plane crosses the box: gradients that have all but vanished tell nothing
    starved = ~(nearest < VANISHED * search.norm.length(torch.ones_like(search.flat)))  # true of NaN, too
    settled = torch.zeros_like(rough)
    smooth = (~rough).nonzero().squeeze(1)
    if len(smooth):
        winners = _race(search, field, distances, doubt=doubt, smooth=~rough, rounds=budget.rounds)
        settled[smooth] = _descend(search, winners, budget)
    rough |= ~(search.best >= NEARER * distances.amin(1)) | search.best.isinf()
    uneasy = rough.nonzero().squeeze(1)
    if len(uneasy):
        settled[uneasy] = _explore(search, soundings[uneasy], field, distances, budget)
        if search.targets is None:
            settled[uneasy] |= _another_way(search, uneasy, budget)
    return settled, rough, starved


def _screen(search: Search, classes: int) -> tuple[Rows, Tensor, Tensor]:
    """Return a row per sample and class, on its first step; their distances (N, M); the least without the box."""
    everyone = torch.arange(len(search.limit), device=search.limit.device)
    order, gaps, gradients = search.differences(everyone, classes)
    flat = gradients.flatten(0, 1)
    rows = search.rows(everyone.repeat_interleave(order.shape[1]), order.flatten(), torch.zeros_like(flat))
    slope = search.norm.dual_length(flat).clamp_(min=TINY)
    rows.gap = gaps.flatten()
    rows.momentum = (1 - search.memory) * flat / slope[:, None]
    boundless = -rows.gap / slope
    if search.sparse:  # few entries, which the box stops early: the exact crossing of the plane within the box
        rows.delta = search.norm.cross(-flat, -rows.gap * BEYOND, search.flat[rows.sample])
        rows.estimate = search.within(rows.sample, search.norm.length(rows.delta))
    else:
        rows.estimate = search.within(rows.sample, boundless)
        search.move(rows, rows.estimate * HAIR, 2.0)
    return rows, rows.estimate.view_as(gaps).clone(), boundless.view_as(gaps).amin(1)


def _sound(search: Search, field: Rows, nearest: Tensor) -> tuple[Tensor, Rows]:
    """Return how much one random point contradicts the screen, |log| (N,); and rows at that point, towards any class.

    A quarter of the first step away in a random direction, the boundary's tangent plane should lie as far from the
    sample as the screen said.
    """
    count = len(field) // len(nearest)
    everyone = field.sample[::count]
    first = field.delta.view(len(nearest), count, -1).norm(dim=2)[everyone, field.estimate.view(-1, count).argmin(1)]
    signs = search.signs(everyone)
    away = signs * (first / 4 / signs.shape[1] ** 0.5)[:, None]
    target = torch.full_like(everyone, ANY) if search.targets is None else search.targets[everyone]
    rows = search.rows(everyone, target, away)
    search.look(rows)
    seen = (rows.momentum * rows.delta).sum(1) / (1 - search.memory) - rows.ahead
    doubt = (seen / nearest).nan_to_num(0, posinf=torch.inf).clamp(min=TINY).log().abs()
    return doubt, rows


def _race(search: Search, field: Rows, distances: Tensor, *, doubt: Tensor, smooth: Tensor, rounds: int) -> Rows:
    """Return the winning row of each smooth sample.

    Best first: a class joins once its screened distance is within reach of the leader, and leaves when its estimate
    falls behind. What the steps so far have surprised by widens both.
    """
    nearest, keep = distances.amin(1, keepdim=True), KEEP[search.norm.name]
    looks = torch.zeros_like(distances)
    active = (distances <= SLACK * nearest) & smooth[:, None]
    for _ in range(rounds):
        index = active.flatten().nonzero().squeeze(1)
        if not len(index):
            break
        rows = field[index]
        search.move(rows, search.look(rows), STRIDES[search.norm.name])
        search.keep(rows)
        field.put(index, rows)
        looks += active
        estimate = field.estimate.view_as(distances)
        lead, leader = torch.where(looks > 0, estimate, torch.inf).min(1, keepdim=True)
        nearer = (distances.gather(1, leader) / lead).log().clamp(min=0)
        joins = (looks == 0) & (distances <= torch.maximum(lead, nearest) * (SLACK + nearer + doubt[:, None] / 2))
        hope = torch.where(looks > 1, field.unrest.view_as(distances) / 2, keep - 1)
        stays = (looks > 0) & (estimate * torch.exp(-hope) <= keep * lead)
        active = (joins | stays) & smooth[:, None]
        active &= (active.sum(1, keepdim=True) > 1) | (looks.gather(1, leader) < 2)  # a lone leader is decided
    who = smooth.nonzero().squeeze(1)
    return field[who * distances.shape[1] + leader[who, 0]]


def _anneal(
    search: Search, rows: Rows, steps: int, *, stride: float, noise: float, trust: float | None = None
) -> Tensor:
    """Descend with strides and noise that fade; return where it found, and settled: the last quarter changed under 1 %.

    `trust` limits by how much a radius may differ from the last, and fades too.
    """
    before = rows.best
    for k in range(steps):
        fade = (1 + math.cos(math.pi * k / steps)) / 2
        radius = search.look(rows)
        if trust is not None:
            known = torch.minimum(rows.length, BEYOND * torch.minimum(rows.best, search.best[rows.sample]))
            change = 0.01 + (trust - 0.01) * fade
            radius = search.within(rows.sample, radius.clamp(known * (1 - change), known * (1 + change)))
        if 4 * k <= 3 * steps:
            before = rows.best
        search.move(rows, radius, 0.01 + (stride - 0.01) * fade, noise * max(0.0, 1 - k / steps / FADED))
    search.keep(rows)
    return rows.best.isfinite() & (rows.best >= 0.99 * before)


def _descend(search: Search, rows: Rows, budget: Budget) -> Tensor:
    """Descend from the race's end, then from the best point, shaken, until that stops paying."""
    search.draw = 100
    settled = _anneal(search, rows, budget.steps, stride=STRIDES[search.norm.name], noise=budget.noise)
    idle, on = torch.zeros_like(rows.length), torch.arange(len(rows), device=rows.sample.device)
    for descent in range(1, budget.descents):
        search.draw = 1000 * descent
        who, before = rows.sample[on], search.best[rows.sample[on]]
        shaken = search.best_delta[who] + search.noise(who, SHAKE * torch.where(before.isfinite(), before, 0))
        again = search.rows(who, rows.target[on], shaken)
        again.crossed = before.isfinite()
        settled[on] = _anneal(search, again, budget.again, stride=STRIDES[search.norm.name], noise=budget.noise / 2)
        idle[on] = torch.where(search.best[who] < 0.998 * before, 0, idle[on] + 1)
        on = (idle < budget.patience).nonzero().squeeze(1)
        if not len(on):
            break
    return settled


def _explore(search: Search, soundings: Rows, field: Rows, distances: Tensor, budget: Budget) -> Tensor:
    """Descend towards any class from several sides: soundings, near classes, noise, the best point shaken."""
    search.draw = 100_000
    who, target = soundings.sample, soundings.target
    _walk(search, soundings, budget.walk)
    order = distances[who].argsort(1)
    settled = torch.zeros_like(soundings.crossed)
    for start in range(max(1, budget.starts - search.sparse)):
        search.draw = 100_000 + 1000 * (start + 1)
        best = search.best[who]
        scale = torch.where(best.isfinite(), best, search.limit[who] / 2)
        side = start % 3
        if start == 0:
            delta = torch.where(best.isfinite()[:, None], search.best_delta[who], soundings.delta)
        elif side == 1:
            classes = order[:, start // 3 % order.shape[1]]
            first = field.momentum[who * order.shape[1] + classes]
            delta = search.norm.project(scale[:, None] * search.norm.steepest(first), scale)
        elif side == 2:
            delta = search.noise(who, 2 * scale)
        else:
            delta = search.best_delta[who] + search.noise(who, SHAKE * scale)
        rows = search.rows(who, target, delta)
        rows.crossed = ~rows.crossed
        settled = _anneal(search, rows, budget.rough_steps, stride=WIDE[search.norm.name], noise=0.5, trust=0.5)
    return settled


def _another_way(search: Search, who: Tensor, budget: Budget) -> Tensor:
    """Search these samples as FMN does, and keep what is nearer; return where that agrees with what was known."""
    inputs = search.flat[who].view(-1, *search.shape)
    steps = budget.rough_steps * (2 if search.sparse else 1)
    claims = fmn(search.model, inputs, search.labels[who], search.sample_ids[who], norm=search.norm.name, steps=steps)
    search.evaluations[who] += claims.evaluations
    delta, known = (claims.candidates - inputs).flatten(1), search.best[who]
    length = search.norm.length(delta)
    length = torch.where(length > 0, length, torch.inf)  # where it found nothing, it claims the input
    nearer = (length < known).nonzero().squeeze(1)
    search.best[who[nearer]], search.best_delta[who[nearer]] = length[nearer], delta[nearer]
    return (length / known).nan_to_num(torch.inf).log().abs() < SAME


def _walk(search: Search, rows: Rows, steps: int) -> None:
    """Walk until something is found, then bisect towards it wherever Newton's radius would be a leap."""
    inside = torch.zeros_like(rows.length)  # the longest that failed below the best
    search.move(rows, search.within(rows.sample, (rows.length - rows.ahead).clamp(max=2 * rows.length)), 2.0)
    for _ in range(steps):
        radius = search.look(rows)
        beyond, found = rows.gap > 0, rows.best.isfinite()
        back = ~beyond & found
        inside = torch.where(back & (rows.length < rows.best), rows.length, inside)
        inside = torch.where(beyond & (1.1 * inside > rows.length), 0.7 * rows.length, inside)
        nearer = radius.clamp((inside + rows.length) / 2, rows.length)
        radius = torch.where(beyond, nearer, torch.minimum(radius, 2 * rows.length))
        middle = torch.where(found, (inside + rows.best) / 2, 1)
        search.move(rows, radius, 2.0)
        rows.delta = torch.where(back[:, None], search.norm.project(rows.best_delta, middle), rows.delta)
        rows.momentum = torch.where(back[:, None], 0, rows.momentum)
    search.keep(rows)
