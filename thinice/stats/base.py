"""What all statistics share: columns and their checks, results, quantiles where some samples were not found, shares."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri

from thinice.errors import InputError
from thinice.printable import plain
from thinice.types import Interval, Transition

__all__ = [
    "BoolColumn",
    "FloatColumn",
    "Result",
    "TextColumn",
    "bool_column",
    "check_confidence",
    "check_lengths",
    "epsilon_column",
    "quantile",
    "transition_column",
    "wilson",
    "wilson_bounds",
]


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


class Result:
    """The base of the result dataclasses: tells the fields, and the properties that `derived` names."""

    __slots__ = ()
    derived: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return a flat dict for JSON: an interval as ``…_low`` and ``…_high``, no number as None."""
        flat: dict[str, Any] = {}
        for name, value in self._values().items():
            if isinstance(value, Interval):
                flat |= {f"{name}_low": plain(value.low), f"{name}_high": plain(value.high)}
            else:
                flat[name] = plain(value)
        return flat

    def frame(self) -> pd.DataFrame:
        """Return the columns of the result, one row an entry; a result without columns is one row."""
        columns = {name: value for name, value in self._values().items() if isinstance(value, np.ndarray)}
        if columns:
            return pd.DataFrame(columns)
        row = {name: "; ".join(value) if name == "notes" else value for name, value in self.to_dict().items()}
        return pd.DataFrame([row])

    def _repr_html_(self) -> str:
        frame = self.frame()
        if len(frame) == 1:  # one row reads better as a list
            return str(frame.T.to_html(header=False))
        return str(frame.to_html(max_rows=20))

    def _values(self) -> dict[str, Any]:
        fields = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]  # all are dataclasses
        return {name: getattr(self, name) for name in (*fields, *self.derived)}


FloatColumn = npt.NDArray[np.float64]
BoolColumn = npt.NDArray[np.bool_]
TextColumn = npt.NDArray[np.str_]


def epsilon_column(values: npt.ArrayLike, name: str, *, signed: bool = False) -> FloatColumn:
    """Return epsilons as float64 (N,), with +inf for every sample that was not found.

    NaN, None, a masked entry (what DuckDB makes of NULL) and +inf all say "not found": right-censored,
    farther than everything that was found. Only `signed` distances may be -inf: farther behind than all others.
    """
    if isinstance(values, np.ma.MaskedArray):
        values = np.where(values.mask, np.nan, values.data)
    try:
        column = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"`{name}` must hold numbers, with NaN where none was found: {error}") from error
    _check_flat(column.shape, name)
    if not signed and np.isneginf(column).any():
        raise InputError(f"`{name}` holds -inf: an epsilon is a finite number, or NaN where none was found")
    column[np.isnan(column)] = np.inf
    return column


def bool_column(values: npt.ArrayLike, name: str) -> BoolColumn:
    """Return truth values as bool (N,); numbers other than 0 and 1 are refused."""
    if isinstance(values, np.ma.MaskedArray) and np.any(values.mask):
        raise InputError(f"`{name}` has missing values: give True or False for each sample")
    column = np.asarray(values)
    _check_flat(column.shape, name)
    if column.dtype != np.bool_ and not np.isin(column, (0, 1)).all():
        raise InputError(f"`{name}` must hold True and False, got {column.dtype} with other values")
    return column.astype(np.bool_)


def transition_column(values: npt.ArrayLike, name: str = "transition") -> TextColumn:
    """Return transitions as text (N,), each one of `Transition`."""
    column = np.asarray(values).astype(np.str_)
    _check_flat(column.shape, name)
    known = [str(transition) for transition in Transition]
    strange = np.setdiff1d(column, known)
    if strange.size:
        raise InputError(f"`{name}` holds {str(strange[0])!r}: the transitions are {', '.join(known)}")
    return column


def check_lengths(**columns: npt.NDArray[np.generic]) -> None:
    """Raise InputError unless all columns have as many rows as the first."""
    (first, head), *others = columns.items()
    for name, column in others:
        if len(column) != len(head):
            raise InputError(f"`{name}` has {len(column)} rows and `{first}` {len(head)}: give one a sample")


def check_confidence(confidence: float) -> None:
    """Raise InputError unless 0 < confidence < 1."""
    if not 0 < confidence < 1:
        raise InputError(f"`confidence` must lie between 0 and 1, got {confidence}: 0.95 is the usual choice")


def _check_flat(shape: tuple[int, ...], name: str) -> None:
    if len(shape) != 1:
        raise InputError(f"`{name}` must have one value a sample, shape (N,), got shape {shape}")


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
