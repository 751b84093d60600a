"""`thinice sql`: a question to the store."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from thinice.cli.options import STORE, Format, FormatOption, StorePath
from thinice.cli.render import records, render

__all__ = ["sql"]


def sql(
    query: Annotated[
        str | None,
        typer.Argument(help="A query, such as 'from thin_ice limit 10'. Without one: what is there to ask."),
    ] = None,
    store: StorePath = STORE,
    format: FormatOption = Format.TABLE,  # noqa: A002 (the option's name)
) -> None:
    """Ask the store in SQL, read only; without a query, list its tables and views and what they hold.

    'describe transitions' shows a table's columns. Works while another process writes.
    """
    from thinice import open_store

    opened = open_store(store)
    described = re.fullmatch(r"\s*describe\s+(\w+)\s*;?\s*", query or "", re.IGNORECASE)
    if query is None:
        found = opened.tables()
    elif described:
        found = opened.describe(described[1])
    else:
        found = opened.sql(query)
    print(render(records(found), format))
