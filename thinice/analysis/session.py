"""One selection of samples and one store: what the store lacks is measured, the rest is read from it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch

from thinice.analysis.conditions import note_conditions
from thinice.analysis.gradients import gradient_norms
from thinice.analysis.measurement import (
    AttackTask,
    forward,
    make_engine,
)
from thinice.analysis.options import RunOptions, chosen
from thinice.attacks import Attack, MinNormResult, concatenate
from thinice.attacks.fixed_budget import AttackEnsemble
from thinice.data import Samples
from thinice.engines import ProgressCounter, Reporter, Result, Task, auto_reporter
from thinice.engines.local import batches, first_batch_size
from thinice.errors import InputError
from thinice.losses import margin
from thinice.models import Classifier
from thinice.models.stored import store_checkpoint
from thinice.results import AdversarialExample, Measured, Predicted
from thinice.stats import Separation, statistic_values
from thinice.store import Run, Store, open_store, query, stored_adversarial
from thinice.types import Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ComparisonBasis", "MeasurementSession", "Shard", "kept_adversarials", "open_session", "shard_positions"]

ADVERSARIAL_VALUES = 128 * 128
"""Samples with at most this many values keep every adversarial in the store, larger ones the closest of a shard."""
CLOSEST = 16
SECONDS_A_SHARD = 1.0
"""Results are gathered for this long before they are committed: a commit costs some 20 ms."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Finished samples on their way into the store: their ids (N,), and what the attack returned for them."""

    sample_ids: torch.Tensor
    nearest: MinNormResult


@dataclass(frozen=True, slots=True)
class ComparisonBasis:
    """What "correct" means in a comparison: on clean samples, or robust at a budget by the verdicts of two evaluations.

    Attributes
    ----------
    text : str
        ``"clean"``, or ``"robust at linf 8/255 by fmn"``.
    budget : float, optional
        The radius of a robust basis, on the [0, 1] scale.
    dense_verdicts, pruned_verdicts : int, optional
        The measurements that hold the verdicts.

    """

    text: str = "clean"
    budget: float | None = None
    dense_verdicts: int | None = None
    pruned_verdicts: int | None = None


DYNAMICS = {
    "forgetting": "forgotten",
    "mean_confidence": "confidence_mean",
    "confidence_variance": "confidence_variance",
}
"""Predictors that training leaves behind, and their columns in the store."""


