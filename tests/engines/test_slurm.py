"""A real Slurm of one node: the README's array of jobs, and the engine, give the results of one process to the bit."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

import thinice
from tests.analysis.test_shards import ALL
from tests.engines.slurm import missing, one_node_slurm
from tests.engines.tasks import Squares
from tests.engines.test_processes import ordered
from tests.test_readme import block
from thinice.engines import LocalEngine, slurm
from thinice.engines.sending import TRIES
from thinice.errors import InputError
from thinice.process import Process, this_process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or "there is a Slurm"),
]
SEARCH = "--limit 20 --attack fmn --effort quick --batch-size 5"
HERE = {
    "--batch-size 32": SEARCH,
    "1-64 -c 4": "1-4 -c 1",
    "--workers 4 ": "",
    "/64": "/4",
    "sbatch ": "sbatch --wait ",
}
"""What is replaced in the README's commands, so that they take seconds."""


@pytest.fixture(scope="module")
def environment():
    with one_node_slurm() as slurm:
        yield slurm | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}


@pytest.fixture
def shell(environment, tmp_path):
    """Run lines of bash in a folder with two networks, and return what came of it."""
    for name, path in {"dense": "dense", "pruned": "pruned-95"}.items():
        (tmp_path / f"{name}.pt").symlink_to(thinice.example_checkpoints()[path])
    thinice_command = f'thinice() {{ {shlex.quote(sys.executable)} -m thinice "$@"; }}; export -f thinice\n'

    def run(script):
        return subprocess.run(
            ["bash", "-c", thinice_command + script],
            cwd=tmp_path,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=200,
        )

    return run


def test_the_readmes_array_of_jobs_is_the_whole_to_the_bit(shell, tmp_path):
    script = block("slurm")
    for here, there in HERE.items():
        assert here in script
        script = script.replace(here, there)
    jobs, merge, compare, *rest = script.partition("thinice merge")[0], *script.splitlines()[-2:]
    assert not rest
    first = shell(jobs.replace("sbatch --wait", "sbatch --wait -a 1,2,4"))
    assert first.returncode == 0, first.stderr + "".join(log.read_text() for log in tmp_path.glob("slurm-*"))
    lacking = shell(merge)
    assert lacking.returncode == 1
    assert "15 of 20 samples; missing: shard 3/4" in lacking.stderr
    assert shell("sbatch --wait -a 3 job.sh").returncode == 0
    merged = shell(f"{merge}\n{compare} --format json --no-figures")
    assert merged.returncode == 0, merged.stderr
    whole = shell(f"thinice compare dense.pt pruned.pt {SEARCH} --format json --no-figures")
    assert json.loads(merged.stdout) == json.loads(whole.stdout)
    everything, alone = (thinice.open_store(tmp_path / f"{name}.duckdb") for name in ("all", "thinice"))
    assert everything.sql(ALL).equals(alone.sql(ALL))
    assert everything.runs()["samples"].tolist() == [5, 5, 5, 5, 0]  # nothing was measured again


CPU = torch.device("cpu")


@pytest.fixture
def engine(environment, tmp_path, monkeypatch):
    """Make an engine whose jobs are those of the Slurm of this machine."""
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'thinice[slurm]'")
    monkeypatch.chdir(tmp_path)
    for name in ("SLURM_CONF", "PYTHONPATH"):
        monkeypatch.setenv(name, environment[name])
    for name, seconds in {"LOOK": 0.2, "ASK": 1.0, "SETTLING": 2.0}.items():
        monkeypatch.setattr(slurm, name, seconds)

    def make(**options):
        return slurm.SlurmEngine(CPU, 2, workers=2, slurm=options)

    return make


def queue(environment):
    """Return the states of the jobs in the queue that are not over."""
    command = ["squeue", "--noheader", "--array", "--format=%T"]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()


def nothing_is_left(environment):
    """Return whether the queue is empty within some seconds: a job that has answered has still to end."""
    end = time.monotonic() + 10
    while queue(environment) and time.monotonic() < end:
        time.sleep(0.2)
    return not queue(environment)


def test_the_batches_are_those_of_one_process_and_a_killed_job_is_done_again(engine, environment, tmp_path):
    (killed := tmp_path / "killed").mkdir()
    shards = list(engine(partition="debug").run(Squares(9, killed, "kill", fatal=(6,))))
    assert ordered(shards) == ordered(LocalEngine(CPU, 2).run(Squares(9)))
    assert len(list(killed.iterdir())) == 1
    assert {threads for _, (_, _, threads) in shards} == {1}
    assert os.getpid() not in {pid for _, (_, pid, _) in shards}
    assert [path.name for path in tmp_path.iterdir()] == ["killed"]
    assert nothing_is_left(environment)


