"""One descent along the boundary, annealed: strides and noise fade from wide to none."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from thinice.attacks.search import BEYOND, Rows, Search

__all__ = ["anneal"]

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
