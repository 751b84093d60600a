"""Each check with a network made to fail it alone, and with healthy ones that fail none."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from tests.truth import linear, tiny_relu
from thinice.checks import CHECKS
from thinice.checks.attack_failure import black_box_stronger
from thinice.checks.network import check_network
from thinice.results import sort_by_severity

KNOWN = linear(classes=5, features=24, count=12)
IDS = torch.arange(100, 100 + len(KNOWN.labels))


def raised(model, inputs: Tensor = KNOWN.inputs, labels: Tensor = KNOWN.labels, **settings) -> dict[str, int]:
    found = check_network(model, inputs, labels, IDS[: len(inputs)], **settings)
    return {one.check: one.count for one in found if one.raised}


def convolutional() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(8 * 36, 5)
    ).eval()


# -- healthy ones ------------------------------------------------------------------------------------------------------


def test_a_linear_network_is_healthy():
    assert raised(KNOWN.model) == {}


def test_a_convolutional_network_in_eval_mode_is_healthy():
    network, inputs = convolutional(), torch.rand(10, 3, 8, 8)
    assert raised(network, inputs, network(inputs).argmax(1)) == {}


def test_log_probabilities_are_as_good_as_logits():
    assert raised(lambda inputs: KNOWN.model(inputs).log_softmax(1)) == {}


def test_three_classes_are_only_few():
    known = tiny_relu(classes=3)
    assert raised(known.model, known.inputs, known.labels) == {"few_classes": len(known.inputs)}


def test_what_the_network_has_wrong_is_not_asked_for_gradients():
    found = check_network(KNOWN.model, KNOWN.inputs, (KNOWN.labels + 1) % 5, IDS)
    assert {one.check: one.of for one in found}["zero_gradients"] == 0
    assert not any(one.raised for one in found)


def test_no_samples_raise_nothing():
    found = check_network(KNOWN.model, KNOWN.inputs[:0], KNOWN.labels[:0], IDS[:0])
    assert [(one.count, one.of, one.raised) for one in found] == [(0, 0, False)] * len(found)


# -- one that fails each -----------------------------------------------------------------------------------------------


def test_output_that_is_random():
    assert raised(lambda inputs: KNOWN.model(inputs) + 0.02 * torch.randn(len(inputs), 5)) == {"randomized_output": 12}


def test_dropout_that_was_left_on_is_random():
    network = convolutional()
    inputs = torch.rand(10, 3, 8, 8)
    labels = network(inputs).argmax(1)
    network[3].train()
    assert raised(network, inputs, labels)["randomized_output"] == 10


def test_batch_statistics_that_were_left_on():
    network = nn.Sequential(*[part for part in convolutional() if not isinstance(part, nn.Dropout)])
    inputs = torch.rand(10, 3, 8, 8)
    network[1].train()
    network[1].momentum = 0.0
    assert raised(network, inputs, network(inputs).argmax(1)) == {"batch_effects": 10}


def test_probabilities_instead_of_logits():
    assert raised(lambda inputs: KNOWN.model(inputs).softmax(1)) == {"softmax_output": 12}


def test_some_outputs_that_sum_to_one_are_an_accident():
    def network(inputs):
        logits = KNOWN.model(inputs)
        return torch.cat([logits[:3].softmax(1), logits[3:]])

    assert "softmax_output" not in raised(network)


def test_rounding_that_lets_no_gradient_through():
    assert raised(lambda inputs: KNOWN.model((inputs * 255).round() / 255)) == {"unavailable_gradients": 12}


def test_a_graph_that_is_cut():
    assert raised(lambda inputs: KNOWN.model(inputs.detach())) == {"unavailable_gradients": 12}


def test_a_gradient_that_is_no_number():
    def network(inputs):
        return KNOWN.model(inputs) + 0 * (inputs - inputs.detach()).flatten(1).norm(dim=1, keepdim=True).sqrt()

    assert raised(network) == {"unavailable_gradients": 12}


def test_logits_so_large_that_the_softmax_saturates():
    assert raised(lambda inputs: 1e6 * KNOWN.model(inputs)) == {"zero_gradients": 12}


def test_logits_that_are_just_not_too_large():
    assert raised(lambda inputs: 5 * KNOWN.model(inputs)) == {}


def test_noise_that_is_a_function_of_the_input():
    """The same input has the same logits, and a gradient that points the right way; but next door all is different."""

    def network(inputs):
        logits, key = KNOWN.model(inputs), inputs.detach().flatten(1).double().sum(1, keepdim=True)
        lead = logits.detach().topk(2).values.diff().abs()
        return logits * 1 + (1e6 * key).sin().float() * 2 * lead * nn.functional.one_hot(logits.argmax(1), 5)

    inputs = KNOWN.inputs
    found = {one.check: one for one in check_network(network, inputs, network(inputs).argmax(1), IDS) if one.raised}
    assert list(found) == ["unstable_predictions"]
    assert 0.5 < found["unstable_predictions"].value <= 1


class Backwards(torch.autograd.Function):
    """The identity, with a gradient that points the wrong way."""

    @staticmethod
    def forward(_, inputs):
        return inputs.clone()

    @staticmethod
    def backward(_, gradient):
        return -gradient


def test_gradients_that_lead_away_from_the_boundary():
    assert raised(lambda inputs: KNOWN.model(Backwards.apply(inputs))) == {"unconstrained_attack_failure": 12}


# -- what a finding says -----------------------------------------------------------------------------------------------


def test_a_finding_names_its_samples_and_no_others():
    def network(inputs):
        return torch.where(torch.arange(len(inputs))[:, None] % 12 < 4, 1e6, 1.0) * KNOWN.model(inputs)

    (one,) = sort_by_severity(check_network(network, KNOWN.inputs, KNOWN.labels, IDS))
    assert (one.check, one.samples, one.of) == ("zero_gradients", (100, 101, 102, 103), 12)
    assert str(one).startswith("zero_gradients, 4 of 12 samples: the gradient of the cross-entropy is exactly 0; ")
    assert json.loads(json.dumps(one.to_dict()))["sample_ids"] == [100, 101, 102, 103]


def test_each_check_is_explained_and_each_sample_speaks_for_itself():
    whole = check_network(KNOWN.model, KNOWN.inputs, KNOWN.labels, IDS, seed=3)
    assert [one.check for one in whole] == list(CHECKS.names()[: len(whole)])
    values = {}
    for k in range(len(IDS)):
        alone = check_network(KNOWN.model, KNOWN.inputs[k : k + 1], KNOWN.labels[k : k + 1], IDS[k : k + 1], seed=3)
        values[k] = {one.check: one.value for one in alone}["unstable_predictions"]
    together = {one.check: one.value for one in whole}["unstable_predictions"]
    assert together == pytest.approx(sum(values.values()) / len(values), rel=1e-4)


def test_what_withstood_gradients_and_fell_without():
    finding = black_box_stronger([4, 5, 6, 7], ["apgd-ce", "square", None, "square"], ["square"])
    assert (finding.raised, finding.samples, finding.of) == (True, (5, 7), 4)
    assert not black_box_stronger([4, 5], ["apgd-ce", None], ["square"]).raised


def test_the_worst_comes_first():
    shares = [
        one.share
        for one in sort_by_severity(check_network(lambda x: 1e6 * KNOWN.model(x), KNOWN.inputs, KNOWN.labels, IDS))
    ]
    assert shares == sorted(shares, reverse=True)
