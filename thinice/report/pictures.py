"""Images of the samples: found by the data's recorded name, checked by content, packed into sprite sheets."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, features

from thinice.data import Samples, load_samples
from thinice.errors import DataError, InputError, ThinIceError
from thinice.report.facts import ComparisonFacts, Data, MeasurementFacts, brief
from thinice.store import Store, query, stored_adversarial
from thinice.types import Outcome, Transition

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CloseUps",
    "Pictures",
    "SpriteSheet",
    "amplification",
    "close_ups",
    "find_pictures",
    "pack",
    "pack_all",
    "pack_close",
]

MOST = 20_000
"""Of more samples than this the nearest have a picture."""
CELL, CLOSE_CELL = 32, 64
"""The longest side of a picture, in pixels: one of all, and one of the nearest."""
NEAREST, LOST = 150, 50
"""So many of the nearest samples are shown beside their adversarials, and of each comparison's lost ones."""
SHEET_BYTES, CLOSE_BYTES = 2_000_000, 500_000
"""What a sheet may weigh, before base64."""
RUNGS: tuple[tuple[int | None, float], ...] = (
    *((None, 1.0), (80, 1.0), (60, 1.0), (45, 1.0), (30, 1.0)),
    *((30, 0.75), (30, 0.5), (10, 0.5)),
)
"""WebP qualities (None: lossless) and scales, the best first: the first that fits is taken."""
NOTE = 500
"""Letters of the reason why there are no pictures: it may hold names of strangers."""
TRIAL = 400
"""Cells that are packed to estimate the weight of a sheet."""


@dataclass(frozen=True, slots=True)
class SpriteSheet:
    """Pictures side by side in one WebP file, row by row; each cell holds `parts` of them."""

    uri: str
    columns: int
    width: int
    height: int
    parts: tuple[str, ...]
    exact: bool
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The samples behind a selection, as far as they were found and are the very ones that were measured.

    `samples` are None where they are not, and `note` says why; `positions` (N,) leads from a sample of the selection
    to its place in `samples`, -1 where it has no picture.
    """

    samples: Samples | None
    positions: NDArray[np.int64]
    note: str

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the clean images (K, C, H, W) of these samples of the selection."""
        if self.samples is None:
            raise InputError("these samples have no pictures")
        images: NDArray[np.float32] = self.samples.inputs[self.positions[rows].tolist()].numpy()
        return images


@dataclass(frozen=True, slots=True, eq=False)
class CloseUps:
    """The nearest samples of one measurement with the adversarials that prove it, images (K, C, H, W)."""

    rows: NDArray[np.int64]
    inputs: NDArray[np.float32] | None
    adversarials: NDArray[np.float32]


def find_pictures(data: Data, nearest: NDArray[np.int64], given: Samples | str | None = None) -> Pictures:
    """Return the samples of a selection, every one checked against the digest that the store keeps of it.

    Parameters
    ----------
    data : Data
        The selection.
    nearest : ndarray
        (N,) its rows, those to be shown first in front: of very many, only the first get a picture.
    given : Samples or str, optional
        Where the images are, instead of the name under which the data were measured.

    Returns
    -------
    Pictures
        Without samples, and with the reason, where the data are gone, are others, or are no pictures.

    """
    nowhere = np.full(len(data.sample_ids), -1)
    channels = int(data.row["shape"][0])
    if channels not in (1, 3):
        return Pictures(None, nowhere, f"No pictures: samples have {channels} channels, neither grey nor colour.")
    if not features.check("webp"):
        return Pictures(None, nowhere, "No pictures: the installed Pillow cannot write WebP.")
    rows = np.sort(nearest[:MOST])
    try:
        samples = _chosen(given, data, rows) if isinstance(given, Samples) else _load(data, rows, given)
    except ThinIceError as error:
        return Pictures(None, nowhere, f"No pictures: {brief(str(error), NOTE)}.")
    nowhere[rows] = np.arange(len(rows))
    few = f"Only the {len(rows):,} samples nearest to the boundary have a picture." if len(rows) < len(nearest) else ""
    return Pictures(samples, nowhere, few)


