"""What an attack minimises: functions of logits and labels, one value a sample."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["margin"]


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
