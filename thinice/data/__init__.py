"""Data sets: a name or a path in, `Samples` out."""

from __future__ import annotations

import difflib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from thinice.data import torchvision_sets as vision
from thinice.data.digits import load_digits
from thinice.data.image_folder import load_folder
from thinice.data.npz import load_npz
from thinice.data.samples import LazyInputs, Samples, as_ids, as_samples, as_tensor
from thinice.data.subset import check_limit, draw, draw_note
from thinice.errors import DataError, InputError
from thinice.files import expanded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from thinice.data.samples import Numbers

__all__ = ["DATASETS", "DatasetRow", "LazyInputs", "Request", "Samples", "as_samples", "data_folder", "load_samples"]

MOST_PIXELS = 4096
"""One image of this side is 200 MB."""


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `load_samples`; `path` is what follows ``folder:`` or ``npz:``."""

    name: str
    path: Path
    split: str
    limit: int | None
    sample_ids: Numbers | None
    image_size: int | None
    root: Path
    download: bool

    def split_among(self, allowed: Sequence[str]) -> str:
        """Return the split, if the data set has it."""
        if self.split not in allowed:
            raise InputError(f"`split` of {self.name} must be one of {', '.join(allowed)}, got {self.split!r}")
        return self.split

    def choose(self, labels: Tensor, ids: Tensor | None = None) -> tuple[Tensor, tuple[str, ...]]:
        """Return positions among the available samples, and what is to be said of them.

        Those of the listed ids, or all; of these at most `limit` (`thinice.data.subset`). No image is needed for it.
        """
        ids = torch.arange(len(labels)) if ids is None else ids
        places = torch.arange(len(ids))
        if self.sample_ids is not None:
            wanted = as_tensor(self.sample_ids, "sample_ids")
            if wanted.numel() == 0:
                raise InputError("`sample_ids` must not be empty: leave it out for all samples")
            wanted = as_ids(wanted, wanted.numel())
            order = torch.argsort(ids)
            places = order[torch.searchsorted(ids[order], wanted).clamp(max=len(ids) - 1)]
            absent = wanted[ids[places] != wanted].tolist()
            if absent:
                raise InputError(
                    f"`sample_ids` must lie in split {self.split!r} of {self.name} "
                    f"({len(ids)} samples, ids {int(ids.min())} to {int(ids.max())}), got {absent[0]}"
                    + (f" and {len(absent) - 1} more outside" if len(absent) > 1 else "")
                )
        if self.limit is None or self.limit >= len(places):
            return places, ()
        drawn = draw(ids[places], labels[places], self.limit)
        return places[drawn], (draw_note(labels[places], drawn),)

    def refuse_image_size(self, shape: Sequence[int]) -> None:
        """Raise `InputError` where arrays, which are used as they are, are asked for in another size."""
        if self.image_size is not None and (self.image_size, self.image_size) != tuple(shape[-2:]):
            raise InputError(
                f"`image_size` is for image files; {self.name} has {shape[-2]}x{shape[-1]} pixels, "
                f"got {self.image_size}: leave it out"
            )


def check_image_size(image_size: int | None) -> None:
    """Raise `InputError` unless the size is None or a positive integer that images can be resized to."""
    if image_size is not None and (
        isinstance(image_size, bool) or not isinstance(image_size, int | np.integer) or image_size < 1
    ):
        raise InputError(f"`image_size` must be a positive number of pixels, got {image_size!r}")
    if image_size is not None and image_size > MOST_PIXELS:
        raise InputError(
            f"`image_size` must be at most {MOST_PIXELS} pixels, got {image_size}: networks take 32 to 600"
        )


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """How one kind of data set is named, described and loaded."""

    name: str
    summary: str
    load: Callable[[Request], Samples]
    takes_path: bool = False

    @property
    def spelling(self) -> str:
        """What a user writes: ``mnist``, ``folder:PATH``."""
        return f"{self.name}:PATH" if self.takes_path else self.name


DATASETS: Mapping[str, DatasetRow] = {
    row.name: row
    for row in (
        DatasetRow("digits", "1797 grey 8x8 digits, part of scikit-learn: no download", load_digits),
        DatasetRow("mnist", "70 000 grey 28x28 digits", vision.MNIST.load),
        DatasetRow("fashion-mnist", "70 000 grey 28x28 pictures of clothes", vision.FASHION_MNIST.load),
        DatasetRow("cifar10", "60 000 colour 32x32 pictures of ten kinds", vision.CIFAR10.load),
        DatasetRow("cifar100", "60 000 colour 32x32 pictures of a hundred kinds", vision.CIFAR100.load),
        DatasetRow("svhn", "99 289 colour 32x32 house numbers, and 531 131 extra", vision.SVHN.load),
        DatasetRow("imagenette", "13 394 photographs of ten of ImageNet's classes", vision.load_imagenette),
        DatasetRow("imagenet", "ILSVRC 2012, a thousand classes; bring the archives", vision.load_imagenet),
        DatasetRow("folder", "image files, one folder a class", load_folder, takes_path=True),
        DatasetRow("npz", "images and labels in a NumPy archive", load_npz, takes_path=True),
    )
}
"""Every kind of data set, by name."""


def load_samples(
    name: str | os.PathLike[str] = "digits",
    *,
    split: str = "test",
    limit: int | None = None,
    sample_ids: Numbers | None = None,
    image_size: int | None = None,
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> Samples:
    """Return the samples of a named data set, or of a path: images in [0, 1], labels and lasting ids.

    Parameters
    ----------
    name : str or path
        A name of `DATASETS`, ``folder:PATH`` (an image tree, one folder a class) or ``npz:PATH``; a path
        alone is enough where it is a folder or an ``.npz`` file.
    split : str
        ``"test"``, ``"train"``, and what else the data set has.
    limit : int, optional
        So many samples: as many of each class as can be, and the same ones every time; a smaller limit takes a part
        of those of a larger one. Their order and their ids are those of the whole data set.
    sample_ids : sequence of int, optional
        These samples, in this order; `limit` then takes some of them.
    image_size : int, optional
        For image files: the shorter side is resized to so many pixels (bilinear, antialiased), then the
        centre square is cropped. Needed where the images have different sizes.
    root : path, optional
        The folder with the data sets, in torchvision's layout; else the variable ``THINICE_DATA``,
        else the user's data folder (`data_folder`).
    download : bool
        Whether a data set that is not there may be downloaded.

    Raises
    ------
    DataError
        The data set is unknown, absent, damaged or not downloadable.
    InputError
        Another argument cannot be used.

    Examples
    --------
    >>> load_samples("digits", limit=100)
    <Samples digits/test: 100 x 1x8x8, 10 classes (10 of each), fingerprint 20c32a7fbdb5>
    >>> load_samples("digits", sample_ids=[1796, 0], split="all").sample_ids.tolist()
    [1796, 0]

    """
    check_limit(limit)
    check_image_size(image_size)
    try:
        row, path = find_dataset(os.fspath(name))
        return row.load(
            Request(
                name=f"{row.name}:{path}" if row.takes_path else row.name,
                path=path,
                split=split,
                limit=limit,
                sample_ids=sample_ids,
                image_size=image_size,
                root=expanded(root, "root") if root is not None else data_folder(),
                download=download,
            )
        )
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise DataError(f"data set {os.fspath(name)} cannot be read: {error.strerror or error}") from error


def find_dataset(name: str) -> tuple[DatasetRow, Path]:
    """Return the row that a name means, and the path in it; or raise `DataError` with the nearest names."""
    kind, colon, rest = name.partition(":")
    row = DATASETS.get(kind.lower().replace("_", "-"))
    if row is not None and row.takes_path == bool(rest) and row.takes_path == bool(colon):
        return row, expanded(rest, "data")
    if row is not None:
        raise DataError(f"data set {name!r}: write {row.spelling}")
    path = expanded(name, "data")
    if name and path.is_dir():
        return DATASETS["folder"], path
    if path.suffix == ".npz":
        return DATASETS["npz"], path
    near = difflib.get_close_matches(kind.lower(), DATASETS, n=2, cutoff=0.6)
    meant = f" (did you mean {' or '.join(near)}?)" if near else ""
    known = ", ".join(row.spelling for row in DATASETS.values())
    raise DataError(f"no data set and no folder or .npz file is called {name!r}{meant}; known: {known}")


def data_folder() -> Path:
    """Return where data sets are kept: ``THINICE_DATA``, else the platform's place for a user's data."""
    chosen = os.environ.get("THINICE_DATA")
    if chosen:
        return expanded(chosen, "THINICE_DATA")
    home = expanded("~", "THINICE_DATA")
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "thinice" / "data"
