"""`thinice study`: a grid of networks, prunings and attacks out of one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinice.analysis.options import RunOptions, key_values
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
from thinice.cli.output import Messages, folded, put, put_rows, wrapped
from thinice.cli.stopping import exit_on_interrupt

if TYPE_CHECKING:
    from thinice.plots.study import StudyCurve
    from thinice.studies import Study
    from thinice.studies.definition import Setup
    from thinice.studies.estimate import SetupEstimate
    from thinice.studies.results import StudyResults

__all__ = ["study"]

NETWORKS = Path("thinice-networks")


class Part(StrEnum):
    """Which rows of a study go to standard output."""

    SUMMARY = "summary"
    POINTS = "points"
    SWEET_SPOTS = "sweet-spots"
    LOSSES = "losses"
    OVERLAPS = "overlaps"
    LOST_SAMPLES = "lost-samples"


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
    part: Annotated[
        Part, typer.Option("--table", help="What to print: a summary, or all rows of one kind (as JSON: points).")
    ] = Part.SUMMARY,
    store: StorePath = STORE,
    networks: Annotated[
        Path, typer.Option("--networks", metavar="DIR", help="Folder for the networks, which studies share.")
    ] = NETWORKS,
    device: Device = "auto",
    engine: Annotated[str, typer_option(RunOptions, "engine")] = "local",
    workers: Annotated[int | None, typer_option(RunOptions, "workers")] = None,
    address: Annotated[str | None, typer_option(RunOptions, "address")] = None,
    slurm: Annotated[list[str] | None, typer_option(RunOptions, "slurm")] = None,
    jobs: Annotated[Path | None, typer_option(RunOptions, "jobs")] = None,
    drawing: FigureOptions,
    printing: OutputOptions,
) -> None:
    """Train, prune and attack all networks of a grid that one file describes; tables, figures, lost samples.

    thinice study studies/pruning-in-the-face-of-adversaries-smoke.yaml --dry-run

    What the store or the folder of networks holds already, of this study or another one, is not made again: after
    Ctrl-C or a crash the same command goes on where it was. What fails is told, and does not stop the rest; then the
    exit code is 1. With --workers networks are trained and pruned side by side, to the same weights.
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
                workers=workers,
                address=address,
                slurm=None if slurm is None else key_values(slurm),
                jobs=jobs,
                progress=not printing.quiet,
                say=say,
            )
    results = study_results(asked, store)
    show_results(results, part, drawing.folder, printing.format, say)
    say(f"{results.finished} of {asked.cells} cells have the results of all seeds")
    for error in results.errors if results_only else ():
        say(f"failed: {error}")
    if not results_only and run.failures:
        say(f"{len(run.failures)} of {run.networks} networks have no result:")
        following = Counter((failure.setup, failure.failed_before) for failure in run.failures)
        for failure in run.failures:
            if failure.failed_before is None:
                count = following[failure.setup, failure.network]
                say(f"  {failure}" + (f" (and {count} that are pruned out of it)" if count else ""))
        say("The same command tries them again, when that is mended; what is finished stays.")
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


def rows_of(results: StudyResults, part: Part) -> list[dict[str, Any]]:
    """Return the rows of a part of the results."""
    from thinice.studies.lost_samples import losses, lost_samples, overlaps
    from thinice.studies.per_sample import samples_of
    from thinice.studies.sweet_spots import sweet_spots

    if part in {Part.SUMMARY, Part.POINTS}:
        return results.rows()
    asked = results.study
    setups = [samples_of(asked, setup, results.store) for setup in asked.setups]
    if part is Part.SWEET_SPOTS:
        return [spot.to_dict() for spot in sweet_spots(asked, setups)]
    kinds: dict[Part, Callable[..., Any]] = {
        Part.LOSSES: losses,
        Part.OVERLAPS: overlaps,
        Part.LOST_SAMPLES: lost_samples,
    }
    rows = kinds[part]
    return [row.to_dict() for samples in setups for row in rows(asked, samples)]


def show_results(results: StudyResults, part: Part, figures: Path | None, how: Format, say: Messages) -> None:
    """Print the results of a study, and write all tables and figures into a folder."""
    from thinice.studies.tables import save_tables, study_tables

    if part is not Part.SUMMARY or how in {Format.JSON, Format.CSV}:
        put_rows(rows_of(results, part), how)
    tables = study_tables(results) if figures is not None or part is Part.SUMMARY else []
    if part is Part.SUMMARY and how is Format.MARKDOWN:
        put("\n".join(table.markdown() for table in tables), how)
    if part is Part.SUMMARY and how is Format.TABLE:
        for table in tables:
            parts = [table.title, folded(table.lines()) if table.rows else "", wrapped(table.note)]
            put("\n\n".join(part for part in parts if part) + "\n")
    if figures is not None:
        from thinice.plots.study import plot_study, save_study_figures

        drawn = {
            f"robust-accuracy-{setup.name}": plot_study(panels(results, setup), title=setup.name)
            for setup in results.study.setups
        }
        pictures = save_study_figures(drawn, figures, name=results.study.name)
        files = save_tables(results.study.name, tables, pictures, pictures[0].parent)
        say(f"tables and figures in {files[-1]}")


def panels(results: StudyResults, setup: Setup) -> list[dict[str, dict[str, StudyCurve]]]:
    """Return the curves of a setup: a row an attack, a panel a budget; those of clean accuracy first."""
    from thinice.plots.study import StudyCurve
    from thinice.studies.results import Point, measures_of

    rows: dict[object, dict[str, dict[str, StudyCurve]]] = {}
    asked = results.study
    for measure in measures_of(setup):
        curves = {}
        for method in asked.methods:
            each = [results.points[Point(setup.name, method.name, rate, measure)] for rate in asked.rates]
            curves[method.name] = StudyCurve(
                asked.rates, [result.accuracy for result in each], [result.sd for result in each]
            )
        rows.setdefault((measure.attack, measure.norm), {})[measure.label] = curves
    return list(rows.values())
