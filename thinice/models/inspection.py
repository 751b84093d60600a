"""What a checkpoint file holds and what `load_classifier` makes of it: everything read, and everything left aside."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from torch import Tensor

from thinice.errors import ThinIceError
from thinice.files import expanded
from thinice.models.bookkeeping import Record
from thinice.models.files import FORMAT, MASKS, Container, detect_format, read_safetensors, read_torch
from thinice.models.loading import read_classifier, refuse_unknown
from thinice.models.mask_files import read_masks
from thinice.models.normalization import normalization_text
from thinice.models.pickles import plain
from thinice.models.research_formats import RawCheckpoint, find_weights, plain_weights
from thinice.models.research_formats.entries import count_tensors
from thinice.models.weights import Layer, Masks

if TYPE_CHECKING:
    import os

    from thinice.models.classifier import Classifier
    from thinice.models.load_request import LoadOptions

__all__ = ["Entry", "Inspection", "inspect_checkpoint"]

ACCURACY = re.compile(r"acc|prec|top_?1|metric|_sa$|^sa$|error", re.IGNORECASE)
"""In the names under which programs record how good a network is."""
OPTIONS = re.compile(r"arg|conf|opt|param|cfg|recipe", re.IGNORECASE)
"""In the names of entries whose content is worth to be shown."""
MOST_RECORDED = 60
MOST_ENTRIES = 60
LONGEST_VALUE = 80


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a file: its name, what it holds, and what became of it (weights, masks, not used)."""

    name: str
    holds: str
    role: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a checkpoint file holds, and what `load_classifier` makes of it.

    Attributes
    ----------
    path, container, size
        The file, its kind and its bytes.
    classifier
        What was loaded; ``None`` where it was refused, unless it is only undecided what it computes: then one of the
        networks that it may be, with the others as its `alternatives`.
    refused
        Why it was refused, and what to do; ``None`` where it was not.
    entries
        What the file holds, one row an entry.
    recorded
        The numbers and texts that the file records beside its weights: accuracies first.
    notes
        What was found out, converted and left aside, one sentence each; also where loading stopped later.
    of_factors
        Of weights that the file writes as factors (ATMC): 1 - non-zero numbers of the factors over weights.

    Examples
    --------
    >>> from thinice.data.digits import example_checkpoints
    >>> inspection = inspect_checkpoint(example_checkpoints()["pruned-90"])
    >>> inspection.classifier.architecture, inspection.parameters, [layer.name for layer in inspection.layers]
    ('digits_cnn', 19258, ['conv1.weight', 'conv2.weight', 'conv3.weight', 'fc.weight'])
    """

    path: Path
    container: str
    size: int
    classifier: Classifier | None
    refused: str | None
    entries: tuple[Entry, ...]
    recorded: Mapping[str, Any]
    notes: tuple[str, ...]
    of_factors: float | None = None

    @property
    def parameters(self) -> int | None:
        """How many parameters the network has; ``None`` without a classifier."""
        if self.classifier is None:
            return None
        return sum(parameter.numel() for parameter in self.classifier.network.parameters())

    @property
    def layers(self) -> tuple[Layer, ...]:
        """One row a prunable weight, in the order of the network: its shape, and how many of its numbers are kept.

        Kept is what masks keep, where there are any, else what is not zero.
        """
        if self.classifier is None:
            return ()
        zeros = Masks.of(self.classifier.network)
        masks = self.classifier.masks
        if masks is None:
            return zeros.layers()
        return Masks({name: masks.kept.get(name, mask) for name, mask in zeros.kept.items()}).layers()

    @property
    def zeros(self) -> tuple[int, ...]:
        """How many numbers of each prunable weight are zero, in the order of `layers`; counted, whatever masks say."""
        if self.classifier is None:
            return ()
        return tuple(layer.weights - layer.kept for layer in Masks.of(self.classifier.network).layers())

    @property
    def sparsities(self) -> dict[str, float]:
        """The zeros that were counted as a fraction, and the same by other definitions, each with who reports it.

        Global: zeros over all prunable weights. HYDRA reports the mean over the layers, R-ADMM and Merkle et al. prune
        and count convolutions alone, ATMC counts the numbers of its factors, of which the zeros of their product say
        little.
        """
        if self.classifier is None or not self.layers:
            return {}
        zeros = Masks.of(self.classifier.network)
        layers, convolutions = zeros.layers(), zeros.convolutions()
        sparsities = {
            "zeros over prunable weights": zeros.sparsity,
            "mean over layers (HYDRA)": sum(layer.sparsity for layer in layers) / len(layers),
        }
        if convolutions.kept:
            sparsities["convolutions alone (R-ADMM, Merkle et al.)"] = convolutions.sparsity
        of_factors = self._of_factors()
        if of_factors is not None:
            sparsities["factors (ATMC)"] = of_factors
        return sparsities

    def _of_factors(self) -> float | None:
        """Return the sparsity of factors, from the file's own or from what the recipe says of the search."""
        if self.of_factors is not None or self.classifier is None:
            return self.of_factors
        value: Any = self.classifier.recipe
        for name in ("pruning", "reached", "factors", "sparsity"):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value if isinstance(value, float) else None

    @property
    def conversions(self) -> tuple[str, ...]:
        """Sentences that say where zeros come from: masks in the file; masks, scores and factors that were applied."""
        applied = tuple(note for note in self.notes if " applied" in note or " multiplied" in note)
        masks = None if self.classifier is None else self.classifier.masks
        if applied or masks is None or self.classifier is None:
            return applied
        kept, weights = (sum(getattr(layer, field) for layer in masks.layers()) for field in ("kept", "weights"))
        zeros = sum(int((weight == 0).sum()) for weight in masks.fitting(self.classifier.network).values())
        more = zeros - (weights - kept)
        return (
            f"masks in the file, which keep {kept} of {weights} weights" + (f", {more} of them zero" if more else ""),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        network = self.classifier
        return {
            "file": str(self.path),
            "container": self.container,
            "bytes": self.size,
            "refused": self.refused,
            "architecture": network and network.architecture,
            "arguments": network and {name: value for name, value in network.arguments.items() if name != "structure"},
            "classes": network and network.classes,
            "class_names": None if network is None or network.class_names is None else list(network.class_names),
            "input_shape": None if network is None or network.input_shape is None else list(network.input_shape),
            "normalization": network and normalization_text(network.normalization),
            "normalization_known": network and network.normalization_known,
            "data": network and network.data,
            "parameters": self.parameters,
            "prunable": None if network is None else sum(layer.weights for layer in self.layers),
            "sparsity": network and network.sparsity,
            "sparsities": self.sparsities,
            "layers": [
                {
                    "layer": layer.name,
                    "shape": list(layer.shape),
                    "weights": layer.weights,
                    "kept": layer.kept,
                    "zeros": zeros,
                    "sparsity": layer.sparsity,
                }
                for layer, zeros in zip(self.layers, self.zeros, strict=True)
            ],
            "masks": list(self.conversions),
            "recorded": dict(self.recorded),
            "recipe": None if network is None or network.recipe is None else dict(network.recipe),
            "parent": network and network.parent,
            "fingerprint": network and network.fingerprint,
            "entries": [{"entry": entry.name, "holds": entry.holds, "role": entry.role} for entry in self.entries],
            "notes": list(self.notes),
        }


def inspect_checkpoint(
    path: str | os.PathLike[str],
    **options: Unpack[LoadOptions],
) -> Inspection:
    """Return what a checkpoint file holds, and what `load_classifier` makes of it; a refusal is a part of the answer.

    The arguments are those of `load_classifier`. Nothing in the file can run.

    Raises
    ------
    CheckpointError
        No such file, or one that is no checkpoint at all.
    """
    path = expanded(path)
    container = detect_format(path)
    classifier, refused = None, None
    try:
        classifier = read_classifier(path, **options)
        refuse_unknown(classifier)
    except ThinIceError as error:
        refused = str(error)
    content, checkpoint, masks = None, None, options.get("masks")
    if container is not Container.ONNX:
        try:
            content = _content(path, container, trust_pickle=options.get("trust_pickle", False))
            if not _is_own(content):
                checkpoint = find_weights(
                    content, str(path), density=options.get("density"), key=options.get("weights")
                )
                checkpoint.masks, checkpoint.masks_from = (None, None) if masks is None else read_masks(masks)
                plain_weights(checkpoint)
        except ThinIceError as error:
            refused = refused or str(error)
    notes = classifier.notes if classifier is not None else tuple(checkpoint.notes) if checkpoint is not None else ()
    return Inspection(
        path=path,
        container=str(container),
        size=path.stat().st_size,
        classifier=classifier,
        refused=refused,
        entries=tuple(_entries(content, checkpoint)),
        recorded=_recorded(content, checkpoint),
        notes=notes,
        of_factors=None if checkpoint is None else checkpoint.of_factors,
    )


def _content(path: Path, container: Container, *, trust_pickle: bool) -> Any:  # noqa: ANN401 - whatever was saved
    if container is Container.SAFETENSORS:
        tensors, metadata = read_safetensors(path)
        return {**metadata, "state_dict": tensors}
    return read_torch(path, trust_pickle=trust_pickle)


def _is_own(content: object) -> bool:
    return isinstance(content, Mapping) and (content.get("format") == FORMAT or FORMAT in content)


def _entries(content: object, checkpoint: RawCheckpoint | None) -> Iterator[Entry]:
    """Yield a row for each entry of a file; the parameters of a state dict are one."""
    if not isinstance(content, Mapping):
        if content is not None:
            yield Entry("", type(content).__name__, "")
        return
    if _is_own(content):
        tensors, masks = content["state_dict"], content.get("masks") or {}
        beside = sum(str(name).startswith(MASKS) for name in tensors)  # safetensors has but one level
        yield Entry("state_dict", f"{len(tensors) - beside} tensors", "weights")
        if number := len(masks) + beside:
            yield Entry("masks", f"{number} tensors", "masks")
        return
    counted: dict[int, tuple[int, int]] = {}
    direct = [name for name, value in content.items() if isinstance(value, Tensor)]
    if len(direct) > MOST_ENTRIES // 2 or len(direct) == len(content):
        yield Entry("", f"{len(direct)} tensors", "weights")
    else:
        direct = []
    others = [name for name in content if name not in direct] if direct else list(content)
    for name in others[:MOST_ENTRIES]:
        value = content[name]
        single = isinstance(value, Tensor) and value.ndim == 0
        number = 0 if single else count_tensors(value, {}, counted)[0]
        yield Entry(plain(name), _held(value, number), _role(str(name), checkpoint, holds_tensors=number > 0))
    if len(others) > MOST_ENTRIES:
        yield Entry("…", f"{len(others) - MOST_ENTRIES} further entries", "")


def _held(value: object, tensors: int) -> str:
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)}" if value.ndim else f"{value.item():g}"
    if tensors:
        return f"{tensors} tensor{'s' if tensors > 1 else ''}"
    if isinstance(value, bool | int | float | str) or value is None:
        return plain(value, LONGEST_VALUE)
    if isinstance(value, Mapping | list | tuple):
        return f"{len(value)} entries"
    return type(value).__name__


