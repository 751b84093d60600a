"""What the depth in a name stands for (blocks of residual networks, widths of VGGs), and the stems there are."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["LARGE_STEMS", "SMALL_STEMS", "VGG_WIDTHS", "resnet_defaults", "stages"]

FOUR_STAGES = {
    18: ((2, 2, 2, 2), "basic"),
    34: ((3, 4, 6, 3), "basic"),
    50: ((3, 4, 6, 3), "bottleneck"),
    101: ((3, 4, 23, 3), "bottleneck"),
    152: ((3, 8, 36, 3), "bottleneck"),
}
"""Blocks in each stage and their kind, by the depth in the name (He et al. 2016, table 1)."""
VGG_WIDTHS = {
    11: (64, 128, 256, 256, 512, 512, 512, 512),
    13: (64, 64, 128, 128, 256, 256, 512, 512, 512, 512),
    16: (64, 64, 128, 128, *(256,) * 3, *(512,) * 6),
    19: (64, 64, 128, 128, *(256,) * 4, *(512,) * 8),
}
"""Widths of the convolutions, by the number in the name (Simonyan and Zisserman 2015, table 1)."""
SMALL_STEMS = ("cifar", "cifar-pool")
"""A 3x3 convolution; the same and a 3x3 max-pool of stride 2."""
LARGE_STEMS = ("imagenet", "imagenet-no-pool", "imagenet-stride-1", "imagenet-stride-1-no-pool")
"""A 7x7 convolution of stride 2 and that max-pool; and what people make of it for small images."""


def resnet_defaults(depth: int) -> tuple[tuple[int, ...] | None, str]:
    """Return the blocks of each stage and their kind that a depth stands for; ``None`` where there is no custom.

    Examples
    --------
    >>> resnet_defaults(50), resnet_defaults(110)
    (((3, 4, 6, 3), 'bottleneck'), ((18, 18, 18), 'basic'))
    """
    if depth in FOUR_STAGES:
        return FOUR_STAGES[depth]
    whole, rest = divmod(depth - 2, 6)
    return ((whole,) * 3 if whole > 0 and rest == 0 else None), "basic"


def stages(depth: int, blocks: Sequence[int] | None, block: str | None) -> tuple[tuple[int, ...], str]:
    """Return how many blocks each stage has and their kind: those given, else those of the depth.

    Examples
    --------
    >>> stages(18, None, "bottleneck"), stages(10, [1, 1, 1, 1], None)
    (((2, 2, 2, 2), 'bottleneck'), ((1, 1, 1, 1), 'basic'))
    """
    usual, usual_block = resnet_defaults(depth)
    numbers = usual if blocks is None else tuple(blocks)
    if not numbers:
        known = "18, 34, 50, 101, 152 and 6n+2 do"
        raise ValueError(f"a depth of {depth} tells no blocks ({known}): give blocks, for example [2, 2, 2, 2]")
    return numbers, block or usual_block
