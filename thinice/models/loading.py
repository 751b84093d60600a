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
from thinice.models.architectures import origin_of
from thinice.models.architectures.identify import WAYS_IN, Identity, fit, identify
from thinice.models.architectures.rebuild import load_exactly, rebuild
from thinice.models.architectures.user_code import UserCode, user_code
from thinice.models.classifier import (
    Classifier,
    as_classifier,
    assemble,
    fingerprint_of,
    hashed_identity,
    last_width,
    structure_of,
    usual_shape,
)
from thinice.models.files import FORMAT, FORMAT_VERSION, MASKS, Container, detect_format, read_safetensors, read_torch
from thinice.models.hypotheses import choices, decide, deciding
from thinice.models.mask_files import GivenMasks, MasksLike, masks_of, read_masks
from thinice.models.normalization import Normalization, NormalizationLike, normalization_text, parse_normalization
from thinice.models.onnx_models import MOST_NUMBERS
from thinice.models.pickles import plain
from thinice.models.recorded import recorded_accuracy
from thinice.models.research_formats import (
    NESTS,
    RawCheckpoint,
    apply_entries,
    check_numbers,
    find_weights,
    plain_weights,
)

if TYPE_CHECKING:
    import os

    from thinice.models.architectures.user_code import ArchitectureLike
    from thinice.models.hypotheses import LabelledSamples
    from thinice.models.weights import Masks

__all__ = ["load_classifier", "read_classifier", "refuse_unknown", "unused_density"]

COMPUTABLE = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
SUFFIXES = (".pt", ".pth", ".tar", ".th", ".t7", ".ckpt", ".bin", ".safetensors", ".onnx")

ANOTHER_FILE = (
    *("take another checkpoint", "save it again", "update thinice", "take the checkpoint of that task"),
    *("no such file", "not a file"),
)
"""How errors end where the file itself must be another one."""


