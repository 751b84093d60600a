"""Every foreign format, built here from a small network, against the network with the same weights put in directly.

The weights that a checkpoint stands for are computed here layer by layer from each method's published definition,
independently of the readers; logits must agree to 1e-6.
"""

import argparse
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrize, prune

from thinice.data.digits import example_checkpoints
from thinice.errors import CheckpointError, InputError
from thinice.models import NORMALIZATIONS, build, load_classifier, prunable_weights, save_classifier
from thinice.models.research_formats import READERS, RawCheckpoint, find_weights, plain_weights
from thinice.models.research_formats.hydra_harp_rst import density_in_name, highest

pytestmark = pytest.mark.sampled

LAYERS = ("conv1", "conv2", "conv3", "fc")


def trained(classes=10):
    """A digits network whose batch norms have statistics and whose biases are not zero."""
    network = build("digits_cnn", classes)
    for _ in range(3):
        network(torch.rand(32, 1, 8, 8))
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return network.eval()


def inputs(count=6, channels=1, size=8):
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(1))


def logits_with(network, weights):
    with torch.no_grad():
        return functional_call(network, dict(weights), inputs())


def top(scores, count):
    """The `count` largest of scores, without ties, by their threshold."""
    if count == 0:
        return torch.zeros_like(scores)
    threshold = scores.flatten().sort(descending=True).values[count - 1]
    return (scores >= threshold).float()


# Each format: from the trained network to (what is saved, the weights it stands for, arguments of load_classifier).


def plain(network):
    return network.state_dict(), {}, {}


def torch_prune(network):
    for name in LAYERS:
        prune.random_unstructured(network.get_submodule(name), "weight", amount=0.6)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    weights = {f"{name}.weight": network.get_submodule(name).weight.detach().clone() for name in LAYERS}
    for name in LAYERS:
        prune.remove(network.get_submodule(name), "weight")
    return {"state_dict": state}, weights, {}


class Masking(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight):
        return weight * self.mask


def torch_parametrize(network):
    weights = {}
    for name in LAYERS:
        layer = network.get_submodule(name)
        mask = (torch.rand_like(layer.weight) > 0.7).float()
        weights[f"{name}.weight"] = (layer.weight * mask).detach()
        parametrize.register_parametrization(layer, "weight", Masking(mask))
    state = {name: value.clone() for name, value in network.state_dict().items()}
    for name in LAYERS:
        parametrize.remove_parametrizations(network.get_submodule(name), "weight", leave_parametrized=False)
    return state, weights, {}


def hydra(network, density=0.1):
    state, weights = dict(network.state_dict()), {}
    for name in LAYERS:
        weight = state[f"{name}.weight"]
        scores = torch.randn_like(weight)
        state[f"{name}.popup_scores"] = scores
        weights[f"{name}.weight"] = weight * top(scores.abs(), weight.numel() - int((1 - density) * weight.numel()))
    nested = {"epoch": 3, "arch": "digits", "state_dict": {f"module.{name}": value for name, value in state.items()}}
    return nested, weights, {"density": density}


def harp(network, density=0.2):
    state, weights = dict(network.state_dict()), {}
    alive = total = 0
    for name, rate in zip(LAYERS, (0.9031, 0.5031, 0.2031, 0.0531), strict=True):
        weight = state[f"{name}.weight"]
        smallest = 0.1 * density
        score = torch.tensor(math.log((rate - smallest) / (1 - rate)))  # sigmoid(score) (1 - min) + min = rate
        scores = torch.randn_like(weight)
        state |= {f"{name}.popup_scores": scores, f"{name}.k_score": score}
        count = weight.numel() - int((1 - rate) * weight.numel())
        weights[f"{name}.weight"] = weight * top(scores.abs(), count)
        alive, total = alive + count, total + weight.numel()
    return {"state_dict": state}, weights, {"density": density}


def harp_channels(network, density=0.5):
    state, weights = dict(network.state_dict()), {}
    for name in LAYERS:
        weight = state[f"{name}.weight"]
        score = torch.tensor(math.log((0.5 - 0.05) / 0.5))  # a rate of one half
        shape = (1, weight.shape[1], *[1] * (weight.ndim - 2))
        scores = torch.randn(shape)
        state |= {f"{name}.popup_scores": scores, f"{name}.k_score": score}
        weights[f"{name}.weight"] = weight * top(scores.abs(), round(0.5 * weight.shape[1]))
    return {"state_dict": state}, weights, {"density": density}


