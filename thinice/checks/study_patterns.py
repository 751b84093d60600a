"""Patterns that studies of pruned networks show when their robustness numbers are wrong.

Each of them has a harmless explanation too; none should be published without one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri
from scipy.stats import chi2

from thinice.checks import CHECKS
from thinice.errors import InputError
from thinice.results import Finding
from thinice.stats import wilson
from thinice.stats.auc_interval import auc_bounds
from thinice.stats.risk import falling_fit
from thinice.store import query

if TYPE_CHECKING:
    from thinice.store import Store

__all__ = ["StudyRow", "find_patterns", "stored_patterns"]

DOUBT = 0.001
"""Jumps that sampling alone makes less often than this are a finding."""


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One network of a study.

    Attributes
    ----------
    network, series : str
        Its name, and what it is to be compared within: a pruning method, a training.
    sparsity : float
        Fraction of its prunable weights that are zero.
    samples : int
        How many it was evaluated on.
    clean, robust : float
        Shares of them that it has right, and right at the budget.
    reported : float, optional
        The robust accuracy that was published for it.
    reported_samples : int, optional
        How many samples that one is of; by default as many as `samples`.
    auc_low : float, optional
        The lower end of the interval of its AUC of lost against kept samples.

    """

    network: str
    sparsity: float
    samples: int
    clean: float
    robust: float
    series: str = ""
    reported: float | None = None
    reported_samples: int | None = None
    auc_low: float | None = None


def find_patterns(rows: Iterable[StudyRow], *, confidence: float = 0.99) -> tuple[Finding, ...]:
    """Return the patterns of a study, in the order of `CHECKS`; a finding is about the networks that show it.

    ``below_reported``, ``above_reported``: the reported and the measured robust accuracy differ by more than the
    sampling errors of both (Newcombe's hybrid score interval of a difference). ``trends_disagree``: between neighbours
    in sparsity, clean and robust accuracy change in opposite directions, each by more than its sampling error.
    ``jumps_over_sparsity``: the robust accuracies at three or more sparsities are farther from the nearest falling
    curve (weighted isotonic regression) than chi-squared allows at 0.001; a cliff is a falling curve.
    ``no_separation``: the interval of the AUC reaches 0.5.

    The networks of a study are mostly evaluated on the same samples. The tests take them for independent, which errs
    on the side of silence.

    Parameters
    ----------
    rows : iterable of StudyRow
        In any order; each series is sorted by sparsity.
    confidence : float
        Of the intervals and differences.

    Raises
    ------
    InputError
        For shares outside [0, 1] and rows without samples.

    Examples
    --------
    >>> rows = [StudyRow("dense", 0.0, 1000, 0.83, 0.51), StudyRow("pruned", 0.9, 1000, 0.80, 0.38, reported=0.49)]
    >>> for finding in find_patterns(rows):
    ...     print(finding.check, finding.subjects, finding.seen)
    below_reported ('pruned',) 49.0% reported, 38.0% measured (at most 43.7%, 1000 samples)

    References
    ----------
    R. G. Newcombe, "Interval estimation for the difference between independent proportions", Stat. Med. 17, 1998.

    """
    checked = [_checked(row) for row in rows]
    findings = [finding for row in checked for finding in _of_one(row, confidence)]
    by_series = sorted(checked, key=lambda row: (row.series, row.sparsity, -row.robust))
    for _, series in groupby(by_series, lambda row: row.series):
        findings += _of_series(list(series), confidence)
    return tuple(sorted(findings, key=lambda finding: CHECKS.names().index(finding.check)))


def _pattern(check: str, networks: Iterable[str], seen: str) -> Finding:
    return Finding(check, tuple(networks), (), seen, CHECKS.get(check).advice)


def _of_one(row: StudyRow, confidence: float) -> Iterator[Finding]:
    if row.reported is not None:
        low, high = _reported_bounds(row, row.reported, confidence)
        if not low <= row.reported <= high:
            below = row.reported > high
            limit = f"at most {high:.1%}" if below else f"at least {low:.1%}"
            seen = f"{row.reported:.1%} reported, {row.robust:.1%} measured ({limit}, {row.samples} samples)"
            yield _pattern("below_reported" if below else "above_reported", [row.network], seen)
    if row.auc_low is not None and row.auc_low <= 0.5:
        yield _pattern("no_separation", [row.network], f"the AUC may be as low as {row.auc_low:.3f}")


