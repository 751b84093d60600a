"""What measurements of a network give, one entry a sample of the selection, in its order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thinice.types import Diagnosis, Outcome, Stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AdversarialExample", "Measured", "Predicted", "PrunedDistances", "search_notes"]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The epsilons of one measurement, one entry a sample of the selection, in its order."""

    measurement_id: int
    epsilon: NDArray[np.float32]
    outcomes: NDArray[np.int8]
    predictions: NDArray[np.int64]
    clean_predictions: NDArray[np.int64]
    evaluations: NDArray[np.float32]
    converged: NDArray[np.bool_]
    stages: NDArray[np.int8]
    diagnoses: NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What a network makes of the clean samples, one entry a sample of the selection; NaN where its logits are."""

    predictions: NDArray[np.int64]
    margins: NDArray[np.float32]
    confidences: NDArray[np.float64]
    losses: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PrunedDistances:
    """The distances to a pruned network's own boundary, one entry a sample of the selection, in its order."""

    epsilon: NDArray[np.float32]
    outcomes: NDArray[np.int8]
    stages: NDArray[np.int8]


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


def search_notes(outcomes: NDArray[np.int8], stages: NDArray[np.int8], diagnoses: NDArray[np.int8]) -> tuple[str, ...]:
    """Return what people should know of a search: samples that the fall-back found, and why others were not found.

    >>> import numpy as np
    >>> search_notes(np.array([1, 2, 2], np.int8), np.array([4, 0, 0], np.int8), np.array([1, 1, 4], np.int8))
    ('found by the fall-back, perhaps too far: starts 1', 'not found: zero_gradient 1, non_finite 1')
    """
    lost = (outcomes == Outcome.NOT_FOUND) & (diagnoses != Diagnosis.NONE)
    rescued = Counter(Stage(code).text for code in stages if code > Stage.SEARCH)
    reasons = Counter(Diagnosis(code).text for code in diagnoses[lost])
    said = (("found by the fall-back, perhaps too far", rescued), ("not found", reasons))
    return tuple(
        f"{what}: " + ", ".join(f"{text} {count}" for text, count in counts.items()) for what, counts in said if counts
    )
