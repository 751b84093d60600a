"""`thinice benchmark`: pruned networks by one protocol, ranked among published ones; and what goes out and comes in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinice.cli.loading import load
from thinice.cli.options import (
    CheckpointOptions,
    DataOptions,
    Format,
    OneByOne,
    OutputOptions,
    data_sets,
    options,
)
from thinice.cli.output import Messages, aligned, put, put_rows, wrapped
from thinice.cli.stopping import exit_on_interrupt
from thinice.errors import InputError
from thinice.leaderboard.protocol import BenchmarkOptions
from thinice.printable import LONGEST_MESSAGE, shown

if TYPE_CHECKING:
    from thinice.leaderboard import MethodEntry, ModelKey
    from thinice.leaderboard.estimate import BenchmarkEstimate
    from thinice.leaderboard.ranking import RankedRow
    from thinice.leaderboard.results import Benchmark, BenchmarkRow

__all__ = ["benchmark"]

SAMPLES = 1000
PAGE = Path("benchmark.html")
NONE = "none"
"""What stands for "nothing said" of one network, where others have it."""


@options
def benchmark(
    checkpoint: Annotated[list[Path], typer.Argument(help="Checkpoints after pruning.", show_default=False)],
    *,
    dense: Annotated[Path, typer.Option("--dense", metavar="CHECKPOINT", help="The network before pruning.")],
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="NAME|PATH", help=f"Data set: {data_sets()}. Default: the one that --dense names."
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(
            "--samples", min=1, help="Only N test samples: balanced, as many of each class, and the same every time."
        ),
    ] = SAMPLES,
    method_entry: Annotated[
        list[str] | None,
        typer.Option(
            "--method-entry",
            metavar="KEY|FILE",
            help="How the networks were pruned: the key of a published method (HYDRA_Sehwag2020Hydra), or a JSON file "
            "with an entry of the taxonomy. Once for all, or once for each checkpoint (none: not said).",
        ),
    ] = None,
    model_key: Annotated[
        list[str] | None,
        typer.Option(
            "--model-key",
            metavar="KEY",
            help="Key of each network in the public benchmark, METHOD_R18_CIFAR10_US_90, held against what is "
            "measured. Once for each checkpoint (none: not said).",
        ),
    ] = None,
    tune_split: Annotated[
        str, typer.Option("--tune-split", metavar="SPLIT", help="The part of the data that tunes HO-FMN: 64 samples.")
    ] = "train",
    one_by_one: OneByOne = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what it costs: passes of each part, and the time.")
    ] = False,
    page: Annotated[
        Path, typer.Option("--page", metavar="PATH", help="The page with the ranking; an older one is replaced.")
    ] = PAGE,
    no_page: Annotated[bool, typer.Option("--no-page", help="Write no page.")] = False,
    benchmarking: BenchmarkOptions,
    reading: CheckpointOptions,
    printing: OutputOptions,
) -> None:
    """Measure pruned networks by one protocol, and rank them among those of the published leaderboards.

    Clean accuracy, AutoAttack at 8/255 (linf), minimum norms and the area under their security curve, HO-FMN as
    published, sparsity, and which samples pruning loses, clean and robust. What the store holds already is not measured
    again: after Ctrl-C or a crash the same command goes on where it stopped.

    thinice benchmark export and thinice benchmark import exchange files with the public benchmark.
    """
    from thinice import benchmark as run_benchmark
    from thinice import open_store, samples_to_tune_on

    say = Messages(quiet=printing.quiet)
    target = None if no_page or dry_run else page_target(page, Path(str(benchmarking["store"])))
    methods = methods_for(method_entry, len(checkpoint))
    keys = keys_for(model_key, len(checkpoint))
    selection = DataOptions(data=data, limit=samples, one_by_one=one_by_one)
    (first, *networks), chosen = load([dense, *checkpoint], reading, selection, say)
    tune_on = samples_to_tune_on(chosen, data=data, split=tune_split)
    if dry_run:
        from thinice.leaderboard.estimate import estimate_benchmark

        estimates = estimate_benchmark(
            networks,
            first,
            chosen,
            tune_on,
            store=Path(str(benchmarking["store"])),
            seed=benchmarking["seed"],
            device=str(benchmarking["device"]),
        )
        show_estimates(estimates, printing.format)
        return
    benchmarking["progress"] = not printing.quiet
    with (
        exit_on_interrupt(f"What was measured is in {benchmarking['store']}; the same command goes on there."),
        say.doubts(),
    ):
        result = run_benchmark(
            networks, first, chosen, methods=methods, model_keys=keys, tune_on=tune_on, **benchmarking
        )
    for row in result.rows:
        say.notes(row.network, row.notes)
    if printing.format is Format.TABLE:
        put(text(result))
    else:
        put_rows(result.to_dicts(), printing.format)
    if target is not None:
        from thinice.leaderboard.imported import imported_distances
        from thinice.report.benchmark import save_benchmark_page

        others = imported_distances(open_store(str(benchmarking["store"])))
        save_benchmark_page(result, target, imported=others)
        say(f"ranking and pipelines in {target}")


def page_target(page: Path, store: Path) -> Path:
    """Return where the page goes, or raise before anything is measured."""
    from thinice.report.benchmark import writable_page

    return writable_page(page, store=store)


def methods_for(named: Sequence[str] | None, checkpoints: int) -> list[MethodEntry | None]:
    """Return the method of each checkpoint: named once for all, or once for each.

    Raises
    ------
    InputError
        For another number of names, and for a file with several entries.

    """
    from thinice.leaderboard.taxonomy import find_methods

    entries: list[MethodEntry | None] = []
    for name in _for_each(named, checkpoints, "--method-entry"):
        found = (None,) if name is None else find_methods(name)
        if len(found) != 1:
            raise InputError(f"`--method-entry` {name} has {len(found)} entries: give a file with one")
        entries += found
    return entries


def keys_for(named: Sequence[str] | None, checkpoints: int) -> list[ModelKey | None]:
    """Return the key of each checkpoint, where it was given."""
    from thinice.leaderboard import ModelKey

    return [None if name is None else ModelKey.parse(name) for name in _for_each(named, checkpoints, "--model-key")]


def _for_each(named: Sequence[str] | None, checkpoints: int, option: str) -> list[str | None]:
    from thinice.cli.loading import for_each

    return [None if name in {None, NONE} else name for name in for_each(named, checkpoints, option)]


def show_estimates(estimates: Sequence[BenchmarkEstimate], how: Format) -> None:
    """Print what the benchmark costs: a line a network, and for people the sum."""
    from thinice.engines.progress import duration

    people = how is Format.TABLE
    put_rows(
        [
            {
                "network": estimate.network,
                "distances": _whole(estimate.distances),
                "autoattack": _whole(estimate.at_budget),
                "tuning": _whole(estimate.tuning),
                "ho_fmn": _whole(estimate.ho_fmn),
                "time" if people else "seconds": duration(estimate.seconds) if people else estimate.seconds,
            }
            for estimate in estimates
        ],
        how,
    )
    if people:
        total = duration(sum(estimate.seconds for estimate in estimates))
        put(f"\npasses of single samples, at most: a sample that breaks early costs less. Together about {total}")


def _whole(passes: float | None) -> int | None:
    return None if passes is None else round(passes)


def text(result: Benchmark) -> str:
    """Return what people read: a column a network, the rankings, and what they leave open."""
    names = [shown(result.dense.network), *(shown(row.network) for row in result.rows)]
    columns = [_dense_column(result), *(_column(row, result) for row in result.rows)]
    lines = [["", *names]] + [[name, *(column.get(name, "—") for column in columns)] for name in columns[-1]]
    parts = [
        f"{len(result.sample_ids)} samples of {shown(result.data)} ({result.split}); intervals at 95 %",
        aligned(lines),
    ]
    for category, rows in result.rankings().items():
        label = "no published leaderboard" if category is None else category.label
        parts.append(ranking_text(f"{label}: by robust accuracy under {_attack(result)} at {_budget(result)}", rows))
    return "\n\n".join(parts)


def ranking_text(label: str, rows: Sequence[RankedRow]) -> str:
    """Return a ranking with what it leaves open."""
    from thinice.leaderboard.ranking import CAVEAT
    from thinice.leaderboard.results import MEASURED

    head = ["rank", "network", "robust", "95 % interval", "samples", ""]
    body = [
        [
            row.rank_text(len(rows)),
            shown(row.count.name),
            f"{row.count.share:.1%}",
            f"{row.interval.low:.1%} to {row.interval.high:.1%}",
            str(row.count.n),
            MEASURED if row.source == MEASURED else "published",
        ]
        for row in rows
    ]
    notes = [row.note(len(rows)) for row in rows if row.source == MEASURED]
    if any(row.source != MEASURED for row in rows):
        notes.append(CAVEAT)
    said = [wrapped(shown(note, LONGEST_MESSAGE)) for note in notes if note]
    return "\n\n".join([f"{label}\n\n{aligned([head, *body])}", *said])


def _dense_column(result: Benchmark) -> dict[str, str]:
    row = result.dense.to_dict()
    return _accuracy_lines(row, result)


def _column(row: BenchmarkRow, result: Benchmark) -> dict[str, str]:
    values = row.to_dict()
    budget = _budget(result)
    return {
        "sparsity": f"{row.removed_share:.1%}",
        "structure": row.structure,
        "method": "—" if row.method is None else shown(row.method.key),
        **_accuracy_lines(values, result),
        f"HO-FMN at {budget}": _share(values, "ho_fmn_accuracy", "ho_fmn"),
        "S1,0  lost: on thin ice": str(values["S1,0"]),
        "AUC": _auc(values, ""),
        f"S1,0  robust at {budget}": str(values["robust_S1,0"]),
        f"AUC, robust at {budget}": _auc(values, "robust_"),
    }


def _accuracy_lines(row: dict[str, Any], result: Benchmark) -> dict[str, str]:
    budget, end = _budget(result), f"{255 * result.protocol.curve_end:.3g}/255"
    return {
        "clean accuracy": _share(row, "clean_accuracy", "clean"),
        f"{_attack(result)} at {budget}": _share(row, "robust_accuracy", "robust"),
        "all attacks together": f"{row['worst_case_accuracy']:.1%}",
        f"area to {end}": f"{row['area']:.3f} ({row['area_low']:.3f} to {row['area_high']:.3f})",
    }


def _attack(result: Benchmark) -> str:
    return "AutoAttack" if result.protocol.budget_attack == "autoattack" else result.protocol.budget_attack


def _budget(result: Benchmark) -> str:
    from thinice.attacks.fixed_budget import budget_text

    return budget_text(result.protocol.budget, "linf")


def _share(row: dict[str, Any], name: str, bounds: str) -> str:
    return f"{row[name]:.1%} ({row[f'{bounds}_low']:.1%} to {row[f'{bounds}_high']:.1%})"


def _auc(row: dict[str, Any], prefix: str) -> str:
    value, low, high = (row[f"{prefix}{name}"] for name in ("auc", "auc_low", "auc_high"))
    if value is None:
        return "—"
    return f"{value:.3f}" + ("" if low is None else f" ({low:.3f} to {high:.3f})")
