"""Attacks at a fixed budget: they look for adversarials within a ball, alone or several in turn; budgets as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor

from thinice.attacks import ATTACKS, attack_kind, attack_row
from thinice.attacks.attack import Attack, checked_choice, checked_seed, precision_settings
from thinice.attacks.result import FORWARD, Candidates, Model, predict
from thinice.attacks.rows import FixedBudgetRow, SearchFunction, Setting
from thinice.errors import InputError
from thinice.norms import NORM_TABLE
from thinice.numerics import as_number, column
from thinice.types import NORMS, PRECISIONS, Norm, Precision

__all__ = [
    "LONGER",
    "AttackEnsemble",
    "budget_text",
    "budget_value",
    "into_ball",
    "is_budget_attack",
    "make_ensemble",
]

LONGER: dict[Norm, tuple[Norm, ...]] = {
    "l0": ("l0",),
    "l1": ("l1",),
    "l2": ("l2", "l1"),
    "linf": ("linf", "l2", "l1"),
}
"""The norms whose length of a perturbation is never smaller than that of the key: within a budget in one of them is
within the same budget in the key's."""
TINY, HAIR = 1e-300, 1e-12
"""So that nothing is divided by zero, and the rounding of a sum in float64 lengthens nothing."""


def budget_value(budget: float | str, norm: Norm, shape: Sequence[int] | None = None) -> float:
    """Return a budget as a number on the [0, 1] scale, given as a number or as text such as ``"8/255"``.

    Parameters
    ----------
    budget : float or str
        The radius.
    norm : {"l0", "l1", "l2", "linf"}
        Its norm; l0 counts whole entries.
    shape : sequence of int, optional
        Of one input: no perturbation is longer than one that changes all of it from 0 to 1.

    Raises
    ------
    InputError
        For what is no number, not above 0, or longer than any perturbation: 9 where 9/255 is meant.

    Examples
    --------
    >>> budget_value("8/255", "linf") == 8 / 255
    True
    >>> budget_value(9, "linf")
    Traceback (most recent call last):
    ...
    thinice.errors.InputError: `budget` 9 is beyond any linf perturbation of inputs in [0, 1], 1: did you mean 9/255?

    """
    value = as_number(budget, "budget")
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"`budget` must be above 0 (at 0 it is the clean accuracy), got {budget}")
    if norm == "l0" and value != int(value):
        raise InputError(f"`budget` of l0 is a number of entries, a whole one, got {budget}")
    entries = math.prod(shape) if shape is not None else None
    longest = 1.0 if norm == "linf" else None if entries is None else entries**0.5 if norm == "l2" else float(entries)
    if longest is not None and value > longest:
        hint = f": did you mean {budget}/255?" if norm == "linf" and value <= 255 else ""
        message = f"`budget` {budget} is beyond any {norm} perturbation of inputs in [0, 1], {longest:.4g}{hint}"
        raise InputError(message)
    return value


def budget_text(budget: float, norm: Norm) -> str:
    """Return a budget as people write it: linf in 255ths.

    >>> budget_text(8 / 255, "linf"), budget_text(0.5, "l2"), budget_text(0.1, "linf")
    ('8/255', '0.5', '25.5/255')
    """
    return f"{budget * 255:.4g}/255" if norm == "linf" else f"{budget:.4g}"


def into_ball(inputs: Tensor, candidates: Tensor, *, norm: Norm, budget: float) -> Tensor:
    """Return the candidates moved within the budget, none longer by as much as a bit, and inside [0, 1].

    Attacks keep to ``inputs + budget`` in float32, whose rounding makes half of the entries too long. They are moved
    by that bit; what is longer for other reasons is shrunk (l0: left as it is, for verification to refuse).

    Parameters
    ----------
    inputs, candidates : Tensor
        (N, C, H, W) float32 in [0, 1].
    norm, budget
        The ball around each input.

    Examples
    --------
    >>> inputs, budget = torch.rand(4, 1, 8, 8), 8 / 255
    >>> rounded = (inputs + budget).clamp(0, 1)
    >>> inside = into_ball(inputs, rounded, norm="linf", budget=budget)
    >>> bool(((inside.double() - inputs.double()).abs() <= budget).all()), bool((inside - rounded).abs().max() < 1e-6)
    (True, True)

    """
    candidates = candidates.to(torch.float32).clamp(0, 1)
    if norm == "l0":
        return candidates
    start = inputs.double()
    if norm == "linf":
        low, high = (start - budget).float(), (start + budget).float()
        low = torch.where(start - low.double() > budget, torch.nextafter(low, torch.ones_like(low)), low)
        high = torch.where(high.double() - start > budget, torch.nextafter(high, torch.zeros_like(high)), high)
        return candidates.clamp(low, high).clamp(0, 1)
    length = NORM_TABLE[norm].length
    delta = candidates.double() - start
    scale = (budget / length(delta).clamp(min=TINY)).clamp(max=1)
    shorter = start + delta * column(scale * (1 - HAIR), delta)
    rounded = shorter.float()
    away = (rounded.double() - start).abs() > (shorter - start).abs()
    inside = torch.where(away, torch.nextafter(rounded, inputs), rounded)
    return torch.where(column(scale < 1, delta), inside, candidates)


