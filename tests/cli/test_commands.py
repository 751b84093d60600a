"""The commands as a new user types them: what goes where, what an error looks like, what a second run does."""

from __future__ import annotations

import csv
import io
import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import thinice
from thinice.analysis.measurement import prepare_classifier
from thinice.analysis.session import MeasurementSession
from thinice.data.digits import example_checkpoints
from thinice.errors import DoubtfulWarning
from thinice.models import as_classifier

COMPARE = ("--limit", "40", "--effort", "quick")


@pytest.fixture(scope="module")
def paths():
    return example_checkpoints()


def test_compare_prints_a_table_and_keeps_everything(run, paths, tmp_path):
    code, out, err = run("compare", paths["dense"], paths["pruned-95"], *COMPARE)
    assert code == 0, err
    for part in ("40 samples of digits (test)", "pruned-95", "S1,0  lost: on thin ice", "AUC", "95.0%"):
        assert part in out
    assert "figures in thinice-figures" in err
    assert (tmp_path / "thinice-figures" / "pruned-95" / "distribution.png").stat().st_size > 1000
    assert len(thinice.open_store(tmp_path / "thinice.duckdb").sql("from transitions")) == 40


@pytest.mark.slow
def test_command_line_and_api_give_equal_results_row_by_row(run, paths, tmp_path, compared):
    code, out, _ = run(
        "compare", paths["dense"], paths["pruned-90"], paths["pruned-95"], *COMPARE, "--format", "json", "--no-figures"
    )
    assert code == 0
    samples = thinice.load_samples("digits", limit=40)
    options = {"effort": "quick", "progress": False, "store": shutil.copy(compared, tmp_path / "api.duckdb")}
    results = thinice.compare_all(paths["dense"], [paths["pruned-90"], paths["pruned-95"]], samples, **options)
    assert json.loads(out) == json.loads(json.dumps([one.to_dict() for one in results]))
    stored = thinice.open_store(tmp_path / "thinice.duckdb")
    for result in results:
        rows = stored.sql("from transitions where pruned = ? order by sample_id", [result.pruned])
        frame = result.frame().sort_values("sample_id")
        np.testing.assert_array_equal(rows["epsilon"], frame["epsilon"])
        for name in ("sample_id", "outcome", "transition"):
            assert rows[name].tolist() == frame[name].tolist()


@pytest.mark.slow
def test_both_distances_are_in_the_table_and_the_store(run, paths, tmp_path):
    code, out, err = run("compare", paths["dense"], paths["pruned-95"], *COMPARE, "--distances", "both", "--no-figures")
    assert code == 0, err
    assert "shift, pruned - dense" in out
    rows = thinice.open_store(tmp_path / "thinice.duckdb").sql("from transitions")
    right = rows["pruned_prediction"] == rows["label"]
    assert (rows["pruned_epsilon"][right] > 0).all()
    assert (rows["pruned_outcome"][~right] == "misclassified").all()


@pytest.mark.slow
@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("how", ["csv", "markdown"])
def test_other_formats_have_a_row_a_network(run, paths, how):
    _, out, _ = run("compare", paths["dense"], paths["pruned-95"], *COMPARE, "--no-figures", "--format", how)
    if how == "csv":
        (row,) = csv.DictReader(io.StringIO(out))
        assert row["pruned"] == "pruned-95"
        assert int(row["S1,1"]) + int(row["S1,0"]) + int(row["S0,1"]) + int(row["S0,0"]) == 40
    else:
        assert out.splitlines()[0].startswith("| dense | pruned |")
        assert len(out.splitlines()) == 3


@pytest.mark.usefixtures("measured")
def test_quiet_says_nothing_but_numbers(run, paths):
    _, out, err = run("compare", paths["dense"], paths["pruned-95"], *COMPARE, "--quiet", "--no-figures")
    assert out
    assert not err


@pytest.mark.slow
def test_the_second_time_nothing_is_measured(run, paths):
    words = ("compare", paths["dense"], paths["pruned-95"], *COMPARE, "--no-figures")
    first = run(*words)[1]
    again = run(*words)[1]
    assert again == first
    _, out, _ = run("runs", "--format", "json")
    assert [entry["samples"] for entry in json.loads(out)] == [40, 0]
    assert [entry["outcome"] for entry in json.loads(out)] == ["finished", "finished"]


