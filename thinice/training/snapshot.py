"""A training between two epochs, in a file: what it needs to go on as if nothing had happened.

Random numbers need no room in it: each epoch's streams are made from the seed and the epoch's number. Nor does the
schedule: the learning rate follows from the recipe and the part that is done.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import pickle
import reprlib
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from thinice.errors import CheckpointError, InputError
from thinice.files import temporary_folder, writable
from thinice.models.architectures import origin_of
from thinice.models.classifier import Classifier
from thinice.models.fingerprints import fingerprint_of
from thinice.models.normalization import Normalized, inner, normalization_text
from thinice.models.pickles import check_zipped
from thinice.registry import told_settings
from thinice.training.history import Epoch
from thinice.training.loop import Hook, Objective

if TYPE_CHECKING:
    from pathlib import Path

    from thinice.data import Samples
    from thinice.models.weights import Masks
    from thinice.training.recipe import Recipe

__all__ = [
    "Key",
    "Snapshot",
    "SnapshotError",
    "cause_of",
    "differences",
    "read_snapshot",
    "snapshot_key",
    "write_snapshot",
]

FORMAT = 3
Key: TypeAlias = dict[str, Any]
DAMAGED = (pickle.UnpicklingError, RuntimeError, OSError, EOFError, LookupError, TypeError, ValueError, AttributeError)
"""What reading and taking over the parts of a file raises where they are not those of a snapshot."""


class SnapshotError(CheckpointError):
    """What lies where a training keeps its snapshot is none that it can go on from: without it, it begins anew."""


def snapshot_key(
    module: nn.Module,
    samples: Samples,
    recipe: Recipe,
    *,
    objective: Objective,
    masks: Masks | None,
    hooks: Sequence[Hook],
    validation: Samples | None = None,
) -> Key:
    """Return what two trainings must share for one to go on where the other stopped.

    Settings of recipe, objective and hooks as they are; fingerprints of samples and masks; of the network, its
    architecture with its arguments, its normalisation, and fingerprints of its structure (layers, names, shapes, what
    is trained) and of its frozen parameters, which a search for masks starts from. The trained ones at the start are
    not among them: where they got to is in the file.

    Raises
    ------
    InputError
        An objective or a hook whose settings cannot be told.

    """
    tensors = [
        (name, list(value.shape), str(value.dtype), value.requires_grad)
        for name, value in sorted(module.state_dict(keep_vars=True).items())
        if isinstance(value, Tensor)
    ]
    structure = hashlib.sha256(json.dumps([repr(module), tensors]).encode()).hexdigest()[:32]
    frozen = {name: parameter for name, parameter in module.named_parameters() if not parameter.requires_grad}
    origin = origin_of(inner(module))
    network = {
        "architecture": None if origin is None else origin.architecture,
        "arguments": None if origin is None else _described(origin.arguments, "network"),
        "normalization": normalization_text(module.normalization) if isinstance(module, Normalized) else None,
        "structure": structure,
        "frozen": fingerprint_of("frozen", {}, frozen, None),
    }
    return {
        "recipe": _described(recipe, "recipe"),
        "objective": _described(objective, "objective"),
        "hooks": [_described(hook, "hooks") for hook in hooks],
        "masks": None if masks is None else fingerprint_of("masks", {}, masks.kept, None),
        "data": samples.fingerprint,
        "validation": None if validation is None else validation.fingerprint,
        "network": network,
    }


def write_snapshot(
    path: Path,
    key: Key,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    hooks: Sequence[Hook],
    history: Sequence[Epoch],
    final: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the file in one step: a crash in the middle leaves that of the epoch before.

    `final` is the state of an earlier epoch, where the training would end with it.

    Raises
    ------
    InputError
        The state of a hook holds what a safe file cannot.
    CheckpointError
        The file cannot be written: the disk is full, say.

    """
    for hook in hooks:
        _check_plain(hook.state_dict(), hook)
    state = {
        "format": FORMAT,
        "key": key,
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict()["state"],
        "hooks": [hook.state_dict() for hook in hooks],
        "history": [asdict(epoch) for epoch in history],
        "final": None if final is None else dict(final),
    }
    try:
        with temporary_folder(path.parent) as unfinished:
            partial = unfinished / path.name
            torch.save(state, partial)
            partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch's own writer raises the latter where the disk is full
        before = f"that of epoch {len(history) - 1} is still there" if path.exists() else "there was none before"
        raise CheckpointError(
            f"{path} could not be written after epoch {len(history)} ({cause_of(error, path.parent)}): {before}; make "
            "room, then the same training goes on"
        ) from error


