"""The schema of a store: its tables and views, their version, and what a file must be to count as a store.

Tables are made once (``sql/tables.sql``), those that came later where they are missing (`LATER_TABLES`). Views, and a
column of ``statistics`` for each statistic that `thinice.stats` knows, are made anew by every thinice that defines them
otherwise than the last one did.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from thinice.errors import StoreError
from thinice.files import temporary_folder
from thinice.store.connection import ask, damaged, quoted, reading, writing
from thinice.store.sql import query, sql
from thinice.store.wal import identity, log_of, making, set_aside, tell

if TYPE_CHECKING:
    from pathlib import Path

    from thinice.store.connection import Connection

__all__ = ["VERSION", "add_missing_statistics", "log_damage", "make", "now", "refuse_other_schema", "upgrade"]

VERSION = 2
"""Of the tables: raise it when they change in a way that an earlier thinice would misread."""

LATER_TABLES = (
    "training_tables",
    "study_tables",
    "certification_tables",
    "control_tables",
    "gradient_tables",
    "correction_tables",
    "benchmark_tables",
    "population_tables",
    "run_tables",
)
"""Files with tables that came after the first version."""

VIEWS = (
    "wilson",
    "verdicts",
    "transitions",
    "thin_ice",
    "signed_distances",
    "predictors",
    "separation",
    "robust_accuracy",
    "robust_at",
    "security_curves",
    "warnings",
    "cells",
    "studies",
    "intervals",
    "proved_beyond",
    "claims",
    "ada_verona",
    "leaderboard",
)
"""Views and macros, each after those that it reads."""

TYPES = {"count": "bigint", "flag": "boolean"}
"""Types of statistics by their unit; all others are double."""


def now() -> datetime:
    """Return the time in UTC as the store keeps it: without a time zone, which DuckDB could not read back alone."""
    return datetime.now(UTC).replace(tzinfo=None)


def make(path: Path, patience: float) -> None:
    """Make an empty store where there is no file; another process may do the same at the same time.

    The file appears under its name complete or not at all.

    Raises
    ------
    StoreError
        Where the folder is missing, or takes no file.

    """
    if not path.parent.is_dir():
        raise StoreError(f"{path} cannot be made: there is no folder {path.parent}")
    try:
        with temporary_folder(path.parent) as unfinished:
            temporary_path = unfinished / path.name
            with writing(temporary_path, patience, create=True) as connection:
                ask(connection, sql("tables"))
                _define(connection)
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
    """Make the views of a store anew where this version defines them otherwise than the one that made them.

    Raises
    ------
    StoreError
        For a file that is not a store, one of a newer or a development version, or one whose end is missing: all stay
        untouched.

    """
    with reading(path, patience, own=True) as connection:
        _refuse_cut_off(connection, path)
        outdated = _is_outdated(connection, path)
        damage = log_damage(connection, path)
        if damage is not None:
            tell(damage)
    if outdated:
        with writing(path, patience) as connection:
            if _is_outdated(connection, path):  # no other process was faster
                _define(connection)


def refuse_other_schema(connection: Connection, path: Path) -> None:
    """Raise StoreError for a file that is no store, or one that another version of thinice was the last to open."""
    if _is_outdated(connection, path):
        raise StoreError(
            f"{path} was written by another version of thinice: `thinice runs --store {path}` brings it up to date"
        )


def log_damage(connection: Connection, path: Path) -> str | None:
    """Return what is wrong with a log that DuckDB did not read to its end, which it does not say itself."""
    log = log_of(path)
    seen = identity(log)
    if seen is None:
        return None
    ((read, size),) = ask(connection, query("log_size"), size=seen[1])
    if seen[1] == 0:
        return f"{log} is empty: if it held anything, that is lost; the same command measures again what is missing"
    if read != size:
        return (
            f"{log} is damaged, or its writer was killed in the middle: of {size}, {read} could be read; the same "
            f"command measures again what is missing"
        )
    return None


def _refuse_cut_off(connection: Connection, path: Path) -> None:
    """Raise StoreError where the end of the file is missing, which DuckDB finds out when it needs what was there."""
    ((least,),) = ask(connection, query("least_file_size"))
    size = path.stat().st_size
    if size < least:
        raise StoreError(damaged(path, f"of {least} bytes or more, {size} are there"))


@cache
def _definitions() -> str:
    """Return a hash of all views, and of the version of thinice, which may bring other statistics."""
    texts = (*LATER_TABLES, *(f"views/{name}" for name in VIEWS))
    text = "\n".join([version("thinice"), *map(sql, texts)])
    return hashlib.sha256(text.encode()).hexdigest()


def _is_outdated(connection: Connection, path: Path) -> bool:
    """Return whether a store's views have to be made anew."""
    tables = {name for name, kind, _ in ask(connection, query("tables")) if kind == "table"}
    if "thinice_migrations" in tables:
        raise _development_store(path)
    if "thinice_schema" not in tables:
        raise StoreError(f"{path} is a DuckDB database, but not a thinice store: it was left untouched")
    rows = ask(connection, query("schema_version"))
    if len(rows) != 1:
        raise StoreError(f"{path} is damaged, or not written by thinice: it has {len(rows)} schema versions, not one")
    ((known, definitions, thinice),) = rows
    if known < VERSION:
        raise _development_store(path)
    if known > VERSION:
        raise StoreError(
            f"{path} was written by thinice {thinice}, which knows more than this {version('thinice')} "
            f"(schema {known}, not {VERSION}): pip install --upgrade thinice"
        )
    return bool(definitions != _definitions())


