"""Small files that claim to be large, or have no end: refused in one line before memory is taken."""

from __future__ import annotations

import json
import struct
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

import thinice
from thinice.analysis import measurement
from thinice.analysis.measurement import prepare_classifiers
from thinice.errors import ThinIceError
from thinice.models import as_classifier, build, save_classifier
from thinice.models.research_formats import NESTS, find_weights

pytestmark = pytest.mark.sampled


def endless():
    nest: dict[str, object] = {}
    nest["state_dict"] = nest
    return nest


def endless_in_two():
    nest: dict[str, object] = {"weight": torch.zeros(2)}
    nest["state_dict"] = {"net": [nest], "model": nest}
    return nest


def deep(levels):
    nest: dict[str, object] = {"weight": torch.zeros(2)}
    for _ in range(levels):
        nest = {"state_dict": nest}
    return nest


def deep_from_below(levels):
    """Every container was seen before the one around it."""
    nests = [[0]]
    for _ in range(levels):
        nests.append([nests[-1]])
    return nests


def empty_sparse(*shape):
    return torch.sparse_coo_tensor(torch.zeros(len(shape), 0, dtype=torch.int64), torch.zeros(0), shape)


def outside(layout):
    """Return a sparse tensor (2, 2) with a value at column 1 000 000."""
    if layout is torch.sparse_coo:
        return torch.sparse_coo_tensor(torch.tensor([[0], [10**6]]), torch.ones(1), (2, 2), check_invariants=False)
    rows, columns = torch.tensor([0, 1, 1]), torch.tensor([10**6])
    return torch.sparse_compressed_tensor(rows, columns, torch.ones(1), (2, 2), layout=layout, check_invariants=False)


def nested():
    return {"weight": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])}


def refused(path, part=".", **said):
    """Load a file that must be refused: in one line that names it, within seconds, and without torch's bad advice."""
    before = time.process_time()
    with pytest.raises(ThinIceError, match=part) as caught:
        thinice.load_classifier(path, **said)
    message = str(caught.value)
    assert time.process_time() - before < 20
    assert "\n" not in message
    assert len(message) < 1000
    assert path.name in message
    assert "weights_only" not in message
    return message


DAMAGED = "is truncated or damaged|size is inconsistent with indices|cannot be made dense"
"""What torch says of indices outside, or thinice where an older torch looks later."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, about sparse tensors
@pytest.mark.parametrize(
    ("held", "part"),
    [
        ({"state_dict": {"conv1.weight": torch.zeros(1).expand(10**12)}}, "more numbers than the file holds"),
        ({"a.weight_orig": torch.zeros(1, 1).expand(10**6, 10**6), "a.weight_mask": torch.ones(1)}, "a.weight_orig"),
        (
            lambda: {"state_dict": {"conv1.weight": empty_sparse(10**6, 10**6)}},
            "conv1.weight .* more numbers than the file holds",
        ),
        ({f"{k}": torch.zeros(1).expand(2**26) for k in range(5)}, "4 .* with others more than 268435456"),
        (lambda: {"a": outside(torch.sparse_coo)}, DAMAGED),
        (lambda: {"a": outside(torch.sparse_csr)}, DAMAGED),
        ({"state_dict": {"conv1.weight": torch.empty(3, device="meta")}}, "no ordinary dense tensor"),
        (endless(), "contains itself"),
        (endless_in_two(), "contains itself"),
        (deep(60), "nested more than 50 deep"),
        (deep_from_below(60)[::-1], "nested more than 50 deep"),
        (nested, "no ordinary dense tensor"),
        ({"conv\nweight": torch.zeros(2)}, r"conv\\nweight is no name of a parameter"),
        ({"conv\udcff": torch.zeros(2)}, r"conv\\udcff is no name of a parameter"),
        ({"a" * 10_000: torch.zeros(2)}, "a… is no name of a parameter"),
        ({f"{layer}.weight": torch.zeros(()) for layer in range(10_001)}, "more than 10000 tensors"),
        ({"weight": torch.full((3,), 1e300, dtype=torch.float64)}, "3 values beyond the range of float32"),
    ],
)
def test_is_refused(tmp_path, held, part):
    path = tmp_path / "hostile.pt"
    torch.save(held() if callable(held) else held, path)  # some warn when they are made
    refused(path, part)


@pytest.mark.parametrize("change", [{"classes": 10**12}, {"arguments": {"channels": 10**9}}])
def test_a_header_that_claims_a_giant_is_refused_by_shapes(tmp_path, change):
    path = tmp_path / "giant.pt"
    save_classifier(as_classifier(build("digits_cnn"), name="small"), path)
    header = torch.load(path, weights_only=True)
    torch.save({**header, **change}, path)
    with pytest.raises(ThinIceError, match=r"giant\.pt") as caught:
        thinice.load_classifier(path)
    assert "alloc" not in str(caught.value)


def test_nests_that_share_children_are_visited_once(tmp_path):
    """Twelve levels of eight names each: 8 ** 12 ways down, to twelve dicts."""
    empty, full = {}, {"weight": torch.zeros(2)}
    for _ in range(12):
        empty, full = dict.fromkeys(NESTS, empty), dict.fromkeys(NESTS, full)
    torch.save(empty, tmp_path / "nest.pt")
    refused(tmp_path / "nest.pt", "holds no weights")
    assert list(find_weights(full, "nest.pt").weights) == ["weight"]


# Pickles written by hand ----------------------------------------------------------------------------------------------


def pickled(path, body, *, compression=zipfile.ZIP_STORED):
    """A file of `torch.save` around the instructions of a pickle."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in (("data.pkl", b"\x80\x02" + body + b"."), ("byteorder", b"little"), ("version", b"3\n")):
            archive.writestr(f"net/{name}", content)
    return path


