"""What the checks of a store say: which of its results cannot all be true, and what its evaluations were warned of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from thinice.checks.contradictions import ContradictionCounter, Evidence, fixed_budget, minimum_norm, verified
from thinice.checks.study_patterns import stored_patterns
from thinice.results import Finding, stored_finding
from thinice.store import Store, open_store, query, stored_settings

if TYPE_CHECKING:
    import pandas as pd

    Row = dict[str, Any]
    Group = tuple[int, str, str, int]

__all__ = ["NetworkCheck", "StoreCheck", "check", "check_store", "stored_warnings"]

ROWS = 200_000
"""What is held in memory at once: a store may be larger than that."""


@dataclass(frozen=True, slots=True)
class NetworkCheck:
    """What the attacks on one network in a store say of each other.

    Attributes
    ----------
    network, data, split : str
        The network, and the samples that it was attacked on.
    attacks : tuple of str
        Those that were compared with each other.
    findings : tuple of Finding
        Where they contradict.

    """

    network: str
    data: str
    split: str
    attacks: tuple[str, ...]
    findings: tuple[Finding, ...]

    def rows(self, *, by_sample: bool = False) -> list[dict[str, str | int | float]]:
        """Return the contradictions in flat rows, for tables, JSON and CSV: one a pair of attacks, or one a sample."""
        rows = list[dict[str, str | int | float]]()
        for finding in self.findings:
            (claim, proof), (norm, proof_norm) = finding.subjects, finding.norms
            row = {"network": self.network, "data": self.data, "kind": finding.check}
            row |= {"claim": claim, "norm": norm, "proof": proof, "proof_norm": proof_norm}
            samples = list(zip(finding.samples, finding.claimed, finding.bounds, strict=True))
            if by_sample:
                rows += [row | {"sample_id": number, "claimed": high, "at_most": low} for number, high, low in samples]
            else:
                worst, claimed, bound = samples[0]
                seen = {"samples": finding.count, "of": finding.of, "worst": worst}
                rows.append(row | seen | {"claimed": claimed, "at_most": bound})
        return rows


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """What speaks against the results in a store; made by `thinice.check`.

    Attributes
    ----------
    networks : tuple of NetworkCheck
        For each network and data set, which attacks contradict each other.
    warnings : tuple of str
        What the checks of earlier evaluations have raised, and the patterns that wrong studies show: a sentence each.

    """

    networks: tuple[NetworkCheck, ...]
    warnings: tuple[str, ...]

    @property
    def compared(self) -> int:
        """How many networks several attacks can be compared on."""
        return sum(len(network.attacks) > 1 for network in self.networks)

    @property
    def contradictions(self) -> tuple[Finding, ...]:
        """Those of all networks."""
        return tuple(finding for network in self.networks for finding in network.findings)

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do about the contradictions, once for each kind."""
        return tuple(dict.fromkeys(f"{finding.check}: {finding.advice}" for finding in self.contradictions))

    def rows(self, *, by_sample: bool = False) -> list[dict[str, str | int | float]]:
        """Return the contradictions of all networks, as `NetworkCheck.rows` does."""
        return [row for network in self.networks for row in network.rows(by_sample=by_sample)]


def check(
    store: Store | str | Path = "thinice.duckdb", *, tolerance: float = 0.1, most: int | None = None
) -> StoreCheck:
    """Return whether the results in a store can all be true, and what its evaluations were warned of.

    Results of the same samples are compared: an adversarial in one norm bounds the distance in all others; a sample
    that is broken at a budget is not robust there; more steps must not change much.

    Parameters
    ----------
    store : Store or path
        What to look into.
    tolerance : float
        Share of an epsilon by which another may be nearer, 0 or more and below 1.
    most : int, optional
        So many of the samples of each contradiction are named, the worst; all are counted.

    Raises
    ------
    InputError
        For a tolerance that is none.
    StoreError
        For a store that cannot be read.

    Examples
    --------
    >>> import tempfile, thinice
    >>> dense = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    >>> samples = thinice.load_samples("digits", limit=20)
    >>> quick = {"attack": "fmn", "effort": "quick", "progress": False}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = f"{folder}/thinice.duckdb"
    ...     for norm in ("l2", "linf"):
    ...         measured = thinice.measure_all([dense], samples, norm=norm, store=store, **quick)
    ...     found = thinice.check(store)
    >>> found.compared, found.rows(), found.warnings
    (1, [], ())

    """
    opened = store if isinstance(store, Store) else open_store(store)
    networks = check_store(opened, tolerance=tolerance, most=most)
    return StoreCheck(networks, (*stored_warnings(opened), *map(str, stored_patterns(opened))))


