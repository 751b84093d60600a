"""`thinice runs`: what was measured when, by which command, and how it ended."""

from __future__ import annotations

from thinice.cli.options import STORE, FormatOptions, StorePath, options
from thinice.cli.output import put_rows, records

__all__ = ["runs"]


@options
def runs(*, store: StorePath = STORE, printing: FormatOptions) -> None:
    """List the runs of a store: when, by which command, and how each ended.

    The newest is the last.
    """
    from thinice import open_store

    put_rows(records(open_store(store).runs()), printing.format)
