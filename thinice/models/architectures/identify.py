"""Which architecture a state dict belongs to, told from the names and shapes of its parameters."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from thinice.errors import CheckpointError, InputError
from thinice.models.architectures import (
    TIMM,
    TORCHVISION,
    build,
    find_architecture,
    known_architectures,
    with_options,
)
from thinice.models.architectures.families import Member, family_members, nearest_member
from thinice.models.architectures.rebuild import WithoutMemory, signature
from thinice.models.architectures.torchvision_marks import plausible
from thinice.models.architectures.variants import base_and_variant, has_namesake, source_of, variants_of
from thinice.models.pickles import plain
from thinice.models.wrappers import shared_prefix

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["WAYS_IN", "Identity", "fit", "identify", "several"]

WAYS_IN = (
    "give your own code (--architecture models.py:Net, or architecture='models.py:Net'), load an ONNX file instead "
    "(torch.onnx.export(net, (torch.zeros(1, 3, 32, 32),), 'net.onnx', dynamo=False)), or pass "
    "thinice.as_classifier(net) in Python"
)
"""What works for every network, whatever its file holds."""
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
    names : mapping of str to str
        The network's name of each parameter, by the file's; empty where they are the same.
    remarks : tuple of str
        What a user should know: whose names these are, where it is narrower, what lies beside it.
    """

    architecture: str
    classes: int
    arguments: Mapping[str, Any]
    alternatives: tuple[str, ...] = ()
    source: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def renamed(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights by the names of the network, without those that are not its own."""
        if not self.names:
            return dict(weights)
        return {self.names[name]: value for name, value in weights.items() if name in self.names}


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
        matches = [match for name in plausible(wanted) if (match := _match(name, wanted))]
    if not matches:
        identity = _of_family(family_members(weights)) or _under_prefix(
            weights, where, lambda inner: identify(inner, where, in_file=in_file)
        )
        if identity is None:
            raise CheckpointError(_nearest(weights, where))
        return identity
    first = matches[0]
    if any((match.classes, match.arguments) != (first.classes, first.arguments) for match in matches):
        raise several(where, [match.architecture for match in matches])
    source = source_of(first.architecture, first.classes, weights if in_file is None else in_file)
    program = source.program if source is not None and len(matches) == 1 else ""
    return _with_variants(first, [match.architecture for match in matches[1:]], program)


def _with_variants(identity: Identity, others: Sequence[str], program: str) -> Identity:
    """Return an identity that lists the other architectures with its parameters, and the variants of all of them."""
    bases = (identity.architecture, *others)
    names = [name for base in bases for name in (base, *variants_of(base, identity.arguments))]
    unique = program and not has_namesake(identity.architecture, identity.classes)
    return replace(identity, alternatives=tuple(names[1:]), source=program if unique else "")


def several(where: str, architectures: Iterable[str]) -> CheckpointError:
    """Return the error that names the architectures which compute different things with the same parameters."""
    return CheckpointError(
        f"{where}: parameters fit several architectures that compute different things: give architecture= "
        f"(--architecture), one of {', '.join(map(quoted, architectures))}"
    )


def quoted(architecture: str) -> str:
    """Return a name as a shell takes it."""
    return f"'{architecture}'" if "(" in architecture else architecture


def _of_family(members: Sequence[Member]) -> Identity | None:
    """Return the first of several members, with the others, which compute something else, as alternatives."""
    if not members:
        return None
    first = members[0]
    remarks = [first.remark] if first.remark else []
    if any(name != own for name, own in first.names.items()):
        remarks.append(f"parameters are named as in {first.programs}")
    identity = Identity(first.architecture, first.classes, first.arguments, names=first.names, remarks=tuple(remarks))
    others = [member.architecture for member in members[1:]]
    return _with_variants(identity, others, first.programs if first.known else "")


def _under_prefix(
    weights: Mapping[str, Tensor], where: str, inner_identity: Callable[[Mapping[str, Tensor]], Identity | None]
) -> Identity | None:
    """Return the identity of what lies under a prefix that (nearly) all parameters share; ``None`` without one.

    Raises
    ------
    CheckpointError
        What lies beside it may be a part of what is computed.
    """
    prefix, beside = shared_prefix(weights)
    inner = {name[len(prefix) :]: value for name, value in weights.items() if name not in beside}
    identity = None
    try:
        identity = inner_identity(inner) if prefix else None
    except CheckpointError:
        if not beside:  # its message is about the names of the network
            raise
    if identity is None:
        return None
    parts = [name for name in beside if weights[name].is_floating_point()]
    if parts:
        raise CheckpointError(
            f"{where}: under {prefix} lies {identity.architecture}, but beside it {', '.join(map(plain, parts[:3]))}, "
            "which may be a part of what is computed: save the state_dict() of the inner network alone"
        )
    remarks = [f"prefix {prefix} removed from all parameters"]
    if beside:
        remarks.append(f"beside the network, not used: {', '.join(map(plain, beside[:3]))}")
    names = {prefix + name: identity.names.get(name, name) for name in inner}
    return replace(identity, names=names, remarks=(*remarks, *identity.remarks))


def fit(
    weights: Mapping[str, Tensor],
    architecture: str,
    classes: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    where: str = "the weights",
) -> Identity:
    """Return the classes and arguments that make a named architecture fit these parameters as well as it can.

    Raises
    ------
    CheckpointError
        Several members of its family fit that compute different things, and neither name nor arguments say which.
    """
    find_architecture(architecture)
    base, variant = base_and_variant(architecture)

    def fitting(inner: Mapping[str, Tensor]) -> Identity | None:
        exact = None
        with suppress(InputError):  # a member of a family may need arguments, which are read below
            exact = None if architecture.startswith(TIMM) else _match(architecture, signature(inner))
        if exact is not None and not set(arguments or {}) - set(exact.arguments):
            return exact
        members = [member for member in family_members(inner) if _is_meant(member, base, arguments or {})]
        if len(members) > 1 and not members[0].known:
            raise several(where, [member.architecture for member in members])
        identity = _of_family(members)
        if identity is None or not variant:
            return identity
        return replace(identity, architecture=f"{identity.architecture}:{variant}")

    identity = fitting(weights) or _under_prefix(weights, where, fitting)
    if identity is None:
        others = [member.architecture for member in family_members(weights)]
        if others and not arguments:
            raise CheckpointError(
                f"{where}: parameters do not fit {architecture}: they are those of {', '.join(map(quoted, others))}: "
                "give that as architecture= (--architecture)"
            )
        identity = _fit(architecture, signature(weights), classes or 10)
        return identity if arguments is None else replace(identity, arguments=dict(arguments))
    return replace(identity, alternatives=())  # it was said which


def _is_meant(member: Member, architecture: str, arguments: Mapping[str, Any]) -> bool:
    """Return whether a member of a family is what a name and further arguments say; torchvision's names count too."""
    base, options = with_options(architecture.removeprefix(TORCHVISION))
    own_base, own_options = with_options(member.architecture)
    if base != own_base:
        return False
    parameters = inspect.signature(find_architecture(own_base).make).parameters
    own = {name: parameter.default for name, parameter in parameters.items()} | {**member.arguments, **own_options}
    return all(name in own and own[name] == value for name, value in {**options, **arguments}.items())


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


def _nearest(weights: Mapping[str, Tensor], where: str) -> str:
    """Return the message that names the architectures which a file resembles, and how it differs."""
    wanted = signature(weights)
    member = nearest_member(weights)
    scores: dict[str, float] = {}
    for name in [*known_architectures(), *plausible(wanted)]:
        shapes = shapes_of(name, PROBE_CLASSES[0])
        same = sum(wanted.get(key) == shape for key, shape in shapes.items())
        named = len(shapes.keys() & wanted.keys())
        scores[name] = (same + named) / (2 * len(shapes.keys() | wanted.keys()))
    best = [name for name in sorted(scores, key=lambda name: (-scores[name], name))[:3] if scores[name] > 0]
    differences = {name: _difference(name, wanted) for name in best}
    if member is not None and member[0] not in differences:
        differences = dict([member, *list(differences.items())[:2]])
    if not differences:
        first = ", ".join(plain(name) for name in list(wanted)[:4])
        return f"{where}: {len(wanted)} parameters ({first}, …) resemble no known architecture: {WAYS_IN}"
    nearest = "; ".join(f"{name} ({difference})" for name, difference in differences.items())
    return f"{where}: parameters fit no known architecture; nearest: {nearest}: {WAYS_IN}"


def _difference(name: str, wanted: Shapes) -> str:
    shapes = shapes_of(name, PROBE_CLASSES[0])
    ends = {key for key, shape in shapes_of(name, PROBE_CLASSES[1]).items() if shapes[key] != shape}
    missing = next((key for key in shapes if key not in wanted), None)
    unexpected = next((key for key in wanted if key not in shapes), None)
    differs = next((key for key in shapes if key in wanted and wanted[key] != shapes[key] and key not in ends), None)
    parts = [f"has no {missing}" if missing else "", f"has {plain(unexpected)} too" if unexpected else ""]
    if differs:
        parts.append(f"{differs} is {wanted[differs]}, not {shapes[differs]}")
    return "the file " + ", ".join(part for part in parts if part)
