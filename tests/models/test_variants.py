"""Networks that share names and shapes with a known architecture and compute something else, as their code has them.

Each foreign module is written here as its repository has it. What is loaded must give its logits, or be refused with
the names of all that it may be; the one that is the module must be among them, and give its logits when it is named.
"""

import re
from contextlib import nullcontext

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional
from torchvision.models.mobilenetv2 import InvertedResidual

import thinice
from tests.models.foreign import AntiAliased
from thinice.analysis.measurement import in_network_classes, prepare_classifier
from thinice.data.wordnet import IMAGENETTE
from thinice.errors import CheckpointError, DoubtfulWarning, InputError, ThinIceError
from thinice.models import build, known_architectures, load_classifier, save_classifier
from thinice.models.architectures.variants import base_and_variant, variants_of
from thinice.models.hypotheses import choices, deciding, hypotheses

pytestmark = pytest.mark.sampled


def alive(network, shape):
    """The network in eval mode, with statistics of its own and logits that depend on the image."""
    inputs = torch.rand(4, *shape)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.2, 0.5)
            layer.momentum = None
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        if isinstance(network, LeNet) and isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight.data.mul_(4)
    with torch.no_grad():
        network.train()(inputs)
    return network.eval()


def logits(network, inputs):
    with torch.no_grad():
        return network(inputs)


class PruningVGG(nn.Module):
    """VGG16 with batch norm and an average at the end: names of `vgg16_bn_radmm` and `vgg16_bn_twinrep`."""

    def __init__(self, *, bias=True, pool=None, middle=nn.MaxPool2d):
        super().__init__()
        layers, channels = [], 3
        for width in (64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3):
            if width == "M":
                layers += [middle(kernel_size=2, stride=2)]
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1, bias=bias), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers)
        self.pool = pool or nn.AvgPool2d(2)
        self.classifier = nn.Linear(512, 10)

    def forward(self, inputs):
        return self.classifier(self.pool(self.features(inputs)).flatten(1))


class LeNet(nn.Module):
    """LeNet-5 as many write it; the activation, the pool and the padding are theirs."""

    def __init__(self, activation=torch.tanh, pool=functional.avg_pool2d, padding=2):
        super().__init__()
        self.activation, self.pool = activation, pool
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=padding), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, inputs):
        maps = self.pool(self.activation(self.conv1(inputs)), 2)
        maps = self.pool(self.activation(self.conv2(maps)), 2).flatten(1)
        return self.fc3(self.activation(self.fc2(self.activation(self.fc1(maps)))))


class TutorialNet(nn.Module):
    """The network of PyTorch's CIFAR-10 tutorial."""

    def __init__(self):
        super().__init__()
        self.conv1, self.pool, self.conv2 = nn.Conv2d(3, 6, 5), nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 5 * 5, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, inputs):
        maps = self.pool(functional.relu(self.conv2(self.pool(functional.relu(self.conv1(inputs))))))
        return self.fc3(functional.relu(self.fc2(functional.relu(self.fc1(torch.flatten(maps, 1))))))


