"""Text that others wrote, made safe to draw, and cut to the room there is."""

from __future__ import annotations

from bisect import bisect_left
from functools import cache, lru_cache

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.textpath import text_to_path

__all__ = ["fonts", "plain", "shorten", "width", "wrap"]

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
