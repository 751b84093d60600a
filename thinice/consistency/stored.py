"""All that the attacks in a store say of one network, held against each other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from thinice.consistency.contradiction import Contradiction, Tally
from thinice.consistency.evidence import Evidence, fixed_budget, minimum_norm
from thinice.store import stored_settings

if TYPE_CHECKING:
    import pandas as pd

    from thinice.store import Store

    Row = dict[str, Any]  # of an answer
    Group = tuple[int, str, str, int]  # network, name and split of the data, variant of the samples

__all__ = ["Check", "check_store", "stored_warnings"]

# every verdict of an attack: an epsilon, or robust or not at a budget; a sample_id that stands for different contents
# in different selections counts as different samples
SAID = """
with wanted as (
    from measurements
    where $measurement_id is null
        or checkpoint_id = (select checkpoint_id from measurements where measurement_id = $measurement_id)
),
said as (
    select measurement_id, sample_id, epsilon::double as epsilon, null::double as budget, null::boolean as robust
    from epsilons
    where sample_id between $first and $last
    union all
    select measurement_id, sample_id, epsilon::double, budget, robust_alone
    from verdicts
    where robust_alone is not null and sample_id between $first and $last
)
select
    m.checkpoint_id, m.dataset_id, m.attack_id, said.sample_id, said.epsilon, said.budget, said.robust,
    dense_rank() over (partition by d.name, d.split, said.sample_id order by s.digest) as variant
