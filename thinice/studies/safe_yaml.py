"""YAML of strangers: texts, lists and objects with the lines they stand on; nothing is run, nothing grows in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thinice.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from yaml.events import Event
    from yaml.nodes import Node

__all__ = ["Entry", "parse_yaml"]

DEEPEST = 10
"""Lists and objects inside each other."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A value in a YAML file, and where it stands.

    Attributes
    ----------
    value : str, list of Entry, or dict of str to Entry
        Whether a text is a number, a date or a boolean is not YAML's to decide.
    line : int
        The line of its key, or of the value where it has none, from 1.

    """

    value: str | list[Entry] | dict[str, Entry]
    line: int

    def plain(self) -> Any:  # noqa: ANN401 (as deep as the file)
        """Return the value without the lines."""
        if isinstance(self.value, list):
            return [entry.plain() for entry in self.value]
        if isinstance(self.value, dict):
            return {name: entry.plain() for name, entry in self.value.items()}
        return self.value


def parse_yaml(text: str, named: str, form: str) -> Entry:
    r"""Return what a text in YAML holds.

    Parameters
    ----------
    text : str
        The content of a file; empty, it is an empty list.
    named : str
        What errors call the file.
    form : str
        What errors say that it must be.

    Raises
    ------
    InputError
        For what is no YAML, tags, anchors and aliases (which make a small file large), a key that stands twice, and
        deep nesting, each with its line.
    MissingExtraError
        Where PyYAML is not installed.

    Examples
    --------
    >>> entry = parse_yaml("rates: [1, 2]\nbudget: 8/255", "study.yaml", "an object")
    >>> entry.plain(), entry.value["budget"].line
    ({'rates': ['1', '2'], 'budget': '8/255'}, 2)

    """
    try:
        import yaml  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise MissingExtraError(f"reading {named}", "yaml") from error
    try:
        _refuse_knots(yaml.parse(text, Loader=yaml.BaseLoader), named, form)
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{named} is no YAML: {reason}") from None
    return Entry([], 1) if node is None else _entry(node, node.start_mark.line + 1, named)


def _refuse_knots(events: Iterable[Event], named: str, form: str) -> None:
    """Raise `InputError` for YAML that is small on paper and large in memory, before anything is built from it."""
    depth = 0
    for event in events:
        line = f"{named}, line {event.start_mark.line + 1}"
        if getattr(event, "anchor", None) is not None:
            raise InputError(f"{line}: anchors and aliases (& and *) are not read: write the value out")
        if (tag := getattr(event, "tag", None)) is not None:
            raise InputError(f"{line}: tags such as {tag} are not read: leave it out")
        depth += type(event).__name__.endswith("StartEvent") - type(event).__name__.endswith("EndEvent")
        if depth > DEEPEST:
            raise InputError(f"{line}: nested too deeply: it must be {form}")


def _entry(node: Node, line: int, named: str) -> Entry:
    if node.id == "scalar":
        return Entry(node.value, line)
    if node.id == "sequence":
        return Entry([_entry(item, item.start_mark.line + 1, named) for item in node.value], line)
    content: dict[str, Entry] = {}
    for key, value in node.value:
        line_of_key = key.start_mark.line + 1
        if key.id != "scalar":
            raise InputError(f"{named}, line {line_of_key}: a key must be a word, not a list or an object")
        if key.value in content:
            raise InputError(f"{named}, line {line_of_key}: {key.value} stands there more than once: leave one")
        content[key.value] = _entry(value, line_of_key, named)
    return Entry(content, line)
