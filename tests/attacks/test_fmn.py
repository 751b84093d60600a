"""FMN, the judge and foolbox's attacks on everything on which an attack could crash or lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import thinice
from tests.conftest import reference
from tests.truth import linear
from thinice.attacks import make_attack, verify
from thinice.errors import InputError
from thinice.types import NORMS, Outcome

pytestmark = pytest.mark.sampled


def run(known, name="fmn", **options):
    return make_attack(name, **options)(known.model, known.inputs, known.labels, known.sample_ids)


@pytest.mark.parametrize("norm", NORMS)
def test_batch_order_and_layout_change_nothing(norm):
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 4)).eval()
    inputs = torch.rand(11, 2, 6, 6)
    ids = torch.arange(11)
    with torch.no_grad():
        labels = network(inputs).argmax(1)
    attack = make_attack("fmn", norm=norm, steps=30)
    whole = attack(network, inputs, labels, ids).epsilon
    close = {"rtol": 1e-3, "atol": 1e-6}
    parts = [attack(network, inputs[k : k + 4], labels[k : k + 4], ids[k : k + 4]).epsilon for k in (0, 4, 8)]
    torch.testing.assert_close(torch.cat(parts), whole, **close)
    back = attack(network, inputs.flip(0), labels.flip(0), ids.flip(0)).epsilon.flip(0)
    torch.testing.assert_close(back, whole, **close)
    permuted = inputs.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    torch.testing.assert_close(attack(network, permuted, labels, ids).epsilon, whole, **close)
    assert torch.equal(attack(network, inputs, labels, ids).epsilon, whole)


class Constant(nn.Module):
    def forward(self, inputs):
        return torch.tensor([[1.0, 0.0, 0.0]]).expand(len(inputs), 3)


class Saturated(nn.Module):
    def forward(self, inputs):
        total = inputs.flatten(1).sum(1, keepdim=True) - 10
        return torch.cat([-total, total], 1).mul(200).softmax(1)


class Tied(nn.Module):
    def forward(self, inputs):
        total = inputs.flatten(1).sum(1, keepdim=True)
        return torch.cat([total, total], 1)


class OneClass(nn.Module):
    def forward(self, inputs):
        return inputs.flatten(1).sum(1, keepdim=True)


class Broken(nn.Module):
    """NaN for every input but those in the middle."""

    def forward(self, inputs):
        total = inputs.flatten(1).mean(1, keepdim=True)
        logits = torch.cat([1 - total, total - 0.5], 1)
        return torch.where((total - 0.4).abs() < 0.05, logits, torch.nan)


@pytest.mark.parametrize("size", [0, 1, 3])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "network", [Constant(), Saturated(), Tied(), OneClass(), Broken()], ids=lambda net: type(net).__name__
)
def test_nothing_crashes_or_lies(network, norm, size):
    inputs = torch.full((size, 1, 4, 5), 0.4)
    labels = torch.zeros(size, dtype=torch.int64)
    nearest = make_attack("fmn", norm=norm, steps=15)(network, inputs, labels, torch.arange(size))
    assert len(nearest) == size
    found = nearest.outcomes == Outcome.FOUND
    assert (nearest.epsilon.isnan() == ~found).all()
    if not isinstance(network, Saturated):  # it alone has another class to reach
        assert not found.any()
    with torch.no_grad():
        assert (network(nearest.adversarials[found]).argmax(1) != labels[found]).all()
    assert torch.equal(nearest.adversarials[~found], inputs[~found])


@pytest.mark.parametrize("norm", NORMS)
def test_a_batch_that_is_wrong_already_costs_a_forward_pass(norm):
    known = linear(classes=3)
    wrong = (known.labels + 1) % 3
    nearest = run(replace(known, labels=wrong), norm=norm)
    assert (nearest.outcomes == Outcome.MISCLASSIFIED).all()
    assert (nearest.epsilon == 0).all()
    assert (nearest.evaluations <= 1).all()
    assert torch.equal(nearest.predictions, known.labels)


def test_nan_at_the_input_is_no_class():
    inputs = torch.full((2, 1, 4, 5), 0.9)
    nearest = make_attack("fmn", steps=5)(Broken(), inputs, torch.tensor([0, 1]), torch.arange(2))
    assert (nearest.outcomes == Outcome.NOT_FOUND).all()
    assert nearest.clean_predictions.tolist() == [-1, -1]


def test_evaluations_are_those_that_happened():
    known = linear(classes=4)
    passes = {"forward": 0, "backward": 0}

    class PassCounter(nn.Module):
        def forward(self, inputs):
            passes["forward"] += len(inputs)
            logits = known.model(inputs)
            if logits.requires_grad:
                logits.register_hook(lambda _: passes.__setitem__("backward", passes["backward"] + len(inputs)))
            return logits

    nearest = run(replace(known, model=PassCounter()), steps=20)
    spent = passes["forward"] / 3 + passes["backward"] * 2 / 3
    assert float(nearest.evaluations.sum()) == pytest.approx(spent, rel=0.03)


def test_the_judge_believes_nothing():
    known = linear(classes=2)
    inputs, labels = known.inputs[:6], known.labels[:6]
    far = run(known, norm="l2").adversarials[:6]
    candidates = torch.stack([far[0], inputs[1], far[2] + 2, far[3] * torch.nan, far[4], far[5]])
    labels = labels.clone()
    labels[4] = 1 - labels[4]  # misclassified from the start, whatever is claimed
    verdict = verify(known.model, inputs, candidates, labels, norm="l2", evaluations=torch.ones(6))
    texts = [Outcome(code).text for code in verdict.outcomes.tolist()]
    assert texts == ["found", "not_found", "not_found", "not_found", "misclassified", "found"]
    length = (far[0] - inputs[0]).double().norm().item()
    assert verdict.epsilon[0].item() == pytest.approx(length, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "norm"),
    [("LInfFMNAttack", "linf"), ("L1FMNAttack", "l1"), ("L0FMNAttack", "l0"), ("L2DeepFoolAttack", "l2")],
)
def test_foolbox_attacks_are_judged_like_our_own(name, norm):
    known = linear(classes=3)
    nearest = run(known, f"foolbox:{name}", norm=norm, steps=50)
    found = nearest.found.numpy()
    assert found.mean() > 0.5
    assert (nearest.epsilon.numpy()[found] >= known.distances[norm][found] * (1 - 1e-4)).all()
    assert (nearest.evaluations > 3).all()


def test_foolboxes_broken_l2_fmn_is_shown_for_what_it_is():
    known = linear(classes=2)
    theirs = np.nanmedian(
        run(known, "foolbox:L2FMNAttack", norm="l2", steps=50).epsilon.numpy() / known.distances["l2"]
    )
    ours = np.median(run(known, norm="l2", steps=50).epsilon.numpy() / known.distances["l2"])
    assert ours < 1.001
    assert theirs > 1.5


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("foolbox:Nonsense", {}, "Nonsense"),
        ("foolbox:LInfFMNAttack", {"norm": "l2"}, "linf"),
        ("foolbox:LInfFMNAttack", {"speed": 3}, "speed"),
        ("foolbox:LinfPGD", {}, "LinfPGD"),
        ("nonsense", {}, "fmn"),
        ("fmn", {"steps": 0}, "steps"),
        ("fmn", {"steps": "many"}, "steps"),
        ("fmn", {"seed": -1}, "seed"),
    ],
)
def test_wrong_names_and_settings_are_told(name, options, part):
    with pytest.raises(InputError, match=part):
        make_attack(name, **options)


@pytest.mark.parametrize(
    "inputs", [torch.full((2, 1, 4, 5), 1.5), torch.full((2, 1, 4, 5), -0.1), torch.full((2, 1, 4, 5), torch.nan)]
)
def test_inputs_outside_the_box_are_refused(inputs):
    known = linear(classes=2)
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        make_attack("fmn")(known.model, inputs, known.labels[:2], torch.arange(2))


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ["resnet_2b", "oval_cifar_base_kw", "mnistfc_256x2"])
def test_verified_networks_agree(name):
    """No epsilon below a radius that verifiers proved; as many violations met as by foolbox with as many steps."""
    pytest.importorskip("onnx2torch")
    file = np.load(reference(f"data/verified/{name}.npz"))
    classifier = thinice.load_classifier(
        reference(f"data/verified/{name}.onnx"),
        normalization=(tuple(map(float, file["mean"])), tuple(map(float, file["std"]))),
    )
    inputs = torch.as_tensor(file["images"], dtype=torch.float32) / 255
    labels = torch.as_tensor(file["labels"])
    radius, verdict = file["epsilon"], file["verdict"]

    def met(attack):
        nearest = thinice.measure(classifier, inputs, labels=labels, attack=attack, steps=100, progress=False)
        epsilon = nearest.epsilon.numpy()
        holds = verdict == "holds"
        assert not (epsilon[holds] <= radius[holds]).any()
        return (epsilon[verdict == "violated"] <= radius[verdict == "violated"] + 1e-6).sum()

    assert met("fmn") >= met("foolbox:LInfFMNAttack")
