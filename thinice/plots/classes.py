"""What pruning takes from each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import PercentFormatter

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
    styled_axes,
)
from thinice.stats import class_losses
from thinice.stats.base import transition_column
from thinice.types import Transition

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_class_losses"]

ROOM = 130.0
"""Points for the name of a class."""


def plot_class_losses(
    labels: npt.ArrayLike,
    transition: npt.ArrayLike,
    *,
    classes: Sequence[str] | None = None,
    count: int = 25,
    confidence: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """Return axes with the share of lost samples in each class, the hardest hit on top.

    Shares are of the samples that the dense network has right, with Wilson intervals; beside each bar stand "lost of
    right" in numbers, and how many samples of the class the pruned network has right alone ("+", S0,1). Of more than
    `count` classes the hardest hit are shown, and the heading says so.

    Parameters
    ----------
    labels
        (N,) true classes.
    transition
        (N,) of S1,1 S1,0 S0,1 S0,0.
    classes
        Names of the classes; by default their numbers.
    count
        The most classes to show.
    confidence
        Level of the intervals.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Raises
    ------
    InputError
        For columns of different length, a label that is no class, an unknown transition.

    Examples
    --------
    >>> ax = plot_class_losses([0, 0, 1], ["S1,1", "S1,0", "S1,1"], classes=["cat", "dog"])
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['cat', 'dog']
    """
    losses = class_losses(labels, transition, classes=classes, confidence=confidence)
    measured = np.flatnonzero(losses.dense_correct)
    order = measured[np.lexsort((-losses.lost[measured], -losses.share[measured]))]
    shown = order[:count]
    ax = styled_axes(ax, height=1.5 + 0.24 * max(5, len(shown)))
    title = "Samples lost to pruning, by class"
    if len(shown) == 0:
        heading(ax, title)
        return message(ax, "The dense network has no sample right.")
    style = TRANSITIONS[Transition.LOST]
    rows, share = np.arange(len(shown)), losses.share[shown]
    ax.barh(rows, share, height=0.62, color=style.color, alpha=0.85)
    ax.errorbar(
        share,
        rows,
        xerr=(share - losses.low[shown], losses.high[shown] - share),
        fmt="none",
        ecolor=INK,
        elinewidth=1,
        capsize=2,
    )
    column = np.asarray(labels)
    numbers = np.unique(column) if classes is None else np.arange(len(classes))
    gained = np.array([(column[transition_column(transition) == Transition.GAINED] == k).sum() for k in numbers])
    total = losses.lost.sum() / losses.dense_correct.sum()
    ax.axvline(total, **REFERENCE)
    names = [shorten(plain(losses.name[place]), ROOM, TICK) for place in shown]
    if len(set(names)) < len(names):  # cut to the same: the number tells them apart
        names = [f"{place}: {shorten(plain(losses.name[place]), ROOM - 20, TICK)}" for place in shown]
    ax.set_yticks(rows, names, family=fonts())
    for place, row in zip(shown, rows, strict=True):
        ax.text(
            1.01,
            float(row),
            f"{losses.lost[place]:,} of {losses.dense_correct[place]:,}"
            + (f", +{won:,}" if (won := gained[place]) else ""),
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=NOTE,
            color=MUTED,
        )
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(0, min(1.0, 1.05 * float(losses.high[shown].max())))
    ax.set_ylabel("class" if classes is None else "")
    ax.grid(visible=False, axis="y")
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("lost (S1,0), of the samples that the dense network has right")
    notes = [
        f"Dotted: all classes, {losses.lost.sum():,} of {losses.dense_correct.sum():,} ({total:.1%}).",
        f"Whiskers: {confidence:.0%} intervals (Wilson).",
    ]
    if gained[shown].any():
        notes.append("Right: lost of those the dense network has right, and + gained (S0,1).")
    if len(order) > len(shown):
        notes.append(f"The {len(shown)} hardest hit of {len(order)} classes.")
    idle = len(losses.name) - len(order)
    if idle:
        notes.append(f"Left out, for the dense network has no sample of them right: {idle} classes.")
    heading(ax, title, notes=notes)
    return ax
