"""Which samples the pruned network keeps, loses and gains: counts over all samples and class by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, logsumexp
from scipy.stats import binom

from thinice.errors import InputError
from thinice.stats.base import Result, TextColumn, bool_column, check_lengths, transition_column, wilson_bounds
from thinice.types import Transition

__all__ = ["ClassLosses", "TransitionCounts", "class_losses", "transition_counts", "transitions"]

EQUIVALENT_ACCURACY = 0.01
"""Accuracies that differ by less are taken to be the same."""


@dataclass(frozen=True, slots=True)
class TransitionCounts(Result):
    """How many samples went which way between the dense (first) and the pruned (second) network.

    Shares are None where there are no samples at all.
    """

    kept: int
    """S1,1: right under both."""
    lost: int
    """S1,0: on thin ice."""
    gained: int
    """S0,1: right under the pruned network alone."""
    wrong: int
    """S0,0: wrong under both."""

    derived: ClassVar[tuple[str, ...]] = (
        "n",
        "dense_accuracy",
        "pruned_accuracy",
        "accuracy_drop",
        "disagreement",
        "p_value",
        "log10_p",
    )

    @property
    def n(self) -> int:
        """All samples."""
        return self.kept + self.lost + self.gained + self.wrong

    @property
    def counts(self) -> dict[str, int]:
        """The four counts under the names of the transitions, ``{"S1,1": …}``."""
        sizes = (self.kept, self.lost, self.gained, self.wrong)
        return {str(transition): size for transition, size in zip(Transition, sizes, strict=True)}

    @property
    def dense_accuracy(self) -> float | None:
        """Share of samples that the dense network has right."""
        return self._share(self.kept + self.lost)

    @property
    def pruned_accuracy(self) -> float | None:
        """Share of samples that the pruned network has right."""
        return self._share(self.kept + self.gained)

    @property
    def accuracy_drop(self) -> float | None:
        """Dense minus pruned accuracy, ``(lost - gained) / n``; a small drop can hide much disagreement."""
        return self._share(self.lost - self.gained)

    @property
    def disagreement(self) -> float | None:
        """Share of samples that are right under exactly one of the networks, ``(lost + gained) / n``."""
        return self._share(self.lost + self.gained)

    @property
    def p_value(self) -> float:
        """Exact two-sided McNemar test of equal accuracies; 1 where no sample was lost or gained."""
        return math.pow(10, self.log10_p)

    @property
    def log10_p(self) -> float:
        """Logarithm of `p_value`, which holds where the p-value itself underflows."""
        fewer, discordant = min(self.lost, self.gained), self.lost + self.gained
        tail = logsumexp(binom.logpmf(np.arange(fewer + 1), discordant, 0.5))
        return min(0.0, float(tail + math.log(2)) / math.log(10))

    def equivalence_log10_p(self, margin: float = EQUIVALENT_ACCURACY) -> float | None:
        """Return log10 p of "the accuracies differ by the margin or more": small where they are shown to differ less.

        Two one-sided score tests of a difference of paired shares; None without samples. McNemar's test that finds
        nothing shows nothing.

        References
        ----------
        T. Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
        design", Stat. Med. 17, 1998.

        Examples
        --------
        >>> counts = TransitionCounts(kept=940, lost=12, gained=10, wrong=38)
        >>> round(counts.equivalence_log10_p(0.02), 2)
        -3.11
        """
        if not 0 < margin < 1:
            raise InputError(f"`margin` must lie between 0 and 1, got {margin}: 0.01 of accuracy is the default")
        if self.n == 0:
            return None
        return max(_tango(self.lost, self.gained, self.n, margin), _tango(self.gained, self.lost, self.n, margin))

    def _share(self, count: int) -> float | None:
        return count / self.n if self.n else None


def _tango(lost: int, gained: int, n: int, margin: float) -> float:
    """Return log10 p of "lost - gained is n margin, or more", by Tango's score."""
    b = (2 * n - lost + gained) * margin - lost - gained
    # the likeliest share of gained samples where the difference of the shares is the margin
    share = (math.sqrt(max(0.0, b * b + 8 * n * gained * margin * (1 - margin))) - b) / (4 * n)
    spread = math.sqrt(n * (2 * share + margin * (1 - margin)))
    return min(0.0, float(log_ndtr((lost - gained - n * margin) / spread)) / math.log(10))


