"""Settings of an attack that are searched for on other samples than those that it is evaluated on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.attacks import attack_row
from thinice.attacks.fixed_budget import is_budget_attack
from thinice.attacks.rows import MinNormRow
from thinice.data import Samples, load_samples
from thinice.data.subset import draw
from thinice.errors import InputError

if TYPE_CHECKING:
    from thinice.analysis.options import SearchOptions
    from thinice.analysis.session import MeasurementSession
    from thinice.attacks import Attack
    from thinice.attacks.rows import Setting
    from thinice.models import Classifier

__all__ = ["can_be_tuned", "samples_to_tune_on", "tuned_settings"]

HELD_OUT = 64
"""So many samples tune an attack, as published."""


def tuned_settings(
    session: MeasurementSession,
    classifier: Classifier,
    attack: str | Attack,
    tune_on: Samples | None,
    search: SearchOptions,
) -> tuple[Mapping[str, Setting], tuple[str, ...]]:
    """Return the settings of an attack that are best for a network on other samples, and a note that says how good."""
    tune = _tuner(attack) if isinstance(attack, str) and tune_on is not None else None
    if tune is None or tune_on is None:
        return {}, ()
    device, norm = session.engine.device, search.get("norm", "linf")
    columns = (column.to(device) for column in (tune_on.inputs[:], tune_on.labels, tune_on.sample_ids))
    tuned = tune(classifier.to(device), *columns, norm=norm, seed=search.get("seed", 0))
    default, best = tuned.trials[0].median, tuned.median
    note = f"{attack} tuned on {len(tune_on)} samples of {tune_on.split}, median {norm} {default:.4g} to {best:.4g}"
    return tuned.settings, (note,)


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
