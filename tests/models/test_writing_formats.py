"""Networks written as other programs write them, and read by the readers: the same function to the bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from thinice.data import load_samples
from thinice.data.digits import example_checkpoints
from thinice.errors import InputError
from thinice.models import as_classifier, build, load_classifier
from thinice.models.research_formats.writing import save_as
from thinice.pruning import prune
from thinice.training import Recipe


def pruned_classifier(method="lwm", *, normalization=None, **settings):
    torch.manual_seed(0)
    pruned = prune(build("digits_cnn"), method, **settings)
    classifier = as_classifier(pruned.module, normalization=normalization, recipe={"pruning": pruned.recipe})
    return replace(classifier, masks=pruned.masks)


def logits(classifier):
    torch.manual_seed(1)
    with torch.no_grad():
        return classifier.module(torch.rand(16, *classifier.input_shape))


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("program", ["hydra", "harp"])
@pytest.mark.parametrize("normalization", [None, ((0.1307,), (0.3081,))], ids=["pixels", "normalised"])
def test_a_round_trip(tmp_path, program, sparsity, normalization):
    pruned = pruned_classifier(sparsity=sparsity, normalization=normalization)
    path = save_as(pruned, tmp_path / "network.pth.tar", program)
    read = load_classifier(path)  # the file says the normalisation, also that there is none
    assert read.normalization_known
    assert torch.equal(logits(read), logits(pruned))
    assert read.fingerprint == pruned.fingerprint
    assert read.sparsity == pruned.sparsity
    assert read.normalization == pruned.normalization
    state = torch.load(path, weights_only=True)
    assert state["k"] == pytest.approx(1 - sparsity, abs=0.01)
    scores = state["state_dict"]["module.conv1.popup_scores"]
    assert torch.equal(scores.bool(), pruned.masks.kept["conv1.weight"])
    assert ("module.conv1.k_score" in state["state_dict"]) == (program == "harp")
    if normalization is None:
        with pytest.raises(InputError, match=r"`normalization` is .*, but .* says none"):
            load_classifier(path, normalization="mnist")


@pytest.mark.parametrize("program", ["r-admm", "atmc"])
@pytest.mark.parametrize("normalization", [None, ((0.1307,), (0.3081,))], ids=["pixels", "normalised"])
def test_a_round_trip_of_weights_and_of_factors(tmp_path, program, normalization):
    """Whatever the masks; the normalisation is given by who reads."""
    pruned = pruned_classifier("magnitude", sparsity=0.9, normalization=normalization)
    path = save_as(pruned, tmp_path / "network.pt", program)
    assert not load_classifier(path).normalization_known
    read = load_classifier(path, normalization="none" if normalization is None else normalization)
    assert torch.equal(logits(read), logits(pruned))
    assert read.fingerprint == pruned.fingerprint
    state = torch.load(path, weights_only=True)
    names = pruned.network.state_dict()
    if program == "r-admm":
        assert set(state) == {f"module.basic_model.{name}" for name in names}
    else:
        factors = [state[f"{layer}.weight{name}"] for layer in ("conv1", "conv2", "conv3", "fc") for name in "ABC"]
        kept = sum(layer.kept for layer in pruned.masks.layers())
        assert sum(int((factor != 0).sum()) for factor in factors) == kept
        assert state["conv2.weightB"].shape == (32, 32, 1, 1)  # 32 rows of 16 * 9
        assert not {"conv1.weight", "conv2.weight", "conv3.weight", "fc.weight"} & set(state)


@pytest.mark.parametrize(
    "settings",
    [
        {"sparsity": 0.9},
        {"sparsity": 0.7, "cost": "flops"},
        {"sparsity": 0.5, "structure": "channel"},
        {"sparsity": 0.97, "structure": "channel"},  # one channel of each layer is left
    ],
    ids=["weights", "flops", "channels", "last-channels"],
)
def test_a_search_by_harp_comes_back(tmp_path, settings):
    search = {"samples": load_samples("digits", split="train", limit=50), "recipe": Recipe(epochs=2)}
    pruned = pruned_classifier("harp", **settings, **search)
    path = save_as(pruned, tmp_path / "network.pth.tar", "harp")
    read = load_classifier(path)
    assert torch.equal(logits(read), logits(pruned))
    assert read.fingerprint == pruned.fingerprint
    state = torch.load(path, weights_only=True)["state_dict"]
    assert state["module.conv2.popup_scores"].shape[0] == (1 if "structure" in settings else 32)
    assert ("module.fc.k_score" in state) == ("structure" not in settings)


def test_masks_that_no_recipe_explains(tmp_path):
    """The density is found from the masks alone; a kept weight may be zero."""
    pruned = replace(pruned_classifier(sparsity=0.83), recipe=None)
    pruned.module.conv1.weight[pruned.masks.kept["conv1.weight"]] = 0.0
    path = save_as(pruned, tmp_path / "network.pth.tar", "hydra")
    assert torch.equal(logits(load_classifier(path)), logits(pruned))
    scores = torch.load(path, weights_only=True)["state_dict"]["module.conv1.popup_scores"]
    assert torch.equal(scores.bool(), pruned.masks.kept["conv1.weight"])


def test_what_a_format_cannot_say_is_refused(tmp_path):
    path = tmp_path / "network.pth.tar"
    uneven = pruned_classifier("magnitude", sparsity=0.9)
    with pytest.raises(InputError, match=r"`also` 'hydra': layers keep different parts, .*: write 'harp'"):
        save_as(uneven, path, "hydra")
    with pytest.raises(InputError, match="`also` 'mydra' is unknown: did you mean hydra"):
        save_as(uneven, path, "mydra")
    sparse = {name: mask.clone() for name, mask in pruned_classifier(sparsity=0.5).masks.kept.items()}
    sparse["conv2.weight"][:] = False
    sparse["conv2.weight"][0, 0, 0, 0] = True
    with pytest.raises(InputError, match=r"`also` 'harp': conv2.weight keeps 1 of \d+, which HARP cannot say where"):
        save_as(replace(uneven, masks=type(uneven.masks)(sparse)), path, "harp")
    channels = replace(uneven, recipe={"pruning": {"structure": "channel"}})
    with pytest.raises(InputError, match="weight keeps parts of its channels"):
        save_as(channels, path, "harp")
    attention = as_classifier(nn.MultiheadAttention(4, 1), classes=2)
    with pytest.raises(InputError, match="in_proj_weight is no weight of a layer of its own"):
        save_as(attention, path, "hydra")
    with pytest.raises(InputError, match="there is nothing to score"):
        save_as(as_classifier(nn.Flatten(), classes=2), path, "hydra")
    assert not path.exists()


def test_a_file_that_is_no_checkpoint_stays(tmp_path):
    path = tmp_path / "thesis.pt"
    path.write_text("years of work")
    pruned = load_classifier(example_checkpoints()["pruned-90"])
    with pytest.raises(InputError, match=r"thesis\.pt"):
        save_as(pruned, path, "harp")
    assert path.read_text() == "years of work"
    save_as(pruned, path, "harp", overwrite=True)
    save_as(pruned, path, "harp")  # a checkpoint is replaced
