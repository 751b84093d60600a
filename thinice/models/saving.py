"""thinice's own files: plain weights, and a header that says all that is needed to use them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from thinice.errors import CheckpointError, InputError, MissingExtraError
from thinice.models.classifier import Classifier, as_classifier, own_copy
from thinice.models.identify import WithoutMemory
from thinice.models.normalization import NormalizationLike, Normalized
from thinice.models.registry import build, find_architecture, origin_of
from thinice.writing import nest, writable

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

__all__ = ["FORMAT", "FORMAT_VERSION", "rebuild", "save_classifier"]

FORMAT = "thinice"
FORMAT_VERSION = 1


def save_classifier(
    network: nn.Module | Classifier,
    path: str | os.PathLike[str],
    *,
    architecture: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    classes: int | None = None,
    class_names: Sequence[str] | None = None,
    data: str | None = None,
    normalization: NormalizationLike | None = None,
    input_shape: tuple[int, int, int] | None = None,
    recipe: Mapping[str, Any] | None = None,
    parent: str | Classifier | None = None,
    overwrite: bool = False,
) -> Path:
    """Return the path of the checkpoint written: ``.safetensors``, or for any other suffix torch's own format.

    The file holds plain weights and says architecture, arguments, classes, class names, normalisation, data set,
    sparsity, recipe, parent and fingerprint; `load_classifier` needs nothing else. It is written beside its place
    and renamed, so that a crash leaves either the old file or the new one.

    Parameters
    ----------
    network
        A `Classifier`, or a module that `build` made (also inside `Normalized`, also with torch's pruning masks,
        which are folded in).
    path
        Where to; folders are made, and a checkpoint that is there is replaced.
    architecture, arguments
        For a module that `build` did not make but whose parameters fit what it would make.
    classes, class_names, data, normalization, input_shape, recipe, parent
        As of `as_classifier`; for a classifier, ``class_names``, ``data``, ``recipe`` and ``parent`` replace its
        own. ``parent`` is the dense network this one came from, or its fingerprint.
    overwrite
        Replace a file that is no checkpoint; never a store.

    Raises
    ------
    InputError
        A network without a registered architecture, or a recipe that JSON cannot hold.
    CheckpointError
        Weights that do not fit the architecture.
    MissingExtraError
        ``.safetensors`` without the extra.

    Examples
    --------
    >>> import tempfile
    >>> from thinice.models import load_classifier
    >>> path = Path(tempfile.mkdtemp()) / "digits.pt"
    >>> _ = save_classifier(build("digits_cnn", 10), path, data="digits")
    >>> load_classifier(path).data
    'digits'
    """
    path = Path(path)
    ancestor = parent.fingerprint if isinstance(parent, Classifier) else parent
    if isinstance(network, Classifier):
        if any(fact is not None for fact in (architecture, arguments, classes, normalization, input_shape)):
            raise InputError(
                "`network` is a classifier: its architecture, classes, normalisation and shape are its own"
            )
        classifier = replace(
            network,
            class_names=network.class_names if class_names is None else tuple(class_names),
            data=data or network.data,
            recipe=network.recipe if recipe is None else recipe,
            parent=ancestor or network.parent,
        )
    else:
        classifier = as_classifier(
            _registered(network, architecture, arguments, classes),
            classes=classes,
            class_names=class_names,
            data=data,
            normalization=normalization,
            input_shape=input_shape,
            recipe=recipe,
            parent=ancestor,
        )
    header = _header(classifier)
    weights = {name: value.detach().cpu().contiguous() for name, value in classifier.network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    writable(path, argument="path", like=_is_checkpoint, kind="a checkpoint", overwrite=overwrite)
    with nest(path.parent) as unfinished:
        temporary = unfinished / path.name
        if path.suffix == ".safetensors":
            _write_safetensors(weights, header, temporary)
        else:
            with temporary.open("wb") as file:  # given a name, torch would write it into the archive
                torch.save(header | {"state_dict": weights}, file)
        temporary.replace(path)
    return path


def _is_checkpoint(head: bytes) -> bool:
    """Whether a file begins like an archive of torch, or like safetensors: a length, then JSON."""
    return (head.startswith(b"PK\x03\x04") and b"/data.pkl" in head) or head[8:10] == b'{"'


def _write_safetensors(weights: Mapping[str, Tensor], header: Mapping[str, Any], path: Path) -> None:
    try:
        from safetensors.torch import save_file  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError("writing .safetensors", "safetensors") from None
    save_file(dict(weights), path, metadata={FORMAT: json.dumps(header, sort_keys=True)})


def _registered(
    network: nn.Module, architecture: str | None, arguments: Mapping[str, Any] | None, classes: int | None
) -> nn.Module:
    """Return the network as `build` makes it, with the same weights, still normalised where it was."""
    inner = network.network if isinstance(network, Normalized) else network
    inner = own_copy(inner)
    origin = origin_of(inner)
    if architecture is None and origin is None:
        raise InputError(
            f"`architecture` is missing: {type(inner).__name__} was not made by thinice.models.build, so name the "
            "registered architecture that it has the parameters of"
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


def rebuild(
    architecture: str, classes: int, arguments: Mapping[str, Any], weights: Mapping[str, Tensor], what: str
) -> nn.Module:
    """Return the network that `build` makes with exactly these weights in it; no random number is used up.

    Raises
    ------
    InputError
        An unknown architecture or argument.
    CheckpointError
        Missing, unexpected or differently shaped parameters, the first few of each by name.
    """
    with WithoutMemory():  # a header may claim any size: what it means is compared before memory is taken
        planned = build(architecture, classes, **arguments).state_dict()
    wanted = {name: tuple(value.shape) for name, value in planned.items()}
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    missing = [name for name in wanted if name not in weights and name not in counters]
    unexpected = [name for name in weights if name not in wanted]
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {shape}"
        for name, shape in wanted.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    faults = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if faults:
        raise CheckpointError(
            f"{what}: parameters do not fit {architecture}: {'; '.join(faults)}; give another `architecture`"
        )
    with torch.random.fork_rng(devices=[]):
        network = build(architecture, classes, **arguments)
    own = network.state_dict()
    network.load_state_dict({name: own[name] for name in counters} | dict(weights))
    return network


def _header(classifier: Classifier) -> dict[str, Any]:
    try:
        find_architecture(classifier.architecture)
    except InputError:
        raise InputError(
            f"`network` {classifier.name!r} is a {classifier.architecture}, which no registry can build again: only "
            "networks of thinice.models.known_architectures() and torchvision can be saved"
        ) from None
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
