"""Whole programs, ONNX: the same logits and gradients as the network, at any batch size."""

import pickle
import resource
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import reference
from thinice.data.samples import MOST_CLASSES
from thinice.errors import CheckpointError, InputError, MissingExtraError
from thinice.models import (
    bounded_trial,
    build,
    load_classifier,
    onnx_models,
    prunable_weights,
    save_classifier,
    sparsity,
)
from thinice.models.architectures import find_architecture
from thinice.models.onnx_models import Program


def trained(module, shape=(1, 8, 8)):
    for _ in range(3):
        module.train()(torch.rand(16, *shape))
    return module.eval()


def network(classes=4):
    return trained(
        nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(144, classes)
        )
    )


def export(module, path, shape=(1, 8, 8), *, batch=2, dynamic=True, opset=17):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates this exporter, but its files are everywhere
        torch.onnx.export(
            module,
            (torch.zeros(batch, *shape),),
            path,
            dynamo=False,
            opset_version=opset,
            input_names=["in"],
            dynamic_axes={"in": {0: "n"}} if dynamic else None,
        )
    return path


def compare(classifier, module, shape=(1, 8, 8), counts=(1, 2, 3, 7)):
    for count in counts:
        inputs = torch.rand(count, *shape, requires_grad=True)
        ours, theirs = classifier(inputs), module(inputs)
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
        for one, other in zip(*(torch.autograd.grad(logits.sum(), inputs) for logits in (ours, theirs)), strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


# Programs of any kind -------------------------------------------------------------------------------------------------


def test_samples_take_the_declared_shape():
    flat = Program(nn.Flatten(), (784, 1))
    assert flat(torch.rand(3, 1, 28, 28)).shape == (3, 784)
    with pytest.raises(InputError, match=r"`inputs` of shape \(1, 8, 8\) do not fit a program that takes \(784, 1\)"):
        flat(torch.rand(3, 1, 8, 8))
    last = Program(nn.Identity(), (6, 5, 3))
    inputs = torch.rand(2, 3, 6, 5)
    assert torch.equal(last(inputs), inputs.permute(0, 2, 3, 1).flatten(1))
    assert last.sample_shape == (3, 6, 5)
    first = Program(nn.Identity(), (3, 6, 5))
    assert torch.equal(first(inputs), inputs.flatten(1))
    any_size = Program(nn.Identity(), (3, None, None))
    assert torch.equal(any_size(inputs), inputs.flatten(1))
    assert any_size.sample_shape is None
    with pytest.raises(InputError, match="do not fit a program that takes"):
        any_size(torch.rand(2, 1, 6, 5))


def test_programs_keep_their_mode():
    program = Program(nn.Dropout().eval(), (4,))
    program.train()
    assert not program.graph.training


# ONNX -----------------------------------------------------------------------------------------------------------------

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx2torch")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the skip
from onnx.reference import ReferenceEvaluator  # noqa: E402 - the same

pytestmark = pytest.mark.sampled


def value(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def program(path, steps, constants, shape, *, outputs=("out",), opset=13, classes=4, extra_inputs=(), domains=()):
    tensors = [numpy_helper.from_array(np.asarray(one), name) for name, one in constants.items()]
    graph = helper.make_graph(
        [helper.make_node(*step[:3], **(step[3] if len(step) > 3 else {})) for step in steps],
        "net",
        [value("in", shape), *extra_inputs],
        [value(name, [shape[0], classes]) for name in outputs],
        tensors,
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, path)
    return path


def convolutional():
    random = np.random.default_rng(0)
    kernel, weight = (random.normal(size=size).astype(np.float32) for size in ((2, 1, 3, 3), (4, 72)))
    weight[:, ::3] = 0
    steps = [
        ("Conv", ["in", "kernel"], ["maps"]),
        ("Relu", ["maps"], ["active"]),
        ("Flatten", ["active"], ["flat"]),
        ("Gemm", ["flat", "weight", "bias"], ["out"], {"transB": 1}),
    ]
    return steps, {"kernel": kernel, "weight": weight, "bias": np.ones(4, np.float32)}


def evaluated(path, inputs):
    """onnx's own reference implementation, one sample at a time."""
    session = ReferenceEvaluator(str(path))
    return np.concatenate([session.run(None, {"in": one[None]})[0] for one in inputs.numpy()])


@pytest.mark.parametrize("batch", ["n", 1, 0])
def test_onnx_computes_the_same(batch, tmp_path):
    path = program(tmp_path / "net.onnx", *convolutional(), [batch, 1, 8, 8])
    classifier = load_classifier(path)
    inputs = torch.rand(5, 1, 8, 8)
    np.testing.assert_allclose(classifier(inputs).numpy(), evaluated(path, inputs), atol=1e-4)
    assert (classifier.architecture, classifier.classes, classifier.input_shape) == ("onnx", 4, (1, 8, 8))
    assert classifier.sparsity == (4 * 24) / (18 + 288)
    assert not any("batches" in note for note in classifier.notes)
    inputs.requires_grad_(requires_grad=True)
    assert torch.autograd.grad(classifier(inputs).sum(), inputs)[0].abs().sum() > 0


def test_onnx_batch_norm_uses_the_stored_statistics(tmp_path):
    random = np.random.default_rng(0)
    statistics = {name: random.uniform(0.5, 2, 1).astype(np.float32) for name in ("scale", "shift", "mean", "variance")}
    weight = random.normal(size=(64, 4)).astype(np.float32)
    steps = [
        ("BatchNormalization", ["in", *statistics], ["maps"]),
        ("Flatten", ["maps"], ["flat"]),
        ("MatMul", ["flat", "weight"], ["out"]),
    ]
    path = program(tmp_path / "net.onnx", steps, statistics | {"weight": weight}, ["n", 1, 8, 8])
    inputs = torch.rand(5, 1, 8, 8)
    scale, shift, mean, variance = statistics.values()
    maps = (inputs.numpy() - mean) / np.sqrt(variance + 1e-5) * scale + shift
    np.testing.assert_allclose(load_classifier(path)(inputs).numpy(), maps.reshape(5, 64) @ weight, atol=1e-4)


@pytest.mark.parametrize("opset", [18, 20])
def test_newer_operator_sets_are_translated(opset, tmp_path):
    """ReduceMean takes its axes as an input from 18 on, which onnx2torch does not know."""
    kernel = np.random.default_rng(0).normal(size=(4, 1, 3, 3)).astype(np.float32)
    steps = [("Conv", ["in", "kernel"], ["maps"]), ("ReduceMean", ["maps", "axes"], ["out"], {"keepdims": 0})]
    constants = {"kernel": kernel, "axes": np.array([2, 3], np.int64)}
    path = program(tmp_path / "net.onnx", steps, constants, [1, 1, 8, 8], opset=opset)
    classifier = load_classifier(path)
    inputs = torch.rand(3, 1, 8, 8)
    np.testing.assert_allclose(classifier(inputs).numpy(), evaluated(path, inputs), atol=1e-5)
    assert f"ONNX operator set {opset} translated to 17" in classifier.notes


@pytest.mark.parametrize("zeros", [None, 0, 1])
def test_what_torchs_newer_exporter_writes_is_understood(zeros, tmp_path):
    """Reshapes that say what a zero means, though there is none; and Pad, which could be told axes."""
    weight = np.random.default_rng(0).normal(size=(192, 4)).astype(np.float32)
    steps = [
        ("Pad", ["in", "pads"], ["wide"], {"mode": "constant"}),
        ("Reshape", ["wide", "shape"], ["flat"], {} if zeros is None else {"allowzero": zeros}),
        ("MatMul", ["flat", "weight"], ["out"]),
    ]
    constants = {"weight": weight, "pads": np.array([0, 1, 0, 0, 0, 1, 0, 0]), "shape": np.array([1, 192])}
    path = program(tmp_path / "net.onnx", steps, constants, [1, 1, 8, 8], opset=20)
    classifier = load_classifier(path)
    inputs = torch.rand(3, 1, 8, 8)
    np.testing.assert_allclose(classifier(inputs).numpy(), evaluated(path, inputs), atol=1e-5)
    assert classifier.notes[:2] == (
        "ONNX operator set 20 translated to 17",
        "reshapes to batches of 1 made to take any; a trial gave the same",
    )


def test_axes_and_zeros_that_are_used_are_refused(tmp_path):
    steps = [("Pad", ["in", "pads", "", "axes"], ["wide"]), ("Flatten", ["wide"], ["out"])]
    constants = {"pads": np.array([1, 1]), "axes": np.array([1])}
    path = program(tmp_path / "net.onnx", steps, constants, ["n", 1, 8, 8], opset=20, classes=192)
    with pytest.raises(CheckpointError, match=r"cannot be translated from operator set 20 to 17 \(.*Pad\)"):
        load_classifier(path)
    steps = [("Reshape", ["in", "shape"], ["maps"], {"allowzero": 1}), ("Flatten", ["maps"], ["out"])]
    path = program(tmp_path / "net.onnx", steps, {"shape": np.array([0, 64])}, ["n", 1, 8, 8], opset=14, classes=64)
    with pytest.raises(CheckpointError, match=r'cannot be converted \("allowzero=1" is not implemented\)'):
        load_classifier(path)


@pytest.mark.parametrize("content", [b"", b"12345678", b"123456789abcdef0123456789"])
def test_shapes_of_another_length_are_refused(content, tmp_path):
    weight = np.ones((64, 4), np.float32)
    steps = [("Reshape", ["in", "shape"], ["flat"]), ("MatMul", ["flat", "weight"], ["out"])]
    path = program(tmp_path / "net.onnx", steps, {"shape": np.array([1, 64]), "weight": weight}, [1, 1, 8, 8])
    model = onnx.load(path)
    model.graph.initializer[0].raw_data = content
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match=r"net\.onnx: ") as caught:
        load_classifier(path)
    assert "\n" not in str(caught.value)


def test_matrix_products_are_prunable(tmp_path):
    weight = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    weight[:48] = 0
    steps = [("Flatten", ["in"], ["flat"]), ("MatMul", ["flat", "weight"], ["out"])]
    path = program(tmp_path / "net.onnx", steps, {"weight": weight}, ["n", 1, 8, 8])
    classifier = load_classifier(path)
    inputs = torch.rand(3, 1, 8, 8)
    np.testing.assert_allclose(classifier(inputs).numpy(), evaluated(path, inputs), atol=1e-5)
    assert classifier.sparsity == 0.75


@pytest.mark.parametrize("batch", [1, 2])
def test_onnx_bound_to_a_batch_size_takes_any(batch, tmp_path):
    weight = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    steps = [
        ("Reshape", ["in", "all"], ["row"]),
        ("Reshape", ["row", "shape"], ["flat"]),
        ("MatMul", ["flat", "weight"], ["out"]),
    ]
    constants = {"weight": weight, "all": np.array([batch * 64]), "shape": np.array([batch, 64])}
    classifier = load_classifier(program(tmp_path / "net.onnx", steps, constants, [batch, 1, 8, 8]))
    inputs = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(classifier(inputs), inputs.flatten(1) @ torch.tensor(weight))
    assert any(f"works on batches of {batch} alone" in note for note in classifier.notes)


@pytest.mark.parametrize("shape", [(1, 64), (2, 64), (1, -1), (2, -1), (2, 0, 8, 8)])
@pytest.mark.parametrize("constant", [True, False])
def test_onnx_whose_batch_size_stands_in_reshapes_alone_takes_any(shape, constant, tmp_path):
    weight = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    weight[:32] = 0
    sizes = np.array(shape)
    held = [("Constant", [], ["shape"], {"value": numpy_helper.from_array(sizes)})] if constant else []
    steps = [
        *held,
        ("Reshape", ["in", "shape"], ["maps"]),
        ("Flatten", ["maps"], ["flat"]),
        ("MatMul", ["flat", "weight"], ["out"]),
    ]
    constants = {"weight": weight} | ({} if constant else {"shape": sizes})
    classifier = load_classifier(program(tmp_path / "net.onnx", steps, constants, [shape[0], 1, 8, 8]))
    inputs = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(classifier(inputs), inputs.flatten(1) @ torch.tensor(weight))
    assert any(f"reshapes to batches of {shape[0]} made to take any" in note for note in classifier.notes)
    assert classifier.sparsity == 0.5


def test_onnx_weights_in_constants_and_copies_are_weights(tmp_path):
    """Some exporters write weights into Constant steps, torch's copies equal ones by Identity."""
    steps, constants = convolutional()
    held = [("Constant", [], ["kernel"], {"value": numpy_helper.from_array(constants.pop("kernel"))})]
    copied = [("Identity", ["weight"], ["twin"]), ("Identity", ["twin"], ["again"])]
    gemm = ("Gemm", ["flat", "again", "bias"], ["out"], {"transB": 1})
    path = program(tmp_path / "net.onnx", [*held, *copied, *steps[:-1], gemm], constants, [1, 1, 8, 8])
    classifier = load_classifier(path)
    assert classifier.sparsity == (4 * 24) / (18 + 288)
    assert sorted(
        type(layer).__name__ for layer in classifier.network.graph.children() if list(layer.parameters())
    ) == [
        "Conv2d",
        "Linear",
    ]
    inputs = torch.rand(3, 1, 8, 8)
    np.testing.assert_allclose(classifier(inputs).numpy(), evaluated(path, inputs), atol=1e-4)


def test_onnx_outputs_that_are_copies_stay(tmp_path):
    """A network that answers with a held number has no gradient, but may be asked."""
    steps = [("Mul", ["in", "zero"], ["none"]), ("Add", ["none", "rows"], ["maps"]), ("Identity", ["maps"], ["out"])]
    constants = {"zero": np.zeros(1, np.float32), "rows": np.arange(4, dtype=np.float32)}
    classifier = load_classifier(program(tmp_path / "net.onnx", steps, constants, ["n", 4, 1, 4], classes=16))
    assert classifier(torch.rand(2, 4, 1, 4)).tolist() == [[0, 1, 2, 3] * 4] * 2


def test_onnx_with_channels_last_is_permuted(tmp_path):
    weight = np.random.default_rng(0).normal(size=(192, 4)).astype(np.float32)
    steps = [("Flatten", ["in"], ["flat"]), ("MatMul", ["flat", "weight"], ["out"])]
    path = program(tmp_path / "net.onnx", steps, {"weight": weight}, ["n", 8, 8, 3])
    classifier = load_classifier(path)
    inputs = torch.rand(3, 3, 8, 8)
    np.testing.assert_allclose(classifier(inputs).numpy(), evaluated(path, inputs.permute(0, 2, 3, 1)), atol=1e-5)
    assert classifier.input_shape == (3, 8, 8)
    assert any("channels last" in note for note in classifier.notes)


def test_unusable_onnx_is_refused(tmp_path):
    steps, constants = convolutional()
    path = tmp_path / "net.onnx"
    cases = [
        (program, {"extra_inputs": [value("two", [1])]}, "has 2 inputs and 1 outputs"),
        (program, {"outputs": ("out", "flat")}, "has 1 inputs and 2 outputs"),
    ]
    for make, options, message in cases:
        make(path, steps, constants, [1, 1, 8, 8], **options)
        with pytest.raises(CheckpointError, match=rf"net\.onnx: {message}"):
            load_classifier(path)
    custom = [*steps[:3], ("Special", ["flat"], ["out"], {"domain": "my.own"})]
    program(path, custom, constants, [1, 1, 8, 8], domains=("my.own",))
    with pytest.raises(
        CheckpointError, match=r"net\.onnx: uses operators of my\.own: export it with standard operators"
    ):
        load_classifier(path)
    program(path, [("NonZero", ["in"], ["out"])], {}, [1, 1, 8, 8])
    with pytest.raises(CheckpointError, match=r"net\.onnx: "):
        load_classifier(path)
    program(path, [*steps[:2], ("Conv", ["active", "kernel"], ["out"])], constants, [1, 1, 8, 8])
    with pytest.raises(CheckpointError, match=r"net\.onnx: cannot be run on inputs \(3, 1, 8, 8\)"):
        load_classifier(path)


@pytest.mark.parametrize(
    ("steps", "constants", "message"),
    [
        (
            [("ConstantOfShape", ["size"], ["large"]), ("ReduceSum", ["large"], ["sum"], {"keepdims": 0})],
            {"size": np.array([2**31])},
            "has a step that makes 2,147,483,648 numbers",
        ),
        (
            [("Flatten", ["in"], ["flat"]), ("Tile", ["flat", "size"], ["out"])],
            {"size": np.array([1, 4_000_000])},
            "has a step that makes 768,000,000 numbers",
        ),
        (
            [("Flatten", ["in"], ["flat"]), ("Tile", ["flat", "size"], ["out"])],
            {"size": np.array([1, 15_626])},
            "gives 1,000,064 logits for each image, more than the 1,000,000 classes",
        ),
        (  # the matrix has 2**22 numbers, and its product with itself takes 2**33 multiply-adds
            [
                ("Expand", ["one", "size"], ["square"]),
                ("MatMul", ["square", "square"], ["large"]),
                ("ReduceSum", ["large"], ["sum"], {"keepdims": 0}),
            ],
            {"one": np.ones((1, 1), np.float32), "size": np.array([2**11, 2**11])},
            r"takes more than 8e\+09 multiply-adds",
        ),
        (
            [
                (
                    "Resize",
                    ["in", "", "scales"],
                    ["large"],
                    {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"},
                ),
                ("ReduceSum", ["large"], ["sum"], {"keepdims": 0}),
            ],
            {"scales": np.array([1, 1, 2000, 2000], np.float32)},
            "has a step that makes 768,000,000 numbers",
        ),
        (
            [
                (
                    "Resize",
                    ["in", "", "scales"],
                    ["large"],
                    {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"},
                ),
                ("MaxPool", ["large"], ["pooled"], {"kernel_shape": [2000, 2000], "strides": [1, 1]}),
                ("ReduceSum", ["pooled"], ["sum"], {"keepdims": 0}),
            ],
            {"scales": np.array([1, 1, 400, 400], np.float32)},
            r"takes more than 4e\+12 multiply-adds",
        ),
    ],
    ids=["constant", "tile", "classes", "product", "resize", "pool"],
)
def test_giants_in_small_files_are_refused_before_they_are_computed(steps, constants, message, tmp_path, monkeypatch):
    if "MatMul" in {step[0] for step in steps}:
        monkeypatch.setattr(bounded_trial, "MOST_WORK", 8e9)
    if steps[-1][2] != ["out"]:
        steps = [*steps, ("Flatten", ["in"], ["pixels"]), ("Add", ["pixels", "sum"], ["out"])]
    path = program(tmp_path / "net.onnx", steps, constants, ["n", 1, 8, 8])
    assert path.stat().st_size < 3_000
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(CheckpointError, match=rf"net\.onnx: {message}") as refusal:
        load_classifier(path)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert "\n" not in str(refusal.value)
    assert after.ru_maxrss - before.ru_maxrss < 600_000  # kB
    assert after.ru_utime - before.ru_utime < 10


def test_the_bounds_are_on_the_work_of_a_trial(tmp_path, monkeypatch):
    """Three samples through a matrix of 64 x 1 000 and another back: 2 * 3 * 64 000 multiply-adds, and some reading."""
    constants = {"one": np.ones((64, 1000), np.float32), "two": np.ones((1000, 64), np.float32)}
    steps = [
        ("Flatten", ["in"], ["flat"]),
        ("MatMul", ["flat", "one"], ["wide"]),
        ("MatMul", ["wide", "two"], ["out"]),
    ]
    path = program(tmp_path / "net.onnx", steps, constants, ["n", 1, 8, 8])
    monkeypatch.setattr(bounded_trial, "WORK_OF_A_VALUE", 0)
    monkeypatch.setattr(bounded_trial, "MOST_VALUES", 64_000)  # the weights are the largest
    monkeypatch.setattr(bounded_trial, "MOST_WORK", 384_000)
    assert load_classifier(path).classes == 64
    monkeypatch.setattr(bounded_trial, "MOST_WORK", 383_999)
    with pytest.raises(CheckpointError, match="multiply-adds"):
        load_classifier(path)
    assert onnx_models.MOST_CLASSES == MOST_CLASSES


@pytest.mark.parametrize("together", [True, False])
def test_results_held_at_once_are_bounded(together, tmp_path, monkeypatch):
    """Ten constants of 4 MB, each added up before the next one is made, or all made before the first is added up."""
    makes = [("ConstantOfShape", ["size"], [f"large_{index}"]) for index in range(10)]
    sums = [("ReduceSum", [f"large_{index}"], [f"sum_{index}"], {"keepdims": 0}) for index in range(10)]
    steps = makes + sums if together else [step for pair in zip(makes, sums, strict=True) for step in pair]
    adds = [("Flatten", ["in"], ["total_0"])]
    adds += [("Add", [f"total_{index}", f"sum_{index}"], [f"total_{index + 1}"]) for index in range(10)]
    adds += [("Identity", ["total_10"], ["out"])]
    path = program(tmp_path / "net.onnx", [*steps, *adds], {"size": np.array([2**20])}, ["n", 1, 8, 8])
    monkeypatch.setattr(bounded_trial, "MOST_HELD", 2**24)
    if together:
        with pytest.raises(CheckpointError, match=r"net\.onnx: holds results of more than 16,777,216 bytes at once"):
            load_classifier(path)
    else:
        assert load_classifier(path).classes == 64


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_truncated_onnx_is_refused(part, tmp_path):
    path = program(tmp_path / "net.onnx", *convolutional(), [1, 1, 8, 8])
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"net\.onnx: is not a valid ONNX file"):
        load_classifier(path)


def test_onnx_may_not_read_other_files(tmp_path):
    """Weights kept outside must lie beside the file."""
    (tmp_path / "secret").write_bytes(b"\0" * 1152)
    folder = tmp_path / "folder"
    folder.mkdir()
    steps, constants = convolutional()
    path = program(folder / "net.onnx", steps, constants, [1, 1, 8, 8])
    model = onnx.load(path)
    weight = next(one for one in model.graph.initializer if one.name == "weight")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "../secret"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match=r"net\.onnx: is not a valid ONNX file"):
        load_classifier(path)


@pytest.mark.parametrize("named", [0, 1])
def test_names_of_steps_are_never_run(named, tmp_path):
    """onnx2torch writes them into Python code, between quotation marks that it does not protect."""
    mark = tmp_path / "mark"
    touch = f'getattr(__import__("os"), "system")("touch {mark}")'
    steps, constants = convolutional()
    path = program(tmp_path / "net.onnx", steps, constants, [1, 1, 8, 8])
    expected = load_classifier(path)
    model = onnx.load(path)
    model.graph.node[0].name = "conv"
    for text in (f'training"), {touch}, getattr(self, "conv', f'x")\n    {touch}\n    ("', f"'); {touch}; ('", "a\\"):
        model.graph.node[named].name = text
        onnx.save(model, path)
        classifier = load_classifier(path)
        assert not mark.exists()
        inputs = torch.rand(2, 1, 8, 8)
        torch.testing.assert_close(classifier(inputs), expected(inputs))


def test_steps_of_one_name_are_told_apart(tmp_path):
    """onnx2torch numbers equal names, and then loses a step that has such a number already."""
    path = program(tmp_path / "net.onnx", *convolutional(), [1, 1, 8, 8])
    model = onnx.load(path)
    for node, name in zip(model.graph.node, ["a", "a", "a_1", "b"], strict=True):
        node.name = name
    onnx.save(model, path)
    inputs = torch.rand(2, 1, 8, 8)
    np.testing.assert_allclose(load_classifier(path)(inputs).numpy(), evaluated(path, inputs), atol=1e-4)


def test_missing_extra_is_named(tmp_path, monkeypatch):
    path = program(tmp_path / "net.onnx", *convolutional(), [1, 1, 8, 8])
    monkeypatch.setitem(__import__("sys").modules, "onnx2torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'thinice\[onnx\]'"):
        load_classifier(path)


@pytest.mark.parametrize("opset", [13, 20])
@pytest.mark.parametrize("dynamic", [True, False])
def test_torchs_exporter_is_understood(dynamic, opset, tmp_path):
    module = network()
    module[5].weight.data[:, ::2] = 0
    classifier = load_classifier(export(module, tmp_path / "net.onnx", dynamic=dynamic, opset=opset))
    compare(classifier, module)
    assert (classifier.architecture, classifier.classes, classifier.input_shape) == ("onnx", 4, (1, 8, 8))
    assert classifier.sparsity == sparsity(module) == 288 / (576 + 36)
    assert not classifier.normalization_known
    assert not any("alone" in note for note in classifier.notes)


@pytest.mark.parametrize("name", ["resnet20", "preact_resnet8", "cnn5"])
@pytest.mark.slow
def test_own_architectures_can_be_exported(name, tmp_path):
    shape = find_architecture(name).input_shape or (3, 32, 32)
    module = trained(build(name), shape)
    classifier = load_classifier(export(module, tmp_path / "net.onnx", shape))
    compare(classifier, module, shape, counts=(1, 3))
    counts = [sum(weight.numel() for weight in prunable_weights(one).values()) for one in (classifier.module, module)]
    assert counts[0] == counts[1]


def test_samples_that_meet_in_a_batch_are_kept_apart(tmp_path):
    """The program takes batches of three, but mixes their samples: it was made for one at a time."""

    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 3)

        def forward(self, inputs):
            return self.linear(inputs.reshape(1, 64)) + inputs.mean()

    module = Mixing().eval()
    classifier = load_classifier(export(module, tmp_path / "net.onnx", batch=1, dynamic=False))
    compare(classifier, lambda inputs: torch.cat([module(one[None]) for one in inputs]))
    assert any("works on batches of 1 alone" in note for note in classifier.notes)


