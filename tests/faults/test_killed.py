"""kill -9 of driver, worker and writer at random points: the same command goes on to the store of an undisturbed one.

Each command is killed once here; ``THINICE_KILLS=100`` kills a hundred times in all, for a nightly run.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

import thinice
from tests.faults.commands import differences, finished, said, started
from thinice.models import load_classifier
from thinice.store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="kill -9 is not there")]

STUDY = """\
architecture: digits_cnn
data: digits
training: {recipe: natural, epochs: 2, learning_rate: 0.05, batch_size: 32}
retraining: {recipe: finetune, epochs: 1, batch_size: 32}
methods: [magnitude-global-unstructured]
rates: [1, 2]
training_samples: 60
samples: 12
attacks:
  - {attack: pgd, norm: linf, budgets: [8/255], steps: 3}
  - {attack: fmn, norm: l2, budgets: [0.1], steps: 5}
"""
MEASURING = ("--data", "digits", "--limit", "24", "--batch-size", "4", "--quiet")
COMMANDS = {
    "compare": (
        "compare", "dense.pt", "pruned.pt", *MEASURING, "--attack", "fmn", "--steps", "10", "--distances", "both",
        "--no-figures",
    ),
    "evaluate": ("evaluate", "dense.pt", "pruned.pt", *MEASURING, "--attack", "pgd", "--budget", "0.1", "--no-checks"),
    "study": ("study", "tiny.yaml", "--networks", "networks", "--no-figures", "--quiet"),
    "train": (
        "train", "--data", "digits", "--architecture", "digits_cnn", "--limit", "60", "--epochs", "4", "-o", "net.pt",
        "--no-figures", "--quiet",
    ),
    "benchmark": (
        "benchmark", "pruned.pt", "--dense", "dense.pt", "--data", "digits", "--samples", "12", "--no-checks",
        "--batch-size", "4", "--quiet",
    ),
}  # fmt: skip
KILLS = max(1, int(os.environ.get("THINICE_KILLS", "5")) // len(COMMANDS))
"""Of each command."""
RESUMED = 3
"""So many times a killed command is started again, on average, before it has come to its end."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A function that returns the folder of a command after its run, the statements it sent, and how long it took."""
    done = {}

    def run(name):
        if name not in done:
            folder = prepared(tmp_path_factory.mktemp(name))
            counted, begun = multiprocessing.get_context("forkserver").Value("q", 0), time.monotonic()
            code, text = finished(COMMANDS[name], folder, counted=counted)
            assert code == 0, text
            done[name] = folder, counted.value, time.monotonic() - begun
        return done[name]

    return run


def prepared(folder):
    paths = thinice.example_checkpoints()
    shutil.copy(paths["dense"], folder / "dense.pt")
    shutil.copy(paths["pruned-95"], folder / "pruned.pt")
    (folder / "tiny.yaml").write_text(STUDY)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_random_points_the_same_command_ends_with_the_same_store(undisturbed, tmp_path, command):
    """Half of the kills come before a statement to the store, half by a clock that knows nothing of the command."""
    whole, statements, seconds = undisturbed(command)
    generator = random.Random(f"{command} {os.environ.get('THINICE_KILLS')}")
    folder, kills, outcomes = prepared(tmp_path), 0, []
    for attempt in range(10 * KILLS):
        if kills == KILLS:
            break
        at = None if attempt % 2 else generator.randint(1, 1 + statements // RESUMED)
        with started(COMMANDS[command], folder, statement=at) as process:
            process.join(None if at is not None else generator.uniform(0, seconds / RESUMED))
            process.kill()
            process.join()
            outcomes.append(process.exitcode)
        kills += outcomes[-1] == -signal.SIGKILL
        if outcomes[-1] == 0:  # all was done: from the start again
            shutil.rmtree(folder)
            folder.mkdir()
            prepared(folder)
    assert kills == KILLS, outcomes
    code, text = finished(COMMANDS[command], folder)
    assert code == 0, text
    assert differences(folder / "thinice.duckdb", whole / "thinice.duckdb") == {}
    assert set(open_store(folder / "thinice.duckdb").runs()["outcome"]) <= {"died", "finished"}
    for path in [*whole.glob("net.pt"), *(whole / "networks").glob("*.pt")]:
        twin = folder / path.relative_to(whole)
        assert load_classifier(twin).fingerprint == load_classifier(path).fingerprint
    left = {path.name for path in folder.rglob("*")} - {path.name for path in whole.rglob("*")}
    assert left == set(), "nothing unfinished stays"


def test_a_killed_worker_is_replaced_and_a_killed_driver_leaves_none(undisturbed, tmp_path):
    whole, _, seconds = undisturbed("compare")
    generator, folder = random.Random(KILLS), prepared(tmp_path)
    command = (*COMMANDS["compare"], "--workers", "2")
    for kill in range(KILLS + 1):
        with started(command, folder) as driver:
            workers = _workers(driver.pid, wait=60)
            time.sleep(generator.uniform(0, seconds))
            if kill % 2 and driver.exitcode is None:
                os.kill(driver.pid, signal.SIGKILL)
                driver.join()
                _gone(workers)
            else:
                if workers:
                    with suppress(ProcessLookupError):  # it may have done its work
                        os.kill(generator.choice(workers), signal.SIGKILL)
                driver.join()
                assert driver.exitcode == 0, said(folder)
        if (folder / "thinice.duckdb").exists() and not kill % 2:
            assert differences(folder / "thinice.duckdb", whole / "thinice.duckdb") == {}
            shutil.rmtree(folder)
            folder.mkdir()
            prepared(folder)
    code, text = finished(command, folder)
    assert code == 0, text
    assert differences(folder / "thinice.duckdb", whole / "thinice.duckdb") == {}


def _workers(driver, *, wait):
    """Return the processes that a driver started to compute, when both are there; none where it was faster."""
    end = time.monotonic() + wait
    while time.monotonic() < end:
        try:
            children = Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return []
        workers = [int(child) for child in children if "spawn_main" in _command(child)]
        if len(workers) == 2:
            return workers
        time.sleep(0.02)
    return []


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _gone(workers):
    end = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < end, "a worker outlives its driver"
        time.sleep(0.05)
