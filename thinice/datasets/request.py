"""What a caller of `load_samples` asks for, handed to the loader of one kind of data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from thinice.datasets.checks import as_ids, as_tensor
from thinice.datasets.draw import draw, draw_note
from thinice.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from thinice.datasets.checks import Numbers

__all__ = ["Request"]

MOST_PIXELS = 4096
"""One image of this side is 200 MB."""


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `load_samples`; `path` is what follows ``folder:`` or ``npz:``."""

    name: str
    path: Path
    split: str
    limit: int | None
    sample_ids: Numbers | None
    image_size: int | None
    root: Path
    download: bool

    def split_among(self, allowed: Sequence[str]) -> str:
        """Return the split, if the data set has it."""
        if self.split not in allowed:
            raise InputError(f"`split` of {self.name} must be one of {', '.join(allowed)}, got {self.split!r}")
        return self.split

    def choose(self, labels: Tensor, ids: Tensor | None = None) -> tuple[Tensor, tuple[str, ...]]:
        """Return positions among the available samples, and what is to be said of them.

        Those of the listed ids, or all; of these at most `limit` (`thinice.datasets.draw`). No image is needed for it.
        """
        ids = torch.arange(len(labels)) if ids is None else ids
        places = torch.arange(len(ids))
        if self.sample_ids is not None:
            wanted = as_tensor(self.sample_ids, "sample_ids")
            if wanted.numel() == 0:
                raise InputError("`sample_ids` must not be empty: leave it out for all samples")
            wanted = as_ids(wanted, wanted.numel())
            order = torch.argsort(ids)
            places = order[torch.searchsorted(ids[order], wanted).clamp(max=len(ids) - 1)]
            absent = wanted[ids[places] != wanted].tolist()
            if absent:
                raise InputError(
                    f"`sample_ids` must lie in split {self.split!r} of {self.name} "
                    f"({len(ids)} samples, ids {int(ids.min())} to {int(ids.max())}), got {absent[0]}"
                    + (f" and {len(absent) - 1} more outside" if len(absent) > 1 else "")
                )
        if self.limit is None or self.limit >= len(places):
            return places, ()
        drawn = draw(ids[places], labels[places], self.limit)
        return places[drawn], (draw_note(labels[places], drawn),)

    def refuse_image_size(self, shape: Sequence[int]) -> None:
        """Raise `InputError` where arrays, which are used as they are, are asked for in another size."""
        if self.image_size is not None and (self.image_size, self.image_size) != tuple(shape[-2:]):
            raise InputError(
                f"`image_size` is for image files; {self.name} has {shape[-2]}x{shape[-1]} pixels, "
                f"got {self.image_size}: leave it out"
            )


def check_image_size(image_size: int | None) -> None:
    """Raise `InputError` unless the size is None or a positive integer that images can be resized to."""
    if image_size is not None and (
        isinstance(image_size, bool) or not isinstance(image_size, int | np.integer) or image_size < 1
    ):
        raise InputError(f"`image_size` must be a positive number of pixels, got {image_size!r}")
    if image_size is not None and image_size > MOST_PIXELS:
        raise InputError(
            f"`image_size` must be at most {MOST_PIXELS} pixels, got {image_size}: networks take 32 to 600"
        )
