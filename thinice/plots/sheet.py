"""The sheet that every figure is drawn on: axes of one look, and a heading of title, notes and legend above them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from thinice.plots.palette import INK, MUTED
from thinice.plots.text import fonts, shorten, width, wrap
from thinice.stats.columns import FloatColumn
from thinice.types import Transition

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["Drawing", "extent", "heading", "message", "sheet", "spans_decades", "tally"]

TITLE, LABEL, TICK, NOTE = 11.0, 10.0, 9.0, 8.0
"""Font sizes in points."""
PAGE = 96
"""Pixels of a web page to the inch."""
HANDLE, GAP = 24.0, 14.0
"""Length of a legend's line and the space between its columns, in points."""


class Drawing(Figure):
    """A figure that belongs to no window and shows itself in a notebook, also where pyplot was never imported."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the picture for a notebook, twice as fine as it is shown, and its size in pixels of the page."""
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=2 * PAGE)
        wide, high = (round(PAGE * inches) for inches in self.get_size_inches())
        return file.getvalue(), {"width": wide, "height": high}


def sheet(ax: Axes | None, *, width: float = 6.4, height: float = 4.2) -> Axes:
    """Return the axes given, or those of a new figure (inches) that belongs to no window, dressed."""
    if ax is None:
        ax = Drawing(figsize=(width, height), layout="constrained").subplots()
    sns.despine(ax=ax)
    ax.set_axisbelow(True)
    ax.grid(visible=True, color="#e4e4e4", linewidth=0.7)
    ax.tick_params(labelsize=TICK, color=MUTED, labelcolor=INK)
    for spine in ax.spines.values():
        spine.set_color(MUTED)
    ax.xaxis.label.set(size=LABEL, color=INK)
    ax.yaxis.label.set(size=LABEL, color=INK)
    return ax


def heading(ax: Axes, title: str, *, notes: Sequence[str] = (), entries: Sequence[tuple[Artist, str]] = ()) -> None:
    """Put a title, notes in small print, and a legend above the axes, one upon the other, never into the data."""
    figure = ax.get_figure(root=True)
    if figure is not None and (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)  # the width of the axes depends on their labels
    room = 0.98 * extent(ax)[0]
    height = 4.0 + (_legend(ax, entries, room) if entries else 0)
    lines = [line for note in notes for line in wrap(note, room, NOTE)]
    for line in reversed(lines):
        ax.annotate(
            line,
            (0, 1),
            xytext=(0, height),
            xycoords="axes fraction",
            textcoords="offset points",
            va="bottom",
            fontsize=NOTE,
            color=MUTED,
            annotation_clip=False,
        )
        height += NOTE * 1.4
    ax.set_title(title, loc="left", pad=height + 3, fontsize=TITLE, fontweight="bold", color=INK)


def message(ax: Axes, text: str) -> Axes:
    """Return axes that say why there is nothing to see."""
    ax.set_axis_off()
    lines = "\n".join(wrap(text, 0.9 * extent(ax)[0], LABEL))
    ax.text(0.5, 0.5, lines, transform=ax.transAxes, ha="center", va="center", fontsize=LABEL, color=MUTED)
    return ax


def tally(counts: Mapping[str, int] | Mapping[Transition, int]) -> str:
    """Return counts as text, ``12 (S1,1: 10, S1,0: 2)``; zeros are left out."""
    each = ", ".join(f"{transition}: {count:,}" for transition, count in counts.items() if count)
    return f"{sum(counts.values()):,} ({each})"


def spans_decades(groups: Iterable[FloatColumn]) -> bool:
    """Return whether positive values want a logarithmic axis: a group's median below 2 % of the largest."""
    some = [group for group in groups if len(group)]
    return bool(some) and 50 * min(np.median(group) for group in some) < max(group.max() for group in some)


def extent(ax: Axes) -> tuple[float, float]:
    """Return width and height of the axes in points."""
    box = ax.get_window_extent()
    dpi = ax.figure.dpi
    return box.width * 72 / dpi, box.height * 72 / dpi


def _legend(ax: Axes, entries: Sequence[tuple[Artist, str]], room: float) -> float:
    """Draw a legend atop the axes, in as many columns as fit, and return its height in points."""
    texts = [shorten(text, room - HANDLE - GAP, TICK) for _, text in entries]
    column = max(width(text, TICK) for text in texts) + HANDLE + GAP
    rows = -(-len(entries) // max(1, int(room / column)))
    columns = -(-len(entries) // rows)  # as even as they can be
    ax.legend(
        [handle for handle, _ in entries],
        texts,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.3,
        borderpad=0,
        frameon=False,
        ncols=columns,
        prop={"family": fonts(), "size": TICK},
        handlelength=HANDLE / TICK,
        handletextpad=0.6,
        columnspacing=GAP / TICK,
        labelspacing=0.35,
    )
    return rows * TICK * 1.38 + 4
