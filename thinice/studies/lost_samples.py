"""What accuracies do not show: which samples each method loses, how near they lay, and whether they are the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom

from thinice.stats import separation
from thinice.studies.per_sample import Network, SampleResults

if TYPE_CHECKING:
    from thinice.studies.definition import Study
    from thinice.types import Norm

__all__ = ["Loss", "LostSample", "Overlap", "losses", "lost_samples", "overlap", "overlaps"]

Flags = npt.NDArray[np.bool_]
TENTHS = 10
"""Groups of samples at about the same distance."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What a pruned network loses of the samples that its dense network has right, and how near these lay.

    Attributes
    ----------
    setup, seed, method, rate
        Which network.
    attack, norm
        What measured the distances to the dense network's boundary.
    kept, lost, gained : int
        Samples.
    auc, auc_low, auc_high, log10_p, median_kept, median_lost : float or None
        As of `thinice.stats.separation`; None where nothing is lost, or nothing kept.

    """

    setup: str
    seed: int
    method: str
    rate: float
    attack: str
    norm: Norm
    kept: int
    lost: int
    gained: int
    auc: float | None
    auc_low: float | None
    auc_high: float | None
    log10_p: float | None
    median_kept: float | None
    median_lost: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return one flat row."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many samples two methods both lose at a rate, pruning the same dense networks, and how many by chance.

    Attributes
    ----------
    setup, rate, first, second
        Which methods.
    first_lost, second_lost, common : int
        Samples, summed over the seeds.
    jaccard : float or None
        Share of those that either loses which both lose; None where neither loses any.
    expected : float
        Common ones, if each lost as many at random.
    log10_p : float
        Of the chance of at least as many common ones, exact: a sum of hypergeometric draws, one a seed.
    expected_near, log10_p_near : float or None
        The same, if each lost as many at random among samples that lie about equally near, in tenths; None without
        distances.

    """

    setup: str
    rate: float
    first: str
    second: str
    first_lost: int
    second_lost: int
    common: int
    jaccard: float | None
    expected: float
    log10_p: float
    expected_near: float | None = None
    log10_p_near: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return one flat row."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LostSample:
    """A sample that pruning loses.

    Attributes
    ----------
    setup, rate, sample_id, label
        Which.
    networks : int
        Networks at this rate that lose it, of all methods and seeds; `of` is how many there are whose dense network
        has it right.
    methods : tuple of str
        Methods that lose it in any seed.
    epsilon, measured_by : float or None, str or None
        Its distance to the dense boundary, the median over seeds, and what measured it: the first attack of the study
        that minimises the norm, ``"tmn l2"``. None without such an attack, and where it was not found.

    """

    setup: str
    rate: float
    sample_id: int
    label: int
    networks: int
    of: int
    methods: tuple[str, ...]
    epsilon: float | None
    measured_by: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return one flat row."""
        return asdict(self) | {"methods": ", ".join(self.methods)}


def losses(study: Study, samples: SampleResults) -> tuple[Loss, ...]:
    """Return what every pruned network of a setup loses, once for each attack that measured distances."""
    rows = []
    for (dense, (attack, norm)), epsilon in samples.epsilon.items():
        if dense.rate != 1 or dense not in samples.correct:
            continue
        before = samples.correct[dense]
        for method in study.methods:
            for rate in study.rates[1:]:
                after = samples.correct.get(Network(dense.seed, method.name, rate))
                if after is None:
                    continue
                result = separation(epsilon[before & after], epsilon[before & ~after])
                interval = result.interval(0.95) if result.auc is not None else None
                rows.append(
                    Loss(
                        samples.setup,
                        dense.seed,
                        method.name,
                        rate,
                        attack,
                        norm,
                        kept=result.n_kept,
                        lost=result.n_lost,
                        gained=int((~before & after).sum()),
                        auc=result.auc,
                        auc_low=None if interval is None else interval.low,
                        auc_high=None if interval is None else interval.high,
                        log10_p=result.log10_p,
                        median_kept=result.median_kept,
                        median_lost=result.median_lost,
                    )
                )
    return tuple(rows)


def overlaps(study: Study, samples: SampleResults) -> tuple[Overlap, ...]:
    """Return for every two methods of a setup, rate by rate, how many samples both lose."""
    rows = []
    strata = {seed: _tenths(samples, seed) for seed in samples.seeds}
    for rate in study.rates[1:]:
        lost = {method.name: _lost(samples, method.name, rate) for method in study.methods}
        for first, second in combinations(lost, 2):
            seeds = [seed for seed in samples.seeds if seed in lost[first] and seed in lost[second]]
            if not seeds:
                continue
            right = [samples.correct[Network(seed)] for seed in seeds]
            a, b = ([lost[name][seed] for seed in seeds] for name in (first, second))
            common, expected, log10_p = overlap(right, a, b)
            either = sum(int((one | other).sum()) for one, other in zip(a, b, strict=True))
            row = Overlap(
                samples.setup,
                rate,
                first,
                second,
                first_lost=sum(int(each.sum()) for each in a),
                second_lost=sum(int(each.sum()) for each in b),
                common=common,
                jaccard=common / either if either else None,
                expected=expected,
                log10_p=log10_p,
            )
            groups = [strata[seed] for seed in seeds]
            if all(group is not None for group in groups):
                row = _near(row, [group for group in groups if group is not None], a, b)
            rows.append(row)
    return tuple(rows)


def _near(row: Overlap, groups: Sequence[Sequence[Flags]], a: Sequence[Flags], b: Sequence[Flags]) -> Overlap:
    """Return an overlap with what is expected among samples that lie about equally near."""
    flat = [(group, one, other) for each, one, other in zip(groups, a, b, strict=True) for group in each]
    _, expected, log10_p = overlap(
        [group for group, _, _ in flat],
        [one & group for group, one, _ in flat],
        [other & group for group, _, other in flat],
    )
    return replace(row, expected_near=expected, log10_p_near=log10_p)


def overlap(strata: Sequence[Flags], first: Sequence[Flags], second: Sequence[Flags]) -> tuple[int, float, float]:
    """Return how many samples two sets share, how many they would by chance, and log10 of the chance of as many.

    Chance draws two sets of these sizes from each stratum, one independently of the other; below 1e-300 it is 0.

    Parameters
    ----------
    strata, first, second : sequence of ndarray
        (N,) bool each, one a stratum: which samples belong to it, and which of these to either set.

    Examples
    --------
    >>> everything, four = np.ones(20, bool), np.arange(20) < 4
    >>> common, expected, log10_p = overlap([everything], [four], [four])
    >>> common, expected, round(log10_p, 2)
    (4, 0.8, -3.69)
    """
    common, expected, chances = 0, 0.0, np.ones(1)
    for stratum, one, other in zip(strata, first, second, strict=True):
        n, a, b = int(stratum.sum()), int((one & stratum).sum()), int((other & stratum).sum())
        common += int((one & other & stratum).sum())
        expected += a * b / max(n, 1)
        chances = np.convolve(chances, hypergeom.pmf(np.arange(min(a, b) + 1), n, a, b))
    p_value = float(chances[common:].sum())
    return common, expected, math.log10(min(p_value, 1.0)) if p_value > 0 else -math.inf


def lost_samples(study: Study, samples: SampleResults) -> tuple[LostSample, ...]:
    """Return every sample of a setup that some network loses, rate by rate: those that most networks lose first."""
    rows = []
    epsilon = _median_epsilon(samples)
    measured_by = next((" ".join(attack) for _, attack in samples.epsilon), None)
    for rate in study.rates[1:]:
        lost = {method.name: _lost(samples, method.name, rate) for method in study.methods}
        counts = np.zeros(len(samples.sample_ids), int)
        right = np.zeros(len(samples.sample_ids), int)
        for by_seed in lost.values():
            for seed, flags in by_seed.items():
                counts += flags
                right += samples.correct[Network(seed)]
        for k in np.lexsort((samples.sample_ids, -counts)).tolist():
            if counts[k]:
                distance = None if epsilon is None or np.isnan(epsilon[k]) else float(epsilon[k])
                methods = tuple(name for name, by_seed in lost.items() if any(each[k] for each in by_seed.values()))
                place = int(samples.sample_ids[k]), int(samples.labels[k]), int(counts[k]), int(right[k])
                rows.append(LostSample(samples.setup, rate, *place, methods, distance, measured_by))
    return tuple(rows)


def _lost(samples: SampleResults, method: str, rate: float) -> dict[int, Flags]:
    """Return which samples a method loses, by seed."""
    networks = {seed: Network(seed, method, rate) for seed in samples.seeds}
    return {
        seed: samples.correct[Network(seed)] & ~samples.correct[network]
        for seed, network in networks.items()
        if network in samples.correct
    }


def _dense_epsilon(samples: SampleResults, seed: int) -> npt.NDArray[np.float64] | None:
    """Return the distances to the dense network of a seed, by the first attack that measured any."""
    return next((epsilon for (network, _), epsilon in samples.epsilon.items() if network == Network(seed)), None)


def _tenths(samples: SampleResults, seed: int) -> list[Flags] | None:
    """Return the samples that the dense network has right in ten groups, from the nearest to the farthest."""
    epsilon = _dense_epsilon(samples, seed)
    if epsilon is None:
        return None
    right = samples.correct[Network(seed)]
    order = np.argsort(np.where(np.isnan(epsilon), np.inf, epsilon), kind="stable")
    groups = []
    for part in np.array_split(order[right[order]], TENTHS):
        flags = np.zeros(len(epsilon), np.bool_)
        flags[part] = True
        groups.append(flags)
    return groups


def _median_epsilon(samples: SampleResults) -> npt.NDArray[np.float64] | None:
    columns = [column for seed in samples.seeds if (column := _dense_epsilon(samples, seed)) is not None]
    if not columns:
        return None
    median = np.median(np.where(np.isnan(columns), np.inf, columns), axis=0)
    return np.where(np.isinf(median), np.nan, median)
