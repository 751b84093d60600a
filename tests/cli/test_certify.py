"""`--certify` in the terminal: what it takes is told first, bounds stand beside epsilons, and refusals are one line."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import thinice

CODE = """
from torch import nn

def Small():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network of a few linear layers that reads the digits, and its options."""
    folder = tmp_path_factory.mktemp("network")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    samples = thinice.load_samples("digits", split="train")
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(samples.inputs[:]), samples.labels).backward()
        optimizer.step()
    (folder / "net.py").write_text(CODE)
    torch.save(network.state_dict(), folder / "small.pt")
    options = ("--architecture", f"{folder / 'net.py'}:Small", "--normalization", "none", "--data", "digits")
    return folder / "small.pt", *options, "--limit", "20", "--effort", "quick"


@pytest.mark.slow
def test_measure_tells_what_it_takes_and_prints_what_is_proved(run, network, tmp_path):
    code, out, err = run("measure", *network, "--certify", "--format", "json")
    assert code == 0, err
    assert "small, linf, lower bounds: 20 samples take" in err
    assert err.index("lower bounds: 20 samples take") < err.index("small, linf, tmn")
    (row,) = json.loads(out)
    assert row["proved"] == row["found"] > 10
    assert 0.3 < row["median_ratio"] <= 1
    store = thinice.open_store(tmp_path / "thinice.duckdb")
    assert len(store.sql("from intervals")) == 20
    code, _, err = run("measure", *network, "--certify")
    assert code == 0
    assert "take" not in err  # everything was there


def test_what_cannot_be_done_is_one_line(run, network):
    for words, message in (
        (("--certify", "--norm", "l0"), "`certify` goes with the norms linf, l2, l1: no bounds are known in l0"),
        (("--certify-hours", "3"), "`certify_hours` limits what `certify` takes: give it as well (--certify)"),
        (("--certify", "--certify-hours", "0"), "more than `certify_hours` 0: allow 0.01 (--certify-hours 0.01)"),
    ):
        code, out, err = run("measure", *network, *words)
        assert code != 0
        assert out == ""
        assert message in err
        assert "Traceback" not in err
        assert "tmn" not in err  # nothing was attacked
