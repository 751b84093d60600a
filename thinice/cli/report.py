"""`thinice report`: everything in a store as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinice.cli.options import STORE, Quiet, StorePath
from thinice.cli.output import Messages, put

__all__ = ["report"]


def report(
    store: StorePath = STORE,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="The page; an older report is replaced.")
    ] = Path("report.html"),
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="NAME|PATH", help="Where the images are, if not where they were measured."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is no report; never the store.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write a store as one HTML page that opens offline: answer, tables, figures, every sample.

    Pictures come from the data set that the store names, and are shown only where they are, by their content, the
    samples that were measured.
    """
    from thinice.report import save_report

    say = Messages(quiet=quiet)
    page = save_report(store, output, samples=data, overwrite=overwrite)
    put(str(page))
    say(f"{page.stat().st_size / 1e6:.1f} MB; open it in a browser")
