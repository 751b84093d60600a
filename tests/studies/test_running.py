"""A study from its file to its results: run, stopped and run again, shared, and with what fails in it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import thinice
from tests.conftest import ROOT
from thinice.errors import InputError
from thinice.printable import records
from thinice.store import statements
from thinice.studies import parse_study, run_study
from thinice.studies.networks import NetworkFiles, NetworkPlan, NetworkTask, waves
from thinice.studies.per_sample import Network, samples_of
from thinice.studies.results import CLEAN, Measure, Point, study_results
from thinice.studies.running import load_setup

pytestmark = pytest.mark.slow

pytest.importorskip("yaml")

TINY = """\
architecture: digits_cnn
data: digits
training: {recipe: natural, epochs: 2, learning_rate: 0.05, batch_size: 32}
retraining: {recipe: finetune, epochs: 1, batch_size: 32}
methods: [magnitude-global-unstructured, random-local-filter]
rates: [1, 2, 4]
training_samples: 100
samples: 20
attacks:
  - {attack: pgd, norm: linf, budgets: [8/255], steps: 3}
  - {attack: fmn, norm: l2, budgets: [0.1, 0.3], steps: 10}
"""
GLOBAL, FILTER = "magnitude-global-unstructured", "random-local-filter"
PGD, NEAR, FAR = Measure("pgd", "linf", 8 / 255), Measure("fmn", "l2", 0.1), Measure("fmn", "l2", 0.3)
CELLS = "select setup, method, rate, seed, attack, norm, budget, n, clean_accuracy, robust_accuracy, error from cells"


@pytest.fixture(scope="module")
def tiny():
    return parse_study(TINY, "tiny")


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """The tiny study after its run: a folder with the store and the networks, and what was told."""
    folder = tmp_path_factory.mktemp("tiny")
    told: list[str] = []
    seen: list[str] = []
    done = run_study(
        tiny,
        store=folder / "s.duckdb",
        networks=folder / "networks",
        say=told.append,
        progress=lambda shown: seen.append(shown.line),
    )
    return folder, done, told, seen


def again(study, folder, networks="networks", store="s.duckdb"):
    return run_study(study, store=folder / store, networks=folder / networks, progress=False)


def contents(folder, store="s.duckdb", study="tiny"):
    return records(thinice.open_store(folder / store).sql(f"{CELLS} where study = ?", [study]))


def test_everything_is_made_and_measured(run):
    folder, done, told, seen = run
    assert (done.networks, done.measured, done.failures) == (5, 5, ())
    assert len(list((folder / "networks").glob("*.pt"))) == 5
    assert not list((folder / "networks").glob("*snapshot*")) + list((folder / "networks").glob("*.stages"))
    assert seen[-1] == "tiny: 5/5 networks"
    assert any("rate 4, epoch 1" in line and " left" in line for line in seen)
    assert any("limit: 20 of" in line for line in told)
    cells = contents(folder)
    assert len(cells) == 5 * 3
    assert {cell["n"] for cell in cells} == {20}
    assert {cell["method"] for cell in cells} == {"dense", GLOBAL, FILTER}


def test_networks_are_pruned_as_asked(run):
    folder = run[0]
    by_rate = {}
    dense = None
    for path in (folder / "networks").glob("*.pt"):
        network = thinice.load_classifier(path)
        if "dense" in path.name:
            dense = network
        elif GLOBAL in path.name:
            by_rate[network.recipe["pruning"]["stages"][-1]] = network
        else:
            assert network.masks.convolutions().sparsity == pytest.approx(
                {2: 0.5, 4: 0.75}[network.recipe["pruning"]["stages"][-1]], abs=0.05
            )
    assert {rate: network.sparsity for rate, network in by_rate.items()} == pytest.approx({2: 0.5, 4: 0.75}, abs=1e-3)
    assert {network.parent for network in by_rate.values()} == {dense.fingerprint}
    kept, later = (by_rate[rate].masks.kept for rate in (2, 4))
    assert all(bool((kept[name] | ~later[name]).all()) for name in kept)  # what went stays away


def test_accuracies_are_those_of_evaluate(tiny, run):
    """The networks of the folder, evaluated anew without the store."""
    folder = run[0]
    samples = thinice.load_samples("digits", limit=20)
    results = study_results(tiny, folder / "s.duckdb")
    (path,) = (folder / "networks").glob(f"*{GLOBAL}-rate4-*.pt")
    network, place = thinice.load_classifier(path), (tiny.setups[0].name, GLOBAL, 4.0)
    for measures, steps in (([PGD], 3), ([NEAR, FAR], 10)):
        direct = thinice.evaluate_all(
            [network],
            samples,
            budgets=[measure.budget for measure in measures],
            attack=measures[0].attack,
            norm=measures[0].norm,
            steps=steps,
            checks=False,
            progress=False,
        )
        for measure, robustness in zip(measures, direct, strict=True):
            assert results.points[Point(*place, measure)].accuracy == robustness.robust_accuracy
            assert results.points[Point(*place, CLEAN)].accuracy == robustness.clean_accuracy


def test_sample_by_sample_and_in_sql_it_is_the_same(tiny, run):
    folder = run[0]
    store = thinice.open_store(folder / "s.duckdb")
    samples = samples_of(tiny, tiny.setups[0], store)
    assert samples.sample_ids.tolist() == sorted(thinice.load_samples("digits", limit=20).sample_ids.tolist())
    for cell in contents(folder):
        network = Network(cell["seed"], cell["method"], cell["rate"])
        measure = Measure(cell["attack"], cell["norm"], cell["budget"])
        assert samples.robust[network, measure].mean() == pytest.approx(cell["robust_accuracy"])
        assert samples.correct[network].mean() == pytest.approx(cell["clean_accuracy"])
        assert not (samples.robust[network, measure] & ~samples.correct[network]).any()
    means = store.sql("from studies where method = 'dense' and attack = 'pgd'")
    assert means["seeds"].tolist() == [1]
    assert np.isnan(means["robust_sd"]).all()  # one seed has no spread
    assert store.sql("select count(*) as n from separation")["n"].tolist() == [4]  # thinice report shows them too


def test_the_questions_of_the_page_have_answers(run):
    page = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sql\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    store = thinice.open_store(run[0] / "s.duckdb")
    answers = [store.sql(text) for text in statements(block)]
    assert [len(answer) for answer in answers] == [5, 4]


def test_a_second_run_makes_nothing(tiny, run):
    folder = run[0]
    files = {path: path.stat().st_mtime_ns for path in (folder / "networks").iterdir()}
    before = contents(folder)
    assert again(tiny, folder).measured == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "networks").iterdir()} == files
    assert contents(folder) == before


def test_another_study_shares_networks_and_cells(run):
    """One method and one attack less, one rate more, and another name: only what is new is made."""
    folder = run[0]
    text = TINY.replace("rates: [1, 2, 4]", "rates: [1, 2, 4, 8]").replace(f", {FILTER}", "")
    other = parse_study(text, "other")
    assert again(other, folder).measured == 1
    assert len(list((folder / "networks").glob("*.pt"))) == 6
    mine = [cell for cell in contents(folder) if cell["method"] != FILTER]
    assert [cell for cell in contents(folder, study="other") if cell["rate"] < 8] == mine
    (folder / "none").mkdir()
    assert again(parse_study(TINY, "third"), folder, networks="none").measured == 0  # the store has all that is asked
    assert not list((folder / "none").iterdir())


def test_what_is_no_longer_asked_for_is_forgotten(tmp_path, run):
    folder = run[0]
    (tmp_path / "s.duckdb").write_bytes((folder / "s.duckdb").read_bytes())
    smaller = parse_study(TINY.replace("budgets: [0.1, 0.3]", "budgets: [0.1]"), "tiny")
    assert again(smaller, tmp_path).measured == 0
    assert {cell["budget"] for cell in contents(tmp_path)} == {8 / 255, 0.1}
    renamed = TINY.replace("architecture", "setups: [{name: new}]\narchitecture", 1)
    assert again(parse_study(renamed, "tiny"), tmp_path).measured == 0
    assert {cell["setup"] for cell in contents(tmp_path)} == {"new"}


def test_the_same_seed_makes_the_same_networks(tiny, tmp_path, run):
    training, _ = load_setup(tiny.setups[0])
    files = NetworkFiles(tiny.setups[0], training, tmp_path)
    for plan in (NetworkPlan(0), NetworkPlan(0, tiny.methods[1], (2.0,))):
        path = files.make(plan, torch.device("cpu")).path
        twin = thinice.load_classifier(run[0] / "networks" / path.name)
        assert thinice.load_classifier(path).fingerprint == twin.fingerprint


def test_another_seed_or_setting_is_another_network(tiny, tmp_path):
    setup = tiny.setups[0]
    training, _ = load_setup(setup)
    files = NetworkFiles(setup, training, tmp_path)
    plans = [
        NetworkPlan(0),
        NetworkPlan(1),
        *(NetworkPlan(0, method, stages) for method in tiny.methods for stages in ((2,), (4,), (2, 4))),
    ]
    other = NetworkFiles(replace(setup, training=setup.retraining), training, tmp_path)
    fewer = NetworkFiles(setup, training[:50], tmp_path)
    keys = [each.key(plan) for each in (files, other, fewer) for plan in plans]
    assert len(set(keys)) == len(keys) == 24
    kept = NetworkFiles(replace(setup, skip="conv1.*"), training, tmp_path)
    assert [kept.key(plan) == files.key(plan) for plan in plans] == [True, True] + [False] * 6


def test_waves_need_only_what_was_before(tiny):
    made: set[NetworkPlan] = set()
    for wave in waves(tiny):
        assert all(plan.before is None or plan.before in made for plan in wave)
        made |= set(wave)
    assert len(made) == tiny.networks


def test_a_failed_network_is_told_and_stops_only_what_is_pruned_out_of_it(tiny, run, tmp_path, monkeypatch):
    """The filter method fails at rate 2; then the disk is mended, and the same call makes what is missing."""
    shutil.copytree(run[0] / "networks", tmp_path / "networks", ignore=shutil.ignore_patterns(f"*{FILTER}*"))
    make = NetworkFiles.make

    def failing(files, plan, device):
        if plan.method is not None and plan.method.name == FILTER and plan.rate == 2:
            raise RuntimeError("no room\nleft")
        return make(files, plan, device)

    monkeypatch.setattr(NetworkFiles, "make", failing)
    told: list[str] = []
    done = run_study(tiny, store=tmp_path / "s.duckdb", networks=tmp_path / "networks", say=told.append, progress=False)
    assert [str(failure) for failure in done.failures] == [
        f"digits_cnn on digits, seed 0, {FILTER}, rate 2: RuntimeError: no room left",
        f"digits_cnn on digits, seed 0, {FILTER}, rate 4: it is pruned out of seed 0, {FILTER}, rate 2, which failed",
    ]
    assert [failure.failed_before for failure in done.failures] == [None, f"seed 0, {FILTER}, rate 2"]
    assert [line for line in told if line.startswith("failed: ")] == [f"failed: {done.failures[0]}"]
    cells = contents(tmp_path)
    assert sum(cell["error"] is not None for cell in cells) == 2 * 3
    assert [cell for cell in cells if cell["error"] is None] == [
        cell for cell in contents(run[0]) if cell["method"] != FILTER
    ]
    results = study_results(tiny, tmp_path / "s.duckdb")
    assert results.points[Point("digits_cnn on digits", FILTER, 2.0)].accuracy is None
    assert results.finished == 3 * 3 + 3  # a method with all its rates, and the dense network of the other one
    assert len(results.errors) == 2
    monkeypatch.undo()
    assert again(tiny, tmp_path).measured == 2
    assert contents(tmp_path) == contents(run[0])


def test_data_that_are_not_there_are_one_failure(tmp_path):
    study = parse_study(TINY.replace("data: digits", f"data: 'npz:{tmp_path}/no.npz'"), "gone")
    done = again(study, tmp_path)
    (failure,) = done.failures
    assert failure.network == "all networks"
    assert "no.npz" in failure.reason


def test_a_budget_beyond_the_images_is_one_failure_and_other_setups_go_on(tmp_path):
    """An architecture for any size does not tell that digits have 64 values; the data do."""
    text = TINY.replace("architecture: digits_cnn\n", "").replace("methods: [" + GLOBAL + ", ", "methods: [")
    text = (
        text.partition("attacks:")[0].replace("rates: [1, 2, 4]", "rates: [1, 2]")
        + """\
