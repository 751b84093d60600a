"""HYDRA: scores decide which weights stay; they are trained while the weights are frozen. And LWM, its baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from thinice.errors import InputError
from thinice.models.normalization import inner
from thinice.models.research_formats.hydra_harp_rst import highest, number_kept
from thinice.models.weights import Masks, prunable_weights
from thinice.numerics import stream
from thinice.pruning import PruningMethod
from thinice.pruning.s2ap import ScorePerturbation
from thinice.pruning.sharpness import largest_eigenvalue
from thinice.registry import added

if TYPE_CHECKING:
    from thinice.data import Samples
    from thinice.training import Objective

__all__ = ["Hydra", "LowestMagnitude", "TopScores", "scaled"]


class StraightThrough(torch.autograd.Function):
    """A weight times a mask, whose gradient is passed on to the sizes of the scores it is made of, and to its density.

    The product lies in memory as the weight does, which convolutions are faster with.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, rate: Tensor | None, mask: Tensor) -> Tensor:  # noqa: ANN401 - of torch
        ctx.save_for_backward(weight, mask, scores)
        ctx.learns_rate = rate is not None
        return torch.mul(weight, mask, out=torch.empty_like(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - of torch
        weight, mask, scores = ctx.saved_tensors
        of_mask = (gradients[0] * weight).sum_to_size(mask.shape)
        of_weight = gradients[0] * mask if ctx.needs_input_grad[0] else None
        return of_weight, of_mask * scores.sign(), of_mask.sum() if ctx.learns_rate else None, None


class TopScores(nn.Module):
    """A weight under the mask of its highest scores, by absolute value; of equal scores the first go.

    The gradient passes straight through the mask, so that what is pruned can come back.

    Parameters
    ----------
    scores : Tensor
        In the shape of the weight, or one that spreads over it.
    density : float
        The fraction of the scores that are kept.

    """

    def __init__(self, scores: Tensor, density: float) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)
        self.density = density
        self.made_of: tuple[object, ...] = ()

    def rate(self) -> Tensor | None:
        """Return the learned density, with its graph, where it is learned."""
        return None

    def count(self) -> int:
        """Return how many scores are kept."""
        return number_kept(self.density, self.scores.numel())

    def mask(self) -> Tensor:
        """Return the mask in the shape of the scores; made anew where they have changed, not for each pass."""
        state = tuple((value._version, value.data_ptr(), value.device) for value in self.parameters())  # noqa: SLF001
        if state != self.made_of:
            self.made, self.made_of = highest(self.scores.detach().abs(), self.count()), state
        return self.made

    def forget(self) -> None:
        """Have the mask made anew: torch does not count the steps of fused optimisers as changes."""
        self.made_of = ()

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with zeros where the mask keeps nothing."""
        return cast("Tensor", StraightThrough.apply(weight, self.scores, self.rate(), self.mask()))


@dataclass(kw_only=True)
class Hydra(ScorePerturbation):
    """HYDRA (Sehwag et al., NeurIPS 2020): scores are trained while the weights are frozen; the lowest go.

    Every layer keeps the same part, first and last included: of n weights ``int(sparsity * n)`` go. Scores start as
    the weights, scaled. Scales and shifts of batch norm are trained with the scores, and its statistics move.

    Attributes
    ----------
    sparsity : float
        In [0, 1): the fraction of the weights of each layer that shall be zero.
    freeze_batch_norm : bool
        Leave the scales and shifts of batch norm as they are.
    sharpness : int
        After the search, measure on so many training samples how sharp the loss is around the scores: the largest
        eigenvalue of its Hessian, in evaluation mode (`thinice.pruning.sharpness`). 0: not.
    s2ap, s2ap_warmup, s2ap_steps
        As of `thinice.pruning.s2ap.ScorePerturbation`: sharpness-aware scores.

    """

    searches = True
    search_recipe = "hydra-prune"
    freeze_batch_norm: bool = False
    sharpness: int = added(0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.sharpness, bool) or not isinstance(self.sharpness, int) or self.sharpness < 0:
            raise InputError(f"`sharpness` must be a whole number of samples of at least 0, got {self.sharpness!r}")
        if not isinstance(self.freeze_batch_norm, bool):
            raise InputError(f"`freeze_batch_norm` must be true or false, got {self.freeze_batch_norm!r}")

    def ranked(self, model: nn.Module) -> tuple[str, ...]:
        """Return the names of the weights that get scores.

        Raises
        ------
        InputError
            For a network without such weights, or with weights that are not finite.

        """
        return tuple(_rankable(model))

    def expected(self, model: nn.Module) -> Masks | None:
        """Return the masks that the search begins with: it keeps as many of each layer."""
        return LowestMagnitude(sparsity=self.sparsity).masks(model)

    def start(self, weight: Tensor) -> TopScores:
        """Return what masks a weight, as it is before the first step."""
        return TopScores(scaled(weight), 1 - self.sparsity)

    def prepare(self, model: nn.Module) -> None:
        """Freeze all but batch norm, and mask each weight by scores that start as the weight."""
        super().prepare(model)
        weights = prunable_weights(inner(model))
        self.whole = Masks.whole(inner(model))
        tops = {name: self.start(weights[name]) for name in self.ranked(model)}
        norms = [] if self.freeze_batch_norm else [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
        trained = {id(parameter) for norm in norms for parameter in norm.parameters()}
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.requires_grad and id(parameter) in trained)
        self.places = []
        for name, top in tops.items():
            for layer, leaf in _owners(model, weights[name]):
                parametrize.register_parametrization(layer, leaf, top)
                self.places.append((layer, leaf))
        self.tops = tops
        self.before = {name: top.mask() for name, top in tops.items()}
        self.mask_changes: list[float] = []
        self.largest_eigenvalue: float | None = None

    def perturbed(self, model: nn.Module) -> Sequence[nn.Parameter]:  # noqa: ARG002 - the scores are known
        """Return the scores of all layers."""
        return [top.scores for top in self.tops.values()]

    def masks(self, model: nn.Module) -> Masks:  # noqa: ARG002 - the scores are known
        """Return the masks of the highest scores."""
        searched = {name: top.mask().expand_as(self.whole.kept[name]).clone() for name, top in self.tops.items()}
        return Masks({**self.whole.kept, **searched})

    def finish(self, model: nn.Module) -> None:  # noqa: ARG002 - the layers are known
        """Leave the weights as they were, under their old names."""
        for layer, leaf in self.places:
            parametrize.remove_parametrizations(layer, leaf, leave_parametrized=False)

    def after_step(self, model: nn.Module) -> None:  # noqa: ARG002 - the scores are known
        """Have the masks follow the scores."""
        for top in self.tops.values():
            top.forget()

    def after_epoch(self, model: nn.Module, done: float) -> None:
        """Note which part of all masks is another than an epoch before (their Hamming distance)."""
        super().after_epoch(model, done)
        masks = {name: top.mask() for name, top in self.tops.items()}
        changed = sum(int((mask != self.before[name]).sum()) for name, mask in masks.items())
        self.mask_changes.append(changed / sum(mask.numel() for mask in masks.values()))
        self.before = masks

    def after_search(self, model: nn.Module, samples: Samples, objective: Objective, seed: int) -> None:
        """Measure how sharp the loss is around the scores, where that is asked for."""
        if not self.sharpness:
            return
        generator = stream(seed, "sharpness")
        indices = torch.randperm(len(samples), generator=generator)[: self.sharpness]
        device = self.perturbed(model)[0].device
        inputs, labels = samples.inputs[indices].to(device), samples.labels[indices].to(device)
        crafted = objective.craft(model, inputs, labels, generator)
        model.eval()
        loss = objective.losses(model, inputs, crafted, labels).values.mean()
        self.largest_eigenvalue = largest_eigenvalue(loss, self.perturbed(model), generator)

    def measured(self) -> dict[str, object]:
        """Return which part of the masks changed in each epoch, and how sharp the loss is where that was measured."""
        measured: dict[str, object] = {"mask_changes": list(self.mask_changes)}
        if self.sharpness:
            measured["sharpness"] = {"samples": self.sharpness, "largest_eigenvalue": self.largest_eigenvalue}
        return measured

    def state_dict(self) -> dict[str, Any]:
        """Return what was noted; the scores are in the model."""
        return super().state_dict() | {"mask_changes": list(self.mask_changes)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what was noted, after the model took its scores."""
        super().load_state_dict(state)
        self.mask_changes = [float(change) for change in state["mask_changes"]]
        self.before = {name: top.mask() for name, top in self.tops.items()}


@dataclass(kw_only=True)
class LowestMagnitude(PruningMethod):
    """LWM, the baseline of HYDRA: the smallest weights of each layer go, as many as in HYDRA.

    These are the masks that HYDRA's search begins with. Made robust by what is before and after: a robust dense
    network, and fine-tuning by a robust recipe.

    Examples
    --------
    >>> layer = nn.Linear(4, 1)
    >>> layer.weight.data = torch.tensor([[0.3, -0.1, 0.5, -0.4]])
    >>> LowestMagnitude(sparsity=0.5).masks(layer).kept["weight"]
    tensor([[False, False,  True,  True]])

    """

    def masks(self, model: nn.Module) -> Masks:
        """Return the masks without the smallest weights of each layer.

        Raises
        ------
        InputError
            For a network without weights to prune, or with weights that are not finite.

        """
        return Masks(
            {
                name: highest(weight.detach().abs(), number_kept(1 - self.sparsity, weight.numel()))
                for name, weight in _rankable(model).items()
            }
        )


def scaled(weight: Tensor) -> Tensor:
    """Return the scores that a weight starts with: ``sqrt(6 / fan_in) * weight / max|weight|``.

    Examples
    --------
    >>> [round(score, 4) for score in scaled(torch.tensor([[1.0, -2.0, 0.0]])).flatten().tolist()]
    [0.7071, -1.4142, 0.0]

    """
    weight = weight.detach()
    largest = weight.abs().max()
    return weight.clone() if not largest else math.sqrt(6 / weight[0].numel()) * weight / largest


def _rankable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the prunable weights by name, of which there must be some, and all finite."""
    weights = prunable_weights(inner(model))
    if not weights:
        raise InputError("`network` has nothing to prune: it has no convolutions and no linear layers")
    broken = [name for name, weight in weights.items() if not weight.isfinite().all()]
    if broken:
        raise InputError(f"`network` cannot be ranked: {broken[0]} has weights that are not finite")
    return weights


def _owners(model: nn.Module, weight: Tensor) -> list[tuple[nn.Module, str]]:
    """Return each layer that has a weight for its own, and by which name: several may share it."""
    return [
        (layer, leaf)
        for layer in model.modules()
        for leaf, parameter in layer.named_parameters(recurse=False, remove_duplicate=False)
        if parameter is weight
    ]
