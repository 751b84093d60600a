"""What checkpoints carry beside tensors (options, scores, NumPy arrays, random states), read as plain data.

Each type has a stand-in: the type itself is neither imported nor called, so that nothing of a stranger's file runs.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

__all__ = ["Keyed", "Listed", "NumpyArray", "NumpyScalar", "Record", "stand_in"]

COUNTABLE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
"""NumPy's types of numbers that torch has as well."""


class Record(dict[Any, Any]):
    """Stands for an object of any harmless type: a dict of its attributes, and of the arguments that made it."""

    __hash__ = object.__hash__  # type: ignore[assignment] # some are keys of dicts

    def __new__(cls, *arguments: object) -> Self:
        """Return a record of the arguments; torch's reader makes some objects without initialising them."""
        record = super().__new__(cls)
        if arguments:
            record["arguments"] = arguments
        return record

    def __init__(self, *_: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):  # of a class with slots
            state = {**(state[0] if isinstance(state[0], dict) else {}), **state[1]}
        self.update(state if isinstance(state, dict) else {"state": state})


class Keyed:
    """Stands for subclasses of dict: what is made is an ordinary dict, with entries and attributes."""

    def __new__(cls, *_: object) -> Any:  # noqa: ANN401 - torch's reader fills this type alone
        """Return an empty dict; what a default is made by is not kept."""
        return OrderedDict()


class Listed:
    """Stands for subclasses of list, and deques: what is made is an ordinary list."""

    def __new__(cls, items: object = None, *_: object) -> Any:  # noqa: ANN401 - torch's reader fills lists alone
        """Return the list that was given, or an empty one."""
        return items if isinstance(items, list) else []


class Empty:
    """Stands for ``bytes()``, which is how the bytes of length 0 are written."""

    def __new__(cls, *_: object) -> Any:  # noqa: ANN401 - bytes, not an instance
        """Return no bytes."""
        return b""


class NumpyType(Record):
    """Stands for ``numpy.dtype``: its code and its byte order."""

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The type where it is of numbers, else ``None``."""
        code, state = self.get("arguments", ("",))[0], self.get("state", ())
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else ""
        if not isinstance(code, str) or order not in {"", "<", ">", "|", "="} or not COUNTABLE.fullmatch(code):
            return None
        return np.dtype(f"{order}{code.lstrip('<>=|')}")


class NumpyArray(Record):
    """Stands for an array of NumPy."""

    def tensor(self) -> Tensor | None:
        """Return its numbers, or ``None`` where it holds something else; ValueError where it is damaged."""
        state = self.get("state")
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], NumpyType):
            return None
        _, shape, kind, by_columns, content = state
        dtype = kind.dtype
        if dtype is None or not isinstance(content, bytes):
            return None
        if not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"shape {shape}")
        if math.prod(shape) * dtype.itemsize != len(content):
            raise ValueError(f"{len(content)} bytes for shape {shape} of {dtype}")
        array = np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")
        return as_tensor(array)


class NumpyScalar(Record):
    """Stands for a single number of NumPy."""

    def number(self) -> float | int | bool | None:
        """Return the number, or ``None`` where it is none."""
        arguments: tuple[object, ...] = self.get("arguments", ())
        kind, content = (*arguments, None, None)[:2]
        dtype = kind.dtype if isinstance(kind, NumpyType) else None
        if dtype is None or not isinstance(content, bytes) or len(content) != dtype.itemsize:
            return None
        number: float | int | bool = np.frombuffer(content, dtype)[0].item()
        return number


def as_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """Return a tensor with the numbers of an array; unsigned numbers of 16 bits and more become signed ones.

    Examples
    --------
    >>> as_tensor(np.array([1, 2], dtype=">u2"))
    tensor([1, 2])
    """
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind == "u" and dtype.itemsize > 1:
        dtype = np.dtype(np.int64)
    return torch.from_numpy(np.array(array, dtype=dtype, order="C"))


STAND_INS: tuple[tuple[type, str], ...] = (
    (
        Keyed,
        (
            r"collections\.defaultdict|easydict\.EasyDict|addict\.addict\.Dict|munch\.(\w+\.)?\w*Munch|box\.(\w+\.)?Box"
            r"|(yacs|fvcore\.common)\.config\.CfgNode|(mmcv|mmengine)\.(\w+\.)*ConfigDict"
            r"|(pytorch_lightning|lightning|lightning_fabric)\.(\w+\.)*AttributeDict"
        ),
    ),
    (Listed, r"collections\.deque"),
    (Empty, r"builtins\.bytes"),
    (NumpyScalar, r"numpy\.(core|_core)\.multiarray\.scalar"),
    (NumpyArray, r"numpy\.(core|_core)\.multiarray\._reconstruct"),
    (NumpyType, r"numpy\.dtype(s\.\w+DType)?"),
    (
        Record,
        (
            r"argparse\.Namespace|types\.SimpleNamespace|collections\.(ChainMap|UserDict|UserList)|copyreg\._reconstructor"
            r"|builtins\.(int|float|str|bool|list|tuple|dict|frozenset|slice|range|object|type)|functools\.partial"
            r"|typing\.Any|datetime\.\w+|decimal\.Decimal|fractions\.Fraction|uuid\.\w+|enum\.\w+"
            r"|pathlib\.(_local\.)?\w*Path"
            r"|numpy\.(ndarray|bool_?|str_|float\d+|u?int\d+|datetime64|timedelta64)"
            r"|numpy\.random\.(\w+\.)*\w+|numpy\.ma\.core\._mareconstruct|numpy\.ma\.(core\.)?MaskedArray"
            r"|omegaconf\.(\w+\.)*\w+|ml_collections\.(\w+\.)*\w+"
            r"|mmengine\.(\w+\.)*HistoryBuffer"
            r"|(pytorch_lightning|lightning|lightning_fabric)\.(\w+\.)*(callbacks|loggers|utilities|accelerators)\.(\w+\.)*\w+"
            r"|torch\._C\.Generator|torch\.torch_version\.TorchVersion|torch\.nn\.modules\.loss\.\w+"
            r"|torch\.optim\.(\w+\.)*\w+|torch\.(cuda\.)?amp\.grad_scaler\.\w+"
            r"|torchvision\.transforms\.(transforms|functional)\.\w+"
        ),
    ),
)
"""The stand-ins, and the full names of the types that each stands for."""


def stand_in(name: str) -> type | None:
    """Return what stands for the type of this full name; ``None`` where it is no harmless one.

    Examples
    --------
    >>> stand_in("argparse.Namespace"), stand_in("os.system")
    (<class 'thinice.models.bookkeeping.Record'>, None)
    """
    return next((kind for kind, names in STAND_INS if re.fullmatch(names, name)), None)
