"""How much of the masks changes from epoch to epoch of a search, and how sharp the loss is around its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from thinice.plots.style import TICK, heading, message, network_style, plain, shorten, styled_axes

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["plot_mask_changes"]

NAME = 120
"""Points of a name in the legend."""


def plot_mask_changes(searches: Mapping[str, Mapping[str, Any]], *, ax: Axes | None = None) -> Axes:
    """Return axes with the part of all mask entries that changed in each epoch (Hamming distance), a line a search.

    Parameters
    ----------
    searches
        What searches measured, by the name that each shall have: of a pruned network,
        ``classifier.recipe["pruning"]["reached"]``. Where it holds the sharpness of the scores, the legend says it.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Examples
    --------
    >>> ax = plot_mask_changes({"hydra": {"mask_changes": [0.02, 0.01]}, "s2ap": {"mask_changes": [0.01, 0.0]}})
    >>> [line.get_ydata().tolist() for line in ax.lines]
    [[0.02, 0.01], [0.01, 0.0]]
    """
    ax = styled_axes(ax)
    title = "Masks that change from epoch to epoch"
    entries: list[tuple[Artist, str]] = []
    for name, measured in searches.items():
        changes: Sequence[float] = measured.get("mask_changes", ())
        if not changes:
            continue
        style = network_style(len(entries))
        ax.plot(np.arange(1, len(changes) + 1), np.array(changes), marker=style.marker, markersize=4, **style.line)
        sharpness = measured.get("sharpness")
        said = "" if sharpness is None else f", largest eigenvalue {sharpness['largest_eigenvalue']:.3g}"
        line = Line2D([], [], marker=style.marker, markersize=4, **style.line)
        entries.append((line, shorten(plain(name), NAME, TICK) + said))
    if not entries:
        heading(ax, title)
        return message(ax, "No search to draw.")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=1))
    ax.set_xlabel("epoch")
    ax.set_ylabel("entries of all masks")
    heading(ax, title, entries=entries)
    return ax
