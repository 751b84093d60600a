"""The searches of l0 and l1 against answers known on paper, and their own rules."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from torch import Tensor

from tests.attacks.test_tmn import Planes
from thinice.attacks.result import FORWARD, Candidates
from thinice.attacks.tmn import settings, tmn
from thinice.attacks.tmn.settings import EFFORTS
from thinice.attacks.tmn.sparse import random_vertex_search, screen_sparse
from thinice.attacks.tmn.state import SearchState

pytestmark = pytest.mark.sampled

NORMS = ("l0", "l1")
Samples = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(autouse=True)
def near_or_not(monkeypatch):
    """Search vertices for near samples, too; in l1 they are left to another search otherwise."""
    monkeypatch.setattr(settings, "ONE_ENTRY", 0.0)


def in_the_box(planes: Planes, count: int = 12) -> Samples:
    """Return samples anywhere in the box, whose edge stops most entries early."""
    inputs = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(5))
    return inputs, planes(inputs).argmax(1), torch.arange(count)


def vertices(search: SearchState, **passes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Search the vertices for every sample; return what has converged, is masked, and needs another search."""
    screen, nobody = screen_sparse(search, 9), torch.zeros_like(search.labels, dtype=torch.bool)
    converged, needs_other_search = random_vertex_search(search, screen, skip=nobody, never_outside=nobody, **passes)
    return converged, screen.gradient_masked, needs_other_search


def searched(model, samples: Samples, norm: str, *, seed: int = 0, targets: Tensor | None = None, **passes):
    search = SearchState(model, *samples, norm=norm, seed=seed, targets=targets)
    vertices(search, **passes)
    return search


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("norm", NORMS)
def test_finds_the_nearest_plane_in_the_box(norm, classes):
    planes = Planes(classes)
    samples = in_the_box(planes)
    search = searched(planes, samples, norm, starts=3, steps=28)
    truth = torch.tensor(planes.distances(*samples[:2], norm))
    assert (search.best >= 0.9999 * truth).all()
    assert (search.best <= (truth + 0.5 if norm == "l0" else 1.005 * truth)).all()
    points = (search.flat + search.best_delta).view_as(samples[0])
    assert ((points >= 0) & (points <= 1)).all()
    assert (planes(points).argmax(1) != samples[1]).all()
    assert torch.allclose(search.norm.length(search.best_delta), search.best)


@pytest.mark.parametrize("norm", NORMS)
def test_reaches_the_class_that_is_asked_for(norm):
    planes = Planes(5)
    inputs, labels, ids = in_the_box(planes)
    targets = (labels + 2) % 5
    search = searched(planes, (inputs, labels, ids), norm, targets=targets, starts=2, steps=40)
    points = (search.flat + search.best_delta).view_as(inputs)
    assert (planes(points).argmax(1) == targets).all()
    for sample in range(len(inputs)):  # behind the plane towards it, at least; others may lie in front
        part = slice(sample, sample + 1)
        truth = planes.distances(inputs[part], labels[part], norm, target=int(targets[sample]))
        assert search.best[sample] >= 0.9999 * truth[0]


