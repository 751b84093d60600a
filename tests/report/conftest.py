"""Stores to report on, made once."""

from __future__ import annotations

import pytest

import thinice
from tests.report.browser import CHROMIUM, Browser
from tests.report.stores import write_store
from thinice.report import save_report


@pytest.fixture(scope="session")
def digits():
    return thinice.load_samples("digits", limit=300)


@pytest.fixture(scope="session")
def store(digits, tmp_path_factory):
    """300 digits, two prunings."""
    return write_store(tmp_path_factory.mktemp("report") / "thinice.duckdb", digits, pruned=("pruned-90", "pruned-95"))


@pytest.fixture(scope="session")
def report(store):
    return save_report(store, store.path.with_name("report.html"))


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    started = Browser(tmp_path_factory.mktemp("chromium"))
    yield started
    started.close()
