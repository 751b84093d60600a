"""AutoAttack's attacks, one by one, through the pyautoattack package; imported when one is asked for."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from thinice.attacks.external import CommonNoise, PassCounter, global_seed
from thinice.attacks.result import Candidates, Model
from thinice.attacks.rows import BudgetSearch, FixedBudgetRow
from thinice.errors import InputError, MissingExtraError
from thinice.types import Norm

__all__ = [
    "APGD_CE",
    "APGD_DLR",
    "APGD_T",
    "AUTOATTACK",
    "FAB",
    "FAB_T",
    "LEAST_CLASSES",
    "SQUARE",
    "standard",
    "targets",
]

try:
    import pyautoattack
except ImportError as error:
    raise MissingExtraError("AutoAttack (apgd, fab, square)", "autoattack") from error


NAMES: Mapping[Norm, str] = {"linf": "Linf", "l2": "L2", "l1": "L1"}
FAILURES = (AssertionError, IndexError, NotImplementedError, TypeError, ValueError, ZeroDivisionError)
LEAST_CLASSES: Mapping[str, int] = {"apgd-dlr": 3, "apgd-t": 4}
"""The losses of these compare the true class with the third best logit, and with the third and fourth best."""
SQUARE_NAME = "square"
"""The one attack without gradients."""
SMALLEST = 5
"""The first pattern of the square attack is five squares wide in l1 and l2."""


class _Perturbs(Protocol):
    """An attack of the package."""

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
    last = (SQUARE_NAME,) if norm == "linf" or min(shape[-2:]) >= SMALLEST else ()
    return ("apgd-ce", *middle, "fab-t", *last)


def targets(name: str, norm: Norm, classes: int) -> int:
    """Return how many target classes an attack tries in turn: nine (apgd-t in l1: five), or all that there are.

    >>> targets("apgd-t", "linf", 10), targets("fab-t", "linf", 3), targets("apgd-t", "l1", 10)
    (9, 2, 5)
    """
    return min(5 if norm == "l1" and name == "apgd-t" else 9, classes - 1)


def _searches(
    *names: str, norm: Norm, budget: float, seed: int, classes: int, shape: Sequence[int]
) -> tuple[BudgetSearch, ...]:
    """Return the searches of these attacks, or of the standard ensemble, with the standard version's settings."""
    return tuple(
        _search(name, norm=norm, budget=budget, seed=seed, classes=classes)
        for name in names or standard(norm, classes=classes, shape=shape)
    )


def _search(name: str, *, norm: Norm, budget: float, seed: int, classes: int) -> BudgetSearch:
    """Return the search of one attack; all samples get the same noise (`CommonNoise`)."""
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

    targeted = {f"{name.removesuffix('-t')}_targets": targets(name, norm, classes)} if name.endswith("-t") else {}
    return BudgetSearch(name=name, search=search, black_box=name == SQUARE_NAME, recorded=targeted)


def _row(*names: str) -> FixedBudgetRow:
    """Return the row of one attack; without a name, that of the standard ensemble.

    F. Croce, M. Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", ICML 2020.
    """
    recorded = {"pyautoattack": pyautoattack.__version__}
    return FixedBudgetRow(searches=partial(_searches, *names), version=1, norms=("l1", "l2", "linf"), recorded=recorded)


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
    perturbs: _Perturbs = attack
    return perturbs


def _silent() -> logging.Logger:
    """Return a logger that says nothing: the checks of an evaluation are the project's own."""
    logger = logging.Logger("thinice.autoattack")  # noqa: LOG001 (a root of its own: nobody hears it)
    logger.addHandler(logging.NullHandler())
    return logger


AUTOATTACK = _row()
APGD_CE, APGD_DLR, APGD_T = _row("apgd-ce"), _row("apgd-dlr"), _row("apgd-t")
FAB, FAB_T = _row("fab"), _row("fab-t")
SQUARE = _row(SQUARE_NAME)
"""The attacks in the registry."""
