"""`thinice prune --thin-ice`: epsilons are measured or read, weights are the function's, and the file tells all."""

from __future__ import annotations

import duckdb
import pytest
import torch

import thinice
from thinice import ThinIce, load_classifier
from thinice.data.digits import example_checkpoints
from thinice.pruning.classifiers import prune_classifier
from thinice.training.presets import fitted_preset

PRUNE = ("prune", example_checkpoints()["dense"], "--method", "lwm", "--sparsity", "0.8", "--limit", "60")
QUIET = ("--device", "cpu", "--quiet")
TUNED = ("--finetune", "finetune,epochs=2,batch_size=20")
WEIGHTS = ("--thin-ice", "exponential,strength=3,budget=0.1,shuffled=true,seed=5")


@pytest.mark.slow
def test_it_is_the_function_and_the_store_is_read(run):
    words = (*PRUNE, *QUIET, *TUNED, *WEIGHTS, "--store", "thinice.duckdb")
    code, _, err = run(*words, "-o", "near.pt")
    assert (code, err) == (0, "")
    near = load_classifier("near.pt")

    dense, samples = (
        load_classifier(example_checkpoints()["dense"]),
        thinice.load_samples("digits", split="train", limit=60),
    )
    nearest = thinice.measure(dense, samples, norm="linf", effort="quick", progress=False, device="cpu")
    assert nearest.epsilon.isfinite().sum() > 50
    settings = {"shape": "exponential", "strength": 3, "budget": 0.1, "shuffled": True, "seed": 5}
    plan, _ = fitted_preset("finetune", samples, epochs=2, batch_size=20)
    (same,) = prune_classifier(
        dense,
        "lwm",
        path="same.pt",
        sparsity=0.8,
        samples=samples,
        finetune=plan,
        thin_ice=ThinIce(epsilons=nearest.epsilon, measured_by="tmn, linf, quick", **settings),
        device="cpu",
    )
    assert same.classifier.fingerprint == near.fingerprint
    told = near.recipe["thin_ice"]
    assert settings.items() <= told.items()
    assert (told["other"], told["measured_by"]) == (1.0, "tmn, linf, quick")
    with thinice.open_store("thinice.duckdb") as store:
        (row,) = store.sql("select count(*) as measured from epsilons").to_dict("records")
        assert row["measured"] == 60

    with duckdb.connect("thinice.duckdb") as connection:
        connection.execute("update epsilons set epsilon = epsilon / 2 where epsilon > 0")
    code, _, err = run(*words, "-o", "read.pt")
    assert code == 0, err
    assert load_classifier("read.pt").recipe["thin_ice"]["epsilons"] != told["epsilons"]
    for name, mask in same.classifier.masks.kept.items():
        assert torch.equal(mask, near.masks.kept[name])
    code, _, err = run(*PRUNE, *QUIET, *TUNED, "--thin-ice", "power,budget=0.1", "-o", "near.pt")
    assert code == 1
    assert "thin_ice.shape was 'exponential', is 'power'" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (WEIGHTS, "`--thin-ice` changes nothing without training: give `--finetune`, or leave it out"),
        ((*TUNED, "--store", "x.duckdb"), "`--store` is for the epsilons of `--thin-ice`: give that, or leave it out"),
        ((*TUNED, "--thin-ice", "sharp"), "`shape` must be one of power, exponential, window, got 'sharp'"),
        ((*TUNED, "--thin-ice", "power,force=2"), "`--thin-ice` 'power,force=2': there is no force, but strength, bud"),
        ((*TUNED, "--thin-ice", "power,epsilons=2"), "there is no epsilons, but strength, budget"),
        ((*TUNED, "--thin-ice", "power,strength=1,strength=2"), "strength is given twice"),
        ((*TUNED, "--thin-ice", "strength=-1"), "`strength` must be a number of at least 0, got -1"),
        ((*TUNED, "--thin-ice", "power"), "`budget` must be given, such as 8/255: this training attacks within none"),
        ((*TUNED, *WEIGHTS, "--split", "test"), "`--split` test is what networks are measured on"),
    ],
)
def test_what_changes_nothing_is_refused_in_one_line_and_before_the_measurement(run, monkeypatch, words, message):
    monkeypatch.setattr(thinice, "measure_all", None)
    code, _, err = run(*PRUNE, *QUIET, *words, "-o", "x.pt")
    assert (code, len(err.splitlines())) == (1, 1), err
    assert message in err
