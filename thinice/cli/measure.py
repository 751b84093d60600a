"""`thinice measure`: epsilons alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinice.cli.loading import load
from thinice.cli.options import (
    CheckpointOptions,
    DataOptions,
    OutputOptions,
    RunOptions,
    SearchOptions,
    minimum_norm_attacks,
    options,
)
from thinice.cli.output import Messages, put_rows
from thinice.cli.stopping import exit_on_interrupt
from thinice.types import DEFAULT_ATTACK

__all__ = ["measure"]


@options
def measure(
    checkpoint: Annotated[list[Path], typer.Argument(help="Checkpoints to measure.", show_default=False)],
    *,
    selection: DataOptions,
    attack: Annotated[str, typer.Option("--attack", help=f"{minimum_norm_attacks()}.")] = DEFAULT_ATTACK,
    search: SearchOptions,
    reading: CheckpointOptions,
    running: RunOptions,
    printing: OutputOptions,
) -> None:
    """Measure how close each sample lies to a network's boundary, and store it: one line a network.

    Every sample's epsilon is in the store afterwards: thinice sql 'from epsilons'.
    """
    from thinice import measure_all

    say = Messages(quiet=printing.quiet)
    classifiers, samples = load(checkpoint, reading, selection, say)
    with exit_on_interrupt(f"What was measured is in {running.store}; the same command goes on there."):
        results = measure_all(
            classifiers,
            samples,
            attack=attack,
            progress=not printing.quiet,
            **search.arguments,
            **running.arguments,
        )
    for measured in results:
        say.notes(measured.network, measured.notes)
    put_rows([measured.to_dict() for measured in results], printing.format)
