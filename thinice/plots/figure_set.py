"""All figures of one comparison at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

from thinice.errors import InputError
from thinice.files import temporary_folder, writable
from thinice.plots.classes import plot_class_losses
from thinice.plots.curves import QUANTITIES, plot_roc, plot_security, plot_sparsity, plot_survival
from thinice.plots.distributions import plot_distribution, plot_intervals, plot_risk
from thinice.plots.images import CHANNELS, plot_boundary, plot_gallery
from thinice.plots.pairs import plot_pairs, plot_predictors
from thinice.results import Comparison
from thinice.types import Norm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from thinice.analysis.boundary_slice import BoundarySlice
    from thinice.results import AdversarialExample
    from thinice.stats import PredictorComparison

__all__ = ["ComparisonColumns", "draw", "figure_set", "folder_name", "save_figures", "write_figures"]


@dataclass(frozen=True, slots=True, eq=False)
class ComparisonColumns:
    """The columns of one comparison that figures show, one entry a sample.

    Attributes
    ----------
    epsilon, transitions, labels : array_like
        (N,) distance to the dense network's boundary, NaN where not found; transition; true class.
    norm, classes, budget
        The norm of epsilon, the names of the classes, and the radius of a robust basis.
    dense, pruned : str
        Names of the networks.
    dense_predictions, pruned_predictions, sample_ids : array_like, optional
        (N,) classes of the clean inputs, -1 where the logits are no numbers, and ids.
    pruned_epsilon : array_like, optional
        (N,) distance to the pruned network's own boundary, 0 where it is wrong.
    closest : sequence of AdversarialExample
        The samples of the gallery with their adversarials.
    predictors : PredictorComparison, optional
        How well epsilon and other quantities predict the lost samples.
    epsilon_lower : array_like, optional
        (N,) radii that were proved.

    """

    epsilon: npt.ArrayLike
    transitions: npt.ArrayLike
    labels: npt.ArrayLike
    norm: Norm = "linf"
    classes: Sequence[str] | None = None
    budget: float | None = None
    dense: str = "dense"
    pruned: str = "pruned"
    dense_predictions: npt.ArrayLike | None = None
    pruned_predictions: npt.ArrayLike | None = None
    sample_ids: npt.ArrayLike | None = None
    pruned_epsilon: npt.ArrayLike | None = None
    closest: Sequence[AdversarialExample] = ()
    predictors: PredictorComparison | None = None
    epsilon_lower: npt.ArrayLike | None = None

    @property
    def security(self) -> dict[str, NDArray[np.float64]]:
        """Epsilons (N,) of each network that was measured; a prediction that is no number is wrong at any budget."""
        curves = {self.dense: _wrong_at_once(self.epsilon, self.dense_predictions)}
        if self.pruned_epsilon is not None:
            curves[self.pruned] = _wrong_at_once(self.pruned_epsilon, self.pruned_predictions)
        return curves


def _wrong_at_once(epsilon: npt.ArrayLike, predictions: npt.ArrayLike | None) -> NDArray[np.float64]:
    """Return epsilon, 0 where the prediction is no number."""
    column = np.asarray(epsilon, np.float64)
    return column if predictions is None else np.where(np.asarray(predictions) < 0, 0.0, column)


def columns_of(comparison: Comparison) -> ComparisonColumns:
    """Return what figures show of a comparison, without its predictors."""
    return ComparisonColumns(
        comparison.epsilon,
        comparison.transitions,
        comparison.labels,
        norm=comparison.norm,
        classes=comparison.classes,
        budget=comparison.budget,
        dense=comparison.dense,
        pruned=comparison.pruned,
        dense_predictions=comparison.dense_predictions,
        pruned_predictions=comparison.pruned_predictions,
        sample_ids=comparison.sample_ids,
        pruned_epsilon=comparison.pruned_epsilon,
        closest=comparison.closest,
        epsilon_lower=comparison.epsilon_lower,
    )


def figure_set(
    comparison: ComparisonColumns, *, plane: BoundarySlice | None = None, confidence: float = 0.95
) -> dict[str, Figure]:
    """Return the figures of one comparison by name.

    Always distribution, risk, survival, security, roc, classes; with what they need also intervals, pairs, predictors,
    boundary, gallery. The gallery is left out if there are no samples for it, or if they are no pictures: neither 1
    nor 3 channels.

    Parameters
    ----------
    comparison : ComparisonColumns
        What to show.
    plane : BoundarySlice, optional
        A slice through a sample, for boundary.
    confidence : float
        As of the single plots.

    Returns
    -------
    dict of str to Figure
        Figures belong to no window; ``figure.savefig(path)`` writes one.

    Examples
    --------
    >>> columns = ComparisonColumns([0.01, 0.02, 0.03], ["S1,0", "S1,1", "S1,1"], [0, 0, 1])
    >>> sorted(figure_set(columns))
    ['classes', 'distribution', 'risk', 'roc', 'security', 'survival']
    """
    epsilon, transitions, norm = comparison.epsilon, comparison.transitions, comparison.norm
    budget, classes = comparison.budget, comparison.classes
    axes: dict[str, Axes] = {
        "distribution": plot_distribution(epsilon, transitions, norm=norm),
        "risk": plot_risk(epsilon, transitions, norm=norm, confidence=confidence),
        "survival": plot_survival(epsilon, transitions, norm=norm, budget=budget, confidence=confidence),
        "security": plot_security(comparison.security, norm=norm, budget=budget, confidence=confidence),
        "roc": plot_roc(epsilon, transitions, confidence=confidence),
        "classes": plot_class_losses(comparison.labels, transitions, classes=classes, confidence=confidence),
    }
    if comparison.epsilon_lower is not None:
        axes["intervals"] = plot_intervals(comparison.epsilon_lower, epsilon, norm=norm, budget=budget)
    if comparison.pruned_epsilon is not None:
        axes["pairs"] = plot_pairs(epsilon, comparison.pruned_epsilon, transitions, norm=norm)
    if comparison.predictors is not None:
        axes["predictors"] = plot_predictors(comparison.predictors)
    if plane is not None:
        axes["boundary"] = plot_boundary(plane, classes=classes)
    examples = comparison.closest
    if len(examples) and len(examples[0].inputs) in CHANNELS:
        positions = [example.position for example in examples]

        def of_examples(column: npt.ArrayLike | None) -> NDArray[np.generic] | None:
            return None if column is None else np.asarray(column)[positions]

        axes["gallery"] = plot_gallery(
            np.stack([example.inputs for example in examples]),
            np.stack([example.adversarial for example in examples]),
            np.asarray(epsilon)[positions],
            norm=norm,
            predictions=of_examples(comparison.dense_predictions),
            adversarial_predictions=[example.prediction for example in examples],
            pruned_predictions=of_examples(comparison.pruned_predictions),
            transition=of_examples(transitions),
            sample_ids=of_examples(comparison.sample_ids),
            classes=classes,
        )
    return {name: figure for name, ax in axes.items() if (figure := ax.get_figure(root=True)) is not None}


FORMATS = ("png", "svg")
LETTERS = 60
"""Of a network's name in that of its folder: file systems take 255 bytes, and a letter may be four."""


