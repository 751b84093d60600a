"""Networks that share the parameter names and shapes of an architecture and compute something else: its variants.

Names and shapes do not show what has no parameters: pools, strides, activations, paddings, dilations. `VARIANTS` lists
what published code varies, one row each; ``NAME:VARIANT`` builds one, ``NAME:VARIANT+VARIANT`` several at once.
`SOURCES` lists which names are those of one published program: then the function is that program's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn

from thinice.errors import InputError

__all__ = ["SOURCES", "VARIANTS", "Source", "Variant", "base_and_variant", "change", "source_of", "variants_of"]

Change = Callable[[nn.Module], None]
"""Makes a network the variant, in place; the names and shapes of the parameters stay."""


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
        How it differs.
    image_size : int, optional
        Height and width of the images, where the variant takes another size than the architecture.
    """

    architectures: str
    name: str
    make: Change
    sentence: str
    image_size: int | None = None


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


def _layer(path: str, **attributes: object) -> Change:
    """Return a change of attributes of the layer at a path."""

    def make(network: nn.Module) -> None:
        for name, value in attributes.items():
            setattr(network.get_submodule(path), name, value)

    return make


def _instead(path: str, layer: Callable[[], nn.Module]) -> Change:
    """Return a change that puts a new layer at a path."""
    return lambda network: network.set_submodule(path, layer())