def cifar_mobilenet():
    """MobileNetV2 of CIFAR repositories: stem and second stage keep the size."""
    settings = [[1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 2], [6, 64, 4, 2]]
    settings += [[6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]
    network = torchvision.models.MobileNetV2(num_classes=10, inverted_residual_setting=settings, block=InvertedResidual)
    network.features[0][0].stride = (1, 1)
    return network


def changed(name, classes=10, **layers):
    """torchvision's network with layers replaced, as people do it by hand; strides with a name in `layers`."""
    network = getattr(torchvision.models, name)(num_classes=classes)
    for path, layer in layers.items():
        place = path.replace("__", ".")
        if isinstance(layer, nn.Module):
            network.set_submodule(place, layer)
        else:
            network.get_submodule(place).stride = layer
    return network


def with_silu(network):
    for layer in list(network.modules()):
        for name, child in layer.named_children():
            if isinstance(child, nn.ReLU):
                setattr(layer, name, nn.SiLU())
    return network


def caffe_resnet():
    """ResNet-50 as Caffe had it: the stride is in the 1x1 convolution."""
    network = torchvision.models.resnet50(num_classes=10)
    for layer in network.modules():
        if isinstance(layer, torchvision.models.resnet.Bottleneck) and layer.conv2.stride == (2, 2):
            layer.conv1.stride, layer.conv2.stride = (2, 2), (1, 1)
    return network


def dilated_resnet():
    return torchvision.models.resnet50(num_classes=10, replace_stride_with_dilation=[False, True, True])


def transforming(name, *, auxiliary=False):
    """As torchvision makes it for its own weights."""
    make = getattr(torchvision.models, name)
    return make(num_classes=10, transform_input=True, aux_logits=auxiliary, init_weights=False)


SMALL, DIGITS, LARGE = (3, 32, 32), (1, 28, 28), (3, 64, 64)


def row(name, shape, make, *, slow=False):
    """A foreign network, the size of its images, and what it is called here."""
    return pytest.param(name, shape, make, id=name, marks=[pytest.mark.slow] if slow else [])


FOREIGN = [
    row("vgg16_bn_radmm:average-pool", SMALL, PruningVGG),
    row("vgg16_bn_radmm", SMALL, lambda: PruningVGG(pool=nn.MaxPool2d(2)), slow=True),
    row("vgg16_bn_radmm:average-pools", SMALL, lambda: PruningVGG(middle=nn.AvgPool2d), slow=True),
    row("vgg16_bn_twinrep:average-pool", SMALL, lambda: PruningVGG(bias=False), slow=True),
    row("cnn5:tanh+average-pool", DIGITS, LeNet),
    row("cnn5:sigmoid+average-pool", DIGITS, lambda: LeNet(torch.sigmoid)),
    row("cnn5:average-pool", DIGITS, lambda: LeNet(torch.relu)),
    row("cnn5:tanh", DIGITS, lambda: LeNet(pool=functional.max_pool2d)),
    row("cnn5:unpadded+tanh+average-pool", (1, 32, 32), lambda: LeNet(padding=0)),
    row("cnn5:unpadded", SMALL, TutorialNet),
    row(
        "torchvision:mobilenet_v2:stem-stride-1",
        SMALL,
        lambda: changed("mobilenet_v2", features__0__0=(1, 1)),
        slow=True,
    ),
    row("torchvision:mobilenet_v2:stem-stride-1+stage2-stride-1", SMALL, cifar_mobilenet),
    row(
        "torchvision:shufflenet_v2_x0_5:stem-stride-1+no-stem-pool",
        SMALL,
        lambda: changed("shufflenet_v2_x0_5", conv1__0=(1, 1), maxpool=nn.Identity()),
    ),
    row("torchvision:googlenet:transform-input", LARGE, lambda: transforming("googlenet"), slow=True),
    row("torchvision:inception_v3:transform-input", (3, 96, 96), lambda: transforming("inception_v3"), slow=True),
    row("torchvision:googlenet:transform-input", LARGE, lambda: transforming("googlenet", auxiliary=True), slow=True),
    row(
        "torchvision:mobilenet_v3_small:stem-stride-1",
        LARGE,
        lambda: changed("mobilenet_v3_small", features__0__0=(1, 1)),
    ),
    row("torchvision:resnet18", SMALL, lambda: changed("resnet18"), slow=True),
    row("torchvision:resnet18:no-stem-pool", SMALL, lambda: changed("resnet18", maxpool=nn.Identity())),
    row("torchvision:resnet18:stem-stride-1", SMALL, lambda: changed("resnet18", conv1=(1, 1)), slow=True),
    row(
        "torchvision:resnet18:stem-stride-1+no-stem-pool",
        SMALL,
        lambda: changed("resnet18", conv1=(1, 1), maxpool=nn.Identity()),
        slow=True,
    ),
    row("torchvision:resnet18:silu", SMALL, lambda: with_silu(changed("resnet18")), slow=True),
    row(
        "torchvision:resnet18:blurred-strides",
        SMALL,
        lambda: AntiAliased((2, 2, 2, 2), bottleneck=False, blurred=True),
    ),
    row(
        "torchvision:resnet50:blurred-strides",
        LARGE,
        lambda: AntiAliased((3, 4, 6, 3), bottleneck=True, blurred=True, classes=1000),
        slow=True,
    ),
    row(  # timm's resnetaa50, with as many classes as torchvision's
        "torchvision:resnet50:average-pooled-strides",
        LARGE,
        lambda: AntiAliased((3, 4, 6, 3), bottleneck=True, blurred=False, classes=1000),
        slow=True,
    ),
    row("torchvision:resnet50:dilated-2", LARGE, dilated_resnet, slow=True),
    row("torchvision:resnet50:stride-in-1x1", LARGE, caffe_resnet, slow=True),
    row(
        "torchvision:densenet121:stem-stride-1+no-stem-pool",
        SMALL,
        lambda: changed("densenet121", features__conv0=(1, 1), features__pool0=nn.Identity()),
        slow=True,
    ),
]


@pytest.mark.parametrize(("name", "shape", "make"), FOREIGN)
def test_another_function_is_never_loaded(name, shape, make, tmp_path):
    """Without a word from the user it is refused; the message says which it may be, and each of these loads."""
    network, inputs = alive(make(), shape), torch.rand(4, *shape)
    path = tmp_path / "net.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in network.state_dict().items()}}, path)
    with pytest.raises(CheckpointError, match=r"fit several architectures that compute .*--architecture") as error:
        load_classifier(path, normalization="none")
    base, variant = base_and_variant(name)
    assert re.search(rf"one of {re.escape(base)}, or {re.escape(base)}:VARIANT with ", str(error.value))
    assert not variant or re.search(rf" {re.escape(variant)}( \(|,|;)", str(error.value))
    assert "FILE.py:CLASS" in str(error.value)
    assert "\n" not in str(error.value)
    classifier = load_classifier(path, architecture=name, normalization="none")
    assert classifier.architecture == name
    expected = logits(network, inputs)
    assert expected.std(0).max() > 1e-3  # the logits depend on the image
    torch.testing.assert_close(logits(classifier, inputs), expected, rtol=1e-4, atol=1e-4)
    if variant and "unpadded" not in name:  # which takes other images
        other = load_classifier(path, architecture=base, normalization="none")
        assert (logits(other, inputs) - expected).abs().max() > 1e-3


def test_every_refusal_fits_into_a_message():
    """What is too long is cut in the middle, and an option that is not shown cannot be given."""
    for name in known_architectures(torchvision=True):
        assert len(choices([name, *variants_of(name)])) < 550, name


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("torchvision:squeezenet1_1:stem-stride-1", lambda: changed("squeezenet1_1", 1000, features__0=(1, 1))),
        (
            "torchvision:mobilenet_v3_small:stem-stride-1",
            lambda: changed("mobilenet_v3_small", 1000, features__0__0=(1, 1)),
        ),
    ],
)
def test_names_of_torchvision_alone_are_its_network_with_a_note_of_the_others(name, make, tmp_path):
    network, inputs = alive(make(), SMALL), torch.rand(4, *SMALL)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    usual = load_classifier(tmp_path / "net.pth", normalization="none")
    assert usual.architecture == base_and_variant(name)[0]
    others = f"which are those of torchvision; with the same, but computing something else: {name}"
    assert any(others in note for note in usual.notes)
    classifier = load_classifier(tmp_path / "net.pth", architecture=name, normalization="none")
    torch.testing.assert_close(logits(classifier, inputs), logits(network, inputs), rtol=1e-4, atol=1e-4)
    assert (logits(usual, inputs) - logits(network, inputs)).abs().max() > 1e-3


