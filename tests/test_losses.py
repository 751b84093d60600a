"""The margin against its definition, and where it has to say that it does not know."""

from __future__ import annotations

import torch

from thinice.losses import margin


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
