"""Masks that list the places of weights, kept or pruned ones, instead of a zero or a one for each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from thinice.models.pickles import plain
from thinice.models.research_formats import RawCheckpoint
from thinice.models.research_formats.entries import is_zero_one
from thinice.models.research_formats.mask_names import targets_of

__all__ = ["apply_index_masks", "are_places"]

OF_KEPT = re.compile(r"keep|kept|remain|surviv|alive|non_?zero|active|unpruned|retain|preserv")
OF_PRUNED = re.compile(r"(?<!un)pruned|remov|drop|delet|dead|(?<!non)(?<!non_)zero")
OF_PLACES = re.compile(r"idx|ind(ex|ices)|coord|position|locat|mask|prun|sparse")
"""In the names of entries that hold places of weights: which ones, and that they are some."""
WHOLE = re.compile(r"filter|channel|kernel|neuron|out_")
"""In the names of entries whose numbers count more than single weights."""
WHOLE_NUMBERS = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
ENOUGH = 20
"""So many places show how far numbers go."""


@dataclass(frozen=True, slots=True)
class Places:
    """The numbers of one entry, by the parameter whose places they are."""

    label: str
    by_target: Mapping[str, Tensor]


def apply_index_masks(checkpoint: RawCheckpoint) -> None:
    """Set to zero what entries of places prune, where names and numbers say it; what zeros show already is noted.

    Raises
    ------
    CheckpointError
        Places of weights, and the file does not say whether of kept or of pruned ones, or what they count.
    """
    if checkpoint.masks_from is not None or checkpoint.masks is not None:  # others were given, or none
        return
    for places in _entries(checkpoint):
        if all(len(numbers) == len(checkpoint.weights[name]) for name, numbers in places.by_target.items()):
            continue  # which filters of a wider network these are: the others are gone
        masks = _masks(places, checkpoint.weights)
        agreeing = [kept for kept in masks if _as_the_zeros(kept, checkpoint.weights)]
        chosen = agreeing[0] if agreeing else _told(places, checkpoint)
        total = sum(mask.numel() for mask in chosen.values())
        kept = sum(int(mask.sum()) for mask in chosen.values())
        for name, mask in chosen.items():
            checkpoint.weights[name] = checkpoint.masked(checkpoint.weights[name], mask)
        checkpoint.used.add(places.label)
        how = "agree with the zeros of the weights" if agreeing else "applied"
        checkpoint.note(
            f"places of weights in {len(chosen)} layers under {plain(places.label)} {how}: {kept} of {total} weights "
            "are kept"
        )


def are_places(held: object) -> bool:
    """Return whether an entry holds whole numbers that are not all zeros and ones, as places are and masks are not."""
    tensors = [numbers for _, numbers in _flat(held)]
    return bool(tensors) and not all(map(is_zero_one, tensors))


def _entries(checkpoint: RawCheckpoint) -> Iterator[Places]:
    """Yield the entries beside the weights that are called as places are, and whose names are those of weights."""
    left: list[tuple[str, Any]] = [(str(name), value) for name, value in checkpoint.outer.items()]
    visited: set[int] = set()
    while left:
        label, held = left.pop(0)
        if not isinstance(held, Mapping) or id(held) in visited or label in checkpoint.used or "param_groups" in held:
            continue
        visited.add(id(held))
        numbers, lower = dict(_flat(held)), label.lower()
        holders = {name for name, value in held.items() if name in numbers or any(_flat(value))}
        inner = len(holders) == 1 and not holders & numbers.keys()  # one entry of its own name holds them all
        called = OF_PLACES.search(lower) or OF_KEPT.search(lower)
        if called and numbers and not inner and not all(map(is_zero_one, numbers.values())):
            targets = targets_of(list(numbers), checkpoint.weights)
            if len(targets) == len(numbers):
                yield Places(label, {targets[name]: places for name, places in numbers.items()})
                continue
        left += [(f"{label}.{name}", value) for name, value in held.items() if isinstance(value, Mapping)]


def _flat(held: object) -> Iterator[tuple[str, Tensor]]:
    """Yield the whole numbers of nested mappings by dotted names: tensors, or lists; each mapping is visited once."""
    left: list[tuple[str, object]] = [("", held)]
    visited: set[int] = set()
    while left:
        prefix, inner = left.pop(0)
        if not isinstance(inner, Mapping) or id(inner) in visited:
            continue
        visited.add(id(inner))
        for name, value in inner.items():
            if isinstance(value, Mapping):
                left.append((f"{prefix}{name}.", value))
            elif isinstance(value, list) and value and all(type(number) is int for number in value):
                with suppress(RuntimeError):  # beyond 64 bits
                    yield f"{prefix}{name}", torch.tensor(value)
            elif isinstance(value, Tensor) and value.ndim in {1, 2} and value.dtype in WHOLE_NUMBERS:
                yield f"{prefix}{name}", value.long()


def _masks(places: Places, weights: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return each set of masks that the places may mean: of kept weights or pruned ones, single or whole filters."""
    kinds = [_marked(places, weights, whole=whole) for whole in (False, True)]
    return [
        {name: mask if kept else ~mask for name, mask in marked.items()}
        for marked in kinds
        if marked is not None
        for kept in (True, False)
    ]


