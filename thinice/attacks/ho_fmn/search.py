"""`ho_fmn` returns the nearest adversarials that FMN finds with this loss, optimiser and scheduler."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from thinice.attacks.boundary import Loss, MarginOracle, bisect
from thinice.attacks.result import Candidates, Model
from thinice.errors import InputError
from thinice.losses import dlr, has_gradient, margin
from thinice.norms import NORM_TABLE, NormRow
from thinice.numerics import random_directions
from thinice.types import Norm

__all__ = ["HO_FMN_LOSSES", "HO_FMN_OPTIMIZERS", "HO_FMN_SCHEDULERS", "ho_fmn"]

FINAL_GAMMA = 0.001  # where the cosine of gamma ends, as in FMN
TINY = 1e-8  # what adaptive steps are divided by at least
IMPROVED = 1e-4  # what gains less than this share does not count as progress on the plateau


def _dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the difference-of-logits ratio (N,); with two classes it is constant, and that is an error."""
    if logits.shape[1] < 3:
        raise InputError(f"`loss` 'dlr' needs at least 3 classes, got {logits.shape[1]}: take 'margin' or 'ce'")
    return dlr(logits, labels)


def _gain(logits: Tensor, labels: Tensor) -> Tensor:
    return -cross_entropy(logits, labels, reduction="none")


HO_FMN_LOSSES: Mapping[str, Loss] = MappingProxyType({"margin": margin, "dlr": _dlr, "ce": _gain})
"""What can be minimised: the margin (LL in the paper), the difference-of-logits ratio, minus the cross-entropy."""

HO_FMN_OPTIMIZERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sgd": ("momentum", "dampening", "weight_decay"),
        "nesterov": ("momentum", "weight_decay"),
        "adam": ("beta1", "beta2", "weight_decay"),
        "adamax": ("beta1", "beta2", "weight_decay"),
    }
)
"""The optimisers, and which of the settings each goes by."""

HO_FMN_SCHEDULERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"cosine": (), "plateau": ("factor", "patience"), "none": ()}
)
"""How the learning rate falls, and which settings that goes by."""


