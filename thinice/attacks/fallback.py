"""What is tried, in this order, where a search came back empty, and why it did: `fall_back`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import MappingProxyType

import torch
from torch import Tensor, nn

from thinice.attacks.boundary import Loss, UnbrokenSamples, back, shorten
from thinice.attacks.fmn import fmn
from thinice.attacks.result import FORWARD, Candidates, Model
from thinice.losses import are_probabilities, dlr, margin
from thinice.norms import NORM_TABLE
from thinice.numerics import column
from thinice.types import Diagnosis, Norm, Stage

__all__ = ["FALLBACK", "fall_back"]

FALLBACK = 1
"""Version of the fall-back, recorded with the settings of every attack."""
ROUGHLY = 4
"""Bisections that tell which of several starting points is near."""
STEPS, DESCENT, DESCENTS = 20, 10, 3
"""Steps of the search in float64, of a descent of another loss, and how many descents begin at random images."""
SCALES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""How far random points lie from the sample, in widths of the box."""
LADDER = (1.0002, 1.0, 1.1, 1.5, 3.0)
"""An adversarial that does not stand a second look is pushed out by these factors."""
LOOKS = 3
FICKLE = 1e-3
"""Logits that differ by more than this share of their range between two passes are not those of one function."""


def fall_back(
    model: Model, inputs: Tensor, labels: Tensor, sample_ids: Tensor, *, norm: Norm, seed: int = 0
) -> Candidates:
    """Return adversarials of samples in which a search found none, the stage that found each, and a diagnosis.

    The stages, each for those that are still without one:

    1. ``float64``: `fmn` along gradients in float64, where the network is a module that can be copied to double.
       Outputs that are probabilities become their logarithms: the logits behind the softmax, but for a constant.
    2. ``losses``: descents of the cross-entropy, of DLR, and of the difference to each of the three likeliest other
       classes, with strides that grow until they span the box.
    3. ``starts``: fixed images: black, white, grey, corners of the box, waves, and the sample turned, mirrored,
       inverted or with its pixels shuffled. Of those of another class, the one with the nearest crossing counts.
    4. ``random``: random images, and random points around the sample, farther and farther, dense and sparse; then
       descents from such points.

    What they find is shortened: along the way back, by the planes that touch the boundary there, and by
    leaving out what the perturbation does not need. The starting points are none of the data set's: the result of a
    sample may not depend on which others were selected with it.

    Parameters
    ----------
    model : callable
        Takes inputs (N, C, H, W) in [0, 1] to logits (N, K).
    inputs, labels, sample_ids : Tensor
        Samples that the model classifies as their labels say, at least one.
    norm : {"l0", "l1", "l2", "linf"}
        The norm to shorten the adversarials in.
    seed : int
        Of the random points. A sample's own depend on its sample_id too, and on nothing else.

    Examples
    --------
    >>> def staircase(inputs):  # no gradient anywhere; the class changes where the mean passes 0.625
    ...     level = (inputs.flatten(1).mean(1, keepdim=True) * 4).round()
    ...     return torch.cat([2.5 - level, level - 2.5], 1)
    >>> inputs, first = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    >>> claims = fall_back(staircase, inputs, first, first, norm="linf")
    >>> f"{(claims.candidates - inputs).max().item():.3f}"
    '0.125'
    >>> Stage(claims.stages.item()).text, Diagnosis(claims.diagnoses.item()).text
    ('starts', 'zero_gradient')

    """
    everyone, evaluations = torch.arange(len(inputs), device=inputs.device), torch.zeros_like(labels).float()
    precise = _precise(model, inputs[:1])
    lost = UnbrokenSamples(model, precise, inputs, labels, sample_ids, NORM_TABLE[norm], seed, everyone, evaluations)
    candidates, stages = inputs.clone(), torch.zeros_like(labels, dtype=torch.int8)
    diagnoses, guided, classes = _diagnose(lost)
    for stage, attempt in STAGES.items():
        left = ((stages == Stage.NONE) & (guided | (stage >= Stage.STARTS))).nonzero().squeeze(1)
        if not len(left) or classes < 2:
            continue
        points, found = _confirmed(lost[left], attempt(lost[left]))
        candidates[left[found]], stages[left[found]] = points[found], int(stage)
    return Candidates(candidates, evaluations, stages=stages, diagnoses=diagnoses)


# -- why --------------------------------------------------------------------------------------------------------------


