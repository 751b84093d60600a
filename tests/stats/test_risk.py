"""The risk on thin ice: worked out by hand, against scipy's own fits, and where nobody has an epsilon."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression, minimize
from scipy.special import logit

from thinice.errors import InputError
from thinice.stats import risk_bins, risk_curve, wilson
from thinice.stats.risk import falling_fit

NAN = float("nan")
few = st.lists(st.one_of(st.just(NAN), st.integers(0, 9).map(float)), min_size=1, max_size=20)


def drawn(n, seed, intercept=1.0, slope=4.0):
    """Epsilons of kept and of lost samples whose risk is logistic."""
    rng = np.random.default_rng(seed)
    epsilon = rng.lognormal(0, 0.5, n)
    lost = rng.random(n) < 1 / (1 + np.exp(slope * epsilon - intercept))
    return epsilon[~lost], epsilon[lost]


def test_isotonic_worked_by_hand():
    # zeros and ones by epsilon: 1 -> 1; 2 -> 0, 1, 0; 3 -> 1; 5 -> 0. The rise from 1/3 to 1 is pooled: 2 of 4.
    curve = risk_curve(kept=[2.0, 2.0, 5.0], lost=[3.0, 1.0, 2.0], resamples=50)
    assert curve.epsilon.tolist() == [1, 2, 3, 5]
    assert curve.risk.tolist() == [1, 0.5, 0.5, 0]
    assert curve.base_risk == 0.5
    assert (curve.n_kept, curve.n_lost, curve.not_found_risk) == (3, 3, None)


def test_samples_not_found_are_the_last_step():
    # 1 -> 0; not found -> 1 of 2: the last step, 1/2, lies above the first, 0, and is pooled with it: 1 of 3
    curve = risk_curve(kept=[1.0, NAN], lost=[NAN], resamples=50)
    assert curve.epsilon.tolist() == [1]
    assert curve.risk == pytest.approx([1 / 3])
    assert (curve.not_found_kept, curve.not_found_lost) == (1, 1)
    assert curve.not_found_risk == wilson(1, 2)
    assert json.dumps(curve.to_dict(), allow_nan=False)


def test_isotonic_agrees_with_scipy():
    kept, lost = drawn(400, seed=1)
    epsilon = np.concatenate([kept, lost])
    order = np.argsort(epsilon)
    told = np.repeat([0.0, 1.0], [len(kept), len(lost)])[order]
    curve = risk_curve(kept, lost, resamples=2)
    assert curve.epsilon == pytest.approx(epsilon[order])
    assert curve.risk == pytest.approx(isotonic_regression(told, increasing=False).x, abs=1e-12)


def test_logistic_hits_the_shares_at_two_epsilons():
    # two parameters and two epsilons: the likelihood is largest at the shares themselves, 3/4 and 1/5
    curve = risk_curve(kept=[1.0] + [2.0] * 4, lost=[1.0] * 3 + [2.0], method="logistic", resamples=50)
    assert curve.epsilon.tolist() == [1, 2]
    assert curve.risk == pytest.approx([0.75, 0.2], abs=1e-3)


def test_logistic_agrees_with_the_likelihood_maximised_by_scipy():
    kept, lost = drawn(400, seed=2)

    def cost(parameters):
        score = parameters[0] + parameters[1] * np.concatenate([kept, -lost])
        score[len(kept) :] = -(parameters[0] - parameters[1] * -lost)
        return np.logaddexp(0, score).sum()

    intercept, slope = minimize(cost, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11}).x
    curve = risk_curve(kept, lost, method="logistic", resamples=2)
    assert curve.risk == pytest.approx(1 / (1 + np.exp(-intercept - slope * curve.epsilon)), abs=2e-4)


@pytest.mark.parametrize("group", [[0.0, 0.0, 1.0], [5.0], [1.0] * 999 + [1e9]])
def test_logistic_of_two_equal_groups_is_flat(group):
    # whatever the slope, equal groups are as likely under it as under its opposite: the most likely one is 0
    curve = risk_curve(kept=group, lost=group, method="logistic", resamples=200)
    assert curve.risk == pytest.approx(np.full(len(set(group)), 0.5), abs=1e-12)


@given(kept=few, lost=few)
def test_logistic_is_where_the_derivatives_of_the_likelihood_are_zero(kept, lost):
    """On paper: the risks sum to the lost samples, and the prior pulls the slope with b / 10^4."""
    curve = risk_curve(kept, lost, method="logistic", resamples=2)
    found_kept, found_lost = (np.array(group)[np.isfinite(group)] for group in (kept, lost))
    if not (found_kept.size and found_lost.size):
        return  # the risk is constant
    together = np.concatenate([found_kept, found_lost])
    is_lost = np.repeat([0.0, 1.0], [len(found_kept), len(found_lost)])
    risk = curve.risk[np.searchsorted(curve.epsilon, together)]
    assert risk.sum() == pytest.approx(is_lost.sum(), abs=1e-9)
    if len(curve.epsilon) > 1:
        steepest = np.argsort(np.abs(curve.risk - 0.5))[:2]  # elsewhere 1 - risk may have lost its digits
        slope = np.diff(logit(curve.risk[steepest]))[0] / np.diff(curve.epsilon[steepest])[0]
        pull = (together - together.mean()) @ (is_lost - risk) / together.var()
        assert pull == pytest.approx(slope / 1e4, rel=1e-4, abs=1e-9)


def test_logistic_leaves_out_what_it_cannot_place_and_says_so():
    kept, lost = drawn(200, seed=3)
    without = risk_curve(kept, lost, method="logistic", resamples=50)
    curve = risk_curve([*kept, NAN, NAN], [*lost, NAN], method="logistic", resamples=50)
    assert np.array_equal(curve.risk, without.risk)
    assert np.array_equal(curve.low, without.low)
    assert (curve.n_kept, curve.not_found_kept, curve.not_found_lost) == (len(kept) + 2, 2, 1)
    assert curve.notes == ("3 samples were not found: the logistic fit leaves them out",)


def test_logistic_stands_groups_that_do_not_overlap():
    curve = risk_curve(kept=np.arange(20.0) + 30, lost=np.arange(20.0), method="logistic", resamples=50)
    assert curve.risk[:20].min() > 0.99
    assert curve.risk[20:].max() < 0.01


@pytest.mark.parametrize("method", ["isotonic", "logistic"])
def test_the_band_covers_the_true_risk_and_narrows(method):
    inside, widths = [], []
    for seed in range(12):
        curve = risk_curve(*drawn(300, seed), method=method, resamples=100)
        truth = 1 / (1 + np.exp(4 * curve.epsilon - 1))
        inside.append(((curve.low <= truth) & (truth <= curve.high)).mean())
        widths.append((curve.high - curve.low).mean())
        assert ((curve.low <= curve.risk) & (curve.risk <= curve.high)).all()
        assert ((curve.low >= 0) & (curve.high <= 1)).all()
    assert 0.85 < np.mean(inside) < 0.995
    large = risk_curve(*drawn(30_000, seed=0), method=method, resamples=50)
    assert (large.high - large.low).mean() < np.mean(widths) / 2.5


def test_a_wider_confidence_gives_a_wider_band():
    kept, lost = drawn(200, seed=4)
    narrow, wide = (risk_curve(kept, lost, confidence=level, resamples=200) for level in (0.5, 0.99))
    assert (wide.low <= narrow.low).all()
    assert (wide.high >= narrow.high).all()
    assert (wide.high - wide.low).mean() > 1.5 * (narrow.high - narrow.low).mean()


@pytest.mark.parametrize(("kept", "lost", "constant"), [(40, 0, 0.0), (0, 40, 1.0)])
def test_a_group_that_is_empty_gives_a_constant_with_wilson_bounds(kept, lost, constant):
    curve = risk_curve(np.arange(float(kept)), np.arange(float(lost)))
    assert set(curve.risk) == {constant}
    bounds = wilson(40 * constant, 40)
    assert (set(curve.low), set(curve.high)) == ({bounds.low}, {bounds.high})
    assert "is lost: the band is Wilson's interval" in curve.notes[0]


@pytest.mark.parametrize("group", [[], [NAN, NAN]])
def test_without_an_epsilon_there_is_no_curve(group):
    curve = risk_curve(group, [])
    assert len(curve.epsilon) == len(curve.risk) == len(curve.low) == len(curve.high) == 0
    assert curve.notes == ("no curve: there is no sample with an epsilon",)


@given(kept=few, lost=few, order=st.randoms(use_true_random=False))
def test_order_and_monotone_scale_do_not_matter(kept, lost, order):
    curve = risk_curve(kept, lost, resamples=20)
    assert (np.diff(curve.risk) <= 1e-12).all()
    shuffled = list(kept)
    order.shuffle(shuffled)
    for other in (
        risk_curve(shuffled, lost[::-1], resamples=20),
        risk_curve(np.exp(kept) + 3, np.exp(lost) + 3, resamples=20),
    ):
        for column in ("risk", "low", "high"):
            assert np.array_equal(getattr(other, column), getattr(curve, column))


@given(kept=few, lost=few)
def test_logistic_does_not_mind_the_unit(kept, lost):
    curve = risk_curve(kept, lost, method="logistic", resamples=2)
    other = risk_curve(np.array(kept) * 255 + 7, np.array(lost) * 255 + 7, method="logistic", resamples=2)
    assert other.risk == pytest.approx(curve.risk, abs=1e-6)


def test_the_seed_repeats_the_band_and_another_changes_it():
    kept, lost = drawn(100, seed=5)
    one, again, other = (risk_curve(kept, lost, seed=seed, method="logistic", resamples=50) for seed in (1, 1, 2))
    assert np.array_equal(one.low, again.low)
    assert not np.array_equal(one.low, other.low)
    assert np.array_equal(one.risk, other.risk)


def test_many_epsilons_are_pooled_without_moving_the_curve():
    kept, lost = drawn(20_000, seed=6)
    curve = risk_curve(kept, lost, resamples=2)
    assert len(curve.epsilon) == 500
    epsilon = np.concatenate([kept, lost])
    order = np.argsort(epsilon)
    told = np.repeat([0.0, 1.0], [len(kept), len(lost)])[order]
    whole = np.interp(curve.epsilon, epsilon[order], isotonic_regression(told, increasing=False).x)
    assert np.abs(curve.risk - whole)[5:].max() < 0.05
    assert np.abs(curve.risk - whole).mean() < 0.005


@given(pairs=st.lists(st.tuples(st.floats(0, 1, width=16), st.integers(1, 100)), min_size=1, max_size=12))
def test_the_falling_fit_is_the_smallest_of_the_largest_means(pairs):
    """Barlow et al. 1972, theorem 1.5: over all stretches that hold a point, from each start the largest mean."""
    values, weights = (np.array(column, dtype=np.float64) for column in zip(*pairs, strict=True))
    n = len(values)
    expected = [
        min(
            max(np.average(values[start:stop], weights=weights[start:stop]) for stop in range(k + 1, n + 1))
            for start in range(k + 1)
        )
        for k in range(n)
    ]
    np.testing.assert_allclose(falling_fit(values, weights), expected, atol=1e-9)


def test_bins_worked_by_hand():
    # found, ascending: 1L 2K 3K 3L 4K 5K -> thirds 1 2 | 3 3 | 4 5, and one not found
    risk = risk_bins(kept=[2.0, 3.0, 4.0, 5.0], lost=[1.0, 3.0, NAN], bins=3)
    assert risk.nearest.tolist() == [1, 3, 4, math.inf]
    assert risk.farthest.tolist() == [2, 3, 5, math.inf]
    assert risk.n.tolist() == [2, 2, 2, 1]
    assert risk.lost.tolist() == [1, 1, 0, 1]
    assert risk.risk.tolist() == [0.5, 0.5, 0, 1]
    assert risk.not_found == 1
    intervals = [wilson(lost, n) for lost, n in zip(risk.lost, risk.n, strict=True)]
    assert risk.low.tolist() == [interval.low for interval in intervals]
    assert risk.high.tolist() == [interval.high for interval in intervals]


def test_equal_epsilons_share_a_bin():
    risk = risk_bins(kept=[1.0] * 50 + [2.0] * 3, lost=[1.0] * 10, bins=10)
    assert risk.nearest.tolist() == [1, 2]
    assert risk.n.tolist() == [60, 3]


@given(kept=few, lost=few, bins=st.integers(1, 12))
def test_bins_hold_everybody_once(kept, lost, bins):
    risk = risk_bins(kept, lost, bins=bins)
    missing = int(np.isnan(kept).sum() + np.isnan(lost).sum())
    assert risk.n.sum() == len(kept) + len(lost)
    assert risk.lost.sum() == len(lost)
    assert risk.not_found == missing
    assert len(risk.n) <= bins + (missing > 0)
    assert (risk.n > 0).all()
    assert (risk.nearest <= risk.farthest).all()
    assert (risk.farthest[:-1] < risk.nearest[1:]).all()


def test_bins_of_distinct_epsilons_are_of_equal_size():
    kept, lost = drawn(1000, seed=7)
    assert risk_bins(kept, lost).n.tolist() == [100] * 10


def test_bins_of_nobody():
    risk = risk_bins([], [])
    assert len(risk.n) == 0
    assert risk_bins([NAN], []).n.tolist() == [1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: risk_curve([1.0], [1.0], method="spline"), "`method` must be one of isotonic, logistic, got 'spline'"),
        (lambda: risk_curve([1.0], [1.0], resamples=1), "`resamples` must be at least 2, got 1"),
        (lambda: risk_curve([1.0], [1.0], confidence=95), "`confidence`"),
        (lambda: risk_bins([1.0], [1.0], bins=0), "`bins` must be at least 1, got 0"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
