"""Control networks of `compare`: weight noise that disagrees as often as the pruned network, and one's own networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import thinice
from tests.truth import Threshold, grey
from thinice.analysis import control as module
from thinice.analysis.control import match_churn, weight_noise, with_weight_noise
from thinice.errors import InputError
from thinice.models import as_classifier
from thinice.report.facts import read_facts
from thinice.report.sections import comparison_row, statistics
from thinice.results.control_text import control_sentence


@pytest.fixture(scope="module")
def samples():
    return thinice.load_samples("digits", limit=150)


@pytest.fixture(scope="module")
def paths():
    return thinice.example_checkpoints()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("control") / "thinice.duckdb"


def compared(paths, samples, store, **options):
    return thinice.compare(
        paths["dense"], paths["pruned-95"], samples, attack="fmn", steps=4, store=store, progress=False, **options
    )


@pytest.fixture(scope="module")
def result(paths, samples, store):
    return compared(paths, samples, store, control="noise")


@pytest.mark.slow
def test_noise_changes_as_many_predictions_as_pruning(result, samples, store):
    """The networks in the store, run again, disagree as often as the pruned one; and their AUCs are those told."""
    wanted = (result.pruned_predictions != result.dense_predictions).sum()
    rows = thinice.open_store(store).sql("from controls order by network")
    dense = result.networks[0]
    right = result.dense_predictions == result.labels
    aucs = []
    for draw, scale in enumerate(rows["scale"]):
        network = with_weight_noise(dense, weight_noise(dense, 0, draw), scale)
        predictions = network(samples.inputs[:]).argmax(1).numpy()
        assert (predictions != result.dense_predictions).sum() == pytest.approx(wanted, abs=0.05 * wanted + 1)
        lost = predictions[right] != result.labels[right]
        aucs.append(thinice.stats.separation(result.epsilon[right][~lost], result.epsilon[right][lost]).auc)
    control = result.separation.control
    assert control.weight_noise
    assert control.networks == len(rows) == 5
    assert control.aucs == pytest.approx(aucs)
    assert control.churn == pytest.approx(result.separation.flips.churn, rel=0.1)
    assert control.difference == pytest.approx(result.separation.auc - np.mean(aucs))


def test_table_answer_json_and_store_tell_it(result, store):
    row = thinice.open_store(store).sql("from separation").iloc[0]
    control = result.separation.control
    for name, value in (
        ("control_auc", control.auc),
        ("control_difference", control.difference),
        ("control_difference_low", control.low),
        ("control_difference_high", control.high),
        ("control_churn", control.churn),
        ("control_networks", 5),
        ("control_weight_noise", True),
    ):
        assert result.to_dict()[name] == value
        assert row[name] == pytest.approx(value)
    (facts,) = read_facts(thinice.open_store(store)).comparisons
    assert control_sentence(comparison_row(facts)) == control_sentence(result.to_dict()) != ""
    assert f">{control.auc:.3f}<" in statistics(facts, {})
    assert dict(result.table())["AUC of the control"] == f"{control.auc:.3f}"
    assert f"has an AUC of {control.auc:.3f}; pruning - control: {control.difference:.3f}" in result.answer


def test_the_same_command_searches_no_scale_again(result, paths, samples, store, monkeypatch):
    monkeypatch.setattr(module, "match_churn", lambda *_: pytest.fail("searched again"))
    again = compared(paths, samples, store, control="noise")
    assert again.separation.to_dict() == result.separation.to_dict()


@pytest.mark.slow
def test_a_network_of_ones_own_is_the_control(result, paths, samples, tmp_path):
    """That of the 90 % pruned network is its own comparison's AUC: both know the same epsilons."""
    own = compared(paths, samples, tmp_path / "own.duckdb", control=paths["pruned-90"])
    options = {"attack": "fmn", "steps": 4, "store": tmp_path / "own.duckdb", "progress": False}
    other = thinice.compare(paths["dense"], paths["pruned-90"], samples, **options)
    assert own.separation.control.auc == pytest.approx(other.separation.auc)
    assert own.separation.control.churn == pytest.approx(other.separation.flips.churn)
    assert own.separation.control.weight_noise is False
    assert "a network that changes" in own.answer
    assert own.separation.auc == result.separation.auc
    rows = thinice.open_store(tmp_path / "own.duckdb").sql("from controls join checkpoints using (checkpoint_id)")
    assert rows["name"].tolist() == ["pruned-90"]
    assert rows["scale"].isna().all()


