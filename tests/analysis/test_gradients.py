"""Gradient norms: known on paper, kept in the store, and one more predictor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import thinice
from tests.truth import LABELS, MEANS, Threshold, grey
from thinice.analysis.gradients import gradient_norms
from thinice.engines import LocalEngine
from thinice.models import as_classifier
from thinice.report.facts import read_facts

OPTIONS = {"attack": "fmn", "steps": 4, "progress": False}


def engine():
    return LocalEngine(torch.device("cpu"))


def test_the_norms_of_a_linear_layer_are_those_on_paper():
    """Of softmax regression the gradient is (p - onehot) x^T, and p - onehot in the biases."""
    dense = as_classifier(Threshold(0.5), name="dense")
    norms = gradient_norms(dense, grey(), engine()).numpy()
    light = 1 / (1 + np.exp(-(np.array(MEANS) - 0.5)))
    error = np.where(np.array(LABELS) == 1, 1 - light, light)
    inputs = grey().inputs[:].flatten(1).double().numpy()
    expected = np.sqrt(2) * error * np.sqrt((inputs**2).sum(1) + 1)
    np.testing.assert_allclose(norms, expected, rtol=1e-5)


def test_a_network_without_weights_has_no_gradient_and_the_network_stays_frozen():
    class Constant(nn.Module):
        def forward(self, inputs):
            return inputs.flatten(1)[:, :2].detach()

    assert gradient_norms(as_classifier(Constant(), classes=2), grey(), engine()).tolist() == [0] * 8
    dense = as_classifier(Threshold(0.5))
    gradient_norms(dense, grey(), engine())
    assert not [weight for weight in dense.module.parameters() if weight.requires_grad or weight.grad is not None]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("gradients") / "thinice.duckdb"


@pytest.fixture(scope="module")
def result(store):
    paths, samples = thinice.example_checkpoints(), thinice.load_samples("digits", limit=150)
    return thinice.compare(paths["dense"], paths["pruned-95"], samples, store=store, gradient_norms=True, **OPTIONS)


@pytest.mark.slow
def test_it_is_a_predictor_beside_epsilon_in_python_sql_and_report(result, store):
    table = result.predictor_comparison()
    assert table.name.tolist() == ["epsilon", "margin", "confidence", "loss", "gradient_norm"]
    assert 0.5 < table.auc[-1] <= 1  # a large gradient tells of a loss
    rows = thinice.open_store(store).sql("from predictors order by sample_id")
    order = np.argsort(result.sample_ids)
    right = result.dense_predictions[order] == result.labels[order]
    np.testing.assert_allclose(rows["gradient_norm"], result.gradient_norms[order][right])
    (facts,) = read_facts(thinice.open_store(store)).comparisons
    assert facts.predictors.name.tolist() == table.name.tolist()
    assert facts.predictors.auc == pytest.approx(table.auc)


@pytest.mark.slow
def test_what_the_store_has_joins_unasked_and_is_not_computed_again(result, store, monkeypatch):
    monkeypatch.setattr("thinice.analysis.session.gradient_norms", lambda *_: pytest.fail("computed again"))
    again = thinice.compare(*result.networks, thinice.load_samples("digits", limit=150), store=store, **OPTIONS)
    np.testing.assert_array_equal(again.gradient_norms, result.gradient_norms)
    plain = thinice.compare(*result.networks, thinice.load_samples("digits", limit=20), **OPTIONS)
    assert plain.gradient_norms is None
    assert "gradient_norm" not in plain.predictor_comparison().name.tolist()