def _marked(places: Places, weights: Mapping[str, Tensor], *, whole: bool) -> dict[str, Tensor] | None:
    """Return a mask for each weight, True at its places; ``None`` where they cannot be that."""
    marked = {}
    for name, numbers in places.by_target.items():
        weight = weights[name]
        mask = torch.zeros(weight.shape, dtype=torch.bool)
        if numbers.ndim == 2:  # the coordinates of each weight, as torch.nonzero gives them
            sizes = torch.tensor(weight.shape)
            if whole or numbers.shape[1] != weight.ndim or not bool(((numbers >= 0) & (numbers < sizes)).all()):
                return None
            mask[tuple(numbers.T)] = True
        else:
            most = len(weight) if whole else weight.numel()
            if weight.ndim < 2 or len(set(numbers.tolist())) < len(numbers):
                return None
            if bool((numbers < 0).any()) or bool((numbers >= most).any()):
                return None
            (mask if whole else mask.view(-1))[numbers] = True
        marked[name] = mask
    return marked


def _as_the_zeros(kept: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> bool:
    """Return whether exactly what masks drop is zero already."""
    drops = any(not bool(mask.all()) for mask in kept.values())
    return drops and all(torch.equal(weights[name] != 0, mask) for name, mask in kept.items())


def _told(places: Places, checkpoint: RawCheckpoint) -> Mapping[str, Tensor]:
    """Return the masks that name and numbers of an entry say without a doubt."""
    lower, label = places.label.lower(), plain(places.label)
    way_out = "give masks of zeros and ones (masks=, --masks FILE), or leave it out (--masks none)"
    singles, whole = (_marked(places, checkpoint.weights, whole=kind) for kind in (False, True))
    if WHOLE.search(lower):
        singles = None
    elif whole is None or _go_far(places, checkpoint.weights):
        whole = None
    if (singles is None) == (whole is None):
        told = "which fit no weight" if singles is None else "of single weights or of whole filters"
        raise checkpoint.fail(f"{label}: holds places of weights as numbers, {told}: {way_out}")
    of_kept, of_pruned = bool(OF_KEPT.search(lower)), bool(OF_PRUNED.search(lower))
    if of_kept == of_pruned:
        raise checkpoint.fail(
            f"{label}: holds places of weights as numbers, and does not say whether these are kept or pruned: {way_out}"
        )
    marked = singles or whole or {}
    return {name: mask if of_kept else ~mask for name, mask in marked.items()}


def _go_far(places: Places, weights: Mapping[str, Tensor]) -> bool:
    """Return whether numbers go up to those of single weights, in every layer that has enough of them."""
    ends = [
        int(numbers.max()) >= weights[name].numel() / 2
        for name, numbers in places.by_target.items()
        if numbers.ndim == 1 and len(numbers) >= ENOUGH
    ]
    return bool(ends) and all(ends)
