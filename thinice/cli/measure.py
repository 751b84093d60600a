"""`thinice measure`: epsilons alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinice.analysis.options import StoredMeasureOptions
from thinice.cli.loading import load
from thinice.cli.options import CheckpointOptions, DataOptions, OutputOptions, options
from thinice.cli.output import Messages, put_rows
from thinice.cli.stopping import exit_on_interrupt

__all__ = ["measure"]


@options
def measure(
    checkpoint: Annotated[list[Path], typer.Argument(help="Checkpoints to measure.", show_default=False)],
    *,
    selection: DataOptions,
    measuring: StoredMeasureOptions,
    reading: CheckpointOptions,
    printing: OutputOptions,
) -> None:
    """Measure how close each sample lies to a network's boundary, and store it: one line a network.

    Every sample's epsilon is in the store afterwards: thinice sql 'from epsilons'.
    """
    from thinice import measure_all

    say = Messages(quiet=printing.quiet)
    classifiers, samples = load(checkpoint, reading, selection, say)
    measuring["progress"] = not printing.quiet
    with exit_on_interrupt(f"What was measured is in {measuring['store']}; the same command goes on there."):
        results = measure_all(classifiers, samples, **measuring)
    for measured in results:
        say.notes(measured.network, measured.notes)
    put_rows([measured.to_dict() for measured in results], printing.format)
