"""Every architecture: what it computes, how many parameters it has, and that its parameters identify it."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import reference
from thinice.errors import CheckpointError, InputError
from thinice.models import (
    ARCHITECTURES,
    as_classifier,
    build,
    known_architectures,
    load_classifier,
    prunable_weights,
    save_classifier,
)
from thinice.models.architectures import find_architecture, origin_of
from thinice.models.architectures.identify import fit, identify, shapes_of
from thinice.models.architectures.rebuild import signature
from thinice.models.architectures.torchvision_marks import MARKS, family_of

pytestmark = pytest.mark.sampled

# Counted on paper: the sum over layers of outputs x inputs x kernel, see each docstring and the papers.
PRUNABLE = {
    "cnn5": 61_470,
    "vgg11": 11_325_120,
    "digits_cnn": 16 * 9 + 32 * 16 * 9 + 32 * 32 * 9 + 512 * 10,
}
PARAMETERS = {"resnet20": 0.27e6, "resnet32": 0.46e6, "resnet44": 0.66e6, "resnet56": 0.85e6}  # He et al., table 6
PARAMETERS |= {"wrn_28_10": 36.5e6, "wrn_28_4": 5.8e6}  # Zagoruyko and Komodakis


@pytest.mark.parametrize("name", known_architectures())
def test_builds_and_gives_one_logit_a_class(name):
    shape = find_architecture(name).input_shape or (3, 32, 32)
    network = build(name, 7).eval()
    with torch.no_grad():
        one, many = network(torch.rand(1, *shape)), network(torch.rand(3, *shape))
    assert one.shape == (1, 7)
    assert many.shape == (3, 7)
    assert torch.isfinite(many).all()


@pytest.mark.parametrize("name", known_architectures())
def test_is_identified_by_its_parameters_alone(name):
    """With its own number of classes, and of channels: no other architecture has the same names and shapes."""
    with torch.device("meta"):
        usual, other = build(name, 10), build(name, 4, channels=2)
    assert identify(usual.state_dict(), "file").architecture == name
    found = identify(other.state_dict(), "file")
    assert (found.architecture, found.classes, found.arguments) == (name, 4, {"channels": 2})


@pytest.mark.parametrize("name", known_architectures())
def test_saved_and_loaded_it_is_the_same(name, tmp_path):
    classifier = as_classifier(build(name, 10))
    loaded = load_classifier(save_classifier(classifier, tmp_path / "file.pt"))
    assert loaded.fingerprint == classifier.fingerprint
    assert (loaded.architecture, loaded.classes, loaded.notes) == (name, 10, ())


@pytest.mark.parametrize(("name", "count"), PRUNABLE.items())
def test_prunable_weights_are_counted_on_paper(name, count):
    assert sum(weight.numel() for weight in prunable_weights(build(name)).values()) == count


def test_resnet8_has_the_published_count_without_its_shortcuts():
    weights = prunable_weights(build("preact_resnet8"))
    shortcuts = {name for name in weights if "shortcut" in name}
    assert len(shortcuts) == 3
    assert sum(weight.numel() for name, weight in weights.items() if name not in shortcuts) == 1_164_640


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameters_are_as_many_as_published(name, count):
    with torch.device("meta"):
        network = build(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(count, rel=0.02)


def test_layers_have_the_names_of_published_files():
    """The first and last keys of each layout, as the published files spell them."""
    ends = {
        "resnet20": ("conv1.weight", "layer3.2.bn2.running_var", "linear.bias"),
        "resnet18": ("layer2.0.shortcut.1.weight", "layer4.1.conv2.weight", "linear.weight"),
        "resnet18_rst": ("layer2.0.shortcut.0.weight", "fc.weight"),
        "wrn_28_4": ("block1.layer.0.convShortcut.weight", "block3.layer.3.bn2.bias", "bn1.weight", "fc.bias"),
        "vgg16_bn": ("features.0.weight", "features.41.running_mean", "classifier.4.bias"),
        "vgg16_bn_radmm": ("features.0.bias", "features.40.weight", "classifier.bias"),
        "vgg16_bn_twinrep": ("features.40.weight", "classifier.weight"),
        "vgg16_bn_mad": ("feature.40.weight", "classifier.weight"),
        "vgg16_bn_li20": ("feature.40.weight", "classifier.1.running_mean", "classifier.3.weight"),
        "vgg16_bn_pwoa": ("layer1.0.0.bias", "layer5.2.1.weight", "layer6.0.weight", "layer8.bias"),
        "vgg16_bn_rst": ("features.40.weight", "classifier.weight"),
        "preact_resnet18_cifar": ("conv1.weight", "layer2.0.shortcut.0.weight", "bn.weight", "linear.bias"),
    }
    for name, keys in ends.items():
        assert set(keys) <= set(shapes_of(name, 7)), name


@pytest.mark.slow
def test_no_own_layout_is_one_of_torchvision():
    """So that identification may stop at thinice's own; and torchvision's differ among themselves."""
    layouts = {name: shapes_of(name, 7) for name in known_architectures(torchvision=True)}
    seen = {}
    for name, shapes in layouts.items():
        seen.setdefault(tuple(sorted(shapes.items())), []).append(name)
    assert [names for names in seen.values() if len(names) > 1] == []
    own = {frozenset(layouts[name]) for name in known_architectures()}
    theirs = {frozenset(shapes) for name, shapes in layouts.items() if ":" in name}
    assert not own & theirs


@pytest.mark.slow
def test_every_architecture_of_torchvision_has_its_mark():
    """So that a file is compared only with those that it can belong to."""
    for name in known_architectures(torchvision=True):
        if ":" in name:
            assert MARKS[family_of(name)] in shapes_of(name, 7), name


@pytest.mark.parametrize(("name", "classes"), [("squeezenet1_1", 1000), ("mnasnet0_5", 5), ("resnet18", 1000)])
def test_torchvision_is_identified_and_loads(name, classes, tmp_path):
    """With ImageNet's classes, or where hardly anybody changes the network."""
    network = build(f"torchvision:{name}", classes).eval()
    torch.save(network.state_dict(), tmp_path / "net.pth")
    classifier = load_classifier(tmp_path / "net.pth")
    assert (classifier.architecture, classifier.classes) == (f"torchvision:{name}", classes)
    assert any("which are those of torchvision" in note for note in classifier.notes)
    inputs = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(classifier(inputs), network(inputs))


