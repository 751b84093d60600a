"""The engine of a Ray cluster: batches go to its nodes as Ray tasks, their results come back to this process.

The batches are those of `LocalEngine`, so the results are the same to the bit for any number of nodes. A cluster is
joined only where an address names it: without one, this process starts a cluster of its own, on this machine.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import socket
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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

__all__ = ["RayEngine"]

PATIENCE = 120.0
"""Seconds without any task at work after which the cluster is taken for one that has no place for them."""
SHARES = 2
"""A task gets one of so many times as many equal shares of what is left as there are places, and at least a batch: so
a worker loads a network once for many batches, and at the end all workers are done at about the same time."""


@dataclass(slots=True)
class _Running:
    """A Ray task, as this process sees it: the slices that it has not answered yet, and whether it is at work."""

    left: deque[slice]
    begun: bool = False


class RayEngine:
    """Runs tasks on the nodes of a Ray cluster; results come in the order in which they are done.

    Parameters
    ----------
    device : torch.device
        Of which kind the nodes' devices are: each Ray task has a GPU of its own, or a CPU and one thread.
    batch_size : int or "auto"
        As of `LocalEngine`.
    workers : int, optional
        How many Ray tasks at a time at most: by default one for each GPU, or each CPU, of the cluster.
    address : str, optional
        Of a cluster to join: ``"10.0.0.1:6379"``, or ``"auto"`` for that of ``RAY_ADDRESS`` or of this machine.
        Without one, the cluster that this process has joined by ``ray.init`` is taken, or one started for it alone.

    """

    def __init__(
        self,
        device: torch.device,
        batch_size: BatchSize = "auto",
        workers: int | None = None,
        address: str | None = None,
    ) -> None:
        refuse_workers(workers)
        if str(device) != device.type:
            raise InputError(f"`device` {device}: Ray tells each worker which GPU is its own: take {device.type}")
        if address is not None and not (isinstance(address, str) and re.fullmatch(r"auto|[^/]+:\d+", address)):
            raise InputError(
                f"`address` must be HOST:PORT of a Ray cluster, or auto, got {address!r}; to a cluster that is reached "
                "in another way, send the whole command: ray job submit"
            )
        self.device, self.batch_size, self.workers, self.address = device, batch_size, workers, address
        self._ray = _ray()

    def run(self, task: Task[Result]) -> Iterator[tuple[slice, Result]]:
        """Yield the slice of samples and the result of each batch, whichever is done first.

        Raises
        ------
        InputError
            For a batch size that is none, a task that cannot be sent to another process, a cluster that is not there
            or has no place for it, and where workers die.

        """
        ray = self._ray
        size = first_batch_size(self.batch_size, task.values, self.device)
        waiting, deaths = deque(batches(len(task), size)), Counter[int]()
        if not waiting:
            return
        sent = pickled(task, "engine", ray.cloudpickle.dumps)
        _connect(ray, self.address, self.workers)
        _refuse_without_place(ray.nodes(), self._resource)
        remote = ray.remote(num_returns="streaming", max_retries=0, num_cpus=1, num_gpus=int(self._on_gpu))(_compute)
        in_store = [ray.put(sent)]  # in a list, so that a worker fetches it only where it does not have it yet
        running: dict[Any, _Running] = {}
        try:
            while waiting or running:
                places = max(1, _places(ray.nodes(), self._resource))  # a node may be gone, and another come
                places = min(places, self.workers or places)
                while waiting and len(running) < places:
                    share = max(1, len(waiting) // (SHARES * places))
                    parts = [waiting.popleft() for _ in range(min(share, len(waiting)))]
                    running[remote.remote(in_store, self.device.type, size, parts)] = _Running(deque(parts))
                ready, _ = ray.wait(list(running), timeout=PATIENCE)
                if not ready and not any(each.begun for each in running.values()):
                    _refuse_without_place(ray.nodes(), self._resource)
                    raise InputError(self._no_place_is_free())
                for stream in ready:
                    answer, died = _next_answer(ray, stream)
                    at_work = running[stream]
                    if answer is None:
                        del running[stream]
                        if at_work.left:
                            part = at_work.left[0]
                            deaths[part.start] += 1
                            refuse_deaths("ray", "workers", part, deaths[part.start], died)
                            waiting.extendleft(reversed(at_work.left))
                    elif not at_work.begun:
                        at_work.begun = True
                        refuse_other_versions("ray", answer)
                    else:
                        at_work.left.popleft()
                        yield from results_of(answer)
        finally:
            for stream in running:
                ray.cancel(stream, force=True)

    @property
    def _on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def _resource(self) -> str:
        return "GPU" if self._on_gpu else "CPU"

    def _no_place_is_free(self) -> str:
        free = self._ray.available_resources().get(self._resource, 0)
        held = _places(self._ray.nodes(), self._resource) - free
        return (
            f"`engine` 'ray': no task could begin within {PATIENCE:.0f} s, for {held:g} {self._resource}s of the "
            f"cluster are held by others and {free:g} are free: see `ray status`, and start again later"
        )


def _compute(in_store: Sequence[Any], device: str, size: int, parts: Sequence[slice]) -> Iterator[bytes | str]:
    """Yield the versions of this worker, and then the answer of `SentTask` for each slice."""
    yield versions()
    key = f"{in_store[0].hex()} {device} {size}"
    if key not in _sent_tasks:
        torch.set_num_threads(1)
        _sent_tasks.clear()
        _sent_tasks[key] = SentTask(_ray().get(in_store[0]), "engine", torch.device(device), size)
    for part in parts:
        yield _sent_tasks[key].answer(part)


_sent_tasks: dict[str, SentTask] = {}
"""In a worker: the task that it computed last, ready for the next slices."""


def _next_answer(ray: ModuleType, stream: Any) -> tuple[Any, str]:  # noqa: ANN401 (Ray's own type)
    """Return what a Ray task has yielded, None at its end, and why that came too soon."""
    try:
        return ray.get(next(stream)), ""
    except StopIteration:
        return None, ""
    except ray.exceptions.RayTaskError as error:  # `_compute` raises nothing itself
        raise InputError(
            f"`engine` 'ray': a worker could not begin ({_last_line(error)}): every node of the cluster needs "
            f"{versions()}: pip install 'thinice[ray]'"
        ) from None
    except ray.exceptions.RayError as error:
        return None, f"{type(error).__name__}: {_first_sentence(error)}"


def _places(nodes: Sequence[Mapping[str, Any]], resource: str) -> int:
    """Return how many Ray tasks of one unit of a resource the living nodes can run at a time.

    >>> _places([{"Alive": True, "Resources": {"CPU": 4.0}}, {"Alive": False, "Resources": {"CPU": 8.0}}], "CPU")
    4
    """
    return sum(int(node["Resources"].get(resource, 0)) for node in nodes if node["Alive"])


def _refuse_without_place(nodes: Sequence[Mapping[str, Any]], resource: str) -> None:
    """Raise InputError where no living node has a unit of the resource: its tasks would wait for ever."""
    if not _places(nodes, resource):
        living = sum(node["Alive"] for node in nodes)
        raise InputError(
            f"`engine` 'ray': none of the cluster's {living} nodes has a {resource}: let one join that has "
            f"(ray start --address …), or take another `device`"
        )


def _first_sentence(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].partition(". ")[0]


def _last_line(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2]


def _ray() -> ModuleType:
    """Return Ray, which is imported where it is used: it takes half a second."""
    try:
        import ray  # noqa: PLC0415 - see above
    except ImportError:
        raise MissingExtraError("`engine` 'ray'", "ray") from None
    module: ModuleType = ray
    return module


_joined: str | None = None
"""The address of the cluster that `_connect` has joined, "" for its own, None for none."""


def _connect(ray: ModuleType, address: str | None, workers: int | None) -> None:
    """Let this process be connected to the cluster at an address, or to its own where there is none.

    Raises
    ------
    InputError
        No cluster answers there, or the process is connected to another one.

    """
    global _joined  # noqa: PLW0603 - the connection is the process's, as Ray has it
    if ray.is_initialized():
        if address is not None and address != _joined:
            raise InputError(
                f"`address` {address!r}: this process is connected to another Ray cluster: leave `address` out to use "
                "that one, or call ray.shutdown() before"
            )
        return
    settings: dict[str, Any] = {"address": address or "local", "log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        folder = tempfile.mkdtemp(prefix="thinice-ray-")  # that of all users is not for us where another one made it
        atexit.register(_end_own_cluster, ray, folder)
        cpus = max(workers or 0, _own_cpus())
        settings |= {"num_cpus": cpus, "include_dashboard": False, "_temp_dir": folder}
    try:
        if address is not None:
            _knock(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
        ray.init(**settings)
    except Exception as error:  # Ray raises Exception itself
        reason = " ".join(_first_sentence(error).split())
        if address is None:
            raise InputError(
                f"`engine` 'ray': Ray does not start on this machine ({reason}): try again when it has less to do, or "
                "start it by hand (ray start --head) and give `address`"
            ) from error
        raise InputError(
            f"`address` {address!r}: no Ray cluster can be joined there ({reason}): `ray start --head` starts one and "
            "tells its address; one that asks for a token is joined with RAY_AUTH_MODE=token in the environment; "
            "without `address`, one is started here for this run alone"
        ) from error
    _joined = address or ""


def _end_own_cluster(ray: ModuleType, folder: str) -> None:
    """End the cluster that this process has started, and then remove what it wrote."""
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def _knock(address: str) -> None:
    """Raise OSError or ValueError where nobody listens at an address, which Ray itself finds out in minutes."""
    if address != "auto":  # Ray looks for it
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _own_cpus() -> int:
    """Return how many CPUs this process may use: of a machine with more, an allocation may have some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
