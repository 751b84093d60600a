"""Residual networks: those of He et al. for 32x32 and 224x224 images, of any depth, width, block and stem."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from thinice.models.architectures.depths import LARGE_STEMS, SMALL_STEMS, stages

__all__ = ["resnet", "resnet18", "resnet18_rst", "resnet20", "resnet32", "resnet44", "resnet56"]


class PaddedShortcut(nn.Module):
    """Half the size, between zero channels: option A of He et al.

    ``mean`` takes the mean of 2x2 fields instead of every second pixel.
    """

    def __init__(self, before: int, after: int, *, mean: bool = False) -> None:
        super().__init__()
        self.before = before
        self.after = after
        self.mean = mean

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of half the size with ``before + after`` more channels."""
        smaller = functional.avg_pool2d(maps, 2) if self.mean else maps[:, :, ::2, ::2]
        return functional.pad(smaller, (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        """Return what the printed network shows."""
        return f"before={self.before}, after={self.after}, mean={self.mean}"


def _shortcut(inputs: int, outputs: int, stride: int, kind: str) -> nn.Module:
    """Return what goes around a block: nothing, a projection, or the maps between zeros."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if kind == "projected":
        return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
    more = outputs - inputs
    if kind == "padded":
        return PaddedShortcut(more // 2, more // 2)
    if kind in {"padded-after", "averaged-padded-after"}:
        return PaddedShortcut(0, more, mean=kind.startswith("averaged"))
    raise ValueError(f"shortcut is {kind!r}, not projected, padded, padded-after or averaged-padded-after")


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut around them."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, *, shortcut: str, groups: int = 1) -> None:
        super().__init__()
        if groups != 1:
            raise ValueError("groups are of bottleneck blocks alone")
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.shortcut = _shortcut(inputs, width, stride, shortcut)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the block's width, smaller by its stride."""
        residual = self.relu(self.bn1(self.conv1(maps)))
        residual = self.bn2(self.conv2(residual))
        output: Tensor = self.relu(residual + self.shortcut(maps))
        return output


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3 (which has the stride) and 1x1 with batch norm, and a shortcut around them."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, *, shortcut: str, groups: int = 1) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.shortcut = _shortcut(inputs, outputs, stride, shortcut)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of four times the block's width, smaller by its stride."""
        residual = self.relu(self.bn1(self.conv1(maps)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        output: Tensor = self.relu(residual + self.shortcut(maps))
        return output


BLOCKS: dict[str, type[Block | Bottleneck]] = {"basic": Block, "bottleneck": Bottleneck}


def stem_layers(channels: int, width: int, stem: str) -> tuple[nn.Module, nn.Module]:
    """Return the first convolution of one of the `SMALL_STEMS` or `LARGE_STEMS`, and its pool."""
    stems = (*SMALL_STEMS, *LARGE_STEMS)
    if stem not in stems:
        raise ValueError(f"stem is {stem!r}, not {', '.join(stems)}")
    pool = nn.Identity() if stem == "cifar" or stem.endswith("no-pool") else nn.MaxPool2d(3, stride=2, padding=1)
    if stem in LARGE_STEMS:
        return nn.Conv2d(channels, width, 7, stride=1 if "stride-1" in stem else 2, padding=3, bias=False), pool
    return nn.Conv2d(channels, width, 3, padding=1, bias=False), pool


class ResNet(nn.Module):
    """A stem, stages of blocks (each but the first halves the size), average pool, ``head``."""

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        classes: int,
        *,
        channels: int,
        block: str = "basic",
        shortcut: str = "projected",
        stem: str = "cifar",
        groups: int = 1,
        head: str = "linear",
    ) -> None:
        super().__init__()
        if block not in BLOCKS:
            raise ValueError(f"block is {block!r}, not {' or '.join(BLOCKS)}")
        kind = BLOCKS[block]
        self.conv1, self.maxpool = stem_layers(channels, widths[0], stem)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.stages = [f"layer{number}" for number in range(1, len(widths) + 1)]
        self.head = head
        inputs = widths[0]
        for index, (name, number, width) in enumerate(zip(self.stages, blocks, widths, strict=True)):
            stage = nn.Sequential()
            for position in range(number):
                stride = 2 if index and not position else 1
                stage.append(kind(inputs, width, stride, shortcut=shortcut, groups=groups))
                inputs = kind.expansion * width
            self.add_module(name, stage)
        # robust scratch tickets end in a 1x1 convolution without bias, which they call fc
        last = nn.Linear(inputs, classes) if head == "linear" else nn.Conv2d(inputs, classes, 1, bias=False)
        self.add_module(head, last)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (N, classes) of normalised inputs (N, C, H, W)."""
        maps = self.maxpool(self.relu(self.bn1(self.conv1(inputs))))
        for name in self.stages:
            maps = self.get_submodule(name)(maps)
        pooled = maps.mean((2, 3), keepdim=True)
        last = self.get_submodule(self.head)
        logits: Tensor = last(pooled.flatten(1) if self.head == "linear" else pooled)
        return logits.flatten(1)


def resnet(
    depth: int,
    classes: int = 10,
    *,
    channels: int = 3,
    blocks: Sequence[int] | None = None,
    block: str | None = None,
    width: int | None = None,
    stem: str = "cifar",
    shortcut: str | None = None,
    groups: int = 1,
) -> nn.Module:
    """Residual network of a depth: 18, 34, 50, 101, 152 with four stages from 64 maps, 6n+2 with three from 16.

    Parameters
    ----------
    depth
        As in the name: ``resnet110``. Without `blocks` and `block`, those that it stands for.
    classes, channels
        Outputs and inputs.
    blocks
        Number of blocks in each stage.
    block
        ``basic`` or ``bottleneck``.
    width
        Maps of the first stage; each further one has twice as many.
    stem
        ``cifar`` (3x3), ``cifar-pool`` (3x3, then a max-pool of stride 2), ``imagenet`` (7x7 of stride 2, then that
        max-pool), or the last without the pool, with stride 1, or both (``imagenet-stride-1-no-pool``).
    shortcut
        Where the shape changes: ``projected``; ``padded`` (every second pixel, zeros on both sides, option A),
        ``padded-after``, or ``averaged-padded-after``. Without it, padded for three stages, else projected.
    groups
        Of the 3x3 convolutions of bottleneck blocks.
    """
    numbers, kind_of_block = stages(depth, blocks, block)
    first = width or (64 if len(numbers) > 3 else 16)
    return ResNet(
        numbers,
        [first * 2**stage for stage in range(len(numbers))],
        classes,
        channels=channels,
        block=kind_of_block,
        shortcut=shortcut or ("projected" if len(numbers) > 3 else "padded"),
        stem=stem,
        groups=groups,
    )


resnet18 = partial(resnet, 18)
resnet20 = partial(resnet, 20)
resnet32 = partial(resnet, 32)
resnet44 = partial(resnet, 44)
resnet56 = partial(resnet, 56)


def resnet18_rst(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """CIFAR ResNet-18 as robust scratch tickets have it: a 1x1 convolution ``fc`` as classifier."""
    return ResNet((2, 2, 2, 2), (64, 128, 256, 512), classes, channels=channels, head="fc")
