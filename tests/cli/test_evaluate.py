"""`thinice evaluate`, and `compare` on a robust basis, as people type them."""

from __future__ import annotations

import json
import sys
import warnings

import pytest
import torch

import thinice
from tests.models.test_research_formats import hydra, trained
from thinice.analysis.evaluation import DoubtfulWarning
from thinice.data.digits import example_checkpoints
from thinice.studies.reported import reported_vs_measured

FEW = ("--limit", "40", "--quiet")
ALONE = (*FEW, "--no-checks")
"""Without the checks after an evaluation, which have tests of their own (test_check.py)."""


@pytest.fixture(scope="module")
def paths():
    return example_checkpoints()


def rows(output):
    return json.loads(output)


@pytest.mark.slow
def test_command_line_and_api_give_equal_rows_and_equal_warnings(run, paths, tmp_path, monkeypatch):
    monkeypatch.setattr("thinice.checks.run.SAMPLES", 2)
    (tmp_path / "paper.csv").write_text("checkpoint,reported\ndense,90%\npruned-95,40%\n")
    budgets = ("--budget", "40/255", "--budget", "ladder")
    words = ("evaluate", paths["dense"], paths["pruned-95"], *budgets, "--attack", "fmn", "--effort", "quick")
    code, out, err = run(*words, "--reported", "paper.csv", "--limit", "15", "--seed", "3", "--format", "json")
    assert code == 0, err
    networks, samples = [thinice.load_classifier(paths[name]) for name in ("dense", "pruned-95")], few(15)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DoubtfulWarning)
        results = thinice.evaluate_all(
            networks,
            samples,
            budgets=["ladder", 40 / 255],
            reported=[0.9, 0.4],
            attack="fmn",
            effort="quick",
            seed=3,
            progress=False,
        )
    assert json.loads(out) == json.loads(json.dumps([reported_vs_measured(result) for result in results]))
    told = [f"warning: {warning.message}" for warning in caught if isinstance(warning.message, DoubtfulWarning)]
    assert any("below_reported" in line for line in told)
    assert [line for line in err.splitlines() if line.startswith("warning: ")] == told


def test_rows_without_reported_accuracies_are_those_of_the_api(run, paths):
    words = ("evaluate", paths["dense"], "--attack", "pgd", "--budget", "8/255", "--steps", "5", *ALONE)
    (row,) = rows(run(*words, "--format", "json")[1])
    options = {"steps": 5, "progress": False, "checks": False}
    result = thinice.evaluate(thinice.load_classifier(paths["dense"]), few(40), attack="pgd", budget=8 / 255, **options)
    row.pop("seconds")
    expected = result.to_dict()
    expected.pop("seconds")
    assert row == json.loads(json.dumps(expected))


def few(limit):
    return thinice.load_samples("digits", limit=limit)


@pytest.mark.slow
def test_one_line_a_network_and_budget_the_smaller_first(run, paths, tmp_path):
    words = (
        "evaluate",
        paths["dense"],
        paths["pruned-95"],
        "--attack",
        "pgd",
        "--budget",
        "16/255",
        "--budget",
        "8/255",
        "--no-checks",
    )
    code, out, err = run(*words, *FEW)
    assert code == 0, err
    assert err == ""
    assert out.count("8/255") == 2
    assert out.count("16/255") == 2
    found = rows(run(*words, *FEW, "--format", "json")[1])
    assert [(row["network"], row["budget"]) for row in found] == [
        ("dense", 8 / 255),
        ("dense", 16 / 255),
        ("pruned-95", 8 / 255),
        ("pruned-95", 16 / 255),
    ]
    assert found[1]["known_broken"] == round(40 * (found[0]["clean_accuracy"] - found[0]["robust_accuracy"]))
    assert len(thinice.open_store(tmp_path / "thinice.duckdb").sql("from verdicts")) == 160


