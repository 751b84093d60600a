"""Short-lived connections: wait for the file, do one thing, let go of it.

DuckDB locks the file of an open connection: one process may write, or many may read, never both. So nobody here
keeps a connection. A reader holds the file for one query, a writer for one transaction (some 20 ms), and whoever
meets a lock tries again for a while. Threads of one process take turns, for locks of files do not part them.

A store may come from a stranger: a connection reads and writes that one file and nothing else, and loads no
extensions.

Starting a DuckDB takes four times as long as attaching a file to it. So thinice's own statements, of which a comparison
has hundreds, use the DuckDB of the statement before, to which the same file is attached again. So do the selects of
users, in another one whose settings are locked; their other statements get one of their own.
"""

from __future__ import annotations

import os
import random
import re
import stat
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import duckdb
import numpy as np

from thinice.errors import InputError, StoreError
from thinice.files import expanded, unwritable
from thinice.store.wal import identity, log_of, orphaned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "Connection",
    "ask",
    "damaged",
    "interruptibly",
    "located",
    "merging",
    "missing",
    "one_line",
    "plain",
    "quoted",
    "reading",
    "reading_both",
    "writing",
]

Connection = duckdb.DuckDBPyConnection
T = TypeVar("T")
Mode = Literal["read_only", "read_write"]

STORAGE_VERSION = "v1.4.0"
"""The file format: DuckDB 2.0's own default could not be read by the DuckDB 1.x inside other tools."""

TICK = 0.05
"""Seconds between two looks at the clock, and for Ctrl-C where a waiting thread does not hear it (Windows)."""

MISMATCH = "WAL does not match database file"
"""What DuckDB says of a log beside a file that it does not belong to."""

DAMAGE = ("Could not read enough bytes", "Corrupt database file", "Failed to load metadata pointer")
"""What DuckDB says of a file that was cut off, or changed by something else."""

READ_ONLY = "in read-only mode"
"""What DuckDB says of another process that reads a file."""
FOR_READERS = 20
"""A question to a store of ten million rows may take minutes."""
FULL, TOO_LARGE = "No space left on device", "File too large"

LOG_BYTES = 16 << 20
"""A log of this size is read in a tenth of a second."""

_turns: defaultdict[Path, threading.RLock] = defaultdict(threading.RLock)
_idle: dict[tuple[Path, bool], Connection] = {}
"""The DuckDB of the last store for thinice's own statements, and that for selects of users (True); no file is open."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_turns.clear)  # a lock held by another thread is never released in a child
    os.register_at_fork(before=_idle.clear)  # a child that ends a DuckDB of its parent crashes


def located(path: str | os.PathLike[str]) -> Path:
    """Return where the file of a store is: absolute, with ``~`` replaced and links followed.

    Raises
    ------
    InputError
        Where ``~`` stands for no folder, or the path is not UTF-8, which DuckDB opens no file without.

    """
    file = expanded(path).resolve()
    if unwritable(str(file)):
        raise InputError(f"`path` {file} is not UTF-8, and DuckDB opens no such file: name store and folders in UTF-8")
    return file


@contextmanager
def reading(
    path: Path, patience: float, *, folder: Path | None = None, own: bool = False, select: bool = False
) -> Iterator[Connection]:
    """Yield a read-only connection to a store that can touch no other file, but may write into `folder`.

    For thinice's `own` queries, and for a `select` of a user, which leaves nothing behind, it may be to the DuckDB of
    an earlier one.
    """
    if not path.exists():
        raise missing(path)
    with (
        _turns[path],
        _attached(path, "read_only", patience, folder=folder, locked=not own, again=own or select) as connection,
    ):
        yield connection


@contextmanager
def writing(
    path: Path, patience: float, *, create: bool = False, bulky: bool = False, in_a_run: bool = False
) -> Iterator[Connection]:
    """Yield a connection inside a transaction: committed at the end, undone by any exception.

    `in_a_run`, which has results to lose, it waits `FOR_READERS` times as long for whoever only reads.

    DuckDB commits into a log beside the file and folds the log into the file when the connection is closed. That
    rewrites the last 122 880 rows of a table, whatever they weigh: a `bulky` transaction (rows of many kilobytes)
    leaves it to a later one, until the log has an eighth of the file's size.
    """
    if not (create or path.exists()):  # attaching would make an empty one
        raise missing(path)
    for_readers = patience * FOR_READERS if in_a_run else patience
    with (
        _turns[path],
        _attached(path, "read_write", patience, again=True, bulky=bulky, for_readers=for_readers) as connection,
    ):
        connection.execute("begin")
        yield connection
        connection.execute("commit")  # without it, closing the connection undoes everything


@contextmanager
def merging(path: Path, part: Path, patience: float) -> Iterator[Connection]:
    """Yield a connection as `writing` does, to which another store is attached as well, read only, as ``part``."""
    if not part.exists():
        raise missing(part)
    with _turns[path], _attached(path, "read_write", patience, beside={"part": part}) as connection:
        connection.execute("begin")
        yield connection
        connection.execute("commit")


@contextmanager
def reading_both(path: Path, other: Path, patience: float) -> Iterator[Connection]:
    """Yield a connection as `reading` does for thinice's own queries, with another store attached as ``other``."""
    for file in (path, other):
        if not file.exists():
            raise missing(file)
    with _turns[path], _attached(path, "read_only", patience, beside={"other": other}) as connection:
        yield connection


