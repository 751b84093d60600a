"""`thinice check` on stores that were filled by hand: what contradicts is named, what fits is not."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest

from thinice.checks.stored import check_store
from thinice.checks.study_patterns import stored_patterns
from thinice.data.digits import example_checkpoints
from thinice.store import Store, open_store
from thinice.types import Outcome

IDS = np.arange(20, 26)
MISCLASSIFIED, FOUND, NOT_FOUND = Outcome


class Filled:
    """A store of networks with 48 input entries, and what attacks are said to have found there."""

    def __init__(self, path):
        self.store = open_store(path)

    def measurement(self, run, attack, norm, settings, ids, network, digests, name, sparsity=0.0):
        checkpoint = run.checkpoint(fingerprint=network, name=network, architecture="cnn", classes=3, sparsity=sparsity)
        data = run.dataset(
            fingerprint=f"{name}{ids.tolist()}{digests.tolist()}",
            name=name,
            split="test",
            shape=(3, 4, 4),
            classes=("a", "b", "c"),
            sample_ids=ids,
            labels=np.zeros_like(ids),
            digests=digests,
        )
        return run.measurement(checkpoint, data, run.attack(name=attack, norm=norm, settings=settings))

    def epsilons(self, attack, norm, epsilon, *, ids=IDS, network="dense", digests=None, name="digits", **settings):
        ids, epsilon = np.asarray(ids), np.asarray(epsilon, dtype=float)
        digests = (ids if digests is None else np.asarray(digests)).astype(np.uint64)
        outcomes = np.where(np.isnan(epsilon), NOT_FOUND, np.where(epsilon == 0, MISCLASSIFIED, FOUND))
        with self.store.run(["thinice"], device="cpu", seed=0) as run:
            run.add_epsilons(
                self.measurement(run, attack, norm, settings, ids, network, digests, name),
                ids,
                epsilon=epsilon,
                outcomes=outcomes,
                predictions=np.where(outcomes == NOT_FOUND, -1, 1),
                clean_predictions=np.where(outcomes == MISCLASSIFIED, 1, 0),
                evaluations=np.ones(len(ids)),
            )

    def verdicts(self, attack, norm, budget, robust, *, length=None, network="dense", sparsity=0.0):
        robust = np.asarray(robust)
        ids = np.arange(20, 20 + len(robust))
        length = np.full(len(ids), budget) if length is None else np.asarray(length)
        settings = {"budget": budget, "attacks": attack}
        with self.store.run(["thinice"], device="cpu", seed=0) as run:
            run.add_robustness(
                self.measurement(run, attack, norm, settings, ids, network, ids.astype(np.uint64), "digits", sparsity),
                ids,
                attack=attack,
                attack_index=0,
                epsilon=np.where(robust, np.nan, length),
                outcomes=np.where(robust, NOT_FOUND, FOUND),
                predictions=np.where(robust, -1, 1),
                clean_predictions=np.zeros_like(ids),
                evaluations=np.ones(len(ids)),
            )

    def found(self, **settings):
        return [(check, one) for check in check_store(self.store, **settings) for one in check.findings]


@pytest.fixture
def filled(tmp_path, empty):
    return Filled(shutil.copy(empty, tmp_path / "thinice.duckdb"))


HALF = [0.5] * 6


def test_two_norms_of_one_network(filled):
    filled.epsilons("fmn", "linf", [0.1] * 6, steps=100)
    filled.epsilons("cw", "l2", [0.6, 0.7, 0.8, 0.9, math.nan, 0.0])
    ((check, one),) = [(check, one) for check, one in filled.found() if one.check == "norm"]
    assert (check.network, check.data, check.attacks) == ("dense", "digits", ("fmn", "cw"))
    assert one.samples == (23, 22)  # 0.1 x sqrt(48) is 0.693, and 0.7 is within the tolerance
    assert one.of == 6
    assert one.bounds[0] == pytest.approx(0.1 * math.sqrt(48), rel=1e-5)
    assert [one.check for _, one in filled.found()] == ["clean", "norm"]


def test_budgets_and_epsilons(filled):
    filled.verdicts("pgd", "linf", 0.1, [True, True, False, False, False, False], length=[1, 1, 0.1, 0.04, 0.1, 0.1])
    filled.epsilons("fmn", "linf", [0.09, 0.11, 0.1, 0.1, 0.2, math.nan], steps=100)
    found = {(one.check, one.subjects[0]): one.samples for _, one in filled.found()}
    assert found == {("budget", "pgd"): (20,), ("attack", "fmn"): (23, 24)}


def test_samples_that_were_spared_are_nobodys_claim(filled):
    """A verdict that only repeats what another attack found does not contradict anything, nor prove it again."""
    filled.epsilons("fmn", "linf", [0.05] * 6, steps=100)
    ids, settings = IDS, {"budget": 0.1, "attacks": "pgd"}
    with filled.store.run(["thinice"], device="cpu", seed=0) as run:
        measurement = filled.measurement(run, "pgd", "linf", settings, ids, "dense", ids.astype(np.uint64), "digits")
        assert run.add_known(measurement, norms=["linf", "l2", "l1"], budget=0.1) == 6
    assert filled.found() == []


def test_steps_are_told_from_other_settings(filled):
    filled.epsilons("fmn", "linf", HALF, steps=30, alpha=1.0)
    filled.epsilons("fmn", "linf", [0.5, 0.5, 0.5, 0.5, 0.5, 0.3], steps=300, alpha=1.0)
    filled.epsilons("fmn", "linf", HALF, steps=300, alpha=3.0)
    found = {(one.check, *one.subjects) for _, one in filled.found()}
    assert found == {
        ("steps", "fmn, alpha 1, steps 30", "fmn, alpha 1, steps 300"),
        ("attack", "fmn, alpha 3, steps 300", "fmn, alpha 1, steps 300"),
    }


def test_selections_that_overlap_are_compared_where_they_do(filled):
    filled.epsilons("fmn", "linf", HALF)
    filled.epsilons("tmn", "linf", [0.1, 0.1], ids=[25, 99])
    ((_, one),) = filled.found()
    assert (one.samples, one.of) == ((25,), 1)


def test_other_contents_under_the_same_id_are_another_sample(filled):
    filled.epsilons("fmn", "linf", HALF)
    filled.epsilons("tmn", "linf", [0.1] * 6, digests=IDS + 1000)
    assert filled.found() == []


def test_networks_and_data_sets_are_kept_apart(filled):
    filled.epsilons("fmn", "linf", HALF)
    filled.epsilons("tmn", "linf", [0.1] * 6, network="pruned")
    filled.epsilons("tmn", "linf", [0.1] * 6, name="letters")
    assert filled.found() == []
    assert len(check_store(filled.store)) == 3


def test_one_attack_on_two_selections_is_one_attack(filled):
    filled.epsilons("fmn", "linf", HALF)
    filled.epsilons("fmn", "linf", [0.5, 0.5, 0.1], ids=[20, 21, 22])
    ((check, one),) = [(check, None) for check in check_store(filled.store)]
    assert (check.attacks, check.findings, one) == (("fmn",), (), None)


def test_signatures_of_the_evaluations_in_a_store(filled):
    for k, stand in enumerate((500, 300, 500, 300)):
        robust = np.arange(1000) < stand
        filled.verdicts("pgd", "linf", 0.1, robust, network=f"pruned-{k}", sparsity=k / 10)
    ((name, networks),) = [(one.check, one.subjects) for one in stored_patterns(filled.store)]
    assert (name, networks) == ("jumps_over_sparsity", ("pruned-0", "pruned-1", "pruned-2", "pruned-3"))


@pytest.mark.parametrize(("tried", "seen"), [(10, []), (500, ["jumps"])])
def test_an_evaluation_that_ended_early_is_no_point_of_a_study(filled, tried, seen):
    ids, first = np.arange(20, 1020), np.arange(1000) < 500
    for k, count in enumerate((500, tried, 500)):
        place = {"network": f"pruned-{k}", "sparsity": k / 10}
        filled.verdicts("pgd square", "linf", 0.1, first, **place)
        settings = {"budget": 0.1, "attacks": "pgd square"}
        falls = (np.arange(count) < 400) & (k == 1) & (count == 500)
        with filled.store.run(["thinice"], device="cpu", seed=0) as run:
            digests = ids.astype(np.uint64)
            key = filled.measurement(run, "pgd square", "linf", settings, ids, f"pruned-{k}", digests, "digits", k / 10)
            run.add_robustness(
                key,
                ids[:count],
                attack="square",
                attack_index=1,
                epsilon=np.where(falls, 0.1, np.nan),
                outcomes=np.where(falls, FOUND, NOT_FOUND),
                predictions=np.where(falls, 1, -1),
                clean_predictions=np.zeros(count, np.int64),
                evaluations=np.ones(count),
            )
    assert [one.check.split("_")[0] for one in stored_patterns(filled.store)] == seen


def test_evaluations_at_other_budgets_are_other_series(filled):
    for k, (stand, budget) in enumerate(((500, 0.1), (300, 0.2), (500, 0.1), (300, 0.2))):
        filled.verdicts("pgd", "linf", budget, np.arange(1000) < stand, network=f"pruned-{k}", sparsity=k / 10)
    assert stored_patterns(filled.store) == ()


def test_a_comparison_whose_interval_reaches_a_half(filled):
    with filled.store.run(["thinice"], device="cpu", seed=0) as run:
        dense = filled.measurement(run, "fmn", "linf", {}, IDS, "dense", IDS.astype(np.uint64), "digits")
        for name, low in (("near", 0.47), ("far", 0.6)):
            pruned = run.checkpoint(fingerprint=name, name=name, architecture="cnn", classes=3, sparsity=0.9)
            statistics = dict.fromkeys(
                ("u", "p_value", "log10_p", "median_kept", "median_lost", "shift", "cliffs_delta")
            )
            comparison = run.comparison(dense, pruned)
            run.add_statistics(comparison, auc=0.65, auc_low=low, auc_high=0.9, confidence=0.95, **statistics)
    ((networks, seen),) = [(one.subjects, one.seen) for one in stored_patterns(filled.store)]
    assert networks == ("near",)
    assert seen == "AUC 0.650 against dense on digits (linf, clean), and it may be as low as 0.470"


@pytest.mark.slow
def test_samples_read_in_parts_say_what_they_say_at_once(filled, monkeypatch):
    """Of four thousand samples, a few hundred rows at a time are fetched, and of what contradicts the worst."""
    ids, rng = np.arange(7, 4007), np.random.default_rng(0)
    near, far = rng.uniform(0.001, 0.1, 4000), rng.uniform(0.001, 1, 4000)
    far[::50] = math.nan
    far[1::50] = 0
    filled.epsilons("fmn", "linf", near, ids=ids)
    filled.epsilons("cw", "l2", far, ids=ids)
    filled.verdicts("pgd", "linf", 0.05, far[:3000] > 0.3)
    at_once, fetched = check_store(filled.store), []
    monkeypatch.setattr("thinice.checks.stored.ROWS", 500)
    asked = Store.sql
    monkeypatch.setattr(Store, "sql", lambda *given: (fetched.append(len(answer := asked(*given))), answer)[1])
    assert check_store(filled.store) == at_once
    assert sum(fetched) > 11_000
    assert 490 < max(fetched) < 510
    (worst,) = check_store(filled.store, most=3)
    assert [one.count for one in worst.findings] == [one.count for one in at_once[0].findings]
    assert [one.of for one in worst.findings] == [one.of for one in at_once[0].findings]
    for few, every in zip(worst.findings, at_once[0].findings, strict=True):
        assert every.count == len(every.samples)
        assert (few.samples, few.claimed, few.bounds) == (every.samples[:3], every.claimed[:3], every.bounds[:3])
    # by another way: what the two epsilons of each sample say of each other, through linf <= l2 <= sqrt(48) linf
    known = np.where(np.isnan(far), np.inf, far.astype(np.float32).astype(float))
    near = near.astype(np.float32).astype(float)
    refuted = {
        ("cw", "fmn"): np.isfinite(known) & (known > 0) & (near * math.sqrt(48) < known * 0.9),
        ("fmn", "cw"): (known > 0) & (known < near * 0.9),
    }
    counted = {one.subjects: one.count for one in at_once[0].findings if one.check == "norm"}
    assert {pair: counted[pair] for pair in refuted} == {pair: int(which.sum()) for pair, which in refuted.items()}


# -- the command -------------------------------------------------------------------------------------------------------


def test_contradictions_end_with_exit_code_3_and_name_the_samples(filled, run):
    filled.epsilons("fmn", "linf", [0.1] * 6)
    filled.epsilons("cw", "l2", [0.6, 0.7, 0.8, 0.9, 0.5, 0.5])
    code, out, err = run("check")
    assert code == 3
    assert "dense" in out
    assert "probabilities instead of logits" in err
    code, out, _ = run("check", "--store", filled.store.path, "--samples", "--format", "json")
    assert code == 3
    assert [(row["sample_id"], row["claim"], row["norm"], row["proof"]) for row in json.loads(out)] == [
        (23, "cw", "l2", "fmn"),
        (22, "cw", "l2", "fmn"),
    ]
    code, out, _ = run("check", "--tolerance", "0.3")
    assert (code, out) == (0, "")


def test_what_fits_ends_with_exit_code_0(filled, run):
    filled.epsilons("fmn", "linf", [0.1] * 6)
    filled.epsilons("fmn", "l2", [0.3] * 6)
    filled.verdicts("pgd", "linf", 0.1, [False] * 6)
    assert run("check")[:2] == (0, "")
    assert "networks with several attacks: 1" in run("check")[2]
    assert json.loads(run("check", "--format", "json", "--quiet")[1]) == []


def test_a_single_attack_has_nothing_to_be_held_against(filled, run):
    filled.epsilons("fmn", "linf", [0.1] * 6)
    code, out, err = run("check")
    assert (code, out) == (0, "")
    assert "nothing to hold against each other" in err


def test_a_store_that_is_not_there_ends_with_exit_code_1(run):
    code, out, err = run("check", "--store", "nothing.duckdb")
    assert (code, out) == (1, "")
    assert "there is no store" in err


# -- in an evaluation --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_evaluate_warns_of_what_its_checks_see_and_of_numbers_that_were_not_reached(run, tmp_path, monkeypatch):
    monkeypatch.setattr("thinice.checks.run.SAMPLES", 3)
    dense = example_checkpoints()["dense"]
    (tmp_path / "reported.csv").write_text(f"checkpoint,reported\n{dense},0.99\n")
    words = (
        "evaluate",
        "--limit",
        30,
        "--attack",
        "fmn",
        "--steps",
        20,
        "--budget",
        "60/255",
        "--reported",
        "reported.csv",
    )
    code, _, err = run(*words)
    assert code == 0
    assert "warning: below_reported, dense: 99.0% reported, 0.0% measured" in err
    assert "warning: dense:" not in err
    assert "warning" not in run(*words, "--no-checks")[2]
    store = open_store(tmp_path / "thinice.duckdb")
    assert store.sql("select looked_at from findings")["looked_at"].tolist() == [3] * 11
    code, _, err = run("evaluate", dense, "--limit", 30, "--attack", "fmn", "--steps", 1, "--budget", "60/255")
    assert "warning: dense: fmn, steps 1 (linf) against fmn, steps 20 (linf)" in err


@pytest.mark.slow
def test_evaluate_tunes_ho_fmn_on_other_samples(run, monkeypatch):
    monkeypatch.setattr("thinice.checks.run.SAMPLES", 2)
    monkeypatch.setattr("thinice.analysis.tuning.HELD_OUT", 2)
    dense = example_checkpoints()["dense"]
    words = ("evaluate", dense, "--limit", 5, "--attack", "ho-fmn", "--steps", 5, "--budget", "60/255")
    code, _, err = run(*words)
    assert code == 0
    assert "dense: ho-fmn tuned on 2 samples of train" in err
    assert "tuned" not in run(*words, "--tune-split", "none")[2]