def _diagnose(lost: UnbrokenSamples) -> tuple[Tensor, Tensor, int]:
    """Return the diagnoses, which samples have a gradient there or nearby, and the number of classes."""
    nearby = (lost.inputs + 0.1 * lost.noise(0)).clamp(0, 1)
    logits, _, here = lost.slope(lost.model, lost.inputs, _cross_entropy)
    around, _, there = lost.slope(lost.model, nearby, _cross_entropy)
    flat = ~(here != 0).any(1)
    _, _, precise_here = lost.slope(lost.precise, lost.inputs, _cross_entropy)
    _, _, precise_there = lost.slope(lost.precise, nearby, _cross_entropy)
    precise_flat = ~(precise_here != 0).any(1)
    guided = (torch.cat([there, precise_there], 1) != 0).any(1) | ~(flat & precise_flat)
    with torch.no_grad():
        again = lost.model(lost.inputs.clone()).to(logits.dtype)
    lost.spend(FORWARD)
    scale = (logits.amax(1) - logits.amin(1)).clamp(min=1e-12)
    fickle = (logits - again).abs().amax(1) > FICKLE * scale
    infinite = ~torch.cat([logits, around, here, there], 1).isfinite().all(1)
    certain = are_probabilities(logits) & (logits.amax(1) == 1)
    diagnoses = torch.zeros_like(lost.labels, dtype=torch.int8)
    for which, diagnosis in (
        (flat, Diagnosis.ZERO_GRADIENT),
        (flat & (~precise_flat | certain), Diagnosis.SATURATED),
        (fickle, Diagnosis.NON_DETERMINISTIC),
        (infinite, Diagnosis.NON_FINITE),
    ):
        diagnoses[which] = int(diagnosis)
    return diagnoses, guided, logits.shape[1]


# -- along other gradients --------------------------------------------------------------------------------------------


def _precise(model: Model, some: Tensor) -> Model:
    """Return the network in float64 where it can be copied so, with logarithms where it returns probabilities.

    Its logits are shifted so that the largest is 0, and so keep what float64 knew when they become float32.
    """
    double = _in_double(model if isinstance(model, nn.Module) else getattr(model, "module", None), some)

    def precise(points: Tensor) -> Tensor:
        logits = model(points).double() if double is None else double(_amplified(points))
        likely = are_probabilities(logits)[:, None]
        logarithms = torch.where(likely, logits, 1).clamp(min=1e-300).log()
        logits = torch.where(likely, logarithms, logits)
        return logits - logits.detach().amax(1, keepdim=True)

    return precise


def _in_double(module: object, some: Tensor) -> Model | None:
    """Return a copy of a network that computes in float64; None where it cannot: some have float32 in their code."""
    if not isinstance(module, nn.Module):
        return None
    try:
        twin: Model = copy.deepcopy(module).double()
        with torch.no_grad():
            return twin if twin(some.double()).dtype == torch.float64 else None
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError, AssertionError, AttributeError, NotImplementedError):
        return None


def _amplified(points: Tensor) -> Tensor:
    """Return the points in float64, whose gradients come back in a size that float32 can hold: directions count."""

    def amplify(gradient: Tensor) -> Tensor:
        largest = column(gradient.flatten(1).abs().amax(1), gradient)
        return torch.where((largest > 0) & (largest < 1e-30), gradient / largest, gradient)

    double = points.double()
    if double.requires_grad:
        double.register_hook(amplify)  # type: ignore[no-untyped-call]  # torch has no types here
    return double


def _float64(lost: UnbrokenSamples) -> Tensor:
    claims = fmn(
        lost.precise,
        lost.inputs,
        lost.labels,
        lost.sample_ids,
        norm=lost.row.name,
        seed=lost.seed,
        steps=STEPS,
        rivals=3,
    )
    lost.evaluations[lost.places] += claims.evaluations
    return shorten(lost, claims.candidates.detach())


def _losses(lost: UnbrokenSamples) -> Tensor:
    """Return what is found down the slopes of other losses, one after the other for those that are left."""
    points, left = lost.inputs.clone(), torch.arange(len(lost.labels), device=lost.labels.device)
    for loss in (_cross_entropy, dlr, *(_towards(rank) for rank in range(3))):
        points[left] = _nearest(lost[left], _descent(lost[left], lost.inputs[left], loss, draw=60))
        left = (points == lost.inputs).flatten(1).all(1).nonzero().squeeze(1)
        if not len(left):
            break
    return shorten(lost, points)


def _descent(lost: UnbrokenSamples, points: Tensor, loss: Loss, *, draw: int) -> Iterator[Tensor]:
    """Yield the steps down a loss: short ones at first, in the end across the whole box."""
    for step in range(DESCENT):
        _, _, gradient = lost.slope(lost.precise, points, loss)
        usable = gradient.isfinite().all(1, keepdim=True) & (gradient != 0).any(1, keepdim=True)
        downhill = -gradient / gradient.abs().amax(1, keepdim=True)
        downhill = torch.where(usable, downhill, lost.noise(draw + step).flatten(1))
        points = (points + 2.0 ** (step - DESCENT + 2) * downhill.view_as(points)).clamp(0, 1)
        yield points


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the label's logit less the soft maximum of the others, so soft that each of them has a say."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    seen = others.detach()
    lowest = torch.where(seen.isfinite(), seen, torch.inf).amin(1)
    spread = (seen.amax(1) - lowest).nan_to_num(1, 1, 1).clamp(min=1)
    return logits.gather(1, labels[:, None]).squeeze(1) - (others / spread[:, None]).logsumexp(1) * spread


