"""Torchvision's layouts, written here in small: read without a network, downloaded from a local server.

Torchvision checks the md5 sums of CIFAR and SVHN before it reads them. The tests write small files of the
same form and put the sums of these into torchvision's classes, so that the check itself runs.
"""

import gzip
import hashlib
import http.server
import pickle
import shutil
import socket
import sys
import threading
import urllib.error
import urllib.request
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import io as scipy_io
from torchvision import datasets as torchvision_sets

from tests.conftest import reference
from thinice.data import load_samples
from thinice.data import torchvision_sets as vision
from thinice.data.samples import Pixels
from thinice.errors import DataError, InputError

MNIST_COUNTS = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
PARTS = {"train": 30, "t10k": 20}


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """Fail at once where the network is used, except for the server of this machine."""
    open_url = urllib.request.urlopen

    def local_alone(request, *arguments, **settings):
        if urllib.request.urlparse(request.full_url).hostname != "127.0.0.1":
            raise urllib.error.URLError("no network in tests")
        return open_url(request, *arguments, **settings)

    monkeypatch.setattr(urllib.request, "urlopen", local_alone)


def random_images(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def idx(array):
    """The IDX form: two zero bytes, the type uint8 (8), the number of axes, each size, the values."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def mnist_files():
    files = {}
    for part, count in PARTS.items():
        files[f"{part}-images-idx3-ubyte"] = idx(random_images((count, 28, 28), seed=count))
        files[f"{part}-labels-idx1-ubyte"] = idx(np.arange(count) % 10)
    return files


def write_mnist(root, name="MNIST"):
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for file, content in mnist_files().items():
        (raw / file).write_bytes(content)
    return raw


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
@pytest.mark.parametrize(("split", "part"), [("test", "t10k"), ("train", "train")])
def test_mnist_and_its_twin(tmp_path, name, folder, split, part):
    write_mnist(tmp_path, folder)
    samples = load_samples(name, split=split, root=tmp_path)
    count = PARTS[part]
    assert (samples.name, samples.split, len(samples)) == (name, split, count)
    assert isinstance(samples.inputs, Pixels)
    expected = random_images((count, 28, 28), seed=count).astype(np.float32) / np.float32(255)
    assert np.array_equal(samples.inputs[:].numpy(), expected[:, None])
    assert samples.labels.tolist() == [place % 10 for place in range(count)]
    assert samples.sample_ids.tolist() == list(range(count))
    assert samples.classes == (tuple("0123456789") if name == "mnist" else tuple(torchvision_sets.FashionMNIST.classes))
    assert load_samples(name, split=split, root=tmp_path, sample_ids=[7, 3]).fingerprint == samples[[7, 3]].fingerprint


@pytest.mark.data
def test_the_whole_of_mnist(tmp_path, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in mnist_files():
        target = raw / file
        if file.startswith("t10k"):
            with gzip.open(reference(f"data/mnist/{file}.gz")) as packed, target.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
        else:
            target.touch()  # torchvision asks that all four files are there, and reads two
    monkeypatch.setenv("THINICE_DATA", str(tmp_path))
    samples = load_samples("mnist")
    assert samples.class_counts() == MNIST_COUNTS
    assert samples.inputs.shape == (10_000, 1, 28, 28)
    assert samples.labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    assert samples.inputs[:].mean().item() == pytest.approx(0.1325, abs=1e-4)  # the published mean of the test images


def write_cifar(root, monkeypatch, kind):
    """Write the pickles of a small CIFAR; returns images and labels of the test part."""
    base = root / kind.base_folder
    base.mkdir(parents=True)
    labels_key = "labels" if kind is torchvision_sets.CIFAR10 else "fine_labels"
    names = [f"kind {k}" for k in range(10 if kind is torchvision_sets.CIFAR10 else 100)]
    sums = {kind.meta["filename"]: write_pickle(base / kind.meta["filename"], {kind.meta["key"]: names})}
    for seed, (file, _) in enumerate([*kind.train_list, *kind.test_list]):
        images, labels = (
            random_images((6, 3, 32, 32), seed),
            [(seed + place) % len(names) for place in range(6)],
        )
        sums[file] = write_pickle(base / file, {"data": images.reshape(6, -1), labels_key: labels})
    for part in ("train_list", "test_list"):
        monkeypatch.setattr(kind, part, [[file, sums[file]] for file, _ in getattr(kind, part)])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums[kind.meta["filename"]]})
    return images, labels, names


def write_pickle(path, content):
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "kind", "training"),
    [("cifar10", torchvision_sets.CIFAR10, 30), ("cifar100", torchvision_sets.CIFAR100, 6)],
)
def test_cifar(tmp_path, monkeypatch, name, kind, training):
    images, labels, names = write_cifar(tmp_path, monkeypatch, kind)
    samples = load_samples(name, root=tmp_path)
    assert torch.equal(samples.inputs[:], torch.from_numpy(images).float() / 255)
    assert samples.inputs.stored.is_contiguous()
    assert samples.labels.tolist() == labels
    assert samples.classes == tuple(names)
    assert len(load_samples(name, split="train", root=tmp_path)) == training
    two = load_samples(name, root=tmp_path, limit=2)
    assert two.fingerprint == samples[two.sample_ids].fingerprint
    assert two.notes[0].startswith("limit: 2 of 6 samples, ")


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        from os import mkdir  # noqa: PLC0415

        return mkdir, (str(self.path),)


def test_a_changed_cifar_file_is_not_unpickled(tmp_path, monkeypatch):
    write_cifar(tmp_path, monkeypatch, torchvision_sets.CIFAR10)
    write_pickle(tmp_path / "cifar-10-batches-py" / "test_batch", Trap(tmp_path / "sprung"))
    with pytest.raises(DataError, match=r"cifar10 in .* is incomplete or damaged .*: remove .*cifar-10-batches-py"):
        load_samples("cifar10", root=tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_svhn(tmp_path, monkeypatch):
    images = random_images((32, 32, 3, 12))
    path = tmp_path / "test_32x32.mat"
    scipy_io.savemat(path, {"X": images, "y": np.arange(1, 13).reshape(-1, 1) % 11})
    rows = dict(torchvision_sets.SVHN.split_list)
    rows["test"] = [*rows["test"][:2], hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(torchvision_sets.SVHN, "split_list", rows)
    samples = load_samples("svhn", root=tmp_path)
    assert samples.labels.tolist() == [
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        0,
        0,
        1,
    ]  # the file writes 10 for the digit 0
    assert torch.equal(samples.inputs[:], torch.from_numpy(images.transpose(3, 2, 0, 1).copy()).float() / 255)
    assert samples.classes == tuple("0123456789")
    with pytest.raises(InputError, match="one of test, train, extra, got 'val'"):
        load_samples("svhn", split="val", root=tmp_path)


def write_photographs(folder, wordnet_ids, each=2):
    for seed, wordnet_id in enumerate(wordnet_ids):
        (folder / wordnet_id).mkdir(parents=True)
        for place in range(each):
            image = Image.fromarray(random_images((40 + seed, 50, 3), seed=10 * seed + place))
            image.save(folder / wordnet_id / f"{wordnet_id}_{place}.JPEG")


@pytest.mark.parametrize("folder", ["imagenette2-320", "imagenette2", "imagenette2-160"])
def test_imagenette(tmp_path, monkeypatch, folder):
    wordnet_ids = sorted(torchvision_sets.Imagenette._WNID_TO_CLASS)
    write_photographs(tmp_path / folder / "val", wordnet_ids)
    monkeypatch.setattr(vision, "IMAGENETTE_COUNTS", {"val": 20})
    samples = load_samples("imagenette", root=tmp_path, image_size=32)
    assert samples.inputs.shape == (20, 3, 32, 32)
    assert samples.labels.tolist() == [place // 2 for place in range(20)]
    assert samples.classes[:3] == ("tench", "English springer", "cassette player")
    assert samples.split == "val"
    assert samples.sources[0] == f"{folder}/val/n01440764/n01440764_0.JPEG"
    monkeypatch.setattr(vision, "IMAGENETTE_COUNTS", {"val": 21})
    with pytest.raises(DataError, match=r"imagenette in .* is incomplete: 20 of 21 images"):
        load_samples("imagenette", root=tmp_path, image_size=32)
    with pytest.raises(InputError, match="imagenette has images of different sizes: give image_size=224"):
        load_samples("imagenette", root=tmp_path)


@pytest.mark.parametrize("nested", [True, False])
def test_imagenet(tmp_path, monkeypatch, nested):
    folder = tmp_path / "imagenet" if nested else tmp_path
    write_photographs(folder / "val", ["n02012849", "n03126707", "n01440764"])
    synonyms = {"n02012849": ("crane",), "n03126707": ("crane",), "n01440764": ("tench", "Tinca tinca")}
    torch.save((synonyms, []), folder / "meta.bin")
    monkeypatch.setattr(vision, "IMAGENET_COUNTS", {"val": 6})
    samples = load_samples("imagenet", root=tmp_path, image_size=16, sample_ids=[5, 0])
    assert samples.classes == ("tench", "crane (n02012849)", "crane (n03126707)")
    assert samples.labels.tolist() == [2, 0]
    assert samples.split == "val"
    assert "split test: taken from val/" in samples.notes


def test_imagenet_says_what_to_bring(tmp_path):
    with pytest.raises(DataError, match=r"ILSVRC2012_img_val.tar from https://image-net.org") as refusal:
        load_samples("imagenet", root=tmp_path, image_size=224)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "MNIST/raw/t10k-images-idx3-ubyte"),
        ("fashion-mnist", "FashionMNIST/raw/t10k-images-idx3-ubyte"),
        ("cifar10", "cifar-10-batches-py/test_batch"),
        ("cifar100", "cifar-100-python/test"),
        ("svhn", "test_32x32.mat"),
        ("imagenette", "imagenette2-320/val"),
    ],
)
def test_offline_the_error_names_folder_file_and_way_out(tmp_path, name, file):
    size = {"image_size": 224} if name == "imagenette" else {}
    with pytest.raises(DataError, match="no network in tests") as refusal:
        load_samples(name, root=tmp_path, **size)
    message = str(refusal.value)
    assert message.startswith(f"{name} is not in {tmp_path} (expected {file}) and cannot be downloaded (")
    assert "torchvision.datasets." in message
    assert message.endswith("or name another folder by root= or THINICE_DATA")
    assert "\n" not in message
    with pytest.raises(DataError, match=rf"{name} is not in .* and download=False") as refusal:
        load_samples(name, root=tmp_path, download=False, **size)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("download", [True, False])
@pytest.mark.parametrize("content", [b"", b"\x00\x00", b"<html>not found</html>", idx(np.zeros((2, 28, 28)))[:-1]])
def test_a_damaged_file_is_named(tmp_path, content, download):
    (write_mnist(tmp_path) / "t10k-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=rf"mnist in {tmp_path} is incomplete or damaged .*: remove .*MNIST and load"):
        load_samples("mnist", root=tmp_path, download=download)


def test_labels_and_images_must_be_as_many(tmp_path):
    (write_mnist(tmp_path) / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(19)))
    with pytest.raises(DataError, match=r"mnist in .* is damaged: `labels` must have the shape \(20,\)"):
        load_samples("mnist", root=tmp_path)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder whose files torchvision's MNIST downloads."""
    folder = tmp_path / "served"
    folder.mkdir()
    resources = []
    for file, content in mnist_files().items():
        packed = gzip.compress(content)
        (folder / f"{file}.gz").write_bytes(packed)
        resources.append((f"{file}.gz", hashlib.md5(packed).hexdigest()))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        monkeypatch.setattr(torchvision_sets.MNIST, "resources", resources)
        monkeypatch.setattr(torchvision_sets.MNIST, "mirrors", [f"http://127.0.0.1:{running.server_port}/"])
        yield folder
        running.shutdown()
        thread.join()


def test_downloads_once_with_progress_on_stderr(tmp_path, server, capfd):
    root = tmp_path / "new" / "root"
    first = load_samples("mnist", root=root)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "100" in shown.err
    shutil.rmtree(server)
    assert load_samples("mnist", root=root).fingerprint == first.fingerprint
    assert capfd.readouterr().err == ""


def test_what_a_download_prints_goes_to_stderr(capfd, request):
    request.addfinalizer(partial(socket.setdefaulttimeout, socket.getdefaulttimeout()))
    socket.setdefaulttimeout(7)
    with vision.shown_on_stderr():
        sys.stdout.write("Extracting")
        assert socket.getdefaulttimeout() == vision.SECONDS_WITHOUT_ANSWER
    assert socket.getdefaulttimeout() == 7
    assert capfd.readouterr() == ("", "Extracting")


def test_a_download_that_was_tampered_with_is_refused(tmp_path, server):
    (server / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(DataError, match=r"cannot be downloaded .*corrupted") as refusal:
        load_samples("mnist", root=tmp_path)
    assert "\n" not in str(refusal.value)
