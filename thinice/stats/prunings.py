"""Several prunings of one dense network: Holm's adjusted p-values, and tests between their AUCs on the same samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtri

from thinice.errors import InputError
from thinice.stats.auc_interval import placements
from thinice.stats.base import (
    BoolColumn,
    FloatColumn,
    Result,
    bool_column,
    check_confidence,
    check_lengths,
    epsilon_column,
)
from thinice.stats.rank_tests import MIN_GROUP
from thinice.stats.tail_probabilities import log_chi_squared

__all__ = ["PruningComparison", "compare_prunings", "holm"]


@dataclass(frozen=True, slots=True, eq=False)
class PruningComparison(Result):
    """How the AUCs of several prunings of one dense network differ: one entry a pair, the first minus the second."""

    first: npt.NDArray[np.str_]
    second: npt.NDArray[np.str_]
    difference: FloatColumn
    low: FloatColumn
    """Interval of `difference`, over samples: a new draw of them changes both AUCs together."""
    high: FloatColumn
    log10_p: FloatColumn
    """Two-sided, adjusted by Holm over all pairs; NaN where a pruning loses, or keeps, fewer than 10 samples."""
    joint_log10_p: float | None
    """All AUCs are equal: Wald's test, with one degree of freedom fewer than there are prunings."""
    confidence: float
    notes: tuple[str, ...]


def holm(log10_p: npt.ArrayLike) -> FloatColumn:
    """Return Holm's adjusted p-values, on the log10 scale: the chance of any false finding among them, at most.

    The k-th smallest of n p-values (from 1) times n - k + 1, at most 1, and never below the one before it.

    Parameters
    ----------
    log10_p
        (N,) decimal logarithms of p-values, at most 0; NaN where there is none: stays so, and is not counted.

    Raises
    ------
    InputError
        For a value above 0, which is no logarithm of a probability.

    References
    ----------
    S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6, 1979.

    Examples
    --------
    >>> holm([-400.0, -2.0, float("nan"), -1.0]).round(3).tolist()
    [-399.523, -1.699, nan, -1.0]
    """
    values = np.array(log10_p, dtype=np.float64)
    if values.ndim != 1:
        raise InputError(f"`log10_p` must be a flat list, got shape {values.shape}")
    if (values > 0).any():
        raise InputError(f"`log10_p` holds {np.nanmax(values)}: the logarithm of a p-value is at most 0")
    n = int((~np.isnan(values)).sum())
    order = np.argsort(values, kind="stable")[:n]  # NaN comes last
    adjusted = np.full(len(values), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] + np.log10(np.arange(n, 0, -1))), 0)
    return adjusted


def compare_prunings(
    epsilon: npt.ArrayLike, lost: Mapping[str, npt.ArrayLike], *, confidence: float = 0.95
) -> PruningComparison:
    """Return whether distance to the dense boundary predicts the losses of some prunings better than those of others.

    The prunings share their samples and the dense network's epsilons; only which samples they lose differs, which
    DeLong's test does not cover. The covariance of the AUCs is that of the bootstrap over samples, drawn jointly for
    all prunings, without its noise: the infinitesimal jackknife. Each AUC's variance is DeLong's.

    Parameters
    ----------
    epsilon
        (N,) of the samples that the dense network classifies correctly, NaN where not found.
    lost
        By pruning, truth values (N,): does it get the sample wrong?
    confidence
        Level of the intervals, each by itself.

    Raises
    ------
    InputError
        For fewer than two prunings, columns of different length, or a confidence outside (0, 1).

    References
    ----------
    L. A. Jaeckel, "The infinitesimal jackknife", Bell Laboratories memorandum, 1972; B. Efron, *The jackknife, the
    bootstrap and other resampling plans*, 1982, chapter 6.

    Examples
    --------
    >>> epsilon = np.arange(40.0)
    >>> lost = {"near": epsilon < 12, "scattered": epsilon % 3 == 0}
    >>> result = compare_prunings(epsilon, lost)
    >>> result.difference.round(3).tolist(), result.joint_log10_p < -4
    ([0.5], True)
    """
    check_confidence(confidence)
    if len(lost) < 2:
        raise InputError(f"`lost` has {len(lost)} prunings: give at least two to compare")
    column = epsilon_column(epsilon, "epsilon")
    names, aucs, influences, few = list(lost), [], [], []
    for name, values in lost.items():
        is_lost = bool_column(values, name)
        check_lengths(epsilon=column, **{name: is_lost})
        auc, influence = _influence(column, is_lost)
        aucs.append(auc)
        influences.append(influence)
        few += [name] if min(is_lost.sum(), (~is_lost).sum()) < MIN_GROUP else []
    all_auc, covariance = np.array(aucs), np.array(influences) @ np.array(influences).T
    pairs = list(combinations(range(len(names)), 2))
    a, b = np.array(pairs).T
    difference = all_auc[a] - all_auc[b]
    variance = covariance[a, a] + covariance[b, b] - 2 * covariance[a, b]
    spread = np.sqrt(np.maximum(variance, 0))
    tested = (spread > 1e-9) & ~np.isin(np.array(names)[np.array(pairs)], few).any(axis=1)
    z = np.divide(difference, spread, out=np.full(len(pairs), np.nan), where=tested)
    half = np.where(np.isnan(spread), np.nan, ndtri(0.5 + confidence / 2) * spread)
    return PruningComparison(
        first=np.array([names[k] for k in a], dtype=np.str_),
        second=np.array([names[k] for k in b], dtype=np.str_),
        difference=difference,
        low=np.maximum(difference - half, -1),
        high=np.minimum(difference + half, 1),
        log10_p=holm(np.minimum(0, math.log(2) + log_ndtr(-np.abs(z))) / math.log(10)),
        joint_log10_p=None if few else _all_equal(all_auc, covariance),
        confidence=confidence,
        notes=tuple(f"{name} loses, or keeps, fewer than {MIN_GROUP} samples: no test of it" for name in few),
    )


def _influence(epsilon: FloatColumn, lost: BoolColumn) -> tuple[float, FloatColumn]:
    """Return the AUC, and by how much each sample (N,) moves it; the sum of squares is DeLong's variance."""
    if lost.all() or not lost.any():
        return math.nan, np.full(len(epsilon), np.nan)
    groups = np.sort(epsilon[~lost]), np.sort(epsilon[lost])
    influence = np.empty(len(epsilon))
    influence[~lost] = placements(epsilon[~lost], groups[1])
    influence[lost] = 1 - placements(epsilon[lost], groups[0])
    auc = float(influence[~lost].mean())
    for group in (lost, ~lost):
        n = int(group.sum())
        influence[group] = (influence[group] - auc) / math.sqrt(n * (n - 1)) if n > 1 else math.nan
    return auc, influence


def _all_equal(auc: FloatColumn, covariance: FloatColumn) -> float | None:
    """Return log10 p of Wald's test that all AUCs are equal; None where their differences do not vary."""
    contrasts = np.eye(len(auc))[1:] - np.eye(len(auc))[0]
    differences, spread = contrasts @ auc, contrasts @ covariance @ contrasts.T
    if np.linalg.matrix_rank(spread, hermitian=True) < len(differences):
        return None
    statistic = float(differences @ np.linalg.solve(spread, differences))
    return float(log_chi_squared(statistic, len(differences)) / math.log(10))
