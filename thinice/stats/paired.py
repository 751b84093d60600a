"""Dense against pruned on the same samples: accuracy, predictions, and the shift of epsilon where both have one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, logsumexp, ndtri
from scipy.stats import binom, rankdata

from thinice.errors import InputError
from thinice.stats.base import (
    FloatColumn,
    Result,
    check_confidence,
    check_lengths,
    epsilon_column,
    transition_column,
    wilson,
)
from thinice.stats.multiple_testing import holm
from thinice.stats.separation import ranked_sum
from thinice.stats.transitions import class_losses
from thinice.types import Interval, Transition

__all__ = [
    "Agreement",
    "ClassChanges",
    "McNemar",
    "McNemarMethod",
    "PairedShift",
    "agreement",
    "class_changes",
    "mcnemar",
    "paired_shift",
]

McNemarMethod = Literal["exact", "mid-p", "asymptotic"]
METHODS: tuple[McNemarMethod, ...] = get_args(McNemarMethod)
EXACT_PAIRS = 50
"""With at most so many differences, the signed-rank test counts all signs."""


@dataclass(frozen=True, slots=True)
class McNemar(Result):
    """Whether two networks are equally accurate on the same samples."""

    n: int
    lost: int
    """Right under the dense network alone (S1,0)."""
    gained: int
    """Right under the pruned network alone (S0,1)."""
    method: McNemarMethod
    p_value: float
    """Two-sided. 0.0 below 1e-308, where `log10_p` still holds."""
    log10_p: float
    accuracy_drop: float | None
    """Dense minus pruned accuracy, ``(lost - gained) / n``; None without samples."""
    accuracy_drop_interval: Interval | None
    """Agresti and Min's: Wald's, with half a sample more in each of the four transitions."""


@dataclass(frozen=True, slots=True)
class PairedShift(Result):
    """By how much epsilon changes from the dense to the pruned network, sample by sample.

    Positive where samples lie farther from the pruned network's boundary. A number that cannot be had is None.
    """

    n: int
    """Pairs."""
    farther: int
    """Pairs with a larger epsilon under the pruned network, also where only the dense network's was found."""
    nearer: int
    same: int
    """Pairs without a difference: they do not enter the test."""
    not_found: int
    """Pairs where one epsilon was not found: a difference beyond all others, of known sign."""
    not_found_both: int
    """Pairs where neither was found: nothing is known, and they are left out of everything else."""
    w: float
    """Wilcoxon's signed rank sum of the pairs that lie farther."""
    log10_p: float
    """Two-sided: the differences scatter evenly about 0."""
    log10_p_nearer: float
    """One-sided: samples lie nearer to the pruned network's boundary."""
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


