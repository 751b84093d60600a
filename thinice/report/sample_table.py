"""One Parquet file of all samples with their pictures, for programs that show such files."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from thinice.report.facts import ComparisonFacts, Data, read_facts
from thinice.report.pictures import find_pictures
from thinice.store import Store, open_store, query
from thinice.types import Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thinice.data import Samples

__all__ = ["export_samples"]

AT_ONCE = 256
"""Pictures that are read at a time."""
PICTURE_CHANNELS = {1, 3}
"""Grey and colour."""


def export_samples(
    store: Store | str | Path,
    path: str | Path,
    *,
    samples: Samples | str | None = None,
    overwrite: bool = False,
    timeout: float | None = None,
) -> tuple[Path, tuple[str, ...]]:
    """Return the Parquet file written, one row a sample and comparison, and why pictures are missing where they are.

    ``image`` and ``adversarial`` are structs of bytes (PNG) and path, as Hugging Face's data sets lay them out. The
    adversarial is rounded to 8 bits a channel for the eye; the store has it exactly. ``sha512`` is of the sample's
    float32 input in C order. Pictures are those of `save_report`: found under the recorded name, and shown only
    where they are, by their content, the samples that were measured; of more than 20 000, the nearest have one.

    Parameters
    ----------
    store : Store or path
        What to export.
    path : path
        The file to write, whole or not at all; it ends in ``.parquet``.
    samples : Samples or str, optional
        The images, or the name or path of their data set, where they are not found under the recorded name.
    overwrite : bool
        Replace a file that is there; never a store.
    timeout : float, optional
        Seconds after which the query is given up.

    Raises
    ------
    InputError
        When the store holds no comparison, or the file is there already.
    StoreError
        When there is no store, or the query takes longer than `timeout`.

    """
    opened = store if isinstance(store, Store) else open_store(store)
    comparisons = read_facts(opened).comparisons
    measurements = {compared.measured.measurement_id: compared.measured for compared in comparisons}
    selections = {compared.measured.data.row["dataset_id"]: compared.measured.data for compared in comparisons}
    pictures, adversarials, notes = Pngs("dataset_id", "sha512"), Pngs("measurement_id"), list[str]()
    for key, data in selections.items():
        found = find_pictures(data, _nearest_first(comparisons, data), samples)
        notes += [found.note] if found.note else []
        shown = np.flatnonzero(found.positions >= 0)
        for start in range(0, len(shown), AT_ONCE):
            rows = shown[start : start + AT_ONCE]
            for number, image in zip(data.sample_ids[rows].tolist(), found.images(rows), strict=True):
                content = hashlib.sha512(np.ascontiguousarray(image, dtype="<f4").tobytes()).hexdigest()
                pictures.add(key, number, image, f"{_stem(data)}-{number}.png", content)
    for key, measured in measurements.items():
        if int(measured.data.row["shape"][0]) in PICTURE_CHANNELS:
            stem = f"{_stem(measured.data)}-{measured.dense['name']}-{measured.norm}-{key}"
            kept = opened.adversarials(key, measured.data.sample_ids.tolist())
            for number, image in kept.items():
                adversarials.add(key, number, image, f"{_plain(stem)}-{number}.png")
    tables = {"pictures": pictures.frame(), "adversarial_pictures": adversarials.frame()}
    (file,) = opened.export(
        path, what=query("samples_for_viewers"), format="parquet", overwrite=overwrite, timeout=timeout, tables=tables
    )
    return file, tuple(dict.fromkeys(notes))


class Pngs:
    """Pictures as PNG files, with the key of what they belong to, row by row; `more` are further columns of text."""

    def __init__(self, key: str, *more: str) -> None:
        self._names = (key, "sample_id", "image", "path", *more)
        self._rows: list[tuple[int, int, bytes, str, *tuple[str, ...]]] = []

    def add(self, key: int, sample_id: int, image: NDArray[np.float32], path: str, *more: str) -> None:
        """Add a picture (C, H, W) in [0, 1] of a sample."""
        self._rows.append((key, sample_id, png(image), path, *more))

    def frame(self) -> pd.DataFrame:
        """Return the pictures as a table; numbers are numbers, also where there are no pictures."""
        table = pd.DataFrame(self._rows, columns=pd.Index(self._names), dtype=object)
        return table.astype({self._names[0]: np.int64, "sample_id": np.int64})


def png(image: NDArray[np.float32]) -> bytes:
    r"""Return a picture (C, H, W) in [0, 1], grey or in colour, as a PNG file of 8 bits a channel.

    >>> png(np.zeros((1, 2, 2), np.float32))[:4]
    b'\x89PNG'
    """
    pixels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def _nearest_first(comparisons: Sequence[ComparisonFacts], data: Data) -> NDArray[np.int64]:
    """Return the rows of the data, those nearest to any of the boundaries first."""
    epsilons = [
        np.where(compared.measured.outcomes == Outcome.FOUND, compared.measured.epsilon, np.inf)
        for compared in comparisons
        if compared.measured.data is data
    ]
    return np.asarray(np.argsort(np.min(epsilons, axis=0), kind="stable"))


def _stem(data: Data) -> str:
    return _plain(f"{Path(data.name).name}-{data.row['split']}")


def _plain(name: str) -> str:
    """Return a name that is one on any file system, for others gave it."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", name).lstrip(".") or "_"
