"""Columns on their way into the store: one type and one length, checked before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt

from thinice.errors import InputError
from thinice.types import Diagnosis, Outcome, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Columns",
    "Shard",
    "Tried",
    "adversarial_columns",
    "epsilon_columns",
    "prediction_columns",
    "sample_columns",
    "transfer_columns",
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


def adversarial_columns(witnesses: Mapping[int, npt.ArrayLike], sample_ids: npt.NDArray[np.int64]) -> Columns:
    """Return the adversarials of some samples of a shard as bytes: float32, little endian, C order."""
    ids = np.fromiter(witnesses, dtype=np.int64)
    strange = np.setdiff1d(ids, sample_ids)
    if strange.size:
        raise InputError(f"`witnesses` holds sample {strange[0]}, which is not in the shard")
    blobs = np.empty(len(ids), dtype=object)
    blobs[:] = [np.asarray(values, dtype="<f4").tobytes(order="C") for values in witnesses.values()]
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