def ho_fmn(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    sample_ids: Tensor,
    *,
    norm: Norm,
    seed: int = 0,
    steps: int = 200,
    loss: str = "margin",
    optimizer: str = "sgd",
    scheduler: str = "cosine",
    learning_rate: float = 0.1,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    factor: float = 0.5,
    patience: int = 5,
    gamma: float = 0.05,
    bisections: int = 8,
) -> Candidates:
    """Return the nearest adversarial that HO-FMN finds for each sample: candidates, for `verify` to check.

    The perturbation is the parameter that the optimiser moves, and weight decay pulls it towards the clean input. The
    optimiser is given the sign of the gradient (linf), or the gradient at Euclidean length 1; then the perturbation
    is projected into the ball of its own radius, and into the box. The radius is unlimited until an adversarial has
    been met; then it shrinks by gamma at every success and grows by gamma at every failure.

    It differs from the authors' program in these points:

    1. The sign is taken in linf alone. In the program it is, in every norm.
    2. The plateau lowers the learning rate of a sample. In the program it scales the loss, which the sign undoes.
       Progress is a lower loss before the first success, and a smaller norm after it.
    3. At the first success the radius is that of the boundary on the way back, found by ``bisections`` passes, and so
       is the result at the end; else ``(1 - gamma) … (1 - gamma_K)`` of the first success is the least that there can
       be, whatever the network. 0 leaves both out.
    4. Where a gradient is 0 or no number, the step is a random one. The last iterate counts. Not found is not 0.

    All state is per sample: the result of a sample does not depend on the batch it is in, up to the noise of floats.

    Parameters
    ----------
    model : callable
        Takes inputs (N, C, H, W) in [0, 1] to logits (N, K).
    inputs, labels, sample_ids : Tensor
        (N, C, H, W) in [0, 1]; (N,) classes, correctly predicted; (N,) ids, for the random steps.
    norm : {"l0", "l1", "l2", "linf"}
        The norm to minimise.
    seed : int
        Of the random steps.
    steps : int
        Gradient steps, one forward-backward pass each.
    loss : {"margin", "dlr", "ce"}
        What is minimised.
    optimizer : {"sgd", "nesterov", "adam", "adamax"}
        What turns gradients into steps.
    scheduler : {"cosine", "plateau", "none"}
        How the learning rate falls: along a cosine to 0; by ``factor`` after more than ``patience`` steps without
        progress; not at all.
    learning_rate, momentum, dampening, weight_decay, beta1, beta2 : float
        Of the optimiser, as in torch.
    factor, patience : float, int
        Of the plateau.
    gamma : float
        The share by which the radius changes at first; it falls to 0.001 along a cosine.
    bisections : int
        Forward passes on the way back from the first success, and again at the end.

    Raises
    ------
    InputError
        For an unknown loss, optimizer or scheduler, Nesterov's without momentum, and dlr with two classes.

    Examples
    --------
    >>> from thinice.attacks import make_attack
    >>> def half_space(inputs):  # the boundary lies where the two pixels add up to 1
    ...     total = inputs.flatten(1).sum(1, keepdim=True)
    ...     return torch.cat([1 - total, total - 1], 1)
    >>> attack = make_attack("ho-fmn", norm="linf", optimizer="adam", scheduler="plateau")
    >>> nearest = attack(half_space, torch.tensor([[[[0.2, 0.4]]]]), torch.tensor([0]), torch.tensor([0]))
    >>> round(nearest.epsilon.item(), 3)
    0.2

    """
    _check("loss", loss, HO_FMN_LOSSES)
    _check("optimizer", optimizer, HO_FMN_OPTIMIZERS)
    _check("scheduler", scheduler, HO_FMN_SCHEDULERS)
    row, start = NORM_TABLE[norm], inputs.contiguous().flatten(1)
    oracle = MarginOracle.around(model, inputs.contiguous(), labels)
    longest = row.length(torch.maximum(start, 1 - start))
    delta, radius = torch.zeros_like(start), torch.full_like(longest, torch.inf)
    best, best_delta = torch.full_like(longest, torch.inf), torch.zeros_like(start)
    gradient_masked = torch.zeros_like(labels, dtype=torch.bool)
    rate = _Rate(scheduler, learning_rate, steps, factor, patience, like=longest)
    mover = _Mover(
        optimizer,
        delta,
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        betas=(beta1, beta2),
    )

    for step in range(steps):
        # 1. where the search stands; a first success is cut back to the boundary at once
        logits, value, gradient = oracle.gradient(start + delta, HO_FMN_LOSSES[loss])
        adversarial = oracle.adversarial(logits)
        first = adversarial & (best == torch.inf)
        if first.any():
            delta = _cut_back(oracle, start, delta, chosen=first, row=row, passes=bisections)
            radius = torch.where(first, row.length(delta), radius)
        length = row.length(delta)
        better = adversarial & (length < best)
        best, best_delta = torch.where(better, length, best), torch.where(better[:, None], delta, best_delta)
        if step == 0:
            gradient_masked = ~has_gradient(gradient)

        # 2. the radius: unlimited before the first success, then smaller at a success and larger at a failure
        change = FINAL_GAMMA + (gamma - FINAL_GAMMA) * _cosine(step / steps)
        radius = torch.where(best < torch.inf, _radius(radius, best, adversarial, change, norm), torch.inf)

        # 3. a step of the optimiser, back into the ball of that radius and the box
        strength = rate.now(step, torch.where(best < torch.inf, best, value), first)
        direction = _direction(gradient, row, sample_ids, seed, step)
        delta = delta + strength[:, None] * mover.step_from(delta, direction)
        delta = row.confine(delta, torch.minimum(radius, longest), start)

    # the last iterate counts as well
    adversarial, everyone = oracle.is_adversarial(start + delta), torch.ones_like(gradient_masked)
    first = adversarial & (best == torch.inf)
    delta = _cut_back(oracle, start, delta, chosen=first, row=row, passes=bisections)
    better = adversarial & (row.length(delta) < best)
    best_delta = torch.where(better[:, None], delta, best_delta)
    best_delta = _cut_back(oracle, start, best_delta, chosen=everyone, row=row, passes=bisections)
    points = (start + best_delta).clamp(0, 1).view_as(inputs)
    return Candidates(points, oracle.evaluations.float(), gradient_masked=gradient_masked)


def _cut_back(
    oracle: MarginOracle, start: Tensor, delta: Tensor, *, chosen: Tensor, row: NormRow, passes: int
) -> Tensor:
    """Return the perturbations (N, D), those chosen (N,) shortened to just beyond the boundary by bisection."""
    index = chosen.nonzero().squeeze(1)
    if not len(index) or not passes:
        return delta
    inputs, whole = start[index], delta[index]
    length = row.length(whole)

    def shortened(fraction: Tensor) -> Tensor:
        return row.project(whole, fraction * length)

    low, high = torch.zeros_like(length), torch.ones_like(length)
    fraction = bisect(oracle[index], lambda part: inputs + shortened(part), low, high, passes=passes)
    delta = delta.clone()
    delta[index] = torch.where((fraction < 1)[:, None], shortened(fraction), whole)
    return delta


