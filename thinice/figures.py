"""The figures of comparisons as files: PNG to look at, SVG to print."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thinice.comparison import Comparison
from thinice.errors import InputError
from thinice.plots import figure_set

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw", "save_figures"]

FORMATS = ("png", "svg")


def draw(comparison: Comparison) -> dict[str, Figure]:
    """Return the figures of a comparison by name: distribution, survival, security, roc, classes, gallery.

    The gallery is left out where no sample has an adversarial.

    Examples
    --------
    >>> import thinice
    >>> paths = thinice.example_checkpoints()
    >>> samples = thinice.load_samples("digits", limit=30)
    >>> result = thinice.compare(paths["dense"], paths["pruned-95"], samples, effort="quick", progress=False)
    >>> "gallery" in draw(result)
    True

    """
    shown = comparison.thinnest
    # a prediction that is not a number is wrong at every budget
    distances = np.where(comparison.dense_predictions < 0, np.float32(0), comparison.epsilon)
    return figure_set(
        comparison.epsilon,
        comparison.transitions,
        comparison.labels,
        norm=comparison.norm,
        classes=comparison.classes,
        networks={comparison.dense: distances},
        shown=[witness.position for witness in shown],
        inputs=np.stack([witness.inputs for witness in shown]) if shown else None,
        adversarials=np.stack([witness.adversarial for witness in shown]) if shown else None,
        adversarial_predictions=[witness.prediction for witness in shown],
        predictions=comparison.dense_predictions,
        pruned_predictions=comparison.pruned_predictions,
        sample_ids=comparison.sample_ids,
    )


def save_figures(comparisons: Sequence[Comparison], folder: str | Path) -> list[Path]:
    """Write the figures of comparisons into a folder, as ``PRUNED/NAME.png`` and ``.svg``, and return the paths.

    Each pruned network has its own folder, named after it; each file appears complete or not at all.

    Raises
    ------
    InputError
        Where the folder cannot be written.

    """
    written = []
    for comparison, name in zip(comparisons, _folder_names(comparisons), strict=True):
        place = Path(folder) / name
        try:
            place.mkdir(parents=True, exist_ok=True)
            for title, figure in draw(comparison).items():
                written += [_save(figure, place / f"{title}.{kind}") for kind in FORMATS]
        except OSError as error:
            raise InputError(f"`figures` {place} cannot be written: {error.strerror or error}") from None
    return written


def _save(figure: Figure, path: Path) -> Path:
    unborn = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        figure.savefig(unborn, format=path.suffix[1:], dpi=150, bbox_inches="tight")
        unborn.replace(path)
    finally:
        unborn.unlink(missing_ok=True)
    return path


def _folder_names(comparisons: Sequence[Comparison]) -> list[str]:
    """Return a safe and distinct folder name for each pruned network, whatever its file was called."""
    names: list[str] = []
    for comparison in comparisons:
        plain = re.sub(r"[^\w.-]+", "_", comparison.pruned).strip("._") or "pruned"
        name, k = plain, 2
        while name in names:
            name, k = f"{plain}-{k}", k + 1
        names.append(name)
    return names
