"""Data sets: a name or a path in, `Samples` out."""

from __future__ import annotations

from thinice.datasets.registry import DATASETS, load_samples
from thinice.datasets.samples import LazyInputs, Samples, as_samples

__all__ = ["DATASETS", "LazyInputs", "Samples", "as_samples", "load_samples"]
