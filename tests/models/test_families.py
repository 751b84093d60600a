"""Files of other programs, by their own names: each loads with the logits of the program's network, or asks which.

The programs' networks stand in `foreign`. Where several functions have the same parameters, the file is refused with
their names, and each name gives its own function.
"""

import itertools
import re
import sys
from collections import OrderedDict
from types import ModuleType

import pytest
import torch
import torchvision
from torch import nn

from tests.models import foreign
from tests.models.foreign import settled
from thinice.errors import CheckpointError, InputError, MissingExtraError
from thinice.models import as_classifier, build, load_classifier, prunable_weights, save_classifier
from thinice.models.architectures import find_architecture, with_options
from thinice.models.architectures.families import family_members, nearest_member
from thinice.models.architectures.identify import WAYS_IN, identify
from thinice.models.architectures.rebuild import rebuild
from thinice.models.architectures.variants import is_own_change
from thinice.models.wrappers import shared_prefix, unwrap

pytestmark = pytest.mark.sampled

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
SMALL = (8, "M", 8, "M", 12, 12, "M", 16, "M", 16)


def head(*widths, positions=None):
    """A classifier of linear layers with ReLU and dropout between them, or without dropout."""
    layers = []
    for fewer, more in itertools.pairwise(widths):
        layers += [nn.Linear(fewer, more), nn.ReLU(), *([] if positions == "close" else [nn.Dropout()])]
    return nn.Sequential(*layers[: -1 if positions == "close" else -2])


def huyvnphan_densenet():
    network = torchvision.models.DenseNet(4, (2, 1, 2, 1), 8, num_classes=10)
    network.features.conv0 = foreign.conv(3, 8)
    return network


def huyvnphan_mobilenet(width_mult=0.25):
    setting = [
        [1, 16, 1, 1],
        [6, 24, 2, 1],
        [6, 32, 3, 2],
        [6, 64, 4, 2],
        [6, 96, 3, 1],
        [6, 160, 3, 2],
        [6, 320, 1, 1],
    ]
    network = torchvision.models.MobileNetV2(10, width_mult, setting)
    network.features[0][0].stride = (1, 1)
    return network


def slimmed_vgg(end):
    classifier = nn.Sequential(nn.Linear(16, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 10))
    return foreign.VGG(SMALL, classifier, features="feature", bias=False, end=end)


def averaging(network):
    for place, layer in enumerate(network.features):
        if isinstance(layer, nn.MaxPool2d):
            network.features[place] = nn.AvgPool2d(2)
    return network