@pytest.mark.slow
def test_skip_known_both_tells_the_accuracy_with_and_without_what_the_store_knows(run, paths):
    run("evaluate", paths["dense"], "--attack", "fmn", "--effort", "quick", "--budget", "24/255", *ALONE)
    words = ("evaluate", paths["dense"], "--attack", "pgd", "--budget", "24/255", "--format", "json", *ALONE)
    run("measure", paths["dense"], "--attack", "fmn", "--effort", "quick", *FEW)
    (short,) = rows(run(*words)[1])
    assert short["known_broken"] > 10
    (both,) = rows(run(*words, "--skip-known", "both")[1])
    (alone,) = rows(run(*words, "--skip-known", "off")[1])
    assert both["robust_accuracy"] == short["robust_accuracy"]
    assert alone["robust_accuracy"] == both.get("robust_accuracy_to_this_attack", both["robust_accuracy"])
    assert alone["known_broken"] == 0


@pytest.mark.slow
def test_the_ladder_goes_from_no_effect_to_most_fooled(run, paths):
    words = ("evaluate", paths["dense"], "--attack", "fmn", "--effort", "quick", "--budget", "ladder", *ALONE)
    found = rows(run(*words, "--format", "json")[1])
    accuracies = [row["robust_accuracy"] for row in found]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] >= found[0]["clean_accuracy"] - 0.02
    assert accuracies[-1] < 0.5 <= accuracies[-2]
    budgets = [row["budget"] for row in found]
    assert budgets[1:] == pytest.approx([2 * budget for budget in budgets[:-1]])
    code, _, err = run("evaluate", paths["dense"], "--attack", "pgd", "--budget", "ladder", *FEW)
    assert code == 1
    assert "needs an attack that minimises the norm (fmn), got `attack` 'pgd'" in err


@pytest.mark.slow
@pytest.mark.parametrize("attack", [("pgd",), ("fmn", "--effort", "quick")])
def test_the_precision_of_the_search_is_that_of_the_command(run, paths, tmp_path, attack):
    words = ("evaluate", paths["dense"], "--attack", *attack, "--budget", "16/255", "--format", "json", *ALONE)
    (plain,) = rows(run(*words)[1])
    (less,) = rows(run(*words, "--precision", "bf16", "--skip-known", "off")[1])
    assert round(40 * abs(less["robust_accuracy"] - plain["robust_accuracy"])) <= 1  # sample
    assert less["evaluations"] > plain["evaluations"] * (1.1 if attack[0] == "pgd" else 0.9)
    runs = thinice.open_store(tmp_path / "thinice.duckdb").sql('select "precision" from runs order by run_id')
    assert runs["precision"].tolist() == ["float32", "bf16"]


