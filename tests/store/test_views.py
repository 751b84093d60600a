"""The views answer what was counted by hand."""

from __future__ import annotations

import json

import duckdb
import numpy as np
import pandas as pd
import pytest

from thinice.types import FailureReason, FoundBy, Outcome, Transition


def test_every_sample_has_its_transition(six):
    rows = six.sql("select sample_id, transition from transitions order by sample_id")
    assert rows["sample_id"].tolist() == [10, 11, 12, 13, 14, 15]
    assert rows["transition"].tolist() == ["S1,1", "S1,1", "S1,0", "S1,0", "S0,1", "S0,0"]


def test_a_transition_brings_everything_needed_to_read_it(six):
    row = six.sql("from transitions where sample_id = 12").iloc[0]
    assert row[["dense", "pruned", "data", "norm", "attack", "basis"]].tolist() == [
        "dense",
        "pruned",
        "digits",
        "linf",
        "fmn",
        "clean",
    ]
    assert (row["label"], row["class_name"], row["source"]) == (2, "eel", "12.png")
    assert (row["dense_prediction"], row["pruned_prediction"]) == (2, 0)
    assert row["epsilon"] == np.float32(0.05)
    assert row["outcome"] == "found"


def test_nan_logits_are_no_class_and_count_as_wrong(six):
    row = six.sql("from transitions where sample_id = 15").iloc[0]
    assert pd.isna(row["dense_prediction"])
    assert pd.isna(row["pruned_prediction"])
    assert row["transition"] == "S0,0"
    assert row["outcome"] == "not_found"


def test_unknown_is_null_and_nothing_averages_it_away(six):
    (row,) = six.sql("select count(*) as n, count(epsilon) as known, min(epsilon) as low from transitions").itertuples()
    assert (row.n, row.known, row.low) == (6, 4, 0.0)
    assert six.sql("select epsilon from transitions where sample_id = 13")["epsilon"].isna().all()


def test_of_the_predictions_no_join_holds_a_copy_in_memory(six):
    """Pruned networks have most rows of a large store: they run past what the dense ones have."""
    question = "select dense, sample_id, count(*), bool_and(transition = 'S1,0') from transitions group by all"
    with duckdb.connect(six.path, read_only=True) as connection:
        plan = json.loads(connection.execute(f"explain (format json) {question}").fetchall()[0][1])
    assert "delim" not in json.dumps(plan).lower()
    assert "predictions" in first_scan(plan[0])


def first_scan(step):
    """Return what the leftmost scan of a plan reads: of each join the left side runs past the right one."""
    while step["children"]:
        step = step["children"][-1 if step["name"].strip().startswith("CTE") else 0]
    return json.dumps(step["extra_info"])


def test_thin_ice_is_sorted_and_holds_only_found_ones(six):
    rows = six.sql("select sample_id, epsilon, transition from thin_ice")
    assert rows["sample_id"].tolist() == [12, 11, 10]
    assert rows["transition"].tolist() == ["S1,0", "S1,1", "S1,1"]
    assert six.sql("select sample_id from thin_ice where comparison_id = 1 limit 1")["sample_id"].tolist() == [12]


def test_separation_counts_in_the_store_and_keeps_what_statistics_say(six):
    (row,) = six.sql("from separation").itertuples()
    assert (row.n, row.n_kept, row.n_lost, row.n_gained, row.n_wrong) == (6, 2, 2, 1, 1)
    assert (row.not_found_kept, row.not_found_lost) == (0, 1)
    assert row.dense_accuracy == pytest.approx(4 / 6)
    assert row.pruned_accuracy == pytest.approx(3 / 6)
    assert (row.dense, row.pruned, row.sparsity) == ("dense", "pruned", 0.9)
    assert (row.auc, row.log10_p, list(row.notes)) == (0.75, -400.5, ["why"])
    assert pd.isna(row.p_value)


