"""Networks of a study whose making was stopped: what an earlier version left does not keep them from being made."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

import thinice
from thinice.engines import LocalEngine
from thinice.errors import CheckpointError, InputError
from thinice.models import load_classifier
from thinice.studies import parse_study, run_study
from thinice.studies.networks import NetworkFiles, NetworkPlan, NetworkTask
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


SMALL = STUDY.replace("magnitude-global-unstructured]", "magnitude-global-unstructured, random-local-filter]").replace(
    "budgets: [8/255]}]", "budgets: [8/255], steps: 1}], samples: 10"
)
CURVE = (
    "select fingerprint, name, epoch, loss, accuracy, checkpoint_id is null as unfinished from trainings join epochs"
)


@dataclass
class Away:
    """Makes networks as other processes do: what they are told of a training stays there; one may end its workers."""

    fatal: str = "none"
    device = CPU

    def run(self, task):
        if not isinstance(task, NetworkTask):
            yield from LocalEngine(CPU).run(task)
            return
        assert (task.files.store, task.files.progress, task.threads) == (None, None, torch.get_num_threads())
        for k, plan in enumerate(task.plans):
            if self.fatal in plan.label:
                raise InputError("`workers`: it ended 3 processes")
            yield slice(k, k + 1), task.on(CPU)(slice(k, k + 1))


def curves(store):
    return store.sql(f"{CURVE} using (training_id) order by all")


def made_by(monkeypatch, engine, folder):
    """Run the small study with an engine, and return what it did and the store."""
    monkeypatch.setattr("thinice.studies.running.make_engine", lambda _: engine)
    folder.mkdir(exist_ok=True)
    store = thinice.open_store(folder / "s.duckdb", new=True)
    done = run_study(parse_study(SMALL, "small"), store=store, networks=folder / "networks", progress=False)
    assert not list((folder / "networks").glob("*.snapshot"))
    return done, store


@pytest.mark.slow
def test_networks_made_away_are_the_same_and_the_store_knows_their_curves(tmp_path, monkeypatch):
    engines = {"here": LocalEngine(CPU, 1), "away": Away()}
    results = {name: made_by(monkeypatch, engine, tmp_path / name) for name, engine in engines.items()}
    (here, at_home), (away, elsewhere) = results["here"], results["away"]
    assert (here.measured, here.failures) == (away.measured, away.failures) == (3, ())
    files = [sorted((tmp_path / name / "networks").glob("*.pt")) for name in engines]
    assert [path.name for path in files[0]] == [path.name for path in files[1]]
    fingerprints = [[load_classifier(path).fingerprint for path in paths] for paths in files]
    assert fingerprints[0] == fingerprints[1]
    assert len(curves(at_home)) == 2
    assert not curves(at_home)["unfinished"].any()
    assert curves(at_home).equals(curves(elsewhere))


@pytest.mark.slow
def test_what_a_killed_driver_had_not_stored_the_next_one_stores(tmp_path, monkeypatch):
    setup = parse_study(SMALL, "small").setups[0]
    training, _ = load_setup(setup)
    (folder := tmp_path / "networks").mkdir()
    files = NetworkFiles(setup, training, folder, keep_snapshots=True)
    path = files.make(NetworkPlan(0), CPU).path
    before = path.stat().st_size, load_classifier(path).fingerprint
    assert not files.is_made(NetworkPlan(0))
    _, store = made_by(monkeypatch, LocalEngine(CPU, 1), tmp_path)
    assert len(curves(store)) == 2
    assert (path.stat().st_size, load_classifier(path).fingerprint) == before


@pytest.mark.slow
def test_a_network_that_ends_its_workers_is_one_failure(tmp_path, monkeypatch):
    done, _ = made_by(monkeypatch, Away("magnitude"), tmp_path)
    (failure,) = done.failures
    assert failure.network == "seed 0, magnitude-global-unstructured, rate 2"
    assert failure.reason == "`workers`: it ended 3 processes"
    assert done.measured == 2
