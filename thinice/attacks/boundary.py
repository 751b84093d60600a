"""Where a network's decision boundary lies: one oracle for margins, root finding along a path, and repair of results.

`MarginOracle` asks the network and counts the passes. `bisect` and `false_position` find where a path crosses the
boundary. `nudge_across` and `move_to_boundary` repair what verification in float32 refuses or finds too far away.
`shorten` shortens adversarials that were found without gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from thinice.attacks.result import FORWARD, MinNormResult, Model, verify
from thinice.losses import has_gradient, input_gradient, margin
from thinice.norms import NORM_TABLE, NormRow
from thinice.numerics import column, random_directions
from thinice.types import NORMS, Norm, Outcome

__all__ = [
    "VERSION",
    "Loss",
    "MarginOracle",
    "Path",
    "UnbrokenSamples",
    "bisect",
    "bisect_to_boundary",
    "false_position",
    "move_to_boundary",
    "nudge_across",
    "shorten",
]

VERSION = 1
"""Of `move_to_boundary`; recorded as ``boundary`` with the settings of an attack that searches in less than float32."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Takes logits (N, K) and labels (N,) to values (N,), lower where the samples are closer to another class."""
Path = Callable[[Tensor], Tensor]
"""Takes fractions (N,) to points (N, …): the samples at 0, other points at 1."""


