"""An attack with all its settings bound: it checks its input, searches, and lets the judge decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from inspect import Parameter, signature
from typing import Any, cast

import torch
from torch import Tensor

from thinice.attacks.boundary import VERSION as BOUNDARY_VERSION
from thinice.attacks.boundary import move_to_boundary, nudge_across
from thinice.attacks.fallback import fall_back
from thinice.attacks.result import FORWARD, Candidates, MinNormResult, Model, predict, verify
from thinice.errors import InputError
from thinice.models.clamped_inputs import seen_inside
from thinice.numerics import lowered
from thinice.types import NORMS, Diagnosis, Effort, Norm, Outcome, Precision

__all__ = ["Attack", "AttackRow", "Setting", "keyword_defaults", "precision_settings"]

Setting = str | int | float | bool | None
"""What a setting can be: whatever JSON can store."""

Search = Callable[..., Candidates]
"""``search(model, inputs, labels, sample_ids, *, norm, seed, **settings)`` for correctly classified samples."""


@dataclass(frozen=True, slots=True)
class AttackRow:
    """One attack in the registry: what searches, and what can be set.

    Attributes
    ----------
    search
        Called as ``search(model, inputs, labels, sample_ids, norm=…, seed=…, **settings)``, only ever with samples
        that are classified correctly, and with at least one.
    defaults
        The settings and their values.
    efforts
        The settings that each effort replaces.
    ranges
        The least and the greatest value of the settings that are numbers.
    norms
        The norms that it can minimise.
    idle
        The settings that change nothing in a norm: to give one there is a mistake.
    fixed
        What is recorded with the settings but cannot be set: versions. A changed result needs a changed version.

    """

    search: Search
    defaults: Mapping[str, Setting]
    efforts: Mapping[Effort, Mapping[str, Setting]]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    norms: tuple[Norm, ...] = NORMS
    idle: Mapping[Norm, tuple[str, ...]] = field(default_factory=dict)
    fixed: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack with all its settings bound; made by `make_attack`.

    Attributes
    ----------
    name : str
        ``"fmn"``, or ``"foolbox:LInfFMNAttack"``.
    norm : {"l0", "l1", "l2", "linf"}
        The norm that it minimises.
    settings : mapping
        Everything else that changes the result, ready to be stored as JSON: steps, seed, versions of the recipe and of
        the fall-back; without the latter nothing is tried where the search finds nothing.

    """

    name: str
    norm: Norm
    settings: Mapping[str, Setting]
    search: Callable[[Model, Tensor, Tensor, Tensor], Candidates] = field(repr=False, compare=False)

    @property
    def precision(self) -> Precision:
        """The arithmetic that the search may use; the judge's is always IEEE float32."""
        return cast("Precision", self.settings.get("precision", "float32"))

    def __call__(
        self,
        model: Model,
        inputs: Tensor,
        labels: Tensor,
        sample_ids: Tensor,
        *,
        search_model: Model | None = None,
    ) -> MinNormResult:
        """Return the nearest adversarial of each sample that the attack finds and the judge confirms.

        What is found in less than float32 is brought to where the network itself crosses its boundary
        (`move_to_boundary`). What
        is not found so, or in another form of the network, is searched again in the network itself, in float32. What is
        not found then goes through the stages of `fall_back`, and so does what was found without a gradient to go by:
        there the nearer of the two counts.

        Where a network hides its gradients at the ends of the box, behind a clamp, all searches see it with gradients
        from a hair inside (`seen_inside`).

        Parameters
        ----------
        model : callable
            Takes inputs (N, C, H, W) in [0, 1] to logits (N, K); in eval mode. The judge believes it alone.
        inputs : Tensor
            (N, C, H, W) in [0, 1], in any memory layout.
        labels, sample_ids : Tensor
            (N,) true classes, and ids that make the random choices of a sample its own.
        search_model : callable, optional
            Another form of the same function, for the search: faster, equal up to rounding.

        Raises
        ------
        InputError
            For inputs outside [0, 1], or shapes that do not fit together.

        """
        inputs = _checked(inputs, labels, sample_ids)
        clean = predict(model, inputs)
        spent = torch.full_like(labels, FORWARD, dtype=torch.float32)
        searched = inputs[(clean == labels) & (clean >= 0)]  # of none, nothing is asked
        own = seen_inside(model, searched)
        other = search_model is not None and search_model is not model
        seen, precision = seen_inside(search_model, searched) if search_model and other else own, self.precision
        batch = (inputs, labels, sample_ids, clean)
        nearest, gradient_masked = self._once(model, seen, batch, precision=precision, spent=spent)
        if other or precision != "float32":
            lost = torch.nonzero((nearest.outcomes == Outcome.NOT_FOUND) & (clean >= 0)).squeeze(1)
            if len(lost):
                rest = (inputs[lost], labels[lost], sample_ids[lost], clean[lost])
                again, gradient_masked[lost] = self._once(
                    model, own, rest, precision="float32", spent=nearest.evaluations[lost]
                )
                nearest = nearest.replaced(lost, again)
        undefined = torch.where(clean < 0, int(Diagnosis.NON_FINITE), nearest.diagnoses).to(torch.int8)
        return self._rescued(model, own, replace(nearest, diagnoses=undefined), gradient_masked, batch)

    def _rescued(
        self,
        model: Model,
        own: Model,
        nearest: MinNormResult,
        gradient_masked: Tensor,
        batch: tuple[Tensor, Tensor, Tensor, Tensor],
    ) -> MinNormResult:
        """Return the result with what the fall-back finds of lost and starved samples, where that is nearer."""
        empty = (nearest.outcomes == Outcome.NOT_FOUND) & (nearest.clean_predictions >= 0)
        lost = (empty | (nearest.found & gradient_masked)).nonzero().squeeze(1)
        if not self.settings.get("fallback") or not len(lost):
            return nearest
        inputs, labels, sample_ids, clean = (column[lost] for column in batch)
        seed = int(self.settings.get("seed") or 0)
        claims = fall_back(own, inputs, labels, sample_ids, norm=self.norm, seed=seed)
        rescued = verify(
            model,
            inputs,
            claims.candidates,
            labels,
            norm=self.norm,
            evaluations=nearest.evaluations[lost] + claims.evaluations + FORWARD,
            clean_predictions=clean,
            stages=claims.stages,
            diagnoses=claims.diagnoses,
        )
        known = nearest.epsilon[lost]
        nearer = rescued.found & ~(rescued.epsilon >= known)
        # the fall-back's look at the network is paid for, and its diagnosis told, whichever of the two counts
        nearest = replace(
            nearest,
            evaluations=nearest.evaluations.index_copy(0, lost, rescued.evaluations),
            diagnoses=nearest.diagnoses.index_copy(0, lost, rescued.diagnoses),
        )
        which = nearer.nonzero().squeeze(1)
        return nearest.replaced(lost[which], rescued.part(which)) if len(which) else nearest

    def _once(
        self,
        model: Model,
        seen: Model,
        batch: tuple[Tensor, Tensor, Tensor, Tensor],
        *,
        precision: Precision,
        spent: Tensor,
    ) -> tuple[MinNormResult, Tensor]:
        """Return what one search of one form of the network finds, judged by the network, and which were starved (N,).

        Its evaluations come on top of what was spent.
        """
        inputs, labels, sample_ids, clean_predictions = batch
        correct = torch.nonzero((clean_predictions == labels) & (labels >= 0)).squeeze(1)
        candidates, evaluations = inputs.clone(), spent.clone()
        converged, gradient_masked = (
            torch.zeros_like(labels, dtype=torch.bool),
            torch.zeros_like(labels, dtype=torch.bool),
        )
        if len(correct):
            with torch.enable_grad(), lowered(seen, precision, inputs.device) as rough:
                claims = self.search(rough, inputs[correct], labels[correct], sample_ids[correct])
            candidates[correct] = claims.candidates.detach().to(candidates)
            evaluations[correct] += claims.evaluations + FORWARD  # the judge's look at the claim counts too
            if claims.converged is not None:
                converged[correct] = claims.converged
            if claims.gradient_masked is not None:
                gradient_masked[correct] = claims.gradient_masked
        nearest = verify(
            model,
            inputs,
            candidates,
            labels,
            norm=self.norm,
            evaluations=evaluations,
            clean_predictions=clean_predictions,
            converged=converged,
        )
        nearest = nudge_across(model, nearest, inputs, candidates, labels, norm=self.norm, converged=converged)
        if precision != "float32":
            nearest = move_to_boundary(model, nearest, inputs, labels, norm=self.norm)
        return self._counted(nearest, inputs), gradient_masked

    def _counted(self, nearest: MinNormResult, inputs: Tensor) -> MinNormResult:  # noqa: ARG002 (an attack at a budget needs them)
        """Return what counts of a search's judged finds: all of them."""
        return nearest


