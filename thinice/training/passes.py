"""How the network and the samples are laid out for training: precision, memory, compilation, and what comes next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from thinice.data.samples import Pixels
from thinice.errors import InputError
from thinice.models.inference import FoldedTwin
from thinice.numerics import exact, lowered

if TYPE_CHECKING:
    from thinice.data import LazyInputs, Samples
    from thinice.training.recipe import Recipe

__all__ = ["Feed", "Passes", "evaluating", "in_eval", "in_layout", "in_memory", "laid_out", "pays_channels_last"]

IN_MEMORY = 2 * 2**30
"""Bytes of images in files up to which they are read once and kept."""
READ = 256
"""Files that are read at a time then."""
ON_DEVICE = 4 * 2**30
"""Bytes of samples up to which a CUDA device holds all of them."""
FOLD_TOLERANCE = 1e-4
"""By how much folding may change a logit, as a share of the sample's largest: sums are taken in another order."""
AHEAD = 3
"""Batches that are made ready before they are asked for."""


class Passes(nn.Module):
    """A network as objectives see it: in the precision and the layout of memory of a recipe; logits are float32."""

    def __init__(self, network: nn.Module, recipe: Recipe, device: torch.device, *, channels_last: bool) -> None:
        super().__init__()
        self.network = network
        self.low = recipe.precision == "bf16"
        self.kind = device.type
        self.channels_last = channels_last
        self.compiled, self.has_run = recipe.compiled, False
        self.run = torch.compile(network) if recipe.compiled else network
        self.twin: FoldedTwin | None = None
        self.twin_is_right: bool | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (N, K) of inputs (N, C, H, W) in [0, 1]."""
        inputs = in_layout(inputs, self)
        if self.compiled and not self.has_run:
            try:
                logits = self._logits(inputs)
            except Exception as error:
                reason = str(error).strip().partition("\n")[0]
                message = f"`compiled`: torch.compile fails on this network: {reason}; leave it out"
                raise InputError(message) from error
            self.has_run = True
            return logits
        return self._logits(inputs)

    def _logits(self, inputs: Tensor) -> Tensor:
        if not self.low:
            return cast("Tensor", self.run(inputs))
        with torch.autocast(self.kind, torch.bfloat16):
            logits = cast("Tensor", self.run(inputs))
        return logits.float()

    def begin_epoch(self) -> None:
        """Have the folded twin verified again when it is next asked for."""
        self.twin_is_right = None

    def in_eval(self, inputs: Tensor) -> nn.Module:
        """Return the fastest module that computes what the network, in eval mode now, computes of these inputs.

        Batch norm is folded where that changes no logit by more than rounding, seen on the first batch of each epoch.
        """
        if self.compiled or self.twin_is_right is False:
            return self
        if self.twin is None:
            self.twin = FoldedTwin(self.network)
        if self.twin.module is None:
            return self
        self.twin.refresh()
        if self.twin_is_right is None:
            with exact(inputs.device), torch.no_grad():  # TF32 would round more than folding does
                own, other = self.network(inputs), self.twin.module(inputs)
            tolerance = FOLD_TOLERANCE * own.abs().amax(1, keepdim=True)
            self.twin_is_right = bool(((own - other).abs() <= tolerance).all())
        return _Folded(self, self.twin.module) if self.twin_is_right else self


class _Folded(nn.Module):
    """The twin in the precision of the passes."""

    def __init__(self, passes: Passes, module: nn.Module) -> None:
        super().__init__()
        self.low, self.kind, self.module = passes.low, passes.kind, module

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits."""
        if not self.low:
            return cast("Tensor", self.module(inputs))
        with torch.autocast(self.kind, torch.bfloat16):
            logits = cast("Tensor", self.module(inputs))
        return logits.float()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Let all layers be in eval mode for a while; afterwards each is in the mode it was in."""
    layers = [layer for layer in model.modules() if layer.training]
    model.eval()
    try:
        yield
    finally:
        for layer in layers:
            layer.training = True


def in_eval(model: nn.Module, inputs: Tensor) -> nn.Module:
    """Return what computes the same as a model in eval mode, faster where there is such a form."""
    return model.in_eval(inputs) if isinstance(model, Passes) else model


def in_layout(inputs: Tensor, passes: nn.Module) -> Tensor:
    """Return inputs (N, C, H, W) as they lie in memory best for the passes."""
    if isinstance(passes, Passes) and passes.channels_last:
        return inputs.contiguous(memory_format=torch.channels_last)
    return inputs


def pays_channels_last(network: nn.Module) -> bool:
    """Return whether training is faster with images and kernels channels last in memory: where there are such kernels.

    Measured on a CPU, a pass forward and back takes 1.05 (VGG11) to 1.4 times as long without (ResNet-20).
    """
    return any(isinstance(layer, nn.Conv2d) for layer in network.modules())


@contextmanager
def laid_out(network: nn.Module, recipe: Recipe, device: torch.device) -> Iterator[nn.Module]:
    """Yield the network as objectives see it; afterwards its own layout of memory is torch's usual one again."""
    last = pays_channels_last(network) if recipe.channels_last is None else recipe.channels_last
    if last:
        network.to(memory_format=torch.channels_last)
    try:
        with lowered(network, "float32" if recipe.precision == "bf16" else recipe.precision, device):
            yield Passes(network, recipe, device, channels_last=last)
    finally:
        if last:
            network.to(memory_format=torch.contiguous_format)


