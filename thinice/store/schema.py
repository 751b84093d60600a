"""The schema of a store: ordered migrations, applied once each, and what a file must be to count as a store."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from thinice.errors import StoreError
from thinice.files import temporary_folder
from thinice.store.connection import ask, reading, writing
from thinice.store.sql import query
from thinice.store.wal import identity, log_of, making, set_aside, tell

if TYPE_CHECKING:
    from thinice.store.connection import Connection

__all__ = ["make", "migrations", "now", "upgrade"]


@cache
def migrations() -> dict[str, str]:
    """Return the SQL of every migration by its name, in order.

    >>> next(iter(migrations()))
    '0001_measurements'
    """
    folder = files("thinice.store.sql") / "migrations"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return {entry.name.removesuffix(".sql"): entry.read_text(encoding="utf-8") for entry in found}


def now() -> datetime:
    """Return the time in UTC as the store keeps it: without a time zone, which DuckDB could not read back alone."""
    return datetime.now(UTC).replace(tzinfo=None)


def make(path: Path, patience: float) -> None:
    """Make an empty store where there is no file; another process may do the same at the same time.

    The file appears under its name complete or not at all.
    """
    if not path.parent.is_dir():
        raise StoreError(f"{path} cannot be made: there is no folder {path.parent}")
    try:
        with temporary_folder(path.parent) as unfinished:
            temporary_path = unfinished / path.name
            with writing(temporary_path, patience, create=True) as connection:
                _apply(connection, list(migrations()))
            if log_of(temporary_path).exists():  # DuckDB says nothing when it cannot fold its log in
                raise StoreError(f"{path} cannot be made: its first tables could not be written; is the disk full?")
            with making(path.parent):
                if not path.exists() and identity(log_of(path)) is not None:
                    set_aside(log_of(path))
                publish(temporary_path, path)
    except OSError as error:
        raise StoreError(f"{path} cannot be made: {error.strerror or error}") from None


def publish(temporary_path: Path, path: Path) -> None:
    """Let a file appear under a name that is free; one that is taken stays with the file that has it."""
    try:
        path.hardlink_to(temporary_path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        if not path.exists():
            temporary_path.rename(path)


def upgrade(path: Path, patience: float) -> None:
    """Bring a store to this version's schema.

    Raises
    ------
    StoreError
        For a file that is not a store, or one of a newer version: both stay untouched.

    """
    with reading(path, patience) as connection:
        pending = _pending(connection, path)
        _tell_of_damage(connection, path)
    if pending:
        with writing(path, patience) as connection:
            _apply(connection, _pending(connection, path))


def _tell_of_damage(connection: Connection, path: Path) -> None:
    """Warn of a log that DuckDB did not read to its end, which it does not say itself."""
    log = log_of(path)
    seen = identity(log)
    if seen is None:
        return
    ((read, size),) = ask(
        connection,
        "select wal_size, format_bytes($size) from pragma_database_size() where database_name = 'store'",
        size=seen[1],
    )
    if seen[1] == 0:
        tell(f"{log} is empty: if it held anything, that is lost; the same command measures again what is missing")
    elif read != size:
        tell(
            f"{log} is damaged, or its writer was killed in the middle: of {size}, {read} could be read; the same "
            f"command measures again what is missing"
        )


def _pending(connection: Connection, path: Path) -> list[str]:
    """Return the names of the migrations that a store lacks."""
    known = list(migrations())
    tables = ask(connection, "select table_name from duckdb_tables() where database_name = 'store'")
    if ("thinice_migrations",) not in tables:
        raise StoreError(f"{path} is a DuckDB database, but not a thinice store: it was left untouched")
    rows = ask(connection, "select name, version from thinice_migrations order by name")
    newer = [row for row in rows if row[0] not in known]
    if newer:
        raise StoreError(
            f"{path} was written by thinice {newer[-1][1]}, which knows more than this {version('thinice')} "
            f"({newer[-1][0]}): pip install --upgrade thinice"
        )
    applied = {name for name, _ in rows}
    return [name for name in known if name not in applied]


def _apply(connection: Connection, names: list[str]) -> None:
    for name in names:
        if name == next(iter(migrations())):
            ask(connection, query("migrations_table"))
        ask(connection, migrations()[name])
        ask(
            connection,
            "insert into thinice_migrations values ($name, $applied, $version)",
            name=name,
            applied=now(),
            version=version("thinice"),
        )
