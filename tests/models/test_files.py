"""Checkpoint files: thinice's own in both formats, and everything that must be refused."""

import argparse
import json
import os
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from thinice.errors import CheckpointError, InputError, MissingExtraError, WrongFileError
from thinice.models import Normalized, as_classifier, build, load_classifier, save_classifier
from thinice.models.files import Container, detect_format

SUFFIXES = (".pt", ".safetensors")
FACTS = {
    "data": "digits",
    "class_names": tuple("abcdefghij"),
    "recipe": {"epochs": 3, "seed": 0, "pruning": {"sparsity": 0.9, "scope": "global"}},
    "parent": "0" * 32,
}


def inputs():
    return torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=SUFFIXES)
def suffix(request):
    if request.param == ".safetensors":
        pytest.importorskip("safetensors")
    return request.param


@pytest.mark.parametrize("normalization", ["none", "mnist", (0.1, 0.3)])
def test_own_files_say_everything(normalization, suffix, tmp_path):
    classifier = as_classifier(build("digits_cnn"), normalization=normalization, **FACTS)
    path = save_classifier(classifier, tmp_path / f"folder/dense{suffix}")
    loaded = load_classifier(path)
    for what in (
        "architecture",
        "arguments",
        "classes",
        "fingerprint",
        "sparsity",
        "normalization",
        "input_shape",
        *FACTS,
    ):
        assert getattr(loaded, what) == getattr(classifier, what), what
    assert (loaded.name, loaded.path, loaded.notes, loaded.normalization_known) == ("dense", path, (), True)
    assert torch.equal(loaded(inputs()), classifier(inputs()))


def test_both_formats_have_one_fingerprint(tmp_path):
    pytest.importorskip("safetensors")
    network = build("digits_cnn")
    prune.l1_unstructured(network.conv2, "weight", amount=0.9)
    loaded = [load_classifier(save_classifier(network, tmp_path / f"net{suffix}")) for suffix in SUFFIXES]
    assert loaded[0].fingerprint == loaded[1].fingerprint == as_classifier(network).fingerprint
    assert loaded[0].sparsity == pytest.approx(0.9 * 4608 / 19088, abs=1e-4)


def test_own_file_is_plain_data(tmp_path):
    path = save_classifier(build("digits_cnn", 5), tmp_path / "net.pt", recipe={"seed": 1})
    held = torch.load(path, weights_only=True)
    assert {name: held[name] for name in ("format", "format_version", "architecture", "classes")} == {
        "format": "thinice",
        "format_version": 1,
        "architecture": "digits_cnn",
        "classes": 5,
    }
    assert held["normalization"] == "none"
    assert held["recipe"] == {"seed": 1}
    assert path.stat().st_size < 150_000


