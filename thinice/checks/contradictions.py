"""Contradictions between attacks on the same samples of one network: where there is one, an attack has failed.

The distance of a sample to the decision boundary is one number in each norm, and the norms bound each other. Every
adversarial in hand is a proof in all of them; every "robust" is a claim that a proof can refute. Published studies
broke these inequalities unnoticed, because they looked at averages of one attack at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
import numpy.typing as npt

from thinice.checks import CHECKS
from thinice.errors import InputError
from thinice.results import Finding
from thinice.types import NORMS, Norm

__all__ = [
    "ContradictionCounter",
    "Evidence",
    "FloatColumn",
    "Kind",
    "contradictions",
    "fixed_budget",
    "implied_bound",
    "minimum_norm",
    "verified",
]

FloatColumn = npt.NDArray[np.float64]

ROUNDING = 1e-6
"""Epsilons are float32: one that equals a budget up to this contradicts nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What one attack says of the samples of one network; made by `minimum_norm`, `fixed_budget` and `verified`.

    Attributes
    ----------
    name : str
        The attack as people know it, ``"fmn, 100 steps"``.
    norm : {"l0", "l1", "l2", "linf"}
        The norm that it speaks of.
    kind : {"minimum", "budget", "verified"}
        An estimate of the distance; a verdict at one budget; a proof that nothing is nearer.
    sample_ids : array
        (N,) int64, each sample once.
    reached : array
        (N,) an adversarial is known at this distance at most: 0 where the clean sample is wrong, inf where none is.
    claimed : array
        (N,) it says that no adversarial is nearer; 0 where it says nothing.
    family, steps : str, int, optional
        What is equal for runs of one attack that differ in their steps alone, and the steps.

    """

    name: str
    norm: Norm
    kind: Literal["minimum", "budget", "verified"]
    sample_ids: npt.NDArray[np.int64]
    reached: FloatColumn
    claimed: FloatColumn
    family: str | None = None
    steps: int | None = None


def minimum_norm(
    name: str,
    norm: Norm,
    sample_ids: npt.ArrayLike,
    epsilon: npt.ArrayLike,
    *,
    family: str | None = None,
    steps: int | None = None,
) -> Evidence:
    """Return what a minimum-norm attack says: of each sample (N,) an epsilon, 0 where misclassified, NaN where unknown.

    An epsilon is a proof that an adversarial is there, and the claim that none is much nearer. An unknown one is
    neither: not found is no number.

    >>> minimum_norm("fmn", "linf", [3, 4, 5], [0.25, 0.0, float("nan")]).reached.round(2)
    array([0.25, 0.  ,  inf])
    """
    ids, values = _columns(sample_ids, epsilon, "epsilon")
    known = ~np.isnan(values)
    reached = np.where(known, values * (1 + ROUNDING), np.inf)
    return Evidence(name, norm, "minimum", ids, reached, np.where(known, values, 0.0), family, steps)


def fixed_budget(
    name: str,
    norm: Norm,
    budget: float,
    sample_ids: npt.ArrayLike,
    robust: npt.ArrayLike,
    *,
    length: npt.ArrayLike | None = None,
    family: str | None = None,
    steps: int | None = None,
) -> Evidence:
    """Return what an attack at one budget says: each sample (N,) is robust there, or broken.

    Broken is a proof that an adversarial lies within the budget, or at its own ``length`` (N,) where that is known,
    0 for a clean sample that is wrong; robust is the claim that none lies within the budget.

    >>> fixed_budget("pgd", "l2", 0.5, [1, 2], [True, False]).claimed
    array([0.5, 0. ])
    """
    if not (np.isfinite(budget) and budget > 0):
        raise InputError(f"`budget` must be a positive number, got {budget!r}")
    ids, verdicts = _columns(sample_ids, np.asarray(robust, dtype=bool), "robust")
    stands = verdicts > 0
    _, lengths = _columns(sample_ids, np.full(len(ids), budget) if length is None else length, "length")
    at = np.fmin(lengths, budget)  # in float32 a length may seem to be longer than the budget that it keeps to
    reached, claimed = np.where(stands, np.inf, at), np.where(stands, budget, 0.0)
    return Evidence(name, norm, "budget", ids, reached, claimed, family, steps)


def verified(name: str, norm: Norm, sample_ids: npt.ArrayLike, radius: npt.ArrayLike) -> Evidence:
    """Return what a complete verifier says: no adversarial lies within the radius (N,); 0 or NaN where it says nothing.

    >>> verified("abcrown", "linf", [1], [0.01]).reached
    array([inf])
    """
    ids, values = _columns(sample_ids, radius, "radius")
    return Evidence(name, norm, "verified", ids, np.full(len(ids), np.inf), np.nan_to_num(values))


def _columns(sample_ids: npt.ArrayLike, values: npt.ArrayLike, name: str) -> tuple[npt.NDArray[np.int64], FloatColumn]:
    ids, column = np.asarray(sample_ids, dtype=np.int64), np.asarray(values, dtype=np.float64)
    if ids.ndim != 1 or ids.shape != column.shape:
        raise InputError(f"`{name}` must have one value for each of `sample_ids`, got {column.shape} and {ids.shape}")
    if len(np.unique(ids)) != len(ids):
        raise InputError("`sample_ids` must name each sample once")
    wrong = (column < 0) | np.isinf(column)
    if wrong.any():
        raise InputError(f"`{name}` must be finite and at least 0 (NaN: unknown), got {column[wrong][0]}")
    return ids, column


def implied_bound(length: npt.ArrayLike, known: Norm, wanted: Norm, entries: int) -> FloatColumn:
    """Return how long a perturbation is at most in one norm, given its length (N,) in another.

    A perturbation within the box [0, 1] moves none of its ``entries`` by more than 1:

    ======  =================  ==================  =========  =======
    known   linf               l2                  l1         l0
    ======  =================  ==================  =========  =======
    linf e  e                  e √n                e n        n
    l2 e    min(e, 1)          e                   e √n       n
    l1 e    min(e, 1)          min(e, √e)          e          n
    l0 m    1                  √m                  m          m
    ======  =================  ==================  =========  =======

    Nothing in the box is longer than 1, √n, n and n. A length of 0 is 0 in all, and an infinite one, of no
    perturbation at all, stays so.

    Parameters
    ----------
    length : array_like
        (N,) at least 0.
    known, wanted : {"l0", "l1", "l2", "linf"}
        The norm of ``length``, and the one asked for.
    entries : int
        Number of entries of an input, channels x height x width.

    Examples
    --------
    >>> implied_bound([4 / 255, 0.0], "linf", "l2", 3 * 32 * 32).round(3)
    array([0.869, 0.   ])
    >>> implied_bound([9.0], "l0", "l2", 100)
    array([3.])

    """
    if entries < 1:
        raise InputError(f"`entries` must be a whole number of at least 1, got {entries!r}")
    for name, value in (("known", known), ("wanted", wanted)):
        if value not in NORMS:
            raise InputError(f"`{name}` must be one of {', '.join(NORMS)}, got {value!r}")
    given = np.asarray(length, dtype=np.float64)
    root = float(np.sqrt(entries))
    whole = {"linf": 1.0, "l2": root, "l1": float(entries), "l0": float(entries)}[wanted]
    implied = {
        ("linf", "l2"): given * root,
        ("linf", "l1"): given * entries,
        ("l2", "linf"): given,
        ("l2", "l1"): given * root,
        ("l1", "linf"): given,
        ("l1", "l2"): np.minimum(given, np.sqrt(given)),
        ("l0", "l2"): np.sqrt(given),
        ("l0", "l1"): given,
        (wanted, wanted): given,
    }.get((known, wanted), np.full_like(given, whole))
    return np.where((given == 0) | np.isinf(given), given, np.minimum(implied, whole))


Kind = Literal["verified", "clean", "norm", "budget", "steps", "attack"]
"""Names in `CHECKS`; `_kind` says which pair of attacks makes which."""


def contradictions(evidence: Iterable[Evidence], *, entries: int, tolerance: float = 0.1) -> tuple[Finding, ...]:
    """Return which of the attacks on one network are refuted by which others, and for which samples.

    A finding is about two attacks, and is named after what they differ in: ``verified``, ``clean``, ``norm``,
    ``budget``, ``steps`` or ``attack``.

    A "robust" is refuted by any adversarial within its budget, in its own norm or by way of another. An epsilon is
    refuted by an adversarial that is nearer by more than the tolerance; that a search ends a few percent too far is
    no contradiction. What a verifier has excluded must not be there.

    Parameters
    ----------
    evidence : iterable of Evidence
        All of the same network and data; any two are compared on the samples that both have.
    entries : int
        Number of entries of an input, channels x height x width.
    tolerance : float
        Share of an epsilon by which another may be nearer, 0 or more and below 1.

    Returns
    -------
    tuple of Finding
        One for each pair and kind that contradicts; of verifiers and clean samples first.

    Examples
    --------
    Ten samples fall to PGD within 4/255, where a second attack sees nothing closer than l2 2.0, in 3072 entries:

    >>> from thinice.checks.contradictions import fixed_budget, minimum_norm
    >>> pgd = fixed_budget("pgd", "linf", 4 / 255, range(10), [False] * 10)
    >>> carlini = minimum_norm("c&w", "l2", range(10), [0.5] * 5 + [2.0] * 5)
    >>> (finding,) = contradictions([pgd, carlini], entries=3072)
    >>> finding.check, finding.samples, round(finding.bounds[0], 3)
    ('norm', (5, 6, 7, 8, 9), 0.869)

    """
    counter = ContradictionCounter(tolerance=tolerance)
    counter.add(dict(enumerate(evidence)), entries=entries)
    return counter.findings()


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


class ContradictionCounter:
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
        self._attacks |= {attack: (result.name, result.norm) for attack, result in evidence.items()}
        for (claimant, claim), (prover, proof) in permutations(evidence.items(), 2):
            pair = (claimant, prover)
            compared, refuted = _refuted(claim, proof, entries, self._tolerance)
            self._compared[pair] += compared
            for kind, samples in refuted.items():
                key = (*pair, kind)
                earlier = self._refuted.get(key)
                self._refuted[key] = (samples if earlier is None else earlier | samples).worst(self._most)

    def findings(self, names: Mapping[int, str] | None = None) -> tuple[Finding, ...]:
        """Return one for each pair and kind that contradicts; `names` are what to call the attacks instead."""
        kinds = CHECKS.names()
        findings = []
        for claimant, prover, kind in sorted(self._refuted, key=lambda key: (kinds.index(key[2]), key[:2])):
            refuted = self._refuted[claimant, prover, kind]
            (claim, claim_norm), (proof, proof_norm) = self._attacks[claimant], self._attacks[prover]
            sample_ids, claimed, bounds = (
                tuple(column.tolist()) for column in (refuted.sample_ids, refuted.claimed, refuted.bounds)
            )
            findings.append(
                Finding(
                    check=kind,
                    subjects=(claim, proof) if names is None else (names[claimant], names[prover]),
                    samples=sample_ids,
                    seen=f"sample {sample_ids[0]} claimed {claimed[0]:.4g}, at most {bounds[0]:.4g}",
                    advice=CHECKS.get(kind).advice,
                    count=refuted.count,
                    of=self._compared[claimant, prover],
                    norms=(claim_norm, proof_norm),
                    claimed=claimed,
                    bounds=bounds,
                )
            )
        return tuple(findings)


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
