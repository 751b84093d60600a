"""What people read of a comparison, on the command line, in notebooks and in reports: a sentence and a table.

Both are made of one flat row: that of `thinice.results.Comparison.to_dict`, or one with the same names that a report
reads from a store. Of an unfinished comparison the row has fewer names.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.attacks.fixed_budget import budget_text
from thinice.results.control_text import control_sentence
from thinice.stats import STATISTICS, PruningComparison, SeedSummary, Statistic, Unit, holm
from thinice.stats.predictors import EQUIVALENT_AUC
from thinice.stats.separation import WIDTH
from thinice.types import Transition

if TYPE_CHECKING:
    from thinice.types import Norm

__all__ = ["answer", "between", "distance_text", "notebook_html", "over_trainings", "sparsity_text", "table"]

Row = Mapping[str, Any]

FORMS: dict[Unit, str] = {"probability": ".3f", "count": "d", "log10": ".1f", "flag": "", "none": ".3g"}
"""How the table shows numbers; epsilons have their norm's unit."""

SIGNIFICANT, SMALLEST_P = math.log10(0.05), 1e-4
"""Of p-values that rest on approximations no more is said than that they are below the latter: their exponent says
more of the approximation than of the samples."""


def answer(row: Row) -> str:
    """Return the question's answer in some sentences, or what is missing to give one.

    The AUC with its interval comes first; then how many samples are lost, the tests of it, how much of thin ice is
    lost, whether the margin alone does as well, and what speaks against reading more out of it.

    Parameters
    ----------
    row : mapping
        ``dense``, ``pruned``, ``norm``, ``samples``, ``basis`` and ``budget`` of a robust basis, the counts by
        transition, ``not_found``, and the statistics of `thinice.stats.registry`, or some of them; without ``auc`` the
        run ended before.

    Examples
    --------
    >>> counts = {"S1,1": 90, "S1,0": 4, "S0,1": 1, "S0,0": 5}
    >>> answer({"dense": "a", "pruned": "b", "norm": "l2", "samples": 100, **counts, "auc": None})
    'b loses 4 of the 94 samples that a has right.'
    >>> row = {"dense": "a", "pruned": "b", "norm": "l2", "samples": 100, **counts, "auc": 0.9, "log10_p": -2.5}
    >>> answer(row).split(". ")[0]
    'b: AUC 0.900'

    """
    norm, budget = row["norm"], row.get("budget")
    lost, right = row[Transition.LOST], row[Transition.LOST] + row[Transition.KEPT]
    known = sum(row[transition] for transition in Transition)
    has_right = "has right" if budget is None else f"holds at {norm} {budget_text(budget, norm)}"
    loses = f"loses {lost} of the {right} samples that {row['dense']} {has_right}"
    if known < row["samples"]:
        loses += f", of {known} of {row['samples']} samples that were measured so far"
    if "auc" not in row:
        return f"{row['pruned']} {loses}. The run ended before its statistics."
    if row["auc"] is None:
        return f"{row['pruned']} {loses}."
    low, high, confidence = (row.get(name) for name in ("auc_low", "auc_high", "confidence"))
    interval = ""
    if low is not None and high is not None and confidence is not None:
        over = "over samples, for these two networks"
        interval = f" ({100 * confidence:g} % interval {low:.3f} to {high:.3f}, {over})"
    tests = _tests(row)
    sentences = [
        f"{row['pruned']}: AUC {row['auc']:.3f}{interval}",
        f"It {loses}; for a lost sample a nearer adversarial was found than for a kept one with that probability"
        + (f" ({tests})" if tests else ""),
        _too_few(row),
        _closest(row),
        _margin(row),
        _not_found(row),
        _robust(row),
        control_sentence(row).removesuffix("."),
    ]
    return ". ".join(sentence for sentence in sentences if sentence) + "."


