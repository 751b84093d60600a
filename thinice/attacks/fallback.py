"""What is tried for samples in which an attack's own search found nothing, in stages, and why it found nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor, nn

from thinice.attacks.boundary import Loss, MarginOracle, UnbrokenSamples, bisect_to_boundary, shorten
from thinice.attacks.fmn import fmn
from thinice.attacks.result import Candidates, Model
from thinice.losses import are_probabilities, dlr, margin
from thinice.norms import NORM_TABLE
from thinice.numerics import column
from thinice.types import FailureReason, FoundBy, Norm

__all__ = ["VERSION", "fall_back"]

VERSION = 1
"""Recorded as ``fallback`` with the settings of every attack that falls back."""
COARSE = 4
"""Bisections that tell which of several starting points is near."""
STEPS, DESCENT, DESCENTS = 20, 10, 3
"""Steps of the search in float64, of a descent of another loss, and how many descents begin at random images."""
SCALES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""How far random points lie from the sample, in widths of the box."""
FACTORS = (1.0002, 1.0, 1.1, 1.5, 3.0)
"""A perturbation is scaled by these in turn, until it is adversarial in all repeated passes."""
REPEATS = 3
RANDOM = 1e-3
"""Logits that differ by more than this share of their range between two passes are not those of one function."""


def fall_back(
    model: Model, inputs: Tensor, labels: Tensor, sample_ids: Tensor, *, norm: Norm, seed: int = 0
) -> Candidates:
    """Return adversarials of samples in which a search found none, the stage that found each, and the failure reason.

    The stages, each for the samples that are still without one:

    1. ``float64``: `fmn` along gradients in float64, where the network is a module that can be copied to double.
       Outputs that are probabilities become their logarithms: the logits behind the softmax, but for a constant.
    2. ``losses``: descents of the cross-entropy, of DLR, and of the difference to each of the three likeliest other
       classes, with strides that grow until they span the box.
    3. ``starts``: fixed images: black, white, grey, corners of the box, waves, and the sample turned, mirrored,
       inverted or with its pixels shuffled. Of those of another class, the one with the nearest crossing counts.
    4. ``random``: random images, and random points around the sample, farther and farther, dense and sparse; then
       descents from such points.

    Each stage ends with `shorten`. No starting point is another sample: the result of a sample may not depend on which
    others were selected with it.

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
    >>> result = fall_back(staircase, inputs, first, first, norm="linf")
    >>> f"{(result.candidates - inputs).max().item():.3f}"
    '0.125'
    >>> FoundBy(result.found_by.item()).text, FailureReason(result.failure_reasons.item()).text
    ('starts', 'zero_gradient')

    """
    index, none = torch.arange(len(inputs), device=inputs.device), torch.zeros_like(labels).float()
    oracle = MarginOracle(model, labels, inputs.shape[1:], tolerance=none, evaluations=none.clone(), index=index)
    precise = replace(oracle, model=_precise(model, inputs[:1]))
    samples = UnbrokenSamples(oracle, precise, inputs, sample_ids, NORM_TABLE[norm], seed)
    candidates, found_by = inputs.clone(), torch.zeros_like(labels, dtype=torch.int8)
    failure_reasons, guided, classes = _failure_reasons(samples)
    for stage, attempt in STAGES.items():
        left = ((found_by == FoundBy.NONE) & (guided | (stage >= FoundBy.STARTS))).nonzero().squeeze(1)
        if not len(left) or classes < 2:
            continue
        points, confirmed = _confirmed(samples[left], attempt(samples[left]))
        candidates[left[confirmed]], found_by[left[confirmed]] = points[confirmed], int(stage)
    return Candidates(candidates, oracle.evaluations, found_by=found_by, failure_reasons=failure_reasons)


# -- why --------------------------------------------------------------------------------------------------------------


