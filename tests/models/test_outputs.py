"""Outputs that no attack can measure as they are are seen before measuring, and the cure in the message works."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.nn import functional

import thinice
from thinice.analysis.measurement import prepare_classifier
from thinice.errors import InputError
from thinice.models import as_classifier, build, save_classifier
from thinice.models.outputs import output_doubts, refuse_other_outputs

INPUTS = torch.rand(13, 3, 6, 6, generator=torch.Generator().manual_seed(3))


def normed(norm: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Tanh(), nn.Flatten(), nn.Linear(64, 4))


class Changed(nn.Module):
    """A network whose outputs go through a function."""

    def __init__(self, change, classes=4):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(128, classes))
        self.change = change

    def forward(self, inputs):
        return self.change(self.network(inputs))


class LeftInTraining(nn.BatchNorm2d):
    def train(self, _mode=True):
        return super().train(True)


class LeftInTraining1d(nn.BatchNorm1d):
    def train(self, _mode=True):
        return super().train(True)


# -- random, or of the whole batch ---------------------------------------------------------------------------------


RANDOM = {
    "dropout without self.training": Changed(lambda logits: functional.dropout(logits, 0.5)),
    "noise": Changed(lambda logits: logits + 0.01 * torch.randn_like(logits)),
    "noise of numpy": Changed(lambda logits: logits + float(__import__("numpy").random.rand())),
    "votes over noise": Changed(lambda logits: (logits + torch.randn(50, 1, 4)).softmax(2).round().mean(0)),
}
BATCHED = {
    "no running statistics": normed(nn.BatchNorm2d(4, track_running_stats=False)),
    "left in training": normed(LeftInTraining(4)),
    "functional": Changed(
        lambda logits: functional.batch_norm(torch.stack([logits, logits.exp()], 2), None, None, training=True)[..., 0]
    ),
    "minus the mean of the batch": Changed(lambda logits: logits - logits.mean(0) / 2),
}
HEALTHY = {
    "batch norm": normed(nn.BatchNorm2d(4)),
    "instance norm": normed(nn.InstanceNorm2d(4)),
    "dropout": nn.Sequential(nn.Dropout(0.5), normed(nn.Identity())),
    "undefined logits": Changed(lambda logits: logits.log().where(logits > 0, torch.nan)),
    "large logits": Changed(lambda logits: 1e20 * logits),
}


def doubts(network: nn.Module) -> list[str]:
    return [doubt.partition(",")[0] for doubt in output_doubts(as_classifier(network), INPUTS)]


@pytest.mark.parametrize("network", RANDOM.values(), ids=RANDOM)
def test_random_logits_are_told_and_draw_nothing(network):
    state = torch.get_rng_state()
    assert doubts(network)[0] == "the same samples have other logits each time"
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("network", BATCHED.values(), ids=BATCHED)
def test_logits_that_depend_on_the_batch_are_told(network):
    (doubt,) = doubts(network)
    assert doubt.startswith("the logits of a sample depend on the batch it is in")
    assert output_doubts(as_classifier(network, one_by_one=True), INPUTS) == ()


def test_the_layer_that_asks_the_batch_is_named():
    assert doubts(BATCHED["no running statistics"]) == [
        "the logits of a sample depend on the batch it is in (1 is a BatchNorm2d without running statistics)"
    ]


@pytest.mark.parametrize("network", HEALTHY.values(), ids=HEALTHY)
def test_of_others_nothing_is_said(network):
    assert doubts(network) == []


def test_one_look_takes_a_few_passes():
    sizes = []
    network = Changed(lambda logits: sizes.append(len(logits)) or logits)
    output_doubts(as_classifier(network), INPUTS)
    assert sizes == [3, 3, 1, 1, 2]


FLAT = {
    "cut": Changed(lambda logits: logits.detach()),
    "without gradients": Changed(torch.no_grad()(lambda logits: logits + 0)),
    "of numpy": Changed(lambda logits: torch.from_numpy(logits.detach().numpy())),
    "rounded": Changed(lambda logits: (100 * logits).round()),
}


@pytest.mark.parametrize("network", FLAT.values(), ids=FLAT)
def test_a_network_without_gradients_is_told(network):
    classifier = as_classifier(network)
    (doubt,) = output_doubts(classifier, INPUTS)
    assert doubt.startswith("no gradient reaches the pixels")
    with torch.inference_mode():
        assert output_doubts(classifier, INPUTS) == (doubt,)


def test_a_network_that_pruning_has_left_without_a_path_is_told():
    classifier = build("digits_cnn", 10)
    with torch.no_grad():
        for parameter in list(classifier.parameters())[:1]:
            parameter.zero_()
    images = torch.rand(4, 1, 8, 8)
    assert output_doubts(as_classifier(build("digits_cnn", 10)), images) == ()
    (doubt,) = output_doubts(as_classifier(classifier), images)
    assert doubt.startswith("its logits are the same for all samples that were tried")


def test_one_by_one_is_another_network_with_the_same_weights(tmp_path):
    network = build("digits_cnn", 10)
    plain = as_classifier(network, normalization="half")
    alone = as_classifier(plain, one_by_one=True)
    assert (plain.one_by_one, alone.one_by_one) == (False, True)
    assert alone.fingerprint != plain.fingerprint
    assert as_classifier(network, normalization="half", one_by_one=True).fingerprint == alone.fingerprint
    assert as_classifier(alone.module).fingerprint != plain.fingerprint
    assert as_classifier(alone) is as_classifier(alone, one_by_one=True) is alone
    assert as_classifier(alone, one_by_one=False).fingerprint == plain.fingerprint
    assert (alone.sparsity, alone.classes) == (plain.sparsity, plain.classes)
    assert set(alone.network.state_dict()) == set(network.state_dict())
    inputs = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(alone(inputs), plain(inputs))
    assert alone(inputs[:0]).shape == (0, 10)
    written = thinice.load_classifier(save_classifier(alone, tmp_path / "alone.pt"))
    assert (written.fingerprint, written.notes) == (plain.fingerprint, ())


def test_a_network_that_takes_one_sample_at_a_time_is_given_them_so():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(108, 4)

        def forward(self, inputs):
            return self.linear(inputs.view(1, -1))

    network = Single()
    text = refusal(network)
    assert "takes one sample but not several (mat1 and mat2 shapes" in text
    assert text.endswith("as_classifier(network, one_by_one=True))")
    classifier = as_classifier(network, one_by_one=True)
    assert refuse_other_outputs(classifier, INPUTS, "`samples`") == 4
    assert classifier(INPUTS).shape == (13, 4)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda x: {}[x.shape], r"`samples` do not fit the network 'odd': KeyError: torch.Size"),
        (
            lambda x: x.no_such,
            "do not fit the network 'odd': AttributeError: 'Tensor' object has no attribute 'no_such'",
        ),
        (lambda x: x.half() @ x, "Half.*; it is run in float32, so leave casts to other types out"),
    ],
)
def test_what_a_network_raises_is_one_line_with_its_traceback_behind(forward, message):
    class Broken(nn.Module):
        def forward(self, inputs):
            return forward(inputs)

    with pytest.raises(InputError, match=message) as caught:
        refuse_other_outputs(as_classifier(Broken(), name="odd"), INPUTS, "`samples`")
    assert caught.value.__cause__ is not None


# -- outputs that are no logits (N, K) -------------------------------------------------------------------------------


WRAPPED = {
    "one logit": (Changed(lambda logits: logits, classes=1), 2),
    "one logit, squeezed": (Changed(lambda logits: logits.squeeze(), classes=1), 2),
    "one logit, its axis squeezed": (Changed(lambda logits: logits.squeeze(1), classes=1), 2),
    "one logit on a map": (Changed(lambda logits: logits[:, :, None, None], classes=1), 2),
    "a map of one place": (Changed(lambda logits: logits[:, :, None, None]), 4),
    "a row of one place": (Changed(lambda logits: logits[:, :, None]), 4),
    "places": (Changed(lambda logits: logits[:, :, None, None].repeat(1, 1, 2, 3)), 4),
    "a dict": (Changed(lambda logits: {"features": logits * 2, "logits": logits}), 4),
    "a dict without the word": (Changed(lambda logits: {"loss": logits.sum(), "scores": logits}), 4),
    "a tuple": (Changed(lambda logits: (logits, None)), 4),
    "double": (Changed(lambda logits: logits.double()), 4),
    "half": (Changed(lambda logits: logits.bfloat16()), 4),
    "a list": (Changed(lambda logits: [logits[0], logits]), 4),
}


def refusal(network: nn.Module) -> str:
    with pytest.raises(InputError) as caught:
        refuse_other_outputs(as_classifier(network, name="odd"), INPUTS, "`samples`")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("network", "classes"), WRAPPED.values(), ids=WRAPPED)
def test_the_line_in_the_message_makes_logits_of_other_outputs(network, classes):
    text = refusal(network)
    assert text.startswith("the network 'odd' ")
    defined = re.search(r"class (Logits|Float32).*", text)
    seen = {"torch": torch, "network": network}
    exec(defined[0] if defined else "", seen)
    mended = eval(re.search(r"torch\.nn\.Sequential\(network.*\)|(Logits|Float32)\(network\)", text)[0], seen)
    classifier = as_classifier(mended)
    assert refuse_other_outputs(classifier, INPUTS, "`samples`") == classes
    logits = network.network(INPUTS).detach()
    truth = torch.cat([torch.zeros_like(logits), logits], 1) if classes == 2 else logits
    truth = truth.bfloat16().float() if "bfloat16" in text else truth
    torch.testing.assert_close(classifier(INPUTS), truth)
    if classes == 2:  # the class of positive logits is 1, with the sigmoid's probability
        torch.testing.assert_close(classifier(INPUTS).softmax(1)[:, 1:], logits.sigmoid())


@pytest.mark.parametrize(
    ("change", "classes", "message"),
    [
        (lambda logits: logits.sigmoid(), 1, "one output, .* it looks like a sigmoid's; leave that out"),
        (
            lambda logits: logits.squeeze(),
            4,
            r"shape \(4,\) for one sample and \(2, 4\) for two, .* flatten\(1\) in its",
        ),
        (lambda logits: logits.argmax(1), 4, r"returns torch.int64 of shape \(1,\), .* the scores before argmax"),
        (lambda logits: (logits > 0).long(), 4, "returns torch.int64 .* before argmax or rounding"),
        (lambda logits: logits.mean(0), 4, r"returns shape \(4,\) for 2 samples, not logits \(N, classes\)$"),
        (lambda logits: logits.mean(0, keepdim=True), 4, r"shape \(1, 4\) for 2 samples, not logits \(N, classes\)$"),
        (lambda logits: logits[None], 4, r"returns shape \(1, 2, 4\) for 2 samples, not logits \(N, classes\)$"),
        (lambda logits: (logits, logits), 4, "returns a tuple, .*: wrap it in a module that does$"),
        (lambda _: {"a": 1}, 4, "returns a dict, .*: wrap it in a module that does$"),
        (lambda _: None, 4, "returns a NoneType, .*: wrap it in a module that does$"),
    ],
)
def test_where_no_line_is_certain_the_message_says_what_to_do(change, classes, message):
    assert re.search(message, refusal(Changed(change, classes)))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(64, track_running_stats=False), LeftInTraining1d(64)])
def test_a_network_that_refuses_one_sample_is_told_why(norm):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), norm, nn.Linear(64, 4))
    text = refusal(network)
    assert "takes several samples but not one alone" in text
    assert text.endswith("batch norm with fixed statistics (track_running_stats=True)")


def test_log_probabilities_are_as_good_as_logits():
    """log_softmax subtracts one number from all logits of a sample: classes and differences of logits stay."""
    plain, logged = Changed(nn.Identity()), Changed(lambda logits: logits.log_softmax(1))
    logged.load_state_dict(plain.state_dict())
    with torch.no_grad():
        labels = plain(INPUTS).argmax(1)
    samples = thinice.as_samples(INPUTS, labels, classes=list("abcd"))
    both = [prepare_classifier(as_classifier(network), samples) for network in (plain, logged)]  # warnings are errors
    assert both[0].notes == both[1].notes
    epsilons = [thinice.measure(network, samples, attack="fmn", steps=30, progress=False).epsilon for network in both]
    torch.testing.assert_close(*epsilons, rtol=1e-3, atol=1e-4)
    assert bool((epsilons[0] > 0).all())
