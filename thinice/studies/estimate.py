"""What a study costs, before it is run: networks, passes, and the time by a second that is measured."""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from thinice.attacks.fixed_budget import AttackEnsemble
from thinice.attacks.tmn.settings import LONG, TmnSettings
from thinice.engines.local import first_batch_size
from thinice.errors import DataError, InputError
from thinice.files import expanded
from thinice.models import build, find_architecture
from thinice.numerics import pick_device
from thinice.store import Store, open_store, query
from thinice.studies.measuring import Cells
from thinice.studies.networks import NetworkFiles, waves
from thinice.studies.running import NETWORKS, load_setup
from thinice.training import train

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from thinice.attacks import Attack
    from thinice.data import Samples
    from thinice.studies.definition import Setup, Study
    from thinice.training import Plan

__all__ = ["SetupEstimate", "estimate_study", "passes_a_second", "passes_of"]

MEASURED = 1.0
"""Seconds that training, and attacking, are measured for, each setup."""
STARTING, MAKING, ATTACKING = 6.0, 0.2, 0.4
"""Seconds that are no passes, on two cores: imports, data, tables and figures of a setup; the files of a network; each
attack on a network, with the prediction of clean samples and the store. In small studies they are most of the time."""


@dataclass(frozen=True, slots=True)
class SetupEstimate:
    """What one setup of a study costs.

    Attributes
    ----------
    setup : str
        Its name.
    cells, networks : int
        As of `Study`, of this setup alone.
    made, finished : int or None
        Networks whose file is there, and networks of which all cells are in the store.
    training_passes, attack_passes : float or None
        Forward-backward passes of single samples that are still to be done, of trainings that may end early at most.
    seconds : float or None
        How long that takes at the speed that was measured, with what is no passes; None where the samples are not here.
    note : str
        What is not in the numbers.

    """

    setup: str
    cells: int
    networks: int
    made: int | None = None
    finished: int | None = None
    training_passes: float | None = None
    attack_passes: float | None = None
    seconds: float | None = None
    note: str = ""


def estimate_study(
    study: Study,
    *,
    store: str | PathLike[str] = "thinice.duckdb",
    networks: str | PathLike[str] = NETWORKS,
    device: str = "auto",
) -> tuple[SetupEstimate, ...]:
    """Return what the setups of a study cost; nothing is written or downloaded, but a second of each is measured.

    Parameters
    ----------
    study, store, networks, device
        As of `run_study`.

    """
    path = expanded(store, "store")
    opened = open_store(path) if path.exists() else None
    folder, place = expanded(networks, "networks"), pick_device(device)
    return tuple(_estimate(study, setup, opened, folder, place) for setup in study.setups)


def _estimate(study: Study, setup: Setup, store: Store | None, folder: Path, device: torch.device) -> SetupEstimate:
    counts = SetupEstimate(
        setup=setup.name,
        cells=len(setup.points) * len(study.methods) * len(study.rates),
        networks=study.networks // len(study.setups),
    )
    try:
        training, samples = load_setup(setup, download=False)
        files = NetworkFiles(setup, training, folder)
        cells = Cells(study, setup, files, samples)
    except (DataError, InputError) as error:  # no such data here, or a budget beyond what their images allow
        return replace(counts, note=str(error))
    plans = [plan for wave in waves(study) for plan in wave]
    wanted = {plan: cells.of(plan) for plan in plans}
    keys = [cell.key for each in wanted.values() for cell in each]
    finished = set() if store is None else set(store.sql(query("study_cells"), {"ids": keys})["cell"])
    made = {plan for plan in plans if files.is_made(plan)}
    first, later = setup.training.plan(0, training), setup.retraining.plan(0, training)
    speed = _training_speed(setup, training, first, device)
    training_passes = attack_passes = seconds = 0.0
    starts = 0
    unknown = set[str]()
    for plan in plans:
        if plan not in made:
            passes = _passes_of_training(later if plan.method else first, len(training))
            if plan.method is not None and plan.method.search is not None:
                passes += _passes_of_training(plan.method.search.plan(0, training), len(training))
            training_passes += passes
            seconds += MAKING + passes / speed
        minimised = set[str]()
        for cell in wanted[plan]:
            label = f"{cell.attack.name} {cell.attack.norm}"
            if cell.key in finished or label in minimised:
                continue
            if cell.choice.minimises:  # once for all budgets
                minimised.add(label)
            each = passes_of(cell.attack)
            if each is None:
                unknown.add(cell.attack.name)
            attack_passes += (each or 0) * len(samples)
            starts += 1
    seconds += starts * ATTACKING + (STARTING if starts else 0)
    seconds += attack_passes / _attack_speed(setup, samples, device)
    notes = [f"without {name}, whose passes are not known" for name in sorted(unknown)]
    if first.recipe.patience is not None or later.recipe.patience is not None:
        notes.append("at most: training ends earlier where it does not improve")
    return replace(
        counts,
        made=len(made),
        finished=sum(bool(each) and all(cell.key in finished for cell in each) for each in wanted.values()),
        training_passes=training_passes,
        attack_passes=attack_passes,
        seconds=seconds,
        note="; ".join(notes),
    )