def cause_of(error: Exception, folder: Path) -> str:
    """Return why a file could not be written, in a few words; torch's own writer does not say that the disk is full."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error.__context__, OSError) and error.__context__.strerror:
        return error.__context__.strerror
    free = shutil.disk_usage(folder).free
    return f"{str(error).strip().partition(chr(10))[0][:120]}; {free / 2**20:.0f} MB are free"


class Snapshot(NamedTuple):
    """What a file holds besides the state of module, optimiser and hooks."""

    history: list[Epoch]
    final: dict[str, Tensor] | None


def read_snapshot(
    path: Path,
    key: Key,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    hooks: Sequence[Hook],
    *,
    overwrite: bool = False,
) -> Snapshot:
    """Return what is in the file after filling module, optimiser and hooks from it; no epochs where there is no file.

    With `overwrite` a snapshot of another training, or of another version, is removed; what is no snapshot never is.

    Raises
    ------
    SnapshotError
        The file is not a snapshot, or one of another training: the message names what differs.

    """
    writable(path, argument="resume", like=lambda _: True)  # what it holds is checked below
    if not path.exists():
        return Snapshot([], None)
    state, format_version, differing = _read(path, key)
    if overwrite and (format_version != FORMAT or differing):
        path.unlink()
        return Snapshot([], None)
    if format_version != FORMAT:
        raise SnapshotError(
            f"{path} is a snapshot of format {format_version}, this version reads format {FORMAT}: "
            "remove it, or choose another path"
        )
    if differing:
        raise SnapshotError(
            f"{path} belongs to another training ({'; '.join(differing)}): remove it, or choose another path"
        )
    try:
        history = [Epoch(**epoch) for epoch in state["history"]]
        if [epoch.number for epoch in history] != list(range(1, len(history) + 1)):
            raise ValueError(f"{path}: epochs are missing")
        module.load_state_dict(state["module"])
        optimizer.load_state_dict({"state": state["optimizer"], "param_groups": optimizer.state_dict()["param_groups"]})
        _check_shapes(optimizer)
        for hook, hook_state in zip(hooks, state["hooks"], strict=True):
            hook.load_state_dict(hook_state)
        final = state["final"]
        if final is not None:
            final = _fitting(dict(final), module)
    except DAMAGED as error:
        raise SnapshotError(f"{path} is a damaged snapshot: remove it, or choose another path") from error
    return Snapshot(history, final)


def _read(path: Path, key: Key) -> tuple[dict[str, Any], int, list[str]]:
    """Return what is in a file, its format, and in what its training differs from the one of the key."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle in another protocol: it is no snapshot, or it is
            with path.open("rb") as file:
                check_zipped(file, path)
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        format_version, other = int(state["format"]), dict(state["key"])
        differing = [] if other == key else differences(other, key) or ["fields are missing"]
    except (*DAMAGED, CheckpointError) as error:
        raise SnapshotError(f"{path} is not a snapshot of a training: choose another path") from error
    return state, format_version, differing


def _fitting(final: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Return a state on the device of the module, or raise ValueError where it is not one of it."""
    own = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in final.items()}:
        raise ValueError("the weights to end with are not those of this network")
    return {name: final[name].to(value) for name, value in own.items()}


def _check_plain(value: object, hook: Hook) -> None:
    if isinstance(value, list | tuple):
        for part in value:
            _check_plain(part, hook)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            _check_plain(name, hook)
            _check_plain(part, hook)
    elif not isinstance(value, Tensor) and value is not None and type(value) not in {bool, int, float, str}:
        raise InputError(
            f"`hooks`: the state of {_name_of(hook)} holds {type(value).__qualname__}, which a safe file cannot: "
            "give tensors, numbers, texts, lists and dicts"
        )


def _check_shapes(optimizer: torch.optim.Optimizer) -> None:
    for parameter, state in optimizer.state.items():
        for value in state.values():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(f"{tuple(value.shape)} does not fit {tuple(parameter.shape)}")


def _described(thing: object, argument: str) -> Any:  # noqa: ANN401 - plain values, as deep as the settings
    """Return settings as plain values that a safe file can hold; of tensors and networks, a fingerprint."""
    described: Any
    if thing is None or isinstance(thing, bool):
        described = thing
    elif isinstance(thing, int | float | str):
        described = next(kind(thing) for kind in (int, float, str) if isinstance(thing, kind))  # of NumPy's, torch's
    elif isinstance(thing, Tensor):
        described = fingerprint_of("tensor", {}, {"": thing}, None)
    elif isinstance(thing, Classifier):
        described = thing.fingerprint
    elif isinstance(thing, Mapping):
        described = {str(name): _described(value, argument) for name, value in thing.items()}
    elif isinstance(thing, list | tuple):
        described = [_described(value, argument) for value in thing]
    elif inspect.isfunction(thing) and "<" not in thing.__qualname__:  # neither a lambda nor inside a function
        described = f"{thing.__module__}:{thing.__qualname__}"
    elif is_dataclass(thing) and not isinstance(thing, type):
        settings = told_settings(thing)
        described = {"class": _name_of(thing)} | {name: _described(value, argument) for name, value in settings.items()}
    elif isinstance(thing, Objective | Hook) and type(thing).__init__ is object.__init__:  # it takes no settings
        described = {"class": _name_of(thing)}
    else:
        raise InputError(
            f"`{argument}`: a snapshot cannot tell the settings of {_name_of(thing)}: "
            "make it a dataclass of numbers, texts, tensors and the like, or leave `resume` out"
        )
    return described


def _name_of(thing: object) -> str:
    return f"{type(thing).__module__}:{type(thing).__qualname__}"


def differences(old: object, new: object, name: str = "") -> list[str]:
    """Return which settings differ, as text of one line each; what the file says is shortened and quoted."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*new, *(key for key in old if key not in new)]
        parts = [
            differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
            for key in names
            if old.get(key) != new.get(key)
        ]
        texts = [text for part in parts for text in part]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [pair for pair in zip(old, new, strict=True) if pair[0] != pair[1]]
        texts = [text for pair in pairs for text in differences(*pair, name)]
    else:
        texts = [f"{name} was {reprlib.repr(old)}, is {reprlib.repr(new)}"]
    return [" ".join(text.split())[:200] for text in texts[:5]]
