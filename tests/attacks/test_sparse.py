"""Drawn corners against answers known on paper, and the search's own promises."""

from __future__ import annotations

import copy
from importlib import import_module

import pytest
import torch
from torch import Tensor

from tests.attacks.test_tmn import Planes
from thinice.attacks.result import FORWARD, Candidates
from thinice.attacks.tmn import sparse, tmn
from thinice.attacks.tmn.sparse import SOUNDED, draw_corners
from thinice.attacks.tmn.state import Search

NORMS = ("l0", "l1")
SOUNDING = {"l0": SOUNDED * FORWARD, "l1": 0.0}
Samples = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(autouse=True)
def near_or_not(monkeypatch):
    """Draw corners for near samples, too; in l1 they are left to another search otherwise."""
    monkeypatch.setattr(sparse, "SPAN", 0.0)


def in_the_box(planes: Planes, count: int = 12) -> Samples:
    """Return samples anywhere in the box, whose edge stops most entries early."""
    inputs = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(5))
    return inputs, planes(inputs).argmax(1), torch.arange(count)


def searched(model, samples: Samples, norm: str, *, seed: int = 0, targets: Tensor | None = None, **budget) -> Search:
    search = Search(model, *samples, norm=norm, seed=seed, targets=targets)
    draw_corners(search, **budget)
    return search


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("norm", NORMS)
def test_finds_the_nearest_plane_in_the_box(norm, classes):
    planes = Planes(classes)
    samples = in_the_box(planes)
    search = searched(planes, samples, norm)
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
    monkeypatch.setattr(sparse, "ASTRAY", {norm: torch.inf})
    planes = Planes(10)
    search = searched(planes, in_the_box(planes), norm, starts=2, steps=7)
    steps = 2 * 7  # in l1 the polish is among them
    screen = FORWARD + 9 * (1 - FORWARD) + SOUNDING[norm]
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
def test_settles_on_a_plane_and_starves_where_all_is_flat(norm):
    planes = Planes(2)
    inputs, labels, ids = in_the_box(planes)
    settled, gradient_masked, astray = draw_corners(Search(planes, inputs, labels, ids, norm=norm, seed=0), steps=40)
    assert settled.all()
    assert not gradient_masked.any()
    assert not astray.any()

    def flat(inputs):
        return inputs.flatten(1)[:, :2] * 0 + torch.tensor([1.0, 0.0])

    search = Search(flat, inputs, torch.zeros_like(labels), ids, norm=norm, seed=0)
    settled, gradient_masked, astray = draw_corners(search, starts=2, steps=5)
    assert gradient_masked.all()
    assert not settled.any()
    assert search.best.isinf().all()
    assert torch.allclose(search.evaluations, torch.full_like(search.best, 1 + 2 * 5))


@pytest.mark.parametrize("norm", NORMS)
def test_a_lost_sample_gets_a_start_towards_each_class(norm):
    planes, labels = Planes(10, pixels=144), torch.arange(10)
    away = planes.weight.sign().view(-1, 1, 12, 12) * torch.tensor([0.45] * 5 + [0.02] * 5).view(-1, 1, 1, 1)
    search = searched(planes, (0.5 + away, labels, labels), norm, starts=1, steps=3)
    extra = search.evaluations - (FORWARD + 9 * (1 - FORWARD) + SOUNDING[norm] + 3)
    assert search.best.isfinite().all()
    assert (extra[:5] > 2.9).all()  # too far for the lengths that three steps from few entries reach
    assert (extra[5:].abs() < 1e-4).all()


def test_where_corners_lead_astray_it_says_so_and_stops():
    planes = Planes(2, pixels=144)

    def waves(inputs):  # near the sample as linear as ever, farther out the own class wins again
        ahead = planes(inputs)[:, 1:] - planes(inputs)[:, :1]
        return torch.cat(
            [0 * ahead, torch.where(ahead < 0.3, ahead, torch.where(ahead > 30, ahead - 30, 0.3 - ahead))], 1
        )

    inputs = torch.full((4, 1, 12, 12), 0.5)
    inputs = inputs - 0.02 * (planes.weight[1] - planes.weight[0]).sign().view(1, 1, 12, 12)
    labels, ids = torch.zeros(4, dtype=torch.int64), torch.arange(4)
    search = Search(waves, inputs, labels, ids, norm="l0", seed=0)
    astray = draw_corners(search, starts=3, steps=8)[2]
    assert astray.any()
    assert not astray.all()
    passes = 1 + SOUNDING["l0"] + 8 * torch.where(astray, 1.0, 3.0)
    assert torch.allclose(search.evaluations, passes)


