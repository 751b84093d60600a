"""Loader of ``folder:PATH``, a tree of image files with one folder a class, which are decoded when they are used.

`read_tree` lists the files, `read_files` hashes them and reads their sizes, `ImageFiles` decodes a batch on access. The
files come from strangers: formats, sizes and what a decoder may raise are bounded.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from thinice.data.hashed_files import MANY, ROW, read_before, remember, table_of
from thinice.data.samples import Samples, as_index, build_samples, shape_text
from thinice.errors import DataError
from thinice.files import read_whole, unwritable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from thinice.data import Request
    from thinice.data.samples import Digests, Index

__all__ = ["ImageFiles", "Tree", "load_folder", "read_files", "read_tree"]

THREADS = min(8, os.cpu_count() or 1)
AT_ONCE = 4096
"""Files that the threads are given at a time: each that waits takes a kilobyte."""
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, NotImplementedError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
"""What Pillow raises for files that are damaged."""
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's readers that are asked, whatever a file is called: others run programs or have seen little use."""
LARGEST = 256 * 2**20
"""Bytes of an image file."""
LONGEST = 8192
"""Pixels of a side at which an image is used: a batch is a few hundred megabytes, at least."""

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""The file names that torchvision's ImageFolder takes for images, so that sample ids agree with it."""
ALTERNATIVES = {"test": ("test", "val"), "val": ("val", "test"), "train": ("train",)}
"""The folders that can serve as a split, the best first."""

Path_ = TypeVar("Path_")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ImageFiles:
    """Colour images in files; float32 in [0, 1] on access, grey ones with three equal channels.

    With `image_size` the shorter side is resized to it (bilinear with antialiasing, as Pillow does it) and
    the centre square is cropped: the steps and roundings of torchvision's ``Resize`` and ``CenterCrop``.
    """

    paths: tuple[str, ...]
    height: int
    width: int
    image_size: int | None

    @property
    def shape(self) -> torch.Size:
        """``(N, 3, H, W)``."""
        return torch.Size((len(self.paths), 3, self.height, self.width))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Index, /) -> Tensor:
        paths = self.select(index).paths
        pixels = np.empty((len(paths), 3, self.height, self.width), np.uint8)
        for image, decoded in zip(pixels, in_threads(self._decode, paths), strict=True):
            image[:] = decoded.transpose(2, 0, 1)
        return torch.from_numpy(pixels).to(torch.float32).div_(255)

    def select(self, index: Index, /) -> ImageFiles:
        """Return the chosen files, still unread."""
        positions = as_index(index, len(self))
        chosen = range(len(self))[positions] if isinstance(positions, slice) else positions.tolist()
        paths = tuple(self.paths[position] for position in chosen)
        return ImageFiles(paths, self.height, self.width, self.image_size)

    def __repr__(self) -> str:
        return f"<ImageFiles: {len(self)} x {shape_text(self.shape)}, decoded on access>"

    def _decode(self, path: str) -> NDArray[np.uint8]:
        try:
            with opened_image(read_whole(path, LARGEST)) as opened:
                image = opened.convert("RGB")
        except UNREADABLE as error:
            raise unreadable(path, error) from error
        if self.image_size is not None:
            image = resize_and_crop(path, image, self.image_size)
        if image.size != (self.width, self.height):
            raise DataError(
                f"{path} has {image.width}x{image.height} pixels, but had {self.width}x{self.height} "
                "when the samples were loaded: load them again"
            )
        return np.asarray(image)


def read_files(paths: Sequence[str], image_size: int | None, table: Path | None = None) -> tuple[ImageFiles, Digests]:
    """Return the files as inputs, and the content hash of each: of its bytes and `image_size`.

    Of very many files those that a `table` has from earlier are not read again (`thinice.data.hashed_files`).

    Raises
    ------
    DataError
        Names the file that is no image, has more than eight bits a channel, or another size than the first
        one where no `image_size` makes them equal.
    """
    rows, known = np.zeros(len(paths), ROW), np.zeros(len(paths), np.bool_)
    remembering = table is not None and len(paths) >= MANY
    if table is not None and remembering:
        rows, known = read_before(table, paths)
    unread = np.flatnonzero(~known).tolist()
    try:
        read = in_threads(lambda position: inspect(paths[position], image_size), unread)
        for position, (digest, (width, height)) in zip(unread, read, strict=True):
            rows["digest"][position], rows["width"][position], rows["height"][position] = digest, width, height
            known[position] = True
            if image_size is None:
                refuse_another_size(paths, rows, [position])
    finally:
        if table is not None and remembering and unread:
            remember(table, rows[known & (rows["state"] != 0)])
    if image_size is None:
        others = (rows["width"] != rows["width"][:1]) | (rows["height"] != rows["height"][:1])
        if others.any():
            refuse_another_size(paths, rows, np.flatnonzero(others).tolist())
        width, height = (int(rows[side][0]) if paths else 0 for side in ("width", "height"))
    else:
        width = height = image_size
    return ImageFiles(tuple(paths), height, width, image_size), rows["digest"].astype(np.uint64)


