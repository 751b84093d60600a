"""A control: the same epsilons for what other changes of the network lose, and the difference with its interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from thinice.errors import InputError
from thinice.stats import compare_with_control, delong, separation


def groups(n=400, controls=3, seed=0, steep=0.5):
    """Epsilons, and which samples pruning and each control lose: the nearer, the sooner, all by the same rule."""
    rng = np.random.default_rng(seed)
    epsilon = rng.gamma(4, 1, n)
    lost = [epsilon + steep * rng.normal(size=n) < 1.8 for _ in range(controls + 1)]
    return epsilon, lost[0], np.array(lost[1:])


def auc(epsilon, lost):
    kept, gone = epsilon[~lost], epsilon[lost]
    return float(mannwhitneyu(kept, gone).statistic) / (len(kept) * len(gone))


def test_the_aucs_are_those_of_scipy():
    epsilon, lost, controls = groups()
    result = compare_with_control(epsilon, lost, controls)
    expected = [auc(epsilon, row) for row in controls]
    assert result.aucs == pytest.approx(expected)
    assert result.auc == pytest.approx(np.mean(expected))
    assert result.difference == pytest.approx(auc(epsilon, lost) - np.mean(expected))
    assert result.low < result.difference < result.high


@pytest.mark.slow
def test_a_control_that_loses_the_same_samples_hardly_differs():
    """Nothing is left but what the two ends of one interval differ by."""
    epsilon, lost, _ = groups(n=4000)
    single = separation(epsilon[~lost], epsilon[lost]).interval()
    result = compare_with_control(epsilon, lost, [lost, lost])
    assert result.difference == pytest.approx(0, abs=1e-12)
    lopsided = abs(single.high + single.low - 2 * result.auc)
    assert result.high == pytest.approx(-result.low) == pytest.approx(lopsided)
    assert result.high - result.low < 0.3 * (single.high - single.low)


def test_of_unrelated_networks_intervals_add_in_squares():
    """Little is correlated where each loses samples at its own chance."""
    epsilon, lost, controls = groups(n=4000, controls=1, steep=2.0)
    one = separation(epsilon[~lost], epsilon[lost]).interval()
    other = separation(epsilon[~controls[0]], epsilon[controls[0]]).interval()
    result = compare_with_control(epsilon, lost, controls)
    independent = np.hypot(one.high - one.low, other.high - other.low)
    assert result.high - result.low == pytest.approx(independent, rel=0.1)


def test_the_interval_is_as_wide_as_a_bootstrap_of_many_lost_samples_says_or_somewhat_wider():
    epsilon, lost, controls = groups(n=1500, controls=1, steep=1.0)
    result = compare_with_control(epsilon, lost, controls)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(300):
        rows = rng.integers(0, len(epsilon), len(epsilon))
        (one,), _ = delong(epsilon[rows][~lost[rows]][None], epsilon[rows][lost[rows]][None])
        (other,), _ = delong(epsilon[rows][~controls[0][rows]][None], epsilon[rows][controls[0][rows]][None])
        drawn.append(one - other)
    # the intervals of the single AUCs, from which it is made, are wider than the spread: they cover what they say
    assert 0.95 < (result.high - result.low) / (2 * 1.96 * np.std(drawn)) < 1.4


@pytest.mark.slow
def test_networks_that_differ_more_than_their_samples_widen_the_interval():
    epsilon, lost, _ = groups(n=4000)
    rng = np.random.default_rng(2)
    alike = np.array([epsilon + 0.5 * rng.normal(size=4000) < 1.8 for _ in range(4)])
    unlike = np.array([epsilon + steep * rng.normal(size=4000) < 1.8 for steep in (0.1, 0.1, 2.0, 2.0)])
    narrow, wide = (compare_with_control(epsilon, lost, rows) for rows in (alike, unlike))
    spread = wide.aucs.std(ddof=1) / 2  # of a mean of four
    assert spread > 0.03
    assert wide.high - wide.low == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert narrow.high - narrow.low < 0.4 * (wide.high - wide.low)


def test_what_was_not_found_counts_as_farthest():
    epsilon, lost, controls = groups()
    far = np.where(epsilon > np.quantile(epsilon, 0.9), np.nan, epsilon)
    result = compare_with_control(far, lost, controls)
    ranked = np.where(np.isnan(far), 1e9, far)
    assert result.aucs == pytest.approx([auc(ranked, row) for row in controls])


def test_a_control_that_loses_nothing_is_left_out_and_told():
    epsilon, lost, controls = groups()
    nothing = np.zeros_like(lost)
    result = compare_with_control(epsilon, lost, [*controls, nothing])
    assert result.networks == 3
    assert result.aucs == pytest.approx(compare_with_control(epsilon, lost, controls).aucs)
    assert result.notes == ("1 of 4 control networks lose no sample, or all",)
    empty = compare_with_control(epsilon, lost, [nothing])
    assert (empty.networks, empty.auc, empty.difference, empty.low) == (0, None, None, None)
    none_lost = compare_with_control(epsilon, nothing, controls)
    assert none_lost.auc == pytest.approx(result.auc)
    assert none_lost.difference is None
    assert "pruning loses no sample" in none_lost.notes[0]


def test_one_lost_sample_and_a_perfect_auc_have_an_interval():
    epsilon = np.arange(1.0, 101)
    lost, control = epsilon == 1, epsilon <= 3
    result = compare_with_control(epsilon, lost, [control])
    assert result.difference == 0
    assert -1 <= result.low < 0 < result.high <= 1


@pytest.mark.parametrize(
    ("lost", "control", "message"),
    [
        ([True], [[True, False]], "`lost` has 1 rows and `epsilon` 2"),
        ([True, False], [[True]], "`control_lost` has 1 rows"),
        ([True, False], [], r"`control_lost` must be \(R, N\)"),
        ([True, False], [True, False], r"`control_lost` must be \(R, N\)"),
    ],
)
def test_columns_that_do_not_fit_are_refused(lost, control, message):
    with pytest.raises(InputError, match=message):
        compare_with_control([1.0, 2.0], lost, control)