def test_in_l0_entries_are_tried_where_promises_are_broken_and_corners_follow_where_that_fails(monkeypatch):
    planes = Planes(2)
    samples = in_the_box(planes)
    monkeypatch.setattr(sparse, "broken_promises", lambda _search, who, *_: torch.where(who < 6, torch.inf, 0.0))
    search = searched(planes, samples, "l0", starts=2, steps=9)
    truth = torch.tensor(planes.distances(*samples[:2], "l0"), dtype=torch.float32)
    assert torch.equal(search.best, truth)
    tries = 4  # of 18 passes
    assert torch.allclose(search.evaluations[:6], 1 + (truth[:6] + 1) + truth[:6] * tries * FORWARD)
    assert torch.allclose(search.evaluations[6:], torch.full((6,), 1.0 + 18))
    asked = []
    monkeypatch.setattr(sparse, "add_entries", lambda _search, who, passes: asked.append((who.tolist(), passes)))
    monkeypatch.setattr(sparse, "ASTRAY", {"l0": 0.0})
    search = Search(planes, *samples, norm="l0", seed=0)
    astray = draw_corners(search, starts=2, steps=9)[2]
    assert asked == [([0, 1, 2, 3, 4, 5], 18)]
    assert torch.equal(astray, torch.arange(12) >= 6)  # the others have been tried, and not again
    assert torch.allclose(search.evaluations, 1 + torch.where(astray, 9.0, 18.0))


@pytest.mark.parametrize("spared", [True, False])
def test_in_l0_what_leads_astray_is_tried_and_what_was_spared_has_not_settled(monkeypatch, spared):
    module, planes = import_module("thinice.attacks.tmn"), Planes(2)
    inputs, labels, ids = in_the_box(planes)
    asked = []
    monkeypatch.setattr(module, "add_entries", lambda _search, who, passes: asked.append((who.tolist(), passes)))
    monkeypatch.setattr(module, "drop_entries", lambda search, _rounds: (search.best > 0) & spared)
    assert tmn(planes, inputs, labels, ids, norm="l0").converged.all() != spared
    assert not asked
    monkeypatch.setattr(sparse, "ASTRAY", {"l0": 0.0})
    tmn(planes, inputs, labels, ids, norm="l0", sparse_restarts=3, sparse_steps=20)
    assert asked == [(list(range(12)), 40)]


def test_in_l1_a_start_that_ends_too_far_is_the_last(monkeypatch):
    planes = Planes(2)
    samples = in_the_box(planes)
    for allowed, starts in ((0.99, 1), (1.5, 3)):  # the screen is the truth here, and nothing is nearer
        monkeypatch.setattr(sparse, "ASTRAY", {"l1": allowed})
        search = searched(planes, samples, "l1", starts=3, steps=12)
        assert torch.allclose(search.evaluations, torch.full_like(search.best, 1 + 12 * starts))


def test_samples_nearer_than_one_entry_are_left_alone_in_l1(monkeypatch):
    monkeypatch.undo()
    planes = Planes(2)
    inputs, labels, ids = in_the_box(planes)
    truth = torch.tensor(planes.distances(inputs, labels, "l1"))
    search = Search(planes, inputs, labels, ids, norm="l1", seed=0)
    astray = draw_corners(search, starts=2, steps=9)[2]
    assert torch.equal(astray, truth < 1)  # the linear picture is the truth here
    assert 0 < astray.sum() < len(ids)
    assert search.best[astray].isinf().all()
    assert search.best[~astray].isfinite().all()
    assert torch.allclose(search.evaluations, 1 + 18 * (~astray).to(search.best))
    assert not draw_corners(Search(planes, inputs, labels, ids, norm="l0", seed=0), starts=2, steps=9)[2].any()


@pytest.mark.parametrize(("norm", "corners", "others"), [("l1", 3, None), ("l1", 11, 121), ("l0", 11, None)])
def test_in_l1_a_third_of_many_starts_goes_the_way_of_fmn(monkeypatch, norm, corners, others):
    monkeypatch.setattr(sparse, "ASTRAY", {norm: torch.inf})
    module, planes, asked = import_module("thinice.attacks.tmn"), Planes(2), []

    def another_way(_search, who, settled, *, steps):
        asked.append((who.tolist(), steps))
        return settled & (who > 5)

    monkeypatch.setattr(module, "another_way", another_way)
    samples = in_the_box(planes)
    find = tmn(planes, *samples, norm=norm, sparse_restarts=corners, sparse_steps=33)
    assert asked == ([] if others is None else [(list(range(12)), others)])
    assert find.converged.tolist() == [others is None] * 6 + [True] * 6
    if norm == "l1":
        starts = corners if others is None else 7
        assert torch.allclose(find.evaluations, torch.full((12,), FORWARD + 1 + 33.0 * starts))


