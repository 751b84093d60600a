"""Tests of two groups beside Mann-Whitney's: one of AUC = 1/2 that holds for unequal spread, one of any difference."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln
from scipy.stats import ks_2samp

from thinice.stats.base import FloatColumn
from thinice.stats.tail_probabilities import log_kolmogorov, log_student

__all__ = ["KolmogorovSmirnov", "brunner_munzel_log_p", "kolmogorov_smirnov"]

EXACT_SIZE = 10_000
"""With at most so many samples in the larger group, the Kolmogorov-Smirnov test is exact: a second's work at most."""
SMALLEST = 1e-290
"""Exact Kolmogorov-Smirnov probabilities below this may have lost digits to underflow."""


class KolmogorovSmirnov(NamedTuple):
    """The largest difference of the shares of two groups within a radius, that radius, and its test."""

    distance: float
    at: float | None
    """An epsilon, never beyond the farthest found sample; None where nothing was found."""
    log_p: float
    """Two-sided, the natural logarithm."""
    exact: bool
    """Whether the p-value counts all orders of the samples, instead of following Kolmogorov's distribution."""


def brunner_munzel_log_p(auc: float, se: float, df: float) -> tuple[float, float]:
    """Return the natural logarithms of the one-sided (lost samples are nearer) and two-sided p-value of AUC = 1/2.

    Unlike Mann-Whitney's, which tests whether the groups are distributed alike, it holds for groups of unequal spread.
    ``(auc - 1/2) / se`` follows Student's t distribution, roughly, from 10 samples a group on.

    References
    ----------
    E. Brunner and U. Munzel, "The nonparametric Behrens-Fisher problem: asymptotic theory and a small-sample
    approximation", Biometrical Journal 42, 2000.

    Examples
    --------
    >>> one_sided, two_sided = brunner_munzel_log_p(0.75, 0.1, 20.0)
    >>> round(math.exp(one_sided), 5), round(math.exp(two_sided), 5)
    (0.01062, 0.02123)
    """
    statistic = (auc - 0.5) / se
    return log_student(statistic, df), min(0.0, math.log(2) + log_student(abs(statistic), df))


def kolmogorov_smirnov(kept: FloatColumn, lost: FloatColumn) -> KolmogorovSmirnov:
    """Return the Kolmogorov-Smirnov test of two sorted groups that have samples, inf where not found.

    Exact for groups of up to 10 000 samples with distinct epsilons; with ties it errs on the safe side.

    References
    ----------
    J. L. Hodges, "The significance probability of the Smirnov two-sample test", Arkiv foer Matematik 3, 1958.

    Examples
    --------
    >>> result = kolmogorov_smirnov(np.array([3.0, 4.0, 5.0, np.inf]), np.array([1.0, 2.0]))
    >>> result.distance, result.at, round(math.exp(result.log_p) * 15, 9)  # 2 of the 15 ways to choose two of six
    (1.0, 2.0, 2.0)
    """
    radii = np.unique(np.concatenate([kept[np.isfinite(kept)], lost[np.isfinite(lost)]]))
    if len(radii) == 0:
        return KolmogorovSmirnov(0.0, None, 0.0, exact=True)
    within = [np.searchsorted(group, radii, side="right") / len(group) for group in (kept, lost)]
    apart = np.abs(within[1] - within[0])
    where = int(apart.argmax())
    distance, at, (m, n) = float(apart[where]), float(radii[where]), (len(kept), len(lost))
    if distance <= (1 + 1e-9) / max(m, n):  # groups cannot differ less: p is 1, where scipy says a little more
        return KolmogorovSmirnov(distance, at, 0.0, exact=True)
    if distance == 1:  # two of all orders of the samples look like that
        ways = math.log(2) + gammaln(m + 1) + gammaln(n + 1) - gammaln(m + n + 1)
        return KolmogorovSmirnov(distance, at, float(ways), exact=True)
    if max(m, n) <= EXACT_SIZE:
        with np.errstate(under="ignore"):
            chance = float(ks_2samp(kept, lost, method="exact").pvalue)
        if chance > SMALLEST:
            return KolmogorovSmirnov(distance, at, math.log(min(1.0, chance)), exact=True)
    return KolmogorovSmirnov(distance, at, log_kolmogorov(distance, round(m * n / (m + n))), exact=False)
