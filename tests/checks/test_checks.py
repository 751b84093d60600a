"""After an evaluation: findings are stored and read again, warnings name what was seen, contradictions are told."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import thinice
from thinice.analysis.evaluation import bind_attack, verdicts
from thinice.analysis.session import MeasurementSession
from thinice.checks.run import run_checks
from thinice.checks.stored import stored_warnings
from thinice.models import as_classifier
from thinice.results import warning_texts


class Probabilities(nn.Module):
    """The example network with its softmax inside, so sharp that it saturates on some samples."""

    def __init__(self) -> None:
        super().__init__()
        self.network = thinice.load_classifier(thinice.example_checkpoints()["dense"]).module

    def forward(self, inputs):
        return self.network(inputs).softmax(1)


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    """Four samples are enough to see that the first that are right are looked at."""
    monkeypatch.setattr("thinice.checks.run.SAMPLES", 4)


@pytest.fixture(scope="module")
def samples():
    return thinice.load_samples("digits", limit=12)


@pytest.fixture(scope="module")
def dense():
    return thinice.load_classifier(thinice.example_checkpoints()["dense"])


@pytest.fixture
def look(tmp_path, samples):
    """Evaluate and run_checks, into one store."""
    store = thinice.open_store(tmp_path / "thinice.duckdb", new=True)

    def looked(classifier, attack, *, budget, norm="linf", selection=samples, checks=True, **settings):
        session = MeasurementSession(store, selection, device="cpu", progress=False)
        bound = bind_attack(session, classifier, attack, norm=norm, budget=budget, **settings)
        with session.run(bound, seed=0) as run:
            result = verdicts(session, classifier, bound, budget=budget, skip_known=False)
            if not checks:
                return None
            return run_checks(
                store,
                run,
                result,
                classifier=classifier,
                samples=selection,
                attack=bound,
                device=torch.device("cpu"),
            )

    looked.store = store
    return looked


def contradictions(findings):
    return [finding for finding in findings if finding.norms]


@pytest.mark.slow
def test_a_good_evaluation_has_no_warnings_and_keeps_every_check(look, dense):
    findings = look(dense, "fmn", budget=0.1)
    assert warning_texts(findings) == ()
    kept = look.store.sql("from findings")
    assert kept["check_name"].tolist() == [one.check for one in findings]
    assert not kept["raised"].any()
    assert set(kept["looked_at"]) == {4}


@pytest.mark.slow
def test_asked_again_the_findings_are_read(look, dense, monkeypatch):
    first = look(dense, "pgd", budget=0.05, rel_stepsize=0.1)
    monkeypatch.setattr("thinice.checks.run.check_network", None)  # looked at again, this would fail
    assert look(dense, "pgd", budget=0.05, rel_stepsize=0.1) == first


@pytest.mark.slow
def test_a_softmax_inside_is_named(look):
    network = as_classifier(Probabilities(), name="squashed")
    warnings = warning_texts(look(network, "fmn", budget=0.1))
    (warning,) = [warning for warning in warnings if warning.startswith("softmax_output")]
    assert "4 of 4 samples" in warning
    assert "attack what comes before the softmax" in warning
    named = look.store.sql("select checkpoint, attack from warnings where check_name = 'softmax_output'")
    assert named.values.tolist() == [["squashed", "fmn"]]


@pytest.mark.slow
def test_a_clamp_of_the_inputs_is_named(look, dense):
    network = as_classifier(nn.Sequential(nn.Hardtanh(0, 1), dense.module), name="clamped")
    (warning,) = warning_texts(look(network, "fmn", budget=0.1))
    assert warning.startswith("hidden_ends, 4 of 4 samples: a clamp of the inputs hides the gradient")
    assert "other programs' attacks will look too weak" in warning
    (told,) = stored_warnings(look.store)
    assert told.startswith("clamped on digits, fmn in linf: hidden_ends, 4 of 4 samples: a clamp of the inputs")


@pytest.mark.slow
def test_attacks_that_contradict_each_other_are_told_and_those_of_other_networks_are_not(look, dense):
    pruned = thinice.load_classifier(thinice.example_checkpoints()["pruned-95"])
    assert contradictions(look(dense, "fmn", budget=0.1, fallback=False)) == []
    weak = {"steps": 2, "learning_rate": 1.0, "bisections": 0, "fallback": False}
    findings = look(dense, "ho-fmn", budget=0.1, **weak)
    assert [one.subjects for one in contradictions(findings)] == [("ho-fmn", "fmn")]
    assert any("ho-fmn (linf) against fmn (linf)" in warning for warning in warning_texts(findings))
    assert contradictions(look(pruned, "fmn", budget=0.1)) == []


@pytest.mark.slow
def test_many_contradictions_are_counted(look, dense):
    weak = {"learning_rate": 1.0, "bisections": 0, "fallback": False, "scheduler": "none", "checks": False}
    for steps in range(1, 5):
        look(dense, "ho-fmn", budget=0.1, steps=steps, **weak)
    look(dense, "fmn", budget=0.1, checks=False)
    findings = look(dense, "fmn", budget=0.1, norm="l2")
    more = len(contradictions(findings)) - 4
    assert more > 0
    assert f"{more} more pairs of attacks contradict each other" in warning_texts(findings)[-1]


@pytest.mark.slow
def test_long_attacks_are_watched_on_fewer_samples_and_the_longest_on_none(look, dense, monkeypatch):
    monkeypatch.setattr("thinice.checks.run.PASSES", 100)

    def watched(steps):
        findings = look(dense, "fmn", budget=0.1, steps=steps)
        return {one.check: one.of for one in findings}.get("silent_success")

    assert [watched(steps) for steps in (5, 30, 150)] == [4, 2, None]


@pytest.mark.slow
def test_what_fell_to_square_alone_is_named(look):
    """Gradients through rounding are zero: the attacks with gradients break nothing that needs a step."""
    pytest.importorskip("pyautoattack")

    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))

        def forward(self, inputs):
            return self.network((inputs * 8).round() / 8)

    torch.manual_seed(2)
    network, inputs = Rounded().eval(), torch.rand(6, 1, 8, 8)
    with torch.no_grad():
        labels = network(inputs).argmax(1)
    findings = look(as_classifier(network), "autoattack", budget=0.3, selection=thinice.as_samples(inputs, labels))
    raised = [one.check for one in findings if one.raised]
    assert "unavailable_gradients" in raised
    assert "black_box_stronger" in raised
