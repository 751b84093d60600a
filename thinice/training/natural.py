"""Natural training: the cross-entropy on the samples as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from thinice.errors import InputError
from thinice.training.loop import Losses, Objective

__all__ = ["Natural"]


@dataclass(frozen=True)
class Natural(Objective):
    """Cross-entropy on the samples as they are.

    Attributes
    ----------
    label_smoothing : float
        In [0, 1): how much of the true class's probability is shared among all classes, as in torch's
        ``CrossEntropyLoss`` (Szegedy et al. 2016).

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    >>> values, _ = Natural().losses(torch.nn.Identity(), logits, logits, torch.tensor([1, 0]))
    >>> values
    tensor([0.6931, 0.1269])

    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if (
            isinstance(self.label_smoothing, bool)
            or not 0 <= self.label_smoothing < 1
            or math.isnan(self.label_smoothing)
        ):
            raise InputError(f"`label_smoothing` must lie from 0 to below 1, got {self.label_smoothing!r}")

    def losses(self, model: nn.Module, inputs: Tensor, crafted: Tensor, labels: Tensor) -> Losses:  # noqa: ARG002
        """Return the cross-entropy of each sample, and the logits."""
        logits = model(inputs)
        values = nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)
        return Losses(values, logits)
