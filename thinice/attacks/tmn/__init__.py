"""The race: a screen of the likeliest classes, a sounding, a race of the near classes, and an annealed descent.

Near a sample where the network is close to linear, the nearest class shows within a few steps, and one descent
towards it is enough: the longer, the less the gradients on its way agree. Elsewhere the gradients at the sample are no
guide: there it searches from several sides, and once more in FMN's way. One sounding tells which it is. In l0 and l1
it draws corners of the box; where these lead astray, l1 does as the others, and l0 tries entries one by one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from thinice.attacks.result import FORWARD, Candidates, Model
from thinice.attacks.tmn.sparse import add_entries, draw_corners, drop_entries
from thinice.attacks.tmn.stages import anneal, another_way, explore
from thinice.attacks.tmn.state import ANY, BEYOND, HAIR, SAME, SEEN, TINY, VANISHED, Rows, Search
from thinice.types import Effort, Norm

__all__ = ["TMN_EFFORTS", "TMN_IDLE", "Finds", "tmn"]

ROUGH = 0.2
"""A sounding that contradicts the screen by more than this (|log|) makes a sample rough."""
NEARER = 0.4
"""An adversarial at less than this share of the screened distance makes it rough after all."""
SLACK = 1.15
"""Classes screened within this factor of the nearest start the race."""
KEEP: Mapping[str, float] = MappingProxyType({"linf": 1.1, "l2": 1.3})
"""Classes expected within this factor of the leader stay in it. In l2 first estimates tell less: on an adversarially
trained network 1.15 drops the right class so often that epsilons lie 8 % too far on average, with 1.3 5 %."""
STRIDES: Mapping[str, float] = MappingProxyType({"linf": 1.0, "l2": 2.0})
"""How far the first step of a descent goes, in units of the radius. For linf two would serve the descents as well, but
the race would see the classes from too far away to tell them apart."""
NOISE: Mapping[str, float] = MappingProxyType({"linf": 1.0, "l2": 1.5})
"""The noise that a descent starts with, in units of the radius, and of the budget's noise."""
FULL = 28
"""Descents of fewer steps start with less noise, in proportion."""
STEEPER = 1.6
"""Other classes are taken to be steeper than these by no more than this factor."""
USUAL = 0.06
"""The part of a gradient's dual length that the direction taken before usually misses."""
CARE = 0.4
"""Steps of a descent grow to this power of that part, in units of the usual."""
RANGE = 3.0
"""By so much steps grow or shrink at most."""
SURPRISE: Mapping[str, float] = MappingProxyType({"linf": 0.5, "l2": 0.2})
"""Where the winner lies nearer than screened by more than this (log), another class may turn out nearer still."""
SHARED = 1.5
"""There the winner and its rivals share so many times the steps."""
WORTH = 40
"""In l1 fewer passes in FMN's way than these are worth nothing."""
DROPS = 3
"""In l0, entries are taken back in so many rounds at most."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the race may spend on a sample; `tmn` explains each, but `other_steps`: passes in FMN's way."""

    classes: int
    selection_rounds: int
    steps: int
    runner_up_classes: int
    noise: float
    bracket_steps: int
    restarts: int
    restart_steps: int
    other_steps: int
    sparse_restarts: int
    sparse_steps: int


TMN_EFFORTS: Mapping[Effort, Mapping[str, int | float]] = MappingProxyType(
    {
        "quick": {
            "selection_rounds": 3,
            "steps": 11,
            "runner_up_classes": 0,
            "noise": 0.0,
            "bracket_steps": 8,
            "restarts": 1,
            "restart_steps": 12,
            "sparse_restarts": 2,
            "sparse_steps": 22,
        },
        "standard": {},
        "thorough": {
            "steps": 75,
            "runner_up_classes": 2,
            "restarts": 10,
            "restart_steps": 32,
            "sparse_restarts": 11,
            "sparse_steps": 33,
        },
    }
)
"""What each effort sets, by keyword of `tmn`; the rest is as in its signature."""
TMN_IDLE: Mapping[Norm, tuple[str, ...]] = MappingProxyType(
    {
        "linf": ("sparse_restarts", "sparse_steps"),
        "l2": ("sparse_restarts", "sparse_steps"),
        "l1": ("selection_rounds", "steps", "runner_up_classes", "noise"),
        "l0": ("selection_rounds", "steps", "runner_up_classes", "noise", "bracket_steps", "restarts", "restart_steps"),
    }
)
"""The keywords of `tmn` that change nothing in a norm."""


@dataclass(frozen=True, slots=True, eq=False)
class Finds(Candidates):
    """What the race claims, and what it says of the search.

    Attributes
    ----------
    rough : Tensor
        (N,) bool: the network is far from linear around the sample; in l0 and l1 every sample counts as rough.

    """

    rough: Tensor


