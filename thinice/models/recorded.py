"""What a checkpoint file says of itself: the accuracy that its program measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["ACCURACIES", "SURPRISING", "chance_of", "recorded_accuracy"]

ACCURACIES = (
    *("acc", "accuracy", "best_acc", "best_accuracy", "test_acc", "test_accuracy", "val_acc", "val_accuracy"),
    *("acc1", "best_acc1", "acc_1", "prec1", "best_prec1", "best_prec", "top1", "best_top1", "best_acc_top1"),
    *("clean_acc", "clean_accuracy", "nat_acc", "natural_acc", "best_sa", "best_test_acc", "best_val_acc", "metric"),
)
"""The names under which programs record the accuracy on clean samples, those of the weights themselves first."""

NESTED = ("metrics", "metric", "results", "result", "stats", "scores", "best")
"""Entries that may hold such names one level deeper."""

SURPRISING = 1e-3
"""p-value below which a measured accuracy is another than the recorded one."""


def chance_of(right: int, count: int, recorded: float, *, only_less: bool = False) -> float:
    """Return the p-value of so many right of so many samples, where the accuracy elsewhere is the recorded one.

    Parameters
    ----------
    right, count : int
        How many samples are right, and how many there are.
    recorded : float
        A fraction.
    only_less : bool
        Ask for so few, or fewer, alone.

    Examples
    --------
    >>> chance_of(50, 100, 0.9) < SURPRISING, chance_of(100, 100, 0.5, only_less=True)
    (True, 1.0)
    """
    from scipy.stats import binomtest  # noqa: PLC0415 - needed here alone

    least = 1 / (10 * count)  # all right, or all wrong, elsewhere does not mean always
    expected = min(max(recorded, least), 1 - least)
    return float(binomtest(right, count, expected, alternative="less" if only_less else "two-sided").pvalue)


def recorded_accuracy(entries: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return the name and the fraction of an accuracy among the entries beside the weights.

    Percentages and fractions are told apart by their size: what is above 1 is a percentage.

    Examples
    --------
    >>> recorded_accuracy({"epoch": 3, "best_prec1": 91.5})
    ('best_prec1', 0.915)
    >>> recorded_accuracy({"epoch": 3, "acc": "high"}) is None
    True
    """
    dotted = {
        name.rpartition(".")[2]: value for name, value in entries.items() if str(name).partition(".")[0] in NESTED
    }
    levels = [dotted, entries, *(entries[name] for name in NESTED if isinstance(entries.get(name), Mapping))]
    named = {name.lower(): (name, value) for level in levels for name, value in level.items() if isinstance(name, str)}
    for name, value in (named[name] for name in ACCURACIES if name in named):
        number = _number(value)
        if number is not None and 0 < number <= 100:
            return name, round(number / 100 if number > 1 else number, 9)
    return None


def _number(value: object) -> float | None:
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None
