"""Attacks on the same samples held against each other: whom an adversarial in hand refutes, and for which samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
import numpy.typing as npt

from thinice.consistency.bounds import implied_bound
from thinice.consistency.evidence import Evidence
from thinice.errors import InputError
from thinice.types import Norm

__all__ = ["Contradiction", "Kind", "contradictions"]

Kind = Literal["verified", "clean", "norm", "budget", "steps", "attack"]
MEANINGS: dict[Kind, str] = {
    "verified": "nothing can be there: the verifier, the network or the data differ, or an adversarial is none",
    "clean": "one of them has the clean sample wrong: networks, data or labels differ",
    "norm": "an adversarial in hand in one norm is nearer than this in the other: is the attack given probabilities "
    "instead of logits, or too few steps?",
    "budget": "an adversarial within the budget is in hand: the sample is not robust",
    "steps": "more steps change the result: the search has not converged, so give it more",
    "attack": "another attack found nearer adversarials: run it longer or with other settings, and take the nearer",
}


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Samples for which an adversarial that one attack has in hand refutes what another says.

    Attributes
    ----------
    kind : str
        ``verified``, ``clean``, ``norm``, ``budget``, ``steps`` or ``attack``; `meaning` says what each is.
    claim, proof : str
        Who is refuted, and by whom.
    claim_norm, proof_norm : {"l0", "l1", "l2", "linf"}
        The norms that they speak of.
    compared : int
        Samples of which both speak.
    sample_ids : tuple of int
        The samples that contradict, the worst first.
    claimed, bounds : tuple of float
        What was claimed of each, and what the proof allows at most, both in ``claim_norm``.

    """

    kind: Kind
    claim: str
    claim_norm: Norm
    proof: str
    proof_norm: Norm
    compared: int
    sample_ids: tuple[int, ...]
    claimed: tuple[float, ...]
    bounds: tuple[float, ...]

    @property
    def meaning(self) -> str:
        """What it says of the attacks, and what to do."""
        return MEANINGS[self.kind]

    @property
    def share(self) -> float:
        """The share of the samples compared that contradict."""
        return len(self.sample_ids) / self.compared

    def __str__(self) -> str:
        return (
            f"{self.claim} ({self.claim_norm}) against {self.proof} ({self.proof_norm}): {len(self.sample_ids)} of "
            f"{self.compared} samples; sample {self.sample_ids[0]} claimed {self.claimed[0]:.4g}, at most "
            f"{self.bounds[0]:.4g}: {self.meaning}"
        )

    def to_dict(self) -> dict[str, str | int | float]:
        """Return the pair in one row: how many samples contradict, and the worst of them."""
        return self._pair | {
            "samples": len(self.sample_ids),
            "of": self.compared,
            "worst": self.sample_ids[0],
            "claimed": self.claimed[0],
            "at_most": self.bounds[0],
        }

    def rows(self) -> list[dict[str, str | int | float]]:
        """Return one row a sample."""
        samples = zip(self.sample_ids, self.claimed, self.bounds, strict=True)
        return [
            self._pair | {"sample_id": one, "claimed": claimed, "at_most": at_most} for one, claimed, at_most in samples
        ]

    @property
    def _pair(self) -> dict[str, str | int | float]:
        return {
            "kind": self.kind,
            "claim": self.claim,
            "norm": self.claim_norm,
            "proof": self.proof,
            "proof_norm": self.proof_norm,
        }


def contradictions(evidence: Iterable[Evidence], *, entries: int, tolerance: float = 0.1) -> tuple[Contradiction, ...]:
    """Return which of the attacks on one network are refuted by which others, and for which samples.

    A "robust" is refuted by any adversarial within its budget, in its own norm or by way of another. An epsilon is
    refuted by an adversarial that is nearer by more than the tolerance; that a search ends a few percent too far is
    no contradiction. What a verifier has excluded must not be there.

    Parameters
    ----------
    evidence : iterable of Evidence
        All of the same network and data; any two are held against each other where they speak of the same samples.
    entries : int
        Number of entries of an input, channels x height x width.
    tolerance : float
        Share of an epsilon by which another may be nearer, 0 or more and below 1.

    Returns
    -------
    tuple of Contradiction
        One for each pair and kind that contradicts; of verifiers and clean samples first.

    Examples
    --------
    Ten samples fall to PGD within 4/255, where a second attack sees nothing closer than l2 2.0, in 3072 entries:

    >>> from thinice.consistency import fixed_budget, minimum_norm
    >>> pgd = fixed_budget("pgd", "linf", 4 / 255, range(10), [False] * 10)
    >>> carlini = minimum_norm("c&w", "l2", range(10), [0.5] * 5 + [2.0] * 5)
    >>> (found,) = contradictions([pgd, carlini], entries=3072)
    >>> found.kind, found.sample_ids, found.bounds[0].__round__(3)
    ('norm', (5, 6, 7, 8, 9), 0.869)

    """
    if not 0 <= tolerance < 1:
        raise InputError(f"`tolerance` must be a share of at least 0 and below 1, got {tolerance!r}")
    pairs = permutations(evidence, 2)
    found = [one for claim, proof in pairs for one in _refuted(claim, proof, entries, tolerance)]
    return tuple(sorted(found, key=lambda one: list(MEANINGS).index(one.kind)))


def _refuted(claim: Evidence, proof: Evidence, entries: int, tolerance: float) -> Iterable[Contradiction]:
    shared, at_claim, at_proof = np.intersect1d(claim.sample_ids, proof.sample_ids, return_indices=True)
    claimed, reached = claim.claimed[at_claim], proof.reached[at_proof]
    at_most = implied_bound(reached, proof.norm, claim.norm, entries)
    estimate = claim.kind == "minimum"
    refuted = at_most < claimed * (1 - tolerance) if estimate else (at_most <= claimed) & (claimed > 0)
    # a budget does not say whether the clean sample was wrong; an epsilon of 0 does
    clean: tuple[Kind, npt.NDArray[np.bool_]] = ("clean", refuted & (reached == 0))
    for kind, samples in (clean, (_kind(claim, proof), refuted & (reached > 0))):
        if samples.any():
            worst = np.flatnonzero(samples)[np.argsort(at_most[samples] / claimed[samples], kind="stable")]
            yield Contradiction(
                kind=kind,
                claim=claim.name,
                claim_norm=claim.norm,
                proof=proof.name,
                proof_norm=proof.norm,
                compared=len(shared),
                sample_ids=tuple(shared[worst].tolist()),
                claimed=tuple(claimed[worst].tolist()),
                bounds=tuple(at_most[worst].tolist()),
            )


def _kind(claim: Evidence, proof: Evidence) -> Kind:
    if claim.kind == "verified":
        return "verified"
    if claim.norm != proof.norm:
        return "norm"
    if claim.family is not None and claim.family == proof.family and claim.steps != proof.steps:
        return "steps"
    return "budget" if claim.kind == "budget" else "attack"
