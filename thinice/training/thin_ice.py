"""Samples on thin ice count more: each one's loss, by how near it lies to the boundary of the dense network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from thinice.errors import InputError
from thinice.models.classifier import Classifier, own_copy
from thinice.models.fingerprints import fingerprint_of
from thinice.numerics import stream
from thinice.training.checking import held_out
from thinice.training.loop import Hook
from thinice.training.trades import divergence

if TYPE_CHECKING:
    from torch import nn

    from thinice.data import Samples
    from thinice.training.presets import Plan

__all__ = ["Distillation", "SampleWeights", "Shape", "ThinIce", "nearness_weights"]

Shape: TypeAlias = Literal["power", "exponential", "window"]
LOG_SHAPES: Mapping[Shape, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "power": lambda ratio: -ratio.log1p(),
        "exponential": lambda ratio: -ratio,
        "window": lambda ratio: -((ratio - 1) ** 2) / 2,
    }
)
"""Logarithm of a weight of strength 1, from epsilon over the budget."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ThinIce:
    """How samples count by their epsilon on the dense network, in the search for masks and in fine-tuning.

    With r = epsilon / budget, a sample weighs ``(1 + r) ** -strength`` (power), ``exp(-strength r)`` (exponential) or
    ``exp(-strength (r - 1) ** 2 / 2)`` (window: those near the budget, on either side), over the mean of all that are
    trained on.

    Attributes
    ----------
    epsilons : Tensor
        (N,) of the training samples in their order, on the dense network: 0 where it misclassifies one, NaN where none
        was found. Those of `thinice.measure` at effort ``"quick"`` are good enough.
    shape : {"power", "exponential", "window"}
        How weights fall.
    strength : float
        How steeply; at 0 all count alike.
    budget : float or None
        What epsilons are counted in; ``None``: the budget that training attacks within.
    other : float
        Weight of samples that the dense network misclassifies or that have no epsilon; 1 is the mean of all others.
    shuffled : bool
        The control: the same weights, on samples that chance chose.
    seed : int
        Of that chance.
    distil : float
        Above 0, losses count alike, and what is weighted is so many times the divergence from the dense network's
        predictions on the samples to those of the objective's logits (of the crafted inputs, in adversarial training).
    search, finetune : bool
        In which of the two trainings.
    measured_by : str
        What measured the epsilons, for the file.

    Notes
    -----
    Weights by the distance to the boundary that a network has *while* it is trained (GAIRAT, Zhang et al. 2021) raised
    robust accuracy under PGD, and lowered it under AutoAttack. These are fixed before; look at AutoAttack here too.

    """

    epsilons: Tensor
    shape: Shape = "power"
    strength: float = 1.0
    budget: float | None = None
    other: float = 1.0
    shuffled: bool = False
    seed: int = 0
    distil: float = 0.0
    search: bool = True
    finetune: bool = True
    measured_by: str = ""

    def __post_init__(self) -> None:
        epsilons = torch.as_tensor(self.epsilons).detach().to("cpu", torch.float64)
        if epsilons.ndim != 1 or bool((epsilons < 0).any()) or bool(epsilons.isinf().any()):
            raise InputError("`epsilons` must be one number of at least 0 a sample, or NaN where none was found")
        object.__setattr__(self, "epsilons", epsilons)
        if self.shape not in get_args(Shape):
            raise InputError(f"`shape` must be one of {', '.join(get_args(Shape))}, got {self.shape!r}")
        for name in ("strength", "other", "distil"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise InputError(f"`{name}` must be a number of at least 0, got {value!r}")
        budget = 1 if self.budget is None else self.budget
        if isinstance(budget, bool) or not isinstance(budget, int | float) or not 0 < budget < math.inf:
            raise InputError(f"`budget` must be a number above 0, such as 8/255, got {budget!r}")
        for name in ("shuffled", "search", "finetune"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"`{name}` must be true or false, got {getattr(self, name)!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise InputError(f"`seed` must be a whole number of at least 0, got {self.seed!r}")
        if not self.search and not self.finetune:
            raise InputError("`search` and `finetune` are both false: leave one of them true, or do without weights")

    def weights(self, samples: Samples, plan: Plan) -> tuple[Samples, Tensor]:
        """Return the samples that a plan trains on, and their weights (N,) with a mean of one.

        Raises
        ------
        InputError
            Where samples and epsilons do not fit, and where nobody says in what budget epsilons are counted.

        """
        if len(samples) != len(self.epsilons):
            raise InputError(f"`epsilons` has {len(self.epsilons)} rows, but there are {len(samples)} training samples")
        if samples.split == "test":
            raise InputError("`samples` are of split 'test', which measures networks: give training samples")
        threat = plan.objective.threat()
        budget = threat.budget if self.budget is None and threat is not None else self.budget
        if budget is None:
            raise InputError("`budget` must be given, such as 8/255: this training attacks within none")
        fitted = held_out(samples, plan.recipe.held_out)[0] if plan.recipe.held_out else samples
        epsilons = self.epsilons[torch.isin(samples.sample_ids, fitted.sample_ids)]
        weights = nearness_weights(epsilons, budget, shape=self.shape, strength=self.strength, other=self.other)
        if self.shuffled:
            weights = weights[torch.randperm(len(weights), generator=stream(self.seed, "thin ice"))]
        return fitted, weights

    def hooks(self, dense: Classifier, samples: Samples, plan: Plan) -> list[Hook]:
        """Return what takes part in a training by a plan, of a network that is pruned out of the dense one."""
        fitted, weights = self.weights(samples, plan)
        if self.distil:
            return [Distillation(fitted.sample_ids, weights, dense, float(self.distil))]
        return [SampleWeights(fitted.sample_ids, weights)]

    def described(self) -> dict[str, object]:
        """Return the settings as plain values, for files; of the epsilons, a fingerprint."""
        settings = {row.name: getattr(self, row.name) for row in fields(self)}
        return settings | {"epsilons": fingerprint_of("tensor", {}, {"": self.epsilons}, None)}


def nearness_weights(epsilons: Tensor, budget: float, *, shape: Shape, strength: float, other: float) -> Tensor:
    """Return the weights (N,) of samples by their epsilons (N,), in float32, with a mean of one.

    Examples
    --------
    >>> nearness_weights(torch.tensor([0.1, 0.5, 0.0]), 0.1, shape="power", strength=1.0, other=1.0)
    tensor([1.5000, 0.5000, 1.0000])

    """
    known = epsilons > 0  # neither misclassified nor NaN
    if not known.any():
        raise InputError(
            "`epsilons` are 0 or missing for all samples: measure those of the dense network that is pruned"
        )
    logarithms = strength * LOG_SHAPES[shape](epsilons[known].double() / budget)
    nearness = (logarithms - logarithms.max()).exp()  # no sum of nothing, however steep
    weights = torch.full(epsilons.shape, float(other), dtype=torch.float64)
    weights[known] = nearness / nearness.mean()
    return (weights / weights.mean()).float()


@dataclass
class SampleWeights(Hook):
    """Fixed factors of the losses of single samples.

    Attributes
    ----------
    sample_ids, weights : Tensor
        (N,) which samples, and the factor of each.

    """

    sample_ids: Tensor
    weights: Tensor

    def prepare(self, model: nn.Module) -> None:
        """Lay the weights out by sample, on the device of the model."""
        self.sorted_ids, order = torch.sort(self.sample_ids)
        self.sorted_weights = self.weights[order].to(next(model.parameters()).device)

    def of(self, sample_ids: Tensor) -> Tensor:
        """Return the weights of some samples."""
        return self.sorted_weights[torch.searchsorted(self.sorted_ids, sample_ids)]

    def weigh(self, sample_ids: Tensor, losses: Tensor) -> Tensor | None:  # noqa: ARG002 - whatever they are
        """Return the factors of a batch."""
        return self.of(sample_ids)


@dataclass
class Distillation(SampleWeights):
    """A term for each sample: how far the dense network's predictions are from those in training, times its weight.

    Attributes
    ----------
    dense : Classifier
        Sees the samples as they are (augmented, not crafted).
    factor : float
        Of all terms.

    """

    dense: Classifier
    factor: float

    def prepare(self, model: nn.Module) -> None:
        """Bring the dense network to the device of the model."""
        super().prepare(model)
        self.teacher = own_copy(self.dense.module).to(next(model.parameters()).device).eval()

    def weigh(self, sample_ids: Tensor, losses: Tensor) -> Tensor | None:  # noqa: ARG002 - all count alike
        """Return nothing: the losses count alike."""
        return None

    def term(self, sample_ids: Tensor, inputs: Tensor, logits: Tensor) -> Tensor | None:
        """Return the weighted divergences of a batch."""
        with torch.no_grad():
            dense = self.teacher(inputs)
        return self.factor * self.of(sample_ids) * divergence(dense, logits)