def keyword_defaults(function: Callable[..., Any], *, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the keywords of a function that have a default, with their defaults.

    >>> def attack(model, *, norm, seed=0, steps=100): ...
    >>> keyword_defaults(attack, skip=("seed",))
    {'steps': 100}
    """
    parameters = signature(function).parameters.values()
    return {
        item.name: item.default for item in parameters if item.default is not Parameter.empty and item.name not in skip
    }


def precision_settings(precision: Precision) -> dict[str, Setting]:
    """Return what is recorded of the arithmetic of a search: nothing of float32.

    >>> precision_settings("float32"), precision_settings("bf16")
    ({}, {'precision': 'bf16', 'boundary': 1})
    """
    return {} if precision == "float32" else {"precision": precision, "boundary": BOUNDARY_VERSION}


def _checked(inputs: Tensor, labels: Tensor, sample_ids: Tensor) -> Tensor:
    """Return the inputs as contiguous float32, or say what is wrong with them."""
    if inputs.dim() < 2:
        raise InputError(f"`inputs` must have shape (N, C, H, W), got {tuple(inputs.shape)}")
    for name, values in (("labels", labels), ("sample_ids", sample_ids)):
        if values.shape != inputs.shape[:1] or values.dtype != torch.int64:
            got = f"{values.dtype} {tuple(values.shape)}"
            raise InputError(f"`{name}` must be int64 of shape ({len(inputs)},), one for each input, got {got}")
    inputs = inputs.detach().to(torch.float32).contiguous()
    if inputs.numel():
        low, high = (bound.item() for bound in inputs.aminmax())
        if not (low >= 0 and high <= 1):
            raise InputError(f"`inputs` must lie in [0, 1], got [{low:.3g}, {high:.3g}]: normalise inside the model")
    return inputs
