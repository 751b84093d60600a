"""`run_checks` returns the findings of an evaluation: of its network, of its attack, and of what the store holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thinice.attacks.fixed_budget import AttackEnsemble
from thinice.checks.attack_failure import black_box_stronger, check_attack
from thinice.checks.network import check_network
from thinice.checks.stored import check_store
from thinice.results import CLEAN, Finding, stored_finding
from thinice.store import query

if TYPE_CHECKING:
    import torch

    from thinice.attacks import Attack
    from thinice.data import Samples
    from thinice.models import Classifier
    from thinice.results import Robustness
    from thinice.store import Run, Store

__all__ = ["run_checks"]

SAMPLES = 16
"""So many samples are looked at, the first that the network has right."""
PASSES = 4000
"""What watching an attack may cost in all: of a longer one, fewer samples are watched, and of the longest none."""
NAMED = 100
"""So many samples of a contradiction are named, the worst; all are counted."""


def run_checks(
    store: Store,
    run: Run,
    result: Robustness,
    *,
    classifier: Classifier,
    samples: Samples,
    attack: Attack | AttackEnsemble,
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
    result : Robustness
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
    >>> from thinice.analysis.evaluation import bind_attack, verdicts
    >>> from thinice.analysis.session import MeasurementSession
    >>> dense = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    >>> samples = thinice.load_samples("digits", limit=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = thinice.open_store(f"{folder}/thinice.duckdb", new=True)
    ...     session = MeasurementSession(store, samples, device="cpu", progress=False)
    ...     attack = bind_attack(session, dense, "fmn", norm="l2", budget=0.3, effort="quick")
    ...     with session.run(attack, seed=0) as run:
    ...         result = verdicts(session, dense, attack, budget=0.3)
    ...         findings = run_checks(
    ...             store, run, result, classifier=dense, samples=samples, attack=attack, device=torch.device("cpu")
    ...         )
    >>> len(findings), [finding.check for finding in findings if finding.raised]
    (11, [])

    """
    stored = store.sql(query("findings_of_measurement"), {"measurement_id": result.measurement_id})
    if stored.empty:
        findings = _check_evaluation(result, classifier, samples, attack, device=device, seed=seed)
        run.add_findings(result.measurement_id, [finding.to_dict() for finding in findings])
    else:
        findings = tuple(map(stored_finding, stored.to_dict("records")))
    networks = check_store(store, measurement_id=result.measurement_id, most=NAMED)
    return (*findings, *(finding for network in networks for finding in network.findings))


def _check_evaluation(
    result: Robustness,
    classifier: Classifier,
    samples: Samples,
    attack: Attack | AttackEnsemble,
    *,
    device: torch.device,
    seed: int,
) -> tuple[Finding, ...]:
    """Return the findings of the network and of the attack on it."""
    network = classifier.to(device)
    members = attack.members if isinstance(attack, AttackEnsemble) else (attack,)
    right = np.flatnonzero(result.broken_by != CLEAN)[:SAMPLES]
    passes = 100.0 if len(members) > 1 else float(result.evaluations.max(initial=1))
    watched = slice(min(len(right), int(PASSES // max(passes, 1))))
    inputs, labels, ids = (column[right].to(device) for column in (samples.inputs, samples.labels, samples.sample_ids))
    findings = {finding.check: finding for finding in check_network(network, inputs, labels, ids, seed=seed)}
    if watched.stop:
        budget = attack.budget if isinstance(attack, AttackEnsemble) else None
        of_attack = check_attack(
            network, inputs[watched], labels[watched], ids[watched], members[0], norm=result.norm, budget=budget
        )
        findings |= {finding.check: finding for finding in of_attack}
    if isinstance(attack, AttackEnsemble) and len(members) > 1 and members[-1].name in attack.black_box:
        broken_by = [name or None for name in result.broken_by.tolist()]
        stronger = black_box_stronger(result.sample_ids.tolist(), broken_by, attack.black_box)
        findings[stronger.check] = stronger
    return tuple(findings.values())
