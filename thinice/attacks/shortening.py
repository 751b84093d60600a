"""Adversarials brought nearer by any means, also without a gradient: they serve where no search has found any."""

from __future__ import annotations

import torch
from torch import Tensor

from thinice.attacks.lost import Lost, column
from thinice.norms import NORM_TABLE
from thinice.types import NORMS

__all__ = ["back", "shortened"]

GRID, BISECTIONS, TANGENTS = 8, 12, 6
"""Passes along the way to the sample, first coarse, then fine; and looks at the plane of the boundary."""
STRIDES = (2.0, 1.0, 0.5, 0.2)
"""Steps downhill along the boundary, in units of the length; each may shorten by a tenth of itself."""
DENSE = {norm: NORM_TABLE["linf" if norm == "linf" else "l2"] for norm in NORMS}
"""The norm that says which way is downhill: all entries move, also where the norm itself would move one."""
PROBES, FEELER = 40, 0.1
"""Points that feel for the plane where there is no gradient; how far away, in units of the largest change."""
BLOCKS = (2, 4, 8, 16)
"""Into so many parts the perturbation is cut, to find those that it does not need."""


def shortened(lost: Lost, points: Tensor) -> Tensor:
    """Return adversarials on the boundary, shorter than these; a sample itself stays as it is."""
    result = points.clone()
    which = (points != lost.inputs).flatten(1).any(1).nonzero().squeeze(1)
    if len(which):
        some = lost[which]
        found = _without_the_useless(some, _by_tangents(some, back(some, points[which], grid=True)))
        result[which] = back(some, found, grid=False)
    return result


def back(lost: Lost, points: Tensor, *, grid: bool, bisections: int = BISECTIONS) -> Tensor:
    """Return where the way from the sample to each adversarial crosses the boundary: first, as far as a grid shows."""
    low, high = torch.zeros_like(lost.labels).float(), torch.ones_like(lost.labels).float()
    if grid:
        for k in reversed(range(1, GRID)):
            there = lost.across(lost.row.path(lost.inputs, points, torch.full_like(high, k / GRID)))
            high = torch.where(there, k / GRID, high)
        low = high - 1 / GRID
    for _ in range(bisections):
        middle = (low + high) / 2
        there = lost.across(lost.row.path(lost.inputs, points, middle))
        low, high = torch.where(there, low, middle), torch.where(there, middle, high)
    return torch.where(column(high < 1, points), lost.row.path(lost.inputs, points, high), points).clamp(0, 1)


def _by_tangents(lost: Lost, points: Tensor) -> Tensor:
    """Return points brought nearer by crossing, from the sample, the plane that touches the boundary at each.

    Where there is no gradient, what lies on which side around the point says how the plane lies, as in HopSkipJump
    (Chen, Jordan and Wainwright, S&P 2020).
    """
    for round_ in range(TANGENTS):
        _, lead, gradient = lost.slope(lost.precise, points)
        blind = ~(gradient.isfinite().all(1) & (gradient != 0).any(1))
        which = blind.nonzero().squeeze(1)
        if len(which):
            gradient[which], lead[which] = _felt(lost[which], points[which], 1000 + PROBES * round_), 0
        rise = lead + (gradient * (lost.inputs - points).flatten(1)).sum(1)
        usable = (rise > 0) & rise.isfinite()
        gradient = torch.where(usable[:, None], gradient, 0).view_as(points)
        crossing = lost.inputs + lost.row.cross(gradient, torch.where(usable, 1.001 * rise, 0), lost.inputs)
        points = _if_nearer(lost, crossing.clamp(0, 1), points)
        for stride in STRIDES:
            delta = points - lost.inputs
            downhill = -DENSE[lost.row.name].steepest(gradient) * column(DENSE[lost.row.name].length(delta), delta)
            moved = lost.row.project(delta + stride * downhill, (1 - stride / 10) * lost.row.length(delta))
            points = _if_nearer(lost, (lost.inputs + moved).clamp(0, 1), points)
        points = back(lost, points, grid=False)
    return points


def _felt(lost: Lost, points: Tensor, draw: int) -> Tensor:
    """Return how the margin falls around points on the boundary (N, D): the mean of the directions that stay across."""
    reach = FEELER * (points - lost.inputs).flatten(1).abs().amax(1)
    slope, mean = torch.zeros_like(points), torch.zeros_like(points)
    sides = torch.zeros_like(reach)
    for probe in range(PROBES):
        direction = lost.noise(draw + probe)
        side = 1 - 2 * lost.across((points + column(reach, points) * direction).clamp(0, 1)).float()
        slope, mean, sides = slope + column(side, points) * direction, mean + direction, sides + side
    return (slope - column(sides / PROBES, points) * mean).flatten(1)


def _without_the_useless(lost: Lost, points: Tensor) -> Tensor:
    """Return points without parts of the perturbation that are not needed; for linf, where all pay the same, turned.

    Turning parts in ever smaller blocks is the way of RayS (Chen and Gu, KDD 2020).
    """
    size = points[0].numel()
    for parts in BLOCKS:
        for part in range(parts):
            inside = torch.zeros(size, dtype=torch.bool, device=points.device)
            inside[part * size // parts : (part + 1) * size // parts] = True
            delta = points - lost.inputs
            other = torch.where(inside.view(points.shape[1:]), -delta if lost.row.name == "linf" else 0, delta)
            shorter = lost.row.project(other, 0.98 * lost.row.length(delta))
            points = _if_nearer(lost, (lost.inputs + shorter).clamp(0, 1), points)
    return points


def _if_nearer(lost: Lost, points: Tensor, than: Tensor) -> Tensor:
    """Return the points that are across and shorter than others, else those others."""
    shorter = lost.row.length(points - lost.inputs) < lost.row.length(than - lost.inputs)
    return torch.where(column(lost.across(points) & shorter, points), points, than)
