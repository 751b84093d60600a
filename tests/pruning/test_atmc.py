"""ATMC: factors that begin as the network, one budget for all of them, and what its authors' files hold."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.training.small import blobs, network, weights
from thinice.data import load_samples
from thinice.errors import CheckpointError, InputError
from thinice.models import build, load_classifier, prunable_weights
from thinice.pruning import prune
from thinice.pruning.atmc import ATMC, Factored, atmc_state, highest
from thinice.pruning.quantisation import FewValues, levels, quantised
from thinice.training import Recipe, train

SEARCH = Recipe(epochs=3, batch_size=40, learning_rate=0.1, weight_decay=0.0, nesterov=False)


def searched(dense=None, method=None, recipe=SEARCH, **keywords):
    method = ATMC(sparsity=0.8) if method is None else method
    return prune(network() if dense is None else dense, method, samples=blobs(), recipe=recipe, **keywords)


@pytest.mark.parametrize("shape", [(2, 3, 1, 2), (8, 1, 2, 2), (4, 4), (2, 5), (5, 2)])
def test_factors_are_the_weight_at_first_and_the_formula_always(shape):
    weight = torch.randn(shape)
    factored = Factored(weight)
    assert torch.equal(factored(*factored.right_inverse(weight)), weight)
    first, second, rest = (torch.randn_like(factor) for factor in factored.right_inverse(weight))
    rank = min(len(weight), weight[0].numel())
    assert (first.shape, second.shape, rest.shape) == ((rank, *shape[1:]), (len(weight), rank), weight.shape)
    eye = torch.eye(rank)
    if len(weight) < weight[0].numel():
        expected = torch.einsum("or,ri->oi", second + eye, first.flatten(1))
    else:
        expected = torch.einsum("or,ri->oi", second, first.flatten(1) + eye)
    torch.testing.assert_close(factored(first, second, rest), expected.reshape(shape) + rest)


def test_the_highest_by_hand():
    values = torch.tensor([3.0, 1.0, 3.0, 0.0, 3.0, 2.0])
    kept = {0: [], 1: [4], 2: [2, 4], 3: [0, 2, 4], 4: [0, 2, 4, 5], 6: [0, 1, 2, 3, 4, 5], 9: [0, 1, 2, 3, 4, 5]}
    for count, places in kept.items():
        assert highest(values, count).nonzero().flatten().tolist() == places
    assert highest(torch.zeros(4), 1).tolist() == [False, False, False, True]


def test_one_budget_for_all_factors_of_all_layers_by_hand():
    """4 + 2 weights, half of which may stay: of all numbers the three largest, wherever they are."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    method = ATMC(sparsity=0.5)
    model[0].weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    model[1].weight.data = torch.tensor([[0.5, 3.5]])
    method.prepare(model)
    factors = method.factors(model)
    assert [factor.tolist() for factor in factors["0.weight"]] == [[[0, 0], [0, 0]], [[0, 0], [3, 4]], [[0, 0], [0, 0]]]
    assert [factor.tolist() for factor in factors["1.weight"]] == [[[0, 3.5]], [[0]], [[0, 0]]]
    with torch.no_grad():
        factors["0.weight"][2][0, 1] = -9.0  # C
        factors["1.weight"][1][0, 0] = 5.0  # B: (5 + 1) A
    method.after_step(model)
    assert model[0].weight.tolist() == [[0, -9], [0, 4]]  # B (A + I) + C
    assert model[1].weight.tolist() == [[0, 0]]  # 6 times an A of which nothing is left


