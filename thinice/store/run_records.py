"""What a store knows of how a run came about: all that is needed to repeat it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from thinice.errors import InputError
from thinice.process import Process
from thinice.store.connection import reading
from thinice.store.sql import query

if TYPE_CHECKING:
    from pathlib import Path

    from thinice.store.connection import Connection

__all__ = ["run_record"]


def run_record(path: Path, patience: float, run_id: int) -> dict[str, Any]:
    """Return the record of a run, as `Store.run_record` does."""
    with reading(path, patience, own=True) as connection:
        records = _rows(connection, "run_record", run_id)
        if not records:
            ids = [number for (number,) in connection.execute("select run_id from runs order by run_id").fetchall()]
            known = f"its runs are 1 to {ids[-1]}" if ids == list(range(1, len(ids) + 1)) and ids else f"it has {ids}"
            raise InputError(f"`run_id` {run_id} is no run of {path}: {known if ids else 'it has no runs'}")
        (record,) = records
        networks, stored = _rows(connection, "run_networks", run_id), _rows(connection, "run_rows", run_id)
    data = {name: record.pop(f"data_{name}") for name in ("name", "split", "samples", "fingerprint")}
    process = Process(record["host"], int(record.pop("pid")), record.pop("process_started") or None)
    if record["outcome"] == "running" and process.is_gone:
        record["outcome"] = "died"
    for name in ("versions", "settings"):
        record[name] = json.loads(record[name])
    return {
        **record,
        "data": None if data["fingerprint"] is None else data,
        "networks": networks,
        "stored": stored,
    }


def _rows(connection: Connection, name: str, run_id: int) -> list[dict[str, Any]]:
    """Return the rows of a named query about a run, by the names of their columns."""
    answer = connection.execute(query(name), {"run_id": run_id})
    names = [column[0] for column in answer.description or ()]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
