"""Checks of an evaluation: of the network, of the attack on it, and of what the store holds of both already.

Every check returns a `Finding`: where it was seen, what that means, and what to do. `CHECKS` lists them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from thinice.attacks.fixed_budget import AttackEnsemble
from thinice.checks.attack_failure import black_box_stronger, check_attack
from thinice.checks.contradictions import check_store
from thinice.checks.finding import CHECKS, Check, Finding, sampled_finding, sort_by_severity
from thinice.checks.network import check_network
from thinice.store import query

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from thinice.attacks import Attack
    from thinice.data import Samples
    from thinice.models import Classifier
    from thinice.store import Run, Store

__all__ = ["CHECKS", "Check", "Finding", "run_checks", "warning_texts"]

SAMPLES = 16
"""So many samples are looked at, the first that the network has right."""
PASSES = 4000
"""What watching an attack may cost in all: of a longer one, fewer samples are watched, and of the longest none."""
LONGEST = 4
"""So many contradictions are listed one by one."""
NAMED = 100
"""So many samples of a contradiction are named, the worst; all are counted."""


def run_checks(
    store: Store,
    run: Run,
    measurement_id: int,
    *,
    classifier: Classifier,
    samples: Samples,
    attack: Attack | AttackEnsemble,
    broken_by: NDArray[np.str_],
    evaluations: NDArray[np.float32],
    device: torch.device,
    seed: int = 0,
) -> tuple[Finding, ...]:
    """Return the findings of an evaluation: of its network and attack, raised or not, then all contradictions.

    The network is checked, and the attack is watched, on the first 16 samples that the network has right; of an
    ensemble, its first attack. An attack that takes more than 250 passes a sample is watched on fewer samples, and one
    that takes more than 4000 on none. Where the ensemble ends with an attack without gradients, the samples that fell
    to it alone are named. These findings are stored with the measurement, and read where they are stored already. Then
    all that the store holds of this network is searched for contradictions.

    Parameters
    ----------
    store, run : Store, Run
        Where the evaluation was stored, and the run that is open there.
    measurement_id : int
        Its measurement.
    classifier, samples, attack
        What was evaluated, on what, by what.
    broken_by : ndarray
        (N,) str: the attack that broke the sample, ``"clean"`` where none was needed, empty where it is robust.
    evaluations : ndarray
        (N,) forward-backward passes spent.
    device : torch.device
        Where the network runs.
    seed : int
        As of `thinice.evaluate`.

    Examples
    --------
    >>> import tempfile, thinice, torch
    >>> from thinice.analysis.evaluation import bind_attack, verdicts
    >>> from thinice.analysis.session import MeasurementSession
    >>> dense = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    >>> samples = thinice.load_samples("digits", limit=20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = thinice.open_store(f"{folder}/thinice.duckdb", new=True)
    ...     session = MeasurementSession(store, samples, device="cpu", progress=False)
    ...     attack = bind_attack(dense, samples, "fmn", norm="l2", budget=0.3)
    ...     with session.run(attack, seed=0) as run:
    ...         result = verdicts(session, dense, attack, budget=0.3)
    ...         findings = run_checks(
    ...             store, run, result.measurement_id, classifier=dense, samples=samples, attack=attack,
    ...             broken_by=result.broken_by, evaluations=result.evaluations, device=torch.device("cpu"),
    ...         )
    >>> len(findings), warning_texts(findings)
    (11, ())

    """
    stored = store.sql(query("findings_of_measurement"), {"measurement_id": measurement_id})
    if stored.empty:
        findings = _check_evaluation(
            classifier, samples, attack, broken_by=broken_by, evaluations=evaluations, device=device, seed=seed
        )
        run.add_findings(measurement_id, [finding.to_dict() for finding in findings])
    else:
        rows = zip(stored["indicator"], stored["sample_ids"], stored["looked_at"], stored["value"], strict=True)
        findings = tuple(
            sampled_finding(check, map(int, ids), int(of), None if np.isnan(value) else float(value))
            for check, ids, of, value in rows
        )
    networks = check_store(store, measurement_id=measurement_id, most=NAMED)
    return (*findings, *(finding for network in networks for finding in network.findings))


def warning_texts(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return what was seen, on how many samples, and what to do: a sentence for each that is raised, the worst first.

    Of many contradictions the last sentence says how many more there are.
    """
    listed = tuple(findings)
    contradictions = [finding for finding in listed if finding.norms]
    others = sort_by_severity(finding for finding in listed if not finding.norms)
    more = len(contradictions) - LONGEST
    rest = (f"{more} more pairs of attacks contradict each other: see `thinice check`",) if more > 0 else ()
    return (*map(str, (*others, *contradictions[:LONGEST])), *rest)


def _check_evaluation(
    classifier: Classifier,
    samples: Samples,
    attack: Attack | AttackEnsemble,
    *,
    broken_by: NDArray[np.str_],
    evaluations: NDArray[np.float32],
    device: torch.device,
    seed: int,
) -> tuple[Finding, ...]:
    """Return the findings of the network and of the attack on it."""
    network = classifier.to(device)
    members = attack.members if isinstance(attack, AttackEnsemble) else (attack,)
    right = np.flatnonzero(broken_by != "clean")[:SAMPLES]
    passes = 100.0 if len(members) > 1 else float(evaluations.max(initial=1))
    watched = slice(min(len(right), int(PASSES // max(passes, 1))))
    inputs, labels, ids = (column[right].to(device) for column in (samples.inputs, samples.labels, samples.sample_ids))
    findings = {finding.check: finding for finding in check_network(network, inputs, labels, ids, seed=seed)}
    if watched.stop:
        budget = attack.budget if isinstance(attack, AttackEnsemble) else None
        of_attack = check_attack(
            network, inputs[watched], labels[watched], ids[watched], members[0], norm=attack.norm, budget=budget
        )
        findings |= {finding.check: finding for finding in of_attack}
    if len(members) > 1 and members[-1].name == "square":
        stronger = black_box_stronger(samples.sample_ids.tolist(), [name or None for name in broken_by.tolist()])
        findings[stronger.check] = stronger
    return tuple(findings.values())
