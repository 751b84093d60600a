"""Parting a text into statements: the same under every DuckDB that we support."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinice.errors import StoreError
from thinice.store import statements

STATEMENTS = (
    "select ';'",
    "select 'it''s; so' as \"a;b\"",
    "select $$;--$$",
    "select $tag$ ; $$ /* $tag$",
    "select E'\\'; --'",
    "select 1 /* ; */ + -- ;\n 2",
    "select 'é;ü' as ö",
    "from range(3)",
    "describe select 1",
    "pivot (select 1 as a, 2 as b) on a using sum(b)",
)
BETWEEN = ("", " ", "\n", ";", " ; ", "-- a; b\n", "/* ; é */", "--\n")
between = st.lists(st.sampled_from(BETWEEN), max_size=4).map("".join)


@given(parts=st.lists(st.tuples(between, st.sampled_from(STATEMENTS)), max_size=4), end=between)
def test_statements_come_back_without_what_stands_between_them(parts, end):
    text = "".join(f"{before}{statement};" for before, statement in parts) + end
    assert statements(text) == [statement for _, statement in parts]


@pytest.mark.parametrize("end", ["", "\n", ";", ";;\n", "; -- done", ";\n/* done; */"])
def test_the_last_semicolon_may_be_missing(end):
    assert statements(f"select 1;\n-- the second\nselect 2{end}") == ["select 1", "select 2"]


def test_what_is_not_sql_is_refused():
    with pytest.raises(StoreError, match='syntax error at or near "selec"'):
        statements("select 1; selec 2")


def test_a_pivot_is_one_query(six):
    """DuckDB 1.x makes two statements of it."""
    answer = six.sql("pivot (from transitions select transition) on transition using count(*); -- done")
    assert answer.to_numpy().sum() == len(six.sql("from transitions"))
    with pytest.raises(StoreError, match="one query at a time"):
        six.sql("from runs; from transitions")
