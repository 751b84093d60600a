"""The engine of several processes of this machine: batches go to workers, their results come back to this process.

The batches are those of `LocalEngine`, so the results are the same to the bit for any number of workers. A worker that
is killed is replaced, and its batch computed again. This process alone writes; when it is killed, its workers end.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from thinice.engines.local import BatchSize, batches, first_batch_size
from thinice.engines.sending import TRIES, SentTask, pickled, refuse_workers, results_of
from thinice.engines.task import Result, Task
from thinice.errors import InputError

__all__ = ["ProcessEngine"]


class ProcessEngine:
    """Runs tasks in several processes, each batch in one of them; results come in the order in which they are done.

    Parameters
    ----------
    device : torch.device
        Where. Of several GPUs, where none is named, each worker has one; on the CPU the threads are shared out.
    batch_size : int or "auto"
        As of `LocalEngine`. A batch is what a worker gets: of fewer batches than workers, some workers have none.
    workers : int, optional
        How many processes: by default one for each GPU, or each thread of the CPU.

    """

    def __init__(self, device: torch.device, batch_size: BatchSize = "auto", workers: int | None = None) -> None:
        refuse_workers(workers)
        gpus = torch.cuda.device_count() if device.type == "cuda" and device.index is None else 0
        self.device, self.batch_size = device, batch_size
        self.workers = workers or gpus or (torch.get_num_threads() if device.type == "cpu" else 1)
        self._devices = [torch.device("cuda", index) for index in range(gpus)] or [device]
        self._idle: list[_Worker] = []  # they stay for the next task, and end with this process

    def run(self, task: Task[Result]) -> Iterator[tuple[slice, Result]]:
        """Yield the slice of samples and the result of each batch, whichever is done first.

        Raises
        ------
        InputError
            For a batch size that is none, a task that cannot be sent to another process, or where workers die.

        """
        size = first_batch_size(self.batch_size, task.values, self.device)
        waiting, deaths = deque(batches(len(task), size)), Counter[int]()
        sent = pickled(task, "workers")
        workers, self._idle = self._idle[: len(waiting)], self._idle[len(waiting) :]
        workers += [self._start(rank) for rank in range(len(workers), min(self.workers, len(waiting)))]
        try:
            for worker in workers:
                worker.send((sent, size))
                worker.send(waiting.popleft())
            while busy := {worker.connection: worker for worker in workers if worker.part is not None}:
                for connection in wait(list(busy)):
                    worker = busy[connection]  # type: ignore[index]  # one of those that were waited for
                    part, results = worker.part, worker.answer()
                    if results is None and part is not None:
                        deaths[part.start] += 1
                        _refuse_deaths(worker, part, deaths[part.start])
                        workers.remove(worker)
                        worker = self._start(worker.rank)
                        workers.append(worker)
                        worker.send((sent, size))
                        waiting.appendleft(part)
                    if waiting:
                        worker.send(waiting.popleft())
                    yield from results or ()
        finally:
            for worker in workers:
                if worker.part is not None:
                    worker.kill()
            self._idle += [worker for worker in workers if worker.part is None]

    def _start(self, rank: int) -> _Worker:
        threads = max(1, torch.get_num_threads() // self.workers)
        return _Worker(rank, self._devices[rank % len(self._devices)], threads)


class _Worker:
    """A process that computes, as this one sees it: `part` is the slice that it is at, None while it waits."""

    def __init__(self, rank: int, device: torch.device, threads: int) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.rank = rank
        self.part: slice | None = None
        self.process = context.Process(target=_work, args=(theirs, device, threads), daemon=True)
        with _ctrl_c_is_ours():
            self.process.start()
        theirs.close()  # so that the end of the process is the end of the connection

    def send(self, message: slice | tuple[bytes, int]) -> None:
        """Send a task and its batch size, or a slice of its samples; that the process is dead, `answer` tells."""
        if isinstance(message, slice):
            self.part = message
        with suppress(OSError):
            self.connection.send(message)

    def answer(self) -> list[tuple[slice, Any]] | None:
        """Return the results of the slice, None where the process died; an error of the computation is raised."""
        try:
            answer = self.connection.recv_bytes()
        except (EOFError, OSError):
            self.process.join()
            return None
        self.part = None
        return results_of(answer)

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def _work(connection: Connection, device: torch.device, threads: int) -> None:
    """Compute what comes through a connection, until its other end is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    task: SentTask | None = None
    with suppress(EOFError, OSError):
        while True:
            message = connection.recv()
            if task is None or not isinstance(message, slice):
                sent, size = message
                task = SentTask(sent, "workers", device, size)
            else:
                connection.send_bytes(task.answer(message))  # not through memory that processes share: it may be small


def _end_with_parent() -> None:
    """End this process with the one that started it, also in the middle of a batch."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _ctrl_c_is_ours() -> Iterator[None]:
    """Let processes that are started inside ignore Ctrl-C, which goes to all of a terminal: this one ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _refuse_deaths(worker: _Worker, part: slice, deaths: int) -> None:
    """Raise InputError where a batch has ended too many processes, or one that ended of itself."""
    code, samples = worker.process.exitcode or 0, f"samples {part.start} to {part.stop - 1}"
    if code >= 0:
        raise InputError(
            f"`workers`: a process ended with exit code {code} at {samples}, and said why above; a script that uses "
            'workers does so below `if __name__ == "__main__":`; without `workers` none is needed'
        )
    if deaths >= TRIES:
        raise InputError(
            f"`workers`: {samples} ended {deaths} processes, the last by signal {-code} (9: as a rule memory ran out): "
            "take fewer workers, or a smaller `batch_size`"
        )
