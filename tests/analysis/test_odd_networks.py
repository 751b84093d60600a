"""Networks that no attack can measure as they are: warned of before anything is measured, and measured one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import thinice
from thinice.analysis.measurement import check_fit, prepare_classifier
from thinice.errors import DoubtfulWarning, InputError
from thinice.models import as_classifier
from thinice.pruning import prune

INPUTS = torch.rand(13, 3, 6, 6, generator=torch.Generator().manual_seed(3))


def normed(norm: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Tanh(), nn.Flatten(), nn.Linear(64, 4))


class Noise(nn.Module):
    def forward(self, inputs):
        return inputs + 0.01 * torch.randn_like(inputs)


BATCHED = nn.BatchNorm2d(4, track_running_stats=False)


JOBS = {
    "measure": thinice.measure,
    "measure_all": lambda network, samples, **options: thinice.measure_all([network], samples, **options),
    "compare": lambda network, samples, **options: thinice.compare(network, normed(nn.Identity()), samples, **options),
    "evaluate": lambda network, samples, **options: thinice.evaluate(network, samples, budget=0.1, **options),
}


class TooLateError(Exception):
    pass


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_each_job_warns_before_it_measures(job):
    samples = thinice.as_samples(INPUTS, torch.arange(13) % 4)

    def too_late(_):
        raise TooLateError

    for norm, message in ((Noise(), "odd: .* other logits each time"), (BATCHED, "odd: .* depend on the batch")):
        network = as_classifier(normed(norm), name="odd")
        with pytest.warns(DoubtfulWarning, match=message) as caught, pytest.raises(TooLateError):
            job(network, samples, attack="fmn", effort="quick", progress=too_late)
        (warning,) = caught
        assert warning.filename == __file__


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_a_caller_in_inference_mode_gets_gradients(job):
    samples = thinice.as_samples(INPUTS[:2], torch.tensor([0, 1]))
    with torch.inference_mode():
        assert job(normed(nn.Identity()), samples, attack="fmn", effort="quick", progress=False)


# -- one by one ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_by_one_batch_statistics_are_those_of_the_sample(norm):
    """Batch norm of one sample is instance norm: the same network written without a batch."""
    batched, alone = normed(BATCHED), normed(nn.InstanceNorm2d(4))
    with torch.no_grad():
        labels = alone(INPUTS).argmax(1)
    options = {"labels": labels, "norm": norm, "effort": "quick", "progress": False}
    truth = thinice.measure(alone, INPUTS, **options)
    for batch_size in (1, 5):
        nearest = thinice.measure(as_classifier(batched, one_by_one=True), INPUTS, batch_size=batch_size, **options)
        assert torch.equal(nearest.outcomes, truth.outcomes)
        torch.testing.assert_close(nearest.epsilon, truth.epsilon, rtol=1e-3, atol=0)
        with torch.no_grad():  # each claim holds of the sample alone
            assert [
                alone(sample[None]).argmax().item() for sample in nearest.adversarials
            ] == nearest.predictions.tolist()
    assert truth.found.all()


def test_samples_decide_on_the_normalisation_of_a_network_that_gets_them_one_by_one(tmp_path):
    dense = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    torch.save(dense.network.state_dict(), tmp_path / "bare.pt")
    loaded = thinice.load_classifier(tmp_path / "bare.pt", architecture="digits_cnn")
    samples = thinice.load_samples("digits", limit=200)
    ready = prepare_classifier(as_classifier(loaded, one_by_one=True), samples)
    assert ready.one_by_one
    assert ready.normalization == prepare_classifier(loaded, samples).normalization
    assert not ready.normalization_known or any("chosen" in note for note in ready.notes)


def test_a_compiled_network_gets_batches():
    network = as_classifier(normed(nn.InstanceNorm2d(4)), one_by_one=True)
    with pytest.raises(InputError, match="is given samples one by one: choose"):
        thinice.measure(network, INPUTS, labels=network(INPUTS).argmax(1), compiled=True, progress=False)


def test_pruning_is_of_the_network_itself():
    alone = as_classifier(normed(BATCHED), one_by_one=True)
    assert list(prune(alone, sparsity=0.5).masks.kept) == ["0.weight", "4.weight"]


def test_one_logit_is_measured_at_its_distance():
    """A plane: the logit is the mean of the pixels minus 0.4, so linf takes exactly the difference."""
    plane = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    plane[1].weight.data.fill_(0.25)
    plane[1].bias.data.fill_(-0.4)
    mended = nn.Sequential(plane, nn.ZeroPad1d((1, 0)))
    inputs = torch.tensor([[0.3], [0.9]]).repeat(1, 4).view(2, 1, 2, 2)
    nearest = thinice.measure(mended, inputs, labels=torch.tensor([0, 1]), norm="linf", progress=False)
    assert nearest.epsilon.tolist() == pytest.approx([0.1, 0.5], rel=1e-3)


# -- labels ----------------------------------------------------------------------------------------------------------


def twelve(shift: int, classes: int):
    """One-hot images of twelve classes, right under their places, with labels that count from another number."""
    inputs = torch.eye(12).view(12, 1, 3, 4)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, classes))
    network[1].weight.data.copy_(torch.eye(classes, 12))
    network[1].bias.data.fill_(0.5)
    return as_classifier(network, name="net"), thinice.as_samples(inputs, torch.arange(12) + shift)


def test_logits_that_are_no_numbers_are_told():
    network, samples = twelve(0, 12)
    broken = as_classifier(nn.Sequential(network.module, nn.Threshold(1, torch.nan)), name="net")
    with pytest.warns(DoubtfulWarning, match="12 of 12 samples have logits that are NaN, and so no class"):
        prepare_classifier(broken, samples)


def test_labels_that_count_from_one_are_told():
    with pytest.raises(InputError, match=r"have label 12, .* \(0 to 11\): they count from 1, give labels - 1$"):
        check_fit(*twelve(1, 12))
    with pytest.raises(InputError, match=r"have label 13, .*: choose the data set that it was trained on$"):
        check_fit(*twelve(2, 12))
    with pytest.warns(DoubtfulWarning, match=r"net: 0 of 12 samples are right .* 12 with labels - 1: where do labels"):
        prepare_classifier(*twelve(1, 13))


def test_labels_of_a_network_that_counts_from_one_are_told():
    network, samples = twelve(0, 12)
    later = as_classifier(nn.Sequential(network.module, nn.ZeroPad1d((1, 0))), name="net")
    with pytest.warns(DoubtfulWarning, match=r"net: 0 of 12 samples are right .* 12 with labels \+ 1: where do labels"):
        prepare_classifier(later, samples)


def test_labels_that_are_right_or_merely_wrong_are_left_alone():
    network, samples = twelve(0, 12)
    assert prepare_classifier(network, samples) is network
    mixed = thinice.as_samples(samples.inputs, (samples.labels * 5) % 12)
    assert prepare_classifier(network, mixed) is network
    one = thinice.as_samples(
        samples.inputs[[3] * 12], torch.full((12,), 4)
    )  # one class, always taken for the one before
    assert prepare_classifier(network, one) is network
