"""Stores that are damaged, or were not written by thinice: one line each; and a clock that was put back."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from html import escape

import numpy as np
import pytest

import thinice
from tests.report.stores import write_store
from thinice.checks.stored import check_store
from thinice.errors import StoreError
from thinice.report import save_report
from thinice.report.sections import _settings
from thinice.store import connection, open_store, stored_adversarial, stored_settings

pytestmark = pytest.mark.usefixtures("unadorned")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("whole") / "thinice.duckdb", thinice.load_samples("digits", limit=40))


@pytest.fixture
def damaged(whole, tmp_path):
    store = open_store(shutil.copy(whole.path, tmp_path / "thinice.duckdb"))

    def change(statement):
        with connection.writing(store.path, 1) as connected:
            connected.execute(statement)
        return store

    return change


@pytest.mark.slow
def test_an_adversarial_of_one_byte_is_one_line(damaged, tmp_path):
    store = damaged("update adversarials set adversarial = 'x'::blob")
    with pytest.raises(StoreError, match=r"an adversarial of shape \[1, 8, 8\] has 1 bytes"):
        save_report(store, tmp_path / "report.html")


@pytest.mark.sampled
@pytest.mark.parametrize("settings", ["[1, 2]", "7", "null"])
def test_settings_without_names_are_one_line(damaged, tmp_path, settings):
    store = damaged(f"update attacks set settings = '{settings}'")
    assert escape(settings) in save_report(store, tmp_path / "report.html").read_text(encoding="utf-8")
    with pytest.raises(StoreError, match="these are no settings"):
        check_store(store)


def test_versions_without_names_are_shown_as_they_stand(damaged, tmp_path):
    store = damaged("update runs set versions = '[1, 23]'")
    assert "[1, 23]" in save_report(store, tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '"a"', None])
def test_what_is_no_json_is_no_settings(text):
    with pytest.raises(StoreError, match="these are no settings"):
        stored_settings(text)


def test_adversarials_are_read_as_they_were_written():
    values = np.linspace(0, 1, 12, dtype="<f4").reshape(3, 2, 2)
    np.testing.assert_array_equal(stored_adversarial(values.tobytes(), (3, 2, 2)), values)
    for shape in ((3, 2, 3), (), (-3, -2, 2), (0,)):
        with pytest.raises(StoreError, match="has 48 bytes"):
            stored_adversarial(values.tobytes(), shape)


def test_a_run_never_lasts_less_than_nothing(tmp_path, monkeypatch):
    store = open_store(tmp_path / "thinice.duckdb", new=True)
    back = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=1)
    with store.run(["x"], device="cpu", seed=0) as run:
        monkeypatch.setattr("thinice.store.run_base.now", lambda: back)
        monkeypatch.setattr("thinice.store.runs.now", lambda: back)
        run.attack(name="a", norm="l2", settings={})
    row = store.sql("from runs").iloc[0]
    assert row["started"] <= row["seen"]
    assert row["started"] <= row["ended"]
    assert store.runs()["seconds"].tolist() == [0]
    with connection.writing(store.path, 1) as connected:
        connected.execute("update runs set ended = started - interval 1 hour")  # as older versions stored it
    assert store.runs()["seconds"].tolist() == [0]


@pytest.mark.parametrize("settings", ["[" * 2000, '{"a": ' + "[" * 900 + "]" * 900 + "}", "{"])
def test_settings_that_cannot_be_read_are_shown_as_they_stand(settings):
    (shown,) = _settings(settings)
    assert shown == ("", settings) or (shown[0] == "a" and settings.endswith("}"))
    assert _settings('{"steps": 100}') == [("steps", "100")]


def test_settings_of_two_thousand_brackets_end_no_report(damaged, tmp_path):
    store = damaged(f"update attacks set settings = '{'[' * 2000 + ']' * 2000}'")
    assert "[" * 400 in save_report(store, tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("time", ["infinity", "-infinity"])
def test_an_infinite_time_is_unknown(damaged, tmp_path, time):
    store = damaged(f"update runs set started = '{time}', ended = '{time}'")
    runs = store.runs()
    assert runs[["started", "ended", "seconds"]].isna().all(axis=None)
    assert f"{time}" not in store._repr_html_()
    damaged(f"update checkpoints set created = '{time}'; update comparisons set created = '{time}'")
    page = save_report(store, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "294247" not in page
    assert "290308" not in page


def test_a_time_that_is_known_stays(damaged):
    store = damaged("update runs set started = '2026-01-01 00:00:00', ended = '2026-01-01 00:01:30'")
    assert store.runs()["seconds"].tolist() == [90]
    assert str(store.runs()["started"][0]) == "2026-01-01 00:00:00"
