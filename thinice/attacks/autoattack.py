"""AutoAttack's attacks, one by one, through the pyautoattack package; imported when one is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from thinice.attacks.external import CommonNoise, PassCounter, global_seed
from thinice.attacks.result import Candidates, Model
from thinice.errors import InputError, MissingExtraError
from thinice.types import Norm

__all__ = ["LEAST_CLASSES", "VERSION", "member_search", "standard", "targets"]

try:
    import pyautoattack
except ImportError as error:
    raise MissingExtraError("AutoAttack (apgd, fab, square)", "autoattack") from error


VERSION: str = pyautoattack.__version__
NAMES: Mapping[Norm, str] = {"linf": "Linf", "l2": "L2", "l1": "L1"}
FAILURES = (AssertionError, IndexError, NotImplementedError, TypeError, ValueError, ZeroDivisionError)
LEAST_CLASSES: Mapping[str, int] = {"apgd-dlr": 3, "apgd-t": 4}
"""The losses of these compare the true class with the third best logit, and with the third and fourth best."""
SMALLEST = 5
"""The first pattern of the square attack is five squares wide in l1 and l2."""


class _Perturbs(Protocol):
    """What all attacks of the package look like."""

    seed: int

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return adversarial inputs where it finds any, the inputs themselves elsewhere."""


def standard(norm: Norm, *, classes: int, shape: Sequence[int]) -> tuple[str, ...]:
    """Return the names of the standard ensemble, in its order, for so many classes and inputs of this shape.

    That is apgd-ce, apgd-t, fab-t and square. The loss of apgd-t needs four logits: with three classes apgd-dlr takes
    its place, with two nothing does. In l1 and l2, square needs inputs of at least 5 x 5.

    >>> standard("linf", classes=10, shape=(3, 32, 32))
    ('apgd-ce', 'apgd-t', 'fab-t', 'square')
    >>> standard("linf", classes=3, shape=(3, 32, 32)), standard("linf", classes=2, shape=(3, 32, 32))
    (('apgd-ce', 'apgd-dlr', 'fab-t', 'square'), ('apgd-ce', 'fab-t', 'square'))
    """
    middle = ("apgd-t",) if classes >= 4 else ("apgd-dlr",) if classes == 3 else ()
    last = ("square",) if norm == "linf" or min(shape[-2:]) >= SMALLEST else ()
    return ("apgd-ce", *middle, "fab-t", *last)


def targets(name: str, norm: Norm, classes: int) -> int:
    """Return how many target classes an attack tries in turn: nine (apgd-t in l1: five), or all that there are.

    >>> targets("apgd-t", "linf", 10), targets("fab-t", "linf", 3), targets("apgd-t", "l1", 10)
    (9, 2, 5)
    """
    return min(5 if norm == "l1" and name == "apgd-t" else 9, classes - 1)


def member_search(name: str, *, norm: Norm, budget: float, seed: int, classes: int) -> Callable[..., Candidates]:
    """Return the search of one attack of the ensemble, with the standard version's settings.

    Parameters
    ----------
    name : str
        apgd-ce, apgd-dlr, apgd-t, fab, fab-t or square.
    norm, budget
        linf, l2 or l1, and the radius.
    seed : int
        Of random starts and squares. All samples meet the same noise (`CommonNoise`).
    classes : int
        Of the network: it decides how many target classes are tried.

    Raises
    ------
    InputError
        For an attack whose loss needs more classes.

    References
    ----------
    F. Croce, M. Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", ICML 2020.

    """
    least = LEAST_CLASSES.get(name, 2)
    if classes < least:
        raise InputError(
            f"attack {name!r} needs at least {least} classes, for its loss compares so many logits, and the network "
            f"has {classes}: use autoattack, which chooses its attacks by the number of classes"
        )

    def search(model: Model, inputs: Tensor, labels: Tensor, sample_ids: Tensor) -> Candidates:  # noqa: ARG001
        network = PassCounter(model).eval()
        attack = _attack(name, network, norm=norm, budget=budget, device=inputs.device, classes=classes)
        attack.seed = seed
        with global_seed(seed, inputs.device), CommonNoise((4,)):
            try:
                candidates = attack.perturb(inputs.clone(), labels.clone())
            except FAILURES as error:
                reason = str(error).strip().split("\n")[0] or "a check of its own failed"
                message = f"attack {name!r} cannot run on these samples ({type(error).__name__}: {reason})"
                raise InputError(message) from error
        spent = network.passes_per_sample(len(inputs))
        return Candidates(candidates.detach(), torch.full((len(inputs),), spent, device=inputs.device))

    return search


def _attack(
    name: str, network: PassCounter, *, norm: Norm, budget: float, device: torch.device, classes: int
) -> _Perturbs:
    """Return an attack as the package's own standard version sets it, but for the number of targets."""
    whole = pyautoattack.AutoAttack(network, norm=NAMES[norm], eps=budget, seed=0, device=device)
    if name.startswith("apgd"):
        attack: Any = whole.apgd_targeted if name == "apgd-t" else whole.apgd
        attack.logger = _silent()
        if name == "apgd-t":
            attack.n_target_classes = targets(name, norm, classes)
        else:
            attack.loss = name.removeprefix("apgd-")
    elif name.startswith("fab"):
        attack = whole.fab
        attack.targeted = name == "fab-t"
        attack.n_target_classes = targets(name, norm, classes)
    else:
        attack = whole.square
    found: _Perturbs = attack
    return found


def _silent() -> logging.Logger:
    """Return a logger that says nothing: the checks of an evaluation are the project's own."""
    logger = logging.Logger("thinice.autoattack")  # noqa: LOG001 (a root of its own: nobody hears it)
    logger.addHandler(logging.NullHandler())
    return logger
