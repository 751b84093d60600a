"""Figures: arrays in, matplotlib Axes out; nothing is saved or shown here."""

from thinice.plots.attacks import plot_attacks
from thinice.plots.classes import plot_class_losses
from thinice.plots.curves import plot_roc, plot_security, plot_sparsity, plot_survival
from thinice.plots.distributions import plot_distribution, plot_intervals, plot_risk
from thinice.plots.figure_set import ComparisonColumns, figure_set
from thinice.plots.images import plot_boundary, plot_gallery
from thinice.plots.pairs import plot_pairs, plot_predictors
from thinice.plots.residuals import plot_residuals
from thinice.plots.stability import plot_mask_changes
from thinice.plots.study import StudyCurve, plot_study
from thinice.plots.style import TRANSITIONS, UNITS
from thinice.plots.training import plot_training

__all__ = [
    "TRANSITIONS",
    "UNITS",
    "ComparisonColumns",
    "StudyCurve",
    "figure_set",
    "plot_attacks",
    "plot_boundary",
    "plot_class_losses",
    "plot_distribution",
    "plot_gallery",
    "plot_intervals",
    "plot_mask_changes",
    "plot_pairs",
    "plot_predictors",
    "plot_residuals",
    "plot_risk",
    "plot_roc",
    "plot_security",
    "plot_sparsity",
    "plot_study",
    "plot_survival",
    "plot_training",
]
