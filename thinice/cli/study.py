"""`thinice study`: a grid of networks, prunings and attacks out of one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinice.analysis.options import RunOptions
from thinice.cli.compare import prepare
from thinice.cli.options import (
    STORE,
    Device,
    FigureOptions,
    Format,
    OutputOptions,
    StorePath,
    options,
    typer_option,
)
from thinice.cli.output import Messages, aligned, put, put_rows
from thinice.cli.stopping import exit_on_interrupt

if TYPE_CHECKING:
    from thinice.studies import Study
    from thinice.studies.estimate import SetupEstimate
    from thinice.studies.results import StudyResults

__all__ = ["study"]

NETWORKS = Path("thinice-networks")


@options
def study(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study, in YAML: see docs/studies.md.")],
    *,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only tell how many cells and networks there are, and the time they take."),
    ] = False,
    results_only: Annotated[
        bool, typer.Option("--results-only", help="Only show what the store holds: nothing is trained or measured.")
    ] = False,
    store: StorePath = STORE,
    networks: Annotated[
        Path, typer.Option("--networks", metavar="DIR", help="Folder for the networks, which studies share.")
    ] = NETWORKS,
    device: Device = "auto",
    engine: Annotated[str, typer_option(RunOptions, "engine")] = "local",
    drawing: FigureOptions,
    printing: OutputOptions,
) -> None:
    """Train, prune and attack all networks of a study, and show what came out: tables, figures, which samples are lost.

    thinice study studies/pruning-in-the-face-of-adversaries-smoke.yaml --dry-run

    What the store or the folder of networks holds already, of this study or another one, is not made again: after
    Ctrl-C or a crash the same command goes on where it was. What fails is told, and does not stop the rest; then the
    exit code is 1.
    """
    from thinice.studies import read_study, run_study
    from thinice.studies.estimate import estimate_study
    from thinice.studies.results import study_results

    say = Messages(quiet=printing.quiet)
    asked = read_study(file)
    if dry_run:
        estimates = estimate_study(asked, store=store, networks=networks, device=device)
        show_estimates(asked, estimates, printing.format)
        return
    prepare(drawing.folder)
    if not results_only:
        with exit_on_interrupt(f"What was measured is in {store}; the same command goes on there."), say.doubts():
            run = run_study(
                asked,
                store=store,
                networks=networks,
                device=device,
                engine=engine,
                progress=not printing.quiet,
                say=say,
            )
    results = study_results(asked, store)
    show_results(results, drawing.folder, printing.format, say)
    if not results_only and run.failures:
        say(f"{len(run.failures)} of {run.networks} networks have no result:")
        for failure in run.failures:
            say(f"  {failure}")
        raise typer.Exit(1)


def show_estimates(asked: Study, estimates: Sequence[SetupEstimate], how: Format) -> None:
    """Print what a study costs: a line a setup, and in a table for people the sum."""
    from thinice.engines.progress import duration

    rows: list[dict[str, Any]] = []
    for estimate in estimates:
        row = {name: getattr(estimate, name) for name in COLUMNS}
        if how is Format.TABLE:
            row["time"] = None if estimate.seconds is None else duration(estimate.seconds)
        else:
            row["seconds"] = estimate.seconds
        rows.append(row | {"note": estimate.note})
    put_rows(rows, how)
    if how is Format.TABLE:
        known = [estimate.seconds for estimate in estimates if estimate.seconds is not None]
        time = f"about {duration(sum(known))}" if len(known) == len(estimates) else "no time where data are not here"
        put(f"\n{asked.name}: {asked.cells} cells, {asked.networks} networks, {time}")


COLUMNS = ("setup", "cells", "networks", "made", "finished", "training_passes", "attack_passes")


def show_results(results: StudyResults, figures: Path | None, how: Format, say: Messages) -> None:
    """Print the tables of a study, and write them into a folder."""
    from thinice.studies.tables import clean_table, robust_table, save_tables

    setups = [setup.name for setup in results.study.setups]
    tables = [table(results, setup) for setup in setups for table in (clean_table, robust_table)]
    if how in {Format.JSON, Format.CSV}:
        put_rows(results.rows(), how)
    elif how is Format.MARKDOWN:
        put("\n".join(table.markdown() for table in tables), how)
    else:
        for table in tables:
            put(f"{table.title}\n\n{aligned(table.lines())}\n\n{table.note}\n")
    if figures is not None:
        files = save_tables(results.study.name, tables, figures)
        say(f"tables in {' and '.join(map(str, files))}")
