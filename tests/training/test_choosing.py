"""What held-out samples decide: the epoch that is kept, the end, the rate; and what a bad epoch leaves behind."""

# ruff: noqa: ARG002 - the loop hands over more than each toy uses

import pickle
import resource
import warnings
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from tests.training.small import blobs, network, weights
from thinice.errors import CheckpointError, InputError, TrainingWarning
from thinice.pruning import prune
from thinice.training import Hook, Losses, Recipe, Threat, accuracy, train
from thinice.training.average import WeightAverage
from thinice.training.checking import accuracy_and_loss, held_out
from thinice.training.fast import Fast
from thinice.training.history import Epoch, History, best_epoch, out_of_patience, reductions
from thinice.training.natural import Natural
from thinice.training.passes import Feed

CPU = torch.device("cpu")


class Recorded:
    """The state of a network after each epoch, as `progress` sees it."""

    def __init__(self, module):
        self.module, self.states, self.epochs = module, [], []

    def __call__(self, epoch):
        self.states.append(weights(self.module))
        self.epochs.append(epoch)


def rows(*losses, accuracies=None, robust=None):
    return [
        Epoch(
            k + 1,
            0.1,
            1.0,
            0.5,
            None if accuracies is None else accuracies[k],
            1.0,
            validation_loss=loss,
            robust_accuracy=None if robust is None else robust[k],
        )
        for k, loss in enumerate(losses)
    ]


def test_the_best_epoch_is_the_first_of_the_best():
    history = rows(0.9, 0.5, 0.7, 0.5, accuracies=(0.1, 0.2, 0.9, 0.9), robust=(0.3, 0.2, 0.3, 0.3))
    assert best_epoch(history, "loss") == best_epoch(history, "last") == 2
    assert best_epoch(history, "accuracy") == 3
    assert best_epoch(history, "robust") == 3  # of equal robust accuracies the higher clean one, then the first


def test_a_history_survives_a_pickle():
    history = History(rows(0.5, 0.7), chosen=1, notes=["why"])
    again = pickle.loads(pickle.dumps(history))
    assert (again, again.chosen, again.notes) == (history, 1, ("why",))


def test_patience_is_that_of_keras():
    """An early stop after `patience` epochs in a row that were no better."""
    recipe = Recipe(epochs=100, patience=2, select="loss", held_out=0.1)
    assert [out_of_patience(rows(*[1.0, 0.8, 0.8, 0.9][:count]), recipe) for count in range(1, 5)] == [
        False,
        False,
        False,
        True,
    ]
    assert not out_of_patience(rows(1.0, 1.0, 0.9), recipe)
    assert not out_of_patience(rows(*[1.0] * 50), Recipe(epochs=100))


def test_the_rate_falls_where_the_loss_stays_and_waits_again():
    recipe = Recipe(epochs=100, schedule="plateau", plateau_patience=2, decay=0.3, learning_rate=1.0)
    losses = [1.0, 0.8, 0.8, 0.9, 0.9, 0.9, 0.7, 0.7]
    assert [reductions(rows(*losses[:count]), recipe) for count in range(9)] == [0, 0, 0, 0, 1, 1, 2, 2, 2]
    assert recipe.rate(0.5, 2) == pytest.approx(0.09)
    floor = Recipe(epochs=100, schedule="plateau", decay=0.3, learning_rate=1.0, min_learning_rate=0.2)
    assert floor.rate(0.5, 3) == 0.2


def test_held_out_samples_are_balanced_and_never_trained_on():
    samples = blobs(100)
    fitted, chooses = held_out(samples, 0.2)
    assert set(fitted.sample_ids.tolist()) | set(chooses.sample_ids.tolist()) == set(range(100))
    assert len(chooses) == 20
    assert chooses.class_counts() == (10, 10)
    seen = set()

    class Watch(Hook):
        def after_batch(self, batch):
            seen.update(batch.sample_ids.tolist())

    module = network()
    (epoch,) = train(module, samples, Recipe(epochs=1, held_out=0.2), hooks=[Watch()])
    assert seen == set(fitted.sample_ids.tolist())
    assert epoch.validation_accuracy == accuracy(module, chooses)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(module(chooses.inputs), chooses.labels).item()
    assert epoch.validation_loss == pytest.approx(loss, rel=1e-5)
    assert accuracy_and_loss(module, Feed(chooses, CPU)) == pytest.approx((epoch.validation_accuracy, loss))


