"""A radius that a person chose: read, checked against what a perturbation can be, and kept to the last bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from thinice.errors import InputError
from thinice.norms import NORM_TABLE
from thinice.types import Norm

__all__ = ["LONGER", "budget_text", "budget_value", "into_ball"]

LONGER: dict[Norm, tuple[Norm, ...]] = {
    "l0": ("l0",),
    "l1": ("l1",),
    "l2": ("l2", "l1"),
    "linf": ("linf", "l2", "l1"),
}
"""The norms whose length of a perturbation is never smaller than that of the key: within a budget in one of them is
within the same budget in the key's."""
TINY, HAIR = 1e-300, 1e-12
"""So that nothing is divided by zero, and the rounding of a sum in float64 lengthens nothing."""


def budget_value(budget: float | str, norm: Norm, shape: Sequence[int] | None = None) -> float:
    """Return a budget as a number on the [0, 1] scale, given as a number or as text such as ``"8/255"``.

    Parameters
    ----------
    budget : float or str
        The radius.
    norm : {"l0", "l1", "l2", "linf"}
        Its norm; l0 counts whole entries.
    shape : sequence of int, optional
        Of one input: no perturbation is longer than one that changes all of it from 0 to 1.

    Raises
    ------
    InputError
        For what is no number, not above 0, or longer than any perturbation: 9 where 9/255 is meant.

    Examples
    --------
    >>> budget_value("8/255", "linf") == 8 / 255
    True
    >>> budget_value(9, "linf")
    Traceback (most recent call last):
    ...
    thinice.errors.InputError: `budget` 9 is beyond any linf perturbation of inputs in [0, 1], 1: did you mean 9/255?

    """
    try:
        value = float(Fraction(budget.replace(" ", ""))) if isinstance(budget, str) else float(budget)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        raise InputError(f"`budget` must be a number such as 8/255 or 0.03, got {budget!r}") from None
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"`budget` must be above 0 (at 0 it is the clean accuracy), got {budget}")
    if norm == "l0" and value != int(value):
        raise InputError(f"`budget` of l0 is a number of entries, a whole one, got {budget}")
    entries = math.prod(shape) if shape is not None else None
    longest = 1.0 if norm == "linf" else None if entries is None else entries**0.5 if norm == "l2" else float(entries)
    if longest is not None and value > longest:
        hint = f": did you mean {budget}/255?" if norm == "linf" and value <= 255 else ""
        message = f"`budget` {budget} is beyond any {norm} perturbation of inputs in [0, 1], {longest:.4g}{hint}"
        raise InputError(message)
    return value


def budget_text(budget: float, norm: Norm) -> str:
    """Return a budget as people write it: linf in 255ths.

    >>> budget_text(8 / 255, "linf"), budget_text(0.5, "l2"), budget_text(0.1, "linf")
    ('8/255', '0.5', '25.5/255')
    """
    return f"{budget * 255:.4g}/255" if norm == "linf" else f"{budget:.4g}"


def into_ball(inputs: Tensor, candidates: Tensor, *, norm: Norm, budget: float) -> Tensor:
    """Return the candidates moved within the budget, none longer by as much as a bit, and inside [0, 1].

    Attacks keep to ``inputs + budget`` in float32, whose rounding makes half of the entries too long. They are moved
    by that bit; what is longer for other reasons is shrunk (l0: left as it is, for the judge to refuse).

    Parameters
    ----------
    inputs, candidates : Tensor
        (N, C, H, W) float32 in [0, 1].
    norm, budget
        The ball around each input.

    Examples
    --------
    >>> inputs, budget = torch.rand(4, 1, 8, 8), 8 / 255
    >>> rounded = (inputs + budget).clamp(0, 1)
    >>> inside = into_ball(inputs, rounded, norm="linf", budget=budget)
    >>> bool(((inside.double() - inputs.double()).abs() <= budget).all()), bool((inside - rounded).abs().max() < 1e-6)
    (True, True)

    """
    candidates = candidates.to(torch.float32).clamp(0, 1)
    if norm == "l0":
        return candidates
    start = inputs.double()
    if norm == "linf":
        low, high = (start - budget).float(), (start + budget).float()
        low = torch.where(start - low.double() > budget, torch.nextafter(low, torch.ones_like(low)), low)
        high = torch.where(high.double() - start > budget, torch.nextafter(high, torch.zeros_like(high)), high)
        return candidates.clamp(low, high).clamp(0, 1)
    length = NORM_TABLE[norm].length
    delta = candidates.double() - start
    scale = (budget / length(delta).clamp(min=TINY)).clamp(max=1)
    shorter = start + delta * (scale * (1 - HAIR)).reshape(-1, *[1] * (delta.dim() - 1))
    rounded = shorter.float()
    away = (rounded.double() - start).abs() > (shorter - start).abs()
    inside = torch.where(away, torch.nextafter(rounded, inputs), rounded)
    return torch.where((scale < 1).reshape(-1, *[1] * (delta.dim() - 1)), inside, candidates)
