"""Populations on networks small enough to count by hand, in Python and on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from torch import nn

import thinice
from tests.truth import LABELS, MEANS, Threshold, grey
from thinice.cli.populations import files
from thinice.errors import InputError
from thinice.models import as_classifier

OPTIONS = {"attack": "fmn", "steps": 20, "progress": False}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Dense thresholds around 0.5 have the majority of 0.5; of the pruned ones, most exceed 0.55 and 0.58."""
    dense = [as_classifier(Threshold(threshold), name=f"dense {threshold}") for threshold in (0.48, 0.5, 0.52)]
    pruned = [as_classifier(Threshold(threshold), name=f"pruned {threshold}") for threshold in (0.5, 0.6, 0.61)]
    store = tmp_path_factory.mktemp("populations") / "thinice.duckdb"
    return thinice.compare_populations(dense, pruned, grey(), store=store, **OPTIONS), store


@pytest.mark.slow
def test_exemplars_and_epsilons_are_those_on_paper(result):
    populations, _ = result
    assert populations.exemplars.is_exemplar.tolist() == [False, False, False, True, True, False, False, False]
    right = np.array(LABELS) == (np.array(MEANS) > 0.5)
    assert populations.exemplars.epsilon == pytest.approx(np.where(right, np.abs(np.array(MEANS) - 0.5), 0), rel=1e-2)
    # exemplars at 0.05 and 0.08, the rest at 0.4 0.3 0.07 0.2 0.4: of ten pairs, one goes the other way
    assert populations.exemplars.distances.auc == pytest.approx(0.9)
    assert populations.exemplars.dense_accuracy == pytest.approx(7 / 8)
    assert populations.exemplars.pruned_accuracy_on_exemplars == pytest.approx(1 / 3)
    assert "On 2 of 8 samples most of the 3 pruned networks say otherwise" in populations.answer
    assert dict(populations.table())["exemplars"] == "2 (25.00%)"
    frame = populations.frame()
    assert frame.loc[3, ["label", "dense_modal", "pruned_modal"]].tolist() == ["light", "light", "dark"]
    assert frame["is_exemplar"].sum() == 2


def test_the_row_holds_everything_and_json_takes_it(result):
    populations, _ = result
    row = json.loads(json.dumps(populations.to_dict(), allow_nan=False))
    assert (row["n_exemplars"], row["right_exemplars"], row["right_rest"]) == (2, 2, 5)
    assert row["auc"] == pytest.approx(0.9)
    assert [entry["name"] for entry in row["classes"]] == ["dark", "light"]
    assert row["dense"] == ["dense 0.48", "dense 0.5", "dense 0.52"]


def test_the_store_keeps_what_was_measured(result):
    _, path = result
    store = thinice.open_store(path)
    assert store.sql("select count(*) as n from measurements")["n"].item() == 3
    assert store.sql("select count(distinct checkpoint_id) as n from predictions")["n"].item() == 5  # one is in both


def test_a_group_without_networks_is_refused():
    network = as_classifier(Threshold(0.5))
    with pytest.raises(InputError, match="`pruned` must be a list of networks, with at least one"):
        thinice.compare_populations([network], [], grey())
    with pytest.raises(InputError, match="`dense` must be a list of networks"):
        thinice.compare_populations("dense.pt", [network], grey())
    with pytest.raises(InputError, match="classes"):
        thinice.compare_populations([network], [nn.Sequential(nn.Flatten(), nn.Linear(4, 3))], grey())


def test_names_and_patterns_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b1.pt", "b2.pt", "a.pt", "odd[1].pt"):
        (tmp_path / name).touch()
    assert [path.name for path in files(["b*.pt", "a.pt", "b1.pt"], "--dense")] == ["b1.pt", "b2.pt", "a.pt"]
    assert [path.name for path in files(["odd[1].pt", "missing.pt"], "--dense")] == ["odd[1].pt", "missing.pt"]
    with pytest.raises(InputError, match=r"`--dense` 'c\*.pt' is the pattern of no file"):
        files(["c*.pt"], "--dense")
