"""What people read of a comparison, on the command line, in notebooks and in reports: a sentence and a table.

Both are made of one flat row: that of `thinice.results.Comparison.to_dict`, or one with the same names that a report
reads from a store. Of an unfinished comparison the row has fewer names.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from thinice.attacks.fixed_budget import budget_text
from thinice.stats import STATISTICS, Statistic, Unit
from thinice.types import Transition

if TYPE_CHECKING:
    from thinice.types import Norm

__all__ = ["answer", "notebook_html", "sparsity_text", "table"]

Row = Mapping[str, Any]

FORMS: dict[Unit, str] = {"probability": ".3f", "count": "d", "log10": ".1f", "flag": "", "none": ".3g"}
"""How the table shows numbers; epsilons have their norm's unit."""


def answer(row: Row) -> str:
    """Return the question's answer in a sentence, or what is missing to give one.

    Parameters
    ----------
    row : mapping
        ``dense``, ``pruned``, ``norm``, ``samples``, ``budget`` of a robust basis, the counts by transition, and the
        statistics ``auc``, ``auc_low``, ``auc_high``, ``confidence`` and ``log10_p``; without them
        the run ended before.

    Examples
    --------
    >>> counts = {"S1,1": 90, "S1,0": 4, "S0,1": 1, "S0,0": 5}
    >>> answer({"dense": "a", "pruned": "b", "norm": "l2", "samples": 100, **counts, "auc": None})
    'b loses 4 of the 94 samples that a has right.'

    """
    norm, budget = row["norm"], row.get("budget")
    lost, right = row[Transition.LOST], row[Transition.LOST] + row[Transition.KEPT]
    known = sum(row[transition] for transition in Transition)
    has_right = "has right" if budget is None else f"holds at {norm} {budget_text(budget, norm)}"
    sentence = f"{row['pruned']} loses {lost} of the {right} samples that {row['dense']} {has_right}"
    if known < row["samples"]:
        sentence += f", of {known} of {row['samples']} samples that were measured so far"
    if "auc" not in row:
        return f"{sentence}. The run ended before its statistics."
    if row["auc"] is None:
        return f"{sentence}."
    low, high, confidence = (row.get(name) for name in ("auc_low", "auc_high", "confidence"))
    details, log10_p = ["AUC"], row["log10_p"]
    if low is not None and high is not None and confidence is not None:
        details.append(f"{100 * confidence:g} % interval {low:.3f} to {high:.3f}")
    details.append("too few for a p-value" if log10_p is None else f"log10 p = {log10_p:.1f}")
    return (
        f"{sentence}; a lost sample lay nearer to the dense boundary than a kept one with probability "
        f"{row['auc']:.3f} ({', '.join(details)})."
    )


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
            (statistic.label, _statistic(statistic, row, norm)) for statistic in STATISTICS.values() if statistic.label
        ]
    if row.get("pruned_from_dense") is not None:
        lines += [
            ("pruned epsilon, kept", _distance(row["pruned_median_kept"], norm)),
            ("shift, pruned - dense", _distance(row["boundary_shift"], norm)),
            ("log10 p, boundary moved", _number(row["paired_log10_p"], ".1f")),
            ("pruned epsilon not found", f"{row['pruned_not_found']}"),
            ("taken from dense", f"{row['pruned_from_dense']}"),
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
        return _distance(value, norm) if statistic.unit == "epsilon" else _number(value, FORMS[statistic.unit])

    value = row[statistic.name]
    if statistic.quartiles:
        low, high = map(text, row[statistic.quartiles])
        return f"{text(value)} ({low} to {high})"
    return text(value) + (f" to {text(row[statistic.until])}" if statistic.until and value is not None else "")


def _number(value: float | None, form: str) -> str:
    return "—" if value is None else f"{value:{form}}"


def _distance(epsilon: float | None, norm: Norm) -> str:
    return f"{epsilon * 255:.3g}/255" if norm == "linf" and epsilon is not None else _number(epsilon, ".3g")
