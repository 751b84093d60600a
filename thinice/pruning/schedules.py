"""When pruning happens: at once, after a search where the method needs one; or in stages, with training after each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from thinice.errors import CheckpointError, InputError
from thinice.files import expanded, temporary_folder
from thinice.models.classifier import as_classifier, own_copy
from thinice.models.fingerprints import fingerprint_of
from thinice.models.normalization import inner
from thinice.models.weights import Masks
from thinice.numerics import global_stream
from thinice.training import OBJECTIVES, Objective, train

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from torch import nn

    from thinice.data import Samples
    from thinice.pruning import PruningMethod
    from thinice.training import Epoch, Recipe

__all__ = ["HALVINGS", "Pruned", "one_shot", "sparsity_of", "stages"]

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
        One row for each epoch of the search, or of the retraining of a stage; none where there was neither.
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
        return self.method.described() | {"reached": reached}


def one_shot(
    module: nn.Module,
    method: PruningMethod,
    *,
    samples: Samples | None = None,
    recipe: Recipe | None = None,
    objective: str | Objective = "natural",
    progress: Callable[[Epoch], object] | None = None,
    resume: str | PathLike[str] | None = None,
    before: Masks | None = None,
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
        history = train(module, samples, recipe, objective=objective, hooks=[method], progress=progress, resume=resume)
    masks = method.masks(module) if before is None or method.searches else method.masks_within(module, before)
    method.finish(module)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(trainable[name])
    masks.apply_(module)
    return Pruned(module, masks, history, method, ranked, _notes(method, masks, ranked))


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
    before: Masks | None = None,
) -> Iterator[Pruned]:
    """Yield one network a sparsity, each pruned further out of the one before and trained again under its masks.

    The arguments are those of `thinice.pruning.prune_in_stages`; `network` belongs to this function, which trains it.
    """
    targets = _checked_targets(method, sparsities)
    if reinitialise and rewind is not None:
        raise InputError("`reinitialise` and `rewind` exclude each other: weights start anew, or at those of a network")
    method.ranked(network)
    if not isinstance(objective, Objective):
        objective = OBJECTIVES.make(objective)
    start = None if rewind is None else _start_of(network, rewind)
    folder = None if resume is None else _folder(resume, network, method, targets, start=start, anew=reinitialise)
    return _staged(
        network,
        method,
        targets,
        start=start,
        reinitialise=reinitialise,
        folder=folder,
        masks=Masks.whole(inner(network)) if before is None else before,
        training={
            "samples": samples,
            "recipe": recipe,
            "objective": objective,
            "validation": validation,
            "progress": progress,
        },
    )


def _staged(
    module: nn.Module,
    method: PruningMethod,
    targets: Sequence[float],
    *,
    start: dict[str, torch.Tensor] | None,
    reinitialise: bool,
    folder: Path | None,
    masks: Masks,
    training: dict[str, Any],
) -> Iterator[Pruned]:
    for number, sparsity in enumerate(targets, start=1):
        method = replace(method, sparsity=sparsity)
        masks = method.masks_within(module, masks)
        if start is not None:
            inner(module).load_state_dict(start)
        elif reinitialise:
            _reinitialise(module, training["recipe"].seed, number)
        snapshot = None if folder is None else folder / f"stage-{number}.pt"
        history = train(module, masks=masks, resume=snapshot, **training)
        ranked = method.ranked(module)
        notes = (*_notes(method, masks, ranked), *_told_by(history), *_constant(module, training["samples"]))
        yield Pruned(own_copy(module), masks, history, method, ranked, notes)


def _told_by(history: tuple[Epoch, ...]) -> tuple[str, ...]:
    """Return what training itself has to say of how it ended."""
    return tuple(getattr(history, "notes", ()))


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
) -> Path:
    """Return the folder of the snapshots after a look at whose they are; what else training is, each of them knows.

    A snapshot does not know the weights that training began with, and masks by chance are the same for all networks.
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
        try:
            written = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            written = None
        if not isinstance(written, dict):
            raise CheckpointError(f"{path} is not the plan of a pruning in stages: choose another path")
        differing = [name for name, value in plan.items() if written.get(name) != value]
        if differing:
            raise CheckpointError(
                f"{folder} belongs to another pruning ({', '.join(differing)} differ): remove it, or choose another "
                "path"
            )
    else:
        with temporary_folder(folder) as unfinished:
            partial = unfinished / PLAN
            partial.write_text(json.dumps(plan))
            partial.replace(path)
    return folder


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
    missing = abs(part.sparsity - method.sparsity) * sum(layer.weights for layer in part.layers())
    exhausted = part.sparsity < method.sparsity and all(layer.kept == 1 for layer in part.units(structure))
    if missing > max(sizes, default=1) * groups or (exhausted and missing >= 1):
        notes.append(f"sparsity {method.sparsity:g} was asked for, {part.sparsity:.4f} is reached")
    return tuple(notes)
