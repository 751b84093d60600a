"""Loaders of the data sets that torchvision knows: read from its folder layout, downloaded where they are absent.

`ArraySet` serves those whose images have one size and fit into memory; Imagenette and ImageNet are trees of files.
"""

from __future__ import annotations

import pickle
import socket
import sys
import tarfile
import zlib
from collections import Counter
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from thinice.data.image_folder import read_tree
from thinice.data.samples import Pixels, Samples, as_labels, build_samples
from thinice.errors import DataError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from thinice.data import Request

__all__ = ["CIFAR10", "CIFAR100", "FASHION_MNIST", "MNIST", "SVHN", "ArraySet", "load_imagenet", "load_imagenette"]

FAILURES = (
    *(OSError, EOFError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AssertionError),
    *(pickle.UnpicklingError, tarfile.TarError, zlib.error),
)
"""What torchvision raises where files are absent, damaged or out of reach; urllib's errors are OSErrors."""

SECONDS_WITHOUT_ANSWER = 30.0
"""How long a server may be silent during a download: machines without a network often drop what is sent."""


@dataclass(frozen=True, slots=True)
class ArraySet:
    """A data set that torchvision reads into memory whole: uint8 images of one size.

    Attributes
    ----------
    torchvision : str
        The class in ``torchvision.datasets``.
    files : mapping
        Each split's image file under the root: what to look for.
    arguments : mapping
        Each split in torchvision's arguments.
    images : callable
        Torchvision's data set to (N, C, H, W) uint8.
    labels : str
        The attribute that holds the labels.
    classes : tuple of str or None
        The names, where torchvision's ``classes`` are not the ones to use.

    """

    torchvision: str
    files: Mapping[str, str]
    arguments: Mapping[str, Mapping[str, object]]
    images: Callable[[Any], Tensor]
    labels: str = "targets"
    classes: tuple[str, ...] | None = None

    def __call__(self, request: Request) -> Samples:
        """Return the wanted samples, their images kept as uint8."""
        split = request.split_among(tuple(self.files))
        raw = open_torchvision(request, self.torchvision, self.files[split], **self.arguments[split])
        images = self.images(raw)
        request.refuse_image_size(images.shape)
        try:
            labels = as_labels(getattr(raw, self.labels), len(images))
        except InputError as error:
            raise DataError(f"{request.name} in {request.root} is damaged: {error}") from error
        chosen, notes = request.choose(labels)
        return build_samples(
            Pixels(images[chosen]),
            labels[chosen],
            sample_ids=chosen,
            classes=self.classes or tuple(raw.classes),
            name=request.name,
            split=split,
            notes=notes,
        )


def _mnist_like(torchvision: str, classes: tuple[str, ...] | None = None) -> ArraySet:
    return ArraySet(
        torchvision,
        files={
            "test": f"{torchvision}/raw/t10k-images-idx3-ubyte",
            "train": f"{torchvision}/raw/train-images-idx3-ubyte",
        },
        arguments={"test": {"train": False}, "train": {"train": True}},
        images=lambda raw: raw.data[:, None],
        classes=classes,
    )


def _cifar_like(torchvision: str, test_file: str, train_file: str) -> ArraySet:
    return ArraySet(
        torchvision,
        files={"test": test_file, "train": train_file},
        arguments={"test": {"train": False}, "train": {"train": True}},
        images=lambda raw: torch.from_numpy(raw.data).permute(0, 3, 1, 2),
    )


_TEN_DIGITS = tuple("0123456789")

MNIST = _mnist_like("MNIST", _TEN_DIGITS)
FASHION_MNIST = _mnist_like("FashionMNIST")
CIFAR10 = _cifar_like("CIFAR10", "cifar-10-batches-py/test_batch", "cifar-10-batches-py/data_batch_1")
CIFAR100 = _cifar_like("CIFAR100", "cifar-100-python/test", "cifar-100-python/train")
SVHN = ArraySet(
    "SVHN",
    files={split: f"{split}_32x32.mat" for split in ("test", "train", "extra")},
    arguments={split: {"split": split} for split in ("test", "train", "extra")},
    images=lambda raw: torch.from_numpy(raw.data),
    labels="labels",
    classes=_TEN_DIGITS,
)

IMAGENETTE_FOLDERS = {"320px": "imagenette2-320", "full": "imagenette2", "160px": "imagenette2-160"}
IMAGENETTE_COUNTS = {"train": 9469, "val": 3925}
IMAGENET_COUNTS = {"train": 1_281_167, "val": 50_000}
IMAGENET_ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}


