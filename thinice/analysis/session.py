"""One run on one selection of samples: measure what the store lacks, batch by batch, and read the rest from it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from thinice.analysis.measurement import BatchSize, ProgressCounter, batches, forward
from thinice.attacks import Attack, MinNormResult, concatenate
from thinice.data import Samples, as_samples
from thinice.engines import Reporter, auto_reporter
from thinice.losses import margin
from thinice.models import Classifier
from thinice.numerics import pick_device
from thinice.results import AdversarialExample, Measured, Predicted, PrunedDistances
from thinice.stats import Separation
from thinice.store import Run, Store, query, stored_adversarial
from thinice.types import Outcome, Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MeasurementSession",
    "adversarials_of",
    "summarise",
]

ADVERSARIAL_VALUES = 128 * 128
"""Samples with at most this many values keep every adversarial in the store, larger ones the closest of a shard."""
CLOSEST = 16
SECONDS_A_SHARD = 1.0
"""Batches are gathered for this long before they are committed: a commit costs some 20 ms."""

TRANSFERS = 1024
"""So many adversarials of the dense network are shown to the pruned one at a time, and stored."""


class MeasurementSession:
    """Measures networks on one selection of samples, into one store; made for one run.

    Parameters
    ----------
    store : Store
        Where everything goes, and where what is known already comes from.
    samples : Samples
        The selection.
    device, batch_size, compiled, progress
        As of `thinice.measure`.

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
    ) -> None:
        self.samples = samples
        self._store = store
        self._device = pick_device(device)
        self._batch_size = batch_size
        self._compiled = compiled
        self._report = auto_reporter() if progress is True else progress or None
        self._run: Run | None = None
        self._dataset_id = -1

    @contextmanager
    def run(self, attack: Attack, *, seed: int | None, command: Sequence[str] | None = None) -> Iterator[Run]:
        """Record everything that is measured inside as one run: finished, interrupted or failed.

        `command` is what the store notes as its origin; by default the command line of this process.
        """
        settings = {"attack": attack.name, "norm": attack.norm, **attack.settings}
        with self._store.run(
            command=command, device=str(self._device), precision=attack.precision, seed=seed, settings=settings
        ) as run:
            self._run = run
            self._dataset_id = run.dataset(
                fingerprint=self.samples.fingerprint,
                name=self.samples.name,
                split=self.samples.split,
                shape=self.samples.inputs.shape[1:],
                classes=self.samples.classes,
                sample_ids=self._ids,
                labels=self.samples.labels.numpy(),
                digests=self.samples.digests,
                sources=self.samples.sources,
            )
            try:
                yield run
            finally:
                self._run = None

    def epsilons(self, classifier: Classifier, attack: Attack) -> Measured:
        """Return every sample's epsilon: measured now, or read where the store has it.

        Finished batches are committed at least once a second, also when an error or Ctrl-C ends the measurement.
        """
        run = self._running
        measurement_id = run.measurement(
            self.checkpoint(classifier),
            self._dataset_id,
            run.attack(name=attack.name, norm=attack.norm, settings=attack.settings),
        )
        positions = run.unmeasured(measurement_id, self._ids)
        if len(positions):
            self._measure(run, measurement_id, classifier, attack, positions)
        rows = self._columns("measured_epsilons", measurement_id=measurement_id)
        return Measured(
            measurement_id,
            rows["epsilon"].astype(np.float32),
            rows["outcome"].astype(np.int8),
            rows["prediction"].astype(np.int64),
            rows["clean_prediction"].astype(np.int64),
            rows["evaluations"].astype(np.float32),
            rows["converged"].astype(np.bool_),
            rows["stage"].astype(np.int8),
            rows["diagnosis"].astype(np.int8),
        )

    def predictions(self, classifier: Classifier) -> NDArray[np.int64]:
        """Return the class of every clean sample, (N,): -1 where a logit is NaN."""
        return self.predicted(classifier).predictions

    def predicted(self, classifier: Classifier) -> Predicted:
        """Return the class of every clean sample, and how sure of it the network is."""
        run, checkpoint_id = self._running, self.checkpoint(classifier)
        positions = run.unpredicted(checkpoint_id, self._dataset_id, self._ids, scored=True)
        if len(positions):
            wanted = self.samples[positions]
            logits = forward(classifier, wanted, device=self._device, batch_size=self._batch_size)
            undefined = logits.isnan().any(1)
            chances = logits.double().log_softmax(1)  # in float32 most confidences would be 1
            run.add_predictions(
                checkpoint_id,
                self._dataset_id,
                wanted.sample_ids.numpy(),
                predictions=torch.where(undefined, -1, logits.argmax(1)).numpy(),
                margins=torch.where(undefined, torch.nan, margin(logits, wanted.labels)).numpy(),
                confidences=chances.amax(1).exp().numpy(),
                losses=-chances.gather(1, wanted.labels[:, None]).squeeze(1).numpy(),
            )
        rows = self._columns("clean_predictions", checkpoint_id=checkpoint_id, dataset_id=self._dataset_id)
        return Predicted(
            rows["prediction"].astype(np.int64),
            rows["margin"].astype(np.float32),
            rows["confidence"].astype(np.float64),
            rows["loss"].astype(np.float32),
        )

    def checkpoint(self, classifier: Classifier) -> int:
        """Return the store's key of a network."""
        return self._running.checkpoint(
            fingerprint=classifier.fingerprint,
            name=classifier.name,
            architecture=classifier.architecture,
            classes=classifier.classes or len(self.samples.classes),
            sparsity=classifier.sparsity,
            path=classifier.path,
            class_names=classifier.class_names,
            data=classifier.data,
            normalization=classifier.normalization,
            notes=classifier.notes,
            parent=classifier.parent,
        )

    def adversarials(self, measured: Measured, positions: NDArray[np.int64]) -> list[AdversarialExample]:
        """Return the samples at these positions that have an adversarial in the store, in this order."""
        ids = self._ids[positions].tolist()
        keys = {"measurement_id": measured.measurement_id, "ids": ids}
        rows = self._store.sql(query("adversarials_of_samples"), keys)
        kept = dict(zip(rows["sample_id"], rows["adversarial"], strict=True))
        shape = tuple(self.samples.inputs.shape[1:])
        return [
            AdversarialExample(
                sample_id=sample_id,
                position=int(position),
                prediction=int(measured.predictions[position]),
                inputs=self.samples.inputs[[int(position)]][0].numpy(),
                adversarial=stored_adversarial(kept[sample_id], shape),
            )
            for sample_id, position in zip(ids, positions, strict=True)
            if sample_id in kept
        ]

    def compared(self, measured: Measured, pruned: Classifier, found: Separation, **basis: Any) -> int:  # noqa: ANN401 (as of `Run`)
        """Store that a pruned network was compared with the measured dense one, and the statistics; return its key.

        `basis` says what correct means, as of `thinice.store.writer.Run.comparison`; by default on the clean samples.
        """
        run = self._running
        comparison_id = run.comparison(measured.measurement_id, self.checkpoint(pruned), **basis)
        interval = found.auc_interval
        run.add_statistics(
            comparison_id,
            auc=found.auc,
            auc_low=None if interval is None else interval.low,
            auc_high=None if interval is None else interval.high,
            confidence=found.confidence,
            u=found.u,
            p_value=found.p_value,
            log10_p=found.log10_p,
            p_value_two_sided=found.p_value_two_sided,
            log10_p_two_sided=found.log10_p_two_sided,
            exact=found.exact,
            median_kept=found.median_kept,
            median_lost=found.median_lost,
            shift=found.shift,
            cliffs_delta=found.cliffs_delta,
            notes=found.notes,
        )
        return comparison_id

    def pruned_distances(
        self, comparison_id: int, measured: Measured, pruned: Classifier, attack: Attack
    ) -> PrunedDistances:
        """Return the distances to the boundary of the pruned network itself: measured on it, by the same attack.

        The dense network's adversarial is one more candidate, after all: where it fools the pruned network too and is
        shorter than what was found, it counts, and its stage says so. It cannot where the store keeps only some of the
        adversarials, as of large images: which ones would depend on how the work was divided.
        """
        run = self._running
        self.epsilons(pruned, attack)
        if self.samples.inputs.shape[1:].numel() <= ADVERSARIAL_VALUES:
            positions = run.untransferred(comparison_id, self._ids)
            for start in range(0, len(positions), TRANSFERS):
                shown = self.adversarials(measured, positions[start : start + TRANSFERS])
                images = torch.from_numpy(np.stack([example.adversarial for example in shown]))
                labels = self.samples.labels[[example.position for example in shown]]
                logits = forward(pruned, as_samples(images, labels), device=self._device, batch_size=self._batch_size)
                predictions = torch.where(logits.isnan().any(1), -1, logits.argmax(1))
                ids = [example.sample_id for example in shown]
                run.add_transfers(comparison_id, ids, predictions=predictions.numpy())
        rows = self._columns("pruned_epsilons", comparison_id=comparison_id)
        return PrunedDistances(
            rows["epsilon"].astype(np.float32), rows["outcome"].astype(np.int8), rows["stage"].astype(np.int8)
        )

    @property
    def _ids(self) -> NDArray[np.int64]:
        return self.samples.sample_ids.numpy()

    @property
    def _running(self) -> Run:
        if self._run is None:
            raise RuntimeError("a campaign measures inside `with campaign.run(…)`")
        return self._run

    def _columns(self, name: str, **keys: int) -> dict[str, NDArray[Any]]:
        """Return the columns of a named query that is ordered by sample_id, in the order of the selection."""
        rows = self._store.sql(query(name), keys)
        order = np.searchsorted(rows["sample_id"].to_numpy(), self._ids)
        return {column: rows[column].to_numpy()[order] for column in rows.columns}

    def _measure(
        self,
        run: Run,
        measurement_id: int,
        classifier: Classifier,
        attack: Attack,
        positions: NDArray[np.int64],
    ) -> None:
        wanted = self.samples[positions]
        title = f"{classifier.name}, {attack.norm}, {attack.name}"
        tally = ProgressCounter(
            title, len(self.samples), attack.norm, self._report, resumed=len(self.samples) - len(wanted)
        )
        waiting: list[MinNormResult] = []
        start, last = 0, time.monotonic()

        def commit() -> None:
            nonlocal start, last
            if waiting:
                shard = concatenate(waiting, like=waiting[0].adversarials)
                _store(run, measurement_id, wanted.sample_ids[start : start + len(shard)], shard)
                start, last = start + len(shard), time.monotonic()
                waiting.clear()

        try:
            measured = batches(
                classifier,
                wanted,
                attack,
                device=self._device,
                batch_size=self._batch_size,
                compiled=self._compiled,
            )
            for _, nearest in measured:
                waiting.append(nearest)
                tally.add(nearest)
                if time.monotonic() - last >= SECONDS_A_SHARD:
                    commit()
        finally:
            commit()


