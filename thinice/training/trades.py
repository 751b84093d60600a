"""TRADES: the cross-entropy on the samples, and how far the predictions within the budget are from those on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from thinice.errors import InputError
from thinice.training.crafting import Adversarial, Start
from thinice.training.loop import Losses

__all__ = ["TRADES", "divergence"]


@dataclass(frozen=True, kw_only=True)
class TRADES(Adversarial):
    """Cross-entropy on the samples plus `beta` times the divergence from there to crafted inputs (Zhang et al. 2019).

    ``CE(f(x), y) + beta KL(p(x) || p(x'))``, where x' is crafted by an ascent on the divergence.

    Attributes
    ----------
    beta : float
        Weight of the divergence.

    """

    beta: float = 6.0
    start: Start = "normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.beta, bool) or not 0 <= self.beta < math.inf:
            raise InputError(f"`beta` must be a number of at least 0, got {self.beta!r}")

    def rising(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:  # noqa: ARG002
        """Return the sum of the divergences from the predictions on the samples."""
        with torch.no_grad():
            clean = functional.softmax(model(inputs), dim=1)
        return lambda logits: functional.kl_div(functional.log_softmax(logits, dim=1), clean, reduction="sum")

    def losses(self, model: nn.Module, inputs: Tensor, crafted: Tensor, labels: Tensor) -> Losses:
        """Return the loss of each sample, and the logits of the crafted inputs."""
        clean, logits = model(inputs), model(crafted)
        values = functional.cross_entropy(clean, labels, reduction="none") + self.beta * divergence(clean, logits)
        return Losses(values, logits)


def divergence(clean: Tensor, crafted: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence KL(p || q), (N,), of the predictions behind two logits (N, C).

    Examples
    --------
    >>> divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])).round(decimals=4)
    tensor([0.4338])

    """
    log_p, log_q = functional.log_softmax(clean, dim=1), functional.log_softmax(crafted, dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(1)
