"""Distributions of epsilon: by transition, the paper's Figure 1; as a risk; and between what is proved and found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from thinice.plots.style import (
    INK,
    NETWORKS,
    REFERENCE,
    TRANSITIONS,
    heading,
    message,
    spans_decades,
    styled_axes,
    tally,
    tint,
    unit_of,
)
from thinice.stats import RiskCurve, risk_bins, risk_curve
from thinice.stats.base import FloatColumn, check_lengths, epsilon_column, quantile, transition_column
from thinice.types import Norm, Transition

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from thinice.stats.risk import RiskMethod

__all__ = ["plot_distribution", "plot_intervals", "plot_risk"]

FEW = 100
"""Groups of at most this many samples also show each sample as a mark."""


def plot_distribution(
    epsilon: npt.ArrayLike, transition: npt.ArrayLike, *, norm: Norm = "linf", ax: Axes | None = None
) -> Axes:
    """Return axes with a histogram of epsilon for each transition, as shares of each group.

    Figure 1 of "Samples on Thin Ice" (Piras et al., 2023): S1,1 against S1,0, and the other transitions where they
    have an epsilon. Bars are per cent of all samples of a group; a vertical line marks a group's median; small
    groups show every sample as a mark at the bottom. The axis is logarithmic where the distances span decades.
    Samples not found, and those misclassified from the start (epsilon 0), are counted in the heading, not drawn.

    Parameters
    ----------
    epsilon
        (N,) on the [0, 1] scale; NaN where not found, 0 where misclassified.
    transition
        (N,) of S1,1 S1,0 S0,1 S0,0.
    norm
        Of the epsilons; linf is shown in n/255.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Raises
    ------
    InputError
        For columns of different length, an unknown transition or norm.

    Examples
    --------
    >>> ax = plot_distribution([0.01, 0.02, 0.03], ["S1,0", "S1,1", "S1,1"])
    >>> ax.get_ylabel()
    'share of the group (%)'
    """
    unit = unit_of(norm)
    values, change = epsilon_column(epsilon, "epsilon") * unit.scale, transition_column(transition)
    check_lengths(epsilon=values, transition=change)
    ax = styled_axes(ax)
    groups = {name: values[change == name] for name in Transition}
    drawn = {name: group[np.isfinite(group) & (group > 0)] for name, group in groups.items()}
    missing = {name: int(np.isinf(group).sum()) for name, group in groups.items()}
    zero = {name: int((group == 0).sum()) for name, group in groups.items()}
    notes = []
    if any(missing.values()):
        notes.append(f"Not found, so farther than the attack could see, not drawn: {tally(missing)}.")
    if any(zero.values()):
        notes.append(f"Misclassified before pruning, ε = 0, not drawn: {tally(zero)}.")
    title = f"Distance to the dense boundary, by transition (n = {len(values):,})"
    finite = np.concatenate(list(drawn.values()))
    if len(finite) == 0:
        heading(ax, title, notes=notes)
        return message(ax, "No sample has a distance to draw.")

    log = spans_decades(drawn.values())
    if log:
        ax.set_xscale("log")
    edges = _edges(np.log10(finite) if log else finite, whole=norm == "l0" and not log)
    entries = []
    rows = 0
    for name, group in drawn.items():
        if len(group) == 0 and name not in (Transition.KEPT, Transition.LOST):
            continue
        style, size, median = TRANSITIONS[name], len(groups[name]), quantile(groups[name])
        entry = f"{name} {style.word}: {_summary(size, median, unit.suffix)}"
        entries.append((Line2D([], [], **style.line), entry))
        if len(group):
            _draw(ax, group, median, _around(edges, np.log10(group) if log else group), name=name, size=size)
            if size <= FEW:
                _mark(ax, group, name=name, row=rows)
                rows += 1
    if not log:
        ax.set_xlim(left=0)
    ax.set_xlabel(unit.label)
    ax.set_ylabel("share of the group (%)")
    heading(ax, title, notes=notes, entries=entries)
    return ax


def _draw(
    ax: Axes, group: FloatColumn, median: float | None, edges: FloatColumn, *, name: Transition, size: int
) -> None:
    """Draw one group's histogram, in per cent of its size, and its median."""
    style = TRANSITIONS[name]
    sns.histplot(
        x=group,
        weights=np.full(len(group), 100 / size),
        bins=edges.tolist(),
        element="step",
        color=style.color,
        alpha=0.18 if name in (Transition.KEPT, Transition.LOST) else 0.04,
        linestyle=style.dashes,
        linewidth=1.6,
        label=name,
        ax=ax,
    )
    if median:
        ax.axvline(median, color=style.color, linestyle=style.dashes, linewidth=1, alpha=0.75)