@dataclass(frozen=True, slots=True)
class Agreement(Result):
    """How often two networks predict the same class, right or wrong."""

    n: int
    same: int
    share: float | None
    interval: Interval | None
    """Wilson's, of `share`."""
    by_chance: float | None
    """What `share` would be if the networks predicted as often what they do, but independently."""
    kappa: float | None
    """Cohen's: ``(share - by_chance) / (1 - by_chance)``; None where both always predict one and the same class."""
    kappa_interval: Interval | None
    """Fleiss, Cohen and Everitt's, from the large-sample variance."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassChanges(Result):
    """What pruning does to each class, one entry a class."""

    name: npt.NDArray[np.str_]
    n: npt.NDArray[np.int64]
    kept: npt.NDArray[np.int64]
    lost: npt.NDArray[np.int64]
    gained: npt.NDArray[np.int64]
    wrong: npt.NDArray[np.int64]
    dense_accuracy: FloatColumn
    """NaN for a class without samples."""
    pruned_accuracy: FloatColumn
    accuracy_drop: FloatColumn
    log10_p: FloatColumn
    """Exact McNemar test of the class."""
    log10_p_holm: FloatColumn
    """The same, for all classes together."""


def mcnemar(transition: npt.ArrayLike, *, method: McNemarMethod = "exact", confidence: float = 0.95) -> McNemar:
    """Return whether two networks are equally accurate on the same samples, from the samples that they tell apart.

    *Exact*: the binomial tail; never too small, often too large. *Mid-p*: the same with half the weight of what was
    seen, closer to the level it claims. *Asymptotic*: ``(lost - gained)^2 / (lost + gained)`` as chi-squared with one
    degree of freedom, without continuity correction.

    Parameters
    ----------
    transition
        (N,) as of `transitions`.
    method
        ``"exact"``, ``"mid-p"`` or ``"asymptotic"``.
    confidence
        Level of the interval of the accuracy drop.

    Raises
    ------
    InputError
        For an unknown method or transition, or a confidence outside (0, 1).

    References
    ----------
    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947; M. W. Fagerland, S. Lydersen and P. Laake, "The McNemar test for binary matched-pairs data:
    mid-p and asymptotic are better than exact conditional", BMC Medical Research Methodology 13, 2013; A. Agresti and
    Y. Min, "Simple improved confidence intervals for comparing matched proportions", Statistics in Medicine 24, 2005.

    Examples
    --------
    >>> test = mcnemar(["S1,0"] * 7 + ["S0,1"] + ["S1,1"] * 12)
    >>> test.accuracy_drop, round(test.p_value, 4)
    (0.3, 0.0703)
    """
    check_confidence(confidence)
    if method not in METHODS:
        raise InputError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}")
    column = transition_column(transition)
    n, lost, gained = len(column), int((column == Transition.LOST).sum()), int((column == Transition.GAINED).sum())
    log_p = _log_mcnemar(lost, gained, method)
    interval = None
    if n:
        # half a sample in each transition makes two more samples
        drop, told, total = (lost - gained) / (n + 2), (lost + gained + 1) / (n + 2), n + 2
        half = float(ndtri(0.5 + confidence / 2)) * math.sqrt((told - drop**2) / total)
        interval = Interval(max(-1.0, drop - half), min(1.0, drop + half), confidence)
    return McNemar(
        n=n,
        lost=lost,
        gained=gained,
        method=method,
        p_value=math.exp(log_p),
        log10_p=log_p / math.log(10),
        accuracy_drop=(lost - gained) / n if n else None,
        accuracy_drop_interval=interval,
    )


def paired_shift(dense: npt.ArrayLike, pruned: npt.ArrayLike, *, confidence: float = 0.95) -> PairedShift:
    """Return the shift of epsilon from the dense to the pruned network, with Wilcoxon's signed-rank test.

    Give the samples that the question is about: with those that one of the networks has wrong, whose epsilon is 0, the
    shift also counts what accuracy counts already.

    A sample that was found under one network alone has a difference beyond all others, of known sign; one that was
    found under neither is left out and counted. Equal epsilons are left out of the test, as Wilcoxon did, but not of
    the estimate. With at most 50 differences the test is exact, ties as they are; with more it is the normal
    approximation with tie and continuity correction.

    Parameters
    ----------
    dense, pruned
        Epsilons (N,) of the same samples in the same order; NaN where not found.
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
    before, after = epsilon_column(dense, "dense"), epsilon_column(pruned, "pruned")
    check_lengths(dense=before, pruned=after)
    both = np.isinf(before) & np.isinf(after)
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
        log10_p_nearer=nearer / math.log(10),
        exact=exact,
        median=float(middle.mean()) if np.isfinite(middle).all() else None,
        shift=shift,
        interval=interval,
    )


def agreement(
    dense_predictions: npt.ArrayLike, pruned_predictions: npt.ArrayLike, *, confidence: float = 0.95
) -> Agreement:
    """Return how often two networks predict the same class, with Cohen's kappa.

    Parameters
    ----------
    dense_predictions, pruned_predictions
        Classes (N,); -1, for logits that are not numbers, is a class of its own.
    confidence
        Level of the intervals.

    Raises
    ------
    InputError
        For columns of different length, classes that are not integers, or a confidence outside (0, 1).

    References
    ----------
    J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20, 1960;
    J. L. Fleiss, J. Cohen and B. S. Everitt, "Large sample standard errors of kappa and weighted kappa", Psychological
    Bulletin 72, 1969.

    Examples
    --------
    >>> result = agreement([0, 0, 1, 1], [0, 0, 1, 0])
    >>> result.share, result.by_chance, result.kappa
    (0.75, 0.5, 0.5)
    """
    check_confidence(confidence)
    dense, pruned = np.asarray(dense_predictions), np.asarray(pruned_predictions)
    check_lengths(dense_predictions=dense, pruned_predictions=pruned)
    for name, column in (("dense_predictions", dense), ("pruned_predictions", pruned)):
        if column.ndim != 1 or (column.size and not np.issubdtype(column.dtype, np.integer)):
            raise InputError(f"`{name}` must be classes (N,), got {column.dtype} of shape {column.shape}")
    n, same = len(dense), int((dense == pruned).sum())
    if n == 0:
        return Agreement(n=0, same=0, share=None, interval=None, by_chance=None, kappa=None, kappa_interval=None)
    classes, code = np.unique(np.concatenate([dense, pruned]), return_inverse=True)
    table = np.zeros((len(classes), len(classes)))
    np.add.at(table, (code.ravel()[:n], code.ravel()[n:]), 1 / n)
    share, by_chance = same / n, float(table.sum(axis=1) @ table.sum(axis=0))
    kappa, bounds = None, None
    if len(classes) > 1:
        kappa = (share - by_chance) / (1 - by_chance)
        half = float(ndtri(0.5 + confidence / 2)) * math.sqrt(_kappa_variance(table, share, by_chance) / n)
        bounds = Interval(max(-1.0, kappa - half), min(1.0, kappa + half), confidence)
    return Agreement(
        n=n,
        same=same,
        share=share,
        interval=wilson(same, n, confidence),
        by_chance=by_chance,
        kappa=kappa,
        kappa_interval=bounds,
    )