def test_vgg11_pools_after_every_second_convolution_and_before_its_batch_norm():
    kinds = "".join(type(layer).__name__[0] for layer in build("vgg11").get_submodule("features"))
    assert kinds == "CRB" + "CRMB" + "CRB" + "CRMB" + "CRB" + "CRMB" + "CRB" + "CRMB"


def test_narrow_resnet_is_he_et_als():
    """Option A: a block that halves the size adds every second pixel, with zero channels around."""
    network = build("resnet20").eval()
    block = network.get_submodule("layer2.0")
    maps = torch.rand(1, 16, 4, 4)
    for convolution in (block.conv1, block.conv2):
        nn.init.zeros_(convolution.weight)
    shorten = block(maps)
    assert torch.equal(shorten[:, 8:24], maps[:, :, ::2, ::2])
    assert shorten[:, :8].abs().sum() == shorten[:, 24:].abs().sum() == 0


@pytest.mark.data
def test_published_resnet20_is_identified_and_as_accurate_as_published():
    """0.9173 on the whole test set (its README); 0.94 on these 100 exact images."""
    classifier = load_classifier(reference("weights/cifar10-resnet20.th"), normalization="imagenet")
    data = np.load(reference("data/cifar10-exact-100.npz"))
    predictions = classifier(torch.tensor(data["images"]) / 255).argmax(1).numpy()
    assert (classifier.architecture, classifier.classes, classifier.name) == ("resnet20", 10, "cifar10-resnet20")
    assert (predictions == data["labels"]).mean() >= 0.88
    assert classifier.sparsity < 1e-4


