"""One table row per norm: how long a perturbation is, how it shrinks, and the shortest way across a plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from thinice.numerics import column
from thinice.types import Norm

__all__ = ["NORM_TABLE", "NormRow"]


@dataclass(frozen=True, slots=True)
class NormRow:
    """Everything that an attack has to know of a norm; perturbations and gradients are (N, …) tensors.

    Attributes
    ----------
    name, dual
        The norm, and the one that measures gradients. ``l0`` has no true dual; ``linf`` stands in, because one
        changed entry moves at most by the width of the box, 1, and so gains at most ``|gradient|_inf``.
    length
        ``length(delta)``: the norm of each sample's perturbation, (N,).
    steepest
        ``steepest(gradient)``: the step of length 1 along which a linear function with this gradient rises most;
        zero where the gradient is zero.
    project
        ``project(delta, radius)``: the nearest perturbation (Euclidean) within ``radius``, a length (N,) for each
        sample; a perturbation that is short enough already comes back as it is. ``l0`` keeps the ``floor(radius)``
        largest entries.
    confine
        ``confine(delta, radius, inputs)``: the same, with ``inputs + delta`` inside the box [0, 1] too: the nearest
        such perturbation, but for ``l2``, where the one that is shrunk and then clipped is near enough.
    cross
        ``cross(gradient, drop, inputs)``: the shortest perturbation inside the box that lowers a linear function
        with this gradient by ``drop`` (N,), and as far as the box goes where none lowers it enough.

    Examples
    --------
    >>> row = NORM_TABLE["l2"]
    >>> delta = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    >>> row.length(delta)
    tensor([5.0000, 0.5000])
    >>> row.project(delta, torch.tensor([1.0, 1.0]))
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """

    name: Norm
    dual: Norm
    length: Callable[[Tensor], Tensor]
    steepest: Callable[[Tensor], Tensor]
    project: Callable[[Tensor, Tensor], Tensor]
    confine: Callable[[Tensor, Tensor, Tensor], Tensor]
    cross: Callable[[Tensor, Tensor, Tensor], Tensor]

    def dual_length(self, gradient: Tensor) -> Tensor:
        """Return the dual norm of each sample's gradient, (N,): what one unit of length gains at most."""
        return NORM_TABLE[self.dual].length(gradient)

    def path(self, inputs: Tensor, adversarials: Tensor, fraction: Tensor) -> Tensor:
        """Return the points (N, …) on the way from ``inputs`` (fraction 0) to ``adversarials`` (fraction 1).

        The way is the perturbation projected into balls that grow, so that at each point of it the length is
        ``fraction`` (N,) times the whole length (``l0``: rounded down); for ``l2`` that is the straight line.
        """
        delta = adversarials - inputs
        return inputs + self.project(delta, fraction * self.length(delta))


def _l0_length(delta: Tensor) -> Tensor:
    return delta.flatten(1).count_nonzero(1).to(delta.dtype)


def _l1_length(delta: Tensor) -> Tensor:
    return delta.flatten(1).abs().sum(1)


