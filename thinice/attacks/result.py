"""What an attack returns, and the verification that checks each of its candidates again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from thinice.errors import InputError
from thinice.norms import NORM_TABLE
from thinice.numerics import column
from thinice.types import FoundBy, Norm, Outcome

__all__ = [
    "FORWARD",
    "Candidates",
    "MinNormResult",
    "Model",
    "concatenate",
    "predict",
    "verify",
    "within_budget",
]

Model = Callable[[Tensor], Tensor]
"""Takes inputs (N, C, H, W) in [0, 1] to logits (N, K)."""

FORWARD = 1 / 3
"""What a forward pass alone costs, in forward-backward passes."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The points that a search returns; none is an adversarial before `verify` has confirmed it.

    Attributes
    ----------
    candidates : Tensor
        (N, C, H, W) in [0, 1]; the clean input where the search found nothing.
    evaluations : Tensor
        (N,) float32, forward-backward passes spent on each sample; a forward pass alone is a third of one.
    converged : Tensor, optional
        (N,) bool, where the search had converged before it stopped; None where it does not say.
    found_by : Tensor, optional
        (N,) int8, values of `FoundBy`: which stage found the candidate; None for the search itself.
    failure_reasons : Tensor, optional
        (N,) int8, values of `FailureReason`: why the search found nothing; None where that was not looked into.
    gradient_masked : Tensor, optional
        (N,) bool, where the gradient was zero or not finite, so that the candidate was found by chance; None where the
        search does not say.

    """

    candidates: Tensor
    evaluations: Tensor
    converged: Tensor | None = field(default=None, kw_only=True)
    found_by: Tensor | None = field(default=None, kw_only=True)
    failure_reasons: Tensor | None = field(default=None, kw_only=True)
    gradient_masked: Tensor | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MinNormResult:
    """The nearest adversarial that was found for each sample; only `verify` sets the outcome ``FOUND``.

    Attributes
    ----------
    epsilon : Tensor
        (N,) float32, the length of the perturbation on the [0, 1] scale: an upper bound on the distance to the
        decision boundary. NaN where none was found, 0 where the clean input is misclassified.
    adversarials : Tensor
        (N, C, H, W) float32 in [0, 1]; the clean input where there is none.
    predictions : Tensor
        (N,) int64, the class of ``adversarials``; -1 where none was found.
    outcomes : Tensor
        (N,) int8, values of `Outcome`.
    evaluations : Tensor
        (N,) float32, forward-backward passes spent; a forward pass alone is a third of one.
    clean_predictions : Tensor
        (N,) int64, the class of the clean input; -1 where a logit is NaN.
    converged : Tensor
        (N,) bool, found, and the search had converged before it stopped; False where the attack does not say.
    found_by : Tensor
        (N,) int8, values of `FoundBy`: the search, or the fall-back that found the adversarial.
    failure_reasons : Tensor
        (N,) int8, values of `FailureReason`: why the search itself found nothing or had no gradient, also where the
        fall-back then found an adversarial.

    """

    epsilon: Tensor
    adversarials: Tensor
    predictions: Tensor
    outcomes: Tensor
    evaluations: Tensor
    clean_predictions: Tensor
    converged: Tensor
    found_by: Tensor
    failure_reasons: Tensor

    def __len__(self) -> int:
        return len(self.epsilon)

    @property
    def found(self) -> Tensor:
        """Where an adversarial was found, (N,) bool."""
        return self.outcomes == Outcome.FOUND

    def __repr__(self) -> str:
        counts = ", ".join(f"{int((self.outcomes == outcome).sum())} {outcome.text}" for outcome in Outcome)
        found = self.epsilon[self.found]
        middle = f"; median epsilon of the found {found.median().item():.4g}" if len(found) else ""
        return f"MinNormResult({len(self)} samples: {counts}{middle})"

    def _repr_html_(self) -> str:
        """Show how many samples ended how, and how far those lie that were found."""
        rows = "".join(
            f"<tr><td style='text-align:left'>{outcome.text}</td><td>{int((self.outcomes == outcome).sum())}</td></tr>"
            for outcome in Outcome
        )
        found = self.epsilon[self.found].double()
        summary = "no sample has an adversarial"
        if len(found):
            parts = torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64, device=found.device)
            least, low, middle, high, most = (f"{value:.4g}" for value in found.quantile(parts).tolist())
            summary = (
                f"median epsilon {middle}; half of them {low} to {high}, all {least} to {most}, on the [0, 1] scale"
            )
        spent = f"{self.evaluations.mean().item():.3g} forward-backward passes a sample" if len(self) else "no samples"
        head = "<tr><th style='text-align:left'>outcome</th><th>samples</th></tr>"
        return f"<table>{head}{rows}</table><p>Of the found: {summary}. Spent: {spent}.</p>"

    def to(self, device: torch.device | str) -> MinNormResult:
        """Return the same result on another device."""
        return MinNormResult(*(getattr(self, item.name).to(device) for item in fields(self)))

    def part(self, index: Tensor) -> MinNormResult:
        """Return the result of the samples at these positions."""
        return MinNormResult(*(getattr(self, item.name)[index] for item in fields(self)))

    def replaced(self, index: Tensor, part: MinNormResult) -> MinNormResult:
        """Return the same result, with those of other samples put in at these positions."""
        columns = ((getattr(self, item.name), getattr(part, item.name)) for item in fields(self))
        return MinNormResult(*(whole.index_copy(0, index, new) for whole, new in columns))


def concatenate(parts: Sequence[MinNormResult], *, like: Tensor) -> MinNormResult:
    """Return the results of several batches as one; of no batch, an empty one for inputs shaped ``like`` these.

    Examples
    --------
    >>> len(concatenate([], like=torch.zeros(0, 3, 32, 32)))
    0

    """
    return MinNormResult(
        *(torch.cat([getattr(part, item.name) for part in (_empty(like), *parts)]) for item in fields(MinNormResult))
    )


def predict(model: Model, inputs: Tensor) -> Tensor:
    """Return the class of each input, (N,) int64; -1 where a logit is NaN: NaN is not a class."""
    if len(inputs) == 0:
        return torch.zeros(0, dtype=torch.int64, device=inputs.device)
    with torch.no_grad():
        logits = model(inputs.clone())  # a network that works in place must not change what is verified
        if logits.dim() != 2 or len(logits) != len(inputs):
            raise InputError(f"the model must return logits of shape (N, K), got {tuple(logits.shape)}")
        return torch.where(logits.isnan().any(1), -1, logits.argmax(1))


def verify(
    model: Model,
    inputs: Tensor,
    candidates: Tensor,
    labels: Tensor,
    *,
    norm: Norm,
    evaluations: Tensor,
    clean_predictions: Tensor | None = None,
    converged: Tensor | None = None,
    found_by: Tensor | None = None,
    failure_reasons: Tensor | None = None,
) -> MinNormResult:
    """Return which candidates are adversarial, with their epsilons, after a forward pass at storage precision.

    A candidate counts only if it is finite and in [0, 1] in float32, and the network gives it another class than the
    label, while the clean input was classified correctly; epsilon is measured on that float32 tensor.

    Parameters
    ----------
    model : callable
        Takes inputs (N, C, H, W) in [0, 1] to logits (N, K). The caller sees to IEEE float32 arithmetic.
    inputs, candidates : Tensor
        (N, C, H, W), the clean inputs and the candidates.
    labels : Tensor
        (N,) true classes.
    norm : {"l0", "l1", "l2", "linf"}
        The norm in which epsilon is measured.
    evaluations : Tensor
        (N,) forward-backward passes spent, passed on.
    clean_predictions : Tensor, optional
        (N,) classes of the clean inputs from `predict`, where they are known already; saves one forward pass.
    converged, found_by, failure_reasons : Tensor, optional
        (N,) as in `Candidates`; the first two count only where the candidate does.

    Examples
    --------
    >>> def sign(inputs):
    ...     return torch.cat([0.5 - inputs.flatten(1), inputs.flatten(1) - 0.5], 1)
    >>> inputs, candidates = torch.tensor([0.25, 0.25, 0.75]), torch.tensor([0.625, 0.375, 0.75])
    >>> nearest = verify(
    ...     sign, inputs.view(3, 1, 1, 1), candidates.view(3, 1, 1, 1), torch.zeros(3, dtype=torch.int64),
    ...     norm="linf", evaluations=torch.ones(3),
    ... )
    >>> nearest.epsilon
    tensor([0.3750,    nan, 0.0000])
    >>> [Outcome(outcome).text for outcome in nearest.outcomes.tolist()]
    ['found', 'not_found', 'misclassified']

    """
    if len(inputs) == 0:
        return _empty(inputs)
    if clean_predictions is None:
        clean_predictions = predict(model, inputs)
    inputs, candidates = inputs.to(torch.float32).contiguous(), candidates.to(torch.float32).contiguous()
    inside = ((candidates >= 0) & (candidates <= 1)).flatten(1).all(1)  # false of NaN, too
    candidates = torch.where(column(inside, candidates), candidates, inputs)
    predictions = predict(model, candidates)
    epsilon = NORM_TABLE[norm].length(candidates.double() - inputs.double()).to(torch.float32)

    correct = (clean_predictions == labels) & (clean_predictions >= 0)
    wrong = ~correct & (clean_predictions >= 0)
    found = correct & inside & (epsilon > 0) & (predictions >= 0) & (predictions != labels)
    nothing = torch.zeros_like(found, dtype=torch.int8)
    return MinNormResult(
        epsilon=torch.where(found, epsilon, torch.where(wrong, 0.0, torch.nan)),
        adversarials=torch.where(column(found, candidates), candidates, inputs),
        predictions=torch.where(found, predictions, torch.where(wrong, clean_predictions, -1)),
        outcomes=torch.where(
            found, int(Outcome.FOUND), torch.where(wrong, int(Outcome.MISCLASSIFIED), int(Outcome.NOT_FOUND))
        ).to(torch.int8),
        evaluations=evaluations.to(torch.float32),
        clean_predictions=clean_predictions,
        converged=found & converged if converged is not None else torch.zeros_like(found),
        found_by=torch.where(found, nothing + int(FoundBy.SEARCH) if found_by is None else found_by, nothing),
        failure_reasons=nothing if failure_reasons is None else failure_reasons,
    )


def within_budget(result: MinNormResult, inputs: Tensor, budget: float) -> MinNormResult:
    """Return the result with adversarials longer than the budget, in float32, taken for not found."""
    beyond = result.found & (result.epsilon > torch.tensor(budget, dtype=torch.float32, device=inputs.device))
    return replace(
        result,
        epsilon=result.epsilon.masked_fill(beyond, torch.nan),
        adversarials=torch.where(column(beyond, inputs), inputs, result.adversarials),
        predictions=result.predictions.masked_fill(beyond, -1),
        outcomes=result.outcomes.masked_fill(beyond, int(Outcome.NOT_FOUND)),
        converged=result.converged & ~beyond,
        found_by=result.found_by.masked_fill(beyond, int(FoundBy.NONE)),
    )


def _empty(inputs: Tensor) -> MinNormResult:
    """Return the result for no samples."""
    none = torch.zeros(0, dtype=torch.int64, device=inputs.device)
    code = none.to(torch.int8)
    return MinNormResult(none.float(), inputs[:0].float(), none, code, none.float(), none, code.bool(), code, code)