def load_imagenette(request: Request) -> Samples:
    """Return images of the ten-class part of ImageNet (J. Howard, github.com/fastai/imagenette).

    Whichever of the three sizes lies under the root is used, first that whose shorter side is 320, which is
    also the one that is downloaded. Its ``test`` split is ``val``.
    """
    split = validation_split(request)
    require_image_size(request)
    present = [size for size, name in IMAGENETTE_FOLDERS.items() if (request.root / name).is_dir()]
    size = present[0] if present else "320px"
    folder = request.root / IMAGENETTE_FOLDERS[size]
    raw = open_torchvision(request, "Imagenette", f"{folder.name}/{split}", split=split, size=size)
    return load_synsets(request, folder / split, split, raw.classes, IMAGENETTE_COUNTS[split])


def load_imagenet(request: Request) -> Samples:
    """Return images of ILSVRC 2012 from ``ROOT/imagenet``, or from the root itself where that is not there.

    Torchvision unpacks the archives in that folder on first use. ImageNet cannot be downloaded without an
    account. Its ``test`` split is ``val``.
    """
    from torchvision import datasets  # noqa: PLC0415 (takes a second)

    split = validation_split(request)
    require_image_size(request)
    root = request.root / "imagenet" if (request.root / "imagenet").is_dir() else request.root
    try:
        raw = datasets.ImageNet(root, split=split)
    except FAILURES as error:
        raise DataError(
            f"{request.name} is not in {root} ({one_line(error)}): get ILSVRC2012_devkit_t12.tar.gz and "
            f"{IMAGENET_ARCHIVES[split]} from https://image-net.org and put them there, "
            "name another folder by root= or THINICE_DATA, or use folder:PATH"
        ) from error
    return load_synsets(request, root / split, split, raw.classes, IMAGENET_COUNTS[split])


def load_synsets(request: Request, folder: Path, split: str, synonyms: Sequence[Sequence[str]], count: int) -> Samples:
    """Return the wanted images of a tree of WordNet ids, each class called by its first name."""
    tree = read_tree(folder)
    if len(tree.paths) != count or len(tree.classes) != len(synonyms):
        raise DataError(
            f"{request.name} in {folder} is incomplete: {len(tree.paths)} of {count} images; "
            "remove the folder and load again, or use folder:PATH for a part"
        )
    often = Counter(names[0] for names in synonyms)
    classes = tuple(
        names[0] if often[names[0]] == 1 else f"{names[0]} ({wordnet_id})"
        for names, wordnet_id in zip(synonyms, tree.classes, strict=True)
    )
    notes = ("split test: taken from val/",) if request.split == "test" else ()
    return tree.load(request, base=request.root, split=split, classes=classes, notes=notes)


def validation_split(request: Request) -> str:
    """Return the split, ``val`` for ``test``: the test labels of ImageNet were never published."""
    split = request.split_among(("test", "val", "train"))
    return "val" if split == "test" else split


def require_image_size(request: Request) -> None:
    """Raise `InputError` at once, not after an hour of reading: these images differ in size."""
    if request.image_size is None:
        raise InputError(
            f"{request.name} has images of different sizes: give image_size=224, or what the network takes "
            "(--image-size 224)"
        )


def open_torchvision(request: Request, kind: str, expected: str, **arguments: object) -> Any:  # noqa: ANN401 (untyped)
    """Return torchvision's data set: what lies under the root is used, else it is downloaded.

    Raises
    ------
    DataError
        Names the folder, what was looked for, the reason, and how to get the data set.
    """
    from torchvision import datasets  # noqa: PLC0415 (takes a second)

    root, opened = request.root, getattr(datasets, kind)
    try:
        return opened(root, download=False, **arguments)
    except FAILURES as error:
        if (root / expected).exists() and not request.download:
            raise damaged(request, expected, error) from error
        if not request.download:
            raise DataError(
                f"{request.name} is not in {root} (expected {expected}) and download=False: leave that out, "
                "or name another folder by root= or THINICE_DATA"
            ) from error
    try:
        with shown_on_stderr():
            return opened(root, download=True, **arguments)
    except FAILURES as error:
        if (root / expected).exists():
            raise damaged(request, expected, error) from error
        call = ", ".join(["'.'", "download=True", *(f"{key}={value!r}" for key, value in arguments.items())])
        raise DataError(
            f"{request.name} is not in {root} (expected {expected}) and cannot be downloaded "
            f"({one_line(error)}): run torchvision.datasets.{kind}({call}) where there is a network "
            "and copy what it writes, or name another folder by root= or THINICE_DATA"
        ) from error


def damaged(request: Request, expected: str, error: BaseException) -> DataError:
    """Return the error of a data set whose files are there, but not all or not as they should be."""
    return DataError(
        f"{request.name} in {request.root} is incomplete or damaged ({one_line(error)}): "
        f"remove {request.root / Path(expected).parts[0]} and load again"
    )


@contextmanager
def shown_on_stderr() -> Iterator[None]:
    """Send what a download prints to standard error, and end it when the server stays silent."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS_WITHOUT_ANSWER)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        socket.setdefaulttimeout(before)


def one_line(error: BaseException, most: int = 200) -> str:
    """Return an error's text on one line, not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else f"{text[:most]}…"
