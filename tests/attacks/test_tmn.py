"""TMN against answers known on paper, verified networks, and its own rules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from tests.conftest import reference
from thinice.attacks import make_attack
from thinice.attacks.result import FORWARD, MinNormResult, verify
from thinice.attacks.tmn import TmnCandidates, TmnSettings, settings, tmn
from thinice.attacks.tmn.settings import EFFORTS
from thinice.attacks.tmn.stages import agree, annealed_descent, descent_steps, screen_classes
from thinice.attacks.tmn.state import ANY, SearchState, draw_index
from thinice.types import NORMS, Outcome

pytestmark = pytest.mark.sampled

QUICK = EFFORTS["quick"]
DOCS = Path(__file__).parents[2] / "docs" / "tmn.md"
TECHNICAL = ("TINY", "VANISHED", "NORMAL_SIGNS", "BANK", "CACHED_PIXELS", "PIXELS_AT_ONCE", "IMAGES_AT_ONCE")


class Planes:
    """A linear network on [0, 1]^D whose distances are known: classes meet at planes."""

    def __init__(self, classes: int, pixels: int = 36, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(classes, pixels, generator=generator)

    def __call__(self, inputs: Tensor) -> Tensor:
        return (inputs.flatten(1) - 0.5) @ self.weight.T.to(inputs)

    def samples(self, count: int = 12, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        inputs = 0.5 + 0.1 * (torch.rand(count, 1, 6, 6, generator=generator) - 0.5)
        return inputs, self(inputs).argmax(1), torch.arange(count)

    def distances(self, inputs: Tensor, labels: Tensor, norm: str, target: int | None = None) -> np.ndarray:
        """From every plane's own formula; l0 and l1 fill the box greedily, which is optimal for one plane."""
        truth = []
        for x, label in zip(inputs.flatten(1).double().numpy(), labels.tolist(), strict=True):
            others = [c for c in range(len(self.weight)) if c != label] if target is None else [target]
            truth.append(min(self._one(x, label, other, norm) for other in others))
        return np.array(truth)

    def _one(self, x: np.ndarray, label: int, other: int, norm: str) -> float:
        w = (self.weight[other] - self.weight[label]).double().numpy()
        need = -w @ (x - 0.5)
        if norm in ("linf", "l2"):  # far from the box
            return need / (np.abs(w).sum() if norm == "linf" else np.linalg.norm(w))
        room = np.where(w > 0, 1 - x, x)
        order = np.argsort(-(np.abs(w) * room if norm == "l0" else np.abs(w)))
        length = 0.0
        for i in order:
            gain = abs(w[i]) * room[i]
            if need <= gain:
                return length + (1 if norm == "l0" else need / abs(w[i]))
            need, length = need - gain, length + (1 if norm == "l0" else room[i])
        return np.inf


def attacked(model, inputs, labels, sample_ids, norm="linf", **options) -> MinNormResult:
    finds = tmn(model, inputs, labels, sample_ids, norm=norm, **options)
    return verify(model, inputs, finds.candidates, labels, norm=norm, evaluations=finds.evaluations)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("norm", NORMS)
def test_finds_the_nearest_plane(norm, classes):
    planes = Planes(classes)
    inputs, labels, ids = planes.samples()
    nearest, truth = attacked(planes, inputs, labels, ids, norm=norm), planes.distances(inputs, labels, norm)
    assert (nearest.outcomes == Outcome.FOUND).all()
    ratio = nearest.epsilon.numpy() / truth
    assert (ratio >= 0.9999).all()
    assert (ratio <= {"linf": 1.002, "l2": 1.002, "l1": 1.02, "l0": 1.0001}[norm]).mean() >= 0.9
    assert (ratio <= 1.1).all() or (norm == "l0" and (nearest.epsilon.numpy() <= truth + 1).all())


def test_a_thousand_classes_cost_no_more_than_ten():
    planes = Planes(1000)
    inputs, labels, ids = planes.samples()
    nearest, truth = attacked(planes, inputs, labels, ids), planes.distances(inputs, labels, "linf")
    ratio = nearest.epsilon.numpy() / truth
    assert (ratio >= 0.9999).all()
    assert np.median(ratio) <= 1.02
    assert nearest.evaluations.max() <= 60  # one with a descent to the next class


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_reaches_the_target_class(norm):
    planes = Planes(5)
    inputs, labels, ids = planes.samples(40)
    keep = labels != 3
    inputs, labels, ids = inputs[keep], labels[keep], ids[keep]
    finds = tmn(planes, inputs, labels, ids, norm=norm, targets=torch.full_like(labels, 3))
    assert (planes(finds.candidates).argmax(1) == 3).all()
    delta = (finds.candidates - inputs).flatten(1)
    length = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert (length.numpy() >= 0.9999 * planes.distances(inputs, labels, norm, target=3)).all()


