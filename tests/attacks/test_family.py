"""What every attack of the registry must do, whatever it is: answers from paper, and changes that change no answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.truth import Known, linear
from thinice.attacks import ATTACKS, MinNormResult, attack_kind, make_attack
from thinice.attacks.fixed_budget import make_ensemble
from thinice.attacks.rows import FixedBudgetRow, MinNormRow, keyword_defaults
from thinice.attacks.tmn import TmnSettings
from thinice.norms import NORM_TABLE
from thinice.types import EFFORTS, NORMS, Outcome

pytestmark = pytest.mark.sampled

CLASSES, SHAPE, COUNT = 4, (1, 5, 5), 8
FOOLBOX = {"l0": "L0FMNAttack", "l1": "L1FMNAttack", "l2": "DDNAttack", "linf": "LInfFMNAttack"}
OWN = ("tmn", "fmn", "ho-fmn")
SETTINGS = {
    "cw": {"steps": 200, "binary_search_steps": 5, "stepsize": 0.01, "initial_const": 1.0},
    "bb": {"steps": 30},
    "ho-fmn": {"steps": 60},
}
LOOSEST = {"l0": 3.0, "l1": 1.5, "l2": 1.2, "linf": 1.1}
"""So many times the true distance is the most that the median sample of an attack with few steps may exceed."""
SLOW = {"bb", "square", "autoattack"}
"""Compiled by numba for minutes; thousands of random squares."""


def marks(name: str) -> tuple:
    return (pytest.mark.slow,) if name in SLOW else ()


def minimum_norm() -> list:
    """Return every minimum-norm attack with every norm that it has, and one of foolbox's for each norm."""
    norms = dict.fromkeys(OWN, NORMS) | {"cw": ("l2",), "bb": ("l0",)}
    assert set(norms) == set(ATTACKS.names("minimum norm")), "a new attack: say here which norms it has"
    pairs = [(name, norm) for name, own in norms.items() for norm in own]
    pairs += [(f"foolbox:{name}", norm) for norm, name in FOOLBOX.items()]
    return [pytest.param(*pair, marks=marks(pair[0]), id="-".join(pair)) for pair in pairs]


def fixed_budget() -> list:
    """Return every attack at a budget with every norm that it has."""
    return [
        pytest.param(name, norm, marks=marks(name), id=f"{name}-{norm}")
        for name in ATTACKS.names("fixed budget")
        for norm in ("l1", "l2", "linf")
    ]


every_minimum_norm = pytest.mark.parametrize(("name", "norm"), minimum_norm())
every_fixed_budget = pytest.mark.parametrize(("name", "norm"), fixed_budget())


@cache
def known() -> Known:
    return linear(classes=CLASSES, features=25, count=COUNT, shape=SHAPE)


@dataclass(frozen=True)
class Relabelled:
    """The same classes in another order, and a constant on top of all logits: the boundary stays where it is."""

    model: nn.Module
    order: tuple[int, ...] = (2, 0, 3, 1)
    constant: float = 4.0

    def __call__(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)[:, list(self.order)] + self.constant

    def labels(self, labels: Tensor) -> Tensor:
        return torch.tensor([self.order.index(label) for label in labels.tolist()])


def run(name: str, norm: str, model=None, labels: Tensor | None = None, *, part: slice = slice(None), seed: int = 0):
    """Return what a minimum-norm attack finds of some samples, without the fall-back."""
    if name == "bb":
        pytest.importorskip("numba")
    model, labels = (known().model, known().labels) if model is None else (model, labels)
    effort = "quick" if name in ("tmn", "fmn") else "standard"
    attack = make_attack(name, norm=norm, effort=effort, seed=seed, fallback=False, **SETTINGS.get(name, {}))
    with torch.random.fork_rng():
        return attack(model, known().inputs[part], labels[part], known().sample_ids[part])


@cache
def base(name: str, norm: str) -> MinNormResult:
    return run(name, norm)


