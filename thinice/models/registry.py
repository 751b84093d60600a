"""The architectures that can be built by name: thinice's own, and everything torchvision has."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, overload

from torch import nn

from thinice.errors import InputError

__all__ = [
    "TORCHVISION",
    "Architecture",
    "Origin",
    "build",
    "find_architecture",
    "known_architectures",
    "origin_of",
    "register",
]

TORCHVISION = "torchvision:"
Builder = Callable[..., nn.Module]


@dataclass(frozen=True, slots=True)
class Architecture:
    """One row of the registry.

    ``make(classes, **arguments)`` returns a network with fresh weights that takes normalised inputs and gives
    logits; ``input_shape`` is (C, H, W) where only that size makes sense, else ``None``.
    """

    name: str
    make: Builder
    input_shape: tuple[int, int, int] | None = None

    @property
    def summary(self) -> str:
        """The first line of the builder's docstring."""
        return (inspect.getdoc(self.make) or self.name).splitlines()[0]


@dataclass(frozen=True, slots=True)
class Origin:
    """How `build` made a network: what a saved file must say so that it can be built again."""

    architecture: str
    classes: int
    arguments: Mapping[str, Any]
    structure: str


_ROWS: dict[str, Architecture] = {}


@overload
def register(builder: Builder, /) -> Builder: ...
@overload
def register(
    *, name: str | None = None, input_shape: tuple[int, int, int] | None = None
) -> Callable[[Builder], Builder]: ...
def register(
    builder: Builder | None = None,
    /,
    *,
    name: str | None = None,
    input_shape: tuple[int, int, int] | None = None,
) -> Builder | Callable[[Builder], Builder]:
    """Return the builder, entered in the registry under its own name or the given one.

    Used bare, ``@register``, or with facts about the row, ``@register(input_shape=(1, 8, 8))``.
    """

    def enter(make: Builder) -> Builder:
        key = name or make.__name__
        if key in _ROWS:
            raise InputError(f"architecture {key!r} is registered twice: give one of them another `name`")
        _ROWS[key] = Architecture(key, make, input_shape)
        return make

    return enter if builder is None else enter(builder)


def _own() -> Mapping[str, Architecture]:
    importlib.import_module("thinice.models.architectures")  # its import lines fill the table
    return MappingProxyType(_ROWS)


@functools.cache
def _torchvision_names() -> tuple[str, ...]:
    from torchvision import models  # noqa: PLC0415 - importing torchvision costs a second

    return tuple(TORCHVISION + name for name in models.list_models(module=models))


def _make_torchvision(name: str, classes: int, **arguments: Any) -> nn.Module:  # noqa: ANN401 - passed on
    from torchvision import models  # noqa: PLC0415 - importing torchvision costs a second

    with warnings.catch_warnings():  # two of them announce a new initialisation; the weights are replaced anyway
        warnings.filterwarnings("ignore", message="The default weight initialization", category=FutureWarning)
        network: nn.Module = models.get_model(name, weights=None, num_classes=classes, **arguments)
    return network


def known_architectures(*, torchvision: bool = False) -> list[str]:
    """Return the names that `build` knows, sorted; with ``torchvision``, its classification networks too.

    Examples
    --------
    >>> "digits_cnn" in known_architectures()
    True
    """
    return sorted(_own()) + (list(_torchvision_names()) if torchvision else [])


def find_architecture(name: str) -> Architecture:
    """Return the registry row of a name; InputError lists the nearest names where there is none.

    Examples
    --------
    >>> find_architecture("digits_cnn").input_shape
    (1, 8, 8)
    """
    if name in _own():
        return _own()[name]
    if name.startswith(TORCHVISION) and name in _torchvision_names():
        return Architecture(name, functools.partial(_make_torchvision, name.removeprefix(TORCHVISION)))
    known = known_architectures(torchvision=name.startswith(TORCHVISION))
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known
    raise InputError(
        f"`architecture`: {name!r} is not known; nearest: {', '.join(near)} "
        "(also torchvision:NAME, as in torchvision:resnet50)"
    )


def build(name: str, classes: int = 10, **arguments: Any) -> nn.Module:  # noqa: ANN401 - passed to the builder
    """Return a network with fresh weights: (N, C, H, W) normalised inputs to (N, classes) logits.

    Parameters
    ----------
    name
        A name of `known_architectures`, or ``torchvision:NAME``.
    classes
        Number of classes.
    arguments
        Further keywords of the builder, for example ``channels=1``.

    Raises
    ------
    InputError
        An unknown name or argument, or fewer than two classes.

    Examples
    --------
    >>> import torch
    >>> build("digits_cnn", 10)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    row = find_architecture(name)
    if classes < 2:
        raise InputError(f"`classes` must be at least 2, got {classes}")
    known = [key for key in inspect.signature(row.make).parameters if key != "classes"]
    if not name.startswith(TORCHVISION) and (unknown := sorted(set(arguments) - set(known))):
        raise InputError(
            f"`arguments`: {name} does not take {', '.join(unknown)}; it takes {', '.join(known) or 'none'}"
        )
    try:
        network = row.make(classes, **arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"`arguments`: {name} cannot be built with {arguments}: {error}") from error
    network.thinice_origin = Origin(name, classes, arguments, repr(network))  # type: ignore[assignment] # nn.Module declares tensors and modules only
    return network


def origin_of(network: nn.Module) -> Origin | None:
    """Return how `build` made a network, or ``None``: it was not, or its layers were changed since.

    Examples
    --------
    >>> network = build("digits_cnn", 4)
    >>> origin_of(network).classes
    4
    >>> network.fc = nn.Linear(512, 3)
    >>> origin_of(network) is None
    True
    """
    origin = vars(network).get("thinice_origin")
    return origin if isinstance(origin, Origin) and origin.structure == repr(network) else None
