"""Robustness at a budget: attacks that keep to a ball, alone or as an ensemble; what they claim is judged as ever."""

from __future__ import annotations

from thinice.robustness.budget import LONGER, budget_text, budget_value, into_ball
from thinice.robustness.ensemble import BUDGET_ATTACKS, Ensemble, is_budget_attack, make_ensemble, refuse_unknown

__all__ = [
    "BUDGET_ATTACKS",
    "LONGER",
    "Ensemble",
    "budget_text",
    "budget_value",
    "into_ball",
    "is_budget_attack",
    "make_ensemble",
    "refuse_unknown",
]
