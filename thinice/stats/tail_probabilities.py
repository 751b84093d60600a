"""Tails of distributions on the log scale, where the probabilities themselves underflow."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, expit, gammaln, log_ndtr, logsumexp
from scipy.stats import chi2, kstwo, t

__all__ = ["log_chi_squared", "log_kolmogorov", "log_rank_sum", "log_rank_sum_saddlepoint", "log_student"]

Scores = npt.NDArray[np.int64]

FRACTION_STEPS = 10_000
"""Steps of the continued fraction, at most; its convergence takes some tens."""
RANK_STEPS, TIED_STEPS, TIED_VISITS = 50_000_000, 1_500_000_000, 300_000
"""Additions, and loops over them, that take about half a second: more than that and nothing is counted."""
NEAR_MEAN = 0.01
"""Standard deviations from the mean within which a saddlepoint approximation has too few digits left."""


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


def log_chi_squared(statistic: float, df: int) -> float:
    """Return the natural logarithm of the upper tail of the chi-squared distribution.

    By the asymptotic expansion of the incomplete gamma function where the tail is small.

    References
    ----------
    M. Abramowitz and I. A. Stegun, *Handbook of mathematical functions*, 6.5.32.

    Examples
    --------
    >>> round(log_chi_squared(9.0, 3), 4), round(log_chi_squared(4000.0, 3), 2)
    (-3.5305, -1996.08)
    """
    plain = float(chi2.sf(statistic, df))
    if plain > 1e-200:
        return math.log(plain)
    a, x = df / 2, statistic / 2
    term = total = 1.0
    for k in range(1, 30):
        term *= (a - k) / x
        total += term
    return (a - 1) * math.log(x) - x - math.lgamma(a) + math.log(total)


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


def log_rank_sum(scores: Scores, drawn: int, total: int) -> float | None:
    """Return the natural logarithm of the chance that so many scores, drawn blindly, add up to at most `total`.

    Exact, with ties as they are: all subsets are counted. None where that would take more than about a second, or the
    count exceeds the largest double; `log_rank_sum_saddlepoint` has an answer there.

    Scores without ties are counted by the coefficients of the Gaussian binomial, in ``drawn`` passes over the sums up
    to `total`; others score by score, only over those sums from which `total` can still be kept.

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
    H. B. Mann and D. R. Whitney, "On a test of whether one of two random variables is stochastically larger than the
    other", Ann. Math. Stat. 18, 1947; B. Streitberg and J. Roehmel, "Exact distributions for permutation and rank
    tests: an introduction to some recently published algorithms", Statistical Software Newsletter 12, 1986.

    Examples
    --------
    >>> round(math.exp(log_rank_sum(np.array([1, 2, 3, 4]), 2, 4)), 6)  # 1 + 2 and 1 + 3, of 6 pairs
    0.333333
    """
    scores, total = _simplest(scores, drawn, total)
    top, everything = int(scores[-1]), drawn * int(scores[-1])
    if total >= int(scores[len(scores) - drawn :].sum()):
        return 0.0
    all_subsets = gammaln(len(scores) + 1) - gammaln(drawn + 1) - gammaln(len(scores) - drawn + 1)
    if total > drawn * scores.mean():  # the other tail is the smaller one
        above = _log_subsets(top - scores[::-1], drawn, everything - total - 1)
        return None if above is None else float(np.log1p(-math.exp(min(0.0, above - all_subsets))))
    below = _log_subsets(scores, drawn, total)
    return None if below is None else float(min(0.0, below - all_subsets))


def _simplest(scores: Scores, drawn: int, total: int) -> tuple[Scores, int]:
    """Return the scores, ascending from 0 and without a common divisor, and the total that belongs to them."""
    scores = np.sort(scores)
    total -= drawn * int(scores[0])
    scores = scores - scores[0]
    divisor = int(np.gcd.reduce(scores)) or 1
    return scores // divisor, total // divisor


def _log_subsets(scores: Scores, drawn: int, total: int) -> float | None:
    """Return the logarithm of the number of subsets of `drawn` of the simplest scores that sum to at most `total`."""
    least = int(scores[:drawn].sum())
    if total < least:
        return -math.inf
    if int(scores[-1]) == len(scores) - 1:  # the largest of N distinct numbers from 0: no ties
        count = _subsets_of_ranks(len(scores), drawn, total - least)
    else:
        count = _subsets_of_tied_ranks(scores, drawn, total)
    return None if count is None or not math.isfinite(count) else math.log(count)


def _subsets_of_ranks(n: int, drawn: int, above: int) -> float | None:
    """Return how many subsets of the numbers 0 to n - 1 sum to at most so much above the least sum, None if too many.

    The sums above the least one are the coefficients of the product of ``(1 - q^(n - drawn + k)) / (1 - q^k)`` for k
    from 1 to `drawn`.
    """
    drawn = min(drawn, n - drawn)
    if drawn * (above + 1) > RANK_STEPS:
        return None
    ways = np.zeros(above + 1)
    ways[0] = 1
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(1, min(drawn, above) + 1):  # a later factor has no power of q within reach
            step = n - drawn + k
            if step <= above:
                ways[step:] = ways[step:] - ways[:-step]
            padded = np.append(ways, np.zeros(-len(ways) % k))
            ways = padded.reshape(-1, k).cumsum(axis=0).ravel()[: above + 1]
        return float(ways.sum())


def _subsets_of_tied_ranks(scores: Scores, drawn: int, total: int) -> float | None:
    """Return how many subsets of `drawn` of the ascending scores sum to at most `total`, None if there are too many.

    Once j more are to be drawn, and each is at least the present score, sums above ``total - j * score`` are hopeless.
    """
    least = np.concatenate([[0], scores[:drawn].cumsum()])
    room = total - least[:drawn]
    visits = np.searchsorted(scores, room / (drawn - np.arange(drawn)), side="right")
    if visits.sum() > TIED_VISITS or visits @ room.astype(np.float64) > TIED_STEPS:
        return None
    ways = np.zeros((drawn + 1, total + 1))
    ways[0, 0] = 1
    with np.errstate(over="ignore"):
        for score in scores.tolist():
            for k in range(drawn - 1, -1, -1):
                stop = total - (drawn - k) * score + 1
                if stop <= 0:
                    break
                start = int(least[k])
                if stop > start:
                    ways[k + 1, start + score : stop + score] += ways[k, start:stop]
        return float(ways[drawn].sum())


def log_rank_sum_saddlepoint(scores: Scores, drawn: int, total: int) -> float:
    """Return an approximation to `log_rank_sum` at any size, far in the tail too.

    Each score is drawn with the chance ``1 / (1 + exp(-(a + b score)))``, where a and b make the expected number drawn
    and their expected sum what was observed: the double saddlepoint approximation to the distribution of the sum given
    the number, with a continuity correction, in Barndorff-Nielsen's form. Within a hundredth of a standard deviation of
    the mean, where that is 0 / 0, the normal approximation. Its error in log10 is around 0.001, and 0.1 at the smallest
    of all sums.

    References
    ----------
    J. Robinson, "Saddlepoint approximations for permutation tests and confidence intervals", JRSS B 44, 1982; I. M.
    Skovgaard, "Saddlepoint expansions for conditional distributions", J. Appl. Prob. 24, 1987.

    Examples
    --------
    >>> scores = np.arange(200)
    >>> exact, near = log_rank_sum(scores, 20, 1000), log_rank_sum_saddlepoint(scores, 20, 1000)
    >>> round(exact / math.log(10), 3), round(near / math.log(10), 3)
    (-4.857, -4.857)
    """
    scores, total = _simplest(scores, drawn, total)
    least, most = int(scores[:drawn].sum()), int(scores[len(scores) - drawn :].sum())
    if total >= most:
        return 0.0
    if total < least:
        return -math.inf
    n = len(scores)
    spread = float(scores.std())
    scaled = (scores - scores.mean()) / spread
    observed, half = (total + 0.5 - drawn * scores.mean()) / spread, 0.5 / spread
    variance = drawn * (n - drawn) / n  # of the number drawn where b is 0
    distance = observed / math.sqrt(variance * n / (n - 1))
    if abs(distance) < NEAR_MEAN:
        return float(log_ndtr(distance))
    start = math.log(drawn / (n - drawn))
    b, information, gained = _saddlepoint(scaled, drawn, observed, start)
    w = math.copysign(math.sqrt(2 * gained), b)
    u = math.sinh(half * b) / half * math.sqrt(float(np.linalg.det(information)) / variance)
    return float(log_ndtr(w + math.log(u / w) / w))


def _saddlepoint(
    scaled: npt.NDArray[np.float64], drawn: int, observed: float, start: float
) -> tuple[float, npt.NDArray[np.float64], float]:
    """Return b of `log_rank_sum_saddlepoint`, the information there, and the log likelihood gained by b.

    Newton's method, damped, on a strictly convex cost: that of a logistic regression.
    """
    features = np.stack([np.ones_like(scaled), scaled])
    targets = np.array([drawn, observed])

    def cost(parameters: npt.NDArray[np.float64]) -> float:
        return float(np.logaddexp(0, parameters @ features).sum() - parameters @ targets)

    parameters = np.array([start, 0.0])
    first = before = cost(parameters)
    while True:
        chance = expit(parameters @ features)
        information = (features * (chance * (1 - chance))) @ features.T
        step = np.linalg.solve(information, features @ chance - targets)
        gain = float(step @ information @ step)
        if gain <= 1e-10 * (1 + abs(first - before)):
            return float(parameters[1]), information, first - before
        while (after := cost(parameters - step)) > before - 0.25 * gain:
            step, gain = step / 2, gain / 2
        parameters, before = parameters - step, after
