"""`Recipe`: how a network is trained, as a value, and the schedules of its learning rate."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

from thinice.errors import InputError
from thinice.registry import Registry, added
from thinice.types import PRECISIONS, Precision

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["OPTIMIZERS", "SCHEDULES", "SELECTIONS", "Recipe", "Selection", "constant", "one_cycle", "plateau", "step"]

SCHEDULES: Registry[Callable[..., float]] = Registry(
    "schedule",
    {
        "cosine": ("thinice.training.loop:cosine", "falls along a half cosine, from 1 to 0"),
        "constant": ("thinice.training.recipe:constant", "stays as it is"),
        "step": ("thinice.training.recipe:step", "is multiplied by `decay` at each of the `milestones`"),
        "restarts": (
            "thinice.training.recipe:restarts",
            "starts anew at each of the `milestones`, and is multiplied by `decay` after each third in between",
        ),
        "one-cycle": (
            "thinice.training.recipe:one_cycle",
            "rises for the part `warmup`, then falls to 0, both straight",
        ),
        "plateau": ("thinice.training.recipe:plateau", "is multiplied by `decay` where the held-out loss stays"),
    },
)
"""How the learning rate changes, by name: from the part of all steps that is done, in [0, 1), to its factor.

A schedule may ask by the name of an argument for `milestones`, `decay` and `warmup` of the recipe, and for
``reductions``: how often the loss on held-out samples has stayed for `plateau_patience` epochs so far.
"""

OPTIMIZERS: Registry[Callable[[Sequence[nn.Parameter], Recipe], torch.optim.Optimizer]] = Registry(
    "optimizer",
    {
        "sgd": ("thinice.training.optimizers:sgd", "stochastic gradient descent with momentum"),
        "adam": ("thinice.training.optimizers:adam", "Adam; weight decay is part of the gradient"),
        "adamw": ("thinice.training.optimizers:adamw", "Adam; weight decay is apart from the gradient"),
    },
)
"""What takes the steps, by name: a function of the parameters and the recipe."""

Selection = Literal["last", "loss", "accuracy", "robust"]
SELECTIONS: tuple[Selection, ...] = get_args(Selection)


WHOLE = {
    "epochs": (1, 10**6 + 1),
    "batch_size": (1, math.inf),
    "shift": (0, math.inf),
    "seed": (0, 2**43),
    "plateau_patience": (1, math.inf),
    "check_samples": (1, math.inf),
    "awp_warmup": (0, math.inf),
}
"""Settings that are whole numbers, the least, and what they must be below."""
FRACTIONS = {
    "momentum": 1,
    "weight_decay": math.inf,
    "warmup": 1,
    "min_learning_rate": math.inf,
    "held_out": 1,
    "average": 1,
    "awp": 1,
}
"""Settings that lie from 0 to below this."""
CHOICES = {
    "select": SELECTIONS,
    "precision": PRECISIONS,
    "nesterov": (True, False),
    "flip": (True, False),
    "compiled": (True, False),
    "channels_last": (True, False, None),
}
"""Settings that are one of a few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is trained, as a value: everything but the network, the data and the objective.

    Attributes
    ----------
    epochs : int
        Passes over the data, at most a million.
    learning_rate : float
        What the schedule's factor multiplies; with ``"cosine"``, that of the first step.
    batch_size : int
        Samples a step; the last step of an epoch takes what is left.
    optimizer : str
        A name in `OPTIMIZERS`.
    momentum, weight_decay : float
        As in torch's ``SGD``; of Adam, the momentum is the first beta.
    nesterov : bool
        Momentum that looks ahead (SGD).
    shift : int
        Augmentation: each image moves by up to so many pixels both ways.
    flip : bool
        Augmentation: each image is mirrored with chance one half.
    seed : int
        Of order, augmentation, the objective's draws and dropout, but not of the initial weights: those come with
        the network. Below 2**43.
    schedule : str
        A name in `SCHEDULES`. ``"cosine"`` falls along a half cosine, the last step's rate is almost 0 (Loshchilov and
        Hutter 2017, without restarts).
    milestones, decay : tuple of float, float
        Of ``"step"``: parts of all steps at which the rate is multiplied by `decay`; of ``"restarts"``, at which it
        starts anew. ``"plateau"`` has `decay` too.
    warmup : float
        Of ``"one-cycle"``: the part of all steps in which the rate rises.
    plateau_patience : int
        Of ``"plateau"``: epochs without a smaller loss on held-out samples before the rate falls.
    min_learning_rate : float
        Below this the rate never falls.
    held_out : float
        The part of the training samples that is not trained on, but measured after each epoch, in [0, 1): the same
        ones for every seed.
    select : {"last", "loss", "accuracy", "robust"}
        Which epoch's weights the network has in the end: the last one's, or those of the epoch that was best on the
        held-out samples by cross-entropy, accuracy or robust accuracy. Test samples never choose. Of hooks, what is in
        the network's state goes back with it, and nothing else.
    patience : int or None
        Training ends after so many epochs that were not better than the best one so far, by `select` (by the loss
        where that is ``"last"``); ``None``: it goes on to the last.
    average : float
        Decay of the exponential moving average of the weights, in [0, 1): what is measured and returned is the average
        then. 0: no average.
    awp, awp_warmup : float, int
        Adversarial weight perturbation (`thinice.training.perturbation`): its radius, as a part of the length of a
        layer's weights, 0 for none; and epochs without it before. It takes a second gradient for each step.
    check_samples : int
        How many held-out samples (where there are none: training samples) adversarial objectives attack after each
        epoch, for the robust accuracy of the curves.
    precision : {"float32", "tf32", "bf16"}
        Arithmetic of forward and backward passes: ``"bf16"`` is autocast, ``"tf32"`` for CUDA devices only. Weights
        and losses are float32 in any case.
    channels_last : bool or None
        Layout of images and kernels in memory; ``None``: channels last where it pays, which is for networks with
        convolutions of images.
    compiled : bool
        Run the network through `torch.compile`: takes a minute, pays in long runs.

    Examples
    --------
    >>> recipe = Recipe(epochs=10, learning_rate=0.2)
    >>> [round(recipe.rate(part), 3) for part in (0, 0.5, 1)]
    [0.2, 0.1, 0.0]

    """

    epochs: int
    learning_rate: float = 0.1
    batch_size: int = 128
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nesterov: bool = True
    shift: int = 0
    flip: bool = False
    seed: int = 0
    schedule: str = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    decay: float = 0.1
    warmup: float = 0.4
    plateau_patience: int = 12
    min_learning_rate: float = 0.0
    held_out: float = 0.0
    select: Selection = "last"
    patience: int | None = None
    average: float = 0.0
    awp: float = added(0.0)
    awp_warmup: int = added(0)
    check_samples: int = 300
    precision: Precision = "float32"
    channels_last: bool | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        SCHEDULES.get(self.schedule)
        OPTIMIZERS.get(self.optimizer)
        for name, (least, below) in WHOLE.items():
            _check_whole(name, getattr(self, name), least, below)
        if self.patience is not None:
            _check_whole("patience", self.patience, 1, math.inf)
        for name in ("learning_rate", "decay"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 < value < math.inf:
                raise InputError(f"`{name}` must be above 0, such as 0.1, got {value!r}")
        for name, above in FRACTIONS.items():
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value < above:
                raise InputError(f"`{name}` must lie from 0 to below {above}, got {value!r}")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"`{name}` must be one of {', '.join(map(str, allowed))}, got {getattr(self, name)!r}")
        if self.awp and self.awp_warmup >= self.epochs:
            raise InputError(
                f"`awp_warmup` {self.awp_warmup} leaves nothing of {self.epochs} epochs to perturb weights in: give a "
                "smaller one"
            )
        object.__setattr__(self, "milestones", _milestones(self.milestones))

    def rate(self, done: float, reductions: int = 0) -> float:
        """Return the learning rate when this fraction of all steps is done."""
        schedule = SCHEDULES.get(self.schedule)
        settings = {
            "milestones": self.milestones,
            "decay": self.decay,
            "warmup": self.warmup,
            "reductions": reductions,
        }
        factor = schedule(done, **{name: settings[name] for name in _settings_of(schedule)})
        return max(self.learning_rate * factor, min(self.min_learning_rate, self.learning_rate))


def _check_whole(name: str, value: object, least: int, below: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"`{name}` must be a whole number of at least {least}, got {value!r}")
    if value >= below:
        raise InputError(f"`{name}` must be a whole number below {below}, got {value!r}")


def _is_number(value: object) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, bool)


def _milestones(values: object) -> tuple[float, ...]:
    if not isinstance(values, list | tuple) or not all(_is_number(value) and 0 < value < 1 for value in values):
        raise InputError(
            f"`milestones` must be parts of all steps between 0 and 1, such as (0.5, 0.75), got {values!r}"
        )
    return tuple(float(value) for value in values)


@lru_cache(maxsize=64)
def _settings_of(schedule: Callable[..., float]) -> tuple[str, ...]:
    """Return which settings of the recipe a schedule asks for: its arguments after the first."""
    return tuple(inspect.signature(schedule).parameters)[1:]


def constant(done: float) -> float:  # noqa: ARG001 - what the others need
    """Return 1: the learning rate stays.

    Examples
    --------
    >>> constant(0.5)
    1.0

    """
    return 1.0


def step(done: float, milestones: tuple[float, ...] = (0.5, 0.75), decay: float = 0.1) -> float:
    """Return `decay` to the power of how many milestones are reached.

    Examples
    --------
    >>> [step(part, milestones=(0.5, 0.75), decay=0.5) for part in (0.4, 0.5, 0.8)]
    [1.0, 0.5, 0.25]

    """
    return float(decay ** sum(done >= milestone for milestone in milestones))


def restarts(done: float, milestones: tuple[float, ...] = (0.5, 0.75), decay: float = 0.1) -> float:
    """Return `decay` to the power of how many thirds are over since the last milestone: 0, 1 or 2.

    Examples
    --------
    >>> [round(restarts(part, milestones=(0.6,)), 2) for part in (0, 0.25, 0.5, 0.6, 0.75, 0.9)]
    [1.0, 0.1, 0.01, 1.0, 0.1, 0.01]

    """
    start = max([0.0, *(milestone for milestone in milestones if milestone <= done)])
    end = min([1.0, *(milestone for milestone in milestones if milestone > done)])
    return float(decay ** int(3 * (done - start) / (end - start) + 1e-9))


def one_cycle(done: float, warmup: float = 0.4) -> float:
    """Return a factor that rises straight from 0 to 1, and falls straight to 0 again (Smith 2017, one cycle).

    Examples
    --------
    >>> [round(one_cycle(part, warmup=0.4), 3) for part in (0, 0.2, 0.4, 0.7, 1)]
    [0.0, 0.5, 1.0, 0.5, 0.0]

    """
    return done / warmup if done < warmup else (1 - done) / (1 - warmup)


def plateau(done: float, reductions: int = 0, decay: float = 0.1) -> float:  # noqa: ARG001 - the losses decide
    """Return `decay` to the power of how often the loss on held-out samples has stayed so far.

    Examples
    --------
    >>> [plateau(0.5, reductions=times, decay=0.5) for times in (0, 1, 2)]
    [1.0, 0.5, 0.25]

    """
    return float(decay**reductions)
