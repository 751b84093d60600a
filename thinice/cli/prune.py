"""`thinice prune`: networks with zeros, or smaller ones, out of a dense one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinice.cli.loading import load, load_networks
from thinice.cli.options import CheckpointOptions, DataOptions, Device, Limit, OutputOptions, Overwrite, one_of, options
from thinice.cli.output import Messages, put_rows
from thinice.cli.recipes import plan_value
from thinice.cli.stopping import exit_on_interrupt
from thinice.cli.train import TrainingReporter, objectives, recipes, refuse_test
from thinice.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from thinice import Classifier, Samples
    from thinice.pruning import Pruned, PruningMethod
    from thinice.training import Plan

__all__ = ["prune"]


def methods() -> str:
    """Return what ``--method`` takes, from the registry of pruning methods."""
    from thinice.pruning import METHODS

    return one_of(METHODS.names())


@dataclass(frozen=True, slots=True)
class RankingOptions:
    """Which weights go."""

    method: Annotated[str, typer.Option("--method", help=f"How they are ranked: {methods()}.")] = "magnitude"
    scope: Annotated[
        str, typer.Option("--scope", help="global: all layers are ranked together; local: each by itself.")
    ] = "global"
    structure: Annotated[
        str,
        typer.Option(
            "--structure",
            help="What goes as one: weight; in convolutions also kernel, filter (output channel), channel (input).",
        ),
    ] = "weight"
    skip: Annotated[
        str, typer.Option("--skip", metavar="PATTERNS", help="Weights that stay whole, by name: '*shortcut*,conv1.*'.")
    ] = ""
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of --method random; training has its own: --finetune natural,seed=1.")
    ] = 0


@dataclass(frozen=True, slots=True)
class RetrainingOptions:
    """What happens after the weights are gone."""

    finetune: Annotated[
        str | None,
        typer.Option(
            "--finetune",
            metavar="RECIPE",
            help=f"Train under the masks, after each stage: {recipes()}; changes after commas: "
            "finetune,epochs=5,learning_rate=0.02.",
        ),
    ] = None
    objective: Annotated[
        str | None, typer.Option("--objective", help=f"What to minimise instead of the recipe's: {objectives()}.")
    ] = None
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="NAME|PATH", help="What it is trained on. Default: what the checkpoint names."),
    ] = None
    split: Annotated[str, typer.Option("--split", help="Part of the data set that it is trained on.")] = "train"
    limit: Limit = None
    rewind: Annotated[
        Path | None,
        typer.Option(
            "--rewind", metavar="CHECKPOINT", help="Train from these weights, an early state of the same network."
        ),
    ] = None
    reinitialise: Annotated[bool, typer.Option("--reinitialise", help="Train from new weights.")] = False


@options
def prune(
    checkpoint: Annotated[Path, typer.Argument(help="The network to prune; it stays as it is.", show_default=False)],
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The pruned checkpoint. With several sparsities or rates, each goes into the name.",
        ),
    ],
    sparsity: Annotated[
        list[float] | None,
        typer.Option("--sparsity", help="Fraction of the weights that goes, from 0 to below 1. Again: in stages."),
    ] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option("--rate", help="Compression rate, instead: 8 keeps one weight of eight. Again: in stages."),
    ] = None,
    ranking: RankingOptions,
    retraining: RetrainingOptions,
    shrink: Annotated[
        bool,
        typer.Option(
            "--shrink",
            help="Also save a smaller network without the channels that are gone, as NAME-small, which computes the "
            "same, and measure what both cost.",
        ),
    ] = False,
    save_masks: Annotated[
        bool,
        typer.Option("--save-masks", help="Also save the masks alone, as NAME-masks, for weights in other programs."),
    ] = False,
    reading: CheckpointOptions,
    device: Device = "auto",
    overwrite: Overwrite = False,
    printing: OutputOptions,
) -> None:
    """Zero the weights of a network that matter least, train what is left, and save it with its masks.

    thinice prune dense.pt --sparsity 0.95 --finetune epochs=5,learning_rate=0.01 -o pruned.pt

    Iterative halving (Merkle et al.): --rate 2 --rate 4 --rate 8 ... with --finetune; each stage starts from the
    network of the one before. The same command goes on where it was stopped.
    """
    import thinice
    from thinice.files import expanded
    from thinice.numerics import pick_device

    say = Messages(quiet=printing.quiet)
    targets = sparsities(sparsity, rate)
    place = pick_device(device)
    beside = [name for name, asked in (("small", shrink), ("masks", save_masks)) if asked]
    files = output_files(expanded(output, "output"), targets, expanded(checkpoint), beside)
    method = method_of(ranking)
    train = retraining.finetune is not None
    dense, samples = read(checkpoint, reading, retraining, say, train=train, shrink=shrink)
    plan = None
    if retraining.finetune is not None and samples is not None:
        plan = plan_value(retraining.finetune, retraining.objective, samples, say)
    facts = facts_of(samples, plan, retraining)
    snapshots = expanded(output).with_name(f"{output.name}.stages")
    on_the_way = plan is not None and snapshots.exists()
    there = [] if overwrite or on_the_way else there_already(files, dense, method, facts)
    dense = dense.to(place)
    rows = []
    with exit_on_interrupt("The same command goes on where it was." if plan else ""):
        if len(there) == len(files):
            say(f"{', '.join(map(str, files.values()))}: there already, pruned this very way; --overwrite prunes anew")
            made: Iterable[Classifier] = there
        else:
            made = saved(
                networks(dense, method, targets, samples, plan, retraining, snapshots, say), files, dense, facts, say
            )
        for classifier, (target, file) in zip(made, files.items(), strict=True):
            if save_masks and classifier.masks is not None:
                with told_if_full(named(file, "masks")):
                    thinice.save_masks(classifier.masks, named(file, "masks"), overwrite=True)
            row = row_of(classifier, file, target)
            rows.append({**row, **(shrunk(classifier, file, samples, say) if shrink else {})})
    if plan is not None:
        remove_snapshots(snapshots)
    put_rows(rows, printing.format)


def sparsities(sparsity: Sequence[float] | None, rate: Sequence[float] | None) -> dict[str, float]:
    """Return the sparsity of each network by what tells it in a file's name."""
    from thinice.pruning import sparsity_of

    if bool(sparsity) == bool(rate):
        raise InputError("`--sparsity` or `--rate` must be given, not both: --sparsity 0.9 zeroes 90 % of the weights")
    option, values = ("--rate", rate) if rate else ("--sparsity", sparsity or [])
    named: dict[str, float] = {}
    for value in values:
        name = f"rate-{value:g}" if rate else f"{100 * value:g}"
        if name in named:
            raise InputError(f"`{option}` {value:g} is given twice, and both would be called {name}: give it once")
        named[name] = sparsity_of(value) if rate else value
    return named


