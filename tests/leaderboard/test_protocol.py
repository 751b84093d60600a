"""The benchmark on two small networks: it says what compare and evaluate say, keeps it, goes on, and is not fooled."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import thinice
from tests.leaderboard.conftest import HYDRA, OPTIONS, WEAK
from thinice.analysis.tuning import samples_to_tune_on
from thinice.data import as_samples
from thinice.errors import InputError
from thinice.leaderboard import Category, ModelKey, published_methods
from thinice.leaderboard.categories import category_of, check_key, removed_share, structure_of_zeros
from thinice.leaderboard.estimate import estimate_benchmark
from thinice.leaderboard.protocol import described, other_than_published
from thinice.leaderboard.results import MEASURED, Protocol
from thinice.models import as_classifier, build
from thinice.models.weights import prunable_weights
from thinice.stats import wilson


@pytest.mark.slow
def test_the_parts_are_those_of_compare_and_evaluate(benchmarked, networks, samples):
    """Sample by sample the same as by the public functions, on some of the samples, into stores of their own."""
    result, _ = benchmarked
    dense, _, pruned = networks
    row, options, few = result.rows[1], {"progress": False, "device": "cpu"}, samples[:10]
    comparison = thinice.compare(dense, pruned, few, attack="fmn", effort="quick", distances="both", **options)
    np.testing.assert_array_equal(row.comparison.epsilon[:10], comparison.epsilon)
    np.testing.assert_array_equal(row.comparison.pruned_epsilon[:10], comparison.pruned_epsilon)
    np.testing.assert_array_equal(row.comparison.transitions[:10], comparison.transitions)
    verdicts = [
        thinice.evaluate(each, few, budget=24 / 255, attack="pgd", checks=False, **options) for each in (dense, pruned)
    ]
    np.testing.assert_array_equal(result.dense.autoattack.robust_to_this_attack[:10], verdicts[0].robust)
    np.testing.assert_array_equal(row.autoattack.robust_to_this_attack[:10], verdicts[1].robust)
    by_hand = [
        f"S{int(before)},{int(after)}" for before, after in zip(*(each.robust for each in verdicts), strict=True)
    ]
    assert row.robust_comparison.transitions[:10].tolist() == by_hand
    assert row.robust_comparison.basis == "robust at linf 24/255 by pgd"


@pytest.mark.slow
def test_a_row_counts_what_its_samples_say(benchmarked):
    for row, values in zip(benchmarked[0].rows, benchmarked[0].to_dicts(), strict=True):
        alone, epsilon = row.autoattack.robust_to_this_attack, row.epsilon
        assert values["samples"] == len(alone) == 40
        assert values["robust_accuracy"] == alone.mean()
        interval = wilson(int(alone.sum()), 40)
        assert (values["robust_low"], values["robust_high"]) == (interval.low, interval.high)
        together = alone & (epsilon > np.float32(24 / 255)) & row.ho_fmn.robust
        assert values["worst_case_accuracy"] == together.mean()
        assert values["clean_accuracy"] == (epsilon > 0).mean()
        assert values["area"] == pytest.approx(np.minimum(epsilon, 0.15).mean() / 0.15)
        assert values["S1,1"] + values["S1,0"] + values["S0,1"] + values["S0,0"] == 40
        assert values["robust_S1,1"] + values["robust_S0,1"] == alone.sum()
        assert values["ranked"] == 2
    assert benchmarked[0].frame()["network"].tolist() == ["pruned-90", "pruned-95"]
    assert repr(benchmarked[0]) == "<Benchmark of pruned-90, pruned-95 on 40 samples of digits, dense: dense>"
    assert [round(row.removed_share, 2) for row in benchmarked[0].rows] == [0.9, 0.95]


@pytest.mark.slow
def test_ho_fmn_is_the_published_one_and_its_failures_are_counted_apart(benchmarked):
    for row in benchmarked[0].rows:
        settings = row.ho_fmn.settings
        assert (settings["loss"], settings["optimizer"], settings["scheduler"], settings["steps"]) == (
            "dlr",
            "sgd",
            "cosine",
            20,
        )
        assert "fallback" not in settings or not settings["fallback"]
        assert row.notes[0].startswith("ho-fmn tuned on 64 samples of train")
        assert row.ho_fmn_not_found == np.isnan(row.ho_fmn.epsilon).sum()
        robust = ~(row.ho_fmn.epsilon <= np.float32(24 / 255)) & (row.ho_fmn.epsilon != 0)
        np.testing.assert_array_equal(row.ho_fmn.robust, robust)


@pytest.mark.slow
def test_networks_without_a_leaderboard_are_ranked_among_themselves(benchmarked):
    ((category, rows),) = benchmarked[0].rankings().items()
    assert category is None
    assert {row.source for row in rows} == {MEASURED}
    assert [row.model_key for row in benchmarked[0].rows] == [None, None]


@pytest.mark.slow
def test_the_store_answers_as_python_does(benchmarked):
    result, path = benchmarked
    rows = thinice.open_store(path).sql("from leaderboard where source = 'measured' order by sparsity")
    for row, values, python in zip(rows.to_dict("records"), result.to_dicts(), result.rows, strict=True):
        assert (row["network"], row["structure"], row["n"], row["lost"]) == (
            values["network"], "US", 40, values["S1,0"],
        )  # fmt: skip
        for name, expected in (
            ("clean_accuracy", "clean_accuracy"), ("robust_accuracy", "robust_accuracy"), ("low", "robust_low"),
            ("high", "robust_high"), ("area", "area"), ("auc", "auc"), ("sparsity", "sparsity"),
        ):  # fmt: skip
            assert (row[name] if values[expected] is not None else None) == pytest.approx(values[expected], abs=1e-6)
        assert row["autoattack_id"] == python.autoattack.measurement_id
    published = thinice.open_store(path).sql("from leaderboard where source <> 'measured'")
    assert len(published) == 154
    (best,) = published[published["model_key"] == "FlyingBird_Chen2021Sparsity_R18_CIFAR10_US_90"].to_dict("records")
    assert (best["clean_accuracy"], best["robust_accuracy"], best["n"]) == (0.8069, 0.4649, 10_000)
    assert best["low"] == pytest.approx(wilson(4649, 10_000).low)
    entry = thinice.open_store(path).sql("select entry::text as entry, layers::text as layers from benchmark_networks")
    assert json.loads(entry["entry"][0]) == HYDRA.to_dict()
    assert json.loads(entry["layers"][0]) == dict(result.rows[0].layers)
    assert list(result.rows[0].layers) == ["conv1.weight", "conv2.weight", "conv3.weight", "fc.weight"]


@pytest.mark.slow
def test_what_is_left_costs_what_is_left(benchmarked, networks, samples, tmp_path, monkeypatch):
    monkeypatch.setattr("thinice.studies.estimate.MEASURED", 0.05)
    _, path = benchmarked
    dense, *pruned = networks
    tune_on = samples_to_tune_on(samples)
    common = {"protocol": WEAK, "device": "cpu"}
    whole = estimate_benchmark(pruned, dense, samples, tune_on, store=tmp_path / "none.duckdb", **common)
    assert [row.network for row in whole] == ["dense", "pruned-90", "pruned-95"]
    assert [row.tuning for row in whole] == [0, 2 * 5 * 64, 2 * 5 * 64]
    assert [row.ho_fmn for row in whole] == [0, 20 * 40, 20 * 40]
    assert all(row.distances > 0 and row.at_budget > 0 and row.seconds > 0 for row in whole)
    assert not (tmp_path / "none.duckdb").exists()
    left = estimate_benchmark(pruned, dense, samples, tune_on, store=path, **common)
    assert [row.passes for row in left] == [0, 0, 0]
    more = estimate_benchmark(pruned, dense, thinice.load_samples("digits", limit=50), tune_on, store=path, **common)
    assert more[1].tuning == 0
    assert more[1].ho_fmn == 20 * 50  # another selection; what it shares with the first is copied when it is run


def test_the_standard_protocol_is_the_published_one_but_for_what_is_said():
    protocol = Protocol()
    assert protocol.budget == pytest.approx(8 / 255)
    assert (protocol.budget_attack, protocol.tune_trials, protocol.tune_steps, protocol.steps) == (
        "autoattack",
        32,
        100,
        200,
    )
    assert protocol.curve_end == 0.15


def wide(architecture="resnet18", share=0.9, structure=None):
    """A network of the leaderboards with so many weights at zero: single ones, or whole filters."""
    module = build(architecture, 10)
    generator = torch.Generator().manual_seed(0)
    for weight in prunable_weights(module).values():
        with torch.no_grad():
            units = weight.shape[:1] + (1,) * (weight.ndim - 1) if structure else weight.shape
            kept = torch.rand(units, generator=generator) >= share
            weight.mul_(kept if structure is None or weight.ndim > 2 else torch.ones(1))
    return as_classifier(module, name="pruned")


@pytest.fixture(scope="module")
def resnet():
    return as_classifier(build("resnet18", 10), name="dense"), wide()


def cifar(n=10, name="cifar10"):
    return as_samples(torch.rand(n, 3, 32, 32), torch.arange(n) % 10, name=name)


@pytest.mark.slow
def test_a_category_is_measured_and_a_key_is_held_against_it(resnet):
    dense, pruned = resnet
    assert category_of(pruned, dense, cifar()) == Category("R18", "CIFAR10", "US", 90)
    assert category_of(pruned, dense, cifar(name="cifar100")) is None
    assert category_of(wide(share=0.85), dense, cifar()) is None
    check_key(ModelKey.parse("HYDRA_Sehwag2020Hydra_R18_CIFAR10_US_90"), pruned, dense, cifar())
    for key, message in (
        ("R18_CIFAR10_US_95", "says 95 %, and of the weights of pruned 90.0 % are zero"),
        ("R18_CIFAR10_S_90", "says structure S, and pruned is US"),
        ("V16_CIFAR10_US_90", "says architecture V16, and pruned is R18"),
        ("R18_SVHN_US_90", "says data SVHN, and pruned is CIFAR10"),
    ):
        with pytest.raises(InputError, match=message):
            check_key(ModelKey.parse(f"HYDRA_Sehwag2020Hydra_{key}"), pruned, dense, cifar())


def test_whole_filters_are_structured_pruning(resnet):
    dense, _ = resnet
    pruned = wide(share=0.5, structure="filter")
    assert structure_of_zeros(pruned, dense) == "S"
    assert removed_share(pruned, dense) == pytest.approx(0.5, abs=0.01)
    assert category_of(pruned, dense, cifar()) == Category("R18", "CIFAR10", "S", 50)


def test_narrow_networks_and_other_data_are_no_members_of_a_leaderboard(networks, samples):
    dense, pruned, _ = networks
    assert category_of(pruned, dense, samples) is None
    with pytest.raises(InputError, match="dense is digits_cnn with"):
        check_key(ModelKey.parse("HYDRA_Sehwag2020Hydra_R18_CIFAR10_US_90"), pruned, dense, samples)


@pytest.mark.slow
def test_a_network_with_another_clean_accuracy_than_published_is_doubted(benchmarked):
    """A published checkpoint that was read with random weights, or without its normalisation, is seen by this."""
    key = ModelKey.parse("HYDRA_Sehwag2020Hydra_R18_CIFAR10_US_90")  # 76.74 % of the test images are right
    robustness = benchmarked[0].rows[0].autoattack

    def right(share):
        broken_by = np.where(np.arange(400) < round(400 * share), "", "clean")
        return replace(robustness, labels=np.zeros(400, np.int64), broken_by=broken_by)

    assert other_than_published(key, right(0.76)) == ()
    assert other_than_published(None, right(0.1)) == ()
    for share in (0.1, 0.7, 0.85):
        (note,) = other_than_published(key, right(share))
        assert "the leaderboard says 76.74%" in note
        assert "do not trust" in note


def test_methods_and_keys_go_together():
    key = ModelKey.parse("HYDRA_Sehwag2020Hydra_R18_CIFAR10_US_90")
    assert described(2, None, [key, None]) == ([HYDRA, None], [key, None])
    with pytest.raises(InputError, match="is of HYDRA_Sehwag2020Hydra, and the entry of HARP"):
        described(1, [published_methods()["HARP_Zhao2023Holistic"]], [key])
    with pytest.raises(InputError, match="`methods` has 1 entries for 2 networks"):
        described(2, [HYDRA], None)


@pytest.mark.slow
def test_two_classes_have_another_loss_and_it_is_said():
    points = torch.tensor([[0.2, 0.3], [0.8, 0.9], [0.3, 0.1], [0.9, 0.7]])
    data = as_samples(points.view(4, 1, 1, 2), torch.tensor([0, 1, 0, 1]))
    layer = torch.nn.Linear(2, 2)
    dense = as_classifier(torch.nn.Sequential(torch.nn.Flatten(), layer))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-4.0, -4.0], [4.0, 4.0]]))
        layer.bias.copy_(torch.tensor([4.4, -4.4]))
    pruned = as_classifier(torch.nn.Sequential(torch.nn.Flatten(), layer), name="pruned")
    with torch.no_grad():
        pruned.module[1].weight[:, 0] = 0
    result = thinice.benchmark([pruned], dense, data, tune_on=data, **OPTIONS)
    assert result.rows[0].ho_fmn.settings["loss"] == "margin"
    assert any("DLR, needs 3 classes" in note for note in result.rows[0].notes)


def test_a_list_is_needed(networks, samples):
    for pruned in ([], "pruned.pt"):
        with pytest.raises(InputError, match="must be a list of networks"):
            thinice.benchmark(pruned, networks[0], samples)
