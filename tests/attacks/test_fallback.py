"""Never empty-handed: networks that starve a search of gradients, and samples whose distance is known all the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.truth import Known, half_space, linear
from thinice.attacks import Candidates, make_attack
from thinice.attacks.attack import Attack
from thinice.attacks.boundary import MarginOracle, UnbrokenSamples, shorten
from thinice.attacks.external import PassCounter
from thinice.attacks.fallback import fall_back
from thinice.attacks.result import FORWARD
from thinice.models import as_classifier
from thinice.norms import NORM_TABLE
from thinice.numerics import random_directions
from thinice.types import NORMS, FailureReason, FoundBy, Outcome

pytestmark = pytest.mark.sampled

every_norm = pytest.mark.parametrize("norm", NORMS)
KNOWN = linear(classes=3, count=8)


def blind(norm: str, *, fallback: int = 1) -> Attack:
    """An attack whose own search never finds anything, and costs nothing."""

    def search(_model, inputs: Tensor, *_: Tensor) -> Candidates:
        return Candidates(inputs.clone(), torch.zeros(len(inputs)))

    return Attack("blind", norm, {"seed": 0, "fallback": fallback}, search)


class Softmax(nn.Module):
    """Probabilities of a linear network, so sharp that float32 rounds them to 0 and 1."""

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.inner, self.sharpness = KNOWN.model, sharpness

    def forward(self, inputs: Tensor) -> Tensor:
        return (self.inner(inputs) * self.sharpness).softmax(1)


class Float32Only(Softmax):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs.float()).float()


def large_logits(inputs: Tensor) -> Tensor:
    return KNOWN.model(inputs) * 1e4


def one_hot(inputs: Tensor) -> Tensor:
    return nn.functional.one_hot(KNOWN.model(inputs).argmax(1), 3).float()


def quantised(inputs: Tensor) -> Tensor:
    return KNOWN.model((inputs * 64).round() / 64)


ROUNDED = {"l0": 0, "l1": 20 / 128, "l2": 20**0.5 / 128, "linf": 1 / 128}
"""A step of `quantised` is 1/64 wide, and each of 20 pixels can be rounded by half of one for nothing."""


def decoys(inputs: Tensor) -> Tensor:
    """Class 0 has twelve shadows that follow it everywhere: the margin to the best of them never moves."""
    mean = inputs.flatten(1).mean(1, keepdim=True)
    shadows = [0 * mean - 0.001 * k for k in range(13)]
    return torch.cat([*shadows, 10 * (mean - 0.75)], 1)


def constant(inputs: Tensor) -> Tensor:
    return torch.tensor([[1.0, 0.0, -1.0]]).expand(len(inputs), 3)


def run(model, norm: str, known: Known = KNOWN):
    return blind(norm)(model, known.inputs, known.labels, known.sample_ids)


def excess(nearest, norm: str, which: Tensor | None = None) -> Tensor:
    truth = torch.from_numpy(KNOWN.distances[norm])
    return nearest.epsilon / (truth if which is None else truth[which])


@every_norm
@pytest.mark.parametrize(
    ("model", "found_by", "failure_reason", "bound"),
    [
        (large_logits, FoundBy.FLOAT64, FailureReason.NONE, 1.01),
        (Softmax(100), FoundBy.FLOAT64, FailureReason.NONE, 1.01),
        (Softmax(1e4), None, FailureReason.SATURATED, 1.7),
        (Float32Only(1e4), FoundBy.STARTS, FailureReason.SATURATED, 1.7),
        (one_hot, FoundBy.STARTS, FailureReason.SATURATED, 1.7),
    ],
    ids=["large logits", "softmax", "saturated", "saturated in float32", "one-hot"],
)
def test_starved_networks_are_crossed_and_what_found_and_why_is_told(norm, model, found_by, failure_reason, bound):
    nearest = run(model, norm)
    assert nearest.found.all()
    assert (excess(nearest, norm) >= 1 - 1e-3).all()
    assert excess(nearest, norm).median() <= bound
    assert (excess(nearest, norm) <= 2.5).all()
    if found_by is not None:
        assert nearest.found_by.tolist() == [found_by] * 8
    assert nearest.failure_reasons.tolist() == [failure_reason] * 8
    with torch.no_grad():
        assert (model(nearest.adversarials).argmax(1) != KNOWN.labels).all()


class Plateau(nn.Module):
    """Two classes behind a tanh that float32 rounds to 1 at every sample, and float64 does not."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = half_space(count=8).model

    def forward(self, inputs: Tensor) -> Tensor:
        logits = self.inner(inputs)
        return torch.tanh(PLATEAU * (logits - logits.flip(1)))


