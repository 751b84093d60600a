"""Which entry of a file is taken, and that the rest is said: logits are those of the network that was asked for."""

import argparse
import collections
import datetime as dt
import random
import types
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from tests.models.test_research_formats import inputs, trained
from thinice.errors import CheckpointError, InputError
from thinice.models import load_classifier


def load(held, folder, **said):
    path = folder / "net.pt"
    torch.save(held, path)
    return load_classifier(path, normalization="none", **said)


def assert_same(classifier, network):
    with torch.no_grad():
        torch.testing.assert_close(classifier(inputs()), network(inputs()), atol=1e-6, rtol=0)


def noted(classifier, *words):
    """Whether one note has all these words."""
    return any(all(word in note for word in words) for note in classifier.notes)


OTHERS = (
    ("state_dict", "state_dict_ema"),
    ("state_dict", "ema"),
    ("model", "model_ema"),
    ("model", "ema_model"),
    ("state_dict", "best_model"),
    ("net", "best_state_dict"),
    ("student", "teacher"),
    ("student_state_dict", "teacher_state_dict"),
    ("state_dict", "swa_state_dict"),
    ("model", "my_old_weights"),
)


@pytest.mark.parametrize(("taken", "other"), OTHERS)
def test_other_weights_are_named_and_can_be_taken(taken, other, tmp_path):
    one, two = trained(), trained()
    held = {"epoch": 3, other: {f"module.{k}": v for k, v in two.state_dict().items()}, taken: one.state_dict()}
    classifier = load(held, tmp_path)
    assert_same(classifier, one)
    assert noted(classifier, f"weights found under {taken}")
    assert noted(classifier, "other weights of such a network", other, f"--weights {other}")
    classifier = load(held, tmp_path, weights=other)
    assert_same(classifier, two)
    assert noted(classifier, f"weights found under {other}")
    assert noted(classifier, "other weights", taken)


def test_the_only_network_is_taken_under_any_name(tmp_path):
    network = trained()
    state = network.state_dict()
    for held in (
        {"epoch": 1, "net_state": state},
        {"acc": torch.tensor(0.9), "mean": torch.zeros(3), "my_weights": state},
        {"checkpoint": {"inner": state, "optimizer": {"state": {0: {"momentum": torch.zeros(16, 1, 3, 3)}}}}},
        {"state_dict": {"sub": state}},
        collections.OrderedDict(state),
        {"a": {"b": {"c": {"state_dict": state}}}},
    ):
        assert_same(load(held, tmp_path), network)


def test_several_networks_without_a_usual_name_are_asked_for(tmp_path):
    one, two = trained(), trained()
    held = {"first": one.state_dict(), "second": two.state_dict()}
    with pytest.raises(CheckpointError, match=r"holds several networks: first, second: .*--weights first"):
        load(held, tmp_path)
    assert_same(load(held, tmp_path, weights="second"), two)
    with pytest.raises(InputError, match=r"`weights` 'third' is no entry of .*: it has first, second"):
        load({**held, "state_dict": one.state_dict()}, tmp_path, weights="third")


def test_entries_are_named_by_dots(tmp_path):
    one, two = trained(), trained()
    held = {"nets": {"dense": one.state_dict(), "sparse.last": {"model": two.state_dict()}}}
    assert_same(load(held, tmp_path, weights="nets.dense"), one)
    assert_same(load(held, tmp_path, weights="nets.sparse.last"), two)


@pytest.mark.parametrize("nest", [None, "state_dict"])
def test_student_and_teacher_in_one_state_dict(nest, tmp_path):
    one, two = trained(), trained()
    state = {f"teacher.{k}": v for k, v in two.state_dict().items()}
    state |= {f"student.{k}": v for k, v in one.state_dict().items()} | {"center": torch.zeros(1, 10)}
    held = state if nest is None else {nest: state}
    classifier = load(held, tmp_path, weights="teacher")
    assert_same(classifier, two)
    classifier = load(held, tmp_path)
    assert_same(classifier, one)
    assert noted(classifier, "under student", "another network under teacher", "--weights")
    assert noted(classifier, "center beside the networks not used")
    other = {name.replace("student", "encoder_q").replace("teacher", "encoder_k"): v for name, v in state.items()}
    with pytest.raises(CheckpointError, match=r"several networks, under encoder_k, encoder_q: .*--weights encoder_k"):
        load(other, tmp_path)
    assert_same(load(other, tmp_path, weights="encoder_q"), one)


@pytest.mark.parametrize("ending", [".shadow", "_ema", ".ema"])
def test_averages_beside_the_parameters(ending, tmp_path):
    one, two = trained(), trained()
    state = {**one.state_dict(), **{f"{k}{ending}": v for k, v in two.named_parameters()}}
    classifier = load(state, tmp_path)
    assert_same(classifier, one)
    assert noted(classifier, "averaged copies", ending, "--weights")
    averaged = load(state, tmp_path, weights=ending.strip("._"))
    mixed = trained()
    mixed.load_state_dict({**one.state_dict(), **dict(two.named_parameters())})
    assert_same(averaged, mixed)


