"""What one attack says of the samples of one network: what it has in hand, and what it claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from thinice.errors import InputError
from thinice.types import Norm

__all__ = ["Evidence", "FloatColumn", "fixed_budget", "minimum_norm", "verified"]

FloatColumn = npt.NDArray[np.float64]

ROUNDING = 1e-6  # epsilons are float32: what equals a budget up to this is not held against anyone


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What one attack says of the samples of one network; made by `minimum_norm`, `fixed_budget` and `verified`.

    Attributes
    ----------
    name : str
        The attack as people know it, ``"fmn, 100 steps"``.
    norm : {"l0", "l1", "l2", "linf"}
        The norm that it speaks of.
    kind : {"minimum", "budget", "verified"}
        An estimate of the distance; a verdict at one budget; a proof that nothing is nearer.
    sample_ids : array
        (N,) int64, each sample once.
    reached : array
        (N,) an adversarial is known at this distance at most: 0 where the clean sample is wrong, inf where none is.
    claimed : array
        (N,) it says that no adversarial is nearer; 0 where it says nothing.
    family, steps : str, int, optional
        What is equal for runs of one attack that differ in their steps alone, and the steps.

    """

    name: str
    norm: Norm
    kind: Literal["minimum", "budget", "verified"]
    sample_ids: npt.NDArray[np.int64]
    reached: FloatColumn
    claimed: FloatColumn
    family: str | None = None
    steps: int | None = None


def minimum_norm(
    name: str,
    norm: Norm,
    sample_ids: npt.ArrayLike,
    epsilon: npt.ArrayLike,
    *,
    family: str | None = None,
    steps: int | None = None,
) -> Evidence:
    """Return what a minimum-norm attack says: of each sample (N,) an epsilon, 0 where misclassified, NaN where unknown.

    An epsilon is a proof that an adversarial is there, and the claim that none is much nearer. An unknown one is
    neither: not found is no number.

    >>> minimum_norm("fmn", "linf", [3, 4, 5], [0.25, 0.0, float("nan")]).reached.round(2)
    array([0.25, 0.  ,  inf])
    """
    ids, values = _columns(sample_ids, epsilon, "epsilon")
    known = ~np.isnan(values)
    reached = np.where(known, values * (1 + ROUNDING), np.inf)
    return Evidence(name, norm, "minimum", ids, reached, np.where(known, values, 0.0), family, steps)


def fixed_budget(
    name: str,
    norm: Norm,
    budget: float,
    sample_ids: npt.ArrayLike,
    robust: npt.ArrayLike,
    *,
    length: npt.ArrayLike | None = None,
    family: str | None = None,
    steps: int | None = None,
) -> Evidence:
    """Return what an attack at one budget says: each sample (N,) is robust there, or broken.

    Broken is a proof that an adversarial lies within the budget, or at its own ``length`` (N,) where that is known,
    0 for a clean sample that is wrong; robust is the claim that none lies within the budget.

    >>> fixed_budget("pgd", "l2", 0.5, [1, 2], [True, False]).claimed
    array([0.5, 0. ])
    """
    if not (np.isfinite(budget) and budget > 0):
        raise InputError(f"`budget` must be a positive number, got {budget!r}")
    ids, verdicts = _columns(sample_ids, np.asarray(robust, dtype=bool), "robust")
    stands = verdicts > 0
    _, lengths = _columns(sample_ids, np.full(len(ids), budget) if length is None else length, "length")
    at = np.fmin(lengths, budget)  # in float32 a length may seem to be longer than the budget that it keeps to
    reached, claimed = np.where(stands, np.inf, at), np.where(stands, budget, 0.0)
    return Evidence(name, norm, "budget", ids, reached, claimed, family, steps)


def verified(name: str, norm: Norm, sample_ids: npt.ArrayLike, radius: npt.ArrayLike) -> Evidence:
    """Return what a complete verifier says: no adversarial lies within the radius (N,); 0 or NaN where it says nothing.

    >>> verified("abcrown", "linf", [1], [0.01]).reached
    array([inf])
    """
    ids, values = _columns(sample_ids, radius, "radius")
    return Evidence(name, norm, "verified", ids, np.full(len(ids), np.inf), np.nan_to_num(values))


def _columns(sample_ids: npt.ArrayLike, values: npt.ArrayLike, name: str) -> tuple[npt.NDArray[np.int64], FloatColumn]:
    ids, column = np.asarray(sample_ids, dtype=np.int64), np.asarray(values, dtype=np.float64)
    if ids.ndim != 1 or ids.shape != column.shape:
        raise InputError(f"`{name}` must have one value for each of `sample_ids`, got {column.shape} and {ids.shape}")
    if len(np.unique(ids)) != len(ids):
        raise InputError("`sample_ids` must name each sample once")
    wrong = (column < 0) | np.isinf(column)
    if wrong.any():
        raise InputError(f"`{name}` must be finite and at least 0 (NaN: unknown), got {column[wrong][0]}")
    return ids, column
