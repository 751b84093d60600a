"""Whole programs as modules: any batch size, any sample shape with the right number of elements."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from thinice.errors import CheckpointError, InputError
from thinice.models.pickles import plain

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MOST_NUMBERS", "Program"]

IMAGE_CHANNELS = (1, 3)
MOST_NUMBERS = 2**24
"""In one sample: an image of 3 x 2 365 x 2 365."""
MOST_AT_ONCE = 2**26
"""In one batch that a program is bound to."""


class Program(nn.Module):
    """A graph with fixed weights that takes inputs (N, C, H, W) as other networks do.

    Samples of another shape than the program declares are reshaped to it where the number of elements agrees, and
    permuted where it declares (H, W, C). A program exported for one batch size alone is given batches of that size,
    the last one filled up with zeros.

    Parameters
    ----------
    graph
        Takes one tensor; its parameters become those of the program.
    declared
        The shape of one sample as the program declares it; ``None`` for a size it leaves open.
    batch
        The batch size it was exported for; ``None`` where any goes.
    prunable_names
        Parameters of this module that are weights of convolutions and linear layers.
    freed
        Makes the program whose reshapes take any batch size, where there is one; it need not compute the same.
    """

    def __init__(
        self,
        graph: nn.Module,
        declared: tuple[int | None, ...],
        *,
        batch: int | None = None,
        prunable_names: tuple[str, ...] = (),
        freed: Callable[[], Program | None] | None = None,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.declared = declared
        self.batch = batch
        self.prunable_names = prunable_names
        self.freed = freed
        self.classes: int | None = None
        self.notes: tuple[str, ...] = ()

    def train(self, mode: bool = True) -> Program:  # noqa: FBT001, FBT002 - the signature of torch
        """Return the program as it is: the mode was fixed when it was exported."""
        self.training = mode
        return self

    @property
    def channels_last(self) -> bool:
        """Whether the program declares samples as (H, W, C)."""
        shape = self.declared
        return len(shape) == 3 and shape[2] in IMAGE_CHANNELS and shape[0] not in IMAGE_CHANNELS

    @property
    def sample_shape(self) -> tuple[int, int, int] | None:
        """(C, H, W) where the program declares images."""
        if len(self.declared) != 3 or None in self.declared:
            return None
        one, two, three = (size or 0 for size in self.declared)
        return (three, one, two) if self.channels_last else (one, two, three)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (N, K) of inputs (N, C, H, W)."""
        arranged = self._arrange(inputs)
        if self.batch is None or len(inputs) == self.batch:
            return _logits(self.graph(arranged), len(inputs))
        parts = []
        for part in torch.split(arranged, self.batch):
            filled = torch.cat([part, part.new_zeros(self.batch - len(part), *part.shape[1:])])
            parts.append(_logits(self.graph(filled), self.batch)[: len(part)])
        return torch.cat(parts)

    def _arrange(self, inputs: Tensor) -> Tensor:
        if self.channels_last and inputs.shape[1:] == self.sample_shape:
            return inputs.permute(0, 2, 3, 1)
        shape = tuple(inputs.shape[1:])
        if len(shape) == len(self.declared) and all(
            wanted in {None, size} for wanted, size in zip(self.declared, shape, strict=True)
        ):
            return inputs
        if None in self.declared:
            raise InputError(f"`inputs` of shape {shape} do not fit a program that takes {self.declared}")
        wanted = tuple(size or 0 for size in self.declared)
        if inputs[0].numel() != torch.Size(wanted).numel():
            raise InputError(f"`inputs` of shape {shape} do not fit a program that takes {wanted}")
        return inputs.reshape(len(inputs), *wanted)

    def settle(self, where: str) -> None:
        """Try the program: find its class count, and whether it is bound to its batch size.

        A batch size that the file declares is often not built into the graph, or stands in its reshapes alone: where
        a few samples at once give what they give in batches of that size, any batch goes.
        """
        shape = tuple(size or 32 for size in self.declared)
        numbers = math.prod(shape)
        if numbers > MOST_NUMBERS or numbers * (self.batch or 1) > MOST_AT_ONCE:
            raise CheckpointError(
                f"{where}: declares inputs of shape {(self.batch or 'N', *shape)}, larger than any batch of images: "
                "export it for images, one at a time"
            )
        generator = torch.Generator().manual_seed(0)
        trial = torch.rand(4 if self.batch == 3 else 3, *shape, generator=generator)  # never one batch
        with torch.no_grad():
            try:
                alone = self(self._as_samples(trial))
            except Exception as error:  # noqa: BLE001 - a stranger's program may fail in any way
                reason = plain(str(error).strip().partition("\n")[0])
                raise CheckpointError(f"{where}: cannot be run on inputs {tuple(trial.shape)} ({reason})") from None
            if self.batch is not None:
                self._settle_batch(self.batch, trial, alone)
        self.freed = None
        self.classes = alone.shape[1]
        if len(shape) != 3:
            self.notes += (f"samples are reshaped to {shape}, as the program declares",)
        elif self.channels_last:
            self.notes += (f"samples are permuted to {shape}, channels last, as the program declares",)

    def _settle_batch(self, batch: int, trial: Tensor, alone: Tensor) -> None:
        """Find a graph that takes any batch: its own, or the one with reshapes to any batch; else keep its own."""
        if self._all_at_once(self.graph, trial, alone):
            self.batch = None
            return
        other = None if self.freed is None else self.freed()
        if other is not None and self._all_at_once(other.graph, trial, alone):
            self.graph, self.prunable_names, self.batch = other.graph, other.prunable_names, None
            self.notes += (f"reshapes to batches of {batch} made to take any; a trial gave the same",)
        else:
            self.notes += (f"works on batches of {batch} alone; other sizes are split and filled up",)

    def _as_samples(self, arranged: Tensor) -> Tensor:
        return arranged.permute(0, 3, 1, 2) if self.channels_last else arranged

    @staticmethod
    def _all_at_once(graph: nn.Module, arranged: Tensor, alone: Tensor) -> bool:
        try:
            together = _logits(graph(arranged), len(arranged))
        except Exception:  # noqa: BLE001 - a stranger's program may fail in any way
            return False  # the trial of a batch size that the graph need not accept
        return together.shape == alone.shape and torch.allclose(together, alone, rtol=1e-4, atol=1e-5)


def _logits(output: object, samples: int) -> Tensor:
    if isinstance(output, tuple | list) and len(output) == 1:
        output = output[0]
    if not isinstance(output, Tensor):
        raise TypeError(f"it returns {type(output).__name__}, not one tensor of logits")
    if output.ndim < 2 or output.shape[0] != samples:
        raise ValueError(f"it returns shape {tuple(output.shape)} for {samples} samples")
    return output.flatten(1)
