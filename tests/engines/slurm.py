"""A real Slurm of one node, this machine: Debian's slurm-wlm and munge, with everything they write in one folder."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=2
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
PATIENCE = 60.0
"""Seconds for the daemons to be there."""


def missing() -> str:
    """Return why there can be no Slurm here, "" where there can."""
    absent = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if _program(name) is None]
    if absent:
        return f"{', '.join(absent)} not found: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "the daemons of Slurm are started as root"


@contextmanager
def one_node_slurm(cpus: int = 2) -> Iterator[dict[str, str]]:
    """Run Slurm while the context lasts, and give the environment in which its commands find it."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short name: sockets are in it
    host = socket.gethostname().partition(".")[0]
    configuration = CONFIGURATION.format(folder=folder, host=host, cpus=cpus, ports=_free_ports(2))
    (folder / "slurm.conf").write_text(configuration)
    (folder / "key").write_bytes(secrets.token_bytes(1024))
    (folder / "key").chmod(0o400)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    files = {"socket": "munge.socket", "key-file": "key", "pid-file": "munge.pid", "seed-file": "munge.seed"}
    munge = [f"--{option}={folder / name}" for option, name in files.items()]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(_daemon(["munged", "--foreground", "--force", *munge], environment, folder))
        _wait(folder, (folder / "munge.socket").exists)
        for command in (["slurmctld", "-D", "-c"], ["slurmd", "-D"]):
            stack.enter_context(_daemon(command, environment, folder))
        _wait(folder, lambda: "idle" in _output(["sinfo", "-h", "-o", "%T"], environment))
        try:
            yield environment
        finally:
            _output(["scancel", "--user=root"], environment)
            _wait(folder, lambda: not _output(["squeue", "-h"], environment))  # a job would outlive the daemons


@contextmanager
def _daemon(command: Sequence[str], environment: dict[str, str], folder: Path) -> Iterator[None]:
    """Run a program until the context ends; what it says goes into a file of the folder."""
    program = _program(command[0])
    assert program is not None
    with (folder / f"{command[0]}.log").open("w") as output:
        process = subprocess.Popen([program, *command[1:]], env=environment, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _output(command: Sequence[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True).stdout


def _wait(folder: Path, ready) -> None:
    """Wait until something is there; what the daemons said tells why it is not."""
    end = time.monotonic() + PATIENCE
    while not ready():
        said = "\n".join(f"{log.name}:\n{log.read_text()[-2000:]}" for log in folder.glob("*.log"))
        assert time.monotonic() < end, f"Slurm has not started:\n{said}"
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
