"""Numbers of a study on rows made by hand: means and margins, sweet spots, lost samples, overlaps, tables."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binomtest, hypergeom, ttest_rel

from thinice.store import open_store
from thinice.studies import parse_study
from thinice.studies.lost_samples import losses, lost_samples, overlap, overlaps
from thinice.studies.per_sample import Network, SampleResults
from thinice.studies.results import CLEAN, Measure, Point, Result, StudyResults, study_results
from thinice.studies.sweet_spots import holm, paired_difference, sweet_spots
from thinice.studies.tables import (
    Table,
    accuracy_text,
    clean_table,
    html_page,
    loss_table,
    overlap_table,
    robust_table,
    save_tables,
    sweet_spot_table,
)

pytest.importorskip("yaml")

TEXT = """\
name: by <hand>
setups: [{name: "a|b", architecture: digits_cnn, data: digits, training: natural}]
methods:
  - {name: good, method: magnitude}
  - {name: bad, method: random}
rates: [1, 2, 4]
seeds: 2
attacks:
  - {attack: pgd, norm: linf, budgets: [8/255]}
  - {attack: tmn, norm: l2, budgets: [0.5]}
published:
  - {method: good, accuracy: {1: 91, 2: 90.5}}
  - {method: good, norm: linf, budget: 8/255, accuracy: {2: 50}, source: paper}
  - {method: good, norm: linf, budget: 8/255, accuracy: {2: 60}, source: files}
