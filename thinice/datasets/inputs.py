"""Images in [0, 1]: as a float32 tensor, or kept as something smaller and converted on access."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from thinice.datasets.checks import as_index
from thinice.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thinice.datasets.checks import Index

    Digests: TypeAlias = NDArray[np.uint64]

__all__ = ["LazyInputs", "Pixels", "as_pixels", "pixel_digests", "shape_text"]

ROUNDING = 1e-6
"""How far a pixel may leave [0, 1] by rounding and is clamped; farther away it is refused."""


class LazyInputs(Protocol):
    """Images that need not all be in memory as floats: what an access asks for is read or converted then."""

    @property
    def shape(self) -> torch.Size:
        """``(N, C, H, W)``."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Index, /) -> Tensor:
        """Return the chosen images, float32 in [0, 1]."""
        ...

    def select(self, index: Index, /) -> LazyInputs:
        """Return the chosen images, still unread."""
        ...


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Pixels:
    """Images kept as uint8, a quarter of the memory; float32 in [0, 1] on access.

    Examples
    --------
    >>> import torch
    >>> pixels = Pixels(torch.full((5, 3, 32, 32), 255, dtype=torch.uint8))
    >>> pixels.shape, pixels[:2].dtype, pixels[:2].max().item()
    (torch.Size([5, 3, 32, 32]), torch.float32, 1.0)

    """

    stored: Tensor  # (N, C, H, W) uint8

    @property
    def shape(self) -> torch.Size:
        """``(N, C, H, W)``."""
        return self.stored.shape

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: Index, /) -> Tensor:
        return self.stored[as_index(index, len(self))].to(torch.float32).div_(255).contiguous()

    def select(self, index: Index, /) -> Pixels:
        """Return the chosen images, still uint8; a slice shares memory."""
        return Pixels(self.stored[as_index(index, len(self))])

    def __repr__(self) -> str:
        return f"<Pixels: {len(self)} x {shape_text(self.shape)} uint8>"


def as_pixels(inputs: Tensor) -> Tensor | Pixels:
    """Return checked (N, C, H, W) images, contiguous, on the CPU: float32 in [0, 1], uint8 as `Pixels`."""
    if inputs.ndim != 4:
        raise InputError(
            f"`inputs` must have the shape (N, C, H, W), got {tuple(inputs.shape)}: "
            "add a channel axis with inputs[:, None], or reshape"
        )
    if inputs.numel() == 0:
        raise InputError(f"`inputs` must not be empty, got the shape {tuple(inputs.shape)}")
    _, channels, height, width = inputs.shape
    if width in (1, 3) and channels == height > 3:
        raise InputError(
            f"`inputs` must have the shape (N, C, H, W), got {tuple(inputs.shape)}, "
            "which looks channels-last: use inputs.permute(0, 3, 1, 2), of an array inputs.transpose(…)"
        )
    inputs = inputs.contiguous()
    if inputs.dtype == torch.uint8:
        if inputs.max() == 1:
            raise InputError(
                "`inputs` are uint8 with values 0 and 1 alone, and uint8 is read as 0 to 255: "
                "give floats in [0, 1], or multiply by 255 where 1 means white"
            )
        return Pixels(inputs)
    if not inputs.is_floating_point():
        raise InputError(f"`inputs` must be floats in [0, 1] or uint8 from 0 to 255, got {inputs.dtype}")
    low, high = (value.item() for value in torch.aminmax(inputs))
    if math.isnan(low) or math.isnan(high):
        raise InputError(f"`inputs` must be numbers, got {int(inputs.isnan().sum())} NaN values: drop these images")
    if low < -ROUNDING or high > 1 + ROUNDING:
        way_out = (
            "divide by 255"
            if low >= 0 and 1.5 < high <= 255
            else "undo the normalisation: mean and std belong into the classifier (`normalization`)"
        )
        raise InputError(f"`inputs` must lie in [0, 1], got [{low:.6g}, {high:.6g}]: {way_out}")
    inputs = inputs.to(torch.float32)
    return inputs.clamp(0, 1) if low < 0 or high > 1 else inputs


def pixel_digests(inputs: Tensor | LazyInputs) -> Digests:
    """Return (N,) uint64: blake2b of each image's float32 pixels and shape; uint8 copies give the same."""
    start = hashlib.blake2b(f"pixels {shape_text(inputs.shape)}".encode(), digest_size=8)
    found = bytearray()
    for first in range(0, len(inputs), 256):
        for image in inputs[first : first + 256].numpy().astype("<f4", copy=False):
            digest = start.copy()
            digest.update(image)
            found += digest.digest()
    return np.frombuffer(bytes(found), dtype="<u8").astype(np.uint64)


def shape_text(shape: Sequence[int]) -> str:
    """Return the size of one image: ``3x32x32``."""
    return "x".join(str(size) for size in shape[1:])
