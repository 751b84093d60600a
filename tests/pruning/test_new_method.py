"""A new objective and a new pruning method are one file and one registry line each, through the public functions."""

import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch

from tests.conftest import ROOT
from tests.pruning.toy import ROWS, ToyMargin, ToyScores
from tests.training.small import blobs, network, weights
from thinice.errors import CheckpointError, InputError
from thinice.pruning import METHODS, PruningMethod, prune
from thinice.training import OBJECTIVES, Recipe, accuracy, train

SEARCH = Recipe(epochs=4, batch_size=64, learning_rate=0.05, shift=1)


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    """The one line that each of them adds."""
    for registry, name, target in ROWS:
        monkeypatch.setitem(registry.rows, name, (target, "a toy"))


def searched(method="toy-scores", objective="toy-margin", **keywords):
    return prune(network(), method, samples=blobs(), recipe=SEARCH, objective=objective, **keywords)


def test_both_are_known_by_name():
    assert "toy-margin" in OBJECTIVES.names()
    assert METHODS.make("toy-scores", strength=2.0).strength == 2.0
    with pytest.raises(InputError, match="'toy-scores' has no setting 'force': it has seed, sparsity, strength"):
        searched(force=1)


def test_training_with_the_new_objective():
    by_name, by_value, other = network(), network(), network()
    history = train(by_name, blobs(), SEARCH, objective="toy-margin")
    train(by_value, blobs(), SEARCH, objective=ToyMargin())
    train(other, blobs(), SEARCH, objective=ToyMargin(noise=0.2))
    assert history[-1].loss < history[0].loss
    assert accuracy(by_name, blobs()) > 0.9
    assert torch.equal(weights(by_name), weights(by_value))
    assert not torch.equal(weights(by_name), weights(other))


def test_a_search_trains_scores_and_leaves_the_weights():
    dense = network()
    told = []
    pruned = prune(dense, "toy-scores", sparsity=0.75, samples=blobs(), recipe=SEARCH, progress=told.append)
    assert pruned.history == tuple(told)
    assert len(told) == 4
    assert pruned.masks.sparsity == pytest.approx(0.75, abs=0.01)
    before = dict(dense.named_parameters())
    after = dict(pruned.module.named_parameters())
    assert sorted(after) == sorted(before)  # plain again
    assert all(parameter.requires_grad for parameter in after.values())
    for name, mask in pruned.masks.kept.items():
        assert torch.equal(after[name], before[name] * mask)
    by_size = prune(dense, sparsity=0.75, scope="local").masks
    assert any(not torch.equal(mask, by_size.kept[name]) for name, mask in pruned.masks.kept.items())
    history = train(pruned.module, blobs(), SEARCH, objective="toy-margin", masks=pruned.masks)
    assert history[-1].loss < history[0].loss
    assert all((pruned.module.get_parameter(name)[~mask] == 0).all() for name, mask in pruned.masks.kept.items())


def test_what_was_frozen_is_frozen_again():
    dense = network()
    dense[0].requires_grad_(requires_grad=False)
    pruned = prune(dense, "toy-scores", samples=blobs(), recipe=SEARCH).module
    assert [parameter.requires_grad for parameter in pruned.parameters()] == [
        parameter.requires_grad for parameter in dense.parameters()
    ]


def test_a_method_is_prepared_afresh():
    method = ToyScores(sparsity=0.5)
    first, second = (prune(network(), method, samples=blobs(), recipe=SEARCH) for _ in range(2))
    assert torch.equal(weights(first.module), weights(second.module))
    assert first.history[-1].loss == second.history[-1].loss


def test_a_method_can_search_with_perturbed_scores(tmp_path):
    """S2AP in small: the gradient is taken at scores moved uphill, applied at the scores themselves, and resumed."""

    @dataclass(kw_only=True)
    class Sharp(ToyScores):
        gamma: float = 0.1

        def around_backward(self, model, backward):
            backward()
            moves = []
            with torch.no_grad():
                for layer in self.layers(model).values():
                    gradient = layer.scores.grad
                    moves.append(self.gamma * layer.scores.norm() * gradient / (gradient.norm() + 1e-12))
                    layer.scores += moves[-1]
            batch = backward()
            with torch.no_grad():
                for layer, move in zip(self.layers(model).values(), moves, strict=True):
                    layer.scores -= move
            return batch

    sharp = searched(Sharp())
    assert outcome(sharp) != outcome(searched())
    assert outcome(searched(Sharp(gamma=0.2))) != outcome(sharp)
    path = tmp_path / "search.pt"
    stop_after(2, path, Sharp())
    assert outcome(searched(Sharp(), resume=path)) == outcome(sharp)
    with pytest.raises(CheckpointError, match=r"hooks\.gamma was 0\.1, is 0\.2"):
        searched(Sharp(gamma=0.2), resume=path)


def outcome(pruned):
    masks = torch.cat([mask.flatten() for mask in pruned.masks.kept.values()])
    return weights(pruned.module).tolist(), masks.tolist(), [(epoch.loss, epoch.accuracy) for epoch in pruned.history]


