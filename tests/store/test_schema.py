"""The schema: documented, migrated once, and never forced upon a file that is something else."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager

import duckdb
import pytest

from thinice.errors import StoreError
from thinice.store import open_store, schema


def test_every_table_view_and_column_says_what_it_is(store):
    tables = store.tables()
    assert (tables["comment"].str.len() > 10).all()
    for name in tables["name"]:
        columns = store.describe(name)
        silent = columns.loc[columns["comment"].isna() | (columns["comment"] == ""), "column"].tolist()
        assert not silent, f"{name} does not explain {silent}"


def test_the_facts_and_views_of_the_design_are_there(store):
    kinds = store.tables().set_index("name")["kind"]
    facts = (
        "checkpoints datasets samples attacks runs measurements predictions epsilons adversarials robustness "
        "comparisons statistics transfers findings"
    )
    assert set(kinds[kinds == "table"].index) == {*facts.split(), "thinice_migrations"}
    assert set(kinds[kinds == "view"].index) == {
        "transitions",
        "thin_ice",
        "separation",
        "security_curves",
        "verdicts",
        "robust_accuracy",
        "predictors",
        "warnings",
    }


def test_describe_of_duckdb_itself_teaches_as_well(store):
    assert store.sql("describe epsilons")["column_name"].tolist()[:3] == ["measurement_id", "sample_id", "outcome"]


def test_other_duckdb_versions_can_read_the_file(store):
    with duckdb.connect(store.path, read_only=True) as connection:
        tags = connection.sql("select tags from duckdb_databases() where path is not null and not internal").fetchall()
    assert tags[0][0]["storage_version"].startswith("v1.4.0")


def test_a_new_store_appears_alone_and_complete(tmp_path):
    store = open_store(tmp_path / "thinice.duckdb", new=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thinice.duckdb"]
    applied = store.sql("select name from thinice_migrations order by name")["name"].tolist()
    assert applied == list(schema.migrations())
    with store.run(["x"], device="cpu", seed=0):
        pass
    assert len(open_store(store.path, new=True).runs()) == 1  # `new` does not empty an old one


@pytest.fixture
def later(monkeypatch):
    """Two versions later: the migrations of then."""
    steps = schema.migrations() | {
        "9998_more": "create table more (a integer); insert into more select count(*) from runs;",
        "9999_again": "insert into more values (7);",
    }
    monkeypatch.setattr(schema, "migrations", lambda: steps)
    return steps


def test_an_older_store_is_brought_up_to_date_once(six, later):
    assert len(open_store(six.path).sql("from more")) == 2
    assert open_store(six.path).sql("from more")["a"].tolist() == [1, 7]
    assert six.sql("select name from thinice_migrations order by name")["name"].tolist() == list(later)
    assert len(six.sql("from transitions")) == 6


OLD_ROWS = """
insert into runs (command, versions, device, "precision", settings, started, seen, host, pid)
values (['thinice'], '{}', 'cpu', 'float32', '{}', '2026-01-01', '2026-01-01', 'here', 1);
insert into checkpoints (fingerprint, name, architecture, classes, sparsity, notes, run_id, created)
values ('d', 'dense', 'cnn', 2, 0, [], 1, '2026-01-01'), ('p', 'pruned', 'cnn', 2, 0.9, [], 1, '2026-01-01');
insert into datasets (fingerprint, name, split, n, shape, classes, run_id, created)
values ('s', 'digits', 'test', 3, [1, 2, 2], ['a', 'b'], 1, '2026-01-01');
insert into samples values (1, 10, 0, 1, null), (1, 11, 1, 2, null), (1, 12, 1, 3, null);
insert into attacks (fingerprint, name, norm, settings, run_id, created)
values ('a', 'fmn', 'linf', '{}', 1, '2026-01-01');
insert into measurements (checkpoint_id, dataset_id, attack_id, run_id, created) values (1, 1, 1, 1, '2026-01-01');
insert into epsilons values
    (1, 10, 'found', 0.25, 1, 0, 100, false, 1),
    (1, 11, 'misclassified', 0, 0, 0, 1, false, 1),
    (1, 12, 'not_found', null, null, 1, 100, true, 1);