def budget_of(norm: str) -> float:
    """Return a budget that is in the middle of the widest gap among the middle distances."""
    distances = np.sort(known().distances[norm])
    middle = distances[1:-1]
    widest = int(np.argmax(middle[1:] / middle[:-1]))
    return float(np.sqrt(middle[widest] * middle[widest + 1]))


def break_(name: str, norm: str, model=None, labels: Tensor | None = None, *, part: slice = slice(None)):
    """Return by sample what the members of an attack at a budget find, each of those that are still robust."""
    pytest.importorskip("foolbox" if name == "pgd" else "pyautoattack")
    model, labels = (known().model, known().labels) if model is None else (model, labels)
    ensemble = make_ensemble(name, norm=norm, budget=budget_of(norm), classes=CLASSES, shape=SHAPE)
    inputs, labels, ids = known().inputs[part], labels[part], known().sample_ids[part]
    epsilon, adversarials = torch.full((len(ids),), torch.nan), inputs.clone()
    for member in ensemble.members:
        left = epsilon.isnan().nonzero().squeeze(1)
        if not len(left):
            break
        result = member(model, inputs[left], labels[left], ids[left])
        epsilon[left], adversarials[left] = result.epsilon, result.adversarials
    return epsilon, adversarials


def clear(norm: str) -> Tensor:
    """Return which samples are far beyond the budget's reach or well within it: there no rounding decides."""
    share = torch.from_numpy(known().distances[norm]) / budget_of(norm)
    return (share < 0.7) | (share > 1)


@cache
def broken(name: str, norm: str) -> tuple[Tensor, Tensor]:
    return break_(name, norm)


# -- minimum norm -----------------------------------------------------------------------------------------------------


@every_minimum_norm
def test_a_distance_is_never_below_the_truth_nor_far_above(name, norm):
    result, truth = base(name, norm), torch.from_numpy(known().distances[norm])
    assert result.found.all()
    assert (result.epsilon >= truth * (1 - 1e-4)).all()
    assert (result.epsilon / truth).median() <= LOOSEST[norm]


@every_minimum_norm
def test_what_is_found_stands_a_second_forward_pass(name, norm):
    result = base(name, norm)
    again = known().model(result.adversarials).argmax(1)
    assert torch.equal(again, result.predictions)
    assert (again != known().labels).all()
    assert ((result.adversarials >= 0) & (result.adversarials <= 1)).all()
    length = NORM_TABLE[norm].length(result.adversarials.double() - known().inputs.double())
    torch.testing.assert_close(result.epsilon.double(), length, rtol=1e-6, atol=0)


@every_minimum_norm
def test_the_order_of_classes_and_a_constant_on_the_logits_change_nothing(name, norm):
    other = Relabelled(known().model)
    result, usual = run(name, norm, other, other.labels(known().labels)), base(name, norm)
    # rounding moves the boundary by a hair; the candidates of foolbox's FMN may then lie just before it
    both = result.found if name.startswith("foolbox:") else torch.ones_like(result.found)
    assert both.sum() >= COUNT - 3
    torch.testing.assert_close(result.epsilon[both], usual.epsilon[both], rtol=5e-3, atol=1e-6)


@every_minimum_norm
def test_a_seed_repeats_a_distance(name, norm):
    assert torch.equal(run(name, norm).epsilon, base(name, norm).epsilon)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", OWN)
def test_a_distance_depends_on_no_other_sample(name, norm):
    """Foolbox draws for the whole batch; ours draw for each sample."""
    part = run(name, norm, part=slice(2, 5))
    torch.testing.assert_close(part.epsilon, base(name, norm).epsilon[2:5], rtol=1e-3, atol=1e-6)


# -- fixed budget -----------------------------------------------------------------------------------------------------


