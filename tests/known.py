"""Networks whose distances to the boundary are known: by a closed form, by bisection, or by enumeration."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog, minimize
from torch import nn

SHAPE = (1, 4, 5)
FEATURES = 20
DUALS = {"l1": np.inf, "l2": 2, "linf": 1}


def linear(weights, biases):
    """A linear network with these weights (K, D) and biases (K,)."""
    layer = nn.Linear(weights.shape[1], len(weights))
    layer.weight.data = torch.as_tensor(weights, dtype=torch.float32)
    layer.bias.data = torch.as_tensor(biases, dtype=torch.float32)
    return nn.Sequential(nn.Flatten(), layer).eval()


@dataclass
class Case:
    """Samples that a network has right, and the distance of each to the boundary, by norm."""

    network: nn.Module
    inputs: torch.Tensor
    labels: torch.Tensor
    distances: dict[str, np.ndarray]


def plane_distance(weight, gap, norm):
    """The smallest perturbation that lowers ``gap`` to 0 along a gradient ``weight``, without a box."""
    return gap / np.linalg.norm(weight, ord=DUALS[norm])


def boxed_distance(weight, gap, start, norm):
    """The same inside [0, 1]: found by bisection on the radius; for l1 and l0 the best entries in turn."""
    room = np.where(weight > 0, start, 1 - start)
    slope = np.abs(weight)
    if slope @ room < gap:
        return np.inf
    if norm in {"l0", "l1"}:
        order = np.argsort(-slope * room if norm == "l0" else -slope)
        gains = (slope * room)[order].cumsum()
        last = int(np.searchsorted(gains, gap))
        if norm == "l0":
            return last + 1
        before = gains[last - 1] if last else 0.0
        return room[order][:last].sum() + (gap - before) / slope[order][last]
    low, high = 0.0, 1e3
    for _ in range(200):
        middle = (low + high) / 2
        # for l2 the radius is a multiplier: each entry moves by that times its slope, as far as there is room
        reached = slope @ np.minimum(middle if norm == "linf" else middle * slope, room)
        low, high = (middle, high) if reached < gap else (low, middle)
    return high if norm == "linf" else np.linalg.norm(np.minimum(high * slope, room))


def linear_case(classes, samples=60, spread=0.1, seed=0):
    """A random linear network; inputs within ``spread`` of the middle, so that the box is not in the way but for l0."""
    random = np.random.default_rng(seed)
    weights = random.normal(size=(classes, FEATURES))
    biases = -weights @ np.full(FEATURES, 0.5) + random.normal(size=classes) * 0.02
    starts = 0.5 + random.uniform(-spread, spread, (samples, FEATURES))
    return _solved(weights, biases, starts, boxed=False)


def boxed_case(classes=2, samples=50, seed=1):
    """The same with inputs of which many lie on the edge of the box."""
    random = np.random.default_rng(seed)
    weights = random.normal(size=(classes, FEATURES))
    starts = np.clip(random.uniform(-0.6, 1.6, (samples, FEATURES)), 0, 1)
    biases = -weights @ starts.mean(0)
    return _solved(weights, biases, starts, boxed=True)


def _solved(weights, biases, starts, *, boxed):
    starts = starts.astype(np.float32).astype(np.float64)
    weights, biases = (part.astype(np.float32).astype(np.float64) for part in (weights, biases))
    logits = starts @ weights.T + biases
    labels = logits.argmax(1)
    distances = {norm: np.empty(len(starts)) for norm in ("l0", "l1", "l2", "linf")}
    for k, (start, label) in enumerate(zip(starts, labels, strict=True)):
        rivals = [rival for rival in range(len(weights)) if rival != label]
        for norm, column in distances.items():
            column[k] = min(
                boxed_distance(weights[label] - weights[rival], logits[k, label] - logits[k, rival], start, norm)
                if boxed or norm == "l0"
                else plane_distance(weights[label] - weights[rival], logits[k, label] - logits[k, rival], norm)
                for rival in rivals
            )
    clear = distances["linf"] > 2e-3  # nearer to the boundary, the rounding of float32 logits would decide
    inputs = torch.as_tensor(starts[clear], dtype=torch.float32).view(-1, *SHAPE)
    return Case(
        linear(weights, biases),
        inputs,
        torch.as_tensor(labels[clear]),
        {norm: column[clear] for norm, column in distances.items()},
    )


def relu_case(samples=25, hidden=5, seed=2):
    """Two inputs, some ReLUs, two classes: the boundary is enumerated, one activation pattern after the other."""
    random = np.random.default_rng(seed)
    first, shift = random.normal(size=(hidden, 2)) * 3, random.normal(size=hidden)
    second, bias = random.normal(size=hidden), random.normal() * 0.1
    shift -= first @ [0.5, 0.5]
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, 2)).eval()
    network[1].weight.data, network[1].bias.data = torch.tensor(first).float(), torch.tensor(shift).float()
    network[3].weight.data = torch.tensor(np.stack([second, -second])).float() / 2
    network[3].bias.data = torch.tensor([bias, -bias]).float() / 2
    inputs = torch.as_tensor(random.uniform(0.05, 0.95, (samples, 2)), dtype=torch.float32).view(-1, 1, 1, 2)
    with torch.no_grad():
        labels = network(inputs).argmax(1)
    points = inputs.flatten(1).double().numpy()
    distances = {
        norm: np.array([_nearest_zero(point, first, shift, second, bias, norm) for point in points])
        for norm in ("l1", "l2", "linf")
    }
    return Case(network, inputs, labels, distances)


def _nearest_zero(point, first, shift, second, bias, norm):
    """The distance to the zeros of ``second . relu(first x + shift) + bias`` in the unit square."""
    best = np.inf
    for pattern in itertools.product((0.0, 1.0), repeat=len(first)):
        on = np.array(pattern)
        slope, offset = (second * on) @ first, second @ (on * shift) + bias
        sides = np.where(on > 0, -1.0, 1.0)  # sides * (first x + shift) <= 0
        upper, limit = sides[:, None] * first, -sides * shift
        if norm == "l2":
            region = [
                {"type": "eq", "fun": lambda x, a=slope, c=offset: a @ x + c},
                {"type": "ineq", "fun": lambda x, a=upper, c=limit: c - a @ x},
            ]
            feasible = linprog(
                [0, 0], A_ub=upper, b_ub=limit, A_eq=[slope], b_eq=[-offset], bounds=[(0, 1)] * 2, method="highs"
            )
            if feasible.status != 0:
                continue
            found = minimize(
                lambda x: ((x - point) ** 2).sum(), feasible.x, bounds=[(0, 1)] * 2, constraints=region,
                options={"ftol": 1e-14, "maxiter": 200},
            )  # fmt: skip
            if found.success:
                best = min(best, np.sqrt(found.fun))
            continue
        sizes = 2 if norm == "l1" else 1  # extra variables that bound |x - point|
        which = np.eye(2) if norm == "l1" else np.ones((2, 1))
        rows = np.block([[upper, np.zeros((len(upper), sizes))], [np.eye(2), -which], [-np.eye(2), -which]])
        found = linprog(
            np.r_[0, 0, np.ones(sizes)], A_ub=rows, b_ub=np.r_[limit, point, -point],
            A_eq=[np.r_[slope, np.zeros(sizes)]], b_eq=[-offset], bounds=[(0, 1)] * 2 + [(0, None)] * sizes,
            method="highs",
        )  # fmt: skip
        if found.status == 0:
            best = min(best, found.fun)
    return best
