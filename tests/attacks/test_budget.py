"""Budgets: read as people write them, refused where they cannot be meant, kept to the last bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinice.attacks.fixed_budget import LONGER, budget_text, budget_value, into_ball
from thinice.errors import InputError
from thinice.norms import NORM_TABLE
from thinice.types import NORMS

SHAPE = (3, 4, 4)


@pytest.mark.parametrize(
    ("given", "norm", "value"),
    [
        ("8/255", "linf", 8 / 255),
        (" 8 / 255 ", "linf", 8 / 255),
        ("0.03", "linf", 0.03),
        ("1e-3", "l2", 1e-3),
        (0.5, "l2", 0.5),
        ("12", "l0", 12),
        (1, "linf", 1),
        ("48", "l1", 48),
    ],
)
def test_it_is_read_as_people_write_it(given, norm, value):
    assert budget_value(given, norm, SHAPE) == value


@pytest.mark.parametrize(
    ("given", "norm", "message"),
    [
        ("9", "linf", r"`budget` 9 is beyond any linf perturbation of inputs in \[0, 1\], 1: did you mean 9/255\?"),
        (8.0, "linf", r"did you mean 8.0/255\?"),
        ("300", "linf", r"beyond any linf perturbation of inputs in \[0, 1\], 1$"),
        ("7", "l2", r"beyond any l2 perturbation of inputs in \[0, 1\], 6.928"),
        ("49", "l1", r"beyond any l1 perturbation of inputs in \[0, 1\], 48$"),
        ("49", "l0", r"beyond any l0 perturbation"),
        ("2.5", "l0", "a number of entries, a whole one, got 2.5"),
        ("0", "linf", r"above 0 \(at 0 it is the clean accuracy\), got 0"),
        (-0.1, "linf", "above 0"),
        (float("nan"), "l2", "above 0"),
        (float("inf"), "l2", "above 0"),
        ("8/0", "linf", "a number such as 8/255 or 0.03, got '8/0'"),
        ("eight", "linf", "a number such as 8/255 or 0.03, got 'eight'"),
        ("", "linf", "a number such as 8/255"),
    ],
)
def test_what_cannot_be_meant_is_refused_on_one_line(given, norm, message):
    with pytest.raises(InputError, match=message) as caught:
        budget_value(given, norm, SHAPE)
    assert "\n" not in str(caught.value)


def test_it_is_shown_in_the_unit_of_its_norm():
    assert budget_text(8 / 255, "linf") == "8/255"
    assert budget_text(0.5 / 255, "linf") == "0.5/255"
    assert budget_text(1.25, "l2") == "1.25"
    assert budget_text(12.0, "l0") == "12"


@given(seed=st.integers(0, 10_000), budget=st.floats(1e-4, 0.9), norm=st.sampled_from(["l1", "l2", "linf"]))
def test_what_is_put_into_the_ball_is_in_it_to_the_last_bit_and_hardly_moved(seed, budget, norm):
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.rand(6, *SHAPE, generator=draw)
    inputs[0], inputs[1] = 0, 1
    delta = torch.randn(6, *SHAPE, generator=draw)
    delta *= (budget / NORM_TABLE[norm].length(delta)).view(-1, 1, 1, 1)
    candidates = (inputs + delta).clamp(0, 1)  # within the budget but for rounding
    inside = into_ball(inputs, candidates, norm=norm, budget=budget)
    length = NORM_TABLE[norm].length(inside.double() - inputs.double())
    assert (length <= budget).all()
    assert ((inside >= 0) & (inside <= 1)).all()
    assert (inside - candidates).abs().max() <= 2e-5 * budget + 2e-7
    again = into_ball(inputs, inside, norm=norm, budget=budget)
    assert torch.equal(again, inside)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_what_is_far_outside_comes_to_the_surface(norm):
    inputs = torch.full((2, *SHAPE), 0.5)
    inside = into_ball(inputs, torch.ones(2, *SHAPE), norm=norm, budget=0.25)
    length = NORM_TABLE[norm].length(inside.double() - inputs.double())
    assert (length <= 0.25).all()
    assert (length > 0.2499).all()


def test_l0_is_left_to_the_judge():
    inputs = torch.zeros(1, *SHAPE)
    assert into_ball(inputs, torch.ones(1, *SHAPE), norm="l0", budget=3).sum() == 48


@given(seed=st.integers(0, 10_000))
def test_a_longer_norm_is_never_shorter(seed):
    delta = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(seed)).double()
    for norm in NORMS:
        for longer in LONGER[norm]:
            lengths = [NORM_TABLE[name].length(delta) for name in (norm, longer)]
            assert (lengths[0] <= lengths[1] * (1 + 1e-12)).all()
