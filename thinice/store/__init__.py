"""The store: one DuckDB file that keeps every measurement, answers questions in SQL, and survives its writers."""

from __future__ import annotations

import difflib
import html
import re
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import duckdb

from thinice.errors import InputError, StoreError
from thinice.files import expanded, temporary_folder, writable
from thinice.printable import FORMULA
from thinice.process import Process
from thinice.store.connection import Connection, ask, interruptibly, located, missing, one_line, plain, quoted, reading
from thinice.store.decode import stored_adversarial, stored_settings
from thinice.store.runs import record_run
from thinice.store.schema import make, upgrade
from thinice.store.sql import OwnQuery, query
from thinice.store.writer import Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from os import PathLike

    import numpy as np
    import numpy.typing as npt
    import pandas as pd

__all__ = [
    "Format",
    "Run",
    "Store",
    "catalog",
    "explained",
    "export",
    "nearest",
    "open_store",
    "query",
    "quoted",
    "statements",
    "stored_adversarial",
    "stored_settings",
]


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


@contextmanager
def explained(connection: Connection) -> Iterator[None]:
    """Turn what DuckDB raises inside into a StoreError of one line."""
    try:
        yield
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


Format = Literal["parquet", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)

TEXTS = {"varchar", "enum", "blob", "union", "variant"}
"""DuckDB's kinds of columns whose text anybody may have written."""


