"""A run survives its end: shards stay, the next run goes on, and the result is that of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

import thinice
from thinice.analysis import session as module
from thinice.analysis.session import MeasurementSession
from thinice.attacks import make_attack
from thinice.models import as_classifier
from thinice.results import Measured
from thinice.types import FoundBy, Outcome

ATTACK = make_attack("fmn", norm="linf", steps=20)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3))


@pytest.fixture
def samples():
    torch.manual_seed(1)
    inputs = torch.rand(20, 1, 4, 4)
    with torch.no_grad():
        labels = network()(inputs).argmax(1)
    labels[::7] = (labels[::7] + 1) % 3
    return thinice.as_samples(inputs, labels, classes=("a", "b", "c"))


@pytest.fixture
def store(tmp_path):
    return thinice.open_store(tmp_path / "thinice.duckdb", new=True)


def epsilons(store, samples, classifier=None, **options):
    sizes = {} if "engine" in options else {"batch_size": 4}
    session = MeasurementSession(store, samples, **{"progress": False, **sizes, **options})
    with session.run(ATTACK, seed=0, command=["test"]):
        return session.measure(classifier or as_classifier(network()), ATTACK)


def test_what_comes_out_of_the_store_is_what_was_measured(store, samples):
    measured = epsilons(store, samples)
    nearest = ATTACK(network(), samples.inputs, samples.labels, samples.sample_ids)
    np.testing.assert_allclose(measured.epsilon, nearest.epsilon.numpy(), rtol=1e-4, equal_nan=True)
    np.testing.assert_array_equal(measured.outcomes, nearest.outcomes.numpy())
    np.testing.assert_array_equal(measured.predictions, nearest.predictions.numpy())
    np.testing.assert_array_equal(measured.found_by, nearest.found_by.numpy())


def test_what_the_search_says_of_itself_is_stored_too(store, samples):
    tmn = make_attack("tmn", norm="l2", effort="quick")
    session = MeasurementSession(store, samples, progress=False)
    with session.run(tmn, seed=0, command=["test"]):
        measured = session.measure(as_classifier(network()), tmn)
    nearest = tmn(network(), samples.inputs, samples.labels, samples.sample_ids)
    assert nearest.converged.any()
    np.testing.assert_array_equal(measured.converged, nearest.converged.numpy())
    np.testing.assert_array_equal(measured.failure_reasons, nearest.failure_reasons.numpy())
    found = measured.outcomes == Outcome.FOUND
    assert (measured.found_by[found] == FoundBy.SEARCH).all()
    assert (measured.found_by[~found] == FoundBy.NONE).all()
    assert not measured.converged[~found].any()


def test_order_is_that_of_the_selection(store, samples):
    straight = epsilons(store, samples)
    order = np.random.default_rng(0).permutation(20)
    np.testing.assert_array_equal(epsilons(store, samples[order]).epsilon, straight.epsilon[order])


def test_asked_again_nothing_is_measured(store, samples):
    seen = []
    first = epsilons(store, samples, progress=seen.append)
    before = len(seen)
    again = epsilons(store, samples, progress=seen.append)
    assert len(seen) == before
    np.testing.assert_array_equal(first.epsilon, again.epsilon)
    assert store.runs()["samples"].tolist() == [20, 0]


def test_a_larger_selection_measures_only_what_is_new(store, samples):
    epsilons(store, samples[:8])
    seen = []
    epsilons(store, samples, progress=seen.append)
    assert seen[0].resumed == 8
    assert store.runs()["samples"].tolist() == [8, 12]


def test_an_interrupt_keeps_finished_batches_and_the_next_run_goes_on(store, samples, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_A_SHARD", 1e9)  # nothing is committed before the interrupt

    def stop(progress):
        if progress.done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        epsilons(store, samples, progress=stop)
    assert store.sql("select count(*) as n from epsilons")["n"].item() == 8
    assert store.runs()["outcome"].tolist() == ["interrupted"]
    undisturbed = ATTACK(network(), samples.inputs, samples.labels, samples.sample_ids).epsilon.numpy()
    np.testing.assert_allclose(epsilons(store, samples).epsilon, undisturbed, rtol=1e-4, equal_nan=True)


def test_an_error_keeps_finished_batches_too(store, samples):
    def fail(progress):
        if progress.done >= 12:
            raise RuntimeError("the screen is gone")

    with pytest.raises(RuntimeError, match="the screen is gone"):
        epsilons(store, samples, progress=fail)
    assert store.sql("select count(*) as n from epsilons")["n"].item() == 12
    assert store.runs()["outcome"].tolist() == ["failed"]


def test_another_network_is_another_measurement(store, samples):
    one, other = epsilons(store, samples), epsilons(store, samples, as_classifier(network(5)))
    assert one.measurement_id != other.measurement_id
    assert not np.array_equal(one.epsilon, other.epsilon)


def test_predictions_with_nan_are_no_class(store, samples):
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, inputs):
            broken = (inputs.flatten(1)[:, :1] > 0.5).expand(-1, 3)
            return torch.where(broken, torch.nan, self.inner(inputs))

    session = MeasurementSession(store, samples, progress=False)
    with session.run(ATTACK, seed=0, command=["test"]):
        found = session.predict(as_classifier(Half())).predictions
        measured = session.measure(as_classifier(Half()), ATTACK)
    broken = (samples.inputs.flatten(1)[:, 0] > 0.5).numpy()
    assert 0 < broken.sum() < 20
    assert ((found == -1) == broken).all()
    assert (measured.outcomes[broken] == Outcome.NOT_FOUND).all()


def test_witnesses_prove_their_epsilons(store, samples):
    session = MeasurementSession(store, samples, progress=False)
    with session.run(ATTACK, seed=0, command=["test"]):
        measured = session.measure(as_classifier(network()), ATTACK)
        adversarials = session.adversarials(measured, np.arange(20))
    found = np.flatnonzero(measured.outcomes == Outcome.FOUND)
    assert [example.position for example in adversarials] == found.tolist()
    for example in adversarials:
        assert np.abs(example.adversarial - example.inputs).max() == pytest.approx(measured.epsilon[example.position])
        with torch.no_grad():
            seen = network()(torch.from_numpy(example.adversarial.copy())[None]).argmax()
        assert seen == example.prediction


def test_of_large_samples_the_closest_are_kept(store, samples, monkeypatch):
    monkeypatch.setattr(module, "ADVERSARIAL_VALUES", 15)
    monkeypatch.setattr(module, "CLOSEST", 2)
    measured = epsilons(store, samples, batch_size=100)
    found = np.flatnonzero(measured.outcomes == Outcome.FOUND)
    closest = found[np.argsort(measured.epsilon[found])[:2]]
    assert set(store.sql("select sample_id from adversarials")["sample_id"]) == set(closest)


def test_summary_counts_what_was_not_found_as_farthest(samples):
    labels = samples.labels[:5].numpy()
    measured = Measured(
        network="net",
        sparsity=0.0,
        data="data",
        split="test",
        norm="linf",
        attack="fmn",
        measurement_id=1,
        sample_ids=np.arange(5),
        labels=labels,
        epsilon=np.array([0, 0.1, 0.2, np.nan, np.nan], np.float32),
        outcomes=np.array([0, 1, 1, 2, 2], np.int8),
        predictions=np.array([1, 1, 1, -1, -1]),
        clean_predictions=(labels + np.array([1, 0, 0, 0, 0])) % 3,
        evaluations=np.full(5, 10, np.float32),
        converged=np.zeros(5, np.bool_),
        found_by=np.array([0, 1, 1, 0, 0], np.int8),
        failure_reasons=np.zeros(5, np.int8),
    )
    row = measured.to_dict()
    assert (row["misclassified"], row["found"], row["not_found"]) == (1, 2, 2)
    assert row["median_epsilon"] is None  # of 0.1, 0.2, unknown, unknown


class Backwards:
    """An engine whose shards come in any order, as those of other processes do."""

    device = torch.device("cpu")

    def run(self, task):
        compute = task.on(self.device)
        for start in reversed(range(0, len(task), 3)):
            part = slice(start, min(start + 3, len(task)))
            yield part, compute(part)


@pytest.mark.slow
def test_the_order_in_which_an_engine_finishes_its_shards_does_not_matter(store, samples, tmp_path):
    other = thinice.open_store(tmp_path / "other.duckdb", new=True)
    backwards, forwards = epsilons(other, samples, engine=Backwards()), epsilons(store, samples)
    np.testing.assert_allclose(backwards.epsilon, forwards.epsilon, rtol=1e-4, equal_nan=True)
    np.testing.assert_array_equal(backwards.clean_predictions, forwards.clean_predictions)
    margins = []
    for chosen, engine in ((store, "local"), (other, Backwards())):
        session = MeasurementSession(chosen, samples, progress=False, engine=engine)
        with session.run(ATTACK, seed=0, command=["test"]):
            margins.append(session.predict(as_classifier(network())).margins)
    np.testing.assert_allclose(*margins, rtol=1e-4)


KILLED = """
import sys, time
sys.path.insert(0, {root!r})
import torch, thinice
from tests.analysis.test_session import ATTACK, network
from thinice.analysis.session import MeasurementSession
from thinice.analysis import session as module
from thinice.models import as_classifier
module.SECONDS_A_SHARD = 0.0
samples = thinice.load_samples("npz:{data}")
def slowly(moment):
    print(moment.done, flush=True)
    time.sleep(0.2)
session = MeasurementSession(thinice.open_store({store!r}), samples, progress=slowly, batch_size=2)
with session.run(ATTACK, seed=0, command=["killed"]):
    session.measure(as_classifier(network()), ATTACK)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is not there")
def test_kill_nine_loses_nothing_that_was_finished(store, samples, tmp_path):
    data = tmp_path / "data.npz"
    np.savez(data, images=samples.inputs.numpy(), labels=samples.labels.numpy())
    root = str(module.__file__).removesuffix("/thinice/analysis/session.py")
    script = textwrap.dedent(KILLED).format(root=root, data=data, store=str(store.path))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 10:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    loaded = thinice.load_samples(f"npz:{data}")
    kept = store.sql("select count(*) as n from epsilons")["n"].item()
    assert 8 <= kept < 20
    assert store.runs()["outcome"].tolist() == ["died"]
    resumed = epsilons(store, loaded)
    undisturbed = ATTACK(network(), loaded.inputs[:], loaded.labels, loaded.sample_ids).epsilon.numpy()
    np.testing.assert_allclose(resumed.epsilon, undisturbed, rtol=1e-4, equal_nan=True)
    assert store.sql("select count(*) as n, count(distinct sample_id) as d from epsilons").iloc[0].tolist() == [20, 20]
