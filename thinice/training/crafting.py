"""What adversarial objectives share: projected gradient ascent within a budget, from a start of their own."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from thinice.errors import InputError
from thinice.norms import NORM_TABLE
from thinice.training.loop import BallNorm, Objective, Threat
from thinice.training.passes import evaluating, in_eval

__all__ = ["Adversarial", "Mode", "Start", "ascend", "cross_entropy_sum", "on_device", "started"]

Start: TypeAlias = Literal["uniform", "normal", "none"]
Mode: TypeAlias = Literal["train", "eval"]
NORMAL_START = 0.001
"""Standard deviation of the normal start (Zhang et al. 2019)."""


@dataclass(frozen=True, kw_only=True)
class Adversarial(Objective):
    """An objective that sees inputs crafted within a budget around the samples.

    Attributes
    ----------
    budget : float
        How far crafted inputs may be from the samples, on the [0, 1] scale; they stay in [0, 1].
    norm : {"linf", "l2"}
        Of the budget.
    steps : int
        Steps of the ascent.
    step_size : float or None
        Length of a step; ``None``: 2.5 budgets over the number of steps (Madry et al. 2018).
    start : {"uniform", "normal", "none"}
        Where the ascent begins: anywhere within the budget (a cube of its size, shrunk to the ball in l2), at the
        sample with noise of standard deviation 0.001, or at the sample itself.
    mode : {"train", "eval"}
        What batch norm and dropout do while inputs are crafted: in ``"train"``, each pass normalises by its own batch
        and moves the running statistics.

    """

    budget: float = 8 / 255
    norm: BallNorm = "linf"
    steps: int = 10
    step_size: float | None = None
    start: Start = "uniform"
    mode: Mode = "eval"

    def __post_init__(self) -> None:
        for name in ("budget", "step_size"):
            value = getattr(self, name)
            if name == "step_size" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise InputError(f"`{name}` must be a number above 0, such as 8/255, got {value!r}")
        if self.norm == "linf" and self.budget > 1:
            hint = f": did you mean {self.budget:g}/255?" if self.budget <= 255 else ""
            raise InputError(f"`budget` {self.budget:g} is beyond any linf perturbation of inputs in [0, 1]{hint}")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise InputError(f"`steps` must be a whole number of at least 1, got {self.steps!r}")
        for name, allowed in (("norm", get_args(BallNorm)), ("start", get_args(Start)), ("mode", get_args(Mode))):
            if getattr(self, name) not in allowed:
                raise InputError(f"`{name}` must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")

    @property
    def step(self) -> float:
        """The length of a step."""
        return 2.5 * self.budget / self.steps if self.step_size is None else self.step_size

    @abstractmethod
    def rising(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """Return what the ascent climbs: a function from logits of crafted inputs (N, C) to one number."""

    def craft(self, model: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the inputs at the end of the ascent."""
        points = started(inputs, self.start, self.budget, self.norm, generator)
        with evaluating(model) if self.mode == "eval" else _as_it_is():
            form = in_eval(model, inputs) if self.mode == "eval" else model
            rising = self.rising(form, inputs, labels)
            return ascend(
                lambda crafted: rising(form(crafted)),
                inputs,
                points,
                norm=self.norm,
                budget=self.budget,
                step=self.step,
                steps=self.steps,
            )

    def threat(self) -> Threat:
        """Return the budget that the network is to be robust at."""
        return Threat(self.norm, self.budget)


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


def started(inputs: Tensor, start: Start, budget: float, norm: BallNorm, generator: torch.Generator) -> Tensor:
    """Return where an ascent begins, (N, C, H, W) in [0, 1] and within the budget.

    Examples
    --------
    >>> inputs = torch.full((2, 1, 4, 4), 0.5)
    >>> points = started(inputs, "uniform", 0.1, "linf", torch.Generator().manual_seed(0))
    >>> bool(((points - inputs).abs() <= 0.1 + 1e-6).all()), bool((points != inputs).all())
    (True, True)

    """
    if start == "none":
        return inputs.clone()
    chance = on_device(generator, inputs.device)
    if start == "normal":
        noise = torch.randn(inputs.shape, generator=chance, device=inputs.device).mul_(NORMAL_START)
    else:
        noise = torch.rand(inputs.shape, generator=chance, device=inputs.device).mul_(2 * budget).sub_(budget)
    if norm == "linf" and start == "uniform":
        return (inputs + noise).clamp_(0, 1)  # in the layout of the inputs
    return inputs + NORM_TABLE[norm].confine(noise, noise.new_full((len(inputs),), budget), inputs)


def on_device(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """Return a generator of a device: the CPU one itself, or one of the device that a number of it seeds.

    Numbers that a CPU draws would keep a GPU waiting.
    """
    if device.type == "cpu":
        return generator
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.Generator(device).manual_seed(seed)


def ascend(
    value: Callable[[Tensor], Tensor],
    inputs: Tensor,
    points: Tensor,
    *,
    norm: BallNorm,
    budget: float,
    step: float,
    steps: int,
) -> Tensor:
    """Return the points after so many steps of length `step` that raise a value, each time moved back into the ball.

    Parameters
    ----------
    value : callable
        From points (N, C, H, W) to one number, the sum over the samples.
    inputs, points : Tensor
        (N, C, H, W) in [0, 1]: the centres of the balls, and where to begin.
    norm, budget
        The balls.
    step, steps
        Length and number of the steps: along the sign of the gradient in linf, along the gradient itself in l2.

    Examples
    --------
    >>> inputs = torch.tensor([[0.5, 0.5], [0.95, 0.5]])
    >>> ascend(lambda points: (points * torch.tensor([1.0, -1.0])).sum(), inputs, inputs.clone(),
    ...        norm="linf", budget=0.1, step=0.04, steps=5)
    tensor([[0.6000, 0.4000],
            [1.0000, 0.4000]])

    """
    if norm == "linf":
        low, high = (inputs - budget).clamp_(min=0), (inputs + budget).clamp_(max=1)
        for _ in range(steps):
            points = points.detach().add_(_gradient(value, points).sign_(), alpha=step).clamp_(low, high)
        return points
    row, radius = NORM_TABLE[norm], inputs.new_full((len(inputs),), budget)
    for _ in range(steps):
        moved = points.detach() + step * row.steepest(_gradient(value, points))
        points = inputs + row.confine(moved - inputs, radius, inputs)
    return points


def _gradient(value: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    points.requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(value(points), points)
    return gradient


def cross_entropy_sum(labels: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from logits (N, C) to the sum of their cross-entropies with these labels."""
    return lambda logits: functional.cross_entropy(logits, labels, reduction="sum")
