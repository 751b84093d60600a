"""What was measured on one network, sample by sample."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.types import FailureReason, FoundBy, Norm, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AdversarialExample", "Measured", "Predicted", "PrunedDistances", "search_notes"]


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
    labels : ndarray
        (N,) true classes.
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

    """

    network: str
    sparsity: float
    data: str
    split: str
    norm: Norm
    attack: str
    measurement_id: int
    labels: NDArray[np.int64]
    epsilon: NDArray[np.float32]
    outcomes: NDArray[np.int8]
    predictions: NDArray[np.int64]
    clean_predictions: NDArray[np.int64]
    evaluations: NDArray[np.float32]
    converged: NDArray[np.bool_]
    found_by: NDArray[np.int8]
    failure_reasons: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know of the search, see `search_notes`."""
        return search_notes(self.outcomes, self.found_by, self.failure_reasons)

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
        }


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
    """The distances to a pruned network's own boundary, one entry a sample, in the order of the data."""

    epsilon: NDArray[np.float32]
    outcomes: NDArray[np.int8]
    found_by: NDArray[np.int8]


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
