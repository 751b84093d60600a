"""The look that all figures share: colours, text that fits, units of epsilon, and axes with a heading above them.

Colours and marks first, then text and its width, then the units of the norms, then axes, headings and legends.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.textpath import text_to_path

from thinice.errors import InputError
from thinice.stats.base import FloatColumn
from thinice.types import Norm, Transition

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = [
    "INK",
    "MUTED",
    "NETWORKS",
    "REFERENCE",
    "TRANSITIONS",
    "UNITS",
    "NotebookFigure",
    "Style",
    "Unit",
    "extent",
    "fonts",
    "heading",
    "message",
    "network_style",
    "plain",
    "shorten",
    "spans_decades",
    "styled_axes",
    "tally",
    "tint",
    "unit_of",
    "width",
    "wrap",
]

INK = "#222222"
MUTED = "#666666"
REFERENCE: Mapping[str, Any] = {"color": INK, "linewidth": 1.0, "linestyle": (0, (1, 1.5))}
"""Lines to compare with: a budget, chance, the average."""

Dashes = tuple[int, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Style:
    """How one group of samples, or one network, looks in every figure."""

    color: str
    dashes: Dashes
    marker: str
    word: str = ""

    @property
    def line(self) -> dict[str, Any]:
        """The keywords of a matplotlib line."""
        return {"color": self.color, "linestyle": self.dashes, "linewidth": 1.8}


SOLID: Dashes = (0, ())
DASHED: Dashes = (0, (5, 1.6))
DOTTED: Dashes = (0, (1.2, 1.2))
DASH_DOT: Dashes = (0, (6, 1.5, 1.2, 1.5))
LONG: Dashes = (0, (9, 2))

# The eight colours of Okabe and Ito for colour-blind readers, as far as they are needed.
TRANSITIONS: Mapping[Transition, Style] = {
    Transition.KEPT: Style("#0072B2", SOLID, "o", "kept"),
    Transition.LOST: Style("#D55E00", DASHED, "X", "lost"),
    Transition.GAINED: Style("#009E73", DASH_DOT, "^", "gained"),
    Transition.WRONG: Style("#CC79A7", DOTTED, "s", "wrong"),
}
NETWORKS: tuple[Style, ...] = (
    Style("#000000", SOLID, "o"),
    Style("#E69F00", DASHED, "X"),
    Style("#56B4E9", DASH_DOT, "^"),
    Style("#009E73", DOTTED, "s"),
    Style("#CC79A7", LONG, "D"),
)
"""The dense network first, then pruned ones; `network_style` goes on from there."""


def network_style(index: int) -> Style:
    """Return the look of a network by its index: five colours in turn, each time round with other dashes and marks.

    Examples
    --------
    >>> network_style(0) == NETWORKS[0], network_style(5).color == NETWORKS[0].color
    (True, True)
    >>> len({(network_style(k).color, network_style(k).dashes) for k in range(25)})
    25
    """
    rounds, turn = divmod(index, len(NETWORKS))
    other = NETWORKS[(turn + rounds) % len(NETWORKS)]
    return Style(NETWORKS[turn].color, other.dashes, other.marker)


def tint(color: str, share: float = 0.3) -> str:
    """Return a colour thinned with white, opaque: what lies below does not shine through.

    Examples
    --------
    >>> tint("#000000", 0.2)
    '#cccccc'
    """
    parts = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - part)):02x}" for part in parts)


# Fonts that know more letters than matplotlib's own; those installed are asked in this order.
WIDE_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Emoji",
    "Arial Unicode MS",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Segoe UI Symbol",
    "WenQuanYi Zen Hei",
)


LONGEST = 400
"""Letters of a text that are measured: more are wider than any figure."""


def plain(text: object) -> str:
    r"""Return text that matplotlib draws letter by letter: no mathtext, no control signs, no missing glyphs.

    A letter that no installed font has is written as its code, ``\u732b``, instead of an empty box and a warning.

    Examples
    --------
    >>> plain("cost: $5\n")
    'cost: \\$5 '
    """
    letters = _letters()
    shown = (
        letter if ord(letter) in letters else letter.encode("unicode_escape").decode("ascii")
        for letter in (sign if sign.isprintable() else " " for sign in str(text))
    )
    return "".join(shown).replace("$", r"\$")


def fonts() -> tuple[str, ...]:
    """Return the font families for text that others wrote: the user's own, then installed fonts with many letters."""
    return (*mpl.rcParams["font.family"], *_wide_fonts())


