"""Robustness at a budget: attacks that keep to a ball, alone or as an ensemble; what they claim is judged as ever."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fractions import Fraction
from functools import partial

import numpy as np
import torch
from torch import Tensor

from thinice.attacks import ATTACKS, PUBLISHED_SETTINGS, Attack, MinNormResult
from thinice.attacks.attack import Setting, precision_settings
from thinice.attacks.result import FORWARD, Candidates, Model, predict
from thinice.errors import InputError
from thinice.norms import NORM_TABLE
from thinice.numerics import column
from thinice.types import NORMS, PRECISIONS, Norm, Outcome, Precision, Stage

__all__ = [
    "BUDGET_ATTACKS",
    "LONGER",
    "AttackEnsemble",
    "budget_text",
    "budget_value",
    "into_ball",
    "is_budget_attack",
    "make_ensemble",
    "refuse_unknown",
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
    try:
        value = float(Fraction(budget.replace(" ", ""))) if isinstance(budget, str) else float(budget)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        raise InputError(f"`budget` must be a number such as 8/255 or 0.03, got {budget!r}") from None
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
    by that bit; what is longer for other reasons is shrunk (l0: left as it is, for the judge to refuse).

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


MEMBERS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")
BUDGET_ATTACKS = ("autoattack", *MEMBERS, "pgd")
"""The attacks at a budget by name; foolbox's go by ``foolbox:NAME``."""
RECIPE = 1
"""Raised when the same settings would give another verdict."""


