"""`thinice measure`: epsilons alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinice.analysis.options import MeasureAllOptions
from thinice.cli.loading import load
from thinice.cli.options import CheckpointOptions, DataOptions, OutputOptions, options
from thinice.cli.output import Messages, put_rows
from thinice.cli.stopping import exit_on_interrupt

if TYPE_CHECKING:
    from thinice import Classifier, Samples

__all__ = ["measure", "measure_and_print"]


@options
def measure(
    checkpoint: Annotated[list[Path], typer.Argument(help="Checkpoints to measure.", show_default=False)],
    *,
    selection: DataOptions,
    measuring: MeasureAllOptions,
    reading: CheckpointOptions,
    printing: OutputOptions,
) -> None:
    """Measure how close each sample lies to a network's boundary, and store it: one line a network.

    Every sample's epsilon is in the store afterwards: thinice sql 'from epsilons'.
    """
    say = Messages(quiet=printing.quiet)
    classifiers, samples = load(checkpoint, reading, selection, say)
    measure_and_print(classifiers, samples, measuring, printing, say)


def measure_and_print(
    classifiers: Sequence[Classifier],
    samples: Samples,
    measuring: MeasureAllOptions,
    printing: OutputOptions,
    say: Messages,
) -> None:
    """Measure networks into the store, and print a line for each; of a shard, say how it comes to the others."""
    from thinice import measure_all

    measuring["progress"] = not printing.quiet
    with exit_on_interrupt(f"What was measured is in {measuring['store']}; the same command goes on there."):
        results = measure_all(classifiers, samples, **measuring)
    for measured in results:
        say.notes(measured.network, measured.notes)
    shard = measuring.get("shard")
    if shard is not None:
        say(f"shard {shard} is in {measuring['store']}; when all are there: thinice merge all.duckdb and their stores")
    put_rows([measured.to_dict() for measured in results], printing.format)
