"""Losses of logits and labels, one value a sample, and what attacks ask of logits and gradients."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["are_probabilities", "dlr", "has_gradient", "input_gradient", "margin"]


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the true-class logit minus the best other logit, (N,); negative where the sample is misclassified.

    NaN where a logit is NaN, infinite where there is only one class. Where the margin is exactly 0, argmax decides:
    it takes the class that comes first. Of several best others, the gradient follows one.

    Parameters
    ----------
    logits : Tensor
        (N, K) scores before the softmax.
    labels : Tensor
        (N,) true classes, int64.

    Examples
    --------
    >>> margin(torch.tensor([[3.0, 1.0, 0.5], [3.0, 1.0, 0.5]]), torch.tensor([0, 1]))
    tensor([ 2., -2.])

    """
    own = labels[:, None]
    others = logits.scatter(1, own, -torch.inf)
    return logits.gather(1, own).squeeze(1) - others.max(1).values


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the difference-of-logits ratio, (N,): the margin over the difference of the largest and third logit.

    Unlike the margin it does not change when all logits are scaled (F. Croce, M. Hein, "Reliable evaluation of
    adversarial robustness with an ensemble of diverse parameter-free attacks", ICML 2020, there with the other sign).
    With two classes the second logit takes the third's place: then the ratio is 1 or -1, and its gradient 0.

    Examples
    --------
    >>> dlr(torch.tensor([[4.0, 2.0, 0.0]]), torch.tensor([0]))
    tensor([0.5000])

    """
    largest = logits.topk(min(3, logits.shape[1]), 1).values
    return margin(logits, labels) / (largest[:, 0] - largest[:, -1]).clamp(min=1e-12)


def are_probabilities(logits: Tensor) -> Tensor:
    """Return which rows of logits (N, K) look like probabilities, (N,) bool: all in [0, 1], with a sum of 1.

    A softmax inside a network saturates, and its gradients vanish: attacks need the logits before it.

    Examples
    --------
    >>> are_probabilities(torch.tensor([[0.2, 0.8], [0.2, 0.9], [2.0, -1.0]]))
    tensor([ True, False, False])

    """
    inside = ((logits >= 0) & (logits <= 1)).all(1)
    return inside & ((logits.detach().double().sum(1) - 1).abs() < 1e-4)


def has_gradient(gradient: Tensor) -> Tensor:
    """Return which gradients (N, D) are usable, (N,) bool: finite, and not zero in every entry.

    Examples
    --------
    >>> has_gradient(torch.tensor([[0.0, 1e-30], [0.0, 0.0], [1.0, torch.nan]]))
    tensor([ True, False, False])

    """
    largest = gradient.abs().amax(1)
    return (largest > 0) & largest.isfinite()


def input_gradient(values: Tensor, inputs: Tensor, *, keep_graph: bool = False) -> Tensor:
    """Return the gradient (N, D) of each sample's value (N,) with respect to its own input; zero where there is none.

    A network need not depend on its input, nor on all of it: a constant has gradient zero.

    Parameters
    ----------
    values : Tensor
        (N,) one value a sample, computed from ``inputs`` sample by sample.
    inputs : Tensor
        (N, …) with ``requires_grad``.
    keep_graph : bool
        Whether further values will be differentiated through the same network pass.

    Examples
    --------
    >>> inputs = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> input_gradient((inputs**2).sum(1), inputs)
    tensor([[2., 4.],
            [6., 8.]])
    >>> input_gradient(torch.zeros(2), inputs)
    tensor([[0., 0.],
            [0., 0.]])

    """
    if not values.requires_grad:
        return torch.zeros_like(inputs).flatten(1)
    ones = torch.ones_like(values)
    (found,) = torch.autograd.grad(values, inputs, ones, retain_graph=keep_graph, materialize_grads=True)
    return found.flatten(1)
