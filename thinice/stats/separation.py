"""Two groups of samples, lost and kept: how well does distance to the boundary tell them apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_ndtr, logit, ndtri
from scipy.stats import rankdata

from thinice.printable import plain
from thinice.stats.base import FloatColumn, Result, check_confidence, epsilon_column, quantile, wilson_bounds
from thinice.stats.registry import statistic_values
from thinice.stats.tail_probabilities import log_rank_sum
from thinice.types import Interval

__all__ = [
    "MIN_GROUP",
    "Separation",
    "auc_bounds",
    "hodges_lehmann",
    "hodges_lehmann_interval",
    "mann_whitney_sigma",
    "ranked_sum",
    "separation",
]

LAID_OUT = 1000
"""With at most so many values, all their sums are laid out; with more, sums of a value with itself weigh half."""

Ranks = npt.NDArray[np.intp]


def hodges_lehmann(kept: npt.ArrayLike, lost: npt.ArrayLike) -> float | None:
    """Return the median of all differences ``kept - lost``, the Hodges-Lehmann shift, in the unit of epsilon.

    A sample that was not found lies farther than every found one: such a pair counts as an infinite
    difference (of the right sign); a pair of two such samples is left out, for its difference is unknown.

    Exact up to rounding, without the ``len(kept) * len(lost)`` differences: bisection on the value of the
    median, counting pairs in the sorted groups, until the few differences left can be laid out and sorted.
    Memory grows with ``len(kept) + len(lost)``.

    Parameters
    ----------
    kept, lost
        Epsilons (N,), NaN where not found.

    Returns
    -------
    float or None
        None where a group is empty, or where too many samples were not found for the median to be known.

    References
    ----------
    J. L. Hodges and E. L. Lehmann, "Estimates of location based on rank tests", Ann. Math. Stat. 34, 1963.

    Examples
    --------
    >>> hodges_lehmann([5.0, 6.0, 9.0], [1.0, 2.0])
    4.5
    >>> hodges_lehmann([5.0, float("nan"), float("nan")], [1.0, 2.0]) is None
    True
    """
    x, y = epsilon_column(kept, "kept"), epsilon_column(lost, "lost")
    found_x, found_y = np.sort(x[np.isfinite(x)]), np.sort(y[np.isfinite(y)])
    below = len(found_x) * (len(y) - len(found_y))  # differences of -inf
    finite = len(found_x) * len(found_y)
    above = (len(x) - len(found_x)) * len(found_y)  # differences of +inf
    total = below + finite + above
    low, high = (total - 1) // 2 - below, total // 2 - below  # the median's ranks among the finite ones
    if total == 0 or low < 0 or high >= finite:
        return None
    if len(found_x) < len(found_y):  # the search loops over its second argument: make that the short one
        return -_median_difference(found_y, found_x, finite - 1 - high, finite - 1 - low)
    return _median_difference(found_x, found_y, low, high)


def hodges_lehmann_interval(kept: npt.ArrayLike, lost: npt.ArrayLike, *, confidence: float = 0.95) -> Interval | None:
    """Return the interval of the Hodges-Lehmann shift: all shifts that the Mann-Whitney test does not refuse.

    Its ends are two of the ordered differences ``kept - lost``, chosen by the normal approximation with tie correction.
    An end is infinite where the groups are too small to bound it, or where it falls on a sample that was not found.
    Pairs of two such samples count as ties, whatever the shift.

    Parameters
    ----------
    kept, lost
        Epsilons (N,), NaN where not found.
    confidence
        Level of the interval.

    Returns
    -------
    Interval or None
        None where a group is empty, or nothing was found in one of them.

    References
    ----------
    M. Hollander and D. A. Wolfe, *Nonparametric statistical methods*, 2nd edition 1999, section 4.3.

    Examples
    --------
    >>> interval = hodges_lehmann_interval([5.0, 6.0, 9.0, 11.0, 14.0], [1.0, 2.0, 2.5, 4.0, 7.0])
    >>> interval.low, interval.high
    (1.0, 11.5)
    """
    check_confidence(confidence)
    x, y = epsilon_column(kept, "kept"), epsilon_column(lost, "lost")
    found_x, found_y = np.sort(x[np.isfinite(x)]), np.sort(y[np.isfinite(y)])
    if min(len(found_x), len(found_y)) == 0:
        return None
    missing_x, missing_y = len(x) - len(found_x), len(y) - len(found_y)
    below, finite = len(found_x) * missing_y, len(found_x) * len(found_y)  # differences of -inf, finite differences
    outside = len(x) * len(y) / 2 - ndtri(0.5 + confidence / 2) * mann_whitney_sigma(x, y)
    # so many differences lie outside on either side: R's wilcox.test and Hollander and Wolfe round down, at least 1
    skipped = math.floor(outside - missing_x * missing_y / 2)
    total = len(x) * len(y) - missing_x * missing_y

    def ranked(rank: int) -> float:
        if not 0 <= rank < finite:
            return math.copysign(math.inf, rank)
        return _ranked_difference(found_x, found_y, rank)

    if skipped < 1:
        return Interval(-math.inf, math.inf, confidence)
    return Interval(ranked(skipped - 1 - below), ranked(total - skipped - below), confidence)


def mann_whitney_sigma(x: FloatColumn, y: FloatColumn) -> float:
    """Return the standard deviation of Mann-Whitney's U where nothing separates the groups, with tie correction."""
    m, n, total = len(x), len(y), len(x) + len(y)
    ties = np.unique(np.concatenate([x, y]), return_counts=True)[1].astype(np.float64)
    tie_term = (ties**3 - ties).sum() / (total * (total - 1)) if total > 1 else 0.0
    return math.sqrt(m * n / 12 * max(0.0, total + 1 - tie_term))


