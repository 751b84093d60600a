"""Shares of samples and what a finite number of them says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from thinice.errors import InputError
from thinice.stats.columns import FloatColumn, check_confidence
from thinice.types import Interval

__all__ = ["wilson", "wilson_bounds"]


def wilson(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval of a share, `successes` of `n`; [0, 1] where n is 0.

    The shares p for which ``|successes / n - p| <= z sqrt(p (1 - p) / n)``; always within [0, 1].

    Raises
    ------
    InputError
        For n < 0, or successes outside [0, n], or a confidence outside (0, 1).

    References
    ----------
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.

    Examples
    --------
    >>> interval = wilson(8, 10)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.4902, 0.9433)
    """
    if not 0 <= successes <= n:
        raise InputError(f"`successes` must lie in [0, n], got {successes} of {n}")
    share = successes / n if n else 0.5
    low, high = wilson_bounds(np.array([share]), n, confidence)
    return Interval(float(low[0]), float(high[0]), confidence)


def wilson_bounds(share: FloatColumn, n: npt.ArrayLike, confidence: float) -> tuple[FloatColumn, FloatColumn]:
    """Return the lower and upper Wilson bounds of each share (K,) among n samples."""
    check_confidence(confidence)
    n = np.asarray(n, dtype=np.float64)
    z_squared = ndtri(0.5 + confidence / 2) ** 2
    # multiplied through by n, so that n = 0 needs no case of its own: it gives [0, 1]
    centre = (n * share + z_squared / 2) / (n + z_squared)
    half = np.sqrt(z_squared * (n * share * (1 - share) + z_squared / 4)) / (n + z_squared)
    low = np.where(share == 0, 0.0, np.clip(centre - half, 0, share))
    high = np.where(share == 1, 1.0, np.clip(centre + half, share, 1))
    return low, high