@every_fixed_budget
def test_at_a_budget_what_is_near_breaks_and_what_is_far_does_not(name, norm):
    epsilon, adversarials = broken(name, norm)
    truth, budget = torch.from_numpy(known().distances[norm]), budget_of(norm)
    found = ~epsilon.isnan()
    assert not (found & (truth > budget)).any()
    assert (epsilon[found] <= np.float32(budget)).all()
    assert (epsilon[found] >= truth[found] * (1 - 1e-4)).all()
    assert (known().model(adversarials).argmax(1) != known().labels).equal(found)
    if name != "square" and (name, norm) != ("pgd", "l1"):  # random squares promise nothing, nor PGD's settings in l1
        assert found[truth < 0.7 * budget].all()


@every_fixed_budget
def test_at_a_budget_the_order_of_classes_and_a_constant_change_nothing(name, norm):
    other = Relabelled(known().model)
    epsilon, _ = break_(name, norm, other, other.labels(known().labels))
    assert torch.equal(epsilon.isnan()[clear(norm)], broken(name, norm)[0].isnan()[clear(norm)])


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        pytest.param(name, norm, marks=marks(name) or (() if norm == "linf" else pytest.mark.slow), id=f"{name}-{norm}")
        for name in ATTACKS.names("fixed budget")
        for norm in ("l1", "l2", "linf")
    ],
)
def test_at_a_budget_no_other_sample_matters(name, norm):
    part, _ = break_(name, norm, part=slice(2, 5))
    few = clear(norm)[2:5]
    assert torch.equal(part.isnan()[few], broken(name, norm)[0][2:5].isnan()[few])


# -- the registry -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ATTACKS.names("minimum norm", "fixed budget"))
def test_a_row_is_of_the_kind_that_its_line_says(name):
    pytest.importorskip("pyautoattack")
    row = ATTACKS.get(name)
    assert row.kind == attack_kind(name) == ATTACKS.rows[name][2]
    assert row.version >= 1
    assert ATTACKS.summaries()[name]
    if isinstance(row, FixedBudgetRow):
        assert set(row.norms) <= set(NORMS)
        return
    assert isinstance(row, MinNormRow)
    for settings in (*row.efforts.values(), row.ranges):
        assert set(settings) <= set(row.defaults)
    expected = {"tmn": set(EFFORTS), "fmn": set(EFFORTS) - {"exhaustive"}, "ho-fmn": set(EFFORTS) - {"exhaustive"}}
    assert set(row.efforts) == (expected[name] if name in OWN else {"standard"})


def test_every_setting_of_our_own_attacks_has_a_range_or_is_a_choice():
    for name in OWN:
        row = ATTACKS.get(name)
        own = keyword_defaults(TmnSettings) if name == "tmn" else keyword_defaults(row.search, skip=("seed", "targets"))
        assert row.defaults == own
        for setting, value in row.defaults.items():
            assert setting in row.ranges or isinstance(value, str | bool), setting
            low, high = row.ranges.get(setting, (0, 0))
            assert isinstance(value, str) or low <= value <= high


def test_a_new_attack_is_a_row_and_a_line(monkeypatch):
    def straight(model, inputs, labels, sample_ids, *, norm, seed, far=1.0):  # noqa: ARG001
        """Go straight to black."""
        from thinice.attacks import Candidates  # noqa: PLC0415

        return Candidates(inputs * (1 - far), torch.zeros(len(inputs)))

    row = MinNormRow(search=straight, version=1, defaults={"far": 1.0}, efforts={"standard": {}}, norms=("l2",))
    monkeypatch.setitem(ATTACKS.rows, "straight", (row, "to black", "minimum norm"))

    def bright(inputs):
        level = inputs.flatten(1).mean(1, keepdim=True) - 0.25
        return torch.cat([level, -level], 1)

    result = make_attack("straight", norm="l2")(bright, *(torch.full((1, 1, 2, 2), 0.5), *[torch.tensor([0])] * 2))
    assert result.epsilon.item() == pytest.approx(1.0)
    assert result.outcomes.tolist() == [Outcome.FOUND]
    assert attack_kind("straight") == "minimum norm"
