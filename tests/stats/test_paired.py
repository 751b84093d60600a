"""The shift of epsilon on the same samples: Hollander and Wolfe's data, scipy, and by hand."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from thinice.errors import InputError
from thinice.stats import paired_equivalence_log10_p, paired_shift
from thinice.stats.rank_tests import ranked_sum

NAN = float("nan")
# Hollander and Wolfe 1973, table 3.1: depression scale factor of nine patients at two visits
FIRST = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
SECOND = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
pairs = st.lists(st.tuples(st.integers(0, 9), st.one_of(st.just(NAN), st.integers(0, 9))), min_size=1, max_size=30)


def test_shift_of_hollander_and_wolfes_data():
    # their example 3.1, and R's wilcox.test(x, y, paired=TRUE): V = 40 of 45, one-sided p = 0.01953; estimate -0.46
    result = paired_shift(FIRST, SECOND)
    assert result.exact
    assert result.w == 5
    assert 10**result.log10_p_nearer == pytest.approx(10 / 512)
    assert result.p_value == pytest.approx(20 / 512)
    assert result.shift == pytest.approx(-0.46)
    assert (result.n, result.nearer, result.farther, result.same) == (9, 7, 2, 0)


@pytest.mark.parametrize(("n", "decimals"), [(12, 9), (49, 9), (300, 9), (300, 1)])
def test_shift_agrees_with_scipy(n, decimals):
    rng = np.random.default_rng(n)
    differences = rng.normal(-0.1, 0.5, n).round(decimals)  # rounded, there are ties and zeros
    result = paired_shift(np.zeros(n), differences)
    assert result.exact == (n < 50)
    options = {"method": "exact"} if result.exact else {"method": "asymptotic", "correction": True}
    expected = [wilcoxon(differences, alternative=side, **options).pvalue for side in ("two-sided", "less")]
    assert (result.p_value, 10**result.log10_p_nearer) == pytest.approx(expected, rel=1e-9)


def test_exact_signs_with_ties_are_counted_out():
    differences = np.array([1.0, 1.0, -1.0, 2.0, 2.0, -3.0, 4.0])
    ranks = np.array([2, 2, 2, 4.5, 4.5, 6, 7])
    sums = np.array([sum(ranks[list(chosen)]) for k in range(8) for chosen in itertools.combinations(range(7), k)])
    result = paired_shift(np.zeros(7), differences)
    assert result.w == 20
    assert 10**result.log10_p_nearer == pytest.approx((sums <= 20).mean())
    assert result.p_value == pytest.approx(min(1, 2 * (sums >= 20).mean()))


def walsh(differences):
    return np.sort([(a + b) / 2 for k, a in enumerate(differences) for b in differences[k:]])


def test_interval_is_two_ordered_means():
    rng = np.random.default_rng(1)
    differences = rng.normal(0.3, 1, 40)
    result = paired_shift(np.zeros(40), differences)
    means = walsh(differences)
    # 410 - 1.96 sqrt(40 * 41 * 81 / 24) = 264.18…
    assert result.shift == pytest.approx(np.median(means))
    assert (result.interval.low, result.interval.high) == pytest.approx((means[263], means[-264]))


def test_interval_covers_the_true_shift():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        interval = paired_shift(np.zeros(15), rng.standard_t(3, 15) + 0.5).interval
        covered += interval.low <= 0.5 <= interval.high
    assert 0.92 * 400 <= covered <= 0.99 * 400


def test_many_pairs_need_no_table_of_means():
    rng = np.random.default_rng(3)
    values = np.sort(rng.normal(0, 1, 1500))
    means = walsh(values)
    for rank in (0, 10_000, len(means) // 2, len(means) - 1):
        assert ranked_sum(values, rank) / 2 == pytest.approx(means[rank], abs=2e-3)
    large = paired_shift(np.zeros(1500), values)
    assert large.shift == pytest.approx(np.median(means), abs=1e-3)
    assert large.interval.low < large.shift < large.interval.high


@given(rows=pairs, order=st.randoms(use_true_random=False))
def test_order_scale_and_direction(rows, order):
    dense, pruned = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    result = paired_shift(dense, pruned)
    shuffled = np.array(order.sample(range(len(rows)), len(rows)))
    again = paired_shift(4 * dense[shuffled] + 8, 4 * pruned[shuffled] + 8)
    turned = paired_shift(pruned, dense)
    assert (again.w, again.log10_p, again.nearer) == (result.w, result.log10_p, result.nearer)
    assert turned.log10_p == pytest.approx(result.log10_p, abs=1e-12)
    assert (turned.nearer, turned.farther, turned.same) == (result.farther, result.nearer, result.same)
    assert result.nearer + result.farther + result.same + result.not_found_both == result.n
    if result.shift is not None:
        assert again.shift == pytest.approx(4 * result.shift)
        assert turned.shift == pytest.approx(-result.shift)
        assert result.interval.low <= result.shift <= result.interval.high
    json.dumps(result.to_dict(), allow_nan=False)


def test_pairs_that_were_not_found():
    result = paired_shift([1.0, 2.0, NAN, NAN, 3.0], [0.5, NAN, 1.0, NAN, 3.0])
    assert (result.n, result.nearer, result.farther, result.same) == (5, 2, 1, 1)
    assert (result.not_found, result.not_found_both) == (2, 1)
    # |differences| 0.5, inf, inf: ranks 1, 2.5, 2.5
    assert result.w == 2.5
    # the median of -inf (3 times), +inf (twice), -0.5, -0.25, 0 and an unknown one: the middle is -0.25
    assert result.shift == pytest.approx(-0.25)
    assert result.median == -0.25  # of -inf, -0.5, 0, +inf
    nobody = paired_shift([NAN], [NAN])
    assert nobody.median is paired_shift([1.0, 1.0], [2.0, NAN]).median is None
    assert (nobody.shift, nobody.interval, nobody.p_value, nobody.not_found_both) == (None, None, 1, 1)
    assert paired_shift([1.0] * 3, [NAN] * 3).shift is None


def test_nothing_underflows():
    dense = np.random.default_rng(4).lognormal(0, 0.5, 5000)
    result = paired_shift(dense, 0.9 * dense)
    assert result.p_value == 0
    # all of 5000 nearer: z = (n(n+1)/4 - 1/2) / sqrt(n(n+1)(2n+1)/24) = 61.2…
    assert -820 < result.log10_p < -810


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_shift([1.0], [1.0, 2.0]), "`pruned` has 2 rows and `dense` 1"),
        (lambda: paired_shift([1.0], [1.0], confidence=95), "`confidence`"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_equivalence_is_the_larger_of_two_one_sided_tests():
    rng = np.random.default_rng(3)
    dense = rng.lognormal(0, 1, 40)
    pruned = dense + rng.normal(0.02, 0.1, 40)
    for margin in (0.05, 0.2):
        lower = wilcoxon(pruned - dense + margin, alternative="greater", method="exact").pvalue
        upper = wilcoxon(pruned - dense - margin, alternative="less", method="exact").pvalue
        assert 10 ** paired_equivalence_log10_p(dense, pruned, margin) == pytest.approx(max(lower, upper), rel=1e-9)
    assert paired_equivalence_log10_p(dense, pruned, 0.2) < -6 < paired_equivalence_log10_p(dense, dense - 0.2, 0.1)
    assert paired_equivalence_log10_p([np.nan], [np.nan], 0.1) is None
    with pytest.raises(InputError, match="`margin` must be above 0, got 0"):
        paired_equivalence_log10_p(dense, pruned, 0)