@contextmanager
def _attached(
    path: Path,
    mode: Mode,
    patience: float,
    *,
    folder: Path | None = None,
    locked: bool = False,
    again: bool = False,
    bulky: bool = False,
    beside: Mapping[str, Path] | None = None,
    for_readers: float | None = None,
) -> Iterator[Connection]:
    """Yield a connection to a DuckDB with a store attached, its settings `locked`; it may be used `again`.

    Stores `beside` it are attached under their names, to be read.
    """
    idle = _idle.pop((path, locked), None) if again else None
    duck = _started() if idle is None else idle
    with ExitStack() as stack, _ctrl_c_as_such():
        stack.callback(duck.close)
        _attach(duck, path, mode, patience, for_readers=patience if for_readers is None else for_readers)
        for name, file in (beside or {}).items():
            _attach(duck, file, "read_only", patience, name=name, for_readers=patience)
        try:
            if folder is not None:
                duck.execute("set allowed_directories = [$folder]", {"folder": str(folder)})
            if idle is None:
                duck.execute("set enable_external_access = false")  # but for what is attached now, and again later
                if locked:
                    duck.execute("set lock_configuration = true")
            if bulky:
                duck.execute("pragma disable_checkpoint_on_shutdown")
                duck.execute(f"set wal_autocheckpoint = '{max(LOG_BYTES, path.stat().st_size // 8)}B'")
            with duck.cursor() as connection:
                connection.execute("use store")
                yield connection
            if again and _rests(duck, bulky=bulky):
                stack.pop_all()
                for key in [key for key in (*_idle,) if key[1] == locked]:
                    _idle.pop(key, None)
                _idle[path, locked] = duck
        except duckdb.Error as error:
            raise StoreError(_failure(path, error)) from error


@contextmanager
def _ctrl_c_as_such() -> Iterator[None]:
    """Raise the KeyboardInterrupt that DuckDB replaces by an error of its own, which looks like a failed query."""
    try:
        yield
    except RuntimeError as error:
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


def _started() -> Connection:
    """Return a new DuckDB without any file."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",  # a name in a query is never a variable of Python
        "temp_directory": str(Path(tempfile.gettempdir()) / f"thinice-{os.getpid()}"),
    }
    return duckdb.connect(":memory:", config=settings)


def _rests(duck: Connection, *, bulky: bool) -> bool:
    """Let go of the store, with the settings of every other transaction again, and return whether that succeeded."""
    try:
        duck.execute("detach store")
    except duckdb.Error:  # no room for folding the log into the file: what was committed stays in the log
        return False
    if bulky:
        duck.execute("pragma enable_checkpoint_on_shutdown")
        duck.execute("reset wal_autocheckpoint")
    return True


def _attach(
    connection: Connection, path: Path, mode: Mode, patience: float, *, for_readers: float, name: str = "store"
) -> None:
    start = time.monotonic()
    while True:
        log = identity(log_of(path))
        _refuse_other_kinds(path)
        try:
            _attach_now(connection, path, mode, name)
        except duckdb.Error as error:
            waited = time.monotonic() - start
            if MISMATCH in str(error) and orphaned(path, log):
                continue
            if not _locked(error) or waited >= (for_readers if READ_ONLY in str(error) else patience):
                raise _refusal(path, error) from None
            time.sleep(random.uniform(0.002, 0.02))  # noqa: S311 - waiting, not cryptography
        else:
            return


def _refuse_other_kinds(path: Path) -> None:
    """Raise StoreError where a store or its log is no regular file: a pipe is waited for without end."""
    kind = _other_kind(path)
    if kind is not None:
        raise StoreError(f"{path} cannot be opened, for it is a {kind}: give the path of a DuckDB file, or a new one")
    log = log_of(path)
    kind = _other_kind(log)
    if kind is not None:
        raise StoreError(f"{path} cannot be opened, for {log.name} beside it is a {kind} and no log: move that away")


def _other_kind(path: Path) -> str | None:
    """Return what is under a name, links followed, if it is no regular file; None where there is nothing."""
    try:
        mode = path.stat().st_mode
    except OSError:  # DuckDB says why it cannot be read, if it is there at all
        return None
    if stat.S_ISREG(mode):
        return None
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def _attach_now(connection: Connection, path: Path, mode: Mode, name: str) -> None:
    file = str(path).replace("'", "''")  # DuckDB 1.x binds no parameter here
    options = "read_only" if mode == "read_only" else f"storage_version '{STORAGE_VERSION}'"
    connection.execute(f"attach '{file}' as {name} (type duckdb, {options})")


def ask(connection: Connection, statement: str, **parameters: object) -> list[tuple[Any, ...]]:
    """Run a statement to its end and return its rows: a result that is not read to its end blocks DuckDB."""
    return connection.execute(statement, plain(parameters)).fetchall()


def interruptibly(connection: Connection, work: Callable[[], T], timeout: float | None = None) -> T:
    """Return what a piece of work with a connection returns; Ctrl-C ends it at once, and so does the time limit.

    The work runs in a thread, for only the main thread hears Ctrl-C, and it must not wait inside DuckDB.
    """
    if timeout is not None and not timeout > 0:
        raise InputError(f"`timeout` must be above 0 seconds, got {timeout:g}")
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            done.set_exception(error)

    try:
        threading.Thread(target=run, daemon=True).start()
        _wait(done, timeout)
    except BaseException:
        _interrupt(connection, done)
        raise
    return done.result()


def _wait(done: Future[T], timeout: float | None) -> None:
    start = time.monotonic()
    while not done.done():
        wait([done], TICK)
        if timeout is not None and not done.done() and time.monotonic() - start > timeout:
            raise StoreError(f"the query was given up after {timeout:g} seconds, as `timeout` says")


def _interrupt(connection: Connection, done: Future[T]) -> None:
    """End the work of a thread; an interrupt that comes before DuckDB has begun is lost, so it is sent again."""
    while not done.done():
        connection.interrupt()
        wait([done], TICK)


def plain(value: Any) -> Any:  # noqa: ANN401 - a parameter of a query is any value, and so is what it becomes
    r"""Return a value as DuckDB takes it: NumPy's scalars and arrays as Python's, also inside lists and dicts.

    Text keeps halves of characters, which names that are not UTF-8 hold, as escapes: no UTF-8 can hold them.

    >>> print(plain([np.float64(0.5), "caf\udce9.pt"]))
    [0.5, 'caf\\udce9.pt']
    """
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def quoted(name: str) -> str:
    """Return a name as SQL takes it whatever it holds.

    >>> print(quoted('1" wide'))
    "1"" wide"
    """
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def missing(path: Path) -> StoreError:
    """Return the error for a store that is not there."""
    return StoreError(f"there is no store at {path}: `thinice compare … --store {path}` makes one")


def one_line(error: BaseException) -> str:
    """Return an error's message without the excerpt of the query and the links below it."""
    text = re.split(r"\n\s*\n|\nLINE \d", str(error))[0]
    return re.sub(r"\s+", " ", text).strip()


