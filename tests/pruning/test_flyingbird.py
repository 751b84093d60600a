"""FlyingBird and RST: masks and weights by hand, what stays as it was, and searches that go on where they were."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.pruning.test_hydra import SEARCH, outcome, search, stopped
from tests.training.small import blobs, network
from thinice.errors import InputError
from thinice.pruning import METHODS, prune
from thinice.pruning.flyingbird import FlyingBird
from thinice.pruning.rst import RobustScratchTicket

FAST = replace(SEARCH, learning_rate=0.05)


def test_the_smallest_go_and_as_many_come():
    """Of 16 weights 8 are kept; half way the part is 0.005 + 0.495 / 2, about a quarter: 2 go, and 2 come with 0."""
    layer = nn.Linear(16, 1, bias=False)
    method = FlyingBird(sparsity=0.5, rates="uniform")
    method.prepare(layer)
    kept = method.masks(layer).kept["weight"][0]
    assert int(kept.sum()) == 8
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(torch.arange(1.0, 17.0))
    assert torch.equal(layer.weight[0] != 0, kept)
    method.after_epoch(layer, 0.5)
    after = method.masks(layer).kept["weight"][0]
    assert int(after.sum()) == 8
    places = kept.nonzero()[:, 0]
    assert after[places[2:]].all()  # the six largest
    assert int((layer.weight[0][after] == 0).sum()) == 2  # what came, be it what had gone
    assert torch.equal(layer.weight[0][places[2:]], places[2:] + 1.0)
    method.after_epoch(layer, 1.0)  # the end: nothing more is exchanged
    assert torch.equal(method.masks(layer).kept["weight"][0], after)
    method.finish(layer)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert not layer.weight[0][~after].any()


def test_it_trains_what_it_keeps_and_goes_on_where_it_was(tmp_path):
    keywords = {"recipe": FAST, "sparsity": 0.75}
    pruned = search("flyingbird", **keywords)
    kept = [layer.kept for layer in pruned.masks.layers()]
    assert kept == [6, 35]  # of 41, by ERK: 11 and 66 of 77 shares
    assert pruned.masks.hold(pruned.module)
    assert pruned.history[-1].accuracy > 0.75
    assert pruned.history[-1].loss < pruned.history[0].loss
    changes = pruned.recipe["reached"]["mask_changes"]
    assert len(changes) == 3
    assert changes == sorted(changes, reverse=True)
    assert changes[-1] > 0
    stopped(tmp_path / "search.pt", 2, "flyingbird", **keywords)
    resumed = search("flyingbird", resume=tmp_path / "search.pt", **keywords)
    assert outcome(resumed) == outcome(pruned)
    assert resumed.recipe == pruned.recipe
    assert outcome(search("flyingbird", seed=1, **keywords)) != outcome(pruned)
    still = search("flyingbird", drop=0, **keywords)
    assert set(still.recipe["reached"]["mask_changes"]) == {0.0}


def test_an_earlier_epoch_comes_with_its_masks():
    recipe = replace(FAST, epochs=6, held_out=0.2, select="loss")
    pruned = search("flyingbird", recipe=recipe, sparsity=0.75)
    assert pruned.masks.hold(pruned.module)
    assert sum(layer.kept for layer in pruned.masks.layers()) == pytest.approx(41, abs=1)


def test_scratch_tickets_have_random_weights_that_are_never_trained():
    pruned = search("rst", dense=network(3), sparsity=0.5)
    for weight, fan_in in ((pruned.module[0].weight, 9), (pruned.module[5].weight, 64)):
        size = torch.tensor(math.sqrt(2 / fan_in))
        assert torch.allclose(weight[weight != 0].abs(), size)
        assert 0.25 < float((weight[weight != 0] > 0).float().mean()) < 0.75
    assert not pruned.module[5].bias.any()
    assert pruned.module[1].weight.eq(1).all()
    assert not pruned.module[1].bias.any()
    assert [layer.kept for layer in pruned.masks.layers()] == [18, 64]
    assert pruned.masks.hold(pruned.module)
    assert outcome(search("rst", dense=network(4), sparsity=0.5)) == outcome(pruned)  # whatever the weights were
    assert outcome(search("rst", dense=network(3), sparsity=0.5, seed=1)) != outcome(pruned)
    assert max(epoch.accuracy for epoch in pruned.history) > 0.8


def test_a_stopped_search_for_scratch_tickets_goes_on(tmp_path):
    stopped(tmp_path / "search.pt", 2, "rst", sparsity=0.5)
    assert outcome(search("rst", resume=tmp_path / "search.pt", sparsity=0.5)) == outcome(search("rst", sparsity=0.5))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("flyingbird", {"rates": "even"}, "`rates` must be one of erk, uniform, got 'even'"),
        ("flyingbird", {"drop": 1}, "`drop` must be a fraction from 0 to below 1, got 1"),
        ("flyingbird", {"seed": -1}, "`seed` must be a whole number of at least 0, got -1"),
        ("flyingbird", {"sparsity": 1}, "`sparsity` must be a fraction from 0 to below 1, got 1"),
        ("rst", {"seed": True}, "`seed` must be a whole number of at least 0, got True"),
    ],
)
def test_bad_settings_are_one_line(name, settings, message):
    with pytest.raises(InputError, match=message):
        METHODS.make(name, **settings)


def test_a_network_without_weights_is_refused():
    with pytest.raises(InputError, match="`network` has nothing to prune"):
        prune(nn.Flatten(), FlyingBird(), samples=blobs(), recipe=FAST)
    with pytest.raises(InputError, match="`network` has nothing to prune"):
        prune(nn.Flatten(), RobustScratchTicket(), samples=blobs(), recipe=FAST)
