"""What the tests of the commands share."""

from __future__ import annotations

import sys

import pytest

from thinice.cli import main


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
