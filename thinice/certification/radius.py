"""The largest radius that linear bounds prove for each sample, found in a few rounds below its epsilon.

Linear bounds over a ball of radius R are a linear function below each margin; inside the ball that function alone says
up to which radius c(R) no other class can win. So a round proves min(R, c(R)), also where R itself is too much. Bounds
over larger balls are looser: c falls with R, and no more can be proved than where c(R) = R. Each round tries where the
line through the last two points of c meets that, within the bracket that the rounds before have left.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from thinice.certification.crown import DUAL_NORMS, Relaxation, greatest_drop, samples_at_once
from thinice.certification.graph import Graph, read_graph
from thinice.errors import InputError
from thinice.models import Classifier
from thinice.types import Norm

__all__ = ["Cost", "certification_cost", "lower_bounds"]

ROUNDS = 4
"""They leave 1 to 3 % of what any number of rounds would prove, on fully connected and convolutional networks; three
leave 4 to 15 %."""

HALVINGS = 40
"""Of the radius up to which a linear function is followed."""
UNKNOWN_ROUNDS, UNKNOWN_SHRINK = 2, 4
"""Where no epsilon is known, the first radii are far too large: as many more rounds, and faster down."""
CLOSE = 0.01
"""A bracket narrower than this share of its upper end is not worth another round."""
WITHIN = 0.1
"""A trial keeps this share of the bracket away from its lower end."""
TIMED_ROWS = 64
SAFETY = 1 - 2.0**-23
"""An epsilon is rounded to float32 when it is stored: not below what is proved."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What lower bounds take for one sample, at most: linear bounds carried through the whole network, and seconds."""

    passes: float
    seconds: float


def lower_bounds(
    classifier: Classifier,
    inputs: Tensor,
    labels: Tensor,
    epsilon: Tensor | None = None,
    norm: Norm = "linf",
    *,
    rounds: int = ROUNDS,
    graph: Graph | None = None,
) -> Tensor:
    """Return radii (N,) in float64 within which no input is given another class; 0 where none is proved.

    Proved is: for every x' in the box [0, 1] with ``norm(x' - x) <= radius`` the label has the largest logit, and no
    other class has an equal one, in the exact network with the float32 weights that the classifier has, and in every
    evaluation of it in IEEE float32 that adds up products one by one, in any order. So do torch's own loops, MKL and
    oneDNN on x86; not covered are convolutions by Winograd's or Fourier transforms, which a GPU, NNPACK and libraries
    of other processors may choose, and lower precisions.
    A sample that is classified wrongly has the radius 0, and so has one where `rounds` trials prove nothing.

    Parameters
    ----------
    classifier
        A network of linear layers, convolutions, batch norm, ReLU, additions, average and max pools.
    inputs, labels
        (N, C, H, W) in [0, 1], and (N,). All are worked on in turn, as many at once as memory bears: a caller that
        wants to tell how far it is hands them over in parts.
    epsilon
        (N,) norms of adversarials that were found: no larger radius is tried. NaN, or None for all, where none was:
        that takes up to twice as long, and proves less.
    norm
        ``"linf"``, ``"l2"`` or ``"l1"``.
    rounds
        How often the network is bounded, over balls of different radii.
    graph
        What `read_graph` returns for this classifier, where it is asked many times; by default it is read.

    Raises
    ------
    InputError
        A network with another operation, which is named; inputs outside of [0, 1]; shapes that do not fit together.

    Examples
    --------
    The margin is ``3 x``, so that 0 is met at a distance of 0.5:

    >>> from torch import nn
    >>> from thinice.models import as_classifier
    >>> layer = nn.Linear(1, 2, bias=False)
    >>> layer.weight.data = torch.tensor([[2.0], [-1.0]])
    >>> classifier = as_classifier(nn.Sequential(nn.Flatten(), layer), normalization=(0.5, 1.0))
    >>> radii = lower_bounds(classifier, torch.ones(1, 1, 1, 1), torch.tensor([0]), torch.tensor([0.51]))
    >>> round(radii.item(), 5)
    0.5
    """
    epsilon = torch.full((len(labels),), torch.nan) if epsilon is None else epsilon
    _check(inputs, labels, epsilon, norm, rounds)
    if not len(inputs):
        return torch.zeros(0, dtype=torch.float64)
    graph = read_graph(classifier, tuple(inputs.shape[1:])) if graph is None else graph
    classes, labels = graph.operations[-1].shape[0], labels.long()
    if not bool(((labels >= 0) & (labels < classes)).all()):
        raise InputError(f"`labels` must lie in [0, {classes - 1}] for a network of {classes} classes")
    size = samples_at_once(graph, classifier.device)
    parts = zip(*(torch.split(values, size) for values in (inputs, labels, epsilon)), strict=True)
    device = classifier.device
    radii = [_proved_radii(graph, *(values.to(device) for values in part), norm=norm, rounds=rounds) for part in parts]
    return torch.cat(radii).to(inputs.device)


