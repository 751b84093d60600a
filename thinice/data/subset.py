"""`draw` returns the samples that `limit` takes: as many of each class, and the same ones every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from thinice.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["check_limit", "draw", "draw_note"]


def draw(sample_ids: Tensor, labels: Tensor, limit: int) -> Tensor:
    """Return the positions, ascending, of at most `limit` samples: as many of one class as of another, or one more.

    Classes that have fewer give all they have, and the others share the rest. Chance decides by the sample ids
    alone, and has no seed: every job that asks for 100 samples of a data set gets the same, and whoever asks for 200
    gets these and 100 others, so that what was measured already is not measured again.

    >>> draw(torch.arange(6), torch.tensor([0, 0, 0, 0, 0, 1]), 4)
    tensor([1, 2, 4, 5])
    """
    classes, keys = labels.numpy(), mixed(sample_ids.numpy().astype(np.uint64))
    by_class = np.lexsort((keys, classes))
    _, counts = np.unique(classes, return_counts=True)
    turn = np.empty(len(keys), np.int64)  # 0 for the first of its class, 1 for the second …
    turn[by_class] = np.arange(len(keys)) - np.repeat(counts.cumsum() - counts, counts)
    # in the last turn some classes go without: other keys decide, for large classes have the smaller ones
    first = np.lexsort((mixed(keys), turn))[:limit]
    return torch.from_numpy(np.sort(first))


def mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return SplitMix64 of each number (Steele, Lea and Flood, 2014): distinct ones stay distinct, their order is lost.

    >>> hex(mixed(np.zeros(1, np.uint64))[0])
    '0xe220a8397b1dcdaf'
    """
    mix = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mix = (mix ^ (mix >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mix = (mix ^ (mix >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mix ^ (mix >> np.uint64(31))


def draw_note(labels: Tensor, chosen: Tensor) -> str:
    """Return what `draw` took, for people to read.

    >>> draw_note(torch.tensor([0, 0, 0, 0, 0, 1]), torch.tensor([0, 2, 3, 5]))
    'limit: 4 of 6 samples, 1 to 3 of each class, the same ones every time'
    """
    classes = len(np.unique(labels.numpy()))
    counts = np.unique(labels[chosen].numpy(), return_counts=True)[1]
    least, most = counts.min(), counts.max()
    each = f"{least} of each class" if least == most else f"{least} to {most} of each class"
    if len(counts) < classes:
        each = f"{most} of each of {len(counts)} classes (there are {classes})"
    return f"limit: {len(chosen)} of {len(labels)} samples, {each}, the same ones every time"


def check_limit(limit: int | None) -> None:
    """Raise `InputError` unless the limit is None or a positive integer."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | np.integer) or limit < 1):
        raise InputError(f"`limit` must be a positive integer, got {limit!r}: leave it out for all samples")
