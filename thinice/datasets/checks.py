"""What labels, ids, class names and indices must be; each check returns it in one form."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from thinice.errors import InputError
from thinice.paths import unwritable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Numbers: TypeAlias = Tensor | NDArray[Any] | Sequence[Any]
    Index: TypeAlias = slice | Tensor | NDArray[Any] | Sequence[int] | Sequence[bool]

__all__ = ["as_classes", "as_ids", "as_index", "as_labels", "as_tensor", "refuse_repeats"]

MOST_CLASSES = 1_000_000
"""Labels from here on are taken for a mistake: they would ask for as many class names."""


def as_tensor(values: Numbers, argument: str) -> Tensor:
    """Return numbers as a tensor on the CPU, without a copy where none is needed."""
    if isinstance(values, Tensor):
        return values.detach().cpu()
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"`{argument}` must be an array of numbers: {' '.join(str(error).split())}") from error
    if array.dtype.kind not in "biuf" or array.itemsize > 8:
        raise InputError(f"`{argument}` must be an array of numbers, got {array.dtype}")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(native, requirements=("C", "W")))


def as_labels(labels: Numbers, count: int) -> Tensor:
    """Return checked (N,) int64 labels from 0 on."""
    truth = as_tensor(labels, "labels")
    if not is_integer(truth):
        raise InputError(
            f"`labels` must be integers, got {truth.dtype}: convert with labels.long() if they are classes"
        )
    if truth.shape != (count,):
        raise InputError(f"`labels` must have the shape ({count},), one for each input, got {tuple(truth.shape)}")
    truth = truth.to(torch.int64)
    if truth.min() < 0:
        raise InputError(f"`labels` must not be negative, got {int(truth.min())}: classes count from 0")
    return truth


def as_ids(sample_ids: Numbers, count: int) -> Tensor:
    """Return checked (N,) distinct int64 ids from 0 on."""
    ids = as_tensor(sample_ids, "sample_ids")
    if not is_integer(ids):
        raise InputError(f"`sample_ids` must be integers, got {ids.dtype}")
    if ids.shape != (count,):
        raise InputError(f"`sample_ids` must have the shape ({count},), one for each input, got {tuple(ids.shape)}")
    ids = ids.to(torch.int64)
    if count and ids.min() < 0:
        raise InputError(f"`sample_ids` must not be negative, got {int(ids.min())}")
    refuse_repeats(ids)
    return ids


def as_classes(classes: Sequence[str] | None, labels: Tensor) -> tuple[str, ...]:
    """Return checked, distinct class names that cover the labels."""
    largest = int(labels.max())
    if classes is None:
        if largest >= MOST_CLASSES:
            raise InputError(f"`labels` must be below {MOST_CLASSES:,}, got {largest}: they count classes from 0")
        return tuple(str(label) for label in range(largest + 1))
    if isinstance(classes, str):
        raise InputError(f"`classes` must be distinct names, one for each class, got {classes!r}")
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise InputError(f"`classes` must be distinct names, one for each class, got {twice[0]!r} more than once")
    foreign = [name for name in classes if unwritable(str(name))]
    if foreign:
        raise InputError(f"`classes` must be names in UTF-8, got {foreign[0]!r}")
    if largest >= len(classes):
        raise InputError(f"`labels` must be below {len(classes)}, the number of `classes`, got {largest}")
    return tuple(classes)


def refuse_repeats(ids: Tensor) -> None:
    """Raise `InputError` where an id stands twice."""
    values, counts = torch.unique(ids, return_counts=True)
    if bool((counts > 1).any()):
        raise InputError(f"`sample_ids` must be distinct, got {int(values[counts > 1][0])} more than once")


def as_index(index: Index, length: int) -> slice | Tensor:
    """Return a slice with a positive step, or checked int64 positions in [0, length)."""
    if isinstance(index, slice):
        if index.step is None or index.step > 0:
            return index
        return torch.tensor(range(length)[index], dtype=torch.int64)
    where = as_tensor(index, "index")
    if where.ndim != 1:
        raise InputError(f"an index must be a slice or one-dimensional, got {index!r}: for one sample use [i : i + 1]")
    if where.dtype == torch.bool:
        if len(where) != length:
            raise InputError(f"a mask must have one value for each of the {length} samples, got {len(where)}")
        return where.nonzero().flatten()
    if len(where) == 0:
        return where.to(torch.int64)
    if not is_integer(where):
        raise InputError(f"an index must be of integers or booleans, got {where.dtype}")
    where = where.to(torch.int64)
    if where.min() < -length or where.max() >= length:
        raise InputError(f"an index must lie between 0 and {length - 1}, got {where.min()} to {where.max()}")
    return where.remainder(length)


def is_integer(values: Tensor) -> bool:
    """Return whether the type is one of integers; booleans are not."""
    return not (values.dtype == torch.bool or values.is_floating_point() or values.is_complex())
