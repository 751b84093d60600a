"""Curves over epsilon: how many samples lie farther, how well it tells lost samples from kept ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import CensoredData, ecdf
from sklearn.metrics import roc_curve as _sklearn_roc_curve

from thinice.errors import InputError
from thinice.stats.base import FloatColumn, Result, check_confidence, epsilon_column, wilson_bounds
from thinice.stats.log_rank import known_times
from thinice.types import NORMS, Norm

__all__ = ["RocCurve", "SurvivalCurve", "budget_ladder", "roc_curve", "survival_curve"]


@dataclass(frozen=True, slots=True, eq=False)
class SurvivalCurve(Result):
    """The share of samples farther from the boundary than each budget: a right-continuous step function."""

    budget: FloatColumn
    """Ascending radii (K,), in the unit of the epsilons."""
    share: FloatColumn
    """Share of samples with epsilon above the budget; those not found count as farther than any budget."""
    low: FloatColumn
    """Wilson interval of `share`, point by point, at the level of `confidence`."""
    high: FloatColumn
    n: int
    not_found: int
    """Samples counted as robust at every budget because no adversarial was found."""
    confidence: float


@dataclass(frozen=True, slots=True, eq=False)
class RocCurve(Result):
    """How well "epsilon is at most the threshold" picks the lost samples out; empty where a group is."""

    threshold: FloatColumn
    """Ascending epsilons (K,): from -inf, where no sample is picked, to the largest; inf for "not found"."""
    false_positive_rate: FloatColumn
    """Share of the kept samples within the threshold."""
    true_positive_rate: FloatColumn
    """Share of the lost samples within the threshold."""
    n_kept: int
    n_lost: int


def survival_curve(
    epsilon: npt.ArrayLike,
    *,
    budgets: npt.ArrayLike | None = None,
    searched: npt.ArrayLike | None = None,
    confidence: float = 0.95,
) -> SurvivalCurve:
    """Return the share of samples with epsilon above each budget, with Wilson bounds.

    Over a whole data set, with 0 for misclassified samples, this is the security curve: its value at budget 0
    is the clean accuracy, and elsewhere the robust accuracy that the attack leaves (an upper bound, as
    epsilon is one). Robust at a budget means that no adversarial with a norm of at most the budget was found:
    epsilon > budget.

    Parameters
    ----------
    epsilon
        (N,), NaN where not found: such samples count as robust at every budget; the result says how many.
    budgets
        Where to evaluate, ascending; without them at 0 and at every distinct epsilon: the whole function.
    searched
        (N,) radii up to which samples that were not found were searched: beyond its own, a sample says nothing, and the
        shares are Kaplan and Meier's, with bounds on the scale of ``log(-log(share))``. By default all were searched
        without limit.
    confidence
        Level of the bounds, point by point.

    Raises
    ------
    InputError
        For an epsilon below 0, budgets that do not ascend, radii that are missing or negative, or a confidence outside
        (0, 1).

    References
    ----------
    E. L. Kaplan and P. Meier, "Nonparametric estimation from incomplete observations", JASA 53, 1958.

    Examples
    --------
    >>> curve = survival_curve([0.0, 1.0, 2.0, float("nan")])
    >>> curve.budget.tolist(), curve.share.tolist(), curve.not_found
    ([0.0, 1.0, 2.0], [0.75, 0.5, 0.25], 1)
    """
    check_confidence(confidence)
    unsorted = epsilon_column(epsilon, "epsilon")
    column = np.sort(unsorted)
    if column.size and column[0] < 0:
        raise InputError(f"`epsilon` must not be negative, got {column[0]}: a distance is at least 0")
    found = column[np.isfinite(column)]
    if budgets is None:
        points = np.unique(np.append(found, 0.0))
    else:
        points = np.asarray(budgets, dtype=np.float64)
        if points.ndim != 1 or not np.isfinite(points).all() or (np.diff(points) < 0).any():
            raise InputError("`budgets` must be a flat, ascending list of finite radii")
    n = len(column)
    if searched is not None and n:
        share, low, high = _kaplan_meier(unsorted, searched, points, confidence)
        return SurvivalCurve(
            budget=points, share=share, low=low, high=high, n=n, not_found=n - len(found), confidence=confidence
        )
    robust = n - np.searchsorted(column, points, side="right")
    share = robust / n if n else np.full(len(points), np.nan)
    low, high = wilson_bounds(share if n else np.full(len(points), 0.5), n, confidence)
    return SurvivalCurve(
        budget=points, share=share, low=low, high=high, n=n, not_found=n - len(found), confidence=confidence
    )


def _kaplan_meier(
    epsilon: FloatColumn, searched: npt.ArrayLike, points: FloatColumn, confidence: float
) -> tuple[FloatColumn, FloatColumn, FloatColumn]:
    """Return the shares at the points, and their bounds; [0, 1] where nothing was found up to there."""
    times, found = known_times(epsilon, searched)
    curve = ecdf(CensoredData.right_censored(times, ~found)).sf
    with np.errstate(divide="ignore", invalid="ignore"):  # no bounds where the share is 0 or 1
        bounds = curve.confidence_interval(confidence, method="log-log")
    low, high = bounds.low.evaluate(points), bounds.high.evaluate(points)
    return curve.evaluate(points), np.where(np.isnan(low), 0.0, low), np.where(np.isnan(high), 1.0, high)


def roc_curve(kept: npt.ArrayLike, lost: npt.ArrayLike) -> RocCurve:
    """Return the ROC curve of "the sample lies near the boundary" as a predictor of "pruning loses it".

    Lost samples (S1,0) are the positive class and -epsilon is the score, so the area under the curve is the
    `auc` of `separation`. Samples not found (NaN) are picked last, all together.

    Parameters
    ----------
    kept, lost
        Epsilons (N,), NaN where not found.

    Examples
    --------
    >>> curve = roc_curve(kept=[2.0, 3.0], lost=[1.0, 2.0])
    >>> curve.threshold.tolist()
    [-inf, 1.0, 2.0, 3.0]
    >>> curve.false_positive_rate.tolist(), curve.true_positive_rate.tolist()
    ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    kept, lost = epsilon_column(kept, "kept"), epsilon_column(lost, "lost")
    if min(len(kept), len(lost)) == 0:
        nothing = np.empty(0)
        return RocCurve(nothing, nothing, nothing, n_kept=len(kept), n_lost=len(lost))
    # ranks instead of values: scikit-learn refuses infinity
    values, rank = np.unique(np.concatenate([kept, lost]), return_inverse=True)
    is_lost = np.repeat([False, True], [len(kept), len(lost)])
    false_positive_rate, true_positive_rate, score = _sklearn_roc_curve(is_lost, -rank)
    threshold = np.append(-np.inf, values[-score[1:].astype(np.intp)])
    return RocCurve(threshold, false_positive_rate, true_positive_rate, n_kept=len(kept), n_lost=len(lost))