def certification_cost(
    classifier: Classifier,
    inputs: Tensor,
    epsilon: Tensor | None = None,
    norm: Norm = "linf",
    *,
    rounds: int = ROUNDS,
) -> Cost:
    """Return what `lower_bounds` takes for each of these samples on average, at most; it takes a moment itself.

    Counted are the units that intervals alone leave undecided over balls of epsilon itself, as if all rounds were so;
    the seconds are those that intervals, and the linear bounds of a few units, take now. Linear bounds decide more, and
    smaller balls too: a half or a tenth of it is usual.

    Raises
    ------
    InputError
        As `lower_bounds`.
    """
    epsilon = torch.full((len(inputs),), torch.nan) if epsilon is None else epsilon
    _check(inputs, torch.zeros(len(inputs), dtype=torch.int64), epsilon, norm, rounds)
    if not len(inputs):
        return Cost(0.0, 0.0)
    graph = read_graph(classifier, tuple(inputs.shape[1:]))
    inputs, epsilon = inputs.to(classifier.device).double(), epsilon.to(classifier.device).double()
    corner, classes = _corner(inputs[0].numel(), norm), graph.operations[-1].shape[0]
    passes = seconds = 0.0
    for sample, limit in zip(torch.split(inputs, 1), torch.split(epsilon, 1), strict=True):
        start = time.perf_counter()
        relaxation = Relaxation(graph, sample, limit.nan_to_num(corner), norm, intervals_only=True)
        passes_a_round = float(relaxation.passes.sum()) + classes
        repeated = rounds * (UNKNOWN_ROUNDS if limit.isnan() else 1)
        passes += repeated * passes_a_round + classes  # the gradients at the input come first
        seconds += (repeated + 1) * (time.perf_counter() - start)
    seconds += passes * _seconds_a_pass(relaxation)
    return Cost(passes / len(inputs), seconds / len(inputs))


