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
    batch_size_value,
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
    from thinice import make_attack, open_store
    from thinice.analysis.session import MeasurementSession, summarise
    from thinice.results import search_notes

    say = Messages(quiet=printing.quiet)
    classifiers, samples = load(checkpoint, reading, selection, say)
    bound = make_attack(attack, **search.arguments)
    with exit_on_interrupt(f"What was measured is in {running.store}; the same command goes on there."):
        session = MeasurementSession(
            open_store(running.store, new=True),
            samples,
            device=running.device,
            batch_size=batch_size_value(running.batch_size),
            compiled=running.compiled,
            progress=not printing.quiet,
        )
        rows = []
        with session.run(bound, seed=search.seed):
            for classifier in classifiers:
                measured = session.epsilons(classifier, bound)
                rows.append(summarise(classifier, samples, bound, measured))
                say.notes(classifier.name, search_notes(measured.outcomes, measured.stages, measured.diagnoses))
    put_rows(rows, printing.format)
