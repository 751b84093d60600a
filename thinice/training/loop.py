"""The one training loop: what is minimised comes as an `Objective`, what else takes part as `Hook`s."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from thinice.errors import InputError
from thinice.models.weights import Masks
from thinice.numerics import global_stream, stream
from thinice.training.passes import Passes, in_layout

if TYPE_CHECKING:
    from thinice.data import Samples
    from thinice.training.history import Epoch
    from thinice.training.passes import Feed
    from thinice.training.recipe import Recipe

__all__ = [
    "Backward",
    "BallNorm",
    "Batch",
    "HeldMasks",
    "Hook",
    "Losses",
    "Objective",
    "Threat",
    "accuracy",
    "cosine",
    "random_flip",
    "random_shift",
    "run_epoch",
]


LOOK = 50
"""Steps between two looks whether the loss is finite: on a GPU each look waits for it."""


BallNorm: TypeAlias = Literal["linf", "l2"]
"""Norms of the budgets that training knows."""


class Threat(NamedTuple):
    """What a network is to be robust at: a budget on the [0, 1] scale, and its norm."""

    norm: BallNorm
    budget: float


class Losses(NamedTuple):
    """What an objective says of a batch: ``values`` (N,), one loss a sample, and the ``logits`` (N, C) behind them.

    The logits are those that the accuracy of an epoch is read from: in adversarial training, of the crafted inputs.
    """

    values: Tensor
    logits: Tensor


class Objective(ABC):
    """What training minimises: the mean of one loss a sample.

    One file each, and one row in `thinice.training.OBJECTIVES`. Write it as a frozen dataclass: its fields are its
    settings, and snapshots tell by them whether they belong to the same training. There are two halves, so that
    whatever needs a second gradient for the same batch (weight or score perturbation) does not craft it again.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import torch
    >>> @dataclass(frozen=True)
    ... class Noisy(Objective):
    ...     scale: float = 0.1
    ...
    ...     def craft(self, model, inputs, labels, generator):
    ...         return inputs + self.scale * torch.randn(inputs.shape, generator=generator).to(inputs.device)
    ...
    ...     def losses(self, model, inputs, crafted, labels):
    ...         logits = model(crafted)
    ...         return Losses(torch.nn.functional.cross_entropy(logits, labels, reduction="none"), logits)
    >>> Noisy().losses(torch.nn.Identity(), None, torch.zeros(3, 2), torch.tensor([0, 1, 1])).values.shape
    torch.Size([3])

    """

    def craft(
        self,
        model: nn.Module,  # noqa: ARG002 - what follows are the arguments of those that craft
        inputs: Tensor,
        labels: Tensor,  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        """Return the inputs (N, C, H, W) that `losses` is to see beside the original ones; here, those themselves.

        Called once a batch, with the model in training mode; who needs eval mode sets it and sets it back. The
        generator is a CPU one, of a stream of its own in each epoch: draw on the CPU and move, or seed one of the
        device with a number of it (`thinice.training.crafting.on_device`).
        """
        return inputs

    @abstractmethod
    def losses(self, model: nn.Module, inputs: Tensor, crafted: Tensor, labels: Tensor) -> Losses:
        """Return the loss of each sample, with its graph, and the logits."""

    def threat(self) -> Threat | None:
        """Return the budget that the network is to be robust at, measured after each epoch; here, none."""
        return None

    def spoilt(self, history: Sequence[Epoch], samples: int) -> str | None:  # noqa: ARG002 - for those that watch
        """Return why the last epoch spoilt the network, so that training goes back before it and ends; here, never.

        `samples` is the number of those that robust accuracies are measured on.
        """
        return None


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch after its gradient, without graph.

    Attributes
    ----------
    sample_ids : Tensor
        (N,) int64, on the CPU: which samples these are.
    labels, losses, logits : Tensor
        (N,), (N,) and (N, C), on the device of the model: true classes, and what the objective returned.
    loss : Tensor
        (): what was minimised: the mean of the losses, weighted where hooks weigh, and all terms and penalties.

    """

    sample_ids: Tensor
    labels: Tensor
    losses: Tensor
    logits: Tensor
    loss: Tensor


