"""Random attacks whose verdict on a sample does not depend on the other samples of its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["CommonNoise"]

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
