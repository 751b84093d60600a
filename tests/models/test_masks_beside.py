"""Masks beside the weights in every layout that programs leave, against the network with the masks multiplied in."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from tests.models.test_research_formats import LAYERS, inputs, trained
from thinice.errors import CheckpointError, InputError
from thinice.models import Masks, as_classifier, build, load_classifier, save_classifier

pytestmark = pytest.mark.sampled

SHARE = 0.4


def masks_for(network, names=None):
    """A random mask for each weight, by the name of the weight."""
    return {
        f"{name}.weight": (torch.rand_like(network.get_parameter(f"{name}.weight")) < SHARE).float()
        for name in names or LAYERS
    }


def masked_logits(network, masks):
    with torch.no_grad():
        weights = {name: network.state_dict()[name] * mask for name, mask in masks.items()}
        return functional_call(network, weights, inputs())


def load(held, folder, **said):
    path = folder / "net.pt"
    torch.save(held, path)
    return load_classifier(path, normalization="none", **said)


def assert_masked(classifier, network, masks, *words):
    torch.testing.assert_close(classifier(inputs()), masked_logits(network, masks), atol=1e-6, rtol=0)
    assert any(all(word in note for word in ("mask", *words)) for note in classifier.notes), classifier.notes
    if set(masks) == {f"{name}.weight" for name in LAYERS}:
        zeros = sum(int((network.get_parameter(name).detach() * mask == 0).sum()) for name, mask in masks.items())
        assert classifier.sparsity == zeros / 19088


def layers_of(masks):
    return {name.removesuffix(".weight"): mask for name, mask in masks.items()}


LAYOUTS = {
    "nni": lambda masks: {"mask": {layer: {"weight": mask, "bias": None} for layer, mask in layers_of(masks).items()}},
    "mask_dict": lambda masks: {"mask_dict": masks},
    "pruning_mask": lambda masks: {"pruning_mask": layers_of(masks)},
    "masks, wrapped": lambda masks: {"masks": {f"module.{name}": mask for name, mask in masks.items()}},
    "masks, any prefix": lambda masks: {"weight_masks": {f"my.net.{name}": mask for name, mask in masks.items()}},
    "bool": lambda masks: {"masks": {name: mask.bool() for name, mask in masks.items()}},
    "uint8": lambda masks: {"masks": {name: mask.to(torch.uint8) for name, mask in masks.items()}},
    "half": lambda masks: {"masks": {name: mask.half() for name, mask in masks.items()}},
    "numpy": lambda masks: {"masks": {name: mask.numpy() for name, mask in masks.items()}},
    "sparse": lambda masks: {"masks": {name: mask.to_sparse() for name, mask in masks.items()}},
    "names with _mask": lambda masks: {"masks": {f"{name}_mask": mask for name, mask in masks.items()}},
    "names with underscores": lambda masks: {"masks": {name.replace(".", "_"): mask for name, mask in masks.items()}},
    "list": lambda masks: {"masks": list(masks.values())},
    "tuple": lambda masks: {"masks": tuple(masks.values())},
    "by number": lambda masks: {"masks": dict(enumerate(masks.values()))},
    "by numbers as text": lambda masks: {"masks": {str(place): mask for place, mask in enumerate(masks.values())}},
    "each in a dict": lambda masks: {"masks": {name: {"mask": mask} for name, mask in masks.items()}},
    "deep": lambda masks: {"compression_sched": {"masks_dict": {**masks, "fc.bias": None}}},
    "inside info": lambda masks: {"pruner": {"mask_info": {"masks": masks, "rate": 0.4}}},
    "loose": lambda masks: {f"{name}_mask": mask for name, mask in masks.items()},
    "another name": lambda masks: {"tickets": masks},
    "another name, list": lambda masks: {"lottery": list(masks.values())},
    "names of originals": lambda masks: {"masks": {f"{name}_orig": mask for name, mask in masks.items()}},
    "names of wrapped parts": lambda masks: {
        "masks": {name.replace(".weight", ".module.weight"): mask for name, mask in masks.items()}
    },
    "twice the same": lambda masks: {"mask": masks, "masks": {f"module.{name}": mask for name, mask in masks.items()}},
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_beside_the_state_dict_are_applied(layout, tmp_path):
    network = trained()
    masks = masks_for(network)
    held = {"epoch": 1, "state_dict": network.state_dict(), **LAYOUTS[layout](masks)}
    classifier = load(held, tmp_path)
    assert_masked(classifier, network, masks, "applied")
    assert not any("not used" in note for note in classifier.notes), classifier.notes


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_in_a_file_of_their_own(layout, tmp_path):
    network = trained()
    masks = masks_for(network)
    torch.save(LAYOUTS[layout](masks), tmp_path / "masks.pth")
    classifier = load({"net": network.state_dict()}, tmp_path, masks=tmp_path / "masks.pth")
    assert_masked(classifier, network, masks, "masks.pth", "applied")
    with pytest.raises(CheckpointError, match=r"masks\.pth: holds (masks alone.*--masks|no weights)"):
        load_classifier(tmp_path / "masks.pth")


@pytest.mark.parametrize("layout", ["layers", "flat", "each in a dict", "list", "torch prune", "checkpoint"])
def test_files_that_hold_masks_and_nothing_else(layout, tmp_path):
    network = trained()
    masks = masks_for(network)
    held = {
        "layers": {layer: {"weight": mask, "bias": None} for layer, mask in layers_of(masks).items()},
        "flat": {f"module.{name}": mask for name, mask in masks.items()},
        "each in a dict": {name: {"mask": mask} for name, mask in masks.items()},
        "list": list(masks.values()),
        "torch prune": {
            f"{name}_{kind}": value
            for name, mask in masks.items()
            for kind, value in (("orig", torch.rand_like(mask)), ("mask", mask))
        },
        "checkpoint": {"epoch": 3, "state_dict": {f"{name}_mask": mask for name, mask in masks.items()}},
    }[layout]
    torch.save(held, tmp_path / "masks.pth")
    classifier = load({"net": network.state_dict()}, tmp_path, masks=tmp_path / "masks.pth")
    assert_masked(classifier, network, masks, "masks.pth", "applied")


def test_masks_given_in_python_and_as_safetensors(tmp_path):
    network = trained()
    masks = masks_for(network)
    state = network.state_dict()
    for given in (
        masks,
        {layer: {"weight": mask, "bias": None} for layer, mask in layers_of(masks).items()},
        {name: mask.numpy() for name, mask in masks.items()},
        list(masks.values()),
        Masks({name: mask.bool() for name, mask in masks.items()}),
    ):
        assert_masked(load(state, tmp_path, masks=given), network, masks, "applied")
    with pytest.raises(InputError, match="`masks` must hold tensors or arrays, got str"):
        load(state, tmp_path, masks={"conv1": "all"})
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file(masks, tmp_path / "masks.safetensors")
    assert_masked(load(state, tmp_path, masks=str(tmp_path / "masks.safetensors")), network, masks, "masks.safetensors")
    save_file(dict(state), tmp_path / "net.safetensors")
    assert_masked(load_classifier(tmp_path / "net.safetensors", masks=masks), network, masks, "applied")
    with pytest.raises(CheckpointError, match="safetensors does not keep the order"):
        load_classifier(tmp_path / "net.safetensors", masks=list(masks.values()))


def test_masks_of_biases_and_norms_count_as_well(tmp_path):
    network = trained()
    masks = masks_for(network, ["conv1", "fc", "bn2"])
    masks["fc.bias"] = (torch.arange(10) % 2).float()
    nested = {}
    for name, mask in masks.items():
        layer, _, leaf = name.rpartition(".")
        nested.setdefault(layer, {})[leaf] = mask
    assert_masked(load({"state_dict": network.state_dict(), "mask": nested}, tmp_path), network, masks, "4 masks")


def test_expanded_masks_are_read(tmp_path):
    network = trained()
    filters = torch.arange(16) % 2
    masks = {"conv1.weight": filters[:, None, None, None].expand(16, 1, 3, 3)}
    assert masks["conv1.weight"].stride()[2:] == (0, 0)
    assert_masked(load({"net": network.state_dict(), "mask": masks}, tmp_path), network, masks, "applied")
    assert_masked(
        load(network.state_dict() | {"conv1.mask": masks["conv1.weight"]}, tmp_path), network, masks, "applied"
    )


def test_one_number_a_filter(tmp_path):
    network = trained()
    filters = (torch.arange(32) % 3 > 0).float()
    masks = {"conv2.weight": filters[:, None, None, None].expand(32, 16, 3, 3)}
    assert_masked(load({"net": network.state_dict(), "masks": {"conv2": filters}}, tmp_path), network, masks, "applied")
    square = {"fc.weight": torch.rand(4, 4), "fc.bias": torch.rand(4)}
    with pytest.raises(CheckpointError, match=r"fc: shape \(4,\) fits both sides"):
        load({"net": square, "masks": {"fc": torch.tensor([0, 1, 1, 0])}}, tmp_path)


def test_one_number_a_kernel(tmp_path):
    network = trained()
    kernels = (torch.rand(32, 16) < SHARE).float()
    masks = {"conv2.weight": kernels[:, :, None, None].expand(32, 16, 3, 3)}
    assert_masked(load({"net": network.state_dict(), "masks": {"conv2": kernels}}, tmp_path), network, masks, "applied")
    weights = {"conv.weight": torch.rand(3, 3, 3, 3), "fc.weight": torch.rand(2, 3)}
    with pytest.raises(CheckpointError, match=r"conv: shape \(3, 3\) fits both sides"):
        load({"net": weights, "masks": {"conv": torch.eye(3)}}, tmp_path)


@pytest.mark.parametrize("name", ["conv1.clean_scores", "conv1.mask_scores", "conv9.popup_scores", "conv9.scores"])
def test_unknown_scores_are_refused(name, tmp_path):
    with pytest.raises(CheckpointError, match=rf"{name}: holds scores of a method"):
        load({**trained().state_dict(), name: torch.rand(16, 1, 3, 3)}, tmp_path, density=0.5)


@pytest.mark.parametrize("beside", ["inside", "file"])
def test_torch_ao_pruning(beside, tmp_path):
    """FakeSparsity keeps its masks out of the state dict: they are in that of the sparsifier."""
    sparsifiers = pytest.importorskip("torch.ao.pruning")
    network = trained()
    names = [{"tensor_fqn": "fc.weight"}]
    sparsifier = sparsifiers.WeightNormSparsifier(sparsity_level=0.7, sparse_block_shape=(1, 1), zeros_per_block=1)
    sparsifier.prepare(network, names)
    sparsifier.step()
    with torch.no_grad():
        expected = network(inputs())
    state, masks = network.state_dict(), sparsifier.state_dict()
    assert not any("mask" in name for name in state)
    if beside == "inside":
        classifier = load({"state_dict": state, "sparsifier": masks}, tmp_path)
    else:
        with pytest.raises(CheckpointError, match=r"fc\.weight: has a mask that is not in the file .*squash_mask"):
            load(state, tmp_path)
        torch.save(masks, tmp_path / "masks.pt")
        classifier = load(state, tmp_path, masks=tmp_path / "masks.pt")
        assert load(state, tmp_path, masks="none").sparsity == 0
    torch.testing.assert_close(classifier(inputs()), expected, atol=1e-6, rtol=0)
    assert classifier.sparsity == pytest.approx(0.7 * 5120 / 19088, abs=1e-3)
    sparsifier.squash_mask()
    torch.testing.assert_close(load(network.state_dict(), tmp_path)(inputs()), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("pruned_bias", [True, False])
def test_structured_torch_ao_pruning(pruned_bias, tmp_path):
    """One number a filter, and biases that it renames; whether pruned ones count is known where they are zero."""
    parts = pytest.importorskip("torch.ao.pruning._experimental.pruner.parametrization")
    network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).eval()
    mask = torch.arange(32) % 2 == 0
    plain = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    plain.load_state_dict(network.state_dict())
    parametrization = parts.FakeStructuredSparsity(mask)
    nn.utils.parametrize.register_parametrization(network[0], "weight", parametrization)
    network[0].register_parameter("_bias", nn.Parameter(network[0].bias.detach()))
    network[0].bias = None
    network[0].register_forward_hook(parts.BiasHook(parametrization, prune_bias=pruned_bias))
    flat = inputs().flatten(1)
    with torch.no_grad():
        expected = network(flat)
    torch.save({"state_dict": network.state_dict(), "mask": {"0.weight": mask}}, tmp_path / "net.pt")
    if not pruned_bias:
        with pytest.raises(CheckpointError, match=r"0\._bias: is not zero for filters that are pruned"):
            load_classifier(tmp_path / "net.pt", architecture=plain)
        return
    classifier = load_classifier(tmp_path / "net.pt", architecture=plain)
    torch.testing.assert_close(classifier(flat), expected, atol=1e-6, rtol=0)
    assert classifier.sparsity == pytest.approx(16 * 64 / (32 * 64 + 320))


@pytest.mark.parametrize("layout", ["3", "2"])
@pytest.mark.parametrize("kind", ["binary_mask", "mask"])
def test_nncf(layout, kind, tmp_path):
    network = trained()
    masks = masks_for(network)
    state = dict(network.state_dict())
    for layer, mask in layers_of(masks).items():
        stored = mask.bool() if kind == "binary_mask" else torch.where(mask == 1, 0.01, -3.0)
        if layout == "3":
            state[f"__nncf_hooks.post_hooks.{layer}:weight__0.0.{kind}"] = stored
        else:
            state[f"{layer}.pre_ops.0.op._{kind}"] = stored
    if layout == "2":
        state = {f"nncf_module.{name}": value for name, value in state.items()}
    assert_masked(load({"state_dict": state}, tmp_path), network, masks, "NNCF: 4 masks")


def test_originals_whose_masks_lie_elsewhere(tmp_path):
    network = trained()
    masks = masks_for(network)
    state = {f"{name}_orig" if name in masks else name: value for name, value in network.state_dict().items()}
    assert_masked(load({"net": state, "masks": masks}, tmp_path), network, masks, "4 masks")
    with pytest.raises(CheckpointError, match=r"conv1\.weight: has a mask that is not in the file"):
        load({"net": state}, tmp_path)


def test_other_operations_of_nncf_are_refused(tmp_path):
    state = dict(trained().state_dict()) | {"__nncf_hooks.post_hooks.conv1:weight__0.0.input_low": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"input_low: is an operation of NNCF"):
        load(state, tmp_path)


def test_zeros_and_ones_called_mask_weight_are_masks(tmp_path):
    network = trained()
    masks = masks_for(network)
    state = {**network.state_dict(), **{f"{layer}.mask_weight": mask for layer, mask in layers_of(masks).items()}}
    assert_masked(load(state, tmp_path), network, masks, "4 masks")
    state["fc.mask_bias"] = torch.full((10,), 0.5)
    with pytest.raises(CheckpointError, match=r"mask_weight: holds zeros and ones, as masks do, and others"):
        load(state, tmp_path)


def test_soft_masks_of_mad_are_still_soft(tmp_path):
    network = trained()
    state = {**network.state_dict(), "conv1.mask_weight": torch.full((16, 1, 3, 3), 0.5)}
    factor = math.log(1 + math.exp(0.5))
    with torch.no_grad():
        expected = functional_call(network, {"conv1.weight": network.conv1.weight * factor}, inputs())
    torch.testing.assert_close(load(state, tmp_path)(inputs()), expected)


@pytest.mark.parametrize(
    "name", ["conv1.mask", "conv1._mask", "conv1.weight_mask", "conv1.weight.mask", "conv1.weight_masks"]
)
def test_masks_among_the_parameters(name, tmp_path):
    network = trained()
    masks = masks_for(network, ["conv1"])
    state = {**network.state_dict(), name: masks["conv1.weight"]}
    if name == "conv1.weight_masks":
        with pytest.raises(CheckpointError, match=r"conv1\.weight_masks: is called a mask, but no weight"):
            load(state, tmp_path)
    else:
        assert_masked(load(state, tmp_path), network, masks, "applied")


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"conv1.weight": torch.full((16, 1, 3, 3), 0.3)}, r"masks\.conv1\.weight: is no mask of zeros and ones"),
        ({"conv9.weight": torch.ones(2, 2)}, r"masks\.conv9\.weight: is a mask for no parameter.*--masks none"),
        (
            {"conv1": {"weight": torch.ones(16, 1, 3, 3), "_output_": torch.ones(4)}},
            r"conv1\._output_: is a mask for no",
        ),
        ([torch.ones(16, 1, 3, 3)], r"masks: is a list of 1 masks, whose shapes do not tell"),
        (
            {"conv1.weight": torch.ones(16, 1, 3, 3), "module.conv1.weight": torch.ones(16, 1, 3, 3)},
            "two masks for conv1",
        ),
        ({"conv1": [torch.ones(3)], "fc": torch.ones(3)}, "lists of masks by name"),
    ],
)
def test_masks_that_fit_nothing_are_refused(masks, message, tmp_path):
    network = trained()
    held = {"state_dict": network.state_dict(), "masks": masks}
    with pytest.raises(CheckpointError, match=message):
        load(held, tmp_path)
    plain = load(held, tmp_path, masks="none")
    assert torch.equal(plain(inputs()), as_classifier(network)(inputs()))
    assert any("not used: masks" in note for note in plain.notes)


def test_one_of_several_sets_of_masks(tmp_path):
    network = trained()
    first, second = masks_for(network), masks_for(network)
    held = {"state_dict": network.state_dict(), "masks": first, "info": {"best_mask": second}}
    with pytest.raises(
        CheckpointError, match=r"several sets of masks, under masks and info\.best_mask: .*--masks masks"
    ):
        load(held, tmp_path)
    assert_masked(load(held, tmp_path, masks="info.best_mask"), network, second, "info.best_mask")
    assert_masked(load(held, tmp_path, masks="masks"), network, first, "under masks")
    with pytest.raises(
        InputError, match=r"`masks` mask\.pth is no file, and no entry with masks of .*, which has masks, info"
    ):
        load(held, tmp_path, masks="mask.pth")


def test_a_history_of_masks_beside_the_last(tmp_path):
    network = trained()
    masks = masks_for(network)
    held = {"state_dict": network.state_dict(), "masks": masks, "mask_history": [masks_for(network), masks]}
    with pytest.raises(CheckpointError, match=r"mask_history: has two masks for .*under masks, mask_history: masks="):
        load(held, tmp_path)
    assert_masked(load(held, tmp_path, masks="masks"), network, masks, "under masks")


def test_masks_of_what_is_pruned_are_refused(tmp_path):
    network = trained()
    masks = masks_for(network)
    state = {**network.state_dict(), **{name: network.state_dict()[name] * mask for name, mask in masks.items()}}
    inverted = {name: 1 - mask for name, mask in masks.items()}
    with pytest.raises(CheckpointError, match="they mark what is pruned"):
        load({"state_dict": state, "masks": inverted}, tmp_path)
    assert_masked(load({"state_dict": state, "masks": masks}, tmp_path), network, masks)


def test_masks_that_keep_nothing_are_applied(tmp_path):
    network = trained()
    masks = {name: torch.zeros_like(mask) for name, mask in masks_for(network).items()}
    assert load({"state_dict": network.state_dict(), "mask_dict": masks}, tmp_path).sparsity == 1.0


def test_own_files_and_programs_have_no_masks_beside(tmp_path):
    path = save_classifier(build("digits_cnn"), tmp_path / "own.pt")
    for said in ({"masks": {"conv1": torch.ones(1)}}, {"weights": "ema"}):
        with pytest.raises(
            InputError, match=rf"`{next(iter(said))}` is for the checkpoints of other programs: .*own\.pt"
        ):
            load_classifier(path, **said)


def test_masks_of_a_network_by_own_code(tmp_path):
    """The names are those that the code expects, so that nothing else is converted."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    mask = (torch.rand(10, 64) < SHARE).float()
    torch.save({"state_dict": network.state_dict(), "pruning_masks": {"1": mask}}, tmp_path / "net.pt")
    classifier = load_classifier(tmp_path / "net.pt", architecture=network)
    with torch.no_grad():
        expected = functional_call(network, {"1.weight": network[1].weight * mask}, inputs())
    torch.testing.assert_close(classifier(inputs()), expected)


