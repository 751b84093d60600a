"""R-ADMM: its projections, penalty and duals by hand, what a search promises, and its authors' files."""

import math
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import nn

from tests.training.small import blobs, network, weights
from thinice.errors import CheckpointError, InputError
from thinice.models import prunable_weights
from thinice.pruning import prune
from thinice.pruning.radmm import RADMM, rho_for
from thinice.training import Recipe, train
from thinice.training.natural import Natural

SEARCH = Recipe(epochs=4, batch_size=40, learning_rate=0.05, momentum=0.5, weight_decay=0.0, nesterov=False)
SETTINGS = {"sparsity": 0.75, "rho": 2.0, "rho_factor": 1.2, "updates": 2}


def searched(dense=None, recipe=SEARCH, **settings):
    keywords = {name: settings.pop(name) for name in ("objective", "progress", "resume") if name in settings}
    method = RADMM(**SETTINGS | settings)
    return prune(network() if dense is None else dense, method, samples=blobs(), recipe=recipe, **keywords)


def linear(*values):
    layer = nn.Linear(len(values), 1, bias=False)
    layer.weight.data = torch.tensor([values])
    return layer


def test_duals_penalty_and_residuals_by_hand():
    """Two weights, one of which may stay: W moves from (3, 1) to (2, 1), later to (0.5, 1)."""
    method, layer = RADMM(sparsity=0.5, rho=2.0, rho_factor=1.5, updates=2), linear(3.0, 1.0)
    method.prepare(layer)  # Z = (3, 0), U = (0, 0)
    assert method.penalty(layer).item() == 1  # 2/2 (0^2 + 1^2)
    layer.weight.data = torch.tensor([[2.0, 1.0]])
    assert method.penalty(layer).item() == 2
    method.after_epoch(layer, 0.25)  # nothing is due
    assert method.penalty(layer).item() == 2
    method.after_epoch(layer, 0.5)  # Z = (2, 0), U = (0, 1), rho 3
    assert method.penalty(layer).item() == 3 / 2 * (0 + 2**2)
    layer.weight.data = torch.tensor([[0.5, 1.0]])
    method.after_epoch(layer, 1.0)  # W + U = (0.5, 2): Z = (0, 2), U = (0.5, 0), rho 4.5
    assert method.penalty(layer).item() == 4.5 / 2 * (1 + 1)
    assert method.masks(layer).kept["weight"].tolist() == [[False, True]]
    start, first, second = method.measured()["residuals"]
    assert start == {"epoch": 0, "rho": 2.0, "primal": 1.0, "dual": None}
    assert first == {"epoch": 2, "rho": 2.0, "primal": 1.0, "dual": 2.0}
    assert second == {"epoch": 3, "rho": 3.0, "primal": pytest.approx(1.25**0.5), "dual": pytest.approx(3 * 8**0.5)}


def test_the_penalty_has_the_gradient_of_the_paper():
    """Rho (W - Z + U) in each weight that is ranked, and none in others."""
    model = network()
    method = RADMM(sparsity=0.5, rho=0.3, skip="0.*")
    method.prepare(model)
    duals = torch.randn_like(model[5].weight)
    method.load_state_dict(method.state_dict() | {"duals": {"5.weight": duals}})
    method.penalty(model).backward()
    target = method.state_dict()["targets"]["5.weight"]
    torch.testing.assert_close(model[5].weight.grad, 0.3 * (model[5].weight.detach() - target + duals))
    assert model[0].weight.grad is None


def test_projections_by_hand():
    """Of a convolution with 2 outputs, 1 input, 1x3: the longest weight, column and filter are different places."""
    weight = torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.5, 2.0]])[:, None, None, :]
    kept = {
        "weight": [[3, 0, 0], [0, 2.5, 2]],  # 3 of 6
        "column": [[3, 0, 0], [0, 2.5, 0]],  # 9, 6.25, 5: one column of three fits into half
        "filter": [[0, 0, 0], [0, 2.5, 2]],  # 10 < 10.25, though 4 < 4.5 too
    }
    for structure, expected in kept.items():
        method = RADMM(sparsity=0.5, structure=structure)
        assert method.projected({"": weight})[""][:, 0, 0].tolist() == expected
    longer = torch.tensor([[2.0, 2.0], [3.5, 0.0]])[:, None, None, :]  # mean magnitude and length disagree
    assert RADMM(sparsity=0.5, structure="filter").projected({"": longer})[""][:, 0, 0].tolist() == [[0, 0], [3.5, 0]]
    equal = torch.ones(1, 1, 1, 4)
    assert RADMM(sparsity=0.5).projected({"": equal})[""].flatten().tolist() == [1, 0, 0, 1]  # the first go first


