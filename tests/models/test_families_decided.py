"""Labels decide between the members of a family that have the same parameters, and between people's own changes."""

import pytest
import torch
from torch import nn

import thinice
from tests.models import foreign
from tests.models.test_families import settled
from tests.models.test_variants import answered, logits, spread_out
from thinice.analysis.measurement import prepare_classifiers
from thinice.errors import CheckpointError, InputError
from thinice.models import load_classifier, save_classifier
from thinice.models.loading import read_classifier
from thinice.printable import LONGEST_MESSAGE


def test_labels_decide_between_members_of_a_family(tmp_path):
    network = spread_out(settled(foreign.ResNet(around="downsample", head="fc", pool=True)), (3, 32, 32))
    torch.save(network.state_dict(), tmp_path / "net.pt")
    samples = answered(network, (3, 32, 32))
    classifier = load_classifier(tmp_path / "net.pt", normalization="none", samples=samples)
    assert classifier.architecture == "resnet10(stem=cifar-pool)"
    torch.testing.assert_close(
        logits(classifier, samples.inputs), logits(network, samples.inputs), rtol=1e-4, atol=1e-3
    )


def strided(network):
    network.conv1.stride = (2, 2)
    return network


def reordered(network):
    for layer in network.modules():
        if isinstance(layer, foreign.DenseLayer):
            layer.before = not layer.before
    return network


TINY, SMALL, DIGITS = (3, 8, 8), (3, 32, 32), (1, 28, 28)
SHORT = (8, "M", 8, "M", 12, 12, "M", 16, "M", 16)
CHANGED = {
    "resnet10:stem-pool": (lambda: foreign.ResNet(pool=True), SMALL),
    "resnet10:stem-stride-2": (lambda: strided(foreign.ResNet()), SMALL),
    "resnet10:stem-pool, openood": (lambda: foreign.ResNet(pool=True, head="fc"), SMALL),
    "resnet8:averaged-padded-after": (
        lambda: foreign.ResNet(blocks=(1, 1, 1), width=16, padded="rethinking"),
        SMALL,
    ),
    "densenet:other-order": (lambda: reordered(foreign.DenseNet()), SMALL),
    "wrn_10_2:silu": (lambda: foreign.WideResNet("trades", activation=nn.functional.silu), SMALL),
    "small_cnn:softplus": (lambda: foreign.SmallCNN(nn.Softplus()), DIGITS),
    "vgg(pool=max), feature": (
        lambda: foreign.VGG(SHORT, nn.Linear(16, 10), features="feature", bias=False, end=nn.MaxPool2d(2)),
        SMALL,
    ),
}
"""What people change in a published program, which keeps its names."""


@pytest.mark.slow
@pytest.mark.parametrize("case", CHANGED)
def test_labels_overrule_the_program_that_names_tell(case, tmp_path):
    """No published network is so: without labels the program's own is taken, and a note lists the others."""
    make, shape = CHANGED[case]
    name = case.partition(",")[0]
    network = spread_out(settled(make()), shape)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "net.pt")
    samples = answered(network, shape)
    alone = load_classifier(tmp_path / "net.pt", normalization="none")
    assert any("with the same, but computing something else: " in note and name in note for note in alone.notes)
    assert (logits(alone, samples.inputs) - logits(network, samples.inputs)).abs().max() > 1e-2
    decided = load_classifier(tmp_path / "net.pt", normalization="none", samples=samples)
    assert decided.architecture == name
    expected = logits(network, samples.inputs)
    torch.testing.assert_close(logits(decided, samples.inputs), expected, rtol=1e-4, atol=1e-4 * expected.abs().max())
    assert any(f"architecture {name} chosen on 80 samples" in note for note in decided.notes)


def test_published_networks_under_the_same_names_are_asked_for(tmp_path):
    """For Tiny ImageNet's 200 classes, manifold_mixup has a stem of stride 2."""
    network = settled(strided(foreign.ResNet(classes=200)))
    torch.save(network.state_dict(), tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"one of resnet10, or resnet10:VARIANT with stem-stride-2 "):
        load_classifier(tmp_path / "net.pt", normalization="none")
    named = load_classifier(tmp_path / "net.pt", architecture="resnet10:stem-stride-2", normalization="none")
    inputs = torch.rand(3, 3, 64, 64)
    torch.testing.assert_close(logits(named, inputs), logits(network, inputs), rtol=1e-4, atol=1e-4)


