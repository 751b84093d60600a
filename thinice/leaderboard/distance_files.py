"""Distance files of the public benchmark: pickles, which are read without carrying out anything that they ask for.

The public benchmark keeps a list of distances for each network, of tensors with one number each, and says nowhere of
which samples they are. A pickle is a program. `read_distances` goes through its instructions one by one and knows only
those that make numbers, texts, bytes, lists and tuples; in the place of calls it reads what tensors of torch and arrays
of NumPy are made of. Anything else is refused by name. `distance_bytes` writes a list of plain numbers, which is a
pickle that calls nothing.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.errors import InputError
from thinice.files import expanded, read_whole
from thinice.printable import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LARGEST", "MOST", "beyond", "distance_bytes", "parse_distances", "read_distances"]

LARGEST = 64_000_000
"""Bytes of a file: a tensor of one number takes 400, and each of 128 that share their numbers 1 kB."""
MOST_STEPS = 4_000_000
MOST = 1_000_000
"""Distances in one file: more than any test set has images."""
PROTOCOL = 4
"""Of what is written: read by every Python from 3.4."""


def distance_bytes(distances: Iterable[float]) -> bytes:
    """Return a file of distances: a list of plain numbers, which the public benchmark's own code reads as well.

    >>> parse_distances(distance_bytes([0.0, 0.03, float("inf")])).tolist()
    [0.0, 0.03, inf]
    """
    return pickle.dumps([float(distance) for distance in distances], protocol=PROTOCOL)


def read_distances(path: str | Path) -> NDArray[np.float64]:
    """Return the distances (N,) in a file of the public benchmark, in its order; nothing in it is carried out.

    Raises
    ------
    InputError
        For a file that cannot be read, that asks for anything but numbers, or whose numbers are no distances.

    """
    path = expanded(path, "file")
    try:
        content = read_whole(path, LARGEST)
    except OSError as error:
        raise InputError(f"`file` {path} cannot be read: {error.strerror or error}") from None
    return parse_distances(content, f"`file` {path}")


def parse_distances(content: bytes, named: str = "`file`") -> NDArray[np.float64]:
    """Return the distances (N,) in the bytes of a file; `named` is what errors call it.

    Raises
    ------
    InputError
        As of `read_distances`.

    """
    try:
        held = _Reader().read(io.BytesIO(content))
        numbers = np.array(_flat(held), np.float64)
    except _RefusedError as error:
        raise InputError(f"{named} {error}") from None
    except Exception as error:  # noqa: BLE001 - what a reader fails on in a stranger's file may be anything
        reason = shown(str(error).partition("\n")[0])
        told = "" if isinstance(error, KeyError) or not reason else f" ({reason})"
        raise InputError(f"{named} is no pickle of distances, or damaged{told}") from None
    if not len(numbers):
        raise InputError(f"{named} holds no distances")
    if np.isnan(numbers).any() or (numbers < 0).any():
        raise InputError(f"{named} holds {numbers[np.isnan(numbers) | (numbers < 0)][0]:g}, which is no distance")
    return numbers


def beyond(distances: NDArray[np.float64], budget: float) -> NDArray[np.bool_]:
    """Return which distances (N,) are larger than a budget: in float32, in which they were measured.

    >>> beyond(np.array([np.float32(8 / 255), 0.05, np.inf]), 8 / 255).tolist()
    [False, True, True]
    """
    return distances.astype(np.float32) > np.float32(budget)


class _RefusedError(Exception):
    """What a file must not ask for; the text goes on after the file's name."""


@dataclass(frozen=True, slots=True)
class _Name:
    """A name that a pickle uses, ``module.attribute``: never looked up."""

    text: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """The numbers behind a tensor, of a type of `STORAGES`."""

    numbers: np.ndarray[Any, Any]


STORAGES: dict[str, np.dtype[Any]] = {
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.HalfStorage": np.dtype("<f2"),
}
LOAD = "torch.storage._load_from_bytes"
LEGACY_PICKLES = 5
"""Inside a storage's bytes: magic number, version, machine, the storage, and the keys of its numbers."""
PLAIN_VALUES = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG1", "LONG", "FLOAT", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "BINSTRING", "SHORT_BINSTRING", "STRING"),
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
IDLE = {"PROTO", "FRAME", "STOP"}