@dataclass(frozen=True, slots=True)
class MarginOracle:
    """What a network answers about points around its samples, and how many passes that has cost.

    Points are (N, D) or (N, C, H, W). A selection of samples, ``oracle[index]``, counts into the same tensor.

    Attributes
    ----------
    model : callable
        Takes inputs (N, C, H, W) in [0, 1] to logits (N, K).
    labels : Tensor
        (N,) true classes.
    shape : Size
        (C, H, W) of one input.
    tolerance : Tensor
        (N,) how far below 0 a margin has to be to count as adversarial, so that a second forward pass, in another
        batch, agrees; 0 goes by the predicted class alone.
    evaluations : Tensor
        (M,) forward-backward passes spent on each of the samples that this oracle was made for.
    index : Tensor
        (N,) where the samples of this selection stand in ``evaluations``.

    Examples
    --------
    >>> def half_space(inputs):  # the boundary lies where the two pixels add up to 1
    ...     total = inputs.flatten(1).sum(1, keepdim=True)
    ...     return torch.cat([1 - total, total - 1], 1)
    >>> oracle = MarginOracle.around(half_space, torch.tensor([[[[0.2, 0.4]]]]), torch.tensor([0]))
    >>> oracle.is_adversarial(torch.tensor([[0.2, 0.9]])), oracle.evaluations
    (tensor([True]), tensor([0.6667], dtype=torch.float64))

    """

    model: Model
    labels: Tensor
    shape: torch.Size
    tolerance: Tensor
    evaluations: Tensor
    index: Tensor

    @classmethod
    def around(
        cls, model: Model, inputs: Tensor, labels: Tensor, *, clean_logits: Tensor | None = None
    ) -> MarginOracle:
        """Return the oracle of clean inputs (N, C, H, W); their logits are computed where they are not given.

        The tolerance is 1e-4 of the clean margin, and ten times what float32 resolves of the two logits in it.
        """
        index, none = torch.arange(len(labels), device=labels.device), torch.zeros_like(labels, dtype=inputs.dtype)
        oracle = cls(model, labels, inputs.shape[1:], none, none.double(), index)
        if clean_logits is None:
            clean_logits = oracle.logits(inputs)
        else:
            oracle.spend(FORWARD)
        clean_margin = margin(clean_logits, labels)
        own = clean_logits.gather(1, labels[:, None]).squeeze(1)
        largest = torch.maximum(own.abs(), (own - clean_margin).abs())  # of the label's logit and the best other one
        return replace(oracle, tolerance=1e-4 * clean_margin + 1e-6 * largest)

    def __getitem__(self, index: Tensor) -> MarginOracle:
        labels, tolerance = self.labels[index], self.tolerance[index]
        return replace(self, labels=labels, tolerance=tolerance, index=self.index[index])

    def spend(self, cost: float) -> None:
        """Count passes of all samples of this selection."""
        self.evaluations[self.index] += cost

    def logits(self, points: Tensor) -> Tensor:
        """Return the logits (N, K); a forward pass."""
        self.spend(FORWARD)
        points = points.view(-1, *self.shape)
        with torch.no_grad():
            return self.model(points.clone()).to(points.dtype)  # a clone: some networks work in place

    def gradient(self, points: Tensor, loss: Loss = margin) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits (N, K), the loss (N,) and its gradient (N, D); a forward-backward pass."""
        self.spend(1)
        points = points.view(-1, *self.shape).clone().requires_grad_()
        with torch.enable_grad():
            logits = self.model(points).to(points.dtype)
            value = loss(logits, self.labels)
        return logits.detach(), value.detach(), input_gradient(value, points)

    def adversarial(self, logits: Tensor) -> Tensor:
        """Return which logits (N, K) are those of an adversarial, (N,) bool; NaN is none."""
        margins = margin(logits, self.labels)
        too_close = (margins > -self.tolerance) & (margins != 0)  # a tie is no accident of rounding: argmax decides
        return (logits.argmax(1) != self.labels) & ~logits.isnan().any(1) & ~too_close

    def is_adversarial(self, points: Tensor) -> Tensor:
        """Return which points are adversarial, (N,) bool; a forward pass."""
        return self.adversarial(self.logits(points))


def bisect(oracle: MarginOracle, path: Path, low: Tensor, high: Tensor, *, passes: int) -> Tensor:
    """Return the fractions (N,) of a path at which it is known to be adversarial, after halving the interval.

    ``low`` and ``high`` (N,) are fractions before and beyond the boundary; one forward pass a halving.
    """
    for _ in range(passes):
        middle = (low + high) / 2
        adversarial = oracle.is_adversarial(path(middle))
        low, high = torch.where(adversarial, low, middle), torch.where(adversarial, middle, high)
    return high


def false_position(
    oracle: MarginOracle, path: Path, margin_at_start: Tensor, margin_at_end: Tensor, *, passes: int
) -> Tensor:
    """Return the fractions (N,) at which a path, adversarial at 1, has just crossed the boundary: Illinois' method.

    The next point is where the straight line through the margins of the two ends of the interval meets its aim, which
    lies two tolerances beyond the boundary; one tolerance beyond counts as adversarial. Where one end stays twice, its
    value is halved, so that the other end moves as well. One forward pass a point.
    """
    low, high = torch.zeros_like(margin_at_end), torch.ones_like(margin_at_end)
    at_low, at_high = margin_at_start + 2 * oracle.tolerance, margin_at_end + 2 * oracle.tolerance
    for _ in range(passes):
        # 0.99: never so close to the known end that the pass tells nothing
        fraction = high - (high - low) * (at_high / (at_high - at_low)).nan_to_num().clamp(0, 0.99)
        logits = oracle.logits(path(fraction))
        adversarial, value = oracle.adversarial(logits), margin(logits, oracle.labels) + 2 * oracle.tolerance
        low, at_low = torch.where(adversarial, low, fraction), torch.where(adversarial, at_low / 2, value)
        high, at_high = torch.where(adversarial, fraction, high), torch.where(adversarial, value, at_high / 2)
    return high


# -- results that rounding has spoiled --------------------------------------------------------------------------------

GROWTH = (1e-4, 1e-3, 3e-3, 1e-2)
"""Shares of its length by which a refused perturbation grows, one after the other."""
PASSES = 4
"""Forward passes on the way back to the input: false position needs no more."""


def nudge_across(
    model: Model,
    nearest: MinNormResult,
    inputs: Tensor,
    candidates: Tensor,
    labels: Tensor,
    *,
    norm: Norm,
    converged: Tensor | None = None,
) -> MinNormResult:
    """Return the result with refused candidates replaced by slightly longer ones that verification accepts.

    Minimum-norm points lie on the boundary: another order of the same sums, or a search in less than float32, is
    enough to leave them just before it. Each further verification is counted. A candidate in l0 moves the entries that
    it has, as far as the box lets them, and keeps its length.

    Parameters
    ----------
    model : callable
        The network that verifies: takes inputs (N, C, H, W) in [0, 1] to logits (N, K).
    nearest : MinNormResult
        What `verify` returned for the candidates.
    inputs, candidates : Tensor
        (N, C, H, W), the clean inputs and the candidates; equal where there is none.
    labels : Tensor
        (N,) true classes.
    norm : {"l0", "l1", "l2", "linf"}
        The norm in which epsilon is measured.
    converged : Tensor, optional
        (N,) bool, as in `Candidates`.

    Examples
    --------
    >>> def sign(inputs):
    ...     return torch.cat([0.5 - inputs.flatten(1), inputs.flatten(1) - 0.5], 1)
    >>> inputs, candidates = torch.full((1, 1, 1, 1), 0.25), torch.full((1, 1, 1, 1), 0.49999)
    >>> labels, spent = torch.tensor([0]), torch.ones(1)
    >>> refused = verify(sign, inputs, candidates, labels, norm="linf", evaluations=spent)
    >>> nudge_across(sign, refused, inputs, candidates, labels, norm="linf").epsilon
    tensor([0.2500])

    """
    changed = (candidates != inputs).flatten(1).any(1) & candidates.flatten(1).isfinite().all(1)
    refused = (nearest.outcomes == Outcome.NOT_FOUND) & (nearest.clean_predictions >= 0) & changed
    left = refused.nonzero().squeeze(1)
    for growth in GROWTH:
        if not len(left):
            break
        start = inputs[left]
        longer = (start + (candidates[left] - start) * (1 + growth)).clamp(0, 1)
        again = verify(
            model,
            start,
            longer,
            labels[left],
            norm=norm,
            evaluations=nearest.evaluations[left] + FORWARD,
            clean_predictions=nearest.clean_predictions[left],
            converged=None if converged is None else converged[left],
        )
        nearest = nearest.replaced(left, replace(again, failure_reasons=nearest.failure_reasons[left]))
        left = left[~again.found]
    return nearest


def move_to_boundary(
    model: Model, nearest: MinNormResult, inputs: Tensor, labels: Tensor, *, norm: Norm
) -> MinNormResult:
    """Return the result with each adversarial moved back to where the network itself crosses its boundary.

    A network in less than float32 has its boundary elsewhere: bfloat16 rounds a pixel of 0.6 by up to 0.002 to begin
    with, which is little for most samples, and more than the epsilon of those that lie nearest. A candidate before the
    network's boundary is refused, and nudged across; one beyond it holds, but lies too far. Against a search in
    float32 and linf, the mean excess fell from 1.3 to 0.4 % and the largest from 13 to 2 % on 100 samples of a
    ResNet-20 for CIFAR-10, from 1.1 to 0.0 % and from 60 to 4 % on 200 digits. Seven forward passes are 5 % of what
    the default attack spends.

    Parameters
    ----------
    model, inputs, labels, norm
        As of `nudge_across`.
    nearest : MinNormResult
        What was found; only what is nearer replaces it.

    Examples
    --------
    >>> def sign(inputs):
    ...     return torch.cat([0.5 - inputs.flatten(1), inputs.flatten(1) - 0.5], 1)
    >>> inputs, candidates = torch.full((1, 1, 1, 1), 0.25), torch.full((1, 1, 1, 1), 0.51)
    >>> found = verify(sign, inputs, candidates, torch.tensor([0]), norm="linf", evaluations=torch.ones(1))
    >>> moved = move_to_boundary(sign, found, inputs, torch.tensor([0]), norm="linf")
    >>> f"{found.epsilon.item():.4f} {moved.epsilon.item():.4f}"
    '0.2600 0.2501'

    """
    index = nearest.found.nonzero().squeeze(1)
    if not len(index):
        return nearest
    start, adversarials, true = inputs[index], nearest.adversarials[index], labels[index]
    with torch.no_grad():
        clean_logits = model(start.clone()).to(start.dtype)
    oracle = MarginOracle.around(model, start, true, clean_logits=clean_logits)
    path = partial(NORM_TABLE[norm].path, start.flatten(1), adversarials.flatten(1))
    margins = margin(clean_logits, true), margin(oracle.logits(adversarials), true)
    points = path(false_position(oracle, path, *margins, passes=PASSES))
    again = verify(
        model,
        start,
        points.view_as(start).clamp(0, 1),
        true,
        norm=norm,
        evaluations=nearest.evaluations[index] + (oracle.evaluations + FORWARD).float(),
        clean_predictions=nearest.clean_predictions[index],
        converged=nearest.converged[index],
        failure_reasons=nearest.failure_reasons[index],
    )
    nearest = replace(nearest, evaluations=nearest.evaluations.index_copy(0, index, again.evaluations))
    nearer = (again.found & (again.epsilon < nearest.epsilon[index])).nonzero().squeeze(1)
    return nearest.replaced(index[nearer], again.part(nearer))


# -- adversarials that were found without gradients -------------------------------------------------------------------

GRID, BISECTIONS, TANGENTS = 8, 12, 6
"""Passes along the way to the sample, first coarse, then fine; and steps onto tangent planes of the boundary."""
STRIDES = (2.0, 1.0, 0.5, 0.2)
"""Steps downhill along the boundary, in units of the length; each may shorten by a tenth of itself."""
DENSE = {norm: NORM_TABLE["linf" if norm == "linf" else "l2"] for norm in NORMS}
"""The norm whose steepest step moves all entries, also where the norm itself would move one."""
PROBES, PROBE_DISTANCE = 40, 0.1
"""Points that estimate the boundary's normal where there is no gradient; their distance, in units of the largest
change of an entry."""
BLOCKS = (2, 4, 8, 16)
"""Into so many parts the perturbation is cut, to find those that it does not need."""


@dataclass(frozen=True, slots=True)
class UnbrokenSamples:
    """Samples without an adversarial, and the network in two forms.

    Attributes
    ----------
    oracle, precise : MarginOracle
        The network as it verifies; and in float64, where it can be copied so, for gradients.
    inputs, sample_ids : Tensor
        (N, C, H, W) clean inputs, and (N,) ids for the random numbers.
    row : NormRow
        The norm of the perturbation.
    seed : int
        Of the random numbers.

    """

    oracle: MarginOracle
    precise: MarginOracle
    inputs: Tensor
    sample_ids: Tensor
    row: NormRow
    seed: int

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: Tensor) -> UnbrokenSamples:
        return replace(
            self,
            oracle=self.oracle[index],
            precise=self.precise[index],
            inputs=self.inputs[index],
            sample_ids=self.sample_ids[index],
        )

    def noise(self, draw: int) -> Tensor:
        """Return random numbers in [-1, 1), shaped like the inputs; each sample has its own."""
        ids = self.sample_ids + (draw << 40)
        return random_directions(self.inputs.flatten(1), ids, self.seed).view_as(self.inputs)


def shorten(samples: UnbrokenSamples, points: Tensor) -> Tensor:
    """Return adversarials on the boundary that are shorter than these; a sample itself stays as it is.

    In this order: bisection on the way back to the sample, steps onto the boundary's tangent planes, removal of what
    the perturbation does not need, and bisection again.
    """
    shorter = points.clone()
    index = (points != samples.inputs).flatten(1).any(1).nonzero().squeeze(1)
    if len(index):
        part = samples[index]
        on_boundary = bisect_to_boundary(part, points[index], grid=True)
        shorter[index] = bisect_to_boundary(part, _drop_blocks(part, _tangent_steps(part, on_boundary)), grid=False)
    return shorter


def bisect_to_boundary(samples: UnbrokenSamples, points: Tensor, *, grid: bool, bisections: int = BISECTIONS) -> Tensor:
    """Return where the way from each sample to its adversarial (N, C, H, W) crosses the boundary.

    A grid finds the first of several crossings, as far as its spacing shows.
    """
    low, high = torch.zeros(len(points), device=points.device), torch.ones(len(points), device=points.device)
    path = partial(samples.row.path, samples.inputs, points)
    if grid:
        for k in reversed(range(1, GRID)):
            adversarial = samples.oracle.is_adversarial(path(torch.full_like(high, k / GRID)))
            high = torch.where(adversarial, k / GRID, high)
        low = high - 1 / GRID
    high = bisect(samples.oracle, path, low, high, passes=bisections)
    return torch.where(column(high < 1, points), path(high), points).clamp(0, 1)


def _tangent_steps(samples: UnbrokenSamples, points: Tensor) -> Tensor:
    """Return points moved closer: from the sample across the plane that touches the boundary at each point.

    Where there is no gradient, the plane's normal is estimated as HopSkipJump does (Chen, Jordan and Wainwright, S&P
    2020).
    """
    row, dense = samples.row, DENSE[samples.row.name]
    for step in range(TANGENTS):
        _, margins, gradient = samples.precise.gradient(points)
        blind = (~has_gradient(gradient)).nonzero().squeeze(1)
        if len(blind):
            gradient[blind] = _estimate_normal(samples[blind], points[blind], 1000 + PROBES * step)
            margins[blind] = 0
        # the linearised margin at the sample: g · (x - p) + margin(p), which the step has to bring down to 0
        rise = margins + (gradient * (samples.inputs - points).flatten(1)).sum(1)
        usable = (rise > 0) & rise.isfinite()
        gradient = torch.where(usable[:, None], gradient, 0).view_as(points)
        crossing = samples.inputs + row.cross(gradient, torch.where(usable, 1.001 * rise, 0), samples.inputs)
        points = _keep_if_shorter(samples, crossing.clamp(0, 1), points)
        for stride in STRIDES:
            delta = points - samples.inputs
            downhill = -dense.steepest(gradient) * column(dense.length(delta), delta)
            moved = row.project(delta + stride * downhill, (1 - stride / 10) * row.length(delta))
            points = _keep_if_shorter(samples, (samples.inputs + moved).clamp(0, 1), points)
        points = bisect_to_boundary(samples, points, grid=False)
    return points


def _estimate_normal(samples: UnbrokenSamples, points: Tensor, draw: int) -> Tensor:
    """Return the direction (N, D) in which the margin rises at points on the boundary, from class predictions alone.

    HopSkipJump's estimate, up to its length: the sum over random directions u of (s - mean of s) u, where s is 1 on
    the side of the label and -1 on the other.
    """
    distance = column(PROBE_DISTANCE * (points - samples.inputs).flatten(1).abs().amax(1), points)
    weighted, total = torch.zeros_like(points), torch.zeros_like(points)
    sides = torch.zeros(len(points), device=points.device)
    for probe in range(PROBES):
        direction = samples.noise(draw + probe)
        side = 1 - 2 * samples.oracle.is_adversarial((points + distance * direction).clamp(0, 1)).float()
        weighted, total, sides = weighted + column(side, points) * direction, total + direction, sides + side
    return (weighted - column(sides / PROBES, points) * total).flatten(1)


def _drop_blocks(samples: UnbrokenSamples, points: Tensor) -> Tensor:
    """Return points without the blocks of the perturbation that are not needed; in linf, with some blocks reversed.

    Reversing ever smaller blocks is RayS (Chen and Gu, KDD 2020). In linf a block of zeros would shorten nothing.
    """
    row, size = samples.row, points[0].numel()
    for blocks in BLOCKS:
        for block in range(blocks):
            inside = torch.zeros(size, dtype=torch.bool, device=points.device)
            inside[block * size // blocks : (block + 1) * size // blocks] = True
            delta = points - samples.inputs
            without = torch.where(inside.view(points.shape[1:]), -delta if row.name == "linf" else 0, delta)
            shorter = row.project(without, 0.98 * row.length(delta))
            points = _keep_if_shorter(samples, (samples.inputs + shorter).clamp(0, 1), points)
    return points


def _keep_if_shorter(samples: UnbrokenSamples, points: Tensor, best: Tensor) -> Tensor:
    """Return the points that are adversarial and closer to the sample than the best ones, else the best ones."""
    shorter = samples.row.length(points - samples.inputs) < samples.row.length(best - samples.inputs)
    return torch.where(column(samples.oracle.is_adversarial(points) & shorter, points), points, best)
