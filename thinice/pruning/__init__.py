"""Pruning: a network in, a copy with zeros and the masks that hold them out."""

from __future__ import annotations

from thinice.pruning.criteria import CRITERIA, STRUCTURES
from thinice.pruning.masks import Layer, Masks
from thinice.pruning.one_shot import SCOPES, Pruned, prune

__all__ = ["CRITERIA", "SCOPES", "STRUCTURES", "Layer", "Masks", "Pruned", "prune"]
