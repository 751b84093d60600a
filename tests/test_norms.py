"""The norm table against definitions, independent projections and linear programmes, and the properties of each row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from tests.truth import in_the_box
from thinice.norms import NORM_TABLE
from thinice.types import NORMS

SHAPES = ((5, 12), (5, 3, 2, 2))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def points(*shape: int, seed: int = 0) -> Tensor:
    """Points in [0, 1], a third of whose entries lie exactly on the edge of the box."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(*shape, generator=generator, dtype=torch.float64) * 1.5 - 0.25).clamp(0, 1)


def test_the_table_has_every_norm_under_its_own_name():
    assert tuple(NORM_TABLE) == NORMS
    assert [row.name for row in NORM_TABLE.values()] == list(NORMS)


@pytest.mark.parametrize(("norm", "order"), [("l0", 0), ("l1", 1), ("l2", 2), ("linf", np.inf)])
@pytest.mark.parametrize("shape", SHAPES)
def test_length_is_numpys_norm(norm, order, shape):
    delta = random(*shape).round(decimals=0)  # with zeros
    expected = [np.linalg.norm(row, order) for row in delta.flatten(1).numpy()]
    np.testing.assert_allclose(NORM_TABLE[norm].length(delta).numpy(), expected)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_steepest_step_has_length_one_and_gains_the_dual_length(norm, shape):
    row, gradient = NORM_TABLE[norm], random(*shape)
    step = row.steepest(gradient)
    assert step.shape == gradient.shape
    torch.testing.assert_close(row.length(step), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close((step * gradient).flatten(1).sum(1), row.dual_length(gradient))


@pytest.mark.parametrize("norm", NORMS)
def test_no_step_of_length_one_gains_more_than_the_dual_length(norm):
    row, gradient, step = NORM_TABLE[norm], random(500, 12), random(500, 12, seed=1)
    if norm == "l0":  # one entry, moved by at most the width of the box
        step = row.project(step, torch.ones(500)).clamp(-1, 1)
    else:
        step /= row.length(step)[:, None]
    assert ((step * gradient).sum(1) <= row.dual_length(gradient) + 1e-12).all()


@pytest.mark.parametrize("norm", NORMS)
def test_the_steepest_step_of_no_gradient_is_none(norm):
    assert (NORM_TABLE[norm].steepest(torch.zeros(2, 3, 4, 4)) == 0).all()


def nearest_in_ball(delta: np.ndarray, radius: float, norm: str, room: list[tuple[float, float]] | None) -> np.ndarray:
    """The Euclidean projection from a general solver; variables are up and down parts, so that l1 is smooth."""
    size = len(delta)
    limits = {
        "l1": lambda v: radius - v.sum(),
        "l2": lambda v: radius**2 - ((v[:size] - v[size:]) ** 2).sum(),
        "linf": lambda v: radius - v[:size] - v[size:],
    }
    bounds = [(0, None)] * (2 * size) if room is None else [(0, up) for _, up in room] + [(0, -low) for low, _ in room]
    found = minimize(
        lambda v: ((v[:size] - v[size:] - delta) ** 2).sum(),
        np.zeros(2 * size),
        bounds=bounds,
        constraints={"type": "ineq", "fun": limits[norm]},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    return found.x[:size] - found.x[size:]


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("radius", [0.2, 1.0, 3.0])
def test_project_is_the_nearest_point_of_the_ball(norm, radius):
    delta = random(5, 6)
    found = NORM_TABLE[norm].project(delta, torch.full((5,), radius, dtype=torch.float64))
    expected = [nearest_in_ball(row, radius, norm, None) for row in delta.numpy()]
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("norm", ["l1", "linf"])
@pytest.mark.parametrize("radius", [0.2, 1.0, 3.0])
def test_confine_is_the_nearest_point_of_ball_and_box(norm, radius):
    delta, inputs = random(5, 6), points(5, 6)
    found = NORM_TABLE[norm].confine(delta, torch.full((5,), radius, dtype=torch.float64), inputs)
    rooms = [[(-value, 1 - value) for value in point] for point in inputs.numpy()]
    expected = [nearest_in_ball(row, radius, norm, room) for row, room in zip(delta.numpy(), rooms, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 6])
def test_l0_keeps_the_nearest_entries_by_trying_all_sets(count):
    from itertools import combinations  # noqa: PLC0415 (here alone)

    delta, inputs = random(5, 6), points(5, 6)
    row, radius = NORM_TABLE["l0"], torch.full((5,), float(count))
    sets = list(combinations(range(6), count))
    for mine, wanted in (
        (row.project(delta, radius), delta),
        (row.confine(delta, radius, inputs), (inputs + delta).clamp(0, 1) - inputs),
    ):
        left = ((mine - delta) ** 2).sum(1)
        for sample in range(5):
            tried = []
            for chosen in sets:
                kept = torch.zeros(6, dtype=torch.float64)
                kept[list(chosen)] = wanted[sample, list(chosen)]
                tried.append(((kept - delta[sample]) ** 2).sum())
            assert left[sample].item() == pytest.approx(min(tried).item(), abs=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20),
    st.floats(0, 1e6, width=32),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_project_is_never_too_long_and_leaves_alone_what_is_short_enough(norm, values, radius, dtype):
    row, delta, limit = NORM_TABLE[norm], torch.tensor([values], dtype=dtype), torch.tensor([radius], dtype=dtype)
    found = row.project(delta, limit)
    slack = 1e-5 if dtype == torch.float32 else 1e-12
    assert found.dtype == dtype
    # rounding of the largest entry, where many small ones share what is left of the radius
    assert (row.length(found) <= limit * (1 + slack) + slack * delta.abs().amax()).all()
    if (row.length(delta) * (1 + slack) <= limit).all():  # nearer to it, the rounding of sums decides
        assert torch.equal(found, delta)


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 20))
def test_confine_stays_in_ball_and_box(norm, seed, radius):
    row, inputs, delta = NORM_TABLE[norm], points(4, 9, seed=seed), 3 * random(4, 9, seed=seed + 1)
    found = row.confine(delta, torch.full((4,), radius, dtype=torch.float64), inputs)
    assert (inputs + found).min() >= -1e-12
    assert (inputs + found).max() <= 1 + 1e-12
    assert (row.length(found) <= radius * (1 + 1e-9) + 1e-9).all()


