"""Mann-Whitney's test of two groups, the Hodges-Lehmann shift between them, and what both rest on: ranks."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtri
from scipy.stats import rankdata

from thinice.stats.base import FloatColumn, check_confidence, epsilon_column
from thinice.stats.tail_probabilities import log_rank_sum
from thinice.types import Interval

__all__ = [
    "EXACT_WORK",
    "MIN_GROUP",
    "hodges_lehmann",
    "hodges_lehmann_interval",
    "mann_whitney_log_p",
    "mann_whitney_log_p_exact",
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


def mann_whitney_log_p(u: float, kept: FloatColumn, lost: FloatColumn) -> tuple[float, float]:
    """Return the natural logarithms of the one-sided and the two-sided p-value of U of the lost samples."""
    m, n = len(kept), len(lost)
    sigma = mann_whitney_sigma(kept, lost)
    if sigma == 0:  # all tied
        return 0.0, 0.0
    z = (m * n / 2 - u - 0.5) / sigma
    z_two_sided = (abs(m * n / 2 - u) - 0.5) / sigma
    return float(log_ndtr(-z)), min(0.0, math.log(2) + float(log_ndtr(-z_two_sided)))


def mann_whitney_log_p_exact(kept: FloatColumn, lost: FloatColumn) -> tuple[float, float]:
    """Return what `mann_whitney_log_p` does, counting all ways to draw the groups from their own values."""
    m, n = len(kept), len(lost)
    scores = (2 * rankdata(np.concatenate([kept, lost]))).astype(np.int64)
    drawn = scores[m:] if n <= m else scores[:m]
    near = log_rank_sum(scores, len(drawn), int(drawn.sum()))  # the smaller group lies as near, or nearer
    top = int(scores.max())
    far = log_rank_sum(top - scores, len(drawn), len(drawn) * top - int(drawn.sum()))
    return (near if n <= m else far), min(0.0, math.log(2) + min(near, far))
