"""Every notebook runs in an empty folder, uses public names alone, and is stored without outputs."""

from __future__ import annotations

import ast
import asyncio
import re
import warnings
import xml.etree.ElementTree as ET
from importlib import import_module

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from torch import nn

import thinice
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the kernel's client, not ours, warns of event loops and old paths
        asyncio.run(
            NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).async_execute()
        )
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    assert last.outputs, "a notebook ends with something to look at"
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            shown = output.get("data", {})
            pictured = "image/png" in shown or not re.search(r"size \d+.* Axes>", shown.get("text/plain", ""))
            assert pictured, f"a figure shows as text: {cell.source}"
        pictures = sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        assert pictures <= 1, f"a figure shows twice: {cell.source}"
    noise = [out for cell in notebook.cells for out in cell.get("outputs", []) if out.get("name") == "stderr"]
    assert not noise, noise


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_stored_clean_and_uses_public_names(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        assert not cell.outputs
        assert cell.execution_count is None
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "thinice":
                assert node.attr in thinice.__all__, node.attr
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("thinice"):
                public = import_module(node.module).__all__
                assert node.module in ("thinice.plots", "thinice.stats"), node.module
                assert {name.name for name in node.names} <= set(public), cell.source


def html(value):
    """What a notebook shows of a value, and its text; it must be well-formed."""
    shown = value._repr_html_()
    return shown, " ".join(ET.fromstring(f"<div>{shown}</div>").itertext())


@pytest.mark.slow
def test_results_show_themselves_and_names_stay_text(tmp_path):
    dense = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    evil = thinice.as_classifier(thinice.prune(dense, sparsity=0.7).module, name="<script>alert('x')</script> & co")
    samples = thinice.load_samples("digits", limit=50)
    path = tmp_path / "<b>.duckdb"
    result = thinice.compare(dense, evil, samples, effort="quick", store=path, progress=False)
    shown, text = html(result)
    assert "<script>" not in shown
    assert f"<script>alert('x')</script> & co loses {result.changes.lost} of the" in text
    assert f"{result.changes.pruned_accuracy:.2%}" in text
    shown, text = html(thinice.open_store(path))
    assert "<script>" not in shown
    assert "<b>." not in shown
    assert "<NA>" not in text
    assert all(word in text for word in ("transitions", "finished", "<script>alert('x')</script> & co"))


def test_a_measurement_shows_counts_and_quartiles():
    layer = nn.Linear(1, 2)
    layer.weight.data, layer.bias.data = torch.tensor([[0.0], [1.0]]), torch.tensor([0.5, 0.0])
    inputs = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.45, 0.9]).reshape(-1, 1, 1, 1)  # class 0 up to 0.5
    network = nn.Sequential(nn.Flatten(), layer)
    result = thinice.measure(network, inputs, labels=torch.zeros(6, dtype=torch.int64), norm="l2", progress=False)
    _, text = html(result)
    assert "misclassified1" in text.replace(" ", "")
    assert "found5" in text.replace(" ", "")
    quartiles = re.search(r"median epsilon (\S+); half of them (\S+) to (\S+), all (\S+) to (\S+), on", text)
    assert [float(number) for number in quartiles.groups()] == pytest.approx([0.2, 0.1, 0.3, 0.05, 0.4], rel=2e-3)
    nothing = thinice.measure(network, inputs[:1], labels=torch.ones(1, dtype=torch.int64), progress=False)
    assert "no sample has an adversarial" in html(nothing)[1]
