"""The band between proved and found: its curves are the two distributions, and it can be read."""

from __future__ import annotations

import numpy as np
import pytest

from tests.plots.looking import assert_readable, sample_columns, texts
from thinice.errors import InputError
from thinice.plots import plot_intervals
from thinice.types import NORMS


def columns(n, **odd):
    epsilon, _ = sample_columns(n, **odd)
    lower = np.nan_to_num(epsilon, nan=0.1) * np.random.default_rng(0).uniform(0.2, 1, n)
    return lower, epsilon


def shown(ax):
    return " | ".join(text.replace("\n", " ") for text, _ in texts(ax.figure))


def curve(line, radius):
    """Return where a curve of steps stands just beyond a radius in n/255."""
    x, y = line.get_xdata(), line.get_ydata()
    return y[np.searchsorted(x, radius, "right") - 1]


def test_the_curves_are_the_shares_beyond_each_radius():
    lower, epsilon = columns(100)
    ax = plot_intervals(lower, epsilon, budget=4 / 255)
    proved, found = ax.lines[:2]
    for radius in (0.5, 2.0, 4.0, 6.0):
        assert curve(proved, radius) == pytest.approx(np.mean(lower > radius / 255))
        assert curve(found, radius) == pytest.approx(np.mean(~(epsilon <= radius / 255)))
    assert (proved.get_ydata() <= found.get_ydata() + 1e-12).all()
    text = shown(ax)
    assert f"proved: no adversarial within ε: {np.mean(lower > 4 / 255):.1%} beyond the budget" in text
    assert f"no adversarial found: {np.mean(~(epsilon <= 4 / 255)):.1%} beyond the budget" in text
    ratio = np.median(lower[epsilon > 0] / epsilon[epsilon > 0])
    assert f"proved / found, median: {ratio:.2f}" in text


@pytest.mark.sampled
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "odd", [{"n": 300}, {"n": 1}, {"n": 20, "not_found": 1.0}, {"n": 0}, {"n": 2000, "spread": 2.0}]
)
def test_it_can_be_read(norm, odd):
    assert_readable(plot_intervals(*columns(**odd), norm=norm, budget=0.01).figure)


def test_what_was_not_tried_is_not_proved():
    ax = plot_intervals([0.1, np.nan, 0.0], [0.2, 0.2, 0.0])
    assert curve(ax.lines[0], 1.0) == pytest.approx(1 / 3)
    assert "Misclassified, at 0: 1." in shown(ax)
    with pytest.raises(InputError, match="epsilon_lower"):
        plot_intervals([0.1], [0.2, 0.3])
