"""Masks as values: which weights of a network are kept, and everything that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from thinice.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

__all__ = ["STRUCTURES", "Layer", "Masks", "grouped", "has_units", "prunable_weights", "sparsity", "spread"]

STRUCTURES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {"weight": (0, 1, 2, 3, 4), "kernel": (0, 1), "filter": (0,), "channel": (1,), "column": (1, 2, 3, 4)}
)
"""The axes of a weight that tell its units apart: one weight, one (output, input) pair, one output, one input channel,
one place in an input channel (a column, where each filter is a row).

Units of several weights exist in convolutions alone: the outputs of the last linear layer are the classes.
"""

INSIDE = "network."
"""What names begin with where the network is inside `thinice.models.Normalized`; masks fit it with and without."""


def has_units(shape: tuple[int, ...], structure: str) -> bool:
    """Return whether a weight of this shape has units of a structure: any has weights, convolutions have the others.

    Examples
    --------
    >>> has_units((10, 64), "weight"), has_units((10, 64), "filter"), has_units((16, 3, 3, 3), "filter")
    (True, False, True)
    """
    return structure == "weight" or len(shape) > 2


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

    def __reduce__(self) -> tuple[type[Masks], tuple[dict[str, Tensor]]]:
        """Let masks be sent to other processes, in networks that have some."""
        return Masks, (dict(self.kept),)

    @classmethod
    def of(cls, module: nn.Module) -> Masks:
        """Return the masks that a network's zeros imply: what is zero now is not kept."""
        return cls({name: weight.detach() != 0 for name, weight in prunable_weights(module).items()})

    @classmethod
    def whole(cls, module: nn.Module) -> Masks:
        """Return masks that keep every prunable weight of a network."""
        return cls(
            {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in prunable_weights(module).items()}
        )

    def __and__(self, other: Masks) -> Masks:
        """Return masks that keep what both keep; a layer that only one of them has keeps what that one keeps."""
        return self._combined(other, torch.logical_and)

    def __or__(self, other: Masks) -> Masks:
        """Return masks that keep what either keeps, in the layers that both have: others are kept whole by one."""
        both = self.kept.keys() & other.kept.keys()
        return self.part(both)._combined(other.part(both), torch.logical_or)

    def _combined(self, other: Masks, operation: Callable[[Tensor, Tensor], Tensor]) -> Masks:
        combined = {**self.kept, **other.kept}
        for name in self.kept.keys() & other.kept.keys():
            ours, theirs = self.kept[name], other.kept[name]
            if ours.shape != theirs.shape:
                raise InputError(
                    f"`masks` cannot be combined: {name} is {tuple(ours.shape)} and {tuple(theirs.shape)}; take masks "
                    "of one network"
                )
            combined[name] = operation(ours, theirs.to(ours.device))
        return Masks(combined)

    def part(self, names: Iterable[str]) -> Masks:
        """Return the masks of some layers, in their own order."""
        chosen = set(names)
        if unknown := sorted(chosen - self.kept.keys()):
            raise InputError(f"`names`: there is no mask of {unknown[0]}; there are those of {', '.join(self.kept)}")
        return Masks({name: mask for name, mask in self.kept.items() if name in chosen})

    def convolutions(self) -> Masks:
        """Return the masks of the convolutions alone: what structured rates of the literature are fractions of."""
        return self.part(name for name, mask in self.kept.items() if has_units(tuple(mask.shape), "filter"))

    def units(self, structure: str) -> tuple[Layer, ...]:
        """Return how many units of a structure each layer that has them keeps; one weight that is kept keeps its unit.

        Examples
        --------
        >>> mask = torch.zeros(2, 3, 1, 1, dtype=torch.bool)
        >>> mask[0, 0] = True
        >>> [(layer.kept, layer.weights) for name in STRUCTURES for layer in Masks({"w": mask}).units(name)]
        [(1, 6), (1, 6), (1, 2), (1, 3), (1, 3)]
        """
        rows = []
        for name, mask in self.kept.items():
            shape = tuple(mask.shape)
            if has_units(shape, structure):
                units = grouped(mask, structure).any(-1)
                rows.append(Layer(name, shape, units.numel(), int(units.sum())))
        return tuple(rows)

    def vanished(self) -> tuple[str, ...]:
        """Return the layers that keep nothing: the network's logits no longer pass through them."""
        return tuple(layer.name for layer in self.layers() if not layer.kept)

    def layers(self) -> tuple[Layer, ...]:
        """Return one row a weight tensor, in the order of the network."""
        return tuple(Layer(name, tuple(mask.shape), mask.numel(), int(mask.sum())) for name, mask in self.kept.items())

    @property
    def density(self) -> float:
        """The fraction of all masked weights that is kept."""
        layers = self.layers()
        weights = sum(layer.weights for layer in layers)
        return sum(layer.kept for layer in layers) / weights if weights else 1.0

    @property
    def sparsity(self) -> float:
        """The fraction of all masked weights that is zero: 1 - density."""
        return 1 - self.density

    @property
    def compression_rate(self) -> float:
        """How many weights there were for each one that is kept: 1 / density."""
        density = self.density
        return 1 / density if density else float("inf")

    def fitting(self, module: nn.Module) -> dict[str, nn.Parameter]:
        """Return the weight of a network that each mask belongs to.

        Raises
        ------
        InputError
            Where the network has no such weight, or one of another shape.

        """
        weights = prunable_weights(module)
        fitting = {}
        for name, mask in self.kept.items():
            inside = f"{INSIDE}{name}" if name not in weights else name
            weight = weights.get(inside, weights.get(name.removeprefix(INSIDE)))
            if weight is None or weight.shape != mask.shape:
                shape = "none" if weight is None else tuple(weight.shape)
                raise InputError(
                    f"`masks` do not fit the network: {name} is {tuple(mask.shape)}, the network has {shape}: take "
                    "masks of this architecture"
                )
            fitting[name] = weight
        return fitting

    @torch.no_grad()
    def apply_(self, module: nn.Module) -> None:
        """Set what is not kept to zero, in place; after an optimiser step this undoes what momentum moved.

        Raises
        ------
        InputError
            Where the network has no such weight, or one of another shape.

        """
        for name, weight in self.fitting(module).items():
            weight.masked_fill_(~self.kept[name].to(weight.device), 0)

    def hold(self, module: nn.Module) -> bool:
        """Return whether all that is not kept is zero in a network, which they must fit."""
        return not any(
            bool(weight[~self.kept[name].to(weight.device)].any()) for name, weight in self.fitting(module).items()
        )

    def __repr__(self) -> str:
        layers = self.layers()
        kept, weights = (sum(getattr(layer, field) for layer in layers) for field in ("kept", "weights"))
        return f"<Masks {len(layers)} layers, {kept} of {weights} weights kept, sparsity {self.sparsity:.4f}>"


def grouped(values: Tensor, structure: str) -> Tensor:
    """Return the values of a weight with the axes of its units first, and all values of one unit last."""
    axes = [axis for axis in STRUCTURES[structure] if axis < values.ndim]
    others = [axis for axis in range(values.ndim) if axis not in axes]
    shape = [values.shape[axis] for axis in axes]
    return values.permute(*axes, *others).reshape(*shape, -1)


def spread(units: Tensor, shape: tuple[int, ...], structure: str) -> Tensor:
    """Return a value for each weight out of one for each unit: the other way round as `grouped`.

    Examples
    --------
    >>> spread(torch.tensor([True, False]), (3, 2, 1, 1), "channel")[:, :, 0, 0].tolist()
    [[True, False], [True, False], [True, False]]
    """
    axes = [axis for axis in STRUCTURES[structure] if axis < len(shape)]
    return units.reshape([size if axis in axes else 1 for axis, size in enumerate(shape)]).expand(shape)
