"""Samples in which a search found nothing, and the looks at the network that they cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from thinice.attacks.fmn import random_directions
from thinice.attacks.nearest import FORWARD, Model, predict
from thinice.losses import gradient_of, margin
from thinice.norms import NormRow

__all__ = ["Loss", "Lost", "column"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""Takes logits (N, K) and labels (N,) to what an adversarial should have little of (N,)."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Samples without an adversarial (N, C, H, W), and the network in two forms: as it is judged, and precise."""

    model: Model
    precise: Model
    inputs: Tensor
    labels: Tensor
    sample_ids: Tensor
    row: NormRow
    seed: int
    places: Tensor  # (N,) where the samples stand in `evaluations`, which all selections share
    evaluations: Tensor

    def __getitem__(self, index: Tensor) -> Lost:
        inputs, labels, ids = self.inputs[index], self.labels[index], self.sample_ids[index]
        return replace(self, inputs=inputs, labels=labels, sample_ids=ids, places=self.places[index])

    def spend(self, cost: float) -> None:
        """Count passes of all these samples."""
        self.evaluations[self.places] += cost

    def across(self, points: Tensor) -> Tensor:
        """Return where the network takes the points for another class than the label."""
        self.spend(FORWARD)
        reached = predict(self.model, points)
        return (reached >= 0) & (reached != self.labels)

    def noise(self, draw: int) -> Tensor:
        """Return numbers in [-1, 1) shaped like the inputs that a sample has for itself."""
        ids = self.sample_ids + (draw << 40)
        return random_directions(self.inputs.flatten(1), ids, self.seed).view_as(self.inputs)

    def slope(self, model: Model, points: Tensor, loss: Loss = margin) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits (N, K), the loss (N,) and its gradient (N, D)."""
        self.spend(1)
        points = points.clone().requires_grad_()
        with torch.enable_grad():
            logits = model(points).to(points.dtype)
            lead = loss(logits, self.labels)
        return logits.detach(), lead.detach(), gradient_of(lead, points)


def column(values: Tensor, like: Tensor) -> Tensor:
    """Return values (N,) shaped to be broadcast against ``like`` (N, …)."""
    return values.view(-1, *[1] * (like.dim() - 1))
