"""Minimum-norm attacks: one file each, one row each in the registry; what they claim is judged before it counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from thinice.attacks.attack import Attack, AttackRow, Setting, keyword_defaults, precision_settings
from thinice.attacks.fallback import FALLBACK
from thinice.attacks.fmn import fmn
from thinice.attacks.ho_fmn import ho_fmn
from thinice.attacks.result import Candidates, MinNormResult, concatenate, verify
from thinice.attacks.tmn import TmnSettings, tmn
from thinice.attacks.tmn.settings import EFFORTS as TMN_EFFORTS
from thinice.attacks.tmn.settings import RANGES as TMN_RANGES
from thinice.attacks.tmn.settings import UNUSED as TMN_UNUSED
from thinice.errors import InputError
from thinice.types import DEFAULT_ATTACK, EFFORTS, NORMS, PRECISIONS, Effort, Norm, Precision

__all__ = [
    "ATTACKS",
    "BACKENDS",
    "PUBLISHED_SETTINGS",
    "Attack",
    "AttackRow",
    "Candidates",
    "MinNormResult",
    "concatenate",
    "make_attack",
    "verify",
]

ATTACKS: Mapping[str, AttackRow] = MappingProxyType(
    {
        "tmn": AttackRow(
            tmn,
            defaults=keyword_defaults(TmnSettings),
            efforts=TMN_EFFORTS,
            ranges=TMN_RANGES,
            idle=TMN_UNUSED,
            fixed={"recipe": 6},
        ),
        "fmn": AttackRow(
            fmn,
            defaults=keyword_defaults(fmn, skip=("seed",)),
            efforts={"quick": {"steps": 30}, "standard": {"steps": 100}, "thorough": {"steps": 1000}},
            ranges={
                "steps": (1, 10**6),
                "alpha": (1e-6, 1e6),
                "gamma": (1e-6, 0.99),
                "rivals": (0, 10**6),
                "polish": (0, 100),
            },
            fixed={"recipe": 3},
        ),
        "ho-fmn": AttackRow(
            ho_fmn,
            defaults=keyword_defaults(ho_fmn, skip=("seed",)),
            efforts={"quick": {"steps": 50}, "standard": {"steps": 200}, "thorough": {"steps": 1000}},
            ranges={
                "steps": (1, 10**6),
                "learning_rate": (1e-6, 1e6),
                "momentum": (0, 0.9999),
                "dampening": (0, 1),
                "weight_decay": (0, 10),
                "beta1": (0, 0.9999),
                "beta2": (0, 0.9999),
                "factor": (1e-3, 0.999),
                "patience": (0, 10**6),
                "gamma": (1e-6, 0.99),
                "bisections": (0, 100),
            },
            fixed={"recipe": 2},
        ),
    }
)
"""The attacks that thinice writes itself, by name."""


def _foolbox(name: str) -> AttackRow:
    from thinice.attacks.foolbox import foolbox_row  # noqa: PLC0415 (takes half a second, and few ask for it)

    return foolbox_row(name)


BACKENDS: Mapping[str, Callable[[str], AttackRow]] = MappingProxyType({"foolbox": _foolbox})
"""Other libraries, by the prefix in ``"foolbox:LInfFMNAttack"``; each turns the name behind it into a row."""


def _cw() -> AttackRow:
    from thinice.attacks.published import cw_row  # noqa: PLC0415 (foolbox, as above)

    return cw_row()


def _bb() -> AttackRow:
    from thinice.attacks.published import bb_row  # noqa: PLC0415 (foolbox, as above)

    return bb_row()


PUBLISHED_SETTINGS: Mapping[str, Callable[[], AttackRow]] = MappingProxyType({"cw": _cw, "bb": _bb})
"""Other libraries' attacks with the settings of a published study, by name."""