def _seconds_a_pass(relaxation: Relaxation) -> float:
    """Return how long it takes to carry the bound of one unit through the whole network, among others."""
    last, classes = len(relaxation.graph.operations) - 1, relaxation.graph.operations[-1].shape[0]
    rows = torch.eye(classes, dtype=torch.float64, device=relaxation.inputs.device).repeat(-(-TIMED_ROWS // classes), 1)
    owners = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    for _ in range(2):  # the first warms up
        start = time.perf_counter()
        relaxation.bound(last, rows, owners).sum().item()
        elapsed = time.perf_counter() - start
    return elapsed / len(rows)


def _check(inputs: Tensor, labels: Tensor, epsilon: Tensor, norm: Norm, rounds: int) -> None:
    if norm not in DUAL_NORMS:
        raise InputError(f"`norm` {norm!r} has no linear bounds: choose one of {', '.join(DUAL_NORMS)}")
    if rounds < 1:
        raise InputError(f"`rounds` must be at least 1, got {rounds}")
    if inputs.dim() < 2 or labels.shape != inputs.shape[:1] or epsilon.shape != labels.shape:
        raise InputError(
            f"`inputs`, `labels` and `epsilon` must be (N, C, H, W), (N,) and (N,), got {tuple(inputs.shape)}, "
            f"{tuple(labels.shape)} and {tuple(epsilon.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(f"`labels` must be whole numbers, the classes of the inputs, got {labels.dtype}")
    if not bool(((inputs >= 0) & (inputs <= 1)).all()):
        raise InputError("`inputs` must lie in [0, 1]: put the normalisation into the classifier (normalization=)")
    if bool((epsilon < 0).any()):
        raise InputError(f"`epsilon` must be at least 0, or NaN where it is unknown, got {epsilon.min():g}")


def _proved_radii(graph: Graph, inputs: Tensor, labels: Tensor, epsilon: Tensor, *, norm: Norm, rounds: int) -> Tensor:
    """Return the radii (N,) of samples that are worked on at once."""
    inputs = inputs.double()
    corner = _corner(inputs[0].numel(), norm)
    limit = torch.where(epsilon.isnan(), corner, epsilon.double().clamp(max=corner))
    proved, refuted = torch.zeros_like(limit), limit.clone()
    before, trial = torch.zeros_like(limit), torch.zeros_like(limit)
    crossing_before = crossing = _crossing(graph, inputs, labels, trial, limit, norm=norm)
    unsettled = (crossing > 0) & (limit > 0)
    known = ~epsilon.isnan()
    for number in range(rounds * UNKNOWN_ROUNDS):
        unsettled &= ~known | (number < rounds)
        chosen = unsettled.nonzero().squeeze(1)
        if not len(chosen):
            break
        radius = _next_trial(proved, refuted, (before, crossing_before), (trial, crossing), limit)
        hopeless = ~known & (trial > 0) & (crossing == 0) & (proved == 0)
        radius = torch.where(hopeless, refuted / UNKNOWN_SHRINK, radius)
        before, crossing_before = trial, crossing.clone()
        trial = torch.where(unsettled, radius, trial)
        crossing[chosen] = _crossing(graph, inputs[chosen], labels[chosen], trial[chosen], limit[chosen], norm=norm)
        proved = torch.where(unsettled, torch.maximum(proved, torch.minimum(trial, crossing)), proved)
        refuted = torch.minimum(refuted, torch.maximum(trial, crossing))
        unsettled &= refuted - proved > CLOSE * refuted
    return proved * SAFETY


def _corner(entries: int, norm: Norm) -> float:
    """Return the radius that reaches from any point of the box to all others."""
    return {"linf": 1.0, "l2": math.sqrt(entries), "l1": float(entries)}[norm]


def _next_trial(
    proved: Tensor, refuted: Tensor, before: tuple[Tensor, Tensor], last: tuple[Tensor, Tensor], limit: Tensor
) -> Tensor:
    """Return the radii (N,) to try next, given the last two pairs (R, c(R)) of each sample.

    Where the line through these meets c = R; the middle of the bracket where c tells no more than that the last R was
    far too large or far too small; half of c(0) at first.
    """
    (radius_before, crossing_before), (radius, crossing) = before, last
    excess_before, excess = crossing_before - radius_before, crossing - radius
    meeting = radius - excess * (radius - radius_before) / (excess - excess_before)
    guided = (crossing > 0) & (crossing < limit) & meeting.isfinite()
    trial = torch.where(guided, meeting, (proved + refuted) / 2)
    trial = torch.where(radius > 0, trial, torch.minimum(crossing, limit) / 2)
    return torch.maximum(trial, proved + WITHIN * (refuted - proved)).minimum(refuted)


def _crossing(graph: Graph, inputs: Tensor, labels: Tensor, radius: Tensor, limit: Tensor, *, norm: Norm) -> Tensor:
    """Return the least radius c (N,), at most the limit, at which a linear bound of a margin over the ball meets 0.

    Proved is the smaller of it and of the ball's own radius.
    """
    relaxation = Relaxation(graph, inputs, radius, norm)
    last = len(graph.operations) - 1
    samples, classes = len(inputs), graph.operations[-1].shape[0]
    owners = torch.arange(samples, device=inputs.device).repeat_interleave(classes)
    others = torch.arange(classes, device=inputs.device).repeat(samples)
    owners, others = owners[others != labels[owners]], others[others != labels[owners]]
    crossing = limit.clone()
    for part in relaxation.parts(len(owners), last):
        owner = owners[part]
        rows = inputs.new_zeros(len(owner), classes)
        rows[torch.arange(len(owner)), labels[owner]] = 1
        rows[torch.arange(len(owner)), others[part]] = -1
        gradient, margin = relaxation.linear_bound(last, rows, owner)
        reached = _largest_above_zero(gradient, margin, inputs[owner].flatten(1), limit[owner], norm)
        crossing.scatter_reduce_(0, owner, reached, "amin")
    return crossing


def _largest_above_zero(gradient: Tensor, margin: Tensor, inputs: Tensor, limit: Tensor, norm: Norm) -> Tensor:
    """Return the largest radius (P,), up to the limit, at which linear functions are evaluated above 0; 0 if none."""
    largest, step = torch.zeros_like(limit), limit
    for _ in range(HALVINGS):
        tried = torch.minimum(largest + step, limit)
        above = margin - greatest_drop(gradient, inputs, tried, norm) > 0
        largest = torch.where(above, tried, largest)
        step = step / 2
    return largest
