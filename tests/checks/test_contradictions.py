"""Numbers that cannot all be true, made by hand, and numbers that can."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from thinice.checks import Finding
from thinice.checks.contradictions import (
    contradictions,
    fixed_budget,
    implied_bound,
    minimum_norm,
    verified,
)
from thinice.checks.stored import NetworkCheck
from thinice.errors import InputError
from thinice.types import NORMS

IDS = [7, 8, 9, 10]


def lengths(delta: np.ndarray) -> dict[str, float]:
    return {
        "l0": float(np.count_nonzero(delta)),
        "l1": float(np.abs(delta).sum()),
        "l2": float(np.sqrt((delta**2).sum())),
        "linf": float(np.abs(delta).max()),
    }


def only(*evidence, entries: int = 100, tolerance: float = 0.1) -> Finding:
    (found,) = contradictions(evidence, entries=entries, tolerance=tolerance)
    return found


# -- one norm bounds the others ----------------------------------------------------------------------------------------


@given(arrays.arrays(np.float64, st.integers(1, 30), elements=st.floats(-1, 1, width=16)))
def test_no_perturbation_of_the_box_is_longer_than_implied(delta):
    length = lengths(delta)
    for known in NORMS:
        for wanted in NORMS:
            bound = implied_bound(length[known], known, wanted, len(delta))
            assert length[wanted] <= bound * (1 + 1e-9)


# perturbations that reach each bound: all entries alike, one entry alone, m entries at the width of the box
TIGHT = [
    ("linf", "l2", np.full(16, 0.3)),
    ("linf", "l1", np.full(16, 0.3)),
    ("linf", "l0", np.full(16, 0.3)),
    ("l2", "linf", np.r_[0.3, np.zeros(15)]),
    ("l2", "l1", np.full(16, 0.3)),
    ("l2", "l0", np.full(16, 0.3)),
    ("l1", "linf", np.r_[0.3, np.zeros(15)]),
    ("l1", "l2", np.r_[0.3, np.zeros(15)]),
    ("l1", "l2", np.r_[np.ones(4), np.zeros(12)]),
    ("l1", "l0", np.full(16, 0.3)),
    ("l0", "linf", np.r_[np.ones(4), np.zeros(12)]),
    ("l0", "l2", np.r_[np.ones(4), np.zeros(12)]),
    ("l0", "l1", np.r_[np.ones(4), np.zeros(12)]),
    ("l2", "linf", np.ones(16)),
    ("l1", "linf", np.ones(16)),
    ("l2", "l1", np.ones(16)),
]


@pytest.mark.parametrize(("known", "wanted", "delta"), TIGHT)
def test_each_bound_is_reached_by_some_perturbation(known, wanted, delta):
    length = lengths(delta)
    assert implied_bound(length[known], known, wanted, 16) == pytest.approx(length[wanted])


def test_no_length_and_no_perturbation_stay_what_they_are():
    for known in NORMS:
        for wanted in NORMS:
            assert implied_bound([0.0, math.inf], known, wanted, 5).tolist() == [0.0, math.inf]


# -- what contradicts --------------------------------------------------------------------------------------------------


def test_probabilities_attacked_as_logits():
    """C&W in l2 far above what PGD in linf has in hand, as published for filter-pruned networks."""
    pgd = fixed_budget("pgd", "linf", 4 / 255, IDS, [False, False, False, True])
    carlini = minimum_norm("c&w", "l2", IDS, [1.2, 0.8, float("nan"), 3.0])
    found = only(pgd, carlini, entries=3072)
    assert (found.check, *found.subjects) == ("norm", "c&w", "pgd")
    assert found.samples == (7,)  # 8 is below 0.869, 9 says nothing, 10 was not broken
    assert found.claimed == (1.2,)
    assert found.bounds[0] == pytest.approx(4 / 255 * math.sqrt(3072))
    assert found.of == 4
    assert "probabilities" in str(found)
    assert "sample 7 claimed 1.2, at most 0.8694" in str(found)


def test_the_worst_comes_first_and_rows_name_every_sample():
    near = minimum_norm("tmn", "linf", IDS, [0.1, 0.1, 0.1, 0.1])
    far = minimum_norm("fmn", "linf", IDS, [0.2, 0.4, 0.105, 0.3])
    found = only(near, far)
    assert found.check == "attack"
    assert found.samples == (8, 10, 7)
    assert found.share == 0.75
    rows = NetworkCheck("net", "data", "test", (), (found,)).rows(by_sample=True)
    assert [row["sample_id"] for row in rows] == [8, 10, 7]
    assert rows[0]["claimed"] == 0.4


def test_tolerance_is_a_share_of_the_claim():
    near, far = minimum_norm("a", "l2", IDS, [0.95] * 4), minimum_norm("b", "l2", IDS, [1.0] * 4)
    assert not contradictions([near, far], entries=9, tolerance=0.06)
    assert only(near, far, tolerance=0.04).samples == tuple(IDS)


def test_a_success_at_a_budget_bounds_the_minimum_norm():
    pgd = fixed_budget("pgd", "linf", 0.1, IDS, [False] * 4)
    assert only(pgd, minimum_norm("fmn", "linf", IDS, [0.05, 0.1, 0.105, 0.2])).samples == (10,)


def test_an_epsilon_within_the_budget_refutes_robust_and_at_the_budget_rounding_is_forgiven():
    budget = 8 / 255
    autoattack = fixed_budget("autoattack", "linf", budget, IDS, [True] * 4)
    epsilon = np.float32([0.9 * budget, budget, 1.01 * budget, np.nan])
    found = only(autoattack, minimum_norm("fmn", "linf", IDS, epsilon))
    assert (found.check, found.subjects[0], found.samples) == ("budget", "autoattack", (7,))


def test_who_falls_at_a_budget_falls_at_every_larger_one():
    small = fixed_budget("pgd 0.1", "l2", 0.1, IDS, [False, True, False, True])
    large = fixed_budget("pgd 0.2", "l2", 0.2, IDS, [False, False, True, True])
    found = only(small, large)
    assert (found.check, found.subjects[0], found.samples) == ("budget", "pgd 0.2", (9,))


def test_an_adversarial_at_the_edge_of_the_budget_breaks_it_also_in_float32():
    budget = 8 / 255
    length = np.float32([budget, 0.5 * budget, np.nan, 1.0])
    assert float(length[0]) > budget
    broken = fixed_budget("apgd", "linf", budget, IDS, [False, False, False, True], length=length)
    np.testing.assert_allclose(broken.reached, [budget, 0.5 * budget, budget, np.inf], rtol=1e-7)
    found = only(broken, fixed_budget("pgd", "linf", budget, IDS, [True] * 4))
    assert found.samples == (8, 7, 9)


def test_budgets_bound_each_other_across_norms():
    linf, l2 = (fixed_budget(n, n, b, [1], [r]) for n, b, r in (("linf", 0.1, False), ("l2", 1.0, True)))
    assert only(linf, l2, entries=100).check == "norm"  # 0.1 x 10 is 1.0
    assert not contradictions([linf, l2], entries=101)


def test_changed_entries_bound_the_euclidean_length():
    l0 = minimum_norm("fmn", "l0", IDS, [4.0] * 4)
    assert only(l0, minimum_norm("ddn", "l2", IDS, [1.9, 2.0, 2.1, 2.3])).samples == (10,)


def test_more_steps_must_not_change_much():
    short = minimum_norm("fmn 30", "l2", IDS, [1.0] * 4, family="fmn", steps=30)
    long = minimum_norm("fmn 300", "l2", IDS, [1.0, 0.95, 0.5, 1.5], family="fmn", steps=300)
    found = contradictions([short, long], entries=9)
    assert {(one.check, one.subjects[0], one.samples) for one in found} == {
        ("steps", "fmn 30", (9,)),
        ("steps", "fmn 300", (10,)),
    }


def test_nothing_lies_within_a_verified_radius():
    proof = verified("complete", "linf", IDS, [0.1, 0.1, 0.0, float("nan")])
    found = contradictions(
        [
            proof,
            minimum_norm("fmn", "linf", IDS, [0.05, 0.2, 0.01, 0.01]),
            fixed_budget("pgd", "l0", 2, IDS, [False] * 4),
        ],
        entries=9,
    )
    assert [(one.check, one.subjects[1], one.samples) for one in found] == [("verified", "fmn", (7,))]


def test_a_clean_sample_is_right_or_wrong_for_all_attacks():
    right, wrong = minimum_norm("a", "l2", IDS, [1, 1, 1, 1]), minimum_norm("b", "linf", IDS, [1, 1, 0, 1])
    assert only(right, wrong).check == "clean"
    assert only(right, wrong).samples == (9,)


def test_verdicts_come_before_weaker_attacks():
    found = contradictions(
        [
            minimum_norm("weak", "linf", IDS, [1.0] * 4),
            minimum_norm("strong", "linf", IDS, [0.1, 0.1, 0.1, 0.0]),
            verified("complete", "linf", IDS, [0.5] * 4),
        ],
        entries=9,
    )
    assert [one.check for one in found] == ["verified", "clean", "clean", "attack"]


# -- what does not -----------------------------------------------------------------------------------------------------


def test_true_distances_never_contradict():
    """One perturbation a sample, measured in all norms, at all budgets: everything is true of it."""
    random = np.random.default_rng(0)
    delta = random.uniform(-1, 1, (20, 30)) * (random.uniform(size=(20, 30)) < 0.3)
    delta[:, 0] = 0.5
    ids = np.arange(20)
    length = {norm: np.array([lengths(row)[norm] for row in delta]) for norm in NORMS}
    evidence = [minimum_norm(norm, norm, ids, length[norm]) for norm in NORMS]
    evidence += [
        fixed_budget(f"{norm} {budget}", norm, float(budget), ids, length[norm] > budget)
        for norm in NORMS
        for budget in np.quantile(length[norm], [0.2, 0.5, 0.8])
    ]
    assert not contradictions(evidence, entries=30, tolerance=0)


def test_attacks_of_different_samples_have_nothing_to_say_to_each_other():
    a, b = minimum_norm("a", "l2", [1, 2], [1.0, 1.0]), minimum_norm("b", "l2", [3, 4], [0.1, 0.1])
    assert not contradictions([a, b], entries=4)


def test_samples_are_matched_by_id_not_by_place():
    a, b = minimum_norm("a", "l2", [1, 2], [1.0, 0.1]), minimum_norm("b", "l2", [2, 1], [0.1, 1.0])
    assert not contradictions([a, b], entries=4)


def test_not_found_claims_nothing():
    a, b = minimum_norm("a", "l2", [1], [float("nan")]), minimum_norm("b", "l2", [1], [0.1])
    assert not contradictions([a, b], entries=4)


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: minimum_norm("a", "l2", [1, 1], [0.1, 0.2]), "each sample once"),
        (lambda: minimum_norm("a", "l2", [1, 2], [0.1]), "one value for each"),
        (lambda: minimum_norm("a", "l2", [1], [-0.1]), "at least 0"),
        (lambda: minimum_norm("a", "l2", [1], [math.inf]), "finite"),
        (lambda: fixed_budget("a", "l2", 0.0, [1], [True]), "positive"),
        (lambda: implied_bound(1.0, "l2", "l3", 5), "must be one of"),
        (lambda: implied_bound(1.0, "l2", "l1", 0), "at least 1"),
        (lambda: contradictions([], entries=5, tolerance=1), "below 1"),
    ],
)
def test_bad_input_is_named(wrong, message):
    with pytest.raises(InputError, match=message):
        wrong()
