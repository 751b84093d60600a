"""Snapshots: what they refuse to continue, in words that name it, and what they survive."""

import copy
import os
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.small import blobs, network, weights
from thinice.data import as_samples
from thinice.errors import CheckpointError, InputError
from thinice.models import Normalized, build
from thinice.pruning import prune
from thinice.training import Hook, Recipe, train
from thinice.training.natural import Natural

RECIPE = Recipe(epochs=1)


@dataclass
class Weigh(Hook):
    factors: torch.Tensor
    power: float = 1.0


def resumed(path, module=None, samples=None, recipe=RECIPE, **keywords):
    """Train with a snapshot; all but what is given is what made the snapshot."""
    module = network() if module is None else module
    return train(module, blobs() if samples is None else samples, recipe, resume=path, **keywords)


def masks(sparsity):
    return prune(network(), sparsity=sparsity).masks


def others():
    """Trainings that differ from the plain one in one thing, and what the refusal says of it."""
    samples = blobs()
    brighter = as_samples(samples.inputs + 0.1, samples.labels)
    turned = as_samples(samples.inputs, 1 - samples.labels)
    unbiased = nn.Sequential(*network()[:-1], nn.Linear(64, 2, bias=False))
    smoother = nn.Sequential(*[nn.GELU() if isinstance(layer, nn.ReLU) else layer for layer in network()])
    frozen = network()
    frozen[0].requires_grad_(requires_grad=False)
    brightened = Normalized(network(), mean=(0.25,), std=(0.5,))
    return {
        "epochs": ({"recipe": Recipe(epochs=2)}, "recipe.epochs was 1, is 2"),
        "two": ({"recipe": Recipe(epochs=2, seed=5)}, "recipe.epochs was 1, is 2; recipe.seed was 0, is 5"),
        "objective": ({"objective": Natural(0.1)}, "objective.label_smoothing was 0.0, is 0.1"),
        "masks": ({"masks": masks(0.5)}, "masks was None, is '"),
        "images": ({"samples": brighter}, "data was '"),
        "labels": ({"samples": turned}, "data was '"),
        "fewer": ({"samples": samples[:50]}, "data was '"),
        "layers": ({"module": unbiased}, "network.structure was '"),
        "activation": ({"module": smoother}, "network.structure was '"),
        "chosen by": ({"validation": samples[:20]}, "validation was None, is '"),
        "normalised": (
            {"module": brightened},
            "network.normalization was None, is '0.25/0.5'; network.structure was '",
        ),
        "frozen": ({"module": frozen}, "network.structure was '"),
        "hooks": ({"hooks": [Hook()]}, "hooks was [], is [{'class': "),
    }


@pytest.mark.parametrize("case", others())
def test_another_training_is_not_resumed(tmp_path, case):
    path = tmp_path / "state.pt"
    resumed(path)
    before = path.read_bytes()
    changes, difference = others()[case]
    with pytest.raises(CheckpointError) as error:
        resumed(path, **changes)
    message = str(error.value)
    assert message.startswith(f"{path} belongs to another training ({difference}")
    assert message.endswith("remove it, or choose another path")
    assert "\n" not in message
    assert path.read_bytes() == before
    path.unlink()  # the way out works
    assert len(resumed(path, **changes)) == changes.get("recipe", RECIPE).epochs


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        (
            Normalized(network(), mean=(0.5,), std=(0.5,)),
            Normalized(network(), mean=(0.25,), std=(0.5,)),
            "network.normalization was 'half', is '0.25/0.5'",
        ),
        (
            build("preact_resnet18_cifar", 2, channels=1, width=4, shortcut="activated"),
            build("preact_resnet18_cifar", 2, channels=1, width=4, shortcut="raw"),
            "network.arguments.shortcut was 'activated', is 'raw'",
        ),
    ],
)
def test_the_same_layers_may_be_another_network(tmp_path, first, second, difference):
    """What neither names nor shapes of layers tell: a file would bring its own normalisation, or train on for raw."""
    path, samples = tmp_path / "state.pt", as_samples(torch.rand(8, 1, 16, 16), torch.arange(8) % 2)
    samples = blobs(8) if isinstance(first, Normalized) else samples
    resumed(path, first, samples)
    with pytest.raises(CheckpointError, match="belongs to another training") as error:
        resumed(path, second, samples)
    assert difference in str(error.value)


