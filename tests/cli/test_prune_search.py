"""`thinice prune` with a method that searches for its masks: one registry line, and every option knows it."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
import torch

import thinice
from tests.pruning.toy import ROWS
from thinice.cli.prune import method_settings, methods, searching_methods
from thinice.data.digits import example_checkpoints
from thinice.errors import InputError
from thinice.models import load_classifier, sparsity
from thinice.pruning import METHODS
from thinice.pruning.classifiers import prune_classifier
from thinice.training.presets import fitted_preset

WORDS = ("--method", "toy-scores", "--sparsity", "0.5", "--limit", "60", "--device", "cpu", "--quiet")
CHANGED = ("--set", "strength=0.2", "--search", "epochs=3,learning_rate=0.2")


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    """The one line that each of them adds."""
    for registry, name, target in ROWS:
        monkeypatch.setitem(registry.rows, name, (target, "a toy", ""))


@pytest.fixture(scope="module")
def dense():
    return example_checkpoints()["dense"]


def test_help_knows_it():
    assert "toy-scores: a toy" in methods()
    assert "of toy-scores seed, strength" in method_settings()
    assert "of random scope, seed, skip, structure" in method_settings()
    assert searching_methods().startswith("hydra (by default hydra-prune)")
    assert searching_methods().endswith("toy-scores (by default finetune)")


def test_it_is_the_function_and_the_file_tells_all(run, dense, tmp_path):
    code, out, err = run("prune", dense, *WORDS, *CHANGED, "-o", "pruned.pt", "--format", "json")
    assert (code, err) == (0, "")
    pruned = load_classifier("pruned.pt")
    assert pruned.recipe["pruning"] | {"reached": 0} == {
        "method": "toy-scores",
        "sparsity": 0.5,
        "strength": 0.2,
        "seed": 0,
        "reached": 0,
    }
    search = pruned.recipe["search"]
    assert (search["objective"], search["epochs"], search["learning_rate"], search["shift"]) == ("natural", 3, 0.2, 1)
    assert pruned.recipe["data"]["split"] == "train"
    assert "training" not in pruned.recipe
    (row,) = json.loads(out)
    assert (row["epochs"], row["asked"]) == (3, 0.5)
    assert row["sparsity"] == pytest.approx(0.5, abs=0.001)
    assert row["accuracy"] == pruned.recipe["result"]["accuracy"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pruned.pt"]

    samples = thinice.load_samples("digits", split="train", limit=60)
    plan, _ = fitted_preset("finetune", samples, epochs=3, learning_rate=0.2)
    settings = {"sparsity": 0.5, "samples": samples, "device": "cpu", "strength": 0.2}
    (same,) = prune_classifier(dense, "toy-scores", path="same.pt", search=plan, **settings)
    assert same.classifier.fingerprint == pruned.fingerprint
    recipe, objective = plan
    once = thinice.prune(
        load_classifier(dense),
        "toy-scores",
        samples=samples,
        recipe=recipe,
        objective=objective,
        sparsity=0.5,
        strength=0.2,
    )
    assert all(torch.equal(mask, pruned.masks.kept[name]) for name, mask in once.masks.kept.items())
    code, out, err = run("inspect", "pruned.pt")
    assert code == 0
    assert "recipe: search" in out


def test_its_own_recipe_is_the_default_and_training_under_the_masks_follows(run, dense):
    words = ("--finetune", "epochs=2,learning_rate=0.05", "--objective", "toy-margin")
    code, out, err = run("prune", dense, *WORDS[:-1], *words, "-o", "pruned.pt", "--format", "json")
    assert code == 0, err
    assert err.count("search, epoch ") == 10
    assert err.count("\nepoch ") == 2
    pruned = load_classifier("pruned.pt")
    assert (pruned.recipe["search"]["epochs"], pruned.recipe["search"]["objective"]) == (10, "toy-margin")
    assert (pruned.recipe["training"]["epochs"], pruned.recipe["training"]["objective"]) == (2, "toy-margin")
    assert pruned.recipe["training"]["start"] == "the weights that were kept"
    assert json.loads(out)[0]["epochs"] == 2
    assert pruned.masks.hold(pruned.network)
    before = load_classifier(dense).network.fc.weight
    kept = pruned.masks.kept["fc.weight"]
    assert not torch.equal(pruned.network.fc.weight[kept], before[kept])


def test_each_sparsity_is_searched_for_in_the_dense_network(run, dense):
    assert run("prune", dense, *WORDS, "--sparsity", "0.8", *CHANGED, "-o", "pruned.pt")[0] == 0
    assert run("prune", dense, *WORDS[:2], "--sparsity", "0.8", *WORDS[4:], *CHANGED, "-o", "alone.pt")[0] == 0
    assert load_classifier("pruned-80.pt").fingerprint == load_classifier("alone.pt").fingerprint


@pytest.fixture
def full_after(monkeypatch):
    """Let the disk be full after so many snapshots, as long as the context lasts."""

    @contextmanager
    def context(snapshots):
        write, written = torch.save, []

        def full(state, path, *arguments, **settings):
            if len(written) == snapshots:
                raise OSError(28, "No space left on device")
            written.append(path)
            write(state, path, *arguments, **settings)

        with monkeypatch.context() as disk:
            disk.setattr("thinice.training.snapshot.torch.save", full)
            yield

    return context


@pytest.mark.parametrize("snapshots", [1, 3])  # the disk is full in the search, and in the training under the masks
def test_it_goes_on_where_it_was_and_then_does_nothing(run, dense, tmp_path, full_after, snapshots):
    words = ("prune", dense, *WORDS, "--search", "epochs=2", "--finetune", "epochs=2")
    assert run(*words, "-o", "whole.pt")[0] == 0
    with full_after(snapshots):
        code, _, err = run(*words, "-o", "again.pt")
    assert code == 1
    assert "after epoch 2 (No space left on device)" in err
    assert (tmp_path / "again.pt.stages").is_dir()
    code, _, err = run(*words, "-o", "again.pt")
    assert code == 0, err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.pt", "whole.pt"]
    assert load_classifier("again.pt").fingerprint == load_classifier("whole.pt").fingerprint
    before = (tmp_path / "again.pt").read_bytes()
    code, _, err = run(*[word for word in words if word != "--quiet"], "-o", "again.pt")
    assert code == 0
    assert "again.pt: there already, pruned this very way" in err
    assert "epoch" not in err
    assert (tmp_path / "again.pt").read_bytes() == before
    code, _, err = run(*words, "--search", "epochs=4", "-o", "again.pt")
    assert code == 1
    assert "search.epochs was 2, is 4" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--search", "epochs=1"), "recipe.epochs was 2, is 1"),
        (("--set", "strength=0.7"), "belongs to another pruning (method differ): remove it, or choose another path"),
        (("--finetune", "epochs=1", "--reinitialise"), "belongs to another pruning (start differ)"),
    ],
)
def test_overwriting_begins_anew_where_snapshots_are_of_another_search(
    run, dense, tmp_path, full_after, change, message
):
    words = ("prune", dense, *WORDS, "--search", "epochs=2")
    assert run(*words, *change, "-o", "undisturbed.pt")[0] == 0
    with full_after(1):
        assert run(*words, "-o", "pruned.pt")[0] == 1
    code, _, err = run(*words, *change, "-o", "pruned.pt")
    assert (code, len(err.splitlines())) == (1, 1)
    assert message in err
    code, _, err = run(*words, *change, "-o", "pruned.pt", "--overwrite")
    assert code == 0, err
    assert load_classifier("pruned.pt").fingerprint == load_classifier("undisturbed.pt").fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pruned.pt", "undisturbed.pt"]


def test_overwriting_without_training_removes_snapshots_and_nothing_else(run, dense, tmp_path, full_after):
    stages = tmp_path / "pruned.pt.stages"
    with full_after(1):
        assert run("prune", dense, *WORDS, "--search", "epochs=2", "-o", "pruned.pt")[0] == 1
    assert stages.exists()
    words = ("prune", dense, "--sparsity", "0.5", "-o", "pruned.pt", "--overwrite")
    assert run(*words)[0] == 0
    assert not stages.exists()
    stages.mkdir()
    (stages / "stage-1.pt").write_text("years of work")
    assert run(*words)[0] == 0
    (stages / "stages.json").write_text("of a tour")
    assert run(*words)[0] == 0
    assert (stages / "stage-1.pt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scope", "local"), "`method` 'toy-scores' has no setting 'scope': it has seed, sparsity, strength"),
        (("--skip", "fc*"), "`method` 'toy-scores' has no setting 'skip'"),
        (("--set", "force=1"), "`method` 'toy-scores' has no setting 'force'"),
        (("--set", "sparsity=0.5"), "`--set` sparsity=0.5: sparsities have options of their own: give --sparsity"),
        (("--set", "strength"), "`--set` takes NAME=VALUE, such as momentum=0.8, got 'strength'"),
        (("--seed", "1", "--set", "seed=2"), "`--set` seed=2: seed is given twice: give it once"),
        (("--search", "slow"), "`recipe` 'slow' is unknown"),
        (("--search", "epochs=0"), "`epochs` must be a whole number of at least 1, got 0"),
        (
            ("--method", "magnitude", "--search", "fast"),
            "`--search` changes nothing: method 'magnitude' finds its masks",
        ),
        (("--reinitialise",), "`--reinitialise` changes nothing without training: give `--finetune`, or leave it out"),
        (("--also", "hidra"), "`also` 'hidra' is unknown: did you mean hydra?"),
        (("--split", "test"), "`--split` test is what networks are measured on"),
        (
            ("--method", "magnitude", "--finetune", "epochs=1", "--also", "hydra"),
            "`also` 'hydra': layers keep different parts",
        ),
        (("--method", "harp", "--also", "hydra"), "of method 'harp' each layer keeps its own: write 'harp'"),
        (("--method", "atmc", "--also", "hydra"), "of method 'atmc' each layer keeps its own: write 'harp'"),
        (
            ("--method", "hydra", "--set", "s2ap=0.01", "--search", "epochs=3"),
            "`s2ap_warmup` 5 leaves nothing of a search of 3 epochs to perturb scores in: give a smaller one (--set",
        ),
        (("--sparsity", "1"), "`sparsity` must be a fraction from 0 to below 1, got 1.0"),
    ],
)
def test_a_bad_word_is_one_line(run, dense, tmp_path, words, message):
    code, out, err = run("prune", dense, *WORDS, *words, "-o", "pruned.pt")
    assert (code, out) == (1, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["hydra", "harp"])
def test_methods_of_papers_search_and_train_by_their_recipes(run, dense, method):
    words = ("--sparsity", "0.95", "--limit", "50", "--device", "cpu", "--format", "json")
    recipes = ("--search", f"{method}-prune,epochs=1,steps=1", "--finetune", f"{method}-finetune,epochs=1,steps=1")
    code, out, err = run("prune", dense, "--method", method, *words, *recipes, "-o", "pruned.pt", "--also", method)
    assert code == 0, err
    assert err.count(f"warning: dense was trained naturally, and method '{method}' searches by adversarial") == 1
    (row,) = json.loads(out)
    pruned = load_classifier("pruned.pt")
    assert row["asked"] == 0.95
    assert row["sparsity"] == sparsity(pruned.network) == pytest.approx(0.95, abs=0.002)
    assert pruned.masks.hold(pruned.network)
    assert len(pruned.recipe["pruning"]["reached"]["mask_changes"]) == 1
    theirs = load_classifier(f"pruned-{method}.pt")
    assert theirs.normalization_known  # so that comparisons with the dense network need no option
    images = thinice.load_samples("digits", limit=30).inputs[:]
    assert torch.equal(theirs.module(images), pruned.module(images))
    assert run("prune", dense, "--method", method, *words, *recipes, "-o", "pruned.pt")[0] == 0  # it is there already


@pytest.mark.parametrize("program", ["r-admm", "atmc"])
def test_a_format_without_a_normalisation_says_how_it_is_read(run, dense, program):
    code, _, err = run("prune", dense, "--sparsity", "0.9", "-o", "pruned.pt", "--also", program)
    assert code == 0
    assert f"pruned-{program}.pt has no place for the normalisation: read it with --normalization 'none'" in err
    theirs, pruned = load_classifier(f"pruned-{program}.pt", normalization="none"), load_classifier("pruned.pt")
    assert theirs.fingerprint == pruned.fingerprint


def test_awp_is_a_setting_of_fine_tuning(run, dense):
    words = ("prune", dense, *WORDS[2:], "--method", "lwm", "--finetune", "epochs=1,awp=0.01")
    assert run(*words, "-o", "pruned.pt")[0] == 0
    pruned = load_classifier("pruned.pt")
    assert pruned.recipe["training"]["awp"] == 0.01
    assert pruned.masks.hold(pruned.network)
    code, _, err = run(*words[:-1], "epochs=2,awp=0.01,awp_warmup=2", "-o", "other.pt")
    assert (code, "`awp_warmup` 2 leaves nothing of 2 epochs" in err) == (1, True)


def test_settings_that_are_text_stay_text(run, dense):
    words = ("prune", dense, "--sparsity", "0.5", "--quiet", "--set", "skip=conv1.*,fc.*", "--set", "scope=local")
    assert run(*words, "-o", "pruned.pt")[0] == 0
    pruned = load_classifier("pruned.pt")
    assert (pruned.recipe["pruning"]["skip"], pruned.recipe["pruning"]["scope"]) == ("conv1.*,fc.*", "local")
    assert pruned.masks.part(["conv1.weight", "fc.weight"]).sparsity == 0


def test_the_function_refuses_what_it_cannot_use(dense, tmp_path):
    samples = thinice.load_samples("digits", split="train", limit=20)
    for arguments, message in (
        ({"method": "toy-scores"}, "`samples` must be given: method 'toy-scores' finds its masks by training"),
        ({"finetune": "finetune"}, "`samples` must be given: method 'magnitude' is to be trained under its masks"),
        (
            {"search": "fast", "samples": samples},
            "`search` changes nothing: method 'magnitude' finds its masks without",
        ),
        ({"samples": samples}, "`samples` change nothing: nothing is trained"),
        ({"rewind": load_classifier(dense)}, "`rewind` changes nothing without training: give `finetune`"),
        ({"sparsity": None}, "`sparsity` or `rate` must be given, not both"),
        ({"sparsity": []}, "`sparsity` or `rate` must be given, not both"),
        ({"rate": 2}, "`sparsity` or `rate` must be given, not both"),
        ({"sparsity": "0.9"}, "`sparsity` must be a fraction from 0 to below 1, got '0.9'"),
        ({"sparsity": [0.5, True]}, "`sparsity` must be a fraction from 0 to below 1, got True"),
        ({"path": dense}, "is the network to prune itself: choose another path"),
        ({"method": METHODS.make("random"), "seed": 3}, r"`seed` is a setting of the method: give it to Random\("),
    ):
        usual = {"path": tmp_path / "pruned.pt", "sparsity": 0.5}
        with pytest.raises(InputError, match=message):
            prune_classifier(dense, **usual | arguments)
    assert not list(tmp_path.iterdir())
