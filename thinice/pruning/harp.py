"""HARP: scores decide which weights or channels stay, and learned rates how many of each layer, under one budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from thinice.errors import InputError
from thinice.models.normalization import inner
from thinice.models.research_formats.hydra_harp_rst import HARP_ALPHA, harp_rate, number_kept
from thinice.models.weights import Masks, has_units, prunable_weights
from thinice.pruning.hydra import Hydra, TopScores, scaled
from thinice.pruning.magnitude import in_group
from thinice.registry import added

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

__all__ = ["COSTS", "Harp", "RatedScores", "erk_densities", "main_paths"]

COSTS = ("weights", "flops")
STRUCTURES = ("weight", "channel")
CHOICES = {
    "structure": STRUCTURES,
    "cost": COSTS,
    "rates": ("uniform", "erk"),
    "shortcuts": ("learned", "copied"),
}
FARTHEST = 40.0
"""How far rates are moved at most, before the sigmoid: at -40 and 40 it is 0 and 1 in float32."""
HALVINGS = 60
"""Of the interval in which the way to the budget is looked for."""
EXCEEDED = 0.005
"""The excess of a budget, as a part of it, that does not round to 0 any more."""


FARTHEST_START = 0.01
"""How near to its ends a rate of `erk_densities` starts at most, as in the authors' program."""


class RatedScores(TopScores):
    """A weight under the mask of its highest scores, as many as a learned rate says; both get gradients.

    The gradient of the rate is the sum of those of all entries of the mask.

    Parameters
    ----------
    scores : Tensor
        In the shape of the weight, or (1, channels, 1, …): one for each input channel.
    density : float
        Of the network as a whole; the rate starts as this one, and never falls below a tenth of it.
    channels : bool
        Whether scores are those of channels: of these one is always kept.

    """

    def __init__(self, scores: Tensor, density: float, *, channels: bool) -> None:
        super().__init__(scores, density)
        self.channels = channels
        self.rate_score = nn.Parameter(self.score_of(density, eps=1e-6).to(scores.device))

    def score_of(self, rate: float, *, eps: float) -> Tensor:
        """Return the score of a rate; before the sigmoid it is kept away from 0 and 1 by `eps`."""
        smallest = HARP_ALPHA * self.density
        return torch.logit(torch.tensor((rate - smallest) / (1 - smallest), dtype=torch.float64), eps=eps).float()

    def rate(self) -> Tensor:
        """Return which part is kept, with its graph."""
        return harp_rate(self.rate_score, self.density)

    def count(self, shift: float = 0.0) -> int:
        """Return how many are kept; with a shift of the rate before the sigmoid, how many would be."""
        rate, number = harp_rate(self.rate_score.detach().cpu() + shift, self.density), self.scores.numel()
        return max(1, int(torch.round(rate * number))) if self.channels else number_kept(rate, number)


