"""The registry of objectives."""

from __future__ import annotations

from collections.abc import Callable

from thinice.registry import Registry
from thinice.training.loop import Objective

__all__ = ["OBJECTIVES"]

OBJECTIVES: Registry[Callable[..., Objective]] = Registry(
    "objective",
    {
        "natural": ("thinice.training.natural:Natural", "cross-entropy on the samples as they are"),
        "pgd": ("thinice.training.pgd_at:PGD", "cross-entropy on inputs crafted by projected gradient ascent"),
        "fast": ("thinice.training.fast:Fast", "cross-entropy on inputs crafted by one step from a random start"),
        "trades": ("thinice.training.trades:TRADES", "cross-entropy, and divergence within the budget"),
        "mixed": ("thinice.training.mixed:Mixed", "cross-entropy, half on the samples and half on crafted inputs"),
        "mart": ("thinice.training.mart:MART", "boosted cross-entropy, and divergence where samples are wrong"),
    },
)
"""What training can minimise, by name."""