def _mark(ax: Axes, group: FloatColumn, *, name: Transition, row: int) -> None:
    """Mark every sample of a group near the bottom of the axes, each group in a row of its own."""
    ax.plot(
        group,
        np.full(len(group), 0.025 + 0.04 * row),
        TRANSITIONS[name].marker,
        color=TRANSITIONS[name].color,
        markersize=5,
        alpha=0.7,
        markeredgecolor="white",
        markeredgewidth=0.4,
        transform=ax.get_xaxis_transform(),
    )


def _summary(size: int, median: float | None, suffix: str) -> str:
    if size == 0:
        return "none"
    return f"n = {size:,}, median " + ("not found" if median is None else f"{median:.3g}{suffix}")


def _around(edges: FloatColumn, values: FloatColumn) -> FloatColumn:
    """Return the edges from the first bin that holds a value to the last: no line along the axis beyond."""
    first, last = np.clip(np.searchsorted(edges, [values.min(), values.max()], "right") - 1, 0, len(edges) - 2)
    return edges[first : last + 2]


def _edges(values: FloatColumn, *, whole: bool) -> FloatColumn:
    """Return the edges of 8 to 60 bins over all groups; of counts (`whole`) each bin holds whole numbers."""
    low, high = float(values.min()), float(values.max())
    if whole:
        step = max(1, round((high - low) / 40))
        return np.arange(low - 0.5, high + step, step)
    if high == low:
        return np.linspace(low - 0.05 * abs(low) - 1e-9, high + 0.05 * abs(high) + 1e-9, 4)
    bins = len(np.histogram_bin_edges(values, "auto")) - 1
    return np.linspace(low, high, min(60, max(8, bins)) + 1)


FEW_BINS, MANY_BINS = 4, 10
"""Bins of equally many samples: as many as make 20 samples each, but not fewer and not more than these."""


