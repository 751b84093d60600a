"""A network of a name, or one from a file, trained and saved: what `thinice train` does."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from thinice.errors import CheckpointError, InputError, ThinIceError
from thinice.files import expanded, make_folder
from thinice.models import (
    NORMALIZATIONS,
    Classifier,
    Masks,
    NormalizationLike,
    Normalized,
    as_classifier,
    build,
    find_architecture,
    load_classifier,
    save_classifier,
)
from thinice.models.architectures.user_code import ArchitectureLike, user_code
from thinice.models.classifier import own_copy, with_weights
from thinice.models.files import writable_checkpoint
from thinice.models.fingerprints import fingerprint_of
from thinice.models.normalization import normalization_text
from thinice.models.stored import store_checkpoint
from thinice.numerics import global_stream, pick_device
from thinice.registry import told_settings
from thinice.store import Run, Store, open_store
from thinice.training import OBJECTIVES, Epoch, History, Objective, Plan, preset, train
from thinice.training.loop import StartedFrom
from thinice.training.passes import in_memory
from thinice.training.presets import settings_of
from thinice.training.snapshot import cause_of, differences, snapshot_key

if TYPE_CHECKING:
    from os import PathLike

    from thinice.data import Samples

__all__ = [
    "RESULT",
    "Trained",
    "made_alike",
    "result_of",
    "told",
    "told_result",
    "train_classifier",
    "usual_normalization",
]

NORMALIZATION_OF = {"imagenette": "imagenet"}
"""Data sets whose usual normalisation has another name."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained network, and how it came about.

    Attributes
    ----------
    classifier : Classifier
        The network, on the CPU.
    history : History
        One row an epoch.
    plan : Plan
        Recipe and objective.
    path : Path or None
        The checkpoint, where one was written.
    already : bool
        The checkpoint was there before, of the same training: nothing was trained now, and the history is empty.

    """

    classifier: Classifier
    history: History
    plan: Plan
    path: Path | None
    already: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return one flat row: what was trained how, and the numbers of the epoch whose weights it has."""
        result = told_result(self.classifier)
        return {
            "network": self.classifier.name,
            "architecture": self.classifier.architecture,
            "data": self.classifier.data,
            "objective": told(self.plan)["objective"],
            "sparsity": self.classifier.sparsity,
            **{name: result.get(name) for name in ("epochs", "chosen_epoch", *MEASURED)},
            "seconds": sum(epoch.seconds for epoch in self.history),
            "checkpoint": None if self.path is None else str(self.path),
            "fingerprint": self.classifier.fingerprint,
        }


RESULT = "result"
"""The part of a recipe that says how the training went; it is no part of what tells two trainings apart."""
MEASURED = ("loss", "accuracy", "validation_accuracy", "robust_accuracy")
"""What it says of the epoch whose weights the network has."""


def result_of(history: Sequence[Epoch]) -> dict[str, Any]:
    """Return what a file says of how a training went: its length, and the numbers of the epoch that was kept.

    Examples
    --------
    >>> result_of(History([Epoch(1, 0.1, 2.3, 0.25, None, 1.0)], chosen=1))["accuracy"]
    0.25

    """
    number = getattr(history, "chosen", len(history))
    chosen = history[number - 1] if number else None
    numbers = {name: None if chosen is None else getattr(chosen, name) for name in MEASURED}
    return {"epochs": len(history), "chosen_epoch": number, **numbers}


def told_result(classifier: Classifier) -> Mapping[str, Any]:
    """Return what the file of a network says of how its training went; nothing where it says nothing."""
    result = (classifier.recipe or {}).get(RESULT)
    return result if isinstance(result, Mapping) else {}


def told(plan: Plan) -> dict[str, Any]:
    """Return what a file says of a training: the objective with its settings, and those of the recipe.

    Examples
    --------
    >>> from thinice.training import preset
    >>> facts = told(preset("fast", epochs=3))
    >>> facts["objective"], facts["epochs"], round(facts["objective_settings"]["budget"] * 255)
    ('fast', 3, 8)

    """
    recipe, objective = plan
    names: tuple[str, ...] = settings_of(type(objective)) if is_dataclass(objective) else ()
    settings = {name: getattr(objective, name) for name in names}
    return {"objective": _name_of(objective), "objective_settings": settings} | told_settings(recipe)


