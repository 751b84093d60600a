"""Ray on a real cluster of two nodes, both on this machine: the results of one process, to the bit, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib import import_module

import pytest
import torch

import thinice
from tests.engines.tasks import Squares
from tests.engines.test_processes import ordered
from thinice.engines import LocalEngine
from thinice.engines import ray as ray_engine
from thinice.engines.ray import RayEngine
from thinice.engines.sending import TRIES
from thinice.errors import InputError
from thinice.process import Process, this_process

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # the warnings are Ray's own
CPU = torch.device("cpu")
SMALL = {"num_cpus": 1, "object_store_memory": 100 << 20}


@pytest.fixture(scope="module")
def ray():
    return pytest.importorskip("ray", reason="Ray is not installed: pip install 'thinice[ray]'")


@pytest.fixture(scope="module")
def cluster(ray):
    """Two nodes of a CPU each; the first test that runs a task on them lets this process join."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        cluster = import_module("ray.cluster_utils").Cluster(
            initialize_head=True, head_node_args=SMALL | {"include_dashboard": False}
        )
        cluster.add_node(**SMALL)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def engine(cluster):
    return RayEngine(CPU, 2, address=cluster.address)


def test_the_batches_are_those_of_one_process_and_a_killed_worker_is_replaced(engine, tmp_path):
    shards = list(engine.run(Squares(17, tmp_path, "kill", fatal=(6,))))
    assert ordered(shards) == ordered(LocalEngine(CPU, 2).run(Squares(17)))
    assert len(list(tmp_path.iterdir())) == 1  # one was killed
    pids = {pid for _, (_, pid, _) in shards}
    assert os.getpid() not in pids
    assert len(pids) >= 2
    assert {threads for _, (_, _, threads) in shards} == {1}
    assert list(engine.run(Squares(0))) == []


def test_at_most_so_many_work_at_a_time(cluster):
    shards = list(RayEngine(CPU, 1, workers=1, address=cluster.address).run(Squares(6)))
    assert [part.start for part, _ in shards] == list(range(6))


def test_the_last_batches_wait_for_nobody(engine, tmp_path):
    starts = []
    for part, _ in engine.run(Squares(8, tmp_path, "wait", fatal=(0,))):
        starts.append(part.start)
        if len(starts) == 3:
            (tmp_path / "go").touch()
    assert starts[-1] == 0
    assert sorted(starts) == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("deed", "deeds", "kind", "message"),
    [
        ("refuse", 1, InputError, "^`samples` 4 is refused$"),
        ("something", 1, KeyError, "something"),
        ("kill", 99, InputError, f"^`engine` 'ray': samples 4 to 5 ended {TRIES} workers, the last by WorkerCrashed"),
    ],
)
def test_an_error_reaches_the_caller_and_what_was_yielded_stays(engine, tmp_path, deed, deeds, kind, message):
    task, shards = Squares(8, tmp_path, deed, fatal=(4,), deeds=deeds), []
    with pytest.raises(kind, match=message) as caught:
        shards.extend(engine.run(task))
    assert "\n" not in str(caught.value)
    whole = ordered(LocalEngine(CPU, 2).run(Squares(8)))
    assert all(shard in whole for shard in ordered(shards))
    assert len(list(tmp_path.iterdir())) == min(deeds, TRIES)
    assert ordered(engine.run(Squares(6))) == ordered(LocalEngine(CPU, 2).run(Squares(6)))  # the engine goes on


def test_what_cannot_be_sent_is_one_line_with_a_way_out(engine):
    with pytest.raises(InputError, match=r"^`engine`: this cannot be sent to other processes .*: leave `engine` out"):
        list(engine.run(Squares(4, folder=(each for each in ()))))


