"""`thinice evaluate`: robust accuracy at a budget, sample by sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from thinice.cli.loading import load
from thinice.cli.options import (
    STORE,
    Architecture,
    BatchSize,
    Compiled,
    Data,
    Density,
    Device,
    EffortOption,
    Format,
    FormatOption,
    ImageSize,
    Limit,
    Normalization,
    NormOption,
    PrecisionOption,
    Quiet,
    Seed,
    Split,
    Steps,
    StorePath,
    TrustPickle,
    batch_size_value,
)
from thinice.cli.output import Messages, put, render
from thinice.cli.stopping import exit_on_interrupt
from thinice.errors import InputError

__all__ = ["evaluate"]

BudgetAttack = Annotated[
    str,
    typer.Option(
        "--attack",
        help="autoattack; one of its attacks (apgd-ce, apgd-dlr, apgd-t, fab, fab-t, square); pgd, cw, bb (Merkle et "
        "al.); foolbox:NAME; or an attack that minimises the norm (tmn, fmn, ho-fmn), which answers for all budgets.",
    ),
]
Budgets = Annotated[
    list[str],
    typer.Option(
        "--budget",
        metavar="RADIUS|ladder",
        help="Radius on the [0, 1] scale: 8/255, 0.5. May be given again. ladder: doubling budgets, from no effect on "
        "the first checkpoint to more than half of its samples fooled.",
    ),
]
Shortcut = Annotated[
    bool,
    typer.Option(
        "--shortcut/--no-shortcut",
        help="Spare the samples that the store knows an adversarial for, within the budget and by any attack.",
    ),
]
ReportedFile = Annotated[
    Path | None,
    typer.Option(
        "--reported",
        metavar="FILE",
        help="CSV, JSON or YAML with `checkpoint` and `reported` robust accuracies: print reported, measured and drop. "
        "Without checkpoints on the command line, those of the file are evaluated.",
    ),
]
BothWays = Annotated[
    bool, typer.Option("--both-ways", help="Attack all samples, and tell the accuracy with and without the shortcut.")
]
TuneOn = Annotated[
    str,
    typer.Option(
        "--tune-on",
        metavar="SPLIT",
        help="For --attack ho-fmn: the part of the data whose first 64 samples tune it for each network; none: do not.",
    ),
]
Checks = Annotated[
    bool,
    typer.Option(
        "--checks/--no-checks", help="Look for signs that the evaluation cannot be trusted, and warn of them."
    ),
]


def evaluate(
    budget: Budgets,
    checkpoint: Annotated[
        list[Path] | None, typer.Argument(help="Checkpoints to evaluate.", show_default=False)
    ] = None,
    data: Data = None,
    split: Split = "test",
    limit: Limit = None,
    image_size: ImageSize = None,
    norm: NormOption = "linf",
    attack: BudgetAttack = "autoattack",
    effort: EffortOption = "standard",
    steps: Steps = None,
    shortcut: Shortcut = True,
    both_ways: BothWays = False,
    reported: ReportedFile = None,
    tune_on: TuneOn = "train",
    checks: Checks = True,
    architecture: Architecture = None,
    normalization: Normalization = None,
    density: Density = None,
    trust_pickle: TrustPickle = False,
    device: Device = "auto",
    batch_size: BatchSize = "auto",
    precision: PrecisionOption = "float32",
    compiled: Compiled = False,
    seed: Seed = 0,
    store: StorePath = STORE,
    format: FormatOption = Format.TABLE,  # noqa: A002 (the option's name)
    quiet: Quiet = False,
) -> None:
    """Evaluate which samples stand at a budget, and store what the others fell to: one line a network and budget.

    Every sample's verdict is in the store afterwards, with the adversarial that broke it: thinice sql 'from verdicts'.
    What the checks saw on a few samples is told on standard error, and stays there too: thinice sql 'from warnings'.
    """
    from thinice.analysis.evaluation import evaluate_all, samples_to_tune_on
    from thinice.attacks.fixed_budget import budget_text
    from thinice.studies.reported import match_reported, read_reported, reported_vs_measured

    say = Messages(quiet=quiet)
    claims = [] if reported is None else read_reported(reported)
    paths = checkpoint or [claim.checkpoint for claim in claims]
    if not paths:
        raise InputError("no checkpoint was given: name files, or a list of them with --reported")
    classifiers, samples = load(
        paths,
        data=data,
        split=split,
        limit=limit,
        image_size=image_size,
        architecture=architecture,
        normalization=normalization,
        density=density,
        trust_pickle=trust_pickle,
        say=say,
    )
    published = None if reported is None else [match_reported(path, claims).accuracy for path in paths]
    tuned = attack == "ho-fmn" and tune_on != "none"
    chosen: dict[str, Any] = {} if steps is None else {"steps": steps}
    with exit_on_interrupt(f"What was evaluated is in {store}; the same command goes on there."), say.doubts():
        results = evaluate_all(
            classifiers,
            samples,
            budgets=budget,
            attack=attack,
            reported=published,
            skip_known="both" if both_ways else shortcut,
            checks=checks,
            tune_on=samples_to_tune_on(samples, data=data, split=tune_on, image_size=image_size) if tuned else None,
            store=store,
            norm=norm,
            effort=effort,
            seed=seed,
            precision=precision,
            device=device,
            batch_size=batch_size_value(batch_size),
            compiled=compiled,
            progress=not quiet,
            **chosen,
        )
    for note in dict.fromkeys(f"{robustness.network}: {note}" for robustness in results for note in robustness.notes):
        say(note)
    rows = [robustness.to_dict() if reported is None else reported_vs_measured(robustness) for robustness in results]
    if format in {Format.TABLE, Format.MARKDOWN}:
        rows = [row | {"budget": budget_text(row["budget"], norm)} for row in rows]
    put(render(rows, format), format)
