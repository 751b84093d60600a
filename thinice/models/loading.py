"""Checkpoint files in: whatever the file is, a `Classifier` comes out, or an error that says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from torch import nn

from thinice.errors import CheckpointError, InputError, WrongFileError
from thinice.files import expanded
from thinice.models.architectures import origin_of
from thinice.models.architectures.identify import WAYS_IN, Identity, fit, identify
from thinice.models.architectures.rebuild import load_exactly, rebuild
from thinice.models.architectures.user_code import user_code
from thinice.models.classifier import (
    Classifier,
    as_classifier,
    assemble,
    last_width,
    usual_shape,
)
from thinice.models.files import FORMAT, MASKS, Container, detect_format, read_safetensors, read_torch
from thinice.models.hypotheses import choices, decide, deciding
from thinice.models.load_request import LoadOptions, Request
from thinice.models.mask_files import read_masks
from thinice.models.normalization import normalization_text, parse_normalization
from thinice.models.own_files import header_of, own_classifier
from thinice.models.pickles import plain
from thinice.models.recorded import recorded_accuracy
from thinice.models.research_formats import (
    NESTS,
    NORMALIZATION,
    RawCheckpoint,
    apply_entries,
    check_numbers,
    find_weights,
    plain_weights,
)
from thinice.models.weight_checks import check_finite, note_types, readable, refuse_lost_layers

if TYPE_CHECKING:
    import os

    from thinice.models.hypotheses import LabelledSamples

__all__ = ["load_classifier", "read_classifier", "refuse_unknown", "unused_density"]

SUFFIXES = (".pt", ".pth", ".tar", ".th", ".t7", ".ckpt", ".bin", ".safetensors", ".onnx")


def load_classifier(
    path: str | os.PathLike[str],
    *,
    samples: LabelledSamples | None = None,
    **options: Unpack[LoadOptions],
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
    >>> import tempfile, torch
    >>> from thinice.models import build
    >>> path = Path(tempfile.mkdtemp()) / "net.pth"
    >>> torch.save({"state_dict": build("resnet20").state_dict()}, path)
    >>> classifier = load_classifier(path, normalization="imagenet")
    >>> classifier.architecture, classifier.classes
    ('resnet20', 10)
    """
    classifier = read_classifier(path, **options)
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


def read_classifier(path: str | os.PathLike[str], **options: Unpack[LoadOptions]) -> Classifier:
    """Return the classifier in a file, as `load_classifier`, but also where the architecture is not known yet.

    For callers that ask labels next (`decide`): until then nobody knows what it computes.
    """
    if unknown := options.keys() - LoadOptions.__annotations__:
        raise TypeError(f"load_classifier() has no option {min(unknown)!r}: {', '.join(LoadOptions.__annotations__)}")
    path = expanded(path)
    architecture, architecture_args = options.get("architecture"), options.get("architecture_args")
    density, masks, normalization = options.get("density"), options.get("masks"), options.get("normalization")
    if density is not None and not 0 < density <= 1:
        raise InputError(f"`density` must be the fraction of weights kept, above 0 and at most 1, got {density}")
    given = parse_normalization(normalization)
    name = options.get("name") or _stem(path)
    if not _in_utf8(name):
        raise InputError(
            f"`name` {plain(name)} is not UTF-8 and cannot be stored: give another `name`, or rename the file"
        )
    origin = origin_of(architecture) if isinstance(architecture, nn.Module) else None
    if origin is not None:
        architecture, architecture_args = origin.architecture, architecture_args or origin.arguments
    code = user_code(architecture, architecture_args)
    request = Request(
        path=path,
        name=name,
        architecture=architecture if code is None and isinstance(architecture, str) else None,
        arguments=architecture_args,
        code=code,
        classes=options.get("classes"),
        normalization=given,
        normalization_given=normalization is not None,
        weights=options.get("weights"),
        masks=None if masks is None else read_masks(masks),
    )
    try:
        classifier = _load(request, density=density, trust_pickle=options.get("trust_pickle", False))
    except CheckpointError as error:
        if isinstance(error, WrongFileError) or WAYS_IN in str(error):
            raise
        raise CheckpointError(f"{error}; or {WAYS_IN}") from None
    if density is not None and not any("density of" in note for note in classifier.notes):
        return replace(classifier, notes=(*classifier.notes, unused_density(density)))
    return classifier


def unused_density(density: float) -> str:
    """Return the note of a file that has no pruning scores, where `density` was given."""
    return f"density={density:g} was not used: the file holds no pruning scores"


def _load(request: Request, *, density: float | None, trust_pickle: bool) -> Classifier:
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
            return own_classifier({**header_of(path, metadata[FORMAT]), "state_dict": weights, "masks": masks}, request)
    else:
        content = read_torch(path, trust_pickle=trust_pickle)
        if isinstance(content, Mapping) and content.get("format") == FORMAT:
            return own_classifier(content, request)
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


def _from_research(checkpoint: RawCheckpoint, request: Request) -> Classifier:
    """Return the classifier of a file that other programs wrote."""
    code, where = request.code, str(request.path)
    in_file = tuple(checkpoint.weights)
    note_types(checkpoint)
    checkpoint.weights = {name: readable(value, name, where) for name, value in checkpoint.weights.items()}
    if code is not None:
        trial = code.trial_shapes()
        checkpoint.expected = frozenset(trial[0])
    plain_weights(checkpoint)
    refuse_lost_layers(in_file, checkpoint)
    check_finite(checkpoint.weights, where)
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
    told = normalization is not None or checkpoint.outer.get(NORMALIZATION) == "none"
    if not told:
        normalization = request.normalization
    elif request.normalization_given and request.normalization != normalization:
        request.refuse_contradiction(
            "normalization", normalization_text(request.normalization), normalization_text(normalization)
        )
    known = told or request.normalization_given
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


def _identity(checkpoint: RawCheckpoint, request: Request, in_file: tuple[str, ...]) -> Identity:
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


def _from_module(module: nn.Module, beside: dict[str, Any], request: Request) -> Classifier:
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
    check_finite(classifier.module.state_dict(), str(request.path))
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


def _from_onnx(request: Request) -> Classifier:
    from thinice.models.onnx_models import load_onnx  # noqa: PLC0415 - needs an extra

    request.refuse_architecture("a whole program")
    request.refuse_entries("a whole program")
    program = load_onnx(request.path)
    check_finite(program.state_dict(), str(request.path))
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
