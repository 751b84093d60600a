"""A network behind a clamp of its inputs is the same function in the box: every attack must say the same of both."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

import thinice
from thinice.attacks import Candidates, MinNormResult, make_attack
from thinice.attacks.fixed_budget import make_ensemble
from thinice.checks.attack_failure import check_attack
from thinice.checks.network import check_network
from thinice.models import as_classifier
from thinice.types import NORMS

pytestmark = pytest.mark.sampled

every_norm = pytest.mark.parametrize("norm", NORMS)


class Clamped(nn.Module):
    """A network behind a function of its inputs; an opaque one looks at numbers, which `torch.fx` cannot follow."""

    def __init__(self, network, clamp, *, opaque=False):
        super().__init__()
        self.network, self.clamp, self.opaque = network, clamp, opaque

    def forward(self, inputs):
        if self.opaque and inputs.isnan().any():
            raise ValueError("no pixels")
        return self.network(self.clamp(inputs))


CLAMPS = {
    "clamp": lambda x: x.clamp(0, 1),
    "clip": lambda x: torch.clip(x, min=0.0, max=1.0),
    "hardtanh": lambda x: functional.hardtanh(x, 0, 1),
    "minimum-maximum": lambda x: torch.minimum(torch.maximum(x, torch.zeros_like(x)), torch.ones_like(x)),
}


@pytest.fixture(scope="module")
def network():
    return thinice.load_classifier(thinice.example_checkpoints()["dense"]).module


@pytest.fixture(scope="module")
def samples():
    return thinice.load_samples("digits", limit=10)


@pytest.fixture(scope="module")
def bare(network, samples):
    """What an attack finds of the network without a clamp, measured once."""
    known: dict[tuple, MinNormResult] = {}

    def measured(name, norm, **settings):
        if (name, norm) not in known:
            known[name, norm] = measure(network, samples, name, norm, **settings)
        return known[name, norm]

    return measured


OWN = ("tmn", "fmn", "ho-fmn")


def measure(network, samples, name, norm, **settings):
    effort = "quick" if name in OWN else "standard"
    return thinice.measure(
        network, samples, norm=norm, attack=name, effort=effort, device="cpu", progress=False, **settings
    )


def the_same(clamped: MinNormResult, bare: MinNormResult, network: nn.Module, samples) -> None:
    """Within 1 % from both sides, sample by sample; nearer only where the bare network is fooled there, too."""
    assert torch.equal(clamped.outcomes, bare.outcomes)
    share = (clamped.epsilon / bare.epsilon)[bare.found]
    assert (share < 1.01).all(), share
    with torch.no_grad():
        fooled = network(clamped.adversarials).argmax(1) != samples.labels
    assert ((share > 0.99) | fooled[bare.found]).all(), share
    assert share.mean() > 0.99, share
    assert bare.found.sum() >= 8


@every_norm
@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("opaque", [False, True])
def test_our_attacks_find_what_they_find_without(name, norm, opaque, network, samples, bare):
    # the fast form leaves the clamp out of what it can trace; behind the other, gradients are taken a hair inside
    clamp = (lambda x: x.flatten(1).clamp(0, 1).view_as(x)) if opaque else CLAMPS["clamp"]
    clamped = measure(Clamped(network, clamp, opaque=opaque), samples, name, norm)
    the_same(clamped, bare(name, norm), network, samples)


@every_norm
@pytest.mark.parametrize("clamp", CLAMPS)
def test_whatever_clamps(clamp, norm, network, samples, bare):
    the_same(measure(Clamped(network, CLAMPS[clamp]), samples, "fmn", norm), bare("fmn", norm), network, samples)
    opaque = Clamped(network, CLAMPS[clamp], opaque=True)
    the_same(measure(opaque, samples, "fmn", norm), bare("fmn", norm), network, samples)


@pytest.mark.parametrize(
    ("name", "norm"), [("LInfFMNAttack", "linf"), ("DDNAttack", "l2"), ("L1FMNAttack", "l1"), ("L0FMNAttack", "l0")]
)
def test_attacks_of_foolbox_too(name, norm, network, samples, bare):
    pytest.importorskip("foolbox")
    opaque = Clamped(network, CLAMPS["clamp"], opaque=True)
    clamped = measure(opaque, samples, f"foolbox:{name}", norm, steps=40)
    the_same(clamped, bare(f"foolbox:{name}", norm, steps=40), network, samples)


@every_norm
def test_the_fall_back_too(norm, network, samples):
    inputs, labels, ids = samples.inputs[:6].float(), samples.labels[:6], samples.sample_ids[:6]

    def nothing(_model, inputs, *_):
        return Candidates(inputs.clone(), torch.zeros(len(inputs)))

    attack = replace(make_attack("fmn", norm=norm), search=nothing)
    clamped, bare = (
        attack(model, inputs, labels, ids) for model in (Clamped(network, CLAMPS["hardtanh"]).eval(), network)
    )
    assert bare.found.all()
    assert torch.equal(clamped.found_by, bare.found_by)
    torch.testing.assert_close(clamped.epsilon, bare.epsilon, rtol=0.01, atol=0)


@pytest.mark.parametrize(
    ("name", "norm", "budget"),
    [("pgd", "linf", 0.07), ("pgd", "l2", 0.35), ("pgd", "l1", 1.5), ("apgd-ce", "linf", 0.07), ("apgd-ce", "l1", 1.2)],
)
def test_attacks_at_a_budget_break_the_same(name, norm, budget, network, samples):
    pytest.importorskip("foolbox" if name == "pgd" else "pyautoattack")
    ensemble = make_ensemble(name, norm=norm, budget=budget, classes=10, shape=(1, 8, 8))
    arguments = samples.inputs[:].float(), samples.labels, samples.sample_ids
    clamped, bare = (
        ensemble.members[0](model, *arguments) for model in (Clamped(network, CLAMPS["clamp"]).eval(), network)
    )
    assert torch.equal(clamped.found, bare.found)
    assert 0 < bare.found.sum() < len(bare)
    torch.testing.assert_close(clamped.epsilon, bare.epsilon, rtol=0.01, atol=0, equal_nan=True)


# -- and whoever attacks it with another program is told ---------------------------------------------------------------


def hides_the_ends(clamp):
    """Whether this torch gives another gradient than 1 at exactly 0 and 1: from 2.14 on, its clamp does."""
    ends = torch.tensor([0.0, 1.0], requires_grad=True)
    return bool((torch.autograd.grad(clamp(ends).sum(), ends)[0] != 1).any())


def test_a_network_that_hides_the_ends_is_named(network, samples):
    arguments = samples.inputs[:].float(), samples.labels, samples.sample_ids
    assert hides_the_ends(CLAMPS["hardtanh"])
    for clamp in filter(hides_the_ends, CLAMPS.values()):
        raised = [one for one in check_network(Clamped(network, clamp).eval(), *arguments) if one.raised]
        assert [one.check for one in raised] == ["hidden_ends"]
        assert raised[0].count == len(samples)
        assert "other programs' attacks will look too weak" in str(raised[0])
    assert not [one for one in check_network(network, *arguments) if one.raised]


@pytest.mark.slow
@every_norm
def test_watching_an_attack_on_it_raises_nothing(norm, network, samples):
    arguments = samples.inputs[:4].float(), samples.labels[:4], samples.sample_ids[:4]
    attack = make_attack("tmn", norm=norm, effort="quick")
    clamped, bare = (
        check_attack(model, *arguments, attack, norm=norm)
        for model in (as_classifier(Clamped(network, CLAMPS["clamp"])), as_classifier(network))
    )
    assert clamped == bare
