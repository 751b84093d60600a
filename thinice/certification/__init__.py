"""Certified lower bounds: radii within which no input at all has another class, found by an attack or not.

An epsilon is the norm of an adversarial that was found: an upper bound of the distance to the decision boundary. What
stands here bounds it from below, for networks of linear layers, convolutions, batch norm, ReLU, additions and pools.
"""

from __future__ import annotations

from thinice.certification.crown import DUAL_NORMS
from thinice.certification.graph import Graph, read_graph
from thinice.certification.radius import Cost, certification_cost, lower_bounds

__all__ = ["DUAL_NORMS", "Cost", "Graph", "certification_cost", "lower_bounds", "read_graph"]
