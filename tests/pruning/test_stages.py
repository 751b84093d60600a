"""Pruning in stages: exact counts, masks that hold through training, stages that go on after being killed."""

import copy
import json
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.conftest import ROOT
from tests.training.small import blobs, network, weights
from thinice.errors import CheckpointError, InputError
from thinice.models import Masks, Normalized, as_classifier, build, prunable_weights
from thinice.pruning import HALVINGS, MERKLE_METHODS, METHODS, PruningMethod, prune, prune_in_stages, sparsity_of
from thinice.pruning.magnitude import Magnitude, lowest_masks
from thinice.training import Recipe

RECIPE = Recipe(epochs=1, batch_size=64, learning_rate=0.05)
TWO = [0.5, 0.75]


def staged(module=None, method="magnitude", *, sparsities=TWO, recipe=RECIPE, **keywords):
    module = network() if module is None else module
    return list(prune_in_stages(module, method, sparsities=sparsities, samples=blobs(), recipe=recipe, **keywords))


def outcome(stages):
    return [
        (weights(pruned.module).tolist(), [(epoch.loss, epoch.accuracy) for epoch in pruned.history])
        for pruned in stages
    ]


def test_rates_are_sparsities():
    assert [sparsity_of(rate) for rate in HALVINGS] == [0.5, 0.75, 0.875, 0.9375, 0.96875, 0.984375]
    for rate in (1, 1.0, 0.5, 0, -2, float("inf"), float("nan"), True, "2"):
        with pytest.raises(InputError, match=r"`rate` must be above 1, got .*: 2 keeps half of the weights") as error:
            sparsity_of(rate)
        assert "\n" not in str(error.value)


def units(masks, structure, names):
    return {row.name: (row.kept, row.weights) for row in masks.part(names).units(structure)}


