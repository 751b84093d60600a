"""RST: a robust network found among random weights, which are never trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from thinice.errors import InputError
from thinice.models.normalization import inner
from thinice.models.weights import prunable_weights
from thinice.numerics import stream
from thinice.pruning.hydra import Hydra, TopScores

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RobustScratchTicket"]


@dataclass(kw_only=True)
class RobustScratchTicket(Hydra):
    """Robust scratch tickets: HYDRA's search in a network of random weights, from random scores.

    The weights of the network that is given do not matter: each becomes ``sqrt(2 / fan_in)`` or minus that, by chance,
    biases become 0, and batch norm neither scales nor shifts. None of them is trained, before or after.

    Attributes
    ----------
    sparsity : float
        In [0, 1): the fraction of the weights of each layer that shall be zero.
    seed : int
        Of weights and scores.
    s2ap, s2ap_warmup, s2ap_steps, sharpness
        As of `thinice.pruning.hydra.Hydra`.

    Notes
    -----
    Fu et al., Drawing Robust Scratch Tickets, NeurIPS 2021. Scores begin as torch's linear layers do, uniform within
    ``1 / sqrt(fan_in)``.

    """

    search_recipe = "rst"
    freeze_batch_norm: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise InputError(f"`seed` must be a whole number of at least 0, got {self.seed!r}")

    @torch.no_grad()
    def prepare(self, model: nn.Module) -> None:
        """Draw weights and scores, then do as HYDRA does."""
        self._generator = stream(self.seed, "rst")
        for layer in inner(model).modules():
            if isinstance(layer, _BatchNorm):
                layer.reset_parameters()
        weights = prunable_weights(inner(model))
        for name, value in inner(model).named_parameters():
            if name.rpartition(".")[2] == "bias":
                value.zero_()
        for weight in weights.values():
            signs = torch.rand(weight.shape, generator=self._generator) < 0.5
            size = math.sqrt(2 / weight[0].numel())
            weight.copy_(torch.where(signs, size, -size))
        with torch.enable_grad():
            super().prepare(model)

    def start(self, weight: Tensor) -> TopScores:
        """Return what masks a weight, as it is before the first step."""
        bound = 1 / math.sqrt(weight[0].numel())
        scores = (2 * torch.rand(weight.shape, generator=self._generator) - 1) * bound
        return TopScores(scores.to(weight.device), 1 - self.sparsity)
