"""The main job on a network small enough to count by hand."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import thinice
from tests.truth import LABELS, MEANS, Threshold, grey
from thinice.analysis.boundary_slice import typical_slice
from thinice.attacks import make_attack
from thinice.errors import DoubtfulWarning, InputError
from thinice.models import as_classifier
from thinice.plots.figure_set import draw, save_figures
from thinice.types import Transition

# threshold 0.5 is right on all but number 6; threshold 0.6 loses 3 and 4, gains none
DISTANCES = [0.4, 0.3, 0.07, 0.05, 0.08, 0.2, 0.0, 0.4]
TRANSITIONS = ["S1,1", "S1,1", "S1,1", "S1,0", "S1,0", "S1,1", "S0,0", "S1,1"]


@pytest.fixture(scope="module")
def samples():
    return grey()


@pytest.fixture(scope="module")
def networks():
    return as_classifier(Threshold(0.5), name="dense"), as_classifier(Threshold(0.6), name="pruned")


@pytest.fixture(scope="module")
def result(networks, samples):
    """What tests that only look share."""
    return thinice.compare(*networks, samples, progress=False)


def test_every_column_is_the_one_on_paper(result):
    assert result.transitions.tolist() == TRANSITIONS
    np.testing.assert_allclose(result.epsilon, DISTANCES, rtol=2e-3, atol=1e-6)
    assert (result.epsilon >= np.array(DISTANCES, np.float32) - 1e-6).all()
    assert result.counts == {"S1,1": 5, "S1,0": 2, "S0,1": 0, "S0,0": 1}
    assert result.not_found == 0
    assert result.labels.tolist() == LABELS


def test_statistics_are_those_on_paper(result):
    # kept 0.4 0.3 0.07 0.2 0.4 against lost 0.05 0.08: of ten pairs, only 0.07 < 0.08 goes the other way
    assert result.separation.auc == pytest.approx(0.9)
    assert result.separation.u == 1.0
    assert result.separation.median_kept == pytest.approx(0.3, rel=2e-3)
    assert result.separation.median_lost == pytest.approx(0.065, rel=2e-3)
    # the lost ones are the nearest and the third of seven: 1 + 2 and 1 + 3, of 21 pairs
    assert result.separation.log10_p == pytest.approx(np.log10(2 / 21))
    assert result.changes.dense_accuracy == 7 / 8
    assert result.changes.pruned_accuracy == 5 / 8
    assert result.separation.exact


def test_how_sure_the_dense_network_is(result):
    margins = np.abs(np.array(MEANS) - 0.5) * np.where(np.array(TRANSITIONS) == "S0,0", -1, 1)
    np.testing.assert_allclose(result.margins, margins, atol=1e-6)
    np.testing.assert_allclose(result.losses, np.log1p(np.exp(-margins)), atol=1e-6)
    np.testing.assert_allclose(result.confidences, 1 / (1 + np.exp(-np.abs(margins))), atol=1e-6)


def test_rivals_and_risk_are_those_on_paper(result):
    # kept lie at 0.4 0.3 0.07 0.2 0.4, lost at 0.05 and 0.08: 9 of 10 pairs, and all else orders alike
    rivals = result.predictor_comparison()
    assert rivals.name.tolist() == ["epsilon", "margin", "confidence", "loss"]
    assert rivals.auc == pytest.approx([0.9] * 4)
    assert (rivals.n_kept, rivals.n_lost) == (5, 2)
    # zeros and ones by epsilon: 1 0 1 0 0 0 0, where 0 1 is pooled
    assert result.risk().risk == pytest.approx([1, 0.5, 0.5, 0, 0, 0, 0], abs=1e-12)


def test_epsilons_are_the_dense_networks(networks, samples):
    dense, pruned = networks
    swapped = thinice.compare(pruned, dense, samples, progress=False)
    np.testing.assert_allclose(swapped.epsilon[[0, 7]], [0.5, 0.3], rtol=2e-3)
    assert swapped.counts == {"S1,1": 5, "S1,0": 0, "S0,1": 2, "S0,0": 1}


@pytest.mark.slow
def test_nothing_lost_when_both_are_the_same(networks, samples):
    dense, _ = networks
    same = thinice.compare(dense, dense, samples, progress=False)
    assert same.counts == {"S1,1": 7, "S1,0": 0, "S0,1": 0, "S0,0": 1}
    assert same.separation.auc is None
    assert "S1,0 is empty" in " ".join(same.separation.notes)
    assert same.answer == "dense loses 0 of the 7 samples that dense has right."
    assert "boundary" in draw(same, plane=typical_slice(same))
    assert "boundary" not in draw(same)  # a figure runs no network


def test_several_prunings_share_the_dense_measurement(networks, samples, tmp_path):
    dense, pruned = networks
    seen = []
    store = tmp_path / "thinice.duckdb"
    other = as_classifier(Threshold(0.3), name="other")
    results = thinice.compare_all(dense, [pruned, other], samples, store=store, progress=seen.append)
    assert [moment.done for moment in seen] == [8]
    assert [one.pruned for one in results] == ["pruned", "other"]
    opened = thinice.open_store(store)
    assert opened.sql("select count(*) as n from separation")["n"].item() == 2
    counted = opened.sql("select transition, count(*) as n from transitions where pruned = 'pruned' group by all")
    assert dict(zip(counted["transition"], counted["n"], strict=True)) == {"S1,1": 5, "S1,0": 2, "S0,0": 1}
    row = opened.sql("select auc, n_lost, median_lost from separation where pruned = 'pruned'").iloc[0]
    assert row["auc"] == pytest.approx(results[0].separation.auc)
    assert row["median_lost"] == pytest.approx(results[0].separation.median_lost)
    exact = opened.sql("select exact from statistics order by comparison_id")["exact"].tolist()
    assert exact == [one.separation.exact for one in results] == [True, results[1].separation.exact]


@pytest.mark.slow
@pytest.mark.parametrize(("robust_by", "a"), [(None, "tmn"), *[("foolbox:LinfFastGradientAttack",) * 2]])
def test_on_a_robust_basis_the_frame_says_what_each_sample_fell_to(networks, samples, robust_by, a):
    result = thinice.compare(*networks, samples, basis="robust", budget=0.09, robust_by=robust_by, progress=False)
    frame = result.frame()
    assert frame["dense_broken_by"].tolist() == [None, None, a, a, a, None, "clean", None]
    assert frame["pruned_broken_by"].tolist() == [None, None, None, "clean", "clean", None, "clean", None]
    assert result.dense_broken_by.tolist() == ["", "", a, a, a, "", "clean", ""]
    assert frame["transition"].tolist() == ["S1,1", "S1,1", "S0,1", "S0,0", "S0,0", "S1,1", "S0,0", "S1,1"]
    stands = frame[["dense_broken_by", "pruned_broken_by"]].isna()
    assert [f"S{dense:d},{pruned:d}" for dense, pruned in stands.to_numpy()] == frame["transition"].tolist()


def test_on_the_clean_basis_nothing_falls_to_an_attack(result):
    assert result.dense_broken_by is result.pruned_broken_by is None
    assert not [name for name in result.frame().columns if "broken_by" in name]


def test_frame_has_names_and_unknowns(result):
    frame = result.frame()
    assert frame["label"].tolist()[:4] == ["dark", "dark", "dark", "light"]
    assert frame["pruned_prediction"][3] == "dark"
    assert list(frame["transition"].cat.categories) == list(Transition)
    assert frame["outcome"].tolist() == ["found"] * 6 + ["misclassified", "found"]


def test_one_row_is_plain_json(result):
    row = result.to_dict()
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert (row["dense"], row["S1,0"], row["n_lost"]) == ("dense", 2, 2)


def test_a_notebook_shows_names_as_text(networks, samples):
    dense, _ = networks
    bad = as_classifier(Threshold(0.6), name="<script>alert(1)</script>")
    shown = thinice.compare(dense, bad, samples, progress=False)._repr_html_()
    assert "<script>" not in shown
    ET.fromstring(f"<div>{shown}</div>")  # well-formed


def test_thinnest_shows_lost_samples_first(result):
    shown = [result.transitions[example.position] for example in result.closest]
    assert shown == ["S1,0"] * 2 + ["S1,1"] * 5


@pytest.mark.slow
def test_figures_are_written_whole_under_safe_names(networks, samples, tmp_path):
    dense, _ = networks
    names = ["../../evil", "../../evil", "..", "naïve name.pt"]
    pruned = [as_classifier(Threshold(0.6), name=name) for name in names]
    results = thinice.compare_all(dense, pruned, samples, progress=False)
    folder = tmp_path / "figures"
    files = save_figures(results, folder, planes=[typical_slice(result) for result in results])
    assert all(folder.resolve() in file.resolve().parents for file in files)
    assert sorted(path.name for path in folder.iterdir()) == ["evil", "evil-2", "naïve_name.pt", "pruned"]
    assert {file.name for file in files} >= {"distribution.png", "distribution.svg", "gallery.png", "boundary.svg"}
    for file in files:
        assert file.stat().st_size > 1000
        if file.suffix == ".svg":
            ET.parse(file)
    assert not list(folder.rglob(".*"))
    assert "Where pruning moved the boundary" in (folder / "evil" / "boundary.svg").read_text()  # text, not outlines


@pytest.mark.slow
def test_prunings_of_different_sparsity_make_series(networks, samples, tmp_path):
    dense, pruned = networks
    result = thinice.compare(dense, pruned, samples, progress=False)
    sparser = replace(result, pruned="sparser", pruned_sparsity=0.75)
    names = {path.relative_to(tmp_path).as_posix() for path in save_figures([result, sparser], tmp_path)}
    assert names >= {"sparsity-auc.svg", "sparsity-accuracy.png", "sparsity-lost.svg"}


def test_a_folder_that_cannot_be_written_is_named(result, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        save_figures([result], blocked)


def test_bad_input_is_refused_before_anything_is_measured(networks, samples):
    dense, pruned = networks
    with pytest.raises(InputError, match="`pruned` is empty"):
        thinice.compare_all(dense, [], samples)
    with pytest.raises(InputError, match="`data` is missing"):
        thinice.compare(dense, pruned)
    ten = as_classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 10)), name="ten")
    with pytest.raises(InputError, match="another task"):
        thinice.compare(dense, ten, samples)


def test_an_attack_made_before_is_taken_as_it_is(networks, samples):
    attack = make_attack("fmn", norm="l2", steps=50)
    result = thinice.compare(*networks, samples, attack=attack, progress=False)
    assert result.norm == "l2"
    np.testing.assert_allclose(result.epsilon[[0, 1]], [0.8, 0.6], rtol=2e-3)  # twice the linf distance in 4 pixels


@pytest.mark.slow
def test_files_of_one_name_are_told_apart(networks, samples, tmp_path):
    dense, _ = networks
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    nets = [as_classifier(Threshold(threshold), name="net") for threshold in (0.6, 0.61, 0.62, 0.63)]
    files = [replace(net, path=tmp_path / k / "net.pt") for net, k in zip(nets, ("one", "two"), strict=False)]
    plain = nets[2:]
    results = thinice.compare_all(dense, [*files, *plain], samples, progress=False)
    assert [one.pruned for one in results] == ["net", "two/net", "net-2", "net-3"]


@pytest.mark.parametrize("data", ["folder:/", "npz:/etc/passwd", "/etc", "nonsense"])
def test_a_checkpoint_cannot_choose_a_path(networks, data):
    dense, pruned = networks
    with pytest.raises(InputError, match="no built-in data set"):
        thinice.compare(replace(dense, data=data), pruned)


def test_a_network_that_is_not_a_number_is_not_right(samples):
    class Half(Threshold):
        def forward(self, inputs):
            broken = (inputs.flatten(1)[:, :1] < 0.15).expand(-1, 2)
            return torch.where(broken, torch.nan, super().forward(inputs))

    dense = as_classifier(Half(0.5), name="half")
    with pytest.warns(DoubtfulWarning, match="half: 1 of 8 samples have logits that are NaN"):
        result = thinice.compare(dense, as_classifier(Threshold(0.5), name="whole"), samples, progress=False)
    assert result.transitions[0] == "S0,1"
    assert result.dense_predictions[0] == -1
    assert result.not_found == 0  # of those that the dense network has right
    assert result.frame()["dense_prediction"].isna().tolist() == [True] + [False] * 7


@pytest.mark.slow
def test_distances_of_both_networks_are_drawn(networks, samples, tmp_path):
    result = thinice.compare(*networks, samples, distances="both", progress=False)
    figures = draw(result, plane=typical_slice(result))
    assert {"pairs", "boundary", "gallery", "risk", "predictors"} <= set(figures)
    legend = [text.get_text() for text in figures["security"].axes[0].get_legend().get_texts()]
    assert [line.partition(":")[0] for line in legend] == ["dense", "pruned"]
    other = replace(result, pruned="other")
    assert tmp_path / "security.svg" in save_figures([result, other], tmp_path)
    assert "other" in (tmp_path / "security.svg").read_text()


def test_a_comparison_shows_hostile_names_without_obeying_them(result):
    hostile = replace(result, pruned="\x1b[2J" + "n" * 100_000)
    assert repr(hostile).isprintable()
    assert len(repr(hostile)) <= 1000


def test_patterns_of_wrong_studies_stay_with_the_networks_that_they_name(networks, samples, tmp_path):
    dense, pruned = networks
    store = tmp_path / "thinice.duckdb"
    same, other = thinice.compare_all(dense, [dense, pruned], samples, store=store, progress=False)
    patterns = {comparison.pruned: comparison.patterns for comparison in (same, other)}
    assert same.patterns == ()  # nothing is lost
    shown = thinice.checks.study_patterns.stored_patterns(thinice.open_store(store))
    for name, found in patterns.items():
        assert found == tuple(pattern for pattern in shown if name in pattern.subjects)
    assert [pattern.check for pattern in other.patterns] == ["no_separation"]  # eight samples separate nothing
