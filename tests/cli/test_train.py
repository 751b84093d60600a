"""`thinice train` as people type it: a checkpoint that others read, resumed after a crash, refusals of one line."""

import io
import json
import os
import signal
import subprocess
import sys

import pytest
import torch

import thinice
from tests.conftest import ROOT
from thinice.cli.output import Messages
from thinice.cli.train import TrainingReporter, plan_value, recipes, setting
from thinice.errors import CheckpointError, InputError
from thinice.training import RECIPES, Epoch, preset
from thinice.training.classifiers import train_classifier

SMALL = (
    "train",
    "--data",
    "digits",
    "--limit",
    "120",
    "--architecture",
    "digits_cnn",
    "--device",
    "cpu",
    "--no-figures",
)


DENSE = str(thinice.example_checkpoints()["dense"])


def row(output):
    (only,) = json.loads(output)
    return only


def test_a_checkpoint_that_every_other_command_reads(run, tmp_path):
    words = ("--recipe", "fast", "--budget", "16/255", "--epochs", "2", "--set", "momentum=0.8", "--seed", "3")
    code, out, err = run(*SMALL[:-1], *words, "-o", "robust.pt", "--format", "json")
    assert code == 0, err
    told = row(out)
    network = thinice.load_classifier(tmp_path / "robust.pt")
    assert told["fingerprint"] == network.fingerprint
    assert (network.architecture, network.data, network.class_names) == ("digits_cnn", "digits", tuple("0123456789"))
    training = network.recipe["training"]
    assert (training["objective"], training["epochs"], training["momentum"], training["seed"]) == ("fast", 2, 0.8, 3)
    assert training["objective_settings"]["budget"] == pytest.approx(16 / 255)
    assert (training["shift"], training["flip"]) == (1, False)  # 8x8 digits are no photographs of 32x32
    assert "epoch 1/2, " in err
    assert " left: loss " in err
    assert "epoch 2/2: loss " in err
    assert sorted(path.name for path in (tmp_path / "thinice-figures" / "robust").iterdir()) == [
        "training.png",
        "training.svg",
    ]
    assert not (tmp_path / "robust.pt.snapshot").exists()
    code, _, err = run("measure", "robust.pt", "--limit", "20", "--quiet", "--attack", "fmn", "--effort", "quick")
    assert code == 0, err


def test_the_store_has_curves_and_dynamics(run, tmp_path):
    code, out, err = run(
        *SMALL,
        "--recipe",
        "pgd",
        "--steps",
        "2",
        "--epochs",
        "3",
        "--set",
        "held-out=0.25",
        "--quiet",
        "--format",
        "json",
    )
    assert (code, err) == (0, "")
    told = row(out)
    store = thinice.open_store(tmp_path / "thinice.duckdb")
    epochs = store.sql("from epochs order by epoch")
    assert epochs["epoch"].tolist() == [1, 2, 3]
    chosen = epochs.iloc[told["chosen_epoch"] - 1]
    for column in ("loss", "accuracy", "validation_accuracy", "robust_accuracy"):
        assert chosen[column] == pytest.approx(told[column])
    (training,) = store.sql("from trainings join checkpoints using (checkpoint_id)").to_dict("records")
    assert training["fingerprint_1"] == told["fingerprint"]
    assert (training["objective"], training["chosen_epoch"]) == ("pgd", told["chosen_epoch"])
    assert json.loads(training["recipe"])["held_out"] == 0.25
    dynamics = store.sql("from dynamics join trainings using (training_id) join samples using (dataset_id, sample_id)")
    assert len(dynamics) == 90
    assert dynamics["epochs"].eq(3).all()
    assert store.runs()["outcome"].tolist() == ["finished"]


def test_a_pruned_network_is_trained_on_and_its_zeros_stay(run, tmp_path):
    paths = thinice.example_checkpoints()
    pruned = thinice.load_classifier(paths["pruned-95"])
    words = ("train", "--from", paths["pruned-95"], "--data", "digits", "--limit", "100", "--no-figures", "--quiet")
    code, out, err = run(*words, "--recipe", "finetune", "--epochs", "1", "-o", "tuned.pt", "--format", "json")
    assert code == 0, err
    tuned = thinice.load_classifier(tmp_path / "tuned.pt")
    assert tuned.sparsity == pruned.sparsity
    assert tuned.fingerprint != pruned.fingerprint
    assert tuned.parent == pruned.parent
    assert row(out)["sparsity"] == pruned.sparsity


