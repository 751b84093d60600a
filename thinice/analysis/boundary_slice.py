"""Planes through a sample and its two nearest adversarials, and the predictions of both networks on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from thinice.attacks.result import Model, predict
from thinice.errors import InputError
from thinice.losses import input_gradient, margin
from thinice.models import Classifier
from thinice.norms import NORM_TABLE
from thinice.numerics import exact, pick_device
from thinice.results import Comparison
from thinice.types import Norm, Transition

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BoundarySlice", "boundary_slice", "slice_networks", "typical_slice"]

COLINEAR = 1e-3
"""A second direction whose part perpendicular to the first is shorter than this share of it counts as the same."""
FINE = 41
"""Points a side of a figure's slice: lines between them look smooth, and large networks take their time."""
ROOM = 1.25
"""How much wider than the points and the ball the slice is."""

Image = Tensor | np.ndarray


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BoundarySlice:
    """Predictions and margins of two networks on a plane through a sample; made by `slice_networks`.

    Attributes
    ----------
    dense, pruned : str
        Names of the networks.
    norm : {"l0", "l1", "l2", "linf"}
        The norm of the distances.
    label : int
        The true class of the sample.
    across, up : ndarray
        (W,) and (H,) coordinates on the [0, 1] scale: distances from the sample along both axes, in `unit`.
    dense_predictions, pruned_predictions : ndarray
        (H, W) classes; -1 where a logit is NaN.
    dense_margins, pruned_margins : ndarray
        (H, W) true-class logit minus the best other: the boundary is where they are 0; NaN where a logit is.
    lengths : ndarray
        (H, W) distance of each point from the sample, in `norm`.
    points : ndarray
        (3, 2) coordinates of the sample, its dense and its pruned adversarial; NaN where there is none.
    epsilons : ndarray
        (2,) distances of the dense and of the pruned adversarial, in `norm`; NaN where there is none.
    directions : tuple of str
        What the axes lead to: ``"adversarial"``, ``"gradient"`` or ``"random"``, see `slice_networks`.

    """

    dense: str
    pruned: str
    norm: Norm
    label: int
    across: NDArray[np.float64]
    up: NDArray[np.float64]
    dense_predictions: NDArray[np.int64]
    pruned_predictions: NDArray[np.int64]
    dense_margins: NDArray[np.float64]
    pruned_margins: NDArray[np.float64]
    lengths: NDArray[np.float64]
    points: NDArray[np.float64]
    epsilons: NDArray[np.float64]
    directions: tuple[str, str]

    def __repr__(self) -> str:
        height, width = self.lengths.shape
        return f"<BoundarySlice {width} x {height}, {self.norm}: {self.dense} and {self.pruned}>"

    @property
    def unit(self) -> Norm:
        """The norm of the axes: `norm`, but l2 for l0, which does not grow along a line."""
        return axis_norm(self.norm)


def boundary_slice(
    comparison: Comparison, index: int = 0, *, reach: float | None = None, resolution: int = 101, device: str = "auto"
) -> BoundarySlice:
    """Return the predictions of both compared networks on a plane through one of the samples closest to the boundary.

    The plane contains the sample, its nearest adversarial for the dense network, and the nearest point at which the
    comparison's attack changes the pruned network's prediction: that one is searched for here.

    Parameters
    ----------
    comparison : Comparison
        Made by `thinice.compare`.
    index : int
        Index into `Comparison.closest`.
    reach, resolution, device
        As of `slice_networks`.

    Raises
    ------
    InputError
        Where `Comparison.closest` has no such index.

    """
    if not -len(comparison.closest) <= index < len(comparison.closest):
        raise InputError(f"`index` is {index}: {len(comparison.closest)} samples have an adversarial at hand")
    example, (dense, pruned), chosen = comparison.closest[index], comparison.networks, pick_device(device)
    inputs = torch.from_numpy(example.inputs.copy())[None].to(chosen)
    prediction = torch.tensor([int(comparison.pruned_predictions[example.position])], device=chosen)
    with exact(chosen):
        change = comparison.attack(
            pruned.to(chosen), inputs, prediction, torch.tensor([example.sample_id], device=chosen)
        )
    return slice_networks(
        dense,
        pruned,
        example.inputs,
        int(comparison.labels[example.position]),
        dense_adversarial=example.adversarial,
        pruned_adversarial=change.adversarials[0] if change.found[0] else None,
        norm=comparison.norm,
        reach=reach,
        resolution=resolution,
        device=device,
    )


