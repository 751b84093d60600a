"""The confidence interval of an AUC, which covers what it says for few lost samples and high AUCs too."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtri, stdtrit

from thinice.stats.base import FloatColumn, wilson_bounds

__all__ = ["PlacementVariance", "auc_bounds", "newcombe_bounds", "placement_variance", "placements"]

HALVINGS = 60
"""Of the bracket around an end of Newcombe's interval: down to the last digit."""


class PlacementVariance(NamedTuple):
    """DeLong's variance of AUCs (K,), and what Student's t distribution makes of their standard scores."""

    variance: FloatColumn
    df: FloatColumn
    """Brunner and Munzel's degrees of freedom, after Satterthwaite; NaN where the variance is 0 or not known."""


def placements(group: FloatColumn, other: FloatColumn) -> FloatColumn:
    """Return for each sample of a group the share of the other group that lies nearer, ties half; both are sorted.

    >>> placements(np.array([1.0, 3.0]), np.array([2.0, 3.0, 4.0])).tolist()
    [0.0, 0.5]
    """
    twice = np.searchsorted(other, group, side="left") + np.searchsorted(other, group, side="right")
    return np.asarray(twice / (2 * len(other)))


def placement_variance(kept: FloatColumn, lost: FloatColumn) -> PlacementVariance:
    """Return DeLong's variance from each sample's placement in the other group, (M,) and (N,) or (K, M) and (K, N).

    NaN where a group has a single sample.
    """
    kept, lost = np.atleast_2d(kept), np.atleast_2d(lost)
    (m, n), unknown = (kept.shape[1], lost.shape[1]), np.full(len(kept), np.nan)
    if min(m, n) < 2:
        return PlacementVariance(unknown, unknown)
    parts = kept.var(axis=1, ddof=1) / m, lost.var(axis=1, ddof=1) / n
    variance, spread = parts[0] + parts[1], parts[0] ** 2 / (m - 1) + parts[1] ** 2 / (n - 1)
    return PlacementVariance(variance, np.divide(variance**2, spread, out=unknown, where=spread > 0))


def auc_bounds(
    auc: FloatColumn, se: FloatColumn, df: FloatColumn, sizes: tuple[int, int], confidence: float
) -> tuple[FloatColumn, FloatColumn]:
    """Return the lower and upper bound of each AUC (K,); NaN where the AUC is.

    The hull of two intervals, for either alone covers too little somewhere where few samples are lost: DeLong's on the
    logit scale, with Student's t distribution and Brunner and Munzel's degrees of freedom (the logit of a high AUC
    strays farther than its variance says), and Newcombe's fifth method, a score interval (it assumes that both groups
    are spread alike). In simulations of 64 settings (5 to 400 lost samples, AUC 0.6 to 0.97, groups of equal and of
    unequal spread) nominal 95 % covered 93 % or more, where DeLong's interval alone went down to 54 %; it is 1.0 to
    1.6 times as wide for an AUC of up to 0.9. ``benchmarks/auc_coverage.py`` prints the table.

    Where DeLong's variance is zero or unknown (an AUC of exactly 0 or 1, all samples tied, a group of one sample),
    Wilson's interval for a share of as many trials as the smaller group has samples: the variance of the AUC never
    exceeds ``auc (1 - auc) / n`` (Birnbaum and Klose, Ann. Math. Stat. 28, 1957), so that interval is wide rather than
    wrong.

    Parameters
    ----------
    auc, se, df
        (K,) AUCs, DeLong's standard errors of them and degrees of freedom, NaN where not known.
    sizes
        Samples of the two groups.
    confidence
        Level of the interval.

    References
    ----------
    M. P. Perme and D. Manevski, "Confidence intervals for the Mann-Whitney test", Stat. Methods Med. Res. 28, 2019; E.
    Brunner and U. Munzel, "The nonparametric Behrens-Fisher problem", Biometrical Journal 42, 2000; R. G. Newcombe,
    "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2: asymptotic methods and
    evaluation", Stat. Med. 25, 2006.

    Examples
    --------
    >>> auc, se, df = np.array([0.8, 1.0]), np.array([0.05, np.nan]), np.array([25.0, np.nan])
    >>> low, high = auc_bounds(auc, se, df, (200, 20), 0.95)
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.677, 0.839], [0.884, 1.0])
    """
    if min(sizes) == 0:
        return np.full(len(auc), np.nan), np.full(len(auc), np.nan)
    has_se = (auc > 0) & (auc < 1) & (se > 0)
    centre = logit(np.where(has_se, auc, 0.5))
    t = stdtrit(np.where(has_se, df, 1.0), 0.5 + confidence / 2)
    half = t * np.where(has_se, se, 0.0) / np.where(has_se, auc * (1 - auc), 1.0)
    newcombe = newcombe_bounds(np.where(has_se, auc, 0.5), sizes, confidence)
    wilson = wilson_bounds(np.where(np.isnan(auc), 0.5, auc), min(sizes), confidence)
    low = np.where(has_se, np.minimum(expit(centre - half), newcombe[0]), wilson[0])
    high = np.where(has_se, np.maximum(expit(centre + half), newcombe[1]), wilson[1])
    return np.where(np.isnan(auc), np.nan, low), np.where(np.isnan(auc), np.nan, high)


def newcombe_bounds(auc: FloatColumn, sizes: tuple[int, int], confidence: float) -> tuple[FloatColumn, FloatColumn]:
    """Return the AUCs from which each observed one (K,), within (0, 1), is z standard errors away: method 5.

    The variance is Hanley and McNeil's for exponential distributions, with half of all samples for either group.
    """
    m, n = sizes
    z, half = ndtri(0.5 + confidence / 2), (m + n) / 2 - 1

    def is_outside(theta: FloatColumn) -> FloatColumn:
        variance = theta * (1 - theta) * (1 + half * (1 - theta) / (2 - theta) + half * theta / (1 + theta)) / (m * n)
        return np.asarray(np.abs(auc - theta) > z * np.sqrt(variance), dtype=np.float64)

    ends = []
    for far in (0.0, 1.0):
        inside, outside = auc.copy(), np.full(len(auc), far)
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            beyond = is_outside(middle) > 0
            inside, outside = np.where(beyond, inside, middle), np.where(beyond, middle, outside)
        ends.append(outside)
    return ends[0], ends[1]
