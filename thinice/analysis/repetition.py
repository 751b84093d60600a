"""`repeat_run`: a run of the command line once more, into a store of its own, and what came out otherwise."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PureWindowsPath
from typing import Any

import thinice
from thinice.errors import CheckpointError, DataError, InputError, StoreError
from thinice.store import Differences, Store, open_store
from thinice.types import ROUNDING

__all__ = ["Repetition", "repeat_run"]

REPEATABLE: dict[str, tuple[str, ...]] = {
    "demo": ("--no-figures",),
    "compare": ("--no-figures",),
    "populations": (),
    "measure": (),
    "evaluate": (),
}
"""Commands that write nothing but a store, with the words that keep them from it."""
TRUSTED = ("--trust-pickle", "--address", "--slurm", "--jobs")
"""Options of a command that let code run, or what others send: the workers of a cluster answer in pickles."""
LIBRARIES = ("torchvision:", "timm:")
"""What comes before the name of an architecture that is no code of the user's."""
LOOK = 0.1
"""Seconds between two looks at the store of the repetition, until it says what is measured there."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """A run, and the same command once more.

    Attributes
    ----------
    run_id : int
        The run that was repeated.
    command : str
        Its command line.
    notes : tuple of str
        What else is not as it was: versions, the machine.
    differences : Differences
        What came out, sample by sample.

    """

    run_id: int
    command: str
    notes: tuple[str, ...]
    differences: Differences

    def to_dict(self) -> dict[str, Any]:
        """Return how many values were compared, and how many were the same to the bit, but for rounding, or not."""
        counts = {name: getattr(self.differences, name) for name in ("compared", "same", "rounding", "different")}
        return {"run": self.run_id, **counts}


def repeat_run(
    store: Store | str | Path,
    run_id: int,
    *,
    tolerance: float = ROUNDING,
    trust_command: bool = False,
    repeated: str | Path | None = None,
    progress: bool = True,
) -> Repetition:
    """Return what comes out otherwise where the command of a run is carried out again, into a temporary store.

    It runs in the folder of the run, with as many threads, and its figures are not drawn. The store stays as it is.
    Repeated are `demo`, `compare`, `populations`, `measure` and `evaluate`; of other programs and commands, whoever ran
    them runs them again, into another store, which is `repeated` then.

    Parameters
    ----------
    store : Store or path
        That of the run.
    run_id : int
        Of the run, see `Store.runs`.
    tolerance : float
        Share of an epsilon that counts as rounding.
    trust_command : bool
        Also where the command says that code is run: a pickle that is trusted, a cluster that is joined, or code of
        the user's own.
    repeated : path, optional
        A store into which the command was carried out again by hand: nothing is run, both are compared.
    progress : bool
        Show on a terminal what the command shows.

    Raises
    ------
    InputError
        For a run that is not there, or one that cannot be repeated so.
    CheckpointError, DataError
        Where a checkpoint or the data are gone, or are others than they were: both fingerprints are named.
    StoreError
        Where the command fails.

    """
    opened = store if isinstance(store, Store) else open_store(store)
    record = opened.run_record(run_id)
    command = shlex.join(record["command"])
    if repeated is not None:
        found = opened.differences(repeated, tolerance=tolerance)
    else:
        words, folder = _words(record, trusted=trust_command), _folder(record)
        _refuse_missing_files(record)
        with tempfile.TemporaryDirectory(prefix="thinice-") as temporary:
            again = Path(temporary) / "thinice.duckdb"
            _carry_out(record, [*words, "--store", str(again)], folder, again, progress=progress)
            found = opened.differences(again, tolerance=tolerance)
    if found.compared == 0:
        raise StoreError(
            f"nothing of run {run_id} could be compared: the two stores know no sample of the same network by the same "
            "attack; another version of thinice may have other attacks"
        )
    return Repetition(run_id, command, _notes(record), found)


def _words(record: Mapping[str, Any], *, trusted: bool) -> list[str]:
    """Return the words of a command of thinice's that can be repeated, without the program."""
    run_id, (program, *words) = record["run_id"], record["command"] or [""]
    way_out = (
        "run it again yourself, into another store, then compare both: "
        f"thinice runs repeat {run_id} --repeated OTHER.duckdb"
    )
    path = PureWindowsPath(program)  # which takes both kinds of slashes
    if path.stem != "thinice" and path.parts[-2:] != ("thinice", "__main__.py"):
        raise InputError(f"run {run_id} is of a program, {program or 'unknown'}, not of the thinice command: {way_out}")
    if not words or words[0] not in REPEATABLE:
        name = words[0] if words else "no command"
        raise InputError(f"run {run_id} is of thinice {name}, which writes more than a store: {way_out}")
    if "--" in words:  # after which options are none, those of the repetition neither
        raise InputError(f"run {run_id} has -- in its command, which cannot be repeated so: {way_out}")
    if not trusted and (code := _code_in(words)):
        raise InputError(
            f"run {run_id} says {code}, which may run code, and a store may come from a stranger: if you trust its "
            "command, say so (--trust-command, trust_command=True)"
        )
    return [*words, *REPEATABLE[words[0]]]


