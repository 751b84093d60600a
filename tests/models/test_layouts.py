"""Layouts of published programs and of people's own: none is loaded as another function.

Each row builds a narrow network with its own forward, and the file that its program would leave. The file gives a
classifier with the network's logits, or a refusal of one line. Of what a refusal offers some choice is the network, or
(where no architecture here is) the user's own code is, which every refusal offers.
"""

import copy
from functools import partial

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from tests.models import foreign
from tests.models.foreign import settled
from tests.models.test_families import SMALL, assert_equal, averaging, offered
from tests.models.test_variants import answered, changed, spread_out
from thinice.errors import CheckpointError
from thinice.models import build, load_classifier

pytestmark = pytest.mark.sampled

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
EQUAL, OWN_CODE = "equal", "own code"
"""What becomes of a file: its network; what the user's own code is alone. Else it is one that the refusal offers."""


def sequence(*entries, classes=10, activation=nn.ReLU, end=None, inputs=None):
    """Convolutions with batch norm and activation, a number each, and layers as they are."""
    layers, channels = [], 3
    for entry in entries:
        if isinstance(entry, int):
            layers += [foreign.conv(channels, entry, bias=True), nn.BatchNorm2d(entry), activation()]
            channels = entry
        else:
            layers.append(entry)
    network = foreign.VGG((), nn.Linear(inputs or channels, classes), end=end)
    network.features = nn.Sequential(*layers)
    return network


def pool():
    return nn.MaxPool2d(2)


def strided():
    network = sequence(8, 8, 12, 16, inputs=16 * 16)
    network.features[3].stride = network.features[9].stride = (2, 2)
    network.end = pool()
    return network


def unpadded():
    network = sequence(8, 8, pool(), 12, inputs=12 * 16 * 16)
    network.features[0].padding, network.features[3].padding = (0, 0), (2, 2)
    return network


def basic(blocks=(1, 1, 1, 1), classes=10, **changes):
    network = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, list(blocks), num_classes=classes)
    for name, layer in changes.items():
        setattr(network, name, layer)
    return network


def dilated():
    block = torchvision.models.resnet.Bottleneck
    return torchvision.models.ResNet(
        block, [1, 1, 1, 1], num_classes=10, replace_stride_with_dilation=[False, False, True]
    )


def narrower(*, stem_pool, classes=10):
    """torchvision's ResNet-18 with channels removed inside its blocks."""
    return foreign.ResNet(
        blocks=(2, 2, 2, 2),
        width=16,
        around="downsample",
        head="fc",
        kernel=7,
        pool=stem_pool,
        inner=(7, 20, 30, 50),
        classes=classes,
    )


def densenet(**changes):
    network = torchvision.models.DenseNet(4, (2, 1, 2, 1), 8, num_classes=10)
    for name, layer in changes.items():
        setattr(network.features, name, layer)
    return network


class Around(nn.Module):
    """A network under a name, and a number beside it that the logits are multiplied with."""

    def __init__(self, name, number, *, trained):
        super().__init__()
        if trained:
            self.scale = nn.Parameter(number)
        else:
            self.register_buffer("scale", number)
        self.inner = name
        self.add_module(name, foreign.ResNet(blocks=(1, 1, 1), width=16, padded="akamaster"))

    def forward(self, inputs):
        return getattr(self, self.inner)(inputs) * self.scale


class Hypersphere(foreign.WideResNet):
    """RobustBench's Pang2020Boosting: features and weights of the last layer are normalised."""

    def __init__(self):
        super().__init__("trades")
        self.fc = nn.Linear(self.fc.in_features, 10, bias=False)

    def forward(self, inputs):
        maps = self.block3(self.block2(self.block1(self.conv1(inputs))))
        features = functional.normalize(foreign.pooled(functional.relu(self.bn1(maps))))
        return functional.linear(features, functional.normalize(self.fc.weight))


def in_groups():
    network = foreign.ResNet()
    for layer in list(network.modules()):
        for name, child in layer.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(layer, name, nn.GroupNorm(2, child.num_features))
    return network


def with_unused_block():
    """TRADES' own class makes a block that its forward does not use."""
    network = foreign.WideResNet("trades")
    network.sub_block1 = foreign.Part("layer", nn.Sequential(foreign.WideBlock(16, 32, 1, "trades", functional.relu)))
    return network