@pytest.mark.parametrize(
    ("deed", "deeds", "kind", "message"),
    [
        ("refuse", 1, InputError, "^`samples` 0 is refused$"),
        ("something", 1, KeyError, "something"),
        ("kill", 99, InputError, f"^`engine` 'slurm': samples 0 to 1 ended {TRIES} jobs, the last by FAILED .*Killed"),
    ],
)
def test_an_error_reaches_the_caller(engine, environment, tmp_path, deed, deeds, kind, message):
    (folder := tmp_path / "deeds").mkdir()
    with pytest.raises(kind, match=message) as caught:
        list(engine().run(Squares(2, folder, deed, fatal=(0,), deeds=deeds)))
    assert "\n" not in str(caught.value)
    assert len(list(folder.iterdir())) == min(deeds, TRIES)
    assert nothing_is_left(environment)


def test_a_task_without_a_place_is_an_error_and_no_hang(engine, environment, monkeypatch):
    monkeypatch.setattr(slurm, "PATIENCE", 3.0)
    with pytest.raises(InputError, match=r"no job can begin: in partition debug, .* 'PartitionConfig'"):
        list(engine(cpus_per_task=999).run(Squares(2)))
    with pytest.raises(InputError, match=r"sbatch does not take the jobs \(.*Invalid partition name specified\)"):
        list(engine(partition="nowhere").run(Squares(2)))
    node = ["scontrol", "update", f"nodename={socket.gethostname().partition('.')[0]}"]
    subprocess.run([*node, "state=drain", "reason=test"], check=True)
    try:
        with pytest.raises(
            InputError, match=r"no job can begin: in partition debug, .* reason '(Nodes|ReqNodeNot|Res)"
        ):
            list(engine().run(Squares(2)))
    finally:
        subprocess.run([*node, "state=resume"], check=True)
    assert nothing_is_left(environment)


def test_a_command_measures_in_jobs_what_it_measures_alone(shell, tmp_path):
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'thinice[slurm]'")
    compare = f"thinice compare dense.pt pruned.pt {SEARCH} --format json --no-figures"
    alone = shell(f"{compare} --store alone.duckdb")
    jobs = shell(f"{compare} --engine slurm --workers 2 --slurm partition=debug --jobs . --store jobs.duckdb")
    assert jobs.returncode == 0, jobs.stderr
    assert json.loads(jobs.stdout) == json.loads(alone.stdout)
    stores = [thinice.open_store(tmp_path / f"{name}.duckdb") for name in ("alone", "jobs")]
    assert stores[0].sql(ALL).equals(stores[1].sql(ALL))
    assert stores[1].run_record(1)["engine"] == "slurm"


DRIVER = """
import signal, sys, torch
from pathlib import Path
from tests.engines.tasks import Squares
from thinice.engines.slurm import SlurmEngine
signal.signal(signal.SIGINT, signal.default_int_handler)  # what was started in the background ignores it
list(SlurmEngine(torch.device("cpu"), 1, workers=1).run(Squares(2, Path(sys.argv[1]), "sleep", (0, 1), 2)))
"""


def test_ctrl_c_cancels_the_jobs(engine, environment, tmp_path):
    engine()
    (tmp_path / "driver.py").write_text(DRIVER)
    (folder := tmp_path / "pids").mkdir()
    with subprocess.Popen([sys.executable, "driver.py", folder], stderr=subprocess.PIPE, text=True) as driver:
        end = time.monotonic() + 100
        while not (pids := [int(text) for file in folder.iterdir() if (text := file.read_text())]):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert sorted(queue(environment)) == ["PENDING", "RUNNING"]  # one at a time, as asked for
        driver.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in driver.communicate(timeout=60)[1]
    assert not queue(environment)
    assert Process(this_process().host, pids[0], None).is_gone
    assert not list(tmp_path.glob(".thinice-*"))


def test_jobs_that_slurm_starts_again_go_on_and_those_of_a_killed_command_end(engine, environment, tmp_path):
    slow = "Squares(40, Path(sys.argv[1]), 'pause', tuple(range(40)), 99)"
    (tmp_path / "driver.py").write_text(DRIVER.replace('Squares(2, Path(sys.argv[1]), "sleep", (0, 1), 2)', slow))
    (folder := tmp_path / "pids").mkdir()
    (again := tmp_path / "again").mkdir()
    with subprocess.Popen([sys.executable, "driver.py", folder]) as driver:
        while not (pids := [int(text) for file in folder.iterdir() if (text := file.read_text())]):
            time.sleep(0.05)
        driver.kill()
    shards = []
    for shard in engine().run(Squares(8, again, "pause", tuple(range(8)), 99)):  # sweeps what the other one left
        if not shards:
            names = ["squeue", "--noheader", "--states=running", "--format=%F_%K"]
            job = subprocess.run(names, check=True, capture_output=True, text=True).stdout.split()[-1]
            subprocess.run(["scontrol", "requeue", job], check=True)
        shards.append(shard)
    assert ordered(shards) == ordered(LocalEngine(CPU, 2).run(Squares(8)))
    assert Process(this_process().host, pids[0], None).is_gone
    subprocess.run(["scancel", "--user=root"], check=True)  # one of the killed command would look for its task
    assert nothing_is_left(environment)
