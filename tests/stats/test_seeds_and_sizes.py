"""Seeds, sample sizes and survival times: other programs, simulations, and by hand."""

import json
import math

import numpy as np
import pytest
from scipy.stats import CensoredData, ecdf, logrank

from thinice.errors import InputError
from thinice.stats import lost_needed, seed_summary, separation, survival_curve
from thinice.stats.log_rank import log_rank_log_p

NAN = float("nan")


def test_seeds_that_differ_by_chance_alone_are_weighed_by_their_errors():
    # logits 2, 2.1 and 1.9 with standard errors 0.2, 0.2, 0.4: weights 25, 25, 6.25
    logits, errors = np.array([2.0, 2.1, 1.9]), np.array([0.2, 0.2, 0.4])
    auc = 1 / (1 + np.exp(-logits))
    summary = seed_summary(auc, errors * auc * (1 - auc))
    middle = (25 * 2 + 25 * 2.1 + 6.25 * 1.9) / 56.25
    assert summary.spread == 0
    assert math.log(summary.auc / (1 - summary.auc)) == pytest.approx(middle)
    # the scatter is below what chance makes, so that the interval is Student's with the standard error of the mean
    half = 4.302652729749462 / math.sqrt(56.25)
    assert math.log(summary.interval.high / (1 - summary.interval.high)) == pytest.approx(middle + half)
    assert 0 < summary.another.low < summary.interval.low < summary.auc < summary.interval.high < 1


def test_paule_and_mandel_by_hand():
    # equal errors: the spread is the sample variance less the error's
    logits = np.array([1.0, 2.0, 3.0])
    auc = 1 / (1 + np.exp(-logits))
    summary = seed_summary(auc, 0.5 * auc * (1 - auc))
    assert summary.spread == pytest.approx(math.sqrt(1 - 0.25))
    half = 4.302652729749462 * math.sqrt(1 / 3)
    assert math.log(summary.interval.low / (1 - summary.interval.low)) == pytest.approx(2 - half)
    another = 12.706204736432095 * math.sqrt(0.75 + 1 / 3)
    assert math.log(summary.another.high / (1 - summary.another.high)) == pytest.approx(2 + another)
    assert (summary.smallest, summary.largest) == pytest.approx((auc[0], auc[2]))


def test_the_summary_covers_the_mean_over_trainings():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        errors = rng.uniform(0.1, 0.4, 5)
        auc = 1 / (1 + np.exp(-(2 + rng.normal(0, 0.3, 5) + rng.normal(0, errors))))
        interval = seed_summary(auc, errors * auc * (1 - auc)).interval
        covered += interval.low <= 1 / (1 + math.exp(-2)) <= interval.high
    assert 0.92 * 400 <= covered <= 0.99 * 400


def test_few_seeds_and_missing_ones():
    summary = seed_summary([0.9, NAN, 1.0, 0.8], [0.02, NAN, NAN, 0.03])
    assert (summary.n, summary.missing, summary.another) == (2, 2, None)
    one = seed_summary([0.9], [0.02])
    assert (one.auc, one.interval, one.spread) == (pytest.approx(0.9), None, None)
    none = seed_summary([None], [None])
    assert (none.n, none.auc, none.smallest) == (0, None, None)
    assert json.dumps(summary.to_dict(), allow_nan=False)
    for auc, se, message in (
        ([0.9], [0.1, 0.1], "`auc` and `se` must be flat and of one length"),
        ([1.2], [0.1], r"`auc` must lie in \[0, 1\]"),
        ([0.9], [0.0], "`se` must be above 0"),
    ):
        with pytest.raises(InputError, match=message):
            seed_summary(auc, se)


@pytest.mark.sampled
@pytest.mark.parametrize(("auc", "width"), [(0.8, 0.1), (0.9, 0.1), (0.96, 0.08)])
@pytest.mark.slow
def test_with_as_many_lost_samples_the_interval_is_as_wide(auc, width):
    """Exponential distributions, for which Hanley and McNeil's variance is the true one."""
    n = lost_needed(auc, width, kept_for_each=20)
    rng = np.random.default_rng(0)
    widths = []
    for _ in range(40):
        kept, lost = rng.exponential(auc / (1 - auc), 20 * n), rng.exponential(1, n)
        interval = separation(kept, lost).auc_interval
        widths.append(interval.high - interval.low)
    assert np.mean(widths) == pytest.approx(width, rel=0.12)


def test_sizes_by_their_rules():
    assert lost_needed(0.9, 0.05) > 2 * lost_needed(0.9, 0.1) > 2 * lost_needed(0.9, 0.2)
    assert lost_needed(0.1, 0.1) == lost_needed(0.9, 0.1)
    assert lost_needed(0.9, 0.1, kept_for_each=1) > lost_needed(0.9, 0.1)
    assert separation(np.arange(50.0) + 9, np.arange(20.0)).lost_needed > 20
    assert separation([2.0], [1.0]).lost_needed is None
    for arguments, message in (
        ((1, 0.1), "`auc` must lie"),
        ((0.9, 2), "`width` must lie"),
        ((0.9, 1e-9), "too narrow"),
    ):
        with pytest.raises(InputError, match=message):
            lost_needed(*arguments)


@pytest.mark.parametrize("decimals", [9, 0])
def test_log_rank_agrees_with_scipy(decimals):
    rng = np.random.default_rng(1)
    kept, lost = rng.exponential(3, 200).round(decimals), rng.exponential(2, 60).round(decimals)
    kept[:30], lost[:5] = NAN, NAN
    searched = rng.exponential(2, 200), rng.exponential(2, 60)
    for radii in (None, searched):
        columns = []
        for group, own in ((lost, searched[1]), (kept, searched[0])):
            far = np.full(len(group), 1e9) if radii is None else own
            columns.append(CensoredData.right_censored(np.where(np.isnan(group), far, group), np.isnan(group)))
        expected = logrank(*columns, alternative="greater").pvalue
        assert math.exp(log_rank_log_p(kept, lost, searched=radii)) == pytest.approx(expected, rel=1e-9)
    assert separation(kept, lost).log_rank_log10_p == pytest.approx(log_rank_log_p(kept, lost) / math.log(10))
    assert log_rank_log_p([NAN], [NAN]) == 0


def test_survival_with_radii_of_their_own_is_kaplan_and_meiers():
    # 1 of 4 falls at 1; one was searched to 2; at 3 one of the two left falls: 0.75 and 0.375
    curve = survival_curve([1.0, NAN, 3.0, NAN], searched=[0, 2.0, 0, 9.0])
    assert (curve.budget.tolist(), curve.share.tolist()) == ([0.0, 1.0, 3.0], [1.0, 0.75, 0.375])
    plain = survival_curve([1.0, NAN, 3.0, NAN])
    assert plain.share.tolist() == [1.0, 0.75, 0.5]
    rng = np.random.default_rng(2)
    epsilon, searched = rng.exponential(1, 300), rng.exponential(2, 300)
    found = epsilon <= searched
    curve = survival_curve(np.where(found, epsilon, NAN), searched=searched, budgets=[0.5, 1.0, 2.0])
    assert curve.share == pytest.approx(np.exp([-0.5, -1.0, -2.0]), abs=0.08)
    assert (curve.low < curve.share).all()
    assert (curve.high > curve.share).all()
    expected = ecdf(CensoredData.right_censored(np.minimum(epsilon, searched), ~found)).sf.evaluate([0.5, 1.0, 2.0])
    assert curve.share == pytest.approx(expected)
    with pytest.raises(InputError, match="`searched` must be a radius of at least 0"):
        survival_curve([NAN], searched=[NAN])
