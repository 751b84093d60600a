"""Rows and messages as text on standard output and standard error, printable in any encoding.

Text of strangers cannot steer the terminal: control characters are escaped.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from thinice.cli.options import Format
from thinice.errors import DoubtfulWarning
from thinice.printable import FORMULA, LONGEST_MESSAGE, escaped, shown

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "WIDTH",
    "Messages",
    "accept_any_encoding",
    "aligned",
    "folded",
    "put",
    "put_rows",
    "records",
    "render",
    "wrapped",
]

ASCII_MARKS = {"─": "-", "…": "...", "\N{EN DASH}": "-", "—": "-", "→": "->", "ε": "epsilon", "√": "sqrt"}
"""What thinice's own rules and marks become where a stream cannot show them; other characters become escapes."""

WIDTH = 120
"""Letters of a line, where it is not a terminal that says how wide it is."""
BETWEEN = "  "
"""What parts columns."""
SENTENCE = 40
"""Letters that a column of sentences has at least."""


def accept_any_encoding() -> None:
    """Make standard output and error write what their encoding lacks in ASCII, instead of failing."""
    codecs.register_error("thinice", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="thinice")


def put(text: str, how: Format = Format.TABLE) -> None:
    """Print to standard output; CSV keeps control characters on its way into a file or a program, not to a terminal."""
    if how is Format.JSON:
        text = re.sub(r"[^\x00-\x7f]", _as_json, text)
    elif how is not Format.CSV or sys.stdout.isatty():
        text = escaped(text, keep="\n")
    print(text)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    plain = (ASCII_MARKS.get(letter) or letter.encode("unicode_escape").decode("ascii") for letter in letters)
    return "".join(plain), error.end


def _as_json(letter: re.Match[str]) -> str:
    """Return a character as JSON escapes it where the stream cannot show it as it is."""
    try:
        letter[0].encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return json.dumps(letter[0])[1:-1]
    return letter[0]


class Messages:
    """Prints messages to standard error; none where `quiet`."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet

    def __call__(self, message: str) -> None:
        """Print one message."""
        if not self.quiet:
            print(shown(message, LONGEST_MESSAGE), file=sys.stderr, flush=True)

    @contextmanager
    def doubts(self) -> Iterator[list[str]]:
        """Say the warnings of networks and evaluations as they come, a line for each sentence; yield what was said."""
        said: list[str] = []

        def show(message: Warning | str, *details: Any, **more: Any) -> None:  # noqa: ANN401 (of the module `warnings`)
            if not isinstance(message, DoubtfulWarning):
                show_others(message, *details, **more)
                return
            said.extend(message.texts)
            for text in message.texts:
                self(f"warning: {text}" if message.network is None else f"warning: {message.network}: {text}")

        with warnings.catch_warnings():
            warnings.simplefilter("always", DoubtfulWarning)
            show_others, warnings.showwarning = warnings.showwarning, show
            yield said

    def notes(self, name: str, notes: tuple[str, ...]) -> None:
        """Print the notes on a file or data set, each after its name."""
        for note in notes:
            self(f"{name}: {note}")


Row = Mapping[str, object]

WHOLE_FROM, WHOLE_UP_TO = 1e3, 1e9
"""Between these, tables for people have whole numbers."""
LONGEST_CELL = 300
"""Of tables for people; the answers of the store's checks are shorter, and CSV and JSON hold the whole text."""

UNPRINTABLE = re.compile(r"[^\x20-\x7e\n]")
"""What JSON may have to escape; the newlines outside of its strings are layout."""


def render(rows: Sequence[Row], how: Format) -> str:
    """Return the rows as text; missing values are empty (null in JSON), never NaN.

    In tables for people, text is printable and bounded in length. In CSV, text that a spreadsheet would run as a
    formula has an apostrophe before it; numbers are left alone.

    >>> print(render([{"name": "a", "n": 1}, {"name": "b", "n": None}], Format.CSV))
    name,n
    a,1
    b,
    """
    if how is Format.JSON:
        plain = [{key: _plain(value) for key, value in row.items()} for row in rows]
        return UNPRINTABLE.sub(_escaped_in_json, json.dumps(plain, indent=2, default=str, ensure_ascii=False))
    if not rows:
        return "no rows" if how is Format.TABLE else ""
    names = list(rows[0])
    cells = [[_cell(row.get(name), how) for name in names] for row in rows]
    names = [_cell(name, how) for name in names]
    if how is Format.CSV:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([names, *cells])
        return text.getvalue().rstrip("\n")
    if how is Format.MARKDOWN:
        lines = [names, ["---"] * len(names), *cells]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return folded([names, *cells])


