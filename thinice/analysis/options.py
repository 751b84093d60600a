"""The options that `measure`, `compare` and `evaluate` share, as types for keyword arguments.

Each has its default where it is used, and is described there. Any other keyword is a setting of the attack, such as
``restarts=8``: which there are depends on the attack, which checks them; type checkers know ``steps`` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

from thinice.attacks import Attack
from thinice.data import Samples
from thinice.engines import BatchSize, Reporter
from thinice.store import Store
from thinice.types import Basis, Distances, Effort, Norm, Precision

if TYPE_CHECKING:
    import torch

__all__ = [
    "CompareOptions",
    "EvaluateOptions",
    "RunOptions",
    "SearchOptions",
    "SkipKnown",
    "StoreOptions",
    "StoredRunOptions",
]

SkipKnown = bool | Literal["both"]
"""Whether samples that the store knows to be broken are spared; ``"both"`` tells the accuracy with and without them."""


class SearchOptions(TypedDict, total=False):
    """How an attack searches."""

    norm: Norm
    effort: Effort
    seed: int
    precision: Precision
    steps: int


class RunOptions(TypedDict, total=False):
    """How networks run."""

    device: str | torch.device
    batch_size: BatchSize
    compiled: bool


class StoreOptions(TypedDict, total=False):
    """Where results are kept, and what is noted as their origin."""

    store: str | Path | Store | None
    command: Sequence[str] | None


class StoredRunOptions(RunOptions, StoreOptions, total=False):
    """How networks run, and where results are kept."""


class CompareOptions(SearchOptions, StoredRunOptions, total=False):
    """Options of `compare`."""

    attack: str | Attack
    distances: Distances
    basis: Basis
    budget: float | str | None
    robust_by: str | None
    progress: Reporter | bool


class EvaluateOptions(SearchOptions, StoredRunOptions, total=False):
    """Options of `evaluate`."""

    attack: str | Attack
    skip_known: SkipKnown
    checks: bool
    tune_on: Samples | None
    progress: Reporter | bool
