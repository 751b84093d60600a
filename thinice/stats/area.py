"""The area under the security curve: robust accuracy on average over all budgets up to one, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thinice.errors import InputError
from thinice.stats.base import FloatColumn, Result, check_confidence, epsilon_column, wilson_bounds
from thinice.types import Interval

__all__ = ["CurveArea", "curve_area", "mean_bounds"]


@dataclass(frozen=True, slots=True)
class CurveArea(Result):
    """The area under a security curve as a share of the whole: the mean robust accuracy over budgets up to `end`."""

    area: float | None
    """None without samples."""
    interval: Interval
    end: float
    n: int
    not_found: int
    """Samples that count as robust at every budget because no adversarial was found."""


def curve_area(epsilon: npt.ArrayLike, end: float, *, confidence: float = 0.95) -> CurveArea:
    """Return the area under the security curve of epsilons, from budget 0 to `end`, divided by `end`.

    The curve is a step function, so that its area is a mean over samples, without any grid: each sample counts
    ``min(epsilon, end) / end``. One that is misclassified counts 0, one that was not found 1.

    Parameters
    ----------
    epsilon
        (N,), 0 where misclassified, NaN where not found.
    end
        The largest budget, in the unit of the epsilons.
    confidence
        Level of the interval, which is `mean_bounds`.

    Raises
    ------
    InputError
        For an epsilon below 0, an end that is not above 0, or a confidence outside (0, 1).

    Examples
    --------
    >>> result = curve_area([0.0, 0.05, 0.1, float("nan")], 0.1)
    >>> result.area, result.not_found
    (0.625, 1)
    """
    if not 0 < end < math.inf:
        raise InputError(f"`end` must be above 0, got {end}: the published curves end at 0.15 in linf")
    column = epsilon_column(epsilon, "epsilon")
    if (column < 0).any():
        raise InputError(f"`epsilon` must not be negative, got {column.min()}: a distance is at least 0")
    shares = np.minimum(column, end) / end
    low, high = mean_bounds(shares, confidence)
    return CurveArea(
        area=float(shares.mean()) if len(shares) else None,
        interval=Interval(low, high, confidence),
        end=end,
        n=len(shares),
        not_found=int(np.isinf(column).sum()),
    )


def mean_bounds(values: FloatColumn, confidence: float = 0.95) -> tuple[float, float]:
    """Return bounds of the mean of values in [0, 1]; [0, 1] without values.

    Wilson's, with the number of samples from 0 and 1 that would scatter as these values do: ``n m (1 - m) / s²``.
    Values of 0 and 1 alone give Wilson's interval itself. Where all values are equal their scatter tells nothing, and
    the number of samples is n.

    Examples
    --------
    >>> low, high = mean_bounds(np.array([1.0] * 8 + [0.0] * 2))
    >>> round(low, 4), round(high, 4)
    (0.4902, 0.9433)
    """
    check_confidence(confidence)
    n = len(values)
    mean, variance = (float(values.mean()), float(values.var())) if n else (0.5, 0.0)
    weight = n * mean * (1 - mean) / variance if variance > 1e-12 else float(n)
    low, high = wilson_bounds(np.array([mean]), weight, confidence)
    return float(low[0]), float(high[0])
