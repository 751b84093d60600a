"""The networks of a study: which there are, the files they are in, and the task that makes them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from torch import set_num_threads

from thinice.errors import ThinIceError
from thinice.models import load_classifier, save_classifier
from thinice.models.classifier import with_weights
from thinice.printable import shown
from thinice.pruning import prune_in_stages
from thinice.pruning.schedules import searches, trainable_copy
from thinice.training.classifiers import RESULT, result_of, told, train_classifier
from thinice.training.snapshot import SnapshotError

if TYPE_CHECKING:
    import torch

    from thinice.data import Samples
    from thinice.store import Store
    from thinice.studies.definition import MethodChoice, Setup, Study
    from thinice.training import Epoch

__all__ = ["Made", "NetworkFiles", "NetworkPlan", "NetworkTask", "waves"]

VERSION = 1
"""Part of what tells networks apart: raised when the same file makes others."""
LETTERS = 40
"""Of a name that a study's file gives, in the name of a network's file."""


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """One network of a study: dense, or pruned out of the network of the rate before.

    Attributes
    ----------
    seed : int
        Of weights, training and pruning.
    method : MethodChoice or None
        How it is pruned; None for the dense network.
    stages : tuple of float
        The compression rates that pruning went through, its own last; none of the dense network.

    """

    seed: int
    method: MethodChoice | None = None
    stages: tuple[float, ...] = ()

    @property
    def rate(self) -> float:
        """Its compression rate."""
        return self.stages[-1] if self.stages else 1.0

    @property
    def before(self) -> NetworkPlan | None:
        """The network that it is pruned out of."""
        if not self.stages:
            return None
        return replace(self, stages=self.stages[:-1]) if len(self.stages) > 1 else self.dense

    @property
    def dense(self) -> NetworkPlan:
        """The dense network of its seed."""
        return NetworkPlan(self.seed)

    @property
    def label(self) -> str:
        """What messages call it: ``seed 0, magnitude-global-filter, rate 8``."""
        method = "dense" if self.method is None else f"{self.method.name}, rate {self.rate:g}"
        return f"seed {self.seed}, {method}"


def waves(study: Study) -> Iterator[tuple[NetworkPlan, ...]]:
    """Yield the networks of one setup in waves: those of one need only those of the waves before.

    A method that searches does so in the dense network for each rate.
    """
    yield tuple(NetworkPlan(seed) for seed in study.seeds)
    for k, rate in enumerate(study.stages, start=1):
        yield tuple(
            NetworkPlan(seed, method, study.stages[:k] if method.search is None else (rate,))
            for seed in study.seeds
            for method in study.methods
            if method.search is None or rate in study.rates
        )


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a network: its file and what is to be said of it, or why there is none."""

    plan: NetworkPlan
    path: Path
    notes: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class NetworkFiles:
    """Makes the networks of one setup, each into a file whose name holds a hash of all that decides its weights.

    So studies that ask for the same network share its file, whatever else they ask for.

    Attributes
    ----------
    setup : Setup
        What they are.
    samples : Samples
        What they are trained on.
    folder : Path
        Where the files are.
    store : Store, optional
        Keeps the learning curves of dense networks.
    progress : callable, optional
        Called with each epoch of a network.
    command : sequence of str, optional
        What the store names as the origin of a training.
    keep_snapshots : bool
        Leave a dense network's snapshot beside its file: with it, the network does not count as made before a call with
        a store has stored its learning curve.

    """

    setup: Setup
    samples: Samples
    folder: Path
    store: Store | None = None
    progress: Callable[[NetworkPlan, Epoch], object] | None = None
    command: Sequence[str] | None = None
    keep_snapshots: bool = False

    def key(self, plan: NetworkPlan) -> str:
        """Return the hash of all that decides a network's weights."""
        facts: dict[str, object] = {
            "version": VERSION,
            "architecture": self.setup.architecture,
            "samples": self.samples.fingerprint,
            "training": told(self.setup.training.plan(plan.seed, self.samples)),
        }
        if plan.method is not None:
            facts["retraining"] = told(self.setup.retraining.plan(plan.seed, self.samples))
            facts["stages"] = [
                plan.method.made(rate, seed=plan.seed, skip=self.setup.skip).described() for rate in plan.stages
            ]
            if plan.method.search is not None:
                facts["search"] = told(plan.method.search.plan(plan.seed, self.samples))
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    def path(self, plan: NetworkPlan) -> Path:
        """Return the file of a network, which may not be there yet."""
        method = "dense" if plan.method is None else f"{_plain(plan.method.name)}-rate{plan.rate:g}"
        parts = [_plain(self.setup.architecture), _plain(self.samples.name), method, f"seed{plan.seed}"]
        return self.folder / f"{'-'.join(parts)}-{self.key(plan)[:10]}.pt"

    def is_made(self, plan: NetworkPlan) -> bool:
        """Return whether its file is there, and nothing left to do: files appear whole."""
        path = self.path(plan)
        return path.is_file() and not _snapshot(path).exists()

    def make(self, plan: NetworkPlan, device: torch.device) -> Made:
        """Make a network, if its file is not there yet; go on where an earlier attempt was stopped.

        What an earlier attempt left and this version cannot go on from is renamed, and the network made anew.

        Raises
        ------
        ThinIceError
            Where it cannot be trained, pruned or written.

        """
        try:
            return self._make(plan, device)
        except SnapshotError as error:
            path = self.path(plan)
            names = [_set_aside(left) for left in (_snapshot(path), _stages(path)) if left.exists()]
            if not names:
                raise
            made = self._make(plan, device)
            reason = str(error).rpartition(": ")[0]  # without the ways out
            return replace(made, notes=(f"made anew: {reason}; renamed to {', '.join(names)}", *made.notes))

    def _make(self, plan: NetworkPlan, device: torch.device) -> Made:
        path = self.path(plan)
        if self.is_made(plan):
            return Made(plan, path)
        if plan.method is None:
            trained = train_classifier(
                self.setup.architecture,
                self.samples,
                self.setup.training.plan(plan.seed, self.samples),
                path=path,
                store=self.store,
                device=device,
                progress=self._reporter(plan),
                command=self.command,
                keep_snapshot=self.keep_snapshots,
            )
            return Made(plan, path, trained.history.notes)
        return self._prune(plan, path, device)

    def _reporter(self, plan: NetworkPlan) -> Callable[[Epoch], object] | None:
        return None if self.progress is None else partial(self.progress, plan)

    def _prune(self, plan: NetworkPlan, path: Path, device: torch.device) -> Made:
        method, before = plan.method, plan.before
        if method is None or before is None:
            raise RuntimeError("a dense network is not pruned")
        dense, parent = load_classifier(self.path(plan.dense)), load_classifier(self.path(before))
        retraining = self.setup.retraining.plan(plan.seed, self.samples)
        ranking = method.made(plan.rate, seed=plan.seed, skip=self.setup.skip)
        snapshots = _stages(path)
        search = None if method.search is None else method.search.plan(plan.seed, self.samples)
        if search is None:
            (pruned,) = prune_in_stages(
                parent.to(device),
                ranking,
                sparsities=[ranking.sparsity],
                samples=self.samples,
                recipe=retraining.recipe,
                objective=retraining.objective,
                progress=self._reporter(plan),
                resume=snapshots,
            )
        else:
            (pruned,) = searches(
                trainable_copy(dense.to(device)),
                ranking,
                [ranking.sparsity],
                samples=self.samples,
                search=search,
                plan=retraining,
                progress=self._reporter(plan),
                resume=snapshots,
            )
        recipe = {
            "pruning": {**pruned.recipe, "stages": list(plan.stages)},
            **({} if search is None else {"search": told(search)}),
            "data": {"name": self.samples.name, "split": self.samples.split, "fingerprint": self.samples.fingerprint},
            "training": {"start": "the weights that were kept"} | told(retraining),
            RESULT: result_of(pruned.history),
        }
        module = pruned.module.cpu()
        classifier = with_weights(
            dense, module, name=path.stem, recipe=recipe, parent=dense.fingerprint, masks=pruned.masks
        )
        save_classifier(classifier, path)
        if snapshots.exists():
            shutil.rmtree(snapshots)
        return Made(plan, path, pruned.notes)


