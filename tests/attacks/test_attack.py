"""What every attack of ours has to stand: networks that give no help, batches of any kind, and its own settings."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from torch import Tensor, nn

from tests.truth import Known, linear
from thinice.attacks import MinNormResult, attack_row, make_attack
from thinice.attacks.result import FORWARD
from thinice.attacks.tmn import tmn
from thinice.errors import InputError
from thinice.models.clamped_inputs import PROBES
from thinice.types import EFFORTS, NORMS, Outcome

pytestmark = pytest.mark.sampled

ids = torch.arange
OWN = ("tmn", "fmn", "ho-fmn")
ORDINARY = {"tmn": NORMS, "fmn": ("l0", "l2"), "ho-fmn": ("l1", "linf")}
"""Norms that are not left to the slow tests: all of the default attack, and each of the others' once."""
every_attack = pytest.mark.parametrize("name", OWN)
every_pair = pytest.mark.parametrize(
    ("name", "norm"),
    [
        pytest.param(name, norm, id=f"{norm}-{name}", marks=() if norm in ORDINARY[name] else pytest.mark.slow)
        for name in OWN
        for norm in NORMS
    ],
)


def quick(
    name: str, norm: str, model, inputs: Tensor, labels: Tensor, sample_ids: Tensor | None = None
) -> MinNormResult:
    attack = make_attack(name, norm=norm, effort="quick")
    return attack(model, inputs, labels, ids(len(labels)) if sample_ids is None else sample_ids)


