"""`thinice evaluate`: robust accuracy at a budget, sample by sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from thinice.cli.loading import load
from thinice.cli.options import (
    CheckpointOptions,
    DataOptions,
    Format,
    OutputOptions,
    RunOptions,
    SearchOptions,
    fixed_budget_attacks,
    minimum_norm_attacks,
    options,
)
from thinice.cli.output import Messages, put_rows
from thinice.cli.stopping import exit_on_interrupt
from thinice.errors import InputError

__all__ = ["evaluate"]

SHORTCUTS: dict[str, bool | Literal["both"]] = {"on": True, "off": False, "both": "both"}


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
    attack: Annotated[
        str,
        typer.Option(
            "--attack",
            help=f"At a budget: {fixed_budget_attacks()}. Or one that minimises the norm, which answers for all "
            f"budgets: {minimum_norm_attacks()}.",
        ),
    ] = "autoattack",
    search: SearchOptions,
    shortcut: Annotated[
        Literal["on", "off", "both"],
        typer.Option(
            "--shortcut",
            help="on: samples that the store knows an adversarial for, within the budget and by any attack, are not "
            "attacked again. off: all are. both: all are, and the accuracy is told with and without them.",
        ),
    ] = "on",
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
    checks: Annotated[
        bool,
        typer.Option(
            "--checks/--no-checks", help="Look for signs that the evaluation cannot be trusted, and warn of them."
        ),
    ] = True,
    reading: CheckpointOptions,
    running: RunOptions,
    printing: OutputOptions,
) -> None:
    """Evaluate which samples are robust at a budget, and store what broke the others.

    Prints one line for each network and budget. Every sample's verdict is in the store afterwards, with the adversarial
    that broke it: thinice sql 'from verdicts'. Warnings of the checks go to standard error, and stay in the store:
    thinice sql 'from warnings'.
    """
    from thinice.analysis.evaluation import can_be_tuned, evaluate_all, samples_to_tune_on
    from thinice.attacks.fixed_budget import budget_text
    from thinice.studies.reported import match_reported, read_reported, reported_vs_measured

    say = Messages(quiet=printing.quiet)
    claims = [] if reported is None else read_reported(reported)
    paths = checkpoint or [claim.checkpoint for claim in claims]
    if not paths:
        raise InputError("no checkpoint was given: name files, or a list of them with --reported")
    classifiers, samples = load(paths, reading, selection, say)
    published = None if reported is None else [match_reported(path, claims).accuracy for path in paths]
    others = None
    if tune_split != "none" and can_be_tuned(attack):
        others = samples_to_tune_on(samples, data=selection.data, split=tune_split, image_size=selection.image_size)
    with exit_on_interrupt(f"What was evaluated is in {running.store}; the same command goes on there."), say.doubts():
        results = evaluate_all(
            classifiers,
            samples,
            budgets=budget,
            attack=attack,
            reported=published,
            skip_known=SHORTCUTS[shortcut],
            checks=checks,
            tune_on=others,
            progress=not printing.quiet,
            **search.arguments,
            **running.arguments,
        )
    for note in dict.fromkeys(f"{robustness.network}: {note}" for robustness in results for note in robustness.notes):
        say(note)
    rows = [robustness.to_dict() if reported is None else reported_vs_measured(robustness) for robustness in results]
    if printing.format in {Format.TABLE, Format.MARKDOWN}:
        rows = [row | {"budget": budget_text(row["budget"], search.norm)} for row in rows]
    put_rows(rows, printing.format)
