"""Results: data, and what can be read off it. They are made in `thinice.analysis`; no attack runs here."""

from thinice.results.comparison import BOTH, Comparison, several
from thinice.results.finding import Finding, sort_by_severity, stored_finding, warning_texts
from thinice.results.measured import AdversarialExample, Measured, Predicted, PrunedDistances, search_notes
from thinice.results.populations import Populations
from thinice.results.robustness import CLEAN, Robustness

__all__ = [
    "BOTH",
    "CLEAN",
    "AdversarialExample",
    "Comparison",
    "Finding",
    "Measured",
    "Populations",
    "Predicted",
    "PrunedDistances",
    "Robustness",
    "search_notes",
    "several",
    "sort_by_severity",
    "stored_finding",
    "warning_texts",
]
