"""Masks that lie beside the state dict, in the same file or in one of their own: by name, nested, or in a list."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from thinice.errors import InputError
from thinice.models.pickles import plain
from thinice.models.research_formats import NESTS, PREFIXES, RawCheckpoint
from thinice.models.research_formats.entries import flattened, is_zero_one, tensors_in
from thinice.models.research_formats.torch_masks import fitted_mask

__all__ = ["apply_outer_masks"]

NO_MASKS = "none"
MOST_LEVELS = 6
"""Levels of names that all masks share and no weight has."""
ELSEWHERE = re.compile(r"optim|sched|scaler|rng|random")
"""In the names of entries whose tensors are no masks, whatever they are called."""
ENDINGS = {"_mask": "", ".mask": "", "_masks": "", "mask_weight": "weight", "mask_bias": "bias"}
"""How a mask's name may end, and what the parameter has there instead."""

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
        return
    given = checkpoint.masks_from is not None
    if checkpoint.masks is not None:
        label = checkpoint.masks_from or "masks"
        sets = _given(checkpoint, label, checkpoint.masks)
    else:
        sets = _beside(checkpoint)
        if given:
            label = str(checkpoint.masks_from)
            if label not in sets:
                choices = f", and its entries with masks are {', '.join(map(plain, sets))}" if sets else ""
                raise InputError(f"`masks` {plain(label)} is no file, and no entry of {checkpoint.where} with masks{choices}")
            sets = {label: sets[label]}
    if not sets:
        return
    label, masks = next(iter(sets.items()))
    for other, more in sets.items():
        if not _equal(masks, more):
            raise checkpoint.fail(
                f"holds several sets of masks, under {plain(label)} and {plain(other)}: say which one with masks= "
                f"(--masks {plain(label)})"
            )
    _apply(checkpoint, label, masks)
    checkpoint.used |= {entry for entry in checkpoint.outer if any(_within(name, entry) for name in sets)}


def _within(name: str, entry: str) -> bool:
    return name == entry or name.startswith(f"{entry}.") or (name == BESIDE and "mask" in entry.lower())


BESIDE = "beside the weights"


def _given(checkpoint: RawCheckpoint, label: str, content: object) -> dict[str, Masks]:
    """Return the masks of a file of their own."""
    inside = {path: value for path, value in _containers(content, "")} if isinstance(content, Mapping) else {}
    sets = {f"{label}: {path}": _resolved(checkpoint, f"{label}: {path}", value) for path, value in inside.items()}
    if sets:
        return sets
    while isinstance(content, Mapping) and (nest := next((key for key in NESTS if isinstance(content.get(key), Mapping)), "")):
        content = content[nest]
    if isinstance(content, Mapping):
        named = flattened(content)
        masks: object = {name: value for name, value in named.items() if "mask" in name.lower()} or named
    else:
        masks = content
    if not tensors_in(masks):
        raise InputError(f"`masks` {plain(label)} holds no masks: give a file with a mask for each layer, by its name")
    return {label: _resolved(checkpoint, label, masks)}


def _beside(checkpoint: RawCheckpoint) -> dict[str, Masks]:
    """Return the sets of masks in the entries around the weights."""
    sets = {path: _resolved(checkpoint, path, value) for path, value in _containers(checkpoint.outer, "")}
    single = {
        name: value for name, value in checkpoint.outer.items() if isinstance(value, Tensor) and "mask" in name.lower()
    }
    if single:
        sets[BESIDE] = _resolved(checkpoint, BESIDE, single)
    for path, value in checkpoint.outer.items():
        if path in sets or not isinstance(value, Mapping | list) or any(name.startswith(f"{path}.") for name in sets):
            continue
        tensors = tensors_in(value)
        weighty = [tensor for tensor in tensors if tensor.ndim > 1]
        if weighty and all(map(is_zero_one, tensors)) and any(0 < int((mask != 0).sum()) < mask.numel() for mask in weighty):
            sets[path] = _resolved(checkpoint, path, value)  # zeros and ones of weights' shapes, whatever their name
    return {path: masks for path, masks in sets.items() if masks}


