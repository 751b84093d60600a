"""`thinice compare`: the main job."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from thinice.analysis.options import NOISE, CompareOptions, MeasureAllOptions, ShardOptions, StoredMeasureOptions
from thinice.cli.loading import load
from thinice.cli.measure import measure_and_print
from thinice.cli.options import (
    STORE,
    CheckpointOptions,
    DataOptions,
    FigureOptions,
    Format,
    OutputOptions,
    options,
)
from thinice.cli.output import Messages, aligned, put, render, wrapped
from thinice.cli.stopping import exit_on_interrupt
from thinice.errors import InputError
from thinice.files import refuse_folder
from thinice.printable import LONGEST_MESSAGE, shown

if TYPE_CHECKING:
    from thinice import Comparison

__all__ = ["compare", "prepare", "report"]


@options
def compare(
    dense: Annotated[Path, typer.Argument(help="Checkpoint before pruning.", show_default=False)],
    pruned: Annotated[list[Path], typer.Argument(help="Checkpoints after pruning.", show_default=False)],
    *,
    selection: DataOptions,
    comparing: CompareOptions,
    sharing: ShardOptions,
    reading: CheckpointOptions,
    drawing: FigureOptions,
    printing: OutputOptions,
) -> None:
    """Show which samples pruning loses, and how close to the dense network's boundary they lay.

    The table goes to standard output, every sample into the store, the figures into a folder. What the store holds
    already is not measured again: after Ctrl-C or a crash the same command goes on where it stopped. With --shard the
    distances of one part of the samples are measured, and nothing is compared: that does the same command without it,
    on the store that thinice merge makes of the parts.
    """
    from thinice import compare_all

    say = Messages(quiet=printing.quiet)
    if "shard" in sharing:
        measure_shard([dense, *pruned], selection, comparing, sharing, reading, printing)
        return
    prepare(drawing.folder)
    controls = control_files(comparing)
    (first, *networks), samples = load([dense, *pruned, *controls], reading, selection, say)
    others = networks[: len(pruned)]
    if controls:
        comparing["control"] = networks[len(pruned) :]
    comparing["progress"], store = not printing.quiet, Path(str(comparing["store"]))
    with exit_on_interrupt(f"What was measured is in {store}; the same command goes on there."):
        comparisons = compare_all(first, others, samples, **comparing)
        report(comparisons, store, drawing.folder, printing.format, say, device=str(comparing["device"]))


def measure_shard(
    files: Sequence[Path],
    selection: DataOptions,
    comparing: CompareOptions,
    sharing: ShardOptions,
    reading: CheckpointOptions,
    printing: OutputOptions,
) -> None:
    """Measure the distances that a comparison needs, on a shard: of the dense network, or of all where it asks for it.

    What costs few passes a sample (predictions, gradients, control networks), and the search for what only lost samples
    need, is left to the comparison itself.
    """
    from thinice.analysis.comparison import distinct

    if comparing.get("robust_by") is not None:
        raise InputError(
            "`--robust-by` is not measured in shards: thinice evaluate does, into the store that the parts are merged "
            "into; leave it out with --shard"
        )
    say = Messages(quiet=printing.quiet)
    networks, samples = load(files, reading, selection, say)
    both = comparing["distances"] == "both" or comparing["basis"] == "robust"
    wanted = StoredMeasureOptions.__annotations__.keys()
    measuring = {name: value for name, value in comparing.items() if name in wanted} | dict(sharing)
    measured = distinct(networks) if both else networks[:1]
    measure_and_print(measured, samples, cast("MeasureAllOptions", measuring), printing, say)


def control_files(comparing: CompareOptions) -> list[Path]:
    """Return the checkpoints that ``--control`` names; the word noise alone stays where it is, as the API takes it."""
    given = comparing.get("control")
    if given is None or not isinstance(given, list):
        return []
    if given == [NOISE]:
        comparing["control"] = NOISE
        return []
    if NOISE in given:
        raise InputError("`--control noise` goes alone: leave it out, or the checkpoints beside it")
    return [Path(str(file)) for file in given]


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
    put(
        table(comparisons)
        if how is Format.TABLE
        else render([comparison.to_dict() for comparison in comparisons], how),
        how,
    )
    for pattern in dict.fromkeys(pattern for comparison in comparisons for pattern in comparison.patterns):
        say(f"warning: {pattern}")
    if figures is not None:
        from thinice.analysis.boundary_slice import typical_slice
        from thinice.plots.figure_set import save_figures

        planes = [typical_slice(comparison, device=device) for comparison in comparisons]
        files = save_figures(comparisons, figures, planes=planes)
        say(f"{len(files)} figures in {figures}")
    if all(comparison.budget is None and comparison.separation.control is None for comparison in comparisons):
        say(
            "any change of a network loses thin ice; whether pruning loses it more than noise on the weights that "
            "changes as many predictions: the same command with --control noise, some 20 forward passes a sample"
        )
    option = "" if store == STORE else f" --store {shlex.quote(str(store))}"
    say(f"every sample in {store}; ask it: thinice sql{option} 'from thin_ice limit 10'")


def table(comparisons: Sequence[Comparison]) -> str:
    """Return what people read: a column a pruned network, then the answer to the question and its caveats."""
    first = comparisons[0]
    head = (
        f"{len(first.labels)} samples of {shown(first.data)} ({first.split}); epsilon: distance to the boundary of "
        f"{shown(first.dense)}, {first.norm}, by {first.attack.name}"
    )
    from thinice.results import several

    columns = [dict(comparison.table()) for comparison in comparisons]
    lines = [["", *(shown(comparison.pruned) for comparison in comparisons)]]
    names = max(columns, key=len)  # a line that one network lacks is a dash
    lines += [[name, *(column.get(name, "—") for column in columns)] for name in names]
    answers = [comparison.answer for comparison in comparisons]
    notes = [f"{comparison.pruned}: {note}" for comparison in comparisons for note in comparison.separation.notes]
    search = [f"{first.dense}: {note}" for note in first.search_notes]
    search += [f"{each.pruned}: {note}" for each in comparisons for note in each.pruned_search_notes]
    together = [sentence for sentence in (several(comparisons),) if sentence]
    sentences = [shown(sentence, LONGEST_MESSAGE) for sentence in (*answers, *together, *notes, *search)]
    return "\n".join([head, "", aligned(lines), *(f"\n{wrapped(sentence)}" for sentence in sentences)])
