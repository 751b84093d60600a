"""The benchmark of adversarial pruning: a protocol, the published leaderboards, and the ranking of both together.

`benchmark` measures pruned networks beside their dense one by one protocol, and ranks them among the published ones of
the same category. The taxonomy (`MethodEntry`), keys (`ModelKey`) and accuracies (`published_accuracies`) are those of

    G. Piras, M. Pintor, A. Demontis, B. Biggio, G. Giacinto, F. Roli, "Adversarial Pruning: A Survey and Benchmark of
    Pruning Methods for Adversarial Robustness", Pattern Recognition, 2025 (arXiv 2409.01249).
"""

from thinice.leaderboard.model_keys import Category, ModelKey
from thinice.leaderboard.published import PublishedAccuracy, published_accuracies
from thinice.leaderboard.taxonomy import MethodEntry, published_methods, read_entries

__all__ = [
    "Category",
    "MethodEntry",
    "ModelKey",
    "PublishedAccuracy",
    "published_accuracies",
    "published_methods",
    "read_entries",
]