def rst(network, density=0.3):
    state, weights = dict(network.state_dict()), {}
    for name in LAYERS:
        weight = state[f"{name}.weight"]
        scores = torch.randn_like(weight)
        state[f"{name}.scores"] = scores
        weights[f"{name}.weight"] = weight * top(scores.abs(), weight.numel() - int((1 - density) * weight.numel()))
    for name in ("bn1", "bn2", "bn3"):
        weights |= {f"{name}.weight": torch.ones(len(state[f"{name}.bias"]))}
        weights |= {f"{name}.bias": torch.zeros(len(state[f"{name}.bias"]))}
        del state[f"{name}.weight"], state[f"{name}.bias"]
    return {"state_dict": {f"module.{name}": value for name, value in state.items()}}, weights, {"density": density}


def mad(network):
    state, weights = dict(network.state_dict()), {}
    for name in LAYERS:
        for leaf in ("weight", "bias"):
            if f"{name}.{leaf}" not in state:
                continue
            value = state[f"{name}.{leaf}"]
            if leaf == "weight":
                value = torch.where(torch.rand_like(value) < 0.5, 0.0, value)
                state[f"{name}.{leaf}"] = value
            strength = 0.5413 * torch.ones_like(value) + 0.1 * torch.randn_like(value)
            state[f"{name}.mask_{leaf}"] = strength
            weights[f"{name}.{leaf}"] = value * (1 + strength.exp()).log()
    return {"net": state, "acc": 0.5, "epoch": 1, "args": argparse.Namespace(lr=np.float64(0.1))}, weights, {}


def twinrep(network):
    state, weights = dict(network.state_dict()), {}
    for name in LAYERS:
        weight = state[f"{name}.weight"]
        aux, mask = torch.rand_like(weight), (torch.rand_like(weight) > 0.5).float()
        state |= {f"{name}.aux_weight": aux, f"{name}.mask": mask}
        weights[f"{name}.weight"] = weight * aux * mask
    return state, weights, {}


def twinrep_channels(network):
    state, weights = dict(network.state_dict()), {}
    for name in LAYERS:
        weight = state[f"{name}.weight"]
        aux, mask = torch.randn(len(weight), len(weight)), (torch.rand_like(weight) > 0.5).float()
        state |= {f"{name}.aux_weight": aux, f"{name}.mask": mask}
        weights[f"{name}.weight"] = torch.einsum("pq,q...->p...", aux, weight) * mask
    return state, weights, {}


def atmc(network):
    """Factors W = (B + I) A + C, or B (A + I) + C where the rank is the number of inputs (of conv1: 9 < 16)."""
    state, weights = dict(network.state_dict()), {}
    for name in LAYERS:
        weight = state.pop(f"{name}.weight")
        outputs, fan_in = len(weight), weight[0].numel()
        rank = min(outputs, fan_in)
        inner = torch.randn(rank, *weight.shape[1:]) * (torch.rand(rank, *weight.shape[1:]) > 0.9)
        outer = torch.randn(outputs, rank) * (torch.rand(outputs, rank) > 0.9)
        rest = torch.randn_like(weight) * (torch.rand_like(weight) > 0.9)
        eye = torch.eye(rank)
        first, second = (outer, inner.flatten(1) + eye) if rank == fan_in else (outer + eye, inner.flatten(1))
        weights[f"{name}.weight"] = torch.einsum("or,ri->oi", first, second).view_as(weight) + rest
        column = outer if weight.ndim == 2 else outer[:, :, None, None]
        state |= {
            f"{name}.weightA": inner,
            f"{name}.weightB": column,
            f"{name}.weightC": rest,
            f"{name}.eye_const": eye,
        }
    return state, weights, {}


def flyingbird(network):
    state, weights, masks = dict(network.state_dict()), {}, {}
    for index, (name, parameter) in enumerate(network.named_parameters()):
        if parameter.ndim in {2, 4}:
            masks[f"{name}_{index}"] = (torch.rand_like(parameter) > 0.8).float()
            weights[name] = parameter.detach() * masks[f"{name}_{index}"]
            state[name] = weights[name]
    info = {"masks": masks, "name2death_rate": {}, "lossinfo": [0.1]}
    return {"best_sa": 0.9, "state_dict": state, "mask_info": info, "epoch": 2}, weights, {}


