"""Normalisation layers inside a state dict: by which names they go, and on which scale their numbers are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from thinice.models.research_formats.raw_checkpoint import RawCheckpoint

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["take_normalization"]

SPELLINGS = (
    ("mean", "std"),
    ("means", "stds"),
    ("means", "sds"),
    ("mean", "sd"),
    ("mean", "stdev"),
    ("mean", "sigma"),
    ("mu", "sigma"),
    ("mu", "std"),
)
"""Words for mean and standard deviation; they may stand between others: ``_mean``, ``new_mean``, ``image_mean``."""
MOST_CHANNELS = 4
LARGEST_MEAN, LARGEST_STD = 2.0, 10.0
"""Of pixels in [0, 1]; larger numbers are of pixels in 0..255."""


def take_normalization(checkpoint: RawCheckpoint) -> bool:
    """Move a layer that holds nothing but mean and standard deviation out of the weights; return whether there was one.

    Numbers for pixels in 0..255 are divided by 255.

    Raises
    ------
    CheckpointError
        Two such layers, or numbers that cannot be a mean and a standard deviation.
    """
    weights = checkpoint.weights
    inside = Counter(name[: dot.end()] for name in weights for dot in re.finditer(r"\.", name))
    for mean_name, std_name in _pairs(weights):
        layer = mean_name[: mean_name.rfind(".") + 1]
        mean, std = weights[mean_name], weights[std_name]
        if std.numel() not in {1, mean.numel()} or mean.numel() > MOST_CHANNELS or (layer and inside[layer] > 2):
            continue
        if any(f".{mean_name}".endswith(f".{name}") for name in checkpoint.expected or ()):
            continue  # the user's own network normalises by itself
        means, stds = _decimals(mean), _decimals(std.expand_as(mean) if std.numel() == 1 else std)
        if checkpoint.normalization is not None:
            raise checkpoint.fail(
                f"has two normalisation layers, one of them {mean_name}: save the inner network alone"
            )
        how = f"normalisation found inside, as {mean_name} and {std_name}"
        if not all(0 < value < float("inf") for value in stds) or not all(abs(value) <= 255 for value in means):
            raise checkpoint.fail(
                f"has a normalisation layer whose numbers cannot be right: {mean_name} is {_text(means)}, {std_name} "
                f"is {_text(stds)}: save the network without it and give normalization=MEAN/STD (--normalization)"
            )
        if max(map(abs, means)) > LARGEST_MEAN or max(stds) > LARGEST_STD:
            how += f", for pixels in 0..255 (mean {_text(means)}, std {_text(stds)}): divided by 255"
            means, stds = (tuple(value / 255 for value in values) for values in (means, stds))
        checkpoint.normalization = means, stds
        del weights[mean_name], weights[std_name]
        checkpoint.note(how)
        return True
    return False


def _pairs(weights: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Yield the names of two tensors of one layer that are spelled as a mean and its standard deviation."""
    for name in list(weights):
        layer, dot, leaf = name.rpartition(".")
        words = leaf.split("_")
        for place, word in enumerate(words):
            for mean, std in SPELLINGS:
                partner = layer + dot + "_".join([*words[:place], std, *words[place + 1 :]])
                if word == mean and words[0] != "running" and partner in weights:
                    yield name, partner


def _text(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _decimals(values: Tensor) -> tuple[float, ...]:
    # the shortest decimal that float32 reads back exactly
    return tuple(float(str(value)) for value in values.float().flatten().numpy())
