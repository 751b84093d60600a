"""Populations of dense and of pruned networks: on which samples their majorities differ, and what classes they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.stats import ttest_ind_from_stats

from thinice.errors import InputError
from thinice.stats.base import BoolColumn, FloatColumn, Result, check_lengths
from thinice.stats.separation import Separation, separation

__all__ = ["ClassTests", "Exemplars", "class_tests", "exemplars", "modal_predictions"]

Predictions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Exemplars(Result):
    """The samples on which the majorities of two populations differ (pruning-identified exemplars), and the rest.

    Accuracies are means over the networks of a population; None over no samples.
    """

    n: int
    n_exemplars: int
    share: float
    """Of the samples that are exemplars."""
    dense_accuracy: float
    pruned_accuracy: float
    dense_accuracy_on_exemplars: float | None
    pruned_accuracy_on_exemplars: float | None
    dense_accuracy_on_rest: float | None
    pruned_accuracy_on_rest: float | None
    dense_modal: Predictions
    """(N,) most frequent prediction of the dense networks."""
    pruned_modal: Predictions
    is_exemplar: BoolColumn
    """(N,)"""
    epsilon: FloatColumn
    """(N,) median over the dense networks; 0 where most misclassify the sample, inf where most found nothing."""
    distances: Separation
    """Of the epsilons of exemplars (in the place of lost samples) and of the rest (kept), where most of the dense
    networks are right."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassTests(Result):
    """What pruning costs each class beyond what it costs all, over populations: one entry a class that has samples."""

    name: npt.NDArray[np.str_]
    n: npt.NDArray[np.int64]
    """Samples of the class."""
    dense_recall: FloatColumn
    """Mean over the dense networks."""
    pruned_recall: FloatColumn
    relative_change: FloatColumn
    """Change of recall beyond the change of accuracy: below 0, the class loses more than the average."""
    t: FloatColumn
    """Welch's t of it, pruned minus dense; NaN with a single network in a population, or where nothing varies."""
    p_value: FloatColumn
    """Two-sided; networks are the draws, the samples are fixed."""


def modal_predictions(predictions: npt.ArrayLike) -> Predictions:
    """Return the most frequent prediction (N,) of networks (M, N); of equally frequent ones the largest label.

    So does the code of Hooker et al.; a prediction that does not exist is -1, and yields to any class.

    Examples
    --------
    >>> modal_predictions([[1, 2, 0], [1, 3, 0], [2, 3, 5], [0, 2, 5]]).tolist()
    [1, 3, 5]
    """
    rows = np.asarray(predictions)
    if rows.ndim != 2 or 0 in rows.shape or not np.issubdtype(rows.dtype, np.integer):
        raise InputError(f"`predictions` must be classes (M, N) of M networks, got {rows.dtype} of shape {rows.shape}")
    ordered = np.sort(rows, axis=0)
    modal, run = ordered[0], np.ones(rows.shape[1], dtype=np.int64)
    longest = run
    for before, label in pairwise(ordered):
        run = np.where(label == before, run + 1, 1)  # how often this label came so far
        modal, longest = np.where(run >= longest, label, modal), np.maximum(run, longest)
    return np.asarray(modal, dtype=np.int64)


