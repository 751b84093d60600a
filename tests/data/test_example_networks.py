"""The embedded example is what its README says, by the files themselves."""

import runpy
import zipfile

import pytest
import torch

from tests.conftest import ROOT
from thinice import example_checkpoints, load_classifier, load_samples
from thinice.models import prunable_weights

FOLDER = ROOT / "data" / "digits"
NAMES = ("dense", "pruned-90", "pruned-95")
NEAR = 2
"""Samples that may come out otherwise on another processor: some lie on the boundary within rounding."""


def table(text):
    """The rows of the first Markdown table: file name to the other cells by column."""
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if "|" in line]
    heads, _, *rows = lines
    return {row[0]: dict(zip(heads[1:], row[1:], strict=True)) for row in rows}


@pytest.fixture(scope="module")
def stated():
    return table((FOLDER / "README.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def networks():
    return {name: load_classifier(path) for name, path in example_checkpoints().items()}


@pytest.fixture(scope="module")
def right(networks):
    samples = load_samples("digits", split="test")
    with torch.no_grad():
        return {name: network(samples.inputs).argmax(1) == samples.labels for name, network in networks.items()}


def test_the_example_is_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 500_000


@pytest.mark.parametrize("name", NAMES)
def test_loads_with_no_further_word(networks, name):
    network = networks[name]
    assert (network.architecture, network.classes, network.data) == ("digits_cnn", 10, "digits")
    assert network.class_names == load_samples("digits", limit=1).classes
    assert (network.input_shape, network.normalization) == ((1, 8, 8), None)
    assert network.normalization_known
    assert network.recipe["data"]["fingerprint"] == load_samples("digits", split="train").fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_is_plain_data(name):
    path = example_checkpoints()[name]
    held = torch.load(path, weights_only=True)
    assert held["format"] == "thinice"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize(("name", "sparsity"), [("dense", 0.0), ("pruned-90", 0.90), ("pruned-95", 0.95)])
def test_sparsity_is_as_stated(networks, stated, name, sparsity):
    weights = torch.cat([weight.flatten() for weight in prunable_weights(networks[name].module).values()])
    zeros = int((weights == 0).sum())
    assert zeros == round(sparsity * len(weights))
    assert networks[name].sparsity == zeros / len(weights)
    assert torch.load(example_checkpoints()[name], weights_only=True)["sparsity"] == zeros / len(weights)
    assert stated[f"{name}.pt"]["sparsity"] == f"{zeros / len(weights):.4f}"


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_is_as_stated(right, stated, name):
    row, total = stated[f"{name}.pt"], len(right[name])
    count, of = map(int, row["correct"].split(" of "))
    assert of == total
    assert row["accuracy"] == f"{count / total:.4f}"
    assert abs(int(right[name].sum()) - count) <= NEAR
    assert abs(int((right["dense"] & ~right[name]).sum()) - int(row["lost (S1,0)"])) <= NEAR
    assert abs(int((~right["dense"] & right[name]).sum()) - int(row["gained (S0,1)"])) <= NEAR


def test_the_example_is_worth_looking_at(right):
    assert right["dense"].float().mean() >= 0.96
    assert right["pruned-90"].float().mean() >= 0.88
    for name in ("pruned-90", "pruned-95"):
        assert (right["dense"] & ~right[name]).sum() >= 10


@pytest.mark.parametrize("name", NAMES)
def test_fingerprint_and_size_are_as_stated(networks, stated, name):
    row = stated[f"{name}.pt"]
    assert networks[name].fingerprint == row["fingerprint"]
    assert example_checkpoints()[name].stat().st_size == int(row["bytes"])


def test_the_pruned_ones_name_their_parent(networks):
    assert networks["dense"].parent is None
    assert {networks[name].parent for name in ("pruned-90", "pruned-95")} == {networks["dense"].fingerprint}


@pytest.mark.slow
def test_the_script_makes_it_again(tmp_path, capsys, networks):
    """Training on another processor takes another path, so the same numbers are asked of the same machine alone."""
    threads = torch.get_num_threads()
    try:
        main = runpy.run_path(str(FOLDER / "make.py"))["main"]
        main(tmp_path)
        first = table(capsys.readouterr().out)
        main(tmp_path / "again")
        assert table(capsys.readouterr().out) == first
    finally:
        torch.set_num_threads(threads)
    made = {name: load_classifier(tmp_path / f"{name}.pt") for name in NAMES}
    for name, network in made.items():
        assert network.sparsity == networks[name].sparsity
        assert network.recipe == networks[name].recipe
        assert network.parent == (None if name == "dense" else made["dense"].fingerprint)
    assert float(first["dense.pt"]["accuracy"]) >= 0.96
    assert float(first["pruned-90.pt"]["accuracy"]) >= 0.88
    assert all(int(first[f"{name}.pt"]["lost (S1,0)"]) >= 10 for name in NAMES[1:])
