"""`thinice prune`: networks with zeros, or smaller ones, out of a dense one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinice.cli.loading import load, load_networks
from thinice.cli.options import (
    STORE,
    CheckpointOptions,
    DataOptions,
    Device,
    Limit,
    OutputOptions,
    Overwrite,
    StorePath,
    one_of,
    options,
)
from thinice.cli.output import Messages, put_rows
from thinice.cli.stopping import exit_on_interrupt
from thinice.cli.train import TrainingReporter, objectives, once, plan_value, recipes, refuse_test, setting
from thinice.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinice import Classifier, Samples, ThinIce
    from thinice.pruning import PruningMethod
    from thinice.training import Plan

__all__ = ["prune"]


def methods() -> str:
    """Return what ``--method`` takes, from the registry of pruning methods."""
    from thinice.pruning import METHODS

    return "; ".join(f"{name}: {summary}" if summary else name for name, summary in METHODS.summaries().items())


def method_settings() -> str:
    """Return what ``--set`` takes of each method."""
    from thinice.pruning import METHODS

    settings = {name: [each for each in METHODS.settings(name) if each != "sparsity"] for name in METHODS.names()}
    return "; ".join(f"of {name} {one_of(names) or 'none'}" for name, names in settings.items())


def formats() -> str:
    """Return what ``--also`` takes, from the registry of formats of other programs."""
    from thinice.models.research_formats.writing import WRITERS

    return "; ".join(f"{name}: {summary}" for name, summary in WRITERS.summaries().items())


def searching_methods() -> str:
    """Return the methods that ``--search`` is for, with the recipe of each."""
    from thinice.pruning import METHODS

    classes = {name: METHODS.get(name) for name in METHODS.names()}
    return one_of(
        f"{name} (by default {getattr(kind, 'search_recipe', '')})"
        for name, kind in classes.items()
        if getattr(kind, "searches", False)
    )


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """Which weights go."""

    method: Annotated[str, typer.Option("--method", help=f"How it is decided which go. {methods()}.")] = "magnitude"
    scope: Annotated[
        str | None,
        typer.Option("--scope", help="global, the default: all layers are ranked together; local: each by itself."),
    ] = None
    structure: Annotated[
        str | None,
        typer.Option(
            "--structure",
            help="What goes as one: weight, the default; in convolutions also kernel, filter (output channel), channel "
            "(input), column (a place in an input channel).",
        ),
    ] = None
    skip: Annotated[
        str | None,
        typer.Option(
            "--skip",
            metavar="PATTERNS",
            help="Weights that stay whole: shortcuts (1x1 convolutions), or by name: 'shortcuts,conv1.*'.",
        ),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Of the method; training has its own: --finetune natural,seed=1."),
    ] = None
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help=f"Any setting of the method ({method_settings()}). May be given again.",
        ),
    ] = None
    search: Annotated[
        str | None,
        typer.Option(
            "--search",
            metavar="RECIPE",
            help="Another recipe, with changes as of --finetune, for methods that find masks by training: "
            f"{searching_methods() or 'none of these'}.",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class RetrainingOptions:
    """What happens after the weights are gone."""

    finetune: Annotated[
        str | None,
        typer.Option(
            "--finetune",
            metavar="RECIPE",
            help=f"Train under the masks, after each stage: {recipes()}. Changes after commas: "
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


def thin_ice_settings() -> str:
    """Return what ``--thin-ice`` takes after the shape."""
    from thinice.training.presets import settings_of
    from thinice.training.thin_ice import ThinIce

    return one_of([*(name for name in settings_of(ThinIce) if name not in GIVEN), "effort"])


GIVEN = ("epsilons", "measured_by", "shape")
"""Settings of weights by nearness that their text does not give by name."""


@dataclass(frozen=True, slots=True)
class ThinIceOptions:
    """Which samples count more while networks are trained."""

    thin_ice: Annotated[
        str | None,
        typer.Option(
            "--thin-ice",
            metavar="SHAPE",
            help="Weigh the loss of each training sample by its epsilon on the dense network, nearer ones more, in the "
            "search and in fine-tuning: power, exponential or window (around the budget). Settings after commas: "
            f"power,strength=4. There are {thin_ice_settings()}. Epsilons are read from the store, or "
            "measured before, at effort quick.",
        ),
    ] = None
    store: StorePath = STORE


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
    choice: MethodOptions,
    retraining: RetrainingOptions,
    weighing: ThinIceOptions,
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
    also: Annotated[
        str | None,
        typer.Option(
            "--also",
            metavar="FORMAT",
            help=f"Also save in the format of another program, with the same logits, as NAME-FORMAT.pt: {formats()}.",
        ),
    ] = None,
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
    from thinice import load_classifier
    from thinice.pruning.classifiers import prune_classifier

    say = Messages(quiet=printing.quiet)
    method = method_of(choice)
    trains = method.searches or retraining.finetune is not None
    refuse_idle_weights(weighing, trains=trains)
    refuse_idle(method, choice, retraining, shrink=shrink)
    dense, samples = read(checkpoint, reading, retraining, say, trains=trains, shrink=shrink)
    search = finetune = None
    if samples is not None:
        plan = partial(plan_value, samples=samples, say=say, objective=retraining.objective)
        if method.searches:
            recipe = method.search_recipe
            search = plan(choice.search or recipe, option="--search", usual=recipe)
        if retraining.finetune is not None:
            finetune = plan(retraining.finetune, option="--finetune", usual="finetune")
    thin_ice = None
    if samples is not None and weighing.thin_ice is not None:
        thin_ice = thin_ice_value(weighing, dense, samples, [search, finetune], device, quiet=printing.quiet)
    rows, unchanged = list[dict[str, object]](), list[str]()
    with exit_on_interrupt("The same command goes on where it was." if trains else ""):
        for pruned in prune_classifier(
            dense,
            method,
            path=output,
            sparsity=sparsity,
            rate=rate,
            samples=samples,
            search=search,
            finetune=finetune,
            rewind=None if retraining.rewind is None else load_classifier(retraining.rewind),
            reinitialise=retraining.reinitialise,
            thin_ice=thin_ice,
            shrink=shrink,
            save_masks=save_masks,
            also=also,
            device=device,
            progress=None if printing.quiet else TrainingReporter(say),
            overwrite=overwrite,
        ):
            say.notes(pruned.path.name, pruned.notes)
            if pruned.smaller is not None:
                say.notes(pruned.smaller_name, pruned.smaller.notes)
            unchanged += [str(pruned.path)] if pruned.already else []
            rows.append(pruned.to_dict())
    if unchanged:
        say(f"{one_of(unchanged)}: there already, pruned this very way; --overwrite prunes anew")
    put_rows(rows, printing.format)


def method_of(choice: MethodOptions) -> PruningMethod:
    """Return the method that the options name, with those of its settings that are given."""
    from thinice.pruning import METHODS

    known = METHODS.settings(choice.method)
    options_of_their_own = {name: getattr(choice, name) for name in ("scope", "structure", "skip", "seed")}
    settings = {name: value for name, value in options_of_their_own.items() if value is not None}
    for text in choice.change or []:
        for name, value in once(setting(text), settings, f"`--set` {text}").items():
            if name == "sparsity":
                raise InputError(f"`--set` {text}: sparsities have options of their own: give --sparsity or --rate")
            is_text = name in known and known[name].annotation in {str, "str"}
            settings[name] = text.partition("=")[2].strip() if is_text else value
    return METHODS.make(choice.method, **settings)


def refuse_idle(method: PruningMethod, choice: MethodOptions, retraining: RetrainingOptions, *, shrink: bool) -> None:
    """Raise InputError for an option that changes nothing, and for samples that networks are measured on."""
    if choice.search is not None and not method.searches:
        raise InputError(
            f"`--search` changes nothing: method {choice.method!r} finds its masks without training; --finetune trains "
            "under them"
        )
    usual = RetrainingOptions()
    idle = ["rewind", "reinitialise", *([] if method.searches else ["objective"])]
    idle += [] if method.searches or shrink else ["data", "split", "limit"]
    for name in idle if retraining.finetune is None else ():
        if getattr(retraining, name) != getattr(usual, name):
            raise InputError(f"`--{name}` changes nothing without training: give `--finetune`, or leave it out")
    if method.searches or retraining.finetune is not None:
        refuse_test(retraining.split)


def refuse_idle_weights(weighing: ThinIceOptions, *, trains: bool) -> None:
    """Raise InputError where weights of samples, or the store for them, would change nothing."""
    if weighing.thin_ice is not None and not trains:
        raise InputError("`--thin-ice` changes nothing without training: give `--finetune`, or leave it out")
    if weighing.store != STORE and weighing.thin_ice is None:
        raise InputError("`--store` is for the epsilons of `--thin-ice`: give that, or leave it out")


def thin_ice_value(
    weighing: ThinIceOptions,
    dense: Classifier,
    samples: Samples,
    plans: Sequence[Plan | None],
    device: str,
    *,
    quiet: bool,
) -> ThinIce:
    """Return what text such as ``power,strength=4`` spells out, with the epsilons of the training samples."""
    import torch

    from thinice import ThinIce, measure_all
    from thinice.training.presets import settings_of

    text = weighing.thin_ice or ""
    first, *rest = (part.strip() for part in text.split(","))
    shape, rest = (first, rest) if "=" not in first else ("power", [first, *rest])
    settings: dict[str, Any] = {"shape": shape}
    for part in rest:
        settings |= once(setting(part, "--thin-ice"), settings, f"`--thin-ice` {text!r}")
    effort = settings.pop("effort", "quick")
    allowed = [name for name in settings_of(ThinIce) if name not in GIVEN]
    unknown = [name for name in settings if name not in (*allowed, "shape")]
    if unknown:
        raise InputError(f"`--thin-ice` {text!r}: there is no {unknown[0]}, but {thin_ice_settings()}")
    trial = ThinIce(epsilons=torch.ones(len(samples)), **settings)  # what is wrong is told before anything is measured
    for plan, wanted in zip(plans, (trial.search, trial.finetune), strict=True):
        if plan is not None and wanted:
            trial.weights(samples, plan)
    threats = [plan.objective.threat() for plan in plans if plan is not None]
    norms = {threat.norm for threat in threats if threat is not None} or {"linf"}
    if len(norms) > 1:
        raise InputError("`--thin-ice` needs one norm, and search and fine-tuning attack in two: choose the same")
    (norm,) = norms
    (measured,) = measure_all(
        [dense], samples, norm=norm, effort=effort, store=weighing.store, device=device, progress=not quiet
    )
    origin = f"{measured.attack}, {norm}, {effort}"
    return ThinIce(epsilons=torch.from_numpy(measured.epsilon.copy()), measured_by=origin, **settings)


def read(
    checkpoint: Path,
    reading: CheckpointOptions,
    retraining: RetrainingOptions,
    say: Messages,
    *,
    trains: bool,
    shrink: bool,
) -> tuple[Classifier, Samples | None]:
    """Return the network and, where it is to be trained or its image size is not known, samples."""
    from thinice.models.loading import refuse_unknown

    (dense,) = load_networks([checkpoint], reading)
    if trains or (shrink and dense.input_shape is None):
        selection = DataOptions(data=retraining.data, split=retraining.split, limit=retraining.limit)
        (dense,), samples = load([checkpoint], reading, selection, say)
        return dense, samples
    refuse_unknown(dense)
    say.notes(dense.name, dense.notes)
    return dense, None
