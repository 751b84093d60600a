"""Columns of samples in the types of the store, checked before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from thinice.errors import InputError
from thinice.types import Diagnosis, Outcome, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from enum import IntEnum

__all__ = [
    "DYNAMICS",
    "FINDING",
    "PREDICTIONS",
    "SAMPLES",
    "TRANSFERS",
    "Attacked",
    "Columns",
    "Shard",
    "adversarial_columns",
    "epsilon_columns",
    "shard_columns",
]

Columns = dict[str, npt.NDArray[Any]]


class Attacked(TypedDict):
    """What any attack says of the samples that it was run on, as of `Run.add_epsilons`."""

    epsilon: npt.ArrayLike
    outcomes: npt.ArrayLike
    predictions: npt.ArrayLike
    clean_predictions: npt.ArrayLike
    evaluations: npt.ArrayLike


class Shard(Attacked, total=False):
    """What an attack that minimises the norm says in addition."""

    converged: npt.ArrayLike | None
    stages: npt.ArrayLike | None
    diagnoses: npt.ArrayLike | None


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
    Column("stages", "stage", np.int8, codes=Stage),
    Column("diagnoses", "diagnosis", np.int8, default=0, codes=Diagnosis),
)
PREDICTIONS = (
    Column("predictions", "prediction", np.int32),
    Column("margins", "margin", np.float32, default=np.nan),
    Column("confidences", "confidence", np.float64, default=np.nan),
    Column("losses", "loss", np.float32, default=np.nan),
)
TRANSFERS = (Column("predictions", "prediction", np.int32),)


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
    stages = (np.asarray(shard["outcomes"]) == Outcome.FOUND) * np.int8(Stage.SEARCH)
    return shard_columns(sample_ids, EPSILONS, {"stages": stages} | {k: v for k, v in shard.items() if v is not None})
