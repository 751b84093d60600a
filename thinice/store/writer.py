"""Writing: a run brings networks, samples and attacks into the store, and then what it measures of them."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import numpy.typing as npt

from thinice.errors import InputError, StoreError
from thinice.store.columns import (
    CLAIMED_BOUNDS,
    DYNAMICS,
    FINDING,
    GRADIENTS,
    LOWER_BOUNDS,
    PREDICTIONS,
    SAMPLES,
    TRANSFERS,
    AttackedColumns,
    Columns,
    MeasuredColumns,
    adversarial_columns,
    epsilon_columns,
    json_text,
    positions,
    shard_columns,
    write,
)
from thinice.store.connection import ask, quoted, reading, writing
from thinice.store.schema import add_missing_statistics, now
from thinice.store.sql import query

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from thinice.store.connection import Connection
    from thinice.types import Norm

__all__ = ["Run"]


class Run:
    """A run of a command, which writes what it measures; made by `Store.run`, ended by leaving it.

    Every row that it writes names it. Each method is one transaction of its own and keeps nothing open, so several
    runs may write to one store in turn.

    Attributes
    ----------
    run_id : int
        The row of this run in the table ``runs``.

    """

    def __init__(self, path: Path, patience: float, run_id: int) -> None:
        self.run_id = run_id
        self._path, self._patience = path, patience

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.run_id}, {str(self._path)!r})"

    def checkpoint(
        self,
        *,
        fingerprint: str,
        name: str,
        architecture: str,
        classes: int,
        sparsity: float,
        weights: int | None = None,
        path: str | PathLike[str] | None = None,
        class_names: Sequence[str] | None = None,
        data: str | None = None,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
        notes: Sequence[str] = (),
        parent: str | None = None,
    ) -> int:
        """Return the checkpoint_id of a network; one of the same fingerprint keeps the row it has."""
        scaling = None if normalization is None else json.dumps([list(map(float, part)) for part in normalization])
        with self._writing() as connection:
            return self._enter(
                connection,
                "checkpoints",
                {"fingerprint": fingerprint},
                name=name,
                architecture=architecture,
                classes=int(classes),
                sparsity=float(sparsity),
                weights=weights,
                path=None if path is None else fspath(path),
                class_names=None if class_names is None else list(class_names),
                data=data,
                normalization=scaling,
                notes=list(notes),
                parent=parent,
            )[0]

    def dataset(
        self,
        *,
        fingerprint: str,
        name: str,
        split: str,
        shape: Sequence[int],
        classes: Sequence[str],
        sample_ids: npt.ArrayLike,
        labels: npt.ArrayLike,
        digests: npt.ArrayLike,
        sources: Sequence[str] | None = None,
    ) -> int:
        """Return the dataset_id of a selection of samples; one of the same fingerprint keeps the row it has.

        Parameters
        ----------
        fingerprint : str
            Hash of the whole selection.
        name, split : str
            Which data set, and which part of it.
        shape : sequence of int
            Shape of one input, (C, H, W).
        classes : sequence of str
            Class names in the order of the labels.
        sample_ids, labels, digests : array_like
            (N,) int64, int64, uint64: index in the untouched data set, true class, hash of the content.
        sources : sequence of str, optional
            File of each sample.

        Raises
        ------
        InputError
            For columns of different lengths, or a sample that is there twice.

        """
        columns = shard_columns(sample_ids, SAMPLES, {"labels": labels, "digests": digests, "sources": sources})
        with self._writing() as connection:
            dataset_id, is_new = self._enter(
                connection,
                "datasets",
                {"fingerprint": fingerprint},
                name=name,
                split=split,
                n=len(columns["sample_id"]),
                shape=[int(size) for size in shape],
                classes=list(classes),
            )
            if is_new:
                write(connection, "add_samples", columns, dataset_id=dataset_id)
            return dataset_id

    def attack(self, *, name: str, norm: Norm, settings: Mapping[str, str | float | bool | None]) -> int:
        """Return the attack_id of an attack with all its settings, whatever their order."""
        text = json_text({"name": name, "norm": norm, "settings": dict(settings)})
        key = {"fingerprint": hashlib.sha256(text.encode()).hexdigest()}
        with self._writing() as connection:
            return self._enter(connection, "attacks", key, name=name, norm=norm, settings=json_text(dict(settings)))[0]

    def measurement(self, checkpoint_id: int, dataset_id: int, attack_id: int) -> int:
        """Return the measurement_id of a network, a selection of samples and an attack."""
        key = {"checkpoint_id": checkpoint_id, "dataset_id": dataset_id, "attack_id": attack_id}
        with self._writing() as connection:
            return self._enter(connection, "measurements", key)[0]

    def unmeasured(self, measurement_id: int, sample_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the positions in `sample_ids` that still have to be measured, ascending.

        What other selections of the same data hold, measured by the same attack on the same network, is copied
        into this measurement first; each epsilon keeps the run that measured it.
        """
        key = {"measurement_id": measurement_id}
        return self._missing(
            "unmeasured",
            sample_ids,
            key,
            "copy_epsilons_from_other_selections",
            "copy_adversarials_from_other_selections",
        )

    def unpredicted(
        self, checkpoint_id: int, dataset_id: int, sample_ids: npt.ArrayLike, *, scored: bool = False
    ) -> npt.NDArray[np.int64]:
        """Return the positions in `sample_ids` whose clean prediction (`scored`: or its loss) is missing, ascending.

        What other selections of the same data hold of the same network is copied first.
        """
        key = {"checkpoint_id": checkpoint_id, "dataset_id": dataset_id}
        return self._missing(
            "unscored" if scored else "unpredicted", sample_ids, key, "copy_predictions_from_other_selections"
        )

    def add_epsilons(
        self,
        measurement_id: int,
        sample_ids: npt.ArrayLike,
        *,
        adversarials: Mapping[int, npt.ArrayLike] | None = None,
        **shard: Unpack[MeasuredColumns],
    ) -> int:
        """Store one shard of a measurement, whole or not at all, and return how many samples were new.

        A sample that has its epsilon keeps it, and all that was stored with it: writing a shard twice changes
        nothing.

        Parameters
        ----------
        measurement_id : int
            From `measurement`.
        sample_ids : array_like
            (N,) int64.
        epsilon : array_like
            (N,) float32; NaN where not found, 0 where misclassified.
        outcomes : array_like
            (N,) of `Outcome`.
        predictions : array_like
            (N,) class on the far side; -1 where not found.
        clean_predictions : array_like
            (N,) class of the clean sample; -1 where a logit is NaN.
        evaluations : array_like
            (N,) forward-backward passes spent.
        converged : array_like, optional
            (N,) bool, whether the search converged; by default it did not.
        found_by, failure_reasons : array_like, optional
            (N,) of `FoundBy`, what found the adversarial, by default the search; of `FailureReason`, by default none.
        adversarials : mapping of int to array_like, optional
            Adversarial inputs (C, H, W) in [0, 1] by sample_id, for the samples where one is to be kept.

        Raises
        ------
        InputError
            For columns of different lengths, or a sample that is there twice.
        StoreError
            When an epsilon contradicts its outcome, or what was proved of its sample; or a sample is not in the
            selection.

        """
        columns = epsilon_columns(sample_ids, shard)
        return self._add(
            ("add_epsilons", "add_adversarials"), columns, adversarials, {"measurement_id": measurement_id}
        )

    def untried(self, measurement_id: int, sample_ids: npt.ArrayLike, *, attack_index: int) -> npt.NDArray[np.int64]:
        """Return the positions in `sample_ids` that this attack of an ensemble has not tried, ascending.

        What other selections of the same data hold, tried by the same ensemble on the same network, is copied into
        this measurement first.
        """
        key = {"measurement_id": measurement_id}
        return self._missing(
            "untried",
            sample_ids,
            key,
            "copy_robustness_from_other_selections",
            "copy_robust_adversarials_from_other_selections",
            attack_index=attack_index,
        )

    def add_robustness(
        self,
        measurement_id: int,
        sample_ids: npt.ArrayLike,
        *,
        attack: str,
        attack_index: int,
        adversarials: Mapping[int, npt.ArrayLike] | None = None,
        **shard: Unpack[AttackedColumns],
    ) -> int:
        """Store what one attack of an ensemble did to some samples, whole or not at all; return how many were new.

        Parameters
        ----------
        measurement_id : int
            From `measurement`, with an attack whose settings hold ``budget`` and ``attacks``.
        sample_ids, epsilon, outcomes, predictions, clean_predictions, evaluations : array_like
            As of `add_epsilons`; found means fallen to an adversarial within the budget, not found: it stands.
        adversarials : mapping of int to array_like, optional
            As of `add_epsilons`.
        attack, attack_index : str, int
            Which attack of the ensemble tried, and its index in the order, from 0.

        """
        columns, key = (
            epsilon_columns(sample_ids, shard),
            {"measurement_id": measurement_id, "attack_index": attack_index},
        )
        return self._add(("add_robustness", "add_robust_adversarials"), columns, adversarials, key, attack=attack)

    def add_known(self, measurement_id: int, *, norms: Sequence[Norm], budget: float) -> int:
        """Note the samples that other measurements in the store have broken within a budget; return how many are new.

        Parameters
        ----------
        measurement_id : int
            The evaluation that these samples are to be spared.
        norms : sequence of str
            The norm of the budget, and those whose lengths are never smaller.
        budget : float
            On the [0, 1] scale.

        """
        with self._writing() as connection:
            key = {"measurement_id": measurement_id, "norms": list(norms), "budget": float(budget)}
            ((count,),) = ask(connection, query("add_known"), **key)
            return int(count)

    def add_predictions(
        self,
        checkpoint_id: int,
        dataset_id: int,
        sample_ids: npt.ArrayLike,
        *,
        predictions: npt.ArrayLike,
        margins: npt.ArrayLike | None = None,
        confidences: npt.ArrayLike | None = None,
        losses: npt.ArrayLike | None = None,
    ) -> int:
        """Store what a network makes of clean samples, and return how many were new, or lacked a loss.

        Parameters
        ----------
        checkpoint_id, dataset_id : int
            From `checkpoint` and `dataset`.
        sample_ids, predictions : array_like
            (N,) int64; a prediction is -1 where a logit is NaN.
        margins : array_like, optional
            (N,) float32; NaN where unknown.
        confidences, losses : array_like, optional
            (N,) largest probability, and cross-entropy of the true class in nats; NaN where unknown.

        """
        values = {"predictions": predictions, "margins": margins, "confidences": confidences, "losses": losses}
        columns = shard_columns(sample_ids, PREDICTIONS, values)
        key = {"checkpoint_id": checkpoint_id, "dataset_id": dataset_id}
        with self._writing() as connection:
            return write(connection, "add_predictions", columns, selection=dataset_id, **key, run_id=self.run_id)

    def uncertified(
        self, checkpoint_id: int, dataset_id: int, norm: Norm, sample_ids: npt.ArrayLike
    ) -> npt.NDArray[np.int64]:
        """Return the positions in `sample_ids` whose lower bound in this norm is missing, ascending.

        What other selections of the same data hold of the same network is copied first.
        """
        key = {"checkpoint_id": checkpoint_id, "dataset_id": dataset_id, "norm": norm}
        return self._missing("uncertified", sample_ids, key, "copy_lower_bounds_from_other_selections")

    def add_lower_bounds(
        self,
        checkpoint_id: int,
        dataset_id: int,
        norm: Norm,
        sample_ids: npt.ArrayLike,
        *,
        epsilon_lower: npt.ArrayLike,
    ) -> int:
        """Store radii that were proved, and return how many were new; a sample that has one keeps it.

        Parameters
        ----------
        checkpoint_id, dataset_id, norm : int, int, str
            From `checkpoint` and `dataset`, and the norm of the radii.
        sample_ids, epsilon_lower : array_like
            (N,) int64, and float64 of at least 0 on the [0, 1] scale.

        Raises
        ------
        StoreError
            Where any attack has found an adversarial within a radius: nothing is stored.

        """
        columns = shard_columns(sample_ids, LOWER_BOUNDS, {"epsilon_lower": epsilon_lower})
        key = {"checkpoint_id": checkpoint_id, "dataset_id": dataset_id}
        with self._writing() as connection:
            new = write(
                connection, "add_lower_bounds", columns, selection=dataset_id, **key, norm=norm, run_id=self.run_id
            )
            _refuse_contradicted_proofs(connection, key)
            return new

    def add_claimed_bounds(
        self,
        checkpoint_id: int,
        dataset_id: int,
        norm: Norm,
        sample_ids: npt.ArrayLike,
        *,
        verifier: str,
        source: str,
        claimed_lower: npt.ArrayLike,
        claimed_upper: npt.ArrayLike | None = None,
        seconds: npt.ArrayLike | None = None,
    ) -> int:
        """Store what another program claims of samples, and return how many there are; it replaces its older claims.

        Parameters
        ----------
        checkpoint_id, dataset_id, norm, sample_ids
            As of `add_lower_bounds`.
        verifier, source : str
            The program, and the file that its claims were read from.
        claimed_lower, claimed_upper, seconds : array_like
            (N,) float64; the last two NaN where unknown.

        """
        values = {"claimed_lower": claimed_lower, "claimed_upper": claimed_upper, "seconds": seconds}
        columns = shard_columns(sample_ids, CLAIMED_BOUNDS, values)
        key = {"checkpoint_id": checkpoint_id, "dataset_id": dataset_id, "norm": norm, "run_id": self.run_id}
        with self._writing() as connection:
            return write(
                connection,
                "add_claimed_bounds",
                columns,
                selection=dataset_id,
                **key,
                verifier=verifier,
                source=source,
            )

    def without_gradients(
        self, checkpoint_id: int, dataset_id: int, sample_ids: npt.ArrayLike
    ) -> npt.NDArray[np.int64]:
        """Return the positions of samples of which the store has no gradient norm under a network, ascending."""
        return self._missing(
            "without_gradients", sample_ids, {"checkpoint_id": checkpoint_id, "dataset_id": dataset_id}
        )

    def add_gradients(
        self, checkpoint_id: int, dataset_id: int, sample_ids: npt.ArrayLike, *, gradient_norms: npt.ArrayLike
    ) -> int:
        """Store the gradient norms (N,) of samples under a network, and return how many were new."""
        columns = shard_columns(sample_ids, GRADIENTS, {"gradient_norms": gradient_norms})
        key = {"checkpoint_id": checkpoint_id, "dataset_id": dataset_id}
        with self._writing() as connection:
            return write(connection, "add_gradients", columns, selection=dataset_id, **key, run_id=self.run_id)

    def comparison(
        self,
        measurement_id: int,
        pruned_checkpoint_id: int,
        *,
        basis: str = "clean",
        budget: float | None = None,
        dense_verdicts: int | None = None,
        pruned_verdicts: int | None = None,
    ) -> int:
        """Return the comparison_id of a measured dense network and a pruned one; ``transitions`` shows it.

        Parameters
        ----------
        measurement_id, pruned_checkpoint_id : int
            From `measurement` and `checkpoint`.
        basis : str
            What correct means: ``"clean"``, or a text that says at which budget, and by which attack, it means robust.
        budget, dense_verdicts, pruned_verdicts : float, int, int, optional
            Of a robust basis: the budget, and the measurements of both networks that tell who is robust.

        """
        key = {"measurement_id": measurement_id, "pruned_checkpoint_id": pruned_checkpoint_id, "basis": basis}
        robust = {"budget": budget, "dense_verdicts": dense_verdicts, "pruned_verdicts": pruned_verdicts}
        with self._writing() as connection:
            comparison_id, is_new = self._enter(connection, "comparisons", key, **robust)
            if not is_new:
                ask(connection, query("set_basis"), **key, **robust)
            return comparison_id

    def untransferred(self, comparison_id: int, sample_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the positions of samples whose kept dense adversarial the pruned network has not seen, ascending."""
        return self._missing("untransferred", sample_ids, {"comparison_id": comparison_id})

    def add_transfers(self, comparison_id: int, sample_ids: npt.ArrayLike, *, predictions: npt.ArrayLike) -> int:
        """Store what the pruned network makes of the dense network's adversarials, and return how many were new.

        Parameters
        ----------
        comparison_id : int
            From `comparison`.
        sample_ids, predictions : array_like
            (N,) int64; a prediction is -1 where a logit is NaN.

        """
        columns = shard_columns(sample_ids, TRANSFERS, {"predictions": predictions})
        with self._writing() as connection:
            measurement_id = self._looked_up(connection, "measurement_id", "comparisons", comparison_id)
            key = {"comparison_id": comparison_id, "run_id": self.run_id}
            return write(
                connection, "add_transfers", columns, selection=self._selection(connection, measurement_id), **key
            )

    def add_statistics(
        self, comparison_id: int, *, notes: Sequence[str] = (), **statistics: float | bool | None
    ) -> None:
        """Store the statistics of a comparison beside its counts, which the store takes from its own samples.

        Stored again, they replace the old ones; those that are not given are NULL.

        Parameters
        ----------
        comparison_id : int
            From `comparison`.
        notes : sequence of str
            Why a statistic is not known.
        statistics : float, bool or None
            By name, as of `thinice.stats.statistic_values`.

        Raises
        ------
        InputError
            For a name that is no statistic's.

        """
        with self._writing() as connection:
            key = {"comparison_id": comparison_id}
            known = add_missing_statistics(connection)
            for name in statistics:
                if name not in known:
                    raise InputError(f"`{name}` is no statistic: they are {', '.join(known)}")
            ask(connection, query("add_statistics"), **key, notes=list(notes), run_id=self.run_id, now=now())
            values = ", ".join(f"{quoted(name)} = ${name}" for name in known)
            update = f"update statistics set {values} where comparison_id = $comparison_id"  # noqa: S608 - our names
            ask(connection, update, **key, **dict.fromkeys(known) | statistics)

    def control_scales(self, comparison_id: int, seed: int) -> list[float]:
        """Return the scales of the weight noise that was a comparison's control under a seed, network by network."""
        with reading(self._path, self._patience, own=True) as connection:
            rows = ask(connection, query("control_scales"), comparison_id=comparison_id, seed=seed)
        return [float(scale) for (scale,) in rows]

    def add_controls(self, comparison_id: int, networks: Iterable[Mapping[str, Any]]) -> None:
        """Store the control networks of a comparison, which replace those that it had.

        Parameters
        ----------
        comparison_id : int
            From `comparison`.
        networks : iterable of mapping
            Of each its ``checkpoint_id``, from `checkpoint`; ``scale`` and ``seed`` of its weight noise, or None.

        """
        with self._writing() as connection:
            self._looked_up(connection, "measurement_id", "comparisons", comparison_id)
            ask(connection, query("delete_controls"), comparison_id=comparison_id)
            for number, network in enumerate(networks):
                key = {"comparison_id": comparison_id, "network": number, "run_id": self.run_id}
                ask(connection, query("add_control"), **network, **key)

    def add_findings(self, measurement_id: int, findings: Iterable[Mapping[str, Any]]) -> None:
        """Store what the checks of a measurement saw, raised or not; checked again, they replace the old.

        Parameters
        ----------
        measurement_id : int
            From `measurement`.
        findings : iterable of mapping
            Each with the entries of `FINDING`, as of `thinice.results.Finding.to_dict`.

        """
        with self._writing() as connection:
            self._selection(connection, measurement_id)
            for finding in findings:
                row = {name: finding[name] for name in FINDING}
                ask(connection, query("add_finding"), **row, measurement_id=measurement_id, run_id=self.run_id)

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

    @contextmanager
    def _writing(self, *, bulky: bool = False) -> Iterator[Connection]:
        """Yield a connection in a transaction that also notes that this run is alive."""
        with writing(self._path, self._patience, bulky=bulky) as connection:
            yield connection
            ask(connection, query("touch_run"), run_id=self.run_id, now=now())

    def _missing(
        self, name: str, sample_ids: npt.ArrayLike, key: Mapping[str, int | str], *adopted: str, **more: int
    ) -> npt.NDArray[np.int64]:
        """Return the positions in `sample_ids` that a named query by `key` and `more` finds missing, ascending.

        Where there are any, other named queries by `key` first copy what can be `adopted` from elsewhere in the store.
        """
        ids = np.asarray(sample_ids, dtype=np.int64)
        columns = {"position": np.arange(len(ids)), "sample_id": ids}
        with reading(self._path, self._patience, own=True) as connection:
            missing = positions(connection, name, columns, **key, **more)
        if not (missing.size and adopted):
            return missing
        with self._writing() as connection:
            for step in adopted:
                ask(connection, query(step), **key)
            _refuse_contradicted_proofs(connection, key)
            return positions(connection, name, columns, **key, **more)

    def _enter(
        self, connection: Connection, table: str, key: Mapping[str, object], **values: object
    ) -> tuple[int, bool]:
        """Return the number of the row of a table with this key, made now where there is none, and whether it was.

        The names are this module's own, the values are bound.
        """
        kind = table.removesuffix("s")
        ((count,),) = ask(connection, query(f"add_{kind}"), **key, **values, run_id=self.run_id, now=now())
        wanted = " and ".join(f"{name} = ${name}" for name in key)
        ((number,),) = ask(connection, f"select {kind}_id from {table} where {wanted}", **key)  # noqa: S608
        return int(number), count > 0

    def _looked_up(self, connection: Connection, column: str, table: str, key: int) -> int:
        """Return a whole number in the row of this key; the names are this module's own, the key is bound."""
        kind = table.removesuffix("s")
        rows = ask(connection, f"select {column} from {table} where {kind}_id = $key", key=key)  # noqa: S608
        if not rows:
            raise StoreError(f"{self._path} has no {kind} {key}")
        return int(rows[0][0])

    def _selection(self, connection: Connection, measurement_id: int) -> int:
        return self._looked_up(connection, "dataset_id", "measurements", measurement_id)

    def _add(
        self,
        names: tuple[str, str],
        columns: Columns,
        adversarials: Mapping[int, npt.ArrayLike] | None,
        key: Mapping[str, int],
        **more: str,
    ) -> int:
        """Write a shard by one named query, its adversarials by the other, and return the number of new rows."""
        images = adversarial_columns(adversarials, columns["sample_id"]) if adversarials else None
        with self._writing(bulky=images is not None) as connection:
            selection = self._selection(connection, key["measurement_id"])
            new = write(connection, names[0], columns, selection=selection, run_id=self.run_id, **key, **more)
            if images is not None:
                write(connection, names[1], images, run_id=self.run_id, **key)
            if names[0] == "add_epsilons":
                _refuse_contradicted_proofs(connection, key)
            return new


def _refuse_contradicted_proofs(connection: Connection, key: Mapping[str, int | str]) -> None:
    """Raise `StoreError` where an epsilon lies below a proved radius of its sample, so that one of them is false.

    Looked at are those of a measurement, or all of a network and a selection of samples, as the key names them.
    """
    names = ("measurement_id", "checkpoint_id", "dataset_id")
    parameters = {name: key.get(name) for name in names}
    for sample_id, epsilon, lower, network, attack, samples in ask(
        connection, query("contradicted_proofs"), **parameters
    ):
        others = f" (and {samples - 1} more)" if samples > 1 else ""
        raise StoreError(
            f"sample {sample_id}{others} of {network} has an adversarial at {epsilon:.6g} by {attack}, but a radius of "
            f"{lower:.6g} was proved: one of them is false, and nothing was stored; please report it, and measure into "
            "a new store without --certify (--store new.duckdb)"
        )
