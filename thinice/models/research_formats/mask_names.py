"""Which parameter a mask is for, by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from thinice.models.research_formats import PREFIXES

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["targets_of"]

MOST_LEVELS = 6
"""Levels of names that all masks share and no weight has."""
ENDINGS = {"_mask": "", ".mask": "", "_masks": "", "mask_weight": "weight", "mask_bias": "bias", "_orig": ""}
"""How a mask's name may end, and what the parameter has there instead."""

WRAPPERS = {"module", "_orig_mod"}
"""Parts of names that stand for a module around another one (DataParallel of a part)."""


def targets_of(names: Sequence[str], weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the parameter that each mask is for; the first parts of names may be others, if all masks share them."""
    by_underscores = {name.replace(".", "_"): name for name in weights}
    best: dict[str, str] = {}
    for level in range(MOST_LEVELS):
        if level and len({tuple(name.split(".")[:level]) for name in names}) > 1:
            break
        bare = {name: ".".join(name.split(".")[level:]) for name in names}
        targets = {name: target for name in names if (target := _target(bare[name], weights, by_underscores))}
        if len(targets) > len(best):
            best = targets
    return best


def _target(name: str, weights: Mapping[str, Tensor], by_underscores: Mapping[str, str]) -> str | None:
    """Return the parameter that a mask of this name is for."""
    stems = [name]
    for prefix in PREFIXES:
        if stems[-1].startswith(prefix):
            stems.append(stems[-1].removeprefix(prefix))
    stems += [".".join(part for part in stem.split(".") if part not in WRAPPERS) for stem in stems]
    stems += [re.sub(r"_\d+$", "", stem) for stem in stems]  # FlyingBird numbers them
    stems += [
        stem.removesuffix(ending) + instead
        for stem in stems
        for ending, instead in ENDINGS.items()
        if stem.endswith(ending)
    ]
    for stem in stems:
        for choice in (stem, f"{stem}.weight"):
            if choice in weights:
                return choice
            if choice.replace(".", "_") in by_underscores:
                return by_underscores[choice.replace(".", "_")]
    return None
