"""One-shot pruning: rank the units of a trained network, zero the lowest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from thinice.errors import InputError
from thinice.models import Classifier, prunable_weights
from thinice.models.classifier import own_copy
from thinice.pruning.criteria import CRITERIA, STRUCTURES
from thinice.pruning.masks import Masks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

__all__ = ["SCOPES", "Pruned", "prune"]

SCOPES = ("global", "local")


@dataclass(frozen=True, slots=True)
class Pruned:
    """A pruned copy of a network, ready to be fine-tuned, and the masks that hold its zeros in place."""

    module: nn.Module
    masks: Masks


def prune(
    network: nn.Module | Classifier,
    *,
    sparsity: float = 0.9,
    criterion: Literal["magnitude", "random"] = "magnitude",
    scope: Literal["global", "local"] = "global",
    structure: Literal["weight", "kernel", "filter"] = "weight",
    seed: int = 0,
) -> Pruned:
    """Return a copy of the network with its lowest ranking weights at zero, and the masks; nothing is trained.

    Parameters
    ----------
    network : nn.Module or Classifier
        Stays as it is. Of a classifier, the copy is trainable again; torch's own masks are folded in.
    sparsity : float
        In [0, 1): the fraction of prunable weights that shall be zero, to the nearest whole number of weights.
        What is zero already goes first and counts. With kernels and filters, the fraction of the convolutions'
        weights, which is not exceeded.
    criterion : {"magnitude", "random"}
        How weights are ranked. A unit of several weights has their mean score; of equals the first goes first.
    scope : {"global", "local"}
        Rank all layers together, or each by itself.
    structure : {"weight", "kernel", "filter"}
        What is removed as one: a weight, the kernel of an (output, input) pair, an output channel.
    seed : int
        Of the random criterion.

    Raises
    ------
    InputError
        For a value outside these lists, a network without prunable weights, or weights that are not finite.

    Notes
    -----
    Biases and batch norm are never pruned. Every layer keeps its best unit, so that no layer is deleted (as
    happened to published networks with global filter pruning). Criteria, scopes and structures are those of
    Merkle, Samsinger and Schöttle, Pruning in the Face of Adversaries, 2022.

    Examples
    --------
    >>> import torch
    >>> pruned = prune(torch.nn.Linear(10, 10), sparsity=0.9)
    >>> pruned.masks
    <Masks 1 layers, 10 of 100 weights kept, sparsity 0.9000>
    >>> int((pruned.module.weight == 0).sum()), round(pruned.masks.compression_rate)
    (90, 10)

    """
    for name, value, known in (
        ("criterion", criterion, CRITERIA),
        ("scope", scope, SCOPES),
        ("structure", structure, STRUCTURES),
    ):
        _check(name, value, known)
    if isinstance(sparsity, bool) or not isinstance(sparsity, int | float) or not 0 <= sparsity < 1:
        raise InputError(f"`sparsity` must be a fraction from 0 to below 1, got {sparsity!r}: 0.9 zeroes 90 %")
    module = _trainable_copy(network)
    weights = {name: weight.detach().cpu().float() for name, weight in prunable_weights(module).items()}
    axes = STRUCTURES[structure]
    ranked = [name for name, weight in weights.items() if axes is None or weight.ndim > 2]
    if not ranked:
        raise InputError(f"`network` has nothing to prune: no layer has units of structure {structure!r}")
    broken = [name for name in ranked if not weights[name].isfinite().all()]
    if broken:
        raise InputError(f"`network` cannot be ranked: {broken[0]} has weights that are not finite")

    generator = torch.Generator().manual_seed(seed)
    scores = {name: _unit_scores(CRITERIA[criterion](weights[name], generator), axes) for name in ranked}
    removed: dict[str, Tensor] = {}
    for group in [ranked] if scope == "global" else [[name] for name in ranked]:
        sizes = {name: weights[name].numel() // scores[name].numel() for name in group}
        removed |= _lowest({name: scores[name].flatten() for name in group}, sizes, sparsity)
    kept = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    for name, units in removed.items():
        kept[name][units.reshape(scores[name].shape)] = False
    masks = Masks({name: kept[name].to(weight.device) for name, weight in prunable_weights(module).items()})
    masks.apply_(module)
    return Pruned(module, masks)


def _unit_scores(scores: Tensor, axes: int | None) -> Tensor:
    """Return one score a unit, in the shape of the leading axes; the best unit of the layer is out of reach."""
    units = (scores if axes is None else scores.flatten(axes).mean(-1)).contiguous()
    units.view(-1)[units.argmax()] = torch.inf
    return units


def _lowest(scores: dict[str, Tensor], sizes: dict[str, int], sparsity: float) -> dict[str, Tensor]:
    """Return for each layer of a group which units go: the lowest, as long as their weights fit the target."""
    together = torch.cat(list(scores.values()))
    weights = torch.cat([torch.full(layer.shape, sizes[name]) for name, layer in scores.items()])
    order = together.argsort(stable=True)
    fits = weights[order].cumsum(0) <= round(sparsity * int(weights.sum()))
    removed = torch.zeros_like(together, dtype=torch.bool)
    removed[order] = fits & together[order].isfinite()
    parts = torch.split(removed, [len(layer) for layer in scores.values()])
    return dict(zip(scores, parts, strict=True))


def _trainable_copy(network: nn.Module | Classifier) -> nn.Module:
    if isinstance(network, Classifier):
        return own_copy(network.module).requires_grad_(requires_grad=True)
    return own_copy(network)


def _check(name: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise InputError(f"`{name}` must be one of {', '.join(known)}, got {value!r}")
