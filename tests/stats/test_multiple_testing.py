"""Many comparisons at once, against statsmodels, by hand, and far below what a p-value can hold."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinice.errors import InputError
from thinice.stats import benjamini_hochberg, seed_spread

NAN = float("nan")
P = np.array([0.01, 0.04, 0.03, 0.005, 0.5, 0.002, 0.03])
logs = st.lists(st.one_of(st.just(NAN), st.floats(-500, 0)), max_size=20)


def test_agrees_with_statsmodels():
    # statsmodels 0.15, multipletests(P, method="fdr_bh")
    expected = [0.0233333333, 0.0466666667, 0.042, 0.0175, 0.5, 0.014, 0.042]
    assert 10 ** benjamini_hochberg(np.log10(P)) == pytest.approx(expected)


def test_worked_by_hand_below_the_smallest_double():
    # 4 p-values of 1e-1000, 1e-999, 1e-2 and 0.5
    assert benjamini_hochberg([-1000, -999, -2, np.log10(0.5)]) == pytest.approx(
        [-1000 + np.log10(4), -999 + np.log10(2), -2 + np.log10(4 / 3), np.log10(0.5)]
    )


@given(log10_p=logs, order=st.randoms(use_true_random=False))
def test_order_and_missing_values_do_not_matter(log10_p, order):
    values = np.array(log10_p)
    adjusted = benjamini_hochberg(values)
    known = ~np.isnan(values)
    assert np.array_equal(np.isnan(adjusted), ~known)
    assert (adjusted[known] >= values[known]).all()
    assert (adjusted[known] <= 0).all()
    shuffled = np.array(order.sample(range(len(values)), len(values)), dtype=int)
    assert np.array_equal(benjamini_hochberg(values[shuffled]), adjusted[shuffled], equal_nan=True)
    assert np.array_equal(benjamini_hochberg(values[known]), adjusted[known])
    assert (np.diff(adjusted[known][np.argsort(values[known], kind="stable")]) >= 0).all()


def test_spread_worked_by_hand():
    # t of 0.975 with two degrees of freedom is 4.302653
    spread = seed_spread([0.88, NAN, 0.90, 0.92])
    assert (spread.n, spread.missing, spread.smallest, spread.largest) == (3, 1, 0.88, 0.92)
    assert (spread.mean, spread.sd) == pytest.approx((0.9, 0.02))
    half = 4.302652729749462 * 0.02 / np.sqrt(3)
    assert (spread.interval.low, spread.interval.high) == pytest.approx((0.9 - half, 0.9 + half))
    assert json.dumps(spread.to_dict(), allow_nan=False)


def test_spread_of_few_seeds():
    one = seed_spread([0.5])
    assert (one.mean, one.sd, one.interval) == (0.5, None, None)
    none = seed_spread([None, NAN])
    assert (none.n, none.missing, none.mean, none.sd, none.interval) == (0, 2, None, None, None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: benjamini_hochberg([0.05]), "`log10_p` holds 0.05: the logarithm of a p-value is at most 0"),
        (lambda: benjamini_hochberg([[-1.0]]), r"`log10_p` must be a flat list, got shape \(1, 1\)"),
        (lambda: seed_spread([np.inf]), "`values` must be a flat list of finite numbers"),
        (lambda: seed_spread([1.0], confidence=2), "`confidence`"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
