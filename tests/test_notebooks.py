"""Every notebook runs in an empty folder, uses public names alone, and is stored without outputs."""

from __future__ import annotations

import ast
import asyncio
import warnings

import nbformat
import pytest
from nbclient import NotebookClient

import thinice
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


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