def test_arrays_of_masks_on_disk_are_bounded(tmp_path):
    network = trained()
    held = {"state_dict": network.state_dict(), "masks": {"conv1": np.ones((16, 1, 3, 3), dtype=np.int64)}}
    assert torch.equal(load(held, tmp_path)(inputs()), as_classifier(network)(inputs()))


def test_masks_beside_a_trusted_module(tmp_path):
    """As NNI leaves them: the module is pickled, the masks lie beside it or in a file of their own."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    mask = (torch.rand(10, 64) < SHARE).float()
    with torch.no_grad():
        expected = functional_call(network, {"1.weight": network[1].weight * mask}, inputs())
    held = {"model": network, "ema": other}
    torch.save(held | {"mask": {"1": {"weight": mask, "bias": None}}}, tmp_path / "both.pt")
    torch.save(held, tmp_path / "net.pt")
    for path, said in ((tmp_path / "both.pt", {}), (tmp_path / "net.pt", {"masks": {"1": mask}})):
        classifier = load_classifier(path, trust_pickle=True, **said)
        torch.testing.assert_close(classifier(inputs()), expected)
        assert any("1 masks found under" in note for note in classifier.notes)
        assert any("other modules lie under ema: weights=" in note for note in classifier.notes)
    classifier = load_classifier(tmp_path / "net.pt", trust_pickle=True, weights="ema")
    assert torch.equal(classifier(inputs()), other(inputs()))


@pytest.mark.parametrize("kind", ["names", "numbers", "lists"])
def test_nests_of_masks_are_visited_once(kind, tmp_path):
    """Twelve levels of eight names each: 8 ** 12 ways down, to twelve containers."""
    nest = [torch.ones(2)] if kind == "lists" else {"mask": torch.ones(2)}
    for _ in range(12):
        nest = [nest] * 8 if kind == "lists" else {(f"mask{k}" if kind == "names" else k): nest for k in range(8)}
    torch.save(
        {"state_dict": trained().state_dict(), "masks": nest, "other": {"a": nest, "b": nest}}, tmp_path / "net.pt"
    )
    with pytest.raises(CheckpointError, match=r"net\.pt: "):
        load_classifier(tmp_path / "net.pt")
    assert load_classifier(tmp_path / "net.pt", masks="none").architecture == "digits_cnn"


def places_of(masks):
    return {name: mask.flatten().nonzero().flatten() for name, mask in masks.items()}


def inverted(masks):
    return {name: 1 - mask for name, mask in masks.items()}


PLACES = {
    "kept": lambda masks: {"kept_indices": places_of(masks)},
    "pruned": lambda masks: {"pruned_idx": places_of(inverted(masks))},
    "lists": lambda masks: {"keep": {name: places.tolist() for name, places in places_of(masks).items()}},
    "coordinates": lambda masks: {"remaining": {name: mask.nonzero() for name, mask in masks.items()}},
    "layers": lambda masks: {"pruner": {"kept": layers_of(places_of(masks)), "rate": 0.4}},
    "int32": lambda masks: {"mask_kept": {f"module.{name}": v.int() for name, v in places_of(masks).items()}},
}


@pytest.mark.parametrize("layout", PLACES)
def test_places_of_weights_are_masks(layout, tmp_path):
    network = trained()
    masks = masks_for(network)
    classifier = load({"state_dict": network.state_dict(), **PLACES[layout](masks)}, tmp_path)
    torch.testing.assert_close(classifier(inputs()), masked_logits(network, masks), atol=1e-6, rtol=0)
    assert any("places of weights in" in note and "applied" in note for note in classifier.notes), classifier.notes
    assert {name: int(mask.sum()) for name, mask in classifier.masks.kept.items()} == {
        name: int(mask.sum()) for name, mask in masks.items()
    }


def test_places_of_filters_are_masks_of_filters(tmp_path):
    network = trained()
    convolutions = [name for name in LAYERS if name.startswith("conv")]
    odd = {name: torch.arange(1, len(network.get_parameter(f"{name}.weight")), 2) for name in convolutions}
    classifier = load({"state_dict": network.state_dict(), "pruned_filters": odd}, tmp_path)
    masks = {f"{name}.weight": torch.ones_like(network.get_parameter(f"{name}.weight")) for name in convolutions}
    for mask in masks.values():
        mask[1::2] = 0
    torch.testing.assert_close(classifier(inputs()), masked_logits(network, masks), atol=1e-6, rtol=0)


def test_places_that_may_mean_several_things_are_refused_unless_zeros_tell(tmp_path):
    network = trained()
    masks = masks_for(network)
    places, few = places_of(masks), {name: torch.arange(0, len(mask), 2) for name, mask in masks.items()}
    state = network.state_dict()
    for entry, held in (("indices", places), ("mask_idx", places), ("kept_idx", few)):
        with pytest.raises(
            CheckpointError, match=rf"{entry}: holds places of weights as numbers, .*--masks none"
        ) as caught:
            load({"state_dict": state, entry: held}, tmp_path)
        assert "\n" not in str(caught.value)
        whole = load({"state_dict": state, entry: held}, tmp_path, masks="none")
        torch.testing.assert_close(whole(inputs()), masked_logits(network, {}), atol=1e-6, rtol=0)
    pruned = state | {name: state[name] * mask for name, mask in masks.items()}
    classifier = load({"state_dict": pruned, "indices": places}, tmp_path)
    assert any("agree with the zeros of the weights" in note for note in classifier.notes)
    torch.testing.assert_close(classifier(inputs()), masked_logits(network, masks), atol=1e-6, rtol=0)


def test_other_numbers_are_no_places(tmp_path):
    network = trained()
    held = {"train_indices": torch.arange(5000), "cfg": [1, 2, 3], "index": {"train": torch.arange(9)}}
    classifier = load({"state_dict": network.state_dict(), **held, "prune_cfg": {"layers": [3, 4]}}, tmp_path)
    torch.testing.assert_close(classifier(inputs()), masked_logits(network, {}), atol=1e-6, rtol=0)
    assert classifier.masks is None


def optimizer_of(network, masks, where):
    """The state dict of an optimizer with momentum, in which masks lie somewhere."""
    names = [name for name, _ in network.named_parameters()]
    state = {
        number: {"momentum_buffer": torch.full_like(network.get_parameter(name), 0.3)}
        for number, name in enumerate(names)
    }
    groups = [{"lr": 0.1, "params": list(range(len(names)))}]
    if where == "state":
        for number, name in enumerate(names):
            state[number] |= {"mask": masks[name]} if name in masks else {}
    elif where == "groups":
        groups[0]["masks"] = [masks.get(name) for name in names]
    return {"state": state, "param_groups": groups, **({"masks": masks} if where == "beside" else {})}


@pytest.mark.parametrize("where", ["state", "groups", "beside"])
@pytest.mark.parametrize("entry", ["optimizer", "optimizer_states"])
def test_masks_of_an_optimizer_are_applied(entry, where, tmp_path):
    network = trained()
    masks = masks_for(network)
    optimizer = optimizer_of(network, masks, where)
    held = {"state_dict": network.state_dict(), entry: [optimizer] if entry.endswith("s") else optimizer}
    assert_masked(load(held, tmp_path), network, masks, "applied", entry)


def test_masks_of_an_optimizer_in_another_order_are_refused(tmp_path):
    network = trained()
    optimizer = optimizer_of(network, masks_for(network), "state")
    optimizer["param_groups"] = [{"params": [1, 2]}, {"params": [0, 3]}]
    held = {"state_dict": network.state_dict(), "optimizer": optimizer}
    with pytest.raises(CheckpointError, match=r"optimizer: holds masks in the state of an optimizer, .*--masks none"):
        load(held, tmp_path)
    whole = load(held, tmp_path, masks="none")
    torch.testing.assert_close(whole(inputs()), masked_logits(network, {}), atol=1e-6, rtol=0)


def test_masks_of_nvidias_apex_are_applied(tmp_path):
    network = trained()
    masks = masks_for(network)
    beside = {name.replace(".weight", ".__weight_mma_mask"): mask.bool() for name, mask in masks.items()}
    assert_masked(load({**network.state_dict(), **beside}, tmp_path), network, masks, "applied")
