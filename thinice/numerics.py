"""Arithmetic that attacks rely on: exact or reduced precision, devices, broadcasting, reproducible random numbers."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction

import torch
from torch import Tensor

from thinice.errors import InputError
from thinice.types import PRECISIONS, Precision

__all__ = [
    "as_number",
    "column",
    "deterministic",
    "exact",
    "global_stream",
    "lowered",
    "pick_device",
    "random_directions",
    "stream",
]

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
"""The variable by which cuBLAS is told to give the same bits each time."""


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
def deterministic() -> Iterator[None]:
    """Compute with operations alone that give the same bits each time, and put back what the caller had switched on.

    Raises
    ------
    InputError
        For an operation that has no such form on its device.

    Examples
    --------
    >>> with deterministic():
    ...     torch.are_deterministic_algorithms_enabled()
    True
    >>> torch.are_deterministic_algorithms_enabled()
    False

    """
    cudnn, workspace = torch.backends.cudnn, os.environ.get(CUBLAS)
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    flags = cudnn.deterministic, cudnn.benchmark
    os.environ.setdefault(CUBLAS, ":4096:8")
    try:
        torch.use_deterministic_algorithms(mode=True)
        cudnn.deterministic, cudnn.benchmark = True, False
        yield
    except RuntimeError as error:
        operation = re.match(r"(\S+) does not have a deterministic implementation", str(error))
        if operation is None:
            raise
        raise InputError(
            f"`deterministic`: {operation[1]} of this network has no deterministic form on this device: take another "
            "(device=, --device cpu), or leave it out"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = flags
        if workspace is None:
            del os.environ[CUBLAS]


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


def as_number(value: float | str, argument: str) -> float:
    """Return a number that is given as one, or as text that may be a fraction: ``"8/255"``.

    Raises
    ------
    InputError
        For what is no number, naming the argument.

    Examples
    --------
    >>> as_number("8/255", "budget") == 8 / 255, as_number(" 1 / 4", "budget"), as_number(3, "budget")
    (True, 0.25, 3.0)
    >>> as_number("8/0", "--budget")
    Traceback (most recent call last):
    ...
    thinice.errors.InputError: `--budget` must be a number such as 8/255 or 0.03, got '8/0'

    """
    try:
        return float(Fraction(value.replace(" ", ""))) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        raise InputError(f"`{argument}` must be a number such as 8/255 or 0.03, got {value!r}") from None


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


def pick_device(device: str | torch.device) -> torch.device:
    """Return the torch device for ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; an absent one is an `InputError`.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise InputError(f"`device` must be auto, cpu, cuda or cuda:K, got {device!r}") from None
    if chosen.type not in {"cpu", "cuda"}:
        raise InputError(f"`device` must be auto, cpu, cuda or cuda:K, got {device!r}")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(f"`device` {device!r} is not there: this machine has {torch.cuda.device_count()} CUDA devices")
    return chosen


def column(values: Tensor, like: Tensor) -> Tensor:
    """Return one value a sample (N,) in the shape (N, 1, …) that broadcasts against a tensor ``like`` (N, …).

    >>> column(torch.tensor([1.0, 2.0]), torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 1, 1, 1])
    """
    return values.reshape(-1, *[1] * (like.dim() - 1))


def random_directions(like: Tensor, sample_ids: Tensor, seed: int) -> Tensor:
    """Return numbers in [-1, 1), shaped like a tensor (N, D), that depend on seed, sample id and position alone.

    They are hashes of counters (the finaliser of SplitMix64, Steele, Lea and Flood, OOPSLA 2014), and so the same on
    every device and in every batch.

    Parameters
    ----------
    like : Tensor
        (N, D) gives shape, dtype and device.
    sample_ids : Tensor
        (N,) int64.
    seed : int
        Another seed gives other numbers.

    Examples
    --------
    >>> whole = random_directions(torch.zeros(2, 3), torch.tensor([7, 8]), seed=0)
    >>> bool((whole[1:] == random_directions(torch.zeros(1, 3), torch.tensor([8]), seed=0)).all())
    True

    """

    def shifted(bits: Tensor, places: int) -> Tensor:  # a logical shift: torch's own copies the sign bit
        return (bits >> places) & ((1 << (64 - places)) - 1)

    def mixed(bits: Tensor) -> Tensor:
        bits = (bits ^ shifted(bits, 30)) * -0x40A7B892E31B1A47
        bits = (bits ^ shifted(bits, 27)) * -0x6B2FB644ECCEEE15
        return bits ^ shifted(bits, 31)

    samples = mixed(mixed(torch.full_like(sample_ids, seed)) + sample_ids)
    positions = torch.arange(like.shape[1], device=like.device)
    return (mixed(samples[:, None] + mixed(positions)) >> 40).to(like.dtype) / 2**23  # the upper 24 bits