def width(text: str, size: float, *, bold: bool = False) -> float:
    """Return how wide a line of `plain` text is, in points."""
    return _width(text, size, "bold" if bold else "normal", fonts())


def shorten(text: str, room: float, size: float) -> str:
    """Return `plain` text cut in the middle, with an ellipsis, to at most `room` points."""
    letters = text.replace(r"\$", "$")
    if len(letters) <= LONGEST and width(text, size) <= room:
        return text
    letters = letters if len(letters) <= LONGEST else letters[: LONGEST // 2] + letters[-LONGEST // 2 :]

    def cut(kept: int) -> str:
        ends = letters[: (kept + 1) // 2].rstrip(), letters[len(letters) - kept // 2 :].lstrip()
        return "…".join(ends).replace("$", r"\$")

    too_many = bisect_left(range(1, len(letters)), True, key=lambda kept: width(cut(kept), size) > room)
    return cut(too_many)


def wrap(text: str, room: float, size: float) -> list[str]:
    """Return the lines of `plain` text that fit into `room` points."""
    lines = [""]
    for word in (shorten(word, room, size) for word in text.split()):
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and width(longer, size) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


@lru_cache(maxsize=4096)
def _width(text: str, size: float, weight: str, family: tuple[str, ...]) -> float:
    font = FontProperties(family=family, size=size, weight=weight)
    line = text.replace(r"\$", "$")
    return float(text_to_path.get_text_width_height_descent(line, font, ismath=False)[0])


@cache
def _wide_fonts() -> tuple[str, ...]:
    installed = {entry.name for entry in fontManager.ttflist}
    return tuple(name for name in WIDE_FONTS if name in installed)


def _letters() -> frozenset[int]:
    """Return the code points that some font of `fonts` can draw."""
    return _letters_of(tuple(findfont(FontProperties(family=[family])) for family in fonts()))


@cache
def _letters_of(paths: tuple[str, ...]) -> frozenset[int]:
    return frozenset(code for path in paths for code in get_font(path).get_charmap())


@dataclass(frozen=True, slots=True)
class Unit:
    """The display unit of one norm's epsilons."""

    label: str
    """What stands at an axis."""
    scale: float = 1.0
    """A stored epsilon times this is what an axis shows."""
    suffix: str = ""

    def text(self, epsilon: float) -> str:
        """Return a stored epsilon as people read it: ``3.1/255`` or ``0.482``."""
        return f"{epsilon * self.scale:.3g}{self.suffix}"


ELL = "\N{SCRIPT SMALL L}"
UNITS: Mapping[Norm, Unit] = {
    "l0": Unit(f"ε ({ELL}0, values changed)"),
    "l1": Unit(f"ε ({ELL}1, [0, 1] scale)"),
    "l2": Unit(f"ε ({ELL}2, [0, 1] scale)"),
    "linf": Unit(f"ε ({ELL}∞, n/255)", scale=255.0, suffix="/255"),
}


def unit_of(norm: Norm) -> Unit:
    """Return the display unit of a norm, or raise InputError for one that is unknown.

    Examples
    --------
    >>> unit_of("linf").text(2 / 255), unit_of("l2").text(0.5)
    ('2/255', '0.5')
    """
    if norm not in UNITS:
        raise InputError(f"`norm` is {norm!r}: the norms are {', '.join(UNITS)}")
    return UNITS[norm]


TITLE, LABEL, TICK, NOTE = 11.0, 10.0, 9.0, 8.0
"""Font sizes in points."""
PAGE = 96
"""Pixels of a web page to the inch."""
HANDLE, GAP = 24.0, 14.0
"""Length of a legend's line and the space between its columns, in points."""


class NotebookFigure(Figure):
    """A figure that belongs to no window and shows itself in a notebook, also where pyplot was never imported."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the picture for a notebook, twice as fine as it is shown, and its size in pixels of the page."""
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=2 * PAGE)
        wide, high = (round(PAGE * inches) for inches in self.get_size_inches())
        return file.getvalue(), {"width": wide, "height": high}


def styled_axes(ax: Axes | None, *, width: float = 6.4, height: float = 4.2) -> Axes:
    """Return the axes given, or those of a new figure (inches) that belongs to no window, dressed."""
    if ax is None:
        ax = NotebookFigure(figsize=(width, height), layout="constrained").subplots()
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
    filled = [group for group in groups if len(group)]
    return bool(filled) and 50 * min(np.median(group) for group in filled) < max(group.max() for group in filled)


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