"""
STUDY = parse_study(TEXT, "hand")
PGD, TMN = Measure("pgd", "linf", 8 / 255), Measure("tmn", "l2", 0.5)


@pytest.fixture
def stored(empty, tmp_path):
    """Four samples, two seeds: the dense networks, and `good` at rate 2, in a store."""
    path = tmp_path / "s.duckdb"
    path.write_bytes(empty.read_bytes())
    store = open_store(path)
    right = {
        ("dense", 0): [1, 1, 1, 0],
        ("dense", 1): [1, 1, 1, 1],
        ("good", 0): [1, 1, 0, 0],
        ("good", 1): [1, 1, 1, 1],
    }
    epsilon = {
        ("dense", 0): [0.4, 0.6, 0.7, 0],
        ("dense", 1): [0.4, 0.6, math.nan, 0.5],
        ("good", 0): [0.6, 0.6, 0, 0],
        ("good", 1): [0.6, 0.6, 0.6, 0.4],
    }
    with store.run(["by hand"], device="cpu", seed=0) as run:
        ids = [7, 8, 9, 11]
        selection = run.dataset(
            fingerprint="f", name="digits", split="test", shape=(1, 8, 8), classes=["0", "1"],
            sample_ids=ids, labels=[0, 0, 1, 1], digests=np.arange(4, dtype=np.uint64),
        )  # fmt: skip
        tmn = run.attack(name="tmn", norm="l2", settings={"steps": 1})
        pgd = run.attack(name="pgd", norm="linf", settings={"budget": 8 / 255, "attacks": "pgd"})
        for (method, seed), flags in right.items():
            network = run.checkpoint(
                fingerprint=f"{method}{seed}", name=f"{method}{seed}", architecture="digits_cnn", classes=2,
                sparsity=0.0 if method == "dense" else 0.5,
            )  # fmt: skip
            labels = np.array([0, 0, 1, 1])
            predictions = np.where(flags, labels, 1 - labels)
            run.add_predictions(network, selection, ids, predictions=predictions)
            distances = np.array(epsilon[method, seed], np.float32)
            outcomes = np.where(np.array(flags) == 0, 0, np.where(np.isnan(distances), 2, 1)).astype(np.int8)
            common = {
                "predictions": 1 - labels,
                "evaluations": np.ones(4, np.float32),
                "clean_predictions": predictions,
            }
            measured = run.measurement(network, selection, tmn)
            run.add_epsilons(measured, ids, epsilon=distances, outcomes=outcomes, **common)
            verdicts = run.measurement(network, selection, pgd)
            broken = {
                "epsilon": np.where(outcomes == 0, 0, np.nan).astype(np.float32),
                "outcomes": np.where(outcomes == 0, 0, 2).astype(np.int8),
            }
            run.add_robustness(verdicts, ids, attack="pgd", attack_index=0, **broken, **common)
            for measurement, measure in ((measured, TMN), (verdicts, PGD)):
                run.add_study_cells([row(method, seed, measure, measurement)])
        run.add_study_cells([row("bad", 0, PGD, None, error="no room")])
    return store


def row(method, seed, measure, measurement, error=None):
    return {
        "study": "by <hand>", "cell": f"{method} {seed} {measure}", "setup": "a|b", "architecture": "digits_cnn",
        "data": "digits", "training": "natural", "method": None if method == "dense" else method,
        "rate": 1.0 if method == "dense" else 2.0, "seed": seed, "attack": measure.attack, "norm": measure.norm,
        "budget": measure.budget, "measurement_id": measurement, "error": error,
    }  # fmt: skip


def test_means_margins_and_what_is_published(stored):
    results = study_results(STUDY, stored)
    assert results.points[Point("a|b", "good", 1.0)] == Result(
        2, 0.875, pytest.approx(0.125 * 2**0.5), 0.0, ((0.91, ""),)
    )
    assert results.points[Point("a|b", "bad", 1.0)].accuracy == 0.875  # the dense networks are those of every method
    clean = results.points[Point("a|b", "good", 2.0)]
    assert (clean.accuracy, clean.margin) == (0.75, pytest.approx(-0.125))
    attacked = results.points[Point("a|b", "good", 2.0, TMN)]
    assert attacked.accuracy == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert attacked.margin == pytest.approx(
        ((2 - 2) / 4 + (3 - 2) / 4) / 2
    )  # of the same seed: 0.5 itself is not robust
    assert results.points[Point("a|b", "good", 2.0, PGD)].published == ((0.5, "paper"), (0.6, "files"))
    assert results.points[Point("a|b", "bad", 2.0)].accuracy is None
    assert results.errors == ("a|b, seed 0, bad, rate 2: no room",)
    assert results.finished == 3 * 2
    assert len(results.frame()) == 2 * 3 * 3
    relative = {(entry["method"], entry["rate"], entry["attack"]): entry["relative"] for entry in results.rows()}
    assert relative["good", 2.0, "tmn"] == pytest.approx(0.625 / 0.75)
    assert relative["bad", 2.0, "tmn"] is None
    assert {entry["published"] for entry in results.rows()} == {None, 0.91, 0.905, 0.5}


def test_the_views_say_the_same(stored):
    means = stored.sql("from studies order by method, attack")
    assert means["method"].tolist() == ["bad", "dense", "dense", "good", "good"]
    assert means["errors"].tolist() == [1, 0, 0, 0, 0]
    assert means["robust_accuracy"].fillna(-1).tolist() == [-1, 0.875, 0.5, 0.75, 0.625]
    assert means["robust_sd"].tolist()[2] == 0
    cells = stored.sql("from cells where method = 'good' and attack = 'tmn' order by seed")
    assert cells["n"].tolist() == [4, 4]
    assert cells["robust_accuracy"].tolist() == [0.5, 0.75]
    assert (cells["low"] < 0.5).all()


# sweet spots


def test_with_one_seed_the_interval_is_that_of_the_paired_t_test():
    random = np.random.default_rng(1)
    dense, pruned = random.random((80, 1)) < 0.5, random.random((80, 1)) < 0.7
    difference = paired_difference(dense, pruned)
    test = ttest_rel(pruned[:, 0].astype(float), dense[:, 0].astype(float), alternative="greater")
    interval = ttest_rel(pruned[:, 0].astype(float), dense[:, 0].astype(float)).confidence_interval(0.95)
    assert (difference.interval.low, difference.interval.high) == pytest.approx((interval.low, interval.high))
    gained, lost = int((pruned & ~dense).sum()), int((dense & ~pruned).sum())
    sign = binomtest(gained, gained + lost, alternative="greater").pvalue
    assert difference.p_value == pytest.approx(max(test.pvalue, sign))


def test_few_gains_are_not_certain():
    """Three gained, none lost: a t test alone would say 0.04."""
    dense = np.zeros((300, 1), bool)
    pruned = np.arange(300)[:, None] < 3
    assert paired_difference(dense, pruned).p_value == pytest.approx(1 / 8)
    assert paired_difference(dense, dense).p_value == 1
    assert paired_difference(dense, dense).interval.high == 0


def test_the_variance_is_that_of_samples_and_seeds():
    """A table of two samples and two seeds: mean squares 1, 1, 0 by hand."""
    each = np.array([[1, 0], [0, -1]])
    difference = paired_difference((each < 0), (each > 0))
    assert difference.mean == 0
    half = (1 + 1 - 0) / 4  # the variance of the mean; with 2 degrees of freedom, t is 4.303
    assert difference.interval.high == pytest.approx(min(1, 4.3027 * half**0.5), rel=1e-4)


def test_the_interval_holds_for_other_samples_and_other_seeds():
    """Samples and seeds drawn anew, 400 times: the interval covers the truth 95 times of 100, and not always."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        chance = 0.5 + 0.1 * random.standard_normal((60, 1)) + 0.1 * random.standard_normal((1, 5))
        pruned = random.random((60, 5)) < chance.clip(0, 1)
        dense = random.random((60, 5)) < 0.4
        interval = paired_difference(dense, pruned).interval
        covered += interval.low <= 0.1 <= interval.high
    assert 0.92 <= covered / 400 <= 0.985


