"""The engine of a Slurm cluster: batches go to its nodes as an array of jobs, through submitit.

The batches are those of `LocalEngine`, so the results are the same to the bit. Jobs write each batch's answer into a
folder that all nodes see, where this process reads it. What jobs leave undone when all of an array have ended goes into
another array. How jobs fare is asked of `squeue`: submitit asks `sacct`, which only clusters that keep accounts have.
"""

from __future__ import annotations

import os
import pickle
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from secrets import token_hex
from stat import S_ISVTX, S_IWOTH
from types import ModuleType
from typing import Any

import torch

from thinice.engines.local import BatchSize, batches, first_batch_size
from thinice.engines.sending import (
    SentTask,
    pickled,
    refuse_deaths,
    refuse_other_versions,
    refuse_workers,
    results_of,
    versions,
)
from thinice.engines.task import Result, Task
from thinice.errors import InputError, MissingExtraError
from thinice.files import expanded, refuse_folder, temporary_folder
from thinice.registry import did_you_mean

__all__ = ["SlurmEngine"]

SHARES = 2
"""Jobs of an array for each that may run at a time: so that all are done at about the same time."""
LOOK, ASK = 1.0, 15.0
"""Seconds between two looks into the folder, and between two questions to Slurm, whose controller serves everybody."""
SETTLING = 60.0
"""Seconds after which every node of a network file system sees what an ended job has written."""
PATIENCE = 300.0
"""Seconds without an answer of Slurm, or with no job that can begin as things are, after which to give up."""
ABANDONED = 900.0
"""Seconds after which jobs take the process that waits for them for dead. Clocks of a cluster agree within 300."""
OVER = frozenset(
    ["BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"]
)
"""States of jobs that have ended."""
NEVER = re.compile(
    "BadConstraints|Partition(Config|NodeLimit|TimeLimit)|Invalid|NotAllowed|PerJob|NeverSatisfied|[Hh]eld|HOLD|SPECIAL"
)
"""In the state or reason of a job that waits: somebody has to do something, or it waits for ever."""
AWAY = re.compile("down|drain|fail|unknown|inval|no_respond|future", re.IGNORECASE)
"""In the state of a node: it takes no jobs until somebody has done something."""
OPTIONS = (
    *("account", "begin", "constraint", "cpus-per-task", "deadline", "exclude", "gpus", "gpus-per-node", "gres"),
    *("licenses", "mem", "mem-per-cpu", "mem-per-gpu", "nice", "nodelist", "partition", "qos", "reservation", "time"),
)
"""Options of `sbatch` that can be given. The others are ours, or no matter of where and for how long a job runs."""
VALUE = re.compile(r"[\w.,:;=@%+/&|!*()\[\]-]+", re.ASCII)
"""What can stand in the lines of a job's script: no spaces, quotes or newlines."""
TASK, ALIVE = "task.pickle", "alive"
LONGEST_LINE = 200
"""Characters of what Slurm or a job's log says that go into an error."""


@dataclass(slots=True)
class _Group:
    """A job, as this process sees it: the slices that it has not answered yet, and since when Slurm says it is over."""

    job: Any
    left: list[slice]
    over_since: float | None = None


