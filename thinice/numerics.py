"""Exact arithmetic while it matters, less where it does not: the caller's flags are put back afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from thinice.errors import InputError
from thinice.types import PRECISIONS, Precision

__all__ = ["exact", "global_stream", "lowered", "stream"]


def _switches() -> tuple[object, ...]:
    mkldnn = torch.backends.mkldnn
    # torch makes some of these at run time, where a type checker cannot see them
    return *_cuda_switches(), getattr(mkldnn, "conv"), getattr(mkldnn, "matmul")  # noqa: B009


def _cuda_switches() -> tuple[object, ...]:
    return getattr(torch.backends.cudnn, "conv"), torch.backends.cuda.matmul  # noqa: B009


@contextmanager
def _switched(switches: tuple[object, ...], value: str) -> Iterator[None]:
    before = [switch.fp32_precision for switch in switches]  # type: ignore[attr-defined]  # set at run time by torch
    try:
        for switch in switches:
            switch.fp32_precision = value  # type: ignore[attr-defined]  # as above
        yield
    finally:
        for switch, old in zip(switches, before, strict=True):
            switch.fp32_precision = old  # type: ignore[attr-defined]  # as above


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Compute in IEEE float32 with gradients, whatever the caller had switched on.

    Minimum-norm adversarials sit on the boundary: under TF32, the default of cuDNN convolutions since Ampere, about
    half of them are none in IEEE float32. Autocast and inference mode of a caller are left for the duration too.

    >>> with exact(torch.device("cpu")):
    ...     torch.backends.cudnn.conv.fp32_precision
    'ieee'
    """
    with (
        _switched(_switches(), "ieee"),
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        yield


@contextmanager
def lowered(
    model: Callable[[Tensor], Tensor], precision: Precision, device: torch.device
) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield the model as a search may see it: in float32, with TF32 products, or under bfloat16 autocast.

    Logits are float32 in any case. TF32 rounds the factors of products to 10 bits, bfloat16 every tensor to 7.

    Parameters
    ----------
    model : callable
        Takes inputs (N, C, H, W) in [0, 1] to logits (N, K).
    precision : {"float32", "tf32", "bf16"}
        ``"float32"`` leaves the surroundings as they are.
    device : torch.device
        Where the inputs are.

    Raises
    ------
    InputError
        For an unknown precision, and for TF32 elsewhere than on CUDA.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 2, bias=False)
    >>> _ = layer.weight.data.copy_(torch.eye(2))
    >>> with lowered(layer, "bf16", torch.device("cpu")) as seen:
    ...     seen(torch.full((1, 2), 1.001)).tolist()
    [[1.0, 1.0]]
    """
    if precision not in PRECISIONS:
        raise InputError(f"`precision` must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "tf32":
        if device.type != "cuda":
            raise InputError(f"`precision` tf32 is arithmetic of CUDA devices, and this is {device.type}: take bf16")
        with _switched(_cuda_switches(), "tf32"):
            yield model
    elif precision == "bf16":

        def rounded(inputs: Tensor) -> Tensor:
            with torch.autocast(device.type, torch.bfloat16):
                return model(inputs).float()

        yield rounded
    else:
        yield model


def stream(seed: int, *names: str | int) -> torch.Generator:
    """Return a CPU generator whose numbers belong to a seed and a name alone.

    The seed of the generator is a hash of both (63 bits of BLAKE2b), so that no two streams overlap because their
    seeds were chosen next to each other.

    Examples
    --------
    >>> import torch
    >>> first, again, other = (torch.rand(2, generator=stream(0, "start", epoch)) for epoch in (1, 1, 2))
    >>> torch.equal(first, again), torch.equal(first, other)
    (True, False)

    """
    digest = hashlib.blake2b(json.dumps([seed, *names]).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


@contextmanager
def global_stream(device: torch.device, seed: int, *names: str | int) -> Iterator[None]:
    """Let torch's global random state be a named stream for a while; afterwards it is what it was.

    Examples
    --------
    >>> import torch
    >>> with global_stream(torch.device("cpu"), 0, "start"):
    ...     first = torch.rand(2)
    >>> torch.equal(first, torch.rand(2, generator=stream(0, "start")))
    True

    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(stream(seed, *names).initial_seed())
        yield
