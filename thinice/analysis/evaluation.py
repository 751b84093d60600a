"""`evaluate`: robust accuracy at budgets, sample by sample, and the attack that broke each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from thinice.analysis.measurement import data_of, forward, in_network_classes, prepare_classifiers, refuse_beside, warn
from thinice.analysis.options import EvaluateOptions, SkipKnown, chosen, search_options
from thinice.analysis.session import MeasurementSession, Shard, kept_adversarials, open_session
from thinice.analysis.tuning import can_be_tuned, tuned_settings
from thinice.attacks import Attack, attack_row, make_attack
from thinice.attacks.fixed_budget import (
    LONGER,
    AttackEnsemble,
    budget_text,
    budget_value,
    is_budget_attack,
    make_ensemble,
)
from thinice.attacks.rows import MinNormRow
from thinice.checks.run import run_checks
from thinice.checks.study_patterns import StudyRow, find_patterns
from thinice.data import Samples
from thinice.errors import DoubtfulWarning, InputError
from thinice.models import Classifier, as_classifier
from thinice.results import CLEAN, Robustness
from thinice.stats.curves import budget_ladder
from thinice.store import Run, query

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = [
    "LADDER",
    "DoubtfulWarning",
    "bind_attack",
    "evaluate",
    "evaluate_all",
    "verdicts",
]

LADDER = "ladder"
"""Among budgets: doubling ones, see `evaluate_all`."""


def evaluate(
    classifier: Classifier | nn.Module,
    samples: Samples | Tensor,
    *,
    budget: float | str,
    labels: Tensor | None = None,
    **options: Unpack[EvaluateOptions],
) -> Robustness:
    """Return which samples are robust at a budget, and the attack that broke each of the others.

    Parameters
    ----------
    classifier, samples, labels, device, batch_size, compiled, engine, progress
        As of `thinice.measure`; only attacks that minimise the norm search a compiled network.
    budget : float or str
        The radius on the [0, 1] scale, ``8 / 255`` or ``"8/255"``. It is compared with epsilons in float32, as they
        are: a sample is robust where no adversarial with a norm of at most the budget is known.
    attack : str or Attack
        ``"autoattack"`` (the default; an extra): the standard ensemble, chosen by the number of classes; one of its
        attacks (``"apgd-ce"``, ``"square"``, …); ``"pgd"``; ``"foolbox:NAME"``; or any attack that minimises the norm
        (``"tmn"``, ``"fmn"``, ``"cw"``, ``"bb"``), which answers for all budgets at once.
    norm : {"l0", "l1", "l2", "linf"}
        Of the budget.
    effort, seed, steps, **settings
        Of the attack.
    precision : {"float32", "tf32", "bf16"}
        Arithmetic of the search: less is faster on hardware that has it. Verification is in IEEE float32 in any case,
        and an attack at a budget searches again in float32 where it found nothing: it gains where most samples break.
    store : path or Store, optional
        The DuckDB file that keeps every verdict, and the adversarials (`Store.adversarials`): what it holds already is
        read, and an interrupted evaluation goes on. None keeps nothing.
    skip_known : bool or "both"
        Of attacks at a budget; one that minimises the norm decides alone. True: samples that the store holds an
        adversarial for, within the budget and by any attack, count as broken and are not attacked. False: this attack
        alone decides. ``"both"``: all samples are attacked, and the result holds both accuracies.
    checks : bool
        Look for signs that the evaluation cannot be trusted, on a few samples (`thinice.checks.run`), keep
        them as ``findings``, and give one `DoubtfulWarning` where any is raised.
    tune_on : Samples, optional
        For attack ``"ho-fmn"``: other samples than those evaluated, on which its settings are searched for first.
    command : sequence of str, optional
        What the store notes as the origin of the run; by default this process's command line.

    Raises
    ------
    InputError
        For attacks, budgets and networks that do not fit together, naming the way out.
    MissingExtraError
        Where AutoAttack's package is not installed.

    Examples
    --------
    >>> import thinice
    >>> dense = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    >>> samples = thinice.load_samples("digits", limit=5)
    >>> attack = {"attack": "fmn", "norm": "l2", "effort": "quick"}
    >>> result = thinice.evaluate(dense, samples, budget=0.3, progress=False, **attack)
    >>> result.clean_accuracy >= result.robust_accuracy
    True

    """
    (robustness,) = evaluate_all([classifier], data_of(samples, labels), budgets=[budget], **options)
    return robustness


def evaluate_all(
    classifiers: Sequence[Classifier | nn.Module],
    samples: Samples,
    *,
    budgets: Sequence[float | str],
    reported: Sequence[float | None] | None = None,
    **options: Unpack[EvaluateOptions],
) -> tuple[Robustness, ...]:
    """Return which samples of each network are robust at each budget: network after network, budgets ascending.

    Parameters
    ----------
    classifiers : sequence of Classifier or nn.Module
        The networks.
    budgets : sequence of float or str
        Each as the budget of `evaluate`; the word ``"ladder"`` among them stands for doubling budgets, from no effect
        on the first network to more than half of its samples broken (`thinice.stats.curves.budget_ladder`). That takes
        an attack that minimises the norm.
    reported : sequence of float or None, optional
        Robust accuracies that were published for the networks, as shares, to be compared with those found.
    samples, **options
        As of `evaluate`. With checks, the networks are also searched for patterns that wrong studies show
        (`thinice.checks.study_patterns`); a `DoubtfulWarning` is given for each.

    Raises
    ------
    InputError, MissingExtraError
        As of `evaluate`.

    Examples
    --------
    >>> import thinice
    >>> dense = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    >>> samples = thinice.load_samples("digits", limit=5)
    >>> attack = {"attack": "fmn", "norm": "l2", "effort": "quick"}
    >>> results = thinice.evaluate_all([dense], samples, budgets=[0.3, 0.1], progress=False, **attack)
    >>> [robustness.budget for robustness in results]
    [0.1, 0.3]

    """
    given, search = chosen(EvaluateOptions, options), search_options(options, EvaluateOptions)
    attack, skip_known, tune_on = given["attack"], given["skip_known"], options.get("tune_on")
    if skip_known not in (True, False, "both"):
        raise InputError(f"`skip_known` must be True, False or 'both', got {skip_known!r}")
    _refuse(attack, budgets, compiled=given["compiled"], tuned=tune_on is not None)
    with torch.inference_mode(mode=False):
        unprepared = [as_classifier(classifier) for classifier in classifiers]
        samples = in_network_classes(samples, unprepared)
        tune_on = None if tune_on is None else in_network_classes(tune_on, unprepared)
        networks = prepare_classifiers(unprepared, samples)
    published = [None] * len(networks) if reported is None else list(reported)
    if len(published) != len(networks):
        raise InputError(f"`reported` has {len(published)} accuracies for {len(networks)} networks: give one for each")
    seed = attack.seed if isinstance(attack, Attack) else search.get("seed", 0)
    results = list[Robustness]()
    with open_session(samples, options, networks) as session:
        norm = attack.norm if isinstance(attack, Attack) else search.get("norm", "linf")
        radii = {budget_value(budget, norm, samples.inputs.shape[1:]) for budget in budgets if budget != LADDER}
        if LADDER in budgets:
            bound = bind_attack(session, networks[0], attack, budget=None, **search)
            with session.run(bound, seed=seed, command=given.get("command")):
                radii |= _ladder(session, networks[0], bound)
        for network, accuracy in zip(networks, published, strict=True):
            settings, notes = tuned_settings(session, network, attack, tune_on, search)
            for radius in sorted(radii):  # the smaller first: a sample broken at it is broken at the larger ones
                bound = bind_attack(session, network, attack, budget=radius, **{**search, **settings})
                with session.run(bound, seed=seed, command=given.get("command")) as run:
                    robustness = verdicts(session, network, bound, budget=radius, skip_known=skip_known)
                    robustness = replace(robustness, reported=accuracy, notes=notes)
                    if given["checks"]:
                        findings = run_checks(
                            session.store,
                            run,
                            robustness,
                            classifier=network,
                            samples=samples,
                            attack=bound,
                            device=session.engine.device,
                            seed=seed,
                        )
                        robustness = replace(robustness, findings=findings)
                results.append(robustness)
                if robustness.warnings:
                    warn(DoubtfulWarning(robustness.warnings, robustness.network))
    for pattern in find_patterns(map(_study_row, results)) if given["checks"] else ():
        warn(DoubtfulWarning([str(pattern)]))
    return tuple(results)


def bind_attack(
    session: MeasurementSession,
    classifier: Classifier,
    attack: str | Attack,
    *,
    budget: float | str | None,
    **search: Any,  # noqa: ANN401 (`SearchOptions`, and settings that the attack checks)
) -> Attack | AttackEnsemble:
    """Return an attack with its settings: at the budget an `AttackEnsemble`, or an `Attack` that minimises the norm.

    An attack that is bound already is returned as it is. For those at a budget, `classifier` and the session's samples
    give the number of classes and the shape of an input.

    Raises
    ------
    InputError
        For what does not fit together; also where an attack at a budget gets none.

    """
    if isinstance(attack, Attack):
        refuse_beside(attack, search)
        return attack
    norm, shape = search.get("norm", "linf"), tuple(session.samples.inputs.shape[1:])
    if not is_budget_attack(attack):
        if budget is not None:
            budget_value(budget, norm, shape)
        row = attack_row(attack)
        if isinstance(row, MinNormRow) and row.published:  # the study's attacks had no fall-back
            search = {"fallback": False} | search
        return make_attack(attack, **search)
    if budget is None:
        raise InputError(f"`budget` is missing: {attack} works at one budget")
    effort = search.pop("effort", "standard")
    if effort != "standard":
        raise InputError(f"`effort` {effort!r} means nothing to attack {attack!r}: leave it out")
    classes = classifier.classes or forward(classifier, session.samples[:1], session.engine).shape[1]
    return make_ensemble(attack, budget=budget, classes=classes, shape=shape, **search)


def verdicts(
    session: MeasurementSession,
    classifier: Classifier,
    attack: Attack | AttackEnsemble,
    *,
    budget: float | str,
    skip_known: SkipKnown = True,
) -> Robustness:
    """Return which samples are robust: evaluated now, or read where the store has it.

    Parameters
    ----------
    session : MeasurementSession
        With a run that is open.
    classifier, attack
        The network, and what `bind_attack` returned for it.
    budget, skip_known
        As of `evaluate`.

    """
    start, samples = time.monotonic(), session.samples
    radius = budget_value(budget, attack.norm, samples.inputs.shape[1:])
    if isinstance(attack, AttackEnsemble):
        decided = _by_ensemble(session, classifier, attack, skip_known)
    else:
        decided = _by_distance(session, classifier, attack, radius)
    return Robustness(
        network=classifier.name,
        sparsity=classifier.sparsity,
        data=samples.name,
        split=samples.split,
        classes=samples.classes,
        norm=attack.norm,
        budget=radius,
        attack=attack.name,
        settings=attack.settings,
        sample_ids=session.sample_ids,
        labels=samples.labels.numpy(),
        robust=decided.robust,
        broken_by=decided.broken_by,
        epsilon=decided.epsilon,
        known_broken=decided.known_broken,
        robust_to_this_attack=decided.robust_to_this_attack,
        evaluations=decided.evaluations,
        seconds=time.monotonic() - start,
        measurement_id=decided.measurement_id,
        store=session.path,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Verdicts:
    """The columns of a `Robustness` that an attack decides, see there."""

    measurement_id: int
    robust: NDArray[np.bool_]
    broken_by: NDArray[np.str_]
    epsilon: NDArray[np.float32]
    known_broken: NDArray[np.bool_]
    robust_to_this_attack: NDArray[np.bool_] | None
    evaluations: NDArray[np.float32]


def _by_distance(session: MeasurementSession, classifier: Classifier, attack: Attack, budget: float) -> _Verdicts:
    """Return the verdicts that follow from minimum norms."""
    measured = session.measure(classifier, attack)
    right = measured.clean_predictions == measured.labels
    robust = right & ~(measured.epsilon <= np.float32(budget))
    return _Verdicts(
        measurement_id=measured.measurement_id,
        robust=robust,
        broken_by=np.where(robust, "", np.where(right, attack.name, CLEAN)),
        epsilon=np.where(right, measured.epsilon, np.float32(0)),
        known_broken=np.zeros(len(robust), np.bool_),
        robust_to_this_attack=robust,
        evaluations=measured.evaluations,
    )


def _by_ensemble(
    session: MeasurementSession, classifier: Classifier, ensemble: AttackEnsemble, skip_known: SkipKnown
) -> _Verdicts:
    """Let each attack of the ensemble search on the samples that no earlier one has broken, and return the verdicts."""
    run, ids, measurement_id = session.running, session.sample_ids, session.measurement(classifier, ensemble)
    key = {"measurement_id": measurement_id}
    unbroken = np.arange(len(ids))
    if skip_known:
        run.add_known(measurement_id, norms=LONGER[ensemble.norm], budget=ensemble.budget)
    if skip_known is True:
        broken = session.store.sql(query("known_samples"), key)["sample_id"]
        unbroken = unbroken[~np.isin(ids, broken.to_numpy())]
    for attack_index, attack in enumerate(ensemble.members):
        untried = unbroken[run.untried(measurement_id, ids[unbroken], attack_index=attack_index)]
        if len(untried):
            title = f"{classifier.name}, {ensemble.norm} {budget_text(ensemble.budget, ensemble.norm)}, {attack.name}"
            write = partial(_add_robustness, run, measurement_id, attack.name, attack_index)
            session.search(classifier, attack, untried, write, title=title, total=len(unbroken))
        broken = session.store.sql(query("broken_samples"), key | {"attack_index": attack_index})["sample_id"]
        unbroken = unbroken[~np.isin(ids[unbroken], broken.to_numpy())]
    return _stored_verdicts(session, measurement_id, skip_known)


def _add_robustness(run: Run, measurement_id: int, attack: str, attack_index: int, shard: Shard) -> None:
    nearest = shard.nearest
    run.add_robustness(
        measurement_id,
        shard.sample_ids.numpy(),
        attack=attack,
        attack_index=attack_index,
        epsilon=nearest.epsilon.numpy(),
        outcomes=nearest.outcomes.numpy(),
        predictions=nearest.predictions.numpy(),
        clean_predictions=nearest.clean_predictions.numpy(),
        evaluations=nearest.evaluations.numpy(),
        adversarials=kept_adversarials(shard),
    )


def _stored_verdicts(session: MeasurementSession, measurement_id: int, skip_known: SkipKnown) -> _Verdicts:
    """Return the verdicts in the store; without `skip_known` those of this attack alone."""
    rows = session.columns("sample_verdicts", measurement_id=measurement_id)
    alone, broken_by = rows["alone"], rows["broken_by"].astype(str)
    robust, epsilon = rows["robust"].astype(bool), rows["epsilon"].astype(np.float32)
    known_broken = rows["known_broken"].astype(bool)
    if not skip_known:
        robust, known_broken = alone.astype(bool), np.zeros(len(robust), np.bool_)
        broken_by, epsilon = np.where(robust, "", broken_by), np.where(robust, np.float32(np.nan), epsilon)
    return _Verdicts(
        measurement_id=measurement_id,
        robust=robust,
        broken_by=broken_by,
        epsilon=epsilon,
        known_broken=known_broken,
        robust_to_this_attack=alone.astype(bool) if (alone >= 0).all() else None,
        evaluations=rows["evaluations"].astype(np.float32),
    )


def _ladder(session: MeasurementSession, classifier: Classifier, attack: Attack | AttackEnsemble) -> set[float]:
    """Return doubling budgets that suit a network, from no effect to most samples broken."""
    if isinstance(attack, AttackEnsemble):
        raise InputError(f"`budget` ladder needs an attack that minimises the norm (fmn), got `attack` {attack.name!r}")
    measured = session.measure(classifier, attack)
    right = measured.clean_predictions == measured.labels
    return set(budget_ladder(np.where(right, measured.epsilon, np.float32(0)), measured.norm).tolist())


def _refuse(attack: str | Attack, budgets: Sequence[float | str], *, compiled: bool, tuned: bool) -> None:
    """Raise `InputError` for options that the attack would ignore, before anything is measured."""
    if not budgets:
        raise InputError("`budgets` is empty: give at least one, such as 8/255")
    name = attack.name if isinstance(attack, Attack) else attack
    at_budget = isinstance(attack, str) and is_budget_attack(attack)
    if LADDER in budgets and at_budget:
        raise InputError(f"`budget` ladder needs an attack that minimises the norm (fmn), got `attack` {name!r}")
    if compiled and at_budget:
        raise InputError(
            f"`compiled` (--compile) serves attacks that minimise the norm, fmn say; {name} searches the network "
            "itself: leave it out"
        )
    if tuned and (isinstance(attack, Attack) or not can_be_tuned(attack)):
        raise InputError(
            f"`tune_on` serves attacks with settings to tune (ho-fmn), got `attack` {name!r}: leave it out"
        )


def _study_row(robustness: Robustness) -> StudyRow:
    """Return an evaluation as a row of a study, in which networks are compared at the same budget."""
    return StudyRow(
        robustness.network,
        robustness.sparsity,
        len(robustness),
        robustness.clean_accuracy,
        robustness.robust_accuracy,
        series=f"{robustness.data} {robustness.attack} {robustness.norm} {robustness.budget:.6g}",
        reported=robustness.reported,
    )
