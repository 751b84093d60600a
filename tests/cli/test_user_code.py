"""`--architecture FILE.py:CLASS` from the command line to the store."""

from __future__ import annotations

import json

import pytest
import torch

import thinice
from thinice.data.digits import example_checkpoints

MODELS = """
from layers_of_mine import Head
from torch import nn
print("built by the user")

class Net(nn.Module):
    def __init__(self, num_classes, width=8):
        super().__init__()
        self.hidden = nn.Linear(64, width)
        self.head = Head(width, num_classes)

    def forward(self, inputs):
        return self.head(self.hidden(inputs.flatten(1)).relu())
"""
WORDS = ("--data", "digits", "--limit", "10", "--attack", "fmn", "--effort", "quick", "--normalization", "none")


@pytest.fixture
def checkpoints(tmp_path):
    """Two checkpoints of one class with different widths, and its file; (dense, pruned, file:class)."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "models.py").write_text(MODELS)
    (tmp_path / "code" / "layers_of_mine.py").write_text("from torch.nn import Linear as Head\n")
    for name, width in (("dense", 16), ("small", 8)):
        hidden, head = torch.nn.Linear(64, width), torch.nn.Linear(width, 10)
        state = {f"hidden.{key}": value for key, value in hidden.state_dict().items()}
        state |= {f"head.{key}": value for key, value in head.state_dict().items()}
        torch.save({"state_dict": state}, tmp_path / f"{name}.pth")
    return tmp_path / "dense.pth", tmp_path / "small.pth", f"{tmp_path}/code/models.py:Net"


def test_measure_stores_the_code_as_architecture(run, checkpoints, tmp_path):
    dense, _, code = checkpoints
    words = ("--architecture", code, "--architecture-args", '{"width": 16}', *WORDS)
    exit_code, out, err = run("measure", dense, *words, "--format", "json")
    assert exit_code == 0, err
    assert json.loads(out)[0]["network"] == "dense"
    assert "built by the user" in err
    assert "architecture built by your own code, models.py:Net(width=16)" in err
    rows = thinice.open_store(tmp_path / "thinice.duckdb").sql("select architecture, classes from checkpoints")
    assert (list(rows["architecture"]), list(rows["classes"])) == (["models.py:Net(width=16)"], [10])


@pytest.mark.slow
def test_compare_takes_one_for_all_or_one_for_each(run, checkpoints, tmp_path):
    dense, small, code = checkpoints
    each = ("--architecture-args", '{"width": 16}', "--architecture-args", '{"width": 8}')
    exit_code, _, err = run("compare", dense, small, "--architecture", code, *each, *WORDS, "--no-figures")
    assert exit_code == 0, err
    rows = thinice.open_store(tmp_path / "thinice.duckdb").sql("select architecture from checkpoints order by name")
    assert list(rows["architecture"]) == ["models.py:Net(width=16)", "models.py:Net(width=8)"]


def test_auto_leaves_a_checkpoint_to_what_its_file_says(run, checkpoints):
    _, small, code = checkpoints
    words = ("--architecture", "auto", "--architecture", code, *WORDS[:-2])
    exit_code, _, err = run("measure", example_checkpoints()["dense"], small, *words, "--normalization", "none")
    assert exit_code == 0, err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--architecture-args", "width=16"), "`--architecture-args` must be a JSON object such as '{\"width\": 16}'"),
        (("--architecture-args", "[16]"), "`--architecture-args` must be a JSON object"),
        (
            ("--architecture-args", '{"depth": 16}'),
            "models.py:Net raises TypeError when it is called with {'depth': 16",
        ),
        (("--architecture", "auto"), "`--architecture` is given 2 times for 1 checkpoints: give it once for all"),
        (("--architecture-args", '{"width": 9}'), "parameters do not fit models.py:Net"),
    ],
)
def test_bad_input_is_one_line(run, checkpoints, words, message):
    dense, _, code = checkpoints
    exit_code, out, err = run("measure", dense, "--architecture", code, *words, *WORDS)
    assert (exit_code, out) == (1, "")
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err
