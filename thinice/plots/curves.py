"""Curves over epsilon: survival by transition, the security curves of networks, and the ROC curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from thinice.errors import InputError
from thinice.plots.style import (
    NOTE,
    REFERENCE,
    TICK,
    TRANSITIONS,
    Style,
    extent,
    heading,
    message,
    network_style,
    plain,
    shorten,
    spans_decades,
    styled_axes,
    tally,
    unit_of,
    width,
)
from thinice.stats import RocCurve, SurvivalCurve, roc_curve, separation, survival_curve, wilson
from thinice.stats.base import FloatColumn, check_lengths, epsilon_column, transition_column
from thinice.types import Interval, Norm, Transition

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from thinice.results import Comparison

__all__ = ["plot_roc", "plot_security", "plot_sparsity", "plot_survival"]

POINTS = 300
"""Curves with more steps than this are drawn at this many of their points: no eye sees the difference."""


def plot_survival(
    epsilon: npt.ArrayLike,
    transition: npt.ArrayLike,
    *,
    norm: Norm = "linf",
    budget: float | None = None,
    confidence: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """Return axes with the share of samples that lie farther than epsilon, for each transition.

    Bands are Wilson intervals, point by point. Samples not found count as farther than everything drawn, and the
    heading says how many they are. Groups in which every sample was misclassified from the start are left out.

    Parameters
    ----------
    epsilon
        (N,) on the [0, 1] scale; NaN where not found, 0 where misclassified.
    transition
        (N,) of S1,1 S1,0 S0,1 S0,0.
    norm
        Of the epsilons; linf is shown in n/255.
    budget
        A radius on the [0, 1] scale to mark; the legend then gives each group's share beyond it.
    confidence
        Level of the bands.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Raises
    ------
    InputError
        For columns of different length, an unknown transition or norm, a negative epsilon.

    Examples
    --------
    >>> ax = plot_survival([0.01, 0.02, 0.03], ["S1,0", "S1,1", "S1,1"], budget=4 / 255)
    >>> ax.get_ylabel()
    'samples farther than ε'
    """
    values, change = epsilon_column(epsilon, "epsilon"), transition_column(transition)
    check_lengths(epsilon=values, transition=change)
    groups = {name: values[change == name] for name in Transition}
    shown = {name: group for name, group in groups.items() if (group > 0).any()}
    missing = {name: int(np.isinf(group).sum()) for name, group in shown.items()}
    ax = styled_axes(ax)
    ax.set_ylabel("samples farther than ε")
    return _steps(
        ax,
        [(f"{name} {TRANSITIONS[name].word}", TRANSITIONS[name], group) for name, group in shown.items()],
        title="Share of samples that lie farther than ε",
        at_budget="beyond budget",
        notes=[f"Not found, counted as farther: {tally(missing)}."] if any(missing.values()) else [],
        norm=norm,
        budget=budget,
        confidence=confidence,
    )


def plot_security(
    epsilons: Mapping[str, npt.ArrayLike],
    *,
    norm: Norm = "linf",
    budget: float | None = None,
    confidence: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """Return axes with the security curve of each network: robust accuracy against the budget.

    Each curve starts at the clean accuracy. The accuracies are upper bounds, for epsilons are; samples for which the
    attack found nothing count as robust, and the heading says how many they are.

    Parameters
    ----------
    epsilons
        For each network's name its epsilons (N,) on the [0, 1] scale, of all samples; NaN where not found, 0 where
        misclassified.
    norm, budget, confidence, ax
        As of `plot_survival`.

    Examples
    --------
    >>> ax = plot_security({"dense": [0.0, 0.01, 0.02], "pruned": [0.0, 0.0, 0.01]})
    >>> ax.get_ylabel()
    'robust accuracy'
    """
    columns = {str(name): epsilon_column(column, name) for name, column in epsilons.items()}
    missing = {shorten(plain(name), 120, NOTE): int(np.isinf(column).sum()) for name, column in columns.items()}
    ax = styled_axes(ax)
    ax.set_ylabel("robust accuracy")
    return _steps(
        ax,
        [
            (shorten(plain(name), 160, TICK), network_style(place), column)
            for place, (name, column) in enumerate(columns.items())
        ],
        title="Security curve: the accuracy left at each budget ε",
        at_budget="robust at budget",
        notes=[f"Not found, counted as robust: {tally(missing)}."] if any(missing.values()) else [],
        norm=norm,
        budget=budget,
        confidence=confidence,
    )


def plot_roc(
    epsilon: npt.ArrayLike, transition: npt.ArrayLike, *, confidence: float = 0.95, ax: Axes | None = None
) -> Axes:
    """Return axes with the ROC curve of "it lies near the boundary" as a predictor of "pruning loses it".

    Lost samples (S1,0) are the positive class, kept ones (S1,1) the negative; the other transitions play no part. The
    legend gives the AUC with its interval, as `thinice.stats.separation` does.

    Parameters
    ----------
    epsilon
        (N,), NaN where not found: ranked last, all tied.
    transition
        (N,) of S1,1 S1,0 S0,1 S0,0.
    confidence
        Level of the interval.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Examples
    --------
    >>> ax = plot_roc([0.01, 0.02, 0.03], ["S1,0", "S1,1", "S1,1"])
    >>> ax.get_title(loc="left")
    'How well a small ε predicts a lost sample'
    """
    values, change = epsilon_column(epsilon, "epsilon"), transition_column(transition)
    check_lengths(epsilon=values, transition=change)
    kept, lost = values[change == Transition.KEPT], values[change == Transition.LOST]
    distances = separation(kept, lost, confidence=confidence)
    ax = styled_axes(ax, width=4.8, height=5.2)
    title = "How well a small ε predicts a lost sample"
    interval = distances.interval()
    if distances.auc is None or interval is None:
        heading(ax, title, notes=[f"{note[0].upper()}{note[1:]}." for note in distances.notes])
        return message(ax, "The curve needs kept (S1,1) and lost (S1,0) samples.")
    style = TRANSITIONS[Transition.LOST]
    curve = _thin_roc(roc_curve(kept, lost))
    ax.plot([0, 1], [0, 1], **REFERENCE)
    ax.plot(*curve, color=style.color, linewidth=1.8)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    ax.set_xlabel("kept samples (S1,1) within ε")
    ax.set_ylabel("lost samples (S1,0) within ε")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    auc = f"AUC {distances.auc:.3f} ({confidence:.0%}: {interval.low:.3f} to {interval.high:.3f})"
    entries = [
        (Line2D([], [], color=style.color, linewidth=1.8), auc),
        (Line2D([], [], **REFERENCE), "AUC 0.5: ε says nothing"),
    ]
    notes = [f"{distances.n_kept:,} kept, {distances.n_lost:,} lost."]
    missing = distances.not_found_kept + distances.not_found_lost
    if missing:
        notes[0] += f" Not found, ranked last together: {missing:,}."
    if distances.log10_p is not None:
        how = "exact" if distances.exact else "approximate"
        notes.append(f"Lost are nearer (Mann-Whitney, one-sided, {how}): log10 p = {distances.log10_p:z.1f}.")
    heading(ax, title, notes=notes, entries=entries)
    return ax


def _steps(
    ax: Axes,
    curves: list[tuple[str, Style, FloatColumn]],
    *,
    title: str,
    at_budget: str,
    notes: list[str],
    norm: Norm,
    budget: float | None,
    confidence: float,
) -> Axes:
    """Draw survival curves as steps with bands, and their heading."""
    unit = unit_of(norm)
    positive = [column[np.isfinite(column) & (column > 0)] for _, _, column in curves]
    if not any(len(column) for column in positive):
        heading(ax, title, notes=notes)
        return message(ax, "No sample has a distance to draw.")
    ends = [float(max(column.max() for column in positive if len(column)))]
    start = 0.0
    if spans_decades(positive):
        ax.set_xscale("log")
        start = float(min(column.min() for column in positive if len(column))) / 1.2
    if budget is not None:
        ends.append(1.05 * budget)
    end = max(ends) * 1.02
    entries = []
    for name, style, column in curves:
        curve = _visible(column, start, end, confidence)
        x = curve.budget * unit.scale
        ax.plot(x, curve.share, drawstyle="steps-post", label=name, **style.line)
        ax.fill_between(x, curve.low, curve.high, step="post", color=style.color, alpha=0.15, linewidth=0)
        entry = f"{name}: n = {len(column):,}"
        if budget is not None:
            entry += f", {survival_curve(column, budgets=[budget]).share[0]:.1%} {at_budget}"
        entries.append((Line2D([], [], **style.line), entry))
    if budget is not None:
        ax.axvline(budget * unit.scale, **REFERENCE)
        entries.append((Line2D([], [], **REFERENCE), f"budget {unit.text(budget)}"))
    ax.set_xlim(start * unit.scale, end * unit.scale)
    ax.set_ylim(-0.02, 1.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_xlabel(unit.label)
    heading(ax, title, notes=[*notes, f"Bands: {confidence:.0%} intervals (Wilson), point by point."], entries=entries)
    return ax


def _visible(column: FloatColumn, start: float, end: float, confidence: float) -> SurvivalCurve:
    """Return the curve from start to end at no more than POINTS budgets: all its steps, or quantiles of them."""
    steps = np.unique(column[np.isfinite(column) & (column > start)])
    if len(steps) > POINTS:
        steps = steps[np.linspace(0, len(steps) - 1, POINTS).round().astype(np.intp)]
    budgets = np.concatenate([[start], steps[steps < end], [end]])
    return survival_curve(column, budgets=budgets, confidence=confidence)


def _thin_roc(curve: RocCurve) -> tuple[FloatColumn, FloatColumn]:
    """Return the corners of the curve, or POINTS of them evenly along its length."""
    x, y = curve.false_positive_rate, curve.true_positive_rate
    if len(x) <= POINTS:
        return x, y
    index = np.unique(np.searchsorted(x + y, np.linspace(0, x[-1] + y[-1], POINTS)))
    return x[index], y[index]


Quantity = Literal["auc", "accuracy", "lost"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
TITLES: Mapping[Quantity, str] = {
    "auc": "How well a small ε predicts a lost sample, by sparsity",
    "accuracy": "Accuracy of the pruned network, by sparsity",
    "lost": "Samples lost to pruning, by sparsity",
}
LABELS: Mapping[Quantity, str] = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "lost": "lost (S1,0), of those dense has right",
}
LEAST = 1e-4
"""A density below this is drawn as this."""


def plot_sparsity(
    comparisons: Sequence[Comparison] | Mapping[str, Sequence[Comparison]],
    *,
    quantity: Quantity = "auc",
    ax: Axes | None = None,
) -> Axes:
    """Return axes with the AUC, the accuracy or the share of lost samples over sparsity, one line a series.

    Steps to the right halve the density: 50, 75, 87.5 % are equally far apart, as every halving takes as many of the
    weights that are left. Bars are 95 % intervals (of the AUC as `separation` has it, Wilson for shares). The dotted
    line is what would be seen without pruning, or without any relation: dense accuracy, no loss, AUC 0.5.

    Parameters
    ----------
    comparisons
        Of one dense network with several pruned ones, or such series by name: ``{"magnitude": …, "random": …}``.
    quantity
        ``"auc"``, ``"accuracy"`` or ``"lost"``.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Raises
    ------
    InputError
        For an unknown quantity.

    Examples
    --------
    >>> import thinice
    >>> paths = thinice.example_checkpoints()
    >>> samples = thinice.load_samples("digits", limit=20)
    >>> pruned = [paths["pruned-90"], paths["pruned-95"]]
    >>> series = thinice.compare_all(paths["dense"], pruned, samples, attack="fmn", steps=5, progress=False)
    >>> plot_sparsity(series, quantity="accuracy").lines[0].get_xdata().round(2).tolist()
    [3.32, 4.32]
    """
    if quantity not in QUANTITIES:
        raise InputError(f"`quantity` must be one of {', '.join(QUANTITIES)}, got {quantity!r}")
    series = comparisons if isinstance(comparisons, Mapping) else {"": comparisons}
    ax = styled_axes(ax)
    everything = [comparison for group in series.values() for comparison in group]
    if not everything:
        heading(ax, TITLES[quantity])
        return message(ax, "No comparison to draw.")
    entries: list[tuple[Artist, str]] = []
    notes: list[str] = []
    for k, (name, group) in enumerate(series.items()):
        style = network_style(k + 1 if len(series) > 1 else 0)
        entries += _series(ax, sorted(group, key=lambda comparison: comparison.pruned_sparsity), quantity, style, name)
    _sparsity_axis(ax, [comparison.pruned_sparsity for comparison in everything])
    missing = sum(_value(comparison, quantity)[0] is None for comparison in everything)
    if missing:
        notes.append(f"Not drawn, for nothing was lost or nothing kept: {missing} of {len(everything)} prunings.")
    chance = {0.5} if quantity == "auc" else set()
    if quantity == "accuracy":
        chance = {
            comparison.changes.dense_accuracy
            for comparison in everything
            if comparison.changes.dense_accuracy is not None
        }
    for level in chance:
        ax.axhline(level, **REFERENCE)
    if chance:
        entry = "AUC 0.5: ε says nothing" if quantity == "auc" else "before pruning"
        entries.append((Line2D([], [], **REFERENCE), entry))
    if quantity == "auc":
        ax.set_ylim(min(ax.get_ylim()[0], 0.48), 1.03)
    else:
        ax.yaxis.set_major_formatter(PercentFormatter(1))
    if quantity == "lost":
        ax.set_ylim(bottom=0)
    ax.set_ylabel(LABELS[quantity])
    notes.append(f"Bars: 95% intervals ({'over samples' if quantity == 'auc' else 'Wilson'}).")
    heading(ax, TITLES[quantity], notes=notes, entries=entries)
    return ax


def _series(
    ax: Axes, group: Sequence[Comparison], quantity: Quantity, style: Style, name: str
) -> list[tuple[Artist, str]]:
    """Draw one line with its bars, and return its entry in the legend."""
    points = [(_place(comparison.pruned_sparsity), *_value(comparison, quantity)) for comparison in group]
    drawn = [(x, value, interval) for x, value, interval in points if value is not None and interval is not None]
    if drawn:
        x, values, _ = zip(*drawn, strict=True)
        ax.plot(x, values, marker=style.marker, markersize=5.5, **style.line)
        reach = np.array([(value - interval.low, interval.high - value) for _, value, interval in drawn]).T
        look: dict[str, Any] = {"ecolor": style.color, "elinewidth": 1, "capsize": 2.5, "alpha": 0.8}
        ax.errorbar(x, values, yerr=np.maximum(reach, 0), fmt="none", **look)
    return [(Line2D([], [], marker=style.marker, **style.line), shorten(plain(name), 160, TICK))] if name else []


def _value(one: Comparison, quantity: Quantity) -> tuple[float | None, Interval | None]:
    """Return the quantity of one comparison and its 95 % interval."""
    changes = one.changes
    if quantity == "auc":
        return one.separation.auc, one.separation.interval(0.95)
    hits, n = changes.lost, changes.kept + changes.lost
    if quantity == "accuracy":
        hits, n = changes.kept + changes.gained, changes.n
    return (hits / n, wilson(hits, n)) if n else (None, None)


def _place(sparsity: float) -> float:
    """Return where a sparsity lies on the axis: how often the density was halved."""
    return float(-np.log2(max(1 - sparsity, LEAST)))


def _sparsity_axis(ax: Axes, sparsities: Sequence[float]) -> None:
    """Write the sparsities that occur below the axis, as many as have room."""
    ax.margins(x=0.06)
    low, high = ax.get_xlim()
    points = extent(ax)[0] / (high - low)
    ticks: list[float] = []
    texts: list[str] = []
    end = -np.inf
    for sparsity in sorted(set(sparsities)):
        text, x = _percent(sparsity), _place(sparsity)
        half = width(text, TICK) / 2 + 3
        if (x - low) * points - half >= end:
            ticks.append(x)
            texts.append(text)
            end = (x - low) * points + half
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels(texts)
    ax.set_xlabel("sparsity (equal steps halve the weights that are left)")


def _percent(sparsity: float) -> str:
    """Return a sparsity as people write it, with as many digits as two of the density need: 50%, 95%, 99.9%."""
    left = 100 * max(1 - sparsity, LEAST)
    digits = max(0, 1 - math.floor(math.log10(left)))
    return f"{100 * sparsity:.{digits}f}".rstrip("0").rstrip(".") + "%" if digits else f"{100 * sparsity:.0f}%"
