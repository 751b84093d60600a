"""Graphs of networks: the same function, roundings that enclose float32, and refusals by name."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from thinice.certification.crown import Relaxation
from thinice.certification.graph import read_graph
from thinice.errors import InputError
from thinice.models import as_classifier, build, load_classifier

pytestmark = pytest.mark.sampled

SHAPE = (3, 8, 8)


class Step(nn.Module):
    """A network with one step between two linear layers."""

    def __init__(self, step):
        super().__init__()
        self.conv, self.linear, self.step = nn.Conv2d(3, 4, 3, padding=1), nn.LazyLinear(5), step
        self(torch.rand(2, *SHAPE))

    def forward(self, inputs):
        return self.linear(self.step(self.conv(inputs)).flatten(1))


def trained_batch_norm():
    layer = nn.BatchNorm2d(4)
    layer.weight.data = torch.tensor([-1.0, 0.5, 2.0, 0.0])
    layer.bias.data.uniform_(-1, 1)
    layer.running_mean.uniform_(-1, 1)
    layer.running_var.uniform_(0.1, 2)
    return layer.eval()


def in_place(maps):
    maps = maps * 1.0
    maps.add_(0.25).mul_(-2.0)
    return maps.relu_()


MAPS = torch.rand(4, 1, 1)
AFFINE = {
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "in place": in_place,
    "batch norm": trained_batch_norm(),
    "residual": lambda maps: maps + functional.relu(maps),
    "difference": lambda maps: maps - functional.relu(maps) / 3,
    "constants": lambda maps: 2 - (3 * maps - 1) / 2 + MAPS,
    "negated": lambda maps: -maps,
    "average pool": nn.AvgPool2d(3, stride=2, padding=1),
    "global average": nn.AdaptiveAvgPool2d(1),
    "adaptive average": nn.AdaptiveAvgPool2d(3),
    "mean": lambda maps: maps.mean((2, 3)),
    "sum": lambda maps: maps.sum(1),
    "max pool": nn.MaxPool2d(2),
    "max pool that overlaps": nn.MaxPool2d(3, stride=2, padding=1),
    "max pool with holes": nn.MaxPool2d((2, 3), stride=1, dilation=2),
    "padded shortcut": lambda maps: functional.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)),
    "padded with a number": lambda maps: functional.pad(maps, (1, 0, 0, 2), value=-0.5),
    "permuted": lambda maps: maps.permute(0, 2, 3, 1).transpose(1, 2),
    "matrix": lambda maps: maps.flatten(1) @ torch.linspace(-1, 1, 512).view(256, 2),
    "grouped convolution": nn.Conv2d(4, 6, 3, stride=2, dilation=2, groups=2),
    "same convolution": nn.Conv2d(4, 4, 3, padding="same"),
    "dropout": nn.Dropout(),
    "weights that are computed": lambda maps: functional.linear(maps, torch.eye(8) * 0.5),
}


@pytest.mark.parametrize("name", AFFINE)
def test_a_graph_computes_what_the_network_does_and_encloses_its_rounding(name):
    classifier = as_classifier(Step(AFFINE[name]), normalization="cifar10")
    graph = read_graph(classifier, SHAPE)
    inputs = torch.rand(5, *SHAPE)
    torch.testing.assert_close(graph.logits(inputs).float(), classifier(inputs), atol=1e-5, rtol=1e-5)
    point = Relaxation(graph, inputs.double(), torch.zeros(5, dtype=torch.float64), "linf")
    assert ((point.lower[-1] <= classifier(inputs)) & (classifier(inputs) <= point.upper[-1])).all()
    assert (point.upper[-1] - point.lower[-1]).max() < 1e-2
    rows, owners = torch.eye(5, dtype=torch.float64).repeat(5, 1), torch.arange(5).repeat_interleave(5)
    lower = point.bound(len(graph.operations) - 1, rows, owners).view(5, 5)
    charged = graph.logits(inputs) - lower
    assert (charged > point.error[-1]).all()  # and what the operations before it have rounded
    assert charged.max() < 1e-2


@pytest.mark.parametrize("name", AFFINE)
def test_the_sizes_that_rounding_is_a_share_of_are_those_of_the_results_at_least(name):
    graph = read_graph(as_classifier(Step(AFFINE[name]), normalization="cifar10"), SHAPE)
    for operation in graph.operations[1:]:
        values = [torch.randn(20, *graph.operations[source].shape).double() for source in operation.sources]
        sizes = operation.apply_absolute(*[value.abs() for value in values])
        assert (operation.apply(*values).abs() <= sizes * (1 + 1e-12)).all()


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_linear_bounds_enclose_the_logits_over_the_ball(name, norm):
    classifier = as_classifier(Step(AFFINE[name]), normalization="cifar10")
    graph = read_graph(classifier, SHAPE)
    inputs = torch.rand(2, *SHAPE, dtype=torch.float64)
    radius = {"linf": 0.1, "l2": 1.0, "l1": 8.0}[norm]
    relaxation = Relaxation(graph, inputs, torch.full((2,), radius, dtype=torch.float64), norm)
    rows, owners = torch.eye(5, dtype=torch.float64).repeat(2, 1), torch.arange(2).repeat_interleave(5)
    lower = relaxation.bound(len(graph.operations) - 1, rows, owners).view(2, 5)
    upper = -relaxation.bound(len(graph.operations) - 1, -rows, owners).view(2, 5)
    for _ in range(50):
        delta = torch.randn(2, *SHAPE, dtype=torch.float64).sign()
        if norm == "l2":
            delta *= radius / delta.flatten(1).norm(dim=1).view(2, 1, 1, 1)
        elif norm == "l1":
            delta *= torch.rand(2, *SHAPE) < 8 / 192
            delta *= radius / delta.flatten(1).abs().sum(1).clamp(min=radius).view(2, 1, 1, 1)
        else:
            delta *= radius
        logits = graph.logits((inputs + delta).clamp(0, 1))
        assert (lower <= logits).all()
        assert (logits <= upper).all()


REFUSED = {
    "softmax": nn.Softmax(1),
    "sigmoid": nn.Sigmoid(),
    "tanh": torch.tanh,
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "clamp": lambda maps: maps.clamp(0, 1),
    "hardtanh": nn.ReLU6(),
    "leaky_relu": nn.LeakyReLU(),
    "abs": torch.abs,
    "mul": lambda maps: maps * maps,
    "reciprocal": lambda maps: 1 / maps,
    "div": lambda maps: maps / (1 + maps.relu()),
    "matmul": lambda maps: maps @ maps.transpose(2, 3),
    "instance_norm": nn.InstanceNorm2d(4),
    "cat": lambda maps: torch.cat([maps, maps], 1),
    "max_pool2d": nn.MaxPool2d(3, ceil_mode=True),
    "max": lambda maps: maps.max(1).values,
    "add": lambda maps: torch.add(maps, maps.relu(), alpha=2),
    "rand_like": lambda maps: maps + 0 * torch.rand_like(maps),
    "to": lambda maps: maps.half().float(),
    "dropout": lambda maps: functional.dropout(maps, training=True),
    "batch_norm": lambda maps: functional.batch_norm(maps, None, None, training=True),
}


@pytest.mark.parametrize("name", REFUSED)
def test_any_other_operation_is_refused_by_name(name):
    classifier = as_classifier(Step(REFUSED[name]), name="net")
    with pytest.raises(
        InputError, match=rf"`classifier` 'net' uses {name}, which .*: lower bounds are for networks of"
    ):
        read_graph(classifier, SHAPE)


def clamped_channel(maps):
    maps[:, 0].clamp_(max=100)
    return maps


def clamped_part(maps):
    maps.chunk(2, 1)[0].clamp_(max=100)
    return maps


def assigned(maps):
    maps[:, 0] = maps[:, 0].clamp(max=100)
    return maps


def other_name(maps):
    other = maps.view(len(maps), -1)
    maps.relu_()
    return other


def detached(maps):
    maps.detach().clamp_(max=100)
    return maps


def several(maps):
    torch._foreach_clamp_max_([maps], 100)
    return maps


def into_a_constant(maps):
    squares = torch.zeros(())
    squares.copy_(1e-4 * maps[0, 0, 0, 0] ** 2)
    return maps + squares


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (clamped_channel, "clamp"), (clamped_part, "clamp"), (assigned, "copy"), (other_name, "relu"),
        (detached, "clamp"), (several, "_foreach_clamp_max"), (into_a_constant, "copy"),
    ],
)  # fmt: skip
def test_what_works_in_place_on_memory_with_another_name_is_refused(step, name):
    """The record would have the old values under the other name; on the inputs that are tried both may be equal."""
    with torch.no_grad():
        network = Step(step)
    with pytest.raises(InputError, match=f"uses {name}, which works in place on "):
        read_graph(as_classifier(network), SHAPE)


def in_place_as_networks_do(maps):
    shortcut = maps.relu_()
    maps = maps * 2
    maps += shortcut
    return maps.flatten(1).relu_()


@pytest.mark.parametrize("step", [in_place_as_networks_do, nn.Dropout2d().eval(), nn.AvgPool2d(2, divisor_override=-3)])
def test_what_is_in_no_way_dangerous_stays(step):
    with torch.no_grad():
        classifier = as_classifier(Step(step))
    graph, inputs = read_graph(classifier, SHAPE), torch.rand(5, *SHAPE)
    torch.testing.assert_close(graph.logits(inputs).float(), classifier(inputs), atol=1e-5, rtol=1e-5)
    relaxation = Relaxation(graph, inputs.double(), torch.full((5,), 0.1, dtype=torch.float64), "linf")
    for _ in range(20):
        logits = graph.logits((inputs + 0.2 * torch.rand(inputs.shape) - 0.1).clamp(0, 1))
        assert ((relaxation.lower[-1] <= logits) & (logits <= relaxation.upper[-1])).all()


@pytest.mark.parametrize(
    "step",
    [
        lambda maps: maps + 1e-6 * float(np.from_dlpack(maps.detach()).sum()),
        lambda maps: maps + 1e-6 * float(f"{maps.sum():.3f}") if maps.shape[0] == 2 else maps,
    ],
    ids=["dlpack", "text"],
)
def test_a_number_that_left_torch_is_no_constant(step):
    with torch.no_grad():
        network = Step(step)
    with pytest.raises(InputError, match=r"runs something else on other inputs|cannot be recorded"):
        read_graph(as_classifier(network), SHAPE)


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (lambda maps: maps[:1000], "uses slice, which takes some samples of a batch"),
        (
            lambda maps: functional.linear(maps, torch.eye(8).to_sparse()),
            "in the layout torch.sparse_coo: make it dense",
        ),
        (
            lambda maps: functional.batch_norm(maps, torch.zeros(4), torch.full((4,), -9e-6)),
            "uses batch_norm, which has a negative variance",
        ),
    ],
    ids=["some samples", "sparse", "negative variance"],
)
def test_what_only_looks_like_a_known_operation_is_refused(step, why):
    with torch.no_grad():
        network = Step(step)
    with pytest.raises(InputError, match=why):
        read_graph(as_classifier(network), SHAPE)


class Chosen(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(192, 2)

    def forward(self, inputs):
        return self.linear(inputs.flatten(1) if inputs.mean() > 0.4 else -inputs.flatten(1))


class Outside(Chosen):
    def forward(self, inputs):
        return self.linear(torch.from_numpy(inputs.detach().numpy() ** 2).flatten(1)) + inputs.mean((1, 2, 3))[:, None]


class Listed(Chosen):
    def forward(self, inputs):
        return self.linear(torch.tensor(inputs.flatten(1).tolist()) + inputs.flatten(1))


class Counted(Chosen):
    def forward(self, inputs):
        bright = (inputs > 0.9).nonzero().shape[0] > 40
        return self.linear(inputs.flatten(1) if bright else -inputs.flatten(1))


class Selected(Chosen):
    def forward(self, inputs):
        return self.linear(inputs.flatten(1)) * (1 + 1e-4 * len(inputs[inputs > 0.9]))


class Random(Chosen):
    def forward(self, inputs):
        return self.linear(inputs.flatten(1)) + 1e-3 * torch.rand(2)


class Shared(Chosen):
    def forward(self, inputs):
        flat = inputs.flatten(1)
        return self.linear(flat - flat.mean(0, keepdim=True))


class Constant(Chosen):
    def forward(self, inputs):
        return self.linear(torch.ones(len(inputs), 192))


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (Chosen(), "cannot be recorded for lower bounds"),
        (Outside(), "cannot be recorded for lower bounds .what depends on its inputs leaves torch"),
        (Listed(), "cannot be recorded for lower bounds .what depends on its inputs leaves torch"),
        (Counted(), "uses nonzero, whose shape depends on its inputs"),
        (Selected(), "uses index, whose shape depends on its inputs"),
        (Random(), "or chance"),
        (Shared(), "computes something else|into the shape"),
        (Constant(), "returns no logits"),
        (nn.Conv2d(3, 2, 3), "returns no logits"),
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), "cannot be recorded for lower bounds .mat1 and mat2"),
    ],
    ids=["chosen", "outside", "listed", "counted", "selected", "random", "shared", "constant", "maps", "misfit"],
)
def test_what_cannot_be_recorded_is_refused_with_a_reason(network, why):
    with pytest.raises(InputError, match=why):
        read_graph(as_classifier(network), SHAPE)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(value):
    network = Step(nn.ReLU())
    network.linear.weight.data[1, 2] = value
    with pytest.raises(InputError, match="not finite"):
        read_graph(as_classifier(network), SHAPE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits_cnn", "cnn5", "resnet20", "preact_resnet8", "vgg11", "wrn_28_4"])
def test_own_architectures_can_be_read(name):
    classifier = as_classifier(build(name))
    graph = read_graph(classifier, classifier.input_shape or (3, 32, 32))
    assert graph.operations[-1].shape == (10,)


def test_the_graph_of_an_onnx_file_is_that_of_its_network(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnx2torch")
    helper, weight = onnx.helper, torch.linspace(-1, 1, 8 * 12).view(12, 8).numpy()
    tensors = [
        onnx.numpy_helper.from_array(value, name)
        for name, value in {"weight": weight, "last": weight[:3, :2].copy(), "one": weight[0, :1].copy()}.items()
    ]
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "weight"], ["hidden"], "gemm"),
        helper.make_node("Relu", ["hidden"], ["active"], "relu"),
        helper.make_node("Sub", ["active", "one"], ["less"], "sub"),
        helper.make_node("Add", ["less", "hidden"], ["sum"], "add"),
        helper.make_node("Reshape", ["sum", "sizes"], ["parts"], "reshape"),
        helper.make_node("ReduceMean", ["parts"], ["logits"], "mean", axes=[2], keepdims=0),
    ]
    sizes = onnx.numpy_helper.from_array(torch.tensor([-1, 4, 2]).numpy(), "sizes")
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", ["N", 3, 2, 2]), ("logits", ["N", 4]))
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [*tensors, sizes])
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    classifier = load_classifier(path)
    read = read_graph(classifier, (3, 2, 2))
    assert [operation.name for operation in read.operations] == [
        "input", "flatten", "linear", "relu", "sub", "add", "reshape", "mean", "flatten"
    ]  # fmt: skip
    inputs = torch.rand(4, 3, 2, 2)
    torch.testing.assert_close(read.logits(inputs).float(), classifier(inputs))