def text(content):
    return b"X" + struct.pack("<I", len(content)) + content


ENCODE = b"c_codecs\nencode\nq\x00"


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"cbuiltins\nbytearray\nJ\x00\x00\x00\x40\x85R", "wants to run builtins.bytearray"),
        (b"ctorch\nFloatTensor\nJ\x00\x00\x00\x40\x85R", "wants to run torch.FloatTensor"),
        (b"ctorch.storage\nUntypedStorage\nJ\x00\x00\x00\x40\x85R", "wants to run torch.storage.UntypedStorage"),
        (b"ctorch\nTensor\nJ\x00\x00\x00\x40\x85R", "wants to run torch.Tensor"),
        (b"]" + b"ccollections\nOrderedDict\nq\x00" + b"h\x00)R" * 200_000, "more than 100000 objects"),
        pytest.param(b"}" * 2_100_000, "2000000 steps", marks=pytest.mark.slow),
        (
            ENCODE + b"(" + text(b"a" * 500_000) + b"X\x06\x00\x00\x00latin1tq\x01" + b"h\x00h\x01R" * 50_000,
            "long texts",
        ),
        (ENCODE + b"(" + text("ä".encode() * 100_000) + b"X\x08\x00\x00\x00punycodetR", "long texts"),
        (b"}" + b")" + b"\x85" * 1_000_000 + b"Ks", "50 nested tuples"),
        (
            b"}" + b"".join(b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + b"Ns" for i in range(20, 50_000)),
            "objects",
        ),
        (b"}" + (text(b"state_dict") + b"}") * 1500 + b"s" * 1500, "nested more than 50 deep"),
        (b"ccollections\nOrderedDict\n)R}" + text(b"items") + b"K\x03sb", "hides what it can do"),
        (b"\x8c\x01a", "Unsupported operand 140"),
        (b"", "is truncated or damaged"),
        (b"ccollections\nOrderedDict\nq\x00R", "is truncated or damaged"),
        (b"h\x05", "is truncated or damaged"),
    ],
)
def test_pickles_that_ask_for_too_much_are_refused_before_anything_is_made(body, part, tmp_path):
    refused(pickled(tmp_path / "net.pt", body), part)


def array(shape, code, content):
    """The instructions that build an array of NumPy, left under "a" of a dict."""
    sizes = b"".join(b"J" + struct.pack("<i", size) for size in shape)
    return (
        b"}" + text(b"a") + b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
        b"(K\x01("
        + sizes
        + b"tcnumpy\ndtype\n("
        + text(code)
        + b"\x89\x88tR(K\x03"
        + text(b"<")
        + b"NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89c_codecs\nencode\n(" + text(content) + text(b"latin1") + b"tRtbs"
    )


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (array((10**9,), b"f4", b"abcd"), "damaged array .4 bytes for shape"),
        (array((-1,), b"f4", b"abcd"), "damaged array .shape"),
        (array((10**9, 10**9, 10**9), b"f4", b"abcd"), "damaged array"),
        (array((2,), b"O8", b"abcd"), "holds no weights"),
        (array((1,), b"f4,f4", b"abcd"), "holds no weights"),
        (b"ccollections\ndefaultdict\ncbuiltins\neval\n\x85R", "wants to run builtins.eval"),
        (b"ccollections\ndefaultdict\ncnumpy\nload\n\x85R", "wants to run numpy.load"),
        (b"cfunctools\npartial\n(cposix\nsystem\n" + text(b"touch x") + b"tR", "wants to run posix.system"),
        (b"]" + b"".join(b"comegaconf\nA%d\n0" % k for k in range(200)), "more than 100 types"),
        (b"csomebody\nNet\n)\x81" + b"csomebody\nmake\n)R\x86", "wants to run somebody.make"),
        (b"csomebody\nNet\nq\x00)\x810h\x00)R", "wants to run somebody.Net"),
        (b"cpathlib\nPosixPath\n" + text(b"a") + b"\x85R", "holds no weights"),
    ],
)
def test_arrays_and_stand_ins_make_no_more_than_they_are_given(body, part, tmp_path):
    refused(pickled(tmp_path / "net.pt", body), part)


