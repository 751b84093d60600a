"""Networks of a study whose making was stopped: what an earlier version left does not keep them from being made."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from thinice.errors import CheckpointError
from thinice.models import load_classifier
from thinice.studies import parse_study
from thinice.studies.networks import NetworkFiles, NetworkPlan
from thinice.studies.running import load_setup

pytest.importorskip("yaml")

STUDY = """\
{architecture: digits_cnn, data: digits, training: {recipe: natural, epochs: 2, batch_size: 32}, rates: [1, 2],
 training_samples: 40, methods: [magnitude-global-unstructured], attacks: [{attack: pgd, norm: linf, budgets: [8/255]}]}
"""
CPU = torch.device("cpu")


def stop(*_):
    raise KeyboardInterrupt


def test_what_an_earlier_version_left_is_renamed_and_the_network_made_anew(tmp_path):
    study = parse_study(STUDY, "tiny")
    setup = study.setups[0]
    training, _ = load_setup(setup)
    files = NetworkFiles(setup, training, tmp_path / "left")
    undisturbed = replace(files, folder=tmp_path / "undisturbed")
    files.folder.mkdir()
    undisturbed.folder.mkdir()
    for plan, left in (
        (NetworkPlan(0), "*.snapshot"),
        (NetworkPlan(0, study.methods[0], (2.0,)), "*.stages/stage-*.pt"),
    ):
        for old in ("old-1", "old-2"):
            files.path(plan).unlink(missing_ok=True)
            with pytest.raises(KeyboardInterrupt):
                replace(files, progress=stop).make(plan, CPU)
            (snapshot,) = files.folder.glob(left)
            torch.save(torch.load(snapshot, weights_only=True) | {"format": 0}, snapshot)
            made = files.make(plan, CPU)
            renamed = snapshot if plan.method is None else snapshot.parent
            (aside,) = files.folder.glob(f"*{renamed.suffix}.{old}")
            assert f"{snapshot} is a snapshot of format 0, this version reads format 3" in made.notes[0]
            assert made.notes[0].endswith(f"renamed to {aside.name}")
            assert made.notes[0].startswith("made anew: ")
            assert not renamed.exists()
        weights = load_classifier(made.path).fingerprint
        assert weights == load_classifier(undisturbed.make(plan, CPU).path).fingerprint


def test_a_disk_that_is_full_renames_nothing(tmp_path, monkeypatch):
    setup = parse_study(STUDY, "tiny").setups[0]
    files = NetworkFiles(setup, load_setup(setup)[0], tmp_path)
    with pytest.raises(KeyboardInterrupt):
        replace(files, progress=stop).make(NetworkPlan(0), CPU)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match="No space left on device"):
        files.make(NetworkPlan(0), CPU)
    assert sorted(tmp_path.iterdir()) == before
