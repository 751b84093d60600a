"""Masks as values: combined, counted by hand, kept in checkpoints and in files of their own."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from thinice.errors import CheckpointError, InputError
from thinice.models import Masks, build, load_classifier, load_masks, save_classifier, save_masks
from thinice.models.inspection import inspect_checkpoint
from thinice.models.research_formats import RawCheckpoint
from thinice.models.weights import STRUCTURES, grouped, spread
from thinice.pruning import prune

pytestmark = pytest.mark.sampled

SUFFIXES = (".pt", ".safetensors")


def masks_of(**rows):
    return Masks({name: torch.tensor(row, dtype=torch.bool) for name, row in rows.items()})


def test_and_or_by_hand():
    ours, theirs = masks_of(a=[1, 1, 0, 0], b=[1, 0]), masks_of(a=[1, 0, 1, 0], c=[0, 1])
    both, either = ours & theirs, ours | theirs
    assert {name: mask.int().tolist() for name, mask in both.kept.items()} == {
        "a": [1, 0, 0, 0],
        "b": [1, 0],  # the other says nothing of b, so it keeps all of it
        "c": [0, 1],
    }
    assert {name: mask.int().tolist() for name, mask in either.kept.items()} == {"a": [1, 1, 1, 0]}
    with pytest.raises(InputError, match=r"`masks` cannot be combined: a is \(4,\) and \(2,\)"):
        _ = ours & masks_of(a=[1, 1])


def test_parts_and_counts():
    module = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(3, 2))
    whole = Masks.whole(module)
    assert (whole.density, whole.vanished()) == (1.0, ())
    mask = torch.zeros(3, 2, 2, 2, dtype=torch.bool)
    mask[0, 0, 0, 0] = mask[0, 1, 1, 1] = mask[2, 1, 0, 0] = True
    masks = whole & Masks({"0.weight": mask})
    counts = {structure: masks.units(structure) for structure in STRUCTURES}
    assert {name: [(row.kept, row.weights) for row in rows] for name, rows in counts.items()} == {
        "weight": [(3, 24), (6, 6)],
        "kernel": [(3, 6)],
        "filter": [(2, 3)],
        "channel": [(2, 2)],
        "column": [(3, 8)],
    }
    assert list(masks.convolutions().kept) == ["0.weight"]
    assert masks.convolutions().density == 3 / 24
    assert masks.density == 9 / 30
    assert masks.part(["2.weight"]).density == 1
    with pytest.raises(InputError, match=r"`names`: there is no mask of fc; there are those of 0\.weight, 2\.weight"):
        masks.part(["fc"])
    gone = masks & Masks({"0.weight": torch.zeros(3, 2, 2, 2, dtype=torch.bool)})
    assert gone.vanished() == ("0.weight",)
    assert Masks({}).density == 1.0  # nothing is pruned


@pytest.mark.parametrize("structure", STRUCTURES)
def test_units_are_spread_as_they_were_grouped(structure):
    weight = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    first = grouped(weight, structure)[..., 0]
    assert torch.equal(grouped(spread(first, weight.shape, structure).contiguous(), structure)[..., 0], first)
    totals = {"weight": weight, "kernel": weight.sum((2, 3)), "filter": weight.sum((1, 2, 3)), "column": weight.sum(0)}
    assert torch.equal(grouped(weight, structure).sum(-1), totals.get(structure, weight.sum((0, 2, 3))))


def equal(ours, theirs):
    return ours.kept.keys() == theirs.kept.keys() and all(
        torch.equal(mask, theirs.kept[name]) for name, mask in ours.kept.items()
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_checkpoint_keeps_its_masks(tmp_path, suffix):
    pruned = prune(build("digits_cnn"), sparsity=0.9)
    kept = pruned.masks & Masks.whole(pruned.module)
    with torch.no_grad():  # a weight that is kept may be zero: the masks say more than the zeros
        weight = pruned.module.get_parameter("fc.weight")
        weight[kept.kept["fc.weight"]] = 0.0
    path = save_classifier(pruned.module, tmp_path / f"pruned{suffix}", masks=kept)
    loaded = load_classifier(path)
    assert equal(loaded.masks, kept)
    assert loaded.sparsity > kept.sparsity
    again = load_classifier(save_classifier(loaded, tmp_path / f"again{suffix}"))
    assert equal(again.masks, kept)
    assert again.fingerprint == loaded.fingerprint
    assert equal(load_masks(path), kept)
    dense = save_classifier(build("digits_cnn"), tmp_path / f"dense{suffix}")
    assert load_classifier(dense).masks is None
    with pytest.raises(CheckpointError, match="holds no masks"):
        load_masks(dense)


def test_masks_that_do_not_hold_are_refused(tmp_path):
    pruned = prune(build("digits_cnn"), sparsity=0.9)
    with pytest.raises(InputError, match=r"`masks` do not hold: weights that they drop are not zero: call"):
        save_classifier(build("digits_cnn"), tmp_path / "net.pt", masks=pruned.masks)
    with pytest.raises(InputError, match=r"`masks` do not fit the network: conv1\.weight is \(16, 1, 3, 3\)"):
        save_classifier(build("cnn5"), tmp_path / "net.pt", masks=pruned.masks)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda masks: {**masks, "fc.weight": ~masks["fc.weight"]}, "its masks drop weights that are not zero"),
        (lambda masks: {**masks, "other": masks["fc.weight"]}, "other is"),
        (lambda masks: {**masks, "fc.weight": masks["fc.weight"] * 0.5}, "neither 0 nor 1"),
        (lambda masks: {**masks, "fc.weight": "all"}, "fc.weight is no mask"),
        (lambda masks: [*masks], "its masks are damaged"),
    ],
)
def test_a_strangers_masks_are_checked(tmp_path, change, message):
    pruned = prune(build("digits_cnn"), sparsity=0.9)
    path = save_classifier(pruned.module, tmp_path / "pruned.pt", masks=pruned.masks)
    content = torch.load(path, weights_only=True)
    content["masks"] = change(content["masks"])
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message) as error:
        load_classifier(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_masks(tmp_path, suffix):
    masks = masks_of(a=[[1, 0], [0, 1]], b=[1])
    path = save_masks(masks, tmp_path / "folder" / f"masks{suffix}")
    assert equal(load_masks(path), masks)
    with pytest.raises(InputError, match=r"is there already.*: choose another path, or replace it"):
        save_masks(masks, path)
    save_masks(masks_of(c=[0]), path, overwrite=True)
    assert equal(load_masks(path), masks_of(c=[0]))


def test_masks_of_other_programs(tmp_path):
    path = tmp_path / "masks.pth"
    torch.save({"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([0, 1], dtype=torch.uint8)}, path)
    assert equal(load_masks(path), masks_of(a=[1, 0], b=[0, 1]))
    for content, message in (
        ({"a": torch.tensor([0.5])}, "a has values that are neither 0 nor 1"),
        ({"a": torch.tensor([np.nan])}, "a has values that are neither 0 nor 1"),
        ({"a": 1}, "a is no mask"),
        ({"a": torch.tensor(1.0)}, "a is no mask"),
        ({}, "holds no masks"),
        ([1], "holds no masks"),
    ):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=message):
            load_masks(path)


def test_masks_of_other_programs_are_the_masks_of_the_network(tmp_path):
    """By `torch.nn.utils.prune`, under a prefix, of two layers and a bias; one weight is kept and zero."""
    network = build("digits_cnn")
    torch_prune.random_unstructured(network.conv1, "weight", 0.5)
    torch_prune.random_unstructured(network.fc, "weight", 0.9)
    torch_prune.random_unstructured(network.fc, "bias", 0.5)
    expected = {name: getattr(network, name).weight_mask.bool() for name in ("conv1", "fc")}
    place = tuple(int(part) for part in expected["fc"].nonzero()[0])
    with torch.no_grad():
        network.fc.weight_orig[place] = 0.0
    torch.save({f"module.{name}": value for name, value in network.state_dict().items()}, tmp_path / "theirs.pt")
    theirs = load_classifier(tmp_path / "theirs.pt")
    assert theirs.masks is not None
    assert list(theirs.masks.kept) == ["conv1.weight", "conv2.weight", "conv3.weight", "fc.weight"]
    for name, mask in theirs.masks.kept.items():
        assert torch.equal(mask, expected.get(name.partition(".")[0], torch.ones_like(mask)))
    assert theirs.network.fc.weight[place] == 0
    inspection = inspect_checkpoint(tmp_path / "theirs.pt")
    assert inspection.conversions == ("torch.nn.utils.prune: 3 masks applied",)
    assert inspection.layers[-1].kept == int(expected["fc"].sum())
    tensors = len(theirs.network.state_dict())
    save_classifier(theirs, tmp_path / "ours.pt")
    kept, weights = (sum(getattr(layer, field) for layer in theirs.masks.layers()) for field in ("kept", "weights"))
    assert inspect_checkpoint(tmp_path / "ours.pt").conversions == (
        f"masks in the file, which keep {kept} of {weights} weights, 1 of them zero",
    )
    save_classifier(theirs, tmp_path / "ours.safetensors")
    for name in ("ours.pt", "ours.safetensors"):
        entries = [(entry.name, entry.holds, entry.role) for entry in inspect_checkpoint(tmp_path / name).entries]
        assert entries == [("state_dict", f"{tensors} tensors", "weights"), ("masks", "4 tensors", "masks")]
    torch.save(build("digits_cnn").state_dict(), tmp_path / "dense.pt")
    assert load_classifier(tmp_path / "dense.pt").masks is None
    beside = load_classifier(tmp_path / "dense.pt", masks={"conv1.weight": expected["conv1"]})
    assert torch.equal(beside.masks.kept["conv1.weight"], expected["conv1"])


def test_masks_that_are_applied_twice_keep_what_both_keep():
    checkpoint = RawCheckpoint("here", {}, {})
    first, second = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    weight = checkpoint.masked(checkpoint.masked(torch.ones(4), first), second)
    assert weight.tolist() == [1, 0, 0, 0]
    (remembered,) = checkpoint.kept.values()
    assert remembered[1].tolist() == [True, False, False, False]
    layer = torch.nn.Linear(4, 1)
    checkpoint.weights["elsewhere"] = torch.ones(4)  # a weight that masks were applied to is gone: no half of them
    assert checkpoint.masks_for(layer) is None
