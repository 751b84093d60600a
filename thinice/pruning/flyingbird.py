"""FlyingBird: weights and masks are trained together; in each epoch some connections go, and as many others come."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from thinice.errors import InputError
from thinice.models.normalization import inner
from thinice.models.research_formats.hydra_harp_rst import highest
from thinice.models.weights import Masks, prunable_weights
from thinice.numerics import stream
from thinice.pruning import PruningMethod
from thinice.pruning.harp import erk_densities

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FlyingBird", "Masked"]

RATES = ("erk", "uniform")
LAST_DROP = 0.005
"""Part of the kept weights that goes in the last exchange, as in the authors' program."""


class Masked(nn.Module):
    """A weight times a mask, which is a part of the network's state."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with zeros where the mask keeps nothing."""
        return weight * self.mask


@dataclass(kw_only=True)
class FlyingBird(PruningMethod):
    """Dynamic sparse training by a robust objective: masks start by chance, and change from epoch to epoch.

    After each epoch but the last a part of the kept weights of each layer goes, the smallest, and as many come back by
    chance, with 0. The part falls along a half cosine from `drop` to 0.005. Nothing needs to be trained before or
    afterwards; where the network was trained before, it goes on from the weights that the first masks keep.

    Attributes
    ----------
    sparsity : float
        In [0, 1): the fraction of all weights that shall be zero.
    rates : {"erk", "uniform"}
        How many each layer keeps: as `thinice.pruning.harp.erk_densities` says, or the same part of each.
    drop : float
        In [0, 1): the part that goes at first.
    seed : int
        Of the first masks, and of what comes back.

    Notes
    -----
    Chen et al., Sparsity Winning Twice: Better Robust Generalization from More Efficient Training, ICLR 2022. Its
    FlyingBird+ also changes the sparsity while it trains: that one is not here.

    """

    searches = True
    search_recipe = "flyingbird"
    rates: str = "erk"
    drop: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rates not in RATES:
            raise InputError(f"`rates` must be one of {', '.join(RATES)}, got {self.rates!r}")
        if isinstance(self.drop, bool) or not isinstance(self.drop, int | float) or not 0 <= self.drop < 1:
            raise InputError(f"`drop` must be a fraction from 0 to below 1, got {self.drop!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise InputError(f"`seed` must be a whole number of at least 0, got {self.seed!r}")

    @torch.no_grad()
    def prepare(self, model: nn.Module) -> None:
        """Mask each weight by chance."""
        model = inner(model)
        weights = prunable_weights(model)
        if not weights:
            raise InputError("`network` has nothing to prune: it has no convolutions and no linear layers")
        self._generator = stream(self.seed, "flyingbird")
        densities = dict.fromkeys(weights, 1 - self.sparsity)
        if self.rates == "erk":
            densities = erk_densities(
                {name: tuple(weight.shape) for name, weight in weights.items()}, 1 - self.sparsity
            )
        self._names, self._changes = tuple(weights), list[float]()
        for name, weight in weights.items():
            count = max(1, round(densities[name] * weight.numel()))
            mask = highest(torch.rand(weight.shape, generator=self._generator), count).to(weight.device)
            owner, _, leaf = name.rpartition(".")
            parametrize.register_parametrization(model.get_submodule(owner), leaf, Masked(mask))

    def _layers(self, model: nn.Module) -> Iterator[tuple[str, nn.Parameter, Masked]]:
        """Yield the name of each weight, the weight before its mask, and what masks it."""
        for name in self._names:
            owner, _, leaf = name.rpartition(".")
            parametrizations = inner(model).get_submodule(f"{owner}.parametrizations.{leaf}".removeprefix("."))
            yield (
                name,
                cast("nn.Parameter", parametrizations.original),
                cast("Masked", parametrizations.get_submodule("0")),
            )

    @torch.no_grad()
    def after_epoch(self, model: nn.Module, done: float) -> None:
        """Let the smallest of the kept weights go, and as many others come."""
        if done >= 1:
            return
        part = LAST_DROP + max(self.drop - LAST_DROP, 0) * (1 + math.cos(math.pi * done)) / 2 if self.drop else 0.0
        changed = total = 0
        for _, weight, layer in self._layers(model):
            before, count = layer.mask.clone(), int(layer.mask.sum())
            stays = highest(weight.abs().masked_fill(~before, -1), count - int(part * count))
            chance = torch.rand(weight.shape, generator=self._generator).to(weight.device)
            comes = highest(chance.masked_fill(stays, -1), int(part * count))
            weight[comes] = 0
            layer.mask.copy_(stays | comes)
            changed, total = changed + int((layer.mask != before).sum()), total + before.numel()
        self._changes.append(changed / total)

    def masks(self, model: nn.Module) -> Masks:
        """Return the masks; of an earlier epoch, where the recipe goes back to its weights."""
        return Masks({name: layer.mask.clone() for name, _, layer in self._layers(model)})

    def finish(self, model: nn.Module) -> None:
        """Leave the masked weights as plain ones."""
        for name in self._names:
            owner, _, leaf = name.rpartition(".")
            parametrize.remove_parametrizations(inner(model).get_submodule(owner), leaf, leave_parametrized=True)

    def measured(self) -> dict[str, object]:
        """Return which part of the masks changed in each epoch."""
        return {"mask_changes": list(self._changes)}

    def state_dict(self) -> dict[str, Any]:
        """Return where the draws are, and what was measured; the masks are in the model."""
        return {"generator": self._generator.get_state(), "mask_changes": list(self._changes)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take that over."""
        self._generator.set_state(state["generator"])
        self._changes = [float(change) for change in state["mask_changes"]]
