"""An attack with all its settings bound: it checks its input, searches, verifies, repairs, and falls back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor

from thinice.attacks import ATTACKS, attack_row
from thinice.attacks.boundary import VERSION as BOUNDARY_VERSION
from thinice.attacks.boundary import move_to_boundary, nudge_across
from thinice.attacks.fallback import VERSION as FALLBACK_VERSION
from thinice.attacks.fallback import fall_back
from thinice.attacks.result import FORWARD, Candidates, MinNormResult, Model, predict, verify, within_budget
from thinice.attacks.rows import MinNormRow, Setting
from thinice.errors import InputError
from thinice.models.clamped_inputs import seen_inside
from thinice.numerics import lowered
from thinice.types import DEFAULT_ATTACK, EFFORTS, NORMS, PRECISIONS, Effort, FailureReason, Norm, Outcome, Precision

__all__ = ["Attack", "checked_choice", "checked_seed", "make_attack", "precision_settings"]


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack with all its settings bound; made by `make_attack`, at a fixed budget by `make_ensemble`.

    Attributes
    ----------
    name : str
        ``"fmn"``, or ``"foolbox:LInfFMNAttack"``.
    norm : {"l0", "l1", "l2", "linf"}
        The norm that it minimises, or that of its budget.
    settings : mapping
        Everything else that changes the result, ready to be stored as JSON: steps, seed, versions of the algorithm and
        of the fall-back; without the latter nothing is tried where the search finds nothing.
    search : callable
        ``search(model, inputs, labels, sample_ids)`` returns `Candidates`.
    budget : float, optional
        The radius that it keeps to: longer adversarials do not count. None where it minimises the norm.

    """

    name: str
    norm: Norm
    settings: Mapping[str, Setting]
    search: Callable[[Model, Tensor, Tensor, Tensor], Candidates] = field(repr=False, compare=False)
    budget: float | None = None

    @property
    def seed(self) -> int:
        """The seed of everything random."""
        return int(self.settings.get("seed") or 0)

    @property
    def precision(self) -> Precision:
        """The arithmetic that the search may use; that of verification is always IEEE float32."""
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
        """Return the nearest adversarial of each sample that the attack finds and verification confirms.

        1. The search runs, in the form and precision asked for, on samples that are classified correctly. `verify`
           checks its candidates in the network itself; `nudge_across` and, in less than float32, `move_to_boundary`
           repair them.
        2. What was not found in another form or in less than float32 is searched again in the network itself.
        3. What is still not found, or was found without a gradient, goes through the stages of `fall_back`; the nearer
           of the two counts.

        Where a network hides its gradients at the ends of the box, behind a clamp, all searches see it with gradients
        from a hair inside (`seen_inside`).

        Parameters
        ----------
        model : callable
            Takes inputs (N, C, H, W) in [0, 1] to logits (N, K); in eval mode. It alone decides what is adversarial.
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
        result, gradient_masked = self._search_and_verify(model, seen, batch, precision=precision, spent=spent)
        if other or precision != "float32":
            left = torch.nonzero((result.outcomes == Outcome.NOT_FOUND) & (clean >= 0)).squeeze(1)
            if len(left):
                rest = (inputs[left], labels[left], sample_ids[left], clean[left])
                again, gradient_masked[left] = self._search_and_verify(
                    model, own, rest, precision="float32", spent=result.evaluations[left]
                )
                result = result.replaced(left, again)
        undefined = torch.where(clean < 0, int(FailureReason.NON_FINITE), result.failure_reasons).to(torch.int8)
        result = replace(result, failure_reasons=undefined)
        return self._fall_back(model, own, result, gradient_masked, batch) if self.settings.get("fallback") else result

    def _search_and_verify(
        self,
        model: Model,
        seen: Model,
        batch: tuple[Tensor, Tensor, Tensor, Tensor],
        *,
        precision: Precision,
        spent: Tensor,
    ) -> tuple[MinNormResult, Tensor]:
        """Return what one search of one form of the network finds, verified, and which had no gradient, (N,) bool.

        Its evaluations come on top of what was spent.
        """
        inputs, labels, sample_ids, clean_predictions = batch
        correct = torch.nonzero((clean_predictions == labels) & (labels >= 0)).squeeze(1)
        candidates, evaluations = inputs.clone(), spent.clone()
        converged = torch.zeros_like(labels, dtype=torch.bool)
        gradient_masked = torch.zeros_like(converged)
        if len(correct):
            with torch.enable_grad(), lowered(seen, precision, inputs.device) as network:
                found = self.search(network, inputs[correct], labels[correct], sample_ids[correct])
            candidates[correct] = found.candidates.detach().to(candidates)
            evaluations[correct] += found.evaluations + FORWARD  # verification takes a forward pass
            if found.converged is not None:
                converged[correct] = found.converged
            if found.gradient_masked is not None:
                gradient_masked[correct] = found.gradient_masked
        result = verify(
            model,
            inputs,
            candidates,
            labels,
            norm=self.norm,
            evaluations=evaluations,
            clean_predictions=clean_predictions,
            converged=converged,
        )
        result = nudge_across(model, result, inputs, candidates, labels, norm=self.norm, converged=converged)
        if precision != "float32":
            result = move_to_boundary(model, result, inputs, labels, norm=self.norm)
        if self.budget is not None:
            result = within_budget(result, inputs, self.budget)
        return result, gradient_masked

    def _fall_back(
        self,
        model: Model,
        own: Model,
        result: MinNormResult,
        gradient_masked: Tensor,
        batch: tuple[Tensor, Tensor, Tensor, Tensor],
    ) -> MinNormResult:
        """Return the result with what the fall-back finds of samples not found, or found without a gradient.

        Its passes and its failure reason count whichever of the two adversarials is nearer.
        """
        not_found = (result.outcomes == Outcome.NOT_FOUND) & (result.clean_predictions >= 0)
        index = (not_found | (result.found & gradient_masked)).nonzero().squeeze(1)
        if not len(index):
            return result
        inputs, labels, sample_ids, clean = (values[index] for values in batch)
        seed = int(self.settings.get("seed") or 0)
        found = fall_back(own, inputs, labels, sample_ids, norm=self.norm, seed=seed)
        fallback = verify(
            model,
            inputs,
            found.candidates,
            labels,
            norm=self.norm,
            evaluations=result.evaluations[index] + found.evaluations + FORWARD,
            clean_predictions=clean,
            found_by=found.found_by,
            failure_reasons=found.failure_reasons,
        )
        nearer = (fallback.found & ~(fallback.epsilon >= result.epsilon[index])).nonzero().squeeze(1)
        result = replace(
            result,
            evaluations=result.evaluations.index_copy(0, index, fallback.evaluations),
            failure_reasons=result.failure_reasons.index_copy(0, index, fallback.failure_reasons),
        )
        return result.replaced(index[nearer], fallback.part(nearer)) if len(nearer) else result


def make_attack(
    name: str = DEFAULT_ATTACK,
    *,
    norm: Norm = "linf",
    effort: Effort = "standard",
    seed: int = 0,
    precision: Precision = "float32",
    fallback: bool = True,
    **settings: Setting,
) -> Attack:
    """Return an attack that minimises a norm, with all its settings bound, ready to be called or recorded.

    Parameters
    ----------
    name : str
        A name in `thinice.attacks.ATTACKS`, or ``"foolbox:"`` and the name of one of foolbox's minimisation
        attacks.
    norm : {"l0", "l1", "l2", "linf"}
        The norm to minimise.
    effort : {"quick", "standard", "thorough", "exhaustive"}
        How much to spend on each sample.
    seed : int
        Of everything random.
    precision : {"float32", "tf32", "bf16"}
        Arithmetic of the search; that of verification is float32 in any case.
    fallback : bool
        Whether samples in which the search finds nothing go through the stages of
        `thinice.attacks.fallback.fall_back`.
    **settings
        Settings that replace those of the effort, ``steps=300``.

    Raises
    ------
    InputError
        For an unknown name, norm, effort or setting, naming the known ones, for settings that change nothing in this
        norm, and for values out of range.

    Examples
    --------
    >>> make_attack("fmn", norm="l2", effort="quick").settings["steps"]
    30
    >>> make_attack("fmn", norm="l2", step=10)
    Traceback (most recent call last):
    ...
    thinice.errors.InputError: attack 'fmn' has no setting 'step': it has alpha, classes, gamma, polish, steps

    """
    row = attack_row(name)
    if not isinstance(row, MinNormRow):
        raise InputError(
            f"`attack` {name!r} keeps to a fixed budget and measures no distance: thinice.evaluate takes it; to "
            f"minimise the norm choose from {', '.join(ATTACKS.names('minimum norm', 'backend'))}"
        )
    checked_choice("norm", norm, NORMS)
    checked_choice("effort", effort, EFFORTS)
    checked_choice("precision", precision, PRECISIONS)
    if norm not in row.norms:
        raise InputError(f"attack {name!r} minimises {', '.join(row.norms)}, got `norm` {norm!r}")
    if effort not in row.efforts:
        names = ", ".join(sorted(row.defaults))
        raise InputError(f"`effort` {effort!r} means nothing to attack {name!r}: give its own settings ({names})")
    checked_seed(seed)
    for setting in settings:
        if setting not in row.defaults:
            names = ", ".join(sorted(row.defaults)) or "none"
            raise InputError(f"attack {name!r} has no setting {setting!r}: it has {names}")
    bound = {**row.defaults, **row.efforts[effort], **settings}
    bound = {setting: _checked_setting(setting, value, row) for setting, value in bound.items()}
    search = partial(row.search, norm=norm, seed=seed, **bound)
    versions = {**row.recorded, "version": row.version, **({"fallback": FALLBACK_VERSION} if fallback else {})}
    return Attack(name, norm, {**bound, "seed": seed, **precision_settings(precision), **versions}, search)


def precision_settings(precision: Precision) -> dict[str, Setting]:
    """Return what is recorded of the arithmetic of a search: nothing of float32.

    >>> precision_settings("float32"), precision_settings("bf16")
    ({}, {'precision': 'bf16', 'boundary': 1})
    """
    return {} if precision == "float32" else {"precision": precision, "boundary": BOUNDARY_VERSION}


def checked_choice(argument: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not among the choices of an argument."""
    if value not in choices:
        raise InputError(f"`{argument}` must be one of {', '.join(choices)}, got {value!r}")


def checked_seed(seed: int) -> None:
    """Refuse a seed that is not a whole number that fits in 63 bits."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"`seed` must be a whole number of at least 0, got {seed!r}")


def _checked_setting(setting: str, value: Setting, row: MinNormRow) -> Setting:
    """Return the value in the type of the default, if it has that type and lies in its range."""
    default = row.defaults[setting]
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if default is not None and type(value) is not type(default):
        raise InputError(f"`{setting}` must be of type {type(default).__name__}, got {value!r}")
    low, high = row.ranges.get(setting, (None, None))
    if low is not None and high is not None and isinstance(value, int | float) and not low <= value <= high:
        raise InputError(f"`{setting}` must lie in [{low:g}, {high:g}], got {value!r}")
    return value


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
