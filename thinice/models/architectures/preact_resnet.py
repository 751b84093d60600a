"""Pre-activation residual networks of Merkle et al., and the CIFAR one of FlyingBird and RobustBird."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

__all__ = ["preact_resnet8", "preact_resnet18", "preact_resnet18_cifar"]


class PreActBlock(nn.Module):
    """Batch norm, ReLU, 3x3 convolution, twice; a projected shortcut starts after the first ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False))
            if stride != 1 or inputs != outputs
            else None
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the block's width, smaller by its stride."""
        active = self.relu(self.bn1(maps))
        around = maps if self.shortcut is None else self.shortcut(active)
        residual: Tensor = self.conv2(self.relu(self.bn2(self.conv1(active))))
        return residual + around


def _stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    first = PreActBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(PreActBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


def preact_resnet8(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """Pre-activation ResNet8 of Merkle et al. for 32x32 images; 1,164,640 weights without the 1x1 shortcuts.

    A 3x3 convolution of stride 2 to 32 maps, ReLU, three blocks of stride 2 to 64, 128, 256, average pool.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 32, 3, stride=2, padding=1, bias=False),
            relu=nn.ReLU(),
            block1=PreActBlock(32, 64, 2),
            block2=PreActBlock(64, 128, 2),
            block3=PreActBlock(128, 256, 2),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(256, classes),
        )
    )


def preact_resnet18(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """Pre-activation ResNet18 of Merkle et al. for 224x224 images: 7x7 stem, no final batch norm."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False),
            relu=nn.ReLU(),
            maxpool=nn.MaxPool2d(3, stride=2, padding=1),
            stage1=_stage(64, 64, 1, 2),
            stage2=_stage(64, 128, 2, 2),
            stage3=_stage(128, 256, 2, 2),
            stage4=_stage(256, 512, 2, 2),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(512, classes),
        )
    )


def preact_resnet18_cifar(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """Pre-activation ResNet-18 for 32x32 images: 3x3 stem, final batch norm.

    The base network of FlyingBird and RobustBird, whose files bring the normalisation along as
    ``normalize.mean`` and ``normalize.std``.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 64, 3, padding=1, bias=False),
            layer1=_stage(64, 64, 1, 2),
            layer2=_stage(64, 128, 2, 2),
            layer3=_stage(128, 256, 2, 2),
            layer4=_stage(256, 512, 2, 2),
            bn=nn.BatchNorm2d(512),
            relu=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(512, classes),
        )
    )
