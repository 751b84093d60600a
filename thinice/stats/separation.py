"""Two groups of samples, lost and kept: how well does distance to the boundary tell them apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thinice.printable import plain
from thinice.stats.auc_interval import auc_bounds, placement_variance, placements
from thinice.stats.base import FloatColumn, Result, check_confidence, epsilon_column, quantile
from thinice.stats.rank_tests import (
    MIN_GROUP,
    hodges_lehmann,
    hodges_lehmann_interval,
    mann_whitney,
    mann_whitney_log_p_normal,
)
from thinice.stats.registry import statistic_values
from thinice.stats.two_sample_tests import brunner_munzel_log_p, kolmogorov_smirnov
from thinice.types import Interval

if TYPE_CHECKING:
    from thinice.stats.control import ControlComparison
    from thinice.stats.flips import Flips

__all__ = ["Separation", "separation"]

CLOSEST = 0.10
"""The share of all samples, those nearest to the boundary, among which lost ones are counted."""


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
    confidence: float
    """Level of the intervals."""
    median_kept: float | None
    """None also where the median is itself a not-found sample."""
    median_lost: float | None
    quartiles_kept: tuple[float | None, float | None]
    quartiles_lost: tuple[float | None, float | None]
    shift: float | None
    """Hodges-Lehmann estimate: by how much kept samples lie farther than lost ones."""
    shift_interval: Interval | None
    """As of `hodges_lehmann_interval`; an infinite end is not known."""
    notes: tuple[str, ...]
    auc: float | None = None
    """Chance that a kept sample lies farther from the boundary than a lost one; ties count half."""
    auc_se: float | None = None
    """DeLong's standard error of `auc`; None where it is zero or a group has a single sample."""
    auc_df: float | None = None
    """Brunner and Munzel's degrees of freedom of the standard score of `auc`; None where `auc_se` is."""
    u: float | None = None
    """Mann-Whitney U of the lost samples: pairs in which the lost one lies farther, ties half."""
    log10_p: float | None = None
    """Mann-Whitney, one-sided: lost samples are nearer than they would be if both groups were distributed alike."""
    log10_p_two_sided: float | None = None
    exact: bool = False
    """Whether these two count all cases, instead of following the saddlepoint approximation."""
    log10_p_normal: float | None = None
    """`log10_p` by the normal approximation, as most programs and papers give it; far in the tail it is no p-value."""
    brunner_munzel_log10_p: float | None = None
    """One-sided: auc > 1/2. Unlike Mann-Whitney's, it holds for groups of unequal spread."""
    brunner_munzel_log10_p_two_sided: float | None = None
    kolmogorov_smirnov: float | None = None
    """The largest difference between the shares of the two groups within a radius."""
    kolmogorov_smirnov_at: float | None = None
    """That radius: an epsilon, never beyond the farthest found sample."""
    kolmogorov_smirnov_log10_p: float | None = None
    """Two-sided: any difference at all between the two distributions."""
    kolmogorov_smirnov_exact: bool = False
    """Whether it counts all orders of the samples, instead of following Kolmogorov's distribution."""
    closest: int | None = None
    """Samples in the closest tenth: as near as the one that completes it, or nearer."""
    closest_lost: int | None = None
    """Lost samples among them."""
    auc_not_found_low: float | None = None
    """`auc` if all kept samples that were not found lay nearest, and all such lost samples farthest."""
    auc_not_found_high: float | None = None
    """`auc` if it were the other way round."""
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
    def p_value(self) -> float | None:
        """Mann-Whitney's one-sided p-value; 0.0 below 1e-308, where `log10_p` still holds."""
        return None if self.log10_p is None else math.pow(10, self.log10_p)

    @property
    def p_value_two_sided(self) -> float | None:
        """Mann-Whitney's two-sided p-value; 0.0 below 1e-308, where `log10_p_two_sided` still holds."""
        return None if self.log10_p_two_sided is None else math.pow(10, self.log10_p_two_sided)

    @property
    def shift_low(self) -> float | None:
        """Lower end of `shift_interval`; None where it is not known."""
        return None if self.shift_interval is None else _finite(self.shift_interval.low)

    @property
    def shift_high(self) -> float | None:
        """Upper end of `shift_interval`; None where it is not known."""
        return None if self.shift_interval is None else _finite(self.shift_interval.high)

    @property
    def cliffs_delta(self) -> float | None:
        """Return ``2 auc - 1``: from -1 to 1, and 0 where the groups are not separated."""
        return None if self.auc is None else 2 * self.auc - 1

    def interval(self, confidence: float | None = None) -> Interval | None:
        """Return the interval of `auc`, at another level if one is given; None where `auc` is None.

        As of `thinice.stats.auc_interval.auc_bounds`: over samples drawn anew, for these two networks. It says nothing
        of another training, another seed or another mask.
        """
        confidence = self.confidence if confidence is None else confidence
        check_confidence(confidence)
        if self.auc is None:
            return None
        auc, se, df = (np.array([np.nan if value is None else value]) for value in (self.auc, self.auc_se, self.auc_df))
        low, high = auc_bounds(auc, se, df, (self.n_kept, self.n_lost), confidence)
        return Interval(float(low[0]), float(high[0]), confidence)


