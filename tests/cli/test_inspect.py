"""`thinice inspect`, and the options that say which weights and masks of a file count."""

import json
import re
from pathlib import Path

import pytest
import torch

import thinice
from tests.models.test_research_formats import LAYERS, hydra, trained
from thinice.cli.loading import load
from thinice.cli.options import CheckpointOptions, DataOptions
from thinice.cli.output import Messages
from thinice.data.digits import example_checkpoints
from thinice.models import as_classifier, build, inspect_checkpoint, save_classifier
from thinice.pruning import prune
from thinice.pruning.atmc import atmc_state
from thinice.training import Recipe


@pytest.fixture
def files(tmp_path):
    network = trained()
    state = network.state_dict()
    masks = {f"{name}.weight": (torch.rand_like(state[f"{name}.weight"]) < 0.5).float() for name in LAYERS}
    torch.save({"state_dict": state, "state_dict_ema": trained().state_dict(), "acc": 0.5}, tmp_path / "net.pt")
    torch.save(masks, tmp_path / "masks.pt")
    torch.save(hydra(network)[0], tmp_path / "hydra.pt")
    torch.save({"args": {"lr": 0.1}, "epoch": 3}, tmp_path / "odd.pt")
    return sum(int((state[name] * mask == 0).sum()) for name, mask in masks.items()) / 19088


@pytest.mark.usefixtures("files")
def test_people_read_tables_and_machines_json(run):
    dense = example_checkpoints()["pruned-90"]
    code, out, err = run("inspect", dense, "net.pt")
    assert (code, err) == (0, "")
    for part in (
        "digits_cnn",
        "1909 of 19088",
        "conv2.weight  32x16x3x3",
        "recipe: pruning",
        "state_dict_ema  20 tensors",
        "acc 0.5",
        "--weights state_dict_ema",
    ):
        assert part in out
    code, out, _ = run("inspect", dense, "net.pt", "--format", "json")
    first, second = json.loads(out)
    assert (first["architecture"], first["sparsity"]) == ("digits_cnn", pytest.approx(1 - 1909 / 19088))
    assert [layer["layer"] for layer in second["layers"]] == [f"{name}.weight" for name in LAYERS]
    code, out, _ = run("inspect", "net.pt", "--format", "csv")
    assert out.splitlines()[0] == "file,what,found"
    assert (
        "| layer | shape | weights | kept | zeros | sparsity |" in run("inspect", "net.pt", "--format", "markdown")[1]
    )


def test_numbers_are_rounded_and_lines_fit_on_a_terminal(run):
    settings = {f"share_{number}": number / 7 for number in range(9)}
    save_classifier(build("digits_cnn"), "net.pt", recipe={"pruning": settings | {"milestones": [1 / 3, 0.5]}})
    _, out, _ = run("inspect", "net.pt")
    assert "share_1 0.1429," in out
    assert "[0.3333, 0.5]" in out
    assert not re.findall(r"\d\.\d{7,}", out)
    assert 100 < max(map(len, out.splitlines())) <= 120


@pytest.mark.usefixtures("files")
def test_a_refused_file_is_shown_with_its_reason(run):
    code, out, err = run("inspect", "odd.pt", "net.pt")
    assert (code, err) == (1, "")
    assert "refused" in out
    assert "holds no weights, only args" in out
    assert "digits_cnn" in out
    assert run("inspect", "nowhere.pt")[2] == "thinice: nowhere.pt: no such file\n"


def test_masks_weights_and_densities_are_for_the_checkpoints_after_the_first(files, run):
    def sparsities(*words):
        code, out, err = run("inspect", *words, "--format", "json")
        assert code == 0, out + err
        return [row["sparsity"] for row in json.loads(out)]

    assert sparsities("net.pt", "--masks", "masks.pt") == [files]
    assert sparsities("net.pt", "net.pt", "--masks", "masks.pt") == [0, files]
    assert sparsities("net.pt", "net.pt", "--masks", "masks.pt", "--masks", "auto") == [files, 0]
    assert sparsities("net.pt", "--weights", "state_dict_ema") == [0]
    tenth = pytest.approx(0.9, abs=1e-3)
    assert sparsities("net.pt", "hydra.pt", "hydra.pt", "--density", "0.1,0.01") == [
        0,
        tenth,
        pytest.approx(0.99, abs=1e-3),
    ]
    assert sparsities("hydra.pt", "hydra.pt", "--density", "0.1") == [tenth, tenth]
    code, _, err = run("inspect", "net.pt", "net.pt", "net.pt", "--masks", "masks.pt")
    assert (code, err.count("\n")) == (1, 1)
    assert (
        "`--masks` is given 1 times for 3 checkpoints: give it once for each, or once for each after the first" in err
    )
    code, _, err = run("inspect", "hydra.pt", "--density", "a,b")
    assert "`--density` must be fractions such as 0.1 or 0.1,0.01, got 'a,b'" in err


