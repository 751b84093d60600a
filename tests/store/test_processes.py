"""Several processes and one store: readers beside a writer, two writers, forgotten tools, sudden death."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.store.worker import SHARD, N, add, begin
from thinice.errors import StoreError
from thinice.store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("stores_are_made")]

WORKER = Path(__file__).with_name("worker.py")
COUNT = "select count(*) as n, count(distinct sample_id) as samples from epsilons"


@contextmanager
def worker(*arguments):
    """Start another process; it is killed at the end if it still runs."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, WORKER, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def told(process):
    return process.stdout.readline().strip()


def count(store):
    (row,) = store.sql(COUNT).itertuples()
    assert row.n == row.samples
    return row.n


def go_on(store):
    """Measure what is missing, as the same command would, and return how much that was."""
    with store.run(["again"], device="cpu", seed=0) as run:
        measurement = begin(run)
        missing = run.unmeasured(measurement, np.arange(N))
        add(run, measurement, missing)
        return len(missing)


@pytest.mark.parametrize("death", ["die_between", "die_inside"])
def test_after_kill_9_finished_shards_are_there_and_the_rest_goes_on(tmp_path, death):
    with worker(death, tmp_path / "thinice.duckdb") as process:
        assert process.wait(30) == -9
    store = open_store(tmp_path / "thinice.duckdb", patience=0)  # nothing is locked
    assert count(store) == 2 * SHARD
    assert store.runs()["outcome"].tolist() == ["died"]
    assert go_on(store) == N - 2 * SHARD
    assert count(store) == N
    assert store.runs()["outcome"].tolist() == ["died", "finished"]
    assert store.runs()["samples"].tolist() == [2 * SHARD, N - 2 * SHARD]
    assert [entry.name for entry in tmp_path.iterdir()] == ["thinice.duckdb"]


def test_a_reader_sees_a_run_grow_and_never_fails(tmp_path):
    with worker("write", tmp_path / "thinice.duckdb") as process:
        assert told(process) == "ready"
        store, seen = open_store(tmp_path / "thinice.duckdb"), []
        while process.poll() is None:
            seen.append(count(store))
        assert told(process) == "done"
        assert process.returncode == 0
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    assert all(number % SHARD == 0 for number in seen)  # whole shards
    assert count(store) == N


def test_two_writers_take_turns(tmp_path):
    store = open_store(tmp_path / "thinice.duckdb", new=True)
    with worker("write", store.path) as one, worker("write_odd", store.path) as other:
        assert [told(one), told(one)] == ["ready", "done"]
        assert [told(other), told(other)] == ["ready", "done"]
    assert count(store) == N
    assert store.runs()["outcome"].tolist() == ["finished", "finished"]
    assert store.sql("select count(*) as n from measurements")["n"].item() == 1


def test_two_processes_may_make_the_same_store(tmp_path):
    with worker("write", tmp_path / "a.duckdb") as one, worker("write", tmp_path / "a.duckdb") as other:
        assert [told(one), told(one)] == ["ready", "done"]
        assert [told(other), told(other)] == ["ready", "done"]
    assert count(open_store(tmp_path / "a.duckdb")) == N


@pytest.mark.parametrize(("tool", "doing"), [("reader", "read"), ("writer", "written")])
def test_another_tool_that_does_not_let_go_is_waited_for_and_named(tmp_path, tool, doing):
    store = open_store(tmp_path / "thinice.duckdb", new=True, patience=0.3)
    before = store.path.read_bytes()
    reading = [store.runs, lambda: open_store(store.path, patience=0.3)]
    with worker("hold", store.path, tool) as process:
        assert told(process) == "ready"
        for attempt in [lambda: go_on(store), *(reading if tool == "writer" else [])]:
            start = time.monotonic()
            with pytest.raises(StoreError) as caught:
                attempt()
            assert 0.3 <= time.monotonic() - start < 5
            assert f"is being {doing} by process {process.pid} (" in str(caught.value)
            assert "wait for it, or end it" in str(caught.value)
            assert "\n" not in str(caught.value)
        if tool == "reader":  # readers do not mind each other
            assert [count(store), len(store.runs())] == [0, 0]
    assert store.path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["thinice.duckdb"]
    assert go_on(store) == N


def test_a_reader_that_lets_go_in_time_costs_nothing(tmp_path):
    store = open_store(tmp_path / "thinice.duckdb", new=True)
    with worker("hold", store.path, "reader") as reader:
        assert told(reader) == "ready"
        timer = threading.Timer(0.5, reader.kill)
        timer.start()
        assert go_on(store) == N
        timer.join()
    assert count(store) == N


def test_a_run_that_has_begun_waits_longer_for_a_reader_and_loses_nothing(tmp_path):
    store = open_store(tmp_path / "thinice.duckdb", new=True, patience=0.2)
    with store.run(["x"], device="cpu", seed=0) as run, worker("hold", store.path, "reader") as reader:
        assert told(reader) == "ready"
        timer = threading.Timer(1.0, reader.kill)
        timer.start()
        start = time.monotonic()
        add(run, begin(run), np.arange(SHARD))
        assert 0.8 < time.monotonic() - start < 4
        timer.join()
        with worker("hold", store.path, "writer") as writer:  # one that writes may never let go
            assert told(writer) == "ready"
            with pytest.raises(StoreError, match="is being written by process"):
                add(run, 1, np.arange(SHARD, 2 * SHARD))
    assert count(store) == SHARD
    assert store.runs()["outcome"].tolist() == ["finished"]


def test_a_forked_child_writes_like_everybody_else(tmp_path):
    with worker("fork", tmp_path / "thinice.duckdb") as process:
        assert told(process) == "done"
    store = open_store(tmp_path / "thinice.duckdb")
    assert count(store) == 3 * SHARD
    assert store.runs()["outcome"].tolist() == ["finished"]
