"""Training: what it learns, what it repeats, what masks hold, and how it resumes."""

import copy
import math

import pytest
import torch
from torch import nn

from tests.training.small import blobs, network, weights
from thinice.data import as_samples
from thinice.errors import CheckpointError, InputError
from thinice.pruning import prune
from thinice.training import SCHEDULES, Recipe, accuracy, train
from thinice.training.natural import Natural


def test_learns_and_tells():
    module, samples = network(), blobs()
    told = []
    history = train(module, samples, Recipe(epochs=4, batch_size=50), validation=samples, progress=told.append)
    assert tuple(told) == history
    assert [epoch.number for epoch in history] == [1, 2, 3, 4]
    assert history[-1].loss < history[0].loss
    assert history[-1].validation_accuracy == accuracy(module, samples) == 1.0
    assert not module.training
    # a half cosine, at the first step of each quarter
    assert [epoch.learning_rate for epoch in history] == pytest.approx(
        [0.05 * (1 + math.cos(math.pi * part / 4)) for part in range(4)]
    )


def test_who_wants_to_know_each_step_is_told():
    class Watch(list):
        def __call__(self, epoch):
            self.append(epoch.number)

        def step(self, *counts):
            self.append(counts)

    watch, samples = Watch(), blobs()
    size = math.ceil(len(samples) / 2)
    train(network(), samples, Recipe(epochs=2, batch_size=size), progress=watch)
    assert watch == [(1, 1, 2), (1, 2, 2), 1, (2, 1, 2), (2, 2, 2), 2]


