"""Which samples are robust at a budget: the result of `thinice.evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.attacks.fixed_budget import budget_text
from thinice.errors import InputError
from thinice.printable import LONGEST_MESSAGE, shown
from thinice.results.finding import Finding, warning_texts
from thinice.stats import SurvivalCurve, survival_curve, wilson
from thinice.types import Interval, Norm

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["CLEAN", "Robustness"]

CLEAN = "clean"
"""What broke a sample that is misclassified without any attack."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Robustness:
    """Which samples are robust at a budget; columns have one entry a sample, in the order of the data.

    Attributes
    ----------
    network, sparsity
        Name of the network, and the fraction of its prunable weights that are zero.
    data, split : str
        Where the samples came from; `classes` names their labels.
    norm, budget
        The ball around each input, on the [0, 1] scale.
    attack, settings
        Name of the attack or ensemble, and everything that changes its verdicts.
    sample_ids, labels : ndarray
        (N,) index in the untouched data set, and true class.
    robust : ndarray
        (N,) bool: right, and no adversarial within the budget is known. With `skip_known` also none of another
        attack in the store.
    broken_by : ndarray
        (N,) str: the attack that broke the sample, ``"clean"`` where none was needed, empty where it is robust.
    epsilon : ndarray
        (N,) length of the adversarial that broke it, at most the budget; 0 where clean, NaN where it is robust. Of an
        attack that minimises the norm: the epsilon of every sample.
    known_broken : ndarray
        (N,) bool: broken by other measurements in the store alone.
    robust_to_this_attack : ndarray or None
        (N,) bool: robust to this attack alone; None where samples known to be broken were spared.
    evaluations : ndarray
        (N,) forward-backward passes spent.
    seconds : float
        What this call took; little where the store had the verdicts.
    measurement_id : int
        Its row in the store's table ``measurements``.
    store : Path or None
        The file that holds all of this; None where it was not kept.
    findings : tuple of Finding or None
        What the checks of network, attack and store saw, raised or not; None where none ran. `warnings` are those that
        were raised, in words.

    """

    network: str
    sparsity: float
    data: str
    split: str
    classes: tuple[str, ...]
    norm: Norm
    budget: float
    attack: str
    settings: Mapping[str, str | float | bool | None]
    sample_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    robust: NDArray[np.bool_]
    broken_by: NDArray[np.str_]
    epsilon: NDArray[np.float32]
    known_broken: NDArray[np.bool_]
    robust_to_this_attack: NDArray[np.bool_] | None
    evaluations: NDArray[np.float32]
    seconds: float
    measurement_id: int
    store: Path | None
    findings: tuple[Finding, ...] | None = None
    reported: float | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        text = f"<Robustness of {self.network} on {len(self)} samples of {self.data}: {self.answer}>"
        return shown(text, LONGEST_MESSAGE)

    @property
    def clean_accuracy(self) -> float:
        """Share of the samples that are right without any perturbation."""
        return float((self.broken_by != CLEAN).mean())

    @property
    def robust_accuracy(self) -> float:
        """Share of the samples that are robust: an upper bound on the truth."""
        return float(self.robust.mean())

    @property
    def interval(self) -> Interval:
        """Wilson's interval of the robust accuracy at 95 %: what so many samples say of the whole population."""
        return wilson(int(self.robust.sum()), len(self))

    @property
    def robust_accuracy_to_this_attack(self) -> float | None:
        """The same by this attack alone; None where samples known to be broken were spared."""
        return None if self.robust_to_this_attack is None else float(self.robust_to_this_attack.mean())

    @property
    def counts(self) -> dict[str, int]:
        """How many samples each attack broke, in the order of the ensemble: ``{"clean": …, "apgd-ce": …, …}``."""
        order = [CLEAN, *str(self.settings.get("attacks", self.attack)).split()]
        others = sorted(set(self.broken_by.tolist()) - {*order, ""})
        return {name: int((self.broken_by == name).sum()) for name in [*order, *others]}

    @property
    def broken_ids(self) -> list[int]:
        """Ids of the samples that this attack broke itself, by an adversarial: not of `known_broken` ones.

        ``thinice.open_store(path).adversarials(result.measurement_id, result.broken_ids)`` reads those adversarials.
        """
        broken = ~self.robust & (self.broken_by != CLEAN) & ~self.known_broken
        return [int(sample_id) for sample_id in self.sample_ids[broken]]

    @property
    def answer(self) -> str:
        """The result in a sentence."""
        low, high = self.interval.low, self.interval.high
        return (
            f"{self.clean_accuracy:.1%} are right, {self.robust_accuracy:.1%} stand against {self.attack} at "
            f"{self.norm} {budget_text(self.budget, self.norm)} (95 % interval {low:.1%} to {high:.1%})"
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the verdicts may be wrong: a sentence for each finding that was raised, the worst first."""
        return warning_texts(self.findings or ())

    def curve(self, budgets: Sequence[float] | None = None, *, confidence: float = 0.95) -> SurvivalCurve:
        """Return the robust accuracy at any budgets, or the whole security curve, with Wilson bounds; no attack runs.

        Parameters
        ----------
        budgets : sequence of float, optional
            Ascending; without them every budget at which the accuracy changes.
        confidence : float
            Level of the bounds, point by point.

        Raises
        ------
        InputError
            Where the attack worked at one budget: only minimum norms answer for the others.

        """
        if "budget" in self.settings:
            raise InputError(f"{self.attack} answers for its own budget alone: evaluate with fmn for the whole curve")
        points = None if budgets is None else np.asarray(budgets, dtype=np.float32)
        return survival_curve(self.epsilon, budgets=points, confidence=confidence)

    def frame(self) -> pd.DataFrame:
        """Return one row a sample: id, label, verdict, the attack that broke it, length of that adversarial, passes."""
        import pandas as pd  # noqa: PLC0415 (a second of import that not every caller needs)

        return pd.DataFrame(
            {
                "sample_id": self.sample_ids,
                "label": [self.classes[label] for label in self.labels],
                "robust": self.robust,
                "broken_by": [name or None for name in self.broken_by.tolist()],
                "epsilon": self.epsilon,
                "known_broken": self.known_broken,
                "evaluations": self.evaluations,
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the result in one flat row of plain numbers and text, for JSON, CSV and tables."""
        row: dict[str, Any] = {
            "network": self.network,
            "sparsity": self.sparsity,
            "data": self.data,
            "split": self.split,
            "samples": len(self),
            "norm": self.norm,
            "budget": self.budget,
            "attack": self.attack,
            "clean_accuracy": self.clean_accuracy,
            "robust_accuracy": self.robust_accuracy,
            "low": self.interval.low,
            "high": self.interval.high,
        }
        if self.robust_to_this_attack is not None and self.known_broken.any():
            row["robust_accuracy_to_this_attack"] = self.robust_accuracy_to_this_attack
        return row | {
            "broken_by": ", ".join(f"{name} {count}" for name, count in self.counts.items()),
            "known_broken": int(self.known_broken.sum()),
            "evaluations": float(self.evaluations.mean()),
            "seconds": round(self.seconds, 1),
        }

    def _repr_html_(self) -> str:
        import html  # noqa: PLC0415 (notebooks only)

        return f"<p>{html.escape(repr(self)[1:-1])}</p>{self.frame().to_html(max_rows=10, index=False)}"
