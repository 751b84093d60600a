"""Tails of distributions on the log scale, where the probabilities themselves underflow."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, gammaln, logsumexp
from scipy.stats import kstwo, t

__all__ = ["log_kolmogorov", "log_rank_sum", "log_student"]

FRACTION_STEPS = 10_000
"""Steps of the continued fraction, at most; its convergence takes some tens."""


def log_student(statistic: float, df: float) -> float:
    """Return the natural logarithm of the upper tail of Student's t distribution.

    By the incomplete beta function's continued fraction where the tail is small.

    References
    ----------
    M. Abramowitz and I. A. Stegun, *Handbook of mathematical functions*, 26.5.8 and 26.7.1.

    Examples
    --------
    >>> round(log_student(2.0, 10.0) / math.log(10), 4), round(log_student(100.0, 1e6) / math.log(10), 1)
    (-1.4354, -2163.1)
    """
    plain = float(t.sf(statistic, df))
    if plain > 1e-100:
        return math.log(plain)
    # I_x(a, 1/2) / 2 with x = df / (df + t^2)
    a, b = df / 2, 0.5
    log_x, log_rest = -math.log1p(statistic**2 / df), -math.log1p(df / statistic**2)
    return float(-math.log(2) + a * log_x + b * log_rest - math.log(a) - betaln(a, b)) + math.log(
        _beta_fraction(a, b, math.exp(log_x))
    )


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Return ``1 / (1 + d1 / (1 + d2 / (1 + …)))`` of the incomplete beta function, by Lentz's method."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for k in range(1, FRACTION_STEPS):
        even = k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k))
        odd = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1))
        for term in (even, odd):
            d = 1 / (1 + term * d)
            c = 1 + term / c
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def log_kolmogorov(distance: float, n: int) -> float:
    """Return the natural logarithm of the chance of a two-sided Kolmogorov-Smirnov distance (below 1) this large.

    Where it is small, twice the one-sided one, whose sum has only positive terms.

    References
    ----------
    Z. W. Birnbaum and F. H. Tingey, "One-sided confidence contours for probability distribution functions",
    Ann. Math. Stat. 22, 1951.

    Examples
    --------
    >>> round(math.exp(log_kolmogorov(0.3, 20)), 4)
    0.0431
    """
    plain = float(kstwo.sf(distance, n))
    if plain > 1e-12:
        return math.log(plain)
    j = np.arange(math.floor(n * (1 - distance)) + 1, dtype=np.float64)
    rest = 1 - distance - j / n
    j, rest = j[rest > 0], rest[rest > 0]
    terms = gammaln(n + 1) - gammaln(j + 1) - gammaln(n - j + 1) + (j - 1) * np.log(distance + j / n)
    return float(math.log(2) + math.log(distance) + logsumexp(terms + (n - j) * np.log(rest)))


def log_rank_sum(scores: npt.NDArray[np.int64], drawn: int, total: int) -> float:
    """Return the natural logarithm of the chance that so many scores, drawn blindly, add up to at most `total`.

    Exact, with ties as they are: all subsets are counted, score by score, in ``len(scores) * drawn * total`` steps.

    Parameters
    ----------
    scores
        (N,) whole numbers of at least 0.
    drawn
        How many of them are drawn, without putting back.
    total
        The sum that is not to be exceeded.

    References
    ----------
    B. Streitberg and J. Roehmel, "Exact distributions for permutation and rank tests: an introduction to some recently
    published algorithms", Statistical Software Newsletter 12, 1986.

    Examples
    --------
    >>> round(math.exp(log_rank_sum(np.array([1, 2, 3, 4]), 2, 4)), 6)  # 1 + 2 and 1 + 3, of 6 pairs
    0.333333
    """
    scores = np.sort(scores)
    everything = gammaln(len(scores) + 1) - gammaln(drawn + 1) - gammaln(len(scores) - drawn + 1)
    if total > drawn * scores.mean():  # the other tail is the smaller one
        top = int(scores[-1])
        above = drawn * top - total - 1
        return float(np.log1p(-math.exp(_log_subsets(top - scores[::-1], drawn, above) - everything)))
    return float(min(0.0, _log_subsets(scores, drawn, total) - everything))


def _log_subsets(scores: npt.NDArray[np.int64], drawn: int, total: int) -> float:
    """Return the logarithm of the number of subsets of `drawn` of the ascending scores that sum to at most `total`."""
    if total < 0 or scores[:drawn].sum() > total:
        return -math.inf
    ways = np.zeros((drawn + 1, total + 1))
    ways[0, 0] = 1
    for score in scores[scores <= total].tolist():
        ways[1:, score:] += ways[:-1, : total + 1 - score]
    return math.log(ways[drawn].sum())