class Feed:
    """The samples of a training on its device, batch after batch.

    Samples in memory are there at once, and image files of up to 2 GB are read once and kept as bytes; on a CUDA device
    all of them stay there where they fit. Others are read ahead by threads, while the network computes.
    """

    def __init__(self, samples: Samples, device: torch.device) -> None:
        samples = in_memory(samples)
        self.samples, self.device = samples, device
        self.labels = samples.labels.to(device)
        inputs = samples.inputs
        stored = inputs.stored if isinstance(inputs, Pixels) else inputs if isinstance(inputs, Tensor) else None
        if stored is not None and device.type == "cuda":
            fits = stored.numel() * stored.element_size() <= ON_DEVICE
            stored = stored.to(device) if fits else None
        self.stored = stored

    def __len__(self) -> int:
        return len(self.samples)

    def batches(self, order: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield positions (on the CPU), inputs and labels (on the device) of each batch of positions."""
        if self.stored is not None:
            for index in order:
                on_device = index.to(self.device, non_blocking=True)
                yield index, _pixels(self.stored[on_device]), self.labels[on_device]
            return
        with ThreadPoolExecutor(2) as threads:
            waiting: deque[Future[Tensor]] = deque()
            try:
                for number, index in enumerate(order):
                    while len(waiting) < AHEAD and number + len(waiting) < len(order):
                        waiting.append(threads.submit(self._read, order[number + len(waiting)]))
                    inputs = waiting.popleft().result().to(self.device, non_blocking=True)
                    yield index, inputs, self.labels[index.to(self.device)]
            finally:
                for left in waiting:
                    left.cancel()

    def _read(self, index: Tensor) -> Tensor:
        inputs = self.samples.inputs[index]
        return inputs.pin_memory() if self.device.type == "cuda" else inputs


def in_memory(samples: Samples) -> Samples:
    """Return the samples with image files of up to 2 GB read, as bytes; all others as they are.

    Who trains on the same samples more than once calls this first, so that files are read once.
    """
    if isinstance(samples.inputs, Tensor | Pixels):
        return samples
    stored = _bytes(samples.inputs)
    return samples if stored is None else replace(samples, inputs=Pixels(stored))


def _bytes(inputs: LazyInputs) -> Tensor | None:
    """Return inputs (N, C, H, W) as uint8, where that is exact and not too much; else nothing."""
    if inputs.shape.numel() > IN_MEMORY:
        return None
    stored = torch.empty(inputs.shape, dtype=torch.uint8)
    for index in torch.split(torch.arange(len(inputs)), READ):
        pixels = inputs[index]
        part = (255 * pixels).round_().to(torch.uint8)
        if not torch.equal(_pixels(part), pixels):
            return None
        stored[index] = part
    return stored


def _pixels(inputs: Tensor) -> Tensor:
    return inputs.to(torch.float32).div_(255) if inputs.dtype == torch.uint8 else inputs
