"""Files: what kind a checkpoint is, told from its bytes, and safe reading of each kind."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Any

import torch
from torch import Tensor

from thinice.errors import CheckpointError, MissingExtraError
from thinice.models.pickles import BOOKKEEPING, Unread, check_legacy, check_zipped, plain

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Container", "read_safetensors", "read_torch", "sniff"]

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

EXPORT_SUFFIX = ".pt2"
MOST_DEPTH = 50
"""Containers in one another: a state dict lies three or four deep."""
MOST_TENSORS = 10_000
"""In a state dict: the largest of torchvision have 1 500."""
MOST_HEADER = 2**24
"""Bytes of a safetensors header: 10 000 tensors take two million."""

ONNX_START = re.compile(rb"\x08[\x01-\x1f][\x12\x1a\x22\x2a\x3a]")
"""Protocol buffers have no magic number; these are the version and the next field of an ONNX model."""

LIKENESSES: tuple[tuple[tuple[bytes, ...], str], ...] = (
    ((b"<!doctype", b"<html", b"<?xml"), "an HTML page: the download gave a web page, get the file itself"),
    ((b"version https://git-lfs",), "a git LFS pointer: fetch the file itself with git lfs pull"),
    ((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf"), "a compressed archive: unpack it first"),
    ((b"\x89HDF",), "an HDF5 file: convert the weights to ONNX or torch first"),
    (
        tuple(b"\x80" + bytes([protocol]) for protocol in range(6)),
        "a bare pickle, which may run code: save the weights with torch.save or as safetensors",
    ),
)


class Container(StrEnum):
    """The kinds of files that can be loaded."""

    TORCH = "torch"
    SAFETENSORS = "safetensors"
    ONNX = "onnx"


def sniff(path: Path) -> Container:
    """Return the kind of a checkpoint file, told from its first bytes and, for archives, its table of contents.

    Raises
    ------
    CheckpointError
        No such file, or one that is no checkpoint, saying what it looks like.
    """
    head, size = _head(path)
    if head.startswith(b"PK\x03\x04"):
        return _sniff_archive(path, size)
    if len(head) > 8 and head[8:9] == b"{":
        if int.from_bytes(head[:8], "little") > size - 8:
            raise CheckpointError(f"{path}: is a truncated safetensors file: download or save it again")
        return Container.SAFETENSORS
    if head.startswith(LEGACY_MAGIC):
        return Container.TORCH
    if path.suffix == ".onnx" or ONNX_START.match(head):
        return Container.ONNX
    raise CheckpointError(f"{path}: is not a checkpoint but {_likeness(head)}")


def _head(path: Path) -> tuple[bytes, int]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file" if not path.exists() else f"{path}: is a folder, not a file")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise CheckpointError(f"{path}: is empty: download or save it again")
    return head, path.stat().st_size


def _sniff_archive(path: Path, size: int) -> Container:
    if path.suffix == EXPORT_SUFFIX:
        raise _export(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # noqa: BLE001 - what a reader stumbles over in a stranger's file may be anything
        raise CheckpointError(
            f"{path}: is a truncated or damaged archive ({_cause(error)}): download or save it again"
        ) from None
    names = [entry.filename.partition("/")[2] or entry.filename for entry in entries]
    models = any(name.startswith("models/") and name.endswith(".json") for name in names)
    if models or "archive_format" in names or "serialized_exported_program.json" in names:
        raise _export(path)
    if any(name.startswith("code/") for name in names) or "constants.pkl" in names:
        raise CheckpointError(
            f"{path}: is a TorchScript program, which torch has deprecated: save its weights with "
            "torch.save(torch.jit.load(path).state_dict(), …), or export the network to ONNX"
        )
    if "data.pkl" in names:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise CheckpointError(f"{path}: is compressed, which torch.save never does: save it again with torch.save")
        if sum(entry.file_size for entry in entries) > size:
            raise CheckpointError(f"{path}: claims more numbers than the file holds: save it again")
        return Container.TORCH
    raise CheckpointError(f"{path}: is a zip archive but not a checkpoint (no data.pkl in it): unpack it first")


def _export(path: Path) -> CheckpointError:
    """Return the refusal of a program of ``torch.export``: its operators take any argument, also one out of bounds."""
    return CheckpointError(
        f"{path}: is a torch.export program (.pt2), which is not read: loading one can run code and corrupt memory: "
        "export the network to ONNX, or save its state_dict() and load that with the architecture's own code "
        "(--architecture, or thinice.as_classifier(module) in Python)"
    )


def _likeness(head: bytes) -> str:
    start = head.lstrip().lower()
    for beginnings, what in LIKENESSES:
        if start.startswith(beginnings) or head.startswith(beginnings):
            return what
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return f"text beginning {head[:40].decode(errors='replace').strip()!r}"
    return f"unknown bytes beginning {head[:8].hex(' ')}"


def read_torch(path: Path, *, trust_pickle: bool = False) -> Any:  # noqa: ANN401 - whatever was saved
    """Return what a file of ``torch.save`` holds, on the CPU.

    Without ``trust_pickle`` nothing in the file can run: torch's restricted unpickler builds tensors and plain
    containers, and a short list of bookkeeping types becomes `Unread`.

    Raises
    ------
    CheckpointError
        A damaged file, one that wants to run code, naming what it asks for, or one that asks for too much.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about its formats
            if trust_pickle:
                held = torch.load(file, map_location="cpu", weights_only=False)
            else:
                held = _read_safely(file, path)
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - what a reader stumbles over in a stranger's file may be anything
        raise CheckpointError(f"{path}: is truncated or damaged ({_cause(error)}): download or save it again") from None
    _check_nest("", held, path, (), {})
    return held


