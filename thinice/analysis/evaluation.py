"""Robust accuracy at a budget, sample by sample: who stands, who falls, and to which attack."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from thinice.analysis.measurement import BatchSize, ProgressCounter, batches, forward, prepare_classifier
from thinice.analysis.session import SECONDS_A_SHARD, MeasurementSession, adversarials_of
from thinice.attacks import PUBLISHED_SETTINGS, Attack, MinNormResult, concatenate, make_attack
from thinice.attacks.fixed_budget import (
    LONGER,
    AttackEnsemble,
    budget_text,
    budget_value,
    is_budget_attack,
    make_ensemble,
    refuse_unknown,
)
from thinice.attacks.tuning import tune
from thinice.checks import run_checks
from thinice.data import Samples, as_samples, load_samples
from thinice.data.subset import draw
from thinice.engines import Reporter
from thinice.errors import InputError
from thinice.models import Classifier, as_classifier
from thinice.numerics import pick_device
from thinice.printable import shown
from thinice.results import CLEAN, Robustness
from thinice.stats.curves import budget_ladder
from thinice.store import Store, open_store, query
from thinice.types import Effort, Norm, Precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from thinice.attacks.attack import Setting

__all__ = ["DoubtfulWarning", "Evaluator", "Shortcut", "evaluate", "tuned_settings"]

Shortcut = bool | Literal["both"]
HELD_OUT = 64
"""So many samples tune an attack, as published."""


class DoubtfulWarning(UserWarning):
    """The checks of an evaluation saw signs that it cannot be trusted."""


def evaluate(
    classifier: Classifier | nn.Module,
    samples: Samples | Tensor,
    *,
    labels: Tensor | None = None,
    attack: str | Attack = "autoattack",
    norm: Norm = "linf",
    budget: float | str,
    effort: Effort = "standard",
    seed: int = 0,
    device: str | torch.device = "auto",
    batch_size: BatchSize = "auto",
    precision: Precision = "float32",
    compiled: bool = False,
    store: str | Path | Store | None = None,
    shortcut: Shortcut = True,
    checks: bool = True,
    progress: Reporter | bool = True,
    command: Sequence[str] | None = None,
    **settings: Any,  # noqa: ANN401 (of the attack, which checks them)
) -> Robustness:
    """Return which samples stand at a budget, and what the others fell to.

    Parameters
    ----------
    classifier, samples, labels, seed, device, batch_size, progress
        As of `thinice.measure`.
    attack : str or Attack
        ``"autoattack"`` (an extra): the standard ensemble, chosen by the number of classes; one of its attacks
        (``"apgd-ce"``, ``"square"``, …); ``"pgd"``; ``"foolbox:NAME"``; or any attack that minimises the norm
        (``"fmn"``, ``"cw"``, ``"bb"``), which answers for all budgets at once.
    norm : {"l0", "l1", "l2", "linf"}
        Of the budget.
    budget : float or str
        The radius on the [0, 1] scale, ``8 / 255`` or ``"8/255"``. It is compared with epsilons in float32, as they
        are: a sample stands where no adversarial with a norm of at most the budget is known.
    effort, **settings
        Of the attack.
    precision : {"float32", "tf32", "bf16"}
        Arithmetic of the search: less is faster on hardware that has it. The judge's is IEEE float32 in any case, and
        an attack at a budget searches again in float32 whom it has not broken: it gains where most samples fall.
    compiled : bool
        Search in a network compiled by `torch.compile`: for attacks that minimise the norm.
    store : path or Store, optional
        The DuckDB file that keeps every verdict, and the adversarials (`Robustness.adversarials`): what it holds
        already is read, and an interrupted evaluation goes on. None keeps nothing.
    shortcut : bool or "both"
        True spares the samples that the store knows a judged adversarial for, by any attack, within the budget; they
        are broken. False asks the attack alone. ``"both"`` attacks all samples and tells both.
    checks : bool
        Look for signs that the evaluation cannot be trusted, on a few samples (`thinice.checks.run_checks`), keep
        them as ``checks``, and give one warning where there are any.
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
    >>> samples = thinice.load_samples("digits", limit=40)
    >>> result = thinice.evaluate(dense, samples[:20], attack="fmn", norm="l2", budget=0.3, progress=False)
    >>> result.clean_accuracy >= result.robust_accuracy
    True

    """
    refuse_compiled(attack, compiled=compiled)
    with torch.inference_mode(mode=False):
        data = _samples(samples, labels)
        network = prepare_classifier(as_classifier(classifier), data)
    with tempfile.TemporaryDirectory(prefix="thinice-") as folder:
        kept = store if isinstance(store, Store) else open_store(store or Path(folder) / "thinice.duckdb", new=True)
        evaluator = Evaluator(
            kept,
            data,
            device=device,
            batch_size=batch_size,
            compiled=compiled,
            progress=progress,
            keep=store is not None,
        )
        bound = evaluator.bind(
            network,
            attack,
            norm=norm,
            budget=budget,
            effort=effort,
            seed=seed,
            precision=precision,
            settings=settings,
        )
        with evaluator.run(attack_of(bound), seed=seed, command=command) as run:
            found = evaluator.robustness(network, bound, budget=budget, shortcut=shortcut)
            if checks:
                looked = run_checks(
                    kept,
                    run,
                    found,
                    classifier=network,
                    samples=data,
                    attack=bound,
                    device=pick_device(device),
                    seed=seed,
                )
                found = replace(found, checks=looked)
    if found.checks is not None and found.checks.warnings:
        told = "; ".join(found.checks.warnings)
        warnings.warn(f"{shown(found.network)}: {told}", DoubtfulWarning, stacklevel=2)
    return found


class Evaluator(MeasurementSession):
    """Evaluates networks at a budget on one selection of samples, into one store; made for one run.

    Parameters
    ----------
    keep : bool
        Whether results shall name the store.
    store, samples, device, batch_size, compiled, progress
        As of `MeasurementSession`; only attacks that minimise the norm search a compiled network.

    """

    def __init__(
        self,
        store: Store,
        samples: Samples,
        *,
        device: str | torch.device = "auto",
        batch_size: BatchSize = "auto",
        compiled: bool = False,
        progress: Reporter | bool = True,
        keep: bool = True,
    ) -> None:
        super().__init__(store, samples, device=device, batch_size=batch_size, compiled=compiled, progress=progress)
        self._kept = store.path if keep else None

    def bind(
        self,
        classifier: Classifier,
        attack: str | Attack,
        *,
        norm: Norm,
        budget: float | str | None,
        effort: Effort = "standard",
        seed: int = 0,
        precision: Precision = "float32",
        settings: Mapping[str, Any] | None = None,
    ) -> Attack | AttackEnsemble:
        """Return an attack bound for a network: an `AttackEnsemble` at the budget, or one that minimises the norm."""
        shape = tuple(self.samples.inputs.shape[1:])
        if isinstance(attack, Attack):
            beside = [*(settings or {}), *(["precision"] if precision not in {"float32", attack.precision} else [])]
            if beside:
                raise InputError(f"`{beside[0]}` goes with the name of an attack; {attack.name} is bound")
            return attack
        if not is_budget_attack(attack):
            if budget is not None:
                budget_value(budget, norm, shape)
            refuse_unknown(attack)
            exactly = {"fallback": False} if attack in PUBLISHED_SETTINGS else {}  # the study's attacks had none
            chosen = exactly | {"precision": precision} | dict(settings or {})
            return make_attack(attack, norm=norm, effort=effort, seed=seed, **chosen)
        if budget is None:
            raise InputError(f"`budget` is missing: {attack} works at one budget")
        if effort != "standard":
            raise InputError(f"`effort` {effort!r} means nothing to attack {attack!r}: leave it out")
        classes = classifier.classes or forward(classifier, self.samples[:1], device=self._device).shape[1]
        chosen = {"precision": precision} | dict(settings or {})
        return make_ensemble(attack, norm=norm, budget=budget, classes=classes, shape=shape, seed=seed, **chosen)

    def robustness(
        self,
        classifier: Classifier,
        attack: Attack | AttackEnsemble,
        *,
        budget: float | str,
        shortcut: Shortcut = True,
    ) -> Robustness:
        """Return who stands: evaluated now, or read where the store has it."""
        start = time.monotonic()
        columns = (
            self._stand(classifier, attack, shortcut)
            if isinstance(attack, AttackEnsemble)
            else self._threshold(classifier, attack, budget_value(budget, attack.norm, self.samples.inputs.shape[1:]))
        )
        return Robustness(
            network=classifier.name,
            sparsity=classifier.sparsity,
            data=self.samples.name,
            split=self.samples.split,
            classes=self.samples.classes,
            norm=attack.norm,
            budget=budget_value(budget, attack.norm, self.samples.inputs.shape[1:]),
            attack=attack.name,
            settings=attack.settings,
            sample_ids=self._ids,
            labels=self.samples.labels.numpy(),
            seconds=time.monotonic() - start,
            store=self._kept,
            **columns,
        )

    def ladder(self, classifier: Classifier, attack: Attack) -> NDArray[np.float64]:
        """Return doubling budgets that suit a network, from no effect to most samples fooled: `budget_ladder`."""
        measured = self.epsilons(classifier, attack)
        right = measured.clean_predictions == self.samples.labels.numpy()
        return budget_ladder(np.where(right, measured.epsilon, np.float32(0)), attack.norm)

    def _threshold(self, classifier: Classifier, attack: Attack, budget: float) -> dict[str, Any]:
        """Return the verdicts that follow from minimum norms."""
        measured = self.epsilons(classifier, attack)
        right = measured.clean_predictions == self.samples.labels.numpy()
        robust = right & ~(measured.epsilon <= np.float32(budget))
        return {
            "measurement_id": measured.measurement_id,
            "robust": robust,
            "broken_by": np.where(robust, "", np.where(right, attack.name, CLEAN)),
            "epsilon": np.where(right, measured.epsilon, np.float32(0)),
            "known": np.zeros(len(robust), np.bool_),
            "robust_to_this_attack": robust,
            "evaluations": measured.evaluations,
        }

    def _stand(self, classifier: Classifier, ensemble: AttackEnsemble, shortcut: Shortcut) -> dict[str, Any]:
        """Let each attack of the ensemble try those that still stand, and return the verdicts."""
        run = self._running
        attack_id = run.attack(name=ensemble.name, norm=ensemble.norm, settings=ensemble.settings)
        measurement_id = run.measurement(self.checkpoint(classifier), self._dataset_id, attack_id)
        standing = np.arange(len(self.samples))
        if shortcut:
            run.add_known(measurement_id, norms=LONGER[ensemble.norm], budget=ensemble.budget)
        if shortcut is True:
            standing = standing[~self._known(measurement_id)]
        for place, member in enumerate(ensemble.members):
            todo = standing[run.untried(measurement_id, self._ids[standing], place=place)]
            if len(todo):
                title = f"{classifier.name}, {ensemble.norm} {budget_text(ensemble.budget, ensemble.norm)}"
                resumed = len(standing) - len(todo)
                tally = ProgressCounter(f"{title}, {member.name}", len(standing), ensemble.norm, self._report, resumed)
                self._try(measurement_id, classifier, member, todo, place=place, tally=tally)
            standing = standing[~self._fallen(measurement_id, place, standing)]
        return self._verdicts(measurement_id, shortcut)

    def _known(self, measurement_id: int) -> NDArray[np.bool_]:
        """Return which samples are broken by other measurements and need no attack, (N,) bool."""
        known = self._store.sql(query("known_samples"), {"measurement_id": measurement_id})
        return np.isin(self._ids, known["sample_id"].to_numpy())

    def _fallen(self, measurement_id: int, place: int, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of these samples fell to the attack at a place of the ensemble, or were wrong from the start."""
        fallen = self._store.sql(query("broken_samples"), {"measurement_id": measurement_id, "place": place})
        return np.isin(self._ids[positions], fallen["sample_id"].to_numpy())

    def _verdicts(self, measurement_id: int, shortcut: Shortcut) -> dict[str, Any]:
        rows = self._columns("sample_verdicts", measurement_id=measurement_id)
        alone, broken_by, known = rows["alone"], rows["broken_by"].astype(str), rows["known"].astype(bool)
        robust, epsilon = rows["robust"].astype(bool), rows["epsilon"].astype(np.float32)
        if not shortcut:  # what the store knew before, by other attacks, does not count
            robust, known = alone.astype(bool), np.zeros(len(robust), np.bool_)
            broken_by, epsilon = np.where(robust, "", broken_by), np.where(robust, np.float32(np.nan), epsilon)
        return {
            "measurement_id": measurement_id,
            "robust": robust,
            "broken_by": broken_by,
            "epsilon": epsilon,
            "known": known,
            "robust_to_this_attack": alone.astype(bool) if (alone >= 0).all() else None,
            "evaluations": rows["evaluations"].astype(np.float32),
        }

    def _try(
        self,
        measurement_id: int,
        classifier: Classifier,
        member: Attack,
        positions: NDArray[np.int64],
        *,
        place: int,
        tally: ProgressCounter,
    ) -> None:
        """Let one attack try these samples; batches are committed at least once a second, also on an error."""
        run, wanted = self._running, self.samples[positions]
        waiting: list[MinNormResult] = []
        start, last = 0, time.monotonic()

        def commit() -> None:
            nonlocal start, last
            if waiting:
                shard = concatenate(waiting, like=waiting[0].adversarials)
                stop = start + len(shard)
                ids = wanted.sample_ids[start:stop]
                run.add_robustness(
                    measurement_id,
                    ids.numpy(),
                    attack=member.name,
                    place=place,
                    epsilon=shard.epsilon.numpy(),
                    outcomes=shard.outcomes.numpy(),
                    predictions=shard.predictions.numpy(),
                    clean_predictions=shard.clean_predictions.numpy(),
                    evaluations=shard.evaluations.numpy(),
                    adversarials=adversarials_of(ids, shard),
                )
                start, last = stop, time.monotonic()
                waiting.clear()

        try:
            for _, nearest in batches(classifier, wanted, member, device=self._device, batch_size=self._batch_size):
                waiting.append(nearest)
                tally.add(nearest)
                if time.monotonic() - last >= SECONDS_A_SHARD:
                    commit()
        finally:
            commit()


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


def attack_of(attack: Attack | AttackEnsemble) -> Attack:
    """Return an attack or ensemble as the store knows it."""
    return attack.attack if isinstance(attack, AttackEnsemble) else attack


def refuse_compiled(attack: str | Attack, *, compiled: bool) -> None:
    """Refuse compiled networks for an attack that would not search in them.

    Raises
    ------
    InputError
        For attacks at a budget.

    """
    if compiled and isinstance(attack, str) and is_budget_attack(attack):
        raise InputError(
            f"`compiled` (--compile) serves attacks that minimise the norm, fmn say; {attack} searches the network "
            "itself: leave it out"
        )


def _samples(samples: Samples | Tensor, labels: Tensor | None) -> Samples:
    if isinstance(samples, Samples):
        if labels is not None:
            raise InputError("`labels` goes with a tensor of inputs; `Samples` bring their own: leave it out")
        return samples
    if labels is None:
        raise InputError("`labels` is missing: a tensor of inputs needs the true classes, `labels=` of shape (N,)")
    return as_samples(samples, labels)