KILLED = """
import os, signal, torch
from tests.pruning.toy import ROWS
for registry, name, target in ROWS:
    registry.add(name, target)
from tests.pruning.test_new_method import searched
save, writes = torch.save, []
def torn(state, path):  # the third snapshot is cut off in the middle of writing
    writes.append(path)
    if len(writes) == 3:
        path.write_bytes(b"PK half a snapshot")
        os.kill(os.getpid(), signal.SIGKILL)
    save(state, path)
torch.save = torn
searched(resume={path!r})
"""


@pytest.mark.slow
def test_kill_and_resume_is_an_undisturbed_search(tmp_path):
    path = tmp_path / "search.pt"
    script = KILLED.format(path=str(path))
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    state = torch.load(path, weights_only=True)
    assert len(state["history"]) == state["hooks"][0]["epochs"] == 2
    told = []
    resumed = searched(resume=path, progress=told.append)
    assert [epoch.number for epoch in told] == [3, 4]
    assert outcome(resumed) == outcome(searched())
    assert outcome(searched(resume=path)) == outcome(resumed)  # a finished one is read


@pytest.mark.parametrize("forgotten", ["rate", "duals", "generator", "epochs"])
def test_every_part_of_the_state_counts(tmp_path, forgotten):
    """A method that forgets a part of its state ends elsewhere, so the test above would see it."""

    @dataclass(kw_only=True)
    class Forgets(ToyScores):
        def load_state_dict(self, state):
            super().load_state_dict({**state, forgotten: self.state_dict()[forgotten]})

    path = tmp_path / "search.pt"
    stop_after(2, path, Forgets())
    resumed = searched(Forgets(), resume=path)
    assert outcome(resumed) != outcome(searched())


def stop_after(number, path, method="toy-scores"):
    def stop(epoch):
        if epoch.number == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searched(method, resume=path, progress=stop)


def test_another_search_is_not_resumed(tmp_path):
    path = tmp_path / "search.pt"
    stop_after(1, path)
    with pytest.raises(CheckpointError, match=r"\(hooks\.sparsity was 0\.9, is 0\.5\): remove it"):
        searched(sparsity=0.5, resume=path)
    with pytest.raises(
        CheckpointError, match=r"\(hooks\.strength was 0\.1, is 0\.2\): remove it, or choose another path"
    ):
        searched(strength=0.2, resume=path)
    with pytest.raises(
        CheckpointError, match=r"\(objective\.class was '.*', is '.*Natural'; objective\.label_smoothing"
    ):
        searched(objective="natural", resume=path)
    with pytest.raises(CheckpointError, match="belongs to another training"):
        train(network(), blobs(), SEARCH, objective="toy-margin", resume=path)


def test_a_search_in_another_network_is_not_resumed(tmp_path):
    """With other weights, the file's masks would be of another network; also where the search trains the weights."""

    @dataclass(kw_only=True)
    class Thaws(ToyScores):
        def prepare(self, model):
            super().prepare(model)
            model.requires_grad_(requires_grad=True)

    for method in (ToyScores(), Thaws()):
        path = tmp_path / f"{type(method).__name__}.pt"
        arguments = {"samples": blobs(), "recipe": SEARCH, "objective": "toy-margin", "resume": path}
        prune(network(), method, **arguments)
        with pytest.raises(CheckpointError, match=r"belongs to another training \(hooks\.fingerprint was '"):
            prune(network(seed=5), method, **arguments)


def test_a_search_needs_samples_and_a_ranking_none():
    with pytest.raises(InputError, match="`samples` must be given: method 'toy-scores' finds its masks by training"):
        prune(network(), "toy-scores")
    with pytest.raises(InputError, match="`recipe` must be given: method 'ToyScores' finds"):
        prune(network(), ToyScores(), samples=blobs())
    with pytest.raises(
        InputError, match="`recipe` changes nothing: method 'magnitude' finds its masks without training"
    ):
        prune(network(), recipe=SEARCH)
    with pytest.raises(InputError, match="`resume` changes nothing: method 'magnitude'"):
        prune(network(), resume="file.pt")
    with pytest.raises(InputError, match=r"`sparsity` is a setting of the method: give it to ToyScores\("):
        prune(network(), ToyScores(), sparsity=0.5)


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_prunes(name):
    """What all of them promise: plain weights, zeros where the masks say, as many as asked, the original untouched."""
    method = METHODS.make(name, sparsity=0.5)
    assert isinstance(method, PruningMethod)
    assert METHODS.summaries()[name]
    dense = network()
    before = weights(dense)
    search = {"samples": blobs(), "recipe": Recipe(epochs=1)} if method.searches else {}
    pruned = prune(dense, method, **search)
    assert torch.equal(weights(dense), before)
    counted = pruned.recipe["reached"].get("factors", {"sparsity": pruned.masks.sparsity})  # of ATMC, not the product
    assert counted["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert pruned.module.state_dict().keys() == dense.state_dict().keys()
    for key, mask in pruned.masks.kept.items():
        assert (pruned.module.get_parameter(key)[~mask] == 0).all()
