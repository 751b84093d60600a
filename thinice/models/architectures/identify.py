"""Which architectures a state dict may belong to, told from the names and shapes of its parameters.

That is a hypothesis about a function: pools, strides and activations have no parameters. So the variants of an
architecture come with it, and the published program whose names these are, where they are those of one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from thinice.errors import CheckpointError
from thinice.models.architectures import TORCHVISION, build, find_architecture, known_architectures
from thinice.models.architectures.rebuild import WithoutMemory, signature
from thinice.models.architectures.variants import base_and_variant, source_of, variants_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Identity", "fit", "identify"]

Shapes = Mapping[str, tuple[int, ...]]
PROBE_CLASSES = (7, 11)
"""Two class counts that no fixed layer has: the parameters that differ between them are the classifier."""
PROBE_CHANNELS = (3, 5)
SETTINGS: Mapping[str, tuple[Mapping[str, bool], ...]] = {
    "torchvision:googlenet": ({"aux_logits": False},),
    "torchvision:inception_v3": ({"aux_logits": False},),
}
"""Arguments of builders that leave out parameters: torchvision's own weights come without auxiliary classifiers."""


@dataclass(frozen=True, slots=True)
class Identity:
    """An architecture with the arguments and the number of classes that a state dict has.

    Attributes
    ----------
    architecture : str
        As `build` takes it.
    classes : int
        The number of classes.
    arguments : mapping
        Keywords of the builder.
    alternatives : tuple of str
        Other architectures with the same parameters, which compute something else.
    source : str
        The published program whose parameter names these are; empty where several programs use them.
    """

    architecture: str
    classes: int
    arguments: Mapping[str, Any]
    alternatives: tuple[str, ...] = ()
    source: str = ""


@functools.lru_cache(maxsize=512)
def shapes_of(architecture: str, classes: int, channels: int | None = None, **settings: bool) -> Shapes:
    """Return the shape of every parameter of a registered architecture; the network takes no memory."""
    arguments: dict[str, Any] = settings | ({} if channels is None else {"channels": channels})
    with WithoutMemory():
        return signature(build(architecture, classes, **arguments).state_dict())


def identify(weights: Mapping[str, Tensor], where: str, *, in_file: Iterable[str] | None = None) -> Identity:
    """Return the architecture with exactly these parameter names and shapes, and the others that have them too.

    thinice's own architectures are asked first, then torchvision's; no name of one is the name of another.

    Parameters
    ----------
    weights : mapping of str to Tensor
        Plain weights, by the names of the network.
    where : str
        The file, for messages.
    in_file : iterable of str, optional
        The names of the parameters as the file has them, which may tell more of where it comes from.

    Raises
    ------
    CheckpointError
        None matches: the nearest are named with the first parameters that differ.

    Examples
    --------
    >>> identity = identify(build("torchvision:mobilenet_v2", 10).state_dict(), "mobilenet.th")
    >>> identity.architecture, identity.classes, identity.alternatives[0]
    ('torchvision:mobilenet_v2', 10, 'torchvision:mobilenet_v2:stem-stride-1')
    """
    wanted = signature(weights)
    matches = [match for name in known_architectures() if (match := _match(name, wanted))]
    if not matches:
        names = [name for name in known_architectures(torchvision=True) if name.startswith(TORCHVISION)]
        matches = [match for name in names if (match := _match(name, wanted))]
    if not matches:
        raise CheckpointError(_nearest(wanted, where))
    first = matches[0]
    if any((match.classes, match.arguments) != (first.classes, first.arguments) for match in matches):
        choices = ", ".join(match.architecture for match in matches)
        raise CheckpointError(
            f"{where}: parameters fit several architectures that compute different things: give "
            f"architecture= (--architecture), one of {choices}"
        )
    names = [name for match in matches for name in (match.architecture, *variants_of(match.architecture))]
    source = source_of(first.architecture, first.classes, weights if in_file is None else in_file)
    told = source is not None and len(matches) == 1
    return replace(first, alternatives=tuple(names[1:]), source=source.program if source and told else "")