def draw(comparison: Comparison, *, plane: BoundarySlice | None = None) -> dict[str, Figure]:
    """Return the figures of a comparison by name.

    Always distribution, risk, survival, security, roc, classes and predictors; where a sample has an adversarial also
    the gallery, and with a `plane`, as of `thinice.boundary_slice`, the boundary. Where the distances of both networks
    were measured, pairs shows them, and security has both curves; where lower bounds were proved, intervals shows the
    band between proved and found.

    Examples
    --------
    >>> import thinice
    >>> paths = thinice.example_checkpoints()
    >>> samples = thinice.load_samples("digits", limit=30)
    >>> result = thinice.compare(paths["dense"], paths["pruned-95"], samples, attack="fmn", steps=20, progress=False)
    >>> {"gallery", "boundary"} <= set(draw(result, plane=thinice.boundary_slice(result, resolution=21)))
    True

    """
    columns = replace(columns_of(comparison), predictors=comparison.predictor_comparison())
    return figure_set(columns, plane=plane)


def save_figures(
    comparisons: Sequence[Comparison], folder: str | Path, *, planes: Sequence[BoundarySlice | None] = ()
) -> list[Path]:
    """Write the figures of comparisons into a folder, as ``PRUNED/NAME.png`` and ``.svg``, and return the paths.

    Each pruned network has its own folder, named after it. Several prunings also make series over sparsity, and, where
    the distances of all networks were measured, one picture of all security curves, in the folder itself. Each file
    appears complete or not at all. Text in SVG files is text.

    Parameters
    ----------
    comparisons : sequence of Comparison
        Made by `thinice.compare_all`.
    folder : path
        Is made where there is none.
    planes : sequence of BoundarySlice or None
        Of each comparison, for the boundary; without them there is no such figure.

    Raises
    ------
    InputError
        Where the folder cannot be written.

    """
    written: list[Path] = []
    names = _folder_names(comparisons)
    for comparison, name, plane in zip(comparisons, names, planes or [None] * len(names), strict=True):
        written += write_figures(draw(comparison, plane=plane), Path(folder) / name)
    if len({comparison.pruned_sparsity for comparison in comparisons}) > 1:
        drawn = {f"sparsity-{what}": plot_sparsity(comparisons, quantity=what) for what in QUANTITIES}
        series = {name: figure for name, ax in drawn.items() if (figure := ax.get_figure(root=True)) is not None}
        written += write_figures(series, Path(folder))
    if len(comparisons) > 1 and all(comparison.pruned_epsilon is not None for comparison in comparisons):
        first = comparisons[0]
        securities = [columns_of(comparison).security for comparison in comparisons]
        curves = {name: column for security in securities for name, column in security.items()}
        figure = plot_security(curves, norm=first.norm, budget=first.budget).get_figure(root=True)
        written += write_figures({} if figure is None else {"security": figure}, Path(folder))
    return written


