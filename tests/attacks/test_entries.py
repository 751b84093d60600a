"""The greedy search of l0 over single entries, against answers known on paper."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.attacks.test_tmn import Planes
from thinice.attacks.result import FORWARD
from thinice.attacks.tmn import settings, tmn
from thinice.attacks.tmn.settings import TRIES
from thinice.attacks.tmn.sparse import gradient_error, greedy_add, greedy_remove
from thinice.attacks.tmn.state import SearchState


def in_the_box(model, count: int = 12, pixels: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    inputs = torch.rand(count, 1, pixels, pixels, generator=torch.Generator().manual_seed(5))
    return inputs, model(inputs).argmax(1), torch.arange(count)


def steep_and_strong(inputs: Tensor) -> Tensor:
    """Entries 0 to 7 are steep and do nothing in the end; 8 and 9 are flat, and either crosses alone at the edge."""
    flat = inputs.flatten(1) - 0.5
    fake, strong = (flat[:, :8] - 4 * flat[:, :8] ** 3).sum(1), (0.1 * flat[:, 8:10] + 8 * flat[:, 8:10] ** 3).sum(1)
    return torch.stack([torch.full_like(fake, 0.9), fake + strong], 1)


MIDDLE = torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, dtype=torch.int64), torch.arange(3)


@pytest.mark.parametrize("share", [0.0, 0.5, 2.0])
def test_gradient_error_is_the_share_that_effects_differ_by(share):
    """The margin falls by the sum of p - share p² / room: an entry at its edge gives 1 - share of the prediction."""

    def model(inputs):
        moved = inputs.flatten(1) - 0.5
        return torch.stack([0 * moved.sum(1), (moved - 2 * share * moved**2).sum(1) - 3], 1)

    search = SearchState(model, *MIDDLE, norm="l0", seed=0)
    target, margin = torch.ones(3, dtype=torch.int64), torch.full((3,), 3.0)
    error = gradient_error(search, torch.arange(3), target, margin, torch.ones(3, 16))
    assert torch.allclose(error, torch.full_like(error, share), atol=1e-5)
    assert torch.allclose(search.evaluations, torch.full_like(error, TRIES * FORWARD))


@pytest.mark.parametrize("entry", [torch.nan, 0.0])
def test_without_a_gradient_any_effect_is_an_error(entry):
    search = SearchState(steep_and_strong, *MIDDLE, norm="l0", seed=0)
    target, margin = torch.ones(3, dtype=torch.int64), torch.full((3,), 0.9)
    assert (gradient_error(search, torch.arange(3), target, margin, torch.full((3, 16), entry)) > 1e3).all()
    still = SearchState(
        lambda inputs: inputs.flatten(1)[:, :2] * 0 + torch.tensor([0.9, 0.0]), *MIDDLE, norm="l0", seed=0
    )
    assert (gradient_error(still, torch.arange(3), target, margin, torch.full((3, 16), entry)) < 1e-3).all()


def test_adds_as_few_entries_as_a_plane_needs():
    planes = Planes(2)
    samples = in_the_box(planes)
    truth = torch.tensor(planes.distances(*samples[:2], "l0"), dtype=torch.float32)
    search = SearchState(planes, *samples, norm="l0", seed=0)
    greedy_add(search, torch.arange(12), 100)
    assert torch.equal(search.best, truth)
    assert torch.equal(search.norm.length(search.best_delta), truth)
    points = (search.flat + search.best_delta).view_as(samples[0])
    assert (planes(points).argmax(1) != samples[1]).all()


def test_effects_decide_where_gradients_are_wrong():
    search = SearchState(steep_and_strong, *MIDDLE, norm="l0", seed=0)
    greedy_add(search, torch.arange(3), 60)
    assert torch.equal(search.best, torch.ones(3))
    assert (search.best_delta[:, 8:10] != 0).any(1).all()
    assert (search.evaluations <= 2 + 16 * FORWARD + 1e-3).all()  # the input, each entry, and what was found


def never(inputs: Tensor) -> Tensor:
    total = inputs.flatten(1).sum(1)
    return torch.stack([total * 0 + 1e6, total], 1)


def test_gives_up_after_twice_the_passes_or_when_all_is_changed():
    search = SearchState(never, *MIDDLE, norm="l0", seed=0)
    greedy_add(search, torch.arange(3), 10)
    assert search.best.isinf().all()
    assert ((search.evaluations >= 20) & (search.evaluations <= 21.5)).all()
    search = SearchState(never, *MIDDLE, norm="l0", seed=0)
    greedy_add(search, torch.arange(3), 30)
    assert ((search.evaluations >= 17) & (search.evaluations < 60)).all()  # each of the 16 entries, after some tries


def test_stops_where_it_cannot_be_nearer():
    planes = Planes(2)
    samples = in_the_box(planes)
    truth = torch.tensor(planes.distances(*samples[:2], "l0"), dtype=torch.float32)
    assert truth.amax() == 2
    search = SearchState(planes, *samples, norm="l0", seed=0)
    search.best = torch.full_like(truth, 2.0)
    greedy_add(search, torch.arange(12), 28)
    assert torch.equal(search.best, truth)
    assert (search.evaluations <= 2 + 9 * FORWARD + 1e-3).all()  # no second addition
    assert (search.best_delta[truth > 1] == 0).all()


def test_goes_by_the_gradient_of_where_it_stands_and_past_holes():
    """Entry 0 is the steepest and opens the way for 1, which had no gradient before; 2 to 5 are decoys, 6 a hole."""

    def model(inputs):
        moved = inputs.flatten(1) - 0.5
        hole = torch.where(moved[:, 6].abs() > 0.1, torch.nan, 0.0)
        gain = moved[:, 0] + 3 * moved[:, 0] * moved[:, 1] + 0.9 * moved[:, 2:6].sum(1) + 0.95 * moved[:, 6] + hole
        return torch.stack([torch.full_like(gain, 1.2), gain], 1)

    search = SearchState(model, *MIDDLE, norm="l0", seed=0)
    greedy_add(search, torch.arange(3), 10)  # one try an addition
    assert torch.equal(search.best, torch.full((3,), 2.0))
    assert (search.best_delta[:, :2] != 0).all()
    search = SearchState(model, *MIDDLE, norm="l0", seed=0)
    greedy_add(search, torch.arange(3), 60)
    assert torch.equal(search.best, torch.full((3,), 2.0))


def test_an_entry_at_its_edge_is_no_addition():
    """Two entries are needed together, each alone is a step back, and the others stand at the box's edge."""

    def model(inputs):
        u, v = inputs.flatten(1)[:, 2:].unbind(1)
        ahead = 0.1 * (u + v) - 1.1 * (u**2 + v**2) + 6 * u * v + 0.5 * inputs.flatten(1)[:, :2].sum(1) - 2
        return torch.stack([0 * ahead, ahead], 1)

    inputs = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])
    search = SearchState(model, inputs, torch.tensor([0]), torch.tensor([0]), norm="l0", seed=0)
    greedy_add(search, torch.tensor([0]), 84)
    assert search.best.item() == 2


