"""What people read of a comparison, word for word, from rows made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from thinice.results.comparison_text import answer, between, table
from thinice.stats import STATISTICS, compare_prunings, separation

COUNTS = {"S1,1": 90, "S1,0": 20, "S0,1": 1, "S0,0": 5}
NAMES = {"dense": "dense", "pruned": "thin", "norm": "linf", "samples": 116, "basis": "clean", "not_found": 0}
AUC = {"auc": 0.9, "auc_low": 0.8, "auc_high": 0.95, "confidence": 0.95, "log10_p": -8.04, "exact": True}
ROW = NAMES | COUNTS | AUC | {"brunner_munzel_log10_p": -25.0, "closest": 11, "closest_lost": 9}
MARGIN = {
    "margin_auc": 0.91,
    "margin_difference": -0.01,
    "margin_difference_low": -0.03,
    "margin_difference_high": 0.01,
}
SHOWN = "difference -0.010, -0.030 to +0.010"


def sentences(**changed):
    return answer(ROW | changed)


def test_the_auc_leads_and_the_tests_say_what_they_are():
    assert sentences() == (
        "thin: AUC 0.900 (95 % interval 0.800 to 0.950, over samples, for these two networks). It loses 20 of the 110 "
        "samples that dense has right; for a lost sample a nearer adversarial was found than for a kept one with that "
        "probability (p < 0.0001 by Brunner-Munzel; log10 p = -8.0 by Mann-Whitney, exact). The closest 10 % hold 9 of "
        "the 20 lost samples, and 2 that are kept."
    )
    assert "p = 0.031 by Brunner-Munzel; " in sentences(brunner_munzel_log10_p=np.log10(0.031))
    assert "by Mann-Whitney, approximate)" in sentences(exact=False)
    assert "log10 p = 0.0 by Mann-Whitney" in sentences(log10_p=-0.004)
    assert "Brunner" not in sentences(brunner_munzel_log10_p=None)


@pytest.mark.parametrize(
    ("log10_p", "equivalence", "difference", "said"),
    [
        (-0.5, -2.0, -0.01, f"does as well: AUC 0.910 ({SHOWN}; equivalent within 0.05, p = 0.01)."),
        (
            -2.0,
            -3.0,
            -0.01,
            f"does a little better: AUC 0.910 ({SHOWN}; p = 0.01; equivalent within 0.05, p = 0.001).",
        ),
        (
            -0.5,
            -1.0,
            -0.01,
            f"has an AUC of 0.910 ({SHOWN}): neither a difference nor equivalence within 0.05 is shown.",
        ),
        (-5.0, -0.2, -0.01, f"does better: AUC 0.910 ({SHOWN}; p < 0.0001)."),
        (-2.0, -0.2, 0.1, "does less well: AUC 0.910 (difference +0.100, -0.030 to +0.010; p = 0.01)."),
        (None, None, -0.01, "has an AUC of 0.910: too few samples for a test between them."),
    ],
)
def test_the_margin_is_held_against_epsilon_in_a_sentence(log10_p, equivalence, difference, said):
    tests = {"margin_log10_p": log10_p, "margin_equivalence_log10_p": equivalence, "margin_difference": difference}
    assert sentences(**(MARGIN | tests)).endswith(f"kept. The margin alone {said}")


def test_a_margin_that_orders_the_samples_alike_does_the_same():
    same = {"margin_difference": 0.0, "margin_difference_low": 0.0, "margin_difference_high": 0.0}
    assert sentences(**(MARGIN | same)).endswith("The margin alone does the same: AUC 0.910.")


def test_what_was_not_found_bounds_the_auc():
    said = sentences(not_found=7, auc_not_found_low=0.71, auc_not_found_high=0.93)
    assert said.endswith("7 samples were not found and rank last; wherever they lie, the AUC is from 0.710 to 0.930.")


def test_a_robust_basis_names_its_attack_and_what_it_leaves_out():
    said = sentences(budget=8 / 255, basis="robust at linf 8/255 by autoattack")
    assert "loses 20 of the 110 samples that dense holds at linf 8/255" in said
    assert "Right means robust at linf 8/255 by autoattack: samples that this attack breaks take no part" in said


def test_the_table_leads_with_the_auc():
    rng = np.random.default_rng(0)
    kept, lost = rng.normal(2, 1, 90), rng.normal(0, 1, 20)
    margins = kept + rng.normal(0, 0.1, 90), lost + rng.normal(0, 0.1, 20)
    values = separation(kept, lost, margins=margins, labels=(np.arange(90) % 3, np.arange(20) % 3)).to_dict()
    row = {"dense_accuracy": 0.9, "pruned_accuracy": 0.8, "pruned_sparsity": 0.5, **ROW, **values}
    lines = table(row)
    assert [name for name, _ in lines[8:]] == [
        entry.label for entry in STATISTICS.values() if entry.label and not entry.optional
    ]
    assert lines[8] == ("AUC", f"{values['auc']:.3f}")
    shown = dict(lines)
    assert shown["log10 p, lost are nearer"] == f"{values['log10_p']:.1f} (exact)"
    assert shown["lost in the closest 10 %"] == f"{values['closest_lost']} of 11"
    assert shown["p, AUC above 1/2"] == "< 0.0001"
    assert shown["shift, kept - lost"].startswith(f"{255 * values['shift']:.3g}/255 (")


def test_a_small_p_stands_beside_what_it_shows():
    distances = {
        "pruned_median_kept": 0.1,
        "pruned_median_lost": -0.01,
        "boundary_shift": 0.0,
        "boundary_shift_kept": 0.0,
    }
    tests = {"paired_log10_p": -3.0, "paired_equivalence_log10_p": -2.0}
    failures = {"pruned_not_found": 0, "pruned_not_corrected": 0, "pruned_from_dense": 0}
    row = {"dense_accuracy": 0.9, "pruned_accuracy": 0.8, "pruned_sparsity": 0.5, **NAMES, **COUNTS}
    shown = dict(table(row | distances | tests | failures))
    assert shown["log10 p, boundary moved"] == "-3.0"
    assert shown["p, moved by less than 10 %"] == "0.01"


def test_several_prunings_are_adjusted_and_held_against_each_other():
    epsilon = np.arange(200.0)
    rng = np.random.default_rng(0)
    lost = {"near": epsilon < 15, "rather": rng.random(200) < np.exp(-epsilon / 60), "any": rng.random(200) < 0.1}
    rows = [
        ROW | {"pruned": name, "brunner_munzel_log10_p": p} for name, p in zip(lost, (-9.0, -2.0, -1.0), strict=True)
    ]
    said = between(rows, compare_prunings(epsilon, lost))
    assert said.startswith(
        "Over 3 prunings, by Brunner-Munzel after Holm: near p < 0.0001, rather p = 0.02, any p = 0.1. That all 3 AUCs "
        "are equal: p < 0.0001. Of all pairs the one with the smallest p: AUC of near minus that of any: +0."
    )
    two = dict(list(lost.items())[:2])
    assert between(rows[:2], compare_prunings(epsilon, two)).count("AUC of near minus that of rather") == 1
    few = [row | {"brunner_munzel_log10_p": None} for row in rows[:2]]
    assert between(few, compare_prunings(epsilon, {"a": epsilon < 3, "b": epsilon < 4})) == ""


def test_a_pruning_whose_p_is_withheld_is_named():
    epsilon = np.arange(200.0)
    lost = {"some": epsilon < 15, "few": epsilon < 2}
    rows = [ROW | {"pruned": name, "brunner_munzel_log10_p": p} for name, p in zip(lost, (-9.0, None), strict=True)]
    said = between(rows, compare_prunings(epsilon, lost))
    assert said.startswith("Over 2 prunings, by Brunner-Munzel after Holm: some p < 0.0001; withheld for few.")