from said
join wanted m using (measurement_id)
join datasets d using (dataset_id)
join samples s on s.dataset_id = m.dataset_id and s.sample_id = said.sample_id
qualify row_number() over (
    partition by m.checkpoint_id, d.name, d.split, m.attack_id, s.digest, said.sample_id order by m.measurement_id
) = 1
order by m.attack_id, said.sample_id
"""
# ranges of sample_id that hold about so many rows each
PARTS = """
with counted as (
    select sample_id, count(*) as rows
    from (select measurement_id, sample_id from epsilons union all select measurement_id, sample_id from robustness)
    join measurements using (measurement_id)
    where $measurement_id is null
        or checkpoint_id = (select checkpoint_id from measurements where measurement_id = $measurement_id)
    group by sample_id
)
select min(sample_id) as first, max(sample_id) as last
from (select sample_id, sum(rows) over (order by sample_id) // $rows as part from counted)
group by part
order by part
"""
NETWORKS = "select checkpoint_id, name from checkpoints"
DATA = "select dataset_id, name, split, list_product(shape)::bigint as entries from datasets"
ATTACKS = "select attack_id, name as attack, norm::text as norm, settings::text as settings from attacks"
ROWS = 200_000
"""What is held in memory at once: a store may be larger than that."""

RAISED = """
select checkpoint, data, attack, norm, indicator, samples, looked_at, seen, advice
from warnings order by checkpoint, data, indicator, measurement_id
"""


@dataclass(frozen=True, slots=True)
class Check:
    """What the attacks on one network in a store say of each other.

    Attributes
    ----------
    network, data, split : str
        Whose evidence it is.
    attacks : tuple of str
        Those that were held against each other.
    contradictions : tuple of Contradiction
        Where they contradict.

    """

    network: str
    data: str
    split: str
    attacks: tuple[str, ...]
    contradictions: tuple[Contradiction, ...]


def check_store(
    store: Store, *, tolerance: float = 0.1, measurement_id: int | None = None, most: int | None = None
) -> tuple[Check, ...]:
    """Return which results in a store cannot all be true: one check for each network and data set.

    Epsilons and verdicts at budgets of the same network and samples are held against each other, whatever run and
    selection they come from. What an attack was spared, because the store knew the sample broken, is not its claim.
    Samples are read in parts, so that a large store does not have to fit into memory.

    Parameters
    ----------
    store : Store
        Made by `thinice.open_store`.
    tolerance : float
        As for `contradictions`.
    measurement_id : int, optional
        Only of the network of this measurement.
    most : int, optional
        So many of the samples of each contradiction are named, the worst; all are counted.

    Examples
    --------
    >>> import tempfile, thinice
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check_store(thinice.open_store(f"{folder}/new.duckdb", new=True))
    ()

    """
    networks = {row["checkpoint_id"]: row["name"] for row in _rows(store, NETWORKS)}
    data = {row["dataset_id"]: row for row in _rows(store, DATA)}
    attacks = {row["attack_id"]: _attack(row) for row in _rows(store, ATTACKS)}
    tallies: dict[Group, Tally] = {}
    heard: dict[Group, set[int]] = {}
    wanted = {"measurement_id": measurement_id}
    for part in _rows(store, PARTS, wanted | {"rows": ROWS}):
        said = store.sql(SAID, wanted | part)
        for name in ("name", "split"):
            said[name] = said["dataset_id"].map({key: row[name] for key, row in data.items()})
        for place, rows in said.groupby(["checkpoint_id", "name", "split", "variant"]):
            group = cast("Group", place)
            evidence = _evidence(rows, attacks)
            tally = tallies.setdefault(group, Tally(tolerance=tolerance, most=most))
            tally.add(evidence, entries=data[rows["dataset_id"].iloc[0]]["entries"])
            heard.setdefault(group, set()).update(evidence)
    checks = list[Check]()
    for group in sorted(tallies):
        network, name, split, _ = group
        alike = [attacks[attack] for attack in sorted(heard[group])]
        labels = {attack["attack_id"]: _label(attack, alike) for attack in alike}
        found = tallies[group].contradictions(labels)
        checks.append(Check(networks[network], name, split, tuple(labels.values()), found))
    return tuple(checks)


def _rows(store: Store, query: str, parameters: Row | None = None) -> list[Row]:
    return cast("list[Row]", store.sql(query, parameters).to_dict("records"))


def _attack(row: Row) -> Row:
    """Return an attack with its settings read."""
    return row | {"settings": stored_settings(row["settings"])}


def _evidence(rows: pd.DataFrame, attacks: dict[int, Row]) -> dict[int, Evidence]:
    """Return what each attack in the rows of one network says, by the attack's number."""
    said = dict[int, Evidence]()
    for attack in rows["attack_id"].unique().tolist():
        part = rows[rows["attack_id"] == attack]
        one, budget = attacks[attack], part["budget"].iloc[0]
        name, norm, settings = one["attack"], one["norm"], one["settings"]
        others = {key: value for key, value in settings.items() if key != "steps"}
        family, steps = json.dumps([name, norm, others], sort_keys=True), settings.get("steps")
        ids, epsilon = part["sample_id"].to_numpy(), part["epsilon"].to_numpy(dtype=np.float64)
        if np.isnan(budget):
            said[attack] = minimum_norm(name, norm, ids, epsilon, family=family, steps=steps)
        else:
            robust = part["robust"].to_numpy(dtype=bool)
            said[attack] = fixed_budget(name, norm, budget, ids, robust, length=epsilon, family=family, steps=steps)
    return said


def _label(one: Row, attacks: list[Row]) -> str:
    """Return the name of an attack, and the settings that tell it from others of that name."""
    alike = [other["settings"] for other in attacks if (other["attack"], other["norm"]) == (one["attack"], one["norm"])]
    names = sorted({name for settings in alike for name in settings})
    telling = [name for name in names if len({repr(settings.get(name)) for settings in alike}) > 1]
    return ", ".join([one["attack"], *(f"{name} {_shown(one['settings'].get(name))}" for name in telling)])


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def stored_warnings(store: Store) -> tuple[str, ...]:
    """Return what the checks of the evaluations in a store have raised: a sentence for each network, data and check.

    Where several evaluations raised it, the first is named.

    Examples
    --------
    >>> import tempfile, thinice
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stored_warnings(thinice.open_store(f"{folder}/new.duckdb", new=True))
    ()
    """
    told: dict[tuple[str, str, str], str] = {}
    for row in store.sql(RAISED).to_dict("records"):
        place = f"{row['checkpoint']} on {row['data']}, {row['attack']} in {row['norm']}"
        what = f"{row['indicator']}, {row['samples']} of {row['looked_at']} samples: {row['seen']}; {row['advice']}"
        told.setdefault((row["checkpoint"], row["data"], row["indicator"]), f"{place}: {what}")
    return tuple(told.values())
