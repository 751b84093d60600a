"""Training: a network, samples and a recipe in; the trained network and its history out."""

from __future__ import annotations

from thinice.training.augmentation import random_flip, random_shift
from thinice.training.natural import Constraint, accuracy, fit
from thinice.training.recipe import Recipe
from thinice.training.snapshot import Epoch

__all__ = ["Constraint", "Epoch", "Recipe", "accuracy", "fit", "random_flip", "random_shift"]
