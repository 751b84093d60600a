"""`EntryReader` turns entries of a YAML file into values; what is wrong with one is told with its file and line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from math import isfinite
from typing import Any

from thinice.errors import DataError, InputError
from thinice.registry import did_you_mean, similar_names
from thinice.studies.safe_yaml import Entry

__all__ = ["EntryReader", "Setting"]

Setting = str | int | float | bool | None | tuple[Any, ...]
"""What a setting of a recipe, a method or an attack can be."""


class EntryReader:
    """Checks entries of one file.

    Parameters
    ----------
    named : str
        What errors call the file: they begin with it and the line.
    meanings : mapping of str to str
        What each key that may be missing stands for.

    """

    def __init__(self, named: str, meanings: Mapping[str, str]) -> None:
        self.named, self.meanings = named, meanings

    def keys(self, entry: Entry, key: str, known: Sequence[str] | None, *, needed: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of an object, after a look at their names; `known` None means that others check them."""
        if not isinstance(entry.value, dict):
            listed = f", with {', '.join(needed)}" if needed else ""
            raise self.error(entry, f"`{key}` must be an object, {{key: value}}{listed}")
        for name, item in entry.value.items():
            if known is not None and name not in known:
                raise self.error(item, f"`{name}` is no key here: {did_you_mean(name, known)}")
        for name in needed:
            if name not in entry.value:
                misspelt = similar_names(name, [given for given in entry.value if given not in needed])
                if misspelt:
                    line = entry.value[misspelt[0]]
                    raise self.error(line, f"`{misspelt[0]}` is no key here: did you mean {name}?")
                raise self.error(entry, f"`{name}` is missing: {self.meanings[name]}")
        return entry.value

    def items(self, entry: Entry, key: str) -> list[Entry]:
        """Return the entries of a list that is not empty."""
        if not isinstance(entry.value, list) or not entry.value:
            got = "an empty one" if entry.value in ([], "") else "one value"
            if isinstance(entry.value, dict):
                got = "an object"
            raise self.error(entry, f"`{key}` must be a list, such as [first, second], got {got}")
        return entry.value

    def text(self, entry: Entry, key: str) -> str:
        """Return a text that is not empty."""
        if not isinstance(entry.value, str) or not entry.value.strip():
            got = "nothing" if isinstance(entry.value, str) else "a list or an object"
            raise self.error(entry, f"`{key}` must be one value, got {got}")
        return entry.value.strip()

    def number(self, entry: Entry, key: str) -> float:
        """Return a finite number, which may be written as a quotient."""
        text = self.text(entry, key)
        value = _fraction(text)
        if value is None:
            raise self.error(entry, f"`{key}` must be a number such as 2, 0.5 or 8/255, got {text!r}")
        return value

    def whole(self, entry: Entry, key: str, *, least: int) -> int:
        """Return a whole number of at least `least`."""
        text = self.text(entry, key)
        if re.fullmatch(r"\d{1,18}", text) is None or int(text) < least:
            raise self.error(entry, f"`{key}` must be a whole number of at least {least}, got {text!r}")
        return int(text)

    def setting(self, entry: Entry) -> Setting:
        """Return what a setting's text stands for: a number, true or false, none, several of them, or a word."""
        if isinstance(entry.value, dict):
            raise self.error(entry, "a setting must be a value or a list of them, not an object")
        if isinstance(entry.value, list):
            return tuple(self.setting(item) for item in entry.value)
        text = entry.value.strip()
        words = {"true": True, "false": False, "none": None, "null": None}
        if text.casefold() in words:
            return words[text.casefold()]
        if re.fullmatch(r"[-+]?\d{1,18}", text):
            return int(text)
        value = _fraction(text)
        return text if value is None else value

    @contextmanager
    def at(self, entry: Entry) -> Iterator[None]:
        """Add file and line to what is wrong with a value."""
        try:
            yield
        except (InputError, DataError) as error:
            if str(error).startswith(self.named):
                raise
            raise self.error(entry, str(error)) from None

    def error(self, entry: Entry, reason: str) -> InputError:
        """Return an error that begins with the file and the line of an entry."""
        return InputError(f"{self.named}, line {entry.line}: {reason}")


def _fraction(text: str) -> float | None:
    """Return the number that a text is, also over another one: 0.125/255; None where it is none.

    >>> _fraction("8/255") == 8 / 255, _fraction("0.125/255") == 0.125 / 255, _fraction("1/0"), _fraction("1e999")
    (True, True, None, None)
    """
    over, slash, under = text.replace(" ", "").partition("/")
    numbers = [over, under] if slash else [over]
    if not all(re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", number) for number in numbers):
        return None
    try:
        value = float(Fraction(over) / Fraction(under if slash else 1))
    except (ZeroDivisionError, OverflowError):
        return None
    return value if isfinite(value) else None
