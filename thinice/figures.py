"""The figures of comparisons as files: PNG to look at, SVG to print."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

from thinice.comparison import Comparison
from thinice.errors import InputError
from thinice.plots import figure_set, plot_security, plot_sparsity
from thinice.plots.sparsity import QUANTITIES
from thinice.types import Transition
from thinice.writing import nest, writable

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["draw", "save_figures"]

FORMATS = ("png", "svg")
FINE = 41
"""Points a side of the boundary's slice: lines between them look smooth, and large networks take their time."""


LETTERS = 60
"""Of a network's name in that of its folder: file systems take 255 bytes, and a letter may be four."""


def draw(comparison: Comparison, *, device: str = "auto") -> dict[str, Figure]:
    """Return the figures of a comparison by name.

    Always distribution, risk, survival, security, roc, classes and predictors. Where a sample has an adversarial also
    the gallery, and the boundary around the middle one of the lost samples at hand; `device` says where the networks
    run for that, which takes as long as some ten samples take to measure. Where the distances of both networks were
    measured, pairs shows them, and security has both curves.

    Examples
    --------
    >>> import thinice
    >>> paths = thinice.example_checkpoints()
    >>> samples = thinice.load_samples("digits", limit=30)
    >>> result = thinice.compare(paths["dense"], paths["pruned-95"], samples, effort="quick", progress=False)
    >>> {"gallery", "boundary"} <= set(draw(result))
    True

    """
    shown = comparison.thinnest
    lost = sum(comparison.transitions[witness.position] == Transition.LOST for witness in shown)  # they come first
    return figure_set(
        comparison.epsilon,
        comparison.transitions,
        comparison.labels,
        norm=comparison.norm,
        classes=comparison.classes,
        budget=comparison.budget,
        networks=_security(comparison),
        pruned_epsilon=comparison.pruned_epsilon,
        shown=[witness.position for witness in shown],
        inputs=np.stack([witness.inputs for witness in shown]) if shown else None,
        adversarials=np.stack([witness.adversarial for witness in shown]) if shown else None,
        adversarial_predictions=[witness.prediction for witness in shown],
        predictions=comparison.dense_predictions,
        pruned_predictions=comparison.pruned_predictions,
        sample_ids=comparison.sample_ids,
        rivals=comparison.rivals(),
        plane=comparison.boundary(lost // 2, resolution=FINE, device=device) if shown else None,
    )


def save_figures(comparisons: Sequence[Comparison], folder: str | Path, *, device: str = "auto") -> list[Path]:
    """Write the figures of comparisons into a folder, as ``PRUNED/NAME.png`` and ``.svg``, and return the paths.

    Each pruned network has its own folder, named after it. Several prunings also make series over sparsity, and, where
    the distances of all networks were measured, one picture of all security curves, in the folder itself. Each file
    appears complete or not at all. Text in SVG files is text. For `device` see `draw`.

    Raises
    ------
    InputError
        Where the folder cannot be written.

    """
    written: list[Path] = []
    for comparison, name in zip(comparisons, _folder_names(comparisons), strict=True):
        written += _write(draw(comparison, device=device), Path(folder) / name)
    if len({comparison.pruned_sparsity for comparison in comparisons}) > 1:
        drawn = {f"sparsity-{what}": plot_sparsity(comparisons, quantity=what) for what in QUANTITIES}
        series = {name: figure for name, ax in drawn.items() if (figure := ax.get_figure(root=True)) is not None}
        written += _write(series, Path(folder))
    if len(comparisons) > 1 and all(comparison.pruned_epsilon is not None for comparison in comparisons):
        first = comparisons[0]
        curves = {name: column for comparison in comparisons for name, column in _security(comparison).items()}
        figure = plot_security(curves, norm=first.norm, budget=first.budget).get_figure(root=True)
        written += _write({} if figure is None else {"security": figure}, Path(folder))
    return written


def _security(comparison: Comparison) -> dict[str, NDArray[np.float32]]:
    """Return the epsilons of each network that was measured; a prediction that is no number is wrong at any budget."""
    curves = {comparison.dense: np.where(comparison.dense_predictions < 0, np.float32(0), comparison.epsilon)}
    if comparison.pruned_epsilon is not None:
        wrong = comparison.pruned_predictions < 0
        curves[comparison.pruned] = np.where(wrong, np.float32(0), comparison.pruned_epsilon)
    return curves


def _write(figures: Mapping[str, Figure], place: Path) -> list[Path]:
    try:
        place.mkdir(parents=True, exist_ok=True)
        with nest(place) as unfinished:
            return [
                _save(figure, place / f"{title}.{kind}", unfinished)
                for title, figure in figures.items()
                for kind in FORMATS
            ]
    except OSError as error:
        raise InputError(f"`figures` {place} cannot be written: {error.strerror or error}") from None


def _save(figure: Figure, path: Path, unfinished: Path) -> Path:
    writable(path, argument="figures", like=_is_picture, kind="a PNG or SVG picture")
    unborn = unfinished / path.name
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(unborn, format=path.suffix[1:], dpi=150, bbox_inches="tight")
    return unborn.replace(path)


def _is_picture(head: bytes) -> bool:
    return head.startswith(b"\x89PNG") or (head.startswith(b"<?xml") and b"<svg" in head)


def _folder_names(comparisons: Sequence[Comparison]) -> list[str]:
    """Return a safe and distinct folder name for each pruned network, whatever its file was called."""
    names: list[str] = []
    for comparison in comparisons:
        plain = re.sub(r"[^\w.-]+", "_", comparison.pruned).strip("._")[:LETTERS] or "pruned"
        name, k = plain, 2
        while name in names:
            name, k = f"{plain}-{k}", k + 1
        names.append(name)
    return names
