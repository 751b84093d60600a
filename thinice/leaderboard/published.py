"""The published leaderboards, as facts: clean accuracy and accuracy under AutoAttack of 154 pruned networks."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from thinice.leaderboard.model_keys import Category, ModelKey

__all__ = ["PUBLISHED_BUDGET", "PUBLISHED_SAMPLES", "SOURCE", "PublishedAccuracy", "published_accuracies"]

SOURCE = "Piras et al. 2025, arXiv 2409.01249, github.com/pralab/AdversarialPruningBenchmark"
PUBLISHED_SAMPLES = 10_000
"""Test images behind each published accuracy: all of CIFAR-10's, the first of SVHN's."""
PUBLISHED_BUDGET = 0.031
"""Of the published AutoAttack, in linf: 7.905/255, a little less than 8/255."""


class PublishedAccuracy(NamedTuple):
    """One row of the published leaderboards; accuracies are shares."""

    method: str
    category: Category
    clean: float
    robust: float

    @property
    def key(self) -> ModelKey:
        """The key of its network."""
        return ModelKey(self.method, self.category)


@cache
def published_accuracies() -> tuple[PublishedAccuracy, ...]:
    """Return all rows of the published leaderboards, in their order.

    >>> best = max(published_accuracies(), key=lambda row: row.robust)
    >>> best.method, best.category.label, best.robust
    ('FlyingBird_Chen2021Sparsity', 'VGG-16, SVHN, unstructured, 95 %', 0.4994)
    """
    text = files("thinice.leaderboard").joinpath("published_accuracies.csv").read_text(encoding="utf-8")
    return tuple(
        PublishedAccuracy(
            row["method"],
            Category(row["architecture"], row["data"], row["structure"], int(row["sparsity"])),
            *(round(float(row[name]) / 100, 4) for name in ("clean", "robust")),
        )
        for row in csv.DictReader(text.splitlines())
    )
