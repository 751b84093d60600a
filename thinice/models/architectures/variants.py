"""Networks that share the parameter names and shapes of an architecture and compute something else: its variants.

Names and shapes do not show what has no parameters: pools, strides, activations, paddings, dilations. `VARIANTS` lists
what published code varies, one row each; ``NAME:VARIANT`` builds one, ``NAME:VARIANT+VARIANT`` several at once.
`SOURCES` lists which names are those of one published program: then the function is that program's, unless `NAMESAKES`
lists another published one under the same names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from thinice.errors import InputError
from thinice.models.architectures.changes import (
    Blur,
    Change,
    dilated,
    first_stride,
    in_turn,
    other_order,
    padded,
    pooled_strides,
    put_layer,
    raw_shortcuts,
    replace_each,
    set_attributes,
    stride_in_1x1,
)

__all__ = [
    "NAMESAKES",
    "SOURCES",
    "VARIANTS",
    "Namesake",
    "Source",
    "Variant",
    "base_and_variant",
    "change",
    "has_namesake",
    "is_own_change",
    "source_of",
    "variants_of",
]


@dataclass(frozen=True, slots=True)
class Variant:
    """A network with the parameters of an architecture that computes something else.

    Attributes
    ----------
    architectures : str
        Pattern of the names of the architectures that it is a variant of.
    name : str
        What stands after the colon: ``vgg16_bn_radmm:average-pool``.
    make : callable
        Makes a network of the architecture the variant, in place.
    sentence : str
        How it differs; empty where the name says it.
    image_size : int, optional
        Height and width of the images, where the variant takes another size than the architecture.
    argument : str
        The argument of the builder that says already what the variant changes; empty where there is none.
    own : bool
        Somebody's own change, which no published program has: labels choose it only where it is clearly better than
        everything published (see `NAMESAKES` for exceptions).
    """

    architectures: str
    name: str
    make: Change
    sentence: str = ""
    image_size: int | None = None
    argument: str = ""
    own: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A published program that parameter names tell: architectures, the program, and what must be in a name.

    Attributes
    ----------
    architectures : str
        Pattern of the names of the architectures.
    program : str
        What messages call it.
    mark : str
        Pattern that some parameter name of the file must match, as the file has it; empty: the architecture's names
        are this program's alone.
    classes : int, optional
        The number of classes that goes with it.
    """

    architectures: str
    program: str
    mark: str = ""
    classes: int | None = None


@dataclass(frozen=True, slots=True)
class Namesake:
    """A published network with the parameter names of another published program: nothing in a file tells them apart.

    Attributes
    ----------
    architectures : str
        Pattern of the names of the architectures that it is a variant of.
    variant : str
        What it is then.
    program : str
        What publishes it.
    classes : int
        The number of classes that it has.
    """

    architectures: str
    variant: str
    program: str
    classes: int


THREE_STAGES = {6 * blocks + 2 for blocks in range(1, 201)} - {50, 152}
"""Depths of residual networks of basic blocks in three stages (He et al. 2016): 8, 14, 20, … 1202."""
RELU = (
    r"resnet\d+|resnet18_rst|wrn_.*|preact_resnet\d+_cifar|small_cnn|densenet|mobilenet_v2_cifar|vgg|vgg16_bn.*"
    r"|torchvision:(resnet|resnext|wide_resnet|vgg|alexnet|densenet|shufflenet|squeezenet|mnasnet|regnet).*"
)
RELU6 = "mobilenet_v2|torchvision:mobilenet_v2"
PADDED = f"resnet({'|'.join(map(str, sorted(THREE_STAGES)))})"
SMALL_STEM = r"resnet\d+|preact_resnet\d+_cifar|wrn_.*|densenet"
MOBILENET = "torchvision:mobilenet_v2"
RESNETS = r"torchvision:(resnet|resnext|wide_resnet)\d+.*"
BOTTLENECKS = r"torchvision:(resnet(50|101|152)|resnext\d+.*|wide_resnet\d+.*)"
STRIDED = r"torchvision:(alexnet|efficientnet|mnasnet|mobilenet_v3|regnet|squeezenet).*"
SHUFFLENETS = r"torchvision:shufflenet_v2.*"
DENSENETS = r"torchvision:densenet.*"
VGGS = r"vgg|vgg16_bn.*|torchvision:vgg.*"
MAX_AT_THE_END = "vgg16_bn_(radmm|twinrep)"