def test_without_control_nothing_is_told(paths, samples, store):
    plain = compared(paths, samples, store)
    assert plain.separation.control is None
    assert "control" not in plain.answer
    assert not [name for name, _ in plain.table() if "control" in name]


@pytest.mark.slow
def test_noise_that_misses_the_churn_says_so(paths, samples, store, monkeypatch):
    monkeypatch.setattr(module, "match_churn", lambda *_: 1e-6)
    missed = compared(paths, samples, store, control="noise", seed=1)
    notes = " ".join(missed.separation.notes)
    assert "the control changes 0.00% of the predictions, pruning" in notes
    assert "5 of 5 control networks lose no sample" in notes
    assert missed.separation.control.auc is None
    assert "control" not in missed.answer


def test_noise_repeats_by_its_seed_and_is_relative_to_each_layer(paths):
    dense = thinice.load_classifier(paths["dense"])
    noise, again, other = (weight_noise(dense, *key) for key in ((0, 1), (0, 1), (1, 0)))
    weights = thinice.models.prunable_weights(dense.network)
    assert noise.keys() == weights.keys()
    for name, weight in weights.items():
        assert torch.equal(noise[name], again[name])
        assert not torch.equal(noise[name], other[name])
        if weight.numel() > 500:
            assert noise[name].std() == pytest.approx(weight.square().mean().sqrt().item(), rel=0.1)
    changed = with_weight_noise(dense, noise, 0.5)
    assert changed.parent == dense.fingerprint != changed.fingerprint
    for (name, before), after in zip(
        weights.items(), thinice.models.prunable_weights(changed.network).values(), strict=True
    ):
        torch.testing.assert_close(after, before + 0.5 * noise[name])


@pytest.mark.parametrize("exponent", [0.5, 1, 3])
@pytest.mark.parametrize("wanted", [3, 40, 700])
def test_the_scale_is_found_in_few_passes(exponent, wanted):
    asked = []

    def changed(scale):
        asked.append(scale)
        return min(int(1000 * (scale / 5) ** exponent), 900)

    scale = match_churn(changed, wanted)
    assert min(int(1000 * (scale / 5) ** exponent), 900) == pytest.approx(wanted, abs=0.05 * wanted)
    assert len(asked) <= 16


def test_where_no_scale_fits_the_nearest_is_taken():
    assert match_churn(lambda scale: 60 if scale > 1 else 0, 40) == pytest.approx(1, rel=0.2)
    asked = []
    match_churn(lambda scale: asked.append(scale) or 0, 40)
    assert len(asked) == 16


@pytest.mark.slow
def test_what_has_no_control_says_so():
    class Plain(nn.Module):
        def __init__(self, threshold):
            super().__init__()
            self.threshold = nn.Parameter(torch.tensor(threshold))

        def forward(self, inputs):
            mean = inputs.flatten(1).mean(1)
            return torch.stack([self.threshold + 0 * mean, mean], 1)

    networks = [as_classifier(Plain(threshold), name=name, classes=2) for threshold, name in ((0.5, "a"), (0.6, "b"))]
    result = thinice.compare(*networks, grey(), attack="fmn", steps=4, control="noise", progress=False)
    assert "no prunable weights" in " ".join(result.separation.notes)
    assert result.separation.control.auc is None
    dense = as_classifier(Threshold(0.5), name="dense")
    same = thinice.compare(dense, dense, grey(), attack="fmn", steps=4, control="noise", progress=False)
    assert "pruning changes no prediction" in " ".join(same.separation.notes)


def test_a_control_that_makes_no_sense_is_refused():
    dense, pruned = as_classifier(Threshold(0.5), name="dense"), as_classifier(Threshold(0.6), name="pruned")
    with pytest.raises(InputError, match="`control` compares predictions of clean samples"):
        thinice.compare(dense, pruned, grey(), control="noise", basis="robust", budget=0.1, progress=False)
    with pytest.raises(InputError, match="`control` is empty"):
        thinice.compare(dense, pruned, grey(), control=[], progress=False)
    three = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(InputError, match="classes"):
        thinice.compare(dense, pruned, grey(), control=three, progress=False)
