"""What the tests of the commands share."""

from __future__ import annotations

import shutil
import sys

import pytest

import thinice
from thinice.cli import main


@pytest.fixture(scope="session")
def compared(tmp_path_factory):
    """A store with what ``thinice compare dense.pt pruned-90.pt pruned-95.pt --limit 40 --effort quick`` measures."""
    paths, path = thinice.example_checkpoints(), tmp_path_factory.mktemp("compared") / "thinice.duckdb"
    pruned, samples = [paths["pruned-90"], paths["pruned-95"]], thinice.load_samples("digits", limit=40)
    thinice.compare_all(paths["dense"], pruned, samples, effort="quick", store=path, progress=False)
    return path


@pytest.fixture
def measured(compared, tmp_path):
    """A copy of that store where the commands look for one: tests of what they print need not measure again."""
    return shutil.copy(compared, tmp_path / "thinice.duckdb")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Type a command in an empty folder; returns (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def typed(*words):
        monkeypatch.setattr(sys, "argv", ["thinice", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            if isinstance(end.code, str):  # what the interpreter prints on the way out
                sys.stderr.write(f"{end.code}\n")
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        out, err = capsys.readouterr()
        return code, out, err

    return typed