PLATEAU = 10 / 0.2  # the samples are this far from a tie at least, and tanh(10) is 1 in float32


@every_norm
@pytest.mark.parametrize("wrapped", [lambda module: module, as_classifier], ids=["module", "classifier"])
def test_where_float32_is_flat_float64_shows_the_way(norm, wrapped):
    known = half_space(count=8)
    network = Plateau().eval()
    near = (known.model(known.inputs).diff().abs().squeeze(1) * PLATEAU < 17).nonzero().squeeze(1)
    assert len(near) >= 3  # farther away float64 is flat as well
    batch = known.inputs[near], known.labels[near], known.sample_ids[near]
    nearest = blind(norm)(wrapped(network), *batch)
    assert nearest.found_by.tolist() == [FoundBy.FLOAT64] * len(near)
    assert nearest.failure_reasons.tolist() == [FailureReason.SATURATED] * len(near)
    truth = torch.from_numpy(known.distances[norm])[near]
    assert (nearest.epsilon >= truth * (1 - 1e-3)).all()
    assert (nearest.epsilon <= truth * 1.05).all()
    without = blind(norm)(network.forward, *batch)  # nothing there to copy
    assert without.found.all()
    assert (without.found_by == FoundBy.STARTS).sum() >= len(near) - 1  # one may stumble upon a gradient


@pytest.mark.slow
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), norm=st.sampled_from(NORMS))
def test_shortening_keeps_across_and_makes_nothing_longer(seed, norm):
    generator = torch.Generator().manual_seed(seed)
    weight, inputs = torch.randn(4, 12, generator=generator), torch.rand(6, 1, 3, 4, generator=generator)

    def model(points):
        return nn.functional.one_hot((points.flatten(1) @ weight.T).argmax(1), 4).float()

    labels, ids = model(inputs).argmax(1), torch.arange(6)
    oracle = MarginOracle.around(model, inputs, labels)
    lost = UnbrokenSamples(oracle, oracle, inputs, ids, NORM_TABLE[norm], 0)
    starts = torch.rand(6, 1, 3, 4, generator=generator)
    there = model(starts).argmax(1) != labels
    starts = torch.where(there.view(-1, 1, 1, 1), starts, inputs)
    points = shorten(lost, starts)
    assert torch.equal(points[~there], inputs[~there])
    assert (model(points).argmax(1) != labels)[there].all()
    before, after = (NORM_TABLE[norm].length(x - inputs) for x in (starts, points))
    assert (after <= before * (1 + 1e-5)).all()
    assert (points >= 0).all()
    assert (points <= 1).all()


@every_norm
def test_steps_without_gradients_are_crossed(norm):
    nearest = run(quantised, norm)
    assert nearest.found.all()
    assert nearest.failure_reasons.tolist() == [FailureReason.ZERO_GRADIENT] * 8
    truth = torch.from_numpy(KNOWN.distances[norm])
    assert (nearest.epsilon >= truth * (1 - 1e-3) - ROUNDED[norm]).all()
    assert (nearest.epsilon / truth).median() <= 2


GUIDED = [
    *(
        pytest.param(name, norm, {"effort": "quick"}, id=f"{name}-{norm}")
        for name in ("fmn", "ho-fmn")
        for norm in NORMS
    ),
    pytest.param("foolbox:LInfFMNAttack", "linf", {"steps": 30}),
    pytest.param("cw", "l2", {"steps": 50, "binary_search_steps": 3}),
]


@pytest.mark.parametrize(("name", "norm", "settings"), GUIDED)
def test_attacks_that_go_by_gradients_say_where_there_is_none(name, norm, settings):
    """There the fall-back looks, too, and the nearer counts; elsewhere it costs nothing."""
    attack, alone = (make_attack(name, norm=norm, fallback=use, **settings) for use in (True, False))
    samples = KNOWN.inputs, KNOWN.labels, KNOWN.sample_ids
    claims = attack.search(quantised, *samples)
    assert claims.gradient_masked is not None
    assert claims.gradient_masked.all()
    found, stumbled = attack(quantised, *samples), alone(quantised, *samples)
    assert found.found.all()
    assert not (found.epsilon > stumbled.epsilon).any()
    truth = torch.from_numpy(KNOWN.distances[norm])
    assert (found.epsilon >= truth * (1 - 1e-3) - ROUNDED[norm]).all()
    assert (found.epsilon / truth).median() <= 2
    claims = attack.search(KNOWN.model, *samples)
    assert not claims.gradient_masked.any()
    assert torch.equal(attack(KNOWN.model, *samples).evaluations, alone(KNOWN.model, *samples).evaluations)