LAYOUTS = {
    "another depth of torchvision's, without the pool": (
        lambda: basic(maxpool=nn.Identity()),
        "resnet10(stem=imagenet-no-pool)",
    ),
    "another depth of torchvision's, stride 1": (
        lambda: basic(conv1=nn.Conv2d(3, 64, 7, padding=3, bias=False)),
        "resnet10(stem=imagenet-stride-1)",
    ),
    "another depth of torchvision's, ImageNet's classes": (lambda: basic(classes=1000), EQUAL),
    "another depth of torchvision's, dilated": (dilated, OWN_CODE),
    "torchvision's with dropout before the head, no pool": (
        lambda: basic(maxpool=nn.Identity(), fc=nn.Sequential(nn.Dropout(), nn.Linear(512, 10))),
        "resnet10(stem=imagenet-no-pool)",
    ),
    "narrower than torchvision's": (lambda: narrower(stem_pool=True), "resnet18(stem=imagenet)"),
    "narrower than torchvision's, without the pool": (
        lambda: narrower(stem_pool=False),
        "resnet18(stem=imagenet-no-pool)",
    ),
    "narrower than torchvision's, ImageNet's classes": (lambda: narrower(stem_pool=True, classes=1000), EQUAL),
    "densenet of another depth": (densenet, "densenet(stem=imagenet)"),
    "densenet of another depth, without the pool": (
        lambda: densenet(pool0=nn.Identity()),
        "densenet(stem=imagenet-no-pool)",
    ),
    "densenet with a stem of stride 2": (
        lambda: densenet(conv0=nn.Conv2d(3, 8, 3, 2, 1, bias=False), pool0=nn.Identity()),
        OWN_CODE,
    ),
    "mobilenet_v3 for small images": (
        lambda: changed("mobilenet_v3_small", features__0__0=(1, 1)),
        "torchvision:mobilenet_v3_small:stem-stride-1",
    ),
    "squeezenet for small images": (
        lambda: changed("squeezenet1_1", features__0=(1, 1)),
        "torchvision:squeezenet1_1:stem-stride-1",
    ),
    "vgg of average pools": (lambda: averaging(foreign.VGG(SMALL, nn.Linear(64, 10))), "vgg:average-pools"),
    "vgg with dropout where others pool": (
        lambda: sequence(8, nn.Dropout(), 8, pool(), 12, pool(), 12, pool(), 16, pool(), inputs=64),
        OWN_CODE,
    ),
    "vgg of strides": (strided, OWN_CODE),
    "vgg of other paddings": (unpadded, OWN_CODE),
    "vgg with leaky ReLU": (
        lambda: sequence(8, pool(), 8, activation=partial(nn.LeakyReLU, 0.2), inputs=2048),
        OWN_CODE,
    ),
    "vgg with SiLU": (lambda: sequence(8, pool(), 8, activation=nn.SiLU, inputs=2048), "vgg:silu"),
    "vgg of network slimming": (
        lambda: foreign.VGG(SMALL, nn.Linear(16, 10), features="feature", bias=False, end=nn.AvgPool2d(2)),
        EQUAL,
    ),
    "padded shortcuts, akamaster": (lambda: foreign.ResNet(blocks=(1, 1, 1), width=16, padded="akamaster"), EQUAL),
    "padded shortcuts, another head": (
        lambda: foreign.ResNet(blocks=(1, 1, 1), width=16, padded="akamaster", head="classifier"),
        "resnet8(shortcut=padded)",
    ),
    "padded shortcuts of means, another head": (
        lambda: foreign.ResNet(blocks=(1, 1, 1), width=16, padded="rethinking", head="classifier"),
        "resnet8(shortcut=averaged-padded-after)",
    ),
    "group norm": (in_groups, OWN_CODE),
    "normalised head": (Hypersphere, OWN_CODE),
    "a temperature": (lambda: Around("model", torch.full((1,), 1.5), trained=True), OWN_CODE),
    "a scale": (lambda: Around("net", torch.tensor(3.0), trained=False), OWN_CODE),
    "a block that is not used": (with_unused_block, EQUAL),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_none_is_another_function(layout, tmp_path):
    make, expected = LAYOUTS[layout]
    network, path = settled(make()), tmp_path / "net.pt"
    torch.save({"state_dict": network.state_dict()}, path)
    if expected == EQUAL:
        assert_equal(load_classifier(path, normalization="none"), network, IMAGES)
        return
    with pytest.raises(CheckpointError, match=r"--architecture.*(\.py:|FILE)") as caught:
        load_classifier(path, normalization="none")
    assert "\n" not in str(caught.value)
    if expected != OWN_CODE:
        assert expected in offered(str(caught.value))
        assert_equal(load_classifier(path, architecture=expected, normalization="none"), network, IMAGES)
    own = load_classifier(path, architecture=copy.deepcopy(network), normalization="none")
    assert_equal(own, network, IMAGES)


def test_labels_do_not_overrule_what_was_said(tmp_path):
    """Where a member of a family is named, labels choose no other, however much better it is."""
    network = spread_out(settled(foreign.ResNet(pool=True)), (3, 32, 32))
    torch.save(network.state_dict(), tmp_path / "net.pt")
    samples = answered(network, (3, 32, 32))
    told = load_classifier(tmp_path / "net.pt", architecture="resnet10", normalization="none", samples=samples)
    assert (told.architecture, told.alternatives) == ("resnet10", ())
    free = load_classifier(tmp_path / "net.pt", normalization="none", samples=samples)
    assert free.architecture == "resnet10:stem-pool"
    assert_equal(free, network, IMAGES)


def test_ones_for_what_is_pruned_are_not_taken_for_masks(tmp_path):
    network = settled(build("resnet20"))
    state = network.state_dict()
    masks = {name: torch.rand_like(value) < 0.5 for name, value in state.items() if value.ndim == 4}
    for entry in ("pruned", "removed_weights"):
        torch.save({"state_dict": state, entry: {name: ~mask for name, mask in masks.items()}}, tmp_path / "net.pt")
        with pytest.raises(CheckpointError, match=rf"{entry}: holds zeros and ones, .*--masks none"):
            load_classifier(tmp_path / "net.pt", normalization="none")
        assert_equal(load_classifier(tmp_path / "net.pt", normalization="none", masks="none"), network, IMAGES)
        kept = load_classifier(tmp_path / "net.pt", normalization="none", masks=masks)
        pruned = copy.deepcopy(network)
        for name, value in pruned.named_parameters():
            value.data *= masks.get(name, 1)
        assert_equal(kept, pruned, IMAGES)