@pytest.mark.parametrize("name", MERKLE_METHODS)
def test_the_nine_methods_halve_to_the_last_unit(name):
    """Each stage's masks lie in those before, hold zeros through momentum and weight decay, and count exactly."""
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    )
    dense, settings = copy.deepcopy(module), dict(MERKLE_METHODS[name])
    sparsities = [sparsity_of(rate) for rate in HALVINGS[:3]]
    recipe = Recipe(epochs=2, batch_size=64, learning_rate=0.05, momentum=0.9, weight_decay=0.01)
    stages = staged(module, settings.pop("method"), sparsities=sparsities, recipe=recipe, **settings)
    assert all(torch.equal(value, dense.state_dict()[key]) for key, value in module.state_dict().items())
    before = Masks.whole(module)
    for sparsity, pruned in zip(sparsities, stages, strict=True):
        assert pruned.method.sparsity == sparsity
        masks = pruned.masks
        assert masks.hold(pruned.module)
        assert not any((mask & ~before.kept[key]).any() for key, mask in masks.kept.items())
        before = masks
        part = masks.part(pruned.ranked)
        assert pruned.ranked == (tuple(masks.kept) if settings["structure"] == "weight" else ("0.weight", "2.weight"))
        gone = {row.name: row.weights - row.kept for row in part.layers()}
        sizes = {row.name: row.weights for row in part.layers()}
        per_unit = {row.name: sizes[row.name] // row.weights for row in part.units(settings["structure"])}
        if settings["scope"] == "local":
            for key, size in sizes.items():  # as many units as fit, and one is left
                fit = min(round(sparsity * size) // per_unit[key], size // per_unit[key] - 1)
                assert gone[key] == fit * per_unit[key]
        else:
            target = round(sparsity * sum(sizes.values()))
            assert target - max(per_unit.values()) < sum(gone.values()) <= target
        reached = pruned.recipe["reached"]
        assert reached == {
            "of_ranked": part.sparsity,
            "of_convolutions": masks.convolutions().sparsity,
            "of_all": masks.sparsity,
        }
        assert settings["structure"] == "weight" or reached["of_all"] < reached["of_convolutions"]
        json.dumps(pruned.recipe)


def test_stages_of_magnitude_are_one_shot_where_nothing_is_learnt():
    dense = network()
    recipe = Recipe(epochs=1, learning_rate=1e-12, weight_decay=0)
    stages = staged(dense, sparsities=[0.25, 0.6], recipe=recipe, scope="local")
    once = prune(dense, sparsity=0.6, scope="local").masks
    assert all(torch.equal(mask, once.kept[name]) for name, mask in stages[-1].masks.kept.items())


def test_what_went_stays_away_though_others_are_zero_too():
    """A weight that training made zero has the score of one that went: without the masks it would go in its place."""
    layer = nn.Linear(4, 1)
    layer.weight.data = torch.tensor([[0.0, 1.0, 0.0, 2.0]])
    before = Masks({"weight": torch.tensor([[True, True, False, True]])})
    masks = Magnitude(sparsity=0.25).masks_within(layer, before)
    assert masks.kept["weight"].tolist() == [[True, True, False, True]]
    assert Magnitude(sparsity=0.5).masks_within(layer, before).kept["weight"].tolist() == [[False, True, False, True]]
    scores = {"a": torch.tensor([5.0, 1.0, 2.0])}
    kept = {"a": torch.tensor([False, True, True])}
    assert lowest_masks(scores, sparsity=1 / 3, before=kept)["a"].tolist() == [False, True, True]


def test_weights_are_kept_rewound_or_new():
    dense, early = network(), network(seed=5)
    still = Recipe(epochs=1, learning_rate=1e-12, weight_decay=0)
    kept, rewound, new, again, other = (
        staged(dense, recipe=recipe, **how)
        for recipe, how in (
            (still, {}),
            (still, {"rewind": as_classifier(early, normalization="half")}),
            (still, {"reinitialise": True}),
            (still, {"reinitialise": True}),
            (Recipe(epochs=1, learning_rate=1e-12, weight_decay=0, seed=1), {"reinitialise": True}),
        )
    )
    for name in ("0.weight", "5.weight"):
        for pruned, source in ((kept, dense), (rewound, early)):
            for stage in pruned:
                mask = stage.masks.kept[name]
                expected = source.get_parameter(name) * mask
                assert torch.allclose(stage.module.get_parameter(name), expected, atol=1e-6)
        assert all(torch.equal(kept[0].masks.kept[name], stages[0].masks.kept[name]) for stages in (rewound, new))
        assert not torch.allclose(new[0].module.get_parameter(name), dense.get_parameter(name), atol=1e-3)
        assert new[0].masks.hold(new[0].module)
    assert outcome(new) == outcome(again)
    assert weights(new[0].module).tolist() != weights(other[0].module).tolist()
    with pytest.raises(InputError, match="`reinitialise` and `rewind` exclude each other"):
        staged(dense, rewind=early, reinitialise=True)


def test_a_normalised_network_has_the_masks_of_the_network():
    module = Normalized(network(), mean=(0.5,), std=(0.5,))
    first, second = staged(module, skip="0.*")
    assert list(second.masks.kept) == ["0.weight", "5.weight"]
    assert second.ranked == ("5.weight",)
    assert second.masks.kept["0.weight"].all()
    assert second.masks.part(["5.weight"]).sparsity == 0.75
    assert second.masks.hold(second.module)
    assert second.masks.hold(second.module.network)
    assert isinstance(first.module, Normalized)


KILLED = """
import os, signal, torch
from tests.pruning.test_stages import staged
save, writes = torch.save, []
def torn(state, path):  # the {number}th snapshot is cut off in the middle of writing
    writes.append(path)
    if len(writes) == {number}:
        path.write_bytes(b"PK half a snapshot")
        os.kill(os.getpid(), signal.SIGKILL)
    save(state, path)
torch.save = torn
staged(recipe=__import__("thinice").Recipe(epochs=2, batch_size=64), resume={path!r}, method="random", seed=3)
"""


@pytest.mark.slow
def test_killed_in_the_second_stage_it_goes_on_to_the_same_networks(tmp_path):
    path, recipe, number = tmp_path / "stages", Recipe(epochs=2, batch_size=64), 4
    script = KILLED.format(path=str(path), number=number)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    told = []
    resumed = staged(recipe=recipe, method="random", seed=3, resume=path, progress=told.append)
    assert len(told) == 4 - (number - 1)
    assert outcome(resumed) == outcome(staged(recipe=recipe, method="random", seed=3))
    told.clear()
    assert outcome(staged(recipe=recipe, method="random", seed=3, resume=path, progress=told.append)) == outcome(
        resumed
    )
    assert not told  # a finished one is read


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module": network(seed=7)}, r"\(network differ"),  # random masks are the same for every network
        ({"seed": 4}, r"\(method differ"),
        ({"sparsities": [0.5, 0.8]}, r"\(method differ"),
        ({"reinitialise": True}, r"\(start differ"),
        ({"rewind": network(seed=2)}, r"\(start differ"),
        ({"recipe": Recipe(epochs=1, batch_size=32)}, "belongs to another training"),
    ],
)
def test_another_pruning_does_not_go_on_there(tmp_path, change, message):
    path = tmp_path / "stages"
    arguments = {"method": "random", "seed": 3, "resume": path}
    staged(**arguments)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(CheckpointError, match=message) as error:
        staged(**arguments | change)
    assert "\n" not in str(error.value)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    undisturbed = staged(**{name: value for name, value in (arguments | change).items() if name != "resume"})
    assert outcome(staged(**arguments | change, overwrite=True)) == outcome(undisturbed)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff" * 20])
def test_a_damaged_plan_is_told(tmp_path, content):
    (tmp_path / "stages.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="is not the plan of a pruning in stages: choose another path"):
        staged(resume=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsities": []}, "`sparsities` must not be empty"),
        ({"sparsities": [1.0]}, "`sparsity` must be a fraction from 0 to below 1, got 1.0"),
        ({"sparsities": [0.0]}, "`sparsities` must rise from above 0, got 0 after 0"),
        ({"sparsities": [0.5, 0.5]}, "`sparsities` must rise from above 0, got 0.5 after 0.5"),
        ({"method": "toy"}, "`method` 'toy' is unknown: choose from magnitude, random"),
        ({"structure": "row"}, "`structure` must be one of weight, kernel, filter, channel, column, got 'row'"),
        ({"structure": "filter", "module": nn.Sequential(nn.Flatten(), nn.Linear(16, 2))}, "linear layers weights"),
        ({"skip": "conv*"}, r"`skip` 'conv\*' is the name of no weight: there are 0.weight, 5.weight"),
        ({"skip": "*"}, "nothing to prune: no layer that is not skipped"),
        ({"rewind": build("digits_cnn")}, "`rewind` has another architecture: 0.weight is none, the network has"),
    ],
)
def test_refuses_in_one_line_before_anything_is_trained(tmp_path, arguments, message):
    path, told = tmp_path / "stages", []
    with pytest.raises(InputError, match=message) as error:
        staged(**arguments, resume=path, progress=told.append)
    assert "\n" not in str(error.value)
    assert not told
    assert not path.exists()


def test_a_file_is_no_folder_of_stages(tmp_path):
    file = tmp_path / "stages"
    file.write_text("mine")
    with pytest.raises(InputError, match=r"`resume` .* is a file: give a folder"):
        staged(resume=file)
    assert file.read_text() == "mine"


def test_a_layer_whose_start_is_not_known_is_told():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.last = nn.Parameter(torch.ones(16)), nn.Linear(16, 2)

        def forward(self, inputs):
            return self.last(inputs.flatten(1) * self.scale)

    with pytest.raises(InputError, match=r"`reinitialise`: the network \(Own\) does not say how its parameters start"):
        staged(Own(), reinitialise=True)


def test_collapse_is_told():
    """The first convolution has tiny weights: ranked globally it would vanish, and keeps its best filter alone."""
    module = network()
    module[0].weight.data *= 1e-3
    pruned = prune(module, sparsity=0.6, structure="weight")
    assert next(layer.kept for layer in pruned.masks.layers()) == 1
    assert pruned.notes == ("0.weight keeps 1 of 36 weights, its best one: all others went",)
    extreme = prune(module, sparsity=0.9999)
    assert "sparsity 0.9999 was asked for, 0.9878 is reached" in extreme.notes
    filters = prune(module, sparsity=0.99, structure="filter")  # one of four is left, though less than one was missing
    assert filters.notes[-1] == "sparsity 0.99 was asked for, 0.7500 is reached"
    assert not prune(network(), sparsity=0.5, scope="local").notes


def test_a_method_that_lets_a_layer_vanish_is_told():
    class NoFirst(PruningMethod):
        def masks(self, model):
            first, last = prunable_weights(model).items()
            return Masks({first[0]: torch.zeros_like(first[1]).bool(), last[0]: torch.ones_like(last[1]).bool()})

    pruned = prune(network(), NoFirst(sparsity=36 / 164))
    assert pruned.notes == ("0.weight keeps nothing: the logits no longer depend on what comes before it",)
    (stage,) = staged(method=NoFirst(), sparsities=[36 / 164])
    assert stage.notes[-1] == "the network has collapsed: its logits are the same for all samples"


def test_channels_go_whole():
    module = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 3, 2))
    module[1].weight.data = torch.tensor([4.0, 1.0, 3.0, 2.0])[None, :, None, None].expand(3, 4, 2, 2).clone()
    masks = prune(module, sparsity=0.5, scope="local", structure="channel", skip="0.*").masks
    assert masks.kept["1.weight"].float().mean((0, 2, 3)).tolist() == [1, 0, 1, 0]
    assert masks.kept["0.weight"].all()


def test_methods_describe_themselves():
    assert prune(network()).recipe["method"] == "magnitude"
    assert METHODS.make("random", seed=3).described() == {
        "method": "random",
        "sparsity": 0.9,
        "scope": "global",
        "structure": "weight",
        "skip": "",
        "seed": 3,
    }


def test_a_pruned_classifier_brings_its_masks():
    """A kept weight that is zero has the score of those that went; the masks of the file tell which is which."""
    dense = build("digits_cnn")
    half = prune(dense, sparsity=0.5, scope="local")
    kept = half.masks.kept["fc.weight"].nonzero()[:5].tolist()
    with torch.no_grad():
        for row, column in kept:
            half.module.fc.weight[row, column] = 0
    classifier = replace(as_classifier(half.module), masks=half.masks)
    again = prune(classifier, sparsity=0.5, scope="local").masks
    assert all(torch.equal(mask, half.masks.kept[name]) for name, mask in again.kept.items())
    blind = prune(half.module, sparsity=0.5, scope="local").masks
    assert not torch.equal(blind.kept["fc.weight"], again.kept["fc.weight"])