def mask_beside(network):
    state, weights = dict(network.state_dict()), {}
    for name in LAYERS:
        mask = torch.rand_like(state[f"{name}.weight"]) > 0.5
        state[f"{name}.mask"] = mask
        weights[f"{name}.weight"] = state[f"{name}.weight"] * mask
    return {"model_state_dict": state}, weights, {}


def weight_mask_beside(network):
    state, weights = dict(network.state_dict()), {}
    for name in LAYERS:
        mask = (torch.rand_like(state[f"{name}.weight"]) > 0.5).to(torch.uint8)
        state[f"{name}.weight_mask"] = mask
        weights[f"{name}.weight"] = state[f"{name}.weight"] * mask
    return {"model": state}, weights, {}


def masks_outside(network):
    state, weights = dict(network.state_dict()), {}
    masks = {f"module.{name}": torch.rand_like(state[f"{name}.weight"]) > 0.5 for name in LAYERS}
    weights = {f"{name}.weight": state[f"{name}.weight"] * masks[f"module.{name}"] for name in LAYERS}
    return {"state_dict": {f"module.{name}": value for name, value in state.items()}, "masks": masks}, weights, {}


FORMATS = (
    plain,
    torch_prune,
    torch_parametrize,
    hydra,
    harp,
    harp_channels,
    rst,
    mad,
    twinrep,
    twinrep_channels,
    atmc,
    flyingbird,
    mask_beside,
    weight_mask_beside,
    masks_outside,
)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.__name__)
def test_becomes_plain_weights_with_zeros(form, tmp_path):
    network = trained()
    held, weights, options = form(network)
    torch.save(held, tmp_path / "file.pth.tar")
    expected = logits_with(network, weights)
    classifier = load_classifier(tmp_path / "file.pth.tar", **options)
    torch.testing.assert_close(classifier(inputs()), expected, atol=1e-6, rtol=0)
    plain_names = {f"{name}.weight" for name in LAYERS}
    assert set(prunable_weights(classifier.network)) == plain_names
    effective = [weights.get(name, network.get_parameter(name)) for name in sorted(plain_names)]
    zeros = sum(int((weight == 0).sum()) for weight in effective)
    assert classifier.sparsity == zeros / sum(weight.numel() for weight in effective)
    assert classifier.architecture == "digits_cnn"
    assert classifier.name == "file"
    assert len(classifier.notes) >= (2 if form is plain else 3)  # identified, not normalised, converted


def test_twins_of_channels_are_multiplied_as_matrices_in_square_layers_too():
    """In the channel form, a square linear layer has a twin of its own shape."""
    conv, fc, twin = torch.randn(4, 2, 3, 3), torch.randn(4, 4), torch.randn(4, 4)
    state = {"conv.weight": conv, "conv.aux_weight": torch.eye(4), "fc.weight": fc, "fc.aux_weight": twin}
    weights = plain_weights(find_weights(state, "file")).weights
    torch.testing.assert_close(weights["fc.weight"], twin @ fc)
    torch.testing.assert_close(weights["conv.weight"], conv)


@pytest.mark.parametrize("form", [hydra, rst, harp])
def test_missing_kept_fraction_is_named(form, tmp_path):
    held, _, _ = form(trained())
    torch.save(held, tmp_path / "scores.pt")
    with pytest.raises(CheckpointError, match=r"scores\.pt: conv1\.\w+: .*density=0\.1 \(--density 0\.1\)"):
        load_classifier(tmp_path / "scores.pt")


@pytest.mark.parametrize("density", [0, -0.1, 1.5, float("nan")])
def test_density_must_be_a_fraction(density, tmp_path):
    with pytest.raises(InputError, match="`density` must be the fraction"):
        load_classifier(tmp_path / "any.pt", density=density)


def test_wrong_kept_fraction_of_harp_is_noted(tmp_path):
    held, _, _ = harp_channels(trained())
    torch.save(held, tmp_path / "harp.pt")
    assert not any("check `density`" in note for note in load_classifier(tmp_path / "harp.pt", density=0.5).notes)
    assert any("check `density`" in note for note in load_classifier(tmp_path / "harp.pt", density=0.01).notes)


