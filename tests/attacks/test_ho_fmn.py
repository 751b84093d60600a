"""HO-FMN against closed forms, the schedules against torch's, and the search of its settings."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import truth
from thinice.attacks import make_attack
from thinice.attacks.ho_fmn import HO_FMN_LOSSES, HO_FMN_OPTIMIZERS, HO_FMN_SCHEDULERS, tune
from thinice.attacks.ho_fmn.search import _direction, _Mover, _radius, _Rate
from thinice.attacks.ho_fmn.tuning import TUNED_PATIENCE, TUNED_RANGES, TUNED_RATES
from thinice.attacks.result import FORWARD
from thinice.errors import InputError
from thinice.models.clamped_inputs import PROBES
from thinice.norms import NORM_TABLE
from thinice.types import NORMS, Outcome

pytestmark = pytest.mark.sampled

every_norm = pytest.mark.parametrize("norm", NORMS)
LINEAR = truth.linear(classes=4, features=24, count=12)


def run(known: truth.Known, norm: str = "linf", **settings):
    attack = make_attack("ho-fmn", norm=norm, fallback=False, **settings)
    return attack(known.model, known.inputs, known.labels, known.sample_ids)


def ratio(known: truth.Known, norm: str, **settings) -> np.ndarray:
    nearest = run(known, norm, **settings)
    assert nearest.found.all()
    return nearest.epsilon.double().numpy() / known.distances[norm]


# -- known answers -----------------------------------------------------------------------------------------------------


@every_norm
@pytest.mark.parametrize("seed", [0, 1])
def test_it_finds_the_half_space(norm, seed):
    found = ratio(truth.half_space(seed=seed), norm)
    assert found.min() >= 1 - 1e-6
    assert found.max() <= 1.01


@every_norm
@pytest.mark.parametrize("loss", ["margin", "dlr"])
def test_it_finds_a_plane_nearly_always_the_nearest(norm, loss):
    found = ratio(truth.linear(classes=10), norm, loss=loss)
    assert found.min() >= 1 - 1e-6
    assert np.median(found) <= 1.001
    assert found.max() <= 1.4


@pytest.mark.slow
def test_it_finds_the_way_around_the_kinks_of_a_small_network():
    known = truth.tiny_relu()
    for norm in NORMS:
        found = ratio(known, norm)
        assert found.min() >= 1 - 1e-6
        assert found.max() <= 1.05


def combinations() -> list:
    """Return all 36; every pair of a loss and an optimizer has one scheduler that is not slow, each in its turn."""
    pairs = list(product(enumerate(HO_FMN_LOSSES), enumerate(HO_FMN_OPTIMIZERS)))
    turns = {(loss, optimizer): tuple(HO_FMN_SCHEDULERS)[(i + j) % 3] for (i, loss), (j, optimizer) in pairs}
    return [
        pytest.param(*one, marks=pytest.mark.slow if turns[one[:2]] != one[2] else ())
        for one in product(HO_FMN_LOSSES, HO_FMN_OPTIMIZERS, HO_FMN_SCHEDULERS)
    ]


@pytest.mark.parametrize(("loss", "optimizer", "scheduler"), combinations())
def test_every_combination_finds_all_and_is_near_in_linf(loss, optimizer, scheduler):
    found = ratio(LINEAR, "linf", loss=loss, optimizer=optimizer, scheduler=scheduler, momentum=0.5, learning_rate=0.02)
    assert found.min() >= 1 - 1e-6
    assert np.median(found) <= {"margin": 1.02, "dlr": 1.15, "ce": 1.25}[loss]  # that of ce is no margin's gradient


def test_bisection_is_what_lifts_the_floor_of_the_schedule():
    """Without it, a first success that is far away leaves nothing below it but the product of the shrinkage."""
    settings = {"learning_rate": 0.5, "scheduler": "none", "steps": 40}
    assert np.median(ratio(LINEAR, "linf", bisections=0, **settings)) > 2
    assert np.median(ratio(LINEAR, "linf", bisections=8, **settings)) < 1.05


def test_weight_decay_pulls_towards_the_sample():
    """So strongly that without a step of the gradient nothing remains: the fixed point is -rate / (rate x decay)."""
    start, mover = (
        torch.zeros(1, 3),
        _Mover("sgd", torch.zeros(1, 3), momentum=0.0, dampening=0.0, weight_decay=0.5, betas=(0.9, 0.999)),
    )
    for _ in range(200):
        start = start + 0.1 * mover.step_from(start, torch.tensor([[1.0, -1.0, 0.0]]))
    torch.testing.assert_close(start, torch.tensor([[-2.0, 2.0, 0.0]]), atol=1e-3, rtol=0)


# -- its parts ---------------------------------------------------------------------------------------------------------


TORCH = {
    "sgd": lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.7, dampening=0.1, weight_decay=0.3),
    "nesterov": lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.7, nesterov=True, weight_decay=0.3),
    "adam": lambda p: torch.optim.Adam(p, lr=1.0, betas=(0.6, 0.95), weight_decay=0.3),
    "adamax": lambda p: torch.optim.Adamax(p, lr=1.0, betas=(0.6, 0.95), weight_decay=0.3),
}


@pytest.mark.parametrize("name", TORCH)
def test_optimisers_step_as_torch_does(name):
    generator = torch.Generator().manual_seed(4)
    delta, parameter = torch.zeros(3, 5), nn.Parameter(torch.zeros(3, 5))
    theirs = TORCH[name]([parameter])
    mine = _Mover(name, delta, momentum=0.7, dampening=0.1, weight_decay=0.3, betas=(0.6, 0.95))
    for _ in range(6):
        gradient = torch.randn(3, 5, generator=generator)
        parameter.grad = gradient.clone()
        theirs.step()
        delta = delta + mine.step_from(delta, gradient)
        torch.testing.assert_close(delta, parameter.detach(), rtol=1e-5, atol=1e-5)


def test_without_momentum_dampening_means_nothing():
    mine = _Mover("sgd", torch.zeros(1, 1), momentum=0.0, dampening=0.2, weight_decay=0.0, betas=(0.9, 0.9))
    assert [mine.step_from(torch.zeros(1, 1), torch.ones(1, 1)).item() for _ in range(3)] == [-1.0] * 3


def test_the_cosine_falls_to_nothing_and_the_constant_does_not():
    like, quiet = torch.zeros(1), torch.tensor([False])
    cosine, constant = (_Rate(name, 0.4, 100, 0.5, 2, like=like) for name in ("cosine", "none"))
    rates = [cosine.now(step, like, quiet).item() for step in (0, 50, 100)]
    assert rates == pytest.approx([0.4, 0.2, 0.0], abs=1e-7)
    assert [constant.now(step, like, quiet).item() for step in (0, 99)] == pytest.approx([0.4, 0.4])


def test_the_plateau_is_that_of_torch_for_each_sample():
    """torch knows one rate and one number to watch: run it once for each sample."""
    values = torch.rand(40, 3, generator=torch.Generator().manual_seed(5)).cumsum(0).div(torch.arange(1, 41)[:, None])
    rate = _Rate("plateau", 1.0, 40, 0.3, 2, like=torch.zeros(3))
    quiet = torch.zeros(3, dtype=torch.bool)
    mine = torch.stack([rate.now(step, row, quiet).clone() for step, row in enumerate(values)])
    for sample in range(3):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=2, threshold=1e-4, eps=0)
        theirs = []
        for value in values[:, sample].tolist():
            scheduler.step(value)
            theirs.append(optimizer.param_groups[0]["lr"])
        assert mine[:, sample].tolist() == pytest.approx(theirs, rel=1e-5)
    assert mine[-1].max() < 1


def test_the_plateau_forgets_when_another_quantity_is_watched():
    rate = _Rate("plateau", 1.0, 40, 0.5, 1, like=torch.zeros(1))
    for value, fresh in ((-5.0, False), (3.0, True), (2.9, False), (2.8, False)):
        now = rate.now(0, torch.tensor([value]), torch.tensor([fresh]))
    assert now.item() == 1.0
    for _ in range(2):
        now = rate.now(0, torch.tensor([2.8]), torch.tensor([False]))
    assert now.item() == 0.5


def test_radii_shrink_at_a_success_and_grow_at_a_failure():
    radius, best = torch.tensor([4.0, 4.0, 4.0]), torch.tensor([3.0, 4.0, 2.0])
    crossed = torch.tensor([True, True, False])
    torch.testing.assert_close(_radius(radius, best, crossed, 0.05, "l2"), torch.tensor([2.85, 3.8, 4.2]))
    assert _radius(radius, best, crossed, 0.05, "l0").tolist() == [2, 3, 5]
    assert _radius(torch.tensor([1.0]), torch.tensor([1.0]), torch.tensor([True]), 0.05, "l0").tolist() == [1]


def test_directions_are_signs_in_linf_and_unit_vectors_elsewhere_and_random_without_gradient():
    gradient = torch.tensor([[3e-30, -4e-30], [0.0, 0.0], [torch.nan, 1.0]])
    ids = torch.tensor([1, 2, 3])
    for norm in NORMS:
        step = _direction(gradient, NORM_TABLE[norm], ids, 0, 0)
        assert step.isfinite().all()
        assert (step != 0).any(1).all()
        expected = [1.0, -1.0] if norm == "linf" else [0.6, -0.8]
        torch.testing.assert_close(step[0], torch.tensor(expected))
        if norm != "linf":
            torch.testing.assert_close(step.norm(dim=1), torch.ones(3))
    assert not torch.equal(step[1], _direction(gradient, NORM_TABLE["l2"], ids, 1, 0)[1])


def test_passes_are_counted():
    seen = []

    def counted(inputs: Tensor) -> Tensor:
        seen.append(len(inputs) * (1 if torch.is_grad_enabled() and inputs.requires_grad else FORWARD))
        return LINEAR.model(inputs)

    attack = make_attack("ho-fmn", norm="linf", steps=30, fallback=False)
    nearest = attack(counted, LINEAR.inputs, LINEAR.labels, LINEAR.sample_ids)
    assert nearest.evaluations.sum().item() == pytest.approx(sum(seen) - 2 * PROBES, rel=1e-5)  # those ask for clamps


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "hinge"}, "`loss` must be one of margin, dlr, ce, got 'hinge'"),
        ({"optimizer": "lbfgs"}, "`optimizer` must be one of sgd, nesterov, adam, adamax"),
        ({"scheduler": "step"}, "`scheduler` must be one of cosine, plateau, none"),
        ({"optimizer": "nesterov"}, "needs a `momentum` above 0"),
        ({"momentum": 1.0}, "`momentum` must lie in"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        run(LINEAR, **settings)


def test_dlr_needs_three_classes():
    with pytest.raises(InputError, match="at least 3 classes, got 2: take 'margin' or 'ce'"):
        run(truth.half_space(), loss="dlr")


# -- tuning ------------------------------------------------------------------------------------------------------------


def tuned(known: truth.Known = LINEAR, **settings):
    settings = {"norm": "linf", "trials": 6, "steps": 20, **settings}
    return tune(known.model, known.inputs, known.labels, known.sample_ids, **settings)


def test_tuning_never_loses_against_the_defaults_and_says_what_it_tried():
    found = tuned(norm="l1", optimizers=["adam"], trials=12)
    assert found.median == min(trial.median for trial in found.trials) < 0.8 * found.trials[0].median
    again = run(LINEAR, "l1", steps=20, **found.settings)
    assert again.epsilon.median().item() == found.median
    assert found.sample_ids == tuple(LINEAR.sample_ids.tolist())
    assert [trial.found for trial in found.trials] == [12] * 12


def test_each_combination_has_its_trials_within_the_published_ranges():
    found = tuned(
        losses=["margin", "ce"],
        optimizers=list(HO_FMN_OPTIMIZERS),
        schedulers=["cosine", "plateau"],
        trials=4,
        steps=2,
    )
    assert len(found.trials) == 2 * 4 * 2 * 4
    for trial in found.trials:
        settings = dict(trial.settings)
        names = {settings.pop(name) for name in ("loss", "scheduler")} | {settings.pop("optimizer")}
        (optimizer,) = names & set(HO_FMN_OPTIMIZERS)
        plateau = HO_FMN_SCHEDULERS["plateau"] if "plateau" in names else ()
        assert set(settings) == {"learning_rate", *HO_FMN_OPTIMIZERS[optimizer], *plateau}
    drawn = [trial.settings for k, trial in enumerate(found.trials) if k % 4]
    for name, (low, high) in {**TUNED_RANGES, "learning_rate": TUNED_RATES}.items():
        values = [settings[name] for settings in drawn if name in settings]
        assert values
        assert all(low - 1e-3 * low <= value <= high for value in values)
    assert {settings["patience"] for settings in drawn if "patience" in settings} <= set(TUNED_PATIENCE)


def test_the_search_repeats_and_another_seed_searches_elsewhere():
    one, two, other = tuned(), tuned(), tuned(seed=1)
    assert one == two
    assert one.trials[0].settings == other.trials[0].settings
    assert one.trials[1].settings != other.trials[1].settings


def test_misclassified_samples_do_not_count_and_not_found_is_infinitely_far():
    wrong = LINEAR.labels.clone()
    wrong[:6] = (wrong[:6] + 1) % 4
    known = truth.Known(LINEAR.model, LINEAR.inputs, wrong, LINEAR.distances)
    half = truth.Known(LINEAR.model, LINEAR.inputs[6:], wrong[6:], LINEAR.distances)
    assert tuned(known, trials=1).median == pytest.approx(
        tune(half.model, half.inputs, half.labels, LINEAR.sample_ids[6:], norm="linf", trials=1, steps=20).median,
        rel=1e-5,
    )

    def constant(inputs: Tensor) -> Tensor:
        return torch.tensor([[1.0, 0.0]]).expand(len(inputs), 2)

    none = tune(constant, LINEAR.inputs, torch.zeros_like(LINEAR.labels), LINEAR.sample_ids, trials=2, steps=2)
    assert math.isinf(none.median)
    assert none.settings == none.trials[0].settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "l3"}, "`norm` must be one of"),
        ({"trials": 0}, "`trials` must be at least 1"),
        ({"losses": ["hinge"]}, "`losses` must be some of margin, dlr, ce"),
        ({"optimizers": []}, "`optimizers` must be some of"),
    ],
)
def test_a_search_that_cannot_be_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        tuned(**settings)


def test_a_network_that_has_nothing_right_cannot_be_tuned():
    with pytest.raises(InputError, match="no sample that the model has right"):
        tune(LINEAR.model, LINEAR.inputs, (LINEAR.labels + 1) % 4, LINEAR.sample_ids, trials=1, steps=1)


def test_what_is_not_found_is_not_zero():
    def constant(inputs: Tensor) -> Tensor:
        return torch.tensor([[1.0, 0.0]]).expand(len(inputs), 2)

    attack = make_attack("ho-fmn", norm="l2", steps=5, fallback=False)
    nearest = attack(constant, LINEAR.inputs, torch.zeros_like(LINEAR.labels), LINEAR.sample_ids)
    assert (nearest.outcomes == Outcome.NOT_FOUND).all()
    assert nearest.epsilon.isnan().all()
