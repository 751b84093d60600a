"""FMN with a choice of loss, optimiser and scheduler, whose hyper-parameters are meant to be tuned for each network.

Mura, Floris, Scionis, Piras, Pintor, Demontis, Giacinto, Biggio, Roli: "HO-FMN: Hyperparameter optimization for fast
minimum-norm attacks", Neurocomputing 2025. `tune` searches the hyper-parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.quasirandom import SobolEngine

from thinice.attacks.attack import Attack
from thinice.attacks.boundary import Loss, MarginOracle, bisect
from thinice.attacks.result import Candidates, Model
from thinice.attacks.rows import MinNormRow, Setting, keyword_defaults
from thinice.errors import InputError
from thinice.losses import dlr, has_gradient, margin
from thinice.norms import NORM_TABLE, NormRow
from thinice.numerics import exact, random_directions
from thinice.types import NORMS, Norm, Outcome

__all__ = ["HO_FMN_LOSSES", "HO_FMN_OPTIMIZERS", "HO_FMN_SCHEDULERS", "ROW", "Trial", "Tuned", "ho_fmn", "tune"]

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


# -- tuning -----------------------------------------------------------------------------------------------------------

TUNED_RANGES: Mapping[str, tuple[float, float]] = {
    "momentum": (0.0, 0.9),
    "dampening": (0.0, 0.2),
    "weight_decay": (0.01, 1.0),
    "beta1": (0.0, 0.999),
    "beta2": (0.0, 0.999),
    "factor": (0.1, 0.5),
}
"""Where `tune` searches, evenly; the learning rate evenly in its logarithm, patience among three."""
TUNED_RATES = (8 / 255, 10.0)
TUNED_PATIENCE = (2, 5, 10)
LEAST_MOMENTUM = 1e-3
"""Nesterov's is not defined without."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration and what it reached: the median epsilon, infinity where that is of a sample not found."""

    settings: Mapping[str, Setting]
    median: float
    found: int


@dataclass(frozen=True, slots=True)
class Tuned:
    """The best settings for a network, and all that were tried; made by `tune`.

    Attributes
    ----------
    settings : mapping
        Of the best trial, for ``make_attack("ho-fmn", norm=…, steps=…, **settings)``.
    median : float
        Its median epsilon on the samples searched on, infinity where fewer than half were found.
    trials : tuple of Trial
        All of them, in the order in which they were tried.
    sample_ids : tuple of int
        The samples searched on: leave them out of the evaluation.
    evaluations : float
        Forward-backward passes spent on each of them, on average, all trials together.

    """

    settings: Mapping[str, Setting]
    median: float
    trials: tuple[Trial, ...]
    sample_ids: tuple[int, ...]
    evaluations: float


def tune(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    sample_ids: Tensor,
    *,
    norm: Norm = "linf",
    losses: Sequence[str] = ("margin",),
    optimizers: Sequence[str] = ("sgd",),
    schedulers: Sequence[str] = ("cosine",),
    trials: int = 32,
    steps: int = 100,
    seed: int = 0,
) -> Tuned:
    """Return the settings of HO-FMN with the smallest median epsilon on these samples.

    Each combination of loss, optimiser and scheduler gets ``trials`` configurations: first the defaults, so that
    tuning never loses against them here, then points of a scrambled Sobol sequence in the authors' ranges (they
    search by Gaussian processes): learning rate 8/255 to 10, momentum to 0.9, dampening to 0.2, weight decay 0.01 to
    1, both betas to 0.999, factor 0.1 to 0.5, patience 2, 5 or 10. A sample that is not found counts as infinitely
    far, one that is misclassified not at all; of equal medians the first wins. The cost is ``trials`` x ``steps``
    passes a sample and combination. As published: 32 trials of 100 steps on 64 samples, then 200 steps on others.

    The result depends on the samples, the settings and the seed alone.

    Parameters
    ----------
    model : callable
        Takes inputs (N, C, H, W) in [0, 1] to logits (N, K); in eval mode.
    inputs, labels, sample_ids : Tensor
        (N, C, H, W) in [0, 1]; (N,) true classes; (N,) ids. Samples that are not evaluated afterwards.
    norm : {"l0", "l1", "l2", "linf"}
        The norm to minimise.
    losses, optimizers, schedulers : sequence of str
        What is tried, each with each.
    trials, steps, seed : int
        Configurations for each combination; steps of each run; of the search and the attack.

    Raises
    ------
    InputError
        For unknown names, no trials, or samples none of which the network has right.

    Examples
    --------
    >>> def half_space(inputs):  # the boundary lies where the two pixels add up to 1
    ...     total = inputs.flatten(1).sum(1, keepdim=True)
    ...     return torch.cat([1 - total, total - 1], 1)
    >>> inputs = torch.tensor([[0.2, 0.4], [0.1, 0.3]]).view(2, 1, 1, 2)
    >>> tuned = tune(half_space, inputs, torch.tensor([0, 0]), torch.tensor([8, 9]), norm="l2", trials=4, steps=20)
    >>> len(tuned.trials), round(tuned.median, 2), tuned.sample_ids
    (4, 0.28, (8, 9))

    """
    if norm not in NORMS:
        raise InputError(f"`norm` must be one of {', '.join(NORMS)}, got {norm!r}")
    for name, number in (("trials", trials), ("steps", steps)):
        if number < 1:
            raise InputError(f"`{name}` must be at least 1, got {number!r}")
    done, spent = list[Trial](), 0.0
    with exact(inputs.device):
        for settings in _configurations(losses, optimizers, schedulers, trials, seed):
            keywords: dict[str, Any] = {**settings, "steps": steps, "seed": seed}
            search = partial(ho_fmn, norm=norm, **keywords)
            nearest = Attack("ho-fmn", norm, settings, search)(model, inputs, labels, sample_ids)
            right = nearest.outcomes != Outcome.MISCLASSIFIED
            if not right.any():
                raise InputError("`inputs` holds no sample that the model has right: give others to tune on")
            reached = torch.where(nearest.found, nearest.epsilon, torch.inf)[right]
            done.append(Trial(settings, reached.median().item(), int(nearest.found.sum())))
            spent += nearest.evaluations.mean().item()
    best = min(done, key=lambda trial: trial.median)
    return Tuned(best.settings, best.median, tuple(done), tuple(sample_ids.tolist()), spent)