def _towards(rank: int) -> Loss:
    """Return the loss that goes for one class: the likeliest other one (rank 0) at the point, or one after it."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        others = logits.detach().scatter(1, labels[:, None], -torch.inf)
        target = others.topk(min(rank + 1, logits.shape[1] - 1), 1).indices[:, -1:]
        return (logits.gather(1, labels[:, None]) - logits.gather(1, target)).squeeze(1)

    return loss


# -- from points of another class -------------------------------------------------------------------------------------


def _starts(lost: UnbrokenSamples) -> Tensor:
    return shorten(lost, _nearest(lost, _images(lost)))


def _random(lost: UnbrokenSamples) -> Tensor:
    points = _nearest(lost, _random_points(lost))
    left = (points == lost.inputs).flatten(1).all(1).nonzero().squeeze(1)
    for draw in range(DESCENTS):
        if not len(left):
            break
        some = lost[left]
        points[left] = _nearest(some, _descent(some, some.noise(50 + draw) / 2 + 0.5, margin, draw=100 + 50 * draw))
        left = (points == lost.inputs).flatten(1).all(1).nonzero().squeeze(1)
    return shorten(lost, points)


def _nearest(lost: UnbrokenSamples, images: Iterator[Tensor]) -> Tensor:
    """Return the nearest crossing of the boundary on the ways to some images, roughly; else the sample itself.

    How far an image itself lies says little, and in l0 nothing: of most images every pixel differs.
    """
    best, points = torch.full_like(lost.evaluations[lost.places], torch.inf), lost.inputs.clone()
    for image in images:
        there = lost.across(image).nonzero().squeeze(1)
        if len(there):
            some = lost[there]
            crossing = back(some, image[there], grid=False, bisections=ROUGHLY)
            length = some.row.length(crossing - some.inputs)
            nearer = length < best[there]
            points[there[nearer]], best[there[nearer]] = crossing[nearer], length[nearer]
    return points


def _images(lost: UnbrokenSamples) -> Iterator[Tensor]:
    """Yield fixed images, and what can be made of the sample itself."""
    sample = lost.inputs
    for level in (0.0, 1.0, 0.5):
        yield torch.full_like(sample, level)
    yield 1 - sample
    yield sample.round()
    yield 1 - sample.round()
    for axis in range(2, sample.dim()):
        yield sample.flip(axis)
        places = torch.arange(sample.shape[axis], device=sample.device)
        for period in (2, 4, 8):
            wave = (places % period < period // 2).to(sample).view(-1, *[1] * (sample.dim() - 1 - axis))
            yield wave.expand_as(sample).clone()
            yield (1 - wave).expand_as(sample).clone()
    order = lost.noise(1).flatten(1).argsort(1)
    yield sample.flatten(1).gather(1, order).view_as(sample)
    yield sample.flatten(1).flip(1).view_as(sample)
    for channel in range(sample.shape[1] if sample.dim() == 4 else 0):
        colour = torch.zeros_like(sample)
        colour[:, channel] = 1
        yield colour


def _random_points(lost: UnbrokenSamples) -> Iterator[Tensor]:
    for draw, scale in enumerate(SCALES):
        yield (lost.inputs + scale * lost.noise(10 + draw)).clamp(0, 1)
        yield (lost.inputs + scale * lost.noise(20 + draw).sign()).clamp(0, 1)
        few = lost.noise(30 + draw).abs() < scale / 2
        yield torch.where(few, 1 - lost.inputs.round(), lost.inputs)
        yield lost.noise(40 + draw) / 2 + 0.5


def _confirmed(lost: UnbrokenSamples, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the points pushed out until several looks say that they are across, and where they do."""
    delta, pushed = points - lost.inputs, points.clone()
    found = torch.zeros_like(lost.labels, dtype=torch.bool)
    claimed = (delta != 0).flatten(1).any(1)
    for factor in LADDER:
        left = (claimed & ~found).nonzero().squeeze(1)
        if not len(left):
            break
        farther = (lost.inputs[left] + factor * delta[left]).clamp(0, 1)
        there = torch.stack([lost[left].across(farther) for _ in range(LOOKS)]).all(0)
        pushed[left], found[left] = farther, there
    return pushed, found


STAGES = MappingProxyType(
    {Stage.FLOAT64: _float64, Stage.LOSSES: _losses, Stage.STARTS: _starts, Stage.RANDOM: _random}
)
"""What is tried, in this order."""
