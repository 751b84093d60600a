"""Pre-activation residual networks: those of Merkle et al., and the CIFAR ones of any depth, width and block."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from thinice.models.architectures.depths import stages

__all__ = ["preact_resnet", "preact_resnet8", "preact_resnet18", "preact_resnet18_cifar"]


class PreActBlock(nn.Module):
    """Batch norm, ReLU, 3x3 convolution, twice; a projected shortcut starts after the first ReLU, or before it."""

    expansion = 1

    def __init__(
        self, inputs: int, width: int, stride: int, *, bias: bool = False, activated: bool = True, early: bool = False
    ) -> None:
        super().__init__()
        if early:
            raise ValueError("stride is of bottleneck blocks alone")
        self.activated = activated
        self.relu = nn.ReLU()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.shortcut = _projection(inputs, width, stride, bias=bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the block's width, smaller by its stride."""
        active = self.relu(self.bn1(maps))
        around = maps if self.shortcut is None else self.shortcut(active if self.activated else maps)
        residual: Tensor = self.conv2(self.relu(self.bn2(self.conv1(active))))
        return residual + around

    def extra_repr(self) -> str:
        """Return what the printed network shows."""
        return "" if self.activated else "activated=False"


class PreActBottleneck(nn.Module):
    """Batch norm, ReLU, convolution, three times: 1x1, 3x3 and 1x1; the shortcut as in `PreActBlock`.

    The 3x3 convolution has the stride, or with ``early`` the first one.
    """

    expansion = 4

    def __init__(
        self, inputs: int, width: int, stride: int, *, bias: bool = False, activated: bool = True, early: bool = False
    ) -> None:
        super().__init__()
        self.activated = activated
        self.relu = nn.ReLU()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 1, stride=stride if early else 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=1 if early else stride, padding=1, bias=bias)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, self.expansion * width, 1, bias=bias)
        self.shortcut = _projection(inputs, self.expansion * width, stride, bias=bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of four times the block's width, smaller by its stride."""
        active = self.relu(self.bn1(maps))
        around = maps if self.shortcut is None else self.shortcut(active if self.activated else maps)
        residual = self.conv2(self.relu(self.bn2(self.conv1(active))))
        outputs: Tensor = self.conv3(self.relu(self.bn3(residual)))
        return outputs + around

    def extra_repr(self) -> str:
        """Return what the printed network shows."""
        return "" if self.activated else "activated=False"


BLOCKS: dict[str, type[PreActBlock | PreActBottleneck]] = {"basic": PreActBlock, "bottleneck": PreActBottleneck}


def _projection(inputs: int, outputs: int, stride: int, *, bias: bool) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=bias))


def _stage(inputs: int, width: int, stride: int, blocks: int) -> nn.Sequential:
    first = PreActBlock(inputs, width, stride)
    return nn.Sequential(first, *(PreActBlock(width, width, 1) for _ in range(blocks - 1)))


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


def preact_resnet(
    depth: int,
    classes: int = 10,
    *,
    channels: int = 3,
    blocks: Sequence[int] | None = None,
    block: str | None = None,
    width: int | None = None,
    shortcut: str = "activated",
    bias: bool = False,
    first_norm: bool = False,
    last_norm: bool = True,
    stride: str = "3x3",
) -> nn.Module:
    """Pre-activation ResNet of a depth for 32x32 images, with the stages that `resnet` has for it.

    The base network of FlyingBird and RobustBird is that of depth 18.

    Parameters
    ----------
    depth, classes, channels, blocks, block, width
        As of `resnet`.
    shortcut
        Where the shape changes, a 1x1 convolution of the ``activated`` maps (after the first ReLU) or of the ``raw``
        ones.
    bias
        The convolutions have one.
    first_norm, last_norm
        Batch norm and ReLU after the stem, and before the average pool.
    stride
        The convolution of a bottleneck that has it: ``3x3`` or ``first``.
    """
    numbers, kind_of_block = stages(depth, blocks, block)
    if shortcut not in {"activated", "raw"}:
        raise ValueError(f"shortcut is {shortcut!r}, not activated or raw")
    kind = BLOCKS[kind_of_block]
    first = width or (64 if len(numbers) > 3 else 16)
    layers: dict[str, nn.Module] = {"conv1": nn.Conv2d(channels, first, 3, padding=1, bias=bias)}
    if first_norm:
        layers |= {"bn1": nn.BatchNorm2d(first), "relu1": nn.ReLU()}
    inputs = first
    for index, number in enumerate(numbers):
        stage = nn.Sequential()
        for position in range(number):
            halved = 2 if index and not position else 1
            stage.append(
                kind(
                    inputs,
                    first * 2**index,
                    halved,
                    bias=bias,
                    activated=shortcut == "activated",
                    early=stride == "first",
                )
            )
            inputs = kind.expansion * first * 2**index
        layers[f"layer{index + 1}"] = stage
    if last_norm:
        layers |= {"bn": nn.BatchNorm2d(inputs), "relu": nn.ReLU()}
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "linear": nn.Linear(inputs, classes)}
    return nn.Sequential(OrderedDict(layers))


preact_resnet18_cifar = partial(preact_resnet, 18)