def test_archives_that_grow_are_refused(tmp_path):
    body = b"}" + text(b"a" * 10_000_000) + b"Ns"
    refused(pickled(tmp_path / "bomb.pt", body, compression=zipfile.ZIP_DEFLATED), "is compressed")
    path = pickled(tmp_path / "twice.pt", b"}")
    content = path.read_bytes()
    size = struct.pack("<I", len(b"\x80\x02}."))
    start = content.rindex(b"PK\x01\x02")
    place = content.index(b"PK\x01\x02")
    assert start > place
    assert content[place + 24 : place + 28] == size
    path.write_bytes(content[: place + 20] + b"\xff\xff\xff\x00" * 2 + content[place + 28 :])
    refused(path, "claims more numbers than the file holds|damaged")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_any_byte_of_the_frame_may_be_wrong(new, tmp_path):
    """All that is not weights: where a flip passes unnoticed, the weights are finite."""
    path = tmp_path / "net.pt"
    weights = {"fc.weight": torch.zeros(3, 4), "fc.bias": torch.zeros(3)}
    torch.save(weights, path, _use_new_zipfile_serialization=new)
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        changed = bytearray(content)
        changed[place] ^= 0xFF if place % 2 else 0x08
        path.write_bytes(changed)
        refused(path, architecture="digits_cnn")


# Types of numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [name for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz") if hasattr(torch, name)],
)
def test_eight_bits_become_the_same_numbers_in_float32(kind, tmp_path):
    dtype = getattr(torch, kind)
    state = build("digits_cnn").state_dict()
    exact = torch.linspace(-2, 2, state["conv1.weight"].numel()).view_as(state["conv1.weight"]).to(dtype)
    mask = (torch.arange(exact.numel()) % 2).view_as(exact)
    torch.save({**state, "conv1.weight": exact}, tmp_path / "net.pt")
    classifier = thinice.load_classifier(tmp_path / "net.pt")
    numbers = exact.float()
    assert len(numbers.unique()) > 10
    assert torch.equal(classifier.module.conv1.weight, numbers)
    assert any(f"weights converted to float32 from {kind}" in note for note in classifier.notes)
    del state["conv1.weight"]
    torch.save({**state, "conv1.weight_orig": exact, "conv1.weight_mask": mask.to(dtype)}, tmp_path / "masked.pt")
    assert torch.equal(thinice.load_classifier(tmp_path / "masked.pt").module.conv1.weight, numbers * mask)


@pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="this torch has no numbers of four bits")
def test_four_bits_are_one_line(tmp_path):
    state = build("digits_cnn").state_dict()
    state["fc.bias"] = torch.zeros(5, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    torch.save(state, tmp_path / "net.pt")
    refused(tmp_path / "net.pt", r"fc\.bias holds float4_e2m1fn_x2.*save the network in float32")


def test_float64_at_the_end_of_float32_is_read(tmp_path):
    state = build("digits_cnn").state_dict()
    most = torch.finfo(torch.float32).max
    state["fc.bias"] = torch.full((10,), most, dtype=torch.float64)
    torch.save(state, tmp_path / "net.pt")
    assert thinice.load_classifier(tmp_path / "net.pt").module.fc.bias.tolist() == [most] * 10
    state["fc.bias"] = torch.full((10,), most * 1.0001, dtype=torch.float64)
    torch.save(state, tmp_path / "net.pt")
    refused(tmp_path / "net.pt", r"fc\.bias has 10 values beyond the range of float32")


# Headers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "torchvision:mobilenet_v2", "arguments": {"inverted_residual_setting": [[1, 8, 10**9, 1]]}},
        {"architecture": "torchvision:mobilenet_v2", "arguments": {"width_mult": 1e7}},
        {"recipe": [1]},
        {"recipe": {"loss": float("inf")}},
        {"recipe": {"note": "\udcff"}},
        {"parent": 3},
        {"classes": float("inf")},
        {"input_shape": [3, 10**6, 10**6]},
        {"input_shape": [3, -1, 8]},
        {"class_names": 3},
        {"data": "\ud800"},
        {"architecture": "a\nb" * 1000},
    ],
)
def test_headers_that_say_the_impossible_are_refused(change, tmp_path):
    path = tmp_path / "net.pt"
    save_classifier(build("digits_cnn"), path)
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    refused(path)


