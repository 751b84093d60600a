"""What a file of torch held, as plain data: dense tensors, numbers, texts and containers, within bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from thinice.errors import CheckpointError
from thinice.models.bookkeeping import NumpyArray, NumpyScalar, as_tensor
from thinice.models.pickles import plain

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["check_nesting", "plain_data"]

MOST_DEPTH = 50
"""Containers in one another: a state dict lies three or four deep."""
MOST_UNFOLDED = 2**28
"""Numbers that views and sparse tensors of one file stand for beyond those that it holds: a gigabyte in float32."""
COMPRESSED = {torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc}
VERSIONS = "_metadata"
"""The attribute in which torch keeps the versions of layers, beside the entries of a state dict."""


def check_nesting(held: object, path: Path) -> None:
    """Refuse nests without an end or too deep to be one, and things whose own attributes hide what they can do.

    Raises
    ------
    CheckpointError
        Naming the entry.
    """
    _height("", held, path, (), {})


def _height(key: object, held: object, path: Path, above: tuple[int, ...], heights: dict[int, int]) -> int:
    """Return how many containers deep something is."""
    if isinstance(held, Tensor | Mapping) and any(
        not isinstance(name, str) or hasattr(type(held), name) for name in getattr(held, "__dict__", ())
    ):
        raise CheckpointError(f"{path}: {plain(key)} hides what it can do: save the plain state_dict()")
    if not isinstance(held, Mapping | list | tuple):
        return 0
    if id(held) in above:
        raise CheckpointError(f"{path}: {plain(key)} contains itself: save the plain state_dict()")
    if id(held) not in heights and len(above) < MOST_DEPTH:
        inner = (*above, id(held))
        pairs = held.items() if isinstance(held, Mapping) else enumerate(held)
        heights[id(held)] = 1 + max((_height(name, value, path, inner, heights) for name, value in pairs), default=0)
    height = heights.get(id(held), 1)
    if len(above) + height > MOST_DEPTH:
        raise CheckpointError(f"{path}: is nested more than {MOST_DEPTH} deep: save the plain state_dict()")
    return height


def plain_data(held: Any, path: Path) -> Any:  # noqa: ANN401 - whatever was saved
    """Return the same with dense tensors for sparse ones and for arrays of NumPy, and numbers for NumPy's.

    Dicts and lists are changed in place. What takes more memory than the file is long (sparse tensors, views that
    repeat what is stored) is bounded over the whole file.

    Raises
    ------
    CheckpointError
        Tensors that claim too much, are quantised, nested or without content.
    """
    return _Plain(path).of("", held)


class _Plain:
    """Makes plain data of one file, each object once, and counts what it takes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unfolded = 0
        self.made: dict[int, tuple[object, Any]] = {}

    def of(self, key: object, held: Any) -> Any:  # noqa: ANN401 - whatever was saved
        """Return plain data for one thing; `key` names it in messages."""
        if isinstance(held, Tensor | NumpyArray | NumpyScalar | np.ndarray | np.generic | Mapping | list | tuple):
            if id(held) not in self.made:
                self.made[id(held)] = held, held  # which also keeps it, and so its id
                self.made[id(held)] = held, self._of(key, held)
            return self.made[id(held)][1]
        return held

    def _of(self, key: object, held: Any) -> Any:  # noqa: ANN401 - whatever was saved
        if isinstance(held, Tensor):
            return self._dense(key, held)
        if isinstance(held, np.ndarray | np.generic):
            return self._numbers(held)
        if isinstance(held, NumpyScalar | NumpyArray):
            return self._stand_in(key, held)
        if isinstance(held, MutableMapping):
            attributes = {name: value for name, value in getattr(held, "__dict__", {}).items() if name != VERSIONS}
            for name, value in {**attributes, **held}.items():
                held[name] = self.of(name, value)
            for name in attributes:
                del held.__dict__[name]
        elif isinstance(held, list):
            for place, value in enumerate(held):
                held[place] = self.of(f"{key}[{place}]", value)
        elif type(held) is tuple:
            return tuple(self.of(f"{key}[{place}]", value) for place, value in enumerate(held))
        return held

    def _stand_in(self, key: object, held: NumpyScalar | NumpyArray) -> Any:  # noqa: ANN401 - as it was, or its numbers
        try:
            numbers = held.number() if isinstance(held, NumpyScalar) else held.tensor()
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{self.path}: {plain(key)} is a damaged array ({plain(str(error))})") from None
        return held if numbers is None else numbers

    def _numbers(self, held: np.ndarray[Any, Any] | np.generic) -> Any:  # noqa: ANN401 - a tensor, a number, or as it was
        if held.dtype.kind not in "biuf" or held.dtype.itemsize > 8:
            return held
        return held.item() if isinstance(held, np.generic) else as_tensor(held)

    def _dense(self, key: object, value: Tensor) -> Tensor:
        if value.is_quantized:
            raise CheckpointError(
                f"{self.path}: {plain(key)} is quantised, which has no gradients to follow: save the state_dict() of "
                "the network in float32, before it is quantised"
            )
        if value.is_meta or value.is_nested or value.layout not in {torch.strided, torch.sparse_coo, *COMPRESSED}:
            raise CheckpointError(f"{self.path}: {plain(key)} is no ordinary dense tensor: save the plain state_dict()")
        shape, numbers = tuple(value.shape), math.prod(value.shape)
        if value.layout is not torch.strided or numbers * value.element_size() > value.untyped_storage().nbytes():
            self.unfolded += numbers
            if self.unfolded > MOST_UNFOLDED:
                raise CheckpointError(
                    f"{self.path}: {plain(key)} {shape} claims more numbers than the file holds, with others more than "
                    f"{MOST_UNFOLDED}: save the network's dense state_dict()"
                )
        if value.layout is torch.strided:
            return value
        try:
            return _from_sparse(value.detach())
        except (RuntimeError, ValueError, NotImplementedError) as error:
            reason = plain(str(error).partition("\n")[0])
            raise CheckpointError(
                f"{self.path}: {plain(key)} is a sparse tensor that cannot be made dense ({reason}): save the "
                "network's dense state_dict()"
            ) from None


def _from_sparse(value: Tensor) -> Tensor:
    """Return the dense tensor; indices out of bounds are an error (a file may lie about having been checked)."""
    if value.layout is torch.sparse_coo:
        checked = torch.sparse_coo_tensor(value._indices(), value._values(), value.shape, check_invariants=True)  # noqa: SLF001
        return checked.to_dense()
    by_rows = value.layout in {torch.sparse_csr, torch.sparse_bsr}
    ends, places = (
        (value.crow_indices(), value.col_indices()) if by_rows else (value.ccol_indices(), value.row_indices())
    )
    checked = torch.sparse_compressed_tensor(
        ends, places, value.values(), value.shape, layout=value.layout, check_invariants=True
    )
    return checked.to_dense()