def _development_store(path: Path) -> StoreError:
    return StoreError(
        f"{path} was written by a development version of thinice before 0.1.0, whose tables were others: measure "
        f"again into a new file (--store new.duckdb); this one was left untouched"
    )


def _define(connection: Connection) -> None:
    """Make all views, and what they need of tables and columns, and note which version did."""
    for name in LATER_TABLES:
        ask(connection, sql(name))
    _add_statistics(connection)
    for name in VIEWS:
        _make_view(connection, name)
    _comment_separation(connection)
    ask(connection, "delete from thinice_schema")
    ask(
        connection,
        query("set_schema_version"),
        version=VERSION,
        definitions=_definitions(),
        now=now(),
        thinice=version("thinice"),
    )


def add_missing_statistics(connection: Connection) -> list[str]:
    """Return the names of all statistics; those that were named since get their column in table and view."""
    statistics, are_new = _add_statistics(connection)
    if are_new:
        _make_view(connection, "separation")
        _comment_separation(connection)
    return statistics


def _make_view(connection: Connection, name: str) -> None:
    ask(connection, f"drop view if exists {name}")
    ask(connection, sql(f"views/{name}"))


def _add_statistics(connection: Connection) -> tuple[list[str], bool]:
    """Make the columns of ``statistics`` that it lacks; return all names, and whether a column was new."""
    from thinice.stats.registry import STATISTICS  # noqa: PLC0415 - a second of import, and mostly not needed

    columns = _columns(connection, "statistics")
    missing = [row for row in STATISTICS.values() if row.name not in columns]
    for row in missing:
        kind = TYPES.get(row.unit, "double")
        ask(connection, f"alter table statistics add column {quoted(row.name)} {kind}")
    for row in STATISTICS.values():
        if columns.get(row.name) != row.comment:
            ask(connection, _comment("statistics", row.name, row.comment))
    return list(STATISTICS), bool(missing)


def _comment_separation(connection: Connection) -> None:
    """Let the columns that the view ``separation`` takes from ``statistics`` say what they say there."""
    meanings = _columns(connection, "statistics")
    for name, comment in _columns(connection, "separation").items():
        if comment is None:
            ask(connection, _comment("separation", name, meanings[name] or ""))


def _columns(connection: Connection, table: str) -> dict[str, str | None]:
    """Return the columns of a table or view with their comments."""
    return {name: comment for name, _, comment in ask(connection, query("describe"), name=table)}


def _comment(table: str, column: str, comment: str) -> str:
    text = comment.replace("'", "''")
    return f"comment on column {table}.{quoted(column)} is '{text}'"
