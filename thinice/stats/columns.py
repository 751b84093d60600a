"""What every statistic and every plot asks of the columns it is given."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thinice.errors import InputError
from thinice.types import Transition

__all__ = [
    "BoolColumn",
    "FloatColumn",
    "TextColumn",
    "bool_column",
    "check_confidence",
    "check_lengths",
    "epsilon_column",
    "transition_column",
]

FloatColumn = npt.NDArray[np.float64]
BoolColumn = npt.NDArray[np.bool_]
TextColumn = npt.NDArray[np.str_]


def epsilon_column(values: npt.ArrayLike, name: str) -> FloatColumn:
    """Return epsilons as float64 (N,), with +inf for every sample that was not found.

    NaN, None, a masked entry (what DuckDB makes of NULL) and +inf all say "not found": right-censored,
    farther than everything that was found.
    """
    if isinstance(values, np.ma.MaskedArray):
        values = np.where(values.mask, np.nan, values.data)
    try:
        column = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"`{name}` must hold numbers, with NaN where none was found: {error}") from error
    _check_flat(column.shape, name)
    if np.isneginf(column).any():
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