setups:
  - {architecture: resnet20, attacks: [{attack: fmn, norm: l0, budgets: [100]}]}
  - {architecture: digits_cnn, attacks: [{attack: pgd, norm: linf, budgets: [8/255], steps: 1}]}
"""
    )
    done = again(parse_study(text, "beyond"), tmp_path)
    (failure,) = done.failures
    assert (failure.setup, failure.network) == ("resnet20 on digits", "all networks")
    assert "`budget` 100" in failure.reason
    assert done.measured == 2


def test_networks_are_made_by_the_engine(tiny, tmp_path):
    """A task of networks goes through the protocol: any number of shards, an error of one in its own result."""
    setup = tiny.setups[0]
    training, _ = load_setup(setup)
    files = NetworkFiles(replace(setup, skip="nothing*"), training, tmp_path)
    task = NetworkTask([NetworkPlan(0), NetworkPlan(0, tiny.methods[0], (2.0,))], files)
    assert (len(task), task.values) == (2, 64)
    dense, pruned = task.on(torch.device("cpu"))(slice(0, 2))
    assert dense.error is None
    assert dense.path.is_file()
    assert "`skip` 'nothing*' is the name of no weight" in pruned.error


def test_workers_make_the_same_networks_and_measure_the_same(tiny, run, tmp_path):
    done = run_study(tiny, store=tmp_path / "s.duckdb", networks=tmp_path / "networks", workers=2, progress=False)
    assert (done.measured, done.failures) == (5, ())
    assert contents(tmp_path) == contents(run[0])
    for path in (tmp_path / "networks").glob("*.pt"):
        twin = thinice.load_classifier(run[0] / "networks" / path.name)
        assert thinice.load_classifier(path).fingerprint == twin.fingerprint


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_done(tiny, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"`networks` .*file/networks"):
        run_study(tiny, store=tmp_path / "s.duckdb", networks=tmp_path / "file" / "networks", progress=False)
    assert not (tmp_path / "s.duckdb").exists()


@pytest.mark.slow
def test_killed_at_random_points_and_run_again_it_ends_the_same(run, tmp_path):
    """kill -9, by a clock that knows nothing of the study, until a run comes to its end."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = [sys.executable, "-m", "thinice", "study", "tiny.yaml", "--store", "s.duckdb", "--no-figures", "--quiet"]
    command += ["--networks", "networks", "--format", "json"]
    random = np.random.default_rng(7)
    patience, kills = 4.0, 0
    while patience < 3600:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        try:
            process.communicate(timeout=patience * random.random())
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            patience, kills = 1.3 * patience, kills + 1
    assert process.returncode == 0
    assert kills
    assert contents(tmp_path) == contents(run[0])
    for path in (run[0] / "networks").glob("*rate[24]-*.pt"):
        twin = tmp_path / "networks" / path.name
        assert thinice.load_classifier(twin).fingerprint == thinice.load_classifier(path).fingerprint
    outcomes = thinice.open_store(tmp_path / "s.duckdb").runs()["outcome"]
    assert "died" in set(outcomes)