def fit(weights: Mapping[str, Tensor], architecture: str, classes: int | None = None) -> Identity:
    """Return the classes and channels that make a named architecture fit these parameters as well as it can."""
    find_architecture(architecture)
    wanted = signature(weights)
    return _match(architecture, wanted) or _fit(architecture, wanted, classes or 10)


def _match(name: str, wanted: Shapes) -> Identity | None:
    for settings in SETTINGS.get(base_and_variant(name)[0], ()):
        few, many = (shapes_of(name, number, **settings) for number in PROBE_CLASSES)
        classes = size_that_differs(few, many, wanted) or 0
        if classes >= 2 and shapes_of(name, classes, **settings) == wanted:
            return Identity(name, classes, settings)
    if shapes_of(name, PROBE_CLASSES[0]).keys() != wanted.keys():
        return None
    fitting = _fit(name, wanted, 0)
    if fitting.classes < 2 or shapes_of(name, fitting.classes, fitting.arguments.get("channels")) != wanted:
        return None
    return fitting


def _fit(name: str, wanted: Shapes, otherwise: int) -> Identity:
    few, many = (shapes_of(name, classes) for classes in PROBE_CLASSES)
    classes = size_that_differs(few, many, wanted) or otherwise
    parameters = inspect.signature(find_architecture(name).make).parameters
    if "channels" not in parameters:
        return Identity(name, classes, {})
    few, many = (shapes_of(name, PROBE_CLASSES[0], channels) for channels in PROBE_CHANNELS)
    usual = parameters["channels"].default
    channels = size_that_differs(few, many, wanted) or usual
    return Identity(name, classes, {} if channels == usual else {"channels": channels})


def size_that_differs(few: Shapes, many: Shapes, wanted: Shapes) -> int | None:
    """Return the size that the file has where two builds differ first; ``None`` where it has no such parameter."""
    for name, shape in few.items():
        for axis, (smaller, larger) in enumerate(zip(shape, many[name], strict=True)):
            if smaller != larger:
                sizes = wanted.get(name, ())
                return sizes[axis] if len(sizes) == len(shape) else None
    return None


def _nearest(wanted: Shapes, where: str) -> str:
    scores: dict[str, float] = {}
    for name in known_architectures(torchvision=True):
        shapes = shapes_of(name, PROBE_CLASSES[0])
        same = sum(wanted.get(key) == shape for key, shape in shapes.items())
        named = len(shapes.keys() & wanted.keys())
        scores[name] = (same + named) / (2 * len(shapes.keys() | wanted.keys()))
    best = sorted(scores, key=lambda name: (-scores[name], name))[:3]
    if not wanted or scores[best[0]] == 0:
        first = ", ".join(list(wanted)[:4])
        return (
            f"{where}: {len(wanted)} parameters ({first}, …) resemble no known architecture: give architecture= "
            "(--architecture), also as your own code, FILE.py:CLASS"
        )
    return (
        f"{where}: parameters fit no known architecture; nearest: "
        + "; ".join(f"{name} ({_difference(name, wanted)})" for name in best)
        + ": give architecture= (--architecture), also as your own code, FILE.py:CLASS"
    )


def _difference(name: str, wanted: Shapes) -> str:
    shapes = shapes_of(name, PROBE_CLASSES[0])
    ends = {key for key, shape in shapes_of(name, PROBE_CLASSES[1]).items() if shapes[key] != shape}
    missing = next((key for key in shapes if key not in wanted), None)
    unexpected = next((key for key in wanted if key not in shapes), None)
    differs = next((key for key in shapes if key in wanted and wanted[key] != shapes[key] and key not in ends), None)
    parts = [f"has no {missing}" if missing else "", f"has {unexpected} too" if unexpected else ""]
    if differs:
        parts.append(f"{differs} is {wanted[differs]}, not {shapes[differs]}")
    return "the file " + ", ".join(part for part in parts if part)
