"""A task on its way to other processes, and what they answer."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from thinice.engines.local import computed
from thinice.errors import InputError, ThinIceError

if TYPE_CHECKING:
    from thinice.engines.task import Task

__all__ = [
    "TRIES",
    "SentTask",
    "pickled",
    "refuse_deaths",
    "refuse_other_versions",
    "refuse_workers",
    "results_of",
    "versions",
]

TRIES = 3
"""So many workers may die of one batch: then the batch is at fault, or the machine."""


def pickled(task: Task[Any], option: str, dumps: Callable[[Any], bytes] = pickle.dumps) -> bytes:
    """Return a task as bytes; where that is not possible, the error names the option that asked for it."""
    try:
        return dumps(task)
    except Exception as error:  # noqa: BLE001 - whatever the user's own classes raise
        raise _unsendable(error, option) from None


class SentTask:
    """A task in the process that computes it, made ready on a device when the first slice is asked for.

    Parameters
    ----------
    sent : bytes
        What `pickled` returned in another process.
    option : str
        The option that asked for other processes.
    device : torch.device
        Where it is computed.
    size : int
        How many samples at a time.

    """

    def __init__(self, sent: bytes, option: str, device: torch.device, size: int) -> None:
        self._sent, self._option, self._device, self._size = sent, option, device, size
        self._compute: Callable[[slice], Any] | None = None

    def answer(self, part: slice) -> bytes:
        """Return the results of a slice, or the error in their place: `results_of` reads them in the first process."""
        try:
            if self._compute is None:
                self._compute = self._task().on(self._device)
            answer: object = list(computed(self._compute, part, self._size, self._device))
        except Exception as error:  # noqa: BLE001 - raised again in the process that asked
            answer = _sendable(error)
        return pickle.dumps(answer)

    def _task(self) -> Task[Any]:
        try:
            task: Task[Any] = pickle.loads(self._sent)  # noqa: S301 - the process that started this one wrote it
        except Exception as error:  # noqa: BLE001 - whatever the user's own classes raise
            raise _unsendable(error, self._option) from None
        return task


def results_of(answer: bytes) -> list[tuple[slice, Any]]:
    """Return the slices and results in an answer of `SentTask`; an error of the computation is raised."""
    results: list[tuple[slice, Any]] | Exception = pickle.loads(answer)  # noqa: S301 - a worker of ours wrote it
    if isinstance(results, Exception):
        raise results
    return results


def refuse_workers(workers: object) -> None:
    """Raise `InputError` for what is neither a number of workers nor None.

    >>> refuse_workers(0)
    Traceback (most recent call last):
    ...
    thinice.errors.InputError: `workers` must be a whole number of at least 1, got 0
    """
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise InputError(f"`workers` must be a whole number of at least 1, got {workers!r}")


def refuse_deaths(engine: str, workers: str, part: slice, deaths: int, died: str) -> None:
    """Raise `InputError` where a batch has ended too many workers of a cluster."""
    if deaths >= TRIES:
        raise InputError(
            f"`engine` {engine!r}: samples {part.start} to {part.stop - 1} ended {deaths} {workers}, the last by {died}"
            ": as a rule memory or time ran out: take fewer `workers`, or a smaller `batch_size`, or give each more"
        )


def refuse_other_versions(engine: str, theirs: str) -> None:
    """Raise `InputError` where the versions of a worker are not those of this process."""
    if theirs != versions():
        raise InputError(
            f"`engine` {engine!r}: a node has {theirs}, and this process {versions()}, whose results may differ: "
            "install the same on all"
        )


def versions() -> str:
    """Return the versions of this process that results depend on."""
    return f"thinice {version('thinice')}, torch {torch.__version__}"


def _unsendable(error: Exception, option: str) -> InputError:
    return InputError(
        f"`{option}`: this cannot be sent to other processes ({error}): leave `{option}` out, or let the network's "
        "class, and functions that it holds, stand at the top of a module that they can import"
    )


def _sendable(error: Exception) -> Exception:
    """Return an error as another process can raise it; of what nobody expected, its notes tell where it was."""
    told = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - just written here
    except Exception:  # noqa: BLE001 - an error of any class whose arguments are not those of its constructor
        kind = ThinIceError if isinstance(error, ThinIceError) else RuntimeError
        error = kind(str(error) if kind is ThinIceError else f"{type(error).__name__}: {error}")
    if not isinstance(error, ThinIceError):
        error.add_note(f"in a worker process:\n{told}")
    return error