def _name_of(objective: Objective) -> str:
    kind = type(objective)
    target = f"{kind.__module__}:{kind.__qualname__}"
    return next((name for name, (known, *_) in OBJECTIVES.rows.items() if known in {target, kind}), target)


def usual_normalization(data: str) -> NormalizationLike | None:
    """Return the normalisation that networks for a named data set have: its own, else none.

    Examples
    --------
    >>> usual_normalization("imagenette"), usual_normalization("digits")
    ('imagenet', None)

    """
    name = NORMALIZATION_OF.get(data, data)
    return name if name in NORMALIZATIONS else None


def train_classifier(
    network: ArchitectureLike | Classifier,
    samples: Samples,
    plan: str | Plan = "natural",
    *,
    architecture_args: Mapping[str, Any] | None = None,
    normalization: NormalizationLike | None = None,
    path: str | PathLike[str] | None = None,
    store: str | PathLike[str] | Store | None = None,
    device: str | torch.device = "auto",
    progress: Callable[[Epoch], object] | None = None,
    command: Sequence[str] | None = None,
    overwrite: bool = False,
    keep_snapshot: bool = False,
) -> Trained:
    """Return a trained network and its history; the weights that it ends with are written to a checkpoint.

    While it trains, ``PATH.snapshot`` beside the checkpoint holds all it needs to go on: called again after a crash
    with the same arguments, it goes on after the last whole epoch. The snapshot vanishes when the checkpoint is there.

    Parameters
    ----------
    network : str, callable, nn.Module or Classifier
        The name of an architecture or your own code, ``path/to/models.py:Net`` (which is run) or what it names, which
        begins with random weights that the recipe's seed decides; a module, which begins with the weights it has; or a
        classifier, to train it on. What its masks removed stays zero; where it has no masks, so do all zeros among its
        prunable weights. A checkpoint of your own code is loaded with that code: its file holds weights, no program.
    samples : Samples
        What it is trained on, the held-out part included.
    plan : str or Plan
        The name of a recipe, or what `thinice.training.preset` returns.
    architecture_args : mapping, optional
        Arguments of the architecture; the number of channels is that of the samples, but for your own code.
    normalization : str or pair, optional
        As of `as_classifier`; by default the usual one of the data set, where it has one. A classifier has its own.
    path : path, optional
        Where the checkpoint goes.
    store : path or Store, optional
        Where the learning curves go, epoch by epoch, and in the end what each sample did over the epochs; made where
        there is none.
    device : str
        "auto", "cpu", "cuda" or "cuda:K".
    progress : callable, optional
        As of `thinice.training.train`.
    command : sequence of str, optional
        What the store shall name as origin; by default the command line of this process.
    overwrite : bool
        Train also where a checkpoint is there already, and begin anew where the snapshot is one of another training.
        Without, the checkpoint that the same training made is returned as it is; any other, and the snapshot of another
        training, are refused.
    keep_snapshot : bool
        Leave the snapshot beside the finished checkpoint: the same call with a ``store`` trains nothing, and stores
        what this one saw.

    Raises
    ------
    InputError
        For arguments that cannot be used or do not fit, and a loss that is not finite: then the weights of the last
        good epoch, if there was one, are in the checkpoint.
    CheckpointError
        Where the snapshot belongs to another training, or a file cannot be written.

    """
    recipe, objective = preset(plan) if isinstance(plan, str) else plan
    target = None if path is None else _target(path, network)
    snapshot = None if target is None else target.with_name(f"{target.name}.snapshot")
    chosen_device = pick_device(device)
    begun = _begun(network, samples, recipe.seed, architecture_args, normalization)
    module, masks = own_copy(begun.module).requires_grad_(requires_grad=True), begun.masks
    start = begun.fingerprint if isinstance(network, Classifier) else None
    facts: dict[str, Any] = {
        "class_names": samples.classes,
        "data": samples.name,
        "recipe": {
            "data": {"name": samples.name, "split": samples.split, "fingerprint": samples.fingerprint},
            "training": told(Plan(recipe, objective)) | ({} if start is None else {"start": start}),
        },
    }
    plan = Plan(recipe, objective)
    if target is not None and not overwrite and _is_done(target, snapshot):
        classifier = made_alike(target, replace(begun, **facts))
        return Trained(classifier, History([]), plan, target, already=True)
    samples = in_memory(samples)
    module.to(chosen_device)
    facts["name"] = target.stem if target is not None else begun.name
    with _recorded(store, plan, chosen_device, command) as run:
        record = None if run is None else _Record(run, replace(begun, **facts), module, samples, plan)
        finished: list[Epoch] = []

        def note(epoch: Epoch) -> None:
            finished.append(epoch)
            if record is not None:
                record.add([epoch])
            if progress is not None:
                progress(epoch)

        note.step = getattr(progress, "step", None)  # type: ignore[attr-defined]  # what `train` looks for

        try:
            history = train(
                module,
                samples,
                recipe,
                objective=objective,
                masks=masks,
                hooks=() if start is None else [StartedFrom(start)],
                progress=note,
                resume=snapshot,
                overwrite=overwrite,
            )
        except InputError as error:
            if target is not None and (finished or (snapshot is not None and snapshot.exists())):
                _save(with_weights(begun, module, masks=masks, **facts), target, snapshot)
                raise InputError(f"{error}, which are in {target}") from error
            raise
        facts["recipe"][RESULT] = result_of(history)
        classifier = with_weights(begun, module.cpu(), masks=masks, **facts)
        if target is not None:
            classifier = loaded(_save(classifier, target, snapshot), classifier)
        if record is not None:
            record.end(classifier, history)
    if snapshot is not None and not keep_snapshot:
        snapshot.unlink(missing_ok=True)
    return Trained(classifier, history, plan, target)