class SlurmEngine:
    """Runs tasks in jobs of a Slurm cluster; results come in the order in which they are done.

    Parameters
    ----------
    device : torch.device
        Of which kind the nodes' devices are: each job has a CPU and one thread, or a GPU, unless `slurm` says more.
    batch_size : int or "auto"
        As of `LocalEngine`.
    workers : int
        How many jobs run at a time at most.
    slurm : mapping of str to str
        Options of `sbatch` by name: ``{"partition": "gpu", "time": "2:00:00"}``.
    jobs : path, optional
        The folder through which this process and the jobs talk: one that all nodes see, and that others cannot
        rename things in. By default the current one, which is where Slurm starts jobs.

    """

    def __init__(
        self,
        device: torch.device,
        batch_size: BatchSize = "auto",
        workers: int | None = None,
        slurm: Mapping[str, object] | None = None,
        jobs: str | os.PathLike[str] | None = None,
    ) -> None:
        refuse_workers(workers)
        if workers is None:
            raise InputError("`engine` 'slurm' needs `workers`: how many jobs run at a time at most")
        if str(device) != device.type:
            raise InputError(f"`device` {device}: Slurm tells each job which GPU is its own: take {device.type}")
        self.device, self.batch_size, self.workers = device, batch_size, workers
        self.slurm = _sbatch_options(slurm or {})
        self.threads = int(self.slurm.get("cpus-per-task", "1"))
        if device.type == "cuda" and not any(name.startswith(("gpus", "gres")) for name in self.slurm):
            self.slurm["gpus-per-node"] = "1"
        self.jobs = expanded(jobs or ".", "jobs").absolute()
        _refuse_jobs_folder(self.jobs)
        if lacking := [name for name in ("sbatch", "squeue", "scancel", "srun") if shutil.which(name) is None]:
            raise InputError(
                f"`engine` 'slurm': {lacking[0]} is not found on this machine: type the command where sbatch works, on "
                "a login node; for another queue, submit an array of jobs with --shard I/N"
            )
        self._submitit = _submitit()

    def run(self, task: Task[Result]) -> Iterator[tuple[slice, Result]]:
        """Yield the slice of samples and the result of each batch, whichever is done first.

        Raises
        ------
        InputError
            For a batch size that is none, a task that cannot be sent to another process, jobs that Slurm does not
            take or can never run, and where jobs die.

        """
        size = first_batch_size(self.batch_size, task.values, self.device)
        waiting, deaths = batches(len(task), size), Counter[int]()
        if not waiting:
            return
        import cloudpickle  # noqa: PLC0415 - comes with submitit

        sent = pickled(task, "engine", cloudpickle.dumps)
        with temporary_folder(self.jobs) as folder:
            (folder / TASK).write_bytes(sent)
            array = _Array(f"thinice-{token_hex(4)}", folder)
            try:
                while waiting:
                    groups = self._submit(array, waiting, size)
                    yield from array.answers(groups)
                    waiting = sorted((part for group in groups for part in group.left), key=lambda part: part.start)
                    for group in groups:
                        if group.left:
                            part = group.left[0]
                            deaths[part.start] += 1
                            refuse_deaths("slurm", "jobs", part, deaths[part.start], array.ends[group.job.job_id])
            except BaseException:  # Ctrl-C, and a caller that stops
                array.cancel()
                raise

    def _submit(self, array: _Array, parts: Sequence[slice], size: int) -> list[_Group]:
        """Return the jobs that Slurm has taken, each with the slices that it is to answer."""
        share = -(-len(parts) // (SHARES * self.workers))
        shares = [list(parts[start : start + share]) for start in range(0, len(parts), share)]
        array.touch()
        executor = self._submitit.SlurmExecutor(array.folder)
        executor.update_parameters(
            job_name=array.name,
            time=None,  # that of the partition: submitit's own is 5 minutes
            wckey=None,
            use_srun=False,  # whose step may get one CPU of several
            array_parallelism=self.workers,
            additional_parameters=self.slurm,
        )
        said, utils = StringIO(), self._submitit.core.utils
        try:
            with _outside_of_arrays(), redirect_stderr(said):  # submitit prints what sbatch says
                jobs = executor.submit_array(
                    [_Job(array.folder, self.device.type, self.threads, size, share) for share in shares]
                )
        except (utils.FailedJobError, utils.FailedSubmissionError) as error:
            reason = _last_line(str(error)).removeprefix("sbatch: error: ")
            raise InputError(
                f"`engine` 'slurm': sbatch does not take the jobs ({reason}): mend `slurm` (--slurm KEY=VALUE)"
            ) from None
        return [_Group(job, share) for job, share in zip(jobs, shares, strict=True)]


class _Array:
    """The jobs of a run, of one name: their folder, and what Slurm says about them."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.ends: dict[str, str] = {}
        """How jobs ended that left something undone, by their id."""
        self._known: dict[str, _Place] = {}
        self._answered, self._no_answer = False, ""

    def touch(self) -> None:
        """Tell the jobs that this process is alive."""
        (self.folder / ALIVE).write_text(str(time.time()), encoding="ascii")

    def answers(self, groups: Sequence[_Group]) -> Iterator[tuple[slice, Any]]:
        """Yield the results of jobs as they come, until all jobs have ended."""
        running, well, asked = list(groups), time.monotonic(), float("-inf")
        self._answered = False  # not about these jobs
        while running:
            self.folder.chmod(0o700)  # as it is: a network file system looks then what is new there
            there = {entry.name for entry in os.scandir(self.folder)}
            for group in running:
                for part in [part for part in group.left if _answer_name(part) in there]:
                    answer = (self.folder / _answer_name(part)).read_bytes()
                    group.left.remove(part)
                    well = time.monotonic()
                    yield from results_of(answer)
            running = [group for group in running if group.left or not group.job.paths.result_pickle.exists()]
            if time.monotonic() - asked >= ASK:
                asked = time.monotonic()
                self.touch()
                if self._ask() and not self._is_stuck():
                    well = time.monotonic()
                elif time.monotonic() - well > PATIENCE:
                    raise InputError(self._no_place() if self._answered else self._no_answer)
            running = [group for group in running if not self._has_ended(group)]
            if running:
                time.sleep(LOOK)

    def cancel(self) -> None:
        """End the jobs, and wait a while until they have ended, for they write into the folder."""
        _said_by("scancel", f"--name={self.name}")
        end = time.monotonic() + SETTLING
        while self._ask() and any(place.state not in OVER for place in self._known.values()) and time.monotonic() < end:
            time.sleep(LOOK)

    def _ask(self) -> bool:
        """Ask Slurm for the places of all jobs in its queue; return whether it answered."""
        columns = ["--noheader", "--array", "--states=all", "--format=%i|%T|%P|%r"]
        done = _said_by("squeue", f"--name={self.name}", *columns)
        self._answered = done.returncode == 0
        if self._answered:
            lines = (line.split("|", 3) for line in done.stdout.splitlines())
            self._known = {job_id.strip(): _Place(*rest) for job_id, *rest in lines}
        self._no_answer = f"`engine` 'slurm': squeue says only {_last_line(done.stderr)!r}: start again later"
        return self._answered

    def _is_stuck(self) -> bool:
        """Return whether no job is at work, and none of those that wait can begin as things are."""
        waiting = [place for place in self._known.values() if place.state not in OVER]
        doubtful = [place for place in waiting if NEVER.search(f"{place.state} {place.reason}") is None]
        if not waiting or any(place.state != "PENDING" for place in doubtful):
            return False
        return all(_is_closed(partition) for partition in {place.partition for place in doubtful})

    def _no_place(self) -> str:
        place = next(place for place in self._known.values() if place.state not in OVER)
        return (
            f"`engine` 'slurm': no job can begin: in partition {place.partition}, Slurm gives the reason "
            f"{place.reason!r}: ask for less, or for another partition (--slurm KEY=VALUE), or start again later"
        )

    def _has_ended(self, group: _Group) -> bool:
        """Return whether a job is over, and all that it wrote was seen; note how it ended."""
        place = self._known.get(group.job.job_id)
        if not self._answered or (place is not None and place.state not in OVER):
            group.over_since = None
            return False
        now = time.monotonic()
        group.over_since = group.over_since or now
        if now - group.over_since < SETTLING:
            return False
        if group.left:
            self.ends[group.job.job_id] = _end_of(group.job, place)
        return True


@dataclass(frozen=True, slots=True)
class _Place:
    """What Slurm says about a job."""

    state: str
    partition: str
    reason: str


def _is_closed(partition: str) -> bool:
    """Return whether no node of a partition takes jobs: it is down itself, or all of its nodes are."""
    nodes = _said_by("sinfo", "--noheader", f"--partition={partition}", "--format=%a %T").stdout.splitlines()
    return bool(nodes) and all(not node.startswith("up ") or AWAY.search(node) for node in nodes)


@dataclass(frozen=True, slots=True)
class _Job:
    """What a job does: it writes the answer of `SentTask` for each slice into the folder, and returns its versions."""

    folder: Path
    device: str
    threads: int
    size: int
    parts: Sequence[slice]
    asked_by: str = field(default_factory=versions)

    def __call__(self) -> str:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # submitit ignores it, and scancel would wait for half a minute
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # at which submitit requeues: what is left is submitted again
        if versions() != self.asked_by:
            return versions()
        torch.set_num_threads(self.threads)
        task: SentTask | None = None
        for part in self.parts:
            answer = self.folder / _answer_name(part)
            if _is_abandoned(self.folder):
                break
            if answer.exists():  # Slurm has started this job again
                continue
            task = task or SentTask((self.folder / TASK).read_bytes(), "engine", torch.device(self.device), self.size)
            content = task.answer(part) if self.device != "cuda" or torch.cuda.is_available() else _no_gpu()
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix="unfinished-", delete=False) as file:
                file.write(content)
            Path(file.name).replace(answer)
        return versions()


def _no_gpu() -> bytes:
    return pickle.dumps(
        InputError("`device` cuda: a job of Slurm has no GPU: ask for one (--slurm gres=gpu:1), or take another device")
    )


def _is_abandoned(folder: Path) -> bool:
    """Return whether the process that waits for the answers is gone: killed, it cannot cancel its jobs."""
    try:
        return time.time() - float((folder / ALIVE).read_text(encoding="ascii") or "inf") > ABANDONED
    except FileNotFoundError:
        return True


def _answer_name(part: slice) -> str:
    return f"answer-{part.start}"


def _end_of(job: Any, place: _Place | None) -> str:  # noqa: ANN401 - submitit's own type
    """Return how a job ended, in a few words; raise InputError where it could not even begin."""
    if job.paths.result_pickle.exists():
        outcome, told = pickle.loads(job.paths.result_pickle.read_bytes())  # noqa: S301 - a job of ours wrote it
        if outcome == "success":
            refuse_other_versions("slurm", told)
        else:
            raise InputError(
                f"`engine` 'slurm': a job failed ({_last_line(told)}): every node of the cluster needs {versions()} "
                "(pip install 'thinice[slurm]'), and room in the folder `jobs`"
            )
    state = "an end that Slurm does not know any more" if place is None else place.state
    log = job.paths.stderr
    last = _last_line(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else ""
    return f"{state} ({last})" if last else state


def _sbatch_options(given: Mapping[str, object]) -> dict[str, str]:
    """Return options of sbatch by their names there.

    >>> _sbatch_options({"cpus_per_task": 4, "partition": "gpu"})
    {'cpus-per-task': '4', 'partition': 'gpu'}
    """
    checked = {}
    for name, value in given.items():
        key, text = str(name).replace("_", "-"), str(value)
        if key not in OPTIONS:
            raise InputError(f"`slurm` {name!r} cannot be given to sbatch: {did_you_mean(key, OPTIONS)}")
        if VALUE.fullmatch(text) is None or (key == "cpus-per-task" and (not text.isdecimal() or int(text) < 1)):
            raise InputError(f"`slurm` {key}={text!r} is no value of sbatch's --{key}")
        checked[key] = text
    return checked


def _refuse_jobs_folder(folder: Path) -> None:
    """Raise InputError where jobs cannot answer through a folder: who may rename things there may run code in them."""
    refuse_folder(folder, f"`jobs` {folder}")
    if "%" in str(folder):
        raise InputError(f"`jobs` {folder}: Slurm reads % as the number of a job: take another folder")
    mode = folder.stat().st_mode
    if mode & S_IWOTH and not mode & S_ISVTX:
        raise InputError(f"`jobs` {folder}: everybody may write there: take a folder of your own, or chmod o-w it")


@contextmanager
def _outside_of_arrays() -> Iterator[None]:
    """Hide that this process is itself in an array of jobs: a job that it submits would take its number for its own."""
    names = [name for name in os.environ if name.startswith("SLURM_ARRAY_")]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ |= hidden


def _said_by(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")  # noqa: S603 - no shell


def _last_line(text: str) -> str:
    return " ".join(text.strip().rpartition("\n")[2].split())[:LONGEST_LINE]


def _submitit() -> ModuleType:
    """Return submitit, which is imported where it is used: it is an extra."""
    try:
        import submitit  # noqa: PLC0415 - see above
    except ImportError:
        raise MissingExtraError("`engine` 'slurm'", "slurm") from None
    module: ModuleType = submitit
    return module
