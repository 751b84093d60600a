"""`seed_spread` returns mean, spread and interval of one number over seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.stats import t

from thinice.errors import InputError
from thinice.stats.base import Result, check_confidence
from thinice.types import Interval

__all__ = ["SeedSpread", "seed_spread"]


@dataclass(frozen=True, slots=True)
class SeedSpread(Result):
    """What several seeds say of one number; None where they are too few."""

    n: int
    """Seeds that gave a number."""
    missing: int
    """Seeds that gave none: left out, not guessed."""
    mean: float | None
    sd: float | None
    """Standard deviation of single seeds (n - 1); None for one seed."""
    smallest: float | None
    largest: float | None
    confidence: float

    derived: ClassVar[tuple[str, ...]] = ("interval",)

    @property
    def interval(self) -> Interval | None:
        """Student's interval of the mean: what other seeds would give on average, if they scatter normally."""
        if self.mean is None or self.sd is None:
            return None
        half = float(t.ppf(0.5 + self.confidence / 2, self.n - 1)) * self.sd / math.sqrt(self.n)
        return Interval(self.mean - half, self.mean + half, self.confidence)


def seed_spread(values: npt.ArrayLike, *, confidence: float = 0.95) -> SeedSpread:
    """Return the mean of one number over seeds, its spread, and Student's interval of the mean.

    Parameters
    ----------
    values
        (N,) one a seed, such as AUCs; NaN or None where a seed gave none.
    confidence
        Level of the interval.

    Raises
    ------
    InputError
        For values that are not a flat list of finite numbers, or a confidence outside (0, 1).

    Examples
    --------
    >>> spread = seed_spread([0.88, 0.90, 0.92])
    >>> round(spread.mean, 3), round(spread.sd, 3), round(spread.interval.low, 3)
    (0.9, 0.02, 0.85)
    """
    check_confidence(confidence)
    column = np.array(values, dtype=np.float64)
    if column.ndim != 1 or np.isinf(column).any():
        raise InputError(f"`values` must be a flat list of finite numbers, one a seed, got shape {column.shape}")
    known = column[~np.isnan(column)]
    return SeedSpread(
        n=len(known),
        missing=len(column) - len(known),
        mean=float(known.mean()) if len(known) else None,
        sd=float(known.std(ddof=1)) if len(known) > 1 else None,
        smallest=float(known.min()) if len(known) else None,
        largest=float(known.max()) if len(known) else None,
        confidence=confidence,
    )
