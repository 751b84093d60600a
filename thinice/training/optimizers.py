"""The optimisers of `thinice.training.recipe.OPTIMIZERS`: torch's own, with the settings of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from thinice.training.recipe import Recipe

__all__ = ["adam", "adamw", "sgd"]

SECOND_BETA = 0.999
"""Of Adam, as everywhere."""


def sgd(parameters: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """Return stochastic gradient descent with momentum."""
    return torch.optim.SGD(
        parameters,
        recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov and recipe.momentum > 0,
        fused=True,
    )


def adam(parameters: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """Return Adam, whose weight decay is part of the gradient (Kingma and Ba 2015)."""
    betas = (recipe.momentum, SECOND_BETA)
    return torch.optim.Adam(parameters, recipe.learning_rate, betas=betas, weight_decay=recipe.weight_decay, fused=True)


def adamw(parameters: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """Return Adam with weight decay apart from the gradient (Loshchilov and Hutter 2019)."""
    betas = (recipe.momentum, SECOND_BETA)
    return torch.optim.AdamW(
        parameters, recipe.learning_rate, betas=betas, weight_decay=recipe.weight_decay, fused=True
    )