def test_averages_listed_without_names(tmp_path):
    one, two = trained(), trained()
    ema = {"decay": 0.99, "num_updates": 3, "shadow_params": [value.detach() for value in two.parameters()]}
    held = {"net": one.state_dict(), "ema": {**ema, "collected_params": None}}
    assert_same(load(held, tmp_path), one)
    mixed = trained()
    mixed.load_state_dict({**one.state_dict(), **dict(two.named_parameters())})
    classifier = load(held, tmp_path, weights="ema")
    assert_same(classifier, mixed)
    assert noted(classifier, "11 parameters replaced by those that ema lists")
    held["ema"]["shadow_params"].pop()
    with pytest.raises(CheckpointError, match="ema lists 10 tensors, which are not the 11 parameters"):
        load(held, tmp_path, weights="ema")


class Average:
    """An average that is pickled as the object that computes it; its code is not needed."""

    def __init__(self, shadow):
        self.decay, self.shadow = 0.99, shadow


@pytest.mark.parametrize("prefix", ["", "module."])
def test_averages_without_statistics_get_those_of_the_network(prefix, tmp_path):
    one, two = trained(), trained()
    shadow = {name: value.detach() for name, value in two.named_parameters()}
    held = {"model": {f"{prefix}{name}": value for name, value in one.state_dict().items()}, "ema": Average(shadow)}
    classifier = load(held, tmp_path)
    assert_same(classifier, one)
    assert noted(classifier, "not used: ema (11 tensors, 4 of the weights' shapes)") or noted(classifier, "ema.shadow")
    mixed = trained()
    mixed.load_state_dict({**one.state_dict(), **dict(two.named_parameters())})
    classifier = load(held, tmp_path, weights="ema.shadow")
    assert_same(classifier, mixed)
    assert noted(classifier, "11 parameters replaced by those under ema.shadow")


def test_attackers_of_madry_are_copies(tmp_path):
    network = trained()
    held = {f"module.model.{k}": v for k, v in network.state_dict().items()}
    held |= {f"module.attacker.model.{k}": v for k, v in network.state_dict().items()}
    for layer in ("normalizer", "attacker.normalize"):
        held |= {
            f"module.{layer}.new_mean": torch.full((1, 1, 1), 0.5),
            f"module.{layer}.new_std": torch.full((1, 1, 1), 0.25),
        }
    torch.save({"model": held}, tmp_path / "net.pt")
    classifier = load_classifier(tmp_path / "net.pt")
    assert classifier.normalization == ((0.5,), (0.25,))
    assert_same(classifier, lambda x: network((x - 0.5) / 0.25))


def test_what_holds_tensors_is_named(tmp_path):
    network = trained()
    optimizer = torch.optim.Adam(network.parameters())
    network(inputs()).sum().backward()
    optimizer.step()
    shapes = [torch.rand_like(value) for value in network.parameters()]
    held = {
        "state_dict": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scores": dict(zip("abc", shapes, strict=False)),
        "ema": {"shadow_params": shapes},
        "rng": torch.get_rng_state(),
        "epoch": 3,
    }
    classifier = load(held, tmp_path)
    assert_same(classifier, network)
    assert noted(
        classifier,
        "not used",
        "optimizer (33 tensors, 8 of the weights' shapes)",
        "ema (11 tensors, 4 of",
        "scores (3",
        "rng (1",
    )
    assert not noted(classifier, "epoch")


@pytest.mark.parametrize("numbers", [([0.25], [0.5]), (torch.tensor([0.25]), np.array([0.5])), (0.25, 0.5)])
def test_normalisation_beside_the_weights_is_named(numbers, tmp_path):
    network = trained()
    torch.save({"net": network.state_dict(), "mean": numbers[0], "std": numbers[1]}, tmp_path / "net.pt")
    classifier = load_classifier(tmp_path / "net.pt")
    assert_same(classifier, network)
    assert not classifier.normalization_known
    assert noted(classifier, "mean and std beside the weights", "--normalization 0.25/0.5")


def test_nested_weights_are_put_together(tmp_path):
    network = trained()
    nested = {}
    for name, value in network.state_dict().items():
        layer, _, leaf = name.rpartition(".")
        nested.setdefault(layer, {})[leaf] = value
    classifier = load({"epoch": 1, "weights": None, **nested}, tmp_path)
    assert_same(classifier, network)
    assert noted(classifier, "nested by layer")


# Bookkeeping ----------------------------------------------------------------------------------------------------------


class AttributeDict(dict):
    """Pickled as Lightning's: by a name that this module does not have."""


