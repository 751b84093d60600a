"""Columns of samples in the types of the store, checked before anything is written, and written in whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from thinice.errors import InputError, StoreError
from thinice.store.connection import ask
from thinice.store.sql import query
from thinice.types import FailureReason, FoundBy, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from enum import IntEnum

    from thinice.store.connection import Connection

__all__ = [
    "CLAIMED_BOUNDS",
    "CORRECTIONS",
    "DYNAMICS",
    "FINDING",
    "GRADIENTS",
    "IMPORTED_DISTANCES",
    "LOWER_BOUNDS",
    "PREDICTIONS",
    "SAMPLES",
    "TRANSFERS",
    "AttackedColumns",
    "Columns",
    "MeasuredColumns",
    "adversarial_columns",
    "epsilon_columns",
    "json_text",
    "positions",
    "shard_columns",
    "write",
]

Columns = dict[str, npt.NDArray[Any]]


class AttackedColumns(TypedDict):
    """What any attack says of the samples that it was run on, as of `Run.add_epsilons`."""

    epsilon: npt.ArrayLike
    outcomes: npt.ArrayLike
    predictions: npt.ArrayLike
    clean_predictions: npt.ArrayLike
    evaluations: npt.ArrayLike


class MeasuredColumns(AttackedColumns, total=False):
    """What an attack that minimises the norm says in addition."""

    converged: npt.ArrayLike | None
    found_by: npt.ArrayLike | None
    failure_reasons: npt.ArrayLike | None


class Column(NamedTuple):
    """A column of a shard: the argument that it is given as, its name and type in the store, and what stands for None.

    With `codes` its values must be among those of an enum.
    """

    argument: str
    name: str
    dtype: npt.DTypeLike
    default: object = None
    codes: type[IntEnum] | None = None


SAMPLES = (
    Column("labels", "label", np.int32),
    Column("digests", "digest", np.uint64),
    Column("sources", "source", object),
)
EPSILONS = (
    Column("epsilon", "epsilon", np.float32),
    Column("outcomes", "outcome", np.int8, codes=Outcome),
    Column("predictions", "prediction", np.int32),
    Column("clean_predictions", "clean_prediction", np.int32),
    Column("evaluations", "evaluations", np.float32),
    Column("converged", "converged", np.bool_, default=False),
    Column("found_by", "found_by", np.int8, codes=FoundBy),
    Column("failure_reasons", "failure_reason", np.int8, default=0, codes=FailureReason),
)
PREDICTIONS = (
    Column("predictions", "prediction", np.int32),
    Column("margins", "margin", np.float32, default=np.nan),
    Column("confidences", "confidence", np.float64, default=np.nan),
    Column("losses", "loss", np.float32, default=np.nan),
)
CORRECTIONS = (
    Column("corrections", "correction", np.float32),
    Column("evaluations", "evaluations", np.float32),
    Column("converged", "converged", np.bool_),
    Column("found_by", "found_by", np.int8, codes=FoundBy),
    Column("failure_reasons", "failure_reason", np.int8, codes=FailureReason),
)
GRADIENTS = (Column("gradient_norms", "gradient_norm", np.float64),)
TRANSFERS = (Column("predictions", "prediction", np.int32),)
LOWER_BOUNDS = (Column("epsilon_lower", "epsilon_lower", np.float64),)
IMPORTED_DISTANCES = (Column("distances", "distance", np.float64),)
CLAIMED_BOUNDS = (
    Column("claimed_lower", "claimed_lower", np.float64),
    Column("claimed_upper", "claimed_upper", np.float64, default=np.nan),
    Column("seconds", "seconds", np.float64, default=np.nan),
)


DYNAMICS = (
    Column("epochs", "epochs", np.int32),
    Column("forgotten", "forgotten", np.int32),
    Column("learned", "learned", np.bool_),
    Column("confidence_mean", "confidence_mean", np.float64),
    Column("confidence_variance", "confidence_variance", np.float64),
)

FINDING = ("check", "raised", "sample_ids", "of", "value", "seen", "advice")
"""What the store keeps of a finding."""


def shard_columns(sample_ids: npt.ArrayLike, columns: Sequence[Column], values: Mapping[str, object]) -> Columns:
    """Return the columns of a shard in the types of the store, by their names there; each sample is there once.

    Raises
    ------
    InputError
        For columns of another length than `sample_ids`, fractions in place of whole numbers, unknown codes.

    """
    n = np.size(np.asarray(sample_ids))
    ready = {"sample_id": _column(sample_ids, "sample_ids", np.int64, n)}
    once, counts = np.unique(ready["sample_id"], return_counts=True)
    if (counts > 1).any():
        raise InputError(f"`sample_ids` holds {once[counts > 1][0]} twice: give each sample once")
    for argument, name, dtype, default, codes in columns:
        given = values.get(argument)
        ready[name] = _column([default] * n if given is None else given, argument, dtype, n)
        strange = [] if codes is None else np.setdiff1d(ready[name], list(codes)).tolist()
        if codes is not None and strange:
            raise InputError(f"`{argument}` must be of {codes.__name__}, 0 to {max(codes)}, got {strange[0]}")
    return ready


def _column(values: object, argument: str, dtype: npt.DTypeLike, n: int) -> npt.NDArray[Any]:
    given = values if isinstance(values, np.ndarray) else np.array(values, dtype)
    if given.dtype.kind == "f" and np.dtype(dtype).kind in "iu":
        raise InputError(f"`{argument}` must hold whole numbers, got {given.dtype}")
    if given.shape != (n,):
        raise InputError(f"`{argument}` must be flat, with a value for each sample, {n} of them, got {given.shape}")
    return np.ascontiguousarray(given.astype(dtype))


def adversarial_columns(adversarials: Mapping[int, npt.ArrayLike], sample_ids: npt.NDArray[np.int64]) -> Columns:
    """Return the adversarials of some samples of a shard as bytes: float32, little endian, C order."""
    ids = np.fromiter(adversarials, dtype=np.int64)
    strange = np.setdiff1d(ids, sample_ids)
    if strange.size:
        raise InputError(f"`adversarials` holds sample {strange[0]}, which is not in the shard")
    blobs = np.empty(len(ids), dtype=object)
    blobs[:] = [np.asarray(values, dtype="<f4").tobytes(order="C") for values in adversarials.values()]
    return {"sample_id": ids, "adversarial": blobs}


def epsilon_columns(sample_ids: npt.ArrayLike, shard: Mapping[str, Any]) -> Columns:
    """Return the columns of `EPSILONS`; by default, what was found was found by the search."""
    found_by = (np.asarray(shard["outcomes"]) == Outcome.FOUND) * np.int8(FoundBy.SEARCH)
    return shard_columns(
        sample_ids, EPSILONS, {"found_by": found_by} | {k: v for k, v in shard.items() if v is not None}
    )


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


def positions(connection: Connection, name: str, columns: Columns, **key: int | str) -> npt.NDArray[np.int64]:
    """Return the positions (K,) among columns that a named query answers with."""
    _register(connection, columns)
    rows = ask(connection, query(name), **key)
    return np.array([position for (position,) in rows], dtype=np.int64)


def _register(connection: Connection, columns: Columns) -> None:
    """Let queries see columns as the table ``rows``."""
    import pandas as pd  # noqa: PLC0415 - half a second, for those who write

    frame = pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()})
    connection.register("rows", frame)


def json_text(value: Mapping[str, Any]) -> str:
    """Return JSON that is the same for equal values."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"`settings` must be numbers, text, True, False or None: {error}") from None