Backward: TypeAlias = Callable[[], Batch]
"""Computes the gradients of one batch anew, at the model's present parameters; can be called more than once."""


class Hook:
    """What takes part in training beside objective and optimiser; each method does nothing until one is written.

    Pruning methods are hooks (`thinice.pruning.PruningMethod`); so are weights for single samples, records of
    forgetting, and perturbed gradients (AWP, S2AP). Write it as a dataclass: its fields are its settings, and
    snapshots tell by them whether they belong to the same training.

    In order: `prepare`; in each step `around_backward` (and in it `weigh`, `term`, `penalty`), the optimiser's step,
    `after_step`, `after_batch`; after the steps of an epoch `after_epoch`; then `state_dict`, for the snapshot.
    torch's global random state is a stream of its own in `prepare` and in each epoch, and the caller's afterwards.

    Examples
    --------
    Samples that were right and are wrong again (Toneva et al. 2019):

    >>> from thinice.data import load_samples
    >>> from thinice.models import build
    >>> from thinice.training import Recipe, train
    >>> class Forgetting(Hook):
    ...     def prepare(self, model):
    ...         self.right, self.events = set(), 0
    ...
    ...     def after_batch(self, batch):
    ...         right = (batch.logits.argmax(1) == batch.labels).tolist()
    ...         for number, now in zip(batch.sample_ids.tolist(), right, strict=True):
    ...             self.events += number in self.right and not now
    ...             (self.right.add if now else self.right.discard)(number)
    >>> forgetting = Forgetting()
    >>> samples = load_samples("digits", limit=100)
    >>> _ = train(build("digits_cnn"), samples, Recipe(epochs=3), hooks=[forgetting])
    >>> 0 < len(forgetting.right) <= 100
    True

    """

    def prepare(self, model: nn.Module) -> None:
        """Get ready, afresh, before the optimiser is made: freeze parameters, reparametrise layers, make duals."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return what the optimiser trains besides the parameters of the model that need a gradient."""
        return ()

    def weigh(self, sample_ids: Tensor, losses: Tensor) -> Tensor | None:  # noqa: ARG002 - what those who weigh need
        """Return (N,) factors of the losses of a batch, on their device; ``None``: all count alike."""
        return None

    def term(self, sample_ids: Tensor, inputs: Tensor, logits: Tensor) -> Tensor | None:  # noqa: ARG002 - for those with one
        """Return (N,) terms that are added to the losses of a batch, after all factors, with their graph.

        `inputs` are the samples as the epoch has augmented them, `logits` those of the objective, with their graph.
        """
        return None

    def penalty(self, model: nn.Module) -> Tensor | None:  # noqa: ARG002 - what those with a penalty need
        """Return a term () that is added to the mean loss, with its graph."""
        return None

    def around_backward(self, model: nn.Module, backward: Backward) -> Batch:  # noqa: ARG002 - for those that perturb
        """Return the batch whose gradients the optimiser shall use, after ``backward()`` computed them.

        A hook that perturbs calls it, moves parameters, calls it again and moves them back. Each call is a forward
        pass in training mode: it moves the running statistics of batch norm.
        """
        return backward()

    def after_step(self, model: nn.Module) -> None:
        """Project, or put masks in force again, after each step of the optimiser."""

    def after_batch(self, batch: Batch) -> None:
        """Take note of which samples were seen, with which loss and logits."""

    def after_epoch(self, model: nn.Module, done: float) -> None:
        """Do what is done once an epoch; ``done``, in (0, 1], is the part of all epochs that is behind."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that changed since `prepare` and is not in the model: tensors, numbers, texts, lists, dicts."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot, after `prepare`."""