def damaged(path: Path, seen: str) -> str:
    """Return what to do about a store whose file is not what DuckDB wrote."""
    return f"{path} is damaged ({seen}), and was left untouched: put a copy back, or measure again into a new file"


def _failure(path: Path, error: duckdb.Error) -> str:
    """Return what an error means that has nothing to do with what was asked."""
    text = one_line(error)
    if any(sign in text for sign in DAMAGE):
        return damaged(path, text)
    if FULL in text or TOO_LARGE in text:
        return f"the disk is full, or a limit is reached ({text}): make room, and the same command goes on"
    return f"{path}: {text}"


def _locked(error: duckdb.Error) -> bool:
    return "Could not set lock on file" in str(error)


def _refusal(path: Path, error: duckdb.Error) -> StoreError:
    """Return what a failed opening means for the person who asked."""
    text = str(error)
    if _locked(error):
        return StoreError(_who_locks(path, text))
    if "not a valid DuckDB database file" in text:
        return StoreError(f"{path} is not a thinice store, nor any DuckDB database: it was left untouched")
    if "file handle conflict" in text or "different configuration" in text:
        return StoreError(
            f"{path} is open in a DuckDB connection of this very process: close that connection, or read with "
            f"`open_store(…).sql(…)`, which keeps none"
        )
    if "replaying WAL" in text:
        return StoreError(_log_refusal(path, text))
    if "version number" in text:
        return StoreError(f"{path} was written by a newer DuckDB: pip install --upgrade duckdb ({one_line(error)})")
    is_damaged = any(sign in text for sign in DAMAGE)
    return StoreError(damaged(path, one_line(error)) if is_damaged else f"{path} cannot be opened: {one_line(error)}")


def _log_refusal(path: Path, text: str) -> str:
    name = log_of(path).name
    if MISMATCH in text:
        return f"{path} cannot be opened, for {name} beside it belongs to another store: move that away"
    return (
        f"{path} cannot be opened, for its log {name} is damaged: move that away to open the store without what was "
        f"stored last"
    )


def _who_locks(path: Path, text: str) -> str:
    holder = re.search(r"held in (.*) \(PID (\d+)\)", text)
    if holder is None or holder[2] == "0":
        return (
            f"{path} cannot be locked: another machine uses it, or its file system has no locks (many network file "
            f"systems): put the store on a local disk"
        )
    program, pid = Path(holder[1]).name, holder[2]
    doing = "read" if READ_ONLY in text else "written"
    return f"{path} is being {doing} by process {pid} ({program}), which does not let go: wait for it, or end it"
