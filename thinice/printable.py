"""What strangers named, as people can read it: no control characters, and no longer than a line of text.

And values of tables and results as plain Python.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMULA", "LONGEST_MESSAGE", "LONGEST_NAME", "escaped", "plain", "records", "shown"]

LONGEST_NAME = 60
LONGEST_MESSAGE = 1000

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How text begins that a spreadsheet takes for a formula."""


def escaped(text: str, *, keep: str = "") -> str:
    r"""Return a text with its unprintable characters as backslash escapes, but for those to `keep`.

    What is not printable are the control characters that steer a terminal (ESC, BEL, C1), those that turn the direction
    of writing (U+202E), invisible ones, and halves of characters from names that are not UTF-8.

    Examples
    --------
    >>> print(escaped("a\x1b[2Jb\u202ec"))
    a\x1b[2Jb\u202ec
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def shown(text: str, longest: int = LONGEST_NAME) -> str:
    r"""Return a name or a message as one printable line of at most `longest` characters, cut in the middle.

    Examples
    --------
    >>> print(shown("dense\n.pt"), shown("a" * 500 + ".pt", 12))
    dense\n.pt aaaaaa…aa.pt
    """
    line = escaped(text if len(text) <= longest else text[:longest] + text[-longest:])  # never escape megabytes
    if len(text) <= longest and len(line) <= longest:
        return line
    head = longest // 2
    return f"{line[:head]}…{line[len(line) - (longest - head - 1) :]}"


def plain(value: Any) -> Any:  # noqa: ANN401 - anything
    """Return a value as JSON knows it: arrays and tuples as lists, numbers of NumPy as Python's, NaN and inf as None.

    >>> plain({"auc": float("nan"), 1: (2, 3)})
    {'auc': None, '1': [2, 3]}
    """
    if hasattr(value, "tolist"):  # of NumPy, an array or a single number
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, dict):
        return {str(name): plain(entry) for name, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as plain Python, with None for what is missing."""
    rows = frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None)
    return [{str(name): plain(value) for name, value in zip(frame.columns, row, strict=True)} for row in rows]
