"""Transitions counted over all samples and by class, against tables worked by hand and scipy."""

import json
import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from scipy.stats import binomtest

from thinice.errors import InputError
from thinice.stats import TransitionCounts, class_losses, transition_counts, transitions, wilson
from thinice.types import Transition

DENSE = [True, True, True, True, False, False, False]
PRUNED = [True, True, False, False, True, False, False]


def test_worked_by_hand():
    assert transitions(DENSE, PRUNED).tolist() == ["S1,1", "S1,1", "S1,0", "S1,0", "S0,1", "S0,0", "S0,0"]
    counts = transition_counts(DENSE, PRUNED)
    assert counts.counts == {"S1,1": 2, "S1,0": 2, "S0,1": 1, "S0,0": 2}
    assert list(counts.counts) == list(Transition)
    assert counts.n == 7
    assert counts.dense_accuracy == 4 / 7
    assert counts.pruned_accuracy == 3 / 7
    assert counts.accuracy_drop == 1 / 7
    assert counts.disagreement == 3 / 7
    # McNemar: 2 * P(at most 1 of 3 heads) = 2 * (1 + 3) / 8 = 1
    assert counts.p_value == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(
    ("lost", "gained"), [(0, 0), (5, 0), (0, 5), (10, 10), (25, 9), (9, 25), (300, 210), (1000, 20)]
)
def test_mcnemar_agrees_with_the_binomial_test(lost, gained):
    counts = transition_counts([True] * lost + [False] * gained + [True], [False] * lost + [True] * gained + [True])
    expected = binomtest(lost, lost + gained).pvalue if lost + gained else 1
    assert counts.p_value == pytest.approx(expected, rel=1e-9)
    assert counts.log10_p == pytest.approx(math.log10(expected), rel=1e-10, abs=1e-12)


def test_mcnemar_below_the_smallest_double():
    counts = transition_counts(np.ones(5000, bool), np.zeros(5000, bool))
    assert counts.p_value == 0
    assert counts.log10_p == pytest.approx(-4999 * math.log10(2), rel=1e-12)  # 2 * 2^-5000


def test_no_samples():
    counts = transition_counts([], [])
    assert counts.n == 0
    assert counts.dense_accuracy is counts.pruned_accuracy is counts.accuracy_drop is counts.disagreement is None
    assert counts.p_value == 1
    json.dumps(counts.to_dict(), allow_nan=False)


def test_zeros_and_ones_are_truth_values_and_nothing_else_is():
    assert transition_counts(np.array([1, 0], np.int8), np.array([0, 0])).lost == 1
    with pytest.raises(InputError, match=r"`dense_correct` must hold True and False"):
        transition_counts([3, 1], [1, 1])
    with pytest.raises(InputError, match=r"`pruned_correct` has missing values"):
        transition_counts([True, True], np.ma.array([True, False], mask=[False, True]))
    with pytest.raises(InputError, match=r"`pruned_correct` has 1 rows and `dense_correct` 2"):
        transition_counts([True, True], [True])
    with pytest.raises(InputError, match=r"shape \(1, 2\)"):
        transitions([[True, True]], [True, True])


def test_tells_itself():
    told = json.loads(json.dumps(transition_counts(DENSE, PRUNED).to_dict()))
    assert (told["kept"], told["n"], told["accuracy_drop"]) == (2, 7, 1 / 7)
    assert told["log10_p"] == pytest.approx(0, abs=1e-15)
    assert transition_counts(DENSE, PRUNED).frame().loc[0, "lost"] == 2


def test_losses_by_class():
    losses = class_losses(
        [0, 0, 0, 2, 2, 2, 2], ["S1,1", "S1,0", "S0,1", "S1,1", "S1,1", "S1,1", "S1,0"], classes="abc"
    )
    assert losses.name.tolist() == ["a", "b", "c"]
    assert losses.n.tolist() == [3, 0, 4]
    assert losses.dense_correct.tolist() == [2, 0, 4]
    assert losses.lost.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(losses.share, [0.5, np.nan, 0.25])
    assert (losses.low[2], losses.high[2]) == (wilson(1, 4).low, wilson(1, 4).high)
    assert (losses.low[1], losses.high[1]) == (0, 1)
    assert losses.frame().set_index("name").loc["c", "lost"] == 1
    assert json.loads(json.dumps(losses.to_dict(), allow_nan=False))["share"] == [0.5, None, 0.25]


def test_losses_without_class_names():
    losses = class_losses(np.array([7, 7, 3]), [Transition.LOST, Transition.KEPT, Transition.WRONG])
    assert losses.name.tolist() == ["3", "7"]
    assert losses.lost.tolist() == [0, 1]
    assert len(class_losses([], []).name) == 0


def test_bad_classes_are_named():
    with pytest.raises(InputError, match=r"`labels` must lie in \[0, 2\), got 0 to 2"):
        class_losses([0, 2], ["S1,1", "S1,1"], classes=["a", "b"])
    with pytest.raises(InputError, match=r"`labels` must be integers"):
        class_losses([0.5], ["S1,1"])
    with pytest.raises(InputError, match=r"`transition` holds 'S2,1'"):
        class_losses([0], ["S2,1"])


@pytest.mark.parametrize(("lost", "gained", "n", "margin"), [(12, 10, 1000, 0.02), (3, 9, 120, 0.05), (0, 0, 50, 0.1)])
def test_equivalence_of_accuracies_is_a_score_test_at_the_likeliest_shares(lost, gained, n, margin):
    """Tango's closed form against a search for the likeliest shares where they differ by the margin."""
    tails = []
    for more, fewer in ((lost, gained), (gained, lost)):

        def cost(share, more=more, fewer=fewer):  # shares of `fewer`, of `more`, and of all others
            return -(
                xlogy(fewer, share) + xlogy(more, share + margin) + xlogy(n - more - fewer, 1 - 2 * share - margin)
            )

        share = minimize_scalar(cost, bounds=(0, (1 - margin) / 2), method="bounded", options={"xatol": 1e-12}).x
        spread = math.sqrt(n * (2 * share + margin - margin**2))
        tails.append(0.5 * math.erfc((n * margin - more + fewer) / spread / math.sqrt(2)))
    counts = TransitionCounts(kept=n - lost - gained, lost=lost, gained=gained, wrong=0)
    assert 10 ** counts.equivalence_log10_p(margin) == pytest.approx(max(tails), rel=1e-4)


def test_equivalence_is_not_shown_where_a_difference_merely_is_not():
    few = TransitionCounts(kept=45, lost=3, gained=2, wrong=0)
    assert few.p_value > 0.9
    assert few.equivalence_log10_p() > math.log10(0.3)
    many = TransitionCounts(kept=49_000, lost=480, gained=520, wrong=0)
    assert many.equivalence_log10_p() < -20
    far = TransitionCounts(kept=900, lost=90, gained=10, wrong=0)
    assert far.equivalence_log10_p() > -0.01
    assert TransitionCounts(0, 0, 0, 0).equivalence_log10_p() is None
    with pytest.raises(InputError, match="`margin` must lie between 0 and 1, got 1"):
        far.equivalence_log10_p(1)
