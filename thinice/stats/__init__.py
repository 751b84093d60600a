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
from thinice.stats.many import SeedSpread, benjamini_hochberg, holm, seed_spread
from thinice.stats.paired import (
    Agreement,
    ClassChanges,
    McNemar,
    McNemarMethod,
    PairedShift,
    agreement,
    class_changes,
    mcnemar,
    paired_shift,
)
from thinice.stats.predictors import RivalPredictors, delong, rival_predictors
from thinice.stats.proportions import wilson
from thinice.stats.quantiles import quantile
from thinice.stats.risk import ClosestLosses, RiskBins, RiskCurve, RiskMethod, closest_losses, risk_bins, risk_curve
from thinice.stats.shift import hodges_lehmann, hodges_lehmann_interval
from thinice.stats.two_groups import GroupTests, auc_bootstrap, gained_tests, group_tests

__all__ = [
    "Agreement",
    "ClassChanges",
    "ClassLosses",
    "ClosestLosses",
    "GroupTests",
    "McNemar",
    "McNemarMethod",
    "PairedShift",
    "RiskBins",
    "RiskCurve",
    "RiskMethod",
    "RivalPredictors",
    "RocCurve",
    "SeedSpread",
    "Separation",
    "SurvivalCurve",
    "TransitionCounts",
    "agreement",
    "auc_bootstrap",
    "benjamini_hochberg",
    "class_changes",
    "class_losses",
    "closest_losses",
    "delong",
    "gained_tests",
    "group_tests",
    "hodges_lehmann",
    "hodges_lehmann_interval",
    "holm",
    "mcnemar",
    "paired_shift",
    "quantile",
    "risk_bins",
    "risk_curve",
    "rival_predictors",
    "roc_curve",
    "seed_spread",
    "separation",
    "survival_curve",
    "transition_counts",
    "transitions",
    "wilson",
]
