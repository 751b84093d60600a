"""`thinice evaluate`: robust accuracy at a budget, sample by sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinice.analysis.options import EvaluateOptions
from thinice.cli.loading import load
from thinice.cli.options import (
    CheckpointOptions,
    DataOptions,
    Format,
    OutputOptions,
    options,
)
from thinice.cli.output import Messages, put_rows
from thinice.cli.stopping import exit_on_interrupt
from thinice.errors import InputError

__all__ = ["evaluate"]


@options
def evaluate(
    checkpoint: Annotated[
        list[Path] | None, typer.Argument(help="Checkpoints to evaluate.", show_default=False)
    ] = None,
    *,
    budget: Annotated[
        list[str],
        typer.Option(
            "--budget",
            metavar="RADIUS|ladder",
            help="Radius on the [0, 1] scale: 8/255, 0.5. May be given again. ladder: doubling budgets, from no effect "
            "on the first checkpoint to more than half of its samples broken.",
        ),
    ],
    selection: DataOptions,
    evaluating: EvaluateOptions,
    reported: Annotated[
        Path | None,
        typer.Option(
            "--reported",
            metavar="FILE",
            help="CSV, JSON or YAML with `checkpoint` and `reported` robust accuracies: print reported, measured and "
            "drop. Without checkpoints on the command line, those of the file are evaluated.",
        ),
    ] = None,
    tune_split: Annotated[
        str,
        typer.Option(
            "--tune-split",
            metavar="SPLIT",
            help="For --attack ho-fmn: the part of the data whose first 64 samples tune it for each network; none: "
            "do not.",
        ),
    ] = "train",
    reading: CheckpointOptions,
    printing: OutputOptions,
) -> None:
    """Evaluate which samples are robust at a budget, and store what broke the others.

    Prints one line for each network and budget. Every sample's verdict is in the store afterwards, with the adversarial
    that broke it: thinice sql 'from verdicts'. Warnings of the checks go to standard error, and stay in the store:
    thinice sql 'from warnings'.
    """
    from thinice import evaluate_all, samples_to_tune_on
    from thinice.analysis.tuning import can_be_tuned
    from thinice.attacks.fixed_budget import budget_text
    from thinice.studies.reported import match_reported, read_reported, reported_vs_measured

    say = Messages(quiet=printing.quiet)
    claims = [] if reported is None else read_reported(reported)
    paths = checkpoint or [claim.checkpoint for claim in claims]
    if not paths:
        raise InputError("no checkpoint was given: name files, or a list of them with --reported")
    classifiers, samples = load(paths, reading, selection, say)
    published = None if reported is None else [match_reported(path, claims).accuracy for path in paths]
    if tune_split != "none" and can_be_tuned(str(evaluating["attack"])):
        evaluating["tune_on"] = samples_to_tune_on(
            samples, data=selection.data, split=tune_split, image_size=selection.image_size
        )
    evaluating["progress"] = not printing.quiet
    with (
        exit_on_interrupt(f"What was evaluated is in {evaluating['store']}; the same command goes on there."),
        say.doubts(),
    ):
        results = evaluate_all(classifiers, samples, budgets=budget, reported=published, **evaluating)
    for note in dict.fromkeys(f"{robustness.network}: {note}" for robustness in results for note in robustness.notes):
        say(note)
    rows = [robustness.to_dict() if reported is None else reported_vs_measured(robustness) for robustness in results]
    if printing.format in {Format.TABLE, Format.MARKDOWN}:
        rows = [row | {"budget": budget_text(row["budget"], evaluating["norm"])} for row in rows]
    put_rows(rows, printing.format)