def randomised(network):
    """The network in eval mode with statistics and parameters that make every term count."""
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 0.5) if value.ndim == 1 else value.normal_(0, 0.1)
    return network.eval()


def activated(layer, maps):
    """ReLU of a batch norm, from its formula."""
    shape = (1, -1, 1, 1)
    scaled = (maps - layer.running_mean.view(shape)) / (layer.running_var.view(shape) + 1e-5).sqrt()
    return (scaled * layer.weight.view(shape) + layer.bias.view(shape)).clamp(min=0)


@pytest.mark.parametrize(
    ("name", "first", "later", "shortcut"),
    [
        ("wrn_28_4", "block2.layer.0", "block2.layer.1", "convShortcut"),
        ("preact_resnet18_cifar", "layer2.0", "layer2.1", "shortcut.0"),
        ("preact_resnet18", "stage2.0", "stage2.1", "shortcut.0"),
        ("preact_resnet8", "block1", None, "shortcut.0"),
    ],
)
def test_preactivated_blocks_are_those_of_the_published_code(name, first, later, shortcut):
    """BN, ReLU, conv, twice; around goes a 1x1 convolution of the first ReLU where the shape changes."""
    network = randomised(build(name))
    conv = torch.nn.functional.conv2d
    for path in filter(None, (first, later)):
        block = network.get_submodule(path)
        maps = torch.rand(2, block.bn1.num_features, 8, 8)
        stride = 2 if path == first else 1
        active = activated(block.bn1, maps)
        inner = activated(block.bn2, conv(active, block.conv1.weight, stride=stride, padding=1))
        around = conv(active, block.get_submodule(shortcut).weight, stride=2) if path == first else maps
        expected = conv(inner, block.conv2.weight, padding=1) + around
        torch.testing.assert_close(block(maps), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "features", "pool"),
    [
        ("vgg16_bn", "features", lambda maps: maps),
        ("vgg16_bn_radmm", "features", lambda maps: maps.amax((2, 3))),
        ("vgg16_bn_twinrep", "features", lambda maps: maps.amax((2, 3))),
        ("vgg16_bn_mad", "feature", lambda maps: maps.mean((2, 3))),
        ("vgg16_bn_li20", "feature", lambda maps: maps.mean((2, 3))),
        ("vgg16_bn_rst", "features", lambda maps: maps.amax((2, 3), keepdim=True)),
    ],
)
def test_vgg16_ends_as_published(name, features, pool):
    """What happens between the 2x2 maps and the classifier is what tells the layouts apart."""
    network = build(name).eval()
    inputs = torch.rand(2, 3, 32, 32)
    maps = network.get_submodule(features)(inputs)
    assert maps.shape == (2, 512, 2, 2)
    pooled = pool(maps)
    logits = network.get_submodule("classifier")(pooled if name == "vgg16_bn_rst" else pooled.flatten(1)).flatten(1)
    torch.testing.assert_close(network(inputs), logits)


def test_several_that_fit_are_an_error_asking_which(monkeypatch, tmp_path):
    target = "thinice.models.architectures.resnet:resnet20"
    monkeypatch.setitem(ARCHITECTURES.rows, "resnet20_gelu", (target, "the same parameters"))
    torch.save(build("resnet20").state_dict(), tmp_path / "net.pt")
    both = r"net\.pt: .* several .*architecture= .*, one of resnet20, resnet20_gelu, or resnet20:VARIANT with .*silu"
    with pytest.raises(CheckpointError, match=both):
        load_classifier(tmp_path / "net.pt")
    assert fit(build("resnet20").state_dict(), "resnet20_gelu").classes == 10


def test_none_that_fits_names_the_nearest_and_what_differs():
    state = build("resnet20").state_dict()
    state["layer3.9.conv1.weight"] = state.pop("layer3.2.conv1.weight")
    with pytest.raises(CheckpointError) as caught:
        identify(state, "net.pth")
    message = str(caught.value)
    nearest = "net.pth: parameters fit no known architecture; nearest: resnet20 (the file has no layer3.2.conv1.weight"
    assert message.startswith(nearest)
    assert "has layer3.9.conv1.weight too" in message
    assert "architecture=" in message
    assert "\n" not in message