class MeasurementSession:
    """Measures networks on one selection of samples, into one store.

    Parameters
    ----------
    store : Store
        What it holds already is read, everything else is written there.
    samples : Samples
        The selection.
    progress, **options
        As of `thinice.measure`.
    kept : bool
        Whether results shall name the store's file: not where it is a temporary one.
    shard : str, optional
        The part of the selection that is measured: `samples` is that part then. The store has it as a part of the
        whole.
    networks : sequence of Classifier
        What the runs are given, which the store notes of each of them.

    """

    def __init__(
        self,
        store: Store,
        samples: Samples,
        *,
        progress: Reporter | bool = True,
        kept: bool = True,
        shard: str | None = None,
        networks: Sequence[Classifier] = (),
        **options: Unpack[RunOptions],
    ) -> None:
        self.store = store
        self.networks = networks
        self.engine = make_engine(options)
        self.samples = self._selection = samples
        self._shard: dict[str, Any] = {}
        if shard is not None:
            values, batch_size = samples.inputs.shape[1:].numel(), chosen(RunOptions, options)["batch_size"]
            size = first_batch_size(batch_size, values, self.engine.device)
            self.samples = samples[shard_positions(shard, len(samples), size)]
            self._shard = {"shard": shard.replace(" ", ""), "shard_samples": len(self.samples)}
        self.path: Path | None = store.path if kept else None
        self._compiled = chosen(RunOptions, options)["compiled"]
        self.report = auto_reporter() if progress is True else progress or None
        self._run: Run | None = None
        self._dataset_id = -1

    @contextmanager
    def run(
        self, attack: Attack | AttackEnsemble, *, seed: int | None, command: Sequence[str] | None = None
    ) -> Iterator[Run]:
        """Record everything that is measured inside as one run: finished, interrupted or failed.

        `command` is stored as its origin; by default the command line of this process.
        """
        precision = str(attack.settings.get("precision", "float32"))
        settings = {"attack": attack.name, "norm": attack.norm, **attack.settings}
        with self.record(settings=settings, precision=precision, seed=seed, command=command) as run:
            yield run

    @contextmanager
    def record(
        self,
        *,
        settings: Mapping[str, Any],
        seed: int | None,
        precision: str = "float32",
        command: Sequence[str] | None = None,
    ) -> Iterator[Run]:
        """Record everything that is stored inside as one run with these settings, as `run` does for an attack."""
        device = str(self.engine.device)
        settings = {**settings, **self._shard}
        with self.store.run(command=command, device=device, precision=precision, seed=seed, settings=settings) as run:
            self._run = run
            self._dataset_id = run.dataset(
                fingerprint=self._selection.fingerprint,
                name=self._selection.name,
                split=self._selection.split,
                shape=self._selection.inputs.shape[1:],
                classes=self._selection.classes,
                sample_ids=self.samples.sample_ids.numpy(),
                labels=self.samples.labels.numpy(),
                digests=self.samples.digests,
                sources=self.samples.sources,
                n=len(self._selection),
            )
            networks = [(self.checkpoint(network), network) for network in self.networks]
            note_conditions(run, self._dataset_id, self.engine, self.samples.inputs.shape[1:].numel(), networks)
            try:
                yield run
            finally:
                self._run = None

    @property
    def running(self) -> Run:
        """The run that is open, see `run`."""
        if self._run is None:
            raise RuntimeError("a session measures inside `with session.run(…)`")
        return self._run

    @property
    def dataset_id(self) -> int:
        """The store's key of the selection, in a run."""
        return self._dataset_id

    @property
    def keeps_adversarials(self) -> bool:
        """Whether the store keeps every adversarial of these samples: not where images are large."""
        return self.samples.inputs.shape[1:].numel() <= ADVERSARIAL_VALUES

    @property
    def sample_ids(self) -> NDArray[np.int64]:
        """(N,) ids of the selection, in its order."""
        return self.samples.sample_ids.numpy()

    def measurement(self, classifier: Classifier, attack: Attack | AttackEnsemble) -> int:
        """Return the store's key of all that an attack finds on a network and this data set."""
        run = self.running
        attack_id = run.attack(name=attack.name, norm=attack.norm, settings=attack.settings)
        return run.measurement(self.checkpoint(classifier), self._dataset_id, attack_id)

    def measure(self, classifier: Classifier, attack: Attack) -> Measured:
        """Return every sample's epsilon: measured now, or read where the store has it."""
        measurement_id = self.measurement(classifier, attack)
        positions = self.running.unmeasured(measurement_id, self.sample_ids)
        if len(positions):
            title = f"{classifier.name}, {attack.norm}, {attack.name}"
            write = partial(_add_epsilons, self.running, measurement_id)
            self.search(classifier, attack, positions, write, title=title, total=len(self.samples))
        rows = self.columns("measured_epsilons", measurement_id=measurement_id)
        return Measured(
            network=classifier.name,
            sparsity=classifier.sparsity,
            data=self.samples.name,
            split=self.samples.split,
            norm=attack.norm,
            attack=attack.name,
            measurement_id=measurement_id,
            sample_ids=self.sample_ids,
            labels=self.samples.labels.numpy(),
            epsilon=rows["epsilon"].astype(np.float32),
            outcomes=rows["outcome"].astype(np.int8),
            predictions=rows["prediction"].astype(np.int64),
            clean_predictions=rows["clean_prediction"].astype(np.int64),
            evaluations=rows["evaluations"].astype(np.float32),
            converged=rows["converged"].astype(np.bool_),
            found_by=rows["found_by"].astype(np.int8),
            failure_reasons=rows["failure_reason"].astype(np.int8),
        )

    def search(
        self,
        classifier: Classifier,
        attack: Attack,
        positions: NDArray[np.int64],
        write: Callable[[Shard], None],
        *,
        title: str,
        total: int,
        task: type[AttackTask] = AttackTask,
    ) -> None:
        """Let an attack search on samples, and write what it finds: at least once a second, also on an error or Ctrl-C.

        Parameters
        ----------
        classifier, attack
            The network, and what searches.
        positions : ndarray
            (K,) of the samples, in the selection.
        write : callable
            Stores a shard.
        title, total
            What the progress shows: of so many samples, all but K were finished before.
        task : type
            What is searched for: by default adversarials.

        """
        samples = self.samples[positions]
        counter = ProgressCounter(title, total, attack.norm, self.report, resumed=total - len(samples))

        def count(nearest: MinNormResult) -> None:
            counter.add(nearest.outcomes, nearest.epsilon)

        def commit(parts: list[tuple[slice, MinNormResult]]) -> None:
            ids = torch.cat([samples.sample_ids[part] for part, _ in parts])
            results = [nearest for _, nearest in parts]
            write(Shard(ids, concatenate(results, like=results[0].adversarials)))

        compiled = self._compiled and attack.budget is None  # at a budget they search the network itself
        self.compute(task(classifier, samples, attack, compiled), count, commit)

    def epsilons_of(
        self, classifier: Classifier, attack: Attack, positions: NDArray[np.int64], *, title: str
    ) -> NDArray[np.float32]:
        """Return the epsilons (K,) that an attack finds for some of the samples, NaN where none: measured, or read."""
        measurement_id, ids = self.measurement(classifier, attack), self.sample_ids[positions]
        left = positions[self.running.unmeasured(measurement_id, ids)]
        if len(left):
            write = partial(_add_epsilons, self.running, measurement_id)
            self.search(classifier, attack, left, write, title=title, total=len(positions))
        rows = self.store.sql(query("epsilons_of_samples"), {"measurement_id": measurement_id, "ids": ids.tolist()})
        return rows.set_index("sample_id")["epsilon"].reindex(ids).to_numpy(np.float32, na_value=np.nan)

    def compute(
        self,
        task: Task[Result],
        count: Callable[[Result], None],
        write: Callable[[list[tuple[slice, Result]]], None],
    ) -> None:
        """Let the engine run a task; count each shard of it, and write them at least once a second, also on an error.

        The engine computes; this process writes.
        """
        parts: list[tuple[slice, Result]] = []
        last = time.monotonic()
        try:
            for part, result in self.engine.run(task):
                parts.append((part, result))
                count(result)
                if time.monotonic() - last >= SECONDS_A_SHARD:
                    shards, parts = parts, []
                    write(shards)
                    last = time.monotonic()
        finally:
            if parts:
                write(parts)

    def predict(self, classifier: Classifier) -> Predicted:
        """Return the class of every clean sample, and how sure of it the network is: computed, or read."""
        run, checkpoint_id = self.running, self.checkpoint(classifier)
        positions = run.unpredicted(checkpoint_id, self._dataset_id, self.sample_ids, scored=True)
        if len(positions):
            samples = self.samples[positions]
            logits = forward(classifier, samples, self.engine)
            undefined = logits.isnan().any(1)
            log_probabilities = logits.double().log_softmax(1)  # in float32 most confidences would be 1
            run.add_predictions(
                checkpoint_id,
                self._dataset_id,
                samples.sample_ids.numpy(),
                predictions=torch.where(undefined, -1, logits.argmax(1)).numpy(),
                margins=torch.where(undefined, torch.nan, margin(logits, samples.labels)).numpy(),
                confidences=log_probabilities.amax(1).exp().numpy(),
                losses=-log_probabilities.gather(1, samples.labels[:, None]).squeeze(1).numpy(),
            )
        rows = self.columns("clean_predictions", checkpoint_id=checkpoint_id, dataset_id=self._dataset_id)
        return Predicted(
            rows["prediction"].astype(np.int64),
            rows["margin"].astype(np.float32),
            rows["confidence"].astype(np.float64),
            rows["loss"].astype(np.float32),
        )

    def gradient_norms(self, classifier: Classifier, *, wanted: bool) -> NDArray[np.float64] | None:
        """Return the norm (N,) of each sample's loss gradient, NaN where it is not finite; None where not known.

        What the store lacks is computed if it is `wanted`.
        """
        run, checkpoint_id = self.running, self.checkpoint(classifier)
        positions = run.without_gradients(checkpoint_id, self._dataset_id, self.sample_ids)
        if len(positions):
            if not wanted:
                return None
            samples = self.samples[positions]
            norms = gradient_norms(classifier, samples, self.engine).numpy()
            run.add_gradients(checkpoint_id, self._dataset_id, samples.sample_ids.numpy(), gradient_norms=norms)
        rows = self.columns("gradients_of_samples", checkpoint_id=checkpoint_id, dataset_id=self._dataset_id)
        return rows["gradient_norm"].astype(np.float64)

    def dynamics(self, classifier: Classifier) -> dict[str, NDArray[np.float64]] | None:
        """Return what the samples did while a network was trained, NaN for those it was not trained on.

        ``forgetting`` (events), ``mean_confidence`` and ``confidence_variance``, (N,) each; ``None`` where the store
        has nothing for any of them.
        """
        key = {"checkpoint": classifier.fingerprint, "dataset_id": self._dataset_id}
        rows = self.store.sql(query("dynamics_of_samples"), key)
        if rows.empty:
            return None
        ranks = np.searchsorted(np.sort(self.sample_ids), rows["sample_id"].to_numpy())
        at = np.argsort(self.sample_ids)[ranks]
        columns = {}
        for name, column in DYNAMICS.items():
            columns[name] = np.full(len(self.samples), np.nan)
            columns[name][at] = rows[column].to_numpy()
        return columns

    def checkpoint(self, classifier: Classifier) -> int:
        """Return the store's key of a network."""
        return store_checkpoint(self.running, classifier, len(self.samples.classes))

    def adversarials(self, measured: Measured, positions: NDArray[np.int64]) -> list[AdversarialExample]:
        """Return the samples at these positions that have an adversarial in the store, in this order."""
        ids = self.sample_ids[positions].tolist()
        key = {"measurement_id": measured.measurement_id, "ids": ids}
        rows = self.store.sql(query("adversarials_of_samples"), key)
        stored = dict(zip(rows["sample_id"], rows["adversarial"], strict=True))
        shape = tuple(self.samples.inputs.shape[1:])
        return [
            AdversarialExample(
                sample_id=sample_id,
                position=int(position),
                prediction=int(measured.predictions[position]),
                inputs=self.samples.inputs[[int(position)]][0].numpy(),
                adversarial=stored_adversarial(stored[sample_id], shape),
            )
            for sample_id, position in zip(ids, positions, strict=True)
            if sample_id in stored
        ]

    def comparison(self, measured: Measured, pruned: Classifier, basis: ComparisonBasis) -> int:
        """Store that a pruned network is compared with the measured dense one; return the comparison's key."""
        return self.running.comparison(
            measured.measurement_id,
            self.checkpoint(pruned),
            basis=basis.text,
            budget=basis.budget,
            dense_verdicts=basis.dense_verdicts,
            pruned_verdicts=basis.pruned_verdicts,
        )

    def add_statistics(self, comparison_id: int, separation: Separation) -> None:
        """Store the statistics of a comparison."""
        self.running.add_statistics(comparison_id, **statistic_values(separation), notes=separation.notes)

    def columns(self, name: str, **keys: int) -> dict[str, NDArray[Any]]:
        """Return the columns of a named query that is ordered by sample_id, in the order of the selection."""
        rows = self.store.sql(query(name), keys)
        order = np.searchsorted(rows["sample_id"].to_numpy(), self.sample_ids)
        return {column: rows[column].to_numpy()[order] for column in rows.columns}


