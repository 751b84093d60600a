"""What may lie under the name of a store or its log, and names that are not UTF-8."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import threading
from pathlib import Path

import pytest

from thinice.errors import InputError, StoreError
from thinice.store import open_store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="file names and kinds of Unix")

CAFE = os.fsdecode(b"caf\xe9")
UNWRITABLE = pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take no such name")


def in_time(work):
    """Return what a piece of work raises; a test that waits for a pipe would never end."""
    raised = []

    def run():
        try:
            work()
        except Exception as error:  # noqa: BLE001 - handed over
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "it waits without end"
    return raised[0]


def put(kind, path):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as ear:
            ear.bind(path.name)
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device"])
@pytest.mark.parametrize("new", [False, True])
def test_a_store_that_is_no_file_is_refused_at_once(tmp_path, monkeypatch, kind, new):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    put(kind, tmp_path / "other")
    error = in_time(lambda: open_store("other", new=new))
    assert isinstance(error, StoreError)
    assert re.fullmatch(rf"\S+ cannot be opened, for it is a {kind}: give the path of a DuckDB file, .*", str(error))


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device"])
def test_a_log_that_is_no_file_is_refused_at_once_and_left(store, monkeypatch, kind):
    monkeypatch.chdir(store.path.parent)
    log = store.path.with_name("thinice.duckdb.wal")
    put(kind, log)
    for work in (store.runs, lambda: store.run([], device="cpu", seed=0).__enter__()):
        error = in_time(work)
        assert isinstance(error, StoreError)
        assert f"{log.name} beside it is a {kind} and no log: move that away" in str(error)
    log.rename("elsewhere")
    assert store.runs().empty


def test_a_link_to_a_store_is_a_store(store, tmp_path):
    (tmp_path / "link").symlink_to(store.path)
    assert open_store(tmp_path / "link").path == store.path


@UNWRITABLE
@pytest.mark.parametrize("path", [f"{CAFE}.duckdb", f"{CAFE}/thinice.duckdb"])
def test_a_store_whose_name_is_not_utf_8_is_one_line(tmp_path, monkeypatch, empty, path):
    monkeypatch.chdir(tmp_path)
    Path(path).parent.mkdir(exist_ok=True)
    for _ in "absent", "present":
        with pytest.raises(InputError, match=r"^`path` \S+caf\\udce9\S+ is not UTF-8, .*: name store and folders in"):
            open_store(path, new=True)
        shutil.copy(empty, path)


def test_what_a_run_records_of_names_that_are_not_utf_8_are_escapes(store):
    command = ["thinice", "compare", f"--figures={CAFE}", "café"]
    network = {"name": CAFE, "path": f"{CAFE}/dense.pt", "notes": [CAFE], "architecture": "cnn", "classes": 3}

    def fail():
        with store.run(command, device="cpu", seed=0) as run:
            run.checkpoint(fingerprint="f", sparsity=0.0, **network)
            raise OSError(f"no room for {CAFE}")

    with pytest.raises(OSError, match="no room"):
        fail()
    row = store.sql("select command, error from runs").iloc[0]
    assert list(row["command"]) == ["thinice", "compare", "--figures=caf\\udce9", "café"]
    assert row["error"] == "OSError: no room for caf\\udce9"
    network = store.sql("select name, path, notes from checkpoints").iloc[0]
    assert network["name"] == "caf\\udce9"
    assert network["path"] == "caf\\udce9/dense.pt"
    assert list(network["notes"]) == ["caf\\udce9"]