def tmn(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    sample_ids: Tensor,
    *,
    norm: Norm,
    seed: int = 0,
    classes: int = 9,
    selection_rounds: int = 6,
    steps: int = 27,
    runner_up_classes: int = 1,
    noise: float = 1.0,
    bracket_steps: int = 9,
    restarts: int = 2,
    restart_steps: int = 23,
    sparse_restarts: int = 3,
    sparse_steps: int = 28,
    targets: Tensor | None = None,
) -> Finds:
    """Return the nearest points met that the network takes for another class than the label; `verify` checks them.

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
        Consider at most this many classes, those with the largest logits.
    selection_rounds : int
        Passes of each class in the race, at most.
    steps : int
        Passes of the descent of a smooth sample whose gradients agree as much as is usual; others take between a third
        of it and three times as many. With `runner_up_classes`, descents share one and a half times this.
    runner_up_classes : int
        Where the winner of the race surprises, so many classes more get a descent, from the best point: those that
        the network finds likeliest there.
    noise : float
        What the descent of a smooth sample starts with: 1 is the usual, 0 none.
    bracket_steps, restarts, restart_steps : int
        For a rough sample: passes from the sounding to a first adversarial; descents, each from another side; and
        passes of each, and of FMN's search at the end: they fail on different samples.
    sparse_restarts, sparse_steps : int
        In l0 and l1: starts that draw corners of the box, and passes of each. Where gradients are wrong about entries,
        and where the first start leads astray, l0 tries entries one by one instead, for about as many passes; where
        that finds nothing, for twice as many, and then the starts follow. In the end it takes back what can be spared,
        in up to 12 passes. In l1 samples that are led astray, or are nearer than the span of one entry, go the way of
        rough samples, with fewer and longer descents; of the others, a third of many starts is left to FMN.
    targets : Tensor, optional
        (N,) classes to reach, each other than the label; any other class will do without.

    Notes
    -----
    Newton steps on the length and normalised gradients are those of minimum-norm attacks since FMN (Pintor et al.,
    NeurIPS 2021) and DDN (Rony et al., CVPR 2019). Entries are tried one by one in CornerSearch (Croce and Hein, ICCV
    2019), there without gradients. The sounding, the best-first race, the noise, a descent's length by the agreement of
    gradients, and the corners are thinice's own.

    Examples
    --------
    >>> plane = torch.tensor([[1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, -1.0]])
    >>> inputs, first = torch.full((1, 1, 2, 2), 0.6), torch.tensor([0])
    >>> finds = tmn(lambda inputs: (inputs.flatten(1) - 0.5) @ plane.T, inputs, first, first, norm="l2")
    >>> f"{(finds.candidates - inputs).norm().item():.2f}"
    '0.20'

    """
    with torch.no_grad():
        logits = model(inputs)
    clean = logits.argmax(1)
    done = logits.isnan().any(1) | (clean != labels if targets is None else clean == targets)
    candidates, evaluations = inputs.clone(), torch.full((len(inputs),), FORWARD, device=inputs.device)
    converged, rough, gradient_masked = torch.zeros_like(done), torch.zeros_like(done), torch.zeros_like(done)
    who = (~done).nonzero().squeeze(1)
    if len(who) and logits.shape[1] > 1:
        goals = None if targets is None else targets[who]
        search = Search(model, inputs[who], labels[who], sample_ids[who], norm=norm, seed=seed, targets=goals)
        budget = Budget(
            classes=classes,
            selection_rounds=selection_rounds,
            steps=steps,
            runner_up_classes=runner_up_classes,
            noise=noise,
            bracket_steps=bracket_steps,
            restarts=restarts,
            restart_steps=restart_steps,
            other_steps=restart_steps,
            sparse_restarts=sparse_restarts,
            sparse_steps=sparse_steps,
        )
        way = _search_corners if search.sparse else _search
        settled, rough[who], gradient_masked[who] = way(search, budget)
        converged[who] = settled & search.best.isfinite() & ~gradient_masked[who]
        candidates[who] = (search.flat + search.best_delta).clamp(0, 1).view_as(inputs[who])
        evaluations[who] += search.evaluations
    return Finds(candidates, evaluations, rough, converged=converged, gradient_masked=gradient_masked)