def kept_adversarials(shard: Shard) -> dict[int, NDArray[np.float32]]:
    """Return the adversarials of a shard that the store keeps, by sample_id: all, or of large images the closest."""
    nearest = shard.nearest
    indices = torch.nonzero(nearest.outcomes == Outcome.FOUND).flatten()
    if nearest.adversarials[:1].numel() > ADVERSARIAL_VALUES:
        indices = indices[nearest.epsilon[indices].argsort()[:CLOSEST]]
    return {int(shard.sample_ids[index]): nearest.adversarials[index].numpy() for index in indices.tolist()}


def _add_epsilons(run: Run, measurement_id: int, shard: Shard) -> None:
    nearest = shard.nearest
    run.add_epsilons(
        measurement_id,
        shard.sample_ids.numpy(),
        epsilon=nearest.epsilon.numpy(),
        outcomes=nearest.outcomes.numpy(),
        predictions=nearest.predictions.numpy(),
        evaluations=nearest.evaluations.numpy(),
        clean_predictions=nearest.clean_predictions.numpy(),
        converged=nearest.converged.numpy(),
        found_by=nearest.found_by.numpy(),
        failure_reasons=nearest.failure_reasons.numpy(),
        adversarials=kept_adversarials(shard),
    )


@contextmanager
def open_session(
    samples: Samples, options: Mapping[str, Any], networks: Sequence[Classifier] = ()
) -> Iterator[MeasurementSession]:
    """Open a session by the options of `measure_all`, `compare_all` or `evaluate_all` that say how networks run.

    Its store is one that is open, a file, or for None one that is gone afterwards.
    """
    store = options.get("store")
    running = {name: value for name, value in options.items() if name in RunOptions.__annotations__}
    with tempfile.TemporaryDirectory(prefix="thinice-") as folder:
        opened = store if isinstance(store, Store) else open_store(store or Path(folder) / "thinice.duckdb", new=True)
        yield MeasurementSession(
            opened,
            samples,
            progress=options.get("progress", True),
            kept=store is not None,
            shard=options.get("shard"),
            networks=networks,
            **running,
        )


