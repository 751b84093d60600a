"""Another process, told by its arguments what to do with a store; it says when it is ready and when it is done."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import duckdb
import numpy as np

from thinice.store import open_store
from thinice.store.connection import ask, writing
from thinice.types import Outcome

SHARD = 50
N = 12 * SHARD


def say(word):
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def begin(run):
    """Return the one measurement that all workers share."""
    ids = np.arange(N)
    network = run.checkpoint(fingerprint="f", name="dense", architecture="cnn", classes=2, sparsity=0)
    data = run.dataset(
        fingerprint="d",
        name="numbers",
        split="test",
        shape=(1, 1, 4),
        classes=("even", "odd"),
        sample_ids=ids,
        labels=ids % 2,
        digests=ids,
    )
    return run.measurement(network, data, run.attack(name="fmn", norm="l2", settings={}))


def add(run, measurement, ids, **others):
    n = len(ids)
    run.add_epsilons(
        measurement,
        ids,
        epsilon=np.full(n, 0.5),
        outcomes=np.full(n, Outcome.FOUND),
        predictions=ids % 2,
        clean_predictions=ids % 2,
        evaluations=np.ones(n),
        **others,
    )


def write(path):
    """Measure whatever is missing, shard by shard."""
    store = open_store(path, new=True)
    with store.run(["worker"], device="cpu", seed=0) as run:
        measurement = begin(run)
        say("ready")
        missing = run.unmeasured(measurement, np.arange(N))
        for start in range(0, len(missing), SHARD):
            add(run, measurement, missing[start : start + SHARD])
            time.sleep(0.1)  # a reader takes its turn
    say("done")


def write_odd(path):
    """Measure every second shard and some of the others: what another process does as well."""
    with open_store(path).run(["worker"], device="cpu", seed=0) as run:
        measurement = begin(run)
        say("ready")
        for start in range(SHARD // 2, N, 2 * SHARD):
            add(run, measurement, np.arange(start, min(start + SHARD, N)))
    say("done")


def die_between(path):
    """Write two shards, the second of them bulky, and die."""
    with open_store(path, new=True).run(["worker"], device="cpu", seed=0) as run:
        measurement = begin(run)
        add(run, measurement, np.arange(SHARD))
        add(run, measurement, np.arange(SHARD, 2 * SHARD), adversarials={SHARD: np.ones(4)})
        os.kill(os.getpid(), signal.SIGKILL)


def die_inside(path):
    """Write two shards and die inside the transaction of the third."""
    with open_store(path, new=True).run(["worker"], device="cpu", seed=0) as run:
        measurement = begin(run)
        add(run, measurement, np.arange(SHARD))
        add(run, measurement, np.arange(SHARD, 2 * SHARD))
        with writing(Path(path), 5) as unfinished:
            columns = "measurement_id, sample_id, outcome, epsilon, evaluations, converged, adopted, run_id"
            row = "select $m, range, 'found', 1, 1, true, false, 1 from range(400, 500)"
            ask(unfinished, f"insert into epsilons ({columns}) {row}", m=measurement)
            os.kill(os.getpid(), signal.SIGKILL)


def fork(path):
    """Write the first shard, and let a forked child write the second; another does nothing and ends as usual."""
    with open_store(path, new=True).run(["worker"], device="cpu", seed=0) as run:
        measurement = begin(run)
        add(run, measurement, np.arange(SHARD))
        child = os.fork()
        if child == 0:
            add(run, measurement, np.arange(SHARD, 2 * SHARD))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        child = os.fork()
        if child == 0:
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        add(run, measurement, np.arange(2 * SHARD, 3 * SHARD))
    say("done")


def hold(path, mode):
    """Be another tool: keep a connection and count at each line."""
    tool = duckdb.connect(path, read_only=mode == "reader")
    say("ready")
    for _ in sys.stdin:
        say(tool.execute("select count(*) from epsilons").fetchall()[0][0])


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
