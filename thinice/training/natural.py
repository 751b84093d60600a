"""Natural training: cross-entropy on the samples as they are, repeatable, and resumable by the epoch."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from thinice.errors import InputError
from thinice.training.augmentation import random_flip, random_shift
from thinice.training.snapshot import Epoch, read_snapshot, write_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from thinice.datasets import LazyInputs
    from thinice.training.recipe import Recipe

__all__ = ["Constraint", "accuracy", "fit"]


class Constraint(Protocol):
    """What must hold after every step; `thinice.pruning.Masks` are one."""

    def apply_(self, module: nn.Module) -> None:
        """Make it hold, in place."""
        ...


def fit(
    module: nn.Module,
    inputs: Tensor | LazyInputs,
    labels: Tensor,
    recipe: Recipe,
    *,
    masks: Constraint | None = None,
    validation: tuple[Tensor | LazyInputs, Tensor] | None = None,
    progress: Callable[[Epoch], object] | None = None,
    resume: Path | None = None,
) -> tuple[Epoch, ...]:
    """Train a network in place, on the device it is on, and return one row an epoch; it is left in eval mode.

    Parameters
    ----------
    module : nn.Module
        Takes inputs in [0, 1], returns logits. Parameters that need no gradient stay as they are.
    inputs, labels : Tensor
        (N, C, H, W) float32 in [0, 1], and (N,) int64.
    recipe : Recipe
        The same recipe repeats the weights on the same machine with the same number of threads. The caller's
        random state is not touched.
    masks : Masks, optional
        Enforced before the first step and after every one: what is not kept stays zero.
    validation : (inputs, labels), optional
        Measured after every epoch; nothing is chosen by it.
    progress : callable, optional
        Called with each `Epoch`.
    resume : Path, optional
        A file that is written after every epoch. Where it exists, training goes on after its last epoch, with
        the same result as an undisturbed run.

    Raises
    ------
    InputError
        For labels that do not fit, a module without trainable parameters, or a loss that is not finite.
    CheckpointError
        Where `resume` belongs to another training.

    Examples
    --------
    >>> import torch
    >>> from thinice.training import Recipe
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> inputs = torch.rand(64, 1, 2, 2)
    >>> history = fit(network, inputs, (inputs.mean((1, 2, 3)) > 0.5).long(), Recipe(epochs=20))
    >>> len(history), history[-1].loss < history[0].loss
    (20, True)

    """
    if len(labels) != len(inputs) or len(labels) == 0:
        raise InputError(f"`labels` must be one for each of the {len(inputs)} inputs, got {len(labels)}")
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError("`module` has nothing to train: call module.requires_grad_() first")
    optimizer = torch.optim.SGD(
        trained,
        recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
    )
    history = [] if resume is None else read_snapshot(resume, recipe, len(labels), module, optimizer)
    if masks is not None:
        masks.apply_(module)
    for number in range(len(history) + 1, recipe.epochs + 1):
        start = time.monotonic()
        loss, correct = _one_pass(module, inputs, labels, recipe, optimizer=optimizer, masks=masks, number=number)
        if not math.isfinite(loss):
            raise InputError(
                f"the loss is {loss} in epoch {number}: choose a `learning_rate` below {recipe.learning_rate}"
            )
        judged = None if validation is None else accuracy(module, *validation)
        rate = recipe.rate((number - 1) / recipe.epochs)
        history.append(Epoch(number, rate, loss, correct, judged, time.monotonic() - start))
        if resume is not None:
            write_snapshot(resume, recipe, len(labels), module, optimizer, history=history)
        if progress is not None:
            progress(history[-1])
    module.eval()
    return tuple(history)


def _one_pass(
    module: nn.Module,
    inputs: Tensor | LazyInputs,
    labels: Tensor,
    recipe: Recipe,
    *,
    optimizer: torch.optim.Optimizer,
    masks: Constraint | None,
    number: int,
) -> tuple[float, float]:
    """Return mean loss and accuracy of one epoch; its random numbers depend on seed and number alone."""
    where = optimizer.param_groups[0]["params"][0].device
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    loss_sum, correct = torch.zeros((), device=where), torch.zeros((), device=where)
    seed = recipe.seed * 1_000_003 + number
    generator = torch.Generator().manual_seed(seed)
    batches = torch.split(torch.randperm(len(labels), generator=generator), recipe.batch_size)
    module.train()
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(seed)  # of dropout, which knows no generator
        for step, index in enumerate(batches):
            batch, truth = inputs[index].to(where), labels[index].to(where)
            if recipe.shift:
                batch = random_shift(batch, recipe.shift, generator)
            if recipe.flip:
                batch = random_flip(batch, generator)
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate((number - 1 + step / len(batches)) / recipe.epochs)
            logits = module(batch)
            loss = criterion(logits, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if masks is not None:
                masks.apply_(module)
            loss_sum += loss.detach() * len(index)
            correct += (logits.detach().argmax(1) == truth).sum()
    module.eval()
    return float(loss_sum) / len(labels), float(correct) / len(labels)


@torch.no_grad()
def accuracy(module: nn.Module, inputs: Tensor | LazyInputs, labels: Tensor, *, batch_size: int = 500) -> float:
    """Return the fraction of inputs whose prediction is the label, of a module in eval mode.

    Examples
    --------
    >>> import torch
    >>> accuracy(torch.nn.Flatten().eval(), torch.eye(4).reshape(4, 1, 2, 2), torch.tensor([0, 1, 2, 0]))
    0.75

    """
    if any(layer.training for layer in module.modules()):
        raise InputError("`module` is in training mode, where predictions depend on the batch: call module.eval()")
    where = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    correct = 0
    for index in torch.split(torch.arange(len(labels)), batch_size):
        correct += int((module(inputs[index].to(where)).argmax(1).cpu() == labels[index].cpu()).sum())
    return correct / len(labels)
