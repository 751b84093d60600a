"""Training: a network, samples, a recipe and an objective in; the trained network and its history out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from thinice.data import Samples
from thinice.errors import InputError
from thinice.models.weights import Masks
from thinice.numerics import global_stream, stream
from thinice.registry import Registry
from thinice.training.loop import (
    Batch,
    HeldMasks,
    Hook,
    Losses,
    Objective,
    accuracy,
    random_flip,
    random_shift,
    run_epoch,
)
from thinice.training.snapshot import Epoch, read_snapshot, snapshot_key, write_snapshot

if TYPE_CHECKING:
    from os import PathLike

__all__ = [
    "OBJECTIVES",
    "SCHEDULES",
    "Batch",
    "Epoch",
    "Hook",
    "Losses",
    "Masks",
    "Objective",
    "Recipe",
    "accuracy",
    "random_flip",
    "random_shift",
    "stream",
    "train",
]

OBJECTIVES: Registry[Callable[..., Objective]] = Registry(
    "objective",
    {
        "natural": ("thinice.training.natural:Natural", "cross-entropy on the samples as they are"),
    },
)
"""What training can minimise, by name."""

SCHEDULES: Registry[Callable[[float], float]] = Registry(
    "schedule",
    {
        "cosine": ("thinice.training.loop:cosine", "falls along a half cosine, from 1 to 0"),
    },
)
"""How the learning rate changes, by name: from the part of all steps that is done, in [0, 1), to its factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """SGD with Nesterov momentum, at a learning rate that follows a schedule.

    How a network is trained, as a value: everything but the network, the data and the objective.

    Attributes
    ----------
    epochs : int
        Passes over the data, at most a million.
    learning_rate : float
        What the schedule's factor multiplies; with ``"cosine"``, that of the first step.
    batch_size : int
        Samples a step; the last step of an epoch takes what is left.
    momentum, weight_decay : float
        As in torch's ``SGD``.
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

    Examples
    --------
    >>> recipe = Recipe(epochs=10, learning_rate=0.2)
    >>> [round(recipe.rate(part), 3) for part in (0, 0.5, 1)]
    [0.2, 0.1, 0.0]

    """

    epochs: int
    learning_rate: float = 0.1
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 5e-4
    shift: int = 0
    flip: bool = False
    seed: int = 0
    schedule: str = "cosine"

    def __post_init__(self) -> None:
        SCHEDULES.get(self.schedule)
        for name, least, below in (
            ("epochs", 1, 10**6 + 1),
            ("batch_size", 1, math.inf),
            ("shift", 0, math.inf),
            ("seed", 0, 2**43),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"`{name}` must be a whole number of at least {least}, got {value!r}")
            if value >= below:
                raise InputError(f"`{name}` must be a whole number below {below}, got {value!r}")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"`learning_rate` must be above 0, got {self.learning_rate!r}")
        for name, above in (("momentum", 1), ("weight_decay", math.inf)):
            value = getattr(self, name)
            if not 0 <= value < above:
                raise InputError(f"`{name}` must lie from 0 to below {above}, got {value!r}")

    def rate(self, done: float) -> float:
        """Return the learning rate when this fraction of all steps is done."""
        return self.learning_rate * SCHEDULES.get(self.schedule)(done)


