"""What several attacks say of the same samples must fit together; where it does not, one of them has failed.

The distance of a sample to the decision boundary is one number in each norm, and the norms bound each other. Every
adversarial in hand is a proof in all of them; every "robust" is a claim that a proof can refute. Published studies
broke these inequalities unnoticed, because they looked at averages of one attack at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from thinice.errors import InputError
from thinice.types import NORMS, Norm

if TYPE_CHECKING:
    import pandas as pd

    from thinice.store import Store

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
    "verified",
    "violations",
]

FloatColumn = npt.NDArray[np.float64]

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
ROUNDING = 1e-6  # epsilons are float32: what equals a budget up to this is not held against anyone


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
        return {
            "kind": self.kind,
            "claim": self.claim,
            "norm": self.claim_norm,
            "proof": self.proof,
            "proof_norm": self.proof_norm,
            "samples": len(self.sample_ids),
            "of": self.compared,
            "worst": self.sample_ids[0],
            "claimed": self.claimed[0],
            "at_most": self.bounds[0],
        }

    def rows(self) -> list[dict[str, str | int | float]]:
        """Return one row a sample."""
        shared: dict[str, str | int | float] = {
            "kind": self.kind,
            "claim": self.claim,
            "norm": self.claim_norm,
            "proof": self.proof,
            "proof_norm": self.proof_norm,
        }
        samples = zip(self.sample_ids, self.claimed, self.bounds, strict=True)
        return [
            {**shared, "sample_id": one, "claimed": claimed, "at_most": at_most} for one, claimed, at_most in samples
        ]


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


# every verdict of an attack: an epsilon, or robust or not at a budget; a sample_id that stands for different contents
# in different selections counts as different samples
EVERYTHING = """
with said as (
    select measurement_id, sample_id, epsilon::double as epsilon, null::double as budget, null::boolean as robust
    from epsilons
    union all
    select measurement_id, sample_id, epsilon::double, budget, robust_alone
    from verdicts
    where robust_alone is not null
)
select
    k.checkpoint_id, k.name as network, d.name as data, d.split, list_product(d.shape)::bigint as entries,
    a.attack_id, a.name as attack, a.norm::text as norm, a.settings::text as settings,
    said.sample_id, said.epsilon, said.budget, said.robust,
    dense_rank() over (partition by d.name, d.split, said.sample_id order by s.digest) as variant
from said
join measurements m using (measurement_id)
join checkpoints k using (checkpoint_id)
join datasets d using (dataset_id)
join attacks a using (attack_id)
join samples s on s.dataset_id = m.dataset_id and s.sample_id = said.sample_id
where $measurement_id is null
    or m.checkpoint_id = (select checkpoint_id from measurements where measurement_id = $measurement_id)
qualify row_number() over (
    partition by k.checkpoint_id, d.name, d.split, a.attack_id, s.digest, said.sample_id order by m.measurement_id
) = 1
order by k.checkpoint_id, d.name, d.split, variant, a.attack_id, said.sample_id
"""


@dataclass(frozen=True, slots=True)
class Check:
    """What the attacks on one network in a store say of each other.

    Attributes
    ----------
    network, data, split : str
        Whose evidence it is.
    attacks : tuple of str
        Those that were held against each other.
    contradictions : tuple of Contradiction
        Where they contradict.

    """

    network: str
    data: str
    split: str
    attacks: tuple[str, ...]
    contradictions: tuple[Contradiction, ...]


def check_store(store: Store, *, tolerance: float = 0.1, measurement_id: int | None = None) -> tuple[Check, ...]:
    """Return which results in a store cannot all be true: one check for each network and data set.

    Epsilons and verdicts at budgets of the same network and samples are held against each other, whatever run and
    selection they come from. What an attack was spared, because the store knew the sample broken, is not its claim.

    Parameters
    ----------
    store : Store
        Made by `thinice.open_store`.
    tolerance : float
        As for `contradictions`.
    measurement_id : int, optional
        Only of the network of this measurement.

    Examples
    --------
    >>> import tempfile, thinice
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check_store(thinice.open_store(f"{folder}/new.duckdb", new=True))
    ()

    """
    checks = list[Check]()
    frame = store.sql(EVERYTHING, {"measurement_id": measurement_id})
    for (_, network, data, split, _), rows in frame.groupby(["checkpoint_id", "network", "data", "split", "variant"]):
        evidence = _evidence(rows)
        found = contradictions(evidence, entries=int(rows["entries"].iloc[0]), tolerance=tolerance)
        checks.append(Check(str(network), str(data), str(split), tuple(one.name for one in evidence), found))
    return tuple(checks)


def _evidence(rows: pd.DataFrame) -> list[Evidence]:
    """Return what each attack in the rows of one network says."""
    found, labels = list[Evidence](), _labels(rows)
    for attack_id, name in labels.items():
        part = rows[rows["attack_id"] == attack_id]
        first = part.iloc[0]
        settings = json.loads(first["settings"])
        steps = settings.pop("steps", None)
        family = json.dumps([first["attack"], first["norm"], settings], sort_keys=True)
        ids, epsilon = part["sample_id"].to_numpy(), part["epsilon"].to_numpy(dtype=np.float64)
        if np.isnan(first["budget"]):
            found.append(minimum_norm(name, first["norm"], ids, epsilon, family=family, steps=steps))
        else:
            robust, budget = part["robust"].to_numpy(dtype=bool), float(first["budget"])
            found.append(
                fixed_budget(name, first["norm"], budget, ids, robust, length=epsilon, family=family, steps=steps)
            )
    return found


def _labels(rows: pd.DataFrame) -> dict[int, str]:
    """Return a name for each attack_id: that of the attack, and the settings that tell it from others of that name."""
    attacks = rows.drop_duplicates("attack_id")[["attack_id", "attack", "norm", "settings"]]
    settings = {key: json.loads(text) for key, text in zip(attacks["attack_id"], attacks["settings"], strict=True)}
    labels = {}
    for _, alike in attacks.groupby(["attack", "norm"]):
        ids = alike["attack_id"].tolist()
        names = sorted({name for key in ids for name in settings[key]})
        telling = [name for name in names if len({repr(settings[key].get(name)) for key in ids}) > 1]
        for key, attack in zip(ids, alike["attack"], strict=True):
            values = (f"{name} {_shown(settings[key].get(name))}" for name in telling)
            labels[key] = ", ".join([attack, *values])
    return dict(sorted(labels.items()))


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