def class_changes(
    labels: npt.ArrayLike, transition: npt.ArrayLike, *, classes: Sequence[str] | None = None
) -> ClassChanges:
    """Return what pruning does to each class: transitions, accuracies, and McNemar tests for all classes together.

    Parameters
    ----------
    labels
        True classes (N,), integers from 0.
    transition
        (N,) as of `transitions`.
    classes
        Names of the classes; without them the classes present are named by their numbers.

    Raises
    ------
    InputError
        For columns of different length, a label that is no class, an unknown transition.

    Examples
    --------
    >>> table = class_changes([0, 0, 1], ["S1,1", "S1,0", "S0,1"], classes=["cat", "dog"])
    >>> table.lost.tolist(), table.accuracy_drop.tolist()
    ([1, 0], [0.5, -1.0])
    """
    label, change = np.asarray(labels), transition_column(transition)
    table = class_losses(label, change, classes=classes)  # checks both
    code = np.unique(label, return_inverse=True)[1].ravel() if classes is None else label.astype(np.int64)
    kept, lost, gained, wrong = (np.bincount(code[change == which], minlength=len(table.name)) for which in Transition)
    n = table.n
    dense, pruned = (
        np.divide(right, n, out=np.full(len(n), np.nan), where=n > 0) for right in (kept + lost, kept + gained)
    )
    log10_p = np.array([_log_mcnemar(*pair, "exact") for pair in zip(lost.tolist(), gained.tolist(), strict=True)])
    log10_p = np.where(n > 0, log10_p / math.log(10), np.nan) if len(n) else np.empty(0)
    return ClassChanges(
        name=table.name,
        n=n,
        kept=kept,
        lost=lost,
        gained=gained,
        wrong=wrong,
        dense_accuracy=dense,
        pruned_accuracy=pruned,
        accuracy_drop=dense - pruned,
        log10_p=log10_p,
        log10_p_holm=holm(log10_p),
    )


def _log_mcnemar(lost: int, gained: int, method: McNemarMethod) -> float:
    fewer, told = min(lost, gained), lost + gained
    if told == 0:
        return 0.0
    if method == "asymptotic":
        return min(0.0, math.log(2) + float(log_ndtr(-abs(lost - gained) / math.sqrt(told))))
    terms = binom.logpmf(np.arange(fewer + 1), told, 0.5)
    if method == "mid-p":
        terms[-1] -= math.log(2)
        if 2 * fewer == told:  # the middle belongs to both tails, and is what was seen: half of it goes
            return math.log1p(-math.exp(terms[-1]))
    return min(0.0, math.log(2) + float(logsumexp(terms)))


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


def _kappa_variance(table: npt.NDArray[np.float64], share: float, by_chance: float) -> float:
    """Return the variance of kappa for one sample, from the shares of each pair of predictions (K, K)."""
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    diagonal = np.diag(table)
    rest = (1 - share) / (1 - by_chance)  # 1 - kappa
    same = (diagonal * (1 - (rows + columns) * rest) ** 2).sum()
    squares = (columns[:, None] + rows[None, :]) ** 2
    different = rest**2 * ((table * squares).sum() - (diagonal * np.diag(squares)).sum())
    mean = 1 - rest - by_chance * rest
    return float(max(0.0, same + different - mean**2) / (1 - by_chance) ** 2)