def shard_positions(shard: str, samples: int, size: int) -> torch.Tensor:
    """Return the positions of the samples of a shard ``"I/N"``: every N-th batch of so many samples, from the I-th on.

    Whole batches, so that the samples of a shard are computed together with those that they would be with in a run on
    all samples: the results are the same to the bit. And every N-th, for data sets are often sorted by class.

    Raises
    ------
    InputError
        For what is no shard, and where there are fewer batches than shards.

    Examples
    --------
    >>> shard_positions("2/2", 7, 2).tolist(), shard_positions("1/2", 7, 2).tolist()
    ([2, 3, 6], [0, 1, 4, 5])

    """
    number, _, count = shard.replace(" ", "").partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise InputError(
            f"`shard` must be I/N, I from 1 to N, as 3/64, got {shard!r}; an array of Slurm counts so with --array=1-64"
        )
    shards = batches(samples, size)
    if int(count) > len(shards):
        way_out = f"give `batch_size` {samples // int(count)} or less, or" if samples >= int(count) else "take"
        raise InputError(
            f"`shard` {shard}: {samples} samples are {len(shards)} batches of {size}, and a shard is of whole batches: "
            f"{way_out} at most {len(shards)} shards"
        )
    return torch.cat([torch.arange(part.start, part.stop) for part in shards[int(number) - 1 :: int(count)]])
