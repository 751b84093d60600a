"""Control networks: other changes of the dense network than pruning, on the same samples, with the same epsilons.

A control needs predictions alone: the dense network's epsilons are there. The built-in one is Gaussian noise on the
weights that pruning could remove, scaled until the network disagrees with the dense one on as many samples as the
pruned one does. Its cost is some forward passes a sample: about 4 for each of five networks. Networks and predictions
go into the store, where the same command finds them again.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from thinice.analysis.measurement import forward
from thinice.errors import InputError
from thinice.models import Classifier, prunable_weights
from thinice.models.classifier import with_weights
from thinice.printable import shown
from thinice.stats import ControlComparison, compare_with_control

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thinice.analysis.session import MeasurementSession

__all__ = ["NOISE_NETWORKS", "add_control", "match_churn", "weight_noise", "with_weight_noise"]

NOISE_NETWORKS = 5
"""Draws of the built-in control."""
TOLERANCE = 0.05
"""The search for a scale ends where the disagreements are within this share of those that are wanted."""
PASSES = 16
"""Forward passes of a search at most; then the nearest scale is taken."""
FIRST_SCALE = 0.1
"""Noise of a tenth of the weights' size: the first that is tried."""


@dataclass(frozen=True, slots=True)
class ControlProgress:
    """How many networks of the built-in control are made, as `thinice.engines.progress` shows it."""

    title: str
    done: int
    passes: int
    total: int = NOISE_NETWORKS

    @property
    def text(self) -> str:
        """One line for people, without the title."""
        return f"{self.done}/{self.total} networks, {self.passes} forward passes"

    @property
    def line(self) -> str:
        """One line for people, with the title."""
        return f"{self.title}: {self.text}"


def weight_noise(dense: Classifier, seed: int, draw: int) -> dict[str, Tensor]:
    """Return Gaussian noise for each prunable weight of a network, as large as the weights of its layer are.

    Its standard deviation is the root mean square of the layer's weights, so that layers whose weights are small for
    others' being large are changed as much as these. The same for the same seed and draw, on any device.

    Examples
    --------
    >>> from thinice.models import as_classifier
    >>> dense = as_classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(400, 10)))
    >>> noise = weight_noise(dense, seed=0, draw=0)["1.weight"]
    >>> bool((noise.std() / dense.network[1].weight.square().mean().sqrt() - 1).abs() < 0.05)
    True
    """
    (state,) = np.random.SeedSequence([seed, draw]).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))
    return {
        name: torch.randn(weight.shape, generator=generator) * weight.detach().cpu().square().mean().sqrt()
        for name, weight in prunable_weights(dense.network).items()
    }


def with_weight_noise(dense: Classifier, noise: Mapping[str, Tensor], scale: float, draw: int = 0) -> Classifier:
    """Return the dense network with so much of the noise added to its weights, under a name that says so."""
    network = copy.deepcopy(dense.network)
    with torch.no_grad():
        for path, weight in prunable_weights(network).items():
            weight.add_(scale * noise[path].to(weight.device))
    return with_weights(
        dense,
        network,
        name=f"{dense.name} + noise {scale:.4g}, {draw + 1}",
        parent=dense.fingerprint,
        recipe=None,
        one_by_one=dense.one_by_one,
    )


def match_churn(changed: Callable[[float], int], wanted: int, first: float = FIRST_SCALE) -> float:
    """Return the scale at which about `wanted` predictions are `changed`; it grows with the scale, more or less.

    Doubled and halved until the number lies between two scales, then interpolated between their logarithms. Of at most
    `PASSES` scales that are tried, the one that comes nearest.

    Examples
    --------
    >>> scale = match_churn(lambda scale: int(1000 * scale), wanted=50)
    >>> 0.049 <= scale <= 0.0511
    True
    """
    tried: dict[float, int] = {}
    low, high, scale = 0.0, math.inf, first
    for _ in range(PASSES):
        tried[scale] = changed(scale)
        if abs(tried[scale] - wanted) <= TOLERANCE * wanted:
            break
        low, high = (scale, high) if tried[scale] < wanted else (low, scale)
        if low == 0:
            scale = high / 2
        elif math.isinf(high):
            scale = 2 * low
        elif high / low < 1 + 1e-6:
            break
        else:
            few, many = math.log(tried[low] + 0.5), math.log(tried[high] + 0.5)
            share = min(max((math.log(wanted) - few) / (many - few), 0.1), 0.9) if many > few else 0.5
            scale = low * (high / low) ** share
    return min(tried, key=lambda scale: (abs(tried[scale] - wanted), scale))


