"""Parts of a measurement in stores of their own come into one store: once, whole, and only what belongs together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from thinice.errors import StoreError
from thinice.store import open_store
from thinice.store.connection import ask, writing
from thinice.types import Outcome

N = 12
TABLES = ("runs", "checkpoints", "datasets", "samples", "attacks", "measurements", "epsilons", "adversarials")


def part(path, shard, count, *, done=None, fingerprint="f", first=""):
    """Make the store of a shard: every count-th sample, `done` of them; what is named `first` comes before."""
    ids = np.arange(N)
    number = int(shard) - 1
    mine = ids[number::count]
    store = open_store(path, new=True)
    settings = {"shard": f"{shard}/{count}", "shard_samples": len(mine)}
    with store.run(["thinice", "measure"], device="cpu", seed=0, settings=settings) as run:
        if first:  # so that the keys of two parts differ
            run.attack(name=first, norm="l2", settings={})
            run.checkpoint(fingerprint=first, name=first, architecture="cnn", classes=2, sparsity=0)
        network = run.checkpoint(fingerprint=fingerprint, name="dense", architecture="cnn", classes=2, sparsity=0)
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
        measurement = run.measurement(network, data, run.attack(name="fmn", norm="l2", settings={}))
        mine = mine[:done]
        run.add_epsilons(
            measurement,
            mine,
            epsilon=mine / 10 + 0.1,
            outcomes=np.full(len(mine), Outcome.FOUND),
            predictions=1 - mine % 2,
            clean_predictions=mine % 2,
            evaluations=np.ones(len(mine)),
            adversarials={int(sample_id): np.full((1, 1, 4), sample_id / N) for sample_id in mine},
        )
        run.add_predictions(
            network,
            data,
            mine,
            predictions=mine % 2,
            margins=np.ones(len(mine)),
            confidences=np.full(len(mine), 0.9),
            losses=np.full(len(mine), 0.1),
        )
        run.add_lower_bounds(network, data, "l2", mine, epsilon_lower=np.full(len(mine), 0.01))
        run.add_gradients(network, data, mine, gradient_norms=np.ones(len(mine)))
    return path


def counts(store):
    return {name: int(store.sql(f"select count(*) as n from {name}")["n"].item()) for name in TABLES}


def test_parts_make_the_whole_and_nothing_doubles(tmp_path):
    parts = [part(tmp_path / f"{k}.duckdb", k, 3, first="" if k == 1 else f"other-{k}") for k in (1, 2, 3)]
    store = open_store(tmp_path / "all.duckdb", new=True)
    assert store.merge(*parts) == []
    once = counts(store)
    assert once == dict(zip(TABLES, (3, 3, 1, N, 3, 1, N, N), strict=True))
    assert store.merge(*reversed(parts)) == []
    assert counts(store) == once
    rows = store.sql("select * from epsilons join adversarials using (measurement_id, sample_id) order by sample_id")
    assert rows["epsilon"].to_numpy() == pytest.approx(np.arange(N) / 10 + 0.1)
    values = [np.frombuffer(blob, "<f4")[0] for blob in rows["adversarial"]]
    assert values == pytest.approx(np.arange(N) / N)
    shards = store.sql("select sample_id, settings->>'shard' as shard from epsilons join runs using (run_id)")
    assert {sample_id % 3 + 1 == int(shard[0]) for sample_id, shard in shards.itertuples(index=False)} == {True}
    for table in ("predictions", "lower_bounds", "gradients"):
        assert store.sql(f"select count(*) as n, count(distinct sample_id) as samples from {table}").iloc[
            0
        ].tolist() == [
            N,
            N,
        ]


@pytest.mark.slow
def test_missing_and_unfinished_shards_are_named_and_come_later(tmp_path):
    store = open_store(tmp_path / "all.duckdb", new=True)
    (lacking,) = store.merge(part(tmp_path / "1.duckdb", 1, 4), part(tmp_path / "3.duckdb", 3, 4, done=2))
    assert str(lacking) == "dense, l2, fmn: 5 of 12 samples; missing: shard 2/4, 4/4; unfinished: shard 3/4"
    part(tmp_path / "3.duckdb", 3, 4)  # the same command again
    (lacking,) = store.merge(tmp_path / "3.duckdb", part(tmp_path / "4.duckdb", 4, 4))
    assert str(lacking) == "dense, l2, fmn: 9 of 12 samples; missing: shard 2/4"
    assert store.merge(part(tmp_path / "2.duckdb", 2, 4)) == []


@pytest.mark.slow
def test_what_does_not_belong_together_is_refused(tmp_path):
    store = open_store(tmp_path / "all.duckdb", new=True)
    store.merge(part(tmp_path / "1.duckdb", 1, 2))
    before = counts(store)
    other = part(tmp_path / "other.duckdb", 2, 2, fingerprint="g" * 64)
    with pytest.raises(StoreError, match=r"has another network named dense \(gggggggggggg\) than .*nothing of it was"):
        store.merge(other)
    old = part(tmp_path / "old.duckdb", 2, 2)
    with writing(old, 1) as connection:
        ask(connection, """update runs set versions = '{"thinice": "0.0.1", "torch": "2.0"}'""")
    with pytest.raises(StoreError, match=r"was measured with thinice 0\.0\.1, torch 2\.0, and .*nothing of it was"):
        store.merge(old)
    with pytest.raises(StoreError, match="cannot be merged into itself"):
        store.merge(store.path)
    (tmp_path / "text.duckdb").write_text("no store")
    with pytest.raises(StoreError, match="not a thinice store"):
        store.merge(tmp_path / "text.duckdb")
    with pytest.raises(StoreError, match="there is no store at"):
        store.merge(tmp_path / "none.duckdb")
    with writing(other, 1) as connection:
        ask(connection, "update thinice_schema set definitions = 'others'")
    with pytest.raises(StoreError, match="written by another version of thinice: `thinice runs --store "):
        store.merge(other)
    assert counts(store) == before


@pytest.mark.slow
def test_two_networks_of_one_name_in_each_part_are_no_conflict(tmp_path):
    parts = [part(tmp_path / f"{k}.duckdb", k, 2) for k in (1, 2)]
    for file, shard in zip(parts, (1, 2), strict=True):
        part(file, shard, 2, fingerprint="g")
    store = open_store(tmp_path / "all.duckdb", new=True)
    assert store.merge(*parts, *parts) == []
    assert counts(store)["epsilons"] == 2 * N


@pytest.mark.slow
def test_killed_in_the_middle_the_same_merge_goes_on(tmp_path):
    parts = [part(tmp_path / f"{k}.duckdb", k, 6) for k in range(1, 7)]
    script = "import sys; from thinice.store import open_store\n"
    script += "store = open_store(sys.argv[1], new=True); print(flush=True); store.merge(*sys.argv[2:])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for delay in (0.0, 0.02, 0.05, 0.1, 0.2):
        command = [sys.executable, "-c", script, tmp_path / "all.duckdb", *parts]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
    store = open_store(tmp_path / "all.duckdb")
    assert store.merge(*parts) == []
    assert counts(store) == dict(zip(TABLES, (6, 1, 1, N, 1, 1, N, N), strict=True))
