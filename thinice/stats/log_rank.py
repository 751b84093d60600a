"""Distances as survival times: the log-rank test, the interval of a median, samples searched up to their own radii."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtri

from thinice.errors import InputError
from thinice.stats.base import BoolColumn, FloatColumn, check_confidence, check_lengths, epsilon_column

__all__ = ["known_times", "log_rank_log_p", "median_bounds"]


def log_rank_log_p(
    kept: npt.ArrayLike,
    lost: npt.ArrayLike,
    *,
    searched: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
) -> float:
    """Return the natural logarithm of the one-sided log-rank p-value: at every radius, lost samples are found sooner.

    Of groups that have samples. Unlike Mann-Whitney's test it can know how far each sample that was not found was
    searched, and it weighs far radii as much as near ones. By the normal approximation; 0 where nothing was found.

    Parameters
    ----------
    kept, lost
        Epsilons (N,), NaN where not found.
    searched
        Of both groups, the radii up to which samples that were not found were searched; by default without limit.

    Raises
    ------
    InputError
        For columns of different length, or a radius that is NaN or negative where a sample was not found.

    References
    ----------
    N. Mantel, "Evaluation of survival data and two new rank order statistics arising in its consideration", Cancer
    Chemotherapy Reports 50, 1966.

    Examples
    --------
    >>> round(math.exp(log_rank_log_p(kept=[3.0, 5.0, 6.0, float("nan")], lost=[1.0, 2.0, 4.0])), 4)
    0.0238
    """
    radii = (None, None) if searched is None else searched
    (kept_times, kept_found), (lost_times, lost_found) = (
        known_times(epsilon_column(group, name), radius)
        for group, name, radius in zip((kept, lost), ("kept", "lost"), radii, strict=True)
    )
    at, events = np.unique(np.concatenate([kept_times[kept_found], lost_times[lost_found]]), return_counts=True)
    lost_events = np.sort(lost_times[lost_found])
    observed = np.searchsorted(lost_events, at, side="right") - np.searchsorted(lost_events, at, side="left")
    lost_there, kept_there = (
        len(times) - np.searchsorted(np.sort(times), at, side="left") for times in (lost_times, kept_times)
    )
    there = (lost_there + kept_there).astype(np.float64)
    share = lost_there / there
    left = np.divide(there - events, there - 1, out=np.zeros(len(at)), where=there > 1)
    variance = float((events * share * (1 - share) * left).sum())
    excess = float((observed - events * share).sum())
    return float(log_ndtr(-excess / math.sqrt(variance))) if variance > 0 else 0.0


def median_bounds(epsilon: npt.ArrayLike, *, confidence: float = 0.95) -> tuple[float | None, float | None]:
    """Return the lower and the upper end of the interval of a median epsilon; None where an end is not known.

    All radii at which Kaplan and Meier's interval of the share of samples farther away, on the scale of
    ``log(-log(share))``, holds 1/2. Samples that were not found lie beyond all others, so that the upper end is often
    unknown where they are many; of few samples both are.

    Parameters
    ----------
    epsilon
        (N,), NaN where not found.
    confidence
        Level of the interval.

    References
    ----------
    R. Brookmeyer and J. Crowley, "A confidence interval for the median survival time", Biometrics 38, 1982.

    Examples
    --------
    >>> median_bounds(np.arange(1.0, 21.0))
    (5.0, 15.0)
    >>> median_bounds([1.0, 2.0, float("nan")])
    (1.0, None)
    """
    check_confidence(confidence)
    ordered = np.sort(epsilon_column(epsilon, "epsilon"))
    at, found = np.unique(ordered[np.isfinite(ordered)], return_counts=True)
    left = len(ordered) - np.cumsum(found)
    at, left = at[left > 0], left[left > 0]  # at the last sample of all there is no interval
    if not len(at):
        return None, None
    share = left / len(ordered)
    error = np.sqrt((1 - share) / left) / -np.log(share)  # Greenwood's, without samples that are lost on the way
    z = float(ndtri(0.5 + confidence / 2))
    low, high = (share ** np.exp(sign * z * error) for sign in (1, -1))
    ends = [float(at[reached.argmax()]) if reached.any() else None for reached in (low <= 0.5, high <= 0.5)]
    return ends[0], ends[1]


def known_times(epsilon: FloatColumn, searched: npt.ArrayLike | None) -> tuple[FloatColumn, BoolColumn]:
    """Return up to what radius each sample is known to be robust, and whether it was found there.

    Epsilons are inf where not found; such a sample was searched up to its radius of `searched`, or without limit.
    """
    found = np.isfinite(epsilon)
    if searched is None:
        return epsilon, found
    radii = np.asarray(searched, dtype=np.float64)
    check_lengths(epsilon=epsilon, searched=radii)
    if np.isnan(radii[~found]).any() or (radii[~found] < 0).any():
        raise InputError("`searched` must be a radius of at least 0 where a sample was not found")
    return np.where(found, epsilon, radii), found
