"""What engines run, and what an engine is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import torch

__all__ = ["Engine", "Result", "Task"]

Result = TypeVar("Result")
Computed_co = TypeVar("Computed_co", covariant=True)


class Task(Protocol[Computed_co]):
    """One computation for each of ``len(task)`` samples, which may be done in any number of shards."""

    def __len__(self) -> int:
        """Return the number of samples."""

    @property
    def values(self) -> int:
        """Values (C x H x W) of one sample, from which an engine can tell how many fit."""

    def on(self, device: torch.device) -> Callable[[slice], Computed_co]:
        """Return the computation, made ready on a device: called with a slice of the samples, it returns their result.

        The result lies on the CPU, and does not depend on how the samples are cut into slices.
        """


class Engine(Protocol):
    """Runs tasks. Computing may happen anywhere; the results are handed to the process that asked, which stores them.

    Attributes
    ----------
    device : torch.device
        Where this process computes what it does not hand to the engine.

    """

    @property
    def device(self) -> torch.device:
        """See above."""

    def run(self, task: Task[Result]) -> Iterator[tuple[slice, Result]]:
        """Yield each finished shard: a slice of the samples and its result. All shards together are all samples.

        They may come in any order. An error of the computation is raised here; what was yielded before stays valid.
        """
