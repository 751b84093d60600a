"""What each sample did over the epochs, against the same counted with loops."""

from itertools import pairwise

import pytest
import torch

from tests.training.small import blobs, network
from thinice.training import Hook, Recipe, train
from thinice.training.dynamics import SampleDynamics
from thinice.training.loop import Batch


def batch(ids, labels, logits):
    logits, labels = torch.tensor(logits), torch.tensor(labels)
    return Batch(torch.tensor(ids), labels, torch.zeros(len(ids)), logits, torch.zeros(()))


def test_three_samples_by_hand():
    """Sample 7 is right, wrong, right, wrong: forgotten twice. Sample 3 is never right; 5 is always right."""
    hook = SampleDynamics(torch.tensor([7, 3, 5]))
    hook.prepare(torch.nn.Identity())
    for sure in (2.0, -2.0, 2.0, -2.0):
        hook.after_batch(batch([5, 7], [0, 0], [[1.0, 0.0], [sure, 0.0]]))
        hook.after_batch(batch([3], [1], [[1.0, 0.0]]))
        hook.after_epoch(torch.nn.Identity(), 1.0)
    result = hook.result()
    assert result.sample_ids.tolist() == [3, 5, 7]
    assert result.epochs.tolist() == [4, 4, 4]
    assert result.forgotten.tolist() == [0, 0, 2]
    assert result.learned.tolist() == [False, True, True]
    high, low = (torch.tensor([sure, 0.0]).softmax(0)[0].item() for sure in (2.0, -2.0))
    assert result.confidence_mean.tolist() == pytest.approx(
        [1 - 1 / (1 + 2.718281828**-1), 1 / (1 + 2.718281828**-1), 0.5]
    )
    assert result.confidence_variance.tolist() == pytest.approx([0, 0, ((high - low) / 2) ** 2], abs=1e-9)
    assert result.frame()["forgotten"].tolist() == [0, 0, 2]


def test_a_training_tells_the_dynamics_of_every_sample_also_when_resumed(tmp_path):
    seen = {}

    class Follow(Hook):
        def after_batch(self, batch):
            chances = batch.logits.double().softmax(1)
            for number, label, chance in zip(batch.sample_ids.tolist(), batch.labels.tolist(), chances, strict=True):
                seen.setdefault(number, []).append((int(chance.argmax()) == label, chance[label].item()))

    samples, recipe = blobs(60)[10:], Recipe(epochs=4, batch_size=16, learning_rate=0.01, flip=True)
    dynamics = train(network(), samples, recipe, hooks=[Follow()]).dynamics
    assert dynamics.sample_ids.tolist() == sorted(samples.sample_ids.tolist())
    for place, number in enumerate(dynamics.sample_ids.tolist()):
        right, chances = zip(*seen[number], strict=True)
        chances = torch.tensor(chances)
        assert dynamics.epochs[place] == 4
        assert dynamics.forgotten[place] == sum(a and not b for a, b in pairwise(right))
        assert dynamics.learned[place] == any(right)
        assert dynamics.confidence_mean[place].item() == pytest.approx(chances.mean().item(), abs=1e-5)
        assert dynamics.confidence_variance[place].item() == pytest.approx(chances.var(correction=0).item(), abs=1e-5)
    assert dynamics.forgotten.sum() > 0

    def stop(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(network(), samples, recipe, resume=tmp_path / "state.pt", progress=stop)
    resumed = train(network(), samples, recipe, resume=tmp_path / "state.pt").dynamics
    assert resumed.frame().equals(dynamics.frame())
