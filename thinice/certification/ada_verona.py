"""Results of ada-verona, a framework for complete verifiers: a CSV file with an interval for each network and image.

``epsilon_value`` is the largest radius that a verifier said to hold no adversarial (0: none). ``smallest_sat_value`` is
the smallest one that it said to hold one; where it said so of none, ada-verona writes the largest that was tried, so
that this column alone proves nothing. Both are what another program claims.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from thinice.errors import DataError, InputError
from thinice.printable import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ClaimedBounds", "read_results"]

COLUMNS = ("image_id", "original_label", "epsilon_value")
"""What a file must have; others may be missing."""
LARGEST = 2**28
"""Bytes of a file: a row has about a hundred."""
MOST_GROUPS = 1000
"""Networks and verifiers of a file, in pairs: each is stored by itself."""
NAMED = 10
"""So many of a file's networks are named where one must be chosen."""


@dataclass(frozen=True, slots=True, eq=False)
class ClaimedBounds:
    """What one verifier claims of the samples of one network, columns of one length.

    Attributes
    ----------
    network, verifier : str
        Their names in the file.
    sample_ids, labels : ndarray
        (N,) of the images.
    lower, upper, seconds : ndarray
        (N,) radii on the [0, 1] scale, in linf, and what it took; the latter two NaN where the file does not say.

    """

    network: str
    verifier: str
    sample_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    seconds: NDArray[np.float64]


def read_results(path: str | Path) -> tuple[ClaimedBounds, ...]:
    """Return what a file of results claims, for each network and verifier in it.

    Raises
    ------
    DataError
        A file that cannot be read, is none, or is too large; a value that is no number, with its line; an image that
        comes twice.

    """
    path = Path(path)
    groups: dict[tuple[str, str], list[tuple[int, int, float, float, float]]] = {}
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise DataError(f"{path} is no file: give the CSV file of results")
        if size > LARGEST:
            raise DataError(f"{path} has {size / 2**20:.0f} MiB: results of up to {LARGEST // 2**20} MiB are read")
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            names = list(rows.fieldnames or ())
            for name in COLUMNS:
                if names.count(name) != 1:
                    raise DataError(
                        f"{path} is no result of ada-verona: it has {names.count(name) or 'no'} column"
                        f"{'s' if name in names else ''} {name}"
                    )
            for row in rows:
                where = f"{path}, line {rows.line_num}"
                key = _network(row), row.get("verifier") or "unknown verifier"
                if key not in groups and len(groups) == MOST_GROUPS:
                    raise DataError(f"{where}: `network` and `verifier` have more than {MOST_GROUPS} values together")
                groups.setdefault(key, []).append(
                    (
                        _whole(row, "image_id", where),
                        _whole(row, "original_label", where),
                        _radius(row, "epsilon_value", where),
                        _radius(row, "smallest_sat_value", where, default=math.nan),
                        _radius(row, "total_time", where, default=math.nan),
                    )
                )
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file: {error}") from None
    if not groups:
        raise DataError(f"{path} holds no result: there is no row below its first line")
    return tuple(_claims(path, *key, rows) for key, rows in groups.items())


def _claims(path: Path, network: str, verifier: str, rows: list[tuple[int, int, float, float, float]]) -> ClaimedBounds:
    ids, labels, *numbers = zip(*rows, strict=True)
    once, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{path} has image {once[counts > 1][0]} of {shown(network)} by {shown(verifier)} twice")
    lower, upper, seconds = (np.array(column, np.float64) for column in numbers)
    return ClaimedBounds(network, verifier, np.array(ids, np.int64), np.array(labels, np.int64), lower, upper, seconds)


def _network(row: dict[str, str]) -> str:
    """Return the name of a row's network; older versions have its path alone."""
    return row.get("network") or PurePosixPath(row.get("network_path") or "unknown network").stem


def _whole(row: dict[str, str], name: str, where: str) -> int:
    text = row[name] or ""
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise DataError(f"{where}: `{name}` must be a whole number, the index in the data set, got {shown(text)!r}")
    return int(text)


def _radius(row: dict[str, str], name: str, where: str, default: float | None = None) -> float:
    text = row.get(name)
    if not text and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise DataError(f"{where}: `{name}` must be a number of at least 0, got {shown(text or '')!r}")
    return value


def choose(claims: tuple[ClaimedBounds, ...], network: str | None) -> tuple[ClaimedBounds, ...]:
    """Return the claims about one network, by its name in the file; of a single one without.

    Raises
    ------
    InputError
        Where the name is missing, or there is no such network.

    """
    names = list(dict.fromkeys(claim.network for claim in claims))
    if network is None and len(names) == 1:
        return claims
    chosen = tuple(claim for claim in claims if claim.network == network)
    if not chosen:
        known = ", ".join(map(shown, names[:NAMED])) + (", …" if len(names) > NAMED else "")
        raise InputError(f"`network` must be one of the file's networks, got {network!r}: {known}")
    return chosen
