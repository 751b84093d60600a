"""Around an evaluation: what its checks say, and what the store knows that contradicts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thinice.attacks.fixed_budget import AttackEnsemble
from thinice.checks.attack_failure import check_attack
from thinice.checks.contradictions import Contradiction, check_store
from thinice.checks.finding import Finding, black_box_stronger, worst_first
from thinice.checks.network import check_network
from thinice.checks.study_patterns import StudyRow
from thinice.store import query

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from thinice.attacks import Attack
    from thinice.data import Samples
    from thinice.models import Classifier
    from thinice.store import Run, Store
    from thinice.types import Norm

__all__ = ["EvaluationChecks", "run_checks", "study_row"]

SAMPLES = 16
"""So many samples are looked at, the first that the network has right."""
PASSES = 4000
"""What watching an attack may cost in all: of a longer one, fewer samples are watched, and of the longest none."""
LONGEST = 4
"""So many contradictions are told one by one."""
NAMED = 100
"""So many samples of a contradiction are named, the worst; all are counted."""


class Evaluated(Protocol):
    """What is asked of an evaluation: `thinice.Robustness`."""

    def __len__(self) -> int:
        """Return how many samples were evaluated."""

    @property
    def network(self) -> str:
        """Name of the network."""

    @property
    def sparsity(self) -> float:
        """Fraction of its prunable weights that are zero."""

    @property
    def data(self) -> str:
        """Name of the data set."""

    @property
    def attack(self) -> str:
        """Name of the attack."""

    @property
    def norm(self) -> Norm:
        """Of the budget."""

    @property
    def budget(self) -> float:
        """The radius."""

    @property
    def clean_accuracy(self) -> float:
        """Share of the samples that are right."""

    @property
    def robust_accuracy(self) -> float:
        """Share of the samples that stand."""

    @property
    def sample_ids(self) -> NDArray[np.int64]:
        """(N,) index in the untouched data set."""

    @property
    def broken_by(self) -> NDArray[np.str_]:
        """(N,) the attack that broke the sample."""

    @property
    def evaluations(self) -> NDArray[np.float32]:
        """(N,) passes spent."""

    @property
    def measurement_id(self) -> int:
        """Its row in the store."""


@dataclass(frozen=True, slots=True)
class EvaluationChecks:
    """Why an evaluation may be wrong; made by `run_checks`.

    Attributes
    ----------
    findings : tuple of Finding
        Of each check that ran, raised or not.
    contradictions : tuple of Contradiction
        Between any attacks on the same network and data in the store.

    """

    findings: tuple[Finding, ...]
    contradictions: tuple[Contradiction, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was seen, on how many samples, and what to do: a sentence each, none where all is well."""
        told = [str(one) for one in (*worst_first(self.findings), *self.contradictions[:LONGEST])]
        more = len(self.contradictions) - LONGEST
        return (
            (*told, f"{more} more pairs of attacks contradict each other: see `thinice check`")
            if more > 0
            else (*told,)
        )


def run_checks(
    store: Store,
    run: Run,
    found: Evaluated,
    *,
    classifier: Classifier,
    samples: Samples,
    attack: Attack | AttackEnsemble,
    device: torch.device,
    seed: int = 0,
) -> EvaluationChecks:
    """Return what the checks say of an evaluation, and store it with its measurement; stored already, it is read.

    The network is checked, and the attack is watched, on the first 16 samples that the network has right; of an
    ensemble, its first attack. An attack that takes more than 250 passes a sample is watched on fewer samples, and one
    that takes more than 4000 on none. Where the ensemble ends with an attack without gradients, the samples that fell
    to it alone are named. Then all that the store holds of this network is held against each other.

    Parameters
    ----------
    store, run : Store, Run
        Where the evaluation was stored, and the run that is open there.
    found : Robustness
        The evaluation.
    classifier, samples, attack
        What was evaluated, on what, by what.
    device : torch.device
        Where the network runs.
    seed : int
        As of `thinice.evaluate`.

    Examples
    --------
    >>> import tempfile, thinice, torch
    >>> from thinice.analysis.evaluation import Evaluator, attack_of
    >>> dense = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    >>> samples = thinice.load_samples("digits", limit=20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = thinice.open_store(f"{folder}/thinice.duckdb", new=True)
    ...     evaluator = Evaluator(store, samples, device="cpu", progress=False)
    ...     attack = evaluator.bind(dense, "fmn", norm="l2", budget=0.3)
    ...     with evaluator.run(attack_of(attack), seed=0) as run:
    ...         found = evaluator.robustness(dense, attack, budget=0.3)
    ...         run_checks(
    ...             store, run, found, classifier=dense, samples=samples, attack=attack, device=torch.device("cpu")
    ...         ).warnings
    ()

    """
    kept = store.sql(query("findings_of_measurement"), {"measurement_id": found.measurement_id})
    if kept.empty:
        findings = _findings(found, classifier, samples, attack, device=device, seed=seed)
        run.add_findings(found.measurement_id, [one.to_dict() for one in findings])
    else:
        rows = zip(kept["indicator"], kept["sample_ids"], kept["looked_at"], kept["value"], strict=True)
        findings = tuple(
            Finding(name, tuple(map(int, ids)), int(of), None if np.isnan(value) else float(value))
            for name, ids, of, value in rows
        )
    checks = check_store(store, measurement_id=found.measurement_id, most=NAMED)
    return EvaluationChecks(findings, tuple(one for check in checks for one in check.contradictions))


def _findings(
    found: Evaluated,
    classifier: Classifier,
    samples: Samples,
    attack: Attack | AttackEnsemble,
    *,
    device: torch.device,
    seed: int,
) -> tuple[Finding, ...]:
    network = classifier.to(device)
    right = np.flatnonzero(found.broken_by != "clean")[:SAMPLES]
    cost = (
        100.0
        if isinstance(attack, AttackEnsemble) and len(attack.members) > 1
        else float(found.evaluations.max(initial=1))
    )
    watched = min(len(right), int(PASSES // max(cost, 1)))
    inputs, labels, ids = (column[right].to(device) for column in (samples.inputs, samples.labels, samples.sample_ids))
    seen = {one.name: one for one in check_network(network, inputs, labels, ids, seed=seed)}
    if watched:
        first = slice(watched)
        single = attack.members[0] if isinstance(attack, AttackEnsemble) else attack
        budget = attack.budget if isinstance(attack, AttackEnsemble) else None
        few = inputs[first], labels[first], ids[first]
        seen |= {one.name: one for one in check_attack(network, *few, single, norm=found.norm, budget=budget)}
    if isinstance(attack, AttackEnsemble) and attack.members[-1].name == "square" and len(attack.members) > 1:
        fell = [name or None for name in found.broken_by.tolist()]
        one = black_box_stronger(found.sample_ids.tolist(), fell)
        seen[one.name] = one
    return tuple(seen.values())


def study_row(found: Evaluated, reported: float | None = None) -> StudyRow:
    """Return an evaluation as a row of a study, whose networks are compared at the same budget, and what was reported.

    See `thinice.checks.study_patterns.signatures`.
    """
    return StudyRow(
        found.network,
        found.sparsity,
        len(found),
        found.clean_accuracy,
        found.robust_accuracy,
        series=f"{found.data} {found.attack} {found.norm} {found.budget:.6g}",
        reported=reported,
    )
