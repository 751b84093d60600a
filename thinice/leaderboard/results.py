"""What the benchmark says of networks: one row a network, and where each stands among the published ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.leaderboard.model_keys import Category
from thinice.leaderboard.published import PUBLISHED_SAMPLES, SOURCE, published_accuracies
from thinice.leaderboard.ranking import RankedRow, RobustCount, rank
from thinice.leaderboard.taxonomy import MethodEntry
from thinice.printable import LONGEST_MESSAGE, shown
from thinice.results import Comparison, Robustness
from thinice.results.robustness import CLEAN
from thinice.stats import wilson
from thinice.stats.area import CurveArea
from thinice.types import Interval, Outcome

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["MEASURED", "Benchmark", "BenchmarkRow", "DenseRow", "Protocol", "own_epsilon"]

MEASURED = "measured"
"""The source of rows that were measured here."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What every network of the benchmark goes through; rows of different protocols are not comparable.

    Attributes
    ----------
    budget : float
        Radius in linf of the attack at a budget, on the [0, 1] scale.
    budget_attack : str
        That attack, as of `thinice.evaluate`.
    distance_attack, effort : str
        What measures minimum norms.
    curve_end : float
        The largest budget of the security curve, as of the published ones.
    tune_trials, tune_steps, steps : int
        HO-FMN as published: 32 settings are tried for 100 steps each on other samples, the best runs for 200.

    """

    budget: float = 8 / 255
    budget_attack: str = "autoattack"
    distance_attack: str = "tmn"
    effort: str = "standard"
    curve_end: float = 0.15
    tune_trials: int = 32
    tune_steps: int = 100
    steps: int = 200

    @property
    def comparable(self) -> bool:
        """Whether it attacks as the published rows were: AutoAttack at 8/255, which is theirs up to a percent."""
        return self.budget_attack == "autoattack" and math.isclose(self.budget, 8 / 255)

    def to_dict(self) -> dict[str, str | float]:
        """Return it in plain numbers and text."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True, eq=False)
class DenseRow:
    """The dense network: its accuracies on the samples, and the area under its security curve."""

    network: str
    autoattack: Robustness
    area: CurveArea

    def to_dict(self) -> dict[str, Any]:
        """Return the row in plain numbers and text."""
        return {"network": self.network, **_accuracies(self.autoattack), **_area(self.area)}


