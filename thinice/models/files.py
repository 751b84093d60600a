"""Files: what kind a checkpoint is, told from its bytes, and safe reading of each kind."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from thinice.errors import CheckpointError, InputError, MissingExtraError, WrongFileError
from thinice.files import temporary_folder, writable
from thinice.models.architectures import find_architecture, origin_of
from thinice.models.architectures.rebuild import rebuild
from thinice.models.architectures.user_code import user_code
from thinice.models.classifier import Classifier, as_classifier, own_copy
from thinice.models.normalization import NormalizationLike, Normalized
from thinice.models.pickles import check_legacy, check_zipped, plain
from thinice.models.plain_data import check_nesting, plain_data
from thinice.models.weights import INSIDE, prunable_weights

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from thinice.models.architectures.user_code import ArchitectureLike
    from thinice.models.weights import Masks

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "MASKS",
    "Container",
    "check_savable",
    "detect_format",
    "is_checkpoint",
    "read_safetensors",
    "read_torch",
    "save_classifier",
    "writable_checkpoint",
]

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

EXPORT_SUFFIX = ".pt2"
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


def detect_format(path: Path) -> Container:
    """Return the kind of a checkpoint file, told from its first bytes and, for archives, its table of contents.

    Raises
    ------
    CheckpointError
        No such file, or one that is no checkpoint, saying what it looks like.
    """
    head, size = _head(path)
    if head.startswith(b"PK\x03\x04"):
        return _format_of_archive(path, size)
    if len(head) > 8 and head[8:9] == b"{":
        if int.from_bytes(head[:8], "little") > size - 8:
            raise WrongFileError(f"{path}: is a truncated safetensors file: download or save it again")
        return Container.SAFETENSORS
    if head.startswith(LEGACY_MAGIC):
        return Container.TORCH
    if path.suffix == ".onnx" or ONNX_START.match(head):
        return Container.ONNX
    raise CheckpointError(f"{path}: is not a checkpoint but {_likeness(head)}")


def _head(path: Path) -> tuple[bytes, int]:
    if not path.is_file():
        other = "a folder" if path.is_dir() else "a pipe or a device"
        raise WrongFileError(f"{path}: {f'is {other}, not a file' if path.exists() else 'no such file'}")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise WrongFileError(f"{path}: is empty: download or save it again")
    return head, path.stat().st_size


def _format_of_archive(path: Path, size: int) -> Container:
    if path.suffix == EXPORT_SUFFIX:
        raise _export(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # noqa: BLE001 - what a reader fails on in a stranger's file may be anything
        raise WrongFileError(
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
            raise WrongFileError(f"{path}: is compressed, which torch.save never does: save it again with torch.save")
        if sum(entry.file_size for entry in entries) > size:
            raise WrongFileError(f"{path}: claims more numbers than the file holds: save it again")
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
    """Return what a file of ``torch.save`` holds, on the CPU, as plain data: dense tensors, numbers, texts, containers.

    Without ``trust_pickle`` nothing in the file can run: torch's restricted unpickler builds tensors and plain
    containers, and harmless bookkeeping types have stand-ins (`stand_in`). Sparse tensors become dense, arrays of NumPy
    tensors.

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
    except (ImportError, AttributeError) as error:
        if trust_pickle:
            raise _missing(path, error) from None
        raise _damaged(path, error) from None
    except Exception as error:  # noqa: BLE001 - what a reader fails on in a stranger's file may be anything
        raise _damaged(path, error) from None
    check_nesting(held, path)
    return plain_data(held, path)


def _damaged(path: Path, error: Exception) -> CheckpointError:
    if "Only persistent_load of storage is allowed" in str(error):  # the old format keeps the source of a class there
        return CheckpointError(
            f"{path}: holds a pickled module in torch's old format: save its state_dict() instead, or give "
            "trust_pickle=True (--trust-pickle) if you trust who made it"
        )
    return WrongFileError(f"{path}: is truncated or damaged ({_cause(error)}): download or save it again")


def _missing(path: Path, error: ImportError | AttributeError) -> CheckpointError:
    """Return the refusal of a trusted pickle whose classes are not here, naming them."""
    way_out = "put the folder of that code into PYTHONPATH, or save the state_dict() where the code is"
    text = plain(str(error).partition("\n")[0])
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = plain(error.name.partition(".")[0])
        return CheckpointError(
            f"{path}: needs the module {plain(error.name)}, which is not found here: install {package} if it is a "
            f"package; if it is the author's own code, {way_out}"
        )
    attribute = re.match(r"Can't get attribute '(?P<name>[^']+)' on <module '(?P<module>[^']+)'", str(error))
    if attribute is None:
        attribute = re.match(r"module '(?P<module>[^']+)' has no attribute '(?P<name>[^']+)'", str(error))
    if attribute is not None:
        return CheckpointError(
            f"{path}: needs the class {plain(attribute['name'])} of the module {plain(attribute['module'])}, which is "
            f"not found here: {way_out}, or install the version of the package that the file was saved with"
        )
    return CheckpointError(f"{path}: needs code that cannot be loaded here ({text}): {way_out}")