def _read_safely(file: IO[bytes], path: Path) -> Any:  # noqa: ANN401 - whatever was saved
    if file.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC:
        file.seek(0)
        check_legacy(file, path)
    else:
        file.seek(0)
        check_zipped(file, path)
    file.seek(0)
    with torch.serialization.safe_globals([(Unread, name) for name in BOOKKEEPING]):
        return torch.load(file, map_location="cpu", weights_only=True)


def _cause(error: Exception) -> str:
    """Return why a file cannot be read, without torch's advice to let it run code."""
    said = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    return plain(said.partition("\n")[0].partition(". ")[0] or type(error).__name__)


def _check_nest(key: object, held: object, path: Path, above: tuple[int, ...], heights: dict[int, int]) -> int:
    """Return how many containers deep something is.

    Refused are tensors that are larger than the file (views that repeat what is stored), nests without an end or too
    deep to be one, and things whose own attributes hide what they can do.
    """
    if isinstance(held, Tensor | Mapping) and any(
        not isinstance(name, str) or hasattr(type(held), name) for name in getattr(held, "__dict__", ())
    ):
        raise CheckpointError(f"{path}: {plain(key)} hides what it can do: save the plain state_dict()")
    if isinstance(held, Tensor):
        _check_tensor(key, held, path)
    elif isinstance(held, Mapping | list | tuple):
        if id(held) in above:
            raise CheckpointError(f"{path}: {plain(key)} contains itself: save the plain state_dict()")
        if id(held) not in heights and len(above) < MOST_DEPTH:
            inner = (*above, id(held))
            pairs = held.items() if isinstance(held, Mapping) else enumerate(held)
            heights[id(held)] = 1 + max(
                (_check_nest(name, value, path, inner, heights) for name, value in pairs), default=0
            )
        height = heights.get(id(held), 1)
        if len(above) + height > MOST_DEPTH:
            raise CheckpointError(f"{path}: is nested more than {MOST_DEPTH} deep: save the plain state_dict()")
        return height
    return 0


def _check_tensor(key: object, value: Tensor, path: Path) -> None:
    if value.layout is not torch.strided or value.is_meta or value.is_quantized or value.is_nested:
        raise CheckpointError(f"{path}: {plain(key)} is no ordinary dense tensor: save the plain state_dict()")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        shape = tuple(value.shape)
        raise CheckpointError(f"{path}: {plain(key)} {shape} claims more numbers than the file holds: save it anew")


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file.

    Raises
    ------
    MissingExtraError
        safetensors is not installed.
    CheckpointError
        A damaged file.
    """
    try:
        from safetensors import safe_open  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError("reading safetensors", "safetensors") from None
    with path.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
    if length > MOST_HEADER:
        raise CheckpointError(f"{path}: its header of {length} bytes lists no network's weights: save it again")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = list(file.keys())[: MOST_TENSORS + 1]
            tensors, metadata = {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except Exception as error:  # noqa: BLE001 - what a reader stumbles over in a stranger's file may be anything
        raise CheckpointError(
            f"{path}: is a damaged safetensors file ({_cause(error)}): download or save it again"
        ) from None
    if len(tensors) > MOST_TENSORS:
        raise CheckpointError(f"{path}: holds more than {MOST_TENSORS} tensors: save the network's state_dict()")
    return tensors, metadata
