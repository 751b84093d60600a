"""`study_results`: what the store says of a study, as means over seeds and margins to the dense networks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thinice.attacks.fixed_budget import budget_text
from thinice.errors import StoreError
from thinice.files import expanded
from thinice.printable import records
from thinice.stats import seed_spread
from thinice.store import Store, open_store, query
from thinice.types import Norm

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd

    from thinice.studies.definition import Setup, Study

__all__ = ["CLEAN", "DENSE", "Measure", "Point", "Result", "StudyResults", "measures_of", "study_results"]

DENSE = "dense"
"""What the method of networks before pruning is called."""


@dataclass(frozen=True, slots=True)
class Result:
    """One accuracy of a study over its seeds.

    Attributes
    ----------
    seeds : int
        Networks with a result.
    accuracy, sd : float or None
        Mean and standard deviation over the seeds, as shares; None where there is none, or one seed.
    margin : float or None
        Mean difference to the dense network of the same seed; 0 for the dense network itself.
    published : tuple of (float, str)
        What publications say, each a share and its source.

    """

    seeds: int
    accuracy: float | None
    sd: float | None
    margin: float | None
    published: tuple[tuple[float, str], ...] = ()


class Measure(NamedTuple):
    """Which accuracy: the clean one, or that under an attack at a budget."""

    attack: str | None = None
    norm: Norm | None = None
    budget: float | None = None

    @property
    def label(self) -> str:
        """What tables call it: ``clean``, or ``pgd linf 8/255``."""
        if self.norm is None or self.budget is None:
            return "clean"
        return f"{self.attack} {self.norm} {budget_text(self.budget, self.norm)}"


CLEAN = Measure()


class Point(NamedTuple):
    """A place in the tables of a study: a setup, a method, a rate, and which accuracy."""

    setup: str
    method: str
    rate: float
    measure: Measure = CLEAN


@dataclass(frozen=True, slots=True)
class StudyResults:
    """The accuracies of a study; a method has its dense network at rate 1.

    Attributes
    ----------
    study : Study
        What was asked for.
    points : mapping of Point to Result
        All points of the grid, clean accuracies included; those without a network yet have no accuracy.
    errors : tuple of str
        Why networks have no result, as the store knows it.
    store : Store
        Where it was read.

    """

    study: Study
    points: Mapping[Point, Result]
    errors: tuple[str, ...]
    store: Store

    @property
    def finished(self) -> int:
        """Cells with a result of every seed."""
        seeds = len(self.study.seeds)
        return sum(result.seeds == seeds for point, result in self.points.items() if point.measure != CLEAN)

    def rows(self) -> list[dict[str, object]]:
        """Return one flat row a point, for JSON, CSV and frames."""
        return [
            {
                "setup": point.setup,
                "method": point.method,
                "rate": point.rate,
                "attack": point.measure.attack or "clean",
                "norm": point.measure.norm,
                "budget": point.measure.budget,
                "seeds": result.seeds,
                "accuracy": result.accuracy,
                "sd": result.sd,
                "margin": result.margin,
                "relative": self._relative(point),
                "published": result.published[0][0] if result.published else None,
                "source": "; ".join(source for _, source in result.published) or None,
            }
            for point, result in self.points.items()
        ]

    def _relative(self, point: Point) -> float | None:
        """Return an accuracy over the clean one: what attacks leave of what a network has right at all."""
        accuracy, clean = self.points[point].accuracy, self.points[point._replace(measure=CLEAN)].accuracy
        return None if accuracy is None or not clean else accuracy / clean

    def frame(self) -> pd.DataFrame:
        """Return one row a point."""
        import pandas as pd  # noqa: PLC0415 (a second of import that not every caller needs)

        return pd.DataFrame(self.rows())


def study_results(study: Study, store: str | PathLike[str] | Store) -> StudyResults:
    """Return what a store holds of a study, finished or not; nothing is trained or measured.

    Raises
    ------
    StoreError
        Where there is no store.

    """
    if not isinstance(store, Store) and not expanded(store, "store").exists():
        raise StoreError(
            f"there is no store at {store}, so nothing of {study.name!r} is measured: run the study first (thinice "
            "study without --results-only, in Python run_study)"
        )
    opened = store if isinstance(store, Store) else open_store(store)
    rows = records(opened.sql(query("study_points"), {"study": study.name}))
    accuracies: dict[Point, dict[int, float]] = defaultdict(dict)
    for row in rows:
        if row["n"] is not None:
            place = row["setup"], row["method"], row["rate"]
            robust = Point(*place, Measure(row["attack"], row["norm"], row["budget"]))
            accuracies[robust][row["seed"]] = row["robust_accuracy"]
            accuracies[Point(*place)][row["seed"]] = row["clean_accuracy"]
    points = {point: _result(point, setup, accuracies) for setup in study.setups for point in _grid(study, setup)}
    errors = dict.fromkeys(
        f"{row['setup']}, seed {row['seed']}, {row['method']}, rate {row['rate']:g}: {row['error']}"
        for row in rows
        if row["error"] is not None
    )
    return StudyResults(study, points, tuple(errors), opened)


def measures_of(setup: Setup) -> tuple[Measure, ...]:
    """Return the accuracies that a setup asks for: the clean one, then each attack at each budget."""
    return (CLEAN, *(Measure(choice.attack, choice.norm, budget) for choice, budget in setup.points))


def _grid(study: Study, setup: Setup) -> list[Point]:
    """Return the places of a setup in the tables."""
    return [
        Point(setup.name, method.name, rate, measure)
        for method in study.methods
        for rate in study.rates
        for measure in measures_of(setup)
    ]


def _result(point: Point, setup: Setup, accuracies: Mapping[Point, Mapping[int, float]]) -> Result:
    """Return the mean over seeds; the dense network, which the store has once, is that of every method."""
    dense = accuracies.get(Point(point.setup, DENSE, 1.0, point.measure), {})
    own = dense if point.rate == 1 else accuracies.get(point, {})
    spread = seed_spread(list(own.values()))
    margins = [accuracy - dense[seed] for seed, accuracy in own.items() if seed in dense]
    published = tuple(
        (said.accuracy[point.rate], said.source)
        for said in setup.published
        if (said.method, said.norm, said.budget) == (point.method, point.measure.norm, point.measure.budget)
        and point.rate in said.accuracy
    )
    return Result(len(own), spread.mean, spread.sd, float(np.mean(margins)) if margins else None, published)