def named(file: Path, what: str) -> Path:
    """Return where something beside a network goes: its name with a word more."""
    return file.with_stem(f"{file.stem}-{what}")


def output_files(output: Path, targets: dict[str, float], checkpoint: Path, beside: Sequence[str]) -> dict[float, Path]:
    """Return where each network goes, by its sparsity, after a look whether it can be written there."""
    from thinice.files import make_folder
    from thinice.models.files import writable_checkpoint

    names = [output] if len(targets) == 1 else [output.with_stem(f"{output.stem}-{name}") for name in targets]
    make_folder(output.parent, f"`--output` {output}")
    for file in [*names, *(named(file, what) for file in names for what in beside)]:
        writable_checkpoint(file, argument="--output")
        if file.exists() and checkpoint.exists() and file.samefile(checkpoint):
            raise InputError(f"`--output` {file} is the network to prune itself: choose another path")
    return dict(zip(targets.values(), names, strict=True))


def method_of(ranking: RankingOptions) -> PruningMethod:
    """Return the method that the options name, with those of its settings that are not the usual ones."""
    from thinice.pruning import METHODS

    given = {field: value for field, value in asdict(ranking).items() if field != "method"}
    usual = asdict(RankingOptions())
    return METHODS.make(ranking.method, **{name: value for name, value in given.items() if value != usual[name]})


def read(
    checkpoint: Path,
    reading: CheckpointOptions,
    retraining: RetrainingOptions,
    say: Messages,
    *,
    train: bool,
    shrink: bool,
) -> tuple[Classifier, Samples | None]:
    """Return the network and, where it is to be trained or its image size is not known, samples."""
    from thinice.models.files import check_savable
    from thinice.models.loading import refuse_unknown

    usual = RetrainingOptions()
    without = ("objective", "rewind", "reinitialise") if shrink else ("objective", "data", "split", "limit", "rewind")
    for name in () if train else (*without, "reinitialise"):
        if getattr(retraining, name) != getattr(usual, name):
            raise InputError(f"`--{name}` changes nothing without training: give `--finetune`, or leave it out")
    if train:
        refuse_test(retraining.split)
    (dense,) = load_networks([checkpoint], reading)
    samples = None
    if train or (shrink and dense.input_shape is None):
        selection = DataOptions(data=retraining.data, split=retraining.split, limit=retraining.limit)
        (dense,), samples = load([checkpoint], reading, selection, say)
    else:
        refuse_unknown(dense)
        say.notes(dense.name, dense.notes)
    check_savable(dense)
    if shrink and "class" in dense.arguments:
        raise InputError(
            f"`--shrink` cannot save a smaller {dense.architecture}, which your own code builds: leave it out, and "
            "call thinice.shrink in Python"
        )
    return dense, samples


def networks(
    dense: Classifier,
    method: PruningMethod,
    targets: dict[str, float],
    samples: Samples | None,
    plan: Plan | None,
    retraining: RetrainingOptions,
    snapshots: Path,
    say: Messages,
) -> Iterator[Pruned]:
    """Yield the pruned networks, one a sparsity."""
    from dataclasses import replace

    import thinice

    if samples is None or plan is None:
        for ranking in [replace(method, sparsity=sparsity) for sparsity in targets.values()]:
            yield thinice.prune(dense, ranking)
        return

    rewind = None if retraining.rewind is None else thinice.load_classifier(retraining.rewind)
    watch = None if say.quiet else TrainingReporter(say, plan.recipe.epochs)
    made = thinice.prune_in_stages(
        dense,
        method,
        sparsities=[*targets.values()],
        samples=samples,
        recipe=plan.recipe,
        objective=plan.objective,
        rewind=rewind,
        reinitialise=retraining.reinitialise,
        progress=watch,
        resume=snapshots,
    )
    for number in range(1, len(targets) + 1):
        if watch is not None and len(targets) > 1:
            watch.begin(f"stage {number}/{len(targets)}, ")
        yield next(made)


