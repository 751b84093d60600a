"""`thinice sql`: every format, files, several queries, and what it says of mistakes."""

from __future__ import annotations

import csv
import io
import json
import sys

import pytest

from thinice.cli import main


@pytest.fixture
def ask(monkeypatch, capsys, six):
    """Type `thinice sql …` at a store of six samples; returns (exit code, standard output, standard error)."""
    monkeypatch.chdir(six.path.parent)

    def typed(*words, stdin=""):
        monkeypatch.setattr(sys, "argv", ["thinice", "sql", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        said = ""
        try:
            main()
            code = 0
        except SystemExit as end:
            said = end.code if isinstance(end.code, str) else ""
            code = 1 if said else int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err + said

    return typed


QUERY = "select sample_id, epsilon, transition, source from transitions where sample_id in (12, 13) order by all"


def test_as_a_table(ask):
    _, out, _ = ask(QUERY)
    lines = out.splitlines()
    assert lines[0].split() == ["sample_id", "epsilon", "transition", "source"]
    assert set(lines[1]) == {"─", " "}
    assert [line.split() for line in lines[2:]] == [["12", "0.05", "S1,0", "12.png"], ["13", "S1,0", "13.png"]]


def test_as_csv_with_every_digit_and_nothing_for_null(ask):
    _, out, _ = ask(QUERY, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["transition"] for row in rows] == ["S1,0", "S1,0"]
    assert float(rows[0]["epsilon"]) == pytest.approx(0.05, abs=1e-9)
    assert rows[1]["epsilon"] == ""


def test_as_json_with_null(ask):
    _, out, _ = ask(QUERY, "--format", "json")
    first, second = json.loads(out)
    assert (first["sample_id"], first["transition"], first["source"]) == (12, "S1,0", "12.png")
    assert second["epsilon"] is None


def test_as_markdown(ask):
    _, out, _ = ask("select 'a|b' as name, 2 as n", "--format", "markdown")
    assert out.splitlines() == ["| name | n |", "| --- | --- |", "| a\\|b | 2 |"]


def test_lists_objects_and_blobs_are_shown_in_every_format(ask):
    query = (
        "select ['a', 'b'] as names, {'k': 1.5} as settings, []::text[] as none, 'ab'::blob as raw, [null, 2.5] as gaps"
    )
    (row,) = json.loads(ask(query, "--format", "json")[1])
    assert row == {"names": ["a", "b"], "settings": {"k": 1.5}, "none": [], "raw": "6162", "gaps": [None, 2.5]}
    (row,) = csv.DictReader(io.StringIO(ask(query, "--format", "csv")[1]))
    assert (json.loads(row["names"]), json.loads(row["settings"]), row["raw"]) == (["a", "b"], {"k": 1.5}, "6162")
    assert '["a", "b"]' in ask(query)[1]
    assert "2 bytes" in ask(query)[1]


@pytest.mark.parametrize(
    "how", ["table", *(pytest.param(name, marks=pytest.mark.slow) for name in ("json", "csv", "markdown"))]
)
@pytest.mark.slow
def test_everything_in_the_store_can_be_shown(ask, six, how):
    for name in six.tables()["name"]:
        code, out, err = ask(f"from {name}", "--format", how)
        assert (code, err) == (0, ""), name
        assert out, name


def test_nothing_found_keeps_the_columns(ask):
    nobody = "select sample_id, epsilon from transitions where sample_id = 99"
    assert ask(nobody)[1].strip() == "no rows"
    assert ask(nobody, "--format", "csv")[1] == "sample_id,epsilon\n"
    assert ask(nobody, "--format", "markdown")[1].splitlines() == ["| sample_id | epsilon |", "| --- | --- |"]
    assert json.loads(ask(nobody, "--format", "json")[1]) == []


def test_a_query_from_a_file_and_from_standard_input(ask, tmp_path):
    (tmp_path / "thin.sql").write_text(f"-- the two lost ones; both\n{QUERY};\n", encoding="utf-8")
    expected = ask(QUERY, "--format", "csv")
    assert expected[0] == 0
    assert ask("-f", "thin.sql", "--format", "csv") == expected
    assert ask("--file", tmp_path / "thin.sql", "--format", "csv") == expected
    assert ask("-f", "-", "--format", "csv", stdin=QUERY) == expected


def test_several_queries_are_answered_in_turn(ask, tmp_path):
    (tmp_path / "two.sql").write_text("select 1 as first; describe runs; select ';' as last", encoding="utf-8")
    code, out, _ = ask("-f", "two.sql")
    first, second, third = out.strip().split("\n\n")
    assert code == 0
    assert first.split() == ["first", "─────", "1"]
    assert "The command line, word by word." in second
    assert third.split()[-1] == ";"
    code, out, err = ask("-f", "two.sql", "--format", "json")
    assert (code, out) == (1, "")
    assert "`--format json` takes one query, got 3" in err


def test_a_mistake_in_the_last_query_prints_nothing(ask):
    for text in ("select 1; from nothing", "select 1;\n-- the second\nfrom nothing;\n-- done"):
        code, out, err = ask(text)
        assert (code, out) == (1, "")
        assert err.startswith("thinice: query 2 of 2: there is no table or view 'nothing'")
    assert ask("from nothing")[2].startswith("thinice: there is no table or view 'nothing'")


def test_comments_around_a_query_change_nothing(ask):
    described = ask("describe runs")
    assert "The command line, word by word." in described[1]
    assert ask("-f", "-", stdin="-- what there is\ndescribe runs; -- of runs\n/* done */") == described


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("select 1", "-f", "x.sql"), "`--file` and a query are given"),
        (("-f", "nothing.sql"), "`--file` nothing.sql cannot be read: No such file"),
        (("-f", "thinice.duckdb"), "is not text in UTF-8"),
        (("/* nothing */",), "holds no query"),
        (("selec 1",), "syntax error"),
        (("select epsilo from transitions",), "nearest: epsilon"),
        (("drop table runs",), "cannot change the store"),
        (("copy runs to 'x.csv'",), "no other file"),
        (("describe nothing",), "there is no table or view 'nothing'"),
    ],
)
def test_mistakes_are_told_in_one_line(ask, words, part):
    code, out, err = ask(*words)
    assert (code, out) == (1, "")
    assert part in err
    assert err.strip().count("\n") == 0