def plot_risk(
    epsilon: npt.ArrayLike,
    transition: npt.ArrayLike,
    *,
    norm: Norm = "linf",
    method: RiskMethod = "isotonic",
    confidence: float = 0.95,
    resamples: int = 1000,
    ax: Axes | None = None,
) -> Axes:
    """Return axes with the chance that pruning loses a sample, as a function of its epsilon, with a band.

    The curve is `thinice.stats.risk_curve` over the samples that the dense network has right (S1,1 and S1,0); dots
    are the shares lost in bins of equally many samples, with Wilson intervals, to hold the curve against; the dotted
    line is the share lost of all. Ticks at the bottom are the lost samples. Samples not found are counted in the
    heading; the isotonic curve ranks them last.

    Parameters
    ----------
    epsilon
        (N,) on the [0, 1] scale; NaN where not found, 0 where misclassified.
    transition
        (N,) of S1,1 S1,0 S0,1 S0,0.
    norm
        Of the epsilons; linf is shown in n/255.
    method
        ``"isotonic"`` or ``"logistic"``.
    confidence
        Level of the band and of the intervals.
    resamples
        Of the bootstrap that makes the band; the logistic fit takes some milliseconds for each.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Raises
    ------
    InputError
        For columns of different length, an unknown transition, norm or method.

    Examples
    --------
    >>> ax = plot_risk([0.01, 0.02, 0.03, 0.04], ["S1,0", "S1,1", "S1,0", "S1,1"])
    >>> ax.get_ylabel()
    'lost (S1,0), of samples at this ε'
    """
    unit = unit_of(norm)
    values, change = epsilon_column(epsilon, "epsilon"), transition_column(transition)
    check_lengths(epsilon=values, transition=change)
    groups = {name: values[change == name] for name in (Transition.KEPT, Transition.LOST)}
    kept, lost = groups.values()
    curve = risk_curve(kept, lost, method=method, confidence=confidence, resamples=resamples)
    missing = {name: int(np.isinf(group).sum()) for name, group in groups.items()}
    notes = [f"{len(kept) + len(lost):,} samples that the dense network has right, {len(lost):,} of them lost."]
    if any(missing.values()):
        notes.append(f"Not found, so farther than the attack could see, not drawn: {tally(missing)}.")
    ax = styled_axes(ax)
    title = "Risk on thin ice: the chance that pruning loses a sample at ε"
    if len(curve.epsilon) == 0:
        heading(ax, title, notes=notes)
        return message(ax, "No sample that the dense network has right has a distance to draw.")
    finite = np.concatenate([kept[np.isfinite(kept)], lost[np.isfinite(lost)]])
    if spans_decades([finite[finite > 0]]):
        ax.set_xscale("log")
    else:
        ax.set_xlim(0, 1.03 * unit.scale * float(finite.max()))
    top, entries = _draw_risk(ax, curve, kept, lost, unit.scale)
    ax.set_ylim(0, min(1.02, 1.08 * top))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel(unit.label)
    ax.set_ylabel("lost (S1,0), of samples at this ε")
    bands = f"Band: {confidence:.0%}, point by point; whiskers: {confidence:.0%} intervals (Wilson)."
    heading(ax, title, notes=[*notes, bands], entries=entries)
    return ax


