"""Ranks: certain where samples suffice, open where they do not, and right for pairs that share their samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from thinice.leaderboard.published import PUBLISHED_SAMPLES, published_accuracies
from thinice.leaderboard.ranking import LEVEL, RobustCount, rank
from thinice.stats import wilson


def count(name, share, n, **more):
    return RobustCount(name, round(share * n), n, "test", **more)


def published(architecture="R18", sparsity=90):
    category = (architecture, "CIFAR10", "US", sparsity)
    return [
        count(row.method, row.robust, PUBLISHED_SAMPLES) for row in published_accuracies() if row.category == category
    ]


def test_large_differences_are_ranked_and_equal_ones_are_not():
    rows = rank([count("b", 0.4, 10_000), count("a", 0.5, 10_000), count("b2", 0.4, 10_000)])
    assert [(row.count.name, row.best, row.worst) for row in rows] == [("a", 1, 1), ("b", 2, 3), ("b2", 2, 3)]
    assert rows[1].undecided == ("b2",)
    assert rows[1].told_with_all == 0
    assert rows[0].note(3) is None


def test_the_published_leader_is_told_from_the_last_and_not_from_the_second():
    rows = rank(published())
    assert rows[0].count.name == "FlyingBird_Chen2021Sparsity"
    assert (rows[0].best, rows[0].worst) == (1, 3)  # HARP 45.40 and PwoA 45.35 against 46.49
    assert set(rows[0].undecided) == {"HARP_Zhao2023Holistic", "PwoA_Jian2022Pruning"}
    assert (rows[-1].count.name, rows[-1].best, rows[-1].worst) == ("RST_Fu2021Drawing", 10, 10)


def test_a_hundred_samples_are_too_few_and_it_is_said():
    (mine,) = [row for row in rank([*published(), count("mine", 0.44, 100)]) if row.count.name == "mine"]
    assert (mine.best, mine.worst) == (1, 10)  # only RST, at 14 %, is told from it
    assert (
        mine.told_with_all == 3
    )  # FlyingBird 46.49, MAD 41.10 and Li20 41.31: 2.4 points or more, of a standard error of 0.7
    note = mine.note(11)
    assert "100 samples are too few to tell it from 9" in note
    assert "all 10 000 test images would tell it from" in note


def test_so_few_samples_as_the_published_ho_fmn_rank_nothing_within_nine_points():
    """128 samples: the standard deviation of a share near a half is 4.4 points."""
    assert math.sqrt(0.25 / 128) == pytest.approx(0.044, abs=0.0002)
    interval = wilson(64, 128)
    assert (interval.high - interval.low) / 2 == pytest.approx(norm.ppf(0.975) * 0.044, abs=0.002)
    rows = rank([count("a", 0.5, 128), count("b", 0.41, 128)])
    assert [(row.best, row.worst) for row in rows] == [(1, 2), (1, 2)]


def test_networks_on_the_same_samples_are_compared_sample_by_sample():
    """Of 100 samples 9 are lost and none is gained: told apart, where unpaired counts would not be."""
    flags = np.arange(100) < 60
    fewer = flags & (np.arange(100) >= 9)
    by_id = [dict(enumerate(values.tolist())) for values in (flags, fewer)]
    paired = rank([count("a", 0.6, 100, verdicts=by_id[0]), count("b", 0.51, 100, verdicts=by_id[1])])
    assert binomtest(0, 9).pvalue == pytest.approx(2 / 2**9)
    assert LEVEL > 2 / 2**9
    assert [(row.best, row.worst) for row in paired] == [(1, 1), (2, 2)]
    unpaired = rank([count("a", 0.6, 100), count("b", 0.51, 100)])
    assert [(row.best, row.worst) for row in unpaired] == [(1, 2), (1, 2)]


def test_orders_that_are_said_are_seldom_false():
    """Four networks with the same true accuracy: in at most about 5 % of the draws any two are told apart."""
    generator = np.random.default_rng(0)
    draws = generator.binomial(400, 0.45, size=(30, 4))
    told = [
        any(row.best > 1 or row.worst < 4 for row in rank([count(str(k), c / 400, 400) for k, c in enumerate(each)]))
        for each in draws
    ]
    assert np.sum(told) <= 3


def test_one_network_alone_is_first_and_degenerate_counts_are_no_error():
    (row,) = rank([count("a", 0.0, 5)])
    assert (row.best, row.worst, row.undecided) == (1, 1, ())
    rows = rank([count("a", 1.0, 10_000), count("b", 0.0, 10_000), count("c", 0.0, 1)])
    assert [(row.best, row.worst) for row in rows] == [(1, 1), (2, 3), (2, 3)]
    assert rank([]) == ()
