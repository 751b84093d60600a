"""Paths of users and strangers, wherever one is given."""

from __future__ import annotations

import pytest

import thinice
from thinice.errors import InputError
from thinice.files import expanded, read_whole
from thinice.store import open_store

NOWHERE = "~nosuchuser/file.npz"


@pytest.mark.parametrize(
    "given",
    [
        thinice.load_classifier,
        thinice.open_store,
        thinice.load_samples,
        lambda path: thinice.load_samples("mnist", root=path),
    ],
)
def test_a_home_that_is_not_there_is_one_line(given):
    with pytest.raises(InputError, match=r"~nosuchuser has no home folder: write the path in full$"):
        given(NOWHERE)


def test_where_files_are_written_too(tmp_path):
    store = open_store(tmp_path / "thinice.duckdb", new=True)
    for write in (store.export, lambda path: thinice.save_report(store, path)):
        with pytest.raises(InputError, match=r"~nosuchuser has no home folder: write the path in full$"):
            write(NOWHERE)


def test_a_file_is_read_up_to_its_bound(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_whole(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="5 bytes, more than the 4 that are read"):
        read_whole(tmp_path / "file", 4)


def test_no_path_holds_a_nul():
    with pytest.raises(InputError, match=r"holds a NUL"):
        expanded("dense\0.pt")
