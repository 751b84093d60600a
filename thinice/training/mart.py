"""MART: misclassified samples count more in what is asked of the predictions within the budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn import functional

from thinice.errors import InputError
from thinice.training.crafting import Adversarial, Start, cross_entropy_sum
from thinice.training.loop import Losses
from thinice.training.trades import divergence

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["MART"]

ROOM = 1.0001
"""In place of 1 where a probability is taken from it, so that its logarithm stays finite."""


@dataclass(frozen=True, kw_only=True)
class MART(Adversarial):
    """Boosted cross-entropy on crafted inputs, and a divergence that counts where samples are wrong (Wang et al. 2020).

    ``-log p_y(x') - log(1 - max_(j != y) p_j(x')) + beta KL(p(x) || p(x')) (1 - p_y(x))``, where x' is crafted by an
    ascent on the cross-entropy.

    Attributes
    ----------
    beta : float
        Weight of the divergence (the paper's lambda).

    """

    beta: float = 5.0
    start: Start = "normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.beta, bool) or not 0 <= self.beta < math.inf:
            raise InputError(f"`beta` must be a number of at least 0, got {self.beta!r}")

    def rising(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:  # noqa: ARG002
        """Return the sum of the cross-entropies."""
        return cross_entropy_sum(labels)

    def losses(self, model: nn.Module, inputs: Tensor, crafted: Tensor, labels: Tensor) -> Losses:
        """Return the loss of each sample, and the logits of the crafted inputs."""
        clean, logits = model(inputs), model(crafted)
        true = labels[:, None]
        wrong = functional.softmax(logits, dim=1).scatter(1, true, 0.0).amax(1)
        boosted = functional.cross_entropy(logits, labels, reduction="none") - (ROOM - wrong).log()
        right = functional.softmax(clean, dim=1).gather(1, true)[:, 0]
        return Losses(boosted + self.beta * divergence(clean, logits) * (1 - right), logits)
