"""Tables, views and answers of a store as Parquet and CSV files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from thinice.errors import InputError, StoreError
from thinice.files import expanded, temporary_folder, writable
from thinice.printable import FORMULA
from thinice.store.connection import Connection, interruptibly, quoted, reading
from thinice.store.explain import catalog, explained

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike
    from pathlib import Path

    import duckdb
    import pandas as pd

__all__ = ["Format", "export_files"]

Format = Literal["parquet", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)

TEXTS = {"varchar", "enum", "blob", "union", "variant"}
"""DuckDB's kinds of columns whose text anybody may have written."""


def export_files(
    store: Path,
    patience: float,
    path: str | PathLike[str],
    what: str | None,
    *,
    format: Format | None,  # noqa: A002 - the word people use for it
    overwrite: bool,
    timeout: float | None,
    tables: Mapping[str, pd.DataFrame],
) -> list[Path]:
    """Write what `Store.export` says, and return the paths."""
    target = expanded(path)
    if what is None and target.exists() and target.samefile(store):
        raise InputError(f"`path` {target} is the store itself, and all tables need a folder: choose another path")
    chosen = _format(target, what, format)
    folder = target if what is None else target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            temporary_folder(folder) as unfinished,
            reading(store, patience, folder=unfinished) as connection,
        ):
            stored = [name for name, kind in catalog(connection).items() if kind == "table"]
            names = {f"{name}.{chosen}": name for name in stored} if what is None else {target.name: what}
            for name in names:
                writable(folder / name, argument="path", overwrite=overwrite, store=store)
            for name, table in tables.items():
                connection.register(name, table)
            for name, wanted in names.items():
                _write(connection, wanted, unfinished / name, chosen, timeout)
            return [(unfinished / name).replace(folder / name) for name in names]
    except OSError as error:
        raise StoreError(f"`path` {target} cannot be written: {error.strerror or error}") from None


def _format(target: Path, what: str | None, wanted: str | None) -> Format:
    ending = target.suffix.removeprefix(".").lower()
    if wanted is None and what is not None and ending not in FORMATS:
        raise InputError(f"`path` {target} must end in .parquet or .csv, or `format` say which of them is meant")
    if what is None and (ending in FORMATS or (target.exists() and not target.is_dir())):
        raise InputError(f"`path` {target} is one file, and all tables need a folder: say `what` is wanted")
    chosen = wanted or (ending if what is not None else "parquet")
    for known in FORMATS:
        if known == chosen:
            return known
    raise InputError(f"`format` must be one of {', '.join(FORMATS)}, got {chosen!r}")


def _write(connection: Connection, wanted: str, file: Path, chosen: Format, timeout: float | None) -> None:
    def write() -> None:
        answer = _answer(connection, wanted)
        if chosen == "parquet":
            _portable(answer).to_parquet(str(file), compression="zstd")
        else:
            _no_formulas(answer).to_csv(str(file), header=True)

    with explained(connection):
        interruptibly(connection, write, timeout)


def _portable(answer: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Return the answer with JSON as text: Parquet's own JSON type comes out of Polars as bytes."""
    json = [quoted(name) for name, kind in zip(answer.columns, answer.types, strict=True) if str(kind) == "JSON"]
    if not json:
        return answer
    return answer.project(f"* replace ({', '.join(f'{name}::text as {name}' for name in json)})")


def _no_formulas(answer: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Return the answer with an apostrophe before text that a spreadsheet would run as a formula."""
    columns = []
    for name, kind in zip(answer.columns, answer.types, strict=True):
        column, title = quoted(name), quoted(f"'{name}" if name.startswith(FORMULA) else name)
        if kind.id in TEXTS:
            text = f"{column}::text"
            column = f"case when left({text}, 1) in ({', '.join(f'chr({ord(sign)})' for sign in FORMULA)}) "
            column += f"then chr(39) || {text} else {text} end"
        columns.append(f"{column} as {title}")
    return answer.project(", ".join(columns))


def _answer(connection: Connection, wanted: str) -> duckdb.DuckDBPyRelation:
    if wanted in catalog(connection):
        return connection.sql(f"from {quoted(wanted)}")
    answer: duckdb.DuckDBPyRelation | None = connection.sql(wanted)
    if answer is None:
        raise StoreError("`what` must be a table, a view or a query that returns rows")
    return answer
