"""What one pruning did to each sample: the result of `thinice.compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.attacks import Attack
from thinice.errors import InputError
from thinice.models import Classifier
from thinice.printable import LONGEST_MESSAGE, shown
from thinice.results.comparison_text import answer, between, notebook_html, table
from thinice.results.finding import Finding
from thinice.results.measured import (
    AdversarialExample,
    PrunedDistances,
    bound_notes,
    bound_summary,
    search_notes,
)
from thinice.stats import (
    ClassImpact,
    PairedShift,
    PredictorComparison,
    RiskCurve,
    RiskMethod,
    Separation,
    TransitionCounts,
    compare_predictors,
    compare_prunings,
    paired_equivalence_log10_p,
    paired_shift,
    quantile,
    risk_curve,
)
from thinice.types import CorrectionOutcome, FailureReason, FoundBy, Norm, Outcome, Transition

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["BOTH", "Comparison", "several"]

BOTH = (
    "pruned_median_kept",
    "boundary_shift",
    "paired_shift",
    "paired_low",
    "paired_high",
    "paired_log10_p",
    "paired_equivalence_log10_p",
    "boundary_shift_kept",
    "pruned_median_lost",
    "pruned_not_corrected",
    "pruned_not_found",
    "pruned_from_dense",
)
"""What the distances of both networks add to a row."""
EQUIVALENT_SHIFT = 0.1
"""A boundary that moved by less than this share of the kept samples' median epsilon is taken not to have moved."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Comparison:
    """The transition and the distance to the boundary of each sample; columns are in the order of the data.

    Attributes
    ----------
    dense, pruned : str
        Names of the two checkpoints.
    dense_sparsity, pruned_sparsity : float
        Fraction of prunable weights that are zero.
    data, split : str
        Where the samples came from; `classes` names their labels.
    attack : Attack
        What measured the dense network's epsilons, with all its settings.
    basis : str
        What "correct" means: ``"clean"``, or ``"robust at linf 8/255 by fmn"``.
    budget : float or None
        The radius of a robust basis, on the [0, 1] scale.
    sample_ids, labels : ndarray
        (N,) index in the untouched data set, and true class.
    dense_predictions, pruned_predictions : ndarray
        (N,) classes of the clean input; -1 where the logits are NaN.
    margins, confidences, losses : ndarray
        (N,) how sure the dense network is of the clean input: logit of the true class minus the best other one,
        largest probability, cross-entropy in nats; NaN where its logits are.
    epsilon : ndarray
        (N,) distance found to the dense network's boundary, on the [0, 1] scale; NaN where not found.
    outcomes, found_by, failure_reasons : ndarray
        (N,) codes of `Outcome`, of `FoundBy` and of `FailureReason`.
    converged : ndarray
        (N,) bool, whether the search converged; False where the attack does not say.
    transitions : ndarray
        (N,) ``S1,1``, ``S1,0``, ``S0,1`` or ``S0,0``.
    changes : TransitionCounts
        How many went which way, accuracies, McNemar's test.
    separation : Separation
        AUC with its interval, Mann-Whitney p-value, medians, shift.
    class_impact : ClassImpact
        What pruning does to the recall, the error rates and the loss of each class, on clean samples.
    closest : tuple of AdversarialExample
        The samples closest to the boundary, lost ones first, with their nearest adversarials, for the gallery.
    store : Path or None
        The file that holds all of this; None where it was not kept.
    networks : tuple of Classifier
        The dense and the pruned network, as they were measured.
    pruned_distances : PrunedDistances or None
        Epsilons, outcomes and `found_by` of the pruned network itself, where they were asked for, how far behind its
        boundary lost samples lie, and lower bounds, where these were asked for.
    dense_broken_by, pruned_broken_by : ndarray or None
        Of a robust basis, (N,) str: the attack that broke the sample, ``"clean"`` where none was needed, empty where it
        is robust.
    dynamics : mapping of str to ndarray, or None
        What the samples did while the dense network was trained, (N,) each: ``forgetting`` (events),
        ``mean_confidence``, ``confidence_variance``; NaN for samples that it was not trained on. None where the store
        has no training of it with any of them.
    gradient_norms : ndarray or None
        (N,) norm of the gradient of each sample's loss in the dense network's weights; NaN where it is not finite, None
        where the store does not have it.
    patterns : tuple of Finding
        What the store shows of the pruned network that wrong studies show, see `thinice.checks.study_patterns`.
    epsilon_lower, second_epsilon : ndarray or None
        (N,) of the dense network, as of `Measured`: radii within which it is proved that there is no adversarial, and
        what a second attack found where epsilon lay far above them. None where they were not asked for.

    """

    dense: str
    pruned: str
    dense_sparsity: float
    pruned_sparsity: float
    data: str
    split: str
    classes: tuple[str, ...]
    attack: Attack
    basis: str
    sample_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    dense_predictions: NDArray[np.int64]
    pruned_predictions: NDArray[np.int64]
    margins: NDArray[np.float32]
    confidences: NDArray[np.float64]
    losses: NDArray[np.float32]
    epsilon: NDArray[np.float32]
    outcomes: NDArray[np.int8]
    found_by: NDArray[np.int8]
    failure_reasons: NDArray[np.int8]
    converged: NDArray[np.bool_]
    transitions: NDArray[np.str_]
    changes: TransitionCounts
    separation: Separation
    class_impact: ClassImpact
    closest: tuple[AdversarialExample, ...]
    store: Path | None
    networks: tuple[Classifier, Classifier]
    pruned_distances: PrunedDistances | None = None
    budget: float | None = None
    dense_broken_by: NDArray[np.str_] | None = None
    pruned_broken_by: NDArray[np.str_] | None = None
    patterns: tuple[Finding, ...] = ()
    dynamics: Mapping[str, NDArray[np.float64]] | None = None
    epsilon_lower: NDArray[np.float64] | None = None
    second_epsilon: NDArray[np.float32] | None = None
    gradient_norms: NDArray[np.float64] | None = None

    def __repr__(self) -> str:
        return shown(f"<Comparison on {len(self.labels)} samples of {self.data}: {self.answer}>", LONGEST_MESSAGE)

    @property
    def norm(self) -> Norm:
        """The norm that epsilon is measured in."""
        return self.attack.norm

    @property
    def counts(self) -> dict[str, int]:
        """How many samples went which way: ``{"S1,1": …, "S1,0": …, "S0,1": …, "S0,0": …}``."""
        return self.changes.counts

    @property
    def not_found(self) -> int:
        """Samples that the dense network has right and that have no epsilon: right-censored."""
        return self.separation.not_found_kept + self.separation.not_found_lost

    @property
    def pruned_epsilon(self) -> NDArray[np.float32] | None:
        """Distance found to the pruned network's own boundary, (N,); None where it was not asked for."""
        return None if self.pruned_distances is None else self.pruned_distances.epsilon

    @property
    def pruned_epsilon_lower(self) -> NDArray[np.float64] | None:
        """Radii (N,) within which the pruned network is proved to have no adversarial; None where not asked for."""
        return None if self.pruned_distances is None else self.pruned_distances.epsilon_lower

    @property
    def boundary_shift(self) -> float | None:
        """By how much the boundary moved away from the samples: median of pruned less dense distance.

        Over the samples that the dense network has right; those that pruning loses lie behind the pruned network's
        boundary, at a negative distance. A sample not found on one network counts as beyond all others there, a lost
        one without correction as behind all others; one that is not found on either says nothing, and is left out. None
        where the median is unknown.
        """
        paired = self.paired
        return None if paired is None else paired.median

    @property
    def boundary_shift_kept(self) -> float | None:
        """The same on the kept samples alone: the survivors, so that it leans away from them."""
        if self.pruned_distances is None:
            return None
        kept = self.transitions == Transition.KEPT
        return paired_shift(self.epsilon[kept], self.pruned_distances.epsilon[kept]).median

    @property
    def paired(self) -> PairedShift | None:
        """The shift of `boundary_shift` with its interval and test."""
        if self.pruned_distances is None:
            return None
        right = self._dense_right
        return paired_shift(self.epsilon[right], self.pruned_distances.signed[right])

    @property
    def _dense_right(self) -> NDArray[np.bool_]:
        """(N,) kept and lost samples."""
        return np.isin(self.transitions, (Transition.KEPT, Transition.LOST))

    @property
    def search_notes(self) -> tuple[str, ...]:
        """Notes on the search: what the fall-back found, why others were not found, what was searched again."""
        return (
            *search_notes(self.outcomes, self.found_by, self.failure_reasons),
            *bound_notes(self.sample_ids, self.epsilon, self.second_epsilon, self.norm),
        )

    @property
    def pruned_search_notes(self) -> tuple[str, ...]:
        """Notes on the search on the pruned network: what was searched again, for it lay far above its lower bound."""
        own = self.pruned_distances
        return () if own is None else bound_notes(self.sample_ids, own.epsilon, own.second_epsilon, self.norm)

    def proved_beyond(self, budget: float) -> NDArray[np.bool_]:
        """Return for which samples (N,) it is proved that no perturbation within a budget fools the dense network.

        Raises
        ------
        InputError
            Where nothing was proved: compare with ``certify=True``.

        """
        if self.epsilon_lower is None:
            raise InputError("`epsilon_lower` was not asked for: compare with certify=True (--certify)")
        return np.asarray(self.epsilon_lower > budget)

    @property
    def answer(self) -> str:
        """The question's answer in a sentence."""
        return answer(self._row())

    def table(self) -> list[tuple[str, str]]:
        """Return what people read, line by line: a name and a value with its unit."""
        return table(self.to_dict())

    def risk(self, *, method: RiskMethod = "isotonic", confidence: float = 0.95) -> RiskCurve:
        """Return the chance that pruning loses a sample as a function of its epsilon, as `thinice.stats.risk_curve`."""
        kept, lost = (self.epsilon[self.transitions == which] for which in (Transition.KEPT, Transition.LOST))
        return risk_curve(kept, lost, method=method, confidence=confidence)

    def predictor_comparison(self, *, confidence: float = 0.95) -> PredictorComparison:
        """Return how well epsilon predicts the lost samples, beside margin, confidence and loss of the dense network.

        The AUCs and paired tests of `thinice.stats.compare_predictors`, on the samples that the dense network has
        right. Where it was trained on at least half of these, and the store has that training, forgetting events, mean
        and variance of the confidence over the epochs join in, on these samples alone: a note says how many. The norm
        of the loss gradient does where the store has it.
        """
        right = self._dense_right
        notes: tuple[str, ...] = ()
        known = {} if self.dynamics is None else self.dynamics
        if known:
            trained_on = right & ~np.isnan(next(iter(known.values())))
            if 2 * trained_on.sum() < right.sum():
                known = {}
            elif trained_on.sum() < right.sum():
                notes = (f"on the {trained_on.sum()} of {right.sum()} samples that the dense network was trained on",)
                right = trained_on
        norms = self.gradient_norms
        columns: dict[str, NDArray[Any]] = {
            "epsilon": self.epsilon,
            "margin": self.margins,
            "confidence": self.confidences,
            "loss": self.losses,
            **({} if norms is None or np.isnan(norms[right]).any() else {"gradient_norm": norms}),
            **known,
        }
        table = compare_predictors(
            self.transitions[right] == Transition.LOST,
            {name: column[right] for name, column in columns.items()},
            confidence=confidence,
        )
        return replace(table, notes=(*table.notes, *notes))

    def frame(self) -> pd.DataFrame:
        """Return one row a sample: id, label, predictions, transition, epsilon, and what the attack says of it.

        With lower bounds also ``epsilon_lower``; with the distances of both networks ``pruned_epsilon``,
        ``pruned_outcome`` and ``pruned_found_by``, and for lost samples how far behind the pruned network's boundary
        they lie, ``correction`` and ``correction_outcome``; with both ``pruned_epsilon_lower``; on a robust basis the
        attack that broke the sample, ``dense_broken_by`` and ``pruned_broken_by``, else None.
        """
        import pandas as pd  # noqa: PLC0415 (a second of import that not every caller needs)

        frame = pd.DataFrame(
            {
                "sample_id": self.sample_ids,
                "label": [self.classes[label] for label in self.labels],
                "dense_prediction": [self._class(k) for k in self.dense_predictions],
                "pruned_prediction": [self._class(k) for k in self.pruned_predictions],
                "transition": pd.Categorical(self.transitions, categories=list(Transition)),
                "epsilon": self.epsilon,
                "outcome": _words(self.outcomes, Outcome),
                "found_by": _words(self.found_by, FoundBy),
                "converged": self.converged,
                "failure_reason": _words(self.failure_reasons, FailureReason),
            }
        )
        if self.epsilon_lower is not None:
            frame["epsilon_lower"] = self.epsilon_lower
        if self.pruned_distances is not None:
            frame["pruned_epsilon"] = self.pruned_distances.epsilon
            frame["pruned_outcome"] = _words(self.pruned_distances.outcomes, Outcome)
            frame["pruned_found_by"] = _words(self.pruned_distances.found_by, FoundBy)
            frame["correction"] = self.pruned_distances.corrections
            frame["correction_outcome"] = _words(self.pruned_distances.correction_outcomes, CorrectionOutcome)
        if self.pruned_epsilon_lower is not None:
            frame["pruned_epsilon_lower"] = self.pruned_epsilon_lower
        for name, broken_by in (("dense_broken_by", self.dense_broken_by), ("pruned_broken_by", self.pruned_broken_by)):
            if broken_by is not None:
                frame[name] = pd.Series([one or None for one in broken_by.tolist()], dtype=object)
        return frame

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison in one flat row of plain numbers and text, for JSON, CSV and tables."""
        return self._row() | self._both()

    def _row(self) -> dict[str, Any]:
        """Return the row without what the distances of both networks say, which takes longer."""
        return {
            "dense": self.dense,
            "pruned": self.pruned,
            "data": self.data,
            "split": self.split,
            "samples": len(self.labels),
            "norm": self.norm,
            "attack": self.attack.name,
            "settings": dict(self.attack.settings),
            "basis": self.basis,
            **({} if self.budget is None else {"budget": self.budget}),
            "dense_sparsity": self.dense_sparsity,
            "pruned_sparsity": self.pruned_sparsity,
            "dense_weights": self.networks[0].weights,
            "pruned_weights": self.networks[1].weights,
            "dense_accuracy": self.changes.dense_accuracy,
            "pruned_accuracy": self.changes.pruned_accuracy,
            "mcnemar_log10_p": self.changes.log10_p,
            "accuracy_equivalence_log10_p": self.changes.equivalence_log10_p(),
            **self.counts,
            "not_found": self.not_found,
            **self.separation.to_dict(),
            **bound_summary(self.epsilon, self.epsilon_lower),
        }

    def _both(self) -> dict[str, Any]:
        """Return what the distances of both networks say; all None where only the dense one's were asked for."""
        own, paired = self.pruned_distances, self.paired
        if own is None or paired is None:
            return dict.fromkeys(BOTH)
        ends = (None, None) if paired.interval is None else (paired.interval.low, paired.interval.high)
        kept = self.transitions == Transition.KEPT
        right, middle = own.outcomes != Outcome.MISCLASSIFIED, quantile(self.epsilon[kept])
        both = self.epsilon[self._dense_right], own.signed[self._dense_right]
        behind = quantile(own.corrections[own.correction_outcomes != CorrectionOutcome.NONE])
        numbers = (
            quantile(own.epsilon[kept]),
            paired.median,
            paired.shift,
            *(end if end is not None and np.isfinite(end) else None for end in ends),
            paired.log10_p,
            None if middle is None else paired_equivalence_log10_p(*both, EQUIVALENT_SHIFT * middle),
            self.boundary_shift_kept,
            None if behind is None else -behind,
            int((own.correction_outcomes == CorrectionOutcome.NOT_CORRECTED).sum()),
            int((own.outcomes[right & (self.pruned_predictions >= 0)] == Outcome.NOT_FOUND).sum()),
            int((own.found_by == FoundBy.DENSE).sum()),
        )
        bounds = bound_summary(own.epsilon, own.epsilon_lower)
        return dict(zip(BOTH, numbers, strict=True)) | {f"pruned_{name}": value for name, value in bounds.items()}

    def _class(self, prediction: int) -> str | None:
        """Return the name of a predicted class; a network may know more classes than the data name."""
        if prediction < 0:
            return None
        return self.classes[prediction] if prediction < len(self.classes) else str(prediction)

    def _repr_html_(self) -> str:
        return notebook_html(self.to_dict())


def several(comparisons: Sequence[Comparison]) -> str:
    """Return what prunings of one dense network say together; empty for one alone, or where they share no samples.

    Holm's adjusted p-values, and tests between their AUCs on the same samples, as of `thinice.stats.compare_prunings`.
    """
    first, right = comparisons[0], np.isin(comparisons[0].transitions, (Transition.KEPT, Transition.LOST))
    names = {comparison.pruned for comparison in comparisons}
    if len(names) < 2 or len(names) < len(comparisons):
        return ""
    lost = {comparison.pruned: comparison.transitions[right] == Transition.LOST for comparison in comparisons}
    return between([comparison.to_dict() for comparison in comparisons], compare_prunings(first.epsilon[right], lost))


def _words(
    codes: NDArray[np.int8], words: type[Outcome | FoundBy | FailureReason | CorrectionOutcome]
) -> pd.Categorical:
    """Return codes as their words, in order; what has no word is missing."""
    import pandas as pd  # noqa: PLC0415 (as above)

    return pd.Categorical(
        [words(code).text for code in codes], categories=[word.text for word in words if word.text is not None]
    )
