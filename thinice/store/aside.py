"""Writing past a reader that never lets go: it keeps the old file, and everybody else moves on to a copy."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["step_aside"]


def step_aside(path: Path) -> bool:
    """Replace a database by its own copy, so that those who read the old one lock nobody; False if that is not safe.

    Safe it is while every lock on the file is a reader's, and no other process does the same. This holds while we
    have a reader's lock on the database and the writer's lock on the file beside it that becomes the copy: from
    the first look until the copy has taken the name, nobody can write. A log that a killed writer left beside the
    file fits the copy as well, byte by byte the same.
    """
    if sys.platform == "win32":  # a file in use cannot be replaced there
        return False
    copy = path.with_name(f"{path.name}.aside")
    try:
        with copy.open("ab") as target:
            fcntl.lockf(target, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is(target, copy):  # another process was faster: what we locked is the store by now
                return False
            try:
                return _replace(path, copy, target)
            finally:
                if _is(target, copy):
                    copy.unlink()
    except OSError:  # a writer's lock, no right to write here, a full disk: the caller waits on instead
        return False


def _replace(path: Path, copy: Path, target: BinaryIO) -> bool:
    with path.open("rb") as source:
        fcntl.lockf(source, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if not _is(source, path):
            return False
        target.truncate(0)
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()
        os.fsync(target.fileno())
        shutil.copymode(path, copy)
        copy.replace(path)
        return True


def _is(file: BinaryIO, path: Path) -> bool:
    """Whether an open file still has that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
