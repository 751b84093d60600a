"""Values as the store keeps them, read back: a store may be damaged, or a stranger's."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["stored_adversarial", "stored_settings"]


def stored_adversarial(blob: bytes, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Return an adversarial of this shape from its bytes: float32, little endian, C order.

    Raises
    ------
    StoreError
        Where the bytes are those of another shape.

    """
    sizes = [int(size) for size in shape]
    if min(sizes, default=0) < 1 or len(blob) != 4 * math.prod(sizes):
        raise StoreError(
            f"the store is damaged, or not written by thinice: an adversarial of shape {sizes} has {len(blob)} bytes"
        )
    return np.frombuffer(bytes(blob), dtype="<f4").reshape(sizes)


def stored_settings(text: str) -> dict[str, Any]:
    """Return settings by name from the JSON that keeps them.

    Raises
    ------
    StoreError
        Where the text is not JSON, or holds no names.

    """
    try:
        settings = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise StoreError(f"the store is damaged, or not written by thinice: these are no settings: {str(text)[:80]!r}")
    return settings
