"""The architectures that can be built by name: thinice's own, and everything torchvision has."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from torch import nn

from thinice.errors import InputError, MissingExtraError
from thinice.models.architectures.layer_sizes import resize
from thinice.models.architectures.variants import Variant, base_and_variant, change
from thinice.registry import Registry

__all__ = [
    "ARCHITECTURES",
    "FAMILIES",
    "TIMM",
    "TORCHVISION",
    "Architecture",
    "Origin",
    "build",
    "find_architecture",
    "for_images_of",
    "known_architectures",
    "origin_of",
    "with_options",
]

TORCHVISION = "torchvision:"
TIMM = "timm:"
MOST_DIGITS = 4
"""Of the numbers in a name: no network has 10 000 layers."""
Builder = Callable[..., nn.Module]
AnyBuilder = TypeVar("AnyBuilder", bound=Builder)

ARCHITECTURES: Registry[Builder] = Registry(
    "architecture",
    {
        name: (f"{__name__}.{module}:{name}", summary)
        for module, name, summary in (
            ("mobilenet_v2", "mobilenet_v2_cifar", "MobileNetV2 for 32x32 images as pytorch-cifar (kuangliu) has it"),
            ("preact_resnet", "preact_resnet8", "Pre-activation ResNet8 of Merkle et al. for 32x32 images"),
            ("preact_resnet", "preact_resnet18", "Pre-activation ResNet18 of Merkle et al. for 224x224 images"),
            ("preact_resnet", "preact_resnet18_cifar", "Pre-activation ResNet-18 for 32x32 images"),
            ("resnet", "resnet20", "Narrow CIFAR ResNet-20 (He et al. 2016)"),
            ("resnet", "resnet32", "Narrow CIFAR ResNet-32 (He et al. 2016)"),
            ("resnet", "resnet44", "Narrow CIFAR ResNet-44 (He et al. 2016)"),
            ("resnet", "resnet56", "Narrow CIFAR ResNet-56 (He et al. 2016)"),
            ("resnet", "resnet18", "CIFAR ResNet-18"),
            ("resnet", "resnet18_rst", "CIFAR ResNet-18 as robust scratch tickets have it"),
            ("small_cnns", "cnn5", "LeNet-like CNN5 for 28x28 images"),
            ("small_cnns", "digits_cnn", "Small CNN for 8x8 digits"),
            ("small_cnns", "small_cnn", "SmallCNN of TRADES for 28x28 images"),
            ("vgg", "vgg11", "VGG11-like network of Merkle et al. for 32x32 images"),
            ("vgg", "vgg16_bn", "VGG16 with batch norm as HYDRA, HARP and the adversarial pruning benchmark have it"),
            ("vgg", "vgg16_bn_radmm", "VGG16 with batch norm as R-ADMM, FlyingBird and RobustBird have it"),
            ("vgg", "vgg16_bn_twinrep", "VGG16 with batch norm as TwinRep has it"),
            ("vgg", "vgg16_bn_mad", "VGG16 with batch norm as MAD has it"),
            ("vgg", "vgg16_bn_li20", "VGG16 with batch norm as Li et al. 2020 have it"),
            ("vgg", "vgg16_bn_pwoa", "VGG16 with batch norm as PwoA has it"),
            ("vgg", "vgg16_bn_rst", "VGG16 with batch norm as robust scratch tickets have it"),
            ("wide_resnet", "wrn_28_4", "WideResNet-28-4 (Zagoruyko and Komodakis 2016) as TRADES and HYDRA have it"),
            ("wide_resnet", "wrn_28_10", "WideResNet-28-10 (Zagoruyko and Komodakis 2016) as TRADES and HYDRA have it"),
        )
    },
    listed="thinice train --help",
)
"""thinice's own architectures. A row names a function ``(classes, *, channels)`` that returns a network with fresh
weights, from normalised inputs (N, C, H, W) to logits (N, classes)."""

FAMILIES: Mapping[str, str] = {
    "densenet": "densenet:densenet",
    "mobilenet_v2": "mobilenet_v2:mobilenet_v2",
    "vgg": "vgg:vgg",
    r"resnet(\d+)": "resnet:resnet",
    r"preact_resnet(\d+)_cifar": "preact_resnet:preact_resnet",
    r"wrn_(\d+)_(\d+)": "wide_resnet:wide_resnet",
}
"""Patterns of names, as ``wrn_40_2``, and the functions that take the numbers in them before the classes.

What a member computes is told by its arguments; `find_architecture` also takes them in the name, as in
``resnet18(stem=cifar-pool)``.
"""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One architecture: its name, what builds it, and (C, H, W) where only that size makes sense, else ``None``."""

    name: str
    make: Builder
    input_shape: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """How `build` made a network: what a saved file must say so that it can be built again."""

    architecture: str
    classes: int
    arguments: Mapping[str, Any]
    structure: str


def for_images_of(*shape: int) -> Callable[[AnyBuilder], AnyBuilder]:
    """Return a decorator for builders whose networks take images of one size alone: (C, H, W).

    Examples
    --------
    >>> find_architecture("digits_cnn").input_shape
    (1, 8, 8)
    """

    def mark(make: AnyBuilder) -> AnyBuilder:
        vars(make)["input_shape"] = shape
        return make

    return mark


@functools.cache
def _torchvision() -> Registry[Builder]:
    from torchvision import models  # noqa: PLC0415 - importing torchvision costs a second

    names = models.list_models(module=models)
    return Registry(
        "architecture", {TORCHVISION + name: (functools.partial(_make_torchvision, name), "") for name in names}
    )


