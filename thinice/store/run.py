"""Writing: a run brings networks, samples and attacks into the store, and then what it measures of them."""

from __future__ import annotations

import hashlib
import json
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, Unpack

from thinice.errors import InputError
from thinice.store.columns import (
    Columns,
    Shard,
    Tried,
    adversarial_columns,
    epsilon_columns,
    prediction_columns,
    sample_columns,
    transfer_columns,
)
from thinice.store.connection import ask
from thinice.store.pen import Pen, key_of, write
from thinice.store.queries import query
from thinice.store.schema import now

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from thinice.store.connection import Connection
    from thinice.types import Norm

__all__ = ["Run"]

UNKNOWN = dict.fromkeys(("p_value_two_sided", "log10_p_two_sided", "exact"))
"""What statistics may lack."""


class Statistics(TypedDict):
    """The statistics of a comparison, by the names of `thinice.stats.Separation`."""

    auc: float | None
    auc_low: float | None
    auc_high: float | None
    confidence: float | None
    u: float | None
    p_value: float | None
    log10_p: float | None
    median_kept: float | None
    median_lost: float | None
    shift: float | None
    cliffs_delta: float | None
    p_value_two_sided: NotRequired[float | None]
    log10_p_two_sided: NotRequired[float | None]
    exact: NotRequired[bool | None]
    notes: NotRequired[Sequence[str]]


