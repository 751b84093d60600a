"""`thinice doctor` and `thinice --version`: what they say of this machine is so."""

from __future__ import annotations

import json
import os
import platform
import runpy
import subprocess
import sys
from importlib import metadata

import duckdb
import pytest
import torch

from thinice.cli import main
from thinice.store import open_store


@pytest.fixture
def facts(monkeypatch, capsys, tmp_path):
    """Type `thinice doctor …`; returns what it found by what it is about."""
    monkeypatch.chdir(tmp_path)

    def typed(*words):
        monkeypatch.setattr(sys, "argv", ["thinice", "doctor", "--format", "json", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        rows = json.loads(capsys.readouterr().out)
        assert len({row["what"] for row in rows}) == len(rows)
        return {row["what"]: row["found"] for row in rows}

    return typed


def test_the_version_names_what_matters_and_imports_nothing_heavy():
    script = (
        "import sys; sys.argv = ['thinice', '--version']; from thinice.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'duckdb', 'pandas', 'numpy'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    thinice, torch_version, duckdb_version = map(metadata.version, ("thinice", "torch", "duckdb"))
    python = platform.python_version()
    assert done.stdout == f"thinice {thinice}, Python {python}, torch {torch_version}, duckdb {duckdb_version}\n"


def test_device_threads_and_packages_are_those_of_this_machine(facts):
    found = facts()
    assert found["device"].startswith("cuda (" if torch.cuda.is_available() else "cpu (")
    assert ("tf32" in found["precision"]) == torch.cuda.is_available()
    assert found["threads"] == str(torch.get_num_threads())
    assert found["numpy"] == metadata.version("numpy")
    assert "pytest" not in found


def test_an_extra_that_is_missing_is_told_with_the_way_to_it(facts, monkeypatch):
    version = metadata.version

    def without_onnx(name):
        if name == "onnx":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_onnx)
    found = facts()
    assert found["onnx"] == "missing: pip install 'thinice[onnx]'"
    assert found["safetensors"] == version("safetensors")


def test_where_data_are_looked_for(facts, monkeypatch, tmp_path):
    monkeypatch.setenv("THINICE_DATA", str(tmp_path / "data"))
    assert facts()["data"].startswith(f"{tmp_path / 'data'}: nothing there yet")
    (tmp_path / "data" / "MNIST").mkdir(parents=True)
    assert facts()["data"] == f"{tmp_path / 'data'}: MNIST"


def test_the_state_of_the_store(facts, tmp_path):
    path = tmp_path / "other.duckdb"
    assert "there is no store" in facts("--store", path)["store"]
    assert not path.exists()
    open_store(path, new=True)
    before = path.read_bytes()
    assert f"{path}: not locked" in facts("--store", path)["store"]
    assert path.read_bytes() == before
    duckdb.connect(tmp_path / "foreign.duckdb").close()
    assert "not a thinice store" in facts("--store", tmp_path / "foreign.duckdb")["store"]
    (tmp_path / "text.duckdb").write_text("nothing of the kind" * 1000)
    assert "not a thinice store" in facts("--store", tmp_path / "text.duckdb")["store"]


@pytest.mark.slow
def test_a_store_that_another_process_writes_is_told_with_the_process(facts, tmp_path):
    path = tmp_path / "thinice.duckdb"
    open_store(path, new=True)
    script = f"import duckdb; held = duckdb.connect({str(path)!r}); print(flush=True); input()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        found = facts()["store"]
        writer.communicate(b"\n")
    assert f"is being written by process {writer.pid}" in found
    assert "not locked" in facts()["store"]


def test_a_store_in_the_home_folder_is_found(facts, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    open_store(home / "thinice.duckdb", new=True)
    assert facts("--store=~/thinice.duckdb")["store"].startswith(f"{home / 'thinice.duckdb'}: not locked")
    assert "~nosuchuser has no home folder" in facts("--store=~nosuchuser/thinice.duckdb")["store"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes with names")
def test_a_pipe_is_no_store(facts, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "for it is a pipe: give the path" in facts("--store", "pipe")["store"]


def test_an_empty_log_is_said_to_be_empty(facts, tmp_path):
    path = open_store(tmp_path / "thinice.duckdb", new=True).path
    assert "store's log" not in facts()
    path.with_name("thinice.duckdb.wal").touch()
    assert "is empty: if it held anything, that is lost" in facts()["store's log"]


def test_the_package_runs_as_the_command_does(monkeypatch):
    called = []
    monkeypatch.setattr("thinice.cli.console", lambda: called.append("console"))
    runpy.run_module("thinice", run_name="__main__")
    assert called == ["console"]
