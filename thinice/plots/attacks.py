"""Attacks side by side: what each one costs, and how far its epsilons lie above the best known ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, NullLocator, StrMethodFormatter

from thinice.errors import InputError
from thinice.plots.style import TICK, heading, message, network_style, plain, shorten, styled_axes
from thinice.stats.base import check_lengths, epsilon_column

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["plot_attacks"]

LINEAR = 1.0
"""Up to this excess, in per cent, the axis is linear: 0 has a place on it."""
WORST = 0.95
"""The whiskers end at this share of the samples."""


def plot_attacks(
    epsilons: Mapping[str, npt.ArrayLike], evaluations: Mapping[str, npt.ArrayLike], *, ax: Axes | None = None
) -> Axes:
    """Return axes with the cost of each attack and the excess of its epsilons over the best known ones.

    The best known epsilon of a sample is the smallest that any of the attacks found; the excess is in per cent of it.
    Marks are medians, whiskers reach to the worst twentieth of the samples. Left and low is best. Samples that an
    attack did not find count as worse than all others; the legend says how many they are.

    Parameters
    ----------
    epsilons
        For each attack's name its epsilons (N,) of the same samples and network, in one norm; NaN where not found,
        0 where the sample was misclassified from the start: those play no part.
    evaluations
        For each attack's name the forward-backward passes (N,) spent on each sample.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Raises
    ------
    InputError
        Without attacks, for columns of different length, or attacks without evaluations.

    Examples
    --------
    >>> ax = plot_attacks({"quick": [0.11, 0.2], "slow": [0.1, 0.2]}, {"quick": [30, 30], "slow": [90, 95]})
    >>> ax.get_xlabel()
    'forward-backward passes a sample'
    """
    if not epsilons:
        raise InputError('`epsilons` is empty: give at least one attack, {"fmn": epsilon}')
    columns = {str(name): epsilon_column(column, name) for name, column in epsilons.items()}
    if set(columns) != {str(name) for name in evaluations}:
        raise InputError("`evaluations` and `epsilons` name different attacks: give both for each")
    costs = {str(name): np.asarray(column, dtype=np.float64) for name, column in evaluations.items()}
    check_lengths(**columns, **{f"evaluations of {name}": column for name, column in costs.items()})
    ax = styled_axes(ax)
    title = "What an attack costs, and how much its epsilons overestimate"
    stacked = np.stack([*columns.values()])
    best = stacked.min(0, initial=np.inf)
    used = (stacked != 0).all(0) & np.isfinite(best)
    if not used.any():
        heading(ax, title)
        return message(ax, "No sample has an adversarial to compare.")
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=LINEAR)
    entries: list[tuple[Artist, str]] = []
    top, spent = LINEAR, []
    for place, (name, column) in enumerate(columns.items()):
        style = network_style(place)
        excess = 100 * (column[used] / best[used] - 1)
        middle, high = np.quantile(excess, [0.5, WORST], method="higher")
        cost = float(costs[name][used].mean())
        spent.append(cost)
        look: dict[str, Any] = {"color": style.color, "marker": style.marker, "markersize": 7, "linewidth": 1.4}
        missing = int(np.isinf(excess).sum())
        entry = shorten(plain(name), 120, TICK) + (f" ({missing:,} not found)" if missing else "")
        entries.append((Line2D([], [], **look), entry))
        ends = np.array([middle, high])[np.isfinite([middle, high])]
        if len(ends):
            ax.plot(np.full(len(ends), cost), ends, **{**look, "marker": "_"})
            ax.plot([cost], ends[:1], clip_on=False, zorder=3, **look)
            top = max(top, float(ends[-1]))
    _ticks(ax, spent, top)
    ax.set_xlabel("forward-backward passes a sample")
    ax.set_ylabel("ε above the best known (%)")
    notes = [
        f"{used.sum():,} samples. Marks: the median sample; whiskers: up to {WORST:.0%} of the samples. Low is better."
    ]
    heading(ax, title, notes=notes, entries=entries)
    return ax


def _ticks(ax: Axes, spent: list[float], top: float) -> None:
    """Write plain numbers at both axes: passes, and 0, 1, 10, 100 per cent."""
    low, high = min(spent) / 1.3, max(spent) * 1.3
    ax.set(xlim=(low, high), ylim=(0, 1.6 * top))
    between = (1, 2, 3, 4, 6) if high < 10 * low else (1, 2, 5) if high < 300 * low else (1,)
    marks = LogLocator(subs=between).tick_values(low, high)
    ax.xaxis.set_major_locator(FixedLocator([mark for mark in marks if low <= mark <= high]))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    powers = range(int(np.log10(1.6 * top)) + 1)
    steps = [0.0, *(10.0**k for k in powers[:: len(powers) // 6 + 1])]
    ax.yaxis.set_major_locator(FixedLocator(steps))
    ax.yaxis.set_major_formatter(FixedFormatter([f"{step:g}" for step in steps]))
    ax.yaxis.set_minor_locator(NullLocator())
