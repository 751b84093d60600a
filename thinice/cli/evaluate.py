"""`thinice evaluate`: robust accuracy at a budget, sample by sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from thinice.cli.loading import load
from thinice.cli.messages import Speaker, interruptible
from thinice.cli.options import (
    STORE,
    Architecture,
    BatchSize,
    Data,
    Device,
    EffortOption,
    Format,
    FormatOption,
    ImageSize,
    Kept,
    Limit,
    Normalization,
    NormOption,
    Quiet,
    Seed,
    Split,
    Steps,
    StorePath,
    TrustPickle,
    batch_size_value,
)
from thinice.cli.render import render

__all__ = ["evaluate"]

BudgetAttack = Annotated[
    str,
    typer.Option(
        "--attack",
        help="autoattack; one of its attacks (apgd-ce, apgd-dlr, apgd-t, fab, fab-t, square); pgd, cw, bb (Merkle et "
        "al.); foolbox:NAME; or an attack that minimises the norm (fmn, race), which answers for all budgets.",
    ),
]
Budgets = Annotated[
    list[str],
    typer.Option("--budget", metavar="RADIUS", help="Radius on the [0, 1] scale: 8/255, 0.5. May be given again."),
]
Shortcut = Annotated[
    bool,
    typer.Option(
        "--shortcut/--no-shortcut",
        help="Spare the samples that the store knows an adversarial for, within the budget and by any attack.",
    ),
]
BothWays = Annotated[
    bool, typer.Option("--both-ways", help="Attack all samples, and tell the accuracy with and without the shortcut.")
]


def evaluate(
    checkpoint: Annotated[list[Path], typer.Argument(help="Checkpoints to evaluate.", show_default=False)],
    budget: Budgets,
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
    architecture: Architecture = None,
    normalization: Normalization = None,
    kept: Kept = None,
    trust_pickle: TrustPickle = False,
    device: Device = "auto",
    batch_size: BatchSize = "auto",
    seed: Seed = 0,
    store: StorePath = STORE,
    format: FormatOption = Format.TABLE,  # noqa: A002 (the option's name)
    quiet: Quiet = False,
) -> None:
    """Evaluate which samples stand at a budget, and store what the others fell to: one line a network and budget.

    Every sample's verdict is in the store afterwards: thinice sql 'from verdicts'.
    """
    from thinice import open_store
    from thinice.evaluation import Evaluator, attack_of
    from thinice.robustness import budget_text, budget_value

    say = Speaker(quiet=quiet)
    budgets = sorted(set(budget), key=lambda one: budget_value(one, norm))
    classifiers, samples = load(
        checkpoint,
        data=data,
        split=split,
        limit=limit,
        image_size=image_size,
        architecture=architecture,
        normalization=normalization,
        kept=kept,
        trust_pickle=trust_pickle,
        say=say,
    )
    chosen: dict[str, Any] = {} if steps is None else {"steps": steps}
    with interruptible(f"What was evaluated is in {store}; the same command goes on there."):
        evaluator = Evaluator(
            open_store(store, new=True),
            samples,
            device=device,
            batch_size=batch_size_value(batch_size),
            progress=not quiet,
        )
        rows = []
        for one in classifiers:
            for radius in budgets:  # the smaller first: whoever falls at it has fallen at the larger ones
                bound = evaluator.bind(one, attack, norm=norm, budget=radius, effort=effort, seed=seed, settings=chosen)
                with evaluator.run(attack_of(bound), seed=seed):
                    found = evaluator.robustness(one, bound, budget=radius, shortcut="both" if both_ways else shortcut)
                rows.append(found.to_dict())
    if format in {Format.TABLE, Format.MARKDOWN}:
        rows = [row | {"budget": budget_text(row["budget"], norm)} for row in rows]
    print(render(rows, format))
