"""Robust accuracies of publications, which come without samples: which of them cannot be true together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from thinice.consistency.bounds import implied_bound
from thinice.types import Norm

__all__ = ["Point", "Violation", "violations"]


@dataclass(frozen=True, slots=True)
class Point:
    """A published robust accuracy: the share of samples that withstand an attack at a budget."""

    name: str
    norm: Norm
    budget: float
    share: float


@dataclass(frozen=True, slots=True)
class Violation:
    """Two robust accuracies that cannot both be true of the same network and samples."""

    claim: Point
    proof: Point
    budget: float
    """What the budget of the proof is at most in the norm of the claim."""

    def __str__(self) -> str:
        claim, proof = self.claim, self.proof
        return (
            f"{claim.name}: {claim.share:.1%} robust at {claim.norm} {claim.budget:.4g}, but {proof.name} leaves "
            f"{proof.share:.1%} at {proof.norm} {proof.budget:.4g}, which is at most {claim.norm} {self.budget:.4g}: "
            f"at most {proof.share:.1%} can be"
        )


def violations(points: Sequence[Point], *, entries: int, tolerance: float = 0.0) -> tuple[Violation, ...]:
    """Return which robust accuracies of one network contradict each other: the check for numbers without samples.

    Whoever falls within a budget falls within every larger one, and within what that budget is in another norm.

    Parameters
    ----------
    points : sequence of Point
        Robust accuracies of the same network on the same samples.
    entries : int
        Number of entries of an input, channels x height x width.
    tolerance : float
        By how much a share may be too large, where the samples are not quite the same.

    Examples
    --------
    >>> pgd, carlini = Point("PGD", "linf", 4 / 255, 0.108), Point("C&W", "l2", 1.0, 0.906)
    >>> print(*violations([pgd, carlini], entries=3072))
    C&W: 90.6% robust at l2 1, but PGD leaves 10.8% at linf 0.01569, which is at most l2 0.8694: at most 10.8% can be

    """
    found = []
    for claim, proof in permutations(points, 2):
        budget = float(implied_bound(proof.budget, proof.norm, claim.norm, entries))
        if budget <= claim.budget and claim.share > proof.share + tolerance:
            found.append(Violation(claim, proof, budget))
    return tuple(found)
