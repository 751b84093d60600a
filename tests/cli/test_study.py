"""`thinice study` as it is typed: what is printed, written and told, and how it ends."""

from __future__ import annotations

import json

import pytest

from tests.conftest import ROOT
from thinice.studies.networks import NetworkFiles

pytest.importorskip("yaml")

STUDY = """\
architecture: digits_cnn
data: digits
training: {recipe: natural, epochs: 1, batch_size: 32}
methods: [magnitude-global-unstructured]
rates: [1, 2]
training_samples: 60
samples: 20
attacks: [{attack: fmn, norm: l2, budgets: [0.1, 0.3], steps: 5}]
"""


@pytest.fixture
def typed(run, tmp_path):
    (tmp_path / "mine.yaml").write_text(STUDY)
    return lambda *words: run("study", "mine.yaml", *words)


@pytest.mark.slow
def test_a_study_is_told_run_and_shown(typed, tmp_path):
    code, out, err = typed("--dry-run", "--format", "json")
    assert (code, err) == (0, "")
    (row,) = json.loads(out)
    assert (row["cells"], row["networks"], row["made"], row["finished"]) == (4, 2, 0, 0)
    assert row["training_passes"] == 2 * 60
    assert row["attack_passes"] == 2 * 20 * 5  # one search for both budgets
    assert row["seconds"] > 0
    assert not (tmp_path / "thinice.duckdb").exists()
    assert not (tmp_path / "thinice-networks").exists()

    code, out, err = typed()
    assert code == 0, err
    assert "digits_cnn on digits: clean accuracy in %" in out
    assert "fmn l2 0.3" in out
    assert "Sweet spots" in out
    assert "tables and figures in thinice-figures/mine/study.html" in err
    folder = tmp_path / "thinice-figures" / "mine"
    assert sorted(path.name for path in folder.iterdir()) == [
        "robust-accuracy-digits_cnn_on_digits.png",
        "robust-accuracy-digits_cnn_on_digits.svg",
        "study.html",
        "study.md",
    ]
    assert "<svg" in (folder / "study.html").read_text(encoding="utf-8")

    code, out, err = typed("--dry-run")
    assert "mine: 4 cells, 2 networks, about 0 s" in out
    code, out, err = typed("--results-only", "--format", "json", "--no-figures", "--quiet")
    assert (code, err) == (0, "")
    points = json.loads(out)
    assert [(point["rate"], point["attack"], point["budget"]) for point in points] == [
        (rate, *measure) for rate in (1, 2) for measure in (("clean", None), ("fmn", 0.1), ("fmn", 0.3))
    ]
    assert all(0 <= point["accuracy"] <= 1 for point in points)
    for table, column in (("sweet-spots", "holm"), ("losses", "auc")):
        code, out, _ = typed("--results-only", "--no-figures", "--table", table, "--format", "csv")
        assert code == 0
        assert column in out.splitlines()[0].split(",")
    code, out, _ = typed("--results-only", "--no-figures", "--format", "markdown")
    assert "| magnitude-global-unstructured | clean |" in out


def test_what_has_no_result_is_listed_once_with_what_goes_on_and_the_exit_code_says_so(typed, monkeypatch, tmp_path):
    def failing(*_):
        raise RuntimeError("no room")

    (tmp_path / "mine.yaml").write_text(STUDY.replace("rates: [1, 2]", "rates: [1, 2, 4]"))
    monkeypatch.setattr(NetworkFiles, "make", failing)
    code, out, err = typed("--no-figures")
    assert code == 1
    assert "clean accuracy" in out
    failure = "digits_cnn on digits, seed 0, dense: RuntimeError: no room"
    assert err.count("no room") == 2  # when it fails, and in the end
    assert f"failed: {failure}\n" in err
    assert err.endswith(
        f"3 of 3 networks have no result:\n  {failure} (and 2 that are pruned out of it)\n"
        "The same command tries them again, when that is mended; what is finished stays.\n"
    )


def test_errors_are_one_line(typed, tmp_path):
    code, out, err = typed("--results-only")
    assert (code, out) == (1, "")
    assert err.startswith(
        "thinice: there is no store at thinice.duckdb, so nothing of 'mine' is measured: run the study"
    )
    assert err.count("\n") == 1
    assert "compare" not in err
    (tmp_path / "mine.yaml").write_text(STUDY.replace("rates: [1, 2]", "rates: [1, two]"))
    code, out, err = typed()
    assert (code, out) == (1, "")
    assert err == ("thinice: `study` mine.yaml, line 5: `rates` must be a number such as 2, 0.5 or 8/255, got 'two'\n")


def test_the_complete_grid_is_counted_where_its_data_are_not(run, monkeypatch, tmp_path):
    """Nothing is downloaded for it."""
    monkeypatch.setenv("THINICE_DATA", str(tmp_path / "nothing"))
    code, out, err = run("study", ROOT / "studies" / "pruning-in-the-face-of-adversaries.yaml", "--dry-run")
    assert (code, err) == (0, "")
    assert "pruning-in-the-face-of-adversaries: 3024 cells, 1100 networks, no time where data are not here" in out
    assert out.count(" 756 ") == 4
