"""The curves of a study: robust accuracy over compression rate, a panel an attack and budget, a line a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from thinice.errors import InputError
from thinice.plots.figure_set import folder_name, write_figures
from thinice.plots.style import (
    GAP,
    HANDLE,
    INK,
    LABEL,
    REFERENCE,
    TICK,
    TITLE,
    NotebookFigure,
    Style,
    fonts,
    network_style,
    plain,
    shorten,
    styled_axes,
    width,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["StudyCurve", "plot_study", "save_study_figures"]

PANEL = (2.9, 2.3)
"""Inches of a panel."""

BOLDER = 1.2
"""How much wider bold letters are, at most."""


@dataclass(frozen=True, slots=True)
class StudyCurve:
    """The accuracies of a pruning method over compression rates.

    Attributes
    ----------
    rates : sequence of float
        Rising; at 1 there is the dense network.
    accuracies : sequence of float or None
        Shares; None where there is no network yet.
    sds : sequence of float or None
        Standard deviations over seeds; None for one seed.

    """

    rates: Sequence[float]
    accuracies: Sequence[float | None]
    sds: Sequence[float | None]


def plot_study(panels: Sequence[Mapping[str, Mapping[str, StudyCurve]]], *, title: str = "") -> Figure:
    """Return a figure of small panels with accuracies over compression rate, one line a method.

    Every step to the right doubles the rate. Bars are standard deviations over seeds, the dotted line is the dense
    network.

    Parameters
    ----------
    panels
        Rows of panels by their titles, ``"pgd linf 8/255"``; in each the curves by the names of the methods.
    title
        Of the figure.

    Raises
    ------
    InputError
        Where there is no panel.

    Examples
    --------
    >>> curve = StudyCurve([1, 2, 4], [0.9, 0.8, None], [0.01, 0.02, None])
    >>> figure = plot_study([{"pgd linf 8/255": {"magnitude": curve}}])
    >>> figure.axes[0].lines[0].get_ydata().tolist()
    [0.9, 0.8]
    """
    rows = [row for row in panels if row]
    if not rows:
        raise InputError("`panels` is empty: there is nothing to draw")
    wide = max(len(row) for row in rows)
    names = list(dict.fromkeys(name for row in rows for curves in row.values() for name in curves))
    styles = {name: network_style(k + 1 if len(names) > 1 else 0) for k, name in enumerate(names)}
    height = PANEL[1] * len(rows) + 0.22 * -(-len(names) // 3) + 0.6
    figure = NotebookFigure(figsize=(max(PANEL[0] * wide, 6.4), height), layout="constrained")
    grid = figure.subplots(len(rows), wide, squeeze=False, sharey=True)
    for row, places in zip(rows, grid, strict=True):
        for place, (name, curves) in zip(places, row.items(), strict=False):
            _panel(place, name, curves, styles)
        for place in places[len(row) :]:
            place.set_axis_off()
    for places in grid:
        places[0].set_ylabel("accuracy")
    for place in grid[-1]:
        place.set_xlabel("compression rate")
    _legend(figure, styles, title)
    return figure


def _panel(ax: Axes, name: str, curves: Mapping[str, StudyCurve], styles: Mapping[str, Style]) -> None:
    styled_axes(ax)
    rates = sorted({rate for curve in curves.values() for rate in curve.rates})
    for method, curve in curves.items():
        points = zip(curve.rates, curve.accuracies, curve.sds, strict=True)
        known = [(rate, value, sd) for rate, value, sd in points if value is not None]
        style = styles[method]
        x = np.log2([rate for rate, _, _ in known])
        values = np.array([value for _, value, _ in known])
        ax.plot(x, values, marker=style.marker, markersize=3.5, **style.line | {"linewidth": 1.3})
        bars = np.array([sd or 0.0 for _, _, sd in known])
        if bars.any():
            ax.errorbar(x, values, yerr=bars, fmt="none", ecolor=style.color, elinewidth=0.8, capsize=1.5, alpha=0.7)
    for level in {curve.accuracies[0] for curve in curves.values() if curve.rates[0] == 1}:
        if level is not None:
            ax.axhline(level, **REFERENCE)
    ax.xaxis.set_major_locator(FixedLocator(np.log2(rates).tolist()))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([f"{rate:g}" for rate in rates])
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_ylim(0, 1.02)
    ax.set_title(shorten(plain(name), 72 * PANEL[0], LABEL), loc="left", **_words(LABEL))


def _legend(figure: Figure, styles: Mapping[str, Style], title: str) -> None:
    """Draw title and legend above the panels, as one block that the layout makes room for."""
    handles = [Line2D([], [], marker=style.marker, markersize=4, **style.line) for style in styles.values()]
    texts = [shorten(plain(name), 220, TICK) for name in styles]
    room = 72 * figure.get_size_inches()[0]
    column = max(width(text, TICK) for text in texts) + HANDLE + GAP
    legend = figure.legend(
        [*handles, Line2D([], [], **REFERENCE)],
        [*texts, "dense"],
        title=shorten(plain(title), room / BOLDER, TITLE) if title else None,
        alignment="left",
        loc="outside upper left",
        frameon=False,
        ncols=max(1, min(3, len(texts) + 1, int(room / column))),
        prop={"family": fonts(), "size": TICK},
    )
    legend.get_title().set(**_words(TITLE))


def _words(size: float) -> dict[str, Any]:
    return {"fontsize": size, "fontweight": "bold", "color": INK}


def save_study_figures(figures: Mapping[str, Figure], folder: str | Path, *, name: str) -> list[Path]:
    """Write figures of a study into ``FOLDER/NAME``, each as PNG and SVG, and return the paths.

    Raises
    ------
    InputError
        Where the folder cannot be written.

    """
    safe = {folder_name(title, otherwise="figure"): figure for title, figure in figures.items()}
    return write_figures(safe, Path(folder) / folder_name(name, otherwise="study"))