VARIANTS = (
    Variant(MAX_AT_THE_END, "average-pool", put_layer("pool", lambda: nn.AvgPool2d(2)), "the last pool is an average"),
    Variant(
        "vgg16_bn_(mad|li20)", "max-pool", put_layer("pool", lambda: nn.MaxPool2d(2)), "the last pool is a maximum"
    ),
    Variant(VGGS, "average-pools", replace_each(nn.MaxPool2d, lambda: nn.AvgPool2d(2)), "every pool is an average"),
    *(
        Variant(
            architectures,
            "raw-shortcut",
            raw_shortcuts,
            "shortcuts start before the first ReLU",
            argument="shortcut",
            own=own,
        )
        for architectures, own in ((r"preact_resnet\d+_cifar", False), (r"wrn_.*", True))
    ),
    Variant(
        PADDED,
        "padded-after",
        padded(both=False, mean=False),
        "shortcuts have their zeros behind",
        argument="shortcut",
        own=True,
    ),
    Variant(
        PADDED,
        "averaged-padded-after",
        padded(both=False, mean=True),
        "the same, of means of 2x2 fields",
        argument="shortcut",
        own=True,
    ),
    Variant("cnn5", "tanh", replace_each(nn.ReLU, nn.Tanh), "tanh for ReLU"),
    Variant("cnn5", "sigmoid", replace_each(nn.ReLU, nn.Sigmoid), "sigmoid for ReLU"),
    Variant("cnn5", "average-pool", replace_each(nn.MaxPool2d, lambda: nn.AvgPool2d(2)), "average pools"),
    Variant("cnn5", "unpadded", set_attributes("conv1", padding=(0, 0)), "no padding, for 32x32 images", image_size=32),
    Variant(RESNETS, "stem-stride-1", set_attributes("conv1", stride=(1, 1)), "the first layer keeps the size"),
    Variant(RESNETS, "no-stem-pool", put_layer("maxpool", nn.Identity), "no pooling after the first layer"),
    Variant(BOTTLENECKS, "stride-in-1x1", stride_in_1x1, "strides of blocks in their first layer, Caffe"),
    Variant(RESNETS, "dilated-2", dilated("layer3", "layer4"), "dilation for stride in the last two stages"),
    Variant(RESNETS, "dilated-1", dilated("layer4"), "dilation for stride in the last stage"),
    Variant(
        MOBILENET,
        "stem-stride-1",
        set_attributes("features.0.0", stride=(1, 1)),
        "the first layer keeps the size",
    ),
    Variant(
        MOBILENET,
        "stage2-stride-1",
        set_attributes("features.2.conv.1.0", stride=(1, 1)),
        "the second stage keeps the size",
    ),
    Variant(SHUFFLENETS, "stem-stride-1", set_attributes("conv1.0", stride=(1, 1)), "the first layer keeps the size"),
    Variant(SHUFFLENETS, "no-stem-pool", put_layer("maxpool", nn.Identity), "no pooling after the first layer"),
    Variant(
        DENSENETS, "stem-stride-1", set_attributes("features.conv0", stride=(1, 1)), "the first layer keeps the size"
    ),
    Variant(DENSENETS, "no-stem-pool", put_layer("features.pool0", nn.Identity), "no pooling after the first layer"),
    Variant("densenet", "other-order", other_order, "layers put their maps at the other end", own=True),
    Variant(STRIDED, "stem-stride-1", first_stride(1), "the first layer keeps the size"),
    Variant(SMALL_STEM, "stem-stride-2", first_stride(2), "the first layer halves the size", argument="stem", own=True),
    Variant(
        r"resnet\d+",
        "stem-pool",
        put_layer("maxpool", lambda: nn.MaxPool2d(3, stride=2, padding=1)),
        "a max-pool after the first layer",
        argument="stem",
        own=True,
    ),
    Variant(
        RESNETS,
        "average-pooled-strides",
        pooled_strides(lambda: nn.AvgPool2d(2), lambda: nn.AvgPool2d(2)),
        "timm's resnetaa",
        own=True,
    ),
    Variant(
        RESNETS,
        "blurred-strides",
        pooled_strides(Blur, lambda: nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), Blur())),
        "timm's resnetblur",
        own=True,
    ),
    Variant(
        "torchvision:(googlenet|inception_v3)",
        "transform-input",
        set_attributes("", transform_input=True),
        "transform_input=True, as torchvision's own weights want it",
    ),
    *(
        Variant(architectures, name, replace_each(replaced, layer), sentence, argument="activation", own=True)
        for architectures, replaced in ((RELU, nn.ReLU), (RELU6, nn.ReLU6))
        for name, layer, sentence in (
            *((("relu", nn.ReLU, ""),) if replaced is nn.ReLU6 else ()),
            ("silu", nn.SiLU, ""),
            ("gelu", nn.GELU, ""),
            ("softplus", nn.Softplus, ""),
            ("elu", nn.ELU, ""),
            ("tanh", nn.Tanh, ""),
            ("leaky-relu", lambda: nn.LeakyReLU(0.1), "slope 0.1"),
            ("leaky-relu-0.01", nn.LeakyReLU, ""),
        )
    ),
)
"""Every variant, one row each; where several differ from an architecture at once, `COMBINED` says which go together."""