class Run(Pen):
    """One measurement campaign, and the pen it writes with; made by `Store.run`, ended by leaving it.

    Everything it writes leads back to it. Each method is one transaction of its own and keeps nothing open, so
    several runs may write to one store in turn.

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
            ask(
                connection,
                query("add_checkpoint"),
                fingerprint=fingerprint,
                name=name,
                architecture=architecture,
                classes=int(classes),
                sparsity=float(sparsity),
                path=None if path is None else fspath(path),
                class_names=None if class_names is None else list(class_names),
                data=data,
                normalization=scaling,
                notes=list(notes),
                parent=parent,
                run_id=self.run_id,
                now=now(),
            )
            return key_of(connection, "checkpoints", fingerprint=fingerprint)

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
        columns = sample_columns(sample_ids, labels, digests, sources)
        with self._writing() as connection:
            new = ask(
                connection,
                query("add_dataset"),
                fingerprint=fingerprint,
                name=name,
                split=split,
                n=len(columns["sample_id"]),
                shape=[int(size) for size in shape],
                classes=list(classes),
                run_id=self.run_id,
                now=now(),
            )
            dataset_id = key_of(connection, "datasets", fingerprint=fingerprint)
            if new:
                write(connection, "add_samples", columns, dataset_id=dataset_id)
            return dataset_id

    def attack(self, *, name: str, norm: Norm, settings: Mapping[str, str | float | bool | None]) -> int:
        """Return the attack_id of an attack with all its settings, whatever their order."""
        fingerprint = hashlib.sha256(_json({"name": name, "norm": norm, "settings": dict(settings)}).encode())
        with self._writing() as connection:
            ask(
                connection,
                query("add_attack"),
                fingerprint=fingerprint.hexdigest(),
                name=name,
                norm=norm,
                settings=_json(dict(settings)),
                run_id=self.run_id,
                now=now(),
            )
            return key_of(connection, "attacks", fingerprint=fingerprint.hexdigest())

    def measurement(self, checkpoint_id: int, dataset_id: int, attack_id: int) -> int:
        """Return the measurement_id of a network, a selection of samples and an attack."""
        key = {"checkpoint_id": checkpoint_id, "dataset_id": dataset_id, "attack_id": attack_id}
        with self._writing() as connection:
            ask(connection, query("add_measurement"), **key, run_id=self.run_id, now=now())
            return key_of(connection, "measurements", **key)

    def unmeasured(self, measurement_id: int, sample_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the positions in `sample_ids` that still have to be measured, ascending.

        What other selections of the same data hold, measured by the same attack on the same network, is copied
        into this measurement first; each epsilon keeps the run that measured it.
        """
        key = {"measurement_id": measurement_id}
        return self._missing("unmeasured", sample_ids, key, "adopt_epsilons", "adopt_witnesses")

    def unpredicted(
        self, checkpoint_id: int, dataset_id: int, sample_ids: npt.ArrayLike, *, scored: bool = False
    ) -> npt.NDArray[np.int64]:
        """Return the positions in `sample_ids` whose clean prediction (`scored`: or its loss) is missing, ascending.

        What other selections of the same data hold of the same network is copied first.
        """
        key = {"checkpoint_id": checkpoint_id, "dataset_id": dataset_id}
        return self._missing("unscored" if scored else "unpredicted", sample_ids, key, "adopt_predictions")

    def add_epsilons(
        self,
        measurement_id: int,
        sample_ids: npt.ArrayLike,
        *,
        witnesses: Mapping[int, npt.ArrayLike] | None = None,
        **shard: Unpack[Shard],
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
            (N,) bool, whether the search had settled; by default it had not.
        stages, diagnoses : array_like, optional
            (N,) of `Stage`, what found the adversarial, by default the search; of `Diagnosis`, by default none.
        witnesses : mapping of int to array_like, optional
            Adversarial inputs (C, H, W) in [0, 1] by sample_id, for the samples where one is to be kept.

        Raises
        ------
        InputError
            For columns of different lengths, or a sample that is there twice.
        StoreError
            When an epsilon contradicts its outcome, or a sample is not in the selection.

        """
        columns = epsilon_columns(sample_ids, **shard)
        return self._add(("add_epsilons", "add_witnesses"), columns, witnesses, {"measurement_id": measurement_id})

    def untried(self, measurement_id: int, sample_ids: npt.ArrayLike, *, place: int) -> npt.NDArray[np.int64]:
        """Return the positions in `sample_ids` that the attack at this place of an ensemble has not tried, ascending.

        What other selections of the same data hold, tried by the same ensemble on the same network, is copied into
        this measurement first.
        """
        key = {"measurement_id": measurement_id}
        return self._missing("untried", sample_ids, key, "adopt_robustness", "adopt_robust_witnesses", place=place)

    def add_robustness(
        self,
        measurement_id: int,
        sample_ids: npt.ArrayLike,
        *,
        attack: str,
        place: int,
        witnesses: Mapping[int, npt.ArrayLike] | None = None,
        **tried: Unpack[Tried],
    ) -> int:
        """Store what one attack of an ensemble did to some samples, whole or not at all; return how many were new.

        Parameters
        ----------
        measurement_id : int
            From `measurement`, with an attack whose settings hold ``budget`` and ``attacks``.
        sample_ids, epsilon, outcomes, predictions, clean_predictions, evaluations : array_like
            As of `add_epsilons`; found means fallen to an adversarial within the budget, not found: it stands.
        witnesses : mapping of int to array_like, optional
            As of `add_epsilons`.
        attack, place : str, int
            Which attack of the ensemble tried, and its place in the order, from 0.

        """
        columns, key = epsilon_columns(sample_ids, **tried), {"measurement_id": measurement_id, "place": place}
        return self._add(("add_robustness", "add_robust_witnesses"), columns, witnesses, key, attack=attack)

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
        columns = prediction_columns(
            sample_ids, predictions=predictions, margins=margins, confidences=confidences, losses=losses
        )
        key = {"checkpoint_id": checkpoint_id, "dataset_id": dataset_id}
        with self._writing() as connection:
            return write(connection, "add_predictions", columns, selection=dataset_id, **key, run_id=self.run_id)

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
            ask(connection, query("add_comparison"), **key, **robust, run_id=self.run_id, now=now())
            ask(connection, query("set_basis"), **key, **robust)
            return key_of(connection, "comparisons", **key)

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
        columns = transfer_columns(sample_ids, predictions)
        with self._writing() as connection:
            measurement_id = self._looked_up(connection, "measurement_id", "comparisons", comparison_id)
            key = {"comparison_id": comparison_id, "run_id": self.run_id}
            return write(
                connection, "add_transfers", columns, selection=self._selection(connection, measurement_id), **key
            )

    def add_statistics(self, comparison_id: int, **statistics: Unpack[Statistics]) -> None:
        """Store the statistics of a comparison beside its counts, which the store takes from its own samples.

        The names are those of `thinice.stats.Separation`. Stored again, they replace the old ones.
        """
        row: dict[str, Any] = {**UNKNOWN, **statistics, "notes": list(statistics.get("notes", ()))}
        with self._writing() as connection:
            key = {"comparison_id": comparison_id, "run_id": self.run_id}
            ask(connection, query("add_statistics"), **key, **row, now=now())

    def add_findings(self, measurement_id: int, findings: Iterable[Mapping[str, Any]]) -> None:
        """Store what the checks of a measurement saw, raised or not; checked again, they replace the old.

        Parameters
        ----------
        measurement_id : int
            From `measurement`.
        findings : iterable of mapping
            Each with ``name``, ``raised``, ``sample_ids``, ``of``, ``value``, ``seen`` and ``advice``, as of
            `thinice.indicators.Finding.to_dict`.

        """
        with self._writing() as connection:
            self._selection(connection, measurement_id)
            for one in findings:
                ask(
                    connection,
                    query("add_finding"),
                    measurement_id=measurement_id,
                    indicator=one["name"],
                    raised=one["raised"],
                    sample_ids=one["sample_ids"],
                    looked_at=one["of"],
                    value=one["value"],
                    seen=one["seen"],
                    advice=one["advice"],
                    run_id=self.run_id,
                )

    def _selection(self, connection: Connection, measurement_id: int) -> int:
        return self._looked_up(connection, "dataset_id", "measurements", measurement_id)

    def _add(
        self,
        names: tuple[str, str],
        columns: Columns,
        witnesses: Mapping[int, npt.ArrayLike] | None,
        key: Mapping[str, int],
        **more: str,
    ) -> int:
        """Write a shard by one named query, its adversarials by the other, and return the number of new rows."""
        adversarials = adversarial_columns(witnesses, columns["sample_id"]) if witnesses else None
        with self._writing(bulky=adversarials is not None) as connection:
            selection = self._selection(connection, key["measurement_id"])
            new = write(connection, names[0], columns, selection=selection, run_id=self.run_id, **key, **more)
            if adversarials is not None:
                write(connection, names[1], adversarials, run_id=self.run_id, **key)
            return new


def _json(value: Mapping[str, Any]) -> str:
    """Return JSON that is the same for equal values."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"`settings` must be numbers, text, True, False or None: {error}") from None