@pytest.mark.slow
def test_reported_against_measured(run, paths, tmp_path):
    (tmp_path / "paper.csv").write_text(f"checkpoint,reported\n{paths['dense']},99\n{paths['pruned-95']},12.5%\n")
    code, out, err = run("evaluate", "--reported", "paper.csv", "--attack", "pgd", "--budget", "8/255", *ALONE)
    assert code == 0, err
    assert "reported" in out
    assert "drop" in out
    words = ("evaluate", paths["pruned-95"], "--reported", "paper.csv", "--attack", "pgd", "--budget", "8/255", *ALONE)
    (row,) = rows(run(*words, "--format", "json")[1])
    assert row["network"] == "pruned-95"
    assert row["reported"] == 0.125
    assert row["drop"] == pytest.approx(100 * (0.125 - row["measured"]))
    assert row["above"] is False


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--budget", "9"), "did you mean 9/255?"),
        (("--budget", "8/255", "--attack", "autoatack"), "did you mean autoattack?"),
        (("--budget", "8/255", "--attack", "pgd-targeted"), "attacks here are untargeted"),
        (("--budget", "3", "--norm", "l0"), "keeps to l1, l2, linf, got `norm` 'l0': choose one of them"),
        (("--budget", "8/255", "--steps", "5"), "attack 'autoattack' has no setting 'steps'"),
        (("--budget", "8/255", "--attack", "pgd", "--compile"), "--compile) serves attacks that minimise the norm"),
        (("--budget", "8/255", "--attack", "pgd", "--precision", "tf32", "--device", "cpu"), "take bf16"),
    ],
)
def test_bad_input_is_one_line(run, paths, words, message):
    code, out, err = run("evaluate", paths["dense"], *words, *FEW)
    assert code == 1
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_density_serves_one_file_at_least(run, paths, tmp_path):
    scores, _, _ = hydra(trained())
    torch.save(scores, tmp_path / "hydra.pt")
    words = (
        "--density",
        "0.1",
        *["--attack", "fmn", "--effort", "quick", "--budget", "0.1", "--limit", "8", "--no-checks"],
    )
    code, out, err = run("evaluate", paths["dense"], *words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert (
        "`--density` 0.1 says how many weights pruning scores keep, and the checkpoint holds none: leave it out" in err
    )
    code, out, err = run("evaluate", paths["dense"], "hydra.pt", *words, "--normalization", "none")
    assert code == 0, err
    assert "dense: density=0.1 was not used: the file holds no pruning scores" in err
    assert "hydra: density" not in err
    assert "HYDRA scores" in err


def test_no_checkpoint_at_all_says_what_to_give(run):
    code, _, err = run("evaluate", "--budget", "8/255")
    assert code == 1
    assert "name files, or a list of them with --reported" in err


def test_without_the_extra_it_says_what_to_install(run, paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    monkeypatch.delitem(sys.modules, "thinice.attacks.autoattack", raising=False)
    monkeypatch.delattr("thinice.attacks.autoattack", raising=False)
    code, _, err = run("evaluate", paths["dense"], "--budget", "8/255", *FEW)
    assert code == 1
    assert "pip install 'thinice[autoattack]'" in err


@pytest.mark.slow
@pytest.mark.parametrize("by", [(), ("--robust-by", "pgd")])
def test_compare_on_a_robust_basis_agrees_with_evaluate(run, paths, tmp_path, by):
    words = ("compare", paths["dense"], paths["pruned-95"], "--attack", "fmn", "--effort", "quick", "--no-figures")
    robust = ("--basis", "robust", "--budget", "16/255", *by)
    (row,) = rows(run(*words, *robust, *FEW, "--format", "json")[1])
    verify = ("--attack", "pgd", "--skip-known", "off") if by else ("--attack", "fmn", "--effort", "quick")
    found = run(
        "evaluate", paths["dense"], paths["pruned-95"], *verify, "--budget", "16/255", *ALONE, "--format", "json"
    )
    dense, pruned = rows(found[1])
    assert row["basis"] == f"robust at linf 16/255 by {'pgd' if by else 'fmn'}"
    assert row["budget"] == 16 / 255
    assert row["dense_accuracy"] == pytest.approx(dense["robust_accuracy"])
    assert row["pruned_accuracy"] == pytest.approx(pruned["robust_accuracy"])
    store = thinice.open_store(tmp_path / "thinice.duckdb")
    counts = store.sql("select transition::text as t, count(*) as n from transitions group by all").set_index("t")["n"]
    assert {name: row[name] for name in counts.index} == counts.to_dict()
    assert store.sql("select n_lost from separation")["n_lost"].tolist() == [row["S1,0"]]
    assert store.sql("from predictors").empty  # those are of the clean basis
    if by:
        return
    run(*words, *FEW)  # both bases in one store
    assert store.sql("select distinct basis from transitions order by basis")["basis"].tolist() == [
        "clean",
        row["basis"],
    ]
    code, out, _ = run(*words, *robust, *FEW)
    assert code == 0
    assert "robust accuracy at 16/255, dense" in out
    assert "that dense holds at linf 16/255" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--basis", "robust"), "`budget` is missing"),
        (("--budget", "8/255"), 'give them with `basis` "robust"'),
        (("--robust-by", "pgd"), 'give them with `basis` "robust"'),
        (("--basis", "robust", "--budget", "9"), "did you mean 9/255?"),
    ],
)
def test_a_basis_and_a_budget_go_together(run, paths, words, message):
    code, _, err = run("compare", paths["dense"], paths["pruned-95"], "--no-figures", *words, *FEW)
    assert code == 1
    assert message in err
