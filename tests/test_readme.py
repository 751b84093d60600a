"""The README is true: its commands exist, its Python runs, its output is what the demo prints."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from thinice.cli import main
from thinice.cli.app import app

README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def block(marker: str) -> str:
    found = re.search(rf"<!-- {re.escape(marker)} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert found, f"README.md has no block after <!-- {marker} -->"
    return found[1]


def test_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(block("test: python"), "README.md", "exec"), names)
    assert sum(names["result"].counts.values()) == 200
    assert names["nearest"].epsilon.shape == (200,)


@pytest.mark.slow
def test_demo_prints_what_the_readme_shows(tmp_path, monkeypatch, capsys):
    """Word for word but for the numbers, which on another machine may differ in the last digit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["thinice", "demo", "--quiet"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    shown, printed = block("demo output"), capsys.readouterr().out
    assert NUMBER.sub("#", shown).split() == NUMBER.sub("#", printed).split()
    claimed, measured = ([float(number) for number in NUMBER.findall(text)] for text in (shown, printed))
    assert measured == pytest.approx(claimed, rel=0.02, abs=0.011)


def test_every_file_that_is_linked_is_there():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


COMMANDS = [command.callback.__name__ for command in app.registered_commands]


def test_the_table_of_commands_has_each_once_and_no_other():
    assert sorted(re.findall(r"^\| `thinice (\w+)", README, re.MULTILINE)) == sorted(COMMANDS)


def test_every_option_is_one_of_the_commands(monkeypatch, capsys):
    known = set()
    for command in COMMANDS:
        monkeypatch.setattr(sys, "argv", ["thinice", command, "--help"])
        with pytest.raises(SystemExit):
            main()
        known |= set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    assert set(re.findall(r"--[a-z][a-z-]+", README)) - {"--quiet", "--help"} <= known | {"--version"}


def test_tables_are_those_that_were_measured():
    """As `benchmarks/tables.py` makes them of `benchmarks/data/`."""
    pages = README + (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    command = [sys.executable, str(ROOT / "benchmarks" / "tables.py")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    tables = printed.strip().split("\n\n")
    assert len(tables) == 4
    for table in tables:
        assert table + "\n\n" in pages, table.splitlines()[0]