def refuse_another_size(paths: Sequence[str], rows: NDArray[np.void], positions: Sequence[int]) -> None:
    """Raise `DataError` where one of these files has another size than the first of all."""
    sizes = [f"{width}x{height}" for width, height in rows[[0, *positions]][["width", "height"]].tolist()]
    for position, size in zip(positions, sizes[1:], strict=True):
        if size != sizes[0]:
            raise DataError(
                f"images differ in size: {paths[0]} has {sizes[0]} pixels, {paths[position]} has "
                f"{size}: give image_size=224, or what the network takes (--image-size 224)"
            )


def inspect(path: str, image_size: int | None) -> tuple[int, tuple[int, int]]:
    """Return a file's content hash and its (width, height), read from its header."""
    try:
        content = read_whole(path, LARGEST)
        with opened_image(content) as image:
            size, mode, many = image.size, image.mode, has_many_bits(image, content)
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    if many:
        raise DataError(f"{path} has more than 8 bits a channel (mode {mode}): convert it to an 8-bit image")
    if min(size) < 1:
        raise DataError(f"{path} has {size[0]}x{size[1]} pixels: repair or remove it")
    if image_size is None and max(size) > LONGEST:
        raise DataError(f"{path} has {size[0]}x{size[1]} pixels: give image_size=224, or what the network takes")
    digest = hashlib.blake2b(f"file {image_size}".encode(), digest_size=8)
    digest.update(content)
    return int.from_bytes(digest.digest(), "little"), size


def opened_image(content: bytes) -> Image.Image:
    """Return an image whose header was read, of a format that images of data sets have."""
    Image.init()  # knows all formats
    return Image.open(io.BytesIO(content), formats=[name for name in FORMATS if name in Image.OPEN])


def has_many_bits(image: Image.Image, content: bytes) -> bool:
    """Return whether a channel has more than eight bits, which Pillow cuts to eight in silence where there are three.

    >>> [has_many_bits(opened_image(c), c) for c in (b"P6 1 1 255 " + bytes(3), b"P6 1 1 65535 " + bytes(6))]
    [False, True]
    """
    if image.mode.startswith(("I", "F")):
        return True
    if image.format == "PNG":
        return bool(content[24] > 8)  # after the signature and the width and height of the first chunk
    if image.format == "TIFF":
        bits = image.getexif().get(258, 1)  # BitsPerSample
        return bool(max(bits if isinstance(bits, tuple) else (bits,)) > 8)
    if isinstance(image, ImageFile) and image.format == "PPM":
        return any(isinstance(part, int) and part > 255 for part in image.tile[0].args or ())
    return False