@dataclass
class HeldMasks(Hook):
    """Fixed masks, in force before the first step and after every one."""

    masks: Masks

    def prepare(self, model: nn.Module) -> None:
        """Put them in force, and lay them out as the weights lie, on their device."""
        self.masks.apply_(model)
        laid = {}
        for name, weight in self.masks.fitting(model).items():
            laid[name] = torch.empty_like(weight, dtype=torch.bool, requires_grad=False).copy_(self.masks.kept[name])
        self._laid = Masks(laid)

    def after_step(self, model: nn.Module) -> None:
        """Put them in force again: momentum and weight decay moved what they hold."""
        self._laid.apply_(model)

    def after_epoch(self, model: nn.Module, done: float) -> None:  # noqa: ARG002 - the same all along
        """Put them in force again: other hooks may have moved weights."""
        self._laid.apply_(model)


@dataclass
class StartedFrom(Hook):
    """Tells snapshots apart by the network that training began with: a file holds only where its weights got to."""

    fingerprint: str


def run_epoch(
    model: nn.Module,
    feed: Feed,
    recipe: Recipe,
    *,
    passes: nn.Module,
    objective: Objective,
    hooks: Sequence[Hook],
    optimizer: torch.optim.Optimizer,
    number: int,
    reductions: int = 0,
    after_step: Callable[[int, int, int], object] | None = None,
) -> tuple[float, float]:
    """Return mean loss and accuracy of one pass over the samples; its random numbers belong to seed and number alone.

    Three streams: order and augmentation; what the objective draws; torch's global state, which dropout and
    hooks draw from. The model is left in eval mode. `passes` is the model as the objective sees it. The loss is what it
    is where it is not finite; then the epoch ends early. `after_step` gets the number,
    how many steps are done, and how many there are.
    """
    device, samples = feed.device, feed.samples
    loss_sum, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    # No two pairs of seed and epoch share this number, because a recipe has fewer epochs than its factor.
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + number)
    crafting = stream(recipe.seed, "objective", number)
    order = torch.split(torch.randperm(len(samples), generator=generator), recipe.batch_size)
    passes.train()
    if isinstance(passes, Passes):
        passes.begin_epoch()
    with global_stream(device, recipe.seed, "global", number):
        for step, (index, inputs, labels) in enumerate(feed.batches(order)):
            inputs = in_layout(_augmented(inputs, recipe, generator), passes)  # noqa: PLW2901 - the same images
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate((number - 1 + step / len(order)) / recipe.epochs, reductions)
            backward: Backward = partial(
                _backward,
                model,
                optimizer,
                objective,
                hooks,
                passes=passes,
                inputs=inputs,
                crafted=objective.craft(passes, inputs, labels, crafting),
                labels=labels,
                sample_ids=samples.sample_ids[index],
            )
            for hook in hooks:
                backward = partial(hook.around_backward, model, backward)
            batch = backward()
            optimizer.step()
            for hook in hooks:
                hook.after_step(model)
            for hook in hooks:
                hook.after_batch(batch)
            loss_sum += batch.loss * len(index)
            correct += (batch.logits.argmax(1) == labels).sum()
            if after_step is not None:
                after_step(number, step + 1, len(order))
            if step % LOOK == LOOK - 1 and not bool(loss_sum.isfinite()):
                break
        else:
            for hook in hooks:
                hook.after_epoch(model, number / recipe.epochs)
    passes.eval()
    return float(loss_sum) / len(samples), float(correct) / len(samples)


