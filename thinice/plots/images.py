"""Images: the closest samples beside their adversarials, and a plane through one with both decision boundaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from scipy.ndimage import distance_transform_edt, gaussian_filter, label

from thinice.errors import InputError
from thinice.plots.style import (
    INK,
    MUTED,
    NETWORKS,
    NOTE,
    REFERENCE,
    TICK,
    TITLE,
    TRANSITIONS,
    NotebookFigure,
    Unit,
    extent,
    fonts,
    heading,
    message,
    plain,
    shorten,
    styled_axes,
    tint,
    unit_of,
    width,
)
from thinice.stats.base import check_lengths, epsilon_column, transition_column
from thinice.types import Norm, Transition

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from thinice.analysis.boundary_slice import BoundarySlice

__all__ = ["CHANNELS", "plot_boundary", "plot_gallery"]

CELL, SPACE, LINE, PAD = 74.0, 9.0, 11.5, 5.0
"""Points: the widest image, the space between two, a line of text, the space between image and text."""
CHANNELS = (1, 3)
"""What can be drawn: grey and colour."""
SMALL = 64
"""Images of at most this many pixels a side are drawn pixel by pixel, also in vector files."""

Images = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of text, a text for each sample, with its name at the left."""

    name: str
    texts: Sequence[str]
    colors: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of images, an image for each sample, with lines of text below."""

    name: str
    images: Images
    lines: Sequence[_Line]


def plot_gallery(
    inputs: npt.ArrayLike,
    adversarials: npt.ArrayLike,
    epsilon: npt.ArrayLike,
    *,
    norm: Norm = "linf",
    predictions: npt.ArrayLike | None = None,
    adversarial_predictions: npt.ArrayLike | None = None,
    pruned_predictions: npt.ArrayLike | None = None,
    transition: npt.ArrayLike | None = None,
    sample_ids: npt.ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    count: int = 8,
    ax: Axes | None = None,
) -> Axes:
    """Return axes with samples in columns: the clean image, the perturbation, the adversarial image.

    The first `count` samples are drawn, in the order given. Perturbations are scaled, each by itself, until the
    largest change reaches black or white around the grey of "no change"; the factor stands below.

    Parameters
    ----------
    inputs, adversarials
        (N, C, H, W) in [0, 1]; one channel is drawn in grey, three in colour.
    epsilon
        (N,) on the [0, 1] scale.
    norm
        Of the epsilons; linf is shown in n/255.
    predictions, adversarial_predictions
        (N,) what the dense network sees in the clean and in the adversarial image; -1 where nothing.
    pruned_predictions
        (N,) what the pruned network sees in the clean image.
    transition
        (N,) of S1,1 S1,0 S0,1 S0,0.
    sample_ids
        (N,) index in the untouched data set.
    classes
        Names of the classes; by default their numbers.
    count
        The most samples to draw.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Raises
    ------
    InputError
        For arrays of different length or shape, images of another number of channels, an unknown norm.

    Examples
    --------
    >>> clean = np.zeros((1, 1, 8, 8), dtype=np.float32)
    >>> ax = plot_gallery(clean, clean + 0.02, [0.02], predictions=[0], adversarial_predictions=[1])
    >>> len(ax.images)
    3
    """
    unit = unit_of(norm)
    clean, near = _images(inputs, "inputs"), _images(adversarials, "adversarials")
    if clean.shape != near.shape:
        raise InputError(f"`adversarials` has shape {near.shape} and `inputs` {clean.shape}: give one a sample")
    columns: dict[str, npt.NDArray[Any]] = {
        "inputs": clean,
        "adversarials": near,
        "epsilon": epsilon_column(epsilon, "epsilon"),
    }
    given = {
        "predictions": predictions,
        "adversarial_predictions": adversarial_predictions,
        "pruned_predictions": pruned_predictions,
        "sample_ids": sample_ids,
    }
    columns |= {name: np.asarray(values) for name, values in given.items() if values is not None}
    if transition is not None:
        columns["transition"] = transition_column(transition)
    check_lengths(**columns)
    return _draw(ax, *_table({name: column[:count] for name, column in columns.items()}, unit, classes))


def _table(
    columns: Mapping[str, npt.NDArray[Any]], unit: Unit, classes: Sequence[str] | None
) -> tuple[list[_Line], list[_Row], list[str]]:
    """Return the lines above the images, the rows of images, and a colour for each sample."""
    clean, near = columns["inputs"], columns["adversarials"]
    samples = len(clean)
    muted, colors = [MUTED] * samples, [INK] * samples
    if "transition" in columns:
        colors = [TRANSITIONS[Transition(name)].color for name in columns["transition"]]

    def seen(name: str, column: str) -> list[_Line]:
        return (
            [_Line(name, [_class(k, classes) for k in columns[column]], [INK] * samples)] if column in columns else []
        )

    head = [_Line(unit.label, [_number(value * unit.scale) for value in columns["epsilon"]], [INK] * samples)]
    if "transition" in columns:
        head.insert(0, _Line("transition", [str(name) for name in columns["transition"]], colors))
    if "sample_ids" in columns:
        head.insert(0, _Line("sample", [f"#{number}" for number in columns["sample_ids"]], muted))
    peak = np.abs(near - clean).max(axis=(1, 2, 3), initial=0)
    factors = ["no change" if top == 0 else f"\N{MULTIPLICATION SIGN} {_number(0.5 / top)}" for top in peak]
    rows = [
        _Row("clean", clean, seen("dense sees", "predictions") + seen("pruned sees", "pruned_predictions")),
        _Row("perturbation", _amplified(near - clean, peak), [_Line("amplified", factors, muted)]),
        _Row("adversarial", near, seen("dense sees", "adversarial_predictions")),
    ]
    return head, rows, colors


def _draw(ax: Axes | None, head: Sequence[_Line], rows: Sequence[_Row], colors: Sequence[str]) -> Axes:
    """Place everything on axes whose data units are points, so that text always has the room it needs."""
    samples, _, height, breadth = rows[0].images.shape
    ratio = height / breadth if samples else 1.0
    lines = [*head, *(line for row in rows for line in row.lines)]
    left = (
        max(width(name, NOTE, bold=True) for name in [*(line.name for line in lines), *(row.name for row in rows)])
        + 2 * PAD
    )
    fixed = 3 * LINE + len(lines) * LINE + len(rows) * 2 * PAD  # all that is not image, from top to bottom
    shown = max(samples, 3)
    if ax is None:
        size = (left + shown * (CELL + SPACE) + PAD, fixed + len(rows) * CELL * ratio)
        ax = NotebookFigure(figsize=(size[0] / 72, size[1] / 72)).add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    across, down = extent(ax)
    ax.set(xlim=(0, across), ylim=(down, 0), autoscale_on=False)
    title: dict[str, Any] = {"fontsize": TITLE, "fontweight": "bold", "color": INK}
    ax.text(PAD, PAD, "Thin ice: samples and their nearest adversarials", va="top", **title)
    if samples == 0:
        return message(ax, "No sample has an adversarial to show.")
    cell = max(1.0, min((across - left - PAD) / shown - SPACE, (down - fixed) / len(rows) / ratio))
    centres = left + (np.arange(samples) + 0.5) * (cell + SPACE)
    y = 2.2 * LINE
    for line in head:
        y = _write(ax, line, y, left=left, centres=centres, room=cell)
    name: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": NOTE, "fontweight": "bold", "color": INK}
    for row in rows:
        y += PAD
        ax.text(left - PAD, y + cell * ratio / 2, row.name, **name)
        for centre, image, color in zip(centres, row.images, colors, strict=True):
            corner = (centre - cell / 2, y)
            _show(ax, image, (corner[0], corner[0] + cell, y + cell * ratio, y))
            ax.add_patch(Rectangle(corner, cell, cell * ratio, fill=False, edgecolor=color, linewidth=1))
        y += cell * ratio + PAD
        for line in row.lines:
            y = _write(ax, line, y, left=left, centres=centres, room=cell)
    return ax


def _write(ax: Axes, line: _Line, y: float, *, left: float, centres: npt.NDArray[np.float64], room: float) -> float:
    """Write one line of text at y and return where the next begins."""
    base = y + NOTE
    ax.text(left - PAD, base, line.name, ha="right", va="baseline", fontsize=NOTE, color=MUTED)
    for centre, text, color in zip(centres, line.texts, line.colors, strict=True):
        shown = shorten(text, room, NOTE)
        ax.text(centre, base, shown, ha="center", va="baseline", fontsize=NOTE, color=color, family=fonts())
    return y + LINE


def _show(ax: Axes, image: Images, box: tuple[float, float, float, float]) -> None:
    """Draw one image (C, H, W) into a box of left, right, bottom, top."""
    look: dict[str, Any] = {"extent": box, "aspect": "auto", "vmin": 0, "vmax": 1}
    look["interpolation"] = "none" if max(image.shape) <= SMALL else "antialiased"
    if len(image) == 1:
        ax.imshow(image[0], cmap="gray", **look)
    else:
        ax.imshow(np.clip(image.transpose(1, 2, 0), 0, 1), **look)


def _amplified(delta: Images, peak: npt.NDArray[np.float32]) -> Images:
    """Return perturbations as colours: no change is the middle, the largest change of each sample an end."""
    scale = np.divide(0.5, peak, out=np.zeros_like(peak), where=peak > 0)
    return np.asarray(np.clip(0.5 + delta * scale[:, None, None, None], 0, 1))


def _images(values: npt.ArrayLike, name: str) -> Images:
    images = np.asarray(values, dtype=np.float32)
    if images.ndim != 4 or images.shape[1] not in CHANNELS:
        raise InputError(f"`{name}` must be images (N, C, H, W) with 1 or 3 channels, got shape {images.shape}")
    return images


def _class(number: int, classes: Sequence[str] | None) -> str:
    if number < 0:
        return "—"
    return plain(classes[number]) if classes is not None and number < len(classes) else str(number)


def _number(value: float) -> str:
    """Return three digits, without an exponent where one can do without."""
    if np.isinf(value):
        return "not found"
    return f"{value:.0f}" if 100 <= value < 1e6 else f"{value:.3g}"


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
        As of `thinice.slice_networks`, or ``thinice.boundary_slice(comparison)``.
    classes
        Names of the classes; by default their numbers.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Examples
    --------
    >>> import thinice
    >>> paths = thinice.example_checkpoints()
    >>> samples = thinice.load_samples("digits", limit=30)
    >>> result = thinice.compare(paths["dense"], paths["pruned-95"], samples, attack="fmn", steps=20, progress=False)
    >>> plot_boundary(thinice.boundary_slice(result, resolution=21)).get_title(loc="left")
    'Where pruning moved the boundary'
    """
    own = ax is None
    ax = styled_axes(ax, width=6.2, height=6.6)
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
    true = shorten(_class_at(plane.label, classes), 130, NOTE)
    notes = [f"Names: what {networks[0]} sees there, then {networks[1]}, if that is another class. True class: {true}."]
    heading(ax, "Where pruning moved the boundary", notes=notes, entries=entries)
    _finish_axes(ax, own=own)
    _names(ax, plane, classes)
    return ax


def _finish_axes(ax: Axes, *, own: bool) -> None:
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
            name = _class_at(dense, classes)
            if pruned != dense:
                name += f" | {_class_at(pruned, classes)}"
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


def _class_at(number: int, classes: Sequence[str] | None) -> str:
    if number < 0:
        return "—"
    return plain(classes[number]) if classes is not None and number < len(classes) else str(number)
