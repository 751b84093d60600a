"""Checks of a pickle's instructions before any of them is carried out: which names it uses, and how much it makes.

torch's restricted reader runs no code, but it builds any number of objects of any size that a file describes.
"""

from __future__ import annotations

import io
import pickletools
import re
from typing import IO, TYPE_CHECKING

import torch

from thinice.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BOOKKEEPING", "IgnoredObject", "check_legacy", "check_zipped", "plain"]

MOST_STEPS = 2_000_000
"""Instructions in one pickle: a network of 10 000 tensors with its optimizer has half a million."""
MOST_CALLS = 100_000
"""Objects made by calls: two a tensor."""
MOST_ENCODED = 2**30
"""Bytes made from texts: calls times the longest text, where a pickle encodes texts."""
MOST_WIDE = 1_000
"""Whole numbers of more than 64 bits: a random generator has a few."""
MOST_NESTED = 50
"""Tuples in one another."""
TAKEN = {
    **dict.fromkeys(("TUPLE1", "APPEND", "BUILD", "BINPERSID"), 1),
    **dict.fromkeys(("TUPLE2", "REDUCE", "NEWOBJ", "SETITEM"), 2),
    "TUPLE3": 3,
}
TAKEN_FROM_MARK = {"TUPLE", "APPENDS", "SETITEMS"}
NESTING = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "REDUCE", "NEWOBJ"}
FILLING = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"}
"""Of the instructions that torch's reader knows: how many things they take off the stack, and what they leave there."""
LEGACY_PICKLES = 5
"""In a file of the old format: magic number, version, machine, what was saved, and the keys of its numbers."""


class IgnoredObject:
    """Stands for harmless bookkeeping objects of other programs (options, scores); their content is not read."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# Names of plain bookkeeping types that research checkpoints carry beside the weights. Each becomes an `IgnoredObject`:
# the types themselves are neither imported nor called.
BOOKKEEPING = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    "easydict.EasyDict",
    "addict.addict.Dict",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    *(f"numpy.dtypes.{kind}DType" for kind in ("Float16", "Float32", "Float64", "Int32", "Int64", "Bool")),
    *(f"pathlib.{kind}" for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
    *(f"pathlib._local.{kind}" for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
)
ENCODE = "_codecs.encode"
SIZED = "torch.storage.UntypedStorage"
"""A pickle may name it, as the type of what is stored, but not call it."""
CALLED_IT_ALLOCATES = -1
PLAIN = {
    *BOOKKEEPING,
    ENCODE,
    SIZED,
    "collections.OrderedDict",
    "collections.Counter",
    "builtins.set",
    "__builtin__.set",
    "torch.Size",
    "torch.device",
    "torch.nn.parameter.Parameter",
    *(f"torch._utils.{name}" for name in ("_rebuild_parameter", "_rebuild_parameter_with_state")),
    *(f"torch._utils.{name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")),
}
"""The names a pickle may use, beside dtypes and storages of one dtype. None makes more than it is given."""
UNUSUAL = re.compile(r"(torch\._utils\._rebuild|torch\._tensor\._rebuild|torch\.nested|torch\.(cuda\.)?sparse)\w*.*")
SLOW_ENCODINGS = {"punycode", "idna"}
"""Encodings whose time grows with the square of a text's length."""


def plain(text: object, most: int = 160) -> str:
    r"""Return a text as it may stand in a message: in one line, shortened, and what cannot be printed escaped.

    Examples
    --------
    >>> plain("conv\n1"), plain("a" * 200, 5)
    ('conv\\n1', 'aaaa…')
    """
    short = (text if isinstance(text, str) else repr(text))[: most + 1]
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in short)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def check_zipped(file: IO[bytes], path: Path) -> None:
    """Raise CheckpointError where the pickle in an archive of ``torch.save`` uses forbidden names or makes too much."""
    record = torch._C.PyTorchFileReader(file).get_record("data.pkl")  # noqa: SLF001 - the reader that torch.load uses
    _check(io.BytesIO(record), path)


def check_legacy(file: IO[bytes], path: Path) -> None:
    """Raise CheckpointError where a pickle in a file of torch's old format uses a forbidden name, or makes too much."""
    for _ in range(LEGACY_PICKLES):
        _check(file, path)


