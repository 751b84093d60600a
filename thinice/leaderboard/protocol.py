"""`benchmark`: pruned networks beside their dense one, all by one protocol, to be ranked among published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Unpack

import torch

from thinice.analysis.comparison import Network, as_network, as_samples_for, compare_all, distinct
from thinice.analysis.evaluation import evaluate_all
from thinice.analysis.measurement import in_network_classes, prepare_classifiers
from thinice.analysis.options import Option, RunOptions, StoreOptions, checks_help
from thinice.analysis.session import MeasurementSession, open_session
from thinice.analysis.tuning import samples_to_tune_on, tuned_settings
from thinice.data import Samples
from thinice.engines import Reporter
from thinice.errors import InputError
from thinice.leaderboard.categories import category_of, check_key, removed_share, structure_of_zeros
from thinice.leaderboard.model_keys import Category, ModelKey
from thinice.leaderboard.published import PUBLISHED_BUDGET, PUBLISHED_SAMPLES, SOURCE, published_accuracies
from thinice.leaderboard.results import Benchmark, BenchmarkRow, DenseRow, Protocol, own_epsilon
from thinice.leaderboard.taxonomy import MethodEntry, published_methods
from thinice.models import Classifier, Masks, same_task
from thinice.results import CLEAN, Comparison, Robustness
from thinice.stats import wilson
from thinice.stats.area import curve_area
from thinice.store import Run

__all__ = ["STANDARD", "BenchmarkOptions", "benchmark", "described", "ho_fmn_loss"]

STANDARD = Protocol()
"""The protocol of the benchmark."""
CLEAN_TOLERANCE = 0.01
"""By so much a clean accuracy may differ from the published one, beyond the chance of the samples."""
LEAST_CLASSES = 3
"""The loss of the published HO-FMN compares with the third best logit."""


class BenchmarkOptions(RunOptions, StoreOptions, total=False):
    """Options of `benchmark`."""

    seed: Annotated[int, Option(0, "Repeats the result.", min=0)]
    checks: Annotated[bool, Option(True, checks_help, "--checks/--no-checks")]
    progress: Reporter | bool


def benchmark(
    pruned: Sequence[Network],
    dense: Network,
    samples: Samples | str | None = None,
    *,
    methods: Sequence[MethodEntry | None] | None = None,
    model_keys: Sequence[ModelKey | None] | None = None,
    tune_on: Samples | None = None,
    protocol: Protocol = STANDARD,
    **options: Unpack[BenchmarkOptions],
) -> Benchmark:
    """Return what pruned networks are worth by one protocol: accuracies, area, losses, and ranks among published ones.

    For each network: clean accuracy; AutoAttack at 8/255 in linf on all samples; the minimum norm of each sample, and
    the area under the security curve; HO-FMN as published; measured sparsity; which samples pruning loses, clean and
    robust, and how close to the dense boundary they lay. All of it is `thinice.compare` and `thinice.evaluate`, in one
    store: what that holds is read, and an interrupted benchmark goes on.

    Parameters
    ----------
    pruned, dense : sequence of networks, network
        Classifiers, modules or paths, as of `thinice.compare`.
    samples : Samples or str, optional
        What to measure on, or a data set's name; by default the test split of the data that `dense` names. Take the
        same for all networks: ``load_samples(name, limit=1000)`` is a fixed draw.
    methods : sequence of MethodEntry or None, optional
        How each network was pruned, as of `thinice.leaderboard.published_methods`.
    model_keys : sequence of ModelKey or None, optional
        The key of each network, which is held against what is measured; by default its category is that of its
        architecture, data, structure and sparsity, where the leaderboards have it.
    tune_on : Samples, optional
        Other samples, which tune HO-FMN; by default 64 of the split ``train``.
    protocol : Protocol
        For other protocols than the standard one, whose rows are not comparable with published ones.
    seed, store, command, progress, **options
        As of `thinice.compare`.

    Raises
    ------
    InputError
        For networks of different tasks, or a key that says what is not so.
    MissingExtraError
        Where AutoAttack's package is not installed.

    Examples
    --------
    >>> import thinice
    >>> paths, samples = thinice.example_checkpoints(), thinice.load_samples("digits", limit=10)
    >>> attacks = {"distance_attack": "fmn", "budget_attack": "pgd", "effort": "quick"}
    >>> weak = Protocol(tune_trials=1, tune_steps=2, steps=5, **attacks)
    >>> quick = {"protocol": weak, "checks": False, "progress": False}
    >>> result = thinice.benchmark([paths["pruned-95"]], paths["dense"], samples, **quick)
    >>> result.rows[0].structure, round(result.rows[0].removed_share, 3)
    ('US', 0.95)

    """
    if not pruned or isinstance(pruned, str):
        raise InputError("`pruned` must be a list of networks, with at least one")
    entries, keys = described(len(pruned), methods, model_keys)
    with torch.inference_mode(mode=False):  # a copy made in a caller's inference mode could have no gradients
        before, others = as_network(dense), [as_network(network) for network in pruned]
        for network in others:
            same_task(before, network)
        data = in_network_classes(as_samples_for(samples, before), [before, *others])
        before, *others = prepare_classifiers(distinct([before, *others]), data)
    for network, key in zip(others, keys, strict=True):
        if key is not None:
            check_key(key, network, before, data)
    if tune_on is None:
        tune_on = samples_to_tune_on(data)
    tune_on = in_network_classes(tune_on, [before, *others])
    seed, command = options.get("seed", 0), options.get("command")
    with open_session(data, options, [before, *others]) as session:
        parts = _Parts(session, protocol, seed, {**options, "store": session.store})
        clean = parts.compared(before, others, distances="both")
        tuned = [parts.ho_fmn(network, tune_on) for network in others]
        verdicts = parts.attacked([before, *others])  # last, so that what all others broke counts beside it
        basis = {"basis": "robust", "budget": protocol.budget, "robust_by": protocol.budget_attack}
        robust = parts.compared(before, others, **basis)
        rows = [
            BenchmarkRow(
                network=network.name,
                method=entry,
                category=category_of(network, before, data) if key is None else key.category,
                structure=structure_of_zeros(network, before),
                removed_share=removed_share(network, before),
                layers={layer.name: layer.sparsity for layer in Masks.of(network.module).layers()},
                comparison=replace(clean[position], store=session.path),
                robust_comparison=replace(robust[position], store=session.path),
                autoattack=replace(verdicts[position + 1], store=session.path),
                ho_fmn=replace(tuned[position], store=session.path),
                area=curve_area(own_epsilon(clean[position]), protocol.curve_end),
                notes=(*tuned[position].notes, *other_than_published(key, verdicts[position + 1])),
            )
            for position, (network, entry, key) in enumerate(zip(others, entries, keys, strict=True))
        ]
        result = Benchmark(
            protocol=protocol,
            data=data.name,
            split=data.split,
            sample_ids=data.sample_ids.numpy(),
            dense=DenseRow(before.name, verdicts[0], curve_area(clean[0].epsilon, protocol.curve_end)),
            rows=tuple(rows),
            findings=tuple(f"{each.network}: {warning}" for each in verdicts for warning in each.warnings),
        )
        with session.record(settings={"benchmark": protocol.to_dict()}, seed=seed, command=command) as run:
            _keep(run, session.measurement(before, clean[0].attack), result)
    return result


class _Parts:
    """The parts of the protocol, each of which reads from the store what it has."""

    def __init__(self, session: MeasurementSession, protocol: Protocol, seed: int, running: Mapping[str, Any]) -> None:
        self.session, self.protocol = session, protocol
        self.checks = running.get("checks", True)
        self.common: dict[str, Any] = {**running, "seed": seed, "norm": "linf"}
        self.common.pop("checks", None)

    def compared(self, dense: Classifier, pruned: Sequence[Classifier], **more: Any) -> tuple[Comparison, ...]:  # noqa: ANN401
        """Return the comparisons with the dense network, by minimum norms; on the basis that is given."""
        search = {"attack": self.protocol.distance_attack, "effort": self.protocol.effort}
        return compare_all(dense, pruned, self.session.samples, **{**self.common, **search, **more})

    def attacked(self, networks: Sequence[Classifier]) -> tuple[Robustness, ...]:
        """Return the verdicts at the budget: by the attack alone, and with what the others broke."""
        options = {name: value for name, value in self.common.items() if name != "compiled"}
        options |= {"attack": self.protocol.budget_attack, "skip_known": "both", "checks": self.checks}
        return evaluate_all(networks, self.session.samples, budgets=[self.protocol.budget], **options)

    def ho_fmn(self, network: Classifier, tune_on: Samples) -> Robustness:
        """Return the verdicts at the budget by HO-FMN, with settings tuned on other samples; nothing else helps it."""
        session, protocol, seed = self.session, self.protocol, self.common["seed"]
        loss, notes = ho_fmn_loss(network.classes or len(session.samples.classes))
        search = {"norm": "linf", "seed": seed, "loss": loss}
        settings, tuned = tuned_settings(
            session, network, "ho-fmn", tune_on, search, trials=protocol.tune_trials, steps=protocol.tune_steps
        )
        options: dict[str, Any] = {**self.common, **settings, "steps": protocol.steps, "checks": False}
        (robustness,) = evaluate_all(
            [network],
            session.samples,
            budgets=[protocol.budget],
            **{**options, "attack": "ho-fmn", "fallback": False},
        )
        return replace(robustness, notes=(*tuned, *notes))


def ho_fmn_loss(classes: int) -> tuple[str, tuple[str, ...]]:
    """Return the loss that HO-FMN minimises: the published one, DLR, where there are classes enough; and a note.

    >>> ho_fmn_loss(10), ho_fmn_loss(2)[0]
    (('dlr', ()), 'margin')
    """
    if classes >= LEAST_CLASSES:
        return "dlr", ()
    return "margin", (f"ho-fmn minimises the margin: the published loss, DLR, needs {LEAST_CLASSES} classes",)


def other_than_published(key: ModelKey | None, robustness: Robustness) -> tuple[str, ...]:
    """Return a note where a network of a published key has another clean accuracy than the leaderboard says.

    By more than a point beyond the interval of its samples: then it may be another network, or normalised otherwise.
    """
    rows = [row for row in published_accuracies() if row.key == key]
    right = int((robustness.broken_by != CLEAN).sum())
    interval = wilson(right, len(robustness))
    if not rows or interval.low - CLEAN_TOLERANCE <= rows[0].clean <= interval.high + CLEAN_TOLERANCE:
        return ()
    measured = f"{right / len(robustness):.1%} (95 % interval {interval.low:.1%} to {interval.high:.1%})"
    note = (
        f"clean accuracy {measured}, and the leaderboard says {rows[0].clean:.2%} of {key}: this may be another "
        "network, or need another normalisation (--normalization); do not trust the other numbers"
    )
    return (note,)


def described(
    networks: int, methods: Sequence[MethodEntry | None] | None, model_keys: Sequence[ModelKey | None] | None
) -> tuple[list[MethodEntry | None], list[ModelKey | None]]:
    """Return for each network its method and its key; the published method of a key where none is given.

    Raises
    ------
    InputError
        Where there are not as many as networks, or a key is of another method than the entry.

    """
    entries, keys = list(methods or [None] * networks), list(model_keys or [None] * networks)
    for name, values in (("methods", entries), ("model_keys", keys)):
        if len(values) != networks:
            raise InputError(f"`{name}` has {len(values)} entries for {networks} networks: give one for each, or None")
    for position, (entry, key) in enumerate(zip(entries, keys, strict=True)):
        if key is None:
            continue
        if entry is None:
            entries[position] = published_methods().get(key.method)
        elif entry.key != key.method:
            raise InputError(f"`model_key` {key} is of {key.method}, and the entry of {entry.key}: give what fits")
    return entries, keys


def _keep(run: Run, measurement_id: int, result: Benchmark) -> None:
    """Store where the parts of the result are, and the published rows beside them."""
    published = published_accuracies()
    columns: dict[str, list[Any]] = {
        name: [getattr(row.category, name) for row in published] for name in Category._fields
    }
    columns |= {"method": [row.method for row in published]}
    columns |= {
        "clean_accuracy": [row.clean for row in published],
        "robust_accuracy": [row.robust for row in published],
    }
    run.add_published_accuracies(columns, n=PUBLISHED_SAMPLES, budget=PUBLISHED_BUDGET, source=SOURCE)
    for row in result.rows:
        run.add_benchmark_network(
            measurement_id,
            protocol=result.protocol.to_dict(),
            method=row.method.key if row.method else None,
            entry=row.method.to_dict() if row.method else None,
            model_key=row.model_key,
            structure=row.structure,
            removed_share=row.removed_share,
            layers=row.layers,
            autoattack_id=row.autoattack.measurement_id,
            ho_fmn_id=row.ho_fmn.measurement_id,
        )