# Each program's network, and its architecture; with options or a variant (or none, after the colon) where the names and
# shapes leave several functions.
LAYOUTS = {
    "kuangliu resnet": (foreign.ResNet, "resnet10"),
    "kuangliu resnet, bottleneck": (lambda: foreign.ResNet(bottleneck=True), "resnet14"),
    "kuangliu resnet, gray": (lambda: foreign.ResNet(channels=1), "resnet10"),
    "openood resnet": (lambda: foreign.ResNet(head="fc"), "resnet10"),
    "akamaster resnet": (lambda: foreign.ResNet(blocks=(2, 2, 2), width=16, padded="akamaster"), "resnet14"),
    "rethinking resnet": (
        lambda: foreign.ResNet(blocks=(1, 1, 1), width=16, head="fc", padded="rethinking"),
        "resnet8(shortcut=averaged-padded-after)",
    ),
    "soft filter pruning resnet": (foreign.SoftFilterPruning, "resnet8"),
    "chenyaofo resnet": (
        lambda: foreign.ResNet(blocks=(2, 2, 2), width=16, around="downsample", head="fc"),
        "resnet14",
    ),
    "bearpaw resnet, bottleneck": (
        lambda: foreign.ResNet(blocks=(1, 1, 1), width=16, bottleneck=True, around="downsample", head="fc"),
        "resnet11",
    ),
    "torchvision resnet, 3x3 stem": (
        lambda: foreign.ResNet(around="downsample", head="fc"),
        "resnet10(stem=cifar)",
    ),
    "huyvnphan resnet": (
        lambda: foreign.ResNet(around="downsample", head="fc", pool=True),
        "resnet10(stem=cifar-pool)",
    ),
    "torchvision resnet, gray": (
        lambda: foreign.ResNet(around="downsample", head="fc", kernel=7, pool=True, channels=1),
        "resnet10(stem=imagenet)",
    ),
    "torchvision resnet, without the pool": (
        lambda: foreign.ResNet(around="downsample", head="fc", kernel=7),
        "resnet10(stem=imagenet-no-pool)",
    ),
    "torchvision resnet, ImageNet": (
        lambda: foreign.ResNet(around="downsample", head="fc", kernel=7, pool=True, classes=1000),
        "resnet10",
    ),
    "padded resnet, head of another name": (
        lambda: foreign.ResNet(blocks=(1, 1, 1), width=16, head="classifier", padded="rethinking"),
        "resnet8(shortcut=averaged-padded-after)",
    ),
    "weiaicunzai resnet": (foreign.Weiaicunzai, "resnet10"),
    "weiaicunzai resnet, bottleneck": (lambda: foreign.Weiaicunzai(bottleneck=True), "resnet14"),
    "kuangliu preact": (foreign.PreActResNet, "preact_resnet10_cifar(shortcut=activated)"),
    "robustbench preact": (
        lambda: foreign.PreActResNet(activated=False, last=True),
        "preact_resnet10_cifar(shortcut=raw)",
    ),
    "kuangliu preact, bottleneck": (
        lambda: foreign.PreActResNet(bottleneck=True),
        "preact_resnet14_cifar(shortcut=activated)",
    ),
    "bearpaw preact": (
        lambda: foreign.PreActResNet(
            blocks=(1, 1, 1), width=16, bottleneck=True, around="downsample", head="fc", activated=False, last=True
        ),
        "preact_resnet11_cifar",
    ),
    "weiaicunzai preact": (foreign.WeiaicunzaiPreAct, "preact_resnet10_cifar"),
    "weiaicunzai preact, bottleneck": (lambda: foreign.WeiaicunzaiPreAct(bottleneck=True), "preact_resnet14_cifar"),
    "trades wrn": (lambda: foreign.WideResNet("trades", factor=3, count=2), "wrn_16_3"),
    "weiaicunzai wrn": (lambda: foreign.WideResNet("weiaicunzai"), "wrn_10_2"),
    "meliketoy wrn": (lambda: foreign.WideResNet("meliketoy"), "wrn_10_2"),
    "deepmind wrn": (
        lambda: foreign.WideResNet("deepmind", count=2, activation=nn.functional.silu),
        "wrn_16_2(activation=silu)",
    ),
    "deepmind wrn, relu": (lambda: foreign.WideResNet("deepmind"), "wrn_10_2(activation=relu)"),
    "kuangliu vgg": (lambda: foreign.VGG(SMALL, nn.Linear(16, 10), end=nn.MaxPool2d(2)), "vgg(pool=max)"),
    "vgg, mean at the end": (lambda: foreign.VGG(SMALL, nn.Linear(16, 10), end=nn.AvgPool2d(2)), "vgg(pool=mean)"),
    "bearpaw vgg without batch norm": (
        lambda: foreign.VGG(SMALL, nn.Linear(16, 10), norm=False, end=nn.MaxPool2d(2)),
        "vgg(pool=max)",
    ),
    "chenyaofo vgg": (lambda: foreign.VGG(SMALL, head(16, 20, 20, 10), end=nn.MaxPool2d(2)), "vgg(pool=max)"),
    "hydra vgg": (
        lambda: foreign.VGG(SMALL, head(64, 20, 20, 10, positions="close"), bias=False),
        "vgg:",
    ),
    "vgg of average pools": (lambda: averaging(foreign.VGG(SMALL, nn.Linear(64, 10))), "vgg:average-pools"),
    "hydra vgg4": (
        lambda: foreign.VGG(
            (8, 8, "M", 12, 12),
            head(48, 20, 10, positions="close"),
            bias=False,
            end=nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2)),
        ),
        "vgg(pool=max-mean)",
    ),
    "slimming vgg": (lambda: slimmed_vgg(nn.AvgPool2d(2)), "vgg"),
    "vgg, gray": (
        lambda: foreign.VGG(SMALL, nn.Linear(16, 10), channels=1, end=nn.MaxPool2d(2)),
        "vgg(pool=max)",
    ),
    "kuangliu densenet": (foreign.DenseNet, "densenet"),
    "bearpaw densenet": (lambda: foreign.DenseNet(program="bearpaw"), "densenet"),
    "bearpaw densenet of single layers": (lambda: foreign.DenseNet(program="bearpaw", single=True), "densenet"),
    "weiaicunzai densenet": (foreign.WeiaicunzaiDenseNet, "densenet"),
    "huyvnphan densenet": (huyvnphan_densenet, "densenet(stem=cifar-pool)"),
    "kuangliu mobilenet": (foreign.KuangliuMobileNet, "mobilenet_v2_cifar"),
    "chenyaofo mobilenet": (huyvnphan_mobilenet, "mobilenet_v2(strides=cifar)"),
    "torchvision mobilenet of another width": (
        lambda: torchvision.models.MobileNetV2(10, 0.5),
        "mobilenet_v2(strides=imagenet)",
    ),
}