def test_one_sample_without_a_gradient_does_not_speak_for_the_others():
    def dark(inputs):  # flat where the first pixel is black
        logits = KNOWN.model(inputs)
        return torch.where(inputs.flatten(1)[:, :1] == 0, logits.round(decimals=2), logits)

    inputs = KNOWN.inputs.clone()
    inputs[::2, ..., 0, 0] = 0
    labels = dark(inputs).argmax(1)
    for name in ("fmn", "ho-fmn", "foolbox:LInfFMNAttack"):
        claims = make_attack(name, norm="linf", steps=1).search(dark, inputs, labels, KNOWN.sample_ids)
        assert claims.gradient_masked.tolist() == [True, False] * 4, name


def test_an_attack_that_asks_for_no_gradients_does_not_say_that_there_is_none():
    attack = make_attack("foolbox:LinearSearchBlendedUniformNoiseAttack", norm="l2", directions=10, steps=10)
    assert not attack.search(quantised, KNOWN.inputs, KNOWN.labels, KNOWN.sample_ids).gradient_masked.any()


@pytest.mark.parametrize(("norm", "distance"), [("l0", 50), ("l1", 25), ("l2", 2.5), ("linf", 0.25)])
def test_where_the_margin_shows_no_way_another_loss_does(norm, distance):
    inputs, labels = torch.full((2, 1, 10, 10), 0.5), torch.zeros(2, dtype=torch.int64)
    nearest = blind(norm)(decoys, inputs, labels, torch.arange(2))
    assert nearest.found_by.tolist() == [FoundBy.LOSSES] * 2
    assert nearest.failure_reasons.tolist() == [FailureReason.NONE] * 2
    assert (nearest.epsilon >= distance * (1 - 1e-4)).all()
    assert (nearest.epsilon <= distance * (1.2 if norm == "l0" else 1.02)).all()


@every_norm
def test_a_network_of_one_answer_stays_not_found_and_says_why(norm):
    labels = torch.zeros(8, dtype=torch.int64)
    nearest = blind(norm)(constant, KNOWN.inputs, labels, KNOWN.sample_ids)
    assert nearest.outcomes.tolist() == [Outcome.NOT_FOUND] * 8
    assert nearest.failure_reasons.tolist() == [FailureReason.ZERO_GRADIENT] * 8
    assert nearest.found_by.tolist() == [FoundBy.NONE] * 8
    assert torch.equal(nearest.adversarials, KNOWN.inputs)
    assert (nearest.evaluations > 10).all()  # the looks at it are counted
    assert (nearest.evaluations < 100).all()


def test_what_is_not_a_number_is_told():
    def broken(inputs):
        return (
            constant(inputs) + torch.where((inputs - KNOWN.inputs).flatten(1).abs().sum(1) > 0, torch.nan, 0)[:, None]
        )

    nearest = blind("l2")(broken, KNOWN.inputs, torch.zeros(8, dtype=torch.int64), KNOWN.sample_ids)
    assert nearest.failure_reasons.tolist() == [FailureReason.NON_FINITE] * 8
    assert not nearest.found.any()


def test_a_clean_input_that_is_not_a_number_is_told_at_no_cost():
    nearest = blind("l2")(lambda inputs: constant(inputs) * torch.nan, KNOWN.inputs, KNOWN.labels, KNOWN.sample_ids)
    assert nearest.failure_reasons.tolist() == [FailureReason.NON_FINITE] * 8
    assert nearest.evaluations.tolist() == pytest.approx([FORWARD] * 8)


@every_norm
def test_a_network_that_throws_dice_is_told_and_crossed_where_it_is_sure(norm):
    generator = torch.Generator().manual_seed(0)

    def random(inputs):
        return KNOWN.model(inputs) + 0.01 * torch.randn(len(inputs), 3, generator=generator)

    nearest = run(random, norm)
    assert nearest.failure_reasons.tolist() == [FailureReason.NON_DETERMINISTIC] * 8
    assert nearest.found.sum() >= 7  # the judge throws its own dice once more
    assert (excess(nearest, norm)[nearest.found] >= 0.8).all()


@pytest.mark.slow
@every_norm
def test_the_result_of_a_sample_is_its_own(norm):
    whole = run(one_hot, norm)
    for k in (0, 4, 7):
        part = slice(k, k + 1)
        alone = blind(norm)(one_hot, KNOWN.inputs[part], KNOWN.labels[part], KNOWN.sample_ids[part])
        assert alone.epsilon.item() == pytest.approx(whole.epsilon[k].item(), rel=1e-4)
        assert alone.evaluations.item() == pytest.approx(whole.evaluations[k].item())


