"""`thinice check`: which results in a store cannot all be true."""

from __future__ import annotations

from typing import Annotated

import typer

from thinice.cli.options import STORE, Format, OutputOptions, StorePath, options
from thinice.cli.output import Messages, put_rows

__all__ = ["check"]

CONTRADICTED = 3


@options
def check(
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, max=0.99, help="Share of an epsilon by which another may be nearer.")
    ] = 0.1,
    store: StorePath = STORE,
    *,
    samples: Annotated[bool, typer.Option("--samples", help="One line a sample instead of one a pair.")] = False,
    printing: OutputOptions,
) -> None:
    """Check whether the results in a store can all be true.

    Results of the same samples are compared: an adversarial example in one norm bounds the distance in all others; a
    sample that is broken at a budget is not robust there; more steps must not change much. Standard error shows the
    findings of earlier evaluations too, and patterns that failed studies show: robust accuracy that jumps over
    sparsities, trends that disagree, no separation. Exit code 0: all fits; 3: something contradicts, one line for each
    pair of attacks; 1: the store cannot be read.
    """
    from thinice import check as check_results

    say = Messages(quiet=printing.quiet)
    checked = check_results(store, tolerance=tolerance, most=None if samples else 1)
    if checked.compared:
        say(f"networks with several attacks: {checked.compared}")
    else:
        say("nothing to hold against each other: measure or evaluate a network with a second attack, norm or budget")
    for sentence in (*checked.advice, *checked.warnings):
        say(sentence)
    rows = checked.rows(by_sample=samples)
    if rows or printing.format is not Format.TABLE:
        put_rows(rows, printing.format)
    if rows:
        raise typer.Exit(CONTRADICTED)
