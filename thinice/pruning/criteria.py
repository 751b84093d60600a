"""How weights are ranked, and which of them go together: one table row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

__all__ = ["CRITERIA", "STRUCTURES", "Criterion"]

Criterion = Callable[[Tensor, torch.Generator], Tensor]
"""A weight tensor to scores of the same shape; the lowest go first."""


def magnitude(weight: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG001 (one shape for all criteria)
    """Return absolute values."""
    return weight.abs()


def random(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Return uniform draws for what is alive; what is zero already stays zero."""
    return torch.rand(weight.shape, generator=generator).masked_fill(weight == 0, -1.0)


CRITERIA: Mapping[str, Criterion] = {"magnitude": magnitude, "random": random}

STRUCTURES: Mapping[str, int | None] = {"weight": None, "kernel": 2, "filter": 1}
"""The leading axes that tell the units apart: one weight, one (output, input) pair, one output channel.

Units of several weights exist in convolutions alone: the outputs of the last linear layer are the classes.
"""
