"""What is in a store and in a query, and what DuckDB's errors mean, in one line with the nearest names."""

from __future__ import annotations

import difflib
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

from thinice.errors import StoreError
from thinice.store.connection import Connection, ask, one_line
from thinice.store.sql import query

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["catalog", "explained", "is_select", "nearest", "statements"]


def catalog(connection: Connection) -> dict[str, str]:
    """Return the names of all tables and views, each with its kind."""
    return {name: kind for name, kind, _ in ask(connection, query("tables"))}


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known names most like a wrong one, as a hint; all of them where none is.

    >>> nearest("epsilon", ["epsilons", "samples"])
    'nearest: epsilons'
    >>> nearest("x", ["epsilons", "samples"])
    'known: epsilons, samples'
    """
    names = sorted(set(known))
    matches = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    return f"nearest: {', '.join(matches)}" if matches else f"known: {', '.join(names)}"


def statements(text: str) -> list[str]:
    r"""Return the statements of a text, which semicolons part, without them and the comments before a statement.

    DuckDB's own parts are cut elsewhere from release to release; where its tokens begin stays the same.

    Raises
    ------
    StoreError
        For text that is not SQL.

    Examples
    --------
    >>> statements("-- first\nselect ';' /* ; */;\n-- then\nfrom runs;")
    ["select ';' /* ; */", 'from runs']
    """
    try:
        duckdb.extract_statements(text)
    except duckdb.Error as error:
        raise StoreError(one_line(error)) from None
    written = text.encode()
    parts: list[str] = []
    start: int | None = None
    for position, kind in [*duckdb.tokenize(text), (len(written), None)]:
        if kind == duckdb.token_type.comment:  # DuckDB 1.x does not even tell them
            continue
        if written[position : position + 1] not in {b";", b""}:
            start = position if start is None else start
        elif start is not None:
            parts.append(written[start:position].decode().rstrip())
            start = None
    return parts


def is_select(text: str) -> bool:
    """Return whether a text is one query that only reads: it makes nothing, changes no setting and prepares nothing.

    >>> [is_select(text) for text in ("from runs", "set threads = 1", "create temp table a as select 1", "nonsense")]
    [True, False, False, False]
    """
    try:
        return [statement.type for statement in duckdb.extract_statements(text)] == [duckdb.StatementType.SELECT]
    except duckdb.Error:
        return False


@contextmanager
def explained(connection: Connection) -> Iterator[None]:
    """Turn what DuckDB raises inside into a StoreError of one line, but for trouble with the file itself."""
    try:
        yield
    except (duckdb.IOException, duckdb.FatalException, duckdb.InternalException):
        raise
    except duckdb.Error as error:
        raise StoreError(_explanation(error, connection)) from None


def _explanation(error: duckdb.Error, connection: Connection) -> str:
    text = one_line(error)
    table = re.search(r"Table with name (\w+) does not exist", text)
    if table is not None:
        return f"there is no table or view {table[1]!r}, {nearest(table[1], catalog(connection))}"
    column = re.search(r'Referenced column "([^"]+)" not found', text)
    if column is not None:
        columns = [name for _, name in ask(connection, query("columns"))]
        return f"there is no column {column[1]!r} in the tables of this query, {nearest(column[1], columns)}"
    if "Permission Error" in text:
        return f"a query reads this store and no other file: {text}"
    if "read-only mode" in text:
        return f"a query cannot change the store: {text}"
    return text
