"""Writing of trainings and studies: curves, what samples did over the epochs, cells of a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thinice.store.columns import (
    DYNAMICS,
    json_text,
    shard_columns,
    write,
)
from thinice.store.connection import ask
from thinice.store.run_base import RunBase
from thinice.store.schema import now
from thinice.store.sql import query

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt


__all__ = ["TrainingWriter"]


class TrainingWriter(RunBase):
    """The part of a run that stores trainings, and cells of studies."""

    def training(
        self,
        *,
        fingerprint: str,
        name: str,
        dataset_id: int,
        architecture: str,
        objective: str,
        recipe: Mapping[str, Any],
        parent: str | None = None,
    ) -> int:
        """Return the training_id of a training; one of the same fingerprint keeps the row it has.

        Parameters
        ----------
        fingerprint : str
            Hash of all that decides the result.
        name, architecture, objective : str
            Of the network, and what is minimised.
        dataset_id : int
            From `dataset`: the samples, those held out included.
        recipe : mapping
            All settings of recipe and objective.
        parent : str, optional
            Fingerprint of the network that it goes on from.

        """
        facts = {"name": name, "dataset_id": dataset_id, "architecture": architecture, "objective": objective}
        with self._writing() as connection:
            key = {"fingerprint": fingerprint}
            return self._enter(connection, "trainings", key, **facts, recipe=json_text(recipe), parent=parent)[0]

    def add_epochs(self, training_id: int, epochs: Iterable[Mapping[str, Any]]) -> None:
        """Store epochs of a training, by the names of the columns; what was stored of them before is replaced."""
        with self._writing() as connection:
            for epoch in epochs:
                ask(connection, query("add_epoch"), **epoch, training_id=training_id, run_id=self.run_id)

    def add_dynamics(self, training_id: int, sample_ids: npt.ArrayLike, **columns: npt.ArrayLike) -> int:
        """Store what each sample did over the epochs of a training, and return for how many; it replaces the old.

        Parameters
        ----------
        training_id : int
            From `training`.
        sample_ids : array_like
            (N,) int64.
        **columns
            (N,) each: ``epochs``, ``forgotten``, ``learned``, ``confidence_mean``, ``confidence_variance``.

        """
        ready = shard_columns(sample_ids, DYNAMICS, columns)
        with self._writing() as connection:
            selection = self._looked_up(connection, "dataset_id", "trainings", training_id)
            key = {"training_id": training_id, "run_id": self.run_id}
            return write(connection, "add_dynamics", ready, selection=selection, **key)

    def end_training(self, training_id: int, *, checkpoint_id: int, chosen_epoch: int, notes: Sequence[str]) -> None:
        """Store which network came out of a training, and how it ended."""
        facts = {"checkpoint_id": checkpoint_id, "chosen_epoch": chosen_epoch, "notes": list(notes)}
        with self._writing() as connection:
            ask(connection, query("end_training"), training_id=training_id, **facts)

    def add_study_cells(self, cells: Iterable[Mapping[str, Any]]) -> None:
        """Store cells of studies, by the columns of ``study_cells``; each replaces what was there of it."""
        with self._writing() as connection:
            for cell in cells:
                ask(connection, query("add_study_cell"), **cell, run_id=self.run_id, now=now())

    def keep_study_cells(self, study: str, setups: Iterable[str], setup: str, cells: Iterable[str]) -> None:
        """Let a study have no other setups than these, and one of them no other cells, by their hashes.

        What was measured for others stays.
        """
        kept = {"setups": list(setups), "setup": setup, "cells": list(cells)}
        with self._writing() as connection:
            ask(connection, query("drop_study_cells"), study=study, **kept)