def offered(message):
    """The architectures that a message offers."""
    listed, _, variants = message.partition("one of ")[2].partition("; or ")[0].partition("VARIANT with ")
    plain = [name.strip("', ") for name in re.findall(r"'\w+\(.*?\)'|^[\w:]+", listed)]
    named = re.sub(r" \((?:[^()]|\([^()]*\))*\)", "", variants).split(", ") if variants else []
    return [*plain, *(f"{name}:{variant}" for name in plain for variant in named)]


def logits(network, images=IMAGES):
    with torch.no_grad():
        return network(images)


def assert_equal(classifier, network, images=IMAGES):
    expected = logits(network, images)
    torch.testing.assert_close(logits(classifier, images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_loads_with_the_logits_of_its_program_or_asks_which(layout, tmp_path):
    make, architecture = LAYOUTS[layout]
    network, path = settled(make()), tmp_path / "net.pth"
    images = IMAGES[:, : next(iter(network.state_dict().values())).shape[1]]
    torch.save(network.state_dict(), path)
    options = "(" in architecture or ":" in architecture
    if not options:
        classifier = load_classifier(path, normalization="none")
        assert with_options(classifier.architecture)[0] == architecture
        assert_equal(classifier, network, images)
    else:
        with pytest.raises(CheckpointError, match=r"fit several architectures that compute different things") as caught:
            load_classifier(path, normalization="none")
        architecture = architecture.removesuffix(":")
        names = offered(str(caught.value))
        assert architecture in names
        for name in names:
            if name != architecture and is_own_change(name, 10):
                continue
            classifier = load_classifier(path, architecture=name, normalization="none")
            if name == architecture:
                assert_equal(classifier, network, images)
            else:
                assert (logits(classifier, images) - logits(network, images)).abs().max() > 1e-2
    # saved as thinice's own, nothing has to be told again
    classifier = load_classifier(path, architecture=architecture if options else None, normalization="none")
    again = load_classifier(save_classifier(classifier, tmp_path / "own.pt"))
    assert again.fingerprint == classifier.fingerprint
    assert_equal(again, network, images)


def test_options_may_be_arguments_too(tmp_path):
    network = settled(foreign.ResNet(around="downsample", head="fc", pool=True))
    torch.save(network.state_dict(), tmp_path / "net.pt")
    for name in ("resnet10", "torchvision:resnet18"):
        with pytest.raises(CheckpointError, match=r"resnet10\(stem=cifar\)|do not fit torchvision:resnet18"):
            load_classifier(tmp_path / "net.pt", architecture=name)
    arguments = {"stem": "cifar-pool"}
    classifier = load_classifier(
        tmp_path / "net.pt", architecture="resnet10", architecture_args=arguments, normalization="none"
    )
    assert_equal(classifier, network)


@pytest.mark.parametrize("pool", [nn.Identity(), nn.MaxPool2d(3, 2, 1)], ids=["no pool", "pool"])
def test_torchvision_with_another_stem_and_head(pool, tmp_path):
    network = torchvision.models.resnet18(num_classes=5)
    network.conv1, network.maxpool = nn.Conv2d(1, 64, 3, 1, 1, bias=False), pool
    settled(network)
    torch.save(network.state_dict(), tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"'resnet18\(stem=cifar\)', 'resnet18\(stem=cifar-pool\)'"):
        load_classifier(tmp_path / "net.pt", architecture="torchvision:resnet18")
    stem = "cifar" if isinstance(pool, nn.Identity) else "cifar-pool"
    classifier = load_classifier(
        tmp_path / "net.pt", architecture=f"torchvision:resnet18(stem={stem})", normalization="none"
    )
    assert (classifier.classes, classifier.architecture) == (5, f"resnet18(stem={stem})")
    assert_equal(classifier, network, IMAGES[:, :1])


def test_a_head_with_dropout(tmp_path):
    network = torchvision.models.resnet18(num_classes=10)
    network.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 7))
    settled(network)
    torch.save(network.state_dict(), tmp_path / "net.pt")
    classifier = load_classifier(tmp_path / "net.pt", architecture="resnet18(stem=imagenet)", normalization="none")
    assert (classifier.architecture, classifier.alternatives) == ("resnet18(stem=imagenet)", ())
    assert_equal(classifier, network)


