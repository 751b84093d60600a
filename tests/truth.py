"""Networks with known answers: from paper, or from a solver that shares no code with any attack.

Everything is computed in float64 with NumPy and SciPy from the float32 weights that the attack sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import torch
from scipy.optimize import linprog, nnls
from torch import Tensor, nn

import thinice
from thinice.types import NORMS

SHAPE = (1, 4, 5)
"""Of 20 features as an image, for attacks that ask for one."""

Rows = list[tuple[np.ndarray, float]]
"""Linear inequalities ``a @ delta <= b``, as pairs (a, b)."""


@dataclass(frozen=True)
class Known:
    """A network, correctly classified inputs (N, 1, 1, D), their labels, and their true distances by norm."""

    model: nn.Module
    inputs: Tensor
    labels: Tensor
    distances: Mapping[str, np.ndarray]

    @property
    def sample_ids(self) -> Tensor:
        return torch.arange(len(self.labels))


class Solved(Mapping[str, np.ndarray]):
    """Distances by norm, each solved when it is first asked for: a solver takes up to seconds."""

    def __init__(self, solve: Callable[[str], list[float]]) -> None:
        """Return the distances that a function of the norm returns."""
        self.solve = cache(lambda norm: np.array(solve(norm)))

    def __getitem__(self, norm: str) -> np.ndarray:
        return self.solve(norm)

    def __iter__(self) -> Iterator[str]:
        return iter(NORMS)

    def __len__(self) -> int:
        return len(NORMS)


class Threshold(nn.Module):
    """Class 1 where the mean of 4 pixels exceeds a threshold: the linf distance is |mean - threshold|."""

    def __init__(self, threshold: float, *, hidden: bool = False) -> None:
        """Return the network, on demand without gradients."""
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.linear.weight.data = torch.tensor([[0.0] * 4, [0.25] * 4])
        self.linear.bias.data = torch.tensor([threshold, 0.0])
        self.hidden = hidden

    def forward(self, inputs: Tensor) -> Tensor:
        logits = self.linear(inputs.flatten(1))
        return logits.detach() if self.hidden else logits


MEANS = [0.1, 0.2, 0.43, 0.55, 0.58, 0.7, 0.8, 0.9]
LABELS = [0, 0, 0, 1, 1, 1, 0, 1]
"""A threshold of 0.5 is right on all but number 6; one of 0.6 loses 3 and 4, and gains none."""


def grey() -> thinice.Samples:
    """Return eight grey images, of which a `Threshold` sees no more than the mean."""
    inputs = torch.tensor(MEANS)[:, None, None, None].expand(-1, 1, 2, 2)
    return thinice.as_samples(inputs, torch.tensor(LABELS), classes=("dark", "light"), name="grey")


def _linear(weight: np.ndarray, bias: np.ndarray) -> nn.Module:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    return nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(requires_grad=False)


def _samples(model: nn.Module, points: np.ndarray, count: int, least: float) -> tuple[Tensor, Tensor]:
    """Return the first points that are clear of the boundary, with the class that the network gives them as label.

    So clear that the rounding of float32 logits, some 1e-6, is well under a thousandth of the margin.
    """
    inputs = torch.from_numpy(points.astype(np.float32)).reshape(len(points), 1, 1, -1)
    best, second = model(inputs).topk(2, 1).values.T
    clear = (best - second > least).nonzero().squeeze(1)[:count]
    assert len(clear) == count, "too few points clear of the boundary"
    return inputs[clear], model(inputs[clear]).argmax(1)


def _pairs(known: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    return known[1].weight.double().numpy(), known[1].bias.double().numpy()


def greedy_l0(gradient: np.ndarray, drop: float, point: np.ndarray) -> float:
    """Return how few entries of a point in [0, 1]^D have to change for a linear function to fall by ``drop``."""
    gains = np.sort(np.abs(gradient) * np.where(gradient > 0, point, 1 - point))[::-1]
    reached = np.cumsum(gains) >= drop
    return float(reached.argmax() + 1) if reached.any() else np.inf


def in_the_box(gradient: np.ndarray, drop: float, point: np.ndarray, norm: str) -> float:
    """Return the distance within [0, 1]^D to where a linear function has fallen by ``drop``, from a general solver."""
    dimensions = len(point)
    if norm == "l0":
        return greedy_l0(gradient, drop, point)
    if norm == "l1":  # delta = up - down
        room = [(0, 1 - value) for value in point] + [(0, value) for value in point]
        found = linprog(np.ones(2 * dimensions), A_ub=np.r_[gradient, -gradient][None], b_ub=[-drop], bounds=room)
        return found.fun if found.success else np.inf
    room = [(-value, 1 - value) for value in point]
    if norm == "linf":  # the last variable is the length
        unit, ones = np.eye(dimensions), np.ones((dimensions, 1))
        sides = np.vstack([np.c_[unit, -ones], np.c_[-unit, -ones], np.r_[gradient, 0]])
        limits = np.r_[np.zeros(2 * dimensions), -drop]
        found = linprog(np.r_[np.zeros(dimensions), 1], A_ub=sides, b_ub=limits, bounds=[*room, (0, None)])
        return found.fun if found.success else np.inf
    return quadratic([(gradient, -drop)], point)


def quadratic(rows: Rows, point: np.ndarray) -> float:
    """Return the least l2 length of a delta in the box with ``a @ delta <= b`` for all rows; inf if there is none.

    Least distance programming by non-negative least squares (Lawson and Hanson, Solving Least Squares Problems, 1974,
    chapter 23): the residual of ``[G, h] u = [0, 1]`` holds the nearest point with ``G.T @ delta >= h``.
    """
    unit = np.eye(len(point))
    sides = np.vstack([-np.array([row for row, _ in rows]), unit, -unit])
    ends = np.r_[-np.array([limit for _, limit in rows]), -point, point - 1]
    weights, residual = nnls(np.vstack([sides.T, ends]), np.r_[np.zeros(len(point)), 1.0], maxiter=10_000)
    if residual < 1e-9:
        return np.inf
    rest = np.vstack([sides.T, ends]) @ weights - np.r_[np.zeros(len(point)), 1.0]
    return float(np.linalg.norm(rest[:-1] / rest[-1]))


def half_space(*, features: int = 20, count: int = 32, seed: int = 0) -> Known:
    """Return two classes that meet at a plane, and points so near it that no box is in the way (but for l0)."""
    return linear(classes=2, features=features, count=count, seed=seed)


def linear(
    *,
    classes: int,
    features: int = 20,
    count: int = 32,
    seed: int = 0,
    spread: float = 0.1,
    shape: tuple[int, ...] | None = None,
) -> Known:
    """Return classes that meet at planes, and points in the middle of the box, whose nearest plane is inside it.

    l1, l2, linf: the least ``|margin| / |w_y - w_j|`` in the dual norm; l0 always meets the box: greedy counting.
    Points within a larger ``spread`` of the middle lie farther from the planes. Inputs may have an image's ``shape``.
    """
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=(classes, features))
    model = _linear(weight, -weight.sum(1) / 2)
    inputs, labels = _samples(model, 0.5 + spread * generator.uniform(-1, 1, (50 * count, features)), count, 0.2)
    inputs = inputs if shape is None else inputs.view(count, *shape)
    weight, bias = _pairs(model)

    def solve(norm: str) -> list[float]:
        distances = []
        for point, label in zip(inputs.flatten(1).double().numpy(), labels.tolist(), strict=True):
            gradients = np.delete(weight[label] - weight, label, 0)
            margins = gradients @ point + np.delete(bias[label] - bias, label)
            if norm == "l0":
                distances.append(min(greedy_l0(g, m, point) for g, m in zip(gradients, margins, strict=True)))
            else:
                dual = {"l1": np.inf, "l2": 2, "linf": 1}[norm]
                distances.append((margins / np.linalg.norm(gradients, dual, axis=1)).min())
        return distances

    return Known(model, inputs, labels, Solved(solve))


def linear_at_the_box(*, classes: int = 3, features: int = 24, count: int = 16, seed: int = 0) -> Known:
    """Return linear classes and points many of whose entries are exactly 0 or 1: the box bends the shortest way."""
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=(classes, features))
    model = _linear(weight, -weight.sum(1) / 2)
    points = np.clip(generator.uniform(-0.6, 1.6, (50 * count, features)), 0, 1)
    inputs, labels = _samples(model, points, count, 2.0)
    weight, bias = _pairs(model)

    def solve(norm: str) -> list[float]:
        distances = []
        for point, label in zip(inputs.flatten(1).double().numpy(), labels.tolist(), strict=True):
            gradients = np.delete(weight[label] - weight, label, 0)
            margins = gradients @ point + np.delete(bias[label] - bias, label)
            distances.append(min(in_the_box(g, m, point, norm) for g, m in zip(gradients, margins, strict=True)))
        return distances

    return Known(model, inputs, labels, Solved(solve))


@cache
def tiny_relu(*, features: int = 3, hidden: int = 5, classes: int = 3, count: int = 8, seed: int = 0) -> Known:
    """Return a network with one hidden layer of ReLUs, small enough that all its linear regions can be searched.

    In the region where exactly a given set of hidden units is active, the network is linear; the nearest point there
    of another class is a linear programme (l1, linf), a quadratic one (l2), or a linear programme for each set of
    entries that may change (l0). The distance is the least over all regions and all other classes.
    """
    generator = np.random.default_rng(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes)).eval()
    model.requires_grad_(requires_grad=False)
    first, last = model[1], model[3]
    first.weight.copy_(torch.from_numpy(generator.normal(size=(hidden, features)) * 2))
    first.bias.copy_(-first.weight.sum(1) / 2 + torch.from_numpy(generator.normal(size=hidden) * 0.3))
    last.weight.copy_(torch.from_numpy(generator.normal(size=(classes, hidden))))
    points = generator.uniform(0, 1, (50 * count, features))
    hiddens = model[:3](torch.from_numpy(points.astype(np.float32)))
    last.bias.copy_(-(last.weight @ hiddens.mean(0)))  # each class has its share of the box
    inputs, labels = _samples(model, points, count, 0.2)
    patterns = cache(lambda: _feasible_patterns(first.weight.double().numpy(), first.bias.double().numpy()))

    def solve(norm: str) -> list[float]:
        distances = []
        for point, label in zip(inputs.flatten(1).double().numpy(), labels.tolist(), strict=True):
            regions = _regions(model, patterns(), point, label)
            nearest = _fewest(regions, point) if norm == "l0" else min(_nearest_in(r, point, norm) for r in regions)
            distances.append(nearest)
        return distances

    return Known(model, inputs, labels, Solved(solve))


def _feasible_patterns(weight: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
    """Return which hidden units are active, for each such set that some point of the box has."""
    patterns = (np.array(pattern, dtype=float) for pattern in np.ndindex(*[2] * len(bias)))
    return [pattern for pattern in patterns if _is_feasible(*_walls(pattern, weight, bias), [(0, 1)] * weight.shape[1])]


def _walls(pattern: np.ndarray, weight: np.ndarray, at_point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix and limits of a pattern's region: active units at least 0, the others at most."""
    signs = np.where(pattern > 0, -1.0, 1.0)
    return signs[:, None] * weight, -signs * at_point