def _load(data: Data, rows: NDArray[np.int64], name: str | None = None) -> Samples:
    """Return the samples by the name of their data set; image files in their own size, or in that of the store."""
    _, height, width = data.row["shape"]
    sizes: list[int | None] = [None, height] if height == width else [None]
    errors = []
    for size in sizes:
        try:
            samples = load_samples(
                name or data.name,
                split=data.row["split"],
                sample_ids=data.sample_ids[rows],
                image_size=size,
                download=False,
            )
            return _checked(samples, data, rows)
        except ThinIceError as error:
            errors.append(error)
    raise errors[0] if isinstance(errors[-1], InputError) else errors[-1]


def _chosen(given: Samples, data: Data, rows: NDArray[np.int64]) -> Samples:
    """Return those of the given samples that have the wanted ids."""
    index = {sample_id: k for k, sample_id in enumerate(given.sample_ids.tolist())}
    wanted = data.sample_ids[rows].tolist()
    absent = [sample_id for sample_id in wanted if sample_id not in index]
    if absent:
        raise DataError(f"the samples given lack {len(absent)} of those measured, such as {absent[0]}")
    return _checked(given[[index[sample_id] for sample_id in wanted]], data, rows)


def _checked(samples: Samples, data: Data, rows: NDArray[np.int64]) -> Samples:
    wrong = int((samples.digests != data.digests[rows]).sum())
    if wrong or list(samples.inputs.shape[1:]) != list(data.row["shape"]):
        raise DataError(
            f"what is called {samples.name} ({samples.split}) now is not what was measured: "
            f"{wrong:,} of {len(rows):,} samples differ"
        )
    return samples


def close_ups(
    store: Store, measured: MeasurementFacts, comparisons: Sequence[ComparisonFacts], pictures: Pictures
) -> CloseUps | None:
    """Return the nearest samples, and the nearest lost ones of each comparison, with their adversarials in the store.

    None where the store keeps no adversarial of them, or where they are no pictures.
    """
    if int(measured.data.row["shape"][0]) not in (1, 3) or not features.check("webp"):
        return None
    nearest_first = np.flatnonzero(measured.outcomes == Outcome.FOUND)
    nearest_first = nearest_first[np.argsort(measured.epsilon[nearest_first], kind="stable")]
    groups = [nearest_first[compared.transitions[nearest_first] == Transition.LOST][:LOST] for compared in comparisons]
    rows = np.unique(np.concatenate([nearest_first[:NEAREST], *groups]))
    key = {"measurement_id": measured.measurement_id, "ids": measured.data.sample_ids[rows].tolist()}
    stored = store.sql(query("adversarials_of_samples"), key)
    if stored.empty:
        return None
    shape = tuple(measured.data.row["shape"])
    adversarials = np.stack([stored_adversarial(blob, shape) for blob in stored["adversarial"]])
    rows = np.searchsorted(measured.data.sample_ids, stored["sample_id"].to_numpy())
    seen = pictures.samples is not None and bool((pictures.positions[rows] >= 0).all())
    return CloseUps(rows, pictures.images(rows) if seen else None, adversarials)


def amplification(close: CloseUps) -> NDArray[np.float32]:
    """Return (K,) by how much each perturbation is scaled until its largest change is black or white on grey."""
    if close.inputs is None:
        raise InputError("without clean pictures there are no perturbations")
    peak = np.abs(close.adversarials - close.inputs).max(axis=(1, 2, 3))
    scale: NDArray[np.float32] = np.divide(np.float32(0.5), peak, out=np.zeros_like(peak), where=peak > 0)
    return scale


