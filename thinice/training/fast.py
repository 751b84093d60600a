"""Fast adversarial training: one step from a random start, and a look whether it still works."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thinice.errors import InputError
from thinice.training.crafting import Mode
from thinice.training.pgd_at import PGD

if TYPE_CHECKING:
    from thinice.training.history import Epoch

__all__ = ["Fast"]

COLLAPSED = 0.5
"""Robust accuracy below this part of the best so far is a collapse, unless the clean one fell as deep."""
SIGMAS = 4.0
"""And by more than so many standard errors: few samples are checked, and the best of many epochs was lucky."""


@dataclass(frozen=True, kw_only=True)
class Fast(PGD):
    """Cross-entropy on inputs crafted by one step from a random start (Wong, Rice and Kolter, ICLR 2020).

    One step may stop to find adversarials, in one epoch, while the accuracy on what it crafts rises: catastrophic
    overfitting. Then robust accuracy, by ten steps after each epoch, falls to nothing; training goes back to the epoch
    before, and ends.

    Attributes
    ----------
    steps : int
        One, always.
    step_size : float or None
        Length of the step; ``None``: 1.25 budgets.

    """

    steps: int = 1
    mode: Mode = "train"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps != 1:
            raise InputError(f"`steps` of fast is 1, got {self.steps}: objective 'pgd' takes more")

    @property
    def step(self) -> float:
        """The length of the step."""
        return 1.25 * self.budget if self.step_size is None else self.step_size

    def spoilt(self, history: Sequence[Epoch], samples: int) -> str | None:
        """Return that the last epoch overfitted, where robust accuracy on so many samples collapsed in it.

        Examples
        --------
        >>> from thinice.training import Epoch
        >>> rows = [Epoch(k, 0.1, 1.0, 0.4, 0.6, 1.0, robust_accuracy=share) for k, share in ((1, 0.4), (2, 0.02))]
        >>> Fast().spoilt(rows[:1], 300), Fast().spoilt(rows, 300)
        (None, 'catastrophic overfitting: robust accuracy fell from 40.0 % to 2.0 %')

        """
        checked = [epoch for epoch in history if epoch.robust_accuracy is not None]
        if len(checked) < 2:
            return None
        before, now = max(checked[:-1], key=_robust), checked[-1]
        best, left = _robust(before), _robust(now)
        error = math.sqrt(best * (1 - best) / samples)
        if left >= COLLAPSED * best or best - left <= SIGMAS * error or _is_rough(before, now, checked[-2]):
            return None
        return f"catastrophic overfitting: robust accuracy fell from {best:.1%} to {left:.1%}".replace("%", " %")


def _robust(epoch: Epoch) -> float:
    return epoch.robust_accuracy or 0.0


def _is_rough(before: Epoch, now: Epoch, previous: Epoch) -> bool:
    """Return whether all accuracies fell together, as in an epoch at a high learning rate: that is no overfitting.

    Of clean held-out samples, as large a part as of robust ones; where none are held out, of crafted training samples.
    """
    if before.validation_accuracy is None or now.validation_accuracy is None:
        return now.accuracy < previous.accuracy
    return _robust(now) * before.validation_accuracy >= COLLAPSED * _robust(before) * now.validation_accuracy