@dataclass(frozen=True, slots=True)
class FixedBudgetAttack(Attack):
    """An attack at a budget: it searches the network itself; whom it does not break stands.

    In less than float32, whom it does not break is searched again in float32, so that nobody stands by rounding.
    """

    def __call__(
        self,
        model: Model,
        inputs: Tensor,
        labels: Tensor,
        sample_ids: Tensor,
        *,
        search_model: Model | None = None,  # noqa: ARG002 (another form would have to be searched again for who stands)
    ) -> MinNormResult:
        """Return who fell, judged, to adversarials within the budget."""
        return Attack.__call__(self, model, inputs, labels, sample_ids)

    def _counted(self, nearest: MinNormResult, inputs: Tensor) -> MinNormResult:
        """Return what lies within the budget: `nudge_across` may have gone beyond."""
        budget = float(np.float32(self.settings["budget"] or 0))
        beyond = nearest.found & (nearest.epsilon > budget)
        return replace(
            nearest,
            epsilon=nearest.epsilon.masked_fill(beyond, torch.nan),
            adversarials=torch.where(column(beyond, inputs), inputs, nearest.adversarials),
            predictions=nearest.predictions.masked_fill(beyond, -1),
            outcomes=nearest.outcomes.masked_fill(beyond, int(Outcome.NOT_FOUND)),
            converged=nearest.converged & ~beyond,
            stages=nearest.stages.masked_fill(beyond, int(Stage.NONE)),
        )


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
        Everything that changes a verdict, ready to be stored as JSON; ``attacks`` holds the members' names.
    members : tuple of Member
        Each finds adversarials within the budget, or leaves the sample standing.

    """

    name: str
    norm: Norm
    budget: float
    settings: Mapping[str, Setting]
    members: tuple[FixedBudgetAttack, ...]


def is_budget_attack(name: str) -> bool:
    """Whether a name means an attack at a budget; if not, it is one that minimises the norm (`make_attack`).

    Raises
    ------
    InputError
        For a name that is neither.

    Examples
    --------
    >>> is_budget_attack("autoattack"), is_budget_attack("fmn"), is_budget_attack("foolbox:LinfFastGradientAttack")
    (True, False, True)

    """
    prefix, separator, rest = name.partition(":")
    if separator and prefix == "foolbox":
        from thinice.attacks.pgd import fixed_budget_attacks  # noqa: PLC0415 (takes half a second)

        return rest in fixed_budget_attacks()
    if "target" in name:
        raise InputError(
            f"`attack` {name!r}: attacks here are untargeted, any other class counts; apgd-t and fab-t, also within "
            "autoattack, try the nearest classes in turn"
        )
    return name in BUDGET_ATTACKS


def refuse_unknown(name: str) -> None:
    """Refuse a name that is no attack at all, with the nearest that are.

    Raises
    ------
    InputError
        Naming the known attacks.

    Examples
    --------
    >>> refuse_unknown("autoatack")
    Traceback (most recent call last):
    ...
    thinice.errors.InputError: `attack` 'autoatack' is unknown: did you mean autoattack?

    """
    prefix, separator, rest = name.partition(":")
    if separator and prefix == "foolbox":
        from thinice.attacks.foolbox import foolbox_attacks  # noqa: PLC0415 (takes half a second)
        from thinice.attacks.pgd import fixed_budget_attacks  # noqa: PLC0415 (the same)

        known = [*foolbox_attacks(), *fixed_budget_attacks()]
        if rest in known:
            return
        close = [f"foolbox:{one}" for one in get_close_matches(rest, known, n=3, cutoff=0.4)]
    else:
        known = [*BUDGET_ATTACKS, *ATTACKS, *PUBLISHED_SETTINGS]
        if name in known:
            return
        close = get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"did you mean {', '.join(close)}?" if close else f"choose from {', '.join(known[:20])}"
    raise InputError(f"`attack` {name!r} is unknown: {hint}")


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
        ``"autoattack"``: the standard ensemble, chosen by the number of classes; one of its attacks (``"apgd-ce"``,
        ``"apgd-dlr"``, ``"apgd-t"``, ``"fab"``, ``"fab-t"``, ``"square"``); ``"pgd"``: 40 steps of a thirtieth of the
        budget from a random start, as Merkle et al. used it; or ``"foolbox:NAME"``.
    norm : {"l0", "l1", "l2", "linf"}
        Of the budget.
    budget : float or str
        The radius on the [0, 1] scale, ``8 / 255`` or ``"8/255"``.
    classes, shape
        Of the network and of one input.
    seed : int
        Of everything random.
    precision : {"float32", "tf32", "bf16"}
        Arithmetic of the search; whom it does not break is searched again in float32, which judges in any case. So it
        saves time on those that fall, and costs more on those that stand.
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
    if norm not in NORMS:
        raise InputError(f"`norm` must be one of {', '.join(NORMS)}, got {norm!r}")
    if precision not in PRECISIONS:
        raise InputError(f"`precision` must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if classes < 2:
        raise InputError(
            f"the network has {classes} output, and attacks compare the logits of classes: let it return two, "
            "torch.cat([-logit, logit], 1)"
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"`seed` must be a whole number of at least 0, got {seed!r}")
    if not is_budget_attack(name):
        known = ", ".join([*BUDGET_ATTACKS, "foolbox:NAME"])
        raise InputError(
            f"`attack` {name!r} is no attack at a budget: choose from {known}, or one that minimises the norm, "
            f"{', '.join(ATTACKS)}"
        )
    radius = budget_value(budget, norm, shape)
    if name == "pgd" or name.startswith("foolbox:"):
        searches, bound = _foolbox(name, norm, radius, settings, seed=seed)
    else:
        searches, bound = _autoattack(name, norm, radius, settings, seed=seed, classes=classes, shape=shape)
    less = precision_settings(precision)
    members = tuple(
        FixedBudgetAttack(
            member, norm, {"budget": radius, "seed": seed, **less}, partial(_within, search, norm=norm, budget=radius)
        )
        for member, search in searches.items()
    )
    recorded = {"budget": radius, "attacks": " ".join(searches), **bound, "seed": seed, **less, "recipe": RECIPE}
    return AttackEnsemble(name, norm, radius, recorded, members)


Searches = dict[str, Callable[..., Candidates]]


def _autoattack(
    name: str,
    norm: Norm,
    budget: float,
    settings: Mapping[str, Setting],
    *,
    seed: int,
    classes: int,
    shape: Sequence[int],
) -> tuple[Searches, dict[str, Setting]]:
    from thinice.attacks import autoattack  # noqa: PLC0415 (an extra)

    if settings:
        raise InputError(f"attack {name!r} has no setting {next(iter(settings))!r}: it is the standard version")
    if norm == "l0":
        raise InputError(f"attack {name!r} knows linf, l2 and l1, got `norm` 'l0': use fmn or bb, which minimise l0")
    names = autoattack.standard(norm, classes=classes, shape=shape) if name == "autoattack" else (name,)
    searches = {
        member: autoattack.member_search(member, norm=norm, budget=budget, seed=seed, classes=classes)
        for member in names
    }
    aims = {
        f"{member.removesuffix('-t')}_targets": autoattack.targets(member, norm, classes)
        for member in names
        if member.endswith("-t")
    }
    return searches, {**aims, "pyautoattack": autoattack.VERSION}


def _foolbox(
    name: str, norm: Norm, budget: float, settings: Mapping[str, Setting], *, seed: int
) -> tuple[Searches, dict[str, Setting]]:
    from thinice.attacks import pgd as backend  # noqa: PLC0415 (takes half a second)

    if name == "pgd":
        if norm not in backend.PGD:
            raise InputError("attack 'pgd' knows linf, l2 and l1, got `norm` 'l0': use fmn or bb, which minimise l0")
        known, defaults = backend.PGD[norm], backend.MERKLE_PGD
    else:
        known, defaults = name.removeprefix("foolbox:"), {}
        norms = backend.norms_of(known)
        if norm not in norms:
            raise InputError(f"attack {name!r} keeps to {', '.join(norms)}, got `norm` {norm!r}")
    offered = backend.settings_of(known)
    for setting in settings:
        if setting not in offered:
            names = ", ".join(sorted(offered)) or "none"
            raise InputError(f"attack {name!r} has no setting {setting!r}: it has {names}")
    bound = {**offered, **defaults, **settings}
    search = backend.budget_search(known, budget=budget, seed=seed, settings=bound)
    return {name: search}, {**bound, "foolbox": backend.VERSION}


def _within(
    search: Callable[..., Candidates],
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    sample_ids: Tensor,
    *,
    norm: Norm,
    budget: float,
) -> Candidates:
    """Claim what a search returns, kept to the budget, and nothing where that changes no prediction."""
    claims = search(model, inputs, labels, sample_ids)
    candidates = into_ball(inputs, claims.candidates.nan_to_num(0), norm=norm, budget=budget)
    across = predict(model, candidates)
    fallen = column((across >= 0) & (across != labels), inputs)
    return Candidates(torch.where(fallen, candidates, inputs), claims.evaluations + FORWARD)
