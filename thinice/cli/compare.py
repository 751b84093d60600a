"""`thinice compare`: the main job."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinice.cli.loading import load
from thinice.cli.options import (
    STORE,
    Architecture,
    AttackName,
    BatchSize,
    Compiled,
    Data,
    Density,
    Device,
    DistancesOption,
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
from thinice.cli.output import Messages, aligned, put, render
from thinice.cli.stopping import exit_on_interrupt
from thinice.errors import InputError
from thinice.files import refuse_folder
from thinice.printable import LONGEST_MESSAGE, shown
from thinice.types import DEFAULT_ATTACK, Basis

if TYPE_CHECKING:
    from thinice import Comparison

__all__ = ["FIGURES", "Figures", "compare", "prepare", "report"]

FIGURES = Path("thinice-figures")

Figures = Annotated[Path, typer.Option("--figures", metavar="DIR", help="Folder for the figures, as PNG and SVG.")]
BasisOption = Annotated[
    Basis, typer.Option("--basis", help="What correct means: right on the clean sample, or robust at a budget.")
]
BudgetOption = Annotated[
    str | None, typer.Option("--budget", metavar="RADIUS", help="Of --basis robust, on the [0, 1] scale: 8/255, 0.5.")
]
By = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="ATTACK",
        help="Of --basis robust: whose verdicts count, autoattack say; else --attack's epsilons.",
    ),
]
NoFigures = Annotated[bool, typer.Option("--no-figures", help="Draw nothing.")]


def compare(
    dense: Annotated[Path, typer.Argument(help="Checkpoint before pruning.", show_default=False)],
    pruned: Annotated[list[Path], typer.Argument(help="Checkpoints after pruning.", show_default=False)],
    data: Data = None,
    split: Split = "test",
    limit: Limit = None,
    image_size: ImageSize = None,
    norm: NormOption = "linf",
    attack: AttackName = DEFAULT_ATTACK,
    effort: EffortOption = "standard",
    distances: DistancesOption = "dense",
    basis: BasisOption = "clean",
    budget: BudgetOption = None,
    by: By = None,
    steps: Steps = None,
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
    figures: Figures = FIGURES,
    no_figures: NoFigures = False,
    format: FormatOption = Format.TABLE,  # noqa: A002 (the option's name)
    quiet: Quiet = False,
) -> None:
    """Show which samples pruning loses, and how close to the dense network's boundary they lay.

    The table goes to standard output, every sample into the store, the figures into a folder. What the store holds
    already is not measured again: after Ctrl-C or a crash the same command goes on where it stopped.
    """
    from thinice import compare_all, make_attack

    say = Messages(quiet=quiet)
    prepare(None if no_figures else figures)
    (first, *others), samples = load(
        [dense, *pruned],
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
    chosen: dict[str, Any] = {} if steps is None else {"steps": steps}
    with exit_on_interrupt(f"What was measured is in {store}; the same command goes on there."):
        comparisons = compare_all(
            first,
            others,
            samples,
            attack=make_attack(attack, norm=norm, effort=effort, seed=seed, precision=precision, **chosen),
            seed=seed,
            device=device,
            batch_size=batch_size_value(batch_size),
            compiled=compiled,
            distances=distances,
            basis=basis,
            budget=budget,
            by=by,
            store=store,
            progress=not quiet,
        )
        report(comparisons, store, None if no_figures else figures, format, say, device=device)


def prepare(figures: Path | None) -> None:
    """Make the folder of the figures, so that one that cannot be made is told before hours of measuring."""
    if figures is None:
        return
    try:
        figures.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"`--figures` {figures} cannot be made: {error.strerror or error}") from None
    refuse_folder(figures, f"`--figures` {figures}")


def report(
    comparisons: Sequence[Comparison], store: Path, figures: Path | None, how: Format, say: Messages, *, device: str
) -> None:
    """Print the comparisons, draw the figures, and say where everything is."""
    put(table(comparisons) if how is Format.TABLE else render([one.to_dict() for one in comparisons], how), how)
    warn(comparisons, store, say)
    if figures is not None:
        from thinice.plots.figure_set import save_figures

        files = save_figures(comparisons, figures, device=device)
        say(f"{len(files)} figures in {figures}")
    where = "" if store == STORE else f" --store {shlex.quote(str(store))}"
    say(f"every sample in {store}; ask it: thinice sql{where} 'from thin_ice limit 10'")


def warn(comparisons: Sequence[Comparison], store: Path, say: Messages) -> None:
    """Say which failure signatures the store shows of the networks compared."""
    from thinice import open_store
    from thinice.checks.study_patterns import store_signatures

    compared = {one.pruned for one in comparisons}
    for signature in store_signatures(open_store(store)):
        if compared & set(signature.networks):
            say(f"warning: {signature}")


def table(comparisons: Sequence[Comparison]) -> str:
    """Return what people read: a column a pruned network, then the answer to the question and its caveats."""
    first = comparisons[0]
    head = (
        f"{len(first.labels)} samples of {shown(first.data)} ({first.split}); epsilon: distance to the boundary of "
        f"{shown(first.dense)}, {first.norm}, by {first.attack.name}"
    )
    columns = [dict(one.table()) for one in comparisons]
    lines = [["", *(shown(one.pruned) for one in comparisons)]]
    lines += [[name, *(column[name] for column in columns)] for name in columns[0]]
    answers = [one.answer for one in comparisons]
    notes = [f"{one.pruned}: {note}" for one in comparisons for note in one.separation.notes]
    search = [f"{first.dense}: {note}" for note in first.search_notes]
    told = [shown(sentence, LONGEST_MESSAGE) for sentence in (*answers, *notes, *search)]
    return "\n".join([head, "", aligned(lines), "", *told])
