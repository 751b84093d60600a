"""Standard output and standard error: nothing steers the terminal, and no encoding is too small."""

from __future__ import annotations

import codecs
import io
import json
import re
import sys

from thinice.cli.options import Format
from thinice.names import escaped

__all__ = ["accept_any_encoding", "put"]

ASCII_MARKS = {"─": "-", "…": "...", "\N{EN DASH}": "-", "—": "-", "→": "->", "ε": "epsilon", "√": "sqrt"}
"""What thinice's own rules and marks become where a stream cannot show them; other characters become escapes."""


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
