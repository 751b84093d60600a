"""`thinice merge`: parts of a measurement, each a store of its own, in one store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinice.cli.options import Quiet, options
from thinice.cli.output import Messages
from thinice.cli.stopping import exit_on_interrupt

__all__ = ["merge"]


@options
def merge(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store that gets everything.", show_default=False)],
    part: Annotated[list[Path], typer.Argument(help="The stores of the parts.", show_default=False)],
    *,
    quiet: Quiet = False,
) -> None:
    """Bring the parts that --shard measured, each in a store of its own, into one store.

    Merged again, nothing doubles; stopped in the middle, the same command goes on. Shards that are missing are named,
    and the exit code is 1 then. Comparisons are not merged: the compare command without --shard makes them of what the
    store holds, and measures nothing that is there.
    """
    from thinice import open_store
    from thinice.store.merge import existing_part

    for file in part:
        existing_part(file)  # before a store is made for them
    say = Messages(quiet=quiet)
    with exit_on_interrupt(f"The parts before are in {store}; the same command goes on."):
        lacking = open_store(store, new=True).merge(*part)
    say(
        f"{len(part)} {'part' if len(part) == 1 else 'parts'} in {store}; comparisons are made there: the compare "
        f"command without --shard, with --store {store}"
    )
    for measurement in lacking:
        typer.echo(f"thinice: {measurement}", err=True)
    if lacking:
        raise typer.Exit(1)