KILLED = """
import os, signal, sys
from thinice.training import classifiers

write = classifiers.train

def killed(*args, progress, **keywords):
    def stop(epoch):
        progress(epoch)
        if epoch.number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return write(*args, progress=stop, **keywords)

classifiers.train = killed
sys.argv = ["thinice", *sys.argv[1:]]
from thinice.cli import main
main()
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_network(run, tmp_path):
    words = (*SMALL, "--recipe", "fast", "--epochs", "4", "--set", "average=0.9", "--quiet", "--format", "json")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    script = [sys.executable, "-c", KILLED, *map(str, words), "-o", "net.pt"]
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "net.pt.snapshot").exists()
    assert not (tmp_path / "net.pt").exists()
    code, out, err = run(*words, "-o", "net.pt")
    assert code == 0, err
    assert not (tmp_path / "net.pt.snapshot").exists()
    code, other, _ = run(*words, "-o", "undisturbed.pt")
    assert row(out)["fingerprint"] == row(other)["fingerprint"]
    store = thinice.open_store(tmp_path / "thinice.duckdb")
    assert store.runs()["outcome"].tolist() == ["died", "finished", "finished"]
    assert store.sql("from epochs order by epoch")["epoch"].tolist() == [1, 2, 3, 4]
    assert len(store.sql("from trainings")) == 1


def test_a_loss_that_is_not_finite_leaves_the_last_good_network(run, tmp_path):
    words = (
        *SMALL,
        "--epochs",
        "30",
        "--learning-rate",
        "1e6",
        "--quiet",
        "--set",
        "schedule=one-cycle",
        "--set",
        "warmup=0.9",
    )
    code, out, err = run(*words, "-o", "net.pt")
    assert code == 1
    assert out == ""
    assert err.count("\n") == 1
    assert "`learning_rate` below 1000000.0; the network has the weights of epoch " in err
    assert err.rstrip().endswith("which are in net.pt")
    assert thinice.load_classifier(tmp_path / "net.pt").recipe["training"]["epochs"] == 30  # which are finite


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--recipe", "fastt"), "`recipe` 'fastt' is unknown: did you mean fast?"),
        (("--objective", "tradess"), "`objective` 'tradess' is unknown: did you mean trades?"),
        (("--epochs", "0"), "`epochs` must be a whole number of at least 1, got 0"),
        (
            ("--budget", "8/255"),
            "`budget` is no setting of recipe 'natural' with objective 'natural': there are epochs, ",
        ),
        (
            ("--recipe", "pgd", "--budget", "8"),
            "`budget` 8 is beyond any linf perturbation of inputs in [0, 1]: did you",
        ),
        (("--recipe", "pgd", "--budget", "eight"), "`--budget` must be a number such as 8/255 or 0.03, got 'eight'"),
        (("--set", "momentum"), "`--set` takes NAME=VALUE, such as momentum=0.8, got 'momentum'"),
        (("--set", "momentun=0.8"), "`momentun` is no setting of recipe 'natural'"),
        (("--epochs", "1", "--set", "epochs=2"), "`--set` epochs=2: epochs is given twice: give it once"),
        (("--set", "objective=pgd"), "`--set` changes settings, and the objective is none: give --objective pgd"),
        (("--set", "momentum=fast"), "`momentum` must lie from 0 to below 1, got 'fast'"),
        (("--set", "select=loss"), "`select` 'loss' needs samples that are not trained on"),
        (("--split", "test"), "`--split` test is what networks are measured on: train on another part, such as train"),
        (("--from", DENSE, "--architecture", "cnn5"), "`architecture` "),
        (("--architecture", "cnn5"), "`module` cannot read `samples` of shape (120, 1, 8, 8)"),
        (("--normalization", "cifr"), "`normalization` 'cifr' is not known: give one of"),
        (("-o", "notes.txt"), "is there already and is not a checkpoint: choose another path"),
        (("--device", "cuda:7"), "`device` 'cuda:7' is not there"),
        (("--set", "precision=tf32"), "`precision` tf32 is arithmetic of CUDA devices, and this is cpu"),
    ],
)
def test_what_cannot_be_is_one_line(run, tmp_path, words, message):
    (tmp_path / "notes.txt").write_text("years of work")
    code, out, err = run(*SMALL, "--quiet", "--epochs", "1", *words)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert (tmp_path / "notes.txt").read_text() == "years of work"


def test_values_of_settings():
    assert setting("flip=False") == {"flip": False}
    assert setting("patience=none") == {"patience": None}
    assert setting("select = robust") == {"select": "robust"}
    assert setting("epochs=3") == {"epochs": 3}
    for text in ("=3", "epochs=", "epochs"):
        with pytest.raises(InputError, match="`--set` takes NAME=VALUE"):
            setting(text)


def test_a_recipe_takes_changes_after_commas_and_each_setting_once(run):
    samples = thinice.load_samples("digits", limit=10)
    how = {"option": "--recipe", "usual": "natural"}
    recipe, objective = plan_value("fast,epochs=3,budget=4/255", samples, list, changes={"seed": 5}, **how)
    assert (recipe.epochs, recipe.seed, objective.budget) == (3, 5, 4 / 255)
    assert plan_value("epochs=2", samples, list, **how) == plan_value("natural,epochs=2", samples, list, **how)
    for words, message in (
        (("--recipe", "fast,epochs=3", "--epochs", "4"), "`--recipe` 'fast,epochs=3': epochs is given twice"),
        (("--seed", "1", "--set", "seed=2"), "`--set` seed=2: seed is given twice: give it once"),
    ):
        code, out, err = run(*SMALL, "--quiet", *words)
        assert (code, out, len(err.splitlines())) == (1, "", 1)
        assert message in err


def test_recipes_of_one_paper_stand_together_in_the_help():
    families = [family.split(", ") for family in recipes().split("; ")]
    assert [name for family in families for name in family] == list(RECIPES.names())
    assert ["hydra-pretrain", "hydra-prune", "hydra-prune-short", "hydra-finetune"] in families
    assert all(len({name.partition("-")[0] for name in family}) == 1 for family in families if "-" in family[-1])


@pytest.mark.slow
def test_the_same_command_again_trains_nothing_and_another_one_replaces_nothing(run, tmp_path):
    words = (*SMALL, "--epochs", "2", "-o", "net.pt", "--format", "json")
    code, first, _ = run(*words)
    assert code == 0
    before = (tmp_path / "net.pt").read_bytes()
    code, out, err = run(*words)
    assert code == 0
    assert "net.pt is there already, of this very training: nothing was done; --overwrite trains anew" in err
    assert "epoch 1/2" not in err
    assert {**row(out), "seconds": 0} == {**row(first), "seconds": 0}
    for change, difference in (
        (("--epochs", "3"), "training.epochs was 2, is 3"),
        (("--seed", "1"), "training.seed was 0, is 1"),
        (("--limit", "100"), "data.fingerprint was"),
        (("--normalization", "half"), "normalization was 'none', is "),
        (("--architecture", "small_cnn"), "architecture was 'digits_cnn', is 'small_cnn'"),
    ):
        code, out, err = run(*words, *change)
        assert (code, out) == (1, "")
        assert difference in err.splitlines()[-1]
        assert err.endswith("choose another path, or replace it: `--overwrite`, in Python `overwrite=True`\n")
    torch.save({"some": torch.ones(3)}, tmp_path / "some.pt")
    code, _, err = run(*words, "-o", "some.pt")
    assert code == 1
    assert "thinice: some.pt is there already, and no network that can be read: choose another path, or replace" in err
    assert (tmp_path / "net.pt").read_bytes() == before
    assert len(thinice.open_store(tmp_path / "thinice.duckdb").sql("from runs where outcome = 'finished'")) == 1
    code, out, err = run(*words, "--epochs", "3", "--overwrite")
    assert code == 0, err
    assert row(out)["epochs"] == 3
    assert row(out)["fingerprint"] == thinice.load_classifier(tmp_path / "net.pt").fingerprint


def test_masks_in_the_file_say_what_stays_zero_and_are_in_the_new_file(run, tmp_path):
    """A weight that is zero by accident, but kept, is trained."""
    pruned = thinice.prune(thinice.load_classifier(thinice.example_checkpoints()["dense"]), sparsity=0.9)
    with torch.no_grad():
        pruned.module.fc.weight[pruned.masks.kept["fc.weight"]] = 0.0
    thinice.save_classifier(pruned.module, tmp_path / "pruned.pt", data="digits", masks=pruned.masks)
    words = ("train", "--from", "pruned.pt", "--data", "digits", "--limit", "100", "--no-figures", "--epochs", "1")
    code, _, err = run(*words, "-o", "tuned.pt")
    assert code == 0, err
    assert "holds no masks" not in err
    tuned = thinice.load_classifier(tmp_path / "tuned.pt")
    kept = pruned.masks.kept["fc.weight"]
    assert float((tuned.network.fc.weight[kept] != 0).float().mean()) > 0.5  # some features are always zero
    assert not bool(tuned.network.fc.weight[~kept].any())
    assert all(torch.equal(mask, tuned.masks.kept[name]) for name, mask in pruned.masks.kept.items())
    thinice.save_classifier(pruned.module, tmp_path / "plain.pt", data="digits")
    code, _, err = run(*words, "--from", "plain.pt", "-o", "plainly.pt")
    assert code == 0, err
    assert "plain: holds no masks: its zeros, " in err
    assert not bool(thinice.load_classifier(tmp_path / "plainly.pt").network.fc.weight.any())


def test_a_snapshot_of_another_network_is_not_gone_on_with(run, tmp_path):
    paths = thinice.example_checkpoints()
    words = ("train", "--data", "digits", "--limit", "100", "--no-figures", "--epochs", "1", "-o", "tuned.pt")
    assert run(*words, "--from", paths["pruned-90"])[0] == 0
    (tmp_path / "dense.pt").write_bytes(paths["dense"].read_bytes())
    code, _, err = run(*words, "--from", "dense.pt", "-o", "dense.pt")
    assert code == 1
    assert "`path` dense.pt is the network to train on itself: choose another path" in err
    other = thinice.as_classifier(thinice.load_classifier(paths["dense"]))
    with torch.no_grad():
        other.network.fc.bias += 1
    thinice.save_classifier(other.network, tmp_path / "other.pt")

    def stop(_):
        raise KeyboardInterrupt

    samples, plan = thinice.load_samples("digits", limit=50), preset("finetune", epochs=2, shift=0, flip=False)
    with pytest.raises(KeyboardInterrupt):
        train_classifier(thinice.load_classifier("other.pt"), samples, plan, path=tmp_path / "more.pt", progress=stop)
    with pytest.raises(CheckpointError, match=r"belongs to another training \(hooks.fingerprint was"):
        train_classifier(thinice.load_classifier("dense.pt"), samples, plan, path=tmp_path / "more.pt")


@pytest.mark.slow
def test_overwriting_begins_anew_where_a_snapshot_is_of_another_training(run, tmp_path, monkeypatch):
    words = (*SMALL, "--quiet", "--format", "json")
    assert run(*words, "--epochs", "2", "-o", "undisturbed.pt")[0] == 0

    def interrupted(_self, _epoch):
        raise InputError("stopped here")

    with monkeypatch.context() as stopped:
        stopped.setattr(TrainingReporter, "__call__", interrupted)
        assert run(*words[:-3], "--epochs", "3", "-o", "net.pt")[0] == 1
    assert (tmp_path / "net.pt.snapshot").exists()
    (tmp_path / "net.pt").unlink()  # the network so far
    code, _, err = run(*words, "--epochs", "2", "-o", "net.pt")
    assert code == 1
    assert "net.pt.snapshot belongs to another training (recipe.epochs was 3, is 2)" in err
    code, out, err = run(*words, "--epochs", "2", "-o", "net.pt", "--overwrite")
    assert code == 0, err
    assert row(out)["fingerprint"] == thinice.load_classifier("undisturbed.pt").fingerprint
    assert not (tmp_path / "net.pt.snapshot").exists()


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_long_epochs_show_how_far_they_are(monkeypatch):
    """Two epochs of four steps, a second each: after the second step of the first, six are left."""
    clock, screen = [100.0], Screen()
    monkeypatch.setattr("thinice.cli.train.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("sys.stderr", screen)
    watch = TrainingReporter(Messages(quiet=False), 2)
    for number in (1, 2):
        for step in range(1, 5):
            clock[0] += 1
            watch.step(number, step, 4)
        watch(Epoch(number, 0.1, 1.0, 0.5, None, 4.0))
    text = screen.getvalue()
    assert "epoch 1/2 [############............] 2/4 steps, 6 s left" in text
    assert "epoch 2/2 [##################......] 3/4 steps, 1 s left" in text
    assert "\r\x1b[2Kepoch 1/2, 4 s left: loss 1.000, accuracy 50.0%\n" in text
    assert text.count("\n") == 2
    watch.begin("stage 2/3", 2)
    clock[0] += 5
    watch.step(1, 1, 4)
    assert "stage 2/3, epoch 1/2 [######..................] 1/4 steps, 35 s left" in screen.getvalue()


def test_a_file_of_another_program_is_read_as_other_commands_read_it(run, tmp_path):
    """Its normalisation is asked for, told, or found out; one that a file tells is not changed."""
    network = thinice.load_classifier(DENSE).network
    torch.save(network.state_dict(), tmp_path / "theirs.pth")
    words = ("train", "--data", "digits", "--limit", "100", "--epochs", "1", "--no-figures", "--overwrite")
    code, _, err = run(*words, "--from", "theirs.pth", "--normalization", "half", "-o", "half.pt")
    assert code == 0, err
    assert thinice.load_classifier(tmp_path / "half.pt").normalization == ((0.5,), (0.5,))
    code, _, err = run(*words, "--from", "theirs.pth", "--architecture", "digits_cnn", "-o", "none.pt")
    assert code == 0, err
    assert "theirs: normalisation none chosen on 100 samples" in err
    assert thinice.load_classifier(tmp_path / "none.pt").normalization is None
    code, _, err = run(*words, "--from", DENSE, "--normalization", "half", "-o", "half.pt")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "normalization" in err