def test_a_file_of_thinice_says_which_variant_it_is(tmp_path):
    network = alive(LeNet(), DIGITS)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    named = load_classifier(tmp_path / "net.pth", architecture="cnn5:tanh+average-pool", normalization="mnist")
    again = load_classifier(save_classifier(named, tmp_path / "own.pt"))
    assert (again.architecture, again.fingerprint) == ("cnn5:tanh+average-pool", named.fingerprint)
    inputs = torch.rand(3, *DIGITS)
    torch.testing.assert_close(logits(again, inputs), logits(network, (inputs - 0.1307) / 0.3081))
    built = build("cnn5:tanh+average-pool")
    save_classifier(built, tmp_path / "built.pt")
    assert load_classifier(tmp_path / "built.pt").architecture == "cnn5:tanh+average-pool"
    assert load_classifier(tmp_path / "built.pt").fingerprint != thinice.as_classifier(build("cnn5")).fingerprint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cnn5:tan", r"`architecture` cnn5 has no variant 'tan': give cnn5, or one of cnn5:tanh, "),
        ("torchvision:resnet18:no-pool", r"has no variant 'no-pool': .*torchvision:resnet18:no-stem-pool"),
        ("digits_cnn:silu", r"has no variant 'silu': give digits_cnn, it has none"),
    ],
)
def test_unknown_variants_are_named(name, message, tmp_path):
    torch.save(build("cnn5").state_dict(), tmp_path / "net.pth")
    with pytest.raises(InputError, match=message):
        load_classifier(tmp_path / "net.pth", architecture=name)


