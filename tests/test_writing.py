"""What thinice writes over, and what it never does."""

from __future__ import annotations

import csv
import os
import shutil
import socket
import subprocess
import sys
import zlib

import matplotlib as mpl
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

import thinice
from tests.report.stores import write_store
from thinice.cli import main
from thinice.data import as_samples
from thinice.errors import InputError
from thinice.files import refuse_folder, temporary_folder, writable
from thinice.models import build, save_classifier
from thinice.plots.figure_set import write_figures
from thinice.report import save_report
from thinice.store import open_store
from thinice.training import Recipe, train


def is_page(head):
    return head.startswith(b"<page>")


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "thinice.duckdb", new=True).path


def may(path, **options):
    return writable(path, argument="path", like=is_page, kind="a page", **options)


def test_what_is_new_or_older_of_the_same_kind_or_empty_may_be_written(tmp_path):
    place = tmp_path / "page.html"
    assert may(place) == place
    for content in (b"<page>old", b""):
        place.write_bytes(content)
        assert may(place) == place
        assert place.read_bytes() == content  # asking writes nothing


def test_another_kind_is_refused_but_for_overwrite(tmp_path):
    place = tmp_path / "thesis.tex"
    place.write_bytes(b"years of work")
    with pytest.raises(InputError, match=r"is there already and is not a page: choose another path$"):
        may(place)
    with pytest.raises(InputError, match="--overwrite"):
        may(place, overwrite=False)
    assert may(place, overwrite=True) == place


@pytest.mark.parametrize("overwrite", [None, False, True])
def test_a_store_its_log_and_other_databases_are_never_replaced(tmp_path, store, overwrite):
    (tmp_path / "hard").hardlink_to(store)
    (tmp_path / "folder").mkdir()
    places = [store, tmp_path / "hard", tmp_path / "thinice.duckdb.wal", tmp_path / "folder" / ".." / store.name]
    for place in places:
        with pytest.raises(InputError, match="is the store itself"):
            may(place, overwrite=overwrite, store=store)
    with pytest.raises(InputError, match="a DuckDB database"):
        may(store, overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [None, True])
def test_what_is_no_regular_file_is_never_replaced(tmp_path, overwrite):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "page.html").write_bytes(b"<page>")
    (tmp_path / "link").symlink_to(tmp_path / "page.html")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    for place in (tmp_path / "folder", tmp_path / "fifo", "/dev/null"):
        with pytest.raises(InputError, match="a folder, a device"):
            may(place, overwrite=overwrite)
    for name in ("link", "dangling"):
        with pytest.raises(InputError, match="is a symbolic link"):
            may(tmp_path / name, overwrite=overwrite)


def test_a_folder_that_takes_no_files_is_told_before_the_work(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="there is no folder"):
        may(tmp_path / "none" / "page.html")

    def read_only(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    with pytest.raises(InputError, match=r"`path` .*page.html cannot be written: Read-only file system"):
        may(tmp_path / "page.html")
    with pytest.raises(InputError, match="Read-only"):
        refuse_folder(tmp_path, "`--figures`")


def test_nests_of_killed_processes_are_swept_and_those_of_the_living_are_not(tmp_path):
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom thinice.files import temporary_folder\n"
        "with temporary_folder(Path(sys.argv[1])) as unfinished:\n"
        "    (unfinished / 'half').write_text('x')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, check=False)
    assert done.returncode == -9
    (left,) = tmp_path.iterdir()
    elsewhere = tmp_path / f".thinice-1-1-{zlib.crc32(socket.gethostname().encode()) ^ 1:08x}-abc"
    strange = tmp_path / ".thinice-notes"
    elsewhere.mkdir()
    strange.mkdir()
    with temporary_folder(tmp_path) as living, temporary_folder(tmp_path) as other:
        assert not left.exists()
        assert living.is_dir()
        assert other.is_dir()
        assert sorted(tmp_path.iterdir()) == sorted([living, other, elsewhere, strange])
    assert sorted(tmp_path.iterdir()) == sorted([elsewhere, strange])


def test_a_checkpoint_replaces_a_checkpoint_and_nothing_else(tmp_path, store):
    network = build("digits_cnn", 10)
    for name in ("a.pt", "a.safetensors"):
        for _ in range(2):
            save_classifier(network, tmp_path / name)
    thesis = tmp_path / "thesis.docx"
    thesis.write_bytes(b"PK\x03\x04 word/document.xml")  # a ZIP archive as well
    with pytest.raises(InputError, match="is not a checkpoint"):
        save_classifier(network, thesis)
    assert thesis.read_bytes() == b"PK\x03\x04 word/document.xml"
    before = store.read_bytes()
    with pytest.raises(InputError, match="a DuckDB database"):
        save_classifier(network, store, overwrite=True)
    assert store.read_bytes() == before
    assert thinice.load_classifier(save_classifier(network, thesis, overwrite=True)).classes == 10


def test_a_training_is_not_resumed_from_a_device_or_a_link(tmp_path):
    os.mkfifo(tmp_path / "fifo")  # reading one would wait for ever
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    with pytest.raises(InputError, match="a device"):
        train(
            network,
            as_samples(torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])),
            Recipe(epochs=1),
            resume=tmp_path / "fifo",
        )


