"""The fast form computes what the network computes, wherever batch norm stands, or it is not used."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import weight_norm

from thinice.errors import InputError
from thinice.models import as_classifier, build, find_architecture, known_architectures, load_classifier
from thinice.models.inference import ChannelsLast, _close, fold_batch_norm, inference_form, unclamped

pytestmark = pytest.mark.sampled

SIDES = {"preact_resnet18": 64}  # made for 224 pixels
HUGE = {"wrn_28_10"}
DEEPER = {"resnet32", "resnet44", "resnet56"}  # than resnet20, of the same blocks


def lived_in(module: nn.Module) -> nn.Module:
    """The module in eval mode, with statistics and scales as after training: none is 0 or 1, some scales negative."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, _BatchNorm):
                for values, low, high in (
                    (layer.running_mean, -1.0, 1.0),
                    (layer.running_var, 0.2, 3.0),
                    (layer.weight, -1.0, 1.5),
                    (layer.bias, -0.5, 0.5),
                ):
                    if values is not None:
                        values.uniform_(low, high, generator=generator)
    return module.eval()


def norms_left(module: nn.Module) -> int:
    return sum(isinstance(layer, _BatchNorm) for layer in module.modules())


def agree(module: nn.Module, inputs: torch.Tensor) -> tuple[nn.Module, int]:
    """Fold, and compare with the module in float64: folding may lose no more than float32 does anyway."""
    before = {name: value.clone() for name, value in module.state_dict().items()}
    twin, count = fold_batch_norm(module)
    with torch.no_grad():
        truth = copy.deepcopy(module).double()(inputs.double())
        error = (twin(inputs.clone()) - truth).abs().max() / truth.abs().max()
    assert error < 2e-5
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    return twin, count


def witnessed(name: str) -> object:
    """The name as a parameter, slow where another network has the same layers: fewer blocks, other biases and head."""
    alike = name.startswith("vgg16_bn_") or name in DEEPER
    return pytest.param(name, marks=pytest.mark.slow if alike else ())


@pytest.mark.parametrize("name", [witnessed(name) for name in known_architectures() if name not in HUGE])
def test_every_architecture_has_an_inference_form(name):
    shape = find_architecture(name).input_shape or (3, SIDES.get(name, 32), SIDES.get(name, 32))
    module = lived_in(build(name, 10))
    inputs = torch.rand(2, *shape)
    _, count = agree(module, inputs)
    after_a_layer = norms_left(module)
    if name.startswith(("preact", "wrn", "vgg11")):  # there, some or all batch norms follow something else
        assert count < after_a_layer
    else:
        assert count == after_a_layer
    classifier = as_classifier(module, normalization="half")
    fast = inference_form(classifier, inputs)
    assert isinstance(fast.module, ChannelsLast)
    assert not any(parameter.requires_grad for parameter in fast.module.parameters())
    assert fast.fingerprint == classifier.fingerprint
    with torch.no_grad():
        own = classifier(inputs)
        torch.testing.assert_close(fast(inputs), own, rtol=0, atol=1e-4 * float(own.abs().max()))


def sequence(*layers: nn.Module) -> nn.Module:
    return lived_in(nn.Sequential(*layers))


INPUTS = torch.rand(5, 4, 6, 6, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_strided_padded_convolutions(bias, affine, groups):
    module = sequence(
        nn.Conv2d(4, 8, 3, stride=2, padding=1, dilation=1, groups=groups, bias=bias),
        nn.BatchNorm2d(8, affine=affine),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 4, 2, padding="same", padding_mode="reflect", bias=bias),
        nn.BatchNorm2d(4, affine=affine),
    )
    _, count = agree(module, INPUTS)
    assert count == 2


def test_linear_layers_and_other_dimensions():
    flat = sequence(nn.Flatten(), nn.Linear(144, 7, bias=False), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, 3))
    assert agree(flat, INPUTS)[1] == 1
    row = sequence(nn.Flatten(2), nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6))
    assert agree(row, INPUTS)[1] == 1
    deep = sequence(nn.Unflatten(1, (1, 4)), nn.Conv3d(1, 3, 2), nn.BatchNorm3d(3))
    assert agree(deep, INPUTS)[1] == 1


