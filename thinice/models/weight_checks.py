"""What weights out of a file must be: finite numbers of a type to compute with, and of the whole network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from thinice.errors import CheckpointError, WrongFileError
from thinice.models.pickles import plain

if TYPE_CHECKING:
    from thinice.models.research_formats import RawCheckpoint

__all__ = ["check_finite", "note_types", "readable", "refuse_lost_layers"]

COMPUTABLE = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


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


def check_finite(weights: Mapping[str, Any], where: str) -> None:
    """Refuse what is no tensor, or not finite in float32, in which networks compute here."""
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise CheckpointError(f"{where}: {plain(name)} is a {kind}, not a tensor: save the state_dict()")
        if value.is_quantized:
            raise CheckpointError(f"{where}: {plain(name)} is quantised: save the network in float32")
        if not value.is_floating_point():
            continue
        if count := int((~torch.isfinite(readable(value, name, where))).sum()):
            raise WrongFileError(
                f"{where}: {plain(name)} has {count} values that are NaN or infinite: take another checkpoint"
            )
        if count := int((~torch.isfinite(value.to(torch.float32))).sum()):
            raise WrongFileError(
                f"{where}: {plain(name)} has {count} values beyond the range of float32: take another checkpoint"
            )


def readable(value: Tensor, name: str, where: str) -> Tensor:
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


def note_types(checkpoint: RawCheckpoint) -> None:
    """Note which other types than float32 the weights have."""
    kinds = {value.dtype for value in checkpoint.weights.values() if value.is_floating_point()} - {torch.float32}
    if kinds:
        names = sorted(str(kind).removeprefix("torch.") for kind in kinds)
        checkpoint.note(f"weights converted to float32 from {', '.join(names)}")
