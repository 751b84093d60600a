"""What the public benchmark asks of a contributor, out of a store: taxonomy, keys, results, distances, hashes."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thinice.errors import InputError
from thinice.files import expanded, make_folder, temporary_folder, writable
from thinice.leaderboard.distance_files import beyond, distance_bytes
from thinice.leaderboard.model_keys import SPARSITIES, ModelKey
from thinice.leaderboard.results import Protocol
from thinice.leaderboard.taxonomy import parse_entries
from thinice.printable import records
from thinice.stats import wilson
from thinice.store import Store, open_store, query
from thinice.types import Interval, Outcome

__all__ = ["Exported", "export_benchmark"]

BUDGET = Protocol().budget
ENTRIES, RESULTS, ISSUE = "entries.json", "results.json", "issue.md"
LEAST = 3
"""Checkpoints that the public benchmark asks for: one architecture, data set and structure at its three sparsities."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: the files, the keys of the networks, and what is missing for a contribution."""

    files: tuple[Path, ...]
    keys: tuple[str, ...]
    missing: tuple[str, ...]


def export_benchmark(store: Store | str | Path, folder: str | Path, *, overwrite: bool = False) -> Exported:
    """Write what the public benchmark asks of a contributor, out of a store, and return what was written.

    ``entries.json``: the methods in the taxonomy. ``MODEL_KEY.pickle``: the distances that HO-FMN found for a network,
    a list of plain numbers; 0 where the sample is misclassified, infinite where nothing was found. ``results.json``:
    all numbers, with what the public form lacks: hashes, sample ids, settings, versions, verdicts, transitions.
    ``issue.md``: the text of the contribution, in which only the addresses of the uploaded files have to be filled in.

    Parameters
    ----------
    store : Store or path
        Where `thinice.benchmark` has measured.
    folder : path
        Made where it is not there.
    overwrite : bool
        Replace files that are there.

    Raises
    ------
    InputError
        Where no network has a method and a category, or a file must not be written.

    """
    opened = store if isinstance(store, Store) else open_store(store)
    target, standard = expanded(folder, "folder"), Protocol().to_dict()
    rows = records(opened.sql(query("benchmark_networks")))
    measured = [row for row in rows if json.loads(row["protocol"]) == standard]
    named: dict[str, dict[str, Any]] = {}  # measured on several selections, a network counts with the last one
    missing = list[str]()
    for row in measured:
        if row["model_key"] is None:
            missing.append(f"{row['network']}: the leaderboards have no category like it")
        elif row["method"] is None:
            missing.append(f"{row['network']}: its method is not known; benchmark it with --method-entry")
        else:
            named[row["model_key"]] = row
    if not named:
        reason = (
            "; ".join(dict.fromkeys(missing)) or "it holds no network of the benchmark: run thinice benchmark first"
        )
        raise InputError(f"`store` {opened.path} has nothing to export: {reason}")
    models = [_model(opened, key, row) for key, row in named.items()]
    missing += _incomplete(list(map(ModelKey.parse, named)))
    entries = {row["method"]: parse_entries(row["entry"])[0].to_dict() for row in named.values()}
    texts: dict[str, bytes] = {f"{model['model_key']}.pickle": model.pop("content") for model in models}
    texts[ENTRIES] = _json(list(entries.values()))
    texts[RESULTS] = _json({"format": "thinice benchmark", "version": 1, "protocol": standard, "models": models})
    texts[ISSUE] = _issue(list(entries.values()), models).encode()
    make_folder(target, "`folder`")
    for name in texts:
        writable(target / name, argument="folder", overwrite=overwrite, store=opened.path)
    with temporary_folder(target) as unfinished:
        for name, content in texts.items():
            (unfinished / name).write_bytes(content)
        files = tuple((unfinished / name).replace(target / name) for name in texts)
    return Exported(files, tuple(named), tuple(dict.fromkeys(missing)))


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _model(store: Store, key: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return all that is known of one network, and the content of its file of distances."""
    epsilons = store.sql(query("measured_epsilons"), {"measurement_id": row["ho_fmn_id"]})
    not_found = (epsilons["outcome"] == Outcome.NOT_FOUND).to_numpy()
    distances = np.where(not_found, np.inf, epsilons["epsilon"].to_numpy(np.float64))
    verdicts = store.sql(query("sample_verdicts"), {"measurement_id": row["autoattack_id"]})
    transitions = {}
    for basis, column in (("clean", "comparison_id"), ("robust", "robust_comparison_id")):
        counts = store.sql(query("transition_counts"), {"comparison_id": row[column]})
        transitions[basis] = dict(zip(counts["transition"], counts["n"].tolist(), strict=True))
    content, path = distance_bytes(distances.tolist()), row["path"]
    robust = int(beyond(distances, BUDGET).sum())
    return {
        "model_key": key,
        "content": content,
        "network": row["network"],
        "checkpoint": {
            "file": None if path is None else Path(path).name,
            "sha256": _sha256(path),
            "fingerprint": row["fingerprint"],
        },
        "dense": {"network": row["dense"], "fingerprint": row["dense_fingerprint"]},
        "architecture": row["architecture"],
        "normalization": json.loads(row["normalization"] or "null"),
        "sparsity": row["removed_share"],
        "layers": json.loads(row["layers"]),
        "data": row["data"],
        "split": row["split"],
        "samples": len(distances),
        "samples_fingerprint": row["samples"],
        "sample_ids": epsilons["sample_id"].tolist(),
        "clean_accuracy": row["clean_accuracy"],
        "autoattack": {
            "accuracy": row["robust_accuracy"],
            "low": row["low"],
            "high": row["high"],
            "settings": json.loads(row["attack_settings"]),
            "robust": verdicts["alone"].astype(bool).tolist(),
        },
        "ho_fmn": {
            "accuracy": robust / len(distances),
            **_bounds(wilson(robust, len(distances))),
            "not_found": int(not_found.sum()),
            "settings": json.loads(row["ho_fmn_settings"]),
            "distances": f"{key}.pickle",
            "sha256": hashlib.sha256(content).hexdigest(),
        },
        "area": row["area"],
        "transitions": transitions,
        "versions": json.loads(row["versions"]),
    }


def _bounds(interval: Interval) -> dict[str, float]:
    return {"low": interval.low, "high": interval.high}


def _sha256(path: str | None) -> str | None:
    """Return the hash of a checkpoint's file; None where it is no longer there."""
    if path is None or not Path(path).is_file():
        return None
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _incomplete(keys: Sequence[ModelKey]) -> list[str]:
    """Return what the least contribution lacks: three sparsities of one architecture, data set and structure."""
    groups = defaultdict[tuple[str, ...], set[int]](set)
    for key in keys:
        groups[(key.method, *key.category[:3])].add(key.category.sparsity)
    lacking = []
    for (method, *group, structure), sparsities in groups.items():
        left = [f"{sparsity} %" for sparsity in SPARSITIES[structure] if sparsity not in sparsities]
        if left:
            lacking.append(f"{method}, {', '.join((*group, structure))}: {LEAST} sparsities are asked for; {left} lack")
    return [text.replace("[", "").replace("]", "").replace("'", "") for text in lacking]


def _issue(entries: Sequence[dict[str, str]], models: Sequence[dict[str, Any]]) -> str:
    """Return the text of a contribution, as the public benchmark's form asks for it."""
    entry = json.dumps(entries[0] if len(entries) == 1 else entries, indent=2, ensure_ascii=False)
    inside = [model["model_key"] for model in models if model["normalization"] is not None]
    architectures = sorted({model["architecture"] for model in models})
    return "\n\n".join(
        [
            f"# New AP method\n\n## JSON entry\n\n```json\n{entry}\n```",
            *(_section(number, model) for number, model in enumerate(models, 1)),
            "## Architecture details and normalization",
            f"Normalisation inside the network: {', '.join(inside) or 'none'}.",
            f"Architectures: {', '.join(architectures)}.",
            f"Sample ids, settings, versions and verdicts are in {RESULTS}.\n",
        ]
    )


def _section(number: int, model: dict[str, Any]) -> str:
    """Return what the form asks of one network."""
    key, attacked, ho_fmn = model["model_key"], model["autoattack"], model["ho_fmn"]
    ending = Path(model["checkpoint"]["file"] or "network.pt").suffix
    low, high = (100 * attacked[bound] for bound in ("low", "high"))
    of_samples = f"{model['samples']} {model['split']} samples; 95 % interval {low:.2f} to {high:.2f}; budget 8/255"
    return (
        f"## Evaluation results of model {number}\n\n"
        f'_Model GDrive:_ "{key}" : ["YOUR_FILE_ID", "{ending}"] (sha256 {model["checkpoint"]["sha256"]})\n'
        f'_Distances GDrive:_ "{key}" : ["YOUR_FILE_ID", ".pickle"] (sha256 {ho_fmn["sha256"]})\n\n'
        f"_Clean accuracy:_ {100 * model['clean_accuracy']:.2f}\n"
        f"_Robust accuracy (AA):_ {100 * attacked['accuracy']:.2f} ({of_samples})\n"
        f"_Robust accuracy (HO-FMN):_ {100 * ho_fmn['accuracy']:.2f}"
    )
