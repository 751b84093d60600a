"""The boundary itself: on a plane through a sample, where pruning moved it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.ndimage import distance_transform_edt, gaussian_filter, label

from thinice.plots.palette import INK, NETWORKS, REFERENCE, TRANSITIONS, tint
from thinice.plots.sheet import NOTE, TICK, extent, heading, sheet
from thinice.plots.text import fonts, plain, shorten
from thinice.plots.units import unit_of
from thinice.types import Transition

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from thinice.slices import BoundarySlice

__all__ = ["plot_boundary"]

WORDS = {
    Transition.KEPT: "right under both",
    Transition.LOST: "lost to pruning",
    Transition.GAINED: "gained by pruning",
    Transition.WRONG: "wrong under both",
}
AXES = {
    "adversarial": "towards the boundary of {}",
    "gradient": "along the gradient of {}",
    "random": "in a random direction",
}
AFTER = "#8A4B00"
"""The orange of the pruned network, dark enough to stand out from the regions' colours."""
LINES: tuple[dict[str, Any], dict[str, Any]] = (
    NETWORKS[0].line,
    {**NETWORKS[1].line, "color": AFTER},
)
MARKS: tuple[dict[str, Any], ...] = (
    {"marker": "*", "markersize": 13, "color": "white", "markeredgecolor": INK, "linestyle": "none"},
    {"marker": NETWORKS[0].marker, "markersize": 7, "color": INK, "markeredgecolor": "white", "linestyle": "none"},
    {"marker": NETWORKS[1].marker, "markersize": 8, "color": AFTER, "markeredgecolor": "white", "linestyle": "none"},
)
LEAST = 8
"""Names cut to fewer letters than this are left out."""
TINY = 1e-9
SPECK = 0.002
"""Regions of less than this share of the slice have neither a name nor a thin line."""