def test_distances_are_the_same_to_the_bit(cluster):
    network = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    samples = thinice.load_samples("digits", limit=40)
    options = {"effort": "quick", "batch_size": 7, "progress": False, "device": "cpu"}
    there = {"engine": "ray", "address": cluster.address}
    alone, other = (thinice.measure(network, samples, **options, **more) for more in ({}, there))
    assert torch.equal(other.epsilon.view(torch.int32), alone.epsilon.view(torch.int32))
    assert torch.equal(other.adversarials, alone.adversarials)
    assert torch.equal(other.outcomes, alone.outcomes)


def test_a_task_without_a_place_is_an_error_and_no_hang(ray, cluster, engine, monkeypatch):
    with pytest.raises(InputError, match=r"^`engine` 'ray': none of the cluster's 2 nodes has a GPU"):
        list(RayEngine(torch.device("cuda"), 2, address=cluster.address).run(Squares(2)))
    monkeypatch.setattr(ray_engine, "PATIENCE", 2.0)
    holder = ray.remote(num_cpus=1)(type("Holder", (), {}))
    holders = [holder.remote() for _ in range(2)]
    try:
        ray.get([each.__ray_ready__.remote() for each in holders])
        with pytest.raises(InputError, match=r"no task could begin within 2 s, for 2 CPUs of the cluster are held"):
            list(engine.run(Squares(2)))
    finally:
        for each in holders:
            ray.kill(each)


def test_a_node_that_goes_takes_nothing_with_it(cluster, engine, tmp_path):
    node = cluster.add_node(**SMALL)
    shards = []
    for shard in engine.run(Squares(12, tmp_path, "pause", fatal=tuple(range(0, 12, 2)), deeds=99)):
        shards.append(shard)
        if node is not None:
            cluster.remove_node(node, allow_graceful=False)
            node = None
    assert ordered(shards) == ordered(LocalEngine(CPU, 2).run(Squares(12)))


def test_another_cluster_than_the_one_that_is_joined_is_refused(engine):
    list(engine.run(Squares(2)))
    with pytest.raises(InputError, match=r"^`address` '10\.0\.0\.9:6379': this process is connected to another Ray"):
        list(RayEngine(CPU, 2, address="10.0.0.9:6379").run(Squares(2)))


OWN = """
import sys, torch, ray
from pathlib import Path
from tests.engines.tasks import Squares
from thinice.engines.ray import RayEngine
engine = RayEngine(torch.device("cpu"), 2, workers=2)
print(sorted(int(square) for _, (squares, _, _) in engine.run(Squares(5)) for square in squares))
print(ray.get_runtime_context().gcs_address, len(ray.nodes()), ray.cluster_resources()["CPU"] >= 2)
"""


def test_no_cluster_is_joined_unless_an_address_says_so(cluster, tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "RAY_ADDRESS": cluster.address}
    (tmp_path / "own.py").write_text(OWN)
    done = subprocess.run(
        [sys.executable, tmp_path / "own.py"], env=environment, check=True, capture_output=True, text=True, timeout=200
    )
    squares, cluster_line = done.stdout.splitlines()
    assert squares == "[0, 1, 4, 9, 16]"
    address, nodes, enough = cluster_line.split()
    assert address != cluster.address
    assert (nodes, enough) == ("1", "True")


SLEEPER = """
import signal, sys, torch
from pathlib import Path
from tests.engines.tasks import Squares
from thinice.engines.ray import RayEngine
signal.signal(signal.SIGINT, signal.default_int_handler)  # what was started in the background ignores it
engine = RayEngine(torch.device("cpu"), 1, address=sys.argv[2])
list(engine.run(Squares(2, Path(sys.argv[1]), "sleep", (0, 1), 2)))
"""


def test_ctrl_c_ends_the_tasks(cluster, tmp_path):
    (tmp_path / "driver.py").write_text(SLEEPER)
    (folder := tmp_path / "pids").mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, tmp_path / "driver.py", folder, cluster.address]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as driver:
        end = time.monotonic() + 100
        while len(pids := [int(text) for file in folder.iterdir() if (text := file.read_text())]) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        driver.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in driver.communicate(timeout=30)[1]
    while not all(Process(this_process().host, pid, None).is_gone for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.05)
