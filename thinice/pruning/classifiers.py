"""Pruned networks in files: what `thinice prune` does."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from thinice.errors import CheckpointError, InputError, TrainingWarning
from thinice.files import expanded, make_folder
from thinice.models import Classifier, Masks, load_classifier, save_classifier
from thinice.models import save_masks as save_masks_alone
from thinice.models.classifier import with_weights
from thinice.models.files import check_savable, writable_checkpoint
from thinice.models.normalization import normalization_text
from thinice.models.research_formats.writing import UNIFORM, WITHOUT_NORMALIZATION, WRITERS, save_as
from thinice.numerics import pick_device
from thinice.pruning import PruningMethod, check_sparsity, make_method, prune, prune_in_stages
from thinice.pruning.schedules import check_search, remove_snapshots, searches, sparsity_of, trainable_copy
from thinice.pruning.shrinking import Shrunk
from thinice.pruning.shrinking import shrink as shrink_network
from thinice.training import Plan, preset
from thinice.training.classifiers import RESULT, made_alike, result_of, told, told_result
from thinice.training.snapshot import cause_of

if TYPE_CHECKING:
    from os import PathLike

    from thinice.data import Samples
    from thinice.pruning import Pruned
    from thinice.training import Epoch, Hook
    from thinice.training.thin_ice import ThinIce

__all__ = ["PrunedClassifier", "prune_classifier"]

SHOWN = 64
"""Samples on which a smaller network is compared with the pruned one, and both are timed."""


@dataclass(frozen=True, slots=True, eq=False)
class PrunedClassifier:
    """A pruned network and its checkpoint.

    Attributes
    ----------
    classifier : Classifier
        The network; its masks, and its recipe, which says how it was pruned and trained.
    path : Path
        The checkpoint.
    sparsity : float
        What was asked for; ``classifier.sparsity`` is what was reached.
    notes : tuple of str
        What did not go as asked.
    already : bool
        The checkpoint was there before, pruned in this very way: nothing was done now.
    smaller : Shrunk or None
        The network without the channels that are gone, and what both cost, where that was asked for.
    smaller_path : Path or None
        Its checkpoint; none where no channel could go.

    """

    classifier: Classifier
    path: Path
    sparsity: float
    notes: tuple[str, ...] = ()
    already: bool = False
    smaller: Shrunk | None = None
    smaller_path: Path | None = None

    @property
    def smaller_name(self) -> str:
        """The name of the file of the smaller network."""
        return _named(self.path, "small").name

    def to_dict(self) -> dict[str, Any]:
        """Return one flat row: what was asked for and reached, how training went, and what a smaller network costs."""
        masks = Masks.of(self.classifier.network) if self.classifier.masks is None else self.classifier.masks
        convolutions = masks.convolutions()
        row: dict[str, Any] = {
            "checkpoint": str(self.path),
            "asked": self.sparsity,
            "sparsity": masks.sparsity,
            "compression_rate": masks.compression_rate,
            "of_convolutions": convolutions.sparsity if convolutions.kept else None,
            "weights": sum(layer.weights for layer in masks.layers()),
            "kept": sum(layer.kept for layer in masks.layers()),
        }
        if result := told_result(self.classifier):
            measured = ("epochs", "accuracy", "validation_accuracy", "robust_accuracy")
            row |= {name: result.get(name) for name in measured}
        if self.smaller is not None:
            row["small"] = None if self.smaller_path is None else str(self.smaller_path)
            for field in ("parameters", "flops", "seconds"):
                before, after = (getattr(cost, field) for cost in (self.smaller.before, self.smaller.after))
                row |= {field: before, f"small_{field}": after}
        return row


def prune_classifier(
    network: str | PathLike[str] | Classifier,
    method: str | PruningMethod = "magnitude",
    *,
    path: str | PathLike[str],
    sparsity: float | Sequence[float] | None = None,
    rate: float | Sequence[float] | None = None,
    samples: Samples | None = None,
    search: str | Plan | None = None,
    finetune: str | Plan | None = None,
    rewind: Classifier | None = None,
    reinitialise: bool = False,
    thin_ice: ThinIce | None = None,
    shrink: bool = False,
    save_masks: bool = False,
    also: str | None = None,
    device: str | torch.device = "auto",
    progress: Callable[[Epoch], object] | None = None,
    overwrite: bool = False,
    **settings: object,
) -> Iterator[PrunedClassifier]:
    """Yield one pruned network a sparsity, each written to a checkpoint before.

    Several sparsities with `finetune` are stages, each pruned further out of the network of the one before; without,
    and with a method that searches, each begins with the dense network. While networks are trained, ``PATH.stages``
    beside the checkpoints holds all that is needed to go on: called again after a crash with the same arguments, it
    goes on after the last whole epoch. The folder vanishes when the last checkpoint is there.

    Parameters
    ----------
    network : path or Classifier
        The dense network, which stays as it is.
    method, **settings
        As of `thinice.prune`, but for the sparsity.
    path : path
        Where the checkpoint goes; of several, each has its sparsity or rate in the name: ``pruned-95.pt``.
    sparsity : float or sequence of float
        Fractions of the weights that go, from 0 to below 1.
    rate : float or sequence of float
        Compression rates instead: 8 keeps one weight of eight.
    samples : Samples, optional
        What a method searches with, and what is trained on under the masks; `shrink` compares and times networks on it.
    search : str or Plan, optional
        How a method that searches is trained: the name of a recipe, or what `thinice.preset` returns; by default the
        method's own recipe.
    finetune : str or Plan, optional
        How each network is trained under its masks; by default, it is not.
    rewind, reinitialise
        What that training starts from instead of the weights that were kept, as in `thinice.prune_in_stages`.
    thin_ice : ThinIce, optional
        Weights of the training samples by their epsilons on the dense network, in both trainings or one of them.
    shrink : bool
        Also save a smaller network without the channels that are gone, as ``NAME-small``, and measure what both cost.
    save_masks : bool
        Also save the masks alone, as ``NAME-masks``, for weights in other programs.
    also : str, optional
        Also save each network in the format of another program, as ``NAME-hydra.pt``: a name in
        `thinice.models.research_formats.writing.WRITERS`.
    device : str
        "auto", "cpu", "cuda" or "cuda:K".
    progress : callable, optional
        As of `thinice.prune_in_stages`.
    overwrite : bool
        Prune also where checkpoints are there already, and begin anew where the snapshots are of another pruning.
        Without, those that were made in the same way are returned as they are; any others, and the snapshots of another
        pruning, are refused.

    Warns
    -----
    TrainingWarning
        Where the search is adversarial, and the dense network was trained naturally.

    Raises
    ------
    InputError
        For arguments that cannot be used or do not fit, before anything is done.
    CheckpointError
        Where snapshots belong to another pruning, or a file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import thinice
    >>> dense = thinice.example_checkpoints()["dense"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for pruned in prune_classifier(dense, path=f"{folder}/pruned.pt", rate=[2, 8]):
    ...         print(pruned.path.name, pruned.classifier.sparsity)
    pruned-rate-2.pt 0.5
    pruned-rate-8.pt 0.875

    """
    made_method, method_name = make_method(method, settings)
    dense = network if isinstance(network, Classifier) else load_classifier(network)
    targets = _named_sparsities(sparsity, rate)
    check_savable(dense)
    if shrink and "class" in dense.arguments:
        raise InputError(
            f"`shrink` cannot save a smaller {dense.architecture}, which your own code builds: leave it out, and "
            "call thinice.shrink in Python"
        )
    searching, retraining = _plans(made_method, method_name, search, finetune)
    if retraining is None and (reinitialise or rewind is not None):
        name = "reinitialise" if reinitialise else "rewind"
        raise InputError(f"`{name}` changes nothing without training: give `finetune`, or leave it out")
    trains = searching is not None or retraining is not None
    if samples is None and trains:
        purpose = "finds its masks by training" if searching is not None else "is to be trained under its masks"
        raise InputError(f"`samples` must be given: method {method_name!r} {purpose}")
    if samples is not None and not trains and not shrink:
        raise InputError(
            "`samples` change nothing: nothing is trained, and no smaller network compared: leave them out"
        )
    chosen_device = pick_device(device)
    files = _files(path, targets, dense.path, _words(also, small=shrink, masks=save_masks))
    snapshots = _snapshots_beside(path)
    facts = _facts(samples, searching, retraining, rewind, thin_ice, reinitialise=reinitialise)
    search_hooks, hooks = _hooks_of(thin_ice, dense, samples, searching, retraining)
    completed = partial(_completed, samples=samples, shrink=shrink, save_masks=save_masks, also=also)
    if not overwrite and not (trains and snapshots.exists()):
        finished = _made_before(files, dense, made_method, facts)
        if len(finished) == len(files):
            return map(completed, finished)
    _refuse_unwritable(also, dense, [replace(made_method, sparsity=target) for target in files])
    if searching is not None and samples is not None:
        check_search(made_method, searching.recipe, samples)
        _warn_if_natural(dense, searching, str(made_method.described()["method"]))
    dense = dense.to(chosen_device)
    networks: Iterator[Pruned]
    if samples is not None and searching is not None:
        networks = searches(
            trainable_copy(dense),
            made_method,
            [*files],
            samples=samples,
            search=searching,
            plan=retraining,
            rewind=None if rewind is None else rewind.module,
            reinitialise=reinitialise,
            progress=progress,
            resume=snapshots,
            overwrite=overwrite,
            search_hooks=search_hooks,
            hooks=hooks,
        )
    elif samples is not None and retraining is not None:
        networks = prune_in_stages(
            dense,
            made_method,
            sparsities=[*files],
            samples=samples,
            recipe=retraining.recipe,
            objective=retraining.objective,
            rewind=rewind,
            reinitialise=reinitialise,
            progress=progress,
            resume=snapshots,
            overwrite=overwrite,
            hooks=hooks,
        )
    else:
        networks = (prune(dense, replace(made_method, sparsity=target)) for target in files)
    finished_snapshots = snapshots if trains or overwrite else None
    return map(completed, _saved(networks, files, dense, facts, finished_snapshots))


def _named_sparsities(
    sparsity: float | Sequence[float] | None, rate: float | Sequence[float] | None
) -> dict[str, float]:
    """Return the sparsity of each network by what tells it in a file's name."""
    arguments = {name: _several(value) for name, value in (("sparsity", sparsity), ("rate", rate)) if value is not None}
    arguments = {name: values for name, values in arguments.items() if values}
    if len(arguments) != 1:
        raise InputError("`sparsity` or `rate` must be given, not both: sparsity 0.9 zeroes 90 % of the weights")
    ((argument, values),) = arguments.items()
    named: dict[str, float] = {}
    for value in values:
        target = sparsity_of(value) if argument == "rate" else value
        check_sparsity(target)
        name = f"rate-{value:g}" if argument == "rate" else f"{100 * value:g}"
        if name in named:
            raise InputError(f"`{argument}` {value:g} is given twice, and both would be called {name}: give it once")
        named[name] = target
    return named


def _several(value: float | Sequence[float]) -> list[float]:
    """Return the numbers of an argument that takes one or several; what is no number is refused one by one."""
    return [value] if isinstance(value, int | float | str) else list(value)


def _plans(
    method: PruningMethod, name: str, search: str | Plan | None, finetune: str | Plan | None
) -> tuple[Plan | None, Plan | None]:
    """Return how the method searches, where it does, and how networks are trained under their masks, where they are."""
    if search is not None and not method.searches:
        raise InputError(
            f"`search` changes nothing: method {name!r} finds its masks without training; `finetune` trains under them"
        )
    if method.searches and search is None:
        search = method.search_recipe
    plans = [preset(plan) if isinstance(plan, str) else plan for plan in (search, finetune)]
    return plans[0], plans[1]


def _warn_if_natural(dense: Classifier, search: Plan, method: str) -> None:
    """Warn where a search is to be robust and the file of the dense network says that it was trained naturally."""
    training = (dense.recipe or {}).get("training")
    natural = isinstance(training, Mapping) and training.get("objective") == "natural"
    if natural and search.objective.threat() is not None:
        warnings.warn(
            f"{dense.name} was trained naturally, and method {method!r} searches by adversarial training, for which "
            "papers begin with a robust network: train one first, by a recipe such as 'pgd' or 'trades'",
            TrainingWarning,
            stacklevel=3,
        )


def _files(
    path: str | PathLike[str], targets: Mapping[str, float], dense: Path | None, beside: Sequence[str]
) -> dict[float, Path]:
    """Return where each network goes, by its sparsity, after a look whether it can be written there."""
    output = expanded(path)
    checkpoints = [output] if len(targets) == 1 else [_named(output, name) for name in targets]
    make_folder(output.parent, f"`path` {output}")
    for file in [*checkpoints, *(_named(file, word) for file in checkpoints for word in beside)]:
        writable_checkpoint(file, argument="path")
        if dense is not None and file.exists() and dense.exists() and file.samefile(dense):
            raise InputError(f"`path` {file} is the network to prune itself: choose another path")
    return dict(zip(targets.values(), checkpoints, strict=True))


def _words(also: str | None, **asked: bool) -> list[str]:
    """Return what the names of the files beside each checkpoint have more, after a look whether the format is known."""
    if also is not None:
        WRITERS.get(also)
    return [name for name, wanted in asked.items() if wanted] + ([] if also is None else [also])


def _refuse_unwritable(also: str | None, dense: Classifier, methods: Sequence[PruningMethod]) -> None:
    """Raise InputError where a format cannot hold the masks that methods will find, as far as that is known before."""
    if also is None:
        return
    for method in methods:
        module = trainable_copy(dense)
        masks = method.expected(module)
        if masks is not None:
            recipe: dict[str, Any] = {"pruning": method.described()}
            WRITERS.get(also)(with_weights(dense, module, name=dense.name, recipe=recipe, masks=masks))
        elif also in UNIFORM:
            name = method.described()["method"]
            raise InputError(
                f"`also` {also!r} needs masks that keep the same part of each layer; of method {name!r} each layer "
                "keeps its own: write 'harp'"
            )


def _named(file: Path, word: str) -> Path:
    """Return the path with a word more in its name; that of another program's format is torch's own."""
    named = file.with_stem(f"{file.stem}-{word}")
    return named.with_suffix(".pt") if word in WRITERS.names() else named


def _snapshots_beside(path: str | PathLike[str]) -> Path:
    output = expanded(path)
    return output.with_name(f"{output.name}.stages")


def _facts(
    samples: Samples | None,
    search: Plan | None,
    finetune: Plan | None,
    rewind: Classifier | None,
    thin_ice: ThinIce | None,
    *,
    reinitialise: bool,
) -> dict[str, object]:
    """Return what the files say of all training; nothing where there is none."""
    facts: dict[str, object] = {}
    if samples is not None and (search is not None or finetune is not None):
        facts["data"] = {"name": samples.name, "split": samples.split, "fingerprint": samples.fingerprint}
    if search is not None:
        facts["search"] = told(search)
    if finetune is not None:
        start = "new weights" if reinitialise else "the weights that were kept"
        if rewind is not None:
            start = f"{rewind.name} ({rewind.fingerprint})"
        facts["training"] = {"start": start} | told(finetune)
    if thin_ice is not None:
        facts["thin_ice"] = thin_ice.described()
    return facts


def _hooks_of(
    thin_ice: ThinIce | None, dense: Classifier, samples: Samples | None, search: Plan | None, finetune: Plan | None
) -> tuple[list[Hook], list[Hook]]:
    """Return what weighs samples in the search, and in the training under masks."""
    if thin_ice is None:
        return [], []
    plans = (search if thin_ice.search else None, finetune if thin_ice.finetune else None)
    if samples is None or plans == (None, None):
        raise InputError("`thin_ice` changes nothing: no training takes place that it is for; give `finetune`, say")
    in_search, after = ([] if plan is None else thin_ice.hooks(dense, samples, plan) for plan in plans)
    return in_search, after


def _made_before(
    files: Mapping[float, Path], dense: Classifier, method: PruningMethod, facts: Mapping[str, object]
) -> list[PrunedClassifier]:
    """Return the networks that were pruned in this very way before; refuse to replace others."""
    finished = []
    for sparsity, file in files.items():
        recipe = {"pruning": replace(method, sparsity=sparsity).described(), **facts}
        if file.exists() and file.stat().st_size:
            classifier = made_alike(file, replace(dense, recipe=recipe, parent=dense.fingerprint))
            finished.append(PrunedClassifier(classifier, file, sparsity, already=True))
    return finished


def _saved(
    networks: Iterable[Pruned],
    files: Mapping[float, Path],
    dense: Classifier,
    facts: Mapping[str, object],
    snapshots: Path | None,
) -> Iterator[PrunedClassifier]:
    """Yield the pruned networks, each saved before; with the last one the snapshots are removed."""
    for number, (pruned, (sparsity, file)) in enumerate(zip(networks, files.items(), strict=True), start=1):
        recipe = {"pruning": pruned.recipe, **facts}
        if pruned.history:
            recipe[RESULT] = result_of(pruned.history)
        classifier = with_weights(
            dense, pruned.module, name=file.stem, recipe=recipe, parent=dense.fingerprint, masks=pruned.masks
        )
        with _told_if_full(file):
            save_classifier(classifier, file)
        if number == len(files) and snapshots is not None:
            remove_snapshots(snapshots)
        yield PrunedClassifier(classifier, file, sparsity, pruned.notes)


def _completed(
    pruned: PrunedClassifier, *, samples: Samples | None, shrink: bool, save_masks: bool, also: str | None
) -> PrunedClassifier:
    """Return a pruned network after saving what goes beside it."""
    classifier = pruned.classifier
    if save_masks and classifier.masks is not None:
        file = _named(pruned.path, "masks")
        with _told_if_full(file):
            save_masks_alone(classifier.masks, file, overwrite=True)
    if also is not None:
        file = _named(pruned.path, also)
        try:
            with _told_if_full(file):
                save_as(classifier, file, also)
            if also in WITHOUT_NORMALIZATION:
                option = normalization_text(classifier.normalization)
                note = f"{file.name} has no place for the normalisation: read it with --normalization '{option}'"
                pruned = replace(pruned, notes=(*pruned.notes, note))
        except InputError as error:  # of masks that nobody could know before; the next networks are pruned all the same
            pruned = replace(pruned, notes=(*pruned.notes, f"{file.name} is not written: {error}"))
    if not shrink:
        return pruned
    inputs = None if samples is None else samples.inputs[torch.arange(min(len(samples), SHOWN))]
    smaller = shrink_network(classifier, inputs, masks=classifier.masks)
    if not smaller.layer_sizes:
        return replace(pruned, smaller=smaller)
    file = _named(pruned.path, "small")
    with _told_if_full(file):
        save_classifier(smaller.network, file)
    return replace(pruned, smaller=smaller, smaller_path=file)


@contextmanager
def _told_if_full(file: Path) -> Iterator[None]:
    """Tell which file could not be written, and that nothing is lost."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch's own writer raises the latter
        raise CheckpointError(
            f"{file} could not be written ({cause_of(error, file.parent)}): make room, then give the same command again"
        ) from error
