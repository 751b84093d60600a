"""Losses against their definitions, and where they have to say that they do not know."""

from __future__ import annotations

import pytest
import torch

from thinice.losses import are_probabilities, dlr, has_gradient, margin


def test_it_is_the_true_logit_minus_the_best_other():
    logits = torch.randn(100, 7)
    labels = torch.randint(7, (100,))
    for row, label, found in zip(logits, labels, margin(logits, labels), strict=True):
        others = [value for index, value in enumerate(row.tolist()) if index != label]
        assert found.item() == torch.tensor(row[label].item() - max(others)).item()


def test_its_sign_is_the_prediction():
    logits, labels = torch.randn(1000, 5), torch.randint(5, (1000,))
    assert torch.equal(margin(logits, labels) > 0, logits.argmax(1) == labels)


def test_a_tie_is_zero_and_its_gradient_follows_one_class():
    logits = torch.tensor([[1.0, 2.0, 2.0]], requires_grad=True)
    value = margin(logits, torch.tensor([0]))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert value.item() == -1
    assert sorted(gradient[0].tolist()) == [-1.0, 0.0, 1.0]
    assert margin(torch.tensor([[2.0, 2.0]]), torch.tensor([1])).item() == 0


def test_nan_anywhere_is_nan():
    for place in range(3):
        logits = torch.zeros(1, 3)
        logits[0, place] = torch.nan
        assert margin(logits, torch.tensor([1])).isnan().all()


def test_one_class_alone_is_infinitely_safe():
    assert margin(torch.tensor([[3.0]]), torch.tensor([0])).item() == torch.inf


def test_it_leaves_the_logits_alone():
    logits = torch.randn(4, 3)
    before = logits.clone()
    margin(logits, torch.tensor([0, 1, 2, 0]))
    assert torch.equal(logits, before)


def test_the_ratio_of_logits_is_the_published_one_and_knows_no_scale():
    logits = torch.tensor([[5.0, 3.0, 1.0, 0.0], [5.0, 4.0, 2.0, -9.0]])
    labels = torch.tensor([0, 2])
    torch.testing.assert_close(dlr(logits, labels), torch.tensor([2 / 4, -3 / 3]))
    torch.testing.assert_close(dlr(1000 * logits + 7, labels), dlr(logits, labels))
    assert dlr(torch.tensor([[3.0, 1.0], [3.0, 1.0]]), torch.tensor([0, 1])).tolist() == [1, -1]
    assert dlr(torch.zeros(1, 4), torch.tensor([0])).tolist() == [0]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0.5, 0.25, 0.25], True),
        ([1.0, 0.0, 0.0], True),
        ([0.5, 0.25, 0.24995], True),
        ([0.5, 0.25, 0.2498], False),
        ([1.25, -0.25, 0.0], False),
        ([torch.nan, 0.5, 0.5], False),
    ],
)
def test_probabilities_are_told_from_logits(row, expected):
    assert are_probabilities(torch.tensor([row, [7.0, 0.0, 0.0]], dtype=torch.float64)).tolist() == [expected, False]


def test_a_gradient_is_usable_where_it_is_finite_and_not_zero():
    gradient = torch.tensor([[0.0, 0.0], [0.0, -1e-40], [torch.inf, 0.0], [torch.nan, 1.0]])
    assert has_gradient(gradient).tolist() == [False, True, False, False]
