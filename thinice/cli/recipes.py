"""`recipe_value` returns the recipe that an option spells out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from thinice.errors import InputError

if TYPE_CHECKING:
    from thinice.training import Recipe

__all__ = ["recipe_value"]

WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None}


def recipe_value(text: str) -> Recipe:
    """Return the recipe that text such as ``epochs=5,learning_rate=0.01`` spells out.

    >>> recipe_value("epochs=5,learning_rate=0.01,flip=true").flip
    True
    """
    from thinice.training import Recipe

    known = {field.name: field for field in fields(Recipe)}
    values: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value or name not in known:
            raise InputError(f"`--finetune` {text!r}: {part.strip()!r} is no FIELD=VALUE: there are {', '.join(known)}")
        if name in values:
            raise InputError(f"`--finetune` {text!r}: {name} is given twice: give it once")
        values[name] = _value(value)
    missing = [
        name
        for name, field in known.items()
        if field.default is MISSING and field.default_factory is MISSING and name not in values
    ]
    if missing:
        raise InputError(f"`--finetune` {text!r} does not say {missing[0]}: add {missing[0]}=5, say")
    return Recipe(**values)


def _value(text: str) -> object:
    if text.casefold() in WORDS:
        return WORDS[text.casefold()]
    kinds: tuple[Callable[[str], int | float], ...] = (int, float)
    for kind in kinds:
        with suppress(ValueError):
            return kind(text)
    return text
