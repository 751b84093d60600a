"""The architectures that can be built by name: thinice's own, and everything torchvision has."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thinice.errors import CheckpointError, InputError

__all__ = [
    "TORCHVISION",
    "Architecture",
    "Identity",
    "Origin",
    "WithoutMemory",
    "build",
    "find_architecture",
    "fit",
    "identify",
    "known_architectures",
    "origin_of",
    "register",
    "signature",
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
FILES = ("preact_resnet", "resnet", "small_cnns", "vgg", "wide_resnet")


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
    for file in FILES:
        importlib.import_module(f"{__name__}.{file}")  # its decorators fill the table
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


Shapes = Mapping[str, tuple[int, ...]]
PROBE_CLASSES = (7, 11)
"""Two class counts that no fixed layer has: what differs between them is the classifier."""
PROBE_CHANNELS = (3, 5)
MOST_CALLS = 50_000
"""torch's functions called while one network is built: the largest of torchvision call 10 000."""
MOST_REAL = 10_000_000
"""Numbers of a tensor of zeros or ones that a network may look at while it is built."""
FILLERS = {
    "normal_",
    "uniform_",
    "fill_",
    "zero_",
    "erfinv_",
    "mul_",
    "add_",
    "clamp_",
    "kaiming_uniform_",
    "kaiming_normal_",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """An architecture with the arguments and the number of classes that a state dict has."""

    architecture: str
    classes: int
    arguments: Mapping[str, Any]


class WithoutMemory(TorchFunctionMode):
    """Networks built inside have parameters without content; what they compute of shapes stays real.

    What a file says may mean a giant: one that takes too many steps to build is refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise InputError(f"`arguments` ask for a network of more than {MOST_CALLS} steps: give the usual ones")
        options = dict(kwargs or {})
        filled = args[0] if args else options.get("tensor")
        if getattr(func, "__name__", "") in FILLERS and isinstance(filled, Tensor) and filled.is_meta:
            return filled  # to initialise what has no content would take longer than all the rest
        if func is torch.empty or (func in {torch.zeros, torch.ones} and _numbers(args) > MOST_REAL):
            options["device"] = "meta"
        return func(*args, **options)


def _numbers(sizes: Any) -> int:  # noqa: ANN401 - one size, several, or a sequence
    """Return how many numbers a tensor of these sizes has."""
    return math.prod(sizes[0] if sizes and not isinstance(sizes[0], int) else sizes)


@functools.lru_cache(maxsize=512)
def _shapes(architecture: str, classes: int, channels: int | None = None) -> Shapes:
    arguments = {} if channels is None else {"channels": channels}
    with WithoutMemory():
        return signature(build(architecture, classes, **arguments).state_dict())


def signature(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by name, without the counters of batch norm, which old files lack.

    Examples
    --------
    >>> signature(torch.nn.BatchNorm1d(2).state_dict())
    {'weight': (2,), 'bias': (2,), 'running_mean': (2,), 'running_var': (2,)}
    """
    return {name: tuple(value.shape) for name, value in weights.items() if not name.endswith("num_batches_tracked")}


def identify(weights: Mapping[str, Tensor], where: str) -> Identity:
    """Return the one architecture with exactly these parameter names and shapes.

    thinice's own architectures are asked first, then torchvision's; no name of one is the name of another.

    Raises
    ------
    CheckpointError
        Several match, or none: then the nearest are named with the first parameters that differ.

    Examples
    --------
    >>> identity = identify(build("resnet20", 10).state_dict(), "resnet20.th")
    >>> identity.architecture, identity.classes
    ('resnet20', 10)
    """
    wanted = signature(weights)
    matches = [match for name in known_architectures() if (match := _match(name, wanted))]
    if not matches:
        known = [name for name in known_architectures(torchvision=True) if name.startswith(TORCHVISION)]
        matches = [match for name in known if (match := _match(name, wanted))]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = ", ".join(match.architecture for match in matches)
        raise CheckpointError(
            f"{where}: parameters fit several architectures that compute different things: give "
            f"architecture= (--architecture), one of {names}"
        )
    raise CheckpointError(_nearest(wanted, where))


def fit(weights: Mapping[str, Tensor], architecture: str, classes: int | None = None) -> Identity:
    """Return the classes and channels that make a named architecture fit these parameters as well as it can."""
    find_architecture(architecture)
    return _fit(architecture, signature(weights), classes or 10)


def _match(name: str, wanted: Shapes) -> Identity | None:
    if _shapes(name, PROBE_CLASSES[0]).keys() != wanted.keys():
        return None
    fitting = _fit(name, wanted, 0)
    if fitting.classes < 2 or _shapes(name, fitting.classes, fitting.arguments.get("channels")) != wanted:
        return None
    return fitting


def _fit(name: str, wanted: Shapes, otherwise: int) -> Identity:
    few, many = (_shapes(name, classes) for classes in PROBE_CLASSES)
    classes = _size_where_different(few, many, wanted) or otherwise
    parameters = inspect.signature(find_architecture(name).make).parameters
    if "channels" not in parameters:
        return Identity(name, classes, {})
    few, many = (_shapes(name, PROBE_CLASSES[0], channels) for channels in PROBE_CHANNELS)
    usual = parameters["channels"].default
    channels = _size_where_different(few, many, wanted) or usual
    return Identity(name, classes, {} if channels == usual else {"channels": channels})


def _size_where_different(one: Shapes, other: Shapes, wanted: Shapes) -> int | None:
    """Return the size that the file has where two builds differ first; ``None`` where it has no such parameter."""
    for name, shape in one.items():
        for axis, (first, second) in enumerate(zip(shape, other[name], strict=True)):
            if first != second:
                found = wanted.get(name, ())
                return found[axis] if len(found) == len(shape) else None
    return None


def _nearest(wanted: Shapes, where: str) -> str:
    scores: dict[str, float] = {}
    for name in known_architectures(torchvision=True):
        shapes = _shapes(name, PROBE_CLASSES[0])
        same = sum(wanted.get(key) == shape for key, shape in shapes.items())
        named = len(shapes.keys() & wanted.keys())
        scores[name] = (same + named) / (2 * len(shapes.keys() | wanted.keys()))
    best = sorted(scores, key=lambda name: (-scores[name], name))[:3]
    if not wanted or scores[best[0]] == 0:
        first = ", ".join(list(wanted)[:4])
        return f"{where}: {len(wanted)} parameters ({first}, …) resemble no known architecture: give architecture="
    return (
        f"{where}: parameters fit no known architecture; nearest: "
        + "; ".join(f"{name} ({_difference(name, wanted)})" for name in best)
        + ": give architecture= (--architecture), or register yours with thinice.models.register"
    )


def _difference(name: str, wanted: Shapes) -> str:
    shapes = _shapes(name, PROBE_CLASSES[0])
    ends = {key for key, shape in _shapes(name, PROBE_CLASSES[1]).items() if shapes[key] != shape}
    missing = next((key for key in shapes if key not in wanted), None)
    unexpected = next((key for key in wanted if key not in shapes), None)
    differs = next((key for key in shapes if key in wanted and wanted[key] != shapes[key] and key not in ends), None)
    parts = [f"has no {missing}" if missing else "", f"has {unexpected} too" if unexpected else ""]
    if differs:
        parts.append(f"{differs} is {wanted[differs]}, not {shapes[differs]}")
    return "the file " + ", ".join(part for part in parts if part)