def train(
    module: nn.Module,
    samples: Samples,
    recipe: Recipe,
    *,
    objective: str | Objective = "natural",
    masks: Masks | None = None,
    hooks: Sequence[Hook] = (),
    validation: Samples | None = None,
    progress: Callable[[Epoch], object] | None = None,
    resume: str | PathLike[str] | None = None,
) -> tuple[Epoch, ...]:
    """Return one row an epoch after training a network in place, on the device it is on; it is left in eval mode.

    Parameters
    ----------
    module : nn.Module
        Takes inputs in [0, 1], returns logits. Parameters that need no gradient stay as they are.
    samples : Samples
        What it is trained on; `thinice.as_samples` makes them out of tensors.
    recipe : Recipe
        The same recipe repeats the weights on the same machine with the same number of threads. The caller's
        random state is not touched.
    objective : str or Objective
        What is minimised: a name in `OBJECTIVES` with its default settings, or one made with others.
    masks : Masks, optional
        Enforced before the first step and after every one: what is not kept stays zero.
    hooks : sequence of Hook, optional
        What else takes part, in this order: a pruning method that searches, weights of single samples. They are
        prepared first.
    validation : Samples, optional
        Measured after every epoch; nothing is chosen by it.
    progress : callable, optional
        Called with each `Epoch`.
    resume : path, optional
        A file that is written after every epoch. Where it exists, training goes on after its last epoch, with
        the same result as an undisturbed run, to the bit on a CPU.

    Raises
    ------
    InputError
        For samples that do not fit, a module without trainable parameters, an unknown objective, or a loss that is
        not finite.
    CheckpointError
        Where `resume` belongs to another training (recipe, objective, hooks, masks, samples or network differ: the
        message names which) or is not a snapshot.

    Examples
    --------
    >>> import torch
    >>> from thinice.data import as_samples
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> inputs = torch.rand(64, 1, 2, 2)
    >>> samples = as_samples(inputs, (inputs.mean((1, 2, 3)) > 0.5).long())
    >>> history = train(network, samples, Recipe(epochs=20))
    >>> len(history), history[-1].loss < history[0].loss
    (20, True)

    """
    if not isinstance(objective, Objective):
        objective = OBJECTIVES.make(objective)
    _check_hooks(hooks)
    _check_samples(module, samples, "samples")
    if validation is not None:
        _check_samples(module, validation, "validation")
    takes_part = [*hooks] if masks is None else [*hooks, HeldMasks(masks)]
    with global_stream(_device(module), recipe.seed, "prepare"):
        for hook in takes_part:
            hook.prepare(module)
    optimizer = _optimizer(module, takes_part, recipe)
    path = None if resume is None else Path(resume)
    history: list[Epoch] = []
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        key = snapshot_key(module, samples, recipe, objective=objective, masks=masks, hooks=hooks)
        history = read_snapshot(path, key, module, optimizer, takes_part)
    for number in range(len(history) + 1, recipe.epochs + 1):
        start = time.monotonic()
        loss, correct = run_epoch(
            module, samples, recipe, objective=objective, hooks=takes_part, optimizer=optimizer, number=number
        )
        if not math.isfinite(loss):
            raise InputError(
                f"the loss is {loss} in epoch {number}: choose a `learning_rate` below {recipe.learning_rate}"
            )
        right = None if validation is None else accuracy(module, validation)
        rate = float(recipe.rate((number - 1) / recipe.epochs))
        history.append(Epoch(number, rate, loss, correct, right, time.monotonic() - start))
        if path is not None:
            write_snapshot(path, key, module, optimizer, hooks=takes_part, history=history)
        if progress is not None:
            progress(history[-1])
    module.eval()
    return tuple(history)


def _optimizer(module: nn.Module, hooks: Sequence[Hook], recipe: Recipe) -> torch.optim.Optimizer:
    """Return SGD over what needs a gradient in the module, by name, then over what the hooks train, each once."""
    own = [parameter for _, parameter in sorted(module.named_parameters())]
    candidates = [*own, *(parameter for hook in hooks for parameter in hook.parameters())]
    trained = list({id(parameter): parameter for parameter in candidates if parameter.requires_grad}.values())
    if not trained:
        raise InputError("`module` has nothing to train: call module.requires_grad_() first")
    return torch.optim.SGD(
        trained,
        recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
    )


def _device(module: nn.Module) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def _check_hooks(hooks: Sequence[object]) -> None:
    for hook in hooks:
        if not isinstance(hook, Hook):
            name = f"the class {hook.__name__}: make one of it" if isinstance(hook, type) else repr(hook)
            raise InputError(f"`hooks` must be objects of a class derived from thinice.training.Hook, got {name}")


def _check_samples(module: nn.Module, samples: object, argument: str) -> None:
    if not isinstance(samples, Samples):
        kind = type(samples).__name__
        raise InputError(f"`{argument}` must be Samples, got {kind}: thinice.as_samples(inputs, labels) makes them")
    if len(samples) == 0:
        raise InputError(f"`{argument}` must not be empty: choose at least one sample")
    module.eval()
    try:
        with torch.no_grad():
            width = module(samples.inputs[:1].to(_device(module))).shape[-1]
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"`module` cannot read `{argument}` of shape {tuple(samples.inputs.shape)}: {reason}"
        ) from error
    largest = int(samples.labels.max())
    if largest >= width:
        raise InputError(
            f"`{argument}` have labels up to {largest}, but `module` gives {width} logits: give it one for each class"
        )
