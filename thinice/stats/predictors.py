"""Predictors beside epsilon: whether it predicts what pruning loses better than margin, confidence and loss do."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtri
from scipy.stats import rankdata

from thinice.errors import InputError
from thinice.stats.auc_interval import auc_bounds, placement_variance
from thinice.stats.base import (
    FloatColumn,
    Result,
    bool_column,
    check_confidence,
    check_lengths,
    epsilon_column,
)
from thinice.stats.rank_tests import MIN_GROUP

__all__ = ["PredictorComparison", "compare_predictors", "delong"]

HIGH_IS_RISKY = ("loss", "gradient_norm", "forgetting", "confidence_variance")
"""Predictors of which a high value, not a low one, says that a sample is on thin ice."""
EQUIVALENT_AUC = 0.05
"""AUCs that differ by less are taken to be as good as each other: one lost sample in twenty placed otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class PredictorComparison(Result):
    """How well each quantity of the dense network alone predicts which samples a pruning loses: one entry a predictor.

    The first predictor is the one that the others are tested against. A number that cannot be had is NaN, and `notes`
    says why.
    """

    name: npt.NDArray[np.str_]
    auc: FloatColumn
    """Chance that the predictor calls a kept sample safer than a lost one; ties count half."""
    se: FloatColumn
    """DeLong's standard error of `auc`."""
    low: FloatColumn
    """Interval of `auc`, as of `separation`, at the level of `confidence`."""
    high: FloatColumn
    difference: FloatColumn
    """AUC of the first predictor minus this one's: positive where the first is better; NaN for the first itself."""
    difference_low: FloatColumn
    """Interval of `difference`, for the same samples."""
    difference_high: FloatColumn
    z: FloatColumn
    """`difference` over its standard error."""
    p_value: FloatColumn
    """Two-sided paired DeLong test of no difference. 0.0 below 1e-308, where `log10_p` still holds."""
    log10_p: FloatColumn
    equivalence_log10_p: FloatColumn
    """Two one-sided tests: small where it is shown that the AUCs differ by less than `equivalence`, either way."""
    equivalence: float
    """The difference of AUCs that is taken to be too small to matter."""
    n_kept: int
    n_lost: int
    not_found: int
    """Samples for which the first predictor has no value: ranked as the safest, all tied."""
    confidence: float
    notes: tuple[str, ...]


