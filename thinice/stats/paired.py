"""The shift of epsilon from the dense to the pruned network, sample by sample, with Wilcoxon's signed-rank test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtri
from scipy.stats import rankdata

from thinice.errors import InputError
from thinice.stats.base import (
    FloatColumn,
    Result,
    check_confidence,
    check_lengths,
    epsilon_column,
)
from thinice.stats.rank_tests import ranked_sum
from thinice.types import Interval

__all__ = [
    "PairedShift",
    "paired_equivalence_log10_p",
    "paired_shift",
]

EXACT_PAIRS = 50
"""With at most so many differences, the signed-rank test counts all signs."""


@dataclass(frozen=True, slots=True)
class PairedShift(Result):
    """By how much epsilon changes from the dense to the pruned network, sample by sample.

    Positive where samples lie farther from the pruned network's boundary. A number that cannot be had is None.
    """

    n: int
    """Pairs."""
    farther: int
    """Pairs with a larger distance under the pruned network, also where only the dense network's was found."""
    nearer: int
    same: int
    """Pairs without a difference: they do not enter the test."""
    not_found: int
    """Pairs where a distance is not known: a difference beyond all others, of known sign."""
    not_found_both: int
    """Pairs where neither is, on the same side: nothing is known, and they are left out of everything else."""
    w: float
    """Wilcoxon's signed rank sum of the pairs that lie farther."""
    log10_p: float
    """Two-sided: the differences scatter evenly about 0."""
    log10_p_nearer: float
    """One-sided: samples lie nearer to the pruned network's boundary."""
    log10_p_farther: float
    """One-sided: they lie farther from it."""
    exact: bool
    """Whether the p-values count all signs, instead of following the normal approximation."""
    median: float | None
    """The median difference; None where it falls on one beyond all others."""
    shift: float | None
    """Hodges-Lehmann: the median of the means of all pairs of differences."""
    interval: Interval | None
    """All shifts that the test does not refuse; an infinite end is not known."""

    derived: ClassVar[tuple[str, ...]] = ("p_value",)

    @property
    def p_value(self) -> float:
        """The two-sided p-value; 0.0 below 1e-308, where `log10_p` still holds."""
        return math.pow(10, self.log10_p)