def ranked_sum(values: FloatColumn, rank: int) -> float:
    """Return the sum of this rank (from 0) among the sums of all pairs of the sorted values, each with itself too.

    >>> [ranked_sum(np.array([1.0, 2.0, 4.0]), rank) for rank in range(6)]
    [2.0, 3.0, 4.0, 5.0, 6.0, 8.0]
    """
    n = len(values)
    if n <= LAID_OUT:
        first, second = np.triu_indices(n)
        return float(np.partition(values[first] + values[second], rank)[rank])
    # among all n^2 ordered pairs each sum stands twice, but for those of a value with itself, which stand once
    share = (rank + 0.5) / (n * (n + 1) / 2)
    among_all = min(n * n - 1, int(share * n * n))
    return _median_difference(values, -values[::-1], among_all, among_all)


def _ranked_difference(x: FloatColumn, y: FloatColumn, rank: int) -> float:
    """Return the difference ``x - y`` of this rank (from 0); x and y are sorted."""
    if len(x) < len(y):
        last = len(x) * len(y) - 1
        return -_median_difference(y, x, last - rank, last - rank)
    return _median_difference(x, y, rank, rank)


def _median_difference(x: FloatColumn, y: FloatColumn, rank_low: int, rank_high: int) -> float:
    """Return the mean of the differences ``x - y`` of two neighbouring ranks (from 0); x and y are sorted."""
    # always: at most `rank_low` differences are <= low, more than `rank_high` are <= high;
    # of the row of y[j], x[start[j]:stop[j]] lie between
    low, high = math.nextafter(x[0] - y[-1], -math.inf), float(x[-1] - y[0])
    start, stop = np.zeros(len(y), np.intp), np.full(len(y), len(x), np.intp)
    rounding = math.ulp(max(abs(x[0]), abs(x[-1]), abs(y[0]), abs(y[-1])))
    while (stop - start).sum() > 4 * (len(x) + len(y)):
        middle = low + (high - low) / 2
        if high - low <= rounding or middle in (low, high):  # many equal differences
            return _first_above(x, y, start)
        at = _ranks(x, y, middle)
        count = at.sum()
        if count <= rank_low:
            low, start = middle, at
        elif count > rank_high:
            high, stop = middle, at
        else:  # the median falls between two differences
            return float((_last_below(x, y, at) + _first_above(x, y, at)) / 2)
    differences = np.sort(_between(x, y, start, stop))
    skipped = int(start.sum())
    return float((differences[rank_low - skipped] + differences[rank_high - skipped]) / 2)


def _ranks(x: FloatColumn, y: FloatColumn, value: float) -> Ranks:
    """Return for each y how many x satisfy ``x - y <= value``."""
    return np.asarray(np.searchsorted(x, y + value, side="right"))


