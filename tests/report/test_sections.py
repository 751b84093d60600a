"""The report reads a comparison from the store and says what the command line said of it, word for word."""

from __future__ import annotations

import copy
import html

import duckdb
import numpy as np
import pytest
import torch
from torch import nn

import thinice
from tests.truth import Threshold, grey
from thinice.models import as_classifier
from thinice.report.facts import read_facts
from thinice.report.sections import comparison_row, escaped, overview
from thinice.results import several
from thinice.results.comparison_text import answer, over_trainings, table
from thinice.stats import seed_summary


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"norm": "linf"}, {"norm": "l2", "basis": "robust", "budget": 0.05}])
def test_sentence_and_table_are_those_of_the_comparison(tmp_path, settings):
    networks = as_classifier(Threshold(0.5), name="dense"), as_classifier(Threshold(0.6), name="pruned")
    where = {"store": tmp_path / "thinice.duckdb", "device": "cpu", "progress": False}
    result = thinice.compare(*networks, grey(), effort="quick", **where, **settings)
    (compared,) = read_facts(thinice.open_store(where["store"])).comparisons
    row = comparison_row(compared)
    assert answer(row) == result.answer
    assert table(row) == result.table()
    assert "AUC" in dict(table(row))


@pytest.mark.slow
def test_a_narrower_network_shows_what_is_left_of_the_dense_one(tmp_path):
    """8 of the 32 channels of the third convolution are removed: nothing is zero, and yet weights are gone."""
    dense = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    narrow = copy.deepcopy(dense.module)
    network = narrow.network if hasattr(narrow, "network") else narrow
    third, norm, last = network.conv3, network.bn3, network.fc
    network.conv3 = nn.Conv2d(32, 24, 3, padding=1, bias=False)
    network.conv3.weight.data = third.weight.data[:24]
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(norm, name).data = getattr(norm, name).data[:24]
    norm.num_features = 24
    network.fc = nn.Linear(24 * 16, 10)
    network.fc.weight.data, network.fc.bias.data = last.weight.data[:, : 24 * 16], last.bias.data
    samples = thinice.load_samples("digits", limit=20)
    store = tmp_path / "thinice.duckdb"
    result = thinice.compare(dense, narrow, samples, effort="quick", store=store, device="cpu", progress=False)
    before, after = 16 * 9 + 32 * 16 * 9 + 32 * 32 * 9 + 512 * 10, 16 * 9 + 32 * 16 * 9 + 24 * 32 * 9 + 384 * 10
    assert (result.to_dict()["dense_weights"], result.to_dict()["pruned_weights"]) == (before, after)
    text = f"0.0%, {after / before:.1%} of dense's weights kept"
    assert dict(result.table())["sparsity"] == text
    (compared,) = read_facts(thinice.open_store(store)).comparisons
    assert dict(table(comparison_row(compared)))["sparsity"] == text
    assert overview([compared, compared]).count(escaped(text)) == 2


@pytest.mark.slow
def test_what_prunings_and_trainings_say_together_is_in_the_overview(tmp_path):
    """Two prunings of one dense network, as the command line says it; and a second training pruned alike."""
    rng = np.random.default_rng(0)
    means = torch.tensor(rng.uniform(0.1, 0.9, 150), dtype=torch.float32)
    labels = (means > 0.5).long()
    samples = thinice.as_samples(means[:, None, None, None].expand(-1, 1, 2, 2), labels, classes=("dark", "light"))
    where = {"store": tmp_path / "thinice.duckdb", "device": "cpu", "progress": False, "effort": "quick"}
    networks = [as_classifier(Threshold(at), name=name) for name, at in (("dense", 0.5), ("near", 0.56), ("far", 0.66))]
    first = thinice.compare_all(networks[0], networks[1:], samples, **where)
    said = several(first)
    assert "AUC of near minus that of far: " in said
    page = overview(read_facts(thinice.open_store(where["store"])).comparisons)
    assert html.escape(said) in page
    assert several(first[:1]) == ""
    assert several([first[0], first[0]]) == ""
    assert "trainings" not in page
    second = [as_classifier(Threshold(at), name=name) for name, at in (("again", 0.49), ("pruned again", 0.60))]
    thinice.compare(*second, samples, **where)
    store = thinice.open_store(where["store"])
    with duckdb.connect(str(where["store"])) as connection:  # the second pruning of the first is of another sparsity
        connection.sql("update checkpoints set sparsity = 0.25 where name = 'far'")
    rows = store.sql("select auc, auc_se from separation where sparsity = 0.5")
    text = over_trainings(0.5, seed_summary(rows["auc"], rows["auc_se"]))
    assert text.startswith("Over 2 trainings pruned to 50.0% zeros: AUC 0.")
    assert text in overview(read_facts(store).comparisons)


def test_an_unfinished_comparison_has_no_statistics_in_its_table():
    counts = {"S1,1": 1, "S1,0": 1, "S0,1": 0, "S0,0": 0}
    accuracies = {"pruned_sparsity": 0.9, "dense_accuracy": 1.0, "pruned_accuracy": 0.5}
    row = {"dense": "a", "pruned": "b", "norm": "l2", "samples": 4, "not_found": 0, **counts, **accuracies}
    assert [name for name, _ in table(row)][-1] == "epsilon not found"
    assert answer(row) == (
        "b loses 1 of the 2 samples that a has right, of 2 of 4 samples that were measured so far. "
        "The run ended before its statistics."
    )
