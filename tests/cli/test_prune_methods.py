"""`thinice prune` with R-ADMM and ATMC, by the recipes of their papers: one command, and what their files tell."""

import json

import pytest
import torch

import thinice
from thinice.data.digits import example_checkpoints
from thinice.models import load_classifier
from thinice.models.weights import sparsity
from thinice.pruning.classifiers import prune_classifier
from thinice.training import preset

WORDS = ("--sparsity", "0.95", "--limit", "50", "--device", "cpu")


def test_radmm(run, tmp_path):
    recipes = ("--search", "radmm-prune,epochs=2,steps=1", "--finetune", "radmm-finetune,epochs=2,steps=1")
    words = ("prune", example_checkpoints()["dense"], "--method", "r-admm", *WORDS, *recipes, "-o", "pruned.pt")
    code, out, err = run(*words, "--format", "json")
    assert code == 0, err
    pruned = load_classifier("pruned.pt")
    (row,) = json.loads(out)
    assert row["asked"] == 0.95
    assert row["sparsity"] == sparsity(pruned.network) == pytest.approx(0.95, abs=1e-3)
    assert pruned.masks.hold(pruned.network)
    assert pruned.recipe["search"]["schedule"] == "restarts"
    pruning = pruned.recipe["pruning"]
    assert [pruning[name] for name in ("method", "rho", "rho_factor", "updates")] == ["r-admm", None, 1.3, 10]
    assert pruning["reached"]["residuals"][0]["rho"] > 1  # two steps pull as far as the authors' 78200
    assert [row["epoch"] for row in pruning["reached"]["residuals"]] == [0, 1, 2]
    before = (tmp_path / "pruned.pt").read_bytes()
    assert run(*words)[0] == 0  # there already, residuals or not
    assert (tmp_path / "pruned.pt").read_bytes() == before
    code, _, err = run(*words[:-2], "--structure", "channel", "-o", "other.pt")
    assert (code, err.strip()) == (
        1,
        "thinice: `structure` must be one of weight, column, filter in R-ADMM, got 'channel'",
    )


def test_atmc(run):
    recipe = ("--search", "atmc-prune,epochs=2,steps=1")
    words = ("prune", example_checkpoints()["dense"], "--method", "atmc", *WORDS, *recipe, "-o", "pruned.pt")
    code, out, err = run(*words, "--format", "json")
    assert code == 0, err
    assert "non-zero numbers of ATMC's factors (" in err
    assert "was asked for" not in err
    factors = load_classifier("pruned.pt").recipe["pruning"]["reached"]["factors"]
    assert factors["sparsity"] == pytest.approx(0.95, abs=1e-4)
    assert json.loads(out)[0]["sparsity"] == pytest.approx(factors["sparsity_of_product"])


@pytest.mark.parametrize("method", ["r-admm", "atmc"])
def test_a_normalisation_stays_outside(method, tmp_path):
    """The masks have the names of the network itself, and the search sees the pixels."""
    samples = thinice.load_samples("digits", split="train", limit=50)
    module = load_classifier(example_checkpoints()["dense"]).network
    dense = thinice.as_classifier(module, normalization=((0.5,), (0.5,)))
    search = preset("finetune", epochs=1, shift=0, flip=False)
    (pruned,) = prune_classifier(
        dense, method, path=tmp_path / "pruned.pt", sparsity=0.8, samples=samples, search=search, device="cpu"
    )
    read = load_classifier(tmp_path / "pruned.pt")
    assert read.normalization == ((0.5,), (0.5,))
    assert set(read.masks.kept) == {"conv1.weight", "conv2.weight", "conv3.weight", "fc.weight"}
    with torch.no_grad():
        assert torch.equal(read.module(samples.inputs), pruned.classifier.module(samples.inputs))
