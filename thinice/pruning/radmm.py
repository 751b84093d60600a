"""R-ADMM: adversarial training that pulls the weights towards their own pruned version, then cuts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from thinice.errors import InputError
from thinice.models import prunable_weights
from thinice.models.normalization import inner
from thinice.pruning.magnitude import Ranking, lowest_masks
from thinice.pruning.s2ap import ScorePerturbation
from thinice.registry import added

if TYPE_CHECKING:
    from torch import nn

    from thinice.models.weights import Masks
    from thinice.training import Recipe

__all__ = ["RADMM", "rho_for"]

RADMM_STRUCTURES = ("weight", "column", "filter")
AUTHORS_RHO = 0.001
SHOWN_RATES = 300
"""Places of a search at which its learning rate is looked at."""
PULL = 12.0
"""What rho, times the learning rate, over 1 - momentum, adds up to over all steps of the authors' search: 200 epochs of
391 steps; the mean rate 0.0037 (a third each at 0.01, 0.001 and 0.0001), the mean rho 0.0043 (10 updates by 1.3)."""


@dataclass(kw_only=True)
class RADMM(ScorePerturbation, Ranking):
    """Training under the constraint of sparsity by the alternating direction method of multipliers, then a hard cut.

    The search minimises the loss of its objective plus ``rho / 2 * ||W - Z + U||^2``, summed over the layers. Z, the
    targets, are the weights W projected onto what the sparsity allows; U, the duals, add up how far W stayed from Z.
    After each part of the search ``Z = projection(W + U)``, then ``U = U + W - Z``. In the end W itself is projected.

    Attributes
    ----------
    scope : {"local", "global"}
        Project each layer by itself, as the authors do with a rate for each layer, or all together.
    structure : {"weight", "column", "filter"}
        What is removed as one; the authors' "irregular" is ``"weight"``. Columns and filters have the length of their
        weights (L2) as score, and exist in convolutions alone.
    rho : float, optional
        Of the penalty, before the first update. By default as large as it takes to pull as the authors' settings do,
        whatever the length of the search: see `rho_for`. The residuals tell whether the weights arrive.
    rho_factor : float
        What rho is multiplied by at each update; 1 leaves it ("multi-rho" in the authors' program).
    updates : int
        How often Z and U are renewed, evenly over the search, and at most once an epoch: 10 times in the authors' 200
        epochs.
    s2ap, s2ap_warmup, s2ap_steps
        As of `thinice.pruning.s2ap.ScorePerturbation`. There are no scores here but the weights that are ranked: these
        climb the augmented Lagrangian.

    Notes
    -----
    Ye et al., Adversarial Robustness vs. Model Compression, or Both?, ICCV 2019. The duals are not rescaled where rho
    changes, and of equal scores the first goes first. Every layer keeps its best unit.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(4, 1)
    >>> layer.weight.data = torch.tensor([[0.3, -0.1, 0.5, -0.4]])
    >>> method = RADMM(sparsity=0.5, rho=2.0)
    >>> method.prepare(layer)
    >>> round(method.penalty(layer).item(), 6)  # 0.3^2 + 0.1^2
    0.1

    """

    searches = True
    search_recipe = "radmm-prune"
    scope: str = "local"
    rho: float | None = None
    rho_factor: float = 1.3
    updates: int = 10
    s2ap: float = added(0.0)
    s2ap_warmup: int = added(5)
    s2ap_steps: int = added(1)

    def __post_init__(self) -> None:
        if self.structure not in RADMM_STRUCTURES:
            raise InputError(
                f"`structure` must be one of {', '.join(RADMM_STRUCTURES)} in R-ADMM, got {self.structure!r}"
            )
        super().__post_init__()
        first = AUTHORS_RHO if self.rho is None else self.rho
        for name, value, least in (("rho", first, 0.0), ("rho_factor", self.rho_factor, 1.0)):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not least <= value < math.inf or value == 0:
                bound = "above 0" if least == 0 else f"at least {least:g}"
                raise InputError(f"`{name}` must be a number {bound}, got {value!r}")
        self._first_rho = float(first)
        if isinstance(self.updates, bool) or not isinstance(self.updates, int) or self.updates < 1:
            raise InputError(f"`updates` must be a whole number of at least 1, got {self.updates!r}")

    def scores(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return absolute values; for units of several weights squares, whose mean ranks as the length does."""
        if self.structure == "weight":
            return {name: weight.abs() for name, weight in weights.items()}
        return {name: weight.double().square() for name, weight in weights.items()}

    def projected(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the nearest weights that hold the constraint: those of the best units, and zeros."""
        masks = self._cut(weights)
        return {name: weight * masks[name].to(weight.device) for name, weight in weights.items()}

    def _cut(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the masks of the best units, on the CPU."""
        scores = self.scores({name: weight.detach().cpu().float() for name, weight in weights.items()})
        return lowest_masks(scores, sparsity=self.sparsity, scope=self.scope, structure=self.structure)

    def expected(self, model: nn.Module) -> Masks | None:
        """Return the masks of the weights as they are, where each layer keeps its own part of them."""
        return self.masks(model) if self.scope == "local" else None

    def perturbed(self, model: nn.Module) -> Sequence[nn.Parameter]:
        """Return the weights that are ranked."""
        return list(self._weights(model).values())

    def check_search(self, recipe: Recipe, steps: int) -> None:
        """Choose rho by the search, where none was given; InputError as of S2AP."""
        super().check_search(recipe, steps)
        if self.rho is None:
            self._first_rho = rho_for(recipe, steps, factor=self.rho_factor, updates=self.updates)

    @torch.no_grad()
    def prepare(self, model: nn.Module) -> None:
        """Project the weights for the first time; the duals are 0."""
        super().prepare(model)
        self._names = self.ranked(model)
        weights = self._weights(model)
        self._targets = self.projected(weights)
        self._duals = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self._rho, self._parts = self._first_rho, 0
        self._residuals: list[dict[str, float | None]] = []
        self._note_residuals(weights, None)
        self._before = self._cut(weights)
        self._mask_changes: list[float] = []

    def _weights(self, model: nn.Module) -> dict[str, nn.Parameter]:
        parameters: dict[str, nn.Parameter] = prunable_weights(inner(model))
        return {name: parameters[name] for name in self._names}

    def penalty(self, model: nn.Module) -> Tensor:
        """Return the augmented Lagrangian's part beside the loss."""
        distances = [
            (weight - (self._targets[name] - self._duals[name])).square().sum()
            for name, weight in self._weights(model).items()
        ]
        return self._rho / 2 * torch.stack(distances).sum()

    @torch.no_grad()
    def after_epoch(self, model: nn.Module, done: float) -> None:
        """Renew targets and duals, where a part of the search is done."""
        super().after_epoch(model, done)
        masks = self._cut(self._weights(model))
        changed = sum(int((mask != self._before[name]).sum()) for name, mask in masks.items())
        self._mask_changes.append(changed / sum(mask.numel() for mask in masks.values()))
        self._before = masks
        parts = math.floor(done * self.updates + 1e-9)  # 0.29 * 100 is below 29
        if parts == self._parts:
            return
        self._parts = parts
        weights, before = self._weights(model), self._targets
        self._targets = self.projected({name: weight + self._duals[name] for name, weight in weights.items()})
        for name, weight in weights.items():
            self._duals[name] = self._duals[name] + weight - self._targets[name]
        self._note_residuals(weights, before)
        self._rho *= self.rho_factor

    def _note_residuals(self, weights: Mapping[str, Tensor], before: Mapping[str, Tensor] | None) -> None:
        primal = {name: weight - self._targets[name] for name, weight in weights.items()}
        row = {"epoch": self.epochs, "rho": self._rho, "primal": _length(primal), "dual": None}
        if before is not None:
            row["dual"] = self._rho * _length({name: self._targets[name] - before[name] for name in before})
        self._residuals.append(row)

    def measured(self) -> dict[str, object]:
        """Return residuals and mask changes.

        The primal residual is ``||W - Z||``, the dual one, from the first update, ``rho ||dZ||``. A mask change is the
        part of the masks of the weights, if they were cut now, that is another than an epoch before.
        """
        return {"residuals": self._residuals, "mask_changes": list(self._mask_changes)}

    def state_dict(self) -> dict[str, Any]:
        """Return targets, duals, rho, how far the search is, and the residuals."""
        return super().state_dict() | {
            "targets": self._targets,
            "duals": self._duals,
            "rho": self._rho,
            "parts": self._parts,
            "residuals": self._residuals,
            "mask_changes": list(self._mask_changes),
            "before": dict(self._before),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a search that was stopped."""
        for own, read in ((self._targets, state["targets"]), (self._duals, state["duals"])):
            for name, value in own.items():
                own[name] = read[name].to(value.device).reshape(value.shape)
        super().load_state_dict(state)
        self._rho, self._parts = state["rho"], state["parts"]
        self._residuals = list(state["residuals"])
        self._mask_changes = [float(change) for change in state["mask_changes"]]
        self._before = dict(state["before"])


def rho_for(recipe: Recipe, steps: int, *, factor: float, updates: int) -> float:
    """Return the first rho with which a search of so many steps pulls its weights as far as the authors' search does.

    A weight whose loss is flat comes nearer to its target by ``rho * rate / (1 - momentum)`` of the distance in each
    step of SGD. Their sum is that of the authors' settings, 12; rho is never so large that steps would overshoot.

    Examples
    --------
    >>> from thinice.training import preset
    >>> authors, short = preset("radmm-prune").recipe, preset("radmm-prune-short", epochs=5).recipe
    >>> round(rho_for(authors, 200 * 391, factor=1.3, updates=10), 4)
    0.001
    >>> round(rho_for(short, 5 * 100, factor=1.3, updates=10), 2)
    0.13

    """
    parts = min(updates, recipe.epochs)
    factors = [factor**part for part in range(parts)]
    rates = [recipe.rate((step + 0.5) / SHOWN_RATES) for step in range(SHOWN_RATES)]
    length = sum(rates) / SHOWN_RATES * steps / (1 - recipe.momentum)
    return min(PULL / length / (sum(factors) / parts), 1 / max(rates) / factors[-1])


def _length(values: Mapping[str, Tensor]) -> float:
    """Return the length of several tensors together."""
    return math.sqrt(sum(float(value.double().square().sum()) for value in values.values()))
