"""What a study is said to cost."""

from __future__ import annotations

import pytest

from thinice.attacks import make_attack
from thinice.attacks.fixed_budget import make_ensemble
from thinice.studies import parse_study
from thinice.studies.estimate import ATTACKING, MAKING, STARTING, estimate_study, passes_of

pytest.importorskip("yaml")

TEXT = """\
setups:
  - {architecture: digits_cnn, data: digits, samples: 30, training_samples: 100, training: {recipe: natural, epochs: 3}}
  - {architecture: cnn5, data: "npz:no.npz", training: {recipe: pgd, epochs: 2}}
retraining: {recipe: pgd, steps: 4, epochs: 2, held_out: 0.5}
methods: [magnitude-global-unstructured]
rates: [1, 4]
stages: [2, 4]
seeds: 2
attacks: [{attack: pgd, norm: linf, budgets: [0.1, 0.2], steps: 7}, {attack: fmn, norm: l2, budgets: [1, 2], steps: 9}]
"""


def test_attacks_cost_what_their_settings_say():
    known = {"norm": "linf", "budget": 0.1, "classes": 10, "shape": (1, 8, 8)}
    assert passes_of(make_ensemble("pgd", **known)) == 40
    assert passes_of(make_attack("cw", norm="l2")) == 9 * 5000
    assert passes_of(make_attack("bb", norm="l0")) == 500
    assert 60 < passes_of(make_attack("tmn", norm="l0")) < 120


def test_autoattack_does_not_say_what_it_costs():
    pytest.importorskip("pyautoattack")
    assert passes_of(make_ensemble("autoattack", norm="linf", budget=0.1, classes=10, shape=(1, 8, 8))) is None


def test_passes_are_counted_and_a_second_is_measured(monkeypatch, tmp_path):
    """Two dense networks of 3 epochs; four pruned ones of 2 epochs on half of the samples, 4 steps and 1 each."""
    monkeypatch.setattr("thinice.studies.estimate.MEASURED", 0.05)
    study = parse_study(TEXT, "costs")
    digits, absent = estimate_study(study, store=tmp_path / "s.duckdb", networks=tmp_path / "networks")
    assert (digits.cells, digits.networks, digits.made, digits.finished) == (8, 6, 0, 0)
    assert digits.training_passes == 2 * 3 * 100 + 4 * 2 * 50 * 5
    assert digits.attack_passes == 4 * 30 * (7 + 7 + 9)  # rate 2 is not measured
    fixed = STARTING + 6 * MAKING + 4 * 3 * ATTACKING  # of 4 networks with 3 searches: fmn answers for both budgets
    assert fixed < digits.seconds < fixed + 20
    assert not list(tmp_path.iterdir())
    assert (absent.cells, absent.seconds) == (8, None)
    assert "no.npz" in absent.note
