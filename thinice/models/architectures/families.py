"""Which member of a family a state dict is: depth, widths, block and stem, read from its names and shapes.

Names are translated by `naming`; what was read is built without memory and compared with the file, name by name and
shape by shape. Where channels were removed, layers take the sizes that the file has (`layer_sizes`), and an image must
pass through the whole.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from math import isqrt, prod
from typing import TYPE_CHECKING, Any

import torch

from thinice.errors import InputError
from thinice.models.architectures import build, find_architecture
from thinice.models.architectures.depths import LARGE_STEMS, VGG_WIDTHS, resnet_defaults
from thinice.models.architectures.naming import SCHEMES, Scheme, translate
from thinice.models.architectures.rebuild import WithoutMemory, signature

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Member", "family_members", "nearest_member"]

Shapes = Mapping[str, tuple[int, ...]]
IMAGE = 32
"""Height and width of the images that networks with small stems take."""
IMAGENET_CLASSES = 1000
FACTORS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20)
"""Factors that wide residual networks have before channels are removed."""
SHOWN = 3
"""Names in a message."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a family with exactly the parameters of a file.

    Attributes
    ----------
    architecture : str
        As `build` takes it. Where code in circulation computes several things with these parameters, the name says
        which: ``resnet18(stem=cifar-pool)``.
    classes : int
        The number of classes.
    arguments : mapping
        Further keywords of the builder.
    names : mapping of str to str
        thinice's name of each parameter, by the file's.
    programs : str
        Who names parameters so.
    remark : str
        Where it is narrower than the architecture; empty where it is not.
    known : bool
        The names are those of programs that compute this, and not what other members do.
    """

    architecture: str
    classes: int
    arguments: Mapping[str, Any]
    names: Mapping[str, str]
    programs: str
    remark: str = ""
    known: bool = True


@dataclass(frozen=True, slots=True)
class Reading:
    """What shapes say, if they are those of a family.

    Attributes
    ----------
    architecture, classes, arguments
        As of `Member`; what is read here goes before what the naming scheme says.
    possible : mapping of str to tuple
        The values that an argument of the naming scheme may have with these shapes.
    open : mapping of str to tuple
        Arguments that neither names nor shapes show, whatever the naming scheme, and the values that they may have.
    dense : bool
        Of the usual widths: the file's may be narrower.
    remark : str
        As of `Member`.
    """

    architecture: str
    classes: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    possible: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    open: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dense: bool = False
    remark: str = ""


def family_members(weights: Mapping[str, Tensor]) -> list[Member]:
    """Return the members of families that have exactly these parameters; several where they compute several things.

    Examples
    --------
    >>> [member.architecture for member in family_members(build("wrn_16_2", 10).state_dict())]
    ['wrn_16_2']
    """
    for scheme, names, own in _translations(weights):
        readings = READERS[scheme.family](own)
        for narrow in (False, True):
            for reading in readings:
                if reading.dense or not narrow:
                    members = _members(reading, scheme, names, own, narrow=narrow)
                    if members:
                        return members
    return []


def nearest_member(weights: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Return the member of a family that a file resembles without being one, and how it differs."""
    nearest: tuple[int, str, str] | None = None
    for scheme, _, own in _translations(weights):
        for reading in READERS[scheme.family](own):
            planned = next(
                (shapes for arguments in _functions(reading, scheme) if (shapes := _planned(reading, arguments))), None
            )
            shared = 0 if planned is None else len(planned.keys() & own.keys())
            if planned is not None and (nearest is None or shared > nearest[0]):
                nearest = shared, reading.architecture, _difference(planned, own)
    return None if nearest is None else nearest[1:]


def _translations(weights: Mapping[str, Tensor]) -> Iterator[tuple[Scheme, dict[str, str], Shapes]]:
    """Yield each scheme whose names these are, thinice's name of each parameter, and the shapes by these names."""
    for scheme in SCHEMES:
        names = translate(scheme, weights)
        if names is not None:
            yield scheme, names, signature({names[name]: value for name, value in weights.items()})


