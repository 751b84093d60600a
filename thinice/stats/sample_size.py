"""How many samples a pruning has to lose for the interval of its AUC to be as narrow as one wants it."""

from __future__ import annotations

import math

import numpy as np

from thinice.errors import InputError
from thinice.stats.auc_interval import auc_bounds
from thinice.stats.base import check_confidence

__all__ = ["lost_needed"]

MOST_LOST = 2**40
"""More than any data set has."""


def lost_needed(auc: float, width: float, *, kept_for_each: float = 50.0, confidence: float = 0.95) -> int:
    """Return with how many lost samples the interval of an AUC is expected to be at most so wide: the limiting number.

    The interval is that of `separation`, its standard error Hanley and McNeil's for epsilons that are distributed
    exponentially: lost samples that scatter more widely need more. The number of kept samples hardly matters where many
    are kept for each lost one.

    Parameters
    ----------
    auc
        The AUC that is expected, in (0, 1); one below 1/2 needs as many as its mirror image.
    width
        Of the interval, in (0, 1): 0.1 is 0.85 to 0.95, roughly.
    kept_for_each
        Kept samples for each lost one.
    confidence
        Level of the interval.

    Raises
    ------
    InputError
        For numbers outside these ranges.

    References
    ----------
    J. A. Hanley and B. J. McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC)
    curve", Radiology 143, 1982.

    Examples
    --------
    >>> lost_needed(0.9, 0.1), lost_needed(0.9, 0.05)
    (42, 162)
    """
    check_confidence(confidence)
    for name, value in (("auc", auc), ("width", width)):
        if not 0 < value < 1:
            raise InputError(f"`{name}` must lie between 0 and 1, got {value}: 0.1 is a usual width")
    if not 0 < kept_for_each < math.inf:
        raise InputError(f"`kept_for_each` must be above 0, got {kept_for_each}: kept samples for each lost one")

    def is_enough(n: int) -> bool:
        m = max(2, round(n * kept_for_each))
        high = max(auc, 1 - auc)
        of_lost, of_kept = high / (2 - high) - high**2, 2 * high**2 / (1 + high) - high**2
        variance = (high * (1 - high) + (m - 1) * of_lost + (n - 1) * of_kept) / (m * n)
        bounds = auc_bounds(np.array([high]), np.array([math.sqrt(variance)]), np.array([n - 1.0]), (m, n), confidence)
        return float(bounds[1][0] - bounds[0][0]) <= width

    too_few, enough = 1, 2
    while not is_enough(enough):
        too_few, enough = enough, 2 * enough
        if enough > MOST_LOST:
            raise InputError(f"`width` {width} is too narrow for an AUC of {auc}: no data set has that many samples")
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if is_enough(middle) else (middle, enough)
    return enough