def test_a_search_keeps_to_its_budget_in_every_step_and_tells_both_sparsities():
    nonzero = []

    class Watched(ATMC):
        def after_step(self, model):
            super().after_step(model)
            nonzero.append(sum(int((factor != 0).sum()) for layer in self.factors(model).values() for factor in layer))

    dense = network()
    before = weights(dense)
    pruned = searched(dense, Watched(sparsity=0.8))
    budget = round(0.2 * 164)
    assert len(nonzero) == 15
    assert set(nonzero) == {budget}
    assert torch.equal(weights(dense), before)
    factors = pruned.recipe["reached"]["factors"]
    assert factors["A"] + factors["B"] + factors["C"] == budget
    assert factors["C"] > 0  # the rest takes part
    assert factors["sparsity"] == 1 - budget / 164
    assert factors["sparsity_of_product"] == pytest.approx(pruned.masks.sparsity)
    for name, weight in prunable_weights(pruned.module).items():
        assert torch.equal(weight != 0, pruned.masks.kept[name])
        assert weight.requires_grad
    assert any(note.startswith(f"{budget} non-zero numbers of ATMC's factors (") for note in pruned.notes)
    assert pruned.history[-1].loss < pruned.history[0].loss
    assert pruned.history[-1].accuracy > 0.9
    assert sorted(name for name, _ in pruned.module.named_parameters()) == sorted(
        name for name, _ in dense.named_parameters()
    )


def test_an_average_of_weights_is_projected_too():
    pruned = searched(recipe=replace(SEARCH, average=0.5))
    counts = pruned.recipe["reached"]["factors"]
    assert counts["A"] + counts["B"] + counts["C"] <= round(0.2 * 164)


def outcome(pruned):
    masks = torch.cat([mask.flatten() for mask in pruned.masks.kept.values()])
    losses = [(epoch.loss, epoch.accuracy) for epoch in pruned.history]
    return weights(pruned.module).tolist(), masks.tolist(), losses, pruned.recipe


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    path = tmp_path / "search.pt"

    def stop(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searched(resume=path, progress=stop)
    told = []
    undisturbed = outcome(searched())
    assert outcome(searched(resume=path, progress=told.append)) == undisturbed
    assert [epoch.number for epoch in told] == [3]
    assert outcome(searched(resume=path)) == undisturbed
    with pytest.raises(CheckpointError, match=r"hooks\.sparsity was 0\.8, is 0\.5"):
        searched(method=ATMC(sparsity=0.5), resume=path)


def test_a_search_that_loses_its_numbers_keeps_the_last_good_state(tmp_path):
    path = tmp_path / "search.pt"

    class Late(ATMC):
        def after_step(self, model):
            super().after_step(model)
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == 7:
                next(iter(self.factors(model).values()))[0].data.fill_(torch.nan)

    with pytest.raises(InputError, match="in epoch 2: choose a `learning_rate` below"):
        searched(method=Late(sparsity=0.8), resume=path)
    state = torch.load(path, weights_only=True)
    assert len(state["history"]) == 1
    assert all(value.isfinite().all() for value in state["module"].values())


def test_what_it_cannot_do_is_one_line():
    with pytest.raises(InputError, match="`sparsity` must be a fraction from 0 to below 1, got 1"):
        ATMC(sparsity=1)
    with pytest.raises(InputError, match="`method` 'atmc' has no setting 'structure': it has bits, rho, sparsity"):
        prune(network(), "atmc", structure="filter", samples=blobs(), recipe=SEARCH)
    tied = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 2))
    tied[2].weight = tied[1].weight
    with pytest.raises(InputError, match=r"`network`: 1\.weight and 2\.weight are one weight, which ATMC cannot write"):
        searched(tied)
    with pytest.raises(InputError, match="`network` has nothing to prune"):
        searched(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16)))
    with pytest.raises(InputError, match="`method` has no factors: it has found no masks yet"):
        atmc_state(ATMC(), network())


def test_k_means_by_hand():
    values = torch.tensor([-3.0, 5.0, 5.5, 0.0, -3.5, 6.0, 0.0])
    assert levels(values, 3).tolist() == [-3.25, 0.0, 5.5]
    assert quantised(values, 1).tolist() == [-3.25, 5.5, 5.5, 0.0, -3.25, 5.5, 0.0]  # zeros are no level
    assert torch.equal(quantised(values, 8), values)
    assert torch.equal(quantised(quantised(values, 1), 1), quantised(values, 1))
    assert not quantised(torch.zeros(4), 2).any()
    many = torch.special.ndtri((torch.arange(2000) + 0.5) / 2000)  # a normal distribution, evenly
    errors = [float((many - quantised(many, bits)).square().mean()) for bits in (1, 2, 3, 4)]
    assert errors[0] == pytest.approx(1 - 2 / math.pi, rel=0.05)  # of the two best levels of a normal distribution
    assert errors[1] == pytest.approx(0.1175, rel=0.1)  # Lloyd and Max's tables
    assert errors == sorted(errors, reverse=True)