def _members(reading: Reading, scheme: Scheme, names: Mapping[str, str], own: Shapes, *, narrow: bool) -> list[Member]:
    """Return one member for each function that the programs of a scheme compute, if the parameters are the file's."""
    members: list[Member] = []
    for arguments in _functions(reading, scheme):
        planned = _planned(reading, arguments)
        if planned is None:
            continue
        sizes = _other_sizes(planned, own) if narrow else None
        if narrow and (not sizes or not _fits_together(reading, arguments, sizes, own)):
            return []
        if not narrow and planned != own:
            return []
        remark = _narrower(reading.architecture, planned, own) if sizes else reading.remark
        given = arguments | ({"layer_sizes": sizes} if sizes else {})
        members.append(Member(reading.architecture, reading.classes, given, names, scheme.programs, remark))
    known = len(members) == 1 if scheme.known is None or reading.open else scheme.known
    return [replace(member, known=known) for member in _told_apart(members)]


def _functions(reading: Reading, scheme: Scheme) -> list[dict[str, Any]]:
    """Return the arguments of each function that a scheme's programs compute with what was read, without defaults."""
    parameters = inspect.signature(find_architecture(reading.architecture).make).parameters
    functions: list[dict[str, Any]] = []
    left_open = [dict(zip(reading.open, values, strict=True)) for values in product(*reading.open.values())]
    for function, more in product(scheme.functions, left_open):
        if any(function.get(key, values[0]) not in values for key, values in reading.possible.items()):
            continue
        arguments = {
            key: value
            for key, value in {**function, **reading.arguments, **more}.items()
            if value is not None and value != parameters[key].default
        }
        if arguments not in functions:
            functions.append(arguments)
    return functions


def _told_apart(members: list[Member]) -> list[Member]:
    """Return members whose names show the arguments in which they differ, where there are several."""
    keys = sorted({key for member in members for key in member.arguments})
    differing = [key for key in keys if any(m.arguments.get(key) != members[0].arguments.get(key) for m in members)]
    named = []
    for member in members:
        parameters = inspect.signature(find_architecture(member.architecture).make).parameters
        shown = ",".join(f"{key}={member.arguments.get(key, parameters[key].default)}" for key in differing)
        rest = {key: value for key, value in member.arguments.items() if key not in differing}
        named.append(
            replace(member, architecture=f"{member.architecture}({shown})", arguments=rest) if shown else member
        )
    return named


def _planned(reading: Reading, arguments: Mapping[str, Any]) -> Shapes | None:
    """Return the shapes of what was read; ``None`` where it cannot be built."""
    try:
        with WithoutMemory():
            return signature(build(reading.architecture, reading.classes, **arguments).state_dict())
    except InputError:
        return None


def _other_sizes(planned: Shapes, own: Shapes) -> dict[str, list[int]] | None:
    """Return the sizes of the layers that differ, where names and kernels are the same."""
    if planned.keys() != own.keys():
        return None
    sizes: dict[str, list[int]] = {}
    for name, shape in planned.items():
        layer, _, leaf = name.rpartition(".")
        if leaf == "weight" and shape != own[name]:
            if len(shape) != len(own[name]) or shape[2:] != own[name][2:]:
                return None
            sizes[layer] = list(own[name][:2])
    return sizes


def _fits_together(reading: Reading, arguments: Mapping[str, Any], sizes: Mapping[str, list[int]], own: Shapes) -> bool:
    """Return whether a network with these layer sizes has the file's shapes, and an image passes through it."""
    try:
        with torch.device("meta"):
            network = build(reading.architecture, reading.classes, **arguments, layer_sizes=sizes).eval()
            image = torch.empty(2, arguments.get("channels", 3), IMAGE, IMAGE)
            return signature(network.state_dict()) == own and network(image).shape == (2, reading.classes)
    except (InputError, RuntimeError):
        return False