def load_classifier(
    path: str | os.PathLike[str],
    *,
    architecture: ArchitectureLike | None = None,
    architecture_args: Mapping[str, Any] | None = None,
    normalization: NormalizationLike | None = None,
    classes: int | None = None,
    name: str | None = None,
    density: float | None = None,
    masks: MasksLike | None = None,
    weights: str | None = None,
    trust_pickle: bool = False,
    samples: LabelledSamples | None = None,
) -> Classifier:
    """Return the classifier that a checkpoint file holds.

    Read are thinice's own files; state dicts in torch's and the safetensors format, nested, prefixed, with masks,
    scores or parametrisations, as the programs of the pruning literature leave them; ONNX programs.
    Nothing in a file can run. `Classifier.notes` says what was found out and converted.

    Parameters
    ----------
    path
        The file. Its kind is told from its content, not from its suffix.
    architecture
        A name of `known_architectures` or ``torchvision:NAME``, where the file does not say it and the parameter names
        and shapes do not tell; ``NAME:VARIANT`` where several networks that compute different things have the same
        names and shapes (an error lists them). Or your own code: ``path/to/models.py:ResNet18``,
        ``package.module:make``, the class or function itself, or a module, which stays as it is. This code runs; the
        file is still only read. The number of classes of the weights is passed where the code has a parameter
        ``num_classes``, ``classes`` or ``n_classes``.
    architecture_args
        Keywords of the builder or of your own code, for example ``{"width": 16}``.
    normalization
        What `parse_normalization` takes, where the file does not say it. Without either, pixels go in as they are
        and ``normalization_known`` is false: `infer_normalization` compares hypotheses on labelled samples.
    classes
        The number of classes that the network must have.
    name
        What tables call it; else the file's name without suffixes.
    density
        The fraction of weights that pruning scores keep (HYDRA, RST; for HARP the global one): 0.1 at 90 % sparsity.
        Without it, what the file or its name says. A file without scores does not use it, and its notes say so.
    masks
        Masks that lie beside the weights: a file of torch or safetensors (of NNI, say), a mapping from the names of
        layers or parameters, a list in the order of the layers, or `Masks`. Or the name of the entry of the checkpoint
        that holds them, where it has several; ``"none"`` leaves out those that it has.
    weights
        The entry of the checkpoint to take, where it holds several networks: ``"state_dict_ema"``, ``"teacher"``.
        Without it the notes say which one was taken.
    trust_pickle
        Unpickle the whole file, which lets it do anything on this machine; only for files whose maker you trust.
    samples
        Labelled samples, `thinice.Samples` for one, that `decide` what the file leaves open: which of several networks
        with the same parameter names and shapes it is, and the normalisation.

    Raises
    ------
    CheckpointError
        Not a checkpoint, damaged, wants to run code, does not fit, holds NaN, or has parameter names and shapes of
        several networks that compute different things, and no samples are given.
    InputError
        An argument that contradicts the file, or cannot be used; own code that is not there, or raises; samples that
        do not decide what the file leaves open.
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
    classifier = read_classifier(
        path,
        architecture=architecture,
        architecture_args=architecture_args,
        normalization=normalization,
        classes=classes,
        name=name,
        density=density,
        masks=masks,
        weights=weights,
        trust_pickle=trust_pickle,
    )
    if samples is not None:
        some = deciding(len(samples.labels))
        classifier = decide(classifier, samples.inputs[some], samples.labels[some])
    refuse_unknown(classifier)
    return classifier


def refuse_unknown(classifier: Classifier) -> None:
    """Refuse a network of which parameter names and shapes do not tell what it computes.

    Raises
    ------
    CheckpointError
        With the architectures that it may have.
    """
    if not classifier.architecture_known:
        offered = choices((classifier.architecture, *classifier.alternatives))
        raise CheckpointError(
            f"{classifier.path}: parameters fit several architectures that compute different things: give "
            f"architecture= (--architecture), one of {offered}; or your own code, FILE.py:CLASS; an ONNX file; "
            "thinice.as_classifier(net) in Python; or labelled samples (samples=), which may decide"
        )


def read_classifier(
    path: str | os.PathLike[str],
    *,
    architecture: ArchitectureLike | None = None,
    architecture_args: Mapping[str, Any] | None = None,
    normalization: NormalizationLike | None = None,
    classes: int | None = None,
    name: str | None = None,
    density: float | None = None,
    masks: MasksLike | None = None,
    weights: str | None = None,
    trust_pickle: bool = False,
) -> Classifier:
    """Return the classifier in a file, as `load_classifier`, but also where the architecture is not known yet.

    For callers that ask labels next (`decide`): until then nobody knows what it computes.
    """
    path = expanded(path)
    if density is not None and not 0 < density <= 1:
        raise InputError(f"`density` must be the fraction of weights kept, above 0 and at most 1, got {density}")
    given = parse_normalization(normalization)
    name = name or _stem(path)
    if not _in_utf8(name):
        raise InputError(
            f"`name` {plain(name)} is not UTF-8 and cannot be stored: give another `name`, or rename the file"
        )
    origin = origin_of(architecture) if isinstance(architecture, nn.Module) else None
    if origin is not None:
        architecture, architecture_args = origin.architecture, architecture_args or origin.arguments
    code = user_code(architecture, architecture_args)
    request = _Request(
        path=path,
        name=name,
        architecture=architecture if code is None and isinstance(architecture, str) else None,
        arguments=architecture_args,
        code=code,
        classes=classes,
        normalization=given,
        normalization_given=normalization is not None,
        weights=weights,
        masks=None if masks is None else read_masks(masks),
    )
    try:
        classifier = _load(request, density=density, trust_pickle=trust_pickle)
    except CheckpointError as error:
        if WAYS_IN in str(error) or str(error).endswith(ANOTHER_FILE):
            raise
        raise CheckpointError(f"{error}; or {WAYS_IN}") from None
    if density is not None and not any("density of" in note for note in classifier.notes):
        return replace(classifier, notes=(*classifier.notes, unused_density(density)))
    return classifier


def unused_density(density: float) -> str:
    """Return the note of a file that has no pruning scores, where `density` was given."""
    return f"density={density:g} was not used: the file holds no pruning scores"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """The arguments of one `load_classifier`, checked; `architecture` is a name of the registry."""

    path: Path
    name: str
    architecture: str | None
    arguments: Mapping[str, Any] | None
    code: UserCode | None
    classes: int | None
    normalization: Normalization | None
    normalization_given: bool
    weights: str | None
    masks: GivenMasks | None

    def refuse_contradiction(self, argument: str, given: object, in_file: object) -> None:
        """Raise InputError where an argument was given that is not what the file says."""
        if given is not None and given != in_file:
            raise InputError(f"`{argument}` is {given}, but {self.path} says {in_file}: leave the argument out")

    def refuse_architecture(self, kind: str) -> None:
        """Raise InputError where an architecture was given for a file that brings its own."""
        if self.architecture is not None or self.arguments or self.code is not None:
            raise InputError(f"`architecture` is not needed: {self.path} is {kind}, leave the argument out")

    def refuse_entries(self, kind: str) -> None:
        """Raise InputError where an entry or masks were asked for in a file that has one network and no masks."""
        for argument, value in (("weights", self.weights), ("masks", self.masks)):
            if value is not None:
                raise InputError(
                    f"`{argument}` is for the checkpoints of other programs: {self.path} is {kind}, leave it out"
                )

    def check_classes(self, classes: int | None) -> None:
        """Raise CheckpointError where the network has another number of classes than it must have."""
        if self.classes is not None and classes is not None and self.classes != classes:
            raise CheckpointError(
                f"{self.path}: answers {classes} classes, not {self.classes}: take the checkpoint of that task"
            )

    def unknown_normalization_note(self) -> tuple[str, ...]:
        """Return the note of a file that does not say its normalisation, unless the user did."""
        if self.normalization_given:
            return ()
        return ("normalisation is not known; pixels go in as they are (normalization=, --normalization)",)


def _load(request: _Request, *, density: float | None, trust_pickle: bool) -> Classifier:
    path = request.path
    container = detect_format(path)
    if container is Container.ONNX:
        return _from_onnx(request)
    content: Any
    if container is Container.SAFETENSORS:
        content, metadata = read_safetensors(path)
        if FORMAT in metadata:
            masks = {name.removeprefix(MASKS): value for name, value in content.items() if name.startswith(MASKS)}
            weights = {name: value for name, value in content.items() if not name.startswith(MASKS)}
            return _from_own({**_json(path, metadata[FORMAT]), "state_dict": weights, "masks": masks}, request)
    else:
        content = read_torch(path, trust_pickle=trust_pickle)
        if isinstance(content, Mapping) and content.get("format") == FORMAT:
            return _from_own(content, request)
    module, beside = _whole_module(content, request.weights)
    if module is not None:
        return _from_module(module, beside, request)
    checkpoint = find_weights(content, str(path), density=density, key=request.weights)
    checkpoint.ordered = container is Container.TORCH
    if request.masks is not None:
        checkpoint.masks, checkpoint.masks_from = request.masks
    return _from_research(checkpoint, request)


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


def _from_own(header: Mapping[str, Any], request: _Request) -> Classifier:
    """Return the classifier of a file that `save_classifier` wrote."""
    where = str(request.path)
    request.refuse_entries("a file of thinice")
    version = header.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"{where}: has format version {plain(version)}, newer than {FORMAT_VERSION}: update thinice"
        )
    code = request.code
    try:
        facts = {name: value for name, value in header.items() if name not in {"state_dict", "masks"}}
        json.dumps(facts, allow_nan=False, ensure_ascii=False).encode()  # what is plain and in UTF-8 can be stored
        recipe, parent = _kind(header, "recipe", Mapping), _kind(header, "parent", str)
        architecture, classes = str(header["architecture"]), header["classes"]
        classes = None if classes is None else int(classes)
        arguments = dict(header["arguments"])
        entry = header["normalization"]
        in_file = parse_normalization((entry["mean"], entry["std"])) if isinstance(entry, Mapping) else None
        class_names = None if header["class_names"] is None else tuple(map(str, header["class_names"]))
        shape = None if header["input_shape"] is None else _image_shape(header["input_shape"])
        data = None if header["data"] is None else str(header["data"])
        tensors = {str(name): value for name, value in header["state_dict"].items()}
        _check_finite(tensors, where)
        by_user_code = "class" in arguments
        if by_user_code:
            structure = {name: str(arguments[name]) for name in ("class", "structure")}
            arguments = {**structure, "arguments": dict(arguments["arguments"])}
            network = None
        else:
            network = rebuild(architecture, int(classes or 0), arguments, tensors, where)
            tensors = network.state_dict()
        identity = hashed_identity(architecture, arguments)
        unchanged = header["fingerprint"] == fingerprint_of(*identity, tensors, in_file)
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - a stranger's header may hold anything
        reason = plain(f"{type(error).__name__}: {error}".partition("\n")[0])
        raise CheckpointError(f"{where}: its thinice header is damaged ({reason}): save it again") from None
    if not unchanged:
        raise CheckpointError(f"{where}: its weights are not those it was saved with: save it again")
    notes: tuple[str, ...] = ()
    if network is None:
        network, notes = _by_user_code(architecture, arguments, tensors, classes, request)
    else:
        if code is not None:
            request.refuse_contradiction("architecture", str(code), architecture)
        request.refuse_contradiction("architecture", request.architecture, architecture)
    request.refuse_contradiction("classes", request.classes, classes)
    if entry is not None and request.normalization_given and request.normalization != in_file:
        request.refuse_contradiction(
            "normalization", normalization_text(request.normalization), normalization_text(in_file)
        )
    return assemble(
        network,
        name=request.name,
        architecture=architecture,
        arguments=arguments,
        classes=classes,
        class_names=class_names,
        data=data,
        normalization=in_file if entry is not None else request.normalization,
        normalization_known=entry is not None or request.normalization_given,
        input_shape=shape,
        recipe=recipe,
        parent=parent,
        masks=_masks(header, network, where),
        path=request.path,
        notes=(*notes, *(() if entry is not None else request.unknown_normalization_note())),
    )


def _masks(header: Mapping[str, Any], network: nn.Module, where: str) -> Masks | None:
    tensors = header.get("masks")
    if not tensors:
        return None
    if not isinstance(tensors, Mapping):
        raise CheckpointError(f"{where}: its masks are damaged: save it again")
    masks = masks_of(tensors, where)
    try:
        held = masks.hold(network)
    except InputError as error:
        raise CheckpointError(f"{where}: {error}") from None
    if not held:
        raise CheckpointError(f"{where}: its masks drop weights that are not zero: save it again")
    return masks


def _by_user_code(
    architecture: str,
    arguments: dict[str, Any],
    weights: Mapping[str, Tensor],
    classes: int | None,
    request: _Request,
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the network of an own file that the user's code builds, and a note where it is not the code it was.

    Byte code differs between versions of Python, so other code is no error.
    """
    shown, code = plain(architecture), request.code
    if code is None:
        raise CheckpointError(
            f"{request.path}: holds weights for the user's own code {shown}: give architecture= (--architecture) with "
            "the path of that file, FILE.py:CLASS"
        )
    saved = arguments["arguments"]
    if saved and not code.arguments and not code.built:  # a file does not choose what the user's code is called with
        text = plain(json.dumps(saved))
        raise InputError(
            f"`architecture_args` are missing: {request.path} was saved with {shown}: give {text} (--architecture-args "
            f"'{text}')"
        )
    plausible = any(classes in value.shape for value in weights.values())
    network, _ = code.load(weights, str(request.path), otherwise=classes if plausible else None)
    structure = structure_of(network)
    if structure == arguments["structure"] and type(network).__qualname__ == arguments["class"]:
        return network, ()
    arguments |= {"class": type(network).__qualname__, "structure": structure}
    return network, (f"the code {code} is not what the file was saved with ({shown}), or another Python compiled it",)


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