def adversarials_of(sample_ids: torch.Tensor, shard: MinNormResult) -> dict[int, NDArray[np.float32]]:
    """Return the adversarials of a shard that the store keeps, by sample_id: all, or of large images the closest."""
    found = torch.nonzero(shard.outcomes == Outcome.FOUND).flatten()
    if shard.adversarials[:1].numel() > ADVERSARIAL_VALUES:
        found = found[shard.epsilon[found].argsort()[:CLOSEST]]
    return {int(sample_ids[k]): shard.adversarials[k].numpy() for k in found.tolist()}


def _store(run: Run, measurement_id: int, sample_ids: torch.Tensor, shard: MinNormResult) -> None:
    run.add_epsilons(
        measurement_id,
        sample_ids.numpy(),
        epsilon=shard.epsilon.numpy(),
        outcomes=shard.outcomes.numpy(),
        predictions=shard.predictions.numpy(),
        evaluations=shard.evaluations.numpy(),
        clean_predictions=shard.clean_predictions.numpy(),
        converged=shard.converged.numpy(),
        stages=shard.stages.numpy(),
        diagnoses=shard.diagnoses.numpy(),
        adversarials=adversarials_of(sample_ids, shard),
    )


def summarise(classifier: Classifier, samples: Samples, attack: Attack, measured: Measured) -> dict[str, Any]:
    """Return one row of a table: how a network's measurement went, and its median epsilon on the [0, 1] scale.

    The median is over the samples that the network has right; one that was not found counts as farther than all
    others, so that the median is None where it is itself such a sample.
    """
    right = measured.clean_predictions == samples.labels.numpy()
    distances = np.sort(np.where(np.isnan(measured.epsilon[right]), np.inf, measured.epsilon[right]))
    median = float(np.median(distances)) if len(distances) else np.inf
    return {
        "network": classifier.name,
        "sparsity": classifier.sparsity,
        "data": samples.name,
        "split": samples.split,
        "samples": len(samples),
        "misclassified": int((~right).sum()),
        "found": int((measured.outcomes == Outcome.FOUND).sum()),
        "not_found": int((measured.outcomes == Outcome.NOT_FOUND).sum()),
        "by_fallback": int((measured.stages > Stage.SEARCH).sum()),
        "norm": attack.norm,
        "attack": attack.name,
        "median_epsilon": median if np.isfinite(median) else None,
        "evaluations": float(measured.evaluations.mean()),
    }
