"""Masks that lie beside the state dict, in the same file or in one of their own: by name, nested, or in a list."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from thinice.errors import CheckpointError, InputError
from thinice.models.files import MOST_TENSORS
from thinice.models.pickles import plain
from thinice.models.research_formats import NESTS, RawCheckpoint
from thinice.models.research_formats.entries import STATISTICS, count_tensors, flattened, is_zero_one, tensors_in
from thinice.models.research_formats.index_masks import are_places
from thinice.models.research_formats.mask_names import targets_of
from thinice.models.research_formats.torch_masks import fitted_mask

__all__ = ["apply_outer_masks"]

NO_MASKS = "none"
OF_PRUNED = re.compile(r"pruned|remov|dropped|zero|delet|inver|negat")
"""In the names of zeros and ones that may be ones where a weight is pruned."""
BESIDE = "beside the weights"
"""How masks are called that lie there one by one."""
ELSEWHERE = re.compile(r"optim|sched|scaler|rng|random")
"""In the names of entries whose tensors are no masks, whatever they are called."""
Masks = dict[str, tuple[str, Tensor]]
"""By the parameter that it is for: the name of the mask in its file, and the mask."""


def apply_outer_masks(checkpoint: RawCheckpoint) -> None:
    """Apply the masks that stand outside the state dict, or those that the user gave instead.

    Raises
    ------
    CheckpointError
        Masks that fit no parameter, several sets of them, or masks that mark what is pruned.
    InputError
        Masks were named that are not there.
    """
    if checkpoint.masks_from == NO_MASKS:
        checkpoint.without_masks.clear()
        return
    if checkpoint.masks is not None:
        sets = _given(checkpoint.masks, checkpoint.masks_from or "masks")
    else:
        sets = {label: held for label, held in _beside(checkpoint).items() if not are_places(held)}
        sets |= _of_optimizers(checkpoint)
    named: dict[str, Masks] = {}
    for label, held in sets.items():
        try:
            named[label] = _resolved(checkpoint, label, held)
        except CheckpointError as error:
            if len(sets) == 1:
                raise
            others = ", ".join(map(plain, sets))
            raise CheckpointError(f"{error}; there are masks under {others}: masks= (--masks) takes one") from None
    if checkpoint.masks_from is None:
        named |= _unnamed(checkpoint, named)
    named = {label: masks for label, masks in named.items() if masks}
    if not named:
        return
    label, masks = next(iter(named.items()))
    for other, more in named.items():
        if not _equal(masks, more):
            raise checkpoint.fail(
                f"holds several sets of masks, under {plain(label)} and {plain(other)}: say which one with masks= "
                f"(--masks {plain(label)})"
            )
    _apply(checkpoint, label, masks)
    checkpoint.used |= {entry for entry in checkpoint.outer if any(_within(name, entry) for name in named)}


def _within(name: str, entry: str) -> bool:
    return name == entry or name.startswith(f"{entry}.") or (name == BESIDE and "mask" in entry.lower())


def _given(content: Any, label: str) -> dict[str, Any]:  # noqa: ANN401 - a mapping or a list
    """Return the masks of a file of their own, by where they lie in it."""
    if isinstance(content, Mapping) and (single := _single_masks(content)):
        return {label: single}
    if isinstance(content, Mapping) and (sets := _containers(content)):
        return {f"{label}: {path}": held for path, held in sets.items()}
    while isinstance(content, Mapping):
        nest = next((key for key in NESTS if isinstance(content.get(key), Mapping)), None)
        if nest is None:
            break
        content = content[nest]
    if isinstance(content, Mapping):
        lists = [value for value in content.values() if isinstance(value, list | tuple) and tensors_in(value)]
        named = flattened(content)
        content = {name: value for name, value in named.items() if "mask" in name.lower()} or named
        if not content and len(lists) == 1:
            content = lists[0]
    if not tensors_in(content):
        raise InputError(f"`masks` {plain(label)} holds no masks: give a file with a mask for each layer, by its name")
    return {label: content}


def _beside(checkpoint: RawCheckpoint) -> dict[str, Any]:
    """Return the entries around the weights that are called masks, or the one of them that the user asked for."""
    sets = _containers(checkpoint.outer)
    single = {
        name: value
        for name, value in checkpoint.outer.items()
        if isinstance(value, Tensor) and value.ndim > 0 and "mask" in name.lower()
    }
    if single:
        sets[BESIDE] = single
    label = checkpoint.masks_from
    if label is None:
        return sets
    if label not in sets:
        choices = ", ".join(map(plain, sets)) or "none"
        raise InputError(
            f"`masks` {plain(label)} is no file, and no entry with masks of {checkpoint.where}, which has {choices}"
        )
    return {label: sets[label]}


def _of_optimizers(checkpoint: RawCheckpoint) -> dict[str, Any]:
    """Return the masks that optimizers keep with the state of each parameter, by its name.

    Parameters have numbers there, in the order of the network.

    Raises
    ------
    CheckpointError
        Masks whose numbers do not tell the parameter.
    """
    sets: dict[str, Any] = {}
    names = [name for name in checkpoint.weights if name.rpartition(".")[2] not in STATISTICS]
    for label, optimizer in _optimizers(checkpoint.outer):
        sets |= {
            f"{label}.{name}": held
            for name, held in optimizer.items()
            if "mask" in str(name).lower() and isinstance(held, Mapping | list) and tensors_in(held)
        }
        groups, state = optimizer["param_groups"], optimizer.get("state")
        state = state if isinstance(state, Mapping) else {}
        numbered = [dict(_masks_in(inner, number)) for number, inner in state.items()]
        numbered += [dict(_masks_in(group, "")) for group in groups if isinstance(group, Mapping)]
        masks = {number: mask for some in numbered for number, mask in some.items()}
        if not masks:
            continue
        fitting = {
            names[number]: mask
            for number, mask in masks.items()
            if isinstance(number, int) and 0 <= number < len(names)
            if mask.shape == checkpoint.weights[names[number]].shape and is_zero_one(mask)
        }
        if len(fitting) < len(masks) or len(groups) > 1 or not checkpoint.ordered:
            raise checkpoint.fail(
                f"{plain(label)}: holds masks in the state of an optimizer, and its numbers do not tell which weight "
                "each is for: give masks by names of weights (masks=, --masks FILE), or leave them out (--masks none)"
            )
        sets[label] = fitting
    return sets


def _optimizers(entries: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yield the state dicts of optimizers in entries, with their dotted names; each container is visited once."""
    left: list[tuple[str, Any]] = [(str(name), value) for name, value in entries.items()]
    visited: set[int] = set()
    while left:
        path, held = left.pop(0)
        if not isinstance(held, Mapping | list | tuple) or id(held) in visited:
            continue
        visited.add(id(held))
        if isinstance(held, Mapping) and isinstance(held.get("param_groups"), list):
            yield path, held
        else:
            inner = held.items() if isinstance(held, Mapping) else enumerate(held)
            left += [(f"{path}.{name}", value) for name, value in inner if isinstance(value, Mapping | list | tuple)]