@pytest.mark.parametrize("case", others())
def test_overwriting_begins_anew(tmp_path, case):
    """The same weights as without a snapshot: nothing of the other training is left."""
    path, changes = tmp_path / "state.pt", others()[case][0]
    resumed(path)
    module = changes.pop("module", network())
    undisturbed = copy.deepcopy(module)
    history = resumed(path, module, overwrite=True, **changes)
    assert len(history) == changes.get("recipe", RECIPE).epochs
    changes = {"samples": blobs(), "recipe": RECIPE} | changes
    train(undisturbed, changes.pop("samples"), changes.pop("recipe"), **changes)
    assert torch.equal(weights(module), weights(undisturbed))


def test_overwriting_goes_on_with_its_own_snapshot_and_leaves_what_is_none(tmp_path):
    path = tmp_path / "state.pt"
    resumed(path)
    told = []
    assert len(resumed(path, overwrite=True, progress=told.append)) == 1
    assert not told
    torch.save(torch.load(path, weights_only=True) | {"format": 0}, path)
    resumed(path, overwrite=True, progress=told.append)
    assert len(told) == 1
    path.write_text("my notes")
    with pytest.raises(CheckpointError, match="is not a snapshot of a training: choose another path"):
        resumed(path, overwrite=True)
    assert path.read_text() == "my notes"


def test_settings_of_hooks_are_compared(tmp_path):
    path = tmp_path / "state.pt"
    resumed(path, hooks=[Weigh(torch.ones(3))])
    resumed(path, hooks=[Weigh(torch.ones(3))])
    with pytest.raises(CheckpointError, match=r"hooks\.power was 1\.0, is 2\.0"):
        resumed(path, hooks=[Weigh(torch.ones(3), 2.0)])
    with pytest.raises(CheckpointError, match=r"hooks\.factors was '"):
        resumed(path, hooks=[Weigh(torch.zeros(3))])


def test_a_second_round_of_pruning_does_not_return_the_first(tmp_path):
    """Same recipe, same samples, same path: without the masks in the key, round two would be round one's weights."""
    path = tmp_path / "state.pt"
    first = prune(network(), sparsity=0.5)
    train(first.module, blobs(), RECIPE, masks=first.masks, resume=path)
    second = prune(first.module, sparsity=0.75)
    before = weights(second.module)
    with pytest.raises(CheckpointError, match=r"masks was '.*', is '"):
        train(second.module, blobs(), RECIPE, masks=second.masks, resume=path)
    assert torch.equal(weights(second.module), before)
    train(second.module, blobs(), RECIPE, masks=second.masks, resume=tmp_path / "second.pt")
    assert second.masks.sparsity == pytest.approx(0.75, abs=0.01)
    assert not torch.equal(weights(second.module), before)


def test_masks_on_another_device_or_in_another_order_are_the_same(tmp_path):
    path = tmp_path / "state.pt"
    held = masks(0.5)
    resumed(path, masks=held)
    turned = type(held)(dict(reversed([(name, mask.clone()) for name, mask in held.kept.items()])))
    assert len(resumed(path, masks=turned)) == 1


def test_the_order_of_parameters_is_no_matter(tmp_path):
    """Taking a parametrisation back moves a weight behind its bias; a file must not give one the other's momentum."""
    path = tmp_path / "state.pt"
    recipe = Recipe(epochs=2)

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resumed(path, recipe=recipe, progress=stop)
    turned, whole = network(), network()
    turned[5].weight = turned[5]._parameters.pop("weight")
    assert [name for name, _ in turned.named_parameters()] != [name for name, _ in whole.named_parameters()]
    resumed(path, turned, recipe=recipe)
    train(whole, blobs(), recipe)
    assert all(torch.equal(value, turned.state_dict()[name]) for name, value in whole.state_dict().items())


def damage(state, case):
    if case == "epoch":
        state["history"] = [{"number": 1}]
    elif case == "number":
        state["history"][0]["number"] = 7
    elif case == "shape":
        state["module"]["0.weight"] = torch.zeros(1)
    elif case == "missing":
        del state["module"]["0.weight"]
    elif case == "momentum":
        state["optimizer"][0]["momentum_buffer"] = torch.zeros(3)
    elif case == "hooks":
        state["hooks"] = [{}, {}]
    elif case == "no history":
        del state["history"]
    elif case == "final":
        state["final"] = {"0.weight": torch.zeros(1)}
    elif case == "text":
        state["optimizer"] = "none"
    return state


