"""Writing: a run brings networks, samples and attacks into the store, and then what it measures of them."""

from __future__ import annotations

import hashlib
import json
import platform
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from thinice.errors import InputError, StoreError
from thinice.process import Process, this_process
from thinice.store.connection import ask, one_line, reading, writing
from thinice.store.schema import now
from thinice.store.sql import query
from thinice.types import Diagnosis, Outcome, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from thinice.store.connection import Connection
    from thinice.types import Norm

__all__ = [
    "Columns",
    "Pen",
    "Run",
    "Shard",
    "Tried",
    "adversarial_columns",
    "epsilon_columns",
    "key_of",
    "prediction_columns",
    "recorded",
    "sample_columns",
    "transfer_columns",
    "write",
]

Columns = dict[str, npt.NDArray[Any]]


class Tried(TypedDict):
    """What any attack says of the samples that it tried, as of `Run.add_epsilons`."""

    epsilon: npt.ArrayLike
    outcomes: npt.ArrayLike
    predictions: npt.ArrayLike
    clean_predictions: npt.ArrayLike
    evaluations: npt.ArrayLike


class Shard(Tried, total=False):
    """What an attack that minimises the norm says in addition."""

    converged: npt.ArrayLike | None
    stages: npt.ArrayLike | None
    diagnoses: npt.ArrayLike | None


def sample_columns(
    sample_ids: npt.ArrayLike, labels: npt.ArrayLike, digests: npt.ArrayLike, sources: npt.ArrayLike | None
) -> Columns:
    """Return the columns of a selection of samples, each of which is there once."""
    rows = _columns(
        sample_id=(sample_ids, np.int64),
        label=(labels, np.int32),
        digest=(digests, np.uint64),
        source=(sources, object),
    )
    _refuse_twice(rows["sample_id"])
    return rows


def epsilon_columns(
    sample_ids: npt.ArrayLike,
    *,
    epsilon: npt.ArrayLike,
    outcomes: npt.ArrayLike,
    predictions: npt.ArrayLike,
    clean_predictions: npt.ArrayLike,
    evaluations: npt.ArrayLike,
    converged: npt.ArrayLike | None = None,
    stages: npt.ArrayLike | None = None,
    diagnoses: npt.ArrayLike | None = None,
) -> Columns:
    """Return the columns of a shard; by default nothing has converged, and what was found the search has found."""
    nothing = np.zeros(np.shape(sample_ids), np.int8)
    found = np.asarray(outcomes) == Outcome.FOUND
    rows = _columns(
        sample_id=(sample_ids, np.int64),
        epsilon=(epsilon, np.float32),
        outcome=(outcomes, np.int8),
        prediction=(predictions, np.int32),
        clean_prediction=(clean_predictions, np.int32),
        evaluations=(evaluations, np.float32),
        converged=(nothing if converged is None else converged, np.bool_),
        stage=(found * int(Stage.SEARCH) if stages is None else stages, np.int8),
        diagnosis=(nothing if diagnoses is None else diagnoses, np.int8),
    )
    _refuse_twice(rows["sample_id"])
    for argument, name, codes in (
        ("outcomes", "outcome", Outcome),
        ("stages", "stage", Stage),
        ("diagnoses", "diagnosis", Diagnosis),
    ):
        strange = np.setdiff1d(rows[name], list(codes))
        if strange.size:
            raise InputError(f"`{argument}` must be of {codes.__name__}, 0 to {max(codes)}, got {strange[0]}")
    return rows


def prediction_columns(
    sample_ids: npt.ArrayLike,
    *,
    predictions: npt.ArrayLike,
    margins: npt.ArrayLike | None,
    confidences: npt.ArrayLike | None,
    losses: npt.ArrayLike | None,
) -> Columns:
    """Return the columns of predictions of clean samples; margins and others that are not given are NaN."""
    nothing = np.full(np.shape(sample_ids), np.nan)
    rows = _columns(
        sample_id=(sample_ids, np.int64),
        prediction=(predictions, np.int32),
        margin=(nothing if margins is None else margins, np.float32),
        confidence=(nothing if confidences is None else confidences, np.float64),
        loss=(nothing if losses is None else losses, np.float32),
    )
    _refuse_twice(rows["sample_id"])
    return rows


def transfer_columns(sample_ids: npt.ArrayLike, predictions: npt.ArrayLike) -> Columns:
    """Return the columns of what a pruned network makes of the dense one's adversarials."""
    rows = _columns(sample_id=(sample_ids, np.int64), prediction=(predictions, np.int32))
    _refuse_twice(rows["sample_id"])
    return rows


