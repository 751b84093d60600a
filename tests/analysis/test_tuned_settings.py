"""HO-FMN is tuned on samples that are not among those evaluated."""

from __future__ import annotations

from dataclasses import replace

import pytest

import thinice
from thinice.analysis.session import open_session
from thinice.analysis.tuning import samples_to_tune_on, tuned_settings
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
        assert note.startswith("ho-fmn tuned on 6 samples of train: median l2 distance ")
    with pytest.raises(
        InputError, match=r"`tune_on` serves attacks with settings to tune \(ho-fmn\), got `attack` 'fmn'"
    ):
        thinice.evaluate(dense, samples, budget=0.2, tune_on=other, **(search | {"attack": "fmn"}), **options)


def test_a_loss_that_is_asked_for_is_the_one_that_is_tuned_and_used(samples, dense):
    other = thinice.load_samples("digits", split="train", limit=4)
    options = {"device": "cpu", "progress": False, "checks": False}
    with open_session(samples, options) as session:
        search = {"loss": "dlr", "scheduler": "none", "seed": 1}
        settings, notes = tuned_settings(session, dense, "ho-fmn", other, search, trials=2, steps=4)
    assert (settings["loss"], settings["optimizer"], settings["scheduler"]) == ("dlr", "sgd", "none")
    assert notes[0].startswith("ho-fmn tuned on 4 samples of train: median linf distance ")


def test_a_search_for_settings_is_read_where_the_store_has_it(samples, dense, tmp_path, monkeypatch):
    other = thinice.load_samples("digits", split="train", limit=4)
    options = {"device": "cpu", "progress": False, "store": tmp_path / "s.duckdb"}

    def asked(network=dense, tune_on=other, seed=0):
        with open_session(samples, options) as session:
            return tuned_settings(session, network, "ho-fmn", tune_on, {"seed": seed}, trials=2, steps=4)

    first = asked()

    def never(*_, **__):
        raise AssertionError("searched again")

    row = replace(attack_row("ho-fmn"), tune=never)
    monkeypatch.setitem(ATTACKS.rows, "ho-fmn", (row, "tuned", "minimum norm"))
    assert asked() == first
    pruned = thinice.load_classifier(thinice.example_checkpoints()["pruned-95"])
    for change in ({"seed": 1}, {"network": pruned}, {"tune_on": other[:3]}):
        with pytest.raises(AssertionError, match="searched again"):
            asked(**change)
    (stored,) = thinice.open_store(options["store"]).sql("from tunings").to_dict("records")
    assert (stored["checkpoint"], stored["samples"], stored["n"]) == (dense.fingerprint, other.fingerprint, 4)