class _Reader:
    """Goes through the instructions of a pickle with a stack of its own.

    The bytes of a storage are pickles as well, read by readers that count on with the same budget, and know no calls.
    """

    def __init__(self, outer: _Reader | None = None) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.outermost: _Reader = self if outer is None else outer
        self.steps = 0

    def read(self, file: io.BytesIO) -> Any:  # noqa: ANN401 - whatever was saved
        """Return what one pickle in a file holds, numbers and lists of them; the file stands behind it."""
        for operation, argument, _ in pickletools.genops(file):
            self.outermost.steps += 1
            if self.outermost.steps > MOST_STEPS:
                raise _RefusedError(f"has more than {MOST_STEPS} instructions: it is no file of distances")
            self._take(operation.name, argument)
        (held,) = self.stack
        return held

    def _take(self, name: str, argument: Any) -> None:  # noqa: ANN401, C901 - of many types; a row an instruction
        stack = self.stack
        if name in IDLE:
            return
        if name in PLAIN_VALUES:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in {"EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_DICT"}:
            stack.append({"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict}[name]())
        elif name in {"MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"}:
            self.memo[len(self.memo) if name == "MEMOIZE" else int(argument)] = stack[-1]
        elif name in {"BINGET", "LONG_BINGET", "GET"}:
            stack.append(self.memo[int(argument)])
        elif name == "POP":
            stack.pop()
        elif name == "GLOBAL":
            stack.append(_Name(str(argument).replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_Name(f"{_text(module)}.{_text(attribute)}"))
        elif name == "BINPERSID":
            stack.append(_StorageKey(*stack.pop()[1:5]))
        else:
            self._build(name)

    def _build(self, name: str) -> None:
        """Carry out what makes one thing of several on the stack."""
        stack = self.stack
        if name == "APPEND":
            self._extend([stack.pop()])
        elif name == "APPENDS":
            self._extend(self._marked())
        elif name in {"SETITEM", "SETITEMS"}:
            pairs = self._marked() if name == "SETITEMS" else [stack.pop() for _ in range(2)][::-1]
            self._set(dict(zip(pairs[::2], pairs[1::2], strict=True)))
        elif name in {"TUPLE", "LIST"}:
            stack.append((tuple if name == "TUPLE" else list)(self._marked()))
        elif name in {"TUPLE1", "TUPLE2", "TUPLE3"}:
            size = int(name[-1])
            stack[-size:] = [tuple(stack[-size:])]
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._called(function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            stack[-1] = _filled(stack[-1], state)
        else:
            raise _RefusedError(f"uses {name} of the language of pickles, which no list of distances needs")

    def _called(self, function: Any, arguments: Any) -> Any:  # noqa: ANN401 - what a pickle says, unchecked so far
        """Return what a call would make, for the few that stand in files of distances."""
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise _RefusedError("calls something that has no name")
        if function.text == LOAD and self.outermost is self:
            return _storage(self, *arguments)
        if function.text not in CALLS or self.outermost is not self:
            name = shown(function.text)
            raise _RefusedError(f"wants to run {name}, which no list of distances needs: it was not read")
        return CALLS[function.text](*arguments)

    def _marked(self) -> list[Any]:
        """Return what lies above the last mark, and take it off with the mark."""
        start = self.marks.pop()
        above = self.stack[start:]
        del self.stack[start:]
        return above

    def _set(self, entries: dict[Any, Any]) -> None:
        """Note what a storage says of the machine that wrote it."""
        if not isinstance(self.stack[-1], dict):
            raise _RefusedError("sets entries of something that is no dictionary")
        self.stack[-1].update(entries)

    def _extend(self, values: Sequence[Any]) -> None:
        held = self.stack[-1]
        if not isinstance(held, list):
            raise _RefusedError("appends to something that is no list")
        held.extend(values)
        if len(held) > MOST:
            raise _RefusedError(f"holds more than {MOST} distances")


@dataclass(frozen=True, slots=True)
class _StorageKey:
    """How a storage names itself inside its bytes."""

    kind: _Name
    key: str
    location: str
    size: int


@dataclass(frozen=True, slots=True)
class _Kind:
    """A type of numbers of NumPy, in the text by which NumPy pickles it, and its byte order."""

    text: str
    order: str = "<"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type: floats and whole numbers alone."""
        if self.text not in {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1"} or self.order not in {"<", ">", "|", "="}:
            raise _RefusedError(f"holds an array of {shown(self.order + self.text)}, which are no distances")
        return np.dtype(self.order + self.text)


class _Array:
    """An array of NumPy, before its numbers are known."""


def _text(held: Any) -> str:  # noqa: ANN401 - what a pickle says
    """Return a text; of what is none not even its own text is made, which may have no end."""
    if not isinstance(held, str):
        raise _RefusedError("has something that is no text where a name belongs")
    return held


def _filled(thing: Any, state: Any) -> Any:  # noqa: ANN401 - what a pickle says, unchecked so far
    """Return a type or an array of NumPy with its state."""
    if isinstance(thing, _Kind):
        order = _text(state[1])
        return _Kind(thing.text, order)
    if isinstance(thing, _Array):
        shape, kind, data = state[1], state[2], state[4]
        return _array(kind, data, shape)
    raise _RefusedError("sets the state of something that is no number")


def _numbers(kind: Any, data: Any, count: int) -> np.ndarray[Any, Any]:  # noqa: ANN401 - what a pickle says
    if not isinstance(kind, _Kind) or not isinstance(data, bytes | bytearray):
        raise _RefusedError("holds an array whose numbers are not plain")
    return np.frombuffer(data, kind.dtype, count=count)


def _storage(reader: _Reader, content: object) -> _Storage:
    """Return the numbers in the bytes of a storage: five pickles, their number as 64 bits, and the numbers."""
    if not isinstance(content, bytes):
        raise _RefusedError("holds a storage that is no bytes")
    file = io.BytesIO(content)
    _, _, machine, held, _ = (_Reader(reader).read(file) for _ in range(LEGACY_PICKLES))
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise _RefusedError("was written on a machine of another byte order: write it again as a list of numbers")
    if not isinstance(held, _StorageKey) or held.kind.text not in STORAGES:
        name = held.kind.text if isinstance(held, _StorageKey) else type(held).__name__
        raise _RefusedError(f"holds numbers of {shown(name)}: distances are floating-point numbers")
    count = int.from_bytes(file.read(8), "little")
    return _Storage(np.frombuffer(content, STORAGES[held.kind.text], count=count, offset=file.tell()))


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> Any:  # noqa: ANN401 - what a pickle says
    """Return the numbers of a tensor with at most one axis: a number, or a list."""
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or len(shape) > 1:
        raise _RefusedError("holds a tensor with several axes: distances are single numbers, or one list")
    count, step = (int(shape[0]), int(stride[0])) if shape else (1, 1)
    stop = int(offset) + step * max(count - 1, 0)
    if int(offset) < 0 or step < 1 or count < 0 or stop >= len(storage.numbers):
        raise _RefusedError("holds a tensor that claims more numbers than the file has")
    numbers = storage.numbers[int(offset) : stop + 1 : step]  # a view: a small file may name many of a large one
    return numbers if shape else float(numbers[0])


def _flat(held: Any) -> list[float]:  # noqa: ANN401 - what a pickle says
    """Return a list of numbers; each may be a list of one."""
    if not isinstance(held, list | tuple | np.ndarray):
        raise _RefusedError(f"holds {type(held).__name__.lstrip('_')}, no list of distances")
    if isinstance(held, np.ndarray):
        return [float(number) for number in held]
    flat = [value[0] if isinstance(value, list | tuple | np.ndarray) and len(value) == 1 else value for value in held]
    strange = [value for value in flat if isinstance(value, bool) or not isinstance(value, int | float | np.number)]
    if strange:
        raise _RefusedError(f"holds {type(strange[0]).__name__.lstrip('_')} among its distances, no number")
    return [float(value) for value in flat]


def _array(kind: Any, data: Any, shape: Any) -> np.ndarray[Any, Any]:  # noqa: ANN401 - what a pickle says
    return _numbers(kind, data, math.prod(shape))


CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": lambda *parts: _tensor(*parts[:4]),
    "collections.OrderedDict": lambda: None,
    "_codecs.encode": lambda text, _: _text(text).encode("latin-1"),
    "numpy.dtype": lambda text, *_: _Kind(_text(text)),
}
"""What stands in the place of the calls in files of distances; NumPy has had two names for its core."""
for _core in ("numpy.core", "numpy._core"):
    CALLS |= {
        f"{_core}.multiarray.scalar": lambda kind, data: float(_array(kind, data, (1,))[0]),
        f"{_core}.multiarray._reconstruct": lambda *_: _Array(),
        f"{_core}.numeric._frombuffer": lambda data, kind, shape, _: _array(kind, data, shape),
    }
