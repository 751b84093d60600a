"""Dense against pruned on the same samples: Hollander and Wolfe's data, scipy, scikit-learn, statsmodels, by hand."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2, wilcoxon
from sklearn.metrics import cohen_kappa_score

from thinice.errors import InputError
from thinice.stats import agreement, class_changes, mcnemar, paired_shift, transition_counts
from thinice.stats.separation import ranked_sum

NAN = float("nan")
# Hollander and Wolfe 1973, table 3.1: depression scale factor of nine patients at two visits
FIRST = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
SECOND = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
pairs = st.lists(st.tuples(st.integers(0, 9), st.one_of(st.just(NAN), st.integers(0, 9))), min_size=1, max_size=30)


def moved(lost, gained, others=0):
    return ["S1,0"] * lost + ["S0,1"] * gained + ["S1,1"] * others


@pytest.mark.parametrize(("lost", "gained"), [(121, 59), (7, 1), (3, 3), (1, 1), (0, 1), (5, 0)])
def test_mcnemar_agrees_with_scipys_distributions(lost, gained):
    n = lost + gained
    exact, middle, rough = (mcnemar(moved(lost, gained), method=how) for how in ("exact", "mid-p", "asymptotic"))
    assert exact.p_value == pytest.approx(binomtest(lost, n).pvalue, rel=1e-9)
    seen = math.comb(n, lost) / 2**n
    # Fagerland, Lydersen and Laake, and R's contingencytables: half of what was seen goes where both sides are equal
    wanted = binomtest(lost, n).pvalue - seen if lost != gained else 1 - seen / 2
    assert middle.p_value == pytest.approx(wanted, rel=1e-9)
    assert rough.p_value == pytest.approx(chi2.sf((lost - gained) ** 2 / n, 1), rel=1e-9)
    assert (exact.lost, exact.gained, exact.n) == (lost, gained, n)


def test_mcnemar_agrees_with_statsmodels():
    # statsmodels 0.15, mcnemar([[10, 121], [59, 33]]): exact 4.4344492637551645e-06, without correction 3.815e-06
    assert mcnemar(moved(121, 59, 43)).p_value == pytest.approx(4.4344492637551645e-06, rel=1e-8)
    assert mcnemar(moved(121, 59, 43), method="asymptotic").p_value == pytest.approx(3.815135865112594e-06, rel=1e-8)


def test_mcnemar_does_not_underflow():
    for method, low, high in (("exact", -1206, -1200), ("mid-p", -1206, -1200), ("asymptotic", -875, -865)):
        result = mcnemar(moved(4000, 0), method=method)
        assert result.p_value == 0
        assert low < result.log10_p < high
    # 2 / 2^4000
    assert mcnemar(moved(4000, 0)).log10_p == pytest.approx(-3999 * math.log10(2))


def test_the_accuracy_drop_and_its_interval_by_hand():
    # Agresti and Min: 7.5 lost and 1.5 gained of 22; drop 6 / 22, variance (9 / 22 - (6 / 22)^2) / 22
    result = mcnemar(moved(7, 1, 12))
    assert result.accuracy_drop == 0.3
    half = 1.959963984540054 * math.sqrt((9 / 22 - (6 / 22) ** 2) / 22)
    interval = result.accuracy_drop_interval
    assert (interval.low, interval.high) == pytest.approx((6 / 22 - half, 6 / 22 + half))
    nobody = mcnemar([])
    assert (nobody.p_value, nobody.accuracy_drop, nobody.accuracy_drop_interval) == (1, None, None)


def test_mcnemar_is_what_the_counts_say():
    rng = np.random.default_rng(0)
    dense, pruned = rng.random(200) < 0.9, rng.random(200) < 0.8
    counts = transition_counts(dense, pruned)
    names = np.array([["S0,0", "S0,1"], ["S1,0", "S1,1"]])[dense.astype(int), pruned.astype(int)]
    assert mcnemar(names).log10_p == pytest.approx(counts.log10_p)
    assert mcnemar(names).accuracy_drop == pytest.approx(counts.accuracy_drop)


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


def test_agreement_agrees_with_scikit_learn_and_statsmodels():
    rng = np.random.default_rng(0)
    dense = rng.integers(0, 4, 200)
    pruned = np.where(rng.random(200) < 0.6, dense, rng.integers(0, 4, 200))
    result = agreement(dense, pruned)
    assert result.share == (dense == pruned).mean()
    assert result.kappa == pytest.approx(cohen_kappa_score(dense, pruned))
    # statsmodels 0.15: cohens_kappa([[20, 5], [10, 15]])
    first = np.repeat([0, 0, 1, 1], [20, 5, 10, 15])
    second = np.repeat([0, 1, 0, 1], [20, 5, 10, 15])
    small = agreement(first, second)
    # 0.7 against 0.5 by chance
    assert (small.share, small.by_chance, small.kappa) == pytest.approx((0.7, 0.5, 0.4))
    assert (small.kappa_interval.low, small.kappa_interval.high) == pytest.approx(
        (0.151092290476661, 0.6489077095233389)
    )


def test_agreement_of_nobody_and_of_one_class():
    assert agreement([], []).share is None
    alike = agreement([2, 2, 2], [2, 2, 2])
    assert (alike.share, alike.by_chance, alike.kappa) == (1, 1, None)
    undefined = agreement([-1, 0], [-1, 1])
    assert undefined.same == 1


def test_classes_worked_by_hand():
    labels = [0] * 6 + [1] * 2
    table = class_changes(labels, ["S1,0"] * 5 + ["S1,1"] + ["S0,1", "S0,0"], classes=["cat", "dog", "eel"])
    assert table.name.tolist() == ["cat", "dog", "eel"]
    assert [getattr(table, name).tolist() for name in ("n", "kept", "lost", "gained", "wrong")] == [
        [6, 2, 0],
        [1, 0, 0],
        [5, 0, 0],
        [0, 1, 0],
        [0, 1, 0],
    ]
    assert table.dense_accuracy.tolist()[:2] == [1, 0]
    assert table.accuracy_drop.tolist()[:2] == [5 / 6, -0.5]
    assert table.log10_p[:2] == pytest.approx([math.log10(2 / 32), 0])
    assert table.log10_p_holm[:2] == pytest.approx([math.log10(4 / 32), 0])
    assert np.isnan([table.dense_accuracy[2], table.log10_p[2], table.log10_p_holm[2]]).all()
    assert class_changes([7, 3, 7], ["S1,1", "S1,0", "S1,0"]).lost.tolist() == [1, 1]
    assert len(class_changes([], []).name) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mcnemar(["S1,1"], method="chi2"), "`method` must be one of exact, mid-p, asymptotic, got 'chi2'"),
        (lambda: mcnemar(["lost"]), "`transition` holds 'lost'"),
        (lambda: paired_shift([1.0], [1.0, 2.0]), "`pruned` has 2 rows and `dense` 1"),
        (lambda: paired_shift([1.0], [1.0], confidence=95), "`confidence`"),
        (lambda: agreement([0.5], [1]), r"`dense_predictions` must be classes \(N,\), got float64"),
        (lambda: agreement([0], [1, 2]), "`pruned_predictions` has 2 rows"),
        (lambda: class_changes([9], ["S1,1"], classes=["cat"]), "`labels` must lie in"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
