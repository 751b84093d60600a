"""Attacks by name, of two kinds: those that minimise a norm, and those that keep to a fixed budget.

Each attack is one file that declares, beside its function, what can be set: a `MinNormRow` or a `FixedBudgetRow`. To
add one takes that file and a line below. `make_attack` and `thinice.attacks.fixed_budget.make_ensemble` bind the
settings. Nothing is imported before it is asked for, so that help texts cost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Literal, cast

from thinice.errors import InputError
from thinice.registry import Registry

if TYPE_CHECKING:
    from thinice.attacks.attack import Attack as Attack
    from thinice.attacks.attack import make_attack as make_attack
    from thinice.attacks.result import Candidates as Candidates
    from thinice.attacks.result import MinNormResult as MinNormResult
    from thinice.attacks.result import concatenate as concatenate
    from thinice.attacks.result import verify as verify
    from thinice.attacks.rows import Backend, FixedBudgetRow, MinNormRow

__all__ = [
    "ATTACKS",
    "BACKENDS",
    "FIXED_BUDGET",
    "MINIMUM_NORM",
    "Attack",
    "Candidates",
    "Kind",
    "MinNormResult",
    "attack_kind",
    "attack_row",
    "concatenate",
    "make_attack",
    "verify",
]

Kind = Literal["minimum norm", "fixed budget"]

MINIMUM_NORM: dict[str, tuple[str | MinNormRow | FixedBudgetRow | Backend, str]] = {
    "tmn": ("thinice.attacks.tmn:ROW", "thinice's own"),
    "fmn": ("thinice.attacks.fmn:ROW", "fast minimum-norm attack"),
    "ho-fmn": ("thinice.attacks.ho_fmn:ROW", "FMN with settings tuned for each network"),
    "cw": ("thinice.attacks.published:CW_ROW", "Carlini and Wagner in l2, as Merkle et al. set it"),
    "bb": ("thinice.attacks.published:BB_ROW", "Brendel and Bethge in l0, as Merkle et al. set it"),
}
"""What searches the nearest adversarial: where each row is, and a line about it."""

FIXED_BUDGET: dict[str, tuple[str | MinNormRow | FixedBudgetRow | Backend, str]] = {
    "autoattack": ("thinice.attacks.autoattack:AUTOATTACK", "the standard ensemble"),
    "apgd-ce": ("thinice.attacks.autoattack:APGD_CE", "of AutoAttack: PGD with its own step sizes, cross-entropy"),
    "apgd-dlr": ("thinice.attacks.autoattack:APGD_DLR", "the same with the difference-of-logits ratio"),
    "apgd-t": ("thinice.attacks.autoattack:APGD_T", "the same towards each of the nearest classes"),
    "fab": ("thinice.attacks.autoattack:FAB", "of AutoAttack: projection onto the linearised boundary"),
    "fab-t": ("thinice.attacks.autoattack:FAB_T", "the same towards each of the nearest classes"),
    "square": ("thinice.attacks.autoattack:SQUARE", "of AutoAttack: random squares, without gradients"),
    "pgd": ("thinice.attacks.pgd:ROW", "as Merkle et al. set it"),
}
"""What looks for adversarials within a ball: where each row is, and a line about it."""

BACKENDS: dict[str, tuple[str | MinNormRow | FixedBudgetRow | Backend, str]] = {
    "foolbox:NAME": ("thinice.attacks.foolbox:foolbox_row", "any attack of foolbox"),
}
"""Other libraries: where a function is that turns the name after the colon into a row."""

ATTACKS: Registry[MinNormRow | FixedBudgetRow | Backend] = Registry("attack", MINIMUM_NORM | FIXED_BUDGET | BACKENDS)
"""All attacks by name."""

_HOMES = {
    "Attack": "attack",
    "Candidates": "result",
    "MinNormResult": "result",
    "concatenate": "result",
    "make_attack": "attack",
    "verify": "result",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'thinice.attacks' has no attribute {name!r}")
    value = getattr(import_module(f"thinice.attacks.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def attack_row(name: str) -> MinNormRow | FixedBudgetRow:
    """Return what can be set of an attack, and what searches; its library is imported.

    Raises
    ------
    InputError
        For an unknown name, with the nearest.
    MissingExtraError
        Where the library is not installed.

    Examples
    --------
    >>> attack_row("fmn").defaults["steps"]
    100
    >>> attack_row("fnm")
    Traceback (most recent call last):
    ...
    thinice.errors.InputError: `attack` 'fnm' is unknown: did you mean fmn?

    """
    prefix, colon, rest = str(name).partition(":")
    if colon and f"{prefix}:NAME" in BACKENDS:
        return cast("Backend", ATTACKS.get(f"{prefix}:NAME"))(rest)
    if "target" in prefix:
        raise InputError(
            f"`attack` {name!r}: attacks here are untargeted, any other class counts; apgd-t and fab-t, also within "
            "autoattack, try the nearest classes in turn"
        )
    return cast("MinNormRow | FixedBudgetRow", ATTACKS.get(name))


def attack_kind(name: str) -> Kind:
    """Return whether an attack minimises a norm or keeps to a fixed budget; only a backend's library is imported.

    Raises
    ------
    InputError
        For an unknown name, with the nearest.

    Examples
    --------
    >>> attack_kind("fmn"), attack_kind("autoattack"), attack_kind("foolbox:LinfFastGradientAttack")
    ('minimum norm', 'fixed budget', 'fixed budget')

    """
    if name in MINIMUM_NORM:
        return "minimum norm"
    return "fixed budget" if name in FIXED_BUDGET else attack_row(name).kind
