"""Any engine, with torch held to operations that give the same bits each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from thinice.engines.task import Engine, Result, Task
from thinice.numerics import deterministic

if TYPE_CHECKING:
    import torch

__all__ = ["DeterministicEngine"]


@dataclass(frozen=True, slots=True)
class DeterministicEngine:
    """Runs tasks on another engine, wherever that computes, with deterministic operations alone.

    Attributes
    ----------
    inner : Engine
        The engine that does the work.

    """

    inner: Engine

    @property
    def device(self) -> torch.device:
        """That of the inner engine."""
        return self.inner.device

    def run(self, task: Task[Result]) -> Iterator[tuple[slice, Result]]:
        """Yield what the inner engine yields.

        Raises
        ------
        InputError
            For an operation that has no deterministic form on the device.

        """
        yield from self.inner.run(_Deterministic(task))


@dataclass(frozen=True, slots=True)
class _Deterministic(Generic[Result]):
    task: Task[Result]

    def __len__(self) -> int:
        return len(self.task)

    @property
    def values(self) -> int:
        return self.task.values

    def on(self, device: torch.device) -> Callable[[slice], Result]:
        compute = self.task.on(device)

        def held(part: slice) -> Result:
            with deterministic():
                return compute(part)

        return held
