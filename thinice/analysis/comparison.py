"""`compare`, the main job: which samples pruning loses, and how close to the dense network's boundary they lay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from torch import nn

from thinice.analysis.certifying import certify, refuse_hours, refuse_uncertifiable
from thinice.analysis.control import add_control, refuse_control
from thinice.analysis.distances import pruned_distances
from thinice.analysis.evaluation import bind_attack, verdicts
from thinice.analysis.measurement import in_network_classes, minimum_norm_attack, prepare_classifiers
from thinice.analysis.options import NOISE, CompareOptions, SearchOptions, chosen, search_options
from thinice.analysis.session import ComparisonBasis, MeasurementSession, open_session
from thinice.attacks import Attack
from thinice.attacks.fixed_budget import AttackEnsemble, budget_text
from thinice.checks.study_patterns import stored_patterns
from thinice.data import DATASETS, Samples, load_samples
from thinice.errors import InputError
from thinice.models import Classifier, as_classifier, same_task
from thinice.models.loading import read_classifier
from thinice.results import Comparison, Measured, Robustness
from thinice.stats import class_impact, flips, separation, transition_counts, transitions
from thinice.types import BASES, DISTANCES, Basis, Distances, Outcome, Transition

__all__ = [
    "Network",
    "as_network",
    "as_samples_for",
    "compare",
    "compare_all",
    "compare_prepared",
    "distinct",
    "named_data",
]

Network = Classifier | nn.Module | str | Path
GALLERY = 12
"""How many of the samples closest to the boundary a comparison holds with their adversarials."""


def named_data(dense: Classifier) -> str:
    """Return the data set that a checkpoint names: one that thinice knows, never a path, for files come from strangers.

    Raises
    ------
    InputError
        Where it names none, or something else.

    """
    if dense.data is None:
        raise InputError(f"`data` is missing: {dense.name} does not name its data set; give one (--data cifar10)")
    if dense.data not in DATASETS or ":" in dense.data:
        raise InputError(
            f"`data` is missing: {dense.name} names {dense.data!r}, no built-in data set; give it (--data)"
        )
    return dense.data


def compare(
    dense: Network, pruned: Network, samples: Samples | str | None = None, **options: Unpack[CompareOptions]
) -> Comparison:
    """Return which samples a pruned network keeps and loses, and how far they lay from the dense boundary.

    Parameters
    ----------
    dense, pruned : Classifier, nn.Module, or path
        The network before and after pruning. Where a file does not say its normalisation, the samples' labels decide.
    samples : Samples or str, optional
        What to compare on, or a data set's name; by default the test split of the data that `dense` names.
    norm, attack, effort, seed, precision, steps, device, batch_size, compiled, engine, progress, **settings
        As of `measure`.
    distances : {"dense", "both"}
        Whether to measure the samples' distances to the pruned network's own boundary too, by the same attack, those of
        lost samples with a minus sign: they lie behind it. Takes as long again (`thinice.analysis.distances`).
    basis : {"clean", "robust"}
        What correct means: right on the clean sample, or robust at a budget.
    budget : float or str, optional
        Of a robust basis, ``8 / 255`` or ``"8/255"``, in `norm`.
    control : {"noise"}, Classifier, nn.Module, path, or a sequence of networks, optional
        What the AUC of the pruning is held against: control networks, which lose other samples for other reasons. Those
        that are given, as the dense network trained from another seed; or ``"noise"``: five networks with noise on the
        weights, scaled until they change as many predictions as pruning does. They need no attack: ``"noise"`` costs
        about 20 forward passes a sample for each pruned network, a given network one.
    gradient_norms : bool
        Whether to compute the norm of the gradient of each sample's loss in the dense network's weights, which joins
        the predictors beside epsilon: one forward-backward pass a sample, one by one. What the store has joins anyway.
    robust_by : str, optional
        The attack that decides which samples are robust, as of `thinice.evaluate`: ``"autoattack"``. It searches with
        its standard settings on all samples of both networks, whatever the store knows of them. By default the minimum
        norms of both, by the attack that measures.
    certify, certify_hours : bool, float
        Of the dense network, as of `measure_all`: `Comparison.epsilon_lower`; with the distances of both networks of
        the pruned one too: `Comparison.pruned_epsilon_lower`.
    store : path or Store, optional
        The DuckDB file that keeps everything measured: what it holds already is read, not computed. None keeps nothing.
    command : sequence of str, optional
        What the store notes as the origin of the run; by default this process's command line.

    Raises
    ------
    InputError
        If the networks answer different tasks, or the samples do not fit them.
    CheckpointError, DataError, StoreError
        For files that cannot be used.

    Examples
    --------
    >>> import thinice
    >>> paths = thinice.example_checkpoints()
    >>> samples = thinice.load_samples("digits", limit=60)
    >>> result = thinice.compare(paths["dense"], paths["pruned-95"], samples, effort="quick", progress=False)
    >>> sum(result.counts.values())
    60

    """
    (comparison,) = compare_all(dense, [pruned], samples, **options)
    return comparison


def compare_all(
    dense: Network,
    pruned: Sequence[Network],
    samples: Samples | str | None = None,
    **options: Unpack[CompareOptions],
) -> tuple[Comparison, ...]:
    """Return the comparisons of one dense network with several pruned ones, in their order; it is measured once.

    Parameters and errors are those of `compare`.
    """
    given = chosen(CompareOptions, options)
    distances, budget, robust_by = given["distances"], given["budget"], given["robust_by"]
    refuse_hours(options)
    bound = minimum_norm_attack(given["attack"], **search_options(options, CompareOptions))
    control = given["control"]
    _refuse(distances, given["basis"], budget, robust_by)
    refuse_control(control, given["basis"])
    with torch.inference_mode(mode=False):  # a copy made in a caller's inference mode could have no gradients
        first, others = as_network(dense), [as_network(network) for network in pruned]
        if not others:
            raise InputError("`pruned` is empty: give at least one pruned network")
        controls = [as_network(network) for network in _listed(control)]
        for other in (*others, *controls):
            same_task(first, other)
        data = in_network_classes(as_samples_for(samples, first), [first, *others, *controls])
        first, *ready = prepare_classifiers(distinct([first, *others, *controls]), data)
        others, controls = ready[: len(others)], ready[len(others) :]
    seed, command = bound.seed, options.get("command")
    networks = [first, *others, *controls]
    with open_session(data, options, networks) as session, session.run(bound, seed=seed, command=command):
        comparisons = []
        if given["certify"]:
            for network in (first, *others) if distances == "both" else (first,):
                refuse_uncertifiable(session, network, bound.norm, hours=given["certify_hours"])
        measured = session.measure(first, bound)
        if given["certify"]:
            measured = certify(session, first, measured, bound)
        for other in others:
            robust = None
            if budget is not None:
                verify = _verdicts_by(session, bound, robust_by, budget, seed)
                robust = verify(first), verify(other)
            comparisons.append(
                compare_prepared(
                    session,
                    first,
                    other,
                    bound,
                    measured,
                    both=distances == "both",
                    bounded=given["certify"],
                    robust=robust,
                    controls=None if control is None else controls,
                    gradients=given["gradient_norms"],
                )
            )
        patterns = stored_patterns(session.store)
    return tuple(
        replace(comparison, patterns=tuple(pattern for pattern in patterns if comparison.pruned in pattern.subjects))
        for comparison in comparisons
    )


def _refuse(distances: Distances, basis: Basis, budget: float | str | None, robust_by: str | None) -> None:
    """Raise `InputError` for options that contradict each other."""
    if distances not in DISTANCES:
        raise InputError(f"`distances` must be one of {', '.join(DISTANCES)}, got {distances!r}")
    if basis not in BASES:
        raise InputError(f"`basis` must be one of {', '.join(BASES)}, got {basis!r}")
    if basis == "clean" and (budget is not None or robust_by is not None):
        raise InputError('`budget` and `robust_by` say what robust means: give them with `basis` "robust"')
    if basis == "robust" and budget is None:
        raise InputError('`budget` is missing: `basis` "robust" means robust at a budget, such as 8/255')


def _verdicts_by(
    session: MeasurementSession, attack: Attack, robust_by: str | None, budget: float | str, seed: int
) -> Callable[[Classifier], Robustness]:
    """Return what tells which samples of a network are robust: one attack for all networks, alone, on all samples."""

    def verify(network: Classifier) -> Robustness:
        bound: Attack | AttackEnsemble = attack
        if robust_by is not None:
            options: SearchOptions = {"norm": attack.norm, "seed": seed}
            bound = bind_attack(session, network, robust_by, budget=budget, **options)
        return verdicts(session, network, bound, budget=budget, skip_known=False)

    return verify


def _listed(control: Network | Sequence[Network] | None) -> Sequence[Network]:
    """Return the control networks that were given, one or several; none for the built-in control."""
    if control is None or (isinstance(control, str) and control == NOISE):
        return []
    networks = [control] if isinstance(control, Classifier | nn.Module | str | Path) else list(control)
    if not networks:
        raise InputError('`control` is empty: give a network, or "noise"')
    return networks


def distinct(networks: Sequence[Classifier]) -> list[Classifier]:
    """Return different networks under different names: files get their folder in front, others a number."""
    renamed: list[Classifier] = []

    def taken(name: str, network: Classifier) -> bool:
        return any(other.name == name and other.fingerprint != network.fingerprint for other in renamed)

    for network in networks:
        name, k = network.name, 2
        if taken(name, network) and network.path is not None:
            name = f"{network.path.resolve().parent.name}/{name}"
        while taken(name, network):
            name, k = f"{network.name}-{k}", k + 1
        renamed.append(network if name == network.name else as_classifier(network, name=name))
    return renamed


def compare_prepared(
    session: MeasurementSession,
    dense: Classifier,
    pruned: Classifier,
    attack: Attack,
    measured: Measured,
    *,
    both: bool = False,
    bounded: bool = False,
    robust: tuple[Robustness, Robustness] | None = None,
    controls: Sequence[Classifier] | None = None,
    gradients: bool = False,
) -> Comparison:
    """Return the comparison of two networks that were prepared, within a session's run, and store it.

    Parameters
    ----------
    session
        In a run; it knows the samples.
    dense, pruned
        As `thinice.analysis.measurement.prepare_classifiers` returns them.
    attack
        That of `measured`.
    measured
        What it finds on the dense network.
    both
        Whether the pruned network is measured too.
    bounded
        Whether its distances are then bounded from below.
    robust
        How both networks stand at a budget; without it, samples count by their clean predictions.
    controls
        Networks that the pruning is held against; none of them means the built-in control, None no control.
    gradients
        Whether the gradients of the loss are predictors too.

    """
    samples, predicted = session.samples, session.predict(dense)
    labels, pruned_predicted = samples.labels.numpy(), session.predict(pruned)
    dense_predictions, pruned_predictions = measured.clean_predictions, pruned_predicted.predictions
    dense_right, pruned_right, basis = dense_predictions == labels, pruned_predictions == labels, ComparisonBasis()
    if robust is not None:
        dense_verdicts, pruned_verdicts = robust
        dense_right, pruned_right = dense_verdicts.robust, pruned_verdicts.robust
        norm, budget = dense_verdicts.norm, dense_verdicts.budget
        basis = ComparisonBasis(
            f"robust at {norm} {budget_text(budget, norm)} by {dense_verdicts.attack}",
            budget,
            dense_verdicts.measurement_id,
            pruned_verdicts.measurement_id,
        )
    transition = transitions(dense_right, pruned_right)
    kept, lost = transition == Transition.KEPT, transition == Transition.LOST
    distances = separation(
        measured.epsilon[kept],
        measured.epsilon[lost],
        margins=(predicted.margins[kept], predicted.margins[lost]),
        labels=(labels[kept], labels[lost]),
    )
    impact = class_impact(
        labels,
        dense_predictions,
        pruned_predictions,
        dense_losses=predicted.losses,
        pruned_losses=pruned_predicted.losses,
        classes=samples.classes,
    )
    comparison_id = session.comparison(measured, pruned, basis)
    control = None
    if controls is not None:
        control = add_control(
            session,
            comparison_id,
            dense,
            controls or None,
            labels=labels,
            epsilon=measured.epsilon,
            dense_predictions=dense_predictions,
            pruned_predictions=pruned_predictions,
            seed=attack.seed or 0,
        )
    distances = replace(
        distances,
        flips=flips(dense_right, pruned_right, dense_predictions, pruned_predictions, impact=impact),
        control=control,
        notes=distances.notes if control is None else (*distances.notes, *control.notes),
    )
    session.add_statistics(comparison_id, distances)
    nearest_first = np.lexsort((measured.epsilon, transition != Transition.LOST))  # lost samples before all others
    closest = nearest_first[measured.outcomes[nearest_first] == Outcome.FOUND][:GALLERY]
    return Comparison(
        dense=dense.name,
        pruned=pruned.name,
        dense_sparsity=dense.sparsity,
        pruned_sparsity=pruned.sparsity,
        data=samples.name,
        split=samples.split,
        classes=samples.classes,
        attack=attack,
        basis=basis.text,
        budget=basis.budget,
        sample_ids=session.sample_ids,
        labels=labels,
        dense_predictions=dense_predictions,
        pruned_predictions=pruned_predictions,
        margins=predicted.margins,
        confidences=predicted.confidences,
        losses=predicted.losses,
        dynamics=session.dynamics(dense),
        gradient_norms=session.gradient_norms(dense, wanted=gradients),
        epsilon=measured.epsilon,
        outcomes=measured.outcomes,
        found_by=measured.found_by,
        failure_reasons=measured.failure_reasons,
        converged=measured.converged,
        transitions=transition,
        class_impact=impact,
        changes=transition_counts(dense_right, pruned_right),
        separation=distances,
        closest=tuple(session.adversarials(measured, closest)),
        store=session.path,
        networks=(dense, pruned),
        pruned_distances=pruned_distances(session, comparison_id, measured, pruned, attack, bounded=bounded)
        if both
        else None,
        dense_broken_by=None if robust is None else robust[0].broken_by,
        pruned_broken_by=None if robust is None else robust[1].broken_by,
        epsilon_lower=measured.epsilon_lower,
        second_epsilon=measured.second_epsilon,
    )


def as_network(network: Network) -> Classifier:
    """Return the classifier in a file, or made of a module."""
    if isinstance(network, Classifier | nn.Module):
        return as_classifier(network)
    return read_classifier(network)


def as_samples_for(samples: Samples | str | None, dense: Classifier) -> Samples:
    """Return samples, those of a data set's name, or those of the data that a network names."""
    if isinstance(samples, Samples):
        return samples
    return load_samples(samples or named_data(dense))
