"""The main job: which samples pruning loses, and how close to the dense network's boundary they lay."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from thinice.analysis.evaluation import Evaluator
from thinice.analysis.measurement import BatchSize, prepare_classifiers
from thinice.analysis.session import MeasurementSession
from thinice.attacks import Attack, make_attack
from thinice.attacks.fixed_budget import budget_text
from thinice.data import DATASETS, Samples, load_samples
from thinice.engines import Reporter
from thinice.errors import InputError
from thinice.models import Classifier, as_classifier, load_classifier, same_task
from thinice.results import Comparison, Robustness
from thinice.stats import separation, transition_counts, transitions
from thinice.store import Store, open_store
from thinice.types import (
    BASES,
    DEFAULT_ATTACK,
    DISTANCES,
    Basis,
    Distances,
    Effort,
    Norm,
    Outcome,
    Precision,
    Transition,
)

__all__ = ["compare", "compare_all", "named_data"]

Network = Classifier | nn.Module | str | Path
GALLERY = 12
"""How many of the thinnest samples a comparison keeps at hand with their adversarials."""


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
    dense: Network,
    pruned: Network,
    samples: Samples | str | None = None,
    *,
    norm: Norm = "linf",
    attack: str | Attack = DEFAULT_ATTACK,
    effort: Effort = "standard",
    seed: int = 0,
    device: str = "auto",
    batch_size: BatchSize = "auto",
    precision: Precision = "float32",
    compiled: bool = False,
    distances: Distances = "dense",
    basis: Basis = "clean",
    budget: float | str | None = None,
    by: str | None = None,
    store: str | Path | Store | None = None,
    progress: Reporter | bool = True,
    command: Sequence[str] | None = None,
    **settings: str | float | bool | None,
) -> Comparison:
    """Return which samples a pruned network keeps and loses, and how far they lay from the dense boundary.

    Parameters
    ----------
    dense, pruned : Classifier, nn.Module, or path
        The network before and after pruning. Where a file does not say its normalisation, the samples' labels decide.
    samples : Samples or str, optional
        What to compare on, or a data set's name; by default the test split of the data that `dense` names.
    norm, attack, effort, seed, device, batch_size, precision, compiled, progress, **settings
        As of `measure`.
    distances : {"dense", "both"}
        Whether to measure the samples' distances to the pruned network's own boundary too, by the same attack: what
        `MeasurementSession.pruned_distances` says.
    basis : {"clean", "robust"}
        What correct means: right on the clean sample, or robust at a budget.
    budget : float or str, optional
        Of a robust basis, ``8 / 255`` or ``"8/255"``, in `norm`.
    by : str, optional
        Whose verdicts say who is robust: an attack of `thinice.evaluate`, ``"autoattack"``, alone and on all samples,
        so that both networks have the same judge. By default the minimum norms of both, by the attack that measures.
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
    (only,) = compare_all(
        dense,
        [pruned],
        samples,
        norm=norm,
        attack=attack,
        effort=effort,
        seed=seed,
        device=device,
        batch_size=batch_size,
        precision=precision,
        compiled=compiled,
        distances=distances,
        basis=basis,
        budget=budget,
        by=by,
        store=store,
        progress=progress,
        command=command,
        **settings,
    )
    return only


def compare_all(
    dense: Network,
    pruned: Sequence[Network],
    samples: Samples | str | None = None,
    *,
    norm: Norm = "linf",
    attack: str | Attack = DEFAULT_ATTACK,
    effort: Effort = "standard",
    seed: int = 0,
    device: str = "auto",
    batch_size: BatchSize = "auto",
    precision: Precision = "float32",
    compiled: bool = False,
    distances: Distances = "dense",
    basis: Basis = "clean",
    budget: float | str | None = None,
    by: str | None = None,
    store: str | Path | Store | None = None,
    progress: Reporter | bool = True,
    command: Sequence[str] | None = None,
    **settings: str | float | bool | None,
) -> tuple[Comparison, ...]:
    """Return the comparisons of one dense network with several pruned ones, in their order; it is measured once.

    Parameters and errors are those of `compare`.
    """
    chosen: dict[str, Any] = {"norm": norm, "effort": effort, "seed": seed, "precision": precision, **settings}
    bound = attack if isinstance(attack, Attack) else make_attack(attack, **chosen)
    if distances not in DISTANCES:
        raise InputError(f"`distances` must be one of {', '.join(DISTANCES)}, got {distances!r}")
    if basis not in BASES:
        raise InputError(f"`basis` must be one of {', '.join(BASES)}, got {basis!r}")
    if basis == "clean" and (budget is not None or by is not None):
        raise InputError('`budget` and `by` say what robust means: give them with `basis` "robust"')
    if basis == "robust" and budget is None:
        raise InputError('`budget` is missing: `basis` "robust" means robust at a budget, such as 8/255')
    first, others = _network(dense), [_network(one) for one in pruned]
    if not others:
        raise InputError("`pruned` is empty: give at least one pruned network")
    for other in others:
        same_task(first, other)
    data = _data(samples, first)
    first, *others = prepare_classifiers(_distinct([first, *others]), data)
    with tempfile.TemporaryDirectory(prefix="thinice-") as folder:
        kept = store if isinstance(store, Store) else open_store(store or Path(folder) / "thinice.duckdb", new=True)
        campaign = Evaluator(kept, data, device=device, batch_size=batch_size, compiled=compiled, progress=progress)
        where, both = None if store is None else kept.path, distances == "both"

        def verdicts(network: Classifier, radius: float | str) -> Robustness:
            verify = bound if by is None else campaign.bind(network, by, norm=bound.norm, budget=radius, seed=seed)
            return campaign.robustness(network, verify, budget=radius, shortcut=False)  # the same judge for both

        def compared(other: Classifier) -> Comparison:
            robust = None if budget is None else (verdicts(first, budget), verdicts(other, budget))
            return _compare(campaign, first, other, bound, store=where, both=both, robust=robust)

        with campaign.run(bound, seed=seed, command=command):
            return tuple(compared(other) for other in others)


