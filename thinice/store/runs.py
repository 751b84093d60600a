"""The row of a run: its command and versions when it begins, and how it ended, also where its process was killed."""

from __future__ import annotations

import json
import platform
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from thinice.errors import StoreError
from thinice.process import Process, this_process
from thinice.store.connection import ask, one_line, writing
from thinice.store.schema import now
from thinice.store.sql import query
from thinice.store.writer import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from thinice.store.connection import Connection

__all__ = ["mark_dead_runs", "record_run"]

PACKAGES = ("thinice", "torch", "torchvision", "foolbox", "numpy", "duckdb")
"""Packages whose version may change a result; read from their metadata, none is imported."""


@contextmanager
def record_run(
    path: Path,
    patience: float,
    *,
    command: Sequence[str],
    device: str,
    precision: str,
    seed: int | None,
    settings: Mapping[str, Any],
) -> Iterator[Run]:
    """Yield a new run whose end is recorded: finished, interrupted (Ctrl-C), or failed with its error."""
    process = this_process()
    row = {
        "command": list(command),
        "versions": json.dumps(_versions()),
        "device": device,
        "precision": precision,
        "seed": seed,
        "settings": json.dumps(dict(settings), sort_keys=True, ensure_ascii=False, default=str),
        "host": process.host,
        "pid": process.pid,
        "process_started": process.started,
        "now": now(),
    }
    with writing(path, patience) as connection:
        mark_dead_runs(connection)
        ((run_id,),) = ask(connection, query("add_run"), **row)
    try:
        yield Run(path, patience, run_id)
    except BaseException as error:
        outcome = "failed" if isinstance(error, Exception) else "interrupted"
        try:
            _end(path, patience, run_id, outcome, f"{type(error).__name__}: {one_line(error)}")
        except StoreError as second:
            error.add_note(f"the store could not record the end of run {run_id}: {second}")
        raise
    _end(path, patience, run_id, "finished", None)


def _end(path: Path, patience: float, run_id: int, outcome: str, error: str | None) -> None:
    with writing(path, patience, in_a_run=True) as connection:
        ask(connection, query("end_run"), run_id=run_id, outcome=outcome, error=error, now=now())


def mark_dead_runs(connection: Connection) -> None:
    """Record that runs died whose process is gone: a killed process cannot record its own end."""
    for run_id, *process in ask(connection, query("running_runs")):
        if Process(*process).is_gone:
            ask(connection, query("end_dead_run"), run_id=run_id)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
