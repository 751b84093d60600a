"""One descent along the boundary, annealed: strides and noise fade from wide to none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from thinice.attacks.fmn import fmn
from thinice.attacks.tmn.state import BEYOND, SAME, Rows, Search

__all__ = ["anneal", "another_way", "explore"]

FADED = 0.6
"""Noise has faded to nothing after this share of a descent."""


def anneal(
    search: Search, rows: Rows, steps: Tensor, *, stride: float, noise: Tensor, trust: float | None = None
) -> Tensor:
    """Descend in so many `steps` (R,) with strides and noise (R,) that fade; return which have settled.

    Settled is what found, and changed under 1 % in the last quarter. `trust` limits by how much a radius may differ
    from the last, and fades too.
    """
    settled, on = torch.zeros_like(rows.crossed), torch.arange(len(rows), device=steps.device)
    ends, before, loud = sorted(set(steps.tolist())), rows.best, bool((noise > 0).any())
    for k in range(ends[-1]):
        share = k / steps
        fade = (1 + torch.cos(math.pi * share)) / 2
        radius = search.look(rows)
        if trust is not None:
            known = torch.minimum(rows.length, BEYOND * torch.minimum(rows.best, search.best[rows.sample]))
            change = 0.01 + (trust - 0.01) * fade
            radius = search.within(rows.sample, radius.clamp(known * (1 - change), known * (1 + change)))
        before = torch.where(4 * (k + 1) <= 3 * steps, rows.best, before)
        shake = noise * (1 - share / FADED).clamp(min=0) if loud and k < FADED * ends[-1] else None
        search.move(rows, radius, 0.01 + (stride - 0.01) * fade, shake)
        if k + 1 in ends:
            search.keep(rows)
            settled[on] = rows.best.isfinite() & (rows.best >= 0.99 * before)
            left = (steps > k + 1).nonzero().squeeze(1)
            rows, on, steps, noise, before = rows[left], on[left], steps[left], noise[left], before[left]
    return settled


WIDE: Mapping[str, float] = MappingProxyType({"linf": 2.0, "l2": 2.0, "l1": 1.0})
"""How far the first step of a descent goes, in units of the radius."""


def explore(
    search: Search,
    soundings: Rows,
    first: Tensor,
    distances: Tensor,
    *,
    walk: int,
    sides: int,
    steps: int,
) -> Tensor:
    """Descend from so many sides: from soundings, then in turn from near classes, from noise, and from the best point.

    From the best point it descends towards rivals of the class there, but where a class is asked for. `first` (N, S, D)
    holds directions at the sample towards classes at `distances` (N, S). Return which have settled: the last descent
    from elsewhere ended as near as any, and none from the best point came nearer.
    """
    search.draw = 100_000
    who, target = soundings.sample, soundings.target
    _walk(search, soundings, walk)
    order = distances[who].argsort(dim=1, stable=True)
    paces = torch.full_like(who, steps)
    settled = torch.zeros_like(soundings.crossed)
    stride, noise = WIDE[search.norm.name], torch.full_like(soundings.length, 0.5)
    for start in range(sides):
        search.draw = 100_000 + 1000 * (start + 1)
        best = search.best[who]
        scale = torch.where(best.isfinite(), best, search.limit[who] / 2)
        side, towards = start % 3, target
        if start == 0:
            delta = torch.where(best.isfinite()[:, None], search.best_delta[who], soundings.delta)
        elif side == 1:
            classes = order[:, start // 3 % order.shape[1]]
            delta = search.norm.project(scale[:, None] * search.norm.steepest(first[who, classes]), scale)
        elif side == 2:
            delta = search.noise(who, 2 * scale)
        else:
            delta = torch.where(best.isfinite()[:, None], search.best_delta[who], search.noise(who, scale))
            rank = 2 - start // 3 % 2  # in turn the likeliest after the class that was reached, and the next
            towards = search.rival(who, rank) if search.targets is None else target
        rows = search.rows(who, towards, delta)
        again = start > 0 and side == 0
        rows.crossed = best.isfinite() if again else ~rows.crossed
        ended = anneal(search, rows, paces, stride=stride, noise=noise, trust=0.5)
        if again:  # it has met the best point, which proves nothing
            settled &= search.best[who] >= (1 - SAME) * best
        else:
            settled = ended & (rows.best <= (1 + SAME) * search.best[who])  # all have as many steps: still these rows
    return settled


def another_way(search: Search, who: Tensor, settled: Tensor, *, steps: int) -> Tensor:
    """Search these samples as FMN does, and keep what is nearer; return which have settled.

    Those are where it ends as near as what was known, and those `settled` (R,) before where it comes no nearer.
    """
    inputs = search.flat[who].view(-1, *search.shape)
    ids, labels = search.sample_ids[who], search.labels[who]
    claims = fmn(search.model, inputs, labels, ids, norm=search.norm.name, steps=steps, seed=search.seed)
    search.evaluations[who] += claims.evaluations
    delta, known = (claims.candidates - inputs).flatten(1), search.best[who]
    length = search.norm.length(delta)
    length = torch.where(length > 0, length, torch.inf)  # where it found nothing, it claims the input
    nearer = (length < known).nonzero().squeeze(1)
    search.best[who[nearer]], search.best_delta[who[nearer]] = length[nearer], delta[nearer]
    change = (length / known).nan_to_num(torch.inf).log()
    return (change.abs() < SAME) | (settled & (change > 0))


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
