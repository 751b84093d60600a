"""The Hodges-Lehmann shift against the median of all differences laid out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from thinice.stats import hodges_lehmann, hodges_lehmann_interval

values = st.one_of(
    st.lists(st.floats(0, 100, width=32), min_size=1, max_size=60),
    st.lists(st.integers(0, 5).map(float), min_size=1, max_size=200),  # many ties
    st.lists(st.integers(-3, 8).map(lambda power: 10.0**power), min_size=20, max_size=90),  # decades
)


@settings(deadline=None, max_examples=150)
@given(kept=values, lost=values)
def test_is_the_median_of_all_differences(kept, lost):
    expected = np.median(np.subtract.outer(np.array(kept), np.array(lost)))
    scale = max(kept + lost)
    assert hodges_lehmann(kept, lost) == pytest.approx(expected, rel=1e-12, abs=1e-15 * scale)


@pytest.mark.parametrize(("m", "n"), [(1, 5000), (5000, 1), (701, 900), (900, 701), (2000, 3)])
@pytest.mark.parametrize("decimals", [12, 1])
def test_where_the_differences_are_not_all_laid_out(m, n, decimals):
    rng = np.random.default_rng(m + n)
    kept, lost = rng.lognormal(1, 1, m).round(decimals), rng.lognormal(0, 1, n).round(decimals)
    expected = np.median(np.subtract.outer(kept, lost))
    assert hodges_lehmann(kept, lost) == pytest.approx(expected, rel=1e-12)


@settings(deadline=None, max_examples=200)
@given(
    kept=st.lists(st.one_of(st.just(np.inf), st.integers(0, 30).map(float)), min_size=1, max_size=30),
    lost=st.lists(st.one_of(st.just(np.inf), st.integers(0, 30).map(float)), min_size=1, max_size=30),
)
def test_censored_pairs_by_the_written_rule(kept, lost):
    with np.errstate(invalid="ignore"):
        differences = np.subtract.outer(np.array(kept), np.array(lost)).ravel()
        differences = np.sort(differences[~np.isnan(differences)])  # inf - inf: left out
    low, high = (len(differences) - 1) // 2, len(differences) // 2
    known = len(differences) > 0 and np.isfinite(differences[[low, high]]).all()
    expected = (differences[low] + differences[high]) / 2 if known else None
    assert hodges_lehmann(kept, lost) == expected


def test_a_shift_is_found_exactly():
    lost = np.random.default_rng(0).integers(0, 1000, 4001) / 1024
    assert hodges_lehmann(lost + 0.25, lost) == 0.25
    assert hodges_lehmann(np.full(3000, 0.7), np.full(2000, 0.2)) == 0.7 - 0.2


def test_none_for_an_empty_group():
    assert hodges_lehmann([], [1.0]) is None
    assert hodges_lehmann([1.0], []) is None


def test_interval_agrees_with_r():
    # R 4: wilcox.test(kept, lost, conf.int=TRUE, exact=FALSE, correct=FALSE) takes the 3rd and the 23rd of the 25
    # differences; so does its exact test, for qwilcox(0.025, 5, 5) is 3
    kept, lost = [5.0, 6.0, 9.0, 11.0, 14.0], [1.0, 2.0, 2.5, 4.0, 7.0]
    interval = hodges_lehmann_interval(kept, lost)
    differences = sorted(k - v for k in kept for v in lost)
    assert (interval.low, interval.high, interval.confidence) == (differences[2], differences[22], 0.95)


@settings(max_examples=150)
@given(kept=values, lost=values, confidence=st.sampled_from([0.5, 0.9, 0.99]))
def test_interval_is_two_ordered_differences(kept, lost, confidence):
    differences = np.sort(np.subtract.outer(np.array(kept), np.array(lost)).ravel())
    m, n = len(kept), len(lost)
    _, ties = np.unique(np.concatenate([kept, lost]), return_counts=True)
    variance = m * n / 12 * (m + n + 1 - sum(t**3 - t for t in ties.tolist()) / ((m + n) * (m + n - 1)))
    skipped = int(m * n / 2 - norm.ppf(0.5 + confidence / 2) * max(variance, 0) ** 0.5)
    interval = hodges_lehmann_interval(kept, lost, confidence=confidence)
    if skipped < 1:
        assert (interval.low, interval.high) == (-np.inf, np.inf)
        return
    scale = 1e-14 * max(kept + lost)
    assert interval.low == pytest.approx(differences[skipped - 1], rel=1e-12, abs=scale)
    assert interval.high == pytest.approx(differences[-skipped], rel=1e-12, abs=scale)
    shift = hodges_lehmann(kept, lost)
    assert interval.low - scale <= shift <= interval.high + scale
    turned = hodges_lehmann_interval(lost, kept, confidence=confidence)
    assert (-turned.high, -turned.low) == pytest.approx((interval.low, interval.high), rel=1e-12, abs=scale)


@pytest.mark.parametrize(("m", "n"), [(5, 5), (8, 30), (40, 12)])
def test_interval_covers_the_true_shift(m, n):
    rng = np.random.default_rng(m)
    covered = 0
    for _ in range(500):
        interval = hodges_lehmann_interval(rng.lognormal(0, 1, m) + 0.7, rng.lognormal(0, 1, n))
        covered += interval.low <= 0.7 <= interval.high
    assert 0.92 * 500 <= covered <= 0.99 * 500


def test_interval_of_censored_groups():
    # half of the kept samples were not found: the far side is open, the near side is known
    kept, lost = np.arange(30.0) + 5, np.arange(30.0)
    kept[15:] = np.inf
    interval = hodges_lehmann_interval(kept, lost)
    assert np.isfinite(interval.low)
    assert interval.high == np.inf
    assert hodges_lehmann_interval([np.nan], [1.0]) is None
    assert hodges_lehmann_interval([], [1.0]) is None
    # a pair that was not found on either side is a tie: one such pair beside many changes little
    plain = hodges_lehmann_interval(np.arange(40.0) + 5, np.arange(40.0))
    censored = hodges_lehmann_interval([*(np.arange(40.0) + 5), np.nan], [*np.arange(40.0), np.nan])
    assert abs(censored.low - plain.low) <= 1
    assert abs(censored.high - plain.high) <= 1
