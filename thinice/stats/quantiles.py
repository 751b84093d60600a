"""Quantiles of columns in which some samples were not found."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from thinice.errors import InputError
from thinice.stats.columns import epsilon_column

__all__ = ["quantile"]


def quantile(epsilon: npt.ArrayLike, share: float = 0.5) -> float | None:
    """Return a quantile by linear interpolation, the median by default; None where it is not known.

    Samples not found count as farther than all others, so a quantile is known as long as it falls on found ones.

    Parameters
    ----------
    epsilon
        (N,), NaN where not found.
    share
        Of the samples below, in [0, 1].

    Examples
    --------
    >>> quantile([1.0, 2.0, float("nan")]), quantile([1.0, float("nan")]), quantile([])
    (2.0, None, None)
    """
    if not 0 <= share <= 1:
        raise InputError(f"`share` must lie in [0, 1], got {share}: 0.5 is the median")
    column = epsilon_column(epsilon, "epsilon")
    if len(column) == 0:
        return None
    position = (len(column) - 1) * share
    below, above = math.floor(position), math.ceil(position)
    ordered = np.partition(column, (below, above))
    low, high = float(ordered[below]), float(ordered[above])
    return None if math.isinf(high) else low + (high - low) * (position - below)
