"""The interval of the AUC: both parts by their definitions, and how often it holds the true one."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import norm, t

from thinice.stats import separation
from thinice.stats.auc_interval import auc_bounds, newcombe_bounds, placement_variance, placements


def slow_newcombe(auc, m, n, z):
    """The AUCs that lie z of their own standard errors from the one that was seen: R. G. Newcombe 2006, method 5."""

    def excess(theta):
        half = (m + n) / 2 - 1
        variance = theta * (1 - theta) / (m * n) * (1 + half * (1 - theta) / (2 - theta) + half * theta / (1 + theta))
        return (auc - theta) ** 2 - z**2 * variance

    return brentq(excess, 1e-12, auc), brentq(excess, auc, 1 - 1e-12)


@pytest.mark.parametrize(("auc", "m", "n"), [(0.964, 872, 17), (0.6, 500, 5), (0.3, 20, 400), (0.999, 900, 12)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_newcombes_bounds_solve_their_equation(auc, m, n, confidence):
    low, high = newcombe_bounds(np.array([auc]), (m, n), confidence)
    assert (low[0], high[0]) == pytest.approx(slow_newcombe(auc, m, n, norm.ppf(0.5 + confidence / 2)), rel=1e-9)


@pytest.mark.parametrize(("n", "shift", "spread"), [(12, 2.5, 1), (40, 1, 2), (40, 0.2, 0.5)])
def test_the_interval_is_the_hull_of_delongs_and_newcombes(n, shift, spread):
    rng = np.random.default_rng(n)
    kept, lost = rng.normal(shift, 1, 300), rng.normal(0, spread, n)
    result = separation(kept, lost)
    above = np.sign(np.subtract.outer(kept, lost)) / 2 + 0.5
    parts = above.mean(axis=1).var(ddof=1) / 300, above.mean(axis=0).var(ddof=1) / n
    df = sum(parts) ** 2 / (parts[0] ** 2 / 299 + parts[1] ** 2 / (n - 1))
    auc = above.mean()
    half = t.ppf(0.975, df) * math.sqrt(sum(parts)) / (auc * (1 - auc))
    delong = [1 / (1 + math.exp(-(math.log(auc / (1 - auc)) + sign * half))) for sign in (-1, 1)]
    newcombe = slow_newcombe(auc, 300, n, 1.959963984540054)
    assert result.auc_df == pytest.approx(df)
    assert result.auc_low == pytest.approx(min(delong[0], newcombe[0]), rel=1e-9)
    assert result.auc_high == pytest.approx(max(delong[1], newcombe[1]), rel=1e-9)


# the audit: DeLong's interval alone covers 58 to 90 % in these settings
@pytest.mark.parametrize(("kind", "auc"), [("N", 0.97), ("N2", 0.97), ("M", 0.97), ("N2", 0.8)])
def test_it_covers_what_it_says_where_few_samples_are_lost(kind, auc):
    m, n, stray, reps = 900, 12, 0.05 if kind == "M" else 0.0, 500
    spread = 2 if kind == "N2" else 1
    apart = norm.ppf((auc - stray / 2) / (1 - stray)) * math.sqrt(1 + spread**2)
    assert (1 - stray) * ndtr(apart / math.sqrt(1 + spread**2)) + stray / 2 == pytest.approx(auc)
    rng = np.random.default_rng(0)
    aucs, se, df = (np.empty(reps) for _ in range(3))
    for k in range(reps):
        kept = np.sort(rng.normal(apart, 1, m))
        lost = np.sort(spread * rng.normal(0, 1, n) + apart * (rng.random(n) < stray))
        placed = placements(lost, kept)
        variance, freedom = placement_variance(placements(kept, lost), placed)
        aucs[k], se[k], df[k] = 1 - placed.mean(), math.sqrt(variance[0]) or math.nan, freedom[0]
    low, high = auc_bounds(aucs, se, df, (m, n), 0.95)
    assert ((low <= auc) & (auc <= high)).mean() > 0.93
    inside = aucs < 1  # where the groups do not overlap DeLong's has no variance
    logit, half = np.log(aucs[inside] / (1 - aucs[inside])), 1.96 * se[inside] / (aucs * (1 - aucs))[inside]
    alone = (1 / (1 + np.exp(half - logit)) <= auc) & (auc <= 1 / (1 + np.exp(-half - logit)))
    assert alone.mean() < 0.93
