"""What a run runs on, as the store notes it: so that it can be repeated, or refused where something is another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from thinice.engines import DeterministicEngine, Engine, engine_name
from thinice.engines.local import first_batch_size
from thinice.models import Classifier
from thinice.store import Run

__all__ = ["note_conditions"]


def note_conditions(
    run: Run, dataset_id: int, engine: Engine, values: int, networks: Sequence[tuple[int, Classifier]]
) -> None:
    """Store what a run runs on: its folder, engine and threads, and the networks that it was given.

    Parameters
    ----------
    run, dataset_id
        The run, and the store's key of its samples.
    engine, values
        What computes, and how many values a sample has.
    networks
        Each with the store's key of it.

    """
    inner = engine.inner if isinstance(engine, DeterministicEngine) else engine
    batch_size = getattr(inner, "batch_size", None)
    run.conditions(
        dataset_id,
        folder=_working_folder(),
        engine=engine_name(inner),
        workers=getattr(inner, "workers", None),
        threads=torch.get_num_threads(),
        batch_size=None if batch_size is None else first_batch_size(batch_size, values, inner.device),
        deterministic=inner is not engine,
        networks=[(key, network.name, network.path and network.path.absolute()) for key, network in networks],
    )


def _working_folder() -> str | None:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # it was removed
        return None
