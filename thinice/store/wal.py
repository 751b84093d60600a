"""The log beside a store, which holds what was committed last: one that belongs elsewhere, and one that is damaged.

DuckDB folds the log into the file when the last writer leaves. After a crash it stays, and is read with the file.
Nothing in the file says how long its log was. So what can be noticed is a log of another file, a log with a wrong
checksum, and one that ends in something that DuckDB did not read, to the precision in which it tells sizes. What
cannot be noticed is a log that was removed, or cut exactly between two transactions.
"""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING

from thinice.errors import StoreWarning
from thinice.printable import LONGEST_MESSAGE, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["identity", "log_of", "making", "orphaned", "set_aside", "tell"]


def log_of(path: Path) -> Path:
    """Return where the log of a store is, if it has one."""
    return path.with_name(f"{path.name}.wal")


def identity(log: Path) -> tuple[int, int, int] | None:
    """Return what tells a log from any other that may take its name; None where there is none."""
    try:
        seen = log.lstat()
    except FileNotFoundError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns


def tell(message: str) -> None:
    """Warn of a store."""
    warnings.warn(shown(message, LONGEST_MESSAGE), StoreWarning, stacklevel=2)


@contextmanager
def making(folder: Path) -> Iterator[None]:
    """Hold off other processes that make a store in a folder, where its file system can."""
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # without locks: two that make the same store at the same time are rare
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def set_aside(log: Path) -> None:
    """Rename a log that belongs to no store here, and warn of it; nothing is deleted."""
    for k in count(1):
        aside = log.with_name(f"{log.name}.orphan-{k}")
        if not aside.exists():
            log.rename(aside)
            tell(f"{log} belonged to another store, and was renamed to {aside.name}: put it back beside its own")
            return


def orphaned(path: Path, seen: tuple[int, int, int] | None) -> bool:
    """Set the log beside a store aside if it is still the one that was seen not to fit; False if that is not safe.

    Safe it is while nobody else has the store open, for a writer may just have begun a log of its own.
    """
    log = log_of(path)
    try:
        with path.open("r+b") as file:
            if sys.platform != "win32":  # there a file in use cannot be renamed
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if identity(log) == seen is not None:
                set_aside(log)
    except OSError:
        return False
    return True