@pytest.mark.parametrize("structure", ["weight", "column", "filter"])
def test_a_search_holds_its_constraint_exactly_and_leaves_the_dense_network(structure):
    dense = network()
    before = weights(dense)
    recipe = Recipe(epochs=1, batch_size=40)
    pruned = searched(dense, recipe, structure=structure, sparsity=0.5)
    assert torch.equal(weights(dense), before)
    for name, weight in prunable_weights(pruned.module).items():
        assert torch.equal(weight != 0, pruned.masks.kept[name])
    conv, fc = (pruned.masks.kept[name] for name in ("0.weight", "5.weight"))
    if structure == "weight":
        assert (int(conv.sum()), int(fc.sum())) == (18, 64)
    else:
        units = conv.flatten(1).T if structure == "column" else conv.flatten(1)
        assert bool((units.any(1) == units.all(1)).all())
        assert int(units.any(1).sum()) == {"column": 5, "filter": 2}[structure]  # of 9, and of 4: at most half goes
        assert bool(fc.all())
    train(pruned.module, blobs(), recipe, masks=pruned.masks)
    assert pruned.masks.hold(pruned.module)


def test_residuals_fall():
    """Under the penalty the weights come to where they can be cut; with a tiny rho they stay where they were."""
    recipe = replace(SEARCH, epochs=8, batch_size=20)
    pulled, free = searched(recipe=recipe, updates=8), searched(recipe=replace(recipe, epochs=2), rho=1e-9)
    ours, theirs = (pruned.recipe["reached"]["residuals"] for pruned in (pulled, free))
    assert [row["epoch"] for row in ours] == list(range(9))
    assert ours[-1]["primal"] < 0.1 * ours[0]["primal"]
    assert ours[-1]["dual"] < 0.1 * ours[1]["dual"]
    assert theirs[-1]["primal"] > 0.8 * theirs[0]["primal"]
    assert ours[-1]["rho"] == pytest.approx(2 * 1.2**7)
    assert pulled.history[-1].accuracy > 0.9


def test_rho_is_chosen_by_the_length_of_the_search():
    """Twelve times a flat weight's distance is what all steps pull; half as many steps need twice the rho."""
    recipe = Recipe(epochs=2, batch_size=40, learning_rate=0.05, momentum=0.5, schedule="constant")
    for steps in (1000, 2000):
        assert rho_for(recipe, steps, factor=1.0, updates=2) == pytest.approx(12 / (steps * 0.05 / (1 - 0.5)))
        # a half at rho, a half at 3 rho
        assert rho_for(recipe, steps, factor=3.0, updates=2) == pytest.approx(12 / (steps * 0.05 / (1 - 0.5)) / 2)
    assert rho_for(recipe, 1, factor=1.0, updates=2) == 1 / 0.05  # never beyond the target in one step
    pruned = searched(recipe=replace(SEARCH, epochs=8, batch_size=20), rho=None, updates=8)
    rows = pruned.recipe["reached"]["residuals"]
    samples = len(blobs())
    expected = rho_for(replace(SEARCH, epochs=8), 8 * math.ceil(samples / 20), factor=1.2, updates=8)
    assert rows[0]["rho"] == pytest.approx(expected)
    assert rows[-1]["primal"] < 0.2 * rows[0]["primal"]
    assert pruned.recipe["rho"] is None


def outcome(pruned):
    masks = torch.cat([mask.flatten() for mask in pruned.masks.kept.values()])
    losses = [(epoch.loss, epoch.accuracy) for epoch in pruned.history]
    return weights(pruned.module).tolist(), masks.tolist(), losses, pruned.recipe


def stop_after(number, path, **settings):
    def stop(epoch):
        if epoch.number == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searched(resume=path, progress=stop, **settings)


@pytest.fixture(scope="module")
def undisturbed():
    return outcome(searched())


def test_s2ap_at_radius_zero_is_the_search_itself_and_above_it_goes_on_where_it_was(tmp_path, undisturbed):
    assert outcome(searched(s2ap=0.0, s2ap_warmup=0, s2ap_steps=2)) != undisturbed  # the file tells the settings
    assert outcome(searched(s2ap=0.0, s2ap_warmup=0, s2ap_steps=2))[:3] == undisturbed[:3]
    perturbed = {"s2ap": 0.05, "s2ap_warmup": 1}
    whole = outcome(searched(**perturbed))
    assert whole[2][0] == undisturbed[2][0]  # warm-up
    assert whole[:3] != undisturbed[:3]
    path = tmp_path / "search.pt"
    stop_after(2, path, **perturbed)
    assert outcome(searched(resume=path, **perturbed)) == whole
    with pytest.raises(InputError, match="`s2ap_warmup` 5 leaves nothing of a search of 4 epochs"):
        searched(s2ap=0.05)


