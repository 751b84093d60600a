"""The attacks of a published study: its settings to the letter, and what they find of known networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.truth import linear
from thinice.attacks import make_attack
from thinice.errors import InputError
from thinice.types import Outcome


def test_the_settings_are_those_of_the_study():
    cw = make_attack("cw", norm="l2").settings
    expected = {"binary_search_steps": 9, "steps": 5000, "stepsize": 1.0, "confidence": 0, "initial_const": 100.0}
    assert {name: cw[name] for name in expected} == expected
    assert cw["abort_early"] is True
    bb = make_attack("bb", norm="l0").settings
    expected = {"binary_search_steps": 30, "steps": 500, "lr": 1e7, "lr_num_decay": 30, "lr_decay": 0.5}
    assert {name: bb[name] for name in expected} == expected
    assert bb["starts"] == "batch"


@pytest.mark.parametrize(("name", "norm"), [("cw", "linf"), ("bb", "l2")])
def test_each_minimises_its_own_norm(name, norm):
    with pytest.raises(InputError, match=f"attack {name!r} minimises"):
        make_attack(name, norm=norm)


def test_carlini_and_wagner_on_a_linear_network():
    known = linear(classes=3, count=10)
    attack = make_attack("cw", norm="l2", steps=200, fallback=False)
    nearest = attack(known.model, known.inputs, known.labels, known.sample_ids)
    assert nearest.found.all()
    ratio = nearest.epsilon.numpy() / known.distances["l2"]
    assert (ratio >= 0.999).all()
    assert np.median(ratio) < 30  # strides of 1 in arctanh space leave it far from the boundary, even given logits


@pytest.mark.slow
def test_brendel_and_bethge_on_a_linear_network():
    pytest.importorskip("numba")  # compiling takes all the time there is: fewer samples or steps save nothing
    known = linear(classes=3, count=5, spread=0.3)
    attack = make_attack("bb", norm="l0", steps=30, fallback=False)
    nearest = attack(known.model, known.inputs, known.labels, known.sample_ids)
    found = (nearest.outcomes == Outcome.FOUND).numpy()
    assert found.all()
    ratio = nearest.epsilon.numpy() / known.distances["l0"]
    assert (ratio >= 1).all()
    assert np.median(ratio) <= 2


def test_starts_are_other_samples_of_another_class_drawn_for_each_sample():
    from thinice.attacks.published import _others  # noqa: PLC0415

    inputs, labels = torch.rand(12, 1, 2, 2), torch.arange(12) % 3
    points, given = _others(inputs, labels, torch.arange(12), seed=0)
    assert given.all()
    chosen = [(inputs == point).flatten(1).all(1).nonzero().item() for point in points]
    assert all(labels[k] != label for k, label in zip(chosen, labels, strict=True))
    assert len(set(chosen)) > 4
    again, _ = _others(inputs, labels, torch.arange(12), seed=0)
    assert torch.equal(again, points)
    assert not torch.equal(_others(inputs, labels, torch.arange(12), seed=1)[0], points)
    _, given = _others(inputs, torch.zeros(12, dtype=torch.int64), torch.arange(12), seed=0)
    assert not given.any()