# Networks from which channels were removed, and the sentence that says so.
NARROWER = {
    "resnet, inside of blocks": (
        lambda: foreign.ResNet(blocks=(1, 1, 1), width=16, padded="akamaster", inner=(5, 16, 40)),
        "narrower than resnet8 in 3 layers",
    ),
    "resnet, everywhere": (
        lambda: foreign.ResNet(inner=(7, 5, 9, 3), outputs=(6, 10, 12, 20)),
        "narrower than resnet10 in 12 layers",
    ),
    "resnet of torchvision": (
        lambda: foreign.ResNet(
            inner=(7, 5, 9, 3),
            outputs=(6, 10, 12, 20),
            around="downsample",
            head="fc",
            kernel=7,
            pool=True,
            classes=1000,
        ),
        "narrower than resnet10 in 12 layers",
    ),
    "vgg of slimming": (
        lambda: foreign.VGG(
            (64, 60, "M", 128, 99, "M", 256, 1, 256, "M", 512, 7, 512, "M", 512, 512, 500),
            nn.Linear(500, 10),
            features="feature",
            bias=False,
            end=nn.AvgPool2d(2),
        ),
        "narrower than vgg16_bn in 5 layers",
    ),
    "preact": (
        lambda: narrowed(
            foreign.PreActResNet(width=16, blocks=(1, 1, 1), around="downsample", head="fc", activated=False, last=True)
        ),
        "narrower than preact_resnet8_cifar in 1 layers",
    ),
    "wrn": (lambda: narrowed(foreign.WideResNet("trades")), "narrower than wrn_10_2 in 1 layers"),
}


def narrowed(network):
    """Remove channels between the two convolutions of the second stage's first block."""
    block = network.layer2[0] if hasattr(network, "layer2") else network.block2.layer[0]
    few = 13
    block.conv1 = nn.Conv2d(block.conv1.in_channels, few, 3, block.conv1.stride, 1, bias=False)
    block.bn2 = nn.BatchNorm2d(few)
    block.conv2 = foreign.conv(few, block.conv2.out_channels)
    return network


@pytest.mark.parametrize("case", NARROWER)
def test_narrower_networks_load_and_say_so(case, tmp_path):
    make, sentence = NARROWER[case]
    network = settled(make())
    torch.save({"state_dict": network.state_dict()}, tmp_path / "net.pt")
    classifier = load_classifier(tmp_path / "net.pt", normalization="none")
    assert [note for note in classifier.notes if sentence in note], classifier.notes
    assert_equal(classifier, network)
    again = load_classifier(save_classifier(classifier, tmp_path / "own.pt"))
    assert_equal(again, network)


