"""The risk on thin ice: how likely pruning loses a sample that lies this far from the boundary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from sklearn.isotonic import isotonic_regression

from thinice.errors import InputError
from thinice.stats.base import FloatColumn, Result, check_confidence, epsilon_column, wilson, wilson_bounds
from thinice.types import Interval

__all__ = [
    "RiskBins",
    "RiskCurve",
    "RiskMethod",
    "cells",
    "even_groups",
    "falling_fit",
    "pooled_cells",
    "risk_bins",
    "risk_curve",
]


def cells(kept: FloatColumn, lost: FloatColumn) -> tuple[FloatColumn, FloatColumn]:
    """Return the distinct epsilons (K,), ascending, and how many samples are kept and lost at each (K, 2)."""
    epsilon, where = np.unique(np.concatenate([kept, lost]), return_inverse=True)
    counts = [np.bincount(part, minlength=len(epsilon)) for part in np.split(where.ravel(), [len(kept)])]
    return epsilon, np.column_stack(counts).astype(np.float64)


def pooled_cells(kept: FloatColumn, lost: FloatColumn, most: int) -> tuple[FloatColumn, FloatColumn]:
    """Return what `cells` does, with neighbouring epsilons pooled where there are more than `most`; inf stays alone."""
    epsilon, counts = cells(kept, lost)
    found = int(np.isfinite(epsilon).sum())
    if found <= most:
        return epsilon, counts
    sizes = counts[:found].sum(axis=1)
    group = even_groups(sizes, most)
    pooled = np.column_stack([np.bincount(group, column) for column in counts[:found].T])
    mean = np.bincount(group, sizes * epsilon[:found]) / pooled.sum(axis=1)
    return np.append(mean, epsilon[found:]), np.concatenate([pooled, counts[found:]])


def even_groups(sizes: FloatColumn, most: int) -> npt.NDArray[np.intp]:
    """Return a group for each epsilon, from 0 without gaps: at most so many, of nearly equally many samples."""
    if len(sizes) == 0:
        return np.empty(0, np.intp)
    middle = sizes.cumsum() - sizes / 2  # an epsilon goes where the middle of its samples is
    group = np.floor(middle / sizes.sum() * most)
    return np.unique(group, return_inverse=True)[1].ravel().astype(np.intp)


def falling_fit(values: FloatColumn, weights: FloatColumn) -> FloatColumn:
    """Return the nearest values (K,) that never rise, by weighted squared error: isotonic regression.

    >>> falling_fit(np.array([0.9, 0.4, 0.6]), np.array([1.0, 3.0, 1.0])).round(3).tolist()
    [0.9, 0.45, 0.45]
    """
    return np.asarray(isotonic_regression(values, sample_weight=weights, increasing=False))


RiskMethod = Literal["isotonic", "logistic"]
METHODS: tuple[RiskMethod, ...] = get_args(RiskMethod)
GROUPS = 500
"""With more distinct epsilons than this, neighbours are pooled: a curve needs no more points."""
SLOPE_VARIANCE = 1e4
"""Prior variance of the logistic slope, per standard deviation of epsilon: next to nothing, but there is an answer."""

Fit = Callable[[FloatColumn, FloatColumn], FloatColumn]


@dataclass(frozen=True, slots=True, eq=False)
class RiskCurve(Result):
    """P(lost | epsilon) among the samples that the dense network has right, at ascending epsilons."""

    epsilon: FloatColumn
    """Ascending (K,), in the unit of the epsilons: each distinct one that was found, or groups of neighbours."""
    risk: FloatColumn
    """Estimated chance that pruning loses a sample at that epsilon."""
    low: FloatColumn
    """Pointwise band around `risk`, at the level of `confidence`."""
    high: FloatColumn
    method: RiskMethod
    n_kept: int
    n_lost: int
    not_found_kept: int
    """Kept samples without an epsilon: farther than all others."""
    not_found_lost: int
    confidence: float
    resamples: int
    notes: tuple[str, ...]

    derived: ClassVar[tuple[str, ...]] = ("base_risk", "not_found_risk")

    @property
    def base_risk(self) -> float | None:
        """Share of all samples that are lost, whatever their epsilon: what a curve that says nothing would show."""
        n = self.n_kept + self.n_lost
        return self.n_lost / n if n else None

    @property
    def not_found_risk(self) -> Interval | None:
        """Wilson interval of the share that is lost among the samples not found; None where there are none."""
        n = self.not_found_kept + self.not_found_lost
        return wilson(self.not_found_lost, n, self.confidence) if n else None


@dataclass(frozen=True, slots=True, eq=False)
class RiskBins(Result):
    """The share of lost samples in each bin of epsilon, nearest first, one entry a bin."""

    nearest: FloatColumn
    """Smallest epsilon in the bin; inf in the bin of the samples that were not found."""
    farthest: FloatColumn
    """Largest epsilon in the bin."""
    n: npt.NDArray[np.int64]
    lost: npt.NDArray[np.int64]
    risk: FloatColumn
    """``lost / n``."""
    low: FloatColumn
    """Wilson interval of `risk`, at the level of `confidence`."""
    high: FloatColumn
    not_found: int
    """Samples of the last bin where that one holds those that were not found; 0 where there is no such bin."""
    confidence: float


def risk_curve(
    kept: npt.ArrayLike,
    lost: npt.ArrayLike,
    *,
    method: RiskMethod = "isotonic",
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> RiskCurve:
    """Return the chance that pruning loses a sample as a function of its epsilon, with a bootstrap band.

    *Isotonic*: of all functions that never rise with epsilon, the nearest to the zeros (kept) and ones (lost) in
    squared error. *Logistic*: ``P(lost | epsilon) = 1 / (1 + exp(-(a + b epsilon)))``, smooth, and wrong where the
    risk has another shape. Its slope has a normal prior of standard deviation 100, per standard deviation of epsilon,
    so that groups which do not overlap have an answer too.

    The band holds, point by point, the central `confidence` of the curves fitted to samples drawn anew with
    replacement; for the isotonic fit, where resamples agree too much on flat stretches, also Wilson's interval of each
    stretch. It is a guide rather than a promise: the bootstrap of an isotonic fit is not exact even with many samples.
    Where nothing or everything is lost, Wilson's interval of the constant risk takes the band's place.

    More than 500 distinct epsilons are pooled into 500 groups of neighbours of (nearly) the same size, each at the
    mean of its epsilons; a million samples take a second, five for the logistic band.

    Parameters
    ----------
    kept, lost
        Epsilons (N,) of samples that the dense network classifies correctly. Samples not found (NaN) are
        right-censored: the isotonic fit ranks them last, together; the logistic one cannot place them and leaves them
        out, which a note says.
    method
        ``"isotonic"`` or ``"logistic"``.
    confidence
        Level of the band.
    resamples
        Of the bootstrap.
    seed
        Repeats the band.

    Raises
    ------
    InputError
        For an unknown method, fewer than 2 resamples, a confidence outside (0, 1), or columns without numbers.

    References
    ----------
    R. E. Barlow et al., *Statistical inference under order restrictions*, 1972; B. Efron, "Bootstrap methods: another
    look at the jackknife", Ann. Stat. 7, 1979.

    Examples
    --------
    >>> curve = risk_curve(kept=[2.0, 3.0, 4.0, 4.0], lost=[1.0, 3.0])
    >>> curve.epsilon.tolist(), curve.risk.round(3).tolist()
    ([1.0, 2.0, 3.0, 4.0], [1.0, 0.333, 0.333, 0.0])
    """
    check_confidence(confidence)
    if method not in METHODS:
        raise InputError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}")
    if resamples < 2:
        raise InputError(f"`resamples` must be at least 2, got {resamples}: 1000 is the usual choice")
    kept, lost = epsilon_column(kept, "kept"), epsilon_column(lost, "lost")
    not_found_kept, not_found_lost = (int(np.isinf(column).sum()) for column in (kept, lost))
    notes = []
    if method == "logistic":
        if not_found_kept + not_found_lost:
            notes.append(f"{not_found_kept + not_found_lost} samples were not found: the logistic fit leaves them out")
        used_kept, used_lost = kept[np.isfinite(kept)], lost[np.isfinite(lost)]
    else:
        used_kept, used_lost = kept, lost
    epsilon, counts = pooled_cells(used_kept, used_lost, GROUPS)
    found = int(np.isfinite(epsilon).sum())
    if found == 0:
        notes.append("no curve: there is no sample with an epsilon")
        risk = low = high = np.empty(0)
    elif min(counts.sum(axis=0)) == 0:
        constant = float(counts[:, 1].any())
        notes.append(f"{'everything' if constant else 'nothing'} is lost: the band is Wilson's interval")
        interval = wilson(constant * counts.sum(), counts.sum(), confidence)
        risk, low, high = (np.full(found, value) for value in (constant, interval.low, interval.high))
    else:
        fit = _isotonic(epsilon) if method == "isotonic" else _logistic(epsilon)
        risk = fit(counts[:, 0], counts[:, 1])[:found]
        low, high = (bound[:found] for bound in _band(fit, counts, confidence, resamples, seed))
        if method == "isotonic":
            block_low, block_high = _block_bounds(risk, counts[:found].sum(axis=1), confidence)
            low, high = np.minimum(low, block_low), np.maximum(high, block_high)
        low, high = np.minimum(low, risk), np.maximum(high, risk)
    return RiskCurve(
        epsilon=epsilon[:found],
        risk=risk,
        low=low,
        high=high,
        method=method,
        n_kept=len(kept),
        n_lost=len(lost),
        not_found_kept=not_found_kept,
        not_found_lost=not_found_lost,
        confidence=confidence,
        resamples=resamples,
        notes=tuple(notes),
    )


def risk_bins(kept: npt.ArrayLike, lost: npt.ArrayLike, *, bins: int = 10, confidence: float = 0.95) -> RiskBins:
    """Return the share of lost samples in bins of epsilon that hold equally many samples, with Wilson intervals.

    The bins are cut at quantiles of the found epsilons; equal epsilons stay together, so that there are fewer bins, of
    unequal size, where many are equal. Samples not found (NaN) are right-censored: a last bin of their own, at inf.

    Parameters
    ----------
    kept, lost
        Epsilons (N,) of samples that the dense network classifies correctly; NaN where not found.
    bins
        How many, at most, for the samples that were found.
    confidence
        Level of the intervals.

    Raises
    ------
    InputError
        For fewer than 1 bin, a confidence outside (0, 1), or columns without numbers.

    Examples
    --------
    >>> risk = risk_bins(kept=[2.0, 3.0, 4.0, float("nan")], lost=[1.0], bins=2)
    >>> risk.nearest.tolist(), risk.n.tolist(), risk.risk.tolist()
    ([1.0, 3.0, inf], [2, 2, 1], [0.5, 0.0, 0.0])
    """
    if bins < 1:
        raise InputError(f"`bins` must be at least 1, got {bins}: 10 makes deciles")
    check_confidence(confidence)
    kept, lost = epsilon_column(kept, "kept"), epsilon_column(lost, "lost")
    epsilon, counts = cells(kept, lost)
    found = int(np.isfinite(epsilon).sum())
    group = even_groups(counts[:found].sum(axis=1), bins)
    group = np.append(group, np.full(len(epsilon) - found, group[-1] + 1 if found else 0)).astype(np.intp)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    binned = np.add.reduceat(counts, starts, axis=0) if len(starts) else np.empty((0, 2))
    n, n_lost = binned.sum(axis=1).astype(np.int64), binned[:, 1].astype(np.int64)
    risk = n_lost / n
    low, high = wilson_bounds(risk, n, confidence)
    return RiskBins(
        nearest=epsilon[starts],
        farthest=epsilon[np.append(starts[1:], len(epsilon))[: len(starts)] - 1],
        n=n,
        lost=n_lost,
        risk=risk,
        low=low,
        high=high,
        not_found=int(counts[found:].sum()),
        confidence=confidence,
    )


def _isotonic(epsilon: FloatColumn) -> Fit:
    place = np.arange(len(epsilon), dtype=np.float64)  # only the order matters, and inf has a place too

    def fit(kept: FloatColumn, lost: FloatColumn) -> FloatColumn:
        n = kept + lost
        some = n > 0  # a resample may miss a group: its risk is read between its neighbours
        return np.asarray(np.interp(place, place[some], falling_fit(lost[some] / n[some], n[some])))

    return fit


def _logistic(epsilon: FloatColumn) -> Fit:
    def fit(kept: FloatColumn, lost: FloatColumn) -> FloatColumn:
        n = kept + lost
        if lost.sum() in (0, n.sum()):
            return np.full(len(epsilon), float(lost.any()))
        centre = np.average(epsilon, weights=n)
        spread = np.sqrt(np.average((epsilon - centre) ** 2, weights=n)) or 1.0
        scaled = (epsilon - centre) / spread
        intercept, slope = _most_likely(scaled, n, lost)
        return np.asarray(expit(intercept + slope * scaled))

    return fit


def _most_likely(x: FloatColumn, n: FloatColumn, lost: FloatColumn) -> FloatColumn:
    """Return intercept and slope of the most likely logistic curve, given the slope's prior: Newton's method, damped.

    The cost is strictly convex where both groups have a sample, so that every step lowers it, shortened where need be.
    The last is the step that could gain no more than the cost's last digits.
    """
    features = np.stack([np.ones_like(x), x], axis=1)
    precision = np.diag([0.0, 1 / SLOPE_VARIANCE])  # the intercept has no prior

    def cost(parameters: FloatColumn) -> float:
        score = features @ parameters
        return float(n @ np.logaddexp(0, score) - lost @ score + parameters @ precision @ parameters / 2)

    share = lost.sum() / n.sum()
    parameters = np.array([logit(share), 0.0])
    while True:
        risk = expit(features @ parameters)
        gradient = features.T @ (n * risk - lost) + precision @ parameters
        step = np.linalg.solve(features.T @ (features * (n * risk * (1 - risk))[:, None]) + precision, gradient)
        before, gain = cost(parameters), gradient @ step
        if gain <= 1e-12 * (1 + before):
            return np.asarray(parameters - step)
        while cost(parameters - step) > before - 0.25 * gain:
            step, gain = step / 2, gain / 2
        parameters = parameters - step


def _band(
    fit: Fit, counts: FloatColumn, confidence: float, resamples: int, seed: int
) -> tuple[FloatColumn, FloatColumn]:
    """Return the pointwise percentile band of curves fitted to samples drawn anew with replacement."""
    rng = np.random.default_rng(seed)
    total = counts.sum()
    drawn = rng.multinomial(int(total), (counts / total).ravel(), size=resamples)
    curves = np.array([fit(*resample.reshape(counts.shape).astype(np.float64).T) for resample in drawn])
    low, high = np.quantile(curves, [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
    return low, high


def _block_bounds(risk: FloatColumn, n: FloatColumn, confidence: float) -> tuple[FloatColumn, FloatColumn]:
    """Return for each point the Wilson bounds of the flat stretch of the isotonic fit that it belongs to."""
    stretch = np.cumsum(np.diff(risk, prepend=risk[0]) != 0)
    low, high = wilson_bounds(risk, np.bincount(stretch, n)[stretch], confidence)
    return low, high
