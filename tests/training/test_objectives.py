"""Objectives: losses and gradients against their formulas in float64, crafted inputs against their definition."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.training.small import blobs, network, weights
from thinice.data import as_samples
from thinice.errors import InputError
from thinice.training import Recipe, train
from thinice.training.crafting import ascend, started
from thinice.training.fast import Fast
from thinice.training.history import Epoch
from thinice.training.mart import MART
from thinice.training.mixed import Mixed
from thinice.training.passes import evaluating
from thinice.training.pgd_at import PGD
from thinice.training.trades import TRADES


def seed(number=0):
    return torch.Generator().manual_seed(number)


def linear():
    """Three logits, linear in four pixels."""
    layer = nn.Linear(4, 3).double()
    layer.weight.data = torch.tensor([[1.0, -2.0, 0.5, 0.0], [0.3, 1.0, -1.0, 0.0], [-1.0, 0.2, 0.4, 0.0]]).double()
    layer.bias.data = torch.tensor([0.1, -0.2, 0.3]).double()
    return nn.Sequential(nn.Flatten(), layer)


def batch(count=5):
    inputs = torch.rand(count, 1, 2, 2, generator=seed(), dtype=torch.float64)
    crafted = (inputs + 0.1 * torch.randn(inputs.shape, generator=seed(1), dtype=torch.float64)).clamp(0, 1)
    return inputs, crafted, torch.arange(count) % 3


def softmax(row):
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def by_hand(name, clean, crafted, label, beta):
    """The loss of one sample, as the paper writes it, from two rows of logits."""
    p, q = softmax(clean), softmax(crafted)
    divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    if name == "trades":
        return -math.log(p[label]) + beta * divergence
    if name == "mart":
        others = max(value for k, value in enumerate(q) if k != label)
        return -math.log(q[label]) - math.log(1.0001 - others) + beta * divergence * (1 - p[label])
    if name == "mixed":
        return -0.25 * math.log(p[label]) - 0.75 * math.log(q[label])
    return -math.log(q[label])


OBJECTIVES = {"pgd": PGD(), "fast": Fast(), "trades": TRADES(beta=6.0), "mart": MART(beta=5.0)}
OBJECTIVES |= {"mixed": Mixed(share=0.25)}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_and_gradient_are_those_of_the_formula(name):
    model, (inputs, crafted, labels) = linear(), batch()
    objective = OBJECTIVES[name]
    beta = getattr(objective, "beta", 0.0)

    def mean_by_hand():
        with torch.no_grad():
            rows = zip(model(inputs).tolist(), model(crafted).tolist(), labels.tolist(), strict=True)
            return [by_hand(name, clean, other, label, beta) for clean, other, label in rows]

    values, logits = objective.losses(model, inputs, crafted, labels)
    torch.testing.assert_close(values, torch.tensor(mean_by_hand(), dtype=torch.float64), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(logits, model(crafted))
    values.mean().backward()
    weight, step = model[1].weight, 1e-6
    for place in ((0, 0), (1, 2), (2, 1)):
        sides = []
        for sign in (1, -1):
            weight.data[place] += sign * step
            sides.append(sum(mean_by_hand()) / len(labels))
            weight.data[place] -= sign * step
        assert weight.grad[place].item() == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_crafted_inputs_are_within_the_budget_and_worse(name, norm):
    model = network()
    train(model, blobs(), Recipe(epochs=3))
    model.train()
    inputs = blobs(40).inputs
    with evaluating(model), torch.no_grad():
        labels = model(inputs).argmax(1)
    objective = type(OBJECTIVES[name])(budget=0.2, norm=norm)
    crafted = objective.craft(model, inputs, labels, seed())
    delta = (crafted - inputs).flatten(1)
    length = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert crafted.min() >= 0
    assert crafted.max() <= 1
    assert (length <= 0.2 + 1e-6).all()
    assert (length >= 0.05).all()
    assert not crafted.requires_grad
    with evaluating(model), torch.no_grad():
        before, after = (functional.cross_entropy(model(points), labels) for points in (inputs, crafted))
    assert after > before
    assert model.training
    assert objective.threat() == (norm, 0.2)


def test_an_ascent_on_a_linear_function_is_on_paper():
    """In linf all go to the corner of the ball; in l2 along the gradient, to its end."""
    slope = torch.tensor([3.0, -4.0])
    inputs = torch.full((1, 2), 0.5)
    settings = {"budget": 0.1, "step": 0.03, "steps": 5}
    corner = ascend(lambda points: (points * slope).sum(), inputs, inputs.clone(), norm="linf", **settings)
    torch.testing.assert_close(corner, torch.tensor([[0.6, 0.4]]))
    two = ascend(lambda points: (points * slope).sum(), inputs, inputs.clone(), norm="linf", **settings | {"steps": 2})
    torch.testing.assert_close(two, torch.tensor([[0.56, 0.44]]))
    end = ascend(lambda points: (points * slope).sum(), inputs, inputs.clone(), norm="l2", **settings)
    torch.testing.assert_close(end, torch.tensor([[0.56, 0.42]]))


def test_fast_takes_one_step_of_its_length_from_a_random_start():
    model = linear().float()
    inputs, labels = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    objective = Fast(budget=0.1, step_size=0.02)
    start = started(inputs, "uniform", 0.1, "linf", seed(3))
    assert (start - inputs).abs().max() <= 0.1
    probabilities = functional.softmax(model(start), dim=1)[0]
    gradient = (probabilities - torch.tensor([1.0, 0, 0])) @ model[1].weight
    expected = (start.flatten(1) + 0.02 * gradient.sign()).clamp(0.4, 0.6)
    crafted = objective.craft(model, inputs, labels, seed(3))
    torch.testing.assert_close(crafted.flatten(1), expected)
    assert Fast(budget=0.1).step == 0.125


def test_uniform_starts_fill_the_ball():
    inputs = torch.full((400, 1, 2, 2), 0.5)
    deltas = (started(inputs, "uniform", 0.1, "linf", seed()) - inputs).flatten()
    assert deltas.abs().max() <= 0.1
    assert deltas.mean().abs() < 0.01
    assert deltas.std() == pytest.approx(0.2 / math.sqrt(12), rel=0.05)
    near = (started(inputs, "normal", 0.1, "linf", seed()) - inputs).flatten()
    assert near.std() == pytest.approx(0.001, rel=0.05)


def test_trades_climbs_the_divergence_and_not_the_loss():
    """Where the label is wrong on purpose, the ascent of TRADES does not care."""
    model = linear().float()
    inputs = torch.full((1, 1, 2, 2), 0.5)
    crafted = [TRADES(budget=0.1).craft(model, inputs, torch.tensor([k]), seed()) for k in (0, 2)]
    torch.testing.assert_close(*crafted)
    others = [PGD(budget=0.1).craft(model, inputs, torch.tensor([k]), seed()) for k in (0, 2)]
    assert not torch.allclose(*others)


def test_a_step_of_adversarial_training_is_on_paper():
    """One sample, one weight: the crafted input is the corner of the ball, and the step follows from there."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    module[1].weight.data = torch.tensor([[1.0], [-1.0]])
    recipe = Recipe(epochs=1, learning_rate=0.2, momentum=0.0, weight_decay=0.0)
    samples = as_samples(torch.tensor([[[[0.5]]]]), [0])
    (epoch,) = train(module, samples, recipe, objective=PGD(budget=0.1, steps=3))
    chance = 1 / (1 + math.exp(-2 * 0.4))  # of class 0 at the crafted input 0.4
    torch.testing.assert_close(
        module[1].weight[:, 0], torch.tensor([1 + 0.2 * 0.4 * (1 - chance), -1 - 0.2 * 0.4 * (1 - chance)])
    )
    assert epoch.loss == pytest.approx(-math.log(chance))
    assert epoch.robust_accuracy == 1.0