def _from_research(checkpoint: RawCheckpoint, request: _Request) -> Classifier:
    """Return the classifier of a file that other programs wrote."""
    code, where = request.code, str(request.path)
    in_file = tuple(checkpoint.weights)
    _note_types(checkpoint)
    checkpoint.weights = {name: _readable(value, name, where) for name, value in checkpoint.weights.items()}
    if code is not None:
        trial = code.trial_shapes()
        checkpoint.expected = frozenset(trial[0])
    plain_weights(checkpoint)
    refuse_lost_layers(in_file, checkpoint)
    _check_finite(checkpoint.weights, where)
    arguments: Mapping[str, Any]
    classes: int | None
    alternatives: tuple[str, ...] = ()
    architecture_known = True
    if code is not None:
        network, in_weights = code.load(
            checkpoint.weights, where, otherwise=request.classes, trial=trial, versions=checkpoint.versions
        )
        check_numbers(checkpoint, network)
        architecture, classes, arguments = str(code), in_weights or last_width(network), code.identity(network)
        shape = None
        checkpoint.note(f"architecture built by your own code, {architecture}")
    else:
        identity = _identity(checkpoint, request, in_file)
        alternatives, architecture_known = identity.alternatives, bool(identity.source) or not identity.alternatives
        architecture, classes, arguments = identity.architecture, identity.classes, identity.arguments
        network = rebuild(architecture, identity.classes, arguments, checkpoint.weights, where)
        check_numbers(checkpoint, network)
        shape = usual_shape(architecture, arguments)
    request.check_classes(classes)
    normalization = checkpoint.normalization
    if normalization is None:
        normalization = request.normalization
    elif request.normalization_given and request.normalization != normalization:
        request.refuse_contradiction(
            "normalization", normalization_text(request.normalization), normalization_text(normalization)
        )
    known = checkpoint.normalization is not None or request.normalization_given
    return assemble(
        network,
        name=request.name,
        architecture=architecture,
        arguments=arguments,
        classes=classes,
        normalization=normalization,
        normalization_known=known,
        input_shape=shape,
        architecture_known=architecture_known,
        alternatives=alternatives,
        recorded_accuracy=recorded_accuracy(checkpoint.outer),
        masks=checkpoint.masks_for(network),
        path=request.path,
        notes=(*checkpoint.notes, *(() if known else request.unknown_normalization_note())),
    )