@dataclass(frozen=True, slots=True)
class NetworkTask:
    """The making of networks, none of which needs another of them, as an engine runs it.

    Attributes
    ----------
    plans : sequence of NetworkPlan
        Which.
    files : NetworkFiles
        What makes them.
    threads : int, optional
        With so many they are trained, for on the CPU the last bits of weights depend on it: by default with as many as
        the process has that trains them.

    """

    plans: Sequence[NetworkPlan]
    files: NetworkFiles
    threads: int | None = None

    def __len__(self) -> int:
        return len(self.plans)

    @property
    def values(self) -> int:
        """Values of one sample that they are trained on."""
        return self.files.samples.inputs.shape[1:].numel()

    def on(self, device: torch.device) -> Callable[[slice], tuple[Made, ...]]:
        """Return what makes a part of the networks on a device; what goes wrong with one is in its `Made`."""
        if self.threads is not None:
            set_num_threads(self.threads)

        def made(part: slice) -> tuple[Made, ...]:
            return tuple(self._made(plan, device) for plan in self.plans[part])

        return made

    def _made(self, plan: NetworkPlan, device: torch.device) -> Made:
        try:
            return self.files.make(plan, device)
        except Exception as error:  # noqa: BLE001 (told, and the other networks go on)
            return Made(plan, self.files.path(plan), error=reason_of(error))


def reason_of(error: Exception) -> str:
    r"""Return what went wrong as one line; of what nobody expected, also the kind.

    >>> reason_of(RuntimeError("no\nroom"))
    'RuntimeError: no room'
    """
    text = " ".join(str(error).split())
    return text if isinstance(error, ThinIceError) else shown(f"{type(error).__name__}: {text}", 500)


def _snapshot(path: Path) -> Path:
    """Return where the training of a dense network keeps how far it is."""
    return path.with_name(f"{path.name}.snapshot")


def _stages(path: Path) -> Path:
    """Return the folder where the training of a pruned network keeps how far it is."""
    return path.with_suffix(".stages")


def _set_aside(left: Path) -> str:
    """Rename what an earlier attempt left, and return its new name; nothing is deleted."""
    aside = next(name for k in count(1) if not (name := left.with_name(f"{left.name}.old-{k}")).exists())
    left.rename(aside)
    return aside.name


def _plain(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name).strip("-.")[:LETTERS] or "network"
