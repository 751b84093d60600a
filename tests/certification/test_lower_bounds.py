"""Lower bounds against distances known on paper, exhaustive solvers, many attacks, and verified networks."""

import copy
import gzip
import math

import numpy as np
import pytest
import torch
from torch import nn

from tests import truth
from tests.conftest import reference
from thinice.certification import certification_cost, crown, lower_bounds
from thinice.certification.crown import Relaxation, greatest_drop
from thinice.certification.graph import read_graph
from thinice.certification.radius import ROUNDS
from thinice.errors import InputError
from thinice.models import as_classifier, build, load_classifier
from thinice.norms import NORM_TABLE

pytestmark = pytest.mark.sampled

NORMS = ["linf", "l2", "l1"]


def bounds(known, norm, epsilon=None):
    classifier = as_classifier(known.model)
    return lower_bounds(classifier, known.inputs, known.labels, epsilon, norm).numpy()


# -- distances known on paper ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("known_epsilon", [True, False])
def test_a_linear_network_is_bounded_by_its_margin_over_the_dual_norm(norm, classes, known_epsilon):
    known = truth.linear(classes=classes)
    distances = known.distances[norm]
    radii = bounds(known, norm, torch.tensor(distances * 1.2) if known_epsilon else None)
    assert (radii <= distances).all()
    np.testing.assert_allclose(radii, distances, rtol=3e-4)  # what float32 may round, and no more


@pytest.mark.parametrize(("norm", "share"), [("linf", 1 - 1e-4), ("l1", 1 - 1e-4), ("l2", 0.999)])
def test_the_box_is_made_use_of(norm, share):
    known = truth.linear_at_the_box()
    distances = known.distances[norm]
    radii = bounds(known, norm, torch.tensor(distances) * 1.2)
    assert (radii <= distances).all()
    assert (radii >= share * distances).all()
    dual = {"linf": 1, "l2": 2, "l1": np.inf}[norm]
    weight, logits = known.model[1].weight.double().numpy(), known.model(known.inputs).double().numpy()
    without = []
    for row, label in zip(logits, known.labels.tolist(), strict=True):
        others = np.delete(np.arange(3), label)
        lengths = np.linalg.norm(weight[label] - weight[others], dual, axis=1)
        without.append(((row[label] - row[others]) / lengths).min())
    assert (radii > np.array(without) * 1.01).any()


