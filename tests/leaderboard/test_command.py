"""`thinice benchmark`, `benchmark export` and `benchmark import`, as people type them."""

from __future__ import annotations

import csv
import io
import json
import pickle
import re
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import thinice
from tests.conftest import ROOT
from tests.leaderboard.conftest import HYDRA, WEAK
from thinice.attacks import ATTACKS, attack_row
from thinice.cli.benchmark import text
from thinice.leaderboard import Category
from thinice.leaderboard.imported import import_distances, imported_distances
from thinice.leaderboard.protocol import benchmark
from thinice.leaderboard.results import Protocol
from thinice.leaderboard.taxonomy import PIPELINES, SPECIFICS, parse_entries
from thinice.report.benchmark import save_benchmark_page

KEY = "HYDRA_Sehwag2020Hydra_R18_CIFAR10_US_90"
FEW = ("--samples", "20", "--quiet", "--no-checks")


@pytest.fixture(scope="module")
def paths():
    return thinice.example_checkpoints()


@pytest.fixture
def weak(monkeypatch):
    """Let the command attack for seconds instead of minutes."""
    monkeypatch.setattr(thinice, "benchmark", partial(benchmark, protocol=WEAK))


@pytest.fixture(scope="module")
def stored(benchmarked, tmp_path_factory):
    """A store in which two digits networks stand for two of a leaderboard, by the standard protocol's name."""
    result, path = benchmarked
    store = thinice.open_store(shutil.copy(path, tmp_path_factory.mktemp("stored") / "thinice.duckdb"))
    rows = [
        replace(row, method=HYDRA, category=Category("R18", "CIFAR10", "US", sparsity))
        for row, sparsity in zip(result.rows, (90, 95), strict=True)
    ]
    (measurement,) = set(store.sql("select measurement_id from comparisons")["measurement_id"])
    with store.run(["by hand"], device="cpu", seed=0) as writer:
        for row in rows:
            writer.add_benchmark_network(
                measurement, protocol=Protocol().to_dict(), method=HYDRA.key, entry=HYDRA.to_dict(),
                model_key=row.model_key, structure="US", removed_share=row.removed_share, layers=row.layers,
                autoattack_id=row.autoattack.measurement_id, ho_fmn_id=row.ho_fmn.measurement_id,
            )  # fmt: skip
    return replace(result, rows=tuple(rows), protocol=Protocol()), store.path


@pytest.mark.slow
@pytest.mark.usefixtures("weak")
def test_asked_again_the_command_says_the_same_and_searches_nothing(run, paths, benchmarked, tmp_path, monkeypatch):
    result, store = benchmarked

    def never(*_, **__):
        raise AssertionError("searched again")

    for name in ("MeasurementSession.search", "forward"):
        monkeypatch.setattr(f"thinice.analysis.session.{name}", never)
    row = replace(attack_row("ho-fmn"), tune=never)
    monkeypatch.setitem(ATTACKS.rows, "ho-fmn", (row, "tuned", "minimum norm"))
    shutil.copy(store, tmp_path / "thinice.duckdb")
    words = (
        "benchmark",
        paths["pruned-90"],
        paths["pruned-95"],
        "--dense",
        paths["dense"],
        "--samples",
        "40",
        "--quiet",
    )
    methods = ("--method-entry", HYDRA.key, "--method-entry", "none")
    code, out, err = run(*words, *methods, "--no-checks", "--format", "json")
    assert code == 0, err
    assert json.loads(out) == json.loads(json.dumps(result.to_dicts()))
    assert len(thinice.open_store(tmp_path / "thinice.duckdb").sql("from benchmark_networks")) == 2
    page = (tmp_path / "benchmark.html").read_text(encoding="utf-8")
    assert "<title>Thin ice benchmark: pruned-90, pruned-95</title>" in page


@pytest.mark.slow
def test_people_read_a_table_and_the_rankings(benchmarked):
    printed = text(benchmarked[0])
    for part in ("40 samples of digits (test)", "90.0%", "95.0%", HYDRA.key, "clean accuracy", "pgd at 24/255"):
        assert part in printed
    assert "no published leaderboard: by robust accuracy under pgd at 24/255" in printed
    values = benchmarked[0].to_dicts()[0]
    shown = f"{values['robust_accuracy']:.1%} ({values['robust_low']:.1%} to {values['robust_high']:.1%})"
    assert shown in printed


def test_a_page_replaces_a_page_and_nothing_else(run, paths, tmp_path):
    (tmp_path / "thesis.html").write_text("years of work")
    code, _, err = run("benchmark", paths["pruned-95"], "--dense", paths["dense"], *FEW, "--page", "thesis.html")
    assert code == 1
    assert "is not a page of thinice benchmark" in err
    assert (tmp_path / "thesis.html").read_text() == "years of work"