def test_batch_norm_of_rows_after_a_linear_layer_is_no_scaling_of_its_outputs():
    module = sequence(
        nn.Flatten(2), nn.Linear(36, 4), nn.BatchNorm1d(4), nn.Flatten()
    )  # over dimension 1, not the last
    fast = inference_form(as_classifier(module), INPUTS)
    with torch.no_grad():
        torch.testing.assert_close(fast(INPUTS), module(INPUTS))

    other = sequence(nn.Flatten(2), nn.Linear(36, 7), nn.BatchNorm1d(4), nn.Flatten())
    assert agree(other, INPUTS)[1] == 0


class Shared(nn.Module):
    """One batch norm after two convolutions, and one convolution before two batch norms and a reader of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.norm, self.other = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, inputs):
        maps = self.norm(self.first(inputs)) + self.norm(self.second(inputs))
        maps = functional.relu(maps)
        return (self.norm(self.third(maps)) * self.other(self.third(-maps))).mean((2, 3))


def test_a_batch_norm_of_two_convolutions_and_a_convolution_of_two_batch_norms():
    twin, count = agree(lived_in(Shared()), INPUTS)
    assert count == 4
    assert norms_left(twin) == 0


class Read(nn.Module):
    """The output of the convolution is read by others than the batch norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, inputs):
        maps = self.conv(inputs)
        return (self.norm(maps) + maps).mean((2, 3))


def test_an_output_that_others_read_stays():
    _, count = agree(lived_in(Read()), INPUTS)
    assert count == 0


def test_a_batch_norm_before_a_convolution_stays():
    module = sequence(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten())
    _, count = agree(module, INPUTS)
    assert count == 0


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.register_buffer("mean", torch.rand(4))
        self.register_buffer("variance", torch.rand(4) + 0.5)

    def forward(self, inputs):
        maps = functional.batch_norm(self.conv(inputs), self.mean, self.variance)
        return functional.relu_(maps).flatten(1)


def test_functional_batch_norm_stays():
    _, count = agree(lived_in(Functional()), INPUTS)
    assert count == 0


def test_batch_norm_without_statistics_of_its_own_stays():
    module = sequence(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    assert fold_batch_norm(module)[1] == 0
    module = sequence(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)).train()
    assert fold_batch_norm(module)[1] == 0


@pytest.mark.filterwarnings("ignore::FutureWarning")  # the old weight norm, which networks in the wild still have
def test_a_layer_with_hooks_stays():
    module = as_classifier(sequence(weight_norm(nn.Conv2d(4, 4, 3)), nn.BatchNorm2d(4))).module
    assert agree(module, INPUTS)[1] == 1  # a classifier has plain weights
    probed = sequence(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    probed[0].register_forward_hook(lambda _layer, _inputs, output: output * 2)
    assert agree(probed, INPUTS)[1] == 0


class Dynamic(nn.Module):
    """What it does depends on the values."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Linear(64, 3)

    def forward(self, inputs):
        maps = self.norm(self.conv(inputs))
        if maps.sum() > 1e9:
            maps = -maps
        return self.head(functional.relu(maps).reshape(len(maps), -1))


def test_a_network_that_cannot_be_traced_keeps_its_own_form():
    module = lived_in(Dynamic())
    assert fold_batch_norm(module)[1] == 0
    classifier = as_classifier(module)
    fast = inference_form(classifier, INPUTS)
    assert norms_left(fast.module) == 1
    with torch.no_grad():
        torch.testing.assert_close(fast(INPUTS), classifier(INPUTS))
    assert fast.notes[-1].startswith("searched")


class Viewing(nn.Module):
    """Stands no other memory layout than its own."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Linear(64, 3)

    def forward(self, inputs):
        maps = self.norm(self.conv(inputs))
        return self.head(maps.view(maps.size(0), -1))


def test_a_layout_that_fails_is_not_used():
    fast = inference_form(as_classifier(lived_in(Viewing())), INPUTS)
    assert not isinstance(fast.module, ChannelsLast)
    assert norms_left(fast.module) == 0
    assert fast.notes[-1] == "searched with batch norms folded (1)"


class Straight(torch.autograd.Function):
    """Steps forward, straight through backward."""

    @staticmethod
    def forward(_, values):
        return (values * 4).round() / 4

    @staticmethod
    def backward(_, gradient):
        return gradient


class Stepped(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3)

    def forward(self, inputs):
        return self.norm(self.conv(Straight.apply(inputs))).mean((2, 3))


class Blocked(nn.Module):
    """No gradient goes through half of it, which a trace forgets."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3)

    def forward(self, inputs):
        with torch.no_grad():
            blocked = self.norm(self.conv(inputs)).mean((2, 3))
        return blocked + inputs.mean((2, 3))[:, :3]


class Noisy(nn.Module):
    """A draw that a trace would freeze."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3)

    def forward(self, inputs):
        return self.norm(self.conv(inputs)).mean((2, 3)) + 0.1 * torch.randn(3)


@pytest.mark.parametrize("network", [Stepped, Blocked, Noisy])
def test_what_a_trace_would_change_is_noticed(network):
    classifier = as_classifier(lived_in(network()))
    fast = inference_form(classifier, INPUTS)
    point, twin = INPUTS.clone().requires_grad_(), INPUTS.clone().requires_grad_()
    torch.manual_seed(5)
    classifier(point)[:, 0].sum().backward()
    torch.manual_seed(5)
    fast(twin)[:, 0].sum().backward()
    torch.testing.assert_close(twin.grad, point.grad, rtol=1e-3, atol=1e-6)
    if network is Noisy:
        torch.manual_seed(6)
        assert not torch.equal(fast(INPUTS), fast(INPUTS))


def test_a_constant_network_has_a_form_too():
    class Constant(nn.Module):
        def forward(self, inputs):
            return torch.zeros(len(inputs), 3)

    assert inference_form(as_classifier(Constant()), INPUTS).notes[-1] == "searched in its own form"


def test_a_network_that_writes_into_its_input_leaves_the_callers_alone():
    class Writing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3)

        def forward(self, inputs):
            return self.norm(self.conv(inputs.sub_(0.5))).mean((2, 3))

    fast = inference_form(as_classifier(lived_in(Writing())), INPUTS)
    before = INPUTS.clone()
    fast(INPUTS)
    fast(INPUTS.contiguous(memory_format=torch.channels_last))
    assert torch.equal(INPUTS, before)