@pytest.mark.usefixtures("files")
def test_all_commands_read_checkpoints_so(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reading = CheckpointOptions(
        normalization="none", density="0.1,0.5", masks=["auto", "masks.pt"], weights=["auto", "state_dict_ema"]
    )
    paths = [Path("hydra.pt"), Path("net.pt")]
    (first, second), samples = load(paths, reading, DataOptions(data="digits", limit=4), Messages(quiet=False))
    assert len(samples) == 4
    assert first.sparsity == pytest.approx(0.9, abs=1e-3)
    assert second.sparsity > 0
    said = capsys.readouterr().err
    for part in (
        "density of 0.1",
        "density=0.5 was not used",
        "4 masks found under masks.pt",
        "found under state_dict_ema",
    ):
        assert part in said


def test_a_long_refusal_is_shown_whole(run, tmp_path):
    """Tables cut long cells in the middle, where the names to give may stand."""
    torch.save(build("resnet10(stem=imagenet)", blocks=[1, 1, 1, 1]).state_dict(), tmp_path / "net.pt")
    code, out, _ = run("inspect", tmp_path / "net.pt")
    assert code == 1
    for name in ("'resnet10(stem=imagenet-stride-1-no-pool)'", "leaky-relu (slope 0.1)"):
        assert name in " ".join(out.split())
    assert "…" not in out.partition("layer ")[0]
    assert "resnet10(stem=imagenet-stride-1):gelu" in out


def test_zeros_are_counted_beside_the_definitions_of_the_authors(run, tmp_path):
    """Half of the 144 weights of one convolution of three, and of the 5120 of the linear layer, of 19088 in all."""
    network = build("digits_cnn")
    with torch.no_grad():
        network.conv1.weight[:8] = 0
        network.fc.weight[:5] = 0
    save_classifier(as_classifier(network), tmp_path / "own.pt")
    inspection = inspect_checkpoint(tmp_path / "own.pt")
    assert inspection.zeros == (72, 0, 0, 2560)
    assert inspection.sparsities == {
        "zeros over prunable weights": pytest.approx(2632 / 19088),
        "mean over layers (HYDRA)": pytest.approx((0.5 + 0 + 0 + 0.5) / 4),
        "convolutions alone (R-ADMM, Merkle et al.)": pytest.approx(72 / (19088 - 5120)),
    }
    code, out, _ = run("inspect", "own.pt")
    assert code == 0
    assert "zeros over prunable weights 13.79%; mean over layers (HYDRA) 25.00%; convolutions alone" in out
    assert json.loads(run("inspect", "own.pt", "--format", "json")[1])[0]["layers"][3]["zeros"] == 2560


def test_zeros_that_masks_keep_are_counted(tmp_path):
    """A kept weight may be zero: masks say how many are kept, not how many zeros there are."""
    pruned = prune(build("digits_cnn"), sparsity=0.5)
    pruned.module.fc.weight.data.zero_()
    save_classifier(pruned.module, tmp_path / "zeros.pt", masks=pruned.masks)
    inspection = inspect_checkpoint(tmp_path / "zeros.pt")
    assert inspection.layers[-1].kept == int(pruned.masks.kept["fc.weight"].sum()) > 0
    assert inspection.zeros[-1] == inspection.layers[-1].weights


def test_factors_are_counted_where_a_file_has_them_and_where_a_recipe_tells(tmp_path):
    """At a sparsity of one half, as many numbers of the factors are left as half of the weights."""
    samples = thinice.load_samples("digits", split="train", limit=20)
    pruned = prune(build("digits_cnn"), "atmc", sparsity=0.5, samples=samples, recipe=Recipe(epochs=1))
    torch.save(atmc_state(pruned.method, pruned.module), tmp_path / "theirs.pt")
    theirs = inspect_checkpoint(tmp_path / "theirs.pt")
    assert theirs.of_factors == 0.5
    assert theirs.sparsities["factors (ATMC)"] == 0.5
    classifier = as_classifier(pruned.module, recipe={"pruning": pruned.recipe})
    save_classifier(classifier, tmp_path / "ours.pt")
    assert inspect_checkpoint(tmp_path / "ours.pt").sparsities["factors (ATMC)"] == 0.5
