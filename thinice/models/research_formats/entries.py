"""Which entry of a file is the network: told by name and content; and what else lies beside it, so that it is said."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from torch import Tensor

from thinice.errors import CheckpointError, InputError
from thinice.models.files import MOST_TENSORS
from thinice.models.pickles import plain
from thinice.models.plain_data import VERSIONS
from thinice.models.research_formats.raw_checkpoint import RawCheckpoint

__all__ = [
    "NESTS",
    "STATISTICS",
    "count_tensors",
    "find_weights",
    "flattened",
    "is_zero_one",
    "listed",
    "pick_network",
    "tensors_in",
    "weight_sets",
]

NESTS = (
    "state_dict",
    "net",
    "model",
    "model_state_dict",
    "weights",
    "state_dict_ema",
    "ema",
    "params",
    "model_state",
    "net_state",
    "net_state_dict",
    "network",
    "student",
    "student_state_dict",
    "best_model",
    "best_state_dict",
    "best_model_state_dict",
    "swa_state_dict",
    "swa_model",
    "model_ema",
    "ema_model",
    "ema_state_dict",
    "teacher",
    "teacher_state_dict",
    "module",
)
"""The usual names of the entry that holds the weights, the likeliest first."""
ROLES = ("model", "module", "net", "network", "student", "online", "online_model", "online_encoder", "backbone")
"""Of several networks in one state dict, the one that is meant, the likeliest first."""
LONGEST_NAME = 500
"""Letters in the name of a parameter."""
STATISTICS = {"running_mean", "running_var", "num_batches_tracked"}
"""The last parts of names that are no parameters."""
FEWEST = 3
"""Weights of two dimensions or more in what counts as a whole network."""
BESIDE = re.compile(
    r"optim|sched|scaler|rng|random|mask|callback|loop|loader|criterion|loss|metric|grad|history|buffer"
)
"""In the names of entries that hold no network."""
SUFFIXES = (".shadow", "_shadow", ".ema", "_ema", "_swa")
"""What follows the name of a parameter in that of its averaged copy."""
MOST_NAMED = 8


def find_weights(held: object, where: str, *, density: float | None = None, key: str | None = None) -> RawCheckpoint:
    """Return the state dict inside what a file holds: itself, or nested; under a usual name, or the only one.

    Parameters
    ----------
    held
        Plain data.
    where
        The file, for messages.
    density
        See `RawCheckpoint`.
    key
        The entry to take, where there are several: a dotted name, or the beginning of the names of the parameters.

    Raises
    ------
    CheckpointError
        No weights in it, naming the entries that are, or several networks without a usual name.
    InputError
        There is no such entry.

    Examples
    --------
    >>> import torch
    >>> checkpoint = find_weights({"epoch": 3, "state_dict": {"weight": torch.zeros(2)}}, "a.pt")
    >>> list(checkpoint.weights), checkpoint.notes
    (['weight'], ['weights found under state_dict'])
    """
    outer: dict[str, Any] = {}
    path: list[str] = []
    held = _by_position(held)
    whole, counted, asked = held, dict[int, Size](), key
    if key is not None and (steps := _steps(held, key)):
        for step in steps:
            held = _descend(held, step, path, outer)
        if averages := _averages(held):
            return _with_averages(find_weights(whole, where, density=density), averages, key)
        key = None
    while isinstance(held, Mapping):
        tensors = {name: value for name, value in held.items() if isinstance(value, Tensor) and isinstance(name, str)}
        nest = _way_down(held, tensors, where, path, counted)
        if nest is not None:
            held = _descend(held, nest, path, outer)
            continue
        nested = {} if tensors else flattened(held)
        if not tensors and sum(value.ndim > 1 for value in nested.values()) < FEWEST:
            break
        checkpoint = RawCheckpoint(where, tensors or nested, outer, density)
        _describe(checkpoint, held, path)
        if key is not None:
            _take_part(checkpoint, key, whole)
        elif asked is not None:
            return _with_statistics(checkpoint, whole, asked)
        return checkpoint
    entries = ", ".join(plain(name) for name in list(held)[:8]) if isinstance(held, Mapping) else type(held).__name__
    raise CheckpointError(f"{where}: holds no weights, only {entries or 'nothing'}: save the network's state_dict()")


def _describe(checkpoint: RawCheckpoint, held: Mapping[Any, Any], path: list[str]) -> None:
    """Note where the weights lie, and what lies beside them in the same mapping."""
    weights, where = checkpoint.weights, checkpoint.where
    if len(weights) > MOST_TENSORS:
        raise CheckpointError(f"{where}: holds more than {MOST_TENSORS} tensors: save the network's state_dict()")
    for name in weights:
        if not name.isprintable() or len(name) > LONGEST_NAME:
            raise CheckpointError(f"{where}: {plain(name)} is no name of a parameter: save the network's state_dict()")
    checkpoint.weights = {name: value.detach() for name, value in weights.items()}
    checkpoint.versions = _versions(held)
    if path:
        checkpoint.note(f"weights found under {'.'.join(path)}")
    if not any(name in held for name in weights):
        parts = [name for name, value in held.items() if isinstance(value, Mapping)]
        checkpoint.note(f"weights nested by layer ({listed(parts)}) put into one state dict")
        return
    beside = {name: value for name, value in held.items() if name not in weights}
    checkpoint.outer |= {_dotted(path, name): value for name, value in beside.items()}
    counted: dict[int, Size] = {}
    others = sorted(plain(name) for name, value in beside.items() if not count_tensors(value, {}, counted)[0])
    if others:
        checkpoint.note(f"entries beside the weights were not used: {', '.join(others[:5])}")


def _descend(held: Any, nest: str, path: list[str], outer: dict[str, Any]) -> Any:  # noqa: ANN401 - an entry
    """Return an entry, and note its neighbours in `outer`."""
    outer |= {_dotted(path, name): value for name, value in held.items() if name != nest}
    path.append(nest)
    return held[nest]


def _by_position(held: object) -> object:
    """Return what a file holds with lists of state dicts as entries ``0``, ``1``, … (convex_adversarial's cascades)."""
    if isinstance(held, Mapping):
        lists = {name: _by_position(value) for name, value in held.items() if _lists_state_dicts(value)}
        return {**held, **lists} if lists else held
    return {str(position): part for position, part in enumerate(held)} if _lists_state_dicts(held) else held


def _lists_state_dicts(held: object) -> TypeGuard[Sequence[Mapping[str, Tensor]]]:
    return (
        isinstance(held, list | tuple)
        and len(held) > 0
        and all(
            isinstance(part, Mapping) and any(isinstance(value, Tensor) for value in part.values()) for part in held
        )
    )


def _dotted(path: list[str], name: object) -> str:
    return ".".join([*path, str(name)])


Size = tuple[int, int]
"""How many weights of two dimensions or more there are, and the sum of the hashes of their shapes."""


def _way_down(
    held: Mapping[Any, Any], tensors: Mapping[str, Tensor], where: str, path: list[str], counted: dict[int, Size]
) -> str | None:
    """Return the name of the entry in which the weights lie; ``None`` where they lie here."""
    visited: dict[int, bool] = {}
    usual = next((key for key in NESTS if _holds_tensors(held.get(key), visited)), None)
    if usual is not None:
        return usual
    sizes = {
        name: size
        for name, value in held.items()
        if isinstance(name, str) and not BESIDE.search(name.lower()) and (size := _size(value, counted))[0]
    }
    if tensors:
        larger = [name for name, (count, _) in sizes.items() if count > len(tensors)]
        return larger[0] if len(larger) == 1 else None
    if len(sizes) == 1:
        return next(iter(sizes))
    frequent = Counter(sizes.values())
    alike = [name for name, size in sizes.items() if size[0] >= FEWEST and frequent[size] > 1]
    if alike:
        raise CheckpointError(
            f"{where}: holds several networks: {listed(_dotted(path, name) for name in alike)}: say which one with "
            f"weights= (--weights {plain(_dotted(path, alike[0]))})"
        )
    return None


def _size(held: object, counted: dict[int, Size]) -> Size:
    """Return the size of a network in nested mappings; each is counted once."""
    if not isinstance(held, Mapping) or "param_groups" in held:
        return 0, 0
    if id(held) not in counted:
        counted[id(held)] = 0, 0
        inner = [
            (1, hash(tuple(value.shape))) if isinstance(value, Tensor) and value.ndim > 1 else _size(value, counted)
            for value in held.values()
        ]
        counted[id(held)] = sum(count for count, _ in inner), sum(shapes for _, shapes in inner)
    return counted[id(held)]


def _holds_tensors(held: object, visited: dict[int, bool]) -> bool:
    """Return whether something is a mapping with tensors in it, or in one under a usual name; each is visited once."""
    if not isinstance(held, Mapping):
        return False
    if id(held) not in visited:
        visited[id(held)] = False  # until it is known: what contains itself holds no more for that
        visited[id(held)] = any(isinstance(value, Tensor) for value in held.values()) or any(
            _holds_tensors(held.get(key), visited) for key in NESTS
        )
    return visited[id(held)]


def flattened(held: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return the tensors of nested mappings by dotted names; each mapping is visited once.

    Examples
    --------
    >>> import torch
    >>> list(flattened({"conv1": {"weight": torch.zeros(2), "bias": None}}))
    ['conv1.weight']
    """
    tensors: dict[str, Tensor] = {}
    visited: set[int] = set()

    def visit(inner: Mapping[Any, Any], prefix: str) -> None:
        if id(inner) in visited or len(tensors) > MOST_TENSORS:
            return
        visited.add(id(inner))
        for name, value in inner.items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}{name}"] = value
            elif isinstance(value, Mapping):
                visit(value, f"{prefix}{name}.")

    visit(held, "")
    return tensors


def _versions(held: object) -> dict[str, Any]:
    """Return the versions of layers that torch keeps with a state dict, as prefixes that end in a dot, or are empty."""
    stored = getattr(held, VERSIONS, None)
    if not isinstance(stored, Mapping):
        return {}
    return {f"{name}." if name else "": value for name, value in stored.items() if isinstance(name, str)}


# One of several ------------------------------------------------------------------------------------------------------


def _steps(held: object, key: str) -> list[str]:
    """Return the names of the entries that a dotted name leads through; none where there is no such entry."""
    if not isinstance(held, Mapping):
        return []
    if key in held:
        return [key] if tensors_in(held[key]) else []
    for dot in re.finditer(r"\.", key):
        first = key[: dot.start()]
        if first in held and (rest := _steps(held[first], key[dot.end() :])):
            return [first, *rest]
    return []


def _averages(held: object) -> list[Tensor]:
    """Return averaged parameters that are listed in their order, without names (torch_ema: ``shadow_params``)."""
    if isinstance(held, Mapping):
        lists = [value for value in held.values() if isinstance(value, list) and tensors_in(value)]
        held = lists[0] if len(lists) == 1 and not _size(held, {})[0] else None
    return held if isinstance(held, list) and all(isinstance(value, Tensor) for value in held) else []


def _with_averages(checkpoint: RawCheckpoint, averages: list[Tensor], key: str) -> RawCheckpoint:
    """Return a checkpoint with averages for its parameters, in their order; its statistics stay."""
    names = [name for name in checkpoint.weights if name.rpartition(".")[2] not in STATISTICS]
    shapes = [checkpoint.weights[name].shape for name in names]
    if shapes != [value.shape for value in averages]:
        raise checkpoint.fail(
            f"{plain(key)} lists {len(averages)} tensors, which are not the {len(names)} parameters in their order: "
            "save the averaged network's state_dict()"
        )
    checkpoint.weights |= {name: value.detach() for name, value in zip(names, averages, strict=True)}
    checkpoint.used.add(key)
    checkpoint.note(f"{len(averages)} parameters replaced by those that {plain(key)} lists")
    return checkpoint


def _with_statistics(checkpoint: RawCheckpoint, whole: object, key: str) -> RawCheckpoint:
    """Return the checkpoint with the statistics of the network beside it, where averages of parameters have none."""
    if any(name.rpartition(".")[2] in STATISTICS for name in checkpoint.weights):
        return checkpoint
    try:
        base = find_weights(whole, checkpoint.where, density=checkpoint.density)
    except CheckpointError:
        return checkpoint
    names = {name: name if name in base.weights else f"module.{name}" for name in checkpoint.weights}
    statistics = [name for name in base.weights if name.rpartition(".")[2] in STATISTICS]
    if not statistics or not all(name in base.weights for name in names.values()):
        return checkpoint
    base.weights |= {names[name]: value for name, value in checkpoint.weights.items()}
    base.used.add(key)
    base.note(f"{len(names)} parameters replaced by those under {plain(key)}, which has no statistics of batch norms")
    return base


def _take_part(checkpoint: RawCheckpoint, key: str, held: object) -> None:
    """Leave the weights whose names begin with `key`, or are those of the copies that end in it."""
    prefix = f"{key}."
    endings = {f".{key}", f"_{key}"} if key else set()
    names = [name for name in checkpoint.weights if name.startswith(prefix)]
    ending = next((end for end in endings if any(name.endswith(end) for name in checkpoint.weights)), "")
    if names:
        left = len(checkpoint.weights) - len(names)
        checkpoint.without_prefix(prefix)
        checkpoint.note(f"weights found under {key}, as you asked; {left} beside them were not used")
    elif ending:
        copies = {
            name.removesuffix(ending): value for name, value in checkpoint.weights.items() if name.endswith(ending)
        }
        others = {name: value for name, value in checkpoint.weights.items() if not name.endswith(ending)}
        checkpoint.weights = others | copies
        checkpoint.note(f"{len(copies)} weights that end in {ending} taken, as you asked")
    else:
        choices = [path for path, _ in weight_sets(held)]
        choices = choices or sorted({name.partition(".")[0] for name in checkpoint.weights})
        raise InputError(
            f"`weights` {plain(key)!r} is no entry of {checkpoint.where} with weights: it has {listed(choices)}"
        )


def weight_sets(held: object) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the mappings that hold tensors by name, with their dotted names; optimizers and the like left out.

    Examples
    --------
    >>> import torch
    >>> [path for path, _ in weight_sets({"ema": {"weight": torch.zeros(2)}, "epoch": 3})]
    ['ema']
    """
    sets: list[tuple[str, Mapping[str, Any]]] = []
    visited: set[int] = set()

    def visit(inner: object, path: list[str]) -> None:
        if not isinstance(inner, Mapping) or id(inner) in visited or "param_groups" in inner:
            return
        visited.add(id(inner))
        if path and any(isinstance(value, Tensor) and isinstance(name, str) for name, value in inner.items()):
            sets.append((".".join(path), inner))
        for name, value in inner.items():
            if not BESIDE.search(str(name).lower()):
                visit(value, [*path, str(name)])

    visit(held, [])
    return sets


def pick_network(checkpoint: RawCheckpoint) -> None:
    """Leave one network where a state dict holds several, each under a name of its own (student and teacher)."""
    _leave_averages(checkpoint)
    groups: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, value in checkpoint.weights.items():
        first, _, rest = name.partition(".")
        if value.ndim > 1:
            inner = rest.removeprefix("module.")  # of averages
            groups.setdefault(first if rest else "", {})[inner or first] = tuple(value.shape)
    groups = {first: shapes for first, shapes in groups.items() if first and len(shapes) >= FEWEST}
    shapes = list(groups.values())
    if len(groups) < 2 or any(other != shapes[0] for other in shapes):
        return
    chosen = next((role for role in ROLES if role in groups), None)
    if chosen is None:
        raise checkpoint.fail(
            f"holds several networks, under {listed(groups)}: say which one with weights= (--weights "
            f"{plain(next(iter(groups)))})"
        )
    beside = sorted({name.partition(".")[0] for name in checkpoint.weights} - groups.keys())
    checkpoint.without_prefix(f"{chosen}.")
    others = listed(name for name in groups if name != chosen)
    checkpoint.note(
        f"weights found under {chosen}; the file holds another network under {others}: weights= (--weights) takes it"
    )
    if beside:
        checkpoint.note(f"{listed(beside)} beside the networks not used")


def _leave_averages(checkpoint: RawCheckpoint) -> None:
    """Drop averaged copies that stand beside the parameters, under their names with an ending."""
    weights = checkpoint.weights
    expected = checkpoint.expected or ()
    for ending in SUFFIXES:
        copies = [name for name in weights if name.endswith(ending) and name.removesuffix(ending) in weights]
        if copies and not any(name in expected for name in copies):
            for name in copies:
                del weights[name]
            checkpoint.note(
                f"{len(copies)} averaged copies that end in {ending} not used: weights= (--weights "
                f"{ending.strip('._')}) takes them"
            )


# What is left --------------------------------------------------------------------------------------------------------


def tensors_in(held: object) -> list[Tensor]:
    """Return the tensors in an entry, however deep; each container is visited once."""
    tensors: list[Tensor] = []
    visited: set[int] = set()

    def visit(inner: object) -> None:
        if isinstance(inner, Tensor):
            tensors.append(inner)
        elif isinstance(inner, Mapping | list | tuple) and id(inner) not in visited:
            visited.add(id(inner))
            for value in inner.values() if isinstance(inner, Mapping) else inner:
                visit(value)

    visit(held)
    return tensors


def is_zero_one(value: Tensor) -> bool:
    """Return whether a tensor holds nothing but zeros and ones.

    Examples
    --------
    >>> import torch
    >>> is_zero_one(torch.tensor([0.0, 1.0])), is_zero_one(torch.tensor([0.5]))
    (True, False)
    """
    numbers = value.float() if value.is_floating_point() else value  # some types of eight bits cannot be compared
    return bool(((numbers == 0) | (numbers == 1)).all())


def count_tensors(held: object, wanted: Mapping[tuple[int, ...], int], counted: dict[int, Size]) -> Size:
    """Return how many tensors an entry holds, however deep, and how many of the shapes of weights."""
    if isinstance(held, Tensor):
        return 1, int(tuple(held.shape) in wanted)
    if not isinstance(held, Mapping | list | tuple):
        return 0, 0
    if id(held) not in counted:
        counted[id(held)] = 0, 0
        values = held.values() if isinstance(held, Mapping) else held
        inner = [count_tensors(value, wanted, counted) for value in values]
        counted[id(held)] = sum(count for count, _ in inner), sum(same for _, same in inner)
    return counted[id(held)]


def listed(names: Any) -> str:  # noqa: ANN401 - any iterable of texts
    """Return the first few names, each printable."""
    shown = [plain(name) for name in names]
    return ", ".join(shown[:MOST_NAMED]) + (", …" if len(shown) > MOST_NAMED else "")
