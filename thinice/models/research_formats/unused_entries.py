"""What lies beside the weights and was not used is said: other networks, tensors of any kind, a normalisation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from thinice.models.pickles import plain
from thinice.models.research_formats.entries import Size, count_tensors, listed, weight_sets
from thinice.models.research_formats.raw_checkpoint import RawCheckpoint

__all__ = ["note_unused"]


def note_unused(checkpoint: RawCheckpoint) -> None:
    """Note what lies beside the weights and was not used: other networks, and tensors of any kind."""
    wanted = Counter(tuple(value.shape) for value in checkpoint.weights.values() if value.ndim > 1)
    beside = {path: entry for path, entry in checkpoint.outer.items() if path not in checkpoint.used}
    networks = [
        path
        for path, entries in weight_sets(beside)
        if wanted
        and not wanted - Counter(tuple(value.shape) for value in entries.values() if isinstance(value, Tensor))
    ]
    counted: dict[int, Size] = {}
    left: list[str] = []
    for name, entry in beside.items():
        if isinstance(entry, Tensor) and entry.ndim == 0:  # a number
            continue
        count, same = count_tensors(entry, wanted, counted)
        if count and not any(network == name or network.startswith(f"{name}.") for network in networks):
            of_shapes = f", {same} of the weights' shapes" if same else ""
            left.append(f"{plain(name)} ({count} tensor{'s' if count > 1 else ''}{of_shapes})")
    if networks:
        checkpoint.note(
            f"other weights of such a network lie under {listed(networks)}: weights= (--weights {plain(networks[0])}) "
            "takes them instead"
        )
    if left:
        checkpoint.note(f"beside the weights, not used: {listed(left)}")
    _note_normalization(beside, checkpoint)


def _note_normalization(beside: Mapping[str, Any], checkpoint: RawCheckpoint) -> None:
    """Note a mean and a standard deviation that the file holds beside its network: nobody says what they are for."""
    for mean, std in (("mean", "std"), ("mu", "sigma"), ("means", "stds")):
        numbers = [_numbers(beside.get(name)) for name in (mean, std)]
        if all(numbers):
            text = "/".join(",".join(f"{number:g}" for number in part) for part in numbers)
            checkpoint.note(
                f"{mean} and {std} beside the weights are not part of the network: normalization= (--normalization "
                f"{text}) applies them"
            )


def _numbers(held: object) -> list[float]:
    """Return the numbers of an entry that may be one a channel, else none."""
    if isinstance(held, Tensor):
        return [float(number) for number in held.flatten()] if held.numel() in {1, 3} else []
    values = held if isinstance(held, list | tuple) else [held]
    return [float(value) for value in values if isinstance(value, int | float)] if len(values) in {1, 3} else []