def _failure_reasons(samples: UnbrokenSamples) -> tuple[Tensor, Tensor, int]:
    """Return the failure reasons, which samples have a gradient there or nearby, and the number of classes."""
    nearby = (samples.inputs + 0.1 * samples.noise(0)).clamp(0, 1)
    logits, _, here = samples.oracle.gradient(samples.inputs, _cross_entropy)
    around, _, there = samples.oracle.gradient(nearby, _cross_entropy)
    flat = ~(here != 0).any(1)
    _, _, precise_here = samples.precise.gradient(samples.inputs, _cross_entropy)
    _, _, precise_there = samples.precise.gradient(nearby, _cross_entropy)
    precise_flat = ~(precise_here != 0).any(1)
    guided = (torch.cat([there, precise_there], 1) != 0).any(1) | ~(flat & precise_flat)
    again = samples.oracle.logits(samples.inputs)
    scale = (logits.amax(1) - logits.amin(1)).clamp(min=1e-12)
    random = (logits - again).abs().amax(1) > RANDOM * scale
    infinite = ~torch.cat([logits, around, here, there], 1).isfinite().all(1)
    certain = are_probabilities(logits) & (logits.amax(1) == 1)
    failure_reasons = torch.zeros_like(samples.oracle.labels, dtype=torch.int8)
    for mask, failure_reason in (
        (flat, FailureReason.ZERO_GRADIENT),
        (flat & (~precise_flat | certain), FailureReason.SATURATED),
        (random, FailureReason.NON_DETERMINISTIC),
        (infinite, FailureReason.NON_FINITE),
    ):
        failure_reasons[mask] = int(failure_reason)
    return failure_reasons, guided, logits.shape[1]


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


def _float64(samples: UnbrokenSamples) -> Tensor:
    precise = samples.precise
    candidates = fmn(
        precise.model,
        samples.inputs,
        precise.labels,
        samples.sample_ids,
        norm=samples.row.name,
        seed=samples.seed,
        steps=STEPS,
        classes=3,
    )
    precise.evaluations[precise.index] += candidates.evaluations
    return shorten(samples, candidates.candidates.detach())


def _losses(samples: UnbrokenSamples) -> Tensor:
    """Return what descents of other losses find, one loss after the other for the samples that are left."""
    points, left = samples.inputs.clone(), torch.arange(len(samples), device=samples.inputs.device)
    for loss in (_cross_entropy, dlr, *(_towards(rank) for rank in range(3))):
        points[left] = _nearest(samples[left], _descent(samples[left], samples.inputs[left], loss, draw=60))
        left = (points == samples.inputs).flatten(1).all(1).nonzero().squeeze(1)
        if not len(left):
            break
    return shorten(samples, points)


def _descent(samples: UnbrokenSamples, points: Tensor, loss: Loss, *, draw: int) -> Iterator[Tensor]:
    """Yield the points of a normalised gradient descent whose step length doubles, in the end to twice the box."""
    for step in range(DESCENT):
        _, _, gradient = samples.precise.gradient(points, loss)
        usable = gradient.isfinite().all(1, keepdim=True) & (gradient != 0).any(1, keepdim=True)
        downhill = -gradient / gradient.abs().amax(1, keepdim=True)
        downhill = torch.where(usable, downhill, samples.noise(draw + step).flatten(1))
        points = (points + 2.0 ** (step - DESCENT + 2) * downhill.view_as(points)).clamp(0, 1)
        yield points


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the label's logit minus a soft maximum of the others: T logsumexp(z / T), T the spread of these logits.

    At that temperature no other class is without weight, as it would be at 1 where logits are large.
    """
    others = logits.scatter(1, labels[:, None], -torch.inf)
    values = others.detach()
    lowest = torch.where(values.isfinite(), values, torch.inf).amin(1)
    spread = (values.amax(1) - lowest).nan_to_num(1, 1, 1).clamp(min=1)
    return logits.gather(1, labels[:, None]).squeeze(1) - (others / spread[:, None]).logsumexp(1) * spread


def _towards(rank: int) -> Loss:
    """Return the loss towards one class: the likeliest other one at the point (rank 0), or one after it."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        others = logits.detach().scatter(1, labels[:, None], -torch.inf)
        target = others.topk(min(rank + 1, logits.shape[1] - 1), 1).indices[:, -1:]
        return (logits.gather(1, labels[:, None]) - logits.gather(1, target)).squeeze(1)

    return loss