@dataclass(frozen=True, slots=True, eq=False)
class ClassLosses(Result):
    """What pruning takes from each class, one entry a class, in the order of the classes."""

    name: npt.NDArray[np.str_]
    n: npt.NDArray[np.int64]
    """Samples of the class."""
    dense_correct: npt.NDArray[np.int64]
    """Those that the dense network has right: kept and lost."""
    lost: npt.NDArray[np.int64]
    share: npt.NDArray[np.float64]
    """``lost / dense_correct``; NaN where the dense network has none right."""
    low: npt.NDArray[np.float64]
    """Wilson interval of `share`, at the level of `confidence`."""
    high: npt.NDArray[np.float64]
    confidence: float


def transitions(dense_correct: npt.ArrayLike, pruned_correct: npt.ArrayLike) -> TextColumn:
    """Return the transition of each sample (N,) as text: S1,1 S1,0 S0,1 S0,0, dense first.

    Raises
    ------
    InputError
        For columns of different length, or with values other than True and False.

    Examples
    --------
    >>> transitions([True, True, False], [True, False, True]).tolist()
    ['S1,1', 'S1,0', 'S0,1']
    """
    dense, pruned = bool_column(dense_correct, "dense_correct"), bool_column(pruned_correct, "pruned_correct")
    check_lengths(dense_correct=dense, pruned_correct=pruned)
    names: TextColumn = np.array(list(Transition), dtype=np.str_)  # kept, lost, gained, wrong
    return np.asarray(names[2 * ~dense + ~pruned])


def transition_counts(dense_correct: npt.ArrayLike, pruned_correct: npt.ArrayLike) -> TransitionCounts:
    """Return how many samples are kept, lost, gained and wrong, with accuracies and McNemar's exact test.

    Parameters
    ----------
    dense_correct, pruned_correct
        Truth values (N,): is the sample right under that network?

    Raises
    ------
    InputError
        For columns of different length, or with values other than True and False.

    References
    ----------
    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947.

    Examples
    --------
    >>> counts = transition_counts([True, True, True, False], [True, False, False, True])
    >>> counts.counts
    {'S1,1': 1, 'S1,0': 2, 'S0,1': 1, 'S0,0': 0}
    >>> counts.accuracy_drop, counts.disagreement
    (0.25, 0.75)
    """
    names = transitions(dense_correct, pruned_correct)
    kept, lost, gained, wrong = (int((names == transition).sum()) for transition in Transition)
    return TransitionCounts(kept=kept, lost=lost, gained=gained, wrong=wrong)


def class_losses(
    labels: npt.ArrayLike,
    transition: npt.ArrayLike,
    *,
    classes: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> ClassLosses:
    """Return how many samples of each class pruning loses, as a share of those the dense network had right.

    Parameters
    ----------
    labels
        True classes (N,), integers from 0.
    transition
        Transitions (N,), as of `transitions`.
    classes
        Names of the classes; without them the classes present are named by their numbers.
    confidence
        Level of the Wilson intervals.

    Raises
    ------
    InputError
        For columns of different length, a label that is no class, an unknown transition.

    Examples
    --------
    >>> class_losses([0, 0, 1], ["S1,1", "S1,0", "S0,0"], classes=["cat", "dog"]).share.tolist()
    [0.5, nan]
    """
    label, change = np.asarray(labels), transition_column(transition)
    check_lengths(labels=label, transition=change)
    if label.size and not np.issubdtype(label.dtype, np.integer):
        raise InputError(f"`labels` must be integers, got {label.dtype}: give the number of each class")
    label = label.astype(np.int64)
    if classes is None:
        numbers, label = np.unique(label, return_inverse=True)
        classes = [str(number) for number in numbers]
    elif label.size and not 0 <= label.min() <= label.max() < len(classes):
        raise InputError(f"`labels` must lie in [0, {len(classes)}), got {label.min()} to {label.max()}")
    lost = np.bincount(label[change == Transition.LOST], minlength=len(classes))
    dense_correct = np.bincount(label[change == Transition.KEPT], minlength=len(classes)) + lost
    share = np.divide(lost, dense_correct, out=np.full(len(classes), np.nan), where=dense_correct > 0)
    low, high = wilson_bounds(np.where(dense_correct > 0, share, 0.5), dense_correct, confidence)
    return ClassLosses(
        name=np.array(tuple(classes), dtype=np.str_),
        n=np.bincount(label, minlength=len(classes)),
        dense_correct=dense_correct,
        lost=lost,
        share=share,
        low=low,
        high=high,
        confidence=confidence,
    )
