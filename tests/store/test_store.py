"""Questions: answers as frames, refusals in one line, and no way out of the file."""

from __future__ import annotations

import pickle
import threading
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
import pytest

from thinice.errors import StoreError
from thinice.process import Process, this_process
from thinice.store import connection, open_store
from thinice.store.connection import ask, writing
from thinice.store.sql import query


def test_parameters_are_bound_by_place_and_by_name(six):
    assert six.sql("select sample_id from samples where label = ? order by 1", [np.int64(1)])["sample_id"].tolist() == [
        11,
        14,
    ]
    wanted = {"name": "dense'; drop table runs; --", "ids": np.array([10, 12])}
    assert six.sql("from checkpoints where name = $name and $ids is not null", wanted).empty
    assert (
        six.sql("select count(*) as n from samples where sample_id in (select unnest($ids))", {"ids": wanted["ids"]})[
            "n"
        ].item()
        == 2
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("from transitons", "there is no table or view 'transitons', nearest: transitions"),
        (
            "select epsilonn from epsilons",
            "there is no column 'epsilonn' in the tables of this query, nearest: epsilon",
        ),
        ("from zzz", "there is no table or view 'zzz', known: ada_verona, adversarials"),
        ("selekt 1", 'Parser Error: syntax error at or near "selekt"'),
        ("select $missing", "missing"),
        ("", "the query is empty"),
        ("-- nothing", "the query is empty"),
    ],
)
def test_a_wrong_query_is_explained_in_one_line(six, query, message):
    with pytest.raises(StoreError) as caught:
        six.sql(query)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "query",
    [
        "drop table runs",
        "delete from epsilons",
        "update runs set host = 'x'",
        "create table mine as select 1",
        "select * from read_text('{file}')",
        "select * from '{file}'",
        "select * from glob('{folder}/*')",
        "copy (select 1) to '{folder}/out.csv'",
        "export database '{folder}/out'",
        "attach '{folder}/other.duckdb' as other",
        "install httpfs",
        "load '{folder}/evil.duckdb_extension'",
        "set enable_external_access = true",
        "set log_query_path = '{folder}/out'",
        "set temp_directory = '{folder}/out'",
        "from frame",
    ],
)
def test_a_query_changes_nothing_and_reaches_no_other_file_or_variable(six, tmp_path, query):
    frame = pd.DataFrame({"secret": [1]})  # noqa: F841 - DuckDB would find it by name
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "secret.csv").write_text("a,b\n1,2\n")
    before = six.path.read_bytes()
    with pytest.raises(StoreError):
        six.sql(query.format(file=folder / "secret.csv", folder=folder))
    assert [entry.name for entry in folder.iterdir()] == ["secret.csv"]
    assert six.path.read_bytes() == before


