"""Distance files of the public benchmark in the store: claims of their authors, on samples that have to be stated."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.errors import InputError
from thinice.files import expanded, read_whole
from thinice.leaderboard.distance_files import LARGEST, MOST, beyond, parse_distances
from thinice.leaderboard.model_keys import ModelKey
from thinice.leaderboard.results import Protocol
from thinice.stats import wilson
from thinice.stats.area import CurveArea, curve_area
from thinice.store import Store, open_store, query
from thinice.types import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ImportedDistances", "import_distances", "imported_distances", "sample_ids_of"]

BUDGET, END = Protocol().budget, Protocol().curve_end
RANGE = re.compile(r"(\d{1,9}):(\d{1,9})")


@dataclass(frozen=True, slots=True, eq=False)
class ImportedDistances:
    """Distances of a file of the public benchmark, and what follows from them; claims, which nothing here has verified.

    Attributes
    ----------
    key : ModelKey
        The network.
    sample_ids, distances : ndarray
        (N,) in linf; 0 where the sample is misclassified, or where the attack found nothing: the file does not say
        which. Infinite where it says that nothing was found.
    source : str
        The file.

    """

    key: ModelKey
    sample_ids: NDArray[np.int64]
    distances: NDArray[np.float64]
    source: str

    @property
    def zeros(self) -> int:
        """Samples with distance 0: misclassified, or nothing was found."""
        return int((self.distances == 0).sum())

    def robust_at(self, budget: float = BUDGET) -> tuple[Interval, Interval]:
        """Return the intervals of the robust accuracy if all zeros are misclassified, and if all are failures."""
        n, robust = len(self.distances), int(beyond(self.distances, budget).sum())
        return wilson(robust, n), wilson(robust + self.zeros, n)

    @property
    def area(self) -> CurveArea:
        """The area under the security curve, zeros counted as misclassified."""
        return curve_area(np.where(np.isinf(self.distances), np.nan, self.distances), END)

    def to_dict(self) -> dict[str, Any]:
        """Return the facts in plain numbers and text."""
        worst, best = self.robust_at()
        n = len(self.distances)
        return {
            "model_key": str(self.key),
            "samples": n,
            "zeros": self.zeros,
            "not_found": int(np.isinf(self.distances).sum()),
            "robust_accuracy": float(beyond(self.distances, BUDGET).mean()),
            "low": worst.low,
            "high": best.high,
            "area": self.area.area,
            "area_low": self.area.interval.low,
            "area_high": self.area.interval.high,
            "source": self.source,
        }


def import_distances(
    path: str | Path,
    sample_ids: str | Sequence[int] | None,
    *,
    model_key: str | ModelKey | None = None,
    split: str = "test",
    store: Store | str | Path = "thinice.duckdb",
) -> ImportedDistances:
    """Return the distances of a file of the public benchmark, and keep them in the store beside what is measured here.

    Nothing in the file is carried out (`read_distances`). It does not say of which samples its distances are: that has
    to be stated. Its failures are zeros, and so are its misclassified samples.

    Parameters
    ----------
    path : path
        The pickle.
    sample_ids : str or sequence of int
        Of each distance: ``"2048:2176"``, from the first to before the last, as the public files have them; the
        ``results.json`` of an export; or the ids themselves.
    model_key : str or ModelKey, optional
        Of the network; by default the name of the file.
    split : str
        Part of the data set of the key.
    store : Store or path
        Where they go; those that it has of the same key are replaced.

    Raises
    ------
    InputError
        Where the file is no list of distances, or sample ids are missing, or not as many as distances.

    """
    path = expanded(path, "file")
    key = model_key if isinstance(model_key, ModelKey) else ModelKey.parse(model_key or path.stem)
    try:
        content = read_whole(path, LARGEST)
    except OSError as error:
        raise InputError(f"`file` {path} cannot be read: {error.strerror or error}") from None
    distances = parse_distances(content, f"`file` {path}")
    if sample_ids is None:
        raise InputError(
            f"`sample_ids` is missing: {path} has {len(distances)} distances and does not say of which samples; those "
            "of the public benchmark are of 2048:2176 of the test images (--sample-ids 2048:2176)"
        )
    ids = sample_ids_of(sample_ids, key) if isinstance(sample_ids, str) else np.asarray(sample_ids, np.int64)
    if len(ids) != len(distances):
        raise InputError(
            f"`sample_ids` names {len(ids)} samples, and {path} has {len(distances)} distances: give one for each"
        )
    digest = hashlib.sha256(content).hexdigest()
    opened = store if isinstance(store, Store) else open_store(store, new=True)
    with opened.run(device="cpu", seed=None, settings={"imported": str(path)}) as run:
        run.replace_imported_distances(str(key), ids, distances=distances, split=split, source=str(path), digest=digest)
    return ImportedDistances(key, ids, distances, str(path))


def imported_distances(store: Store) -> tuple[ImportedDistances, ...]:
    """Return all distances of other files that a store holds."""
    rows = store.sql(query("imported_distances"))
    return tuple(
        ImportedDistances(
            ModelKey.parse(str(key)),
            part["sample_id"].to_numpy(np.int64),
            part["distance"].to_numpy(np.float64),
            str(part["source"].iloc[0]),
        )
        for key, part in rows.groupby("model_key", sort=True)
    )


def sample_ids_of(text: str, key: ModelKey) -> NDArray[np.int64]:
    """Return the sample ids that a text names: a range, or the ``results.json`` of an export, or a JSON list.

    >>> key = ModelKey.parse("HYDRA_Sehwag2020Hydra_R18_CIFAR10_US_90")
    >>> sample_ids_of("2048:2051", key).tolist()
    [2048, 2049, 2050]
    """
    ends = RANGE.fullmatch(text)
    if ends is not None:
        first, end = int(ends[1]), int(ends[2])
        if not first < end <= first + MOST:
            raise InputError(f"`sample_ids` {text} is no range: 2048:2176 is from 2048 to 2175")
        return np.arange(first, end, dtype=np.int64)
    path = expanded(text, "sample_ids")
    if path.suffix != ".json":
        raise InputError(f"`sample_ids` must be a range such as 2048:2176, or a JSON file, got {text!r}")
    try:
        content = json.loads(read_whole(path, LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"`sample_ids` {path} cannot be read: {reason}") from None
    if isinstance(content, dict) and isinstance(content.get("models"), list):
        models = [each for each in content["models"] if isinstance(each, dict) and each.get("model_key") == str(key)]
        content = models[0].get("sample_ids") if models else None
    if not isinstance(content, list) or not all(type(each) is int and 0 <= each < 2**62 for each in content):
        raise InputError(f"`sample_ids` {path} holds no list of sample ids of {key}")
    return np.array(content, dtype=np.int64)
