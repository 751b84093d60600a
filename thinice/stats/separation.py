"""Two groups of samples, lost and kept: how well does distance to the boundary tell them apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thinice.errors import InputError
from thinice.printable import plain
from thinice.stats.added_value import added_log_p
from thinice.stats.auc_interval import auc_bounds, placement_variance, placements
from thinice.stats.base import FloatColumn, Result, check_confidence, epsilon_column, quantile
from thinice.stats.log_rank import log_rank_log_p, median_bounds
from thinice.stats.predictors import compare_predictors
from thinice.stats.rank_tests import (
    MIN_GROUP,
    hodges_lehmann,
    hodges_lehmann_interval,
    mann_whitney,
    mann_whitney_log_p_normal,
)
from thinice.stats.registry import statistic_values
from thinice.stats.sample_size import lost_needed
from thinice.stats.strata import stratified
from thinice.stats.two_sample_tests import brunner_munzel_log_p, kolmogorov_smirnov
from thinice.types import Interval

if TYPE_CHECKING:
    from thinice.stats.control import ControlComparison
    from thinice.stats.flips import Flips

__all__ = ["Separation", "separation"]

WIDTH = 0.1
"""Of the interval of an AUC, for which `Separation.lost_needed` tells the number of samples."""
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
    shift_low: float | None
    """Lower end of `hodges_lehmann_interval`; None where it is not known."""
    shift_high: float | None
    notes: tuple[str, ...]
    median_kept_low: float | None = None
    """Lower end of the interval of `median_kept`, by `thinice.stats.log_rank.median_bounds`; None where not known."""
    median_kept_high: float | None = None
    median_lost_low: float | None = None
    median_lost_high: float | None = None
    radius_10_kept: float | None = None
    """Radius within which a tenth of the kept samples has an adversarial; None where fewer do."""
    radius_10_lost: float | None = None
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
    partial_auc: float | None = None
    """`auc` among the closest tenth of the kept samples alone: chance that a lost sample is nearer than one of them."""
    stratified_auc: float | None = None
    """Chance that of two samples of one class the kept one lies farther; None without labels."""
    log_rank_log10_p: float | None = None
    """One-sided log-rank test: at every radius, lost samples are found sooner."""
    van_elteren_log10_p: float | None = None
    """One-sided: lost samples are nearer than kept ones of their own class."""
    margin_auc: float | None = None
    """`auc` of the dense network's margin in place of epsilon; None without margins, as of what follows."""
    margin_difference: float | None = None
    """`auc` minus `margin_auc`: positive where epsilon predicts losses better."""
    margin_difference_low: float | None = None
    """Lower end of DeLong's interval, on the same samples."""
    margin_difference_high: float | None = None
    margin_log10_p: float | None = None
    """Two-sided paired DeLong test of no difference."""
    margin_equivalence_log10_p: float | None = None
    """Two one-sided tests: small where it is shown that the two AUCs differ by less than 0.05."""
    epsilon_adds_log10_p: float | None = None
    """Likelihood-ratio test: small where epsilon says something of the losses that the margin does not."""
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
    def radius_25_kept(self) -> float | None:
        """Radius within which a quarter of the kept samples has an adversarial."""
        return self.quartiles_kept[0]

    @property
    def radius_75_kept(self) -> float | None:
        """Radius within which three quarters of the kept samples have one; None where fewer do."""
        return self.quartiles_kept[1]

    @property
    def radius_25_lost(self) -> float | None:
        """Radius within which a quarter of the lost samples has an adversarial."""
        return self.quartiles_lost[0]

    @property
    def radius_75_lost(self) -> float | None:
        """Radius within which three quarters of the lost samples have one; None where fewer do."""
        return self.quartiles_lost[1]

    @property
    def cliffs_delta(self) -> float | None:
        """Return ``2 auc - 1``: from -1 to 1, and 0 where the groups are not separated."""
        return None if self.auc is None else 2 * self.auc - 1

    @property
    def lost_needed(self) -> int | None:
        """Lost samples with which the interval of `auc` would be 0.1 wide, were `auc` the true one."""
        if self.auc is None or not 0 < self.auc < 1:
            return None
        return lost_needed(self.auc, WIDTH, kept_for_each=self.n_kept / self.n_lost, confidence=self.confidence)

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