def test_a_dry_run_tells_the_cost_and_writes_nothing(run, paths, tmp_path, monkeypatch):
    monkeypatch.setattr("thinice.studies.estimate.MEASURED", 0.05)
    words = ("benchmark", paths["pruned-95"], "--dense", paths["dense"], "--samples", "20", "--dry-run", "--quiet")
    code, out, err = run(*words)
    assert code == 0, err
    assert "Together about" in out
    code, out, _ = run(*words, "--format", "csv")
    dense, pruned = csv.DictReader(io.StringIO(out))
    assert float(pruned["tuning"]) == 32 * 100 * 64
    assert float(dense["ho_fmn"]) == 0
    assert float(pruned["autoattack"]) == pytest.approx(20 * 3890, rel=0.02)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method-entry", "HYDRA"), "`method_entry` 'HYDRA' is unknown"),
        (("--method-entry", "a.json"), "`method_entry` a.json cannot be read"),
        (("--method-entry", "HYDRA_Sehwag2020Hydra", "--method-entry", "none"), "is given 2 times for 1 checkpoints"),
        (("--model-key", "HYDRA"), "`model_key` 'HYDRA' is not of the form"),
        (("--model-key", KEY), "says 90 %, and of the weights of pruned-95 95.0 % are zero"),
        (("--tune-split", "no"), "`split` of digits must be one of"),
        (("--page", "no/where.html"), "there is no folder no"),
    ],
)
def test_bad_input_is_one_line(run, paths, words, message):
    code, out, err = run("benchmark", paths["pruned-95"], "--dense", paths["dense"], *FEW, *words)
    assert code == 1
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_what_is_exported_is_what_the_public_benchmark_asks_for_and_comes_back(run, stored, tmp_path):
    result, store = stored
    code, out, err = run("benchmark", "export", "out", "--store", store)
    assert code == 0, err
    names = {line.rpartition("/")[2] for line in out.split()}
    keys = [row.model_key for row in result.rows]
    assert keys == [KEY, KEY.replace("90", "95")]
    assert names == {*(f"{key}.pickle" for key in keys), "entries.json", "results.json", "issue.md"}
    assert "3 sparsities are asked for; 99 % lack" in err
    (entry,) = parse_entries((tmp_path / "out" / "entries.json").read_text(encoding="utf-8"))
    assert entry == HYDRA
    assert list(json.loads((tmp_path / "out" / "entries.json").read_text())[0]) == list(HYDRA.to_dict())
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    for row, model in zip(result.rows, results["models"], strict=True):
        distances = pickle.loads((tmp_path / "out" / f"{row.model_key}.pickle").read_bytes())
        expected = np.where(np.isnan(row.ho_fmn.epsilon), np.inf, row.ho_fmn.epsilon)
        np.testing.assert_array_equal(np.float32(distances), expected)
        robust = (torch.tensor(distances) > 8 / 255).float().mean().item()  # as the public benchmark's code counts
        assert model["ho_fmn"]["accuracy"] == pytest.approx(robust)
        assert model["sample_ids"] == row.autoattack.sample_ids.tolist()
        assert model["autoattack"]["robust"] == row.autoattack.robust_to_this_attack.tolist()
        assert model["transitions"]["clean"].get("S1,0", 0) == row.comparison.counts["S1,0"]
        assert model["sparsity"] == pytest.approx(row.removed_share)
        assert len(model["checkpoint"]["sha256"]) == 64
        assert f'"{row.model_key}" : ["YOUR_FILE_ID", ".pt"]' in (tmp_path / "out" / "issue.md").read_text()
    code, _, err = run("benchmark", "export", "out", "--store", store)
    assert code == 1
    assert "--overwrite" in err
    options = ("--sample-ids", "out/results.json", "--format", "json", "--quiet")
    words = ("benchmark", "import", f"out/{KEY}.pickle", *options)
    code, out, err = run(*words)
    assert code == 0, err
    (imported,) = json.loads(out)
    assert imported["robust_accuracy"] == pytest.approx(results["models"][0]["ho_fmn"]["accuracy"])
    assert imported["area"] == pytest.approx(np.minimum(result.rows[0].ho_fmn.epsilon, 0.15).mean() / 0.15, rel=1e-5)


@pytest.mark.slow
def test_an_export_needs_networks_with_a_method_and_a_category(run, benchmarked, tmp_path):
    thinice.open_store(tmp_path / "empty.duckdb", new=True)
    code, _, err = run("benchmark", "export", "out", "--store", "empty.duckdb")
    assert code == 1
    assert "has nothing to export: it holds no network of the benchmark" in err
    code, _, err = run("benchmark", "export", "out", "--store", benchmarked[1])  # by another protocol
    assert code == 1
    assert not (tmp_path / "out").exists()


