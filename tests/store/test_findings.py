"""What the checks saw is stored with its measurement, and asked for in SQL."""

from __future__ import annotations

import pytest

from thinice.errors import StoreError

SILENT = {
    "check": "silent_success",
    "raised": True,
    "sample_ids": [11, 12],
    "of": 4,
    "value": None,
    "seen": "it was there",
    "advice": "look",
}
CALM = {**SILENT, "check": "unstable_predictions", "raised": False, "sample_ids": [], "value": 0.25}


def test_findings_are_kept_and_those_raised_are_warnings(store, bench):
    measurement = bench.measurement([10, 11, 12, 13])
    bench.run.add_findings(measurement, [SILENT, CALM])
    kept = store.sql("from findings order by check_name")
    assert kept["check_name"].tolist() == ["silent_success", "unstable_predictions"]
    assert kept["sample_ids"].tolist()[0].tolist() == [11, 12]
    assert kept["value"].tolist()[1] == 0.25
    (warning,) = store.sql("from warnings").to_dict("records")
    assert (warning["checkpoint"], warning["attack"], warning["check_name"]) == ("dense", "fmn", "silent_success")
    assert (warning["samples"], warning["looked_at"]) == (2, 4)


def test_checked_again_they_replace_the_old(store, bench):
    measurement = bench.measurement([10, 11, 12, 13])
    bench.run.add_findings(measurement, [SILENT, CALM])
    bench.run.add_findings(measurement, [{**SILENT, "raised": False, "sample_ids": []}])
    assert store.sql("select raised from findings order by check_name")["raised"].tolist() == [False, False]
    assert store.sql("from warnings").empty


def test_a_measurement_that_is_not_there_has_none(bench):
    with pytest.raises(StoreError, match="no measurement 99"):
        bench.run.add_findings(99, [CALM])
