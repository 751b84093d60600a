"""What two stores say of the same samples: the same, the same but for rounding, or something else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thinice.errors import InputError
from thinice.store.connection import ask, located, reading, reading_both
from thinice.store.schema import refuse_other_schema
from thinice.store.sql import query

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    import pandas as pd

__all__ = ["Differences", "differences"]

MOST = 1000
"""So many differences are returned one by one; all are counted."""


@dataclass(frozen=True, slots=True)
class Differences:
    """What two stores say of the same samples of the same networks, by the same attacks.

    Attributes
    ----------
    compared : int
        Epsilons, verdicts at a budget, corrections, lower bounds and predictions that both stores hold.
    same : int
        Of them, the same to the bit.
    rounding : int
        Of them, with the same outcome, and an epsilon that is the same but for rounding.
    different : int
        All others.
    rows : DataFrame
        The first of these, one a row: ``what``, ``network``, ``attack``, ``sample_id``, ``outcome``,
        ``outcome_again``, ``epsilon``, ``epsilon_again``.

    """

    compared: int
    same: int
    rounding: int
    different: int
    rows: pd.DataFrame


def differences(
    path: Path, other: str | PathLike[str], patience: float, *, tolerance: float, most: int = MOST
) -> Differences:
    """Return what another store says otherwise of what both hold.

    Raises
    ------
    InputError
        For a tolerance outside [0, 1).
    StoreError
        For a file that is no store, or one of another version of thinice.

    """
    if not 0 <= tolerance < 1:
        raise InputError(f"`tolerance` must be at least 0 and below 1, got {tolerance:g}")
    file = located(other)
    with reading(file, patience, own=True) as connection:
        refuse_other_schema(connection, file)
    with reading_both(path, file, patience) as connection:
        ask(connection, query("compared_stores"), tolerance=tolerance)
        ((compared, same, rounding),) = ask(connection, query("count_compared"))
        rows = connection.execute(query("differences"), {"most": most}).df()
    return Differences(compared, same, rounding, compared - same - rounding, rows)
