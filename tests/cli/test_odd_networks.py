"""Networks that no attack can measure as they are, on the command line."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import thinice


@pytest.mark.slow
def test_who_asks_one_by_one_on_the_command_line_gets_it(run, tmp_path):
    dense = str(thinice.example_checkpoints()["dense"])
    store = ("--store", str(tmp_path / "thinice.duckdb"), "--limit", "10", "--effort", "quick")
    assert run("measure", dense, "--one-by-one", *store)[0] == 0
    assert run("measure", dense, *store)[0] == 0
    opened = thinice.open_store(tmp_path / "thinice.duckdb")
    measured = opened.sql("select measurement_id, epsilon from epsilons order by measurement_id, sample_id")
    alone, together = (rows["epsilon"].to_numpy() for _, rows in measured.groupby("measurement_id"))
    assert alone == pytest.approx(together, rel=1e-3, nan_ok=True)


@pytest.mark.slow
def test_the_command_line_warns_first(run, tmp_path):
    (tmp_path / "odd.py").write_text(
        "import torch\nclass Odd(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.inner = torch.nn.Linear(64, 10)\n    def forward(self, inputs):\n"
        "        logits = self.inner(inputs.flatten(1))\n        return logits - logits.mean(0)\n"
    )
    torch.save(nn.ModuleDict({"inner": nn.Linear(64, 10)}).state_dict(), tmp_path / "odd.pt")
    arguments = ("measure", str(tmp_path / "odd.pt"), "--architecture", f"{tmp_path / 'odd.py'}:Odd")
    options = ("--data", "digits", "--limit", "10", "--normalization", "none", "--store", str(tmp_path / "a.duckdb"))
    code, _, err = run(*arguments, *options)
    assert code == 0
    assert err.count("depend on the batch") == 1
    assert err.index("warning: odd: the logits of a sample depend on the batch") < err.index("10/10")
    assert "depend on the batch" not in run(*arguments, *options, "--one-by-one")[2]