def pack_all(pictures: Pictures, shown: NDArray[np.int64]) -> SpriteSheet | None:
    """Return one sheet of the clean pictures of those rows `shown` that have one, in their order."""
    if pictures.samples is None:
        return None
    rows = shown[pictures.positions[shown] >= 0]

    def cells(places: NDArray[np.int64], scale: float) -> NDArray[np.uint8]:
        return _shrunk(_bytes(pictures.images(rows[places])), CELL * scale)

    return pack(cells, len(rows), parts=("clean",), budget=SHEET_BYTES)


def pack_close(close: CloseUps) -> SpriteSheet:
    """Return one sheet in which each cell holds a clean picture, its amplified change, and the adversarial one."""
    rows: dict[str, NDArray[np.float32]] = {}
    if close.inputs is not None:
        rows["clean"] = close.inputs
        factor = amplification(close)[:, None, None, None]
        rows["change"] = np.float32(0.5) + factor * (close.adversarials - close.inputs)
    rows["adversarial"] = close.adversarials
    all_parts = [_bytes(images) for images in rows.values()]

    def cells(places: NDArray[np.int64], scale: float) -> NDArray[np.uint8]:
        return np.concatenate([_shrunk(part[places], CLOSE_CELL * scale) for part in all_parts], axis=2)

    return pack(cells, len(close.rows), parts=tuple(rows), budget=CLOSE_BYTES)


def pack(
    cells: Callable[[NDArray[np.int64], float], NDArray[np.uint8]], count: int, *, parts: tuple[str, ...], budget: int
) -> SpriteSheet:
    """Return a sheet of `count` cells in the best quality that weighs at most `budget` bytes, or in the least one.

    Parameters
    ----------
    cells : callable
        From places and a scale to their pixels (K, H, W, 3), all of one size.
    count : int
        How many cells there are.
    parts : tuple of str
        What a cell holds, from left to right, each of the same width.
    budget : int
        Bytes.

    """
    trial = np.unique(np.linspace(0, count - 1, min(count, TRIAL)).astype(np.int64))
    for quality, scale in RUNGS:
        encoded, *_ = _encoded(cells, trial, quality, scale)
        if len(encoded) * count / len(trial) <= 0.95 * budget:
            break
    encoded, columns, height, width = _encoded(cells, np.arange(count), quality, scale)
    uri = f"data:image/webp;base64,{base64.b64encode(encoded).decode('ascii')}"
    return SpriteSheet(
        uri, columns, width // len(parts), height, parts, exact=quality is None and scale == 1, size=len(encoded)
    )


def _encoded(
    cells: Callable[[NDArray[np.int64], float], NDArray[np.uint8]],
    places: NDArray[np.int64],
    quality: int | None,
    scale: float,
) -> tuple[bytes, int, int, int]:
    """Return a sheet of these cells as WebP, how many stand in a row, and their height and width."""
    first = cells(places[:1], scale)
    _, height, width, _ = first.shape
    columns = max(1, round((len(places) * height / width) ** 0.5))
    canvas = np.full((-(-len(places) // columns) * height, columns * width, 3), 128, np.uint8)
    for start in range(0, len(places), 256):
        for k, cell in enumerate(cells(places[start : start + 256], scale), start):
            y, x = divmod(k, columns)
            canvas[y * height : (y + 1) * height, x * width : (x + 1) * width] = cell
    file = io.BytesIO()
    image = Image.fromarray(canvas)
    if quality is None:
        image.save(file, "WEBP", lossless=True, quality=60)
    else:
        image.save(file, "WEBP", quality=quality, method=4)
    return file.getvalue(), columns, height, width


def _bytes(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return images (K, C, H, W) in [0, 1] as pixels (K, H, W, 3)."""
    pixels = np.round(np.clip(images, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels


def _shrunk(pixels: NDArray[np.uint8], side: float) -> NDArray[np.uint8]:
    """Return pictures whose longer side is at most `side`; smaller ones stay as they are."""
    _, height, width, _ = pixels.shape
    factor = side / max(height, width)
    if factor >= 1:
        return pixels
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.stack([np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX)) for picture in pixels])