def _containers(held: Mapping[Any, Any], prefix: str, level: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the entries that are called masks and hold tensors, with their dotted names."""
    for name, value in held.items():
        lower, path = str(name).lower(), f"{prefix}{name}"
        if not isinstance(value, Mapping | list | tuple) or not tensors_in(value):
            continue
        if "mask" not in lower:
            direct = isinstance(value, Mapping) and any(isinstance(inner, Tensor) for inner in value.values())
            if isinstance(value, Mapping) and not direct and not ELSEWHERE.search(lower) and level < MOST_LEVELS:
                yield from _containers(value, f"{path}.", level + 1)
            continue
        inside = list(_containers(value, f"{path}.", level + 1)) if isinstance(value, Mapping) and level < MOST_LEVELS else []
        if inside and len(tensors_in(value)) == sum(len(tensors_in(inner)) for _, inner in inside):
            yield from inside  # FlyingBird: mask_info.masks
        else:
            yield path, value


def _resolved(checkpoint: RawCheckpoint, label: str, held: Any) -> Masks:  # noqa: ANN401 - a mapping or a list
    """Return each mask by the parameter that it is for."""
    if isinstance(held, Mapping) and held and all(isinstance(name, int) for name in held):
        held = [held[place] for place in sorted(held)]
    if not isinstance(held, Mapping):
        return _in_order(checkpoint, label, held)
    masks = flattened(held)
    if unread := [value for value in held.values() if isinstance(value, list | tuple) and tensors_in(value)]:
        raise checkpoint.fail(f"{plain(label)}: holds {len(unread)} lists of masks by name: give one mask for each name")
    by_underscores = {name.replace(".", "_"): name for name in checkpoint.weights}
    best: dict[str, str] = {}
    for level in range(MOST_LEVELS):
        if level and len({tuple(name.split(".")[:level]) for name in masks}) > 1:
            break
        targets = {
            name: target
            for name in masks
            if (target := _target(".".join(name.split(".")[level:]), checkpoint.weights, by_underscores))
        }
        if not best or len(targets) > len(best):
            best = targets
    for name in masks:
        if name not in best:
            raise checkpoint.fail(
                f"{plain(label)}.{plain(name)}: is a mask for no parameter of the network: give masks with its names, or "
                "masks='none' (--masks none), which leaves them out"
            )
    masks_by_target: Masks = {}
    for name, target in best.items():
        if target in masks_by_target:
            raise checkpoint.fail(f"{plain(label)}: has two masks for {target}: {plain(name)} is the second")
        masks_by_target[target] = (f"{label}.{name}", masks[name])
    return masks_by_target


def _target(name: str, weights: Mapping[str, Tensor], by_underscores: Mapping[str, str]) -> str | None:
    """Return the parameter that a mask of this name is for."""
    stems = [name]
    for prefix in PREFIXES:
        if stems[-1].startswith(prefix):
            stems.append(stems[-1].removeprefix(prefix))
    stems += [re.sub(r"_\d+$", "", stem) for stem in stems]  # FlyingBird numbers them
    stems += [
        stem.removesuffix(ending) + instead for stem in stems for ending, instead in ENDINGS.items() if stem.endswith(ending)
    ]
    for stem in stems:
        for choice in (stem, f"{stem}.weight"):
            if choice in weights:
                return choice
            if choice.replace(".", "_") in by_underscores:
                return by_underscores[choice.replace(".", "_")]
    return None


def _in_order(checkpoint: RawCheckpoint, label: str, held: Sequence[Any]) -> Masks:
    """Return the masks of a list: one for each convolution, for each weight, or for each parameter, in their order."""
    weights = checkpoint.weights
    if not all(mask is None or isinstance(mask, Tensor) for mask in held):
        raise checkpoint.fail(f"{plain(label)}: is a list of other things than masks: give masks by the names of weights")
    parameters = [
        name for name in weights if name.rpartition(".")[2] not in {"running_mean", "running_var", "num_batches_tracked"}
    ]
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
            f"{plain(label)}: is a list of {len(held)} masks, whose shapes do not tell which of the {len(layers)} weights "
            f"each is for{order}: give masks by the names of the weights"
        )
    names = next(iter(choices))
    return {
        name: (f"{label}[{place}]", mask) for place, (name, mask) in enumerate(zip(names, held, strict=True)) if mask is not None
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
        weights[target] = torch.where(keeps, weight, torch.zeros_like(weight))
    if marks_pruned and not marks_kept and kept:
        raise checkpoint.fail(
            f"{plain(label)}: masks keep only weights that are zero already, so they mark what is pruned: give them "
            "inverted, True where a weight is kept (masks=), or leave them out (--masks none)"
        )
    checkpoint.note(f"{len(masks)} masks found under {plain(label)} applied: {kept} of {total} weights are kept")
