"""What each sample does over the epochs of a training: forgetting events, and how sure the network was of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from thinice.training.loop import Batch, Hook

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Dynamics", "SampleDynamics"]


@dataclass(frozen=True, slots=True, eq=False)
class Dynamics:
    """What each training sample did over the epochs; on what the objective saw of it, augmented or crafted.

    Attributes
    ----------
    sample_ids : Tensor
        (N,) int64, ascending.
    epochs : Tensor
        (N,) int64, in how many epochs the sample was seen.
    forgotten : Tensor
        (N,) int64, forgetting events: how often it was right in one epoch, and wrong in the next (Toneva et al. 2019).
    learned : Tensor
        (N,) bool, whether it was ever right.
    confidence_mean, confidence_variance : Tensor
        (N,) float64, over the epochs, of the probability that the network gave the true class (data maps, Swayamdipta
        et al. 2020); the variance is that of the epochs themselves, not an estimate for others.

    """

    sample_ids: Tensor
    epochs: Tensor
    forgotten: Tensor
    learned: Tensor
    confidence_mean: Tensor
    confidence_variance: Tensor

    def frame(self) -> pd.DataFrame:
        """Return one row a sample."""
        import pandas as pd  # noqa: PLC0415 (a second of import that not every caller needs)

        return pd.DataFrame({name: getattr(self, name).numpy() for name in self.__slots__})


class SampleDynamics(Hook):
    """Counts for every sample what `Dynamics` tells; nothing is moved off the device before the end of an epoch."""

    def __init__(self, sample_ids: Tensor) -> None:
        self.sample_ids = torch.sort(sample_ids)[0]

    def prepare(self, model: nn.Module) -> None:  # noqa: ARG002 - what other hooks prepare
        """Begin anew."""
        count = len(self.sample_ids)
        self.epochs, self.forgotten = (torch.zeros(count, dtype=torch.int64) for _ in range(2))
        self.right, self.learned = (torch.zeros(count, dtype=torch.bool) for _ in range(2))
        self.mean, self.squares = (torch.zeros(count, dtype=torch.float64) for _ in range(2))
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def after_batch(self, batch: Batch) -> None:
        """Note which samples are right, and the probability of their true class."""
        logits = batch.logits.float()
        surety = (logits.gather(1, batch.labels[:, None])[:, 0] - logits.logsumexp(1)).exp()
        self._seen.append((batch.sample_ids, logits.argmax(1) == batch.labels, surety))

    def after_epoch(self, model: nn.Module, done: float) -> None:  # noqa: ARG002 - what other hooks do
        """Count the epoch."""
        ids, right, surety = (torch.cat(parts).cpu() for parts in zip(*self._seen, strict=True))
        self._seen = []
        at = torch.searchsorted(self.sample_ids, ids)
        self.forgotten[at] += (self.right[at] & ~right).long()
        self.right[at] = right
        self.learned[at] |= right
        self.epochs[at] += 1
        change = surety.double() - self.mean[at]  # Welford's recurrence
        self.mean[at] += change / self.epochs[at]
        self.squares[at] += change * (surety.double() - self.mean[at])

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {name: getattr(self, name) for name in COUNTS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the counts of a snapshot."""
        for name in COUNTS:
            getattr(self, name).copy_(state[name])

    def result(self) -> Dynamics:
        """Return what was counted so far."""
        variance = self.squares / self.epochs.clamp(min=1)
        return Dynamics(self.sample_ids, self.epochs, self.forgotten, self.learned, self.mean, variance)


COUNTS = ("epochs", "forgotten", "right", "learned", "mean", "squares")
"""What a snapshot keeps."""
