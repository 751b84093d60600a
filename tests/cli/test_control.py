"""`thinice compare --control`: a checkpoint, several, or weight noise."""

from __future__ import annotations

import json

import pytest

import thinice

OPTIONS = ("--limit", 100, "--attack", "fmn", "--steps", 4, "--no-figures", "--quiet")


@pytest.mark.slow
def test_a_checkpoint_or_noise_is_the_control(run):
    paths = thinice.example_checkpoints()
    networks = [paths["dense"], paths["pruned-95"]]
    control = ("--control", paths["pruned-95"], "--control", paths["pruned-90"])
    code, out, err = run("compare", *networks, *control, *OPTIONS, "--format", "json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert row["pruned"] == "pruned-95"
    assert row["control_weight_noise"] is False
    assert row["control_churn"] == pytest.approx(row["churn"] / 2)  # of 100 samples the other changes none
    assert row["churn"] > 0
    assert row["control_auc"] == row["auc"]
    code, out, err = run("compare", *networks, "--control", "noise", *OPTIONS)
    assert code == 0, err
    assert "The control, weight noise that changes" in " ".join(out.split())
    assert "AUC of the control" in out


@pytest.mark.slow
def test_without_a_control_it_is_said_how_to_get_one(run):
    paths = thinice.example_checkpoints()
    words = ("compare", paths["dense"], paths["pruned-95"], *(word for word in OPTIONS if word != "--quiet"))
    for more, said in (((), True), (("--control", paths["pruned-90"]), False)):
        code, _, err = run(*words, "--limit", 30, *more)
        assert code == 0, err
        assert ("--control noise" in err) is said
    code, _, err = run(*words, "--limit", 30, "--basis", "robust", "--budget", "2/255")  # has no control
    assert code == 0, err
    assert "--control noise" not in err


def test_what_is_no_control_is_refused_in_a_line(run):
    paths = thinice.example_checkpoints()
    networks = [paths["dense"], paths["pruned-95"]]
    code, out, err = run("compare", *networks, "--control", "noise", "--control", paths["pruned-90"], *OPTIONS)
    assert (code, out) == (1, "")
    assert "`--control noise` goes alone" in err
    code, _, err = run("compare", *networks, "--control", "seed2.pt", *OPTIONS)
    assert code == 1
    assert "seed2.pt" in err
    assert len(err.strip().splitlines()) == 1
