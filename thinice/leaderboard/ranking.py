"""Where networks stand among others by robust accuracy: ranks with what the numbers of samples leave open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import fisher_exact

from thinice.leaderboard.published import PUBLISHED_SAMPLES
from thinice.stats import holm, transition_counts, wilson
from thinice.types import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CAVEAT", "RankedRow", "RobustCount", "rank"]

LEVEL = 0.05
"""The chance of any false order among all pairs that are said to be told apart."""
CAVEAT = (
    "Published rows are of other networks, attacked at 0.031 on 10 000 test images by other code; measured rows are of "
    "the samples and attacks of this run."
)


@dataclass(frozen=True, slots=True, eq=False)
class RobustCount:
    """How many samples of a network are robust.

    Attributes
    ----------
    name : str
        What tables call it.
    robust, n : int
        Samples that are robust, of so many.
    source : str
        Who measured it.
    verdicts : mapping of int to bool, optional
        By sample id; networks with verdicts on common samples are compared sample by sample.

    """

    name: str
    robust: int
    n: int
    source: str
    verdicts: dict[int, bool] | None = None

    @property
    def share(self) -> float:
        """The robust accuracy."""
        return self.robust / self.n


@dataclass(frozen=True, slots=True, eq=False)
class RankedRow:
    """A network in a ranking.

    Attributes
    ----------
    count : RobustCount
        What is ranked.
    best, worst : int
        Ranks that it can have, from 1: equal where every other network is told from it.
    undecided : tuple of str
        Networks that it is not told from.
    told_with_all : int
        How many of these the whole test set would tell from it, if the accuracies stay as they are.

    """

    count: RobustCount
    best: int
    worst: int
    undecided: tuple[str, ...]
    told_with_all: int

    @property
    def interval(self) -> Interval:
        """Wilson's interval of the robust accuracy."""
        return wilson(self.count.robust, self.count.n)

    def rank_text(self, of: int) -> str:
        """Return the ranks as people read them: ``3 of 11``, ``2 to 9 of 11``."""
        return f"{self.best} of {of}" if self.best == self.worst else f"{self.best} to {self.worst} of {of}"

    def note(self, of: int) -> str | None:
        """Return what the samples leave open, in a sentence; None where nothing is left open."""
        if not self.undecided:
            return None
        told = (
            f"all {PUBLISHED_SAMPLES:,} test images would tell it from {self.told_with_all} of them"
            if self.count.n < PUBLISHED_SAMPLES
            else "no more test images are to be had"
        ).replace(",", " ", 1)
        return (
            f"{self.count.name} ranks {self.rank_text(of)}: {self.count.n} samples are too few to tell it from "
            f"{len(self.undecided)} ({', '.join(self.undecided)}); {told}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the row in plain numbers and text."""
        return {
            "name": self.count.name,
            "robust_accuracy": self.count.share,
            "low": self.interval.low,
            "high": self.interval.high,
            "samples": self.count.n,
            "best_rank": self.best,
            "worst_rank": self.worst,
            "undecided": list(self.undecided),
            "source": self.source,
        }

    @property
    def source(self) -> str:
        """Who measured it."""
        return self.count.source


def rank(counts: Sequence[RobustCount]) -> tuple[RankedRow, ...]:
    """Return networks by robust accuracy, the highest first, with the ranks that each can have.

    Two networks are told apart where a test says so at 5 % after Holm's correction for all pairs: McNemar's exact test
    where both have verdicts on the same samples, else Fisher's exact test. The best rank of a network is 1 plus the
    number of those that are shown to be more robust, the worst the number of all minus those shown to be less so.

    Examples
    --------
    >>> counts = [RobustCount("a", 4500, 10_000, "paper"), RobustCount("b", 4000, 10_000, "paper")]
    >>> rows = rank([*counts, RobustCount("mine", 43, 100, "measured")])
    >>> [(row.count.name, row.rank_text(3)) for row in rows]
    [('a', '1 to 2 of 3'), ('mine', '1 to 3 of 3'), ('b', '2 to 3 of 3')]
    """
    ordered = sorted(counts, key=lambda count: -count.share)
    pairs = [(a, b) for a in range(len(ordered)) for b in range(a + 1, len(ordered))]
    adjusted = holm([_log10_p(ordered[a], ordered[b]) for a, b in pairs])
    told = np.zeros((len(ordered), len(ordered)), np.bool_)
    for (a, b), log10_p in zip(pairs, adjusted.tolist(), strict=True):
        told[a, b] = told[b, a] = log10_p <= math.log10(LEVEL)
    return tuple(_row(position, ordered, told, len(pairs)) for position in range(len(ordered)))


def _row(position: int, ordered: Sequence[RobustCount], told: NDArray[np.bool_], pairs: int) -> RankedRow:
    count = ordered[position]
    undecided = [other for k, other in enumerate(ordered) if k != position and not told[position, k]]
    whole = RobustCount(count.name, round(count.share * PUBLISHED_SAMPLES), PUBLISHED_SAMPLES, count.source)
    enough = math.log10(LEVEL / max(pairs, 1))
    return RankedRow(
        count=count,
        best=1 + int(told[position, :position].sum()),
        worst=len(ordered) - int(told[position, position + 1 :].sum()),
        undecided=tuple(other.name for other in undecided),
        told_with_all=sum(_log10_p(whole, other) <= enough for other in undecided),
    )


def _log10_p(first: RobustCount, second: RobustCount) -> float:
    """Return log10 of the two-sided p-value of equal robust accuracies."""
    if first.verdicts is not None and second.verdicts is not None:
        common = first.verdicts.keys() & second.verdicts.keys()
        if common:
            flags = [np.array([count.verdicts[k] for k in common]) for count in (first, second) if count.verdicts]
            return transition_counts(*flags).log10_p
    table = [[count.robust, count.n - count.robust] for count in (first, second)]
    p_value = float(fisher_exact(table).pvalue)
    return min(0.0, math.log10(p_value)) if p_value > 0 else -math.inf
