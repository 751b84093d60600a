"""Flips: how many predictions pruning changes, for the better and for the worse, and which classes bear it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from thinice.errors import InputError
from thinice.stats.base import FloatColumn, Result, bool_column, check_lengths
from thinice.stats.registry import Unit, statistic
from thinice.stats.separation import Separation

__all__ = ["ClassImpact", "Flips", "class_impact", "flips"]


@dataclass(frozen=True, slots=True, eq=False)
class ClassImpact(Result):
    """What pruning does to each class that has samples: one entry a class, in the order of the labels.

    A share of nothing is NaN here, and None in what is made of it.
    """

    name: npt.NDArray[np.str_]
    n: npt.NDArray[np.int64]
    """Samples of the class."""
    dense_recall: FloatColumn
    """Share of them that the dense network gives this class."""
    pruned_recall: FloatColumn
    fpr_change: FloatColumn
    """Relative change of the false positive rate, ``(pruned - dense) / dense``; NaN where the dense one is 0."""
    fnr_change: FloatColumn
    """Relative change of the false negative rate."""
    excess_loss: FloatColumn
    """Mean cross-entropy of the pruned network on the class minus that of the dense one; NaN where not known."""

    derived: ClassVar[tuple[str, ...]] = ("cev", "sde", "excess_loss_gap")

    @property
    def cev(self) -> float | None:
        """Combined error variance: mean squared distance of the classes' (FPR, FNR) changes from their mean."""
        changes = np.array([self.fpr_change, self.fnr_change])
        return _number(((changes - changes.mean(axis=1, keepdims=True)) ** 2).sum(axis=0).mean())

    @property
    def sde(self) -> float | None:
        """Symmetric distance error: mean absolute difference of a class's FPR and FNR changes."""
        return _number(np.abs(self.fnr_change - self.fpr_change).mean())

    @property
    def excess_loss_gap(self) -> float | None:
        """Largest excess loss of a class minus the smallest: the fairness violation of Tran et al."""
        return _number(self.excess_loss.max() - self.excess_loss.min())


@dataclass(frozen=True, slots=True)
class Flips(Result):
    """How many predictions pruning changes; a share of nothing is None.

    Right and wrong are those of the comparison's basis; predictions are those of the clean samples.
    """

    n: int
    dense_right: int
    pruned_right: int
    negative: int
    """Right before, wrong after: S1,0, lost."""
    positive: int
    """Wrong before, right after: S0,1, gained."""
    changed: int
    """Samples with another prediction; a prediction that does not exist (NaN logits) is a class of its own."""
    changed_wrong: int
    """Those of them that are wrong under both networks."""
    cev: float | None
    sde: float | None
    excess_loss_gap: float | None

    derived: ClassVar[tuple[str, ...]] = (
        "negative_flip_rate",
        "relative_negative_flip_rate",
        "positive_flip_rate",
        "positive_per_negative",
        "churn",
        "wrong_churn",
    )

    @property
    def negative_flip_rate(self) -> float | None:
        """Share of all samples that are lost."""
        return self.negative / self.n if self.n else None

    @property
    def relative_negative_flip_rate(self) -> float | None:
        """`negative_flip_rate` over what it would be if both networks erred independently: 1 means no relation."""
        independent = self.dense_right * (self.n - self.pruned_right)
        return self.negative * self.n / independent if independent else None

    @property
    def positive_flip_rate(self) -> float | None:
        """Share of all samples that are gained."""
        return self.positive / self.n if self.n else None

    @property
    def positive_per_negative(self) -> float | None:
        """Gained samples for each lost one: the win-loss ratio of the literature on churn."""
        return self.positive / self.negative if self.negative else None

    @property
    def churn(self) -> float | None:
        """Share of all samples with another prediction."""
        return self.changed / self.n if self.n else None

    @property
    def wrong_churn(self) -> float | None:
        """Share of the samples wrong under both networks whose wrong prediction is another one."""
        wrong = self.n - self.dense_right - self.positive
        return self.changed_wrong / wrong if wrong else None


def flips(
    dense_correct: npt.ArrayLike,
    pruned_correct: npt.ArrayLike,
    dense_predictions: npt.ArrayLike,
    pruned_predictions: npt.ArrayLike,
    *,
    impact: ClassImpact | None = None,
) -> Flips:
    """Return how many predictions pruning changes, for the better, for the worse, and from one error to another.

    Parameters
    ----------
    dense_correct, pruned_correct
        Truth values (N,): is the sample right under that network?
    dense_predictions, pruned_predictions
        Classes (N,) of the clean samples, -1 where there is none.
    impact
        What pruning does to the classes, for the numbers that sum it up.

    Raises
    ------
    InputError
        For columns of different length.

    References
    ----------
    S. Yan et al., "Positive-congruent training: towards regression-free model updates", CVPR 2021;
    M. Milani Fard et al., "Launch and iterate: reducing prediction churn", NeurIPS 2016.

    Examples
    --------
    >>> labels, dense, pruned = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 2]), np.array([0, 1, 1, 0])
    >>> result = flips(dense == labels, pruned == labels, dense, pruned)
    >>> result.negative_flip_rate, result.relative_negative_flip_rate, result.churn, result.wrong_churn
    (0.25, 1.0, 0.75, 1.0)
    """
    before, after = bool_column(dense_correct, "dense_correct"), bool_column(pruned_correct, "pruned_correct")
    dense, pruned = np.asarray(dense_predictions), np.asarray(pruned_predictions)
    check_lengths(dense_correct=before, pruned_correct=after, dense_predictions=dense, pruned_predictions=pruned)
    return Flips(
        n=len(before),
        dense_right=int(before.sum()),
        pruned_right=int(after.sum()),
        negative=int((before & ~after).sum()),
        positive=int((~before & after).sum()),
        changed=int((dense != pruned).sum()),
        changed_wrong=int((~before & ~after & (dense != pruned)).sum()),
        cev=None if impact is None else impact.cev,
        sde=None if impact is None else impact.sde,
        excess_loss_gap=None if impact is None else impact.excess_loss_gap,
    )