def answered(network, shape, count=80):
    """Samples whose labels are the network's own answers."""
    inputs = torch.rand(count, *shape)
    labels = logits(network, inputs).argmax(1)
    return thinice.as_samples(inputs, labels, classes=[str(number) for number in range(10)])


def spread_out(network, shape):
    """The network with its answers spread over the classes: the last layer subtracts the mean logits."""
    mean = logits(network, torch.rand(64, *shape)).mean(0)
    *_, last = (layer for layer in network.modules() if isinstance(layer, nn.Linear))
    last.bias.data.sub_(mean)
    last.weight.data.mul_(20)
    last.bias.data.mul_(20)
    return network


@pytest.mark.parametrize(
    "make", [LeNet, lambda: LeNet(torch.relu, functional.max_pool2d), lambda: LeNet(torch.sigmoid)]
)
def test_labels_decide_between_the_variants(make, tmp_path):
    network = spread_out(alive(make(), DIGITS), DIGITS)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    samples = answered(network, DIGITS)
    classifier = load_classifier(tmp_path / "net.pth", normalization="none", samples=samples)
    torch.testing.assert_close(logits(classifier, samples.inputs), logits(network, samples.inputs))
    assert classifier.architecture_known
    assert classifier.alternatives == ()
    (note,) = (note for note in classifier.notes if "chosen on" in note)
    assert f"architecture {classifier.architecture} chosen on 80 samples" in note
    assert f"{base_and_variant(classifier.architecture)[1] or 'cnn5'} 1.000" in note


def test_the_size_of_the_images_excludes_variants(tmp_path):
    """What cannot take the samples is no candidate: of 32x32 images the LeNets without padding are left."""
    network = spread_out(alive(TutorialNet(), SMALL), SMALL)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    samples = answered(network, SMALL)
    classifier = load_classifier(tmp_path / "net.pth", normalization="none", samples=samples)
    assert classifier.architecture == "cnn5:unpadded"
    torch.testing.assert_close(logits(classifier, samples.inputs), logits(network, samples.inputs))


def test_samples_that_fit_no_variant_decide_nothing(tmp_path):
    torch.save(LeNet().state_dict(), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="fit several architectures"):
        load_classifier(tmp_path / "net.pth", samples=thinice.as_samples(torch.rand(2, 1, 20, 20), [0, 1]))


@pytest.mark.slow
def test_equal_predictions_decide_nothing(tmp_path):
    """The last pool of a VGG: maximum or average, every prediction is the same, and the distances are not."""
    network = alive(PruningVGG(), SMALL)
    network.classifier.bias.data[3] += 100
    torch.save(network.state_dict(), tmp_path / "net.pth")
    samples = thinice.as_samples(torch.rand(8, *SMALL), torch.full((8,), 3))
    with pytest.raises(InputError) as error:
        load_classifier(tmp_path / "net.pth", normalization="none", samples=samples)
    message = str(error.value)
    assert message.startswith("`architecture` is missing for 'net': several networks")
    assert "accuracy is vgg16_bn_radmm 1.000, average-pool 1.000" in message
    assert "all their predictions are equal" in message
    assert "(--architecture), one of vgg16_bn_radmm, or vgg16_bn_radmm:VARIANT with average-pool (the last" in message


class AkamasterBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, activation):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.activation, self.added = activation, outputs - inputs

    def forward(self, inputs):
        maps = self.bn2(self.conv2(self.activation(self.bn1(self.conv1(inputs)))))
        if self.added:
            inputs = functional.pad(inputs[:, :, ::2, ::2], (0, 0, 0, 0, self.added // 2, self.added // 2))
        return self.activation(maps + inputs)


class AkamasterResNet(nn.Module):
    """ResNet-20 of akamaster/pytorch_resnet_cifar10; with another activation it has the same names."""

    def __init__(self, activation):
        super().__init__()
        self.activation = activation
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        for stage, (inputs, outputs, stride) in enumerate(((16, 16, 1), (16, 32, 2), (32, 64, 2)), start=1):
            blocks = [AkamasterBlock(inputs, outputs, stride, activation)]
            blocks += [AkamasterBlock(outputs, outputs, 1, activation) for _ in range(2)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, inputs):
        maps = self.layer3(self.layer2(self.layer1(self.activation(self.bn1(self.conv1(inputs))))))
        return self.linear(functional.avg_pool2d(maps, maps.size()[3]).flatten(1))


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "name"), [(functional.relu, "resnet20"), (functional.silu, "resnet20:silu")])
def test_names_of_one_program_load_and_labels_may_contradict(activation, name, tmp_path):
    """Akamaster's names are akamaster's network, with a note of what else has them, until labels say otherwise."""
    network = spread_out(alive(AkamasterResNet(activation), SMALL), SMALL)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "net.th")
    classifier = load_classifier(tmp_path / "net.th", normalization="none")
    assert (classifier.architecture, classifier.architecture_known) == ("resnet20", True)
    (note,) = (note for note in classifier.notes if "akamaster/pytorch_resnet_cifar10" in note)
    assert "computing something else: resnet20:padded-after, resnet20:averaged-padded-after, " in note
    samples = answered(network, SMALL)
    ready = prepare_classifier(classifier, samples)
    assert ready.architecture == name
    torch.testing.assert_close(logits(ready, samples.inputs), logits(network, samples.inputs), rtol=1e-4, atol=1e-3)
    said = "stays: no other" if name == "resnet20" else "chosen on 80 samples"
    assert any(f"architecture {name} {said}" in note for note in ready.notes)
    assert prepare_classifier(ready, samples) is not None
    assert prepare_classifier(ready, samples).fingerprint == ready.fingerprint


def test_where_nothing_is_clearly_better_the_published_network_stays(tmp_path):
    """Three samples contradict nobody, even where all are wrong."""
    network = alive(AkamasterResNet(functional.silu), SMALL)
    torch.save(network.state_dict(), tmp_path / "net.th")
    ready = prepare_classifier(
        load_classifier(tmp_path / "net.th", normalization="none"), answered(network, SMALL, count=3)
    )
    assert ready.architecture == "resnet20"


@pytest.mark.slow
def test_one_function_under_two_descriptions_is_no_ambiguity(tmp_path):
    """`transform_input` after ImageNet's normalisation is the normalisation `half`: either may be chosen."""
    network = spread_out(alive(transforming("googlenet"), LARGE), LARGE)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    classifier = load_classifier(tmp_path / "net.pth", architecture="torchvision:googlenet")
    usual = [(name, thinice.models.NORMALIZATIONS.get(name)) for name in ("imagenet", "half")]
    names = ["torchvision:googlenet", "torchvision:googlenet:transform-input"]
    inputs = torch.rand(8, *LARGE)
    tried = hypotheses(classifier, inputs, torch.zeros(8).long(), usual, names)
    plain, transformed, half, transformed_half = (
        next(one for one in tried if (one.architecture, one.normalization_name) == (name, normalization))
        for normalization in ("imagenet", "half")
        for name in names
    )
    assert half.is_same_function(transformed)
    assert not half.is_same_function(plain)
    assert not plain.is_same_function(transformed)
    assert not transformed_half.is_same_function(transformed)
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in usual[0][1])
    assert torch.equal(transformed.predictions, logits(network, (inputs - mean) / std).argmax(1))


