"""What a training tells: one row an epoch, which epoch's weights it kept, and when it ends before the last epoch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from thinice.errors import InputError

if TYPE_CHECKING:
    from thinice.training.dynamics import Dynamics
    from thinice.training.recipe import Recipe, Selection

__all__ = ["Epoch", "History", "best_epoch", "out_of_patience", "reductions"]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training data: mean loss and accuracy on it, as seen on the way.

    `number` counts from 1; `learning_rate` is that of the first step; `loss` is what was minimised, penalties
    included; `accuracy` is that of the logits of the objective: in adversarial training, on the crafted inputs;
    `validation_accuracy` and `validation_loss`, the mean cross-entropy, are measured after the epoch on samples that
    were not trained on, ``None`` without; `robust_accuracy` is the share of a few of them (of training samples where
    there are none) that are right, and stay right when they are attacked within the budget of the objective,
    ``None`` where it has none.
    """

    number: int
    learning_rate: float
    loss: float
    accuracy: float
    validation_accuracy: float | None
    seconds: float
    validation_loss: float | None = None
    robust_accuracy: float | None = None


class History(tuple[Epoch, ...]):  # noqa: SLOT001 - a tuple of any length has no room for slots
    """The epochs of a training, in order.

    Attributes
    ----------
    chosen : int
        The number of the epoch whose weights the network has; 0: those it had before.
    notes : tuple of str
        Why the training ended before its last epoch, or went back to an earlier one.
    dynamics : Dynamics or None
        What each sample did over the epochs.

    """

    chosen: int
    notes: tuple[str, ...]
    dynamics: Dynamics | None

    def __new__(
        cls, epochs: Iterable[Epoch], *, chosen: int = 0, notes: Sequence[str] = (), dynamics: Dynamics | None = None
    ) -> Self:
        """Return the epochs with what is known of them."""
        history = super().__new__(cls, epochs)
        history.chosen, history.notes, history.dynamics = chosen, tuple(notes), dynamics
        return history


def score(epoch: Epoch, select: Selection) -> tuple[float, ...]:
    """Return by what the best epoch is chosen, the higher the better.

    Raises
    ------
    InputError
        Where the epoch has no such number.

    """
    values = {
        "loss": (None if epoch.validation_loss is None else -epoch.validation_loss,),
        "accuracy": (epoch.validation_accuracy,),
        "robust": (epoch.robust_accuracy, epoch.validation_accuracy),
    }
    numbers = [value for value in values["loss" if select == "last" else select] if value is not None]
    if len(numbers) < len(values["loss" if select == "last" else select]):
        raise InputError(
            f"`select` {select!r} needs samples that are not trained on, and for robust an adversarial objective: give "
            "`held_out`, such as 0.1, or choose another"
        )
    return tuple(numbers)


def best_epoch(history: Sequence[Epoch], select: Selection) -> int:
    """Return the number of the best epoch so far, of equal ones the first; for ``"last"`` by the held-out loss.

    Examples
    --------
    >>> rows = [Epoch(k, 0.1, 1.0, 0.5, 0.5, 1.0, validation_loss=loss) for k, loss in ((1, 0.9), (2, 0.7), (3, 0.7))]
    >>> best_epoch(rows, "loss")
    2

    """
    return max(history, key=lambda epoch: (score(epoch, select), -epoch.number)).number


def out_of_patience(history: Sequence[Epoch], recipe: Recipe) -> bool:
    """Return whether the last `patience` epochs were all no better than the best one before them."""
    if recipe.patience is None or not history:
        return False
    return len(history) - best_epoch(history, recipe.select) >= recipe.patience


def reductions(history: Sequence[Epoch], recipe: Recipe) -> int:
    """Return how often the held-out loss has stayed for `plateau_patience` epochs, counted anew after each time.

    Examples
    --------
    >>> from thinice.training import Recipe
    >>> rows = [Epoch(k, 0.1, 1.0, 0.5, 0.5, 1.0, validation_loss=loss)
    ...         for k, loss in enumerate((0.9, 0.8, 0.8, 0.9, 0.7, 0.7), 1)]
    >>> reductions(rows, Recipe(epochs=9, schedule="plateau", plateau_patience=2))
    1

    """
    if recipe.schedule != "plateau":
        return 0
    best, waited, times = float("inf"), 0, 0
    for epoch in history:
        loss = -score(epoch, "loss")[0]
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited >= recipe.plateau_patience:
            times, waited = times + 1, 0
    return times
