"""The residuals of a search by ADMM: how far weights are from what their sparsity allows, and how much that moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from thinice.plots.style import TITLE, TRANSITIONS, heading, message, network_style, plain, shorten, styled_axes
from thinice.types import Transition

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["plot_residuals"]

CURVES = (
    ("primal", "primal: weights to their targets", network_style(0)),
    ("dual", "dual: targets, times rho", TRANSITIONS[Transition.LOST]),
)


def plot_residuals(residuals: Sequence[Mapping[str, float | None]], *, name: str = "", ax: Axes | None = None) -> Axes:
    """Return axes with the primal and the dual residual of a search over its epochs, on a scale of powers of ten.

    Parameters
    ----------
    residuals
        What R-ADMM leaves in a recipe: ``classifier.recipe["pruning"]["reached"]["residuals"]``.
    name
        Of the network, for the title.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Examples
    --------
    >>> rows = [{"epoch": 0, "primal": 8.0, "dual": None}, {"epoch": 2, "primal": 4.0, "dual": 1.0}]
    >>> [line.get_ydata().tolist() for line in plot_residuals(rows).lines]
    [[8.0, 4.0], [1.0]]
    """
    ax = styled_axes(ax)
    title = f"Residuals of {shorten(plain(name), 250, TITLE)}" if name else "Residuals"
    if not residuals:
        heading(ax, title)
        return message(ax, "No residual to draw.")
    entries: list[tuple[Artist, str]] = []
    for field, said, style in CURVES:
        values = np.array([row[field] for row in residuals], dtype=np.float64)
        epochs = np.array([row["epoch"] for row in residuals], dtype=np.float64)
        drawn = values > 0  # where there is one, and a power of ten below it
        if not drawn.any():
            continue
        ax.plot(epochs[drawn], values[drawn], marker=style.marker, markersize=4, **style.line)
        entries.append((Line2D([], [], marker=style.marker, markersize=4, **style.line), said))
    if entries:
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.set_ylabel("length (L2)")
    heading(ax, title, entries=entries)
    return ax