def test_another_width_names_the_shape_that_differs():
    state = build("digits_cnn").state_dict()
    state["conv3.weight"] = torch.zeros(32, 16, 3, 3)
    with pytest.raises(
        CheckpointError, match=r"digits_cnn \(the file conv3\.weight is \(32, 16, 3, 3\), not \(32, 32, 3, 3\)"
    ):
        identify(state, "net.pth")


def test_nothing_alike_is_said():
    with pytest.raises(CheckpointError, match=r"net\.pth: 1 parameters \(strange, …\) resemble no known architecture"):
        identify({"strange": torch.zeros(1)}, "net.pth")


def test_unknown_name_and_arguments_are_named():
    with pytest.raises(
        InputError, match=r"`architecture` 'resnet_20' is unknown: did you mean resnet.*torchvision:.*models\.py:"
    ):
        build("resnet_20")
    with pytest.raises(InputError, match=r"a depth of 21 tells no blocks .* give blocks"):
        build("resnet21")
    with pytest.raises(InputError, match=r"did you mean torchvision:resnet50"):
        build("torchvision:resnet500")
    with pytest.raises(InputError, match=r"digits_cnn does not take width; it takes channels"):
        build("digits_cnn", 10, width=3)
    with pytest.raises(InputError, match=r"torchvision:resnet18 cannot be built with"):
        build("torchvision:resnet18", 10, depth=3)
    with pytest.raises(InputError, match=r"`classes` must be at least 2, got 1"):
        build("digits_cnn", 1)


def test_a_name_is_registered_once():
    with pytest.raises(InputError, match="`architecture` 'cnn5' is taken"):
        ARCHITECTURES.add("cnn5", build)


def test_a_new_architecture_is_one_row(monkeypatch, tmp_path):
    monkeypatch.setattr(ARCHITECTURES, "rows", dict(ARCHITECTURES.rows))
    ARCHITECTURES.add("linear", lambda classes=10: nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Linear(5, classes)))
    torch.save(build("linear", 4).state_dict(), tmp_path / "net.pt")
    loaded = load_classifier(tmp_path / "net.pt", normalization="none")
    assert (loaded.architecture, loaded.classes) == ("linear", 4)
    assert "linear" in known_architectures()


@pytest.mark.slow
def test_listing_the_names_imports_no_architecture():
    code = "import sys; from thinice.models import known_architectures; print(len(known_architectures()), *sys.modules)"
    count, *modules = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert int(count) > 15
    assert not {name for name in modules if name.startswith("thinice.models.architectures.") and "resnet" in name}


def test_signature_leaves_out_the_counters():
    assert "bn1.num_batches_tracked" not in signature(build("digits_cnn").state_dict())
    assert "bn1.running_mean" in signature(build("digits_cnn").state_dict())


def test_origin_is_forgotten_where_layers_change():
    network = build("digits_cnn", 3)
    assert origin_of(network).classes == 3
    network.relu1 = nn.GELU()
    assert origin_of(network) is None


@pytest.mark.slow
def test_import_stays_light_and_fingerprints_are_those_of_other_processes():
    code = """
import sys, torch
from thinice.models import as_classifier, build
torch.manual_seed(0)
print(as_classifier(build("digits_cnn")).fingerprint)
print(as_classifier(torch.nn.Sequential(torch.nn.Linear(3, 2))).fingerprint)
print(*(name in sys.modules for name in ("torchvision", "onnx", "scipy")))
"""
    theirs = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    torch.manual_seed(0)
    ours = as_classifier(build("digits_cnn")).fingerprint, as_classifier(nn.Sequential(nn.Linear(3, 2))).fingerprint
    assert theirs == [*ours, "False", "False", "False"]
