"""The main job: which samples pruning loses, and how close to the dense network's boundary they lay."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from thinice.attacks import Attack, make_attack
from thinice.campaign import Campaign, PrunedDistances, Witness, search_notes
from thinice.datasets import DATASETS, Samples, load_samples
from thinice.errors import InputError
from thinice.evaluation import Evaluator, Robustness
from thinice.measurement import BatchSize, pick_device, settle_all
from thinice.models import Classifier, as_classifier, load_classifier, same_task
from thinice.precision import exact
from thinice.progress import Reporter
from thinice.robustness import budget_text
from thinice.slices import BoundarySlice, slice_boundary
from thinice.stats import (
    PairedShift,
    RiskCurve,
    RiskMethod,
    RivalPredictors,
    Separation,
    TransitionCounts,
    paired_shift,
    quantile,
    risk_curve,
    rival_predictors,
    separation,
    transition_counts,
    transitions,
)
from thinice.store import Store, open_store
from thinice.types import (
    BASES,
    DEFAULT_ATTACK,
    DISTANCES,
    Basis,
    Diagnosis,
    Distances,
    Effort,
    Norm,
    Outcome,
    Precision,
    Stage,
    Transition,
)

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Comparison", "compare", "compare_all"]

Network = Classifier | nn.Module | str | Path
BOTH = (
    "pruned_median_kept",
    "boundary_shift",
    "paired_shift",
    "paired_low",
    "paired_high",
    "paired_log10_p",
    "pruned_not_found",
    "pruned_from_dense",
)
"""What the distances of both networks add to a row."""
GALLERY = 12
"""How many of the thinnest samples a comparison keeps at hand with their adversarials."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Comparison:
    """What one pruning did to each sample; columns have one entry a sample, in the order of the data.

    Attributes
    ----------
    dense, pruned : str
        Names of the two checkpoints.
    dense_sparsity, pruned_sparsity : float
        Fraction of prunable weights that are zero.
    data, split : str
        Where the samples came from; `classes` names their labels.
    attack : Attack
        What measured the dense network's epsilons, with all its settings.
    basis : str
        What "correct" means: ``"clean"``, or ``"robust at linf 8/255 by fmn"``.
    budget : float or None
        The radius of a robust basis, on the [0, 1] scale.
    sample_ids, labels : ndarray
        (N,) index in the untouched data set, and true class.
    dense_predictions, pruned_predictions : ndarray
        (N,) classes of the clean input; -1 where the logits are NaN.
    margins, confidences, losses : ndarray
        (N,) how sure the dense network is of the clean input: logit of the true class minus the best other one,
        largest probability, cross-entropy in nats; NaN where its logits are.
    epsilon : ndarray
        (N,) distance found to the dense network's boundary, on the [0, 1] scale; NaN where not found.
    outcomes, stages, diagnoses : ndarray
        (N,) codes of `Outcome`; of `Stage`, what found epsilon; of `Diagnosis`, why the attack's own search did not.
    converged : ndarray
        (N,) bool, whether the search had settled; False where the attack does not say.
    transitions : ndarray
        (N,) ``S1,1``, ``S1,0``, ``S0,1`` or ``S0,0``.
    changes : TransitionCounts
        How many went which way, accuracies, McNemar's test.
    separation : Separation
        AUC with its interval, Mann-Whitney p-value, medians, shift.
    thinnest : tuple of Witness
        The samples closest to the boundary, lost ones first, with the adversarials that prove it, for the gallery.
    store : Path or None
        The file that holds all of this; None where it was not kept.
    networks : tuple of Classifier
        The dense and the pruned network, as they were measured.
    pruned_distances : PrunedDistances or None
        Epsilons, outcomes and stages of the pruned network itself, where they were asked for.

    """

    dense: str
    pruned: str
    dense_sparsity: float
    pruned_sparsity: float
    data: str
    split: str
    classes: tuple[str, ...]
    attack: Attack
    basis: str
    sample_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    dense_predictions: NDArray[np.int64]
    pruned_predictions: NDArray[np.int64]
    margins: NDArray[np.float32]
    confidences: NDArray[np.float64]
    losses: NDArray[np.float32]
    epsilon: NDArray[np.float32]
    outcomes: NDArray[np.int8]
    stages: NDArray[np.int8]
    diagnoses: NDArray[np.int8]
    converged: NDArray[np.bool_]
    transitions: NDArray[np.str_]
    changes: TransitionCounts
    separation: Separation
    thinnest: tuple[Witness, ...]
    store: Path | None
    networks: tuple[Classifier, Classifier]
    pruned_distances: PrunedDistances | None = None
    budget: float | None = None

    def __repr__(self) -> str:
        return f"<Comparison on {len(self.labels)} samples of {self.data}: {self.answer}>"

    @property
    def norm(self) -> Norm:
        """The norm that epsilon is measured in."""
        return self.attack.norm

    @property
    def counts(self) -> dict[str, int]:
        """How many samples went which way: ``{"S1,1": …, "S1,0": …, "S0,1": …, "S0,0": …}``."""
        return self.changes.counts

    @property
    def not_found(self) -> int:
        """Samples that the dense network has right and that have no epsilon: right-censored."""
        return self.separation.not_found_kept + self.separation.not_found_lost

    @property
    def pruned_epsilon(self) -> NDArray[np.float32] | None:
        """Distance found to the pruned network's own boundary, (N,); None where it was not asked for."""
        return None if self.pruned_distances is None else self.pruned_distances.epsilon

    @property
    def boundary_shift(self) -> float | None:
        """By how much the boundary moved away from the kept samples: median of pruned less dense epsilon.

        Over the samples that both networks have right. A sample not found on one network counts as beyond all others
        there; one that is not found on either says nothing, and is left out. None where the median is unknown.
        """
        if self.pruned_distances is None:
            return None
        kept = self.transitions == Transition.KEPT
        before, after = (
            np.nan_to_num(column[kept], nan=np.inf) for column in (self.epsilon, self.pruned_distances.epsilon)
        )
        known = np.isfinite(before) | np.isfinite(after)
        differences = np.sort(after[known].astype(np.float64) - before[known])
        if not len(differences):
            return None
        low, high = (differences[place] for place in ((len(differences) - 1) // 2, len(differences) // 2))
        return float((low + high) / 2) if np.isfinite([low, high]).all() else None

    @property
    def paired(self) -> PairedShift | None:
        """The shift of epsilon from the dense to the pruned network on the kept samples, with its test."""
        if self.pruned_distances is None:
            return None
        kept = self.transitions == Transition.KEPT
        return paired_shift(self.epsilon[kept], self.pruned_distances.epsilon[kept])

    @property
    def search_notes(self) -> tuple[str, ...]:
        """What of the search people should know: samples that the fall-back found, and why others were not found."""
        return search_notes(self.outcomes, self.stages, self.diagnoses)

    @property
    def answer(self) -> str:
        """The question's answer in a sentence."""
        lost, found = self.counts[Transition.LOST], self.separation
        right = lost + self.counts[Transition.KEPT]
        said = f"{self.pruned} loses {lost} of the {right} samples that {self.dense} {self._has_right}"
        interval = found.auc_interval
        if found.auc is None or interval is None:
            return said + "."
        said += (
            f"; a lost sample lay nearer to the dense boundary than a kept one with probability {found.auc:.3f} "
            f"(AUC, 95 % interval {interval.low:.3f} to {interval.high:.3f}"
        )
        return said + (
            f", log10 p = {found.log10_p:.1f})." if found.log10_p is not None else ", too few for a p-value)."
        )

    @property
    def _has_right(self) -> str:
        if self.budget is None:
            return "has right"
        return f"holds at {self.norm} {budget_text(self.budget, self.norm)}"

    def risk(self, *, method: RiskMethod = "isotonic", confidence: float = 0.95) -> RiskCurve:
        """Return the chance that pruning loses a sample as a function of its epsilon, as `thinice.stats.risk_curve`."""
        kept, lost = (self.epsilon[self.transitions == which] for which in (Transition.KEPT, Transition.LOST))
        return risk_curve(kept, lost, method=method, confidence=confidence)

    def rivals(self, *, confidence: float = 0.95) -> RivalPredictors:
        """Return how well epsilon foretells the lost samples against margin, confidence and loss of the dense network.

        The AUCs and paired tests of `thinice.stats.rival_predictors`, on the samples that the dense network has right.
        """
        right = np.isin(self.transitions, (Transition.KEPT, Transition.LOST))
        columns: dict[str, NDArray[Any]] = {
            "epsilon": self.epsilon,
            "margin": self.margins,
            "confidence": self.confidences,
            "loss": self.losses,
        }
        return rival_predictors(
            self.transitions[right] == Transition.LOST,
            {name: column[right] for name, column in columns.items()},
            confidence=confidence,
        )

    def frame(self) -> pd.DataFrame:
        """Return one row a sample: id, label, predictions, transition, epsilon, and what the attack says of it.

        With the distances of both networks also ``pruned_epsilon``, ``pruned_outcome`` and ``pruned_stage``.
        """
        import pandas as pd  # noqa: PLC0415 (a second of import that not every caller needs)

        frame = pd.DataFrame(
            {
                "sample_id": self.sample_ids,
                "label": [self.classes[label] for label in self.labels],
                "dense_prediction": [self._class(k) for k in self.dense_predictions],
                "pruned_prediction": [self._class(k) for k in self.pruned_predictions],
                "transition": pd.Categorical(self.transitions, categories=list(Transition)),
                "epsilon": self.epsilon,
                "outcome": _words(self.outcomes, Outcome),
                "stage": _words(self.stages, Stage),
                "converged": self.converged,
                "diagnosis": _words(self.diagnoses, Diagnosis),
            }
        )
        if self.pruned_distances is not None:
            frame["pruned_epsilon"] = self.pruned_distances.epsilon
            frame["pruned_outcome"] = _words(self.pruned_distances.outcomes, Outcome)
            frame["pruned_stage"] = _words(self.pruned_distances.stages, Stage)
        return frame

    def boundary(
        self, place: int = 0, *, reach: float | None = None, resolution: int = 101, device: str = "auto"
    ) -> BoundarySlice:
        """Return what both networks say on a plane through one of the thinnest samples.

        The plane leads to the sample's nearest adversarial for the dense network, and to the nearest point that this
        comparison's attack finds at which the pruned network changes its mind.

        Parameters
        ----------
        place : int
            Which of `thinnest`.
        reach, resolution, device
            As of `thinice.slice_boundary`.

        Raises
        ------
        InputError
            Where no sample has an adversarial, or fewer than that.

        """
        if not -len(self.thinnest) <= place < len(self.thinnest):
            raise InputError(f"`place` is {place}: {len(self.thinnest)} samples have an adversarial at hand")
        witness, (dense, pruned) = self.thinnest[place], self.networks
        where = pick_device(device)
        inputs = torch.from_numpy(witness.inputs.copy())[None].to(where)
        seen, sample_id = ([int(value)] for value in (self.pruned_predictions[witness.position], witness.sample_id))
        with exact(where):
            change = self.attack(
                pruned.to(where), inputs, torch.tensor(seen, device=where), torch.tensor(sample_id, device=where)
            )
        return slice_boundary(
            dense,
            pruned,
            witness.inputs,
            int(self.labels[witness.position]),
            dense_adversarial=witness.adversarial,
            pruned_adversarial=change.adversarials[0] if change.found[0] else None,
            norm=self.norm,
            reach=reach,
            resolution=resolution,
            device=device,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison in one flat row of plain numbers and text, for JSON, CSV and tables."""
        return {
            "dense": self.dense,
            "pruned": self.pruned,
            "data": self.data,
            "split": self.split,
            "samples": len(self.labels),
            "norm": self.norm,
            "attack": self.attack.name,
            "settings": dict(self.attack.settings),
            "basis": self.basis,
            **({} if self.budget is None else {"budget": self.budget}),
            "dense_sparsity": self.dense_sparsity,
            "pruned_sparsity": self.pruned_sparsity,
            "dense_accuracy": self.changes.dense_accuracy,
            "pruned_accuracy": self.changes.pruned_accuracy,
            "mcnemar_log10_p": self.changes.log10_p,
            **self.counts,
            "not_found": self.not_found,
            **self.separation.to_dict(),
            **self._both(),
        }

    def _both(self) -> dict[str, Any]:
        """Return what the distances of both networks say; all None where only the dense one's were asked for."""
        own, paired, kept = self.pruned_distances, self.paired, self.transitions == Transition.KEPT
        if own is None or paired is None:
            return dict.fromkeys(BOTH)
        ends = (None, None) if paired.interval is None else (paired.interval.low, paired.interval.high)
        right = own.outcomes != Outcome.MISCLASSIFIED
        numbers = (
            quantile(own.epsilon[kept]),
            self.boundary_shift,
            paired.shift,
            *(end if end is not None and np.isfinite(end) else None for end in ends),
            paired.log10_p,
            int((own.outcomes[right & (self.pruned_predictions >= 0)] == Outcome.NOT_FOUND).sum()),
            int((own.stages == Stage.DENSE).sum()),
        )
        return dict(zip(BOTH, numbers, strict=True))

    def _class(self, prediction: int) -> str | None:
        """Return the name of a predicted class; a network may know more classes than the data name."""
        if prediction < 0:
            return None
        return self.classes[prediction] if prediction < len(self.classes) else str(prediction)

    def _repr_html_(self) -> str:
        import html  # noqa: PLC0415 (notebooks only)

        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self.table()
        )
        where = (
            f"{len(self.labels):,} samples of {self.data} ({self.split}); epsilon: {self.norm}, by {self.attack.name}"
        )
        return f"<p>{html.escape(self.answer)}</p><table>{rows}</table><p><small>{html.escape(where)}</small></p>"

    def table(self) -> list[tuple[str, str]]:
        """Return what people read, line by line: a name and a value with its unit."""
        found, changes = self.separation, self.changes
        interval = found.auc_interval
        quartiles = {"kept": found.quartiles_kept, "lost": found.quartiles_lost}
        medians = {"kept": found.median_kept, "lost": found.median_lost}
        robust = "" if self.budget is None else f" at {budget_text(self.budget, self.norm)}"
        accuracy = f"robust accuracy{robust}" if robust else "accuracy"
        lines = [
            ("sparsity", f"{self.pruned_sparsity:.1%}"),
            (f"{accuracy}, dense", _percent(changes.dense_accuracy)),
            (f"{accuracy}, pruned", _percent(changes.pruned_accuracy)),
            ("S1,1  kept", f"{changes.kept}"),
            ("S1,0  lost: on thin ice", f"{changes.lost}"),
            ("S0,1  gained", f"{changes.gained}"),
            ("S0,0  wrong under both" if self.budget is None else "S0,0  broken under both", f"{changes.wrong}"),
            ("epsilon not found", f"{self.not_found}"),
        ]
        for group in ("kept", "lost"):
            low, high = (self._distance(quartile) for quartile in quartiles[group])
            lines.append((f"median epsilon, {group}", f"{self._distance(medians[group])} ({low} to {high})"))
        lines += [
            ("shift, kept - lost", self._distance(found.shift)),
            ("AUC", "—" if found.auc is None else f"{found.auc:.3f}"),
            ("AUC, 95 % interval", "—" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"),
            ("log10 p, lost are nearer", "—" if found.log10_p is None else f"{found.log10_p:.1f}"),
        ]
        if self.pruned_distances is not None:
            both = self._both()
            lines += [
                ("pruned epsilon, kept", self._distance(both["pruned_median_kept"])),
                ("shift, pruned - dense", self._distance(both["boundary_shift"])),
                ("log10 p, boundary moved", f"{both['paired_log10_p']:.1f}"),
                ("pruned epsilon not found", f"{both['pruned_not_found']}"),
                ("taken from dense", f"{both['pruned_from_dense']}"),
            ]
        return lines

    def _distance(self, epsilon: float | None) -> str:
        if epsilon is None:
            return "—"
        return f"{epsilon * 255:.3g}/255" if self.norm == "linf" else f"{epsilon:.3g}"


def named_data(dense: Classifier) -> str:
    """Return the data set that a checkpoint names: one that thinice knows, never a path, for files come from strangers.

    Raises
    ------
    InputError
        Where it names none, or something else.

    """
    if dense.data is None:
        raise InputError(f"`data` is missing: {dense.name} does not name its data set; give one (--data cifar10)")
    row = DATASETS.get(dense.data)
    if row is None or row.takes_path:
        raise InputError(
            f"`data` is missing: {dense.name} names {dense.data!r}, no built-in data set; give it (--data)"
        )
    return dense.data


def _words(codes: NDArray[np.int8], words: type[Outcome | Stage | Diagnosis]) -> pd.Categorical:
    """Return codes as their words, in order; what has no word is missing."""
    import pandas as pd  # noqa: PLC0415 (as above)

    return pd.Categorical(
        [words(code).text for code in codes], categories=[word.text for word in words if word.text is not None]
    )


def _percent(share: float | None) -> str:
    return "—" if share is None else f"{share:.2%}"


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
        `Campaign.pruned_distances` says.
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
        attack=_bound(attack, norm, effort, seed, {"precision": precision, **settings}),
        seed=seed,
        device=device,
        batch_size=batch_size,
        compiled=compiled,
        distances=distances,
        basis=basis,
        budget=budget,
        by=by,
        store=store,
        progress=progress,
        command=command,
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
    first, *others = settle_all(_distinct([first, *others]), data)
    bound = _bound(attack, norm, effort, seed, {"precision": precision, **settings})
    with tempfile.TemporaryDirectory(prefix="thinice-") as folder:
        kept = store if isinstance(store, Store) else open_store(store or Path(folder) / "thinice.duckdb", new=True)
        campaign = Evaluator(kept, data, device=device, batch_size=batch_size, compiled=compiled, progress=progress)
        where = None if store is None else kept.path

        both = distances == "both"

        def verdicts(network: Classifier, radius: float | str) -> Robustness:
            judge = bound if by is None else campaign.bind(network, by, norm=bound.norm, budget=radius, seed=seed)
            return campaign.robustness(network, judge, budget=radius, shortcut=False)  # the same judge for both

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


def _bound(
    attack: str | Attack,
    norm: Norm,
    effort: Effort,
    seed: int,
    settings: Mapping[str, Any],
) -> Attack:
    if isinstance(attack, Attack):
        return attack
    return make_attack(attack, norm=norm, effort=effort, seed=seed, **settings)


def _compare(
    campaign: Campaign,
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
        thinnest=tuple(campaign.witnesses(measured, shown)),
        store=store,
        networks=(dense, pruned),
        pruned_distances=theirs,
    )


def _network(network: Network) -> Classifier:
    if isinstance(network, Classifier | nn.Module):
        return as_classifier(network)
    return load_classifier(network)


def _data(samples: Samples | str | None, dense: Classifier) -> Samples:
    if isinstance(samples, Samples):
        return samples
    return load_samples(samples or named_data(dense))