def test_another_way_settles_what_it_agrees_on_and_unsettles_what_it_finds_nearer(monkeypatch):
    module, planes = import_module("thinice.attacks.tmn.stages"), Planes(2)
    search = Search(planes, *in_the_box(planes), norm="l1", seed=0)
    who = torch.tensor([0, 1, 2, 3, 4])
    search.best[who] = torch.tensor([1.0, 1.0, 1.0, 1.0, torch.inf])
    lengths = torch.tensor([1.001, 1.5, 0.5, 0.0, 0.7])  # agrees, farther, nearer, nothing found, found at last

    def fmn(_model, inputs, *_, **__):
        delta = torch.zeros_like(inputs).flatten(1)
        delta[:, 0] = lengths
        return Candidates((inputs.flatten(1) + delta).view_as(inputs), torch.ones(len(inputs)))

    monkeypatch.setattr(module, "fmn", fmn)
    search.flat[:] = 0.0
    settled = [
        module.another_way(copy.deepcopy(search), who, torch.full((5,), before), steps=9) for before in (True, False)
    ]
    assert settled[0].tolist() == [True, True, False, True, False]
    assert settled[1].tolist() == [True, False, False, False, False]


def test_a_part_gives_what_is_nearer_and_settles_what_it_agrees_on():
    planes = Planes(2)
    search = Search(planes, *in_the_box(planes), norm="l1", seed=0)
    search.best[:2], search.best_delta[:2] = torch.tensor([1.0, 2.0]), 0.5
    part = search.part(torch.tensor([0, 1]))
    assert part.best.isinf().all()
    part.best, part.evaluations = torch.tensor([1.5, 1.5]), torch.tensor([7.0, 8.0])
    search.take(torch.tensor([0, 1]), part)
    assert search.best[:2].tolist() == [1.0, 1.5]
    assert (search.best_delta[0] == 0.5).all()
    assert (search.best_delta[1] == 0).all()
    assert search.evaluations[:3].tolist() == [7.0, 8.0, 0.0]


def test_in_l1_a_search_that_ends_farther_than_a_corner_has_not_settled(monkeypatch):
    monkeypatch.setattr(sparse, "ASTRAY", {"l1": 0.0})
    module, planes = import_module("thinice.attacks.tmn"), Planes(2)

    def farther(part, _budget):
        part.best = 1.1 * torch.tensor(planes.distances(inputs, labels, "l1"), dtype=torch.float32)
        return torch.ones_like(part.labels) > 0, part.best > 0, part.best < 0

    inputs, labels, ids = in_the_box(planes)
    monkeypatch.setattr(module, "_search", farther)
    assert not tmn(planes, inputs, labels, ids, norm="l1").converged.any()


@pytest.mark.parametrize(("span", "allowed"), [(0.3, 1.5), (0.0, 1.1), (0.2, 1.1)])
def test_in_l1_near_samples_are_searched_alike_beside_far_ones(monkeypatch, span, allowed):
    monkeypatch.setattr(sparse, "SPAN", span)
    monkeypatch.setattr(sparse, "ASTRAY", {"l1": allowed})
    generator = torch.Generator().manual_seed(0)
    hidden, out = torch.randn(64, 36, generator=generator), torch.randn(10, 64, generator=generator)

    def model(inputs):
        return torch.relu((inputs.double().flatten(1) - 0.5) @ hidden.T.double()) @ out.T.double()

    inputs = torch.rand(40, 1, 6, 6, generator=generator, dtype=torch.float64)
    labels, ids = model(inputs).argmax(1), torch.arange(40)
    together = tmn(model, inputs, labels, ids, norm="l1")
    cost = together.evaluations.round()
    ends = cost.argsort()[[*range(4), *range(-4, 0)]]
    assert cost[ends[0]] < cost[ends[-1]]  # some went the one way, some the other: these are searched alone
    others = torch.tensor([i for i in ids.tolist() if i not in ends])
    for part in (*ends.split(1), *others.split(11)):
        apart = tmn(model, inputs[part], labels[part], ids[part], norm="l1")
        assert torch.allclose(apart.candidates, together.candidates[part], atol=1e-6)