def test_one_step_is_on_paper():
    """One sample, one step of a linear network: the gradient of the smoothed cross-entropy by hand."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    module[1].weight.data, module[1].bias.data = torch.tensor([[1.0], [-1.0]]), torch.zeros(2)
    recipe = Recipe(epochs=1, learning_rate=0.2, momentum=0.0, weight_decay=0.1)
    samples = as_samples(torch.tensor([[[[0.5]]]]), [1])
    (epoch,) = train(module, samples, recipe, objective=Natural(label_smoothing=0.2))
    chance = 1 / (1 + math.exp(-1.0))  # of class 0: the logits are 0.5 and -0.5
    gradient = torch.tensor([chance - 0.1, 1 - chance - 0.9])
    start = torch.tensor([1.0, -1.0])
    torch.testing.assert_close(module[1].weight[:, 0], start - 0.2 * (0.5 * gradient + 0.1 * start))
    torch.testing.assert_close(module[1].bias.data, -0.2 * gradient)
    assert epoch.loss == pytest.approx(-0.1 * math.log(chance) - 0.9 * math.log(1 - chance))
    assert epoch.accuracy == 0


def test_every_step_is_torchs():
    """Two epochs against the plain loop of torch's own optimiser and scheduler, in the same order of samples."""
    samples = blobs(50)
    ours = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    theirs = copy.deepcopy(ours)
    train(ours, samples, Recipe(epochs=2, batch_size=20, seed=3))
    optimizer = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
    for epoch in (1, 2):
        generator = torch.Generator().manual_seed(3 * 1_000_003 + epoch)
        for index in torch.randperm(50, generator=generator).split(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(theirs(samples.inputs[index]), samples.labels[index]).backward()
            optimizer.step()
            schedule.step()
    torch.testing.assert_close(weights(ours), weights(theirs))


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_every_schedule_is_a_factor(name):
    schedule = SCHEDULES.get(name)
    factors = [schedule(step / 1000) for step in range(1000)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert max(factors) == 1
    assert Recipe(epochs=1, learning_rate=0.3, schedule=name).rate(0.25) == 0.3 * schedule(0.25)


def test_a_new_schedule_is_a_function_and_a_line(monkeypatch):
    monkeypatch.setitem(SCHEDULES.rows, "late", (lambda done: float(done >= 0.5), "nothing in the first half"))
    module = network()
    before = module[0].weight.clone()
    weights_by_epoch = []
    recipe = Recipe(epochs=2, schedule="late", momentum=0.0)
    history = train(
        module, blobs(), recipe, progress=lambda _: weights_by_epoch.append(module[0].weight.detach().clone())
    )
    assert [epoch.learning_rate for epoch in history] == [0, 0.1]
    assert torch.equal(weights_by_epoch[0], before)
    assert not torch.equal(weights_by_epoch[1], before)


def test_the_seed_repeats_everything_and_leaves_the_caller_alone():
    samples = blobs()
    results = []
    for seed in (0, 0, 1):
        torch.rand(1)  # the caller's random state differs from call to call
        state = torch.get_rng_state()
        module = network()
        train(module, samples, Recipe(epochs=2, seed=seed, shift=1, flip=True))
        assert torch.equal(torch.get_rng_state(), state)
        results.append(weights(module))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("augmentation", [{"shift": 1}, {"flip": True}])
def test_augmentation_reaches_the_network(augmentation):
    samples = blobs()
    plain, augmented = network(), network()
    train(plain, samples, Recipe(epochs=1))
    train(augmented, samples, Recipe(epochs=1, **augmentation))
    assert not torch.equal(weights(plain), weights(augmented))


def test_masks_hold_against_momentum_and_weight_decay():
    samples = blobs()
    dense = network()
    train(dense, samples, Recipe(epochs=1))
    pruned = prune(dense, sparsity=0.8)
    free = copy.deepcopy(pruned.module)
    train(pruned.module, samples, Recipe(epochs=2), masks=pruned.masks)
    train(free, samples, Recipe(epochs=2))
    for name, mask in pruned.masks.kept.items():
        after, before = pruned.module.get_parameter(name), dense.get_parameter(name)
        assert (after[~mask] == 0).all()
        assert (after[mask] != before[mask]).any()
        assert (free.get_parameter(name)[~mask] != 0).any()  # without masks, zeros do not last


def test_masks_hold_from_the_start():
    """A dense network handed over with masks is pruned before the first step, not after it."""
    samples = blobs()
    dense = network()
    pruned = prune(dense, sparsity=0.8)
    for module in (dense, pruned.module):
        train(module, samples, Recipe(epochs=1), masks=pruned.masks)
    assert torch.equal(weights(dense), weights(pruned.module))


def test_a_resumed_training_is_an_undisturbed_one(tmp_path):
    samples = blobs()
    path = tmp_path / "state.pt"
    recipe = Recipe(epochs=4, batch_size=64, shift=1)
    whole = network()
    history = train(whole, samples, recipe)

    def stop(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(network(), samples, recipe, resume=path, progress=stop)
    resumed = network(seed=5)  # whatever it was: the file has the weights
    again = train(resumed, samples, recipe, resume=path)
    assert torch.equal(weights(whole), weights(resumed))
    assert [epoch.loss for epoch in again] == [epoch.loss for epoch in history]
    finished = network(seed=6)
    assert train(finished, samples, recipe, resume=path) == again
    assert torch.equal(weights(whole), weights(finished))
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 truncated"])
def test_what_is_no_snapshot_is_refused(tmp_path, content):
    path = tmp_path / "state.pt"
    path.write_bytes(content)
    samples = blobs()
    with pytest.raises(CheckpointError, match="not a snapshot of a training"):
        train(network(), samples, Recipe(epochs=1), resume=path)


def test_frozen_parameters_stay():
    samples = blobs()
    module = network()
    module[0].requires_grad_(requires_grad=False)
    before = module[0].weight.clone()
    train(module, samples, Recipe(epochs=1))
    assert torch.equal(module[0].weight, before)


def test_diverging_is_an_error():
    samples = blobs()
    with pytest.raises(
        InputError,
        match=r"(the loss is nan|a weight is not finite) in epoch [12]: choose a `learning_rate` below 1e\+30",
    ):
        train(network(), samples, Recipe(epochs=3, learning_rate=1e30))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "`epochs` must be a whole number of at least 1, got 0"),
        ({"epochs": 2.5}, "`epochs`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"shift": -1}, "`shift` must be a whole number of at least 0, got -1"),
        ({"schedule": "cosin"}, "`schedule` 'cosin' is unknown: did you mean cosine?"),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0, such as 0.1, got 0.0"),
        ({"learning_rate": math.nan}, "`learning_rate`"),
        ({"momentum": 1.0}, "`momentum` must lie from 0 to below 1, got 1.0"),
        ({"epochs": 10**6 + 1}, "`epochs` must be a whole number below 1000001, got 1000001"),
        ({"seed": 2**43}, "`seed` must be a whole number below 8796093022208, got 8796093022208"),
        ({"weight_decay": math.nan}, "`weight_decay`"),
        ({"optimizer": "adamm"}, "`optimizer` 'adamm' is unknown: did you mean adam or adamw?"),
        ({"milestones": (0.5, 1.5)}, "`milestones` must be parts of all steps between 0 and 1, such as (0.5, 0.75)"),
        ({"milestones": 0.5}, "`milestones` must be parts of all steps between 0 and 1, such as (0.5, 0.75), got 0.5"),
        ({"decay": 0}, "`decay` must be above 0, such as 0.1, got 0"),
        ({"warmup": 1.0}, "`warmup` must lie from 0 to below 1, got 1.0"),
        ({"held_out": 1.0}, "`held_out` must lie from 0 to below 1, got 1.0"),
        ({"average": "0.9"}, "`average` must lie from 0 to below 1, got '0.9'"),
        ({"select": "test"}, "`select` must be one of last, loss, accuracy, robust, got 'test'"),
        ({"precision": "fp16"}, "`precision` must be one of float32, tf32, bf16, got 'fp16'"),
        ({"patience": 0}, "`patience` must be a whole number of at least 1, got 0"),
        ({"flip": "yes"}, "`flip` must be one of True, False, got 'yes'"),
        ({"learning_rate": True}, "`learning_rate` must be above 0, such as 0.1, got True"),
    ],
)
def test_a_recipe_refuses_in_one_line(arguments, message):
    with pytest.raises(InputError) as error:
        Recipe(**{"epochs": 1, **arguments})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("smoothing", [1.0, -0.1, math.nan, True])
def test_label_smoothing_is_a_fraction(smoothing):
    with pytest.raises(InputError, match=r"`label_smoothing` must lie from 0 to below 1, got "):
        Natural(label_smoothing=smoothing)


def test_refuses_what_cannot_be_trained():
    samples = blobs(10)
    recipe = Recipe(epochs=1)
    with pytest.raises(InputError, match=r"`samples` must be Samples, got Tensor: thinice\.as_samples"):
        train(network(), samples.inputs, recipe)
    with pytest.raises(InputError, match="`validation` must be Samples, got tuple"):
        train(network(), samples, recipe, validation=(samples.inputs, samples.labels))
    with pytest.raises(InputError, match="nothing to train"):
        train(network().requires_grad_(requires_grad=False), samples, recipe)
    with pytest.raises(InputError, match="labels up to 2, but `module` gives 2 logits: give it one for each class"):
        train(network(), as_samples(samples.inputs, torch.arange(10) % 3), recipe)
    with pytest.raises(InputError, match=r"`module` cannot read `samples` of shape \(10, 1, 4, 5\): ") as error:
        train(network(), as_samples(torch.rand(10, 1, 4, 5), samples.labels), recipe)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="`objective` 'naturl' is unknown: did you mean natural"):
        train(network(), samples, recipe, objective="naturl")


def test_accuracy_counts():
    inputs = torch.eye(3).reshape(3, 1, 1, 3).repeat(400, 1, 1, 1)
    labels = torch.zeros(1200, dtype=torch.int64)
    assert accuracy(nn.Flatten().eval(), as_samples(inputs, labels, classes=["0", "1", "2"])) == pytest.approx(1 / 3)


def test_accuracy_needs_eval_mode():
    samples = blobs(10)
    with pytest.raises(InputError, match=r"call module\.eval\(\)"):
        accuracy(network(), samples)
