"""Two groups of samples, lost and kept: how well does distance to the boundary tell them apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtri

from thinice.printable import plain
from thinice.stats.base import FloatColumn, Result, check_confidence, epsilon_column, quantile, wilson_bounds
from thinice.stats.rank_tests import EXACT_WORK, MIN_GROUP, hodges_lehmann, mann_whitney_log_p, mann_whitney_log_p_exact
from thinice.stats.registry import statistic_values
from thinice.types import Interval

if TYPE_CHECKING:
    from thinice.stats.control import ControlComparison
    from thinice.stats.flips import Flips

__all__ = ["Separation", "auc_bounds", "separation"]


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
    flips: Flips | None = None
    """How many predictions pruning changes, where the samples' predictions are known."""
    control: ControlComparison | None = None
    """The same epsilons for what control networks lose, where there are some."""

    def to_dict(self) -> dict[str, Any]:
        """Return a flat dict for JSON: the fields, and all statistics of `thinice.stats.registry`."""
        fields = Result.to_dict(self)
        for part in ("flips", "control"):  # their numbers are statistics
            del fields[part]
        return fields | {name: plain(value) for name, value in statistic_values(self).items()}

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
                log_p, log_p_two_sided = mann_whitney_log_p_exact(kept, lost)
            else:
                notes.append(
                    f"p-value withheld: the smaller group has {min(m, n)} samples, fewer than {MIN_GROUP}, "
                    "and the other is too large for the exact test"
                )
        else:
            log_p, log_p_two_sided = mann_whitney_log_p(u, kept, lost)
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