# -- from points of another class -------------------------------------------------------------------------------------


def _starts(samples: UnbrokenSamples) -> Tensor:
    return shorten(samples, _nearest(samples, _images(samples)))


def _random(samples: UnbrokenSamples) -> Tensor:
    points = _nearest(samples, _random_points(samples))
    left = (points == samples.inputs).flatten(1).all(1).nonzero().squeeze(1)
    for draw in range(DESCENTS):
        if not len(left):
            break
        part = samples[left]
        start = part.noise(50 + draw) / 2 + 0.5
        points[left] = _nearest(part, _descent(part, start, margin, draw=100 + 50 * draw))
        left = (points == samples.inputs).flatten(1).all(1).nonzero().squeeze(1)
    return shorten(samples, points)


def _nearest(samples: UnbrokenSamples, images: Iterator[Tensor]) -> Tensor:
    """Return the nearest crossing of the boundary on the ways to some images, coarsely; else the sample itself.

    The distance of an image itself says little, and in l0 nothing: of most images every pixel differs.
    """
    best, points = torch.full((len(samples),), torch.inf, device=samples.inputs.device), samples.inputs.clone()
    for image in images:
        index = samples.oracle.is_adversarial(image).nonzero().squeeze(1)
        if len(index):
            part = samples[index]
            crossing = bisect_to_boundary(part, image[index], grid=False, bisections=COARSE)
            length = part.row.length(crossing - part.inputs)
            nearer = length < best[index]
            points[index[nearer]], best[index[nearer]] = crossing[nearer], length[nearer]
    return points


def _images(samples: UnbrokenSamples) -> Iterator[Tensor]:
    """Yield fixed images, and what can be made of the sample itself."""
    sample = samples.inputs
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
    order = samples.noise(1).flatten(1).argsort(1)
    yield sample.flatten(1).gather(1, order).view_as(sample)
    yield sample.flatten(1).flip(1).view_as(sample)
    for channel in range(sample.shape[1] if sample.dim() == 4 else 0):
        colour = torch.zeros_like(sample)
        colour[:, channel] = 1
        yield colour


def _random_points(samples: UnbrokenSamples) -> Iterator[Tensor]:
    for draw, scale in enumerate(SCALES):
        yield (samples.inputs + scale * samples.noise(10 + draw)).clamp(0, 1)
        yield (samples.inputs + scale * samples.noise(20 + draw).sign()).clamp(0, 1)
        few = samples.noise(30 + draw).abs() < scale / 2
        yield torch.where(few, 1 - samples.inputs.round(), samples.inputs)
        yield samples.noise(40 + draw) / 2 + 0.5


def _confirmed(samples: UnbrokenSamples, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the points moved outwards until they are adversarial in several passes, and which are, (N,) bool."""
    delta, moved = points - samples.inputs, points.clone()
    confirmed = torch.zeros(len(samples), dtype=torch.bool, device=points.device)
    changed = (delta != 0).flatten(1).any(1)
    for factor in FACTORS:
        left = (changed & ~confirmed).nonzero().squeeze(1)
        if not len(left):
            break
        oracle, farther = samples.oracle[left], (samples.inputs[left] + factor * delta[left]).clamp(0, 1)
        moved[left] = farther
        confirmed[left] = torch.stack([oracle.is_adversarial(farther) for _ in range(REPEATS)]).all(0)
    return moved, confirmed


STAGES = MappingProxyType(
    {FoundBy.FLOAT64: _float64, FoundBy.LOSSES: _losses, FoundBy.STARTS: _starts, FoundBy.RANDOM: _random}
)
"""What is tried, in this order."""