class _Mover:
    """An optimiser at learning rate 1: it turns gradients (N, D) into steps, each entry by itself, as torch's does.

    torch's own would load its compiler first, which takes seconds.
    """

    def __init__(
        self,
        name: str,
        like: Tensor,
        *,
        momentum: float,
        dampening: float,
        weight_decay: float,
        betas: tuple[float, float],
    ) -> None:
        if name == "nesterov" and not momentum:
            raise InputError("`optimizer` 'nesterov' needs a `momentum` above 0, got 0: give one, or take 'sgd'")
        self.name, self.momentum, self.weight_decay, self.betas = name, momentum, weight_decay, betas
        self.dampening = dampening if name == "sgd" and momentum else 0.0
        self.first, self.second, self.steps = torch.zeros_like(like), torch.zeros_like(like), 0

    def step_from(self, delta: Tensor, direction: Tensor) -> Tensor:
        """Return the step (N, D) that lowers a loss with this gradient."""
        gradient = direction + self.weight_decay * delta
        self.steps += 1
        if self.name in {"sgd", "nesterov"}:
            share = 1.0 if self.steps == 1 else 1 - self.dampening
            self.first = self.momentum * self.first + share * gradient
            return -(gradient + self.momentum * self.first) if self.name == "nesterov" else -self.first
        beta1, beta2 = self.betas
        self.first = self.first.lerp(gradient, 1 - beta1)
        mean = self.first / (1 - beta1**self.steps)
        if self.name == "adamax":
            self.second = torch.maximum(beta2 * self.second, gradient.abs() + TINY)
            return -mean / self.second
        self.second = beta2 * self.second + (1 - beta2) * gradient**2
        return -mean / ((self.second / (1 - beta2**self.steps)).sqrt() + TINY)


class _Rate:
    """The learning rate of each sample (N,)."""

    def __init__(self, name: str, first: float, steps: int, factor: float, patience: int, *, like: Tensor) -> None:
        self.name, self.first, self.steps, self.factor, self.patience = name, first, steps, factor, patience
        self.rate, self.waited = torch.full_like(like, first), torch.zeros_like(like)
        self.lowest = torch.full_like(like, torch.inf)

    def now(self, step: int, progress: Tensor, fresh: Tensor) -> Tensor:
        """Return the rate, given what should fall (N,), and where that has just become another quantity."""
        if self.name == "cosine":
            return torch.full_like(self.rate, self.first * _cosine(step / self.steps))
        if self.name == "plateau":
            new = fresh | (self.lowest == torch.inf)
            fallen = new | (progress < self.lowest - IMPROVED * self.lowest.abs())
            self.lowest = torch.where(fallen, progress, self.lowest)
            self.waited = torch.where(fallen, 0, self.waited + 1)
            late = self.waited > self.patience
            self.rate = torch.where(late, self.rate * self.factor, self.rate)
            self.waited = torch.where(late, 0, self.waited)
        return self.rate


def _radius(radius: Tensor, best: Tensor, crossed: Tensor, change: float, norm: Norm) -> Tensor:
    """Return the radii after a success or a failure; l0 counts whole entries, and changes by at least one."""
    inside, outside = torch.minimum(radius, best), radius
    if norm == "l0":
        smaller = torch.minimum(inside - 1, (inside * (1 - change)).floor()).clamp(min=1)
        larger = torch.maximum(outside + 1, (outside * (1 + change)).floor())
    else:
        smaller, larger = (inside * (1 - change)).clamp(min=1e-6), outside * (1 + change)
    return torch.where(crossed, smaller, larger)


def _direction(gradient: Tensor, row: NormRow, sample_ids: Tensor, seed: int, step: int) -> Tensor:
    """Return the gradients in the unit of the norm; random ones where there is none, or none that is a number."""
    largest, blind = gradient.abs().amax(1, keepdim=True), ~has_gradient(gradient)
    scaled = gradient / torch.where(blind[:, None], 1, largest)  # so that squares do not underflow
    if blind.any():
        scaled[blind] = random_directions(scaled[blind], sample_ids[blind], seed).roll(step, 1)
    return scaled.sign() if row.name == "linf" else NORM_TABLE["l2"].steepest(scaled)


def _check(argument: str, value: str, choices: Mapping[str, object]) -> None:
    if value not in choices:
        raise InputError(f"`{argument}` must be one of {', '.join(choices)}, got {value!r}")


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2
