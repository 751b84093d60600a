"""Weights by nearness to the dense boundary: on paper, to the bit, shuffled, and in snapshots and files."""

# ruff: noqa: ARG002 - the loop hands over more than a toy uses

import math

import pytest
import torch
from torch import nn

import thinice
from tests.training.small import blobs, network, weights
from thinice import ThinIce
from thinice.data import as_samples
from thinice.errors import CheckpointError, InputError
from thinice.models import as_classifier
from thinice.pruning.classifiers import prune_classifier
from thinice.training import Losses, Objective, Plan, Recipe, train
from thinice.training.checking import held_out
from thinice.training.natural import Natural
from thinice.training.pgd_at import PGD
from thinice.training.thin_ice import Distillation, SampleWeights, nearness_weights

RATIOS = torch.tensor([0.0, 0.5, 1.0, 3.0, math.nan])
"""Epsilons over the budget: a misclassified sample, three that have one, and one that has none."""
ON_PAPER = {
    ("power", 2.0): [1 / 1.5**2, 1 / 2**2, 1 / 4**2],
    ("exponential", 2.0): [math.exp(-1), math.exp(-2), math.exp(-6)],
    ("window", 2.0): [math.exp(-0.25), 1.0, math.exp(-4)],
}
ONE_STEP = {"epochs": 1, "learning_rate": 0.5, "momentum": 0.0, "weight_decay": 0.0}


@pytest.mark.parametrize("budget", [0.1, 2.0])
@pytest.mark.parametrize(("shape", "strength"), ON_PAPER)
def test_weights_on_paper(shape, strength, budget):
    """Of the three, weights over their mean, 1 on average; the other two weigh 1, or what is stated, of that."""
    near = torch.tensor(ON_PAPER[shape, strength], dtype=torch.float64)
    three = (near / near.mean()).tolist()
    given = nearness_weights(RATIOS * budget, budget, shape=shape, strength=strength, other=1.0)
    torch.testing.assert_close(given, torch.tensor([1.0, *three, 1.0]))
    heavier = nearness_weights(RATIOS * budget, budget, shape=shape, strength=strength, other=2.0)
    torch.testing.assert_close(heavier, torch.tensor([2.0, *three, 2.0]) / (7 / 5))


@pytest.mark.parametrize("shape", ["power", "exponential", "window"])
@pytest.mark.parametrize("strength", [0.0, 1.0, 30.0, 1e6])
def test_the_mean_is_one_however_steep_and_nearer_is_heavier(shape, strength):
    epsilons = torch.linspace(0.1, 5, 200, dtype=torch.float64)
    given = nearness_weights(epsilons, 0.1, shape=shape, strength=strength, other=1.0)
    assert given.isfinite().all()
    assert given.double().mean().item() == pytest.approx(1, abs=1e-6)
    assert (given.diff() <= 0).all()  # the nearest lies at the budget: the window falls from there too
    assert (given[0] > given[-1]) == (strength > 0)
    assert strength or torch.equal(given, torch.ones(200))


def test_the_window_falls_on_both_sides():
    given = nearness_weights(torch.tensor([0.25, 0.5, 0.75]), 0.5, shape="window", strength=4.0, other=1.0)
    assert given[0] == given[2] < given[1]


def plan(objective=None, **changes):
    return Plan(Recipe(epochs=2, batch_size=50, **changes), objective or PGD(budget=0.1, steps=2))


