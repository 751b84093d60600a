"""Every fast path of a search against the plain one: the network as it is, in float32, all samples at once.

What a fast path is, and which other tests hold it against plain float32, says docs/repeating.md.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

import thinice
from tests.conftest import ROOT
from thinice.attacks import make_attack
from thinice.engines import DeterministicEngine, LocalEngine
from thinice.errors import InputError
from thinice.models import as_classifier
from thinice.numerics import deterministic, exact

PATHS = {
    "folded and channels last": ({}, 1e-5),
    "batches of 3": ({"batch_size": 3}, 1e-5),
    "deterministic": ({"deterministic": True}, 1e-5),
    "bf16": ({"precision": "bf16"}, 0.02),
}
"""Options, and by which share of itself the median epsilon may move; what is found is verified in float32."""


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(2)
    module = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(96, 4)
    )
    with torch.no_grad():
        module[1].running_mean.uniform_(-0.2, 0.2)
        module[1].running_var.uniform_(0.1, 0.4)
    return as_classifier(module)


@pytest.fixture(scope="module")
def samples(network):
    inputs = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        labels = network(inputs).argmax(1)
    return thinice.as_samples(inputs, labels, classes=("a", "b", "c", "d"))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_distances_are_those_of_the_plain_search(network, samples, norm):
    with exact(torch.device("cpu")):
        plain = make_attack("fmn", norm=norm, steps=40)(network, samples.inputs[:], samples.labels, samples.sample_ids)
    assert plain.found.all()
    for path, (options, share) in PATHS.items():
        fast = thinice.measure(network, samples, attack="fmn", norm=norm, steps=40, progress=False, **options)
        assert torch.equal(fast.outcomes, plain.outcomes), path
        with torch.no_grad():
            assert torch.equal(network(fast.adversarials).argmax(1), fast.predictions), path
        assert (fast.predictions != samples.labels).all(), path
        ratio = (fast.epsilon / plain.epsilon).numpy()
        assert abs(np.median(ratio) - 1) < share, (path, ratio)


def test_deterministic_operations_alone_and_flags_put_back(network, samples):
    flags = torch.are_deterministic_algorithms_enabled, lambda: torch.backends.cudnn.deterministic
    before, seen = [flag() for flag in flags], []

    class Task:
        values = 64

        def __len__(self):
            return 2

        def on(self, device):  # noqa: ARG002
            return lambda part: seen.append((part, [flag() for flag in flags])) or part

    engine = DeterministicEngine(LocalEngine(torch.device("cpu"), 1))
    parts = [slice(0, 1), slice(1, 2)]
    assert list(engine.run(Task())) == [(part, part) for part in parts]
    assert seen == [(part, [True, True]) for part in parts]
    assert [flag() for flag in flags] == before == [False, False]
    options = {"attack": "fmn", "steps": 5, "progress": False}
    held, plain = (thinice.measure(network, samples, deterministic=held, **options) for held in (True, False))
    assert torch.equal(held.epsilon, plain.epsilon)


def test_an_operation_without_a_deterministic_form_is_one_line():
    message = "`deterministic`: put_ of this network has no deterministic form"
    with pytest.raises(InputError, match=message) as caught, deterministic():
        raise RuntimeError("put_ does not have a deterministic implementation, but you set …")
    assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match="something else"), deterministic():
        raise RuntimeError("something else")


def test_every_test_that_the_page_names_is_there():
    page = (ROOT / "docs" / "repeating.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) >= 10
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), (file, name)