def _distinct(networks: Sequence[Classifier]) -> list[Classifier]:
    """Return different networks under different names: files get their folder in front, others a number."""
    distinct: list[Classifier] = []

    def taken(name: str, network: Classifier) -> bool:
        return any(other.name == name and other.fingerprint != network.fingerprint for other in distinct)

    for network in networks:
        name, k = network.name, 2
        if taken(name, network) and network.path is not None:
            name = f"{network.path.resolve().parent.name}/{name}"
        while taken(name, network):
            name, k = f"{network.name}-{k}", k + 1
        distinct.append(network if name == network.name else as_classifier(network, name=name))
    return distinct


def _compare(
    campaign: MeasurementSession,
    dense: Classifier,
    pruned: Classifier,
    attack: Attack,
    *,
    store: Path | None,
    both: bool,
    robust: tuple[Robustness, Robustness] | None,
) -> Comparison:
    measured = campaign.epsilons(dense, attack)
    before, after, sure = measured.clean_predictions, campaign.predictions(pruned), campaign.predicted(dense)
    labels = campaign.samples.labels.numpy()
    right_before, right_after = before == labels, after == labels
    basis: dict[str, Any] = {"basis": "clean"}
    if robust is not None:
        stands, also = robust
        right_before, right_after = stands.robust, also.robust
        basis = {
            "basis": f"robust at {stands.norm} {budget_text(stands.budget, stands.norm)} by {stands.attack}",
            "budget": stands.budget,
            "dense_verdicts": stands.measurement_id,
            "pruned_verdicts": also.measurement_id,
        }
    which = transitions(right_before, right_after)
    distances = separation(measured.epsilon[which == Transition.KEPT], measured.epsilon[which == Transition.LOST])
    changes = transition_counts(right_before, right_after)
    comparison_id = campaign.compared(measured, pruned, distances, **basis)
    theirs = campaign.pruned_distances(comparison_id, measured, pruned, attack) if both else None
    nearest_first = np.lexsort((measured.epsilon, which != Transition.LOST))
    shown = nearest_first[(measured.outcomes[nearest_first] == Outcome.FOUND)][:GALLERY]
    return Comparison(
        dense=dense.name,
        pruned=pruned.name,
        dense_sparsity=dense.sparsity,
        pruned_sparsity=pruned.sparsity,
        data=campaign.samples.name,
        split=campaign.samples.split,
        classes=campaign.samples.classes,
        attack=attack,
        basis=basis["basis"],
        budget=basis.get("budget"),
        sample_ids=campaign.samples.sample_ids.numpy(),
        labels=labels,
        dense_predictions=before,
        pruned_predictions=after,
        margins=sure.margins,
        confidences=sure.confidences,
        losses=sure.losses,
        epsilon=measured.epsilon,
        outcomes=measured.outcomes,
        stages=measured.stages,
        diagnoses=measured.diagnoses,
        converged=measured.converged,
        transitions=which,
        changes=changes,
        separation=distances,
        closest=tuple(campaign.adversarials(measured, shown)),
        store=store,
        networks=(dense, pruned),
        pruned_distances=theirs,
        dense_broken_by=None if robust is None else robust[0].broken_by,
        pruned_broken_by=None if robust is None else robust[1].broken_by,
    )


def _network(network: Network) -> Classifier:
    if isinstance(network, Classifier | nn.Module):
        return as_classifier(network)
    return load_classifier(network)


def _data(samples: Samples | str | None, dense: Classifier) -> Samples:
    if isinstance(samples, Samples):
        return samples
    return load_samples(samples or named_data(dense))
