"""Classifiers: own frozen copies that know their fingerprint, sparsity, classes and task."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from thinice.errors import InputError
from thinice.models import (
    Classifier,
    Normalized,
    as_classifier,
    build,
    load_classifier,
    looks_like_probabilities,
    prunable_weights,
    same_task,
    sparsity,
)
from thinice.models.fingerprints import fingerprint_of, structure_of


def toy(classes=3):
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, classes))


def test_is_an_own_frozen_copy_in_eval_mode():
    module = toy().double()
    classifier = as_classifier(module, name="toy")
    before = classifier(torch.ones(1, 1, 4, 4))
    module[4].weight.data.zero_()
    module.train()
    assert torch.equal(classifier(torch.ones(1, 1, 4, 4)), before)
    assert not any(layer.training for layer in classifier.module.modules())
    assert not any(parameter.requires_grad for parameter in classifier.module.parameters())
    assert {parameter.dtype for parameter in classifier.module.parameters()} == {torch.float32}
    assert module[4].weight.requires_grad
    assert (classifier.name, classifier.classes, classifier.architecture) == ("toy", 3, "module:Sequential")


def test_gradients_reach_the_inputs():
    inputs = torch.rand(2, 1, 4, 4, requires_grad=True)
    as_classifier(toy())(inputs).sum().backward()
    assert inputs.grad.abs().sum() > 0


def test_normalisation_is_inside():
    module = toy().eval()
    classifier = as_classifier(module, normalization=(0.25, 0.5))
    inputs = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(classifier(inputs), module((inputs - 0.25) / 0.5))
    assert classifier.normalization == ((0.25,), (0.5,))
    wrapped = as_classifier(Normalized(module, mean=(0.25,), std=(0.5,)))
    assert wrapped.fingerprint == classifier.fingerprint
    assert isinstance(wrapped.module, Normalized)
    assert not isinstance(wrapped.network, Normalized)
    with pytest.raises(InputError, match="`Normalized` already"):
        as_classifier(Normalized(module, mean=(0.25,), std=(0.5,)), normalization="half")


def test_a_classifier_comes_back_as_it_is_or_renamed():
    classifier = as_classifier(toy())
    assert as_classifier(classifier) is classifier
    renamed = as_classifier(classifier, name="other")
    assert (renamed.name, renamed.fingerprint) == ("other", classifier.fingerprint)
    assert renamed.module is classifier.module
    with pytest.raises(InputError, match="only `name` and `one_by_one` can change"):
        as_classifier(classifier, classes=4)


@pytest.mark.parametrize("thing", [lambda inputs: inputs, "dense.pt", None, 3])
def test_what_is_no_module_is_named(thing):
    with pytest.raises(
        InputError, match=f"`network` must be a torch module or a Classifier, got {type(thing).__name__}"
    ):
        as_classifier(thing)


def test_torchs_masks_are_folded_also_after_a_forward():
    """copy.deepcopy refuses a pruned module after its first forward."""
    module = toy().eval()
    prune.l1_unstructured(module[4], "weight", amount=0.5)
    prune.l1_unstructured(module[4], "bias", amount=1)
    prune.random_unstructured(module[0], "weight", amount=0.25)
    expected = module(torch.ones(2, 1, 4, 4))
    classifier = as_classifier(module)
    torch.testing.assert_close(classifier(torch.ones(2, 1, 4, 4)), expected)
    assert classifier.sparsity == (12 + 4) / (24 + 18)  # 0.25 of 18 rounds to 4
    assert set(classifier.module.state_dict()) == set(toy().state_dict())
    assert prune.is_pruned(module)  # the original keeps its masks


def test_parametrisations_are_folded():
    class Half(nn.Module):
        def forward(self, weight):
            return weight * (torch.arange(weight.numel()).view_as(weight) % 2)

    module = toy().eval()
    parametrize.register_parametrization(module[4], "weight", Half())
    expected = module(torch.ones(1, 1, 4, 4))
    classifier = as_classifier(module)
    torch.testing.assert_close(classifier(torch.ones(1, 1, 4, 4)), expected)
    assert set(classifier.module.state_dict()) == set(toy().state_dict())


def test_fingerprint_is_of_content_alone():
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.zeros(2)}
    first = fingerprint_of("net", {"channels": 3}, weights, None)
    assert fingerprint_of("net", {"channels": 3}, dict(reversed(weights.items())), None) == first
    assert fingerprint_of("net", {"channels": 3}, weights | {"bn.num_batches_tracked": torch.tensor(7)}, None) == first
    assert (
        fingerprint_of("net", {"channels": 3}, {"a": weights["a"].t().contiguous().t(), "b": -weights["b"]}, None)
        == first
    )
    others = [
        fingerprint_of("other", {"channels": 3}, weights, None),
        fingerprint_of("net", {"channels": 1}, weights, None),
        fingerprint_of("net", {"channels": 3}, weights, ((0.5,), (0.5,))),
        fingerprint_of("net", {"channels": 3}, weights, ((0.5,), (0.25,))),
        fingerprint_of("net", {"channels": 3}, weights | {"b": torch.tensor([0.0, 1e-30])}, None),
        fingerprint_of("net", {"channels": 3}, {"a": weights["a"].view(3, 2), "b": weights["b"]}, None),
        fingerprint_of("net", {"channels": 3}, {"a": weights["a"], "c": weights["b"]}, None),
    ]
    assert len({first, *others}) == 8


def test_fingerprint_has_the_known_value():
    """Written down once: another value means that every stored measurement is measured again."""
    weights = {"weight": torch.arange(6.0).view(2, 3) / 8, "bias": torch.tensor([0.5, -2.0])}
    known = fingerprint_of("net", {"channels": 3}, weights, ((0.5,), (0.25,)))
    assert known == "db0f7aa5aabac490db13800212004ec2"


def test_what_is_moved_in_inference_mode_still_has_gradients():
    classifier = as_classifier(build("digits_cnn"))
    with torch.inference_mode():
        moved = classifier.to("meta")
    assert not any(parameter.is_inference() for parameter in moved.module.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_fingerprint_is_that_of_the_cpu():
    classifier = as_classifier(build("digits_cnn"), normalization="half")
    moved = as_classifier(copy.deepcopy(classifier.module).to("cuda"))
    assert moved.device.type == "cuda"
    assert classifier.to("cuda").fingerprint == classifier.fingerprint == moved.fingerprint
    assert classifier.to("cuda")(torch.rand(2, 1, 8, 8, device="cuda")).shape == (2, 10)


def test_modules_with_equal_weights_differ_where_they_compute_something_else():
    class Scaled(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.linear, self.scale = nn.Linear(2, 2), scale

        def forward(self, inputs):
            return self.linear(inputs) * self.scale

    class Shifted(Scaled):
        def forward(self, inputs):
            return self.linear(inputs) + self.scale

    torch.manual_seed(0)
    one = Scaled(2.0)
    two, three = copy.deepcopy(one), Shifted(2.0)
    three.load_state_dict(one.state_dict())
    two.scale = 3.0
    prints = {as_classifier(module).fingerprint for module in (one, two, three)}
    assert len(prints) == 3
    assert as_classifier(copy.deepcopy(one)).fingerprint in prints
    relu, gelu = (nn.Sequential(nn.Linear(2, 2), layer()) for layer in (nn.ReLU, nn.GELU))
    gelu.load_state_dict(relu.state_dict())
    assert structure_of(relu) != structure_of(gelu)


def test_what_build_made_is_known_by_its_architecture():
    network = build("digits_cnn", 7, channels=2)
    classifier = as_classifier(network)
    assert (classifier.architecture, classifier.arguments) == ("digits_cnn", {"channels": 2})
    assert (classifier.classes, classifier.input_shape) == (7, (2, 8, 8))
    network.relu1 = nn.GELU()
    assert as_classifier(network).architecture == "module:Sequential"


def test_sparsity_counts_prunable_weights_alone():
    module = toy()
    module[0].weight.data[0].zero_()  # 9 of 18
    module[4].weight.data[:, :2].zero_()  # 6 of 24
    module[1].weight.data.zero_()  # batch norm
    module[4].bias.data.zero_()
    assert sparsity(module) == as_classifier(module).sparsity == 15 / 42
    assert sparsity(nn.ReLU()) == 0.0


def test_prunable_are_convolutions_linear_layers_and_attention():
    module = nn.ModuleDict(
        {
            "conv": nn.Conv1d(1, 2, 3),
            "up": nn.ConvTranspose2d(1, 2, 3),
            "norm": nn.LayerNorm(4),
            "embedding": nn.Embedding(3, 4),
            "attention": nn.MultiheadAttention(4, 2),
            "linear": nn.Linear(4, 4),
        }
    )
    module["tied"] = nn.Linear(4, 4)
    module["tied"].weight = module["linear"].weight
    assert list(prunable_weights(module)) == [
        "conv.weight",
        "up.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "linear.weight",
    ]
    assert list(prunable_weights(nn.Linear(2, 2))) == ["weight"]


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        (torch.tensor([[3.0, -1.0], [0.2, 0.1]]), False),
        (torch.tensor([[3.0, -1.0], [0.2, 0.1]]).softmax(1), True),
        (torch.tensor([[0.5, 0.5], [0.9, 0.2]]), False),
        (torch.tensor([[1.5, -0.5]]), False),
        (torch.randn(100, 1000).softmax(1), True),
        (torch.randn(100, 1000).log_softmax(1), False),
        (torch.full((1, 2), torch.nan), False),
        (torch.zeros(0, 3), False),
    ],
)
def test_probabilities_are_noticed(logits, expected):
    assert looks_like_probabilities(logits) is expected


def test_same_task():
    dense = as_classifier(toy(), name="dense", data="digits", class_names=("a", "b", "c"), input_shape=(1, 4, 4))
    same_task(dense, dense)
    same_task(dense, as_classifier(toy(), name="silent"))
    for facts, what in (
        ({"data": "mnist"}, "data is mnist, not digits"),
        ({"class_names": ("a", "c", "b")}, "class_names is"),
        ({"input_shape": (1, 8, 8)}, "input_shape is"),
    ):
        with pytest.raises(InputError, match=f"`pruned` 'pruned' answers another task than `dense` 'dense': {what}"):
            same_task(dense, as_classifier(toy(), name="pruned", **facts))
    with pytest.raises(InputError, match="classes is 4, not 3"):
        same_task(dense, as_classifier(toy(4)))


def test_classes_are_unknown_where_nothing_tells():
    class Sums(nn.Module):
        def forward(self, inputs):
            return torch.stack([inputs.sum((1, 2, 3)), -inputs.sum((1, 2, 3))], 1)

    classifier = as_classifier(Sums())
    assert classifier.classes is None
    assert classifier.device == torch.device("cpu")
    assert as_classifier(Sums(), classes=2).classes == 2


def test_says_what_it_is_and_travels():
    classifier = as_classifier(build("digits_cnn"), name="dense", normalization="mnist")
    text = repr(classifier)
    assert text.startswith(
        "<Classifier 'dense': digits_cnn, 10 classes, sparsity 0.0000, normalisation mnist, fingerprint "
    )
    twin = pickle.loads(pickle.dumps(classifier))
    inputs = torch.rand(2, 1, 8, 8)
    assert torch.equal(twin(inputs), classifier(inputs))
    assert isinstance(twin, Classifier)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # the old weight norm, which networks in the wild still have
@pytest.mark.parametrize(
    "norm",
    [
        nn.utils.weight_norm,
        lambda layer: nn.utils.weight_norm(layer, dim=None),
        nn.utils.spectral_norm,
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
    ],
    ids=["weight", "weight, all", "spectral", "parametrised weight", "parametrised spectral"],
)
def test_norms_of_weights_become_plain_weights(norm, tmp_path):
    """They are prunable then, and a whole pickled module of them loads."""
    network = nn.Sequential(norm(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Flatten(), norm(nn.Linear(16, 3))).eval()
    inputs = torch.rand(2, 3, 4, 4)
    with torch.no_grad():
        expected = network(inputs)
    classifier = as_classifier(network)
    assert set(classifier.network.state_dict()) == {"0.weight", "0.bias", "3.weight", "3.bias"}
    assert classifier.weights == 4 * 27 + 48
    torch.testing.assert_close(classifier(inputs), expected)
    if not parametrize.is_parametrized(network[0]):  # torch pickles no parametrised modules
        torch.save(network, tmp_path / "net.pt")
        loaded = load_classifier(tmp_path / "net.pt", trust_pickle=True, normalization="none")
        torch.testing.assert_close(loaded(inputs), expected)
