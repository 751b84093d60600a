"""The engine of this process: batches that suit the device, and smaller ones when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from thinice.engines.task import Result, Task
from thinice.errors import InputError
from thinice.numerics import exact

__all__ = ["BatchSize", "LocalEngine", "batches", "computed", "first_batch_size"]

BatchSize = int | Literal["auto"]

# 32 to 64 samples of CIFAR size use a processor's caches best; a GPU wants as many as keep it busy. Of smaller samples
# more go into a batch, up to a limit: 512 digits take half the time of 8 batches of 64.
CPU_BATCH, CPU_MOST = 128, 512
CUDA_BATCH, CUDA_MOST = 1024, 8192
CIFAR_VALUES = 3 * 32 * 32


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """Runs tasks in this process, batch after batch, in the order of the samples.

    Attributes
    ----------
    device : torch.device
        Where.
    batch_size : int or "auto"
        Samples at a time; auto suits the device and the size of a sample.

    """

    device: torch.device
    batch_size: BatchSize = "auto"

    def run(self, task: Task[Result]) -> Iterator[tuple[slice, Result]]:
        """Yield the slice of samples and the result of each batch, computed in IEEE float32.

        When memory runs out, the batch is halved and computed again, and so are those that follow.

        Raises
        ------
        InputError
            For a batch size that is none, or where memory does not hold a single sample.

        """
        size = first_batch_size(self.batch_size, task.values, self.device)
        yield from computed(task.on(self.device), slice(0, len(task)), size, self.device)


def computed(
    compute: Callable[[slice], Result], samples: slice, size: int, device: torch.device
) -> Iterator[tuple[slice, Result]]:
    """Yield the slice and the result of each batch of a slice of the samples, as `LocalEngine.run` does."""
    start = samples.start
    while start < samples.stop:
        part = slice(start, min(start + size, samples.stop))
        try:
            with exact(device):
                result = compute(part)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            if size == 1:
                message = f"`device` {device}: memory does not hold even one sample of this network"
                raise InputError(message) from error
            size = (part.stop - part.start + 1) // 2
            if device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        yield part, result
        start = part.stop


def batches(samples: int, size: int) -> list[slice]:
    """Return the slices in which so many samples are computed, so many at a time.

    >>> batches(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + size, samples)) for start in range(0, samples, size)]


def first_batch_size(batch_size: BatchSize, values: int, device: torch.device) -> int:
    """Return how many samples of so many values (C x H x W) to try at a time.

    >>> first_batch_size("auto", 3 * 32 * 32, torch.device("cpu")), first_batch_size(7, 64, torch.device("cpu"))
    (128, 7)
    """
    if batch_size == "auto":
        base, most = (CPU_BATCH, CPU_MOST) if device.type == "cpu" else (CUDA_BATCH, CUDA_MOST)
        if values < CIFAR_VALUES:
            return min(most, base * CIFAR_VALUES // max(1, values))
        return max(1, min(base, base * 4 * CIFAR_VALUES // values))
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f'`batch_size` must be "auto" or a whole number of at least 1, got {batch_size!r}')
    return batch_size


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