def distance_file(folder, values):
    path = folder / f"{KEY}.pickle"
    path.write_bytes(pickle.dumps(list(torch.tensor(values))))  # as the public benchmark's code writes it
    return path


def test_imported_distances_say_of_which_samples_or_are_refused(run, tmp_path):
    path = distance_file(tmp_path, [0.0, 0.0, 0.01, 0.05])
    code, out, err = run("benchmark", "import", path)
    assert code == 1
    assert out == ""
    assert "has 4 distances and does not say of which samples" in err
    assert "--sample-ids 2048:2176" in err
    code, _, err = run("benchmark", "import", path, "--sample-ids", "2048:2176")
    assert code == 1
    assert "`sample_ids` names 128 samples" in err
    assert not (tmp_path / "thinice.duckdb").exists()
    code, out, err = run("benchmark", "import", path, "--sample-ids", "2048:2052", "--format", "json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert (row["model_key"], row["samples"], row["zeros"], row["robust_accuracy"]) == (KEY, 4, 2, 0.25)
    assert row["low"] == pytest.approx(thinice.stats.wilson(1, 4).low)  # zeros are misclassified
    assert row["high"] == pytest.approx(thinice.stats.wilson(3, 4).high)  # zeros are failures
    assert "2 distances are 0: misclassified samples, or failures of the attack" in err
    distance_file(tmp_path, [0.1, 0.2])
    assert run("benchmark", "import", path, "--sample-ids", "7:9")[0] == 0  # replaces what there is of the key
    (held,) = imported_distances(thinice.open_store(tmp_path / "thinice.duckdb"))
    assert (held.sample_ids.tolist(), held.distances.round(6).tolist()) == ([7, 8], [0.1, 0.2])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("9:5", "is no range"), ("0:999999999", "is no range"), ("a:b", "must be a range"),
        ("none.json", "cannot be read"), ("deep.json", "cannot be read"),
        ("other.json", "holds no list"), ("text.json", "holds no list"),
    ],
)  # fmt: skip
def test_sample_ids_that_are_none_are_refused(tmp_path, monkeypatch, ids, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "other.json").write_text(json.dumps({"models": [{"model_key": "x", "sample_ids": [1, 2]}]}))
    (tmp_path / "text.json").write_text('["1", "2"]')
    with pytest.raises(thinice.ThinIceError, match=message):
        import_distances(distance_file(tmp_path, [0.1, 0.2]), ids)


@pytest.mark.slow
def test_the_page_shows_rankings_pipelines_and_claims_and_trusts_no_name(stored, tmp_path):
    result, _ = stored
    (tmp_path / "d").mkdir()
    claims = import_distances(distance_file(tmp_path / "d", [0.0, 0.05]), "3:5", store=tmp_path / "s.duckdb")
    named = replace(result, rows=(replace(result.rows[0], network="<script>alert(1)</script>"), result.rows[1]))
    page = save_benchmark_page(named, tmp_path / "page.html", imported=[claims]).read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("<script>") == 1
    assert "ResNet-18, CIFAR-10, unstructured, 90 %" in page
    assert "FlyingBird_Chen2021Sparsity" in page
    assert "samples are too few to tell it from" in page
    assert "Published rows are of other networks" in page
    assert "after training: AT TRADES, pruned one-shot, then AT TRADES" in page
    assert "Imported distances" in page
    assert not re.findall(r"(?:src|url|import)\W{1,3}https?:", page)  # nothing is asked of a network
    assert "default-src 'none'" in page
    assert save_benchmark_page(named, tmp_path / "page.html").exists()  # an older page is replaced


@pytest.mark.slow
def test_rows_of_another_protocol_are_not_ranked_among_published_ones(stored):
    result, _ = stored
    assert {len(rows) for rows in result.rankings().values()} == {11}
    weaker = replace(result, protocol=replace(Protocol(), budget=4 / 255))
    assert {len(rows) for rows in weaker.rankings().values()} == {1}


def test_the_documented_entry_and_values_are_those_of_the_taxonomy():
    page = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    (written,) = re.findall(r"<!-- entry -->\n```json\n(.*?)```", page, re.DOTALL)
    (entry,) = parse_entries(written)
    assert entry.to_dict() == json.loads(written)
    for field in (*SPECIFICS, *(field for pipeline in PIPELINES for field in pipeline.fields)):
        assert f"`{field.key}`" in page
        assert all(value.strip() in page for value in field.values)
    assert all(pipeline.text in page for pipeline in PIPELINES)


@pytest.mark.slow
def test_the_standard_protocol_runs_on_a_few_samples(run, paths):
    words = ("benchmark", paths["pruned-95"], "--dense", paths["dense"], "--samples", "4", "--quiet", "--no-page")
    code, out, err = run(*words, "--format", "json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert 0 <= row["worst_case_accuracy"] <= row["robust_accuracy"] <= row["clean_accuracy"] <= 1
