"""The learning curves of a training: accuracy and robust accuracy, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from thinice.plots.figure_set import folder_name, write_figures
from thinice.plots.style import (
    REFERENCE,
    TITLE,
    TRANSITIONS,
    Style,
    heading,
    message,
    network_style,
    plain,
    shorten,
    styled_axes,
)
from thinice.types import Transition

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from thinice.training import Epoch

__all__ = ["plot_training", "save_training_figure"]

CURVES: tuple[tuple[str, str, Style], ...] = (
    ("accuracy", "as trained on", network_style(0)),
    ("validation_accuracy", "held out", TRANSITIONS[Transition.KEPT]),
    ("robust_accuracy", "robust, ten steps", TRANSITIONS[Transition.LOST]),
)
"""Field of an epoch, its name in the legend, its look."""


def plot_training(
    history: Sequence[Epoch], *, chosen: int | None = None, name: str = "", ax: Axes | None = None
) -> Axes:
    """Return axes with the accuracies of a training over its epochs, those that were measured.

    "As trained on" is what the objective saw, augmented and crafted; the other two are of the network after the epoch.

    Parameters
    ----------
    history
        What `thinice.train` returns.
    chosen
        The epoch whose weights the network has, to be marked; of a `History`, its own where it is not the last one.
    name
        Of the network, for the title.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Examples
    --------
    >>> from thinice.training import Epoch
    >>> rows = [Epoch(number, 0.1, 1.0, 0.1 * number, None, 1.0) for number in (1, 2, 3)]
    >>> plot_training(rows).lines[0].get_ydata().round(1).tolist()
    [0.1, 0.2, 0.3]
    """
    ax = styled_axes(ax)
    title = f"Training of {shorten(plain(name), 250, TITLE)}" if name else "Training"
    if not history:
        heading(ax, title)
        return message(ax, "No epoch to draw.")
    numbers = [epoch.number for epoch in history]
    entries: list[tuple[Artist, str]] = []
    for field, said, style in CURVES:
        values = np.array([getattr(epoch, field) for epoch in history], dtype=np.float64)
        if np.isnan(values).all():
            continue
        mark = style.marker if len(history) <= MARKED else ""
        ax.plot(numbers, values, marker=mark, markersize=4, **style.line)
        entries.append((Line2D([], [], marker=mark, markersize=4, **style.line), said))
    chosen = getattr(history, "chosen", None) if chosen is None else chosen
    if chosen is not None and chosen != numbers[-1]:
        ax.axvline(chosen, **REFERENCE)
        entries.append((Line2D([], [], **REFERENCE), f"kept: epoch {chosen}"))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("epoch")
    ax.set_ylabel("accuracy")
    heading(ax, title, entries=entries)
    return ax


MARKED = 40
"""Epochs up to which each has a mark."""


def save_training_figure(history: Sequence[Epoch], folder: str | Path, *, name: str) -> list[Path]:
    """Write the learning curves of a network as ``FOLDER/NAME/training.png`` and ``.svg``, and return the paths.

    Raises
    ------
    InputError
        Where the folder cannot be written.

    """
    figure = plot_training(history, name=name).get_figure(root=True)
    return write_figures(
        {} if figure is None else {"training": figure}, Path(folder) / folder_name(name, otherwise="network")
    )