def epsilons_of(samples, seed=0):
    return 0.3 * torch.rand(len(samples), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.01


def test_only_samples_that_are_trained_on_count_in_the_mean():
    samples = blobs()
    epsilons = epsilons_of(samples)
    fitted, given = ThinIce(epsilons=epsilons).weights(samples, plan(held_out=0.3))
    assert torch.equal(fitted.sample_ids, held_out(samples, 0.3)[0].sample_ids)
    assert given.mean().item() == pytest.approx(1, abs=1e-6)
    raw = 1 / (1 + epsilons[fitted.sample_ids] / 0.1)
    torch.testing.assert_close(given, (raw / raw.mean()).float())


def test_shuffled_weights_are_the_same_ones_elsewhere():
    samples, epsilons = blobs(), epsilons_of(blobs())
    _, near = ThinIce(epsilons=epsilons).weights(samples, plan())
    _, shuffled = ThinIce(epsilons=epsilons, shuffled=True).weights(samples, plan())
    _, again = ThinIce(epsilons=epsilons, shuffled=True).weights(samples, plan())
    _, other = ThinIce(epsilons=epsilons, shuffled=True, seed=1).weights(samples, plan())
    assert torch.equal(shuffled.sort()[0], near.sort()[0])
    assert (shuffled == near).float().mean() < 0.1
    assert torch.equal(shuffled, again)
    assert not torch.equal(shuffled, other)
    assert abs(torch.corrcoef(torch.stack([near, shuffled]))[0, 1]) < 0.25


class Linear(Objective):
    """The loss of a sample is its logit of class 0."""

    def losses(self, model, inputs, crafted, labels):
        logits = model(inputs)
        return Losses(logits[:, 0], logits)


def test_a_step_by_hand():
    """Of the mean of w times input the gradient is the mean of the inputs: each counts as often as it weighs."""
    samples = as_samples(torch.tensor([0.25, 0.75]).reshape(2, 1, 1, 1), [0, 0], sample_ids=[7, 3])
    module = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    module[1].weight.data.fill_(1.0)
    thin_ice = ThinIce(epsilons=torch.tensor([0.1, 0.3]), budget=0.1)  # 1/2 and 1/4: 4/3 and 2/3
    step = Plan(Recipe(**ONE_STEP), Linear())
    train(module, samples, step.recipe, objective=step.objective, hooks=thin_ice.hooks(None, samples, step))
    torch.testing.assert_close(module[1].weight[0, 0], torch.tensor(1 - 0.5 * (4 / 3 * 0.25 + 2 / 3 * 0.75) / 2))


def test_the_gradient_of_distillation_is_the_formula():
    """Of w KL(p || q) in the logits behind q it is w (q - p)."""
    torch.manual_seed(0)
    teacher, inputs, logits = network(), blobs(6).inputs[:], torch.randn(6, 2, requires_grad=True)
    dense = as_classifier(teacher)
    hook = Distillation(torch.tensor([5, 4, 3, 2, 1, 0]), torch.arange(6.0), dense, 3.0)
    hook.prepare(network())
    hook.term(torch.arange(6), inputs, logits).sum().backward()
    with torch.no_grad():
        p, q = dense(inputs).softmax(1), logits.softmax(1)
    torch.testing.assert_close(logits.grad, 3 * torch.tensor([5.0, 4, 3, 2, 1, 0])[:, None] * (q - p))
    assert hook.weigh(torch.arange(6), torch.ones(6)) is None


@pytest.fixture(scope="module")
def dense():
    samples = thinice.load_samples("digits", split="train", limit=60)
    network = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    return network, samples, 0.2 * torch.rand(60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


SHORT = Plan(Recipe(epochs=2, batch_size=20), Natural())


def pruned(dense, path, method="hydra", **thin_ice):
    network, samples, epsilons = dense
    settings = {"budget": 0.1} | thin_ice
    (made,) = prune_classifier(
        network,
        method,
        path=path,
        sparsity=0.8,
        samples=samples,
        search=SHORT if method == "hydra" else None,
        finetune=SHORT,
        thin_ice=ThinIce(epsilons=settings.pop("epsilons", epsilons), **settings) if thin_ice else None,
        device="cpu",
        progress=settings.pop("progress", None),
    )
    return made.classifier


def test_even_weights_are_the_host_to_the_bit_and_others_are_not(dense, tmp_path):
    host = pruned(dense, tmp_path / "host.pt")
    assert pruned(dense, tmp_path / "even.pt", strength=0.0).fingerprint == host.fingerprint
    assert "thin_ice" not in host.recipe
    near, shuffled, distilled, tuned = (
        pruned(dense, tmp_path / f"{number}.pt", strength=4.0, **settings)
        for number, settings in enumerate([{}, {"shuffled": True}, {"distil": 1.0}, {"search": False}])
    )
    fingerprints = {network.fingerprint for network in (host, near, shuffled, distilled, tuned)}
    assert len(fingerprints) == 5
    same_masks = [torch.equal(tuned.masks.kept[name], mask) for name, mask in host.masks.kept.items()]
    assert all(same_masks)  # fine-tuning alone is weighted
    assert any(not torch.equal(near.masks.kept[name], mask) for name, mask in host.masks.kept.items())
    told = near.recipe["thin_ice"]
    assert (told["shape"], told["strength"], told["other"], told["search"]) == ("power", 4.0, 1.0, True)
    with pytest.raises(InputError, match=r"thin_ice\.strength was 4\.0, is 3\.0"):
        pruned(dense, tmp_path / "0.pt", strength=3.0)
    with pytest.raises(InputError, match=r"thin_ice\.epsilons was"):
        pruned(dense, tmp_path / "0.pt", strength=4.0, epsilons=dense[2] + 0.01)


def test_the_parts_take_what_weighs_as_well(dense, tmp_path):
    network, samples, epsilons = dense
    near = pruned(dense, tmp_path / "near.pt", strength=4.0)
    hooks = ThinIce(epsilons=epsilons, strength=4.0, budget=0.1).hooks(network, samples, SHORT)
    search = {"samples": samples, "recipe": SHORT.recipe, "objective": SHORT.objective, "hooks": hooks}
    searched = thinice.prune(network, "hydra", sparsity=0.8, **search)
    for name, mask in near.masks.kept.items():
        assert torch.equal(searched.masks.kept[name], mask)
    with pytest.raises(InputError, match="`hooks` changes nothing: method 'lwm' finds its masks without training"):
        thinice.prune(network, "lwm", sparsity=0.8, hooks=hooks)


def test_methods_without_a_search_are_weighted_in_fine_tuning(dense, tmp_path):
    host, near = pruned(dense, tmp_path / "host.pt", "lwm"), pruned(dense, tmp_path / "near.pt", "lwm", strength=4.0)
    assert near.fingerprint != host.fingerprint
    for name, mask in host.masks.kept.items():
        assert torch.equal(near.masks.kept[name], mask)


@pytest.mark.parametrize("distil", [0.0, 2.0])
def test_training_goes_on_where_it_was_and_not_with_other_weights(tmp_path, distil):
    samples = blobs()
    teacher, path = as_classifier(network(7)), tmp_path / "training.pt"

    def trained(resume=None, stop=None, epsilons=None, teacher=teacher, **settings):
        def note(epoch):
            if epoch.number == stop:
                raise KeyboardInterrupt

        module, (recipe, objective) = network(), plan()
        epsilons = epsilons_of(samples) if epsilons is None else epsilons
        hooks = ThinIce(epsilons=epsilons, distil=distil, **settings).hooks(teacher, samples, plan())
        train(module, samples, recipe, objective=objective, hooks=hooks, resume=resume, progress=note)
        return module

    whole = trained()
    with pytest.raises(KeyboardInterrupt):
        trained(path, stop=1)
    for changes in ({"strength": 2.0}, {"epsilons": epsilons_of(samples, 1)}, {"shuffled": True}):
        with pytest.raises(CheckpointError, match="weights was"):
            trained(path, **changes)
    if distil:
        with pytest.raises(CheckpointError, match="dense was"):
            trained(path, teacher=as_classifier(network(8)))
    assert torch.equal(weights(trained(path)), weights(whole))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": "sharp"}, "`shape` must be one of power, exponential, window, got 'sharp'"),
        ({"strength": -1.0}, "`strength` must be a number of at least 0, got -1.0"),
        ({"other": math.nan}, "`other` must be a number of at least 0, got nan"),
        ({"budget": 0}, "`budget` must be a number above 0, such as 8/255, got 0"),
        ({"budget": math.inf}, "`budget` must be a number above 0, such as 8/255, got inf"),
        ({"shuffled": 1}, "`shuffled` must be true or false, got 1"),
        ({"seed": -1}, "`seed` must be a whole number of at least 0, got -1"),
        ({"search": False, "finetune": False}, "`search` and `finetune` are both false"),
        ({"epsilons": torch.tensor([-0.1])}, "`epsilons` must be one number of at least 0 a sample"),
        ({"epsilons": torch.tensor([math.inf])}, "`epsilons` must be one number of at least 0 a sample"),
    ],
)
def test_bad_settings_are_one_line(settings, message):
    with pytest.raises(InputError, match=message):
        ThinIce(**{"epsilons": torch.tensor([0.1]), **settings})


