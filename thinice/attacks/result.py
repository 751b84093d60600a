"""What an attack returns, and the judge that checks each of its claims again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from thinice.errors import InputError
from thinice.norms import NORM_TABLE
from thinice.numerics import column
from thinice.types import Norm, Outcome, Stage

__all__ = ["FORWARD", "Candidates", "MinNormResult", "Model", "concatenate", "predict", "verify"]

Model = Callable[[Tensor], Tensor]
"""Takes inputs (N, C, H, W) in [0, 1] to logits (N, K)."""

FORWARD = 1 / 3
"""What a forward pass alone costs, in forward-backward passes."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a search believes to have found: nothing is true before the judge has said so.

    Attributes
    ----------
    candidates : Tensor
        (N, C, H, W) the points that are claimed; the clean input where there is none.
    evaluations : Tensor
        (N,) float32, forward-backward passes spent on each sample; a forward pass alone is a third of one.
    converged : Tensor, optional
        (N,) bool, where the search had settled before it stopped; None where it does not say.
    stages : Tensor, optional
        (N,) int8, values of `Stage`: which stage found the candidate; None for the search itself.
    diagnoses : Tensor, optional
        (N,) int8, values of `Diagnosis`: why the search found nothing; None where nobody asked.
    starved : Tensor, optional
        (N,) bool, where no gradient led the search, which stumbled on what it found; None where it does not say.

    """

    candidates: Tensor
    evaluations: Tensor
    converged: Tensor | None = field(default=None, kw_only=True)
    stages: Tensor | None = field(default=None, kw_only=True)
    diagnoses: Tensor | None = field(default=None, kw_only=True)
    gradient_masked: Tensor | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MinNormResult:
    """The nearest adversarial that was found for each sample. Only `verify` makes one that says ``FOUND``.

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
        (N,) bool, found, and the search had settled before it stopped; False where the attack does not say.
    stages : Tensor
        (N,) int8, values of `Stage`: the search, or the fall-back that found the adversarial.
    diagnoses : Tensor
        (N,) int8, values of `Diagnosis`: why the search itself came back empty or went without a gradient, also where
        a fall-back then found.

    """

    epsilon: Tensor
    adversarials: Tensor
    predictions: Tensor
    outcomes: Tensor
    evaluations: Tensor
    clean_predictions: Tensor
    converged: Tensor
    stages: Tensor
    diagnoses: Tensor

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
        return f"Nearest({len(self)} samples: {counts}{middle})"

    def _repr_html_(self) -> str:
        """Show how many samples ended how, and how far those lie that were found."""
        rows = "".join(
            f"<tr><td style='text-align:left'>{outcome.text}</td><td>{int((self.outcomes == outcome).sum())}</td></tr>"
            for outcome in Outcome
        )
        found = self.epsilon[self.found].double()
        said = "no sample has an adversarial"
        if len(found):
            parts = torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64, device=found.device)
            least, low, middle, high, most = (f"{value:.4g}" for value in found.quantile(parts).tolist())
            said = f"median epsilon {middle}; half of them {low} to {high}, all {least} to {most}, on the [0, 1] scale"
        spent = f"{self.evaluations.mean().item():.3g} forward-backward passes a sample" if len(self) else "no samples"
        head = "<tr><th style='text-align:left'>outcome</th><th>samples</th></tr>"
        return f"<table>{head}{rows}</table><p>Of the found: {said}. Spent: {spent}.</p>"

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
        logits = model(inputs.clone())  # a network that works in place must not change what is judged
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
    stages: Tensor | None = None,
    diagnoses: Tensor | None = None,
) -> MinNormResult:
    """Return what is true of the claimed candidates, after forward passes of its own at storage precision.

    A claim counts only if the float32 candidate is finite and in [0, 1], the network gives it a class, and that is
    not the label, while the clean input was classified correctly; epsilon is measured again on that float32 tensor.

    Parameters
    ----------
    model : callable
        Takes inputs (N, C, H, W) in [0, 1] to logits (N, K). The caller sees to IEEE float32 arithmetic.
    inputs, candidates : Tensor
        (N, C, H, W), the clean inputs and what is claimed to be adversarial.
    labels : Tensor
        (N,) true classes.
    norm : {"l0", "l1", "l2", "linf"}
        The norm in which epsilon is measured.
    evaluations : Tensor
        (N,) forward-backward passes spent, passed on.
    clean_predictions : Tensor, optional
        (N,) what `predict` says of the clean inputs, where that is known already; saves one forward pass.
    converged, stages, diagnoses : Tensor, optional
        (N,) what the search says of itself, as in `Candidates`; the first two count only where the claim does.

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
        stages=torch.where(found, nothing + int(Stage.SEARCH) if stages is None else stages, nothing),
        diagnoses=nothing if diagnoses is None else diagnoses,
    )


def _empty(inputs: Tensor) -> MinNormResult:
    """Return the result for no samples."""
    none = torch.zeros(0, dtype=torch.int64, device=inputs.device)
    code = none.to(torch.int8)
    return MinNormResult(none.float(), inputs[:0].float(), none, code, none.float(), none, code.bool(), code, code)