def test_s2ap_moves_the_ranked_weights_within_their_balls():
    model, method = network().train(), RADMM(sparsity=0.5, rho=0.3, skip="0.*", s2ap=0.1, s2ap_warmup=0)
    method.prepare(model)
    before, seen = [value.detach().clone() for value in model.parameters()], []

    def backward():
        seen.append([value.detach().clone() for value in model.parameters()])
        model.zero_grad()
        (nn.functional.cross_entropy(model(blobs().inputs[:]), blobs().labels) + method.penalty(model)).backward()

    method.around_backward(model, backward)
    assert all(torch.equal(value, old) for value, old in zip(model.parameters(), before, strict=True))
    lengths = [float((there - old).norm() / old.norm()) for there, old in zip(seen[1], before, strict=True)]
    assert [length > 0 for length in lengths] == [name == "5.weight" for name, _ in model.named_parameters()]
    assert max(lengths) == pytest.approx(0.1, rel=1e-4)


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, undisturbed):
    path = tmp_path / "search.pt"
    stop_after(3, path)  # between two updates
    told = []
    assert outcome(searched(resume=path, progress=told.append)) == undisturbed
    assert [epoch.number for epoch in told] == [4]
    assert outcome(searched(resume=path)) == undisturbed  # a finished one is read
    with pytest.raises(CheckpointError, match=r"hooks\.rho was 2\.0, is 0\.25"):
        searched(resume=path, rho=0.25)


def test_every_part_of_the_state_counts(tmp_path, monkeypatch, undisturbed):
    """What a search forgot would show in the test above."""
    path, copy = tmp_path / "search.pt", tmp_path / "copy.pt"
    stop_after(2, path)
    load = RADMM.load_state_dict
    for forgotten in ("targets", "duals", "rho", "epochs", "parts", "residuals", "mask_changes", "before"):
        copy.write_bytes(path.read_bytes())
        monkeypatch.setattr(
            RADMM,
            "load_state_dict",
            lambda self, state, part=forgotten: load(self, {**state, part: self.state_dict()[part]}),
        )
        assert outcome(searched(resume=copy)) != undisturbed, forgotten


@dataclass(frozen=True)
class Breaks(Natural):
    """Loses its numbers once, in the third of the epochs of five steps."""

    calls: list[int] = field(default_factory=list, init=False)

    def losses(self, model, inputs, crafted, labels):
        self.calls.append(len(labels))
        loss = super().losses(model, inputs, crafted, labels)
        return loss._replace(values=loss.values * (torch.nan if len(self.calls) == 12 else 1))


def test_a_search_that_loses_its_numbers_keeps_the_last_good_state(tmp_path, undisturbed):
    path, breaks = tmp_path / "search.pt", Breaks()
    with pytest.raises(InputError, match=r"the loss is nan in epoch 3: choose a `learning_rate` below 0\.05"):
        searched(resume=path, objective=breaks)
    assert len(torch.load(path, weights_only=True)["history"]) == 2
    assert outcome(searched(resume=path, objective=breaks)) == undisturbed


def test_what_it_cannot_do_is_one_line():
    for settings, message in (
        ({"structure": "kernel"}, "`structure` must be one of weight, column, filter in R-ADMM, got 'kernel'"),
        ({"structure": "bn_filter"}, "`structure` must be one of weight, column, filter in R-ADMM, got 'bn_filter'"),
        ({"sparsity": 1.0}, "`sparsity` must be a fraction from 0 to below 1, got 1.0"),
        ({"rho": 0}, "`rho` must be a number above 0, got 0"),
        ({"rho": float("nan")}, "`rho` must be a number above 0, got nan"),
        ({"rho_factor": 0.9}, "`rho_factor` must be a number at least 1, got 0.9"),
        ({"updates": 0}, "`updates` must be a whole number of at least 1, got 0"),
    ):
        with pytest.raises(InputError) as refusal:
            RADMM(**settings)
        assert message in str(refusal.value)
        assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match="no layer has units of structure 'column'"):
        searched(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), structure="column")
