"""Around an evaluation: what tunes its attack, what its checks say, and what the store knows that contradicts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thinice.attacks.fixed_budget import AttackEnsemble
from thinice.attacks.tuning import tune
from thinice.checks.attack_failure import check_attack
from thinice.checks.contradictions import Contradiction, check_store
from thinice.checks.finding import Finding, black_box_stronger, worst_first
from thinice.checks.network import check_network
from thinice.checks.study_patterns import StudyRow
from thinice.data import load_samples
from thinice.data.subset import draw
from thinice.errors import InputError
from thinice.numerics import pick_device

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from numpy.typing import NDArray

    from thinice.attacks import Attack
    from thinice.attacks.attack import Setting
    from thinice.data import Samples
    from thinice.models import Classifier
    from thinice.store import Run, Store
    from thinice.types import Norm

__all__ = ["EvaluationChecks", "run_checks", "study_row", "tuned_settings"]

SAMPLES = 16
"""So many samples are looked at, the first that the network has right."""
PASSES = 4000
"""What watching an attack may cost in all: of a longer one, fewer samples are watched, and of the longest none."""
HELD_OUT = 64
"""So many samples tune an attack, as published."""
LONGEST = 4
"""So many contradictions are told one by one."""
NAMED = 100
"""So many samples of a contradiction are named, the worst; all are counted."""

KEPT = """
select indicator, sample_ids, looked_at, value from findings where measurement_id = $measurement_id order by rowid
"""


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
    device: str | torch.device = "auto",
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
    device, seed
        As of `thinice.evaluate`.

    Examples
    --------
    >>> import tempfile, thinice
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
    ...             store, run, found, classifier=dense, samples=samples, attack=attack, device="cpu"
    ...         ).warnings
    ()

    """
    kept = store.sql(KEPT, {"measurement_id": found.measurement_id})
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
    device: str | torch.device,
    seed: int,
) -> tuple[Finding, ...]:
    where = pick_device(device)
    network = classifier.to(where)
    right = np.flatnonzero(found.broken_by != "clean")[:SAMPLES]
    cost = (
        100.0
        if isinstance(attack, AttackEnsemble) and len(attack.members) > 1
        else float(found.evaluations.max(initial=1))
    )
    watched = min(len(right), int(PASSES // max(cost, 1)))
    inputs, labels, ids = (column[right].to(where) for column in (samples.inputs, samples.labels, samples.sample_ids))
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


def tuned_settings(
    classifier: Classifier,
    samples: Samples,
    *,
    attack: str = "ho-fmn",
    data: str | None = None,
    split: str = "train",
    image_size: int | None = None,
    norm: Norm = "linf",
    device: str | torch.device = "auto",
    seed: int = 0,
    say: Callable[[str], object] = lambda _: None,
) -> dict[str, Setting]:
    """Return the settings of an attack for a network, searched on 64 samples that are not among those evaluated.

    Of attacks other than ``ho-fmn``, and of the split ``none``, nothing is searched and nothing set.

    Parameters
    ----------
    classifier : Classifier
        The network.
    samples : Samples
        Those that will be evaluated.
    attack : str
        Name of the attack.
    data, split, image_size
        Where the others are taken from, as many of each class, as of `thinice.load_samples` with a `limit`; by default
        the data set of ``samples``.
    norm, device, seed
        Of the attack.
    say : callable
        Told how the search went.

    Raises
    ------
    DataError
        Where the data set has no such split.
    InputError
        Where the split holds no other samples.

    """
    if attack != "ho-fmn" or split == "none":
        return {}
    taken = set(samples.sample_ids.tolist()) if split == samples.split else set()
    pool = load_samples(data or samples.name, split=split, limit=HELD_OUT + len(taken), image_size=image_size)
    free = [k for k, one in enumerate(pool.sample_ids.tolist()) if one not in taken]
    if not free:
        raise InputError(f"`split` {split!r} has no samples but those to be evaluated: name another, or leave some out")
    others = pool[np.array(free)]
    where, few = pick_device(device), others[draw(others.sample_ids, others.labels, HELD_OUT)]
    columns = (column.to(where) for column in (few.inputs[:], few.labels, few.sample_ids))
    found = tune(classifier.to(where), *columns, norm=norm, seed=seed)
    default, best = found.trials[0].median, found.median
    say(f"{classifier.name}: ho-fmn tuned on {len(few)} samples of {split}, median {norm} {default:.4g} to {best:.4g}")
    return dict(found.settings)


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
