"""Wide residual networks for 32x32 images, in the form of TRADES and HYDRA."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

__all__ = ["wrn_28_4", "wrn_28_10"]


class WideBlock(nn.Module):
    """Batch norm, ReLU, 3x3 convolution, twice; a projected shortcut starts after the first ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        projection = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
        self.convShortcut = None if inputs == outputs else projection

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the block's width, smaller by its stride."""
        active = self.relu(self.bn1(maps))
        around = maps if self.convShortcut is None else self.convShortcut(active)
        residual: Tensor = self.conv2(self.relu(self.bn2(self.conv1(active))))
        return residual + around


def _group(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    first = WideBlock(inputs, outputs, stride)
    rest = (WideBlock(outputs, outputs, 1) for _ in range(blocks - 1))
    return nn.Sequential(OrderedDict(layer=nn.Sequential(first, *rest)))


def _wide(depth: int, factor: int, classes: int, channels: int) -> nn.Module:
    blocks, width = (depth - 4) // 6, 16 * factor
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 16, 3, padding=1, bias=False),
            block1=_group(16, width, 1, blocks),
            block2=_group(width, 2 * width, 2, blocks),
            block3=_group(2 * width, 4 * width, 2, blocks),
            bn1=nn.BatchNorm2d(4 * width),
            relu=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(4 * width, classes),
        )
    )


def wrn_28_4(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """WideResNet-28-4 (Zagoruyko and Komodakis 2016) as TRADES and HYDRA have it; 5.8 M parameters."""
    return _wide(28, 4, classes, channels)


def wrn_28_10(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """WideResNet-28-10 (Zagoruyko and Komodakis 2016) as TRADES and HYDRA have it; 36.5 M parameters."""
    return _wide(28, 10, classes, channels)
