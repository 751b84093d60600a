"""The log beside a store: one that belongs elsewhere is set aside and told, one that is damaged is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest

from thinice.errors import StoreError, StoreWarning
from thinice.store import open_store

pytestmark = pytest.mark.usefixtures("stores_are_made")  # each with an identity of its own

KILLED = """
import os, sys
import numpy as np
from thinice.store import open_store
store = open_store(sys.argv[1])
with store.run(["killed"], device="cpu", seed=0) as run:
    data = run.dataset(fingerprint="d", name="d", split="test", shape=(1, 2, 2), classes=["a", "b"],
        sample_ids=range(100), labels=[0] * 100, digests=np.arange(100, dtype=np.uint64))
    network = run.checkpoint(fingerprint="n", name="n", architecture="a", classes=2, sparsity=0)
    measured = run.measurement(network, data, run.attack(name="a", norm="l2", settings={}))
    for first in range(0, 100, 10):
        ids = np.arange(first, first + 10)
        run.add_epsilons(measured, ids, epsilon=[0.5] * 10, outcomes=[1] * 10, predictions=[1] * 10,
            clean_predictions=[0] * 10, evaluations=[1] * 10,
            adversarials={int(one): np.random.default_rng(int(one)).random((1, 16, 16)) for one in ids})
    os._exit(0)
"""
COUNT = "select count(*) from epsilons"


@pytest.fixture(scope="module")
def crashed(tmp_path_factory, empty):
    """A store whose writer died: a file, and a log with the epsilons of 100 samples."""
    path = shutil.copy(empty, tmp_path_factory.mktemp("crashed") / "thinice.duckdb")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", KILLED, str(path)], env=environment, check=True)
    return path


@pytest.fixture
def store(crashed, tmp_path):
    path = tmp_path / "thinice.duckdb"
    shutil.copy(crashed, path)
    shutil.copy(log_of(crashed), log_of(path))
    return path


def log_of(path):
    return path.with_name(path.name + ".wal")


def count(path):
    return open_store(path).sql(COUNT).iloc[0, 0]


@pytest.mark.slow
def test_a_whole_log_is_read_without_a_word(store):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert count(store) == 100
        assert log_of(store).stat().st_size > 50_000


@pytest.mark.parametrize("new", [True, False])
def test_the_log_of_a_store_that_went_is_set_aside_and_told(store, empty, new):
    log = log_of(store).read_bytes()
    store.unlink()
    if not new:
        shutil.copy(empty, store)  # another store took the name
        open_store(shutil.copy(empty, store.with_name("other"))).path.replace(store)
        _another_identity(store)
    with pytest.warns(StoreWarning, match=r"thinice\.duckdb\.wal belonged to another store, and was renamed"):
        opened = open_store(store, new=new)
    assert opened.sql(COUNT).iloc[0, 0] == 0
    assert store.with_name("thinice.duckdb.wal.orphan-1").read_bytes() == log
    with opened.run(["again"], device="cpu", seed=0):
        pass
    assert len(open_store(store).runs()) == 1


def _another_identity(store):
    """Make the file a database of its own: copies share their identity."""
    log = log_of(store)
    kept = log.read_bytes()
    log.unlink()
    store.unlink()
    open_store(store, new=True)
    log.write_bytes(kept)


def test_orphans_do_not_replace_each_other(tmp_path):
    for k in (1, 2):
        log_of(tmp_path / "a").write_text(str(k))
        with pytest.warns(StoreWarning, match=f"orphan-{k}"):
            open_store(tmp_path / "a", new=True).path.unlink()
    assert [(tmp_path / f"a.wal.orphan-{k}").read_text() for k in (1, 2)] == ["1", "2"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda log: log[: len(log) // 2], "could be read"),
        (lambda log: log[:-3], "could be read"),
        (lambda log: np.random.default_rng(0).bytes(len(log)), "could be read"),
        (lambda _: b"", "is empty"),
    ],
    ids=["half", "end", "random", "emptied"],
)
def test_a_damaged_log_that_still_opens_is_told(store, damage, said):
    log_of(store).write_bytes(damage(log_of(store).read_bytes()))
    with pytest.warns(StoreWarning, match=rf"thinice\.duckdb\.wal .*{said}"):
        assert count(store) < 100


def test_a_flipped_bit_anywhere_is_told_with_a_way_out(store):
    whole = log_of(store).read_bytes()
    database = store.read_bytes()
    refusals = []
    for place in np.linspace(200, len(whole) - 30, 12).astype(int):
        log_of(store).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        store.write_bytes(database)
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                assert count(store) < 100
            assert "is damaged" in str(told[0].message)
        except StoreError as error:
            refusals.append(str(error))
            log_of(store).unlink()
            assert count(store) == 0
    assert refusals
    assert all("its log thinice.duckdb.wal is damaged: move that away" in refusal for refusal in refusals)


@pytest.mark.slow
def test_the_command_says_it_in_one_line(store):
    log_of(store).write_bytes(b"")
    script = "import sys; sys.argv = ['thinice', 'sql', 'from runs', '--store', sys.argv[1]]\n"
    script += "from thinice.cli import main; main()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(store)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0
    assert done.stderr.startswith("thinice: warning: ")
    assert done.stderr.count("\n") == 1
