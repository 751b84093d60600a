"""Densely connected networks (Huang et al. 2017) for small and large images, of any depth and growth."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from thinice.models.architectures.resnet import stem_layers

__all__ = ["densenet"]


class DenseLayer(nn.Module):
    """Batch norm, ReLU, convolution, once (3x3) or twice (1x1, 3x3); its maps join those that came in."""

    def __init__(self, inputs: int, growth: int, expansion: int, *, before: bool) -> None:
        super().__init__()
        self.before = before
        self.relu = nn.ReLU()
        inner = expansion * growth
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, inner or growth, 1 if inner else 3, padding=0 if inner else 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner) if inner else None
        self.conv2 = nn.Conv2d(inner, growth, 3, padding=1, bias=False) if inner else None

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps that came in and the new ones, in the order of the layout."""
        new = self.conv1(self.relu(self.bn1(maps)))
        if self.bn2 is not None and self.conv2 is not None:
            new = self.conv2(self.relu(self.bn2(new)))
        return torch.cat([new, maps] if self.before else [maps, new], 1)

    def extra_repr(self) -> str:
        """Return what the printed network shows."""
        return f"before={self.before}"


def densenet(
    classes: int = 10,
    *,
    channels: int = 3,
    blocks: Sequence[int] = (6, 12, 24, 16),
    growth: int = 12,
    expansion: int = 4,
    first: int | None = None,
    transitions: Sequence[int] | None = None,
    stem: str = "cifar",
    stem_norm: bool = False,
    order: str = "before",
    transition_relu: bool = True,
) -> nn.Module:
    """DenseNet with blocks of layers, and transitions (batch norm, ReLU, 1x1 convolution, mean of 2x2) between them.

    Parameters
    ----------
    classes, channels
        Outputs and inputs.
    blocks
        Number of layers in each block.
    growth
        Maps that each layer adds.
    expansion
        A layer first goes to so many times its growth by a 1x1 convolution; 0 for layers of one 3x3 convolution.
    first
        Maps of the stem; without it, twice the growth.
    transitions
        Maps after each transition; without it, half of those before.
    stem, stem_norm
        One of those of `resnet`, with batch norm and ReLU after its convolution or without.
    order
        A layer puts its new maps ``before`` (kuangliu) or ``after`` those that came in (torchvision).
    transition_relu
        Transitions have a ReLU.
    """
    if order not in {"before", "after"}:
        raise ValueError(f"order is {order!r}, not before or after")
    maps = first or 2 * growth
    convolution, pool = stem_layers(channels, maps, stem)
    layers: dict[str, nn.Module] = {"conv1": convolution}
    if stem_norm:
        layers |= {"norm0": nn.BatchNorm2d(maps), "relu0": nn.ReLU()}
    if not isinstance(pool, nn.Identity):
        layers["maxpool"] = pool
    for index, number in enumerate(blocks):
        block = nn.Sequential()
        for _ in range(number):
            block.append(DenseLayer(maps, growth, expansion, before=order == "before"))
            maps += growth
        layers[f"dense{index + 1}"] = block
        if index + 1 < len(blocks):
            fewer = transitions[index] if transitions else maps // 2
            transition: dict[str, nn.Module] = {"bn": nn.BatchNorm2d(maps)}
            if transition_relu:
                transition["relu"] = nn.ReLU()
            transition |= {"conv": nn.Conv2d(maps, fewer, 1, bias=False), "pool": nn.AvgPool2d(2)}
            layers[f"trans{index + 1}"] = nn.Sequential(OrderedDict(transition))
            maps = fewer
    layers |= {
        "bn": nn.BatchNorm2d(maps),
        "relu": nn.ReLU(),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "linear": nn.Linear(maps, classes),
    }
    return nn.Sequential(OrderedDict(layers))
