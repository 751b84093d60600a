"""Names and what they stand for: imported when asked, so that listing the names costs no import."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, fields
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

from thinice.errors import InputError, ThinIceError

__all__ = ["Registry", "added", "did_you_mean", "similar_names", "told_settings"]

T = TypeVar("T")
Made = TypeVar("Made")


def similar_names(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """Return up to three names that are spelt like one that is not known, the most similar first.

    >>> similar_names("methd", ["name", "method", "scope"])
    ['method']
    """
    spellings = {each.casefold(): each for each in known}
    return [spellings[spelling] for spelling in get_close_matches(name.casefold(), spellings, n=3, cutoff=cutoff)]


def did_you_mean(name: str, known: Iterable[str], *, listed: str = "") -> str:
    """Return how a name that is not known may have been meant, as the end of an error; all names where none is near.

    Where something that is `listed` tells all names, the three nearest stand for them.

    >>> did_you_mean("sqare", ["circle", "square"]), did_you_mean("x", ["circle", "square"])
    ('did you mean square?', 'choose from circle, square')
    >>> did_you_mean("oval", ["circle", "square", "triangle", "rhombus"], listed="geometry --help")
    'the nearest of 4 are triangle, square, circle; geometry --help lists all'
    """
    names = list(known)
    near = similar_names(name, names)
    if near:
        return f"did you mean {' or '.join(near)}?"
    if listed:
        nearest = similar_names(name, names, cutoff=0.0)
        return f"the nearest of {len(names)} are {', '.join(nearest)}; {listed} lists all"
    return f"choose from {', '.join(names)}"


class Registry(Generic[T]):
    """A table of names: what each stands for, one line about it for help texts, and its kind where there are several.

    Parameters
    ----------
    argument : str
        The argument whose values the names are: errors name it.
    rows : mapping of str to (target, summary) or (target, summary, kind)
        A target is the object itself, or ``"package.module:object"``, which is imported when it is asked for.
    error : type of ThinIceError
        Raised for a name that is not in the table.
    listed : str
        What lists the names, where they are too many for an error.

    Examples
    --------
    >>> shapes = Registry("shape", {"circle": ("math:tau", "all round"), "square": (4.0, "four corners")})
    >>> shapes.names()
    ('circle', 'square')
    >>> shapes.get("square"), round(shapes.get("circle"), 2)
    (4.0, 6.28)
    >>> shapes.get("sqare")
    Traceback (most recent call last):
    ...
    thinice.errors.InputError: `shape` 'sqare' is unknown: did you mean square?

    """

    def __init__(
        self,
        argument: str,
        rows: Mapping[str, tuple[str | T, str] | tuple[str | T, str, str]] | None = None,
        *,
        error: type[ThinIceError] = InputError,
        listed: str = "",
    ) -> None:
        self.argument = argument
        self.error = error
        self.listed = listed
        self.rows: dict[str, tuple[str | T, str, str]] = {}
        for name, row in (rows or {}).items():
            self.add(name, *row)

    def names(self, *kinds: str) -> tuple[str, ...]:
        """Return the names of some kinds, or all where none is given, in the order in which they were added.

        Examples
        --------
        >>> shapes = Registry("shape", {"disc": ("math:tau", "", "flat"), "ball": ("math:pi", "", "solid")})
        >>> shapes.names("solid"), shapes.names()
        (('ball',), ('disc', 'ball'))

        """
        return tuple(name for name, row in self.rows.items() if not kinds or row[2] in kinds)

    def summaries(self) -> dict[str, str]:
        """Return the line about each name; nothing is imported."""
        return {name: row[1] for name, row in self.rows.items()}

    def get(self, name: str, /) -> T:
        """Return what a name stands for, imported now if it was not before.

        Raises
        ------
        ThinIceError
            The registry's own error where the name is unknown (it tells the nearest names), or cannot be imported.
            A `MissingExtraError` of the module passes through.

        """
        if name not in self.names():
            raise self.error(
                f"`{self.argument}` {name!r} is unknown: {did_you_mean(str(name), self.rows, listed=self.listed)}"
            )
        target = self.rows[name][0]
        if not isinstance(target, str):
            return target
        module, _, attribute = target.partition(":")
        try:
            return cast("T", getattr(import_module(module), attribute))
        except ThinIceError:
            raise
        except (ImportError, AttributeError) as error:
            raise self.error(f"`{self.argument}` {name!r} cannot be loaded from {target}: {error}") from error

    def make(self: Registry[Callable[..., Made]], name: str, /, **settings: object) -> Made:
        """Return what the class or function behind a name makes of these settings.

        Raises
        ------
        ThinIceError
            As in `get`; InputError for a setting that it does not take, naming those that it takes.

        Examples
        --------
        >>> Registry("number", {"fraction": ("fractions:Fraction", "exact")}).make("fraction", numerator=3)
        Fraction(3, 1)

        """
        factory = self.get(name)
        known = self.settings(name)
        unknown = [setting for setting in settings if setting not in known]
        kinds = {parameter.kind for parameter in inspect.signature(factory).parameters.values()}
        if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise InputError(
                f"`{self.argument}` {name!r} has no setting {unknown[0]!r}: it has {', '.join(known) or 'none'}"
            )
        return factory(**settings)

    def settings(self: Registry[Callable[..., Made]], name: str, /) -> dict[str, inspect.Parameter]:
        """Return what `make` takes for a name, in the order of the alphabet.

        Examples
        --------
        >>> list(Registry("number", {"fraction": ("fractions:Fraction", "exact")}).settings("fraction"))
        ['denominator', 'numerator']

        """
        parameters = inspect.signature(self.get(name)).parameters
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        own = sorted(setting for setting in parameters if not setting.startswith("_"))
        return {setting: parameters[setting] for setting in own if parameters[setting].kind in named}

    def add(self, name: str, target: str | T, summary: str = "", kind: str = "") -> None:
        """Enter one more name.

        Raises
        ------
        InputError
            The name is taken, or a target in text is not ``"package.module:object"``.

        Examples
        --------
        >>> shapes = Registry("shape")
        >>> shapes.add("circle", "math:tau", "all round")
        >>> shapes
        <Registry of `shape`: circle>

        """
        if name in self.rows:
            raise InputError(f"`{self.argument}` {name!r} is taken: choose another name")
        if isinstance(target, str) and not all(target.partition(":")):
            raise InputError(f"`target` of {self.argument} {name!r} must be 'package.module:object', got {target!r}")
        self.rows[name] = (target, summary, kind)

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __repr__(self) -> str:
        return f"<Registry of `{self.argument}`: {', '.join(self.rows) or 'empty'}>"


def added(default: T) -> T:
    """Return the field of a setting that older versions of a dataclass do not have: files tell it where it is in use.

    So what was made before it was there, and is made in the same way, stays the same to `told_settings`.
    """
    return field(default=default, metadata={"added": True})


def told_settings(thing: Any) -> dict[str, Any]:  # noqa: ANN401 - of any dataclass
    """Return what files tell of a dataclass: its settings by name, without those `added` that are at their default.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Circle:
    ...     radius: float
    ...     colour: str = added("black")
    >>> told_settings(Circle(2.0)), told_settings(Circle(2.0, "red"))
    ({'radius': 2.0}, {'radius': 2.0, 'colour': 'red'})

    """
    settings = [(row, getattr(thing, row.name)) for row in fields(thing) if row.init]
    return {row.name: value for row, value in settings if not (row.metadata.get("added") and value == row.default)}