def _each(kind: type[nn.Module], layer: Callable[[], nn.Module]) -> Change:
    """Return a change of every layer of a kind; a layer that is used twice stays one."""

    def make(network: nn.Module) -> None:
        new: dict[nn.Module, nn.Module] = {}
        for parent in list(network.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is kind:
                    setattr(parent, name, new.setdefault(child, layer()))

    return make


def _first_stride(network: nn.Module) -> None:
    """Let the first convolution keep the size of the image."""
    first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    first.stride = (1, 1)


def _together(*changes: Change) -> Change:
    def make(network: nn.Module) -> None:
        for each in changes:
            each(network)

    return make


def _dilated(*stages: str) -> Change:
    """Return torchvision's ``replace_stride_with_dilation``: a stage keeps the size and widens its kernels instead."""

    def make(network: nn.Module) -> None:
        dilation = 1
        for stage in stages:
            before, dilation = dilation, 2 * dilation
            for position, block in enumerate(network.get_submodule(stage).children()):
                for layer in block.modules():
                    if not isinstance(layer, nn.Conv2d):
                        continue
                    layer.stride = (1, 1)
                    if layer.kernel_size != (1, 1):
                        wide = dilation if position else before
                        layer.dilation = layer.padding = (wide, wide)

    return make


def _raw_shortcuts(network: nn.Module) -> None:
    """Let the shortcuts of pre-activation blocks start before the first ReLU, as in RobustBench."""
    for block in network.modules():
        if hasattr(block, "activated"):
            vars(block)["activated"] = False


def _stride_in_1x1(network: nn.Module) -> None:
    """Move the stride of every bottleneck from its 3x3 convolution to the 1x1 before it."""
    for block in network.modules():
        if isinstance(getattr(block, "conv3", None), nn.Conv2d):
            first, second = block.get_submodule("conv1"), block.get_submodule("conv2")
            vars(first)["stride"], vars(second)["stride"] = vars(second)["stride"], (1, 1)


RELU = (
    r"resnet\d+|resnet18_rst|wrn_.*|preact_resnet\d+_cifar|small_cnn|vgg|vgg16_bn.*"
    r"|torchvision:(resnet|resnext|wide_resnet|vgg|alexnet).*"
)
MOBILENET = "torchvision:mobilenet_v2"
RESNETS = r"torchvision:(resnet|resnext|wide_resnet)\d+.*"
BOTTLENECKS = r"torchvision:(resnet(50|101|152)|resnext\d+.*|wide_resnet\d+.*)"
STRIDED = r"torchvision:(alexnet|efficientnet|mnasnet|mobilenet_v3|regnet|squeezenet).*"
SHUFFLENETS = r"torchvision:shufflenet_v2.*"
DENSENETS = r"torchvision:densenet.*"
VGGS = r"vgg|vgg16_bn.*|torchvision:vgg.*"
KUANGLIU = r"resnet(10|18|26|34|50|101|152)"
MAX_AT_THE_END = "vgg16_bn_(radmm|twinrep)"

VARIANTS = (
    Variant(MAX_AT_THE_END, "average-pool", _instead("pool", lambda: nn.AvgPool2d(2)), "the last pool is an average"),
    Variant("vgg16_bn_(mad|li20)", "max-pool", _instead("pool", lambda: nn.MaxPool2d(2)), "the last pool is a maximum"),
    Variant(VGGS, "average-pools", _each(nn.MaxPool2d, lambda: nn.AvgPool2d(2)), "every pool is an average"),
    Variant("preact_resnet18_cifar", "raw-shortcut", _raw_shortcuts, "shortcuts start before the first ReLU"),
    Variant("cnn5", "tanh", _each(nn.ReLU, nn.Tanh), "tanh for ReLU"),
    Variant("cnn5", "sigmoid", _each(nn.ReLU, nn.Sigmoid), "sigmoid for ReLU"),
    Variant("cnn5", "average-pool", _each(nn.MaxPool2d, lambda: nn.AvgPool2d(2)), "average pools"),
    Variant("cnn5", "unpadded", _layer("conv1", padding=(0, 0)), "no padding, for 32x32 images", image_size=32),
    Variant(RESNETS, "stem-stride-1", _layer("conv1", stride=(1, 1)), "the first layer keeps the size"),
    Variant(RESNETS, "no-stem-pool", _instead("maxpool", nn.Identity), "no pooling after the first layer"),
    Variant(BOTTLENECKS, "stride-in-1x1", _stride_in_1x1, "blocks halve the size in their first convolution (Caffe)"),
    Variant(RESNETS, "dilated-2", _dilated("layer3", "layer4"), "dilation for stride in the last two stages"),
    Variant(RESNETS, "dilated-1", _dilated("layer4"), "dilation for stride in the last stage"),
    Variant(
        MOBILENET,
        "stem-stride-1",
        _layer("features.0.0", stride=(1, 1)),
        "the first layer keeps the size",
    ),
    Variant(
        MOBILENET,
        "stage2-stride-1",
        _layer("features.2.conv.1.0", stride=(1, 1)),
        "the second stage keeps the size",
    ),
    Variant(SHUFFLENETS, "stem-stride-1", _layer("conv1.0", stride=(1, 1)), "the first layer keeps the size"),
    Variant(SHUFFLENETS, "no-stem-pool", _instead("maxpool", nn.Identity), "no pooling after the first layer"),
    Variant(DENSENETS, "stem-stride-1", _layer("features.conv0", stride=(1, 1)), "the first layer keeps the size"),
    Variant(DENSENETS, "no-stem-pool", _instead("features.pool0", nn.Identity), "no pooling after the first layer"),
    Variant(STRIDED, "stem-stride-1", _first_stride, "the first layer keeps the size"),
    Variant(KUANGLIU, "stem-stride-2", _layer("conv1", stride=(2, 2)), "the first layer halves the size"),
    Variant(
        KUANGLIU,
        "stem-pool",
        _instead("maxpool", lambda: nn.MaxPool2d(3, stride=2, padding=1)),
        "a max-pool after the first layer",
    ),
    Variant(
        "torchvision:(googlenet|inception_v3)",
        "transform-input",
        _layer("", transform_input=True),
        "transform_input=True, as torchvision's own weights want it",
    ),
    Variant(RELU, "silu", _each(nn.ReLU, nn.SiLU), "SiLU (swish) for ReLU"),
    Variant(RELU, "gelu", _each(nn.ReLU, nn.GELU), "GELU for ReLU"),
    Variant(RELU, "leaky-relu", _each(nn.ReLU, lambda: nn.LeakyReLU(0.1)), "leaky ReLU of slope 0.1 for ReLU"),
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
    Source("resnet18", "kuangliu/pytorch-cifar"),
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


def variants_of(architecture: str) -> tuple[str, ...]:
    """Return the names of an architecture's variants as `build` takes them.

    Examples
    --------
    >>> variants_of("vgg16_bn_twinrep")[0]
    'vgg16_bn_twinrep:average-pool'
    """
    together = [name for pattern, names in COMBINED if _is_one_of(pattern, architecture) for name in names]
    return tuple(f"{architecture}:{name}" for name in (*(row.name for row in _rows(architecture)), *together))


def source_of(architecture: str, classes: int, names: Iterable[str]) -> Source | None:
    """Return the published program whose parameter names these are, where they are those of one.

    Examples
    --------
    >>> source_of("resnet18", 10, []).program
    'kuangliu/pytorch-cifar'
    >>> source_of("vgg16_bn_radmm", 10, ["module.features.0.weight"]) is None
    True
    """
    spelled_names = list(names)
    for row in SOURCES:
        named = not row.mark or any(re.search(row.mark, name) for name in spelled_names)
        if _is_one_of(row.architectures, architecture) and named and row.classes in {None, classes}:
            return row
    return None


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
        _together(*(rows[name].make for name in names)),
        ", ".join(rows[name].sentence for name in names),
        size,
    )


def _rows(architecture: str) -> list[Variant]:
    options = architecture.partition("(")[2]
    said = {RELU: "activation=" in options, KUANGLIU: "stem=" in options}
    rows = [row for row in VARIANTS if _is_one_of(row.architectures, architecture)]
    return [row for row in rows if not said.get(row.architectures)]


def _is_one_of(pattern: str, architecture: str) -> bool:
    """Return whether the name of an architecture, without options in brackets, matches a pattern."""
    return re.fullmatch(pattern, architecture.partition("(")[0]) is not None