def exemplars(
    labels: npt.ArrayLike,
    dense_predictions: npt.ArrayLike,
    pruned_predictions: npt.ArrayLike,
    epsilon: npt.ArrayLike,
    *,
    confidence: float = 0.95,
) -> Exemplars:
    """Return the samples on which the majority of the pruned networks says otherwise than that of the dense ones.

    Parameters
    ----------
    labels
        True classes (N,).
    dense_predictions, pruned_predictions
        (D, N) and (P, N) classes, -1 where there is none.
    epsilon
        (D, N) distances to the boundary of each dense network; 0 where it misclassifies the sample, NaN where not
        found.
    confidence
        Level of the interval of the AUC.

    Raises
    ------
    InputError
        For columns that do not fit each other.

    References
    ----------
    S. Hooker, A. Courville, G. Clark, Y. Dauphin and A. Frome, "What do compressed deep neural networks forget?",
    2019.

    Examples
    --------
    >>> dense, pruned = [[0, 0, 1], [0, 0, 1], [0, 1, 1]], [[0, 1, 1], [0, 1, 0]]
    >>> result = exemplars([0, 0, 1], dense, pruned, [[3, 1, 2], [3, 1, 2], [3, 0, 2]])
    >>> result.is_exemplar.tolist(), result.epsilon.tolist(), result.distances.auc
    ([False, True, False], [3.0, 1.0, 2.0], 1.0)
    """
    label, dense, pruned = np.asarray(labels), np.asarray(dense_predictions), np.asarray(pruned_predictions)
    distance = np.array(epsilon, dtype=np.float64)
    dense_modal, pruned_modal = modal_predictions(dense), modal_predictions(pruned)
    check_lengths(labels=label, dense_predictions=dense_modal, pruned_predictions=pruned_modal)
    if distance.shape != dense.shape:
        raise InputError(f"`epsilon` must be {dense.shape}, a row a dense network, got {distance.shape}")
    distance[np.isnan(distance)] = np.inf
    median = np.sort(distance, axis=0)[[(len(distance) - 1) // 2, len(distance) // 2]].mean(axis=0)
    differs = dense_modal != pruned_modal
    right = dense_modal == label

    def accuracy(predictions: npt.NDArray[np.generic], part: BoolColumn) -> float | None:
        return float((predictions[:, part] == label[part]).mean()) if part.any() else None

    return Exemplars(
        n=len(label),
        n_exemplars=int(differs.sum()),
        share=float(differs.mean()),
        dense_accuracy=float((dense == label).mean()),
        pruned_accuracy=float((pruned == label).mean()),
        dense_accuracy_on_exemplars=accuracy(dense, differs),
        pruned_accuracy_on_exemplars=accuracy(pruned, differs),
        dense_accuracy_on_rest=accuracy(dense, ~differs),
        pruned_accuracy_on_rest=accuracy(pruned, ~differs),
        dense_modal=dense_modal,
        pruned_modal=pruned_modal,
        is_exemplar=np.asarray(differs),
        epsilon=median,
        distances=separation(median[right & ~differs], median[right & differs], confidence=confidence),
    )


def class_tests(
    labels: npt.ArrayLike,
    dense_predictions: npt.ArrayLike,
    pruned_predictions: npt.ArrayLike,
    *,
    classes: Sequence[str] | None = None,
) -> ClassTests:
    """Return for each class whether pruning changes its recall by more or less than it changes the accuracy.

    Of each network the recall of the class minus the mean accuracy of its population; then Welch's t-test of the pruned
    against the dense ones, as in the code of Hooker et al., whose t has the other sign.

    Parameters
    ----------
    labels
        True classes (N,), integers from 0.
    dense_predictions, pruned_predictions
        (D, N) and (P, N) classes, -1 where there is none.
    classes
        Names of all classes; without them classes are named by their numbers.

    Examples
    --------
    >>> labels, dense = [0, 0, 1, 1], [[0, 0, 1, 1], [0, 1, 1, 1]]
    >>> tests = class_tests(labels, dense, [[0, 0, 0, 1], [0, 0, 0, 0]])
    >>> tests.relative_change.tolist(), tests.t.round(2).tolist()
    ([0.5, -0.5], [2.0, -2.0])
    """
    label, dense, pruned = np.asarray(labels), np.asarray(dense_predictions), np.asarray(pruned_predictions)
    for name, rows in (("dense_predictions", dense), ("pruned_predictions", pruned)):
        if rows.ndim != 2 or rows.shape[1] != len(label) or rows.size == 0:
            raise InputError(f"`{name}` must be classes (M, {len(label)}) of M networks, got shape {rows.shape}")
    numbers, which, n = np.unique(label, return_inverse=True, return_counts=True)

    def recalls(predictions: npt.NDArray[np.generic]) -> FloatColumn:
        """Return (M, K) the recall of each class, by each network."""
        right = predictions == label
        return np.array([np.bincount(which, weights=row, minlength=len(numbers)) / n for row in right])

    before, after = recalls(dense), recalls(pruned)
    relative_before, relative_after = before - (dense == label).mean(), after - (pruned == label).mean()
    t = p_value = np.full(len(numbers), np.nan)
    if min(len(dense), len(pruned)) > 1:
        varies = (np.ptp(before, axis=0) > 0) | (np.ptp(after, axis=0) > 0)
        t, p_value = np.full(len(numbers), np.nan), np.full(len(numbers), np.nan)
        moments = [
            moment
            for rows in (relative_after[:, varies], relative_before[:, varies])
            for moment in (rows.mean(axis=0), rows.std(axis=0, ddof=1), len(rows))
        ]
        test = ttest_ind_from_stats(*moments, equal_var=False)
        t[varies], p_value[varies] = test.statistic, test.pvalue
    names = [str(number) if classes is None else classes[number] for number in numbers.tolist()]
    return ClassTests(
        name=np.array(names, dtype=np.str_),
        n=n,
        dense_recall=before.mean(axis=0),
        pruned_recall=after.mean(axis=0),
        relative_change=relative_after.mean(axis=0) - relative_before.mean(axis=0),
        t=t,
        p_value=p_value,
    )