def curved(classes: int = 4, channels: int = 3) -> nn.Module:
    """A small convolutional network with random weights, not linear anywhere near."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = nn.Sequential(
            nn.Conv2d(channels, 8, 3, stride=2),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(72, 32),
            nn.ReLU(),
            nn.Linear(32, classes),
        )
    with torch.no_grad():
        network[0].weight *= 3
        network[5].weight *= 5
    return network.eval().requires_grad_(requires_grad=False)


def images(count: int = 10, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


# -- networks and batches that give no help --------------------------------------------------------------------------


def constant(inputs: Tensor) -> Tensor:
    return torch.tensor([[1.0, 0.0, -1.0]]).expand(len(inputs), 3)


def constant_in_the_graph(inputs: Tensor) -> Tensor:
    return constant(inputs) + 0 * inputs.flatten(1).sum(1, keepdim=True)


def all_equal(inputs: Tensor) -> Tensor:
    return torch.zeros(len(inputs), 3) + 0 * inputs.flatten(1).sum(1, keepdim=True)


def steps_of_a_staircase(inputs: Tensor) -> Tensor:
    return constant(inputs) * (inputs.flatten(1).mean(1, keepdim=True) * 4).round()


def one_class(inputs: Tensor) -> Tensor:
    return inputs.flatten(1).sum(1, keepdim=True)


def nan_around(inputs: Tensor) -> Tensor:
    """Class 0 at grey, and no number anywhere else."""
    total = (inputs.flatten(1) - 0.5).abs().sum(1, keepdim=True)
    return constant(inputs) + torch.where(total == 0, 0.0, torch.nan)


def nan_gradient(inputs: Tensor) -> Tensor:
    """Finite everywhere, but its gradient at grey is 0/0."""
    return constant(inputs) + 0 * (inputs - 0.5).flatten(1).norm(dim=1, keepdim=True).sqrt()


HOPELESS = (constant, constant_in_the_graph, all_equal, one_class, nan_around, nan_gradient)


@every_attack
@pytest.mark.parametrize("norm", ["l0", "l2", *(pytest.param(norm, marks=pytest.mark.slow) for norm in ("l1", "linf"))])
@pytest.mark.parametrize("model", HOPELESS, ids=lambda model: model.__name__)
def test_where_there_is_no_adversarial_none_is_found_and_nothing_is_claimed(name, norm, model):
    inputs = torch.full((3, 1, 4, 4), 0.5)
    nearest = quick(name, norm, model, inputs, torch.zeros(3, dtype=torch.int64))
    assert nearest.outcomes.tolist() == [Outcome.NOT_FOUND] * 3
    assert nearest.epsilon.isnan().all()
    assert nearest.predictions.tolist() == [-1] * 3
    assert torch.equal(nearest.adversarials, inputs)
    assert nearest.evaluations.isfinite().all()


@every_pair
def test_nan_at_the_input_is_not_found_and_does_not_disturb_the_others(name, norm):
    known = linear(classes=3, count=6)

    def half_broken(inputs):
        return torch.where(inputs.flatten(1)[:, :1] > 0.99, torch.nan, known.model(inputs))

    inputs = known.inputs.clone()
    inputs[2, ..., 0] = 1
    nearest = quick(name, norm, half_broken, inputs, known.labels)
    assert nearest.outcomes[2] == Outcome.NOT_FOUND
    assert nearest.clean_predictions[2] == -1
    assert nearest.epsilon[2].isnan()
    assert nearest.evaluations[2].item() == pytest.approx(FORWARD)
    others = torch.tensor([0, 1, 3, 4, 5])
    assert nearest.found[others].all()


@every_pair
def test_a_saturated_softmax_yields_no_lie(name, norm):
    known = linear(classes=3, count=6)

    def probabilities(inputs):
        return (known.model(inputs) * 500).softmax(1)

    nearest = quick(name, norm, probabilities, known.inputs, known.labels)
    assert_honest(nearest, probabilities, known)


@every_pair
def test_a_staircase_yields_no_lie(name, norm):
    inputs = torch.full((3, 1, 4, 4), 0.5)
    nearest = quick(name, norm, steps_of_a_staircase, inputs, torch.zeros(3, dtype=torch.int64))
    for point, found in zip(nearest.adversarials, nearest.found, strict=True):
        assert found == (steps_of_a_staircase(point[None]).argmax(1) != 0)


def assert_honest(nearest: MinNormResult, model, known: Known) -> None:
    """What is found is found by the network too, and no nearer than the truth."""
    with torch.no_grad():
        predictions = model(nearest.adversarials).argmax(1)
    assert torch.equal(predictions != known.labels, nearest.found)
    truth = torch.from_numpy(min(known.distances.values(), key=lambda values: values.sum()))
    assert (nearest.epsilon[nearest.found] >= truth[nearest.found] * (1 - 1e-3)).all()


@every_pair
def test_two_identical_logits_at_the_input_put_it_on_the_boundary(name, norm):
    """The label comes first, so argmax takes it; the boundary is a float away."""

    def tied(inputs):
        total = inputs.flatten(1).sum(1, keepdim=True) - 8
        return torch.cat([-total, total], 1)

    nearest = quick(name, norm, tied, torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, dtype=torch.int64))
    assert nearest.found.all()
    assert (nearest.epsilon > 0).all()
    assert (nearest.epsilon <= (1 if norm == "l0" else 0.05)).all()


@every_pair
def test_twin_classes_do_not_hide_the_third(name, norm):
    """Classes 0 and 1 have the same logit everywhere, so the margin to the best other class has no gradient."""
    known = linear(classes=2, count=6)

    def twins(inputs):
        logits = known.model(inputs)
        return logits[:, [0, 0, 1]]

    chosen = known.labels == 0
    nearest = quick(name, norm, twins, known.inputs[chosen], known.labels[chosen])
    assert nearest.found.all()
    truth = torch.from_numpy(known.distances[norm])[chosen]
    assert (nearest.epsilon >= truth * (1 - 1e-6)).all()
    assert (nearest.epsilon <= truth * 2).all()


@every_pair
def test_a_batch_of_which_everything_is_misclassified_costs_one_forward_pass(name, norm):
    known = linear(classes=3, count=6)
    wrong = (known.labels + 1) % 3
    nearest = quick(name, norm, known.model, known.inputs, wrong)
    assert nearest.outcomes.tolist() == [Outcome.MISCLASSIFIED] * 6
    assert nearest.epsilon.tolist() == [0] * 6
    assert torch.equal(nearest.predictions, known.labels)
    assert torch.equal(nearest.adversarials, known.inputs)
    assert nearest.evaluations.tolist() == pytest.approx([FORWARD] * 6)


@every_pair
def test_an_empty_batch_is_an_empty_result(name, norm):
    nearest = quick(name, norm, curved(), torch.zeros(0, 3, 8, 8), torch.zeros(0, dtype=torch.int64))
    assert len(nearest) == 0
    assert nearest.adversarials.shape == (0, 3, 8, 8)


@every_pair
def test_misclassified_samples_do_not_disturb_their_neighbours(name, norm):
    known = linear(classes=3, count=8)
    alone = quick(name, norm, known.model, known.inputs[::2], known.labels[::2], known.sample_ids[::2])
    labels = known.labels.clone()
    labels[1::2] = (labels[1::2] + 1) % 3
    mixed = quick(name, norm, known.model, known.inputs, labels, known.sample_ids)
    assert mixed.outcomes[1::2].tolist() == [Outcome.MISCLASSIFIED] * 4
    torch.testing.assert_close(mixed.epsilon[::2], alone.epsilon, rtol=1e-4, atol=0)
    torch.testing.assert_close(mixed.evaluations[::2], alone.evaluations)


# -- the same sample, the same result --------------------------------------------------------------------------------


@pytest.mark.slow
@every_pair
def test_batch_order_and_neighbours_change_nothing(name, norm):
    model, inputs = curved().double(), images(10)
    labels = model(inputs.double()).argmax(1)

    def search(part: Tensor) -> MinNormResult:
        return quick(name, norm, lambda x: model(x.double()).float(), inputs[part], labels[part], part)

    whole, alone = search(ids(10)), ids(10)[::3]
    one_by_one = torch.cat([search(sample).epsilon for sample in alone.split(1)])
    torch.testing.assert_close(one_by_one, whole.epsilon[alone], rtol=1e-4, atol=1e-6)
    order = torch.tensor([7, 2, 9, 0, 4, 1, 8, 3, 6, 5])
    torch.testing.assert_close(search(order).epsilon, whole.epsilon[order], rtol=1e-4, atol=1e-6)
    parts = torch.cat([search(part).epsilon for part in ids(10).split(3)])
    torch.testing.assert_close(parts, whole.epsilon, rtol=1e-4, atol=1e-6)


@every_pair
def test_a_seed_repeats_to_the_last_bit_and_the_callers_random_numbers_are_left_alone(name, norm):
    model, inputs = curved(), images(6)
    labels = model(inputs).argmax(1)
    first = quick(name, norm, model, inputs, labels)
    before = torch.get_rng_state()
    second = quick(name, norm, model, inputs, labels)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.adversarials, second.adversarials)


@every_pair
def test_memory_layout_changes_nothing(name, norm):
    model, inputs = curved(), images(6)
    labels = model(inputs).argmax(1)
    plain = quick(name, norm, model, inputs, labels)
    layouts = {
        "channels last": inputs.to(memory_format=torch.channels_last),
        "permuted": inputs.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1),
        "every other": torch.stack([inputs, inputs], 1).flatten(0, 1)[::2],
    }
    for layout, same in layouts.items():
        assert not same.is_contiguous(), layout
        found = quick(name, norm, model, same, labels)
        torch.testing.assert_close(found.epsilon, plain.epsilon, rtol=1e-5, atol=0)
        assert found.adversarials.is_contiguous()
    channels_last_model = curved().to(memory_format=torch.channels_last)
    found = quick(name, norm, channels_last_model, layouts["channels last"], labels)
    torch.testing.assert_close(found.epsilon, plain.epsilon, rtol=1e-2, atol=0)


@every_attack
def test_it_works_under_no_grad_with_frozen_or_trainable_weights_and_leaves_them_without_gradients(name):
    model, inputs = curved(), images(4)
    labels = model(inputs).argmax(1)
    frozen = quick(name, "l2", model, inputs, labels)
    model.requires_grad_(requires_grad=True)
    with torch.no_grad():
        trainable = quick(name, "l2", model, inputs, labels)
    torch.testing.assert_close(frozen.epsilon, trainable.epsilon)
    assert all(weight.grad is None for weight in model.parameters())
    assert not inputs.requires_grad


@every_pair
def test_evaluations_are_what_the_model_saw(name, norm):
    """Counted independently: rows forward through the model, and rows of gradient back out of its logits.

    What `seen_inside` asks of a network, once a batch with images of its own, belongs to no sample.
    """
    network, inputs, rows = curved(), images(5), {"forward": 0, "backward": 0}
    labels = network(inputs).argmax(1)

    def counting(points: Tensor) -> Tensor:
        logits = network(points)
        rows["forward"] += len(points)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: rows.update(backward=rows["backward"] + len(gradient)))
        return logits

    nearest = quick(name, norm, counting, inputs, labels)
    seen = rows["forward"] * FORWARD + rows["backward"] * (1 - FORWARD) - 2 * PROBES
    assert nearest.evaluations.sum().item() == pytest.approx(seen, rel=0.02)


# -- making one ------------------------------------------------------------------------------------------------------


@every_pair
@pytest.mark.parametrize("effort", EFFORTS)
def test_every_effort_can_be_made_recorded_and_sent_to_a_worker(name, norm, effort):
    if effort not in attack_row(name).efforts:
        with pytest.raises(InputError, match=f"`effort` 'exhaustive' means nothing to attack {name!r}: give its own"):
            make_attack(name, norm=norm, effort=effort)
        return
    attack = make_attack(name, norm=norm, effort=effort, seed=7)
    assert (attack.name, attack.norm, attack.settings["seed"]) == (name, norm, 7)
    assert json.loads(json.dumps(dict(attack.settings))) == attack.settings
    assert set(attack_row(name).defaults) < set(attack.settings)
    again = pickle.loads(pickle.dumps(attack))
    assert again == attack


def test_settings_replace_those_of_the_effort_and_are_what_is_recorded():
    attack = make_attack("fmn", norm="l2", effort="quick", steps=7, alpha=2)
    assert attack.settings == {
        "steps": 7, "alpha": 2.0, "gamma": 0.05, "classes": 9, "polish": 4, "seed": 0, "version": 3, "fallback": 1
    }  # fmt: skip
    assert isinstance(attack.settings["alpha"], float)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "fnm"}, r"`attack` 'fnm' is unknown: did you mean fmn\?"),
        ({"name": "zzz"}, r"`attack` 'zzz' is unknown: choose from tmn, fmn, .*foolbox:NAME"),
        ({"name": "pgd"}, r"`attack` 'pgd' keeps to a fixed budget.*thinice.evaluate takes it.*choose from tmn, fmn"),
        ({"norm": "l3"}, r"`norm` must be one of l0, l1, l2, linf, got 'l3'"),
        ({"effort": "huge"}, r"`effort` must be one of quick, standard, thorough, exhaustive, got 'huge'"),
        ({"step": 3}, r"attack 'fmn' has no setting 'step': it has alpha, classes, gamma, polish, steps"),
        ({"version": 4}, r"attack 'fmn' has no setting 'version'"),
        ({"steps": 0}, r"`steps` must lie in \[1, 1e\+06\], got 0"),
        ({"steps": 10.5}, r"`steps` must be of type int, got 10.5"),
        ({"steps": True}, r"`steps` must be of type int, got True"),
        ({"gamma": 1.5}, r"`gamma` must lie in \[1e-06, 0.99\], got 1.5"),
        ({"alpha": float("nan")}, r"`alpha` must lie in"),
        ({"seed": -1}, r"`seed` must be a whole number of at least 0, got -1"),
        ({"seed": 0.5}, r"`seed` must be a whole number of at least 0, got 0.5"),
    ],
)
def test_a_wrong_word_is_refused_with_the_right_ones(wrong, message):
    with pytest.raises(InputError, match=message) as caught:
        make_attack(**{"name": "fmn", **wrong})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (
            torch.full((2, 1, 2, 2), 1.5),
            torch.zeros(2, dtype=torch.int64),
            r"`inputs` must lie in \[0, 1\], got \[1.5, 1.5\]",
        ),
        (torch.full((2, 1, 2, 2), torch.nan), torch.zeros(2, dtype=torch.int64), r"`inputs` must lie in \[0, 1\]"),
        (torch.zeros(2, 1, 2, 2), torch.zeros(3, dtype=torch.int64), r"`labels` must be int64 of shape \(2,\)"),
        (torch.zeros(2, 1, 2, 2), torch.zeros(2), r"`labels` must be int64 .*float32"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int64), r"`inputs` must have shape \(N, C, H, W\), got \(2,\)"),
    ],
)
def test_wrong_input_is_refused(inputs, labels, message):
    with pytest.raises(InputError, match=message):
        make_attack("fmn")(constant, inputs, labels, ids(len(labels)))


def test_rows_name_defaults_for_all_that_efforts_and_ranges_speak_of():
    for name in OWN:
        row = attack_row(name)
        assert set(EFFORTS) - {"exhaustive"} <= set(row.efforts) <= set(EFFORTS)
        for effort in row.efforts.values():
            assert set(effort) <= set(row.defaults)
        assert set(row.ranges) <= set(row.defaults)


@pytest.mark.parametrize("norm", NORMS)
def test_tmn_uses_every_setting(norm):
    """Each setting, when changed much, changes what TMN spends or finds."""
    row, generator = attack_row("tmn"), torch.Generator().manual_seed(0)
    hidden, out = torch.randn(64, 36, generator=generator), torch.randn(10, 64, generator=generator)

    def model(inputs):
        return torch.relu((inputs.flatten(1) - 0.5) @ hidden.T) @ out.T

    inputs = torch.rand(12, 1, 6, 6, generator=generator)
    labels, ids = model(inputs).argmax(1), torch.arange(12)

    def figures(**settings):
        claims = tmn(model, inputs, labels, ids, norm=norm, **settings)
        return torch.cat([claims.candidates.flatten(), claims.evaluations])

    usual = figures(steps=70)
    assert set(row.defaults) == {"steps", "classes", "everywhere"}
    assert not torch.equal(usual, figures(steps=200))
    assert not torch.equal(usual, figures(steps=70, classes=1))
    assert torch.equal(usual, figures(steps=70, everywhere=True)) == (norm in ("l0", "l1"))
