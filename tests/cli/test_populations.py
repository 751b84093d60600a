"""`thinice populations`: patterns in, a table or a row out."""

from __future__ import annotations

import json
import shutil

import pytest

import thinice


@pytest.mark.slow
def test_the_command_says_what_the_function_does(run, tmp_path):
    paths = thinice.example_checkpoints()
    for name in ("pruned-90", "pruned-95"):
        shutil.copy(paths[name], tmp_path)
    options = ("--pruned", "pruned-*.pt", "--limit", 60, "--attack", "fmn", "--steps", 4, "--quiet")
    code, out, err = run("populations", "--dense", paths["dense"], *options)
    assert code == 0, err
    assert "exemplars" in out
    assert "most of the 2 pruned networks" in out
    code, out, err = run("populations", "--dense", paths["dense"], *options, "--format", "json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert row["pruned"] == ["pruned-90", "pruned-95"]
    assert (row["n"], len(row["classes"])) == (60, 10)
    code, _, err = run("populations", "--dense", "seed-*.pt", *options)
    assert code == 1
    assert err.strip() == "thinice: `--dense` 'seed-*.pt' is the pattern of no file: look for them by ls"
