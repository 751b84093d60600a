"""`thinice benchmark export` and `thinice benchmark import`: what goes to the public benchmark, and comes from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinice.cli.options import STORE, OutputOptions, Quiet, StorePath, options
from thinice.cli.output import Messages, put, put_rows

__all__ = ["export", "import_file"]


def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the files go.", show_default=False)],
    store: StorePath = STORE,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there; never the store.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write what the public benchmark asks of a contributor: taxonomy, keys, results, distances, hashes.

    Only networks with a method (--method-entry) and a category of the leaderboards are written. The distances are plain
    numbers in a pickle that calls nothing; results.json has their sample ids and all that the public form lacks.
    """
    from thinice.leaderboard.contribution import export_benchmark

    say = Messages(quiet=quiet)
    exported = export_benchmark(store, folder, overwrite=overwrite)
    for file in exported.files:
        put(str(file))
    for text in exported.missing:
        say(text)
    say("upload checkpoints and distances, and put the ids of the files into issue.md")


@options
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The pickle of distances.", show_default=False)],
    *,
    sample_ids: Annotated[
        str | None,
        typer.Option(
            "--sample-ids",
            metavar="FIRST:END|FILE",
            help="Of which samples the distances are, which the file does not say: 2048:2176 is from 2048 to 2175, "
            "those of the public files; or the results.json of an export.",
        ),
    ] = None,
    model_key: Annotated[
        str | None,
        typer.Option("--model-key", metavar="KEY", help="Key of the network. Default: the name of the file."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Part of the data set of the key.")] = "test",
    store: StorePath = STORE,
    printing: OutputOptions,
) -> None:
    """Read a distance file of the public benchmark into the store, as what its authors claim.

    Nothing in the file is carried out: it may hold numbers alone. The page of the next thinice benchmark shows them.
    """
    from thinice.leaderboard.imported import import_distances

    say = Messages(quiet=printing.quiet)
    imported = import_distances(file, sample_ids, model_key=model_key, split=split, store=store)
    put_rows([imported.to_dict()], printing.format)
    if imported.zeros:
        say(
            f"{imported.zeros} distances are 0: misclassified samples, or failures of the attack, which these files do "
            "not tell apart; low and high are of both readings"
        )
