"""Names shared by all layers; standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Literal, get_args

__all__ = [
    "BASES",
    "DEFAULT_ATTACK",
    "DISTANCES",
    "EFFORTS",
    "NORMS",
    "PRECISIONS",
    "ROUNDING",
    "Basis",
    "CorrectionOutcome",
    "Distances",
    "Effort",
    "FailureReason",
    "FoundBy",
    "Interval",
    "Norm",
    "Outcome",
    "Precision",
    "Transition",
]

Norm = Literal["l0", "l1", "l2", "linf"]
NORMS: tuple[Norm, ...] = get_args(Norm)

Effort = Literal["quick", "standard", "thorough", "exhaustive"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)

ROUNDING = 1e-4
"""Share of an epsilon by which float32 arithmetic in another order moves it."""

DEFAULT_ATTACK = "tmn"
"""What `measure` and `compare` search with where nobody says otherwise."""

Precision = Literal["float32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

Basis = Literal["clean", "robust"]
BASES: tuple[Basis, ...] = get_args(Basis)

Distances = Literal["dense", "both"]
DISTANCES: tuple[Distances, ...] = get_args(Distances)


class Outcome(IntEnum):
    """What a minimum-norm attack can say of one sample; the text is what the store and people read."""

    MISCLASSIFIED = 0
    """The clean input is wrong already: epsilon is 0."""
    FOUND = 1
    """A verified adversarial: epsilon is its norm, an upper bound on the distance to the boundary."""
    NOT_FOUND = 2
    """No adversarial was found: epsilon is unknown (NaN in arrays, NULL in SQL), right-censored."""

    @property
    def text(self) -> str:
        """The name used in tables: ``misclassified``, ``found`` or ``not_found``."""
        return self.name.lower()


class FoundBy(IntEnum):
    """Which stage of an attack found a sample's adversarial; the text is what the store and people read."""

    NONE = 0
    """None did: misclassified from the start, or not found (NULL in SQL)."""
    SEARCH = 1
    """The attack's own search."""
    FLOAT64 = 2
    """The fall-back along gradients in float64."""
    LOSSES = 3
    """The fall-back along gradients of other losses than the margin."""
    STARTS = 4
    """The fall-back from fixed starting points of another class."""
    RANDOM = 5
    """The fall-back from random starting points."""
    DENSE = 6
    """The adversarial of the dense network, which fools the pruned one as well."""

    @property
    def text(self) -> str | None:
        """The name used in tables, such as ``search``; None for `NONE`."""
        return self.name.lower() if self else None


class CorrectionOutcome(IntEnum):
    """What the search for the nearest input that the network has right says of a sample that it has wrong."""

    NONE = 0
    """Nobody asked: the network has the sample right, or it is not of those in question (NULL in SQL)."""
    CORRECTED = 1
    """A verified input of the right class: its distance is an upper bound on how far behind the boundary it lies."""
    NOT_CORRECTED = 2
    """None was found: how far is unknown (NaN in arrays, NULL in SQL)."""

    @property
    def text(self) -> str | None:
        """The name used in tables, such as ``corrected``; None for `NONE`."""
        return self.name.lower() if self else None


class FailureReason(IntEnum):
    """Why an attack's own search found nothing; the text is what the store and people read."""

    NONE = 0
    """It did not, or nothing is wrong with the network that a few passes can tell (NULL in SQL)."""
    ZERO_GRADIENT = 1
    """The logits have no gradient at the sample."""
    SATURATED = 2
    """They have one in float64, or behind a softmax, but float32 rounds it to zero."""
    NON_DETERMINISTIC = 3
    """The network answers differently when asked the same again."""
    NON_FINITE = 4
    """A logit or a gradient is infinite or not a number."""

    @property
    def text(self) -> str | None:
        """The name used in tables, such as ``zero_gradient``; None for `NONE`."""
        return self.name.lower() if self else None


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
