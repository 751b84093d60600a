"""Reading: questions in SQL, answers as tables; and the door to writing."""

from __future__ import annotations

import html
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from thinice.errors import StoreError
from thinice.paths import expanded
from thinice.process import Process
from thinice.store.connection import Connection, ask, interruptibly, missing, plain, reading
from thinice.store.explain import explained, nearest, quoted, statements
from thinice.store.export import export
from thinice.store.queries import query
from thinice.store.record import recorded
from thinice.store.run import Run
from thinice.store.schema import make, upgrade

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike

    import pandas as pd

    from thinice.store.export import Format

__all__ = ["Store", "open_store"]


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

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with open_store(f"{folder}/thinice.duckdb", new=True) as store:
    ...         store.sql("select count(*) as samples from transitions")
       samples
    0        0

    """
    place = expanded(path).resolve()
    if new and not place.exists():
        make(place, patience)
    return Store(place, patience)


class Store:
    """A file of results that answers questions in SQL; made by `open_store`.

    **Reading while a run writes** just works: `sql`, `runs`, `export` and all others open the file, ask and let go of
    it, and a run holds it for some milliseconds a shard. Whoever finds it locked tries again for `patience` seconds.
    Every answer shows whole shards, and everything that was finished when the question was asked.
    Several runs, in several processes, may write to one store: they take turns, shard by shard.

    **Other tools** (``duckdb.connect(path, read_only=True)`` in a notebook, the DuckDB command line) keep the file
    locked for as long as they are connected. A run waits two seconds for such a reader and then goes on in a copy
    that takes the file's name: the reader keeps what it has, and sees the new when it connects again.
    A tool that *writes* is waited for, and then named in the error.

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
        with reading(self.path, self._patience) as connection, explained(connection):
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
        with reading(self.path, self._patience) as connection:
            found = connection.execute(query("tables")).df()
            rows = [
                None if kind == "view" else ask(connection, f"from {quoted(name)} select count(*)")[0][0]
                for name, kind in zip(found["name"], found["kind"], strict=True)
            ]
        found.insert(2, "rows", rows)
        found["rows"] = found["rows"].astype("Int64")
        return found

    def describe(self, name: str) -> pd.DataFrame:
        """Return the columns of a table or view: column, type, comment."""
        columns = self.sql(query("describe"), {"name": name})
        if columns.empty:
            known = self.tables()["name"].tolist()
            raise StoreError(f"there is no table or view {name!r}, {nearest(name, known)}")
        return columns

    def runs(self) -> pd.DataFrame:
        """Return the runs, the newest last: what ran when, with which outcome, and how many samples it measured.

        A run that says "running" but whose process is gone from this machine is shown as "died".
        """
        runs = self.sql(query("runs"))
        process = zip(runs["host"], runs["pid"], runs.pop("process_started"), strict=True)
        runs["outcome"] = [
            "died" if outcome == "running" and Process(host, int(pid), started or None).died else outcome
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

        Raises
        ------
        InputError
            For an unknown format, or a file that is there.
        StoreError
            When DuckDB refuses the query, or it takes longer than `timeout`.

        """
        return export(self.path, self._patience, path, what, format=format, overwrite=overwrite, timeout=timeout)

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
        with recorded(
            self.path,
            self._patience,
            command=sys.argv if command is None else command,
            device=device,
            precision=precision,
            seed=seed,
            settings=settings or {},
        ) as run_id:
            yield Run(self.path, self._patience, run_id)

    def _repr_html_(self) -> str:
        """Show what is inside: tables, the latest runs, the latest comparisons."""
        latest = "from (from separation order by comparison_id desc limit 5) order by comparison_id"
        parts = {
            "Tables and views": self.tables(),
            "Latest runs": self.runs().tail(5)[["run_id", "started", "seconds", "outcome", "samples", "command"]],
            "Latest comparisons": self.sql(f"select comparison_id, dense, pruned, data, norm, n, n_lost, auc {latest}"),
        }
        shown = "".join(f"<h4>{title}</h4>{_as_html(frame)}" for title, frame in parts.items())
        return f"<p><b>{html.escape(str(self.path))}</b></p>{shown}"


def _as_html(frame: pd.DataFrame) -> str:
    """Return a table for a notebook: unknown is empty, text starts at the left, and all of it is escaped."""
    table = frame.astype(object).where(frame.notna(), "").to_html(index=False, justify="left")
    return table.replace("<td>", "<td style='text-align:left'>")  # a <td> in the data is escaped by now
