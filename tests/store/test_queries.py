"""All SQL of the project stands in files of its own, fits the schema, and is used."""

from __future__ import annotations

import ast
import re
from importlib import resources

import pytest

from tests.conftest import ROOT
from thinice.store import query

QUERIES = sorted(
    entry.name.removesuffix(".sql") for entry in (resources.files("thinice.store.sql") / "queries").iterdir()
)
SOURCES = [file for file in (ROOT / "thinice").rglob("*.py") if file.parent.name != "sql"]
ROWS = re.compile(r"\b(from rows|from temp\.compared|join pictures|from part\.\w+)\b")
"""What a caller brings along: those that read it are run where there is some."""
WRITES = re.compile(r"^(insert|update|create|delete)\b", re.MULTILINE)
READING = [name for name in QUERIES if not (ROWS.search(query(name)) or WRITES.search(query(name)))]


@pytest.mark.parametrize("name", READING)
def test_a_query_fits_the_schema(store, name):
    text = query(name)
    names = set(re.findall(r"\$(\w+)", re.sub(r"--.*", "", text)))
    values = {parameter: [1] if parameter == "ids" else "runs" if parameter == "name" else 1 for parameter in names}
    assert len(store.sql(text, values or None).columns)


def test_every_query_is_used():
    text = "\n".join(file.read_text(encoding="utf-8") for file in SOURCES)
    kinds = {f"add_{kind}" for kind in ("checkpoint", "dataset", "attack", "measurement", "comparison", "training")}
    unused = [name for name in QUERIES if f'"{name}"' not in text and name not in kinds]
    assert not unused


def literals(file):
    """Return the texts of a module that are no docstrings, and no part of one."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone
    ]


def test_no_other_module_holds_sql():
    for file in SOURCES:
        if file.parent.name != "store":
            questions = [text for text in literals(file) if re.search(r"\bselect\b.*\bfrom\b", text, re.DOTALL)]
            assert not questions, file
