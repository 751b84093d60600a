"""Networks that hide their gradients at the ends of the box are told from all others, and seen from a hair inside."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.models.test_inference import HUGE, witnessed
from tests.truth import linear
from thinice.models import as_classifier, build, find_architecture, known_architectures
from thinice.models.clamped_inputs import _KNOWN, HAIR, Inside, Onlooker, drawn_in, hides_ends, seen_inside
from thinice.models.inference import unclamped

pytestmark = pytest.mark.sampled

INPUTS = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def digits(seed: int = 2) -> nn.Module:
    torch.manual_seed(seed)
    return build("digits_cnn").eval()


def behind(clamp):
    """The digits network behind a function of its inputs that `torch.fx` cannot trace."""

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = digits()

        def forward(self, inputs):
            if not inputs.numel():
                raise ValueError("nothing to look at")
            return self.network(clamp(inputs))

    return Wrapper().eval()


CLAMPS = {
    "clamp": lambda x: x.clamp(0, 1),
    "wider on one side": lambda x: x.clamp(0, 3),
    "in place": lambda x: x.clamp_(0, 1),
    "tensors": lambda x: torch.clamp(x, torch.zeros(1), torch.ones(1)),  # leaves half of the gradient
    "hardtanh": lambda x: functional.hardtanh(x, 0, 1),
    "relu": torch.relu,
    "minimum and maximum": lambda x: torch.minimum(torch.maximum(x, torch.tensor(0.0)), torch.tensor(1.0)),
    "reshaped": lambda x: x.flatten(1).flip(1).clamp(0, 1).view_as(x),
    "normalised": lambda x: ((x - 0.1307) / 0.3081).clamp(-0.1307 / 0.3081, (1 - 0.1307) / 0.3081),
    "in grey values": lambda x: (255 * x).clamp(0, 255) / 255,
}


@pytest.mark.parametrize("clamp", CLAMPS.values(), ids=CLAMPS)
def test_every_kind_of_clamp_is_seen_and_seen_through(clamp):
    ends = torch.tensor([[[[0.0, 1.0]]]], requires_grad=True)
    if (torch.autograd.grad(clamp(ends.clone()).sum(), ends)[0] == 1).all():
        pytest.skip("the clamp of this torch, older than 2.14, hides no gradient")
    wrapped = behind(clamp)
    assert hides_ends(wrapped, INPUTS)
    seen = seen_inside(wrapped, INPUTS)
    assert isinstance(seen, Inside)

    point = torch.where(INPUTS < 0.3, 0.0, torch.where(INPUTS > 0.7, 1.0, INPUTS)).requires_grad_()
    twin = drawn_in(point.detach()).requires_grad_()
    (gradient,) = torch.autograd.grad(seen(point)[:, 0].sum(), point)
    (expected,) = torch.autograd.grad(wrapped(twin.clone())[:, 0].sum(), twin)
    assert torch.equal(gradient, expected)
    assert (gradient[(point == 0) | (point == 1)] != 0).float().mean() > 0.5
    with torch.no_grad():
        assert torch.equal(seen(point.detach()), wrapped(point.detach().clone()))  # exact where no gradient is taken


HEALTHY = {
    "none": lambda x: x,
    "wider on both sides": lambda x: x.clamp(-0.1, 1.1),
    "a clamp that cuts": lambda x: x.clamp(0.25, 0.75),  # nothing is inside either: the function is flat there
    "rounded": lambda x: (255 * x).round() / 255,
    "cropped": lambda x: functional.pad(x[..., 1:-1, 1:-1], (1, 1, 1, 1)),
    "dropped out": lambda x: functional.dropout(x, 0.5, training=True),
    "noisy": lambda x: x + 0.1 * torch.randn_like(x),
    "constant": torch.zeros_like,
    "smooth": lambda x: (4 * x - 2).sigmoid(),
    "folded": lambda x: (x - 0.5).abs(),
}


@pytest.mark.parametrize("change", HEALTHY.values(), ids=HEALTHY)
def test_all_other_networks_are_searched_as_they_are(change):
    wrapped = behind(change)
    state = torch.get_rng_state()
    assert seen_inside(wrapped, INPUTS) is wrapped
    assert torch.equal(torch.get_rng_state(), state)  # what is random in a network draws as it would have


@pytest.mark.parametrize("name", [witnessed(name) for name in known_architectures() if name not in HUGE])
def test_no_architecture_is_taken_for_a_clamped_one(name):
    torch.manual_seed(1)
    shape = find_architecture(name).input_shape or (3, 64, 64)
    classifier = as_classifier(build(name, 10), normalization="none" if name == "digits_cnn" else "half")
    assert seen_inside(classifier, torch.zeros(1, *shape)) is classifier
    module = classifier.module
    assert unclamped(module) == (module, 0)


def test_a_linear_network_is_seen_as_it_is_and_no_inputs_ask_nothing():
    known = linear(classes=4)
    assert seen_inside(known.model, known.inputs) is known.model

    def never(inputs):
        raise AssertionError(f"asked {len(inputs)}")

    assert seen_inside(never, INPUTS[:0]) is never


class Counting(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network, self.passes = network, []

    def forward(self, inputs):
        self.passes.append(len(inputs))
        return self.network(inputs)

    def __deepcopy__(self, memo):
        return self


@pytest.mark.parametrize("clamp", [CLAMPS["clamp"], HEALTHY["none"]], ids=["clamped", "healthy"])
def test_a_classifier_is_asked_once_for_each_shape_and_any_other_model_each_time(clamp):
    counting = Counting(behind(lambda x: clamp(functional.adaptive_avg_pool2d(x, 8))))
    classifier = as_classifier(counting)
    answers = {type(seen_inside(classifier, INPUTS)) for _ in range(3)}
    assert len(answers) == 1
    assert len(counting.passes) == 8
    seen_inside(classifier, torch.rand(5, 1, 16, 16))
    assert len(counting.passes) == 16
    assert {type(seen_inside(counting, INPUTS)) for _ in range(2)} == ({Inside} if Inside in answers else {Counting})
    assert len(counting.passes) == 32
    del classifier, answers
    gc.collect()
    assert not any(model.module is counting for model in _KNOWN)


def test_drawn_in_moves_the_ends_alone_and_by_a_hair():
    inputs = torch.tensor([0.0, 1e-8, HAIR, 0.3, 1 - HAIR, 1.0], requires_grad=True)
    inside = drawn_in(inputs)
    assert torch.equal(inside[2:5], inputs[2:5])
    assert inside[0] == HAIR
    assert inside[5] == 1 - HAIR
    inside.sum().backward()
    assert torch.equal(inputs.grad, torch.ones(6))


def test_it_can_be_copied_to_float64_as_its_network_can():
    classifier = as_classifier(behind(CLAMPS["hardtanh"]))
    seen = seen_inside(classifier, INPUTS)
    twin = copy.deepcopy(seen).double()
    assert twin(INPUTS.double()).dtype == torch.float64


def test_who_looks_on_sees_the_exact_point():
    class Watch(Onlooker):
        def __init__(self, model, points):
            super().__init__(model)
            self.points = points

        def over(self, model):
            return Watch(model, self.points)

        def forward(self, inputs):
            self.points.append(inputs.detach().clone())
            return self.model(inputs)

    watch = Watch(behind(CLAMPS["hardtanh"]), [])
    seen = seen_inside(watch, INPUTS)
    assert watch.points == []  # the network behind was asked
    point = torch.zeros(1, 1, 8, 8, requires_grad=True)
    seen(point).sum().backward()
    assert (point.grad != 0).any()
    assert torch.equal(watch.points[0], point.detach())
    plain = Watch(digits(), [])
    assert seen_inside(plain, INPUTS) is plain
