"""`thinice check`: which results in a store cannot all be true."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinice.cli.options import STORE, Format, OutputOptions, options
from thinice.cli.output import Messages, put_rows

__all__ = ["check"]

CONTRADICTED = 3


@options
def check(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The DuckDB file to look into.")] = STORE,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, max=0.99, help="Share of an epsilon by which another may be nearer.")
    ] = 0.1,
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
    from thinice import open_store
    from thinice.checks.contradictions import check_store, pair_row, sample_rows, stored_warnings
    from thinice.checks.study_patterns import stored_patterns

    say, rows = Messages(quiet=printing.quiet), list[dict[str, object]]()
    opened = open_store(store)
    checks = check_store(opened, tolerance=tolerance, most=None if samples else 1)
    for network in checks:
        key: dict[str, object] = {"network": network.network, "data": network.data}
        for finding in network.findings:
            rows += [key | row for row in (sample_rows(finding) if samples else [pair_row(finding)])]
    compared = sum(len(network.attacks) > 1 for network in checks)
    if compared:
        say(f"networks with several attacks: {compared}")
    else:
        say("nothing to hold against each other: measure or evaluate a network with a second attack, norm or budget")
    findings = [finding for network in checks for finding in network.findings]
    for advice in dict.fromkeys(f"{finding.check}: {finding.advice}" for finding in findings):
        say(advice)
    for warning in (*stored_warnings(opened), *map(str, stored_patterns(opened))):
        say(warning)
    if rows or printing.format is not Format.TABLE:
        put_rows(rows, printing.format)
    if rows:
        raise typer.Exit(CONTRADICTED)