@pytest.mark.slow
def test_measure_then_ask_then_export(run, paths, tmp_path):
    code, out, err = run(
        "measure", paths["dense"], "--limit", "10", "--norm", "l2", "--steps", "15", "--format", "json"
    )
    assert code == 0, err
    (row,) = json.loads(out)
    assert (row["network"], row["samples"], row["norm"]) == ("dense", 10, "l2")
    assert row["found"] + row["misclassified"] + row["not_found"] == 10
    samples = thinice.load_samples("digits", limit=10)
    (by_api,) = thinice.measure_all(
        [thinice.load_classifier(paths["dense"])], samples, norm="l2", steps=15, progress=False
    )
    assert row == json.loads(json.dumps(by_api.to_dict()))
    _, out, _ = run("sql", "select count(*) as n from epsilons where epsilon > 0", "--format", "csv")
    assert out.split() == ["n", str(row["found"])]
    code, out, _ = run("export", "epsilons.csv", "--what", "epsilons")
    assert code == 0
    with (tmp_path / "epsilons.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 10
    code, _, err = run("export", "epsilons.csv", "--what", "epsilons")
    assert code == 1
    assert "overwrite" in err


def test_sql_without_a_query_teaches(run, paths):
    run("measure", paths["dense"], "--limit", "5", "--steps", "5")
    _, out, _ = run("sql")
    assert "thin_ice" in out
    assert "closest first" in out
    _, out, _ = run("sql", "describe transitions")
    assert "epsilon" in out


def test_demo_is_the_main_job(run):
    code, out, _ = run("demo", "--limit", "20", "--no-figures")
    assert code == 0
    assert "pruned-90" in out
    assert "pruned-95" in out
    assert "no control: pruning changes no prediction" in " ".join(out.split())  # of so few; else it says its AUC


def test_l0_is_counted_in_values(run, paths):
    words = ("compare", paths["dense"], paths["pruned-95"], "--limit", "15", "--norm", "l0", "--no-figures")
    _, out, _ = run(*words, "--effort", "quick")
    assert "l0" in out
    assert "/255" not in out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("compare", "nothing.pt", "nothing.pt"), "nothing.pt"),
        (("measure", "{dense}", "--data", "nonsense"), "nonsense"),
        (("measure", "{dense}", "--attack", "nonsense"), "nonsense"),
        (("measure", "{dense}", "--attack", "foolbox:Nonsense"), "Nonsense"),
        (("measure", "{dense}", "--device", "tpu"), "tpu"),
        (("measure", "{dense}", "--batch-size", "0"), "--batch-size"),
        (("measure", "{dense}", "--normalization", "cifar10"), "normalization"),
        (("sql", "select 1", "--store", "nothing.duckdb"), "nothing.duckdb"),
        (("runs", "--store", "nothing.duckdb"), "nothing.duckdb"),
        (("export", "x.parquet", "--store", "nothing.duckdb"), "nothing.duckdb"),
    ],
)
def test_mistakes_end_in_one_line_without_a_traceback(run, paths, words, part):
    code, out, err = run(*(word.format(dense=paths["dense"]) for word in words))
    assert code == 1
    assert not out
    assert part in err
    assert err.startswith("thinice: ")
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "words", [("compare",), ("measure", "x.pt", "--norm", "l7"), ("nonsense",), ("demo", "--speed")]
)
def test_usage_errors_exit_with_two(run, words):
    code, _, err = run(*words)
    assert code == 2
    assert "Traceback" not in err


def test_a_foreign_checkpoint_needs_only_what_it_does_not_say(run, tmp_path, paths):
    dense = thinice.load_classifier(paths["dense"])
    torch.save({"state_dict": dense.network.state_dict()}, tmp_path / "bare.pt")
    code, _, err = run("measure", tmp_path / "bare.pt", "--limit", "5", "--steps", "5")
    assert code == 1
    assert "--data" in err
    code, _, err = run(
        "measure", tmp_path / "bare.pt", "--data", "digits", "--normalization", "none", "--limit", "5", "--steps", "5"
    )
    assert code == 0, err
    assert "digits_cnn" in err  # identified, and said so


def test_ctrl_c_says_how_to_go_on(run, paths, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(MeasurementSession, "measure", stop)
    code, _, err = run("measure", paths["dense"], "--limit", "5")
    assert code == 130
    assert "the same command goes on there" in err
    assert "Traceback" not in err


def test_probabilities_are_warned_of():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Softmax(1))
    samples = thinice.as_samples(torch.rand(6, 1, 2, 2), torch.zeros(6, dtype=torch.int64))
    with pytest.warns(DoubtfulWarning, match="look like probabilities"):
        ready = prepare_classifier(as_classifier(network), samples)
    assert any("probabilities" in note for note in ready.notes)
    assert prepare_classifier(ready, samples) is ready  # said once
