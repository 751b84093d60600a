"""`thinice evaluate`: robust accuracy at a budget, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from thinice.studies.reported import Reported

__all__ = ["evaluate"]

LADDER = "ladder"

BudgetAttack = Annotated[
    str,
    typer.Option(
        "--attack",
        help="autoattack; one of its attacks (apgd-ce, apgd-dlr, apgd-t, fab, fab-t, square); pgd, cw, bb (Merkle et "
        "al.); foolbox:NAME; or an attack that minimises the norm (fmn, race, ho-fmn), which answers for all budgets.",
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
    from thinice import open_store
    from thinice.analysis.evaluation import Evaluator, attack_of, refuse_compiled, tuned_settings
    from thinice.analysis.measurement import pick_device
    from thinice.attacks.fixed_budget import budget_text, budget_value, is_budget_attack
    from thinice.checks import run_checks, study_row
    from thinice.checks.study_patterns import signatures
    from thinice.studies.reported import against, read_reported

    say = Messages(quiet=quiet)
    fixed = [one for one in budget if one != LADDER]
    budgets = sorted(set(fixed), key=lambda one: budget_value(one, norm))
    if LADDER in budget and is_budget_attack(attack):
        raise InputError(f"`--budget` ladder needs an attack that minimises the norm (fmn), got `--attack` {attack!r}")
    refuse_compiled(attack, compiled=compiled)
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
    said = [None] * len(paths) if reported is None else [claimed(path, claims) for path in paths]
    chosen: dict[str, Any] = {} if steps is None else {"steps": steps}
    rows, study = [], []
    with exit_on_interrupt(f"What was evaluated is in {store}; the same command goes on there."):
        kept_in = open_store(store, new=True)
        evaluator = Evaluator(
            kept_in,
            samples,
            device=device,
            batch_size=batch_size_value(batch_size),
            compiled=compiled,
            progress=not quiet,
        )
        if LADDER in budget:
            nearest = evaluator.bind(
                classifiers[0],
                attack,
                norm=norm,
                budget=None,
                effort=effort,
                seed=seed,
                precision=precision,
                settings=chosen,
            )
            with evaluator.run(attack_of(nearest), seed=seed):
                budgets = sorted(
                    {*budgets, *map(repr, evaluator.ladder(classifiers[0], attack_of(nearest)).tolist())},
                    key=lambda one: budget_value(one, norm),
                )
        for one, claim in zip(classifiers, said, strict=True):
            settings = chosen | tuned_settings(
                one,
                samples,
                attack=attack,
                data=data,
                split=tune_on,
                image_size=image_size,
                norm=norm,
                device=device,
                seed=seed,
                say=say,
            )
            for radius in budgets:  # the smaller first: whoever falls at it has fallen at the larger ones
                bound = evaluator.bind(
                    one,
                    attack,
                    norm=norm,
                    budget=radius,
                    effort=effort,
                    seed=seed,
                    precision=precision,
                    settings=settings,
                )
                with evaluator.run(attack_of(bound), seed=seed) as run:
                    found = evaluator.robustness(one, bound, budget=radius, shortcut="both" if both_ways else shortcut)
                    if checks:
                        looked = run_checks(
                            kept_in,
                            run,
                            found,
                            classifier=one,
                            samples=samples,
                            attack=bound,
                            device=pick_device(device),
                            seed=seed,
                        )
                        for warning in looked.warnings:
                            say(f"warning: {one.name}: {warning}")
                study.append(study_row(found, None if claim is None else claim.accuracy))
                rows.append(found.to_dict() if claim is None else against(found, claim))
    for signature in signatures(study) if checks else ():
        say(f"warning: {signature}")
    if format in {Format.TABLE, Format.MARKDOWN}:
        rows = [row | {"budget": budget_text(row["budget"], norm)} for row in rows]
    put(render(rows, format), format)


def claimed(path: Path, claims: Sequence[Reported]) -> Reported:
    """Return what the list says of a checkpoint: by its path, else by its name."""
    for claim in claims:
        if claim.checkpoint.resolve() == path.resolve():
            return claim
    named = [claim for claim in claims if claim.checkpoint.stem == path.stem]
    if len(named) != 1:
        raise InputError(f"`--reported` says {'nothing' if not named else 'more than one thing'} of {path}")
    return named[0]
