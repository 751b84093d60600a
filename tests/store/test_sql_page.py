"""The page of SQL recipes is true: every block runs against a real store, and the statistics are those of Python."""

from __future__ import annotations

import re
import shlex
import sys

import duckdb
import numpy as np
import pandas as pd
import pytest

import thinice
from tests.conftest import ROOT
from tests.truth import Threshold, grey
from thinice.cli import main
from thinice.models import as_classifier
from thinice.stats import class_losses, risk_bins, seed_summary

PAGE = (ROOT / "docs" / "sql.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
RECIPES = re.findall(r"^### (.*?)\n.*?^```sql\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
QUICK = {"attack": "fmn", "steps": 10, "progress": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two prunings in linf and one in l2 on real networks, a training, and a file of questions."""
    folder = tmp_path_factory.mktemp("page")
    paths = thinice.example_checkpoints()
    samples = thinice.load_samples("digits", limit=250)
    options = {**QUICK, "store": folder / "thinice.duckdb"}
    thinice.compare_all(paths["dense"], [paths["pruned-90"], paths["pruned-95"]], samples, **options)
    thinice.compare(paths["dense"], paths["pruned-95"], samples, norm="l2", distances="both", **options)
    _bound(thinice.open_store(options["store"]))
    plan = thinice.preset("fast", epochs=2, budget=0.1, held_out=0.2, shift=0, flip=False)
    training = thinice.load_samples("digits", split="train", limit=60)
    thinice.train_classifier("digits_cnn", training, plan, store=options["store"])
    (folder / "questions.sql").write_text(";\n".join(text for _, text in RECIPES), encoding="utf-8")
    return folder


def _bound(store):
    """Bound what was measured from below, as proofs and another program would."""
    key = store.sql("select checkpoint_id, dataset_id from measurements where measurement_id = 1")
    rows = store.sql("select distinct sample_id, epsilon from transitions where norm = 'linf' and epsilon is not null")
    ids, network = rows["sample_id"].to_numpy(), (*map(int, key.iloc[0]), "linf")
    with store.run(["x"], device="cpu", seed=0) as run:
        run.add_lower_bounds(*network, ids, epsilon_lower=0.4 * rows["epsilon"].to_numpy())
        claim = {"claimed_lower": np.full(3, 0.01), "verifier": "v", "source": "result_df.csv"}
        run.add_claimed_bounds(*network, ids[:3], **claim)


@pytest.fixture(scope="module")
def store(folder):
    return thinice.open_store(folder / "thinice.duckdb")


def test_every_block_is_of_a_kind_that_is_tested():
    assert {kind for kind, _ in BLOCKS} == {"sql", "python", "bash"}
    assert [text for kind, text in BLOCKS if kind == "sql"] == [text for _, text in RECIPES]
    assert len({title for title, _ in RECIPES}) == len(RECIPES) > 15


@pytest.mark.parametrize(("title", "recipe"), RECIPES, ids=[title for title, _ in RECIPES])
def test_a_recipe_answers(store, title, recipe):
    answer = store.sql(recipe)
    assert len(answer), title
    assert len(answer.columns) > 1
    empty = answer.columns[answer.isna().all()]
    assert list(empty) == [], title


def test_the_python_runs_in_its_order(folder, monkeypatch):
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    for kind, text in BLOCKS:
        if kind == "python":
            exec(compile(text, "docs/sql.md", "exec"), names)
    (folder / "thin_ice.parquet").unlink()


@pytest.mark.slow
def test_the_commands_run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    ran = 0
    for kind, text in BLOCKS:
        for line in text.splitlines() if kind == "bash" else []:
            monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
            with pytest.raises(SystemExit) as end:
                main()
            assert not end.value.code, line
            assert capsys.readouterr().out, line
            ran += 1
    assert ran > 5
    lost = duckdb.sql(f"from '{folder}/transitions.parquet' where transition = 'S1,0'").fetchall()
    assert len(pd.read_csv(folder / "lost.csv")) == len(lost) > 0


def answer(store, title):
    return store.sql(dict(RECIPES)[title])


def groups(store, pruned):
    """Epsilons of kept and of lost samples."""
    rows = store.sql("select transition, epsilon from transitions where norm = 'linf' and pruned = ?", [pruned])
    return (rows.loc[rows["transition"] == which, "epsilon"].to_numpy() for which in ("S1,1", "S1,0"))


def test_the_auc_is_that_of_the_statistics(store):
    expected = store.sql("select comparison_id, auc from separation order by all")["auc"]
    assert answer(store, "The AUC from its definition")["auc"].tolist() == pytest.approx(expected.tolist(), abs=1e-12)


def test_the_rivals_are_those_of_the_comparison(store):
    paths = thinice.example_checkpoints()
    samples = thinice.load_samples("digits", limit=250)
    result = thinice.compare(paths["dense"], paths["pruned-95"], samples, store=store, **QUICK)
    rows = answer(store, "Does epsilon predict losses better than margin, confidence and loss?")
    found = rows[rows["pruned"] == "pruned-95"].set_index("predictor")["auc"]
    expected = result.predictor_comparison()
    assert found[expected.name.tolist()].tolist() == pytest.approx(expected.auc.tolist(), abs=1e-12)


def test_the_shift_of_the_boundary_is_that_of_the_comparison(store):
    paths = thinice.example_checkpoints()
    options = {**QUICK, "norm": "l2", "distances": "both", "store": store, "progress": pytest.fail}
    result = thinice.compare(paths["dense"], paths["pruned-95"], thinice.load_samples("digits", limit=250), **options)
    (row,) = answer(store, "By how much the boundary moved").itertuples()
    assert row.shift == pytest.approx(result.boundary_shift, rel=1e-6)
    assert row.shift_kept == pytest.approx(result.boundary_shift_kept, rel=1e-6)
    assert (row.lost, row.not_corrected) == (result.counts["S1,0"], 0)


def test_the_risk_is_that_of_the_bins(store):
    rows = answer(store, "Risk by tenths of epsilon")
    for pruned in ("pruned-90", "pruned-95"):
        bins = risk_bins(*groups(store, pruned))
        mine = rows[rows["pruned"] == pruned]
        assert mine["samples"].sum() == bins.n.sum() - bins.not_found
        assert mine["lost_samples"].sum() == bins.lost[np.isfinite(bins.nearest)].sum()
        # ntile cuts a sample earlier or later
        assert mine["risk"].iloc[0] == pytest.approx(bins.risk[0], abs=1.01 / bins.n[0])


def test_the_closest_tenth_is_counted(store):
    rows = answer(store, "How many of the lost lie within the closest tenth").set_index("pruned")
    for pruned in ("pruned-90", "pruned-95"):
        kept, lost = groups(store, pruned)
        closest = int(np.ceil(0.1 * (len(kept) + len(lost))))
        reach = np.sort(np.concatenate([kept, lost]))[closest - 1]
        assert rows.loc[pruned, "closest"] == closest
        assert rows.loc[pruned, "lost_among_them"] == pytest.approx((lost <= reach).sum(), abs=1)


def test_classes_are_those_of_the_statistics(store):
    rows = answer(store, "The share that pruning takes from each class")
    labels = store.sql(
        "select label, class_name, transition from transitions where norm = 'linf' and pruned = 'pruned-95'"
    )
    table = class_losses(labels["label"].to_numpy(), labels["transition"].to_numpy())
    mine = rows[rows["pruned"] == "pruned-95"].set_index("class_name")
    assert mine["lost"].sum() == table.lost.sum() > 0
    assert sorted(mine["share"].round(9)) == sorted(table.share.round(9))


def test_lost_by_every_pruning_is_the_intersection(store):
    lost = [
        set(
            store.sql(
                f"select sample_id from transitions where norm = 'linf' and pruned = '{name}' and transition = 'S1,0'"
            )["sample_id"]
        )
        for name in ("pruned-90", "pruned-95")
    ]
    assert set(answer(store, "Lost by every pruning")["sample_id"]) == lost[0] & lost[1]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """The threshold networks in two bases, one pruned network on the clean one alone, with samples not found."""
    path = tmp_path_factory.mktemp("mixed") / "thinice.duckdb"
    dense, first, second = (
        as_classifier(Threshold(at), name=name) for at, name in ((0.5, "dense"), (0.6, "first"), (0.7, "second"))
    )
    options = {"store": path, "norm": "linf", "effort": "quick", "progress": False, "device": "cpu"}
    thinice.compare_all(dense, [first, second], grey(), **options)
    thinice.compare(dense, second, grey(), basis="robust", budget=0.05, **options)
    store = thinice.open_store(path)
    with duckdb.connect(str(path)) as connection:  # a quarter of the kept samples were not found
        connection.sql(
            "update epsilons set epsilon = null, outcome = 'not_found' where outcome = 'found' and epsilon > 0.2"
        )
    return store


@pytest.mark.slow
def test_bases_are_not_mixed_and_what_was_not_found_is_far(mixed):
    rows = mixed.sql("from transitions")
    assert set(rows["basis"]) > {"clean"}
    assert rows["epsilon"].isna().any()
    counts = answer(mixed, "How many samples went which way")
    assert len(counts) == len(rows.groupby(["comparison_id", "transition"], observed=True))
    for _, row in counts.iterrows():
        group = rows[(rows["comparison_id"] == row["comparison_id"]) & (rows["transition"] == row["transition"])]
        assert row["samples"] == len(group)
        middle = np.sort(group["epsilon"].fillna(np.inf))[(len(group) - 1) // 2]
        assert row["median_255"] == pytest.approx(255 * middle)
    lost = rows[(rows["basis"] == "clean") & (rows["transition"] == "S1,0")]
    by_both = set(lost.loc[lost["pruned"] == "first", "sample_id"]) & set(
        lost.loc[lost["pruned"] == "second", "sample_id"]
    )
    assert set(answer(mixed, "Lost by every pruning")["sample_id"]) == by_both
    assert len(by_both) < len(set(lost["sample_id"]))
    classes = answer(mixed, "The share that pruning takes from each class")
    assert (classes["dense_right"] <= len(rows[rows["comparison_id"] == 1])).all()
    assert len(classes.groupby("comparison_id")) == 3
    one = answer(mixed, "Lost by one pruning, kept by another")
    assert set(one["lost_by"]) == {"second"}
    assert not one.duplicated(["sample_id", "lost_by", "kept_by"]).any()


def test_the_page_of_statistics_names_those_that_there_are_and_its_query_feeds_the_summary(store):
    page = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    columns = set(store.describe("separation")["column"])
    tables = page[page.index("## The answer") : page.index("## Several prunings")]
    first_cells = [line.split("|")[1] for line in tables.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`([a-z_0-9]+)`", " ".join(first_cells)))
    assert len(named) > 20
    assert named <= columns
    (query,) = re.findall(r"^```sql\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    rows = store.sql(query)
    summary = seed_summary(rows["auc"], rows["auc_se"])
    assert summary.n == len(rows) == 2
    assert summary.interval.low < rows["auc"].mean() < summary.interval.high
