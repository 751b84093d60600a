"""Checkpoint files in: whatever the file is, a `Classifier` comes out, or an error that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from thinice.errors import CheckpointError, InputError
from thinice.files import expanded
from thinice.models.architectures import Identity, fit, identify
from thinice.models.classifier import Classifier, as_classifier, assemble, fingerprint_of, usual_shape
from thinice.models.files import FORMAT, FORMAT_VERSION, Container, detect_format, read_safetensors, read_torch, rebuild
from thinice.models.normalization import Normalization, NormalizationLike, normalization_text, parse_normalization
from thinice.models.onnx_models import MOST_NUMBERS
from thinice.models.pickles import plain
from thinice.models.research_formats import NESTS, Found, find_weights, plain_weights

if TYPE_CHECKING:
    import os

__all__ = ["load_classifier", "unused_density"]

COMPUTABLE = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
SUFFIXES = (".pt", ".pth", ".tar", ".th", ".t7", ".ckpt", ".bin", ".safetensors", ".onnx")


def load_classifier(
    path: str | os.PathLike[str],
    *,
    architecture: str | None = None,
    normalization: NormalizationLike | None = None,
    classes: int | None = None,
    name: str | None = None,
    density: float | None = None,
    trust_pickle: bool = False,
    arguments: Mapping[str, Any] | None = None,
) -> Classifier:
    """Return the classifier that a checkpoint file holds.

    Read are thinice's own files; state dicts in torch's and the safetensors format, nested, prefixed, with masks,
    scores or parametrisations, as the programs of the pruning literature leave them; ONNX programs.
    Nothing in a file can run. `Classifier.notes` says what was found out and converted.

    Parameters
    ----------
    path
        The file. Its kind is told from its content, not from its suffix.
    architecture, arguments
        A name of `known_architectures` or ``torchvision:NAME``, with further keywords of its builder, where the file
        does not say it and the parameter names and shapes do not tell.
    normalization
        What `parse_normalization` takes, where the file does not say it. Without either, pixels go in as they are
        and ``normalization_known`` is false: `infer_normalization` compares hypotheses on labelled samples.
    classes
        The number of classes that the network must have.
    name
        What tables call it; else the file's name without suffixes.
    density
        The fraction of weights that pruning scores keep (HYDRA, RST; for HARP the global one): 0.1 at 90 % sparsity.
        A file without scores does not use it, and its notes say so.
    trust_pickle
        Unpickle the whole file, which lets it do anything on this machine; only for files whose maker you trust.

    Raises
    ------
    CheckpointError
        Not a checkpoint, damaged, wants to run code, does not fit, or holds NaN.
    InputError
        An argument that contradicts the file, or cannot be used.
    MissingExtraError
        A format whose extra is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from thinice.models import build
    >>> path = Path(tempfile.mkdtemp()) / "net.pth"
    >>> torch.save({"state_dict": build("resnet20").state_dict()}, path)
    >>> classifier = load_classifier(path, normalization="imagenet")
    >>> classifier.architecture, classifier.classes
    ('resnet20', 10)
    """
    path = expanded(path)
    if density is not None and not 0 < density <= 1:
        raise InputError(f"`density` must be the fraction of weights kept, above 0 and at most 1, got {density}")
    inside = parse_normalization(normalization)
    name = name or _stem(path)
    if not _in_utf8(name):
        raise InputError(
            f"`name` {plain(name)} is not UTF-8 and cannot be stored: give another `name`, or rename the file"
        )
    said = _Said(path, name, architecture, arguments, classes, inside, normalization is not None)
    found = _load(path, said, density=density, trust_pickle=trust_pickle)
    if density is not None and not any("density of" in note for note in found.notes):
        return replace(found, notes=(*found.notes, unused_density(density)))
    return found


def unused_density(density: float) -> str:
    """Return the note of a file that has no pruning scores, where `density` was given."""
    return f"density={density:g} was not used: the file holds no pruning scores"


def _load(path: Path, said: _Said, *, density: float | None, trust_pickle: bool) -> Classifier:
    container = detect_format(path)
    if container is Container.ONNX:
        return _from_program(said)
    header: Mapping[str, Any] | None = None
    held: Any
    if container is Container.SAFETENSORS:
        held, metadata = read_safetensors(path)
        if FORMAT in metadata:
            header = {**_json(path, metadata[FORMAT]), "state_dict": held}
    else:
        held = read_torch(path, trust_pickle=trust_pickle)
        if isinstance(held, Mapping) and held.get("format") == FORMAT:
            header = held
    if header is not None:
        return _from_own(header, said)
    module = _whole_module(held)
    if module is not None:
        return _from_module(module, said)
    return _from_foreign(find_weights(held, str(path), density=density), said)


@dataclass(frozen=True, slots=True)
class _Said:
    """What the caller said of a file."""

    path: Path
    name: str
    architecture: str | None
    arguments: Mapping[str, Any] | None
    classes: int | None
    normalization: Normalization | None
    normalization_said: bool

    def agree(self, what: str, said: object, found: object) -> None:
        """Refuse what contradicts the file."""
        if said is not None and said != found:
            raise InputError(f"`{what}` is {said}, but {self.path} says {found}: leave the argument out")

    def whole(self, what: str) -> None:
        """Refuse an architecture for a file that brings its own."""
        if self.architecture is not None or self.arguments:
            raise InputError(f"`architecture` is not needed: {self.path} is {what}, leave the argument out")


def _in_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _stem(path: Path) -> str:
    stem = path.name
    while (suffix := Path(stem).suffix) in SUFFIXES and stem != suffix:
        stem = stem.removesuffix(suffix)
    return stem


def _json(path: Path, text: str) -> Mapping[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: its thinice header is damaged: save it again")
    return header


def _from_own(header: Mapping[str, Any], said: _Said) -> Classifier:
    where = str(said.path)
    version = header.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"{where}: has format version {plain(version)}, newer than {FORMAT_VERSION}: update thinice"
        )
    try:
        facts = {name: value for name, value in header.items() if name != "state_dict"}
        json.dumps(facts, allow_nan=False, ensure_ascii=False).encode()  # what is plain and in UTF-8 can be stored
        recipe, parent = _kind(header, "recipe", Mapping), _kind(header, "parent", str)
        architecture, classes = str(header["architecture"]), int(header["classes"])
        arguments = dict(header["arguments"])
        entry = header["normalization"]
        inside = parse_normalization((entry["mean"], entry["std"])) if isinstance(entry, Mapping) else None
        class_names = None if header["class_names"] is None else tuple(map(str, header["class_names"]))
        shape = None if header["input_shape"] is None else _image_shape(header["input_shape"])
        data = None if header["data"] is None else str(header["data"])
        tensors = {str(name): value for name, value in header["state_dict"].items()}
        _check_finite(tensors, where)
        network = rebuild(architecture, classes, arguments, tensors, where)
        unchanged = header["fingerprint"] == fingerprint_of(architecture, arguments, network.state_dict(), inside)
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - a stranger's header may hold anything
        reason = plain(f"{type(error).__name__}: {error}".partition("\n")[0])
        raise CheckpointError(f"{where}: its thinice header is damaged ({reason}): save it again") from None
    if not unchanged:
        raise CheckpointError(f"{where}: its weights are not those it was saved with: save it again")
    said.agree("architecture", said.architecture, architecture)
    said.agree("classes", said.classes, classes)
    if entry is not None and said.normalization_said and said.normalization != inside:
        said.agree("normalization", normalization_text(said.normalization), normalization_text(inside))
    return assemble(
        network,
        name=said.name,
        architecture=architecture,
        arguments=arguments,
        classes=classes,
        class_names=class_names,
        data=data,
        normalization=inside if entry is not None else said.normalization,
        normalization_known=entry is not None or said.normalization_said,
        input_shape=shape,
        recipe=recipe,
        parent=parent,
        path=said.path,
        notes=() if entry is not None else _normalization_note(said),
    )


def _kind(header: Mapping[str, Any], name: str, kind: type) -> Any:  # noqa: ANN401 - of that kind, or None
    value = header.get(name)
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} is a {type(value).__name__}")
    return value


def _image_shape(sizes: Any) -> tuple[int, int, int]:  # noqa: ANN401 - whatever a header says
    channels, height, width = map(int, sizes)
    if min(channels, height, width) < 1 or channels * height * width > MOST_NUMBERS:
        raise ValueError(f"input_shape {(channels, height, width)} is of no image")
    return channels, height, width


def _normalization_note(said: _Said) -> tuple[str, ...]:
    if said.normalization_said:
        return ()
    return ("normalisation is not known; pixels go in as they are (normalization=, --normalization)",)


def _from_foreign(found: Found, said: _Said) -> Classifier:
    where = str(said.path)
    _note_types(found)
    found.weights = {name: _readable(value, name, where) for name, value in found.weights.items()}
    _convert(found)
    _check_finite(found.weights, where)
    _check_numbers(found)
    if said.architecture is None:
        identity = identify(found.weights, where)
        found.note(
            f"architecture identified as {identity.architecture} with {identity.classes} classes from parameter names "
            "and shapes"
        )
    else:
        identity = fit(found.weights, said.architecture, said.classes)
    if said.arguments is not None:
        identity = Identity(identity.architecture, identity.classes, dict(said.arguments))
    network = rebuild(identity.architecture, identity.classes, identity.arguments, found.weights, where)
    _check_classes(said, identity.classes)
    normalization = found.normalization
    if normalization is None:
        normalization = said.normalization
    elif said.normalization_said and said.normalization != normalization:
        said.agree("normalization", normalization_text(said.normalization), normalization_text(normalization))
    known = found.normalization is not None or said.normalization_said
    return assemble(
        network,
        name=said.name,
        architecture=identity.architecture,
        arguments=identity.arguments,
        classes=identity.classes,
        normalization=normalization,
        normalization_known=known,
        input_shape=usual_shape(identity.architecture, identity.arguments),
        path=said.path,
        notes=(*found.notes, *(() if known else _normalization_note(said))),
    )


def _convert(found: Found) -> None:
    try:
        plain_weights(found)
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - shapes and types of a stranger's masks and scores may be anything
        raise found.fail(
            f"its masks or scores do not fit its weights ({plain(str(error).partition(chr(10))[0])}): save the masked "
            "weights instead"
        ) from None


def _check_classes(said: _Said, classes: int | None) -> None:
    if said.classes is not None and classes is not None and said.classes != classes:
        raise CheckpointError(
            f"{said.path}: answers {classes} classes, not {said.classes}: take the checkpoint of that task"
        )


def _check_finite(weights: Mapping[str, Any], where: str) -> None:
    """Refuse what is no tensor, or not finite in float32, in which networks compute here."""
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise CheckpointError(f"{where}: {plain(name)} is a {kind}, not a tensor: save the state_dict()")
        if value.is_quantized:
            raise CheckpointError(f"{where}: {plain(name)} is quantised: save the network in float32")
        if not value.is_floating_point():
            continue
        if count := int((~torch.isfinite(_readable(value, name, where))).sum()):
            raise CheckpointError(
                f"{where}: {plain(name)} has {count} values that are NaN or infinite: take another checkpoint"
            )
        if count := int((~torch.isfinite(value.to(torch.float32))).sum()):
            raise CheckpointError(
                f"{where}: {plain(name)} has {count} values beyond the range of float32: take another checkpoint"
            )


def _readable(value: Tensor, name: str, where: str) -> Tensor:
    """Return a tensor of a type that can be computed with: as it is, or in float32, which holds all of eight bits."""
    if not value.is_floating_point() or value.dtype in COMPUTABLE:
        return value
    try:
        return value.to(torch.float32)
    except (RuntimeError, NotImplementedError):
        kind = str(value.dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{where}: {plain(name)} holds {kind}, which cannot be read as float32: save the network in float32"
        ) from None


def _note_types(found: Found) -> None:
    kinds = {value.dtype for value in found.weights.values() if value.is_floating_point()} - {torch.float32}
    if kinds:
        names = sorted(str(kind).removeprefix("torch.") for kind in kinds)
        found.note(f"weights converted to float32 from {', '.join(names)}")


def _check_numbers(found: Found) -> None:
    """Refuse weights that are no floating point numbers."""
    for name, value in found.weights.items():
        if not value.is_floating_point() and not name.endswith("num_batches_tracked") and value.ndim > 0:
            raise found.fail(
                f"{name}: holds {value.dtype} instead of floating point numbers: save the network in float32"
            )


def _whole_module(held: object) -> nn.Module | None:
    """Return the module that a trusted pickle holds, itself or under a usual name."""
    if isinstance(held, Mapping):
        held = next((held[key] for key in (*NESTS, "module") if isinstance(held.get(key), nn.Module)), None)
    return held if isinstance(held, nn.Module) else None


def _from_module(module: nn.Module, said: _Said) -> Classifier:
    said.whole("a whole pickled module")
    classifier = as_classifier(module, name=said.name)
    _check_finite(classifier.module.state_dict(), str(said.path))
    _check_classes(said, classifier.classes)
    normalization = said.normalization if classifier.normalization is None else classifier.normalization
    known = said.normalization_said or classifier.normalization is not None
    return assemble(
        classifier.network,
        name=said.name,
        architecture=classifier.architecture,
        arguments=classifier.arguments,
        classes=said.classes or classifier.classes,
        normalization=normalization,
        normalization_known=known,
        input_shape=classifier.input_shape,
        path=said.path,
        notes=(
            "a whole pickled module, unpickled because you trusted it",
            *(() if known else _normalization_note(said)),
        ),
    )


def _from_program(said: _Said) -> Classifier:
    from thinice.models.onnx_models import load_onnx  # noqa: PLC0415 - needs an extra

    said.whole("a whole program")
    program = load_onnx(said.path)
    _check_finite(program.state_dict(), str(said.path))
    program.prepare_classifier(str(said.path))
    _check_classes(said, program.classes)
    return assemble(
        program,
        name=said.name,
        architecture=str(Container.ONNX),
        arguments={"sha256": sha256(said.path.read_bytes()).hexdigest()},
        classes=program.classes,
        normalization=said.normalization,
        normalization_known=said.normalization_said,
        input_shape=program.sample_shape,
        path=said.path,
        notes=(*program.notes, *_normalization_note(said)),
    )