def test_the_same_network_gives_the_same_bytes(suffix, tmp_path):
    network = build("digits_cnn")
    one, two = (save_classifier(network, tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert one == two


def test_writing_replaces_or_leaves(suffix, tmp_path, monkeypatch):
    path = save_classifier(build("digits_cnn"), tmp_path / f"net{suffix}")
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    monkeypatch.setattr("safetensors.torch.save_file", fail, raising=False)
    with pytest.raises(OSError, match="disk full"):
        save_classifier(build("digits_cnn"), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_reader_of_the_old_file_keeps_reading_it(suffix, tmp_path):
    path = save_classifier(build("digits_cnn"), tmp_path / f"net{suffix}")
    before = path.read_bytes()
    with path.open("rb") as reader:
        save_classifier(build("digits_cnn"), path)
        assert reader.read() == before
    assert path.read_bytes() != before


def test_a_classifier_takes_new_facts_when_saved(tmp_path):
    dense = as_classifier(build("digits_cnn"), **FACTS)
    path = save_classifier(dense, tmp_path / "pruned.pt", parent=dense, data="mnist", recipe={"method": "magnitude"})
    pruned = load_classifier(path)
    assert (pruned.parent, pruned.data, pruned.recipe) == (dense.fingerprint, "mnist", {"method": "magnitude"})
    assert pruned.class_names == dense.class_names
    with pytest.raises(InputError, match="`network` is a classifier"):
        save_classifier(dense, path, architecture="resnet20")


def test_normalized_and_unbuilt_modules_can_be_saved(tmp_path):
    network = build("digits_cnn", 4).eval()
    mnist = Normalized(network, mean=(0.1307,), std=(0.3081,))
    loaded = load_classifier(save_classifier(mnist, tmp_path / "normalized.pt"))
    torch.testing.assert_close(loaded(inputs()), mnist(inputs()))
    unbuilt = nn.Sequential()
    for name, layer in network.named_children():
        unbuilt.add_module(name, layer)
    with pytest.raises(InputError, match=r"`architecture` is missing: Sequential was not made by"):
        save_classifier(unbuilt, tmp_path / "unbuilt.pt")
    loaded = load_classifier(save_classifier(unbuilt, tmp_path / "unbuilt.pt", architecture="digits_cnn"))
    assert (loaded.architecture, loaded.classes) == ("digits_cnn", 4)
    torch.testing.assert_close(loaded(inputs()), network(inputs()))
    with pytest.raises(CheckpointError, match=r"parameters do not fit cnn5: .*missing"):
        save_classifier(unbuilt, tmp_path / "unbuilt.pt", architecture="cnn5")
    with pytest.raises(InputError, match=r"`architecture` is 'cnn5', but the network was built as 'digits_cnn'"):
        save_classifier(network, tmp_path / "unbuilt.pt", architecture="cnn5")


def test_what_cannot_be_built_again_is_not_saved(tmp_path):
    with pytest.raises(InputError, match="which no registry can build again"):
        save_classifier(as_classifier(nn.Sequential(nn.Linear(2, 2))), tmp_path / "net.pt")
    with pytest.raises(InputError, match="`recipe` and `arguments` must be plain"):
        save_classifier(build("digits_cnn"), tmp_path / "net.pt", recipe={"loss": float("nan")})
    with pytest.raises(InputError, match="`recipe` and `arguments` must be plain"):
        save_classifier(build("digits_cnn"), tmp_path / "net.pt", recipe={"optimizer": object()})
    assert list(tmp_path.iterdir()) == []


def test_unknown_normalisation_stays_unknown(tmp_path):
    torch.save(build("digits_cnn").state_dict(), tmp_path / "foreign.pt")
    foreign = load_classifier(tmp_path / "foreign.pt")
    assert not foreign.normalization_known
    own = load_classifier(save_classifier(foreign, tmp_path / "own.pt"))
    assert not own.normalization_known
    assert any("normalisation is not known" in note for note in own.notes)
    said = load_classifier(tmp_path / "own.pt", normalization="mnist")
    assert (said.normalization, said.normalization_known) == (((0.1307,), (0.3081,)), True)


def test_what_contradicts_an_own_file_is_refused(tmp_path):
    path = save_classifier(build("digits_cnn"), tmp_path / "net.pt", normalization="mnist")
    load_classifier(path, architecture="digits_cnn", normalization="mnist", classes=10)
    for said, message in (
        ({"architecture": "cnn5"}, "`architecture` is cnn5, but .*net.pt says digits_cnn: leave the argument out"),
        ({"normalization": "none"}, "`normalization` is none, but .*net.pt says mnist"),
        ({"classes": 7}, "`classes` is 7, but .*net.pt says 10"),
    ):
        with pytest.raises(InputError, match=message):
            load_classifier(path, **said)


def test_changed_weights_do_not_pass_for_the_saved_ones(tmp_path):
    path = save_classifier(build("digits_cnn"), tmp_path / "net.pt")
    held = torch.load(path, weights_only=True)
    held["state_dict"]["fc.bias"][0] += 1
    torch.save(held, path)
    with pytest.raises(CheckpointError, match=r"net\.pt: its weights are not those it was saved with"):
        load_classifier(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "has format version 99, newer than 1: update thinice"),
        ({"format_version": None}, "has format version None"),
        ({"architecture": "unheard"}, "its thinice header is damaged .*unheard"),
        ({"architecture": None}, "its thinice header is damaged"),
        ({"classes": "many"}, "its thinice header is damaged"),
        ({"classes": 10**15}, "parameters do not fit digits_cnn: 2 of another shape"),
        ({"classes": 7}, "parameters do not fit digits_cnn: 2 of another shape"),
        ({"arguments": {"weights": "DEFAULT"}}, "its thinice header is damaged .*does not take weights"),
        ({"normalization": {"mean": [0.5]}}, "its thinice header is damaged"),
        ({"state_dict": None}, "its thinice header is damaged"),
        ({"state_dict": {"conv1.weight": 3}}, "conv1.weight is a int, not a tensor"),
        ({"state_dict": {}}, r"parameters do not fit digits_cnn: 17 missing \(conv1.weight, bn1.weight, bn1.bias, …\)"),
    ],
)
def test_damaged_headers_are_refused(change, message, tmp_path):
    path = save_classifier(build("digits_cnn"), tmp_path / "net.pt")
    torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(CheckpointError, match=rf"net\.pt: {message}"):
        load_classifier(path)


def test_damaged_safetensors_headers_are_refused(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    weights = dict(build("digits_cnn").state_dict())
    for text in ("{", "[1]", json.dumps({"format": "thinice"})):
        safetensors.save_file(weights, tmp_path / "net.safetensors", metadata={"thinice": text})
        with pytest.raises(CheckpointError, match=r"net\.safetensors: "):
            load_classifier(tmp_path / "net.safetensors")
    safetensors.save_file(weights, tmp_path / "foreign.safetensors")
    assert load_classifier(tmp_path / "foreign.safetensors").architecture == "digits_cnn"


def test_missing_extra_is_named(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    path.write_bytes((2).to_bytes(8, "little") + b"{}")
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'thinice\[safetensors\]'"):
        load_classifier(path)
    with pytest.raises(MissingExtraError, match=r"pip install 'thinice\[safetensors\]'"):
        save_classifier(build("digits_cnn"), tmp_path / "other.safetensors")
    assert not (tmp_path / "other.safetensors").exists()


# What must be refused -------------------------------------------------------------------------------------------------


class Touch:
    """A pickle that would make a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


class System(Touch):
    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", [Touch, System])
@pytest.mark.parametrize("place", ["alone", "beside", "inside"])
def test_pickled_code_is_never_run(kind, place, new, tmp_path):
    mark = tmp_path / "mark"
    evil = kind(mark)
    weights = build("digits_cnn").state_dict()
    held = {"alone": evil, "beside": {"state_dict": weights, "args": evil}, "inside": {**weights, "fc.bias": evil}}[
        place
    ]
    torch.save(held, tmp_path / "evil.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(
        CheckpointError, match=r"evil\.pt: wants to run \S+ while loading .* trust_pickle=True"
    ) as caught:
        load_classifier(tmp_path / "evil.pt")
    assert not mark.exists()
    assert "\n" not in str(caught.value)


def test_bookkeeping_beside_the_weights_is_left_unread(tmp_path):
    """Options and scores of research programs need not be trusted: they become stand-ins."""
    held = {
        "state_dict": build("digits_cnn").state_dict(),
        "args": argparse.Namespace(lr=0.1, path=Path("/somewhere")),
        "best": np.float64(0.93),
        "epoch": np.int64(3),
        "history": [np.float32(0.5)],
    }
    for new in (True, False):
        torch.save(held, tmp_path / "net.pt", _use_new_zipfile_serialization=new)
        assert load_classifier(tmp_path / "net.pt").architecture == "digits_cnn"


def test_whole_modules_need_trust(tmp_path):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    for held in (module, {"model": module, "epoch": 1}):
        torch.save(held, tmp_path / "module.pt")
        with pytest.raises(CheckpointError, match=r"wants to run torch\.nn\.modules\.\S+ while .*--trust-pickle"):
            load_classifier(tmp_path / "module.pt")
        classifier = load_classifier(tmp_path / "module.pt", trust_pickle=True, normalization="none")
        torch.testing.assert_close(classifier(inputs()), module(inputs()))
        assert classifier.classes == 3
        assert any("unpickled because you trusted it" in note for note in classifier.notes)
    with pytest.raises(InputError, match="`architecture` is not needed"):
        load_classifier(tmp_path / "module.pt", trust_pickle=True, architecture="digits_cnn")


def test_trusted_state_dicts_load_as_others(tmp_path):
    torch.save(build("digits_cnn").state_dict(), tmp_path / "net.pt")
    assert load_classifier(tmp_path / "net.pt", trust_pickle=True).architecture == "digits_cnn"


def archive(path, *names):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "{}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html>\n<html>404</html>", "an HTML page: the download gave a web page"),
        (b"  <html><body>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a git LFS pointer"),
        (b"accuracy 0.93\n", "text beginning 'accuracy 0.93'"),
        (b"\x1f\x8b\x08\x00rest", "a compressed archive: unpack it first"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x00\x01\x02\x03" * 9, "unknown bytes beginning 00 01 02 03"),
        (pickle.dumps({"weight": [1.0]}), "a bare pickle, which may run code"),
        (pickle.dumps(Touch("/nowhere/at/all"), protocol=2), "a bare pickle, which may run code"),
        (b"PK\x03\x04" + b"\x00" * 40, "is a truncated or damaged archive"),
        ((10**6).to_bytes(8, "little") + b"{}", "is a truncated safetensors file"),
        ((2**63).to_bytes(8, "little") + b"{}", "is a truncated safetensors file"),
    ],
)
def test_what_is_no_checkpoint_says_what_it_looks_like(content, message, tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_classifier(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_absurd_safetensors_headers_are_left_to_the_library(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "net.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    for content in (header, b"{" + b" " * 50, b"{not json}"):
        path.write_bytes(len(content).to_bytes(8, "little") + content)
        with pytest.raises(CheckpointError, match=r"net\.safetensors: is a damaged safetensors file"):
            load_classifier(path)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(new, part, tmp_path):
    path = tmp_path / "net.pt"
    torch.save(build("digits_cnn").state_dict(), path, _use_new_zipfile_serialization=new)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(CheckpointError, match=r"net\.pt: is truncated or damaged|net\.pt: is a truncated or damaged"):
        load_classifier(path)


def test_other_archives_are_named(tmp_path):
    path = tmp_path / "net.zip"
    archive(path, "readme")
    with pytest.raises(CheckpointError, match="is a zip archive but not a checkpoint"):
        load_classifier(path)
    archive(path, "net/data.pkl", "net/constants.pkl", "net/code/__torch__.py")
    with pytest.raises(CheckpointError, match="is a TorchScript program"):
        load_classifier(path)


@pytest.mark.parametrize("trusted", [False, True])
def test_exported_programs_are_refused(trusted, tmp_path):
    """Their operators take any argument, also one that writes where it must not."""
    path, renamed = tmp_path / "net.pt2", tmp_path / "net.pt"
    torch.export.save(torch.export.export(nn.Linear(4, 3), (torch.zeros(2, 4),)), path)
    renamed.write_bytes(path.read_bytes())
    cut = tmp_path / "cut.pt2"
    cut.write_bytes(path.read_bytes()[:-100])
    old, inductor = tmp_path / "old.zip", tmp_path / "inductor.pt2"
    archive(old, "version", "serialized_exported_program.json")
    archive(inductor, "net/data/aotinductor/model/net.so")
    for file in (path, renamed, cut, old, inductor):
        with pytest.raises(
            CheckpointError, match=r"is a torch\.export program .*run code and corrupt memory"
        ) as caught:
            load_classifier(file, trust_pickle=trusted)
        message = str(caught.value)
        assert message.startswith(str(file))
        assert "\n" not in message
        assert all(way in message for way in ("ONNX", "--architecture", "thinice.as_classifier(module)"))


def test_real_torchscript_is_named(tmp_path):
    with warnings.catch_warnings(action="ignore"):  # newer releases of torch deprecate it
        torch.jit.script(nn.Sequential(nn.Linear(2, 2))).save(tmp_path / "script.pt")
    with pytest.raises(CheckpointError, match=r"script\.pt: is a TorchScript program"):
        load_classifier(tmp_path / "script.pt")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.pt: no such file$"):
        load_classifier(tmp_path / "nowhere.pt")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_classifier(tmp_path)


@pytest.mark.parametrize("held", [{}, {"epoch": 3}, [torch.zeros(2)], 3, {"state_dict": {"epoch": 1}}, torch.zeros(3)])
def test_files_without_weights_are_refused(held, tmp_path):
    torch.save(held, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"net\.pt: holds no weights, only"):
        load_classifier(tmp_path / "net.pt")


def changed(change):
    state = dict(build("digits_cnn").state_dict())
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fc.bias"), r"1 missing \(fc\.bias\)"),
        (lambda state: state.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (
            lambda state: state.update({"conv2.weight": torch.zeros(32, 16, 5, 5)}),
            r"1 of another shape \(conv2\.weight \(32, 16, 5, 5\) instead of \(32, 16, 3, 3\)\)",
        ),
        (
            lambda state: [state.pop(f"bn{index}.weight") for index in (1, 2, 3)],
            r"3 missing \(bn1\.weight, bn2\.weight, bn3",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_listed(change, message, tmp_path):
    torch.save(changed(change), tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=rf"net\.pt: parameters do not fit digits_cnn: {message}"):
        load_classifier(tmp_path / "net.pt", architecture="digits_cnn")
    with pytest.raises(
        CheckpointError, match=r"net\.pt: parameters fit no known architecture; nearest: digits_cnn \(the file"
    ):
        load_classifier(tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            torch.tensor([float("nan"), 1.0, float("inf")] + [0.0] * 7),
            r"fc\.bias has 2 values that are NaN or infinite",
        ),
        (torch.zeros(10, dtype=torch.int8), r"fc\.bias: holds torch\.int8 instead of floating point"),
    ],
)
def test_bad_numbers_are_refused(value, message, tmp_path):
    torch.save(changed(lambda state: state.update({"fc.bias": value})), tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=rf"net\.pt: {message}"):
        load_classifier(tmp_path / "net.pt")


def test_nan_in_an_own_file_is_refused(tmp_path):
    network = build("digits_cnn")
    network.fc.weight.data[0, 0] = torch.nan
    path = save_classifier(network, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"net\.pt: fc\.weight has 1 values that are NaN"):
        load_classifier(path)


def test_wrong_class_count_is_refused(tmp_path):
    torch.save(build("digits_cnn", 10).state_dict(), tmp_path / "net.pt")
    assert load_classifier(tmp_path / "net.pt", classes=10).classes == 10
    for architecture in (None, "digits_cnn"):
        with pytest.raises(CheckpointError, match=r"net\.pt: answers 10 classes, not 100"):
            load_classifier(tmp_path / "net.pt", classes=100, architecture=architecture)


def test_names_come_from_the_file(tmp_path):
    for file, name in (("a.pth.tar", "a"), ("pruned-0.95.pt", "pruned-0.95"), ("b", "b")):
        torch.save(build("digits_cnn").state_dict(), tmp_path / file)
        assert load_classifier(tmp_path / file).name == name
    assert load_classifier(tmp_path / "b", name="mine").name == "mine"


def test_arguments_are_for_the_builder(tmp_path):
    torch.save(build("digits_cnn", 10, channels=3).state_dict(), tmp_path / "net.pt")
    loaded = load_classifier(tmp_path / "net.pt", architecture="digits_cnn", architecture_args={"channels": 3})
    assert (loaded.arguments, loaded.input_shape) == ({"channels": 3}, (3, 8, 8))
    assert load_classifier(tmp_path / "net.pt", architecture="digits_cnn").arguments == {"channels": 3}
    with pytest.raises(InputError, match="digits_cnn does not take depth"):
        load_classifier(tmp_path / "net.pt", architecture="digits_cnn", architecture_args={"depth": 3})


def test_loading_uses_up_no_random_numbers(tmp_path):
    torch.save(build("digits_cnn").state_dict(), tmp_path / "net.pt")
    own = save_classifier(build("digits_cnn"), tmp_path / "own.pt")
    state = torch.random.get_rng_state()
    for path in (tmp_path / "net.pt", own):
        load_classifier(path)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_kinds_are_told_from_bytes(tmp_path):
    pytest.importorskip("safetensors")
    network = build("digits_cnn")
    for suffix, kind in ((".pt", Container.TORCH), (".safetensors", Container.SAFETENSORS)):
        path = save_classifier(network, tmp_path / f"net{suffix}")
        renamed = path.rename(tmp_path / "file.bin")
        assert detect_format(renamed) is kind
        assert load_classifier(renamed).architecture == "digits_cnn"


def test_every_message_is_one_line_and_names_the_file(tmp_path):
    state = dict(build("digits_cnn").state_dict())
    state["fc.bias"] = torch.full((10,), torch.nan)
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(CheckpointError) as caught:
        load_classifier(tmp_path / "net.pt")
    assert re.fullmatch(r"[^\n]*net\.pt: [^\n]+: take another checkpoint", str(caught.value))


def test_an_option_of_no_such_name_is_a_mistake(tmp_path):
    with pytest.raises(TypeError, match=r"load_classifier\(\) has no option 'architectur': architecture, "):
        load_classifier(tmp_path / "net.pt", architectur="resnet20")


def test_where_another_file_alone_helps_no_other_way_is_offered(tmp_path):
    (tmp_path / "empty.pt").touch()
    for name in ("nowhere.pt", "empty.pt"):
        with pytest.raises(WrongFileError) as caught:
            load_classifier(tmp_path / name)
        assert "--architecture" not in str(caught.value)
    torch.save(build("digits_cnn").state_dict(), tmp_path / "net.pt")
    with pytest.raises(WrongFileError, match=r"answers 10 classes, not 7: take the checkpoint of that task$"):
        load_classifier(tmp_path / "net.pt", classes=7)