def _search(search: Search, budget: Budget) -> tuple[Tensor, Tensor, Tensor]:
    """Run all stages; return which samples have settled, are rough, and have no gradient to go by, (N,) bool each."""
    field, distances, nearest = _screen(search, budget.classes)
    doubt, soundings = _sound(search, field, nearest)
    rough = (doubt > ROUGH) | search.sparse  # with few entries to choose, sides matter more than classes
    rough |= nearest >= search.limit  # no plane crosses the box: gradients that have all but vanished tell nothing
    gradient_masked = ~(nearest < VANISHED * search.norm.length(torch.ones_like(search.flat)))  # true of NaN, too
    settled = torch.zeros_like(rough)
    smooth = (~rough).nonzero().squeeze(1)
    if len(smooth):
        winners, surprise = _race(search, field, distances, doubt=doubt, smooth=~rough, rounds=budget.selection_rounds)
        rivals = min(budget.runner_up_classes, distances.shape[1] - 1)  # none where a class is asked for
        settled[smooth] = _descend(search, winners, surprise, replace(budget, runner_up_classes=rivals))
    rough |= ~(search.best >= NEARER * distances[:, :SEEN].amin(1)) | search.best.isinf()
    uneasy = rough.nonzero().squeeze(1)
    if len(uneasy):
        first = field.momentum.view(*distances.shape, -1)[:, :SEEN]
        sides, steps = budget.restarts, budget.restart_steps
        settled[uneasy] = explore(
            search, soundings[uneasy], first, distances[:, :SEEN], walk=budget.bracket_steps, sides=sides, steps=steps
        )
        if search.targets is None and budget.other_steps:
            settled[uneasy] = another_way(search, uneasy, settled[uneasy], steps=budget.other_steps)
    return settled, rough, gradient_masked


def _search_corners(search: Search, budget: Budget) -> tuple[Tensor, Tensor, Tensor]:
    """Do the same in l0 and l1: draw corners; where these lead astray, search as elsewhere, or in l0 entry by entry."""
    others = (
        budget.sparse_restarts * budget.sparse_steps // 3 if search.norm.name == "l1" and search.targets is None else 0
    )
    others = others if others >= WORTH else 0
    starts = budget.sparse_restarts - math.ceil(others / budget.sparse_steps)
    settled, gradient_masked, astray = draw_corners(
        search, classes=budget.classes, starts=starts, steps=budget.sparse_steps
    )
    left = max(1, (budget.sparse_restarts - 1) * budget.sparse_steps)
    untouched = search.best.isinf()
    if search.norm.name == "l0":
        if astray.any():
            add_entries(search, astray.nonzero().squeeze(1), left)
        settled &= ~drop_entries(search, DROPS)
    else:
        first, again = budget.restart_steps * (budget.restarts + 1), max(1, left - budget.bracket_steps)
        for group, total in ((astray & untouched, first), (astray & ~untouched, again)):
            who = group.nonzero().squeeze(1)
            if len(who):
                part = search.part(who)
                ended, _, gradient_masked[who] = _search(
                    part, _sparse_budget(budget, total, untargeted=search.targets is None)
                )
                settled[who] = ended & (part.best <= (1 + SAME) * search.best[who])
                search.take(who, part)
        who = (~astray & ~gradient_masked).nonzero().squeeze(1)
        if len(who) and others:
            settled[who] = another_way(search, who, settled[who], steps=others)
    return settled, torch.ones_like(settled), gradient_masked


