"""All figures of one comparison at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thinice.errors import InputError
from thinice.plots.boundary import plot_boundary
from thinice.plots.classes import plot_class_losses
from thinice.plots.curves import plot_roc, plot_security, plot_survival
from thinice.plots.distribution import plot_distribution
from thinice.plots.gallery import CHANNELS, plot_gallery
from thinice.plots.pairs import plot_pairs
from thinice.plots.predictors import plot_predictors
from thinice.plots.risk import plot_risk
from thinice.types import Norm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from thinice.slices import BoundarySlice
    from thinice.stats import RivalPredictors

__all__ = ["figure_set"]


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
    rivals: RivalPredictors | None = None,
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