def _augmented(inputs: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    if recipe.shift:
        inputs = random_shift(inputs, recipe.shift, generator)
    return random_flip(inputs, generator) if recipe.flip else inputs


def _backward(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    hooks: Sequence[Hook],
    *,
    passes: nn.Module,
    inputs: Tensor,
    crafted: Tensor,
    labels: Tensor,
    sample_ids: Tensor,
) -> Batch:
    values, logits = objective.losses(passes, inputs, crafted, labels)
    _check_shape(values, labels.shape, f"`objective` {type(objective).__name__}", "leave the mean to the loop")
    weighted = values
    for hook in hooks:
        weights = hook.weigh(sample_ids, values.detach())
        if weights is not None:
            _check_shape(weights, labels.shape, f"`weigh` of {type(hook).__name__}", "one factor a sample")
            weighted = weighted * weights
    for hook in hooks:
        term = hook.term(sample_ids, inputs, logits)
        if term is not None:
            _check_shape(term, labels.shape, f"`term` of {type(hook).__name__}", "one number a sample")
            weighted = weighted + term
    loss = weighted.mean()
    for hook in hooks:
        penalty = hook.penalty(model)
        if penalty is not None:
            _check_shape(penalty, loss.shape, f"`penalty` of {type(hook).__name__}", "take its sum")
            loss = loss + penalty
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    return Batch(sample_ids, labels, values.detach(), logits.detach(), loss.detach())


def _check_shape(value: Tensor, shape: torch.Size, name: str, way_out: str) -> None:
    if value.shape != shape:
        raise InputError(f"{name} must return the shape {tuple(shape)}, got {tuple(value.shape)}: {way_out}")


def cosine(done: float) -> float:
    """Return the factor of the learning rate along a half cosine: 1 at the start, 0 when all is done.

    Examples
    --------
    >>> [round(cosine(part), 3) for part in (0, 0.5, 1)]
    [1.0, 0.5, 0.0]

    """
    return (1 + math.cos(math.pi * done)) / 2


@torch.no_grad()
def accuracy(module: nn.Module, samples: Samples, *, batch_size: int = 500) -> float:
    """Return the fraction of samples whose prediction is the label, of a module in eval mode.

    Raises
    ------
    InputError
        The module is in training mode.

    Examples
    --------
    >>> import torch
    >>> from thinice.data import as_samples
    >>> samples = as_samples(torch.eye(4).reshape(4, 1, 2, 2), [0, 1, 2, 0])
    >>> accuracy(torch.nn.Flatten().eval(), samples)
    0.75

    """
    if any(layer.training for layer in module.modules()):
        raise InputError("`module` is in training mode, where predictions depend on the batch: call module.eval()")
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    correct = 0
    for index in torch.split(torch.arange(len(samples)), batch_size):
        correct += int((module(samples.inputs[index].to(device)).argmax(1).cpu() == samples.labels[index]).sum())
    return correct / len(samples)


def random_shift(inputs: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Return each image (N, C, H, W) moved by up to so many pixels both ways; zeros come in at the edge.

    Examples
    --------
    >>> import torch
    >>> moved = random_shift(torch.ones(5, 1, 8, 8), 1, torch.Generator().manual_seed(0))
    >>> bool((moved.sum((1, 2, 3)) >= 49).all())
    True

    """
    count, _, height, width = inputs.shape
    corners = torch.randint(2 * pixels + 1, (2, count, 1), generator=generator)
    rows, columns = (
        (corner + torch.arange(size)).to(inputs.device) for corner, size in zip(corners, (height, width), strict=True)
    )
    padded = torch.nn.functional.pad(inputs, [pixels] * 4)
    images = torch.arange(count, device=inputs.device)
    moved = padded[images[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)
    return moved.permute(0, 3, 1, 2).contiguous()


def random_flip(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image (N, C, H, W) mirrored left to right with chance one half.

    Examples
    --------
    >>> import torch
    >>> flipped = random_flip(torch.tensor([1.0, 2.0]).expand(100, 1, 1, 2), torch.Generator().manual_seed(0))
    >>> 30 < int(flipped[:, 0, 0, 0].eq(2).sum()) < 70
    True

    """
    chosen = torch.rand(len(inputs), generator=generator) < 0.5
    return torch.where(chosen.to(inputs.device)[:, None, None, None], inputs.flip(-1), inputs)