def _draw_risk(
    ax: Axes, curve: RiskCurve, kept: FloatColumn, lost: FloatColumn, scale: float
) -> tuple[float, list[tuple[Artist, str]]]:
    """Draw curve, band, bins, base rate and the lost samples; return the highest point and the legend's entries."""
    style = TRANSITIONS[Transition.LOST]
    x = curve.epsilon * scale
    ax.fill_between(x, curve.low, curve.high, color=style.color, alpha=0.18, linewidth=0)
    ax.plot(x, curve.risk, color=style.color, linewidth=1.8)
    total = curve.n_kept + curve.n_lost
    count = min(MANY_BINS, max(FEW_BINS, total // 20))
    bins = risk_bins(kept, lost, bins=count, confidence=curve.confidence)
    some = np.isfinite(bins.farthest)
    ordered = np.sort(np.concatenate([kept, lost]))
    ends = np.cumsum(bins.n)[some]
    middle = scale * np.array([np.median(ordered[end - n : end]) for end, n in zip(ends, bins.n[some], strict=True)])
    risk, low, high = (column[some] for column in (bins.risk, bins.low, bins.high))
    ax.errorbar(middle, risk, yerr=(risk - low, high - risk), fmt="o", color=INK, markersize=4, elinewidth=1, capsize=2)
    share = total and curve.n_lost / total
    ax.axhline(share, **REFERENCE)
    shown = lost[np.isfinite(lost)] * scale
    ticks: dict[str, Any] = {
        "color": style.color,
        "markersize": 6.0,
        "alpha": 0.6,
        "transform": ax.get_xaxis_transform(),
    }
    ax.plot(shown, np.full(len(shown), 0.015), "|", **ticks)
    entries: list[tuple[Artist, str]] = [
        (Line2D([], [], color=style.color, linewidth=1.8), f"risk ({curve.method})"),
        (Line2D([], [], color=INK, marker="o", markersize=4, linewidth=1), f"{some.sum()} groups of equal size"),
        (Line2D([], [], **REFERENCE), f"all samples: {share:.1%}"),
    ]
    return max(float(curve.high.max()), float(high.max(initial=0))), entries


POINTS = 300
"""Curves with more steps are drawn at this many points."""


def plot_intervals(
    epsilon_lower: npt.ArrayLike,
    epsilon: npt.ArrayLike,
    *,
    norm: Norm = "linf",
    budget: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Return axes with the shares of samples that are proved, and that are found, to lie farther than each radius.

    The share of all samples that have no adversarial within a radius, robust accuracy, lies between the two curves,
    in the filled band. Dotted lines mark a budget and the median of proved over found, in the legend.

    Parameters
    ----------
    epsilon_lower
        (N,) radii that were proved on the [0, 1] scale; 0 or NaN where nothing was.
    epsilon
        (N,) distances that were found; NaN where none was, 0 where misclassified.
    norm
        Of both; linf is shown in n/255.
    budget
        A radius on the [0, 1] scale to mark; the legend then gives both shares there.
    ax
        Where to draw; by default on a new figure, ``ax.figure``, which belongs to no window.

    Raises
    ------
    InputError
        For columns of different length, an unknown norm, a negative radius.

    Examples
    --------
    >>> ax = plot_intervals([0.005, 0.01, 0.01], [0.01, 0.02, 0.03], budget=2 / 255)
    >>> ax.get_ylabel()
    'samples farther than ε'
    """
    unit = unit_of(norm)
    lower, found = epsilon_column(epsilon_lower, "epsilon_lower"), epsilon_column(epsilon, "epsilon")
    lower[np.isinf(lower)] = 0
    check_lengths(epsilon_lower=lower, epsilon=found)
    ax = styled_axes(ax)
    missing, wrong = int(np.isinf(found).sum()), int((found == 0).sum())
    notes = []
    if missing:
        notes.append(f"Not found, counted as farther: {missing:,}.")
    if wrong:
        notes.append(f"Misclassified, at 0: {wrong:,}.")
    title = f"Distance to the boundary: between proved and found (n = {len(found):,})"
    finite = found[np.isfinite(found) & (found > 0)]
    if len(finite) == 0:
        heading(ax, title, notes=notes)
        return message(ax, "No sample has a distance to draw.")
    edges = np.unique(np.concatenate([[0.0], finite, lower]))
    if len(edges) > POINTS:
        edges = np.quantile(edges, np.linspace(0, 1, POINTS))
    proved, standing = ((column[None, :] > edges[:, None]).mean(1) for column in (lower, found))
    x, style, color = edges * unit.scale, NETWORKS[0], TRANSITIONS[Transition.KEPT].color
    ax.fill_between(x, proved, standing, step="post", color=tint(color, 0.25), linewidth=0)
    ax.step(x, proved, where="post", color=color, linewidth=1.8)
    ax.step(x, standing, where="post", color=style.color, linewidth=1.8, linestyle=(0, (5, 1.6)))
    shares, bounded = ["", ""], np.isfinite(found) & (found > 0)
    if budget is not None:
        ax.axvline(budget * unit.scale, **REFERENCE)
        shares = [f": {np.mean(column > budget):.1%} beyond the budget" for column in (lower, found)]
    ratio = float(np.median(lower[bounded] / found[bounded]))
    entries: list[tuple[Artist, str]] = [
        (Line2D([], [], color=color, linewidth=1.8), f"proved: no adversarial within ε{shares[0]}"),
        (Line2D([], [], color=style.color, linewidth=1.8, linestyle=(0, (5, 1.6))), f"no adversarial found{shares[1]}"),
        (Patch(color=tint(color, 0.25), linewidth=0), f"the truth lies here; proved / found, median: {ratio:.2f}"),
    ]
    if budget is not None:
        entries.append((Line2D([], [], **REFERENCE), f"budget: {budget * unit.scale:.3g}{unit.suffix}"))
    ax.set_xlim(0, 1.03 * float(x[-1]))
    ax.set_ylim(0, 1.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel(unit.label)
    ax.set_ylabel("samples farther than ε")
    heading(ax, title, notes=notes, entries=entries)
    return ax
