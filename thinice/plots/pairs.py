"""The same samples before and after pruning: how far each one lay, and lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from thinice.plots.style import (
    INK,
    MUTED,
    NOTE,
    REFERENCE,
    TICK,
    TRANSITIONS,
    fonts,
    heading,
    message,
    plain,
    shorten,
    spans_decades,
    styled_axes,
    unit_of,
)
from thinice.stats.base import FloatColumn, check_lengths, epsilon_column, transition_column
from thinice.types import Norm, Transition

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from thinice.stats import PredictorComparison

__all__ = ["plot_pairs", "plot_predictors"]

MANY = 3000
"""More samples than this are drawn as pixels in vector files: their outlines would fill megabytes."""
SHADE = "#f2f2f2"
STRIP = 0.05
"""Width of the strip beside the data for samples that have no place on an axis, as a share of the axis."""


def plot_pairs(
    epsilon: npt.ArrayLike,
    pruned_epsilon: npt.ArrayLike,
    transition: npt.ArrayLike,
    *,
    norm: Norm = "linf",
    ax: Axes | None = None,
) -> Axes:
    """Return axes with each sample's distance to the pruned network's boundary against that to the dense one's.

    Below the dotted line pruning has moved the boundary towards the sample. Samples that a network has wrong lie at 0;
    samples that were not found lie in a strip beyond the farthest. The axes are logarithmic where the distances span
    decades; 0 then has a strip too. Samples at 0 under both networks are counted in the heading, not drawn.

    Parameters
    ----------
    epsilon, pruned_epsilon
        (N,) distances to the boundary of the dense and of the pruned network, on the [0, 1] scale; NaN where not
        found, 0 where misclassified.
    transition
        (N,) of S1,1 S1,0 S0,1 S0,0.
    norm
        Of the epsilons; linf is shown in n/255.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Raises
    ------
    InputError
        For columns of different length, an unknown transition or norm.

    Examples
    --------
    >>> ax = plot_pairs([0.01, 0.02], [0.0, 0.015], ["S1,0", "S1,1"])
    >>> ax.get_title(loc="left")
    'Distance before and after pruning (n = 2)'
    """
    unit = unit_of(norm)
    before, after = (
        epsilon_column(column, name) * unit.scale
        for column, name in ((epsilon, "epsilon"), (pruned_epsilon, "pruned_epsilon"))
    )
    change = transition_column(transition)
    check_lengths(epsilon=before, pruned_epsilon=after, transition=change)
    ax = styled_axes(ax, width=5.6, height=6.0)
    title = f"Distance before and after pruning (n = {len(before):,})"
    nowhere = (before == 0) & (after == 0)
    notes = [f"Wrong under both, ε = 0 twice, not drawn: {nowhere.sum():,}."] if nowhere.any() else []
    finite = [column[np.isfinite(column) & (column > 0)] for column in (before, after)]
    if not any(len(column) for column in finite):
        heading(ax, title, notes=notes)
        return message(ax, "No sample has a distance to draw.")
    both = (np.isfinite(before) & np.isfinite(after) & (change == Transition.KEPT)).nonzero()[0]
    if len(both):
        nearer = int((after[both] < before[both]).sum())
        notes.append(f"Of {len(both):,} kept samples with both distances, pruning brought {nearer:,} nearer.")
    place = _axes(ax, before, after, log=spans_decades(finite))
    entries = _draw(ax, place(before), place(after), np.where(nowhere, "", change))
    entries.append((Line2D([], [], **REFERENCE), "the same distance"))
    ax.set_xlabel(f"dense: {unit.label}")
    ax.set_ylabel(f"pruned: {unit.label}")
    heading(ax, title, notes=notes, entries=entries)
    return ax


def _axes(ax: Axes, before: FloatColumn, after: FloatColumn, *, log: bool) -> Callable[[FloatColumn], FloatColumn]:
    """Make both axes alike, with strips for zeros and for what was not found; return what places a column on them."""
    columns = np.concatenate([before, after])
    finite = columns[np.isfinite(columns) & (columns > 0)]
    low, high = float(finite.min()), float(finite.max())
    missing, zeros = bool(np.isinf(columns).any()), log and bool((columns == 0).any())
    if log:
        ax.set(xscale="log", yscale="log")
        step = max(high / low, 1.5) ** STRIP
        bottom, zero, near = low / step**3, low / step**2, low / step
        far, beyond, top = high * step, high * step**2, high * step**3
    else:
        step = high * STRIP
        bottom, zero, near = -step / 2, 0.0, 0.0
        far, beyond, top = high + step, high + 2 * step, high + 3 * step
    first, last = (bottom if zeros or not log else near), (top if missing else far)
    ax.set(xlim=(first, last), ylim=(first, last), autoscale_on=False)
    ax.plot([near, far], [near, far], **REFERENCE)
    strips = {"not\nfound": (far, beyond, top)} if missing else {}
    if zeros:
        strips["0"] = (bottom, zero, near)
    for start, _, end in strips.values():
        ax.axvspan(start, end, color=SHADE, zorder=0.4)
        ax.axhspan(start, end, color=SHADE, zorder=0.4)
    for axis in (ax.xaxis, ax.yaxis):
        ticks = [tick for tick in axis.get_major_locator().tick_values(near, far) if near <= tick <= high]
        texts = axis.get_major_formatter().format_ticks(ticks)
        axis.set_major_locator(FixedLocator([*ticks, *(middle for _, middle, _ in strips.values())]))
        axis.set_major_formatter(FixedFormatter([*texts, *strips]))
        axis.set_minor_locator(NullLocator())

    def place(column: FloatColumn) -> FloatColumn:
        return np.where(np.isinf(column), beyond, np.where(column == 0, zero, column))

    return place


def _draw(ax: Axes, x: FloatColumn, y: FloatColumn, change: npt.NDArray[np.str_]) -> list[tuple[Artist, str]]:
    """Draw a mark for each sample, the largest group at the bottom, and return the entries of the legend."""
    entries: list[tuple[Artist, str]] = []
    groups = {name: np.flatnonzero(change == name) for name in Transition}
    below = sorted(groups, key=lambda name: -len(groups[name]))
    for name, rows in groups.items():
        if len(rows) == 0:
            continue
        style = TRANSITIONS[name]
        look: dict[str, Any] = {
            "marker": style.marker,
            "color": style.color,
            "markeredgecolor": "white",
            "markeredgewidth": 0.3,
            "linestyle": "none",
            "markersize": 5.0 if len(change) <= MANY else 3.5,
        }
        alpha = 0.75 if len(rows) <= 500 else 0.4
        several = len(change) > MANY
        ax.plot(x[rows], y[rows], alpha=alpha, zorder=2 + 0.1 * below.index(name), rasterized=several, **look)
        entries.append((Line2D([], [], **look), f"{name} {style.word}: n = {len(rows):,}"))
    return entries


PLAIN = -2.0
"""A p-value above ten to this is written as it is, a smaller one by its logarithm."""


def plot_predictors(table: PredictorComparison, *, ax: Axes | None = None) -> Axes:
    """Return axes with the AUC of each predictor of "pruning loses this sample", and its interval.

    The first predictor, which the others are tested against, stands on top and in colour; its AUC is the dotted line.
    Beside each other one stands how much less, or more, than the first it has, with the paired DeLong test.

    Parameters
    ----------
    table
        As of `thinice.stats.compare_predictors`.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Examples
    --------
    >>> from thinice.stats import compare_predictors
    >>> lost = [True, True, False, False, False]
    >>> table = compare_predictors(lost, {"epsilon": [1, 2, 3, 4, 5], "loss": [0.3, 0.9, 0.5, 0.2, 0.1]})
    >>> [text.get_text() for text in plot_predictors(table).get_yticklabels()]
    ['epsilon', 'loss']
    """
    count = len(table.name)
    ax = styled_axes(ax, height=1.7 + 0.36 * count)
    title = "What predicts which samples pruning loses"
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
    notes.insert(1, f"Whiskers: {table.confidence:.0%} intervals; p: paired DeLong test against {first}.")
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


def _said(table: PredictorComparison, row: int) -> str:
    """Return the AUC of a predictor as text, and how it compares with the first."""
    text = f"{table.auc[row]:.3f}"
    if row == 0:
        return text
    gap = table.difference[row]
    text += f" ({abs(gap):.3f} {'less' if gap >= 0 else 'more'}"
    if np.isnan(table.log10_p[row]):
        return f"{text})"
    return text + (
        f", p {table.p_value[row]:.2f})" if table.log10_p[row] > PLAIN else f", log10 p {table.log10_p[row]:.1f})"
    )
