"""VGG networks: the VGG11-like one of Merkle et al., VGG16 with batch norm as published, and any configuration.

VGG16 has thirteen 3x3 convolutions, each with batch norm and ReLU, and four 2x2 max-pools between stages.
What follows differs from paper to paper, in the names of the parameters and in what is computed; each form
that published checkpoints of adversarial pruning have is a name of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from thinice.models.architectures import for_images_of

__all__ = [
    "POOLS",
    "vgg",
    "vgg11",
    "vgg16_bn",
    "vgg16_bn_li20",
    "vgg16_bn_mad",
    "vgg16_bn_pwoa",
    "vgg16_bn_radmm",
    "vgg16_bn_rst",
    "vgg16_bn_twinrep",
]

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
CIFAR = (3, 32, 32)
POOLS = ("none", "max", "mean", "max-mean")
"""Between convolutions and classifier: nothing, a 2x2 max-pool, the mean of fields, or first one and then the other."""

MOST_POSITIONS = 100
"""Layers of a classifier, its dropouts among them."""


def _convolution(inputs: int, outputs: int, *, bias: bool) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias), nn.BatchNorm2d(outputs), nn.ReLU()]


def _features(channels: int, *, bias: bool = False) -> nn.Sequential:
    """Return the thirteen convolutions, max-pools between stages: (N, C, 32, 32) to (N, 512, 2, 2)."""
    layers: list[nn.Module] = []
    for stage in STAGES:
        layers += [nn.MaxPool2d(2)] if layers else []
        for width in stage:
            layers += _convolution(channels, width, bias=bias)
            channels = width
    return nn.Sequential(*layers)


def _named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


@for_images_of(*CIFAR)
def vgg11(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """VGG11-like network of Merkle et al. for 32x32 images; 11,325,120 prunable weights.

    Eight 3x3 convolutions without bias (64, 128, 256, 256, 512 four times), each followed by ReLU, a 2x2
    max-pool (after the second, fourth, sixth and eighth) and batch norm; then 2048 to 1024 to classes.
    """
    widths = (channels, 64, 128, 256, 256, 512, 512, 512, 512)
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if index % 2 else []
        layers += [nn.BatchNorm2d(outputs)]
    return _named(
        features=nn.Sequential(*layers),
        flatten=nn.Flatten(),
        fc1=nn.Linear(2048, 1024),
        relu=nn.ReLU(),
        fc2=nn.Linear(1024, classes),
    )


def vgg16_bn(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """VGG16 with batch norm as HYDRA, HARP and the adversarial pruning benchmark have it.

    Convolutions without bias, average over 2x2 fields, linear layers 2048, 256, 256, classes.
    """
    return _named(
        features=_features(channels),
        pool=nn.AdaptiveAvgPool2d((2, 2)),
        flatten=nn.Flatten(),
        classifier=nn.Sequential(
            nn.Linear(2048, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, classes)
        ),
    )


@for_images_of(*CIFAR)
def vgg16_bn_radmm(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """VGG16 with batch norm as R-ADMM, FlyingBird and RobustBird have it.

    Convolutions with bias, a fifth max-pool, one linear layer from 512.
    """
    return _named(
        features=_features(channels, bias=True),
        pool=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        classifier=nn.Linear(512, classes),
    )


@for_images_of(*CIFAR)
def vgg16_bn_twinrep(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """VGG16 with batch norm as TwinRep has it: no bias, a fifth max-pool, one linear layer from 512."""
    return _named(
        features=_features(channels),
        pool=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        classifier=nn.Linear(512, classes),
    )


@for_images_of(*CIFAR)
def vgg16_bn_mad(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """VGG16 with batch norm as MAD has it: no bias, an average pool at the end, one linear layer from 512."""
    return _named(
        feature=_features(channels),
        pool=nn.AvgPool2d(2),
        flatten=nn.Flatten(),
        classifier=nn.Linear(512, classes),
    )


@for_images_of(*CIFAR)
def vgg16_bn_li20(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """VGG16 with batch norm as Li et al. 2020 have it: average pool, linear 512, batch norm, classes."""
    return _named(
        feature=_features(channels),
        pool=nn.AvgPool2d(2),
        flatten=nn.Flatten(),
        classifier=nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, classes)),
    )


def vgg16_bn_pwoa(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """VGG16 with batch norm as PwoA has it: stages named ``layer1`` to ``layer5``, convolutions with bias."""
    stages: dict[str, nn.Module] = {}
    for number, stage in enumerate(STAGES, start=1):
        pool = nn.MaxPool2d(2) if number < len(STAGES) else nn.AdaptiveAvgPool2d((2, 2))
        blocks: list[nn.Module] = []
        for width in stage:
            blocks.append(nn.Sequential(*_convolution(channels, width, bias=True)))
            channels = width
        stages[f"layer{number}"] = nn.Sequential(*blocks, pool)
    return _named(
        **stages,
        flatten=nn.Flatten(),
        layer6=nn.Sequential(nn.Linear(2048, 256), nn.ReLU()),
        layer7=nn.Sequential(nn.Linear(256, 256), nn.ReLU()),
        layer8=nn.Linear(256, classes),
    )


@for_images_of(*CIFAR)
def vgg16_bn_rst(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """VGG16 with batch norm as robust scratch tickets have it: no bias, a 1x1 convolution as classifier."""
    return _named(
        features=_features(channels),
        pool=nn.MaxPool2d(2),
        classifier=nn.Conv2d(512, classes, 1, bias=False),
        flatten=nn.Flatten(),
    )


def vgg(
    classes: int = 10,
    *,
    channels: int = 3,
    configuration: Sequence[int | str] = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512),
    batch_norm: bool = True,
    bias: bool = True,
    pool: str = "max",
    grid: int = 1,
    hidden: Sequence[int] = (),
    positions: Sequence[int] = (),
    norms: Sequence[int] = (),
) -> nn.Module:
    """VGG of any configuration: 3x3 convolutions, each with ReLU, and 2x2 max-pools between them.

    Parameters
    ----------
    classes, channels
        Outputs and inputs.
    configuration
        The widths of the convolutions in their order, ``"M"`` where a max-pool lies between them.
    batch_norm, bias
        Of the convolutions.
    pool
        What follows the last convolution, one of `POOLS`; means are of as many fields as `grid` has.
    grid
        Height and width of the maps that the classifier takes.
    hidden
        Widths of the linear layers before the last one.
    positions
        Where the linear layers stand in ``classifier``; without it, that is one layer.
    norms
        Where batch norms stand in ``classifier``.
    """
    if pool not in POOLS:
        raise ValueError(f"pool is {pool!r}, not {', '.join(POOLS)}")
    layers: list[nn.Module] = []
    inputs = channels
    for entry in configuration:
        if entry == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        width = int(entry)
        convolution = nn.Conv2d(inputs, width, 3, padding=1, bias=bias)
        layers += [convolution, *([nn.BatchNorm2d(width)] if batch_norm else []), nn.ReLU()]
        inputs = width
    pools = {"max": nn.MaxPool2d(2), "mean": nn.AdaptiveAvgPool2d(grid)}
    after = [pools[part] for part in pool.split("-") if part in pools]
    return _named(
        features=nn.Sequential(*layers),
        pool=nn.Sequential(*after),
        flatten=nn.Flatten(),
        classifier=_classifier(inputs * grid**2, classes, hidden, positions, norms),
    )


def _classifier(
    inputs: int, classes: int, hidden: Sequence[int], positions: Sequence[int], norms: Sequence[int]
) -> nn.Module:
    """Return linear layers at their positions, each but the last with ReLU, dropout (nothing here) between them."""
    if not positions:
        return nn.Linear(inputs, classes)
    widths = (inputs, *hidden, classes)
    places = sorted({*positions, *norms})
    if len(positions) != len(hidden) + 1 or len(places) != len(positions) + len(norms) or places[-1] > MOST_POSITIONS:
        raise ValueError(
            f"{len(positions)} positions of linear layers and {len(norms)} norms fit no {len(hidden)} hidden"
        )
    layers: list[nn.Module] = [nn.Identity() for _ in range(places[-1] + 1)]
    for index, (position, (fewer, more)) in enumerate(zip(positions, pairwise(widths), strict=True)):
        layers[position] = nn.Linear(fewer, more)
        if index == len(hidden):
            break
        after = position + 1
        if after in norms:
            layers[after] = nn.BatchNorm1d(more)
            after += 1
        if after in places:
            raise ValueError(f"no place for ReLU after the linear layer at {position}")
        layers[after] = nn.ReLU()
    return nn.Sequential(*layers)
