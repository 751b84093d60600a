"""HYDRA, S2AP and LWM: masks by hand, gradients by autograd, and what stays as it was."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.training.small import blobs, network, weights
from thinice.errors import InputError
from thinice.models import Masks, prunable_weights
from thinice.models.normalization import Normalized
from thinice.models.research_formats.hydra_harp_rst import highest
from thinice.pruning import METHODS, prune
from thinice.pruning.hydra import Hydra, TopScores, scaled
from thinice.pruning.sharpness import largest_eigenvalue
from thinice.training import Losses, Objective, Recipe

SEARCH = Recipe(epochs=4, batch_size=64, learning_rate=1.0, shift=1)


def search(method="hydra", dense=None, **keywords):
    keywords = {"samples": blobs(), "recipe": SEARCH} | keywords
    return prune(network() if dense is None else dense, method, **keywords)


def outcome(pruned):
    masks = torch.cat([mask.flatten() for mask in pruned.masks.kept.values()])
    return weights(pruned.module).tolist(), masks.tolist(), [(epoch.loss, epoch.accuracy) for epoch in pruned.history]


@pytest.mark.parametrize(
    ("scores", "density", "kept"),
    [
        ([[0.3, -0.9, 0.1, 0.5]], 0.5, [[0, 1, 0, 1]]),  # absolute values
        ([[0.3, -0.9, 0.1, 0.5]], 0.3, [[0, 1, 0, 1]]),  # int(0.7 * 4) = 2 go, not 3
        ([[0.3, -0.9, 0.1, 0.5]], 0.25, [[0, 1, 0, 0]]),
        ([[0.3, -0.9, 0.1, 0.5]], 1.0, [[1, 1, 1, 1]]),
        ([[1.0, 1.0], [1.0, -1.0]], 0.5, [[0, 0], [1, 1]]),  # of equals the first go
        ([[0.0] * 5], 0.01, [[0, 0, 0, 0, 1]]),  # int(0.99 * 5) = 4
    ],
)
def test_masks_of_scores_by_hand(scores, density, kept):
    top = TopScores(torch.tensor(scores), density)
    assert top.mask().long().tolist() == kept
    assert torch.equal(top(torch.full_like(top.scores, 2.0)), 2.0 * torch.tensor(kept))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_the_highest_are_those_of_a_stable_sort(dtype):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(-4, 4, (7, 5), generator=generator).to(dtype)  # full of ties
    if dtype.is_floating_point:
        scores[3, 2], scores[1, 1], scores[6, 4] = torch.inf, -torch.inf, torch.nan
    for count in range(36):
        expected = torch.ones(35, dtype=torch.bool)
        expected[scores.flatten().double().argsort(stable=True)[: 35 - count]] = False
        assert torch.equal(highest(scores, count).flatten(), expected)


def test_scores_start_as_the_weights_scaled():
    weight = torch.randn(5, 3, 2, 2)
    assert torch.allclose(scaled(weight), weight * (6 / 12) ** 0.5 / weight.abs().max())
    assert torch.equal(scaled(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_the_gradient_passes_straight_through():
    """d loss / d scores = weight * (d loss / d masked weight) * sign(scores), for what is pruned as well."""
    torch.manual_seed(0)
    weight, inputs, labels = torch.randn(3, 4), torch.randn(6, 4), torch.randint(3, (6,))
    top = TopScores(torch.randn(3, 4), 0.25)
    functional.cross_entropy(inputs @ top(weight).T, labels).backward()
    masked = (weight * top.mask()).requires_grad_()
    functional.cross_entropy(inputs @ masked.T, labels).backward()
    torch.testing.assert_close(top.scores.grad, weight * masked.grad * top.scores.detach().sign())
    weight.requires_grad_()
    functional.cross_entropy(inputs @ top(weight).T, labels).backward()
    torch.testing.assert_close(weight.grad, masked.grad * top.mask())
    weight = weight.detach()
    assert top.scores.grad[~top.mask()].all()
    central = TopScores(torch.randn(3, 4), 1.0)  # where nothing is pruned, against differences of a soft mask
    functional.cross_entropy(inputs @ central(weight).T, labels).backward()
    step = torch.zeros(3, 4)
    step[1, 2] = 1e-3

    def loss(mask):
        return functional.cross_entropy(inputs.double() @ (weight * mask).double().T, labels)

    difference = (loss(1 + step) - loss(1 - step)) / 2e-3 * central.scores[1, 2].detach().sign()
    assert float(central.scores.grad[1, 2]) == pytest.approx(float(difference), rel=1e-3)


def test_a_masked_weight_lies_in_memory_as_the_weight():
    weight = torch.randn(6, 1, 5, 5).to(memory_format=torch.channels_last)
    masked = TopScores(scaled(weight), 0.5)(weight)
    assert masked.stride() == weight.stride() == (25, 1, 5, 1)


def test_a_mask_follows_its_scores_however_they_are_changed():
    top = TopScores(torch.tensor([[1.0, 2.0]]), 0.5)
    assert top.mask().tolist() == [[False, True]]
    top.load_state_dict({"scores": torch.tensor([[3.0, 2.0]])})
    assert top.mask().tolist() == [[True, False]]
    with torch.no_grad():
        top.scores -= torch.tensor([[3.0, 0.0]])
    assert top.mask().tolist() == [[False, True]]
    made = top.mask()
    assert top.mask() is made  # not made anew for each pass of an attack


def test_weights_are_frozen_scores_are_not():
    dense = network()
    pruned = search(dense=dense, sparsity=0.75)
    after = dict(pruned.module.named_parameters())
    for name, weight in dense.named_parameters():
        if name in pruned.masks.kept:
            assert torch.equal(after[name], weight * pruned.masks.kept[name])
        elif name.startswith("1."):  # batch norm is trained
            assert not torch.equal(after[name], weight)
        else:
            assert torch.equal(after[name], weight)
    assert not torch.equal(pruned.module[1].running_mean, dense[1].running_mean)
    assert [layer.kept for layer in pruned.masks.layers()] == [36 - 27, 128 - 96]
    by_size = prune(dense, "lwm", sparsity=0.75).masks
    assert [layer.kept for layer in by_size.layers()] == [36 - 27, 128 - 96]
    assert any(not torch.equal(mask, by_size.kept[name]) for name, mask in pruned.masks.kept.items())
    assert pruned.module.state_dict().keys() == dense.state_dict().keys()
    changes = pruned.recipe["reached"]["mask_changes"]
    assert len(changes) == 4
    assert 0 < max(changes) < 1


def test_without_training_scores_the_masks_are_those_of_lwm():
    dense, method = network(), Hydra(sparsity=0.75)
    lwm = prune(dense, "lwm", sparsity=0.75).masks
    method.prepare(dense)
    for name, mask in method.masks(dense).kept.items():
        assert torch.equal(mask, lwm.kept[name])
    method.finish(dense)
    state = dense.state_dict()
    assert state.keys() == network().state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in network().state_dict().items())


def test_batch_norm_can_be_frozen():
    dense = network()
    after = search(dense=dense, freeze_batch_norm=True).module
    assert torch.equal(after[1].weight, dense[1].weight)
    assert torch.equal(after[1].bias, dense[1].bias)


def test_a_weight_that_two_layers_share_has_one_mask():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 2)
            self.second.weight = self.first.weight

        def forward(self, inputs):
            return self.last(self.second(self.first(inputs.flatten(1)).relu()).relu())

    method, dense = Hydra(sparsity=0.5), Twice()
    method.prepare(dense)
    assert torch.equal(dense.first.weight, dense.second.weight)
    assert int((dense.second.weight == 0).sum()) == 128
    method.finish(dense)
    assert dense.first.weight is dense.second.weight
    pruned = search(dense=Twice(), sparsity=0.5)
    assert pruned.module.first.weight is pruned.module.second.weight
    assert list(pruned.masks.kept) == ["first.weight", "last.weight"]


def test_a_normalised_network_and_attention():
    inside = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    pruned = search(dense=Normalized(inside, mean=(0.5,), std=(0.2,)), sparsity=0.5)
    assert list(pruned.masks.kept) == ["0.weight", "2.weight"]
    assert pruned.masks.hold(pruned.module)

    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(4, 1, batch_first=True), nn.Linear(4, 2)

        def forward(self, inputs):
            return self.head(self.attention(*[inputs[:, 0]] * 3)[0].mean(1))

    pruned = search(dense=Attends(), sparsity=0.5)
    assert list(pruned.masks.kept) == [*prunable_weights(Attends())]
    assert pruned.masks.sparsity == 0.5
    assert pruned.masks.hold(pruned.module)


def stopped(path, number, method="hydra", **keywords):
    def stop(epoch):
        if epoch.number == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(method, resume=path, progress=stop, **keywords)


@pytest.mark.parametrize("settings", [{}, {"s2ap": 0.05, "s2ap_warmup": 1, "s2ap_steps": 2}], ids=["plain", "s2ap"])
def test_stop_and_resume_is_an_undisturbed_search(tmp_path, settings):
    path = tmp_path / "search.pt"
    undisturbed = search(**settings)
    for number in (1, 2):
        stopped(path, number, **settings)
    resumed = search(resume=path, **settings)
    assert outcome(resumed) == outcome(undisturbed)
    assert resumed.recipe == undisturbed.recipe
    again = search(resume=path, **settings)  # a finished one is read
    assert outcome(again) == outcome(undisturbed)
    assert again.recipe == undisturbed.recipe


@dataclass(frozen=True)
class BreaksDown(Objective):
    """Cross-entropy; not a number from some batch on."""

    batches: int
    seen: tuple[list[int], ...] = ((),)

    def losses(self, model, inputs, crafted, labels):  # noqa: ARG002 - of the loop
        logits = model(crafted)
        self.seen[0].append(0)
        broken = float("nan") if len(self.seen[0]) > self.batches else 1.0
        return Losses(broken * functional.cross_entropy(logits, labels, reduction="none"), logits)


@pytest.mark.parametrize("settings", [{}, {"s2ap": 0.05, "s2ap_warmup": 0}], ids=["plain", "s2ap"])
def test_what_is_no_number_ends_the_search_and_the_last_good_state_is_kept(tmp_path, settings):
    path = tmp_path / "search.pt"
    passes = 4 * (2 if settings else 1)  # an epoch
    with pytest.raises(InputError, match=r"the loss is nan in epoch 3: .* the network has the weights of epoch 2"):
        search(objective=BreaksDown(2 * passes + 1, ([],)), resume=path, **settings)
    state = torch.load(path, weights_only=True)
    assert len(state["history"]) == 2
    assert all(value.isfinite().all() for value in state["module"].values())
    assert "parametrizations.weight.0.scores" in str(list(state["module"]))


def test_radius_zero_is_hydra_to_the_bit():
    plain = search()
    assert outcome(search(s2ap=0.0, s2ap_warmup=0, s2ap_steps=3)) == outcome(plain)
    warmed = search(s2ap=0.5, s2ap_warmup=3)
    assert outcome(warmed)[2][:3] == outcome(plain)[2][:3]  # nothing but warm-up
    assert outcome(warmed)[2][3] != outcome(plain)[2][3]
    assert outcome(search(s2ap=0.05, s2ap_warmup=0)) != outcome(plain)


@pytest.mark.parametrize("steps", [1, 3])
def test_scores_climb_within_their_ball_and_come_back(steps):
    torch.manual_seed(0)
    model, method = network().train(), Hydra(sparsity=0.5, s2ap=0.1, s2ap_warmup=0, s2ap_steps=steps)
    method.prepare(model)
    samples, places, seen = blobs(64), [], []
    first = [scores.detach().clone() for scores in method.perturbed(model)]

    def backward():
        places.append([scores.detach().clone() for scores in method.perturbed(model)])
        model.zero_grad()
        torch.manual_seed(1)  # of dropout
        loss = functional.cross_entropy(model(samples.inputs[:]), samples.labels)
        loss.backward()
        seen.append(model[1].running_mean.clone())
        return float(loss.detach())

    loss = method.around_backward(model, backward)
    gradients = [scores.grad.clone() for scores in method.perturbed(model)]
    assert all(torch.equal(*pair) for pair in zip(method.perturbed(model), first, strict=True))
    assert torch.equal(model[1].running_mean, seen[0])
    assert int(model[1].num_batches_tracked) == 1
    assert len(places) == steps + 1
    for there, here in zip(places[-1], first, strict=True):
        length = float((there - here).norm() / here.norm())
        assert 0.09 < length <= 0.1 * (1 + 1e-5)
    if steps == 1:  # along the gradient
        backward()
        for scores, there, here in zip(method.perturbed(model), places[1], first, strict=True):
            assert float(functional.cosine_similarity((there - here).flatten(), scores.grad.flatten(), 0)) > 0.9999
    with torch.no_grad():  # the gradient is that at the far end
        for scores, there in zip(method.perturbed(model), places[steps], strict=True):
            scores.copy_(there)
    assert backward() == loss
    assert all(torch.equal(scores.grad, old) for scores, old in zip(method.perturbed(model), gradients, strict=True))


def test_the_largest_eigenvalue_is_that_of_the_hessian_in_the_scores():
    """Of squares of a linear layer's outputs it is known: D X'X D, with D the weights times the signs of the scores."""
    torch.manual_seed(0)
    weight, inputs = torch.randn(1, 5).double(), torch.randn(40, 5).double()
    top = TopScores(torch.randn(1, 5).double(), 0.4)

    loss = (inputs @ top(weight).T - 1).square().sum() / 2
    factor = weight[0] * top.scores[0].detach().sign()
    expected = torch.linalg.eigvalsh(factor[:, None] * (inputs.T @ inputs) * factor)
    generator = torch.Generator().manual_seed(0)
    found = largest_eigenvalue(loss, [top.scores], generator, tolerance=1e-7)
    assert found == pytest.approx(float(expected[-1]), rel=1e-4)
    below = largest_eigenvalue(
        -(inputs @ top(weight).T - 1).square().sum() / 2, [top.scores], generator, tolerance=1e-9, iterations=1000
    )
    assert below == pytest.approx(-float(expected[0]), rel=1e-2)
    assert largest_eigenvalue(top.scores.sum(), [top.scores], generator) == 0


def test_sharpness_is_measured_where_it_is_asked_for_and_changes_nothing_else(tmp_path):
    plain = search()
    assert "sharpness" not in plain.recipe["reached"]
    assert "sharpness" not in plain.recipe
    measured = search(sharpness=50, resume=tmp_path / "search.pt")
    assert outcome(measured) == outcome(plain)
    reached = measured.recipe["reached"]["sharpness"]
    assert reached["samples"] == 50
    assert 0 < reached["largest_eigenvalue"] < 1e4
    assert search(sharpness=50, resume=tmp_path / "search.pt").recipe == measured.recipe  # read, and measured again
    assert search("harp", sharpness=50).recipe["reached"]["sharpness"]["largest_eigenvalue"] > 0


def test_a_warmup_as_long_as_the_search_is_told_before_anything_is_done(tmp_path):
    message = r"`s2ap_warmup` 5 leaves nothing of a search of 4 epochs .*: give a smaller one \(--set s2ap_warmup=1\)"
    with pytest.raises(InputError, match=message):
        search(s2ap=0.1, resume=tmp_path / "search.pt")
    assert not list(tmp_path.iterdir())
    assert not search(s2ap=0.1, s2ap_warmup=3).notes


@pytest.mark.parametrize("name", ["hydra", "lwm"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": 1}, "`sparsity` must be a fraction from 0 to below 1, got 1"),
        ({"s2ap": 1.0}, "`s2ap` must be a radius from 0 to below 1"),
        ({"s2ap": True}, "`s2ap` must be a radius"),
        ({"s2ap": float("nan")}, "`s2ap` must be a radius"),
        ({"s2ap_warmup": -1}, "`s2ap_warmup` must be a whole number of at least 0, got -1"),
        ({"s2ap_steps": 0}, "`s2ap_steps` must be a whole number of at least 1, got 0"),
        ({"sharpness": -1}, "`sharpness` must be a whole number of samples of at least 0, got -1"),
        ({"freeze_batch_norm": 1}, "`freeze_batch_norm` must be true or false, got 1"),
        ({"structure": "filter"}, "has no setting 'structure'"),
    ],
)
def test_bad_settings_are_one_line(name, settings, message):
    message = message if name == "hydra" or "sparsity" in settings else "has no setting"
    with pytest.raises(InputError, match=message) as caught:
        METHODS.make(name, **settings)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("method", [Hydra(), METHODS.make("lwm")])
def test_networks_that_cannot_be_ranked(method):
    with pytest.raises(InputError, match="`network` has nothing to prune"):
        method.masks(nn.Flatten()) if not method.searches else method.prepare(nn.Flatten())
    broken = nn.Linear(2, 2)
    broken.weight.data[0, 0] = torch.inf
    with pytest.raises(InputError, match="`network` cannot be ranked: weight has weights that are not finite"):
        method.masks(broken) if not method.searches else method.prepare(broken)


def test_lwm_of_a_normalised_network_is_that_of_the_network_behind():
    inside = nn.Sequential(nn.Flatten(), nn.Linear(8, 2))
    pruned = prune(Normalized(inside, mean=(0.5,), std=(0.2,)), "lwm", sparsity=0.5)
    assert torch.equal(pruned.masks.kept["1.weight"], prune(inside, "lwm", sparsity=0.5).masks.kept["1.weight"])
    assert pruned.recipe["reached"]["of_ranked"] == 0.5


def test_lwm_prunes_an_already_pruned_network_further():
    once = prune(network(), "lwm", sparsity=0.5)
    twice = prune(once.module, "lwm", sparsity=0.75).masks
    assert all(not (mask & ~once.masks.kept[name]).any() for name, mask in twice.kept.items())
    assert isinstance(twice, Masks)