def passes_of(attack: Attack | AttackEnsemble) -> float | None:
    """Return about how many passes an attack spends on a sample; None where its settings do not say.

    >>> from thinice.attacks import make_attack
    >>> passes_of(make_attack("fmn", norm="l2")), passes_of(make_attack("tmn", norm="l2"))
    (100.0, 53.0)
    """
    settings = {name: value for name, value in attack.settings.items() if isinstance(value, int | float)}
    if attack.name == "tmn":  # as measured, see benchmarks/README.md
        if attack.norm in {"l0", "l1"}:
            return TmnSettings(steps=int(settings["steps"])).starts * LONG + 10.0
        return float(round(settings["steps"] ** 0.75))  # from a network that is nearly linear to one that is curved
    if "steps" not in settings:
        return None
    rounds = settings["binary_search_steps"] if attack.name == "cw" else 1
    return float(settings["steps"]) * rounds


def _passes_of_training(plan: Plan, samples: int) -> float:
    """Return the passes of a training, those that craft its inputs included."""
    return float(plan.recipe.epochs * samples * (1 - plan.recipe.held_out) * (1 + _crafting_steps(plan)))


def _crafting_steps(plan: Plan) -> int:
    steps: int = getattr(plan.objective, "steps", 0 if plan.objective.threat() is None else 1)
    return steps


def _training_speed(setup: Setup, samples: Samples, plan: Plan, device: torch.device) -> float:
    """Return passes a second of training, measured on new weights."""
    settings = {"epochs": 1, "held_out": 0.0, "select": "last", "patience": None, "schedule": "constant"}
    recipe = replace(plan.recipe, **settings)  # type: ignore[arg-type]  # of many types
    module = _network(setup, samples).to(device)
    size, total, start = min(plan.recipe.batch_size, len(samples)), 0, time.monotonic()
    train(module, samples[:size], recipe, objective=plan.objective)  # the first step takes longer
    start = time.monotonic()
    while time.monotonic() - start < MEASURED:
        part = samples[: min(4 * size, len(samples))]
        train(module, part, recipe, objective=plan.objective)
        total += len(part)
    return total * (1 + _crafting_steps(plan)) / (time.monotonic() - start)


def _attack_speed(setup: Setup, samples: Samples, device: torch.device) -> float:
    """Return passes a second of an attack's batches, measured on new weights."""
    return passes_a_second(_network(setup, samples).eval().requires_grad_(requires_grad=False), samples, device)


def passes_a_second(network: torch.nn.Module, samples: Samples, device: torch.device) -> float:
    """Return forward-backward passes a second of a frozen network in eval mode, on batches as attacks get them."""
    network = network.to(device)
    size = first_batch_size("auto", samples.inputs.shape[1:].numel(), device)
    inputs = samples.inputs[: min(size, len(samples))].to(device, torch.float32).requires_grad_()
    total, start = 0, time.monotonic()
    while time.monotonic() - start < MEASURED:
        torch.autograd.grad(network(inputs).max(1).values.sum(), inputs)
        total += len(inputs)
    return total / (time.monotonic() - start)


def _network(setup: Setup, samples: Samples) -> torch.nn.Module:
    takes_channels = "channels" in inspect.signature(find_architecture(setup.architecture).make).parameters
    channels = {"channels": samples.inputs.shape[1]} if takes_channels else {}
    return build(setup.architecture, len(samples.classes), **channels)