def test_what_labels_leave_open_fits_into_a_message(tmp_path):
    """Of sixteen networks the most accurate are told, and each that is left can be given."""
    network = settled(foreign.ResNet(around="downsample", head="fc", kernel=7))
    torch.save(network.state_dict(), tmp_path / "net.pt")
    samples = answered(network, (3, 32, 32), count=3)
    with pytest.raises(InputError, match=r"resnet10\(stem=imagenet-no-pool\).*\d+ others at most \d\.\d{3};") as caught:
        load_classifier(tmp_path / "net.pt", normalization="none", samples=samples)
    assert len(str(caught.value)) < LONGEST_MESSAGE
    offered = str(caught.value).partition("one of ")[2]
    for stem in ("imagenet", "imagenet-no-pool", "imagenet-stride-1", "imagenet-stride-1-no-pool"):
        assert f"'resnet10(stem={stem})'" in offered
    assert "VARIANT" not in offered  # people's own changes, which nothing speaks for


def averaging_pair(folder):
    """Files of a VGG with a mean at the end, and of the same network with few weights and hardly an answer right."""
    network = spread_out(settled(foreign.VGG(SHORT, nn.Linear(16, 10), end=nn.AvgPool2d(2))), SMALL)
    samples = answered(network, SMALL, count=40)
    torch.save({"state_dict": network.state_dict()}, folder / "dense.pth")
    state = {name: value.clone() for name, value in network.state_dict().items()}
    for name in ("features.0.weight", "features.4.weight", "features.8.weight", "features.11.weight"):
        state[name][torch.rand(state[name].shape, generator=torch.Generator().manual_seed(2)) < 0.8] = 0
    torch.save({"state_dict": state}, folder / "pruned.pth")
    return network, samples


@pytest.mark.slow
def test_a_pruned_network_is_what_the_dense_one_is(tmp_path):
    """Labels decide what the dense network is; of the pruned one they decide nothing, and it is the same."""
    network, samples = averaging_pair(tmp_path)
    with pytest.raises(InputError, match=r"is missing for 'pruned'"):
        load_classifier(tmp_path / "pruned.pth", normalization="none", samples=samples)
    files = [read_classifier(tmp_path / f"{name}.pth", normalization="none") for name in ("dense", "pruned")]
    result = thinice.compare(*files, samples, attack="fmn", steps=5, progress=False, store=tmp_path / "a.duckdb")
    with thinice.open_store(tmp_path / "a.duckdb") as store:
        rows = store.sql("select name, architecture, notes from checkpoints order by name").to_dict("records")
    assert [(row["name"], row["architecture"]) for row in rows] == [
        ("dense", "vgg(pool=mean)"),
        ("pruned", "vgg(pool=mean)"),
    ]
    assert any("architecture vgg(pool=mean) chosen on 40 samples" in note for note in rows[0]["notes"])
    (note,) = (note for note in rows[1]["notes"] if note.startswith("architecture vgg(pool=mean) chosen"))
    assert "chosen as that of 'dense', nothing else is clearly better on 40 samples: accuracy is " in note
    network.load_state_dict(torch.load(tmp_path / "pruned.pth")["state_dict"])
    right = (logits(network, samples.inputs).argmax(1) == samples.labels).sum()
    assert result.counts["S1,1"] == right


@pytest.mark.slow
def test_a_pruned_network_is_what_a_file_says_of_the_dense_one(tmp_path):
    """Of thinice's own file all is known, a normalisation that is no usual one too."""
    _, samples = averaging_pair(tmp_path)
    mean, std = (0.31, 0.32, 0.33), (0.21, 0.22, 0.23)
    dense = load_classifier(tmp_path / "dense.pth", architecture="vgg(pool=mean)", normalization=(mean, std))
    own = save_classifier(dense, tmp_path / "own.pt")
    ready = prepare_classifiers([load_classifier(own), read_classifier(tmp_path / "pruned.pth")], samples)
    assert [(network.architecture, network.normalization) for network in ready] == 2 * [("vgg(pool=mean)", (mean, std))]
    (note,) = (note for note in ready[1].notes if note.startswith("normalisation "))
    assert "chosen as that of 'own', nothing else is clearly better on 40 samples: accuracy is " in note


