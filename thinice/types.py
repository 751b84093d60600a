"""Names shared by all layers; standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Literal, get_args

__all__ = ["EFFORTS", "NORMS", "Effort", "Interval", "Norm", "Outcome", "Transition"]

Norm = Literal["l0", "l1", "l2", "linf"]
NORMS: tuple[Norm, ...] = get_args(Norm)

Effort = Literal["quick", "standard", "thorough"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)


class Outcome(IntEnum):
    """What a minimum-norm attack can say of one sample; the text is what the store and people read."""

    MISCLASSIFIED = 0
    """The clean input is wrong already: epsilon is 0."""
    FOUND = 1
    """A judged adversarial: epsilon is its norm, an upper bound on the distance to the boundary."""
    NOT_FOUND = 2
    """No adversarial was found: epsilon is unknown (NaN in arrays, NULL in SQL), right-censored."""

    @property
    def text(self) -> str:
        """The name used in tables: ``misclassified``, ``found`` or ``not_found``."""
        return self.name.lower()


class Transition(StrEnum):
    """Correct under the dense (first) and under the pruned (second) network."""

    KEPT = "S1,1"
    LOST = "S1,0"
    GAINED = "S0,1"
    WRONG = "S0,0"


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float
    confidence: float = 0.95
