"""The report reads a comparison from the store and says what the command line said of it, word for word."""

from __future__ import annotations

import pytest

import thinice
from tests.truth import Threshold, grey
from thinice.models import as_classifier
from thinice.report.facts import read_facts
from thinice.report.narrative import comparison_row
from thinice.results.narrative import answer, table


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


def test_an_unfinished_comparison_has_no_statistics_in_its_table():
    counts = {"S1,1": 1, "S1,0": 1, "S0,1": 0, "S0,0": 0}
    accuracies = {"pruned_sparsity": 0.9, "dense_accuracy": 1.0, "pruned_accuracy": 0.5}
    row = {"dense": "a", "pruned": "b", "norm": "l2", "samples": 4, "not_found": 0, **counts, **accuracies}
    assert [name for name, _ in table(row)][-1] == "epsilon not found"
    assert answer(row) == (
        "b loses 1 of the 2 samples that a has right, of 2 of 4 samples that were measured so far. "
        "The run ended before its statistics."
    )