def _make_torchvision(name: str, classes: int, **arguments: Any) -> nn.Module:  # noqa: ANN401 - passed on
    from torchvision import models  # noqa: PLC0415 - importing torchvision costs a second

    with warnings.catch_warnings():  # two of them announce a new initialisation; the weights are replaced anyway
        warnings.filterwarnings("ignore", message="The default weight initialization", category=FutureWarning)
        network: nn.Module = models.get_model(name, weights=None, num_classes=classes, **arguments)
    return network


def _make_timm(name: str, classes: int, **arguments: Any) -> nn.Module:  # noqa: ANN401 - passed on
    try:
        import timm  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError(f"the architecture {TIMM}{name}", "timm") from None
    if not timm.is_model(name):
        near = ", ".join(TIMM + other for other in get_close_matches(name, timm.list_models(), n=3))
        raise InputError(f"`architecture` {TIMM + name!r} is unknown: timm has {near or 'no name like it'}")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes, **arguments)
    return network


def _make_family(name: str) -> Builder | None:
    """Return what builds the member of a family that a name with numbers stands for; ``None`` for other names."""
    for pattern, target in FAMILIES.items():
        if numbers := re.fullmatch(pattern, name):
            module, _, function = target.partition(":")
            make = getattr(importlib.import_module(f"{__name__}.{module}"), function)
            return functools.partial(make, *(int(number[:MOST_DIGITS]) for number in numbers.groups()))
    return None


def known_architectures(*, torchvision: bool = False) -> list[str]:
    """Return the names that `build` knows, sorted; with ``torchvision``, its classification networks too.

    Examples
    --------
    >>> "digits_cnn" in known_architectures()
    True
    """
    return sorted(ARCHITECTURES.names()) + (list(_torchvision().names()) if torchvision else [])


def with_options(name: str) -> tuple[str, dict[str, str]]:
    """Return a name without the arguments that stand in it, and these.

    Examples
    --------
    >>> with_options("resnet18(stem=cifar-pool)")
    ('resnet18', {'stem': 'cifar-pool'})
    """
    parts = re.fullmatch(r"([\w:]+)\(([a-z_]+=[\w-]+(?:,[a-z_]+=[\w-]+)*)\)", name)
    if parts is None:
        return name, {}
    pairs = (option.split("=") for option in parts[2].split(","))
    return parts[1], dict(pair for pair in pairs if len(pair) == 2)


def find_architecture(name: str) -> Architecture:
    """Return the architecture of a name; InputError tells the nearest names where there is none.

    Arguments that are words may stand in the name: ``resnet18(stem=cifar-pool)``. ``NAME:VARIANT`` is one of its
    `variants_of`, which has the same parameters and computes something else.

    Examples
    --------
    >>> find_architecture("digits_cnn").make(4).fc
    Linear(in_features=512, out_features=4, bias=True)
    >>> find_architecture("cnn5:tanh").make(4).relu1
    Tanh()
    """
    plain_name, variant = base_and_variant(name)
    if variant:
        return _variant(find_architecture(plain_name), change(plain_name, variant))
    base, options = with_options(name)
    if options:
        row = find_architecture(base)
        return Architecture(name, functools.partial(row.make, **options), row.input_shape)
    if name.startswith(TIMM):
        return Architecture(name, functools.partial(_make_timm, name.removeprefix(TIMM)))
    registry = _torchvision() if name.startswith(TORCHVISION) else ARCHITECTURES
    if name not in registry:
        member = _make_family(name)
        if member is not None:
            return Architecture(name, member)
        try:
            registry.get(name)
        except InputError as error:
            ways = (
                "resnet110, wrn_40_2 and other depths, torchvision:resnet50 and the like, timm:NAME, or your own code "
                "as models.py:ResNet18"
            )
            raise InputError(f"{error} (also {ways})") from None
    make = registry.get(name)
    return Architecture(name, make, getattr(make, "input_shape", None))


def _variant(row: Architecture, changed: Variant) -> Architecture:
    """Return the architecture with the same parameters whose networks are the variant."""

    @functools.wraps(row.make)
    def build_variant(*arguments: Any, **keywords: Any) -> nn.Module:  # noqa: ANN401 - passed on
        network = row.make(*arguments, **keywords)
        changed.make(network)
        return network

    shape = row.input_shape
    if shape is not None and changed.image_size is not None:
        shape = shape[0], changed.image_size, changed.image_size
    return Architecture(f"{row.name}:{changed.name}", build_variant, shape)


def build(name: str, classes: int = 10, **arguments: Any) -> nn.Module:  # noqa: ANN401 - passed to the builder
    """Return a network with fresh weights: (N, C, H, W) normalised inputs to (N, classes) logits.

    Parameters
    ----------
    name
        A name of `known_architectures`, another depth of a family (``resnet110``, ``wrn_40_2``,
        ``preact_resnet34_cifar``), ``torchvision:NAME`` or ``timm:NAME``; with ``:VARIANT`` a variant of it.
    classes
        Number of classes.
    arguments
        Further keywords of the builder, for example ``channels=1``; and ``layer_sizes`` where layers have other sizes
        than the architecture's, as of `resize`.

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
    settings = [key for key in inspect.signature(row.make).parameters if key != "classes"]
    given = dict(arguments)
    sizes = given.pop("layer_sizes", {})
    if not name.startswith((TORCHVISION, TIMM)) and (unknown := sorted(set(given) - set(settings))):
        raise InputError(
            f"`arguments`: {name} does not take {', '.join(unknown)}; it takes {', '.join(settings) or 'none'}"
        )
    try:
        network = row.make(classes, **given)
        resize(network, sizes)
    except InputError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError) as error:
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