@dataclass(kw_only=True)
class Harp(Hydra):
    """HARP (Zhao and Wressnegger, 2023): HYDRA with a learned rate for each layer, under a budget for all of them.

    What the network keeps beyond its budget is added to the loss, times `strength`, which is added up in each epoch
    that ends above the budget.

    Attributes
    ----------
    sparsity : float
        In [0, 1): the fraction of all weights (or floating point operations) that shall go.
    structure : {"weight", "channel"}
        What is removed as one: a weight, or an input channel of a convolution; linear layers stay whole then.
    cost : {"weights", "flops"}
        What the budget is counted in.
    rates : {"uniform", "erk"}
        What the rates start as: the same in all layers, or those of `erk_densities`, which prune large layers more.
    shortcuts : {"learned", "copied"}
        Of the rates of 1x1 convolutions in residual shortcuts, where channels go: their own, or that of the first
        convolution of the same block with as many input channels, as in the authors' program.
    strength : float
        Of the budget's part in the loss; above 0. 0.01; for ImageNet, 0.1.
    freeze_batch_norm, sharpness, s2ap, s2ap_warmup, s2ap_steps
        As of `thinice.pruning.hydra.Hydra`.

    Notes
    -----
    After each epoch all rates are moved by one number, before the sigmoid, until the
    network meets the budget: in the paper's program networks before that are not measured. A layer's operations are
    counted in proportion to what it keeps of its own weights.

    """

    search_recipe = "harp-prune"
    structure: str = "weight"
    cost: str = "weights"
    strength: float = 0.01
    rates: str = added("uniform")
    shortcuts: str = added("learned")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"`{name}` must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.shortcuts == "copied" and self.structure != "channel":
            raise InputError(
                "`shortcuts` 'copied' is for rates of channels: give `structure` 'channel', or leave it out"
            )
        number = isinstance(self.strength, int | float) and not isinstance(self.strength, bool)
        if not number or not 0 < self.strength < float("inf"):
            raise InputError(f"`strength` must be above 0 and finite, got {self.strength!r}: give 0.01, say")

    def ranked(self, model: nn.Module) -> tuple[str, ...]:
        """Return the names of the weights that get scores.

        Raises
        ------
        InputError
            As of HYDRA, and for channels of a network without convolutions.

        """
        weights = prunable_weights(inner(model))
        names = tuple(name for name in super().ranked(model) if has_units(tuple(weights[name].shape), self.structure))
        if not names:
            raise InputError(
                f"`network` has nothing to prune: no layer has units of structure {self.structure!r}; convolutions "
                "have both, linear layers weights alone"
            )
        return names

    def expected(self, model: nn.Module) -> Masks | None:  # noqa: ARG002 - the rates are learned
        """Return None: the search decides."""
        return None

    def start(self, weight: Tensor) -> RatedScores:
        """Return what masks a weight, as it is before the first step; of a channel, the mean size of its weights."""
        if self.structure == "channel":
            others = [axis for axis in range(weight.ndim) if axis != 1]
            sizes = weight.detach().abs().mean(others, keepdim=True)
            return RatedScores(scaled(sizes), 1 - self.sparsity, channels=True)
        return RatedScores(scaled(weight), 1 - self.sparsity, channels=False)

    def prepare(self, model: nn.Module) -> None:
        """Do as HYDRA does; operations are counted in the first pass."""
        super().prepare(model)
        shapes = {name: tuple(self.whole.kept[name].shape) for name in self.tops}
        if self.rates == "erk":
            self._start_at(erk_densities(shapes, 1 - self.sparsity))
        if self.shortcuts == "copied":
            for shortcut, main in main_paths(shapes).items():
                self._rated(shortcut).rate_score = self._rated(main).rate_score
        self.exceeded = 0
        self.costs = {name: float(self.whole.kept[name].numel()) for name in self.tops}
        self.counters: list[RemovableHandle] = []
        if self.cost == "flops":
            self.costs = dict.fromkeys(self.tops, 0.0)
            names = {id(top): name for name, top in self.tops.items()}
            for layer, leaf in self.places:
                name = names[id(layer.parametrizations[leaf][0])]  # type: ignore[index]
                self.counters.append(layer.register_forward_hook(self._counter(name)))
        else:
            self._meet_budget()
        self.before = {name: top.mask() for name, top in self.tops.items()}

    @torch.no_grad()
    def _start_at(self, densities: Mapping[str, float]) -> None:
        for name, density in densities.items():
            top = self._rated(name)
            top.rate_score.copy_(top.score_of(density, eps=FARTHEST_START))
            top.forget()

    def _counter(self, name: str) -> Any:  # noqa: ANN401 - a hook of torch
        """Return what adds the operations of a pass through a layer to its costs."""
        size = self.whole.kept[name].numel()

        def count(layer: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
            places = inputs[0] if isinstance(layer, _ConvTransposeNd) else outputs  # each is used by all of its kernels
            if isinstance(places, Tensor):
                self.costs[name] += size * places.numel() / places.shape[-1 if isinstance(layer, nn.Linear) else 1]

        return count

    def penalty(self, model: nn.Module) -> Tensor:  # noqa: ARG002 - the rates are known
        """Return what the network costs beyond its budget, as a part of it, times the strength."""
        for counter in self.counters:
            counter.remove()
        self.counters = []
        rates = [self.costs[name] * self._rated(name).rate() for name in self.tops]
        excess = torch.stack(rates).sum() / self._budget() - 1
        return (1 + self.exceeded) * self.strength * excess.relu()

    def after_epoch(self, model: nn.Module, done: float) -> None:
        """Count the epoch where it ended above the budget, then have the rates meet it."""
        self.exceeded += self._cost() / self._budget() - 1 >= EXCEEDED
        self._meet_budget()
        super().after_epoch(model, done)

    def masks(self, model: nn.Module) -> Masks:
        """Return the masks of the highest scores, within the budget also where rates are averages over epochs."""
        self._meet_budget()
        return super().masks(model)

    def notes(self) -> tuple[str, ...]:
        """Return a sentence where the budget is not met."""
        gone = 1 - self._cost() / sum(self.costs.values())
        if gone >= self.sparsity - 1e-9:
            return ()
        return (
            f"sparsity {self.sparsity:g} of the {self.cost} was asked for, {gone:.4f} is reached: no layer can vanish",
        )

    def measured(self) -> dict[str, object]:
        """Return what HYDRA returns, and which part of the cost is gone."""
        return super().measured() | {f"of_{self.cost}": 1 - self._cost() / sum(self.costs.values())}

    def state_dict(self) -> dict[str, Any]:
        """Return what HYDRA returns, the costs, and how many epochs were above the budget."""
        return super().state_dict() | {"costs": dict(self.costs), "exceeded": self.exceeded}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take all that."""
        super().load_state_dict(state)
        for counter in self.counters:
            counter.remove()
        self.counters = []
        self.costs = {name: float(state["costs"][name]) for name in self.tops}
        self.exceeded = int(state["exceeded"])

    def _rated(self, name: str) -> RatedScores:
        top = self.tops[name]
        assert isinstance(top, RatedScores)
        return top

    def _budget(self) -> float:
        return (1 - self.sparsity) * sum(self.costs.values())

    def _cost(self, shift: float = 0.0) -> float:
        """Return what the network costs, or would with all rates shifted."""
        parts = {name: self._rated(name).count(shift) / self.tops[name].scores.numel() for name in self.tops}
        return sum(self.costs[name] * part for name, part in parts.items())

    @torch.no_grad()
    def _meet_budget(self) -> None:
        """Move all rates by one number, to the largest cost within the budget; where that is so already, by none."""
        budget, low, high = self._budget(), -FARTHEST, FARTHEST
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._cost(middle) <= budget else (low, middle)
        if self._cost() == self._cost(low):
            return
        for score in {id(top.rate_score): top.rate_score for top in map(self._rated, self.tops)}.values():
            score.add_(low)  # which several layers may share
        for top in self.tops.values():
            top.forget()


def erk_densities(shapes: Mapping[str, Sequence[int]], density: float) -> dict[str, float]:
    """Return a density for each weight, by its shape: in proportion to the sum of its axes over their product.

    Of a kernel (out, in, k, k) that is ``(out + in + k + k) / (out in k k)``; densities above 1 are 1, and the others
    so much larger that all together have the density asked for (Evci et al., RigL, 2020: Erdős-Rényi-Kernel).

    Examples
    --------
    >>> erk_densities({"small": (2, 2), "large": (8, 8)}, 0.5)  # 4 of 4 weights, and 30 of 64
    {'small': 1.0, 'large': 0.46875}

    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    raw = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    whole: set[str] = set()
    while len(whole) < len(shapes):
        left = density * sum(sizes.values()) - sum(sizes[name] for name in whole)
        factor = left / sum(raw[name] * sizes[name] for name in shapes if name not in whole)
        above = {name for name in shapes if name not in whole and factor * raw[name] > 1}
        if not above:
            return {name: 1.0 if name in whole else factor * raw[name] for name in shapes}
        whole |= above
    return dict.fromkeys(shapes, 1.0)


def main_paths(shapes: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Return the weight beside each shortcut: the first of the same block with as many input channels.

    Examples
    --------
    >>> main_paths({"a.conv1.weight": (4, 2, 3, 3), "a.conv2.weight": (4, 4, 3, 3), "a.shortcut.weight": (4, 2, 1, 1)})
    {'a.shortcut.weight': 'a.conv1.weight'}

    """
    shortcuts = in_group("shortcuts", shapes)
    paths: dict[str, str] = {}
    for shortcut in shortcuts:
        block = shortcut
        while not paths.get(shortcut) and block:
            block = block.rpartition(".")[0]
            beside = (name for name, shape in shapes.items() if name.startswith(f"{block}." if block else ""))
            main = next(
                (name for name in beside if name not in shortcuts and _same_inputs(shapes, name, shortcut)), None
            )
            if main is not None:
                paths[shortcut] = main
    return paths


def _same_inputs(shapes: Mapping[str, Sequence[int]], name: str, shortcut: str) -> bool:
    return len(shapes[name]) > 2 and shapes[name][1] == shapes[shortcut][1]
