"""The user's own architecture: code in a file, a module or a callable builds the network; the checkpoint stays data."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from torch import nn

from thinice.errors import CheckpointError, InputError
from thinice.models import as_classifier, build, load_classifier, save_classifier
from thinice.models.architectures.user_code import user_code
from thinice.pruning import prune

MODELS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=10, *, width=4):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, inputs):
        return self.head(ACTIVATION(self.bn(self.conv(inputs))).mean((2, 3)))

def ACTIVATION(maps):
    return torch.relu(maps)

def make(width):
    return Net(3, width=width)

class Normalising(Net):
    def __init__(self, num_classes=10):
        super().__init__(num_classes)
        self.register_buffer("mean", torch.tensor([0.4]))
        self.register_buffer("std", torch.tensor([0.2]))

    def forward(self, inputs):
        return super().forward((inputs - self.mean) / self.std)

class Wrapped(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.model = Net(n_classes)

    def forward(self, inputs):
        return self.model(inputs)

def nothing():
    return {"width": 4}

def broken(num_classes=10):
    raise ValueError("no weights\\nat all")

NUMBER = 7
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with models.py; what it registers with Python is forgotten afterwards."""
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


def made(folder, name, **arguments):
    """A network of models.py with weights that all count."""
    namespace = {"__name__": "models"}
    exec(compile(MODELS, str(folder / "models.py"), "exec"), namespace)
    network = namespace[name](**arguments).eval()
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 1)
    return network


def saved(network, folder, name="net.pth"):
    torch.save({"epoch": 3, "state_dict": network.state_dict()}, folder / name)
    return folder / name


INPUTS = torch.linspace(0, 1, 2 * 64).view(2, 1, 8, 8)


def test_a_class_in_a_file_builds_the_network_and_takes_the_classes_of_the_weights(folder):
    network = made(folder, "Net", num_classes=3, width=6)
    loaded = load_classifier(
        saved(network, folder), architecture=f"{folder}/models.py:Net", architecture_args={"width": 6}
    )
    torch.testing.assert_close(loaded(INPUTS), network(INPUTS))
    assert (loaded.architecture, loaded.classes) == ("models.py:Net(width=6)", 3)
    assert "architecture built by your own code, models.py:Net(width=6)" in loaded.notes


@pytest.mark.parametrize(
    ("name", "arguments"), [("make", {"width": 5}), ("Wrapped", {"n_classes": 4}), ("Net", {"num_classes": 5})]
)
def test_functions_wrappers_and_arguments_that_say_the_classes(folder, name, arguments):
    network = made(folder, name, **arguments)
    loaded = load_classifier(
        saved(network, folder), architecture=f"{folder}/models.py:{name}", architecture_args=arguments
    )
    torch.testing.assert_close(loaded(INPUTS), network(INPUTS))
    assert loaded.classes == next(reversed(network.state_dict().values())).shape[0]


def test_a_class_a_function_and_a_module_do_in_python(folder):
    network = made(folder, "Net", num_classes=3)
    path = saved(network, folder)
    given = made(folder, "Net", num_classes=3)
    before = given.head.weight.clone()
    expected = network(INPUTS)
    for architecture in (type(network), lambda classes: made(folder, "Net", num_classes=classes), given):
        loaded = load_classifier(path, architecture=architecture)
        torch.testing.assert_close(loaded(INPUTS), expected)
        assert loaded.classes == 3
    assert torch.equal(given.head.weight, before)
    assert load_classifier(path, architecture=type(network)).architecture == "models:Net"


def test_a_module_that_thinice_built_is_of_its_registry(tmp_path):
    path = saved(build("digits_cnn", 4), tmp_path)
    assert load_classifier(path, architecture=build("digits_cnn", 4)).architecture == "digits_cnn"


def test_code_in_a_module_is_found_from_the_working_folder(folder, monkeypatch):
    package = folder / "nets_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "small.py").write_text(MODELS)
    monkeypatch.chdir(folder)
    network = made(folder, "Net", num_classes=3)
    loaded = load_classifier(saved(network, folder), architecture="nets_of_mine.small:Net")
    assert (loaded.architecture, loaded.classes) == ("nets_of_mine.small:Net", 3)
    assert str(folder) not in sys.path


@pytest.mark.parametrize("statement", ["from parts_of_mine import ACTIVATION", "from .parts_of_mine import ACTIVATION"])
@pytest.mark.parametrize("package", [False, True])
def test_neighbours_can_be_imported_and_are_those_of_the_file(tmp_path, statement, package):
    """Two folders with neighbours of one name: each network gets its own, and Python forgets both."""
    expected = {"relu": 2.0, "neg": -2.0}
    path = tmp_path / "net.pt"
    torch.save({"weight": torch.tensor([2.0])}, path)
    for function, value in expected.items():
        folder = tmp_path / function
        folder.mkdir()
        if package:
            (folder / "__init__.py").write_text("")
        (folder / "parts_of_mine.py").write_text(f"import torch\nACTIVATION = torch.{function}\n")
        (folder / "models.py").write_text(
            f"{statement}\nimport torch\n"
            "class Net(torch.nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.weight = torch.nn.Parameter(torch.ones(1))\n"
            "    def forward(self, inputs):\n"
            "        return ACTIVATION(self.weight * inputs)\n"
        )
        for _ in range(2):
            loaded = load_classifier(path, architecture=f"{folder}/models.py:Net")
            assert loaded(torch.ones(1, 1)).item() == value
    assert "parts_of_mine" not in sys.modules
    assert not [entry for entry in sys.path if str(tmp_path) in entry]


