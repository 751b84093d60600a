"""Masks as values: which weights of a network are kept, and everything that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from thinice.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["Layer", "Masks", "prunable_weights", "sparsity"]


def prunable_weights(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the prunable weights by name, in the order of the network.

    Prunable are the weights of convolutions and of linear layers, the packed input projections of attention
    among them: no biases, no normalisation layers, no embeddings. A weight that two layers share counts once.
    A whole program (ONNX) whose operations are not layers answers with its own list.

    Examples
    --------
    >>> list(prunable_weights(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))))
    ['0.weight', '2.weight']
    """
    weights: dict[str, nn.Parameter] = {}
    for prefix, layer in module.named_modules():
        if isinstance(layer, nn.Linear | _ConvNd):
            names = ["weight"]
        elif isinstance(layer, nn.MultiheadAttention):
            names = ["in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"]
        else:
            names = list(getattr(layer, "prunable_names", ()))
        for name in names:
            path = f"{prefix}.{name}" if prefix else name
            owner, _, leaf = path.rpartition(".")
            weight = getattr(module.get_submodule(owner), leaf)
            if isinstance(weight, nn.Parameter) and not any(weight is other for other in weights.values()):
                weights[path] = weight
    return weights


def sparsity(module: nn.Module) -> float:
    """Return the fraction of prunable weights that are zero; 0 where there are none.

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> _ = nn.init.constant_(layer.weight, 0.0)
    >>> sparsity(layer)
    1.0
    """
    weights = [weight.detach() for weight in prunable_weights(module).values()]
    total = sum(weight.numel() for weight in weights)
    return sum(int((weight == 0).sum()) for weight in weights) / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Layer:
    """How many weights of one layer are kept."""

    name: str
    shape: tuple[int, ...]
    weights: int
    kept: int

    @property
    def density(self) -> float:
        """The fraction that is kept."""
        return self.kept / self.weights

    @property
    def sparsity(self) -> float:
        """The fraction that is zero."""
        return 1 - self.density


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Masks:
    """One mask for each prunable weight, by its name; True keeps.

    Attributes
    ----------
    kept : Mapping of str to Tensor
        Boolean, in the shape of the weight.

    Examples
    --------
    >>> import torch
    >>> masks = Masks({"weight": torch.tensor([[True, False, False, False]])})
    >>> masks.sparsity, masks.compression_rate
    (0.75, 4.0)
    >>> linear = torch.nn.Linear(4, 1)
    >>> masks.apply_(linear)
    >>> int((linear.weight == 0).sum())
    3

    """

    kept: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for name, mask in self.kept.items():
            if mask.dtype != torch.bool:
                raise InputError(f"`kept[{name!r}]` must be boolean, got {mask.dtype}: compare with `!= 0` first")
        object.__setattr__(self, "kept", MappingProxyType(dict(self.kept)))

    @classmethod
    def of(cls, module: nn.Module) -> Masks:
        """Return the masks that a network's zeros imply: what is zero now is not kept."""
        return cls({name: weight.detach() != 0 for name, weight in prunable_weights(module).items()})

    def layers(self) -> tuple[Layer, ...]:
        """Return one row a weight tensor, in the order of the network."""
        return tuple(Layer(name, tuple(mask.shape), mask.numel(), int(mask.sum())) for name, mask in self.kept.items())

    @property
    def density(self) -> float:
        """The fraction of all masked weights that is kept."""
        layers = self.layers()
        return sum(layer.kept for layer in layers) / sum(layer.weights for layer in layers)

    @property
    def sparsity(self) -> float:
        """The fraction of all masked weights that is zero: 1 - density."""
        return 1 - self.density

    @property
    def compression_rate(self) -> float:
        """How many weights there were for each one that is kept: 1 / density."""
        density = self.density
        return 1 / density if density else float("inf")

    @torch.no_grad()
    def apply_(self, module: nn.Module) -> None:
        """Set what is not kept to zero, in place; after an optimiser step this undoes what momentum moved.

        Raises
        ------
        InputError
            Where the network has no such weight, or one of another shape.

        """
        weights = prunable_weights(module)
        for name, mask in self.kept.items():
            weight = weights.get(name)
            if weight is None or weight.shape != mask.shape:
                shape = "none" if weight is None else tuple(weight.shape)
                raise InputError(
                    f"`masks` do not fit the network: {name} is {tuple(mask.shape)}, the network has {shape}"
                )
            weight.masked_fill_(~mask.to(weight.device), 0)

    def __repr__(self) -> str:
        layers = self.layers()
        kept, weights = (sum(getattr(layer, field) for layer in layers) for field in ("kept", "weights"))
        return f"<Masks {len(layers)} layers, {kept} of {weights} weights kept, sparsity {self.sparsity:.4f}>"
