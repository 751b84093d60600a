"""Rival predictors side by side: what foretells best which samples a pruning loses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.plots.palette import INK, MUTED, REFERENCE, TRANSITIONS
from thinice.plots.sheet import NOTE, TICK, heading, message, sheet
from thinice.plots.text import fonts, plain, shorten
from thinice.types import Transition

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from thinice.stats import RivalPredictors

__all__ = ["plot_predictors"]

PLAIN = -2.0
"""A p-value above ten to this is written as it is, a smaller one by its logarithm."""


def plot_predictors(table: RivalPredictors, *, ax: Axes | None = None) -> Axes:
    """Return axes with the AUC of each predictor of "pruning loses this sample", and its interval.

    The first predictor, which the others are tested against, stands on top and in colour; its AUC is the dotted line.
    Beside each other one stands how much less, or more, than the first it has, with the paired DeLong test.

    Parameters
    ----------
    table
        As of `thinice.stats.rival_predictors`.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Examples
    --------
    >>> from thinice.stats import rival_predictors
    >>> lost = [True, True, False, False, False]
    >>> table = rival_predictors(lost, {"epsilon": [1, 2, 3, 4, 5], "loss": [0.3, 0.9, 0.5, 0.2, 0.1]})
    >>> [text.get_text() for text in plot_predictors(table).get_yticklabels()]
    ['epsilon', 'loss']
    """
    count = len(table.name)
    ax = sheet(ax, height=1.7 + 0.36 * count)
    title = "What foretells which samples pruning loses"
    notes = [f"{table.n_kept:,} kept (S1,1), {table.n_lost:,} lost (S1,0)."]
    if table.not_found:
        notes.append(f"Not found, ranked as the safest together: {table.not_found:,}.")
    untested = [note for note in table.notes if note.startswith("no test of")]
    notes += [f"{note[0].upper()}{note[1:]}." for note in table.notes if note not in untested]
    if untested:
        notes.append(f"Not tested, for the spread of the difference is not known: {len(untested)}.")
    if np.isnan(table.auc).all():
        heading(ax, title, notes=notes)
        return message(ax, "A predictor needs kept (S1,1) and lost (S1,0) samples.")
    first = shorten(plain(table.name[0]), 130, NOTE)
    notes.insert(1, f"Whiskers: {table.confidence:.0%} intervals (DeLong); p: paired test against {first}.")
    ax.axvline(table.auc[0], **REFERENCE)
    ax.axvline(0.5, color=MUTED, linewidth=0.8)
    look: dict[str, Any] = {"fmt": "o", "markersize": 6, "elinewidth": 1.4, "capsize": 3}
    aside: dict[str, Any] = {"va": "center", "fontsize": NOTE, "color": MUTED}
    for row in range(count):
        auc, color = table.auc[row], INK if row else TRANSITIONS[Transition.LOST].color
        ax.errorbar(auc, row, xerr=[[auc - table.low[row]], [table.high[row] - auc]], color=color, **look)
        ax.text(1.01, row, _said(table, row), transform=ax.get_yaxis_transform(), **aside)
    ax.set_yticks(range(count), [shorten(plain(name), 130, TICK) for name in table.name], family=fonts())
    ax.set_ylim(count - 0.4, -0.6)
    low, high = min(0.5, float(np.nanmin(table.low))), max(0.5, float(np.nanmax(table.high)))
    ax.set_xlim(max(-0.02, low - 0.03), min(1.02, high + 0.03))
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("AUC: chance that a kept sample looks safer than a lost one")
    heading(ax, title, notes=notes)
    return ax


def _said(table: RivalPredictors, row: int) -> str:
    """Return the AUC of a predictor as text, and how it compares with the first."""
    said = f"{table.auc[row]:.3f}"
    if row == 0:
        return said
    gap = table.difference[row]
    said += f" ({abs(gap):.3f} {'less' if gap >= 0 else 'more'}"
    if np.isnan(table.log10_p[row]):
        return f"{said})"
    return said + (
        f", p {table.p_value[row]:.2f})" if table.log10_p[row] > PLAIN else f", log10 p {table.log10_p[row]:.1f})"
    )
