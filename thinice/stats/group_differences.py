"""Two groups of samples by every test at once: what the AUC says must not hang on one of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln
from scipy.stats import ks_2samp

from thinice.stats.base import FloatColumn, Result, epsilon_column
from thinice.stats.rank_tests import MIN_GROUP, hodges_lehmann_interval
from thinice.stats.separation import separation
from thinice.stats.tail_probabilities import log_kolmogorov, log_student
from thinice.types import Interval

__all__ = ["GroupTests", "group_tests"]

EXACT_PAIRS = 100_000
"""With at most so many pairs, and few samples in one group, the Kolmogorov-Smirnov test is exact."""


@dataclass(frozen=True, slots=True)
class GroupTests(Result):
    """How two groups differ in epsilon: effect sizes with intervals, and tests as log10 p, which does not underflow.

    A number that cannot be had is None, and `notes` says why. Distances are in the unit of the epsilons.
    """

    far: str
    """Name of the group that is expected to lie farther, ``S1,1``; every effect is positive where it does."""
    near: str
    n_far: int
    n_near: int
    not_found_far: int
    """Samples without an epsilon: right-censored, ranked last, all tied."""
    not_found_near: int
    auc: float | None
    """Chance that a sample of `far` lies farther than one of `near`; ties count half."""
    auc_interval: Interval | None
    """DeLong's, as of `separation`."""
    cliffs_delta: float | None
    """``2 auc - 1``."""
    cliffs_delta_interval: Interval | None
    """DeLong's, carried over."""
    shift: float | None
    """Hodges-Lehmann: by how much samples of `far` lie farther."""
    shift_interval: Interval | None
    """An infinite end is not known."""
    mann_whitney_log10_p: float | None
    """One-sided: `near` lies nearer. Exact where `exact` says so."""
    mann_whitney_log10_p_two_sided: float | None
    exact: bool
    """Whether the Mann-Whitney p-values count all cases."""
    brunner_munzel: float | None
    """``(auc - 1/2) / se``: unlike Mann-Whitney's, a test of auc = 1/2 that holds for groups of unequal spread."""
    brunner_munzel_log10_p: float | None
    """One-sided, by Student's t distribution."""
    brunner_munzel_log10_p_two_sided: float | None
    kolmogorov_smirnov: float | None
    """The largest difference between the shares of the two groups within a radius."""
    kolmogorov_smirnov_at: float | None
    """That radius: an epsilon, never beyond the farthest found sample."""
    kolmogorov_smirnov_log10_p: float | None
    """Two-sided: any difference at all between the two distributions."""
    confidence: float
    notes: tuple[str, ...]


