"""Checks of a network, before any attack on it is believed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from thinice.attacks.result import Model, predict
from thinice.checks import finding
from thinice.losses import are_probabilities, has_gradient, input_gradient, margin
from thinice.models.clamped_inputs import hides_ends
from thinice.models.outputs import differ
from thinice.numerics import exact
from thinice.results import Finding

__all__ = ["check_network"]

NOISE = 8 / 255
"""The radius of the noise in which predictions should be stable, as in the paper."""
UNSTABLE = 0.5
"""A margin that noise changes by more than this, on average and in units of itself, is unstable."""
STRIDE = 1 / 8
"""The step of the unconstrained descent, in each entry."""


def check_network(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    sample_ids: Tensor,
    *,
    seed: int = 0,
    draws: int = 32,
    steps: int = 24,
) -> tuple[Finding, ...]:
    """Return the findings of AutoAttack's checks, and of the indicators that need no attack, for a network.

    ``randomized_output``, ``batch_effects``, ``softmax_output``, ``few_classes``: of all samples. ``hidden_ends``, of
    all samples too: gradients vanish, or halve, at the ends of the box and are there a hair inside.
    ``unavailable_gradients``: the margin's gradient is 0 or no number; ``zero_gradients``: only that of the
    cross-entropy is 0; ``unstable_predictions``: mean of ``min(|m(x + noise) - m(x)| / |m(x)|, 1)`` over draws in the
    linf ball of 8/255, seen above 0.5; ``unconstrained_attack_failure``: signed steps down the margin, to anywhere in
    [0, 1], meet no adversarial although there are gradients to follow. These four are of the samples that the network
    has right.

    The result of a sample depends on the sample and the seed, not on the others.

    Parameters
    ----------
    model : callable
        Takes inputs (N, C, H, W) in [0, 1] to logits (N, K).
    inputs, labels, sample_ids : Tensor
        (N, C, H, W) in [0, 1]; (N,) true classes; (N,) ids. A few dozen samples are enough.
    seed : int
        Of the noise.
    draws : int
        Random perturbations for ``unstable_predictions``; the paper takes 100.
    steps : int
        Steps of 1/8 for ``unconstrained_attack_failure``.

    Returns
    -------
    tuple of Finding
        One for each check, in the order above, raised or not.

    Examples
    --------
    >>> def probabilities(inputs):
    ...     return inputs.flatten(1)[:, :4].softmax(1)
    >>> inputs = torch.eye(4)[:, :, None, None] * 0.5
    >>> findings = check_network(probabilities, inputs, torch.arange(4), torch.arange(4))
    >>> [(finding.check, finding.count) for finding in findings if finding.raised]
    [('softmax_output', 4)]

    """
    inputs = inputs.detach().to(torch.float32).contiguous()
    with exact(inputs.device):
        logits = _logits(model, inputs)
        random = differ(logits, _logits(model, inputs)) | differ(logits, _logits(model, inputs))
        in_batch = _logits(model, torch.cat([inputs, 1 - inputs]))[: len(inputs)]
        probable = _probabilities(logits) if len(logits) else torch.zeros_like(random)
        few = torch.full_like(random, logits.shape[1] < 4)
        hidden = torch.full_like(random, hides_ends(model, inputs))
        right = (predict(model, inputs) == labels).nonzero().squeeze(1)
        points, classes, ids = inputs[right], labels[right], sample_ids[right]
        unavailable, zero = _gradients(model, points, classes)
        changes = _noise_change(model, points, classes, seed=seed, draws=draws)
        failed = ~unavailable & ~_leaves_class(model, points, classes, steps)
    return (
        finding("randomized_output", random, sample_ids),
        finding("batch_effects", differ(logits, in_batch) & ~random, sample_ids),
        finding("softmax_output", probable, sample_ids),
        finding("few_classes", few, sample_ids),
        finding("hidden_ends", hidden, sample_ids),
        finding("unavailable_gradients", unavailable, ids),
        finding("zero_gradients", zero, ids),
        finding("unstable_predictions", changes > UNSTABLE, ids, changes),
        finding("unconstrained_attack_failure", failed, ids),
    )


def _logits(model: Model, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return model(inputs.clone())


def _probabilities(logits: Tensor) -> Tensor:
    """Return where the logits (N, K) are probabilities, if they all are: a few may lie there by accident."""
    probable = are_probabilities(logits)
    return probable & probable.all()


def _gradients(model: Model, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the margin has no usable gradient, and where it has but the cross-entropy's is 0."""
    if not len(inputs):
        return labels == -1, labels == -1
    points = inputs.clone().requires_grad_()
    logits = model(points)
    of_margin = input_gradient(margin(logits, labels), points, keep_graph=True)
    of_entropy = input_gradient(cross_entropy(logits, labels, reduction="none"), points)
    unavailable = ~has_gradient(of_margin)
    return unavailable, (of_entropy == 0).all(1) & ~unavailable


def _noise_change(model: Model, inputs: Tensor, labels: Tensor, *, seed: int, draws: int) -> Tensor:
    """Return by how much noise changes the margin, in units of itself and 1 at most, on average (N,)."""
    changes = torch.zeros(len(inputs), device=inputs.device)
    if not len(inputs):
        return changes
    generator = torch.Generator().manual_seed(seed)
    without = margin(_logits(model, inputs), labels)
    for _ in range(draws):  # the same noise for every sample, so that none depends on its neighbours
        noise = (torch.rand(inputs.shape[1:], generator=generator) * 2 - 1) * NOISE
        with_noise = margin(_logits(model, (inputs + noise.to(inputs)).clamp(0, 1)), labels)
        changes += ((with_noise - without).abs() / without.abs()).nan_to_num(nan=1.0).clamp(max=1) / draws
    return changes


def _leaves_class(model: Model, inputs: Tensor, labels: Tensor, steps: int) -> Tensor:
    """Return where signed steps down the margin, anywhere in the box, meet another class."""
    points, left = inputs.clone(), labels == -1
    for _ in range(steps):
        if left.all():
            break
        points = points.detach().requires_grad_()
        gradient = input_gradient(margin(model(points), labels), points).nan_to_num()
        points = (points.detach() - STRIDE * gradient.sign().view_as(points)).clamp(0, 1)
        predictions = predict(model, points)
        left = left | ((predictions != labels) & (predictions >= 0))
    return left