def _tests(row: Row) -> str:
    """Return the p-values of the AUC: Brunner and Munzel's first, for it is the one that tests the AUC."""
    tests = []
    if (log10_p := row.get("brunner_munzel_log10_p")) is not None:
        tests.append(f"{_p(log10_p)} by Brunner-Munzel")
    if (log10_p := row.get("log10_p")) is not None:
        how = "exact" if row.get("exact") else "approximate"
        tests.append(f"log10 p = {log10_p:z.1f} by Mann-Whitney, {how}")
    return "; ".join(tests)


def _p(log10_p: float) -> str:
    """Return a p-value of an approximation as people read it.

    >>> _p(-1.8), _p(-25.6)
    ('p = 0.016', 'p < 0.0001')
    """
    return f"p < {SMALLEST_P:g}" if log10_p < math.log10(SMALLEST_P) else f"p = {10**log10_p:.2g}"


def _too_few(row: Row) -> str:
    """Return how many lost samples an interval that says something takes, where this one is twice as wide."""
    low, high, needed = row.get("auc_low"), row.get("auc_high"), row.get("lost_needed")
    if low is None or high is None or needed is None or high - low <= 2 * WIDTH or needed <= row[Transition.LOST]:
        return ""
    return f"An interval of width {WIDTH:g} takes about {needed} lost samples"


def _short_p(log10_p: float | None) -> str:
    """Return a p-value of an approximation for a table, where its line says that it is one."""
    return "—" if log10_p is None else _p(log10_p).removeprefix("p ").removeprefix("= ")


def _closest(row: Row) -> str:
    """Return how much of thin ice is lost: an AUC is no risk."""
    closest, lost = row.get("closest"), row.get("closest_lost")
    if closest is None or lost is None:
        return ""
    return (
        f"The closest 10 % hold {lost} of the {row[Transition.LOST]} lost samples, and {closest - lost} that are kept"
    )


def _margin(row: Row) -> str:
    """Return whether the margin alone predicts the losses as well, better, or less well, or that nothing is shown."""
    auc, difference = row.get("margin_auc"), row.get("margin_difference")
    if auc is None or difference is None:
        return ""
    low, high, log10_p, equivalence = (
        row.get(f"margin_{name}") for name in ("difference_low", "difference_high", "log10_p", "equivalence_log10_p")
    )
    if difference == 0 and low == high == 0:
        return f"The margin alone does the same: AUC {auc:.3f}"
    if log10_p is None or equivalence is None or low is None or high is None:
        return f"The margin alone has an AUC of {auc:.3f}: too few samples for a test between them"
    between = f"difference {difference:+.3f}, {low:+.3f} to {high:+.3f}"
    differs, is_equivalent = log10_p < SIGNIFICANT, equivalence < SIGNIFICANT
    if differs or is_equivalent:
        tests = [_p(log10_p)] if differs else []
        tests += [f"equivalent within {EQUIVALENT_AUC:g}, {_p(equivalence)}"] if is_equivalent else []
        verdict = ("less well" if difference > 0 else "better") if differs else "as well"
        little = "a little " if differs and is_equivalent else ""
        return f"The margin alone does {little}{verdict}: AUC {auc:.3f} ({between}; {'; '.join(tests)})"
    return (
        f"The margin alone has an AUC of {auc:.3f} ({between}): neither a difference nor equivalence within "
        f"{EQUIVALENT_AUC:g} is shown"
    )


def _not_found(row: Row) -> str:
    """Return between what the AUC lies wherever the samples that were not found lie."""
    missing, low, high = row.get("not_found"), row.get("auc_not_found_low"), row.get("auc_not_found_high")
    if not missing or low is None or high is None:
        return ""
    return f"{missing} samples were not found and rank last; wherever they lie, the AUC is from {low:.3f} to {high:.3f}"


def _robust(row: Row) -> str:
    """Return what a robust basis leaves out."""
    if row.get("budget") is None or "basis" not in row:
        return ""
    return (
        f"Right means {row['basis']}: samples that this attack breaks take no part, which cuts the near end of epsilon "
        f"off, so that this AUC is not to be held against one on the clean basis"
    )