def _reported_bounds(row: StudyRow, reported: float, confidence: float) -> tuple[float, float]:
    """Return between what the reported robust accuracy may lie by the sampling errors of both: Newcombe's method 10."""
    measured = wilson(round(row.robust * row.samples), row.samples, confidence)
    n = row.reported_samples or row.samples
    published = wilson(round(reported * n), n, confidence)
    below = np.hypot(row.robust - measured.low, published.high - reported)
    above = np.hypot(measured.high - row.robust, reported - published.low)
    return row.robust - float(below), row.robust + float(above)


def _of_series(rows: Sequence[StudyRow], confidence: float) -> Iterator[Finding]:
    for row, sparser in pairwise(rows):
        if row.sparsity == sparser.sparsity:
            continue  # pruning does not tell them apart: another training, another seed
        clean, robust = sparser.clean - row.clean, sparser.robust - row.robust
        if (
            clean * robust < 0
            and abs(clean) > _error(row.clean, sparser.clean, row, sparser, confidence)
            and abs(robust) > _error(row.robust, sparser.robust, row, sparser, confidence)
        ):
            sparsities = f"from sparsity {row.sparsity:.3g} to {sparser.sparsity:.3g}"
            seen = f"{sparsities} clean {clean:+.1%}, robust {robust:+.1%}"
            yield _pattern("trends_disagree", [row.network, sparser.network], seen)
    if len({row.sparsity for row in rows}) < 3:
        return
    shares, samples = np.array([row.robust for row in rows]), np.array([row.samples for row in rows], dtype=np.float64)
    fitted = falling_fit(shares, samples)
    spread = np.clip(fitted, 0.5 / samples, 1 - 0.5 / samples)
    distance = float((samples * (shares - fitted) ** 2 / (spread * (1 - spread))).sum())
    if chi2.sf(distance, len(rows) - 1) < DOUBT:
        worst = int(np.abs(shares - fitted).argmax())
        seen = (
            f"robust accuracy goes {', '.join(f'{share:.1%}' for share in shares)} as sparsity rises; "
            f"{rows[worst].network} is {abs(shares[worst] - fitted[worst]):.1%} off any falling curve"
        )
        yield _pattern("jumps_over_sparsity", [row.network for row in rows], seen)


def _error(share: float, other: float, row: StudyRow, next_row: StudyRow, confidence: float) -> float:
    """Return by how much two shares may differ by sampling alone."""
    variance = share * (1 - share) / row.samples + other * (1 - other) / next_row.samples
    return float(ndtri(0.5 + confidence / 2) * np.sqrt(variance))


def _checked(row: StudyRow) -> StudyRow:
    for name, share in (("clean", row.clean), ("robust", row.robust), ("reported", row.reported)):
        if share is not None and not 0 <= share <= 1:
            raise InputError(f"`{name}` of {row.network!r} must be a share in [0, 1], got {share!r}: 45 % is 0.45")
    for name, samples in (("samples", row.samples), ("reported_samples", row.reported_samples)):
        if samples is not None and samples < 1:
            raise InputError(f"`{name}` of {row.network!r} must be at least 1, got {samples!r}")
    return row


def stored_patterns(store: Store, *, confidence: float = 0.99) -> tuple[Finding, ...]:
    """Return the patterns that all evaluations and comparisons in a store show.

    The evaluations of a series have architecture, data, attack and budget in common.

    >>> import tempfile, thinice
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stored_patterns(thinice.open_store(f"{folder}/new.duckdb", new=True))
    ()
    """
    rows = [
        StudyRow(**{str(name): value for name, value in row.items()})
        for row in store.sql(query("study_series")).to_dict("records")
    ]
    unseparated = []
    for row in store.sql(query("separations")).to_dict("records"):
        sizes = int(row["n_kept"]), int(row["n_lost"])
        auc, se, df = (np.array([row[name]], dtype=np.float64) for name in ("auc", "auc_se", "auc_df"))
        low = float(auc_bounds(auc, se, df, sizes, confidence)[0][0])
        if np.isnan(se[0]) and 0 < auc[0] < 1:  # stored before the standard error was: at the level of that time
            low = float("nan" if row["auc_low"] is None else row["auc_low"])
        if low <= 0.5:
            seen = (
                f"AUC {row['auc']:.3f} against {row['dense']} on {row['data']} ({row['norm']}, {row['basis']}), and it "
                f"may be as low as {low:.3f}"
            )
            unseparated.append(_pattern("no_separation", [row["pruned"]], seen))
    return (*find_patterns(rows, confidence=confidence), *unseparated)
