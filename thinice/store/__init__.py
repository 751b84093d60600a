"""The store: one DuckDB file that keeps every measurement, answers questions in SQL, and survives its writers."""

from __future__ import annotations

import html
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from thinice.errors import StoreError
from thinice.process import Process
from thinice.store.connection import Connection, ask, interruptibly, located, missing, plain, quoted, reading
from thinice.store.decode import stored_adversarial, stored_settings
from thinice.store.differences import Differences, differences
from thinice.store.explain import catalog, explained, is_select, nearest, statements
from thinice.store.export import Format, export_files
from thinice.store.merge import Incomplete, incomplete, merge_part
from thinice.store.run_records import run_record
from thinice.store.runs import record_run
from thinice.store.schema import make, upgrade
from thinice.store.sql import OwnQuery, query
from thinice.store.writer import Run
from thinice.types import ROUNDING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from os import PathLike

    import numpy as np
    import numpy.typing as npt
    import pandas as pd

__all__ = [
    "Differences",
    "Format",
    "Incomplete",
    "Run",
    "Store",
    "catalog",
    "open_store",
    "query",
    "quoted",
    "statements",
    "stored_adversarial",
    "stored_settings",
]


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
        select = not own and is_select(query)
        with reading(self.path, self._patience, own=own, select=select) as connection, explained(connection):
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

    def run_record(self, run_id: int) -> dict[str, Any]:
        """Return all that is needed to repeat a run.

        Its row in ``runs`` and in ``run_conditions``; ``data`` (name, split, number and fingerprint of the samples),
        ``networks`` (name, path, fingerprint, architecture and sparsity of each) and ``stored`` (what it put into the
        store). What the store does not know is None: of a run that measured nothing, or one of an earlier thinice.

        Raises
        ------
        InputError
            Where there is no such run.

        """
        return run_record(self.path, self._patience, run_id)

    def differences(self, other: str | PathLike[str], *, tolerance: float = ROUNDING) -> Differences:
        """Return what another store says otherwise of what both hold.

        Compared are epsilons and their outcomes, verdicts at budgets, corrections, lower bounds and predictions of the
        same samples, networks and attacks, which are matched by their fingerprints.

        Parameters
        ----------
        other : path-like
            The file.
        tolerance : float
            Share of an epsilon that counts as rounding.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     stores = [open_store(f"{folder}/{name}.duckdb", new=True) for name in "ab"]
        ...     stores[0].differences(stores[1].path).compared
        0

        """
        return differences(self.path, other, self._patience, tolerance=tolerance)

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
        return export_files(
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

    def merge(self, *parts: str | PathLike[str]) -> list[Incomplete]:
        """Take over what other stores know of samples, and return the measurements of shards that lack samples still.

        Taken over are the selections, networks and attacks, what was measured, predicted and proved of their samples,
        and the runs that did: each part in one transaction, so nothing doubles when it is merged again, and nothing is
        half there after a crash. Comparisons are not: `thinice.compare` makes them of what the store then holds.

        Parameters
        ----------
        *parts : path-like
            The files, as of ``measure_all(…, shard="3/64", store="parts/3.duckdb")``.

        Raises
        ------
        StoreError
            For a file that is no store, one of other versions, or with another network under the same name; the parts
            before it were merged.

        """
        for part in parts:
            merge_part(self.path, part, self._patience)
        with reading(self.path, self._patience, own=True) as connection:
            return incomplete(connection)

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
