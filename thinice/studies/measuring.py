"""The cells of a study: which of them the store lacks, and the measuring of those."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from thinice.analysis.comparison import compare_prepared
from thinice.analysis.evaluation import verdicts
from thinice.analysis.measurement import prepare_classifier
from thinice.analysis.session import MeasurementSession
from thinice.attacks import Attack, attack_row, make_attack
from thinice.attacks.fixed_budget import AttackEnsemble, budget_value, make_ensemble
from thinice.attacks.rows import MinNormRow
from thinice.models import load_classifier
from thinice.store import query

if TYPE_CHECKING:
    from thinice.data import Samples
    from thinice.models import Classifier
    from thinice.studies.definition import AttackChoice, Setup, Study
    from thinice.studies.networks import NetworkFiles, NetworkPlan

__all__ = ["Cell", "CellMeasurements", "Cells", "bound_attack"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One network, one attack and one budget.

    Attributes
    ----------
    key : str
        Hash of all that decides the result.
    choice, budget
        The attack as the study names it, and the radius.
    attack : Attack or AttackEnsemble
        With all its settings.

    """

    key: str
    choice: AttackChoice
    budget: float
    attack: Attack | AttackEnsemble


def bound_attack(choice: AttackChoice, budget: float, samples: Samples) -> Attack | AttackEnsemble:
    """Return an attack with all its settings: at the budget, or one that minimises the norm.

    Those of publications have no fall-back, as in `thinice.evaluate`.

    Raises
    ------
    InputError
        For a budget beyond any perturbation of the samples.

    """
    settings: dict[str, Any] = dict(choice.settings)
    shape = tuple(samples.inputs.shape[1:])
    budget_value(budget, choice.norm, shape)
    if choice.minimises:
        row = attack_row(choice.attack)
        if isinstance(row, MinNormRow) and row.published:
            settings = {"fallback": False} | settings
        return make_attack(choice.attack, norm=choice.norm, **settings)
    classes = len(samples.classes)
    return make_ensemble(choice.attack, norm=choice.norm, budget=budget, classes=classes, shape=shape, **settings)


class Cells:
    """The cells of one setup: what is asked for, network by network.

    Parameters
    ----------
    study, setup
        What is asked for.
    files : NetworkFiles
        Tell the networks apart.
    samples : Samples
        Those that are attacked.

    """

    def __init__(self, study: Study, setup: Setup, files: NetworkFiles, samples: Samples) -> None:
        self._rates, self._files, self._samples = study.rates, files, samples
        self.attacks = [(choice, budget, bound_attack(choice, budget, samples)) for choice, budget in setup.points]

    def of(self, plan: NetworkPlan) -> list[Cell]:
        """Return the cells of a network; none where the study does not measure its rate."""
        if plan.rate not in self._rates:
            return []
        facts = self._files.key(plan), self._samples.fingerprint
        return [
            Cell(_hash(*facts, attack.name, attack.norm, dict(attack.settings), budget), choice, budget, attack)
            for choice, budget, attack in self.attacks
        ]


