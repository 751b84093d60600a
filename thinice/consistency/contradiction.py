"""Attacks on the same samples held against each other: whom an adversarial in hand refutes, and for which samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
import numpy.typing as npt

from thinice.consistency.bounds import implied_bound
from thinice.consistency.evidence import Evidence, FloatColumn
from thinice.errors import InputError
from thinice.types import Norm

__all__ = ["Contradiction", "Kind", "Tally", "contradictions"]

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
    samples : int
        How many of them contradict.
    sample_ids : tuple of int
        These samples, the worst first; of very many, the worst alone where a caller asked for so many.
    claimed, bounds : tuple of float
        What was claimed of each, and what the proof allows at most, both in ``claim_norm``.

    """

    kind: Kind
    claim: str
    claim_norm: Norm
    proof: str
    proof_norm: Norm
    compared: int
    samples: int
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
        return self.samples / self.compared

    def __str__(self) -> str:
        return (
            f"{self.claim} ({self.claim_norm}) against {self.proof} ({self.proof_norm}): {self.samples} of "
            f"{self.compared} samples; sample {self.sample_ids[0]} claimed {self.claimed[0]:.4g}, at most "
            f"{self.bounds[0]:.4g}: {self.meaning}"
        )

    def to_dict(self) -> dict[str, str | int | float]:
        """Return the pair in one row: how many samples contradict, and the worst of them."""
        return self._pair | {
            "samples": self.samples,
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
    tally = Tally(tolerance=tolerance)
    tally.add(dict(enumerate(evidence)), entries=entries)
    return tally.contradictions()


@dataclass(frozen=True, slots=True, eq=False)
class _Refuted:
    """Samples for which one attack refutes another: how many, and the worst of them, columns of one length."""

    count: int
    sample_ids: npt.NDArray[np.int64]
    claimed: FloatColumn
    bounds: FloatColumn

    def worst(self, most: int | None) -> _Refuted:
        """Return the same with the worst first, and no others than `most` of them."""
        order = np.argsort(self.bounds / self.claimed, kind="stable")[:most]
        return _Refuted(self.count, self.sample_ids[order], self.claimed[order], self.bounds[order])

    def __or__(self, other: _Refuted) -> _Refuted:
        return _Refuted(
            self.count + other.count,
            np.concatenate([self.sample_ids, other.sample_ids]),
            np.concatenate([self.claimed, other.claimed]),
            np.concatenate([self.bounds, other.bounds]),
        )


class Tally:
    """Contradictions among attacks on one network, counted part by part where not all samples are in memory at once.

    Parameters
    ----------
    tolerance : float
        As for `contradictions`.
    most : int, optional
        So many of the samples of each contradiction are named, the worst; all are counted.

    """

    def __init__(self, *, tolerance: float = 0.1, most: int | None = None) -> None:
        if not 0 <= tolerance < 1:
            raise InputError(f"`tolerance` must be a share of at least 0 and below 1, got {tolerance!r}")
        self._tolerance, self._most = tolerance, most
        self._compared = Counter[tuple[int, int]]()
        self._refuted = dict[tuple[int, int, Kind], _Refuted]()
        self._attacks = dict[int, tuple[str, Norm]]()

    def add(self, evidence: Mapping[int, Evidence], *, entries: int) -> None:
        """Count what attacks say of some more samples; an attack has the same number in every part.

        Samples that were counted before must not come again; those of a later part come after the others.
        """
        self._attacks |= {attack: (said.name, said.norm) for attack, said in evidence.items()}
        for (claimant, claim), (prover, proof) in permutations(evidence.items(), 2):
            pair = (claimant, prover)
            compared, refuted = _refuted(claim, proof, entries, self._tolerance)
            self._compared[pair] += compared
            for kind, samples in refuted.items():
                key = (*pair, kind)
                before = self._refuted.get(key)
                self._refuted[key] = (samples if before is None else before | samples).worst(self._most)

    def contradictions(self, names: Mapping[int, str] | None = None) -> tuple[Contradiction, ...]:
        """Return one for each pair and kind that contradicts; `names` are what to call the attacks instead."""
        kinds = list(MEANINGS)
        found = []
        for claimant, prover, kind in sorted(self._refuted, key=lambda key: (kinds.index(key[2]), key[:2])):
            samples = self._refuted[claimant, prover, kind]
            (claim, claim_norm), (proof, proof_norm) = self._attacks[claimant], self._attacks[prover]
            found.append(
                Contradiction(
                    kind=kind,
                    claim=claim if names is None else names[claimant],
                    claim_norm=claim_norm,
                    proof=proof if names is None else names[prover],
                    proof_norm=proof_norm,
                    compared=self._compared[claimant, prover],
                    samples=samples.count,
                    sample_ids=tuple(samples.sample_ids.tolist()),
                    claimed=tuple(samples.claimed.tolist()),
                    bounds=tuple(samples.bounds.tolist()),
                )
            )
        return tuple(found)


def _refuted(claim: Evidence, proof: Evidence, entries: int, tolerance: float) -> tuple[int, dict[Kind, _Refuted]]:
    """Return of how many samples both speak, and those for which the proof refutes the claim, in order of their ids."""
    shared, at_claim, at_proof = np.intersect1d(
        claim.sample_ids, proof.sample_ids, assume_unique=True, return_indices=True
    )
    claimed, reached = claim.claimed[at_claim], proof.reached[at_proof]
    at_most = implied_bound(reached, proof.norm, claim.norm, entries)
    estimate = claim.kind == "minimum"
    refuted = at_most < claimed * (1 - tolerance) if estimate else (at_most <= claimed) & (claimed > 0)
    # a budget does not say whether the clean sample was wrong; an epsilon of 0 does
    groups: dict[Kind, npt.NDArray[np.bool_]] = {
        "clean": refuted & (reached == 0),
        _kind(claim, proof): refuted & (reached > 0),
    }
    return len(shared), {
        kind: _Refuted(int(group.sum()), shared[group], claimed[group], at_most[group])
        for kind, group in groups.items()
        if group.any()
    }


def _kind(claim: Evidence, proof: Evidence) -> Kind:
    if claim.kind == "verified":
        return "verified"
    if claim.norm != proof.norm:
        return "norm"
    if claim.family is not None and claim.family == proof.family and claim.steps != proof.steps:
        return "steps"
    return "budget" if claim.kind == "budget" else "attack"
