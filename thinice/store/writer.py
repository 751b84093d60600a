"""Writing: a run brings networks, samples and attacks into the store, and then what it measures of them."""

from __future__ import annotations

import hashlib
import json
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Unpack

from thinice.store.benchmark_writer import BenchmarkWriter
from thinice.store.bounds_writer import BoundsWriter
from thinice.store.columns import (
    FINDING,
    GRADIENTS,
    PREDICTIONS,
    SAMPLES,
    AttackedColumns,
    MeasuredColumns,
    epsilon_columns,
    json_text,
    shard_columns,
    write,
)
from thinice.store.comparison_writer import ComparisonWriter
from thinice.store.connection import ask
from thinice.store.sql import query
from thinice.store.training_writer import TrainingWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from thinice.types import Norm

__all__ = ["Run", "attack_fingerprint"]


def attack_fingerprint(name: str, norm: Norm, settings: Mapping[str, str | float | bool | None]) -> str:
    """Return the hash by which the store knows an attack: of its name, norm and settings, whatever their order."""
    text = json_text({"name": name, "norm": norm, "settings": dict(settings)})
    return hashlib.sha256(text.encode()).hexdigest()


class Run(BenchmarkWriter, BoundsWriter, ComparisonWriter, TrainingWriter):
    """A run of a command, which writes what it measures; made by `Store.run`, ended by leaving it.

    Every row that it writes names it. Each method is one transaction of its own and keeps nothing open, so several
    runs may write to one store in turn.

    Attributes
    ----------
    run_id : int
        The row of this run in the table ``runs``.

    """

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
        if fingerprint in self._checkpoint_ids:
            return self._checkpoint_ids[fingerprint]
        scaling = None if normalization is None else json.dumps([list(map(float, part)) for part in normalization])
        with self._writing() as connection:
            checkpoint_id, _ = self._enter(
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
            )
        self._checkpoint_ids[fingerprint] = checkpoint_id  # committed
        return checkpoint_id

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
        n: int | None = None,
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
        n : int, optional
            How many samples the whole selection has, where only some of them are given.

        Raises
        ------
        InputError
            For columns of different lengths, or a sample that is there twice.

        """
        columns = shard_columns(sample_ids, SAMPLES, {"labels": labels, "digests": digests, "sources": sources})
        whole = len(columns["sample_id"]) if n is None else n
        with self._writing() as connection:
            dataset_id, _ = self._enter(
                connection,
                "datasets",
                {"fingerprint": fingerprint},
                name=name,
                split=split,
                n=whole,
                shape=[int(size) for size in shape],
                classes=list(classes),
            )
            ((known,),) = ask(connection, "select count(*) from samples where dataset_id = $key", key=dataset_id)
            if known < whole:  # a store of one shard has its samples alone
                write(connection, "add_samples", columns, dataset_id=dataset_id)
            return dataset_id

    def conditions(
        self,
        dataset_id: int,
        *,
        folder: str | None,
        engine: str,
        workers: int | None,
        threads: int,
        batch_size: int | None,
        deterministic: bool,
        networks: Sequence[tuple[int, str, str | PathLike[str] | None]],
    ) -> None:
        """Store what this run runs on, before it measures anything; told again, it replaces the old.

        Parameters
        ----------
        dataset_id : int
            From `dataset`.
        folder, engine, workers, threads, batch_size, deterministic
            The columns of ``run_conditions``.
        networks : sequence of (int, str, path-like or None)
            Of each network its checkpoint_id, from `checkpoint`, its name, and the file it was read from.

        """
        with self._writing() as connection:
            ask(
                connection,
                query("add_run_conditions"),
                run_id=self.run_id,
                dataset_id=dataset_id,
                folder=folder,
                engine=engine,
                workers=workers,
                threads=threads,
                batch_size=batch_size,
                deterministic=deterministic,
            )
            for number, (checkpoint_id, name, path) in enumerate(networks):
                row = {"checkpoint_id": checkpoint_id, "name": name, "path": None if path is None else fspath(path)}
                ask(connection, query("add_run_network"), run_id=self.run_id, network=number, **row)

    def attack(self, *, name: str, norm: Norm, settings: Mapping[str, str | float | bool | None]) -> int:
        """Return the attack_id of an attack with all its settings, whatever their order."""
        key = {"fingerprint": attack_fingerprint(name, norm, settings)}
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