def _read_safely(file: IO[bytes], path: Path) -> Any:  # noqa: ANN401 - whatever was saved
    legacy = file.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC
    file.seek(0)
    stand_ins = (check_legacy if legacy else check_zipped)(file, path)
    file.seek(0)
    with torch.serialization.safe_globals([(kind, name) for name, kind in stand_ins.items()]):
        return torch.load(file, map_location="cpu", weights_only=True)


def _cause(error: Exception) -> str:
    """Return why a file cannot be read, without torch's advice to let it run code."""
    message = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    return plain(message.partition("\n")[0].partition(". ")[0] or type(error).__name__)


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
        raise WrongFileError(f"{path}: its header of {length} bytes lists no network's weights: save it again")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = list(file.keys())[: MOST_TENSORS + 1]
            tensors, metadata = {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except Exception as error:  # noqa: BLE001 - what a reader fails on in a stranger's file may be anything
        raise WrongFileError(
            f"{path}: is a damaged safetensors file ({_cause(error)}): download or save it again"
        ) from None
    if len(tensors) > MOST_TENSORS:
        raise CheckpointError(f"{path}: holds more than {MOST_TENSORS} tensors: save the network's state_dict()")
    return tensors, metadata


FORMAT = "thinice"
PROGRAMS = (".onnx", ".pt2")
"""Suffixes of files that hold a program, which is not what is written here."""
MASKS = "thinice-mask/"
"""What the names of masks begin with in a safetensors file, where they lie among the weights."""
FORMAT_VERSION = 1


def save_classifier(
    network: nn.Module | Classifier,
    path: str | os.PathLike[str],
    *,
    architecture: ArchitectureLike | None = None,
    architecture_args: Mapping[str, Any] | None = None,
    classes: int | None = None,
    class_names: Sequence[str] | None = None,
    data: str | None = None,
    normalization: NormalizationLike | None = None,
    input_shape: tuple[int, int, int] | None = None,
    recipe: Mapping[str, Any] | None = None,
    parent: str | Classifier | None = None,
    masks: Masks | None = None,
    overwrite: bool = False,
) -> Path:
    """Return the path of the checkpoint written: ``.safetensors``, or for any other suffix torch's own format.

    The file holds plain weights and says architecture, arguments, classes, class names, normalisation, data set,
    sparsity, masks, recipe, parent and fingerprint; `load_classifier` needs nothing else. It is written beside its
    place and renamed, so that a crash leaves either the old file or the new one.

    Parameters
    ----------
    network
        A `Classifier`, or a module that `build` made (also inside `Normalized`, also with torch's pruning masks,
        which are folded in).
    path
        Where to; folders are made, and a checkpoint that is there is replaced.
    architecture, architecture_args
        For a module that `build` did not make: the name of an architecture whose parameters it has, or the user's own
        code, as of `load_classifier`. The file says which code it was, and is loaded with it.
    classes, class_names, data, normalization, input_shape, recipe, parent
        As of `as_classifier`; for a classifier, ``class_names``, ``data``, ``recipe`` and ``parent`` replace its
        own. ``parent`` is the dense network this one came from, or its fingerprint.
    masks
        Which weights pruning kept; where they keep nothing, the weights must be zero.
    overwrite
        Replace a file that is no checkpoint; never a store.

    Raises
    ------
    InputError
        A network without a registered architecture, a recipe that JSON cannot hold, or masks of another network.
    CheckpointError
        Weights that do not fit the architecture.
    MissingExtraError
        ``.safetensors`` without the extra.

    Examples
    --------
    >>> import tempfile
    >>> from thinice.models import build, load_classifier
    >>> path = Path(tempfile.mkdtemp()) / "digits.pt"
    >>> _ = save_classifier(build("digits_cnn", 10), path, data="digits")
    >>> load_classifier(path).data
    'digits'
    """
    path = Path(path)
    ancestor = parent.fingerprint if isinstance(parent, Classifier) else parent
    if isinstance(network, Classifier):
        if any(fact is not None for fact in (architecture, architecture_args, classes, normalization, input_shape)):
            raise InputError(
                "`network` is a classifier: its architecture, classes, normalisation and shape are its own"
            )
        classifier = replace(
            as_classifier(network, one_by_one=False),
            class_names=network.class_names if class_names is None else tuple(class_names),
            data=data or network.data,
            recipe=network.recipe if recipe is None else recipe,
            parent=ancestor or network.parent,
        )
    else:
        code = user_code(architecture, architecture_args)
        if code is None:
            network = _registered(network, cast("str | None", architecture), architecture_args, classes)
        else:
            code.load(_inner(network).state_dict(), "the network", otherwise=classes)
        classifier = as_classifier(
            network,
            classes=classes,
            class_names=class_names,
            data=data,
            normalization=normalization,
            input_shape=input_shape,
            recipe=recipe,
            parent=ancestor,
        )
        if code is not None:
            classifier = replace(classifier, architecture=str(code), arguments=code.identity(classifier.network))
    if masks is not None:
        classifier = replace(classifier, masks=masks)
    kept = _checked_masks(classifier)
    header = _header(classifier)
    weights = {name: value.detach().cpu().contiguous() for name, value in classifier.network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    writable_checkpoint(path, argument="path", overwrite=overwrite)
    with temporary_folder(path.parent) as unfinished:
        temporary = unfinished / path.name
        if path.suffix == ".safetensors":
            named = {f"{MASKS}{name}": mask for name, mask in kept.items()}
            _write_safetensors({**weights, **named}, header, temporary)
        else:
            with temporary.open("wb") as file:  # given a name, torch would write it into the archive
                torch.save(header | {"state_dict": weights} | ({"masks": kept} if kept else {}), file)
        temporary.replace(path)
    return path


def writable_checkpoint(path: Path, *, argument: str, overwrite: bool | None = None) -> Path:
    """Return the path of a checkpoint that may be written, as `thinice.files.writable` does.

    Raises
    ------
    InputError
        The file must not be written, or its suffix is that of a program, which no checkpoint is.
    """
    if path.suffix.lower() in PROGRAMS:
        raise InputError(f"`{argument}` {path} has the name of a program: write a checkpoint, .pt or .safetensors")
    return writable(path, argument=argument, like=is_checkpoint, kind="a checkpoint", overwrite=overwrite)


def is_checkpoint(head: bytes) -> bool:
    """Whether a file begins like an archive of torch, or like safetensors: a length, then JSON."""
    return (head.startswith(b"PK\x03\x04") and b"/data.pkl" in head) or head[8:10] == b'{"'


def _write_safetensors(weights: Mapping[str, Tensor], header: Mapping[str, Any], path: Path) -> None:
    try:
        from safetensors.torch import save_file  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError("writing .safetensors", "safetensors") from None
    save_file(dict(weights), path, metadata={FORMAT: json.dumps(header, sort_keys=True)})


def _inner(network: nn.Module) -> nn.Module:
    """Return a copy of what a network computes behind its normalisation, with masks folded in."""
    return own_copy(network.network if isinstance(network, Normalized) else network)


def _registered(
    network: nn.Module, architecture: str | None, arguments: Mapping[str, Any] | None, classes: int | None
) -> nn.Module:
    """Return the network as `build` makes it, with the same weights, still normalised where it was."""
    inner = _inner(network)
    origin = origin_of(inner)
    if architecture is None and origin is None:
        raise InputError(
            f"`architecture` is missing: {type(inner).__name__} was not made by thinice.models.build, so name the "
            "registered architecture that it has the parameters of, or your own code as models.py:CLASS"
        )
    if architecture is not None and origin is not None and origin.architecture != architecture:
        raise InputError(f"`architecture` is {architecture!r}, but the network was built as {origin.architecture!r}")
    if origin is None and architecture is not None:
        number = classes or as_classifier(inner).classes or 0
        inner = rebuild(architecture, number, arguments or {}, inner.state_dict(), "the network")
    if isinstance(network, Normalized):
        mean, std = network.normalization
        return Normalized(inner, mean=mean, std=std)
    return inner


def _checked_masks(classifier: Classifier) -> dict[str, Tensor]:
    """Return the masks as the file holds them, after a look whether they are those of the weights."""
    masks = classifier.masks
    if masks is None:
        return {}
    if not masks.hold(classifier.network):
        raise InputError("`masks` do not hold: weights that they drop are not zero: call masks.apply_(network) first")
    wrapped = prunable_weights(classifier.module).keys() - prunable_weights(classifier.network).keys()
    return {
        (name.removeprefix(INSIDE) if name in wrapped else name): mask.cpu().contiguous()
        for name, mask in masks.kept.items()
    }


def check_savable(classifier: Classifier) -> None:
    """Raise InputError where no file can say how to build the network of a classifier again."""
    try:
        if "class" not in classifier.arguments:  # of the user's code
            find_architecture(classifier.architecture)
    except InputError:
        raise InputError(
            f"`network` {classifier.name!r} is a {classifier.architecture}, which no registry can build again: load it "
            "with architecture=, or give its module and `architecture`, your own code as models.py:CLASS"
        ) from None


def _header(classifier: Classifier) -> dict[str, Any]:
    check_savable(classifier)
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "architecture": classifier.architecture,
        "arguments": dict(classifier.arguments),
        "classes": classifier.classes,
        "class_names": None if classifier.class_names is None else list(classifier.class_names),
        "input_shape": None if classifier.input_shape is None else list(classifier.input_shape),
        "normalization": _normalization_entry(classifier),
        "data": classifier.data,
        "sparsity": classifier.sparsity,
        "recipe": None if classifier.recipe is None else dict(classifier.recipe),
        "parent": classifier.parent,
        "fingerprint": classifier.fingerprint,
    }
    try:
        return dict(json.loads(json.dumps(header, allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise InputError(f"`recipe` and `arguments` must be plain numbers, texts, lists and dicts: {error}") from None


def _normalization_entry(classifier: Classifier) -> dict[str, list[float]] | str | None:
    if not classifier.normalization_known:
        return None
    if classifier.normalization is None:
        return "none"
    mean, std = classifier.normalization
    return {"mean": list(mean), "std": list(std)}
