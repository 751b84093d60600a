"""All figures of one comparison at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

from thinice.analysis.boundary_slice import boundary_slice
from thinice.errors import InputError
from thinice.files import temporary_folder, writable
from thinice.plots.classes import plot_class_losses
from thinice.plots.curves import QUANTITIES, plot_roc, plot_security, plot_sparsity, plot_survival
from thinice.plots.distributions import plot_distribution, plot_risk
from thinice.plots.images import CHANNELS, plot_boundary, plot_gallery
from thinice.plots.pairs import plot_pairs, plot_predictors
from thinice.results import Comparison
from thinice.types import Norm, Transition

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from thinice.analysis.boundary_slice import BoundarySlice
    from thinice.stats import PredictorComparison

__all__ = ["draw", "figure_set", "save_figures"]


def figure_set(
    epsilon: npt.ArrayLike,
    transition: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    norm: Norm = "linf",
    classes: Sequence[str] | None = None,
    budget: float | None = None,
    confidence: float = 0.95,
    networks: Mapping[str, npt.ArrayLike] | None = None,
    shown: npt.ArrayLike = (),
    inputs: npt.ArrayLike | None = None,
    adversarials: npt.ArrayLike | None = None,
    adversarial_predictions: npt.ArrayLike | None = None,
    predictions: npt.ArrayLike | None = None,
    pruned_predictions: npt.ArrayLike | None = None,
    sample_ids: npt.ArrayLike | None = None,
    pruned_epsilon: npt.ArrayLike | None = None,
    plane: BoundarySlice | None = None,
    rivals: PredictorComparison | None = None,
) -> dict[str, Figure]:
    """Return the figures of one comparison by name.

    Always distribution, risk, survival, security, roc, classes; with what they need also pairs, predictors, boundary,
    gallery.

    Parameters
    ----------
    epsilon, transition, labels
        (N,) of all samples compared: distance to the dense boundary, transition, true class.
    norm, classes, budget, confidence
        As of the single plots.
    networks
        Epsilons (N,) by network for the security curve; by default the dense network's alone.
    shown
        Positions (K,) among the samples of those in the gallery. The gallery is left out if there are none, or if
        the samples are no pictures: neither 1 nor 3 channels.
    inputs, adversarials
        (K, C, H, W) images of the gallery.
    adversarial_predictions
        (K,) classes of `adversarials` under the dense network.
    predictions, pruned_predictions, sample_ids
        (N,) classes of the clean inputs under both networks, and ids.
    pruned_epsilon
        (N,) distances to the pruned network's boundary, for pairs.
    plane
        A slice through a sample, for boundary.
    rivals
        Other quantities that might foretell a loss, for predictors.

    Returns
    -------
    dict of str to Figure
        Figures belong to no window; ``figure.savefig(path)`` writes one.

    Examples
    --------
    >>> sorted(figure_set([0.01, 0.02, 0.03], ["S1,0", "S1,1", "S1,1"], [0, 0, 1]))
    ['classes', 'distribution', 'risk', 'roc', 'security', 'survival']
    """
    column = np.asarray(epsilon)
    axes: dict[str, Axes] = {
        "distribution": plot_distribution(epsilon, transition, norm=norm),
        "risk": plot_risk(epsilon, transition, norm=norm, confidence=confidence),
        "survival": plot_survival(epsilon, transition, norm=norm, budget=budget, confidence=confidence),
        "security": plot_security(networks or {"dense": epsilon}, norm=norm, budget=budget, confidence=confidence),
        "roc": plot_roc(epsilon, transition, confidence=confidence),
        "classes": plot_class_losses(labels, transition, classes=classes, confidence=confidence),
    }
    if pruned_epsilon is not None:
        axes["pairs"] = plot_pairs(epsilon, pruned_epsilon, transition, norm=norm)
    if rivals is not None:
        axes["predictors"] = plot_predictors(rivals)
    if plane is not None:
        axes["boundary"] = plot_boundary(plane, classes=classes)
    rows = np.asarray(shown, dtype=np.int64)
    if len(rows) and (inputs is None or adversarials is None):
        raise InputError(f"`shown` names {len(rows)} samples: give their `inputs` and `adversarials` too")

    def of_shown(values: npt.ArrayLike | None) -> npt.NDArray[np.generic] | None:
        return None if values is None else np.asarray(values)[rows]

    if len(rows) and inputs is not None and adversarials is not None and np.shape(inputs)[1] in CHANNELS:
        axes["gallery"] = plot_gallery(
            inputs,
            adversarials,
            column[rows],
            norm=norm,
            predictions=of_shown(predictions),
            adversarial_predictions=adversarial_predictions,
            pruned_predictions=of_shown(pruned_predictions),
            transition=of_shown(transition),
            sample_ids=of_shown(sample_ids),
            classes=classes,
        )
    return {name: figure for name, ax in axes.items() if (figure := ax.get_figure(root=True)) is not None}


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
    shown = comparison.closest
    lost = sum(comparison.transitions[example.position] == Transition.LOST for example in shown)  # they come first
    return figure_set(
        comparison.epsilon,
        comparison.transitions,
        comparison.labels,
        norm=comparison.norm,
        classes=comparison.classes,
        budget=comparison.budget,
        networks=_security(comparison),
        pruned_epsilon=comparison.pruned_epsilon,
        shown=[example.position for example in shown],
        inputs=np.stack([example.inputs for example in shown]) if shown else None,
        adversarials=np.stack([example.adversarial for example in shown]) if shown else None,
        adversarial_predictions=[example.prediction for example in shown],
        predictions=comparison.dense_predictions,
        pruned_predictions=comparison.pruned_predictions,
        sample_ids=comparison.sample_ids,
        rivals=comparison.predictor_comparison(),
        plane=boundary_slice(comparison, lost // 2, resolution=FINE, device=device) if shown else None,
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
        with temporary_folder(place) as unfinished:
            return [
                _save(figure, place / f"{title}.{kind}", unfinished)
                for title, figure in figures.items()
                for kind in FORMATS
            ]
    except OSError as error:
        raise InputError(f"`figures` {place} cannot be written: {error.strerror or error}") from None


def _save(figure: Figure, path: Path, unfinished: Path) -> Path:
    writable(path, argument="figures", like=_is_picture, kind="a PNG or SVG picture")
    temporary_path = unfinished / path.name
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(temporary_path, format=path.suffix[1:], dpi=150, bbox_inches="tight")
    return temporary_path.replace(path)


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
