"""How sharp the loss is around the scores of a search: the largest eigenvalue of its Hessian, by power iteration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch import nn

__all__ = ["largest_eigenvalue"]

ITERATIONS = 100
TOLERANCE = 1e-3


def largest_eigenvalue(
    loss: Tensor,
    parameters: Sequence[nn.Parameter],
    generator: torch.Generator,
    *,
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
) -> float:
    """Return the largest eigenvalue of the Hessian of a loss in some parameters, all together.

    Power iteration on products of the Hessian and a vector, each from two gradients. It leads to the eigenvalue that is
    largest in size; where that one is negative, a second one on the Hessian shifted by it leads to the largest.

    Parameters
    ----------
    loss : Tensor
        (), with its graph.
    parameters : sequence of nn.Parameter
        Where the Hessian is taken; through a mask the second derivative passes straight, as the first does.
    generator : torch.Generator
        On the CPU: of the vector that it begins with.
    iterations, tolerance : int, float
        It ends after so many products, or where the estimate changes by less than this part of itself.

    Examples
    --------
    >>> point = torch.nn.Parameter(torch.tensor([0.1, 0.2]))
    >>> saddle = 1.5 * point[0] ** 2 - 2.5 * point[1] ** 2
    >>> round(largest_eigenvalue(saddle, [point], torch.Generator().manual_seed(0)), 2)
    3.0

    """
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)

    def product(vector: Sequence[Tensor]) -> tuple[Tensor, ...]:
        products = torch.autograd.grad(gradients, parameters, vector, retain_graph=True, allow_unused=True)
        zeros = (torch.zeros_like(value) for value in parameters)
        return tuple(zero if part is None else part for part, zero in zip(products, zeros, strict=True))

    if not any(gradient.requires_grad for gradient in gradients):
        return 0.0  # linear in all parameters

    def iterated(shift: float) -> float:
        vector = [torch.randn(value.shape, generator=generator).to(value) for value in parameters]
        estimate = 0.0
        for _ in range(iterations):
            length = _inner(vector, vector) ** 0.5
            if not length:
                return 0.0
            vector = [part / length for part in vector]
            image = [part + shift * own for part, own in zip(product(vector), vector, strict=True)]
            before, estimate = estimate, _inner(vector, image)
            vector = image
            if abs(estimate - before) <= tolerance * abs(estimate):
                break
        return estimate

    dominant = iterated(0.0)
    return dominant if dominant >= 0 else iterated(-dominant) + dominant


def _inner(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    return sum(float((a.double() * b.double()).sum()) for a, b in zip(left, right, strict=True))