def _role(name: str, checkpoint: RawCheckpoint | None, *, holds_tensors: bool) -> str:
    """Return what became of an entry."""
    if checkpoint is None:
        return ""
    if any(used == name or used.startswith(f"{name}.") for used in checkpoint.used):
        return "masks"
    if name in checkpoint.outer:
        return "not used" if holds_tensors else "recorded"
    return "weights"


def _recorded(content: object, checkpoint: RawCheckpoint | None) -> dict[str, Any]:
    """Return the numbers and texts beside the weights, accuracies first."""
    outer: Mapping[Any, Any] = {} if checkpoint is None else checkpoint.outer
    if checkpoint is None and isinstance(content, Mapping) and not _is_own(content):
        outer = content
    values: dict[str, Any] = {}
    for name, entry in outer.items():
        options = isinstance(entry, Mapping) and (isinstance(entry, Record) or OPTIONS.search(str(name)))
        inner = {f"{name}.{key}": value for key, value in entry.items()} if options else {str(name): entry}
        for key, value in inner.items():
            single = isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()
            plain_value = value.item() if single else value
            if isinstance(plain_value, bool | int | float):
                values[plain(key)] = plain_value
            elif isinstance(plain_value, str):
                values[plain(key)] = plain(plain_value, LONGEST_VALUE)
    order = sorted(values, key=lambda key: not ACCURACY.search(key))
    return {key: values[key] for key in order[:MOST_RECORDED]}