# Programs out of files ------------------------------------------------------------------------------------------------


def as_onnx(module, inputs, path):
    """As torch's exporter writes it with batch norms kept; equal statistics are held once, and copied by Identity."""
    pytest.importorskip("onnx2torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates this exporter
        torch.onnx.export(
            module,
            (inputs,),
            path,
            dynamo=False,
            opset_version=17,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            input_names=["in"],
            dynamic_axes={"in": {0: "n"}},
        )
    return path


def norm_steps(module):
    """Batch norms left in a program."""
    traced = [node for layer in module.modules() if isinstance(layer, fx.GraphModule) for node in layer.graph.nodes]
    return sum("batch_norm" in str(node.target).lower() for node in traced) + sum(
        "BatchNorm" in type(layer).__name__ for layer in module.modules()
    )


def same(fast, module, inputs):
    """Logits and gradients of the program's fast form and of the network, against float64."""
    exact = copy.deepcopy(module).double()
    for part in (inputs, inputs[:1], torch.cat([inputs] * 3)):
        point, twin = part.clone().requires_grad_(), part.double().requires_grad_()
        logits, truth = fast(point), exact(twin)
        assert (logits - truth).abs().max() <= 2e-5 * truth.abs().max()
        (gradient,) = torch.autograd.grad(logits[:, 0].sum() - logits[:, 1].sum(), point)
        (expected,) = torch.autograd.grad(truth[:, 0].sum() - truth[:, 1].sum(), twin)
        off = (gradient - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
        assert off.median() < 1e-4  # one unit at its kink changes one sample's gradient


@pytest.mark.parametrize("name", ["resnet20", "digits_cnn"])
def test_programs_are_folded_as_the_network_itself(name, tmp_path):
    module = lived_in(build(name))
    inputs = torch.rand(4, *(find_architecture(name).input_shape or (3, 32, 32)))
    classifier = load_classifier(as_onnx(module, inputs, tmp_path / "net.onnx"), normalization="none")
    before = {place: value.clone() for place, value in classifier.module.state_dict().items()}
    wanted = fold_batch_norm(module)[1]
    assert norm_steps(classifier.module) >= wanted > 0
    fast = inference_form(classifier, inputs)
    assert norm_steps(fast.module) == 0
    assert fast.notes[-1] == f"searched with batch norms folded ({wanted}), channels last"
    assert fast.fingerprint == classifier.fingerprint
    same(fast, module, inputs)
    for place, value in classifier.module.state_dict().items():
        assert torch.equal(value, before[place]), place
    kernels = [value for value in fast.module.parameters() if value.ndim == 4 and min(value.shape[1:]) > 1]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


class Pairs(nn.Module):
    """Layers that can be folded, of other kinds."""

    def __init__(self):
        super().__init__()
        self.grouped, self.one = nn.Conv2d(4, 8, 3, stride=2, groups=2), nn.BatchNorm2d(8, affine=False)
        self.padded, self.two = nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6, eps=0.1)
        self.linear, self.three = nn.Linear(24, 5), nn.BatchNorm1d(5)

    def forward(self, inputs):
        maps = functional.relu(self.one(self.grouped(inputs)))
        return self.three(self.linear(functional.relu(self.two(self.padded(maps))).flatten(1)))


def test_layers_of_other_kinds_are_folded_in_programs(tmp_path):
    module = lived_in(Pairs())
    classifier = load_classifier(as_onnx(module, INPUTS, tmp_path / "net.onnx"), normalization="none")
    fast = inference_form(classifier, INPUTS)
    assert "batch norms folded (3)" in fast.notes[-1]
    same(fast, module, INPUTS)


class Deconvolved(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.ConvTranspose2d(4, 4, 3), nn.BatchNorm2d(4)

    def forward(self, inputs):
        return self.norm(self.conv(inputs)).mean((2, 3))


@pytest.mark.parametrize("network", [Read, Deconvolved])
def test_what_cannot_be_folded_in_an_onnx_file_stays(network, tmp_path):
    module = lived_in(network())
    classifier = load_classifier(as_onnx(module, INPUTS, tmp_path / "net.onnx"), normalization="none")
    assert fold_batch_norm(classifier.module)[1] == 0
    fast = inference_form(classifier, INPUTS)
    assert norm_steps(fast.module) == norm_steps(classifier.module) > 0
    assert "folded" not in fast.notes[-1]
    same(fast, module, INPUTS)


def test_a_program_among_other_layers_is_folded(tmp_path):
    module = sequence(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    held = load_classifier(as_onnx(module, INPUTS, tmp_path / "net.onnx"), normalization="none").network
    classifier = as_classifier(nn.Sequential(held, nn.Linear(64, 3)), normalization="half")
    fast = inference_form(classifier, INPUTS)
    assert fast.notes[-1] == "searched with batch norms folded (1), channels last"
    with torch.no_grad():
        torch.testing.assert_close(fast(INPUTS), classifier(INPUTS), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_programs_can_be_compiled(monkeypatch, tmp_path):
    """As far as torch's tracer: its own compiler for C++ is another matter."""
    module = sequence(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    classifier = load_classifier(as_onnx(module, INPUTS, tmp_path / "net.onnx"), normalization="none")
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, **options: compile_(network, backend="aot_eager", **options))
    fast = inference_form(classifier, INPUTS, compiled=True)
    assert fast.notes[-1] == "searched with batch norms folded (1), channels last, compiled"
    same(fast, module, INPUTS)


def test_what_cannot_be_compiled_is_an_error(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no compiler here\nand a long story")

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(InputError, match=r"`compiled`: torch\.compile fails on 'net': no compiler here; leave it out"):
        inference_form(as_classifier(build("digits_cnn"), name="net"), torch.rand(2, 1, 8, 8), compiled=True)


@pytest.mark.parametrize(
    ("logits", "same"),
    [
        ([[1.0, 2.0, 2.0001]], True),
        ([[1.0001, 2.0, 2.0002]], True),
        ([[1.0, 2.0, 2.001]], False),  # more than rounding
        ([[1.0, 2.0001, 2.0]], False),  # as near, but another class
        ([[1.0, 2.0, torch.nan]], False),
        ([[1.0, 2.0]], False),
    ],
)
def test_how_close_logits_have_to_be(logits, same):
    assert _close(torch.tensor(logits), torch.tensor([[1.0, 2.0, 2.0001]])) == same


# clamps of the inputs -------------------------------------------------------------------------------------------------


class First(nn.Module):
    """A function of the inputs, and a small network after it."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.rest = sequence(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Hardtanh(0, 1), nn.Flatten(), nn.Linear(64, 3))
        self.register_buffer("limit", torch.ones(1))
        self.register_buffer("limits", torch.tensor([1.0, 0.5, 1.0, 1.0]).view(1, 4, 1, 1))

    def forward(self, inputs):
        return self.rest(self.function(self, inputs))


DROPPED = {
    "clamp": (1, lambda _, x: x.clamp(0, 1)),
    "one side, by name": (1, lambda _, x: x.clamp(max=1.5)),
    "clip": (1, lambda _, x: torch.clip(x, 0.0, max=1.0)),
    "twice": (2, lambda _, x: functional.hardtanh(x.clamp_min(0), max_val=1)),
    "relu": (2, lambda _, x: functional.relu6(torch.relu(x))),
    "tensors": (2, lambda self, x: torch.minimum(torch.maximum(x, torch.zeros_like(x)), self.limit)),
    "the larger of two": (2, lambda self, x: torch.min(torch.max(x, torch.tensor(0.0)), self.limit)),
    "rearranged": (1, lambda _, x: x.flatten(1).clamp(0, 1).reshape(x.shape)),
    "a function of torch": (1, lambda _, x: functional.hardtanh(x, 0.0, 1.0)),
    "in place afterwards": (1, lambda _, x: x.clamp(0, 1).mul_(2) + x),
}
LEFT = {
    "cuts": lambda _, x: x.clamp(0, 0.99),
    "cuts below": lambda _, x: x.clamp_min(0.01),
    "one channel": lambda self, x: torch.minimum(x, self.limits),
    "not first": lambda _, x: (x - 0.5).clamp(0, 1),
    "in place": lambda _, x: x.clamp_(0, 1),
    "changed in place before": lambda _, x: (x.sub_(0.5), x.clamp(0, 1))[1],
    "the largest of all": lambda _, x: x + x.max(0).values,
    "other values": lambda _, x: torch.maximum(x, x.flip(1)),
    "values of the network": lambda _, x: x.clamp(max=x.amax() + 1),
}


@pytest.mark.parametrize(("count", "function"), DROPPED.values(), ids=DROPPED)
def test_clamps_that_change_nothing_in_the_box_are_left_out(count, function):
    module = First(function).eval()
    ends = INPUTS.round()  # where torch's clamps have no gradient
    bare, dropped = unclamped(module)
    assert dropped == count
    with torch.no_grad():
        for inputs in (INPUTS, ends):
            assert torch.equal(bare(inputs.clone()), module(inputs.clone()))
    fast = inference_form(as_classifier(module), INPUTS)
    assert fast.notes[-1] == (
        f"searched with clamps of the inputs dropped ({count}), batch norms folded (1), channels last"
    )
    inside = INPUTS.clamp(0.01, 0.99).requires_grad_()
    (expected,) = torch.autograd.grad(module(inside.clone())[:, 0].sum(), inside)
    (gradient,) = torch.autograd.grad(fast(inside)[:, 0].sum(), inside)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("function", LEFT.values(), ids=LEFT)
def test_clamps_that_do_something_stay(function):
    module = First(function).eval()
    assert unclamped(module) == (module, 0)
    assert "dropped" not in inference_form(as_classifier(module), INPUTS).notes[-1]


def test_layers_that_clamp_are_left_out_unless_something_else_has_a_say():
    for layer, count in ((nn.Hardtanh(0, 1), 1), (nn.ReLU(), 1), (nn.ReLU6(), 1), (nn.Hardtanh(0, 0.9), 0)):
        module = nn.Sequential(nn.Identity(), layer, nn.Flatten(), nn.Linear(144, 3))
        assert unclamped(module)[1] == count
    hooked = nn.Hardtanh(0, 1)
    hooked.register_forward_hook(lambda _layer, _inputs, output: 2 * output)
    module = nn.Sequential(hooked, nn.Flatten(), nn.Linear(144, 3))
    assert unclamped(module) == (module, 0)


def test_programs_lose_their_clamps_too(tmp_path):
    count, function = DROPPED["a function of torch"]
    module = First(function).eval()
    path = as_onnx(module, INPUTS, tmp_path / "net.onnx")
    classifier = load_classifier(path, normalization="none")
    fast = inference_form(classifier, INPUTS)
    assert f"clamps of the inputs dropped ({count})" in fast.notes[-1]
    point = INPUTS.round().requires_grad_()
    (gradient,) = torch.autograd.grad(fast(point)[:, 0].sum(), point)
    inside = INPUTS.round().clamp(1e-6, 1 - 1e-6).requires_grad_()
    (expected,) = torch.autograd.grad(module(inside.clone())[:, 0].sum(), inside)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)