def _last_below(x: FloatColumn, y: FloatColumn, at: Ranks) -> float:
    some = at > 0
    return float((x[at[some] - 1] - y[some]).max())


def _first_above(x: FloatColumn, y: FloatColumn, at: Ranks) -> float:
    some = at < len(x)
    return float((x[at[some]] - y[some]).min())


def _between(x: FloatColumn, y: FloatColumn, start: Ranks, stop: Ranks) -> FloatColumn:
    """Return the differences ``x[i] - y[j]`` with ``start[j] <= i < stop[j]``, laid out in one column."""
    lengths = stop - start
    ends = np.cumsum(lengths)
    index = np.arange(ends[-1]) - np.repeat(ends - lengths - start, lengths)
    return np.asarray(x[index] - np.repeat(y, lengths))


MIN_GROUP = 10
"""With fewer samples than this in the smaller group, the normal approximation gives no p-value."""
EXACT_WORK = 30_000
"""The smaller group's size times that of both: with at most so much, a second's work, the exact test steps in."""


@dataclass(frozen=True, slots=True)
class Separation(Result):
    """How far the lost samples (S1,0) lie from the boundary, against the kept ones (S1,1).

    A number that cannot be had is None, and `notes` says why. Distances are in the unit of the epsilons.
    """

    n_kept: int
    n_lost: int
    not_found_kept: int
    """Kept samples without a distance: right-censored, ranked last, all tied."""
    not_found_lost: int
    auc: float | None
    """Chance that a kept sample lies farther from the boundary than a lost one; ties count half."""
    auc_se: float | None
    """DeLong's standard error of `auc`; None where it is zero or a group has a single sample."""
    confidence: float
    u: float | None
    """Mann-Whitney U of the lost samples: pairs in which the lost one lies farther, ties half."""
    p_value: float | None
    """One-sided: lost samples are nearer. 0.0 below 1e-308, where `log10_p` still holds."""
    log10_p: float | None
    p_value_two_sided: float | None
    log10_p_two_sided: float | None
    exact: bool
    """Whether the p-values count all cases, instead of following the normal approximation."""
    median_kept: float | None
    """None also where the median is itself a not-found sample."""
    median_lost: float | None
    quartiles_kept: tuple[float | None, float | None]
    quartiles_lost: tuple[float | None, float | None]
    shift: float | None
    """Hodges-Lehmann estimate: by how much kept samples lie farther than lost ones."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a flat dict for JSON: the fields, and all statistics of `thinice.stats.registry`."""
        return Result.to_dict(self) | {name: plain(value) for name, value in statistic_values(self).items()}

    @property
    def auc_interval(self) -> Interval | None:
        """The interval of `auc` at the level of `confidence`."""
        return self.interval()

    @property
    def auc_low(self) -> float | None:
        """Lower end of `auc_interval`."""
        return None if self.auc_interval is None else self.auc_interval.low

    @property
    def auc_high(self) -> float | None:
        """Upper end of `auc_interval`."""
        return None if self.auc_interval is None else self.auc_interval.high

    @property
    def common_language(self) -> float | None:
        """The common-language effect size, another name of `auc`."""
        return self.auc

    @property
    def cliffs_delta(self) -> float | None:
        """Return ``2 auc - 1``: from -1 to 1, and 0 where the groups are not separated."""
        return None if self.auc is None else 2 * self.auc - 1

    def interval(self, confidence: float | None = None) -> Interval | None:
        """Return the interval of `auc`, at another level if one is given; None where `auc` is None.

        As of `auc_bounds`.
        With few lost samples and a high AUC the 95 % interval covers less than it says. In 1000 simulations each with
        870 kept samples, both groups normal, it held the true AUC in 90 % of the cases for 0.86 and 12 lost samples,
        94 % for 50; for an AUC of 0.96 in 83 % for 12, 88 % for 30 and 94 % for 100.
        """
        confidence = self.confidence if confidence is None else confidence
        check_confidence(confidence)
        if self.auc is None:
            return None
        se = np.array([np.nan if self.auc_se is None else self.auc_se])
        low, high = auc_bounds(np.array([self.auc]), se, min(self.n_kept, self.n_lost), confidence)
        return Interval(float(low[0]), float(high[0]), confidence)


