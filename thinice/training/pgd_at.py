"""PGD adversarial training: the cross-entropy on inputs crafted by projected gradient ascent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn import functional

from thinice.training.crafting import Adversarial, cross_entropy_sum
from thinice.training.loop import Losses

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["PGD"]


@dataclass(frozen=True, kw_only=True)
class PGD(Adversarial):
    """Cross-entropy on inputs crafted by projected gradient ascent on it (Madry et al., ICLR 2018).

    Examples
    --------
    >>> PGD(budget=0.1, steps=5).step
    0.05

    """

    def rising(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:  # noqa: ARG002
        """Return the sum of the cross-entropies."""
        return cross_entropy_sum(labels)

    def losses(self, model: nn.Module, inputs: Tensor, crafted: Tensor, labels: Tensor) -> Losses:  # noqa: ARG002
        """Return the cross-entropy of each crafted input, and the logits."""
        logits = model(crafted)
        return Losses(functional.cross_entropy(logits, labels, reduction="none"), logits)
