"""What `inspect_checkpoint` says of a file: numbers counted here, and refusals as part of the answer."""

import argparse
import json

import pytest
import torch
from torch import nn

import thinice
from tests.models.test_research_formats import LAYERS, hydra, trained
from thinice.errors import CheckpointError
from thinice.models import as_classifier, build, save_classifier


@pytest.fixture
def foreign(tmp_path):
    network = trained()
    masks = {name: {"weight": torch.zeros_like(network.get_submodule(name).weight)} for name in LAYERS}
    masks["conv1"]["weight"][0] = 1  # 9 of 144 weights
    held = {
        "epoch": 7,
        "best_prec1": torch.tensor(91.25),
        "args": argparse.Namespace(lr=0.1, arch="digits", layers=[1, 2]),
        "mask": masks,
        "optimizer": {"state": {0: {"momentum": torch.zeros(16, 1, 3, 3)}}, "param_groups": [{"lr": 0.1}]},
        "state_dict_ema": trained().state_dict(),
        "state_dict": {f"module.{name}": value for name, value in network.state_dict().items()},
    }
    torch.save(held, tmp_path / "foreign.pth")
    return tmp_path / "foreign.pth"


def test_everything_in_a_foreign_file_is_told(foreign):
    inspection = thinice.inspect_checkpoint(foreign)
    assert inspection.refused is None
    assert inspection.classifier.architecture == "digits_cnn"
    assert inspection.parameters == sum(value.numel() for value in build("digits_cnn").parameters())
    rows = {layer.name: (layer.kept, layer.weights) for layer in inspection.layers}
    assert rows == {
        "conv1.weight": (9, 144),
        "conv2.weight": (0, 4608),
        "conv3.weight": (0, 9216),
        "fc.weight": (0, 5120),
    }
    assert inspection.classifier.sparsity == pytest.approx(1 - 9 / 19088)
    assert inspection.recorded == {"best_prec1": 91.25, "epoch": 7, "args.lr": 0.1, "args.arch": "digits"}
    assert next(iter(inspection.recorded)) == "best_prec1"
    assert {entry.name: (entry.holds, entry.role) for entry in inspection.entries} == {
        "epoch": ("7", "recorded"),
        "best_prec1": ("91.25", "recorded"),
        "args": ("3 entries", "recorded"),
        "mask": ("4 tensors", "masks"),
        "optimizer": ("1 tensor", "not used"),
        "state_dict_ema": ("20 tensors", "not used"),
        "state_dict": ("20 tensors", "weights"),
    }
    assert inspection.conversions == ("4 masks found under mask applied: 9 of 19088 weights are kept",)
    assert any("--weights state_dict_ema" in note for note in inspection.notes)
    assert json.loads(json.dumps(inspection.to_dict()))["layers"][0]["kept"] == 9


def test_arguments_are_those_of_loading(foreign):
    inspection = thinice.inspect_checkpoint(foreign, weights="state_dict_ema", masks="none", normalization="mnist")
    assert inspection.classifier.sparsity == 0
    assert inspection.classifier.normalization == ((0.1307,), (0.3081,))
    roles = {entry.name: entry.role for entry in inspection.entries}
    assert (roles["state_dict_ema"], roles["state_dict"], roles["mask"]) == ("weights", "not used", "not used")


def test_own_files_say_recipe_and_parent(tmp_path):
    dense = as_classifier(build("digits_cnn"))
    path = save_classifier(dense, tmp_path / "pruned.pt", parent=dense, recipe={"pruning": {"method": "magnitude"}})
    said = thinice.inspect_checkpoint(path).to_dict()
    assert (said["recipe"], said["parent"]) == ({"pruning": {"method": "magnitude"}}, dense.fingerprint)
    assert said["entries"] == [{"entry": "state_dict", "holds": "20 tensors", "role": "weights"}]
    assert (said["masks"], said["notes"], said["normalization"]) == ([], [], "none")


def test_a_refusal_is_part_of_the_answer(tmp_path):
    scores, _, _ = hydra(trained())
    torch.save({"model": scores["state_dict"], "acc": 0.5}, tmp_path / "odd.pt")
    inspection = thinice.inspect_checkpoint(tmp_path / "odd.pt")
    assert inspection.classifier is None
    assert "holds HYDRA scores" in inspection.refused
    assert inspection.recorded == {"acc": 0.5}
    assert [(entry.name, entry.holds) for entry in inspection.entries] == [("model", "24 tensors"), ("acc", "0.5")]
    assert inspection.notes == ("weights found under model", "prefix module. removed from all parameters")
    assert (inspection.parameters, inspection.layers) == (None, ())
    json.dumps(inspection.to_dict())
    with pytest.raises(CheckpointError, match="no such file"):
        thinice.inspect_checkpoint(tmp_path / "nowhere.pt")


def test_other_kinds_of_files(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    assert "holds no weights" in thinice.inspect_checkpoint(tmp_path / "list.pt").refused
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "module.pt")
    inspection = thinice.inspect_checkpoint(tmp_path / "module.pt")
    assert "--trust-pickle" in inspection.refused
    assert inspection.entries == ()
    inspection = thinice.inspect_checkpoint(tmp_path / "module.pt", trust_pickle=True)
    assert inspection.parameters == 6
    torch.save(build("digits_cnn").state_dict(), tmp_path / "flat.pt")
    assert [entry.holds for entry in thinice.inspect_checkpoint(tmp_path / "flat.pt").entries] == ["20 tensors"]


def test_onnx_has_layers_too(tmp_path):
    pytest.importorskip("onnx2torch")
    from tests.models.test_hostile import onnx_file  # noqa: PLC0415 - after the skip

    inspection = thinice.inspect_checkpoint(onnx_file(tmp_path / "net.onnx"))
    assert inspection.container == "onnx"
    assert [(layer.weights, layer.kept) for layer in inspection.layers] == [(192, 192)]
    assert inspection.parameters == 192


def test_safetensors(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file(dict(build("digits_cnn").state_dict()), tmp_path / "net.safetensors", metadata={"note": "mine"})
    inspection = thinice.inspect_checkpoint(tmp_path / "net.safetensors")
    assert inspection.recorded == {"note": "mine"}
    own = save_classifier(build("digits_cnn"), tmp_path / "own.safetensors")
    assert thinice.inspect_checkpoint(own).classifier.architecture == "digits_cnn"


def test_an_undecided_network_is_shown_with_its_alternatives(tmp_path):
    """What it may be is a part of the answer, in full; until it is said, the file is refused."""
    torch.save(build("torchvision:mobilenet_v3_small", 10).state_dict(), tmp_path / "net.pt")
    inspection = thinice.inspect_checkpoint(tmp_path / "net.pt")
    assert "torchvision:mobilenet_v3_small:VARIANT with stem-stride-1" in inspection.refused
    assert inspection.classifier.architecture == "torchvision:mobilenet_v3_small"
    assert inspection.classifier.alternatives == ("torchvision:mobilenet_v3_small:stem-stride-1",)
    assert inspection.parameters == sum(
        parameter.numel() for parameter in build("torchvision:mobilenet_v3_small", 10).parameters()
    )
    assert any("computing something else" in note for note in inspection.notes)
    said = inspection.classifier.alternatives[0]
    inspection = thinice.inspect_checkpoint(tmp_path / "net.pt", architecture=said)
    assert (inspection.refused, inspection.classifier.architecture) == (None, said)
