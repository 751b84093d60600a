"""Figures: arrays in, matplotlib Axes out; nothing is saved or shown here."""

from thinice.plots.attacks import plot_attacks
from thinice.plots.boundary import plot_boundary
from thinice.plots.classes import plot_class_losses
from thinice.plots.curves import plot_roc, plot_security, plot_survival
from thinice.plots.distribution import plot_distribution
from thinice.plots.figure_sets import figure_set
from thinice.plots.gallery import plot_gallery
from thinice.plots.pairs import plot_pairs
from thinice.plots.palette import TRANSITIONS
from thinice.plots.predictors import plot_predictors
from thinice.plots.risk import plot_risk
from thinice.plots.sparsity import plot_sparsity
from thinice.plots.units import UNITS

__all__ = [
    "TRANSITIONS",
    "UNITS",
    "figure_set",
    "plot_attacks",
    "plot_boundary",
    "plot_class_losses",
    "plot_distribution",
    "plot_gallery",
    "plot_pairs",
    "plot_predictors",
    "plot_risk",
    "plot_roc",
    "plot_security",
    "plot_sparsity",
    "plot_survival",
]