COMBINED = (
    ("cnn5", ("tanh+average-pool", "sigmoid+average-pool", "unpadded+tanh", "unpadded+average-pool")),
    ("cnn5", ("unpadded+tanh+average-pool", "unpadded+sigmoid+average-pool")),
    (RESNETS, ("stem-stride-1+no-stem-pool",)),
    (MOBILENET, ("stem-stride-1+stage2-stride-1",)),
    (SHUFFLENETS, ("stem-stride-1+no-stem-pool",)),
    (DENSENETS, ("stem-stride-1+no-stem-pool",)),
)

SOURCES = (
    Source(r"resnet(20|32|44|56)", "akamaster/pytorch_resnet_cifar10"),
    Source("resnet18|mobilenet_v2_cifar", "kuangliu/pytorch-cifar"),
    Source("resnet18_rst|vgg16_bn_rst", "robust scratch tickets"),
    Source("wrn_.*", "TRADES"),
    Source("preact_resnet18_cifar", "FlyingBird", mark=r"^normalize\."),
    Source("vgg16_bn", "HYDRA"),
    Source("vgg16_bn_mad", "network slimming and MAD"),
    Source("vgg16_bn_li20", "Li et al. 2020"),
    Source("vgg16_bn_pwoa", "PwoA"),
    Source("vgg16_bn_radmm", "R-ADMM", mark=r"(^|\.)basic_model\."),
    Source("vgg16_bn_radmm", "FlyingBird", mark=r"^normalize\."),
    Source("vgg16_bn_twinrep", "TwinRep", mark=r"\.aux_weight$"),
    Source("small_cnn", "TRADES"),
    Source("vgg11|preact_resnet8|preact_resnet18|digits_cnn", "thinice"),
    Source(r"torchvision:(mnasnet|vgg).*", "torchvision"),
    Source(r"torchvision:(?!googlenet|inception_v3).*", "torchvision", classes=1000),
)
"""Which parameter names are those of one published program. Published code has torchvision's names for networks
with strides in their stem with other strides and pools, but hardly with ImageNet's classes; the Inception networks come
with and without ``transform_input`` there too. MNASNet and torchvision's VGGs hardly have others' strides or pools."""

NAMESAKES = (
    Namesake("torchvision:resnet50", "average-pooled-strides", "timm's resnetaa50", 1000),
    Namesake("torchvision:resnet50", "blurred-strides", "timm's resnetblur50", 1000),
    Namesake("torchvision:resnet50", "gelu", "ViTs-vs-CNNs", 1000),
    Namesake(r"resnet\d+|preact_resnet\d+_cifar", "stem-stride-2", "manifold_mixup, for Tiny ImageNet", 200),
)
"""Which published networks only their program tells from those of `SOURCES`: there, too, somebody must say."""


