"""Whether one predictor of what pruning loses adds to another: nested logistic regressions."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit, log_ndtr, ndtri
from scipy.stats import rankdata

from thinice.stats.base import BoolColumn, FloatColumn

__all__ = ["added_log_p"]

RIDGE = 1e-6
"""Prior precision of each slope: next to nothing, but perfectly separated groups have an answer too."""


def added_log_p(lost: BoolColumn, known: FloatColumn, added: FloatColumn) -> float:
    """Return the natural logarithm of the p-value of "the added predictor says nothing beyond the known one".

    The likelihood-ratio test, one degree of freedom, of two logistic regressions of being lost: on the known predictor
    and its square, and on these and the added one. Both enter by the normal scores of their ranks, so that no unit and
    no outlier matters, and samples not found (inf) rank last, together.

    Parameters
    ----------
    lost
        (N,) bool; both kinds must be there.
    known, added
        (N,) values, inf where not found.

    References
    ----------
    S. S. Wilks, "The large-sample distribution of the likelihood ratio for testing composite hypotheses", Ann. Math.
    Stat. 9, 1938.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> known, lost = rng.normal(size=400), np.arange(400) < 60
    >>> round(added_log_p(lost, known, 2 * known), 2) + 0.0, added_log_p(lost, known, known + 2.0 * ~lost) < -20
    (0.0, True)
    """
    scores = [_normal_scores(column) for column in (known, added)]
    features = np.stack([np.ones(len(lost)), scores[0], scores[0] ** 2, scores[1]])
    target = lost.astype(np.float64)
    gained = _log_likelihood(features, target) - _log_likelihood(features[:3], target)
    return min(0.0, math.log(2) + float(log_ndtr(-math.sqrt(2 * max(0.0, gained)))))  # chi-squared of one degree


def _normal_scores(values: FloatColumn) -> FloatColumn:
    return np.asarray(ndtri(rankdata(values) / (len(values) + 1)))


def _log_likelihood(features: FloatColumn, target: FloatColumn) -> float:
    """Return the greatest log likelihood of a logistic regression (K, N): Newton's method, damped, on a convex cost."""
    precision = np.diag([0.0] + [RIDGE] * (len(features) - 1))

    def cost(parameters: FloatColumn) -> float:
        score = parameters @ features
        return float(np.logaddexp(0, score).sum() - target @ score + parameters @ precision @ parameters / 2)

    parameters = np.zeros(len(features))
    before = cost(parameters)
    while True:
        chance = expit(parameters @ features)
        gradient = features @ (chance - target) + precision @ parameters
        information = (features * (chance * (1 - chance))) @ features.T + precision
        step = np.linalg.lstsq(information, gradient)[0]  # predictors may be copies of each other
        gain = float(gradient @ step)
        if gain <= 1e-9 * (1 + before):
            return -before
        while (after := cost(parameters - step)) > before - 0.25 * gain:
            step, gain = step / 2, gain / 2
        parameters, before = parameters - step, after