def _narrower(architecture: str, planned: Shapes, own: Shapes) -> str:
    """Return the sentence that says in how many layers a network is narrower, and how many parameters are left."""
    layers = [name for name, shape in planned.items() if len(shape) > 1]
    fewer = sum(own[name][0] < planned[name][0] for name in layers)
    more = any(own[name][0] > planned[name][0] for name in layers)
    what = f"of other widths than {architecture}" if more else f"narrower than {architecture} in {fewer} layers"
    return f"{what}: {_count(own):,} of {_count(planned):,} parameters"


def _count(shapes: Shapes) -> int:
    return sum(prod(shape) for name, shape in shapes.items() if ".running_" not in name)


def _difference(planned: Shapes, own: Shapes) -> str:
    lists = (
        ("has no ", [name for name in planned if name not in own], ""),
        ("has ", [name for name in own if name not in planned], " too"),
        (
            "",
            [
                f"{name} {own[name]} instead of {shape}"
                for name, shape in planned.items()
                if own.get(name, shape) != shape
            ],
            "",
        ),
    )
    return "the file " + ", ".join(
        f"{before}{', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}{after}"
        for before, names, after in lists
        if names
    )


def _stages(shapes: Shapes, pattern: str) -> tuple[int, ...]:
    """Return how many blocks each stage has, by names whose two groups are stage and block; empty where some lack."""
    blocks: dict[int, set[int]] = {}
    for name in shapes:
        if match := re.match(pattern, name):
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    counts = [len(blocks.get(stage, ())) for stage in range(1, len(blocks) + 1)]
    whole = all(blocks.get(stage) == set(range(count)) for stage, count in enumerate(counts, start=1))
    return tuple(counts) if whole else ()


def _residual(shapes: Shapes) -> list[tuple[int, dict[str, Any], bool]]:
    """Return depth, arguments and whether widths are the usual ones, of what a residual network may be."""
    blocks = _stages(shapes, r"layer(\d+)\.(\d+)\.")
    stem = shapes.get("conv1.weight", ())
    if not blocks or len(stem) != 4:
        return []
    bottleneck = "layer1.0.conv3.weight" in shapes
    depth = (3 if bottleneck else 2) * sum(blocks) + 2
    usual_blocks, usual_block = resnet_defaults(depth)
    block = "bottleneck" if bottleneck else "basic"
    usual = 64 if len(blocks) > 3 else 16
    return [
        (
            depth,
            {
                "channels": stem[1],
                "blocks": None if blocks == usual_blocks else list(blocks),
                "block": None if block == usual_block else block,
                "width": None if width == usual else width,
            },
            width == usual,
        )
        for width in dict.fromkeys((stem[0], usual))
    ]


def _read_resnet(shapes: Shapes) -> list[Reading]:
    head, stem = shapes.get("linear.weight", ()), shapes.get("conv1.weight", ())
    if len(head) != 2 or "bn1.weight" not in shapes or "bn.weight" in shapes or stem[2:] not in {(3, 3), (7, 7)}:
        return []
    four = "layer4.0.conv1.weight" in shapes
    projected = any(name.endswith(".shortcut.0.weight") for name in shapes)
    more: dict[str, Any] = {}
    if stem[2:] == (3, 3) and not four:
        more["stem"] = "cifar"
    if projected:
        more["shortcut"] = None if four else "projected"
    inner, grouped = (shapes.get(f"layer1.0.{name}.weight", ()) for name in ("conv1", "conv2"))
    if "layer1.0.conv3.weight" in shapes and len(grouped) == 4 and inner[0] > grouped[1]:
        more["groups"] = inner[0] // grouped[1]
    return [
        Reading(f"resnet{depth}", head[0], {**arguments, **more}, open=_open_stem(stem, head[0]), dense=dense)
        for depth, arguments, dense in _residual(shapes)
    ]


