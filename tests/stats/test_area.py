"""The area under the security curve against numbers from paper and the curve itself; how often its interval holds."""

from __future__ import annotations

import numpy as np
import pytest

from thinice.errors import InputError
from thinice.stats import survival_curve, wilson
from thinice.stats.area import curve_area, mean_bounds


def test_areas_from_paper():
    """Robust accuracy 1 up to 0.03, 1/2 up to 0.06, 0 to 0.15: 0.03 + 0.015 of 0.15."""
    assert curve_area([0.03, 0.06], 0.15).area == pytest.approx(0.045 / 0.15)
    assert curve_area([0.0, 0.0], 0.15).area == 0
    assert curve_area([0.2, np.nan], 0.15).area == 1
    nothing = curve_area([], 0.15)
    assert (nothing.area, nothing.interval.low, nothing.interval.high) == (None, 0, 1)


def test_the_area_is_that_of_the_published_grid_of_a_thousand_budgets():
    """The benchmark's own curve: the share of distances above each of 1000 budgets from 0 to 0.15."""
    generator = np.random.default_rng(0)
    epsilon = np.where(generator.random(500) < 0.2, 0, generator.gamma(2, 0.02, 500))
    budgets = np.linspace(0, 0.15, 1000)
    shares = (epsilon > budgets[:, None]).mean(axis=1)
    np.testing.assert_array_equal(shares, survival_curve(epsilon, budgets=budgets).share)
    by_grid = np.trapezoid(shares, budgets) / 0.15
    assert curve_area(epsilon, 0.15).area == pytest.approx(by_grid, abs=0.5 / 999)


def test_zeros_and_ones_have_wilsons_interval():
    for ones in (0, 3, 10):
        low, high = mean_bounds(np.array([1.0] * ones + [0.0] * (10 - ones)))
        assert (low, high) == pytest.approx((wilson(ones, 10).low, wilson(ones, 10).high))


@pytest.mark.parametrize(("n", "rate"), [(30, 0.4), (100, 0.1), (128, 0.85)])
def test_the_interval_holds_the_true_area_as_often_as_it_says(n, rate):
    """Samples that are misclassified, that lie at a uniform distance, and that lie beyond the end."""
    generator = np.random.default_rng(1)
    draws = generator.choice([0.0, 1.0, 2.0], p=[0.3, rate * 0.7, (1 - rate) * 0.7], size=(1500, n))
    values = np.where(draws == 2, generator.random((1500, n)), draws)
    truth = 0.7 * rate + 0.7 * (1 - rate) / 2
    bounds = np.array([mean_bounds(row) for row in values])
    covered = ((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).mean()
    assert 0.925 <= covered <= 0.975
    assert np.diff(bounds).mean() < 2 * 1.96 * np.sqrt(truth * (1 - truth) / n)  # narrower than of yes and no


@pytest.mark.parametrize(
    ("epsilon", "end", "message"),
    [([0.1], 0, "`end` must be above 0"), ([0.1], np.inf, "`end`"), ([-0.1], 1, "must not be negative")],
)
def test_what_is_no_distance_is_refused(epsilon, end, message):
    with pytest.raises(InputError, match=message):
        curve_area(epsilon, end)