@pytest.mark.parametrize(
    "metadata",
    ["[" * 100_000, '{"format_version": 1, "classes": Infinity}', '{"classes": ' + "[" * 100_000, '"\ud800"'],
)
def test_metadata_of_safetensors_that_python_cannot_take_is_refused(metadata, tmp_path):
    pytest.importorskip("safetensors")
    tensors = {"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    header = json.dumps({"__metadata__": {"thinice": metadata}, **tensors}).encode()
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    refused(path)


def test_names_of_files_that_are_not_utf8_are_told(tmp_path):
    path = tmp_path / "net\udcff.pt"
    try:
        with path.open("wb") as file:
            torch.save(build("digits_cnn").state_dict(), file)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    with pytest.raises(ThinIceError, match=r"`name` net\\udcff is not UTF-8") as caught:
        thinice.load_classifier(path)
    str(caught.value).encode()
    assert thinice.load_classifier(path, name="mine").name == "mine"


# ONNX -----------------------------------------------------------------------------------------------------------------


def onnx_file(path, *, names=("", ""), shape=("n", 1, 8, 8), change=None):
    """Flatten and a product, in a file; ``change`` may spoil the model before it is written."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnx2torch")
    from onnx import helper, numpy_helper  # noqa: PLC0415 - after the skip

    nodes = [
        helper.make_node("Flatten", ["in"], ["flat"], name=names[0]),
        helper.make_node("MatMul", ["flat", "weight"], ["out"], name=names[1]),
    ]
    weight = numpy_helper.from_array(np.ones((64, 3), np.float32), "weight")
    values = [helper.make_tensor_value_info("in", 1, shape), helper.make_tensor_value_info("out", 1, (shape[0], 3))]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if change is not None:
        change(model)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    "name",
    ["self", "class", "None", "a/lambda", "training", "graph", "forward", "x.self", "0", "_modules", "add_module"],
)
def test_steps_of_onnx_may_be_called_as_python_calls_things(name, tmp_path):
    classifier = thinice.load_classifier(onnx_file(tmp_path / "net.onnx", names=(name, "product")))
    assert classifier(torch.ones(2, 1, 8, 8)).tolist() == [[64.0] * 3] * 2


@pytest.mark.parametrize(
    "shape", [(1, 1, 10**6, 10**6), (10**9, 1, 8, 8), ("n", 10**9, 8, 8), ("n", 2**62, 2**62, 2**62)]
)
def test_inputs_of_onnx_larger_than_images_are_refused(shape, tmp_path):
    refused(onnx_file(tmp_path / "net.onnx", shape=shape), "larger than any batch of images")


def test_negative_inputs_of_onnx_are_left_open(tmp_path):
    path = onnx_file(tmp_path / "net.onnx", shape=(-5, 1, 8, 8))
    assert thinice.load_classifier(path)(torch.ones(2, 1, 8, 8)).tolist() == [[64.0] * 3] * 2
    refused(onnx_file(tmp_path / "net.onnx", shape=("n", -1, 8, 8)), r"cannot be run on inputs \(3, 32, 8, 8\)")


def test_constants_of_onnx_without_a_value_are_refused(tmp_path):
    def spoil(model, *, output=True):
        node = model.graph.node.add()
        node.op_type = "Constant"
        node.output.extend(["nothing"] if output else [])

    refused(onnx_file(tmp_path / "net.onnx", change=spoil))
    refused(onnx_file(tmp_path / "net.onnx", change=lambda model: spoil(model, output=False)))


def test_names_of_onnx_that_are_not_utf8_are_refused(tmp_path):
    path = onnx_file(tmp_path / "net.onnx", names=("flatten", "product"))
    spoilt = tmp_path / "spoilt.onnx"
    for name in (b"flatten", b"product", b"MatMul"):
        spoilt.write_bytes(path.read_bytes().replace(name, b"\xff" + name[1:]))
        refused(spoilt)


def test_onnx_of_too_many_steps_is_refused(tmp_path):
    def lengthen(model):
        for place in range(10_001):
            node = model.graph.node.add()
            node.op_type, node.input[:], node.output[:] = "Relu", ["in"], [f"relu {place}"]

    refused(onnx_file(tmp_path / "net.onnx", change=lengthen), "more than 10000 steps")


# Together -------------------------------------------------------------------------------------------------------------


def test_normalisations_that_labels_decide_differently_are_refused(monkeypatch):
    one, other = (as_classifier(build("digits_cnn"), name=name) for name in ("dense", "pruned"))
    undecided = [replace(network, normalization_known=False) for network in (one, other)]
    chosen = iter([None, ((0.5,), (0.5,))])
    monkeypatch.setattr(
        measurement,
        "decide",
        lambda classifier, *_, **_more: replace(classifier, normalization=next(chosen), normalization_known=True),
    )
    with pytest.raises(ThinIceError, match=r"'pruned' looks like half, .*'dense' is none, .*\(--normalization none\)"):
        prepare_classifiers(undecided, thinice.load_samples("digits", limit=4))