def group_tests(
    far: npt.ArrayLike,
    near: npt.ArrayLike,
    *,
    names: tuple[str, str] = ("S1,1", "S1,0"),
    confidence: float = 0.95,
) -> GroupTests:
    """Return how two groups differ in epsilon, by every test at once; kept (S1,1) against lost (S1,0) samples by name.

    Everything in `separation`, the interval of the Hodges-Lehmann shift, Brunner and Munzel's test and that of
    Kolmogorov and Smirnov. The rules:

    - *not found* (NaN) is right-censored: ranked after every found sample, all of them tied; counted in the result.
    - *fewer than 10 samples* in a group: Mann-Whitney and Kolmogorov-Smirnov are exact while the groups are small
      (the latter for distinct epsilons: with ties it errs on the safe side), Brunner-Munzel is withheld.
    - *groups that do not overlap* have no Brunner-Munzel statistic, for nothing varies.
    - *an empty group* gives counts and a note, everything else None.

    Parameters
    ----------
    far, near
        Epsilons (N,), NaN where not found.
    names
        What the groups are called.
    confidence
        Level of all intervals.

    Raises
    ------
    InputError
        For columns that are not flat and numeric, or a confidence outside (0, 1).

    References
    ----------
    E. Brunner and U. Munzel, "The nonparametric Behrens-Fisher problem: asymptotic theory and a small-sample
    approximation", Biometrical Journal 42, 2000; J. L. Hodges, "The significance probability of the Smirnov two-sample
    test", Arkiv foer Matematik 3, 1958; N. Cliff, "Dominance statistics", Psychological Bulletin 114, 1993.

    Examples
    --------
    >>> tests = group_tests(far=[3.0, 4.0, 5.0, float("nan")], near=[1.0, 3.0])
    >>> tests.auc, tests.cliffs_delta, tests.kolmogorov_smirnov, tests.kolmogorov_smirnov_at
    (0.9375, 0.875, 0.75, 3.0)
    """
    far, near = np.sort(epsilon_column(far, "far")), np.sort(epsilon_column(near, "near"))
    plain = separation(far, near, confidence=confidence)
    notes = [note.replace("S1,1", names[0]).replace("S1,0", names[1]) for note in plain.notes]
    some = min(len(far), len(near)) > 0
    statistic = one_sided = two_sided = distance = radius = log_p = None
    if some:
        distance, radius = _farthest_apart(far, near)
        log_p = _log_p_of_distance(distance, far, near)
        if plain.auc_se is None:
            notes.append("no Brunner-Munzel test: the groups do not overlap, or one has a single sample")
        else:
            statistic = (plain.auc - 0.5) / plain.auc_se if plain.auc is not None else 0.0
            if min(len(far), len(near)) < MIN_GROUP:
                notes.append(f"Brunner-Munzel p-value withheld: the smaller group has fewer than {MIN_GROUP} samples")
            else:
                df = _degrees_of_freedom(far, near)
                one_sided = log_student(statistic, df)
                two_sided = min(0.0, math.log(2) + log_student(abs(statistic), df))
    interval = plain.auc_interval
    return GroupTests(
        far=names[0],
        near=names[1],
        n_far=len(far),
        n_near=len(near),
        not_found_far=plain.not_found_kept,
        not_found_near=plain.not_found_lost,
        auc=plain.auc,
        auc_interval=interval,
        cliffs_delta=plain.cliffs_delta,
        cliffs_delta_interval=None
        if interval is None
        else Interval(2 * interval.low - 1, 2 * interval.high - 1, confidence),
        shift=plain.shift,
        shift_interval=hodges_lehmann_interval(far, near, confidence=confidence),
        mann_whitney_log10_p=plain.log10_p,
        mann_whitney_log10_p_two_sided=plain.log10_p_two_sided,
        exact=plain.exact,
        brunner_munzel=statistic,
        brunner_munzel_log10_p=_log10(one_sided),
        brunner_munzel_log10_p_two_sided=_log10(two_sided),
        kolmogorov_smirnov=distance,
        kolmogorov_smirnov_at=radius,
        kolmogorov_smirnov_log10_p=_log10(log_p),
        confidence=confidence,
        notes=tuple(notes),
    )


def _degrees_of_freedom(far: FloatColumn, near: FloatColumn) -> float:
    """Return Satterthwaite's degrees of freedom of Brunner and Munzel's statistic; groups are sorted."""
    m, n = len(far), len(near)
    parts = []
    for group, other in ((far, near), (near, far)):
        below = (np.searchsorted(other, group, side="left") + np.searchsorted(other, group, side="right")) / 2
        parts.append((below / len(other)).var(ddof=1) / len(group))
    return float((parts[0] + parts[1]) ** 2 / (parts[0] ** 2 / (m - 1) + parts[1] ** 2 / (n - 1)))


def _farthest_apart(far: FloatColumn, near: FloatColumn) -> tuple[float, float | None]:
    """Return the largest difference of the shares within a radius, either way, and that radius; groups are sorted."""
    radii = np.unique(np.concatenate([far[np.isfinite(far)], near[np.isfinite(near)]]))
    if len(radii) == 0:
        return 0.0, None
    within = [np.searchsorted(group, radii, side="right") / len(group) for group in (far, near)]
    apart = np.abs(within[1] - within[0])
    where = int(apart.argmax())
    return float(apart[where]), float(radii[where])


def _log_p_of_distance(distance: float, far: FloatColumn, near: FloatColumn) -> float:
    m, n = len(far), len(near)
    if distance <= (1 + 1e-9) / max(m, n):  # groups cannot differ less: p is 1, where scipy says a little more
        return 0.0
    if distance == 1:  # two of all orders of the samples look like that
        return float(math.log(2) + gammaln(m + 1) + gammaln(n + 1) - gammaln(m + n + 1))
    if min(m, n) < MIN_GROUP and m * n <= EXACT_PAIRS:
        return math.log(ks_2samp(far, near, method="exact").pvalue)
    return log_kolmogorov(distance, round(m * n / (m + n)))


def _log10(value: float | None) -> float | None:
    return None if value is None else value / math.log(10)
