"""Parameters that climb the loss before each step, within a ball around them: AWP, and what S2AP shares with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from thinice.training.loop import Hook

if TYPE_CHECKING:
    from torch import Tensor, nn

    from thinice.training.loop import Backward, Batch

__all__ = ["WeightPerturbation", "ascended", "backward_at_worst"]

TINY = 1e-12
"""Added to the length of a gradient, which may be zero."""


@dataclass
class WeightPerturbation(Hook):
    """AWP: each step goes down the gradient at weights that climbed the loss, within a ball around them.

    The weights of a layer move along their gradient by `radius` times their own length (L2); biases and batch norm
    stay, and so do weights that are exactly zero: what is pruned does not come back. Running statistics of batch norm
    are those of the pass before the climb. In a file, settings of the recipe: ``finetune-pgd,awp=0.01``.

    Attributes
    ----------
    radius : float
        The authors' gamma: 0.01 for adversarial training, 0.005 for TRADES.
    warmup : int
        Epochs without it before: 0 for adversarial training on CIFAR-10, 5 on SVHN; 10 for TRADES.

    Notes
    -----
    Wu, Xia and Wang, Adversarial Weight Perturbation Helps Robust Generalization, NeurIPS 2020. Their proxy network
    takes one step of SGD and its difference is scaled to the length of the weights: that is this direction.

    """

    radius: float
    warmup: int = 0

    def prepare(self, model: nn.Module) -> None:  # noqa: ARG002 - the weights are those of each step
        """Begin to count epochs."""
        self.epochs = 0

    def around_backward(self, model: nn.Module, backward: Backward) -> Batch:
        """Leave the gradients at the perturbed weights; the weights are put back to the bit."""
        if self.epochs < self.warmup:
            return backward()
        weights = [value for name, value in model.named_parameters() if is_weight(name, value)]
        return backward_at_worst(model, backward, weights, self.radius, zeros_stay=True)

    def after_epoch(self, model: nn.Module, done: float) -> None:  # noqa: ARG002 - epochs are counted
        """Count the epoch."""
        self.epochs += 1

    def state_dict(self) -> dict[str, Any]:
        """Return how many epochs there were."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the number of epochs."""
        self.epochs = int(state["epochs"])


def is_weight(name: str, value: nn.Parameter) -> bool:
    """Return whether AWP moves a parameter: a weight of more than one axis that is trained.

    Examples
    --------
    >>> from torch import nn
    >>> layer = nn.Linear(2, 2)
    >>> [name for name, value in layer.named_parameters() if is_weight(name, value)]
    ['weight']

    """
    return "weight" in name.rpartition(".")[2] and value.ndim > 1 and value.requires_grad


def backward_at_worst(
    model: nn.Module,
    backward: Backward,
    parameters: Sequence[nn.Parameter],
    radius: float,
    *,
    steps: int = 1,
    zeros_stay: bool = False,
) -> Batch:
    """Return a batch whose gradients are those where parameters have climbed its loss; they are put back to the bit.

    Parameters
    ----------
    model, backward
        As of `thinice.training.Hook.around_backward`; running statistics of batch norm are those of the first pass.
    parameters : sequence of nn.Parameter
        What climbs, each in a ball of its own.
    radius : float
        Of each ball, as a part of the parameter's length (L2).
    steps : int
        Of the climb, each of one gradient and an equal part of the radius.
    zeros_stay : bool
        Whether numbers that are exactly zero do.

    """
    batch = backward()
    statistics = _statistics(model)
    before = [value.detach().clone() for value in (*parameters, *statistics)]
    with torch.no_grad():
        lengths = [radius / steps * value.norm() for value in parameters]
    for _ in range(steps):
        ascended(parameters, lengths, zeros_stay=zeros_stay)
        batch = backward()
    with torch.no_grad():
        for value, old in zip((*parameters, *statistics), before, strict=True):
            value.copy_(old)
    return batch


@torch.no_grad()
def ascended(parameters: Sequence[nn.Parameter], lengths: Sequence[Tensor], *, zeros_stay: bool = False) -> None:
    """Move each parameter, in place, by a length along its gradient; without a gradient it stays.

    Examples
    --------
    >>> scores = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> scores.grad = torch.tensor([0.0, -2.0])
    >>> ascended([scores], [torch.tensor(0.5)])
    >>> scores.tolist()
    [3.0, 3.5]

    """
    for value, length in zip(parameters, lengths, strict=True):
        if value.grad is not None:
            gradient = value.grad * (value != 0) if zeros_stay else value.grad
            value.add_(length * gradient / (gradient.norm() + TINY))


def _statistics(model: nn.Module) -> list[Tensor]:
    """Return the running statistics of all batch norms."""
    return [
        value for layer in model.modules() if isinstance(layer, _BatchNorm) for value in layer.buffers(recurse=False)
    ]