def adversarial_columns(adversarials: Mapping[int, npt.ArrayLike], sample_ids: npt.NDArray[np.int64]) -> Columns:
    """Return the adversarials of some samples of a shard as bytes: float32, little endian, C order."""
    ids = np.fromiter(adversarials, dtype=np.int64)
    strange = np.setdiff1d(ids, sample_ids)
    if strange.size:
        raise InputError(f"`adversarials` holds sample {strange[0]}, which is not in the shard")
    blobs = np.empty(len(ids), dtype=object)
    blobs[:] = [np.asarray(values, dtype="<f4").tobytes(order="C") for values in adversarials.values()]
    return {"sample_id": ids, "adversarial": blobs}


def _columns(**columns: tuple[npt.ArrayLike | None, npt.DTypeLike]) -> Columns:
    """Return columns in the types of the store, as many entries each as the first; None becomes a column of None."""
    first, (head, _) = next(iter(columns.items()))
    n = np.size(np.asarray(head))
    ready = {}
    for name, (values, dtype) in columns.items():
        given = values if isinstance(values, np.ndarray) else np.array([None] * n if values is None else values, dtype)
        if given.dtype.kind == "f" and np.dtype(dtype).kind in "iu":
            raise InputError(f"`{name}` must hold whole numbers, got {given.dtype}")
        column = given.astype(dtype)
        if column.shape != (n,):
            raise InputError(
                f"`{name}` must be flat, with a value for each {first}, {n} of them, got shape {column.shape}"
            )
        ready[name] = np.ascontiguousarray(column)
    return ready


def _refuse_twice(sample_ids: npt.NDArray[np.int64]) -> None:
    values, counts = np.unique(sample_ids, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"`sample_ids` holds {values[counts > 1][0]} twice: give each sample once")


PACKAGES = ("thinice", "torch", "torchvision", "foolbox", "numpy", "duckdb")
"""Packages whose version may change a result; read from their metadata, none is imported."""


@contextmanager
def recorded(
    path: Path,
    patience: float,
    *,
    command: Sequence[str],
    device: str,
    precision: str,
    seed: int | None,
    settings: Mapping[str, Any],
) -> Iterator[int]:
    """Yield the run_id of a new run whose end is recorded: finished, interrupted (Ctrl-C), or failed with its error."""
    process = this_process()
    row = {
        "command": list(command),
        "versions": json.dumps(_versions()),
        "device": device,
        "precision": precision,
        "seed": seed,
        "settings": json.dumps(dict(settings), sort_keys=True, ensure_ascii=False, default=str),
        "host": process.host,
        "pid": process.pid,
        "process_started": process.started,
        "now": now(),
    }
    with writing(path, patience) as connection:
        _bury(connection)
        ((run_id,),) = ask(connection, query("add_run"), **row)
    try:
        yield run_id
    except BaseException as error:
        outcome = "failed" if isinstance(error, Exception) else "interrupted"
        try:
            _end(path, patience, run_id, outcome, f"{type(error).__name__}: {one_line(error)}")
        except StoreError as second:
            error.add_note(f"the store could not record the end of run {run_id}: {second}")
        raise
    _end(path, patience, run_id, "finished", None)


def _end(path: Path, patience: float, run_id: int, outcome: str, error: str | None) -> None:
    with writing(path, patience) as connection:
        ask(connection, query("end_run"), run_id=run_id, outcome=outcome, error=error, now=now())


