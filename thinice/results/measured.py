"""What was measured on one network, sample by sample."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.types import CorrectionOutcome, FailureReason, FoundBy, Norm, Outcome

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = [
    "AdversarialExample",
    "Measured",
    "Predicted",
    "PrunedDistances",
    "bound_notes",
    "bound_summary",
    "nearer_again",
    "search_notes",
]

NEARER = 0.01
"""An epsilon is smaller than another where it is so by this share of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The distance of each sample to a network's boundary; columns have one entry a sample, in the order of the data.

    Attributes
    ----------
    network, sparsity
        Name of the network, and the fraction of its prunable weights that are zero.
    data, split : str
        Where the samples came from.
    norm, attack : str
        What measured the distances.
    measurement_id : int
        Its row in the store's table ``measurements``.
    sample_ids, labels : ndarray
        (N,) index in the untouched data set, and true classes.
    epsilon : ndarray
        (N,) distance found, on the [0, 1] scale; 0 where the clean sample is misclassified, NaN where not found.
    outcomes, found_by, failure_reasons : ndarray
        (N,) codes of `Outcome`, `FoundBy` and `FailureReason`.
    predictions, clean_predictions : ndarray
        (N,) classes of the adversarial and of the clean sample; -1 where there is none.
    evaluations : ndarray
        (N,) forward-backward passes spent.
    converged : ndarray
        (N,) bool, whether the search converged; False where the attack does not say.
    epsilon_lower : ndarray, optional
        (N,) float64, radii within which it is proved that there is no adversarial; 0 where nothing was proved. None
        where that was not asked for.
    second_epsilon : ndarray, optional
        (N,) what a second attack found where epsilon lay far above `epsilon_lower`; NaN for all others.

    """

    network: str
    sparsity: float
    data: str
    split: str
    norm: Norm
    attack: str
    measurement_id: int
    sample_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    epsilon: NDArray[np.float32]
    outcomes: NDArray[np.int8]
    predictions: NDArray[np.int64]
    clean_predictions: NDArray[np.int64]
    evaluations: NDArray[np.float32]
    converged: NDArray[np.bool_]
    found_by: NDArray[np.int8]
    failure_reasons: NDArray[np.int8]
    epsilon_lower: NDArray[np.float64] | None = None
    second_epsilon: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know of the search, see `search_notes` and `bound_notes`."""
        return (
            *search_notes(self.outcomes, self.found_by, self.failure_reasons),
            *bound_notes(self.sample_ids, self.epsilon, self.second_epsilon, self.norm),
        )

    @property
    def nearer_again(self) -> NDArray[np.bool_]:
        """(N,) where a second attack found a nearer adversarial."""
        return nearer_again(self.epsilon, self.second_epsilon)

    @property
    def median_epsilon(self) -> float | None:
        """Median over the samples that the network has right; None where fewer than half of those were found.

        A sample that was not found counts as farther than all others.
        """
        epsilon = self.epsilon[self.clean_predictions == self.labels]
        median = float(np.median(np.where(np.isnan(epsilon), np.inf, epsilon))) if len(epsilon) else np.inf
        return median if np.isfinite(median) else None

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement in one flat row of plain numbers and text, for JSON, CSV and tables."""
        return {
            "network": self.network,
            "sparsity": self.sparsity,
            "data": self.data,
            "split": self.split,
            "samples": len(self),
            "misclassified": int((self.clean_predictions != self.labels).sum()),
            "found": int((self.outcomes == Outcome.FOUND).sum()),
            "not_found": int((self.outcomes == Outcome.NOT_FOUND).sum()),
            "by_fallback": int((self.found_by > FoundBy.SEARCH).sum()),
            "norm": self.norm,
            "attack": self.attack,
            "median_epsilon": self.median_epsilon,
            "evaluations": float(self.evaluations.mean()),
            **bound_summary(self.epsilon, self.epsilon_lower),
        }

    def frame(self) -> pd.DataFrame:
        """Return one row a sample: id, label, prediction, epsilon, outcome, and with lower bounds `epsilon_lower`."""
        import pandas as pd  # noqa: PLC0415 (a second of import that not every caller needs)

        columns: dict[str, Any] = {
            "sample_id": self.sample_ids,
            "label": self.labels,
            "prediction": self.clean_predictions,
            "epsilon": self.epsilon,
            "outcome": pd.Categorical([Outcome(code).text for code in self.outcomes], [each.text for each in Outcome]),
        }
        if self.epsilon_lower is not None:
            columns["epsilon_lower"] = self.epsilon_lower
        return pd.DataFrame(columns)


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """A network's predictions of the clean samples, one entry a sample, in the order of the data.

    Classes (-1 where a logit is NaN), and how sure the network is: logit of the true class minus the best other one,
    largest probability, cross-entropy in nats; NaN where the logits are.
    """

    predictions: NDArray[np.int64]
    margins: NDArray[np.float32]
    confidences: NDArray[np.float64]
    losses: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PrunedDistances:
    """The distances to a pruned network's own boundary, one entry a sample, in the order of the data.

    Attributes
    ----------
    epsilon, outcomes, found_by : ndarray
        (N,) as of `Measured`, of the pruned network.
    corrections : ndarray
        (N,) of the samples that the dense network has right and the pruned one wrong: distance to the nearest input
        found that the pruned one has right, an upper bound. NaN where none was found, and for all others.
    correction_outcomes : ndarray
        (N,) codes of `CorrectionOutcome`.
    epsilon_lower, second_epsilon : ndarray or None
        (N,) as of `Measured`, of the pruned network; None where lower bounds were not asked for.

    """

    epsilon: NDArray[np.float32]
    outcomes: NDArray[np.int8]
    found_by: NDArray[np.int8]
    corrections: NDArray[np.float32]
    correction_outcomes: NDArray[np.int8]
    epsilon_lower: NDArray[np.float64] | None = None
    second_epsilon: NDArray[np.float32] | None = None

    @property
    def signed(self) -> NDArray[np.float32]:
        """(N,) distance to the boundary, negative behind it; -inf where how far is not known, NaN where not found.

        Samples that both networks have wrong, and those that only the pruned one has right, are as `epsilon` says.
        """
        behind = np.where(self.correction_outcomes == CorrectionOutcome.CORRECTED, -self.corrections, -np.inf)
        return np.where(self.correction_outcomes == CorrectionOutcome.NONE, self.epsilon, behind).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class AdversarialExample:
    """A sample, its position in the selection, and the adversarial that proves its epsilon, with that one's class.

    Images are (C, H, W) in [0, 1].
    """

    sample_id: int
    position: int
    prediction: int
    inputs: NDArray[np.float32]
    adversarial: NDArray[np.float32]


def search_notes(
    outcomes: NDArray[np.int8], found_by: NDArray[np.int8], failure_reasons: NDArray[np.int8]
) -> tuple[str, ...]:
    """Return notes on a search: how many samples the fall-back found, and why others were not found.

    >>> search_notes(np.array([1, 2, 2], np.int8), np.array([4, 0, 0], np.int8), np.array([1, 1, 4], np.int8))
    ('found by the fall-back, perhaps too far: starts 1', 'not found: zero_gradient 1, non_finite 1')
    """
    explained = (outcomes == Outcome.NOT_FOUND) & (failure_reasons != FailureReason.NONE)
    by_fallback = Counter(FoundBy(code).text for code in found_by if code > FoundBy.SEARCH)
    reasons = Counter(FailureReason(code).text for code in failure_reasons[explained])
    counters = (("found by the fall-back, perhaps too far", by_fallback), ("not found", reasons))
    return tuple(
        f"{what}: " + ", ".join(f"{text} {count}" for text, count in counter.items())
        for what, counter in counters
        if counter
    )


def nearer_again(epsilon: NDArray[np.float32], second_epsilon: NDArray[np.float32] | None) -> NDArray[np.bool_]:
    """Return where (N,) a second attack found an adversarial that is nearer by more than a hundredth.

    >>> nearer_again(np.array([0.2, 0.2, 0.2], np.float32), np.array([0.1, 0.199, np.nan], np.float32)).tolist()
    [True, False, False]
    """
    if second_epsilon is None:
        return np.zeros(len(epsilon), np.bool_)
    return np.asarray(second_epsilon < (1 - NEARER) * epsilon)


def bound_notes(
    sample_ids: NDArray[np.int64],
    epsilon: NDArray[np.float32],
    second_epsilon: NDArray[np.float32] | None,
    norm: Norm,
) -> tuple[str, ...]:
    """Return what a second search says of the samples whose epsilon lay far above its lower bound: a sentence, or none.

    >>> bound_notes(np.array([5, 7]), np.array([0.2, 0.3]), np.array([0.1, 0.3]), "l2")
    ('2 samples lay far above their lower bounds and were searched again: 1 nearer (5: 0.1 instead of 0.2)',)
    >>> bound_notes(np.array([5, 7]), np.array([0.2, 0.3]), np.array([np.nan, 0.3]), "l2")
    ('1 sample lay far above its lower bound and was searched again: none nearer, so the bounds are loose',)
    """
    again = 0 if second_epsilon is None else int((~np.isnan(second_epsilon)).sum())
    if second_epsilon is None or not again:
        return ()
    nearer = np.flatnonzero(nearer_again(epsilon, second_epsilon))
    scale, unit = (255, "/255") if norm == "linf" else (1, "")
    worst = nearer[np.argsort(second_epsilon[nearer] / epsilon[nearer], kind="stable")][:3]
    before, after = ([f"{scale * value:.3g}{unit}" for value in column[worst]] for column in (epsilon, second_epsilon))
    which = ", ".join(
        f"{sample_id}: {new} instead of {old}"
        for sample_id, new, old in zip(sample_ids[worst], after, before, strict=True)
    )
    more = ", …" if len(nearer) > len(worst) else ""
    told = f"{len(nearer)} nearer ({which}{more})" if len(nearer) else "none nearer, so the bounds are loose"
    lay = (
        "sample lay far above its lower bound and was"
        if again == 1
        else "samples lay far above their lower bounds and were"
    )
    return (f"{again} {lay} searched again: {told}",)


def bound_summary(epsilon: NDArray[np.float32], epsilon_lower: NDArray[np.float64] | None) -> dict[str, Any]:
    """Return what the lower bounds of a network say on the whole: nothing where there are none.

    ``proved``, on how many samples something was proved; medians over the samples with an adversarial of the radius
    proved and of its ratio to epsilon, None where there are none.

    >>> bound_summary(np.array([0.0, 0.25, 0.5], np.float32), np.array([0.0, 0.125, 0.375]))
    {'proved': 2, 'median_lower': 0.25, 'median_ratio': 0.625}
    """
    if epsilon_lower is None:
        return {}
    found = epsilon > 0
    lower, ratio = epsilon_lower[found], epsilon_lower[found] / epsilon[found]
    median_lower, median_ratio = (float(np.median(column)) if len(column) else None for column in (lower, ratio))
    return {"proved": int((epsilon_lower > 0).sum()), "median_lower": median_lower, "median_ratio": median_ratio}
