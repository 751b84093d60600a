"""What a report shows, read from the store: comparisons, their measurements and data, each column in one order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from thinice.checks.study_patterns import stored_patterns
from thinice.errors import InputError
from thinice.printable import records
from thinice.results import Finding
from thinice.stats import (
    ClassImpact,
    ClassTests,
    Exemplars,
    PredictorComparison,
    class_impact,
    class_tests,
    compare_predictors,
    exemplars,
)
from thinice.store import Store, query
from thinice.training.history import Epoch, History
from thinice.types import Norm, Outcome, Transition

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Axis",
    "ComparisonFacts",
    "Data",
    "Facts",
    "MeasurementFacts",
    "PopulationFacts",
    "Row",
    "brief",
    "read_facts",
]

LETTERS = 100
"""Of a name that others gave: what a page shows of it."""

Row = dict[str, Any]

EPOCH_COLUMNS = tuple(field.name for field in fields(Epoch) if field.name != "number")

OWN = "Distance to the decision boundary of the pruned network itself, by the same attack."
OWN_PROVED = "Radius within which the pruned network is proved to have no adversarial."


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """One selection of samples: its row of ``datasets`` and, in the order of sample_id, those of ``samples``.

    Names in `row` are as short as a page needs them; `name` is what the data set is really called.
    """

    row: Row
    name: str
    sample_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    digests: NDArray[np.uint64]
    sources: tuple[str, ...] | None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return tuple(self.row["classes"])


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """A number of each sample: its name, what it means, and (N,) values, NaN where there is none.

    One that `is_epsilon` is in the norm's own unit.
    """

    name: str
    meaning: str
    values: NDArray[np.float64]
    is_epsilon: bool = False
    is_proved: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class MeasurementFacts:
    """One measurement of a dense network; columns are in the order of the data's samples.

    Where a run has not come to a sample yet its outcome is -1. `training` is empty where the store does not know how
    the network was trained.
    """

    measurement_id: int
    dense: Row
    training: History
    attack: Row
    data: Data
    epsilon: NDArray[np.float64]
    outcomes: NDArray[np.int64]
    far_predictions: NDArray[np.int64]
    predictions: NDArray[np.int64]
    losses: NDArray[np.float64]
    """Of the true class, NaN where the store does not know it."""
    axes: tuple[Axis, ...]
    epsilon_lower: NDArray[np.float64] | None
    """Radii that were proved, NaN where that was not tried; None where it was tried for no sample."""

    @property
    def norm(self) -> Norm:
        """The norm that epsilon is measured in."""
        norm: Norm = self.attack["norm"]
        return norm


@dataclass(frozen=True, slots=True, eq=False)
class ComparisonFacts:
    """One comparison; columns are in the order of the data's samples.

    `transitions` has an empty text where a run has not come to a sample yet. `statistics` is None where it ended
    before them, `pruned_epsilon` where it was not asked for, `predictors` where the store does not keep how sure the
    dense network is of each sample, `budget` on the clean basis. `training` is that of the pruned network, empty where
    the store does not know it.
    """

    comparison_id: int
    measured: MeasurementFacts
    pruned: Row
    training: History
    basis: str
    budget: float | None
    transitions: NDArray[np.str_]
    pruned_predictions: NDArray[np.int64]
    axes: tuple[Axis, ...]
    pruned_epsilon: NDArray[np.float64] | None
    predictors: PredictorComparison | None
    class_impact: ClassImpact | None
    """What pruning does to each class, which is named by its number; None before all samples have their transition."""
    statistics: Row | None
    runs: tuple[Row, ...]
    findings: tuple[Row, ...]
    """What the checks of evaluations of either network saw, raised or not; empty where none was evaluated."""
    patterns: tuple[Finding, ...]
    """Patterns of wrong studies that the store shows for either network."""

    @property
    def known(self) -> NDArray[np.bool_]:
        """(N,) which samples have a transition."""
        return np.asarray(self.transitions != "")

    def count(self, transition: Transition) -> int:
        """Return how many samples went this way."""
        return int((self.transitions == transition).sum())


@dataclass(frozen=True, slots=True, eq=False)
class PopulationFacts:
    """Dense and pruned networks that were compared as groups; classes are named by their numbers."""

    dense: tuple[str, ...]
    pruned: tuple[str, ...]
    data: Data
    attack: Row
    exemplars: Exemplars
    class_tests: ClassTests


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """All comparisons and populations of a store, and what each column of the table ``statistics`` means."""

    comparisons: tuple[ComparisonFacts, ...]
    populations: tuple[PopulationFacts, ...]
    meanings: dict[str, str]


def read_facts(store: Store) -> Facts:
    """Return all comparisons of a store that have samples; measurements and data that they share are read once.

    Raises
    ------
    InputError
        Where the store has none.

    """
    rows = records(store.sql(query("report_comparisons")))
    if not rows:
        raise InputError(f"{store.path} holds no comparison yet: thinice compare dense.pt pruned.pt makes one")
    tables = {name: _keyed(store, name) for name in ("checkpoints", "datasets", "attacks", "statistics")}
    data = {key: _data(store, tables["datasets"][key]) for key in {row["dataset_id"] for row in rows}}
    meanings = {table: _meanings(store, table) for table in ("statistics", "epsilons", "predictions")}
    measured: dict[int, MeasurementFacts] = {}
    comparisons = []
    patterns = stored_patterns(store)
    for row in rows:
        key = row["measurement_id"]
        if key not in measured:
            measured[key] = _measured(store, row, tables, meanings, data[row["dataset_id"]])
        comparisons.append(_compared(store, row, tables, meanings, measured[key], patterns=patterns))
    return Facts(tuple(comparisons), tuple(_populations(store, tables, data)), meanings["statistics"])


def _populations(store: Store, tables: dict[str, dict[int, Row]], data: dict[int, Data]) -> Iterator[PopulationFacts]:
    """Yield what populations differ by, where all their samples are there."""
    frame = store.sql(query("report_populations"))
    for _, members in frame.groupby("population", sort=False):
        key, attack = int(members["dataset_id"].iloc[0]), tables["attacks"][int(members["attack_id"].iloc[0])]
        selection = data.get(key) or _data(store, tables["datasets"][key])
        roles = {role: members[members["role"] == role] for role in ("dense", "pruned")}
        predicted = {
            role: np.array([_classes(_clean_predictions(store, int(network), selection)) for network in networks])
            for role, networks in ((role, rows["checkpoint_id"]) for role, rows in roles.items())
        }
        keys = roles["dense"]["measurement_id"].dropna()
        measured = [_aligned(_of(store, "report_epsilons", key=int(number)), selection) for number in keys]
        complete = all(rows["outcome"].notna().all() for rows in measured) and len(measured) == len(predicted["dense"])
        if not complete or not all(map(len, (*predicted.values(), selection.labels))):
            continue
        epsilon = np.array([rows["epsilon"].to_numpy(np.float64, na_value=np.nan) for rows in measured])
        names = {role: tuple(brief(name) for name in rows["name"]) for role, rows in roles.items()}
        yield PopulationFacts(
            names["dense"],
            names["pruned"],
            selection,
            _named(attack),
            exemplars(selection.labels, predicted["dense"], predicted["pruned"], epsilon),
            class_tests(selection.labels, predicted["dense"], predicted["pruned"]),
        )


def brief(text: str, most: int = LETTERS) -> str:
    """Return text that others wrote with its middle left out where it is very long.

    >>> brief("seven letters", 7)
    'sev…ers'
    """
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"


def _named(row: Row) -> Row:
    """Return a row of checkpoints, data sets or attacks with names that a page has room for."""
    classes = {"classes": [brief(name) for name in row["classes"]]} if isinstance(row.get("classes"), list) else {}
    return row | {"name": brief(row["name"])} | classes


def _keyed(store: Store, table: str) -> dict[int, Row]:
    """Return all rows of a small table by their key, which is the first column."""
    return {next(iter(row.values())): row for row in records(store.sql(f"from {table}"))}


def _of(store: Store, name: str, **keys: int) -> pd.DataFrame:
    return store.sql(query(name), keys)


def _meanings(store: Store, table: str) -> dict[str, str]:
    return {row["column"]: row["comment"] or "" for row in records(store.describe(table))}


def _data(store: Store, row: Row) -> Data:
    frame = _of(store, "report_samples", key=row["dataset_id"])
    return Data(
        _named(row),
        row["name"],
        frame["sample_id"].to_numpy(np.int64),
        frame["label"].to_numpy(np.int64),
        frame["digest"].to_numpy(np.uint64),
        tuple(brief(path, 4 * LETTERS) for path in frame["source"])
        if len(frame) and frame["source"].notna().all()
        else None,
    )


def _measured(
    store: Store, row: Row, tables: dict[str, dict[int, Row]], meanings: dict[str, dict[str, str]], data: Data
) -> MeasurementFacts:
    frame = _aligned(_of(store, "report_epsilons", key=row["measurement_id"]), data)
    outcomes = frame["outcome"].astype(object).map({outcome.text: int(outcome) for outcome in Outcome})
    known = {"outcome", "epsilon", "prediction", "clean_prediction"}
    of_network = _predictions(store, row["checkpoint_id"], data)
    dense = _named(tables["checkpoints"][row["checkpoint_id"]])
    proved = _aligned(_of(store, "proved_bounds", measurement_id=row["measurement_id"]), data)["epsilon_lower"]
    return MeasurementFacts(
        row["measurement_id"],
        dense,
        _training(store, row["checkpoint_id"]),
        _named(tables["attacks"][row["attack_id"]]),
        data,
        frame["epsilon"].to_numpy(np.float64, na_value=np.nan),
        np.asarray(outcomes.fillna(-1), np.int64),
        _classes(frame["prediction"]),
        _classes(frame["clean_prediction"]),
        _losses(of_network),
        (
            *_axes(frame.drop(columns=list(known)), meanings["epsilons"], ""),
            *_axes(of_network, meanings["predictions"], dense["name"]),
        ),
        proved.to_numpy(np.float64, na_value=np.nan) if proved.notna().any() else None,
    )


def _compared(
    store: Store,
    row: Row,
    tables: dict[str, dict[int, Row]],
    meanings: dict[str, dict[str, str]],
    measured: MeasurementFacts,
    *,
    patterns: tuple[Finding, ...],
) -> ComparisonFacts:
    key, data = row["comparison_id"], measured.data
    networks = [tables["checkpoints"][row[name]] for name in ("checkpoint_id", "pruned_checkpoint_id")]
    names, pruned = {network["name"] for network in networks}, _named(networks[1])
    frame = _aligned(_of(store, "report_transitions", key=key), data)
    keys = {"network": row["pruned_checkpoint_id"], "data": row["dataset_id"]}
    of_network = _predictions(store, keys["network"], data)
    own = frame["pruned_epsilon"].to_numpy(np.float64, na_value=np.nan)
    proved = frame["pruned_epsilon_lower"].to_numpy(np.float64, na_value=np.nan)
    asked = bool(np.isfinite(own).any())
    return ComparisonFacts(
        key,
        measured,
        pruned,
        _training(store, row["pruned_checkpoint_id"]),
        row["basis"],
        row["budget"],
        frame["transition"].fillna("").to_numpy(np.str_),
        _classes(frame["pruned_prediction"]),
        (
            *_axes(of_network, meanings["predictions"], pruned["name"]),
            *((Axis(f"epsilon, {pruned['name']}", OWN, own, is_epsilon=True),) if asked else ()),
            *(
                (Axis(f"proved, {pruned['name']}", OWN_PROVED, proved, is_epsilon=True, is_proved=True),)
                if np.isfinite(proved).any()
                else ()
            ),
        ),
        own if asked else None,
        _predictor_comparison(store, key),
        _class_impact(measured, _classes(frame["pruned_prediction"]), _losses(of_network))
        if frame["transition"].notna().all()
        else None,
        tables["statistics"].get(key),
        tuple(records(_of(store, "report_runs", comparison=key, measurement=row["measurement_id"], **keys))),
        tuple(records(_of(store, "report_findings", dense=row["checkpoint_id"], pruned=row["pruned_checkpoint_id"]))),
        tuple(pattern for pattern in patterns if names & set(pattern.subjects)),
    )


def _training(store: Store, checkpoint_id: int) -> History:
    """Return the epochs of the training that a network came out of."""
    rows = records(_of(store, "report_training", network=checkpoint_id))
    epochs = [Epoch(number=row["epoch"], **{name: row[name] for name in EPOCH_COLUMNS}) for row in rows]
    return History(epochs, chosen=rows[0]["chosen_epoch"] or 0, notes=rows[0]["notes"] or ()) if rows else History([])


def _predictor_comparison(store: Store, comparison_id: int) -> PredictorComparison | None:
    frame = _of(store, "report_predictors", key=comparison_id)
    columns = {name: frame[name].to_numpy(np.float64, na_value=np.nan) for name in frame.columns[1:]}
    if frame.empty or any(np.isnan(columns[name]).any() for name in ("margin", "confidence", "loss")):
        return None
    if np.isnan(columns["gradient_norm"]).any():
        del columns["gradient_norm"]
    return compare_predictors(frame["lost"].to_numpy(np.bool_), columns)


def _class_impact(
    measured: MeasurementFacts, pruned_predictions: NDArray[np.int64], pruned_losses: NDArray[np.float64]
) -> ClassImpact | None:
    """Return what pruning does to each class; None without samples. Losses that the store lacks are not known."""
    labels = measured.data.labels
    if not len(labels):
        return None
    known = not np.isnan([measured.losses, pruned_losses]).any()
    return class_impact(
        labels,
        measured.predictions,
        pruned_predictions,
        dense_losses=measured.losses if known else None,
        pruned_losses=pruned_losses if known else None,
    )


def _losses(predictions: pd.DataFrame) -> NDArray[np.float64]:
    return predictions["loss"].to_numpy(np.float64, na_value=np.nan)


def _predictions(store: Store, checkpoint_id: int, data: Data) -> pd.DataFrame:
    return _aligned(_of(store, "report_predictions", network=checkpoint_id, data=data.row["dataset_id"]), data)


def _clean_predictions(store: Store, checkpoint_id: int, data: Data) -> pd.Series[Any]:
    frame = _of(store, "clean_predictions", checkpoint_id=checkpoint_id, dataset_id=data.row["dataset_id"])
    return _aligned(frame, data)["prediction"]


def _aligned(frame: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Return the rows in the order of the data's samples, empty where there is none."""
    return frame.set_index("sample_id").reindex(data.sample_ids)


def _classes(column: pd.Series[Any]) -> NDArray[np.int64]:
    return np.asarray(column.astype("Float64").fillna(-1), np.int64)


def _axes(frame: pd.DataFrame, meanings: dict[str, str], network: str) -> list[Axis]:
    """Return the columns of numbers that have one: whatever the store keeps of a sample can be an axis."""
    axes = []
    for name in frame.columns:
        if pd.api.types.is_bool_dtype(frame[name]) or not pd.api.types.is_numeric_dtype(frame[name]):
            continue
        values = frame[name].to_numpy(np.float64, na_value=np.nan)
        if np.isfinite(values).any():
            axes.append(Axis(f"{name}, {network}" if network else str(name), meanings.get(str(name), ""), values))
    return axes
