"""A notebook asks while `thinice measure` runs in a terminal: as docs/sql.md says, nothing to care about."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager

import duckdb
import pytest

import thinice
from thinice.errors import StoreError

COUNT = "select count(*) as n, count(distinct sample_id) as samples from epsilons"
N = 120


@contextmanager
def terminal(folder):
    """`thinice measure` in another process, slow enough to be met at work."""
    dense = thinice.example_checkpoints()["dense"]
    words = ["measure", dense, "--limit", N, "--steps", 60, "--batch-size", 10, "--device", "cpu", "--quiet"]
    # every batch is a shard of its own, as on a network that takes a second a batch
    script = "from thinice.analysis import session; session.SECONDS_A_SHARD = 0.0\nfrom thinice.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def opened(path, process):
    """Wait for the store to appear, as a person would, and open it."""
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    return thinice.open_store(path)


def wait_for(store, samples):
    while store.sql(COUNT)["n"].item() < samples:
        time.sleep(0.02)


@pytest.mark.slow
def test_a_notebook_watches_a_run_grow(tmp_path):
    seen, outcomes = [], set()
    with terminal(tmp_path) as process:
        store = opened(tmp_path / "thinice.duckdb", process)
        while process.poll() is None:
            row = store.sql(COUNT).iloc[0]
            assert row["n"] == row["samples"]
            seen.append(int(row["n"]))
            outcomes |= set(store.runs()["outcome"])
            time.sleep(0.1)
        assert process.returncode == 0, process.stderr.read()
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    assert all(n % 10 == 0 for n in seen)  # whole shards
    assert outcomes <= {"running", "finished"}
    assert "running" in outcomes
    assert store.sql(COUNT)["n"].item() == N
    assert store.runs()["outcome"].tolist() == ["finished"]


@pytest.mark.slow
def test_a_run_waits_for_a_notebook_that_keeps_a_connection(tmp_path):
    with terminal(tmp_path) as process:
        path = tmp_path / "thinice.duckdb"
        store = opened(path, process)
        wait_for(store, 20)
        while True:
            try:
                kept = duckdb.connect(path, read_only=True)
                break
            except duckdb.IOException:  # the run is just writing
                time.sleep(0.005)
        before = kept.sql("select count(*) from epsilons").fetchall()
        time.sleep(2)
        assert process.poll() is None
        assert kept.sql("select count(*) from epsilons").fetchall() == before
        assert before[0][0] < N
        kept.close()
        assert process.wait(120) == 0, process.stderr.read()
    assert store.sql(COUNT)["n"].item() == N
    assert [entry.name for entry in tmp_path.iterdir()] == ["thinice.duckdb"]


def test_connections_of_duckdbs_own_in_the_same_notebook(tmp_path):
    store = thinice.open_store(tmp_path / "thinice.duckdb", new=True)
    refusal = "is open in a DuckDB connection of this very process: close that"
    with duckdb.connect(store.path, read_only=True) as kept:
        assert kept.sql(COUNT).fetchall() == [(0, 0)]
        assert store.sql(COUNT)["n"].item() == 0  # readers get along
        with pytest.raises(StoreError, match=refusal), store.run(["x"], device="cpu", seed=0):
            pass
    with duckdb.connect(store.path) as writer:
        assert writer.sql(COUNT).fetchall() == [(0, 0)]
        with pytest.raises(StoreError, match=refusal):
            store.sql(COUNT)
    assert store.sql(COUNT)["n"].item() == 0
    assert store.runs().empty