def paired_shift(dense: npt.ArrayLike, pruned: npt.ArrayLike, *, confidence: float = 0.95) -> PairedShift:
    """Return the shift of epsilon from the dense to the pruned network, with Wilcoxon's signed-rank test.

    Give the samples that the question is about, with signed distances: a sample that the pruned network has wrong lies
    behind its boundary, at minus the distance to the nearest input that it has right. Without the lost samples, the
    boundary seems to move away: they are those that it passed over.

    A sample that was found under one network alone has a difference beyond all others, of known sign; one that was
    found under neither is left out and counted. Equal epsilons are left out of the test, as Wilcoxon did, but not of
    the estimate. With at most 50 differences the test is exact, ties as they are; with more it is the normal
    approximation with tie and continuity correction.

    Parameters
    ----------
    dense, pruned
        Distances (N,) of the same samples in the same order; NaN where not found, -inf where a sample lies behind the
        boundary, and nobody knows how far.
    confidence
        Level of the interval.

    Raises
    ------
    InputError
        For columns of different length or without numbers, or a confidence outside (0, 1).

    References
    ----------
    F. Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1, 1945; M. Hollander and D. A. Wolfe,
    *Nonparametric statistical methods*, 2nd edition 1999, sections 3.1 to 3.3.

    Examples
    --------
    >>> result = paired_shift([1.0, 2.0, 3.0, 4.0], [0.5, 1.5, 2.0, 4.5])
    >>> result.shift, result.w, result.nearer, round(result.p_value, 3)
    (-0.5, 2.0, 3, 0.5)
    """
    check_confidence(confidence)
    before, after = (epsilon_column(dense, "dense", signed=True), epsilon_column(pruned, "pruned", signed=True))
    check_lengths(dense=before, pruned=after)
    both = np.isinf(before) & (before == after)
    differences = np.sort(after[~both] - before[~both])
    ranked = differences[differences != 0]
    ranks = rankdata(np.abs(ranked))
    w = float(ranks[ranked > 0].sum())
    exact = len(ranked) <= EXACT_PAIRS
    nearer, farther = (_exact_tails if exact else _normal_tails)(ranks, w)
    shift, interval = _walsh(differences, confidence)
    middle = differences[[(len(differences) - 1) // 2, len(differences) // 2]] if len(differences) else np.array(np.inf)
    return PairedShift(
        n=len(before),
        farther=int((differences > 0).sum()),
        nearer=int((differences < 0).sum()),
        same=int((differences == 0).sum()),
        not_found=int(np.isinf(differences).sum()),
        not_found_both=int(both.sum()),
        w=w,
        log10_p=min(0.0, math.log(2) + min(nearer, farther)) / math.log(10),
        log10_p_nearer=nearer / math.log(10) + 0.0,
        log10_p_farther=farther / math.log(10) + 0.0,
        exact=exact,
        median=float(middle.mean()) if np.isfinite(middle).all() else None,
        shift=shift,
        interval=interval,
    )


def paired_equivalence_log10_p(dense: npt.ArrayLike, pruned: npt.ArrayLike, margin: float) -> float | None:
    """Return log10 p of "the boundary moved by the margin or more": small where it is shown to have moved less.

    Two one-sided signed-rank tests of the shift of epsilon, sample by sample, moved by the margin either way; None
    where there are no pairs. That `paired_shift` finds no shift shows nothing.

    Parameters
    ----------
    dense, pruned
        As of `paired_shift`.
    margin
        In the unit of the epsilons, above 0.

    Raises
    ------
    InputError
        For a margin that is not above 0, and as of `paired_shift`.

    References
    ----------
    S. Wellek, *Testing statistical hypotheses of equivalence and noninferiority*, 2nd edition 2010, section 5.4.

    Examples
    --------
    >>> dense = np.arange(1.0, 21.0)
    >>> moved = dense + np.linspace(-0.2, 0.2, 20)
    >>> [round(paired_equivalence_log10_p(dense, moved, margin), 2) for margin in (1.0, 0.01)]
    [-6.02, -0.36]
    """
    if not 0 < margin < math.inf:
        raise InputError(f"`margin` must be above 0, got {margin}: a distance that is too small to matter")
    before, after = epsilon_column(dense, "dense"), epsilon_column(pruned, "pruned", signed=True)
    nearer, farther = paired_shift(before + margin, after), paired_shift(before - margin, after)
    if nearer.n == nearer.not_found_both:
        return None
    return max(nearer.log10_p_nearer, farther.log10_p_farther)


def _exact_tails(ranks: FloatColumn, w: float) -> tuple[float, float]:
    """Return the logarithms of the chances of at most, and of at least, this rank sum, over all signs."""
    doubled = np.round(2 * ranks).astype(np.int64)
    ways = np.zeros(int(doubled.sum()) + 1)
    ways[0] = 1
    for rank in doubled.tolist():
        ways[rank:] = ways[rank:] + ways[: len(ways) - rank]
    seen = round(2 * w)
    everything = len(ranks) * math.log(2)
    return (
        min(0.0, math.log(ways[: seen + 1].sum()) - everything),
        min(0.0, math.log(ways[seen:].sum()) - everything),
    )


def _normal_tails(ranks: FloatColumn, w: float) -> tuple[float, float]:
    sigma = math.sqrt((ranks**2).sum() / 4)
    mean = ranks.sum() / 2
    return float(log_ndtr((w - mean + 0.5) / sigma)), float(log_ndtr((mean - w + 0.5) / sigma))


def _walsh(differences: FloatColumn, confidence: float) -> tuple[float | None, Interval | None]:
    """Return the median of the means of all pairs of the sorted differences, each with itself too, and its interval."""
    n = len(differences)
    if n == 0:
        return None, None
    below, above = int(np.isneginf(differences).sum()), int(np.isposinf(differences).sum())
    found = differences[below : n - above]
    total, mixed = n * (n + 1) // 2, below * above
    # means of -inf and +inf are not known: they are left out of the median, and of both sides of the interval
    low_side = below * (below + 1) // 2 + below * len(found)
    finite = len(found) * (len(found) + 1) // 2

    def ranked(rank: int) -> float:
        if not 0 <= rank - low_side < finite:
            return math.copysign(math.inf, rank - low_side)
        return ranked_sum(found, rank - low_side) / 2

    known = total - mixed
    middle = [ranked(rank) for rank in {(known - 1) // 2, known // 2}] if known else [math.inf]
    shift = None if np.isinf(middle).any() else float(np.mean(middle))
    sizes = rankdata(np.abs(differences))
    sigma = math.sqrt((sizes**2).sum() / 4)
    skipped = math.floor(total / 2 - float(ndtri(0.5 + confidence / 2)) * sigma - mixed / 2)
    if skipped < 1:
        return shift, Interval(-math.inf, math.inf, confidence)
    return shift, Interval(ranked(skipped - 1), ranked(known - skipped), confidence)
