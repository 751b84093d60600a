"""Shards of a selection, each measured into its own store, are the whole to the bit; so are runs that are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import thinice
from thinice.analysis.session import shard_positions
from thinice.data.samples import build_samples
from thinice.errors import InputError
from thinice.models import as_classifier

OPTIONS = {"attack": "fmn", "effort": "quick", "batch_size": 4, "device": "cpu", "progress": False}
ALL = """
select sample_id, c.name, a.name as attack, outcome, epsilon, prediction, clean_prediction, evaluations, found_by,
    adversarial
from epsilons join measurements m using (measurement_id) join checkpoints c on c.checkpoint_id = m.checkpoint_id
join attacks a on a.attack_id = m.attack_id left join adversarials using (measurement_id, sample_id)
order by all
"""


@pytest.fixture(scope="module")
def dense():
    return thinice.load_classifier(thinice.example_checkpoints()["dense"])


@pytest.fixture(scope="module")
def samples():
    return thinice.load_samples("digits", limit=20)


def test_shards_are_whole_batches_and_together_everything_once():
    for samples, size, count in ((20, 4, 3), (21, 4, 6), (7, 7, 1), (1000, 1, 7)):
        shards = [shard_positions(f"{k}/{count}", samples, size).tolist() for k in range(1, count + 1)]
        assert sorted(position for shard in shards for position in shard) == list(range(samples))
        assert max(map(len, shards)) - min(map(len, shards)) <= 2 * size - 1
        for shard in shards:
            assert shard == sorted(shard)
            assert all(position % size == 0 or position - 1 in shard for position in shard)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "1/0", "a/b", "-1/3", "1/3/5", "", "1.5/3"])
def test_what_is_no_shard_is_refused(shard):
    with pytest.raises(InputError, match=r"`shard` must be I/N, I from 1 to N, as 3/64, got "):
        shard_positions(shard, 100, 1)


def test_more_shards_than_batches_are_refused_with_the_way_out():
    with pytest.raises(
        InputError, match=r"20 samples are 3 batches of 8, .*: give `batch_size` 5 or less, or at most 3"
    ):
        shard_positions("1/4", 20, 8)
    assert len(shard_positions("1/4", 20, 5)) == 5
    with pytest.raises(InputError, match="is of whole batches: take at most 3 shards"):
        shard_positions("1/4", 3, 1)


def held(store):
    """Return of how many samples the selection of a store is, and how many of them the store knows."""
    rows = thinice.open_store(store).sql(
        "select n, count(*) as held from datasets join samples using (dataset_id) group by all"
    )
    return tuple(rows.iloc[0])


class Made:
    """So many pictures of noise, made when they are asked for; `asked` counts them."""

    def __init__(self, ids, asked):
        self.ids, self.asked = ids, asked

    @property
    def shape(self):
        return torch.Size((len(self.ids), 1, 2, 2))

    def __len__(self):
        return len(self.ids)

    def select(self, index):
        return Made(self.ids[index], self.asked)

    def __getitem__(self, index):
        ids = self.ids[index]
        self.asked.update(ids.tolist())
        return torch.stack([torch.rand(1, 2, 2, generator=torch.Generator().manual_seed(k)) for k in ids.tolist()])


def test_of_very_many_samples_a_shard_reads_and_stores_its_own(tmp_path):
    n, asked = 1_200_000, Counter()
    ids = torch.arange(n)
    samples = build_samples(
        Made(ids, asked),
        ids % 10,
        sample_ids=ids,
        classes=tuple("0123456789"),
        name="made",
        split="all",
        digests=ids.numpy().astype(np.uint64),
    )
    torch.manual_seed(0)
    network = as_classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 10)), name="tiny")
    store = tmp_path / "thinice.duckdb"
    for shard, first in (("1/60000", 0), ("2/60000", 20)):
        (measured,) = thinice.measure_all([network], samples, store=store, shard=shard, **OPTIONS | {"batch_size": 20})
        assert measured.sample_ids.tolist() == list(range(first, first + 20))
    assert held(store) == (n, 40)
    assert set(range(40)) <= set(asked)
    assert len(asked) < 3000, "beside the shards, what tells how the network normalises"
    assert store.stat().st_size < 10e6


@pytest.mark.slow
def test_merged_shards_are_the_whole_run_to_the_bit(dense, samples, tmp_path):
    whole, store = (thinice.open_store(tmp_path / f"{name}.duckdb", new=True) for name in ("whole", "all"))
    (alone,) = thinice.measure_all([dense], samples, store=whole, **OPTIONS)
    parts = [tmp_path / f"{k}.duckdb" for k in (1, 2)]
    measured = [
        thinice.measure_all([dense], samples, store=part, shard=f"{k}/2", **OPTIONS)[0]
        for k, part in enumerate(parts, 1)
    ]
    assert [len(part.epsilon) for part in measured] == [12, 8]
    assert [held(part) for part in parts] == [(20, 12), (20, 8)]
    (lacking,) = store.merge(parts[1])
    assert (lacking.missing, lacking.measured, lacking.wanted) == (("1/2",), 8, 20)
    assert held(store.path) == (20, 8)
    assert store.merge(*parts) == []
    assert held(store.path) == (20, 20)
    assert store.sql(ALL).equals(whole.sql(ALL))
    (again,) = thinice.measure_all([dense], samples, store=store, **OPTIONS)
    assert (again.epsilon == alone.epsilon).all()
    assert store.runs()["samples"].tolist() == [8, 12, 0]  # nothing was measured again


@pytest.mark.slow
@pytest.mark.parametrize("kills", [5])
def test_random_kills_of_driver_and_workers_change_nothing(tmp_path, kills):
    checkpoint = thinice.example_checkpoints()["dense"]
    command = [sys.executable, "-m", "thinice", "measure", checkpoint, "--data", "digits", "--limit", "80", "--quiet"]
    command += ["--attack", "fmn", "--effort", "quick", "--batch-size", "4", "--steps", "300"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--store", tmp_path / "whole.duckdb"], env=environment, check=True, capture_output=True)
    command += ["--store", tmp_path / "thinice.duckdb", "--workers", "2"]
    generator = random.Random(0)
    for kill in range(kills):
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as driver:
            children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children")
            time.sleep(generator.uniform(3, 12))
            workers = [] if driver.poll() is not None else [int(pid) for pid in children.read_text().split()][1:]
            victim = generator.choice(workers) if workers and kill % 2 else driver.pid  # the first tracks resources
            if driver.poll() is None:
                os.kill(victim, signal.SIGKILL)
            if victim != driver.pid:
                assert driver.wait(200) == 0
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    whole, store = (thinice.open_store(tmp_path / f"{name}.duckdb") for name in ("whole", "thinice"))
    assert store.sql(ALL).equals(whole.sql(ALL))
    assert len(store.sql(ALL)) == 80