def test_holm_is_the_textbooks():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def by_hand(n=200, seeds=2):
    """`good` is right and robust wherever the dense networks are and on 30 samples more; `bad` loses the nearest."""
    ids = np.arange(n)
    correct, robust, epsilon = {}, {}, {}
    for seed in range(seeds):
        dense = Network(seed)
        correct[dense] = ids < n - 20
        epsilon[dense, ("tmn", "l2")] = np.where(correct[dense], (ids + 1) / n, 0.0)
        robust[dense, PGD], robust[dense, TMN] = (ids >= 40) & correct[dense], (ids >= 100) & correct[dense]
        for rate in (2.0, 4.0):
            good, bad = Network(seed, "good", rate), Network(seed, "bad", rate)
            correct[good], correct[bad] = ids < n - 20, (ids >= 10 * rate) & (ids < n - 20)
            robust[good, PGD], robust[good, TMN] = (ids >= 10) & correct[good], (ids >= 70) & correct[good]
            robust[bad, PGD], robust[bad, TMN] = robust[dense, PGD], (ids >= 70) & correct[bad]
    return SampleResults("a|b", ids, ids % 10, correct, robust, epsilon)


def test_a_sweet_spot_is_better_under_every_attack():
    spots = sweet_spots(STUDY, [by_hand()])
    assert [(spot.method, spot.rate, spot.better, spot.certain) for spot in spots] == [
        ("good", 2.0, True, True),
        ("good", 4.0, True, True),
        ("bad", 2.0, False, False),  # better under one attack alone
        ("bad", 4.0, False, False),
    ]
    assert spots[0].difference.mean == pytest.approx(30 / 200)
    assert spots[0].clean == 0
    assert spots[0].adjusted == pytest.approx(4 * spots[0].p_value)
    assert spots[2].measure == PGD
    assert spots[2].clean == pytest.approx(-20 / 200)
    table = sweet_spot_table(spots)
    assert [line[1:4] for line in table.rows] == [("good", "2", "+15.0"), ("good", "4", "+15.0")]
    assert "2 of 4 pruned networks" in table.note
    assert "2 of them beyond chance" in table.note