def test_a_target_behind_other_classes_is_reached_by_the_shortest_way():
    planes, norm = Planes(10), "linf"
    inputs, _, ids = planes.samples(12)
    logits = planes(inputs)
    labels, targets = logits.argmax(1), logits.argmin(1)  # others lie between
    finds = tmn(planes, inputs, labels, ids, norm=norm, targets=targets)
    assert (planes(finds.candidates).argmax(1) == targets).all()
    length = (finds.candidates - inputs).flatten(1).abs().amax(1)
    for sample, target in enumerate(targets.tolist()):
        others = [c for c in range(10) if c != target]
        ahead = (planes.weight[others] - planes.weight[target]).double().numpy()
        need = (logits[sample, target] - logits[sample, others]).double().numpy()
        pixels = ahead.shape[1]  # least e with ahead @ delta <= need, |delta| <= e
        bounds = np.hstack([np.vstack([np.eye(pixels), -np.eye(pixels)]), -np.ones((2 * pixels, 1))])
        rows = np.vstack([np.hstack([ahead, np.zeros((9, 1))]), bounds])
        cost, free = np.r_[np.zeros(pixels), 1.0], [(None, None)] * pixels + [(0, None)]
        least = linprog(cost, A_ub=rows, b_ub=np.r_[need, np.zeros(2 * pixels)], bounds=free).fun
        assert 0.999 * least <= length[sample] <= 1.1 * least


@pytest.mark.parametrize("norm", ["l0", "l2", "linf"])
def test_the_input_itself_is_no_adversarial_when_it_is_evaluated_again(norm):
    """A network that takes the input itself for another class whenever it is asked again."""
    planes, asked = Planes(3), []
    inputs, labels, ids = planes.samples(6)

    def moody(points):
        logits = planes(points)
        untouched = (points.flatten(1)[:, None] == inputs.flatten(1)).all(2).any(1)
        asked.append(1)
        return torch.where(untouched[:, None] & (len(asked) > 1), -logits, logits)

    finds = tmn(moody, inputs, labels, ids, norm=norm)
    assert (planes(finds.candidates).argmax(1) != labels).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_holes_where_a_network_has_no_logits_are_gone_around(norm):
    planes = Planes(5)
    inputs, labels, ids = planes.samples(24)
    truth = planes.distances(inputs, labels, norm)

    def holed(points):
        logits, flat = planes(points), points.flatten(1)
        return torch.where(((flat * 1e4).sum(1).long() % 10 == 0)[:, None], torch.nan, logits)

    whole = torch.from_numpy(~holed(inputs).isnan().any(1).numpy())
    finds = tmn(holed, inputs[whole], labels[whole], ids[whole], norm=norm)
    assert (planes(finds.candidates).argmax(1) != labels[whole]).all()
    delta = (finds.candidates - inputs[whole]).flatten(1)
    length = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    ratio = length.numpy() / truth[whole.numpy()]
    assert ratio.min() > 0.999
    assert np.median(ratio) < 1.02
    assert ratio.max() < 2