def put_rows(rows: Sequence[Row], how: Format) -> None:
    """Print the rows to standard output."""
    put(render(rows, how), how)


def records(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of a frame, with None for what is missing."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [dict(zip(frame.columns, row, strict=True)) for row in plain.itertuples(index=False)]


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells in columns, numbers to the right, a rule below the first line."""
    widths = _widths(lines)
    right = [all(_is_number(line[k]) for line in lines[1:] if line[k]) for k in range(len(widths))]
    shown = [
        BETWEEN.join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([shown[0], BETWEEN.join("─" * width for width in widths), *shown[1:]])


def folded(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells in columns that fit on a terminal.

    Where they do not, sentences in the widest column are wrapped; else each row becomes a column, as where networks are
    compared; else the columns stand in several tables below each other, each with the first column.

    >>> rows = [["name", *(f"value of {letter}" for letter in "abcdefghijkl")], ["dense", *"0123456789", "", "-"]]
    >>> folded(rows).splitlines()[:3]
    ['name        dense', '──────────  ─────', 'value of a  0']
    """
    room = shutil.get_terminal_size((WIDTH, 0)).columns if sys.stdout.isatty() else WIDTH
    widths = _widths(lines)
    if _width(widths) <= room:
        return aligned(lines)
    widest = widths.index(max(widths))
    left = room - _width(widths) + widths[widest]
    if left >= SENTENCE and all(len(word) <= left for line in lines for word in line[widest].split()):
        return aligned([part for line in lines for part in _wrapped_cell(line, widest, left)])
    turned = list(zip(*lines, strict=True))
    if _width(_widths(turned)) <= room:
        return aligned(turned)
    parts = [[0]]
    for k in range(1, len(widths)):
        if len(parts[-1]) > 1 and _width([widths[column] for column in (*parts[-1], k)]) > room:
            parts.append([0])
        parts[-1].append(k)
    return "\n\n".join(aligned([[line[k] for k in part] for line in lines]) for part in parts)


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _width(widths: Sequence[int]) -> int:
    """Return how wide columns are together."""
    return sum(widths) + len(BETWEEN) * (len(widths) - 1)


def _wrapped_cell(line: Sequence[str], column: int, width: int) -> Iterator[list[str]]:
    """Yield a line with one of its cells in several lines, which have nothing in the other columns."""
    for number, part in enumerate(textwrap.wrap(line[column], width, break_on_hyphens=False) or [""]):
        rest = ["" if number else cell for cell in line]
        yield [*rest[:column], part, *rest[column + 1 :]]


def wrapped(sentences: str) -> str:
    """Return sentences in lines that fit on a terminal; names are not broken.

    >>> [len(line) for line in wrapped("nine letters " * 20).splitlines()]
    [116, 116, 25]
    """
    return textwrap.fill(sentences, WIDTH, break_long_words=False, break_on_hyphens=False)


def _is_number(cell: str) -> bool:
    return cell.lstrip("-+").replace(".", "").replace("e-", "").replace("/255", "").replace("%", "").strip().isdecimal()


def _plain(value: object) -> object:
    """Return a value as JSON knows it where it does; lists and objects of SQL keep their shape, blobs become hex."""
    if hasattr(value, "tolist"):  # of NumPy, an array or a single number
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, Decimal):
        return float(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: object, how: Format) -> str:
    if isinstance(value, bytes | bytearray) and how is not Format.CSV:
        return f"{len(value)} bytes"
    value = _plain(value)
    if value is None:
        return ""
    if isinstance(value, list | dict):
        text = json.dumps(value, default=str, ensure_ascii=False)
        return text if how is Format.CSV else shown(text, LONGEST_CELL)
    if isinstance(value, float):
        form = ".0f" if WHOLE_FROM <= abs(value) < WHOLE_UP_TO else ".4g"
        return repr(value) if how is Format.CSV else f"{value:{form}}"
    text = str(value)
    if how is not Format.CSV:
        return shown(" ".join(text.split()), LONGEST_CELL)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA) else text


def _escaped_in_json(letter: re.Match[str]) -> str:
    return letter[0] if letter[0].isprintable() else json.dumps(letter[0])[1:-1]