def test_networks_that_are_not_finished_are_no_sweet_spots():
    samples = by_hand()
    missing = {key: flags for key, flags in samples.robust.items() if key != (Network(1, "good", 2.0), TMN)}
    fewer = SampleResults("a|b", samples.sample_ids, samples.labels, samples.correct, missing, samples.epsilon)
    assert [(spot.method, spot.rate) for spot in sweet_spots(STUDY, [fewer])] == [
        ("good", 4.0),
        ("bad", 2.0),
        ("bad", 4.0),
    ]
    assert sweet_spots(STUDY, []) == ()


# lost samples


def test_what_a_network_loses_and_how_near_it_lay():
    rows = losses(STUDY, by_hand())
    assert [(loss.seed, loss.method, loss.rate, loss.lost, loss.kept) for loss in rows[:4]] == [
        (0, "good", 2.0, 0, 180),
        (0, "good", 4.0, 0, 180),
        (0, "bad", 2.0, 20, 160),
        (0, "bad", 4.0, 40, 140),
    ]
    assert rows[0].auc is None
    assert (rows[2].auc, rows[2].gained) == (1.0, 0)  # the 20 nearest ones
    assert rows[2].median_lost == pytest.approx(10.5 / 200)
    assert rows[2].auc_low > 0.8
    table = loss_table(STUDY, rows, "a|b")
    assert table.rows[2][:4] == ("bad", "2", "20.0 ± 0.0", "0.0 ± 0.0")
    assert table.rows[2][4:] == ("1.000 ± 0.000", "0.0525 / 0.502")
    assert table.rows[0][4] == "-"
    in_255ths = loss_table(STUDY, [replace(row, norm="linf") for row in rows], "a|b")
    assert in_255ths.rows[2][5] == "13.4/255 / 128/255"


def test_an_overlap_is_counted_against_chance():
    """Two sets of 4 and 5 of 20 that share 3, then a second stratum: the tail of the sum, drawn out by hand."""
    ids = np.arange(20)
    everything, first, second = ids >= 0, ids < 4, (ids > 0) & (ids < 6)
    common, expected, log10_p = overlap([everything], [first], [second])
    assert (common, expected) == (3, 1.0)
    assert 10**log10_p == pytest.approx(hypergeom.sf(2, 20, 4, 5))
    draws = [len({0, 1, 2, 3} & set(drawn)) for drawn in combinations(range(20), 5)]
    assert 10**log10_p == pytest.approx(np.mean(np.array(draws) >= 3))
    both = overlap([everything, everything], [first, first], [second, second])
    assert both[:2] == (6, 2.0)
    chances = hypergeom.pmf(np.arange(5), 20, 4, 5)
    tail = sum(chances[a] * chances[b] for a in range(5) for b in range(5) if a + b >= 6)
    assert 10 ** both[2] == pytest.approx(tail)
    assert overlap([everything], [ids < 0], [second]) == (0, 0.0, 0.0)


def test_methods_that_lose_the_nearest_lose_the_same_by_nearness_alone():
    samples = by_hand()
    correct = dict(samples.correct)
    random = np.random.default_rng(3)
    for seed in samples.seeds:
        near = samples.sample_ids < 36  # two tenths of those that dense has right
        correct[Network(seed, "good", 4.0)] = correct[Network(seed)] & ~(near & (random.random(200) < 0.5))
        correct[Network(seed, "bad", 4.0)] = correct[Network(seed)] & ~(near & (random.random(200) < 0.5))
    rows = overlaps(
        STUDY, SampleResults("a|b", samples.sample_ids, samples.labels, correct, samples.robust, samples.epsilon)
    )
    (row,) = [row for row in rows if row.rate == 4]
    assert row.common > 2 * row.expected
    assert row.log10_p < -3
    assert row.expected_near == pytest.approx(row.common, rel=0.35)
    assert row.log10_p_near > -2
    assert row.jaccard == pytest.approx(row.common / (row.first_lost + row.second_lost - row.common))
    (line,) = [line for line in overlap_table(STUDY, rows, "a|b").rows if line[0] == "4"]
    assert line[1] == "1"
    assert line[3] == str(row.common)
    assert line[-1] == "1"


