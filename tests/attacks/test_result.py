"""The judge believes nothing: each kind of false claim is refused, and a true one measured again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.truth import linear
from thinice.attacks import MinNormResult, concatenate, verify
from thinice.attacks.result import predict
from thinice.errors import InputError
from thinice.norms import NORM_TABLE
from thinice.types import NORMS, FailureReason, FoundBy, Outcome


def bright(inputs: Tensor) -> Tensor:
    """Class 1 where the mean is over a half."""
    mean = inputs.flatten(1).mean(1, keepdim=True)
    return torch.cat([0.5 - mean, mean - 0.5], 1)


INPUTS = torch.full((1, 1, 2, 2), 0.25)
LABELS = torch.tensor([0])


def verdict(
    candidate: Tensor, *, model=bright, inputs: Tensor = INPUTS, labels: Tensor = LABELS, norm="linf"
) -> MinNormResult:
    return verify(model, inputs, candidate, labels, norm=norm, evaluations=torch.ones(len(inputs)))


def assert_not_found(nearest: MinNormResult) -> None:
    assert nearest.outcomes.tolist() == [Outcome.NOT_FOUND]
    assert nearest.epsilon.isnan().all()
    assert nearest.predictions.tolist() == [-1]
    assert torch.equal(nearest.adversarials, INPUTS)


@pytest.mark.parametrize("norm", NORMS)
def test_a_true_claim_is_measured_again(norm):
    candidate = torch.tensor([[[[0.25, 1.0, 1.0, 0.5]]]]).view(1, 1, 2, 2)
    nearest = verdict(candidate, norm=norm)
    assert nearest.outcomes.tolist() == [Outcome.FOUND]
    assert nearest.found.tolist() == [True]
    assert nearest.predictions.tolist() == [1]
    assert nearest.epsilon.item() == pytest.approx({"l0": 3, "l1": 1.75, "l2": 1.1875**0.5, "linf": 0.75}[norm])
    assert torch.equal(nearest.adversarials, candidate)


@pytest.mark.parametrize(
    "claim",
    [
        pytest.param(INPUTS, id="the clean input"),
        pytest.param(torch.full((1, 1, 2, 2), 0.49), id="not adversarial"),
        pytest.param(torch.full((1, 1, 2, 2), 1.0 + 1e-6), id="a hair above 1"),
        pytest.param(torch.tensor([[[[-1e-6, 1.0], [1.0, 1.0]]]]), id="a hair below 0"),
        pytest.param(torch.tensor([[[[torch.nan, 1.0], [1.0, 1.0]]]]), id="nan"),
        pytest.param(torch.tensor([[[[torch.inf, 1.0], [1.0, 1.0]]]]), id="inf"),
    ],
)
def test_a_false_claim_is_refused(claim):
    assert_not_found(verdict(claim))


def test_a_claim_where_the_network_says_nan_is_refused():
    def broken(inputs):
        return torch.where(inputs.flatten(1).mean(1, keepdim=True) > 0.5, torch.nan, bright(inputs))

    assert_not_found(verdict(torch.full((1, 1, 2, 2), 0.75), model=broken))


def test_one_nan_logit_is_enough_to_refuse_even_beside_a_winner():
    def broken(inputs):
        logits = bright(inputs)
        return torch.cat([logits, torch.where(logits[:, 1:] > 0, torch.nan, 0.0) - 5], 1)

    assert_not_found(verdict(torch.full((1, 1, 2, 2), 0.75), model=broken))


def test_nan_at_the_clean_input_is_no_misclassification():
    nearest = verdict(torch.full((1, 1, 2, 2), 0.75), model=lambda inputs: bright(inputs) * torch.nan)
    assert_not_found(nearest)
    assert nearest.clean_predictions.tolist() == [-1]


def test_nan_does_not_match_a_label_of_minus_one():
    def nan_at_the_input(inputs):
        return torch.where(inputs.flatten(1)[:, :1] == 0.25, torch.nan, bright(inputs))

    claim = torch.full((1, 1, 2, 2), 0.75)
    assert_not_found(verdict(claim, model=nan_at_the_input, labels=torch.tensor([-1])))


def test_a_misclassified_input_has_epsilon_zero_whatever_is_claimed():
    nearest = verdict(torch.full((1, 1, 2, 2), 0.75), labels=torch.tensor([1]))
    assert nearest.outcomes.tolist() == [Outcome.MISCLASSIFIED]
    assert nearest.epsilon.tolist() == [0]
    assert nearest.predictions.tolist() == nearest.clean_predictions.tolist() == [0]
    assert torch.equal(nearest.adversarials, INPUTS)


def test_a_claim_is_judged_at_storage_precision():
    """In float64 it is beyond the boundary; the float32 that is stored lies on it, and there class 0 comes first."""
    candidate = torch.full((1, 1, 2, 2), 0.5 + 1e-12, dtype=torch.float64)
    assert bright(candidate).argmax(1).tolist() == [1]
    assert_not_found(verdict(candidate))


def test_epsilon_is_that_of_the_stored_float32_tensor():
    known = linear(classes=3)
    candidates = (known.inputs + 0.3 * torch.randn_like(known.inputs)).clamp(0, 1).double()
    for norm in NORMS:
        nearest = verify(known.model, known.inputs, candidates, known.labels, norm=norm, evaluations=torch.zeros(32))
        assert nearest.adversarials.dtype == nearest.epsilon.dtype == torch.float32
        delta = nearest.adversarials.double() - known.inputs.double()
        assert nearest.found.any()
        torch.testing.assert_close(
            nearest.epsilon[nearest.found], NORM_TABLE[norm].length(delta)[nearest.found].float(), rtol=0, atol=0
        )


def test_each_sample_is_judged_by_itself():
    inputs = torch.full((4, 1, 2, 2), 0.25)
    inputs[3] = 0.75
    candidates = torch.stack([torch.full((1, 2, 2), value) for value in (0.6, 0.4, torch.nan, 0.1)])
    nearest = verify(
        bright, inputs, candidates, torch.zeros(4, dtype=torch.int64), norm="linf", evaluations=torch.ones(4)
    )
    assert [Outcome(value).text for value in nearest.outcomes.tolist()] == [
        "found",
        "not_found",
        "not_found",
        "misclassified",
    ]


def test_a_network_that_works_in_place_cannot_change_what_is_judged():
    candidate = torch.full((1, 1, 2, 2), 0.75)
    nearest = verdict(candidate, model=lambda inputs: bright(inputs.sub_(0.1).add_(0.1).mul_(2).div_(2)))
    assert torch.equal(nearest.adversarials, torch.full((1, 1, 2, 2), 0.75))
    assert nearest.epsilon.item() == 0.5
    refused = verdict(torch.full((1, 1, 2, 2), 0.3), model=lambda inputs: bright(inputs.add_(0.1)))
    assert refused.outcomes.tolist() == [Outcome.NOT_FOUND]
    assert torch.equal(INPUTS, torch.full((1, 1, 2, 2), 0.25))


def test_a_network_that_changes_its_mind_makes_no_adversarial_of_the_clean_input():
    calls = []

    def fickle(inputs):
        calls.append(inputs)
        return bright(inputs) if len(calls) == 1 else -bright(inputs)

    assert_not_found(verdict(INPUTS, model=fickle))
    assert len(calls) == 2


def test_it_leaves_no_graph_and_works_inside_no_grad_or_not():
    weight = torch.ones(1, requires_grad=True)
    nearest = verdict(torch.full((1, 1, 2, 2), 0.75), model=lambda inputs: bright(inputs) * weight)
    assert not nearest.adversarials.requires_grad
    assert not nearest.epsilon.requires_grad


def test_no_samples_are_a_result_too():
    nothing = torch.zeros(0, 3, 4, 4)
    nearest = verify(bright, nothing, nothing, torch.zeros(0, dtype=torch.int64), norm="l2", evaluations=torch.zeros(0))
    assert len(nearest) == 0
    assert nearest.adversarials.shape == nothing.shape
    assert repr(nearest) == "MinNormResult(0 samples: 0 misclassified, 0 found, 0 not_found)"


def test_predict_says_minus_one_for_nan_and_refuses_what_are_no_logits():
    logits = torch.tensor([[0.0, 1.0], [torch.nan, 1.0], [2.0, 1.0], [torch.inf, -torch.inf]])
    assert predict(lambda _: logits, torch.zeros(4, 1)).tolist() == [1, -1, 0, 0]
    with pytest.raises(InputError, match=r"logits of shape \(N, K\)"):
        predict(lambda inputs: inputs, torch.zeros(2, 3, 4, 4))


def test_concatenate_puts_batches_together_in_their_order():
    parts = [verdict(torch.full((1, 1, 2, 2), value)) for value in (0.75, 0.3, 0.6)]
    whole = concatenate(parts, like=INPUTS)
    assert len(whole) == 3
    assert whole.epsilon.nan_to_num(-1).tolist() == pytest.approx([0.5, -1, 0.35])
    assert len(concatenate([], like=INPUTS)) == 0


def test_what_a_search_says_of_itself_counts_only_where_its_claim_does():
    inputs = torch.full((3, 1, 2, 2), 0.25)
    inputs[2] = 0.75
    candidates = torch.stack([torch.full((1, 2, 2), value) for value in (0.75, 0.3, 0.9)])
    found_by = torch.full((3,), int(FoundBy.RANDOM), dtype=torch.int8)
    nearest = verify(
        bright,
        inputs,
        candidates,
        torch.zeros(3, dtype=torch.int64),
        norm="linf",
        evaluations=torch.ones(3),
        converged=torch.ones(3, dtype=torch.bool),
        found_by=found_by,
        failure_reasons=torch.full((3,), int(FailureReason.SATURATED), dtype=torch.int8),
    )
    assert nearest.converged.tolist() == [True, False, False]
    assert nearest.found_by.tolist() == [FoundBy.RANDOM, FoundBy.NONE, FoundBy.NONE]
    assert nearest.failure_reasons.tolist() == [FailureReason.SATURATED] * 3


def test_a_search_that_says_nothing_has_found_by_itself_and_not_converged():
    nearest = verdict(torch.full((1, 1, 2, 2), 0.75))
    assert nearest.found_by.tolist() == [FoundBy.SEARCH]
    assert nearest.converged.tolist() == [False]
    assert nearest.failure_reasons.tolist() == [FailureReason.NONE]


def test_results_of_some_samples_can_be_replaced():
    whole = concatenate([verdict(torch.full((1, 1, 2, 2), value)) for value in (0.75, 0.3, 0.6)], like=INPUTS)
    mended = whole.replaced(torch.tensor([1]), verdict(torch.full((1, 1, 2, 2), 1.0)))
    assert mended.epsilon.tolist() == pytest.approx([0.5, 0.75, 0.35])
    assert mended.found.all()
    assert whole.found.tolist() == [True, False, True]


def test_repr_counts():
    assert repr(verdict(torch.full((1, 1, 2, 2), 0.75))) == (
        "MinNormResult(1 samples: 0 misclassified, 1 found, 0 not_found; median epsilon of the found 0.5)"
    )
