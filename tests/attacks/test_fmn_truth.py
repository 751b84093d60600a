"""FMN against answers known on paper, from independent solvers and from complete verifiers, from both sides."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import truth
from tests.conftest import reference
from thinice.attacks import MinNormResult, make_attack
from thinice.attacks.result import FORWARD
from thinice.losses import margin
from thinice.types import NORMS, Outcome

pytestmark = pytest.mark.sampled

every_norm = pytest.mark.parametrize("norm", NORMS)


def seeds(*others: int):
    """Return a mark that runs a test with seed 0, and with others where slow tests are asked for."""
    return pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in others)])


def measured(known: truth.Known, norm: str, **settings) -> tuple[MinNormResult, np.ndarray]:
    """Return what FMN finds, and its epsilons over the true distances."""
    nearest = make_attack("fmn", norm=norm, **settings)(known.model, known.inputs, known.labels, known.sample_ids)
    assert nearest.found.all()
    return nearest, nearest.epsilon.double().numpy() / known.distances[norm]


def assert_exact(ratio: np.ndarray) -> None:
    """Within 0.1 % of the truth and never below it."""
    assert ratio.min() >= 1 - 1e-6
    assert ratio.max() <= 1.001


@every_norm
@pytest.mark.parametrize("effort", ["quick", "standard"])
@seeds(1)
def test_it_finds_the_half_space(norm, effort, seed):
    assert_exact(measured(truth.half_space(seed=seed), norm, effort=effort)[1])


@every_norm
@pytest.mark.parametrize("classes", [3, 10])
@seeds(1)
def test_it_finds_the_nearest_of_many_planes(norm, classes, seed):
    known = truth.linear(classes=classes, seed=seed)
    nearest, ratio = measured(known, norm)
    assert_exact(ratio)
    assert (nearest.predictions != known.labels).all()


@every_norm
def test_the_nearest_plane_is_often_not_that_of_the_best_other_logit(norm):
    """Else the test above could not tell a search that goes for the runner-up from one that looks at all classes."""
    known = truth.linear(classes=10)
    runner_up = known.model(known.inputs).topk(2, 1).indices[:, 1]
    nearest, _ = measured(known, norm)
    assert (nearest.predictions != runner_up).any() or norm == "l0"


@every_norm
@seeds(1, 2)
def test_it_finds_the_way_along_the_edges_of_the_box(norm, seed):
    known = truth.linear_at_the_box(seed=seed)
    nearest, ratio = measured(known, norm)
    assert_exact(ratio)
    edge = (nearest.adversarials == 0) | (nearest.adversarials == 1)
    assert (edge & (nearest.adversarials != known.inputs)).any(), "the box is not active: nothing is tested"


@every_norm
def test_from_the_clean_input_as_in_the_paper_it_finds_the_half_space_too(norm):
    """Without the screen the loop itself has to get there."""
    known = truth.half_space()
    ratio = measured(known, norm, classes=0)[1]
    assert_exact(ratio)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_the_loop_alone_is_close_without_the_polish(norm):
    ratio = measured(truth.half_space(), norm, classes=0, polish=0)[1]
    assert ratio.min() >= 1 - 1e-6
    assert ratio.max() <= 1.01


@every_norm
def test_its_scale_follows_the_network(norm):
    """A network with logits a million times smaller or larger has the same boundary."""
    known = truth.linear(classes=3)
    _, ratio = measured(known, norm)
    for factor in (1e-6, 1e6):
        scaled = truth.Known(lambda x, f=factor: known.model(x) * f, known.inputs, known.labels, known.distances)
        np.testing.assert_allclose(measured(scaled, norm)[1], ratio, rtol=5e-4)


@pytest.fixture(scope="module")
def tiny_networks() -> list[truth.Known]:
    return [truth.tiny_relu(seed=seed) for seed in range(4)]


@pytest.mark.slow
@every_norm
def test_it_is_never_below_the_truth_of_small_relu_networks_and_mostly_meets_it(norm, tiny_networks):
    """Local minima are real here: three inputs, five ReLUs, distances across several kinks."""
    ratios = []
    for known in tiny_networks:
        attack = make_attack("fmn", norm=norm)
        nearest = attack(known.model, known.inputs, known.labels, known.sample_ids)
        assert (nearest.outcomes != Outcome.MISCLASSIFIED).all()
        ratios.append(nearest.epsilon.double().nan_to_num(torch.inf).numpy() / known.distances[norm])
    ratio = np.concatenate(ratios)
    assert ratio.min() >= 1 - 1e-5
    assert np.mean(ratio <= 1.01) >= 0.75
    assert np.median(ratio) <= 1.001


@pytest.mark.slow
def test_the_truths_agree_among_themselves(tiny_networks):
    """linf <= l2 <= l1 <= l0 within the unit box, and each is reached: the solvers are tested too."""
    for known in [*tiny_networks, truth.linear(classes=3), truth.linear_at_the_box()]:
        distances = known.distances
        assert (distances["linf"] <= distances["l2"] + 1e-9).all()
        assert (distances["l2"] <= distances["l1"] + 1e-9).all()
        assert (distances["l1"] <= distances["l0"] + 1e-9).all()
        assert all(np.isfinite(values).all() for values in distances.values())


@every_norm
def test_random_points_nearer_than_the_truth_are_never_adversarial(norm, tiny_networks):
    for known in tiny_networks[:2]:
        generator = np.random.default_rng(0)
        for point, label, distance in zip(known.inputs, known.labels, known.distances[norm], strict=True):
            delta = generator.uniform(-1, 1, (500, 3))
            if norm == "l0":
                if distance == 1:
                    continue
                delta *= generator.permuted(np.tile([1, 0, 0], (500, 1)), axis=1)
            else:
                order = {"l1": 1, "l2": 2, "linf": np.inf}[norm]
                delta *= 0.999 * distance / np.linalg.norm(delta, order, axis=1, keepdims=True)
            points = (point.view(1, 3) + torch.from_numpy(delta).float()).clamp(0, 1).view(500, 1, 1, 3)
            assert (known.model(points).argmax(1) == label).all()


# -- the defects of other implementations ----------------------------------------------------------------------------


def test_a_far_first_success_is_not_the_floor_of_the_schedule():
    """With few steps gamma alone could not shrink the radius by more than a half; the truth is 50 times smaller."""

    def cliff(inputs: Tensor) -> Tensor:
        total = inputs.flatten(1).mean(1, keepdim=True) - 0.5
        return torch.cat([-total.sign() * total.abs() ** 0.1, total.sign() * total.abs() ** 0.1], 1)

    inputs = torch.full((1, 1, 2, 2), 0.49)
    attack = make_attack("fmn", norm="linf", steps=20, classes=0)
    nearest = attack(cliff, inputs, torch.tensor([0]), torch.tensor([0]))
    assert math.prod(1 - 0.05 for _ in range(20)) > 0.3
    assert 0.01 * (1 - 1e-4) <= nearest.epsilon.item() <= 0.0101


def test_a_step_cut_by_the_box_does_not_stop_the_search():
    """Pixels at 0 and 1 that the gradient pushes out leave the linear guess always too short (methods of the field)."""
    known = truth.linear_at_the_box(seed=3)
    for norm in NORMS:
        nearest, ratio = measured(known, norm, classes=0)
        assert nearest.found.all()
        assert ratio.min() >= 1 - 1e-6
        assert np.median(ratio) <= 1.01


def test_a_plateau_around_the_input_is_left_in_a_random_direction_of_the_samples_own():
    def plateau(inputs: Tensor) -> Tensor:
        away = (inputs.flatten(1) - 0.5).norm(dim=1, keepdim=True) - 0.3
        return torch.cat([torch.full_like(away, 0.1), away.clamp(min=0)], 1)

    inputs, labels = torch.full((5, 1, 3, 3), 0.5), torch.zeros(5, dtype=torch.int64)
    attack = make_attack("fmn", norm="l2", seed=1)
    nearest = attack(plateau, inputs, labels, torch.tensor([11, 12, 13, 14, 11]))
    assert nearest.found.all()
    assert (nearest.epsilon >= 0.4 * (1 - 1e-5)).all()
    assert (nearest.epsilon <= 0.41).all()
    directions = (nearest.adversarials - inputs).flatten(1)
    assert torch.equal(directions[0], directions[4]), "the same sample_id, another direction"
    assert not torch.allclose(directions[0], directions[1], atol=0.05), "another sample_id, the same direction"
    other_seed = make_attack("fmn", norm="l2", seed=2)(plateau, inputs, labels, torch.tensor([11, 12, 13, 14, 11]))
    assert not torch.allclose(other_seed.adversarials, nearest.adversarials, atol=0.05)
    alone = attack(plateau, inputs[3:4], labels[3:4], torch.tensor([14]))
    torch.testing.assert_close(alone.adversarials, nearest.adversarials[3:4])


def test_the_gradients_of_a_saturated_softmax_are_used_however_small():
    known = truth.half_space(count=8)
    saturated = truth.Known(lambda x: (known.model(x) * 150).softmax(1), known.inputs, known.labels, known.distances)
    assert saturated.model(known.inputs).max() == 1
    _, ratio = measured(saturated, "l2", steps=300)
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.01


@every_norm
def test_what_it_finds_is_beyond_the_boundary_by_more_than_rounding(norm):
    """Else another batch, or another machine, would not find it adversarial."""
    known = truth.linear(classes=3)
    nearest, _ = measured(known, norm)
    rounded = (nearest.adversarials + 1e-7 * torch.randn_like(known.inputs)).clamp(0, 1)
    assert (known.model(rounded).argmax(1) != known.labels).all()
    clean, found = (margin(known.model(points), known.labels) for points in (known.inputs, nearest.adversarials))
    assert (found <= -5e-5 * clean).all()


def test_a_structural_tie_counts_where_argmax_says_so():
    """Beyond the boundary both logits are 0, for ever: argmax takes class 0 there, which is not the label."""

    def dying(inputs: Tensor) -> Tensor:
        alive = (inputs.flatten(1).mean(1, keepdim=True) - 0.3).relu()
        return torch.cat([torch.zeros_like(alive), alive], 1)

    attack = make_attack("fmn", norm="linf")
    nearest = attack(dying, torch.full((1, 1, 2, 2), 0.5), torch.tensor([1]), torch.tensor([0]))
    assert nearest.predictions.tolist() == [0]
    assert 0.2 * (1 - 1e-6) <= nearest.epsilon.item() <= 0.206


def test_l0_never_asks_for_no_entry_at_all():
    known = truth.linear(classes=3)
    nearest, _ = measured(known, "l0")
    assert (nearest.epsilon >= 1).all()
    assert torch.equal(nearest.epsilon, nearest.epsilon.round())


def test_more_steps_find_nothing_farther_on_a_curved_network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(48, 64), nn.Tanh(), nn.Linear(64, 5)).eval()
    network.requires_grad_(requires_grad=False)
    network[1].weight *= 4
    inputs = torch.rand(16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    labels, ids = network(inputs).argmax(1), torch.arange(16)
    for norm in ("l2", "linf"):
        short = make_attack("fmn", norm=norm, steps=30)(network, inputs, labels, ids).epsilon
        long = make_attack("fmn", norm=norm, steps=300)(network, inputs, labels, ids).epsilon
        assert long.median() <= short.median() * 1.01
        assert (long <= short * 1.2).all()


def test_evaluations_are_counted_as_documented():
    known = truth.linear(classes=5)
    nearest, _ = measured(known, "l2", steps=10, classes=3, polish=2)
    clean, judged, last = FORWARD, FORWARD, FORWARD
    screened = FORWARD + 3 * (1 - FORWARD)
    expected = clean + screened + 10 + last + 2 * FORWARD + judged
    assert nearest.evaluations.tolist() == pytest.approx([expected] * 32)


# -- networks with answers that complete verifiers agree on ----------------------------------------------------------


def verified(name: str) -> tuple[nn.Module, Tensor, Tensor, Tensor, np.ndarray]:
    """Return a network of VNN-COMP 2021 on [0, 1] inputs, its samples, and radii with verdicts (linf)."""
    onnx, onnx2torch = pytest.importorskip("onnx"), pytest.importorskip("onnx2torch")
    onnxruntime = pytest.importorskip("onnxruntime")
    path, data = reference(f"data/verified/{name}.onnx"), np.load(reference(f"data/verified/{name}.npz"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = onnx2torch.convert(onnx.load(path)).eval().requires_grad_(requires_grad=False)
    mean, std = (torch.from_numpy(data[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    shape = [int(size) for size in data["input_shape"]]

    class Network(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return converted(((inputs - mean) / std).reshape(-1, *shape)).flatten(1)

    network = Network().eval()
    inputs = torch.from_numpy(data["images"]).float() / 255
    session = onnxruntime.InferenceSession(path)
    image = ((inputs[:1] - mean) / std).reshape(1, *shape).numpy()
    expected = session.run(None, {session.get_inputs()[0].name: image})[0]
    np.testing.assert_allclose(network(inputs[:1]).numpy().ravel(), expected.ravel(), atol=1e-4)
    return network, inputs, torch.from_numpy(data["labels"]), torch.from_numpy(data["epsilon"]), data["verdict"]


@pytest.mark.data
@pytest.mark.parametrize(("name", "count"), [("mnistfc_256x2", 30), ("oval_cifar_base_kw", 10), ("resnet_2b", 10)])
@pytest.mark.parametrize("effort", ["quick", "standard"])
def test_no_verified_sample_is_found_below_its_radius(name, count, effort):
    network, inputs, labels, radii, verdicts = verified(name)
    attack = make_attack("fmn", norm="linf", effort=effort)
    nearest = attack(network, inputs[:count], labels[:count], torch.arange(count))
    holds = torch.from_numpy(verdicts[:count] == "holds")
    assert holds.any()
    assert not (nearest.epsilon[holds] <= radii[:count][holds]).any()
    assert nearest.found.all()


@pytest.mark.data
@pytest.mark.parametrize("steps", [30, 100])
def test_it_meets_as_many_violated_radii_as_foolbox_with_as_many_steps(steps):
    """On the network where fast minimum-norm attacks often find nothing at all."""
    network, inputs, labels, radii, verdicts = verified("mnistfc_256x2")
    violated = torch.from_numpy(verdicts == "violated")

    def run(name: str) -> MinNormResult:
        return make_attack(name, norm="linf", steps=steps)(network, inputs, labels, torch.arange(len(inputs)))

    ours, foolbox = run("fmn"), run("foolbox:LInfFMNAttack")
    met = [(nearest.epsilon <= radii)[violated].sum().item() for nearest in (ours, foolbox)]
    assert met[0] >= max(met[1], 9)
    assert ours.found.sum() >= foolbox.found.sum()