def test_samples_that_are_found_already_cost_nothing_more():
    attack = make_attack("fmn", norm="l2", effort="quick")
    without = make_attack("fmn", norm="l2", effort="quick", fallback=False)
    batch = KNOWN.model, KNOWN.inputs, KNOWN.labels, KNOWN.sample_ids
    assert torch.equal(attack(*batch).evaluations, without(*batch).evaluations)
    assert attack(*batch).found_by.tolist() == [FoundBy.SEARCH] * 8


def test_only_the_lost_ones_are_searched_again():
    """An attack that finds every second sample: those keep their result and cost, bit by bit."""
    inner = make_attack("fmn", norm="l2", effort="quick", fallback=False)

    def search(model, inputs, labels, sample_ids):
        claims = inner.search(model, inputs, labels, sample_ids)
        claims.candidates[1::2] = inputs[1::2]
        return claims

    batch = KNOWN.model, KNOWN.inputs, KNOWN.labels, KNOWN.sample_ids
    half = Attack("half", "l2", {"fallback": 0}, search)(*batch)
    both = Attack("half", "l2", {"fallback": 1}, search)(*batch)
    assert half.found.tolist() == [True, False] * 4
    assert both.found.all()
    assert both.found_by.tolist() == [FoundBy.SEARCH, FoundBy.FLOAT64] * 4
    assert torch.equal(both.epsilon[::2], half.epsilon[::2])
    assert torch.equal(both.evaluations[::2], half.evaluations[::2])
    assert (both.evaluations[1::2] > half.evaluations[1::2] + 10).all()


def test_without_the_fall_back_nothing_more_is_tried():
    nearest = blind("l2", fallback=0)(KNOWN.model, KNOWN.inputs, KNOWN.labels, KNOWN.sample_ids)
    assert not nearest.found.any()
    assert nearest.failure_reasons.tolist() == [FailureReason.NONE] * 8
    assert "fallback" in make_attack("fmn").settings
    assert "fallback" not in make_attack("fmn", fallback=False).settings


@pytest.mark.parametrize("model", [KNOWN.model, one_hot, constant], ids=["float64", "starts", "nothing"])
def test_every_evaluation_is_counted(model):
    network = PassCounter(model)  # no module inside: nothing runs on a copy that does not count
    labels = model(KNOWN.inputs).argmax(1)
    claims = fall_back(network.forward, KNOWN.inputs, labels, KNOWN.sample_ids, norm="linf")
    spent, passes = claims.evaluations.mean().item(), network.passes_per_sample(8)
    if model is constant:  # there is nothing to go back through: a look counts in full all the same
        assert passes <= spent <= 2 * passes
    else:
        assert spent == pytest.approx(passes, rel=0.05, abs=1.0)


@every_norm
def test_what_is_claimed_lies_in_the_box_and_is_as_long_as_it_looks(norm):
    claims = fall_back(one_hot, KNOWN.inputs, KNOWN.labels, KNOWN.sample_ids, norm=norm)
    assert (claims.candidates >= 0).all()
    assert (claims.candidates <= 1).all()
    length = NORM_TABLE[norm].length(claims.candidates - KNOWN.inputs)
    assert (length > 0).all()
    nearest = run(one_hot, norm)
    torch.testing.assert_close(nearest.epsilon, length.float(), rtol=1e-5, atol=1e-6)


def test_images_of_any_shape_are_taken():
    images = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))

    def bright(inputs):
        mean = inputs.flatten(1).mean(1, keepdim=True)
        return torch.cat([mean < 0.55, mean >= 0.55], 1).float()

    labels = bright(images).argmax(1)
    nearest = blind("linf")(bright, images, labels, torch.arange(2))
    truth = (images.flatten(1).mean(1) - 0.55).abs()
    assert nearest.found.all()
    assert (nearest.epsilon >= truth * (1 - 1e-3)).all()
    assert (nearest.epsilon <= truth * 3).all()


def test_random_directions_point_everywhere():
    """Both signs, no drift, and different ones for each sample, seed and position."""
    ids = torch.arange(4)
    first = random_directions(torch.zeros(4, 4000), ids, 0)
    assert first.min() < -0.99
    assert first.max() > 0.99
    assert first.mean(1).abs().max() < 0.05  # 5 standard errors of 0.577 / sqrt(4000)
    assert first.var(1).sub(1 / 3).abs().max() < 0.03
    correlations = torch.corrcoef(torch.cat([first, random_directions(torch.zeros(4, 4000), ids, 1)]))
    assert (correlations - torch.eye(8)).abs().max() < 0.08