def test_selected_channels_become_zeros(tmp_path):
    network = settled(foreign.SlimmedPreAct())
    torch.save({"state_dict": network.state_dict()}, tmp_path / "net.pt")
    classifier = load_classifier(tmp_path / "net.pt", normalization="none")
    assert_equal(classifier, network)
    assert any("narrower than preact_resnet11_cifar in 6 layers" in note for note in classifier.notes)
    zeros = 16 // 4 * 12 + 64 // 4 * 24 + 128 // 4 * 48 + 256 // 4 * 10
    total = sum(weight.numel() for weight in prunable_weights(classifier.module).values())
    assert classifier.sparsity == pytest.approx(zeros / total)
    state = dict(network.state_dict())
    state["layer1.0.select.indexes"] = torch.ones(16)
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"layer1\.0\.select\.indexes selects 16 channels, which no layer"):
        load_classifier(tmp_path / "net.pt")


def test_small_cnn_of_trades(tmp_path):
    network = settled(foreign.SmallCNN())
    torch.save(network.state_dict(), tmp_path / "net.pt")
    assert_equal(load_classifier(tmp_path / "net.pt", normalization="none"), network, torch.rand(2, 1, 28, 28))


def test_another_name_than_the_files_says_what_it_is(tmp_path):
    torch.save(foreign.Weiaicunzai().state_dict(), tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"do not fit vgg16_bn: they are those of resnet10: give that as"):
        load_classifier(tmp_path / "net.pt", architecture="vgg16_bn")
    with pytest.raises(CheckpointError, match=r"do not fit torchvision:resnet18: they are those of resnet10"):
        load_classifier(tmp_path / "net.pt", architecture="torchvision:resnet18")


def test_widths_that_do_not_fit_together_are_refused(tmp_path):
    """The second convolution gives 9 maps, around it go 16: no network computes that."""
    network = foreign.ResNet(blocks=(1, 1, 1), width=16, padded="akamaster")
    state = dict(network.state_dict())
    for name in ("conv2.weight", "bn2.weight", "bn2.bias", "bn2.running_mean", "bn2.running_var"):
        state[f"layer1.0.{name}"] = state[f"layer1.0.{name}"][:9]
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(
        CheckpointError, match=r"nearest: resnet8 \(the file layer1\.0\.conv2\.weight \(9, 16, 3, 3\) instead"
    ):
        load_classifier(tmp_path / "net.pt")


def test_a_header_with_giant_layer_sizes_takes_no_memory():
    with pytest.raises(CheckpointError, match="do not fit"):
        rebuild("wrn_10_1", 10, {"layer_sizes": {"conv1": [2**30, 2**20]}}, {}, "file")
    for sizes in ({"nowhere": [1, 1]}, {"conv1": [0, 3]}, {"conv1": [4]}, {"relu": [4]}):
        with pytest.raises(InputError, match="layer_sizes"):
            build("wrn_10_1", 10, layer_sizes=sizes)


def test_names_with_numbers_build_any_depth():
    counts = {"resnet110": 1.73e6, "wrn_40_2": 2.24e6, "wrn_16_8": 10.96e6}  # He et al.; Zagoruyko and Komodakis
    for name, count in counts.items():
        with torch.device("meta"):
            assert sum(p.numel() for p in build(name).parameters()) == pytest.approx(count, rel=0.02)
    assert find_architecture("resnet34").name == "resnet34"
    for wrong in ("wrn_41_2", "wrn_4_2", "resnet1"):
        with pytest.raises(InputError, match=r"cannot be built"):
            build(wrong)


PREFIXES = ("backbone.", "module.model.", "_orig_mod.module.", "wrapped.network.", "_forward_module.model.")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_that_all_share(prefix, tmp_path):
    network = settled(build("resnet20"))
    torch.save({prefix + name: value for name, value in network.state_dict().items()}, tmp_path / "net.pt")
    classifier = load_classifier(tmp_path / "net.pt", normalization="none")
    assert classifier.architecture == "resnet20"
    assert any("prefix" in note for note in classifier.notes)
    assert_equal(classifier, network)


# What training keeps beside the network, by what wrote it.
BESIDE = {
    "swa": ("module.", {"n_averaged": torch.tensor(3)}),
    "criterion": ("model.", {"criterion.weight": torch.ones(10)}),
    "center loss": ("model.", {"criterion.centers": torch.ones(10, 64)}),
    "torchmetrics": ("model.", {"train_acc.tp": torch.tensor([3]), "val_confmat.confmat": torch.ones(10, 10)}),
    "direct": ("", {"loss_fn.pos_weight": torch.ones(10), "valid_accuracy.correct": torch.tensor(2.0)}),
    "counter": ("agent.", {"updates": torch.tensor(12)}),
}