def _target(path: str | PathLike[str], network: ArchitectureLike | Classifier) -> Path:
    """Return where the checkpoint goes, after a look whether it can be written there."""
    target = expanded(path)
    make_folder(target.parent, f"`path` {target}")
    writable_checkpoint(target, argument="path")
    source = network.path if isinstance(network, Classifier) else None
    if source is not None and target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"`path` {target} is the network to train on itself: choose another path")
    return target


def _is_done(target: Path, snapshot: Path | None) -> bool:
    """Return whether there is a checkpoint, and no training on its way to replace it."""
    return target.exists() and target.stat().st_size > 0 and not (snapshot is not None and snapshot.exists())


def loaded(path: Path, planned: Classifier) -> Classifier:
    """Return the network in a file of thinice, by the code of the one planned where that is the user's own.

    Raises
    ------
    ThinIceError
        As of `thinice.load_classifier`.

    """
    return load_classifier(path, architecture=planned.network if "class" in planned.arguments else None)


def made_alike(path: Path, planned: Classifier) -> Classifier:
    """Return the network in a file where it came about as planned, whatever its weights are.

    Raises
    ------
    InputError
        Where anything differs: the message says what.

    """
    way_out = "choose another path, or replace it: `--overwrite`, in Python `overwrite=True`"
    try:
        present = loaded(path, planned)
    except ThinIceError as error:
        what = f"of {planned.architecture}" if "class" in planned.arguments else "that can be read"
        raise InputError(f"{path} is there already, and no network {what}: {way_out}") from error
    old, new = _origin(present), _origin(planned)
    differing = differences(old, new) if old != new else []
    if not differing and {"search", "training"} & old.keys() and not told_result(present):
        differing = ["it does not say that its training came to its end"]
    if differing:
        raise InputError(f"{path} is there already, and not what was asked for ({'; '.join(differing)}): {way_out}")
    return present


def _origin(network: Classifier) -> dict[str, Any]:
    """Return how a network came about, in the plain values that a file holds."""
    recipe = {part: settings for part, settings in (network.recipe or {}).items() if part != RESULT}
    if isinstance(recipe.get("pruning"), Mapping):
        recipe["pruning"] = {name: value for name, value in recipe["pruning"].items() if name != "reached"}
    facts = {
        "architecture": network.architecture,
        "arguments": dict(network.arguments),
        "normalization": normalization_text(network.normalization),
        "parent": network.parent,
    }
    origin: dict[str, Any] = json.loads(json.dumps(facts | recipe))
    return origin


def _save(classifier: Classifier, target: Path, snapshot: Path | None) -> Path:
    """Return the path of the checkpoint, or say where the training is where it cannot be written."""
    try:
        return save_classifier(classifier, target)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{target} could not be written ({cause_of(error, target.parent)}): the training is in {snapshot}; make "
            "room, then the same call writes it"
        ) from error


