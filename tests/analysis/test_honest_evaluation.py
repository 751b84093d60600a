"""Attacks on networks with verified answers: nothing within a verified radius, less to stand on at larger budgets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.attacks.test_fmn_truth import verified as verified_network
from thinice.attacks import make_attack
from thinice.attacks.fixed_budget import make_ensemble
from thinice.attacks.result import predict
from thinice.checks.attack_failure import check_attack
from thinice.checks.contradictions import Evidence, contradictions, fixed_budget, minimum_norm, verified
from thinice.checks.network import check_network

BUDGET_ATTACKS = ("pgd", "apgd-ce")
SIZES = {"mnistfc_256x2": 20, "oval_cifar_base_kw": 8, "resnet_2b": 8}


class Verified:
    """The first samples of a verified network that it has right, and the radii within which nothing lies."""

    def __init__(self, name: str) -> None:
        network, inputs, labels, radii, verdicts = verified_network(name)
        inputs, labels, radii = (column[: SIZES[name]] for column in (inputs, labels, radii))
        right = predict(network, inputs) == labels
        holds = torch.from_numpy(verdicts[: SIZES[name]] == "holds")
        self.network, self.inputs, self.labels = network, inputs[right], labels[right]
        self.ids = torch.arange(SIZES[name])[right]
        self.radii = torch.where(holds, radii, 0)[right].double().numpy()
        self.classes = network(inputs[:1]).shape[1]

    @property
    def budgets(self) -> list[float]:
        """A verified radius, and half, twice and six times as much: from nearly all standing to nearly none."""
        radius = float(np.median(self.radii[self.radii > 0]))
        return [radius / 2, radius, 2 * radius, 6 * radius]

    def stands(self, attack: str, budget: float) -> np.ndarray:
        pytest.importorskip("pyautoattack") if attack.startswith("apgd") else None
        shape = self.inputs.shape[1:]
        ensemble = make_ensemble(attack, norm="linf", budget=budget, classes=self.classes, shape=shape)
        standing = torch.ones(len(self.ids), dtype=torch.bool)
        for member in ensemble.members:
            nearest = member(self.network, self.inputs, self.labels, self.ids)
            standing &= ~(nearest.found & (nearest.epsilon <= np.float32(budget)))
        return standing.numpy()

    def epsilons(self, attack: str, norm: str = "linf", **settings) -> np.ndarray:
        nearest = make_attack(attack, norm=norm, **settings)(self.network, self.inputs, self.labels, self.ids)
        return nearest.epsilon.double().numpy()

    def proof(self) -> Evidence:
        return verified("complete verifiers", "linf", self.ids.numpy(), self.radii)


@pytest.mark.data
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "mnistfc_256x2" else pytest.mark.slow) for name in SIZES]
)
@pytest.mark.slow
def test_no_attack_breaks_what_is_verified_and_fewer_stand_at_larger_budgets(name):
    case, evidence = Verified(name), []
    for attack in BUDGET_ATTACKS:
        standing = [case.stands(attack, budget) for budget in case.budgets]
        for budget, stands in zip(case.budgets, standing, strict=True):
            assert stands[case.radii >= budget].all()
            evidence.append(fixed_budget(f"{attack} {budget:.4f}", "linf", budget, case.ids.numpy(), stands))
        counts = [int(stands.sum()) for stands in standing]
        assert counts == sorted(counts, reverse=True)
        assert counts[-1] < counts[0], "the attack does nothing, and the test above says nothing"
    for attack, settings in (("fmn", {}), ("ho-fmn", {"steps": 60, "learning_rate": 0.05})):
        epsilon = case.epsilons(attack, **settings)
        assert not (epsilon <= case.radii).any()
        evidence.append(minimum_norm(attack, "linf", case.ids.numpy(), epsilon))
    assert (case.radii > 0).any()
    found = contradictions([case.proof(), *evidence], entries=case.inputs[0].numel())
    assert not [one for one in found if one.check in {"verified", "clean"}]


@pytest.mark.data
@pytest.mark.slow
def test_norms_agree_on_a_real_network():
    """Minimum-norm attacks of four norms: none has an adversarial in hand that another should have found."""
    case = Verified("oval_cifar_base_kw")
    evidence = [
        minimum_norm(norm, norm, case.ids.numpy(), case.epsilons("fmn", norm)) for norm in ("l0", "l1", "l2", "linf")
    ]
    assert not contradictions([case.proof(), *evidence], entries=case.inputs[0].numel())


@pytest.mark.data
def test_probabilities_attacked_as_logits_are_caught_on_a_real_network():
    """The published mistake, made on purpose: a saturated softmax inside, and an l2 attack that ends far too early."""
    case = Verified("mnistfc_256x2")

    def probabilities(inputs):
        return (20 * case.network(inputs)).softmax(1)

    honest = minimum_norm("fmn", "linf", case.ids.numpy(), case.epsilons("fmn"))
    settings = {"loss": "margin", "optimizer": "adam", "scheduler": "none", "learning_rate": 1.0, "steps": 20}
    attack = make_attack("ho-fmn", norm="l2", bisections=0, fallback=False, **settings)
    mistaken = attack(probabilities, case.inputs, case.labels, case.ids).epsilon.double().numpy()
    claims = minimum_norm("on probabilities", "l2", case.ids.numpy(), mistaken)
    found = contradictions([honest, claims], entries=784)
    assert [(one.check, one.subjects[0]) for one in found] == [("norm", "on probabilities")]
    findings = check_network(probabilities, case.inputs, case.labels, case.ids)
    assert "softmax_output" in [one.check for one in findings if one.raised]


@pytest.mark.slow
@pytest.mark.data
def test_a_network_attacked_properly_raises_nothing_and_steps_too_short_for_the_ball_are_seen():
    """40 steps of a thirtieth of the budget do not cross a ball from side to side; a random start may need that."""
    case = Verified("oval_cifar_base_kw")
    samples = case.inputs[:4], case.labels[:4], case.ids[:4]
    attack = make_attack("fmn", norm="linf", fallback=False)
    findings = [*check_network(case.network, *samples), *check_attack(case.network, *samples, attack, norm="linf")]
    assert not [str(finding) for finding in findings if finding.raised]
    for stride, raised in ((1 / 30, ["incomplete_optimization"]), (0.1, [])):
        budget, shape = case.budgets[1], case.inputs.shape[1:]
        (member,) = make_ensemble("pgd", budget=budget, classes=10, shape=shape, rel_stepsize=stride).members
        found = check_attack(case.network, *samples, member, norm="linf", budget=budget)
        assert [one.check for one in found if one.raised] == raised
