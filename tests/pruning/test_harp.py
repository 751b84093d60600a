"""HARP: learned rates by hand and by autograd, and a budget that every epoch meets."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.pruning.test_hydra import outcome, search, stopped
from tests.training.small import network
from thinice.errors import InputError
from thinice.pruning import METHODS, prune
from thinice.pruning.harp import Harp, RatedScores, erk_densities


def logit(rate, density):
    smallest = 0.1 * density
    return math.log((rate - smallest) / (1 - rate))


@pytest.mark.parametrize(
    ("rate", "kept"),
    [(0.1, [[0, 0, 0, 1]]), (0.3, [[0, 1, 0, 1]]), (0.51, [[0, 1, 1, 1]]), (0.99, [[1, 1, 1, 1]])],
)
def test_masks_of_scores_and_rates_by_hand(rate, kept):
    """int((1 - rate) * 4) of the four go."""
    top = RatedScores(torch.tensor([[0.1, -0.5, 0.3, 0.9]]), 0.2, channels=False)
    assert float(top.rate().detach()) == pytest.approx(0.2)
    top.load_state_dict({"scores": top.scores, "rate_score": torch.tensor(logit(rate, 0.2))})
    assert float(top.rate().detach()) == pytest.approx(rate)
    assert top.mask().long().tolist() == kept


@pytest.mark.parametrize(("rate", "kept"), [(0.05, [1]), (0.4, [1, 2]), (0.7, [1, 2, 3]), (0.9, [0, 1, 2, 3])])
def test_masks_of_channels_by_hand(rate, kept):
    """round(rate * 4) of four channels are kept, and at least one."""
    top = RatedScores(torch.tensor([0.1, -0.9, 0.5, 0.3]).view(1, 4, 1, 1), 0.2, channels=True)
    top.load_state_dict({"scores": top.scores, "rate_score": torch.tensor(logit(rate, 0.2))})
    masked = top(torch.ones(3, 4, 2, 2))
    expected = torch.zeros(4)
    expected[kept] = 1
    assert torch.equal(masked, expected.view(1, 4, 1, 1).expand(3, 4, 2, 2))


def test_the_gradient_of_a_rate_is_the_sum_over_its_mask():
    torch.manual_seed(0)
    weight, inputs, labels = torch.randn(3, 4), torch.randn(6, 4), torch.randint(3, (6,))
    top = RatedScores(torch.randn(3, 4), 0.25, channels=False)
    functional.cross_entropy(inputs @ top(weight).T, labels).backward()
    masked = (weight * top.mask()).requires_grad_()
    functional.cross_entropy(inputs @ masked.T, labels).backward()
    of_mask = weight * masked.grad
    torch.testing.assert_close(top.scores.grad, of_mask * top.scores.detach().sign())
    part = torch.sigmoid(top.rate_score.detach())
    torch.testing.assert_close(top.rate_score.grad, of_mask.sum() * (1 - 0.025) * part * (1 - part))


def test_the_budget_is_met_and_rates_differ():
    dense = network()
    pruned = search("harp", dense, sparsity=0.75)
    assert 164 / 4 - 1 <= sum(layer.kept for layer in pruned.masks.layers()) <= 164 / 4
    densities = [layer.density for layer in pruned.masks.layers()]
    assert abs(densities[0] - densities[1]) > 0.02
    for name, mask in pruned.masks.kept.items():
        assert torch.equal(pruned.module.get_parameter(name), dense.get_parameter(name) * mask)
    reached = pruned.recipe["reached"]
    assert reached["of_weights"] == pytest.approx(pruned.masks.sparsity)
    assert pruned.notes == ()
    assert len(reached["mask_changes"]) == 4


def test_erk_densities_by_hand():
    """Raw: 8/16, 13/90 and 12/20, so that of 126 weights a third, 42, are 33/33 of 8 + 13 + 12 = 33 shares.

    42/33 times the raw density is 0.636, 0.184 and 0.764. Of two thirds, 84, the factor 84/33 leaves two layers whole:
    the other one has 84 - 36 = 48 of 90.
    """
    shapes = {"a": (2, 2, 2, 2), "b": (5, 2, 3, 3), "c": (10, 2)}
    third = erk_densities(shapes, 1 / 3)
    assert third == pytest.approx({"a": 42 / 33 * 8 / 16, "b": 42 / 33 * 13 / 90, "c": 42 / 33 * 12 / 20})
    assert erk_densities(shapes, 2 / 3) == pytest.approx({"a": 1, "b": 48 / 90, "c": 1})
    assert erk_densities(shapes, 1.0) == {"a": 1, "b": 1, "c": 1}


def test_rates_start_at_erk_and_meet_the_budget():
    """Of 36 + 128 weights a quarter, 41: raw 11/36 and 66/128 of 77 shares."""
    model, method = network(), Harp(sparsity=0.75, rates="erk")
    method.prepare(model)
    kept = [int(top.mask().sum()) for top in method.tops.values()]
    assert sum(kept) == 41
    shapes = {name: tuple(mask.shape) for name, mask in method.whole.kept.items()}
    expected = [density * math.prod(shapes[name]) for name, density in erk_densities(shapes, 0.25).items()]
    assert kept == pytest.approx(expected, abs=1.5)
    assert abs(kept[0] - 36 / 4) > 1.5  # not the uniform ones
    pruned = search("harp", sparsity=0.75, rates="erk")
    assert sum(layer.kept for layer in pruned.masks.layers()) in {40, 41}
    assert pruned.recipe["rates"] == "erk"
    assert "rates" not in search("harp", sparsity=0.75).recipe


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.shortcut = nn.Sequential(nn.Conv2d(8, 6, 1))

    def forward(self, inputs):
        return (self.conv2(self.conv1(inputs).relu()) + self.shortcut(inputs)).relu()


def residual():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), Block(), nn.Flatten(), nn.Linear(96, 2))


def test_shortcuts_can_have_the_rate_of_their_main_path(tmp_path):
    settings = {"sparsity": 0.5, "structure": "channel", "shortcuts": "copied"}

    def channels(pruned):
        units = {layer.name: layer.kept for layer in pruned.masks.units("channel")}
        return units["2.conv1.weight"], units["2.shortcut.0.weight"]

    pruned = search("harp", residual(), **settings)
    main, shortcut = channels(pruned)
    assert main == shortcut
    assert 1 <= main < 8
    stopped(tmp_path / "search.pt", 2, "harp", dense=residual(), **settings)
    assert outcome(search("harp", residual(), resume=tmp_path / "search.pt", **settings)) == outcome(pruned)
    model, method = residual(), Harp(**settings)
    method.prepare(model)
    assert method.tops["2.shortcut.0.weight"].rate_score is method.tops["2.conv1.weight"].rate_score
    before = float(method.tops["2.conv1.weight"].rate_score.detach())
    with torch.no_grad():
        method.tops["2.conv1.weight"].rate_score.add_(3.0)
    method.after_epoch(model, 0.5)  # what is shared is moved once, and the budget is met
    assert method._cost() <= method._budget()
    assert before < float(method.tops["2.conv1.weight"].rate_score.detach()) < before + 3


def two_convolutions():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.Flatten(), nn.Linear(8, 2)
    )


def test_a_budget_of_operations():
    """16, 1 and 1 places: the first convolution has 72 * 16 operations, the second 576, the linear layer 16."""
    pruned = search("harp", two_convolutions(), sparsity=0.75, cost="flops")
    operations = {"0.weight": 16, "2.weight": 1, "4.weight": 1}
    kept = sum(layer.kept * operations[layer.name] for layer in pruned.masks.layers())
    total = sum(layer.weights * operations[layer.name] for layer in pruned.masks.layers())
    assert total == 72 * 16 + 576 + 16
    assert total / 4 - 16 < kept <= total / 4
    assert pruned.recipe["reached"]["of_flops"] == pytest.approx(1 - kept / total)
    assert pruned.notes == ()


@pytest.mark.parametrize("cost", ["weights", "flops"])
def test_channels_go_and_linear_layers_stay(cost):
    pruned = search("harp", two_convolutions(), sparsity=0.25, structure="channel", cost=cost)
    assert pruned.ranked == ("0.weight", "2.weight")
    assert pruned.masks.kept["4.weight"].all()
    channels = pruned.masks.kept["2.weight"].flatten(2).transpose(0, 1).flatten(1)
    assert (channels.all(1) == channels.any(1)).all()
    assert 1 <= int(channels.any(1).sum()) < 8
    assert pruned.masks.kept["0.weight"].all()  # its only channel
    if cost == "weights":
        assert pruned.masks.part(pruned.ranked).sparsity >= 0.25


def test_a_budget_that_cannot_be_met_is_told():
    pruned = search("harp", two_convolutions(), sparsity=0.97, structure="channel")
    assert [layer.kept for layer in pruned.masks.units("channel")] == [1, 1]
    assert "sparsity 0.97 of the weights was asked for, 0.7778 is reached: no layer can vanish" in pruned.notes


def test_above_the_budget_the_loss_says_so_and_more_each_epoch():
    model, method = network(), Harp(sparsity=0.75, strength=0.5)
    method.prepare(model)
    assert float(method.penalty(model).detach()) == pytest.approx(0, abs=1e-3)
    with torch.no_grad():
        for top in method.tops.values():
            top.rate_score.fill_(logit(0.5, 0.25))
    assert float(method.penalty(model).detach()) == pytest.approx(0.5 * (0.5 / 0.25 - 1), rel=1e-4)
    method.penalty(model).backward()
    assert all(top.rate_score.grad > 0 for top in method.tops.values())
    method.after_step(model)
    method.after_epoch(model, 0.25)
    assert method.exceeded == 1
    assert sum(layer.kept for layer in method.masks(model).layers()) == 41
    rates = [float(top.rate().detach()) for top in method.tops.values()]
    assert rates[0] == pytest.approx(rates[1], rel=1e-5)
    with torch.no_grad():
        for top in method.tops.values():
            top.rate_score.fill_(logit(0.5, 0.25))
    assert float(method.penalty(model).detach()) == pytest.approx(2 * 0.5 * 1.0, rel=1e-4)
    method.after_step(model)
    method.after_epoch(model, 0.5)
    method.after_epoch(model, 0.75)
    assert method.exceeded == 2  # the last epoch ended within the budget


def test_it_starts_as_lwm_does():
    dense, method = network(), Harp(sparsity=0.75)
    method.prepare(dense)
    lwm = prune(network(), "lwm", sparsity=0.75).masks
    assert all(torch.equal(mask, lwm.kept[name]) for name, mask in method.masks(dense).kept.items())
    method.finish(dense)
    assert all(torch.equal(dense.state_dict()[name], value) for name, value in network().state_dict().items())
    whole = Harp(sparsity=0.0)
    whole.prepare(dense)
    assert whole.masks(dense).sparsity == 0


def test_rates_off_the_budget_meet_it_in_the_end():
    """Where a recipe averages weights over steps, the rates are averages too, which no epoch ended with."""
    model, method = network(), Harp(sparsity=0.75)
    for rate in (0.5, 0.05):
        method.prepare(model)
        with torch.no_grad():
            for top in method.tops.values():
                top.rate_score.fill_(logit(rate, 0.25))
        assert sum(layer.kept for layer in method.masks(model).layers()) == 41
        method.finish(model)


@pytest.mark.parametrize(
    "settings",
    [{"sparsity": 0.75}, {"sparsity": 0.75, "cost": "flops", "s2ap": 0.05, "s2ap_warmup": 1}],
    ids=["weights", "flops-s2ap"],
)
def test_stop_and_resume_is_an_undisturbed_search(tmp_path, settings):
    path = tmp_path / "search.pt"
    undisturbed = search("harp", **settings)
    for number in (1, 2):
        stopped(path, number, "harp", **settings)
    for _ in range(2):  # the second time a finished one is read
        resumed = search("harp", resume=path, **settings)
        assert outcome(resumed) == outcome(undisturbed)
        assert resumed.recipe == undisturbed.recipe


def test_radius_zero_is_harp_to_the_bit():
    plain = outcome(search("harp", sparsity=0.75))
    assert outcome(search("harp", sparsity=0.75, s2ap=0.0, s2ap_warmup=0)) == plain
    assert outcome(search("harp", sparsity=0.75, s2ap=0.1, s2ap_warmup=0)) != plain


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": 1.0}, "`sparsity` must be a fraction from 0 to below 1, got 1.0"),
        ({"structure": "filter"}, "`structure` must be one of weight, channel, got 'filter'"),
        ({"cost": "seconds"}, "`cost` must be one of weights, flops, got 'seconds'"),
        ({"strength": 0}, "`strength` must be above 0 and finite, got 0"),
    ],
)
def test_bad_settings_are_one_line(settings, message):
    with pytest.raises(InputError, match=message):
        METHODS.make("harp", **settings)


def test_channels_need_convolutions():
    with pytest.raises(InputError, match="`network` has nothing to prune: no layer has units of structure 'channel'"):
        search("harp", nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), structure="channel")
