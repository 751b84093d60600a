"""`thinice train`: a network trained by a named recipe, into a checkpoint."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinice.cli.compare import prepare
from thinice.cli.loading import arguments_value, load
from thinice.cli.options import (
    STORE,
    CheckpointOptions,
    DataOptions,
    Device,
    FigureOptions,
    Limit,
    OutputOptions,
    Overwrite,
    StorePath,
    architectures,
    data_sets,
    normalization_value,
    normalizations,
    one_of,
    options,
)
from thinice.cli.output import Messages, put_rows
from thinice.cli.stopping import exit_on_interrupt
from thinice.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thinice import Classifier, Samples
    from thinice.training import Epoch, Plan

__all__ = ["TrainingReporter", "objectives", "plan_value", "recipes", "refuse_test", "setting", "train"]


def recipes() -> str:
    """Return what ``--recipe`` takes: those whose names begin alike together."""
    from thinice.training import RECIPES

    families = Counter(name.partition("-")[0] for name in RECIPES.names())

    def family(name: str) -> str:
        first = name.partition("-")[0]
        return first if families[first] > 1 else ""

    return "; ".join(one_of(names) for _, names in groupby(RECIPES.names(), family))


def objectives() -> str:
    """Return what ``--objective`` takes."""
    from thinice.training import OBJECTIVES

    return one_of(OBJECTIVES.names())


def settings() -> str:
    """Return what ``--set`` takes, besides what objectives have."""
    from thinice.training import Recipe
    from thinice.training.presets import settings_of

    return one_of(settings_of(Recipe))


def objective_settings() -> str:
    """Return what ``--set`` takes of objectives, but for what has an option of its own."""
    from thinice.training import OBJECTIVES
    from thinice.training.presets import settings_of_objective

    names = (setting for name in OBJECTIVES.names() for setting in settings_of_objective(name))
    return one_of(dict.fromkeys(name for name in names if name not in {"budget", "steps"}))


@options
def train(
    *,
    architecture: Annotated[
        str | None,
        typer.Option(
            "--architecture",
            metavar="NAME|FILE.py:CLASS",
            help=f"Architecture of a new network: {architectures()}; or your own code, which is run: "
            "path/to/models.py:ResNet18, package.module:make. With --from, where the file does not say it.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--from", metavar="CHECKPOINT", help="Train this network on instead of a new one; zeros stay."),
    ] = None,
    architecture_args: Annotated[
        str | None,
        typer.Option("--architecture-args", metavar="JSON", help="Arguments of the architecture: '{\"width\": 16}'."),
    ] = None,
    normalization: Annotated[
        str | None,
        typer.Option(
            "--normalization",
            metavar="NAME|MEAN/STD",
            help=f"Normalisation inside a new network: {normalizations()}; or M,M,M/S,S,S. Default: that of the data. "
            "With --from, where the file does not say it.",
        ),
    ] = None,
    data: Annotated[str, typer.Option("--data", metavar="NAME|PATH", help=f"Data set: {data_sets()}.")],
    split: Annotated[str, typer.Option("--split", help="Part of the data set.")] = "train",
    limit: Limit = None,
    image_size: Annotated[
        int | None, typer.Option("--image-size", min=1, help="Side of the images of a folder, in pixels.")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            metavar="RECIPE",
            help=f"How to train: {recipes()}. Changes by other options, or after commas: fast,epochs=5.",
        ),
    ] = "natural",
    objective: Annotated[
        str | None, typer.Option("--objective", help=f"What to minimise instead of the recipe's: {objectives()}.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the data.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Learning rate.")] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="RADIUS", help="Of adversarial objectives: 8/255.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Steps that craft an input, of adversarial ones.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help=f"Any other setting of the recipe ({settings()}) or of the objective ({objective_settings()}). May be "
            "given again.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the initial weights, and all chance.")] = 0,
    device: Device = "auto",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the network by torch.compile; pays in long runs.")
    ] = False,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="The checkpoint.", show_default=True)
    ] = Path("trained.pt"),
    overwrite: Overwrite = False,
    store: StorePath = STORE,
    drawing: FigureOptions,
    printing: OutputOptions,
) -> None:
    """Train a network, and write it to a checkpoint that every other command reads.

    The learning curves go into the store (thinice sql 'from epochs') and into a figure, and what each sample did over
    the epochs into the store (thinice sql 'from dynamics'). After Ctrl-C or a crash the same command goes on after the
    last whole epoch, with the same result. A part of the training samples, never the test samples, chooses which epoch
    is kept, where the recipe says so.
    """
    from thinice import load_samples
    from thinice.numerics import as_number
    from thinice.training.classifiers import train_classifier

    say = Messages(quiet=printing.quiet)
    prepare(drawing.folder)
    if architecture is None and checkpoint is None:
        raise InputError("give --architecture NAME, for a new network, or --from CHECKPOINT, to train one on")
    refuse_test(split)
    network: str | Classifier = architecture or ""
    if checkpoint is None:
        samples = load_samples(data, split=split, limit=limit, image_size=image_size)
        say.notes(samples.name, samples.notes)
    else:
        reading = CheckpointOptions(
            architecture=None if architecture is None else [architecture],
            architecture_args=None if architecture_args is None else [architecture_args],
            normalization=normalization,
        )
        (network,), samples = load([checkpoint], reading, DataOptions(data, split, limit, image_size), say)
        if network.masks is None and network.sparsity:
            say(f"{network.name}: holds no masks: its zeros, {network.sparsity:.1%}, are kept as they are")
        architecture_args = normalization = None
    options_of_their_own: dict[str, object] = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "budget": None if budget is None else as_number(budget, "--budget"),
        "steps": steps,
        "seed": seed or None,
        "compiled": compiled or None,
    }
    changes = {name: value for name, value in options_of_their_own.items() if value is not None}
    for text in change or []:
        changes |= once(setting(text), changes, f"`--set` {text}")
    plan = plan_value(recipe, samples, say, option="--recipe", usual="natural", objective=objective, changes=changes)
    with (
        exit_on_interrupt("The same command goes on after the last whole epoch."),
        redirect_stdout(sys.stderr),  # what the user's own code prints is no number
    ):
        trained = train_classifier(
            network,
            samples,
            plan,
            architecture_args=arguments_value(architecture_args),
            normalization=normalization_value(normalization),
            path=output,
            store=store,
            device=device,
            progress=None if printing.quiet else TrainingReporter(say, plan.recipe.epochs),
            overwrite=overwrite,
        )
    if trained.already:
        say(f"{output} is there already, of this very training: nothing was done; --overwrite trains anew")
    elif drawing.folder is not None:
        from thinice.plots.training import save_training_figure

        files = save_training_figure(trained.history, drawing.folder, name=trained.classifier.name)
        say(f"learning curves in {files[0]}, and in {store}: thinice sql 'from epochs'")
    put_rows([trained.to_dict()], printing.format)


def refuse_test(split: str) -> None:
    """Raise InputError for a part of a data set that holds the samples that networks are measured on."""
    if split in {"test", "all"}:
        what = "is" if split == "test" else "holds"
        raise InputError(
            f"`--split` {split} {what} what networks are measured on: train on another part, such as train"
        )


def plan_value(
    text: str,
    samples: Samples,
    say: Callable[[str], object],
    *,
    option: str,
    usual: str,
    objective: str | None = None,
    changes: Mapping[str, object] | None = None,
) -> Plan:
    """Return what text such as ``finetune,epochs=5,learning_rate=0.02`` spells out: a named recipe, some of it changed.

    Without a name it is the `usual` recipe. `changes` are those that other options make. What fits the images is
    changed too, and told.

    >>> from thinice.data import load_samples
    >>> digits = load_samples("digits")
    >>> plan_value("epochs=5,weight_decay=0", digits, print, option="--finetune", usual="finetune").recipe.epochs
    shift 1: recipe 'finetune' moves images of 32 pixels by 4
    flip off: images of digits are not mirrored
    5
    """
    from thinice.training.presets import fitted_preset

    first, *rest = (part.strip() for part in re.split(r",(?=[^,]*=)", text))  # commas within a value stay
    name, rest = (first, rest) if "=" not in first else (usual, [first, *rest])
    changes = dict(changes or {})
    for part in rest:
        changes |= once(setting(part, option), changes, f"`{option}` {text!r}")
    plan, notes = fitted_preset(name, samples, objective=objective, **changes)
    for note in notes:
        say(note)
    return plan


def once(added: Mapping[str, object], changes: Mapping[str, object], option: str) -> Mapping[str, object]:
    """Return what an option adds, or raise InputError where it is among the changes already."""
    for name in added:
        if name in changes:
            raise InputError(f"{option}: {name} is given twice: give it once")
    return added


WORDS = {"true": True, "false": False, "none": None}


def setting(text: str, option: str = "--set") -> dict[str, object]:
    """Return the name and the value that ``NAME=VALUE`` of an option gives.

    >>> setting("milestones=0.4,0.75"), setting("flip=false"), setting("step-size=2/255")["step_size"] * 255
    ({'milestones': (0.4, 0.75)}, {'flip': False}, 2.0)
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise InputError(f"`{option}` takes NAME=VALUE, such as momentum=0.8, got {text!r}")
    name = name.strip().replace("-", "_")
    if name == "objective":
        raise InputError(f"`{option}` changes settings, and the objective is none: give --objective {value.strip()}")
    return {name: _value(value.strip())}


