"""`thinice runs`: what was measured when, by which command, with what, and whether it comes out the same again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from thinice.cli.options import STORE, Format, FormatOptions, OutputOptions, StorePath, options
from thinice.cli.output import Messages, put, put_rows, records, render
from thinice.types import ROUNDING

__all__ = ["repeat", "runs", "show"]

RunId = Annotated[int, typer.Argument(metavar="ID", help="Number of the run: thinice runs.", show_default=False)]


@options
def runs(*, store: StorePath = STORE, printing: FormatOptions) -> None:
    """List the runs of a store: when, by which command, and how each ended.

    The newest is the last. thinice runs show ID tells all that is needed to repeat one, thinice runs repeat ID does.
    """
    from thinice import open_store

    put_rows(records(open_store(store).runs()), printing.format)


@options
def show(run_id: RunId, store: StorePath = STORE, *, printing: FormatOptions) -> None:
    """Show all that is needed to repeat a run.

    Its command, folder, settings, versions, device, threads and seed; the data and the networks with their
    fingerprints; and what it put into the store.
    """
    from thinice import open_store

    record = open_store(store).run_record(run_id)
    if printing.format is Format.JSON:
        put(render([record], printing.format), printing.format)
        return
    facts: list[dict[str, object]] = [{"what": what, "run": value} for what, value in _facts(record)]
    tables = [facts] if printing.format is Format.CSV else [facts, record["networks"], record["stored"]]
    put(_tables(tables, printing.format), printing.format)


def _tables(tables: Sequence[Sequence[Mapping[str, object]]], how: Format) -> str:
    """Return the tables that have rows, below each other."""
    return "\n\n".join(render(rows, how) for rows in tables if rows)


def _facts(record: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield what a record says of the run itself; data, settings and versions each on a line."""
    for name, value in record.items():
        if name == "command":
            yield name, shlex.join(value)
        elif name == "data" and value is not None:
            yield name, f"{value['name']} ({value['split']}), {value['samples']} samples, {value['fingerprint']}"
        elif name in ("settings", "versions"):
            yield name, ", ".join(f"{key} {entry}" for key, entry in value.items())
        elif name not in ("networks", "stored"):
            yield name, value


@options
def repeat(
    run_id: RunId,
    store: StorePath = STORE,
    *,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, max=0.99, help="Share of an epsilon that counts as rounding.")
    ] = ROUNDING,
    trust_command: Annotated[
        bool,
        typer.Option(
            "--trust-command",
            help="Also a command that may run code: with --trust-pickle, --address, or an --architecture of the user's "
            "own. Only for stores you trust.",
        ),
    ] = False,
    repeated: Annotated[
        Path | None,
        typer.Option(
            "--repeated",
            metavar="STORE",
            help="Run nothing: compare with this store, into which the command was repeated by hand.",
        ),
    ] = None,
    printing: OutputOptions,
) -> None:
    """Repeat a run into a temporary store, and show what comes out otherwise, sample by sample.

    Repeated are demo, compare, populations, measure and evaluate, in the folder and with the threads of the run; the
    store and the figures stay as they are. A checkpoint or data that are others than they were are refused. Exit code
    0: the same, but for rounding; 1: a difference, one line for each, or the run cannot be repeated.
    """
    from thinice import repeat_run

    say = Messages(quiet=printing.quiet)
    repetition = repeat_run(
        store,
        run_id,
        tolerance=tolerance,
        trust_command=trust_command,
        repeated=repeated,
        progress=not printing.quiet,
    )
    for note in repetition.notes:
        say(f"warning: {note}")
    summary, rows = repetition.to_dict(), records(repetition.differences.rows)
    if printing.format is Format.JSON:
        put_rows([{**summary, "differences": [dict(row) for row in rows]}], printing.format)
    elif printing.format is Format.TABLE:
        put(_tables([[summary], rows], printing.format), printing.format)
    else:
        put_rows(rows, printing.format)
    if repetition.differences.different:
        raise typer.Exit(1)
