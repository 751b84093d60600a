"""A training between two epochs, in a file: what `fit` needs to go on as if nothing had happened."""

from __future__ import annotations

import pickle
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from thinice.errors import CheckpointError
from thinice.writing import nest, writable

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from thinice.training.recipe import Recipe

__all__ = ["Epoch", "read_snapshot", "write_snapshot"]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training data: mean loss and accuracy on it, as seen on the way.

    `number` counts from 1; `learning_rate` is that of the first step; `validation_accuracy` is measured after
    the epoch, ``None`` without validation samples.
    """

    number: int
    learning_rate: float
    loss: float
    accuracy: float
    validation_accuracy: float | None
    seconds: float


def write_snapshot(
    path: Path,
    recipe: Recipe,
    samples: int,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    history: list[Epoch],
) -> None:
    """Write the file in one step: a crash in the middle leaves that of the epoch before."""
    state = {
        "recipe": asdict(recipe),
        "samples": samples,
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": [asdict(epoch) for epoch in history],
    }
    with nest(path.parent) as unfinished:
        partial = unfinished / path.name
        torch.save(state, partial)
        partial.replace(path)


def read_snapshot(
    path: Path, recipe: Recipe, samples: int, module: nn.Module, optimizer: torch.optim.Optimizer
) -> list[Epoch]:
    """Fill module and optimizer from the file and return its history; nothing happens where it does not exist.

    Raises
    ------
    CheckpointError
        The file is not a snapshot, or one of another recipe or number of samples.

    """
    writable(path, argument="resume", like=lambda _: True)  # what it holds is judged below
    if not path.exists():
        return []
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        same = (state["recipe"], state["samples"]) == (asdict(recipe), samples)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a snapshot of a training: give `resume` another path") from error
    if not same:
        raise CheckpointError(f"{path} belongs to another training: remove it, or give `resume` another path")
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    return [Epoch(**epoch) for epoch in state["history"]]
