"""Attacks by name, of two kinds: those that minimise a norm, and those that keep to a fixed budget.

Each attack is one file that declares, beside its function, what can be set: a `MinNormRow` or a `FixedBudgetRow`. To
add one takes that file and a line below. `make_attack` and `thinice.attacks.fixed_budget.make_ensemble` bind the
settings. Nothing is imported before it is asked for, so that help texts cost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Literal, cast, get_args

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
KINDS: tuple[Kind, ...] = get_args(Kind)

ATTACKS: Registry[MinNormRow | FixedBudgetRow | Backend] = Registry(
    "attack",
    {
        "tmn": ("thinice.attacks.tmn:ROW", "thinice's own", "minimum norm"),
        "fmn": ("thinice.attacks.fmn:ROW", "fast minimum-norm attack", "minimum norm"),
        "ho-fmn": ("thinice.attacks.ho_fmn:ROW", "FMN with settings tuned for each network", "minimum norm"),
        "cw": (
            "thinice.attacks.published:CW_ROW",
            "Carlini and Wagner in l2, as Merkle et al. set it",
            "minimum norm",
        ),
        "bb": (
            "thinice.attacks.published:BB_ROW",
            "Brendel and Bethge in l0, as Merkle et al. set it",
            "minimum norm",
        ),
        "autoattack": ("thinice.attacks.autoattack:AUTOATTACK", "the standard ensemble", "fixed budget"),
        "apgd-ce": (
            "thinice.attacks.autoattack:APGD_CE",
            "of AutoAttack: PGD with its own step sizes, cross-entropy",
            "fixed budget",
        ),
        "apgd-dlr": (
            "thinice.attacks.autoattack:APGD_DLR",
            "the same with the difference-of-logits ratio",
            "fixed budget",
        ),
        "apgd-t": (
            "thinice.attacks.autoattack:APGD_T",
            "the same towards each of the nearest classes",
            "fixed budget",
        ),
        "fab": (
            "thinice.attacks.autoattack:FAB",
            "of AutoAttack: projection onto the linearised boundary",
            "fixed budget",
        ),
        "fab-t": ("thinice.attacks.autoattack:FAB_T", "the same towards each of the nearest classes", "fixed budget"),
        "square": (
            "thinice.attacks.autoattack:SQUARE",
            "of AutoAttack: random squares, without gradients",
            "fixed budget",
        ),
        "pgd": ("thinice.attacks.pgd:ROW", "as Merkle et al. set it", "fixed budget"),
        "foolbox:NAME": ("thinice.attacks.foolbox:foolbox_row", "any attack of foolbox", "backend"),
    },
)
"""All attacks by name: where each row is, a line about it, and its `Kind`. A backend is another library: its target
turns the name after the colon into a row."""

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
    if colon and f"{prefix}:NAME" in ATTACKS:
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
    for kind in KINDS:
        if name in ATTACKS.names(kind):
            return kind
    return attack_row(name).kind
