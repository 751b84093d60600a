"""A statistic is one row, and nobody forgets it: JSON, store, view, report and the printed table have it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import thinice
from thinice.report.facts import read_facts
from thinice.report.sections import statistics
from thinice.stats import STATISTICS, Statistic, separation, statistic, statistic_values
from thinice.store import open_store

COUNTS = {"n_kept", "n_lost", "n_gained", "n_wrong", "not_found_kept", "not_found_lost"}
KEYS = {"comparison_id", "run_id", "created", "notes"}


@pytest.fixture
def toy(monkeypatch):
    """A statistic of the next version."""
    monkeypatch.setattr("thinice.stats.registry.STATISTICS", STATISTICS)
    before = dict(STATISTICS)

    @statistic(
        "found_share", "Share of the samples that were found: it's a toy.", unit="probability", label="share found"
    )
    def found_share(result):
        return 1 - (result.not_found_kept + result.not_found_lost) / (result.n_kept + result.n_lost)

    yield found_share
    STATISTICS.clear()
    STATISTICS.update(before)


def compared(store):
    paths, samples = thinice.example_checkpoints(), thinice.load_samples("digits", limit=80)
    return thinice.compare(
        paths["dense"], paths["pruned-95"], samples, attack="fmn", steps=10, device="cpu", store=store, progress=False
    )


def reported(store):
    (comparison,) = read_facts(store).comparisons
    return statistics(comparison, read_facts(store).meanings)


@pytest.mark.slow
def test_every_statistic_is_in_the_store_its_view_json_and_the_report(tmp_path):
    result = compared(tmp_path / "thinice.duckdb")
    store = open_store(tmp_path / "thinice.duckdb")
    table = set(store.describe("statistics")["column"]) - KEYS - COUNTS
    view = store.describe("separation").set_index("column")["comment"]
    page = reported(store)
    assert table == set(STATISTICS)
    assert table <= set(view.index)
    assert table <= set(result.separation.to_dict())
    assert table <= set(result.to_dict())
    row = store.sql("from separation").iloc[0]
    for name, entry in STATISTICS.items():
        assert view[name] == entry.comment
        assert f">{name.replace('_', ' ')}<" in page
        value = entry(result.separation)
        assert pd.isna(row[name]) if value is None else row[name] == pytest.approx(value)
    lines = [name for name, _ in result.table()]
    known = result.separation.to_dict()
    labels = [
        entry.label
        for name, entry in STATISTICS.items()
        if entry.label and not (entry.optional and known[name] is None)
    ]
    assert [line for line in lines if line in labels] == labels


@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_a_new_statistic_is_found_in_all_five(tmp_path):
    result = compared(tmp_path / "thinice.duckdb")
    share = result.separation.to_dict()["found_share"]
    store = open_store(tmp_path / "thinice.duckdb")
    assert result.to_dict()["found_share"] == share == 1.0
    assert store.sql("select found_share from statistics")["found_share"].tolist() == [share]
    assert store.sql("select found_share from separation")["found_share"].tolist() == [share]
    assert ">found share<" in reported(store)
    assert ("share found", "1.000") in result.table()
    for name in ("statistics", "separation"):
        comments = store.describe(name).set_index("column")["comment"]
        assert comments["found_share"] == "Share of the samples that were found: it's a toy."


def test_values_are_plain_numbers_or_none():
    empty = separation([], [1.0])
    values = statistic_values(empty)
    assert list(values) == list(STATISTICS)
    assert json.loads(json.dumps(values))["auc"] is None
    full = separation(np.arange(40.0), np.arange(12.0))
    assert statistic_values(full)["auc_low"] == full.interval().low
    assert statistic_values(full)["auc_high"] == full.interval().high


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="there is a statistic 'auc' already"):
        statistic("auc", "again")(lambda result: result.auc)


def test_every_row_says_what_it_means():
    for name, entry in STATISTICS.items():
        assert isinstance(entry, Statistic)
        assert name == entry.name
        assert len(entry.comment) > 10
        assert entry.until in {"", *STATISTICS}