def test_the_fingerprint_is_that_of_the_function_not_of_its_place(folder):
    network = made(folder, "Net", num_classes=3)
    path = saved(network, folder)
    moved = folder / "elsewhere"
    moved.mkdir()
    (moved / "nets.py").write_text(MODELS)
    (moved / "other.py").write_text(MODELS.replace("self.bn(self.conv(inputs))", "self.conv(inputs)"))
    here, there, other = (
        load_classifier(path, architecture=f"{file}:Net").fingerprint
        for file in (folder / "models.py", moved / "nets.py", moved / "other.py")
    )
    assert here == there == as_classifier(network).fingerprint
    assert other != here


def test_a_network_that_normalises_by_itself_keeps_its_normalisation(folder):
    network = made(folder, "Normalising", num_classes=3)
    loaded = load_classifier(saved(network, folder), architecture=f"{folder}/models.py:Normalising")
    torch.testing.assert_close(loaded(INPUTS), network(INPUTS))
    assert loaded.normalization is None


@pytest.mark.parametrize("outer", ["module.", "net.", "model."])
def test_prefixes_of_others_go_and_those_of_the_network_stay(folder, outer):
    network = made(folder, "Wrapped", n_classes=3)
    torch.save({f"{outer}{name}": value for name, value in network.state_dict().items()}, folder / "net.pt")
    loaded = load_classifier(folder / "net.pt", architecture=f"{folder}/models.py:Wrapped")
    torch.testing.assert_close(loaded(INPUTS), network(INPUTS))


def test_masks_scores_and_density_serve_own_code_too(folder):
    network = made(folder, "Net", num_classes=3)
    dense = {name: value.clone() for name, value in network.state_dict().items()}
    torch.nn.utils.prune.l1_unstructured(network.conv, "weight", 0.5)
    loaded = load_classifier(saved(network, folder), architecture=f"{folder}/models.py:Net")
    torch.testing.assert_close(loaded(INPUTS), network(INPUTS))
    assert int((loaded.network.conv.weight == 0).sum()) == 18
    mask = torch.zeros_like(dense["conv.weight"])
    torch.save({"state_dict": dense, "masks": {"conv.weight": mask}}, folder / "outside.pt")
    outside = load_classifier(folder / "outside.pt", architecture=f"{folder}/models.py:Net")
    assert int((outside.network.conv.weight == 0).sum()) == 36
    scores = dense | {"conv.popup_scores": torch.rand_like(mask), "head.popup_scores": torch.rand(3, 4)}
    torch.save(scores, folder / "scores.pt")
    hydra = load_classifier(folder / "scores.pt", architecture=f"{folder}/models.py:Net", density=0.5)
    assert hydra.sparsity == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("{folder}/absent.py:Net", r"`architecture` .*absent\.py:Net: there is no file .*absent\.py$"),
        ("{folder}/models.py:Nett", r"models\.py:Nett has no class or function Nett; nearest: Net"),
        ("{folder}/models.py:NUMBER", r"models\.py:NUMBER has no class or function NUMBER; nearest: "),
        ("{folder}/models.py:", r"models\.py: names no class; nearest: "),
        ("{folder}/models.py", r"names no class: write .*models\.py:CLASS"),
        ("{folder}/models.py:nothing", r"models\.py:nothing returned dict, not a torch\.nn\.Module"),
        (
            "{folder}/models.py:broken",
            r":broken raises ValueError when it is called with \{\}: no weights at all$",
        ),
        ("{folder}/wrong.py:Net", r"wrong\.py:Net raises SyntaxError when it is imported"),
        ("{folder}/ends.py:Net", r"ends\.py:Net raises SystemExit when it is imported from .*: 2$"),
        (
            "no_such_package_of_mine.nets:Net",
            r"raises ModuleNotFoundError .*: No module named 'no_such_package",
        ),
        ("{folder}/models.py:make", r"models\.py:make raises TypeError when it is called with \{\}: .*'width'$"),
    ],
)
def test_errors_are_one_line_that_names_what_is_wrong(folder, architecture, message):
    (folder / "wrong.py").write_text("class Net(:\n")
    (folder / "ends.py").write_text("raise SystemExit(2)\n")
    path = saved(made(folder, "Net", num_classes=3), folder)
    with pytest.raises(InputError, match=message) as caught:
        load_classifier(path, architecture=architecture.format(folder=folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("architecture", "arguments"), [(3, None), (nn.Linear(2, 2), {"width": 3})])
def test_what_is_no_architecture_is_refused(folder, architecture, arguments):
    path = saved(made(folder, "Net", num_classes=3), folder)
    with pytest.raises(InputError, match="`architecture"):
        load_classifier(path, architecture=architecture, architecture_args=arguments)


def test_keys_that_do_not_fit_are_named(folder):
    state = made(folder, "Net", num_classes=3, width=6).state_dict()
    state["tail.weight"] = state.pop("conv.bias")
    torch.save(state, folder / "net.pt")
    with pytest.raises(CheckpointError) as caught:
        load_classifier(folder / "net.pt", architecture=f"{folder}/models.py:Net")
    message = str(caught.value)
    assert "net.pt: parameters do not fit models.py:Net: 1 missing (conv.bias); 1 unexpected (tail.weight); " in message
    assert "conv.weight (6, 1, 3, 3) instead of (4, 1, 3, 3)" in message
    assert "\n" not in message


def test_another_number_of_classes_than_asked_for_is_refused(folder):
    path = saved(made(folder, "Net", num_classes=3), folder)
    with pytest.raises(CheckpointError, match="answers 3 classes, not 10"):
        load_classifier(path, architecture=f"{folder}/models.py:Net", classes=10)


def test_random_numbers_are_not_used_up(folder):
    path = saved(made(folder, "Net", num_classes=3), folder)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_classifier(path, architecture=f"{folder}/models.py:Net")
    assert torch.equal(torch.rand(3), expected)


def test_the_checkpoint_stays_data(folder):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"state_dict": made(folder, "Net").state_dict(), "x": Evil()}, folder / "evil.pt")
    with pytest.raises(CheckpointError, match="wants to run"):
        load_classifier(folder / "evil.pt", architecture=f"{folder}/models.py:Net")


