"""Risk on thin ice: how likely pruning loses a sample that lies this far from the boundary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from thinice.plots.palette import INK, REFERENCE, TRANSITIONS
from thinice.plots.sheet import heading, message, sheet, spans_decades, tally
from thinice.plots.units import unit_of
from thinice.stats import RiskCurve, risk_bins, risk_curve
from thinice.stats.columns import FloatColumn, check_lengths, epsilon_column, transition_column
from thinice.types import Norm, Transition

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from thinice.stats.risk import RiskMethod

__all__ = ["plot_risk"]

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
    ax = sheet(ax)
    title = "Risk on thin ice: the chance that pruning loses a sample at ε"
    if len(curve.epsilon) == 0:
        heading(ax, title, notes=notes)
        return message(ax, "No sample that the dense network has right has a distance to draw.")
    found = np.concatenate([kept[np.isfinite(kept)], lost[np.isfinite(lost)]])
    if spans_decades([found[found > 0]]):
        ax.set_xscale("log")
    else:
        ax.set_xlim(0, 1.03 * unit.scale * float(found.max()))
    top, entries = _draw(ax, curve, kept, lost, unit.scale)
    ax.set_ylim(0, min(1.02, 1.08 * top))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel(unit.label)
    ax.set_ylabel("lost (S1,0), of samples at this ε")
    bands = f"Band: {confidence:.0%}, point by point; whiskers: {confidence:.0%} intervals (Wilson)."
    heading(ax, title, notes=[*notes, bands], entries=entries)
    return ax


def _draw(
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
    found = np.sort(np.concatenate([kept, lost]))
    ends = np.cumsum(bins.n)[some]
    middle = scale * np.array([np.median(found[end - n : end]) for end, n in zip(ends, bins.n[some], strict=True)])
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
