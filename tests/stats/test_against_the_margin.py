"""Epsilon against the margin, within classes, and near the boundary: slow definitions, simulations, and by hand."""

import math

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from thinice.errors import InputError
from thinice.stats import compare_predictors, separation
from thinice.stats.added_value import added_log_p
from thinice.stats.strata import stratified
from thinice.stats.tail_probabilities import log_chi_squared

NAN = float("nan")


def groups(m=300, n=40, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    kept, lost = rng.normal(1.5, 1, m), rng.normal(0, 1, n)
    return kept, lost, (kept + rng.normal(0, noise, m), lost + rng.normal(0, noise, n))


def test_separation_says_of_the_margin_what_the_predictors_do():
    kept, lost, margins = groups()
    result = separation(kept, lost, margins=margins)
    is_lost = np.repeat([False, True], [300, 40])
    columns = {"epsilon": np.append(kept, lost), "margin": np.concatenate(margins)}
    table = compare_predictors(is_lost, columns)
    assert result.margin_auc == pytest.approx(roc_auc_score(~is_lost, columns["margin"]))
    for field, column in (
        ("margin_difference", table.difference),
        ("margin_difference_low", table.difference_low),
        ("margin_difference_high", table.difference_high),
        ("margin_log10_p", table.log10_p),
        ("margin_equivalence_log10_p", table.equivalence_log10_p),
    ):
        assert getattr(result, field) == column[1]
    order = np.random.default_rng(1).permutation(300)
    shuffled = separation(kept[order], lost, margins=(margins[0][order], margins[1]))
    assert shuffled.margin_difference == pytest.approx(result.margin_difference)
    assert shuffled.epsilon_adds_log10_p == pytest.approx(result.epsilon_adds_log10_p, rel=1e-6)


def test_equivalence_is_two_one_sided_tests_at_the_margin():
    kept, lost, margins = groups()
    is_lost, columns = (
        np.repeat([False, True], [300, 40]),
        {"epsilon": np.append(kept, lost), "margin": np.concatenate(margins)},
    )
    for equivalence in (0.01, 0.05, 0.2):
        table = compare_predictors(is_lost, columns, equivalence=equivalence)
        se = (table.difference_high[1] - table.difference_low[1]) / 2 / 1.959963984540054
        larger = max(
            0.5 * math.erfc((equivalence + sign * table.difference[1]) / se / math.sqrt(2)) for sign in (-1, 1)
        )
        assert 10 ** table.equivalence_log10_p[1] == pytest.approx(larger, rel=1e-9)
    with pytest.raises(InputError, match="`equivalence` must lie between 0 and 1, got 5"):
        compare_predictors(is_lost, columns, equivalence=5)


def test_that_no_difference_is_seen_is_no_equivalence():
    kept, lost, margins = groups(m=60, n=10, noise=2.0, seed=3)
    result = separation(kept, lost, margins=margins)
    assert result.margin_log10_p > math.log10(0.05)
    assert result.margin_equivalence_log10_p > math.log10(0.05)


def test_epsilon_adds_what_a_logistic_regression_says():
    kept, lost, margins = groups(noise=0.8)
    is_lost = np.repeat([False, True], [300, 40])
    epsilon, margin = np.append(kept, lost), np.concatenate(margins)
    from scipy.stats import norm, rankdata  # noqa: PLC0415 - beside what it computes

    scores = [norm.ppf(rankdata(column) / 341) for column in (margin, epsilon)]

    def deviance(features):
        fit = LogisticRegression(C=1e8, tol=1e-10, max_iter=2000).fit(features, is_lost)
        chance = fit.predict_proba(features)[:, 1]
        return -2 * np.log(np.where(is_lost, chance, 1 - chance)).sum()

    known = np.stack([scores[0], scores[0] ** 2], axis=1)
    statistic = deviance(known) - deviance(np.column_stack([known, scores[1]]))
    assert statistic > 10
    assert added_log_p(is_lost, margin, epsilon) == pytest.approx(
        math.log(math.erfc(math.sqrt(statistic / 2))), rel=1e-3
    )


def test_epsilon_that_says_the_same_adds_nothing():
    """Losses depend on the margin alone, through a steep curve: epsilon, the margin and noise, is refused its share."""
    rng = np.random.default_rng(2)
    rejected = 0
    for _ in range(200):
        margin = rng.normal(0, 1, 500)
        lost = rng.random(500) < 0.8 / (1 + np.exp(3 * (margin + 1)))
        rejected += added_log_p(lost, margin, margin + rng.normal(0, 0.5, 500)) < math.log(0.05)
    assert 0.015 < rejected / 200 < 0.10


def test_groups_that_do_not_overlap_and_samples_not_found_have_an_answer():
    kept, lost = np.arange(20.0) + 20, np.arange(20.0)
    result = separation(kept, lost, margins=(kept, lost))
    assert (result.margin_difference, result.margin_auc) == (0, 1)
    assert result.epsilon_adds_log10_p == pytest.approx(0, abs=0.1)
    far = separation([*kept[:15], *[NAN] * 5], lost, margins=(kept, lost))
    assert far.margin_auc == 1
    unknown = separation(kept, lost, margins=([NAN, *kept[1:]], lost))
    assert unknown.margin_auc is None
    assert unknown.notes[-1] == "epsilon is not held against the margin: 1 samples have none"
    assert separation(kept, lost[:3], margins=(kept, lost[:3])).margin_equivalence_log10_p is None
    with pytest.raises(InputError, match="`margins` must have one value a sample"):
        separation(kept, lost, margins=(kept[1:], lost))


def test_within_classes_by_hand_and_by_the_slow_definition():
    rng = np.random.default_rng(4)
    kept, lost = rng.integers(0, 30, 80).astype(float), rng.integers(0, 25, 30).astype(float)
    kept_labels, lost_labels = rng.integers(0, 4, 80), rng.integers(1, 5, 30)  # class 0 loses none, class 4 keeps none
    result = stratified(kept, lost, kept_labels, lost_labels)
    wins = pairs = score = variance = 0.0
    for label in (1, 2, 3):
        far, near = kept[kept_labels == label], lost[lost_labels == label]
        m, n = len(far), len(near)
        above = np.sign(np.subtract.outer(far, near)) / 2 + 0.5
        wins, pairs = wins + above.sum(), pairs + m * n
        both = mannwhitneyu(near, far, method="asymptotic", use_continuity=False, alternative="less")
        z = (m * n / 2 - both.statistic) / _sigma(far, near)
        assert both.pvalue == pytest.approx(0.5 * math.erfc(z / math.sqrt(2)), rel=1e-9)
        score, variance = score + z * _sigma(far, near) / (m + n + 1), variance + (_sigma(far, near) / (m + n + 1)) ** 2
    assert result.strata == 3
    assert result.auc == pytest.approx(wins / pairs)
    assert math.exp(result.log_p) == pytest.approx(0.5 * math.erfc(score / math.sqrt(2 * variance)), rel=1e-9)
    fields = separation(kept, lost, labels=(kept_labels, lost_labels))
    assert fields.stratified_auc == result.auc
    assert fields.van_elteren_log10_p == pytest.approx(result.log_p / math.log(10))


def _sigma(far, near):
    both = np.concatenate([far, near])
    total, ties = len(both), np.unique(both, return_counts=True)[1]
    return math.sqrt(len(far) * len(near) / 12 * (total + 1 - (ties**3 - ties).sum() / total / (total - 1)))


def test_classes_that_differ_are_not_taken_for_distance():
    """Class 1 lies nearer and loses more; within a class distance says nothing."""
    rng = np.random.default_rng(6)
    label = rng.integers(0, 2, 1000)
    epsilon, lost = rng.normal(2.0 * (label == 0), 1), rng.random(1000) < np.where(label == 1, 0.3, 0.05)
    result = separation(epsilon[~lost], epsilon[lost], labels=(label[~lost], label[lost]))
    assert result.auc > 0.65
    assert result.log10_p < -8
    assert 0.4 < result.stratified_auc < 0.6
    assert result.van_elteren_log10_p > -2
    assert separation([1.0, 2.0], [1.0], labels=([0, 1], [2])).stratified_auc is None


def test_the_closest_tenth_and_the_partial_auc():
    kept, lost = np.arange(100.0), np.array([0.5, 3.5, 8.5, 40.5])
    result = separation(kept, lost)
    # 11 of the 104 nearest: kept 0 to 7 are 8, lost 0.5 3.5, and so on: 0 .5 1 2 3 3.5 4 5 6 7 8
    assert (result.closest, result.closest_lost) == (11, 2)
    # areas up to a false positive rate of 0.1: 0.09 0.06 0.01 0, over 4 and over 0.1
    assert result.partial_auc == pytest.approx((0.09 + 0.06 + 0.01) / 4 / 0.1)
    tied = separation([1.0] * 50, [1.0, 2.0])
    assert (tied.closest, tied.closest_lost) == (51, 1)  # as near as the one that completes the tenth


def test_bounds_where_samples_were_not_found():
    kept, lost = [2.0, 3.0, NAN], [1.0, NAN]
    result = separation(kept, lost)
    worst, best = separation([2.0, 3.0, 0.0], [1.0, 9.0]), separation([2.0, 3.0, 9.0], [1.0, 0.0])
    assert (result.auc_not_found_low, result.auc_not_found_high) == pytest.approx((worst.auc, best.auc))
    assert result.auc_not_found_low < result.auc < result.auc_not_found_high
    found = separation([2.0, 3.0], [1.0, 2.5])
    assert found.auc_not_found_low == found.auc == found.auc_not_found_high


# mpmath 1.3: log(gammainc(df / 2, x / 2, inf, regularized=True))
@pytest.mark.parametrize(("x", "df", "expected"), [(3.84, 1, -2.9948), (2000, 5, -989.92155), (900, 2, -450.0)])
def test_chi_squared_does_not_underflow(x, df, expected):
    assert log_chi_squared(x, df) == pytest.approx(expected, abs=1e-3)