def resize_and_crop(path: str, image: Image.Image, size: int) -> Image.Image:
    """Return the centre square of the image after its shorter side was resized to `size`."""
    shorter, width, height = min(image.size), image.width, image.height
    if size * max(image.size) // shorter > 8 * LONGEST:
        raise DataError(f"{path} has {width}x{height} pixels: too narrow to be resized to {size}")
    if shorter != size:
        image = image.resize((size * width // shorter, size * height // shorter), Image.Resampling.BILINEAR)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def in_threads(function: Callable[[Path_], Result], items: Sequence[Path_]) -> Iterator[Result]:
    """Yield the results in order; the first error ends the work that has not begun."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        for start in range(0, len(items), AT_ONCE):
            yield from pool.map(function, items[start : start + AT_ONCE])
    finally:
        pool.shutdown(cancel_futures=True)


def unreadable(path: str, error: BaseException) -> DataError:
    """Return the error of a file that is no image."""
    reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):  # its own text is an address in memory
        reason = f"none of {', '.join(FORMATS)}"
    return DataError(f"{path} cannot be read as an image ({reason}): repair or remove it")


@dataclass(frozen=True, slots=True)
class Tree:
    """The images under a folder of class folders, in the order of torchvision's ImageFolder."""

    paths: list[str]
    labels: list[int]
    classes: tuple[str, ...]

    def load(
        self,
        request: Request,
        *,
        base: Path,
        split: str,
        classes: tuple[str, ...] | None = None,
        notes: tuple[str, ...] = (),
    ) -> Samples:
        """Return the wanted samples; `base` is what their sources are relative to."""
        labels = torch.tensor(self.labels, dtype=torch.int64)
        chosen, drawn = request.choose(labels)
        paths = [self.paths[position] for position in chosen.tolist()]
        inputs, digests = read_files(paths, request.image_size, table_of(base, request.image_size))
        return build_samples(
            inputs,
            labels[chosen],
            sample_ids=chosen,
            classes=classes or self.classes,
            name=request.name,
            split=split,
            sources=tuple(Path(path).relative_to(base).as_posix() for path in paths),
            notes=(*notes, *drawn),
            digests=digests,
        )


def load_folder(request: Request) -> Samples:
    """Return the images of ``PATH/CLASS/*.jpg``, or of ``PATH/SPLIT/CLASS/*.jpg`` where there are splits.

    Classes and files are sorted by name, as in torchvision's ImageFolder; folders whose name starts with a
    dot are left out. Asked for ``test``, a tree that has ``val`` alone gives that, and the samples say so.
    Images are read as colour images, when they are used.
    """
    root = request.path
    if not root.is_dir():
        what = "is a file: give the folder above the class folders" if root.exists() else "does not exist"
        raise DataError(f"folder {root} {what}")
    split = find_split(root, request)
    folder = root if split == "all" else root / split
    tree = read_tree(folder)
    notes = [f"no split folders in {root}: all its images"] if split == "all" and request.split != "all" else []
    if split not in ("all", request.split):
        notes.append(f"split {request.split}: taken from {split}/")
    empty = [name for label, name in enumerate(tree.classes) if label not in set(tree.labels)]
    if empty:
        notes.append(f"classes without images: {', '.join(empty)}")
    return tree.load(request, base=root, split=split, notes=tuple(notes))


def find_split(root: Path, request: Request) -> str:
    """Return the split folder that serves the request, or ``"all"`` where the tree has none."""
    wanted = request.split_among(("test", "train", "val", "all"))
    present = [name for name in ALTERNATIVES if class_folders(root / name)]
    if not present:
        if wanted in ("test", "all"):
            return "all"
        raise DataError(f"folder {root} has no {wanted}/ with class folders: give split='all' for all its images")
    for name in ALTERNATIVES.get(wanted, ()):
        if name in present:
            return name
    raise DataError(f"folder {root} has no split {wanted!r}, but: {', '.join(present)}")


def class_folders(folder: Path) -> list[str]:
    """Return the names of the class folders, sorted; none where the folder itself is not there."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def read_tree(folder: Path) -> Tree:
    """Return all image files under the class folders; or `DataError` where there are none."""
    classes = class_folders(folder)
    if not classes:
        raise DataError(f"folder {folder} has no class folders: images must lie at {folder / 'CLASS' / 'image.jpg'}")
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        for directory, _, files in sorted(walk(folder / name)):
            images = [str(Path(directory, file)) for file in sorted(files) if file.lower().endswith(ENDINGS)]
            paths += images
            labels += [label] * len(images)
    if not paths:
        raise DataError(
            f"folder {folder} has {len(classes)} class folders, but no image ({', '.join(ENDINGS)}) in them"
        )
    for path in (*classes, *paths):
        if unwritable(path):
            printable = path.encode("utf-8", "backslashreplace").decode("ascii", "backslashreplace")
            raise DataError(f"folder {folder}: the name {printable} is not UTF-8: rename it")
    return Tree(paths, labels, tuple(classes))


def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what `os.walk` does, through links too; or raise `DataError` where they lead to one folder twice."""

    def unreadable(error: OSError) -> None:
        raise DataError(f"folder {error.filename} cannot be read ({error.strerror}): repair or remove it")

    visited: set[tuple[int, int]] = set()
    for directory, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        status = Path(directory).stat()
        if (status.st_dev, status.st_ino) in visited:
            raise DataError(f"folder {directory} is in {folder} twice, by a link: remove the link")
        visited.add((status.st_dev, status.st_ino))
        yield directory, folders, files