@pytest.mark.parametrize("case", BESIDE)
def test_what_lies_beside_the_network_is_dropped_and_named(case, tmp_path):
    prefix, beside = BESIDE[case]
    network = settled(build("resnet20"))
    state = {prefix + name: value for name, value in network.state_dict().items()}
    torch.save({"state_dict": {**state, **beside}}, tmp_path / "net.pt")
    classifier = load_classifier(tmp_path / "net.pt", normalization="none")
    assert_equal(classifier, network)
    for name in beside:
        assert any("beside the network" in note and name in note for note in classifier.notes), classifier.notes


def test_what_may_compute_with_the_network_is_not_dropped(tmp_path):
    """A second head, or a layer before the network: without it the function is another."""
    beside = {"projector.0.weight": torch.ones(4, 10), "temperature": torch.ones(1), "scale": torch.tensor(2.0)}
    for name, value in beside.items():
        state = {"agent." + key: value for key, value in build("resnet20").state_dict().items()}
        torch.save({**state, name: value}, tmp_path / "net.pt")
        with pytest.raises(CheckpointError, match=rf"under agent\. lies resnet20, but beside it {re.escape(name)}"):
            load_classifier(tmp_path / "net.pt")


def test_parallel_parts_and_compiled_parts(tmp_path):
    """DataParallel around the convolutions alone (bearpaw), torch.compile of one stage."""
    parallel = foreign.VGG(SMALL, nn.Linear(16, 10), end=nn.MaxPool2d(2))
    settled(parallel)
    state = {name.replace("features.", "features.module."): value for name, value in parallel.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "net.pt")
    assert_equal(load_classifier(tmp_path / "net.pt", architecture="vgg(pool=max)", normalization="none"), parallel)
    network = settled(build("resnet20"))
    state = {name.replace("layer1.", "layer1._orig_mod."): value for name, value in network.state_dict().items()}
    torch.save(state, tmp_path / "net.pt")
    classifier = load_classifier(tmp_path / "net.pt", normalization="none")
    assert_equal(classifier, network)
    assert "wrapper _orig_mod removed" in classifier.notes[0]


def test_averaged_models_load(tmp_path):
    network = settled(build("resnet20"))
    torch.save(torch.optim.swa_utils.AveragedModel(network).state_dict(), tmp_path / "net.pt")
    assert_equal(load_classifier(tmp_path / "net.pt", normalization="none"), network)


def test_layers_that_are_called_like_metrics_stay():
    """LeNet's f1 and a layer called acc have weights: they are layers."""
    weights = {"c1.weight": torch.ones(1), "f1.weight": torch.ones(1), "acc.bias": torch.ones(1)}
    assert unwrap(weights) == (weights, [])
    assert shared_prefix({"1.weight": torch.ones(1), "1.bias": torch.ones(1)}) == ("", [])