def refuse_lost_layers(in_file: tuple[str, ...], checkpoint: RawCheckpoint) -> None:
    """Raise CheckpointError where the network stands behind a layer that has no parameters; note where one may follow.

    ``Sequential(Upsample(), network)`` saves its parameters as ``1.conv1.weight`` and so on: which layer 0 is, the file
    does not say. A normalisation with buffers there is another matter.

    Parameters
    ----------
    in_file : tuple of str
        The names as the file has them.
    checkpoint : RawCheckpoint
        The names of the network, and the file.
    """
    parts = [part for part in _removed_prefix(set(in_file), list(checkpoint.weights)).split(".") if part]
    firsts = {name.partition(".")[0] for name in checkpoint.weights}
    if len(firsts) == 1 and not checkpoint.as_expected():
        parts += firsts
    for depth, part in enumerate(parts):
        if not part.isdecimal() or len(part) > 3:  # no place in a Sequential
            continue
        before = "".join(f"{outer}." for outer in parts[:depth])
        inside = [name[len(before) :].partition(".")[0] for name in in_file if name.startswith(before)]
        places = {int(number) for number in inside if number.isdecimal()}
        missing = [place for place in range(int(part)) if place not in places]
        if missing:
            raise checkpoint.fail(
                f"its parameters begin with {'.'.join(parts[: depth + 1])}., behind a layer {before}{missing[0]} that "
                "has none (an upsampling, a normalisation) and that the file does not say: give the code of the whole "
                "network (architecture=, --architecture FILE.py:FUNCTION), or save the inner network's state_dict() "
                "where the layer only normalises, and give that (--normalization)"
            )
        if places == {0}:
            checkpoint.note(
                f"all parameters are in {'.'.join(parts[: depth + 1])}.: whether a layer without any follows (a "
                "softmax), the file does not say; there is none here"
            )