def check_store(
    store: Store, *, tolerance: float = 0.1, measurement_id: int | None = None, most: int | None = None
) -> tuple[NetworkCheck, ...]:
    """Return which results in a store cannot all be true, for each network and data set in it.

    Epsilons, verdicts at budgets, lower bounds and what other programs claim of the same network and samples are
    compared, whatever run and selection they come from. What an attack was spared, because the store knew the sample
    broken, is not its claim. Samples are read in parts, so that a large store does not have to fit into memory.

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
    networks = {row["checkpoint_id"]: row["name"] for row in _rows(store, "checkpoint_names")}
    data = {row["dataset_id"]: row for row in _rows(store, "dataset_names")}
    attacks = {row["attack_id"]: _attack(row) for row in _rows(store, "attack_names")}
    counters: dict[Group, ContradictionCounter] = {}
    attack_ids: dict[Group, set[int]] = {}
    wanted = {"measurement_id": measurement_id}
    for part in _rows(store, "attack_result_parts", wanted | {"rows": ROWS}):
        results = store.sql(query("attack_results"), wanted | part)
        for name in ("name", "split"):
            results[name] = results["dataset_id"].map({key: row[name] for key, row in data.items()})
        for key, rows in results.groupby(["checkpoint_id", "name", "split", "variant"]):
            group = cast("Group", key)
            evidence = _evidence(rows, attacks)
            counter = counters.setdefault(group, ContradictionCounter(tolerance=tolerance, most=most))
            counter.add(evidence, entries=data[rows["dataset_id"].iloc[0]]["entries"])
            attack_ids.setdefault(group, set()).update(evidence)
    checks = list[NetworkCheck]()
    for group in sorted(counters):
        network, name, split, _ = group
        compared = [
            attacks[attack_id] for attack_id in sorted(attack_ids[group], key=lambda number: (number < 0, number))
        ]
        labels = {attack["attack_id"]: _label(attack, compared) for attack in compared}
        findings = counters[group].findings(labels)
        checks.append(NetworkCheck(networks[network], name, split, tuple(labels.values()), findings))
    return tuple(checks)


def _rows(store: Store, name: str, parameters: Row | None = None) -> list[Row]:
    return cast("list[Row]", store.sql(query(name), parameters).to_dict("records"))


def _attack(row: Row) -> Row:
    """Return an attack with its settings read."""
    return row | {"settings": stored_settings(row["settings"])}


def _evidence(rows: pd.DataFrame, attacks: dict[int, Row]) -> dict[int, Evidence]:
    """Return what each attack in the rows of one network says, by the attack's number."""
    evidence = dict[int, Evidence]()
    for attack_id in rows["attack_id"].unique().tolist():
        part = rows[rows["attack_id"] == attack_id]
        attack, budget = attacks[attack_id], part["budget"].iloc[0]
        name, norm, settings = attack["attack"], attack["norm"], attack["settings"]
        others = {key: value for key, value in settings.items() if key != "steps"}
        family, steps = json.dumps([name, norm, others], sort_keys=True), settings.get("steps")
        ids, epsilon = part["sample_id"].to_numpy(), part["epsilon"].to_numpy(dtype=np.float64)
        if attack_id < 0:
            evidence[attack_id] = verified(name, norm, ids, part["radius"].to_numpy(dtype=np.float64))
        elif np.isnan(budget):
            evidence[attack_id] = minimum_norm(name, norm, ids, epsilon, family=family, steps=steps)
        else:
            robust = part["robust"].to_numpy(dtype=bool)
            evidence[attack_id] = fixed_budget(
                name, norm, budget, ids, robust, length=epsilon, family=family, steps=steps
            )
    return evidence


def _label(attack: Row, attacks: list[Row]) -> str:
    """Return the name of an attack, and the settings that tell it from others of that name."""
    name = attack["attack"], attack["norm"]
    all_settings = [other["settings"] for other in attacks if (other["attack"], other["norm"]) == name]
    settings = sorted({setting for settings in all_settings for setting in settings})
    differing = [name for name in settings if len({repr(other.get(name)) for other in all_settings}) > 1]
    return ", ".join([attack["attack"], *(f"{name} {_shown(attack['settings'].get(name))}" for name in differing)])


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
    sentences: dict[tuple[str, str, str], str] = {}
    for row in store.sql(query("raised_findings")).to_dict("records"):
        evaluation = f"{row['checkpoint']} on {row['data']}, {row['attack']} in {row['norm']}"
        key = row["checkpoint"], row["data"], row["check_name"]
        sentences.setdefault(key, f"{evaluation}: {stored_finding(row)}")
    return tuple(sentences.values())
