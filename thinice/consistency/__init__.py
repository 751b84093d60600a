"""What several attacks say of the same samples must fit together; where it does not, one of them has failed.

The distance of a sample to the decision boundary is one number in each norm, and the norms bound each other. Every
adversarial in hand is a proof in all of them; every "robust" is a claim that a proof can refute. Published studies
broke these inequalities unnoticed, because they looked at averages of one attack at a time.
"""

from thinice.consistency.bounds import implied_bound
from thinice.consistency.contradiction import Contradiction, Kind, contradictions
from thinice.consistency.evidence import Evidence, fixed_budget, minimum_norm, verified
from thinice.consistency.published import Point, Violation, violations
from thinice.consistency.stored import Check, check_store, stored_warnings

__all__ = [
    "Check",
    "Contradiction",
    "Evidence",
    "Kind",
    "Point",
    "Violation",
    "check_store",
    "contradictions",
    "fixed_budget",
    "implied_bound",
    "minimum_norm",
    "stored_warnings",
    "verified",
    "violations",
]
