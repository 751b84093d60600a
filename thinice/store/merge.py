"""Merging: what parts of a measurement, each a store of its own, know of samples comes into one store."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thinice.errors import StoreError
from thinice.store.connection import ask, located, merging, reading
from thinice.store.run_base import refuse_contradicted_proofs
from thinice.store.schema import refuse_other_schema
from thinice.store.sql import query

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike
    from pathlib import Path

    from thinice.store.connection import Connection

__all__ = ["Incomplete", "existing_part", "incomplete", "merge_part"]


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A measurement of shards that has not all its samples yet.

    Attributes
    ----------
    network, norm, attack : str
        What was measured.
    measured, wanted : int
        Samples that it has, and of the whole selection.
    missing, unfinished : tuple of str
        Shards of which it has no sample, and not all: ``"3/64"``.

    """

    network: str
    norm: str
    attack: str
    measured: int
    wanted: int
    missing: tuple[str, ...]
    unfinished: tuple[str, ...]

    def __str__(self) -> str:
        shards = {"missing": self.missing, "unfinished": self.unfinished}
        told = "; ".join(f"{word}: shard {', '.join(names)}" for word, names in shards.items() if names)
        return f"{self.network}, {self.norm}, {self.attack}: {self.measured} of {self.wanted} samples; {told}"


def existing_part(part: str | PathLike[str]) -> Path:
    """Return the file of a part; raise StoreError where there is none."""
    file = located(part)
    if not file.exists():
        raise StoreError(f"there is no store at {file}: `thinice measure … --shard I/N --store {file}` makes a part")
    return file


def merge_part(path: Path, part: str | PathLike[str], patience: float) -> None:
    """Let a store have what another one knows of samples, in one transaction; what it has already stays.

    Raises
    ------
    StoreError
        For a part that is no store, or one of another version of thinice or torch, and where it has another network
        under the name of one that is here: nothing is merged.

    """
    file = existing_part(part)
    if path.exists() and file.samefile(path):
        raise StoreError(f"{path} cannot be merged into itself: give the parts alone")
    with reading(file, patience, own=True) as connection:
        refuse_other_schema(connection, file)
    with merging(path, file, patience) as connection:
        _refuse_other_versions(connection, path, file)
        for name, theirs, ours in ask(connection, query("part_conflicts")):
            raise StoreError(
                f"{file} has another network named {name} ({theirs[:12]}) than {path} ({ours[:12]}): nothing of it was "
                "merged; merge it into a store of its own, or measure it under another file name"
            )
        ask(connection, query("merge_part"))
        for (measurement_id,) in ask(connection, "select ours from part_measurements"):
            refuse_contradicted_proofs(connection, {"measurement_id": measurement_id})


def _refuse_other_versions(connection: Connection, path: Path, part: Path) -> None:
    """Raise StoreError where the runs of two stores had other versions of what decides numbers."""
    versions = defaultdict[str, set[tuple[str, str]]](set)
    for store, *packages in ask(connection, query("part_versions")):
        versions[store].add((packages[0], packages[1]))
    if versions["store"] and not versions["part"] <= versions["store"]:
        told = [
            ", ".join(f"thinice {own}, torch {torch}" for own, torch in sorted(versions[name])) for name in versions
        ]
        raise StoreError(
            f"{part} was measured with {told[0]}, and {path} with {told[1]}, whose numbers may differ: nothing of it "
            "was merged; measure it again with the same versions, or merge it into a store of its own"
        )


def incomplete(connection: Connection) -> list[Incomplete]:
    """Return the measurements that were made in shards and lack samples, with the shards that are missing."""
    rows = defaultdict[tuple[int, str, str, str, int], dict[str | None, tuple[int, int]]](dict)
    for measurement_id, network, norm, attack, wanted, shard, shard_samples, measured in ask(
        connection, query("merged_samples")
    ):
        rows[measurement_id, network, norm, attack, wanted][shard] = (measured, shard_samples or 0)
    lacking = []
    for (_, network, norm, attack, wanted), shards in rows.items():
        measured = sum(count for count, _ in shards.values())
        names = [shard for shard in shards if shard is not None]
        if not names or measured >= wanted:
            continue
        unfinished = [shard for shard in names if shards[shard][0] < shards[shard][1]]
        lacking.append(
            Incomplete(network, norm, attack, measured, wanted, tuple(_absent(names)), tuple(sorted(unfinished)))
        )
    return lacking


def _absent(shards: Iterable[str]) -> list[str]:
    """Return the shards that are not among those of a measurement, whose count each of them tells.

    >>> _absent(["1/4", "3/4"])
    ['2/4', '4/4']
    """
    there = set(shards)
    counts = {int(shard.partition("/")[2]) for shard in there}
    return [name for n in sorted(counts) for k in range(1, n + 1) if (name := f"{k}/{n}") not in there]