def compare_predictors(
    lost: npt.ArrayLike,
    predictors: Mapping[str, npt.ArrayLike],
    *,
    high_is_risky: Collection[str] = HIGH_IS_RISKY,
    equivalence: float = EQUIVALENT_AUC,
    confidence: float = 0.95,
) -> PredictorComparison:
    """Return the AUC of each predictor of "pruning loses this sample", and paired tests of the first against others.

    Give only samples that the dense network classifies correctly (S1,1 and S1,0): the others cannot be lost. There the
    largest probability is that of the true class, so that confidence and loss order the samples alike and have the same
    AUC, but for ties where a probability was rounded to 1.

    Parameters
    ----------
    lost
        Truth values (N,): does the pruned network get the sample wrong?
    predictors
        Columns (N,) by name, the first of them the one that the others are held against: ``{"epsilon": …, "margin": …,
        "confidence": …, "loss": …}``. In the first, NaN stands for "not found" and ranks as the safest; the others must
        be numbers.
    high_is_risky
        Names of the predictors of which a high value tells of a loss; of all others a low one does.
    equivalence
        The difference of AUCs that is too small to matter. That no difference is seen shows nothing; that it lies
        within this margin does.
    confidence
        Level of the intervals.

    Raises
    ------
    InputError
        Without predictors, for columns of different length or with missing values, an unknown name in `high_is_risky`
        (other than those of `HIGH_IS_RISKY`), an equivalence margin or a confidence outside (0, 1).

    References
    ----------
    E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, "Comparing the areas under two or more correlated receiver
    operating characteristic curves: a nonparametric approach", Biometrics 44, 1988; D. J. Schuirmann, "A comparison of
    the two one-sided tests procedure and the power approach for assessing the equivalence of average bioavailability",
    J. Pharmacokinet. Biopharm. 15, 1987.

    Examples
    --------
    >>> lost = [True, True, False, False, False]
    >>> table = compare_predictors(lost, {"epsilon": [1, 2, 3, 4, 5], "loss": [0.3, 0.9, 0.5, 0.2, 0.1]})
    >>> table.name.tolist(), table.auc.round(3).tolist(), table.difference.round(3).tolist()
    (['epsilon', 'loss'], [1.0, 0.833], [nan, 0.167])
    """
    check_confidence(confidence)
    if not 0 < equivalence < 1:
        raise InputError(f"`equivalence` must lie between 0 and 1, got {equivalence}: 0.05 of AUC is the default")
    is_lost = bool_column(lost, "lost")
    safety, not_found = _safety(is_lost, predictors, high_is_risky)
    names = np.array(list(predictors), dtype=np.str_)
    n_kept, n_lost = int((~is_lost).sum()), int(is_lost.sum())
    nothing = np.full(len(names), np.nan)
    notes: list[str] = []
    if min(n_kept, n_lost) == 0:
        empty = " and ".join(name for name, size in (("S1,1", n_kept), ("S1,0", n_lost)) if size == 0)
        notes.append(f"nothing to predict: {empty} is empty (0 of {len(is_lost)} samples)")
        auc, variance, covariance, df = nothing, nothing, nothing, nothing
    else:
        placed_kept, placed_lost = _placements(safety[:, ~is_lost], safety[:, is_lost])
        auc, matrix = _auc_covariance(placed_kept, placed_lost)
        variance, covariance, df = np.diag(matrix), matrix[0], placement_variance(placed_kept, placed_lost).df
        if min(n_kept, n_lost) < MIN_GROUP:
            notes.append(
                f"p-values withheld: the smaller group has {min(n_kept, n_lost)} samples, fewer than {MIN_GROUP}"
            )
    se = np.sqrt(variance)
    low, high = auc_bounds(auc, se, df, (n_kept, n_lost), confidence)
    difference = auc[0] - auc
    # at least 0 but for rounding, and 0 exactly where two predictors order the samples alike
    spread = np.sqrt(np.maximum(variance[0] + variance - 2 * covariance, 0))
    spread[spread <= 1e-9 * (se[0] + se)] = 0
    difference[0] = spread[0] = np.nan  # the first against itself
    z = np.divide(difference, spread, out=np.where(difference == 0, 0.0, np.nan), where=spread > 0)
    half = np.where(np.isnan(z), np.nan, ndtri(0.5 + confidence / 2) * spread)
    untested = names[~np.isnan(difference) & np.isnan(z)]
    notes.extend(f"no test of {name}: the spread of its difference is not known" for name in untested)
    log_p = log_p_equivalence = nothing
    if min(n_kept, n_lost) >= MIN_GROUP:
        log_p = np.minimum(0, math.log(2) + log_ndtr(-np.abs(z)))
        within = np.divide(equivalence - np.abs(difference), spread, out=nothing.copy(), where=spread > 0)
        log_p_equivalence = log_ndtr(-within)
    return PredictorComparison(
        name=names,
        auc=auc,
        se=se,
        low=low,
        high=high,
        difference=difference,
        difference_low=np.maximum(difference - half, -1),
        difference_high=np.minimum(difference + half, 1),
        z=z,
        p_value=np.exp(log_p),
        log10_p=log_p / math.log(10),
        equivalence_log10_p=log_p_equivalence / math.log(10),
        equivalence=equivalence,
        n_kept=n_kept,
        n_lost=n_lost,
        not_found=not_found,
        confidence=confidence,
        notes=tuple(notes),
    )