@pytest.mark.parametrize("select", ["loss", "accuracy"])
def test_the_network_ends_with_the_epoch_that_was_best(select):
    """A rate that grows makes later epochs worse."""
    module = network()
    seen = Recorded(module)
    recipe = Recipe(epochs=6, learning_rate=0.5, held_out=0.3, select=select, momentum=0.0, schedule="constant")
    history = train(module, blobs(80), recipe, progress=seen)
    assert history.chosen == best_epoch(history, select)
    assert torch.equal(weights(module), seen.states[history.chosen - 1])
    last = network()
    assert (
        train(
            last, blobs(80), Recipe(epochs=6, learning_rate=0.5, held_out=0.3, momentum=0.0, schedule="constant")
        ).chosen
        == 6
    )


SIGN = [1.0]


@dataclass(frozen=True)
class Worse(Natural):
    """The cross-entropy, or its negative."""

    def losses(self, model, inputs, crafted, labels):
        values, logits = super().losses(model, inputs, crafted, labels)
        return Losses(SIGN[0] * values, logits)


@dataclass
class Turn(Hook):
    """Turns the sign of the loss after so many epochs."""

    after: int

    def prepare(self, model):
        SIGN[0], self.epochs = 1.0, 0

    def after_epoch(self, model, done):
        self.epochs += 1
        SIGN[0] = -1.0 if self.epochs >= self.after else 1.0

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state):
        self.epochs = state["epochs"]
        SIGN[0] = -1.0 if self.epochs >= self.after else 1.0


def test_an_early_stop_returns_the_best_weights_also_when_resumed(tmp_path):
    recipe = Recipe(epochs=50, learning_rate=0.02, held_out=0.2, select="loss", patience=3, batch_size=20, momentum=0.0)

    def job(module, **more):
        return train(module, blobs(100), recipe, objective=Worse(), hooks=[Turn(3)], **more)

    whole = network()
    seen = Recorded(whole)
    history = job(whole, progress=seen)
    assert history.chosen == 3
    assert len(history) == 6
    assert history.notes == ("training ended after epoch 6, 3 after the best one, 3",)
    assert torch.equal(weights(whole), seen.states[2])

    def stop(epoch):
        if epoch.number == 5:
            raise KeyboardInterrupt

    path = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        job(network(), resume=path, progress=stop)
    for _ in range(2):  # goes on; and is finished already
        resumed = network(seed=4)
        again = job(resumed, resume=path)
        assert again.chosen == 3
        assert torch.equal(weights(resumed), weights(whole))


def test_catastrophic_overfitting_is_told_and_taken_back(tmp_path, monkeypatch):
    shares = iter([0.3, 0.4, 0.01, 0.3, 0.4, 0.01])
    monkeypatch.setattr("thinice.training.robust_accuracy", lambda *_: next(shares))
    module = network()
    seen = Recorded(module)
    recipe = Recipe(epochs=9, check_samples=100)
    with pytest.warns(TrainingWarning, match=r"robust accuracy fell from 40\.0 % to 1\.0 % in epoch 3: .* of epoch 2;"):
        history = train(module, blobs(), recipe, objective=Fast(), progress=seen, resume=tmp_path / "state.pt")
    assert len(history) == 3
    assert history.chosen == 2
    assert len(history.notes) == 1
    assert torch.equal(weights(module), seen.states[1])
    resumed = network(seed=4)
    with pytest.warns(TrainingWarning):
        assert train(resumed, blobs(), recipe, objective=Fast(), resume=tmp_path / "state.pt").chosen == 2
    assert torch.equal(weights(resumed), weights(module))


def test_fast_training_that_holds_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = train(network(), blobs(), Recipe(epochs=3, held_out=0.3), objective=Fast(budget=0.05))
    assert history.notes == ()
    assert history[-1].robust_accuracy > 0.9
    assert Fast(budget=0.05).threat() == Threat("linf", 0.05)


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_loss_that_is_not_finite_leaves_the_last_good_weights(epoch, tmp_path):
    class Burst(Hook):
        def prepare(self, model):
            self.epochs = 0

        def penalty(self, model):
            return model[5].bias.sum() * (float("inf") if self.epochs == epoch - 1 else 0.0)

        def after_epoch(self, model, done):
            self.epochs += 1

        def state_dict(self):
            return {"epochs": self.epochs}

    module = network()
    start, seen = weights(module), Recorded(module)
    origin = "it had before" if epoch == 1 else f"of epoch {epoch - 1}"
    with pytest.raises(InputError, match=rf"the loss is \S+ in epoch {epoch}: .*the network has the weights {origin}"):
        train(module, blobs(), Recipe(epochs=5), hooks=[Burst()], progress=seen, resume=tmp_path / "state.pt")
    assert torch.equal(weights(module), start if epoch == 1 else seen.states[-1])
    assert not module.training
    assert (tmp_path / "state.pt").exists() == (epoch > 1)


