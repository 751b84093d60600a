"""Checks of an attack, by watching what it asks the network, one sample at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from thinice.attacks.result import MinNormResult, Model, predict
from thinice.checks import finding
from thinice.errors import InputError
from thinice.losses import margin
from thinice.models.clamped_inputs import Onlooker
from thinice.norms import NORM_TABLE
from thinice.numerics import exact
from thinice.results import Finding
from thinice.types import NORMS, Norm

__all__ = ["AnyAttack", "black_box_stronger", "check_attack"]

AnyAttack = Callable[[Model, Tensor, Tensor, Tensor], Tensor | MinNormResult]
"""``attack(model, inputs, labels, sample_ids)``: any `thinice.Attack`, or what returns the points (N, …) it ends at."""

LATE = 10
"""The last iterations, which should no longer gain anything; a quarter of them where there are fewer than 40."""
GAIN = 0.05
"""What those may gain: of all that the loss fell, or of the epsilon at the end."""


def check_attack(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    sample_ids: Tensor,
    attack: AnyAttack,
    *,
    norm: Norm,
    budget: float | None = None,
    surrogate: Model | None = None,
    unlimited: AnyAttack | None = None,
) -> tuple[Finding, ...]:
    """Return the findings of the indicators of attack failure, for an attack on a network.

    Each sample that the network has right is attacked alone, and every point at which the attack asks the network is
    looked at. What counts as an iteration is a pass with gradients, or any pass for an attack that takes none.

    ``silent_success``: an adversarial was met (within the budget, or at a norm at least 5 % below what is returned),
    and what is returned is none or farther. ``incomplete_optimization``: the least margin met still fell by more than
    5 % of its whole fall within the last 10 iterations, where the attack failed; of a minimum-norm attack, the least
    epsilon met fell by more than 5 %. An attack whose steps fade to nothing always looks converged: compare it with
    one that takes more steps, too. ``unconstrained_attack_failure``: a minimum-norm attack, or ``unlimited``, ends
    without an adversarial. ``transfer_failure``: what fools the surrogate does not fool the network.

    Parameters
    ----------
    model : callable
        Takes inputs (N, C, H, W) in [0, 1] to logits (N, K).
    inputs, labels, sample_ids : Tensor
        (N, C, H, W) in [0, 1]; (N,) true classes; (N,) ids. A dozen samples are enough.
    attack : callable
        ``attack(model, inputs, labels, sample_ids)``, an `Attack` or any function that returns points (N, C, H, W).
    norm : {"l0", "l1", "l2", "linf"}
        The norm of the attack.
    budget : float, optional
        That of a fixed-budget attack; without it the attack is taken for a minimum-norm one.
    surrogate : callable, optional
        The network that was really attacked, where it was another: one that can be differentiated, say.
    unlimited : callable, optional
        A fixed-budget attack with the whole box for a budget.

    Returns
    -------
    tuple of Finding
        One for each indicator that could be had, raised or not.

    Raises
    ------
    InputError
        For an unknown norm or a budget that is no positive number.

    Examples
    --------
    >>> from thinice.attacks import make_attack
    >>> def half_space(inputs):
    ...     total = inputs.flatten(1).sum(1, keepdim=True)
    ...     return torch.cat([1 - total, total - 1], 1)
    >>> findings = check_attack(
    ...     half_space, torch.tensor([[[[0.2, 0.4]]]]), torch.tensor([0]), torch.tensor([7]),
    ...     make_attack("fmn", norm="l2"), norm="l2",
    ... )
    >>> [(finding.check, finding.count) for finding in findings]
    [('silent_success', 0), ('incomplete_optimization', 0), ('unconstrained_attack_failure', 0)]

    """
    if norm not in NORMS:
        raise InputError(f"`norm` must be one of {', '.join(NORMS)}, got {norm!r}")
    if budget is not None and not 0 < budget < float("inf"):
        raise InputError(f"`budget` must be a positive number, got {budget!r}")
    inputs = inputs.detach().to(torch.float32).contiguous()
    with exact(inputs.device):
        right = (predict(model, inputs) == labels).nonzero().squeeze(1)
        ids = sample_ids[right].cpu()
        samples = [_Sample(inputs[k : k + 1], labels[k : k + 1], sample_ids[k : k + 1], norm, budget) for k in right]
        courses = [_watch(model, sample, attack) for sample in samples]
        findings = [
            finding("silent_success", _flags(course.silent for course in courses), ids),
            finding("incomplete_optimization", _flags(course.incomplete for course in courses), ids),
        ]
        if budget is None:
            failed = _flags(course.returned == torch.inf for course in courses)
            findings.append(finding("unconstrained_attack_failure", failed, ids))
        elif unlimited is not None:
            anywhere = [replace(sample, budget=None) for sample in samples]
            lengths = [_returned(model, sample, unlimited(model, *sample.arguments)) for sample in anywhere]
            failed = _flags(length == torch.inf for length in lengths)
            findings.append(finding("unconstrained_attack_failure", failed, ids))
        if surrogate is not None:
            findings.append(_transfer(model, surrogate, samples, attack))
    return tuple(findings)


def black_box_stronger(
    sample_ids: Sequence[int], broken_by: Sequence[str | None], black_box: Iterable[str] = ("square",)
) -> Finding:
    """Return which samples an attack without gradients broke that had withstood all others.

    Parameters
    ----------
    sample_ids : sequence of int
        (N,) the samples attacked, by one attack after the other.
    broken_by : sequence of str or None
        (N,) the attack that broke each, None where none did.
    black_box : iterable of str
        The attacks without gradients, which came last.

    Examples
    --------
    >>> black_box_stronger([5, 6, 7], ["apgd-ce", "square", None]).samples
    (6,)

    """
    names = set(black_box)
    broken_by_black_box = torch.tensor([attack in names for attack in broken_by], dtype=torch.bool)
    return finding("black_box_stronger", broken_by_black_box, torch.as_tensor(sample_ids, dtype=torch.int64))


@dataclass(frozen=True, slots=True)
class _Sample:
    """One sample, and what is asked of an attack on it."""

    inputs: Tensor  # (1, C, H, W)
    labels: Tensor  # (1,)
    sample_ids: Tensor  # (1,)
    norm: Norm
    budget: float | None

    @property
    def arguments(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.inputs.clone(), self.labels, self.sample_ids

    def length(self, points: Tensor) -> Tensor:
        """Return the length of each perturbation (R,), in double precision."""
        return NORM_TABLE[self.norm].length(points.double() - self.inputs.double())

    def allows(self, points: Tensor) -> Tensor:
        """Return which points (R, ...) lie in the box and within the budget."""
        inside = ((points >= 0) & (points <= 1)).flatten(1).all(1)
        return inside if self.budget is None else inside & (self.length(points) <= self.budget * (1 + 1e-5))

    def reach(self, points: Tensor, logits: Tensor) -> Tensor:
        """Return the length of each perturbation (R,) that is allowed and fools, infinity for the others.

        A margin of a hair does not fool: another forward pass may disagree.
        """
        margins = margin(logits, self.labels.expand(len(logits)))
        fools = margins < -1e-5 * (1 + logits.abs().amax(1))
        return torch.where(fools & self.allows(points), self.length(points), torch.inf)


@dataclass(frozen=True, slots=True)
class _Course:
    """The course of an attack on one sample, and how it ended."""

    margins: list[float]  # the least margin met so far, after each iteration
    reaches: list[float]  # the least length of an allowed adversarial met so far
    nearest: float  # the least length met in any pass, with gradients or without
    returned: float  # the length of what it returned, infinity if that is no adversarial
    budget: float | None

    @property
    def silent(self) -> bool:
        """An adversarial was met, and none is returned, or one that is farther than it need be."""
        if self.budget is None:
            return self.nearest < self.returned * (1 - GAIN)
        return self.nearest < torch.inf == self.returned

    @property
    def incomplete(self) -> bool:
        """The last iterations still gained something."""
        late = max(1, min(LATE, len(self.margins) // 4))
        if len(self.margins) <= late:
            return False
        if self.budget is None:
            return self.reaches[-1] < torch.inf and self.reaches[-1 - late] > self.reaches[-1] * (1 + GAIN)
        fall = self.margins[0] - self.margins[-1]
        return self.returned == torch.inf and self.margins[-1 - late] - self.margins[-1] > GAIN * fall


Pass = tuple[bool, float, float]
"""Whether with gradients, the least margin, and the least length of those that fool."""


class _Watched(Onlooker):
    """A network that takes down what it is asked about one sample."""

    def __init__(self, model: Model, sample: _Sample, passes: list[Pass]) -> None:
        super().__init__(model)
        self.sample, self.passes = sample, passes

    def over(self, model: Model) -> _Watched:
        """Return another form of the network, whose passes are taken down with these."""
        return _Watched(model, self.sample, self.passes).eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits."""
        with_gradients, points = torch.is_grad_enabled() and inputs.requires_grad, inputs.detach().clone()
        logits = self.model(inputs)
        values = logits.detach()
        margins = margin(values, self.sample.labels.expand(len(values))).nan_to_num(nan=torch.inf)
        self.passes.append((with_gradients, margins.min().item(), self.sample.reach(points, values).min().item()))
        return logits