def test_quantising_duals_and_penalty_by_hand():
    """One bit leaves two levels for F = (0, 1, 3, 5), 1 and 4: zero is none."""
    factor = torch.tensor([0.0, 1.0, 3.0, 5.0])
    few = FewValues([factor], bits=1, rho=2.0)
    assert few.targets[0].tolist() == [0, 1, 4, 4]
    assert few.penalty([factor]).item() == 2 / 2 * (1 + 1)
    few.renew([factor])  # U = (0, 0, -1, 1)
    assert few.penalty([factor]).item() == 2 / 2 * (2**2 + 2**2)
    few.renew([torch.tensor([0.0, 1.0, 0.0, 5.0])])  # F + U = (0, 1, 0, 6): what was pruned has no dual any more
    assert few.targets[0].tolist() == [0, 1, 0, 6]
    assert few.duals[0].tolist() == [0, 0, 0, 0]


def test_factors_end_with_few_values_and_a_stopped_search_goes_on(tmp_path):
    def make():
        return ATMC(sparsity=0.5, bits=2)

    pruned = searched(method=make())
    reached = pruned.recipe["reached"]["factors"]
    assert reached["bits"] == 2
    assert 1 < reached["most_values"] <= 4
    for factors in pruned.method._ended_with.values():
        assert all(len(factor[factor != 0].unique()) <= 4 for factor in factors)
    assert reached["A"] + reached["B"] + reached["C"] <= round(0.5 * 164)
    assert pruned.history[-1].accuracy > 0.9
    assert "values a factor, in 2 bits" in pruned.notes[0]
    path = tmp_path / "search.pt"

    def stop(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searched(method=make(), resume=path, progress=stop)
    assert outcome(searched(method=make(), resume=path)) == outcome(pruned)
    assert outcome(searched(method=ATMC(sparsity=0.5))) != outcome(pruned)
    assert "bits" not in ATMC().described()
    for settings, message in (({"bits": 0}, "`bits` must be a whole number from 1"), ({"rho": 0}, "`rho` must be a")):
        with pytest.raises(InputError, match=message):
            ATMC(**settings)


def test_its_files_are_those_of_its_authors(tmp_path):
    """Written, read by the reader of their files, and the same to the bit; not once the product was trained further."""
    samples = load_samples("digits", limit=50)
    dense = build("digits_cnn").eval()
    pruned = prune(dense, ATMC(sparsity=0.8), samples=samples, recipe=Recipe(epochs=1, learning_rate=0.01))
    state = atmc_state(pruned.method, pruned.module)
    assert {name.rpartition(".")[2] for name in state if name.startswith("conv2.")} == {
        *("weightA", "weightB", "weightC", "eye_const"),
    } | {name.rpartition(".")[2] for name in dense.state_dict() if name == "conv2.bias"}
    assert state["conv2.weightB"].ndim == 4
    torch.save(state, tmp_path / "sparse_pruned.pt")
    read = load_classifier(tmp_path / "sparse_pruned.pt", architecture="digits_cnn", normalization="none")
    with torch.no_grad():
        inputs = torch.rand(20, 1, 8, 8)
        assert torch.equal(read.network(inputs), pruned.module(inputs))
    counts = pruned.recipe["reached"]["factors"]
    assert any(f"{counts['A'] + counts['B'] + counts['C']} non-zero factors stand for" in note for note in read.notes)
    train(pruned.module, samples, Recipe(epochs=1), masks=pruned.masks)
    with pytest.raises(InputError, match=r"conv1\.weight is not the product of its factors, as the search left it"):
        atmc_state(pruned.method, pruned.module)