def delong(kept: npt.ArrayLike, lost: npt.ArrayLike) -> tuple[FloatColumn, FloatColumn]:
    """Return the AUCs (K,) of several predictors on the same samples and DeLong's covariance matrix of them (K, K).

    By midranks, in O(K N log N): a sample's midrank among all, minus its midrank within its own group, is the number of
    samples of the other group below it, ties half. The covariance is NaN where a group has a single sample.

    Parameters
    ----------
    kept, lost
        (K, M) and (K, N): each predictor's values for the samples of the two groups, higher for the safer one; inf is
        allowed.

    Raises
    ------
    InputError
        For an empty group, a NaN, or different numbers of predictors.

    References
    ----------
    X. Sun and W. Xu, "Fast implementation of DeLong's algorithm for comparing the areas under correlated receiver
    operating characteristic curves", IEEE Signal Processing Letters 21, 2014.

    Examples
    --------
    >>> auc, covariance = delong(kept=[[3.0, 5.0, 4.0]], lost=[[3.0, 1.0]])
    >>> round(float(auc[0]), 6), round(float(covariance[0, 0]), 6)
    (0.916667, 0.013889)
    """
    kept, lost = (np.atleast_2d(np.asarray(group, dtype=np.float64)) for group in (kept, lost))
    if len(kept) != len(lost) or kept.ndim != 2 or lost.ndim != 2:
        raise InputError(f"`kept` and `lost` must be (K, M) and (K, N), got shapes {kept.shape} and {lost.shape}")
    m, n = kept.shape[1], lost.shape[1]
    if min(m, n) == 0:
        raise InputError(f"`kept` and `lost` must not be empty, got {m} and {n} samples: an empty group has no AUC")
    if np.isnan(kept).any() or np.isnan(lost).any():
        raise InputError("`kept` and `lost` must not hold NaN: rank samples that were not found as inf")
    return _auc_covariance(*_placements(kept, lost))


def _placements(kept: FloatColumn, lost: FloatColumn) -> tuple[FloatColumn, FloatColumn]:
    """Return for each sample and predictor the share of the other group below it, ties half: (K, M) and (K, N)."""
    m, n = kept.shape[1], lost.shape[1]
    among_all = rankdata(np.concatenate([kept, lost], axis=1), axis=1)
    return (among_all[:, :m] - rankdata(kept, axis=1)) / n, (among_all[:, m:] - rankdata(lost, axis=1)) / m


def _auc_covariance(placed_kept: FloatColumn, placed_lost: FloatColumn) -> tuple[FloatColumn, FloatColumn]:
    auc, m, n = placed_kept.mean(axis=1), placed_kept.shape[1], placed_lost.shape[1]
    if min(m, n) == 1:
        return auc, np.full((len(auc), len(auc)), np.nan)
    # a high share of kept samples below a lost one counts against the predictor: signs cancel in the covariance
    return auc, np.atleast_2d(np.cov(placed_kept) / m + np.cov(placed_lost) / n)


def _safety(
    is_lost: npt.NDArray[np.bool_], predictors: Mapping[str, npt.ArrayLike], high_is_risky: Collection[str]
) -> tuple[FloatColumn, int]:
    """Return the predictors as rows (K, N) in which higher is safer, and how many values the first one lacks."""
    if not predictors:
        raise InputError('`predictors` is empty: give at least one column, {"epsilon": epsilon}')
    strange = set(high_is_risky) - set(predictors) - set(HIGH_IS_RISKY)
    if strange:
        raise InputError(f"`high_is_risky` names {min(strange)!r}: the predictors are {', '.join(predictors)}")
    rows, not_found = [], 0
    for k, (name, values) in enumerate(predictors.items()):
        column = epsilon_column(values, name) if k == 0 else np.asarray(values, dtype=np.float64)
        check_lengths(lost=is_lost, **{name: column})
        if np.isnan(column).any():
            raise InputError(f"`{name}` holds NaN: only the first predictor may lack values, leave such samples out")
        if k == 0:
            not_found = int(np.isinf(column).sum())
            if not_found and name in high_is_risky:
                raise InputError(
                    f"`{name}` lacks values, and high ones of it are risky: such samples would rank as lost"
                )
        rows.append(-column if name in high_is_risky else column)
    return np.array(rows), not_found