@dataclass(frozen=True, slots=True, eq=False)
class BenchmarkRow:
    """A pruned network after the protocol.

    Attributes
    ----------
    network : str
        Its name.
    method : MethodEntry or None
        How it was pruned, where that was said.
    category : Category or None
        In which of the leaderboards it is ranked; None where they have none like it.
    structure : str
        ``"US"`` or ``"S"``, as measured.
    removed_share : float
        Share of the dense network's prunable weights that are zero or gone.
    layers : mapping of str to float
        Sparsity of each layer, by the name of its weight.
    comparison, robust_comparison : Comparison
        What pruning did to each sample: on clean samples, and by which samples are robust at the budget.
    autoattack : Robustness
        At the budget: the attack alone, and beside it what all attacks together leave.
    ho_fmn : Robustness
        By HO-FMN, tuned on other samples.
    area : CurveArea
        Under the security curve of the minimum norms.
    notes : tuple of str
        What people should know of it.

    """

    network: str
    method: MethodEntry | None
    category: Category | None
    structure: str
    removed_share: float
    layers: Mapping[str, float]
    comparison: Comparison
    robust_comparison: Comparison
    autoattack: Robustness
    ho_fmn: Robustness
    area: CurveArea
    notes: tuple[str, ...] = ()

    @property
    def model_key(self) -> str | None:
        """The key in its category; the network's name stands for a method that nobody named."""
        if self.category is None:
            return None
        return "_".join((self.method.key if self.method else self.network, *map(str, self.category)))

    @property
    def epsilon(self) -> NDArray[np.float32]:
        """Distance (N,) to the pruned network's own boundary: 0 where misclassified, NaN where not found."""
        return own_epsilon(self.comparison)

    @property
    def ho_fmn_not_found(self) -> int:
        """Samples of which HO-FMN found no adversarial at any distance; they count as robust."""
        return int(np.isnan(self.ho_fmn.epsilon).sum())

    @property
    def count(self) -> RobustCount:
        """What is ranked: the samples that the attack at the budget alone leaves robust."""
        flags = robust_alone(self.autoattack)
        ids = self.autoattack.sample_ids.tolist()
        return RobustCount(
            self.network, int(flags.sum()), len(flags), MEASURED, dict(zip(ids, flags.tolist(), strict=True))
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the row in plain numbers and text; counts and AUC of both bases."""
        hofmn = wilson(int(self.ho_fmn.robust.sum()), len(self.ho_fmn))
        return {
            "network": self.network,
            "method": self.method.key if self.method else None,
            "category": self.category.label if self.category else None,
            "structure": self.structure,
            "sparsity": self.removed_share,
            **_accuracies(self.autoattack),
            **_area(self.area),
            "ho_fmn_accuracy": self.ho_fmn.robust_accuracy,
            "ho_fmn_low": hofmn.low,
            "ho_fmn_high": hofmn.high,
            "ho_fmn_not_found": self.ho_fmn_not_found,
            **_changes("", self.comparison),
            **_changes("robust_", self.robust_comparison),
        }


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Benchmark:
    """What the benchmark says of pruned networks of one dense network.

    Attributes
    ----------
    protocol : Protocol
        What they went through.
    data, split : str
        Where the samples came from.
    sample_ids : ndarray
        (N,) which samples.
    dense : DenseRow
        The network before pruning.
    rows : tuple of BenchmarkRow
        The pruned ones, in the order that was given.
    findings : tuple of str
        Why numbers may be wrong: what checks of the evaluations say, a sentence each.

    """

    protocol: Protocol
    data: str
    split: str
    sample_ids: NDArray[np.int64]
    dense: DenseRow
    rows: tuple[BenchmarkRow, ...]
    findings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        names = ", ".join(row.network for row in self.rows)
        text = f"<Benchmark of {names} on {len(self.sample_ids)} samples of {self.data}, dense: {self.dense.network}>"
        return shown(text, LONGEST_MESSAGE)

    def frame(self) -> pd.DataFrame:
        """Return one row a pruned network: what `to_dicts` says."""
        import pandas as pd  # noqa: PLC0415 (a second of import that not every caller needs)

        return pd.DataFrame(self.to_dicts())

    def rankings(self) -> Mapping[Category | None, tuple[RankedRow, ...]]:
        """Return the rankings by category: the networks measured here among the published ones of the same.

        Networks without a category (None), and those of a protocol that is not comparable, are ranked among themselves.
        """
        categories = dict.fromkeys(row.category for row in self.rows)
        return {
            category: rank(
                [
                    *(row.count for row in self.rows if row.category == category),
                    *(
                        RobustCount(row.method, round(row.robust * PUBLISHED_SAMPLES), PUBLISHED_SAMPLES, SOURCE)
                        for row in published_accuracies()
                        if row.category == category and self.protocol.comparable
                    ),
                ]
            )
            for category in categories
        }

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one flat row a pruned network, with the ranks that it can have."""
        ranks = {
            ranked.count.name: (ranked, len(rows))
            for rows in self.rankings().values()
            for ranked in rows
            if ranked.source == MEASURED
        }
        return [
            row.to_dict()
            | {
                "best_rank": ranks[row.network][0].best,
                "worst_rank": ranks[row.network][0].worst,
                "ranked": ranks[row.network][1],
                "dense": self.dense.network,
                "data": self.data,
                "split": self.split,
            }
            for row in self.rows
        ]


def own_epsilon(comparison: Comparison) -> NDArray[np.float32]:
    """Return the distances (N,) to the pruned network's own boundary: 0 where misclassified, NaN where not found."""
    distances = comparison.pruned_distances
    assert distances is not None
    return np.where(distances.outcomes == Outcome.NOT_FOUND, np.float32(np.nan), distances.epsilon)


def robust_alone(robustness: Robustness) -> NDArray[np.bool_]:
    """Return which samples (N,) are robust to the attack alone, whatever else is known of them."""
    alone = robustness.robust_to_this_attack
    assert alone is not None
    return alone


def _accuracies(robustness: Robustness) -> dict[str, Any]:
    right, alone = int((robustness.broken_by != CLEAN).sum()), int(robust_alone(robustness).sum())
    n = len(robustness)
    return {
        "samples": n,
        "clean_accuracy": right / n,
        **_bounds("clean", wilson(right, n)),
        "robust_accuracy": alone / n,
        **_bounds("robust", wilson(alone, n)),
        "worst_case_accuracy": robustness.robust_accuracy,
    }


def _area(area: CurveArea) -> dict[str, Any]:
    return {"area": area.area, **_bounds("area", area.interval), "not_found": area.not_found}


def _changes(prefix: str, comparison: Comparison) -> dict[str, Any]:
    counts = {f"{prefix}{transition}": count for transition, count in comparison.counts.items()}
    names = ("auc", "auc_low", "auc_high")
    return counts | {f"{prefix}{name}": getattr(comparison.separation, name) for name in names}


def _bounds(name: str, interval: Interval) -> dict[str, float]:
    return {f"{name}_low": interval.low, f"{name}_high": interval.high}
