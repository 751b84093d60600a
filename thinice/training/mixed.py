"""Cross-entropy on the samples and on crafted inputs, in a mixture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn import functional

from thinice.errors import InputError
from thinice.training.crafting import Adversarial, cross_entropy_sum
from thinice.training.loop import Losses

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Mixed"]


@dataclass(frozen=True, kw_only=True)
class Mixed(Adversarial):
    """``share CE(f(x), y) + (1 - share) CE(f(x'), y)``, x' crafted by an ascent on the latter (as in ATMC).

    Attributes
    ----------
    share : float
        Of the samples as they are, from 0 to 1.

    """

    share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.share, bool) or not isinstance(self.share, int | float) or not 0 <= self.share <= 1:
            raise InputError(f"`share` must be a number from 0 to 1, got {self.share!r}")

    def rising(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:  # noqa: ARG002
        """Return the sum of the cross-entropies."""
        return cross_entropy_sum(labels)

    def losses(self, model: nn.Module, inputs: Tensor, crafted: Tensor, labels: Tensor) -> Losses:
        """Return the loss of each sample, and the logits of the crafted inputs."""
        clean, logits = model(inputs), model(crafted)
        on_samples, on_crafted = (functional.cross_entropy(each, labels, reduction="none") for each in (clean, logits))
        return Losses(self.share * on_samples + (1 - self.share) * on_crafted, logits)
