"""Pruning by a score of each weight as it is: its magnitude, or chance; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from thinice.errors import InputError
from thinice.models import prunable_weights
from thinice.models.normalization import inner
from thinice.models.weights import STRUCTURES, Masks, grouped, has_units, spread
from thinice.pruning import PruningMethod

if TYPE_CHECKING:
    from torch import nn

__all__ = ["SCOPES", "Magnitude", "Random", "Ranking", "in_group", "lowest_masks"]

SCOPES = ("global", "local")

GROUPS = {"shortcuts": ("*shortcut*", "*downsample*", "*down_sample*", "*.skip.*")}
"""What `skip` knows by a name of its own: the 1x1 convolutions that these patterns name; a network may have none."""


@dataclass(kw_only=True)
class Ranking(PruningMethod):
    """Pruning of the units with the lowest scores.

    Attributes
    ----------
    sparsity : float
        In [0, 1): the fraction of the ranked weights that shall be zero, to the nearest whole number of weights.
        What is zero already goes first and counts. Other units than weights exist in convolutions alone: of them
        as many go as fit into the fraction of the convolutions' weights, which is not exceeded.
    scope : {"global", "local"}
        Rank all layers together, or each by itself.
    structure : {"weight", "kernel", "filter", "channel", "column"}
        What is removed as one: a weight, the kernel of an (output, input) pair, an output channel, an input channel, a
        place in the kernels of an input channel.
    skip : str
        Patterns of the names of weights that are not ranked and stay whole, as of a shell, with commas between them;
        case does not matter: ``"conv1.*,fc.*"``. ``"shortcuts"`` stands for the 1x1 convolutions of residual shortcuts,
        whatever an architecture calls them.

    Notes
    -----
    A unit of several weights has their mean score; of equals the first goes first. Every layer keeps its best unit,
    so that no layer is deleted (as happened to published networks with global filter pruning). Criteria, scopes and
    structures are those of Merkle, Samsinger and Schöttle, Pruning in the Face of Adversaries, 2022.

    """

    scope: str = "global"
    structure: str = "weight"
    skip: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, known in (("scope", self.scope, SCOPES), ("structure", self.structure, (*STRUCTURES,))):
            if value not in known:
                raise InputError(f"`{name}` must be one of {', '.join(known)}, got {value!r}")
        if not isinstance(self.skip, str):
            raise InputError(f"`skip` must be text such as 'shortcuts' or 'conv1.*,fc.*', got {self.skip!r}")

    def scores(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a score for each weight, in its shape, by the name of the layer's; the lowest go first."""
        raise NotImplementedError

    def ranked(self, model: nn.Module) -> tuple[str, ...]:
        """Return the names of the weights that `sparsity` is a fraction of.

        Raises
        ------
        InputError
            For a network without units of this structure, and a pattern in `skip` that no weight has.

        """
        weights = prunable_weights(inner(model))
        skipped_weights = self._skipped({name: tuple(weight.shape) for name, weight in weights.items()})
        names = tuple(
            name
            for name, weight in weights.items()
            if has_units(tuple(weight.shape), self.structure) and name not in skipped_weights
        )
        if not names:
            skipped = " that is not skipped" if skipped_weights else ""
            raise InputError(
                f"`network` has nothing to prune: no layer{skipped} has units of structure {self.structure!r}; "
                "convolutions have all of them, linear layers weights alone"
            )
        return names

    def _skipped(self, shapes: Mapping[str, tuple[int, ...]]) -> set[str]:
        """Return the names of the weights that stay whole."""
        skipped: set[str] = set()
        for pattern in (part.strip().casefold() for part in self.skip.split(",") if part.strip()):
            if pattern in GROUPS:
                skipped.update(in_group(pattern, shapes))
                continue
            named = [name for name in shapes if fnmatchcase(name.casefold(), pattern)]
            if not named:
                raise InputError(f"`skip` {pattern!r} is the name of no weight: there are {', '.join(shapes)}")
            skipped.update(named)
        return skipped

    def masks(self, model: nn.Module) -> Masks:
        """Return the masks without the lowest units.

        Raises
        ------
        InputError
            As `ranked`, and for weights that are not finite.

        """
        return self.masks_within(model, Masks.whole(inner(model)))

    def masks_within(self, model: nn.Module, before: Masks) -> Masks:
        """Return masks in which all that went before stays away: it is ranked below everything, zeros included."""
        parameters = prunable_weights(inner(model))
        weights = {name: parameters[name].detach().cpu().float() for name in self.ranked(model)}
        broken = [name for name, weight in weights.items() if not weight.isfinite().all()]
        if broken:
            raise InputError(f"`network` cannot be ranked: {broken[0]} has weights that are not finite")
        masks = {name: mask.cpu() for name, mask in before.kept.items()}
        lowest = lowest_masks(
            self.scores(weights), sparsity=self.sparsity, scope=self.scope, structure=self.structure, before=masks
        )
        masks |= {name: masks[name] & mask for name, mask in lowest.items()}
        return Masks({name: masks[name].to(weight.device) for name, weight in parameters.items()})


