"""`samples_of` returns what the networks of a study do with each sample, as the store has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from thinice.store import query
from thinice.studies.results import DENSE, Measure

if TYPE_CHECKING:
    import pandas as pd

    from thinice.store import Store
    from thinice.studies.definition import Setup, Study
    from thinice.types import Norm

__all__ = ["Network", "SampleResults", "samples_of"]

Flags = npt.NDArray[np.bool_]


class Network(NamedTuple):
    """A network of a study; the method of the dense one is ``"dense"``, its rate 1."""

    seed: int
    method: str = DENSE
    rate: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class SampleResults:
    """What the networks of one setup do with each of its samples; columns have one entry a sample.

    Attributes
    ----------
    setup : str
        Which.
    sample_ids, labels : ndarray
        (N,) index in the untouched data set, and true class.
    correct : mapping of Network to ndarray
        (N,) bool: whether it has the clean sample right.
    robust : mapping of (Network, Measure) to ndarray
        (N,) bool: whether the sample is right, and the attack does not break it within the budget.
    epsilon : mapping of (Network, (attack, norm)) to ndarray
        (N,) distance to the network's boundary; NaN where not found, 0 where misclassified. Of each network in the
        order of the study's file.

    """

    setup: str
    sample_ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    correct: Mapping[Network, Flags]
    robust: Mapping[tuple[Network, Measure], Flags]
    epsilon: Mapping[tuple[Network, tuple[str, Norm]], npt.NDArray[np.float64]]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds whose dense network has a result."""
        return tuple(sorted(network.seed for network in self.correct if network.method == DENSE))


def samples_of(study: Study, setup: Setup, store: Store) -> SampleResults:
    """Return what a store holds of one setup of a study, sample by sample."""
    key = {"study": study.name, "setup": setup.name}
    predictions = store.sql(query("study_predictions"), key)
    labels = predictions.drop_duplicates("sample_id").sort_values("sample_id")
    ids = labels["sample_id"].to_numpy(np.int64)
    correct = {network: column for network, _, column in _columns(predictions, "correct", ids)}
    distances = store.sql(query("study_epsilons"), key)
    order = [(choice.attack, choice.norm) for choice in setup.attacks]
    measured = list(_columns(distances, "epsilon", ids, "attack", "norm"))
    epsilon = {
        (network, (str(attack), norm)): column.astype(np.float64)
        for network, (attack, norm), column in sorted(measured, key=lambda row: (row[0], order.index(row[1])))
    }
    decided = store.sql(query("study_verdicts"), key)
    robust = {
        (network, Measure(*measure)): column.astype(np.bool_)
        for network, measure, column in _columns(decided, "robust", ids, "attack", "norm", "budget")
    }
    for (network, (attack, norm)), column in epsilon.items():
        for choice, budget in setup.points:
            if (choice.attack, choice.norm) == (attack, norm):
                # epsilons are float32, and so is the budget that they are compared with, as in `thinice.evaluate`
                robust[network, Measure(attack, norm, budget)] = ~(column <= np.float32(budget))
    return SampleResults(setup.name, ids, labels["label"].to_numpy(np.int64), correct, robust, epsilon)


def _columns(
    frame: pd.DataFrame, value: str, ids: npt.NDArray[np.int64], *of: str
) -> Iterator[tuple[Network, tuple[Any, ...], npt.NDArray[Any]]]:
    """Yield a column of each network, and of each combination of other columns, where it has all samples."""
    place: Any  # pandas takes it for one value
    for place, group in frame.groupby(["seed", "method", "rate", *of], sort=True):
        seed, method, rate, *others = place
        if np.array_equal(group["sample_id"].to_numpy(), ids):
            yield Network(int(seed), str(method), float(rate)), tuple(others), group[value].to_numpy()