def _bury(connection: Connection) -> None:
    """Record the death of runs whose process is gone without a word."""
    running = "select run_id, host, pid, process_started from runs where outcome = 'running'"
    for run_id, *process in ask(connection, running):
        if Process(*process).is_gone:
            ask(connection, "update runs set outcome = 'died', ended = seen where run_id = $run_id", run_id=run_id)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class Pen:
    """Writes into one store for one run, and keeps nothing open: the base of `Run`."""

    def __init__(self, path: Path, patience: float, run_id: int) -> None:
        self.run_id = run_id
        self._path, self._patience = path, patience

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.run_id}, {str(self._path)!r})"

    @contextmanager
    def _writing(self, *, bulky: bool = False) -> Iterator[Connection]:
        """Yield a connection in a transaction that also notes that this run is alive."""
        with writing(self._path, self._patience, bulky=bulky) as connection:
            yield connection
            ask(
                connection,
                "update runs set seen = greatest(seen, $now) where run_id = $run_id",
                run_id=self.run_id,
                now=now(),
            )

    def _missing(
        self, name: str, sample_ids: npt.ArrayLike, key: Mapping[str, int], *adopted: str, **more: int
    ) -> npt.NDArray[np.int64]:
        """Return the positions in `sample_ids` that a named query by `key` and `more` finds missing, ascending.

        Where there are any, other named queries by `key` first copy what can be `adopted` from elsewhere in the store.
        """
        ids = np.asarray(sample_ids, dtype=np.int64)
        columns = {"position": np.arange(len(ids)), "sample_id": ids}
        with reading(self._path, self._patience) as connection:
            missing = _positions(connection, name, columns, **key, **more)
        if not (missing.size and adopted):
            return missing
        with self._writing() as connection:
            for step in adopted:
                ask(connection, query(step), **key)
            return _positions(connection, name, columns, **key, **more)

    def _looked_up(self, connection: Connection, column: str, table: str, key: int) -> int:
        """Return a whole number in the row of this key; the names are this module's own, the key is bound."""
        one = table.removesuffix("s")
        found = ask(connection, f"select {column} from {table} where {one}_id = $key", key=key)  # noqa: S608
        if not found:
            raise StoreError(f"{self._path} has no {one} {key}")
        return int(found[0][0])


def write(
    connection: Connection, name: str, columns: Columns, *, selection: int | None = None, **parameters: object
) -> int:
    """Insert columns in whole by a named query and return the number of new rows.

    Raises
    ------
    StoreError
        Where a sample is not in the selection of this dataset_id.

    """
    _register(connection, columns)
    strange = [] if selection is None else ask(connection, query("unknown_samples"), dataset_id=selection)
    if strange:
        raise StoreError(f"sample {strange[0][0]} is not in selection {selection}: nothing was stored")
    ((count,),) = ask(connection, query(name), **parameters)
    return int(count)


def key_of(connection: Connection, table: str, **values: object) -> int:
    """Return the key of the row with these values; the names are the caller's own, the values are bound."""
    wanted = " and ".join(f"{name} = ${name}" for name in values)
    ((key,),) = ask(connection, f"select {table.removesuffix('s')}_id from {table} where {wanted}", **values)  # noqa: S608
    return int(key)


def _positions(connection: Connection, name: str, columns: Columns, **key: int) -> npt.NDArray[np.int64]:
    _register(connection, columns)
    found = ask(connection, query(name), **key)
    return np.array([position for (position,) in found], dtype=np.int64)


def _register(connection: Connection, columns: Columns) -> None:
    """Let queries see columns as the table ``rows``."""
    import pandas as pd  # noqa: PLC0415 - half a second, for those who write

    frame = pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()})
    connection.register("rows", frame)


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
        adversarials : mapping of int to array_like, optional
            Adversarial inputs (C, H, W) in [0, 1] by sample_id, for the samples where one is to be kept.

        Raises
        ------
        InputError
            For columns of different lengths, or a sample that is there twice.
        StoreError
            When an epsilon contradicts its outcome, or a sample is not in the selection.

        """
        columns = epsilon_columns(sample_ids, **shard)
        return self._add(
            ("add_epsilons", "add_adversarials"), columns, adversarials, {"measurement_id": measurement_id}
        )

    def untried(self, measurement_id: int, sample_ids: npt.ArrayLike, *, place: int) -> npt.NDArray[np.int64]:
        """Return the positions in `sample_ids` that the attack at this place of an ensemble has not tried, ascending.

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
            place=place,
        )

    def add_robustness(
        self,
        measurement_id: int,
        sample_ids: npt.ArrayLike,
        *,
        attack: str,
        place: int,
        adversarials: Mapping[int, npt.ArrayLike] | None = None,
        **tried: Unpack[Tried],
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
        attack, place : str, int
            Which attack of the ensemble tried, and its place in the order, from 0.

        """
        columns, key = epsilon_columns(sample_ids, **tried), {"measurement_id": measurement_id, "place": place}
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
            Each with ``check``, ``raised``, ``sample_ids``, ``of``, ``value``, ``seen`` and ``advice``, as of
            `thinice.checks.Finding.to_dict`.

        """
        with self._writing() as connection:
            self._selection(connection, measurement_id)
            for one in findings:
                ask(
                    connection,
                    query("add_finding"),
                    measurement_id=measurement_id,
                    indicator=one["check"],
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
            return new


def _json(value: Mapping[str, Any]) -> str:
    """Return JSON that is the same for equal values."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"`settings` must be numbers, text, True, False or None: {error}") from None
