"""HO-FMN is tuned on samples that are not among those evaluated."""

from __future__ import annotations

from dataclasses import replace

import pytest

import thinice
from thinice.analysis.tuning import samples_to_tune_on
from thinice.attacks import ATTACKS, attack_row
from thinice.attacks.ho_fmn import tune
from thinice.errors import InputError


@pytest.fixture(scope="module")
def samples():
    return thinice.load_samples("digits", limit=12)


@pytest.fixture(scope="module")
def dense():
    return thinice.load_classifier(thinice.example_checkpoints()["dense"])


def test_a_balanced_draw_of_another_split_tunes(samples):
    other, expected = samples_to_tune_on(samples), thinice.load_samples("digits", split="train", limit=64)
    assert other.sample_ids.tolist() == expected.sample_ids.tolist()
    assert other.split == "train"


def test_of_the_same_split_those_that_are_not_evaluated(samples):
    chosen = thinice.load_samples("digits")[:70]  # not those that a limit draws
    other = samples_to_tune_on(chosen, split="test")
    labels = other.labels.tolist()
    assert len(other) == 64
    assert {labels.count(label) for label in range(10)} == {6, 7}
    assert not set(other.sample_ids.tolist()) & set(chosen.sample_ids.tolist())
    few = samples_to_tune_on(samples, split="test")
    assert not set(few.sample_ids.tolist()) & set(samples.sample_ids.tolist())


def test_where_all_are_evaluated_none_are_left_to_tune():
    with pytest.raises(thinice.ThinIceError, match="no samples but those to be evaluated"):
        samples_to_tune_on(thinice.load_samples("digits"), split="test")


def test_each_network_is_evaluated_with_the_settings_that_its_tuning_found(samples, dense, monkeypatch):
    seen = []

    def noted(model, inputs, labels, sample_ids, **settings):
        seen.append((sample_ids.tolist(), settings))
        return tune(model, inputs[:2], labels[:2], sample_ids[:2], trials=3, steps=3, **settings)

    monkeypatch.setitem(ATTACKS.rows, "ho-fmn", (replace(attack_row("ho-fmn"), tune=noted), "tuned", "minimum norm"))
    other = thinice.load_samples("digits", split="train", limit=6)
    search = {"attack": "ho-fmn", "norm": "l2", "steps": 4, "seed": 5}
    options = {"device": "cpu", "progress": False, "checks": False}
    results = thinice.evaluate_all([dense], samples, budgets=[0.5, 0.2], tune_on=other, **search, **options)
    assert seen == [(other.sample_ids.tolist(), {"norm": "l2", "seed": 5})]  # once, for both budgets
    best = tune(dense, other.inputs[:2], other.labels[:2], other.sample_ids[:2], norm="l2", trials=3, steps=3, seed=5)
    for robustness in results:
        assert {name: robustness.settings[name] for name in best.settings} == dict(best.settings)
        assert robustness.settings["steps"] == 4
        (note,) = robustness.notes
        assert note.startswith("ho-fmn tuned on 6 samples of train, median l2")
    with pytest.raises(
        InputError, match=r"`tune_on` serves attacks with settings to tune \(ho-fmn\), got `attack` 'fmn'"
    ):
        thinice.evaluate(dense, samples, budget=0.2, tune_on=other, **(search | {"attack": "fmn"}), **options)
