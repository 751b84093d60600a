"""What people read of a comparison: a sentence, a table, and both in a notebook."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from thinice.attacks.fixed_budget import budget_text
from thinice.types import Transition

if TYPE_CHECKING:
    from thinice.results.comparison import Comparison
    from thinice.types import Norm

__all__ = ["answer", "page", "table"]


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
    for group in ("kept", "lost"):
        low, high = (_distance(quartile, norm) for quartile in row[f"quartiles_{group}"])
        lines.append((f"median epsilon, {group}", f"{_distance(row[f'median_{group}'], norm)} ({low} to {high})"))
    interval = comparison.separation.auc_interval
    lines += [
        ("shift, kept - lost", _distance(row["shift"], norm)),
        ("AUC", _number(row["auc"], ".3f")),
        ("AUC, 95 % interval", "—" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"),
        ("log10 p, lost are nearer", _number(row["log10_p"], ".1f")),
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


def _number(value: float | None, form: str) -> str:
    return "—" if value is None else f"{value:{form}}"


def _distance(epsilon: float | None, norm: Norm) -> str:
    return f"{epsilon * 255:.3g}/255" if norm == "linf" and epsilon is not None else _number(epsilon, ".3g")