@contextmanager
def _recorded(
    store: str | PathLike[str] | Store | None, plan: Plan, device: torch.device, command: Sequence[str] | None
) -> Iterator[Run | None]:
    """Yield a run of the store, or nothing where there is no store."""
    if store is None:
        yield None
        return
    opened = store if isinstance(store, Store) else open_store(store, new=True)
    recipe = plan.recipe
    with opened.run(
        command, device=str(device), precision=recipe.precision, seed=recipe.seed, settings=told(plan)
    ) as run:
        yield run


class _Record:
    """What the store keeps of a training."""

    def __init__(
        self,
        run: Run,
        begun: Classifier,
        module: nn.Module,
        samples: Samples,
        plan: Plan,
    ) -> None:
        self.run, self.samples = run, samples
        facts = told(plan)
        key = snapshot_key(module, samples, plan.recipe, objective=plan.objective, masks=begun.masks, hooks=())
        start = fingerprint_of("start", {}, module.state_dict(), None)
        self.training_id = run.training(
            fingerprint=hashlib.sha256(json.dumps([key, start], sort_keys=True).encode()).hexdigest()[:32],
            name=begun.name,
            dataset_id=run.dataset(
                fingerprint=samples.fingerprint,
                name=samples.name,
                split=samples.split,
                shape=samples.inputs.shape[1:],
                classes=samples.classes,
                sample_ids=samples.sample_ids.numpy(),
                labels=samples.labels.numpy(),
                digests=samples.digests,
                sources=samples.sources,
            ),
            architecture=begun.architecture,
            objective=facts["objective"],
            recipe=facts,
            parent=begun.parent,
        )

    def add(self, epochs: Sequence[Epoch]) -> None:
        """Store epochs."""
        rows = [{name: getattr(epoch, "number" if name == "epoch" else name) for name in COLUMNS} for epoch in epochs]
        self.run.add_epochs(self.training_id, rows)

    def end(self, classifier: Classifier, history: History) -> None:
        """Store which network came out, all epochs once more (a crash may have kept some out), and the dynamics."""
        self.add(history)
        dynamics = history.dynamics
        if dynamics is not None:
            columns = {name: getattr(dynamics, name).numpy() for name in DYNAMICS}
            self.run.add_dynamics(self.training_id, dynamics.sample_ids.numpy(), **columns)
        checkpoint_id = store_checkpoint(self.run, classifier, len(self.samples.classes))
        self.run.end_training(
            self.training_id, checkpoint_id=checkpoint_id, chosen_epoch=history.chosen, notes=history.notes
        )


COLUMNS = (
    *("epoch", "learning_rate", "loss", "accuracy", "validation_loss", "validation_accuracy", "robust_accuracy"),
    "seconds",
)
"""Of the store's table of epochs."""
DYNAMICS = ("epochs", "forgotten", "learned", "confidence_mean", "confidence_variance")
"""Of its table of what samples did."""


def _begun(
    network: ArchitectureLike | Classifier,
    samples: Samples,
    seed: int,
    arguments: Mapping[str, Any] | None,
    normalization: NormalizationLike | None,
) -> Classifier:
    """Return what training begins with: a classifier as it is, or a new network with the normalisation of the data."""
    if isinstance(network, Classifier):
        if arguments is not None or normalization is not None:
            raise InputError("`network` is a classifier: its arguments and its normalisation are its own")
        masks = Masks.of(network.module) if network.masks is None and network.sparsity else network.masks
        return replace(network, masks=masks, parent=network.parent or network.fingerprint)
    classes = len(samples.classes)
    settings = dict(arguments or {})
    code = user_code(network, settings)
    if code is None:
        name = str(network)
        if "channels" in inspect.signature(find_architecture(name).make).parameters:
            settings.setdefault("channels", samples.inputs.shape[1])
    with global_stream(torch.device("cpu"), seed, "weights"):
        bare = build(name, classes, **settings) if code is None else code.build(classes)
    usual = None if isinstance(network, Normalized) else usual_normalization(samples.name)
    begun = as_classifier(bare, normalization=usual if normalization is None else normalization)
    if code is None:
        return begun
    return replace(begun, architecture=str(code), arguments=code.identity(begun.network), name=code.name)
