"""Files for other tools: what the store holds, complete or not there."""

from __future__ import annotations

import math
from datetime import datetime

import duckdb
import pandas as pd
import pytest

from thinice.errors import InputError, StoreError


def read_parquet(path):
    """Read without an extra dependency."""
    return duckdb.sql(f"from '{path}'").df()


def test_a_view_goes_to_csv_and_a_query_to_parquet(six, tmp_path):
    assert six.export(tmp_path / "all.csv", what="transitions") == [tmp_path / "all.csv"]
    table = pd.read_csv(tmp_path / "all.csv")
    assert sorted(table["transition"]) == ["S0,0", "S0,1", "S1,0", "S1,0", "S1,1", "S1,1"]
    assert table["epsilon"].isna().sum() == 2
    six.export(tmp_path / "thin.parquet", what="select sample_id, epsilon from thin_ice")
    read = read_parquet(tmp_path / "thin.parquet")
    assert read["sample_id"].tolist() == [12, 11, 10]


def test_without_a_wish_all_tables_go_to_a_folder(six, tmp_path):
    files = six.export(tmp_path / "out")
    names = {path.stem for path in files}
    tables = six.tables()
    assert names == set(tables.loc[tables["kind"] == "table", "name"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{name}.parquet" for name in names}
    assert len(read_parquet(tmp_path / "out" / "epsilons.parquet")) == 6
    assert {path.suffix for path in six.export(tmp_path / "text", format="csv")} == {".csv"}


def test_what_is_there_is_replaced_only_when_asked(six, tmp_path):
    target = tmp_path / "thin.csv"
    target.write_text("precious")
    with pytest.raises(InputError, match=r"`path` .*thin\.csv is there already"):
        six.export(target, what="thin_ice")
    assert target.read_text() == "precious"
    six.export(target, what="thin_ice", overwrite=True)
    assert target.read_text().startswith("comparison_id")
    (tmp_path / "runs.parquet").write_text("precious")
    with pytest.raises(InputError, match=r"runs\.parquet is there already"):
        six.export(tmp_path)
    six.export(tmp_path, overwrite=True)
    assert target.exists()  # a file of another name stays


def test_a_failed_export_leaves_nothing(six, tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(StoreError, match="there is no table or view 'nothing'"):
        six.export(folder / "x.csv", what="from nothing")
    with pytest.raises(StoreError, match="must be a table, a view or a query"):
        six.export(folder / "x.csv", what="-- nothing")
    with pytest.raises(StoreError, match="cannot change the store"):
        six.export(folder / "x.csv", what="delete from runs")
    assert list(folder.iterdir()) == []
    assert len(six.runs()) == 1


def test_wishes_that_make_no_sense_are_refused(six, tmp_path):
    with pytest.raises(InputError, match=r"must end in \.parquet or \.csv"):
        six.export(tmp_path / "thin.xlsx", what="thin_ice")
    with pytest.raises(InputError, match="is one file, and all tables need a folder"):
        six.export(tmp_path / "thin.csv")
    with pytest.raises(InputError, match="`format` must be one of parquet, csv, got 'json'"):
        six.export(tmp_path / "thin", what="thin_ice", format="json")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        six.export(tmp_path / "file" / "thin.csv", what="thin_ice")


@pytest.fixture
def tables(six, tmp_path):
    """Every table and view of the six samples as a Parquet file, by name."""
    with six.run(["x"], device="cpu", seed=0):  # a second run, still without an end when it is written
        names = six.tables()["name"].tolist()
        return {name: six.export(tmp_path / f"{name}.parquet", what=name)[0] for name in names}


def plain(value):
    """Return a value of any reader as Python's own."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is pd.NaT or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    if hasattr(value, "to_pydatetime"):
        value = value.to_pydatetime()
    if isinstance(value, datetime):
        return value.replace(microsecond=0)
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return bytes(value) if isinstance(value, bytearray | memoryview) else value


def assert_rows_are_those_of_the_store(six, name, columns, rows):
    expected = six.sql(f"from {name}")
    assert columns == expected.columns.tolist()
    assert len(rows) == len(expected)
    ours = [[plain(value) for value in row] for row in expected.astype(object).to_numpy()]
    theirs = [[plain(value) for value in row] for row in rows]
    for mine, read in zip(ours, theirs, strict=True):
        for column, one, other in zip(columns, mine, read, strict=True):
            if not (name == "runs" and column in {"outcome", "ended", "seen"}):  # the run has ended since
                assert other == one, (name, column)


@pytest.mark.slow
def test_duckdb_reads_parquet_back(six, tables):
    for name, path in tables.items():
        relation = duckdb.sql(f"from '{path}'")
        assert_rows_are_those_of_the_store(six, name, relation.columns, relation.fetchall())


@pytest.mark.slow
def test_pandas_reads_parquet_back(six, tables):
    pytest.importorskip("pyarrow")
    for name, path in tables.items():
        frame = pd.read_parquet(path)
        assert_rows_are_those_of_the_store(six, name, frame.columns.tolist(), frame.astype(object).to_numpy().tolist())


@pytest.mark.slow
def test_polars_reads_parquet_back(six, tables):
    polars = pytest.importorskip("polars")
    for name, path in tables.items():
        frame = polars.read_parquet(path)
        assert_rows_are_those_of_the_store(six, name, frame.columns, frame.rows())
        assert frame.lazy().select(polars.len()).collect().item() == len(frame)


@pytest.mark.slow
def test_parquet_keeps_types_and_nulls(tables):
    schema = dict(duckdb.sql(f"select column_name, column_type from (describe from '{tables['epsilons']}')").fetchall())
    assert schema["epsilon"] == "FLOAT"
    assert schema["sample_id"] == "BIGINT"
    assert schema["adopted"] == "BOOLEAN"
    nulls = duckdb.sql(f"select count(*) from '{tables['epsilons']}' where epsilon is null").fetchall()
    assert nulls == [(2,)]


def test_all_tables_into_the_store_is_refused_by_name(six, tmp_path):
    before = six.path.read_bytes()
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"`path` \S+ is the store itself, and all tables need a folder: choose"):
            six.export(six.path, overwrite=overwrite)
    assert six.path.read_bytes() == before
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(InputError, match=r"`path` \S+notes is one file, and all tables need a folder"):
        six.export(tmp_path / "notes", overwrite=True)
    assert (tmp_path / "notes").read_text() == "mine"