@pytest.mark.parametrize("prefix", ["", "module.model."])
@pytest.mark.parametrize(
    "before",
    [
        lambda: [nn.Upsample(scale_factor=2)],
        lambda: [torchvision.transforms.Normalize((0.5,) * 3, (0.25,) * 3)],
        lambda: [nn.Upsample(scale_factor=2), Standardize()],
        lambda: [Standardize(), nn.Upsample(scale_factor=2)],
    ],
    ids=["upsample", "normalize", "upsample, buffers", "buffers, upsample"],
)
def test_a_layer_that_the_file_does_not_say_is_never_dropped(before, prefix, tmp_path):
    """The first layers have no parameters: whatever is given beside the code of the whole, the file is refused."""
    inner = alive(AkamasterResNet(functional.relu), SMALL)
    network = nn.Sequential(*before(), inner).eval()
    torch.save({prefix + key: value for key, value in network.state_dict().items()}, tmp_path / "net.pth")
    for given in ({}, {"architecture": "resnet20"}, {"architecture": AkamasterResNet(functional.relu)}):
        with pytest.raises(CheckpointError, match=r"a layer \S+ that has none .* --architecture FILE\.py:FUNCTION"):
            load_classifier(tmp_path / "net.pth", **given)
    classifier = load_classifier(tmp_path / "net.pth", architecture=lambda: nn.Sequential(*before(), inner))
    inputs = torch.rand(2, *SMALL)
    torch.testing.assert_close(logits(classifier, inputs), logits(network, inputs))


class Standardize(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((3,), 0.4))
        self.register_buffer("std", torch.full((3,), 0.2))

    def forward(self, inputs):
        return (inputs - self.mean.view(3, 1, 1)) / self.std.view(3, 1, 1)


def test_a_normalisation_with_buffers_before_the_network_is_no_lost_layer(tmp_path):
    inner = alive(AkamasterResNet(functional.relu), SMALL)
    network = nn.Sequential(Standardize(), inner).eval()
    torch.save(nn.DataParallel(network).state_dict(), tmp_path / "net.pth")
    classifier = load_classifier(tmp_path / "net.pth")
    inputs = torch.rand(2, *SMALL)
    torch.testing.assert_close(logits(classifier, inputs), logits(network, inputs), rtol=1e-4, atol=1e-4)


def test_what_may_follow_the_network_is_said(tmp_path):
    network = nn.Sequential(alive(AkamasterResNet(functional.relu), SMALL), nn.Softmax(1))
    torch.save(network.state_dict(), tmp_path / "net.pth")
    classifier = load_classifier(tmp_path / "net.pth")
    assert any("all parameters are in 0.: whether a layer without any follows" in note for note in classifier.notes)
    inputs = torch.rand(2, *SMALL)
    torch.testing.assert_close(logits(classifier, inputs), logits(network[0], inputs), rtol=1e-4, atol=1e-4)


