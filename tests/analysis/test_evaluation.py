"""Who is robust at a budget: known distances, verifiers, known broken samples, and resuming after an interrupt."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import thinice
from tests.attacks.test_fmn_truth import verified
from tests.truth import SHAPE, linear
from thinice.analysis import session as module
from thinice.analysis.evaluation import DoubtfulWarning, bind_attack, evaluate
from thinice.analysis.measurement import AttackTask
from thinice.analysis.session import MeasurementSession
from thinice.attacks import make_attack
from thinice.engines import LocalEngine
from thinice.errors import InputError
from thinice.models import as_classifier
from thinice.results import CLEAN
from thinice.stats import wilson

pytest.importorskip("pyautoattack")

KNOWN = linear(classes=4, count=30, spread=0.3, seed=4, shape=SHAPE)
DISTANCES = KNOWN.distances["l2"]  # without square, which needs images of 5 x 5 in l2, and half of the time
BUDGET = float(np.sort(DISTANCES)[14:16].mean())  # half fall, and none lies just at it


@pytest.fixture
def samples():
    return thinice.as_samples(KNOWN.inputs, KNOWN.labels, classes=("a", "b", "c", "d"))


@pytest.fixture
def store(tmp_path):
    return thinice.open_store(tmp_path / "thinice.duckdb", new=True)


@pytest.fixture(scope="module")
def digits():
    return thinice.load_classifier(thinice.example_checkpoints()["dense"]), thinice.load_samples("digits", limit=60)


def run(samples, store, attack="apgd-ce", budget=BUDGET, network=KNOWN.model, norm="l2", **options):
    where = {"store": store, "command": ["test"], "progress": False, "checks": False}
    return evaluate(network, samples, attack=attack, norm=norm, budget=budget, **where | options)


def attacked(monkeypatch):
    """How many samples each attack tries from now on."""
    tried = []
    original = LocalEngine.run

    def counting(engine, task):
        if isinstance(task, AttackTask):
            tried.append((task.attack.name, len(task)))
        return original(engine, task)

    monkeypatch.setattr(LocalEngine, "run", counting)
    return tried


@pytest.mark.slow
def test_those_nearer_than_the_budget_fall_and_the_others_stand(samples, store, monkeypatch):
    tried = attacked(monkeypatch)
    result = run(samples, store, "autoattack")
    assert not result.robust[DISTANCES < BUDGET * 0.98].any()
    assert result.robust[DISTANCES > BUDGET * 1.0001].all()
    fallen = ~result.robust
    assert (result.epsilon[fallen] <= np.float32(BUDGET)).all()
    assert np.isnan(result.epsilon[~fallen]).all()
    assert set(result.broken_by[fallen]) <= {"apgd-ce", "apgd-t", "fab-t"}
    assert (result.broken_by[~fallen] == "").all()
    # nobody is tried again who has fallen
    left = len(samples)
    for name, count in tried:
        assert count == left
        left -= result.counts[name]
    assert left == result.robust.sum()


def test_the_result_counts_itself(store):
    labels = KNOWN.labels.clone()
    labels[::5] = (labels[::5] + 1) % 4
    wrong = thinice.as_samples(KNOWN.inputs, labels, classes=("a", "b", "c", "d"))
    result = run(wrong, store)
    assert result.counts[CLEAN] == len(labels[::5])
    assert sum(result.counts.values()) + result.robust.sum() == len(labels)
    assert result.clean_accuracy == pytest.approx(1 - len(labels[::5]) / len(labels))
    assert result.robust_accuracy == result.robust.mean()
    assert result.interval == wilson(int(result.robust.sum()), len(labels))
    assert (result.epsilon[::5] == 0).all()
    frame = result.frame()
    assert frame["robust"].tolist() == result.robust.tolist()
    assert frame["broken_by"].isna().tolist() == result.robust.tolist()
    row = result.to_dict()
    assert row["robust_accuracy"] == result.robust_accuracy
    assert row["broken_by"] == f"clean {result.counts['clean']}, apgd-ce {result.counts['apgd-ce']}"
    assert "stand against apgd-ce" in repr(result)


@pytest.mark.slow
def test_sql_says_the_same(samples, store):
    result = run(samples, store, "autoattack")
    verdicts = store.sql("from verdicts order by sample_id")
    assert verdicts["robust"].tolist() == result.robust.tolist()
    assert verdicts["broken_by"].fillna("").tolist() == result.broken_by.tolist()
    assert verdicts["robust_to_this_attack"].tolist() == result.robust.tolist()
    (row,) = store.sql("from robust_accuracy").to_dict("records")
    assert row["robust_accuracy"] == pytest.approx(result.robust_accuracy)
    assert [row["low"], row["high"]] == pytest.approx([result.interval.low, result.interval.high])
    assert (row["n"], row["decided"], row["known_broken"]) == (len(samples), len(samples), 0)
    assert row["evaluations"] == pytest.approx(result.evaluations.sum(), rel=1e-5)
    assert row["budget"] == BUDGET


def test_asked_again_nothing_is_attacked(samples, store, monkeypatch):
    first = run(samples, store)
    tried = attacked(monkeypatch)
    again = run(samples, store)
    assert tried == []
    assert store.runs()["samples"].tolist() == [len(samples), 0]
    np.testing.assert_array_equal(first.broken_by, again.broken_by)
    np.testing.assert_array_equal(first.evaluations, again.evaluations)
    part = run(samples[np.arange(5, 15)], store)  # another selection of the same samples
    assert tried == []
    np.testing.assert_array_equal(part.broken_by, first.broken_by[5:15])


def proven(result, samples):
    """Hold each kept adversarial against the verdict that it proves; return whose there are."""
    kept = thinice.open_store(result.store).adversarials(result.measurement_id, result.broken_ids)
    for sample_id, adversarial in kept.items():
        place = result.sample_ids.tolist().index(sample_id)
        start = samples.inputs[[place]]
        point = torch.from_numpy(adversarial.copy())[None]
        assert (point - start).norm().item() == pytest.approx(result.epsilon[place], rel=1e-5)
        assert 0 < result.epsilon[place] <= np.float32(BUDGET)
        with torch.no_grad():
            assert KNOWN.model(point).argmax() != samples.labels[place]
            assert KNOWN.model(start).argmax() == samples.labels[place]
    return list(kept)


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["autoattack", "fmn"])
def test_the_store_keeps_the_adversarial_of_each_sample_that_fell(samples, store, attack):
    result = run(samples, store, attack)
    assert 10 < (~result.robust).sum() < 20
    assert proven(result, samples) == result.sample_ids[~result.robust].tolist()
    assert proven(run(samples, store, attack), samples) == result.sample_ids[~result.robust].tolist()
    part = samples[np.arange(5, 15)]  # another selection has them too
    again = run(part, store, attack)
    assert proven(again, part) == again.sample_ids[~again.robust].tolist()
    assert again.evaluations.sum() == pytest.approx(result.evaluations[5:15].sum())


def test_what_another_attack_broke_has_no_adversarial_here(samples, store):
    first = run(samples, store)
    spared = run(samples, store, "pgd", budget=BUDGET * 1.01)
    assert spared.known_broken.sum() == (~first.robust).sum()
    assert not set(spared.broken_ids) & set(spared.sample_ids[spared.known_broken])
    assert not store.adversarials(spared.measurement_id, spared.sample_ids[spared.known_broken])


def test_of_large_inputs_the_closest_adversarials_are_kept(samples, store, monkeypatch):
    monkeypatch.setattr(module, "ADVERSARIAL_VALUES", 15)
    monkeypatch.setattr(module, "CLOSEST", 2)
    result = run(samples, store, batch_size=100)
    fallen = np.flatnonzero(~result.robust)
    closest = fallen[np.argsort(result.epsilon[fallen])[:2]]
    assert set(proven(result, samples)) == set(result.sample_ids[closest])


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 5])
def test_after_an_interruption_it_goes_on_to_the_same_verdicts(samples, store, tmp_path, monkeypatch, stop):
    undisturbed = run(samples, thinice.open_store(tmp_path / "other.duckdb", new=True), "autoattack", batch_size=8)
    original, seen = LocalEngine.run, 0

    def stopping(engine, task):
        nonlocal seen
        for batch in original(engine, task):
            yield batch
            if not isinstance(task, AttackTask):
                continue
            seen += 1
            if seen == stop:
                raise KeyboardInterrupt

    monkeypatch.setattr(LocalEngine, "run", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(samples, store, "autoattack", batch_size=8)
    assert store.runs()["outcome"].tolist() == ["interrupted"]
    done = store.sql("select count(*) as n from robustness")["n"][0]
    assert done >= 8 * (stop - 1)
    seen = 100
    resumed = run(samples, store, "autoattack", batch_size=8)
    np.testing.assert_array_equal(resumed.broken_by, undisturbed.broken_by)
    np.testing.assert_allclose(resumed.epsilon, undisturbed.epsilon, rtol=1e-5)


@pytest.mark.slow
def test_verdicts_depend_neither_on_the_batch_nor_on_the_order(samples, tmp_path):
    stores = [thinice.open_store(tmp_path / f"{k}.duckdb", new=True) for k in range(3)]
    order = np.random.default_rng(0).permutation(len(samples))
    whole, small = (run(samples, stores[k], "autoattack", batch_size=size) for k, size in enumerate((64, 7)))
    shuffled = run(samples[order], stores[2], "autoattack")
    np.testing.assert_array_equal(whole.broken_by, small.broken_by)
    np.testing.assert_array_equal(whole.broken_by[order], shuffled.broken_by)


@pytest.mark.slow
def test_samples_known_to_be_broken_are_spared_and_whoever_autoattack_breaks_is_broken(digits, tmp_path, monkeypatch):
    network, samples = digits
    attack = "apgd-t"
    alone = run(samples, tmp_path / "alone.duckdb", attack, "20/255", network, "linf")
    thinice.evaluate(network, samples, attack="fmn", budget="20/255", store=tmp_path / "both.duckdb", progress=False)
    tried = attacked(monkeypatch)
    short = run(samples, tmp_path / "both.duckdb", attack, "20/255", network, "linf")
    assert short.robust_to_this_attack is None
    assert short.known_broken.sum() > 20
    assert tried[0] == ("apgd-t", len(samples) - short.known_broken.sum())
    assert not (short.robust & ~alone.robust).any()  # whoever AutoAttack breaks is broken
    spared = ~short.known_broken
    np.testing.assert_array_equal(short.broken_by[spared], alone.broken_by[spared])
    assert set(short.broken_by[short.known_broken]) == {"fmn"}
    both = run(samples, tmp_path / "both.duckdb", attack, "20/255", network, "linf", skip_known="both")
    np.testing.assert_array_equal(both.robust_to_this_attack, alone.robust)
    np.testing.assert_array_equal(both.robust, short.robust)
    np.testing.assert_array_equal(
        both.known_broken, both.robust_to_this_attack & ~both.robust
    )  # what AutoAttack missed, if any
    without = run(samples, tmp_path / "both.duckdb", attack, "20/255", network, "linf", skip_known=False)
    np.testing.assert_array_equal(without.broken_by, alone.broken_by)
    assert not without.known_broken.any()


@pytest.mark.slow
def test_a_smaller_budget_and_a_longer_norm_are_known_too(samples, store):
    small = run(samples, store, "pgd", BUDGET / 2)
    assert 0 < (~small.robust).sum() < len(samples)
    large = run(samples, store, "apgd-ce", BUDGET)
    np.testing.assert_array_equal(large.known_broken, ~small.robust)
    assert set(large.broken_by[large.known_broken]) == {"pgd"}
    within = run(samples, store, "pgd", BUDGET, norm="linf")
    assert within.known_broken[~large.robust].all()  # an l2 adversarial within the budget is a linf one
    unknown = run(samples, store, "pgd", BUDGET / 4)
    assert not unknown.known_broken[DISTANCES > BUDGET / 4].any()


def test_known_samples_of_another_network_or_data_set_do_not_count(samples, store):
    run(samples, store, "pgd")
    torch.manual_seed(5)
    other = nn.Sequential(nn.Flatten(), nn.Linear(20, 4))
    assert not run(samples, store, "apgd-ce", network=other).known_broken.any()
    labels = (KNOWN.labels + 2) % 4
    moved = thinice.as_samples((KNOWN.inputs + 0.01).clamp(0, 1), labels, classes=("a", "b", "c", "d"))
    assert not run(moved, store, "apgd-ce").known_broken.any()


def test_minimum_norms_answer_for_every_budget_and_for_the_whole_curve(samples, store):
    results = [run(samples, store, "fmn", budget) for budget in (BUDGET / 2, BUDGET, BUDGET * 2)]
    for result, factor in zip(results, (0.5, 1, 2), strict=True):
        relative = DISTANCES / (BUDGET * factor)
        assert not result.robust[relative < 0.97].any()
        assert result.robust[relative > 1.0001].all()
    assert store.sql("select count(*) as n from measurements")["n"][0] == 1
    accuracies = [result.robust_accuracy for result in results]
    assert accuracies == sorted(accuracies, reverse=True)
    curve = results[0].curve()
    assert curve.share[0] == 1
    assert curve.share[-1] == 0
    points = results[0].curve([BUDGET / 2, BUDGET, BUDGET * 2])
    assert points.share.tolist() == pytest.approx(accuracies)
    assert points.low[1] == pytest.approx(results[1].interval.low)
    shown = store.sql("from robust_at(?)", [BUDGET])
    assert shown["robust_accuracy"].tolist() == pytest.approx([accuracies[1]])
    assert shown["low"].tolist() == pytest.approx([results[1].interval.low])
    steps = store.sql("select budget, robust_accuracy, low, high from security_curves order by budget")
    whole = results[0].curve()
    np.testing.assert_allclose(steps["robust_accuracy"], whole.share)
    np.testing.assert_allclose(steps["low"], whole.low, atol=1e-12)
    np.testing.assert_allclose(steps["high"], whole.high, atol=1e-12)


def test_a_budget_equal_to_an_epsilon_breaks(samples, store):
    result = run(samples, store, "fmn", BUDGET)
    some = int(np.flatnonzero(result.epsilon > 0)[0])
    epsilon = float(result.epsilon[some])
    assert not run(samples, store, "fmn", epsilon).robust[some]
    below = float(np.nextafter(np.float32(epsilon), np.float32(0)))
    assert run(samples, store, "fmn", below).robust[some]
    assert run(samples, store, "pgd", epsilon).known_broken[some]


def test_one_budget_has_no_curve(samples, store):
    with pytest.raises(InputError, match="pgd answers for its own budget alone"):
        run(samples, store, "pgd").curve()


def test_the_studys_attacks_have_no_fall_back(samples, store):
    session = MeasurementSession(store, samples, device="cpu", progress=False)
    bind = partial(bind_attack, session, as_classifier(KNOWN.model), norm="l2", budget=1)
    assert "fallback" not in bind("cw").settings
    assert "fallback" in bind("fmn").settings
    assert bind("pgd").name == "pgd"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "linf", "budget": 9}, r"did you mean 9/255\?"),
        ({"attack": "autoatack"}, r"`attack` 'autoatack' is unknown: did you mean autoattack\?"),
        ({"attack": "foolbox:LinfPDG"}, r"did you mean foolbox:LinfPGD"),
        ({"attack": "apgd-targeted"}, "attacks here are untargeted"),
        ({"attack": "autoattack", "effort": "quick"}, "`effort` 'quick' means nothing to attack 'autoattack'"),
        ({"attack": "fmn", "step": 3}, "attack 'fmn' has no setting 'step'"),
        ({"attack": "fmn", "budget": None}, "`budget` must be a number such as 8/255 or 0.03, got None"),
        (
            {"attack": make_attack("fmn", norm="l2"), "steps": 3},
            "`steps` goes with the name of an attack; fmn is bound",
        ),
        (
            {"attack": make_attack("fmn", norm="l2"), "precision": "bf16"},
            "`precision` goes with the name of an attack; fmn is bound",
        ),
        ({"precision": "fp8"}, "`precision` must be one of float32, tf32, bf16, got 'fp8'"),
        ({"compiled": True}, "`compiled`.* apgd-ce searches the network itself"),
        ({"attack": "fmn", "budget": 5}, r"beyond any l2 perturbation"),
    ],
)
def test_what_does_not_fit_is_refused(samples, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run(samples, tmp_path / "thinice.duckdb", **options)


def test_one_output_is_refused_with_the_way_out():
    network = nn.Sequential(nn.Flatten(), nn.Linear(20, 1))
    labels = KNOWN.labels % 2
    with pytest.raises(InputError, match=r"has one output.*torch\.nn\.ZeroPad1d\(\(1, 0\)\)"):
        evaluate(network, KNOWN.inputs, labels=labels, budget=0.1, progress=False)


@pytest.mark.parametrize("attack", ["apgd-ce", "fmn"])
def test_a_search_in_bfloat16_has_verdicts_of_its_own_judged_in_float32(samples, store, attack):
    plain = run(samples, store, attack, skip_known=False)
    less = run(samples, store, attack, skip_known=False, precision="bf16")
    assert less.measurement_id != plain.measurement_id
    assert less.settings == plain.settings | {"precision": "bf16", "boundary": 1}
    assert store.sql('select "precision" from runs order by run_id')["precision"].tolist() == ["float32", "bf16"]
    for result in (plain, less):
        assert not result.robust[DISTANCES < BUDGET * 0.98].any()
        assert result.robust[DISTANCES > BUDGET * 1.0001].all()
    assert not np.array_equal(plain.epsilon[~plain.robust], less.epsilon[~less.robust])  # it did search otherwise


def test_a_compiled_network_is_searched_by_attacks_that_minimise_the_norm(samples, store, monkeypatch):
    seen = []
    original = LocalEngine.run

    def noting(engine, task):
        if isinstance(task, AttackTask):
            seen.append(task.compiled)
            task = replace(task, compiled=False)  # the compiler takes a minute
        return original(engine, task)

    monkeypatch.setattr(LocalEngine, "run", noting)
    run(samples, store, "fmn", compiled=True, effort="quick")
    run(samples, store, "ho-fmn", effort="quick")
    assert seen == [True, False]


def test_nan_logits_do_not_stand(store):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = KNOWN.model

        def forward(self, inputs):
            logits = self.inner(inputs)
            return torch.where(inputs.flatten(1)[:, :1] < 0.35, torch.nan, logits)

    samples = thinice.as_samples(KNOWN.inputs, KNOWN.labels, classes=("a", "b", "c", "d"))
    undefined = (KNOWN.inputs.flatten(1)[:, 0] < 0.35).numpy()
    assert undefined.any()
    with pytest.warns(DoubtfulWarning, match="have logits that are NaN"):
        result = run(samples, store, "pgd", network=Broken())
    assert not result.robust[undefined].any()
    assert set(result.broken_by[undefined]) == {CLEAN}
    assert store.sql("select robust from verdicts order by sample_id")["robust"][undefined].eq(other=False).all()


@pytest.mark.slow
def test_the_checks_warn_once_and_stay_with_the_result_and_in_the_store(tmp_path, digits):
    known, count = linear(classes=4, count=4), 4  # at most the 16 that are looked at
    network, samples = nn.Sequential(known.model, nn.Softmax(1)), thinice.as_samples(known.inputs, known.labels)
    settings = {"attack": "pgd", "budget": 0.001, "store": tmp_path / "thinice.duckdb", "progress": False}
    with pytest.warns(DoubtfulWarning) as caught:
        doubtful = evaluate(network, samples, **settings)
    first, last = (str(warning.message) for warning in caught)
    assert "look like probabilities" in first  # before anything is measured
    assert f"softmax_output, {count} of {count} samples" in last
    assert "attack what comes before" in last
    assert {warning.filename for warning in caught} == {__file__}
    assert "softmax_output" in {one.check for one in doubtful.findings if one.raised}
    kept = thinice.open_store(settings["store"]).sql("select check_name from findings where raised")
    assert "softmax_output" in set(kept["check_name"])
    with pytest.warns(DoubtfulWarning, match="look like probabilities"):
        assert evaluate(network, samples, **settings, checks=False).findings is None
    dense, few = digits[0], digits[1][:5]
    healthy = evaluate(dense, few, attack="fmn", norm="l2", budget=0.3, device="cpu", progress=False)
    assert healthy.warnings == ()


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("mnistfc_256x2", 30), ("oval_cifar_base_kw", 10), ("resnet_2b", 10)])
def test_nobody_verified_falls_to_autoattack(name, count):
    network, inputs, labels, radii, verdicts = verified(name)
    holds = torch.from_numpy(verdicts == "holds")
    for radius in radii[holds].unique()[:3]:
        which = ((radii == radius) & holds).nonzero().squeeze(1)[:count]
        assert len(which)
        result = evaluate(
            network, inputs[which], labels=labels[which], budget=float(radius), progress=False, checks=False
        )
        assert result.robust.all()


@pytest.mark.data
@pytest.mark.slow
def test_most_of_whom_a_verifier_breaks_falls_to_autoattack_too():
    network, inputs, labels, radii, verdicts = verified("mnistfc_256x2")
    which = torch.from_numpy((verdicts == "violated") & np.isclose(radii.numpy(), 0.05)).nonzero().squeeze(1)
    samples = thinice.as_samples(inputs[which], labels[which])
    result = evaluate(network, samples, attack="apgd-t", budget=0.05, progress=False, checks=False)
    assert (~result.robust).mean() >= 0.9
