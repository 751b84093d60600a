"""MobileNetV2 (Sandler et al. 2018) for small and large images, of any width."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["mobilenet_v2", "mobilenet_v2_cifar"]

STAGES = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
"""Expansion, width and number of blocks of each stage (Sandler et al. 2018, table 2)."""
STRIDES = {"cifar": (1, 1, 1, 2, 2, 1, 2, 1), "imagenet": (2, 1, 2, 2, 2, 1, 2, 1)}
"""Strides of the stem and of the first block of each stage: for 32x32 and for 224x224 images."""


class InvertedResidual(nn.Module):
    """1x1 convolution, 3x3 in each channel, 1x1, with batch norm; maps of equal shape go around."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * inputs
        layers: list[nn.Module] = [] if expansion == 1 else [_convolution(inputs, inner, 1, 1)]
        layers += [
            _convolution(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.around = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(*layers)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the block's width, smaller by its stride."""
        residual: Tensor = self.conv(maps)
        return maps + residual if self.around else residual


def _convolution(inputs: int, outputs: int, kernel: int, stride: int, *, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())


def mobilenet_v2(
    classes: int = 10,
    *,
    channels: int = 3,
    widths: Sequence[int] = (32, 16, 24, 32, 64, 96, 160, 320, 1280),
    strides: str = "cifar",
) -> nn.Module:
    """MobileNetV2 with the parameter names of torchvision's, and the strides that are usual for 32x32 images.

    Parameters
    ----------
    classes, channels
        Outputs and inputs.
    widths
        Maps of the stem, of the seven stages, and of the last convolution.
    strides
        Those for small images, ``cifar``, or torchvision's for large ones, ``imagenet``.
    """
    if len(widths) != len(STAGES) + 2:
        raise ValueError(f"there must be {len(STAGES) + 2} widths, got {len(widths)}")
    if strides not in STRIDES:
        raise ValueError(f"strides are {strides!r}, not {' or '.join(STRIDES)}")
    features: list[nn.Module] = [_convolution(channels, widths[0], 3, STRIDES[strides][0])]
    inputs = widths[0]
    for (expansion, _, number), width, stride in zip(STAGES, widths[1:-1], STRIDES[strides][1:], strict=True):
        for position in range(number):
            features.append(InvertedResidual(inputs, width, 1 if position else stride, expansion))
            inputs = width
    features.append(_convolution(inputs, widths[-1], 1, 1))
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(*features),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(nn.Identity(), nn.Linear(widths[-1], classes)),
        )
    )


class ProjectedResidual(nn.Module):
    """The same with ReLU, a first 1x1 convolution in every block, and a projection where the width changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * inputs
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.around = stride == 1
        self.shortcut = nn.Sequential()
        if self.around and inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the block's width, smaller by its stride."""
        residual = self.relu(self.bn1(self.conv1(maps)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        outputs: Tensor = self.bn3(self.conv3(residual))
        return outputs + self.shortcut(maps) if self.around else outputs


def mobilenet_v2_cifar(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """MobileNetV2 for 32x32 images as pytorch-cifar (kuangliu) has it: ReLU, projected shortcuts; 2.3 M parameters."""
    blocks = nn.Sequential()
    inputs = 32
    for (expansion, width, number), stride in zip(STAGES, STRIDES["cifar"][1:], strict=True):
        for position in range(number):
            blocks.append(ProjectedResidual(inputs, width, 1 if position else stride, expansion))
            inputs = width
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 32, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(32),
            relu1=nn.ReLU(),
            layers=blocks,
            conv2=nn.Conv2d(inputs, 1280, 1, bias=False),
            bn2=nn.BatchNorm2d(1280),
            relu2=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(1280, classes),
        )
    )