def make_attack(
    name: str = DEFAULT_ATTACK,
    *,
    norm: Norm = "linf",
    effort: Effort = "standard",
    seed: int = 0,
    precision: Precision = "float32",
    fallback: bool = True,
    **settings: Setting,
) -> Attack:
    """Return an attack with all its settings bound, ready to be called or recorded.

    Parameters
    ----------
    name : str
        A name in `ATTACKS` or `PUBLISHED_SETTINGS`, or ``"foolbox:"`` and the name of one of foolbox's minimisation
        attacks.
    norm : {"l0", "l1", "l2", "linf"}
        The norm to minimise.
    effort : {"quick", "standard", "thorough"}
        How much to spend on each sample.
    seed : int
        Of everything random.
    precision : {"float32", "tf32", "bf16"}
        Arithmetic of the search; the judge's is float32 in any case.
    fallback : bool
        Whether samples in which the search finds nothing go through the stages of
        `thinice.attacks.fallback.fall_back`.
    **settings
        Settings that replace those of the effort, ``steps=300``.

    Raises
    ------
    InputError
        For an unknown name, norm, effort or setting, naming the known ones, for settings that change nothing in this
        norm, and for values out of range.

    Examples
    --------
    >>> make_attack("fmn", norm="l2", effort="quick").settings["steps"]
    30
    >>> make_attack("fmn", norm="l2", step=10)
    Traceback (most recent call last):
    ...
    thinice.errors.InputError: attack 'fmn' has no setting 'step': it has alpha, gamma, polish, rivals, steps

    """
    row = _row(name)
    _known("norm", norm, NORMS)
    _known("effort", effort, EFFORTS)
    _known("precision", precision, PRECISIONS)
    if norm not in row.norms:
        raise InputError(f"attack {name!r} minimises {', '.join(row.norms)}, got `norm` {norm!r}")
    if effort not in row.efforts:
        names = ", ".join(sorted(row.defaults))
        raise InputError(f"`effort` {effort!r} means nothing to attack {name!r}: give its own settings ({names})")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"`seed` must be a whole number of at least 0, got {seed!r}")
    for setting in settings:
        if setting not in row.defaults:
            names = ", ".join(sorted(row.defaults)) or "none"
            raise InputError(f"attack {name!r} has no setting {setting!r}: it has {names}")
        if setting in row.idle.get(norm, ()):
            names = ", ".join(sorted({*row.defaults} - {*row.idle[norm]}))
            raise InputError(
                f"`{setting}` changes nothing in attack {name!r} in {norm}: choose an effort, or set {names}"
            )
    bound = {**row.defaults, **row.efforts[effort], **settings}
    bound = {setting: _checked(setting, value, row) for setting, value in bound.items()}
    search = partial(row.search, norm=norm, seed=seed, **bound)
    less = precision_settings(precision)
    more = {"fallback": FALLBACK} if fallback else {}
    return Attack(name, norm, {**bound, "seed": seed, **less, **row.fixed, **more}, search)


def _row(name: str) -> AttackRow:
    backend, separator, rest = name.partition(":")
    if separator and backend in BACKENDS:
        return BACKENDS[backend](rest)
    if name in PUBLISHED_SETTINGS:
        return PUBLISHED_SETTINGS[name]()
    if name not in ATTACKS:
        known = [*ATTACKS, *PUBLISHED_SETTINGS, *(f"{prefix}:NAME" for prefix in BACKENDS)]
        raise InputError(f"`attack` {name!r} is unknown: choose from {', '.join(known)}")
    return ATTACKS[name]


def _known(argument: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"`{argument}` must be one of {', '.join(choices)}, got {value!r}")


def _checked(setting: str, value: Setting, row: AttackRow) -> Setting:
    """Return the value in the type of the default, if it has that type and lies in its range."""
    default = row.defaults[setting]
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if default is not None and type(value) is not type(default):
        raise InputError(f"`{setting}` must be of type {type(default).__name__}, got {value!r}")
    low, high = row.ranges.get(setting, (None, None))
    if low is not None and high is not None and isinstance(value, int | float) and not low <= value <= high:
        raise InputError(f"`{setting}` must lie in [{low:g}, {high:g}], got {value!r}")
    return value
