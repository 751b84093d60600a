"""Rows in four formats: the same numbers, none of them NaN."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest

from thinice.analysis.options import RunOptions, declared
from thinice.cli.options import Format, normalization_value
from thinice.cli.output import BETWEEN, WIDTH, aligned, render
from thinice.errors import InputError

ROWS = [
    {"name": "a|b", "n": np.int64(3), "share": 0.123456789, "text": "two\nlines"},
    {"name": "c", "n": 4, "share": math.nan, "text": None},
]


def test_json_has_full_numbers_and_null_for_nan():
    assert json.loads(render(ROWS, Format.JSON)) == [
        {"name": "a|b", "n": 3, "share": 0.123456789, "text": "two\nlines"},
        {"name": "c", "n": 4, "share": None, "text": None},
    ]


def test_csv_reads_back():
    rows = list(csv.reader(io.StringIO(render(ROWS, Format.CSV))))
    assert rows == [["name", "n", "share", "text"], ["a|b", "3", "0.123456789", "two\nlines"], ["c", "4", "", ""]]


def test_markdown_escapes_bars_and_keeps_a_row_on_a_line():
    assert render(ROWS, Format.MARKDOWN).splitlines() == [
        "| name | n | share | text |",
        "| --- | --- | --- | --- |",
        "| a\\|b | 3 | 0.1235 | two lines |",
        "| c | 4 |  |  |",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12345.6, "12346"), (77810.0, "77810"), (-1234.5, "-1234"), (0.00012345, "0.0001234"), (3e9, "3e+09")],
)
def test_large_numbers_are_whole_in_tables(value, shown):
    row = [{"passes": value}]
    assert render(row, Format.MARKDOWN).splitlines()[-1] == f"| {shown} |"
    assert render(row, Format.CSV).splitlines()[-1] == repr(value)


def test_table_sets_numbers_to_the_right():
    assert aligned([["name", "n"], ["a", "3"], ["longer", "14"]]).splitlines() == [
        "name     n",
        "──────  ──",
        "a        3",
        "longer  14",
    ]


WIDE = [{f"column number {k}": f"{name} {k}" for k in range(12)} for name in ("dense", "pruned", "small")]
COMMENTS = [{"column": "budget", "comment": "of l2 " * 40}, {"column": "norm", "comment": "of the attack"}]


def test_a_table_fits_on_a_terminal_and_loses_nothing():
    """Few rows become columns, many columns several tables, sentences several lines."""
    turned = render(WIDE, Format.TABLE)
    assert turned.splitlines()[0].split() == ["column", "number", "0", "dense", "0", "pruned", "0", "small", "0"]
    assert turned.splitlines()[-1].split() == ["column", "number", "11", "dense", "11", "pruned", "11", "small", "11"]
    tables = render(WIDE * 9, Format.TABLE)
    for table in tables.split("\n\n"):
        assert [line.split(BETWEEN)[0] for line in table.splitlines()[2:]] == ["dense 0", "pruned 0", "small 0"] * 9
    sentences = render(COMMENTS, Format.TABLE)
    assert sentences.split().count("l2") == 40
    assert sentences.splitlines()[-1] == "norm    of the attack"
    for text in (turned, tables, sentences):
        assert max(map(len, text.splitlines())) <= WIDTH
    assert max(map(len, tables.splitlines())) > WIDTH / 2
    for text in (turned, tables):
        assert all(value in text for row in WIDE for value in row.values())
    assert max(map(len, render(WIDE, Format.MARKDOWN).splitlines())) > WIDTH  # for files and programs


def test_a_wide_terminal_shows_a_wide_table(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "300")
    assert len(render(WIDE, Format.TABLE).splitlines()) == 2 + len(WIDE)


@pytest.mark.parametrize(("how", "text"), [("table", "no rows"), ("json", "[]"), ("csv", ""), ("markdown", "")])
def test_no_rows(how, text):
    assert render([], Format(how)) == text


def test_batch_size_option():
    read = declared(RunOptions)["batch_size"][1].read
    assert read("auto") == "auto"
    assert read("12") == 12
    for wrong in ("0", "-1", "many", "1.5"):
        with pytest.raises(InputError, match="--batch-size"):
            read(wrong)


def test_normalization_option():
    assert normalization_value("cifar10") == "cifar10"
    assert normalization_value("0.5,0.4/0.2,0.1") == ((0.5, 0.4), (0.2, 0.1))
    with pytest.raises(InputError, match="--normalization"):
        normalization_value("half/none")
