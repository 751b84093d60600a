"""A new attack, architecture, data set, objective, pruning method, statistic or command is one file and one line.

Each of the toys of `tests/extensions.py` is found in the help texts, the API, the store and the report, in a process of
its own, so that no other test sees them.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from tests.extensions import register
register()
from thinice.cli import main
sys.argv = ["thinice", *sys.argv[1:]]
main()
"""

MAKE = """
import sys, torch, thinice
from pathlib import Path
from tests.extensions import register
register()
folder = Path(sys.argv[1])
samples = thinice.load_samples("toy-data")
from thinice.models import as_classifier, build
network, trained = build("toy-net", 2).of_the_mean(), build("toy-net", 2).of_the_mean()
thinice.train(trained, samples, thinice.Recipe(epochs=1, learning_rate=1e-6), objective="toy-margin")
from thinice.pruning import prune
pruned = prune(trained, "toy-scores", sparsity=0.5, samples=samples, recipe=thinice.Recipe(epochs=1))
torch.save(network.state_dict(), folder / "dense.pt")
torch.save(pruned.module.state_dict(), folder / "pruned.pt")
print(as_classifier(pruned.module).sparsity)
"""


def run(script, *arguments, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extensions")
    assert float(run(MAKE, str(folder), folder=folder)) == 0.5
    return folder


@pytest.fixture(scope="module")
def compared(folder):
    files = ("dense.pt", "pruned.pt", "--data", "toy-data", "--normalization", "none", "--device", "cpu")
    return run(SCRIPT, "compare", *files, "--attack", "toy-near", "--format", "json", folder=folder)


def test_help_names_them():
    measure, evaluate, top = (
        run(SCRIPT, *words, folder=ROOT) for words in (("measure", "-h"), ("evaluate", "-h"), ("-h",))
    )
    unwrapped = " ".join(measure.split()).replace("- ", "-")  # lines also break behind a hyphen
    assert all(name in unwrapped for name in ("toy-near", "toy-data"))
    train = " ".join(run(SCRIPT, "train", "-h", folder=ROOT).split()).replace("- ", "-")
    assert all(name in train for name in ("toy-margin", "toy-net", "noise"))
    prune = " ".join(run(SCRIPT, "prune", "-h", folder=ROOT).split()).replace("- ", "-")
    assert "learned scores" in prune
    assert "of toy-scores seed, strength" in prune
    assert "toy-scores (by default finetune)" in prune
    assert "toy-ball" in evaluate
    assert "greet" in top
    assert "Say hello." in top


def test_a_comparison_knows_architecture_data_attack_and_statistic(folder, compared):
    assert all(word in compared for word in ("toy-near", "toy-data", "toy_median"))
    store = run(SCRIPT, "sql", "select toy_median, attack, data from separation", "--format", "csv", folder=folder)
    assert store.splitlines()[1].endswith(",toy-near,toy-data")
    networks = run(SCRIPT, "sql", "select distinct architecture from checkpoints", "--format", "csv", folder=folder)
    assert networks.split() == ["architecture", "toy-net"]


def test_the_report_shows_them(folder, compared):
    assert compared
    run(SCRIPT, "report", "-o", "page.html", folder=folder)
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert all(word in page for word in ("toy-near", "toy-data", "toy median", "toy-net"))


def test_an_attack_at_a_budget_breaks_what_lies_within(folder):
    words = ("dense.pt", "--data", "toy-data", "--normalization", "none", "--attack", "toy-ball", "--budget", "0.2")
    shown = run(SCRIPT, "evaluate", *words, "--no-checks", "--device", "cpu", "--format", "csv", folder=folder)
    row = dict(zip(*(line.split(",") for line in shown.splitlines()[:2]), strict=False))
    assert row["attack"] == "toy-ball"
    levels = [0.05 + 0.9 * k / 39 for k in range(40)]
    assert float(row["robust_accuracy"]) == pytest.approx(sum(abs(level - 0.5) > 0.2 for level in levels) / 40)
