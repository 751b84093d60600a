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
from thinice.cli.output import aligned, render
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


def test_table_sets_numbers_to_the_right():
    assert aligned([["name", "n"], ["a", "3"], ["longer", "14"]]).splitlines() == [
        "name     n",
        "──────  ──",
        "a        3",
        "longer  14",
    ]


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
