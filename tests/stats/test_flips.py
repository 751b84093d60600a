"""Flips and what they do to classes: counted by hand, and against scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from thinice.errors import InputError
from thinice.stats import STATISTICS, class_impact, flips, separation, statistic_values
from thinice.stats.flips import STATISTICS_OF_FLIPS, Flips

# ten samples: 4 kept, 2 lost, 1 gained, 3 wrong under both, of which 2 change their mind
LABELS = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
DENSE = np.array([0, 0, 0, 1, 1, 1, 0, 0, 1, 1])
PRUNED = np.array([0, 0, 1, 1, 1, 2, 1, 1, 0, 1])


def counted(**options):
    return flips(DENSE == LABELS, PRUNED == LABELS, DENSE, PRUNED, **options)


def test_rates_are_those_on_paper():
    result = counted()
    assert (result.negative, result.positive, result.changed, result.changed_wrong) == (2, 1, 5, 2)
    assert result.negative_flip_rate == 0.2
    assert result.positive_flip_rate == 0.1
    assert result.positive_per_negative == 0.5
    assert result.churn == 0.5
    assert result.wrong_churn == pytest.approx(2 / 3)
    # accuracies 0.6 and 0.5: independent errors would lose 0.6 * 0.5 = 30 %
    assert result.relative_negative_flip_rate == pytest.approx(0.2 / 0.3)


def test_independent_errors_have_a_relative_rate_of_one():
    rng = np.random.default_rng(0)
    dense, pruned = rng.random(200_000) < 0.8, rng.random(200_000) < 0.6
    result = flips(dense, pruned, dense, pruned)
    assert result.relative_negative_flip_rate == pytest.approx(1, abs=0.01)
    assert result.negative_flip_rate == pytest.approx(0.8 * 0.4, abs=0.01)


def test_a_share_of_nothing_is_none():
    right = np.ones(3, bool)
    perfect = flips(right, right, [0, 1, 2], [0, 1, 2])
    assert perfect.relative_negative_flip_rate is None
    assert perfect.positive_per_negative is None
    assert perfect.wrong_churn is None
    assert (perfect.negative_flip_rate, perfect.churn) == (0, 0)
    empty = flips([], [], [], [])
    assert [getattr(empty, name) for name in Flips.derived] == [None] * len(Flips.derived)


def test_a_prediction_that_does_not_exist_is_a_class_of_its_own():
    result = flips([False] * 3, [False] * 3, [-1, -1, 0], [-1, 1, -1])
    assert (result.changed, result.wrong_churn) == (2, pytest.approx(2 / 3))


def test_rates_of_classes_are_those_of_the_confusion_matrix():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, 2000)
    dense, pruned = (np.where(rng.random(2000) < share, labels, rng.integers(0, 5, 2000)) for share in (0.7, 0.5))
    losses = rng.exponential(size=(2, 2000))
    impact = class_impact(labels, dense, pruned, dense_losses=losses[0], pruned_losses=losses[1])

    def rates(predictions):
        matrix = confusion_matrix(labels, predictions)
        right, of_class, given = np.diag(matrix), matrix.sum(1), matrix.sum(0)
        return (given - right) / (2000 - of_class), 1 - right / of_class

    (fpr, fnr), (pruned_fpr, pruned_fnr) = rates(dense), rates(pruned)
    false_positive, false_negative = (pruned_fpr - fpr) / fpr, (pruned_fnr - fnr) / fnr
    np.testing.assert_allclose(impact.fpr_change, false_positive)
    np.testing.assert_allclose(impact.fnr_change, false_negative)
    np.testing.assert_allclose(impact.dense_recall, 1 - fnr)
    np.testing.assert_allclose(impact.pruned_recall, 1 - pruned_fnr)
    assert impact.cev == pytest.approx(false_positive.var() + false_negative.var())
    assert impact.sde == pytest.approx(np.abs(false_negative - false_positive).mean())
    excess = np.array([(losses[1] - losses[0])[labels == c].mean() for c in range(5)])
    np.testing.assert_allclose(impact.excess_loss, excess)
    assert impact.excess_loss_gap == pytest.approx(np.ptp(excess))


def test_a_class_without_errors_leaves_cev_and_sde_undefined():
    # the dense network gives class 2 nothing, so nothing of it wrongly; and class 0 all its own
    impact = class_impact(LABELS, DENSE, PRUNED, classes=["cat", "dog", "hen"])
    assert impact.name.tolist() == ["cat", "dog", "hen"]
    assert impact.n.tolist() == [3, 4, 3]
    np.testing.assert_allclose(impact.fnr_change, [np.nan, 0, 0])
    np.testing.assert_allclose(impact.fpr_change, [(1 - 2) / 2, (3 - 2) / 2, np.nan])
    assert (impact.cev, impact.sde, impact.excess_loss_gap) == (None, None, None)


def test_classes_without_samples_do_not_count():
    impact = class_impact([3, 3, 7], [3, 7, 3], [3, 3, 1], classes=[str(k) for k in range(10)])
    assert impact.name.tolist() == ["3", "7"]
    assert impact.pruned_recall.tolist() == [1, 0]


def test_each_number_is_a_statistic():
    assert set(STATISTICS_OF_FLIPS) <= set(STATISTICS)
    impact = class_impact([0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0], dense_losses=[1.0] * 4, pruned_losses=[1, 1, 2, 3])
    result = replace(separation([1.0, 2.0], [1.0]), flips=counted(impact=impact))
    values = statistic_values(result)
    assert (values["cev"], values["sde"], values["excess_loss_gap"]) == (2, 2, 1.5)
    assert values["churn"] == 0.5
    assert all(statistic_values(separation([1.0], [1.0]))[name] is None for name in STATISTICS_OF_FLIPS)


def test_columns_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="`pruned_predictions` has 1 rows"):
        flips([True, False], [True, False], [0, 1], [0])
    with pytest.raises(InputError, match="`labels` is empty"):
        class_impact([], [], [])