def _removed_prefix(in_file: set[str], weights: list[str]) -> str:
    """Return what stood before most names in the file and no longer does, without its dot."""
    if any(name in in_file for name in weights):
        return ""
    for name in weights:
        prefixes = [long.removesuffix(f".{name}") for long in in_file if long.endswith(f".{name}")]
        if prefixes:
            return max(prefixes, key=lambda prefix: sum(f"{prefix}.{other}" in in_file for other in weights))
    return ""


def _identity(checkpoint: RawCheckpoint, request: _Request, in_file: tuple[str, ...]) -> Identity:
    """Return the architecture that was given, or that parameter names and shapes tell."""
    if request.architecture is None:
        identity = identify(checkpoint.weights, str(request.path), in_file=in_file)
        told = f", which are those of {identity.source}" if identity.source else ""
        others = f"; with the same, but computing something else: {', '.join(identity.alternatives)}"
        checkpoint.note(
            f"architecture identified as {identity.architecture} with {identity.classes} classes from parameter names "
            f"and shapes{told}{others if identity.alternatives else ''}"
        )
    else:
        identity = fit(checkpoint.weights, request.architecture, request.classes, request.arguments, str(request.path))
    for remark in identity.remarks:
        checkpoint.note(remark)
    checkpoint.weights = identity.renamed(checkpoint.weights)
    return identity


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


