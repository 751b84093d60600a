"""The exponential moving average of the weights, which often is better and steadier than the last of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from thinice.training.loop import Hook

__all__ = ["WeightAverage", "copied"]


@dataclass
class WeightAverage(Hook):
    """Averages weights and running statistics over the steps, the last ones counting most.

    After step t the average moves to the weights by ``1 - min(decay, (1 + t) / (10 + t))`` of the way, so that the
    first steps are soon forgotten.

    Attributes
    ----------
    decay : float
        In [0, 1).

    Examples
    --------
    >>> model, average = nn.Linear(1, 1, bias=False), WeightAverage(0.9)
    >>> _ = nn.init.zeros_(model.weight)
    >>> average.prepare(model)
    >>> _ = nn.init.ones_(model.weight)
    >>> average.after_step(model)
    >>> with average.in_force(model):
    ...     round(model.weight.item(), 4)  # 1 - 2 / 11
    0.8182

    """

    decay: float

    def prepare(self, model: nn.Module) -> None:
        """Begin at the weights as they are."""
        self.steps = 0
        self.values = copied(model)

    @torch.no_grad()
    def after_step(self, model: nn.Module) -> None:
        """Move the average; what is no fraction, such as counters, is taken as it is."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        state = model.state_dict()
        moved = [name for name, value in self.values.items() if value.is_floating_point()]
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # of torch
        average([self.values[name] for name in moved], [state[name] for name in moved], self.steps)
        for name in self.values.keys() - set(moved):
            self.values[name].copy_(state[name])

    @contextmanager
    def in_force(self, model: nn.Module) -> Iterator[None]:
        """Let the network have the average for a while."""
        own = copied(model)
        model.load_state_dict(self.values)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of steps in it."""
        return {"values": self.values, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take those of a snapshot."""
        self.steps = int(state["steps"])
        for name, value in self.values.items():
            value.copy_(state["values"][name])


def copied(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a network's state."""
    return {name: value.detach().clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}