def test_separation_shows_a_comparison_without_statistics_as_unknown(six, bench):
    other = bench.checkpoint("other", sparsity=0.95)
    bench.run.comparison(1, other)
    row = six.sql("from separation where pruned = 'other'").iloc[0]
    assert pd.isna(row["n"])
    assert pd.isna(row["auc"])


def test_security_curve_falls_at_every_epsilon(six):
    rows = six.sql("select budget, robust_accuracy, n, not_found from security_curves order by budget")
    assert rows["budget"].tolist() == pytest.approx([0, 0.05, 0.10, 0.30])
    # at 0: sample 14 is misclassified, the logits of 15 are NaN; then 12, 11 and 10 fall; 13 never does
    assert rows["robust_accuracy"].tolist() == pytest.approx([4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert set(rows["n"]) == {6}
    assert set(rows["not_found"]) == {1}


def test_security_curve_of_a_perfect_network_starts_at_one(store, bench):
    bench.shard(bench.measurement([1, 2]), [1, 2], epsilon=0.25)
    rows = store.sql("select budget, robust_accuracy from security_curves order by budget")
    assert rows.to_numpy().tolist() == [[0, 1], [0.25, 0]]


def test_a_sample_of_two_comparisons_appears_once_in_each(six, bench):
    other = bench.checkpoint("other", sparsity=0.95)
    bench.run.add_predictions(other, 1, [10, 11, 12, 13, 14, 15], predictions=[0, 1, 2, 0, 1, 2])
    bench.run.comparison(1, other)
    counts = six.sql("select pruned, transition, count(*) as n from transitions group by all order by all")
    assert counts.to_numpy().tolist() == [
        ["other", "S1,1", 4],
        ["other", "S0,1", 2],
        ["pruned", "S1,1", 2],
        ["pruned", "S1,0", 2],
        ["pruned", "S0,1", 1],
        ["pruned", "S0,0", 1],
    ]


def test_enums_of_the_store_are_the_words_of_python(store):
    transitions = store.sql("select unnest(enum_range(null::transition)) as word")["word"]
    outcomes = store.sql("select unnest(enum_range(null::outcome)) as word")["word"]
    assert transitions.tolist() == [str(transition) for transition in Transition]
    assert outcomes.tolist() == [outcome.text for outcome in sorted(Outcome)]
    for name, codes in (("found_by", FoundBy), ("failure_reason", FailureReason)):
        words = store.sql(f"select unnest(enum_range(null::{name})) as word")["word"]
        assert words.tolist() == [code.text for code in sorted(codes) if code]


def test_enums_become_ordered_categories_of_pandas(six):
    column = six.sql("select transition from transitions")["transition"]
    assert column.cat.categories.tolist() == [str(transition) for transition in Transition]
    assert column.cat.ordered


def test_predictors_hold_what_the_dense_network_says_of_samples_it_has_right(six, bench):
    dense = bench.checkpoint("dense")
    bench.run.add_predictions(
        dense,
        1,
        [10, 11, 12],
        predictions=[0, 1, 2],
        margins=[3.0, 1.0, 0.5],
        confidences=[0.9, 0.6, 0.5],
        losses=[0.1, 0.5, 0.7],
    )
    rows = six.sql("select sample_id, lost, epsilon, margin, confidence, loss from predictors order by sample_id")
    assert rows["sample_id"].tolist() == [10, 11, 12, 13]
    assert rows["lost"].tolist() == [False, False, True, True]
    assert rows["epsilon"].tolist()[:3] == pytest.approx([0.3, 0.1, 0.05])
    assert rows["margin"].tolist()[:3] == [3, 1, 0.5]
    assert rows["confidence"].tolist()[:3] == [0.9, 0.6, 0.5]
    assert rows["loss"].tolist()[:3] == pytest.approx([0.1, 0.5, 0.7])
    assert rows[["epsilon", "margin", "confidence", "loss"]].iloc[3].isna().all()