def test_a_strangers_view_reads_no_file(six, tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with duckdb.connect(six.path) as stranger:
        stranger.execute(f"create view lure as from read_csv('{tmp_path / 'secret.csv'}')")
    for question in (lambda: six.sql("from lure"), lambda: six.export(tmp_path / "out.csv", what="lure")):
        with pytest.raises(StoreError, match="no other file"):
            question()
    assert not (tmp_path / "out.csv").exists()


def test_own_statements_share_a_duckdb_that_holds_no_file_meanwhile_and_reaches_no_other(six, tmp_path, monkeypatch):
    started, start = [], connection._started
    monkeypatch.setattr(connection, "_started", lambda: started.append(1) or start())
    connection._idle.clear()
    with six.run(["x"], device="cpu", seed=0) as run:
        for steps in range(5):
            run.attack(name="fmn", norm="linf", settings={"steps": steps})
            with duckdb.connect(six.path):  # nobody has it open
                pass
            assert len(six.sql(query("runs"))) == 2
    assert started == [1]
    (tmp_path / "secret.csv").write_text("a\n1\n")
    for statement in (f"from read_csv('{tmp_path / 'secret.csv'}')", f"attach '{tmp_path / 'other.duckdb'}' as other"):
        with pytest.raises(StoreError, match="disabled by configuration"), writing(six.path, 1) as again:
            again.execute(statement)
    assert not (tmp_path / "other.duckdb").exists()
    assert six.sql("select count(*) as n from attacks")["n"].item() == 1 + 5


def test_selects_of_a_user_share_a_locked_duckdb_that_nothing_else_uses(six, tmp_path, monkeypatch):
    started, start = [], connection._started
    monkeypatch.setattr(connection, "_started", lambda: started.append(1) or start())
    connection._idle.clear()
    for _ in range(3):
        assert six.sql("select count(*) as n from samples")["n"].item() == 6
        with duckdb.connect(six.path):  # nobody has it open
            pass
    assert started == [1]
    six.sql("create temp table mine as select 1")
    six.sql("explain select 1")
    assert started == [1, 1, 1]
    with writing(six.path, 1) as own:  # whose settings are not locked
        own.execute("set threads = 1")
    assert len(started) == 4
    (tmp_path / "secret.csv").write_text("a\n1\n")
    for statement, refusal in (
        ("from mine", "there is no table or view 'mine'"),
        (f"from read_csv('{tmp_path / 'secret.csv'}')", "no other file"),
        ("set threads = 2", "locked"),
        ("with a as (insert into samples select * from samples returning *) from a", "cannot change the store"),
    ):
        with pytest.raises(StoreError, match=refusal):
            six.sql(statement)
    assert six.sql("select count(*) as n from samples")["n"].item() == 6


def test_a_bulky_transaction_leaves_its_log_to_the_next_one_that_is_not(six, monkeypatch):
    started, start = [], connection._started
    monkeypatch.setattr(connection, "_started", lambda: started.append(1) or start())
    connection._idle.clear()
    for bulky, left in ((False, False), (True, True), (True, True), (False, False)):
        with writing(six.path, 1, bulky=bulky) as own:
            own.execute("update runs set seed = seed + 1")
        assert six.path.with_name(f"{six.path.name}.wal").exists() == left
    assert started == [1]
    assert six.sql("select seed from runs")["seed"].tolist() == [4]


def test_what_a_statement_makes_for_itself_is_gone_with_it(six):
    for _ in range(2):
        with writing(six.path, 1) as own:
            own.execute("create temp table mine as select 1")
            own.register("rows", pd.DataFrame({"a": [1]}))
    with connection.reading(six.path, 1, own=True) as own:
        assert ask(own, "select count(*) from duckdb_tables() where table_name = 'mine'") == [(0,)]
        assert ask(own, "select count(*) from duckdb_views() where view_name = 'rows'") == [(0,)]


def test_tables_say_what_is_inside(six):
    tables = six.tables().set_index("name")
    assert tables.loc["epsilons", "rows"] == 6
    assert tables.loc["samples", "kind"] == "table"
    assert pd.isna(tables.loc["transitions", "rows"])
    assert tables.loc["transitions", "comment"].startswith("What pruning does to each sample")


def test_describe_teaches(six):
    columns = six.describe("transitions").set_index("column")
    assert columns.loc["epsilon", "type"] == "FLOAT"
    assert "upper bound" in columns.loc["epsilon", "comment"]
    with pytest.raises(StoreError, match="there is no table or view 'thinice', nearest: thin_ice"):
        six.describe("thinice")


def test_a_store_shows_itself_in_a_notebook_and_escapes_names(six, bench):
    hostile = bench.checkpoint("<script>alert(1)</script>", sparsity=0.9)
    bench.run.comparison(1, hostile)
    shown = six._repr_html_()
    assert "thinice compare dense.pt pruned.pt" in shown
    assert "transitions" in shown
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_a_run_records_how_it_was_made_and_ended(store):
    before = datetime.now(UTC).replace(tzinfo=None)
    with store.run(["thinice", "measure", "a b.pt"], device="cuda:0", seed=7, settings={"effort": "quick"}) as run:
        assert store.runs()["outcome"].tolist() == ["running"]
    (row,) = store.runs().to_dict("records")
    assert (row["run_id"], row["command"], row["outcome"]) == (run.run_id, "thinice measure 'a b.pt'", "finished")
    assert (row["device"], row["seed"], row["samples"], row["error"]) == ("cuda:0", 7, 0, None)
    assert before <= row["started"] <= row["ended"] <= before + timedelta(minutes=1)
    kept = store.sql("select versions->>'duckdb' as duckdb, settings->>'effort' as effort, precision from runs")
    assert kept.to_numpy().tolist() == [[duckdb.__version__, "quick", "float32"]]


def test_a_run_says_what_stopped_it(store):
    with pytest.raises(ValueError, match="no more"), store.run(["a"], device="cpu", seed=0):
        raise ValueError("no more\n\nsecond paragraph")
    with pytest.raises(KeyboardInterrupt), store.run(["b"], device="cpu", seed=None):
        raise KeyboardInterrupt
    runs = store.runs()
    assert runs["outcome"].tolist() == ["failed", "interrupted"]
    assert runs["error"].tolist() == ["ValueError: no more", "KeyboardInterrupt: "]


def test_ctrl_c_inside_a_statement_of_thinice_is_no_error_of_the_statement(store):
    """DuckDB hears it and raises this RuntimeError, which a study would take for a network that failed."""
    with pytest.raises(KeyboardInterrupt), writing(store.path, 1):
        raise RuntimeError("Query interrupted")
    with pytest.raises(RuntimeError, match="no more"), writing(store.path, 1):
        raise RuntimeError("no more")
    assert store.sql("select 1 as one")["one"].tolist() == [1]


def test_an_end_that_cannot_be_recorded_does_not_hide_the_error(store):
    def fail():
        with store.run(["a"], device="cpu", seed=0):
            store.path.unlink()
            raise ValueError("first")

    with pytest.raises(ValueError, match="first") as caught:
        fail()
    assert "could not record the end" in caught.value.__notes__[0]


def test_a_run_whose_process_is_gone_is_shown_as_died_and_later_recorded(store):
    here = this_process()
    assert not here.is_gone
    assert Process(here.host, here.pid, "1").is_gone  # the pid was given to a later process
    assert not Process("another machine", 2**22 + 1, "1").is_gone
    row = {"command": ["x"], "versions": "{}", "settings": "{}", "device": "cpu", "precision": "float32", "seed": 0}
    with writing(store.path, 5) as connection:
        for host, pid in ((here.host, 2**22 + 1), ("another machine", 2**22 + 1), (here.host, here.pid)):
            ask(connection, query("add_run"), **row, now=datetime(2026, 1, 1), host=host, pid=pid, process_started=None)  # noqa: DTZ001 - as the store keeps it
    assert store.runs()["outcome"].tolist() == ["died", "running", "running"]
    with store.run(["next"], device="cpu", seed=0):
        pass
    kept = store.sql("select outcome, ended is null as open from runs order by run_id")
    assert kept["outcome"].tolist() == ["died", "running", "running", "finished"]
    assert kept["open"].tolist() == [False, True, True, False]


def test_a_store_can_be_pickled_and_shared_by_threads(store, bench):
    ids = np.arange(40)
    measurement = bench.measurement(ids)
    twin = pickle.loads(pickle.dumps(store))
    counts, failures = [], []

    def work(part):
        try:
            bench.shard(measurement, part)
            counts.append(twin.sql("select count(*) as n from epsilons")["n"].item())
        except Exception as error:  # noqa: BLE001 - a thread's error must reach the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(part,)) for part in np.split(ids, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert max(counts) == 40


def test_an_open_connection_of_this_process_is_named(six):
    with duckdb.connect(six.path), pytest.raises(StoreError, match="this very process"):
        six.sql("select 1")


@pytest.mark.usefixtures("stores_are_made")
@pytest.mark.parametrize("name", ["it's; here.duckdb", 'wide 1".duckdb', "ümlaut ❄.duckdb", "no-ending"])
def test_a_store_may_have_any_name(tmp_path, name):
    store = open_store(tmp_path / name, new=True)
    with store.run(["x"], device="cpu", seed=0):
        pass
    assert len(open_store(tmp_path / name).runs()) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
