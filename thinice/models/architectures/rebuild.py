"""Networks with given weights in them: built by name, loaded exactly or refused."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thinice.errors import CheckpointError, InputError
from thinice.models.architectures import build
from thinice.models.pickles import plain

__all__ = ["WithoutMemory", "load_exactly", "rebuild", "refuse_misfit", "signature"]

MOST_CALLS = 50_000
"""torch's functions called while one network is built: the largest of torchvision call 10 000."""
MOST_REAL = 10_000_000
"""Numbers of a tensor of zeros or ones that a network may look at while it is built."""
FILLERS = {
    "normal_",
    "uniform_",
    "fill_",
    "zero_",
    "erfinv_",
    "mul_",
    "add_",
    "clamp_",
    "kaiming_uniform_",
    "kaiming_normal_",
}


class WithoutMemory(TorchFunctionMode):
    """Networks built inside have parameters without content; what they compute of shapes stays real.

    What a file says may mean a giant: one that takes too many steps to build is refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise InputError(f"`arguments` ask for a network of more than {MOST_CALLS} steps: give the usual ones")
        options = dict(kwargs or {})
        filled = args[0] if args else options.get("tensor")
        if getattr(func, "__name__", "") in FILLERS and isinstance(filled, Tensor) and filled.is_meta:
            return filled  # to initialise what has no content would take longer than all the rest
        if func is torch.empty or (func in {torch.zeros, torch.ones} and _numbers(args) > MOST_REAL):
            options["device"] = "meta"
        return func(*args, **options)


class WithoutInitialization(TorchFunctionMode):
    """Networks built inside have parameters of any content: that takes a tenth of the time, and weights follow."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        options = dict(kwargs or {})
        filled = args[0] if args else options.get("tensor")
        if getattr(func, "__name__", "") in FILLERS and isinstance(filled, nn.Parameter):
            return filled
        return func(*args, **options)


def _numbers(sizes: Any) -> int:  # noqa: ANN401 - one size, several, or a sequence
    """Return how many numbers a tensor of these sizes has."""
    return math.prod(sizes[0] if sizes and not isinstance(sizes[0], int) else sizes)


def signature(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by name, without the counters of batch norm, which old files lack.

    Examples
    --------
    >>> signature(torch.nn.BatchNorm1d(2).state_dict())
    {'weight': (2,), 'bias': (2,), 'running_mean': (2,), 'running_var': (2,)}
    """
    return {name: tuple(value.shape) for name, value in weights.items() if not name.endswith("num_batches_tracked")}


def rebuild(
    architecture: str, classes: int, arguments: Mapping[str, Any], weights: Mapping[str, Tensor], what: str
) -> nn.Module:
    """Return the network that `build` makes with exactly these weights in it; no random number is used up.

    Raises
    ------
    InputError
        An unknown architecture or argument.
    CheckpointError
        Missing, unexpected or differently shaped parameters, the first few of each by name.
    """
    with WithoutMemory():  # a header may claim any size: what it means is compared before memory is taken
        planned = build(architecture, classes, **arguments).state_dict()
    refuse_misfit(planned, weights, f"{what}: parameters do not fit {architecture}")
    with torch.random.fork_rng(devices=[]), WithoutInitialization():
        network = build(architecture, classes, **arguments)
    for name, value in network.state_dict().items():
        constant = not value.is_floating_point() and not name.endswith("num_batches_tracked")
        if constant and not torch.equal(value, weights[name].to(value.dtype)):
            raise CheckpointError(
                f"{what}: {plain(name)} holds other numbers than {architecture} computes with: give the network's own "
                "code as `architecture` (--architecture FILE.py:CLASS)"
            )
    load_exactly(network, weights)
    return network


def refuse_misfit(planned: Mapping[str, Tensor], weights: Mapping[str, Tensor], message: str) -> None:
    """Raise CheckpointError where weights are not those of a planned network, naming the first few that differ."""
    wanted = {name: tuple(value.shape) for name, value in planned.items()}
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    missing = [name for name in wanted if name not in weights and name not in counters]
    unexpected = [name for name in weights if name not in wanted]
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {shape}"
        for name, shape in wanted.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    faults = [
        f"{len(names)} {kind} ({', '.join(map(plain, names[:3]))}{', …' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if faults:
        raise CheckpointError(f"{message}: {'; '.join(faults)}; give another `architecture` or other arguments of it")


def load_exactly(network: nn.Module, weights: Mapping[str, Tensor], versions: Mapping[str, Any] | None = None) -> None:
    """Put weights into a network, in place; counters of batch norm that they lack stay as they are.

    Some layers read weights of older versions in another way. ``versions`` are those of the file, by the prefix of each
    layer; without it, weights are taken to be of the versions that the network has now.
    """
    own = network.state_dict()
    counters = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
    state = OrderedDict({**counters, **weights})
    stored = own._metadata if versions is None else {name.removesuffix("."): value for name, value in versions.items()}  # type: ignore[attr-defined]  # noqa: SLF001
    state._metadata = stored  # type: ignore[attr-defined]  # noqa: SLF001 - where torch keeps them
    network.load_state_dict(state)