REFUSALS = {
    "no architecture": {"one.weight": torch.ones(2, 2), "two.weight": torch.ones(2, 2)},
    "nearly": {
        name: value for name, value in build("resnet20").state_dict().items() if name != "layer3.2.conv1.weight"
    },
    "several": settled(foreign.VGG(SMALL, nn.Linear(16, 10), end=nn.MaxPool2d(2))).state_dict(),
    "no weights": {"epoch": 3},
    "another one": build("digits_cnn").state_dict(),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_every_refusal_offers_a_way_in(case, tmp_path):
    torch.save(REFUSALS[case], tmp_path / "net.pt")
    with pytest.raises(CheckpointError) as caught:
        load_classifier(tmp_path / "net.pt", architecture="resnet20" if case == "another one" else None)
    ways = "your own code, FILE.py:CLASS; an ONNX file; thinice.as_classifier(net)" if case == "several" else WAYS_IN
    assert ways in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's exporter
def test_the_ways_in_work_as_they_are_written(tmp_path, monkeypatch):
    pytest.importorskip("onnx2torch")
    monkeypatch.chdir(tmp_path)
    network = settled(foreign.ResNet(head="verdict"))
    torch.save(network.state_dict(), "net.pt")
    with pytest.raises(CheckpointError) as caught:
        load_classifier("net.pt")
    message = str(caught.value)
    names = {"net": network, "torch": torch, "thinice": __import__("thinice")}
    exec(re.search(r"torch\.onnx\.export\(.*dynamo=False\)", message)[0], names)
    assert_equal(load_classifier("net.onnx"), network)
    assert_equal(eval(re.search(r"thinice\.as_classifier\(net\)", message)[0], names), network)
    (tmp_path / "models.py").write_text(
        "from tests.models.foreign import ResNet\n\n\ndef Net():\n    return ResNet(head='verdict')\n"
    )
    argument = re.search(r"architecture='(models\.py:Net)'", message)[1]
    assert_equal(load_classifier("net.pt", architecture=argument, normalization="none"), network)


def test_what_resembles_a_member_of_a_family_is_told():
    state = {k: v for k, v in foreign.Weiaicunzai().state_dict().items() if not k.startswith("conv4_x.0.shortcut")}
    name, difference = nearest_member(state)
    assert name == "resnet10"
    assert difference.startswith("the file has no layer3.0.shortcut.0.weight")
    assert not family_members(state)


def test_refusing_builds_no_network_of_torchvision(monkeypatch):
    """It took seconds to import torchvision and to build 80 networks for a file that resembles none."""

    def imported():
        raise AssertionError

    monkeypatch.setattr("thinice.models.architectures._torchvision", imported)
    with pytest.raises(CheckpointError, match="resemble no known architecture"):
        identify({"one.weight": torch.ones(2, 2)}, "net.pt")


def test_identification_keeps_the_names_that_the_file_has():
    weights = settled(foreign.Weiaicunzai()).state_dict()
    identity = identify(weights, "net.pt")
    assert identity.names["conv2_x.0.residual_function.0.weight"] == "layer1.0.conv1.weight"
    assert identity.names.keys() == weights.keys()
    assert identity.remarks == ("parameters are named as in pytorch-cifar100 (weiaicunzai)",)


def test_timm_is_built_where_it_is_installed(monkeypatch, tmp_path):
    asked = []

    def create_model(name, *, pretrained, num_classes, **arguments):
        asked.append((name, pretrained, num_classes, arguments))
        return nn.Sequential(OrderedDict(flat=nn.Flatten(), stem=nn.Linear(12, 5), head=nn.Linear(5, num_classes)))

    timm = ModuleType("timm")
    timm.is_model, timm.list_models = (lambda name: name == "tiny"), (lambda: ["tiny"])
    timm.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", timm)
    network = build("timm:tiny", 4, in_chans=1)
    assert asked == [("tiny", False, 4, {"in_chans": 1})]
    torch.save(network.state_dict(), tmp_path / "net.pt")
    classifier = load_classifier(tmp_path / "net.pt", architecture="timm:tiny", normalization="none")
    assert (classifier.architecture, classifier.classes) == ("timm:tiny", 4)
    assert_equal(classifier, network.eval(), torch.rand(2, 3, 2, 2))
    assert load_classifier(save_classifier(classifier, tmp_path / "own.pt")).fingerprint == classifier.fingerprint
    with pytest.raises(InputError, match=r"'timm:tinny' is unknown: timm has timm:tiny"):
        build("timm:tinny")


def test_timm_that_is_missing_is_one_line_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "timm", None)
    torch.save(build("digits_cnn").state_dict(), tmp_path / "net.pt")
    with pytest.raises(
        MissingExtraError, match=r"^the architecture timm:resnet18 needs .*pip install 'thinice\[timm\]'$"
    ):
        load_classifier(tmp_path / "net.pt", architecture="timm:resnet18")


def test_classifiers_of_families_keep_their_architecture():
    classifier = as_classifier(build("wrn_10_1(activation=silu)", 3))
    assert (classifier.architecture, classifier.classes) == ("wrn_10_1(activation=silu)", 3)