AttributeDict.__module__, AttributeDict.__qualname__ = "lightning.fabric.utilities.data", "AttributeDict"


@pytest.fixture
def lightning(monkeypatch):
    """A module of that name while files are written."""
    import sys  # noqa: PLC0415

    for name in ("lightning", "lightning.fabric", "lightning.fabric.utilities", "lightning.fabric.utilities.data"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["lightning.fabric.utilities.data"].AttributeDict = AttributeDict


def bookkeeping():
    def grid():
        return collections.defaultdict(list, {"acc": [0.5, np.float32(0.75)]})

    return {
        "history": grid(),
        "ordered": collections.OrderedDict(a=1),
        "counter": collections.Counter("aab"),
        "deque": collections.deque([1.0, 2.0], maxlen=5),
        "args": argparse.Namespace(lr=0.1, sizes=(1, 2)),
        "simple": types.SimpleNamespace(seed=0),
        "array": np.arange(12, dtype=np.float64).reshape(3, 4),
        "fortran": np.asfortranarray(np.eye(3, dtype=">i4")),
        "names": np.array(["a", "b"]),
        "objects": np.array([None, "x"], dtype=object),
        "numpy": np.random.RandomState(0).get_state(),
        "generator": np.random.default_rng(0),
        "random_state": np.random.RandomState(1),
        "python": random.getstate(),
        "torch": torch.get_rng_state(),
        "device": torch.device("cpu"),
        "dtype": torch.bfloat16,
        "numpy_dtype": np.dtype("float32"),
        "size": torch.Size([1, 2]),
        "layout": torch.sparse_coo,
        "version": torch.__version__,
        "when": dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
        "took": dt.timedelta(seconds=3),
        "kinds": (int, float, list),
        "frozen": frozenset({1, 2}),
        "bytes": b"",
        "slice": slice(1, 2),
        "complex": 1j,
        "bool": np.bool_(True),
        "optimizer": torch.optim.SGD([nn.Parameter(torch.zeros(2))], 0.1),
        "criterion": nn.CrossEntropyLoss(),
    }


@pytest.mark.usefixtures("lightning")
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_bookkeeping_runs_nothing_and_is_passed_over(new, tmp_path):
    network = trained()
    held = {"state_dict": network.state_dict(), "hparams": AttributeDict(width=3), **bookkeeping()}
    if not new:
        torch.save(held, tmp_path / "net.pt", _use_new_zipfile_serialization=new)
        with pytest.raises(CheckpointError, match=r"holds a pickled module in torch's old format: .*--trust-pickle"):
            load_classifier(tmp_path / "net.pt")
        del held["criterion"]  # the source of its class comes along
    torch.save(held, tmp_path / "net.pt", _use_new_zipfile_serialization=new)
    classifier = load_classifier(tmp_path / "net.pt", normalization="none")
    assert_same(classifier, network)
    assert noted(classifier, "not used", "array (1 tensor)", "torch (1 tensor)")


@pytest.mark.parametrize("kind", list(bookkeeping()))
def test_each_kind_of_bookkeeping_alone(kind, tmp_path):
    network = trained()
    assert_same(load({"state_dict": network.state_dict(), kind: bookkeeping()[kind]}, tmp_path), network)


class Meter:
    """As training programs keep them beside the weights; unpickled, it would make a file."""

    def __init__(self, path):
        self.path, self.average = path, 0.5

    def __setstate__(self, state):
        raise AssertionError("the code of a file ran")


class Settings(dict):
    __setattr__ = dict.__setitem__


class History(list):
    pass


class Scores(NamedTuple):
    clean: float
    robust: torch.Tensor


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_objects_of_own_code_are_data(new, tmp_path):
    network = trained()
    tensors = {"kept": torch.ones(3)}
    held = {
        "state_dict": network.state_dict(),
        "meter": Meter("a"),
        "config": Settings(lr=0.1, inner=Settings(tensors)),
        "history": History([0.5, 0.75]),
        "scores": Scores(0.9, torch.zeros(2)),
        "kind": Meter,
    }
    torch.save(held, tmp_path / "net.pt", _use_new_zipfile_serialization=new)
    classifier = load_classifier(tmp_path / "net.pt", normalization="none")
    assert_same(classifier, network)
    assert noted(classifier, "not used", "config (1 tensor)", "scores (1 tensor)")


class Called:
    def __reduce__(self):
        return (Meter, ("a",))


def test_calls_of_own_code_are_refused(tmp_path):
    torch.save({"state_dict": trained().state_dict(), "meter": Called()}, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"wants to run tests\.models\.test_entries\.Meter .*--trust-pickle"):
        load_classifier(tmp_path / "net.pt")


def test_weights_may_be_arrays_or_lie_in_default_dicts(tmp_path):
    network = trained()
    arrays = {name: value.numpy() for name, value in network.state_dict().items()}
    assert_same(load(collections.defaultdict(dict, {"state_dict": arrays}), tmp_path), network)
    assert_same(load({"args": 3, "params": argparse.Namespace(**arrays)}, tmp_path), network)


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("layout", ["sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr"])
@pytest.mark.parametrize("trusted", [True, False])
def test_sparse_weights_become_dense(layout, trusted, tmp_path):
    network = trained()
    prune.l1_unstructured(network.fc, "weight", amount=0.9)
    prune.remove(network.fc, "weight")
    state = dict(network.state_dict())
    with warnings.catch_warnings(action="ignore"):
        if layout == "sparse_coo":
            state |= {name: value.to_sparse() for name, value in state.items() if value.ndim in {2, 4}}
        else:
            more = {"blocksize": (2, 2)} if layout == "sparse_bsr" else {}
            state["fc.weight"] = state["fc.weight"].to_sparse(layout=getattr(torch, layout), **more)
        classifier = load(state, tmp_path, trust_pickle=trusted)
    assert_same(classifier, network)
    assert classifier.sparsity == pytest.approx(0.9 * 5120 / 19088, abs=1e-4)


def test_sparse_numbers_at_one_place_are_added(tmp_path):
    network = trained()
    state = dict(network.state_dict())
    twice = torch.tensor([[0, 0], [1, 1]])
    state["fc.weight"] = torch.sparse_coo_tensor(twice, torch.tensor([1.0, 2.0]), (10, 512), check_invariants=True)
    expected = torch.zeros(10, 512)
    expected[0, 1] = 3
    assert torch.equal(load(state, tmp_path).module.fc.weight, expected)


def test_quantised_files_are_one_sentence(tmp_path):
    with warnings.catch_warnings(action="ignore"):
        quantised = torch.ao.quantization.quantize_dynamic(trained(), {nn.Linear}, dtype=torch.qint8)
        state = quantised.state_dict()
        torch.save(state, tmp_path / "net.pt")
        torch.save(quantised, tmp_path / "module.pt")
        for path, trusted in (
            (tmp_path / "net.pt", False),
            (tmp_path / "net.pt", True),
            (tmp_path / "module.pt", True),
        ):
            with pytest.raises(
                (CheckpointError, InputError), match=r"is quantised.* in float32, before it is quantised"
            ):
                load_classifier(path, trust_pickle=trusted)


def test_missing_classes_of_trusted_pickles_are_named(tmp_path, monkeypatch):
    import sys  # noqa: PLC0415

    module = types.ModuleType("somebodys_models")
    exec("from torch import nn\nclass Net(nn.Linear):\n    pass\n", vars(module))
    monkeypatch.setitem(sys.modules, "somebodys_models", module)
    torch.save({"net": module.Net(2, 2)}, tmp_path / "net.pt")
    del module.Net
    with pytest.raises(CheckpointError, match=r"needs the class Net of the module somebodys_models.*PYTHONPATH"):
        load_classifier(tmp_path / "net.pt", trust_pickle=True)
    monkeypatch.delitem(sys.modules, "somebodys_models")
    with pytest.raises(
        CheckpointError, match=r"needs the module somebodys_models.*install somebodys_models.*PYTHONPATH"
    ):
        load_classifier(tmp_path / "net.pt", trust_pickle=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("conv1.weight_fake_quant.scale", "prepared for quantisation"),
        ("act.activation_post_process.min_val", "prepared for quantisation"),
        ("fc.weight.absmax", "quantised weights"),
        ("fc.weight_scale", "quantised weights"),
        ("fc.weight.bitmask", "compressed-tensors"),
    ],
)
def test_known_formats_that_cannot_be_read_are_one_sentence(name, message, tmp_path):
    with pytest.raises(CheckpointError, match=rf"{name}: belongs to .*{message}.*save the"):
        load({**trained().state_dict(), name: torch.rand(2)}, tmp_path)


@pytest.mark.parametrize("nest", [lambda networks: {"state_dict": networks, "err": 0.02}, list, tuple])
def test_lists_of_state_dicts_are_entries_by_position(nest, tmp_path):
    """Convex_adversarial saves a cascade of networks as a list, also where it is of one."""
    first, second = trained(), trained()
    alone = load(nest([first.state_dict()]), tmp_path)
    assert_same(alone, first)
    assert noted(alone, "weights found under ", "0")
    both = nest([first.state_dict(), second.state_dict()])
    entries = "state_dict.0, state_dict.1" if isinstance(both, dict) else "0, 1"
    with pytest.raises(CheckpointError, match=f"holds several networks: {entries}: say which one with") as error:
        load(both, tmp_path)
    assert f"(--weights {entries.partition(',')[0]})" in str(error.value)
    assert_same(load(both, tmp_path, weights=entries.rpartition(" ")[2]), second)
