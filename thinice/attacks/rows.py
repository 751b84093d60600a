"""What the registry knows of an attack: one row of its kind, declared in the attack's own file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any, ClassVar, Literal

from thinice.attacks.result import Candidates
from thinice.types import NORMS, Effort, Norm

__all__ = [
    "Backend",
    "BudgetSearch",
    "FixedBudgetRow",
    "MinNormRow",
    "SearchFunction",
    "Setting",
    "keyword_defaults",
]

Setting = str | int | float | bool | None
"""What a setting can be: whatever JSON can store."""

SearchFunction = Callable[..., Candidates]
"""``search(model, inputs, labels, sample_ids, *, norm, seed, **settings)``, only ever called with samples that are
classified correctly, and with at least one. At a fixed budget all keywords are bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MinNormRow:
    """An attack that minimises a norm.

    Attributes
    ----------
    search
        The function that searches.
    version
        Recorded with the settings; raised when the same settings give another result.
    defaults
        The settings and their values.
    efforts
        The settings that each effort replaces.
    ranges
        The least and the greatest value of the settings that are numbers.
    norms
        The norms that it can minimise.
    recorded
        What else is recorded with the settings but cannot be set, such as the version of a library.
    tune
        Searches the settings for a network on samples that are not evaluated: as of `thinice.attacks.ho_fmn.tune`.
        None where there is nothing to tune.
    published
        Whether the settings are those of a published study: `thinice.evaluate` adds no fall-back to them.

    """

    kind: ClassVar[Literal["minimum norm"]] = "minimum norm"
    search: SearchFunction
    version: int
    defaults: Mapping[str, Setting]
    efforts: Mapping[Effort, Mapping[str, Setting]]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    norms: tuple[Norm, ...] = NORMS
    recorded: Mapping[str, Setting] = field(default_factory=dict)
    tune: Callable[..., Any] | None = None
    published: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSearch:
    """One search within a ball, with all its settings bound.

    Attributes
    ----------
    name
        Of the attack; what the store names as the breaker of a sample.
    search
        ``search(model, inputs, labels, sample_ids)``.
    black_box
        Whether it works without gradients.
    recorded
        What is recorded of it with the settings of the whole attack.

    """

    name: str
    search: SearchFunction
    black_box: bool = False
    recorded: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedBudgetRow:
    """An attack that looks for adversarials within a ball, alone or as several searches in turn.

    Attributes
    ----------
    searches
        Called as ``searches(norm=…, budget=…, seed=…, classes=…, shape=…, **settings)`` with the radius, the number of
        classes and the shape of one input; returns the searches in their order.
    version
        Recorded with the settings; raised when the same settings give another result.
    norms
        The norms whose ball it keeps to.
    defaults
        The settings and their values.
    recorded
        What else is recorded with the settings but cannot be set.

    """

    kind: ClassVar[Literal["fixed budget"]] = "fixed budget"
    searches: Callable[..., Sequence[BudgetSearch]]
    version: int
    norms: tuple[Norm, ...]
    defaults: Mapping[str, Setting] = field(default_factory=dict)
    recorded: Mapping[str, Setting] = field(default_factory=dict)


Backend = Callable[[str], MinNormRow | FixedBudgetRow]
"""Takes the name of another library's attack to its row."""


def keyword_defaults(function: Callable[..., Any], *, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the keywords of a function that have a default, with their defaults.

    >>> def attack(model, *, norm, seed=0, steps=100): ...
    >>> keyword_defaults(attack, skip=("seed",))
    {'steps': 100}
    """
    parameters = signature(function).parameters.values()
    return {
        item.name: item.default for item in parameters if item.default is not Parameter.empty and item.name not in skip
    }
