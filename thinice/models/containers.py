"""Files: what kind a checkpoint is, told from its bytes, and safe reading of each kind."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from thinice.errors import CheckpointError, MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Container", "Unread", "read_safetensors", "read_torch", "sniff"]

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

EXPORT_SUFFIX = ".pt2"

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


class Unread:
    """Stands for harmless bookkeeping objects of other programs (options, scores); their content is not read."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# Names of plain bookkeeping types that research checkpoints carry beside the weights. Each becomes an `Unread`:
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


def sniff(path: Path) -> Container:
    """Return the kind of a checkpoint file, told from its first bytes and, for archives, its table of contents.

    Raises
    ------
    CheckpointError
        No such file, or one that is no checkpoint, saying what it looks like.
    """
    head, size = _head(path)
    if head.startswith(b"PK\x03\x04"):
        return _sniff_archive(path)
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


def _sniff_archive(path: Path) -> Container:
    if path.suffix == EXPORT_SUFFIX:
        raise _export(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: is a truncated or damaged archive ({error}): download or save it again"
        ) from None
    models = any(name.startswith("models/") and name.endswith(".json") for name in names)
    if models or "archive_format" in names or "serialized_exported_program.json" in names:
        raise _export(path)
    if any(name.startswith("code/") for name in names) or "constants.pkl" in names:
        raise CheckpointError(
            f"{path}: is a TorchScript program, which torch has deprecated: save its weights with "
            "torch.save(torch.jit.load(path).state_dict(), …), or export the network to ONNX"
        )
    if "data.pkl" in names:
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
        A damaged file, or one that wants to run code, naming what it asks for.
    """
    try:
        if trust_pickle:
            return torch.load(path, map_location="cpu", weights_only=False)
        with torch.serialization.safe_globals([(Unread, name) for name in BOOKKEEPING]):
            held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path, str(error))) from None
    except (RuntimeError, EOFError, LookupError, AttributeError, ImportError, OSError, TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0][:160] or type(error).__name__
        raise CheckpointError(f"{path}: is truncated or damaged ({reason}): download or save it again") from None
    _check_tensors(held, path)
    return held


def _check_tensors(held: object, path: Path) -> None:
    """Refuse tensors that are larger than the file (views that repeat what is stored), and nests without an end."""
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [("", held)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, Tensor):
            if value.layout is not torch.strided or value.is_meta or value.is_quantized:
                raise CheckpointError(f"{path}: {key} is no ordinary dense tensor: save the plain state_dict()")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                shape = tuple(value.shape)
                raise CheckpointError(f"{path}: {key} {shape} claims more numbers than the file holds: save it anew")
        elif isinstance(value, Mapping | list | tuple):
            if id(value) in seen:
                if any(value is inner for inner in (value.values() if isinstance(value, Mapping) else value)):
                    raise CheckpointError(f"{path}: {key} contains itself: save the plain state_dict()")
                continue
            seen.add(id(value))
            pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
            waiting += [(f"{key}.{name}".lstrip("."), inner) for name, inner in pairs]


def _refusal(path: Path, reason: str) -> str:
    wanted = re.search(r"GLOBAL ([\w.]+)", reason) or re.search(r"(?:class|function|type) ([\w.]+)", reason)
    if wanted is None:
        return f"{path}: cannot be read safely ({reason.partition(chr(10))[0]}): download or save it again"
    return (
        f"{path}: wants to run {wanted[1]} while loading (a pickled module or program), which can do anything on this "
        "machine: save its state_dict() instead, or give trust_pickle=True (--trust-pickle) if you trust who made it"
    )


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
        from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError("reading safetensors", "safetensors") from None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is a damaged safetensors file ({error}): download or save it again") from None