def absolute_difference():
    """Return logits 0.3 and |x - y|, made of two ReLUs: in linf, (0.5, 0.5) lies at 0.15."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    network[1].weight.data = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    network[3].weight.data = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    network[3].bias.data = torch.tensor([0.3, 0.0])
    return as_classifier(network, name="two ReLUs")


def test_two_relus_by_hand():
    """Within R, both inputs lie in [-2R, 2R]; the lines above, d / 2 + R and -d / 2 + R, leave 0.3 - 2R of the margin.

    So a ball below 0.15 is proved as a whole, and a larger one not at all.
    """
    classifier, inputs = absolute_difference(), torch.full((3, 2, 1, 1), 0.5)
    graph = read_graph(classifier, (2, 1, 1))
    radius = torch.tensor([0.05, 0.15, 0.4], dtype=torch.float64)
    relaxation = Relaxation(graph, inputs.double(), radius, "linf")
    gradient, value = relaxation.linear_bound(4, torch.tensor([[1.0, -1.0]] * 3, dtype=torch.float64), torch.arange(3))
    torch.testing.assert_close(value, 0.3 - 2 * radius, atol=1e-5, rtol=0)
    assert gradient.abs().max() < 1e-12
    radii = lower_bounds(
        classifier, inputs, torch.zeros(3, dtype=torch.int64), torch.tensor([0.15, 0.16, torch.nan]), rounds=12
    )
    assert (radii < 0.15).all()
    assert (radii[:2] > 0.148).all()
    assert radii[2] > 0.1


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_bound_exceeds_the_distance_that_a_search_of_all_linear_regions_finds(norm, seed):
    known = truth.tiny_relu(seed=seed)
    distances = known.distances[norm]
    radii = bounds(known, norm, torch.tensor(distances) * 1.5)
    assert (radii <= distances).all()
    assert (radii > 0.3 * distances).all()
    assert np.median(radii / distances) > 0.8


def test_a_dead_layer_leaves_nothing_to_find():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    network[1].weight.data.clamp_(max=0)
    network[1].bias.data.fill_(-0.1)
    network[3].bias.data = torch.tensor([0.0, 1.0, 0.5])
    classifier, inputs = as_classifier(network), torch.rand(2, 1, 2, 2)
    radii = lower_bounds(classifier, inputs, torch.tensor([1, 0]), torch.tensor([0.2, 0.2]))
    assert 0.15 < radii[0] <= 0.2
    assert radii[1] == 0
    assert lower_bounds(classifier, inputs[:1], torch.tensor([1]))[0] > 0.8


def test_what_is_classified_wrongly_or_equally_has_nothing_to_prove():
    classifier = absolute_difference()
    inputs = torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.25, 0.55]])[..., None, None]
    assert (lower_bounds(classifier, inputs, torch.tensor([1, 0, 0])) == 0).all()
    assert (lower_bounds(classifier, inputs[:2], torch.tensor([0, 1]), torch.zeros(2)) == 0).all()


def test_a_margin_that_float32_may_round_away_is_not_proved():
    """1e8 x - 1e8 y + z is z where x = y, but 0 where a float32 sum begins with the wrong two terms."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False))
    network[1].weight.data = torch.tensor([[1e8, -1e8, 1.0], [0.0, 0.0, 0.0]])
    classifier, inputs = as_classifier(network), torch.tensor([[0.5, 0.5, 0.5], [0.5, 0.0, 0.5]])[..., None, None]
    radii = lower_bounds(classifier, inputs, torch.tensor([0, 0]))
    assert radii[0] == 0
    assert radii[1] == pytest.approx(0.25, rel=1e-4)


def test_float32_overflow_proves_nothing():
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    for layer, values in ((network[1], [[1e30]]), (network[3], [[1e20], [0.0]])):
        layer.weight.data, layer.bias.data = torch.tensor(values), torch.zeros(len(values))
    assert lower_bounds(as_classifier(network), torch.ones(1, 1, 1, 1), torch.tensor([0]))[0] == 0


# -- the greatest drop of a linear function ----------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_the_greatest_drop_is_that_of_a_solver(norm):
    generator = np.random.default_rng(0)
    for _ in range(20):
        gradient, point = generator.normal(size=6), np.clip(generator.uniform(-0.3, 1.3, 6), 0, 1)
        wanted = generator.uniform(0.1, 0.9) * np.where(gradient > 0, gradient * point, gradient * (point - 1)).sum()
        radius = truth.in_the_box(gradient, wanted, point, norm)
        drop = greatest_drop(*(torch.tensor(value)[None] for value in (gradient, point, radius)), norm).item()
        assert wanted * (1 - 1e-7) <= drop <= wanted * 1.001


# -- networks at random against attacks that try to break the proof ----------------------------------------------------


