"""Objectives and hooks: what the loop hands them, in which order, and what their answers change, on paper."""

# ruff: noqa: ARG002 - the loop hands over more than each toy uses

from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from tests.training.small import blobs, network, weights
from thinice.data import as_samples
from thinice.errors import InputError
from thinice.pruning import prune
from thinice.training import OBJECTIVES, Hook, Losses, Objective, Recipe, stream, train
from thinice.training.natural import Natural

ONE_STEP = Recipe(epochs=1, learning_rate=0.5, momentum=0.0, weight_decay=0.0)


class Linear(Objective):
    """The loss of a sample is the sum of its logits, so that the gradient of a weight is its input."""

    def losses(self, model, inputs, crafted, labels):
        logits = model(crafted)
        return Losses(logits.sum(1), logits)


def one_weight(value=1.0):
    """A network that multiplies by one weight and gives two logits: that, and 0."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    module[1].weight.data = torch.tensor([[value], [0.0]])
    return module


def two_samples():
    return as_samples(torch.tensor([0.25, 0.75]).reshape(2, 1, 1, 1), [0, 1], sample_ids=[70, 30])


def test_one_step_down_the_mean_loss_is_on_paper():
    module = one_weight()
    (epoch,) = train(module, two_samples(), ONE_STEP, objective=Linear())
    assert module[1].weight[0].item() == 1 - 0.5 * 0.5  # the mean input is 0.5
    assert epoch.loss == 0.5
    assert epoch.accuracy == 0.5  # both are taken for class 0


def test_weights_of_samples_go_by_their_ids():
    @dataclass
    class Weigh(Hook):
        factors: dict

        def weigh(self, sample_ids, losses):
            assert not losses.requires_grad
            return torch.tensor([self.factors[number] for number in sample_ids.tolist()])

    module = one_weight()
    (epoch,) = train(module, two_samples(), ONE_STEP, objective=Linear(), hooks=[Weigh({70: 4.0, 30: 0.0})])
    assert module[1].weight[0].item() == 1 - 0.5 * (4 * 0.25 + 0 * 0.75) / 2
    assert epoch.loss == 0.5 * 4 * 0.25
    both = one_weight()
    train(
        both, two_samples(), ONE_STEP, objective=Linear(), hooks=[Weigh({70: 4.0, 30: 1.0}), Weigh({70: 0.5, 30: 8.0})]
    )
    assert both[1].weight[0].item() == 1 - 0.5 * (2 * 0.25 + 8 * 0.75) / 2


def test_a_penalty_is_added():
    class Square(Hook):
        def penalty(self, model):
            return model[1].weight.square().sum()

    module = one_weight(2.0)
    (epoch,) = train(module, two_samples(), ONE_STEP, objective=Linear(), hooks=[Square(), Hook()])
    assert module[1].weight[0].item() == 2 - 0.5 * (0.5 + 2 * 2.0)
    assert epoch.loss == 2 * 0.5 + 4


def test_a_gradient_can_be_taken_elsewhere():
    """Sharpness-aware: the gradient at the weight plus 3, applied at the weight; nothing is crafted twice."""

    class Squared(Linear):
        crafted = 0

        def craft(self, model, inputs, labels, generator):
            Squared.crafted += 1
            return inputs

        def losses(self, model, inputs, crafted, labels):
            logits = model(crafted)
            return Losses(logits.square().sum(1), logits)

    class Ahead(Hook):
        seen = ()

        def around_backward(self, model, backward):
            weight = model[1].weight
            first = backward()
            assert weight.grad[0].item() == pytest.approx(2 * 1.0 * (0.25**2 + 0.75**2) / 2)
            weight.data[0] += 3
            second = backward()
            weight.data[0] -= 3
            self.seen = (first.loss.item(), second.loss.item())
            return second

    module, hook = one_weight(), Ahead()
    (epoch,) = train(module, two_samples(), ONE_STEP, objective=Squared(), hooks=[hook])
    mean_square = (0.25**2 + 0.75**2) / 2
    assert module[1].weight[0].item() == pytest.approx(1 - 0.5 * 2 * 4 * mean_square)
    assert hook.seen == (pytest.approx(mean_square), pytest.approx(16 * mean_square))
    assert epoch.loss == pytest.approx(16 * mean_square)
    assert Squared.crafted == 1


def test_a_hook_trains_its_own_parameters_while_the_weights_are_frozen():
    @dataclass
    class Scale(Hook):
        scale: nn.Parameter = field(init=False, repr=False)

        def prepare(self, model):
            model.requires_grad_(requires_grad=False)
            self.scale = nn.Parameter(torch.tensor(2.0))

        def parameters(self):
            return [self.scale]

        def penalty(self, model):
            return self.scale * 3

    module, hook = one_weight(), Scale()
    train(module, two_samples(), ONE_STEP, objective=Natural(), hooks=[hook])
    assert hook.scale.item() == 2 - 0.5 * 3
    assert module[1].weight.tolist() == [[1.0], [0.0]]


def test_the_order_of_calls():
    calls = []

    class Told(Objective):
        def craft(self, model, inputs, labels, generator):
            calls.append("craft")
            assert model.training
            return inputs

        def losses(self, model, inputs, crafted, labels):
            calls.append("losses")
            return Natural().losses(model, inputs, crafted, labels)

    class Telling(Hook):
        def prepare(self, model):
            calls.append("prepare")

        def parameters(self):
            calls.append("parameters")
            return ()

        def around_backward(self, model, backward):
            calls.append("around_backward")
            return backward()

        def after_epoch(self, model, done):
            calls.append(f"after_epoch {done}")

    for name in ("weigh", "penalty", "after_step", "after_batch"):
        setattr(Telling, name, lambda *_, name=name: calls.append(name))
    train(network(), blobs(8), Recipe(epochs=2, batch_size=4), objective=Told(), hooks=[Telling()])
    step = ["craft", "around_backward", "losses", "weigh", "penalty", "after_step", "after_batch"]
    assert calls == ["prepare", "parameters", *step, *step, "after_epoch 0.5", *step, *step, "after_epoch 1.0"]


def test_forgetting_can_be_recorded():
    """Each epoch tells of every sample once, with losses and logits that agree and carry no graph."""
    samples = blobs(30)
    seen = []

    class Record(Hook):
        def after_batch(self, batch):
            assert not any(value.requires_grad for value in (batch.losses, batch.logits, batch.loss))
            torch.testing.assert_close(
                batch.losses, nn.functional.cross_entropy(batch.logits, batch.labels, reduction="none")
            )
            torch.testing.assert_close(batch.loss, batch.losses.mean())
            seen.append(dict(zip(batch.sample_ids.tolist(), batch.labels.tolist(), strict=True)))

    train(network(), samples, Recipe(epochs=2, batch_size=7), hooks=[Record()])
    for epoch in (seen[:5], seen[5:]):
        together = {number: label for batch in epoch for number, label in batch.items()}
        assert together == dict(zip(samples.sample_ids.tolist(), samples.labels.tolist(), strict=True))
        assert sum(map(len, epoch)) == 30


def test_masks_hold_whatever_hooks_do():
    class Grow(Hook):
        def after_step(self, model):
            model[0].weight.data += 1

        def after_epoch(self, model, done):
            model[0].weight.data += 1

    pruned = prune(network(), sparsity=0.5)
    train(pruned.module, blobs(), Recipe(epochs=1), masks=pruned.masks, hooks=[Grow()])
    for name, mask in pruned.masks.kept.items():
        assert (pruned.module.get_parameter(name)[~mask] == 0).all()


def test_chance_belongs_to_the_epoch_alone():
    """What an objective draws, and what hooks draw from torch, repeat, and disturb neither order nor caller."""

    @dataclass
    class Noise(Objective):
        draw: bool = True

        def craft(self, model, inputs, labels, generator):
            if self.draw:
                noise.append(torch.randn(2, generator=generator))
            return inputs

        def losses(self, model, inputs, crafted, labels):
            return Natural().losses(model, crafted, crafted, labels)

    noise, drawn = [], []

    class Draw(Hook):
        def after_epoch(self, model, done):
            drawn.append(torch.rand(1).item())

    recipe = Recipe(epochs=2, shift=1, flip=True)
    results = []
    for draw in (True, False, True):
        torch.rand(1)
        state = torch.get_rng_state()
        module = network()
        train(module, blobs(), recipe, objective=Noise(draw=draw), hooks=[Draw()])
        assert torch.equal(torch.get_rng_state(), state)
        results.append(weights(module))
    assert torch.equal(results[0], results[1])
    assert drawn[:2] == drawn[2:4] == drawn[4:]
    assert drawn[0] != drawn[1]
    first, second = torch.stack(noise).chunk(2)
    assert torch.equal(first, second)
    assert len(first.unique()) == 2 * 4  # two epochs of two batches, two numbers each


def test_streams_are_told_apart_by_name():
    names = [
        (seed, *name)
        for seed in range(5)
        for name in [("objective", epoch) for epoch in range(50)] + [("global", epoch) for epoch in range(50)]
    ]
    names += [(0, "a", "b"), (0, "ab"), (0, "a", 1, 2), (0, "a", 12), (0, "a", "12"), (0,), (1,)]
    states = {tuple(torch.rand(3, generator=stream(*name)).tolist()) for name in names}
    assert len(states) == len(names)
    torch.testing.assert_close(torch.rand(3, generator=stream(3, "x")), torch.rand(3, generator=stream(3, "x")))


def test_dropout_does_not_repeat_the_order_of_samples():
    """Both would start from the same numbers if they were seeded alike."""
    drawn = []

    class Draw(Hook):
        def weigh(self, sample_ids, losses):
            drawn.append(torch.randperm(len(sample_ids)).tolist())
            drawn.append(sample_ids.tolist())

    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    train(module, blobs(20), Recipe(epochs=1, batch_size=20), hooks=[Draw()])
    assert sorted(drawn[0]) == sorted(drawn[1]) == list(range(20))
    assert drawn[0] != drawn[1]


def test_answers_of_another_shape_are_refused():
    """A column of weights would broadcast to (N, N) and train something else."""

    class Mean(Linear):
        def losses(self, model, inputs, crafted, labels):
            values, logits = super().losses(model, inputs, crafted, labels)
            return Losses(values.mean(), logits)

    class Column(Hook):
        def weigh(self, sample_ids, losses):
            return losses[:, None]

    class Row(Hook):
        def penalty(self, model):
            return model[1].weight[0]

    with pytest.raises(InputError, match=r"`objective` Mean must return the shape \(2,\), got \(\): leave the mean to"):
        train(one_weight(), two_samples(), ONE_STEP, objective=Mean())
    with pytest.raises(InputError, match=r"`weigh` of Column must return the shape \(2,\), got \(2, 1\): one factor a"):
        train(one_weight(), two_samples(), ONE_STEP, objective=Linear(), hooks=[Column()])
    with pytest.raises(InputError, match=r"`penalty` of Row must return the shape \(\), got \(1,\): take its sum"):
        train(one_weight(), two_samples(), ONE_STEP, objective=Linear(), hooks=[Row()])


def test_what_is_no_hook_or_objective_is_refused():
    with pytest.raises(InputError, match=r"derived from thinice\.training\.Hook, got the class Hook: make one of it"):
        train(one_weight(), two_samples(), ONE_STEP, hooks=[Hook])
    with pytest.raises(InputError, match="Hook, got 3"):
        train(one_weight(), two_samples(), ONE_STEP, hooks=[3])
    with pytest.raises(InputError, match="`objective` 3 is unknown: choose from"):
        train(one_weight(), two_samples(), ONE_STEP, objective=3)


def test_chance_in_prepare_repeats_and_leaves_the_caller_alone():
    drawn = []

    class Draw(Hook):
        def prepare(self, model):
            drawn.append(torch.rand(2).tolist())

    for seed in (0, 0, 1):
        torch.rand(1)
        state = torch.get_rng_state()
        train(network(), blobs(8), Recipe(epochs=1, seed=seed), hooks=[Draw()])
        assert torch.equal(torch.get_rng_state(), state)
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_every_objective_trains(name):
    objective = OBJECTIVES.make(name)
    assert isinstance(objective, Objective)
    assert OBJECTIVES.summaries()[name]
    module = network()
    history = train(module, blobs(), Recipe(epochs=2, batch_size=50), objective=name)
    assert history[-1].loss < history[0].loss
