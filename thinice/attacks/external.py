"""What it takes to run other libraries' attacks honestly: count their passes, and let nobody notice their seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thinice.attacks.result import FORWARD, Model
from thinice.losses import has_gradient

__all__ = ["CommonNoise", "PassCounter", "global_seed"]


class PassCounter(nn.Module):
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
        led = has_gradient(gradient.detach().flatten(1))
        self._led[len(led)] = self._led.get(len(led), False) | led

    def gradient_masked(self, samples: int) -> Tensor | None:
        """Return which samples no gradient led, (N,) bool; None where none was asked for, or of parts of the batch."""
        return ~self._led[samples] if list(self._led) == [samples] else None

    def passes_per_sample(self, samples: int) -> float:
        """Return the passes since the last call, spread over this many samples."""
        passes, self._passes = self._passes, 0.0
        return passes / max(1, samples)


@contextmanager
def global_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed what other libraries draw from, torch's and NumPy's global generators, and put them back afterwards."""
    before = np.random.get_state()  # noqa: NPY002 (the generator that they use)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 (as above)
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002 (as above)


DRAWN = {torch.rand, torch.randn}
ALIKE: dict[Callable[..., Any], Callable[..., Any]] = {torch.rand_like: torch.rand, torch.randn_like: torch.randn}


class CommonNoise(TorchFunctionMode):
    """Inside it, what `torch.rand` and `torch.randn` draw for a batch is one draw, the same for all its samples.

    Other libraries draw one tensor for the whole batch, so that a sample's random start depends on its place in it.
    With one draw for all, each sample meets the same distribution as before, and a verdict that depends on the seed
    and on the sample alone, whatever the size of the batch, the order, or who has fallen already.

    Parameters
    ----------
    batched : sequence of int
        Numbers of dimensions that a draw for a batch has; draws of other shapes are left as they are.

    Examples
    --------
    >>> with CommonNoise((4,)):
    ...     start = torch.rand(3, 1, 8, 8)
    >>> bool((start[0] == start[2]).all()), len(start[0].unique()) > 50
    (True, True)

    """

    def __init__(self, batched: Sequence[int]) -> None:
        super().__init__()
        self._batched = frozenset(batched)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 (whatever the function returns)
        """Call a function of torch; draw once where it would draw for a batch."""
        keywords = kwargs or {}
        if func in ALIKE and args[0].dim() in self._batched:
            like = args[0]
            given = {"dtype": like.dtype, "device": like.device, **keywords}
            return ALIKE[func]((1, *like.shape[1:]), **given).expand(like.shape).clone()
        if func in DRAWN:
            shape = args[0] if len(args) == 1 and not isinstance(args[0], int) else args
            if len(shape) in self._batched:
                return func((1, *shape[1:]), **keywords).expand(*shape).clone()
        return func(*args, **keywords)