def facts_of(samples: Samples | None, plan: Plan | None, retraining: RetrainingOptions) -> dict[str, object]:
    """Return what the files say of the training under the masks; nothing where there is none."""
    import thinice
    from thinice.training.classifiers import told

    if samples is None or plan is None:
        return {}
    start = "new weights" if retraining.reinitialise else "the weights that were kept"
    if retraining.rewind is not None:
        start = f"{retraining.rewind.name} ({thinice.load_classifier(retraining.rewind).fingerprint})"
    return {
        "data": {"name": samples.name, "split": samples.split, "fingerprint": samples.fingerprint},
        "training": {"start": start} | told(plan),
    }


def there_already(
    files: Mapping[float, Path], dense: Classifier, method: PruningMethod, facts: dict[str, object]
) -> list[Classifier]:
    """Return the networks that the same command saved before; refuse to replace others."""
    from dataclasses import replace

    from thinice.training.classifiers import made_alike

    there = []
    for sparsity, file in files.items():
        recipe = {"pruning": replace(method, sparsity=sparsity).described()} | facts
        if file.exists() and file.stat().st_size:
            there.append(made_alike(file, replace(dense, recipe=recipe, parent=dense.fingerprint)))
    return there


def saved(
    networks: Iterable[Pruned],
    files: Mapping[float, Path],
    dense: Classifier,
    facts: dict[str, object],
    say: Messages,
) -> Iterator[Classifier]:
    """Yield the pruned networks, each saved before."""
    from thinice.models import save_classifier
    from thinice.models.classifier import with_weights
    from thinice.training.classifiers import RESULT, result_of

    for pruned, file in zip(networks, files.values(), strict=True):
        recipe: dict[str, object] = {"pruning": pruned.recipe} | facts
        if pruned.history:
            recipe[RESULT] = result_of(pruned.history)
        classifier = with_weights(
            dense, pruned.module, name=file.stem, recipe=recipe, parent=dense.fingerprint, masks=pruned.masks
        )
        with told_if_full(file):
            save_classifier(classifier, file)
        say.notes(file.name, pruned.notes)
        yield classifier


@contextmanager
def told_if_full(file: Path) -> Iterator[None]:
    """Tell which file could not be written, and that nothing is lost."""
    from thinice.training.snapshot import cause_of

    try:
        yield
    except (OSError, RuntimeError) as error:  # torch's own writer raises the latter
        raise CheckpointError(
            f"{file} could not be written ({cause_of(error, file.parent)}): make room, then give the same command again"
        ) from error


def row_of(classifier: Classifier, file: Path, target: float) -> dict[str, object]:
    """Return the row of the table about a pruned network."""
    from thinice.models import Masks
    from thinice.training.classifiers import told_result

    masks = Masks.of(classifier.network) if classifier.masks is None else classifier.masks
    convolutions = masks.convolutions()
    row: dict[str, Any] = {
        "checkpoint": str(file),
        "asked": target,
        "sparsity": masks.sparsity,
        "compression_rate": masks.compression_rate,
        "of_convolutions": convolutions.sparsity if convolutions.kept else None,
        "weights": sum(layer.weights for layer in masks.layers()),
        "kept": sum(layer.kept for layer in masks.layers()),
    }
    if result := told_result(classifier):
        columns = {"accuracy": "accuracy", "held_out": "validation_accuracy", "robust": "robust_accuracy"}
        row |= {"epochs": result.get("epochs")} | {column: result.get(name) for column, name in columns.items()}
    return row


def shrunk(classifier: Classifier, file: Path, samples: Samples | None, say: Messages) -> dict[str, object]:
    """Return what a network costs, and the smaller one that is saved beside it."""
    import torch

    import thinice

    inputs = None if samples is None else samples.inputs[torch.arange(min(len(samples), 64))]
    small = thinice.shrink(classifier, inputs, masks=classifier.masks)
    say.notes(named(file, "small").name, small.notes)
    row: dict[str, object] = {"small": str(named(file, "small")) if small.layer_sizes else None}
    if small.layer_sizes:
        with told_if_full(named(file, "small")):
            thinice.save_classifier(small.network, named(file, "small"))
    for field in ("parameters", "flops", "seconds"):
        row |= {field: getattr(small.before, field), f"small_{field}": getattr(small.after, field)}
    return row


def remove_snapshots(folder: Path) -> None:
    """Take away the snapshots of stages that are all done and saved."""
    for snapshot in (*folder.glob("stage-*.pt"), folder / "stages.json"):
        snapshot.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
