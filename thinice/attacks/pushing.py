"""Claims that rounding has spoiled are pushed out by a short step, and judged again."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from thinice.attacks.nearest import FORWARD, Model, Nearest, judge
from thinice.types import Norm, Outcome

__all__ = ["push_out"]

STEPS = (1e-4, 1e-3, 3e-3, 1e-2)
"""Shares of its length by which a refused perturbation grows, one after the other."""


def push_out(
    model: Model,
    nearest: Nearest,
    inputs: Tensor,
    candidates: Tensor,
    labels: Tensor,
    *,
    norm: Norm,
    converged: Tensor | None = None,
) -> Nearest:
    """Return the judgement with refused claims replaced by longer ones that the judge accepts, where there are any.

    Minimum-norm points sit on the boundary: another order of the same sums, or a search in less than float32, is
    enough to leave them just before it. Each further look at a claim is counted. An l0 claim moves the entries that it
    has, as far as the box lets them, and stays as long as it is.

    Parameters
    ----------
    model : callable
        What judges: takes inputs (N, C, H, W) in [0, 1] to logits (N, K).
    nearest : Nearest
        What `judge` said of the candidates.
    inputs, candidates : Tensor
        (N, C, H, W), the clean inputs and what was claimed; equal where nothing was.
    labels : Tensor
        (N,) true classes.
    norm : {"l0", "l1", "l2", "linf"}
        The norm in which epsilon is measured.
    converged : Tensor, optional
        (N,) bool, as in `Claims`.

    Examples
    --------
    >>> def sign(inputs):
    ...     return torch.cat([0.5 - inputs.flatten(1), inputs.flatten(1) - 0.5], 1)
    >>> inputs, candidates = torch.full((1, 1, 1, 1), 0.25), torch.full((1, 1, 1, 1), 0.49999)
    >>> labels, spent = torch.tensor([0]), torch.ones(1)
    >>> refused = judge(sign, inputs, candidates, labels, norm="linf", evaluations=spent)
    >>> push_out(sign, refused, inputs, candidates, labels, norm="linf").epsilon
    tensor([0.2500])
    """
    claimed = (candidates != inputs).flatten(1).any(1) & candidates.flatten(1).isfinite().all(1)
    left = torch.nonzero((nearest.outcomes == Outcome.NOT_FOUND) & (nearest.clean_predictions >= 0) & claimed)
    left = left.squeeze(1)
    for step in STEPS:
        if not len(left):
            break
        start = inputs[left]
        longer = (start + (candidates[left] - start) * (1 + step)).clamp(0, 1)
        again = judge(
            model,
            start,
            longer,
            labels[left],
            norm=norm,
            evaluations=nearest.evaluations[left] + FORWARD,
            clean_predictions=nearest.clean_predictions[left],
            converged=None if converged is None else converged[left],
        )
        nearest = nearest.replaced(left, replace(again, diagnoses=nearest.diagnoses[left]))
        left = left[~again.found]
    return nearest
