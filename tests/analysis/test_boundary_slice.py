"""Slices through networks whose boundaries are known on paper, and what stands in where an adversarial is missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import thinice
from thinice import boundary_slice, slice_networks
from thinice.errors import InputError
from thinice.models import as_classifier
from thinice.norms import NORM_TABLE
from thinice.types import NORMS


def linear(weight, bias, name="net"):
    """Class 0 where ``weight @ x + bias`` is positive, else class 1."""
    layer = nn.Linear(len(weight), 2)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([torch.tensor(weight), torch.zeros(len(weight))]))
        layer.bias.copy_(torch.tensor([bias, 0.0]))
    return as_classifier(nn.Sequential(nn.Flatten(), layer), name=name)


# dense is right where the first pixel is above 0.4, pruned where the second is above 0.45; the sample is in the middle
DENSE, PRUNED = linear([1.0, 0.0], -0.4, "dense"), linear([0.0, 1.0], -0.45, "pruned")
SAMPLE = torch.tensor([[[0.5, 0.5]]])
ON_DENSE, ON_PRUNED = torch.tensor([[[0.4, 0.5]]]), torch.tensor([[[0.5, 0.45]]])
LENGTHS = {
    "l0": lambda a, b: 1.0 * (a != 0) + (b != 0),
    "l1": lambda a, b: abs(a) + abs(b),
    "l2": np.hypot,
    "linf": lambda a, b: np.maximum(abs(a), abs(b)),
}


def on_paper(norm="linf", **settings):
    return slice_networks(
        DENSE, PRUNED, SAMPLE, 0, dense_adversarial=ON_DENSE, pruned_adversarial=ON_PRUNED, norm=norm, **settings
    )


@pytest.mark.parametrize("norm", NORMS)
def test_boundaries_are_where_paper_says(norm):
    plane = on_paper(norm, resolution=41)
    a, b = np.meshgrid(plane.across, plane.up)
    np.testing.assert_allclose(plane.across, np.linspace(-0.125, 0.125, 41), atol=1e-7)
    np.testing.assert_allclose(plane.up, plane.across, atol=1e-12)
    np.testing.assert_allclose(plane.dense_margins, 0.1 - a, atol=1e-6)
    np.testing.assert_allclose(plane.pruned_margins, 0.05 - b, atol=1e-6)
    clear = np.abs(0.1 - a) > 1e-6
    assert (plane.dense_predictions == (a > 0.1))[clear].all()
    clear = np.abs(0.05 - b) > 1e-6
    assert (plane.pruned_predictions == (b > 0.05))[clear].all()
    np.testing.assert_allclose(plane.points, [[0, 0], [0.1, 0], [0, 0.05]], atol=1e-7)
    np.testing.assert_allclose(plane.epsilons, [1, 1] if norm == "l0" else [0.1, 0.05], atol=1e-7)
    np.testing.assert_allclose(plane.lengths, LENGTHS[norm](a, b), atol=1e-7)
    assert plane.directions == ("adversarial", "adversarial")
    assert plane.unit == ("l2" if norm == "l0" else norm)


def test_an_oblique_adversarial_lies_where_it_is():
    plane = slice_networks(
        DENSE,
        linear([1.0, 1.0], -0.9),
        SAMPLE,
        0,
        dense_adversarial=ON_DENSE,
        pruned_adversarial=torch.tensor([[[0.45, 0.45]]]),
        norm="l2",
    )
    np.testing.assert_allclose(plane.points, [[0, 0], [0.1, 0], [0.05, 0.05]], atol=1e-7)
    np.testing.assert_allclose(plane.epsilons, [0.1, np.sqrt(2) * 0.05], atol=1e-7)
    a, b = np.meshgrid(plane.across, plane.up)
    np.testing.assert_allclose(plane.pruned_margins, 0.1 - a - b, atol=1e-6)


@given(seed=st.integers(0, 10_000), norm=st.sampled_from(NORMS))
def test_any_two_planes_stay_straight_and_meet_their_adversarials(seed, norm):
    rng = np.random.default_rng(seed)
    start = rng.uniform(0.45, 0.55, 6)
    networks, near = [], []
    for drop in rng.uniform(0.02, 0.05, 2):
        weight = rng.normal(size=6)
        weight /= np.linalg.norm(weight)
        networks.append(linear(weight.astype(np.float32), float(drop - weight @ start)))
        near.append((start - drop * weight).reshape(1, 1, 6))
    plane = slice_networks(
        *networks,
        start.reshape(1, 1, 6),
        0,
        dense_adversarial=near[0],
        pruned_adversarial=near[1],
        norm=norm,
        reach=0.05,
        resolution=9,
    )
    a, b = np.meshgrid(plane.across, plane.up)
    design = np.stack([np.ones(a.size), a.ravel(), b.ravel()], 1)
    for margins, point in ((plane.dense_margins, plane.points[1]), (plane.pruned_margins, plane.points[2])):
        fit, *_ = np.linalg.lstsq(design, margins.ravel())
        np.testing.assert_allclose(design @ fit, margins.ravel(), atol=2e-6)  # straight
        assert fit @ [1, *point] == pytest.approx(0, abs=2e-6)  # the boundary goes through its adversarial
    row = NORM_TABLE[norm]
    deltas = [torch.from_numpy(end - start.reshape(1, 1, 6)) for end in near]
    np.testing.assert_allclose(plane.epsilons, [row.length(delta[None]).item() for delta in deltas], rtol=1e-9)
    assert plane.points[1, 0] == pytest.approx(NORM_TABLE[plane.unit].length(deltas[0][None]).item())
    assert plane.points[1, 1] == pytest.approx(0, abs=1e-9)
    if norm == "l2":
        np.testing.assert_allclose(np.hypot(*plane.points[2]), plane.epsilons[1], rtol=1e-9)
        np.testing.assert_allclose(plane.lengths, np.hypot(a, b), atol=1e-9)


@pytest.mark.parametrize(("bias", "above"), [(-0.45, True), (-0.52, True)])
def test_a_missing_adversarial_is_replaced_by_the_way_to_that_networks_boundary(bias, above):
    pruned = linear([0.0, 1.0], bias)  # right with margin 0.05, or wrong by 0.02: its boundary lies upwards both times
    plane = slice_networks(DENSE, pruned, SAMPLE, 0, dense_adversarial=ON_DENSE, norm="l2", resolution=11)
    assert plane.directions == ("adversarial", "gradient")
    assert np.isnan(plane.points[2]).all()
    assert np.isnan(plane.epsilons[1])
    middle = plane.pruned_margins[:, 5]
    assert (np.sign(middle[-1]) == -np.sign(middle[5])) == above
    assert np.sign(middle[0]) == np.sign(middle[5])


def test_the_dense_one_may_be_missing_too():
    plane = slice_networks(DENSE, PRUNED, SAMPLE, 0, pruned_adversarial=ON_PRUNED, norm="l2")
    assert plane.directions == ("gradient", "adversarial")
    a, _ = np.meshgrid(plane.across, plane.up)
    np.testing.assert_allclose(plane.dense_margins, 0.1 - a, atol=1e-6)
    assert np.isnan(plane.points[1]).all()


def test_colinear_adversarials_are_parted_by_the_gradient_and_then_by_chance():
    beyond = torch.tensor([[[0.35, 0.5]]])
    oblique = linear([1.0, 1.0], -0.8)
    plane = slice_networks(DENSE, oblique, SAMPLE, 0, dense_adversarial=ON_DENSE, pruned_adversarial=beyond, norm="l2")
    assert plane.directions == ("adversarial", "gradient")
    np.testing.assert_allclose(plane.points[2], [0.15, 0], atol=1e-7)  # it is still shown, where it lies
    twins = [
        slice_networks(DENSE, DENSE, SAMPLE, 0, dense_adversarial=ON_DENSE, pruned_adversarial=ON_DENSE)
        for _ in range(2)
    ]
    assert twins[0].directions == ("adversarial", "random")
    np.testing.assert_array_equal(twins[0].dense_margins, twins[1].dense_margins)
    np.testing.assert_array_equal(twins[0].dense_margins, twins[0].pruned_margins)


def test_constant_networks_get_random_directions():
    constant = linear([0.0, 0.0], 1.0)
    plane = slice_networks(constant, constant, SAMPLE, 0, reach=0.1, resolution=5)
    assert plane.directions == ("random", "random")
    assert (plane.dense_predictions == 0).all()


def test_points_outside_the_box_are_clipped_to_it():
    seen = []

    class Eye(nn.Module):
        def forward(self, inputs):
            seen.append(inputs.clone())
            return torch.stack([inputs.flatten(1)[:, 0], torch.full((len(inputs),), 0.05)], 1)

    corner, near = torch.tensor([[[0.1, 0.0]]]), torch.tensor([[[0.05, 0.0]]])
    plane = slice_networks(as_classifier(Eye()), PRUNED, corner, 0, dense_adversarial=near, norm="l2", reach=0.3)
    images = torch.cat(seen)
    assert images.min() == 0
    assert images.max() <= 1
    a, b = np.meshgrid(plane.across, plane.up)
    assert (plane.lengths <= np.hypot(a, b) + 1e-9).all()
    assert (plane.lengths < np.hypot(a, b) - 0.01).any()


def test_a_logit_that_is_no_number_is_no_class():
    broken = linear([float("nan"), 0.0], 0.0)
    plane = slice_networks(DENSE, broken, SAMPLE, 0, dense_adversarial=ON_DENSE, resolution=3)
    assert (plane.pruned_predictions == -1).all()
    assert np.isnan(plane.pruned_margins).all()
    assert plane.directions[1] == "random"


def test_nothing_given_is_changed():
    given = [tensor.clone() for tensor in (SAMPLE, ON_DENSE, ON_PRUNED)]
    on_paper(resolution=3)
    assert all(torch.equal(a, b) for a, b in zip(given, (SAMPLE, ON_DENSE, ON_PRUNED), strict=True))
    assert not torch.is_grad_enabled() or not SAMPLE.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": SAMPLE[None]}, r"`inputs` must be one image \(C, H, W\), got shape \(1, 1, 1, 2\)"),
        ({"inputs": SAMPLE * 3}, r"`inputs` must lie in \[0, 1\], got \[1.5, 1.5\]"),
        ({"dense_adversarial": SAMPLE * torch.nan}, r"`dense_adversarial` must lie in \[0, 1\]"),
        ({"pruned_adversarial": torch.zeros(1, 2, 2)}, r"`pruned_adversarial` has shape \(1, 2, 2\)"),
        ({"label": 2}, "`label` 2 is no class of 'dense': it knows 0 to 1"),
        ({"norm": "l7"}, "`norm` is 'l7': the norms are l0, l1, l2, linf"),
        ({"resolution": 1}, "`resolution` must be a whole number of at least 2, got 1"),
        ({"reach": -1.0}, "`reach` must be a positive distance"),
        ({"dense_adversarial": None, "pruned_adversarial": None}, "`reach` is missing"),
        ({"dense_adversarial": SAMPLE, "pruned_adversarial": SAMPLE}, "`reach` is missing"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {"inputs": SAMPLE, "label": 0, "dense_adversarial": ON_DENSE, "pruned_adversarial": ON_PRUNED} | change
    with pytest.raises(InputError, match=message):
        slice_networks(DENSE, PRUNED, given.pop("inputs"), given.pop("label"), **given)


def test_one_pixel_has_no_plane():
    one = linear([1.0], -0.5)
    with pytest.raises(InputError, match="single value"):
        slice_networks(one, one, torch.tensor([[[0.7]]]), 0, reach=0.1)


@pytest.mark.slow
def test_a_comparison_shows_the_boundary_of_its_thinnest_samples():
    paths = thinice.example_checkpoints()
    result = thinice.compare(
        paths["dense"], paths["pruned-95"], thinice.load_samples("digits", limit=60), effort="quick", progress=False
    )
    plane = boundary_slice(result, resolution=21)
    example = result.closest[0]
    assert plane.epsilons[0] == pytest.approx(result.epsilon[example.position], rel=1e-6)
    assert (plane.dense, plane.pruned) == ("dense", "pruned-95")
    middle = np.abs(plane.up).argmin(), np.abs(plane.across).argmin()
    assert plane.dense_predictions[middle] == result.dense_predictions[example.position] == plane.label
    assert plane.pruned_predictions[middle] == result.pruned_predictions[example.position]
    inside = plane.lengths < 0.95 * plane.epsilons[0]
    assert inside.any()
    assert (plane.dense_predictions[inside] == plane.label).all()  # no nearer way out, or the attack has missed it
    with pytest.raises(InputError, match="`index` is 99"):
        boundary_slice(result, 99)
