"""All tests of two groups: scipy's where it has them, high precision where it underflows, and by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import brunnermunzel, ks_2samp, kstwo, mannwhitneyu, t

from thinice.errors import InputError
from thinice.stats import group_tests, separation
from thinice.stats.tail_probabilities import log_kolmogorov, log_student

NAN = float("nan")
few = st.lists(st.one_of(st.just(NAN), st.integers(0, 9).map(float)), min_size=1, max_size=20)


@pytest.mark.parametrize("decimals", [9, 1])
def test_agrees_with_scipy(decimals):
    rng = np.random.default_rng(0)
    far, near = rng.normal(0.7, 1, 120).round(decimals), rng.normal(0, 2, 45).round(decimals)
    tests = group_tests(far, near)
    one, two = (brunnermunzel(near, far, alternative=side) for side in ("greater", "two-sided"))
    less = brunnermunzel(near, far, alternative="less")
    assert tests.brunner_munzel == pytest.approx(two.statistic, rel=1e-10)
    assert 10**tests.brunner_munzel_log10_p_two_sided == pytest.approx(two.pvalue, rel=1e-9)
    assert 10**tests.brunner_munzel_log10_p == pytest.approx(min(one.pvalue, less.pvalue), rel=1e-9)
    smirnov = ks_2samp(far, near, method="asymp")
    assert tests.kolmogorov_smirnov == pytest.approx(smirnov.statistic)
    assert tests.kolmogorov_smirnov_at == smirnov.statistic_location
    assert 10**tests.kolmogorov_smirnov_log10_p == pytest.approx(smirnov.pvalue, rel=1e-9)
    plain = separation(far, near)
    assert (tests.auc, tests.auc_interval, tests.shift) == (plain.auc, plain.auc_interval, plain.shift)
    assert tests.mann_whitney_log10_p == plain.log10_p
    assert tests.cliffs_delta_interval.low == pytest.approx(2 * plain.auc_interval.low - 1)
    assert tests.shift_interval.low < tests.shift < tests.shift_interval.high


def test_worked_by_hand():
    # within 3: 1 of 4 far, both near; so 3/4. Of the 15 ways to choose the two near ones of 6 places
    tests = group_tests(far=[3.0, 4.0, 5.0, NAN], near=[1.0, 2.0])
    assert (tests.kolmogorov_smirnov, tests.kolmogorov_smirnov_at) == (1, 2)
    assert 10**tests.kolmogorov_smirnov_log10_p == pytest.approx(2 / 15)
    assert 10**tests.mann_whitney_log10_p == pytest.approx(1 / 15)
    assert tests.exact
    assert tests.cliffs_delta == 1
    assert tests.brunner_munzel is None
    assert "no Brunner-Munzel test" in tests.notes[0]
    assert (tests.not_found_far, tests.not_found_near) == (1, 0)


def test_small_groups_are_exact():
    rng = np.random.default_rng(1)
    far, near = rng.normal(1, 1, 60), rng.normal(0, 1, 6)
    tests = group_tests(far, near)
    assert 10**tests.kolmogorov_smirnov_log10_p == pytest.approx(ks_2samp(far, near, method="exact").pvalue, rel=1e-9)
    assert 10**tests.mann_whitney_log10_p == pytest.approx(
        mannwhitneyu(near, far, alternative="less", method="exact").pvalue, rel=1e-9
    )
    assert tests.brunner_munzel is not None
    assert tests.brunner_munzel_log10_p is None
    assert "Brunner-Munzel p-value withheld" in tests.notes[-1]


# mpmath 1.3: log(betainc(df / 2, 1 / 2, 0, df / (df + t^2), regularized=True) / 2)
@pytest.mark.parametrize(
    ("statistic", "df", "expected"),
    [
        (5, 10, -8.22203860271809),
        (80, 1e4, -2478.5350073853033),
        (300, 50.3, -191.25912515812),
        (25, 300, -172.478914673078),
        (1e5, 2, -23.7189981106504),
    ],
)
def test_students_tail_does_not_underflow(statistic, df, expected):
    assert log_student(statistic, df) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("df", [3.0, 40.0, 1000.0])
def test_students_tail_is_smooth_where_its_formula_changes(df):
    edge = t.isf(1e-100, df)
    before, after = log_student(edge * (1 - 1e-9), df), log_student(edge * (1 + 1e-9), df)
    assert after < before < after * (1 - 1e-6)


@pytest.mark.parametrize(("distance", "n"), [(0.5, 100), (0.9, 40), (0.3, 1000), (0.2, 2000)])
def test_kolmogorovs_tail_agrees_with_scipy(distance, n):
    assert log_kolmogorov(distance, n) == pytest.approx(math.log(kstwo.sf(distance, n)), rel=1e-11)


def test_nothing_underflows():
    rng = np.random.default_rng(2)
    tests = group_tests(rng.normal(2, 1, 20_000), rng.normal(0, 1, 20_000))
    for name in ("mann_whitney_log10_p", "brunner_munzel_log10_p", "kolmogorov_smirnov_log10_p"):
        assert -20_000 < getattr(tests, name) < -2000
    apart = group_tests(np.arange(3000.0) + 3000, np.arange(3000.0))
    ways = math.lgamma(6001) - 2 * math.lgamma(3001)
    assert apart.kolmogorov_smirnov_log10_p == pytest.approx((math.log(2) - ways) / math.log(10))


@given(far=few, near=few, order=st.randoms(use_true_random=False))
def test_order_scale_shift_and_swapping(far, near, order):
    tests = group_tests(far, near)
    shuffled = list(far)
    order.shuffle(shuffled)
    assert group_tests(shuffled, near) == tests
    moved = group_tests(np.array(far) * 4 + 8, np.array(near) * 4 + 8)
    turned = group_tests(near, far)
    same = "auc_interval brunner_munzel kolmogorov_smirnov kolmogorov_smirnov_log10_p mann_whitney_log10_p"
    for name in same.split():
        assert getattr(moved, name) == getattr(tests, name)
    if tests.shift is not None:
        assert moved.shift == pytest.approx(4 * tests.shift)
        assert turned.shift == pytest.approx(-tests.shift)
    if tests.shift_interval is not None:
        ends = tests.shift_interval
        assert (moved.shift_interval.low, moved.shift_interval.high) == pytest.approx((4 * ends.low, 4 * ends.high))
    assert turned.kolmogorov_smirnov == tests.kolmogorov_smirnov
    assert turned.kolmogorov_smirnov_log10_p == pytest.approx(tests.kolmogorov_smirnov_log10_p, abs=1e-12)
    if tests.brunner_munzel is not None:
        assert turned.brunner_munzel == pytest.approx(-tests.brunner_munzel)
    if tests.brunner_munzel_log10_p_two_sided is not None:
        assert turned.brunner_munzel_log10_p_two_sided == pytest.approx(tests.brunner_munzel_log10_p_two_sided)
    json.dumps(tests.to_dict(), allow_nan=False)
    assert len(tests.frame()) == 1


def test_empty_and_unfound_groups():
    nobody = group_tests([], [1.0])
    assert nobody.auc is nobody.kolmogorov_smirnov is nobody.shift_interval is None
    assert "S1,1 is empty" in nobody.notes[0]
    unfound = group_tests([NAN] * 3, [NAN] * 2)
    assert (unfound.kolmogorov_smirnov, unfound.kolmogorov_smirnov_at) == (0, None)
    assert unfound.kolmogorov_smirnov_log10_p == 0
    one = group_tests([NAN] * 5, [0.0] + [NAN] * 4)  # no two groups of five are nearer than that
    assert (one.kolmogorov_smirnov, one.kolmogorov_smirnov_log10_p) == (pytest.approx(0.2), 0)


def test_nonsense_is_refused():
    with pytest.raises(InputError, match="`confidence`"):
        group_tests([1.0], [2.0], confidence=95)