@pytest.mark.parametrize("form", ["plain", "own", "module"])
def test_unused_kept_fraction_is_noted(form, tmp_path):
    path = tmp_path / "net.pt"
    if form == "own":
        save_classifier(load_classifier(example_checkpoints()["dense"]), path)
    else:
        torch.save(trained() if form == "module" else trained().state_dict(), path)
    notes = load_classifier(path, density=0.1, trust_pickle=True).notes
    assert [note for note in notes if "density" in note] == [
        "density=0.1 was not used: the file holds no pruning scores"
    ]
    assert not any("density" in note for note in load_classifier(path, trust_pickle=True).notes)


@pytest.mark.parametrize(
    ("density", "zeroed"), [(0.9, 9), (0.95, 5), (0.5, 50), (0.1, 90), (0.05, 95), (0.01, 99), (1, 0)]
)
def test_hydra_counts_as_published(density, zeroed):
    """int((1 - k) n) in double precision, for n = 100: 1 - 0.9 is below 0.1, so only 9 go."""
    found = RawCheckpoint("f", {"a.weight": torch.ones(100), "a.popup_scores": torch.arange(100) - 200.0}, {}, density)
    weight = plain_weights(found).weights["a.weight"]
    assert int((weight == 0).sum()) == zeroed
    assert bool((weight[: 100 - zeroed] == 1).all())  # the largest magnitudes come first


def test_ties_keep_the_asked_number():
    assert highest(torch.zeros(7), 3).tolist() == [False] * 4 + [True] * 3
    assert highest(torch.zeros(7), 0).sum() == 0
    assert highest(torch.zeros(7), 7).all()


def test_atmc_says_what_the_product_hides(tmp_path):
    held, _, _ = atmc(trained())
    torch.save(held, tmp_path / "atmc.pt")
    factors = [value for name, value in held.items() if name.rpartition(".")[2] in {"weightA", "weightB", "weightC"}]
    nonzero = sum(int((factor != 0).sum()) for factor in factors)
    note = next(note for note in load_classifier(tmp_path / "atmc.pt").notes if "ATMC" in note)
    assert f"{nonzero} non-zero factors stand for 19088 weights" in note


@pytest.mark.parametrize("nest", ["state_dict", "net", "model", "model_state_dict", "weights", "ema"])
@pytest.mark.parametrize(
    "prefix", ["", "module.", "module.basic_model.", "_orig_mod.", "model.", "net.", "module.model."]
)
def test_nests_and_prefixes(nest, prefix):
    state = {f"{prefix}{name}": value for name, value in trained().state_dict().items()}
    found = plain_weights(find_weights({"epoch": 1, nest: state}, "file"))
    assert set(found.weights) == set(trained().state_dict())
    assert found.notes[0] == f"weights found under {nest}"


def test_nest_within_a_nest():
    found = find_weights({"model": {"state_dict": {"weight": torch.zeros(1)}}}, "file")
    assert found.notes == ["weights found under model.state_dict"]


def test_nests_without_tensors_are_passed_over():
    found = find_weights({"model": {"name": "vgg"}, "net": {"depth": 3}, "weights": {"weight": torch.zeros(1)}}, "file")
    assert found.notes == ["weights found under weights"]


# What the published files of each method look like: architecture, prefix, nest, and what lies beside the weights.
PUBLISHED = {
    "R-ADMM": ("vgg16_bn_radmm", "module.basic_model.", None, {}),
    "HYDRA, dense": ("vgg16_bn", "module.", "state_dict", {"epoch": 1, "best_prec1": 0.8, "arch": "vgg16_bn"}),
    "FlyingBird": ("preact_resnet18_cifar", "", "state_dict", {"best_sa": 0.9, "mask_info": {"masks": {}}}),
    "MAD": ("vgg16_bn_mad", "", "net", {"acc": 80.0}),
    "RST": ("resnet18_rst", "module.", "state_dict", {}),
    "PwoA": ("vgg16_bn_pwoa", "", None, {}),
    "TwinRep": ("vgg16_bn_twinrep", "module.", None, {}),
}