def test_figures_replace_pictures_and_nothing_else(tmp_path):
    mpl.use("agg")
    for _ in range(2):
        assert [path.name for path in write_figures({"roc": Figure()}, tmp_path)] == ["roc.png", "roc.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["roc.png", "roc.svg"]
    (tmp_path / "roc.svg").write_text("notes")
    with pytest.raises(InputError, match=r"roc.svg is there already and is not a PNG or SVG picture"):
        write_figures({"roc": Figure()}, tmp_path)
    assert (tmp_path / "roc.svg").read_text() == "notes"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("written") / "thinice.duckdb", thinice.load_samples("digits", limit=40))


@pytest.fixture
def reported(tmp_path, written):
    return open_store(shutil.copy(written.path, tmp_path / "thinice.duckdb"))


@pytest.mark.slow
@pytest.mark.usefixtures("unadorned")
def test_a_report_replaces_a_report_and_never_the_store(reported, tmp_path):
    page = save_report(reported, tmp_path / "report.html")
    first = page.read_bytes()
    assert save_report(reported, page).read_bytes() == first
    before = reported.path.read_bytes()
    for place in (reported.path, tmp_path / "thinice.duckdb.wal"):
        for overwrite in (False, True):
            with pytest.raises(InputError, match="is the store itself, or its log"):
                save_report(reported, place, overwrite=overwrite)
    assert reported.path.read_bytes() == before
    assert not (tmp_path / "thinice.duckdb.wal").exists()
    checkpoint = save_classifier(build("digits_cnn", 10), tmp_path / "dense.pt")
    weights = checkpoint.read_bytes()
    with pytest.raises(InputError, match=r"dense.pt is there already and is not a report of thinice.*--overwrite"):
        save_report(reported, checkpoint)
    assert checkpoint.read_bytes() == weights
    assert save_report(reported, checkpoint, overwrite=True).read_bytes() == first


def test_a_report_that_cannot_be_written_does_no_work(reported, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("the page was made before its place was looked at")

    monkeypatch.setattr("thinice.report._page", never)
    with pytest.raises(InputError, match="/dev/full is a folder, a device"):
        save_report(reported, "/dev/full")
    with pytest.raises(InputError, match="there is no folder"):
        save_report(reported, tmp_path / "none" / "report.html")


@pytest.mark.parametrize(
    "words",
    [
        ("report", "-o", "thinice.duckdb"),
        ("report", "-o", "thinice.duckdb", "--overwrite"),
        ("export", "thinice.duckdb", "--format", "csv", "--what", "runs"),
        ("export", "thinice.duckdb", "--format", "csv", "--what", "runs", "--overwrite"),
        ("export", "thinice.duckdb.wal", "--format", "csv", "--what", "runs"),
        ("export", "link.csv", "--what", "runs", "--overwrite"),
    ],
    ids=" ".join,
)
def test_no_command_writes_over_the_store(reported, tmp_path, monkeypatch, capsys, words):
    (tmp_path / "link.csv").symlink_to(reported.path)
    before, names = reported.path.read_bytes(), sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["thinice", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert str(end.value.code).startswith("thinice: `path` ")
    assert capsys.readouterr().out == ""
    assert reported.path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == names


def test_exported_text_that_a_spreadsheet_would_run_is_marked(store, tmp_path):
    query = """select unnest(['=1+1', '-2', 'a=1', null]) as "=name", -1.5 as number,
        '@x'::enum('@x') as kind, '+y'::blob as raw, ['=z'] as list, '"-j"'::json as json"""
    (file,) = open_store(store).export(tmp_path / "a.csv", what=query)
    head, *rows = csv.reader(file.read_text().splitlines())
    assert head == ["'=name", "number", "kind", "raw", "list", "json"]
    assert [row[0] for row in rows] == ["'=1+1", "'-2", "a=1", ""]
    assert rows[0][1:] == ["-1.5", "'@x", "'+y", "['=z']", '"-j"']
    (parquet,) = open_store(store).export(tmp_path / "a.parquet", what="select '=1+1' as name")
    assert pd.read_parquet(parquet)["name"].tolist() == ["=1+1"]
