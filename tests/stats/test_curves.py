"""Survival and ROC curves against counting, closed forms and the AUC; Wilson intervals against scipy."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import CensoredData, binomtest, ecdf

from thinice.errors import InputError
from thinice.stats import roc_curve, separation, survival_curve, wilson
from thinice.stats.log_rank import median_bounds

NAN = float("nan")
columns = st.lists(st.one_of(st.just(NAN), st.integers(0, 9).map(float), st.floats(0, 9, width=32)), max_size=40)


@settings(deadline=None)
@given(epsilon=columns, budgets=st.lists(st.floats(0, 10, width=32), max_size=10).map(sorted))
def test_survival_counts_what_lies_strictly_farther(epsilon, budgets):
    whole = survival_curve(epsilon)
    some = survival_curve(epsilon, budgets=budgets)
    assert whole.n == len(epsilon)
    assert whole.not_found == sum(np.isnan(epsilon))
    if not epsilon:
        assert np.isnan(whole.share).all()
        return
    for curve in (whole, some):
        for budget, share, low, high in zip(curve.budget, curve.share, curve.low, curve.high, strict=True):
            robust = sum(not value <= budget for value in epsilon)  # a NaN is not <= anything
            assert share == robust / len(epsilon)
            expected = wilson(robust, len(epsilon))
            assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (np.diff(whole.share) <= 0).all()
    assert whole.share[-1] == whole.not_found / whole.n


def test_the_security_curve_starts_at_clean_accuracy():
    curve = survival_curve([0.0, 0.0, 0.1, 0.2, NAN])
    assert curve.budget[0] == 0
    assert curve.share[0] == 3 / 5
    assert curve.not_found == 1


def test_bad_budgets_and_epsilons():
    with pytest.raises(InputError, match="`budgets` must be a flat, ascending list"):
        survival_curve([1.0], budgets=[2.0, 1.0])
    with pytest.raises(InputError, match="`epsilon` must not be negative, got -1"):
        survival_curve([1.0, -1.0])


@settings(deadline=None)
@given(kept=columns, lost=columns)
def test_the_area_under_the_roc_is_the_auc(kept, lost):
    curve = roc_curve(kept, lost)
    assert (curve.n_kept, curve.n_lost) == (len(kept), len(lost))
    if not kept or not lost:
        assert len(curve.threshold) == 0
        return
    area = np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)
    assert area == pytest.approx(separation(kept, lost).auc, abs=1e-12)
    assert (curve.false_positive_rate[0], curve.true_positive_rate[0], curve.threshold[0]) == (0, 0, -np.inf)
    assert (curve.false_positive_rate[-1], curve.true_positive_rate[-1]) == (1, 1)
    assert (np.diff(curve.threshold) > 0).all()
    kept_ranked, lost_ranked = (np.nan_to_num(values, nan=np.inf) for values in (kept, lost))
    for threshold, false, true in zip(
        curve.threshold, curve.false_positive_rate, curve.true_positive_rate, strict=True
    ):
        assert false == pytest.approx(np.mean(kept_ranked <= threshold))
        assert true == pytest.approx(np.mean(lost_ranked <= threshold))
    json.dumps(curve.to_dict(), allow_nan=False)


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (5, 5), (3, 7), (50, 1000), (1, 1)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_wilson_agrees_with_scipy(successes, n, confidence):
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    interval = wilson(successes, n, confidence)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert interval.confidence == confidence


def test_wilson_without_trials_knows_nothing():
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)


@pytest.mark.parametrize(("successes", "n"), [(6, 5), (-1, 5), (NAN, 5), (0, -1)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(InputError, match="`successes` must lie in"):
        wilson(successes, n)


@pytest.mark.filterwarnings("ignore:The confidence interval is undefined at some observations")
@pytest.mark.parametrize("found", [40, 33, 21])
def test_the_interval_of_a_median_holds_where_kaplan_and_meiers_holds_a_half(found):
    """By scipy's curve and bounds, on epsilons with ties, of which some were not found."""
    epsilon = np.round(np.random.default_rng(found).gamma(2, 1, 40), 1)
    epsilon[found:] = np.nan
    censored = np.isnan(epsilon)
    curve = ecdf(CensoredData.right_censored(np.where(censored, 99.0, epsilon), censored)).sf
    with np.errstate(all="ignore"):
        bounds = curve.confidence_interval(0.9, method="log-log")
    radii = np.unique(epsilon[~censored])
    low, high = (
        next((radius for radius in radii if part.evaluate(radius) <= 0.5), None) for part in (bounds.low, bounds.high)
    )
    assert median_bounds(epsilon, confidence=0.9) == (low, high)
    assert (high is None) == (found == 21)


def test_of_few_samples_a_median_has_no_interval():
    assert median_bounds([]) == (None, None)
    assert median_bounds([1.0]) == (None, None)
    assert median_bounds([np.nan, np.nan]) == (None, None)


def test_radii_of_a_comparison_are_those_of_the_groups():
    kept, lost = np.arange(1.0, 12.0), np.array([0.5, 1.5, np.nan])
    row = separation(kept, lost).to_dict()
    assert [row[f"radius_{percent}_kept"] for percent in (10, 25, 75)] == [2.0, 3.5, 8.5]
    assert [row[f"radius_{percent}_lost"] for percent in (10, 25, 75)] == pytest.approx([0.7, 1.0, None])
    assert (row["median_kept_low"], row["median_kept_high"]) == median_bounds(kept)
    assert (row["median_lost_low"], row["median_lost_high"]) == (0.5, None)