@pytest.mark.parametrize("name", ["own.pt", "own.safetensors"])
def test_a_saved_file_says_which_code_is_needed(folder, name):
    network = made(folder, "Net", num_classes=3, width=6)
    code = f"{folder}/models.py:Net"
    loaded = load_classifier(saved(network, folder), architecture=code, architecture_args={"width": 6})
    path = save_classifier(loaded, folder / name, data="digits")
    with pytest.raises(CheckpointError, match=r"user's own code models\.py:Net\(width=6\): give architecture="):
        load_classifier(path)
    again = load_classifier(path, architecture=code)
    assert (again.fingerprint, again.architecture, again.data) == (loaded.fingerprint, loaded.architecture, "digits")
    assert again.notes == ("normalisation is not known; pixels go in as they are (normalization=, --normalization)",)
    torch.testing.assert_close(again(INPUTS), network(INPUTS))


def test_a_saved_file_with_other_code_is_noted(folder):
    code = f"{folder}/models.py:Net"
    path = save_classifier(made(folder, "Net", num_classes=3), folder / "own.pt", architecture=code)
    (folder / "other.py").write_text(MODELS.replace("self.bn(self.conv(inputs))", "self.conv(inputs)"))
    other = load_classifier(path, architecture=f"{folder}/other.py:Net")
    assert any("is not what the file was saved with" in note for note in other.notes)
    assert other.fingerprint != load_classifier(path, architecture=code).fingerprint


def test_a_pruned_copy_of_own_code_is_saved_and_loaded(folder):
    code = f"{folder}/models.py:Net"
    dense = load_classifier(saved(made(folder, "Net", num_classes=3), folder), architecture=code)
    pruned = prune(dense, sparsity=0.5)
    path = save_classifier(pruned.module, folder / "pruned.pt", architecture=code, parent=dense)
    loaded = load_classifier(path, architecture=code)
    assert (loaded.architecture, loaded.parent) == ("models.py:Net", dense.fingerprint)
    assert loaded.sparsity == pytest.approx(0.5, abs=0.02)


def test_a_file_of_the_registry_refuses_own_code(folder):
    path = save_classifier(build("digits_cnn", 3), folder / "digits.pt")
    with pytest.raises(InputError, match=r"`architecture` is models\.py:Net, but .* says digits_cnn: leave"):
        load_classifier(path, architecture=f"{folder}/models.py:Net")


def test_what_is_not_own_code_is_left_to_the_registry():
    assert user_code(None) is user_code("resnet20") is user_code("torchvision:resnet50") is None


def test_arguments_must_be_plain_to_be_saved(folder):
    def make(num_classes, activation):
        assert activation is json
        return made(folder, "Net", num_classes=num_classes)

    path = saved(made(folder, "Net", num_classes=3), folder)
    loaded = load_classifier(path, architecture=make, architecture_args={"activation": json})
    with pytest.raises(InputError, match="`arguments` must be plain"):
        save_classifier(loaded, folder / "own.pt")
