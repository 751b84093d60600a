"""Wide residual networks for 32x32 images, of any depth and factor: the form of TRADES and HYDRA, and other codes'."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["wide_resnet", "wrn_28_4", "wrn_28_10"]

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU}


class WideBlock(nn.Module):
    """Batch norm, ReLU, 3x3 convolution, twice; a projected shortcut starts after the first ReLU, or before it.

    Parameters
    ----------
    activated
        The shortcut starts after the first ReLU.
    early
        The first convolution has the stride, else the second.
    same
        At stride 2, zeros lie only below and to the right, as in TensorFlow.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        *,
        bias: bool = False,
        activated: bool = True,
        early: bool = True,
        same: bool = False,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.activated = activated
        self.same = same and stride == 2
        strides = (stride, 1) if early else (1, stride)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = ACTIVATIONS[activation]()
        padding = 0 if self.same else 1
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=strides[0], padding=padding, bias=bias)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = ACTIVATIONS[activation]()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride=strides[1], padding=1, bias=bias)
        projection = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=bias)
        self.convShortcut = None if inputs == outputs and stride == 1 else projection

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the block's width, smaller by its stride."""
        active = self.relu1(self.bn1(maps))
        around = maps if self.convShortcut is None else self.convShortcut(active if self.activated else maps)
        if self.same:
            active = functional.pad(active, (0, 1, 0, 1))
        residual: Tensor = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return residual + around

    def extra_repr(self) -> str:
        """Return what the printed network shows."""
        return f"activated={self.activated}, same={self.same}"


def wide_resnet(
    depth: int,
    factor: int,
    classes: int = 10,
    *,
    channels: int = 3,
    shortcut: str = "activated",
    bias: bool = False,
    stride: str = "first",
    padding: str = "symmetric",
    activation: str = "relu",
) -> nn.Module:
    """WideResNet (Zagoruyko and Komodakis 2016) of depth 6n+4 for 32x32 images: ``wrn_28_10``.

    Parameters
    ----------
    depth, factor
        As in the name.
    classes, channels
        Outputs and inputs.
    shortcut
        Where the shape changes, a 1x1 convolution of the ``activated`` maps (after the first ReLU: TRADES, HYDRA) or
        of the ``raw`` ones.
    bias
        The convolutions have one.
    stride
        The convolution of a block that has it: ``first`` or ``second``.
    padding
        ``symmetric``, or ``same`` as in TensorFlow (DeepMind's networks).
    activation
        ``relu`` or ``silu``.
    """
    blocks, rest = divmod(depth - 4, 6)
    if rest or blocks < 1 or factor < 1:
        raise ValueError(f"depth {depth} is not 6n+4 with n above 0, or factor {factor} is below 1")
    for name, value, choices in (
        ("shortcut", shortcut, ("activated", "raw")),
        ("stride", stride, ("first", "second")),
        ("padding", padding, ("symmetric", "same")),
        ("activation", activation, tuple(ACTIVATIONS)),
    ):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}, not {' or '.join(choices)}")
    block = partial(
        WideBlock,
        bias=bias,
        activated=shortcut == "activated",
        early=stride == "first",
        same=padding == "same",
        activation=activation,
    )
    layers: dict[str, nn.Module] = {"conv1": nn.Conv2d(channels, 16, 3, padding=1, bias=bias)}
    inputs = 16
    for number in (1, 2, 3):
        outputs = 16 * factor * 2 ** (number - 1)
        first = block(inputs, outputs, 1 if number == 1 else 2)
        rest_of_group = (block(outputs, outputs, 1) for _ in range(blocks - 1))
        layers[f"block{number}"] = nn.Sequential(OrderedDict(layer=nn.Sequential(first, *rest_of_group)))
        inputs = outputs
    layers |= {
        "bn1": nn.BatchNorm2d(inputs),
        "relu": ACTIVATIONS[activation](),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "fc": nn.Linear(inputs, classes),
    }
    return nn.Sequential(OrderedDict(layers))


wrn_28_4 = partial(wide_resnet, 28, 4)
wrn_28_10 = partial(wide_resnet, 28, 10)
