"""Several prunings: Holm's p-values against another program, tests between AUCs against the bootstrap and DeLong."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinice.errors import InputError
from thinice.stats import compare_prunings, holm, separation

NAN = float("nan")
P = np.array([0.01, 0.04, 0.03, 0.005, 0.5, 0.002, 0.03])
logs = st.lists(st.one_of(st.just(NAN), st.floats(-500, 0)), max_size=20)


def test_holm_agrees_with_statsmodels():
    # statsmodels 0.15, multipletests(P, method="holm")
    expected = [0.05, 0.12, 0.12, 0.03, 0.5, 0.014, 0.12]
    assert 10 ** holm(np.log10(P)) == pytest.approx(expected)


def test_holm_by_hand_below_the_smallest_double():
    assert holm([-1000, -999, -2, np.log10(0.5)]) == pytest.approx(
        [-1000 + np.log10(4), -999 + np.log10(3), -2 + np.log10(2), np.log10(0.5)]
    )


@given(log10_p=logs, order=st.randoms(use_true_random=False))
def test_order_and_missing_values_do_not_matter(log10_p, order):
    values = np.array(log10_p)
    adjusted = holm(values)
    known = ~np.isnan(values)
    assert np.array_equal(np.isnan(adjusted), ~known)
    assert (adjusted[known] >= values[known]).all()
    assert (adjusted[known] <= 0).all()
    shuffled = np.array(order.sample(range(len(values)), len(values)), dtype=int)
    assert np.array_equal(holm(values[shuffled]), adjusted[shuffled], equal_nan=True)
    assert np.array_equal(holm(values[known]), adjusted[known])
    assert (np.diff(adjusted[known][np.argsort(values[known], kind="stable")]) >= 0).all()


def losses(n=600, seed=0):
    """Two prunings of which the second loses what the first does, and more that lie farther."""
    rng = np.random.default_rng(seed)
    epsilon = rng.lognormal(0, 0.7, n).round(2)  # some ties
    first = rng.random(n) < 0.5 * np.exp(-2 * epsilon)
    return epsilon, {"light": first, "heavy": first | (rng.random(n) < 0.25 * np.exp(-epsilon))}


def auc(epsilon, lost):
    return separation(epsilon[~lost], epsilon[lost]).auc


def test_the_spread_of_a_difference_is_that_of_the_bootstrap_over_samples():
    epsilon, lost = losses()
    result = compare_prunings(epsilon, lost)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(400):
        rows = rng.integers(0, len(epsilon), len(epsilon))
        both = [compare_auc(epsilon[rows], column[rows]) for column in lost.values()]
        drawn.append(both[0] - both[1])
    assert result.difference[0] == pytest.approx(auc(epsilon, lost["light"]) - auc(epsilon, lost["heavy"]), abs=1e-12)
    half = (result.high[0] - result.low[0]) / 2 / 1.959964
    assert half == pytest.approx(np.std(drawn, ddof=1), rel=0.12)
    # taken for independent the difference would vary more: the prunings share samples and losses
    independent = math.hypot(*(separation(epsilon[~column], epsilon[column]).auc_se for column in lost.values()))
    assert half < 0.9 * independent


def compare_auc(epsilon, lost):
    ranks = np.searchsorted(np.sort(epsilon), epsilon, "left") + np.searchsorted(np.sort(epsilon), epsilon, "right") + 1
    n = lost.sum()
    return 1 - (ranks[lost].sum() / 2 - n * (n + 1) / 2) / (n * (~lost).sum())


def test_against_losses_by_chance_a_pruning_is_tested_as_by_itself():
    """A difference to an AUC that another group of samples gives by chance: each variance is DeLong's."""
    epsilon, lost = losses()
    one = separation(epsilon[~lost["light"]], epsilon[lost["light"]])
    result = compare_prunings(epsilon, {"light": lost["light"], "all but it": ~lost["light"]})
    # the second has AUC 1 - auc, and moves exactly the other way: the difference has twice the standard error
    assert result.difference[0] == pytest.approx(2 * one.auc - 1, abs=1e-12)
    assert (result.high[0] - result.low[0]) / 2 / 1.959963984540054 == pytest.approx(2 * one.auc_se, rel=1e-9)


def test_the_test_keeps_its_level():
    rng = np.random.default_rng(5)
    rejected = np.zeros(2)
    for _ in range(300):
        epsilon = rng.lognormal(0, 0.7, 500)
        chance = 0.4 * np.exp(-epsilon)  # three prunings of the same risk, that lose what they lose independently
        result = compare_prunings(epsilon, {name: rng.random(500) < chance for name in "abc"})
        rejected += [result.joint_log10_p < math.log10(0.05), result.log10_p.min() < math.log10(0.05)]
    assert 0.02 < rejected[0] / 300 < 0.09
    assert 0.01 < rejected[1] / 300 < 0.08


def test_few_losses_are_not_tested():
    epsilon, lost = losses()
    result = compare_prunings(epsilon, lost | {"barely": np.arange(600) < 4, "none": np.zeros(600, bool)})
    assert result.joint_log10_p is None
    assert np.isnan(result.log10_p).tolist() == [False, True, True, True, True, True]
    assert result.notes[0].startswith("barely loses, or keeps, fewer than 10 samples")
    assert json.dumps(result.to_dict(), allow_nan=False)
    assert len(result.frame()) == 6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: holm([0.05]), "`log10_p` holds 0.05: the logarithm of a p-value is at most 0"),
        (lambda: holm([[-1.0]]), r"`log10_p` must be a flat list, got shape \(1, 1\)"),
        (lambda: compare_prunings([1.0], {"a": [True]}), "`lost` has 1 prunings: give at least two"),
        (lambda: compare_prunings([1.0], {"a": [True], "b": [True, False]}), "`b` has 2 rows and `epsilon` 1"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