def _l2_length(delta: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    return length


def _linf_length(delta: Tensor) -> Tensor:
    return delta.flatten(1).abs().amax(1)


def _one_entry(gradient: Tensor) -> Tensor:
    """Return the step that moves the one entry with the largest gradient by 1."""
    flat = gradient.flatten(1)
    largest = flat.abs().argmax(1, keepdim=True)
    return torch.zeros_like(flat).scatter_(1, largest, flat.gather(1, largest).sign()).view_as(gradient)


def _unit(gradient: Tensor) -> Tensor:
    """Return the gradient scaled to Euclidean length 1."""
    length = _l2_length(gradient)
    return gradient / column(torch.where(length > 0, length, 1), gradient)


def _threshold(like: Tensor, enough: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the largest threshold (N, 1) from 0 on that is still enough for its row, exact to the last bit.

    Non-negative floats are ordered as their bits are, so the bits are found from the highest to the lowest. On a
    processor that takes a tenth of the time of sorting the rows, which an attack would have to do at each step.
    """
    bits = {torch.float32: torch.int32, torch.float64: torch.int64}[like.dtype]
    found = torch.zeros(len(like), 1, dtype=bits, device=like.device)
    for bit in reversed(range(torch.iinfo(bits).bits - 1)):
        trial = found | (1 << bit)
        found = torch.where(enough(trial.view(like.dtype)), trial, found)
    return found.view(like.dtype)


def _largest(sizes: Tensor, count: Tensor) -> Tensor:
    """Return where the ``count`` (N, 1) largest of the sizes (N, D) are; of equal ones the first count."""
    places = count.floor().clamp(max=sizes.shape[1])
    # counting in floats, in place, takes a fifth of the time that counting booleans takes
    smallest = _threshold(sizes, lambda threshold: sizes.clone().ge_(threshold).sum(1, keepdim=True) >= places)
    larger, equal = sizes > smallest, sizes == smallest
    return larger | (equal & (equal.cumsum(1) <= places - larger.sum(1, keepdim=True)))


def _keep_largest(delta: Tensor, radius: Tensor) -> Tensor:
    flat = delta.flatten(1)
    return torch.where(_largest(flat.abs(), radius[:, None]), flat, 0).view_as(delta)


def _keep_best_inside(delta: Tensor, radius: Tensor, inputs: Tensor) -> Tensor:
    """Return the clipped entries that bring the perturbation nearest: a long way to go counts, and room to go it."""
    clipped = _clip(delta, inputs)
    gains = clipped * (2 * delta - clipped)
    return torch.where(_largest(gains.flatten(1), radius[:, None]).view_as(delta), clipped, 0)


def _soften(delta: Tensor, radius: Tensor) -> Tensor:
    """Return all entries shrunk by one threshold (Duchi et al., ICML 2008)."""
    flat = delta.flatten(1)
    sizes, limit = flat.abs(), radius[:, None]
    threshold = _threshold(sizes, lambda threshold: (sizes - threshold).clamp_(min=0).sum(1, keepdim=True) >= limit)
    threshold = torch.where(sizes.sum(1, keepdim=True) > limit, threshold, 0)
    return (flat.sign() * sizes.sub_(threshold).clamp_(min=0)).view_as(delta)


def _soften_inside(delta: Tensor, radius: Tensor, inputs: Tensor) -> Tensor:
    """Return all entries shrunk by one threshold, then clipped: what is clipped leaves length to the others."""
    flat, start = delta.flatten(1), inputs.flatten(1)
    sizes, room, limit = flat.abs(), _room(-flat, start), radius[:, None]

    def shrunk(threshold: Tensor) -> Tensor:
        return (sizes - threshold).clamp_(min=0).minimum(room)

    threshold = _threshold(sizes, lambda threshold: shrunk(threshold).sum(1, keepdim=True) >= limit)
    return (flat.sign() * shrunk(threshold)).view_as(delta)


def _shrink(delta: Tensor, radius: Tensor) -> Tensor:
    length = _l2_length(delta)
    return delta * column(torch.where(length > radius, radius / length, 1), delta)


def _shrink_inside(delta: Tensor, radius: Tensor, inputs: Tensor) -> Tensor:
    return _clip(_shrink(delta, radius), inputs)


def _clamp(delta: Tensor, radius: Tensor) -> Tensor:
    limit = column(radius, delta)
    return delta.clamp(-limit, limit)


def _clamp_inside(delta: Tensor, radius: Tensor, inputs: Tensor) -> Tensor:
    return _clip(_clamp(delta, radius), inputs)


def _clip(delta: Tensor, inputs: Tensor) -> Tensor:
    return (inputs + delta).clamp_(0, 1).sub_(inputs)


def _room(gradient: Tensor, inputs: Tensor) -> Tensor:
    """Return how far each entry can go against the gradient before it leaves [0, 1]."""
    return torch.where(gradient > 0, inputs, 1 - inputs)


def _l0_cross(gradient: Tensor, drop: Tensor, inputs: Tensor) -> Tensor:
    """Return the entries that gain most, as few as needed, moved to the edge of the box."""
    flat, wanted = gradient.flatten(1), drop[:, None]
    room = _room(flat, inputs.flatten(1))
    gains = flat.abs() * room

    def gained(threshold: Tensor) -> Tensor:
        return torch.where(gains >= threshold, gains, 0).sum(1, keepdim=True)

    smallest = _threshold(gains, lambda threshold: gained(threshold) >= wanted)
    larger = gains > smallest
    missing = wanted - torch.where(larger, gains, 0).sum(1, keepdim=True)
    count = larger.sum(1, keepdim=True) + torch.where(smallest > 0, missing / smallest, torch.inf).ceil()
    moved = _largest(gains, count) & (gains > 0)
    return torch.where(moved, -flat.sign() * room, 0).view_as(gradient)


def _l1_cross(gradient: Tensor, drop: Tensor, inputs: Tensor) -> Tensor:
    """Return the steepest entries moved to the edge of the box, and the last, all equally steep ones, in part."""
    flat, wanted = gradient.flatten(1), drop[:, None]
    slopes, room = flat.abs(), _room(flat, inputs.flatten(1))
    gains = slopes * room

    def gained(threshold: Tensor) -> Tensor:
        return torch.where(slopes >= threshold, gains, 0).sum(1, keepdim=True)

    last = _threshold(slopes, lambda threshold: gained(threshold) >= wanted)
    before = torch.where(slopes > last, gains, 0).sum(1, keepdim=True)
    at_last = torch.where(slopes == last, gains, 0).sum(1, keepdim=True)
    part = torch.where(at_last > 0, (wanted - before) / at_last, 0).clamp_(0, 1)
    moved = torch.where(slopes > last, room, torch.where(slopes == last, part * room, 0))
    return (-flat.sign() * moved).view_as(gradient)


def _cross_at_speed(gradient: Tensor, drop: Tensor, inputs: Tensor, speed: Tensor) -> Tensor:
    """Return the crossing in which all entries (N, D) move at once, each at its speed until it meets the box."""
    slopes, room, wanted = gradient.abs(), _room(gradient, inputs), drop[:, None]

    def gained(time: Tensor) -> Tensor:
        return (time * speed).minimum(room).mul_(slopes).sum(1, keepdim=True)

    time = _threshold(slopes, lambda time: gained(time) <= wanted)
    return -gradient.sign() * torch.minimum(time * speed, room)


def _l2_cross(gradient: Tensor, drop: Tensor, inputs: Tensor) -> Tensor:
    flat = gradient.flatten(1)
    return _cross_at_speed(flat, drop, inputs.flatten(1), flat.abs()).view_as(gradient)


def _linf_cross(gradient: Tensor, drop: Tensor, inputs: Tensor) -> Tensor:
    flat = gradient.flatten(1)
    return _cross_at_speed(flat, drop, inputs.flatten(1), torch.ones_like(flat)).view_as(gradient)


_ROWS = (
    NormRow("l0", "linf", _l0_length, _one_entry, _keep_largest, _keep_best_inside, _l0_cross),
    NormRow("l1", "linf", _l1_length, _one_entry, _soften, _soften_inside, _l1_cross),
    NormRow("l2", "l2", _l2_length, _unit, _shrink, _shrink_inside, _l2_cross),
    NormRow("linf", "l1", _linf_length, torch.sign, _clamp, _clamp_inside, _linf_cross),
)
NORM_TABLE: Mapping[Norm, NormRow] = MappingProxyType({row.name: row for row in _ROWS})