def _masks_in(state: Any, number: object) -> Iterator[tuple[object, Tensor]]:  # noqa: ANN401 - whatever lies there
    """Yield the masks in the state of one parameter, or in a group of them, with the number of the parameter."""
    for name, value in state.items() if isinstance(state, Mapping) else ():
        if "mask" not in str(name).lower():
            continue
        if isinstance(value, Tensor):
            yield number, value
        elif isinstance(value, list | tuple):
            numbers = state.get("params", range(len(value)))
            for place, mask in zip(numbers, value, strict=False):
                if isinstance(mask, Tensor):
                    yield place, mask


def _unnamed(checkpoint: RawCheckpoint, named: Mapping[str, Masks]) -> dict[str, Masks]:
    """Return entries of zeros and ones in the shapes of weights, whatever their name; what fits no weight stays."""
    sets: dict[str, Masks] = {}
    left = MOST_TENSORS
    for path, value in checkpoint.outer.items():
        if not isinstance(value, Mapping | list) or any(_within(name, path) for name in named):
            continue
        tensors = tensors_in(value)
        left -= len(tensors)
        weighty = [tensor for tensor in tensors if tensor.ndim > 1]
        if left < 0 or not weighty or not all(map(is_zero_one, tensors)):
            continue
        if any(0 < int((mask != 0).sum()) < mask.numel() for mask in weighty):
            with suppress(CheckpointError):
                sets[path] = _resolved(checkpoint, path, value)
            if path in sets and OF_PRUNED.search(path.lower()):
                raise checkpoint.fail(
                    f"{plain(path)}: holds zeros and ones, which may be ones where a weight is pruned: give masks that "
                    "are ones where a weight is kept (masks=, --masks FILE), or leave them out (--masks none)"
                )
    return sets


