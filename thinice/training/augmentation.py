"""Augmentation as batched tensor code: a batch and a generator in, a batch out, on the batch's own device."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["random_flip", "random_shift"]


def random_shift(inputs: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Return each image (N, C, H, W) moved by up to so many pixels both ways; zeros come in at the edge.

    Examples
    --------
    >>> import torch
    >>> moved = random_shift(torch.ones(5, 1, 8, 8), 1, torch.Generator().manual_seed(0))
    >>> bool((moved.sum((1, 2, 3)) >= 49).all())
    True

    """
    count, _, height, width = inputs.shape
    corners = torch.randint(2 * pixels + 1, (2, count, 1), generator=generator)
    rows, columns = (
        (corner + torch.arange(size)).to(inputs.device) for corner, size in zip(corners, (height, width), strict=True)
    )
    padded = torch.nn.functional.pad(inputs, [pixels] * 4)
    images = torch.arange(count, device=inputs.device)
    moved = padded[images[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)
    return moved.permute(0, 3, 1, 2).contiguous()


def random_flip(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image (N, C, H, W) mirrored left to right with chance one half.

    Examples
    --------
    >>> import torch
    >>> flipped = random_flip(torch.tensor([1.0, 2.0]).expand(100, 1, 1, 2), torch.Generator().manual_seed(0))
    >>> 30 < int(flipped[:, 0, 0, 0].eq(2).sum()) < 70
    True

    """
    chosen = torch.rand(len(inputs), generator=generator) < 0.5
    return torch.where(chosen.to(inputs.device)[:, None, None, None], inputs.flip(-1), inputs)
