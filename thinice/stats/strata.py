"""Lost against kept samples within each class: what a difference between the classes themselves cannot make."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from thinice.stats.auc_interval import placements
from thinice.stats.base import FloatColumn
from thinice.stats.rank_tests import mann_whitney_sigma

__all__ = ["Stratified", "stratified"]


class Stratified(NamedTuple):
    """Lost against kept samples of the same class, over all classes that have both."""

    auc: float
    """Chance that of two samples of one class the kept one lies farther than the lost one; ties count half."""
    log_p: float
    """One-sided test of van Elteren, lost samples are nearer, by the normal approximation: a natural logarithm."""
    strata: int
    """Classes with kept and with lost samples; all others say nothing."""


def stratified(
    kept: FloatColumn, lost: FloatColumn, kept_labels: npt.NDArray[np.int64], lost_labels: npt.NDArray[np.int64]
) -> Stratified | None:
    """Return the AUC within classes and van Elteren's test, None where no class has kept and lost samples.

    Where pruning loses mostly samples of some classes, and these lie near the boundary, lost samples are nearer even if
    within a class distance says nothing. The AUC weighs each pair alike; the test weighs the U of a class of N samples
    by 1 / (N + 1), which is the most powerful for the same shift in all classes.

    Parameters
    ----------
    kept, lost
        Epsilons (N,), inf where not found.
    kept_labels, lost_labels
        True classes (N,) of the same samples.

    References
    ----------
    P. H. van Elteren, "On the combination of independent two-sample tests of Wilcoxon", Bull. Int. Stat. Inst. 37,
    1960.

    Examples
    --------
    >>> near, far = np.array([1.0, 2.0]), np.array([2.5, 9.0])  # one class, farther than the other as a whole
    >>> result = stratified(np.append(near, far), np.array([1.5, 8.0]), np.array([0, 0, 1, 1]), np.array([0, 1]))
    >>> result.auc, result.strata
    (0.5, 2)
    """
    kept_by_class, lost_by_class = _by_class(kept, kept_labels), _by_class(lost, lost_labels)
    wins = pairs = score = variance = 0.0
    strata = 0
    for label in kept_by_class.keys() & lost_by_class.keys():
        far, near = kept_by_class[label], lost_by_class[label]
        (m, n), weight = (len(far), len(near)), 1 / (len(far) + len(near) + 1)
        u = float(placements(near, far).sum()) * m  # pairs in which the lost sample lies farther
        wins, pairs, strata = wins + m * n - u, pairs + m * n, strata + 1
        score += weight * (m * n / 2 - u)
        variance += (weight * mann_whitney_sigma(far, near)) ** 2
    if strata == 0:
        return None
    return Stratified(wins / pairs, float(log_ndtr(-score / math.sqrt(variance))) if variance else 0.0, strata)


def _by_class(values: FloatColumn, labels: npt.NDArray[np.int64]) -> dict[int, FloatColumn]:
    """Return the values of each class, sorted."""
    order = np.lexsort((values, labels))
    classes, starts = np.unique(labels[order], return_index=True)
    return dict(zip(classes.tolist(), np.split(values[order], starts[1:]), strict=True))
