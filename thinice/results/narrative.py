"""What people read of a comparison: a sentence, a table, and both in a notebook."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from thinice.attacks.fixed_budget import budget_text
from thinice.stats import STATISTICS, Statistic, Unit
from thinice.types import Transition

if TYPE_CHECKING:
    from thinice.results.comparison import Comparison
    from thinice.types import Norm

__all__ = ["answer", "page", "table"]

FORMS: dict[Unit, str] = {"probability": ".3f", "count": "d", "log10": ".1f", "flag": "", "none": ".3g"}
"""How the table shows numbers; epsilons have their norm's unit."""


def answer(comparison: Comparison) -> str:
    """Return the question's answer in a sentence."""
    lost, found, budget = comparison.counts[Transition.LOST], comparison.separation, comparison.budget
    right = lost + comparison.counts[Transition.KEPT]
    norm = comparison.norm
    has_right = "has right" if budget is None else f"holds at {norm} {budget_text(budget, norm)}"
    said = f"{comparison.pruned} loses {lost} of the {right} samples that {comparison.dense} {has_right}"
    interval = found.auc_interval
    if found.auc is None or interval is None:
        return said + "."
    certain = "too few for a p-value" if found.log10_p is None else f"log10 p = {found.log10_p:.1f}"
    return (
        f"{said}; a lost sample lay nearer to the dense boundary than a kept one with probability {found.auc:.3f} "
        f"(AUC, 95 % interval {interval.low:.3f} to {interval.high:.3f}, {certain})."
    )


def table(comparison: Comparison) -> list[tuple[str, str]]:
    """Return what people read, line by line: a name and a value with its unit."""
    row, norm, budget = comparison.to_dict(), comparison.norm, comparison.budget
    accuracy = "accuracy" if budget is None else f"robust accuracy at {budget_text(budget, norm)}"
    lines = [
        ("sparsity", f"{row['pruned_sparsity']:.1%}"),
        (f"{accuracy}, dense", _number(row["dense_accuracy"], ".2%")),
        (f"{accuracy}, pruned", _number(row["pruned_accuracy"], ".2%")),
        ("S1,1  kept", f"{row['S1,1']}"),
        ("S1,0  lost: on thin ice", f"{row['S1,0']}"),
        ("S0,1  gained", f"{row['S0,1']}"),
        ("S0,0  wrong under both" if budget is None else "S0,0  broken under both", f"{row['S0,0']}"),
        ("epsilon not found", f"{row['not_found']}"),
    ]
    lines += [
        (statistic.label, _statistic(statistic, row, norm)) for statistic in STATISTICS.values() if statistic.label
    ]
    if comparison.pruned_distances is not None:
        lines += [
            ("pruned epsilon, kept", _distance(row["pruned_median_kept"], norm)),
            ("shift, pruned - dense", _distance(row["boundary_shift"], norm)),
            ("log10 p, boundary moved", f"{row['paired_log10_p']:.1f}"),
            ("pruned epsilon not found", f"{row['pruned_not_found']}"),
            ("taken from dense", f"{row['pruned_from_dense']}"),
        ]
    return lines


def page(comparison: Comparison) -> str:
    """Return the answer and the table for a notebook, with what was measured below them."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in table(comparison)
    )
    where = (
        f"{len(comparison.labels):,} samples of {comparison.data} ({comparison.split}); "
        f"epsilon: {comparison.norm}, by {comparison.attack.name}"
    )
    return f"<p>{html.escape(answer(comparison))}</p><table>{rows}</table><p><small>{html.escape(where)}</small></p>"


def _statistic(statistic: Statistic, row: dict[str, Any], norm: Norm) -> str:
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
