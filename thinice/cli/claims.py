"""`thinice import`: bounds that verifiers claim, beside what the store has found and proved."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinice.cli.loading import load
from thinice.cli.options import STORE, CheckpointOptions, DataOptions, OutputOptions, StorePath, options
from thinice.cli.output import Messages, put_rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["import_claims"]

NAMED = 5
"""So many refuted samples are named."""


@options
def import_claims(
    file: Annotated[
        Path, typer.Argument(help="A result_df.csv of ada-verona, or of thinice export.", show_default=False)
    ],
    checkpoint: Annotated[
        Path, typer.Argument(help="The network that was verified, as a checkpoint.", show_default=False)
    ],
    *,
    network: Annotated[
        str | None,
        typer.Option("--network", metavar="NAME", help="Which network of the file it is; of several one must be said."),
    ] = None,
    selection: DataOptions,
    reading: CheckpointOptions,
    store: StorePath = STORE,
    printing: OutputOptions,
) -> None:
    """Read what verifiers claim of a network, and hold it against the store.

    The file is a table of results of ada-verona; its images are indices in the data set. What it says is shown, and
    refuted where the store has an adversarial within a radius that is claimed to hold none; nothing else counts on it.
    One line a verifier: its claims, those of a radius above 0, those that the store could hold against an adversarial
    (or a proof), and those that are false; each claim: thinice sql 'from claims'. The other way: thinice export
    result_df.csv --what ada_verona.
    """
    from thinice import import_claims as imported

    say = Messages(quiet=printing.quiet)
    (classifier,), samples = load([checkpoint], reading, selection, say)
    claims = imported(file, classifier, samples, network=network, store=store)
    rows = [row(classifier.name, str(verifier), part) for verifier, part in claims.groupby("verifier")]
    for verifier, part in claims[true(claims["lower_refuted"])].groupby("verifier"):
        ids = [str(sample_id) for sample_id in part["sample_id"].head(NAMED)]
        more = ", …" if len(part) > NAMED else ""
        say(f"warning: {verifier}: an adversarial lies within the claimed radius of sample {', '.join(ids)}{more}")
    option = "" if store == STORE else f" --store {shlex.quote(str(store))}"
    if claims["epsilon"].isna().all():
        say(f"{store} has no adversarial of these samples yet, to hold the claims against: thinice measure{option}")
    say(f"every claim in {store}: thinice sql{option} 'from claims'")
    put_rows(rows, printing.format)


def row(network: str, verifier: str, claims: pd.DataFrame) -> dict[str, Any]:
    """Return what one verifier claims of a network: how many claims, how many could be checked, how many are false."""
    counts = {
        "radius_above_0": claims["claimed_lower"] > 0,
        "held_against_epsilon": claims["epsilon"].notna(),
        "lower_refuted": true(claims["lower_refuted"]),
        "held_against_proof": claims["upper_refuted"].notna(),
        "upper_refuted": true(claims["upper_refuted"]),
    }
    return {
        "network": network,
        "verifier": verifier,
        "claims": len(claims),
        **{name: int(which.sum()) for name, which in counts.items()},
    }


def true(column: pd.Series[Any]) -> pd.Series[bool]:
    """Return where a column of the store is true: neither false nor missing."""
    return column.astype("boolean").fillna(False).astype(bool)