def _check(file: IO[bytes], path: Path) -> None:
    """Check the instructions of one pickle up to its end."""
    claims = _Claims()
    for operation, argument, _ in pickletools.genops(file):
        if operation.name == "GLOBAL":
            _check_name(str(argument).replace(" ", "."), path)
        claims.take(operation, argument)
        if claims.allocates:
            raise CheckpointError(
                f"{path}: wants to run {SIZED} while loading, which takes any memory: save its state_dict()"
            )
        if claims.too_many:
            raise CheckpointError(
                f"{path}: asks for more than {MOST_CALLS} objects, {MOST_STEPS} steps or {MOST_NESTED} nested tuples "
                "while loading: save the plain state_dict() alone"
            )
    if claims.slow_texts:
        raise CheckpointError(f"{path}: turns long texts into bytes while loading: save the plain state_dict() alone")


class _Claims:
    """Counts of what a pickle has made so far, and how deep the tuples on its stack are nested.

    Deep tuples overflow Python's stack when they are hashed; whole numbers beyond 64 bits may share one hash.
    """

    def __init__(self) -> None:
        self.steps = self.calls = self.wide = self.longest = self.deepest = 0
        self.encodes = self.slow = self.allocates = False
        self.stack: list[int] = []
        self.marks: list[int] = []
        self.memo: dict[object, int] = {}

    @property
    def too_many(self) -> bool:
        return self.steps > MOST_STEPS or self.calls > MOST_CALLS or self.wide > MOST_WIDE or self.deepest > MOST_NESTED

    @property
    def slow_texts(self) -> bool:
        return self.encodes and (self.slow or self.calls * self.longest > MOST_ENCODED)

    def take(self, operation: pickletools.OpcodeInfo, argument: object) -> None:
        """Count one instruction."""
        self.steps += 1
        name = operation.name
        if isinstance(argument, str):
            self._text(argument)
            self.encodes = self.encodes or argument == ENCODE.replace(".", " ")
        elif isinstance(argument, int) and argument.bit_length() > 64:
            self.wide += 1
        inner = self._taken(name)
        if name in {"REDUCE", "NEWOBJ"}:
            self.calls += 1
            self.allocates = self.allocates or inner[0] == CALLED_IT_ALLOCATES
        if name == "MARK":
            self.marks.append(len(self.stack))
        elif name in {"BINPUT", "LONG_BINPUT"}:
            self.memo[argument] = self.stack[-1]
        elif name in {"BINGET", "LONG_BINGET"}:
            self.stack.append(self.memo[argument])
        elif name in NESTING:
            self.stack.append(1 + max(0, *inner))
            self.deepest = max(self.deepest, self.stack[-1])
        elif operation.stack_after and name not in FILLING:
            self.stack.append(CALLED_IT_ALLOCATES if argument == SIZED.replace("e.U", "e U") else 0)

    def _taken(self, name: str) -> list[int]:
        """Return what an instruction takes off the stack."""
        start = self.marks.pop() if name in TAKEN_FROM_MARK else len(self.stack) - TAKEN.get(name, 0)
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _text(self, text: str) -> None:
        self.longest = max(self.longest, len(text))
        if len(text) < 40 and re.sub(r"[\W_]", "", text).lower() in SLOW_ENCODINGS:
            self.slow = True


def _check_name(wanted: str, path: Path) -> None:
    kind = wanted.removeprefix("torch.")
    storage = re.fullmatch(r"torch\.([A-Z]\w+)Storage", wanted)
    if wanted in PLAIN or isinstance(getattr(torch, kind, None), torch.dtype):
        return
    if storage is not None and storage[1] not in {"Typed", "Untyped"}:
        return
    if UNUSUAL.fullmatch(wanted):
        raise CheckpointError(
            f"{path}: {plain(wanted)} makes no ordinary dense tensor: save the plain state_dict(), in float32"
        )
    raise CheckpointError(
        f"{path}: wants to run {plain(wanted)} while loading (a pickled module or program), which can do anything on "
        "this machine: save its state_dict() instead, or give trust_pickle=True (--trust-pickle) if you trust who made "
        "it"
    )
