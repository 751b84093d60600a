"""What an attack minimises: functions of logits and labels, one value a sample."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["input_gradient", "margin"]


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
