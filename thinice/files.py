"""Files that thinice writes: what may be replaced, and each complete under its name or not there at all."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from thinice.errors import InputError
from thinice.process import Process, this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike

__all__ = [
    "HEAD",
    "expanded",
    "make_folder",
    "read_whole",
    "refuse_folder",
    "temporary_folder",
    "unwritable",
    "writable",
]


def expanded(path: str | os.PathLike[str], argument: str = "path") -> Path:
    """Return a path with ``~`` and ``~name`` replaced by the home folder.

    Raises
    ------
    InputError
        Where there is no such user, no home folder, or a NUL in the path.

    Examples
    --------
    >>> expanded("~nosuchuser/dense.pt")
    Traceback (most recent call last):
    ...
    thinice.errors.InputError: `path` ~nosuchuser/dense.pt: ~nosuchuser has no home folder: write the path in full

    """
    as_given = Path(path)
    if "\0" in str(as_given):
        raise InputError(f"`{argument}` {str(as_given)!r} holds a NUL, which no path can: write the path without it")
    try:
        return as_given.expanduser()
    except RuntimeError:
        way_out = "write the path in full"
        raise InputError(f"`{argument}` {as_given}: {as_given.parts[0]} has no home folder: {way_out}") from None


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


HEAD = 4096
"""Bytes at the beginning of a file by which its kind is recognised."""

DUCKDB = slice(8, 12), b"DUCK"
"""Where every DuckDB database says what it is."""


def writable(
    path: str | PathLike[str],
    *,
    argument: str,
    like: Callable[[bytes], bool] | None = None,
    kind: str = "a file of that kind",
    overwrite: bool | None = None,
    store: Path | None = None,
) -> Path:
    """Return the path of a file that may be written, before any work is done for it.

    What is there already is replaced where it is empty, is `like` what will be written, or with `overwrite`. Never
    replaced are a DuckDB database and the log beside `store`, and what is no regular file: a folder, a device, a FIFO,
    and a symbolic link, which may lead anywhere.

    Parameters
    ----------
    path : path-like
        Where to write.
    argument : str
        What the caller calls it.
    like : callable, optional
        Whether a file that begins with these bytes, at most `HEAD`, may be replaced unasked; by default none may.
    kind : str
        What `like` recognises.
    overwrite : bool, optional
        Replace regular files of any kind; None where the caller does not offer that.
    store : Path, optional
        The store that is read: neither it nor its log is ever written.

    Raises
    ------
    InputError
        Where the file must not, or cannot, be written.

    """
    target = expanded(path, argument)
    named = f"`{argument}` {target}"
    if store is not None and any(_same(target, other) for other in (store, store.with_name(f"{store.name}.wal"))):
        raise InputError(f"{named} is the store itself, or its log: choose another path")
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InputError(f"{named} cannot be written: {error.strerror or error}") from None
    else:
        _refuse_present(target, mode, named, like=like, kind=kind, overwrite=overwrite)
    refuse_folder(target.parent, named)
    return target


def _refuse_present(
    target: Path, mode: int, named: str, *, like: Callable[[bytes], bool] | None, kind: str, overwrite: bool | None
) -> None:
    if stat.S_ISLNK(mode):
        raise InputError(f"{named} is a symbolic link: give the path of a file itself")
    if not stat.S_ISREG(mode):
        raise InputError(f"{named} is a folder, a device or the like, and is not replaced: give the path of a file")
    try:
        with target.open("rb") as file:
            head = file.read(HEAD)
    except OSError:  # not ours to read
        head = b""
        like = None
    if head[DUCKDB[0]] == DUCKDB[1]:
        raise InputError(f"{named} is a DuckDB database, which is never replaced: choose another path")
    if overwrite or (like is not None and (not head or like(head))):
        return
    what = "is there already" if like is None else f"is there already and is not {kind}"
    way = "" if overwrite is None else ", or replace it: `--overwrite`, in Python `overwrite=True`"
    raise InputError(f"{named} {what}: choose another path{way}")


def refuse_folder(folder: Path, named: str) -> None:
    """Raise InputError where a folder takes no file; only making one tells (rights, read-only disks, quotas)."""
    if not folder.is_dir():
        raise InputError(f"{named} cannot be written: there is no folder {folder}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{named} cannot be written: {error.strerror or error}") from None


def make_folder(folder: Path, named: str) -> None:
    """Make a folder, and those above it, or raise InputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{named} cannot be written: the folder {folder} cannot be made ({error.strerror or error}): choose "
            "another path"
        ) from None


def _same(target: Path, other: Path) -> bool:
    """Whether two paths are one file, under whatever name, or would be if they were there."""
    try:
        return target.samefile(other)
    except OSError:
        return target.resolve() == other.resolve()


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder for unfinished files inside `folder`, from which each is moved to its name; then it vanishes.

    Those that killed processes of this machine left there vanish first.
    """
    _sweep(folder)
    me = this_process()
    prefix = f".thinice-{me.pid}-{me.started or 0}-{_mark(me.host)}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as unfinished:
        yield Path(unfinished)


def _sweep(folder: Path) -> None:
    host = socket.gethostname()
    for left in folder.glob(".thinice-*"):
        parts = re.fullmatch(r"\.thinice-(\d{1,9})-(\d{1,20})-([0-9a-f]{8})-\w+", left.name)
        if parts is None or parts[3] != _mark(host):
            continue
        started = None if parts[2] == "0" else parts[2]
        if Process(host, int(parts[1]), started).is_gone:
            shutil.rmtree(left, ignore_errors=True)  # another process may be sweeping too


def _mark(host: str) -> str:
    return f"{zlib.crc32(host.encode()):08x}"