def test_lost_samples_are_listed_with_who_loses_them():
    rows = lost_samples(STUDY, by_hand())
    first = rows[0]
    assert (first.rate, first.sample_id, first.networks, first.of, first.methods) == (2.0, 0, 2, 4, ("bad",))
    assert (first.epsilon, first.measured_by) == (pytest.approx(1 / 200), "tmn l2")
    assert [sum(row.rate == rate for row in rows) for rate in (2.0, 4.0)] == [20, 40]


# tables


def results_by_hand(values):
    points = {
        Point("a|b", method, rate, measure): Result(2, value, 0.01, value - 0.9)
        for (method, rate, measure), value in values.items()
    }
    everything = [(m, r, k) for m in ("good", "bad") for r in (1.0, 2.0, 4.0) for k in (CLEAN, PGD, TMN)]
    blank = {Point("a|b", *place): Result(0, None, None, None) for place in everything}
    return StudyResults(STUDY, blank | points, (), None)


def test_the_best_is_bold_and_margins_stand_beside():
    values = {
        ("good", 1.0, CLEAN): 0.9, ("bad", 1.0, CLEAN): 0.9,
        ("good", 2.0, CLEAN): 0.912, ("bad", 2.0, CLEAN): 0.85,
        ("good", 4.0, CLEAN): 0.8, ("bad", 4.0, CLEAN): 0.80001,
    }  # fmt: skip
    table = clean_table(results_by_hand(values), "a|b")
    assert table.head == ("method", "1", "2", "4")
    assert table.rows[0] == ("good", "90.0 ± 1.0", "91.2 ± 1.0", "80.0 ± 1.0")
    assert table.bold == {(0, 2)}  # of equals, as they are shown, none is the best
    assert "| good | 90.0 ± 1.0 | **91.2 ± 1.0** | 80.0 ± 1.0 |" in table.markdown()
    assert "<td><b>91.2 ± 1.0</b></td>" in table.html()
    assert table.lines()[1] == ["good", "90.0 ± 1.0", "91.2 ± 1.0*", "80.0 ± 1.0"]
    under_attack = robust_table(results_by_hand(values), "a|b")
    assert under_attack.rows[0] == ("good", "clean", "90.0 ± 1.0", "91.2 ± 1.0 (+1.2)", "80.0 ± 1.0 (-10.0)")
    assert under_attack.rows[1] == ("good", "pgd linf 8/255", "-", "-", "-")
    assert (0, 3) in under_attack.bold
    assert "a\\|b: clean" in table.markdown()


def test_published_values_stand_beside_measured_ones():
    assert accuracy_text(Result(1, 0.5, None, 0.0)) == "50.0"
    assert accuracy_text(Result(0, None, None, None, ((0.91, ""),))) == "- / 91.0"
    both = ((0.5, "paper"), (0.6, "files"))
    assert accuracy_text(Result(2, 0.55, 0.01, None, both)) == "55.0 ± 1.0 / 50.0 paper / 60.0 files"


def test_a_table_without_rows_is_its_title_and_its_note():
    empty = Table("Sweet spots", ("method", "rate"), (), note="0 of 2 are better.")
    assert empty.lines() == []
    assert empty.markdown() == "### Sweet spots\n\n0 of 2 are better.\n"
    assert empty.html() == "<h2>Sweet spots</h2>\n\n<p>0 of 2 are better.</p>"


def test_pages_cannot_be_steered_by_names(tmp_path):
    table = Table("<script>", ("<b>",), (("<i>\x1b[2J",),), frozenset({(0, 0)}), "a & b")
    page = html_page("<title>", [table.html()])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    assert "<td><b>&lt;i&gt;\\x1b[2J</b></td>" in page
    (tmp_path / "a.svg").write_text("<?xml version='1.0'?>\n<svg>drawn</svg>")
    markdown, html = save_tables("x", [table], [tmp_path / "a.png", tmp_path / "a.svg"], tmp_path / "out")
    assert "<figure><svg>drawn</svg></figure>" in html.read_text()
    assert "![a](a.svg)" in markdown.read_text()
