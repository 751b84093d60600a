"""What was read of image files before: of very many, each job of an array would otherwise read them all to hash them.

A file counts as the one that was read while its size, its inode and the moments at which its content and its status
changed are the same. The table is a file of the user's own (`thinice.data.data_folder`) and can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thinice.data import data_folder
from thinice.files import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["MANY", "ROW", "read_before", "remember", "table_of"]

MANY = 10_000
"""Of fewer files than this none are remembered: they are read in seconds."""
UNSEEN = 2.0
"""Seconds since its last change after which a file is remembered: within a tick of the clock it may change unseen."""
ROW = np.dtype([("path", "<u8"), ("state", "<u8"), ("digest", "<u8"), ("width", "<i4"), ("height", "<i4")])
"""Hashes of a file's path and of its state; the hash of its content, and its size in pixels."""


def table_of(folder: Path, image_size: int | None) -> Path:
    """Return the file of the table of a folder's images in one size."""
    key = hashlib.blake2b(f"{image_size} ".encode() + os.fsencode(folder.absolute()), digest_size=8)
    return data_folder() / "hashed" / f"{key.hexdigest()}.npy"


def read_before(table: Path, paths: Sequence[str]) -> tuple[NDArray[np.void], NDArray[np.bool_]]:
    """Return a row for each file, and whether it is filled: the file is the one that a table has.

    A table that cannot be read is none.
    """
    rows = np.zeros(len(paths), ROW)
    rows["path"] = [_hash(os.fsencode(path)) for path in paths]
    rows["state"] = [_state(path) for path in paths]
    known = np.zeros(0, ROW)
    with suppress(OSError, ValueError, EOFError):
        loaded = np.load(table, allow_pickle=False)
        known = loaded if loaded.dtype == ROW and loaded.ndim == 1 else known
    if not len(known):
        return rows, np.zeros(len(paths), bool)
    known = known[np.argsort(known["path"], kind="stable")]
    found = known[np.searchsorted(known["path"], rows["path"]).clip(max=len(known) - 1)]
    same = (found["path"] == rows["path"]) & (found["state"] == rows["state"]) & (rows["state"] != 0)
    rows[same] = found[same]
    return rows, same


def remember(table: Path, rows: NDArray[np.void]) -> None:
    """Write the rows of a table, whole or not at all; without room for it the files are read again the next time."""
    with suppress(OSError):
        table.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(table.parent) as folder:
            np.save(folder / table.name, rows, allow_pickle=False)
            (folder / table.name).replace(table)


def _state(path: str) -> int:
    """Return a hash of what changes with a file, 0 where it cannot be seen or has just changed."""
    try:
        status = Path(path).stat()
    except OSError:
        return 0
    if time.time() - max(status.st_mtime, status.st_ctime) < UNSEEN:
        return 0
    return _hash(f"{status.st_size} {status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}".encode())


def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