@pytest.mark.parametrize("method", PUBLISHED)
def test_published_layouts_are_identified(method, tmp_path):
    name, prefix, nest, beside = PUBLISHED[method]
    state = dict(build(name).state_dict())
    if method == "RST":
        norms = {key.removesuffix("running_mean") for key in state if key.endswith("running_mean")}
        for layer in norms:
            del state[f"{layer}weight"], state[f"{layer}bias"]
    if method == "FlyingBird":
        state |= {"normalize.mean": torch.tensor([0.4914, 0.4822, 0.4465])}
        state |= {"normalize.std": torch.tensor([0.2470, 0.2435, 0.2616])}
    state = {prefix + key: value for key, value in state.items()}
    torch.save(state if nest is None else {nest: state, **beside}, tmp_path / "file.tar")
    unclear = name if method == "TwinRep" else None  # networks with another last pool have its names too
    classifier = load_classifier(tmp_path / "file.tar", architecture=unclear)
    assert (classifier.architecture, classifier.classes) == (name, 10)
    if method == "FlyingBird":
        assert classifier.normalization == NORMALIZATIONS.get("cifar10")


@pytest.mark.slow
def test_li20_holds_everything_twice(tmp_path):
    state = dict(build("vgg16_bn_li20").state_dict())
    copies = {
        key.replace("feature.", "model.0.").replace("classifier.", "model.3."): value for key, value in state.items()
    }
    torch.save({"state_dict": state | copies}, tmp_path / "file.pth")
    assert load_classifier(tmp_path / "file.pth").architecture == "vgg16_bn_li20"


def test_prefix_of_a_part_stays():
    found = plain_weights(find_weights({"module.a": torch.zeros(1), "b": torch.zeros(1)}, "file"))
    assert set(found.weights) == {"module.a", "b"}


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (("normalize.mean", "normalize.std"), ""),
        (("module.normalize.mean", "module.normalize.std"), "module."),
        (("0.mean", "0.std"), "1."),
        (("mean", "std"), "network."),
    ],
)
def test_normalisation_inside_is_found(names, prefix, tmp_path):
    network = build("digits_cnn").eval()
    state = {f"{prefix}{name}": value for name, value in network.state_dict().items()}
    state |= {names[0]: torch.tensor([0.1307]).view(1, 1, 1, 1), names[1]: torch.tensor([0.3081]).view(1, 1, 1, 1)}
    torch.save(state, tmp_path / "inside.pt")
    classifier = load_classifier(tmp_path / "inside.pt")
    assert classifier.normalization == ((0.1307,), (0.3081,))
    assert classifier.normalization_known
    torch.testing.assert_close(classifier(inputs()), network((inputs() - 0.1307) / 0.3081))
    with pytest.raises(InputError, match=r"`normalization` is half, but .*inside\.pt says mnist"):
        load_classifier(tmp_path / "inside.pt", normalization="half")


SPELLED = (
    ("mu", "sigma"),
    ("_mean", "_std"),
    ("means", "sds"),
    ("new_mean", "new_std"),
    ("image_mean", "image_std"),
    ("mean_tensor", "std_tensor"),
    ("means", "stds"),
    ("mean", "sigma"),
)


@pytest.mark.parametrize("layer", ["", "normalizer.", "module.0.", "module.normalize_layer.inner."])
@pytest.mark.parametrize(("mean", "std"), SPELLED)
def test_normalisation_layers_of_any_spelling(mean, std, layer):
    prefix = {"module.0.": "module.1."}.get(layer, "module." if layer.startswith("module.") else "")
    state = {f"{prefix}{name}": value for name, value in trained().state_dict().items()}
    state |= {f"{layer}{mean}": torch.full((1, 1, 1, 1), 0.25), f"{layer}{std}": torch.full((1, 1, 1), 0.5)}
    checkpoint = plain_weights(find_weights(state, "file"))
    assert checkpoint.normalization == ((0.25,), (0.5,))
    assert set(checkpoint.weights) == set(trained().state_dict())


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        ([125.0], [60.0], (125 / 255, 60 / 255)),
        ([0.0], [255.0], (0.0, 1.0)),
        ([127.5], [127.5], (0.5, 0.5)),
        ([33.3], [1.0], (33.3 / 255, 1 / 255)),
        ([0.5], [0.5], (0.5, 0.5)),
        ([-0.5], [2.0], (-0.5, 2.0)),
    ],
)
def test_normalisation_layers_for_pixels_in_0_to_255(mean, std, expected, tmp_path):
    """In [0, 1] the network sees (255 x - mean) / std, which is (x - mean / 255) / (std / 255)."""
    network = trained()
    layer = {"normalize.mean": torch.tensor(mean), "normalize.std": torch.tensor(std)}
    torch.save(layer | {f"model.{name}": value for name, value in network.state_dict().items()}, tmp_path / "net.pt")
    classifier = load_classifier(tmp_path / "net.pt")
    with torch.no_grad():
        torch.testing.assert_close(classifier(inputs()), network((inputs() - expected[0]) / expected[1]))
    assert any("0..255" in note for note in classifier.notes) == (mean[0] > 2 or std[0] > 10)


