"""Linear bounds of a network over a ball (CROWN): every operation replaced by two lines that enclose it, backwards.

Over the points of the box [0, 1] within a radius of an input, each ReLU lies between two lines that its own input's
bounds give. With these lines in place of the ReLUs, a network is linear, and its least value over the ball is a matter
of dual norms. The lines are drawn from the first operation to the last: the bounds of each ReLU's input come from the
same calculation on the network up to there. Where intervals alone tell that a unit is always or never active, that is
left out.

What is bounded is not only the exact network: the result of each operation may in addition be off by as much as float32
rounds it (`Operation.rounding`). Such errors count against the bound, each multiplied with its coefficient.

References
----------
H. Zhang et al., "Efficient neural network robustness certification with general activation functions", NeurIPS 2018,
arXiv:1811.00866.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from thinice.certification.graph import MOVES, Graph, Operation
from thinice.types import Norm

__all__ = ["DUAL_NORMS", "Relaxation", "greatest_drop", "samples_at_once"]

DUAL_NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
"""Norms with a dual one, which measures how far a linear function falls."""

ENTRIES, GPU_ENTRIES = 2**22, 2**26
"""Coefficients that are held at once for the widest operation, in float64: some of them several times."""
L2_ROUNDS = 8


class Lines(NamedTuple):
    """Lines below (``slope x``) and above (``slope x + offset``) each ReLU (N, entries)."""

    lower_slope: Tensor
    upper_slope: Tensor
    upper_offset: Tensor


@dataclass(slots=True, eq=False)
class Relaxation:
    """Linear bounds of a graph over the points of the box within a radius of each input.

    Parameters
    ----------
    graph
        The network.
    inputs, radius
        (N, C, H, W) in [0, 1] in float64, and (N,) of at least 0.
    norm
        ``"l1"``, ``"l2"`` or ``"linf"``.
    intervals_only
        Whether the lines are drawn from intervals: much looser, and done in a few passes.

    Attributes
    ----------
    passes
        How many linear bounds were computed for each sample (N,); one through a part of the graph counts as its share
        of the work. With `intervals_only`, what it would have taken.
    """

    graph: Graph
    inputs: Tensor
    radius: Tensor
    norm: Norm
    intervals_only: bool = False
    passes: Tensor = field(init=False)
    lower: list[Tensor] = field(init=False, default_factory=list)
    upper: list[Tensor] = field(init=False, default_factory=list)
    error: list[Tensor] = field(init=False, default_factory=list)
    lines: dict[int, Lines] = field(init=False, default_factory=dict)
    at_zero: dict[int, Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.passes = torch.zeros_like(self.radius)
        tight = tight_intervals(self.graph, self.norm)
        for place, operation in enumerate(self.graph.operations):
            if operation.name == "relu":
                (source,) = operation.sources
                if not tight[source] and self.graph.operations[source].is_affine:
                    self._tighten(source)
                self.lines[place] = _relu_lines(self.lower[source].flatten(1), self.upper[source].flatten(1))
            self._add_interval(place, operation)

    def _add_interval(self, place: int, operation: Operation) -> None:
        """Add the bounds that each entry's interval has by the intervals of the sources, and its rounding error."""
        if not operation.sources:
            reach = self.radius.view(-1, *[1] * (self.inputs.dim() - 1))
            lower, upper = (self.inputs - reach).clamp(min=0), (self.inputs + reach).clamp(max=1)
            sizes = torch.ones_like(self.inputs)
        else:
            lowers, uppers = ([bounds[source] for source in operation.sources] for bounds in (self.lower, self.upper))
            sizes = operation.apply_absolute(
                *[torch.maximum(low.abs(), high.abs()) for low, high in zip(lowers, uppers, strict=True)]
            )
            if operation.is_affine:
                zeros = [torch.zeros_like(low[:1]) for low in lowers]
                self.at_zero[place] = operation.apply(*zeros).flatten()
                middle = operation.apply(*[(low + high) / 2 for low, high in zip(lowers, uppers, strict=True)])
                spread = operation.apply_absolute(*[(high - low) / 2 for low, high in zip(lowers, uppers, strict=True)])
                spread = spread - operation.apply_absolute(*zeros)
                lower, upper = middle - spread, middle + spread
            else:
                lower, upper = operation.apply(*lowers), operation.apply(*uppers)
        error = operation.rounding(sizes)
        self.error.append(error)
        self.lower.append(lower - error)
        self.upper.append(upper + error)

    def _tighten(self, place: int) -> None:
        """Replace the interval of entries that it leaves undecided by their linear bounds, where those are tighter."""
        lower, upper = self.lower[place].flatten(1).clone(), self.upper[place].flatten(1).clone()
        undecided = ~((lower >= 0) | (upper <= 0))
        owners, entries = undecided.nonzero(as_tuple=True)
        if self.intervals_only:
            self._count(place, torch.cat([owners, owners]))
            return
        for sign in (1.0, -1.0):
            for part in self.parts(len(owners), place):
                owner, entry = owners[part], entries[part]
                rows = self.inputs.new_zeros(len(owner), lower.shape[1])
                rows[torch.arange(len(owner)), entry] = sign
                bound = self.bound(place, rows, owner)
                if sign > 0:
                    lower[owner, entry] = torch.maximum(lower[owner, entry], bound)
                else:
                    upper[owner, entry] = torch.minimum(upper[owner, entry], -bound)
        self.lower[place], self.upper[place] = lower.view_as(self.lower[place]), upper.view_as(self.upper[place])

    def _count(self, place: int, owners: Tensor) -> None:
        share = self.graph.work(place) / self.graph.work(len(self.graph.operations) - 1)
        self.passes += share * torch.bincount(owners, minlength=len(self.passes))

    def parts(self, count: int, place: int) -> Iterator[slice]:
        """Yield slices of so many rows at an operation, as large as memory should bear."""
        size = capacity(self.graph, self.inputs.device, place)
        for start in range(0, count, size):
            yield slice(start, start + size)

    def bound(self, place: int, rows: Tensor, owners: Tensor) -> Tensor:
        """Return a lower bound (P,) of ``rows @ result`` of an operation, for rows (P, entries) of samples (P,)."""
        gradient, value = self.linear_bound(place, rows, owners)
        inputs, radius = self._of(self.inputs, owners), self._of(self.radius, owners)
        return value - greatest_drop(gradient, inputs, radius, self.norm)

    def linear_bound(self, place: int, rows: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
        """Return a linear function that is nowhere above ``rows @ result``: gradient (P, D), and value at the input."""
        self._count(place, owners)
        coefficients = {place: rows}
        offset = rows.new_zeros(len(rows))
        for current in range(place, 0, -1):
            if current not in coefficients:
                continue
            operation, row = self.graph.operations[current], coefficients.pop(current)
            offset -= self._charge(current, row, owners)
            if operation.is_affine:
                offset += row @ self.at_zero[current]
                passed = operation.transpose(row.view(len(row), *operation.shape))
            else:
                through, added = self._through_lines(current, row, owners)
                passed, offset = (through,), offset + added
            for source, part in zip(operation.sources, passed, strict=True):
                flat = part.flatten(1)
                coefficients[source] = coefficients[source] + flat if source in coefficients else flat
        gradient = coefficients.get(0, rows.new_zeros(len(rows), self.inputs[0].numel()))
        return gradient, offset - self._charge(0, gradient, owners) + _dot(gradient, self._of(self.inputs, owners))

    def _of(self, values: Tensor, owners: Tensor) -> Tensor:
        """Return the values (P, …) of the rows' samples, flat; (1, …), for all rows, of a single sample."""
        flat = values.flatten(1) if values.dim() > 1 else values
        return flat if len(flat) == 1 else flat[owners]

    def _charge(self, place: int, row: Tensor, owners: Tensor) -> Tensor:
        """Return what rounding at an operation may take from a bound."""
        if self.graph.operations[place].name in MOVES:
            return row.new_zeros(len(row))
        return _dot(row.abs(), self._of(self.error[place], owners))

    def _through_lines(self, place: int, row: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
        """Return coefficients of the source and what is added: the line below where they are positive, else above."""
        lower_slope, upper_slope, upper_offset = (self._of(values, owners) for values in self.lines[place])
        return row * torch.where(row > 0, lower_slope, upper_slope), _dot(row.clamp(max=0), upper_offset)


def capacity(graph: Graph, device: torch.device, place: int) -> int:
    """Return how many rows are carried backwards from an operation at once."""
    widest = max(math.prod(operation.shape) for operation in graph.operations[: place + 1])
    return max(1, (ENTRIES if device.type == "cpu" else GPU_ENTRIES) // widest)


def samples_at_once(graph: Graph, device: torch.device) -> int:
    """Return how many samples together need about as many rows as are carried at once.

    No more, for what is common to all rows of a single sample need not be copied for each.
    """
    rows = max((math.prod(graph.operations[place].shape) for place in graph.relu_sources), default=1)
    return max(1, 4 * capacity(graph, device, len(graph.operations) - 1) // rows)


def _dot(rows: Tensor, values: Tensor) -> Tensor:
    """Return the sum (P,) of rows times values, which are (P, D), or (1, D) for all."""
    return rows @ values[0] if len(values) == 1 else (rows * values).sum(1)


def tight_intervals(graph: Graph, norm: Norm) -> list[bool]:
    """Return for each operation whether intervals alone are as good as linear bounds of it.

    So they are in linf, until entries that depend on the same inputs meet.
    """
    separate: list[bool] = []
    tight: list[bool] = []
    for operation in graph.operations:
        sources = operation.sources
        separate.append(operation.is_affine and not operation.mixes and all(separate[source] for source in sources))
        tight.append(
            norm == "linf"
            and operation.is_affine
            and len(sources) < 2
            and all(separate[source] or (tight[source] and not operation.mixes) for source in sources)
        )
    return tight


def _relu_lines(lower: Tensor, upper: Tensor) -> Lines:
    """Return the lines of ReLUs: above, from corner to corner; below, 0 or the identity, whichever is nearer."""
    active, undecided = lower >= 0, ~((lower >= 0) | (upper <= 0))
    slope = torch.where(undecided, upper / (upper - lower), active.to(lower))
    below = torch.where(undecided, (upper > -lower).to(lower), active.to(lower))
    return Lines(below, slope, torch.where(undecided, -slope * lower, 0))


def greatest_drop(gradient: Tensor, inputs: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """Return how far linear functions (P, D) fall at most within a radius (P,) of inputs (P, D), inside the box [0, 1].

    Input and radius may be a single one for all.

    Exact in linf and l1; in l2 the dual problem's value at a multiplier that is nearly the best one: any is a bound.

    Examples
    --------
    >>> gradient, middle = torch.tensor([[3.0, -4.0]]), torch.tensor([[0.5, 0.9]])
    >>> [round(greatest_drop(gradient, middle, torch.tensor([0.2]), norm).item(), 3) for norm in ("linf", "l1")]
    [1.0, 0.7]
    """
    reach = radius[:, None]
    if norm == "linf":
        falling = gradient.clamp(min=0)
        return _dot(falling, torch.minimum(inputs, reach)) + _dot(falling - gradient, torch.minimum(1 - inputs, reach))
    slopes, room = gradient.abs(), torch.where(gradient > 0, inputs, 1 - inputs)
    if norm == "l1":
        slopes, order = slopes.sort(1, descending=True)
        room = room.gather(1, order)
        before = room.cumsum(1) - room
        return (slopes * torch.minimum(room, (reach - before).clamp(min=0))).sum(1)
    return _greatest_l2_drop(slopes, room, reach)


def _greatest_l2_drop(slopes: Tensor, room: Tensor, reach: Tensor) -> Tensor:
    """Return the least dual value found: each entry moves by ``time * slope``, but not beyond its room.

    For any ``time`` the drop is at most the sum of ``slope * move - move**2 / (2 time)``, plus ``reach**2 / (2 time)``.
    The best one has moves of length ``reach``: in each round the entries that met no end of the box share what is left.
    """
    square = slopes.square()
    time = reach / square.sum(1, keepdim=True).sqrt().clamp(min=torch.finfo(slopes.dtype).tiny)
    best = (slopes * torch.minimum(room, reach)).sum(1)  # the ball's box
    for _ in range(L2_ROUNDS):
        ends = time * slopes >= room
        moves = torch.where(ends, room, time * slopes)
        value = (slopes * moves - moves.square() / (2 * time)).sum(1) + (reach.square() / (2 * time)).squeeze(1)
        best = torch.minimum(best, torch.where(value.isnan(), torch.inf, value))
        left = reach.square() - torch.where(ends, room.square(), 0).sum(1, keepdim=True)
        time = torch.maximum(time, (left.clamp(min=0) / torch.where(ends, 0, square).sum(1, keepdim=True)).sqrt())
    return best