@dataclass(kw_only=True)
class Magnitude(Ranking):
    """The weights of smallest absolute value go.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(4, 1)
    >>> layer.weight.data = torch.tensor([[0.3, -0.1, 0.5, -0.4]])
    >>> Magnitude(sparsity=0.5).masks(layer).kept["weight"]
    tensor([[False, False,  True,  True]])

    """

    def scores(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return absolute values."""
        return {name: weight.abs() for name, weight in weights.items()}


@dataclass(kw_only=True)
class Random(Ranking):
    """Weights go by chance; what is zero already goes first.

    Attributes
    ----------
    seed : int
        Of the draws.

    Examples
    --------
    >>> import torch
    >>> Random(sparsity=0.5, seed=1).masks(torch.nn.Linear(4, 5))
    <Masks 1 layers, 10 of 20 weights kept, sparsity 0.5000>

    """

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise InputError(f"`seed` must be a whole number of at least 0, got {self.seed!r}")

    def scores(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return uniform draws for what is alive, and less for what is zero."""
        generator = torch.Generator().manual_seed(self.seed)  # one stream, layer after layer
        return {
            name: torch.rand(weight.shape, generator=generator).masked_fill(weight == 0, -1.0)
            for name, weight in weights.items()
        }


def in_group(group: str, shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the names of the 1x1 convolutions of a group, a name in `GROUPS`, by the shapes of weights.

    Examples
    --------
    >>> in_group("shortcuts", {"block.conv.weight": (4, 2, 3, 3), "block.shortcut.0.weight": (4, 2, 1, 1)})
    ['block.shortcut.0.weight']

    """
    pointwise = [name for name, shape in shapes.items() if len(shape) > 2 and set(shape[2:]) == {1}]
    return [name for name in pointwise if any(fnmatchcase(name.casefold(), pattern) for pattern in GROUPS[group])]


def lowest_masks(
    scores: Mapping[str, Tensor],
    *,
    sparsity: float,
    scope: str = "global",
    structure: str = "weight",
    before: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return boolean masks in the shape of the scores that drop the units with the lowest ones; True keeps.

    Parameters
    ----------
    scores : mapping of str to Tensor
        One score for each weight of each layer, finite, on the CPU.
    sparsity, scope, structure
        As in `Ranking`.
    before : mapping of str to Tensor, optional
        Masks of an earlier pruning: units without a weight in them go first, whatever their scores.

    Examples
    --------
    >>> import torch
    >>> scores = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([5.0, 6.0])}
    >>> lowest_masks(scores, sparsity=0.5)["a"]
    tensor([False, False, False,  True])
    >>> lowest_masks(scores, sparsity=0.5, scope="local")["b"]
    tensor([False,  True])

    """
    units = {
        name: _unit_scores(layer, structure, None if before is None else before[name]) for name, layer in scores.items()
    }
    removed: dict[str, Tensor] = {}
    for group in [list(units)] if scope == "global" else [[name] for name in units]:
        sizes = {name: scores[name].numel() // units[name].numel() for name in group}
        removed |= _lowest({name: units[name].flatten() for name in group}, sizes, sparsity)
    return {
        name: ~spread(layer.reshape(units[name].shape), tuple(scores[name].shape), structure)
        for name, layer in removed.items()
    }


def _unit_scores(scores: Tensor, structure: str, before: Tensor | None) -> Tensor:
    """Return one score a unit, in the shape of its axes; the best unit of the layer is out of reach."""
    units = grouped(scores, structure).mean(-1).contiguous()
    if before is not None:
        units = units.masked_fill(~grouped(before, structure).any(-1), -torch.inf)
    units.view(-1)[units.argmax()] = torch.inf
    return units


def _lowest(scores: dict[str, Tensor], sizes: dict[str, int], sparsity: float) -> dict[str, Tensor]:
    """Return for each layer of a group which units go: the lowest, as long as their weights fit the target."""
    together = torch.cat(list(scores.values()))
    weights = torch.cat([torch.full(layer.shape, sizes[name]) for name, layer in scores.items()])
    order = together.argsort(stable=True)
    fits = weights[order].cumsum(0) <= round(sparsity * int(weights.sum()))
    removed = torch.zeros_like(together, dtype=torch.bool)
    removed[order] = fits & (together[order] < torch.inf)
    parts = torch.split(removed, [len(layer) for layer in scores.values()])
    return dict(zip(scores, parts, strict=True))