def class_impact(
    labels: npt.ArrayLike,
    dense_predictions: npt.ArrayLike,
    pruned_predictions: npt.ArrayLike,
    *,
    dense_losses: npt.ArrayLike | None = None,
    pruned_losses: npt.ArrayLike | None = None,
    classes: Sequence[str] | None = None,
) -> ClassImpact:
    """Return what pruning does to recall, error rates and loss of each class that has samples.

    Parameters
    ----------
    labels
        True classes (N,), integers from 0.
    dense_predictions, pruned_predictions
        Classes (N,) of the clean samples, -1 where there is none.
    dense_losses, pruned_losses
        Cross-entropy (N,) of the true class, both or neither.
    classes
        Names of all classes; without them classes are named by their numbers.

    Raises
    ------
    InputError
        For columns of different length, or no samples.

    References
    ----------
    C. Blakeney, N. Huish, Y. Yan and Z. Zong, "Simon says: evaluating and mitigating bias in pruned neural networks
    with knowledge distillation", 2021; C. Tran, F. Fioretto, J.-E. Kim and R. Naidu, "Pruning has a disparate impact
    on model accuracy", NeurIPS 2022.

    Examples
    --------
    >>> impact = class_impact([0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0])
    >>> impact.fnr_change.tolist(), impact.fpr_change.tolist(), impact.cev, impact.sde
    ([-1.0, 1.0], [1.0, -1.0], 2.0, 2.0)
    """
    label, dense, pruned = np.asarray(labels), np.asarray(dense_predictions), np.asarray(pruned_predictions)
    check_lengths(labels=label, dense_predictions=dense, pruned_predictions=pruned)
    if label.size == 0:
        raise InputError("`labels` is empty: give at least one sample")
    numbers, which, n = np.unique(label, return_inverse=True, return_counts=True)

    def rates(predictions: npt.NDArray[np.generic]) -> tuple[FloatColumn, FloatColumn]:
        """Return the false positive and the false negative rate of each class."""
        right = np.bincount(which[predictions == label], minlength=len(numbers))
        given = _counts(predictions, numbers)
        others = len(label) - n
        false_positive = np.divide(given - right, others, out=np.full(len(numbers), np.nan), where=others > 0)
        return false_positive, 1 - right / n

    (dense_fpr, dense_fnr), (pruned_fpr, pruned_fnr) = rates(dense), rates(pruned)
    excess = np.full(len(numbers), np.nan)
    if dense_losses is not None and pruned_losses is not None:
        before, after = np.asarray(dense_losses, dtype=np.float64), np.asarray(pruned_losses, dtype=np.float64)
        check_lengths(labels=label, dense_losses=before, pruned_losses=after)
        excess = np.bincount(which, weights=after - before) / n
    names = [str(number) if classes is None else classes[number] for number in numbers.tolist()]
    return ClassImpact(
        name=np.array(names, dtype=np.str_),
        n=n,
        dense_recall=1 - dense_fnr,
        pruned_recall=1 - pruned_fnr,
        fpr_change=_relative_change(dense_fpr, pruned_fpr),
        fnr_change=_relative_change(dense_fnr, pruned_fnr),
        excess_loss=excess,
    )


def _counts(predictions: npt.NDArray[np.generic], numbers: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Return how often each of the sorted numbers is predicted."""
    ordered = np.sort(predictions)
    return np.asarray(np.searchsorted(ordered, numbers, "right") - np.searchsorted(ordered, numbers, "left"))


def _relative_change(before: FloatColumn, after: FloatColumn) -> FloatColumn:
    return np.asarray(np.divide(after - before, before, out=np.full(len(before), np.nan), where=before > 0))


def _number(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None


def _of_flips(name: str) -> Callable[[Separation], float | None]:
    """Return what reads a number of `Flips` from a comparison's statistics."""

    def value(result: Separation) -> float | None:
        number: float | None = None if result.flips is None else getattr(result.flips, name)
        return number

    return value


STATISTICS_OF_FLIPS: dict[str, tuple[str, Unit, str]] = {
    "negative_flip_rate": ("Share of all samples that pruning loses (S1,0).", "probability", ""),
    "relative_negative_flip_rate": (
        "negative_flip_rate over what it would be if both networks erred independently: 1; NULL where that is 0.",
        "none",
        "negative flips / by chance",
    ),
    "positive_flip_rate": ("Share of all samples that pruning gains (S0,1).", "probability", ""),
    "positive_per_negative": ("Gained samples for each lost one; NULL where none is lost.", "none", ""),
    "churn": ("Share of all samples whose predicted class changes.", "probability", "churn"),
    "wrong_churn": (
        "Share of the samples wrong under both networks whose class changes; NULL where there are none.",
        "probability",
        "",
    ),
    "cev": (
        "Combined error variance over the classes; NULL where the dense network has a class without errors.",
        "none",
        "",
    ),
    "sde": (
        "Symmetric distance error over the classes; NULL where the dense network has a class without errors.",
        "none",
        "",
    ),
    "excess_loss_gap": (
        "Largest difference between two classes in what pruning adds to their mean cross-entropy, in nats.",
        "none",
        "",
    ),
}
"""Comment, unit and label of each number of `Flips` that is a statistic of every comparison."""

for _name, (_comment, _unit, _label) in STATISTICS_OF_FLIPS.items():
    statistic(_name, _comment, unit=_unit, label=_label, optional=True)(_of_flips(_name))
