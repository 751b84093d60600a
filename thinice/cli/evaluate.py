"""`thinice evaluate`: robust accuracy at a budget, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from thinice.cli.loading import load
from thinice.cli.options import (
    CheckpointOptions,
    DataOptions,
    Format,
    OutputOptions,
    RunOptions,
    SearchOptions,
    batch_size_value,
    fixed_budget_attacks,
    minimum_norm_attacks,
    options,
)
from thinice.cli.output import Messages, put_rows
from thinice.cli.stopping import exit_on_interrupt
from thinice.errors import InputError

if TYPE_CHECKING:
    from thinice.studies.reported import Reported

__all__ = ["evaluate"]

LADDER = "ladder"
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
    from thinice import open_store
    from thinice.analysis.evaluation import Evaluator, attack_of, refuse_compiled, tuned_settings
    from thinice.attacks.fixed_budget import budget_text, budget_value, is_budget_attack
    from thinice.checks import run_checks, warning_texts
    from thinice.checks.study_patterns import find_patterns
    from thinice.numerics import pick_device
    from thinice.studies.reported import read_reported, reported_vs_measured, study_row

    say = Messages(quiet=printing.quiet)
    norm = search.norm
    budgets = sorted({*budget} - {LADDER}, key=lambda radius: budget_value(radius, norm))
    if LADDER in budget and is_budget_attack(attack):
        raise InputError(f"`--budget` ladder needs an attack that minimises the norm (fmn), got `--attack` {attack!r}")
    refuse_compiled(attack, compiled=running.compiled)
    claims = [] if reported is None else read_reported(reported)
    paths = checkpoint or [claim.checkpoint for claim in claims]
    if not paths:
        raise InputError("no checkpoint was given: name files, or a list of them with --reported")
    classifiers, samples = load(paths, reading, selection, say)
    said = [None] * len(paths) if reported is None else [claimed(path, claims) for path in paths]
    rows, study = [], []
    with exit_on_interrupt(f"What was evaluated is in {running.store}; the same command goes on there."):
        kept_in = open_store(running.store, new=True)
        evaluator = Evaluator(
            kept_in,
            samples,
            device=running.device,
            batch_size=batch_size_value(running.batch_size),
            compiled=running.compiled,
            progress=not printing.quiet,
        )
        if LADDER in budget:
            nearest = evaluator.bind(
                classifiers[0],
                attack,
                norm=norm,
                budget=None,
                effort=search.effort,
                seed=search.seed,
                precision=search.precision,
                settings=search.settings,
            )
            with evaluator.run(attack_of(nearest), seed=search.seed):
                budgets = sorted(
                    {*budgets, *map(repr, evaluator.ladder(classifiers[0], attack_of(nearest)).tolist())},
                    key=lambda radius: budget_value(radius, norm),
                )
        for one, claim in zip(classifiers, said, strict=True):
            settings = search.settings | tuned_settings(
                one,
                samples,
                attack=attack,
                data=selection.data,
                split=tune_split,
                image_size=selection.image_size,
                norm=norm,
                device=running.device,
                seed=search.seed,
                say=say,
            )
            for radius in budgets:  # the smaller first: whoever falls at it has fallen at the larger ones
                bound = evaluator.bind(
                    one,
                    attack,
                    norm=norm,
                    budget=radius,
                    effort=search.effort,
                    seed=search.seed,
                    precision=search.precision,
                    settings=settings,
                )
                with evaluator.run(attack_of(bound), seed=search.seed) as run:
                    found = evaluator.robustness(one, bound, budget=radius, shortcut=SHORTCUTS[shortcut])
                    if checks:
                        findings = run_checks(
                            kept_in,
                            run,
                            found.measurement_id,
                            classifier=one,
                            samples=samples,
                            attack=bound,
                            broken_by=found.broken_by,
                            evaluations=found.evaluations,
                            device=pick_device(running.device),
                            seed=search.seed,
                        )
                        for warning in warning_texts(findings):
                            say(f"warning: {one.name}: {warning}")
                study.append(study_row(found, None if claim is None else claim.accuracy))
                rows.append(found.to_dict() if claim is None else reported_vs_measured(found, claim))
    for pattern in find_patterns(study) if checks else ():
        say(f"warning: {pattern}")
    if printing.format in {Format.TABLE, Format.MARKDOWN}:
        rows = [row | {"budget": budget_text(row["budget"], norm)} for row in rows]
    put_rows(rows, printing.format)


def claimed(path: Path, claims: Sequence[Reported]) -> Reported:
    """Return what the list says of a checkpoint: by its path, else by its name."""
    for claim in claims:
        if claim.checkpoint.resolve() == path.resolve():
            return claim
    named = [claim for claim in claims if claim.checkpoint.stem == path.stem]
    if len(named) != 1:
        raise InputError(f"`--reported` says {'nothing' if not named else 'more than one thing'} of {path}")
    return named[0]
