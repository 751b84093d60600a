"""When pruning happens: at once, after a search where the method needs one, or in stages; and training after each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from thinice.errors import InputError
from thinice.files import expanded, temporary_folder
from thinice.models.classifier import Classifier, as_classifier, own_copy
from thinice.models.fingerprints import fingerprint_of
from thinice.models.normalization import inner
from thinice.models.weights import Masks, prunable_weights
from thinice.numerics import global_stream
from thinice.training import OBJECTIVES, Objective, Plan, train
from thinice.training.loop import StartedFrom
from thinice.training.snapshot import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from torch import nn

    from thinice.data import Samples
    from thinice.pruning import PruningMethod
    from thinice.training import Epoch, Hook, Recipe

__all__ = [
    "HALVINGS",
    "Pruned",
    "check_search",
    "masks_before",
    "one_shot",
    "remove_snapshots",
    "searches",
    "sparsity_of",
    "stages",
    "trainable_copy",
]

HALVINGS = (2, 4, 8, 16, 32, 64)
"""The compression rates of Merkle et al.: half of what is left goes each time."""

PLAN = "stages.json"
"""The file of a folder of snapshots that says which stages they belong to."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """A pruned copy of a network, ready to be fine-tuned, and the masks that hold its zeros in place.

    Attributes
    ----------
    module : nn.Module
        Plain weights, zero where the masks keep nothing.
    masks : Masks
        One for each prunable weight; ``masks.sparsity`` is a fraction of all of them.
    history : tuple of Epoch
        One row for each epoch of the training under the masks, or where there was none, of the search for them.
    method : PruningMethod or None
        What found the masks, with the sparsity that was asked for.
    ranked : tuple of str
        The weights that this sparsity is a fraction of.
    notes : tuple of str
        What did not go as asked: layers that would have vanished, or have; a sparsity that was not reached.

    """

    module: nn.Module
    masks: Masks
    history: tuple[Epoch, ...] = ()
    method: PruningMethod | None = None
    ranked: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def recipe(self) -> dict[str, object]:
        """How it was pruned, in plain values, for the file."""
        if self.method is None:
            return {}
        reached = {
            "of_ranked": self.masks.part(self.ranked).sparsity,
            "of_convolutions": self.masks.convolutions().sparsity,
            "of_all": self.masks.sparsity,
        }
        return self.method.described() | {"reached": reached | self.method.measured()}


def one_shot(
    module: nn.Module,
    method: PruningMethod,
    *,
    samples: Samples | None = None,
    recipe: Recipe | None = None,
    objective: str | Objective = "natural",
    progress: Callable[[Epoch], object] | None = None,
    resume: str | PathLike[str] | None = None,
    overwrite: bool = False,
    before: Masks | None = None,
    hooks: Sequence[Hook] = (),
) -> Pruned:
    """Return the module itself, pruned in place: let the method search, if samples and a recipe say how, then cut.

    Which parameters need a gradient is afterwards what it was before. What `before`, the masks of an earlier pruning,
    removed stays away where the method does not search.
    """
    trainable = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    history: tuple[Epoch, ...] = ()
    ranked = method.ranked(module)
    if samples is None or recipe is None:
        method.prepare(module)
    else:
        check_search(method, recipe, samples)
        start = fingerprint_of("start", {}, module.state_dict(), None)
        history = train(
            module,
            samples,
            recipe,
            objective=objective,
            hooks=[method, StartedFrom(start), *hooks],
            progress=progress,
            resume=resume,
            overwrite=overwrite,
        )
        minimised = objective if isinstance(objective, Objective) else OBJECTIVES.make(objective)
        method.after_search(module, samples, minimised, recipe.seed)
    masks = method.masks(module) if before is None or method.searches else method.masks_within(module, before)
    method.finish(module)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(trainable[name])
    masks.apply_(module)
    return Pruned(module, masks, history, method, ranked, (*method.notes(), *_notes(method, masks, ranked)))


def check_search(method: PruningMethod, recipe: Recipe, samples: Samples) -> None:
    """Tell a method how it will be trained; InputError where it would not do in that what its settings ask for."""
    method.check_search(recipe, recipe.epochs * math.ceil((1 - recipe.held_out) * len(samples) / recipe.batch_size))


def masks_before(network: nn.Module | Classifier) -> Masks | None:
    """Return the masks of an earlier pruning, where they cover every prunable weight."""
    if not isinstance(network, Classifier) or network.masks is None:
        return None
    return network.masks if network.masks.kept.keys() == prunable_weights(network.network).keys() else None


def trainable_copy(network: nn.Module | Classifier) -> nn.Module:
    """Return a copy to be pruned and trained; of a classifier, all parameters need a gradient."""
    if isinstance(network, Classifier):
        return own_copy(as_classifier(network, one_by_one=False).module).requires_grad_(requires_grad=True)
    return own_copy(network)


def sparsity_of(rate: float) -> float:
    """Return the sparsity at a compression rate: 1 - 1 / rate.

    Raises
    ------
    InputError
        For a rate that is not above 1: at 1, nothing is pruned.

    Examples
    --------
    >>> sparsity_of(8)
    0.875
    """
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 1 < rate < math.inf:
        raise InputError(
            f"`rate` must be above 1, got {rate!r}: 2 keeps half of the weights, 1 is the dense network itself"
        )
    return 1 - 1 / rate


def stages(
    network: nn.Module,
    method: PruningMethod,
    sparsities: Sequence[float],
    *,
    samples: Samples,
    recipe: Recipe,
    objective: str | Objective = "natural",
    validation: Samples | None = None,
    rewind: nn.Module | None = None,
    reinitialise: bool = False,
    progress: Callable[[Epoch], object] | None = None,
    resume: str | PathLike[str] | None = None,
    overwrite: bool = False,
    before: Masks | None = None,
    hooks: Sequence[Hook] = (),
) -> Iterator[Pruned]:
    """Yield one network a sparsity, each pruned further out of the one before and trained again under its masks.

    The arguments are those of `thinice.pruning.prune_in_stages`; `network` belongs to this function, which trains it.
    """
    targets = _checked_targets(method, sparsities)
    method.ranked(network)
    start = _start(network, rewind, reinitialise=reinitialise)
    plan = Plan(recipe, objective if isinstance(objective, Objective) else OBJECTIVES.make(objective))
    folder = None
    if resume is not None:
        folder = _folder(resume, network, method, targets, start=start, anew=reinitialise, overwrite=overwrite)
    retraining = _Retraining(
        samples, plan, validation, start, reinitialise, progress, len(targets), folder, overwrite=overwrite, hooks=hooks
    )
    return _staged(network, method, targets, retraining, Masks.whole(inner(network)) if before is None else before)


def _staged(
    module: nn.Module, method: PruningMethod, targets: Sequence[float], retraining: _Retraining, masks: Masks
) -> Iterator[Pruned]:
    for number, sparsity in enumerate(targets, start=1):
        method = replace(method, sparsity=sparsity)
        masks = method.masks_within(module, masks)
        pruned = Pruned(module, masks, (), method, method.ranked(module), _notes(method, masks, method.ranked(module)))
        yield retraining(pruned, number)


def searches(
    network: nn.Module,
    method: PruningMethod,
    sparsities: Sequence[float],
    *,
    samples: Samples,
    search: Plan,
    plan: Plan | None = None,
    rewind: nn.Module | None = None,
    reinitialise: bool = False,
    progress: Callable[[Epoch], object] | None = None,
    resume: str | PathLike[str] | None = None,
    overwrite: bool = False,
    search_hooks: Sequence[Hook] = (),
    hooks: Sequence[Hook] = (),
) -> Iterator[Pruned]:
    """Yield one network a sparsity, whose masks a search finds in the network as it is; where a plan says how, trained.

    The other arguments are those of `thinice.pruning.prune_in_stages`; of `network`, each search gets a copy, and what
    else takes part in it are `search_hooks`.
    """
    targets = list(sparsities)
    for sparsity in targets:
        replace(method, sparsity=sparsity)  # refuses what is no sparsity
    method.ranked(network)
    check_search(method, search.recipe, samples)
    start = _start(network, rewind, reinitialise=reinitialise)
    folder = None
    if resume is not None:
        folder = _folder(resume, network, method, targets, start=start, anew=reinitialise, overwrite=overwrite)
    retraining = None
    if plan is not None:
        retraining = _Retraining(
            samples, plan, None, start, reinitialise, progress, len(targets), folder, overwrite=overwrite, hooks=hooks
        )

    def searched() -> Iterator[Pruned]:
        for number, sparsity in enumerate(targets, start=1):
            _announce(progress, "search" if len(targets) == 1 else f"search {number}/{len(targets)}", search)
            pruned = one_shot(
                own_copy(network),
                replace(method, sparsity=sparsity),
                samples=samples,
                recipe=search.recipe,
                objective=search.objective,
                progress=progress,
                resume=None if folder is None else folder / f"search-{number}.pt",
                overwrite=overwrite,
                hooks=search_hooks,
            )
            yield pruned if retraining is None else retraining(pruned, number)

    return searched()


@dataclass(slots=True)
class _Retraining:
    """The training under masks after each stage, or after a search."""

    samples: Samples
    plan: Plan
    validation: Samples | None
    start: dict[str, torch.Tensor] | None
    reinitialise: bool
    progress: Callable[[Epoch], object] | None
    stages: int
    snapshots: Path | None
    overwrite: bool
    hooks: Sequence[Hook] = ()

    def __call__(self, pruned: Pruned, number: int) -> Pruned:
        """Return a copy of a pruned network after training it, in place; `number` is that of the stage."""
        module = pruned.module
        if self.start is not None:
            inner(module).load_state_dict(self.start)
        elif self.reinitialise:
            _reinitialise(module, self.plan.recipe.seed, number)
        _announce(self.progress, "" if self.stages == 1 else f"stage {number}/{self.stages}", self.plan)
        history = train(
            module,
            self.samples,
            self.plan.recipe,
            objective=self.plan.objective,
            masks=pruned.masks,
            hooks=self.hooks,
            validation=self.validation,
            progress=self.progress,
            resume=None if self.snapshots is None else self.snapshots / f"stage-{number}.pt",
            overwrite=self.overwrite,
        )
        notes = (*pruned.notes, *history.notes, *_constant(module, self.samples))
        return replace(pruned, module=own_copy(module), history=history, notes=notes)


def _announce(progress: Callable[[Epoch], object] | None, name: str, plan: Plan) -> None:
    """Tell those who want to know which training begins, and of how many epochs."""
    begin = getattr(progress, "begin", None)
    if begin is not None:
        begin(name, plan.recipe.epochs)


def _start(network: nn.Module, rewind: nn.Module | None, *, reinitialise: bool) -> dict[str, torch.Tensor] | None:
    """Return the weights that training under masks starts from, where they are not those that were kept, nor new."""
    if reinitialise and rewind is not None:
        raise InputError("`reinitialise` and `rewind` exclude each other: weights start anew, or at those of a network")
    return None if rewind is None else _start_of(network, rewind)


@torch.no_grad()
def _constant(module: nn.Module, samples: Samples) -> tuple[str, ...]:
    """Return a note where the logits of the first samples are all the same."""
    device = next(module.parameters()).device
    logits = module(samples.inputs[torch.arange(min(len(samples), 64))].to(device))
    if len(logits) > 1 and bool((logits == logits[0]).all()):
        return ("the network has collapsed: its logits are the same for all samples",)
    return ()


def _checked_targets(method: PruningMethod, sparsities: Sequence[float]) -> list[float]:
    if method.searches:
        raise InputError(
            f"`method` {type(method).__name__} finds its masks by training, which stages do not: call thinice.prune "
            "with samples and a recipe, then thinice.train with its masks"
        )
    targets = list(sparsities)
    if not targets:
        raise InputError("`sparsities` must not be empty: give the sparsity of each stage, such as [0.5, 0.75]")
    for sparsity in targets:
        replace(method, sparsity=sparsity)  # refuses what is no sparsity
    for smaller, larger in pairwise([0.0, *targets]):
        if larger <= smaller:
            raise InputError(
                f"`sparsities` must rise from above 0, got {larger:g} after {smaller:g}: what is pruned stays away"
            )
    return targets


def _start_of(network: nn.Module, rewind: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights that each stage starts from, checked against the network."""
    own = inner(network).state_dict()
    weights = {name: value.detach().clone() for name, value in own_copy(inner(rewind)).state_dict().items()}
    for name in [*own, *weights]:
        ours, theirs = (tuple(each[name].shape) if name in each else "none" for each in (own, weights))
        if ours != theirs:
            raise InputError(
                f"`rewind` has another architecture: {name} is {theirs}, the network has {ours}: give an earlier state "
                "of the same network"
            )
    return weights


