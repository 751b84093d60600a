"""`thinice prune` as a user types it: files that load, a table that says what was reached, errors that lose nothing."""

from __future__ import annotations

import json

import pytest
import torch

import thinice
from thinice.cli.train import plan_value
from thinice.data.digits import example_checkpoints
from thinice.errors import InputError
from thinice.models import build, load_classifier, save_classifier

FINETUNE = ("--finetune", "epochs=1,learning_rate=0.01", "--limit", "100")


@pytest.fixture(scope="module")
def dense():
    return example_checkpoints()["dense"]


def test_at_once_it_is_the_function(run, dense, tmp_path):
    words = ("prune", dense, "--sparsity", "0.95", "-o", "pruned.pt", "--format", "json")
    code, out, err = run(*words, "--save-masks")
    assert (code, err) == (0, "")
    pruned, before = load_classifier("pruned.pt"), load_classifier(dense)
    expected = thinice.prune(before, sparsity=0.95)
    assert torch.equal(pruned.network.fc.weight, expected.module.fc.weight)
    assert all(torch.equal(mask, pruned.masks.kept[name]) for name, mask in expected.masks.kept.items())
    assert (pruned.parent, pruned.data, pruned.class_names) == (before.fingerprint, before.data, before.class_names)
    assert pruned.recipe == {"pruning": expected.recipe}
    (row,) = json.loads(out)
    assert row == {
        "checkpoint": "pruned.pt",
        "asked": 0.95,
        "sparsity": pruned.masks.sparsity,
        "compression_rate": pruned.masks.compression_rate,
        "of_convolutions": pruned.masks.convolutions().sparsity,
        "weights": 19088,
        "kept": 954,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pruned-masks.pt", "pruned.pt"]
    apart = thinice.load_masks("pruned-masks.pt")
    assert all(torch.equal(mask, apart.kept[name]) for name, mask in expected.masks.kept.items())
    assert run(*words, "--save-masks")[0] == 0  # both are replaced


def test_rates_go_in_stages_and_the_small_networks_beside(run, dense, tmp_path):
    words = ("prune", dense, "--rate", "2", "--rate", "4", "--structure", "filter", "--scope", "local", *FINETUNE)
    code, out, err = run(*words, "-o", "folder/halved.pt", "--shrink", "--format", "json")
    assert code == 0, err
    assert err.count("epoch 1/1: loss") == 2
    rows = json.loads(out)
    assert [row["checkpoint"] for row in rows] == ["folder/halved-rate-2.pt", "folder/halved-rate-4.pt"]
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == [
        "halved-rate-2-small.pt",
        "halved-rate-2.pt",
        "halved-rate-4-small.pt",
        "halved-rate-4.pt",
    ]
    for row in rows:
        network, small = load_classifier(row["checkpoint"]), load_classifier(row["small"])
        inputs = thinice.load_samples("digits", limit=20).inputs[:]
        assert torch.allclose(network(inputs), small(inputs), atol=1e-4)
        assert row["small_parameters"] < row["parameters"] == 19258
        assert row["small_flops"] < row["flops"]
        assert network.recipe["training"]["epochs"] == 1
        assert network.recipe["data"]["split"] == "train"
        assert network.recipe["pruning"]["structure"] == "filter"
    first, second = (load_classifier(row["checkpoint"]).masks for row in rows)
    assert not any((mask & ~first.kept[name]).any() for name, mask in second.kept.items())


def test_a_recipe_keeps_its_own_objective(run, dense):
    """An adversarial recipe trains adversarially, unless another objective is asked for."""
    words = ("prune", dense, "--sparsity", "0.5", "--limit", "40", "--finetune", "finetune-fast,epochs=1")
    for chosen, objective in ((), "fast"), (("--objective", "natural"), "natural"):
        code, _, err = run(*words, *chosen, "-o", f"{objective}.pt")
        assert code == 0, err
        assert load_classifier(f"{objective}.pt").recipe["training"]["objective"] == objective


def test_the_same_command_goes_on(run, dense, tmp_path, monkeypatch):
    """The second stage is stopped before it is saved; afterwards the files are those of an undisturbed run."""
    words = ("prune", dense, "--rate", "2", "--rate", "4", *FINETUNE)
    assert run(*words, "-o", "whole.pt", "--quiet")[0] == 0

    def full(*_arguments, **_settings):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("thinice.training.write_snapshot", full)
        code, _, err = run(*words, "-o", "again.pt", "--quiet")
    assert code == 1
    assert err.startswith("thinice: ")
    assert "No space left" in err
    assert len(err.splitlines()) == 1
    stages = tmp_path / "again.pt.stages"
    assert stages.is_dir()
    assert run(*words, "-o", "again.pt", "--quiet")[0] == 0
    assert not stages.exists()
    for rate in (2, 4):
        whole, again = (load_classifier(f"{name}-rate-{rate}.pt") for name in ("whole", "again"))
        assert whole.fingerprint == again.fingerprint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--rate", "1"),
            "`rate` must be above 1, got 1.0: 2 keeps half of the weights, 1 is the dense network itself",
        ),
        (("--sparsity", "1"), "`sparsity` must be a fraction from 0 to below 1, got 1.0"),
        ((), "`sparsity` or `rate` must be given, not both"),
        (("--sparsity", "0.5", "--rate", "2"), "`sparsity` or `rate` must be given, not both"),
        (("--sparsity", "0.5", "--structure", "row"), "`structure` must be one of weight, kernel, filter, channel"),
        (("--sparsity", "0.5", "--method", "hydro"), "`method` 'hydro' is unknown"),
        (("--sparsity", "0.5", "--seed", "1"), "`method` 'magnitude' has no setting 'seed'"),
        (("--sparsity", "0.5", "--skip", "layer*"), "`skip` 'layer*' is the name of no weight"),
        (("--sparsity", "0.5", "--reinitialise"), "`--reinitialise` changes nothing without training"),
        (("--sparsity", "0.5", "--limit", "5"), "`--limit` changes nothing without training"),
        (("--rate", "4", "--rate", "2", *FINETUNE), "`sparsities` must rise from above 0, got 0.5 after 0.75"),
        (("--rate", "2", *FINETUNE, "--rewind", "other.pt"), "`rewind` has another architecture"),
        (("--rate", "2", *FINETUNE, "--objective", "robust"), "`objective` 'robust' is unknown"),
        (
            ("--rate", "2", *FINETUNE, "--split", "trial"),
            "`split` of digits must be one of test, train, all, got 'trial'",
        ),
        (("--rate", "2", *FINETUNE, "--split", "test"), "`--split` test is what networks are measured on"),
        (("--rate", "2", *FINETUNE, "--split", "all"), "`--split` all holds what networks are measured on"),
        (("--sparsity", "0.1", "--sparsity", "0.1000000001"), "`sparsity` 0.1 is given twice, and both would be"),
        (("--rate", "8", "--rate", "8"), "`rate` 8 is given twice, and both would be called rate-8: give it once"),
        (("--rate", "2", "--finetune", "fats"), "`recipe` 'fats' is unknown: did you mean fast"),
        (("--rate", "2", "--finetune", "beta=3"), "`beta` is no setting of recipe 'finetune' with objective 'natural'"),
        (("--rate", "2", "--device", "tpu"), "`device` must be auto, cpu, cuda or cuda:K, got 'tpu'"),
    ],
)
def test_a_bad_word_is_one_line_and_loses_nothing(run, dense, tmp_path, words, message):
    save_classifier(build("cnn5"), tmp_path / "other.pt")
    (tmp_path / "old.pt").write_bytes(dense.read_bytes())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, out, err = run("prune", dense, *words, "-o", "old.pt", "--overwrite", "--quiet")
    assert (code, out) == (1, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_must_not_be_written_is_not(run, dense, tmp_path):
    own = tmp_path / "dense.pt"
    own.write_bytes(dense.read_bytes())
    (tmp_path / "notes.txt").write_text("mine")
    for output, message in (
        ("dense.pt", "is the network to prune itself"),
        ("notes.txt", "is not a checkpoint"),
        ("pruned.onnx", "has the name of a program: write a checkpoint, .pt or .safetensors"),
        ("notes.txt/pruned.pt", "cannot be written: the folder notes.txt cannot be made (File exists): choose another"),
    ):
        code, _, err = run("prune", own, "--sparsity", "0.5", "-o", output)
        assert code == 1
        assert message in err
    assert own.read_bytes() == dense.read_bytes()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_collapse_and_nothing_to_shrink_are_told(run, dense):
    code, _, err = run("prune", dense, "--sparsity", "0.9999", "-o", "tiny.pt")
    assert code == 0
    assert "tiny.pt: sparsity 0.9999 was asked for, 0.9998 is reached" in err
    assert "its best one: all others went" in err
    code, out, err = run("prune", dense, "--sparsity", "0.5", "--shrink", "-o", "half.pt", "--format", "json")
    assert code == 0
    assert "nothing to shrink" in err
    assert json.loads(out)[0]["small"] is None


def test_recipes_are_named_and_changed():
    samples = thinice.load_samples("digits", limit=10)
    notes = []

    def plan(text, objective=None):
        return plan_value(text, samples, notes.append, option="--finetune", usual="finetune", objective=objective)

    changed = plan("finetune-pgd, epochs=5,learning_rate=0.02,budget=1/255")
    assert (changed.recipe.epochs, changed.recipe.learning_rate, changed.recipe.select) == (5, 0.02, "robust")
    assert changed.objective.budget * 255 == pytest.approx(1)
    assert [note.partition(":")[0] for note in notes] == ["shift 1", "flip off"]
    assert plan("epochs=5", "trades").objective.beta == 6
    stepped = plan("schedule=step,milestones=0.4, 0.75,epochs=8").recipe
    assert (stepped.milestones, stepped.epochs) == ((0.4, 0.75), 8)
    assert plan("merkle-mnist").recipe.patience == 5
    for text, message in (
        ("", "`recipe` '' is unknown"),
        ("learning_rate=", "`--finetune` takes NAME=VALUE"),
        ("epochs=1,epochs=2", "`--finetune` 'epochs=1,epochs=2': epochs is given twice: give it once"),
        ("epochs=many", "`epochs` must be a whole number"),
        ("epochs=1,schedule=cos", "`schedule` 'cos' is unknown"),
    ):
        with pytest.raises(InputError, match=message):
            plan(text)


def test_the_same_command_again_prunes_nothing_and_another_one_replaces_nothing(run, dense, tmp_path):
    words = ("prune", dense, "--rate", "2", "--rate", "4", *FINETUNE, "-o", "halved.pt", "--format", "json")
    code, first, err = run(*words)
    assert code == 0
    assert "stage 1/2, epoch 1/1: loss " in err
    assert "stage 2/2, epoch 1/1: loss " in err
    files = [tmp_path / f"halved-rate-{rate}.pt" for rate in (2, 4)]
    before = [file.read_bytes() for file in files]
    code, out, err = run(*words)
    assert (code, out) == (0, first)
    assert "halved-rate-2.pt, halved-rate-4.pt: there already, pruned this very way; --overwrite prunes anew" in err
    assert "epoch" not in err
    for change, difference in (
        (("--scope", "local"), "pruning.scope was 'global', is 'local'"),
        (("--finetune", "epochs=2,learning_rate=0.01"), "training.epochs was 1, is 2"),
        (("--rewind", dense), "training.start was 'the weights that were kept', is 'dense"),
    ):
        code, out, err = run(*words, *change)
        assert (code, out) == (1, "")
        assert difference in err.splitlines()[-1]
    assert [file.read_bytes() for file in files] == before
    files[0].unlink()
    code, out, err = run(*words)  # one is missing: both are made again, the same
    assert (code, out) == (0, first)
    assert [load_classifier(file).recipe["result"]["epochs"] for file in files] == [1, 1]
    code, _, err = run(*words, "--scope", "local", "--overwrite")
    assert code == 0, err
    assert load_classifier(files[1]).recipe["pruning"]["scope"] == "local"


def test_the_objective_is_that_of_the_recipe_unless_another_is_named(run, dense):
    words = ("prune", dense, "--sparsity", "0.5", "--limit", "60", "--quiet", "--finetune")
    for recipe, more, objective in (
        ("finetune-fast,epochs=1", (), "fast"),
        ("finetune-pgd,epochs=1", (), "pgd"),
        ("epochs=1", (), "natural"),
        ("finetune-fast,epochs=1", ("--objective", "natural"), "natural"),
    ):
        code, _, err = run(*words, recipe, *more, "-o", f"{objective}{len(more)}.pt")
        assert code == 0, err
        assert load_classifier(f"{objective}{len(more)}.pt").recipe["training"]["objective"] == objective


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("enforce fail at inline")])
@pytest.mark.parametrize("place", ["thinice.models.files.torch.save", "thinice.models.mask_files.torch.save"])
def test_a_full_disk_names_the_file_and_the_way_on(run, dense, tmp_path, monkeypatch, error, place):
    words = ("prune", dense, "--sparsity", "0.5", "-o", "half.pt", "--save-masks", "--quiet")
    write = torch.save

    def full(content, *arguments, **settings):
        if ("format" in content) == place.startswith("thinice.models.files"):
            raise error
        write(content, *arguments, **settings)

    with monkeypatch.context() as disk:
        disk.setattr(place, full)
        code, _, err = run(*words)
    assert code == 1
    name = "half.pt" if place.startswith("thinice.models.files") else "half-masks.pt"
    assert err.startswith(f"thinice: {name} could not be written (")
    assert err.endswith("): make room, then give the same command again\n")
    assert len(err.splitlines()) == 1
    assert run(*words)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half-masks.pt", "half.pt"]