def _configurations(
    losses: Sequence[str], optimizers: Sequence[str], schedulers: Sequence[str], trials: int, seed: int
) -> list[dict[str, Setting]]:
    """Return all settings that are tried, in order."""
    asked = (("losses", losses, HO_FMN_LOSSES), ("optimizers", optimizers, HO_FMN_OPTIMIZERS))
    for argument, names, known in (*asked, ("schedulers", schedulers, HO_FMN_SCHEDULERS)):
        if not names or not set(names) <= set(known):
            raise InputError(f"`{argument}` must be some of {', '.join(known)}, got {list(names)!r}")
    names = ("learning_rate", "patience", *TUNED_RANGES)
    engine = SobolEngine(len(names), scramble=True, seed=seed)  # type: ignore[no-untyped-call]  # torch's own
    points = engine.draw(trials, dtype=torch.float64)[: trials - 1].tolist()
    drawn = [dict(zip(names, map(_value, names, point), strict=True)) for point in points]
    default = keyword_defaults(ho_fmn, skip=("seed", "steps"))
    configurations = list[dict[str, Setting]]()
    for loss, optimizer, scheduler in product(losses, optimizers, schedulers):
        used = ("learning_rate", *HO_FMN_OPTIMIZERS[optimizer], *HO_FMN_SCHEDULERS[scheduler])
        chosen: dict[str, Setting] = {"loss": loss, "optimizer": optimizer, "scheduler": scheduler}
        for values in (default, *drawn):
            settings = chosen | {name: values[name] for name in used}
            if optimizer == "nesterov":
                settings["momentum"] = max(values["momentum"], LEAST_MOMENTUM)
            configurations.append(settings)
    return configurations


def _value(name: str, share: float) -> float | int:
    """Return the value of a setting at a share in [0, 1) of its range, to four digits."""
    if name == "patience":
        return TUNED_PATIENCE[int(share * len(TUNED_PATIENCE))]
    if name == "learning_rate":
        low, high = map(math.log, TUNED_RATES)
        value = math.exp(low + share * (high - low))
    else:
        low, high = TUNED_RANGES[name]
        value = low + share * (high - low)
    return float(f"{value:.4g}")


ROW = MinNormRow(
    search=ho_fmn,
    version=2,
    defaults=keyword_defaults(ho_fmn, skip=("seed",)),
    efforts={"quick": {"steps": 50}, "standard": {"steps": 200}, "thorough": {"steps": 1000}},
    ranges={
        "steps": (1, 10**6),
        "learning_rate": (1e-6, 1e6),
        "momentum": (0, 0.9999),
        "dampening": (0, 1),
        "weight_decay": (0, 10),
        "beta1": (0, 0.9999),
        "beta2": (0, 0.9999),
        "factor": (1e-3, 0.999),
        "patience": (0, 10**6),
        "gamma": (1e-6, 0.99),
        "bisections": (0, 100),
    },
    tune=tune,
)
"""HO-FMN in the registry."""