def write_figures(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write figures into a folder, as ``NAME.png`` and ``.svg``, and return the paths."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder) as unfinished:
            return [
                _save(figure, folder / f"{title}.{kind}", unfinished)
                for title, figure in figures.items()
                for kind in FORMATS
            ]
    except OSError as error:
        raise InputError(f"`figures` {folder} cannot be written: {error.strerror or error}") from None


def _save(figure: Figure, path: Path, unfinished: Path) -> Path:
    writable(path, argument="figures", like=_is_picture, kind="a PNG or SVG picture")
    temporary_path = unfinished / path.name
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(temporary_path, format=path.suffix[1:], dpi=150, bbox_inches="tight")
    return temporary_path.replace(path)


def _is_picture(head: bytes) -> bool:
    return head.startswith(b"\x89PNG") or (head.startswith(b"<?xml") and b"<svg" in head)


def folder_name(network: str, *, otherwise: str) -> str:
    """Return a safe name for the folder of a network, whatever its file was called.

    >>> folder_name("../é net.pt", otherwise="network"), folder_name("...", otherwise="network")
    ('é_net.pt', 'network')
    """
    return re.sub(r"[^\w.-]+", "_", network).strip("._")[:LETTERS] or otherwise


def _folder_names(comparisons: Sequence[Comparison]) -> list[str]:
    """Return a safe and distinct folder name for each pruned network."""
    names: list[str] = []
    for comparison in comparisons:
        plain = folder_name(comparison.pruned, otherwise="pruned")
        name, k = plain, 2
        while name in names:
            name, k = f"{plain}-{k}", k + 1
        names.append(name)
    return names
