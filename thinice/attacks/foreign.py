"""What it takes to run other libraries' attacks honestly: count their passes, and let nobody notice their seeds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from thinice.attacks.fmn import leads
from thinice.attacks.nearest import FORWARD, Model

__all__ = ["Counted", "seeded"]


class Counted(nn.Module):
    """A model that counts the samples that went forward and backward through it, and sees which gradients came back."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model
        self._passes = 0.0
        self._led: dict[int, Tensor] = {}

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits, and count a forward pass for each sample; a backward pass when one comes back."""
        logits = self._model(inputs)
        self._passes += len(inputs) * FORWARD
        if logits.requires_grad:
            logits.register_hook(self._went_back)  # type: ignore[no-untyped-call]  # torch has no types here
        if inputs.requires_grad:
            inputs.register_hook(self._came_back)  # type: ignore[no-untyped-call]  # as above
        return logits

    def _went_back(self, gradient: Tensor) -> None:
        self._passes += len(gradient) * (1 - FORWARD)

    def _came_back(self, gradient: Tensor) -> None:
        led = leads(gradient.detach().flatten(1))
        self._led[len(led)] = self._led.get(len(led), False) | led

    def starved(self, samples: int) -> Tensor | None:
        """Return which samples no gradient led, (N,) bool; None where none was asked for, or of parts of the batch."""
        return ~self._led[samples] if list(self._led) == [samples] else None

    def passes_per_sample(self, samples: int) -> float:
        """Return the passes since the last call, spread over this many samples."""
        passes, self._passes = self._passes, 0.0
        return passes / max(1, samples)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed what other libraries draw from, torch's and NumPy's global generators, and put them back afterwards."""
    before = np.random.get_state()  # noqa: NPY002 (the generator that they use)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 (as above)
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002 (as above)