def between(rows: Sequence[Row], prunings: PruningComparison) -> str:
    """Return what several prunings of one dense network say together, in some sentences; for at least two of them.

    Parameters
    ----------
    rows : sequence of mapping
        One a pruning, as of `answer`, in the order in which `prunings` has them.
    prunings : PruningComparison
        Their AUCs against each other.

    """
    adjusted = holm(
        [np.nan if row.get("brunner_munzel_log10_p") is None else row["brunner_munzel_log10_p"] for row in rows]
    )
    tested = [
        f"{row['pruned']} {_p(log10_p)}" for row, log10_p in zip(rows, adjusted, strict=True) if not np.isnan(log10_p)
    ]
    untested = [row["pruned"] for row, log10_p in zip(rows, adjusted, strict=True) if np.isnan(log10_p)]
    withheld = f"; withheld for {', '.join(untested)}" if untested else ""
    sentences = (
        [f"Over {len(rows)} prunings, by Brunner-Munzel after Holm: {', '.join(tested)}{withheld}"] if tested else []
    )
    if len(rows) > 2 and prunings.joint_log10_p is not None:
        sentences.append(f"That all {len(rows)} AUCs are equal: {_p(prunings.joint_log10_p)}")
    some = np.flatnonzero(~np.isnan(prunings.log10_p))
    if len(some):
        k = int(some[np.argmin(prunings.log10_p[some])])
        which = "AUC" if len(rows) == 2 else "Of all pairs the one with the smallest p: AUC"
        sentences.append(
            f"{which} of {prunings.first[k]} minus that of {prunings.second[k]}: {prunings.difference[k]:+.3f} "
            f"({prunings.low[k]:+.3f} to {prunings.high[k]:+.3f}, on the same samples; "
            f"{_p(prunings.log10_p[k])}{'' if len(rows) == 2 else ' after Holm'})"
        )
    return ". ".join(sentences) + "." if sentences else ""


def over_trainings(sparsity: float, summary: SeedSummary) -> str:
    """Return what several trainings say of the AUC at one sparsity, in a sentence; empty for fewer than two.

    Parameters
    ----------
    sparsity : float
        Of their pruned networks.
    summary : SeedSummary
        Of their AUCs.

    """
    if summary.interval is None or summary.auc is None:
        return ""
    low, high, confidence = summary.interval.low, summary.interval.high, summary.interval.confidence
    sentence = (
        f"Over {summary.n} trainings pruned to {sparsity:.1%} zeros: AUC {summary.auc:.3f} ({100 * confidence:g} % "
        f"interval {low:.3f} to {high:.3f}, over trainings)"
    )
    if summary.another is not None:
        sentence += f"; one more training is expected between {summary.another.low:.3f} and {summary.another.high:.3f}"
    return f"{sentence}."