def add_control(
    session: MeasurementSession,
    comparison_id: int,
    dense: Classifier,
    given: Sequence[Classifier] | None,
    *,
    labels: NDArray[np.int64],
    epsilon: NDArray[np.float32],
    dense_predictions: NDArray[np.int64],
    pruned_predictions: NDArray[np.int64],
    seed: int,
) -> ControlComparison:
    """Return how the pruning compares with control networks, and note these in the store.

    Parameters
    ----------
    session, comparison_id
        Where the samples are, and what the control belongs to.
    dense
        The network before pruning.
    given
        The control networks; None makes them out of weight noise.
    labels, epsilon, dense_predictions, pruned_predictions
        (N,) of the samples, and of the dense and the pruned network on them.
    seed
        Of the noise.

    """
    wanted = int((pruned_predictions != dense_predictions).sum())
    networks: list[tuple[Classifier, float | None]] = []
    notes: tuple[str, ...] = ()
    if given is not None:
        networks = [(network, None) for network in given]
    elif not prunable_weights(dense.network):
        notes = (f"no control: {dense.name} has no prunable weights to add noise to; give a network",)
    elif wanted == 0:
        notes = ("no control: pruning changes no prediction",)
    else:
        known = session.running.control_scales(comparison_id, seed)
        networks = [*_noise_networks(session, dense, dense_predictions, wanted, seed=seed, known=known)]
    predictions = [session.predict(network).predictions for network, _ in networks]
    session.running.add_controls(
        comparison_id,
        [
            {"checkpoint_id": session.checkpoint(network), "scale": scale, "seed": None if scale is None else seed}
            for network, scale in networks
        ],
    )
    if not networks:
        return ControlComparison(0, None, np.empty(0), None, None, None, 0.95, notes)
    right = dense_predictions == labels
    lost = np.array([prediction[right] != labels[right] for prediction in predictions])
    control = compare_with_control(epsilon[right], pruned_predictions[right] != labels[right], lost)
    churn = float(np.mean([prediction != dense_predictions for prediction in predictions]))
    if given is None and abs(churn - wanted / len(labels)) > 2 * TOLERANCE * wanted / len(labels):
        notes = (f"the control changes {churn:.2%} of the predictions, pruning {wanted / len(labels):.2%}",)
    return replace(control, churn=churn, weight_noise=given is None, notes=(*control.notes, *notes))


def _noise_networks(
    session: MeasurementSession,
    dense: Classifier,
    predictions: NDArray[np.int64],
    wanted: int,
    *,
    seed: int,
    known: Sequence[float],
) -> Iterator[tuple[Classifier, float]]:
    """Yield the networks of the built-in control, that change so many of the dense predictions, and their scales.

    The scales are looked for, unless they are all `known`.
    """
    scale, passes, title = FIRST_SCALE, 0, f"{shown(dense.name)}, noise as control"

    def report(done: int) -> None:
        if session.report is not None:
            session.report(ControlProgress(title, done, passes))

    for draw in range(NOISE_NETWORKS):
        noise = weight_noise(dense, seed, draw)

        def changed(scale: float, noise: dict[str, Tensor] = noise, draw: int = draw) -> int:
            nonlocal passes
            report(draw)
            passes += 1
            logits = forward(with_weight_noise(dense, noise, scale), session.samples, session.engine)
            others = torch.where(logits.isnan().any(1), -1, logits.argmax(1)).numpy()
            return int((others != predictions).sum())

        scale = known[draw] if len(known) == NOISE_NETWORKS else match_churn(changed, wanted, scale)
        yield with_weight_noise(dense, noise, scale, draw), scale
    report(NOISE_NETWORKS)


def refuse_control(control: object, basis: str) -> None:
    """Raise `InputError` for a control on a basis that it does not have."""
    if control is not None and basis != "clean":
        raise InputError(
            '`control` compares predictions of clean samples: leave it out, or choose `basis` "clean" (--basis clean)'
        )
