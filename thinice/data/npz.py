"""Loader of ``npz:PATH``: images and labels in a NumPy archive, read without pickle."""

from __future__ import annotations

import lzma
import tokenize
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.data.samples import Samples, as_classes, as_labels, as_pixels, as_tensor, build_samples
from thinice.errors import DataError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from thinice.data import Request

__all__ = ["load_npz"]

PAIRS = {
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
    "train": (("x_train", "y_train"), ("train_images", "train_labels")),
    "val": (("x_val", "y_val"), ("val_images", "val_labels")),
    "all": (("x", "y"), ("images", "labels")),
}
"""The keys of images and labels, by split."""
MOST_UNPACKED = 2**30
"""Bytes that any archive may hold; more only where they are not packed more tightly than `TIGHTEST`."""
TIGHTEST = 200
"""Times smaller than its content an honest archive may be: images shrink to a tenth, nearly empty ones to a hundredth,
while zeros alone shrink to a thousandth. No absolute limit is set: large archives, packed or not, are legitimate, and
what they take of memory the size of the file tells."""
UNREADABLE = (
    ValueError,  # headers, dtypes, Python objects
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    RuntimeError,  # encrypted; a way of packing that is not known or not built in; nested too deep
    MemoryError,  # the shape that a header claims
    OverflowError,
    TypeError,
    LookupError,  # a dtype of no or odd parts
    AttributeError,
    SyntaxError,
    tokenize.TokenError,
    SystemError,  # of the interpreter, for text in UTF-32 that is none
)
"""What NumPy and zipfile raise for a broken or hostile archive."""


def load_npz(request: Request) -> Samples:
    """Return the images and labels of an archive: ``x``, ``y``, or ``images``, ``labels``, or `PAIRS`.

    Images are uint8 (0 to 255) or floats in [0, 1], of the shape (N, H, W), (N, C, H, W) or (N, H, W, C);
    The samples' `notes` say which. An array ``classes`` of strings, where there is one, names the classes.
    """
    path = request.path
    images, labels, names, split = read_archive(path, request.split_among(tuple(PAIRS)))
    with blamed_on(path):
        images, layout = to_channels_first(images)
        if labels.ndim == 2 and labels.shape[1] == 1:  # as MedMNIST has them
            labels = labels[:, 0]
        truth = as_labels(labels, len(images))
        classes = as_classes(names, truth)
    request.refuse_image_size(images.shape)
    chosen, notes = request.choose(truth)
    with blamed_on(path):
        inputs = as_pixels(as_tensor(images[chosen.numpy()], "inputs"))
    note = f"{path.name}: images {layout}, {images.dtype}"
    if images.dtype == np.uint8:
        note += f" from {images.min()} to {images.max()}, divided by 255"
    return build_samples(
        inputs,
        truth[chosen],
        sample_ids=chosen,
        classes=classes,
        name=request.name,
        split=split,
        notes=(note, *notes),
    )


@contextmanager
def blamed_on(path: Path) -> Iterator[None]:
    """Turn what is wrong with the arrays into a `DataError` that names the file."""
    try:
        yield
    except InputError as error:
        raise DataError(f"{path}: {error}") from None


def read_archive(path: Path, split: str) -> tuple[NDArray[Any], NDArray[Any], list[str] | None, str]:
    """Return images, labels, class names and the split they belong to, without unpickling anything."""
    if path.is_dir():
        raise DataError(f"{path} is a folder: write folder:PATH")
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if not path.is_file():
        raise DataError(f"{path} is a pipe or device, not a regular file: copy its content to a file")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not an .npz archive: write it with numpy.savez(path, x=images, y=labels)")
    try:
        with np.load(path, allow_pickle=False) as archive:
            refuse_bomb(path, archive.zip)
            images_key, labels_key, split_read = find_keys(path, archive, split)
            keys = [images_key, labels_key, *(["classes"] if "classes" in archive else [])]
            images, labels, *names = (archive[key] for key in keys)
        classes = [str(name) for name in names[0].ravel()] if names else None
    except TimeoutError:  # an OSError that says nothing of the file
        raise
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "pickle" in reason:
            reason = "it holds Python objects, which are never unpickled: save plain arrays of numbers"
        raise DataError(f"{path} cannot be read: {reason}") from error
    for key, array in zip(keys, (images, labels, *names), strict=True):
        if not isinstance(array, np.ndarray):
            raise DataError(f"{path} cannot be read: {key} is not an array")
    return images, labels, classes, split_read


def refuse_bomb(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise DataError where a small file would fill the memory; zipfile reads no more than the sizes it declares."""
    unpacked, size = sum(member.file_size for member in archive.infolist()), path.stat().st_size
    if unpacked > max(MOST_UNPACKED, TIGHTEST * size):
        raise DataError(
            f"{path} cannot be read: its {size:,} bytes unpack to {unpacked:,}, more than images do: write it with "
            "numpy.savez, not packed"
        )


def find_keys(path: Path, archive: Mapping[str, object], split: str) -> tuple[str, str, str]:
    """Return the keys of images and labels and their split; arrays without a split serve ``test`` too."""
    for name in (split, "all") if split == "test" else (split,):
        for images, labels in PAIRS[name]:
            if images in archive and labels in archive:
                return images, labels, name
    wanted = " or ".join(", ".join(pair) for pair in PAIRS[split])
    raise DataError(f"{path} has no arrays {wanted}; keys found: {', '.join(archive) or 'none'}")


def to_channels_first(images: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Return (N, C, H, W) images and how they lay; where both readings are possible, channels come first.

    >>> to_channels_first(np.zeros((5, 32, 28, 3)))[1], to_channels_first(np.zeros((5, 28, 28)))[1]
    ('channels last', 'grey')
    """
    if images.size == 0:
        raise InputError(f"images must not be empty, got the shape {images.shape}")
    if images.ndim == 3:
        return images[:, None], "grey"
    if images.ndim != 4:
        raise InputError(f"images must have the shape (N, H, W), (N, C, H, W) or (N, H, W, C), got {images.shape}")
    _, first, middle, last = images.shape
    if first in (1, 3) or (last not in (1, 3) and middle == last):
        return images, "channels first"
    if last in (1, 3) or first == middle:
        return images.transpose(0, 3, 1, 2), "channels last"
    raise InputError(f"images of the shape {images.shape} have no axis of channels that can be told: save (N, C, H, W)")
