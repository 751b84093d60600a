"""The README is true: its commands, options and names exist, its Python runs, its output is what the demo prints."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
import tomllib

import pytest

import thinice
from tests.conftest import ROOT
from thinice.attacks import ATTACKS
from thinice.cli import main
from thinice.cli.app import COMMANDS
from thinice.cli.options import Format
from thinice.data import DATASETS
from thinice.types import EFFORTS, NORMS, PRECISIONS

README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def block(marker: str) -> str:
    fenced = re.search(rf"<!-- {re.escape(marker)} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert fenced, f"README.md has no block after <!-- {marker} -->"
    return fenced[1]


def test_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    fewer = block("test: python").replace("limit=200", "limit=60")
    exec(compile(fewer, "README.md", "exec"), names)
    assert sum(names["result"].counts.values()) == 60
    assert names["nearest"].epsilon.shape == (60,)


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


@pytest.mark.slow
def test_three_commands_train_prune_and_compare(tmp_path, monkeypatch, capsys):
    """In other versions, and on other processors, training ends in other weights with similar numbers."""
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line) for line in block("train and prune").splitlines()]
    assert [command[:2] for command in commands] == [["thinice", name] for name in ("train", "prune", "compare")]
    outputs = []
    for command in commands:
        monkeypatch.setattr(sys, "argv", [*command, "--quiet"])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        outputs.append(capsys.readouterr().out)
    shown, printed = block("train and prune output"), outputs[-1]
    (lines, said), (measured, answered) = (text.split("\n\npruned: ") for text in (shown, printed))
    assert re.sub("─+", "-", NUMBER.sub("#", lines)).split() == re.sub("─+", "-", NUMBER.sub("#", measured)).split()
    for sentence in (
        "It loses",
        "for a lost sample a nearer adversarial was found",
        "The closest 10 %",
        "The margin alone",
    ):
        assert sentence in " ".join(said.split())
        assert sentence in " ".join(answered.split())
    loses, auc = (float(re.search(pattern, printed)[1]) for pattern in (r"loses (\d+) of", r"\nAUC +([\d.]+)"))
    assert 20 < loses < 180
    assert 0.65 < auc < 0.95


def test_every_file_that_is_linked_is_there():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_table_of_commands_has_each_once_and_no_other():
    rows = re.findall(r"^\| `thinice ([a-z ]+)", README, re.MULTILINE)
    names = [max((name for name in COMMANDS.names() if f"{row} ".startswith(f"{name} ")), key=len) for row in rows]
    assert sorted(names) == sorted(COMMANDS.names())


def test_the_table_of_functions_has_each_once_and_says_what_its_docstring_says():
    rows = re.findall(r"^\| `([a-z_]+)` \| (Return|Write|Draw|Yield)(.*) \|$", README, re.MULTILINE)
    functions = {name: getattr(thinice, name) for name in thinice.__all__}
    first_lines = {
        name: inspect.getdoc(value).splitlines()[0].replace("``", "`").rstrip(".")
        for name, value in functions.items()
        if inspect.isfunction(value)
    }
    assert len(rows) == len(first_lines)
    assert {name: verb + rest for name, verb, rest in rows} == first_lines


def test_every_option_is_one_of_the_commands():
    """Those of pip and pytest stand in blocks of their own."""
    known = {"--version", "--help"}
    for name in COMMANDS.names():
        for parameter in inspect.signature(COMMANDS.get(name), eval_str=True).parameters.values():
            known |= {word for info in parameter.annotation.__metadata__ for word in info.param_decls or ()}
            known |= {word for info in parameter.annotation.__metadata__ for word in (info.default,) if word}
    known = {word for words in known if isinstance(words, str) for word in words.split("/")}
    typed = README.replace(block("demo"), "").replace(block("test"), "")
    named = set(re.findall(r"--[a-z][a-z-]+", typed))
    assert len(named) > 25
    assert named <= known
    assert {"--limit", "--overwrite", "--timeout", "--density", "--skip-known", "--robust-by"} <= named


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("`--norm (.*?)`", NORMS),
        ("`--effort (.*?)`", EFFORTS),
        (r"`--precision (float.*?)`", PRECISIONS),
        ("`--format (.*?)`", tuple(Format)),
        ("`--attack (tmn.*?)`", ATTACKS.names("minimum norm", "backend")),
        (r"`evaluate` also takes\s+`(.*?)`", ATTACKS.names("fixed budget")),
        (r"\*\*Data\*\*: (.*?)\. `--limit", DATASETS.names()),
    ],
)
def test_lists_of_names_are_those_of_the_registries(pattern, names):
    listed = re.search(pattern, README, re.DOTALL)
    assert listed, pattern
    assert re.split(r"\||,\s+", listed[1].replace("`", "")) == list(names)


def test_what_ci_runs_is_everything_once():
    """The README's own command runs what is not slow, as plain `pytest` does, and the script what is left."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert options["addopts"][-2:] == ["-m", "not slow"]
    assert " -m " not in block("test").partition("pytest")[2]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "for block in demo test" in script
    assert ".venv/bin/pytest --quiet -n auto -m slow\n" in script


@pytest.mark.slow
def test_tables_are_those_that_were_measured():
    """As `benchmarks/tables.py` makes them of `benchmarks/data/`."""
    pages = README + (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    command = [sys.executable, str(ROOT / "benchmarks" / "tables.py")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    tables = printed.strip().split("\n\n")
    assert len(tables) == 6
    for table in tables:
        assert table + "\n\n" in pages, table.splitlines()[0]