def test_masks_stay_when_labels_have_decided(tmp_path):
    network = settled(foreign.ResNet(pool=True))
    masks = {"conv1.weight": torch.rand_like(network.conv1.weight) < 0.9}
    network.conv1.weight.data *= masks["conv1.weight"]
    samples = answered(spread_out(network, SMALL), SMALL)
    torch.save({"state_dict": network.state_dict(), "masks": masks}, tmp_path / "net.pt")
    classifier = load_classifier(tmp_path / "net.pt", normalization="none", samples=samples)
    assert classifier.architecture == "resnet10:stem-pool"
    assert torch.equal(classifier.masks.kept["conv1.weight"], masks["conv1.weight"])


def saved_wide(folder, activation=nn.functional.relu, *, wrong=0, zeros=0.0, **beside):
    """A file of TRADES' wide residual network with this activation, and 80 samples of which so many are wrong."""
    network = settled(foreign.WideResNet("trades", activation=activation))
    for name, weight in network.named_parameters():
        if weight.ndim > 1 and name.startswith("block"):
            weight.data *= torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)) >= zeros
    network = spread_out(network, TINY)
    torch.save({"state_dict": network.state_dict(), **beside}, folder / "net.pt")
    samples = answered(network, TINY)
    labels = samples.labels.clone()
    labels[:wrong] = (labels[:wrong] + 1) % 10
    return network, thinice.as_samples(samples.inputs, labels, classes=samples.classes)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "case",
    [
        {"activation": torch.sin},
        {"activation": lambda maps: nn.functional.leaky_relu(maps, 0.5)},
        {"activation": torch.abs, "best_acc": 97.0},
        {"wrong": 72},
        {"wrong": 20, "best_acc": 97.0},
        {"activation": nn.functional.silu, "wrong": 20, "best_acc": 97.0},
    ],
)
def test_what_explains_the_labels_badly_is_asked_for(case, tmp_path):
    """The best of what is known may be none of it: another slope, another sine; other labels, at best."""
    network, samples = saved_wide(tmp_path, **case)
    with pytest.raises(InputError, match=r"^`architecture` is missing for 'net': none of the known networks") as error:
        load_classifier(tmp_path / "net.pt", normalization="none", samples=samples)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < LONGEST_MESSAGE
    assert "explains 80 labels: accuracy is " in message
    assert (", where the file records best_acc 0.970: if" in message) == ("best_acc" in case)
    assert message.endswith("thinice.as_classifier(net) in Python")
    named = message.partition("(--architecture ")[2].partition(")")[0]
    classifier = load_classifier(tmp_path / "net.pt", normalization="none", samples=samples, architecture=named)
    assert classifier.architecture == named
    if case.get("wrong"):  # then it is the network, and the labels are others
        expected = logits(network, samples.inputs)
        torch.testing.assert_close(logits(classifier, samples.inputs), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "case",
    [
        {"wrong": 20},
        {"wrong": 40},
        {"wrong": 4, "best_acc": 97.0},
        {"wrong": 40, "best_acc": 51.0},
        {"wrong": 20, "best_acc": 40.0},
        {"wrong": 65, "zeros": 0.5, "best_acc": 97.0},
        {"wrong": 20, "activation": nn.functional.silu},
    ],
)
def test_labels_that_are_explained_well_enough_decide(case, tmp_path):
    """Few samples right are usual for pruned networks, and for what is hard."""
    network, samples = saved_wide(tmp_path, **case)
    classifier = load_classifier(tmp_path / "net.pt", normalization="none", samples=samples)
    expected = logits(network, samples.inputs)
    torch.testing.assert_close(logits(classifier, samples.inputs), expected, rtol=1e-4, atol=1e-3)
