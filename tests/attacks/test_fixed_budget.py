"""Attacks at a budget against networks whose distances are known, and the rules of the ensemble."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.truth import SHAPE, linear, tiny_relu
from thinice.attacks.external import CommonNoise
from thinice.attacks.fixed_budget import is_budget_attack, make_ensemble
from thinice.attacks.result import FORWARD, Candidates
from thinice.errors import InputError, MissingExtraError
from thinice.types import Outcome

pytestmark = pytest.mark.sampled

pytest.importorskip("pyautoattack")
IMAGE = (3, 32, 32)


def run(known, ensemble, ids=None):
    """Whom the ensemble breaks and by which attack, sample by sample; nobody is tried twice."""
    ids = known.sample_ids if ids is None else ids
    broken_by, epsilon = np.full(len(ids), "", dtype=object), np.full(len(ids), np.nan)
    standing = np.arange(len(ids))
    for member in ensemble.members:
        if len(standing) == 0:
            break
        nearest = member(known.model, known.inputs[ids][standing], known.labels[ids][standing], ids[standing])
        fallen = (nearest.outcomes == Outcome.FOUND).numpy()
        broken_by[standing[fallen]] = member.name
        epsilon[standing[fallen]] = nearest.epsilon.numpy()[fallen]
        standing = standing[~fallen]
    return broken_by, epsilon


@pytest.mark.parametrize(
    ("norm", "classes"),
    [("linf", 2), ("l2", 4), ("l1", 3), *(pytest.param("linf", classes, marks=pytest.mark.slow) for classes in (3, 4))],
)
@pytest.mark.slow
def test_on_a_linear_network_just_those_nearer_than_the_budget_fall(norm, classes):
    known = linear(classes=classes, count=24, shape=SHAPE)
    distances = known.distances[norm]
    budget = float(np.median(distances))
    broken_by, epsilon = run(known, make_ensemble("autoattack", norm=norm, budget=budget, classes=classes, shape=SHAPE))
    fallen = broken_by != ""
    assert not fallen[distances > budget * 1.0001].any()
    assert fallen[distances < budget * 0.98].all()
    assert (epsilon[fallen] <= np.float32(budget)).all()
    assert (epsilon[fallen] >= distances[fallen] * 0.9999).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["apgd-ce", "fab-t", "pgd"])
def test_in_less_precision_the_same_fall_and_whoever_stands_was_searched_again(name):
    known = linear(classes=5, count=24, shape=SHAPE)
    distances = known.distances["linf"]
    budget = float(np.median(distances))
    plain, less = (
        make_ensemble(name, norm="linf", budget=budget, classes=5, shape=SHAPE, precision=precision)
        for precision in ("float32", "bf16")
    )
    assert less.settings == plain.settings | {"precision": "bf16", "boundary": 1}
    broken_by, epsilon = run(known, less)
    assert np.array_equal(broken_by, run(known, plain)[0])
    fallen = broken_by == name
    assert (epsilon[fallen] <= np.float32(budget)).all()
    assert (epsilon[fallen] >= distances[fallen] * 0.9999).all()
    spent, known = (
        ensemble.members[0](known.model, known.inputs, known.labels, torch.arange(len(distances))).evaluations.numpy()
        for ensemble in (less, plain)
    )
    again = spent > 1.5 * known.max()
    assert again[~fallen].all()
    assert not again[fallen].all()


def test_what_was_pushed_beyond_the_budget_is_searched_again_in_float32():
    """A claim just within the budget that float32 refuses; a search in float32 finds another."""
    searched = []

    def search(model, inputs, labels, sample_ids):  # noqa: ARG001
        searched.append(model)
        return Candidates(inputs + (0.0995 if len(searched) == 1 else 0.0999), torch.ones(len(inputs)))

    def network(inputs):  # the boundary lies at 0.09955
        ahead = inputs.flatten(1).mean(1, keepdim=True) - 0.59955
        return torch.cat([-ahead, ahead], 1)

    (member,) = make_ensemble("pgd", budget=0.09951, classes=2, shape=(1, 2, 2), precision="bf16").members
    batch = network, torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]), torch.tensor([0])
    nearest = replace(member, search=search)(*batch)
    assert len(searched) == 2
    assert nearest.outcomes.tolist() == [Outcome.NOT_FOUND]  # both lie beyond this budget
    assert nearest.epsilon.isnan().all()
    assert torch.equal(nearest.adversarials, batch[1])
    searched.clear()
    nearest = replace(member, search=search, budget=0.1)(*batch)
    assert len(searched) == 1
    assert 0.09955 <= nearest.epsilon.item() <= 0.0996  # pushed out to 0.0996, and brought back


@pytest.mark.slow
@pytest.mark.parametrize("name", ["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square", "pgd"])
def test_no_attack_alone_breaks_what_is_farther_than_the_budget(name):
    known = linear(classes=5, count=24, shape=SHAPE)
    budget = float(np.median(known.distances["linf"]))
    broken_by, epsilon = run(known, make_ensemble(name, norm="linf", budget=budget, classes=5, shape=SHAPE))
    fallen = broken_by == name
    assert not fallen[known.distances["linf"] > budget * 1.0001].any()
    assert fallen.any()
    assert (epsilon[fallen] <= np.float32(budget)).all()


@pytest.mark.slow
def test_on_a_small_relu_network_whose_boundary_is_enumerated():
    known = tiny_relu(classes=2, count=16)
    distances = known.distances["linf"]
    budget = float(np.median(distances[np.isfinite(distances)]))
    ensemble = make_ensemble("autoattack", norm="linf", budget=budget, classes=2, shape=(1, 1, 3))
    fallen = run(known, ensemble)[0] != ""
    assert not fallen[distances > budget * 1.0001].any()
    assert fallen[distances < budget * 0.95].all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["autoattack", "pgd"])
def test_a_verdict_depends_on_the_sample_alone_not_on_its_batch(name):
    known = linear(classes=4, count=20, shape=SHAPE)
    budget = float(np.median(known.distances["linf"])) * 0.999  # many are near the budget
    ensemble = make_ensemble(name, norm="linf", budget=budget, classes=4, shape=SHAPE, seed=3)
    whole = run(known, ensemble)
    order = torch.tensor([7, 3, 11, 0, 15, 2])
    few = run(known, ensemble, order)
    assert few[0].tolist() == whole[0][order].tolist()
    np.testing.assert_allclose(few[1], whole[1][order], rtol=1e-5)


def test_noise_is_common_to_a_batch_and_fresh_each_time():
    torch.manual_seed(0)
    with CommonNoise((4,)):
        first, second = torch.rand(3, 1, 2, 2), torch.randn((3, 1, 2, 2))
        like = torch.rand_like(first)
        alone = torch.rand(3, 2)
    for batch in (first, second, like):
        assert torch.equal(batch[0], batch[2])
    assert not torch.equal(first, like)
    assert not torch.equal(alone[0], alone[1])
    torch.manual_seed(0)
    with CommonNoise((4,)):
        larger = torch.rand(5, 1, 2, 2)
    assert torch.equal(larger[4], first[0])
    assert not torch.equal(*torch.rand(2, 1, 2, 2))


@pytest.mark.parametrize(
    ("norm", "classes", "shape", "attacks", "targets"),
    [
        ("linf", 10, IMAGE, "apgd-ce apgd-t fab-t square", {"apgd_targets": 9, "fab_targets": 9}),
        ("linf", 100, IMAGE, "apgd-ce apgd-t fab-t square", {"apgd_targets": 9, "fab_targets": 9}),
        ("l1", 10, IMAGE, "apgd-ce apgd-t fab-t square", {"apgd_targets": 5, "fab_targets": 9}),
        ("l2", 5, IMAGE, "apgd-ce apgd-t fab-t square", {"apgd_targets": 4, "fab_targets": 4}),
        ("linf", 4, IMAGE, "apgd-ce apgd-t fab-t square", {"apgd_targets": 3, "fab_targets": 3}),
        ("linf", 3, IMAGE, "apgd-ce apgd-dlr fab-t square", {"fab_targets": 2}),
        ("linf", 2, IMAGE, "apgd-ce fab-t square", {"fab_targets": 1}),
        ("l2", 10, (1, 4, 5), "apgd-ce apgd-t fab-t", {"apgd_targets": 9, "fab_targets": 9}),
    ],
)
def test_the_standard_ensemble_fits_the_number_of_classes(norm, classes, shape, attacks, targets):
    settings = make_ensemble("autoattack", norm=norm, budget=0.03, classes=classes, shape=shape).settings
    assert settings["attacks"] == attacks
    assert {name: value for name, value in settings.items() if name.endswith("targets")} == targets
    assert json.loads(json.dumps(dict(settings))) == settings


def test_pgd_is_that_of_the_study():
    known = linear(classes=3, count=5, shape=SHAPE)
    settings = {"norm": "linf", "budget": 0.01, "classes": 3, "shape": SHAPE}
    ensemble = make_ensemble("pgd", **settings)
    recorded = {name: ensemble.settings[name] for name in ("steps", "rel_stepsize", "random_start", "abs_stepsize")}
    assert recorded == {"steps": 40, "rel_stepsize": 0.1 / 3, "random_start": True, "abs_stepsize": None}
    nearest = ensemble.members[0](known.model, known.inputs, known.labels, known.sample_ids)
    # 40 steps; a look at the clean sample, one of the attack at its result, and the judge's
    assert nearest.evaluations.tolist() == pytest.approx([40 + 3 * FORWARD] * len(known.labels))


def test_foolbox_at_a_budget_takes_its_settings():
    ensemble = make_ensemble(
        "foolbox:LinfFastGradientAttack", norm="linf", budget=0.1, classes=3, shape=SHAPE, random_start=True
    )
    assert ensemble.settings["random_start"] is True
    assert ensemble.settings["attacks"] == "foolbox:LinfFastGradientAttack"
    assert is_budget_attack("foolbox:PGD")
    assert not is_budget_attack("foolbox:LInfFMNAttack")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("autoattack", {"norm": "l0", "budget": 3}, "keeps to l1, l2, linf, got `norm` 'l0': .*fmn"),
        ("pgd", {"norm": "l0", "budget": 3}, "keeps to l1, l2, linf"),
        ("autoattack", {"steps": 10}, "has no setting 'steps': it has none"),
        (
            "pgd",
            {"step": 10},
            "attack 'pgd' has no setting 'step': it has abs_stepsize, random_start, rel_stepsize, st",
        ),
        ("pgd", {"classes": 1}, r"the network has 1 output.*torch.cat\(\[-logit, logit\], 1\)"),
        ("apgd-t", {"classes": 3}, "'apgd-t' needs at least 4 classes.*the network has 3: use autoattack"),
        ("apgd-dlr", {"classes": 2}, "'apgd-dlr' needs at least 3 classes"),
        ("autoattack", {"seed": -1}, "`seed` must be a whole number"),
        ("autoattack", {"norm": "l3"}, "`norm` must be one of l0, l1, l2, linf"),
        ("fmn", {}, "'fmn' is no attack at a budget: choose from autoattack, "),
        ("pgd-targeted", {}, "attacks here are untargeted, any other class counts"),
        ("foolbox:LinfPgd", {}, "`attack` 'foolbox:LinfPgd' is unknown: did you mean foolbox:"),
        ("foolbox:L2FastGradientAttack", {}, "keeps to l2, got `norm` 'linf'"),
        ("foolbox:VirtualAdversarialAttack", {"norm": "l2"}, "refuses its settings: .*steps"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(name, options, message):
    with pytest.raises(InputError, match=message) as caught:
        make_ensemble(name, **{"norm": "linf", "budget": 0.03, "classes": 10, "shape": IMAGE, **options})
    assert "\n" not in str(caught.value)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    monkeypatch.delitem(sys.modules, "thinice.attacks.autoattack", raising=False)
    monkeypatch.delattr("thinice.attacks.autoattack", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'thinice\[autoattack\]'"):
        make_ensemble("autoattack", norm="linf", budget=0.03, classes=10, shape=IMAGE)


class Flat(nn.Module):
    """Logits that do not depend on the input: nothing can be broken, and no gradient says anything."""

    def forward(self, inputs):
        return torch.tensor([1.0, 0.0, -1.0, -2.0]).expand(len(inputs), 4) + 0 * inputs.sum()


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["autoattack", "pgd"])
def test_a_constant_network_stands_and_nobody_grumbles(name, capsys):
    ensemble = make_ensemble(name, norm="linf", budget=0.1, classes=4, shape=(1, 6, 6))
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for member in ensemble.members:
        nearest = member(Flat(), torch.rand(3, 1, 6, 6), torch.zeros(3, dtype=torch.int64), torch.arange(3))
        assert nearest.outcomes.tolist() == [Outcome.NOT_FOUND] * 3
    assert capsys.readouterr().err == ""
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002
    torch.set_rng_state(torch_before)


@pytest.mark.slow
def test_the_callers_generators_are_left_alone():
    known = linear(classes=4, count=4, shape=SHAPE)
    ensemble = make_ensemble("autoattack", norm="linf", budget=0.01, classes=4, shape=SHAPE)
    before = torch.get_rng_state()
    run(known, ensemble)
    assert torch.equal(torch.get_rng_state(), before)