def test_eval_mode_leaves_running_statistics_alone_and_train_mode_moves_them():
    samples = blobs(20)
    for mode, moves in (("eval", False), ("train", True)):
        model = network().train()
        before = model[1].running_mean.clone()
        PGD(mode=mode, steps=2).craft(model, samples.inputs, samples.labels, seed())
        assert torch.equal(before, model[1].running_mean) != moves


def rows(*shares):
    return [Epoch(k, 0.1, 1.0, 0.5, 0.6, 1.0, robust_accuracy=share) for k, share in enumerate(shares, start=1)]


@pytest.mark.parametrize(
    ("shares", "samples", "spoilt"),
    [
        ((0.3,), 300, False),
        ((0.3, 0.35, 0.02), 300, True),
        ((0.3, 0.35, 0.18), 300, False),  # more than half is left
        ((0.3, 0.35, 0.17), 300, True),
        ((0.05, 0.02), 100, False),  # chance alone may do that
        ((0.3, 0.1), 10, False),
        ((0.0, 0.0), 300, False),
    ],
)
def test_a_collapse_is_told_from_chance(shares, samples, spoilt):
    assert (Fast().spoilt(rows(*shares), samples) is not None) == spoilt


@pytest.mark.parametrize(
    ("clean", "trained", "spoilt"),
    [
        ((0.6, 0.25), (0.3, 0.33), False),  # an epoch at a high rate: clean accuracy fell as deep
        ((0.6, 0.55), (0.3, 0.25), True),
        ((0.6, 0.8), (0.3, 0.6), True),
        ((None, None), (0.3, 0.25), False),  # nothing is held out: crafted samples were learnt worse as well
        ((None, None), (0.3, 0.6), True),
    ],
)
def test_a_rough_epoch_is_no_collapse(clean, trained, spoilt):
    robust = (0.3, 0.12)
    history = [Epoch(k + 1, 0.1, 1.0, trained[k], clean[k], 1.0, robust_accuracy=robust[k]) for k in range(2)]
    assert (Fast().spoilt(history, 300) is not None) == spoilt


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (PGD, {"budget": 8}, "`budget` 8 is beyond any linf perturbation of inputs in [0, 1]: did you mean 8/255?"),
        (PGD, {"budget": 0}, "`budget` must be a number above 0, such as 8/255, got 0"),
        (PGD, {"budget": "8/255"}, "`budget` must be a number above 0, such as 8/255, got '8/255'"),
        (PGD, {"step_size": -1}, "`step_size` must be a number above 0"),
        (PGD, {"steps": 0}, "`steps` must be a whole number of at least 1, got 0"),
        (PGD, {"norm": "l1"}, "`norm` must be one of linf, l2, got 'l1'"),
        (PGD, {"start": "zero"}, "`start` must be one of uniform, normal, none, got 'zero'"),
        (PGD, {"mode": "test"}, "`mode` must be one of train, eval, got 'test'"),
        (Fast, {"steps": 3}, "`steps` of fast is 1, got 3: objective 'pgd' takes more"),
        (TRADES, {"beta": -1.0}, "`beta` must be a number of at least 0, got -1.0"),
        (Mixed, {"share": 1.5}, "`share` must be a number from 0 to 1, got 1.5"),
        (MART, {"beta": math.nan}, "`beta` must be a number of at least 0, got nan"),
    ],
)
def test_settings_are_refused_in_one_line(kind, settings, message):
    with pytest.raises(InputError) as error:
        kind(**settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.sampled
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_seed_repeats_an_adversarial_training_to_the_bit_also_when_resumed(name, tmp_path):
    objective = type(OBJECTIVES[name])(budget=0.1)

    def weights_of(seed, **more):
        module = network()
        recipe = Recipe(epochs=3, batch_size=64, shift=1, flip=True, held_out=0.2, seed=seed)
        train(module, blobs(), recipe, objective=objective, **more)
        return weights(module)

    def stop(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    first = weights_of(0)
    assert torch.equal(first, weights_of(0))
    assert not torch.equal(first, weights_of(1))
    with pytest.raises(KeyboardInterrupt):
        weights_of(0, resume=tmp_path / "state.pt", progress=stop)
    assert torch.equal(first, weights_of(0, resume=tmp_path / "state.pt"))