@pytest.mark.parametrize(
    ("mean", "std"), [(0.5, 0.0), (0.5, -1.0), (0.5, float("nan")), (float("inf"), 1.0), (999.0, 1.0)]
)
def test_normalisation_layers_that_cannot_be_are_refused(mean, std, tmp_path):
    layer = {"normalize.mean": torch.full((1,), mean), "normalize.std": torch.full((1,), std)}
    torch.save(layer | {f"model.{name}": value for name, value in trained().state_dict().items()}, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"whose numbers cannot be right: normalize\.mean is .*--normalization"):
        load_classifier(tmp_path / "net.pt")


def test_two_normalisation_layers_are_refused():
    state = {f"model.{name}": value for name, value in trained().state_dict().items()}
    for layer in ("normalize", "second"):
        state |= {f"{layer}.mean": torch.full((1,), 0.5), f"{layer}.std": torch.full((1,), 0.25)}
    with pytest.raises(CheckpointError, match=r"has two normalisation layers, one of them second\.mean"):
        plain_weights(find_weights(state, "file"))


@pytest.mark.parametrize(
    ("name", "density"),
    [
        ("hydra_k0.1.pth.tar", 0.1),
        ("resnet18-density=0.05-seed3.pt", 0.05),
        ("wrn_sparsity_90.pt", 0.1),
        ("wrn_sparsity99.5.pt", 0.005),
        ("vgg_0.95_sparsity.pt", 0.05),
        ("vgg16-pruned-90.pth", 0.1),
        ("net_99%_sparse.pt", 0.01),
        ("keep_ratio_0.2.pt", 0.2),
        ("resnet18.pt", None),
        ("resnet_50_pruned.pt", None),
        ("pruned_18.pt", None),
        ("wrn_28_10_epoch90.pt", None),
        ("block0.1.pt", None),
        ("rank0.5.pt", None),
        ("k0.1_sparsity_0.5.pt", None),
        ("sparsity_2024.pt", None),
    ],
)
def test_densities_are_read_from_names(name, density):
    said = density_in_name(name)
    assert (None if said is None else said[1]) == (None if density is None else pytest.approx(density))


def test_densities_of_scores_are_read_and_said(tmp_path):
    network = trained()
    held, weights, _ = hydra(network, density=0.1)
    torch.save(held, tmp_path / "hydra_k0.1.pt")
    classifier = load_classifier(tmp_path / "hydra_k0.1.pt")
    torch.testing.assert_close(classifier(inputs()), logits_with(network, weights), atol=1e-6, rtol=0)
    assert any("density 0.1, read from k0.1 in the name of the file" in note for note in classifier.notes)
    other = load_classifier(tmp_path / "hydra_k0.1.pt", density=0.5)
    assert other.sparsity == pytest.approx(0.5, abs=1e-3)
    torch.save(held | {"args": argparse.Namespace(k=0.1, lr=3)}, tmp_path / "hydra.pt")
    classifier = load_classifier(tmp_path / "hydra.pt")
    torch.testing.assert_close(classifier(inputs()), logits_with(network, weights), atol=1e-6, rtol=0)
    assert any("density 0.1, as args.k in the file says" in note for note in classifier.notes)
    torch.save(held | {"args": argparse.Namespace(k=0.1, lr=3)}, tmp_path / "hydra_k0.5.pt")
    with pytest.raises(CheckpointError, match=r"args\.k in the file says density 0\.1, its name density 0\.5"):
        load_classifier(tmp_path / "hydra_k0.5.pt")