def _code_in(words: Sequence[str]) -> str | None:
    """Return the option of a command that may run code; None where there is none.

    >>> _code_in(["compare", "a.pt", "--architecture=my.py:Net"]), _code_in(["compare", "--architecture", "resnet20"])
    ('--architecture=my.py:Net', None)
    """
    for number, word in enumerate(words):
        option, _, value = word.partition("=")
        if option in TRUSTED:
            return option
        if option in {"--architecture", "--engine"}:
            named = value if "=" in word else words[number + 1] if number + 1 < len(words) else ""
            if named == "slurm" or (":" in named and not named.startswith(LIBRARIES)):
                return f"{option}={named}"
    return None


def _folder(record: Mapping[str, Any]) -> Path:
    """Return the folder in which a run was started."""
    if record["data"] is None:
        raise InputError(
            f"run {record['run_id']} cannot be repeated: it measured nothing, or an earlier thinice recorded it, which "
            "did not note its folder"
        )
    folder = Path(record["folder"] or "")
    if not record["folder"] or not folder.is_dir():
        raise InputError(
            f"run {record['run_id']} cannot be repeated: the folder {folder} in which it was started is gone, and the "
            "paths of its command count from there"
        )
    return folder


def _refuse_missing_files(record: Mapping[str, Any]) -> None:
    for network in record["networks"]:
        if network["path"] is not None and not Path(network["path"]).exists():
            raise CheckpointError(
                f"run {record['run_id']} cannot be repeated: {network['path']}, of which it read {network['name']} "
                f"(fingerprint {network['fingerprint']}), is gone: put it back"
            )


def _carry_out(record: Mapping[str, Any], words: Sequence[str], folder: Path, again: Path, *, progress: bool) -> None:
    """Run the command in a process of its own; end it as soon as it measures something else than the run did."""
    threads, package = str(record["threads"]), str(Path(thinice.__file__).parents[1])
    environment = os.environ | {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH")))),
    }
    shows = progress and sys.stderr.isatty()
    with (again.parent / "said.txt").open("w+", encoding="utf-8", errors="backslashreplace") as said:
        process = subprocess.Popen(  # noqa: S603 - thinice itself; what its command may do is checked
            [sys.executable, "-P", "-m", "thinice", *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if shows else said,
        )
        try:
            _wait(process, record, again)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode != 0:
            said.seek(0)
            lines = [line for line in said.read().splitlines() if line.strip()]
            reason = lines[-1].removeprefix("thinice: ") if lines else f"exit code {process.returncode}"
            raise StoreError(f"run {record['run_id']} cannot be repeated: its command ended with: {reason}")
    _refuse_others(record, open_store(again))


def _wait(process: subprocess.Popen[bytes], record: Mapping[str, Any], again: Path) -> None:
    """Wait for the end of the process, and look as early as possible whether it measures what the run did."""
    known = False
    while True:
        try:
            process.wait(None if known else LOOK)
        except subprocess.TimeoutExpired:
            known = again.exists() and _refuse_others(record, open_store(again))
        else:
            return


def _refuse_others(record: Mapping[str, Any], again: Store) -> bool:
    """Return whether a store says what its first run measures; raise where that is something else than before."""
    if again.runs().empty:
        return False
    now, number = again.run_record(int(again.runs()["run_id"].iloc[0])), record["run_id"]
    if now["data"] is None:
        return False
    before = record["data"]
    if now["data"]["fingerprint"] != before["fingerprint"]:
        raise DataError(
            f"run {number} cannot be repeated: the data {before['name']} ({before['split']}) have the fingerprint "
            f"{now['data']['fingerprint']} now, and had {before['fingerprint']} then: get the samples of then back"
        )
    for network, network_now in zip(record["networks"], now["networks"], strict=False):
        if network_now["fingerprint"] != network["fingerprint"]:
            raise CheckpointError(
                f"run {number} cannot be repeated: the network {network['name']} ({network['path']}) has the "
                f"fingerprint {network_now['fingerprint']} now, and had {network['fingerprint']} then: get the file "
                "of then back"
            )
    if len(now["networks"]) != len(record["networks"]):
        raise CheckpointError(
            f"run {number} cannot be repeated: its command names {len(now['networks'])} networks now, and named "
            f"{len(record['networks'])} then: get the files of then back"
        )
    return True


def _notes(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which packages that decide numbers have other versions than in a run."""
    versions = record["versions"]
    changed = [
        f"{package} {versions[package]} then, {version(package)} now"
        for package in ("thinice", "torch")
        if package in versions and versions[package] != version(package)
    ]
    return tuple(changed)