def _reinitialise(module: nn.Module, seed: int, stage: int) -> None:
    """Give all layers the weights that torch gives new ones of their kind."""
    device = next(module.parameters()).device
    with global_stream(device, seed, "reinitialise", stage):
        for name, layer in module.named_modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
            elif any(True for _ in layer.parameters(recurse=False)):
                raise InputError(
                    f"`reinitialise`: {name or 'the network'} ({type(layer).__name__}) does not say how its parameters "
                    "start: write a reset_parameters() for it, or give `rewind` a fresh network"
                )


def _folder(
    resume: str | PathLike[str],
    network: nn.Module,
    method: PruningMethod,
    targets: Sequence[float],
    *,
    start: dict[str, torch.Tensor] | None,
    anew: bool,
    overwrite: bool,
) -> Path:
    """Return the folder of the snapshots after a look at whose they are; what else training is, each of them knows.

    A snapshot does not know the weights that training began with, and masks by chance are the same for all networks.
    With `overwrite`, those of another pruning are removed.
    """
    folder = expanded(resume, "resume")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"`resume` {folder} is a file: give a folder, which keeps one snapshot a stage")
    plan = {
        "network": as_classifier(network).fingerprint,
        "method": method.described() | {"sparsity": list(targets)},
        "start": "anew" if anew else None if start is None else fingerprint_of("start", {}, start, None),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PLAN
    if path.exists():
        written = _written_plan(path)
        if written is None:
            raise SnapshotError(f"{path} is not the plan of a pruning in stages: choose another path")
        differing = [name for name, value in plan.items() if written.get(name) != value]
        if not differing:
            return folder
        if not overwrite:
            raise SnapshotError(
                f"{folder} belongs to another pruning ({', '.join(differing)} differ): remove it, or choose another "
                "path"
            )
        _remove_files(folder)
    with temporary_folder(folder) as unfinished:
        partial = unfinished / PLAN
        partial.write_text(json.dumps(plan))
        partial.replace(path)
    return folder


def _written_plan(path: Path) -> dict[str, Any] | None:
    """Return which pruning the snapshots beside a plan belong to; None where the file is no plan."""
    try:
        written = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    return written if isinstance(written, dict) else None


def remove_snapshots(folder: Path) -> None:
    """Remove the snapshots of a pruning, and the folder where it holds nothing else; without a plan it is another's."""
    if (folder / PLAN).is_file() and _written_plan(folder / PLAN) is not None:
        _remove_files(folder)
        if not any(folder.iterdir()):
            folder.rmdir()


def _remove_files(folder: Path) -> None:
    """Remove the snapshots, and then the plan, so that none is ever without it."""
    for snapshot in (*folder.glob("stage-*.pt"), *folder.glob("search-*.pt"), folder / PLAN):
        snapshot.unlink(missing_ok=True)


def _notes(method: PruningMethod, masks: Masks, ranked: Sequence[str]) -> tuple[str, ...]:
    """Return what did not go as asked, one sentence each."""
    structure = str(getattr(method, "structure", "weight"))
    part = masks.part(ranked)
    notes = [f"{name} keeps nothing: the logits no longer depend on what comes before it" for name in masks.vanished()]
    notes += [
        f"{layer.name} keeps 1 of {layer.weights} {structure}s, its best one: all others went"
        for layer in part.units(structure)
        if layer.kept == 1 < layer.weights
    ]
    sizes = [layer.weights // units.weights for layer, units in zip(part.layers(), part.units(structure), strict=True)]
    groups = 1 if getattr(method, "scope", "local") == "global" else len(ranked)
    weights = sum(layer.weights for layer in part.layers())
    missing = abs(part.sparsity - method.sparsity) * weights if getattr(method, "cost", "weights") == "weights" else 0
    exhausted = part.sparsity < method.sparsity and all(layer.kept == 1 for layer in part.units(structure))
    if missing > max(sizes, default=1) * groups or (exhausted and missing >= 1):
        notes.append(f"sparsity {method.sparsity:g} was asked for, {part.sparsity:.4f} is reached")
    return tuple(notes)
