"""What makes a network another one with the same parameters: other pools, strides, activations, paddings, shortcuts."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from thinice.models.architectures.layer_sizes import pads_channels

__all__ = [
    "Blur",
    "Change",
    "PooledConv2d",
    "dilated",
    "first_stride",
    "in_turn",
    "other_order",
    "padded",
    "pooled_strides",
    "put_layer",
    "raw_shortcuts",
    "replace_each",
    "set_attributes",
    "stride_in_1x1",
]

Change = Callable[[nn.Module], None]
"""Makes a network the variant, in place; the names and shapes of the parameters stay."""


class Blur(nn.Module):
    """Half the size, by the binomial mean of 3x3 fields (Zhang 2019); maps are mirrored at their edges."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of half the size."""
        mirrored = functional.pad(maps, (1, 1, 1, 1), mode="reflect")
        return functional.avg_pool2d(functional.avg_pool2d(mirrored, 2, stride=1), 2)  # (1, 1) * (1, 1) = (1, 2, 1)


class PooledConv2d(nn.Conv2d):
    """A convolution of maps that a layer without parameters makes smaller before."""

    def __init__(self, convolution: nn.Conv2d, pool: nn.Module) -> None:
        padding = int(convolution.padding[0])
        kernel, inputs, outputs = convolution.kernel_size[0], convolution.in_channels, convolution.out_channels
        super().__init__(inputs, outputs, kernel, padding=padding, bias=convolution.bias is not None)
        self.pool = pool

    def forward(self, maps: Tensor) -> Tensor:
        """Return the convolution of the smaller maps."""
        return super().forward(self.pool(maps))


def set_attributes(path: str, **attributes: object) -> Change:
    """Return a change of attributes of the layer at a path."""

    def make(network: nn.Module) -> None:
        for name, value in attributes.items():
            setattr(network.get_submodule(path), name, value)

    return make


def put_layer(path: str, layer: Callable[[], nn.Module]) -> Change:
    """Return a change that puts a new layer at a path."""
    return lambda network: network.set_submodule(path, layer())


def replace_each(kind: type[nn.Module], layer: Callable[[], nn.Module]) -> Change:
    """Return a change of every layer of a kind; a layer that is used twice stays one."""

    def make(network: nn.Module) -> None:
        new: dict[nn.Module, nn.Module] = {}
        for parent in list(network.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is kind:
                    setattr(parent, name, new.setdefault(child, layer()))

    return make


def first_stride(stride: int) -> Change:
    """Return a change of the stride of the first convolution."""

    def make(network: nn.Module) -> None:
        first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
        first.stride = (stride, stride)

    return make


def in_turn(*changes: Change) -> Change:
    """Return a change that makes several, one after the other."""

    def make(network: nn.Module) -> None:
        for each in changes:
            each(network)

    return make


def dilated(*stages: str) -> Change:
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


def raw_shortcuts(network: nn.Module) -> None:
    """Let the shortcuts of pre-activation blocks start before the first ReLU, as in RobustBench."""
    for block in network.modules():
        if hasattr(block, "activated"):
            vars(block)["activated"] = False


def other_order(network: nn.Module) -> None:
    """Let the layers of a `densenet` put their maps at the other end of those that came in."""
    for layer in network.modules():
        if isinstance(vars(layer).get("before"), bool):
            vars(layer)["before"] = not vars(layer)["before"]


def stride_in_1x1(network: nn.Module) -> None:
    """Move the stride of every bottleneck from its 3x3 convolution to the 1x1 before it."""
    for block in network.modules():
        if isinstance(getattr(block, "conv3", None), nn.Conv2d):
            first, second = block.get_submodule("conv1"), block.get_submodule("conv2")
            vars(first)["stride"], vars(second)["stride"] = vars(second)["stride"], (1, 1)


def pooled_strides(pool: Callable[[], nn.Module], stem: Callable[[], nn.Module]) -> Change:
    """Return a change of torchvision's residual networks: what a stride did, a pool does behind the next ReLU."""

    def make(network: nn.Module) -> None:
        for block in list(network.modules()):
            names = ("conv2", "conv3") if hasattr(block, "conv3") else ("conv1", "conv2")
            strided, following = (getattr(block, name, None) for name in names)
            if isinstance(strided, nn.Conv2d) and isinstance(following, nn.Conv2d) and strided.stride == (2, 2):
                strided.stride = (1, 1)
                setattr(block, names[1], PooledConv2d(following, pool()))
        network.set_submodule("maxpool", stem())

    return make


def padded(*, both: bool, mean: bool) -> Change:
    """Return a change of shortcuts without parameters: where their zeros lie, and which pixels they take."""

    def make(network: nn.Module) -> None:
        for shortcut in network.modules():
            if pads_channels(shortcut):
                more = vars(shortcut)["before"] + vars(shortcut)["after"]
                before = more // 2 if both else 0
                vars(shortcut).update(before=before, after=more - before, mean=mean)

    return make