@pytest.mark.slow
def test_integer_buffers_are_those_of_the_architecture(tmp_path):
    network = build("torchvision:swin_t", 10).eval()
    state = network.state_dict()
    torch.save(state, tmp_path / "swin.pt")
    architecture = "torchvision:swin_t"  # given, because to identify one of torchvision's takes a while
    classifier = load_classifier(tmp_path / "swin.pt", architecture=architecture)
    images = inputs(1, 3, 64)
    with torch.no_grad():
        assert torch.equal(classifier(images), network(images))
    name = next(name for name in state if name.endswith("relative_position_index"))
    torch.save(state | {name: state[name].flip(0)}, tmp_path / "swin.pt")
    with pytest.raises(CheckpointError, match=r"relative_position_index holds other numbers than torchvision:swin_t"):
        load_classifier(tmp_path / "swin.pt", architecture=architecture)


def test_layers_of_several_versions(tmp_path):
    """MNASNet builds another stem for weights without a version, or of the first."""
    network = build("torchvision:mnasnet0_5", 10).eval()
    images = inputs(1, 3, 64)
    with torch.no_grad():
        expected = network(images)
    torch.save(dict(network.state_dict()), tmp_path / "without.pt")
    torch.save(network.state_dict(), tmp_path / "with.pt")
    own = save_classifier(network, tmp_path / "own.pt")
    for path in (tmp_path / "without.pt", tmp_path / "with.pt", own):
        assert torch.equal(load_classifier(path, architecture="torchvision:mnasnet0_5")(images), expected)


class Doubling(nn.Linear):
    """Halves weights of its first version, as they are read."""

    _version = 2

    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        if metadata.get("version", 1) < 2:
            state[f"{prefix}weight"] = state[f"{prefix}weight"] / 2
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_own_code_reads_the_versions_that_the_file_says(tmp_path):
    network = nn.Sequential(nn.Flatten(), Doubling(64, 3))
    state = network.state_dict()
    wrapped = type(state)({f"module.{name}": value for name, value in state.items()})
    wrapped._metadata = type(state)({f"module.{name}".rstrip("."): value for name, value in state._metadata.items()})
    for held, factor in ((state, 1), (wrapped, 1), (dict(state), 0.5)):
        torch.save({"state_dict": held}, tmp_path / "net.pt")
        classifier = load_classifier(tmp_path / "net.pt", architecture=network)
        assert torch.equal(classifier.network[1].weight, factor * network[1].weight)


def test_unused_block_of_hydras_wide_resnet_is_dropped(tmp_path):
    network = build("wrn_28_4")
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    state |= {name.replace("block1", "sub_block1"): value for name, value in state.items() if "block1" in name}
    torch.save({"state_dict": state}, tmp_path / "wrn.pt")
    classifier = load_classifier(tmp_path / "wrn.pt")
    assert classifier.architecture == "wrn_28_4"
    assert any("sub_block1 dropped" in note for note in classifier.notes)


def test_copies_of_li20_are_dropped_only_if_equal():
    feature, classifier = torch.randn(3, 3), torch.randn(2, 3)
    state = {
        "feature.0.weight": feature,
        "classifier.0.weight": classifier,
        "model.0.0.weight": feature.clone(),
        "model.3.0.weight": classifier.clone(),
    }
    found = plain_weights(find_weights(dict(state), "file"))
    assert set(found.weights) == {"feature.0.weight", "classifier.0.weight"}
    state["model.3.0.weight"] = state["model.3.0.weight"] + 1
    assert len(plain_weights(find_weights(dict(state), "file")).weights) == 4


def test_counters_of_profilers_are_dropped(tmp_path):
    state = dict(trained().state_dict()) | {"total_ops": torch.zeros(1), "conv1.total_params": torch.zeros(1)}
    torch.save(state, tmp_path / "profiled.pt")
    assert any("counters of a profiler" in note for note in load_classifier(tmp_path / "profiled.pt").notes)


def test_old_files_without_counters_of_batch_norm_load(tmp_path):
    network = trained()
    state = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pt")
    torch.testing.assert_close(load_classifier(tmp_path / "old.pt")(inputs()), network(inputs()))


