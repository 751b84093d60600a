"""NumPy archives: keys, layouts, ranges, and archives that would like to run code."""

import os
import zipfile

import numpy as np
import pytest
import torch

from tests.conftest import reference
from thinice.data import as_samples, load_samples, npz
from thinice.data.npz import PAIRS
from thinice.data.samples import Pixels
from thinice.errors import DataError, InputError

GENERATOR = np.random.default_rng(3)
CHW = GENERATOR.integers(0, 256, (6, 3, 9, 8), dtype=np.uint8)
LABELS = np.array([0, 2, 1, 1, 0, 2])


def save(tmp_path, **arrays):
    path = tmp_path / "set.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (CHW, "images channels first, uint8 from 0 to 255, divided by 255"),
        (CHW.transpose(0, 2, 3, 1), "images channels last, uint8 from 0 to 255, divided by 255"),
        ((CHW / 255).astype(np.float32), "images channels first, float32"),
        ((CHW / 255).transpose(0, 2, 3, 1), "images channels last, float64"),
        ((CHW / 255).astype(">f4"), "images channels first, >f4"),
    ],
)
def test_every_layout_gives_the_same_samples(tmp_path, images, said):
    samples = load_samples(save(tmp_path, x=images, y=LABELS), split="all")
    expected = as_samples(CHW, LABELS)
    assert samples.notes == (f"set.npz: {said}",)
    assert samples.fingerprint == expected.fingerprint
    assert torch.equal(samples.inputs[:], expected.inputs[:])
    assert isinstance(samples.inputs, Pixels) == (images.dtype == np.uint8)
    assert samples.classes == ("0", "1", "2")


def test_grey_images(tmp_path):
    samples = load_samples(save(tmp_path, x=CHW[:, 0], y=LABELS))
    assert samples.inputs.shape == (6, 1, 9, 8)
    assert samples.notes[0].startswith("set.npz: images grey, uint8")


@pytest.mark.parametrize(
    ("shape", "layout", "given"),
    [
        ((2, 3, 32, 3), "first", (3, 32, 3)),  # both readings are possible: channels come first
        ((2, 1, 28, 28), "first", (1, 28, 28)),
        ((2, 28, 28, 1), "last", (1, 28, 28)),
        ((2, 4, 16, 16), "first", (4, 16, 16)),
        ((2, 16, 16, 4), "last", (4, 16, 16)),
        ((2, 20, 30, 3), "last", (3, 20, 30)),
    ],
)
def test_the_axis_of_channels(tmp_path, shape, layout, given):
    samples = load_samples(save(tmp_path, x=np.full(shape, 0.5), y=[0, 1]))
    assert samples.inputs.shape[1:] == given
    assert f"channels {layout}" in samples.notes[0]


@pytest.mark.parametrize(("images", "labels", "split"), [(*pair, split) for split in PAIRS for pair in PAIRS[split]])
def test_keys(tmp_path, images, labels, split):
    path = save(tmp_path, **{images: CHW, labels: LABELS, "other": np.zeros(3)})
    samples = load_samples(path, split=split)
    assert (len(samples), samples.split) == (6, split)


def test_splits_lie_side_by_side(tmp_path):
    path = save(tmp_path, x_train=CHW, y_train=LABELS, x_test=CHW[:2], y_test=LABELS[:2])
    assert [len(load_samples(path, split=split)) for split in ("train", "test")] == [6, 2]
    with pytest.raises(DataError, match=r"has no arrays x_val, y_val or val_images, val_labels; keys found: x_train"):
        load_samples(path, split="val")


def test_arrays_without_a_split_are_for_testing(tmp_path):
    path = save(tmp_path, x=CHW, y=LABELS)
    assert load_samples(path, split="test").split == "all"
    with pytest.raises(DataError, match=r"has no arrays x_train, y_train or .*; keys found: x, y$"):
        load_samples(path, split="train")


def test_selections_keep_ids(tmp_path):
    path = save(tmp_path, x=CHW, y=LABELS)
    whole = load_samples(path)
    few = load_samples(path, limit=4)
    assert few.fingerprint == whole[few.sample_ids].fingerprint
    assert few.notes == (*whole.notes, "limit: 4 of 6 samples, 1 to 2 of each class, the same ones every time")
    some = load_samples(path, sample_ids=[5, 1])
    assert some.fingerprint == whole[[5, 1]].fingerprint
    assert some.classes == whole.classes


def test_labels_as_a_column_and_named_classes(tmp_path):
    path = save(tmp_path, x=CHW, y=LABELS[:, None].astype(np.uint8), classes=["cat", "dog", "emu"])
    samples = load_samples(path)
    assert samples.labels.tolist() == LABELS.tolist()
    assert samples.classes == ("cat", "dog", "emu")


