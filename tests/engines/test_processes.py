"""Several processes: the same results to the bit, whoever is killed; no hang, no orphan, and errors in one line."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from torch.nn import utils
from torch.nn.utils import parametrizations

import thinice
from tests.engines.tasks import Squares, Unreadable
from thinice.analysis.measurement import ForwardTask, make_engine
from thinice.engines import LocalEngine
from thinice.engines.processes import TRIES, ProcessEngine
from thinice.engines.sending import pickled
from thinice.errors import InputError
from thinice.process import Process, this_process

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def engine():
    """Two workers, which stay from test to test."""
    return ProcessEngine(CPU, 2, workers=2)


def ordered(shards):
    """Return the slices and the numbers of finished shards, in the order of the samples."""
    return [(part, *result[0].tolist()) for part, result in sorted(shards, key=lambda shard: shard[0].start)]


def test_the_batches_are_those_of_one_process_and_a_killed_worker_is_replaced(engine, tmp_path):
    task = Squares(9, tmp_path, "kill", fatal=(6,))
    shards = list(engine.run(task))
    assert ordered(shards) == ordered(LocalEngine(CPU, 2).run(Squares(9)))
    assert len(list(tmp_path.iterdir())) == 1  # one was killed
    assert os.getpid() not in {pid for _, (_, pid, _) in shards}
    assert {threads for _, (_, _, threads) in shards} == {max(1, torch.get_num_threads() // 2)}


def test_workers_serve_task_after_task(engine):
    first, second = ({pid for _, (_, pid, _) in engine.run(Squares(n))} for n in (2, 9))
    assert len(first | second) <= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "kind", "message"),
    [
        ("refuse", InputError, "^`samples` 4 is refused$"),
        ("something", KeyError, "something"),
        ("exit", InputError, "^`workers`: a process ended with exit code 7 at samples 4 to 5"),
    ],
)
def test_an_error_reaches_the_caller_and_what_was_yielded_stays(engine, tmp_path, deed, kind, message):
    task, shards = Squares(6, tmp_path, deed, fatal=(4,)), []
    with pytest.raises(kind, match=message) as caught:
        shards.extend(engine.run(task))
    assert "\n" not in str(caught.value)
    whole = ordered(LocalEngine(CPU, 2).run(Squares(6)))
    assert all(shard in whole[:2] for shard in ordered(shards))  # either may come first
    assert ordered(engine.run(task)) == ordered(LocalEngine(CPU, 2).run(Squares(6)))  # the engine goes on


@pytest.mark.slow
def test_a_batch_that_kills_every_worker_is_an_error(engine, tmp_path):
    with pytest.raises(InputError, match=f"^`workers`: samples 4 to 5 ended {TRIES} processes, the last by signal 9"):
        list(engine.run(Squares(6, tmp_path, "kill", fatal=(4,), deeds=99)))
    assert len(list(tmp_path.iterdir())) == TRIES


@pytest.mark.parametrize(
    "task", [Squares(4, folder=lambda: None), pytest.param(Unreadable(4), marks=pytest.mark.slow)], ids=["sent", "read"]
)
def test_what_cannot_be_sent_is_one_line_with_a_way_out(engine, task):
    with pytest.raises(InputError, match=r"^`workers`: this cannot be sent to other processes .*: leave `workers` out"):
        list(engine.run(task))


def normed(norm):
    """Return a network whose first layer has a norm of its weights."""
    return torch.nn.Sequential(
        torch.nn.Flatten(), norm(torch.nn.Linear(64, 16)), torch.nn.ReLU(), torch.nn.Linear(16, 10)
    )


@pytest.mark.filterwarnings("ignore::FutureWarning")  # old norms are, and are there
@pytest.mark.parametrize(
    "kind",
    ["with masks", "one by one", "normalized", "weight norm", "old weight norm", "spectral norm", "old spectral"],
)
def test_networks_of_every_kind_are_sent_as_they_are(kind):
    dense = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    networks = {
        "with masks": lambda: replace(dense, masks=thinice.Masks.of(dense.module)),
        "one by one": lambda: thinice.as_classifier(dense, one_by_one=True),
        "normalized": lambda: thinice.as_classifier(dense.module, normalization="half"),
        "weight norm": lambda: thinice.as_classifier(normed(parametrizations.weight_norm)),
        "old weight norm": lambda: thinice.as_classifier(normed(utils.weight_norm)),
        "spectral norm": lambda: thinice.as_classifier(normed(parametrizations.spectral_norm)),
        "old spectral": lambda: thinice.as_classifier(normed(utils.spectral_norm)),
    }
    network, samples = networks[kind](), thinice.load_samples("digits", limit=10)
    received = pickle.loads(pickled(ForwardTask(network, samples), "workers"))
    assert received.classifier.fingerprint == network.fingerprint
    assert torch.equal(received.on(CPU)(slice(0, 10)), ForwardTask(network, samples).on(CPU)(slice(0, 10)))
    if network.masks is not None:
        masks = received.classifier.masks.kept
        assert all(torch.equal(masks[name], mask) for name, mask in network.masks.kept.items())
        with pytest.raises(TypeError):
            masks["fc.weight"] = None  # as immutable as they were


def test_options_choose_the_engine():
    assert isinstance(make_engine({"workers": 2, "device": "cpu"}), ProcessEngine)
    assert make_engine({"engine": "processes", "device": "cpu"}).workers == torch.get_num_threads()
    for workers in (0, -1, 1.5, "two"):
        with pytest.raises(InputError, match="`workers` must be a whole number of at least 1"):
            make_engine({"workers": workers, "device": "cpu"})
    with pytest.raises(InputError, match="`workers` goes with the name of an engine"):
        make_engine({"engine": LocalEngine(CPU), "workers": 2})


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "batch_size"), [("tmn", 7), ("fmn", 16)])
def test_distances_are_the_same_to_the_bit(attack, batch_size):
    network = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    samples = thinice.load_samples("digits", limit=40)
    options = {"attack": attack, "effort": "quick", "batch_size": batch_size, "progress": False, "device": "cpu"}
    alone, *others = (thinice.measure(network, samples, **options, **more) for more in ({}, {"workers": 2}))
    for other in others:
        assert torch.equal(other.epsilon.view(torch.int32), alone.epsilon.view(torch.int32))
        assert torch.equal(other.adversarials, alone.adversarials)
        assert torch.equal(other.outcomes, alone.outcomes)


DRIVER = """
import signal, sys
from pathlib import Path
import torch
from tests.engines.tasks import Squares
from thinice.engines.processes import ProcessEngine
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what was started in the background ignores it
    list(ProcessEngine(torch.device("cpu"), 1, workers=2).run(Squares(2, Path(sys.argv[1]), "sleep", (0, 1), 2)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_the_driver(tmp_path, how):
    (tmp_path / "driver.py").write_text(DRIVER)
    (folder := tmp_path / "pids").mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, tmp_path / "driver.py", folder], env=environment) as driver:
        pids = _waited(lambda: [int(text) for file in folder.iterdir() if (text := file.read_text())], 2)
        driver.send_signal(how)
        try:
            assert driver.wait(30) != 0
        finally:
            driver.kill()
    _waited(lambda: [pid for pid in pids if Process(this_process().host, pid, None).is_gone], 2)


@pytest.mark.slow
def test_a_script_that_does_not_guard_its_main_is_told_so(tmp_path):
    (tmp_path / "driver.py").write_text(DRIVER.replace('if __name__ == "__main__":', "if True:"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    (folder := tmp_path / "pids").mkdir()
    done = subprocess.run(
        [sys.executable, tmp_path / "driver.py", folder],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1
    assert 'does so below `if __name__ == "__main__":`' in done.stderr.splitlines()[-1]


def _waited(listed, length):
    """Return a list once it is as long as wanted; a minute is enough."""
    end = time.monotonic() + 60
    while len(entries := listed()) < length:
        assert time.monotonic() < end, entries
        time.sleep(0.05)
    return entries
