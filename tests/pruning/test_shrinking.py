"""Smaller networks against the masked ones they come from: the same logits, sizes counted by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from thinice.errors import CheckpointError, InputError
from thinice.models import Masks, as_classifier, build, load_classifier, prunable_weights, save_classifier
from thinice.models.architectures.layer_sizes import pads_channels, resize
from thinice.models.architectures.rebuild import WithoutMemory
from thinice.pruning import prune
from thinice.pruning.shrinking import cost, shrink

pytestmark = pytest.mark.sampled

ARCHITECTURES = {
    "vgg11": 16,
    "vgg16_bn": 16,
    "vgg16_bn_radmm": 16,
    "vgg16_bn_rst": 16,
    "resnet20": 2,
    "resnet18": 16,
    "preact_resnet8": 8,
    "preact_resnet18_cifar": 16,
    "wrn_28_4": 8,
    "cnn5": 1,
    "digits_cnn": 2,
}
"""Name to the factor by which the network is narrowed, so that tests are fast."""


def rich(network, seed=0):
    """Give batch norms statistics and shifts that are not trivial: a filter of zeros still gives a constant."""
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(layer.running_mean, 0, 0.3, generator=generator)
            nn.init.uniform_(layer.running_var, 0.5, 2, generator=generator)
            nn.init.normal_(layer.weight, 1, 0.3, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.5, generator=generator)
    return network.eval()


def narrowed(name, seed=0):
    """An architecture with all its layers narrower by a factor but for the image's channels and the classes."""
    factor, sizes = ARCHITECTURES[name], {}
    with WithoutMemory():
        network = build(name)
    weighted = [path for path, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for path, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            outputs, inputs = layer.weight.shape[:2]
            sizes[path] = [
                outputs if path == weighted[-1] else outputs // factor,
                inputs if path == weighted[0] else inputs // factor,
            ]
        elif isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            sizes[path] = [layer.num_features // factor]
        elif pads_channels(layer):
            sizes[path] = [layer.before // factor, layer.after // factor]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        resize(network, sizes)
        return rich(network, seed)


def images_for(name, count=3):
    shape = {"cnn5": (1, 28, 28), "digits_cnn": (1, 8, 8)}.get(name, (3, 32, 32))
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def assert_same(before, after, images):
    with torch.no_grad():
        logits, others = before(images), after(images)
    assert torch.allclose(logits, others, rtol=1e-4, atol=1e-5 * float(logits.abs().max()))


@pytest.mark.parametrize("structure", ["filter", "channel"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_logits_are_those_of_the_masked_network(name, structure):
    network, images = narrowed(name), images_for(name)
    pruned = prune(network, sparsity=0.6, scope="local", structure=structure)
    small = shrink(pruned.module, images)
    assert_same(pruned.module, small.network, images)
    assert_same(pruned.module, shrink(network, images, masks=pruned.masks).network, images)
    assert small.after.parameters < small.before.parameters
    assert small.after.flops < small.before.flops
    assert small.before.seconds > 0
    assert small.before.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert small.masks.hold(small.network)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("resnet20", ".pt"), ("preact_resnet8", ".safetensors"), ("cnn5", ".pt"), ("digits_cnn", ".pt")],
)
def test_a_smaller_network_is_a_checkpoint_as_any_other(tmp_path, name, suffix):
    network, images = rich(build(name)), images_for(name)
    pruned = prune(network, sparsity=0.6, scope="local", structure="filter")
    facts = {"input_shape": images.shape[1:], "normalization": "half", "data": "toys"}
    dense = as_classifier(network, **facts)
    masked = as_classifier(pruned.module, **facts, parent=dense.fingerprint)
    small = shrink(masked, images, masks=pruned.masks)
    assert_same(masked, small.network, images)
    loaded = load_classifier(save_classifier(small.network, tmp_path / f"small{suffix}"))
    assert torch.equal(loaded(images), small.network(images))
    assert loaded.fingerprint == small.network.fingerprint
    assert (loaded.parent, loaded.data, loaded.normalization) == (dense.fingerprint, "toys", dense.normalization)
    assert all(torch.equal(mask, loaded.masks.kept[key]) for key, mask in small.masks.kept.items())
    again = prune(loaded, sparsity=0.5, scope="local", structure="filter")
    smaller = shrink(as_classifier(again.module, input_shape=images.shape[1:]), images)
    assert_same(again.module, smaller.network, images)
    assert smaller.after.parameters < small.after.parameters
    assert load_classifier(save_classifier(smaller.network, tmp_path / "again.pt")).classes == 10


@settings(max_examples=8, deadline=None)
@given(
    name=st.sampled_from(["resnet20", "preact_resnet8", "digits_cnn", "cnn5"]),
    seed=st.integers(0, 100),
    share=st.floats(0.1, 0.95),
)
@pytest.mark.slow
def test_whatever_is_removed_the_logits_stay(name, seed, share):
    """Filters and input channels by chance, in all layers, linear ones too: whole layers go as well."""
    network = narrowed(name, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in prunable_weights(network).values():
            weight[torch.rand(weight.shape[0], generator=generator) < share] = 0
            weight[:, torch.rand(weight.shape[1], generator=generator) < share / 2] = 0
    images = images_for(name)
    small = shrink(network, images)
    assert_same(network, small.network, images)
    assert small.after.parameters <= small.before.parameters
    again = shrink(small.network, images)
    assert_same(network, again.network, images)


def chain(shift, *, padding=1, bias=False):
    """Three maps of which the second is pruned, batch norm whose shift it keeps, ReLU, and a reader."""
    first, norm = nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
    first.weight.data[1] = 0
    norm.bias.data[1] = shift
    norm.running_mean[:] = 0
    second = nn.Conv2d(3, 2, 3, padding=padding, bias=bias)
    return nn.Sequential(first, norm, nn.ReLU(), second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).eval()


@pytest.mark.parametrize(
    ("network", "sizes"),
    [
        (chain(-1.0), {"0": [2, 1], "1": [2], "3": [2, 2]}),  # ReLU makes it zero
        (chain(1.0), {}),  # its constant is seen at the border, and no other channel carries it
        (chain(1.0, padding=0), {}),  # nowhere to put it: no bias
        (chain(1.0, padding=0, bias=True), {"0": [2, 1], "1": [2], "3": [2, 2]}),  # in the bias
        (chain(1.0, bias=True), {}),  # a bias is the same at the border, the constant is not
    ],
)
def test_a_constant_goes_where_it_can(network, sizes):
    images = torch.rand(4, 1, 6, 6)
    small = shrink(network, images)
    assert small.layer_sizes == sizes
    assert_same(network, small.network, images)
    if not sizes:
        assert small.notes == ("nothing to shrink: no filter or input channel can go",)


def test_one_channel_carries_the_constants_of_all():
    first, norm, second = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 3, padding=1)
    first.weight.data[1:5] = 0
    norm.bias.data[:] = torch.tensor([0.3, 0.5, -1.0, 2.0, 1.0, 0.1])
    network = nn.Sequential(first, norm, nn.ReLU(), second, nn.Flatten()).eval()
    images = torch.rand(4, 1, 5, 5)
    small = shrink(network, images)
    # of the dead channels 1, 3 and 4 give constants: 3 stays, as it is the largest; 2 gives none
    assert small.layer_sizes == {"0": [3, 1], "1": [3], "3": [2, 3]}
    assert small.network[1].bias.tolist() == pytest.approx([0.3, 2.0, 0.1])
    assert_same(network, small.network, images)
    (note,) = small.notes
    assert note.startswith("3 keeps one pruned input channel for its constant, which carries those of 2 others as well")
    expected = second.weight[:, 3] + (0.5 * second.weight[:, 1] + 1.0 * second.weight[:, 4]) / 2.0
    assert torch.allclose(small.network[3].weight[:, 1], expected, atol=1e-6)


class Sum(nn.Module):
    """Two convolutions of the same maps, added."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 3, 3, bias=False), nn.Conv2d(1, 3, 3, bias=False)
        self.last = nn.Linear(3, 2)

    def forward(self, inputs):
        return self.last(functional.relu(self.left(inputs) + self.right(inputs)).mean((2, 3)))


def test_through_a_sum_a_channel_goes_only_on_both_sides():
    network = Sum()
    images = torch.rand(3, 1, 5, 5)
    network.left.weight.data[0] = 0
    assert shrink(network, images).layer_sizes == {}
    network.right.weight.data[0] = 0
    small = shrink(network, images)
    assert small.layer_sizes == {"left": [2, 1], "right": [2, 1], "last": [2, 2]}
    assert_same(network, small.network, images)


def test_what_is_not_understood_stays_whole():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

        def forward(self, inputs):
            return self.last(self.first(inputs).roll(1, 1).mean((2, 3)))

    network = Odd()
    network.first.weight.data[:3] = 0
    assert shrink(network, torch.rand(2, 1, 5, 5)).layer_sizes == {}


def test_a_layer_that_is_called_twice_stays_whole():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again, self.last = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

        def forward(self, inputs):
            return self.last(self.again(self.again(self.first(inputs)).relu()).mean((2, 3)))

    network = Twice()
    network.again.weight.data[1] = 0
    network.again.bias.data[1] = 0
    images = torch.rand(2, 1, 5, 5)
    assert_same(network, shrink(network, images).network, images)


def test_a_collapsed_network_keeps_one_channel_a_layer():
    network = narrowed("digits_cnn")
    for weight in prunable_weights(network).values():
        weight.data.zero_()
    images = images_for("digits_cnn")
    small = shrink(network, images)
    assert_same(network, small.network, images)
    assert [tuple(weight.shape[:2]) for weight in prunable_weights(small.network).values()][:2] == [(1, 1), (1, 1)]


def test_refusals_are_one_line():
    class Asks(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(4, 2)

        def forward(self, inputs):
            return self.last(inputs.flatten(1)) if inputs.sum() > 0 else self.last(-inputs.flatten(1))

    for call, message in (
        (lambda: shrink(narrowed("resnet20")), "`inputs` must be given, a batch"),
        (
            lambda: shrink(Asks(), torch.rand(2, 1, 2, 2)),
            "`network` cannot be shrunk: its forward is no fixed sequence",
        ),
        (
            lambda: shrink(narrowed("resnet20"), images_for("resnet20"), masks=Masks.whole(build("cnn5"))),
            "`masks` do not fit the network",
        ),
        (lambda: shrink(narrowed("resnet20"), torch.rand(0, 3, 32, 32)), "`inputs` must be a batch"),
        (
            lambda: shrink(narrowed("resnet20"), torch.rand(2, 1, 32, 32)),
            r"`inputs` of shape \(2, 1, 32, 32\) do not fit",
        ),
    ):
        with pytest.raises(InputError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_the_original_stays_and_unnamed_modules_too():
    network = chain(-1.0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    shrink(network, torch.rand(2, 1, 6, 6))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_costs_by_hand():
    """Of 6 x 6 places: 4 outputs of 3 x 9 products; in groups, 4 outputs of 9; then a linear layer, 4 x 2."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    counted = cost(network, torch.rand(5, 3, 6, 6))
    assert counted.flops == 2 * (36 * 4 * 3 * 9 + 36 * 4 * 9 + 4 * 2)
    assert counted.parameters == 4 * 27 + 4 + 4 * 9 + 4 + 4 * 2 + 2
    assert 0 < counted.seconds < 1


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"layer2.0.shortcut": [10**9, 0]}, "the architecture puts \\[8, 8\\] there, never more"),
        ({"layer2.0.shortcut": [-1, 0]}, "give positive numbers"),
        ({"conv1": [0, 3]}, "give positive numbers"),
        ({"conv1": [3]}, "which a Conv2d cannot have"),
        ({"": [3]}, "which a ResNet cannot have"),
        ({"conv9": [3, 3]}, "which is no layer"),
        ({"conv1": None}, "cannot be built"),
        ([1], "cannot be built"),
    ],
)
def test_sizes_of_a_strangers_file_are_checked(tmp_path, sizes, message):
    path = save_classifier(build("resnet20"), tmp_path / "net.pt")
    content = torch.load(path, weights_only=True)
    content["arguments"] = {"layer_sizes": sizes}
    torch.save(content, path)
    with pytest.raises(InputError, match=message):
        build("resnet20", layer_sizes=sizes)
    with pytest.raises(CheckpointError, match="cannot be built") as error:
        load_classifier(path)
    assert "\n" not in str(error.value)
    content["arguments"] = {"layer_sizes": {"conv1": [10**9, 3]}}  # compared before memory is taken
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="parameters do not fit resnet20"):
        load_classifier(path)