def _note_types(checkpoint: RawCheckpoint) -> None:
    kinds = {value.dtype for value in checkpoint.weights.values() if value.is_floating_point()} - {torch.float32}
    if kinds:
        names = sorted(str(kind).removeprefix("torch.") for kind in kinds)
        checkpoint.note(f"weights converted to float32 from {', '.join(names)}")


def _whole_module(content: object, entry: str | None) -> tuple[nn.Module | None, dict[str, Any]]:
    """Return the module that a trusted pickle holds, itself or under a usual name, and the entries beside it."""
    if isinstance(content, nn.Module) and entry is None:
        return content, {}
    if not isinstance(content, Mapping):
        return None, {}
    names = NESTS if entry is None else (entry,)
    name = next((name for name in names if isinstance(content.get(name), nn.Module)), None)
    if name is None:
        return None, {}
    return content[name], {str(other): value for other, value in content.items() if other != name}


def _from_module(module: nn.Module, beside: dict[str, Any], request: _Request) -> Classifier:
    request.refuse_architecture("a whole pickled module")
    classifier = as_classifier(module, name=request.name)
    checkpoint = RawCheckpoint(str(request.path), dict(classifier.network.state_dict()), beside)
    checkpoint.masks, checkpoint.masks_from = request.masks or (None, None)
    apply_entries(checkpoint)
    others = [plain(name) for name, value in beside.items() if isinstance(value, nn.Module)]
    if others:
        checkpoint.note(
            f"other modules lie under {', '.join(others)}: weights= (--weights {others[0]}) takes one of them"
        )
    load_exactly(classifier.network, checkpoint.weights)
    _check_finite(classifier.module.state_dict(), str(request.path))
    request.check_classes(classifier.classes)
    normalization = request.normalization if classifier.normalization is None else classifier.normalization
    known = request.normalization_given or classifier.normalization is not None
    return assemble(
        classifier.network,
        name=request.name,
        architecture=classifier.architecture,
        arguments=classifier.arguments,
        classes=request.classes or classifier.classes,
        normalization=normalization,
        normalization_known=known,
        input_shape=classifier.input_shape,
        recorded_accuracy=recorded_accuracy(beside),
        masks=checkpoint.masks_for(classifier.network),
        path=request.path,
        notes=(
            "a whole pickled module, unpickled because you trusted it",
            *checkpoint.notes,
            *(() if known else request.unknown_normalization_note()),
        ),
    )


def _from_onnx(request: _Request) -> Classifier:
    from thinice.models.onnx_models import load_onnx  # noqa: PLC0415 - needs an extra

    request.refuse_architecture("a whole program")
    request.refuse_entries("a whole program")
    program = load_onnx(request.path)
    _check_finite(program.state_dict(), str(request.path))
    program.try_out(str(request.path))
    request.check_classes(program.classes)
    return assemble(
        program,
        name=request.name,
        architecture=str(Container.ONNX),
        arguments={"sha256": sha256(request.path.read_bytes()).hexdigest()},
        classes=program.classes,
        normalization=request.normalization,
        normalization_known=request.normalization_given,
        input_shape=program.sample_shape,
        path=request.path,
        notes=(*program.notes, *request.unknown_normalization_note()),
    )
