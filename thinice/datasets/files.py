"""Image files as inputs: decoded on access, by threads, in order."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from thinice.datasets.checks import as_index
from thinice.datasets.inputs import shape_text
from thinice.errors import DataError
from thinice.paths import read_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from thinice.datasets.checks import Index
    from thinice.datasets.inputs import Digests

__all__ = ["ImageFiles", "read_files"]

THREADS = min(8, os.cpu_count() or 1)
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
        where = as_index(index, len(self))
        chosen = self.paths[where] if isinstance(where, slice) else tuple(self.paths[i] for i in where.tolist())
        return ImageFiles(chosen, self.height, self.width, self.image_size)

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


def read_files(paths: Sequence[str], image_size: int | None) -> tuple[ImageFiles, Digests]:
    """Return the files as inputs, and the content hash of each: of its bytes and `image_size`.

    Raises
    ------
    DataError
        Names the file that is no image, has more than eight bits a channel, or another size than the first
        one where no `image_size` makes them equal.
    """
    digests = np.empty(len(paths), np.uint64)
    first: tuple[int, int] | None = None
    for place, (path, (digest, size)) in enumerate(
        zip(paths, in_threads(lambda path: inspect(path, image_size), paths), strict=True)
    ):
        digests[place] = digest
        first = first or size
        if image_size is None and size != first:
            raise DataError(
                f"images differ in size: {paths[0]} has {first[0]}x{first[1]} pixels, {path} has "
                f"{size[0]}x{size[1]}: give image_size=224, or what the network takes (--image-size 224)"
            )
    width, height = first or (0, 0)
    if image_size is not None:
        width = height = image_size
    return ImageFiles(tuple(paths), height, width, image_size), digests


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
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)


def unreadable(path: str, error: BaseException) -> DataError:
    """Return the error of a file that is no image."""
    reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):  # its own text is an address in memory
        reason = f"none of {', '.join(FORMATS)}"
    return DataError(f"{path} cannot be read as an image ({reason}): repair or remove it")