def _containers(held: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the entries that are called masks and hold tensors, by dotted names; each mapping is visited once."""
    sets: dict[str, Any] = {}
    visited: set[int] = set()
    counted: dict[int, tuple[int, int]] = {}
    left: list[tuple[str, Mapping[Any, Any]]] = [("", held)]
    while left:
        prefix, inner = left.pop()
        if id(inner) in visited:
            continue
        visited.add(id(inner))
        for name, value in inner.items():
            lower, path = str(name).lower(), f"{prefix}{name}"
            if not isinstance(value, Mapping | list | tuple) or not count_tensors(value, {}, counted)[0]:
                continue
            if single := _single_masks(value):
                sets[path] = single  # the sparsifiers of torch.ao.pruning: state, parameter, mask
            elif isinstance(value, Mapping) and (
                _leads_to_masks(value, counted) if "mask" in lower else _may_hold_masks(lower, value)
            ):
                left.append((f"{path}.", value))
            elif "mask" in lower:
                sets[path] = value
    return sets


def _may_hold_masks(name: str, held: Mapping[Any, Any]) -> bool:
    """Return whether masks may lie in an entry of another name: it is no network itself, and no optimizer."""
    return not ELSEWHERE.search(name) and not any(isinstance(value, Tensor) for value in held.values())


def _leads_to_masks(held: Mapping[Any, Any], counted: dict[int, tuple[int, int]]) -> bool:
    """Return whether the tensors of an entry all lie in entries that are called masks (FlyingBird: mask_info.masks)."""
    return all(
        "mask" in str(name).lower() and not isinstance(value, Tensor) and not _is_layer(value)
        for name, value in held.items()
        if count_tensors(value, {}, counted)[0]
    )


def _is_layer(held: object) -> bool:
    """Return whether an entry holds the masks of one layer: of its weight and bias."""
    return isinstance(held, Mapping) and bool(held) and held.keys() <= {"weight", "bias"}


def _single_masks(held: object) -> dict[str, Tensor]:
    """Return the masks that lie in a mapping of their own each, by its name."""
    if not isinstance(held, Mapping):
        return {}
    return {
        str(name): inner["mask"]
        for name, inner in held.items()
        if isinstance(inner, Mapping) and isinstance(inner.get("mask"), Tensor)
    }


def _resolved(checkpoint: RawCheckpoint, label: str, held: Any) -> Masks:  # noqa: ANN401 - a mapping or a list
    """Return each mask by the parameter that it is for."""
    if not isinstance(held, Mapping):
        return _in_order(checkpoint, label, held)
    if unread := [value for value in held.values() if isinstance(value, list | tuple) and tensors_in(value)]:
        raise checkpoint.fail(
            f"{plain(label)}: holds {len(unread)} lists of masks by name: give one mask for each name"
        )
    masks = flattened(held)
    targets = targets_of(list(masks), checkpoint.weights)
    if not targets and all(str(name).isdecimal() for name in held):
        return _in_order(checkpoint, label, [held[name] for name in sorted(held, key=int)])
    by_target: Masks = {}
    for name, mask in masks.items():
        target = targets.get(name)
        if target is None:
            raise checkpoint.fail(
                f"{plain(label)}.{plain(name)}: is a mask for no parameter of the network: give masks with its names; "
                "masks='none' (--masks none) leaves them out"
            )
        if target in by_target:
            raise checkpoint.fail(f"{plain(label)}: has two masks for {target}: {plain(name)} is the second")
        by_target[target] = (f"{label}.{name}", mask)
    return by_target


def _in_order(checkpoint: RawCheckpoint, label: str, held: Sequence[Any]) -> Masks:
    """Return the masks of a list: one for each convolution, for each weight, or for each parameter, in their order."""
    weights = checkpoint.weights
    if not all(mask is None or isinstance(mask, Tensor) for mask in held):
        raise checkpoint.fail(
            f"{plain(label)}: is a list of other things than masks: give masks by the names of weights"
        )
    parameters = [name for name in weights if name.rpartition(".")[2] not in STATISTICS]
    layers = [name for name in parameters if weights[name].ndim > 1]
    convolutions = [name for name in layers if weights[name].ndim > 2]
    choices = {
        tuple(names)
        for names in (convolutions, layers, layers[:-1], parameters)
        if len(names) == len(held)
        and all(mask is None or mask.shape == weights[name].shape for name, mask in zip(names, held, strict=True))
    }
    if len(choices) != 1 or not checkpoint.ordered:
        order = "" if checkpoint.ordered else "; safetensors does not keep the order of layers either"
        raise checkpoint.fail(
            f"{plain(label)}: is a list of {len(held)} masks, whose shapes do not tell which of the {len(layers)} "
            f"weights each is for{order}: give masks by the names of the weights"
        )
    names = next(iter(choices))
    return {
        name: (f"{label}[{place}]", mask)
        for place, (name, mask) in enumerate(zip(names, held, strict=True))
        if mask is not None
    }


def _equal(masks: Masks, others: Masks) -> bool:
    return masks.keys() == others.keys() and all(
        torch.equal(mask.to(torch.bool), others[name][1].to(torch.bool)) for name, (_, mask) in masks.items()
    )


def _apply(checkpoint: RawCheckpoint, label: str, masks: Masks) -> None:
    """Set to zero what is not kept, and note how much is."""
    weights = checkpoint.weights
    kept = total = 0
    marks_pruned = marks_kept = False
    for target, (name, mask) in masks.items():
        weight = weights[target]
        keeps = fitted_mask(checkpoint, name, weight, mask)
        is_zero = weight == 0
        marks_pruned = marks_pruned or (bool(is_zero.any()) and bool(is_zero[keeps].all()) and not bool(is_zero.all()))
        marks_kept = marks_kept or not bool(is_zero[keeps].all())
        kept, total = kept + int(keeps.sum()), total + weight.numel()
        checkpoint.without_masks.discard(target)
        weights[target] = checkpoint.masked(weight, keeps)
    if marks_pruned and not marks_kept and kept:
        raise checkpoint.fail(
            f"{plain(label)}: masks keep only weights that are zero already, so they mark what is pruned: give them "
            "inverted, True where a weight is kept (masks=), or leave them out (--masks none)"
        )
    checkpoint.note(f"{len(masks)} masks found under {plain(label)} applied: {kept} of {total} weights are kept")
