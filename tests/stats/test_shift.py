"""The Hodges-Lehmann shift against the median of all differences laid out."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import t

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


def slow_half_width(kept, lost, confidence):
    """By how many pairs U may stray from half of them, from placements pair by pair once the groups are aligned."""
    m, n = len(kept), len(lost)
    above = np.sign(np.subtract.outer(kept - np.median(np.subtract.outer(kept, lost)), lost)) / 2 + 0.5
    parts = above.mean(axis=1).var(ddof=1) / m, above.mean(axis=0).var(ddof=1) / n
    df = sum(parts) ** 2 / (parts[0] ** 2 / (m - 1) + parts[1] ** 2 / (n - 1))
    return t.ppf(0.5 + confidence / 2, df) * sum(parts) ** 0.5 * m * n


distinct = st.lists(st.integers(0, 10**6).map(float), min_size=2, max_size=40, unique=True)


@settings(max_examples=100, deadline=None)
@given(kept=distinct, lost=distinct, confidence=st.sampled_from([0.5, 0.9, 0.99]))
def test_interval_is_two_ordered_differences(kept, lost, confidence):
    kept, lost = np.array(kept), np.array(lost) + 0.25  # exact: aligned groups tie
    differences = np.sort(np.subtract.outer(kept, lost).ravel())
    interval = hodges_lehmann_interval(kept, lost, confidence=confidence)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = slow_half_width(kept, lost, confidence)
    skipped = len(kept) * len(lost) / 2 - half
    assume(not np.isnan(half) and abs(skipped - round(skipped)) > 1e-6)
    skipped = int(np.floor(skipped))
    if skipped < 1:
        assert (interval.low, interval.high) == (-np.inf, np.inf)
        return
    assert interval.low == pytest.approx(differences[skipped - 1], rel=1e-9, abs=1e-6)
    assert interval.high == pytest.approx(differences[-skipped], rel=1e-9, abs=1e-6)
    assert interval.low - 1e-6 <= hodges_lehmann(kept, lost) <= interval.high + 1e-6
    turned = hodges_lehmann_interval(lost, kept, confidence=confidence)
    assert (-turned.high, -turned.low) == pytest.approx((interval.low, interval.high), rel=1e-9, abs=1e-6)


def test_interval_without_a_variance_is_that_of_mann_whitney():
    """Hollander and Wolfe's, as R's wilcox.test(…, exact=FALSE, correct=FALSE): a group of one sample has no other."""
    kept, lost = np.arange(100.0), np.array([40.5])
    interval = hodges_lehmann_interval(kept, lost, confidence=0.9)
    skipped = int(50 - 1.6448536269514722 * (100 * 102 / 12) ** 0.5)
    assert (interval.low, interval.high) == (kept[skipped - 1] - 40.5, kept[-skipped] - 40.5)


# by Mann-Whitney's variance: 84 to 89 % for lost samples spread twice as widely, 99 to 100 % for half as widely
@pytest.mark.parametrize(("m", "n"), [(300, 12), (300, 40)])
@pytest.mark.parametrize("spread", [0.5, 1, 2])
def test_interval_covers_the_true_shift_whatever_the_spread(m, n, spread):
    rng = np.random.default_rng(m)
    covered = 0
    for _ in range(300):
        interval = hodges_lehmann_interval(rng.normal(0.7, 1, m), rng.normal(0, spread, n))
        covered += interval.low <= 0.7 <= interval.high
    assert 0.92 * 300 <= covered <= 0.985 * 300


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