def test_weights_that_fit_nothing_are_refused(dense, tmp_path):
    network, samples, epsilons = dense
    with pytest.raises(InputError, match="`epsilons` has 59 rows, but there are 60 training samples"):
        ThinIce(epsilons=epsilons[:59]).weights(samples, plan())
    with pytest.raises(InputError, match="`budget` must be given"):
        ThinIce(epsilons=epsilons).weights(samples, SHORT)
    with pytest.raises(InputError, match="are 0 or missing for all samples"):
        ThinIce(epsilons=torch.zeros(60)).weights(samples, plan())
    test = thinice.load_samples("digits", limit=60)
    with pytest.raises(InputError, match="of split 'test', which measures networks"):
        ThinIce(epsilons=epsilons).weights(test, plan())
    with pytest.raises(InputError, match="`thin_ice` changes nothing: no training takes place"):
        list(prune_classifier(network, path=tmp_path / "x.pt", sparsity=0.5, thin_ice=ThinIce(epsilons=epsilons)))


def test_weights_go_by_sample_and_not_by_place():
    hook = SampleWeights(torch.tensor([30, 10, 20]), torch.tensor([3.0, 1.0, 2.0]))
    hook.prepare(network())
    assert hook.weigh(torch.tensor([20, 30]), torch.ones(2)).tolist() == [2, 3]
