"""Of very many image files those that were read before are not read again, and those that changed are."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thinice.data import hashed_files, image_folder, load_samples
from thinice.errors import DataError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Twelve images of two classes that count as very many, and a place for the table."""
    monkeypatch.setenv("THINICE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(image_folder, "MANY", 10)
    monkeypatch.setattr(hashed_files, "UNSEEN", 0)
    for number in range(12):
        write_image(tmp_path / "tree" / "ab"[number % 2] / f"{number}.png", number)
    return tmp_path / "tree"


@pytest.fixture
def read(monkeypatch):
    """The names of the files that are read to be hashed."""
    names, inspect = [], image_folder.inspect
    monkeypatch.setattr(
        image_folder, "inspect", lambda path, size: names.append(Path(path).name) or inspect(path, size)
    )
    return names


def write_image(path, seed, side=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)


def test_files_that_were_read_before_are_not_read_again(folder, read):
    first = load_samples(f"folder:{folder}")
    assert len(read) == 12
    again = load_samples(f"folder:{folder}")
    assert len(read) == 12
    assert again.fingerprint == first.fingerprint
    assert (again.inputs[:] == first.inputs[:]).all()
    load_samples(f"folder:{folder}", image_size=4)  # another size is another content
    assert len(read) == 24


@pytest.mark.parametrize("kept", [True, False])
def test_a_file_that_changed_is_read_again_even_where_size_and_time_are_the_same(folder, read, kept):
    first, changed = load_samples(f"folder:{folder}"), folder / "a" / "2.png"
    before = changed.stat()
    content = bytearray(changed.read_bytes())
    content[-5] ^= 1  # the checksum of the last chunk
    changed.write_bytes(content)
    if kept:
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    del read[:]
    again = load_samples(f"folder:{folder}")
    assert read == ["2.png"]
    assert (again.digests != first.digests).sum() == 1
    del read[:]
    assert load_samples(f"folder:{folder}").fingerprint == again.fingerprint
    assert read == []


def test_files_that_have_just_changed_are_not_remembered(folder, read, monkeypatch):
    monkeypatch.setattr(hashed_files, "UNSEEN", 60)
    for _ in range(2):
        load_samples(f"folder:{folder}")
    assert len(read) == 24


@pytest.mark.parametrize("content", [b"", b"no table", None])
def test_a_table_that_is_none_is_made_anew(folder, read, content):
    first = load_samples(f"folder:{folder}")
    (table,) = (folder.parent / "data" / "hashed").iterdir()
    if content is None:
        np.save(table, np.arange(3))
    else:
        table.write_bytes(content)
    assert load_samples(f"folder:{folder}").fingerprint == first.fingerprint
    assert len(read) == 24
    load_samples(f"folder:{folder}")
    assert len(read) == 24


def test_a_size_that_differs_is_told_also_where_all_were_read_before(folder):
    load_samples(f"folder:{folder}", image_size=4)
    load_samples(f"folder:{folder}")
    write_image(folder / "b" / "11.png", 0, side=5)
    for _ in range(2):
        with pytest.raises(
            DataError, match=r"differ in size: .*0.png has 4x4 pixels, .*11.png has 5x5: give image_size"
        ):
            load_samples(f"folder:{folder}")