RUNGS = np.exp2(np.arange(-10, 21, dtype=np.float64))
"""Each budget is twice the one before: from under a thousandth of the unit up."""


def budget_ladder(epsilon: npt.ArrayLike, norm: Norm, *, marginal: float = 0.02) -> FloatColumn:
    """Return ascending budgets for a network's epsilons, each twice the one before.

    The weakest has hardly any effect on the network: it costs at most `marginal` of the accuracy. The strongest is
    the first that more than half of all samples do not withstand. So Merkle et al. chose theirs on the dense network.
    linf budgets are powers of two in 255ths, l0 budgets whole numbers.

    Parameters
    ----------
    epsilon
        (N,) of the dense network: 0 where misclassified, NaN where not found.
    norm
        Of the epsilons.
    marginal
        Share of the samples that the weakest budget may cost.

    Raises
    ------
    InputError
        Where no budget fools more than half: of too many samples nothing was found.

    References
    ----------
    F. Merkle, M. Samsinger, P. Schöttle, "Pruning in the Face of Adversaries", 2021.

    Examples
    --------
    >>> budgets = budget_ladder(np.array([0.0, 1.5, 3.0, 6.0, 7.0]) / 255, "linf")
    >>> (budgets * 255).tolist()
    [1.0, 2.0, 4.0]
    """
    if norm not in NORMS:
        raise InputError(f"`norm` must be one of {', '.join(NORMS)}, got {norm!r}")
    rungs = RUNGS[RUNGS >= 1] if norm == "l0" else RUNGS / 255 if norm == "linf" else RUNGS
    column = np.asarray(epsilon, dtype=np.float32)
    share = survival_curve(column, budgets=rungs.astype(np.float32)).share
    clean = survival_curve(column, budgets=[0.0]).share[0]
    fooled = np.flatnonzero(share < 0.5)
    if not fooled.size:
        raise InputError("`epsilon`: no budget fools more than half of the samples, for of too many nothing was found")
    strongest = int(fooled[0])
    unharmed = np.flatnonzero(clean - share <= marginal)
    weakest = min(int(unharmed[-1]) if unharmed.size else 0, strongest)
    return rungs[weakest : strongest + 1]
