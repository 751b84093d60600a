"""Attacks at a budget: one, or an ensemble whose later attacks only meet the samples that the earlier ones left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial

import numpy as np
import torch
from torch import Tensor

from thinice.attacks import ATTACKS, RECIPES, Attack, Nearest
from thinice.attacks.attack import Setting, precision_settings
from thinice.attacks.lost import column
from thinice.attacks.nearest import FORWARD, Claims, Model, predict
from thinice.errors import InputError
from thinice.robustness.budget import budget_value, into_ball
from thinice.types import NORMS, PRECISIONS, Norm, Outcome, Precision, Stage

__all__ = ["BUDGET_ATTACKS", "Ensemble", "is_budget_attack", "make_ensemble", "refuse_unknown"]

MEMBERS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")
BUDGET_ATTACKS = ("autoattack", *MEMBERS, "pgd")
"""The attacks at a budget by name; foolbox's go by ``foolbox:NAME``."""
RECIPE = 1
"""Raised when the same settings would give another verdict."""


@dataclass(frozen=True, slots=True)
class Member(Attack):
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
    ) -> Nearest:
        """Return who fell, judged, to adversarials within the budget."""
        return Attack.__call__(self, model, inputs, labels, sample_ids)

    def _counted(self, nearest: Nearest, inputs: Tensor) -> Nearest:
        """Return what lies within the budget: `push_out` may have gone beyond."""
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
class Ensemble:
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
    members: tuple[Member, ...]

    @property
    def attack(self) -> Attack:
        """The ensemble as the store knows it: one attack with all its settings."""
        return Attack(self.name, self.norm, self.settings, self.members[0].search)


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
        from thinice.robustness.foolbox_budget import fixed_budget_attacks  # noqa: PLC0415 (takes half a second)

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
        from thinice.robustness.foolbox_budget import fixed_budget_attacks  # noqa: PLC0415 (the same)

        known = [*foolbox_attacks(), *fixed_budget_attacks()]
        if rest in known:
            return
        close = [f"foolbox:{one}" for one in get_close_matches(rest, known, n=3, cutoff=0.4)]
    else:
        known = [*BUDGET_ATTACKS, *ATTACKS, *RECIPES]
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
) -> Ensemble:
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
        Member(
            member, norm, {"budget": radius, "seed": seed, **less}, partial(_within, search, norm=norm, budget=radius)
        )
        for member, search in searches.items()
    )
    recorded = {"budget": radius, "attacks": " ".join(searches), **bound, "seed": seed, **less, "recipe": RECIPE}
    return Ensemble(name, norm, radius, recorded, members)


Searches = dict[str, Callable[..., Claims]]


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
    from thinice.robustness import autoattack  # noqa: PLC0415 (an extra)

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
    from thinice.robustness import foolbox_budget as backend  # noqa: PLC0415 (takes half a second)

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
    search: Callable[..., Claims],
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    sample_ids: Tensor,
    *,
    norm: Norm,
    budget: float,
) -> Claims:
    """Claim what a search returns, kept to the budget, and nothing where that changes no prediction."""
    claims = search(model, inputs, labels, sample_ids)
    candidates = into_ball(inputs, claims.candidates.nan_to_num(0), norm=norm, budget=budget)
    across = predict(model, candidates)
    fallen = ((across >= 0) & (across != labels)).reshape(-1, *[1] * (inputs.dim() - 1))
    return Claims(torch.where(fallen, candidates, inputs), claims.evaluations + FORWARD)
