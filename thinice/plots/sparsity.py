"""Series of prunings: what happens as more weights go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from thinice.errors import InputError
from thinice.plots.palette import REFERENCE, Style, network_style
from thinice.plots.sheet import TICK, extent, heading, message, sheet
from thinice.plots.text import plain, shorten, width
from thinice.stats import wilson
from thinice.types import Interval

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from thinice.comparison import Comparison

__all__ = ["plot_sparsity"]

Quantity = Literal["auc", "accuracy", "lost"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
TITLES: Mapping[Quantity, str] = {
    "auc": "How well a small ε predicts a lost sample, by sparsity",
    "accuracy": "Accuracy of the pruned network, by sparsity",
    "lost": "Samples lost to pruning, by sparsity",
}
LABELS: Mapping[Quantity, str] = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "lost": "lost (S1,0), of those dense has right",
}
LEAST = 1e-4
"""A density below this is drawn as this."""


def plot_sparsity(
    comparisons: Sequence[Comparison] | Mapping[str, Sequence[Comparison]],
    *,
    quantity: Quantity = "auc",
    ax: Axes | None = None,
) -> Axes:
    """Return axes with the AUC, the accuracy or the share of lost samples over sparsity, one line a series.

    Steps to the right halve the density: 50, 75, 87.5 % are equally far apart, as every halving takes as many of the
    weights that are left. Bars are 95 % intervals (DeLong for the AUC, Wilson for shares). The dotted line is what
    would be seen without pruning, or without any relation: dense accuracy, no loss, AUC 0.5.

    Parameters
    ----------
    comparisons
        Of one dense network with several pruned ones, or such series by name: ``{"magnitude": …, "random": …}``.
    quantity
        ``"auc"``, ``"accuracy"`` or ``"lost"``.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Raises
    ------
    InputError
        For an unknown quantity.

    Examples
    --------
    >>> import thinice
    >>> paths = thinice.example_checkpoints()
    >>> samples = thinice.load_samples("digits", limit=100)
    >>> series = thinice.compare_all(
    ...     paths["dense"], [paths["pruned-90"], paths["pruned-95"]], samples, effort="quick", progress=False
    ... )
    >>> plot_sparsity(series, quantity="accuracy").lines[0].get_xdata().round(2).tolist()
    [3.32, 4.32]
    """
    if quantity not in QUANTITIES:
        raise InputError(f"`quantity` must be one of {', '.join(QUANTITIES)}, got {quantity!r}")
    series = comparisons if isinstance(comparisons, Mapping) else {"": comparisons}
    ax = sheet(ax)
    everything = [one for group in series.values() for one in group]
    if not everything:
        heading(ax, TITLES[quantity])
        return message(ax, "No comparison to draw.")
    entries: list[tuple[Artist, str]] = []
    notes: list[str] = []
    for k, (name, group) in enumerate(series.items()):
        style = network_style(k + 1 if len(series) > 1 else 0)
        entries += _series(ax, sorted(group, key=lambda one: one.pruned_sparsity), quantity, style, name)
    _sparsity_axis(ax, [one.pruned_sparsity for one in everything])
    missing = sum(_value(one, quantity)[0] is None for one in everything)
    if missing:
        notes.append(f"Not drawn, for nothing was lost or nothing kept: {missing} of {len(everything)} prunings.")
    chance = {0.5} if quantity == "auc" else set()
    if quantity == "accuracy":
        chance = {one.changes.dense_accuracy for one in everything if one.changes.dense_accuracy is not None}
    for level in chance:
        ax.axhline(level, **REFERENCE)
    if chance:
        said = "AUC 0.5: ε says nothing" if quantity == "auc" else "before pruning"
        entries.append((Line2D([], [], **REFERENCE), said))
    if quantity == "auc":
        ax.set_ylim(min(ax.get_ylim()[0], 0.48), 1.03)
    else:
        ax.yaxis.set_major_formatter(PercentFormatter(1))
    if quantity == "lost":
        ax.set_ylim(bottom=0)
    ax.set_ylabel(LABELS[quantity])
    notes.append(f"Bars: 95% intervals ({'DeLong' if quantity == 'auc' else 'Wilson'}).")
    heading(ax, TITLES[quantity], notes=notes, entries=entries)
    return ax


def _series(
    ax: Axes, group: Sequence[Comparison], quantity: Quantity, style: Style, name: str
) -> list[tuple[Artist, str]]:
    """Draw one line with its bars, and return its entry in the legend."""
    points = [(_place(one.pruned_sparsity), *_value(one, quantity)) for one in group]
    drawn = [(x, value, interval) for x, value, interval in points if value is not None and interval is not None]
    if drawn:
        x, values, _ = zip(*drawn, strict=True)
        ax.plot(x, values, marker=style.marker, markersize=5.5, **style.line)
        reach = np.array([(value - interval.low, interval.high - value) for _, value, interval in drawn]).T
        look: dict[str, Any] = {"ecolor": style.color, "elinewidth": 1, "capsize": 2.5, "alpha": 0.8}
        ax.errorbar(x, values, yerr=np.maximum(reach, 0), fmt="none", **look)
    return [(Line2D([], [], marker=style.marker, **style.line), shorten(plain(name), 160, TICK))] if name else []


def _value(one: Comparison, quantity: Quantity) -> tuple[float | None, Interval | None]:
    """Return the quantity of one comparison and its 95 % interval."""
    changes = one.changes
    if quantity == "auc":
        return one.separation.auc, one.separation.interval(0.95)
    hits, n = changes.lost, changes.kept + changes.lost
    if quantity == "accuracy":
        hits, n = changes.kept + changes.gained, changes.n
    return (hits / n, wilson(hits, n)) if n else (None, None)


def _place(sparsity: float) -> float:
    """Return where a sparsity lies on the axis: how often the density was halved."""
    return float(-np.log2(max(1 - sparsity, LEAST)))


def _sparsity_axis(ax: Axes, sparsities: Sequence[float]) -> None:
    """Write the sparsities that occur below the axis, as many as have room."""
    ax.margins(x=0.06)
    low, high = ax.get_xlim()
    points = extent(ax)[0] / (high - low)
    ticks: list[float] = []
    texts: list[str] = []
    end = -np.inf
    for sparsity in sorted(set(sparsities)):
        text, x = _percent(sparsity), _place(sparsity)
        half = width(text, TICK) / 2 + 3
        if (x - low) * points - half >= end:
            ticks.append(x)
            texts.append(text)
            end = (x - low) * points + half
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels(texts)
    ax.set_xlabel("sparsity (equal steps halve the weights that are left)")


def _percent(sparsity: float) -> str:
    """Return a sparsity as people write it, with as many digits as two of the density need: 50%, 95%, 99.9%."""
    left = 100 * max(1 - sparsity, LEAST)
    digits = max(0, 1 - math.floor(math.log10(left)))
    return f"{100 * sparsity:.{digits}f}".rstrip("0").rstrip(".") + "%" if digits else f"{100 * sparsity:.0f}%"