def typical_slice(comparison: Comparison, *, device: str = "auto") -> BoundarySlice | None:
    """Return the plane around the middle one of the lost samples at hand, for a figure; None where none is at hand.

    It takes as long as some ten samples take to measure.
    """
    examples = comparison.closest
    lost = sum(comparison.transitions[example.position] == Transition.LOST for example in examples)  # they come first
    return boundary_slice(comparison, lost // 2, resolution=FINE, device=device) if examples else None


def slice_networks(
    dense: Classifier,
    pruned: Classifier,
    inputs: Image,
    label: int,
    *,
    dense_adversarial: Image | None = None,
    pruned_adversarial: Image | None = None,
    norm: Norm = "linf",
    reach: float | None = None,
    resolution: int = 101,
    device: str = "auto",
) -> BoundarySlice:
    """Return the predictions of two networks on the plane through a sample, its dense and its pruned adversarial.

    The first axis leads from the sample to its dense adversarial; the second is perpendicular to it (in the Euclidean
    sense) and leads to the pruned adversarial. Both are measured in the norm. An adversarial that is missing (the
    network has the sample wrong, or none was found) is replaced by that network's *gradient*: the direction in which
    the margin falls fastest, or rises, where the network is wrong. So is a second adversarial on the line to the first.
    A gradient that is zero, or on that line too, is replaced by a fixed *random* direction. Points that leave the box
    [0, 1] are clipped to it: every point shown is an image, and none lies farther from the sample than its coordinates
    say.

    Parameters
    ----------
    dense, pruned : Classifier
        The networks.
    inputs : Tensor or ndarray
        (C, H, W) the sample, in [0, 1].
    label : int
        Its true class.
    dense_adversarial, pruned_adversarial : Tensor or ndarray, optional
        (C, H, W) nearest adversarials for both networks.
    norm : {"l0", "l1", "l2", "linf"}
        Of the distances.
    reach : float, optional
        Half the width of the slice on the [0, 1] scale. By default there is room for the adversarials and for the
        ball around the sample that reaches to the dense one.
    resolution : int
        Points a side.
    device : str
        Where the networks run, as of `thinice.measure`.

    Raises
    ------
    InputError
        For images of different shape or outside [0, 1], a label that is no class, a resolution below 2, a reach
        that is missing (without adversarials) or not positive.

    Examples
    --------
    Two planes: dense is right where the first pixel is above 0.4, pruned where it is above 0.45.

    >>> from thinice.models import as_classifier
    >>> def threshold(value):
    ...     layer = torch.nn.Linear(2, 2)
    ...     _ = layer.weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    ...     _ = layer.bias.data.copy_(torch.tensor([0.0, value]))
    ...     return as_classifier(torch.nn.Sequential(torch.nn.Flatten(), layer))
    >>> sample, nearest = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.4, 0.5]]])
    >>> plane = slice_networks(threshold(0.4), threshold(0.45), sample, 0, dense_adversarial=nearest, resolution=5)
    >>> plane.directions, plane.epsilons.round(3).tolist()
    (('adversarial', 'random'), [0.1, nan])
    >>> plane.across.round(4).tolist()
    [-0.125, -0.0625, 0.0, 0.0625, 0.125]
    >>> plane.dense_predictions[2].tolist(), plane.pruned_predictions[2].tolist()
    ([0, 0, 0, 0, 1], [0, 0, 0, 1, 1])

    """
    chosen = pick_device(device)
    start = _image(inputs, "inputs", None)
    ends = [
        None if image is None else _image(image, name, start.shape)
        for name, image in (("dense_adversarial", dense_adversarial), ("pruned_adversarial", pruned_adversarial))
    ]
    networks = [dense.to(chosen), pruned.to(chosen)]
    if norm not in NORM_TABLE:
        raise InputError(f"`norm` is {norm!r}: the norms are {', '.join(NORM_TABLE)}")
    if isinstance(resolution, bool) or not isinstance(resolution, int) or resolution < 2:
        raise InputError(f"`resolution` must be a whole number of at least 2, got {resolution!r}")
    with exact(chosen):
        steepest = [_steepest(network, start.to(chosen), label, norm) for network in networks]
    deltas = [None if end is None else end - start for end in ends]
    first, first_name = _direction(deltas[0], steepest[0], None)
    second, second_name = _direction(deltas[1], steepest[1], first)
    measure = NORM_TABLE[axis_norm(norm)].length
    axes = torch.stack([axis / measure(axis[None]) for axis in (first, second)])
    points = np.array([[0.0, 0.0], *(_coordinates(delta, axes) for delta in deltas)])
    lengths = np.array([math.nan if delta is None else _length(delta, norm) for delta in deltas])
    across, up = _window(points, reach, resolution)
    rows = _rows(networks, start, axes, (across, up), label=label, norm=norm, device=chosen)
    return BoundarySlice(
        dense=dense.name,
        pruned=pruned.name,
        norm=norm,
        label=label,
        across=across,
        up=up,
        dense_predictions=rows[0].astype(np.int64),
        pruned_predictions=rows[1].astype(np.int64),
        dense_margins=rows[2],
        pruned_margins=rows[3],
        lengths=rows[4],
        points=points,
        epsilons=lengths,
        directions=(first_name, second_name),
    )


def axis_norm(norm: Norm) -> Norm:
    """Return the norm that axes are measured in: the same, but l2 for l0, which does not grow along a line."""
    return "l2" if norm == "l0" else norm


def _image(image: Image, name: str, shape: torch.Size | None) -> Tensor:
    """Return an image as float64 on the CPU; raise `InputError` where it is none."""
    pixels = torch.as_tensor(image if isinstance(image, Tensor) else np.array(image)).detach().to("cpu", torch.float64)
    if pixels.ndim != 3:
        raise InputError(f"`{name}` must be one image (C, H, W), got shape {tuple(pixels.shape)}")
    if shape is not None and pixels.shape != shape:
        raise InputError(f"`{name}` has shape {tuple(pixels.shape)} and `inputs` {tuple(shape)}: they must be alike")
    if not ((pixels >= 0) & (pixels <= 1)).all():  # false of NaN, too
        raise InputError(f"`{name}` must lie in [0, 1], got [{pixels.min():.3g}, {pixels.max():.3g}]")
    return pixels


def _steepest(network: Classifier, sample: Tensor, label: int, norm: Norm) -> Tensor:
    """Return the direction (C, H, W) to the network's boundary: down its margin, or up where it is wrong."""
    inputs = sample[None].float().requires_grad_()
    logits = network(inputs)
    if isinstance(label, bool) or not 0 <= label < logits.shape[1]:
        raise InputError(f"`label` {label!r} is no class of {network.name!r}: it knows 0 to {logits.shape[1] - 1}")
    value = margin(logits, torch.tensor([label], device=logits.device))
    slope = input_gradient(value, inputs).nan_to_num(0, 0, 0)
    row = NORM_TABLE["linf" if norm == "linf" else "l2"]  # the steepest step of l0 and l1 is a single pixel
    return (row.steepest(slope) * (1 if value.item() < 0 else -1)).view_as(sample).to("cpu", torch.float64)


def _direction(delta: Tensor | None, steepest: Tensor, first: Tensor | None) -> tuple[Tensor, str]:
    """Return the first of perturbation, gradient and random direction that is not along `first`, and its name.

    Of it, the part that is perpendicular to `first`.
    """
    random = torch.randn(
        steepest.shape, generator=torch.Generator().manual_seed(int(first is not None)), dtype=steepest.dtype
    )
    for direction, name in ((delta, "adversarial"), (steepest, "gradient"), (random, "random")):
        if direction is None:
            continue
        perpendicular = (
            direction if first is None else direction - first * ((direction * first).sum() / (first**2).sum())
        )
        if perpendicular.norm() > COLINEAR * direction.norm():
            return perpendicular, name
    raise InputError("`inputs` has a single value: there is no plane through it")


def _coordinates(delta: Tensor | None, axes: Tensor) -> tuple[float, float]:
    """Return the coordinates of a perturbation on two axes that are perpendicular to each other."""
    if delta is None:
        return math.nan, math.nan
    along_first, along_second = (float((delta * axis).sum() / (axis**2).sum()) for axis in axes)
    return along_first, along_second


def _length(delta: Tensor, norm: Norm) -> float:
    return float(NORM_TABLE[norm].length(delta[None]))


def _window(
    points: NDArray[np.float64], reach: float | None, resolution: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the coordinates of a square around the points and the ball of the dense adversarial."""
    known = points[~np.isnan(points[:, 0])]
    ball = np.nanmax([np.abs(points[1]).max(), 0.0])
    low, high = np.minimum(known.min(0), -ball), np.maximum(known.max(0), ball)
    if reach is None:
        reach = ROOM * float((high - low).max()) / 2
        if reach == 0:
            raise InputError("`reach` is missing: without an adversarial nothing says how wide the slice should be")
    if not 0 < reach < math.inf:
        raise InputError(f"`reach` must be a positive distance on the [0, 1] scale, got {reach!r}")
    steps = np.linspace(-1, 1, resolution) * reach
    middle = (low + high) / 2
    return middle[0] + steps, middle[1] + steps


def _rows(
    networks: list[Classifier],
    start: Tensor,
    axes: Tensor,
    window: tuple[NDArray[np.float64], NDArray[np.float64]],
    *,
    label: int,
    norm: Norm,
    device: torch.device,
) -> NDArray[np.float64]:
    """Return (5, H, W): predictions and margins of both networks, and lengths; a row of the plane at a time."""
    across, up = window
    right = torch.from_numpy(across).view(-1, 1, 1, 1) * axes[0]
    labels = torch.full((len(across),), label, device=device)
    table = np.empty((5, len(up), len(across)))
    with exact(device), torch.no_grad():
        for row, height in enumerate(up.tolist()):
            points = (start + right + height * axes[1]).clamp(0, 1)
            table[4, row] = NORM_TABLE[norm].length(points - start)
            images = points.to(device, torch.float32)
            for k, network in enumerate(networks):
                logits = network(images)
                table[k, row] = predict(_answering(logits), images).cpu()
                table[2 + k, row] = margin(logits, labels).cpu()
    return table


def _answering(logits: Tensor) -> Model:
    """Return a model that returns these logits, whatever it is asked."""
    return lambda _: logits
