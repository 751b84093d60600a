"""`certify=True`: bounds beside epsilons, refused before any attack, resumed; doubtful epsilons are searched again."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

import thinice
from thinice.analysis import certifying
from thinice.analysis.certifying import CertificationTask, expected_cost, far_from_proved
from thinice.attacks import Attack
from thinice.certification import radius
from thinice.cli.compare import table
from thinice.engines import LocalEngine
from thinice.errors import InputError, StoreError
from thinice.models import as_classifier
from thinice.results.measured import bound_notes

QUICK = {"effort": "quick", "progress": False}


def network(activation=nn.ReLU, seed=0):
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), activation(), nn.Linear(12, 3))
    return as_classifier(layers, name="net")


@pytest.fixture(scope="module")
def samples():
    torch.manual_seed(1)
    inputs = torch.rand(30, 1, 4, 4)
    with torch.no_grad():
        labels = network()(inputs).argmax(1)
    labels[::7] = (labels[::7] + 1) % 3
    return thinice.as_samples(inputs, labels, classes=("a", "b", "c"))


@pytest.fixture
def store(tmp_path):
    return thinice.open_store(tmp_path / "thinice.duckdb", new=True)


class Told:
    """A reporter that remembers what it was shown."""

    def __init__(self):
        self.lines = []

    def __call__(self, progress):
        self.lines.append(progress.line)


@pytest.mark.sampled
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_every_sample_has_its_interval(store, samples, norm):
    told = Told()
    options = QUICK | {"norm": norm, "certify": True, "store": store, "progress": told}
    (measured,) = thinice.measure_all([network()], samples, **options)
    lower, epsilon, right = measured.epsilon_lower, measured.epsilon, measured.clean_predictions == measured.labels
    assert (lower <= epsilon).all()
    assert (lower[right] > 0.5 * epsilon[right]).mean() > 0.9  # one hidden layer: near the truth
    assert (lower[~right] == 0).all()
    assert (~right).sum() == 5
    bounds = thinice.lower_bounds(network(), samples.inputs[:], samples.labels, torch.from_numpy(1.05 * epsilon), norm)
    np.testing.assert_allclose(lower, bounds.numpy(), rtol=1e-6)
    frame = measured.frame()
    assert frame["epsilon_lower"].tolist() == lower.tolist()
    row = measured.to_dict()
    assert row["proved"] == 25
    assert 0.5 < row["median_ratio"] < 1
    assert row["median_lower"] == pytest.approx(np.median(lower[right]))
    assert told.lines[0] == f"net, {norm}, lower bounds: 30 samples take {told.lines[0].partition('take ')[2]}"
    assert told.lines[0].endswith("at most")
    assert any("25 proved, median" in line for line in told.lines)
    key = {"measurement_id": measured.measurement_id}
    rows = store.sql("from intervals where measurement_id = $measurement_id order by sample_id", key)
    assert rows["epsilon_lower"].tolist() == lower.tolist()


@pytest.mark.slow
def test_a_comparison_has_the_bounds_of_the_dense_network(store, samples):
    result = thinice.compare(network(), network(seed=3), samples, certify=True, store=store, **QUICK)
    assert (result.epsilon_lower <= result.epsilon).all()
    assert result.frame()["epsilon_lower"].tolist() == result.epsilon_lower.tolist()
    assert result.to_dict()["proved"] == 25
    assert dict(result.table())["proved / found, median"] == f"{result.to_dict()['median_ratio']:.2f}"
    middle = np.median(result.epsilon_lower)
    assert result.proved_beyond(middle).sum() == (result.epsilon_lower > middle).sum() == 15
    beyond = store.sql("select sample_id from thin_ice where epsilon_lower > $budget", {"budget": middle})
    assert set(beyond["sample_id"]) == set(result.sample_ids[result.proved_beyond(middle)])
    without = thinice.compare(network(), network(seed=3), samples, store=store, **QUICK)
    assert without.epsilon_lower is None
    assert "epsilon_lower" not in without.frame()
    assert "proved" not in without.to_dict()
    with pytest.raises(InputError, match="compare with certify=True"):
        without.proved_beyond(0.1)


@pytest.mark.slow
def test_with_the_distances_of_both_the_pruned_network_is_bounded_too(store, samples):
    told, pruned = Told(), network(seed=3)
    options = QUICK | {"distances": "both", "certify": True, "store": store, "progress": told}
    result = thinice.compare(network(), as_classifier(pruned, name="pruned"), samples, **options)
    lower, epsilon = result.pruned_epsilon_lower, result.pruned_epsilon
    limits = torch.from_numpy(1.05 * epsilon)
    bounds = thinice.lower_bounds(pruned, samples.inputs[:], samples.labels, limits, "linf")
    np.testing.assert_allclose(lower, bounds.numpy(), rtol=1e-6)
    right = result.pruned_predictions == result.labels
    assert (lower[~right] == 0).all()
    assert (lower[right] > 0.5 * epsilon[right]).mean() > 0.9
    assert (lower <= epsilon).all()
    assert not np.array_equal(lower, result.epsilon_lower)
    costs = [line for line in told.lines if "lower bounds: 30 samples take" in line]
    assert [line.partition(",")[0] for line in costs] == ["net", "pruned"]
    assert told.lines[:2] == costs  # before anything is attacked
    row = result.to_dict()
    assert row["pruned_proved"] == right.sum() > 0
    assert row["pruned_median_lower"] == pytest.approx(np.median(lower[epsilon > 0]))
    assert dict(result.table())["pruned proved / found, median"] == f"{row['pruned_median_ratio']:.2f}"
    assert result.frame()["pruned_epsilon_lower"].tolist() == lower.tolist()
    stored = store.sql("select pruned_epsilon_lower, epsilon_lower from transitions order by sample_id")
    assert stored["pruned_epsilon_lower"].tolist() == lower.tolist()
    assert stored["epsilon_lower"].tolist() == result.epsilon_lower.tolist()
    again = thinice.compare(network(), as_classifier(pruned, name="pruned"), samples, **options)
    assert again.pruned_epsilon_lower.tolist() == lower.tolist()
    assert len([line for line in told.lines if "take" in line]) == 2  # all was there


@pytest.mark.slow
def test_what_was_proved_is_read_and_the_rest_goes_on(store, samples, monkeypatch):
    (first,) = thinice.measure_all([network()], samples[:12], certify=True, store=store, **QUICK)
    asked = []
    original = certifying.lower_bounds

    def counted(classifier, inputs, *args, **more):
        asked.append(len(inputs))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return original(classifier, inputs, *args, **more)

    monkeypatch.setattr(certifying, "lower_bounds", counted)
    with pytest.raises(KeyboardInterrupt):
        thinice.measure_all([network()], samples, certify=True, store=store, batch_size=4, **QUICK)
    assert asked == [4, 4, 4]
    assert len(store.sql("from lower_bounds")) == 12 + 12 + 8
    (again,) = thinice.measure_all([network()], samples, certify=True, store=store, batch_size=4, **QUICK)
    assert asked[3:] == [4, 4, 2]
    thinice.measure_all([network()], samples, certify=True, store=store, **QUICK)
    assert len(asked) == 6
    (alone,) = thinice.measure_all([network()], samples, certify=True, **QUICK)
    np.testing.assert_allclose(again.epsilon_lower, alone.epsilon_lower, rtol=1e-9)
    assert again.epsilon_lower[:12].tolist() == first.epsilon_lower.tolist()


@pytest.fixture
def no_attack(monkeypatch):
    def attacked(*_, **__):
        raise AssertionError("attacked")

    monkeypatch.setattr(Attack, "__call__", attacked)


@pytest.mark.usefixtures("no_attack")
@pytest.mark.parametrize("function", ["measure", "compare"])
def test_what_has_no_bounds_is_refused_before_any_attack(samples, function):
    smooth = network(nn.Sigmoid)

    def asked(classifier, **options):
        if function == "measure":
            return thinice.measure_all([network(), classifier], samples, certify=True, **options, **QUICK)
        return thinice.compare(classifier, network(), samples, certify=True, **options, **QUICK)

    with pytest.raises(InputError, match="`classifier` 'net' uses sigmoid, which has no linear bounds here"):
        asked(smooth)
    with pytest.raises(InputError, match="`certify` goes with the norms linf, l2, l1: no bounds are known in l0"):
        asked(network(), norm="l0")


@pytest.mark.usefixtures("no_attack")
def test_hours_are_refused_before_any_attack_and_can_be_insisted_on(samples, monkeypatch):
    slow = radius.Cost(1e6, 4000.0)
    monkeypatch.setattr(certifying, "certification_cost", lambda *_: slow)
    with pytest.raises(InputError) as error:
        thinice.measure_all([network()], samples, certify=True, **QUICK)
    assert str(error.value) == (
        "`certify`: lower bounds for net: 30 samples take 33 h 20 min at most, more than `certify_hours` 1: allow 34 "
        "(--certify-hours 34)"
    )
    with pytest.raises(AssertionError, match="attacked"):
        thinice.measure_all([network()], samples, certify=True, certify_hours=34, **QUICK)
    with pytest.raises(InputError, match=r"allow 34 .*, or take fewer samples \(--limit 18\)"):
        thinice.measure_all([network()], samples, certify=True, certify_hours=20, **QUICK)
    for options, message in (
        ({"certify_hours": 2.0}, "`certify_hours` limits what `certify` takes: give it as well"),
        ({"certify": True, "certify_hours": float("nan")}, "`certify_hours` must be at least 0, got nan"),
    ):
        with pytest.raises(InputError, match=message):
            thinice.measure_all([network()], samples, **options, **QUICK)


def test_the_cost_is_that_of_samples_that_were_timed(samples, monkeypatch):
    cheap = expected_cost(network(), samples, "linf")
    assert (cheap.samples, cheap.units, cheap.timed) == (30, 12, 0)
    assert 0 < cheap.seconds < 2
    clock, timed = iter([100.0, 106.0]), []
    monkeypatch.setattr(certifying, "certification_cost", lambda *_: radius.Cost(1e4, 120.0))
    monkeypatch.setattr(certifying, "lower_bounds", lambda _, inputs, *__, **___: timed.append(len(inputs)))
    monkeypatch.setattr(certifying.time, "perf_counter", lambda: next(clock))
    cost = expected_cost(network(), samples, "l2")
    assert (cost.timed, cost.seconds, timed) == (2, 3.0, [2])  # a third might have taken them beyond 300 s
    assert cost.text == "30 samples take about 1 min 30 s, as 2 of them tell"


def test_nothing_is_to_be_proved_of_samples_that_are_all_wrong(samples):
    wrong = thinice.as_samples(samples.inputs[:], (network()(samples.inputs[:]).argmax(1) + 1) % 3)
    assert expected_cost(network(), wrong, "linf").seconds == 0
    (measured,) = thinice.measure_all([network()], wrong, certify=True, **QUICK)
    assert (measured.epsilon_lower == 0).all()
    assert measured.to_dict()["median_ratio"] is None


def test_shards_do_not_change_a_bound(samples):
    epsilon = torch.full((30,), 0.2)
    task = CertificationTask(network(), samples, "linf", epsilon, 12)
    (_, whole), *others = LocalEngine(torch.device("cpu"), 30).run(task)
    assert not others
    parts = [radii for _, radii in LocalEngine(torch.device("cpu"), 7).run(task)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-9, atol=0)


def test_a_false_proof_is_told_and_not_stored(store, samples, monkeypatch):
    original = certifying.lower_bounds
    monkeypatch.setattr(certifying, "lower_bounds", lambda *args, **more: 1.5 * original(*args, **more))
    with pytest.raises(StoreError, match=r"sample \d+ .*of net has an adversarial at .* by tmn, but a radius of"):
        thinice.measure_all([network()], samples, certify=True, store=store, **QUICK)
    assert len(store.sql("from lower_bounds")) == 0
    assert len(store.sql("from epsilons")) == 30


# -- epsilons that lie far above what is proved ------------------------------------------------------------------------


def failing(monkeypatch, which, factor):
    """Let the quick search return epsilons that are too far: its adversarials are moved away from the sample."""
    original = Attack.__call__

    def attacked(self, model, inputs, labels, sample_ids, **more):
        result = original(self, model, inputs, labels, sample_ids, **more)
        if self.settings["seed"] == 0:
            result.epsilon[torch.isin(sample_ids, torch.tensor(which)) & (result.epsilon > 0)] *= factor
        return result

    monkeypatch.setattr(Attack, "__call__", attacked)


def test_a_search_that_failed_is_found_out_by_a_second_one(store, samples, monkeypatch):
    failing(monkeypatch, [4, 9], 3.0)
    (measured,) = thinice.measure_all([network()], samples, certify=True, store=store, **QUICK)
    doubted, nearer = np.flatnonzero(~np.isnan(measured.second_epsilon)), np.flatnonzero(measured.nearer_again)
    assert {4, 9} <= set(nearer) <= set(doubted)
    assert len(doubted) < 6  # a quick search of its own may have ended too far, too
    np.testing.assert_allclose(measured.second_epsilon[[4, 9]], measured.epsilon[[4, 9]] / 3, rtol=0.02)
    (note,) = measured.notes
    again = f"{len(doubted)} samples lay far above their lower bounds and were searched again: {len(nearer)} nearer"
    assert re.match(rf"{again} \([49]: ", note)
    warnings = store.sql("from warnings")
    assert warnings["check_name"].tolist() == ["far_from_proved"]
    assert warnings["samples"].tolist() == [len(nearer)]
    second = store.sql("select count(*) as n from epsilons join measurements using (measurement_id) join attacks "
                       "using (attack_id) where settings ->> 'seed' = '1'")  # fmt: skip
    assert second["n"].tolist() == [len(doubted)]
    finding = thinice.check(store).contradictions
    assert any({4, 9} <= set(found.samples) for found in finding)


@pytest.mark.slow
def test_a_search_that_failed_on_the_pruned_network_is_found_out_too(samples, monkeypatch):
    pruned = network()
    with torch.no_grad():
        pruned.module[1].weight *= 0.9
    failing(monkeypatch, [4], 3.0)
    result = thinice.compare(
        network(), as_classifier(pruned, name="pruned"), samples, distances="both", certify=True, **QUICK
    )
    (note,) = result.pruned_search_notes
    assert re.match(r"\d samples lay far above their lower bounds and were searched again: \d nearer \(4: ", note)
    assert result.pruned_distances.second_epsilon[4] == pytest.approx(result.pruned_epsilon[4] / 3, rel=0.02)
    assert f"pruned: {note}" in " ".join(table([result]).split())


def test_a_loose_bound_is_no_failed_search(store, samples, monkeypatch):
    original = certifying.lower_bounds

    def loose(classifier, inputs, *args, **more):
        radii = original(classifier, inputs, *args, **more)
        radii[2] *= 0.2
        return radii

    monkeypatch.setattr(certifying, "lower_bounds", loose)
    (measured,) = thinice.measure_all([network()], samples[:15], certify=True, store=store, batch_size=30, **QUICK)
    assert not measured.nearer_again.any()
    doubted = np.flatnonzero(~np.isnan(measured.second_epsilon))
    assert 2 in doubted
    again = f"{len(doubted)} samples lay far above their lower bounds and were searched again"
    assert measured.notes == (f"{again}: none nearer, so the bounds are loose",)
    assert len(store.sql("from warnings")) == 0


def test_what_is_far_is_relative_to_the_network():
    lower, epsilon, found = np.full(12, 0.02), np.full(12, 0.1, np.float32), np.ones(12, np.int8)
    assert far_from_proved(lower, epsilon, found).size == 0  # a loose network is no failed search
    lower[3], epsilon[5] = 0.0145, 0.14
    assert far_from_proved(lower, epsilon, found).size == 0
    lower[3], epsilon[5] = 0.0135, 0.15
    assert far_from_proved(lower, epsilon, found).tolist() == [3, 5]
    found[5] = 2  # not found
    epsilon[5] = np.nan
    assert far_from_proved(lower, epsilon, found).tolist() == [3]
    assert far_from_proved(lower[:9], epsilon[:9], found[:9]).size == 0
    assert far_from_proved(0 * lower, epsilon, found).size == 0


def test_a_note_names_the_worst():
    epsilon = np.array([0.4, 0.4, 0.4, 0.4, 0.4], np.float32)
    second = np.array([0.1, 0.2, 0.05, 0.3, 0.4], np.float32)
    (note,) = bound_notes(np.arange(10, 15), epsilon, second, "linf")
    assert note == (
        "5 samples lay far above their lower bounds and were searched again: 4 nearer (12: 12.8/255 instead of "
        "102/255, 10: 25.5/255 instead of 102/255, 11: 51/255 instead of 102/255, …)"
    )
