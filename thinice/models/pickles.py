"""Checks of a pickle's instructions before any of them is carried out: which names it uses, and how much it makes.

torch's restricted reader runs no code, but it builds any number of objects of any size that a file describes.
"""

from __future__ import annotations

import io
import pickletools
import re
import sys
from typing import IO, TYPE_CHECKING, NamedTuple

import torch
from torch._utils import IMPORT_MAPPING, NAME_MAPPING

from thinice.errors import CheckpointError
from thinice.models.bookkeeping import Keyed, Listed, Record, stand_in

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["check_legacy", "check_zipped", "plain"]

MOST_STEPS = 2_000_000
"""Instructions in one pickle: a network of 10 000 tensors with its optimizer has half a million."""
MOST_CALLS = 100_000
"""Objects made by calls: two a tensor."""
MOST_ENCODED = 2**30
"""Bytes made from texts, all together."""
MOST_WIDE = 1_000
"""Whole numbers of more than 64 bits: a random generator has a few."""
MOST_NESTED = 50
"""Tuples in one another."""
MOST_TYPES = 100
"""Types of bookkeeping in one pickle, which torch's reader looks through at each call."""
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


ENCODE = "_codecs.encode"
SIZED = "torch.storage.UntypedStorage"
"""A pickle may name it, as the type of what is stored, but not call it."""
PLAIN = {
    ENCODE,
    SIZED,
    "collections.OrderedDict",
    "collections.Counter",
    "builtins.complex",
    "builtins.set",
    "torch.Size",
    "torch.device",
    "torch.nn.parameter.Parameter",
    *(f"torch._utils.{name}" for name in ("_rebuild_parameter", "_rebuild_parameter_with_state")),
    *(f"torch._utils.{name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")),
    "torch._utils._rebuild_sparse_tensor",
    "torch.serialization._get_layout",
}
"""The names a pickle may use, beside dtypes, storages and those with a stand-in. None makes more than it is given."""
QUANTISED = re.compile(
    r"torch\._utils\._rebuild_qtensor|torch\.(per_tensor|per_channel)_\w+|torch\.(ao\.|nn\.)(\w+\.)*quanti\w*\..*"
    r"|(torchao|bitsandbytes|quanto|optimum\.quanto|hqq|auto_gptq|awq|brevitas)\..*"
)
"""The names of quantised tensors and modules: of torch, and of the packages for it."""
UNUSUAL = re.compile(r"(torch\._utils\._rebuild|torch\._tensor\._rebuild|torch\.nested|torch\.(cuda\.)?sparse)\w*.*")
KNOWN_PACKAGES = sys.stdlib_module_names - {"__main__"} | {"torch", "numpy", "torchvision", "torchaudio"}
"""The packages of which only `stand_in` and `PLAIN` are allowed; a checkpoint's own code is none of them."""
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


StandIns = dict[str, type]
"""The full names that a pickle uses, and what stands for each."""


def check_zipped(file: IO[bytes], path: Path) -> StandIns:
    """Return the stand-ins that the pickle in an archive of ``torch.save`` needs.

    Raises
    ------
    CheckpointError
        It uses forbidden names, or makes too much.
    """
    record = torch._C.PyTorchFileReader(file).get_record("data.pkl")  # noqa: SLF001 - the reader that torch.load uses
    return _check(io.BytesIO(record), path)


def check_legacy(file: IO[bytes], path: Path) -> StandIns:
    """Return the stand-ins that the pickles in a file of torch's old format need; raise as `check_zipped`."""
    needed: StandIns = {}
    for _ in range(LEGACY_PICKLES):
        needed |= _check(file, path)
    return needed


def _check(file: IO[bytes], path: Path) -> StandIns:
    """Check the instructions of one pickle up to its end."""
    claims = _Claims()
    needed: StandIns = {}
    for operation, argument, _ in pickletools.genops(file):
        if operation.name == "GLOBAL":
            name = _full_name(str(argument))
            kind = stand_in(name) or (Record if _is_foreign(name) else None)
            if kind is None:
                _check_name(name, path)
            else:
                needed[name] = kind
            if len(needed) > MOST_TYPES:
                raise CheckpointError(f"{path}: names more than {MOST_TYPES} types: save the plain state_dict() alone")
        claims.take(operation, argument)
        claims.refuse(path)
    for name, kind in needed.items():
        if name in claims.functions and _is_foreign(name):
            _check_name(name, path)
        if kind is Record and name in claims.keyed | claims.listed:
            needed[name] = Keyed if name in claims.keyed else Listed
    return needed


def _is_foreign(name: str) -> bool:
    """Return whether a name is of somebody's own code or package: its objects are data, where nothing is called."""
    package = name.partition(".")[0]
    return package not in KNOWN_PACKAGES and not QUANTISED.fullmatch(name)


def _full_name(argument: str) -> str:
    """Return a name as torch's reader understands it: files are written with the names of Python 2."""
    module, _, name = argument.partition(" ")
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[module, name]
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"


