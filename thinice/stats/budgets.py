"""Budgets that suit a network: from hardly any effect to most samples fooled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thinice.errors import InputError
from thinice.stats.columns import FloatColumn
from thinice.stats.curves import survival_curve
from thinice.types import NORMS, Norm

__all__ = ["budget_ladder"]

RUNGS = np.exp2(np.arange(-10, 21, dtype=np.float64))
"""Each budget is twice the one before: from under a thousandth of the unit up."""


def budget_ladder(epsilon: npt.ArrayLike, norm: Norm, *, marginal: float = 0.02) -> FloatColumn:
    """Return ascending budgets for a network's epsilons, each twice the one before.

    The weakest has hardly any effect on the network: it costs at most `marginal` of the accuracy. The strongest is
    the first that more than half of all samples do not withstand. So Merkle et al. chose theirs on the dense network.
    linf budgets are powers of two in 255ths, l0 budgets whole numbers.

    Parameters
    ----------
    epsilon
        (N,) of the dense network: 0 where misclassified, NaN where not found.
    norm
        Of the epsilons.
    marginal
        Share of the samples that the weakest budget may cost.

    Raises
    ------
    InputError
        Where no budget fools more than half: of too many samples nothing was found.

    References
    ----------
    F. Merkle, M. Samsinger, P. Schöttle, "Pruning in the Face of Adversaries", 2021.

    Examples
    --------
    >>> budgets = budget_ladder(np.array([0.0, 1.5, 3.0, 6.0, 7.0]) / 255, "linf")
    >>> (budgets * 255).tolist()
    [1.0, 2.0, 4.0]
    """
    if norm not in NORMS:
        raise InputError(f"`norm` must be one of {', '.join(NORMS)}, got {norm!r}")
    rungs = RUNGS[RUNGS >= 1] if norm == "l0" else RUNGS / 255 if norm == "linf" else RUNGS
    column = np.asarray(epsilon, dtype=np.float32)
    share = survival_curve(column, budgets=rungs.astype(np.float32)).share
    clean = survival_curve(column, budgets=[0.0]).share[0]
    fooled = np.flatnonzero(share < 0.5)
    if not fooled.size:
        raise InputError("`epsilon`: no budget fools more than half of the samples, for of too many nothing was found")
    strongest = int(fooled[0])
    unharmed = np.flatnonzero(clean - share <= marginal)
    weakest = min(int(unharmed[-1]) if unharmed.size else 0, strongest)
    return rungs[weakest : strongest + 1]
