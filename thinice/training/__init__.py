"""Training: a network, samples, a recipe and an objective in; the trained network and its history out."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from thinice.data import Samples
from thinice.errors import InputError, TrainingWarning
from thinice.models.weights import Masks
from thinice.numerics import global_stream, stream
from thinice.training.average import WeightAverage, copied
from thinice.training.checking import accuracy_and_loss, drawn, held_out, robust_accuracy
from thinice.training.dynamics import Dynamics, SampleDynamics
from thinice.training.history import Epoch, History, best_epoch, out_of_patience, reductions
from thinice.training.loop import (
    Batch,
    HeldMasks,
    Hook,
    Losses,
    Objective,
    Threat,
    accuracy,
    random_flip,
    random_shift,
    run_epoch,
)
from thinice.training.objectives import OBJECTIVES
from thinice.training.passes import Feed, laid_out
from thinice.training.perturbation import WeightPerturbation
from thinice.training.presets import RECIPES, Plan, preset
from thinice.training.recipe import OPTIMIZERS, SCHEDULES, Recipe
from thinice.training.snapshot import read_snapshot, snapshot_key, write_snapshot

if TYPE_CHECKING:
    from os import PathLike

    from torch import Tensor

__all__ = [
    "OBJECTIVES",
    "OPTIMIZERS",
    "RECIPES",
    "SCHEDULES",
    "Batch",
    "Dynamics",
    "Epoch",
    "History",
    "Hook",
    "Losses",
    "Masks",
    "Objective",
    "Plan",
    "Recipe",
    "Threat",
    "accuracy",
    "check_choice",
    "preset",
    "random_flip",
    "random_shift",
    "stream",
    "train",
]


def check_choice(recipe: Recipe, objective: Objective, *, holds_out: bool) -> None:
    """Raise InputError where the recipe lets decide what is not there: which epoch is kept, and when training ends.

    Parameters
    ----------
    recipe, objective
        Of the training.
    holds_out : bool
        Whether some samples are not trained on.

    Raises
    ------
    InputError
        Where the recipe looks at samples that are not trained on, and there are none; or at their robust accuracy,
        under an objective without attack.

    """
    if recipe.select == "robust" and objective.threat() is None:
        raise InputError(
            "`select` 'robust' needs an objective that attacks, such as pgd or trades: give one, or `select` "
            "'accuracy', 'loss' or 'last'"
        )
    asking = {
        "select": recipe.select != "last",
        "patience": recipe.patience is not None,
        "schedule": recipe.schedule == "plateau",
    }
    name = next((name for name, asks in asking.items() if asks), None)
    if name is not None and not holds_out:
        raise InputError(
            f"`{name}` {getattr(recipe, name)!r} needs samples that are not trained on: give `held_out`, such as "
            f"0.1, or {'leave it out' if name == 'patience' else 'choose another'}"
        )


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
    overwrite: bool = False,
) -> History:
    """Return one row an epoch after training a network in place, on the device it is on; it is left in eval mode.

    Where the recipe selects an epoch, it has that one's weights in the end, else the last one's.

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
        Measured after every epoch, in place of the part that the recipe holds out of the samples; the recipe may let
        it choose the epoch, so never give test samples then.
    progress : callable, optional
        Called with each `Epoch`. Where it has a method ``step``, that is called after each step, with the number of the
        epoch, the steps of it that are done, and how many it has.
    resume : path, optional
        A file that is written after every epoch. Where it exists, training goes on after its last epoch, with
        the same result as an undisturbed run, to the bit on a CPU.
    overwrite : bool
        Where `resume` belongs to another training, remove it and begin, instead of refusing.

    Warns
    -----
    TrainingWarning
        Where the last epoch spoilt the network (catastrophic overfitting), and training went back before it.

    Raises
    ------
    InputError
        For samples that do not fit, a module without trainable parameters, an unknown objective, or a loss that is
        not finite: then the network has the weights of the last good epoch.
    CheckpointError
        Where `resume` belongs to another training (recipe, objective, hooks, masks, samples or network differ: the
        message names which) or is not a snapshot; or it cannot be written, after which the last one is still there.

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
    path = None if resume is None else Path(resume)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    with laid_out(module, recipe, _device(module)) as passes:
        training = _Training(module, samples, recipe, passes=passes, objective=objective, masks=masks, hooks=hooks)
        return training.run(validation, path, progress, overwrite=overwrite)


