"""What the benchmark costs before it is run: passes of each part, less what the store has, and the time they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thinice.analysis.tuning import stored_tuning
from thinice.attacks import Attack, make_attack
from thinice.attacks.fixed_budget import AttackEnsemble, make_ensemble
from thinice.leaderboard.protocol import STANDARD, ho_fmn_loss
from thinice.numerics import pick_device
from thinice.store import Store, open_store, query
from thinice.store.writer import attack_fingerprint
from thinice.studies.estimate import passes_a_second, passes_of

if TYPE_CHECKING:
    from pathlib import Path

    from thinice.data import Samples
    from thinice.leaderboard.results import Protocol
    from thinice.models import Classifier

__all__ = ["BenchmarkEstimate", "estimate_benchmark"]

AT_MOST = {"apgd-ce": 102.3, "apgd-t": 909.3, "fab-t": 1210.0, "square": 1669.0, "apgd-dlr": 102.3}
"""Passes of AutoAttack's attacks on a sample that stands, with ten classes, as measured; one that falls takes fewer."""


@dataclass(frozen=True, slots=True)
class BenchmarkEstimate:
    """What one network of the benchmark costs: passes of each part that are left, at most, and seconds.

    None where the settings of an attack do not say.
    """

    network: str
    distances: float | None
    at_budget: float | None
    tuning: float
    ho_fmn: float
    seconds: float

    @property
    def passes(self) -> float:
        """All that are known."""
        return sum(part for part in (self.distances, self.at_budget, self.tuning, self.ho_fmn) if part is not None)


def estimate_benchmark(
    pruned: Sequence[Classifier],
    dense: Classifier,
    samples: Samples,
    tune_on: Samples,
    *,
    protocol: Protocol = STANDARD,
    store: Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> tuple[BenchmarkEstimate, ...]:
    """Return what `benchmark` would cost, the dense network first; nothing is attacked or written.

    A second of each network is measured. A sample that AutoAttack breaks early costs a tenth of one that stands.

    Parameters
    ----------
    pruned, dense, samples, tune_on, protocol, seed, device
        As of `benchmark`; networks that are prepared.
    store : Path, optional
        Where results would be kept; need not be there.

    """
    opened = open_store(store) if store is not None and store.exists() else None
    place = pick_device(device)
    n, shape = len(samples), tuple(samples.inputs.shape[1:])
    minimum = make_attack(protocol.distance_attack, norm="linf", effort=protocol.effort, seed=seed)  # type: ignore[arg-type]
    rows = []
    for network in (dense, *pruned):
        classes = network.classes or len(samples.classes)
        ensemble = make_ensemble(
            protocol.budget_attack, budget=protocol.budget, classes=classes, shape=shape, norm="linf", seed=seed
        )
        left = [n - _finished(opened, network, samples, attack) for attack in (minimum, ensemble)]
        each = passes_of(minimum), _at_budget(ensemble)
        distances, at_budget = (None if cost is None else cost * rest for cost, rest in zip(each, left, strict=True))
        tuning = ho_fmn = 0.0
        if network is not dense:
            tuning, ho_fmn = _ho_fmn(opened, network, samples, tune_on, protocol=protocol, seed=seed)
        row = BenchmarkEstimate(network.name, distances, at_budget, tuning, ho_fmn, 0.0)
        speed = passes_a_second(network.to(place).module, samples, place) if row.passes else 1.0
        rows.append(BenchmarkEstimate(network.name, distances, at_budget, tuning, ho_fmn, row.passes / speed))
    return tuple(rows)


def _at_budget(ensemble: AttackEnsemble) -> float | None:
    """Return the passes of an attack at a budget on a sample that stands."""
    each = [AT_MOST.get(attack.name) for attack in ensemble.members]
    known = [cost for cost in each if cost is not None]
    return sum(known) if len(known) == len(each) else passes_of(ensemble)


def _ho_fmn(
    store: Store | None, network: Classifier, samples: Samples, tune_on: Samples, *, protocol: Protocol, seed: int
) -> tuple[float, float]:
    """Return the passes of tuning HO-FMN, and of running it."""
    loss, _ = ho_fmn_loss(network.classes or len(samples.classes))
    search = {"norm": "linf", "seed": seed, "loss": loss}
    effort = {"trials": protocol.tune_trials, "steps": protocol.tune_steps}
    tuned = None if store is None else stored_tuning(store, network, "ho-fmn", tune_on, search, **effort)
    if tuned is None:
        return float(protocol.tune_trials * protocol.tune_steps * len(tune_on)), float(protocol.steps * len(samples))
    settings = {**search, **tuned[0], "steps": protocol.steps, "fallback": False}
    attack = make_attack("ho-fmn", **settings)  # type: ignore[arg-type]  # settings of many types
    return 0.0, float(protocol.steps * (len(samples) - _finished(store, network, samples, attack)))


def _finished(store: Store | None, network: Classifier, samples: Samples, attack: Attack | AttackEnsemble) -> int:
    """Return how many samples the store has the answer for."""
    if store is None:
        return 0
    key = {
        "checkpoint": network.fingerprint,
        "samples": samples.fingerprint,
        "attack": attack_fingerprint(attack.name, attack.norm, attack.settings),
    }
    return int(store.sql(query("finished_samples"), key)["finished"][0])