class Residual(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.third = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.pool = [nn.AvgPool2d(2), nn.MaxPool2d(2), nn.MaxPool2d(3, stride=2, padding=1)][seed % 3]
        self.last = nn.Linear(36, 4)
        for _ in range(3):
            self.train()(torch.rand(16, 1, 6, 6))
        self.eval()

    def forward(self, inputs):
        maps = torch.relu(self.norm(self.first(inputs)))
        maps = torch.relu(self.second(maps) + self.third(maps))
        return 4 * self.last(self.pool(maps + inputs).flatten(1))


def strongest_attack(classifier, inputs, labels, radius, norm, restarts):
    """Return the smallest margin (N,) that projected gradient descent finds in each ball, in float32."""
    row = NORM_TABLE[norm]
    least = torch.full((len(inputs),), torch.inf)
    for _ in range(restarts):
        delta = row.confine(torch.randn_like(inputs), radius * torch.rand(len(inputs)), inputs)
        for step in range(20):
            delta = delta.detach().requires_grad_()
            logits = classifier((inputs + delta).clamp(0, 1))
            right = logits.gather(1, labels[:, None]).squeeze(1)
            margin = right - logits.scatter(1, labels[:, None], -torch.inf).amax(1)
            least = torch.minimum(least, margin.detach())
            (gradient,) = torch.autograd.grad(margin.sum(), delta)
            size = (radius * 2 * (1 - step / 20)).view(-1, 1, 1, 1)
            delta = row.confine(delta.detach() - size * row.steepest(gradient), radius, inputs)
    return least


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 6))])
def test_no_adversarial_lies_within_a_proved_radius_of_a_random_network(norm, seed):
    classifier = as_classifier(Residual(seed), normalization="half")
    inputs = torch.rand(8, 1, 6, 6)
    labels = classifier(inputs).argmax(1)
    radii = lower_bounds(classifier, inputs, labels, norm=norm)
    assert (radii > 0).double().mean() > 0.7
    inside = strongest_attack(classifier, inputs, labels, radii.float() * (1 - 1e-6), norm, restarts=20)
    assert (inside > 0).all()
    beyond = strongest_attack(classifier, inputs, labels, radii.float() * 10, norm, restarts=5)
    assert (beyond < 0).float().mean() > 0.3  # the bounds are no trifle, whichever network this torch draws


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_a_batch_has_the_bounds_of_its_samples(norm, monkeypatch):
    classifier, inputs = as_classifier(Residual(1), normalization="half"), torch.rand(5, 1, 6, 6)
    labels, epsilon = classifier(inputs).argmax(1), torch.tensor([0.1, 0.3, torch.nan, 0.0, 0.2])
    together = lower_bounds(classifier, inputs, labels, epsilon, norm)
    alone = [
        lower_bounds(classifier, *(values[i : i + 1] for values in (inputs, labels, epsilon)), norm) for i in range(5)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-9, atol=0)
    monkeypatch.setattr(crown, "ENTRIES", 4000)  # a few rows at once
    torch.testing.assert_close(lower_bounds(classifier, inputs, labels, epsilon, norm), together, rtol=1e-9, atol=0)
    assert len(lower_bounds(classifier, inputs[:0], labels[:0], epsilon[:0], norm)) == 0


def test_the_network_and_the_inputs_stay_as_they_are():
    classifier, inputs = as_classifier(Residual(0)), torch.rand(2, 1, 6, 6)
    before, kept = copy.deepcopy(classifier.module.state_dict()), inputs.clone()
    lower_bounds(classifier, inputs, torch.tensor([0, 1]))
    assert torch.equal(inputs, kept)
    assert all(torch.equal(value, before[name]) for name, value in classifier.module.state_dict().items())


# -- networks with answers that complete verifiers agree on ------------------------------------------------------------


def verified(name, count):
    pytest.importorskip("onnx2torch")
    data = np.load(reference(f"data/verified/{name}.npz"))
    normalization = tuple(tuple(data[key].tolist()) for key in ("mean", "std"))
    classifier = load_classifier(reference(f"data/verified/{name}.onnx"), normalization=normalization)
    inputs = torch.from_numpy(data["images"][:count]).float() / 255
    return classifier, inputs, torch.from_numpy(data["labels"][:count]), data


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "count", "share"), [("mnistfc_256x2", 30, 0.5), ("oval_cifar_base_kw", 10, 0.5), ("resnet_2b", 1, 0.2)]
)
def test_no_bound_reaches_a_violated_radius(name, count, share):
    classifier, inputs, labels, data = verified(name, count)
    radii = lower_bounds(classifier, inputs, labels, torch.from_numpy(data["epsilon"][:count] * 1.5)).numpy()
    epsilon, violated = data["epsilon"][:count], data["verdict"][:count] == "violated"
    assert (radii[violated] < epsilon[violated]).all()
    assert np.median(radii / epsilon) > share


def mnist(what, header, sample_ids):
    with gzip.open(reference(f"data/mnist/t10k-{what}-ubyte.gz")) as file:
        values = np.frombuffer(file.read(), np.uint8, offset=header)
    return values.reshape(10_000, -1)[sample_ids].copy()


