"""Sweet spots: pruned networks that are more robust than the dense one under every attack of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, t

from thinice.studies.per_sample import Network, SampleResults
from thinice.studies.results import Measure
from thinice.types import Interval

if TYPE_CHECKING:
    from thinice.studies.definition import Study

__all__ = ["Difference", "SweetSpot", "holm", "paired_difference", "sweet_spots"]

CONFIDENCE = 0.95
LEVEL = 0.05
"""Chance of even one false sweet spot in a study, at most."""


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much an accuracy of pruned networks lies above that of the dense ones, as a share.

    Attributes
    ----------
    mean : float
        Over samples and seeds.
    interval : Interval
        Of the mean, for other samples and other seeds.
    p_value : float
        One-sided: pruned networks are not better. The larger one of two tests.

    """

    mean: float
    interval: Interval
    p_value: float


@dataclass(frozen=True, slots=True)
class SweetSpot:
    """A method at a rate, compared with the dense networks under every attack.

    Attributes
    ----------
    setup, method, rate
        Which networks.
    seeds : int
        Pairs of networks.
    measure : Measure
        The attack and budget with the smallest gain: it decides.
    difference : Difference
        Under it.
    clean : float
        Difference of clean accuracies.
    p_value : float
        The largest one of all attacks and budgets: that of "not better under some attack".
    adjusted : float
        By Holm, over all methods and rates of the study.

    """

    setup: str
    method: str
    rate: float
    seeds: int
    measure: Measure
    difference: Difference
    clean: float
    p_value: float
    adjusted: float

    @property
    def better(self) -> bool:
        """Whether it is better than dense under every attack, on these samples."""
        return self.difference.mean > 0

    @property
    def certain(self) -> bool:
        """Whether that is beyond chance."""
        return self.adjusted <= LEVEL

    def to_dict(self) -> dict[str, Any]:
        """Return one flat row."""
        return {
            "setup": self.setup,
            "method": self.method,
            "rate": self.rate,
            "seeds": self.seeds,
            "smallest_gain_under": self.measure.label,
            "smallest_gain": self.difference.mean,
            "low": self.difference.interval.low,
            "high": self.difference.interval.high,
            "clean_gain": self.clean,
            "better_under_all": self.better,
            "p_value": self.p_value,
            "holm": self.adjusted,
        }


def sweet_spots(study: Study, setups: Sequence[SampleResults]) -> tuple[SweetSpot, ...]:
    """Return every method at every rate, compared with dense under every attack and budget; `better` ones are sweet.

    A spot counts as sweet where all of its attacks say so: the largest p-value decides (an intersection-union test,
    which needs no correction for the number of attacks). Holm's correction is for the number of methods and rates.
    Only networks with a result for every attack and seed that has a dense network take part.

    Parameters
    ----------
    study : Study
        What was asked for.
    setups : sequence of SampleResults
        As of `samples_of`.

    """
    spots = []
    for samples in setups:
        measures = sorted({measure for _, measure in samples.robust}, key=lambda measure: measure.label)
        for method in study.methods:
            for rate in study.rates[1:]:
                spot = _spot(samples, method.name, rate, measures)
                if spot is not None:
                    spots.append(spot)
    adjusted = holm([spot.p_value for spot in spots])
    return tuple(replace(spot, adjusted=value) for spot, value in zip(spots, adjusted, strict=True))


def _spot(samples: SampleResults, method: str, rate: float, measures: Sequence[Measure]) -> SweetSpot | None:
    pairs = [(Network(seed), Network(seed, method, rate)) for seed in samples.seeds]
    networks = [network for pair in pairs for network in pair]
    if not measures or not pairs or any(network not in samples.correct for network in networks):
        return None
    if any((network, measure) not in samples.robust for network in networks for measure in measures):
        return None
    differences = {
        measure: paired_difference(
            np.stack([samples.robust[dense, measure] for dense, _ in pairs], axis=1),
            np.stack([samples.robust[pruned, measure] for _, pruned in pairs], axis=1),
        )
        for measure in measures
    }
    least = min(measures, key=lambda measure: differences[measure].mean)
    clean = [samples.correct[pruned].mean() - samples.correct[dense].mean() for dense, pruned in pairs]
    largest = max(difference.p_value for difference in differences.values())
    return SweetSpot(
        samples.setup, method, rate, len(pairs), least, differences[least], float(np.mean(clean)), largest, largest
    )


def paired_difference(dense: npt.ArrayLike, pruned: npt.ArrayLike) -> Difference:
    """Return by how much pruned networks are right more often than dense ones, paired by sample and seed.

    The interval is Student's, of the mean of a crossed layout in which samples and seeds are both drawn at random: its
    variance is that between samples and that between seeds, its degrees of freedom are Satterthwaite's. With one seed
    it is that of the paired t test, and says nothing of other seeds. The p-value is the larger one of this t test's and
    of the exact sign test over samples, which holds for few of them.

    Parameters
    ----------
    dense, pruned
        (N, S) bool: whether a sample is right under the network of a seed.

    References
    ----------
    F. E. Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin 2, 1946.

    Examples
    --------
    >>> dense, pruned = np.zeros((20, 1)), np.r_[np.ones((8, 1)), np.zeros((12, 1))]
    >>> difference = paired_difference(dense, pruned)
    >>> difference.mean, round(difference.interval.low, 3), round(difference.p_value, 4)
    (0.4, 0.165, 0.0039)
    """
    each = np.asarray(pruned, np.float64) - np.asarray(dense, np.float64)
    mean = float(each.mean())
    variance, freedom = _variance_of_mean(each)
    gained, lost = int((each.mean(1) > 0).sum()), int((each.mean(1) < 0).sum())
    p_value = float(binom.sf(gained - 1, gained + lost, 0.5))
    half = 0.0
    if variance > 0:
        half = float(t.ppf(0.5 + CONFIDENCE / 2, freedom)) * variance**0.5
        p_value = max(p_value, float(t.sf(mean / variance**0.5, freedom)))
    return Difference(mean, Interval(max(mean - half, -1.0), min(mean + half, 1.0), CONFIDENCE), p_value)


def _variance_of_mean(each: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the variance of the mean of values (N, S), all drawn at random, and its degrees of freedom."""
    rows, columns = each.shape
    if rows < 2:
        return 0.0, 1.0
    between_rows = columns * float(each.mean(1).var(ddof=1))
    if columns == 1:
        return between_rows / rows, rows - 1
    between_columns = rows * float(each.mean(0).var(ddof=1))
    rest = each - each.mean(1, keepdims=True) - each.mean(0, keepdims=True) + each.mean()
    within = float((rest**2).sum()) / ((rows - 1) * (columns - 1))
    n = rows * columns
    if between_columns <= within:  # seeds differ by no more than chance makes them
        return between_rows / n, rows - 1
    total = between_rows + between_columns - within
    parts = between_rows**2 / (rows - 1) + between_columns**2 / (columns - 1) + within**2 / ((rows - 1) * (columns - 1))
    return total / n, total**2 / parts


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values: a chance of at most alpha of even one false finding among those up to alpha.

    References
    ----------
    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, position in enumerate(order.tolist()):
        largest = max(largest, min(1.0, p_values[position] * (len(p_values) - rank)))
        adjusted[position] = largest
    return adjusted
