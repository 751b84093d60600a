"""Mann-Whitney's test of two groups, the Hodges-Lehmann shift between them, and what both rest on: ranks."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtri, stdtrit
from scipy.stats import rankdata

from thinice.stats.auc_interval import placement_variance, placements
from thinice.stats.base import FloatColumn, check_confidence, epsilon_column
from thinice.stats.tail_probabilities import Scores, log_rank_sum, log_rank_sum_saddlepoint
from thinice.types import Interval

__all__ = [
    "MIN_GROUP",
    "MannWhitney",
    "hodges_lehmann",
    "hodges_lehmann_interval",
    "mann_whitney",
    "mann_whitney_log_p_normal",
    "mann_whitney_sigma",
    "ranked_sum",
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
    """Return the interval of the Hodges-Lehmann shift, also for groups of unequal spread.

    The shift is where kept samples, moved that far, would lie farther than lost ones in half of the pairs. So the ends
    are two of the ordered differences ``kept - lost``: as far from the middle one as that share of pairs may stray from
    a half, by its variance between the groups once they are aligned (DeLong's, with Student's t distribution and
    Brunner and Munzel's degrees of freedom). Mann-Whitney's variance, which the textbook interval takes, holds for
    groups that differ in nothing but the shift: with lost samples spread twice as widely, that interval covers 84 to
    89 % instead of 95. It steps in where the aligned groups have no variance, or a group a single sample.

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
    M. Hollander and D. A. Wolfe, *Nonparametric statistical methods*, 2nd edition 1999, sections 4.3 and 4.4 (M. A.
    Fligner and G. E. Policello, "Robust rank procedures for the Behrens-Fisher problem", JASA 76, 1981).

    Examples
    --------
    >>> lost = np.arange(12.0)
    >>> interval = hodges_lehmann_interval(lost + 3.5, lost)
    >>> interval.low, interval.high
    (-0.5, 7.5)
    """
    check_confidence(confidence)
    x, y = epsilon_column(kept, "kept"), epsilon_column(lost, "lost")
    found_x, found_y = np.sort(x[np.isfinite(x)]), np.sort(y[np.isfinite(y)])
    if min(len(found_x), len(found_y)) == 0:
        return None
    missing_x, missing_y = len(x) - len(found_x), len(y) - len(found_y)
    below, finite = len(found_x) * missing_y, len(found_x) * len(found_y)  # differences of -inf, finite differences
    outside = len(x) * len(y) / 2 - _half_width(x, y, hodges_lehmann(x, y), confidence)
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


def _half_width(x: FloatColumn, y: FloatColumn, shift: float | None, confidence: float) -> float:
    """Return how many pairs U may stray from half of them at the true shift; by Mann-Whitney's variance without one."""
    if shift is not None:
        moved, other = np.sort(x) - shift, np.sort(y)
        variance, df = placement_variance(placements(moved, other), placements(other, moved))
        if variance[0] > 0:
            return float(stdtrit(df[0], 0.5 + confidence / 2) * math.sqrt(variance[0]) * len(x) * len(y))
    return float(ndtri(0.5 + confidence / 2) * mann_whitney_sigma(x, y))


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
"""With fewer samples than this in the smaller group, tests that rest on an estimated variance give no p-value."""


class MannWhitney(NamedTuple):
    """Natural logarithms of p-values of U, and whether they count all cases."""

    log_p: float
    """One-sided: the lost samples are nearer."""
    log_p_two_sided: float
    exact: bool


def mann_whitney(kept: FloatColumn, lost: FloatColumn) -> MannWhitney:
    """Return the p-values of the Mann-Whitney test of two groups that have samples, given the ties as they are.

    Exact where all ways to draw the groups from their own values are counted within about a second (40 of 9000 samples
    without ties), else by a saddlepoint approximation, whose log10 is within 0.01.

    Parameters
    ----------
    kept, lost
        Epsilons (N,), inf where not found.

    Examples
    --------
    >>> kept, lost = np.arange(8991.0) + 100, np.arange(9.0)  # the only one of so many ways
    >>> result = mann_whitney(kept, lost)
    >>> result.exact, round(math.exp(result.log_p) * math.comb(9000, 9), 9)
    (True, 1.0)
    """
    m, n = len(kept), len(lost)
    scores = (2 * rankdata(np.concatenate([kept, lost]))).astype(np.int64)
    near, near_exact = _lower_tail(scores, scores[m:]) if n <= m else _upper_tail(scores, scores[:m])
    far, far_exact = _upper_tail(scores, scores[m:]) if n <= m else _lower_tail(scores, scores[:m])
    return MannWhitney(near, min(0.0, math.log(2) + min(near, far)), near_exact and far_exact)


def _lower_tail(scores: Scores, drawn: Scores) -> tuple[float, bool]:
    """Return the logarithm of the chance to draw a sum as low as that of the drawn scores, and whether it is exact."""
    size, total = len(drawn), int(drawn.sum())
    log_p = log_rank_sum(scores, size, total)
    if log_p is None:
        return log_rank_sum_saddlepoint(scores, size, total), False
    return log_p, True


def _upper_tail(scores: Scores, drawn: Scores) -> tuple[float, bool]:
    top = scores.max()
    return _lower_tail(top - scores, top - drawn)


def mann_whitney_log_p_normal(u: float, kept: FloatColumn, lost: FloatColumn) -> float:
    """Return the natural logarithm of the one-sided p-value of U by the normal approximation.

    With tie and continuity correction, as most programs print it. Far in the tail it is no p-value: two groups
    of 500 that do not overlap get 1e-164, where one of 1e299 ways to draw them looks like that.
    """
    m, n = len(kept), len(lost)
    sigma = mann_whitney_sigma(kept, lost)
    if sigma == 0:  # all tied
        return 0.0
    return float(log_ndtr((u + 0.5 - m * n / 2) / sigma))