def test_reaches_the_class_that_is_asked_for():
    planes = Planes(5)
    inputs, labels, ids = in_the_box(planes)
    targets = (labels + 2) % 5
    search = SearchState(planes, inputs, labels, ids, norm="l0", seed=0, targets=targets)
    greedy_add(search, ids, 100)
    points = (search.flat + search.best_delta).view_as(inputs)
    assert (planes(points).argmax(1) == targets).all()


def test_drops_what_can_be_spared_and_nothing_else():
    search = SearchState(steep_and_strong, *MIDDLE, norm="l0", seed=0)
    assert not greedy_remove(search).any()
    assert (search.evaluations == 0).all()
    search.best_delta[0, :9], search.best_delta[1, 8], search.best_delta[2, 8:10] = 0.5, 0.5, 0.5
    search.best[:] = torch.tensor([9.0, 1.0, 2.0])
    spared = greedy_remove(search)
    tried = torch.tensor([sum(range(2, 10)), 0, 2]) * FORWARD  # no entry is tried that is not there
    assert torch.allclose(search.evaluations, tried)
    assert torch.equal(spared, torch.tensor([True, False, True]))
    assert torch.equal(search.best, torch.ones(3))
    assert torch.equal(search.norm.length(search.best_delta), search.best)
    points = (search.flat + search.best_delta).view_as(MIDDLE[0])
    assert (steep_and_strong(points).argmax(1) == 1).all()
    planes = Planes(2)
    search = SearchState(planes, *in_the_box(planes), norm="l0", seed=0)
    greedy_add(search, torch.arange(12), 100)
    known = search.best.clone()
    assert not greedy_remove(search).any()
    assert torch.equal(search.best, known)


@pytest.mark.sampled
@pytest.mark.parametrize(("at_once", "images"), [(1, 64), (1 << 26, 1), (1 << 26, 64)])
def test_a_sample_is_searched_alike_in_any_company_and_in_any_portions(monkeypatch, at_once, images):
    monkeypatch.setattr(settings, "PIXELS_AT_ONCE", at_once)
    monkeypatch.setattr(settings, "IMAGES_AT_ONCE", images)
    generator = torch.Generator().manual_seed(0)
    hidden, out = torch.randn(64, 36, generator=generator).double(), torch.randn(10, 64, generator=generator).double()

    def model(inputs):
        return torch.sin(3 * (inputs.double().flatten(1) - 0.5) @ hidden.T) @ out.T

    inputs = torch.rand(12, 1, 6, 6, generator=generator, dtype=torch.float64)
    labels, ids = model(inputs).argmax(1), torch.arange(12)
    together = tmn(model, inputs, labels, ids, norm="l0", steps=60)
    alone = [tmn(model, inputs[i : i + 1], labels[i : i + 1], ids[i : i + 1], norm="l0", steps=60) for i in range(12)]
    assert torch.equal(torch.cat([one.candidates for one in alone]), together.candidates)
    assert torch.allclose(torch.cat([one.evaluations for one in alone]), together.evaluations)
    assert (together.candidates != inputs).flatten(1).any(1).all()