@pytest.mark.slow
@pytest.mark.data
def test_bounds_lie_below_the_counterexamples_of_complete_verifiers_and_not_far():
    data = np.load(reference("data/verified/mnistfc_256x2_brackets.npz"))
    classifier, *_ = verified("mnistfc_256x2", 0)
    images, labels = (mnist(*file, data["sample_ids"]) for file in (("images-idx3", 16), ("labels-idx1", 8)))
    inputs = torch.from_numpy(images.reshape(-1, 1, 28, 28)).float() / 255
    labels = torch.from_numpy(labels.ravel()).long()
    radii = lower_bounds(classifier, inputs, labels, torch.from_numpy(data["counterexample"] * 1.5)).numpy()
    assert (radii < data["counterexample"]).all()
    assert np.median(radii / data["counterexample"]) > 0.7
    assert (radii > data["counterexample"] / 2).mean() > 0.9


# -- cost and arguments ------------------------------------------------------------------------------------------------


def test_cost_bounds_the_passes_that_are_made(monkeypatch):
    classifier, inputs = as_classifier(Residual(1), normalization="half"), torch.rand(3, 1, 6, 6)
    epsilon = torch.full((3,), 0.05)
    made = []
    original = Relaxation.linear_bound

    def counted(self, place, rows, owners):
        made.append(len(rows) * self.graph.work(place) / self.graph.work(len(self.graph.operations) - 1))
        return original(self, place, rows, owners)

    cost = certification_cost(classifier, inputs, epsilon)
    monkeypatch.setattr(Relaxation, "linear_bound", counted)
    lower_bounds(classifier, inputs, classifier(inputs).argmax(1), epsilon)
    assert sum(made) / 3 <= cost.passes <= 20 * sum(made) / 3
    assert 0 < cost.seconds < 10
    assert certification_cost(classifier, inputs[:0], epsilon[:0]).seconds == 0


@pytest.mark.slow
def test_cost_tells_hours_from_seconds():
    small = certification_cost(as_classifier(build("digits_cnn")), torch.rand(1, 1, 8, 8), torch.tensor([0.1]))
    large = certification_cost(as_classifier(build("resnet20")), torch.rand(1, 3, 32, 32), torch.tensor([0.1]))
    assert large.seconds > 20 * small.seconds
    assert large.passes > 20_000
    linear = as_classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
    assert certification_cost(linear, torch.rand(2, 1, 2, 2)).passes == pytest.approx(3 * (2 * ROUNDS + 1))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"norm": "l0"}, "`norm` 'l0' has no linear bounds: choose one of linf, l2, l1"),
        ({"rounds": 0}, "`rounds` must be at least 1, got 0"),
        ({"inputs": torch.full((2, 2, 1, 1), 1.5)}, r"`inputs` must lie in \[0, 1\]"),
        ({"inputs": torch.full((2, 2, 1, 1), torch.nan)}, r"`inputs` must lie in \[0, 1\]"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"must be \(N, C, H, W\), \(N,\) and \(N,\), got"),
        ({"labels": torch.zeros(2)}, "`labels` must be whole numbers, the classes of the inputs, got torch.float32"),
        ({"labels": torch.tensor([False, True])}, "`labels` must be whole numbers, .* got torch.bool"),
        ({"labels": torch.tensor([0, 2])}, r"`labels` must lie in \[0, 1\] for a network of 2 classes"),
        ({"epsilon": torch.tensor([0.1, -0.1])}, "`epsilon` must be at least 0, or NaN where it is unknown, got -0.1"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(changed, message):
    arguments = {"inputs": torch.full((2, 2, 1, 1), 0.5), "labels": torch.tensor([0, 0]), "epsilon": torch.ones(2)}
    with pytest.raises(InputError, match=message):
        lower_bounds(absolute_difference(), **(arguments | changed))
    radii = lower_bounds(absolute_difference(), **arguments)
    assert math.isfinite(radii.sum().item())
    arguments["labels"] = arguments["labels"].to(torch.uint8)
    torch.testing.assert_close(lower_bounds(absolute_difference(), **arguments), radii, rtol=0, atol=0)
