"""`plan_value` returns the recipe and the objective that an option spells out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thinice.cli.train import setting
from thinice.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from thinice.data import Samples
    from thinice.training import Plan

__all__ = ["plan_value"]


def plan_value(text: str, objective: str | None, samples: Samples, say: Callable[[str], object]) -> Plan:
    """Return what text such as ``finetune,epochs=5,learning_rate=0.02`` spells out: a named recipe, some of it changed.

    Without a name it is the recipe ``finetune``. What fits the images is changed too, and told.

    >>> from thinice.data import load_samples
    >>> plan_value("epochs=5,weight_decay=0", None, load_samples("digits"), print).recipe.epochs
    shift 1: recipe 'finetune' moves images of 32 pixels by 4
    flip off: images of digits are not mirrored
    5
    """
    from thinice.training import preset
    from thinice.training.presets import fitting

    first, *rest = (part.strip() for part in re.split(r",(?=[^,]*=)", text))  # commas within a value stay
    name, rest = (first, rest) if "=" not in first else ("finetune", [first, *rest])
    changes: dict[str, object] = {}
    for part in rest:
        for field, value in setting(part, "--finetune").items():
            if field in changes:
                raise InputError(f"`--finetune` {text!r}: {field} is given twice: give it once")
            changes[field] = value
    preset(name, objective=objective, **changes)  # unknown names are told before any fitting is
    fitted, notes = fitting(name, samples, changes)
    for note in notes:
        say(note)
    return preset(name, objective=objective, **fitted)
