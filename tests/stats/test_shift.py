"""The Hodges-Lehmann shift against the median of all differences laid out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinice.stats import hodges_lehmann

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
