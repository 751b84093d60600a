"""Data sets: `load_samples` returns the `Samples` of a name or a path; `DATASETS` is the registry of their loaders.

A new data set is one file with a loader, a function of a `Request`, and one row of the registry.
"""

from __future__ import annotations

import difflib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from thinice.data.samples import LazyInputs, Samples, as_ids, as_samples, as_tensor
from thinice.data.subset import check_limit, draw, draw_note
from thinice.errors import DataError, InputError
from thinice.files import expanded
from thinice.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from thinice.data.samples import Numbers

__all__ = ["DATASETS", "LazyInputs", "Request", "Samples", "as_samples", "data_folder", "load_samples"]

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
        """Return the positions of the wanted samples among the available ones, and notes on them.

        These are the samples of `sample_ids`, or all; of these at most `limit` (`thinice.data.subset`). Only labels and
        ids are needed, no image.

        Parameters
        ----------
        labels : Tensor
            (N,) int64, of the available samples.
        ids : Tensor, optional
            (N,) int64, their ids in the untouched data set; 0 to N - 1 where not given.

        Raises
        ------
        InputError
            A wanted id is not among them.

        """
        ids = torch.arange(len(labels)) if ids is None else ids
        positions = torch.arange(len(ids))
        if self.sample_ids is not None:
            wanted = as_tensor(self.sample_ids, "sample_ids")
            if wanted.numel() == 0:
                raise InputError("`sample_ids` must not be empty: leave it out for all samples")
            wanted = as_ids(wanted, wanted.numel())
            order = torch.argsort(ids)
            positions = order[torch.searchsorted(ids[order], wanted).clamp(max=len(ids) - 1)]
            absent = wanted[ids[positions] != wanted].tolist()
            if absent:
                raise InputError(
                    f"`sample_ids` must lie in split {self.split!r} of {self.name} "
                    f"({len(ids)} samples, ids {int(ids.min())} to {int(ids.max())}), got {absent[0]}"
                    + (f" and {len(absent) - 1} more outside" if len(absent) > 1 else "")
                )
        if self.limit is None or self.limit >= len(positions):
            return positions, ()
        drawn = draw(ids[positions], labels[positions], self.limit)
        return positions[drawn], (draw_note(labels[positions], drawn),)

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


DATASETS: Registry[Callable[[Request], Samples]] = Registry(
    "data",
    {
        "digits": ("thinice.data.digits:load_digits", "1797 grey 8x8 digits, part of scikit-learn: no download"),
        "mnist": ("thinice.data.torchvision_sets:MNIST", "70 000 grey 28x28 digits"),
        "fashion-mnist": ("thinice.data.torchvision_sets:FASHION_MNIST", "70 000 grey 28x28 pictures of clothes"),
        "cifar10": ("thinice.data.torchvision_sets:CIFAR10", "60 000 colour 32x32 pictures of ten kinds"),
        "cifar100": ("thinice.data.torchvision_sets:CIFAR100", "60 000 colour 32x32 pictures of a hundred kinds"),
        "svhn": ("thinice.data.torchvision_sets:SVHN", "99 289 colour 32x32 house numbers, and 531 131 extra"),
        "imagenette": (
            "thinice.data.torchvision_sets:load_imagenette",
            "13 394 photographs of ten of ImageNet's classes",
        ),
        "imagenet": (
            "thinice.data.torchvision_sets:load_imagenet",
            "ILSVRC 2012, a thousand classes; bring the archives",
        ),
        "folder:PATH": ("thinice.data.image_folder:load_folder", "image files, one folder a class"),
        "npz:PATH": ("thinice.data.npz:load_npz", "images and labels in a NumPy archive"),
    },
    error=DataError,
)
"""Every kind of data set, as a user writes it: a loader turns a `Request` into `Samples`."""


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
        spelling, path = find_dataset(os.fspath(name))
        load = DATASETS.get(spelling)
        return load(
            Request(
                name=spelling.replace("PATH", str(path)),
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
        if isinstance(error, TimeoutError) and error.errno is None:  # a caller's, not of the system
            raise
        raise DataError(f"data set {os.fspath(name)} cannot be read: {error.strerror or error}") from error


def find_dataset(name: str) -> tuple[str, Path]:
    """Return the row of `DATASETS` that a name means, and the path in the name.

    Raises
    ------
    DataError
        Where there is none; it tells the nearest names.

    Examples
    --------
    >>> find_dataset("Fashion_MNIST")[0], find_dataset("npz:digits.npz")
    ('fashion-mnist', ('npz:PATH', PosixPath('digits.npz')))

    """
    kind, colon, rest = name.partition(":")
    spellings = {spelling.partition(":")[0]: spelling for spelling in DATASETS.names()}
    spelling = spellings.get(kind.lower().replace("_", "-"))
    if spelling is not None:
        if bool(colon) == bool(rest) == (":" in spelling):
            return spelling, expanded(rest, "data")
        raise DataError(f"data set {name!r}: write {spelling}")
    path = expanded(name, "data")
    if name and path.is_dir():
        return spellings["folder"], path
    if path.suffix == ".npz":
        return spellings["npz"], path
    near = difflib.get_close_matches(kind.lower(), spellings, n=2, cutoff=0.6)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    known = ", ".join(DATASETS.names())
    raise DataError(f"no data set and no folder or .npz file is called {name!r}{hint}; known: {known}")


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
