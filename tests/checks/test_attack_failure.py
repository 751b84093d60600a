"""Attacks that fail in one known way each, and attacks that do not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.truth import linear
from thinice.attacks import make_attack
from thinice.checks.attack_failure import check_attack
from thinice.errors import InputError
from thinice.losses import input_gradient, margin

KNOWN = linear(classes=5, features=24, count=8)
IDS = torch.arange(50, 58)
DISTANCES = torch.from_numpy(KNOWN.distances["linf"])
WIDE = 2 * DISTANCES.max().item()


def raised(attack, model=KNOWN.model, **settings) -> dict[str, int]:
    found = check_attack(model, KNOWN.inputs, KNOWN.labels, IDS, attack, **{"norm": "linf", **settings})
    return {one.check: one.count for one in found if one.raised}


def nothing(model, inputs, *_):
    model(inputs)
    return inputs


class Descent:
    """Projected signed gradient descent on the margin; with a switch for each way to get it wrong."""

    def __init__(self, budget: float, *, steps: int = 40, stride: float = 0.1, returns: str = "best"):
        self.budget, self.steps, self.stride, self.returns = budget, steps, stride * budget, returns

    def __call__(self, model, inputs: Tensor, labels: Tensor, _: Tensor) -> Tensor:
        points, best, least = inputs.clone(), inputs.clone(), torch.full((len(inputs),), torch.inf)
        for _ in range(self.steps):
            points.requires_grad_()
            lead = margin(model(points), labels)
            slope = input_gradient(lead, points).view_as(inputs)
            points, lead = points.detach(), lead.detach()
            best = torch.where((lead < least)[:, None, None, None], points, best)
            least = torch.minimum(lead, least)
            delta = (points - self.stride * slope.sign() - inputs).clamp(-self.budget, self.budget)
            points = (inputs + delta).clamp(0, 1)
        return {"best": best, "last": points, "start": inputs}[self.returns]


# -- good attacks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("fmn", "l2"),
        ("tmn", "linf"),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in (("fmn", "linf"), ("tmn", "l2"))),
    ],
)
def test_our_attacks_are_healthy(name, norm):
    assert raised(make_attack(name, norm=norm), norm=norm) == {}


@pytest.mark.parametrize("budget", [0.5 * DISTANCES.min().item(), 1.02 * DISTANCES.median().item(), WIDE])
def test_a_good_descent_is_healthy_whether_or_not_it_succeeds(budget):
    attack = Descent(budget)
    points = attack(KNOWN.model, KNOWN.inputs, KNOWN.labels, IDS)
    assert torch.equal(KNOWN.model(points).argmax(1) != KNOWN.labels, budget > DISTANCES)
    assert raised(attack, budget=budget, unlimited=Descent(1.0)) == {}


# -- bad ones ----------------------------------------------------------------------------------------------------------


def test_an_attack_that_returns_where_it_began():
    assert raised(Descent(WIDE, returns="start"), budget=WIDE) == {"silent_success": 8}


def test_a_success_outside_the_budget_is_none():
    assert raised(Descent(WIDE, returns="start"), budget=0.5 * DISTANCES.min().item()) == {}


def test_only_what_was_met_counts_as_silent():
    budget = DISTANCES.median().item() * 1.001
    found = check_attack(
        KNOWN.model, KNOWN.inputs, KNOWN.labels, IDS, Descent(budget, returns="start"), norm="linf", budget=budget
    )
    assert found[0].samples == tuple(IDS[budget > DISTANCES].tolist())
    assert 0 < found[0].count < 8


def test_a_minimum_norm_attack_that_returns_farther_than_it_was():
    def farther(model, inputs, labels, ids):
        nearest = make_attack("fmn", norm="linf", effort="quick")(model, inputs, labels, ids).adversarials
        return inputs + 1.1 * (nearest - inputs)

    def a_little(model, inputs, labels, ids):
        nearest = make_attack("fmn", norm="linf", effort="quick")(model, inputs, labels, ids).adversarials
        return inputs + 1.02 * (nearest - inputs)

    assert raised(farther) == {"silent_success": 8}
    assert raised(a_little) == {}


def test_an_attack_that_stops_too_early():
    budget = 0.9 * DISTANCES.min().item()
    assert raised(Descent(budget, stride=1 / 80), budget=budget) == {"incomplete_optimization": 8}
    assert raised(Descent(budget, stride=1 / 20), budget=budget) == {}


def test_stopping_early_after_success_is_no_fault():
    assert raised(Descent(WIDE, stride=1 / 80, steps=50), budget=WIDE) == {}


@pytest.mark.slow
def test_a_minimum_norm_attack_that_stops_too_early():
    """It starts far away and comes 2 % nearer a step: after 60 steps still too far, after 300 there."""

    def creeping(steps):
        def attack(model, inputs, labels, ids):
            far = make_attack("fmn", norm="linf", effort="quick")(KNOWN.model, inputs, labels, ids).adversarials
            delta = 10 * (far - inputs).detach()
            for _ in range(steps):
                nearer = inputs + 0.98 * delta
                if model(nearer.requires_grad_()).argmax(1) != labels:
                    delta = 0.98 * delta
            return inputs + delta

        return attack

    assert raised(creeping(60)) == {"incomplete_optimization": 8}
    assert raised(creeping(300)) == {}


def test_an_attack_that_fails_without_any_limit():
    assert raised(nothing) == {"unconstrained_attack_failure": 8}
    assert raised(Descent(0.01), budget=0.01, unlimited=nothing) == {"unconstrained_attack_failure": 8}


def test_adversarials_of_a_surrogate_that_do_not_transfer():
    def faithful(inputs):
        return 2 * KNOWN.model(inputs)

    def crude(inputs):  # it sees the first half of the picture alone
        half = inputs.flatten(1).clone()
        half[:, 12:] = 0.5
        return KNOWN.model(half.view_as(inputs))

    attack = Descent(WIDE)
    found = check_attack(
        KNOWN.model, KNOWN.inputs, KNOWN.labels, IDS, attack, norm="linf", budget=WIDE, surrogate=faithful
    )
    assert {one.check: one.count for one in found}["transfer_failure"] == 0
    tight = DISTANCES.median().item() * 1.01
    failed = check_attack(
        KNOWN.model, KNOWN.inputs, KNOWN.labels, IDS, Descent(tight), norm="linf", budget=tight, surrogate=crude
    )[-1]
    assert failed.check == "transfer_failure"
    on_crude = Descent(tight)(crude, KNOWN.inputs, KNOWN.labels, IDS)
    fooled = crude(on_crude).argmax(1) != KNOWN.labels
    kept = fooled & (KNOWN.model(on_crude).argmax(1) == KNOWN.labels)
    assert failed.samples == tuple(IDS[kept].tolist())
    assert failed.of == fooled.sum()
    assert failed.raised


def test_an_attack_without_gradients_is_watched_too():
    def guessing(model, inputs, *_):
        generator, best = torch.Generator().manual_seed(0), inputs
        with torch.no_grad():
            for _ in range(20):
                points = (inputs + WIDE * torch.rand(inputs.shape, generator=generator).sub(0.5).sign()).clamp(0, 1)
                model(points)
        return best

    met = raised(guessing, budget=WIDE)
    assert set(met) <= {"silent_success", "incomplete_optimization"}
    assert met["silent_success"] > 0


@pytest.mark.parametrize("wrong", [{"norm": "l3"}, {"budget": 0.0}, {"budget": float("inf")}])
def test_bad_input_is_named(wrong):
    with pytest.raises(InputError, match="must be"):
        raised(Descent(0.1), **wrong)
