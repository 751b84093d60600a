"""`thinice export`: the store's tables as Parquet or CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from thinice.cli.options import STORE, StorePath, Timeout
from thinice.cli.output import put

__all__ = ["export"]


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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    store: StorePath = STORE,
    timeout: Timeout = None,
) -> None:
    """Write the store's tables, a view, or the answer to a query to Parquet or CSV."""
    from thinice import open_store

    for file in open_store(store).export(path, format=kind, what=what, overwrite=overwrite, timeout=timeout):
        put(str(file))
