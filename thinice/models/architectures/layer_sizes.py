"""Networks whose layers have other sizes than their architecture's: what is left where channels were removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

__all__ = ["resize"]


def resize(network: nn.Module, layer_sizes: Mapping[str, Sequence[int]]) -> None:
    """Give layers of a network other sizes, in place: inputs and outputs of a group, or channels of a batch norm.

    Parameters
    ----------
    network : nn.Module
        Of convolutions, linear layers and batch norms; what it computes is the same for any sizes that fit together.
    layer_sizes : mapping of str to (outputs, inputs) or (channels,)
        The first sizes of each layer's weight, by the layer's name.

    Raises
    ------
    ValueError
        No such layer, or sizes that its kind cannot have.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8))
    >>> resize(network, {"0": (5, 3), "1": (5,)})
    >>> network[0].weight.shape, network[1].weight.shape
    (torch.Size([5, 3, 3, 3]), torch.Size([5]))
    """
    for name, given in layer_sizes.items():
        try:
            layer = network.get_submodule(name)
        except AttributeError:
            raise ValueError(f"layer_sizes names {name!r}, which is no layer") from None
        sizes = [int(size) for size in given]
        if not sizes or min(sizes) < 1:
            raise ValueError(f"layer_sizes of {name} are {sizes}: give positive numbers")
        network.set_submodule(name, _resized(name, layer, sizes))


def _resized(name: str, layer: nn.Module, sizes: Sequence[int]) -> nn.Module:
    """Return a fresh layer of the same kind with other sizes."""
    if type(layer) is nn.Conv2d and len(sizes) == 2:
        outputs, inputs = sizes
        each = layer.groups == layer.in_channels > 1  # one filter a channel: as many groups as channels
        groups = outputs if each else layer.groups
        return nn.Conv2d(
            inputs * groups,
            outputs,
            layer.kernel_size,  # type: ignore[arg-type] # a pair
            stride=layer.stride,  # type: ignore[arg-type] # a pair
            padding=layer.padding,  # type: ignore[arg-type] # a pair
            dilation=layer.dilation,  # type: ignore[arg-type] # a pair
            groups=groups,
            bias=layer.bias is not None,
        )
    if type(layer) is nn.Linear and len(sizes) == 2:
        return nn.Linear(sizes[1], sizes[0], bias=layer.bias is not None)
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and len(sizes) == 1:
        return type(layer)(sizes[0], eps=layer.eps, momentum=layer.momentum, affine=layer.affine)
    raise ValueError(f"layer_sizes of {name} are {list(sizes)}, which a {type(layer).__name__} cannot have")
