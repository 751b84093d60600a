"""`tune` returns the settings of HO-FMN with which it finds the nearest adversarials of a network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from thinice.attacks.attack import Attack
from thinice.attacks.ho_fmn.search import HO_FMN_LOSSES, HO_FMN_OPTIMIZERS, HO_FMN_SCHEDULERS, ho_fmn
from thinice.attacks.result import Model
from thinice.attacks.rows import Setting, keyword_defaults
from thinice.errors import InputError
from thinice.numerics import exact
from thinice.types import NORMS, Norm, Outcome

__all__ = ["Trial", "Tuned", "tune"]

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
