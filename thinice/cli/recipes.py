"""What `thinice train` and `thinice prune` share: recipes and objectives as options name them, and a line an epoch."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from thinice.cli.options import one_of
from thinice.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thinice.cli.output import Messages
    from thinice.data import Samples
    from thinice.training import Epoch, Plan

__all__ = ["Objective", "fitted_plan", "plan_value", "recipes", "refuse_test_samples", "reporter", "setting"]


def recipes() -> str:
    """Return what ``--recipe`` takes."""
    from thinice.training import RECIPES

    return one_of(RECIPES.names())


def objectives() -> str:
    """Return what ``--objective`` takes."""
    from thinice.training import OBJECTIVES

    return one_of(OBJECTIVES.names())


Objective: TypeAlias = Annotated[
    str | None, typer.Option("--objective", help=f"What to minimise instead of the recipe's: {objectives()}.")
]


def plan_value(text: str, objective: str | None, samples: Samples, say: Callable[[str], object]) -> Plan:
    """Return what text such as ``finetune,epochs=5,learning_rate=0.02`` spells out: a named recipe, some of it changed.

    Without a name it is the recipe ``finetune``. What fits the images is changed too, and told.

    >>> from thinice.data import load_samples
    >>> plan_value("epochs=5,weight_decay=0", None, load_samples("digits"), print).recipe.epochs
    shift 1: recipe 'finetune' moves images of 32 pixels by 4
    flip off: digits of digits are not mirrored
    5
    """
    first, *rest = (part.strip() for part in text.split(","))
    name, rest = (first, rest) if "=" not in first else ("finetune", [first, *rest])
    changes: dict[str, object] = {}
    for part in rest:
        for field, value in setting(part).items():
            if field in changes:
                raise InputError(f"`--finetune` {text!r}: {field} is given twice: give it once")
            changes[field] = value
    return fitted_plan(name, objective, samples, changes, say)


def fitted_plan(
    recipe: str, objective: str | None, samples: Samples, changes: Mapping[str, Any], say: Callable[[str], object]
) -> Plan:
    """Return a named recipe with its objective, some of it changed, after telling what is changed to fit the images."""
    from thinice.training import preset
    from thinice.training.presets import fitting

    preset(recipe, objective=objective, **changes)  # unknown names are told before any fitting is
    fitted, notes = fitting(recipe, samples, changes)
    for note in notes:
        say(note)
    return preset(recipe, objective=objective, **fitted)


WORDS = {"true": True, "false": False, "none": None}


def refuse_test_samples(split: str) -> None:
    """Refuse to train on the samples that networks are measured on."""
    if split == "test":
        raise InputError("`--split` test is what networks are measured on: train on another part, such as train")


def setting(text: str) -> dict[str, object]:
    """Return the name and the value that ``--set NAME=VALUE`` gives.

    >>> setting("milestones=0.4,0.75"), setting("flip=false"), setting("step-size=2/255")["step_size"] * 255
    ({'milestones': (0.4, 0.75)}, {'flip': False}, 2.0)
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise InputError(f"`--set` takes NAME=VALUE, such as momentum=0.8, got {text!r}")
    name = name.strip().replace("-", "_")
    if name == "objective":
        raise InputError(f"`--set` changes settings, and the objective is none: give --objective {value.strip()}")
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
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        return text


def reporter(say: Messages, epochs: int) -> Callable[[Epoch], None]:
    """Return what says one line an epoch, with the time that is left at the mean speed so far."""
    from thinice.engines.progress import duration

    start, first = time.monotonic(), 0

    def report(epoch: Epoch) -> None:
        nonlocal first
        first = first or epoch.number
        seconds = (time.monotonic() - start) / (epoch.number - first + 1)
        left = f", {duration(seconds * (epochs - epoch.number))} left" if epoch.number < epochs else ""
        parts = [f"loss {epoch.loss:.3f}", f"accuracy {epoch.accuracy:.1%}"]
        if epoch.validation_accuracy is not None:
            parts.append(f"held out {epoch.validation_accuracy:.1%}")
        if epoch.robust_accuracy is not None:
            parts.append(f"robust {epoch.robust_accuracy:.1%}")
        say(f"epoch {epoch.number}/{epochs}{left}: {', '.join(parts)}")

    return report
