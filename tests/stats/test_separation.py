"""Separation of lost from kept samples: the paper's numbers, scipy, scikit-learn, a slow DeLong, hand-worked cases."""

import itertools
import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, brunnermunzel, mannwhitneyu, rankdata
from sklearn.metrics import roc_auc_score

from thinice.errors import InputError
from thinice.stats import separation, wilson
from thinice.stats.tail_probabilities import log_rank_sum, log_rank_sum_saddlepoint

NAN = float("nan")


def groups_with_auc(n_kept, n_lost, auc):
    """Distinct epsilons whose U is the integer nearest to (1 - auc) * n_kept * n_lost."""
    u = round((1 - auc) * n_kept * n_lost)
    # each lost sample lies above this many kept ones; the counts sum to u and are spread as widely as they can be
    share, rest = divmod(u, n_lost)
    below = np.full(n_lost, share)
    below[:rest] += 1
    spread = np.arange(n_lost // 2) % (min(share, n_kept - share - 1) or 1)
    below[: n_lost // 2] -= spread
    below[-(n_lost // 2) :] += spread
    kept = np.arange(n_kept, dtype=float)
    lost = below - 0.5 + np.linspace(-0.4, 0.4, n_lost)
    assert len(np.unique(np.concatenate([kept, lost]))) == n_kept + n_lost
    return kept, lost


# methods: "n10 = 380, n11 = 8000 gives 1e-145" and so on, all at AUC 0.89; 500 against 500 perfectly separated 1e-164
@pytest.mark.parametrize(
    ("n_lost", "n_kept", "auc", "log10_p"),
    [
        (380, 8000, 0.89, -145),
        (400, 7600, 0.89, -152),
        (600, 3500, 0.89, -204),
        (500, 500, 0.89, -100),
        (500, 500, 1, -164),
    ],
)
def test_the_bounds_behind_the_published_p_value(n_lost, n_kept, auc, log10_p):
    result = separation(*groups_with_auc(n_kept, n_lost, auc))
    assert result.auc == pytest.approx(auc, abs=1e-12)
    assert result.u == round((1 - auc) * n_kept * n_lost)
    assert abs(result.log10_p_normal - log10_p) < 1
    sigma = math.sqrt(n_lost * n_kept * (n_lost + n_kept + 1) / 12)
    z = (n_lost * n_kept / 2 - result.u - 0.5) / sigma
    # the tail of the normal distribution by its asymptotic series, at |z| > 21 right to 1e-9
    series = 1 - z**-2 + 3 * z**-4 - 15 * z**-6 + 105 * z**-8
    tail = -z * z / 2 / math.log(10) - math.log10(z * math.sqrt(2 * math.pi) / series)
    assert result.log10_p_normal == pytest.approx(tail, rel=1e-10)
    assert result.log10_p < result.log10_p_normal  # the exact test and the saddlepoint go farther down that tail
    assert result.log10_p_two_sided == pytest.approx(result.log10_p + math.log10(2), rel=1e-12)


def test_below_the_smallest_double():
    result = separation(np.arange(7000.0) + 3000, np.arange(3000.0))
    assert result.auc == 1
    assert result.p_value == 0.0
    # 3000 against 7000 perfectly separated: z = (n m / 2 - 1/2) / sqrt(n m (n + m + 1) / 12) = 79.3686…
    assert result.log10_p_normal == pytest.approx(-1370.2, abs=0.05)
    ways = math.lgamma(10_001) - math.lgamma(3001) - math.lgamma(7001)  # one of so many
    assert result.exact
    assert result.log10_p == pytest.approx(-ways / math.log(10), rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [False, True])
def test_agrees_with_scipy_and_scikit_learn(seed, ties):
    rng = np.random.default_rng(seed)
    kept, lost = rng.lognormal(0.6 * (seed % 3), 0.7, 211 + seed), rng.lognormal(0, 0.7, 10 + 9 * seed)
    if ties:
        kept, lost = kept.round(1), lost.round(1)
    result = separation(kept, lost)
    one = mannwhitneyu(lost, kept, alternative="less", method="asymptotic")
    assert result.u == one.statistic
    assert result.log10_p_normal == pytest.approx(math.log10(one.pvalue), rel=1e-12, abs=1e-13)
    assert result.exact
    if not ties:
        one, two = (mannwhitneyu(lost, kept, alternative=side, method="exact") for side in ("less", "two-sided"))
        assert result.p_value == pytest.approx(one.pvalue, rel=1e-9)
        assert result.p_value_two_sided == pytest.approx(two.pvalue, rel=1e-9)
    is_lost = np.repeat([0, 1], [len(kept), len(lost)])
    assert result.auc == pytest.approx(roc_auc_score(is_lost, -np.concatenate([kept, lost])), abs=1e-14)
    assert result.median_kept == np.median(kept)
    assert result.median_lost == np.median(lost)
    assert result.quartiles_kept == pytest.approx(tuple(np.quantile(kept, [0.25, 0.75])), rel=1e-14)
    assert result.quartiles_lost == pytest.approx(tuple(np.quantile(lost, [0.25, 0.75])), rel=1e-14)


def slow_delong_se(kept, lost):
    """DeLong's structural components, pair by pair as in the paper (section 2)."""
    psi = [[1.0 if k > v else 0.5 if k == v else 0.0 for v in lost] for k in kept]
    m, n = len(kept), len(lost)
    auc = sum(map(sum, psi)) / (m * n)
    v10 = [sum(row) / n for row in psi]
    v01 = [sum(row[j] for row in psi) / m for j in range(n)]
    s10 = sum((v - auc) ** 2 for v in v10) / (m - 1)
    s01 = sum((v - auc) ** 2 for v in v01) / (n - 1)
    return math.sqrt(s10 / m + s01 / n)


@pytest.mark.parametrize("decimals", [9, 1, 0])
def test_delong_agrees_with_the_slow_definition(decimals):
    rng = np.random.default_rng(5)
    kept, lost = rng.normal(1, 1, 83).round(decimals), rng.normal(0, 1.5, 29).round(decimals)
    result = separation(kept, lost)
    assert result.auc_se == pytest.approx(slow_delong_se(kept, lost), rel=1e-12)
    # an independent program: with N = m + n, scipy's Brunner-Munzel statistic is (auc - 1/2) / its standard error,
    # and that standard error is DeLong's
    assert brunnermunzel(lost, kept).statistic == pytest.approx((result.auc - 0.5) / result.auc_se, rel=1e-10)
    assert brunnermunzel(lost, kept).pvalue == pytest.approx(10**result.brunner_munzel_log10_p_two_sided, rel=1e-9)
    interval = result.interval()
    assert interval == result.auc_interval
    assert interval.confidence == 0.95
    wider = result.interval(0.99)
    assert wider.low < interval.low < result.auc < interval.high < wider.high


def test_delong_agrees_with_the_bootstrap():
    rng = np.random.default_rng(3)
    kept, lost = rng.normal(1.5, 1, 300), rng.normal(0, 1, 60)

    def auc(kept, lost, axis):
        return mannwhitneyu(kept, lost, axis=axis).statistic / (kept.shape[axis] * lost.shape[axis])

    resampled = bootstrap((kept, lost), auc, n_resamples=1500, method="percentile", rng=rng)  # stratified
    result = separation(kept, lost)
    assert result.auc_se == pytest.approx(resampled.standard_error, rel=0.08)
    assert result.interval().low == pytest.approx(resampled.confidence_interval.low, abs=0.015)
    assert result.interval().high == pytest.approx(resampled.confidence_interval.high, abs=0.015)


def test_worked_by_hand():
    # pairs (kept, lost): 3>1, 3=3, 5>1, 5>3, 4>1, 4>3 -> 5 wins and a tie of 6; U of lost 0.5
    result = separation(kept=[3.0, 5.0, 4.0], lost=[3.0, 1.0])
    assert (result.auc, result.u) == (5.5 / 6, 0.5)
    assert result.cliffs_delta == pytest.approx(2 / 3 + 1 / 6)
    assert (result.median_kept, result.median_lost) == (4, 2)
    assert (result.quartiles_kept, result.quartiles_lost) == ((3.5, 4.5), (1.5, 2.5))
    # differences 0 1 2 2 3 4: median 2
    assert result.shift == 2
    # placements of kept .75 1 1 (variance 1/48), of lost 1 and 5/6 (variance 1/72)
    assert result.auc_se == pytest.approx(math.sqrt(1 / 48 / 3 + 1 / 72 / 2))


def test_direction_and_groups_are_never_turned_round():
    near, far = np.arange(50.0), np.arange(50.0) + 40
    right, wrong = separation(kept=far, lost=near), separation(kept=near, lost=far)
    assert right.auc + wrong.auc == pytest.approx(1, abs=1e-15)
    assert right.auc > 0.5 > wrong.auc
    assert right.p_value < 1e-10
    assert wrong.p_value > 1 - 1e-10
    assert right.p_value_two_sided == pytest.approx(wrong.p_value_two_sided, rel=1e-12)
    assert right.shift == -wrong.shift == 40
    swapped = wrong.interval()
    assert (1 - swapped.high, 1 - swapped.low) == pytest.approx((right.interval().low, right.interval().high))


values = st.one_of(st.just(NAN), st.integers(0, 12).map(float), st.floats(0, 1e6, width=32))
epsilons = st.one_of(st.lists(values, min_size=1, max_size=9), st.lists(values, min_size=10, max_size=40))


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(kept=epsilons, lost=epsilons, order=st.randoms(use_true_random=False))
def test_swapping_shuffling_and_stretching_change_nothing_else(kept, lost, order):
    result = separation(kept, lost)
    swapped = separation(lost, kept)
    assert swapped.auc == pytest.approx(1 - result.auc, abs=1e-14)
    assert swapped.u == len(kept) * len(lost) - result.u
    assert result.exact == swapped.exact
    assert swapped.p_value_two_sided == pytest.approx(result.p_value_two_sided, rel=1e-9)
    assert swapped.shift == (None if result.shift is None else pytest.approx(-result.shift, rel=1e-12, abs=1e-9))

    shuffled = list(kept)
    order.shuffle(shuffled)
    assert separation(shuffled, lost) == result

    def monotone(values):  # strictly, and exactly in floating point
        return np.array(values) * 1024.0

    stretched = separation(monotone(kept), monotone(lost))
    for name in ("auc", "auc_se", "u", "log10_p", "log10_p_two_sided", "not_found_kept", "not_found_lost"):
        assert getattr(stretched, name) == getattr(result, name)
    for name in ("shift", "median_kept", "median_lost"):
        value = getattr(result, name)
        assert getattr(stretched, name) == (value if value is None else pytest.approx(1024 * value, rel=1e-12))

    ranks = np.unique(np.concatenate([kept, lost]), return_inverse=True)[1].astype(float)
    ranks[np.isnan(np.concatenate([kept, lost]))] = np.nan
    ranked = separation(ranks[: len(kept)], ranks[len(kept) :])
    assert (ranked.auc, ranked.auc_se, ranked.log10_p) == (result.auc, result.auc_se, result.log10_p)

    interval = result.interval()
    assert 0 <= interval.low <= result.auc <= interval.high <= 1
    json.dumps(result.to_dict(), allow_nan=False)


def test_not_found_is_last_and_tied():
    kept, lost = [1.0, 2.0, NAN, NAN], [0.5, NAN]
    result = separation(kept, lost)
    # 0.5 lies below all four; the lost NaN above two and level with two: U = 0 + 2 + 2 * 0.5
    assert (result.u, result.auc) == (3, 1 - 3 / 8)
    assert (result.not_found_kept, result.not_found_lost) == (2, 1)
    assert result == separation([1.0, 2.0, math.inf, None], np.ma.masked_invalid([0.5, NAN]))
    # the same as one common value above all others
    kept = np.where(np.arange(200) % 5 == 0, np.nan, np.arange(200.0))
    lost = kept[:60] / 2
    censored, plain = separation(kept, lost), separation(np.nan_to_num(kept, nan=1e9), np.nan_to_num(lost, nan=1e9))
    assert (censored.auc, censored.auc_se, censored.log10_p) == (plain.auc, plain.auc_se, plain.log10_p)
    assert (censored.not_found_kept, censored.not_found_lost) == (40, 12)


def test_medians_of_censored_groups():
    result = separation([1.0, 2.0, NAN], [1.0, NAN, NAN])
    assert result.median_kept == 2
    assert result.quartiles_kept == (1.5, None)
    assert result.median_lost is None
    assert result.quartiles_lost == (None, None)
    assert "no median of S1,0: half of its samples or more were not found" in result.notes
    assert separation([1.0, NAN], [1.0]).median_kept is None  # between 1 and something unknown


def test_shift_of_censored_groups():
    # differences 5 4, inf inf (kept not found): median between 5 and inf is unknown
    assert separation([6.0, NAN], [1.0, 2.0]).shift is None
    # differences 5 4 7 6, inf inf: median of 4 5 6 7 inf inf = 6.5
    assert separation([6.0, 8.0, NAN], [1.0, 2.0]).shift == 6.5
    # a pair of two not found says nothing: 5, inf (kept), -inf (lost) -> 5
    assert separation([6.0, NAN], [1.0, NAN]).shift == 5
    assert separation([NAN, NAN], [1.0, 2.0]).shift is None
    assert any(note.startswith("no shift") for note in separation([NAN, NAN], [1.0, 2.0]).notes)


@pytest.mark.parametrize(
    ("kept", "lost", "empty"),
    [
        ([], [1.0, NAN], "S1,1 is empty (0 of 2"),
        ([1.0] * 30, [], "S1,0 is empty (0 of 30"),
        ([], [], "S1,1 and S1,0 is"),
    ],
)
def test_empty_groups_give_a_reason_not_an_exception(kept, lost, empty):
    result = separation(kept, lost)
    assert (result.n_kept, result.n_lost) == (len(kept), len(lost))
    for name in (
        "auc",
        "auc_se",
        "u",
        "p_value",
        "log10_p",
        "p_value_two_sided",
        "log10_p_two_sided",
        "shift",
    ):
        assert getattr(result, name) is None
    assert result.interval() is None
    assert result.cliffs_delta is None
    assert empty in result.notes[0]
    assert len(result.notes) == 1 or "no median" in result.notes[1]


def test_small_groups_are_tested_exactly_by_hand():
    # lost at ranks 1 and 3.5 (a tie) of 1 2 3.5 3.5 5: the pairs that sum to at most 4.5 are 1+2 and twice 1+3.5, of 10
    result = separation(kept=[2.0, 3.0, 4.0], lost=[1.0, 3.0])
    assert result.exact
    assert (result.p_value, result.p_value_two_sided) == pytest.approx((0.3, 0.6))
    assert result.log10_p == pytest.approx(math.log10(0.3))
    # the other direction: all but 1+2, for 1+3.5 is as far itself
    assert separation(kept=[1.0, 3.0], lost=[2.0, 3.0, 4.0]).p_value == pytest.approx(0.9)
    assert separation([NAN] * 3, [NAN]).p_value == pytest.approx(1)


@pytest.mark.parametrize(("m", "n"), [(7, 9), (30, 4), (4, 30), (1, 1), (200, 1), (12, 9)])
def test_small_groups_agree_with_scipys_exact_test(m, n):
    rng = np.random.default_rng(m * n)
    for shift in (-1.0, 0.0, 2.0):
        kept, lost = rng.normal(shift, 1, m), rng.normal(0, 1, n)
        result = separation(kept, lost)
        one = mannwhitneyu(lost, kept, alternative="less", method="exact")
        two = mannwhitneyu(lost, kept, alternative="two-sided", method="exact")
        assert result.exact
        assert result.p_value == pytest.approx(one.pvalue, rel=1e-10)
        assert result.p_value_two_sided == pytest.approx(two.pvalue, rel=1e-10)


def test_small_groups_with_ties_agree_with_all_permutations():
    rng = np.random.default_rng(8)
    kept, lost = rng.integers(1, 5, 7).astype(float), rng.integers(0, 4, 4).astype(float)
    ranks = rankdata(np.concatenate([kept, lost]))
    sums = np.array([sum(chosen) for chosen in itertools.combinations(ranks, 4)])
    expected = (sums <= ranks[7:].sum() + 1e-9).mean()
    assert separation(kept, lost).p_value == pytest.approx(expected, rel=1e-12)
    assert separation(lost, kept).p_value == pytest.approx((sums >= ranks[7:].sum() - 1e-9).mean(), rel=1e-12)


def counted(n_kept, n_lost, u):
    """How many of all orders have at most this U: Mann and Whitney's recursion, in whole numbers of any length."""
    ways = [[1] + [0] * u for _ in range(n_kept + 1)]
    for lost in range(1, n_lost + 1):
        for kept in range(1, n_kept + 1):  # the farthest sample is a lost one, beyond all kept ones, or a kept one
            ways[kept] = [(ways[kept][k - kept] if k >= kept else 0) + ways[kept - 1][k] for k in range(u + 1)]
        assert ways[0] == [1] + [0] * u, lost
    return sum(ways[n_kept]), math.comb(n_kept + n_lost, n_lost)


@pytest.mark.parametrize(("n_kept", "n_lost", "auc"), [(60, 12, 0.9), (60, 12, 0.45), (25, 25, 0.8), (130, 10, 0.97)])
def test_exact_agrees_with_counting_in_whole_numbers(n_kept, n_lost, auc):
    kept, lost = groups_with_auc(n_kept, n_lost, auc)
    result = separation(kept, lost)
    some, total = counted(n_kept, n_lost, int(result.u))
    assert result.exact
    assert result.log10_p == pytest.approx(math.log10(some) - math.log10(total), rel=1e-10)
    assert separation(lost, kept).log10_p == pytest.approx(
        math.log10(1 - counted(n_kept, n_lost, int(result.u) - 1)[0] / total), rel=1e-7, abs=1e-12
    )


# of the audit, by scipy and by counting: nothing jumps between 9 and 10 lost samples, nor in the README's demo
@pytest.mark.parametrize(
    ("n_lost", "n_kept", "auc", "log10_p"),
    [(9, 872, 0.964, -9.69), (10, 872, 0.964, -10.66), (17, 872, 0.964, -17.3), (500, 500, 1, -299.4)],
)
def test_exact_far_in_the_tail(n_lost, n_kept, auc, log10_p):
    result = separation(*groups_with_auc(n_kept, n_lost, auc))
    assert result.exact
    assert result.log10_p == pytest.approx(log10_p, abs=0.06)
    assert result.log10_p_normal > result.log10_p + 1 or n_lost < 10


@pytest.mark.parametrize(("n_kept", "n_lost"), [(9000, 5), (9000, 9), (2000, 20)])
def test_of_nine_thousand_samples_none_is_too_many(n_kept, n_lost):
    rng = np.random.default_rng(n_lost)
    kept, lost = rng.normal(1, 1, n_kept), rng.normal(0, 1, n_lost)
    result = separation(kept, lost)
    assert result.exact
    assert result.p_value == pytest.approx(
        mannwhitneyu(lost, kept, alternative="less", method="exact").pvalue, rel=1e-8
    )


def test_forty_of_nine_thousand_are_counted_with_ties_too():
    rng = np.random.default_rng(0)
    kept, lost = rng.normal(2.7, 1, 9000), rng.normal(0, 1, 40)
    untied, tied = separation(kept, lost), separation(kept.round(3), lost.round(3))
    assert untied.exact
    assert tied.exact
    assert len(np.unique(kept.round(3))) < 6000
    assert tied.log10_p == pytest.approx(untied.log10_p, abs=0.1)


@pytest.mark.parametrize("decimals", [12, 2, 1])
@pytest.mark.parametrize(("n_lost", "shift"), [(12, 1.5), (40, 0.9), (40, 0.2), (12, -0.5)])
def test_the_saddlepoint_is_near_the_exact_test(n_lost, shift, decimals):
    rng = np.random.default_rng(n_lost)
    kept, lost = rng.normal(shift, 1, 300).round(decimals), rng.normal(0, 1, n_lost).round(decimals)
    scores = (2 * rankdata(np.concatenate([kept, lost]))).astype(np.int64)
    total = int(scores[300:].sum())
    exact, near = (
        function(scores, n_lost, total) / math.log(10) for function in (log_rank_sum, log_rank_sum_saddlepoint)
    )
    assert near == pytest.approx(exact, abs=0.01)


def test_the_exact_test_gives_way_to_the_saddlepoint_without_a_jump():
    rng = np.random.default_rng(7)
    kept, lost = rng.normal(1, 1, 3000).round(3), rng.normal(0, 1, 300).round(3)
    large = separation(kept, lost)
    assert not large.exact
    untied = separation(np.argsort(np.argsort(kept)) * 2.0, np.searchsorted(np.sort(kept), lost) * 2.0 - 1)
    assert large.log10_p == pytest.approx(untied.log10_p, rel=0.003)
    assert large.log10_p < large.log10_p_normal


@pytest.mark.parametrize(
    ("kept", "lost"), [([5.0], [1.0, 2.0]), ([2.0] * 20, [1.0] * 30), ([1.0], [2.0]), ([3.0] * 9, [3.0] * 8)]
)
def test_where_delong_says_nothing_the_interval_is_wide_not_wrong(kept, lost):
    result = separation(kept, lost)
    n = min(len(kept), len(lost))
    assert result.auc_se is None
    expected = wilson(result.auc * n, n)
    assert (result.interval().low, result.interval().high) == (expected.low, expected.high)
    assert 0 <= result.interval().low <= result.auc <= result.interval().high <= 1
    assert result.interval().low < result.interval().high


@pytest.mark.slow
def test_the_fallback_interval_covers():
    # perfect or not, a group of one: the true AUC of N(1,1) against N(0,1) is Phi(1/sqrt 2) = 0.7602
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(400):
        interval = separation(rng.normal(1, 1, 40), rng.normal(0, 1, 1)).interval()
        covered += interval.low <= 0.7602499389065233 <= interval.high
    assert covered >= 380  # 95 %


def test_all_tied():
    result = separation([1.0] * 20, [1.0] * 15)
    assert (result.auc, result.shift, result.p_value, result.log10_p, result.p_value_two_sided) == (
        0.5,
        0,
        1,
        0,
        1,
    )


def test_large_groups_need_no_large_memory():
    rng = np.random.default_rng(0)
    kept, lost = rng.lognormal(1, 0.5, 180_000), rng.lognormal(0.5, 0.5, 20_000)
    result = separation(kept, lost)
    # two lognormals: AUC = Phi(0.5 / sqrt(0.5^2 + 0.5^2)) = Phi(1/sqrt 2)
    assert result.interval(0.999).low < 0.7602499389065233 < result.interval(0.999).high
    assert result.log10_p < -3000
    assert result.p_value == 0


def test_bad_input_is_named():
    with pytest.raises(InputError, match=r"`kept` must have one value a sample"):
        separation([[1.0]], [1.0])
    with pytest.raises(InputError, match=r"`lost` must hold numbers"):
        separation([1.0], ["near"])
    with pytest.raises(InputError, match=r"`lost` holds -inf"):
        separation([1.0], [-math.inf])
    with pytest.raises(InputError, match=r"`confidence` must lie between 0 and 1, got 95"):
        separation([1.0], [1.0], confidence=95)
    with pytest.raises(InputError, match=r"`confidence`"):
        separation([1.0], [1.0]).interval(0)


def test_tells_itself():
    result = separation(np.arange(40.0), np.arange(12.0))
    told = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert told["auc"] == result.auc
    assert told["auc_low"] == result.interval().low
    assert told["cliffs_delta"] == result.cliffs_delta
    assert told["quartiles_kept"] == [9.75, 29.25]
    assert told["notes"] == []
    frame = result.frame()
    assert len(frame) == 1
    assert frame.loc[0, "log10_p"] == result.log10_p
    assert "log10_p" in result._repr_html_()
    with pytest.raises(AttributeError):
        result.auc = 1  # frozen


def test_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with np.errstate(all="raise"):
            separation(np.arange(1e4) + 1e5, np.arange(1e3))
            separation([1.0, NAN], [NAN])
            separation([], [])
