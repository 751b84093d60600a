"""`thinice doctor`: versions, device, extras, data and store on this machine, to find why something does not work."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from thinice.cli.options import STORE, FormatOptions, StorePath, options
from thinice.cli.output import put_rows

__all__ = ["doctor", "versions"]

REPORTED = ("torch", "duckdb")
"""The dependencies that `thinice --version` names."""
PATIENCE = 1.0
"""Seconds to wait for a locked store: a run holds it for some milliseconds at a time."""


def versions() -> str:
    """Return the versions that a report of a fault should name, on one line; nothing heavy is imported."""
    python = f"Python {platform.python_version()}"
    return ", ".join([f"thinice {_version('thinice')}", python, *(f"{name} {_version(name)}" for name in REPORTED)])


@options
def doctor(*, store: StorePath = STORE, printing: FormatOptions) -> None:
    """Show what thinice finds here: versions, device, extras, data, the store.

    Nothing is changed, downloaded or measured. Extras that are missing come with the command that installs them.
    """
    facts = [*_machine(), *_packages(), *_data(), *_store(store)]
    put_rows([{"what": subject, "found": fact} for subject, fact in facts], printing.format)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def _machine() -> Iterator[tuple[str, str]]:
    import torch

    from thinice.numerics import pick_device

    yield "Python", f"{platform.python_version()}, {platform.platform()}"
    device = pick_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    yield "device", f"{device.type} ({name})"
    yield "threads", f"{torch.get_num_threads()}"
    tf32 = ", tf32" if device.type == "cuda" else ""
    yield "precision", f"float32{tf32}, bf16"


def _packages() -> Iterator[tuple[str, str]]:
    """Yield each direct dependency and its version; for one that is missing, how to install it."""
    yield "thinice", _version("thinice")
    for requirement in metadata.requires("thinice") or []:
        wanted, _, condition = requirement.partition(";")
        extra = re.search(r"extra == ['\"](\w+)['\"]", condition)
        name = re.split(r"[^\w.-]", wanted.strip())[0]
        if name == "thinice" or (extra is not None and extra[1] in {"all", "dev", "test"}):
            continue
        installed = _version(name)
        way_out = f": pip install 'thinice[{extra[1]}]'" if extra is not None else ": install thinice anew"
        yield name, installed if installed != "missing" else installed + way_out


def _data() -> Iterator[tuple[str, str]]:
    from thinice.data import data_folder

    folder = data_folder()
    entries = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    content = ", ".join(entries) or "nothing there yet; THINICE_DATA names another folder"
    yield "data", f"{folder}: {content}"


def _store(path: Path) -> Iterator[tuple[str, str]]:
    """Yield whether the store can be read now; it is opened as it is, and not brought to the newest schema."""
    from thinice.errors import InputError, StoreError
    from thinice.store import catalog
    from thinice.store.connection import located, reading
    from thinice.store.schema import log_damage
    from thinice.store.wal import log_of

    try:
        path = located(path)
        with reading(path, PATIENCE) as connection:
            is_thinice_store = "runs" in catalog(connection)
            damage = log_damage(connection, path)
    except (InputError, StoreError) as error:
        yield "store", str(error)
        return
    log = log_of(path)
    if is_thinice_store:
        yield "store", f"{path}: not locked, {path.stat().st_size / 1e6:.1f} MB"
    else:
        yield "store", f"{path}: a DuckDB database, but not a thinice store"
    if damage is not None:
        yield "store's log", damage
    elif log.exists():
        yield "store's log", f"{log}: belongs to the store; a run writes, or one was killed: copy both or none"
