"""All that the attacks in a store say of one network, held against each other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.consistency.contradiction import Contradiction, contradictions
from thinice.consistency.evidence import Evidence, fixed_budget, minimum_norm

if TYPE_CHECKING:
    from collections.abc import Hashable

    import pandas as pd

    from thinice.store import Store

    Attack = dict[Hashable, Any]  # a row of the answer, its settings read

__all__ = ["Check", "check_store", "stored_warnings"]

# every verdict of an attack: an epsilon, or robust or not at a budget; a sample_id that stands for different contents
# in different selections counts as different samples
EVERYTHING = """
with said as (
    select measurement_id, sample_id, epsilon::double as epsilon, null::double as budget, null::boolean as robust
    from epsilons
    union all
    select measurement_id, sample_id, epsilon::double, budget, robust_alone
    from verdicts
    where robust_alone is not null
)
select
    k.checkpoint_id, k.name as network, d.name as data, d.split, list_product(d.shape)::bigint as entries,
    a.attack_id, a.name as attack, a.norm::text as norm, a.settings::text as settings,
    said.sample_id, said.epsilon, said.budget, said.robust,
    dense_rank() over (partition by d.name, d.split, said.sample_id order by s.digest) as variant
from said
join measurements m using (measurement_id)
join checkpoints k using (checkpoint_id)
join datasets d using (dataset_id)
join attacks a using (attack_id)
join samples s on s.dataset_id = m.dataset_id and s.sample_id = said.sample_id
where $measurement_id is null
    or m.checkpoint_id = (select checkpoint_id from measurements where measurement_id = $measurement_id)
qualify row_number() over (
    partition by k.checkpoint_id, d.name, d.split, a.attack_id, s.digest, said.sample_id order by m.measurement_id
) = 1
order by k.checkpoint_id, d.name, d.split, variant, a.attack_id, said.sample_id
"""

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


def check_store(store: Store, *, tolerance: float = 0.1, measurement_id: int | None = None) -> tuple[Check, ...]:
    """Return which results in a store cannot all be true: one check for each network and data set.

    Epsilons and verdicts at budgets of the same network and samples are held against each other, whatever run and
    selection they come from. What an attack was spared, because the store knew the sample broken, is not its claim.

    Parameters
    ----------
    store : Store
        Made by `thinice.open_store`.
    tolerance : float
        As for `contradictions`.
    measurement_id : int, optional
        Only of the network of this measurement.

    Examples
    --------
    >>> import tempfile, thinice
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check_store(thinice.open_store(f"{folder}/new.duckdb", new=True))
    ()

    """
    checks = list[Check]()
    frame = store.sql(EVERYTHING, {"measurement_id": measurement_id})
    for (_, network, data, split, _), rows in frame.groupby(["checkpoint_id", "network", "data", "split", "variant"]):
        evidence = _evidence(rows)
        found = contradictions(evidence, entries=int(rows["entries"].iloc[0]), tolerance=tolerance)
        checks.append(Check(str(network), str(data), str(split), tuple(one.name for one in evidence), found))
    return tuple(checks)


def _evidence(rows: pd.DataFrame) -> list[Evidence]:
    """Return what each attack in the rows of one network says."""
    attacks = rows.drop_duplicates("attack_id").to_dict("records")
    for one in attacks:
        one["settings"] = json.loads(one["settings"])
    found = list[Evidence]()
    for one in attacks:
        name, norm, settings, budget = _label(one, attacks), one["norm"], one["settings"], one["budget"]
        others = {key: value for key, value in settings.items() if key != "steps"}
        family, steps = json.dumps([one["attack"], norm, others], sort_keys=True), settings.get("steps")
        part = rows[rows["attack_id"] == one["attack_id"]]
        ids, epsilon = part["sample_id"].to_numpy(), part["epsilon"].to_numpy(dtype=np.float64)
        if np.isnan(budget):
            found.append(minimum_norm(name, norm, ids, epsilon, family=family, steps=steps))
        else:
            robust = part["robust"].to_numpy(dtype=bool)
            found.append(fixed_budget(name, norm, budget, ids, robust, length=epsilon, family=family, steps=steps))
    return found


def _label(one: Attack, attacks: list[Attack]) -> str:
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
