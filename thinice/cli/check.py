"""`thinice check`: which results in a store cannot all be true."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinice.cli.options import STORE, Format, FormatOption, Quiet
from thinice.cli.output import Messages, put, render

__all__ = ["check"]

CONTRADICTED = 3


def check(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The DuckDB file to look into.")] = STORE,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, max=0.99, help="Share of an epsilon by which another may be nearer.")
    ] = 0.1,
    samples: Annotated[bool, typer.Option("--samples", help="One line a sample instead of one a pair.")] = False,
    format: FormatOption = Format.TABLE,  # noqa: A002 (the option's name)
    quiet: Quiet = False,
) -> None:
    """Check whether what the attacks in a store say of the same samples fits together: norms, budgets, steps.

    An adversarial in hand in one norm bounds the distance in all others; who falls at a budget is not robust there;
    more steps must not change much. What the checks of the evaluations raised, and patterns that failed studies show
    (robust accuracy that jumps over sparsities, trends that disagree, no separation), are told on standard error. Exit
    code 0: all fits; 3: something contradicts, one line for each pair of attacks; 1: the store cannot be read.
    """
    from thinice import open_store
    from thinice.checks.contradictions import check_store, pair_row, sample_rows, stored_warnings
    from thinice.checks.study_patterns import stored_patterns

    say, rows = Messages(quiet=quiet), list[dict[str, object]]()
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
    if rows or format is not Format.TABLE:
        put(render(rows, format), format)
    if rows:
        raise typer.Exit(CONTRADICTED)
