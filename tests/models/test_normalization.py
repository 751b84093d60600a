"""Normalisations by name and number, and the decision between them."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import reference
from thinice.errors import InputError
from thinice.models import (
    NORMALIZATIONS,
    Normalized,
    as_classifier,
    build,
    infer_normalization,
    load_classifier,
    normalization_candidates,
    normalization_text,
    parse_normalization,
)


def test_normalises_each_channel():
    module = Normalized(nn.Identity(), mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 2.0))
    inputs = torch.tensor([1.0, 1.0, 0.0]).view(1, 3, 1, 1)
    assert module(inputs).flatten().tolist() == [1.0, 1.0, -0.5]
    assert module.normalization == ((0.0, 0.5, 1.0), (1.0, 0.5, 2.0))
    assert {name for name, _ in module.named_buffers()} == {"mean", "std"}


@pytest.mark.parametrize("name", [name for name in NORMALIZATIONS.names() if name != "none"])
def test_numbers_survive_the_buffers(name):
    mean, std = NORMALIZATIONS.get(name)
    assert Normalized(nn.Identity(), mean=mean, std=std).normalization == (mean, std)
    assert normalization_text((mean, std)) == name


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("none", None),
        ("cifar10", ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))),
        ((0.5, 0.25), ((0.5,), (0.25,))),
        (([0.1, 0.2], [0.3, 0.4]), ((0.1, 0.2), (0.3, 0.4))),
        ((0.5, (0.1, 0.2)), ((0.5, 0.5), (0.1, 0.2))),
        ("0.1,0.2/0.3,0.4", ((0.1, 0.2), (0.3, 0.4))),
        ((0, 1), None),
        (((0.0, 0.0), (1.0, 1.0)), None),
    ],
)
def test_is_read_from_names_and_numbers(value, expected):
    assert parse_normalization(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cifar", r"'cifar' is not known: give one of none, cifar10"),
        ("0.5", r"'0.5' is not known"),
        ("a/b", r"'a/b' is not known"),
        ((0.5,), r"a name or a pair"),
        (0.5, r"a name or a pair"),
        ((0.5, 0.0), r"positive standard deviations"),
        ((float("nan"), 1.0), r"finite means"),
        (((0.1, 0.2), (0.1, 0.2, 0.3)), r"2 means and 3 standard deviations"),
    ],
)
def test_what_cannot_be_is_named(value, message):
    with pytest.raises(InputError, match=message):
        parse_normalization(value)


class Threshold(nn.Module):
    """Class 1 where the normalised mean of the pixels is positive."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, inputs):
        mean = inputs.mean((1, 2, 3)) * self.scale
        return torch.stack([-mean, mean], 1)


class Constant(Threshold):
    def forward(self, inputs):
        return torch.zeros(len(inputs), 2) * self.scale


def undecided(module, tmp_path):
    """The module as a file that does not say its normalisation would give it."""
    torch.save(module, tmp_path / "module.pt")
    classifier = load_classifier(tmp_path / "module.pt", trust_pickle=True)
    assert not classifier.normalization_known
    assert any(note.startswith("normalisation is not known") for note in classifier.notes)
    return classifier


def grey(count):
    values = torch.linspace(0.01, 0.99, count)
    return values.view(-1, 1, 1, 1).expand(-1, 1, 2, 2), (values > 0.5).long()


def test_hypotheses_have_the_accuracies_of_paper(tmp_path):
    """Right are all above 0.5, and below it those that fall below the mean: all, or 0.2860, or 0.1307 of 0.5."""
    found = normalization_candidates(undecided(Threshold(), tmp_path), *grey(1000))
    accuracies = {hypothesis.name: hypothesis.accuracy for hypothesis in found}
    assert [hypothesis.name for hypothesis in found] == ["half", "fashion-mnist", "mnist", "none"]
    assert accuracies["half"] == 1.0
    assert accuracies["none"] == 0.5
    assert accuracies["mnist"] == pytest.approx(0.5 + (0.1307 - 0.01) / 0.98, abs=2e-3)
    assert accuracies["fashion-mnist"] == pytest.approx(0.5 + (0.2860 - 0.01) / 0.98, abs=2e-3)


def test_a_clearly_better_hypothesis_is_chosen_and_said(tmp_path):
    classifier = undecided(Threshold(), tmp_path)
    chosen = infer_normalization(classifier, *grey(200))
    assert chosen.normalization == ((0.5,), (0.5,))
    assert chosen.normalization_known
    assert "normalisation half chosen on 200 samples" in chosen.notes[-1]
    assert "half 1.000, fashion-mnist 0.785, mnist 0.625, none 0.500" in chosen.notes[-1]
    assert not any("is not known" in note for note in chosen.notes)
    assert chosen.fingerprint != classifier.fingerprint
    assert infer_normalization(chosen, *grey(3)) is chosen
    assert torch.equal(chosen(grey(50)[0]).argmax(1), grey(50)[1])


def test_few_samples_decide_nothing(tmp_path):
    """Of 10 samples half and fashion-mnist differ on 2 or 3, which chance does with p of 0.25 at least."""
    with pytest.raises(
        InputError, match=r"`normalization` is missing for 'module' and 10 samples .*half 1\.000.*--norm"
    ):
        infer_normalization(undecided(Threshold(), tmp_path), *grey(10))


@pytest.mark.parametrize(("differing", "decided"), [(6, False), (7, True)])
def test_the_paired_test_is_exact(differing, decided, tmp_path):
    """All of k differing samples for one side: p = 2 / 2^k, against 0.05 / 3; 1/32 is above it, 1/64 below."""
    values = torch.cat([torch.linspace(0.3, 0.45, differing), torch.full((20,), 0.9)])
    samples = values.view(-1, 1, 1, 1).expand(-1, 1, 2, 2), (values > 0.5).long()
    classifier = undecided(Threshold(), tmp_path)
    if decided:
        assert infer_normalization(classifier, *samples).normalization == ((0.5,), (0.5,))
    else:
        with pytest.raises(InputError, match=r"\(p = 0\.031\)"):
            infer_normalization(classifier, *samples)


def test_a_network_that_does_not_care_decides_nothing(tmp_path):
    with pytest.raises(InputError, match="p = 1"):
        infer_normalization(undecided(Constant(), tmp_path), *grey(200))


def test_a_known_normalisation_is_not_questioned():
    classifier = as_classifier(build("digits_cnn"))
    assert classifier.normalization_known
    assert infer_normalization(classifier, torch.rand(4, 1, 8, 8), torch.zeros(4).long()) is classifier


@pytest.mark.slow
@pytest.mark.data
def test_published_resnet20_is_not_decided_by_100_images():
    """Its true normalisation, imagenet's, comes out at 0.94, cifar10's at 0.96: nobody may choose between them."""
    data = np.load(reference("data/cifar10-exact-100.npz"))
    classifier = load_classifier(reference("weights/cifar10-resnet20.th"))
    with pytest.raises(InputError, match=r"imagenet 0\.9\d+.*none 0\.4\d+; .*differ by chance"):
        infer_normalization(classifier, torch.tensor(data["images"]) / 255, torch.tensor(data["labels"]))