def test_half_precision_becomes_float32_and_says_so(tmp_path):
    network = trained().half()
    torch.save(network.state_dict(), tmp_path / "half.pt")
    classifier = load_classifier(tmp_path / "half.pt")
    assert {value.dtype for value in classifier.module.parameters()} == {torch.float32}
    assert any("converted to float32 from float16" in note for note in classifier.notes)
    torch.testing.assert_close(classifier(inputs()), network.float()(inputs()))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"conv1.mask": torch.full((16, 1, 3, 3), 0.5)}, r"conv1\.mask: is no mask of zeros and ones"),
        ({"conv1.mask": torch.ones(5)}, r"conv1\.mask: shape \(5,\) does not fit"),
        ({"conv1.scores": torch.ones(16)}, r"conv1\.scores: scores of shape \(16,\)"),
        ({"conv1.parametrizations.weight.original0": torch.ones(1)}, r"a parametrisation other than a mask"),
        ({"conv1.aux_weight": torch.ones(3, 3)}, r"conv1\.aux_weight: shape \(3, 3\) fits no weight"),
        (
            {"conv1.popup_scores": torch.ones(16, 1, 1, 1), "conv1.k_score": torch.tensor(0.0)},
            r"conv1\.popup_scores: HARP scores of shape \(16, 1, 1, 1\)",
        ),
    ],
)
def test_what_cannot_be_converted_is_refused(extra, message, tmp_path):
    torch.save(dict(trained().state_dict()) | extra, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=message):
        load_classifier(tmp_path / "odd.pt", density=0.5)


def test_mask_of_nothing_is_refused(tmp_path):
    held = {"state_dict": trained().state_dict(), "masks": {"conv9.weight": torch.ones(1)}}
    torch.save(held, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=r"masks\.conv9\.weight: is a mask for no parameter"):
        load_classifier(tmp_path / "odd.pt")


def test_a_new_format_is_one_row(monkeypatch, tmp_path):
    def halve(checkpoint):
        for name in [name for name in checkpoint.weights if name.endswith("_doubled")]:
            checkpoint.weights[name.removesuffix("_doubled")] = checkpoint.weights.pop(name) / 2

    monkeypatch.setattr(READERS, "rows", dict(READERS.rows))
    READERS.add("doubled", halve, "weights times two")
    network = trained()
    torch.save({f"{name}_doubled": 2 * value for name, value in network.state_dict().items()}, tmp_path / "net.pt")
    loaded = load_classifier(tmp_path / "net.pt", architecture="digits_cnn")
    assert all(torch.equal(value, loaded.network.state_dict()[name]) for name, value in network.state_dict().items())


def test_zeros_of_soft_masks_are_masks(tmp_path):
    network = trained()
    held, weights, _ = mad(network)
    torch.save(held, tmp_path / "mad.pt")
    masks = load_classifier(tmp_path / "mad.pt", normalization="none").masks
    assert {name: torch.equal(mask, weights[name] != 0) for name, mask in masks.kept.items()} == dict.fromkeys(
        (f"{name}.weight" for name in LAYERS), True
    )


def test_zeros_of_factors_are_masks(tmp_path):
    """ATMC prunes factors: where their product is zero, they say so."""
    held, weights, _ = atmc(trained())
    torch.save(held, tmp_path / "atmc.pt")
    masks = load_classifier(tmp_path / "atmc.pt", normalization="none").masks
    assert 0.1 < masks.sparsity < 0.9
    for name, weight in weights.items():
        assert torch.equal(masks.kept[name], weight.abs() > 1e-7)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # the old weight norm, which networks in the wild still have
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norms_are_multiplied(norm, dim, tmp_path):
    network = trained()
    for name in LAYERS:
        norm(network.get_submodule(name), dim=dim)
    for name, value in network.named_parameters():
        if name.endswith(("_g", "original0")):
            value.data *= 1.5
    expected = network.eval()(inputs()).detach()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "net.pt")
    classifier = load_classifier(tmp_path / "net.pt", normalization="none")
    torch.testing.assert_close(classifier(inputs()), expected, atol=1e-5, rtol=1e-5)
    assert any(f"weight norm: {len(LAYERS)} directions" in note for note in classifier.notes)


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_spectral_norms_are_refused_in_a_sentence(norm, tmp_path):
    network = trained()
    norm(network.get_submodule(LAYERS[0]))
    torch.save(network.state_dict(), tmp_path / "net.pt")
    with pytest.raises(
        CheckpointError, match=r"belongs to a spectral norm, .*: save the network after torch\.nn\.utils"
    ):
        load_classifier(tmp_path / "net.pt", normalization="none")
