"""Statistics: arrays in, frozen results out; a written rule for empty groups, ties and samples not found."""

from thinice.stats.base import quantile, wilson
from thinice.stats.control import ControlComparison, compare_with_control
from thinice.stats.curves import RocCurve, SurvivalCurve, roc_curve, survival_curve
from thinice.stats.flips import ClassImpact, Flips, class_impact, flips
from thinice.stats.paired import PairedShift, paired_equivalence_log10_p, paired_shift
from thinice.stats.populations import ClassTests, Exemplars, class_tests, exemplars, modal_predictions
from thinice.stats.predictors import PredictorComparison, compare_predictors, delong
from thinice.stats.prunings import PruningComparison, compare_prunings, holm
from thinice.stats.rank_tests import hodges_lehmann, hodges_lehmann_interval
from thinice.stats.registry import STATISTICS, Statistic, Unit, statistic, statistic_values
from thinice.stats.risk import RiskBins, RiskCurve, RiskMethod, risk_bins, risk_curve
from thinice.stats.sample_size import lost_needed
from thinice.stats.seeds import SeedSummary, seed_summary
from thinice.stats.separation import Separation, separation
from thinice.stats.spread import SeedSpread, seed_spread
from thinice.stats.transitions import ClassLosses, TransitionCounts, class_losses, transition_counts, transitions

__all__ = [
    "STATISTICS",
    "ClassImpact",
    "ClassLosses",
    "ClassTests",
    "ControlComparison",
    "Exemplars",
    "Flips",
    "PairedShift",
    "PredictorComparison",
    "PruningComparison",
    "RiskBins",
    "RiskCurve",
    "RiskMethod",
    "RocCurve",
    "SeedSpread",
    "SeedSummary",
    "Separation",
    "Statistic",
    "SurvivalCurve",
    "TransitionCounts",
    "Unit",
    "class_impact",
    "class_losses",
    "class_tests",
    "compare_predictors",
    "compare_prunings",
    "compare_with_control",
    "delong",
    "exemplars",
    "flips",
    "hodges_lehmann",
    "hodges_lehmann_interval",
    "holm",
    "lost_needed",
    "modal_predictions",
    "paired_equivalence_log10_p",
    "paired_shift",
    "quantile",
    "risk_bins",
    "risk_curve",
    "roc_curve",
    "seed_spread",
    "seed_summary",
    "separation",
    "statistic",
    "statistic_values",
    "survival_curve",
    "transition_counts",
    "transitions",
    "wilson",
]