def table(row: Row) -> list[tuple[str, str]]:
    """Return what people read, line by line: a name and a value with its unit.

    Lines of statistics, and of the pruned network's own distances, stand there where the row has them.

    Parameters
    ----------
    row : mapping
        That of `Comparison.to_dict`.

    """
    norm, budget = row["norm"], row.get("budget")
    accuracy = "accuracy" if budget is None else f"robust accuracy at {budget_text(budget, norm)}"
    lines = [
        ("sparsity", sparsity_text(row)),
        (f"{accuracy}, dense", _number(row["dense_accuracy"], ".2%")),
        (f"{accuracy}, pruned", _number(row["pruned_accuracy"], ".2%")),
        ("S1,1  kept", f"{row['S1,1']}"),
        ("S1,0  lost: on thin ice", f"{row['S1,0']}"),
        ("S0,1  gained", f"{row['S0,1']}"),
        ("S0,0  wrong under both" if budget is None else "S0,0  broken under both", f"{row['S0,0']}"),
        ("epsilon not found", f"{row['not_found']}"),
    ]
    if "auc" in row:
        lines += [
            (statistic.label, _statistic(statistic, row, norm))
            for statistic in STATISTICS.values()
            if statistic.label and not (statistic.optional and row.get(statistic.name) is None)
        ]
    if "median_ratio" in row:
        lines += [
            ("median radius proved", distance_text(row["median_lower"], norm)),
            ("proved / found, median", _number(row["median_ratio"], ".2f")),
        ]
    if row.get("pruned_from_dense") is not None:
        lines += [
            ("pruned epsilon, kept", distance_text(row["pruned_median_kept"], norm)),
            ("pruned distance, lost", distance_text(row["pruned_median_lost"], norm)),
            ("shift, pruned - dense", distance_text(row["boundary_shift"], norm)),
            ("the same, kept alone", distance_text(row["boundary_shift_kept"], norm)),
            ("log10 p, boundary moved", _number(row["paired_log10_p"], ".1f")),
            ("p, moved by less than 10 %", _short_p(row["paired_equivalence_log10_p"])),
            ("pruned epsilon not found", f"{row['pruned_not_found']}"),
            ("lost, not corrected", f"{row['pruned_not_corrected']}"),
            ("taken from dense", f"{row['pruned_from_dense']}"),
        ]
    if "pruned_median_ratio" in row:
        lines += [
            ("pruned radius proved, median", distance_text(row["pruned_median_lower"], norm)),
            ("pruned proved / found, median", _number(row["pruned_median_ratio"], ".2f")),
        ]
    return lines


def sparsity_text(row: Row) -> str:
    """Return the fraction of zeros; and of a narrower network, how many of the dense one's weights are left."""
    zeros = f"{row['pruned_sparsity']:.1%}"
    dense, pruned = row.get("dense_weights"), row.get("pruned_weights")
    if not dense or not pruned or dense == pruned:
        return zeros
    kept = pruned * (1 - row["pruned_sparsity"]) / (dense * (1 - row["dense_sparsity"]))
    return f"{zeros}, {kept:.1%} of dense's weights kept"


def notebook_html(row: Row) -> str:
    """Return the answer and the table for a notebook, with what was measured below them."""
    lines = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in table(row)
    )
    source = f"{row['samples']:,} samples of {row['data']} ({row['split']}); epsilon: {row['norm']}, by {row['attack']}"
    return f"<p>{html.escape(answer(row))}</p><table>{lines}</table><p><small>{html.escape(source)}</small></p>"


def _statistic(statistic: Statistic, row: Row, norm: Norm) -> str:
    """Return the value of a statistic as people read it, with its quartiles or up to the end of its interval."""

    def text(value: float | None) -> str:
        if statistic.unit == "log10 approximate":
            return _short_p(value)
        return distance_text(value, norm) if statistic.unit == "epsilon" else _number(value, FORMS[statistic.unit])

    value = row[statistic.name]
    around = row[statistic.quartiles] if statistic.quartiles else [row[name] for name in statistic.interval]
    if around:
        low, high = map(text, around)
        return f"{text(value)} ({low} to {high})"
    if statistic.among:
        return f"{text(value)} of {text(row[statistic.among])}"
    if statistic.exact and value is not None:
        return f"{text(value)} ({'exact' if row[statistic.exact] else 'approximate'})"
    return text(value) + (f" to {text(row[statistic.until])}" if statistic.until and value is not None else "")


def _number(value: float | None, form: str) -> str:
    """Return a number in a form; one that rounds to 0 without a sign."""
    return "—" if value is None else f"{value:z{form}}" if form.endswith(("f", "e", "g", "%")) else f"{value:{form}}"


def distance_text(epsilon: float | None, norm: Norm) -> str:
    """Return a distance as people read it: n/255 in linf, a dash where it is not known."""
    return f"{epsilon * 255:.3g}/255" if norm == "linf" and epsilon is not None else _number(epsilon, ".3g")
