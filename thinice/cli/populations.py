"""`thinice populations`: several dense and several pruned networks, as groups."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinice.analysis.options import StoredMeasureOptions
from thinice.cli.loading import load
from thinice.cli.options import CheckpointOptions, DataOptions, Format, OutputOptions, options
from thinice.cli.output import Messages, aligned, put, records, render, wrapped
from thinice.cli.stopping import exit_on_interrupt
from thinice.errors import InputError
from thinice.printable import LONGEST_MESSAGE, shown

if TYPE_CHECKING:
    from thinice.results import Populations

__all__ = ["populations"]


@options
def populations(
    *,
    dense: Annotated[
        list[str],
        typer.Option("--dense", metavar="FILE|PATTERN", help="Checkpoints before pruning: 'seeds/dense-*.pt', quoted."),
    ],
    pruned: Annotated[
        list[str],
        typer.Option("--pruned", metavar="FILE|PATTERN", help="Checkpoints after pruning: 'seeds/pruned-*.pt'."),
    ],
    selection: DataOptions,
    measuring: StoredMeasureOptions,
    reading: CheckpointOptions,
    printing: OutputOptions,
) -> None:
    """Show on which samples most pruned networks say otherwise than most dense ones, and how close these lay.

    All dense networks are measured; what the store holds already is not measured again.
    """
    from thinice import compare_populations

    say = Messages(quiet=printing.quiet)
    groups = [files(dense, "--dense"), files(pruned, "--pruned")]
    networks, samples = load([*groups[0], *groups[1]], reading, selection, say)
    measuring["progress"] = not printing.quiet
    first, others = networks[: len(groups[0])], networks[len(groups[0]) :]
    with exit_on_interrupt(f"What was measured is in {measuring['store']}; the same command goes on there."):
        result = compare_populations(first, others, samples, **measuring)
    how = printing.format
    put(table(result) if how is Format.TABLE else render([result.to_dict()], how), how)


def files(patterns: Sequence[str], option: str) -> list[Path]:
    """Return the files that names and patterns name, each once, in their order.

    Raises
    ------
    InputError
        For a pattern that no file has; a plain name may also be of no file, which the loader says better.

    """
    found: list[Path] = []
    for pattern in patterns:
        named = [pattern]
        if glob.has_magic(pattern) and not Path(pattern).exists():
            named = sorted(glob.glob(pattern))  # noqa: PTH207 (absolute patterns, too)
            if not named:
                raise InputError(f"`{option}` {pattern!r} is the pattern of no file: look for them by ls")
        found += [Path(name) for name in named]
    return list(dict.fromkeys(found))


def table(result: Populations) -> str:
    """Return what people read: counts and accuracies, the classes, then the answer and its caveats."""
    head = (
        f"{len(result.labels)} samples of {shown(result.data)} ({result.split}); epsilon: median over the dense "
        f"networks, {result.norm}, by {result.attack.name}"
    )
    lines = [["", "populations"], *([name, value] for name, value in result.table())]
    classes = render(records(result.class_tests.frame()), Format.TABLE)
    said = [wrapped(shown(text, LONGEST_MESSAGE)) for text in (result.answer, *result.exemplars.distances.notes)]
    return "\n".join([head, "", aligned(lines), "", classes, "", *said])
