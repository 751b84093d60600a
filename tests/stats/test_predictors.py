"""Rival predictors: DeLong's paired test by its slow definition, by another program, by the bootstrap, and by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from thinice.errors import InputError
from thinice.stats import compare_predictors, delong, separation

NAN = float("nan")


def slow_delong(kept, lost):
    """AUCs and covariance pair by pair, as in DeLong et al. 1988, section 2."""
    placements = []
    for good, bad in zip(kept, lost, strict=True):
        psi = np.sign(np.subtract.outer(good, bad)) / 2 + 0.5
        placements.append((psi.mean(), psi.mean(axis=1), psi.mean(axis=0)))
    (m, n), k = (kept.shape[1], lost.shape[1]), len(placements)
    covariance = np.empty((k, k))
    for a, (auc_a, v10_a, v01_a) in enumerate(placements):
        for b, (auc_b, v10_b, v01_b) in enumerate(placements):
            s10 = ((v10_a - auc_a) * (v10_b - auc_b)).sum() / (m - 1)
            s01 = ((v01_a - auc_a) * (v01_b - auc_b)).sum() / (n - 1)
            covariance[a, b] = s10 / m + s01 / n
    return np.array([auc for auc, _, _ in placements]), covariance


def correlated(m, n, seed, decimals=9):
    rng = np.random.default_rng(seed)
    common = rng.normal(0, 1, m + n) + np.repeat([1.0, 0.0], [m, n])
    rows = np.array([common + rng.normal(0, noise, m + n) for noise in (0.3, 0.6, 2.0)]).round(decimals)
    return rows[:, :m], rows[:, m:]


@pytest.mark.parametrize("decimals", [9, 0])
def test_delong_agrees_with_the_slow_definition(decimals):
    kept, lost = correlated(47, 23, seed=0, decimals=decimals)
    auc, covariance = delong(kept, lost)
    expected = slow_delong(kept, lost)
    assert auc == pytest.approx(expected[0], abs=1e-14)
    assert covariance == pytest.approx(expected[1], rel=1e-10)


def test_worked_by_hand():
    # the case of `separation`'s test: placements of kept 3/4 1 1, of lost 1 and 5/6; the second predictor orders
    # perfectly, and perfection does not vary
    auc, covariance = delong([[3.0, 5.0, 4.0], [7, 8, 9]], [[3.0, 1.0], [1, 2]])
    assert auc == pytest.approx([11 / 12, 1])
    assert covariance == pytest.approx(np.array([[1 / 48 / 3 + 1 / 72 / 2, 0], [0, 0]]))


def test_one_predictor_is_what_separation_says():
    kept, lost = correlated(60, 20, seed=1)
    one = separation(kept[0], lost[0])
    table = compare_predictors(np.repeat([0, 1], [60, 20]), {"epsilon": np.concatenate([kept[0], lost[0]])})
    assert table.auc[0] == pytest.approx(one.auc, rel=1e-14)
    assert table.se[0] == pytest.approx(one.auc_se, rel=1e-12)
    assert (table.low[0], table.high[0]) == pytest.approx((one.auc_interval.low, one.auc_interval.high), rel=1e-12)
    assert np.isnan(table.difference[0])
    assert np.isnan(table.log10_p[0])


def table_of(kept, lost, **options):
    rows = np.concatenate([kept, lost], axis=1)
    names = ("epsilon", "margin", "noise")
    return compare_predictors(
        np.repeat([0, 1], [kept.shape[1], lost.shape[1]]), dict(zip(names, rows, strict=True)), **options
    )


def test_the_paired_test_from_its_definition():
    kept, lost = correlated(80, 40, seed=2)
    auc, covariance = slow_delong(kept, lost)
    table = table_of(kept, lost)
    for k in (1, 2):
        spread = math.sqrt(covariance[0, 0] + covariance[k, k] - 2 * covariance[0, k])
        z = (auc[0] - auc[k]) / spread
        assert table.z[k] == pytest.approx(z, rel=1e-10)
        assert table.p_value[k] == pytest.approx(2 * norm.sf(abs(z)), rel=1e-9)
        assert table.log10_p[k] == pytest.approx(math.log10(2 * norm.sf(abs(z))), rel=1e-9)
        assert table.difference_high[k] - table.difference[k] == pytest.approx(1.959963984540054 * spread, rel=1e-9)


def test_the_paired_test_agrees_with_another_program():
    # MLstatkit 0.1.91, Delong_test(is_kept, epsilon, others): z = 2.76815…, p = 0.0056…; z = 2.16569…, p = 0.0303…
    kept, lost = correlated(80, 40, seed=2)
    table = table_of(kept, lost)
    assert table.auc == pytest.approx([0.77875, 0.7140625, 0.6646875])
    assert table.z[1:] == pytest.approx([2.7681554158702255, 2.1656947400601285], rel=1e-9)
    assert table.p_value[1:] == pytest.approx([0.005637456521972841, 0.030334521251256963], rel=1e-9)


def test_the_spread_of_a_difference_agrees_with_the_bootstrap():
    kept, lost = correlated(150, 60, seed=3)
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(800):
        auc, _ = delong(kept[:2, rng.integers(0, 150, 150)], lost[:2, rng.integers(0, 60, 60)])
        differences.append(auc[0] - auc[1])
    table = table_of(kept, lost)
    half = (table.difference_high - table.difference_low)[1] / 2
    assert half / 1.959963984540054 == pytest.approx(np.std(differences), rel=0.1)


@pytest.mark.slow
def test_the_test_keeps_its_level():
    # two equally good, correlated predictors: at 5 %, of 400 tests 20 reject, give or take
    rng = np.random.default_rng(4)
    rejected = 0
    for _ in range(400):
        common = rng.normal(0, 1, 100) + np.repeat([1.0, 0.0], [60, 40])
        rows = {name: common + rng.normal(0, 1, 100) for name in ("epsilon", "margin")}
        rejected += compare_predictors(np.repeat([0, 1], [60, 40]), rows).p_value[1] < 0.05
    assert 8 <= rejected <= 34


def test_what_never_underflows():
    rng = np.random.default_rng(5)
    n = 60_000
    epsilon = np.concatenate([rng.normal(2, 1, n), rng.normal(0, 1, n)])
    table = compare_predictors(np.repeat([0, 1], [n, n]), {"epsilon": epsilon, "noise": rng.normal(0, 1, 2 * n)})
    assert table.p_value[1] == 0
    assert -20_000 < table.log10_p[1] < -5000
    # the tail of the normal distribution by its asymptotic series
    z = table.z[1]
    tail = -z * z / 2 / math.log(10) - math.log10(z * math.sqrt(2 * math.pi) / 2)
    assert table.log10_p[1] == pytest.approx(tail, rel=1e-6)


def test_loss_points_the_other_way():
    kept, lost = correlated(30, 12, seed=6)
    epsilon = np.concatenate([kept[0], lost[0]])
    is_lost = np.repeat([0, 1], [30, 12])
    table = compare_predictors(is_lost, {"epsilon": epsilon, "loss": -epsilon, "risk": 3 - epsilon})
    assert table.auc == pytest.approx([table.auc[0], table.auc[0], 1 - table.auc[0]])
    assert (table.z[1], table.p_value[1], table.log10_p[1]) == (0, 1, 0)  # the same order: no difference at all
    turned = compare_predictors(is_lost, {"epsilon": epsilon, "risk": 3 - epsilon}, high_is_risky=["risk"])
    assert turned.auc[0] == turned.auc[1]


scores = st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=40)


@given(rows=scores, order=st.randoms(use_true_random=False))
def test_order_scale_and_the_groups_roles(rows, order):
    lost, first, second = (np.array(column) for column in zip(*rows, strict=True))
    table = compare_predictors(lost, {"epsilon": first, "margin": second})
    shuffled = np.array(order.sample(range(len(rows)), len(rows)))
    again = compare_predictors(lost[shuffled], {"epsilon": np.exp(first[shuffled]), "margin": 5 * second[shuffled] - 2})
    swapped = compare_predictors(~lost, {"epsilon": first, "margin": second})
    back = compare_predictors(lost, {"margin": second, "epsilon": first})
    for column in ("auc", "low", "high", "difference", "log10_p"):
        assert getattr(again, column) == pytest.approx(getattr(table, column), abs=1e-12, nan_ok=True)
    assert swapped.auc == pytest.approx(1 - table.auc, nan_ok=True)
    assert swapped.log10_p == pytest.approx(table.log10_p, rel=1e-9, abs=1e-12, nan_ok=True)
    assert back.difference[1] == pytest.approx(-table.difference[1], nan_ok=True)
    assert back.log10_p[1] == pytest.approx(table.log10_p[1], rel=1e-9, abs=1e-12, nan_ok=True)
    assert json.dumps(table.to_dict(), allow_nan=False)


def test_samples_not_found_are_the_safest():
    lost = [False, False, False, True]
    table = compare_predictors(lost, {"epsilon": [NAN, NAN, 1.0, 2.0], "margin": [4.0, 3.0, 1.0, 2.0]})
    assert table.auc.tolist() == [2 / 3, 2 / 3]
    assert table.not_found == 2


def test_small_and_empty_groups():
    few = compare_predictors([True] * 3 + [False] * 20, {"epsilon": np.arange(23.0), "margin": np.arange(23.0) % 7})
    assert np.isnan(few.log10_p).all()
    assert few.notes == ("p-values withheld: the smaller group has 3 samples, fewer than 10",)
    assert few.auc[0] == 1
    assert few.low[0] < 1
    none = compare_predictors([False] * 5, {"epsilon": np.arange(5.0), "margin": np.arange(5.0)})
    assert none.notes == ("nothing to predict: S1,0 is empty (0 of 5 samples)",)
    assert np.isnan([none.auc, none.low, none.high, none.log10_p]).all()


def test_a_difference_without_spread_is_not_tested():
    lost = np.repeat([False, True], [10, 10])
    table = compare_predictors(lost, {"epsilon": 1.0 * ~lost, "margin": 1.0 * lost})
    assert table.auc.tolist() == [1, 0]
    assert np.isnan(table.p_value[1])
    assert table.notes == ("no test of margin: the spread of its difference is not known",)


@pytest.mark.parametrize(
    ("predictors", "options", "message"),
    [
        ({}, {}, "`predictors` is empty"),
        ({"epsilon": [1.0]}, {}, "`epsilon` has 1 rows and `lost` 2"),
        ({"epsilon": [1.0, 2.0], "margin": [1.0, NAN]}, {}, "`margin` holds NaN: only the first predictor"),
        ({"epsilon": [1.0, 2.0]}, {"high_is_risky": ["risk"]}, "`high_is_risky` names 'risk'"),
        ({"loss": [1.0, NAN]}, {}, "`loss` lacks values"),
        ({"epsilon": [1.0, 2.0]}, {"confidence": 1}, "`confidence`"),
    ],
)
def test_nonsense_is_refused(predictors, options, message):
    with pytest.raises(InputError, match=message):
        compare_predictors([True, False], predictors, **options)


@pytest.mark.parametrize(
    ("kept", "lost", "message"),
    [
        ([[1.0]], [[1.0], [2.0]], r"must be \(K, M\) and \(K, N\)"),
        ([[]], [[1.0]], "must not be empty, got 0 and 1"),
        ([[NAN]], [[1.0]], "must not hold NaN"),
    ],
)
def test_delong_refuses_nonsense(kept, lost, message):
    with pytest.raises(InputError, match=message):
        delong(kept, lost)
