"""Residual networks for 32x32 images: the narrow ones of He et al., and the CIFAR form of ResNet-18."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["resnet18", "resnet18_rst", "resnet20", "resnet32", "resnet44", "resnet56"]


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut around them."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, projected: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module
        if stride == 1 and inputs == outputs:
            self.shortcut = nn.Identity()
        elif projected:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )
        else:
            self.shortcut = PaddedShortcut((outputs - inputs) // 2, (outputs - inputs) // 2)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the block's width, smaller by its stride."""
        residual = functional.relu(self.bn1(self.conv1(maps)))
        residual = self.bn2(self.conv2(residual))
        return functional.relu(residual + self.shortcut(maps))


class PaddedShortcut(nn.Module):
    """Every second pixel, between zero channels: option A of He et al."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.before = before
        self.after = after

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of half the size with ``before + after`` more channels."""
        return functional.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        """Return what the printed network shows."""
        return f"before={self.before}, after={self.after}"


class ResNet(nn.Module):
    """A 3x3 convolution, stages of blocks (each but the first halves the size), average pool, ``head``."""

    def __init__(
        self,
        blocks: int,
        widths: tuple[int, ...],
        head: dict[str, nn.Module],
        *,
        channels: int,
        projected: bool,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stages = [f"layer{number}" for number in range(1, len(widths) + 1)]
        self.head = list(head)
        inputs = widths[0]
        for index, (name, width) in enumerate(zip(self.stages, widths, strict=True)):
            stage = nn.Sequential()
            for position in range(blocks):
                stride = 2 if index and not position else 1
                stage.append(Block(inputs, width, stride, projected=projected))
                inputs = width
            self.add_module(name, stage)
        for name, layer in head.items():
            self.add_module(name, layer)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (N, classes) of normalised inputs (N, C, H, W)."""
        maps = functional.relu(self.bn1(self.conv1(inputs)))
        for name in self.stages:
            maps = self.get_submodule(name)(maps)
        pooled = maps.mean((2, 3), keepdim=True)
        for name in self.head:
            layer = self.get_submodule(name)
            pooled = layer(pooled.flatten(1) if isinstance(layer, nn.Linear) else pooled)
        return pooled.flatten(1)


def _narrow(blocks: int, classes: int, channels: int) -> nn.Module:
    head: dict[str, nn.Module] = {"linear": nn.Linear(64, classes)}
    return ResNet(blocks, (16, 32, 64), head, channels=channels, projected=False)


def resnet20(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """Narrow CIFAR ResNet-20 (He et al. 2016): widths 16, 32, 64, shortcut option A; 0.27 M parameters."""
    return _narrow(3, classes, channels)


def resnet32(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """Narrow CIFAR ResNet-32 (He et al. 2016): widths 16, 32, 64, shortcut option A; 0.46 M parameters."""
    return _narrow(5, classes, channels)


def resnet44(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """Narrow CIFAR ResNet-44 (He et al. 2016): widths 16, 32, 64, shortcut option A; 0.66 M parameters."""
    return _narrow(7, classes, channels)


def resnet56(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """Narrow CIFAR ResNet-56 (He et al. 2016): widths 16, 32, 64, shortcut option A; 0.85 M parameters."""
    return _narrow(9, classes, channels)


def resnet18(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """CIFAR ResNet-18: 3x3 stem without pooling, widths 64 to 512, projected shortcuts; 11.2 M parameters.

    The base network of HYDRA, HARP, R-ADMM, MAD, TwinRep, PwoA and the adversarial pruning benchmark.
    """
    head: dict[str, nn.Module] = {"linear": nn.Linear(512, classes)}
    return ResNet(2, (64, 128, 256, 512), head, channels=channels, projected=True)


def resnet18_rst(classes: int = 10, *, channels: int = 3) -> nn.Module:
    """CIFAR ResNet-18 as robust scratch tickets have it: a 1x1 convolution ``fc`` as classifier."""
    head: dict[str, nn.Module] = {"fc": nn.Conv2d(512, classes, 1, bias=False)}
    return ResNet(2, (64, 128, 256, 512), head, channels=channels, projected=True)