def separation(
    kept: npt.ArrayLike,
    lost: npt.ArrayLike,
    *,
    margins: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    labels: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    confidence: float = 0.95,
) -> Separation:
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
    margins
        Of the same kept and lost samples, the dense network's logit of the true class minus the best other one: whether
        epsilon predicts losses better than one forward pass does.
    labels
        Their true classes, integers: whether lost samples are nearer within each class too.
    confidence
        Level of the intervals.

    Raises
    ------
    InputError
        For columns that are not flat and numeric, or of other lengths, or a confidence outside (0, 1).

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
    unsorted = epsilon_column(kept, "kept"), epsilon_column(lost, "lost")
    kept, lost = (np.sort(group) for group in unsorted)
    m, n = len(kept), len(lost)
    order: dict[str, Any] = {}
    if min(m, n) == 0:
        empty = " and ".join(name for name, size in (("S1,1", m), ("S1,0", n)) if size == 0)
        notes = [f"nothing to separate: {empty} is empty (0 of {m + n} samples)"]
    else:
        order, notes = _ordered(kept, lost)
        if labels is not None:
            order |= _within_classes(unsorted, _columns(labels, "labels", (m, n)))
        if margins is not None:
            against, more = _against_margin(unsorted, _columns(margins, "margins", (m, n)), confidence)
            order, notes = order | against, [*notes, *more]
    shift, bounds = hodges_lehmann(kept, lost), hodges_lehmann_interval(kept, lost, confidence=confidence)
    if shift is None and order:
        notes.append("no shift: too many samples were not found for its median to be known")
    median_kept, median_lost = quantile(kept), quantile(lost)
    for name, size, median in (("S1,1", m, median_kept), ("S1,0", n, median_lost)):
        if size and median is None:
            notes.append(f"no median of {name}: half of its samples or more were not found")
    kept_bounds, lost_bounds = (median_bounds(group, confidence=confidence) for group in (kept, lost))
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
        shift_low=None if bounds is None else _finite(bounds.low),
        shift_high=None if bounds is None else _finite(bounds.high),
        notes=tuple(notes),
        median_kept_low=kept_bounds[0],
        median_kept_high=kept_bounds[1],
        median_lost_low=lost_bounds[0],
        median_lost_high=lost_bounds[1],
        radius_10_kept=quantile(kept, 0.1),
        radius_10_lost=quantile(lost, 0.1),
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
        "log_rank_log10_p": _log10(log_rank_log_p(kept, lost)),
        "partial_auc": _partial_auc(placed_lost),
    }
    return order, notes


Groups = tuple[FloatColumn, FloatColumn]
"""A column of the kept samples, and one of the lost."""


def _within_classes(epsilon: Groups, labels: Groups) -> dict[str, Any]:
    result = stratified(*epsilon, labels[0].astype(np.int64), labels[1].astype(np.int64))
    if result is None:
        return {}
    return {"stratified_auc": result.auc, "van_elteren_log10_p": _log10(result.log_p)}


def _against_margin(epsilon: Groups, margins: Groups, confidence: float) -> tuple[dict[str, Any], list[str]]:
    """Return how epsilon does against the margin, by field, and notes on what is lacking."""
    (kept, lost), distance, margin = epsilon, np.concatenate(epsilon), np.concatenate(margins)
    if np.isnan(margin).any():
        return {}, [f"epsilon is not held against the margin: {np.isnan(margin).sum()} samples have none"]
    is_lost = np.repeat([False, True], [len(kept), len(lost)])
    result = compare_predictors(is_lost, {"epsilon": distance, "margin": margin}, confidence=confidence)
    difference, low, high, log10_p, equivalence_log10_p = (
        None if np.isnan(column[1]) else float(column[1]) + 0.0
        for column in (
            result.difference,
            result.difference_low,
            result.difference_high,
            result.log10_p,
            result.equivalence_log10_p,
        )
    )
    enough = min(len(kept), len(lost)) >= MIN_GROUP
    against = {
        "margin_auc": float(result.auc[1]),
        "margin_difference": difference,
        "margin_difference_low": low,
        "margin_difference_high": high,
        "margin_log10_p": log10_p,
        "margin_equivalence_log10_p": equivalence_log10_p,
        "epsilon_adds_log10_p": _log10(added_log_p(is_lost, margin, distance)) if enough else None,
    }
    return against, []


def _partial_auc(placed_lost: FloatColumn) -> float:
    """Return the area under the ROC curve up to a false positive rate of `CLOSEST`, over that rate.

    `placed_lost` are the shares of the kept samples that lie nearer than each lost one.
    """
    return float(np.maximum(0, CLOSEST - placed_lost).mean() / CLOSEST)


def _columns(groups: tuple[npt.ArrayLike, npt.ArrayLike], name: str, sizes: tuple[int, int]) -> Groups:
    kept, lost = (np.asarray(values, dtype=np.float64) for values in groups)
    if (kept.shape, lost.shape) != ((sizes[0],), (sizes[1],)):
        raise InputError(f"`{name}` must have one value a sample, {sizes}, got shapes {kept.shape} and {lost.shape}")
    return kept, lost


def _log10(log_p: float | None) -> float | None:
    """Return a natural logarithm as a decimal one; that of 1 without a sign."""
    return None if log_p is None else log_p / math.log(10) + 0.0


def _finite(end: float) -> float | None:
    return end if math.isfinite(end) else None