class _Made(NamedTuple):
    """What lies on the stack: how deep its tuples are nested, its longest text, its full name, or that of its type."""

    depth: int = 0
    letters: int = 0
    called: str = ""
    kind: str = ""


NOTHING = _Made()


class _Claims:
    """Counts of what a pickle has made so far, and how deep the tuples on its stack are nested.

    Deep tuples overflow Python's stack when they are hashed; whole numbers beyond 64 bits may share one hash.
    """

    def __init__(self) -> None:
        self.steps = self.calls = self.wide = self.deepest = self.encoded = 0
        self.slow = self.allocates = False
        self.functions: set[str] = set()
        self.keyed: set[str] = set()
        self.listed: set[str] = set()
        self.stack: list[_Made] = []
        self.marks: list[int] = []
        self.memo: dict[object, _Made] = {}

    def refuse(self, path: Path) -> None:
        """Raise CheckpointError where the pickle asks for too much."""
        if self.allocates:
            raise CheckpointError(
                f"{path}: wants to run {SIZED} while loading, which takes any memory: save its state_dict()"
            )
        if self.steps > MOST_STEPS or self.calls > MOST_CALLS or self.wide > MOST_WIDE or self.deepest > MOST_NESTED:
            raise CheckpointError(
                f"{path}: asks for more than {MOST_CALLS} objects, {MOST_STEPS} steps or {MOST_NESTED} nested tuples "
                "while loading: save the plain state_dict() alone"
            )
        if self.encoded > 0 and (self.slow or self.encoded > MOST_ENCODED):
            raise CheckpointError(
                f"{path}: turns long texts into bytes while loading: save the plain state_dict() alone"
            )

    def take(self, operation: pickletools.OpcodeInfo, argument: object) -> None:
        """Count one instruction."""
        self.steps += 1
        name = operation.name
        if isinstance(argument, str):
            self._text(argument)
        elif isinstance(argument, int) and argument.bit_length() > 64:
            self.wide += 1
        inner = self._taken(name)
        if name in {"REDUCE", "NEWOBJ"}:
            self._call(name, *inner)
        elif name in FILLING:
            self._fill(name)
        if name == "MARK":
            self.marks.append(len(self.stack))
        else:
            self._put(operation, argument, inner)

    def _fill(self, name: str) -> None:
        """Note of which type it is that gets entries, or a list of them."""
        if name in {"SETITEM", "SETITEMS"}:
            self.keyed.add(self.stack[-1].kind)
        elif name in {"APPEND", "APPENDS"}:
            self.listed.add(self.stack[-1].kind)

    def _call(self, name: str, function: _Made, arguments: _Made) -> None:
        self.calls += 1
        if name == "REDUCE":
            self.functions.add(function.called)
        self.allocates = self.allocates or function.called == SIZED
        if function.called == ENCODE:
            self.encoded += 1 + arguments.letters

    def _put(self, operation: pickletools.OpcodeInfo, argument: object, inner: list[_Made]) -> None:
        """Note what an instruction leaves on the stack."""
        name = operation.name
        if name in {"BINPUT", "LONG_BINPUT"}:
            self.memo[argument] = self.stack[-1]
        elif name in {"BINGET", "LONG_BINGET"}:
            self.stack.append(self.memo[argument])
        elif name in NESTING:
            depth = 1 + max((made.depth for made in inner), default=0)
            kind = inner[0].called if name in {"REDUCE", "NEWOBJ"} else ""
            self.stack.append(_Made(depth, max((made.letters for made in inner), default=0), kind=kind))
            self.deepest = max(self.deepest, depth)
        elif name == "GLOBAL":
            self.stack.append(_Made(called=_full_name(str(argument))))
        elif operation.stack_after and name not in FILLING:
            self.stack.append(_Made(letters=len(argument)) if isinstance(argument, str) else NOTHING)

    def _taken(self, name: str) -> list[_Made]:
        """Return what an instruction takes off the stack."""
        if name not in TAKEN and name not in TAKEN_FROM_MARK:
            return []
        start = self.marks.pop() if name in TAKEN_FROM_MARK else len(self.stack) - TAKEN.get(name, 0)
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _text(self, text: str) -> None:
        if len(text) < 40 and re.sub(r"[\W_]", "", text).lower() in SLOW_ENCODINGS:
            self.slow = True


def _check_name(wanted: str, path: Path) -> None:
    kind = wanted.removeprefix("torch.")
    storage = re.fullmatch(r"torch\.([A-Z]\w+)Storage", wanted)
    if QUANTISED.fullmatch(wanted) or (storage is not None and re.fullmatch(r"Q\w+", storage[1])):
        raise CheckpointError(
            f"{path}: is quantised ({plain(wanted)}), which has no gradients to follow: save the state_dict() of the "
            "network in float32, before it is quantised"
        )
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
