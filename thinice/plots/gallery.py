"""The thinnest samples beside their adversarial neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.patches import Rectangle

from thinice.errors import InputError
from thinice.plots.palette import INK, MUTED, TRANSITIONS
from thinice.plots.sheet import NOTE, TITLE, Drawing, extent, message
from thinice.plots.text import fonts, plain, shorten, width
from thinice.plots.units import Unit, unit_of
from thinice.stats.columns import check_lengths, epsilon_column, transition_column
from thinice.types import Norm, Transition

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CHANNELS", "plot_gallery"]

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
        ax = Drawing(figsize=(size[0] / 72, size[1] / 72)).add_axes((0, 0, 1, 1))
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