def plot_boundary(plane: BoundarySlice, *, classes: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Return axes with the decision regions of two networks on a plane through a sample.

    The colours are those of the transitions: where both networks see the sample's class, where pruning loses it,
    where it gains it, where neither sees it. Lines are the boundaries of the true class, thin ones those between
    others; each region says what the dense network sees there, and the pruned one, if that is something else. The
    dotted ball holds all points as near as the dense adversarial (not drawn for l0): the dense boundary touches it
    from outside; where the pruned boundary enters it, pruning has thinned the ice.

    Parameters
    ----------
    plane
        As of `thinice.slice_boundary`, or ``comparison.boundary()``.
    classes
        Names of the classes; by default their numbers.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Examples
    --------
    >>> import thinice
    >>> paths = thinice.example_checkpoints()
    >>> samples = thinice.load_samples("digits", limit=30)
    >>> result = thinice.compare(paths["dense"], paths["pruned-95"], samples, effort="quick", progress=False)
    >>> plot_boundary(result.boundary(resolution=21)).get_title(loc="left")
    'Where pruning moved the boundary'
    """
    own = ax is None
    ax = sheet(ax, width=6.2, height=6.6)
    ax.grid(visible=False)
    unit = unit_of(plane.unit)
    across, up = plane.across * unit.scale, plane.up * unit.scale
    ax.set(xlim=(across[0], across[-1]), ylim=(up[0], up[-1]), autoscale_on=False)
    networks = [shorten(plain(name), 90, TICK) for name in (plane.dense, plane.pruned)]
    for axis, network, kind in zip((ax.xaxis, ax.yaxis), networks, plane.directions, strict=True):
        axis.set_label_text(f"{AXES[kind].format(network)}: {unit.label}", family=fonts())
    dense, pruned = _whole(plane.dense_margins), _whole(plane.pruned_margins)
    entries = _regions(ax, across, up, dense, pruned)
    entries += _lines(ax, plane, networks, dense, pruned)
    entries += _points(ax, plane, networks)
    true = shorten(_class(plane.label, classes), 130, NOTE)
    notes = [f"Names: what {networks[0]} sees there, then {networks[1]}, if that is another class. True class: {true}."]
    heading(ax, "Where pruning moved the boundary", notes=notes, entries=entries)
    _settle(ax, own=own)
    _names(ax, plane, classes)
    return ax


def _settle(ax: Axes, *, own: bool) -> None:
    """Lay the figure out, so that room can be measured; a figure of our own as high as makes the slice a square."""
    figure = ax.get_figure(root=True)
    engine = None if figure is None else figure.get_layout_engine()
    if figure is None or engine is None:
        return
    engine.execute(figure)
    if own:
        wide, high = extent(ax)
        figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + (wide - high) / 72)
        engine.execute(figure)


def _whole(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return margins that can be drawn: NaN is wrong, and what is infinite is as far as the rest."""
    finite = margins[np.isfinite(margins)]
    top = float(np.abs(finite).max()) if len(finite) else 1.0
    return np.nan_to_num(margins, nan=-(top or 1.0), posinf=top or 1.0, neginf=-(top or 1.0))


def _regions(
    ax: Axes,
    across: NDArray[np.float64],
    up: NDArray[np.float64],
    dense: NDArray[np.float64],
    pruned: NDArray[np.float64],
) -> list[tuple[Artist, str]]:
    """Fill the plane with the colours of the transitions, and return the legend's entries of those that occur."""
    right, left = dense > 0, pruned > 0
    present = {
        Transition.KEPT: (right & left).any(),
        Transition.LOST: (right & ~left).any(),
        Transition.GAINED: (~right & left).any(),
        Transition.WRONG: (~right & ~left).any(),
    }
    fill = {name: tint(TRANSITIONS[name].color) for name in Transition}
    ax.set_facecolor(fill[Transition.WRONG])
    for name, field in (
        (Transition.LOST, dense),
        (Transition.GAINED, pruned),
        (Transition.KEPT, np.minimum(dense, pruned)),
    ):
        if (field > 0).any():
            ax.contourf(across, up, field, levels=[0, np.inf], colors=[fill[name]], zorder=0.5)
    return [(Patch(facecolor=fill[name]), WORDS[name]) for name, there in present.items() if there]


def _lines(
    ax: Axes,
    plane: BoundarySlice,
    networks: Sequence[str],
    dense: NDArray[np.float64],
    pruned: NDArray[np.float64],
) -> list[tuple[Artist, str]]:
    """Draw both boundaries, where there are any, and the ball; return their entries in the legend."""
    scale = unit_of(plane.unit).scale
    across, up = plane.across * scale, plane.up * scale
    entries: list[tuple[Artist, str]] = []
    for field, look, name in zip((dense, pruned), LINES, networks, strict=True):
        if field.min() < 0 < field.max():
            ax.contour(
                across, up, field, levels=[0], colors=look["color"], linewidths=1.8, linestyles=[look["linestyle"]]
            )
            entries.append((Line2D([], [], **look), f"boundary: {name}"))
    for seen, field, look in zip(
        (plane.dense_predictions, plane.pruned_predictions), (dense, pruned), LINES, strict=True
    ):
        found, cells = np.unique(seen[seen != plane.label], return_counts=True)
        outside = (field < 0).astype(np.float64)
        for wrong in found[cells > SPECK * seen.size]:  # between two wrong classes, a thin line
            share = gaussian_filter(outside * (seen == wrong), 1) / gaussian_filter(outside + TINY, 1)  # no staircase
            there = np.ma.masked_array(share, mask=field >= 0)
            if there.min() < 0.5 < there.max():
                ax.contour(
                    across,
                    up,
                    there,
                    levels=[0.5],
                    colors=look["color"],
                    linewidths=0.8,
                    linestyles=[look["linestyle"]],
                )
    ball = float(plane.epsilons[0])
    if plane.norm != "l0" and plane.lengths.min() < ball < plane.lengths.max():
        dots = [REFERENCE["linestyle"]]
        ax.contour(across, up, plane.lengths, levels=[ball], colors=INK, linewidths=1, linestyles=dots)
        entries.append((Line2D([], [], **REFERENCE), f"within {unit_of(plane.norm).text(ball)}: ε of {networks[0]}"))
    return entries


def _points(ax: Axes, plane: BoundarySlice, networks: Sequence[str]) -> list[tuple[Artist, str]]:
    """Mark the sample and the nearest points of both boundaries, and return their entries in the legend."""
    scale = unit_of(plane.unit).scale
    entries: list[tuple[Artist, str]] = []
    names = ("sample", f"nearest change: {networks[0]}", f"nearest change: {networks[1]}")
    for (x, y), look, name in zip(plane.points, MARKS, names, strict=True):
        if not np.isnan(x):
            ax.plot([x * scale], [y * scale], zorder=4, **look)
            entries.append((Line2D([], [], **look), name))
    return entries


def _names(ax: Axes, plane: BoundarySlice, classes: Sequence[str] | None) -> None:
    """Write into each region that has room what the networks see there, clear of its edges and of the points."""
    pairs = np.stack([plane.dense_predictions, plane.pruned_predictions])
    wide, high = (side / count for side, count in zip(extent(ax), pairs.shape[:0:-1], strict=True))  # points a cell
    taken = np.zeros(pairs.shape[1:], dtype=np.bool_)
    for x, y in plane.points[~np.isnan(plane.points[:, 0])]:
        taken[np.abs(plane.up - y).argmin(), np.abs(plane.across - x).argmin()] = True
    scale = unit_of(plane.unit).scale
    found, cells = np.unique(pairs.reshape(2, -1), axis=1, return_counts=True)
    for dense, pruned in found[:, cells > SPECK * taken.size].T:
        parts, count = label((pairs[0] == dense) & (pairs[1] == pruned))
        for part in range(1, count + 1):
            free = np.pad((parts == part) & ~taken, 1)
            room = distance_transform_edt(free, sampling=(high, wide))[1:-1, 1:-1]
            row, column = np.unravel_index(room.argmax(), room.shape)
            radius = float(room[row, column])
            name = _class(dense, classes)
            if pruned != dense:
                name += f" | {_class(pruned, classes)}"
            text = shorten(name, 2 * radius - 8, TICK)
            if radius < TICK or (text != name and len(text) < LEAST):
                continue
            ax.text(
                float(plane.across[column]) * scale,
                float(plane.up[row]) * scale,
                text,
                ha="center",
                va="center",
                fontsize=TICK,
                color=INK,
                family=fonts(),
            )


def _class(number: int, classes: Sequence[str] | None) -> str:
    if number < 0:
        return "—"
    return plain(classes[number]) if classes is not None and number < len(classes) else str(number)
