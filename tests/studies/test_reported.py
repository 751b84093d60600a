"""What publications report, read from a file, and the drop against what was measured."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace

import pytest

import thinice
from thinice.analysis.evaluation import evaluate
from thinice.errors import InputError, MissingExtraError
from thinice.studies.reported import read_reported, reported_vs_measured

CSV = "checkpoint,reported\ndense.pt, 54.3%\nfolder/pruned.pt,51\n"
EXPECTED = [("dense.pt", 0.543), ("folder/pruned.pt", 0.51)]


def written(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def pairs(path):
    return [(one.checkpoint.relative_to(path.parent).as_posix(), one.accuracy) for one in read_reported(path)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", CSV),
        ("a.CSV", "\ufeff" + CSV),
        ("a.csv", "reported,note,checkpoint\n54.3,x,dense.pt\n51.0,y,folder/pruned.pt\n"),
        ("a.csv", "checkpoint,reported\ndense.pt,0.543\nfolder/pruned.pt,0.51\n"),
        ("a.json", json.dumps([{"checkpoint": name, "reported": 100 * value} for name, value in EXPECTED])),
        ("a.json", '{"dense.pt": 0.543, "folder/pruned.pt": "51%"}'),
        ("a.yaml", "- checkpoint: dense.pt\n  reported: 54.3%\n- checkpoint: folder/pruned.pt\n  reported: 51\n"),
        ("a.yml", "dense.pt: 0.543\nfolder/pruned.pt: 0.51\n"),
    ],
)  # fmt: skip
def test_every_form_says_the_same(tmp_path, name, text):
    if name.endswith(("yaml", "yml")):
        pytest.importorskip("yaml")
    assert pairs(written(tmp_path, name, text)) == EXPECTED


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", CSV, r"must end in \.csv, \.json, \.yaml or \.yml"),
        ("a.csv", "", "is empty: it must be a list of `checkpoint` and `reported`"),
        ("a.csv", "checkpoint,value\ndense.pt,5\n", "entry 1: it must be a list of `checkpoint` and `reported`"),
        ("a.csv", "checkpoint,reported\ndense.pt,many\n", "entry 1: 'many' is no accuracy such as 54.3% or 0.543"),
        ("a.csv", "checkpoint,reported\na.pt,50\nb.pt,101\n", "entry 2: 101 is no accuracy, of 0 to 100 %"),
        ("a.csv", "checkpoint,reported\na.pt,-1\n", "entry 1: -1 is no accuracy"),
        ("a.json", "{", "is no JSON"),
        ("a.json", "3", "is empty"),
        ("a.csv", "checkpoint,reported\na.pt,54,3\n", "entry 1 has more columns than the header: write 54.3"),
        ("a.csv", "checkpoint,reported\na.pt,54\na.pt,50\n", "names a.pt more than once"),
        ("a.json", '{"a.pt": true}', "entry 1: True is no accuracy"),
        ("a.yaml", "a: [", "is no YAML"),
        ("a.yaml", "!!python/object/apply:os.system ['true']", "line 1: tags such as"),
    ],
)
def test_what_cannot_be_read_is_refused_on_one_line(tmp_path, name, text, message):
    if name.endswith("yaml"):
        pytest.importorskip("yaml")
    with pytest.raises(InputError, match=message) as caught:
        read_reported(written(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def aliases(levels=9):
    """Return YAML of some hundred letters that stands for 10^levels values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "a.pt: !!int x", "line 1: tags such as tag:yaml.org,2002:int are not read"),
        ("a.yaml", "a.pt: 2024-13-45", "entry 1: '2024-13-45' is no accuracy"),
        ("a.yaml", "a.pt: 1:30", "entry 1: '1:30' is no accuracy"),
        ("a.yaml", "\n".join(" " * k + "a:" for k in range(900)), "line 9: nested too deeply"),
        ("a.yaml", "[" * 100_000, "line 1: nested too deeply"),
        ("a.yaml", "a.pt: 0.5\nb.pt: 0.6\na.pt: 0.9", "line 3: a.pt stands there more than once"),
        ("a.yaml", "- checkpoint: a.pt\n  reported: 1\n  reported: 2", "line 3: reported stands there more than once"),
        ("a.yaml", aliases(), "line 1: anchors and aliases"),
        ("a.yaml", "&a [*a]", "line 1: anchors and aliases"),
        ("a.yaml", "- checkpoint: [a.pt]\n  reported: 1", "entry 1: `checkpoint` must be one file"),
        ("a.json", '{"a.pt": 0.5, "a.pt": 0.9}', "a.pt stands there more than once"),
        ("a.json", '[{"checkpoint": "a.pt", "reported": 1, "reported": 2}]', "reported stands there more than once"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", '{"a.pt": ' + "9" * 5000 + "}", "entry 1: inf is no accuracy"),
        ("a.csv", "checkpoint,reported\na.pt," + "1" * 131_073, "is no CSV: field larger than field limit"),
        ("a.csv", "checkpoint,reported,reported\na.pt,1,2", "line 1: reported stands there more than once"),
        ("a.csv", "x" * 1_000_001, "1,000,001 bytes, more than the 1,000,000 that are read"),
        ("a.csv", "checkpoint,reported\n~nosuchuser/a.pt,1", "~nosuchuser has no home folder"),
    ],
)
def test_hostile_lists_are_refused_on_one_line(tmp_path, name, text, message):
    if name.endswith("yaml"):
        pytest.importorskip("yaml")
    with pytest.raises(InputError, match=message) as caught:
        read_reported(written(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(InputError, match="not a regular file"):
        read_reported(tmp_path / "a.csv")


def test_a_missing_file_and_a_missing_extra_say_so(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"nothing\.csv cannot be read: No such file"):
        read_reported(tmp_path / "nothing.csv")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtraError, match=r"or write it as CSV.*thinice\[yaml\]"):
        read_reported(written(tmp_path, "a.yaml", "dense.pt: 0.5\n"))


def test_the_drop_is_in_points_and_above_means_beyond_the_interval():
    network = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    samples = thinice.load_samples("digits", limit=40)
    result = evaluate(network, samples, attack="pgd", budget="24/255", progress=False, checks=False)
    measured, high = result.robust_accuracy, result.interval.high
    assert 0.1 < measured < high < 0.9
    row = reported_vs_measured(replace(result, reported=measured + 0.01))
    assert row["drop"] == pytest.approx(1)
    assert row["measured"] == measured
    assert row["above"] is False
    assert reported_vs_measured(replace(result, reported=high + 0.001))["above"] is True
    assert reported_vs_measured(replace(result, reported=measured - 0.02))["drop"] == pytest.approx(-2)
    with pytest.raises(InputError, match="`reported` is missing: no accuracy of dense"):
        reported_vs_measured(result)