class _Training:
    """A training in progress: what takes part, what was measured, and the weights to end with."""

    def __init__(
        self,
        module: nn.Module,
        samples: Samples,
        recipe: Recipe,
        *,
        passes: nn.Module,
        objective: Objective,
        masks: Masks | None,
        hooks: Sequence[Hook],
    ) -> None:
        self.module, self.samples, self.recipe, self.passes = module, samples, recipe, passes
        self.objective, self.masks, self.hooks = objective, masks, hooks
        self.average = WeightAverage(recipe.average) if recipe.average else None
        self.history: list[Epoch] = []
        self.final: dict[str, Tensor] | None = None
        """The state to end with, where it is not that of the last epoch."""

    def run(
        self,
        validation: Samples | None,
        path: Path | None,
        progress: Callable[[Epoch], object] | None,
        *,
        overwrite: bool,
    ) -> History:
        """Return the history after the last epoch."""
        module, recipe, objective, samples = self.module, self.recipe, self.objective, self.samples
        fitted, chooses = samples, validation
        if validation is None and recipe.held_out:
            fitted, chooses = held_out(samples, recipe.held_out)
        check_choice(recipe, self.objective, holds_out=chooses is not None)
        device = _device(module)
        feed = Feed(fitted, device)
        choosing = None if chooses is None else Feed(chooses, device)
        checked = Feed(drawn(fitted if chooses is None else chooses, recipe.check_samples), device)
        dynamics = SampleDynamics(fitted.sample_ids)
        takes_part: list[Hook] = [*self.hooks, *([] if self.masks is None else [HeldMasks(self.masks)])]
        takes_part += [WeightPerturbation(recipe.awp, recipe.awp_warmup)] if recipe.awp else []
        takes_part += [dynamics, *([] if self.average is None else [self.average])]
        with global_stream(device, recipe.seed, "prepare"):
            for hook in takes_part:
                hook.prepare(module)
        optimizer = _optimizer(module, takes_part, recipe)
        key = None
        if path is not None:
            key = snapshot_key(
                module, samples, recipe, objective=objective, masks=self.masks, hooks=self.hooks, validation=validation
            )
            self.history, self.final = read_snapshot(path, key, module, optimizer, takes_part, overwrite=overwrite)
        last_good = self._measured_state()
        while not self._ended(len(checked)):
            start, number = time.monotonic(), len(self.history) + 1
            lowered_rate = reductions(self.history, recipe)
            loss, correct = run_epoch(
                module,
                feed,
                recipe,
                passes=self.passes,
                objective=objective,
                hooks=takes_part,
                optimizer=optimizer,
                number=number,
                reductions=lowered_rate,
                after_step=getattr(progress, "step", None),
            )
            if not math.isfinite(loss) or not _is_finite(self._measured_state()):
                what = "a weight is not finite" if math.isfinite(loss) else f"the loss is {loss}"
                module.load_state_dict(last_good if self.final is None else self.final)
                module.eval()
                raise InputError(
                    f"{what} in epoch {number}: choose a `learning_rate` below {recipe.learning_rate}; the "
                    f"network has the weights {self._origin(self._chosen(len(checked)))}"
                )
            rate = float(recipe.rate((number - 1) / recipe.epochs, lowered_rate))
            with nullcontext() if self.average is None else self.average.in_force(module):
                validation_accuracy, validation_loss = (
                    (None, None) if choosing is None else accuracy_and_loss(self.passes, choosing)
                )
                threat = objective.threat()
                robust = None if threat is None else robust_accuracy(self.passes, checked, threat, recipe.seed)
            seconds = time.monotonic() - start
            self.history.append(
                Epoch(number, rate, loss, correct, validation_accuracy, seconds, validation_loss, robust)
            )
            if objective.spoilt(self.history, len(checked)) is not None:
                self.final = last_good if self.final is None else self.final
            elif recipe.select != "last" and best_epoch(self.history, recipe.select) == number:
                self.final = self._measured_state()
            last_good = self._measured_state()
            if path is not None and key is not None:
                write_snapshot(path, key, module, optimizer, hooks=takes_part, history=self.history, final=self.final)
            if progress is not None:
                progress(self.history[-1])
        module.load_state_dict(last_good if self.final is None else self.final)
        module.eval()
        notes = self._notes(len(checked))
        return History(self.history, chosen=self._chosen(len(checked)), notes=notes, dynamics=dynamics.result())

    def _measured_state(self) -> dict[str, Tensor]:
        """Return a copy of the state that is measured: the average of the weights where there is one."""
        if self.average is None:
            return copied(self.module)
        return {name: value.clone() for name, value in self.average.values.items()}

    def _ended(self, samples: int) -> bool:
        if len(self.history) >= self.recipe.epochs or out_of_patience(self.history, self.recipe):
            return True
        return self.objective.spoilt(self.history, samples) is not None

    def _chosen(self, samples: int) -> int:
        """Return the number of the epoch whose weights the network ends with."""
        spoilt = self.objective.spoilt(self.history, samples) is not None
        good = self.history[:-1] if spoilt else self.history
        if not good or self.recipe.select == "last":
            return len(good)
        return best_epoch(good, self.recipe.select)

    def _origin(self, chosen: int) -> str:
        return f"of epoch {chosen}" if chosen else "it had before"

    def _notes(self, samples: int) -> list[str]:
        """Return why training ended early, and warn where the last epoch spoilt the network."""
        number, chosen = len(self.history), self._chosen(samples)
        reason = self.objective.spoilt(self.history, samples)
        if reason is not None:
            note = (
                f"{reason} in epoch {number}: training ended, and the network has the weights {self._origin(chosen)}; "
                "a smaller `budget` or `learning_rate` avoids it, and so does objective 'pgd'"
            )
            warnings.warn(note, TrainingWarning, stacklevel=4)
            return [note]
        if number < self.recipe.epochs:
            best = best_epoch(self.history, self.recipe.select)
            return [f"training ended after epoch {number}, {self.recipe.patience} after the best one, {best}"]
        return []


def _optimizer(module: nn.Module, hooks: Sequence[Hook], recipe: Recipe) -> torch.optim.Optimizer:
    """Return what trains what needs a gradient in the module, by name, then what the hooks train, each once."""
    own = [parameter for _, parameter in sorted(module.named_parameters())]
    candidates = [*own, *(parameter for hook in hooks for parameter in hook.parameters())]
    trained = list({id(parameter): parameter for parameter in candidates if parameter.requires_grad}.values())
    if not trained:
        raise InputError("`module` has nothing to train: call module.requires_grad_() first")
    return OPTIMIZERS.get(recipe.optimizer)(trained, recipe)


def _is_finite(state: Mapping[str, Tensor]) -> bool:
    """Return whether all numbers of a state are finite: the last step of an epoch has no loss after it."""
    return all(bool(value.isfinite().all()) for value in state.values() if value.is_floating_point())


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