def test_weights_that_are_not_finite_at_the_end_of_an_epoch_are_no_good_ones():
    """The last step of an epoch has no loss after it."""

    class Burst(Hook):
        steps = 0

        def after_step(self, model):
            self.steps += 1
            if self.steps == 8:  # the last one of epoch 2
                model[5].bias.data[0] = torch.nan

    module = network()
    seen = Recorded(module)
    with pytest.raises(InputError, match=r"a weight is not finite in epoch 2: .* has the weights of epoch 1"):
        train(module, blobs(), Recipe(epochs=3, batch_size=50), hooks=[Burst()], progress=seen)
    assert torch.equal(weights(module), seen.states[0])


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    """A limit on the size of files, put in force after epoch 2, is a disk that has become full."""
    path, recipe = tmp_path / "state.pt", Recipe(epochs=4)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(epoch):
        if epoch.number == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

    try:
        with pytest.raises(CheckpointError) as error:
            train(network(), blobs(), recipe, resume=path, progress=full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = str(error.value)
    assert message.startswith(f"{path} could not be written after epoch 3 (")
    assert message.endswith("that of epoch 2 is still there; make room, then the same training goes on")
    assert "\n" not in message
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]
    whole, resumed = network(), network(seed=4)
    train(whole, blobs(), recipe)
    train(resumed, blobs(), recipe, resume=path)
    assert torch.equal(weights(resumed), weights(whole))


def test_an_average_is_what_is_measured_and_returned(tmp_path):
    """Against the recurrence itself, over every step."""
    expected = {}

    class Follow(Hook):
        def prepare(self, model):
            expected.update({name: value.clone() for name, value in model.state_dict().items()})
            self.steps = 0

        def after_step(self, model):
            self.steps += 1
            decay = min(0.8, (1 + self.steps) / (10 + self.steps))
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    expected[name] = decay * expected[name] + (1 - decay) * value
                else:
                    expected[name] = value.clone()

    samples, recipe = blobs(), Recipe(epochs=3, batch_size=40, average=0.8, held_out=0.2)
    module = network()
    history = train(module, samples, recipe, hooks=[Follow()])
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert history[-1].validation_accuracy == accuracy(module, held_out(samples, 0.2)[1])
    plain = network()
    train(plain, samples, Recipe(epochs=3, batch_size=40, held_out=0.2))
    assert not torch.equal(weights(plain), weights(module))

    def stop(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    path = tmp_path / "state.pt"
    whole = network()
    train(whole, samples, recipe)
    with pytest.raises(KeyboardInterrupt):
        train(network(), samples, recipe, resume=path, progress=stop)
    resumed = network(seed=4)
    train(resumed, samples, recipe, resume=path)
    assert torch.equal(weights(resumed), weights(whole))


def test_an_average_keeps_what_is_masked_at_zero():
    pruned = prune(network(), sparsity=0.5)
    train(pruned.module, blobs(), Recipe(epochs=2, average=0.9), masks=pruned.masks)
    for name, mask in pruned.masks.kept.items():
        assert (pruned.module.get_parameter(name)[~mask] == 0).all()
    assert WeightAverage(0.9).decay == 0.9


@pytest.mark.parametrize(
    "settings", [{"select": "loss"}, {"select": "accuracy"}, {"patience": 3}, {"schedule": "plateau"}]
)
def test_without_held_out_samples_nothing_can_be_chosen(settings):
    (name,) = settings
    needs = rf"`{name}` .* needs samples that are not trained on.*give `held_out`, such as 0\.1"
    with pytest.raises(InputError, match=needs):
        train(network(), blobs(), Recipe(epochs=2, **settings))


def test_robust_needs_an_adversarial_objective():
    for part in (0, 0.1):  # held-out samples are no way out
        with pytest.raises(
            InputError, match=r"`select` 'robust' needs an objective that attacks, such as pgd"
        ) as caught:
            train(network(), blobs(), Recipe(epochs=2, select="robust", held_out=part))
        assert "held_out" not in str(caught.value)


@pytest.mark.parametrize("part", [0.001, 0.999])
def test_a_part_that_leaves_nothing_is_refused(part):
    with pytest.raises(InputError, match=rf"`held_out` {part} of 200 samples leaves none on one side"):
        train(network(), blobs(), Recipe(epochs=1, held_out=part))