@pytest.mark.parametrize("norm", NORMS)
def test_project_keeps_even_the_dust_of_what_is_exactly_as_long_as_the_radius(norm):
    delta = torch.tensor([[1.0, 5e-29]])
    assert torch.equal(NORM_TABLE[norm].project(delta, NORM_TABLE[norm].length(delta)), delta)


def test_l0_breaks_ties_by_position_and_keeps_exactly_so_many():
    delta = torch.tensor([[1.0, -1.0, 0.0, 1.0, 1.0]])
    found = NORM_TABLE["l0"].project(delta, torch.tensor([3.9]))
    assert found.tolist() == [[1.0, -1.0, 0.0, 1.0, 0.0]]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_cross_is_the_shortest_way_in_the_box(norm, share):
    row, gradient, inputs = NORM_TABLE[norm], random(8, 10), points(8, 10)
    gradient[:, 3] = 0
    drop = share * (gradient.abs() * torch.where(gradient > 0, inputs, 1 - inputs)).sum(1)
    delta = row.cross(gradient, drop, inputs)
    assert (inputs + delta).min() >= -1e-12
    assert (inputs + delta).max() <= 1 + 1e-12
    gained = -(gradient * delta).sum(1)
    assert (gained >= drop * (1 - 1e-9)).all()
    expected = [
        in_the_box(g, d, x, norm) for g, d, x in zip(gradient.numpy(), drop.numpy(), inputs.numpy(), strict=True)
    ]
    np.testing.assert_allclose(row.length(delta).numpy(), expected, rtol=1e-7)


@pytest.mark.parametrize("norm", NORMS)
def test_cross_goes_to_the_corner_when_nothing_is_enough(norm):
    gradient, inputs = random(8, 10), points(8, 10)
    delta = NORM_TABLE[norm].cross(gradient, torch.full((8,), 1e9, dtype=torch.float64), inputs)
    torch.testing.assert_close(inputs + delta, (gradient < 0).double())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("drop", [0.0, 1.0])
def test_cross_stays_where_there_is_no_gradient(norm, drop):
    delta = NORM_TABLE[norm].cross(torch.zeros(2, 1, 3, 3), torch.full((2,), drop), torch.rand(2, 1, 3, 3))
    assert (delta == 0).all()


@pytest.mark.parametrize("norm", NORMS)
def test_path_goes_from_the_input_to_the_adversarial_and_grows_evenly(norm):
    row = NORM_TABLE[norm]
    inputs, adversarials = points(5, 3, 2, 2).float(), points(5, 3, 2, 2, seed=1).float()
    whole = row.length(adversarials - inputs)
    assert torch.equal(row.path(inputs, adversarials, torch.zeros(5)), inputs)
    torch.testing.assert_close(row.path(inputs, adversarials, torch.ones(5)), adversarials)
    for fraction in (0.1, 0.5, 0.9):
        between = row.path(inputs, adversarials, torch.full((5,), fraction))
        expected = (fraction * whole).floor() if norm == "l0" else fraction * whole
        torch.testing.assert_close(row.length(between - inputs), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_memory_layout_changes_nothing(norm):
    row, inputs = NORM_TABLE[norm], points(4, 3, 5, 5).float()
    delta, radius = random(4, 3, 5, 5).float(), row.length(random(4, 3, 5, 5).float()) / 3
    other = delta.to(memory_format=torch.channels_last)
    permuted = delta.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    strided = torch.stack([delta, delta], -1)[..., 0]
    for same in (other, permuted, strided):
        torch.testing.assert_close(row.length(same), row.length(delta))
        torch.testing.assert_close(row.steepest(same), row.steepest(delta))
        torch.testing.assert_close(row.project(same, radius), row.project(delta, radius))
        torch.testing.assert_close(row.confine(same, radius, inputs), row.confine(delta, radius, inputs))
        torch.testing.assert_close(row.cross(same, radius, inputs), row.cross(delta, radius, inputs))


@pytest.mark.parametrize("norm", NORMS)
def test_no_samples_give_no_results(norm):
    row, nothing, none = NORM_TABLE[norm], torch.zeros(0, 3, 4, 4), torch.zeros(0)
    assert row.length(nothing).shape == (0,)
    for found in (row.project(nothing, none), row.confine(nothing, none, nothing), row.cross(nothing, none, nothing)):
        assert found.shape == nothing.shape
