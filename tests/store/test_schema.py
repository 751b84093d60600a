"""The schema: documented, its views those of this version, and never forced upon a file that is something else."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from importlib import resources

import duckdb
import pytest
from pandas.testing import assert_frame_equal

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
        "comparisons statistics transfers findings trainings epochs dynamics study_cells lower_bounds "
        "claimed_bounds controls gradients corrections tunings published_accuracies benchmark_networks "
        "imported_distances populations run_conditions run_networks"
    )
    assert set(kinds[kinds == "table"].index) == {*facts.split(), "thinice_schema"}
    assert set(kinds[kinds == "view"].index) == {
        "transitions",
        "thin_ice",
        "signed_distances",
        "separation",
        "security_curves",
        "verdicts",
        "robust_accuracy",
        "predictors",
        "warnings",
        "cells",
        "studies",
        "intervals",
        "claims",
        "ada_verona",
        "leaderboard",
    }


def test_describe_of_duckdb_itself_teaches_as_well(store):
    assert store.sql("describe epsilons")["column_name"].tolist()[:3] == ["measurement_id", "sample_id", "outcome"]


def test_other_duckdb_versions_can_read_the_file(store):
    with duckdb.connect(store.path, read_only=True) as connection:
        tags = connection.sql("select tags from duckdb_databases() where path is not null and not internal").fetchall()
    assert tags[0][0]["storage_version"].startswith("v1.4.0")


@pytest.mark.usefixtures("stores_are_made")
def test_a_new_store_appears_alone_and_complete(tmp_path):
    store = open_store(tmp_path / "thinice.duckdb", new=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thinice.duckdb"]
    assert store.sql("from thinice_schema")["version"].tolist() == [schema.VERSION]
    with store.run(["x"], device="cpu", seed=0):
        pass
    assert len(open_store(store.path, new=True).runs()) == 1  # `new` does not empty an old one


def test_every_view_is_in_the_list_of_those_that_are_made():
    files = {entry.name.removesuffix(".sql") for entry in (resources.files("thinice.store.sql") / "views").iterdir()}
    assert files == set(schema.VIEWS)


def test_views_of_another_version_are_made_anew_and_rows_stay(six):
    before = six.sql("from transitions order by sample_id")
    comments = six.describe("transitions")
    with duckdb.connect(six.path) as connection:
        connection.execute("update thinice_schema set definitions = 'those of an earlier thinice'")
        connection.execute("create or replace view transitions as select 1 as a")
        connection.execute("alter table statistics drop column shift")
        connection.execute("create view of_mine as from runs")
    again = open_store(six.path)
    assert_frame_equal(again.sql("from transitions order by sample_id"), before)
    assert_frame_equal(again.describe("transitions"), comments)
    assert "shift" in again.describe("separation")["column"].tolist()
    assert len(again.sql("from of_mine")) == 1  # a view that somebody else made is left alone
    assert again.sql("from thinice_schema")["definitions"].tolist() != ["those of an earlier thinice"]
    with duckdb.connect(six.path, read_only=True):  # and not a second time: that would need to write
        open_store(six.path, patience=0)


def test_an_upgrade_that_fails_changes_nothing(six):
    with duckdb.connect(six.path) as connection:
        connection.execute("update thinice_schema set definitions = 'those of an earlier thinice'")
        connection.execute("drop view warnings")
        connection.execute("create table warnings (a integer)")  # the last one to be made
        connection.execute("alter table statistics drop column shift")
    with pytest.raises(StoreError, match="warnings"):
        open_store(six.path)
    with duckdb.connect(six.path, read_only=True) as connection:
        columns = connection.sql("from statistics limit 0").columns
        assert connection.sql("select definitions from thinice_schema").fetchall()[0][0].startswith("those")
    assert "shift" not in columns


def test_a_newer_store_is_refused_untouched(six):
    with duckdb.connect(six.path) as connection:
        connection.execute("update thinice_schema set version = 99, thinice = '9.9.9'")
    before = six.path.read_bytes()
    with pytest.raises(StoreError, match=r"written by thinice 9\.9\.9.*schema 99.*pip install --upgrade thinice"):
        open_store(six.path)
    with pytest.raises(StoreError, match="pip install --upgrade thinice"):
        open_store(six.path, new=True)
    assert six.path.read_bytes() == before


def test_a_store_of_a_development_version_is_refused_untouched(tmp_path):
    path = tmp_path / "old.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute("create table thinice_migrations (name text, applied timestamp, version text)")
        connection.execute("create table epsilons (measurement_id integer)")
    before = path.read_bytes()
    for new in (False, True):
        with pytest.raises(
            StoreError, match=r"development version .* measure again into a new file \(--store"
        ) as caught:
            open_store(path, new=new)
        assert "left untouched" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_store_with_tables_of_an_earlier_version_is_refused_untouched(six):
    with duckdb.connect(six.path) as connection:
        connection.execute(f"update thinice_schema set version = {schema.VERSION - 1}")
    before = six.path.read_bytes()
    with pytest.raises(StoreError, match=r"measure again into a new file \(--store new\.duckdb\); this one was left"):
        open_store(six.path)
    assert six.path.read_bytes() == before


@pytest.mark.parametrize("rows", [0, 2])
def test_a_store_without_one_version_is_refused(six, rows):
    with duckdb.connect(six.path) as connection:
        (row,) = connection.sql("from thinice_schema").fetchall()
        connection.execute("delete from thinice_schema")
        for _ in range(rows):
            connection.execute("insert into thinice_schema values (?, ?, ?, ?)", row)
    with pytest.raises(StoreError, match=f"it has {rows} schema versions, not one"):
        open_store(six.path)


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


@pytest.mark.usefixtures("stores_are_made")
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