def _open_stem(convolution: tuple[int, ...], classes: int) -> dict[str, tuple[str, ...]]:
    """Return what a stem of this shape may be: people change torchvision's, but hardly for ImageNet's classes."""
    if convolution[2:] != (7, 7):
        return {}
    return {"stem": LARGE_STEMS[:1] if classes == IMAGENET_CLASSES else LARGE_STEMS}


def _read_preact_resnet(shapes: Shapes) -> list[Reading]:
    head, stem = shapes.get("linear.weight", ()), shapes.get("conv1.weight", ())
    if len(head) != 2 or stem[2:] != (3, 3):
        return []
    more: dict[str, Any] = {
        "bias": "conv1.bias" in shapes,
        "first_norm": "bn1.weight" in shapes,
        "last_norm": "bn.weight" in shapes,
    }
    if "layer1.0.conv3.weight" not in shapes:
        more["stride"] = "3x3"
    return [
        Reading(f"preact_resnet{depth}_cifar", head[0], {**arguments, **more}, dense=dense)
        for depth, arguments, dense in _residual(shapes)
    ]


def _read_wide_resnet(shapes: Shapes) -> list[Reading]:
    blocks = _stages(shapes, r"block(\d+)\.layer\.(\d+)\.")
    head, stem = shapes.get("fc.weight", ()), shapes.get("conv1.weight", ())
    if len(blocks) != 3 or len(set(blocks)) != 1 or len(head) != 2 or len(stem) != 4:
        return []
    widest = max(
        shape[0] / 2 ** int(name[len("block")]) / 8
        for name, shape in shapes.items()
        if name.startswith("block") and len(shape) == 4
    )
    outputs = shapes.get("block1.layer.0.conv2.weight", (16,))[0]
    dense = next((factor for factor in FACTORS if factor >= widest), None)
    return [
        Reading(
            f"wrn_{6 * blocks[0] + 4}_{factor}",
            head[0],
            {"channels": stem[1], "bias": "conv1.bias" in shapes},
            dense=factor == dense,
        )
        for factor in dict.fromkeys((outputs // 16, dense))
        if factor
    ]


def _read_vgg(shapes: Shapes) -> list[Reading]:
    positions = _positions(shapes, "features", 4)
    if not positions or positions[0] != 0:
        return []
    convolutions = [shapes[f"features.{position}.weight"] for position in positions]
    batch_norm = "features.1.running_mean" in shapes
    configuration: list[int | str] = []
    for position, following, shape in zip(positions, [*positions[1:], None], convolutions, strict=True):
        configuration.append(shape[0])
        gap = 0 if following is None else following - position - (3 if batch_norm else 2)
        if gap not in {0, 1}:
            return []
        configuration += ["M"] * gap
    classifier = _classifier(shapes)
    grid = isqrt(classifier["inputs"] // convolutions[-1][0]) if classifier else 0
    if not classifier or convolutions[-1][0] * grid**2 != classifier["inputs"]:
        return []
    widths = tuple(shape[0] for shape in convolutions)
    arguments = {
        "channels": convolutions[0][1],
        "configuration": configuration,
        "batch_norm": batch_norm,
        "bias": "features.0.bias" in shapes,
        "grid": grid,
        "hidden": classifier["hidden"] or None,
        "positions": classifier["positions"] or None,
        "norms": classifier["norms"] or None,
    }
    possible = {"pool": _pools(IMAGE >> configuration.count("M"), grid)}
    return [
        Reading("vgg", classifier["classes"], arguments, possible, remark=_narrow_vgg(widths, batch_norm=batch_norm))
    ]


def _positions(shapes: Shapes, layer: str, dimensions: int) -> list[int]:
    """Return where in a sequence the weights of so many dimensions stand, in their order."""
    matches = (
        re.fullmatch(rf"{layer}\.(\d{{1,4}})\.weight", name)
        for name, shape in shapes.items()
        if len(shape) == dimensions
    )
    return sorted(int(match[1]) for match in matches if match)


def _classifier(shapes: Shapes) -> dict[str, Any] | None:
    """Return what the linear layers behind a VGG's convolutions say of themselves; ``None`` without any."""
    positions = _positions(shapes, "classifier", 2)
    linear = [shapes[f"classifier.{position}.weight"] for position in positions]
    if not linear and len(shapes.get("classifier.weight", ())) == 2:
        linear = [shapes["classifier.weight"]]
    if not linear:
        return None
    norms = _positions(shapes, "classifier", 1)
    return {
        "inputs": linear[0][1],
        "classes": linear[-1][0],
        "hidden": [shape[0] for shape in linear[:-1]],
        "positions": positions,
        "norms": norms,
    }


def _pools(side: int, grid: int) -> tuple[str, ...]:
    """Return what may lie between maps of a height and width and a classifier that takes a grid of them."""
    if side == grid:
        return ("none",)
    if side == 2 * grid:
        return "max", "mean"
    return ("max-mean", "mean") if side > 2 * grid else ("max-mean",)


def _narrow_vgg(widths: tuple[int, ...], *, batch_norm: bool) -> str:
    """Return the sentence that says in how many convolutions a VGG is narrower than the one with as many."""
    usual = VGG_WIDTHS.get(len(widths) + 3)
    if usual is None or all(mine >= theirs for mine, theirs in zip(widths, usual, strict=True)):
        return ""
    fewer = sum(mine < theirs for mine, theirs in zip(widths, usual, strict=True))
    return f"narrower than vgg{len(widths) + 3}{'_bn' if batch_norm else ''} in {fewer} layers"


def _read_densenet(shapes: Shapes) -> list[Reading]:
    blocks = _stages(shapes, r"dense(\d+)\.(\d+)\.")
    head, stem = shapes.get("linear.weight", ()), shapes.get("conv1.weight", ())
    inner, last = shapes.get("dense1.0.conv1.weight", ()), shapes.get("dense1.0.conv2.weight", ())
    if not blocks or len(head) != 2 or len(stem) != 4 or len(inner) != 4:
        return []
    growth = last[0] if last else inner[0]
    transitions = [shapes.get(f"trans{number}.conv.weight", (0,))[0] for number in range(1, len(blocks))]
    halves, maps = [], stem[0]
    for number, fewer in zip(blocks, transitions, strict=False):
        halves.append((maps + number * growth) // 2)
        maps = fewer
    arguments = {
        "channels": stem[1],
        "blocks": list(blocks),
        "growth": growth,
        "expansion": inner[0] // growth if last else 0,
        "first": None if stem[0] == 2 * growth else stem[0],
        "transitions": None if transitions == halves else transitions,
        "stem_norm": "norm0.weight" in shapes,
    }
    return [Reading("densenet", head[0], arguments, open=_open_stem(stem, head[0]))]


def _read_mobilenet_v2(shapes: Shapes) -> list[Reading]:
    stem, last, head = (shapes.get(f"{name}.weight", ()) for name in ("features.0.0", "features.18.0", "classifier.1"))
    stages = [shapes.get("features.1.conv.1.weight", ())]
    stages += [shapes.get(f"features.{block}.conv.2.weight", ()) for block in (2, 4, 7, 11, 14, 17)]
    if len(head) != 2 or not all(len(shape) == 4 for shape in (stem, last, *stages)):
        return []
    widths = [shape[0] for shape in (stem, *stages, last)]
    return [Reading("mobilenet_v2", head[0], {"channels": stem[1], "widths": widths}, dense=True)]


READERS: Mapping[str, Callable[[Shapes], list[Reading]]] = {
    "resnet": _read_resnet,
    "preact_resnet": _read_preact_resnet,
    "wide_resnet": _read_wide_resnet,
    "vgg": _read_vgg,
    "densenet": _read_densenet,
    "mobilenet_v2": _read_mobilenet_v2,
}