def _watch(model: Model, sample: _Sample, attack: AnyAttack) -> _Course:
    watched = _Watched(model, sample, []).eval()
    result = attack(watched, *sample.arguments)
    iterations = [passed for passed in watched.passes if passed[0]] or watched.passes
    return _Course(
        margins=list(accumulate((least for _, least, _ in iterations), min)),
        reaches=list(accumulate((reach for _, _, reach in iterations), min)),
        nearest=min((reach for _, _, reach in watched.passes), default=torch.inf),
        returned=_returned(model, sample, result),
        budget=sample.budget,
    )


def _returned(model: Model, sample: _Sample, result: Tensor | MinNormResult) -> float:
    """Return the length of what an attack returned, infinity where it is no adversarial."""
    points = (result.adversarials if isinstance(result, MinNormResult) else result).detach().to(torch.float32)
    prediction = predict(model, points)
    fools = (prediction != sample.labels) & (prediction >= 0)
    return torch.where(fools & sample.allows(points), sample.length(points), torch.inf).item()


def _transfer(model: Model, surrogate: Model, samples: Sequence[_Sample], attack: AnyAttack) -> Finding:
    """Return for which samples what fools the surrogate does not fool the network."""
    results = [(sample, attack(surrogate, *sample.arguments)) for sample in samples]
    fooled = [(sample, result) for sample, result in results if _returned(surrogate, sample, result) < torch.inf]
    unmoved = _flags(_returned(model, sample, result) == torch.inf for sample, result in fooled)
    ids = [sample.sample_ids.item() for sample, _ in fooled]
    return finding("transfer_failure", unmoved, torch.tensor(ids, dtype=torch.int64))


def _flags(values: Iterable[bool]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.bool)
