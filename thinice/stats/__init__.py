"""Statistics: arrays in, frozen results out; a written rule for empty groups, ties and samples not found."""

from thinice.stats.counts import (
    ClassLosses,
    TransitionCounts,
    class_losses,
    transition_counts,
    transitions,
)
from thinice.stats.curves import RocCurve, SurvivalCurve, roc_curve, survival_curve
from thinice.stats.groups import Separation, separation
from thinice.stats.predictors import RivalPredictors, delong, rival_predictors
from thinice.stats.proportions import wilson
from thinice.stats.quantiles import quantile
from thinice.stats.risk import ClosestLosses, RiskBins, RiskCurve, RiskMethod, closest_losses, risk_bins, risk_curve
from thinice.stats.shift import hodges_lehmann, hodges_lehmann_interval
from thinice.stats.two_groups import GroupTests, auc_bootstrap, gained_tests, group_tests

__all__ = [
    "ClassLosses",
    "ClosestLosses",
    "GroupTests",
    "RiskBins",
    "RiskCurve",
    "RiskMethod",
    "RivalPredictors",
    "RocCurve",
    "Separation",
    "SurvivalCurve",
    "TransitionCounts",
    "auc_bootstrap",
    "class_losses",
    "closest_losses",
    "delong",
    "gained_tests",
    "group_tests",
    "hodges_lehmann",
    "hodges_lehmann_interval",
    "quantile",
    "risk_bins",
    "risk_curve",
    "rival_predictors",
    "roc_curve",
    "separation",
    "survival_curve",
    "transition_counts",
    "transitions",
    "wilson",
]
