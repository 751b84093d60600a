"""The house stands: imports point downwards, heavy libraries stay where they belong, names do not collide."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import thinice
from tests.conftest import ROOT

# From the ground up; a room may import rooms of lower levels, and its own.
LEVELS = [
    {"printable", "process"},
    {"types", "errors"},
    {"registry", "numerics", "files"},
    {"norms", "losses"},
    {"stats"},
    {"engines", "store"},  # the store keeps a column for each statistic
    {"models", "data"},
    {"attacks", "certification"},
    {"training"},
    {"pruning"},
    {"results"},
    {"checks"},
    {"analysis"},
    {"studies", "plots"},
    {"leaderboard"},
    {"report"},
    {"cli"},
    {"__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
FORBIDDEN = {
    "store": {"torch"},
    "stats": {"torch", "duckdb"},
    "plots": {"torch", "duckdb"},
    "data": {"duckdb"},
    "report": {"duckdb"},
}
LONGEST = 500
"""Lines of a file."""
FILES = sorted((ROOT / "thinice").rglob("*.py"))


@cache
def nodes(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


@cache
def imported(file: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in nodes(file):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return frozenset(names)


def room_of(file: Path) -> str:
    return file.relative_to(ROOT / "thinice").parts[0].removesuffix(".py")


def test_imports_point_downwards():
    upwards = []
    for file in FILES:
        room = room_of(file)
        if room == "__init__":
            continue
        assert room in LEVEL, f"{room} has no place in LEVELS"
        for name in imported(file):
            parts = name.split(".")
            if parts[0] != "thinice" or len(parts) < 2 or parts[1] not in LEVEL or parts[1] == room:
                continue
            if LEVEL[parts[1]] >= LEVEL[room]:
                upwards.append(f"{file} imports {name}, which does not stand below {room}")
    assert not upwards


def test_files_are_short_enough_to_be_read():
    lines = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {file: count for file, count in lines.items() if count > LONGEST} == {}, "find what is two things in it"


@pytest.mark.parametrize("room", FORBIDDEN)
def test_heavy_libraries_stay_out(room):
    for file in FILES:
        if room_of(file) == room:
            tops = {name.split(".")[0] for name in imported(file)}
            assert not tops & FORBIDDEN[room], f"{file} imports {tops & FORBIDDEN[room]}"


def test_only_the_command_line_prints():
    for file in FILES:
        if room_of(file) == "cli":
            continue
        calls = [node for node in nodes(file) if isinstance(node, ast.Call)]
        assert not [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"], file


def test_help_needs_no_torch():
    script = "import sys; sys.argv = ['thinice', '--help']; from thinice.cli import main\n"
    script += "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
    script += (
        "heavy = {'torch', 'duckdb', 'pandas', 'numpy', 'matplotlib'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "compare" in done.stdout


def test_every_public_name_loads_and_is_documented():
    for name in thinice.__all__:
        value = getattr(thinice, name)
        assert name == "__version__" or value.__doc__, name


def test_no_module_hides_a_public_name():
    modules = {path.stem for path in (ROOT / "thinice").iterdir()}
    assert not modules & set(thinice.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = thinice.nothing