def auc_bounds(auc: FloatColumn, se: FloatColumn, n: int, confidence: float) -> tuple[FloatColumn, FloatColumn]:
    """Return the lower and upper bound of each AUC (K,); NaN where the AUC is.

    DeLong's interval on the logit scale. Where DeLong's variance is zero or unknown (an AUC of exactly 0 or 1, all
    samples tied, a group of one sample), Wilson's interval for a share of `n` trials: the variance of the AUC never
    exceeds ``auc (1 - auc) / n`` (Birnbaum and Klose, Ann. Math. Stat. 28, 1957), so that interval is wide rather than
    wrong.

    Parameters
    ----------
    auc, se
        (K,) AUCs and DeLong's standard errors of them, NaN where not known.
    n
        Samples of the smaller group.
    confidence
        Level of the interval.

    Examples
    --------
    >>> low, high = auc_bounds(np.array([0.8, 1.0]), np.array([0.05, np.nan]), 20, 0.95)
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.684, 0.839], [0.881, 1.0])
    """
    has_se = (auc > 0) & (auc < 1) & (se > 0)
    centre = logit(np.where(has_se, auc, 0.5))
    half = ndtri(0.5 + confidence / 2) * np.where(has_se, se, 0.0) / np.where(has_se, auc * (1 - auc), 1.0)
    low, high = wilson_bounds(np.where(np.isnan(auc), 0.5, auc), n, confidence)
    low, high = np.where(has_se, expit(centre - half), low), np.where(has_se, expit(centre + half), high)
    return np.where(np.isnan(auc), np.nan, low), np.where(np.isnan(auc), np.nan, high)


def separation(kept: npt.ArrayLike, lost: npt.ArrayLike, *, confidence: float = 0.95) -> Separation:
    """Return how well distance to the boundary tells lost samples (S1,0) from kept ones (S1,1).

    Mann-Whitney U with its AUC and DeLong interval, the asymptotic p-value with tie and continuity correction
    (as ``scipy.stats.mannwhitneyu(lost, kept, alternative="less", method="asymptotic")``, also as log10,
    which does not underflow), medians, quartiles, Hodges-Lehmann shift.

    The rules for what is not a plain number:

    - *not found* (NaN) is right-censored: ranked after every found sample, all of them tied; counted in the
      result. A median or quartile that falls on such a sample is None.
    - *ties* count half in the AUC and shrink the variance of U.
    - *an empty group* gives counts and a note, everything else None; never an exception.
    - *fewer than 10 samples* in the smaller group: the p-value is exact, given the ties as they are; where the other
      group is too large for that (7 lost ones of more than 4285 samples), it is withheld.
    - *all samples tied*: auc 0.5 and p 1.

    Parameters
    ----------
    kept, lost
        Epsilons (N,) of samples that the dense network classifies correctly; NaN where not found.
    confidence
        Level of the interval of the AUC.

    Raises
    ------
    InputError
        For columns that are not flat and numeric, or a confidence outside (0, 1).

    References
    ----------
    H. B. Mann and D. R. Whitney, "On a test of whether one of two random variables is stochastically larger
    than the other", Ann. Math. Stat. 18, 1947; E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson,
    "Comparing the areas under two or more correlated receiver operating characteristic curves: a
    nonparametric approach", Biometrics 44, 1988.

    Examples
    --------
    >>> result = separation(kept=[3.0, 4.0, 5.0, float("nan")], lost=[1.0, 3.0])
    >>> result.auc, result.u, result.median_kept, result.shift
    (0.9375, 0.5, 4.5, 2.5)
    >>> round(result.p_value, 4), result.exact  # 2 of the 15 ways to choose 2 of 6 samples
    (0.1333, True)
    """
    check_confidence(confidence)
    kept, lost = np.sort(epsilon_column(kept, "kept")), np.sort(epsilon_column(lost, "lost"))
    m, n = len(kept), len(lost)
    notes, exact = [], False
    auc = auc_se = u = log_p = log_p_two_sided = None
    if min(m, n) == 0:
        empty = " and ".join(name for name, size in (("S1,1", m), ("S1,0", n)) if size == 0)
        notes.append(f"nothing to separate: {empty} is empty (0 of {m + n} samples)")
    else:
        below_lost, below_kept = _twice_below(kept, lost), _twice_below(lost, kept)
        u = float(below_lost.sum() / 2)
        auc = (m * n - u) / (m * n)
        auc_se = _delong_se(below_kept / (2 * n), below_lost / (2 * m)) if 0 < auc < 1 else None
        if min(m, n) < MIN_GROUP:
            exact = min(m, n) * (m + n) <= EXACT_WORK
            if exact:
                log_p, log_p_two_sided = _log_p_exact(kept, lost)
            else:
                notes.append(
                    f"p-value withheld: the smaller group has {min(m, n)} samples, fewer than {MIN_GROUP}, "
                    "and the other is too large for the exact test"
                )
        else:
            log_p, log_p_two_sided = _log_p(u, kept, lost)
    shift = hodges_lehmann(kept, lost)
    if shift is None and auc is not None:
        notes.append("no shift: too many samples were not found for its median to be known")
    median_kept, median_lost = quantile(kept), quantile(lost)
    for name, size, median in (("S1,1", m, median_kept), ("S1,0", n, median_lost)):
        if size and median is None:
            notes.append(f"no median of {name}: half of its samples or more were not found")
    return Separation(
        n_kept=m,
        n_lost=n,
        not_found_kept=int(np.isinf(kept).sum()),
        not_found_lost=int(np.isinf(lost).sum()),
        auc=auc,
        auc_se=auc_se,
        confidence=confidence,
        u=u,
        p_value=None if log_p is None else math.exp(log_p),
        log10_p=None if log_p is None else log_p / math.log(10),
        p_value_two_sided=None if log_p_two_sided is None else math.exp(log_p_two_sided),
        log10_p_two_sided=None if log_p_two_sided is None else log_p_two_sided / math.log(10),
        exact=exact,
        median_kept=median_kept,
        median_lost=median_lost,
        quartiles_kept=(quantile(kept, 0.25), quantile(kept, 0.75)),
        quartiles_lost=(quantile(lost, 0.25), quantile(lost, 0.75)),
        shift=shift,
        notes=tuple(notes),
    )


