"""The main job: which samples pruning loses, and how close to the dense network's boundary they lay."""

from thinice.comparison.job import compare, compare_all, named_data
from thinice.comparison.result import BOTH, Comparison

__all__ = ["BOTH", "Comparison", "compare", "compare_all", "named_data"]
