"""Weights as a length and a direction (Salimans and Kingma 2016): torch's weight norm, as a hook and parametrised."""

from __future__ import annotations

import re

import torch

from thinice.models.research_formats import RawCheckpoint

__all__ = ["multiply_weight_norms"]

PAIRS = (
    (re.compile(r"(?P<layer>(.*\.)?)(?P<leaf>\w+)_g"), "{layer}{leaf}_v"),
    (
        re.compile(r"(?P<layer>(.*\.)?)parametrizations\.(?P<leaf>\w+)\.original0"),
        "{layer}parametrizations.{leaf}.original1",
    ),
)
"""The names of lengths, and of the direction that belongs to each."""


def multiply_weight_norms(checkpoint: RawCheckpoint) -> None:
    """Multiply each direction, made as long as one, by its length; lengths are one for each filter, or for all."""
    weights, count = checkpoint.weights, 0
    for name in list(weights):
        for pattern, other in PAIRS:
            match = pattern.fullmatch(name)
            if match is None:
                continue
            direction_name, weight_name = other.format(**match.groupdict()), match["layer"] + match["leaf"]
            direction, length = weights.get(direction_name), weights[name]
            if direction is None or weight_name in weights or length.ndim not in {0, direction.ndim}:
                continue
            axes = [axis for axis in range(direction.ndim) if length.ndim == 0 or length.shape[axis] == 1]
            if not axes:
                continue
            norm = torch.linalg.vector_norm(direction, dim=axes, keepdim=True)
            weights[weight_name] = direction * (length / norm)
            del weights[name], weights[direction_name]
            count += 1
    if count:
        checkpoint.note(f"weight norm: {count} directions multiplied by their lengths")