def test_programs_take_normalisation_and_a_name(tmp_path):
    module = network()
    classifier = load_classifier(export(module, tmp_path / "net.onnx"), normalization="mnist", name="mine")
    inputs = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(classifier(inputs), module((inputs - 0.1307) / 0.3081))
    assert (classifier.name, classifier.normalization_known) == ("mine", True)
    twin = pickle.loads(pickle.dumps(classifier))
    torch.testing.assert_close(twin(inputs), classifier(inputs))


def test_the_fingerprint_is_of_program_and_weights(tmp_path):
    module = network()
    one = load_classifier(export(module, tmp_path / "one.onnx"))
    again = load_classifier(tmp_path / "one.onnx")
    module[5].bias.data[0] += 1
    other = load_classifier(export(module, tmp_path / "two.onnx"))
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_programs_are_not_saved_as_weights(tmp_path):
    classifier = load_classifier(export(network(), tmp_path / "net.onnx"))
    with pytest.raises(InputError, match=r"is a onnx, which no registry can build again"):
        save_classifier(classifier, tmp_path / "copy.pt")
    with pytest.raises(InputError, match=r"`architecture` is not needed: .* is a whole program"):
        load_classifier(tmp_path / "net.onnx", architecture="cnn5")
    with pytest.raises(CheckpointError, match="answers 4 classes, not 10"):
        load_classifier(tmp_path / "net.onnx", classes=10)


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnistfc_256x2", "oval_cifar_base_kw", "resnet_2b"])
def test_verified_networks_load_and_are_right_where_verified(name):
    """A radius that holds is one at which the label is proven: the clean prediction must be it."""
    path, data = reference(f"data/verified/{name}.onnx"), np.load(reference(f"data/verified/{name}.npz"))
    classifier = load_classifier(path, normalization=(tuple(data["mean"].tolist()), tuple(data["std"].tolist())))
    inputs = torch.tensor(data["images"]) / 255
    logits = classifier(inputs)
    holds = data["verdict"] == "holds"
    assert holds.sum() > 0
    assert (logits.argmax(1).numpy() == data["labels"])[holds].all()
    session = ReferenceEvaluator(str(path))
    given = session.input_names[0]
    normalised = (
        (inputs - torch.tensor(data["mean"]).view(1, -1, 1, 1)) / torch.tensor(data["std"]).view(1, -1, 1, 1)
    ).float()
    for index in range(2):
        sample = normalised[index].reshape(1, *data["input_shape"]).numpy()
        expected = session.run(None, {given: sample})[0]
        np.testing.assert_allclose(logits[index : index + 1].numpy(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnistfc_256x2", "oval_cifar_base_kw", "resnet_2b"])
def test_verified_networks_agree_with_onnxruntime(name):
    onnxruntime = pytest.importorskip("onnxruntime")
    path, data = reference(f"data/verified/{name}.onnx"), np.load(reference(f"data/verified/{name}.npz"))
    classifier = load_classifier(path, normalization="none")
    inputs = torch.tensor(data["images"]) / 255
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name
    for index in range(5):
        sample = inputs[index].reshape(1, *data["input_shape"]).numpy().astype(np.float32)
        expected = session.run(None, {given: sample})[0]
        np.testing.assert_allclose(classifier(inputs[index : index + 1]).numpy(), expected, atol=1e-4, rtol=1e-4)


SLICES = {
    "rows": ((1,), (4,), (2,), None),
    "to the end": ((2,), (2**31,), (3,), None),
    "from the end": ((-3,), (-1,), (-1,), None),
    "every second": ((0, 1), (6, 8), (2, -1), (1, 2)),
    "backwards": ((-1, 6), (-(2**31), 1), (-2, 3), (-1, -2)),
    "the first axes": ((0, 0, 2), (2**31, 1, 5), None, None),
}


@pytest.mark.parametrize(("starts", "ends", "axes", "steps"), SLICES.values(), ids=SLICES)
def test_slices_are_those_of_the_standard(starts, ends, axes, steps, tmp_path):
    """Against onnx's own evaluation; warnings are errors here, and onnx2torch's slices give one at every pass."""
    given = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
    constants = {name: np.array(values, np.int64) for name, values in given.items() if values is not None}
    nodes = [("Slice", ["in", *constants], ["part"]), ("Flatten", ["part"], ["out"])]
    path = program(tmp_path / "net.onnx", nodes, constants, ["n", 1, 6, 8], classes="k")
    inputs = torch.rand(3, 1, 6, 8)
    np.testing.assert_array_equal(load_classifier(path)(inputs).numpy(), evaluated(path, inputs))