class CellMeasurements:
    """Measures the networks of one setup of a study, and keeps in the store what each cell's answer is.

    Parameters
    ----------
    study, setup, files
        As of `Cells`.
    session : MeasurementSession
        With the samples that are attacked, and the store.
    command : sequence of str, optional
        What the store notes as the origin.

    """

    def __init__(
        self,
        study: Study,
        setup: Setup,
        files: NetworkFiles,
        session: MeasurementSession,
        command: Sequence[str] | None,
    ) -> None:
        self.study, self.setup, self.files, self.session, self.command = study, setup, files, session, command
        self.cells = Cells(study, setup, files, session.samples)
        self.finished: set[str] = set()

    def unfinished(self, plan: NetworkPlan) -> list[Cell]:
        """Return those cells of a network of which the store has no answer."""
        return [cell for cell in self.cells.of(plan) if cell.key not in self.finished]

    def look_up(self, plans: Iterable[NetworkPlan]) -> None:
        """Find which cells are finished, also by other studies; forget those that are not asked for any more."""
        wanted = {cell.key: (plan, cell) for plan in plans for cell in self.cells.of(plan)}
        rows = self.session.store.sql(query("study_cells"), {"ids": list(wanted)})
        mine = rows[(rows["study"] == self.study.name) & (rows["setup"] == self.setup.name)]
        own = set(mine["cell"])
        others = dict(zip(rows["cell"], rows["measurement_id"], strict=True))
        with self._run() as run:
            setups = [setup.name for setup in self.study.setups]
            run.keep_study_cells(self.study.name, setups, self.setup.name, wanted)
            adopted = [
                self._row(*wanted[key], measurement_id=int(measurement_id))
                for key, measurement_id in others.items()
                if key not in own
            ]
            run.add_study_cells(adopted)
        self.finished = set(others)

    def measure(self, plan: NetworkPlan) -> None:
        """Measure what the store lacks of a network, attack after attack; each is stored when it is finished."""
        network = prepare_classifier(load_classifier(self.files.path(plan)), self.session.samples)
        self.session.networks = [network]
        for choice, group in groupby(self.unfinished(plan), key=lambda cell: cell.choice):
            cells = list(group)
            attack = cells[0].attack
            with self.session.run(attack, seed=_seed(attack), command=self.command) as run:
                self.session.predict(network)
                for cell in cells:
                    run.add_study_cells([self._row(plan, cell, measurement_id=self._measurement(network, cell))])
                if plan.method is not None and choice is self._first_minimising and isinstance(attack, Attack):
                    self._compare(plan, network, attack)
            self.finished |= {cell.key for cell in cells}

    def fail(self, plan: NetworkPlan, reason: str) -> None:
        """Store why a network's unfinished cells have no answer."""
        cells = self.unfinished(plan)
        if cells:
            with self._run() as run:
                run.add_study_cells([self._row(plan, cell, error=reason) for cell in cells])

    @property
    def _first_minimising(self) -> AttackChoice | None:
        return next((choice for choice in self.setup.attacks if choice.minimises), None)

    def _measurement(self, network: Classifier, cell: Cell) -> int:
        """Return the store's key of what an attack finds on a network, by this attack alone."""
        if isinstance(cell.attack, Attack):
            return self.session.measure(network, cell.attack).measurement_id
        return verdicts(self.session, network, cell.attack, budget=cell.budget, skip_known=False).measurement_id

    def _compare(self, plan: NetworkPlan, network: Classifier, attack: Attack) -> None:
        """Store the comparison with the dense network, as `thinice.compare` does."""
        dense = load_classifier(self.files.path(plan.dense))
        measured = self.session.measure(dense, attack)
        compare_prepared(self.session, dense, network, attack, measured)

    def _run(self) -> Any:  # noqa: ANN401 (a context manager of the store's)
        settings = {"study": self.study.name, "setup": self.setup.name}
        device = str(self.session.engine.device)
        return self.session.store.run(self.command, device=device, seed=None, settings=settings)

    def _row(
        self, plan: NetworkPlan, cell: Cell, *, measurement_id: int | None = None, error: str | None = None
    ) -> Mapping[str, Any]:
        return {
            "study": self.study.name,
            "cell": cell.key,
            "setup": self.setup.name,
            "architecture": self.setup.architecture,
            "data": self.setup.data,
            "training": self.setup.training.label,
            "method": None if plan.method is None else plan.method.name,
            "rate": plan.rate,
            "seed": plan.seed,
            "attack": cell.choice.attack,
            "norm": cell.choice.norm,
            "budget": cell.budget,
            "measurement_id": measurement_id,
            "error": error,
        }


def _seed(attack: Attack | AttackEnsemble) -> int:
    return int(attack.settings.get("seed") or 0)


def _hash(*facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