def curved(seed: int = 0, classes: int = 10, gain: float = 3.0, flat: float = 4.0) -> nn.Module:
    """A small network whose logits saturate; computed in float64, so that batches differ by nothing."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(36, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, classes), nn.Tanh()
    )
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(gain)
        network[-2].weight.mul_(flat)
    return network.double().requires_grad_(False)


def curved_samples(network: nn.Module, count: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    inputs = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(5))
    return inputs, network(inputs.double()).argmax(1), torch.arange(100, 100 + count)


@pytest.mark.parametrize(
    ("norm", "effort"),
    [
        *product(NORMS, ["quick", "standard"]),
        *product(["l2", "linf"], ["thorough"]),
        *(pytest.param(norm, "thorough", marks=pytest.mark.slow) for norm in ("l0", "l1")),
    ],
)
def test_a_result_is_the_samples_own(norm, effort):
    network = curved()
    inputs, labels, ids = curved_samples(network)

    def model(x):
        return network(x.double()).float()

    def lengths(index: Tensor) -> TmnCandidates:
        return tmn(model, inputs[index], labels[index], ids[index], norm=norm, **EFFORTS[effort])

    everyone = torch.arange(len(inputs))
    whole = lengths(everyone)
    assert whole.curved.any()
    if norm in ("l2", "linf"):
        assert not whole.curved.all()
    for index in everyone.flip(0).split([9, 6, 1]):  # in other company, in another order, and alone
        part = lengths(index)
        torch.testing.assert_close(part.candidates, whole.candidates[index], rtol=0, atol=1e-5)
        torch.testing.assert_close(part.evaluations, whole.evaluations[index])
        torch.testing.assert_close(part.converged, whole.converged[index])


def test_the_seed_and_the_sample_id_matter_and_repeat():
    network = curved()
    inputs, labels, ids = curved_samples(network)

    def model(x):
        return network(x.double()).float()

    first = tmn(model, inputs, labels, ids, norm="linf").candidates
    assert torch.equal(first, tmn(model, inputs, labels, ids, norm="linf").candidates)
    assert not torch.equal(first, tmn(model, inputs, labels, ids, norm="linf", seed=1).candidates)
    assert not torch.equal(first, tmn(model, inputs, labels, ids + 1, norm="linf").candidates)


@pytest.mark.parametrize("norm", NORMS)
def test_every_pass_is_counted(norm):
    network = curved()
    inputs, labels, ids = curved_samples(network)
    passes = {"forward": 0, "backward": 0}

    def model(x):
        passes["forward"] += len(x)
        logits = network(x.double()).float()
        if logits.requires_grad:
            logits.register_hook(lambda gradient: passes.update(backward=passes["backward"] + len(gradient)))
        return logits

    finds = tmn(model, inputs, labels, ids, norm=norm)
    spent = FORWARD * passes["forward"] + (1 - FORWARD) * passes["backward"]
    assert finds.evaluations.sum().item() == pytest.approx(spent, rel=1e-4)


@pytest.mark.parametrize(("effort", "linear", "curved_one"), [("quick", 26, 46), ("standard", 50, 115)])
def test_efforts_keep_to_their_budgets(effort, linear, curved_one):
    network = curved(gain=2.0, flat=1.0)
    inputs, labels, ids = curved_samples(network, 32)
    finds = tmn(lambda x: network(x.double()).float(), inputs, labels, ids, norm="linf", **EFFORTS[effort])
    assert finds.evaluations[~finds.curved].median() <= linear
    assert finds.evaluations.max() <= curved_one + 25


def bent(inputs: Tensor) -> Tensor:
    """Three classes on 400 entries: one is screened at 1 and lies at 0.6, one is screened at 5 and lies at 0.5."""
    moved = inputs.flatten(1) - 0.5
    half = torch.full((200,), 200**-0.5).to(inputs)
    u, v = moved[:, :200] @ half, moved[:, 200:] @ half
    return torch.stack([0 * u, u + (1 - 0.6) / 0.36 * u**2 - 1, 0.2 * v + (1 - 0.1) / 0.25 * v**2 - 1, 0 * u - 5], 1)


def test_where_the_boundary_is_closer_than_predicted_the_sample_is_curved(monkeypatch):
    inputs, ids = torch.full((2, 1, 20, 20), 0.5), torch.tensor([0, 3])  # whose random signs find it nearly linear
    finds = {}
    for limit in (0.3, 0.6):  # the chosen class is closer by log(1 / 0.6) = 0.51
        monkeypatch.setattr(settings, "CURVATURE", limit)
        finds[limit] = tmn(bent, inputs, 0 * ids, ids, norm="l2")
        epsilon = (finds[limit].candidates - inputs).flatten(1).norm(dim=1)
        assert ((epsilon >= 0.5) & (epsilon < 0.606)).all()
    closer, as_predicted = finds.values()
    assert closer.curved.all()
    assert not as_predicted.curved.any()
    assert as_predicted.converged.all()
    more = closer.evaluations - as_predicted.evaluations
    assert ((more > 3 * TmnSettings().descent) & (more <= TmnSettings().steps)).all()
    monkeypatch.setattr(settings, "CURVATURE", 0.3)
    find = tmn(bent, inputs, 0 * ids, ids, norm="l2", **EFFORTS["thorough"])
    epsilon = (find.candidates - inputs).flatten(1).norm(dim=1)
    assert ((epsilon >= 0.5) & (epsilon < 0.505)).all()  # there is a class still closer
    find = tmn(bent, inputs, 0 * ids, ids, norm="l2", targets=0 * ids + 1)
    assert (bent(find.candidates).argmax(1) == 1).all()


def test_a_descent_is_longer_where_gradients_disagree():
    planes, generator = Planes(10), torch.Generator().manual_seed(0)
    hidden, out = torch.randn(512, 36, generator=generator), torch.randn(10, 512, generator=generator)

    def folds(x):
        return torch.relu((x.flatten(1) - 0.5) @ hidden.T) @ out.T

    inputs = torch.rand(32, 1, 6, 6, generator=generator)
    lengths = []
    for model, (points, labels, ids) in (
        (planes, planes.samples(32)),
        (folds, (inputs, folds(inputs).argmax(1), torch.arange(32))),
    ):
        search = SearchState(model, points, labels, ids, norm="linf", seed=0)
        candidates = screen_classes(search, 1).candidates
        search.step(candidates, search.evaluate(candidates), 1.0)
        lengths.append(descent_steps(search, candidates, 60))
    straight, folded = lengths
    assert (straight == 20).all()  # on a plane nothing disagrees: a third
    assert folded.median() > 10
    assert folded.max() > 60
    assert folded.max() <= 60 * (2 / settings.USUAL_DISAGREEMENT) ** (1 / 3)  # where a gradient is turned around


def test_a_descent_that_ends_far_beyond_its_best_is_lost_and_has_not_converged():
    """An adversarial is met on the way; from then on nothing is adversarial any more."""
    planes = Planes(3)
    inputs, labels, ids = planes.samples(6)
    asked = []

    def fading(points):
        asked.append(len(points))
        logits = planes(points)
        own = torch.nn.functional.one_hot(labels, 3) * (100.0 if len(asked) > 4 else 0.0)
        return logits + own

    search = SearchState(fading, inputs, labels, ids, norm="l2", seed=0)
    rows = screen_classes(search, 1).candidates
    steps = torch.full_like(labels, 24)
    converged, lost = annealed_descent(search, rows, steps, 0)
    assert search.best.isfinite().any()
    assert lost.all()
    assert not converged.any()
    search = SearchState(planes, inputs, labels, ids, norm="l2", seed=0)
    converged, lost = annealed_descent(search, screen_classes(search, 1).candidates, steps, 0)
    assert converged.all()
    assert not lost.any()


@pytest.mark.slow
def test_of_curved_samples_said_to_have_converged_few_are_wrong():
    network = curved()
    inputs, labels, ids = curved_samples(network, 96)

    def model(x):
        return network(x.double()).float()

    efforts = ("standard", "thorough", "thorough")
    finds = [tmn(model, inputs, labels, ids, norm="l2", seed=k, **EFFORTS[name]) for k, name in enumerate(efforts)]
    lengths = torch.stack([(find.candidates - inputs).flatten(1).norm(dim=1) for find in finds])
    is_curved, converged = finds[0].curved, finds[0].converged
    assert is_curved.sum() > 10
    assert 0.1 < converged[is_curved].float().mean() < 0.9
    wrong = lengths[0] > 1.01 * lengths.amin(0)
    assert wrong[is_curved & converged].float().mean() < 0.05


def test_a_curved_sample_is_searched_in_turn_from_elsewhere_and_from_the_sample(monkeypatch):
    """Each search has its start, its loss, and its passes; all are made while they disagree."""
    network = curved(gain=4.0)
    inputs, labels, ids = curved_samples(network, 8)
    started, asked, start, evaluate = [], [], SearchState.start, SearchState.evaluate
    monkeypatch.setattr(settings, "CURVATURE", -1.0)  # everything is curved,
    monkeypatch.setattr(settings, "AGREEMENT", -1.0)  # and no two searches agree

    def noted_start(search, sample, target, delta):
        started.append((delta.abs().amax(1) == 0).all().item())
        asked.append([])
        return start(search, sample, target, delta)

    def noted(search, rows, memory=None, loss="margin", chords=0.0):
        asked[-1].append((loss, chords))
        return evaluate(search, rows, memory, loss, chords)

    monkeypatch.setattr(SearchState, "start", noted_start)
    monkeypatch.setattr(SearchState, "evaluate", noted)
    steps = TmnSettings().descent
    for goals in (None, (labels + 1) % 10):
        started.clear()
        asked.clear()
        find = tmn(lambda x: network(x.double()).float(), inputs, labels, ids, norm="linf", targets=goals)
        assert find.curved.any()  # some are misclassified in float32
        assert not find.converged.any()
        assert started == [True, False, False, True, True, False, True, False]  # screen, probe, five searches
        assert asked[4] == [("margin", 1.0)]  # the direction that the third starts in
        searches = [asked[2], asked[3], *asked[5:]]
        expected = [("margin", 1), ("soft margin", 2), ("margin", 1), ("other logit", 2), ("margin", 1)]
        for search, (first, times) in zip(searches, expected, strict=True):
            rough = math.ceil(settings.NOISE_ENDS * times * steps)
            losses, chords = zip(*search, strict=True)
            assert list(losses) == [first] * rough + ["margin"] * (times * steps - rough)
            fading = 1 - np.arange(times * steps) / (settings.NOISE_ENDS * times * steps)
            np.testing.assert_allclose(
                np.clip(chords, 0, 1), np.clip(fading, 0, 1) * (first != "other logit"), atol=1e-9
            )


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_where_enough_searches_agree_no_more_are_made(norm, monkeypatch):
    """On planes the first four do as a rule, and they are enough of five."""
    monkeypatch.setattr(settings, "CURVATURE", -1.0)
    planes = Planes(3)
    usual = tmn(planes, *planes.samples(6), norm=norm)
    agreed = usual.converged
    assert agreed.all() if norm == "l2" else agreed.float().mean() > 0.5  # descents from elsewhere have longer strides
    monkeypatch.setattr(settings, "AGREEMENT", -1.0)
    disagreed = tmn(planes, *planes.samples(6), norm=norm)
    assert not disagreed.converged.any()
    steps = TmnSettings().descent
    spared = disagreed.evaluations - usual.evaluations
    early = spared > 0
    assert early.all() if norm == "l2" else early.any()
    torch.testing.assert_close(spared, steps * early.float())
    least = usual.evaluations[early] - 2 * (1 + settings.FROM_SAMPLE) * steps - steps // settings.PART
    assert ((least > 0) & (least < 5)).all()  # screen, probe, and one for the direction by chords


def test_a_search_that_came_nearer_alone_does_not_confirm_itself(monkeypatch):
    module, planes, asked = import_module("thinice.attacks.tmn"), Planes(3), []
    monkeypatch.setattr(settings, "CURVATURE", -1.0)

    def nearer(search, probes, _directions, number, _steps):
        asked.append((probes.sample.tolist(), number))
        search.best[probes.sample] *= 0.9  # nearer than there is anything
        return search.best[probes.sample] + 0

    monkeypatch.setattr(module, "search_again", nearer)
    find = tmn(planes, *planes.samples(6), norm="l2")
    assert asked == [(list(range(6)), number) for number in range(5)]
    assert not find.converged.any()
    monkeypatch.setattr(module, "search_again", lambda search, probes, *_: search.best[probes.sample] + 0)
    assert tmn(planes, *planes.samples(6), norm="l2").converged.all()


def test_a_descent_before_counts_as_one_of_the_searches(monkeypatch):
    """Where planes turn out closer than predicted, the last search is left out, and the passes stay within `steps`."""
    module, planes, asked = import_module("thinice.attacks.tmn"), Planes(3), []
    again = module.search_again

    def noted(search, probes, directions, number, steps):
        asked.append(number)
        return again(search, probes, directions, number, steps)

    def predicts_twice_as_far(search, classes):
        screen = screen_classes(search, classes)
        screen.distances.mul_(2)
        return screen

    monkeypatch.setattr(module, "search_again", noted)
    monkeypatch.setattr(module, "screen_classes", predicts_twice_as_far)
    find = tmn(planes, *planes.samples(6), norm="linf")
    assert find.curved.all()
    assert asked[:4] == [0, 1, 2, 3]
    assert find.evaluations.max() <= TmnSettings().steps


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_everywhere_searches_samples_that_are_nearly_linear_too(norm, monkeypatch):
    planes = Planes(3)
    inputs, labels, ids = planes.samples(6)
    usual, all_of_it = (
        tmn(planes, inputs, labels, ids, norm=norm, everywhere=everywhere) for everywhere in (False, True)
    )
    assert not usual.curved.any()
    assert all_of_it.curved.all()
    assert all_of_it.converged.float().mean() > 0.5
    descents = 3 * TmnSettings().descent  # the first three searches cost four, and agree with what was before
    assert (all_of_it.evaluations - usual.evaluations >= descents).all()
    monkeypatch.setattr(settings, "AGREEMENT", -1.0)
    spent = tmn(planes, inputs, labels, ids, norm=norm, **EFFORTS["exhaustive"]).evaluations
    assert ((spent > 800) & (spent < 1100)).all()


def test_searches_agree_where_so_many_end_with_the_best_length():
    inf = torch.inf
    ends = torch.tensor([[1.0, 1.0, inf], [1.001, 1.0, inf], [1.01, 1.0, 1.0], [inf, inf, inf], [2.0, 2.0, 2.0]])
    best = torch.tensor([1.0, 1.0, 1.0, inf, 1.0])
    assert agree(ends, best, 2).tolist() == [True, True, True, False, False]
    ends[:2, 2] = torch.tensor([1.001, 1.01])
    assert agree(ends, best, 3).tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("targeted", [False, True])
def test_losses_have_the_gradients_of_their_formulas(targeted):
    """The soft margin takes the other classes for one; the other logit leaves the true one out."""
    planes = Planes(4)
    inputs, labels, ids = planes.samples(5)
    goals = (labels + 1) % 4 if targeted else None
    search = SearchState(planes, inputs, labels, ids, norm="l2", seed=0, targets=goals)
    logits, weight = planes(inputs), planes.weight
    for loss in ("margin", "soft margin", "other logit"):
        rows = search.start(ids, torch.full_like(labels, ANY) if goals is None else goals, 0 * search.flat)
        search.evaluate(rows, memory=0.0, loss=loss)
        for sample, label in enumerate(labels.tolist()):
            single = label if goals is None else int(goals[sample])  # the class against all others
            others = [c for c in range(4) if c != single]
            sign = 1.0 if goals is None else -1.0
            likeliest = others[int(logits[sample, others].argmax())]
            shares = logits[sample, others].softmax(0)
            rises = {
                "margin": sign * (weight[likeliest] - weight[single]),
                "soft margin": sign * (shares @ weight[others] - weight[single]),
                "other logit": weight[likeliest] if goals is None else weight[single],
            }[loss]
            torch.testing.assert_close(rows.momentum[sample], rises / rises.norm(), rtol=1e-4, atol=1e-5)
            margin = sign * (logits[sample, single] - logits[sample, likeliest])
            torch.testing.assert_close(rows.margin[sample], margin)
            torch.testing.assert_close(rows.signed_distance[sample], margin / rises.norm(), rtol=1e-4, atol=1e-5)


def test_where_nothing_is_found_descents_do_not_start_at_the_input():
    """Never beyond the boundary: each descent of a thorough search evaluates points away from the input."""
    evaluated = []

    def never(x):
        evaluated.append((x - inputs[0]).detach().flatten(1).norm(dim=1))
        total = torch.sin(5 * x.flatten(1)).sum(1)
        return torch.stack([10 + 0 * total, total / 100, total / 90 - 1], 1)

    inputs, one = torch.full((1, 1, 6, 6), 0.5), torch.tensor([0])
    find = tmn(never, inputs, one, one, norm="l2", **EFFORTS["thorough"])
    assert torch.equal(find.candidates, inputs)
    still = torch.cat(evaluated) < 1e-6
    assert still.float().mean() < 0.1


def test_stages_and_searches_draw_random_signs_of_their_own():
    """With the settings of every effort, and of a longer search."""
    longest = (2 / settings.USUAL_DISAGREEMENT) ** (1 / 3)  # of descents, in units of the usual
    for options in (*(TmnSettings(**EFFORTS[effort]) for effort in EFFORTS), TmnSettings(steps=10_000)):
        noisy = math.ceil(longest * options.descent * settings.NOISE_ENDS)
        streams = [[draw_index("probe")], [draw_index("descend", 0, k) for k in range(noisy)]]
        draws = 1 + math.ceil(settings.FROM_SAMPLE * options.descent * settings.NOISE_ENDS)
        streams += [
            [draw_index("search", number, k) for k in range(draws)] for number in range(options.curved.searches)
        ]
        numbers = [number for stream in streams for number in stream]
        assert len(set(numbers)) == len(numbers)
    most = TmnSettings(steps=10**6)  # the most that there may be
    assert 1 + settings.FROM_SAMPLE * most.descent < draw_index("search", 1) - draw_index("search", 0)
    assert 101 + longest * most.descent < draw_index("search", 0)
    thorough = TmnSettings(**EFFORTS["thorough"])  # S2 in l1, whose dense search searches again as well
    draws = (thorough.starts + thorough.classes) * settings.LONG * settings.NORMAL_SIGNS
    vertices = {draw_index("vertices", step=k) for k in range(draws)}
    assert len(vertices) == draws
    assert not vertices & {draw_index("search", number, k) for number in range(2) for k in range(1000)}


def test_the_description_has_every_number_with_its_value():
    text = " ".join(DOCS.read_text(encoding="utf-8").split())
    other = ("EFFORTS", "RANGES")
    constants = {name: value for name, value in vars(settings).items() if name.isupper() and name not in other}
    tuned = 0
    for name, value in constants.items():
        parts = value if isinstance(value, Mapping) else {"": value}
        tuned += 0 if name in TECHNICAL else len(parts)
        written = ", ".join(f"{norm} {part:g}".strip() for norm, part in parts.items())
        assert f"`{name}` {value if isinstance(value, int) else written}" in text, name
    for effort in EFFORTS:
        options = TmnSettings(**EFFORTS[effort])
        steps = f"{options.steps}, everywhere" if options.everywhere else options.steps
        assert f"| {effort} | {steps} | {options.descent} | {options.curved.searches} | {options.starts} |" in text
        tuned += effort != "exhaustive"  # which has the budget that the field compares at
    assert tuned + 1 <= 35  # and the classes


def test_random_signs_depend_on_the_sample_the_number_and_the_seed_alone():
    inputs, ids = torch.rand(3, 1, 16, 16), torch.tensor([4, 5, 6])
    state, other = (SearchState(Planes(2), inputs, ids, ids, norm="l2", seed=seed) for seed in (0, 1))
    everyone = torch.arange(3)
    signs = state.signs(everyone, 7)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(signs[1:2], state.signs(torch.tensor([1]), 7))
    assert torch.equal(signs, state.signs(everyone, 7))
    assert all(not torch.equal(signs, others) for others in (state.signs(everyone, 8), other.signs(everyone, 7)))
    vectors = torch.cat([state.signs(everyone, number) for number in range(50)])
    alike = (vectors @ vectors.T / 256).fill_diagonal_(0)
    assert alike.abs().max() < 0.45  # 150 vectors of 256 signs: seven standard deviations


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_more_effort_is_no_worse_on_average(norm):
    network = curved(gain=2.0, flat=1.0)
    inputs, labels, ids = curved_samples(network, 32)
    mean = {
        effort: attacked(lambda x: network(x.double()).float(), inputs, labels, ids, norm=norm, **options)
        for effort, options in EFFORTS.items()
    }
    assert all((nearest.outcomes == Outcome.FOUND).all() for nearest in mean.values())
    assert mean["thorough"].epsilon.mean() <= mean["standard"].epsilon.mean() * 1.001
    assert mean["standard"].epsilon.mean() <= mean["quick"].epsilon.mean() * 1.001


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "logits", [lambda x: x.sum((1, 2, 3))[:, None] * torch.zeros(3) + torch.tensor([1.0, 0.0, 0.0]), "one class"]
)
def test_where_there_is_no_boundary_nothing_is_found(norm, logits):
    model = (lambda x: x.sum((1, 2, 3))[:, None]) if logits == "one class" else logits
    inputs, labels = torch.rand(3, 1, 6, 6), torch.zeros(3, dtype=torch.int64)
    finds = tmn(model, inputs, labels, torch.arange(3), norm=norm, **QUICK)
    assert torch.equal(finds.candidates, inputs)
    assert finds.evaluations.isfinite().all()
    assert not finds.converged.any()


def test_a_network_whose_planes_lie_outside_the_box_is_curved():
    """Logits that have all but saturated: their gradients predict a boundary far outside the box, yet it is near."""

    def saturated(x):
        level = 40 * (x.flatten(1).mean(1) - 0.7)
        return torch.stack([torch.zeros_like(level), level.tanh()], 1)

    inputs, labels, ids = torch.full((2, 1, 6, 6), 0.5), torch.zeros(2, dtype=torch.int64), torch.arange(2)
    assert tmn(saturated, inputs, labels, ids, norm="linf").curved.all()
    nearest = attacked(saturated, inputs, labels, ids)
    assert (nearest.outcomes == Outcome.FOUND).all()
    torch.testing.assert_close(nearest.epsilon, torch.full((2,), 0.2), rtol=2e-3, atol=0)
    easy = tmn(lambda x: saturated(x).atanh(), inputs, labels, ids, norm="linf")
    assert not easy.curved.any()


class Saturated(nn.Module):
    """The planes behind a softmax so steep that float32 keeps next to nothing of its gradient."""

    def __init__(self, planes: Planes) -> None:
        super().__init__()
        self.weight = nn.Parameter(planes.weight, requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return (3000 * (inputs.flatten(1) - 0.5) @ self.weight.T).softmax(1)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_what_was_found_without_a_gradient_is_not_believed_to_be_near(norm):
    planes = Planes(10)
    inputs, labels, ids = planes.samples(16)
    truth, network = planes.distances(inputs, labels, norm), Saturated(planes)
    alone = make_attack("tmn", norm=norm, fallback=False)(network, inputs, labels, ids)
    assert alone.found.float().mean() >= 0.75
    assert (alone.epsilon.numpy() <= 1.02 * truth)[alone.converged.numpy()].all()
    helped = make_attack("tmn", norm=norm)(network, inputs, labels, ids)
    ratio = helped.epsilon.numpy() / truth
    assert helped.found.all()
    assert (ratio >= 0.999).all()
    assert np.median(ratio) <= 1.02
    assert (helped.epsilon <= alone.epsilon)[alone.found].all()
    assert (helped.evaluations > alone.evaluations)[~alone.converged].all()
    part = make_attack("tmn", norm=norm)(network, inputs[5:9], labels[5:9], ids[5:9])
    torch.testing.assert_close(part.epsilon, helped.epsilon[5:9], rtol=0.01, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_a_search_without_gradients_never_says_that_it_converged(norm):
    planes = Planes(3)
    inputs, labels, ids = planes.samples(16)

    def steps(points: Tensor) -> Tensor:
        return planes((points * 64).round() / 64)

    labels = steps(inputs).argmax(1)
    finds = tmn(steps, inputs, labels, ids, norm=norm)
    assert finds.gradient_masked is not None
    assert finds.gradient_masked.all()
    assert not finds.converged.any()
    finds = tmn(planes, inputs, planes(inputs).argmax(1), ids, norm=norm)
    assert not finds.gradient_masked.any()
    assert finds.converged.float().mean() >= 0.5


def test_wrong_and_undefined_samples_cost_one_forward_pass():
    planes = Planes(3)
    inputs, labels, ids = planes.samples(4)
    wrong = tmn(planes, inputs, (labels + 1) % 3, ids, norm="l2")
    assert torch.equal(wrong.candidates, inputs)
    torch.testing.assert_close(wrong.evaluations, torch.full((4,), FORWARD))
    undefined = tmn(lambda x: planes(x) * torch.nan, inputs, labels, ids, norm="l2")
    assert torch.equal(undefined.candidates, inputs)


def test_an_empty_batch():
    planes = Planes(3)
    inputs, labels, ids = planes.samples(2)
    finds = tmn(planes, inputs[:0], labels[:0], ids[:0], norm="linf")
    assert finds.candidates.shape == (0, 1, 6, 6)


def test_inputs_and_modules_stay_as_they_are():
    network = curved()
    inputs, labels, ids = curved_samples(network)
    before = inputs.clone()
    permuted = inputs.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)
    assert not permuted.is_contiguous()
    one = tmn(lambda x: network(x.double()).float(), inputs, labels, ids, norm="l2", **QUICK)
    other = tmn(lambda x: network(x.double()).float(), permuted, labels, ids, norm="l2", **QUICK)
    assert torch.equal(inputs, before)
    torch.testing.assert_close(one.candidates, other.candidates, rtol=0, atol=1e-5)


def verified(name: str) -> tuple[nn.Module, Tensor, Tensor, np.lib.npyio.NpzFile]:
    onnx = pytest.importorskip("onnx")
    onnx2torch = pytest.importorskip("onnx2torch")
    data = np.load(reference(f"data/verified/{name}.npz"))
    graph = onnx.load(reference(f"data/verified/{name}.onnx"))
    module = onnx2torch.convert(onnx.version_converter.convert_version(graph, 17)).eval().requires_grad_(False)
    mean, std = (torch.tensor(np.asarray(data[key], dtype=np.float32)).view(1, -1, 1, 1) for key in ("mean", "std"))
    shape = tuple(int(size) for size in data["input_shape"])
    images = torch.tensor(data["images"], dtype=torch.float32) / 255
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2).contiguous()
    return (lambda x: module(((x - mean) / std).reshape(-1, *shape))), images, torch.tensor(data["labels"]).long(), data


@pytest.mark.data
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["mnistfc_256x2", "oval_cifar_base_kw", "resnet_2b"])
def test_agrees_with_verifiers(name):
    model, images, labels, data = verified(name)
    nearest = attacked(model, images, labels, torch.arange(len(images)))
    epsilon, radius = nearest.epsilon.double().numpy(), np.asarray(data["epsilon"], dtype=np.float64)
    verdict = np.asarray(data["verdict"]).astype(str)
    assert (nearest.outcomes == Outcome.FOUND).all()
    assert (epsilon[verdict == "holds"] >= radius[verdict == "holds"] * (1 - 1e-6)).all()
    assert (epsilon[verdict == "violated"] <= radius[verdict == "violated"] * (1 + 1e-6)).all()


def test_the_registry_binds_each_effort():
    planes = Planes(3)
    samples = planes.samples(4)
    for effort, options in EFFORTS.items():
        attack = make_attack("tmn", norm="l2", effort=effort)
        assert options.items() <= attack.settings.items()
        torch.testing.assert_close(
            attack(planes, *samples).epsilon, attacked(planes, *samples, norm="l2", **options).epsilon
        )