def variants_of(architecture: str, arguments: Mapping[str, object] | None = None) -> tuple[str, ...]:
    """Return the names of an architecture's variants as `build` takes them; none of what its arguments say already.

    Examples
    --------
    >>> variants_of("vgg16_bn_twinrep")[0]
    'vgg16_bn_twinrep:average-pool'
    """
    together = [name for pattern, names in COMBINED if _is_one_of(pattern, architecture) for name in names]
    names = [row.name for row in _rows(architecture) if row.argument not in (arguments or {})]
    return tuple(f"{architecture}:{name}" for name in (*names, *together))


def source_of(architecture: str, classes: int, names: Iterable[str]) -> Source | None:
    """Return the published program whose parameter names these are, where they are those of one and of no namesake.

    Examples
    --------
    >>> source_of("resnet18", 10, []).program
    'kuangliu/pytorch-cifar'
    >>> source_of("vgg16_bn_radmm", 10, ["module.features.0.weight"]) is None
    True
    >>> source_of("torchvision:resnet50", 1000, []) is None
    True
    """
    if has_namesake(architecture, classes):
        return None
    spelled_names = list(names)
    for row in SOURCES:
        named = not row.mark or any(re.search(row.mark, name) for name in spelled_names)
        if _is_one_of(row.architectures, architecture) and named and row.classes in {None, classes}:
            return row
    return None


def has_namesake(architecture: str, classes: int) -> bool:
    """Return whether another published network has the names of this one, whatever program they are of.

    Examples
    --------
    >>> has_namesake("resnet18", 200), has_namesake("resnet18", 10)
    (True, False)
    """
    return any(_is_one_of(row.architectures, architecture) and row.classes == classes for row in NAMESAKES)


def is_own_change(name: str, classes: int) -> bool:
    """Return whether a variant is somebody's own change: no published program with so many classes is so.

    Examples
    --------
    >>> is_own_change("resnet18:stem-stride-2", 10), is_own_change("resnet18:stem-stride-2", 200)
    (True, False)
    """
    architecture, variant = base_and_variant(name)
    published = {
        row.variant for row in NAMESAKES if _is_one_of(row.architectures, architecture) and row.classes == classes
    }
    own = {row.name for row in _rows(architecture) if row.own} - published
    return bool(variant) and not own.isdisjoint(variant.split("+"))


def base_and_variant(name: str) -> tuple[str, str]:
    """Return the architecture and the variant of a name; the variant is empty where there is none.

    Examples
    --------
    >>> base_and_variant("torchvision:resnet18:no-stem-pool")
    ('torchvision:resnet18', 'no-stem-pool')
    >>> base_and_variant("resnet20")
    ('resnet20', '')
    """
    parts = name.split(":")
    words = 2 if parts[0] in {"torchvision", "timm"} else 1
    return ":".join(parts[:words]), ":".join(parts[words:])


def change(architecture: str, variant: str) -> Variant:
    """Return what makes a network of an architecture the variant of a name, which may be several with ``+``.

    Raises
    ------
    InputError
        The architecture has no such variant; those that it has are named.
    """
    rows = {row.name: row for row in _rows(architecture)}
    names = variant.split("+")
    for name in names:
        if name not in rows:
            variants = ", ".join(f"{architecture}:{row}" for row in rows)
            raise InputError(
                f"`architecture` {architecture} has no variant {name!r}: "
                + (f"give {architecture}, or one of {variants}" if variants else f"give {architecture}, it has none")
            )
    size = next((rows[name].image_size for name in names if rows[name].image_size), None)
    return Variant(
        architecture,
        variant,
        in_turn(*(rows[name].make for name in names)),
        ", ".join(rows[name].sentence or name for name in names),
        size,
    )


def _rows(architecture: str) -> list[Variant]:
    """Return the rows of an architecture, without those of what the options in its name say."""
    said = architecture.partition("(")[2]
    return [
        row
        for row in VARIANTS
        if _is_one_of(row.architectures, architecture) and not (row.argument and f"{row.argument}=" in said)
    ]


def _is_one_of(pattern: str, architecture: str) -> bool:
    """Return whether the name of an architecture, without options in brackets, matches a pattern."""
    return re.fullmatch(pattern, architecture.partition("(")[0]) is not None