def test_rounding_is_clamped(tmp_path):
    images = np.array([-5e-7, 0.25, 1 + 5e-7, 1.0]).reshape(1, 1, 2, 2)
    assert load_samples(save(tmp_path, x=images, y=[0])).inputs.flatten().tolist() == [0, 0.25, 1, 1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": CHW.astype(np.float32), "y": LABELS}, r"must lie in \[0, 1\], got \[0, 255\]: divide by 255"),
        ({"x": CHW / 128 - 1, "y": LABELS}, r"must lie in \[0, 1\], got \[-1, .*\]: undo the normalisation"),
        ({"x": np.full((2, 1, 4, 4), np.nan), "y": [0, 1]}, "got 32 NaN values"),
        ({"x": CHW.astype(np.int16), "y": LABELS}, "got torch.int16"),
        ({"x": CHW, "y": LABELS.astype(float)}, "`labels` must be integers, got torch.float64"),
        ({"x": CHW, "y": LABELS[:5]}, r"`labels` must have the shape \(6,\), .*got \(5,\)"),
        ({"x": CHW, "y": LABELS - 1}, "`labels` must not be negative, got -1"),
        ({"x": CHW, "y": LABELS, "classes": ["a", "b"]}, "`labels` must be below 2"),
        ({"x": CHW[:0], "y": LABELS[:0]}, "empty"),
        ({"x": CHW[0, 0], "y": LABELS}, r"must have the shape \(N, H, W\), .* got \(9, 8\)"),
        ({"x": np.zeros((2, 5, 6, 7)), "y": [0, 1]}, "have no axis of channels that can be told"),
        ({"x": CHW.astype(str), "y": LABELS}, "must be an array of numbers, got <U"),
        ({"images": CHW, "y": LABELS}, "has no arrays x_test, y_test or .*; keys found: images, y$"),
        ({}, "keys found: none$"),
    ],
)
def test_bad_contents_are_refused_in_one_line(tmp_path, arrays, message):
    path = save(tmp_path, **arrays)
    with pytest.raises(DataError, match=message) as refusal:
        load_samples(path)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("key", ["x", "y", "classes"])
def test_python_objects_are_never_unpickled(tmp_path, key):
    trap = np.empty(6, object)
    trap[:] = Trap(tmp_path / "sprung")
    path = save(tmp_path, **{"x": CHW, "y": LABELS, key: trap})
    with pytest.raises(DataError, match="holds Python objects, which are never unpickled") as refusal:
        load_samples(path)
    assert not (tmp_path / "sprung").exists()
    assert "\n" not in str(refusal.value)


def test_files_that_are_no_archives_are_refused_in_one_line(tmp_path):
    path = save(tmp_path, x=CHW, y=LABELS)
    content = path.read_bytes()
    missing, text, folder = tmp_path / "none.npz", tmp_path / "text.npz", tmp_path / "folder.npz"
    text.write_text("<html>")
    folder.mkdir()
    truncated = tmp_path / "truncated.npz"
    truncated.write_bytes(content[: len(content) // 2])
    flipped = tmp_path / "flipped.npz"
    flipped.write_bytes(content[:400] + bytes([content[400] ^ 255]) + content[401:])
    foreign = tmp_path / "foreign.npz"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("x.npy", b"no array")
        archive.writestr("y.npy", b"")
    for file, message in (
        (missing, "does not exist"),
        (folder, "is a folder: write folder:PATH"),
        (text, "is not an .npz archive"),
        (truncated, "is not an .npz archive"),
        (flipped, "cannot be read: Bad CRC-32"),
        (foreign, "cannot be read: x is not an array"),
    ):
        with pytest.raises(DataError, match=message) as refusal:
            load_samples(f"npz:{file}")
        assert str(file) in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_small_archives_of_giants_are_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "MOST_UNPACKED", 2**20)
    path = tmp_path / "zeros.npz"
    np.savez_compressed(path, x=np.zeros((400, 1, 64, 64), np.uint8), y=np.zeros(400, int))
    with monkeypatch.context() as patch:
        patch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda *_: pytest.fail("unpacked"))
        with pytest.raises(DataError, match=r"zeros\.npz cannot be read: its [\d,]+ bytes unpack to 1,6\d\d,\d{3}, "):
            load_samples(path)
    np.savez(path, x=np.zeros((400, 1, 64, 64), np.uint8), y=np.zeros(400, int))  # as large, not packed
    assert len(load_samples(path)) == 400
    monkeypatch.setattr(npz, "MOST_UNPACKED", 2**21)
    np.savez_compressed(path, x=np.zeros((400, 1, 64, 64), np.uint8), y=np.zeros(400, int))  # as tight, not as large
    assert len(load_samples(path)) == 400
    images = GENERATOR.integers(0, 2, (400, 1, 64, 64), dtype=np.uint8) * 255
    monkeypatch.setattr(npz, "MOST_UNPACKED", 2**10)
    np.savez_compressed(path, x=images, y=np.zeros(400, int))
    assert len(load_samples(path)) == 400


@pytest.mark.parametrize("error", [TimeoutError, AssertionError, KeyboardInterrupt])
def test_what_says_nothing_of_the_file_is_not_blamed_on_it(error, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    path = save(tmp_path, x=CHW, y=LABELS)
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", fail)
    with pytest.raises(error):
        load_samples(path)


def test_pipes_and_devices_are_called_what_they_are(tmp_path):
    pipe = tmp_path / "pipe.npz"
    os.mkfifo(pipe)
    for path in (pipe, "/dev/zero"):
        with pytest.raises(DataError, match="is a pipe or device, not a regular file: copy its content to a file"):
            load_samples(f"npz:{path}")


def test_wrong_arguments(tmp_path):
    path = save(tmp_path, x=CHW, y=LABELS)
    with pytest.raises(InputError, match="one of test, train, val, all, got 'dev'"):
        load_samples(path, split="dev")
    with pytest.raises(InputError, match="`image_size` is for image files"):
        load_samples(path, image_size=32)
    with pytest.raises(InputError, match="`sample_ids` must lie in split"):
        load_samples(path, sample_ids=[6])


@pytest.mark.data
def test_exact_cifar10():
    path = reference("data/cifar10-exact-100.npz")
    samples = load_samples(f"npz:{path}")
    assert samples.inputs.shape == (100, 3, 32, 32)
    assert samples.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]  # the first CIFAR-10 test labels
    with np.load(path) as archive:
        assert torch.equal(samples.inputs[:], torch.from_numpy(archive["images"]).float() / 255)