@pytest.mark.parametrize("norm", NORMS)
def test_a_sample_is_searched_alike_in_any_company(norm):
    planes = Planes(10)
    inputs, labels, ids = in_the_box(planes)
    together = searched(planes, (inputs, labels, ids), norm, starts=3, steps=15)
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(1))
    shuffled = searched(planes, (inputs[order], labels[order], ids[order]), norm, starts=3, steps=15)
    alone = [
        searched(planes, (inputs[i : i + 1], labels[i : i + 1], ids[i : i + 1]), norm, starts=3, steps=15)
        for i in range(3)
    ]
    assert torch.allclose(shuffled.best_delta, together.best_delta[order], atol=1e-5)
    assert torch.allclose(torch.cat([one.best_delta for one in alone]), together.best_delta[:3], atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_passes_are_the_screen_and_the_steps(norm, monkeypatch):
    monkeypatch.setattr(settings, "OUTSIDE", torch.inf)
    planes = Planes(10)
    search = searched(planes, in_the_box(planes), norm, starts=2, steps=7)
    steps = 2 * 7  # in l1 the refinement is among them
    screen = FORWARD + 9 * (1 - FORWARD)
    assert torch.allclose(search.evaluations, torch.full_like(search.best, screen + steps))


def test_other_seeds_and_other_ids_draw_others():
    generator = torch.Generator().manual_seed(0)
    hidden, out = torch.randn(64, 36, generator=generator), torch.randn(10, 64, generator=generator)

    def model(inputs):
        return torch.relu((inputs.flatten(1) - 0.5) @ hidden.T) @ out.T

    inputs = torch.rand(12, 1, 6, 6, generator=generator)
    labels, ids = model(inputs).argmax(1), torch.arange(12)
    first = searched(model, (inputs, labels, ids), "l1", starts=1, steps=5)
    assert torch.equal(first.best, searched(model, (inputs, labels, ids), "l1", starts=1, steps=5).best)
    assert not torch.equal(first.best, searched(model, (inputs, labels, ids), "l1", seed=1, starts=1, steps=5).best)
    assert not torch.equal(first.best, searched(model, (inputs, labels, ids + 40), "l1", starts=1, steps=5).best)


@pytest.mark.parametrize("norm", NORMS)
def test_converges_on_a_plane_and_has_no_gradient_where_all_is_flat(norm):
    planes = Planes(2)
    inputs, labels, ids = in_the_box(planes)
    search = SearchState(planes, inputs, labels, ids, norm=norm, seed=0)
    converged, gradient_masked, needs_other_search = vertices(search, starts=3, steps=40)
    assert converged.all()
    assert not gradient_masked.any()
    assert not needs_other_search.any()

    def flat(inputs):
        return inputs.flatten(1)[:, :2] * 0 + torch.tensor([1.0, 0.0])

    search = SearchState(flat, inputs, torch.zeros_like(labels), ids, norm=norm, seed=0)
    converged, gradient_masked, _ = vertices(search, starts=2, steps=5)
    assert gradient_masked.all()
    assert not converged.any()
    assert search.best.isinf().all()
    assert torch.allclose(search.evaluations, torch.full_like(search.best, 1 + 2 * 5))


@pytest.mark.parametrize("norm", NORMS)
def test_a_sample_of_which_nothing_is_found_gets_a_start_towards_each_class(norm):
    planes, first = Planes(10), torch.zeros(12, dtype=torch.int64)
    inputs, _, ids = in_the_box(planes)
    for ahead, starts in ((100.0, 9), (0.0, 1)):  # out of reach within the box; and not
        samples = inputs, first if ahead else planes(inputs).argmax(1), ids
        own = torch.tensor([ahead] + 9 * [0.0])
        search = searched(lambda points, own=own: planes(points) + own, samples, norm, starts=1, steps=6)
        assert search.best.isinf().all() == (starts == 9)
        assert torch.allclose(search.evaluations, torch.full((12,), FORWARD + 9 * (1 - FORWARD) + 6 * starts))


def never_adversarial(inputs: Tensor) -> Tensor:
    total = inputs.flatten(1).sum(1)
    return torch.stack([0 * total + 1e3, total], 1)


def test_in_l0_entries_are_added_greedily_where_gradients_are_wrong_and_vertices_follow_where_that_fails(monkeypatch):
    planes = Planes(2)
    samples = in_the_box(planes)
    truth = torch.tensor(planes.distances(*samples[:2], "l0"), dtype=torch.float32)
    most = 2 * FORWARD + 1 + settings.TRIES * FORWARD  # clean, screen, how wrong gradients are
    spare = truth * (truth - 1) / 2 * FORWARD
    passes, starts = {}, 2.0 * settings.LONG
    for limit in (-1.0, torch.inf):  # all are wrong, and none
        monkeypatch.setattr(settings, "GRADIENT_ERROR", limit)
        found = tmn(planes, *samples, norm="l0", steps=120)
        length = (found.candidates - samples[0]).flatten(1).count_nonzero(1)
        assert torch.equal(length.float(), truth)
        passes[limit] = found.evaluations - most - spare.clamp(max=12)
    assert (passes[-1.0] <= starts).all()  # what the vertices may spend, at most
    assert (passes[-1.0] < passes[torch.inf]).all()
    assert ((passes[torch.inf] - starts).abs() < 2).all()
    monkeypatch.setattr(settings, "GRADIENT_ERROR", -1.0)
    inputs, nobody = samples[0], torch.zeros_like(samples[1])
    found = tmn(never_adversarial, inputs, nobody, samples[2], norm="l0", steps=120)
    assert torch.equal(found.candidates, inputs)
    assert (found.evaluations >= starts).all()  # all 36 entries are added before twice the passes are spent
    assert (found.evaluations <= 3 * starts + most + 3).all()


@pytest.mark.parametrize("spared", [True, False])
def test_in_l0_greedy_search_follows_a_start_that_ends_too_far_and_spare_entries_are_no_convergence(
    monkeypatch, spared
):
    module, planes = import_module("thinice.attacks.tmn"), Planes(2)
    inputs, labels, ids = in_the_box(planes)
    asked = []
    monkeypatch.setattr(module, "greedy_add", lambda _search, sample, passes: asked.append((sample.tolist(), passes)))
    monkeypatch.setattr(module, "greedy_remove", lambda search: (search.best > 0) & spared)
    assert tmn(planes, inputs, labels, ids, norm="l0").converged.all() != spared
    assert all(not samples for samples, _ in asked)
    monkeypatch.setattr(settings, "OUTSIDE", 0.0)
    tmn(planes, inputs, labels, ids, norm="l0", steps=200)
    assert asked[-1] == (list(range(12)), 2 * settings.LONG)


def test_in_l1_a_start_that_ends_too_far_is_the_last(monkeypatch):
    planes = Planes(2)
    samples = in_the_box(planes)
    for allowed, starts in ((0.99, 1), (torch.inf, 3)):  # the screen is the truth here, and nothing is nearer
        monkeypatch.setattr(settings, "OUTSIDE", allowed)
        search = searched(planes, samples, "l1", starts=3, steps=12)
        assert torch.allclose(search.evaluations, torch.full_like(search.best, 1 + 12 * starts))


def test_samples_nearer_than_one_entry_are_left_alone_in_l1(monkeypatch):
    monkeypatch.undo()
    planes = Planes(2)
    inputs, labels, ids = in_the_box(planes)
    truth = torch.tensor(planes.distances(inputs, labels, "l1"))
    search = SearchState(planes, inputs, labels, ids, norm="l1", seed=0)
    left = vertices(search, starts=2, steps=9)[2]
    assert torch.equal(left, truth < 1)  # the linear picture is the truth here
    assert 0 < left.sum() < len(ids)
    assert search.best[left].isinf().all()
    assert search.best[~left].isfinite().all()
    assert torch.allclose(search.evaluations, 1 + 18 * (~left).to(search.best))
    assert not vertices(SearchState(planes, inputs, labels, ids, norm="l0", seed=0), starts=2, steps=9)[2].any()


def test_fmn_counts_where_it_is_shorter_and_says_where_it_found_nothing(monkeypatch):
    module, planes = import_module("thinice.attacks.tmn.stages"), Planes(2)
    search = SearchState(planes, *in_the_box(planes), norm="l1", seed=0)
    sample = torch.tensor([0, 1, 2, 3, 4])
    search.best[sample] = torch.tensor([1.0, 1.0, 1.0, 1.0, torch.inf])
    lengths = torch.tensor([1.001, 1.5, 0.5, 0.0, 0.7])  # as short, farther, nearer, nothing found, found at last

    def fmn(_model, inputs, *_, **__):
        delta = torch.zeros_like(inputs).flatten(1)
        delta[:, 0] = lengths
        return Candidates((inputs.flatten(1) + delta).view_as(inputs), torch.ones(len(inputs)))

    monkeypatch.setattr(module, "fmn", fmn)
    search.flat[:] = 0.0
    ends = module.run_fmn(search, sample, 9)
    torch.testing.assert_close(ends, torch.tensor([1.001, 1.5, 0.5, torch.inf, 0.7]))
    torch.testing.assert_close(search.best[sample], torch.tensor([1.0, 1.0, 0.5, 1.0, 0.7]))  # nothing shorter is lost
    assert (search.evaluations[sample] == 1).all()


def test_a_subset_starts_anew_and_gives_back_what_is_shorter():
    planes = Planes(2)
    search = SearchState(planes, *in_the_box(planes), norm="l1", seed=0)
    search.best[:2], search.best_delta[:2] = torch.tensor([1.0, 2.0]), 0.5
    part = search.subset(torch.tensor([0, 1]))
    assert part.best.isinf().all()
    part.best, part.evaluations = torch.tensor([1.5, 1.5]), torch.tensor([7.0, 8.0])
    search.merge(torch.tensor([0, 1]), part)
    assert search.best[:2].tolist() == [1.0, 1.5]
    assert (search.best_delta[0] == 0.5).all()
    assert (search.best_delta[1] == 0).all()
    assert search.evaluations[:3].tolist() == [7.0, 8.0, 0.0]


def test_in_l1_a_dense_search_that_ends_farther_than_a_vertex_has_not_converged(monkeypatch):
    monkeypatch.setattr(settings, "OUTSIDE", 0.0)
    module, planes = import_module("thinice.attacks.tmn"), Planes(2)

    def farther(part, *_):
        part.best = 1.1 * torch.tensor(planes.distances(inputs, labels, "l1"), dtype=torch.float32)
        return part.best > 0

    inputs, labels, ids = in_the_box(planes)
    monkeypatch.setattr(module, "_search_curved", farther)
    assert not tmn(planes, inputs, labels, ids, norm="l1").converged.any()


@pytest.mark.parametrize(("span", "allowed"), [(0.3, 1.5), (0.2, 1.1)])
@pytest.mark.slow
def test_in_l1_near_samples_are_searched_alike_beside_far_ones(monkeypatch, span, allowed):
    monkeypatch.setattr(settings, "ONE_ENTRY", span)
    monkeypatch.setattr(settings, "OUTSIDE", allowed)
    generator = torch.Generator().manual_seed(0)
    hidden, out = torch.randn(64, 36, generator=generator), torch.randn(10, 64, generator=generator)

    def model(inputs):  # image by image: a product of matrices rounds by the size of the batch
        hiddens = [torch.relu(((image.flatten() - 0.5) * hidden).sum(1)) for image in inputs]
        return torch.stack([(values * out).sum(1) for values in hiddens])

    inputs = torch.rand(24, 1, 6, 6, generator=generator)
    labels, ids = model(inputs).argmax(1), torch.arange(24)
    together = tmn(model, inputs, labels, ids, norm="l1", **EFFORTS["quick"])
    cost = together.evaluations.round()
    ends = cost.argsort()[[*range(2), *range(-2, 0)]]
    assert cost[ends[0]] < cost[ends[-1]]  # some went the one way, some the other: these are searched alone
    others = torch.tensor([i for i in ids.tolist() if i not in ends])
    for part in (*ends.split(1), *others.split(11)):
        apart = tmn(model, inputs[part], labels[part], ids[part], norm="l1", **EFFORTS["quick"])
        assert torch.equal(apart.candidates, together.candidates[part])
        assert torch.equal(apart.evaluations, together.evaluations[part])