@dataclass(frozen=True, slots=True)
class AttackEnsemble:
    """Attacks at a budget, in the order in which they try; made by `make_ensemble`.

    Attributes
    ----------
    name : str
        ``"autoattack"``, ``"pgd"``, ``"foolbox:LinfFastGradientAttack"``.
    norm, budget
        The ball around each input that all of them keep to.
    settings : mapping
        Everything that changes which samples are robust, ready to be stored as JSON; ``attacks`` holds the members'
        names.
    members : tuple of Attack
        Each finds adversarials within the budget, or leaves the sample robust.
    black_box : tuple of str
        The names of those members that work without gradients.

    """

    name: str
    norm: Norm
    budget: float
    settings: Mapping[str, Setting]
    members: tuple[Attack, ...]
    black_box: tuple[str, ...] = ()

    @property
    def precision(self) -> Precision:
        """The arithmetic that the searches may use; that of verification is always IEEE float32."""
        return cast("Precision", self.settings.get("precision", "float32"))


def is_budget_attack(name: str) -> bool:
    """Return whether a name means an attack at a fixed budget; if not, it is one that minimises the norm.

    Raises
    ------
    InputError
        For a name that is neither, with the nearest.

    Examples
    --------
    >>> is_budget_attack("autoattack"), is_budget_attack("fmn"), is_budget_attack("foolbox:LinfFastGradientAttack")
    (True, False, True)

    """
    return attack_kind(name) == "fixed budget"


def make_ensemble(
    name: str = "autoattack",
    *,
    norm: Norm = "linf",
    budget: float | str,
    classes: int,
    shape: Sequence[int],
    seed: int = 0,
    precision: Precision = "float32",
    **settings: Setting,
) -> AttackEnsemble:
    """Return an attack at a budget with all its settings bound.

    Parameters
    ----------
    name : str
        A name in `thinice.attacks.ATTACKS`, such as ``"autoattack"``: the standard ensemble, chosen by the number
        of classes; or ``"foolbox:NAME"``.
    norm : {"l0", "l1", "l2", "linf"}
        Of the budget.
    budget : float or str
        The radius on the [0, 1] scale, ``8 / 255`` or ``"8/255"``.
    classes, shape
        Of the network and of one input.
    seed : int
        Of everything random.
    precision : {"float32", "tf32", "bf16"}
        Arithmetic of the search; samples that it does not break are searched again in float32, the precision of
        verification. So it saves time on broken samples, and costs more on robust ones.
    **settings
        Of pgd and of foolbox's attacks; the standard ensemble has none.

    Raises
    ------
    InputError
        For names, norms, budgets, settings and numbers of classes that do not fit.
    MissingExtraError
        Where AutoAttack's package is not installed.

    Examples
    --------
    >>> ensemble = make_ensemble("pgd", norm="linf", budget="8/255", classes=10, shape=(1, 8, 8))
    >>> ensemble.settings["steps"], round(ensemble.settings["rel_stepsize"], 4)
    (40, 0.0333)

    """
    checked_choice("norm", norm, NORMS)
    checked_choice("precision", precision, PRECISIONS)
    if classes < 2:
        raise InputError(
            f"the network has {classes} output, and attacks compare the logits of classes: let it return two, "
            "torch.cat([-logit, logit], 1)"
        )
    checked_seed(seed)
    row = attack_row(name)
    if not isinstance(row, FixedBudgetRow):
        at_a_budget, minimum_norm = ATTACKS.names("fixed budget", "backend"), ATTACKS.names("minimum norm")
        raise InputError(
            f"`attack` {name!r} is no attack at a budget: choose from {', '.join(at_a_budget)}, or one that minimises "
            f"the norm, {', '.join(minimum_norm)}"
        )
    radius = budget_value(budget, norm, shape)
    if norm not in row.norms:
        raise InputError(
            f"attack {name!r} keeps to {', '.join(row.norms)}, got `norm` {norm!r}: choose one of them, or an attack "
            "that minimises the norm (fmn)"
        )
    for setting in settings:
        if setting not in row.defaults:
            names = ", ".join(sorted(row.defaults)) or "none"
            raise InputError(f"attack {name!r} has no setting {setting!r}: it has {names}")
    bound = {**row.defaults, **settings}
    searches = row.searches(norm=norm, budget=radius, seed=seed, classes=classes, shape=shape, **bound)
    lowered = precision_settings(precision)
    members = tuple(
        Attack(
            one.name,
            norm,
            {"budget": radius, "seed": seed, **lowered},
            partial(_within, one.search, norm=norm, budget=radius),
            radius,
        )
        for one in searches
    )
    recorded = {"budget": radius, "attacks": " ".join(one.name for one in searches), **bound}
    for one in searches:
        recorded |= one.recorded
    recorded |= {**row.recorded, "seed": seed, **lowered, "version": row.version}
    return AttackEnsemble(name, norm, radius, recorded, members, tuple(one.name for one in searches if one.black_box))


def _within(
    search: SearchFunction,
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    sample_ids: Tensor,
    *,
    norm: Norm,
    budget: float,
) -> Candidates:
    """Return the candidates of a search, moved within the budget; the inputs where that changes no prediction."""
    found = search(model, inputs, labels, sample_ids)
    candidates = into_ball(inputs, found.candidates.nan_to_num(0), norm=norm, budget=budget)
    predictions = predict(model, candidates)
    adversarial = column((predictions >= 0) & (predictions != labels), inputs)
    return Candidates(torch.where(adversarial, candidates, inputs), found.evaluations + FORWARD)
