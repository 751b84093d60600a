"""Adversarials that lie too far are brought back to a boundary whose distance is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.truth import linear
from thinice.attacks import make_attack, verify
from thinice.attacks.boundary import PASSES, move_to_boundary
from thinice.attacks.result import FORWARD
from thinice.norms import NORM_TABLE
from thinice.numerics import exact
from thinice.types import NORMS, Outcome

KNOWN = linear(classes=3, count=8)


@pytest.mark.parametrize("norm", NORMS)
def test_what_lies_too_far_is_brought_to_the_boundary(norm):
    attack = make_attack("fmn", norm=norm)
    samples = KNOWN.inputs, KNOWN.labels
    near = attack(KNOWN.model, *samples, KNOWN.sample_ids)
    far = (KNOWN.inputs + (near.adversarials - KNOWN.inputs) * 1.3).clamp(0, 1)
    far[0] = KNOWN.inputs[0]  # nothing is claimed of this one
    found = verify(KNOWN.model, KNOWN.inputs, far, KNOWN.labels, norm=norm, evaluations=torch.ones(8))
    pulled = move_to_boundary(KNOWN.model, found, *samples, norm=norm)
    assert pulled.outcomes.tolist() == [Outcome.NOT_FOUND] + [Outcome.FOUND] * 7
    assert pulled.evaluations.tolist() == pytest.approx([1.0] + [1 + FORWARD * (3 + PASSES)] * 7)
    assert (pulled.epsilon[1:] <= found.epsilon[1:]).all()
    with torch.no_grad():
        assert (KNOWN.model(pulled.adversarials).argmax(1) != KNOWN.labels)[1:].all()
    truth = torch.from_numpy(KNOWN.distances[norm]).float()[1:]
    assert (pulled.epsilon[1:] >= truth * (1 - 1e-4)).all()
    torch.testing.assert_close(
        NORM_TABLE[norm].length(pulled.adversarials - KNOWN.inputs)[1:], pulled.epsilon[1:], rtol=1e-5, atol=0
    )
    assert (pulled.epsilon[1:] <= near.epsilon[1:] * (1 if norm == "l0" else 1.01)).all()


def test_where_nothing_is_nearer_the_find_stays():
    near = make_attack("fmn", norm="linf")(KNOWN.model, KNOWN.inputs, KNOWN.labels, KNOWN.sample_ids)
    pulled = move_to_boundary(KNOWN.model, near, KNOWN.inputs, KNOWN.labels, norm="linf")
    torch.testing.assert_close(pulled.epsilon, near.epsilon, rtol=1e-3, atol=0)
    assert (pulled.epsilon <= near.epsilon).all()
    none = verify(KNOWN.model, KNOWN.inputs, KNOWN.inputs, KNOWN.labels, norm="linf", evaluations=torch.ones(8))
    assert move_to_boundary(KNOWN.model, none, KNOWN.inputs, KNOWN.labels, norm="linf") is none


@pytest.mark.parametrize("name", ["tmn", "fmn"])
@pytest.mark.parametrize(("norm", "length"), [("linf", 1.0), ("l2", 4.0)])
def test_the_nearest_samples_are_as_near_in_bfloat16(name, norm, length):
    """Their epsilons are less than what bfloat16 rounds a pixel by: what it says of the boundary is noise."""
    layer = nn.Linear(16, 2)
    layer.weight.data = torch.tensor([[1 / 16] * 16, [0.0] * 16])  # class 0 where the mean exceeds a threshold
    layer.bias.data = torch.tensor([0.0, 0.6])
    network = nn.Sequential(nn.Flatten(), layer).requires_grad_(requires_grad=False)
    above = torch.tensor([2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 5e-3])
    inputs = (0.6 + above)[:, None, None, None].expand(-1, 1, 4, 4).contiguous()
    labels, ids = torch.zeros(6, dtype=torch.int64), torch.arange(6)
    with exact(torch.device("cpu")):
        nearest = make_attack(name, norm=norm, precision="bf16")(network, inputs, labels, ids)
    assert nearest.found.all()
    truth = above * length
    assert (nearest.epsilon >= truth * (1 - 1e-3)).all()
    assert (nearest.epsilon <= truth * 1.08).all()  # left where bfloat16 saw it: by the race 3 to 4 times as far
