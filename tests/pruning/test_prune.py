"""Pruning against answers on paper and against torch.nn.utils.prune."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune as torch_prune

from thinice.errors import InputError
from thinice.models import Classifier, as_classifier, build, prunable_weights
from thinice.models.weights import STRUCTURES
from thinice.pruning import MERKLE_METHODS, Masks, prune
from thinice.pruning.magnitude import SCOPES, Magnitude, lowest_masks


def network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def even_network():
    """Weights of all layers have one scale, so that none is ranked out whole."""
    module = network()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def linear(*values):
    """A layer with the given weights, in one row."""
    layer = nn.Linear(len(values), 1)
    layer.weight.data = torch.tensor([values])
    return layer


WEIGHTS = ("0.weight", "3.weight", "5.weight")
RANKINGS = ("magnitude", "random")


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.95, 0.333])
def test_global_magnitude_is_torchs(sparsity):
    theirs = even_network()
    ours = prune(theirs, sparsity=sparsity)
    layers = [(theirs[index], "weight") for index in (0, 3, 5)]
    torch_prune.global_unstructured(layers, pruning_method=torch_prune.L1Unstructured, amount=sparsity)
    for name, (layer, _) in zip(WEIGHTS, layers, strict=True):
        assert torch.equal(ours.masks.kept[name], layer.weight_mask.bool())
        assert torch.equal(ours.module.get_parameter(name), layer.weight)


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.333])
def test_local_magnitude_is_torchs(sparsity):
    theirs = network()
    ours = prune(theirs, sparsity=sparsity, scope="local")
    for name, index in zip(WEIGHTS, (0, 3, 5), strict=True):
        torch_prune.l1_unstructured(theirs[index], "weight", sparsity)
        assert torch.equal(ours.module.get_parameter(name), theirs[index].weight)


def test_local_filters_are_torchs():
    module = network()
    ours, theirs = prune(module, sparsity=0.5, scope="local", structure="filter").module, copy.deepcopy(module)
    for index in (0, 3):
        torch_prune.ln_structured(theirs[index], "weight", 0.5, n=1, dim=0)
        assert torch.equal(ours[index].weight, theirs[index].weight)
    assert torch.equal(ours[5].weight, module[5].weight)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_memory_layout_changes_nothing(structure):
    module = network()
    last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    ours, theirs = (prune(each, sparsity=0.7, structure=structure).masks.kept for each in (module, last))
    assert all(torch.equal(ours[name], theirs[name]) for name in WEIGHTS)


def test_the_smallest_magnitudes_go():
    pruned = prune(linear(0.3, -0.1, 0.5, -0.4), sparsity=0.5)
    assert pruned.module.weight.tolist() == [[0.0, 0.0, 0.5, pytest.approx(-0.4)]]
    assert pruned.masks.kept["weight"].tolist() == [[False, False, True, True]]


def test_global_ranks_layers_together_and_local_apart():
    pair = nn.Sequential(linear(0.01, 0.02, 0.03, 0.04), linear(1.0, 2.0, 3.0, 4.0))
    together, apart = (prune(pair, sparsity=0.5, scope=scope).masks for scope in ("global", "local"))
    # the best weight of each layer stays, so the fourth to go is the smallest of the large layer
    assert [layer.kept for layer in together.layers()] == [1, 3]
    assert [layer.kept for layer in apart.layers()] == [2, 2]


def test_ties_fall_by_position():
    assert prune(linear(*[1.0] * 6), sparsity=0.5).masks.kept["weight"].tolist() == [[True] + [False] * 3 + [True] * 2]


def test_filters_by_hand():
    """Two convolutions of three filters with known mean magnitudes; the linear layer stays whole."""
    first, second = nn.Conv2d(1, 3, 2), nn.Conv2d(3, 3, 1)
    first.weight.data = torch.tensor([5.0, 1.0, 2.0])[:, None, None, None].expand(3, 1, 2, 2).clone()
    second.weight.data = torch.tensor([4.0, 3.0, 6.0])[:, None, None, None].expand(3, 3, 1, 1).clone()
    module = nn.Sequential(first, second, nn.Flatten(), nn.Linear(3, 2))
    # in order: 1, 2 (of four weights each), 3, 4 (of three); 5 and 6 are the best of their layers. 21 weights
    pruned = prune(module, sparsity=0.5, structure="filter")  # at most 10
    assert pruned.module[0].weight[:, 0, 0, 0].tolist() == [5, 0, 0]
    assert pruned.module[1].weight[:, 0, 0, 0].tolist() == [4, 3, 6]
    more = prune(module, sparsity=0.55, structure="filter")  # at most 12
    assert more.module[1].weight[:, 0, 0, 0].tolist() == [4, 0, 6]
    assert more.masks.kept["3.weight"].all()


def test_kernels_go_whole():
    kept = prune(network(), sparsity=0.7, structure="kernel").masks.kept
    for name in WEIGHTS[:2]:
        shares = kept[name].float().flatten(2).mean(-1)
        assert ((shares == 0) | (shares == 1)).all()
    assert kept["5.weight"].all()


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("method", RANKINGS)
def test_every_method(method, structure, scope):
    original = network()
    before = copy.deepcopy(original.state_dict())
    for sparsity in (0.0, 0.5, 0.9, 0.9999):
        pruned = prune(original, sparsity=sparsity, method=method, structure=structure, scope=scope)
        again = prune(original, sparsity=sparsity, method=method, structure=structure, scope=scope)
        assert tuple(pruned.masks.kept) == WEIGHTS
        for name, mask in pruned.masks.kept.items():
            assert torch.equal(pruned.module.get_parameter(name), original.get_parameter(name) * mask)
            assert torch.equal(mask, again.masks.kept[name])
            assert mask.any()
        ranked = [layer for layer in pruned.masks.layers() if structure == "weight" or len(layer.shape) == 4]
        assert 1 - sum(layer.kept for layer in ranked) / sum(layer.weights for layer in ranked) <= sparsity + 0.001
    for name, value in original.state_dict().items():
        assert torch.equal(value, before[name])


@settings(max_examples=50, deadline=None)
@given(
    sparsity=st.floats(0, 0.99),
    sizes=st.lists(st.integers(20, 60), min_size=1, max_size=3),
    method=st.sampled_from(RANKINGS),
    scope=st.sampled_from(SCOPES),
    seed=st.integers(0, 5),
)
def test_the_count_is_exact(sparsity, sizes, method, scope, seed):
    torch.manual_seed(seed)
    module = nn.Sequential(*[nn.Linear(size, 5) for size in sizes])
    chance = {"seed": seed} if method == "random" else {}
    pruned = prune(module, method, sparsity=sparsity, scope=scope, **chance)
    totals = [5 * size for size in sizes]
    wanted = (
        sum(min(round(sparsity * total), total - 1) for total in totals)
        if scope == "local"
        else min(round(sparsity * sum(totals)), sum(totals) - len(totals))
    )
    assert sum(int((layer.weight == 0).sum()) for layer in pruned.module) == wanted
    assert pruned.masks.sparsity == pytest.approx(wanted / sum(totals))


def test_random_is_uniform_and_follows_its_seed():
    module = nn.Linear(100, 100)
    first, second, again = (
        prune(module, sparsity=0.5, method="random", seed=seed).masks.kept["weight"] for seed in (0, 1, 0)
    )
    assert torch.equal(first, again)
    # two independent halves agree on half of the weights: 5000 of 10 000, standard deviation 50
    assert abs(int((first == second).sum()) - 5000) < 250
    small = module.weight.abs() < module.weight.abs().median()
    assert abs(int((first & small).sum()) - 2500) < 250
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    prune(module, method="random")
    assert torch.equal(torch.rand(3), expected)  # the caller's random state is untouched


@pytest.mark.parametrize("method", RANKINGS)
def test_halving_again_halves_what_is_alive(method):
    half = prune(nn.Linear(40, 10), method, sparsity=0.5)
    quarter = prune(half.module, method, sparsity=0.75)
    assert not (quarter.masks.kept["weight"] & ~half.masks.kept["weight"]).any()
    assert quarter.masks.density == 0.25


def test_scores_are_only_read():
    scores = {"a": torch.rand(4, 5), "b": torch.rand(3)}
    before = {name: layer.clone() for name, layer in scores.items()}
    kept = lowest_masks(scores, sparsity=0.5, scope="local")
    assert all(torch.equal(scores[name], before[name]) for name in scores)
    assert [int(mask.sum()) for mask in kept.values()] == [10, 1]


def test_a_classifier_is_copied_and_trainable_again():
    classifier = as_classifier(network())
    pruned = prune(classifier, sparsity=0.5)
    assert isinstance(classifier, Classifier)
    assert all(parameter.requires_grad for parameter in pruned.module.parameters())
    assert not any(parameter.requires_grad for parameter in classifier.module.parameters())
    assert pruned.masks.sparsity == pytest.approx(0.5, abs=1e-3)
    assert classifier.sparsity == 0
    assert as_classifier(pruned.module).sparsity == pytest.approx(pruned.masks.sparsity)


def test_a_frozen_module_stays_as_frozen_as_it_was():
    module = network()
    module[0].requires_grad_(requires_grad=False)
    pruned = prune(module).module
    assert [parameter.requires_grad for parameter in pruned.parameters()] == [
        parameter.requires_grad for parameter in module.parameters()
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 1.0}, "`sparsity` must be a fraction from 0 to below 1, got 1.0"),
        ({"sparsity": 90}, "`sparsity`"),
        ({"sparsity": -0.1}, "`sparsity`"),
        ({"sparsity": float("nan")}, "`sparsity`"),
        ({"sparsity": True}, "`sparsity`"),
        ({"sparsity": "0.9"}, "`sparsity`"),
        ({"method": "size"}, "`method` 'size' is unknown: choose from magnitude, random"),
        ({"method": "magnitud"}, "`method` 'magnitud' is unknown: did you mean magnitude?"),
        ({"method": "random", "seed": -1}, "`seed` must be a whole number of at least 0, got -1"),
        ({"seed": 1}, "`method` 'magnitude' has no setting 'seed': it has scope, skip, sparsity, structure"),
        (
            {"criterion": "random"},
            "`method` 'magnitude' has no setting 'criterion': it has scope, skip, sparsity, structure",
        ),
        ({"scope": "all"}, "`scope` must be one of global, local, got 'all'"),
        ({"structure": "row"}, "`structure` must be one of weight, kernel, filter, channel, column, got 'row'"),
    ],
)
def test_refuses_in_one_line(arguments, message):
    with pytest.raises(InputError) as error:
        prune(network(), **arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("architecture", "weights"),
    [
        ("preact_resnet8", 1_164_640),  # as Merkle et al. count them, who never prune the 1x1 shortcuts
        ("preact_resnet18", 11_000_000),
        ("torchvision:resnet18", 11_000_000),
        ("wrn_28_4", 5_799_856),
        ("digits_cnn", 19_088),  # all of them: it has none
    ],
)
def test_shortcuts_of_any_name_stay_whole(architecture, weights):
    network = build(architecture, 10)
    method = Magnitude(skip="shortcuts")
    parameters = prunable_weights(network)
    assert sum(parameters[name].numel() for name in method.ranked(network)) == weights
    for name in set(parameters) - set(method.ranked(network)):
        assert parameters[name].shape[2:] == (1, 1)


@pytest.mark.parametrize("name", MERKLE_METHODS)
def test_methods_of_merkle_leave_shortcuts_and_count_without_them(name):
    arguments = dict(MERKLE_METHODS[name])
    torch.manual_seed(0)
    pruned = prune(build("preact_resnet8"), arguments.pop("method"), sparsity=0.5, **arguments)
    shortcuts = [name for name in pruned.masks.kept if "shortcut" in name]
    assert len(shortcuts) == 3
    assert pruned.masks.part(shortcuts).sparsity == 0
    assert not set(shortcuts) & set(pruned.ranked)
    assert pruned.masks.part(pruned.ranked).sparsity == pytest.approx(0.5, abs=0.01)
    if arguments["structure"] != "weight":
        assert pruned.masks.kept["fc.weight"].all()


def test_refuses_a_network_without_such_layers():
    with pytest.raises(InputError, match="nothing to prune"):
        prune(nn.ReLU())
    with pytest.raises(InputError, match="nothing to prune: no layer has units of structure 'filter'"):
        prune(nn.Linear(3, 3), structure="filter")


def test_refuses_nan():
    module = network()
    module[3].weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match=r"3\.weight"):
        prune(module)


def test_torchs_own_masks_are_folded_in():
    module = nn.Linear(10, 10)
    torch_prune.l1_unstructured(module, "weight", 0.5)
    pruned = prune(module, sparsity=0.75)
    assert pruned.masks.sparsity == 0.75
    assert (pruned.module.weight[module.weight == 0] == 0).all()
    assert module.weight_mask.sum() == 50


def test_masks_are_values():
    mask = torch.tensor([[True, False], [False, False]])
    masks = Masks({"weight": mask})
    assert (masks.density, masks.sparsity, masks.compression_rate) == (0.25, 0.75, 4.0)
    (layer,) = masks.layers()
    assert (layer.name, layer.shape, layer.weights, layer.kept, layer.sparsity) == (
        "weight",
        (2, 2),
        4,
        1,
        0.75,
    )
    with pytest.raises(TypeError):
        masks.kept["other"] = mask
    with pytest.raises(AttributeError):
        masks.kept = {}
    assert Masks({"weight": torch.zeros(2, dtype=torch.bool)}).compression_rate == float("inf")


def test_masks_of_a_network_are_its_zeros():
    pruned = prune(network(), sparsity=0.8)
    found = Masks.of(pruned.module)
    assert all(torch.equal(found.kept[name], mask) for name, mask in pruned.masks.kept.items())


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"other": torch.ones(1, 3, dtype=torch.bool)}, "other is \\(1, 3\\), the network has none"),
        ({"weight": torch.ones(3, dtype=torch.bool)}, "weight is \\(3,\\), the network has \\(1, 3\\)"),
    ],
)
def test_masks_refuse_another_network(kept, message):
    with pytest.raises(InputError, match=message):
        Masks(kept).apply_(nn.Linear(3, 1))


def test_masks_must_be_boolean():
    with pytest.raises(InputError, match="must be boolean, got"):
        Masks({"weight": torch.ones(3)})