def export(
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


def open_store(path: str | PathLike[str] = "thinice.duckdb", *, new: bool = False, patience: float = 30.0) -> Store:
    """Return the store in a file.

    Parameters
    ----------
    path : path-like
        The DuckDB file.
    new : bool
        Make an empty store where there is no file yet.
    patience : float
        Seconds to wait for another process that is just reading or writing, before giving up.

    Raises
    ------
    StoreError
        When there is no file, when it is not a thinice store or one of a newer version (it stays untouched), or when
        another process does not let go of it.
    InputError
        When the path is not UTF-8, or begins with the home folder of nobody.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with open_store(f"{folder}/thinice.duckdb", new=True) as store:
    ...         store.sql("select count(*) as samples from transitions")
       samples
    0        0

    """
    file = located(path)
    if new and not file.exists():
        make(file, patience)
    return Store(file, patience)


class Store:
    """A file of results that answers questions in SQL; made by `open_store`.

    **Reading while a run writes** just works: `sql`, `runs`, `export` and all others open the file, ask and let go of
    it, and a run holds it for some milliseconds a shard. Whoever finds it locked tries again for `patience` seconds.
    Every answer shows whole shards, and everything that was finished when the question was asked.
    Several runs, in several processes, may write to one store: they take turns, shard by shard.

    **Other tools** (``duckdb.connect(path, read_only=True)`` in a notebook, the DuckDB command line) keep the file
    locked for as long as they are connected. A run waits for them for `patience` seconds; then an error names the
    process that holds the file, and what was measured since the last shard is lost. Disconnect such a tool, or let it
    read a copy or an export.

    **After a crash**, even ``kill -9``, nothing is locked and nothing is lost but the unfinished shard. Then, and
    during a run, a ``.wal`` file may lie beside the store: it belongs to it, also when the store is copied elsewhere.

    Keep the file on a local disk: many network file systems have no reliable locks.

    A store keeps no connection, so it can be pickled, shared by threads (which take turns) and used after a fork.

    Attributes
    ----------
    path : Path
        The file.

    """

    def __init__(self, path: Path, patience: float) -> None:
        self.path, self._patience = path, patience
        if not path.exists():
            raise missing(path)
        upgrade(path, patience)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave it: there is nothing to close."""

    def sql(
        self,
        query: str,
        parameters: Sequence[object] | Mapping[str, object] | None = None,
        *,
        timeout: float | None = None,
    ) -> pd.DataFrame:
        """Return the answer to a question in DuckDB's SQL.

        Parameters
        ----------
        query : str
            Any statement that reads; `tables` and `describe` say what there is.
        parameters : sequence or mapping, optional
            Values for ``?`` or for ``$name`` in the query.
        timeout : float, optional
            Seconds after which the query is given up; Ctrl-C ends it at any time.

        Returns
        -------
        pandas.DataFrame
            NULL is NaN (NA in columns of whole numbers); ENUM columns are ordered categories.

        Raises
        ------
        StoreError
            When DuckDB refuses the query, with the nearest names of tables and columns, or it takes longer than
            `timeout`. The query can change nothing, and reach no other file.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = open_store(f"{folder}/thinice.duckdb", new=True)
        ...     store.sql("select $budget * 255 as shown", {"budget": 8 / 255})
           shown
        0    8.0

        """
        own = isinstance(query, OwnQuery)
        with reading(self.path, self._patience, own=own) as connection, explained(connection):
            if len(statements(query)) > 1:
                raise StoreError("one query at a time: only the last answer would be shown")

            def answer() -> pd.DataFrame:
                rows: Connection | None = connection.execute(query, None if parameters is None else plain(parameters))
                if rows is None:
                    raise StoreError("the query is empty: `tables` says what there is to ask")
                return rows.df()

            return interruptibly(connection, answer, timeout)

    def tables(self) -> pd.DataFrame:
        """Return all tables and views: name, kind, rows (of tables), comment."""
        with reading(self.path, self._patience, own=True) as connection:
            tables = connection.execute(query("tables")).df()
            rows = [
                None if kind == "view" else ask(connection, f"from {quoted(name)} select count(*)")[0][0]
                for name, kind in zip(tables["name"], tables["kind"], strict=True)
            ]
        tables.insert(2, "rows", rows)
        tables["rows"] = tables["rows"].astype("Int64")
        return tables

    def describe(self, name: str) -> pd.DataFrame:
        """Return the columns of a table or view: column, type, comment."""
        columns = self.sql(query("describe"), {"name": name})
        if columns.empty:
            known = self.tables()["name"].tolist()
            raise StoreError(f"there is no table or view {name!r}, {nearest(name, known)}")
        return columns

    def adversarials(self, measurement_id: int, sample_ids: Iterable[int]) -> dict[int, npt.NDArray[np.float32]]:
        """Return the adversarials (C, H, W) in [0, 1] that a measurement has found of some samples, by sample_id.

        Only of those of which one was found and kept: of large inputs, the closest of each shard are.
        """
        wanted = set(map(int, sample_ids))
        rows = self.sql(query("adversarials_with_shapes"), {"measurement_id": measurement_id})
        columns = zip(rows["sample_id"], rows["adversarial"], rows["shape"], strict=True)
        return {int(number): stored_adversarial(blob, shape) for number, blob, shape in columns if number in wanted}

    def runs(self) -> pd.DataFrame:
        """Return the runs, the newest last: what ran when, with which outcome, and how many samples it measured.

        A run that says "running" but whose process is gone from this machine is shown as "died".
        """
        runs = self.sql(query("runs"))
        process = zip(runs["host"], runs["pid"], runs.pop("process_started"), strict=True)
        runs["outcome"] = [
            "died" if outcome == "running" and Process(host, int(pid), started or None).is_gone else outcome
            for outcome, (host, pid, started) in zip(runs["outcome"], process, strict=True)
        ]
        runs["command"] = [shlex.join(words) for words in runs["command"]]
        return runs

    def export(
        self,
        path: str | PathLike[str],
        *,
        format: Format | None = None,  # noqa: A002 - the word people use for it
        what: str | None = None,
        overwrite: bool = False,
        timeout: float | None = None,
        tables: Mapping[str, pd.DataFrame] | None = None,
    ) -> list[Path]:
        """Write tables, a view or the answer to a query to Parquet or CSV files, and return their paths.

        Each file appears under its name complete or not at all. In CSV, text that a spreadsheet would run as a formula
        (it begins with ``= + - @``, a tab or a line break) has an apostrophe before it.

        Parameters
        ----------
        path : path-like
            A file for one table, view or query; a folder for all tables.
        format : {"parquet", "csv"}, optional
            Without it, the ending of `path` decides; for a folder it is Parquet.
        what : str, optional
            Name of a table or view, or a query; without it all tables are written.
        overwrite : bool
            Replace files that are there; never the store, nor what is no regular file.
        timeout : float, optional
            Seconds after which a query is given up.
        tables : mapping of str to DataFrame, optional
            Further tables by name, which the query may join.

        Raises
        ------
        InputError
            For an unknown format, or a file that is there.
        StoreError
            When DuckDB refuses the query, or it takes longer than `timeout`.

        """
        return export(
            self.path,
            self._patience,
            path,
            what,
            format=format,
            overwrite=overwrite,
            timeout=timeout,
            tables=tables or {},
        )

    @contextmanager
    def run(
        self,
        command: Sequence[str] | None = None,
        *,
        device: str,
        seed: int | None,
        precision: str = "float32",
        settings: Mapping[str, Any] | None = None,
    ) -> Iterator[Run]:
        """Yield a new run to write with; leaving it records how it ended.

        Parameters
        ----------
        command : sequence of str, optional
            The command line; without it, that of this process.
        device, precision : str
            Where and how precisely the networks run.
        seed : int or None
            Seed of all randomness.
        settings : mapping, optional
            All settings of the command.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = open_store(f"{folder}/thinice.duckdb", new=True)
        ...     with store.run(["thinice", "compare"], device="cpu", seed=0) as run:
        ...         attack = run.attack(name="fmn", norm="l2", settings={"steps": 100})
        ...     store.runs()[["command", "outcome"]]
                   command   outcome
        0  thinice compare  finished

        """
        with record_run(
            self.path,
            self._patience,
            command=sys.argv if command is None else command,
            device=device,
            precision=precision,
            seed=seed,
            settings=settings or {},
        ) as run:
            yield run

    def _repr_html_(self) -> str:
        """Show what is inside: tables, the latest runs, the latest comparisons."""
        parts = {
            "Tables and views": self.tables(),
            "Latest runs": self.runs().tail(5)[["run_id", "started", "seconds", "outcome", "samples", "command"]],
            "Latest comparisons": self.sql(query("latest_comparisons")),
        }
        shown = "".join(f"<h4>{title}</h4>{_as_html(frame)}" for title, frame in parts.items())
        return f"<p><b>{html.escape(str(self.path))}</b></p>{shown}"


def _as_html(frame: pd.DataFrame) -> str:
    """Return a table for a notebook: unknown is empty, text starts at the left, and all of it is escaped."""
    table = frame.astype(object).where(frame.notna(), "").to_html(index=False, justify="left")
    return table.replace("<td>", "<td style='text-align:left'>")  # a <td> in the data is escaped by now
