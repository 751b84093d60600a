"""Weights of few values: levels by k-means on a line, and an ADMM that pulls numbers towards them in training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["FewValues", "levels", "quantised"]

ITERATIONS = 50


def levels(values: Tensor, count: int) -> Tensor:
    """Return at most so many levels, ascending, in whose nearest ones the values have little squared error: k-means.

    It begins at evenly spaced quantiles and is deterministic; it ends where no level moves, or after 50 iterations.

    Parameters
    ----------
    values : Tensor
        (N,), at least one.
    count : int
        Of levels, at least 1.

    Examples
    --------
    >>> levels(torch.tensor([1.0, 2.0, 9.0, 11.0]), 2).tolist()
    [1.5, 10.0]

    """
    ordered = values.double().sort().values
    distinct = _distinct(ordered)
    if len(distinct) <= count:
        return distinct.to(values)
    places = (torch.arange(count, device=values.device) + 0.5) / count * len(ordered)
    centres = _distinct(ordered[places.long()])
    for _ in range(ITERATIONS):
        nearest = _nearest(ordered, centres)
        sums = torch.zeros_like(centres).index_add_(0, nearest, ordered)
        counts = torch.bincount(nearest, minlength=len(centres))
        moved = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres.to(values)


def quantised(values: Tensor, bits: int) -> Tensor:
    """Return values whose non-zero numbers are the nearest of 2 to the power of `bits` levels; zeros stay.

    Examples
    --------
    >>> quantised(torch.tensor([0.0, 1.0, 2.0, 9.0, 0.0, 11.0]), 1).tolist()
    [0.0, 1.5, 1.5, 10.0, 0.0, 10.0]

    """
    nonzero = values != 0
    if not nonzero.any():
        return values.clone()
    chosen = values[nonzero]
    centres = levels(chosen, 2**bits)
    result = values.clone()
    result[nonzero] = centres[_nearest(chosen, centres)]
    return result


def _distinct(ordered: Tensor) -> Tensor:
    """Return each of ascending values once."""
    return ordered[torch.cat([ordered.new_ones(1, dtype=torch.bool), ordered[1:] != ordered[:-1]])]


def _nearest(values: Tensor, centres: Tensor) -> Tensor:
    """Return the index of the nearest of ascending centres; half way between two, of the higher one."""
    return torch.bucketize(values, (centres[1:] + centres[:-1]) / 2, right=True)


class FewValues:
    """The state of an ADMM under which tensors come to have few values: their targets, and duals.

    Parameters
    ----------
    tensors : iterable of Tensor
        As they are at first.
    bits : int
        Of the levels of each tensor, zero not counted.
    rho : float
        Of the penalty.

    """

    def __init__(self, tensors: Iterable[Tensor], bits: int, rho: float) -> None:
        tensors = [tensor.detach() for tensor in tensors]
        self.bits, self.rho = bits, rho
        self.targets = [quantised(tensor, bits) for tensor in tensors]
        self.duals = [torch.zeros_like(tensor) for tensor in tensors]

    def penalty(self, tensors: Iterable[Tensor]) -> Tensor:
        """Return ``rho / 2 * ||F - Q + U||^2``, summed over the tensors F."""
        parts = zip(tensors, self.targets, self.duals, strict=True)
        return self.rho / 2 * torch.stack([(own - target + dual).square().sum() for own, target, dual in parts]).sum()

    @torch.no_grad()
    def renew(self, tensors: Iterable[Tensor]) -> None:
        """Set ``Q = quantised(F + U)``, then ``U = U + F - Q``; what is zero in F stays zero in Q."""
        for place, own in enumerate(tensors):
            moved = torch.where(own == 0, 0, own + self.duals[place])
            self.targets[place] = quantised(moved, self.bits)
            self.duals[place] = torch.where(own == 0, 0, self.duals[place] + own - self.targets[place])

    def state_dict(self) -> dict[str, Any]:
        """Return targets and duals."""
        return {"targets": list(self.targets), "duals": list(self.duals)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them over."""
        for own, read in ((self.targets, state["targets"]), (self.duals, state["duals"])):
            own[:] = [new.to(old.device).reshape(old.shape) for old, new in zip(own, read, strict=True)]
