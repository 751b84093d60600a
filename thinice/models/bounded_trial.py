"""Limits of what a stranger's program may compute: memory and work are counted before each step."""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from thinice.errors import CheckpointError

__all__ = ["Bounded"]

MOST_VALUES = 2**28
"""In one result of one step of a trial: the widest of VGG, of three images of 1 024 x 1 024, has 2e8."""
MOST_HELD = 2**33
"""Bytes of all results that a trial holds at once."""
MOST_WORK = 4e12
"""In one trial: the multiply-adds of torchvision's largest transformer, on three images of 518 x 518, are 3e12."""
WORK_OF_A_VALUE = 16
"""Multiply-adds in the time in which one value is read or written."""


class Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses results too large and work too long, each before it is computed.

    A file of a few bytes may ask for any amount of both. How large a result will be, torch tells of tensors without
    content.

    Parameters
    ----------
    where
        The file that is blamed.
    """

    def __init__(self, where: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.where = where
        self.work = 0.0
        self.held: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        options = dict(kwargs or {})
        try:
            planned = _without_content(func, args, options)
        except Exception:  # noqa: BLE001 - what depends on content has no plan; what is wrong fails below
            planned = None
        if planned is None:
            result = func(*args, **options)
            self._count(func, args, options, result)
        else:
            self._count(func, args, options, planned)
            result = func(*args, **options)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                memory = tensor.untyped_storage()
                identity = memory._cdata  # noqa: SLF001 - nothing public tells memories apart
                if identity not in self.held:
                    self.held[identity] = memory.nbytes()
                    weakref.finalize(memory, self.held.pop, identity, None)
        return result

    def _count(self, func: Any, args: Any, options: dict[str, Any], result: Any) -> None:  # noqa: ANN401
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.numel() > MOST_VALUES:
                raise CheckpointError(
                    f"{self.where}: has a step that makes {tensor.numel():,} numbers, more than the {MOST_VALUES:,} "
                    "of any usual network: export it for smaller images, one at a time"
                )
        made = 0 if func.is_view else sum(leaf.nbytes for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        if sum(self.held.values()) + made > MOST_HELD:
            raise CheckpointError(
                f"{self.where}: holds results of more than {MOST_HELD:,} bytes at once: export a smaller network, or "
                "for smaller images, one at a time"
            )
        self.work += _work(func, args, options, result)
        if self.work > MOST_WORK:
            raise CheckpointError(
                f"{self.where}: takes more than {MOST_WORK:.0e} multiply-adds for a trial of a few images: export a "
                "smaller network, or for smaller images, one at a time"
            )


def _without_content(func: Any, args: Any, options: dict[str, Any]) -> Any:  # noqa: ANN401 - an operation of torch
    """Return what an operation makes, as tensors that have shapes but no content."""
    args, options = tree_map_only(
        Tensor,
        lambda tensor: torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta"),
        (args, options),
    )
    if any(argument.name == "device" for argument in func._schema.arguments):  # noqa: SLF001 - nowhere else
        options["device"] = "meta"
    return func(*args, **options)


def _work(func: Any, args: Any, options: dict[str, Any], result: Any) -> float:  # noqa: ANN401 - an operation of torch
    """Return how long an operation takes, in multiply-adds."""
    from torch.utils.flop_counter import flop_registry  # noqa: PLC0415 - slow to import

    tensors = [leaf for leaf in tree_leaves((args, options, result)) if isinstance(leaf, Tensor)]
    work = 0.0 if func.is_view else float(WORK_OF_A_VALUE * sum(tensor.numel() for tensor in tensors))
    packet = func.overloadpacket
    if packet in flop_registry:
        work += flop_registry[packet](*args, **options, out_val=result) / 2
    elif packet.__name__.startswith(("max_pool", "avg_pool")):
        made, window = tree_leaves(result)[0], args[1]
        dimensions = int(packet.__name__.partition("pool")[2][0])
        sizes = window if len(window) == dimensions else list(window) * dimensions
        work += made.numel() * math.prod(sizes)
    return work
