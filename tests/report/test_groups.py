"""Tables of classes and of populations in the report, on networks small enough to count by hand."""

from __future__ import annotations

import re

import pytest

import thinice
from tests.truth import Threshold, grey
from thinice.models import as_classifier
from thinice.report.facts import read_facts
from thinice.report.groups import class_table, population_section

OPTIONS = {"attack": "fmn", "steps": 20, "progress": False}


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """Thresholds as names; the comparison gives each class an error of the dense network, and the second light one."""
    store = tmp_path_factory.mktemp("groups") / "thinice.duckdb"
    network = {threshold: as_classifier(Threshold(threshold), name=f"<{threshold}>") for threshold in (0.5, 0.56, 0.6)}
    thinice.compare(network[0.56], network[0.6], grey(), store=store, **OPTIONS)
    groups = [network[0.5], network[0.56]], [network[0.6], network[0.5]]
    for _ in range(2):  # the same populations are there once
        thinice.compare_populations(*groups, grey(), store=store, **OPTIONS)
    return read_facts(thinice.open_store(store))


def cells(table):
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_classes_are_those_on_paper(facts):
    (compared,) = facts.comparisons
    table = class_table(compared)
    assert "CEV 0.5; SDE 1; excess loss gap" in table
    light, dark = cells(table)[1:]
    assert light[:6] == ["light", "4", "75.0%", "50.0%", "+0.00", "+1.00"]
    assert dark[:6] == ["dark", "4", "75.0%", "75.0%", "+1.00", "+0.00"]
    assert float(light[6]) == pytest.approx(0.02, abs=0.02)  # the loss of a light sample grows with the threshold
    assert float(dark[6]) < 0


def test_populations_are_those_on_paper(facts):
    (population,) = facts.populations
    assert (population.dense, population.pruned) == (("<0.56>", "<0.5>"), ("<0.6>", "<0.5>"))
    section = population_section(facts.populations)
    # of two equally frequent classes the larger counts: 0.5 for both groups, so that nothing differs
    assert "On 0 of 8 samples most of the 2 pruned networks say otherwise than most of the 2 dense ones" in section
    assert "Exemplars, nearest first" not in section
    assert "&lt;0.56&gt;" in section
    assert "<0.56>" not in section
    # recall of light samples: 4/4 and 3/4, then 4/4 and 2/4; of dark ones 3/4 throughout; accuracy falls by 1/16
    rows = {row[0]: row[1:5] for row in cells(section) if row[0] in ("light", "dark")}
    assert rows == {"light": ["4", "87.5%", "75.0%", "-6.2"], "dark": ["4", "75.0%", "75.0%", "+6.2"]}


def test_without_populations_nothing_is_said():
    assert population_section(()) == ""
