"""Populations of networks: exemplars counted by hand and as Hooker et al. count them, Welch's test against scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind

from thinice.errors import InputError
from thinice.stats import class_tests, exemplars, modal_predictions

LABELS = np.array([0, 1, 2, 0])
DENSE = np.array([[0, 1, 2, 1], [0, 1, 2, 1], [0, 2, 2, 0]])  # majorities 0 1 2 1: right, right, right, wrong
PRUNED = np.array([[0, 2, 2, 0], [0, 2, 1, 0], [0, 1, 1, 1], [0, 1, 2, 1]])  # 0 2 2 1: ties go to the largest label
EPSILON = np.array([[0.5, 0.1, np.nan, 0.0], [0.3, 0.2, 0.4, 0.0], [0.4, 0.0, np.nan, 0.1]])


def test_ties_go_to_the_largest_label_as_in_the_published_code():
    """There a column's modes are those of pandas, of which the largest is taken."""
    predictions = np.random.default_rng(0).integers(-1, 4, (6, 500))
    expected = [pd.Series(column).mode().max() for column in predictions.T]
    assert modal_predictions(predictions).tolist() == expected


def test_exemplars_are_those_on_paper():
    result = exemplars(LABELS, DENSE, PRUNED, EPSILON)
    assert result.dense_modal.tolist() == [0, 1, 2, 1]
    assert result.pruned_modal.tolist() == [0, 2, 2, 1]
    assert result.is_exemplar.tolist() == [False, True, False, False]
    assert (result.n, result.n_exemplars, result.share) == (4, 1, 0.25)
    assert result.dense_accuracy == pytest.approx((3 + 2 + 3 + 1) / 12)
    assert result.dense_accuracy_on_exemplars == pytest.approx(2 / 3)
    assert result.dense_accuracy_on_rest == pytest.approx(7 / 9)
    assert result.pruned_accuracy == pytest.approx((4 + 2 + 2 + 2) / 16)
    assert result.pruned_accuracy_on_exemplars == pytest.approx(0.5)
    assert result.pruned_accuracy_on_rest == pytest.approx(8 / 12)


def test_their_epsilons_are_medians_of_the_dense_networks_where_most_are_right():
    result = exemplars(LABELS, DENSE, PRUNED, EPSILON)
    assert result.epsilon.tolist() == [0.4, 0.1, np.inf, 0.0]
    # the last sample is wrong under most: it could not be lost. 0.1 against 0.4 and what most did not find
    assert (result.distances.n_lost, result.distances.n_kept, result.distances.not_found_kept) == (1, 2, 1)
    assert result.distances.auc == 1
    assert result.distances.median_lost == 0.1
    even = exemplars(LABELS, DENSE[:2], PRUNED, EPSILON[:2])
    np.testing.assert_allclose(even.epsilon, [0.4, 0.15, np.inf, 0.0])


def test_populations_that_agree_have_no_exemplars():
    result = exemplars(LABELS, DENSE, DENSE, EPSILON)
    assert (result.n_exemplars, result.dense_accuracy_on_exemplars, result.distances.auc) == (0, None, None)


def test_class_tests_are_those_of_scipy():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, 400)
    dense, pruned = (
        np.array([np.where(rng.random(400) < share, labels, rng.integers(0, 4, 400)) for _ in range(networks)])
        for share, networks in ((0.8, 5), (0.6, 7))
    )
    pruned[:, labels == 2] = np.where(rng.random((7, (labels == 2).sum())) < 0.5, 0, pruned[:, labels == 2])
    result = class_tests(labels, dense, pruned, classes=["a", "b", "c", "d"])
    for number in range(4):
        of_class = labels == number
        before, after = ((rows[:, of_class] == number).mean(1) - (rows == labels).mean() for rows in (dense, pruned))
        test = ttest_ind(after, before, equal_var=False)
        assert result.t[number] == pytest.approx(test.statistic)
        assert result.p_value[number] == pytest.approx(test.pvalue)
        assert result.relative_change[number] == pytest.approx(after.mean() - before.mean())
    assert result.name.tolist() == ["a", "b", "c", "d"]
    assert result.t.argmin() == 2
    assert result.p_value[2] < 1e-3


def test_a_single_network_has_no_test():
    result = class_tests(LABELS, DENSE[:1], PRUNED)
    assert np.isnan(result.t).all()
    assert result.n.tolist() == [2, 1, 1]
    assert result.dense_recall.tolist() == [0.5, 1, 1]
    constant = class_tests([0, 1], [[0, 0], [0, 1]], [[0, 0], [0, 0], [0, 1]])
    assert np.isnan(constant.t[0])
    assert constant.t[1] == pytest.approx(
        ttest_ind([0 - 4 / 6, 0 - 4 / 6, 1 - 4 / 6], [-0.75, 0.25], equal_var=False)[0]
    )


@pytest.mark.parametrize("strange", [np.zeros((0, 4), int), np.zeros(4, int), np.zeros((2, 4))])
def test_what_are_no_predictions_is_refused(strange):
    with pytest.raises(InputError, match=r"`predictions` must be classes \(M, N\)"):
        exemplars(LABELS, strange, PRUNED, EPSILON)


def test_columns_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"`epsilon` must be \(3, 4\)"):
        exemplars(LABELS, DENSE, PRUNED, EPSILON[:2])
    with pytest.raises(InputError, match="`pruned_predictions`"):
        exemplars(LABELS, DENSE, PRUNED[:, :3], EPSILON)
    with pytest.raises(InputError, match="`dense_predictions`"):
        class_tests(LABELS, DENSE[0], PRUNED)