@pytest.mark.parametrize(
    "case", ["epoch", "number", "shape", "missing", "momentum", "hooks", "no history", "final", "text"]
)
def test_a_damaged_snapshot_is_one_line(tmp_path, case):
    path = tmp_path / "state.pt"
    resumed(path)
    torch.save(damage(torch.load(path, weights_only=True), case), path)
    with pytest.raises(CheckpointError, match="is a damaged snapshot: remove it, or choose another path") as error:
        resumed(path)
    assert "\n" not in str(error.value)


class Runs:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("where", ["key", "history", "file"])
def test_no_code_of_a_file_runs(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "state.pt"
    resumed(path)
    state = torch.load(path, weights_only=True)
    if where == "file":
        path.write_bytes(pickle.dumps(Runs()))
    else:
        state[where] = Runs()
        torch.save(state, path)
    with pytest.raises(CheckpointError, match="is not a snapshot of a training"):
        resumed(path)
    assert not (tmp_path / "ran").exists()


def test_a_file_cannot_fill_the_screen(tmp_path):
    path = tmp_path / "state.pt"
    resumed(path)
    state = torch.load(path, weights_only=True)
    state["key"]["data"] = "line\n" * 100_000
    state["key"]["recipe"] = {f"field\n{number}": number for number in range(1000)}
    torch.save(state, path)
    with pytest.raises(CheckpointError) as error:
        resumed(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize("odd", [torch.zeros(3), {}, [1, 2], "text", None, {"epochs": {"epochs": 1}}])
@pytest.mark.parametrize("part", ["key", "recipe", "epochs", "format"])
def test_odd_content_is_one_line(tmp_path, part, odd):
    path = tmp_path / "state.pt"
    resumed(path)
    state = torch.load(path, weights_only=True)
    holder = {"key": state, "format": state, "recipe": state["key"], "epochs": state["key"]["recipe"]}[part]
    holder[part] = odd
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="choose another path") as error:
        resumed(path)
    assert "\n" not in str(error.value)


def test_another_format_is_told(tmp_path):
    path = tmp_path / "state.pt"
    resumed(path)
    torch.save(torch.load(path, weights_only=True) | {"format": 0}, path)
    with pytest.raises(CheckpointError, match="is a snapshot of format 0, this version reads format 3: remove it"):
        resumed(path)


def test_a_folder_is_no_snapshot_and_a_missing_one_is_made(tmp_path):
    with pytest.raises(InputError, match=r"`resume` .* is a folder"):
        resumed(tmp_path)
    path = tmp_path / "new" / "folder" / "state.pt"
    resumed(str(path))
    assert path.is_file()


def test_what_a_safe_file_cannot_hold_is_refused_before_it_is_needed(tmp_path):
    class Arrays(Hook):
        def state_dict(self):
            return {"seen": [np.zeros(3)]}

    class Unclear(Hook):
        def __init__(self, power):
            self.power = power

    with pytest.raises(InputError, match=r"the state of .*Arrays holds ndarray, which a safe file cannot"):
        resumed(tmp_path / "state.pt", hooks=[Arrays()])
    with pytest.raises(InputError, match=r"cannot tell the settings of .*Unclear: make it a dataclass"):
        resumed(tmp_path / "state.pt", hooks=[Unclear(2)])
    with pytest.raises(InputError, match="cannot tell the settings of builtins:function"):
        resumed(tmp_path / "state.pt", hooks=[Weigh(lambda inputs: inputs)])
    assert not list(tmp_path.iterdir())
    train(network(), blobs(), RECIPE, hooks=[Unclear(2)])  # without a snapshot nobody has to tell


def test_numbers_of_numpy_are_numbers(tmp_path):
    path = tmp_path / "state.pt"
    recipe = Recipe(epochs=1, learning_rate=np.float64(0.05))
    resumed(path, recipe=recipe)
    assert len(resumed(path, recipe=Recipe(epochs=1, learning_rate=0.05))) == 1
