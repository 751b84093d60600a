"""One AUC over several trainings, seeds or masks: a summary of those that could have been, not of these alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit, logit, stdtrit

from thinice.errors import InputError
from thinice.stats.base import FloatColumn, Result, check_confidence
from thinice.types import Interval

__all__ = ["SeedSummary", "seed_summary"]


@dataclass(frozen=True, slots=True)
class SeedSummary(Result):
    """What several trainings say of the AUC; None where they are too few."""

    n: int
    """Trainings that gave an AUC with a standard error."""
    missing: int
    """Trainings that gave none, or an AUC of 0 or 1: left out, not guessed."""
    auc: float | None
    """The AUC of an average training."""
    interval: Interval | None
    """Of `auc`, over trainings and samples."""
    another: Interval | None
    """Where the AUC of one more training is expected; None for fewer than three."""
    spread: float | None
    """Standard deviation between trainings, on the logit scale, beyond the sampling error of each."""
    smallest: float | None
    largest: float | None
    confidence: float


def seed_summary(auc: npt.ArrayLike, se: npt.ArrayLike, *, confidence: float = 0.95) -> SeedSummary:
    """Return the AUC over several trainings: a random-effects summary on the logit scale.

    Each AUC has two errors: that of the samples, which its standard error says, and that of the training. Student's
    interval of the bare AUCs weighs a training that loses ten samples as one that loses a hundred, and may reach beyond
    1. Here trainings are weighed by both, the spread between them is Paule and Mandel's, and the interval Hartung and
    Knapp's, never narrower than by Student's quantile alone. Trainings measured on the same test samples share some of
    the sampling error, which this cannot see: the interval is over trainings, on samples like these.

    Parameters
    ----------
    auc, se
        (N,) AUCs and their standard errors, as `auc` and `auc_se` of `separation`; NaN where there is none.
    confidence
        Level of the intervals.

    Raises
    ------
    InputError
        For columns of different length, an AUC outside [0, 1], a standard error of 0 or less, or a confidence outside
        (0, 1).

    References
    ----------
    R. C. Paule and J. Mandel, "Consensus values and weighting factors", J. Res. NBS 87, 1982; J. Hartung and G. Knapp,
    "A refined method for the meta-analysis of controlled clinical trials with binary outcome", Stat. Med. 20, 2001;
    J. P. T. Higgins, S. G. Thompson and D. J. Spiegelhalter, "A re-evaluation of random-effects meta-analysis", JRSS A
    172, 2009.

    Examples
    --------
    >>> summary = seed_summary([0.90, 0.85, 0.94, 0.88], [0.02, 0.03, 0.02, 0.02])
    >>> round(summary.auc, 3), round(summary.interval.low, 3), round(summary.interval.high, 3)
    (0.892, 0.816, 0.939)
    """
    check_confidence(confidence)
    columns = np.array(auc, dtype=np.float64), np.array(se, dtype=np.float64)
    if columns[0].shape != columns[1].shape or columns[0].ndim != 1:
        raise InputError(
            f"`auc` and `se` must be flat and of one length, got {columns[0].shape} and {columns[1].shape}"
        )
    if (columns[0] < 0).any() or (columns[0] > 1).any():
        raise InputError("`auc` must lie in [0, 1]")
    if (columns[1] <= 0).any():
        raise InputError("`se` must be above 0: leave out, or give NaN, where a standard error is not known")
    usable = (columns[0] > 0) & (columns[0] < 1) & ~np.isnan(columns[1])
    known, errors = columns[0][usable], columns[1][usable]
    n = len(known)
    values, variances = logit(known), (errors / (known * (1 - known))) ** 2
    centre = interval = another = spread = None
    if n:
        between = _between(values, variances)
        weights = 1 / (variances + between)
        middle = float(np.average(values, weights=weights))
        centre = float(expit(middle))
        if n > 1:
            spread = math.sqrt(between)
            scatter = float((weights * (values - middle) ** 2).sum() / (n - 1))
            se_of_middle = math.sqrt(max(1.0, scatter) / float(weights.sum()))
            half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * se_of_middle
            interval = Interval(float(expit(middle - half)), float(expit(middle + half)), confidence)
        if n > 2:
            half = float(stdtrit(n - 2, 0.5 + confidence / 2)) * math.sqrt(between + 1 / float(weights.sum()))
            another = Interval(float(expit(middle - half)), float(expit(middle + half)), confidence)
    return SeedSummary(
        n=n,
        missing=len(usable) - n,
        auc=centre,
        interval=interval,
        another=another,
        spread=spread,
        smallest=float(known.min()) if n else None,
        largest=float(known.max()) if n else None,
        confidence=confidence,
    )


def _between(values: FloatColumn, variances: FloatColumn) -> float:
    """Return Paule and Mandel's variance between trainings: with it the weighted scatter is what chance alone makes."""

    def excess(between: float) -> float:
        weights = 1 / (variances + between)
        centre = np.average(values, weights=weights)
        return float((weights * (values - centre) ** 2).sum()) - (len(values) - 1)

    if len(values) < 2 or excess(0.0) <= 0:
        return 0.0
    high = float(np.ptp(values) ** 2) * len(values)  # there the scatter is below 1
    return float(brentq(excess, 0.0, high))
