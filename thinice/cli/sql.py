"""`thinice sql` and `thinice export`: queries to the store, to the screen or into files."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from thinice.cli.options import STORE, Format, FormatOptions, StorePath, Timeout, options
from thinice.cli.output import Messages, put, put_rows, records, render
from thinice.errors import InputError, StoreError

if TYPE_CHECKING:
    import pandas as pd

    from thinice.store import Store

__all__ = ["export", "sql"]


@options
def sql(
    query: Annotated[
        str | None,
        typer.Argument(help="A query, such as 'from thin_ice limit 10'. Without one: what is there to ask."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="PATH", help="Read the query from a file; - is standard input."),
    ] = None,
    *,
    store: StorePath = STORE,
    timeout: Timeout = None,
    printing: FormatOptions,
) -> None:
    """Ask the store in SQL, read only; without a query, list what there is to ask.

    'describe transitions' shows a table's columns. Several queries, parted by semicolons, are answered one after the
    other. Works while another process writes.
    """
    from thinice import open_store
    from thinice.store import statements

    if query is not None and file is not None:
        raise InputError("`--file` and a query are given: one of them is enough")
    opened = open_store(store)
    if query is None and file is None:
        put_rows(records(opened.tables()), printing.format)
        return
    queries = statements(_text(file) if file is not None else query or "")
    if not queries:
        raise InputError(f"`{file or 'QUERY'}` holds no query: `thinice sql` alone says what there is to ask")
    if len(queries) > 1 and printing.format in {Format.CSV, Format.JSON}:
        message = f"takes one query, got {len(queries)}: ask them one by one, or as a table"
        raise InputError(f"`--format {printing.format}` {message}")
    answers = list(_answers(opened, queries, timeout))  # all or nothing: an error comes before any output
    put("\n\n".join(_shown(answer, printing.format) for answer in answers), printing.format)


def _answers(opened: Store, queries: Sequence[str], timeout: float | None) -> Iterator[pd.DataFrame]:
    for number, query in enumerate(queries, start=1):
        try:
            yield _answer(opened, query, timeout)
        except StoreError as error:
            if len(queries) == 1:
                raise
            raise StoreError(f"query {number} of {len(queries)}: {error}") from None


def _answer(opened: Store, query: str, timeout: float | None) -> pd.DataFrame:
    described = re.fullmatch(r"\s*describe\s+(\w+)\s*;?\s*", query, re.IGNORECASE)
    return opened.describe(described[1]) if described else opened.sql(query, timeout=timeout)


def _shown(answer: pd.DataFrame, how: Format) -> str:
    if answer.empty and how in {Format.CSV, Format.MARKDOWN}:  # the columns are an answer too
        names = [str(name) for name in answer.columns]
        return render([dict.fromkeys(names, "")], how).rsplit("\n", 1)[0]
    return render(records(answer), how)


def _text(file: Path) -> str:
    if str(file) == "-":
        return sys.stdin.read()
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"`--file` {file} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"`--file` {file} is not text in UTF-8") from None


def export(
    path: Annotated[Path, typer.Argument(help="A file for one table, view or query; a folder for all tables.")],
    what: Annotated[
        str | None,
        typer.Option("--what", metavar="NAME|QUERY", help="A table, a view such as transitions, or a query."),
    ] = None,
    kind: Annotated[
        Literal["parquet", "csv"] | None,
        typer.Option("--format", help="Default: by the file's ending; Parquet for a folder."),
    ] = None,
    images: Annotated[
        bool,
        typer.Option(
            "--images",
            help="With --what samples: one row a sample and comparison, with its picture and its nearest adversarial, "
            "for viewers of data sets; Parquet.",
        ),
    ] = False,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="NAME|PATH", help="Where --images are, if not where they were measured."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    store: StorePath = STORE,
    timeout: Timeout = None,
) -> None:
    """Write the store's tables, a view, or the answer to a query to Parquet or CSV."""
    from thinice import open_store

    if images:
        if what != "samples" or kind == "csv" or path.suffix.lower() == ".csv":
            raise InputError(
                "`--images` is for samples in Parquet: thinice export samples.parquet --what samples --images"
            )
        from thinice.report.sample_table import export_samples

        file, notes = export_samples(store, path, samples=data, overwrite=overwrite, timeout=timeout)
        put(str(file))
        for note in notes:
            Messages(quiet=False)(note)
        return
    if data is not None:
        raise InputError("`--data` says where pictures are: give it with --images")
    for file in open_store(store).export(path, format=kind, what=what, overwrite=overwrite, timeout=timeout):
        put(str(file))