def _sparse_budget(budget: Budget, total: int, *, untargeted: bool) -> Budget:
    """Return what l1 spends on rough samples: thirds for few descents, the rest in FMN's way, if that is enough for it.

    FMN knows no targets. With few entries to choose, long descents do more than many.
    """
    sides = max(1, budget.restarts // 5)
    steps = max(1, total // 3)
    others = total - sides * steps
    if others < WORTH or not untargeted:
        steps, others = max(1, total // sides), 0
    return replace(budget, restarts=sides, restart_steps=steps, other_steps=others)


def _screen(search: Search, classes: int) -> tuple[Rows, Tensor, Tensor]:
    """Return a row per sample and class; their distances (N, M); the least without the box.

    Rows of the classes with the largest logits stand on their first step. The others wait at the input, with the least
    distance that they may well have: slopes differ little.
    """
    everyone = torch.arange(len(search.limit), device=search.limit.device)
    order, gaps, gradients = search.differences(everyone, classes, SEEN)
    count, seen = order.shape[1], gradients.shape[1]
    slope = search.norm.dual_length(gradients.flatten(0, 1)).clamp_(min=TINY).view(-1, seen)
    steepest = (STEEPER * slope.amax(1, keepdim=True)).expand(-1, count - seen)
    boundless = -gaps / torch.cat([slope, steepest], 1)
    nowhere = torch.zeros_like(search.flat).repeat_interleave(count, 0)
    field = search.rows(everyone.repeat_interleave(count), order.flatten(), nowhere)
    field.gap, field.estimate = gaps.flatten(), search.within(field.sample, boundless.flatten())
    index = torch.arange(len(field), device=field.sample.device).view(-1, count)[:, :seen].flatten()
    rows, flat = field[index], gradients.flatten(0, 1)
    rows.momentum = (1 - search.memory) * flat / slope.view(-1, 1)
    if search.sparse:  # few entries, which the box stops early: the exact crossing of the plane within the box
        rows.delta = search.norm.cross(-flat, -rows.gap * BEYOND, search.flat[rows.sample])
        rows.estimate = search.within(rows.sample, search.norm.length(rows.delta))
    else:
        search.move(rows, rows.estimate * HAIR, 2.0)
    field.put(index, rows)
    return field, field.estimate.view(-1, count).clone(), boundless[:, :seen].amin(1)


def _sound(search: Search, field: Rows, nearest: Tensor) -> tuple[Tensor, Rows]:
    """Return how much one random point contradicts the screen, |log| (N,); and rows at that point, towards any class.

    A quarter of the first step away in a random direction, the boundary's tangent plane should lie as far from the
    sample as the screen said.
    """
    count = len(field) // len(nearest)
    everyone = field.sample[::count]
    closest = field.estimate.view(-1, count)[:, :SEEN].argmin(1)
    first = torch.linalg.vector_norm(field.delta[everyone * count + closest], dim=1)
    signs = search.signs(everyone)
    away = signs * (first / 4 / signs.shape[1] ** 0.5)[:, None]
    target = torch.full_like(everyone, ANY) if search.targets is None else search.targets[everyone]
    rows = search.rows(everyone, target, away)
    search.look(rows)
    seen = (rows.momentum * rows.delta).sum(1) / (1 - search.memory) - rows.ahead
    doubt = (seen / nearest).nan_to_num(0, posinf=torch.inf).clamp(min=TINY).log().abs()
    return doubt, rows


def _race(
    search: Search, field: Rows, distances: Tensor, *, doubt: Tensor, smooth: Tensor, rounds: int
) -> tuple[Rows, Tensor]:
    """Return the winning row of each smooth sample, and by how much it lies nearer than was screened, log.

    Best first: a class joins once its screened distance is within reach of the leader, and leaves when its estimate
    falls behind. What the steps so far have surprised by widens both.
    """
    nearest, keep = distances[:, :SEEN].amin(1, keepdim=True), KEEP[search.norm.name]
    looks = torch.zeros_like(distances)
    looks[:, SEEN:] = -1  # the first look at these is their screen
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
        distances = torch.where(active & (looks == 0), estimate, distances)
        lead, leader = torch.where(looks > 0, estimate.nan_to_num(torch.inf), torch.inf).min(1, keepdim=True)
        nearer = (distances.gather(1, leader) / lead).log().clamp(min=0)
        joins = (looks <= 0) & (distances <= torch.maximum(lead, nearest) * (SLACK + nearer + doubt[:, None] / 2))
        hope = torch.where(looks > 1, field.unrest.view_as(distances) / 2, keep - 1)
        stays = (looks > 0) & (estimate * torch.exp(-hope) <= keep * lead)
        active = (joins | stays) & smooth[:, None]
        active &= (active.sum(1, keepdim=True) > 1) | (looks.gather(1, leader) < 2)  # a lone leader is decided
    who = smooth.nonzero().squeeze(1)
    winners = field[who * distances.shape[1] + leader[who, 0]]
    return winners, (distances[who, leader[who, 0]] / winners.estimate).log()


def _descend(search: Search, rows: Rows, surprise: Tensor, budget: Budget) -> Tensor:
    """Descend from the race's end, the more slowly the less the next gradient agrees with the direction so far."""
    search.draw = 100
    name = search.norm.name
    direction, stride = search.norm.steepest(rows.momentum), STRIDES[name]
    last = search.memory * rows.momentum
    search.move(rows, search.look(rows), stride)
    missed = 1 - ((rows.momentum - last) * direction).sum(1) / (1 - search.memory)
    pace = (missed.nan_to_num(1).clamp(min=TINY) / USUAL).pow(CARE).clamp(1 / RANGE, RANGE)
    contested = (surprise > SURPRISE[name]) & (budget.runner_up_classes > 0)
    pace = torch.where(contested, pace.clamp(min=1) * SHARED / (1 + budget.runner_up_classes), pace)
    steps = (budget.steps * pace).round().long().clamp(min=1)
    noise = budget.noise * NOISE[name] * (steps / FULL).clamp(max=1)
    settled = anneal(search, rows, steps, stride=stride, noise=noise)
    index = contested.nonzero().squeeze(1)
    who, steps, noise = rows.sample[index], steps[index], noise[index]
    for rank in range(1, 1 + budget.runner_up_classes if len(who) else 1):
        search.draw = 10_000 * rank
        best = search.best[who]
        again = search.rows(who, search.rival(who, rank), search.best_delta[who])
        again.crossed = best.isfinite()
        ended = anneal(search, again, steps, stride=stride, noise=noise)
        settled[index] = torch.where(search.best[who] < (1 - SAME) * best, ended, settled[index])
    return settled
