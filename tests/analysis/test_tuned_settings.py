"""HO-FMN is tuned on samples that are not among those evaluated."""

from __future__ import annotations

import pytest

import thinice
from thinice.analysis.evaluation import tuned_settings
from thinice.attacks.tuning import tune


@pytest.fixture(scope="module")
def samples():
    return thinice.load_samples("digits", limit=12)


@pytest.fixture(scope="module")
def dense():
    return thinice.load_classifier(thinice.example_checkpoints()["dense"])


@pytest.fixture
def tuned(monkeypatch, dense):
    """Tune with a search that only notes what it is given."""
    seen = []

    def noted(model, inputs, labels, sample_ids, **settings):
        seen.append((tuple(inputs.shape), labels.tolist(), sample_ids.tolist(), settings))
        return tune(model, inputs[:2], labels[:2], sample_ids[:2], trials=2, steps=3, **settings)

    monkeypatch.setattr("thinice.analysis.evaluation.tune", noted)

    def run(samples, **settings):
        found = tuned_settings(dense, samples, device="cpu", **settings)
        return found, seen[-1]

    return run


def test_a_balanced_draw_of_another_split_tunes(tuned, samples):
    found, (shape, labels, ids, settings) = tuned(samples, norm="l2", seed=5)
    other = thinice.load_samples("digits", split="train", limit=64)
    assert (shape, labels, ids) == (tuple(other.inputs.shape), other.labels.tolist(), other.sample_ids.tolist())
    assert settings == {"norm": "l2", "seed": 5}
    assert thinice.make_attack("ho-fmn", norm="l2", **found).settings["learning_rate"] == found["learning_rate"]


def test_of_the_same_split_those_that_are_not_evaluated(tuned, samples):
    heard = []
    chosen = thinice.load_samples("digits")[:70]  # not those that a limit draws
    _, (shape, labels, ids, _) = tuned(chosen, split="test", say=heard.append)
    assert shape[0] == 64
    assert {labels.count(label) for label in range(10)} == {6, 7}
    assert not set(ids) & set(chosen.sample_ids.tolist())
    _, (_, _, ids, _) = tuned(samples, split="test")
    assert not set(ids) & set(samples.sample_ids.tolist())
    assert "ho-fmn tuned on 64 samples of test, median linf" in heard[0]


def test_where_all_are_evaluated_none_are_left_to_tune(tuned):
    with pytest.raises(thinice.ThinIceError, match="no samples but those to be evaluated"):
        tuned(thinice.load_samples("digits"), split="test")
