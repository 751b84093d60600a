"""All checks at once: of a network, and of an attack on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinice.attacks.nearest import Model
from thinice.indicators.attack import AnyAttack, check_attack
from thinice.indicators.finding import Finding
from thinice.indicators.network import check_network
from thinice.types import Norm

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["indicators"]


def indicators(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    sample_ids: Tensor,
    attack: AnyAttack | None = None,
    *,
    norm: Norm = "linf",
    budget: float | None = None,
    surrogate: Model | None = None,
    unlimited: AnyAttack | None = None,
    seed: int = 0,
) -> tuple[Finding, ...]:
    """Return the findings of `check_network` and, given an attack, of `check_attack`: one a check, raised or not.

    Where the attack itself says whether it reaches everything, its word on ``unconstrained_attack_failure`` replaces
    that of the plain descent.

    Parameters
    ----------
    model : callable
        Takes inputs (N, C, H, W) in [0, 1] to logits (N, K).
    inputs, labels, sample_ids : Tensor
        (N, C, H, W) in [0, 1]; (N,) true classes; (N,) ids. A dozen or two are enough: the attack takes them one by
        one.
    attack, norm, budget, surrogate, unlimited
        As for `check_attack`.
    seed : int
        Of the noise of `check_network`.

    Examples
    --------
    >>> import torch
    >>> def planes(inputs):
    ...     return (8 * inputs.flatten(1) - 4).clamp(-3.5, 3.5)
    >>> inputs = torch.eye(4)[:, :, None, None] * 0.5 + 0.25
    >>> [one.name for one in indicators(planes, inputs, torch.arange(4), torch.arange(4)) if one.raised]
    []

    """
    found = {one.name: one for one in check_network(model, inputs, labels, sample_ids, seed=seed)}
    if attack is not None:
        watched = check_attack(
            model,
            inputs,
            labels,
            sample_ids,
            attack,
            norm=norm,
            budget=budget,
            surrogate=surrogate,
            unlimited=unlimited,
        )
        found |= {one.name: one for one in watched}
    return tuple(found.values())
