"""A disk that is full, a file that was cut off, a folder that takes nothing: one line, and nothing is lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest

import thinice
from tests.faults.commands import differences, finished
from thinice.errors import StoreError
from thinice.store import open_store

MEASURE = (
    "measure", "dense.pt", "--data", "digits", "--limit", "24", "--batch-size", "4", "--attack", "fmn", "--steps", "20",
    "--quiet",
)  # fmt: skip
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder of an undisturbed run, of 24 samples by 20 steps."""
    folder = tmp_path_factory.mktemp("whole")
    paths, samples = thinice.example_checkpoints(), thinice.load_samples("digits", limit=24)
    shutil.copy(paths["dense"], folder / "dense.pt")
    options = {"attack": "fmn", "steps": 20, "batch_size": 4, "progress": False}
    thinice.measure_all([thinice.load_classifier(folder / "dense.pt")], samples, store=folder / "s.duckdb", **options)
    return folder


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.3, 0.5, 0.8])
@pytest.mark.slow
def test_a_store_that_was_cut_off_is_refused_in_one_line_and_left_alone(measured, tmp_path, share):
    whole = (measured / "s.duckdb").read_bytes()
    path = tmp_path / "cut.duckdb"
    path.write_bytes(whole[: int(share * len(whole))])
    left = path.read_bytes()
    with pytest.raises(StoreError, match="left untouched") as caught:
        open_store(path, new=True)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == left
    assert [entry.name for entry in tmp_path.iterdir()] == ["cut.duckdb"]


def test_a_store_whose_blocks_were_overwritten_is_one_line_with_a_way_out(measured, tmp_path):
    """DuckDB has a checksum in each block; which blocks a query needs, it alone knows."""
    path = shutil.copy(measured / "s.duckdb", tmp_path / "s.duckdb")
    with path.open("r+b") as file:
        for block in range(path.stat().st_size // 262144):
            file.seek(3 * 4096 + block * 262144 + 100)
            file.write(b"overwritten")
    left = path.read_bytes()
    with pytest.raises(StoreError, match=r"s\.duckdb is damaged \(.*left untouched: put a copy back") as caught:
        open_store(path).sql("from epsilons")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == left


def full(text):
    """Assert that a command said of a full disk what it has to, and nothing but lines of thinice's own."""
    *warned, error = text.splitlines()
    assert all(line.startswith("thinice: warning: ") and ".wal is empty" in line for line in warned), text
    assert error.startswith("thinice: "), text
    assert "the disk is full, or a limit is reached" in error or "No space left on device" in error


@pytest.mark.slow
@ON_LINUX
@pytest.mark.filterwarnings("ignore:.*wal is empty:thinice.errors.StoreWarning")
def test_where_files_cannot_grow_a_run_ends_with_one_line_and_goes_on_later(measured, tmp_path):
    """The limit holds for each file: a few bytes of the log beside the store, or blocks of the store itself."""
    shutil.copy(measured / "dense.pt", tmp_path / "dense.pt")
    open_store(tmp_path / "thinice.duckdb", new=True)
    kept, codes = 0, []
    for size in (1_000, 30_000):
        code, text = finished(MEASURE, tmp_path, file_size=size)
        codes.append(code)
        if code:
            full(text)
        measured_by_now = len(open_store(tmp_path / "thinice.duckdb").sql("from epsilons"))
        assert measured_by_now >= kept
        kept = measured_by_now
    assert 1 in codes
    code, text = finished(MEASURE, tmp_path)
    assert code == 0, text
    assert differences(tmp_path / "thinice.duckdb", measured / "s.duckdb") == {}


@contextmanager
def mounted(folder, size):
    """Mount a small disk at a folder, where that is allowed, and yield a function that makes it read-only."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only who may mount has a small disk")
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
@ON_LINUX
@pytest.mark.filterwarnings("ignore:.*wal is empty:thinice.errors.StoreWarning")
def test_a_full_disk_is_one_line_and_nothing_is_lost(measured, tmp_path):
    with mounted(tmp_path / "disk", "64m"):
        folder = tmp_path / "disk"
        shutil.copy(measured / "dense.pt", folder / "dense.pt")
        open_store(folder / "thinice.duckdb", new=True)
        free, spare = shutil.disk_usage(folder).free, folder / "spare"
        for room in (20_000, 700_000):
            spare.write_bytes(b"x" * (free - room))
            code, text = finished(MEASURE, folder)
            assert code == 1
            full(text)
            spare.unlink()
            open_store(folder / "thinice.duckdb").sql("from epsilons")
        code, text = finished(MEASURE, folder)
        assert code == 0, text
        assert differences(folder / "thinice.duckdb", measured / "s.duckdb") == {}


@pytest.mark.slow
@ON_LINUX
def test_a_disk_that_takes_nothing_is_read_and_not_measured_into(measured, tmp_path):
    with mounted(tmp_path / "disk", "64m") as protect:
        folder = tmp_path / "disk"
        shutil.copy(measured / "dense.pt", folder / "dense.pt")
        shutil.copy(measured / "s.duckdb", folder / "thinice.duckdb")
        before = (folder / "thinice.duckdb").read_bytes()
        protect()
        assert len(open_store(folder / "thinice.duckdb").sql("from epsilons")) == 24
        store, dense = open_store(folder / "thinice.duckdb"), thinice.load_classifier(folder / "dense.pt")
        with pytest.raises(StoreError, match=r"thinice\.duckdb cannot be opened: .*[Rr]ead-only") as caught:
            thinice.measure_all([dense], thinice.load_samples("digits", limit=24), store=store, progress=False)
        assert "\n" not in str(caught.value)
        with pytest.raises(StoreError, match="cannot be made"):
            open_store(folder / "new.duckdb", new=True)
        assert (folder / "thinice.duckdb").read_bytes() == before
        assert sorted(entry.name for entry in folder.iterdir()) == ["dense.pt", "thinice.duckdb"]
