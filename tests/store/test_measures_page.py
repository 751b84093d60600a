"""The page of measures is true: every recipe runs, and its numbers are those of Python."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import thinice
from tests.conftest import ROOT
from tests.truth import Threshold, grey
from thinice.analysis.control import weight_noise, with_weight_noise
from thinice.cli.app import COMMANDS
from thinice.models import as_classifier
from thinice.stats import STATISTICS

PAGE = (ROOT / "docs" / "measures.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^### (.*?)\n.*?^```sql\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
OPTIONS = {"attack": "fmn", "steps": 4, "progress": False}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def populations(tmp_path_factory):
    """Two prunings with their controls, and two dense networks against the prunings: what all recipes ask about."""
    paths, samples = thinice.example_checkpoints(), thinice.load_samples("digits", limit=150)
    store = tmp_path_factory.mktemp("measures") / "thinice.duckdb"
    dense = thinice.load_classifier(paths["dense"])
    twin = with_weight_noise(dense, weight_noise(dense, 7, 0), 0.15)
    pruned = [thinice.load_classifier(paths[name]) for name in ("pruned-90", "pruned-95")]
    comparisons = thinice.compare_all(
        dense, pruned, samples, control="noise", gradient_norms=True, store=store, **OPTIONS
    )
    groups = thinice.compare_populations([dense, twin], pruned, samples, store=store, **OPTIONS)
    return comparisons, groups, thinice.open_store(store)


def test_every_query_is_a_recipe_and_names_are_those_of_the_statistics():
    assert len(RECIPES) == PAGE.count("```sql")
    named = set(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE))
    assert named <= set(STATISTICS)
    for command in re.findall(r"^thinice (\w+)", PAGE, re.MULTILINE):
        assert command in COMMANDS.names()


def test_every_statistic_has_its_line_on_one_of_the_pages():
    pages = PAGE + (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    assert [name for name in STATISTICS if f"`{name}`" not in pages] == []


def test_flips_are_those_of_the_statistics(populations):
    comparisons, _, store = populations
    rows = store.sql(RECIPES["Flips from their definition"])
    for name in rows.columns[2:]:
        expected = [comparison.to_dict()[name] for comparison in comparisons]
        known = [math.nan if value is None else value for value in expected]
        assert rows[name].tolist() == pytest.approx(known, nan_ok=True), name
    assert (rows["churn"] > 0).any()


def test_cev_and_sde_are_those_on_paper_and_undefined_where_a_class_has_no_errors(populations, tmp_path):
    _, _, store = populations
    rows = store.sql(RECIPES["CEV and SDE from their definition"])
    assert rows["classes"].tolist() == [10, 10]
    assert rows[["cev", "sde"]].isna().all(axis=None)
    # of 4 dark and 4 light samples the dense network has one each wrong, the pruned one a second light one
    networks = [as_classifier(Threshold(threshold), name=str(threshold)) for threshold in (0.56, 0.6)]
    result = thinice.compare(*networks, grey(), store=tmp_path / "grey.duckdb", **OPTIONS)
    assert (result.to_dict()["cev"], result.to_dict()["sde"]) == (0.5, 1.0)
    (row,) = thinice.open_store(tmp_path / "grey.duckdb").sql(RECIPES["CEV and SDE from their definition"]).values
    assert row.tolist() == [1, 2, 0.5, 1.0]


def test_excess_losses_are_those_of_the_comparisons(populations):
    comparisons, _, store = populations
    rows = store.sql(RECIPES["Excess loss of each class"])
    for comparison in comparisons:
        mine = rows[rows["pruned"] == comparison.pruned].set_index("class_name")["excess_loss"]
        impact = comparison.class_impact
        assert mine[impact.name.tolist()].tolist() == pytest.approx(impact.excess_loss.tolist(), abs=1e-6)
        assert np.ptp(mine) == pytest.approx(comparison.to_dict()["excess_loss_gap"], abs=1e-6)


def test_aucs_of_control_networks_are_those_of_the_statistics(populations):
    comparisons, _, store = populations
    rows = store.sql(RECIPES["The AUC of each control network"])
    for key, comparison in enumerate(comparisons, start=1):
        mine = rows[rows["comparison_id"] == key].dropna()
        control = comparison.separation.control
        assert len(mine) == control.networks
        assert sorted(mine["auc"]) == pytest.approx(sorted(control.aucs))


def test_the_auc_of_the_gradient_norm_is_that_of_the_comparison(populations):
    comparisons, _, store = populations
    rows = store.sql(RECIPES["The AUC of the gradient norm"])
    expected = [comparison.predictor_comparison() for comparison in comparisons]
    assert rows["auc"].tolist() == pytest.approx(
        [table.auc[table.name == "gradient_norm"].item() for table in expected]
    )


def test_exemplars_are_those_of_the_populations(populations):
    _, groups, store = populations
    rows = store.sql(RECIPES["Pruning-identified exemplars"])
    expected = groups.frame().query("is_exemplar").sort_values("sample_id")
    assert rows["sample_id"].tolist() == expected["sample_id"].tolist() != []
    assert rows["dense_modal"].astype(str).tolist() == expected["dense_modal"].tolist()
    assert rows["pruned_modal"].astype(str).tolist() == expected["pruned_modal"].tolist()


def test_classes_are_those_of_the_populations(populations):
    _, groups, store = populations
    rows = store.sql(RECIPES["What pruning costs each class beyond the average"]).set_index("label").sort_index()
    tests = groups.class_tests
    assert rows["relative_change"].tolist() == pytest.approx(tests.relative_change.tolist())
    t = (rows["relative_change"] / rows["error"]).to_numpy()
    np.testing.assert_allclose(t[~np.isnan(tests.t)], tests.t[~np.isnan(tests.t)])
