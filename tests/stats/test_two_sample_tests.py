"""Tests beside Mann-Whitney's: scipy's where it has them, high precision where it underflows, and by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import brunnermunzel, ks_2samp, kstwo, t

from thinice.stats import separation
from thinice.stats.tail_probabilities import log_kolmogorov, log_student
from thinice.stats.two_sample_tests import kolmogorov_smirnov

NAN = float("nan")
few = st.lists(st.one_of(st.just(NAN), st.integers(0, 9).map(float)), min_size=1, max_size=20)


@pytest.mark.parametrize("decimals", [9, 1])
def test_agrees_with_scipy(decimals):
    rng = np.random.default_rng(0)
    kept, lost = rng.normal(0.7, 1, 120).round(decimals), rng.normal(0, 2, 45).round(decimals)
    result = separation(kept, lost)
    one, two, less = (brunnermunzel(lost, kept, alternative=side) for side in ("greater", "two-sided", "less"))
    assert 10**result.brunner_munzel_log10_p_two_sided == pytest.approx(two.pvalue, rel=1e-9)
    assert 10**result.brunner_munzel_log10_p == pytest.approx(min(one.pvalue, less.pvalue), rel=1e-9)
    smirnov = ks_2samp(kept, lost, method="exact")
    assert result.kolmogorov_smirnov == pytest.approx(smirnov.statistic)
    assert result.kolmogorov_smirnov_at == smirnov.statistic_location
    assert 10**result.kolmogorov_smirnov_log10_p == pytest.approx(smirnov.pvalue, rel=1e-9)
    assert result.kolmogorov_smirnov_exact


def groups_apart(m, n, distance):
    """Distinct epsilons of which the shares within a radius differ by so much, at most."""
    return (np.arange(m) + 0.5) / m + distance, np.arange(n) / n


# of the audit: scipy's exact test (-1.456, -88.8, -14.36, -11.92) where Kolmogorov's distribution says -1.65, -91.8,
# -14.85 and -12.14
@pytest.mark.parametrize(
    ("m", "n", "distance", "low", "high"),
    [
        (16, 16, 0.5, -1.457, -1.455),
        (500, 500, 0.618, -90, -88),
        (872, 17, 0.87, -14.6, -14.2),
        (853, 36, 0.606, -12.1, -11.7),
    ],
)
def test_kolmogorov_smirnov_counts_all_orders_of_groups_of_ordinary_size(m, n, distance, low, high):
    kept, lost = groups_apart(m, n, distance - 0.5 / n if n < 500 else distance)
    result = kolmogorov_smirnov(kept, lost)
    assert result.distance == pytest.approx(distance, abs=0.035)
    assert result.exact
    assert result.log_p == pytest.approx(math.log(ks_2samp(kept, lost, method="exact").pvalue), rel=1e-12)
    assert log_kolmogorov(result.distance, round(m * n / (m + n))) < result.log_p - 0.1
    if abs(result.distance - distance) < 0.003:
        assert low < result.log_p / math.log(10) < high


def test_kolmogorov_smirnov_says_where_it_is_approximate():
    rng = np.random.default_rng(3)
    kept, lost = np.sort(rng.normal(0.1, 1, 10_001)), np.sort(rng.normal(0, 1, 500))
    large = kolmogorov_smirnov(kept, lost)
    assert not large.exact
    exact = kolmogorov_smirnov(kept[1:], lost)
    assert exact.exact
    assert large.log_p == pytest.approx(exact.log_p, rel=0.1)


def test_worked_by_hand():
    # within 3: 1 of 4 far, both near; so 3/4. Of the 15 ways to choose the two near ones of 6 places
    result = separation(kept=[3.0, 4.0, 5.0, NAN], lost=[1.0, 2.0])
    assert (result.kolmogorov_smirnov, result.kolmogorov_smirnov_at) == (1, 2)
    assert 10**result.kolmogorov_smirnov_log10_p == pytest.approx(2 / 15)
    assert result.brunner_munzel_log10_p is None
    assert "no Brunner-Munzel test" in result.notes[0]


def test_brunner_munzel_needs_ten_samples():
    rng = np.random.default_rng(1)
    result = separation(rng.normal(1, 1, 60), rng.normal(0, 1, 6))
    assert result.brunner_munzel_log10_p is None
    assert "Brunner-Munzel p-value withheld: the smaller group has 6 samples" in result.notes[-1]
    assert separation(rng.normal(1, 1, 60), rng.normal(0, 1, 10)).brunner_munzel_log10_p < -1


@pytest.mark.slow
def test_under_unequal_spread_brunner_munzel_keeps_its_level_and_mann_whitney_does_not():
    """AUC 1/2, lost samples spread three times as widely: the audit has 12.8 against 4.8 % at nominal 5 %."""
    rng = np.random.default_rng(4)
    rejected = np.zeros(2)
    for _ in range(400):
        result = separation(rng.normal(0, 1, 300), rng.normal(0, 3, 20))
        rejected += np.array([result.log10_p, result.brunner_munzel_log10_p]) < math.log10(0.05)
    assert 0.09 < rejected[0] / 400 < 0.19
    assert 0.02 < rejected[1] / 400 < 0.085


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
    result = separation(rng.normal(2, 1, 20_000), rng.normal(0, 1, 20_000))
    for name in ("log10_p", "log10_p_normal", "brunner_munzel_log10_p", "kolmogorov_smirnov_log10_p"):
        assert -20_000 < getattr(result, name) < -2000
    apart = separation(np.arange(3000.0) + 3000, np.arange(3000.0))
    ways = math.lgamma(6001) - 2 * math.lgamma(3001)
    assert apart.kolmogorov_smirnov_log10_p == pytest.approx((math.log(2) - ways) / math.log(10))


@pytest.mark.slow
@given(kept=few, lost=few, order=st.randoms(use_true_random=False))
def test_order_scale_shift_and_swapping(kept, lost, order):
    result = separation(kept, lost)
    shuffled = list(kept)
    order.shuffle(shuffled)
    assert separation(shuffled, lost) == result
    moved = separation(np.array(kept) * 4 + 8, np.array(lost) * 4 + 8)
    turned = separation(lost, kept)
    for name in ("auc_interval", "brunner_munzel_log10_p", "kolmogorov_smirnov_log10_p", "log10_p", "closest_lost"):
        assert getattr(moved, name) == getattr(result, name)
    if result.shift is not None:
        assert moved.shift == pytest.approx(4 * result.shift)
        assert turned.shift == pytest.approx(-result.shift)
    for name in ("shift_low", "shift_high"):
        end = getattr(result, name)
        assert getattr(moved, name) == (None if end is None else pytest.approx(4 * end))
    assert turned.kolmogorov_smirnov_log10_p == pytest.approx(result.kolmogorov_smirnov_log10_p, abs=1e-12)
    if result.brunner_munzel_log10_p_two_sided is not None:
        assert turned.brunner_munzel_log10_p_two_sided == pytest.approx(result.brunner_munzel_log10_p_two_sided)
    json.dumps(result.to_dict(), allow_nan=False)
    assert len(result.frame()) == 1


def test_empty_and_unfound_groups():
    nobody = separation([], [1.0])
    assert nobody.auc is nobody.kolmogorov_smirnov is nobody.shift_low is None
    unfound = separation([NAN] * 3, [NAN] * 2)
    assert (unfound.kolmogorov_smirnov, unfound.kolmogorov_smirnov_at) == (0, None)
    assert unfound.kolmogorov_smirnov_log10_p == 0
    one = separation([NAN] * 5, [0.0] + [NAN] * 4)  # no two groups of five are nearer than that
    assert (one.kolmogorov_smirnov, one.kolmogorov_smirnov_log10_p) == (pytest.approx(0.2), 0)