def _twice_below(group: FloatColumn, values: FloatColumn) -> npt.NDArray[np.intp]:
    """Return for each value twice the number of samples of the sorted group below it, ties half: integers."""
    return np.searchsorted(group, values, side="left") + np.searchsorted(group, values, side="right")


def _delong_se(share_below_kept: FloatColumn, share_below_lost: FloatColumn) -> float | None:
    """Return DeLong's standard error from each group's placements in the other, None if zero or unknown."""
    if min(len(share_below_kept), len(share_below_lost)) < 2:
        return None
    variance = sum(placements.var(ddof=1) / len(placements) for placements in (share_below_kept, share_below_lost))
    return math.sqrt(variance) if variance > 0 else None


def _log_p(u: float, kept: FloatColumn, lost: FloatColumn) -> tuple[float, float]:
    """Return the natural logarithms of the one-sided and the two-sided p-value of U of the lost samples."""
    m, n = len(kept), len(lost)
    sigma = mann_whitney_sigma(kept, lost)
    if sigma == 0:  # all tied
        return 0.0, 0.0
    z = (m * n / 2 - u - 0.5) / sigma
    z_two_sided = (abs(m * n / 2 - u) - 0.5) / sigma
    return float(log_ndtr(-z)), min(0.0, math.log(2) + float(log_ndtr(-z_two_sided)))


def _log_p_exact(kept: FloatColumn, lost: FloatColumn) -> tuple[float, float]:
    """Return what `_log_p` does, counting all ways to draw the groups from their own values, ties as they are."""
    m, n = len(kept), len(lost)
    scores = (2 * rankdata(np.concatenate([kept, lost]))).astype(np.int64)
    drawn = scores[m:] if n <= m else scores[:m]
    near = log_rank_sum(scores, len(drawn), int(drawn.sum()))  # the smaller group lies as near, or nearer
    top = int(scores.max())
    far = log_rank_sum(top - scores, len(drawn), len(drawn) * top - int(drawn.sum()))
    return (near if n <= m else far), min(0.0, math.log(2) + min(near, far))
