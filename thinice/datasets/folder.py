"""``folder:PATH``: a tree of image files with one folder a class."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from thinice.datasets.files import read_files
from thinice.datasets.samples import Samples, build_samples
from thinice.errors import DataError
from thinice.paths import unwritable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thinice.datasets.request import Request

__all__ = ["Tree", "load_folder", "read_tree"]

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""The file names that torchvision's ImageFolder takes for images, so that sample ids agree with it."""

ALTERNATIVES = {"test": ("test", "val"), "val": ("val", "test"), "train": ("train",)}
"""The folders that can serve as a split, the best first."""


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
        paths = [self.paths[place] for place in chosen.tolist()]
        inputs, digests = read_files(paths, request.image_size)
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
        for where, _, files in sorted(walk(folder / name)):
            found = [str(Path(where, file)) for file in sorted(files) if file.lower().endswith(ENDINGS)]
            paths += found
            labels += [label] * len(found)
    if not paths:
        raise DataError(
            f"folder {folder} has {len(classes)} class folders, but no image ({', '.join(ENDINGS)}) in them"
        )
    for path in (*classes, *paths):
        if unwritable(path):
            told = path.encode("utf-8", "backslashreplace").decode("ascii", "backslashreplace")
            raise DataError(f"folder {folder}: the name {told} is not UTF-8: rename it")
    return Tree(paths, labels, tuple(classes))


def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what `os.walk` does, through links too; or raise `DataError` where they lead to one folder twice."""

    def unreadable(error: OSError) -> None:
        raise DataError(f"folder {error.filename} cannot be read ({error.strerror}): repair or remove it")

    met: set[tuple[int, int]] = set()
    for where, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        status = Path(where).stat()
        if (status.st_dev, status.st_ino) in met:
            raise DataError(f"folder {where} is in {folder} twice, by a link: remove the link")
        met.add((status.st_dev, status.st_ino))
        yield where, folders, files
