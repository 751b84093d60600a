"""`thinice runs`: what was measured when, by which command, and how it ended."""

from __future__ import annotations

from thinice.cli.options import STORE, Format, FormatOption, StorePath
from thinice.cli.output import put, render
from thinice.printable import records

__all__ = ["runs"]


def runs(
    store: StorePath = STORE,
    format: FormatOption = Format.TABLE,  # noqa: A002 (the option's name)
) -> None:
    """List the runs of the store, the newest last."""
    from thinice import open_store

    found = open_store(store).runs()
    put(render(records(found), format), format)