def separation(kept: npt.ArrayLike, lost: npt.ArrayLike, *, confidence: float = 0.95) -> Separation:
    """Return how well distance to the boundary tells lost samples (S1,0) from kept ones (S1,1).

    Mann-Whitney U with its AUC, an interval that holds for few lost samples and high AUCs too, exact p-values (of large
    groups by a saddlepoint approximation, also as log10, which does not underflow), the tests of Brunner and Munzel and
    of Kolmogorov and Smirnov, medians, quartiles, the Hodges-Lehmann shift with its interval.

    The rules for what is not a plain number:

    - *not found* (NaN) is right-censored: ranked after every found sample, all of them tied; counted in the
      result. A median or quartile that falls on such a sample is None.
    - *ties* count half in the AUC and shrink the variance of U.
    - *an empty group* gives counts and a note, everything else None; never an exception.
    - *fewer than 10 samples* in the smaller group, or groups that do not overlap, get no Brunner-Munzel p-value.
    - *all samples tied*: auc 0.5 and p 1.

    Parameters
    ----------
    kept, lost
        Epsilons (N,) of samples that the dense network classifies correctly; NaN where not found.
    confidence
        Level of the intervals.

    Raises
    ------
    InputError
        For columns that are not flat and numeric, or a confidence outside (0, 1).

    References
    ----------
    H. B. Mann and D. R. Whitney, "On a test of whether one of two random variables is stochastically larger
    than the other", Ann. Math. Stat. 18, 1947; E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson,
    "Comparing the areas under two or more correlated receiver operating characteristic curves: a
    nonparametric approach", Biometrics 44, 1988; J. Robinson, "Saddlepoint approximations for permutation tests and
    confidence intervals", JRSS B 44, 1982; E. Brunner and U. Munzel, "The nonparametric Behrens-Fisher problem:
    asymptotic theory and a small-sample approximation", Biometrical Journal 42, 2000; J. L. Hodges, "The significance
    probability of the Smirnov two-sample test", Arkiv foer Matematik 3, 1958.

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
    order: dict[str, Any] = {}
    if min(m, n) == 0:
        empty = " and ".join(name for name, size in (("S1,1", m), ("S1,0", n)) if size == 0)
        notes = [f"nothing to separate: {empty} is empty (0 of {m + n} samples)"]
    else:
        order, notes = _ordered(kept, lost)
    shift = hodges_lehmann(kept, lost)
    if shift is None and order:
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
        confidence=confidence,
        median_kept=median_kept,
        median_lost=median_lost,
        quartiles_kept=(quantile(kept, 0.25), quantile(kept, 0.75)),
        quartiles_lost=(quantile(lost, 0.25), quantile(lost, 0.75)),
        shift=shift,
        shift_interval=hodges_lehmann_interval(kept, lost, confidence=confidence),
        notes=tuple(notes),
        **order,
    )


def _ordered(kept: FloatColumn, lost: FloatColumn) -> tuple[dict[str, Any], list[str]]:
    """Return what the order of two sorted groups that have samples says, by field, and notes on what is lacking."""
    (m, n), notes = (len(kept), len(lost)), []
    placed_kept, placed_lost = placements(kept, lost), placements(lost, kept)
    u = float(np.round(2 * m * placed_lost).sum() / 2)  # whole numbers of half pairs
    auc = (m * n - u) / (m * n)
    variance, df = (float(column[0]) for column in placement_variance(placed_kept, placed_lost))
    has_se = 0 < auc < 1 and variance > 0
    one_sided = two_sided = None
    if not has_se:
        notes.append("no Brunner-Munzel test: the groups do not overlap, or one has a single sample")
    elif min(m, n) < MIN_GROUP:
        notes.append(
            f"Brunner-Munzel p-value withheld: the smaller group has {min(m, n)} samples, fewer than {MIN_GROUP}"
        )
    else:
        one_sided, two_sided = brunner_munzel_log_p(auc, math.sqrt(variance), df)
    ranks, smirnov = mann_whitney(kept, lost), kolmogorov_smirnov(kept, lost)
    closest = np.sort(np.concatenate([kept, lost]))[math.ceil(CLOSEST * (m + n)) - 1]
    closest_kept, closest_lost = (int(np.searchsorted(group, closest, side="right")) for group in (kept, lost))
    not_found_kept, not_found_lost = (int(np.isinf(group).sum()) for group in (kept, lost))
    found_u = float(np.round(2 * m * placed_lost[: n - not_found_lost]).sum() / 2)
    order = {
        "auc": auc,
        "auc_se": math.sqrt(variance) if has_se else None,
        "auc_df": df if has_se else None,
        "u": u,
        "log10_p": _log10(ranks.log_p),
        "log10_p_two_sided": _log10(ranks.log_p_two_sided),
        "exact": ranks.exact,
        "log10_p_normal": _log10(mann_whitney_log_p_normal(u, kept, lost)),
        "brunner_munzel_log10_p": _log10(one_sided),
        "brunner_munzel_log10_p_two_sided": _log10(two_sided),
        "kolmogorov_smirnov": smirnov.distance,
        "kolmogorov_smirnov_at": smirnov.at,
        "kolmogorov_smirnov_log10_p": _log10(smirnov.log_p),
        "kolmogorov_smirnov_exact": smirnov.exact,
        "closest": closest_kept + closest_lost,
        "closest_lost": closest_lost,
        # kept samples that were not found are the only ones to move before found lost ones, and lost ones behind kept
        "auc_not_found_low": 1 - (found_u + not_found_kept * (n - not_found_lost) + not_found_lost * m) / (m * n),
        "auc_not_found_high": 1 - found_u / (m * n),
    }
    return order, notes


def _log10(log_p: float | None) -> float | None:
    """Return a natural logarithm as a decimal one; that of 1 without a sign."""
    return None if log_p is None else log_p / math.log(10) + 0.0


def _finite(end: float) -> float | None:
    return end if math.isfinite(end) else None