def test_own_layers_whose_names_end_alike_are_none_before_the_network(tmp_path):
    """A parameter `weight` of the whole, and others that end so, in a Sequential whose first layer has none."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.features = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))

        def forward(self, inputs):
            return self.weight * self.features(inputs)

    network = Scaled().eval()
    torch.save({f"module.{key}": value for key, value in network.state_dict().items()}, tmp_path / "net.pth")
    inputs = torch.rand(2, 3, 2, 2)
    torch.testing.assert_close(
        logits(load_classifier(tmp_path / "net.pth", architecture=Scaled), inputs), logits(network, inputs)
    )


@pytest.mark.parametrize(
    ("entries", "warned"),
    [
        ({"acc": 100.0}, None),
        ({"best_prec1": 40}, r"records best_prec1 0\.400"),
        ({"best_acc": 0.4}, r"records best_acc 0\.400"),
        ({"metric": torch.tensor(40.0)}, r"records metric 0\.400"),
        ({"Acc1": 40.0, "epoch": 3}, r"records Acc1 0\.400"),
        ({"test_acc": 99.0}, None),
        ({"acc": "high", "loss": 0.3}, None),
        ({"acc": 250.0}, None),
    ],
)
def test_a_recorded_accuracy_is_compared_with_the_measured_one(entries, warned, tmp_path):
    network = spread_out(alive(LeNet(torch.relu, functional.max_pool2d), DIGITS), DIGITS)
    torch.save({"net": network.state_dict(), **entries}, tmp_path / "net.th")
    classifier = load_classifier(tmp_path / "net.th", architecture="cnn5", normalization="none")
    samples = answered(network, DIGITS)
    with nullcontext() if warned is None else pytest.warns(DoubtfulWarning, match=warned):
        notes = "; ".join(prepare_classifier(classifier, samples).notes)
    assert ("but the file records" in notes) == (warned is not None)
    if warned is not None:
        assert re.search(warned, notes)
        assert "accuracy is 1.000 on 80 samples" in notes
        assert "--architecture: cnn5:tanh" in notes


def test_a_dense_network_near_chance_is_doubted_and_a_pruned_one_is_not(tmp_path):
    network = alive(LeNet(torch.relu, functional.max_pool2d), DIGITS)
    samples = thinice.as_samples(torch.rand(100, *DIGITS), torch.arange(100) % 10)
    for pruned in (False, True):
        if pruned:
            for weight in network.parameters():
                weight.data.flatten()[::2] = 0
        torch.save(network.state_dict(), tmp_path / "net.th")
        classifier = load_classifier(tmp_path / "net.th", architecture="cnn5", normalization="none")
        notes = prepare_classifier(classifier, samples).notes
        assert any("which chance would give" in note for note in notes) != pruned


def test_imagenette_gets_the_classes_of_imagenet():
    """Ten folders with WordNet ids, and a network that knows 1000 classes: the table says which these are."""
    ids = [wordnet_id for wordnet_id, _, _ in IMAGENETTE]
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 1000))
    inputs = torch.rand(30, 3, 4, 4)
    samples = thinice.as_samples(inputs, torch.arange(30) % 10, classes=ids)
    expected = torch.tensor([0, 217, 482, 491, 497, 566, 569, 571, 574, 701])[samples.labels]
    classifier = thinice.as_classifier(network)
    mapped = in_network_classes(samples, [classifier])
    assert torch.equal(mapped.labels, expected)
    assert mapped.classes[217] == "n02102040"
    assert mapped.fingerprint != samples.fingerprint
    assert any("n03888257 is 701" in note for note in mapped.notes)
    assert in_network_classes(mapped, [classifier]) is mapped
    assert in_network_classes(samples, [thinice.as_classifier(build("cnn5"))]) is samples
    nearest = thinice.measure(classifier, samples, attack="fmn", effort="quick", progress=False)
    right = logits(network, inputs).argmax(1) == expected
    assert torch.equal(nearest.outcomes == thinice.Outcome.MISCLASSIFIED, ~right)


def test_labels_that_use_few_of_the_classes_are_doubted():
    classifier = thinice.as_classifier(nn.Sequential(nn.Flatten(), nn.Linear(48, 1000)))
    for classes, doubted in ((10, True), (200, False)):
        names = [str(number) for number in range(classes)]
        samples = thinice.as_samples(torch.rand(20, 3, 4, 4), torch.arange(20) % 10, classes=names)
        notes = prepare_classifier(classifier, samples).notes
        assert any(f"labels use {classes} of the network's 1000 classes" in note for note in notes) == doubted


def test_samples_sorted_by_class_decide_as_well(tmp_path):
    """What decides is spread over all samples, not their beginning."""
    network = spread_out(alive(LeNet(), DIGITS), DIGITS)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    samples = answered(network, DIGITS, count=1200)
    by_class = samples[samples.labels.argsort(stable=True)]
    seen = by_class[deciding(len(by_class))]
    assert set(seen.labels.tolist()) == set(by_class.labels.tolist())
    assert (
        load_classifier(tmp_path / "net.pth", normalization="none", samples=by_class).architecture
        == "cnn5:tanh+average-pool"
    )


def test_both_networks_must_be_the_same_variant(tmp_path):
    """A loss between two variants that nobody stated would be none by pruning."""
    first, second = (spread_out(alive(LeNet(activation), DIGITS), DIGITS) for activation in (torch.tanh, torch.sigmoid))
    inputs = torch.rand(400, *DIGITS)
    agreed = logits(first, inputs).argmax(1) == logits(second, inputs).argmax(1)
    samples = thinice.as_samples(inputs[agreed], logits(first, inputs[agreed]).argmax(1))
    for name, network in (("dense", first), ("pruned", second)):
        torch.save(network.state_dict(), tmp_path / f"{name}.pth")
    with pytest.raises(ThinIceError, match=r"`architecture` (of 'pruned' looks like|is missing)"):
        thinice.compare(tmp_path / "dense.pth", tmp_path / "pruned.pth", samples, attack="fmn", progress=False)
