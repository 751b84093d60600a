"""Adversarial weight perturbation: a step on paper, zeros that stay, and what files tell of it."""

# ruff: noqa: ARG002 - the loop hands over more than each toy uses

import pytest
import torch
from torch import nn

from tests.training.small import blobs, network, weights
from thinice.data import as_samples
from thinice.errors import InputError
from thinice.models import Masks, prunable_weights
from thinice.training import Losses, Objective, Recipe, preset, train
from thinice.training.classifiers import told
from thinice.training.perturbation import WeightPerturbation

ONE_STEP = {"epochs": 1, "learning_rate": 0.5, "momentum": 0.0, "weight_decay": 0.0}


class Squares(Objective):
    """The loss of a sample is the sum of its squared logits."""

    def losses(self, model, inputs, crafted, labels):
        logits = model(crafted)
        return Losses(logits.square().sum(1), logits)


def two_weights():
    module = nn.Sequential(nn.Flatten(), nn.Linear(1, 3))
    module[1].weight.data = torch.tensor([[3.0], [-4.0], [0.0]])
    module[1].bias.data = torch.tensor([0.0, 0.0, 1.0])
    return module


def test_a_step_by_hand():
    """Of w1^2 + w2^2 + 1^2 the gradient is 2 w: along it, by a tenth of the length 5, weights are 1.1 times themselves.

    There the gradient is 2.2 w. The third weight is zero, and its gradient is not: it does not climb, but is trained.
    The bias does not climb.
    """
    samples = as_samples(torch.ones(1, 1, 1, 1), [0])
    module = two_weights()
    train(module, samples, Recipe(**ONE_STEP, awp=0.1), objective=Squares())
    torch.testing.assert_close(module[1].weight[:, 0], torch.tensor([3 - 0.5 * 6.6, -4 + 0.5 * 8.8, -0.5 * 2 * 1.0]))
    torch.testing.assert_close(module[1].bias, torch.tensor([-0.5 * 6.6, 0.5 * 8.8, 1 - 0.5 * 2 * 1.0]))
    plain = two_weights()
    train(plain, samples, Recipe(**ONE_STEP), objective=Squares())
    torch.testing.assert_close(plain[1].weight[:, 0], torch.tensor([0.0, 0.0, -1.0]))


@pytest.mark.parametrize("radius", [0.01, 0.3])
def test_weights_climb_within_their_ball_and_come_back(radius):
    torch.manual_seed(0)
    model, hook = network().train(), WeightPerturbation(radius)
    with torch.no_grad():
        model[0].weight[0] = 0
    hook.prepare(model)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    seen, samples = [], blobs(64)

    def backward():
        seen.append({name: value.detach().clone() for name, value in model.named_parameters()})
        model.zero_grad()
        nn.functional.cross_entropy(model(samples.inputs[:]), samples.labels).backward()

    hook.around_backward(model, backward)
    assert len(seen) == 2
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name])
        moved = float((seen[1][name] - before[name]).norm() / before[name].norm()) if value.ndim > 1 else 0.0
        assert moved == (pytest.approx(radius, rel=1e-4) if value.ndim > 1 else 0)
        assert value.ndim > 1 or torch.equal(seen[1][name], before[name])
    assert not seen[1]["0.weight"][0].any()


def test_masks_hold_and_it_changes_the_weights_and_goes_on_where_it_was(tmp_path):
    dense = network()
    masks = Masks({name: weight.detach().abs() > 0.1 for name, weight in prunable_weights(dense).items()})
    recipe = {"epochs": 3, "batch_size": 50, "awp": 0.05, "awp_warmup": 1}

    def trained(path=None, stop=None, **changes):
        module = network()
        rows = []

        def note(epoch):
            rows.append(epoch.loss)
            if epoch.number == stop:
                raise KeyboardInterrupt

        train(module, blobs(), Recipe(**recipe | changes), masks=masks, resume=path, progress=note)
        return module, rows

    whole, losses = trained()
    assert masks.hold(whole)
    plain, plain_losses = trained(awp=0.0, awp_warmup=0)
    assert losses[0] == plain_losses[0]  # warm-up
    assert losses[2] != plain_losses[2]
    assert not torch.equal(weights(whole), weights(plain))
    path = tmp_path / "training.pt"
    with pytest.raises(KeyboardInterrupt):
        trained(path, stop=2)
    resumed, _ = trained(path)
    assert torch.equal(weights(resumed), weights(whole))


def test_files_tell_it_where_it_is_in_use():
    """Trainings without it are those of before it was there."""
    assert "awp" not in told(preset("finetune-pgd"))
    facts = told(preset("finetune-pgd", awp=0.01))
    assert facts["awp"] == 0.01
    assert "awp_warmup" not in facts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"awp": 1.0}, "`awp` must lie from 0 to below 1, got 1.0"),
        ({"awp": -0.1}, "`awp` must lie from 0 to below 1, got -0.1"),
        ({"awp_warmup": -1}, "`awp_warmup` must be a whole number of at least 0, got -1"),
        ({"awp": 0.01, "awp_warmup": 3}, "`awp_warmup` 3 leaves nothing of 3 epochs to perturb weights in"),
    ],
)
def test_bad_settings_are_one_line(settings, message):
    with pytest.raises(InputError, match=message):
        Recipe(epochs=3, **settings)
