"""Paths that users and strangers give: a home that is there, files that end, names that can be written down."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from thinice.errors import InputError

__all__ = ["expanded", "read_whole", "unwritable"]


def expanded(path: str | os.PathLike[str], argument: str = "path") -> Path:
    """Return a path with ``~`` and ``~name`` replaced by the home folder.

    Raises
    ------
    InputError
        Where there is no such user, or no home folder.

    Examples
    --------
    >>> expanded("~nosuchuser/dense.pt")
    Traceback (most recent call last):
    ...
    thinice.errors.InputError: `path` ~nosuchuser/dense.pt: ~nosuchuser has no home folder: write the path in full

    """
    place = Path(path)
    try:
        return place.expanduser()
    except RuntimeError:
        way_out = "write the path in full"
        raise InputError(f"`{argument}` {place}: {place.parts[0]} has no home folder: {way_out}") from None


def read_whole(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the content of a regular file of at most `most` bytes; pipes and devices may have no end.

    Raises
    ------
    OSError
        Where it is another kind of file, longer, or cannot be read.

    """
    kind = Path(path).stat()  # follows links
    if not stat.S_ISREG(kind.st_mode):
        raise OSError("a folder, pipe or device, not a regular file")
    if kind.st_size > most:
        raise OSError(f"{kind.st_size:,} bytes, more than the {most:,} that are read")
    with Path(path).open("rb") as file:
        return file.read(most)


def unwritable(name: str) -> bool:
    r"""Return whether a name is not UTF-8, as file names may be, so that neither store nor page can keep it.

    >>> unwritable("café"), unwritable(os.fsdecode(b"caf\xe9"))
    (False, True)
    """
    return not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name)