def _is_feasible(matrix: np.ndarray, limits: np.ndarray, room: list[tuple[float, float]]) -> bool:
    return bool(linprog(np.zeros(matrix.shape[1]), A_ub=matrix, b_ub=limits, bounds=room).success)


def _regions(model: nn.Module, patterns: list[np.ndarray], point: np.ndarray, label: int) -> list[Rows]:
    """Return, for each region and other class, the rows ``a @ delta <= b`` of where that class wins over the label."""
    w1, b1 = model[1].weight.double().numpy(), model[1].bias.double().numpy()
    w2, b2 = model[3].weight.double().numpy(), model[3].bias.double().numpy()
    at_point, regions = w1 @ point + b1, []
    for pattern in patterns:
        matrix, limits = _walls(pattern, w1, at_point)
        slopes, logits = (w2 * pattern) @ w1, (w2 * pattern) @ at_point + b2
        for other in set(range(len(b2))) - {label}:
            wins = (slopes[label] - slopes[other], logits[other] - logits[label])
            regions.append([*zip(matrix, limits, strict=True), wins])
    return regions


def _fewest(regions: list[Rows], point: np.ndarray) -> float:
    """Return how few entries have to change: the smallest set that, left free, reaches one of the regions."""
    systems = [(np.array([row for row, _ in rows]), np.array([limit for _, limit in rows])) for rows in regions]
    for count in range(1, len(point) + 1):
        for free in combinations(range(len(point)), count):
            room = [(-value, 1 - value) if index in free else (0, 0) for index, value in enumerate(point)]
            if any(_is_feasible(matrix, limits, room) for matrix, limits in systems):
                return float(count)
    return np.inf


def _nearest_in(rows: Rows, point: np.ndarray, norm: str) -> float:
    if norm == "l2":
        return quadratic(rows, point)
    matrix, limits = np.array([row for row, _ in rows]), np.array([limit for _, limit in rows])
    dimensions = len(point)
    up_down = np.c_[matrix, -matrix]
    room = [(0, 1 - value) for value in point] + [(0, value) for value in point]
    if norm == "l1":
        found = linprog(np.ones(2 * dimensions), A_ub=up_down, b_ub=limits, bounds=room)
    else:  # the last variable is the length
        entries = np.c_[np.eye(dimensions), np.eye(dimensions), -np.ones(dimensions)]
        sides, ends = np.vstack([np.c_[up_down, np.zeros(len(limits))], entries]), np.r_[limits, np.zeros(dimensions)]
        found = linprog(np.r_[np.zeros(2 * dimensions), 1], A_ub=sides, b_ub=ends, bounds=[*room, (0, None)])
    return found.fun if found.success else np.inf