insert into predictions values (2, 1, 10, 1, 0.5, 1), (2, 1, 11, 1, 0.5, 1), (2, 1, 12, 1, 0.5, 1);
insert into comparisons (measurement_id, pruned_checkpoint_id, basis, run_id, created)
values (1, 2, 'clean', 1, '2026-01-01');
"""


def test_a_store_of_version_0_1_keeps_its_rows_and_says_what_it_does_not_know(tmp_path, monkeypatch):
    first = dict([next(iter(schema.migrations().items()))])
    with monkeypatch.context() as patched:
        patched.setattr(schema, "migrations", lambda: first)
        path = open_store(tmp_path / "old.duckdb", new=True).path
    with duckdb.connect(path) as connection:
        connection.execute(OLD_ROWS)
    store = open_store(path)
    rows = store.sql("from epsilons order by sample_id")
    assert rows["outcome"].tolist() == ["found", "misclassified", "not_found"]
    assert rows["epsilon"].fillna(-1).tolist() == [0.25, 0, -1]
    assert rows["run_id"].tolist() == [1, 1, 1]
    assert rows["stage"].isna().tolist() == [False, True, True]
    assert rows["stage"][0] == "search"
    assert rows[["converged", "diagnosis"]].isna().all(axis=None)
    shown = store.sql("select transition, stage, converged from transitions order by sample_id")
    assert shown["transition"].tolist() == ["S1,0", "S0,1", "S1,1"]
    assert shown["stage"].isna().tolist() == [False, True, True]
    with store.run(["more"], device="cpu", seed=0) as run:
        assert run.unmeasured(1, [10, 11, 12]).tolist() == []


@pytest.mark.usefixtures("later")
def test_an_empty_file_runs_through_all_migrations(tmp_path):
    assert open_store(tmp_path / "new.duckdb", new=True).sql("from more")["a"].tolist() == [0, 7]


def test_a_migration_that_fails_changes_nothing(six, later):
    later["9999_again"] = "insert into nowhere values (1);"
    with pytest.raises(StoreError, match="nowhere"):
        open_store(six.path)
    assert "more" not in six.tables()["name"].tolist()
    assert len(six.sql("from thinice_migrations")) == len(later) - 2
    assert len(six.sql("from transitions")) == 6


def test_a_newer_store_is_refused_untouched(six):
    with duckdb.connect(six.path) as connection:
        connection.execute("insert into thinice_migrations values ('99999_future', now()::timestamp, '9.9.9')")
    before = six.path.read_bytes()
    with pytest.raises(StoreError, match=r"written by thinice 9\.9\.9.*99999_future.*pip install --upgrade thinice"):
        open_store(six.path)
    with pytest.raises(StoreError, match="pip install --upgrade thinice"):
        open_store(six.path, new=True)
    assert six.path.read_bytes() == before


def _other_duckdb(path):
    with duckdb.connect(path) as connection:
        connection.execute("create table runs as select 1 as a")


def _sqlite(path):
    with sqlite3.connect(path) as connection:
        connection.execute("create table runs (a)")
    connection.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_other_duckdb, "is a DuckDB database, but not a thinice store: it was left untouched"),
        (_sqlite, "is not a thinice store, nor any DuckDB database: it was left untouched"),
        (lambda path: path.write_bytes(b"precious" * 5000), "is not a thinice store, nor any DuckDB"),
        (lambda path: path.write_bytes(b""), "is not a thinice store, nor any DuckDB"),
        (lambda path: path.write_bytes(b"\0" * 8 + b"DUCK" + b"\xff" * 20000), "thinice.duckdb"),
    ],
    ids=["duckdb", "sqlite", "garbage", "empty", "almost"],
)
def test_a_file_that_is_no_store_is_refused_untouched(tmp_path, make, message):
    path = tmp_path / "thinice.duckdb"
    make(path)
    before = path.read_bytes()
    for new in (False, True):
        with pytest.raises(StoreError) as caught:
            open_store(path, new=new)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["thinice.duckdb"]


def test_absent_files_and_folders_are_named(tmp_path):
    with pytest.raises(StoreError, match=r"there is no store at .*nothing\.duckdb: `thinice compare"):
        open_store(tmp_path / "nothing.duckdb")
    with pytest.raises(StoreError, match="there is no folder"):
        open_store(tmp_path / "no" / "folder.duckdb", new=True)
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_vanishes_is_not_replaced_by_an_empty_one(store):
    store.path.unlink()
    for ask in (store.runs, lambda: store.run(["x"], device="cpu", seed=0).__enter__()):
        with pytest.raises(StoreError, match="there is no store"):
            ask()
    assert not store.path.exists()


def test_a_store_whose_tables_did_not_reach_the_disk_is_not_made(tmp_path, monkeypatch):
    """On a full disk DuckDB closes without a word and leaves its log, which the new name would not have."""
    whole = schema.writing

    @contextmanager
    def full(path, patience, *, create=False):
        with whole(path, patience, create=create) as connection:
            connection.execute("pragma disable_checkpoint_on_shutdown")
            yield connection

    monkeypatch.setattr(schema, "writing", full)
    with pytest.raises(StoreError, match="is the disk full"):
        open_store(tmp_path / "thinice.duckdb", new=True)
    assert not list(tmp_path.iterdir())