def _value(text: str) -> object:
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if "," in text:
        return tuple(_value(part.strip()) for part in text.split(",") if part.strip())
    try:
        return int(text)
    except ValueError:
        pass
    from thinice.numerics import as_number

    try:
        return as_number(text, "--set")
    except InputError:
        return text


REDRAWN = 0.1
"""Seconds between two looks of a line that is rewritten."""


@dataclass(frozen=True, slots=True)
class Steps:
    """A moment within an epoch, as `thinice.engines.progress` shows it."""

    title: str
    done: int
    total: int
    text: str

    @property
    def line(self) -> str:
        """The title and the text."""
        return f"{self.title}: {self.text}"


class TrainingReporter:
    """Says one line an epoch, with the time that is left at the mean speed so far, and how far a long epoch is."""

    def __init__(self, say: Messages, epochs: int = 0) -> None:
        from thinice.engines.progress import auto_reporter

        self.say = say
        self.show_steps = auto_reporter()
        self.rewritten = sys.stderr.isatty()
        self.begin("", epochs)

    def begin(self, stage: str, epochs: int) -> None:
        """Begin another training of so many epochs, which lines name where it has a name."""
        self.stage, self.epochs = f"{stage}, " if stage else "", epochs
        self.start, self.first, self.shown = time.monotonic(), 0, 0.0

    def __call__(self, epoch: Epoch) -> None:
        """Say what came out of an epoch."""
        self.first = self.first or epoch.number
        rest = self._left(epoch.number - self.first + 1, self.epochs - epoch.number)
        left = f", {rest} left" if epoch.number < self.epochs else ""
        parts = [f"loss {epoch.loss:.3f}", f"accuracy {epoch.accuracy:.1%}"]
        if epoch.validation_accuracy is not None:
            parts.append(f"held out {epoch.validation_accuracy:.1%}")
        if epoch.robust_accuracy is not None:
            parts.append(f"robust {epoch.robust_accuracy:.1%}")
        if self.shown and self.rewritten:
            sys.stderr.write("\r\x1b[2K")
        self.say(f"{self.stage}epoch {epoch.number}/{self.epochs}{left}: {', '.join(parts)}")

    def step(self, number: int, done: int, steps: int) -> None:
        """Show how far an epoch is."""
        self.first = self.first or number
        now = time.monotonic()
        if done == steps or now - self.shown < REDRAWN:
            return
        self.shown = now
        steps_done = (number - self.first) * steps + done
        total = self.epochs * steps
        rest = self._left(steps_done, total - (number - 1) * steps - done)
        text = f"{done}/{steps} steps, {rest} left"
        self.show_steps(Steps(f"{self.stage}epoch {number}/{self.epochs}", done, steps, text))

    def _left(self, done: int, rest: int) -> str:
        from thinice.engines.progress import duration

        return duration((time.monotonic() - self.start) / done * rest)
