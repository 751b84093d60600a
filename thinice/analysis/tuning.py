"""Settings of an attack that are searched for on other samples than those that it is evaluated on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.attacks import attack_row
from thinice.attacks.fixed_budget import is_budget_attack
from thinice.attacks.rows import MinNormRow
from thinice.data import Samples, load_samples
from thinice.data.subset import draw
from thinice.errors import InputError
from thinice.results.comparison_text import distance_text
from thinice.store import query

if TYPE_CHECKING:
    from thinice.analysis.session import MeasurementSession
    from thinice.attacks import Attack
    from thinice.attacks.rows import Setting
    from thinice.models import Classifier
    from thinice.store import Store

__all__ = ["can_be_tuned", "samples_to_tune_on", "stored_tuning", "tuned_settings"]

HELD_OUT = 64
"""So many samples tune an attack, as published."""
FIXED = {"loss": "losses", "optimizer": "optimizers", "scheduler": "schedulers"}
"""Settings that are not searched for, and the arguments of a search by which they are given."""


def tuned_settings(
    session: MeasurementSession,
    classifier: Classifier,
    attack: str | Attack,
    tune_on: Samples | None,
    search: Mapping[str, Any],
    **effort: int,
) -> tuple[Mapping[str, Setting], tuple[str, ...]]:
    """Return the settings of an attack that are best for a network on other samples, and a note that says how good.

    A loss, optimiser or scheduler in `search` is kept, and what belongs to it is tuned. What the session's store has of
    the same search is read.

    Parameters
    ----------
    session, classifier
        Whose store and device serve, and the network.
    attack, search
        As of `thinice.evaluate`; nothing is tuned where the attack has nothing to tune.
    tune_on
        Samples that are not evaluated; None tunes nothing.
    **effort
        ``trials`` and ``steps`` of the search, by default as published.

    """
    tune = _tuner(attack) if isinstance(attack, str) and tune_on is not None else None
    if tune is None or tune_on is None or not isinstance(attack, str):
        return {}, ()
    arguments, asked, key, fingerprint = _asked(classifier, attack, tune_on, search, effort)
    stored = stored_tuning(session.store, classifier, attack, tune_on, search, **effort)
    if stored is None:
        device = session.engine.device
        columns = (column.to(device) for column in (tune_on.inputs[:], tune_on.labels, tune_on.sample_ids))
        tuned = tune(classifier.to(device), *columns, **arguments)
        stored = tuned.settings, tuned.trials[0].median, tuned.median
        default, best = (median if math.isfinite(median) else None for median in stored[1:])
        with session.record(settings={"tuning": asked}, seed=arguments["seed"]) as run:
            run.add_tuning(
                fingerprint,
                **key,
                attack=attack,
                norm=arguments["norm"],
                asked=asked,
                settings=tuned.settings,
                median=best,
                default_median=default,
                n=len(tune_on),
            )
    settings, before, after = stored
    norm = arguments["norm"]
    medians = [distance_text(value, norm) if math.isfinite(value) else "none" for value in (before, after)]
    note = f"{attack} tuned on {len(tune_on)} samples of {tune_on.split}: median {norm} distance "
    return settings, (f"{note}{medians[0]} before, {medians[1]} after",)


def stored_tuning(
    store: Store, classifier: Classifier, attack: str, tune_on: Samples, search: Mapping[str, Any], **effort: int
) -> tuple[Mapping[str, Setting], float, float] | None:
    """Return what a store has of a search for settings, as `tuned_settings` keeps it; None where it has nothing.

    The settings, and the median epsilons of the default ones and of these, infinite where fewer than half were found.
    """
    *_, fingerprint = _asked(classifier, attack, tune_on, search, effort)
    rows = store.sql(query("tuning"), {"fingerprint": fingerprint})
    if rows.empty:
        return None
    medians = rows[["default_median", "median"]].fillna(math.inf)
    return json.loads(rows["settings"][0]), medians["default_median"][0], medians["median"][0]


def _asked(
    classifier: Classifier, attack: str, tune_on: Samples, search: Mapping[str, Any], effort: Mapping[str, int]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, str], str]:
    """Return the arguments of a search, what is recorded of it, what it is about, and the hash of all that decides."""
    fixed = {plural: (search[name],) for name, plural in FIXED.items() if name in search}
    arguments = {"norm": search.get("norm", "linf"), "seed": search.get("seed", 0), **fixed, **effort}
    asked = {"attack": attack, "version": attack_row(attack).version, **arguments}
    key = {"checkpoint": classifier.fingerprint, "samples": tune_on.fingerprint}
    return arguments, asked, key, hashlib.sha256(json.dumps([key, asked], sort_keys=True).encode()).hexdigest()


def samples_to_tune_on(
    samples: Samples, *, data: str | None = None, split: str = "train", image_size: int | None = None
) -> Samples:
    """Return 64 samples that are not among those to be evaluated, as many of each class: for ``tune_on``.

    Parameters
    ----------
    samples : Samples
        Those that will be evaluated.
    data, split, image_size
        Where the others are taken from, as of `thinice.load_samples`; by default the data set of `samples`.

    Raises
    ------
    DataError
        Where the data set has no such split.
    InputError
        Where the split holds no other samples.

    """
    evaluated = set(samples.sample_ids.tolist()) if split == samples.split else set()
    pool = load_samples(data or samples.name, split=split, limit=HELD_OUT + len(evaluated), image_size=image_size)
    free = [position for position, sample_id in enumerate(pool.sample_ids.tolist()) if sample_id not in evaluated]
    if not free:
        raise InputError(f"`split` {split!r} has no samples but those to be evaluated: name another, or leave some out")
    others = pool[np.array(free)]
    return others[draw(others.sample_ids, others.labels, HELD_OUT)]


def can_be_tuned(attack: str) -> bool:
    """Return whether an attack has settings that can be tuned on other samples, as ``tune_on`` of `evaluate` does."""
    return not is_budget_attack(attack) and _tuner(attack) is not None


def _tuner(attack: str) -> Callable[..., Any] | None:
    """Return what tunes the settings of an attack that minimises the norm; None where there is nothing to tune."""
    row = attack_row(attack)
    return row.tune if isinstance(row, MinNormRow) else None
